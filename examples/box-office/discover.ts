/**
 * Finding a venue: those near a visitor, those that still have seats, and those that everybody looks at.
 */
import { Array, Effect, Option, Schema } from "effect"
import { CacheInvalidator, Counter, Geo, RedisClient, UniqueCounter } from "effect-redis-kit"
import { LIFE, type Sale, venueKeys } from "./sale.js"
import { capacity, type Venue } from "./venues.js"

// ---------------------------------------------------------------------------------------------------------------------
// Near
// ---------------------------------------------------------------------------------------------------------------------

const venueMap = ({ id }: Sale) => Geo.define({ name: `box-office:${id}`, member: Schema.String, ttl: LIFE })

/** The map of Redis ends at 85 degrees. Who lives beyond is put at its edge. */
const onMap = ({ latitude, longitude }: Geo.Position): Geo.Position => ({
  longitude,
  latitude: Math.max(-85, Math.min(85, latitude))
})

/** Every process that opens the sale puts its venues on the map: they are the same. */
export const putOnMap = (sale: Sale) =>
  Geo.add(
    venueMap(sale),
    sale.venues.map((venue) => ({ member: venue.id, ...onMap(venue) }))
  )

export interface Near {
  readonly venue: Venue
  readonly kilometres: number
  readonly free: number
}

/** Farther than anything on Earth. */
const ANYWHERE = 20_100

const PAGE = 20

const freeSeats = (sale: Sale, venue: Venue) =>
  Effect.gen(function*() {
    const redis = yield* RedisClient.RedisClient
    const tickets = yield* redis.hget(venueKeys(sale, venue).totals, "tickets")
    return capacity(venue) - Number(Option.getOrElse(tickets, () => 0))
  })

/** The nearest venues, or the nearest with so many free seats. It goes on page by page until there are enough. */
export const near = (
  sale: Sale,
  around: Geo.Position,
  { limit, seats = 0 }: { readonly limit: number; readonly seats?: number }
) =>
  Effect.gen(function*() {
    const venues = new Map(sale.venues.map((venue) => [venue.id, venue]))
    const found: Array<Near> = []
    let after: Geo.Found<string, void> | undefined
    for (;;) {
      const page: ReadonlyArray<Geo.Found<string, void>> = yield* Geo.search(venueMap(sale), {
        around: onMap(around),
        radius: ANYWHERE,
        unit: "km",
        limit: PAGE,
        after
      }).pipe(Effect.catchTag("GeoMemberNotFound", () => Effect.succeed([])))
      const those = page.flatMap(({ distance, member }) => {
        const venue = venues.get(member)
        return venue === undefined ? [] : [{ venue, kilometres: distance }]
      })
      const free = yield* Effect.forEach(those, ({ venue }) => freeSeats(sale, venue), { concurrency: "unbounded" })
      for (const [{ kilometres, venue }, n] of Array.zip(those, free)) {
        if (n >= seats) found.push({ venue, kilometres, free: n })
      }
      after = page.at(-1)
      if (found.length >= limit || after === undefined || page.length < PAGE) return found.slice(0, limit)
    }
  })

/** Each process remembers what it has found. */
const Neighbours = ({ id }: Sale) => CacheInvalidator.define({ name: `box-office:${id}:neighbours` })

/** The nearest venues to each venue that have two seats left, until one of them has sold out a section. */
export const findNeighbours = (sale: Sale) =>
  CacheInvalidator.makeCache(Neighbours(sale), {
    capacity: 1000,
    timeToLive: "30 seconds",
    lookup: (venueId: string) =>
      Effect.gen(function*() {
        const venue = sale.venues.find(({ id }) => id === venueId)
        if (venue === undefined) return []
        const found = yield* near(sale, venue, { limit: 4, seats: 2 })
        return found.filter(({ venue: { id } }) => id !== venueId).slice(0, 3)
      }),
    tags: (found) => found.map(({ venue }) => venue.id)
  })

/** A venue has hardly any seats left: all processes forget where it is a neighbour. */
export const notNearAnyMore = (sale: Sale, { id }: Venue) =>
  CacheInvalidator.invalidate(Neighbours(sale), { tags: [id] })

// ---------------------------------------------------------------------------------------------------------------------
// Popular
// ---------------------------------------------------------------------------------------------------------------------

/** Venues are counted each hour. Who is the most popular is asked of the ten that lead. */
const Views = ({ id }: Sale) =>
  Counter.define({
    name: `box-office:${id}`,
    key: Schema.String,
    windows: { hour: "1 hour" },
    total: LIFE,
    top: { capacity: 10 }
  })

const Visitors = ({ id }: Sale) =>
  UniqueCounter.define({ name: `box-office:${id}`, key: Schema.String, member: Schema.String, total: LIFE })

/** Somebody looks at the seats of a venue. Nothing of it is worth failing a request for. */
export const viewed = (sale: Sale, venue: Venue, visitor: string) =>
  Effect.all([
    Counter.increment(Views(sale), venue.id),
    UniqueCounter.add(Visitors(sale), venue.id, visitor)
  ], { concurrency: "unbounded", discard: true }).pipe(Effect.ignoreLogged)

export interface Popular {
  readonly venue: Venue
  /** In this hour. */
  readonly views: number
  /** Since the sale was opened, each counted once. */
  readonly visitors: number
}

/** What is looked at most in this hour. */
export const popular = (sale: Sale, limit: number) =>
  Effect.gen(function*() {
    const top = yield* Counter.top(Views(sale), "hour", { limit })
    const all = yield* Effect.forEach(
      top,
      ({ count, key }) =>
        Effect.map(UniqueCounter.count(Visitors(sale), key), (visitors) => {
          const venue = sale.venues.find(({ id }) => id === key)
          return venue === undefined ? [] : [{ venue, views: count, visitors } satisfies Popular]
        }),
      { concurrency: "unbounded" }
    )
    return all.flat()
  })

/** How many have looked at any venue: who has looked at several counts once. */
export const visitors = (sale: Sale) => UniqueCounter.union(Visitors(sale), sale.venues.map(({ id }) => id))

// ---------------------------------------------------------------------------------------------------------------------
// Report
// ---------------------------------------------------------------------------------------------------------------------

const whole = (n: number) => Math.round(n).toLocaleString("en-US")

/** What visitors found, in lines. */
export const discoveries = (sale: Sale) =>
  Effect.gen(function*() {
    const [first, ...others] = yield* popular(sale, 5)
    if (first === undefined) return []
    const [nearest] = yield* near(sale, first.venue, { limit: 1, seats: 2 })
    return [
      `${whole(yield* visitors(sale))} visitors looked for seats, in this hour most often in ${
        [first, ...others].map(({ venue, views, visitors }) =>
          `${venue.city} (${whole(views)} times, ${whole(visitors)} visitors)`
        ).join(", ")
      }`,
      nearest === undefined
        ? `there are no two seats left anywhere`
        : `the nearest two seats from ${first.venue.city}: ${nearest.venue.city}, ${whole(nearest.kilometres)} km away`
    ]
  })

/** Removes all of it. */
export const forget = (sale: Sale) =>
  Effect.all([
    Geo.clear(venueMap(sale)),
    Effect.forEach(
      sale.venues,
      ({ id }) => Effect.zipRight(Counter.reset(Views(sale), id), UniqueCounter.reset(Visitors(sale), id)),
      { concurrency: 20, discard: true }
    )
  ], { discard: true })
