/**
 * A chat room: who is here, who types, and a client that is cut off and recovers what it has missed.
 */
import { Effect, Fiber, Layer, Schema, Stream } from "effect"
import { ChatRoom, Presence, RedisTestServer } from "effect-redis-kit"

const Support = ChatRoom.define({ name: "support", message: Schema.String, history: { size: 100, ttl: "7 days" } })

const ROOM = "order-42"

const show = (element: ChatRoom.Element<string>): string => {
  switch (element._tag) {
    case "Message":
      return `${element.position.offset}. ${element.user}: ${element.value}`
    case "Undecodable":
      return "a message of another version"
    case "MemberJoined":
      return `${element.user} is a member`
    case "MemberLeft":
      return `${element.user} is no member any more`
    case "Typing":
      return `${element.user} ${element.typing ? "types" : "stopped typing"}`
    case "Recovered":
      return `(back again, with ${element.messages} messages that were missed)`
    case "HistoryLost":
      return "(messages are missing that nobody has any more)"
  }
}

const program = Effect.scoped(Effect.gen(function*() {
  const server = yield* RedisTestServer.RedisTestServer

  const comings = yield* Presence.subscribe(Support.presence, ROOM)
  yield* Effect.forkScoped(Stream.runForEach(comings, (event) => Effect.log(`presence: ${event._tag}`)))

  const screen = yield* ChatRoom.subscribe(Support, ROOM)
  const watching = yield* Effect.fork(
    screen.pipe(
      Stream.map(show),
      Stream.tap(Effect.log),
      Stream.takeUntil((line) => line.includes("bye"))
    ).pipe(Stream.runDrain)
  )

  const refused = yield* Effect.flip(ChatRoom.send(Support, ROOM, "mallory", "let me in"))
  yield* Effect.log(refused.message)

  yield* Effect.forEach(["ada", "bob"], (user) => ChatRoom.join(Support, ROOM, user))
  yield* ChatRoom.enter(Support, ROOM, "ada")
  yield* ChatRoom.typing(Support, ROOM, "ada")
  yield* ChatRoom.send(Support, ROOM, "ada", "Where is my parcel?")
  yield* ChatRoom.typing(Support, ROOM, "ada", false)
  const { members } = yield* ChatRoom.here(Support, ROOM)
  yield* Effect.log(`here: ${members.join(", ")}`)

  // Every connection breaks. What is sent once the first of them are back is read from the history by the others.
  yield* server.disconnect()
  yield* ChatRoom.send(Support, ROOM, "bob", "It left this morning.", { id: "bob-1" })
  // Bob's browser is not sure, and sends it again.
  yield* ChatRoom.send(Support, ROOM, "bob", "It left this morning.", { id: "bob-1" })
  yield* ChatRoom.send(Support, ROOM, "ada", "Thank you, bye")
  yield* Fiber.join(watching)
}))

await Effect.runPromise(program.pipe(Effect.provide(Layer.merge(ChatRoom.layerTest, Presence.layerTest))))
