import { assert, describe, it } from "@effect/vitest"
import { Effect, Fiber, Layer, Redacted, Schedule, Stream, TestClock } from "effect"
import * as ChatRoom from "../../src/ChatRoom/index.js"
import { keyOf, keysOf, send as sendScript } from "../../src/ChatRoom/scripts.js"
import { layer as redis } from "../../src/IoRedis.js"
import { RedisClient } from "../../src/RedisClient.js"
import type { RedisError } from "../../src/RedisError.js"
import { Fault, RedisTestServer } from "../../src/RedisTestServer.js"
import * as FaultProxy from "../kit/FaultProxy.js"
import * as RealServer from "../kit/RealServer.js"
import { reader, shown, Text } from "./suite.js"

const Rooms = ChatRoom.define({ name: "rooms", message: Text, history: { size: 100 } })

const services = (url: string) =>
  Layer.provideMerge(ChatRoom.layer, redis({ url: Redacted.make(url), commandTimeout: "2 seconds" }))

const eventually = (holds: () => boolean) => RealServer.until("what was to happen", Effect.sync(holds), Boolean, String)

const numbers = (from: number, to: number) => Array.from({ length: to - from + 1 }, (_, i) => String(from + i))

const say = (text: string) => ChatRoom.send(Rooms, "room", "ada", { text })

const sayAll = (from: number, to: number) => Effect.forEach(numbers(from, to), say, { discard: true })

/** Runs a test with services of its own behind a proxy, and sends on a connection that never breaks. */
const cutOff = <A, E>(
  test: (room: {
    readonly cut: ChatRoom.Service
    readonly proxy: FaultProxy.FaultProxy
    readonly server: RealServer.Server
  }) => Effect.Effect<A, E, ChatRoom.ChatRoom | RedisClient>
) =>
  Effect.gen(function*() {
    const server = yield* RealServer.start()
    const proxy = yield* FaultProxy.make(server)
    yield* Effect.gen(function*() {
      yield* ChatRoom.join(Rooms, "room", "ada")
      yield* Effect.scoped(Effect.gen(function*() {
        const context = yield* Layer.build(services(proxy.url))
        const cut = yield* Effect.provide(ChatRoom.ChatRoom, context)
        yield* test({ cut, proxy, server })
      }))
    }).pipe(Effect.provide(services(server.url)))
  }).pipe(Effect.scoped)

