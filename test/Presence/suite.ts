import { assert, layer } from "@effect/vitest"
import {
  Chunk,
  DateTime,
  Effect,
  Either,
  ExecutionStrategy,
  Exit,
  Fiber,
  Layer,
  Option,
  Queue,
  Schema,
  Scope,
  Stream
} from "effect"
import * as Presence from "../../src/Presence/index.js"
import { keyOf, keysOf } from "../../src/Presence/scripts.js"
import { RedisClient } from "../../src/RedisClient.js"
import type { RedisError } from "../../src/RedisError.js"
import { error, fresh, type Time, until } from "../kit/suites.js"

const Rooms = Presence.define({ name: "rooms", meta: Schema.Struct({ device: Schema.String }), ttl: "1 second" })

const Plain = Presence.define({ name: "plain", ttl: "20 seconds", lastSeen: "1 second" })

const anotherProcess: Effect.Effect<Presence.Service, never, RedisClient | Scope.Scope> = Presence.make

/** An event without its time. */
export const shown = (event: Presence.Event): string =>
  event._tag === "Gap" ? "gap" : event._tag === "Joined" ? `${event.user} joined` : `${event.user} ${event.reason}`

/** What was told so far, from now on. */
export const listen = <M>(service: Presence.Service, definition: Presence.Definition<M>, room: string) =>
  Effect.gen(function*() {
    const told: Array<string> = []
    const events = yield* service.subscribe(definition, room)
    yield* Effect.forkScoped(Stream.runForEach(events, (event) => Effect.sync(() => void told.push(shown(event)))))
    return told
  })

/** A connection that can be closed. */
export const open = <M>(
  service: Presence.Service,
  definition: Presence.Definition<M>,
  room: string,
  user: string,
  ...meta: Presence.Meta<M>
) =>
  Effect.gen(function*() {
    const scope = yield* Scope.fork(yield* Effect.scope, ExecutionStrategy.sequential)
    const present = yield* Scope.extend(service.join(definition, room, user, ...meta), scope)
    return { present, close: Scope.close(scope, Exit.void) }
  })

const phone = { device: "phone" }

