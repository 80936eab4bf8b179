import { assert, describe, it } from "@effect/vitest"
import { DateTime, Effect, Layer, Metric, Option, Redacted, Stream, TestClock } from "effect"
import { RedisClient } from "../../src/RedisClient.js"
import { RedisTestServer } from "../../src/RedisTestServer.js"
import * as Session from "../../src/Session/index.js"
import * as metrics from "../../src/Session/metrics.js"
import * as Spans from "../kit/spans.js"
import { data, define, open } from "./suite.js"

const notFound = <A, E extends { readonly _tag: string }>(effect: Effect.Effect<A, E>) =>
  Effect.map(Effect.flip(effect), ({ _tag }) => assert.strictEqual(_tag, "SessionNotFound"))

const sent = Effect.flatMap(RedisTestServer, (server) => Effect.map(server.journal, ({ length }) => length))

describe("Session, in memory", () => {
  it.effect("by default ends after 7 days without use, and after 30 days with it", () =>
    Effect.gen(function*() {
      const client = yield* RedisClient
      const sessions = yield* open("defaults")
      const idle = yield* sessions.create({ userId: "u", data })
      const used = yield* sessions.create({ userId: "u", data })
      for (let day = 1; day < 30; day++) {
        yield* TestClock.adjust("1 day")
        yield* sessions.getAndTouch(used.token)
        assert.strictEqual(yield* sessions.isValid(idle.token), day < 7)
        // It can be found and ended as long as it is good.
        assert.strictEqual(yield* sessions.count("u"), day < 7 ? 2 : 1)
      }
      assert.strictEqual(DateTime.toEpochMillis((yield* sessions.get(used.token)).expiresAt), 30 * 86_400_000)
      yield* TestClock.adjust("1 day")
      yield* notFound(sessions.get(used.token))
      assert.strictEqual(yield* client.send("DBSIZE"), 0)
    }).pipe(Effect.provide(Session.layerTest)))

  it.effect("a use is noted once in an hour by default", () =>
    Effect.gen(function*() {
      const sessions = yield* open("hourly")
      const { token } = yield* sessions.create({ userId: "u", data })
      const seen = Effect.map(sessions.getAndTouch(token), ({ lastSeenAt }) => DateTime.toEpochMillis(lastSeenAt))
      yield* TestClock.adjust("59 minutes")
      assert.strictEqual(yield* seen, 0)
      yield* TestClock.adjust("1 minute")
      assert.strictEqual(yield* seen, 3_600_000)
      yield* TestClock.adjust("30 minutes")
      assert.strictEqual(yield* seen, 3_600_000)
    }).pipe(Effect.provide(Session.layerTest)))

  it.effect("is fresh for 15 minutes by default", () =>
    Effect.gen(function*() {
      const sessions = yield* open("fresh")
      const { token } = yield* sessions.create({ userId: "u", data })
      yield* TestClock.adjust("14 minutes")
      assert.isTrue((yield* sessions.get(token)).fresh)
      yield* TestClock.adjust("1 minute")
      assert.isFalse((yield* sessions.get(token)).fresh)
    }).pipe(Effect.provide(Session.layerTest)))

  it.effect("each operation is one command, and what is no token is none", () =>
    Effect.gen(function*() {
      const sessions = yield* open("commands", { maxPerUser: 2, rotateGrace: "1 minute", onePerDevice: true })
      const user = { userId: "u", data, device: { deviceId: "d" } }
      const run = (token: Redacted.Redacted): ReadonlyArray<Effect.Effect<unknown, unknown>> => [
        sessions.create(user),
        sessions.get(token),
        sessions.touch(token),
        sessions.getAndTouch(token),
        sessions.isValid(token),
        sessions.update(token, { visits: 2, theme: "light" }),
        sessions.reauthenticate(token),
        sessions.rotate(token),
        sessions.listForUser("u"),
        sessions.count("u"),
        sessions.deleteOthers(token),
        sessions.delete(token),
        sessions.deleteForUser("u")
      ]
      const warm = yield* sessions.create(user)
      for (const operation of run(warm.token)) yield* Effect.exit(operation)
      const { token } = yield* sessions.create(user)
      for (const operation of run(token)) {
        const before = yield* sent
        yield* Effect.exit(operation)
        assert.strictEqual(yield* sent, before + 1)
      }
      const before = yield* sent
      const value = Redacted.value(token)
      for (
        const text of ["", "x", `${value}x`, value.replace(".", "/"), `${value.slice(0, -1)}é`, "a".repeat(1_000_000)]
      ) {
        for (const operation of run(Redacted.make(text)).slice(1, 8)) yield* Effect.exit(operation)
        assert.isFalse(yield* sessions.delete(Redacted.make(text)))
      }
      assert.strictEqual(yield* sent, before)
    }).pipe(Effect.provide(Session.layerTest)))

  it.effect("each user is in one slot, and users are spread", () =>
    Effect.gen(function*() {
      const client = yield* RedisClient
      const server = yield* RedisTestServer
      const sessions = yield* open("slots", { watchExpiry: true })
      for (let i = 0; i < 200; i++) yield* sessions.create({ userId: `u${i % 100}`, data })
      const keys = yield* server.keys
      const hashes = keys.filter(({ type }) => type === "hash")
      assert.strictEqual(hashes.length, 100)
      for (const { size } of hashes) assert.strictEqual(size, 2)
      assert.isAbove(new Set(hashes.map(({ key }) => client.slot(key))).size, 90)
      for (const { ttl } of keys) assert.isAbove(ttl, 0)
    }).pipe(Effect.provide(Session.layerTest)))

  it.effect("what nobody asks for any more is reported by a sweep, and then nothing is left", () =>
    Effect.gen(function*() {
      const client = yield* RedisClient
      const sessions = yield* open("sweep", { watchExpiry: true, idleTimeout: "1 hour" })
      const events: Array<Session.SessionEvent> = []
      yield* Effect.forkScoped(Stream.runForEach(sessions.events, (event) =>
        Effect.sync(() => {
          if (event._tag === "Expired") events.push(event)
        })))
      yield* TestClock.adjust(0)
      // More than one step of a sweep takes.
      for (let i = 0; i < 250; i++) yield* sessions.create({ userId: `u${i}`, data })
      const { token } = yield* sessions.create({ userId: "used", data })
      yield* TestClock.adjust("50 minutes")
      yield* sessions.touch(token)
      yield* TestClock.adjust("10 minutes")
      assert.strictEqual(yield* sessions.sweep, 250)
      assert.strictEqual(yield* sessions.sweep, 0)
      assert.isTrue(yield* sessions.isValid(token))
      yield* TestClock.adjust("50 minutes")
      assert.strictEqual(yield* sessions.sweep, 1)
      assert.strictEqual(new Set(events.map(({ id }) => id)).size, 251)
      assert.strictEqual(yield* client.send("DBSIZE"), 0)
    }).pipe(Effect.scoped, Effect.provide(Session.layerTest)))

  it.effect("without a sweep everything ends as well, an hour later", () =>
    Effect.gen(function*() {
      const client = yield* RedisClient
      const sessions = yield* open("unswept", { watchExpiry: true, idleTimeout: "1 hour" })
      for (let i = 0; i < 20; i++) {
        yield* sessions.create({ userId: `u${i}`, data })
        yield* TestClock.adjust("1 minute")
      }
      yield* TestClock.adjust("1 hour")
      yield* notFound(sessions.get((yield* sessions.create({ userId: "u", data })).token.pipe((token) => {
        const [digest] = Redacted.value(token).split(".")
        return Redacted.make(`${digest}.${"A".repeat(43)}`)
      })))
      yield* TestClock.adjust("2 hours")
      assert.strictEqual(yield* client.send("DBSIZE"), 0)
    }).pipe(Effect.provide(Session.layerTest)))

  it.effect("a sweep finds a session that ends before the earlier ones of its user", () =>
    Effect.gen(function*() {
      const definition = define("shorter", { watchExpiry: true, idleTimeout: "2 hours" })
      const long = yield* Session.open(definition)
      const short = yield* Session.open({ ...definition, idleTimeout: "30 minutes" })
      yield* long.create({ userId: "u", data })
      yield* short.create({ userId: "u", data })
      yield* TestClock.adjust("30 minutes")
      assert.strictEqual(yield* long.sweep, 1)
      yield* TestClock.adjust("90 minutes")
      assert.strictEqual(yield* long.sweep, 1)
    }).pipe(Effect.provide(Session.layerTest)))

  it.effect("an index that was switched on later finds the sessions that are used", () =>
    Effect.gen(function*() {
      const definition = define("later", { idleTimeout: "1 hour", touchEvery: 0 })
      const before = yield* Session.open(definition)
      const { token } = yield* before.create({ userId: "u", data })
      const after = yield* Session.open({ ...definition, watchExpiry: true })
      yield* after.touch(token)
      yield* TestClock.adjust("1 hour")
      assert.strictEqual(yield* after.sweep, 1)
    }).pipe(Effect.provide(Session.layerTest)))

  it.effect("a prefix of the client comes before keys and channels", () =>
    Effect.gen(function*() {
      const server = yield* RedisTestServer
      const client = yield* server.client({ keyPrefix: "shop*:" })
      const service = yield* Effect.provideService(Session.make, RedisClient, client)
      const sessions = yield* service.open(define("prefixed", { watchExpiry: true }))
      const heard = yield* Effect.fork(Stream.runHead(sessions.events))
      yield* TestClock.adjust(0)
      const { session, token } = yield* sessions.create({ userId: "u", data })
      assert.isTrue(yield* sessions.isValid(token))
      const event = Option.getOrThrow(yield* heard.await.pipe(Effect.flatten))
      assert.strictEqual(event._tag === "Created" ? event.id : "", session.id)
      for (const { key } of yield* server.keys) assert.isTrue(key.startsWith("shop*:session:"))
      yield* TestClock.adjust("7 days")
      assert.strictEqual(yield* sessions.sweep, 1)
      assert.deepStrictEqual(yield* server.keys, [])
    }).pipe(Effect.scoped, Effect.provide(Session.layerTest)))

  it.effect("opening the same definition again gives the same sessions", () =>
    Effect.gen(function*() {
      const definition = define("same")
      assert.strictEqual(yield* Session.open(definition), yield* Session.open(definition))
    }).pipe(Effect.provide(Session.layerTest)))
})

