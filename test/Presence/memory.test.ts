import { assert, describe, it } from "@effect/vitest"
import { Effect, Either, Exit, Fiber, Metric, Option, Scope, Stream, TestClock } from "effect"
import * as Presence from "../../src/Presence/index.js"
import { beat, join, keyOf, keysOf, leave } from "../../src/Presence/scripts.js"
import { RedisClient } from "../../src/RedisClient.js"
import { Fault, RedisTestServer } from "../../src/RedisTestServer.js"
import { inMemory } from "../kit/processes.js"
import * as Spans from "../kit/spans.js"
import { listen } from "./suite.js"

const Rooms = Presence.define({ name: "rooms", ttl: "9 seconds" })

/** Lets everything happen that needs no time. */
const settle = TestClock.adjust("1 millis")

describe("Presence in memory", () => {
  it.effect("one write keeps all connections of a room alive, and nothing is sent when there are none", () =>
    Effect.gen(function*() {
      const server = yield* RedisTestServer
      const beats = Effect.map(
        server.journal,
        (journal) => journal.filter(({ args }) => args.includes(beat.sha) || args.includes(beat.lua)).length
      )
      const scope = yield* Scope.make()
      for (let i = 0; i < 300; i++) yield* Scope.extend(Presence.join(Rooms, "room", `user ${i}`), scope)
      assert.strictEqual(yield* beats, 0)
      // Two of them come within eight to nine seconds, and the text of the script once.
      yield* TestClock.adjust("5900 millis")
      assert.isAtMost(yield* beats, 3)
      assert.isAtLeast(yield* beats, 2)
      yield* TestClock.adjust("1 minute")
      assert.deepStrictEqual(yield* Presence.count(Rooms, "room"), { users: 300, connections: 300 })
      yield* Scope.close(scope, Exit.void)
      const before = (yield* server.journal).length
      yield* TestClock.adjust("1 hour")
      assert.strictEqual((yield* server.journal).length, before)
      assert.deepStrictEqual(Array.from(yield* TestClock.sleeps()), [])
    }).pipe(Effect.provide(Presence.layerTest)))

  it.effect("every key has a life, which ends an hour after the last connection", () =>
    Effect.gen(function*() {
      const server = yield* RedisTestServer
      const { die, service } = yield* inMemory(Presence.make)
      const client = yield* RedisClient
      yield* service.join(Rooms, "room", "ada")
      yield* service.join(Rooms, "room", "bob")
      yield* Effect.scoped(service.join(Rooms, "room", "bob"))
      assert.strictEqual((yield* server.keys).length, 5)
      for (const { key, ttl } of yield* server.keys) assert.isAbove(ttl, 0, key)
      // Its process vanishes, and nobody else ever comes.
      yield* die
      yield* TestClock.adjust("50 minutes")
      assert.strictEqual((yield* server.keys).length, 5)
      const told = yield* client.subscribe({ channels: ["presence:{rooms:room}:events"] })
      yield* TestClock.adjust("11 minutes")
      assert.strictEqual((yield* server.keys).length, 1)
      yield* TestClock.adjust("7 days")
      assert.deepStrictEqual(yield* server.keys, [])
      assert.strictEqual(yield* told.size, 0)
    }).pipe(Effect.scoped, Effect.provide(Presence.layerTest)))

  it.effect("who comes within that hour is told who is gone", () =>
    Effect.gen(function*() {
      const { die, service } = yield* inMemory(Presence.make)
      yield* service.join(Rooms, "room", "ada")
      yield* die
      yield* TestClock.adjust("50 minutes")
      const told = yield* listen(yield* Presence.Presence, Rooms, "room")
      assert.isFalse(yield* Presence.isOnline(Rooms, "room", "ada"))
      yield* settle
      assert.deepStrictEqual(told, ["ada expired"])
      const seen = Option.getOrThrow(yield* Presence.lastSeen(Rooms, "room", "ada"))
      assert.strictEqual(seen.epochMillis, 0)
    }).pipe(Effect.scoped, Effect.provide(Presence.layerTest)))

  for (const [what, script] of [["joining", join], ["leaving", leave]] as const) {
    it.effect(`a lost reply to ${what} is asked for again, and everything is told once`, () =>
      Effect.gen(function*() {
        const server = yield* RedisTestServer
        const told = yield* listen(yield* Presence.Presence, Rooms, "room")
        yield* Effect.scoped(Presence.join(Rooms, "warm", "ada"))
        const lost = yield* server.inject(Fault.loseReply({ command: script.sha }))
        const fiber = yield* Effect.fork(Effect.scoped(Presence.join(Rooms, "room", "ada")))
        yield* TestClock.adjust("2 seconds")
        yield* Fiber.join(fiber)
        assert.strictEqual(yield* lost.happened, 1)
        assert.deepStrictEqual(told, ["ada joined", "ada left"])
      }).pipe(Effect.scoped, Effect.provide(Presence.layerTest)))
  }

  it.effect("a join that gets no answer fails, and leaves", () =>
    Effect.gen(function*() {
      const server = yield* RedisTestServer
      const told = yield* listen(yield* Presence.Presence, Rooms, "room")
      yield* Effect.scoped(Presence.join(Rooms, "warm", "ada"))
      yield* server.inject(Fault.loseReply({ command: join.sha, times: 10 }))
      const fiber = yield* Effect.fork(Effect.either(Effect.scoped(Presence.join(Rooms, "room", "ada"))))
      yield* TestClock.adjust("30 seconds")
      const result = yield* Fiber.join(fiber)
      assert(Either.isLeft(result))
      assert.strictEqual(result.left._tag, "RedisOutcomeUnknownError")
      assert.deepStrictEqual(told, ["ada joined", "ada left"])
      assert.deepStrictEqual(yield* Presence.count(Rooms, "room"), { users: 0, connections: 0 })
    }).pipe(Effect.scoped, Effect.provide(Presence.layerTest)))

  it.effect("heartbeats that fail are made up for before the ttl is over", () =>
    Effect.gen(function*() {
      const server = yield* RedisTestServer
      const { rejoins } = yield* Presence.join(Rooms, "room", "ada")
      const rejoined = yield* Effect.fork(Stream.runHead(rejoins))
      for (let i = 0; i < 5; i++) {
        yield* server.become("loading")
        yield* TestClock.adjust("4 seconds")
        yield* server.become("normal")
        yield* TestClock.adjust("2 seconds")
      }
      assert.isTrue(yield* Presence.isOnline(Rooms, "room", "ada"))
      assert.deepStrictEqual(yield* Fiber.poll(rejoined), Option.none())
    }).pipe(Effect.scoped, Effect.provide(Presence.layerTest)))

  it.effect("a late heartbeat does not bring back who has left", () =>
    Effect.gen(function*() {
      const client = yield* RedisClient
      const room = { key: "presence:{rooms:room}", channel: "x", ttl: 9000, keep: 0 }
      const member = `ada\0${"0".repeat(20)}`
      yield* client.eval(join, room, "ada", member, "")
      yield* client.eval(leave, room, member)
      assert.deepStrictEqual(yield* client.eval(beat, room, [member]), { more: false, gone: [member] })
      assert.deepStrictEqual(yield* Presence.count(Rooms, "room"), { users: 0, connections: 0 })
    }).pipe(Effect.provide(Presence.layerTest)))

  it.effect("who leaves while it is joining again does not come back", () =>
    Effect.gen(function*() {
      const server = yield* RedisTestServer
      const client = yield* RedisClient
      const told = yield* listen(yield* Presence.Presence, Rooms, "room")
      const scope = yield* Scope.make()
      yield* Scope.extend(Presence.join(Rooms, "room", "ada"), scope)
      yield* client.del(...keysOf(keyOf("rooms", "room")))
      const away = yield* server.inject(Fault.failBeforeSend({ command: join.sha }))
      for (let i = 0; i < 100 && (yield* away.happened) === 0; i++) yield* TestClock.adjust("50 millis")
      yield* Scope.close(scope, Exit.void)
      // The second try comes after it has left.
      yield* TestClock.adjust("1 second")
      assert.deepStrictEqual(yield* Presence.count(Rooms, "room"), { users: 0, connections: 0 })
      assert.deepStrictEqual(told, ["ada joined", "ada joined", "ada left"])
    }).pipe(Effect.scoped, Effect.provide(Presence.layerTest)))

  it.effect("subscribers are told of an outage", () =>
    Effect.gen(function*() {
      const server = yield* RedisTestServer
      const told = yield* listen(yield* Presence.Presence, Rooms, "room")
      yield* server.disconnect()
      yield* settle
      yield* Effect.scoped(Presence.join(Rooms, "room", "ada"))
      yield* settle
      assert.deepStrictEqual(told, ["gap", "ada joined", "ada left"])
    }).pipe(Effect.scoped, Effect.provide(Presence.layerTest)))

  it.effect("makes one span for an operation, and counts who had to join again", () =>
    Effect.gen(function*() {
      const spans = yield* Spans.Spans
      const client = yield* RedisClient
      const rejoins = Effect.map(
        Metric.value(Metric.counter("effect_redis_presence_rejoins_total", {
          description: "Connections that were found to be gone, and have joined again",
          incremental: true
        })),
        ({ count }) => count
      )
      const before = yield* rejoins
      yield* Presence.join(Rooms, "room", "ada")
      yield* Presence.members(Rooms, "room")
      yield* client.del("presence:{rooms:room}:connections")
      yield* TestClock.adjust("4 seconds")
      assert.strictEqual(yield* rejoins, before + 1)
      const all = (yield* spans.all).filter(({ name }) => name.startsWith("presence."))
      assert.deepStrictEqual(
        all.map(({ attributes, name }) => [
          name,
          attributes.get("effect_redis.presence.name"),
          attributes.get("effect_redis.presence.room")
        ]),
        [["presence.join", "rooms", "room"], ["presence.members", "rooms", "room"]]
      )
    }).pipe(Effect.scoped, Effect.provide(Presence.layerTest), Effect.provide(Spans.layer)))
})
