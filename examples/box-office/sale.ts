/**
 * Selling seats so that no seat is sold twice: a lock around the purchase, and writes that carry its fencing token.
 */
import { type Array, Data, Duration, Effect, Option, Schema, Scope } from "effect"
import { Lock, ReadWriteLock, RedisClient, type RedisError, RedisScript, withLock } from "effect-redis-kit"
import { randomUUID } from "node:crypto"
import { climb, removeChart } from "./chart.js"
import { forgetChores } from "./chores.js"
import { everythingChanged, tell } from "./live.js"
import { forgetLobby } from "./lobby.js"
import { confirm, forgetMails } from "./mail.js"
import { forget, record } from "./sales.js"
import { forgetTicks, tick } from "./ticker.js"
import { atTill } from "./tills.js"
import { capacity, type Row, seatsOf, type Section, type Venue } from "./venues.js"

export interface Sale {
  readonly id: string
  readonly venues: Array.NonEmptyReadonlyArray<Venue>
}

/** One entry of the ledger. */
export class Order extends Schema.Class<Order>("Order")({
  id: Schema.String,
  buyer: Schema.String,
  row: Schema.String,
  seats: Schema.NonEmptyArray(Schema.String),
  /** Of all its seats, in cents. */
  price: Schema.NonNegativeInt,
  fencingToken: Schema.Number
}) {
  static readonly json = Schema.parseJson(Order)
}

/** Somebody else was faster. */
export class SeatsGone extends Data.TaggedError("SeatsGone")<{ readonly row: string }> {}

/** This buyer held the row longer than its lock lived, and somebody else has opened it since. */
export class HeldTooLong extends Data.TaggedError("HeldTooLong")<{ readonly row: string }> {}

/** The seats stay free. */
export class CardRefused extends Data.TaggedError("CardRefused") {}

export class OtherSale extends Data.TaggedError("OtherSale")<{ readonly message: string }> {}

// ---------------------------------------------------------------------------------------------------------------------
// Keys
// ---------------------------------------------------------------------------------------------------------------------

/** Nothing of a sale stays in Redis for longer than this, however the program ends, except mails that nobody brings. */
export const LIFE = Duration.hours(1)

/** The keys of one venue share a hash tag: they are in one slot of a Cluster, so that one script may write them all. */
export const venueKeys = (sale: Sale, venue: Venue) => {
  const key = `box-office:{${sale.id}:${venue.id}}`
  return {
    /** Hash: seat → order. */
    seats: `${key}:seats`,
    /** List: every order, as JSON. It only grows, so a seat that is sold twice is there twice. */
    ledger: `${key}:ledger`,
    /** Hash: orders, tickets, revenue, and the tickets of each section as `sold:front` and so on. */
    totals: `${key}:totals`,
    /** Hash: row → the largest fencing token that was seen. */
    fences: `${key}:fences`
  }
}

type VenueKeys = ReturnType<typeof venueKeys>

/** The field of `totals` that counts the seats that are sold of a section. */
export const soldOf = (section: Section) => `sold:${section}`

export const saleKeys = ({ id }: Sale) => ({
  /** What is sold. */
  plan: `box-office:{${id}}:plan`,
  /** Set: the processes that sell at this moment. */
  sellers: `box-office:{${id}}:sellers`,
  /** Hash: what the processes that are done have counted. */
  tally: `box-office:{${id}}:tally`,
  /** List: the orders that buyers were told of. */
  receipts: `box-office:{${id}}:receipts`,
  /** What the last stock-take has found, as JSON. */
  stock: `box-office:{${id}}:stock`
})

export const lockName = (sale: Sale, venue: Venue, row: Row) => `box-office:${sale.id}:${venue.id}:${row.name}`

/** Whoever writes an order reads them, and whoever takes stock writes them. */
export const booksOf = ({ id }: Sale) => `box-office:${id}:books`

// ---------------------------------------------------------------------------------------------------------------------
// Scripts
// ---------------------------------------------------------------------------------------------------------------------

