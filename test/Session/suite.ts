import { assert, layer } from "@effect/vitest"
import { DateTime, Effect, Either, Fiber, Layer, Option, Redacted, Ref, Schema, type Scope, Stream } from "effect"
import { RedisClient } from "../../src/RedisClient.js"
import type { RedisError } from "../../src/RedisError.js"
import * as Session from "../../src/Session/index.js"
import { error, fresh, type Time, until } from "../kit/suites.js"

export const Data = Schema.Struct({
  theme: Schema.String,
  visits: Schema.Number,
  note: Schema.optional(Schema.String),
  since: Schema.optional(Schema.Date),
  cart: Schema.Array(Schema.Struct({ sku: Schema.String, many: Schema.Number }))
})

export const data: typeof Data.Type = { theme: "dark", visits: 1, cart: [{ sku: "a", many: 2 }] }

export const define = (text: string, options: Partial<Session.Options> = {}) =>
  Session.define({ name: fresh(text), data: Data, ...options })

export const open = (text: string, options: Partial<Session.Options> = {}) => Session.open(define(text, options))

/** The keys that are there under the name of a definition. */
export const keysOf = (name: string) =>
  Effect.flatMap(
    RedisClient,
    (client) =>
      Effect.map(Stream.runCollect(client.scan({ match: `session:${name}:*` })), (keys) => Array.from(new Set(keys)))
  )

const tags = <E extends { readonly _tag: string }>(effect: Effect.Effect<unknown, E, never>) =>
  Effect.map(Effect.flip(effect), ({ _tag }) => _tag)

/** What comes out of a stream while a scope is open; it is subscribed to when this returns. */
export const collect = <A extends object>(
  sessions: Session.Sessions<A>,
  { elapse }: Time
): Effect.Effect<
  { readonly all: Effect.Effect<ReadonlyArray<Session.SessionEvent>> },
  RedisError,
  RedisClient | Scope.Scope
> =>
  Effect.gen(function*() {
    const client = yield* RedisClient
    const events = yield* Ref.make<ReadonlyArray<Session.SessionEvent>>([])
    yield* Effect.forkScoped(
      Stream.runForEach(
        sessions.events,
        (event) => event._tag === "Gap" ? Effect.void : Ref.update(events, (all) => [...all, event])
      )
    )
    const channel = `session:${sessions.definition.name}:events`
    for (let i = 0; i < 200; i++) {
      if ((yield* client.publish(channel, "is anybody there?")) > 0) break
      yield* elapse("10 millis")
    }
    return { all: Ref.get(events) }
  })

