/**
 * Logins with sessions: a cookie that scripts can't read, five devices for each user, a list of them, and a way to log out
 * here or everywhere.
 */
import { HttpRouter, HttpServerRequest, HttpServerResponse } from "@effect/platform"
import { Context, Effect, Layer, Option, Schema } from "effect"
import { RateLimiter, Session } from "effect-redis-kit"
import { ClientAddress, SameOrigin, Sessions } from "effect-redis-kit/http"
import { randomBytes, scrypt, timingSafeEqual } from "node:crypto"

export interface Account {
  readonly id: string
  readonly email: string
  readonly roles: ReadonlyArray<string>
}

const derive = (password: string, salt: Buffer) =>
  Effect.async<Buffer>((resume) =>
    scrypt(password, salt, 32, (error, key) => resume(error === null ? Effect.succeed(key) : Effect.die(error)))
  )

/** A database in real life. */
export class Accounts extends Context.Tag("recipes/Accounts")<Accounts, {
  /** `None` for an unknown address as for a wrong password, after the same time. */
  readonly check: (email: string, password: string) => Effect.Effect<Option.Option<Account>>
  readonly get: (id: string) => Effect.Effect<Option.Option<Account>>
}>() {
  static readonly layerOf = (accounts: ReadonlyArray<Account & { readonly password: string }>) =>
    Layer.effect(
      Accounts,
      Effect.map(
        Effect.forEach(accounts, ({ password, ...account }) => {
          const salt = randomBytes(16)
          return Effect.map(derive(password, salt), (hash) => ({ account, hash, salt }))
        }),
        (rows) => ({
          check: (email, password) => {
            const row = rows.find(({ account }) => account.email === email)
            return Effect.map(
              derive(password, row?.salt ?? Buffer.alloc(16)),
              (hash) => row !== undefined && timingSafeEqual(hash, row.hash) ? Option.some(row.account) : Option.none()
            )
          },
          get: (id) => Effect.sync(() => Option.fromNullable(rows.find(({ account }) => account.id === id)?.account))
        })
      )
    )
}

// #region sessions
/** Of the user nothing is stored but the id: rights that are taken away are gone with the next request. */
export const Users = Sessions.cookies(
  Session.define({
    name: "users",
    idleTimeout: "1 day",
    absoluteTimeout: "30 days",
    maxPerUser: 5,
    onePerDevice: true
  })
)
// #endregion sessions

/** Guessing is slow: five attempts a minute for an address, ten an hour for an account. */
const PerAddress = RateLimiter.policy({
  name: "logins",
  limit: 5,
  window: "1 minute",
  algorithm: "sliding-window"
})
const PerAccount = RateLimiter.policy({
  name: "logins-of",
  limit: 10,
  window: "1 hour",
  algorithm: "sliding-window"
})

const Credentials = Schema.Struct({ email: Schema.String, password: Schema.String })

// #region login
const login = Effect.gen(function*() {
  const { email, password } = yield* HttpServerRequest.schemaBodyJson(Credentials)
  const { headers } = yield* HttpServerRequest.HttpServerRequest
  const decision = yield* RateLimiter.consumeAll([
    { policy: PerAddress, id: yield* ClientAddress.fromRequest() },
    { policy: PerAccount, id: email.toLowerCase() }
  ])
  if (!decision.allowed) return yield* HttpServerResponse.json({ error: "Too Many Requests" }, { status: 429 })
  const accounts = yield* Accounts
  const account = yield* accounts.check(email, password)
  if (Option.isNone(account)) return yield* new Sessions.Unauthorized()
  // A client that says which device it is has one session for it; the others are as many devices as sessions.
  const { session } = yield* Sessions.login(Users, {
    userId: account.value.id,
    data: {},
    deviceId: headers["x-device-id"]
  })
  return yield* HttpServerResponse.json({ expiresAt: session.expiresAt })
})
// #endregion login

/** Who is logged in, as the database knows the user now. */
const currentAccount = Effect.gen(function*() {
  const session = yield* Sessions.requireAuth(Users)
  const accounts = yield* Accounts
  const account = yield* accounts.get(session.userId)
  return Option.isSome(account) ? account.value : yield* new Sessions.Unauthorized()
})

const devices = Effect.gen(function*() {
  const { id, userId } = yield* Sessions.requireAuth(Users)
  const sessions = yield* Session.open(Users.definition)
  const all = yield* sessions.listForUser(userId)
  return all.map((session) => ({
    id: session.id,
    here: session.id === id,
    userAgent: session.device.userAgent,
    lastSeen: session.lastSeenAt
  }))
})

/** Needs `Session`, `RateLimiter` and `Accounts`. Pages of other sites can't make their visitors log in or out. */
export const app = HttpRouter.empty.pipe(
  HttpRouter.post("/login", login),
  HttpRouter.get("/me", Effect.flatMap(currentAccount, (account) => HttpServerResponse.json(account))),
  HttpRouter.get("/devices", Effect.flatMap(devices, (list) => HttpServerResponse.json(list))),
  HttpRouter.post("/logout", Effect.flatMap(Sessions.logout(Users), (done) => HttpServerResponse.json({ done }))),
  HttpRouter.post(
    "/logout/everywhere",
    Effect.flatMap(Sessions.logoutEverywhere(Users), (count) => HttpServerResponse.json({ count }))
  ),
  SameOrigin.middleware()
)
