/**
 * A stock-take in the middle of the sale. Ledgers and the log are in different places, and no script sees all of them at
 * once. So buyers hold the books for reading while they write, and whoever counts holds them for writing: nobody is in
 * the middle of it then.
 */
import { Clock, Effect, Option, Schema } from "effect"
import { ReadWriteLock, RedisClient } from "effect-redis-kit"
import { auditVenues } from "./audit.js"
import { booksOf, LIFE, type Sale, saleKeys } from "./sale.js"
import { auditLog } from "./sales.js"

export class StockTake extends Schema.Class<StockTake>("StockTake")({
  /** In milliseconds. */
  at: Schema.Int,
  /** For how many milliseconds nobody could buy. */
  held: Schema.Int,
  orders: Schema.Int,
  tickets: Schema.Int,
  /** In cents. */
  revenue: Schema.Int,
  /** None, when all is well. */
  problems: Schema.Array(Schema.String)
}) {
  static readonly json = Schema.parseJson(StockTake)
}

/** How many problems are told. */
const TOLD = 20

/** Counts everything that was sold, and writes down what was found. */
export const takeStock = (sale: Sale) =>
  Effect.gen(function*() {
    const redis = yield* RedisClient.RedisClient
    const start = yield* Clock.currentTimeMillis
    const venues = yield* auditVenues(sale)
    const log = yield* auditLog(sale, venues)
    const at = yield* Clock.currentTimeMillis
    const sum = (of: (venue: typeof venues[number]) => number) => venues.reduce((total, venue) => total + of(venue), 0)
    const found = new StockTake({
      at,
      held: at - start,
      orders: sum(({ orders }) => orders.length),
      tickets: sum(({ tickets }) => tickets),
      revenue: sum(({ revenue }) => revenue),
      problems: [...venues.flatMap(({ problems }) => problems.map(({ text }) => text)), ...log].slice(0, TOLD)
    })
    const json = yield* Effect.orDie(Schema.encode(StockTake.json)(found))
    yield* redis.set(saleKeys(sale).stock, json, { ttl: LIFE })
    return found
  }).pipe(ReadWriteLock.withWriteLock(booksOf(sale), { lease: "10 seconds", waitTimeout: "10 seconds" }))

/** What the last stock-take has found. */
export const lastStockTake = (sale: Sale) =>
  Effect.gen(function*() {
    const redis = yield* RedisClient.RedisClient
    const json = yield* redis.get(saleKeys(sale).stock)
    return Option.flatMap(json, Schema.decodeOption(StockTake.json))
  })
