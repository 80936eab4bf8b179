/**
 * How much one buyer and one address may order. Both are used, or none of them.
 */
import { Duration, Effect, Layer, Option } from "effect"
import { RateLimiter } from "effect-redis-kit"
import { ClientAddress, RateLimits, Sessions } from "effect-redis-kit/http"
import { LoginLimit } from "./api.js"

const PerBuyer = RateLimiter.policy({
  name: "orders-per-buyer",
  limit: 5,
  window: "1 minute",
  algorithm: "sliding-window"
})

const PerAddress = RateLimiter.policy({
  name: "orders-per-address",
  limit: 20,
  window: "1 minute",
  algorithm: "sliding-window"
})

const Logins = RateLimiter.policy({ name: "logins", limit: 30, window: "1 minute" })

const address = ClientAddress.fromRequest()

/** Orders are charged to the buyer and to the address. */
const orders = RateLimits.layerApi(RateLimits.RateLimit, {
  charge: Effect.gen(function*() {
    const session = yield* Effect.serviceOption(Sessions.CurrentSession)
    return [
      ...Option.match(session, { onNone: () => [], onSome: ({ userId }) => [{ policy: PerBuyer, id: userId }] }),
      { policy: PerAddress, id: yield* address }
    ]
  })
})

const logins = RateLimits.layerApi(LoginLimit, {
  charge: Effect.map(address, (id) => ({ policy: Logins, id }))
})

export const limits = Layer.merge(orders, logins)

const left = (policy: RateLimiter.Policy, id: string) =>
  Effect.map(RateLimiter.check(policy, id), ({ limit, policy, remaining, resetAfter }) => ({
    policy,
    limit,
    remaining,
    reset: Math.ceil(Duration.toSeconds(resetAfter))
  }))

/** What is left. Looking uses nothing. */
export const leftOf = (buyer: Option.Option<string>) =>
  Effect.flatMap(address, (id) =>
    Effect.all({
      address: left(PerAddress, id),
      buyer: Option.match(buyer, { onNone: () => Effect.succeed(null), onSome: (buyer) => left(PerBuyer, buyer) })
    }, { concurrency: "unbounded" }))