describe("ChatRoom under faults", () => {
  it.live("who is cut off for three seconds recovers exactly what was missed", () =>
    cutOff(({ cut, proxy }) =>
      Effect.scoped(Effect.gen(function*() {
        const listener = yield* reader(cut, Rooms, "room")
        yield* sayAll(1, 10)
        yield* eventually(() => listener.seen.length === 10)
        yield* proxy.refuse
        yield* sayAll(11, 50)
        yield* Effect.sleep("3 seconds")
        yield* sayAll(51, 60)
        yield* proxy.accept
        yield* eventually(() => listener.seen.includes("recovered 50"))
        yield* sayAll(61, 70)
        yield* eventually(() => listener.seen.includes("70"))
        assert.deepStrictEqual(listener.seen, [...numbers(1, 60), "recovered 50", ...numbers(61, 70)])
      }))
    ))

  it.live("who is cut off for longer than the history holds is told how much is missing", () =>
    cutOff(({ cut, proxy }) =>
      Effect.scoped(Effect.gen(function*() {
        const listener = yield* reader(cut, Rooms, "room")
        yield* sayAll(1, 10)
        yield* eventually(() => listener.seen.length === 10)
        yield* proxy.refuse
        yield* sayAll(11, 250)
        yield* proxy.accept
        yield* eventually(() => listener.seen.includes("recovered 100"))
        assert.deepStrictEqual(listener.seen, [
          ...numbers(1, 10),
          "lost trimmed 140",
          ...numbers(151, 250),
          "recovered 100"
        ])
      }))
    ))

  it.live("a server that comes back without its data is told to everybody who listens", () =>
    cutOff(({ cut, server }) =>
      Effect.scoped(Effect.gen(function*() {
        const here = yield* ChatRoom.ChatRoom
        const listeners = [yield* reader(here, Rooms, "room"), yield* reader(cut, Rooms, "room")]
        yield* sayAll(1, 5)
        yield* eventually(() => listeners.every(({ seen }) => seen.length === 5))
        yield* server.kill
        yield* server.restart
        yield* eventually(() => listeners.every(({ seen }) => seen.length === 7))
        yield* ChatRoom.join(Rooms, "room", "ada").pipe(Effect.retry(Schedule.spaced("100 millis")))
        yield* sayAll(1, 3)
        yield* eventually(() => listeners.every(({ seen }) => seen.length === 11))
        for (const { seen } of listeners) {
          assert.deepStrictEqual(seen, [
            ...numbers(1, 5),
            "lost epoch some",
            "recovered 0",
            "+ada",
            ...numbers(1, 3)
          ])
        }
      }))
    ))

  it.live("a count that went back, as after a failover, is told also when it came as far again", () =>
    cutOff(({ cut, proxy }) =>
      Effect.scoped(Effect.gen(function*() {
        const client = yield* RedisClient
        const listening = yield* reader(yield* ChatRoom.ChatRoom, Rooms, "room")
        const away = yield* reader(cut, Rooms, "room")
        yield* sayAll(1, 3)
        yield* eventually(() => away.seen.length === 3 && listening.seen.length === 3)
        yield* proxy.refuse
        const [, meta, history] = keysOf(keyOf("rooms", "room")).map(client.key)
        const [first] = yield* client.send("XRANGE", history!, "-", "+", "COUNT", 1) as Effect.Effect<any, RedisError>
        yield* client.send("DEL", history!)
        yield* client.send("XADD", history!, "1-0", ...first[1])
        yield* client.send("HSET", meta!, "offset", 1)
        yield* Effect.sleep("5 millis")
        yield* sayAll(12, 14)
        yield* proxy.accept
        yield* eventually(() => away.seen.includes("recovered 1") && listening.seen.includes("14"))
        assert.deepStrictEqual(away.seen, [...numbers(1, 3), "lost epoch some", "14", "recovered 1"])
        assert.isTrue(listening.seen.includes("lost epoch some"))
      }))
    ))

  it.live.each([7, 20])(
    "no hole and no double, wherever the subscription breaks: every %d milliseconds",
    (millis) =>
      cutOff(({ cut, server }) =>
        Effect.scoped(Effect.gen(function*() {
          const Wide = ChatRoom.define({ name: "wide", message: Text, history: { size: 5000 } })
          const here = yield* ChatRoom.ChatRoom
          yield* here.join(Wide, "room", "ada")
          const listeners = [yield* reader(here, Wide, "room"), yield* reader(cut, Wide, "room")]
          const killing = yield* Effect.fork(
            Effect.forever(Effect.zipRight(
              Effect.sleep(millis),
              server.cli("CLIENT", "KILL", "TYPE", "PUBSUB")
            ))
          )
          yield* Effect.forEach(
            numbers(1, 1000),
            (text) => Effect.zipRight(Effect.yieldNow(), here.send(Wide, "room", "ada", { text })),
            { concurrency: 5, discard: true }
          )
          yield* Fiber.interrupt(killing)
          yield* here.send(Wide, "room", "ada", { text: "end" })
          yield* eventually(() => listeners.every(({ messages }) => messages.at(-1)?.value.text === "end"))
          for (const { messages, seen } of listeners) {
            assert.deepStrictEqual(messages.map(({ position }) => position.offset), numbers(1, 1001).map(Number))
            assert.isTrue(seen.some((text) => text.startsWith("recovered")))
            assert.isFalse(seen.some((text) => text.startsWith("lost")))
          }
        }))
      )
  )
})

const turnOfTheEventLoop = Effect.promise(() => new Promise((resolve) => setImmediate(resolve)))

/** Lets time pass until it is done. */
const passing = <A, E, R>(effect: Effect.Effect<A, E, R>) =>
  Effect.gen(function*() {
    const fiber = yield* Effect.fork(effect)
    for (let i = 0; i < 20_000 && (yield* Fiber.poll(fiber))._tag === "None"; i++) {
      yield* TestClock.adjust("10 millis")
      yield* turnOfTheEventLoop
    }
    return yield* Fiber.join(fiber)
  })

