/**
 * Logins and logouts, and requests with tokens that are good and such that are not any more.
 */
import { Effect, Either, Option, Redacted, Schema } from "effect"
import * as Session from "../../src/Session/index.js"
import { chance, found, type Load, pick, together, Work } from "./work.js"

export const REVOKED = "sessions: none is revived after its revocation"
export const KEPT = "sessions: none is lost"
export const CAPPED = "sessions: no user has more than allowed"

const Users = Session.define({
  name: "users",
  data: Schema.Struct({ n: Schema.optional(Schema.Number) }),
  touchEvery: "100 millis"
})

const Capped = Session.define({ name: "capped", maxPerUser: 3 })

const USERS = ["ada", "bob", "cyd", "dan", "eve", "fay"]

/** In the slot of the user's sessions. */
const place = (token: string): string => `{${token.slice(0, 2)}}`

export const load: Load = {
  run: Effect.gen(function*() {
    const { ask, book, bug, check, confirm, paced } = yield* Work
    const users = yield* Session.open(Users)
    const capped = yield* Session.open(Capped)

    /** A good one, which all replicas know. */
    const login = Effect.gen(function*() {
      const { token } = yield* ask("Session.create", users.create({ userId: pick(USERS)!, data: {} }))
      const text = Redacted.value(token)
      // Once more with a write that is certain.
      const { confirmed } = yield* confirm(place(text), users.update(token, { n: 1 }))
      return confirmed ? text : undefined
    })

    /** A master that was away does not know at once that it is none any more. What it says is looked at again. */
    const certainly = (token: Redacted.Redacted) =>
      Effect.map(
        confirm(place(Redacted.value(token)), Effect.either(users.get(token))),
        ({ confirmed, result }): Option.Option<boolean> => {
          if (!confirmed || Either.isLeft(result)) return Option.none()
          if (Either.isRight(result.right)) return Option.some(true)
          return result.right.left._tag === "SessionNotFound" ? Option.some(false) : Option.none()
        }
      )

    const isGone = (token: string, gone: string) =>
      Effect.gen(function*() {
        const valid = yield* Effect.either(ask("Session.get", users.get(Redacted.make(token))))
        if (Either.isRight(valid)) return yield* check(gone, true, () => "")
        if (valid.left._tag !== "SessionNotFound") return
        const found = yield* certainly(Redacted.make(token))
        if (Option.isSome(found)) yield* check(gone, found.value, () => token)
      })

    const life = Effect.gen(function*() {
      const text = yield* login
      if (text === undefined) return
      const token = Redacted.make(text)
      yield* Effect.promise(() => book.redis.sadd("sessions:good", text))
      if (bug()) yield* users.delete(token)
      for (let i = 0; i < 3; i++) {
        yield* Effect.sleep(Math.random() * 200)
        yield* isGone(text, KEPT)
      }
      if (chance(0.1)) return
      // From here on nobody knows, until it is certain that it has ended.
      yield* Effect.promise(() => book.redis.srem("sessions:good", text))
      const slow = Effect.ignore(users.update(token, { n: 2 }))
      const end = chance(0.5) ? Effect.asVoid(users.delete(token)) : Effect.asVoid(users.rotate(token))
      const { confirmed } = yield* confirm(
        place(text),
        Effect.zipLeft(
          ask("Session.delete or rotate", bug() ? Effect.void : end),
          Effect.all([slow, slow, Effect.ignore(users.getAndTouch(token))], { concurrency: "unbounded" })
        )
      )
      // Those came before or after it; whatever they did, it is over.
      if (confirmed) yield* Effect.promise(() => book.redis.rpush("sessions:over", text))
    })
    for (let i = 0; i < 3; i++) yield* Effect.forkScoped(paced(60, life))

    const revive = Effect.gen(function*() {
      const size = yield* Effect.promise(() => book.redis.llen("sessions:over"))
      if (size === 0) return
      // Mostly a recent one.
      const back = Math.floor(Math.random() * Math.min(size, chance(0.8) ? 20 : size))
      const text = yield* Effect.promise(() => book.redis.lindex("sessions:over", -1 - back))
      const token = Redacted.make(text ?? "")
      const use = pick([
        Effect.as(users.get(token), token),
        Effect.as(users.getAndTouch(token), token),
        Effect.as(users.update(token, { n: 3 }), token),
        Effect.map(users.rotate(token), (session) => session.token)
      ])!
      const result = yield* Effect.either(ask("a request with an old token", use))
      if (Either.isRight(result)) {
        const found = yield* certainly(result.right)
        if (Option.isSome(found)) yield* check(REVOKED, !found.value, () => `${text} is good again`)
      } else if (result.left._tag === "SessionNotFound") yield* check(REVOKED, true, () => "")
    })
    for (let i = 0; i < 2; i++) yield* Effect.forkScoped(paced(60, revive))

    const crowd = Effect.gen(function*() {
      const userId = pick(USERS)!
      const name = bug() ? Session.define({ ...Capped, maxPerUser: 30 }) : undefined
      const many = name === undefined ? capped : yield* Session.open(name)
      yield* Effect.all(
        Array.from(
          { length: name === undefined ? 2 : 6 },
          () => ask("Session.create", many.create({ userId, data: {} }))
        ),
        { concurrency: "unbounded" }
      )
      const n = yield* ask("Session.count", capped.count(userId))
      yield* check(CAPPED, n <= 3, () => `${userId} has ${n}`)
    })
    yield* Effect.forkScoped(paced(200, crowd))
  }),
  judge: (book) =>
    Effect.gen(function*() {
      const users = yield* Session.open(Users)
      const over = yield* Effect.promise(() => book.redis.lrange("sessions:over", 0, -1))
      const good = yield* Effect.promise(() => book.redis.smembers("sessions:good"))
      const wrong = (tokens: ReadonlyArray<string>, right: boolean) =>
        Effect.map(
          Effect.filter(
            tokens,
            (token) => Effect.map(users.isValid(Redacted.make(token)), (valid) => valid !== right),
            { concurrency: 20 }
          ),
          (violations) => ({ checks: tokens.length, violations })
        )
      return [
        together(yield* found(book, REVOKED), yield* wrong(over, false)),
        together(yield* found(book, KEPT), yield* wrong(good, true)),
        yield* found(book, CAPPED)
      ]
    })
}
