/**
 * The venues that sell best, week by week.
 */
import { Effect, Option, Schema } from "effect"
import { Leaderboard, type RedisError } from "effect-redis-kit"
import type { Sale } from "./sale.js"
import type { Venue } from "./venues.js"

/** A week ends for everybody at the same moment, and its chart stays for an hour longer. */
const bestSelling = ({ id }: Sale) =>
  Leaderboard.define({
    name: `box-office:${id}`,
    player: Schema.Struct({ city: Schema.String, country: Schema.String }),
    season: "week",
    ttl: "1 hour"
  })

/**
 * Says how many tickets of a venue are sold by now. They only become more, so with `best` it does no harm to say it twice
 * or late. No purchase fails because of the chart.
 */
export const climb = (
  sale: Sale,
  { city, country, id }: Venue,
  tickets: Effect.Effect<Option.Option<string>, RedisError.RedisError>
) =>
  tickets.pipe(
    Effect.flatMap((tickets) =>
      Leaderboard.submit(bestSelling(sale), id, Number(Option.getOrElse(tickets, () => 0)), {
        mode: "best",
        player: { city, country }
      })
    ),
    Effect.ignoreLogged
  )

/** The first venues of this week. */
export const bestVenues = (sale: Sale, size: number) =>
  Effect.map(
    Leaderboard.top(bestSelling(sale), { size }),
    (entries) =>
      entries.map(({ member, player, rank, score }) => ({
        rank,
        venue: member,
        city: Option.match(player, { onNone: () => member, onSome: ({ city }) => city }),
        tickets: score
      }))
  )

/** The same in words, each as `rank. city tickets`. */
export const chart = (sale: Sale, size: number) =>
  Effect.map(
    bestVenues(sale, size),
    (entries) => entries.map(({ city, rank, tickets }) => `${rank}. ${city} ${tickets}`)
  )

export const removeChart = (sale: Sale) => Leaderboard.clear(bestSelling(sale))
