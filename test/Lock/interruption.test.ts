import { assert, it } from "@effect/vitest"
import { Effect, Exit, Fiber, Layer, Redacted, Schedule } from "effect"
import { layer as ioredis } from "../../src/IoRedis.js"
import * as Lock from "../../src/Lock/index.js"
import { RedisClient } from "../../src/RedisClient.js"
import { interruptions, keysLeft } from "../kit/interruption.js"
import * as RealServer from "../kit/RealServer.js"

const KEYS = "lock:"

const scoped = <A, E, R>(effect: Effect.Effect<A, E, R>) => Effect.scoped(Effect.zipRight(effect, Effect.yieldNow()))

interruptions({
  layer: Lock.layer,
  keys: KEYS,
  competitor: (name) => Effect.yieldNow().pipe(Lock.withLock(name)),
  // `minReplicas` is about a server without replicas, so it can only be interrupted or fail.
  forms: {
    "acquire": (name) => scoped(Lock.acquire(name)),
    "acquire, unfair": (name) => scoped(Lock.acquire(name, { fair: false })),
    "acquire at once": (name) => scoped(Lock.acquire(name, { waitTimeout: 0 })),
    "acquire by a schedule": (name) => scoped(Lock.acquire(name, { retry: Schedule.spaced("3 millis") })),
    "tryAcquire": (name) => scoped(Lock.tryAcquire(name)),
    "withLock": (name) => Effect.yieldNow().pipe(Lock.withLock(name)),
    "withLock inside of itself": (name) => Effect.yieldNow().pipe(Lock.withLock(name), Lock.withLock(name)),
    "several names": (name) => Effect.yieldNow().pipe(Lock.withLocks([name, `${name}, another`, "common"])),
    "several names in a scope": (name) => scoped(Lock.acquireAll([name, `${name}, another`, "common"])),
    "replicas": (name) => Effect.yieldNow().pipe(Lock.withLock(name, { minReplicas: 1, replicaTimeout: "5 millis" }))
  }
})

it.scopedLive("connections of their own are closed", () =>
  // Nobody else blocks on it.
  Effect.flatMap(RealServer.start(), ({ url }) =>
    Effect.gen(function*() {
      const client = yield* RedisClient
      const asking = yield* Effect.fork(
        Lock.withLock(Effect.void, "closed", { minReplicas: 1, replicaTimeout: "10 seconds" })
      )
      const blocked = Effect.map(client.send("INFO", "clients"), (info) => /blocked_clients:[1-9]/.test(String(info)))
      yield* Effect.repeat(Effect.sleep("5 millis"), { until: () => blocked })
      assert.isTrue(Exit.isInterrupted(yield* Fiber.interrupt(asking)))
      assert.isFalse(yield* blocked)
      assert.deepStrictEqual(yield* keysLeft(KEYS), [])
    }).pipe(Effect.provide(Layer.provideMerge(Lock.layer, ioredis({ url: Redacted.make(url) }))))))