describe("Session, observed", () => {
  it.effect("makes one span for an operation, and counts", () =>
    Effect.gen(function*() {
      const spans = yield* Spans.Spans
      const read = Effect.forEach([
        metrics.created,
        metrics.evicted,
        metrics.rejected,
        metrics.rotated,
        metrics.deleted,
        metrics.found,
        metrics.notFound,
        metrics.mismatched
      ], (metric) => Effect.map(Metric.value(metric), ({ count }) => count))
      const before = yield* read
      const sessions = yield* open("observed", { maxPerUser: 1, fingerprint: "reject" })
      const first = yield* sessions.create({ userId: "u", data, fingerprint: "a" })
      const { token } = yield* sessions.create({ userId: "u", data, fingerprint: "a" })
      yield* Effect.exit(sessions.get(first.token))
      yield* Effect.exit(sessions.get(token, { fingerprint: "b" }))
      yield* sessions.getAndTouch(token)
      const strict = yield* Session.open({ ...sessions.definition, onLimit: "reject" })
      yield* Effect.exit(strict.create({ userId: "u", data }))
      const next = yield* sessions.rotate(token)
      yield* sessions.delete(next.token)
      const after = yield* read
      assert.deepStrictEqual(after.map((n, i) => n - before[i]!), [2, 1, 1, 1, 1, 1, 1, 1])
      const all = (yield* spans.all).filter(({ name }) => name.startsWith("session."))
      assert.deepStrictEqual(all.map(({ name }) => name), [
        "session.create",
        "session.create",
        "session.get",
        "session.get",
        "session.getAndTouch",
        "session.create",
        "session.rotate",
        "session.delete"
      ])
      for (const { attributes } of all) {
        assert.strictEqual(attributes.get("effect_redis.session.name"), sessions.definition.name)
      }
    }).pipe(Effect.provide(Layer.merge(Session.layerTest, Spans.layer))))
})