describe("ChatRoom under faults, in memory", () => {
  it.effect("a lost reply sends a message once, and says where it stands", () =>
    Effect.gen(function*() {
      const server = yield* RedisTestServer
      yield* ChatRoom.join(Rooms, "room", "ada")
      const listener = yield* reader(yield* ChatRoom.ChatRoom, Rooms, "room")
      yield* say("warm")
      yield* server.inject(Fault.loseReply({ command: sendScript.sha }))
      const sent = yield* passing(say("once"))
      assert.strictEqual(sent.position.offset, 2)
      assert.isFalse(sent.duplicate)
      yield* TestClock.adjust("1 second")
      assert.deepStrictEqual(listener.seen, ["warm", "once"])
    }).pipe(Effect.scoped, Effect.provide(ChatRoom.layerTest)))

  it.effect("whatever is cut and whenever, every reader has every message once and in order", () =>
    Effect.gen(function*() {
      const server = yield* RedisTestServer
      const service = yield* ChatRoom.ChatRoom
      const Wide = ChatRoom.define({ name: "wide", message: Text, history: { size: 1000 } })
      const users = ["ada", "bob", "cy"]
      yield* Effect.forEach(users, (user) => service.join(Wide, "room", user))
      const listeners = yield* Effect.forEach([1, 5, 1000], (capacity) => reader(service, Wide, "room", { capacity }))
      yield* server.inject(Fault.loseReply({ command: sendScript.sha, probability: 0.05, seed: 7 }))
      yield* server.inject(Fault.failBeforeSend({ probability: 0.05, seed: 11 }))
      yield* server.inject(Fault.disconnectAfter({ probability: 0.02, seed: 13 }))
      const cutting = yield* Effect.fork(Effect.forever(
        Effect.zipRight(Effect.sleep("70 millis"), server.disconnect({ downtime: "30 millis" }))
      ))
      const positions = yield* passing(Effect.forEach(
        Array.from({ length: 400 }, (_, i) => i),
        (i) => {
          const user = users[i % 3]!
          // A caller that gets no answer at all asks again, with the same id.
          return Effect.delay(
            Effect.retry(service.send(Wide, "room", user, { text: `${user} ${i}` }, { id: `${i}` }), { times: 50 }),
            `${i % 40} millis`
          )
        },
        { concurrency: 12 }
      ))
      yield* Fiber.interrupt(cutting)
      yield* server.clearFaults
      yield* TestClock.adjust("10 seconds")
      assert.strictEqual(new Set(positions.map(({ position }) => position.offset)).size, 400)
      const { messages } = yield* service.history(Wide, "room", { limit: 1000 })
      assert.strictEqual(messages.length, 400)
      for (const listener of listeners) {
        assert.deepStrictEqual(listener.messages.map(shown), messages.map(shown))
        assert.isFalse(listener.seen.some((text) => text.startsWith("lost")))
      }
      assert.isTrue(listeners[0]!.seen.some((text) => text.startsWith("recovered")))
    }).pipe(Effect.scoped, Effect.provide(ChatRoom.layerTest)))

  it.effect("a recovery that fails goes on until it works", () =>
    Effect.gen(function*() {
      const server = yield* RedisTestServer
      yield* ChatRoom.join(Rooms, "room", "ada")
      const listener = yield* reader(yield* ChatRoom.ChatRoom, Rooms, "room")
      yield* sayAll(1, 3)
      yield* server.disconnect()
      yield* server.become("loading")
      yield* TestClock.adjust("1 minute")
      assert.deepStrictEqual(listener.seen, numbers(1, 3))
      yield* server.become("normal")
      yield* TestClock.adjust("3 seconds")
      yield* say("4")
      yield* TestClock.adjust("1 second")
      assert.deepStrictEqual(listener.seen, [...numbers(1, 3), "recovered 0", "4"])
    }).pipe(Effect.scoped, Effect.provide(ChatRoom.layerTest)))

  it.effect("a recovery that can't work ends the stream with its error", () =>
    Effect.gen(function*() {
      const server = yield* RedisTestServer
      yield* ChatRoom.join(Rooms, "room", "ada")
      const elements = yield* ChatRoom.subscribe(Rooms, "room")
      yield* server.inject(Fault.reply("WRONGTYPE Operation against a key", { command: "EVALSHA" }))
      yield* server.disconnect()
      const fiber = yield* Effect.fork(Effect.flip(Stream.runDrain(elements)))
      yield* TestClock.adjust("1 second")
      const failure = yield* Fiber.join(fiber)
      assert(failure._tag === "RedisReplyError")
      assert.strictEqual(failure.code, "WRONGTYPE")
    }).pipe(Effect.scoped, Effect.provide(ChatRoom.layerTest)))

  it.effect("every key has a life, and nothing is left when all of them are over", () =>
    Effect.gen(function*() {
      const server = yield* RedisTestServer
      yield* ChatRoom.join(Rooms, "room", "ada")
      yield* ChatRoom.join(Rooms, "other", "ada")
      yield* say("hello")
      yield* Effect.scoped(ChatRoom.enter(Rooms, "room", "ada"))
      for (const { key, ttl } of yield* server.keys) assert.isAbove(ttl, 0, key)
      yield* TestClock.adjust("2 days")
      // The members and the count are still known, and numbers do not come again.
      assert.strictEqual((yield* say("later")).position.offset, 2)
      yield* TestClock.adjust("29 days")
      assert.isTrue(yield* ChatRoom.isMember(Rooms, "room", "ada"))
      yield* ChatRoom.join(Rooms, "room", "bob")
      yield* TestClock.adjust("2 days")
      assert.isTrue(yield* ChatRoom.isMember(Rooms, "room", "ada"))
      assert.isFalse(yield* ChatRoom.isMember(Rooms, "other", "ada"))
      assert.strictEqual((yield* say("still counting")).position.offset, 3)
      yield* TestClock.adjust("31 days")
      assert.deepStrictEqual(yield* server.keys, [])
    }).pipe(Effect.provide(ChatRoom.layerTest)))
})
