/**
 * How much is sold, by the totals of the venues.
 */
import { Effect, Either } from "effect"
import { RedisClient } from "effect-redis-kit"
import { type Sale, venueKeys } from "./sale.js"
import type { Venue } from "./venues.js"

export interface Totals {
  readonly orders: number
  readonly tickets: number
  /** In cents. */
  readonly revenue: number
  /** The tickets of each venue. */
  readonly venues: ReadonlyArray<readonly [venue: Venue, tickets: number]>
}

/** All of it in one write. Each venue is of one moment. */
export const totals = (sale: Sale) =>
  Effect.gen(function*() {
    const redis = yield* RedisClient.RedisClient
    const replies = yield* redis.pipeline(
      sale.venues.map((venue) =>
        ["HMGET", redis.key(venueKeys(sale, venue).totals), "orders", "tickets", "revenue"] as const
      )
    )
    const sum = { orders: 0, tickets: 0, revenue: 0 }
    const venues = yield* Effect.forEach(sale.venues, (venue, n) =>
      Effect.map(replies[n] ?? Either.right(null), (reply) => {
        const [orders = 0, tickets = 0, revenue = 0] = Array.isArray(reply) ? reply.map(Number) : []
        sum.orders += orders
        sum.tickets += tickets
        sum.revenue += revenue
        return [venue, tickets] as const
      }))
    return { ...sum, venues } satisfies Totals
  })
