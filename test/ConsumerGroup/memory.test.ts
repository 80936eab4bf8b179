import { assert, describe, it } from "@effect/vitest"
import { Deferred, Effect, Exit, Fiber, Layer, Metric, Option, Schedule, Schema, Scope, TestClock } from "effect"
import * as ConsumerGroup from "../../src/ConsumerGroup/index.js"
import * as metrics from "../../src/ConsumerGroup/metrics.js"
import * as scripts from "../../src/ConsumerGroup/scripts.js"
import { RedisClient } from "../../src/RedisClient.js"
import { Fault, layer as server, RedisTestServer } from "../../src/RedisTestServer.js"
import * as Stream from "../../src/Stream/index.js"
import { inMemory } from "../kit/processes.js"
import * as Spans from "../kit/spans.js"
import { forkWith } from "../kit/steps.js"
import { fresh, until, virtual } from "../kit/suites.js"

const Value = Schema.Struct({ n: Schema.Number })

const define = (text: string) => {
  const stream = Stream.define({ name: fresh(text), schema: Value })
  return { stream, group: ConsumerGroup.define({ stream, name: "workers" }) }
}

const numbers = (count: number) => Array.from({ length: count }, (_, n) => ({ n }))

const eventually = until(virtual)

const services = Layer.provideMerge(Layer.merge(Stream.layer, ConsumerGroup.layer), server)

const quick = { lease: "5 seconds", claimEvery: "500 millis", retry: Schedule.spaced("20 millis") } as const

const allDone = (group: ConsumerGroup.Definition<any>) =>
  eventually(Effect.gen(function*() {
    const { lag, pending } = yield* ConsumerGroup.lag(group)
    return pending === 0 && Option.getOrElse(lag, () => 0) === 0
  }))

