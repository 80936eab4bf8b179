/**
 * What was really sold, by the ledger in Redis alone: it holds whichever process sold and whoever asks.
 */
import { Array, Chunk, Effect, Either, Schedule, Schema, Stream } from "effect"
import { RedisClient, RedisScript } from "effect-redis-kit"
import { confirmed } from "./mail.js"
import { Order, type Sale, saleKeys, venueKeys } from "./sale.js"
import { auditLog } from "./sales.js"
import type { Venue } from "./venues.js"

/** What must hold. */
export const checks = {
  once: "no seat is sold twice",
  map: "each seat on the map belongs to exactly one order of the ledger",
  revenue: "orders, tickets and revenue add up",
  receipts: "every order that a buyer was told of is in the ledger",
  log: "the log of sales has every order once, and counting it again gives the same revenue",
  mails: "every order has its confirmation, or a dead letter that says why not",
  locks: "no lock, no till and no queue is left"
}

export interface Problem {
  readonly check: keyof typeof checks
  readonly text: string
}

export interface VenueAudit {
  readonly venue: Venue
  readonly orders: ReadonlyArray<Order>
  /** By the ledger: a seat that was sold twice counts twice. */
  readonly tickets: number
  /** By the map of seats. */
  readonly seatsSold: number
  /** In cents. */
  readonly revenue: number
  readonly problems: ReadonlyArray<Problem>
}

export interface Audit {
  readonly venues: ReadonlyArray<VenueAudit>
  readonly orders: number
  readonly tickets: number
  readonly seatsSold: number
  readonly revenue: number
  /** Processes that are not done: only after the last one can anybody tell whether something of the locks is left. */
  readonly stillSelling: number
  /** Nothing, when all is well. */
  readonly problems: ReadonlyArray<Problem>
}

/** Seats, ledger and totals of a venue at one moment. */
const snapshot = RedisScript.make({
  name: "box-office.snapshot",
  idempotent: true,
  lua: `return {
    redis.call("HGETALL", KEYS[1]), redis.call("LRANGE", KEYS[2], 0, -1), redis.call("HGETALL", KEYS[3])
  }`,
  params: ({ ledger, seats, totals }: ReturnType<typeof venueKeys>) => ({ keys: [seats, ledger, totals], args: [] }),
  result: Schema.Tuple(Schema.Array(Schema.String), Schema.Array(Schema.String), Schema.Array(Schema.String))
})

const pairs = (flat: ReadonlyArray<string>): ReadonlyMap<string, string> =>
  new Map(Array.chunksOf(flat, 2).map(([key, value]) => [key, value ?? ""]))

const auditVenue = (sale: Sale, venue: Venue) =>
  Effect.gen(function*() {
    const redis = yield* RedisClient.RedisClient
    const [seats, ledger, totals] = yield* redis.eval(snapshot, venueKeys(sale, venue))
    const prices = new Map(venue.rows.flatMap((row) => row.seats.map((seat) => [seat, row.price] as const)))
    const owners = pairs(seats)
    const orders: Array<Order> = []
    const ordersOf = new Map<string, Array<Order>>()
    const problems: Array<Problem> = []
    const wrong = (check: Problem["check"], text: string) => problems.push({ check, text: `${venue.id}: ${text}` })

    for (const [i, json] of ledger.entries()) {
      const order = Schema.decodeEither(Order.json)(json)
      if (Either.isLeft(order)) {
        wrong("map", `entry ${i} of the ledger is no order: ${json}`)
        continue
      }
      const { id, price, seats } = order.right
      orders.push(order.right)
      for (const seat of seats) ordersOf.set(seat, [...ordersOf.get(seat) ?? [], order.right])
      const due = seats.reduce((sum, seat) => sum + (prices.get(seat) ?? NaN), 0)
      if (due !== price) wrong("revenue", `order ${id} cost ${price} cents, and ${seats.join(" ")} cost ${due}`)
    }

    for (const [seat, [first, ...others]] of ordersOf) {
      if (others.length > 0) {
        const names = [first, ...others].map((order) => `${order?.buyer} (${order?.id})`)
        wrong("once", `${seat} is sold ${names.length} times: to ${names.join(" and ")}`)
      } else if (owners.get(seat) !== first?.id) {
        wrong("map", `${seat} belongs to ${owners.get(seat) ?? "nobody"}, and was sold with order ${first?.id}`)
      }
    }
    for (const [seat, id] of owners) {
      if (!ordersOf.has(seat)) wrong("map", `${seat} belongs to order ${id}, which is not in the ledger`)
    }

    const tickets = orders.reduce((sum, { seats }) => sum + seats.length, 0)
    const revenue = orders.reduce((sum, { price }) => sum + price, 0)
    const counted = pairs(totals)
    for (const [name, n] of Object.entries({ orders: orders.length, tickets, revenue })) {
      const count = Number(counted.get(name) ?? 0)
      if (count !== n) wrong("revenue", `${name} were counted as ${count}, and are ${n} by the ledger`)
    }
    return { venue, orders, tickets, seatsSold: owners.size, revenue, problems } satisfies VenueAudit
  })