export const suite = (
  name: string,
  driver: Layer.Layer<RedisClient, RedisError>,
  options: { readonly excludeTestServices?: boolean },
  time: Time
) => {
  const { elapse } = time
  const eventually = until(time)

  layer(Layer.orDie(Layer.provideMerge(Presence.layer, driver)), options)(`Presence, ${name}`, (it) => {
    const told = (all: ReadonlyArray<string>, expected: ReadonlyArray<string>) =>
      Effect.gen(function*() {
        yield* eventually(Effect.sync(() => all.length >= expected.length))
        // Nothing more comes.
        yield* elapse("30 millis")
        assert.deepStrictEqual(all, expected)
      })

    const users = <M>(service: Presence.Service, definition: Presence.Definition<M>, room: string) =>
      Effect.map(service.members(definition, room), ({ members }) => members.map(({ user }) => user))

    it.effect("two tabs are one user: one joins, who stays as long as one of them does", () =>
      Effect.gen(function*() {
        const room = fresh("tabs")
        const [here, there] = [yield* Presence.Presence, yield* anotherProcess]
        const events = yield* listen(there, Rooms, room)
        const first = yield* open(here, Rooms, room, "ada", phone)
        const second = yield* open(there, Rooms, room, "ada", { device: "desk" })
        assert.notStrictEqual(first.present.id, second.present.id)
        assert.deepStrictEqual(yield* here.count(Rooms, room), { users: 1, connections: 2 })
        const connections = yield* Presence.connections(Rooms, room, "ada")
        assert.deepStrictEqual(
          connections.map(({ id, meta }) => [id, Option.getOrThrow(meta).device]).sort(),
          [[first.present.id, "phone"], [second.present.id, "desk"]].sort()
        )
        yield* first.close
        assert.isTrue(yield* Presence.isOnline(Rooms, room, "ada"))
        yield* elapse("30 millis")
        yield* told(events, ["ada joined"])
        yield* second.close
        assert.isFalse(yield* Presence.isOnline(Rooms, room, "ada"))
        yield* told(events, ["ada joined", "ada left"])
        assert.deepStrictEqual(yield* here.count(Rooms, room), { users: 0, connections: 0 })
        const client = yield* RedisClient
        assert.strictEqual(yield* client.exists(...keysOf(keyOf("rooms", room)).slice(0, 4)), 0)
      }).pipe(Effect.scoped))

    it.effect("heartbeats keep a connection for longer than the ttl", () =>
      Effect.gen(function*() {
        const room = fresh("alive")
        const service = yield* Presence.Presence
        const events = yield* listen(service, Rooms, room)
        const { present } = yield* open(service, Rooms, room, "ada", phone)
        const rejoins: Array<number> = []
        yield* Effect.forkScoped(
          Stream.runForEach(present.rejoins, (n) => Effect.sync(() => void rejoins.push(n)))
        )
        for (let i = 0; i < 4; i++) {
          yield* elapse("400 millis")
          assert.isTrue(yield* Presence.isOnline(Rooms, room, "ada"))
        }
        yield* told(events, ["ada joined"])
        assert.deepStrictEqual(rejoins, [])
        const [connection] = yield* Presence.connections(Rooms, room, "ada")
        assert.deepStrictEqual(connection!.since, present.since)
      }).pipe(Effect.scoped))

    it.effect("who vanishes leaves once when the ttl is over, though several look for it", () =>
      Effect.gen(function*() {
        const room = fresh("vanished")
        const services = [yield* Presence.Presence, yield* anotherProcess, yield* anotherProcess]
        const events = yield* Effect.forEach(services, (service) => listen(service, Rooms, room))
        const stays = yield* open(services[0]!, Rooms, room, "stays", phone)
        const ghost = yield* vanish(Rooms, room, "ghost", phone)
        assert.deepStrictEqual(yield* users(services[1]!, Rooms, room), ["ghost", "stays"])
        yield* elapse("1300 millis")
        for (const all of events) yield* told(all, ["stays joined", "ghost joined", "ghost expired"])
        assert.deepStrictEqual(yield* users(services[1]!, Rooms, room), ["stays"])
        assert.isFalse(yield* Presence.isOnline(Rooms, room, "ghost"))
        const seen = Option.getOrThrow(yield* Presence.lastSeen(Rooms, room, "ghost"))
        assert.strictEqual(DateTime.distance(ghost.since, seen), 0)
        yield* stays.close
      }).pipe(Effect.scoped))

    it.effect("a connection that was gone joins again, and is told", () =>
      Effect.gen(function*() {
        const room = fresh("lapse")
        const client = yield* RedisClient
        const service = yield* Presence.Presence
        const events = yield* listen(service, Rooms, room)
        const { close, present } = yield* open(service, Rooms, room, "ada", phone)
        const rejoined = yield* Effect.fork(Stream.runHead(present.rejoins))
        // As after a pause for longer than the ttl: its time is over.
        const [connections] = keysOf(keyOf("rooms", room))
        const [member] = yield* client.zrange(connections!)
        yield* client.zadd(connections!, [[member!, 1]])
        yield* elapse("400 millis")
        assert.deepStrictEqual(yield* Fiber.join(rejoined), Option.some(1))
        yield* told(events, ["ada joined", "ada expired", "ada joined"])
        // As after the loss of all data.
        yield* client.del(...keysOf(keyOf("rooms", room)))
        assert.isFalse(yield* Presence.isOnline(Rooms, room, "ada"))
        yield* elapse("400 millis")
        assert.isTrue(yield* Presence.isOnline(Rooms, room, "ada"))
        assert.deepStrictEqual(yield* Stream.runHead(present.rejoins), Option.some(2))
        const [connection] = yield* Presence.connections(Rooms, room, "ada")
        assert.strictEqual(connection!.id, present.id)
        assert.deepStrictEqual(connection!.meta, Option.some(phone))
        yield* close
        yield* told(events, ["ada joined", "ada expired", "ada joined", "ada joined", "ada left"])
      }).pipe(Effect.scoped))

    it.effect("leaves before the scope closes, and does not come back", () =>
      Effect.gen(function*() {
        const room = fresh("leave")
        const service = yield* Presence.Presence
        const events = yield* listen(service, Rooms, room)
        const { close, present } = yield* open(service, Rooms, room, "ada", phone)
        yield* present.leave
        assert.isFalse(yield* Presence.isOnline(Rooms, room, "ada"))
        yield* elapse("500 millis")
        yield* present.leave
        yield* close
        yield* told(events, ["ada joined", "ada left"])
      }).pipe(Effect.scoped))

    it.effect("the end of a process leaves with its own connections only", () =>
      Effect.gen(function*() {
        const room = fresh("shutdown")
        const here = yield* Presence.Presence
        const scope = yield* Scope.make()
        const there = yield* Scope.extend(anotherProcess, scope)
        const events = yield* listen(here, Plain, room)
        yield* open(here, Plain, room, "ada")
        yield* Effect.forEach(["ada", "bob", "cy"], (user) => Scope.extend(there.join(Plain, room, user), scope))
        assert.deepStrictEqual(yield* users(here, Plain, room), ["ada", "bob", "cy"])
        yield* Scope.close(scope, Exit.void)
        assert.deepStrictEqual(yield* users(here, Plain, room), ["ada"])
        yield* told(events, ["ada joined", "bob joined", "cy joined", "cy left", "bob left"])
      }).pipe(Effect.scoped))

    it.effect("lists everybody page by page, whoever comes and goes meanwhile", () =>
      Effect.gen(function*() {
        const room = fresh("pages")
        const service = yield* Presence.Presence
        // Of two users one can be the beginning of the other.
        const names = Array.from({ length: 45 }, (_, i) => i % 9 === 0 ? "a".repeat(1 + i / 9) : `user ${i}\u0001é`)
        yield* Effect.forEach(names, (user) => service.join(Plain, room, user), { concurrency: "unbounded" })
        yield* service.join(Plain, room, "a")
        const seen: Array<string> = []
        let after: string | undefined
        let pages = 0
        do {
          const { members, next } = yield* service.members(Plain, room, { limit: 10, after })
          for (const { connections, user } of members) {
            seen.push(user)
            if (user === "a") assert.strictEqual(connections.length, 2)
          }
          after = Option.getOrUndefined(next)
          pages++
          if (pages === 1) yield* service.join(Plain, room, "A")
          if (pages === 2) yield* service.join(Plain, room, "zoe")
        } while (after !== undefined)
        const bytes = (text: string) => Buffer.from(text)
        assert.deepStrictEqual(seen, [...names, "zoe"].sort((a, b) => Buffer.compare(bytes(a), bytes(b))))
        assert.strictEqual(pages, 5)
        const all = yield* Stream.runCollect(Presence.allMembers(Plain, room))
        assert.strictEqual(Chunk.size(all), 47)
        assert.deepStrictEqual(yield* Presence.count(Plain, room), { users: 47, connections: 48 })
      }).pipe(Effect.scoped))

    it.effect("remembers for a while when somebody was last seen", () =>
      Effect.gen(function*() {
        const room = fresh("seen")
        const service = yield* Presence.Presence
        assert.deepStrictEqual(yield* Presence.lastSeen(Plain, room, "ada"), Option.none())
        const { close, present } = yield* open(service, Plain, room, "ada")
        assert.deepStrictEqual(yield* Presence.lastSeen(Plain, room, "ada"), Option.some(present.since))
        yield* elapse("300 millis")
        yield* close
        const left = Option.getOrThrow(yield* Presence.lastSeen(Plain, room, "ada"))
        assert.isAtLeast(DateTime.distance(present.since, left), 290)
        yield* elapse("1100 millis")
        assert.deepStrictEqual(yield* Presence.lastSeen(Plain, room, "ada"), Option.none())
        const client = yield* RedisClient
        assert.strictEqual(yield* client.exists(...keysOf(keyOf("plain", room))), 0)
        const off = Presence.define({ name: "plain", lastSeen: 0 })
        yield* Effect.scoped(service.join(off, room, "bob"))
        assert.deepStrictEqual(yield* Presence.lastSeen(off, room, "bob"), Option.none())
        assert.strictEqual(yield* client.exists(...keysOf(keyOf("plain", room))), 0)
      }).pipe(Effect.scoped))

    it.effect("more connections than one script takes are kept alive, and removed when their time is over", () =>
      Effect.gen(function*() {
        const room = fresh("crowd")
        const client = yield* RedisClient
        const service = yield* Presence.Presence
        const own = Array.from({ length: 600 }, (_, i) => `u${i % 200}`)
        yield* Effect.forEach(own, (user) => service.join(Rooms, room, user, phone), { concurrency: "unbounded" })
        yield* elapse("1100 millis")
        assert.deepStrictEqual(yield* service.count(Rooms, room), { users: 200, connections: 600 })
        // All of them at once are over, which is more than one script removes.
        const scripted = fresh("dead")
        const [connections, tabs, all, info] = keysOf(keyOf("rooms", scripted))
        const members = Array.from({ length: 350 }, (_, i) => `g${i}\0${String(i).padStart(20, "0")}`)
        yield* client.zadd(connections!, members.map((member) => [member, 1] as const))
        yield* client.zadd(tabs!, members.map((member) => [member, 0] as const))
        yield* client.zadd(all!, members.map((_, i) => [`g${i}`, 0] as const))
        yield* client.hset(info!, Object.fromEntries(members.map((member) => [member, `1 {"device":"x"}`])))
        const gone = yield* client.subscribe({ channels: [`${keyOf("rooms", scripted)}:events`] })
        assert.deepStrictEqual((yield* service.members(Rooms, scripted)).members, [])
        assert.deepStrictEqual(yield* service.count(Rooms, scripted), { users: 0, connections: 0 })
        const left = new Set<string>()
        for (let i = 0; i < 350; i++) {
          const message = yield* Queue.take(gone)
          if (message._tag === "Message") left.add(message.payload.split(" ")[3]!)
        }
        assert.strictEqual(left.size, 350)
        assert.strictEqual(yield* client.exists(connections!, tabs!, all!, info!), 0)
      }).pipe(Effect.scoped))

    it.effect("keeps rooms apart, whatever they are called", () =>
      Effect.gen(function*() {
        const service = yield* Presence.Presence
        const base = fresh("}{:%")
        const define = (name: string) => Presence.define({ name })
        const places = [["a:b", base], ["a", `b:${base}`], ["a%3Ab", base], ["a", `b%3A${base}`], ["A", base]] as const
        for (const [i, [name, room]] of places.entries()) {
          yield* service.join(define(name), room, `user of ${i}`)
        }
        for (const [i, [name, room]] of places.entries()) {
          assert.deepStrictEqual(yield* users(service, define(name), room), [`user of ${i}`])
        }
      }).pipe(Effect.scoped))

    it.effect("what is of another shape is none, and stops nothing", () =>
      Effect.gen(function*() {
        const room = fresh("meta")
        const service = yield* Presence.Presence
        const events = yield* listen(service, Rooms, room)
        const old = Presence.define({ name: "rooms", meta: Schema.Number })
        yield* service.join(old, room, "old", 7)
        yield* service.join(Rooms, room, "new", phone)
        const { members } = yield* Presence.members(Rooms, room)
        assert.deepStrictEqual(
          members.map(({ connections, user }) => [user, connections[0]!.meta]),
          [["new", Option.some(phone)], ["old", Option.none()]]
        )
        const client = yield* RedisClient
        for (const text of ["", "joined", "joined x ada", "left away 1 ada", "joined 99999999999999999999 ada"]) {
          yield* client.publish(`${keyOf("rooms", room)}:events`, text)
        }
        yield* service.join(Rooms, room, "last one", phone)
        yield* told(events, ["old joined", "new joined", "last one joined"])
      }).pipe(Effect.scoped))

    it.effect("refuses what can't be right, and sends nothing", () =>
      Effect.gen(function*() {
        const service = yield* Presence.Presence
        const bad = (definition: Presence.Definition<void>, room: string, user: string) =>
          Effect.map(error(Effect.scoped(service.join(definition, room, user))), (failure) => {
            assert(failure._tag === "RedisInputError")
            return failure.field
          })
        assert.strictEqual(yield* bad(Plain, "", "ada"), "room")
        assert.strictEqual(yield* bad(Plain, "room", ""), "user")
        assert.strictEqual(yield* bad(Plain, "room", "a\0b"), "user")
        assert.strictEqual(yield* bad(Plain, "room", "a\ud800"), "user")
        assert.strictEqual(yield* bad(Presence.define({ name: "" }), "room", "ada"), "name")
        assert.strictEqual(yield* bad(Presence.define({ name: "x", ttl: 0 }), "room", "ada"), "ttl")
        assert.strictEqual(yield* bad(Presence.define({ name: "x", ttl: "99 millis" }), "room", "ada"), "ttl")
        assert.strictEqual(yield* bad(Presence.define({ name: "x", lastSeen: Infinity }), "room", "ada"), "lastSeen")
        const limited = yield* Effect.either(service.members(Plain, "room", { limit: 0 }))
        assert(Either.isLeft(limited) && limited.left._tag === "RedisInputError")
        const secret = Presence.define({ name: "x", meta: Schema.NonEmptyString })
        const failure = yield* error(Effect.scoped(service.join(secret, "room", "ada", "")))
        assert(failure._tag === "RedisInputError")
        assert.strictEqual(failure.field, "meta")
      }))
  })
}

/** Joins, and is never heard of again. */
export const vanish = <M>(definition: Presence.Definition<M>, room: string, user: string, ...meta: Presence.Meta<M>) =>
  Effect.gen(function*() {
    const client = yield* RedisClient
    const mute: typeof client = {
      ...client,
      eval: (script, ...params) => script.name === "presence.join" ? client.eval(script, ...params) : Effect.never
    }
    const service = yield* Effect.provideService(anotherProcess, RedisClient, mute)
    const scope = yield* Scope.make()
    return yield* Scope.extend(service.join(definition, room, user, ...meta), scope)
  })
