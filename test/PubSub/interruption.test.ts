/**
 * A hundred interruptions of each form of subscribing, at random points: no subscription and no fiber is left.
 */
import { assert, describe, it } from "@effect/vitest"
import { Effect, Fiber, Layer, Random, Schema, type Scope, Stream, Supervisor, TestClock } from "effect"
import * as CacheInvalidator from "../../src/PubSub/CacheInvalidator.js"
import * as EventBus from "../../src/PubSub/EventBus.js"
import * as PubSub from "../../src/PubSub/index.js"
import * as Notifications from "../../src/PubSub/Notifications.js"
import { RedisClient } from "../../src/RedisClient.js"
import * as RedisTestServer from "../../src/RedisTestServer.js"
import { connect, unique } from "../IoRedis/support.js"
import { services } from "./suite.js"

const TIMES = 100

const turnOfTheEventLoop = Effect.promise(() => new Promise((resolve) => setImmediate(resolve)))

type Services = Layer.Layer.Success<typeof services>

/** For a name that others use as well, and that sometimes is sharded. */
const forms: Readonly<
  Record<
    string,
    (channel: PubSub.Channel<number, "envelope">) => Effect.Effect<unknown, unknown, Services | Scope.Scope>
  >
> = {
  "PubSub.subscribe": (channel) => Stream.runDrain(PubSub.subscribe(channel)),
  "PubSub.subscribeScoped": (channel) => Effect.zipRight(PubSub.subscribeScoped(channel), Effect.never),
  "PubSub.subscribe, several": (channel) => {
    const others = [1, 2].map((n) =>
      PubSub.channel(`${channel.name}-${n}`, Schema.Number, { sharded: channel.sharded })
    )
    return Stream.runDrain(PubSub.subscribe([channel, ...others]))
  },
  "PubSub.subscribe, a pattern": ({ name }) =>
    Stream.runDrain(PubSub.subscribe(PubSub.pattern(`${name}*`, Schema.Number))),
  "take": (channel) => Effect.flatMap(PubSub.subscribeScoped(channel), ({ take }) => Effect.forever(take)),
  "EventBus.on": (channel) =>
    Effect.zipRight(EventBus.subscribe(channel, () => Effect.sleep("1 millis"), { concurrency: 3 }), Effect.never),
  "CacheInvalidator.makeCache": ({ name }) =>
    Effect.flatMap(
      CacheInvalidator.makeCache(CacheInvalidator.define({ name }), {
        capacity: 10,
        timeToLive: "1 minute",
        lookup: (key) => Effect.as(Effect.sleep("1 millis"), key)
      }),
      (cache) => Effect.zipRight(cache.get("a"), Effect.never)
    ),
  "Notifications.subscribe": ({ name }) =>
    Notifications.subscribe(Notifications.define({ name, schema: Schema.Number })).pipe(
      Stream.runDrain,
      Effect.provideService(Notifications.CurrentUser, { id: "ada" })
    )
}

const interrupted = (form: typeof forms[string], prefix: string) => (i: number) =>
  Effect.gen(function*() {
    const channel = PubSub.channel(`${prefix}-${i % 5}`, Schema.Number, { sharded: i % 3 === 0 })
    const fiber = yield* Effect.fork(Effect.scoped(form(channel)))
    const yields = yield* Random.nextIntBetween(0, 30)
    for (let n = 0; n < yields; n++) yield* Effect.yieldNow()
    const turns = yield* Random.nextIntBetween(0, 3)
    for (let n = 0; n < turns; n++) yield* turnOfTheEventLoop
    if (i % 2 === 0) yield* PubSub.publish(channel, i)
    yield* Fiber.interrupt(fiber)
  })

const run = (form: typeof forms[string], prefix: string) =>
  Effect.gen(function*() {
    const seed = yield* Random.nextInt
    yield* Effect.logDebug(`seed ${seed}`)
    yield* Effect.forEach(Array.from({ length: TIMES }, (_, i) => i), interrupted(form, prefix), {
      concurrency: 10,
      discard: true
    }).pipe(Effect.withRandom(Random.make(seed)))
  })

const leavesNoFiber = <A, E, R>(effect: Effect.Effect<A, E, R>) =>
  Effect.gen(function*() {
    const supervisor = yield* Supervisor.track
    yield* Effect.supervised(effect, supervisor)
    assert.strictEqual((yield* supervisor.value).filter((fiber) => fiber.unsafePoll() === null).length, 0)
  })

describe("subscriptions that are interrupted, in memory", () => {
  for (const [label, form] of Object.entries(forms)) {
    it.effect(label, () =>
      leavesNoFiber(
        Effect.gen(function*() {
          const server = yield* RedisTestServer.RedisTestServer
          const work = yield* Effect.fork(run(form, "interrupted"))
          while ((yield* Fiber.poll(work))._tag === "None") {
            yield* TestClock.adjust("1 millis")
            yield* turnOfTheEventLoop
          }
          yield* Fiber.join(work)
          assert.deepStrictEqual(yield* server.subscriptions, [])
          assert.isAtMost(yield* server.connections, 2)
          // The clock forgets a timer that nobody waits for any more when its time has come.
          yield* TestClock.adjust("1 hour")
          assert.deepStrictEqual(Array.from(yield* TestClock.sleeps()), [])
        }).pipe(Effect.provide(Layer.provideMerge(services, RedisTestServer.layer)))
      ))
  }
})

describe("subscriptions that are interrupted, live", () => {
  for (const [label, form] of Object.entries(forms)) {
    it.scopedLive(label, () =>
      Effect.gen(function*() {
        const keyPrefix = `${unique("interrupted")}:`
        const direct = yield* connect({ keyPrefix })
        const client = yield* connect({ keyPrefix })
        yield* leavesNoFiber(
          Effect.provide(run(form, "x"), Layer.provide(services, Layer.succeed(RedisClient, client)))
        )
        assert.deepStrictEqual(yield* direct.pubsubChannels(), [])
        const shards = yield* direct.send("PUBSUB", "SHARDCHANNELS", `${keyPrefix}*`)
        assert.deepStrictEqual(shards, [])
        // And the same client can still hear.
        const channel = PubSub.channel("x", Schema.Number)
        yield* Effect.gen(function*() {
          const { take } = yield* PubSub.subscribeScoped(channel)
          yield* PubSub.publish(channel, 1)
          assert.strictEqual((yield* take).payload, 1)
        }).pipe(Effect.provide(Layer.provide(services, Layer.succeed(RedisClient, client))))
      }))
  }
})
