/**
 * Arguments of the typed commands, checked before anything is sent: each function gives the first thing that is wrong, or
 * the arguments.
 */
import * as DateTime from "effect/DateTime"
import * as Duration from "effect/Duration"
import * as Either from "effect/Either"
import type { RedisArg } from "../../RedisClient.js"
import type { Entries, Expiry, Instant, LexRange, ScoreBound, ScoreRange, SortedSetRange } from "../../RedisCommands.js"
import { RedisInputError } from "../../RedisError.js"
import { checkKey, inputError, positiveMillis } from "../input.js"

/** @internal */
export type Args = ReadonlyArray<RedisArg> | RedisInputError

/** @internal */
export const isBad = <A>(value: A | RedisInputError): value is RedisInputError => value instanceof RedisInputError

/** @internal */
export const noneGiven = (operation: string, field: string): RedisInputError =>
  new RedisInputError({ operation, field, expected: "at least one", actual: "none" })

/** @internal */
export const checkSome = (
  operation: string,
  field: string,
  values: ReadonlyArray<unknown>
): RedisInputError | undefined => values.length > 0 ? undefined : noneGiven(operation, field)

/** @internal */
export const checkKeys = (
  operation: string,
  keys: ReadonlyArray<string>,
  field = "keys"
): RedisInputError | undefined => {
  for (const key of keys) {
    const bad = checkKey(operation, key, field)
    if (bad !== undefined) return bad
  }
  return undefined
}

/** @internal */
export const checkSomeKeys = (
  operation: string,
  keys: ReadonlyArray<string>,
  field = "keys"
): RedisInputError | undefined => checkSome(operation, field, keys) ?? checkKeys(operation, keys, field)

/** @internal */
export const checkInteger = (operation: string, field: string, value: number): RedisInputError | undefined =>
  Number.isSafeInteger(value) ? undefined : inputError(operation, field, "a whole number", value)

/** @internal */
export const checkCount = (operation: string, field: string, value: number): RedisInputError | undefined =>
  Number.isSafeInteger(value) && value >= 1
    ? undefined
    : inputError(operation, field, "a whole number of one or more", value)

/** @internal */
export const checkOffset = (operation: string, field: string, value: number): RedisInputError | undefined =>
  Number.isSafeInteger(value) && value >= 0
    ? undefined
    : inputError(operation, field, "a whole number of zero or more", value)

/** @internal */
export const checkNonZero = (operation: string, field: string, value: number): RedisInputError | undefined =>
  Number.isSafeInteger(value) && value !== 0
    ? undefined
    : inputError(operation, field, "a whole number other than zero", value)

/** @internal */
export const checkFinite = (operation: string, field: string, value: number): RedisInputError | undefined =>
  Number.isFinite(value) ? undefined : inputError(operation, field, "a finite number", value)

/** @internal */
export const checkScore = (operation: string, field: string, value: number): RedisInputError | undefined =>
  typeof value === "number" && !Number.isNaN(value) ? undefined : inputError(operation, field, "a number", value)

const isIterable = <A>(
  input: Entries<A> | Iterable<readonly [RedisArg, A]>
): input is Iterable<readonly [RedisArg, A]> => Symbol.iterator in input

/** @internal */
export const pairs = <A>(
  input: Entries<A> | Iterable<readonly [RedisArg, A]>
): ReadonlyArray<readonly [RedisArg, A]> => isIterable(input) ? Array.from(input) : Object.entries(input)

/** @internal */
export const flatPairs = (
  operation: string,
  field: string,
  head: ReadonlyArray<RedisArg>,
  input: Entries<RedisArg>
): Args => {
  const args = head.slice()
  for (const [name, value] of pairs(input)) args.push(name, value)
  return args.length > head.length ? args : noneGiven(operation, field)
}

// ---------------------------------------------------------------------------------------------------------------------
// Time
// ---------------------------------------------------------------------------------------------------------------------

/** @internal */
export const millisArgs = (operation: string, field: string, input: Duration.DurationInput): Args => {
  const millis = positiveMillis(operation, field, input)
  return Either.isLeft(millis) ? millis.left : [String(millis.right)]
}

/** @internal */
export const instantArgs = (operation: string, field: string, at: Instant): Args => {
  const millis = DateTime.isDateTime(at) ? DateTime.toEpochMillis(at) : at instanceof Date ? at.getTime() : NaN
  if (!Number.isNaN(millis)) return [String(Math.ceil(millis))]
  const actual = at instanceof Date ? "an invalid one" : typeof at
  return new RedisInputError({ operation, field, expected: "a valid Date or DateTime", actual })
}

