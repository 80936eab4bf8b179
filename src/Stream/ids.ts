/**
 * Ids of entries: two unsigned integers of 64 bits.
 */
import * as Either from "effect/Either"
import { inputError } from "../internal/input.js"
import type { RedisInputError } from "../RedisError.js"
import type { Bound } from "./Stream.js"

/** Before all entries. */
export const ZERO = "0-0"

const ID = /^\d{1,20}(-\d{1,20})?$/

const EXPECTED = "an id as in \"1700000000000-0\", or milliseconds"

export const isId = (text: unknown): text is string => typeof text === "string" && ID.test(text)

export const checkId = (operation: string, field: string, id: unknown): RedisInputError | undefined =>
  isId(id) ? undefined : inputError(operation, field, EXPECTED, id)

const halves = (id: string): readonly [bigint, bigint] => {
  const dash = id.indexOf("-")
  return dash === -1 ? [BigInt(id), 0n] : [BigInt(id.slice(0, dash)), BigInt(id.slice(dash + 1))]
}

/** Whether the first one comes before the other. */
export const isBefore = (a: string, b: string): boolean => {
  if (a === b) return false
  const [aTime, aSequence] = halves(a)
  const [bTime, bSequence] = halves(b)
  return aTime === bTime ? aSequence < bSequence : aTime < bTime
}

/** One end of a range as the server wants it. */
export const bound = (
  operation: string,
  field: string,
  value: Bound | undefined,
  open: "-" | "+"
): Either.Either<string, RedisInputError> => {
  if (value === undefined) return Either.right(open)
  const [id, before] = typeof value === "object" ? [value.exclusive, "("] : [value, ""]
  const text = typeof id === "number" ? String(id) : id
  const bad = checkId(operation, field, text)
  return bad === undefined ? Either.right(before + text) : Either.left(bad)
}