/** What the ledgers say, each of one moment. */
export const auditVenues = (sale: Sale) =>
  Effect.forEach(sale.venues, (venue) => auditVenue(sale, venue), { concurrency: 4 })

/** What is left of locks and queues. The last fencing tokens are not: they stay for a day, so that they keep growing. */
const locksLeft = (sale: Sale) =>
  Effect.flatMap(RedisClient.RedisClient, (redis) =>
    Stream.fromIterable(["lock", "semaphore", "rwlock"]).pipe(
      Stream.flatMap((kind) => redis.scan({ match: `${kind}:{box-office:${sale.id}*` })),
      Stream.filter((key) => !key.endsWith(":fence")),
      Stream.runCollect,
      Effect.map(Chunk.toReadonlyArray)
    ))

/** Buyers who hung up may still be giving back their locks, and those who went away leave them to expire. */
const locksLeftInTheEnd = (sale: Sale) =>
  Effect.repeat(locksLeft(sale), {
    schedule: Schedule.spaced("100 millis").pipe(Schedule.upTo("6 seconds")),
    until: (keys) => keys.length === 0
  }).pipe(Effect.zipRight(locksLeft(sale)))

export const audit = (sale: Sale) =>
  Effect.gen(function*() {
    const redis = yield* RedisClient.RedisClient
    const keys = saleKeys(sale)
    // Receipts first: whatever is sold meanwhile only adds to the ledger.
    const receipts = yield* redis.lrange(keys.receipts, 0, -1)
    const venues = yield* auditVenues(sale)
    const known = new Set(venues.flatMap(({ orders }) => orders.map(({ id }) => id)))
    const problems = venues.flatMap(({ problems }) => problems)
    for (const id of receipts) {
      if (!known.has(id)) problems.push({ check: "receipts", text: `order ${id} is in no ledger` })
    }

    let stillSelling = yield* redis.scard(keys.sellers)
    if (stillSelling === 0) {
      const left = yield* locksLeftInTheEnd(sale)
      stillSelling = yield* redis.scard(keys.sellers)
      if (stillSelling === 0) {
        for (const key of left) problems.push({ check: "locks", text: `${key} is left over` })
        const mails = yield* confirmed(sale)
        for (const id of known) {
          if (!mails.has(id)) problems.push({ check: "mails", text: `order ${id} has neither` })
        }
        for (const text of yield* auditLog(sale, venues)) problems.push({ check: "log", text })
      }
    }

    const sum = (of: (venue: VenueAudit) => number) => venues.reduce((total, venue) => total + of(venue), 0)
    return {
      venues,
      orders: sum(({ orders }) => orders.length),
      tickets: sum(({ tickets }) => tickets),
      seatsSold: sum(({ seatsSold }) => seatsSold),
      revenue: sum(({ revenue }) => revenue),
      stillSelling,
      problems
    } satisfies Audit
  })
