/**
 * Hundreds of takers that are interrupted at random points, before, while and after they get an item.
 */
import * as PersistedQueue from "@effect/experimental/PersistedQueue"
import { assert, describe, it } from "@effect/vitest"
import { Effect, Fiber, Layer, Option, Random, Schema, Supervisor, TestClock } from "effect"
import * as Store from "../../src/integrations/PersistedQueueStore.js"
import { RedisClient } from "../../src/RedisClient.js"
import * as RedisTestServer from "../../src/RedisTestServer.js"
import { live } from "../kit/layers.js"

const TIMES = 300
const ITEMS = 20

const turnOfTheEventLoop = Effect.promise(() => new Promise((resolve) => setImmediate(resolve)))

const queueOf = PersistedQueue.make({ name: "interrupted", schema: Schema.Number })

const interrupted = Effect.gen(function*() {
  const queue = yield* queueOf
  const fiber = yield* Effect.fork(queue.take(() => Effect.never, { maxAttempts: 1 }))
  const yields = yield* Random.nextIntBetween(0, 40)
  for (let i = 0; i < yields; i++) yield* Effect.yieldNow()
  const turns = yield* Random.nextIntBetween(0, 4)
  for (let i = 0; i < turns; i++) yield* turnOfTheEventLoop
  yield* Fiber.interrupt(fiber)
})

const run = Effect.gen(function*() {
  const seed = yield* Random.nextInt
  yield* Effect.logDebug(`seed ${seed}`)
  const queue = yield* queueOf
  for (let i = 0; i < ITEMS; i++) yield* queue.offer(i)
  yield* Effect.forEach(Array.from({ length: TIMES }), () => interrupted, { concurrency: 30, discard: true }).pipe(
    Effect.withRandom(Random.make(seed))
  )
})

/** Every item is there once, none has failed, and nothing else is left. */
const check = Effect.gen(function*() {
  const client = yield* RedisClient
  const queue = yield* queueOf
  const seen: Array<number> = []
  for (let i = 0; i < ITEMS; i++) {
    const next = yield* queue.take((n, { attempts }) => Effect.succeed([n, attempts] as const))
    assert.strictEqual(next[1], 0)
    seen.push(next[0])
  }
  assert.deepStrictEqual(seen.sort((a, b) => a - b), Array.from({ length: ITEMS }, (_, i) => i))
  assert.deepStrictEqual(yield* Store.deadLetters("interrupted"), [])
  const key = "persisted-queue:{interrupted}"
  assert.strictEqual(yield* client.exists(key, `${key}:waiting`, `${key}:leases`, `${key}:attempts`), 0)
})

/** None of the fibers that the effect starts outlives it. */
const leavesNoFiber = <A, E, R>(effect: Effect.Effect<A, E, R>) =>
  Effect.gen(function*() {
    const supervisor = yield* Supervisor.track
    yield* Effect.supervised(effect, supervisor)
    assert.lengthOf((yield* supervisor.value).filter((fiber) => fiber.unsafePoll() === null), 0)
  })

const services = PersistedQueue.layer.pipe(Layer.provideMerge(Store.layer))

describe("interruption of takers of a PersistedQueue", () => {
  it.effect("in memory", () =>
    leavesNoFiber(
      Effect.gen(function*() {
        const server = yield* RedisTestServer.RedisTestServer
        const work = yield* Effect.fork(Effect.zipRight(run, check))
        while (Option.isNone(yield* Fiber.poll(work))) {
          yield* TestClock.adjust("1 millis")
          yield* turnOfTheEventLoop
        }
        yield* Fiber.join(work)
        yield* TestClock.adjust("1 minute")
        assert.deepStrictEqual(yield* server.subscriptions, [])
        assert.deepStrictEqual(Array.from(yield* TestClock.sleeps()), [])
      }).pipe(Effect.provide(Layer.provideMerge(services, RedisTestServer.layer)))
    ))

  it.live("live", () =>
    leavesNoFiber(
      Effect.zipRight(run, check).pipe(Effect.provide(Layer.provideMerge(services, live)), Effect.orDie)
    ))
})