describe("ConsumerGroup, in memory", () => {
  it.effect("four processes race, and each entry that always fails is one dead letter; replay puts them back", () =>
    Effect.gen(function*() {
      const { group, stream } = define("race")
      for (let i = 0; i < 3; i++) yield* Stream.appendAll(stream, numbers(100))
      let broken = true
      let handled = 0
      const processes = yield* Effect.all(Array.from({ length: 4 }, () => inMemory(ConsumerGroup.make)))
      const handler = ({ value }: ConsumerGroup.Delivered<typeof Value.Type>) =>
        Effect.zipRight(
          Effect.yieldNow(),
          Effect.suspend(() => {
            if (broken && value.n === 42) return Effect.fail("always")
            handled++
            return Effect.void
          })
        )
      for (const { service } of processes) {
        yield* service.start(group, handler, { ...quick, concurrency: 5, maxDeliveries: 3 })
      }
      yield* allDone(group)
      assert.strictEqual(handled, 297)
      const letters = yield* ConsumerGroup.deadLetters(group, { count: 1000 })
      assert.strictEqual(letters.length, 3)
      assert.strictEqual(new Set(letters.map(({ originalId }) => originalId)).size, 3)
      broken = false
      assert.deepStrictEqual(yield* ConsumerGroup.replayAll(group), { restored: 3, copied: 0 })
      yield* allDone(group)
      yield* eventually(Effect.sync(() => handled === 300))
      assert.deepStrictEqual(yield* ConsumerGroup.deadLetters(group), [])
    }).pipe(Effect.scoped, Effect.provide(services)))

  it.effect("whatever reply is lost, every entry is handled, and each that fails is one dead letter", () =>
    Effect.gen(function*() {
      const server = yield* RedisTestServer
      const { group, stream } = define("lost")
      yield* Stream.appendAll(stream, numbers(120))
      const commands = [
        "XREADGROUP",
        "XACK",
        scripts.take.sha,
        scripts.poll.sha,
        scripts.delay.sha,
        scripts.bury.sha,
        scripts.renew.sha
      ]
      for (const command of commands) {
        yield* server.inject(Fault.loseReply({ command, probability: 0.3 }))
        yield* server.inject(Fault.failBeforeSend({ command, probability: 0.1 }))
      }
      const seen = new Map<number, number>()
      for (let i = 0; i < 3; i++) {
        const { service } = yield* inMemory(ConsumerGroup.make)
        yield* service.start(
          group,
          ({ value }) =>
            Effect.suspend(() => {
              seen.set(value.n, (seen.get(value.n) ?? 0) + 1)
              return value.n % 30 === 7 ? Effect.fail("always") : Effect.void
            }),
          { ...quick, concurrency: 4, maxDeliveries: 50, retry: Schedule.intersect(quick.retry, Schedule.recurs(2)) }
        )
      }
      yield* eventually(Effect.sync(() => seen.size === 120))
      for (let i = 0; i < 8; i++) yield* TestClock.adjust("1 seconds")
      yield* server.clearFaults
      yield* TestClock.adjust("8 seconds")
      yield* allDone(group)
      const letters = yield* ConsumerGroup.deadLetters(group, { count: 1000 })
      assert.deepStrictEqual(
        letters.map(({ element }) => element._tag === "Entry" ? element.value.n : -1).toSorted((a, b) => a - b),
        [7, 37, 67, 97]
      )
    }).pipe(Effect.scoped, Effect.provide(services)))

  it.effect("nothing is lost when connections are cut again and again", () =>
    Effect.gen(function*() {
      const server = yield* RedisTestServer
      const { group, stream } = define("cut")
      const seen = new Set<number>()
      for (let i = 0; i < 2; i++) {
        yield* ConsumerGroup.start(
          group,
          ({ value }) => Effect.zipRight(Effect.sleep("3 millis"), Effect.sync(() => seen.add(value.n))),
          { ...quick, concurrency: 3 }
        )
      }
      for (let round = 0; round < 8; round++) {
        yield* Stream.appendAll(stream, numbers(20).map(({ n }) => ({ n: 20 * round + n })))
        yield* TestClock.adjust("7 millis")
        yield* server.disconnect({ downtime: round % 3 === 0 ? "300 millis" : 0 })
        yield* TestClock.adjust("500 millis")
      }
      yield* TestClock.adjust("8 seconds")
      yield* allDone(group)
      assert.strictEqual(seen.size, 160)
    }).pipe(Effect.scoped, Effect.provide(services)))

  it.effect("an entry that was delivered too often is not handled again", () =>
    Effect.gen(function*() {
      const client = yield* RedisClient
      const { group, stream } = define("deliveries")
      yield* ConsumerGroup.create(group)
      const id = yield* Stream.append(stream, { n: 1 })
      const key = client.key(stream.key)
      yield* client.send("XREADGROUP", "GROUP", group.name, "crashed", "STREAMS", key, ">")
      yield* client.send("XCLAIM", key, group.name, "crashed", 0, id, "RETRYCOUNT", 3)
      let handled = 0
      yield* ConsumerGroup.start(group, () => Effect.sync(() => handled++), { ...quick, maxDeliveries: 3 })
      yield* TestClock.adjust("6 seconds")
      const [letter] = yield* ConsumerGroup.deadLetters(group)
      assert.strictEqual(handled, 0)
      assert.deepStrictEqual([letter!.reason, letter!.deliveries], ["deliveries", 4])
    }).pipe(Effect.scoped, Effect.provide(services)))

  it.effect("a retry waits for as long as its schedule says, also much longer than the lease", () =>
    Effect.gen(function*() {
      const { group, stream } = define("long")
      yield* Stream.append(stream, { n: 1 })
      const at: Array<number> = []
      const clock = yield* Effect.clock
      yield* ConsumerGroup.start(
        group,
        () => Effect.zipRight(Effect.sync(() => at.push(clock.unsafeCurrentTimeMillis())), Effect.fail("no")),
        { lease: "10 seconds", claimEvery: "10 seconds", retry: Schedule.exponential("20 seconds"), maxDeliveries: 4 }
      )
      for (let i = 0; i < 20; i++) yield* TestClock.adjust("10 seconds")
      assert.strictEqual(at.length, 4)
      const gaps = at.slice(1).map((each, i) => each - at[i]!)
      for (const [i, times] of [1, 2, 4].entries()) {
        assert(gaps[i]! >= times * 20_000 && gaps[i]! < times * 20_000 + 50, `${gaps[i]}`)
      }
    }).pipe(Effect.scoped, Effect.provide(services)))

  it.effect("consumers that have nothing and say nothing go, others stay", () =>
    Effect.gen(function*() {
      const client = yield* RedisClient
      const { group, stream } = define("prune")
      yield* ConsumerGroup.create(group)
      yield* Stream.append(stream, { n: 1 })
      const key = client.key(stream.key)
      yield* client.send("XGROUP", "CREATECONSUMER", key, group.name, "empty")
      yield* client.send("XREADGROUP", "GROUP", group.name, "pending", "STREAMS", key, ">")
      yield* ConsumerGroup.start(group, () => Effect.void, {
        lease: "2 hours",
        claimEvery: "10 minutes",
        retireAfter: "30 minutes"
      })
      const service = yield* ConsumerGroup.ConsumerGroup
      const names = Effect.map(service.consumers(group), (all) => all.map(({ name }) => name).toSorted())
      yield* TestClock.adjust("20 minutes")
      assert.deepStrictEqual(yield* names, ["empty", "pending"])
      yield* TestClock.adjust("20 minutes")
      assert.deepStrictEqual(yield* names, ["pending"])
    }).pipe(Effect.scoped, Effect.provide(services)))

  it.effect("one connection waits for all workers and tails of a process", () =>
    Effect.gen(function*() {
      const server = yield* RedisTestServer
      const before = yield* server.connections
      const scope = yield* Scope.make()
      for (let i = 0; i < 5; i++) {
        const { group, stream } = define("connections")
        yield* Scope.extend(ConsumerGroup.start(group, () => Effect.void, quick), scope)
        yield* Scope.extend(Effect.forkScoped(Stream.read(stream, { block: "1 hour" })), scope)
      }
      yield* TestClock.adjust("10 millis")
      assert.strictEqual(yield* server.connections, before + 1)
      yield* Scope.close(scope, Exit.void)
      yield* TestClock.adjust("10 millis")
      assert.strictEqual(yield* server.connections, before)
    }).pipe(Effect.scoped, Effect.provide(services)))

  it.effect("interrupted at any step, a start leaves nothing, and nothing is lost", () =>
    Effect.gen(function*() {
      const server = yield* RedisTestServer
      const { group, stream } = define("steps")
      const ids = yield* Stream.appendAll(stream, numbers(3))
      const before = yield* server.connections
      const seen: Array<number> = []
      const work = Effect.scoped(Effect.zipRight(
        ConsumerGroup.start(
          group,
          ({ value }) => Effect.zipRight(Effect.yieldNow(), Effect.sync(() => seen.push(value.n))),
          { ...quick, lease: "1 hour", drain: 0 }
        ),
        Effect.never
      ))
      const context = yield* Effect.context<ConsumerGroup.ConsumerGroup>()
      let step = 1
      for (let more = true; more && step < 200; step += step < 40 ? 1 : 13) {
        const [fiber, happened] = yield* forkWith(Effect.provide(work, context), {
          step,
          yields: true,
          interrupts: true
        })
        for (let i = 0; i < 10; i++) yield* TestClock.adjust("1 millis")
        more = happened()
        yield* Fiber.interrupt(fiber)
        const { total } = yield* ConsumerGroup.pending(group)
        assert.strictEqual(yield* server.connections, before)
        // What was given back is there for everybody, at once.
        const others = yield* Effect.scoped(Effect.gen(function*() {
          const done: Array<number> = []
          yield* ConsumerGroup.start(group, ({ value }) => Effect.sync(() => done.push(value.n)), {
            ...quick,
            lease: "1 hour",
            consumer: "another"
          })
          yield* TestClock.adjust("100 millis")
          return done
        }))
        assert.isAtLeast(others.length, total)
        assert.strictEqual((yield* ConsumerGroup.pending(group)).total, 0)
        assert.deepStrictEqual(Array.from(new Set([...seen, ...others])).toSorted(), [0, 1, 2])
        seen.length = 0
        yield* ConsumerGroup.destroy(group)
      }
      assert.isAbove(step, 20)
      assert.strictEqual(ids.length, 3)
    }).pipe(Effect.scoped, Effect.provide(services)))

  it.effect("the span of whoever appends is the parent of the one that handles; without a tracer nothing is added", () =>
    Effect.gen(function*() {
      const client = yield* RedisClient
      const { group, stream } = define("trace")
      const silent = yield* Stream.append(stream, { n: 0 })
      const reply = yield* client.send("XRANGE", client.key(stream.key), silent, silent)
      assert.deepStrictEqual(reply, [[silent, ["data", `{"n":0}`]]])
      yield* Effect.gen(function*() {
        const spans = yield* Spans.Spans
        yield* Stream.append(stream, { n: 1 })
        const [append] = yield* spans.named("stream.append")
        const handled = yield* Deferred.make<void>()
        yield* ConsumerGroup.start(
          group,
          ({ value }) => value.n === 1 ? Deferred.succeed(handled, undefined) : Effect.void,
          quick
        )
        yield* eventually(Deferred.isDone(handled))
        yield* allDone(group)
        const handling = yield* spans.named("stream.handle")
        assert.strictEqual(handling.length, 2)
        const child = handling.find(({ parent }) => Option.isSome(parent) && parent.value.spanId === append!.spanId)
        assert.strictEqual(child?.traceId, append!.traceId)
        assert.strictEqual(child?.attributes.get("effect_redis.stream.group"), group.name)
      }).pipe(Effect.scoped, Effect.provide(Spans.layer))
    }).pipe(Effect.provide(services)))

  it.effect("lag, pending entries and outcomes are metrics", () =>
    Effect.gen(function*() {
      const { group, stream } = define("metrics")
      yield* Stream.appendAll(stream, numbers(50))
      const lag = Effect.map(Metric.value(metrics.lagOf(stream.name, group.name)), ({ value }) => value)
      const pending = Effect.map(Metric.value(metrics.pendingOf(stream.name, group.name)), ({ value }) => value)
      const handled = Effect.map(Metric.value(metrics.handled), ({ count }) => count)
      const before = yield* handled
      const worker = yield* ConsumerGroup.start(group, () => Effect.never, { ...quick, batchSize: 5, drain: 0 })
      yield* TestClock.adjust("200 millis")
      assert.strictEqual(yield* lag, 50)
      yield* worker.stop
      yield* ConsumerGroup.start(group, () => Effect.void, quick)
      yield* allDone(group)
      yield* TestClock.adjust("1 seconds")
      assert.strictEqual(yield* lag, 0)
      assert.strictEqual(yield* pending, 0)
      assert.strictEqual((yield* handled) - before, 50)
    }).pipe(Effect.scoped, Effect.provide(services)))
})
