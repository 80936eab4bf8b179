/**
 * What everybody is told of: seats that are sold, what the catalogue says of a venue, and who looks at it.
 */
import { type Array, Effect, Schema } from "effect"
import { Cache, Presence, PubSub } from "effect-redis-kit"
import { notNearAnyMore } from "./discover.js"
import type { Sale } from "./sale.js"
import { sections, type Venue } from "./venues.js"

/** One message for each order. It does not say who has bought. */
export class SeatsSold extends Schema.TaggedClass<SeatsSold>()("SeatsSold", {
  venue: Schema.String,
  seats: Schema.NonEmptyArray(Schema.String),
  /** Whether the catalogue says something else of the venue now. */
  listing: Schema.Boolean
}) {}

export const seatsSold = (sale: Sale) => PubSub.channel(`box-office:${sale.id}:sold`, SeatsSold)

/** A venue in the catalogue: everything of it except its seats. */
export class Listing extends Schema.Class<Listing>("Listing")({
  id: Schema.String,
  city: Schema.String,
  country: Schema.String,
  latitude: Schema.Number,
  longitude: Schema.Number,
  seats: Schema.Int,
  sections: Schema.Array(Schema.Struct({
    name: Schema.Literal(...sections),
    /** Of its cheapest seat, in cents. */
    from: Schema.Int,
    soldOut: Schema.Boolean
  })),
  /** The cheapest seat of a section that is not sold out; `null` when all of them are. */
  from: Schema.NullOr(Schema.Int)
}) {}

/** The key of a venue in the catalogue, which has the venues of all sales. */
export const listingKey = (sale: Sale, venue: Venue) => `${sale.id}:${venue.id}`

const countryTag = (saleId: string, country: string) => `country:${saleId}:${country}`

/**
 * Each venue is an entry, with a tag of its own and that of its country. Processes keep what they have read in memory, and
 * are told when it is not true any more.
 */
const Catalogue = Cache.define({
  name: "box-office",
  key: Schema.String,
  value: Listing,
  ttl: "10 minutes",
  near: { capacity: 10_000 },
  tags: ({ country }, key) => [`venue:${key}`, countryTag(key.slice(0, key.indexOf(":")), country)]
})

/** Two definitions of one name would be a mistake of the program. */
export const openCatalogue = Effect.catchTag(Cache.open(Catalogue), "CacheConflict", Effect.die)

/** The next one who asks gets what is true now. */
export const venueChanged = (sale: Sale, venue: Venue) =>
  Effect.flatMap(openCatalogue, (catalogue) => catalogue.invalidateTags(`venue:${listingKey(sale, venue)}`))

/** The same for all venues at once: there are fewer countries than venues. */
export const everythingChanged = (sale: Sale) =>
  Effect.flatMap(
    openCatalogue,
    (catalogue) => catalogue.invalidateTags(...new Set(sale.venues.map(({ country }) => countryTag(sale.id, country))))
  )

/** Tells all processes of seats that are sold. Nothing of it is worth failing a purchase for. */
export const tell = (sold: {
  readonly sale: Sale
  readonly venue: Venue
  readonly seats: Array.NonEmptyReadonlyArray<string>
  readonly listing: boolean
}) =>
  Effect.gen(function*() {
    const { listing, sale, seats, venue } = sold
    // First the catalogue: whoever hears of it reads that again.
    if (listing) yield* Effect.zipRight(venueChanged(sale, venue), notNearAnyMore(sale, venue))
    yield* PubSub.publish(seatsSold(sale), new SeatsSold({ venue: venue.id, seats, listing }))
  }).pipe(Effect.ignoreLogged)

/** The pages that are open, each of them a connection; the room is the sale. */
export const Visitors = Presence.define({ name: "box-office", ttl: "15 seconds" })
