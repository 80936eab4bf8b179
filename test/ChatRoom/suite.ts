import { assert, layer } from "@effect/vitest"
import { Effect, Either, ExecutionStrategy, Exit, Layer, Option, Schema, Scope, Stream } from "effect"
import * as ChatRoom from "../../src/ChatRoom/index.js"
import { channelOf, keyOf, keysOf } from "../../src/ChatRoom/scripts.js"
import * as Presence from "../../src/Presence/index.js"
import { RedisClient } from "../../src/RedisClient.js"
import type { RedisError } from "../../src/RedisError.js"
import { error, fresh, type Time, until } from "../kit/suites.js"

export const Text = Schema.Struct({ text: Schema.String })

const Rooms = ChatRoom.define({ name: "rooms", message: Text, history: { size: 20, ttl: "1 minute" }, idle: "1 hour" })

/** An element as a short text; a message by its own. */
export const shown = (element: ChatRoom.Element<typeof Text.Type>): string => {
  switch (element._tag) {
    case "Message":
      return element.value.text
    case "Undecodable":
      return "?"
    case "MemberJoined":
      return `+${element.user}`
    case "MemberLeft":
      return `-${element.user}`
    case "Typing":
      return `${element.user} ${element.typing ? "types" : "stops"}`
    case "Recovered":
      return `recovered ${element.messages}`
    case "HistoryLost":
      return `lost ${element.reason} ${Option.getOrElse(element.missed, () => "some")}`
  }
}

export interface Reader {
  readonly seen: Array<string>
  readonly messages: Array<ChatRoom.Message<typeof Text.Type>>
  readonly position: () => ChatRoom.Position | undefined
  readonly close: Effect.Effect<void>
}

/** Reads a room until it is closed. */
export const reader = (
  service: ChatRoom.Service,
  definition: ChatRoom.Definition<typeof Text.Type>,
  room: string,
  options?: ChatRoom.SubscribeOptions
) =>
  Effect.gen(function*() {
    const scope = yield* Scope.fork(yield* Effect.scope, ExecutionStrategy.sequential)
    const seen: Array<string> = []
    const messages: Reader["messages"] = []
    const elements = yield* Scope.extend(service.subscribe(definition, room, options), scope)
    yield* elements.pipe(
      Stream.runForEach((element) =>
        Effect.sync(() => {
          seen.push(shown(element))
          if (element._tag === "Message") messages.push(element)
        })
      ),
      Effect.forkIn(scope)
    )
    const self: Reader = {
      seen,
      messages,
      position: () => messages.at(-1)?.position,
      close: Scope.close(scope, Exit.void)
    }
    return self
  })

const numbers = (from: number, to: number) => Array.from({ length: to - from + 1 }, (_, i) => String(from + i))

