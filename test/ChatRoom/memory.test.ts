import { assert, describe, it } from "@effect/vitest"
import { Effect, Layer, Metric, Schema } from "effect"
import * as ChatRoom from "../../src/ChatRoom/index.js"
import * as Presence from "../../src/Presence/index.js"
import { RedisTestServer } from "../../src/RedisTestServer.js"
import * as Spans from "../kit/spans.js"

const Rooms = ChatRoom.define({ name: "rooms", message: Schema.String })

describe("ChatRoom, observed", () => {
  it.effect("every write is one round trip, with one span, and messages are counted once", () =>
    Effect.gen(function*() {
      const spans = yield* Spans.Spans
      const server = yield* RedisTestServer
      const count = Effect.map(
        Metric.value(Metric.counter("effect_redis_chat_messages_total", {
          description: "Messages sent to chat rooms",
          incremental: true
        })),
        ({ count }) => count
      )
      const writes = [
        ChatRoom.join(Rooms, "room", "ada"),
        ChatRoom.send(Rooms, "room", "ada", "hello", { id: "1" }),
        ChatRoom.typing(Rooms, "room", "ada"),
        ChatRoom.leave(Rooms, "room", "ada")
      ]
      // The texts of the scripts are sent once.
      for (const write of writes) yield* write
      yield* ChatRoom.join(Rooms, "room", "ada")
      const before = { count: yield* count, sent: (yield* server.journal).length }
      yield* ChatRoom.send(Rooms, "room", "ada", "hello", { id: "2" })
      yield* ChatRoom.send(Rooms, "room", "ada", "hello", { id: "2" })
      yield* ChatRoom.typing(Rooms, "room", "ada")
      yield* ChatRoom.leave(Rooms, "room", "ada")
      assert.strictEqual((yield* server.journal).length, before.sent + 4)
      assert.strictEqual(yield* count, before.count + 1)
      const all = (yield* spans.all).filter(({ name }) => name.startsWith("chat."))
      assert.deepStrictEqual(
        all.map(({ name }) => name),
        [
          "chat.join",
          "chat.send",
          "chat.typing",
          "chat.leave",
          "chat.join",
          "chat.send",
          "chat.send",
          "chat.typing",
          "chat.leave"
        ]
      )
      for (const { attributes } of all) assert.strictEqual(attributes.get("effect_redis.chat.room"), "room")
    }).pipe(Effect.provide(ChatRoom.layerTest), Effect.provide(Spans.layer)))

  it.effect("shares its presence with what is built beside it", () =>
    Effect.gen(function*() {
      yield* ChatRoom.join(Rooms, "room", "ada")
      yield* ChatRoom.enter(Rooms, "room", "ada")
      yield* Presence.join(Rooms.presence, "room", "ada")
      const [first, second] = yield* Presence.connections(Rooms.presence, "room", "ada")
      // The ids begin with the process.
      assert.strictEqual(first!.id.slice(0, 12), second!.id.slice(0, 12))
    }).pipe(Effect.scoped, Effect.provide(Layer.merge(ChatRoom.layerTest, Presence.layerTest))))
})
