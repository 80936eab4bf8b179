/**
 * The buyers: all want the best seats, and not all behave.
 */
import { Array, Clock, Duration, Effect, Option, Random } from "effect"
import { RedisClient } from "effect-redis-kit"
import { randomUUID } from "node:crypto"
import { listing } from "./catalogue.js"
import { viewed } from "./discover.js"
import { mayOrder } from "./limits.js"
import { beside, buy, CardRefused, LIFE, type Sale, saleKeys, venueKeys } from "./sale.js"
import { capacity } from "./venues.js"

/** What a process counts while it sells. */
export const emptyTally = () => ({
  // How buyers ended.
  bought: 0,
  soldOut: 0,
  gaveUp: 0,
  cardRefused: 0,
  hungUp: 0,
  // Why purchases were tried again.
  seatsGone: 0,
  notAcquired: 0,
  lockLost: 0,
  heldTooLong: 0,
  redisErrors: 0,
  // What touts bought after their first order, and how often the limit refused one.
  more: 0,
  refused: 0,
  // Locks that were not free at once, and the milliseconds that were spent waiting for them.
  waits: 0,
  waited: 0
})

export type Tally = ReturnType<typeof emptyTally>

/** How often a buyer chooses again. */
const CHOICES = 10

/** How many a process lets in at a time; the others wait outside. */
const INSIDE = 200

/** For how long they look around first, in milliseconds. */
const LOOK_AROUND = 800

interface Temper {
  /** How many of a thousand buyers are like this. */
  readonly share: number
  /** How long paying takes, in milliseconds. */
  readonly pause: readonly [min: number, max: number]
  readonly careless?: boolean
  readonly patience?: number
  readonly penniless?: boolean
  /** How many orders; one by default. */
  readonly orders?: number
}

const tempers: Array.NonEmptyReadonlyArray<Temper> = [
  { share: 860, pause: [5, 30] },
  // A tout, who would buy up the house.
  { share: 10, pause: [5, 30], orders: 8 },
  // Looks for the card, so long that the lock has to be renewed.
  { share: 15, pause: [2000, 3000] },
  // Goes away with the row in hand, and comes back when it has long been somebody else's.
  { share: 15, pause: [150, 400], careless: true },
  // Closes the page in the middle of it.
  { share: 50, pause: [5, 30], patience: 100 },
  { share: 50, pause: [5, 30], penniless: true }
]

const byWeight = <A>(items: Array.NonEmptyReadonlyArray<A>, weight: (item: A) => number): Effect.Effect<A> =>
  Effect.map(Random.next, (roll) => {
    let left = roll * items.reduce((sum, item) => sum + weight(item), 0)
    return items.find((item) => (left -= weight(item)) < 0) ?? items[0]
  })

/** What becomes of a purchase that failed; everything else is Redis' fault. */
const outcomes: Record<string, keyof Tally> = {
  CardRefused: "cardRefused",
  HeldTooLong: "heldTooLong",
  LockLost: "lockLost",
  LockNotAcquired: "notAcquired",
  SeatsGone: "seatsGone"
}

const buyer = (sale: Sale, name: string, tally: Tally, receipts: Array<string>) =>
  Effect.gen(function*() {
    const redis = yield* RedisClient.RedisClient
    const venue = yield* byWeight(sale.venues, capacity)
    const party = yield* Random.nextIntBetween(1, 5)
    const temper = yield* byWeight(tempers, ({ share }) => share)

    const pay = Effect.gen(function*() {
      yield* Effect.sleep(yield* Random.nextIntBetween(temper.pause[0], temper.pause[1]))
      if (temper.penniless) return yield* new CardRefused()
    })

    const onWaited = (time: Duration.Duration) => {
      const millis = Duration.toMillis(time)
      tally.waited += millis
      if (millis > 10) tally.waits++
    }

    const choose = Effect.gen(function*() {
      const taken = new Set(yield* redis.hkeys(venueKeys(sale, venue).seats))
      const best = venue.rows.filter((row) => beside(row, party, (seat) => !taken.has(seat)).length > 0).slice(0, 5)
      if (!Array.isNonEmptyArray(best)) return "soldOut"
      const row = yield* Random.choice(best)
      const { id } = yield* buy({
        sale,
        venue,
        row,
        buyer: name,
        party,
        pay: () => pay,
        careless: temper.careless ?? false,
        onWaited
      })
      receipts.push(id)
      return "bought"
    }).pipe(Effect.catchAll((error) => Effect.succeed(outcomes[error._tag] ?? "redisErrors")))

    const shop = Effect.gen(function*() {
      yield* viewed(sale, venue, name)
      // What is sold out stays sold out.
      const isSoldOut = Effect.map(listing(sale, venue), ({ from }) => from === null)
      if (yield* Effect.orElseSucceed(isSoldOut, () => false)) {
        tally.soldOut++
        return
      }
      for (let choice = 0; choice < CHOICES; choice++) {
        const outcome = yield* choose
        tally[outcome]++
        if (outcome === "soldOut" || outcome === "cardRefused") return
        if (outcome === "bought") return yield* again
        if (outcome === "redisErrors") yield* Effect.sleep("200 millis")
      }
      tally.gaveUp++
    })

    /** Each order counts, and at some point the limit says that it is enough. */
    const again = Effect.gen(function*() {
      for (let order = 1; order < (temper.orders ?? 1); order++) {
        if (!(yield* mayOrder(sale, name))) {
          tally.refused++
          return
        }
        if ((yield* choose) === "bought") tally.more++
      }
    }).pipe(Effect.ignore)

    yield* Effect.sleep(yield* Random.nextIntBetween(0, LOOK_AROUND))
    const stayed = yield* Effect.timeoutOption(shop, temper.patience ?? Infinity)
    if (Option.isNone(stayed)) tally.hungUp++
  })

export interface Crowd {
  readonly sale: Sale
  readonly buyers: number
  /** The same crowd wants the same seats again. */
  readonly seed: string
  readonly tally: Tally
  /** How many come in a second; all at once by default. */
  readonly pace?: number | undefined
}

/** Lets everybody in, waits until all are gone, and writes down what was seen. */
export const letIn = ({ buyers, pace = Infinity, sale, seed, tally }: Crowd) =>
  Effect.scoped(Effect.gen(function*() {
    const redis = yield* RedisClient.RedisClient
    const keys = saleKeys(sale)
    const seller = randomUUID()
    const receipts: Array<string> = []
    const start = yield* Clock.currentTimeMillis
    /** Until it is the turn of this one. */
    const turn = (n: number) =>
      Effect.flatMap(Clock.currentTimeMillis, (now) => Effect.sleep(Math.max(0, start + n / pace * 1000 - now)))

    yield* Effect.acquireRelease(
      Effect.zipRight(redis.sadd(keys.sellers, seller), redis.expire(keys.sellers, LIFE)),
      () => Effect.ignoreLogged(redis.srem(keys.sellers, seller))
    )
    yield* Effect.forEach(
      Array.makeBy(buyers, (n) => `${seed}-${n + 1}`),
      (name, n) => Effect.zipRight(turn(n), Effect.withRandom(buyer(sale, name, tally, receipts), Random.make(name))),
      { concurrency: INSIDE, discard: true }
    )
    // From here on, whoever audits the sale knows what these buyers were told.
    yield* Effect.forEach(Object.entries(tally), ([name, n]) => redis.hincrBy(keys.tally, name, Math.round(n)))
    if (receipts.length > 0) yield* redis.rpush(keys.receipts, ...receipts)
    yield* Effect.forEach([keys.tally, keys.receipts], (key) => redis.expire(key, LIFE))
  }))
