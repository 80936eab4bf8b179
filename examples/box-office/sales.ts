/**
 * The log of sales: an event for each order, from which everything that was ever sold can be counted again.
 */
import { Duration, Effect, Either, Option, Schedule, Schema, Stream } from "effect"
import { EventStore, RedisClient, RedisError, RedisScript } from "effect-redis-kit"
import { LIFE, type Order, type Sale } from "./sale.js"
import type { Venue } from "./venues.js"

export class Sold extends Schema.TaggedClass<Sold>()("Sold", {
  order: Schema.String,
  seats: Schema.NonEmptyArray(Schema.String),
  /** Of all its seats, in cents. */
  price: Schema.NonNegativeInt
}) {}

/** The id of the order is the id of the event: it is there once, however often it is recorded. */
const openLog = ({ id }: Sale) =>
  EventStore.open(
    EventStore.define({ name: `box-office:${id}`, event: Sold, id: ({ order }) => order, retryWindow: LIFE })
  )

/** The history of a venue. */
const venueOf = ({ id }: Venue): EventStore.Aggregate => ({ type: "venue", id })

/** What the projection has counted of a venue. */
const countKey = (sale: Sale, venueId: string) => `box-office:{${sale.id}:${venueId}}:counted`

const PROJECTION = "revenue"

/** The keys of the log that concern a venue. History is kept for ever, and that of an evening is not worth that. */
const logKeys = ({ id }: Sale, venue: Venue) => {
  const base = `events:{box-office:${id}.0}`
  return [
    `events:{box-office:${id}}:partitions`,
    `${base}:all`,
    `${base}:a:venue:${venue.id}`,
    `${base}:checkpoint:${PROJECTION}`
  ]
}

/** Writes down an order. Whoever is not sure that it was done does it again. */
export const record = (sale: Sale, venue: Venue, { id, price, seats }: Order) =>
  Effect.gen(function*() {
    const redis = yield* RedisClient.RedisClient
    const log = yield* openLog(sale)
    yield* log.append(venueOf(venue), [new Sold({ order: id, price, seats })])
    yield* redis.pipeline(
      logKeys(sale, venue).map((key) => ["EXPIRE", redis.key(key), Duration.toSeconds(LIFE)] as const)
    )
  }).pipe(
    Effect.retry({
      schedule: Schedule.spaced("100 millis").pipe(Schedule.upTo("10 seconds")),
      while: RedisError.isRedisError
    }),
    // The audit sees what is missing.
    Effect.ignoreLogged
  )

/**
 * Counts an event. A projection handles each event at least once; the version of the last one that was counted is kept
 * beside the sums, so that it counts once.
 */
const count = RedisScript.make({
  name: "box-office.count",
  idempotent: true,
  lua: `
    if tonumber(redis.call("HGET", KEYS[1], "version") or 0) >= tonumber(ARGV[1]) then return 0 end
    redis.call("HSET", KEYS[1], "version", ARGV[1])
    redis.call("HINCRBY", KEYS[1], "revenue", ARGV[2])
    redis.call("EXPIRE", KEYS[1], ARGV[3])
    return 1`,
  params: (key: string, version: number, price: number) => ({
    keys: [key],
    args: [version, price, Duration.toSeconds(LIFE)]
  }),
  result: RedisScript.boolean
})

/** Counts the revenue of each venue, for ever. Of all processes that do, one works at a time. */
export const countRevenue = (sale: Sale) =>
  Effect.gen(function*() {
    const redis = yield* RedisClient.RedisClient
    const log = yield* openLog(sale)
    return yield* log.project({
      name: PROJECTION,
      lease: "3 seconds",
      handle: ({ aggregate, data, version }) => redis.eval(count, countKey(sale, aggregate.id), version, data.price)
    })
  })

/** The revenue that was counted so far, and how many sales of the log are not counted yet. */
export const revenueOfLog = (sale: Sale) =>
  Effect.gen(function*() {
    const redis = yield* RedisClient.RedisClient
    const log = yield* openLog(sale)
    const behind = yield* log.projectionStatus(PROJECTION)
    const counted = yield* redis.pipeline(
      sale.venues.map(({ id }) => ["HGET", redis.key(countKey(sale, id)), "revenue"] as const)
    )
    return {
      revenue: counted.reduce((sum, reply) => sum + Number(Either.getOrElse(reply, () => 0)), 0),
      behind: behind.reduce((sum, { behind }) => sum + behind, 0)
    }
  })

/** What the log says when it is read from the beginning. */
const replay = (sale: Sale) =>
  Effect.gen(function*() {
    const log = yield* openLog(sale)
    const venues = new Map<string, Array<Sold>>()
    yield* Stream.runForEach(log.replay({ category: "venue" }), ({ aggregate, data }) =>
      Effect.sync(() => {
        const events = venues.get(aggregate.id)
        if (events === undefined) venues.set(aggregate.id, [data])
        else events.push(data)
      }))
    return venues
  })

/** Waits until everything is counted that is in the log. */
const counted = (sale: Sale) =>
  Effect.gen(function*() {
    const log = yield* openLog(sale)
    yield* Effect.repeat(log.projectionStatus(PROJECTION), {
      schedule: Schedule.spaced("50 millis").pipe(Schedule.upTo("10 seconds")),
      until: (partitions) => partitions.every(({ behind }) => behind === 0)
    })
  })

/** What is wrong with the log of a sale, by the orders of its venues. */
export const auditLog = (
  sale: Sale,
  venues: ReadonlyArray<{ readonly venue: Venue; readonly orders: ReadonlyArray<Order> }>
) =>
  Effect.gen(function*() {
    const redis = yield* RedisClient.RedisClient
    yield* counted(sale)
    const log = yield* replay(sale)
    const problems: Array<string> = []
    for (const { orders, venue } of venues) {
      const events = log.get(venue.id) ?? []
      for (const { id, price } of orders) {
        const found = events.filter(({ order }) => order === id)
        if (found.length !== 1) problems.push(`${venue.id}: order ${id} is in the log ${found.length} times`)
        else if (found[0]?.price !== price) problems.push(`${venue.id}: order ${id} has another price in the log`)
      }
      if (events.length > orders.length) problems.push(`${venue.id}: the log has more orders than the ledger`)
      const revenue = events.reduce((sum, { price }) => sum + price, 0)
      const field = yield* redis.hget(countKey(sale, venue.id), "revenue")
      const sum = Number(Option.getOrElse(field, () => 0))
      if (sum !== revenue) {
        problems.push(
          `${venue.id}: revenue was counted as ${sum} from the log, and is ${revenue} when it is read again`
        )
      }
    }
    return problems
  })

/** Removes what `LIFE` would remove later. */
export const forget = (sale: Sale) =>
  Effect.gen(function*() {
    const redis = yield* RedisClient.RedisClient
    yield* redis.unlinkMatching(`events:{box-office:${sale.id}}:*`)
    yield* redis.unlinkMatching(`events:{box-office:${sale.id}.0}:*`)
    yield* Effect.forEach(sale.venues, ({ id }) => redis.unlink(countKey(sale, id)), {
      concurrency: "unbounded",
      discard: true
    })
  })