export const suite = (
  name: string,
  driver: Layer.Layer<RedisClient, RedisError>,
  options: { readonly excludeTestServices?: boolean },
  time: Time
) => {
  const { elapse } = time
  const eventually = until(time)

  layer(Layer.orDie(Layer.provideMerge(ChatRoom.layer, Layer.provideMerge(Presence.layer, driver))), options)(
    `ChatRoom, ${name}`,
    (it) => {
      const saw = (reader: Reader, expected: ReadonlyArray<string>) =>
        Effect.gen(function*() {
          // On a Cluster who has joined just before can still be told to who has subscribed on another node.
          const seen = () => reader.seen.filter((text) => !text.startsWith("+") || expected.includes(text))
          yield* eventually(Effect.sync(() => seen().length >= expected.length))
          yield* elapse("20 millis")
          assert.deepStrictEqual(seen(), expected)
        })

      const subscribed = (
        service: ChatRoom.Service,
        room: string,
        options?: ChatRoom.SubscribeOptions,
        definition = Rooms
      ) => reader(service, definition, room, options)

      /** A room of ada's with somebody who listens, and where it is stored. */
      const listened = (name: string) =>
        Effect.gen(function*() {
          const room = fresh(name)
          const client = yield* RedisClient
          yield* ChatRoom.join(Rooms, room, "ada")
          const listener = yield* subscribed(yield* ChatRoom.ChatRoom, room)
          const [, meta = "", history = ""] = keysOf(keyOf("rooms", room))
          return { client, history, listener, meta, room }
        })

      const say = (room: string, user: string, text: string, options?: { readonly id?: string }) =>
        ChatRoom.send(Rooms, room, user, { text }, options)

      const sayAll = (room: string, user: string, from: number, to: number) =>
        Effect.forEach(numbers(from, to), (text) => say(room, user, text))

      it.effect("members send, are heard, and are refused when they are no members", () =>
        Effect.gen(function*() {
          const room = fresh("talk")
          const service = yield* ChatRoom.ChatRoom
          const listener = yield* subscribed(service, room)
          const refused = yield* error(say(room, "ada", "too early"))
          assert(refused._tag === "NotAMember")
          assert.deepStrictEqual(
            [refused.name, refused.room, refused.user, refused.message],
            ["rooms", room, "ada", `"ada" is not a member of the room "${room}"`]
          )
          assert.strictEqual((yield* error(ChatRoom.typing(Rooms, room, "ada")))._tag, "NotAMember")
          assert.strictEqual((yield* error(Effect.scoped(ChatRoom.enter(Rooms, room, "ada"))))._tag, "NotAMember")
          yield* ChatRoom.join(Rooms, room, "ada")
          yield* ChatRoom.join(Rooms, room, "ada")
          assert.isTrue(yield* ChatRoom.isMember(Rooms, room, "ada"))
          yield* ChatRoom.typing(Rooms, room, "ada")
          yield* ChatRoom.typing(Rooms, room, "ada", false)
          const first = yield* say(room, "ada", "hello\nthere {\"é\"}")
          const second = yield* say(room, "ada", "")
          assert.strictEqual(first.position.offset, 1)
          assert.deepStrictEqual(second.position, { epoch: first.position.epoch, offset: 2 })
          yield* ChatRoom.leave(Rooms, room, "ada")
          yield* ChatRoom.leave(Rooms, room, "ada")
          assert.isFalse(yield* ChatRoom.isMember(Rooms, room, "ada"))
          assert.strictEqual((yield* error(say(room, "ada", "too late")))._tag, "NotAMember")
          yield* saw(listener, ["+ada", "ada types", "ada stops", "hello\nthere {\"é\"}", "", "-ada"])
          const [message] = listener.messages
          assert.deepStrictEqual([message!.user, message!.id, message!.position], ["ada", first.id, first.position])
          const { messages, position } = yield* ChatRoom.history(Rooms, room)
          assert.deepStrictEqual(messages, listener.messages)
          assert.deepStrictEqual(position, second.position)
        }).pipe(Effect.scoped))

      it.effect("lists members page by page, and who of them is here", () =>
        Effect.gen(function*() {
          const room = fresh("members")
          const names = Array.from({ length: 25 }, (_, i) => `user ${String(i).padStart(2, "0")}`)
          yield* Effect.forEach(names, (user) => ChatRoom.join(Rooms, room, user))
          const seen: Array<string> = []
          let after: string | undefined
          do {
            const page = yield* ChatRoom.members(Rooms, room, { limit: 10, after })
            seen.push(...page.members)
            after = Option.getOrUndefined(page.next)
          } while (after !== undefined)
          assert.deepStrictEqual(seen, names)
          assert.strictEqual(yield* ChatRoom.memberCount(Rooms, room), 25)
          assert.deepStrictEqual(yield* ChatRoom.here(Rooms, room), { members: [], next: Option.none() })
          yield* Effect.gen(function*() {
            yield* ChatRoom.enter(Rooms, room, "user 07")
            yield* ChatRoom.enter(Rooms, room, "user 07")
            yield* ChatRoom.enter(Rooms, room, "user 21")
            assert.deepStrictEqual((yield* ChatRoom.here(Rooms, room)).members, ["user 07", "user 21"])
            // It is presence like any other.
            assert.deepStrictEqual(yield* Presence.count(Rooms.presence, room), { users: 2, connections: 3 })
          }).pipe(Effect.scoped)
          assert.deepStrictEqual((yield* ChatRoom.here(Rooms, room)).members, [])
        }))

      it.effect("everybody hears everything in the order of the history, whoever sends at the same time", () =>
        Effect.gen(function*() {
          const room = fresh("order")
          const Wide = ChatRoom.define({ name: "wide", message: Text, history: { size: 1000 } })
          const presence = yield* Presence.Presence
          const client = yield* RedisClient
          const service = yield* ChatRoom.ChatRoom
          const another = Effect.provideService(
            Effect.provideService(ChatRoom.make, Presence.Presence, presence),
            RedisClient,
            client
          )
          const services = [service, yield* another, yield* another]
          const listeners = yield* Effect.forEach(services, (service) => subscribed(service, room, {}, Wide))
          yield* Effect.forEach(services, (_, i) => service.join(Wide, room, `sender ${i}`))
          yield* Effect.forEach(
            Array.from({ length: 300 }, (_, i) => i),
            (i) => services[i % 3]!.send(Wide, room, `sender ${i % 3}`, { text: `${i}` }),
            { concurrency: 30, discard: true }
          )
          const { messages } = yield* service.history(Wide, room, { limit: 1000 })
          assert.deepStrictEqual(messages.map(({ position }) => position.offset), numbers(1, 300).map(Number))
          for (const listener of listeners) {
            yield* eventually(Effect.sync(() => listener.messages.length >= 300))
            assert.deepStrictEqual(listener.messages, messages)
          }
        }).pipe(Effect.scoped))

      it.effect("goes on behind any position, from the start, or from now", () =>
        Effect.gen(function*() {
          const room = fresh("from")
          const service = yield* ChatRoom.ChatRoom
          const early = yield* subscribed(service, room, { from: "start" })
          const empty = (yield* ChatRoom.history(Rooms, room)).position
          assert.deepStrictEqual(empty, { epoch: "", offset: 0 })
          yield* ChatRoom.join(Rooms, room, "ada")
          yield* sayAll(room, "ada", 1, 5)
          const { position } = yield* say(room, "ada", "6")
          yield* sayAll(room, "ada", 7, 9)
          const all = yield* subscribed(service, room, { from: "start" })
          const some = yield* subscribed(service, room, { from: position })
          const none = yield* subscribed(service, room)
          const old = yield* subscribed(service, room, { from: empty })
          yield* say(room, "ada", "10")
          yield* saw(all, numbers(1, 10))
          yield* saw(some, numbers(7, 10))
          yield* saw(none, ["10"])
          yield* saw(old, numbers(1, 10))
          yield* saw(early, ["+ada", ...numbers(1, 10)])
        }).pipe(Effect.scoped))

      it.effect("who comes back behind what was trimmed is told how much, and gets the rest", () =>
        Effect.gen(function*() {
          const room = fresh("trimmed")
          const service = yield* ChatRoom.ChatRoom
          yield* ChatRoom.join(Rooms, room, "ada")
          const sent = yield* sayAll(room, "ada", 1, 35)
          const back = (n: number) => subscribed(service, room, { from: sent[n - 1]!.position })
          yield* saw(yield* back(15), numbers(16, 35))
          yield* saw(yield* back(10), ["lost trimmed 5", ...numbers(16, 35)])
          yield* saw(yield* subscribed(service, room, { from: { epoch: "", offset: 0 } }), [
            "lost trimmed 15",
            ...numbers(16, 35)
          ])
          yield* saw(yield* subscribed(service, room, { from: "start" }), numbers(16, 35))
          const client = yield* RedisClient
          const [, , history] = keysOf(keyOf("rooms", room))
          assert.strictEqual(yield* client.send("XLEN", client.key(history!)), 20)
          // As when its time is over.
          yield* client.del(history!)
          const late = yield* back(33)
          yield* saw(late, ["lost trimmed 2"])
          yield* say(room, "ada", "36")
          yield* saw(late, ["lost trimmed 2", "36"])
        }).pipe(Effect.scoped))

      it.effect("a subscription that runs is told when the count was lost, and goes on", () =>
        Effect.gen(function*() {
          const room = fresh("epoch")
          const client = yield* RedisClient
          const service = yield* ChatRoom.ChatRoom
          const first = yield* subscribed(service, room)
          yield* ChatRoom.join(Rooms, room, "ada")
          // On a Cluster, who subscribes may still hear what was told just before.
          yield* saw(first, ["+ada"])
          const listener = yield* subscribed(service, room)
          const before = yield* say(room, "ada", "1")
          yield* saw(listener, ["1"])
          yield* client.del(...keysOf(keyOf("rooms", room)))
          yield* ChatRoom.join(Rooms, room, "ada")
          const after = yield* say(room, "ada", "one")
          assert.notStrictEqual(after.position.epoch, before.position.epoch)
          assert.strictEqual(after.position.offset, 1)
          yield* saw(listener, ["1", "+ada", "lost epoch some", "one", "recovered 1"])
          yield* say(room, "ada", "two")
          yield* saw(listener, ["1", "+ada", "lost epoch some", "one", "recovered 1", "two"])
          const late = yield* subscribed(service, room, { from: before.position })
          yield* saw(late, ["lost epoch some", "one", "two"])
          const unknown = yield* subscribed(service, room, { from: { epoch: after.position.epoch, offset: 999 } })
          yield* saw(unknown, ["lost epoch some"])
          // The count alone is lost: what is left would have numbers that come again.
          const [, meta] = keysOf(keyOf("rooms", room))
          yield* client.del(meta!)
          const third = yield* say(room, "ada", "new", { id: "x" })
          assert.strictEqual(third.position.offset, 1)
          const { messages } = yield* ChatRoom.history(Rooms, room)
          assert.deepStrictEqual(messages.map(shown), ["new"])
        }).pipe(Effect.scoped))

      it.effect("what was stored and did not arrive is read from the history, and what arrives again is skipped", () =>
        Effect.gen(function*() {
          const { client, history, listener, meta, room } = yield* listened("hole")
          const { position: { epoch } } = yield* say(room, "ada", "1")
          yield* saw(listener, ["1"])
          // The second message is stored, and nobody hears of it.
          yield* client.hincrBy(meta, "offset", 1)
          const body = JSON.stringify(["x", "ada", { text: "2" }])
          yield* client.send("XADD", client.key(history), "2-0", "t", 1, "b", body)
          yield* say(room, "ada", "3")
          yield* saw(listener, ["1", "2", "3", "recovered 2"])
          yield* client.publish(channelOf(keyOf("rooms", room)), `message ${epoch} 2 1 1 ${body}`)
          yield* say(room, "ada", "4")
          yield* saw(listener, ["1", "2", "3", "recovered 2", "4"])
        }).pipe(Effect.scoped))

      it.effect("who knows less than was told is asked again, without another message", () =>
        Effect.gen(function*() {
          const { client, history, listener, meta, room } = yield* listened("late")
          const { position: { epoch } } = yield* say(room, "ada", "1")
          yield* saw(listener, ["1"])
          const body = JSON.stringify(["x", "ada", { text: "2" }])
          yield* client.publish(channelOf(keyOf("rooms", room)), `message ${epoch} 2 1 2 ${body}`)
          // It is looked for in vain.
          yield* elapse("100 millis")
          yield* client.transaction([
            ["HINCRBY", client.key(meta), "offset", 1],
            ["XADD", client.key(history), "2-0", "t", 2, "b", body]
          ])
          yield* saw(listener, ["1", "2", "recovered 1"])
        }).pipe(Effect.scoped))

      it.effect("a message that follows another one than was heard is told as a loss", () =>
        Effect.gen(function*() {
          const { client, history, listener, meta, room } = yield* listened("fork")
          yield* say(room, "ada", "1")
          yield* say(room, "ada", "2")
          yield* saw(listener, ["1", "2"])
          // The new master has another second message, and whoever listens was not told of a break.
          yield* client.del(history)
          const body = JSON.stringify(["x", "ada", { text: "other" }])
          yield* client.send("XADD", client.key(history), "2-0", "t", 77, "b", body)
          yield* client.hset(meta, { at: "77" })
          yield* say(room, "ada", "3")
          yield* saw(listener, ["1", "2", "lost epoch some", "3", "recovered 1"])
        }).pipe(Effect.scoped))

      it.effect("a message with the same id of the same user is sent once", () =>
        Effect.gen(function*() {
          const room = fresh("twice")
          const service = yield* ChatRoom.ChatRoom
          yield* ChatRoom.join(Rooms, room, "ada")
          yield* ChatRoom.join(Rooms, room, "bob")
          const listener = yield* subscribed(service, room)
          const results = yield* Effect.forEach(
            numbers(1, 20),
            () => say(room, "ada", "once", { id: "m1" }),
            { concurrency: "unbounded" }
          )
          assert.strictEqual(results.filter(({ duplicate }) => !duplicate).length, 1)
          for (const { position } of results) assert.deepStrictEqual(position, results[0]!.position)
          // Another user's ids are another user's.
          const other = yield* say(room, "bob", "mine", { id: "m1" })
          assert.isFalse(other.duplicate)
          yield* saw(listener, ["once", "mine"])
          // Also when it is trimmed already.
          yield* sayAll(room, "bob", 1, 25)
          assert.isTrue((yield* say(room, "ada", "once", { id: "m1" })).duplicate)
        }).pipe(Effect.scoped))

      it.effect("pages back through the history", () =>
        Effect.gen(function*() {
          const room = fresh("history")
          yield* ChatRoom.join(Rooms, room, "ada")
          yield* sayAll(room, "ada", 1, 20)
          const pages: Array<ReadonlyArray<string>> = []
          let before: number | undefined
          do {
            const { messages, position } = yield* ChatRoom.history(Rooms, room, { limit: 8, before })
            assert.strictEqual(position.offset, 20)
            pages.push(messages.map(shown))
            before = messages[0]?.position.offset
          } while (before !== undefined)
          assert.deepStrictEqual(pages, [numbers(13, 20), numbers(5, 12), numbers(1, 4), []])
        }))

      it.effect("what can't be read stands in its place, and what others publish is nobody's business", () =>
        Effect.gen(function*() {
          const room = fresh("shape")
          const client = yield* RedisClient
          const service = yield* ChatRoom.ChatRoom
          const Old = ChatRoom.define({ name: "rooms", message: Schema.Number, history: Rooms.history })
          yield* ChatRoom.join(Rooms, room, "ada")
          const listener = yield* subscribed(service, room)
          const { position: { epoch } } = yield* say(room, "ada", "1")
          yield* ChatRoom.send(Old, room, "ada", 2)
          const channel = channelOf(keyOf("rooms", room))
          for (
            const text of [
              "",
              "message",
              "message x y z",
              `message ${epoch} 3 1 99999999999999999999 []`,
              "typing 1",
              "joined 99999999999999999999 x",
              "left x x"
            ]
          ) {
            yield* client.publish(channel, text)
          }
          yield* say(room, "ada", "3")
          yield* saw(listener, ["1", "?", "3"])
          assert.deepStrictEqual((yield* ChatRoom.history(Rooms, room)).messages.map(shown), ["1", "?", "3"])
        }).pipe(Effect.scoped))

      it.effect("a reader that is too slow harms nobody, and reads the rest from the history", () =>
        Effect.gen(function*() {
          const room = fresh("slow")
          const Wide = ChatRoom.define({ name: "wide", message: Text, history: { size: 500 } })
          const service = yield* ChatRoom.ChatRoom
          const fast = yield* subscribed(service, room, {}, Wide)
          yield* service.join(Wide, room, "ada")
          const gate = yield* Effect.makeSemaphore(1)
          yield* gate.take(1)
          const slow: Array<string> = []
          const elements = yield* service.subscribe(Wide, room, { from: "start", capacity: 10 })
          yield* elements.pipe(
            Stream.runForEach((element) => gate.withPermits(1)(Effect.sync(() => void slow.push(shown(element))))),
            Effect.forkScoped
          )
          yield* Effect.forEach(numbers(1, 300), (text) => service.send(Wide, room, "ada", { text }), {
            concurrency: 1,
            discard: true
          })
          yield* eventually(Effect.sync(() => fast.messages.length >= 300))
          assert.deepStrictEqual(fast.seen, ["+ada", ...numbers(1, 300)])
          yield* gate.release(1)
          yield* eventually(Effect.sync(() => slow.some((text) => text.startsWith("recovered"))))
          // On a Cluster the second to subscribe may still hear what was told just before.
          assert.deepStrictEqual(slow.filter((text) => !/^(recovered|\+ada$)/.test(text)), numbers(1, 300))
        }).pipe(Effect.scoped))

      it.effect("refuses what can't be right", () =>
        Effect.gen(function*() {
          const field = <A, E extends { readonly _tag: string }, R>(effect: Effect.Effect<A, E, R>) =>
            Effect.map(error(effect), (failure) => "field" in failure ? failure.field : failure._tag)
          const define = (options: Partial<Parameters<typeof ChatRoom.define>[0]>) =>
            ChatRoom.define({ name: "bad", message: Schema.Any, ...options })
          const join = (definition: ChatRoom.Definition<any>) => ChatRoom.join(definition, "room", "ada")
          assert.strictEqual(yield* field(join(define({ name: "" }))), "name")
          assert.strictEqual(yield* field(join(define({ history: { size: 0 } }))), "history.size")
          assert.strictEqual(yield* field(join(define({ history: { size: 1e9 } }))), "history.size")
          assert.strictEqual(yield* field(join(define({ history: { ttl: 0 } }))), "history.ttl")
          assert.strictEqual(yield* field(join(define({ idle: Infinity }))), "idle")
          assert.strictEqual(yield* field(ChatRoom.join(Rooms, "", "ada")), "room")
          assert.strictEqual(yield* field(ChatRoom.join(Rooms, "room", "a\0")), "user")
          assert.strictEqual(yield* field(ChatRoom.members(Rooms, "room", { limit: 1001 })), "limit")
          assert.strictEqual(yield* field(ChatRoom.history(Rooms, "room", { limit: 0 })), "limit")
          assert.strictEqual(yield* field(ChatRoom.history(Rooms, "room", { before: -1 })), "before")
          assert.strictEqual(yield* field(ChatRoom.send(Rooms, "room", "ada", { text: "" }, { id: "" })), "id")
          const Secret = ChatRoom.define({ name: "bad", message: Schema.String.pipe(Schema.maxLength(3)) })
          const failure = yield* error(ChatRoom.send(Secret, "room", "ada", "secret"))
          assert(failure._tag === "RedisInputError")
          assert.strictEqual(failure.field, "message")
          assert.notInclude(failure.message, "secret")
          const from = yield* Effect.either(
            Stream.runDrain(ChatRoom.events(Rooms, "room", { from: { epoch: "x", offset: -1 } }))
          )
          assert(Either.isLeft(from) && from.left._tag === "RedisInputError")
        }))
    }
  )
}
