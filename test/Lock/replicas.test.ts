/**
 * Locks that count as taken when replicas have them.
 */
import { assert, describe, it } from "@effect/vitest"
import { Duration, Effect, Fiber, Layer, Option, Redacted, TestClock } from "effect"
import { layer as ioredis } from "../../src/IoRedis.js"
import * as Lock from "../../src/Lock/index.js"
import { RedisTestServer } from "../../src/RedisTestServer.js"
import * as RealServer from "../kit/RealServer.js"
import { error, fresh } from "../kit/suites.js"
import { remains } from "./suite.js"

const forms = {
  waiting: {},
  immediate: { waitTimeout: 0 },
  unfair: { fair: false }
} as const

describe("replicas, in memory", () => {
  for (const [form, options] of Object.entries(forms)) {
    it.effect(`gives the lock back when too few have it (${form})`, () =>
      Effect.gen(function*() {
        const server = yield* RedisTestServer
        yield* server.replicas(1)
        const key = fresh("few")
        const asking = yield* Effect.fork(error(Effect.scoped(
          Lock.acquire(key, { ...options, minReplicas: 2, replicaTimeout: "300 millis" })
        )))
        yield* TestClock.adjust("299 millis")
        assert.deepStrictEqual(yield* Fiber.poll(asking), Option.none())
        yield* TestClock.adjust("1 millis")
        const failure = yield* Fiber.join(asking)
        assert(failure._tag === "LockNotAcquired")
        assert.strictEqual(failure.reason, "replicas")
        assert.deepStrictEqual(failure.acknowledged, Option.some(1))
        assert.strictEqual(yield* remains(key), 0)
        // The client's own, and the one on which it hears whose turn it is.
        assert.strictEqual(yield* server.connections, form === "immediate" ? 1 : 2)
      }).pipe(Effect.provide(Lock.layerTest)))

    it.effect(`holds it when enough have it (${form})`, () =>
      Effect.gen(function*() {
        const server = yield* RedisTestServer
        yield* server.replicas(2)
        const lock = yield* Lock.Lock
        const key = fresh("enough")
        const held = yield* Lock.acquire(key, { ...options, minReplicas: 2 })
        assert.isTrue(yield* held.isHeld)
        yield* TestClock.adjust("1 minute")
        assert.isTrue(yield* lock.isLocked(key))
        assert.isTrue(yield* held.release)
        assert.strictEqual(yield* remains(key), 0)
      }).pipe(Effect.scoped, Effect.provide(Lock.layerTest)))
  }

  it.effect("the next in the queue gets it when replicas were missing", () =>
    Effect.gen(function*() {
      const lock = yield* Lock.Lock
      const key = fresh("next")
      const first = yield* Lock.acquire(key)
      const demanding = yield* Effect.fork(error(lock.withLock(Effect.void, key, { minReplicas: 1 })))
      yield* TestClock.adjust("10 millis")
      const modest = yield* Effect.fork(lock.withLock(Effect.succeed("done"), key))
      yield* TestClock.adjust("10 millis")
      yield* first.release
      yield* TestClock.adjust("1 second")
      const failure = yield* Fiber.join(demanding)
      assert(failure._tag === "LockNotAcquired" && failure.reason === "replicas")
      yield* TestClock.adjust("1 millis")
      assert.strictEqual(yield* Fiber.join(modest), "done")
      assert.strictEqual(yield* remains(key), 0)
    }).pipe(Effect.scoped, Effect.provide(Lock.layerTest)))

  it.effect("several names at once need them as well, and none is kept", () =>
    Effect.gen(function*() {
      const lock = yield* Lock.Lock
      const names = [fresh("a"), fresh("b")]
      const asking = yield* Effect.fork(error(lock.withLocks(Effect.void, names, { minReplicas: 1 })))
      yield* TestClock.adjust("1 second")
      const failure = yield* Fiber.join(asking)
      assert(failure._tag === "LockNotAcquired" && failure.reason === "replicas")
      for (const name of names) assert.strictEqual(yield* remains(name), 0)
    }).pipe(Effect.provide(Lock.layerTest)))

  it.effect("an interruption at any time leaves neither a lock nor a connection", () =>
    Effect.gen(function*() {
      const server = yield* RedisTestServer
      const connections = yield* Effect.zipRight(Effect.scoped(Lock.acquire("first")), server.connections)
      for (let millis = 0; millis <= 1100; millis += 50) {
        const key = fresh("interrupted")
        const asking = yield* Effect.fork(Effect.scoped(Lock.acquire(key, { minReplicas: 1 })))
        yield* TestClock.adjust(Duration.millis(millis))
        yield* Fiber.interrupt(asking)
        assert.strictEqual(yield* remains(key), 0)
        assert.strictEqual(yield* server.connections, connections)
      }
    }).pipe(Effect.provide(Lock.layerTest)))
})

describe("replicas, live", () => {
  it.live("a replica that is there is enough, and one that stands still is not", () =>
    Effect.gen(function*() {
      const master = yield* RealServer.start()
      const replica = yield* RealServer.start({ args: ["--replicaof", master.host, String(master.port)] })
      yield* Effect.repeat(Effect.sleep("50 millis"), {
        until: () =>
          Effect.map(Effect.orDie(replica.cli("INFO", "replication")), (info) =>
            String(info).includes("master_link_status:up"))
      })
      yield* Effect.gen(function*() {
        const lock = yield* Lock.Lock
        const key = fresh("live")
        const held = yield* Effect.scoped(Effect.tap(
          Lock.acquire(key, { minReplicas: 1, replicaTimeout: "5 seconds" }),
          (held) =>
            held.protect(Effect.sleep("50 millis"))
        ))
        assert.isAbove(held.fencingToken, 0)
        yield* replica.pause
        const failure = yield* error(lock.withLock(Effect.void, key, {
          minReplicas: 1,
          replicaTimeout: "200 millis"
        }))
        assert(failure._tag === "LockNotAcquired")
        assert.deepStrictEqual([failure.reason, failure.acknowledged], ["replicas", Option.some(0)])
        assert.strictEqual(yield* remains(key), 0)
        yield* replica.resume
        // The connections of those acquisitions are closed: ours, that of the messages, and the one that asks.
        const clients = String(yield* master.cli("CLIENT", "LIST", "TYPE", "normal")).trim().split("\n")
        assert.isAtMost(clients.length, 2)
      }).pipe(Effect.provide(
        Layer.provideMerge(Lock.layer, ioredis({ url: Redacted.make(master.url) }))
      ))
    }).pipe(Effect.scoped))
})
