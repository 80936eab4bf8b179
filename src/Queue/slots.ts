/**
 * When the slots of a schedule are. Nothing here knows the time: it is given.
 */
import * as Cron from "effect/Cron"
import * as DateTime from "effect/DateTime"
import * as Either from "effect/Either"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"

/** When slots are: a cron expression in a time zone, or every so many milliseconds from the start on. */
export type When =
  | { readonly cron: string; readonly zone: string; readonly start?: number | undefined }
  | { readonly every: number; readonly start?: number | undefined }

/** How many slots there are, and what becomes of those that nobody fired in time. */
export interface Limits {
  /** No slot after it. */
  readonly end?: number | undefined
  readonly count?: number | undefined
  readonly catchUp: "skip" | "last" | "all"
  /** How late a slot may be without being a missed one. */
  readonly grace: number
}

/** As they are stored: JSON. */
export const When = Schema.parseJson(Schema.Union(
  Schema.Struct({ cron: Schema.String, zone: Schema.String, start: Schema.optional(Schema.Number) }),
  Schema.Struct({ every: Schema.Positive, start: Schema.optional(Schema.Number) })
))

export const Limits = Schema.parseJson(Schema.Struct({
  end: Schema.optional(Schema.Number),
  count: Schema.optional(Schema.Number),
  catchUp: Schema.Literal("skip", "last", "all"),
  grace: Schema.Number
}))

/** The first slot after an instant, in milliseconds; nothing when there is none. */
export type Following = (after: number) => number | undefined

/** Clocks go forward by less. */
const RECENT = 3 * 3_600_000

const atOffset = (zone: DateTime.TimeZone, millis: number): number =>
  DateTime.zonedOffset(DateTime.unsafeMakeZoned(millis, { timeZone: zone }))

/**
 * Cron's own `next` names each local time once. Where clocks go forward, a time that is left out comes as much later, and
 * where they go back, one that comes twice counts the first time. Three things are added: it never looks back when it is
 * asked in the second of these hours, a cron of every hour has slots in both of them, and what comes later is there also
 * for who asks after clocks went forward.
 */
const cronFollowing = (cron: Cron.Cron, zone: DateTime.TimeZone): Following => {
  const everyHour = cron.hours.size === 0
  /** When it never comes, it throws. */
  const next = (cron: Cron.Cron, after: number): number | undefined => {
    try {
      return Cron.next(cron, after).getTime()
    } catch {
      return undefined
    }
  }
  /** With a clock that does not change. */
  const unmoved = (offset: number, after: number) =>
    next(Cron.make({ ...cron, tz: DateTime.zoneMakeOffset(offset) }), after)
  return (after) => {
    let found = next(cron, after)
    let repeated = false
    for (let probe = after; found !== undefined && found <= after;) {
      repeated = true
      // The same local time, the second time.
      probe = Math.max(probe + 1000, found + atOffset(zone, found) - atOffset(zone, probe))
      found = next(cron, probe)
    }
    if (found === undefined) return undefined
    const offset = atOffset(zone, after)
    if (everyHour) {
      if (!repeated && atOffset(zone, found) === offset) return found
      const slot = unmoved(offset, after)
      return slot !== undefined && slot < found && Cron.match(cron, slot) ? slot : found
    }
    const earlier = atOffset(zone, after - RECENT)
    const leap = offset - earlier
    if (leap <= 0 || atOffset(zone, after - leap) !== earlier) return found
    const slot = unmoved(earlier, after)
    return slot !== undefined && slot < found && atOffset(zone, slot - leap) === earlier ? slot : found
  }
}

const everyFollowing = (every: number, start: number): Following => (after) =>
  start + Math.floor((after - start) / every + 1) * every

/** `Left` says which field is wrong. */
export const following = (when: When): Either.Either<Following, "cron" | "timeZone"> => {
  const { start } = when
  let from: Following
  if ("cron" in when) {
    const zone = DateTime.zoneFromString(when.zone)
    if (Option.isNone(zone)) return Either.left("timeZone")
    const cron = Cron.parse(when.cron, zone.value)
    if (Either.isLeft(cron)) return Either.left("cron")
    from = cronFollowing(cron.right, zone.value)
  } else {
    from = everyFollowing(when.every, start ?? 0)
  }
  return Either.right(start === undefined ? from : (after) => from(Math.max(after, start - 1)))
}

/** Where a schedule is. */
export interface Place {
  /** The next slot, or when it was made or resumed as long as the next one is not known. */
  readonly slot: number
  readonly known: boolean
  readonly fired: number
}

/** What is to be done at a slot that is due. */
export interface Step {
  readonly fire: boolean
  /** The next slot; nothing when the schedule has ended. */
  readonly next: number | undefined
}

/** The last slot before an instant, when there is one after `after`. */
const lastBefore = (following: Following, after: number, before: number): number | undefined => {
  const first = following(after)
  if (first === undefined || first >= before) return undefined
  let low = after
  let high = before
  // There is a slot between `low` and `before`, and none between `high` and `before`.
  while (high - low > 1) {
    const middle = Math.floor((low + high) / 2)
    const slot = following(middle)
    if (slot !== undefined && slot < before) low = middle
    else high = middle
  }
  return following(low)
}

/** What comes next, at this time of the server. */
export const step = (following: Following, limits: Limits, { fired, known, slot }: Place, now: number): Step => {
  const { catchUp, count = Infinity, end = Infinity, grace } = limits
  const within = (next: number | undefined, fired: number): number | undefined =>
    next === undefined || next > end || fired >= count ? undefined : next
  if (!known) return { fire: false, next: within(following(slot), fired) }
  if (within(slot, fired) === undefined) return { fire: false, next: undefined }
  const firing = (): Step => ({ fire: true, next: within(following(slot), fired + 1) })
  if (now - slot <= grace) return firing()
  if (catchUp !== "last") return { fire: false, next: within(following(now - grace - 1), fired) }
  const last = lastBefore(following, slot, Math.min(now - grace, end + 1))
  return last === undefined ? firing() : { fire: false, next: last }
}
