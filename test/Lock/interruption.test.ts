/**
 * A thousand interruptions of each form of taking a lock, at random points.
 */
import { assert, describe, it } from "@effect/vitest"
import { Effect, Exit, Fiber, Layer, Random, Schedule, Stream, Supervisor, TestClock } from "effect"
import * as Lock from "../../src/Lock/index.js"
import { RedisClient } from "../../src/RedisClient.js"
import { RedisTestServer } from "../../src/RedisTestServer.js"
import { live } from "../kit/layers.js"

const TIMES = 1000

const turnOfTheEventLoop = Effect.promise(() => new Promise((resolve) => setImmediate(resolve)))

/** Every form; `minReplicas` is about a server without replicas, so it can only be interrupted or fail. */
const forms: Readonly<Record<string, (name: string) => Effect.Effect<unknown, unknown, Lock.Lock>>> = {
  "acquire": (name) => Effect.scoped(Effect.zipRight(Lock.acquire(name), Effect.yieldNow())),
  "acquire, unfair": (name) => Effect.scoped(Effect.zipRight(Lock.acquire(name, { fair: false }), Effect.yieldNow())),
  "acquire at once": (name) =>
    Effect.scoped(Effect.zipRight(Lock.acquire(name, { waitTimeout: 0 }), Effect.yieldNow())),
  "acquire by a schedule": (name) =>
    Effect.scoped(Effect.zipRight(Lock.acquire(name, { retry: Schedule.spaced("3 millis") }), Effect.yieldNow())),
  "tryAcquire": (name) => Effect.scoped(Effect.zipRight(Lock.tryAcquire(name), Effect.yieldNow())),
  "withLock": (name) => Effect.yieldNow().pipe(Lock.withLock(name)),
  "withLock inside of itself": (name) => Effect.yieldNow().pipe(Lock.withLock(name), Lock.withLock(name)),
  "several names": (name) => Effect.yieldNow().pipe(Lock.withLocks([name, `${name}, another`, "common"])),
  "replicas": (name) => Effect.yieldNow().pipe(Lock.withLock(name, { minReplicas: 1, replicaTimeout: "5 millis" }))
}

/** Lets the form run for a random while, half of the time against a competitor, and interrupts it. */
const interrupted = (
  form: (name: string) => Effect.Effect<unknown, unknown, Lock.Lock>,
  name: string,
  pass: (millis: number) => Effect.Effect<void>
) =>
  Effect.gen(function*() {
    const competitor = (yield* Random.nextBoolean)
      ? yield* Effect.fork(Effect.exit(Effect.yieldNow().pipe(Lock.withLock(name))))
      : undefined
    const fiber = yield* Effect.fork(form(name))
    const yields = yield* Random.nextIntBetween(0, 40)
    for (let i = 0; i < yields; i++) yield* Effect.yieldNow()
    const turns = yield* Random.nextIntBetween(0, 4)
    for (let i = 0; i < turns; i++) yield* turnOfTheEventLoop
    if ((yield* Random.nextIntBetween(0, 4)) === 0) yield* pass(yield* Random.nextIntBetween(1, 5))
    yield* Fiber.interrupt(fiber)
    if (competitor !== undefined) yield* Fiber.join(competitor)
  })

/** What a lock may leave behind is the memory of its last token. */
const keysLeft = Effect.flatMap(RedisClient, (client) =>
  Stream.runCollect(client.scan({ match: "lock:*" })).pipe(
    Effect.map((keys) => Array.from(keys).filter((key) => !key.endsWith(":fence")))
  ))

const isAlive = (fiber: Fiber.RuntimeFiber<unknown, unknown>) => fiber.unsafePoll() === null

const run = (
  form: (name: string) => Effect.Effect<unknown, unknown, Lock.Lock>,
  pass: (millis: number) => Effect.Effect<void>,
  label: string
) =>
  Effect.gen(function*() {
    const seed = yield* Random.nextInt
    yield* Effect.logDebug(`${label}: seed ${seed}`)
    yield* Effect.forEach(
      Array.from({ length: TIMES }, (_, i) => i),
      (i) => interrupted(form, `interrupted-${i % 25}`, pass),
      { concurrency: 10, discard: true }
    ).pipe(Effect.withRandom(Random.make(seed)))
  })

describe("interruption, in memory", () => {
  for (const [label, form] of Object.entries(forms)) {
    it.effect(`a thousand times: ${label}`, () =>
      Effect.gen(function*() {
        const supervisor = yield* Supervisor.track
        yield* Effect.gen(function*() {
          const server = yield* RedisTestServer
          const work = yield* Effect.fork(run(form, (millis) => Effect.sleep(millis), label))
          while ((yield* Fiber.poll(work))._tag === "None") {
            yield* TestClock.adjust("1 millis")
            yield* turnOfTheEventLoop
          }
          yield* Fiber.join(work)
          assert.deepStrictEqual(yield* keysLeft, [])
          assert.isAtMost((yield* server.subscriptions).length, 1)
          assert.isAtMost(yield* server.connections, 2)
          // One timer may be set for a renewal that is not needed any more; when it rings there is nothing to renew.
          yield* TestClock.adjust("1 hour")
          assert.deepStrictEqual(Array.from(yield* TestClock.sleeps()), [])
        }).pipe(Effect.provide(Lock.layerTest), Effect.supervised(supervisor))
        assert.deepStrictEqual((yield* supervisor.value).filter(isAlive).length, 0)
      }))
  }
})

describe("interruption, live", () => {
  for (const [label, form] of Object.entries(forms)) {
    it.live(`a thousand times: ${label}`, () =>
      Effect.gen(function*() {
        const supervisor = yield* Supervisor.track
        yield* Effect.gen(function*() {
          const client = yield* RedisClient
          yield* run(form, (millis) => Effect.sleep(millis), label)
          assert.deepStrictEqual(yield* keysLeft, [])
          const channels = yield* client.send("PUBSUB", "CHANNELS", client.key("*"))
          assert.isAtMost((channels as ReadonlyArray<string>).length, 1)
        }).pipe(Effect.provide(Layer.provideMerge(Lock.layer, live)), Effect.supervised(supervisor))
        assert.deepStrictEqual((yield* supervisor.value).filter(isAlive).length, 0)
      }))
  }

  it.live("connections of their own are closed", () =>
    Effect.gen(function*() {
      const client = yield* RedisClient
      const name = `interruption-${Math.random()}`
      const asking = yield* Effect.fork(
        Lock.withLock(Effect.void, name, { minReplicas: 1, replicaTimeout: "10 seconds" })
      )
      const blocked = Effect.map(client.send("INFO", "clients"), (info) => /blocked_clients:[1-9]/.test(String(info)))
      yield* Effect.repeat(Effect.sleep("5 millis"), { until: () => blocked })
      assert.isTrue(Exit.isInterrupted(yield* Fiber.interrupt(asking)))
      assert.isFalse(yield* blocked)
      assert.deepStrictEqual(yield* keysLeft, [])
    }).pipe(Effect.provide(Layer.provideMerge(Lock.layer, live))))
})
