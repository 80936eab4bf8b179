import { assert, describe, it } from "@effect/vitest"
import { Effect, Either, Fiber, Layer, Option, Queue, Redacted, Stream, TestClock } from "effect"
import { layer as redis } from "../../src/IoRedis.js"
import { RedisClient } from "../../src/RedisClient.js"
import { Fault, RedisTestServer } from "../../src/RedisTestServer.js"
import * as Session from "../../src/Session/index.js"
import * as scripts from "../../src/Session/scripts.js"
import * as FaultProxy from "../kit/FaultProxy.js"
import * as RealServer from "../kit/RealServer.js"
import * as Worker from "../kit/worker.js"
import { data, open } from "./suite.js"
import type { Task } from "./worker.js"

const services = (url: string) =>
  Layer.provideMerge(Session.layer, redis({ url: Redacted.make(url), commandTimeout: "3 seconds" }))

const keys = Effect.flatMap(RedisTestServer, (server) => server.keys)

const calls = (sha: string) =>
  Effect.flatMap(
    RedisTestServer,
    (server) => Effect.map(server.journal, (all) => all.filter(({ args }) => args[1] === sha).length)
  )

/** The server knows the script of a login, so that the next reply is that of the login itself. */
const warm = <A extends object>(sessions: Session.Sessions<A>, data: A) =>
  Effect.gen(function*() {
    yield* sessions.create({ userId: "warm", data })
    yield* sessions.deleteForUser("warm")
  })

/** Lets everything happen that is underway. */
const turn = TestClock.adjust("1 minute")

const away = Fault.loseReply({ times: 100 })

