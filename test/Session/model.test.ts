/**
 * Whatever happens in whatever order: one after another against a plain model, and at the same time against what must hold
 * then.
 */
import { assert, describe, it } from "@effect/vitest"
import {
  Clock,
  DateTime,
  Effect,
  Either,
  FastCheck,
  Layer,
  Option,
  type Redacted,
  Runtime,
  Schema,
  TestClock
} from "effect"
import { RedisClient } from "../../src/RedisClient.js"
import * as Session from "../../src/Session/index.js"
import { live } from "../kit/layers.js"

/** More with SESSION_RUNS=10000. */
const RUNS = Number(process.env["SESSION_RUNS"] ?? 50)

const TIMEOUT = 60_000 + RUNS * 1000

const Data = Schema.Struct({ a: Schema.Number, b: Schema.optional(Schema.Number) })

const user = FastCheck.constantFrom("ada", "bob")
const pick = FastCheck.nat(7)

type Step =
  | { readonly _tag: "create"; readonly user: string }
  | { readonly _tag: "deleteForUser"; readonly user: string }
  | { readonly _tag: "get" | "touch" | "getAndTouch" | "rotate" | "delete" | "deleteOthers"; readonly pick: number }
  | { readonly _tag: "update"; readonly pick: number; readonly field: "a" | "b"; readonly value: number }
  | { readonly _tag: "wait"; readonly millis: number }

const step: FastCheck.Arbitrary<Step> = FastCheck.oneof(
  { weight: 6, arbitrary: FastCheck.record({ _tag: FastCheck.constant("create" as const), user }) },
  {
    weight: 8,
    arbitrary: FastCheck.record({
      _tag: FastCheck.constantFrom(
        "get" as const,
        "touch" as const,
        "getAndTouch" as const,
        "rotate" as const,
        "delete" as const
      ),
      pick
    })
  },
  {
    weight: 2,
    arbitrary: FastCheck.record({
      _tag: FastCheck.constant("update" as const),
      pick,
      field: FastCheck.constantFrom("a" as const, "b" as const),
      value: FastCheck.nat(9)
    })
  },
  { weight: 1, arbitrary: FastCheck.record({ _tag: FastCheck.constant("deleteOthers" as const), pick }) },
  { weight: 1, arbitrary: FastCheck.record({ _tag: FastCheck.constant("deleteForUser" as const), user }) },
  {
    weight: 2,
    arbitrary: FastCheck.record({
      _tag: FastCheck.constant("wait" as const),
      millis: FastCheck.constantFrom(1, 5, 30, 40, 60, 80, 99, 100)
    })
  }
)

const settings = FastCheck.record({
  maxPerUser: FastCheck.constantFrom(undefined, 1, 3),
  onLimit: FastCheck.constantFrom("evict-oldest" as const, "reject" as const),
  rotateGrace: FastCheck.constantFrom(0, 40),
  touchEvery: FastCheck.constantFrom(0, 30),
  watchExpiry: FastCheck.boolean()
})

interface Known {
  readonly token: Redacted.Redacted
  readonly user: string
  readonly id: string
}

interface Modelled extends Known {
  readonly created: number
  seen: number
  ends: number
  data: typeof Data.Type
}

const IDLE = 100
const ABSOLUTE = 250