/**
 * Of `SET` and `GETEX`, which refuse an instant that is not after the epoch.
 *
 * @internal
 */
export const expiryArgs = (operation: string, options: Expiry): Args => {
  const { expireAt, keepTtl, persist, ttl } = options
  const given = Number(ttl !== undefined) + Number(expireAt !== undefined) + Number(keepTtl === true) +
    Number(persist === true)
  if (given > 1) {
    return new RedisInputError({ operation, field: "options", expected: "at most one expiry", actual: `${given}` })
  }
  if (ttl !== undefined) {
    const args = millisArgs(operation, "ttl", ttl)
    return isBad(args) ? args : ["PX", ...args]
  }
  if (expireAt !== undefined) {
    const args = instantArgs(operation, "expireAt", expireAt)
    if (isBad(args)) return args
    return Number(args[0]) > 0
      ? ["PXAT", ...args]
      : inputError(operation, "expireAt", "an instant after the epoch", Number(args[0]))
  }
  return keepTtl === true ? ["KEEPTTL"] : persist === true ? ["PERSIST"] : []
}

/**
 * How long a blocking command waits, in seconds. For Redis zero means for ever, which nobody should get by accident.
 *
 * @internal
 */
export const timeoutSeconds = (operation: string, input: Duration.DurationInput): string | RedisInputError => {
  const decoded = typeof input === "number" && !(input >= 1) ? undefined : Duration.decodeUnknown(input)
  if (decoded !== undefined && decoded._tag === "Some") {
    if (!Duration.isFinite(decoded.value)) return "0"
    const millis = positiveMillis(operation, "timeout", decoded.value)
    if (Either.isRight(millis) && Duration.toMillis(decoded.value) >= 1) return String(millis.right / 1000)
  }
  return inputError(
    operation,
    "timeout",
    "a duration of at least one millisecond, or Duration.infinity to wait for ever",
    input
  )
}

// ---------------------------------------------------------------------------------------------------------------------
// Scores and ranges
// ---------------------------------------------------------------------------------------------------------------------

/** @internal */
export const score = (value: number): string =>
  value === Infinity ? "inf" : value === -Infinity ? "-inf" : String(value)

const scoreBound = (operation: string, field: string, bound: ScoreBound): string | RedisInputError => {
  const value = typeof bound === "number" ? bound : bound.exclusive
  return checkScore(operation, field, value) ?? (typeof bound === "number" ? score(value) : `(${score(value)}`)
}

/** @internal */
export const scoreRangeArgs = (operation: string, range: ScoreRange): readonly [string, string] | RedisInputError => {
  const min = scoreBound(operation, "min", range.min ?? -Infinity)
  if (isBad(min)) return min
  const max = scoreBound(operation, "max", range.max ?? Infinity)
  return isBad(max) ? max : [min, max]
}

/** @internal */
export const lexRangeArgs = (range: LexRange): readonly [string, string] => [
  range.min === undefined ? "-" : typeof range.min === "string" ? `[${range.min}` : `(${range.min.exclusive}`,
  range.max === undefined ? "+" : typeof range.max === "string" ? `[${range.max}` : `(${range.max.exclusive}`
]

/**
 * Of `ZRANGE`. With `REV` the server wants the upper bound first; here `min` stays `min`.
 *
 * @internal
 */
export const sortedSetRangeArgs = (operation: string, range: SortedSetRange): Args => {
  const rev = range.rev === true ? ["REV"] : []
  if (range.by !== "score" && range.by !== "lex") {
    const { start = 0, stop = -1 } = range
    return checkInteger(operation, "start", start) ?? checkInteger(operation, "stop", stop) ?? [start, stop, ...rev]
  }
  const bounds = range.by === "score" ? scoreRangeArgs(operation, range) : lexRangeArgs(range)
  if (isBad(bounds)) return bounds
  const args: Array<RedisArg> = range.rev === true ? [bounds[1], bounds[0]] : [bounds[0], bounds[1]]
  args.push(range.by === "score" ? "BYSCORE" : "BYLEX", ...rev)
  if (range.limit === undefined) return args
  const { count, offset = 0 } = range.limit
  const bad = checkOffset(operation, "limit.offset", offset) ??
    (count === undefined ? undefined : checkOffset(operation, "limit.count", count))
  return bad ?? [...args, "LIMIT", offset, count ?? -1]
}
