/**
 * Checks of arguments that are made before anything is sent.
 */
import * as Duration from "effect/Duration"
import * as Either from "effect/Either"
import * as Option from "effect/Option"
import type * as ParseResult from "effect/ParseResult"
import * as Redacted from "effect/Redacted"
import * as Schema from "effect/Schema"
import { RedisInputError } from "../RedisError.js"

const show = (value: unknown): string => {
  if (typeof value === "string") return value === "" ? "an empty string" : `"${value}"`
  if (typeof value === "number" || typeof value === "bigint") return String(value)
  if (Duration.isDuration(value)) return Duration.format(value)
  if (Redacted.isRedacted(value)) return "another text"
  return value === null ? "null" : typeof value
}

/** @internal */
export const inputError = (operation: string, field: string, expected: string, actual: unknown): RedisInputError =>
  new RedisInputError({ operation, field, expected, actual: show(actual) })

/** @internal */
export const checkKey = (operation: string, key: string, field = "key"): RedisInputError | undefined =>
  typeof key === "string" && key.length > 0 ? undefined : inputError(operation, field, "a non-empty string", key)

/** @internal */
export const checkWhole = (
  operation: string,
  field: string,
  least: number,
  most: number,
  actual: number
): RedisInputError | undefined =>
  Number.isSafeInteger(actual) && actual >= least && actual <= most
    ? undefined
    : inputError(operation, field, `a whole number from ${least} to ${most}`, actual)

/** 2^53 milliseconds would be past what Redis can add to its clock; ten thousand years is far more than anyone means. */
const MAX_MILLIS = 10_000 * 365 * 86_400_000

const isNumeric = (input: Duration.DurationInput): input is number => typeof input === "number"

/**
 * A finite duration of at least one millisecond, in whole milliseconds, rounded up.
 *
 * @internal
 */
export const positiveMillis = (
  operation: string,
  field: string,
  input: Duration.DurationInput
): Either.Either<number, RedisInputError> => {
  const expected = "a finite duration greater than zero"
  // Duration turns negative numbers and NaN into zero, so the number itself is what the caller should see.
  if (isNumeric(input) && !(input > 0)) return Either.left(inputError(operation, field, expected, input))
  const decoded = Duration.decodeUnknown(input)
  if (Option.isNone(decoded)) return Either.left(inputError(operation, field, expected, input))
  const millis = Math.ceil(Duration.toMillis(decoded.value))
  return millis > 0 && millis <= MAX_MILLIS
    ? Either.right(millis)
    : Either.left(inputError(operation, field, expected, input))
}

/**
 * As `positiveMillis`, but zero is allowed.
 *
 * @internal
 */
export const nonNegativeMillis = (
  operation: string,
  field: string,
  input: Duration.DurationInput
): Either.Either<number, RedisInputError> => {
  const expected = "a finite duration of zero or more"
  if (isNumeric(input) && !(input >= 0)) return Either.left(inputError(operation, field, expected, input))
  const decoded = Duration.decodeUnknown(input)
  if (Option.isNone(decoded)) return Either.left(inputError(operation, field, expected, input))
  const millis = Math.ceil(Duration.toMillis(decoded.value))
  return millis >= 0 && millis <= MAX_MILLIS
    ? Either.right(millis)
    : Either.left(inputError(operation, field, expected, input))
}

/** What such a field holds may be a secret that was passed in plain text by mistake. */
const SECRET_FIELDS = /(^|\.)(url|password|sentinelPassword|key)$/

/**
 * The first thing that a schema finds wrong, as one of our own errors.
 *
 * @internal
 */
export const checkSchema = <A, I>(
  operation: string,
  schema: Schema.Schema<A, I>,
  input: unknown
): Either.Either<A, RedisInputError> =>
  Either.mapLeft(
    Schema.decodeUnknownEither(schema)(input, { onExcessProperty: "error" }),
    (error) => {
      const path: Array<PropertyKey> = []
      let issue = error.issue
      while (true) {
        if (issue._tag === "Pointer") {
          if (Array.isArray(issue.path)) path.push(...issue.path)
          else path.push(issue.path as PropertyKey)
          issue = issue.issue
        } else if (issue._tag === "Composite") {
          issue = Array.isArray(issue.issues) ? issue.issues[0] : issue.issues as ParseResult.ParseIssue
        } else if (issue._tag === "Refinement" || issue._tag === "Transformation") {
          if (issue.issue._tag === "Type") break
          issue = issue.issue
        } else {
          break
        }
      }
      const field = path.map(String).join(".") || "options"
      if (issue._tag === "Unexpected") return inputError(operation, field, "left out: there is no such option", "given")
      const expected = "ast" in issue ? String(issue.ast) : "another value"
      return inputError(operation, field, expected, SECRET_FIELDS.test(field) ? Redacted.make("") : issue.actual)
    }
  )