/**
 * Which seats of a row are sold. Looking already moves the fence: whoever held this row before and comes late is refused
 * from here on, and can't write into what was just seen.
 */
const look = RedisScript.make({
  name: "box-office.look",
  idempotent: true,
  lua: `${Lock.fenceLua}
    local seats, fences, row, token = KEYS[1], KEYS[2], ARGV[1], ARGV[2]
    if not fence(fences, row, token) then return false end
    redis.call("EXPIRE", fences, ARGV[3])
    return redis.call("HMGET", seats, unpack(ARGV, 4))`,
  params: ({ fences, seats }: VenueKeys, row: Row, token: number) => ({
    keys: [seats, fences],
    args: [row.name, token, Duration.toSeconds(LIFE), ...row.seats]
  }),
  result: Schema.NullOr(Schema.Array(Schema.NullOr(Schema.String)))
})

/**
 * Writes an order and its seats, and returns how many seats of the section are sold by now, or 0 if the fence refuses. It
 * does not look whether the seats are free: to keep others out is what the lock and the fence are for, and the audit shows
 * whether they do.
 */
const sell = RedisScript.make({
  name: "box-office.sell",
  idempotent: true,
  lua: `${Lock.fenceLua}
    local seats, ledger, totals, fences = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
    local row, token, life, id, price = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5]
    local section, json = ARGV[6], ARGV[7]
    -- The same call once more, because its first reply was lost.
    if redis.call("HGET", seats, ARGV[8]) == id then return tonumber(redis.call("HGET", totals, section)) end
    if not fence(fences, row, token) then return 0 end
    for i = 8, #ARGV do redis.call("HSET", seats, ARGV[i], id) end
    redis.call("RPUSH", ledger, json)
    redis.call("HINCRBY", totals, "orders", 1)
    redis.call("HINCRBY", totals, "tickets", #ARGV - 7)
    redis.call("HINCRBY", totals, "revenue", price)
    for _, key in ipairs(KEYS) do redis.call("EXPIRE", key, life) end
    return redis.call("HINCRBY", totals, section, #ARGV - 7)`,
  params: ({ fences, ledger, seats, totals }: VenueKeys, section: Section, order: Order) => ({
    keys: [seats, ledger, totals, fences],
    args: [
      order.row,
      order.fencingToken,
      Duration.toSeconds(LIFE),
      order.id,
      order.price,
      soldOf(section),
      Schema.encodeSync(Order.json)(order),
      ...order.seats
    ]
  }),
  result: RedisScript.number
})

// ---------------------------------------------------------------------------------------------------------------------
// The sale
// ---------------------------------------------------------------------------------------------------------------------

/** The first so many free seats beside each other; none when there are not so many. */
export const beside = (
  row: Row,
  party: number,
  isFree: (seat: string, i: number) => boolean
): ReadonlyArray<string> => {
  let free = 0
  for (const [i, seat] of row.seats.entries()) {
    free = isFree(seat, i) ? free + 1 : 0
    if (free === party) return row.seats.slice(i + 1 - party, i + 1)
  }
  return []
}

export interface Purchase {
  readonly sale: Sale
  readonly venue: Venue
  readonly row: Row
  readonly buyer: string
  /** How many seats beside each other. */
  readonly party: number
  readonly pay: (price: number) => Effect.Effect<void, CardRefused>
  /** A careless buyer neither renews the lock nor looks whether it is still there. */
  readonly careless: boolean
  readonly onWaited: (time: Duration.Duration) => void
}