describe("Session under faults, in memory", () => {
  it.effect("a login whose reply is lost once is one session, and its user gets the token", () =>
    Effect.gen(function*() {
      const server = yield* RedisTestServer
      const sessions = yield* open("lost", { maxPerUser: 2 })
      yield* warm(sessions, data)
      for (let i = 0; i < 4; i++) {
        yield* server.inject(Fault.loseReply({ command: scripts.create.sha }))
        const login = yield* Effect.fork(sessions.create({ userId: "u", data }))
        yield* turn
        const { session, token } = yield* Fiber.join(login)
        assert.deepStrictEqual(yield* sessions.get(token), session)
        assert.strictEqual(yield* sessions.count("u"), Math.min(2, i + 1))
      }
      assert.isAbove(yield* calls(scripts.create.sha), 7)
    }).pipe(Effect.provide(Session.layerTest)))

  it.effect("a login whose outcome stays unknown is taken back", () =>
    Effect.gen(function*() {
      const server = yield* RedisTestServer
      const sessions = yield* open("unknown", { watchExpiry: true })
      yield* warm(sessions, data)
      yield* server.inject({ ...away, command: scripts.create.sha })
      const login = yield* Effect.fork(Effect.flip(sessions.create({ userId: "u", data })))
      yield* turn
      assert.strictEqual((yield* Fiber.join(login))._tag, "RedisOutcomeUnknownError")
      assert.deepStrictEqual(yield* keys, [])
    }).pipe(Effect.provide(Session.layerTest)))

  it.effect("a login that is interrupted is taken back, also when the server is slow", () =>
    Effect.gen(function*() {
      const server = yield* RedisTestServer
      const sessions = yield* open("interrupted")
      yield* warm(sessions, data)
      for (const delay of ["10 millis", "3 seconds"] as const) {
        yield* server.inject(Fault.delay(delay, { command: scripts.create.sha }))
        const login = yield* Effect.fork(sessions.create({ userId: "u", data }))
        yield* TestClock.adjust("5 millis")
        const interrupting = yield* Effect.fork(Fiber.interrupt(login))
        // The caller is not held up by a server that is slow.
        yield* TestClock.adjust("600 millis")
        assert.isTrue(Option.isSome(yield* Fiber.poll(interrupting)))
        yield* turn
        assert.deepStrictEqual(yield* keys, [])
      }
    }).pipe(Effect.provide(Session.layerTest)))

  it.effect("a rotation whose reply is lost once is one rotation", () =>
    Effect.gen(function*() {
      const server = yield* RedisTestServer
      const sessions = yield* open("rotation")
      const first = yield* sessions.create({ userId: "u", data })
      const { token } = yield* sessions.rotate(first.token)
      yield* server.inject(Fault.loseReply({ command: scripts.rotate.sha }))
      const rotating = yield* Effect.fork(sessions.rotate(token))
      yield* turn
      const next = yield* Fiber.join(rotating)
      assert.isTrue(yield* sessions.isValid(next.token))
      assert.isFalse(yield* sessions.isValid(token))
      assert.strictEqual(yield* sessions.count("u"), 1)
    }).pipe(Effect.provide(Session.layerTest)))

  it.effect("a rotation that fails or is interrupted leaves the token as good as it was", () =>
    Effect.gen(function*() {
      const server = yield* RedisTestServer
      for (const rotateGrace of [0, "1 hour"] as const) {
        const sessions = yield* open("undone", { rotateGrace })
        const first = yield* sessions.create({ userId: "u", data })
        // The server knows the script.
        const { session, token } = yield* sessions.rotate(first.token)
        yield* server.inject({ ...away, command: scripts.rotate.sha })
        const rotating = yield* Effect.fork(Effect.flip(sessions.rotate(token)))
        yield* turn
        assert.strictEqual((yield* Fiber.join(rotating))._tag, "RedisOutcomeUnknownError")
        yield* server.clearFaults
        assert.strictEqual((yield* sessions.get(token)).id, session.id)
        yield* server.inject(Fault.delay("10 millis", { command: scripts.rotate.sha }))
        const second = yield* Effect.fork(sessions.rotate(token))
        yield* TestClock.adjust("5 millis")
        const interrupting = yield* Effect.fork(Fiber.interrupt(second))
        yield* turn
        yield* Fiber.join(interrupting)
        assert.strictEqual((yield* sessions.get(token)).id, session.id)
        assert.strictEqual((yield* sessions.listForUser("u")).length, 1)
        assert.isTrue(yield* sessions.isValid((yield* sessions.rotate(token)).token))
      }
    }).pipe(Effect.provide(Session.layerTest)))

  it.effect("an update is sent once, and a logout until it is known to have happened", () =>
    Effect.gen(function*() {
      const server = yield* RedisTestServer
      const sessions = yield* open("once")
      const { token } = yield* sessions.create({ userId: "u", data })
      yield* sessions.update(token, { visits: 2 })
      yield* server.inject(Fault.loseReply({ command: scripts.update.sha }))
      const before = yield* calls(scripts.update.sha)
      const updating = yield* Effect.fork(Effect.flip(sessions.update(token, { visits: 3 })))
      yield* turn
      assert.strictEqual((yield* Fiber.join(updating))._tag, "RedisOutcomeUnknownError")
      assert.strictEqual(yield* calls(scripts.update.sha), before + 1)
      yield* server.inject(Fault.disconnectBefore({ command: scripts.remove.sha }))
      const leaving = yield* Effect.fork(sessions.delete(token))
      yield* turn
      assert.isTrue(yield* Fiber.join(leaving))
      assert.deepStrictEqual(yield* keys, [])
    }).pipe(Effect.provide(Session.layerTest)))

  it.effect("a server that is full, a replica, or away gives typed errors, and logins that exist go on", () =>
    Effect.gen(function*() {
      const server = yield* RedisTestServer
      const sessions = yield* open("states", { touchEvery: 0 })
      const { token } = yield* sessions.create({ userId: "u", data })
      const outcome = <A, E extends { readonly _tag: string }>(effect: Effect.Effect<A, E>) =>
        Effect.gen(function*() {
          const fiber = yield* Effect.fork(Effect.either(effect))
          yield* turn
          const result = yield* Fiber.join(fiber)
          return Either.isRight(result) ? "fine" : result.left._tag
        })
      yield* server.become("out-of-memory")
      assert.strictEqual(yield* outcome(sessions.create({ userId: "u", data })), "RedisReplyError")
      assert.strictEqual(yield* outcome(sessions.get(token)), "fine")
      assert.strictEqual(yield* sessions.count("u"), 1)
      yield* server.become("read-only")
      assert.strictEqual(yield* outcome(sessions.get(token)), "fine")
      assert.strictEqual(yield* outcome(sessions.touch(token)), "RedisReplyError")
      assert.strictEqual(yield* outcome(sessions.delete(token)), "RedisReplyError")
      yield* server.become("normal")
      yield* server.disconnect({ downtime: "10 minutes" })
      for (
        const operation of [sessions.get(token), sessions.touch(token), sessions.rotate(token), sessions.count("u")]
      ) {
        assert.strictEqual(
          yield* outcome<unknown, Session.LookupError | Session.SessionLimitReached>(operation),
          "RedisConnectionError"
        )
      }
      yield* TestClock.adjust("10 minutes")
      assert.strictEqual(yield* outcome(sessions.delete(token)), "fine")
    }).pipe(Effect.provide(Session.layerTest)))
})