const sequence = (steps: ReadonlyArray<Step>, options: Partial<Session.Options>) =>
  Effect.gen(function*() {
    const client = yield* RedisClient
    const sessions = yield* Session.open(Session.define({
      name: "model",
      data: Data,
      idleTimeout: IDLE,
      absoluteTimeout: ABSOLUTE,
      ...options
    }))
    const { maxPerUser = Infinity, onLimit, touchEvery } = options
    const grace = options.rotateGrace as number
    let now = yield* Clock.currentTimeMillis
    const all: Array<Known> = []
    let present: Array<Modelled> = []
    /** Tokens that were replaced, and until when they are good. */
    const before = new Map<Redacted.Redacted, { readonly ends: number; readonly to: Modelled }>()
    const chosen = (n: number) => all.length === 0 ? undefined : all[all.length - 1 - n % all.length]
    const direct = ({ token }: Known) => present.find((session) => session.token === token)
    const reached = (known: Known) => {
      const alias = before.get(known.token)
      return alias === undefined
        ? direct(known)
        : alias.ends > now && present.includes(alias.to)
        ? alias.to
        : undefined
    }
    const drop = (gone: (session: Modelled) => boolean) => {
      present = present.filter((session) => !gone(session))
    }
    const use = (session: Modelled) => {
      session.seen = now
      session.ends = Math.min(now + IDLE, session.created + ABSOLUTE)
    }
    const same = (info: Session.SessionInfo<typeof Data.Type>, session: Modelled) =>
      assert.deepStrictEqual(
        [info.id, info.userId, info.data, info.createdAt, info.lastSeenAt, info.expiresAt].map(String),
        [
          session.id,
          session.user,
          session.data,
          DateTime.unsafeMake(session.created),
          DateTime.unsafeMake(session.seen),
          DateTime.unsafeMake(session.ends)
        ].map(String)
      )
    const orNone = <A, E extends { readonly _tag: string }>(effect: Effect.Effect<A, E>) =>
      Effect.map(Effect.either(effect), (result) => {
        if (Either.isRight(result)) return result.right
        assert.strictEqual(result.left._tag, "SessionNotFound")
        return undefined
      })

    for (const step of steps) {
      if (step._tag === "wait") {
        yield* TestClock.adjust(step.millis)
        now += step.millis
        drop(({ ends }) => ends <= now)
      } else if (step._tag === "create") {
        const data = { a: now }
        const result = yield* Effect.either(sessions.create({ userId: step.user, data }))
        const own = present.filter(({ user }) => user === step.user)
        if (own.length >= maxPerUser && onLimit === "reject") {
          assert.isTrue(Either.isLeft(result))
        } else {
          assert(Either.isRight(result))
          const { evicted, session, token } = result.right
          const gone = new Set(evicted.map(({ id }) => id))
          assert.strictEqual(gone.size, Math.max(0, own.length - maxPerUser + 1))
          const kept = own.filter(({ id }) => !gone.has(id)).map(({ seen }) => seen)
          for (const id of gone) {
            const { seen } = own.find((session) => session.id === id)!
            assert.isAtMost(seen, Math.min(Infinity, ...kept))
          }
          drop(({ id }) => gone.has(id))
          const made = { token, user: step.user, id: session.id, created: now, seen: 0, ends: 0, data }
          use(made)
          all.push(made)
          present.push(made)
          same(session, made)
        }
      } else if (step._tag === "deleteForUser") {
        const ended = yield* sessions.deleteForUser(step.user)
        assert.strictEqual(ended, present.filter(({ user }) => user === step.user).length)
        drop(({ user }) => user === step.user)
      } else {
        const known = chosen(step.pick)
        if (known === undefined) continue
        const { token } = known
        const session = reached(known)
        switch (step._tag) {
          case "get": {
            const info = yield* orNone(sessions.get(token))
            assert.strictEqual(info === undefined, session === undefined)
            if (info !== undefined) same(info, session!)
            break
          }
          case "touch":
          case "getAndTouch": {
            const due = session !== undefined && now - session.seen >= (touchEvery as number)
            if (due) use(session)
            const info = yield* orNone<Session.SessionInfo<typeof Data.Type> | DateTime.Utc, Session.LookupError>(
              sessions[step._tag](token)
            )
            assert.strictEqual(info === undefined, session === undefined)
            if (info !== undefined && "id" in info) same(info, session!)
            break
          }
          case "update": {
            const info = yield* orNone(sessions.update(token, { [step.field]: step.value }))
            assert.strictEqual(info === undefined, session === undefined)
            if (session !== undefined) {
              session.data = { ...session.data, [step.field]: step.value }
              assert.deepStrictEqual(info!.data, session.data)
            }
            break
          }
          case "rotate": {
            const next = yield* orNone(sessions.rotate(token))
            const old = direct(known)
            assert.strictEqual(next === undefined, old === undefined)
            if (next !== undefined) {
              const made = { ...old!, token: next.token, id: next.session.id }
              use(made)
              drop((session) => session === old)
              present.push(made)
              all.push(made)
              if (grace > 0) before.set(token, { ends: Math.min(now + grace, made.ends), to: made })
              same(next.session, made)
            }
            break
          }
          case "delete":
            assert.strictEqual(yield* sessions.delete(token), session !== undefined)
            drop((one) => one === session)
            break
          case "deleteOthers": {
            const ended = yield* orNone(sessions.deleteOthers(token))
            const others = (one: Modelled) => one.user === session?.user && one !== session
            assert.strictEqual(ended, session === undefined ? undefined : present.filter(others).length)
            drop(others)
            break
          }
        }
      }
      for (const known of all) {
        assert.strictEqual(yield* sessions.isValid(known.token), reached(known) !== undefined)
      }
      for (const user of ["ada", "bob"]) {
        assert.deepStrictEqual(
          (yield* sessions.listForUser(user)).map(({ id }) => id).toSorted(),
          present.filter((session) => session.user === user).map(({ id }) => id).toSorted()
        )
      }
    }
    yield* TestClock.adjust(ABSOLUTE)
    if (options.watchExpiry === true) yield* sessions.sweep
    yield* TestClock.adjust("1 hour")
    assert.strictEqual(yield* client.send("DBSIZE"), 0)
  })

