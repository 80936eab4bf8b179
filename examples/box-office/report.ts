/**
 * What people see of a sale.
 */
import { Duration, Effect, Option, Record } from "effect"
import { RedisClient } from "effect-redis-kit"
import { type Audit, checks, type VenueAudit } from "./audit.js"
import { chart } from "./chart.js"
import { emptyTally } from "./crowd.js"
import { mailsOf } from "./mail.js"
import { type Sale, saleKeys, venueKeys } from "./sale.js"
import { capacity } from "./venues.js"

const whole = (n: number) => Math.round(n).toLocaleString("en-US")

const money = (cents: number) => `$${whole(cents / 100)}`

const bar = (part: number, width: number) => "█".repeat(Math.round(part * width)).padEnd(width, "░")

const perSecond = (n: number, time: Duration.Duration) => whole(n / Math.max(0.001, Duration.toSeconds(time)))

/** The sale so far, by all processes, in one line. */
export const progress = (sale: Sale, time: Duration.Duration) =>
  Effect.gen(function*() {
    const redis = yield* RedisClient.RedisClient
    const venues = yield* Effect.forEach(
      sale.venues,
      (venue) => redis.hmget(venueKeys(sale, venue).totals, ["tickets", "revenue"]),
      { concurrency: "unbounded" }
    )
    const sum = (field: number) =>
      venues.reduce((sum, fields) => sum + Number(Option.getOrElse(fields[field] ?? Option.none(), () => 0)), 0)
    const seats = capacity(...sale.venues)
    const tickets = sum(0)
    return `${bar(tickets / seats, 30)} ${whole(tickets)} of ${whole(seats)} seats  ${money(sum(1))}  ${
      perSecond(tickets, time)
    } seats/s  ${Math.round(Duration.toSeconds(time))} s`
  })

/** What all processes that are done have counted. */
const tallyOf = (sale: Sale) =>
  Effect.gen(function*() {
    const redis = yield* RedisClient.RedisClient
    const counts = yield* redis.hgetAll(saleKeys(sale).tally)
    return Record.map(emptyTally(), (_, name) => Number(counts[name] ?? 0))
  })

const degrees = (n: number, [positive, negative]: string) => `${Math.abs(n).toFixed(1)}°${n < 0 ? negative : positive}`

const cityLine = ({ orders, revenue, tickets, venue }: VenueAudit) => {
  const seats = capacity(venue)
  const place = `${degrees(venue.latitude, "NS")} ${degrees(venue.longitude, "EW")}`
  return `  ${`${venue.city}, ${venue.country}`.padEnd(28)} ${bar(tickets / seats, 20)} ${
    `${tickets}/${seats}`.padStart(9)
  } ${money(revenue).padStart(10)} ${String(orders.length).padStart(5)} orders  ${place}`
}

export const headline = (sale: Sale, buyers: number, where: string) =>
  Effect.gen(function*() {
    const redis = yield* RedisClient.RedisClient
    const { server } = yield* redis.health
    const version = Option.match(server, { onNone: () => "unknown", onSome: ({ version }) => version })
    return `Sale "${sale.id}" on ${where} (version ${version}): ${whole(buyers)} buyers want ${
      whole(capacity(...sale.venues))
    } seats in ${sale.venues.length} cities.`
  })

export const summary = (sale: Sale, audit: Audit, time: Duration.Duration) =>
  Effect.gen(function*() {
    const t = yield* tallyOf(sale)
    const mails = yield* mailsOf(sale)
    const buyers = t.bought + t.soldOut + t.gaveUp + t.cardRefused + t.hungUp
    const top = audit.venues.toSorted((a, b) => b.tickets - a.tickets).slice(0, 10)
    const others = audit.venues.length - top.length
    const best = yield* chart(sale, 5)
    return [
      "",
      ...top.map(cityLine),
      ...(others > 0 ? [`  and ${others} more cities`] : []),
      `best-selling this week: ${best.join(", ")}`,
      "",
      `${whole(audit.tickets)} of ${whole(capacity(...sale.venues))} seats sold for ${money(audit.revenue)} in ${
        whole(audit.orders)
      } orders, ${perSecond(audit.orders, time)} a second for ${Duration.format(time)}`,
      `${whole(buyers)} buyers: ${whole(t.bought)} bought, ${whole(t.soldOut)} found nothing left, ${
        whole(t.gaveUp)
      } gave up, ${whole(t.cardRefused)} could not pay, ${whole(t.hungUp)} hung up in the middle`,
      `touts: ${whole(t.more)} more orders, and ${whole(t.refused)} that the limit refused`,
      `locks: ${whole(t.waits)} waits of ${whole(t.waited / Math.max(1, t.waits))} ms on average, ${
        whole(t.notAcquired)
      } not acquired in time, ${whole(t.lockLost)} lost`,
      `tried again: ${whole(t.seatsGone)} times because the seats were gone, ${
        whole(t.heldTooLong)
      } times because the fence refused a holder that came late, ${whole(t.redisErrors)} times because of Redis`,
      `mails: ${whole(mails.delivered)} confirmations brought, ${whole(mails.undelivered.length)} that could not be, ${
        whole(mails.waiting)
      } still to bring`
    ]
  })

/** A line for each check, and one for each thing that is wrong. */
export const verdict = ({ problems, stillSelling }: Audit): ReadonlyArray<string> =>
  Object.entries(checks).flatMap(([check, sentence]) => {
    const found = problems.filter((problem) => problem.check === check)
    if (found.length > 0) return [`✗ ${sentence}: NOT TRUE`].concat(found.map(({ text }) => `    ${text}`))
    return (check === "locks" || check === "log" || check === "mails") && stillSelling > 0
      ? [`- ${sentence}: not looked at, because others still sell (processes: ${stillSelling})`]
      : [`✓ ${sentence}`]
  })
