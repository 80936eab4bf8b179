/**
 * Seasons: which one an instant belongs to, in UTC.
 */
import * as DateTime from "effect/DateTime"
import * as Either from "effect/Either"
import { inputError } from "../internal/input.js"
import { checkName } from "../internal/rooms.js"
import type { RedisInputError } from "../RedisError.js"

/**
 * A stretch of time with a board of its own. `end` is the first instant that does not belong to it.
 *
 * @since 0.1.0
 * @category models
 */
export interface Season {
  readonly id: string
  readonly start: DateTime.Utc
  readonly end: DateTime.Utc
}

/**
 * How long seasons are: by the calendar in UTC, with weeks from Monday, or by a function that says which season an instant
 * belongs to.
 *
 * @since 0.1.0
 * @category models
 */
export type Period = "hour" | "day" | "week" | "month" | "year" | ((at: DateTime.Utc) => Season)

/** The same in milliseconds. */
export interface Span {
  readonly id: string
  readonly start: number
  readonly end: number
}

/** `2026-W47`: a week belongs to the year that its Thursday is in. */
const weekId = (monday: DateTime.Utc): string => {
  const thursday = DateTime.add(monday, { days: 3 })
  const days = DateTime.distance(DateTime.startOf(thursday, "year"), thursday) / 86_400_000
  return `${DateTime.getPartUtc(thursday, "year")}-W${String(Math.floor(days / 7) + 1).padStart(2, "0")}`
}

/** How much of `2026-11-21T14:00:00.000Z` names the season. */
const LENGTHS = { hour: 13, day: 10, month: 7, year: 4 } as const

/** The instants that `Date` knows. */
const LAST = 8.64e15

/** The season of an instant in milliseconds. */
export const at = (operation: string, period: Period, millis: number): Either.Either<Span, RedisInputError> => {
  if (!(Math.abs(millis) < LAST)) return Either.left(inputError(operation, "season", "an instant", millis))
  const instant = DateTime.unsafeMake(millis)
  if (typeof period === "function") {
    const season = period(instant)
    const start = DateTime.toEpochMillis(season.start)
    const end = DateTime.toEpochMillis(season.end)
    const bad = checkName(operation, "season.id", season.id)
    if (bad !== undefined) return Either.left(bad)
    return start <= millis && millis < end
      ? Either.right({ id: season.id, start, end })
      : Either.left(inputError(operation, "season", "a season that the instant belongs to", season.id))
  }
  const start = DateTime.startOf(instant, period, { weekStartsOn: 1 })
  const end = DateTime.add(start, { [`${period}s`]: 1 })
  return Either.right({
    id: period === "week" ? weekId(start) : DateTime.formatIso(start).slice(0, LENGTHS[period]),
    start: DateTime.toEpochMillis(start),
    end: DateTime.toEpochMillis(end)
  })
}