export const suite = (
  name: string,
  driver: Layer.Layer<RedisClient, RedisError>,
  options: { readonly excludeTestServices?: boolean },
  time: Time
) => {
  const { elapse } = time
  const eventually = until(time)

  layer(Layer.orDie(Layer.provideMerge(Session.layer, driver)), options)(`Session, ${name}`, (it) => {
    it.effect("gives back what was stored, with numbers, dates, nested values and unicode", () =>
      Effect.gen(function*() {
        const sessions = yield* open("round-trip")
        const value: typeof Data.Type = {
          theme: "dunkel ✓ \n\t\"{}\u2028",
          visits: 0.1 + 0.2,
          note: "",
          since: new Date(1234567890123),
          cart: [{ sku: "ä", many: 9007199254740991 }, { sku: "", many: -0.5 }]
        }
        const userId = "user:1 {x} \n\"✓"
        const { evicted, session, token } = yield* sessions.create({
          userId,
          data: value,
          device: { deviceId: "d\n1", userAgent: "Mozilla/5.0 (X11) \"quoted\"", ip: "::1" }
        })
        assert.deepStrictEqual(evicted, [])
        assert.strictEqual(session.userId, userId)
        assert.deepStrictEqual(session.device, {
          deviceId: Option.some("d\n1"),
          userAgent: Option.some("Mozilla/5.0 (X11) \"quoted\""),
          ip: Option.some("::1")
        })
        assert.isTrue(session.fresh)
        assert.deepStrictEqual(session.createdAt, session.lastSeenAt)
        assert.deepStrictEqual(session.createdAt, session.authenticatedAt)
        assert.strictEqual(
          DateTime.toEpochMillis(session.expiresAt) - DateTime.toEpochMillis(session.createdAt),
          7 * 86_400_000
        )
        assert.deepStrictEqual(yield* sessions.get(token), session)
        assert.deepStrictEqual(session.data, value)
        assert.isTrue(yield* sessions.isValid(token))
        assert.match(Redacted.value(token), /^[\w-]{22}\.[\w-]{43}$/)
      }))

    it.scoped("any text comes back as it was, from the record and from events", () =>
      Effect.gen(function*() {
        const client = yield* RedisClient
        const sessions = yield* open("texts")
        const { all: events } = yield* collect(sessions, time)
        const channel = `session:${sessions.definition.name}:events`
        for (const garbage of ["", "created", "created\nx\nid\n\nuser", "created\n1\nid\n\n\"", "what\n1\nid\n\nu"]) {
          yield* client.publish(channel, garbage)
        }
        const texts = [
          "u",
          "\"",
          "\"u\"",
          "null",
          "a\nb",
          "\n",
          "a\\",
          "~",
          " ",
          "\t",
          "\u0000",
          "ü",
          "🙂",
          "\u2028",
          "1,\n2",
          "{}"
        ]
        for (const text of texts) {
          const device = { deviceId: text, userAgent: text, ip: text }
          const { token } = yield* sessions.create({ userId: text, data: { ...data, theme: text, note: text }, device })
          const expected = { deviceId: Option.some(text), userAgent: Option.some(text), ip: Option.some(text) }
          const check = (session: Session.SessionInfo<typeof Data.Type>, theme: string) => {
            assert.strictEqual(session.userId, text)
            assert.deepStrictEqual(session.device, expected)
            assert.deepStrictEqual(session.data, { ...data, theme, note: text })
          }
          check(yield* sessions.getAndTouch(token), text)
          for (const theme of ["x", `${text},`]) {
            yield* sessions.update(token, { theme })
            check(yield* sessions.get(token), theme)
          }
          yield* sessions.delete(token)
        }
        yield* eventually(Effect.map(events, (all) => all.length >= 2 * texts.length))
        // Of users on different nodes nobody knows which was first.
        const all = yield* events
        for (const text of texts) {
          assert.deepStrictEqual(
            all.flatMap(({ _tag, userId }) => userId === text ? [_tag] : []),
            ["Created", "Deleted"]
          )
        }
        assert.strictEqual(all.length, 2 * texts.length)
      }))

    it.effect("works without data and without a device", () =>
      Effect.gen(function*() {
        const sessions = yield* Session.open(Session.define({ name: fresh("plain") }))
        const { session, token } = yield* sessions.create({ userId: "u", data: {} })
        assert.deepStrictEqual(session.data, {})
        assert.deepStrictEqual(session.device, {
          deviceId: Option.none(),
          userAgent: Option.none(),
          ip: Option.none()
        })
        assert.deepStrictEqual(yield* sessions.get(token), session)
        assert.deepStrictEqual(yield* sessions.update(token, {}), session)
      }))

    it.effect("an effect that runs twice gives two sessions, and rotates twice", () =>
      Effect.gen(function*() {
        const sessions = yield* open("twice")
        const login = sessions.create({ userId: "u", data })
        const [first, second] = yield* Effect.all([login, login])
        assert.notStrictEqual(Redacted.value(first.token), Redacted.value(second.token))
        assert.strictEqual(yield* sessions.count("u"), 2)
        const rotate = sessions.rotate(first.token)
        yield* rotate
        assert.strictEqual((yield* error(rotate))._tag, "SessionNotFound")
        assert.strictEqual(yield* sessions.count("u"), 2)
      }))

    it.effect("an unknown token, one of another kind and no token at all fail alike", () =>
      Effect.gen(function*() {
        const sessions = yield* open("unknown")
        const others = yield* open("unknown")
        const { token } = yield* others.create({ userId: "u", data })
        const value = Redacted.value(token)
        const tokens = [
          value,
          `${value.slice(0, 23)}${"A".repeat(43)}`,
          "",
          "x",
          value.slice(1),
          `${value} `,
          `${value}\n`
        ]
        for (const text of tokens) {
          const token = Redacted.make(text)
          assert.strictEqual(yield* tags(sessions.get(token)), "SessionNotFound")
          assert.strictEqual(yield* tags(sessions.touch(token)), "SessionNotFound")
          assert.strictEqual(yield* tags(sessions.getAndTouch(token)), "SessionNotFound")
          assert.strictEqual(yield* tags(sessions.update(token, { visits: 2 })), "SessionNotFound")
          assert.strictEqual(yield* tags(sessions.rotate(token)), "SessionNotFound")
          assert.strictEqual(yield* tags(sessions.reauthenticate(token)), "SessionNotFound")
          assert.strictEqual(yield* tags(sessions.deleteOthers(token)), "SessionNotFound")
          assert.isFalse(yield* sessions.isValid(token))
          assert.isFalse(yield* sessions.delete(token))
        }
        assert.deepStrictEqual(yield* keysOf(sessions.definition.name), [])
      }))

    it.effect("ends when it is not used, and use prolongs it", () =>
      Effect.gen(function*() {
        const sessions = yield* open("idle", { idleTimeout: "1 second", touchEvery: 0 })
        const { token } = yield* sessions.create({ userId: "u", data })
        const other = yield* sessions.create({ userId: "u", data })
        for (let i = 0; i < 4; i++) {
          yield* elapse("300 millis")
          yield* (i % 2 === 0 ? sessions.touch(token) : sessions.getAndTouch(token))
        }
        assert.strictEqual(yield* tags(sessions.get(other.token)), "SessionNotFound")
        const { createdAt, expiresAt, lastSeenAt } = yield* sessions.get(token)
        assert.isAtLeast(DateTime.toEpochMillis(lastSeenAt) - DateTime.toEpochMillis(createdAt), 1200)
        assert.strictEqual(DateTime.toEpochMillis(expiresAt) - DateTime.toEpochMillis(lastSeenAt), 1000)
        assert.strictEqual(yield* sessions.count("u"), 1)
        yield* elapse("1100 millis")
        assert.strictEqual(yield* tags(sessions.getAndTouch(token)), "SessionNotFound")
        assert.deepStrictEqual(yield* sessions.listForUser("u"), [])
        assert.deepStrictEqual(yield* keysOf(sessions.definition.name), [])
      }))

    it.effect("ends by its absolute limit, however much it is used", () =>
      Effect.gen(function*() {
        const sessions = yield* open("absolute", {
          idleTimeout: "800 millis",
          absoluteTimeout: "1 second",
          touchEvery: 0
        })
        const { token } = yield* sessions.create({ userId: "u", data })
        let alive = 0
        for (let i = 0; i < 12; i++) {
          yield* elapse("100 millis")
          if (yield* Effect.isSuccess(sessions.touch(token))) alive++
        }
        assert.isAtLeast(alive, 1)
        assert.isAtMost(alive, 9)
        assert.strictEqual(yield* tags(sessions.rotate(token)), "SessionNotFound")
        assert.deepStrictEqual(yield* keysOf(sessions.definition.name), [])
      }))

    it.effect("reading is no use, and uses are noted once in a while", () =>
      Effect.gen(function*() {
        const sessions = yield* open("throttle", { idleTimeout: "1 hour", touchEvery: "400 millis" })
        const { session, token } = yield* sessions.create({ userId: "u", data })
        yield* elapse("50 millis")
        assert.deepStrictEqual(yield* sessions.getAndTouch(token), session)
        assert.deepStrictEqual(yield* sessions.touch(token), session.expiresAt)
        yield* elapse("450 millis")
        assert.deepStrictEqual(yield* sessions.get(token), session)
        const used = yield* sessions.getAndTouch(token)
        assert.isAtLeast(DateTime.toEpochMillis(used.lastSeenAt) - DateTime.toEpochMillis(session.lastSeenAt), 400)
        assert.deepStrictEqual(used.data, session.data)
        assert.deepStrictEqual(used.createdAt, session.createdAt)
        assert.deepStrictEqual(yield* sessions.get(token), used)
      }))

    it.effect("updates some fields and keeps the others, also at the same time", () =>
      Effect.gen(function*() {
        const sessions = yield* open("update")
        const { token } = yield* sessions.create({ userId: "u", data })
        const after = yield* sessions.update(token, { note: "hello", since: new Date(5) })
        assert.deepStrictEqual(after.data, { ...data, note: "hello", since: new Date(5) })
        yield* Effect.all([
          sessions.update(token, { theme: "light" }),
          sessions.update(token, { visits: 1e21 }),
          sessions.update(token, { cart: [] }),
          sessions.update(token, { note: undefined })
        ], { concurrency: "unbounded" })
        assert.deepStrictEqual((yield* sessions.get(token)).data, {
          theme: "light",
          visits: 1e21,
          cart: [],
          since: new Date(5)
        })
        const refused = yield* error(sessions.update(token, { theme: undefined }))
        assert.strictEqual(refused._tag, "RedisInputError")
        const unknown = yield* error(sessions.update(token, { there: 1 } as {}))
        assert.strictEqual(unknown._tag, "RedisInputError")
      }))

    it.effect("an update of a field leaves alone one whose name begins with it, or is its value", () =>
      Effect.gen(function*() {
        const sessions = yield* Session.open(Session.define({
          name: fresh("names"),
          data: Schema.Struct({ a: Schema.String, ab: Schema.String, "a\":": Schema.String, __proto__x: Schema.String })
        }))
        const { token } = yield* sessions.create({
          userId: "u",
          data: { a: "1", ab: "\"a\":\n", "a\":": "3", __proto__x: "4" }
        })
        assert.deepStrictEqual((yield* sessions.update(token, { a: "\"ab\":2" })).data, {
          a: "\"ab\":2",
          ab: "\"a\":\n",
          "a\":": "3",
          __proto__x: "4"
        })
      }))

    it.effect("an update does not prolong, and stores nothing when the session has ended", () =>
      Effect.gen(function*() {
        const sessions = yield* open("late")
        const { session, token } = yield* sessions.create({ userId: "u", data })
        yield* elapse("20 millis")
        const updated = yield* sessions.update(token, { visits: 2 })
        assert.deepStrictEqual(updated.expiresAt, session.expiresAt)
        assert.isTrue(yield* sessions.delete(token))
        for (
          const operation of [sessions.update(token, { visits: 3 }), sessions.getAndTouch(token), sessions.touch(token)]
        ) {
          assert.strictEqual(yield* tags<Session.LookupError>(operation), "SessionNotFound")
        }
        assert.isFalse(yield* sessions.isValid(token))
        assert.isFalse(yield* sessions.delete(token))
        assert.deepStrictEqual(yield* keysOf(sessions.definition.name), [])
      }))

    it.effect("after a rotation the token before is dead, and data and list follow the new one", () =>
      Effect.gen(function*() {
        const sessions = yield* open("rotate")
        const { session, token } = yield* sessions.create({ userId: "u", data, device: { deviceId: "d" } })
        yield* elapse("20 millis")
        const next = yield* sessions.rotate(token)
        assert.notStrictEqual(Redacted.value(next.token), Redacted.value(token))
        assert.notStrictEqual(next.session.id, session.id)
        assert.deepStrictEqual(next.session.data, data)
        assert.deepStrictEqual(next.session.createdAt, session.createdAt)
        assert.deepStrictEqual(next.session.authenticatedAt, session.authenticatedAt)
        assert.deepStrictEqual(yield* sessions.get(next.token), next.session)
        assert.strictEqual(yield* tags(sessions.get(token)), "SessionNotFound")
        assert.deepStrictEqual((yield* sessions.listForUser("u")).map(({ id }) => id), [next.session.id])
      }))

    it.effect("of many rotations at the same time exactly one succeeds", () =>
      Effect.gen(function*() {
        for (const rotateGrace of [0, "1 minute"] as const) {
          const sessions = yield* open("rotations", { rotateGrace })
          const { token } = yield* sessions.create({ userId: "u", data })
          const results = yield* Effect.forEach(
            Array.from({ length: 20 }),
            () => Effect.either(sessions.rotate(token)),
            { concurrency: "unbounded" }
          )
          const won = results.filter(Either.isRight)
          assert.strictEqual(won.length, 1)
          for (const result of results.filter(Either.isLeft)) assert.strictEqual(result.left._tag, "SessionNotFound")
          assert.strictEqual(yield* sessions.count("u"), 1)
          assert.isTrue(yield* sessions.isValid(won[0]!.right.token))
        }
      }))

    it.effect("with a grace the token before still reads, writes and logs out for a while, and no longer", () =>
      Effect.gen(function*() {
        const sessions = yield* open("grace", { rotateGrace: "500 millis", touchEvery: 0 })
        const { token } = yield* sessions.create({ userId: "u", data })
        const next = yield* sessions.rotate(token)
        assert.strictEqual((yield* sessions.get(token)).id, next.session.id)
        assert.strictEqual((yield* sessions.getAndTouch(token)).id, next.session.id)
        assert.strictEqual((yield* sessions.update(token, { visits: 7 })).data.visits, 7)
        assert.strictEqual((yield* sessions.get(next.token)).data.visits, 7)
        assert.strictEqual(yield* sessions.count("u"), 1)
        assert.strictEqual((yield* sessions.listForUser("u")).length, 1)
        yield* elapse("600 millis")
        assert.strictEqual(yield* tags(sessions.get(token)), "SessionNotFound")
        assert.isTrue(yield* sessions.isValid(next.token))
        const again = yield* sessions.rotate(next.token)
        const last = yield* sessions.rotate(again.token)
        // It leads to a token that was replaced itself.
        assert.strictEqual(yield* tags(sessions.get(next.token)), "SessionNotFound")
        assert.isTrue(yield* sessions.isValid(again.token))
        assert.isTrue(yield* sessions.delete(again.token))
        assert.isFalse(yield* sessions.isValid(last.token))
        assert.deepStrictEqual(yield* keysOf(sessions.definition.name), [])
      }))

    it.effect("lets in as many as allowed, and the one that was not used for longest goes", () =>
      Effect.gen(function*() {
        const sessions = yield* open("limit", { maxPerUser: 3, touchEvery: 0 })
        const first = yield* sessions.create({ userId: "u", data: { ...data, visits: 10 } })
        yield* elapse("10 millis")
        const second = yield* sessions.create({ userId: "u", data: { ...data, visits: 11 } })
        yield* elapse("10 millis")
        const third = yield* sessions.create({ userId: "u", data })
        yield* elapse("10 millis")
        yield* sessions.touch(first.token)
        yield* sessions.create({ userId: "somebody else", data })
        const fourth = yield* sessions.create({ userId: "u", data })
        assert.deepStrictEqual(fourth.evicted.map(({ data, id }) => [id, Either.getOrThrow(data).visits]), [
          [second.session.id, 11]
        ])
        assert.isFalse(yield* sessions.isValid(second.token))
        yield* elapse("10 millis")
        yield* sessions.touch(third.token)
        assert.deepStrictEqual(
          (yield* sessions.listForUser("u")).map(({ id }) => id),
          [third.session.id, fourth.session.id, first.session.id]
        )
        assert.strictEqual(yield* sessions.count("somebody else"), 1)
      }))

    it.effect("a limit that was lowered is enforced with the next login", () =>
      Effect.gen(function*() {
        const definition = define("lowered")
        const before = yield* Session.open(definition)
        for (let i = 0; i < 40; i++) yield* before.create({ userId: "u", data })
        assert.strictEqual(yield* before.count("u"), 40)
        const after = yield* Session.open({ ...definition, maxPerUser: 5 })
        const { evicted, session } = yield* after.create({ userId: "u", data })
        assert.strictEqual(evicted.length, 36)
        const listed = yield* after.listForUser("u")
        assert.strictEqual(listed.length, 5)
        assert.include(listed.map(({ id }) => id), session.id)
        const strict = yield* Session.open({ ...definition, maxPerUser: 2, onLimit: "reject" })
        const refused = yield* error(strict.create({ userId: "u", data }))
        assert(refused._tag === "SessionLimitReached")
        assert.deepStrictEqual([refused.limit, refused.live], [2, 5])
        assert.strictEqual(yield* after.count("u"), 5)
      }))

    it.effect("twenty logins at once with a limit of five leave five, and fifteen are reported", () =>
      Effect.gen(function*() {
        const sessions = yield* open("crowd", { maxPerUser: 5 })
        const created = yield* Effect.forEach(
          Array.from({ length: 20 }),
          () => sessions.create({ userId: "u", data }),
          { concurrency: "unbounded" }
        )
        const evicted = new Set(created.flatMap(({ evicted }) => evicted.map(({ id }) => id)))
        assert.strictEqual(evicted.size, 15)
        const live = yield* Effect.filter(created, ({ token }) => sessions.isValid(token))
        assert.deepStrictEqual(
          live.map(({ session }) => session.id).toSorted(),
          (yield* sessions.listForUser("u")).map(({ id }) => id).toSorted()
        )
        assert.strictEqual(live.length, 5)
        for (const { session } of live) assert.isFalse(evicted.has(session.id))
      }))

    it.effect("rejects logins beyond the limit when told so, and lets them in when there is room again", () =>
      Effect.gen(function*() {
        const sessions = yield* open("reject", { maxPerUser: 3, onLimit: "reject", idleTimeout: "700 millis" })
        const results = yield* Effect.forEach(
          Array.from({ length: 10 }),
          () => Effect.either(sessions.create({ userId: "u", data })),
          { concurrency: "unbounded" }
        )
        const won = results.filter(Either.isRight)
        assert.strictEqual(won.length, 3)
        assert.strictEqual(yield* tags(sessions.create({ userId: "u", data })), "SessionLimitReached")
        yield* sessions.delete(won[0]!.right.token)
        yield* sessions.create({ userId: "u", data })
        assert.strictEqual(yield* tags(sessions.create({ userId: "u", data })), "SessionLimitReached")
        yield* elapse("800 millis")
        yield* sessions.create({ userId: "u", data })
        assert.strictEqual(yield* sessions.count("u"), 1)
      }))

    it.effect("one session per device, and without a device id every login is its own", () =>
      Effect.gen(function*() {
        const sessions = yield* open("device", { onePerDevice: true, maxPerUser: 4 })
        const on = (deviceId?: string) => sessions.create({ userId: "u", data, device: { deviceId } })
        const phone = yield* on("phone")
        const laptop = yield* on("laptop")
        yield* on()
        yield* on("")
        assert.strictEqual(yield* sessions.count("u"), 4)
        const again = yield* on("phone")
        assert.deepStrictEqual(again.evicted.map(({ id }) => id), [phone.session.id])
        assert.isTrue(yield* sessions.isValid(laptop.token))
        assert.strictEqual(yield* sessions.count("u"), 4)
        const strict = yield* Session.open({ ...sessions.definition, onLimit: "reject" })
        assert.strictEqual(yield* tags(strict.create({ userId: "u", data })), "SessionLimitReached")
        const same = yield* strict.create({ userId: "u", data, device: { deviceId: "phone" } })
        assert.deepStrictEqual(same.evicted.map(({ id }) => id), [again.session.id])
        assert.strictEqual(
          yield* tags(strict.create({ userId: "u", data, device: { deviceId: "tv" } })),
          "SessionLimitReached"
        )
        assert.strictEqual(yield* sessions.count("u"), 4)
      }))

    it.effect("ends one, the others, and all sessions of a user", () =>
      Effect.gen(function*() {
        const sessions = yield* open("end")
        const mine = yield* Effect.forEach(Array.from({ length: 6 }), () => sessions.create({ userId: "u", data }))
        const other = yield* sessions.create({ userId: "v", data })
        const [a, b, c] = mine
        assert.isTrue(yield* sessions.deleteById("u", a!.session.id))
        assert.isFalse(yield* sessions.deleteById("u", a!.session.id))
        assert.isFalse(yield* sessions.deleteById("v", b!.session.id))
        assert.isFalse(yield* sessions.isValid(a!.token))
        assert.strictEqual(yield* sessions.deleteOthers(c!.token), 4)
        assert.isTrue(yield* sessions.isValid(c!.token))
        assert.isFalse(yield* sessions.isValid(b!.token))
        yield* sessions.create({ userId: "u", data })
        assert.strictEqual(yield* sessions.deleteForUser("u"), 2)
        assert.strictEqual(yield* sessions.deleteForUser("u"), 0)
        assert.isFalse(yield* sessions.isValid(c!.token))
        assert.isTrue(yield* sessions.isValid(other.token))
        assert.strictEqual(yield* sessions.count("u"), 0)
      }))

    it.effect("ending the others keeps the grace of the one that stays, and ends theirs", () =>
      Effect.gen(function*() {
        const sessions = yield* open("others", { rotateGrace: "1 minute" })
        const first = yield* sessions.create({ userId: "u", data })
        const second = yield* sessions.create({ userId: "u", data })
        const mine = yield* sessions.rotate(first.token)
        yield* sessions.rotate(second.token)
        // By the token before, as a request that is underway has it.
        assert.strictEqual(yield* sessions.deleteOthers(first.token), 1)
        assert.isTrue(yield* sessions.isValid(mine.token))
        assert.isTrue(yield* sessions.isValid(first.token))
        assert.isFalse(yield* sessions.isValid(second.token))
      }))

    it.effect("a fingerprint that changed is told, or refused without ending the session", () =>
      Effect.gen(function*() {
        const signal = yield* open("signal")
        const { session, token } = yield* signal.create({ userId: "u", data, fingerprint: "firefox" })
        assert.strictEqual(session.fingerprint, "match")
        const seen = (fingerprint?: string) =>
          Effect.map(signal.getAndTouch(token, { fingerprint }), ({ fingerprint }) => fingerprint)
        assert.deepStrictEqual(
          [yield* seen("firefox"), yield* seen("chrome"), yield* seen(), yield* seen("")],
          ["match", "changed", "unchecked", "unchecked"]
        )
        const bare = yield* signal.create({ userId: "u", data })
        assert.strictEqual((yield* signal.get(bare.token, { fingerprint: "chrome" })).fingerprint, "unchecked")

        const strict = yield* open("strict", { fingerprint: "reject", touchEvery: 0 })
        const own = yield* strict.create({ userId: "u", data, fingerprint: "firefox" })
        yield* elapse("20 millis")
        for (const ask of [strict.get, strict.getAndTouch, strict.touch]) {
          const refused = yield* error<unknown, Session.LookupError, never>(ask(own.token, { fingerprint: "chrome" }))
          assert(refused._tag === "SessionFingerprintMismatch")
          assert.deepStrictEqual([refused.userId, refused.id], ["u", own.session.id])
        }
        assert.isFalse(yield* strict.isValid(own.token, { fingerprint: "chrome" }))
        const still = yield* strict.get(own.token, { fingerprint: "firefox" })
        assert.deepStrictEqual(still.lastSeenAt, own.session.lastSeenAt)
      }))

    it.effect("freshness counts from the authentication, and not from use or rotation", () =>
      Effect.gen(function*() {
        const sessions = yield* open("fresh", { freshFor: "400 millis", touchEvery: 0 })
        const { session, token } = yield* sessions.create({ userId: "u", data })
        yield* Session.requireFresh(session)
        yield* elapse("450 millis")
        const used = yield* sessions.getAndTouch(token)
        assert.isFalse(used.fresh)
        assert.strictEqual((yield* Effect.flip(Session.requireFresh(used)))._tag, "SessionNotFresh")
        const rotated = yield* sessions.rotate(token)
        assert.isFalse(rotated.session.fresh)
        const again = yield* sessions.reauthenticate(rotated.token)
        assert.isTrue(again.session.fresh)
        assert.deepStrictEqual(again.session.createdAt, session.createdAt)
        assert.isFalse(yield* sessions.isValid(rotated.token))
        assert.isTrue((yield* sessions.get(again.token)).fresh)
      }))

    it.effect("tells what happens, once each, and in order", () =>
      Effect.gen(function*() {
        const sessions = yield* open("events", { maxPerUser: 2, onePerDevice: true, idleTimeout: "800 millis" })
        const { all: events } = yield* collect(sessions, time)
        const a = yield* sessions.create({ userId: "u\n1", data, device: { deviceId: "d" } })
        const b = yield* sessions.create({ userId: "u\n1", data, device: { deviceId: "d" } })
        const c = yield* sessions.create({ userId: "u\n1", data })
        yield* elapse("5 millis")
        const d = yield* sessions.create({ userId: "u\n1", data })
        const e = yield* sessions.rotate(d.token)
        yield* sessions.update(e.token, { visits: 3 })
        yield* sessions.delete(e.token)
        const evicted = d.evicted[0]!.id
        const last = evicted === b.session.id ? c.session.id : b.session.id
        yield* elapse("900 millis")
        yield* sessions.create({ userId: "u\n1", data })
        const expected = [
          ["Created", a.session.id, ""],
          ["Evicted", a.session.id, "device"],
          ["Created", b.session.id, ""],
          ["Created", c.session.id, ""],
          ["Evicted", evicted, "limit"],
          ["Created", d.session.id, ""],
          ["Rotated", e.session.id, d.session.id],
          ["Deleted", e.session.id, ""]
        ]
        yield* eventually(Effect.map(events, (all) => all.length > expected.length))
        const all = yield* events
        assert.deepStrictEqual(
          all.slice(0, expected.length).map((event) => [
            event._tag,
            event.id,
            event._tag === "Evicted" ? event.reason : event._tag === "Rotated" ? event.previousId : ""
          ]),
          expected
        )
        // The hash of the user had ended with its last session before the next login came.
        assert.strictEqual(all.filter(({ id }) => id === last).length, 1)
        for (const event of all) assert.strictEqual(event.userId, "u\n1")
      }).pipe(Effect.scoped))

    it.effect("a session that is over is told when the next script of its user finds it", () =>
      Effect.gen(function*() {
        const sessions = yield* open("found", { idleTimeout: "1 second", touchEvery: 0 })
        const { all: events } = yield* collect(sessions, time)
        const over = yield* sessions.create({ userId: "u", data })
        yield* elapse("550 millis")
        const alive = yield* sessions.create({ userId: "u", data })
        yield* elapse("550 millis")
        assert.isFalse(yield* sessions.isValid(over.token))
        assert.strictEqual((yield* events).filter(({ _tag }) => _tag === "Expired").length, 0)
        yield* sessions.touch(alive.token)
        yield* sessions.count("u")
        yield* eventually(Effect.map(events, (all) => all.length === 3))
        assert.deepStrictEqual((yield* events).map(({ _tag, id }) => [_tag, id])[2], ["Expired", over.session.id])
      }).pipe(Effect.scoped))

    it.effect("a login removes what is over, and tells it, when there is room anyway", () =>
      Effect.gen(function*() {
        const sessions = yield* open("replaced", { idleTimeout: "1 second", touchEvery: 0 })
        const { all: events } = yield* collect(sessions, time)
        const over = yield* sessions.create({ userId: "u", data })
        yield* elapse("550 millis")
        const alive = yield* sessions.create({ userId: "u", data })
        yield* elapse("550 millis")
        const last = yield* sessions.create({ userId: "u", data })
        yield* eventually(Effect.map(events, (all) => all.length === 4))
        assert.deepStrictEqual(
          (yield* events).slice(2).map(({ _tag, id }) => [_tag, id]),
          [["Expired", over.session.id], ["Created", last.session.id]]
        )
        assert.strictEqual((yield* error(sessions.getAndTouch(over.token)))._tag, "SessionNotFound")
        assert.isTrue(yield* sessions.isValid(alive.token))
      }).pipe(Effect.scoped))

    it.effect("a sweep finds all that is over, each once, however many sweep", () =>
      Effect.gen(function*() {
        const sessions = yield* open("sweep", { watchExpiry: true, idleTimeout: "1500 millis", touchEvery: 0 })
        const { all: events } = yield* collect(sessions, time)
        const created = yield* Effect.forEach(
          Array.from({ length: 30 }, (_, i) => i),
          (i) => sessions.create({ userId: `u${i % 10}`, data })
        )
        assert.strictEqual(yield* sessions.sweep, 0)
        const before = (yield* keysOf(sessions.definition.name)).length
        assert.isAbove(before, 10)
        yield* elapse("1600 millis")
        const longer = yield* Session.open({ ...sessions.definition, idleTimeout: "1 minute" })
        const late = yield* longer.create({ userId: "u0", data })
        const swept = yield* Effect.all([sessions.sweep, sessions.sweep], { concurrency: 2 })
        // Those of u0 were found by its login.
        assert.strictEqual(swept[0] + swept[1], 27)
        yield* eventually(Effect.map(events, (all) => all.filter(({ _tag }) => _tag === "Expired").length === 30))
        assert.deepStrictEqual(
          (yield* events).filter(({ _tag }) => _tag === "Expired").map(({ id }) => id).toSorted(),
          created.map(({ session }) => session.id).toSorted()
        )
        assert.strictEqual((yield* keysOf(sessions.definition.name)).length, 2)
        assert.isTrue(yield* sessions.delete(late.token))
        assert.deepStrictEqual(yield* keysOf(sessions.definition.name), [])
        const unwatched = yield* open("unwatched")
        assert.strictEqual((yield* error(unwatched.sweep))._tag, "RedisInputError")
      }).pipe(Effect.scoped), 30_000)

    it.effect("what does not fit the schema is told, and stays until it is mended or deleted", () =>
      Effect.gen(function*() {
        const old = Session.define({ name: fresh("schema"), data: Schema.Struct({ theme: Schema.Number }) })
        const { session, token } = yield* Effect.flatMap(
          Session.open(old),
          (sessions) => sessions.create({ userId: "u", data: { theme: 4711 } })
        )
        const sessions = yield* Session.open({ ...define("x"), name: old.name })
        const refused = yield* error(sessions.getAndTouch(token))
        assert(refused._tag === "SessionDecodeError")
        assert.strictEqual(refused.id, session.id)
        assert.include(refused.detail, "theme")
        assert.notInclude(refused.message, "4711")
        const good = yield* sessions.create({ userId: "u", data })
        const listed = yield* sessions.listForUser("u")
        assert.deepStrictEqual(
          listed.map(({ data, id }) => [id, Either.isRight(data)]).toSorted(),
          [[session.id, false], [good.session.id, true]].toSorted()
        )
        yield* error(sessions.update(token, { theme: "dark" }))
        yield* error(sessions.update(token, { visits: 2 }))
        assert.deepStrictEqual((yield* sessions.update(token, { cart: [] })).data, {
          theme: "dark",
          visits: 2,
          cart: []
        })
        assert.isTrue(yield* sessions.delete(token))
      }))

    it.effect("records that somebody else wrote are told, and do no harm", () =>
      Effect.gen(function*() {
        const client = yield* RedisClient
        const sessions = yield* open("corrupt", { maxPerUser: 3 })
        const { session, token } = yield* sessions.create({ userId: "u", data })
        const [key] = yield* keysOf(sessions.definition.name)
        const records = [
          "",
          "=",
          "=x",
          "1",
          "2\n",
          `1${"9".repeat(52)}`,
          `1${"9".repeat(52)}\n`,
          `1${"9".repeat(52)}\nx\ny\n\nz\n"`,
          "\u0000"
        ]
        for (const record of records) {
          yield* client.hset(key!, { [session.id]: record })
          const { _tag } = yield* Effect.flip(sessions.getAndTouch(token))
          assert.include(["SessionDecodeError", "SessionNotFound"], _tag, JSON.stringify(record))
          yield* Effect.either(sessions.update(token, { visits: 2 }))
          yield* Effect.either(sessions.touch(token))
          yield* Effect.either(sessions.rotate(token))
          yield* sessions.listForUser("u")
          yield* sessions.count("u")
        }
        for (const [i, record] of records.entries()) yield* client.hset(key!, { [`x${i}`]: record })
        for (let i = 0; i < 5; i++) yield* sessions.create({ userId: "u", data })
        assert.isAtMost((yield* sessions.listForUser("u")).length, 3)
        yield* sessions.deleteForUser("u")
        assert.deepStrictEqual(yield* keysOf(sessions.definition.name), [])
        yield* client.set(key!, "a text", { ttl: "1 minute" })
        assert.strictEqual((yield* error(sessions.get(token)))._tag, "RedisReplyError")
      }))

    it.effect("names and users can be any text, and don't meet", () =>
      Effect.gen(function*() {
        const base = fresh("any")
        const names = [`${base}*`, `${base}?[]\\`, `${base}{x}`, `${base}}`, `${base}%7B`, `${base}:`, base]
        const all = yield* Effect.forEach(names, (name) => Session.open(Session.define({ name })))
        for (const sessions of all) {
          for (const userId of ["a", "a:b", "{}", "*", "ü"]) yield* sessions.create({ userId, data: {} })
        }
        for (const sessions of all) {
          assert.strictEqual(yield* sessions.count("a"), 1)
          assert.strictEqual(yield* sessions.deleteForUser("*"), 1)
          assert.strictEqual(yield* sessions.count("{}"), 1)
        }
      }))

    it.effect("refuses what makes no sense, before anything is sent", () =>
      Effect.gen(function*() {
        const bad: ReadonlyArray<Partial<Session.Options>> = [
          { name: "" },
          { name: "x".repeat(1000) },
          { idleTimeout: 0 },
          { idleTimeout: Infinity },
          { absoluteTimeout: -1 },
          { touchEvery: -1 },
          { idleTimeout: 1000, touchEvery: 1000 },
          { maxPerUser: 0 },
          { maxPerUser: 1.5 },
          { rotateGrace: NaN },
          { freshFor: 0 }
        ]
        for (const options of bad) {
          const refused = yield* error(Session.open(Session.define({ name: "n", ...options })))
          assert.strictEqual(refused._tag, "RedisInputError", JSON.stringify(options))
        }
        const sessions = yield* open("input")
        const inputs: ReadonlyArray<Session.CreateOptions<typeof Data.Type>> = [
          { userId: "", data },
          { userId: "u".repeat(513), data },
          { userId: "\ud800", data },
          { userId: "u", data: { ...data, visits: "x" as unknown as number } },
          { userId: "u", data, device: { deviceId: "d".repeat(513) } },
          { userId: "u", data, device: { ip: "1".repeat(513) } }
        ]
        for (const input of inputs) {
          assert.strictEqual((yield* error(sessions.create(input)))._tag, "RedisInputError")
        }
        assert.strictEqual((yield* error(sessions.count("")))._tag, "RedisInputError")
        const { session } = yield* sessions.create({ userId: "u", data, device: { userAgent: "x".repeat(100_000) } })
        assert.strictEqual(Option.getOrThrow(session.device.userAgent).length, 256)
        yield* sessions.deleteForUser("u")
        assert.deepStrictEqual(yield* keysOf(sessions.definition.name), [])
      }))

    it.effect("a user with thousands of sessions is served", () =>
      Effect.gen(function*() {
        const sessions = yield* open("many")
        yield* Effect.forEach(Array.from({ length: 3000 }), () => sessions.create({ userId: "u", data }), {
          concurrency: 100,
          discard: true
        })
        assert.strictEqual(yield* sessions.count("u"), 3000)
        assert.strictEqual((yield* sessions.listForUser("u")).length, 3000)
        const { token } = yield* sessions.create({ userId: "u", data })
        assert.strictEqual(yield* sessions.deleteOthers(token), 3000)
        assert.strictEqual(yield* sessions.deleteForUser("u"), 1)
      }), 30_000)

    it.effect("forgotten scripts are not noticed", () =>
      Effect.gen(function*() {
        const client = yield* RedisClient
        const sessions = yield* open("flush")
        const { token } = yield* sessions.create({ userId: "u", data })
        yield* client.send("SCRIPT", "FLUSH")
        yield* sessions.getAndTouch(token)
        assert.isTrue(yield* sessions.delete(token))
      }))

    it.effect("a stream of events that is not read any more leaves no subscription", () =>
      Effect.gen(function*() {
        const client = yield* RedisClient
        const sessions = yield* open("unsubscribe")
        const fiber = yield* Effect.scoped(Effect.gen(function*() {
          yield* collect(sessions, time)
          return yield* Effect.forkDaemon(Stream.runDrain(sessions.events))
        }))
        yield* Fiber.interrupt(fiber)
        yield* eventually(Effect.map(
          client.publish(`session:${sessions.definition.name}:events`, "x"),
          (receivers) => receivers === 0
        ))
      }))
  })
}
