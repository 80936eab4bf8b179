/**
 * What the typed commands make of a reply. Every decoder checks the shape and fails with `RedisDecodeError`; none throws.
 * Doubles come as text from RESP2 and as numbers from RESP3, and pairs come flat or nested: both are accepted, because a
 * client can be brought by the user.
 */
import type * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Option from "effect/Option"
import type { KeyType } from "../../RedisCommands.js"
import { RedisDecodeError, type RedisError, RedisReplyError } from "../../RedisError.js"

type OnReply<A> = (reply: unknown) => Effect.Effect<A, RedisError>

/** @internal */
export type Decoder<A> = (command: string) => OnReply<A>

/** Describes a value without showing it. */
const shape = (value: unknown): string => {
  if (value === null || value === undefined) return "nothing"
  if (typeof value === "string") return "a text"
  if (typeof value === "number") return Number.isSafeInteger(value) ? "an integer" : "a number that is no safe integer"
  if (value instanceof Uint8Array) return "bytes"
  if (Array.isArray(value)) return `an array of ${value.length}`
  if (value instanceof RedisReplyError) return "an error"
  return typeof value
}

const unexpected = (command: string, expected: string, reply: unknown): Exit.Exit<never, RedisDecodeError> =>
  Exit.fail(new RedisDecodeError({ command, detail: `expected ${expected}, got ${shape(reply)}` }))

const isArray = (value: unknown): value is ReadonlyArray<unknown> => Array.isArray(value)

/**
 * A decoder from a function that returns `undefined` for any other shape.
 *
 * @internal
 */
export const decoder =
  <A>(expected: string, decode: (reply: unknown) => A | undefined): Decoder<A> => (command) => (reply) => {
    const value = decode(reply)
    return value === undefined ? unexpected(command, expected, reply) : Exit.succeed(value)
  }

// ---------------------------------------------------------------------------------------------------------------------
// Parts
// ---------------------------------------------------------------------------------------------------------------------

/** @internal */
export const asText = (value: unknown): string | undefined => typeof value === "string" ? value : undefined

/** @internal */
export const asBytes = (value: unknown): Uint8Array | undefined => value instanceof Uint8Array ? value : undefined

const asInteger = (value: unknown): number | undefined =>
  typeof value === "number" && Number.isSafeInteger(value) ? value : undefined

const asBoolean = (value: unknown): boolean | undefined => value === 1 ? true : value === 0 ? false : undefined

/** @internal */
export const asDouble = (value: unknown): number | undefined => {
  if (typeof value === "number") return Number.isNaN(value) ? undefined : value
  if (typeof value !== "string") return undefined
  if (value === "inf") return Infinity
  if (value === "-inf") return -Infinity
  const parsed = value.trim() === "" ? NaN : Number(value)
  return Number.isNaN(parsed) ? undefined : parsed
}

const optional = <A>(decode: (value: unknown) => A | undefined) => (value: unknown): Option.Option<A> | undefined => {
  if (value === null) return Option.none()
  const decoded = decode(value)
  return decoded === undefined ? undefined : Option.some(decoded)
}

/** @internal */
export const asArray = <A>(decode: (value: unknown) => A | undefined) => (reply: unknown): Array<A> | undefined => {
  if (!isArray(reply)) return undefined
  const out = new Array<A>(reply.length)
  for (let i = 0; i < reply.length; i++) {
    const decoded = decode(reply[i])
    if (decoded === undefined) return undefined
    out[i] = decoded
  }
  return out
}

/**
 * `[a, b, a, b]`, `[[a, b], [a, b]]`, and what a RESP3 map can become.
 *
 * @internal
 */
export const asPairs =
  <B>(decode: (value: unknown) => B | undefined) => (reply: unknown): Array<readonly [string, B]> | undefined => {
    const out: Array<readonly [string, B]> = []
    const add = (first: unknown, second: unknown): boolean => {
      const b = decode(second)
      if (typeof first !== "string" || b === undefined) return false
      out.push([first, b])
      return true
    }
    if (isArray(reply)) {
      if (reply.length > 0 && isArray(reply[0])) {
        return reply.every((pair) => isArray(pair) && pair.length === 2 && add(pair[0], pair[1])) ? out : undefined
      }
      if (reply.length % 2 !== 0) return undefined
      for (let i = 0; i < reply.length; i += 2) if (!add(reply[i], reply[i + 1])) return undefined
      return out
    }
    if (reply instanceof Map) return Array.from(reply).every(([key, value]) => add(key, value)) ? out : undefined
    if (typeof reply !== "object" || reply === null || Object.getPrototypeOf(reply) !== Object.prototype) {
      return undefined
    }
    return Object.entries(reply).every(([key, value]) => add(key, value)) ? out : undefined
  }

