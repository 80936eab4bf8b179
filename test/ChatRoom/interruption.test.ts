import { Effect, Schema, Stream } from "effect"
import * as ChatRoom from "../../src/ChatRoom/index.js"
import { interruptions } from "../kit/interruption.js"

const Rooms = ChatRoom.define({
  name: "interrupted",
  message: Schema.String,
  presence: { ttl: "100 millis", lastSeen: 0 }
})

const joined = <A, E, R>(room: string, effect: Effect.Effect<A, E, R>) =>
  Effect.zipRight(ChatRoom.join(Rooms, room, "ada"), effect)

interruptions({
  // Each of them is several commands with heartbeats between.
  times: 150,
  layer: ChatRoom.layer,
  // Members and messages stay, as they should.
  keys: "presence:",
  competitor: (room) => joined(room, ChatRoom.send(Rooms, room, "ada", "hello")),
  forms: {
    "enter": (room) => joined(room, Effect.scoped(Effect.zipRight(ChatRoom.enter(Rooms, room, "ada"), Effect.never))),
    "send": (room) => joined(room, ChatRoom.send(Rooms, room, "ada", "hello")),
    "subscribe": (room) => Effect.scoped(Effect.zipRight(ChatRoom.subscribe(Rooms, room), Effect.yieldNow())),
    "events": (room) => Stream.runDrain(ChatRoom.events(Rooms, room, { from: "start" }))
  }
})
