/**
 * A server that dies and comes back, subscribers that do not read, and what is published at the very first moment.
 */
import { assert, describe, it } from "@effect/vitest"
import { Array as Arr, Effect, Fiber, Layer, Option, Schedule, Schema, Stream } from "effect"
import { setFlagsFromString } from "node:v8"
import { runInNewContext } from "node:vm"
import * as CacheInvalidator from "../../src/PubSub/CacheInvalidator.js"
import * as PubSub from "../../src/PubSub/index.js"
import { RedisClient, type Service as Client } from "../../src/RedisClient.js"
import { connect } from "../IoRedis/support.js"
import * as RealServer from "../kit/RealServer.js"
import { takeN } from "./suite.js"

const eventually = <A, E, R>(effect: Effect.Effect<A, E, R>) =>
  Effect.retry(effect, Schedule.intersect(Schedule.spaced("20 millis"), Schedule.recurs(1000)))

const messagesOf = (client: Client) => Effect.provideService(PubSub.make, RedisClient, client)

const collectGarbage = Effect.repeatN(
  Effect.zipRight(
    Effect.sync(() => {
      setFlagsFromString("--expose-gc")
      runInNewContext("gc")()
    }),
    Effect.sleep("20 millis")
  ),
  2
)

const brief = (each: PubSub.Gap | PubSub.Message<number>) => each._tag === "Gap" ? each.reason : each.payload

describe("messages and a server that dies", () => {
  it.scopedLive("every subscription is made again, and told once that something may be missing", () =>
    Effect.gen(function*() {
      const server = yield* RealServer.start()
      const clients = [yield* connect({ url: server.url }), yield* connect({ url: server.url })]
      const direct = yield* connect({ url: server.url })
      const publisher = yield* messagesOf(direct)
      const channels = Arr.makeBy(50, (i) => PubSub.channel(`channel:${i}`, Schema.Number, { sharded: i % 5 === 0 }))
      // Two on each channel in each process.
      const subscriptions = yield* Effect.forEach(
        clients,
        (client) =>
          Effect.flatMap(
            messagesOf(client),
            ({ subscribeScoped }) =>
              Effect.forEach([...channels, ...channels], (channel) => subscribeScoped(channel, { gaps: true }), {
                concurrency: "unbounded"
              })
          )
      )
      const counts = Effect.gen(function*() {
        const plain = yield* direct.pubsubNumSub(channels.filter(({ sharded }) => !sharded).map(({ name }) => name))
        const shards = yield* direct.send(
          "PUBSUB",
          "SHARDNUMSUB",
          ...channels.filter(({ sharded }) => sharded).map(({ name }) => name)
        )
        return [
          ...Object.values(plain),
          ...(Array.isArray(shards) ? shards : []).filter((each): each is number => typeof each === "number")
        ]
      })
      const all = Arr.replicate(2, 50)
      assert.deepStrictEqual(yield* counts, all)
      for (let round = 1; round <= 2; round++) {
        yield* server.kill
        yield* Effect.sleep("200 millis")
        yield* server.restart
        yield* eventually(Effect.filterOrFail(counts, (now) => now.join() === all.join()))
        yield* Effect.forEach(channels, (channel) => publisher.publish(channel, round), { discard: true })
        for (const subscription of subscriptions.flat()) {
          assert.deepStrictEqual((yield* takeN(subscription, 2)).map(brief), ["disconnected", round])
        }
      }
      // Nothing more than that has come.
      yield* Effect.forEach(channels, (channel) => publisher.publish(channel, 3), { discard: true })
      for (const subscription of subscriptions.flat()) assert.strictEqual(brief(yield* subscription.take), 3)
    }))

  it.scopedLive("what a process keeps of its own is forgotten", () =>
    Effect.gen(function*() {
      const server = yield* RealServer.start()
      const client = yield* connect({ url: server.url })
      const definition = CacheInvalidator.define({ name: "users" })
      const map = new Map<string, number>()
      const invalidator = yield* Effect.provideServiceEffect(
        CacheInvalidator.make,
        PubSub.PubSub,
        messagesOf(client)
      )
      yield* invalidator.listen(definition, CacheInvalidator.forMap(map))
      map.set("a", 1)
      yield* server.kill
      yield* server.restart
      yield* eventually(Effect.filterOrFail(Effect.sync(() => map.size), (size) => size === 0))
    }))
})