/** A plain assignment would lose a field that is called `__proto__`. */
const toRecord = <A>(pairs: ReadonlyArray<readonly [string, A]>): Record<string, A> => {
  const record: Record<string, A> = {}
  for (const [key, value] of pairs) {
    if (key === "__proto__") {
      Object.defineProperty(record, key, { value, enumerable: true, configurable: true, writable: true })
    } else {
      record[key] = value
    }
  }
  return record
}

// ---------------------------------------------------------------------------------------------------------------------
// Decoders
// ---------------------------------------------------------------------------------------------------------------------

/** @internal */
export const ok: Decoder<void> = (command) => (reply) => reply === "OK" ? Exit.void : unexpected(command, "OK", reply)

/** @internal */
export const okOrNothing: Decoder<boolean> = decoder(
  "OK or nothing",
  (reply) => reply === "OK" ? true : reply === null ? false : undefined
)

/** @internal */
export const text: Decoder<string> = decoder("a text", asText)

const none = Exit.succeed(Option.none())

/** @internal */
export const optionalText: Decoder<Option.Option<string>> = (command) => (reply) =>
  typeof reply === "string"
    ? Exit.succeed(Option.some(reply))
    : reply === null
    ? none
    : unexpected(command, "a text or nothing", reply)

/** @internal */
export const optionalBytes: Decoder<Option.Option<Uint8Array>> = decoder(
  "bytes or nothing",
  optional(asBytes)
)

/** @internal */
export const integer: Decoder<number> = decoder("a safe integer", asInteger)

/** @internal */
export const optionalInteger: Decoder<Option.Option<number>> = decoder("a safe integer or nothing", optional(asInteger))

/** @internal */
export const integers: Decoder<Array<number>> = decoder("an array of safe integers", asArray(asInteger))

/** @internal */
export const boolean: Decoder<boolean> = decoder("1 or 0", asBoolean)

/** @internal */
export const booleans: Decoder<Array<boolean>> = decoder("an array of 1 or 0", asArray(asBoolean))

/** @internal */
export const double: Decoder<number> = decoder("a number", asDouble)

/** @internal */
export const optionalDouble: Decoder<Option.Option<number>> = decoder("a number or nothing", optional(asDouble))

/** @internal */
export const optionalDoubles: Decoder<Array<Option.Option<number>>> = decoder(
  "an array of numbers or nothing",
  asArray(optional(asDouble))
)

/** @internal */
export const texts: Decoder<Array<string>> = decoder("an array of texts", asArray(asText))

/** For commands that answer nothing where a key does not exist. */
const textsIfAny = (reply: unknown): Array<string> | undefined => reply === null ? [] : asArray(asText)(reply)

/** @internal */
export const textsOrNothing: Decoder<Array<string>> = decoder("an array of texts or nothing", textsIfAny)

/** @internal */
export const optionalTexts: Decoder<Array<Option.Option<string>>> = decoder(
  "an array of texts or nothing",
  asArray(optional(asText))
)

/** @internal */
export const record: Decoder<Record<string, string>> = decoder("pairs of texts", (reply) => {
  const pairs = asPairs(asText)(reply)
  return pairs === undefined ? undefined : toRecord(pairs)
})

/** @internal */
export const integerRecord = (rename: (key: string) => string): Decoder<Record<string, number>> =>
  decoder("pairs of a text and a safe integer", (reply) => {
    const pairs = asPairs(asInteger)(reply)
    return pairs === undefined ? undefined : toRecord(pairs.map(([key, n]) => [rename(key), n] as const))
  })

/** @internal */
export const scored: Decoder<Array<readonly [string, number]>> = decoder(
  "pairs of a text and a number",
  asPairs(asDouble)
)

/** @internal */
export const optionalScored: Decoder<Option.Option<readonly [string, number]>> = decoder(
  "one pair of a text and a number, or none",
  (reply) => {
    if (reply === null) return Option.none()
    const pairs = asPairs(asDouble)(reply)
    return pairs === undefined || pairs.length > 1 ? undefined : Option.fromNullable(pairs[0])
  }
)

const keyTypes: ReadonlySet<string> = new Set<KeyType>(["string", "list", "set", "zset", "hash", "stream"])

const isKeyType = (value: unknown): value is KeyType => typeof value === "string" && keyTypes.has(value)

/** @internal */
export const keyType: Decoder<Option.Option<KeyType>> = decoder(
  "a type of key",
  (reply) => reply === "none" ? Option.none() : isKeyType(reply) ? Option.some(reply) : undefined
)

/** @internal */
export const cursorPage = <A>(
  items: (reply: unknown) => ReadonlyArray<A> | undefined
): Decoder<readonly [string, ReadonlyArray<A>]> =>
  decoder("a cursor and an array", (reply) => {
    if (!isArray(reply) || reply.length !== 2 || typeof reply[0] !== "string") return undefined
    const page = items(reply[1])
    return page === undefined ? undefined : [reply[0], page]
  })
