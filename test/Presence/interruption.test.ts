import { Effect, Stream } from "effect"
import * as Presence from "../../src/Presence/index.js"
import { interruptions } from "../kit/interruption.js"

const scoped = <A, E, R>(effect: Effect.Effect<A, E, R>) => Effect.scoped(Effect.zipRight(effect, Effect.yieldNow()))

// Often enough for heartbeats to be among what is interrupted.
const Rooms = Presence.define({ name: "interrupted", ttl: "100 millis", lastSeen: 0 })

interruptions({
  // Each of them is several commands with heartbeats between.
  times: 150,
  layer: Presence.layer,
  keys: "presence:",
  competitor: (room) => scoped(Presence.join(Rooms, room, "bob")),
  forms: {
    "join": (room) => scoped(Presence.join(Rooms, room, "ada")),
    "join and stay": (room) => Effect.scoped(Effect.zipRight(Presence.join(Rooms, room, "ada"), Effect.never)),
    "leave": (room) => scoped(Effect.flatMap(Presence.join(Rooms, room, "ada"), ({ leave }) => leave)),
    "subscribe": (room) => scoped(Presence.subscribe(Rooms, room)),
    "events": (room) => Stream.runDrain(Presence.events(Rooms, room))
  }
})