/** Buys seats of one row, and tells everybody. */
export const buy = ({ buyer, careless, onWaited, party, pay, row, sale, venue }: Purchase) =>
  Effect.scoped(Effect.gen(function*() {
    const redis = yield* RedisClient.RedisClient
    const keys = venueKeys(sale, venue)
    const id = randomUUID()
    const chart = climb(sale, venue, redis.hget(keys.totals, "tickets"))
    let last: Order | undefined
    let bought: Order | undefined
    const books = yield* Scope.make()
    // Done when the lock is free again, whoever hangs up. Until then nobody takes stock.
    yield* Effect.addFinalizer((exit) =>
      Effect.zipRight(bought === undefined ? Effect.void : record(sale, venue, bought), Scope.close(books, exit))
    )

    const [waited, held] = yield* Effect.timed(
      Lock.acquire(lockName(sale, venue, row), {
        lease: careless ? "100 millis" : "5 seconds",
        renew: !careless,
        waitTimeout: "1 second"
      })
    )
    onWaited(waited)

    const purchase = Effect.gen(function*() {
      const taken = yield* redis.eval(look, keys, row, held.fencingToken)
      if (taken === null) return yield* new HeldTooLong({ row: row.name })
      const [first, ...others] = beside(row, party, (_, i) => taken[i] === null)
      if (first === undefined) return yield* new SeatsGone({ row: row.name })

      const price = row.price * party
      yield* atTill(sale, pay(price))
      yield* Scope.extend(
        ReadWriteLock.acquireRead(booksOf(sale), { lease: "10 seconds", waitTimeout: "3 seconds" }),
        books
      )

      const order = new Order({
        id,
        buyer,
        row: row.name,
        seats: [first, ...others],
        price,
        fencingToken: held.fencingToken
      })
      last = order
      // Whoever hangs up at this moment has bought or has not: it never ends in between.
      const sold = yield* Effect.uninterruptible(
        Effect.tap(
          redis.eval(sell, keys, row.section, order),
          (sold) =>
            sold > 0
              ? Effect.zipRight(
                Effect.sync(() => void (bought = order)),
                tell({ sale, venue, seats: order.seats, listing: sold >= seatsOf(venue, row.section) })
              ).pipe(
                Effect.zipRight(chart),
                Effect.zipRight(tick(sale, venue, order)),
                Effect.zipRight(confirm(sale, venue, order))
              )
              : Effect.void
        )
      )
      if (sold === 0) return yield* new HeldTooLong({ row: row.name })
      return order
    })

    /** The last step may have been made all the same: the seats know. */
    const settle = (failure: Lock.LockLost | RedisError.RedisOutcomeUnknownError) =>
      Effect.gen(function*() {
        const orders = yield* redis.hvals(keys.seats)
        if (last === undefined || !orders.includes(id)) return yield* failure
        bought = last
        yield* tell({ sale, venue, seats: last.seats, listing: true })
        yield* chart
        yield* tick(sale, venue, last)
        yield* confirm(sale, venue, last)
        return last
      })

    return yield* Effect.catchTags(careless ? purchase : held.protect(purchase), {
      LockLost: settle,
      RedisOutcomeUnknownError: settle
    })
  }))

/** The processes that sell together must mean the same seats: the first one says which. */
export const open = (sale: Sale) =>
  Effect.gen(function*() {
    const redis = yield* RedisClient.RedisClient
    const { plan } = saleKeys(sale)
    const ours = `${sale.venues.length} venues and ${capacity(...sale.venues)} seats`
    const theirs = Option.getOrElse(yield* redis.get(plan), () => ours)
    if (theirs !== ours) {
      return yield* new OtherSale({ message: `the sale "${sale.id}" is one of ${theirs}, and not of ${ours}` })
    }
    yield* redis.set(plan, ours, { ttl: LIFE })
  }).pipe(withLock(`box-office:${sale.id}`))

/** Removes what `LIFE` would remove later. */
export const close = (sale: Sale) =>
  Effect.flatMap(RedisClient.RedisClient, (redis) =>
    Effect.forEach(
      [saleKeys(sale), ...sale.venues.map((venue) => venueKeys(sale, venue))],
      (keys) => redis.unlink(...Object.values(keys)),
      { concurrency: "unbounded", discard: true }
    )).pipe(
      Effect.zipRight(forgetMails(sale)),
      Effect.zipRight(forgetChores(sale)),
      Effect.zipRight(forgetTicks(sale)),
      Effect.zipRight(forgetLobby(sale)),
      Effect.zipRight(forget(sale)),
      Effect.zipRight(removeChart(sale)),
      Effect.zipRight(everythingChanged(sale))
    )
