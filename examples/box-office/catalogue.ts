/**
 * What is for sale: the venues from the cache, the seats of one of them from Redis as they are.
 */
import { Effect, Option } from "effect"
import { RedisClient } from "effect-redis-kit"
import { Listing, listingKey, openCatalogue } from "./live.js"
import { type Sale, soldOf, venueKeys } from "./sale.js"
import { capacity, seatsOf, sections, type Venue } from "./venues.js"

const lookup = (sale: Sale, venue: Venue) =>
  Effect.gen(function*() {
    const redis = yield* RedisClient.RedisClient
    const names = sections.filter((section) => seatsOf(venue, section) > 0)
    const sold = yield* redis.hmget(venueKeys(sale, venue).totals, names.map(soldOf))
    const listed = names.map((name, i) => ({
      name,
      from: Math.min(...venue.rows.filter(({ section }) => section === name).map(({ price }) => price)),
      soldOut: Number(Option.getOrElse(sold[i] ?? Option.none(), () => 0)) >= seatsOf(venue, name)
    }))
    const { city, country, id, latitude, longitude } = venue
    return new Listing({
      id,
      city,
      country,
      latitude,
      longitude,
      seats: capacity(venue),
      sections: listed,
      from: listed.findLast(({ soldOut }) => !soldOut)?.from ?? null
    })
  })

/** A venue. What nobody has asked for since it changed is looked up, the rest is near. */
export const listing = (sale: Sale, venue: Venue) =>
  Effect.flatMap(openCatalogue, (catalogue) => catalogue.getOrSet(listingKey(sale, venue), lookup(sale, venue)))

/** All venues, the largest first. */
export const listings = (sale: Sale) =>
  Effect.forEach(sale.venues, (venue) => listing(sale, venue), { concurrency: 50 })

/** The seats of a venue that are sold. */
export const soldSeats = (sale: Sale, venue: Venue) =>
  Effect.flatMap(RedisClient.RedisClient, (redis) => redis.hkeys(venueKeys(sale, venue).seats))
