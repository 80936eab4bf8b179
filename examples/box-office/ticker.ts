/**
 * The ticker: every order as it is made, without who made it. The last of them can be read, and a group of all processes
 * works them off to know the dearest orders of the evening.
 */
import { Effect, Option, Schema, Stream as EffectStream } from "effect"
import { ConsumerGroup, Leaderboard, RedisClient, type RedisError, Stream } from "effect-redis-kit"
import { LIFE, type Order, type Sale } from "./sale.js"
import type { Venue } from "./venues.js"

export class Ticked extends Schema.Class<Ticked>("Ticked")({
  order: Schema.String,
  venue: Schema.String,
  city: Schema.String,
  seats: Schema.NonEmptyArray(Schema.String),
  /** In cents. */
  price: Schema.NonNegativeInt
}) {}

/** Nobody reads further back. The group has fallen far behind when it loses something. */
const KEPT = 5000

const ticker = ({ id }: Sale) => Stream.define({ name: `box-office:${id}:ticker`, schema: Ticked, maxLength: KEPT })

/** No purchase fails because of the ticker. */
export const tick = (sale: Sale, { city, id: venue }: Venue, { id: order, price, seats }: Order) =>
  Effect.gen(function*() {
    const redis = yield* RedisClient.RedisClient
    const stream = ticker(sale)
    yield* Stream.append(stream, new Ticked({ order, venue, city, seats, price }))
    yield* redis.expire(stream.key, LIFE)
  }).pipe(Effect.ignoreLogged)

export interface Tick extends Schema.Schema.Type<typeof Ticked> {
  /** Of the entry: it grows. */
  readonly id: string
  /** In milliseconds of the server's clock. */
  readonly at: number
}

const tickOf = (element: Stream.Element<Ticked>): Option.Option<Tick> =>
  element._tag === "Entry"
    ? Option.some({ ...element.value, id: element.id, at: element.timestamp })
    : Option.none()

/** The last ones, the newest first. */
export const lastTicks = (sale: Sale, count: number) =>
  Effect.map(
    Stream.rangeReverse(ticker(sale), { count }),
    (elements) => elements.flatMap((element) => Option.toArray(tickOf(element)))
  )

/** From now on, and nothing is missed while a connection is lost. */
export const ticks = (sale: Sale): EffectStream.Stream<Tick, RedisError.RedisError, Stream.Stream> =>
  Stream.tail(ticker(sale)).pipe(EffectStream.filterMap(tickOf))

// ---------------------------------------------------------------------------------------------------------------------
// The dearest orders
// ---------------------------------------------------------------------------------------------------------------------

const dearest = ({ id }: Sale) =>
  Leaderboard.define({
    name: `box-office:${id}:dearest`,
    player: Schema.Struct({ city: Schema.String, seats: Schema.Int }),
    ties: "first-to-reach",
    maxSize: 10,
    ttl: LIFE
  })

const accountants = (sale: Sale) => ConsumerGroup.define({ stream: ticker(sale), name: "accountants" })

/** Ranks the orders of all processes until the scope closes. An order that comes twice has the same price again. */
export const rankOrders = (sale: Sale) =>
  ConsumerGroup.start(
    accountants(sale),
    ({ value: { city, order, price, seats } }) =>
      Leaderboard.submit(dearest(sale), order, price, { mode: "best", player: { city, seats: seats.length } }),
    { concurrency: 4, batchSize: 50 }
  )

/** The dearest orders so far. */
export const dearestOrders = (sale: Sale, size: number) =>
  Effect.map(Leaderboard.top(dearest(sale), { size }), (entries) =>
    entries.map(({ player, rank, score }) => ({
      rank,
      price: score,
      city: Option.match(player, { onNone: () => "", onSome: ({ city }) => city }),
      seats: Option.match(player, { onNone: () => 0, onSome: ({ seats }) => seats })
    })))

/** Removes what `LIFE` would remove later. */
export const forgetTicks = (sale: Sale) =>
  Effect.gen(function*() {
    const redis = yield* RedisClient.RedisClient
    yield* ConsumerGroup.destroy(accountants(sale))
    yield* redis.unlinkMatching(`${ticker(sale).key}*`)
    yield* Leaderboard.clear(dearest(sale))
  })