describe("Session under faults, live", () => {
  it.live(
    "twenty logins by four processes with a limit of five leave five, and fifteen are reported",
    () =>
      Effect.gen(function*() {
        const server = yield* RealServer.start()
        const task: Task = { url: server.url, name: "crowd", maxPerUser: 5, logins: 5, rounds: 3 }
        const workers = yield* Effect.forEach(
          Array.from({ length: 4 }),
          () => Worker.start(new URL("./worker.ts", import.meta.url), task),
          { concurrency: "unbounded" }
        )
        const said = yield* Effect.forEach(workers, ({ messages }) =>
          Effect.tap(Queue.unbounded<any>(), (queue) =>
            Effect.forkScoped(Stream.runForEach(messages, (message) =>
              Queue.offer(queue, message)))))
        const all = Effect.forEach(said, Queue.take)
        yield* Effect.gen(function*() {
          const client = yield* RedisClient
          const sessions = yield* Session.open(Session.define(task))
          const events: Array<Session.SessionEvent> = []
          yield* Effect.forkScoped(Stream.runForEach(sessions.events, (event) =>
            Effect.sync(() => {
              if (event._tag !== "Gap") {
                events.push(event)
              }
            })))
          for (let round = 0; round < task.rounds; round++) {
            assert.deepStrictEqual(yield* all, Array.from({ length: 4 }, () => ({ ready: round })))
            for (const { child } of workers) {
              child.stdin!.write("go\n")
            }
            const results = yield* all
            const created: ReadonlyArray<{ readonly id: string; readonly token: string }> = results.flatMap(
              ({ created }) =>
                created
            )
            const evicted: ReadonlyArray<string> = results.flatMap(({ evicted }) => evicted)
            assert.strictEqual(created.length, 20)
            assert.strictEqual(evicted.length, 15)
            assert.strictEqual(new Set(evicted).size, 15)
            const live = yield* Effect.filter(created, ({ token }) => sessions.isValid(Redacted.make(token)))
            assert.strictEqual(live.length, 5)
            const listed = (yield* sessions.listForUser(`ada-${round}`)).map(({ id }) => id).toSorted()
            assert.deepStrictEqual(listed, live.map(({ id }) => id).toSorted())
            for (const { id } of live) assert.notInclude(evicted, id)
            yield* sessions.deleteForUser("warm")
            // The one key is the hash of the user, with nothing in it but the five.
            const keys = Array.from(yield* Stream.runCollect(client.scan()))
            assert.strictEqual(keys.length, 1)
            assert.deepStrictEqual((yield* client.hkeys(keys[0]!)).toSorted(), listed)
            const told = Effect.sync(() => events.filter(({ _tag, userId }) => _tag === "Evicted" && userId !== "warm"))
            yield* Effect.repeat(Effect.zipRight(Effect.sleep("10 millis"), told), {
              until: ({ length }) => length >= 15 * (round + 1)
            })
            assert.deepStrictEqual((yield* told).slice(-15).map(({ id }) => id).toSorted(), evicted.toSorted())
            assert.strictEqual(yield* sessions.deleteForUser(`ada-${round}`), 5)
          }
        }).pipe(Effect.provide(services(server.url)))
      }).pipe(Effect.scoped),
    120_000
  )

  it.live("replies that are lost on the way leave no session that nobody can find", () =>
    Effect.gen(function*() {
      const server = yield* RealServer.start()
      const proxy = yield* FaultProxy.make(server)
      yield* Effect.gen(function*() {
        const sessions = yield* open("proxy", { maxPerUser: 10 })
        const { token } = yield* sessions.create({ userId: "u", data })
        const rotated = yield* sessions.rotate(token)
        yield* proxy.dropReplies(1)
        const created = yield* sessions.create({ userId: "u", data })
        yield* proxy.dropReplies(1)
        const next = yield* sessions.rotate(rotated.token)
        assert.deepStrictEqual(
          (yield* sessions.listForUser("u")).map(({ id }) => id).toSorted(),
          [created.session.id, next.session.id].toSorted()
        )
        assert.isTrue(yield* sessions.isValid(created.token))
        assert.isTrue(yield* sessions.isValid(next.token))
        assert.isFalse(yield* sessions.isValid(rotated.token))
        yield* server.cli("CLIENT", "KILL", "TYPE", "normal")
        assert.strictEqual(yield* sessions.deleteForUser("u"), 2)
        assert.strictEqual(yield* server.cli("DBSIZE"), 0)
      }).pipe(Effect.provide(services(proxy.url)))
    }).pipe(Effect.scoped), 60_000)
})