/** Two processes and four fibers that share their tokens. */
const interleaving = (fibers: ReadonlyArray<ReadonlyArray<Step>>, options: Partial<Session.Options>, name: string) =>
  Effect.gen(function*() {
    const sessions = yield* Session.open(Session.define({ name, data: Data, ...options }))
    const all: Array<Known> = []
    const dead = new Set<Redacted.Redacted>()
    const chosen = (n: number) => all.length === 0 ? undefined : all[all.length - 1 - n % all.length]
    const add = ({ session, token }: Session.Issued<typeof Data.Type>) => {
      all.push({ token, user: session.userId, id: session.id })
    }
    yield* Effect.forEach(fibers, (steps) =>
      Effect.forEach(steps, (step) =>
        Effect.gen(function*() {
          if (step._tag === "wait") return yield* Effect.yieldNow()
          if (step._tag === "create") {
            const created = yield* Effect.option(sessions.create({ userId: step.user, data: { a: 0 } }))
            if (Option.isSome(created)) {
              add(created.value)
              for (const { id } of created.value.evicted) {
                for (const one of all) if (one.id === id) dead.add(one.token)
              }
            }
            return
          }
          if (step._tag === "deleteForUser") {
            const known = all.filter(({ user }) => user === step.user)
            yield* sessions.deleteForUser(step.user)
            for (const { token } of known) dead.add(token)
            return
          }
          const known = chosen(step.pick)
          if (known === undefined) return
          const { token, user } = known
          switch (step._tag) {
            case "rotate": {
              const next = yield* Effect.option(sessions.rotate(token))
              if (Option.isSome(next)) add(next.value)
              if (options.rotateGrace === 0) dead.add(token)
              return
            }
            case "delete":
              yield* sessions.delete(token)
              return void dead.add(token)
            case "deleteOthers": {
              const others = all.filter((one) => one.user === user && one !== known)
              const ended = yield* Effect.option(sessions.deleteOthers(token))
              // One that was replaced meanwhile may lead to the session that stays.
              if (Option.isSome(ended) && options.rotateGrace === 0) { for (const { token } of others) dead.add(token) }
              return
            }
            default: {
              const result = step._tag === "update"
                ? yield* Effect.either(sessions.update(token, { [step.field]: step.value }))
                : yield* Effect.either<unknown, Session.LookupError, never>(sessions[step._tag](token))
              if (Either.isLeft(result) && result.left._tag === "SessionNotFound") dead.add(token)
            }
          }
        }), { discard: true }), { concurrency: "unbounded", discard: true })

    for (const token of dead) assert.isFalse(yield* sessions.isValid(token), "it came back")
    for (const user of ["ada", "bob"]) {
      const listed = (yield* sessions.listForUser(user)).map(({ id }) => id)
      const valid = new Set<string>()
      for (const { token } of all.filter((one) => one.user === user)) {
        const session = yield* Effect.option(sessions.get(token))
        if (Option.isSome(session)) valid.add(session.value.id)
      }
      assert.deepStrictEqual(listed.toSorted(), Array.from(valid).toSorted(), "what is valid is listed, and only that")
      assert.strictEqual(yield* sessions.count(user), listed.length)
      assert.isAtMost(listed.length, options.maxPerUser ?? Infinity)
      assert.strictEqual(yield* sessions.deleteForUser(user), listed.length)
    }
    for (const { token } of all) assert.isFalse(yield* sessions.isValid(token))
  })

const fibers = FastCheck.array(FastCheck.array(step, { maxLength: 12, size: "max" }), { minLength: 2, maxLength: 4 })

let names = 0

/** All runs on one server, which is empty again after each of them. */
const holds = <A, B>(
  one: FastCheck.Arbitrary<A>,
  other: FastCheck.Arbitrary<B>,
  run: (one: A, other: B) => Effect.Effect<void, unknown, Session.Session | RedisClient>
) =>
  Effect.flatMap(Effect.runtime<Session.Session | RedisClient>(), (runtime) =>
    Effect.promise(() =>
      FastCheck.assert(
        FastCheck.asyncProperty(one, other, (one, other) => Runtime.runPromise(runtime, run(one, other))),
        { numRuns: RUNS }
      )
    ))

const interleaved = holds(
  fibers,
  settings,
  (fibers, settings) =>
    interleaving(fibers, { ...settings, rotateGrace: settings.rotateGrace * 1000 }, `interleaved-${names++}`)
)

describe("Session, whatever happens in whatever order", () => {
  it.effect(
    "does what a plain model does",
    () =>
      holds(FastCheck.array(step, { maxLength: 40, size: "max" }), settings, sequence).pipe(
        Effect.provide(Session.layerTest)
      ),
    TIMEOUT
  )

  it.effect(
    "in memory, at the same time: what is valid is listed, and what has ended stays so",
    () => interleaved.pipe(Effect.provide(Session.layerTest)),
    TIMEOUT
  )

  it.live(
    "live, at the same time: what is valid is listed, and what has ended stays so",
    () => interleaved.pipe(Effect.provide(Layer.provideMerge(Session.layer, live))),
    TIMEOUT
  )
})
