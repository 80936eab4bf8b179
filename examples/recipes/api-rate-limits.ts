/**
 * An API with a limit for each kind of client: 60 requests a minute for anybody, 300 for users, 1000 for those who pay.
 * When Redis is away nobody is refused.
 */
import { HttpRouter, HttpServerRequest, HttpServerResponse } from "@effect/platform"
import { Effect } from "effect"
import { RateLimiter } from "effect-redis-kit"
import { ClientAddress, RateLimits } from "effect-redis-kit/http"

// #region tiers
export const limits = { anonymous: 60, authenticated: 300, premium: 1000 } as const

/** One policy for all of them: who begins to pay keeps the count, and has more left of it. */
export const Requests = RateLimiter.policy({
  name: "api",
  limit: limits.anonymous,
  window: "1 minute",
  algorithm: "sliding-window",
  onUnavailable: "allow"
})
// #endregion tiers

interface User {
  readonly id: string
  readonly premium: boolean
}

/** A real service finds them by their sessions. */
const users: ReadonlyMap<string, User> = new Map([
  ["Bearer ada", { id: "ada", premium: false }],
  ["Bearer grace", { id: "grace", premium: true }]
])

// #region charge
/** Whom a request is charged to, and how much that one may do. */
const charge = Effect.gen(function*() {
  const { headers } = yield* HttpServerRequest.HttpServerRequest
  const user = users.get(headers["authorization"] ?? "")
  return user === undefined
    ? { policy: Requests, id: `address:${yield* ClientAddress.fromRequest()}` }
    : { policy: Requests, id: `user:${user.id}`, limit: user.premium ? limits.premium : limits.authenticated }
})

export const rateLimits = RateLimits.middleware({ charge, headers: "both" })
// #endregion charge

/** Needs a `RateLimiter`. */
export const app = HttpRouter.empty.pipe(
  HttpRouter.get("/books", HttpServerResponse.json(["Redis in Action", "The Little Schemer"])),
  rateLimits
)
