/**
 * How much one buyer and one address may order, and how often one may say something.
 */
import { Duration, Effect } from "effect"
import { RateLimiter } from "effect-redis-kit"
import { Refused, report } from "./news.js"
import type { Sale } from "./sale.js"

export const PerBuyer = RateLimiter.policy({
  name: "orders-per-buyer",
  limit: 5,
  window: "1 minute",
  algorithm: "sliding-window"
})

export const PerAddress = RateLimiter.policy({
  name: "orders-per-address",
  limit: 20,
  window: "1 minute",
  algorithm: "sliding-window"
})

export const Logins = RateLimiter.policy({ name: "logins", limit: 30, window: "1 minute" })

/** Of what is said in the lobby. */
export const Talk = RateLimiter.policy({
  name: "words-per-buyer",
  limit: 10,
  window: "1 minute",
  algorithm: "sliding-window"
})

/** How often stock may be taken because somebody asks for it. */
export const StockTakes = RateLimiter.policy({ name: "stock-takes", limit: 6, window: "1 minute", burst: 3 })

/** Tells who was refused, if anybody was. */
export const tellRefusal = (sale: Sale, { allowed, policy, retryAfter }: RateLimiter.Decision, who: string) =>
  allowed
    ? Effect.void
    : report(sale, new Refused({ policy, who, retryAfter: Math.min(Duration.toMillis(retryAfter), 86_400_000) }))

/** Whether a buyer may order once more. */
export const mayOrder = (sale: Sale, buyer: string) =>
  RateLimiter.consume(PerBuyer, buyer).pipe(
    Effect.tap((decision) => tellRefusal(sale, decision, buyer)),
    Effect.map(({ allowed }) => allowed)
  )