describe("messages and slow subscribers", () => {
  it.scopedLive("one who never reads holds no more than its buffer, and others get everything", () =>
    Effect.gen(function*() {
      const service = yield* messagesOf(yield* connect())
      const publisher = yield* messagesOf(yield* connect())
      const channel = PubSub.channel(`large:${process.pid}`, Schema.Uint8ArrayFromSelf, { format: "binary" })
      const COUNT = 10_000
      const payload = new Uint8Array(10_000).fill(7)
      const silent = yield* Effect.forEach(
        ["drop-oldest", "drop-newest"] as const,
        (policy) => service.subscribeScoped(channel, { buffer: { capacity: 100, policy } })
      )
      const reader = yield* service.subscribeScoped(channel, { gaps: true, buffer: { capacity: COUNT } })
      const reading = yield* Effect.fork(
        Stream.runFold(
          Stream.take(reader.stream, COUNT),
          0,
          (bytes, each) => bytes + (each._tag === "Gap" ? NaN : each.payload.length)
        )
      )
      yield* collectGarbage
      const held = () => process.memoryUsage().heapUsed + process.memoryUsage().external
      const before = held()
      yield* Effect.forEach(Arr.range(1, COUNT), () => publisher.publish(channel, payload), {
        concurrency: 20,
        discard: true
      })
      assert.strictEqual(yield* Fiber.join(reading), COUNT * payload.length)
      assert.strictEqual(yield* reader.dropped, 0)
      for (const { dropped } of silent) {
        yield* eventually(Effect.filterOrFail(dropped, (n) => n === COUNT - 100))
      }
      yield* collectGarbage
      // A hundred megabytes went by, and each of the two may keep one.
      assert.isBelow(held() - before, 50_000_000)
    }))
})

describe("messages and the first moment", () => {
  it.scopedLive("a thousand times, what is published right after subscribing arrives", () =>
    Effect.gen(function*() {
      const client = yield* connect()
      const service = yield* messagesOf(client)
      const direct = yield* connect()
      const publisher = yield* messagesOf(direct)
      const received = yield* Effect.forEach(
        Arr.range(1, 1000),
        (i) =>
          Effect.scoped(Effect.gen(function*() {
            // Those who come and go on one channel must not take it from each other.
            const channel = PubSub.channel(`first:${process.pid}:${i % 50}`, Schema.Number)
            const { stream } = yield* service.subscribeScoped(channel)
            yield* publisher.publish(channel, i)
            return yield* stream.pipe(
              Stream.filter(({ payload }) => payload === i),
              Stream.runHead,
              Effect.map(Option.isSome)
            )
          })),
        { concurrency: 100 }
      )
      assert.isTrue(received.length === 1000 && received.every((each) => each))
      assert.deepStrictEqual(yield* direct.pubsubChannels(`first:${process.pid}:*`), [])
    }))
})

it.scopedLive("a layer on a server that is not there yet subscribes when it is, or says why not", () =>
  Effect.gen(function*() {
    const server = yield* RealServer.start()
    const client = yield* connect({ url: server.url, commandTimeout: "500 millis" })
    const layer = Layer.succeed(RedisClient, client)
    const channel = PubSub.channel("late", Schema.Number)
    yield* server.kill
    yield* Effect.gen(function*() {
      const failure = yield* Effect.flip(Effect.scoped(PubSub.subscribeScoped(channel)))
      assert.strictEqual(failure._tag, "RedisConnectionError")
      const publishing = yield* Effect.flip(PubSub.publish(channel, 1))
      assert.strictEqual(publishing._tag, "RedisConnectionError")
      yield* server.restart
      const { take } = yield* eventually(Effect.suspend(() => PubSub.subscribeScoped(channel)))
      yield* eventually(Effect.filterOrFail(PubSub.publish(channel, 2), (n) => n === 1))
      assert.strictEqual((yield* take).payload, 2)
    }).pipe(Effect.provide(Layer.provide(PubSub.layer, layer)))
  }))
