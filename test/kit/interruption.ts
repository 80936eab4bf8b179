/**
 * Many interruptions of each form of taking something, at random points.
 */
import { assert, describe, it } from "@effect/vitest"
import { Effect, Fiber, Layer, Random, Stream, Supervisor, TestClock } from "effect"
import { RedisClient } from "../../src/RedisClient.js"
import * as RedisTestServer from "../../src/RedisTestServer.js"
import { live } from "./layers.js"

const turnOfTheEventLoop = Effect.promise(() => new Promise((resolve) => setImmediate(resolve)))

export interface Options<S> {
  readonly layer: Layer.Layer<S, never, RedisClient>
  /** What its keys begin with. */
  readonly keys: string
  readonly forms: Readonly<Record<string, (name: string) => Effect.Effect<unknown, unknown, S>>>
  /** Takes the same for a moment, half of the time, so that the forms have to wait. */
  readonly competitor: (name: string) => Effect.Effect<unknown, unknown, S>
  /** How often each form is interrupted, a thousand times by default. */
  readonly times?: number
}

/** Lets the form run for a random while and interrupts it. */
const interrupted =
  <S>({ competitor }: Options<S>, form: (name: string) => Effect.Effect<unknown, unknown, S>) => (name: string) =>
    Effect.gen(function*() {
      const competing = (yield* Random.nextBoolean) ? yield* Effect.fork(Effect.exit(competitor(name))) : undefined
      const fiber = yield* Effect.fork(form(name))
      const yields = yield* Random.nextIntBetween(0, 40)
      for (let i = 0; i < yields; i++) yield* Effect.yieldNow()
      const turns = yield* Random.nextIntBetween(0, 4)
      for (let i = 0; i < turns; i++) yield* turnOfTheEventLoop
      if ((yield* Random.nextIntBetween(0, 4)) === 0) yield* Effect.sleep(yield* Random.nextIntBetween(1, 5))
      yield* Fiber.interrupt(fiber)
      if (competing !== undefined) yield* Fiber.join(competing)
    })

/** What may be left behind is the memory of the last token. */
export const keysLeft = (prefix: string) =>
  Effect.flatMap(RedisClient, (client) =>
    Stream.runCollect(client.scan({ match: `${prefix}*` })).pipe(
      Effect.map((keys) => Array.from(keys).filter((key) => !key.endsWith(":fence")))
    ))

/** `INTERRUPTIONS=1000 npm test` says how many there are of each. */
const TIMES = Number(process.env.INTERRUPTIONS ?? 250)

const timesOf = <S>({ times = TIMES }: Options<S>) => times

const isAlive = (fiber: Fiber.RuntimeFiber<unknown, unknown>) => fiber.unsafePoll() === null

const run = <S>(
  options: Options<S>,
  form: (name: string) => Effect.Effect<unknown, unknown, S>,
  label: string
) =>
  Effect.gen(function*() {
    const seed = yield* Random.nextInt
    yield* Effect.logDebug(`${label}: seed ${seed}`)
    yield* Effect.forEach(
      Array.from({ length: timesOf(options) }, (_, i) => `interrupted-${i % 25}`),
      interrupted(options, form),
      { concurrency: 10, discard: true }
    ).pipe(Effect.withRandom(Random.make(seed)))
  })

/** None of the fibers that the effect starts outlives it. */
const leavesNoFiber = <A, E, R>(effect: Effect.Effect<A, E, R>) =>
  Effect.gen(function*() {
    const supervisor = yield* Supervisor.track
    yield* Effect.supervised(effect, supervisor)
    assert.strictEqual((yield* supervisor.value).filter(isAlive).length, 0)
  })

/** No key, no waiter, no subscription beyond the one, no connection, no timer and no fiber is left. */
export const interruptions = <S>(options: Options<S>) => {
  describe("interruption, in memory", () => {
    for (const [label, form] of Object.entries(options.forms)) {
      it.effect(`${timesOf(options)} times: ${label}`, () =>
        leavesNoFiber(
          Effect.gen(function*() {
            const server = yield* RedisTestServer.RedisTestServer
            const work = yield* Effect.fork(run(options, form, label))
            while ((yield* Fiber.poll(work))._tag === "None") {
              yield* TestClock.adjust("1 millis")
              yield* turnOfTheEventLoop
            }
            yield* Fiber.join(work)
            assert.deepStrictEqual(yield* keysLeft(options.keys), [])
            assert.isAtMost((yield* server.subscriptions).length, 1)
            assert.isAtMost(yield* server.connections, 2)
            // One timer may be set for a renewal that is not needed any more; when it rings there is nothing to renew.
            yield* TestClock.adjust("1 hour")
            assert.deepStrictEqual(Array.from(yield* TestClock.sleeps()), [])
          }).pipe(Effect.provide(Layer.provideMerge(options.layer, RedisTestServer.layer)))
        ))
    }
  })

  describe("interruption, live", () => {
    for (const [label, form] of Object.entries(options.forms)) {
      it.live(`${timesOf(options)} times: ${label}`, () =>
        leavesNoFiber(
          Effect.gen(function*() {
            const client = yield* RedisClient
            yield* run(options, form, label)
            assert.deepStrictEqual(yield* keysLeft(options.keys), [])
            const channels = yield* client.send("PUBSUB", "CHANNELS", client.key("*"))
            assert.isAtMost((channels as ReadonlyArray<string>).length, 1)
          }).pipe(Effect.provide(Layer.provideMerge(options.layer, live)))
        ))
    }
  })
}
