/**
 * Who is logged in, in a cookie. Anybody may have any name here: there are no passwords.
 */
import { HttpApiBuilder } from "@effect/platform"
import { Effect, Option, Schema } from "effect"
import { Notifications, Session } from "effect-redis-kit"
import { Sessions } from "effect-redis-kit/http"
import { Api } from "./api.js"
import { orUnavailable } from "./unavailable.js"

const Buyers = Session.define({ name: "box-office", maxPerUser: 5 })

export const Cookie = Sessions.cookies(Buyers)

/** What the other pages of the same buyer are told of. */
export const AccountChanged = Notifications.define({
  name: "box-office",
  schema: Schema.Literal("logged in", "logged out", "ordered")
})

/** Nothing of it is worth failing a request for. */
export const changed = (buyer: string, how: "logged in" | "logged out" | "ordered") =>
  Effect.ignoreLogged(Notifications.notify(AccountChanged, buyer, how))

export const account = HttpApiBuilder.group(Api, "account", (handlers) =>
  handlers
    .handle("login", ({ payload: { name } }) =>
      Effect.zipRight(Sessions.login(Cookie, { userId: name, data: {} }), changed(name, "logged in")))
    .handle("logout", () =>
      Effect.gen(function*() {
        const session = yield* Sessions.MaybeSession
        yield* Sessions.logout(Cookie)
        if (Option.isSome(session)) {
          yield* changed(session.value.userId, "logged out")
        }
      }))
    .handle("logoutEverywhere", () =>
      Effect.gen(function*() {
        const { userId } = yield* Sessions.CurrentSession
        yield* Sessions.logoutEverywhere(Cookie)
        yield* changed(userId, "logged out")
      }))
    .handle("me", () =>
      Effect.gen(function*() {
        const { userId } = yield* Sessions.CurrentSession
        const sessions = yield* Session.open(Buyers)
        return { name: userId, sessions: yield* sessions.count(userId) }
      }).pipe(orUnavailable)))
