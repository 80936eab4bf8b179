import { assert, it } from "@effect/vitest"
import { Effect } from "effect"
import { CALLER, order } from "../../examples/tracing/traced.js"

it.live("a request, a lock, a cache miss and a job of a queue are one trace, and are counted", () =>
  Effect.gen(function*() {
    const { metrics, spans } = yield* order("teapot")

    // Each with its parent.
    const nameOf = new Map(spans.map((span) => [span.spanContext().spanId, span.name]))
    const told = spans.map((span) => {
      assert.strictEqual(span.spanContext().traceId, CALLER.traceId)
      assert.strictEqual(span.resource.attributes["service.name"], "shop")
      const parent = span.parentSpanContext?.spanId ?? ""
      return [span.name, parent === CALLER.spanId ? "caller" : nameOf.get(parent)]
    })
    assert.lengthOf(told, 7)
    assert.deepStrictEqual(Object.fromEntries(told), {
      "http.server POST": "caller",
      "lock.withLock": "http.server POST",
      "cache.getOrSet": "lock.withLock",
      lookUpPrice: "cache.getOrSet",
      "send receipts": "lock.withLock",
      "process receipts": "send receipts",
      printReceipt: "process receipts"
    })

    const attributesOf = (name: string) => spans.find((span) => span.name === name)?.attributes ?? {}
    assert.strictEqual(attributesOf("http.server POST")["http.route"], "/orders/:article")
    assert.deepStrictEqual({ ...attributesOf("lock.withLock") }, {
      "db.system.name": "redis",
      "db.operation.name": "lock.withLock",
      "effect_redis.lock.name": "article:teapot"
    })
    assert.deepStrictEqual({ ...attributesOf("cache.getOrSet") }, {
      "db.system.name": "redis",
      "db.operation.name": "cache.getOrSet",
      "effect_redis.cache.name": "prices"
    })
    assert.deepStrictEqual({ ...attributesOf("send receipts") }, {
      "messaging.system": "redis",
      "messaging.destination.name": "receipts",
      "messaging.operation.type": "send",
      "messaging.operation.name": "enqueue"
    })
    const { "messaging.message.id": id, ...process } = attributesOf("process receipts")
    assert.isString(id)
    assert.deepStrictEqual(process, {
      "messaging.system": "redis",
      "messaging.destination.name": "receipts",
      "messaging.operation.type": "process",
      "messaging.operation.name": "process",
      "effect_redis.queue.attempt": 1
    })

    const points = (name: string) => metrics.find(({ descriptor }) => descriptor.name === name)?.dataPoints ?? []
    const count = (name: string, attributes: Record<string, string>) => {
      const point = points(name).find((point) =>
        Object.entries(attributes).every(([key, value]) => point.attributes[key] === value)
      )
      return typeof point?.value === "number" ? point.value : point?.value.count
    }
    assert.isAbove(Number(count("effect_redis_commands_total", { outcome: "ok" })), 0)
    assert.strictEqual(count("effect_redis_lock_acquisitions_total", { outcome: "acquired" }), 1)
    assert.strictEqual(count("effect_redis_lock_wait_duration_seconds", {}), 1)
    assert.strictEqual(count("effect_redis_cache_requests_total", { cache: "prices", outcome: "miss" }), 1)
    assert.strictEqual(count("effect_redis_queue_enqueued_total", { queue: "receipts" }), 1)
    assert.strictEqual(count("effect_redis_queue_attempts_total", { queue: "receipts", outcome: "completed" }), 1)
    assert.strictEqual(count("effect_redis_queue_attempt_duration_seconds", { queue: "receipts" }), 1)
  }))
