/**
 * What an entry of a stream looks like in Redis, and what is read from it.
 */
import * as Either from "effect/Either"
import * as ParseResult from "effect/ParseResult"
import type * as Schema from "effect/Schema"
import { exceptPlain } from "../internal/plainValues.js"
import type { Element } from "./Stream.js"

/** The field of the value, where it is one. */
const DATA = "data"

/** The field in which the span of whoever appended the entry travels. */
const TRACE = "traceparent"

/** Names and values in turn. */
export type Fields = ReadonlyArray<string>

export interface Codec<A> {
  /** Whether there is room for a span beside the value. */
  readonly traced: boolean
  /** `Left` says why not, and nothing of the value. */
  readonly encode: (value: A) => Either.Either<Fields, string>
  readonly decode: (fields: Fields) => Either.Either<A, string>
}

const MOST_PLACES = 200

/** Where it does not fit: the names of the fields, and no values. */
const misfit = (error: ParseResult.ParseIssue): string => {
  const paths = ParseResult.ArrayFormatter.formatIssueSync(error).map(({ path }) => path.map(String).join("."))
  const text = Array.from(new Set(paths.filter((path) => path !== ""))).join(", ")
  return text === ""
    ? "it does not fit as a whole"
    : `it does not fit at ${text.length > MOST_PLACES ? `${text.slice(0, MOST_PLACES)}…` : text}`
}

const THROWS = Either.left("the schema throws")

/** A schema that throws is as good as one that fails. */
const guarded = <A, B>(run: (a: A) => Either.Either<B, string>) => (a: A): Either.Either<B, string> => {
  try {
    return run(a)
  } catch {
    return THROWS
  }
}

const makeWith = <A>(
  schema: Schema.Schema<A, any>,
  traced: boolean,
  write: (encoded: any) => Either.Either<Fields, string>,
  read: (fields: Fields) => Either.Either<unknown, string>
): Codec<A> => {
  const encode = exceptPlain(schema, ParseResult.encodeUnknownEither(schema))
  const decode = exceptPlain(schema, ParseResult.decodeUnknownEither(schema))
  return {
    traced,
    encode: guarded((value) => {
      const encoded = encode(value)
      return Either.isLeft(encoded) ? Either.left(misfit(encoded.left)) : write(encoded.right)
    }),
    decode: guarded((fields) => {
      const opened = read(fields)
      if (Either.isLeft(opened)) return Either.left(opened.left)
      const decoded = decode(opened.right)
      return Either.isLeft(decoded) ? Either.left(misfit(decoded.left)) : Either.right(decoded.right)
    })
  }
}

const fieldOf = (fields: Fields, name: string): string | undefined => {
  for (let i = 0; i + 1 < fields.length; i += 2) if (fields[i] === name) return fields[i + 1]
  return undefined
}

/** One field with the whole value as JSON. */
export const json = <A>(schema: Schema.Schema<A, any>): Codec<A> =>
  makeWith(
    schema,
    true,
    (encoded) => {
      let text: string | undefined
      try {
        text = JSON.stringify(encoded)
      } catch {
        text = undefined
      }
      return text === undefined ? Either.left("what the schema makes of it is no JSON") : Either.right([DATA, text])
    },
    (fields) => {
      const text = fieldOf(fields, DATA)
      if (text === undefined) return Either.left(`there is no field "${DATA}"`)
      try {
        return Either.right(JSON.parse(text))
      } catch {
        return Either.left(`the field "${DATA}" is no JSON`)
      }
    }
  )

/** A field for each property, all of them texts. */
export const plain = <A>(schema: Schema.Schema<A, any>): Codec<A> =>
  makeWith(
    schema,
    false,
    (encoded: Readonly<Record<string, unknown>>) => {
      const fields: Array<string> = []
      for (const [name, value] of Object.entries(encoded)) {
        if (value === undefined) continue
        if (typeof value !== "string") return Either.left("the schema does not make texts of it")
        fields.push(name, value)
      }
      return fields.length > 0 ? Either.right(fields) : Either.left("the schema makes no field of it")
    },
    (fields) => {
      const pairs: Array<readonly [string, string]> = []
      for (let i = 0; i + 1 < fields.length; i += 2) pairs.push([fields[i]!, fields[i + 1]!])
      // Not by assignment, which would lose a field that is called `__proto__`.
      return Either.right(Object.fromEntries(pairs))
    }
  )

// ---------------------------------------------------------------------------------------------------------------------
// Entries
// ---------------------------------------------------------------------------------------------------------------------

/** An entry as the server sends it. */
export interface RawEntry {
  readonly id: string
  readonly fields: Fields
}

const isTexts = (u: unknown): u is ReadonlyArray<string> =>
  Array.isArray(u) && u.every((part) => typeof part === "string")

/** `undefined` for what is no entry. */
export const rawEntry = (u: unknown): RawEntry | undefined => {
  if (!Array.isArray(u) || u.length < 2) return undefined
  const [id, fields]: ReadonlyArray<unknown> = u
  return typeof id === "string" && isTexts(fields) ? { id, fields } : undefined
}

/** `undefined` for what is no list of entries. */
export const rawEntries = (u: unknown): ReadonlyArray<RawEntry> | undefined => {
  if (u === null) return []
  if (!Array.isArray(u)) return undefined
  const entries = new Array<RawEntry>(u.length)
  for (let i = 0; i < u.length; i++) {
    const entry = rawEntry(u[i])
    if (entry === undefined) return undefined
    entries[i] = entry
  }
  return entries
}

export const timestampOf = (id: string): number => Number(id.slice(0, id.indexOf("-")))

export const pairsOf = (fields: Fields): ReadonlyArray<readonly [name: string, value: string]> =>
  Array.from({ length: fields.length / 2 }, (_, i) => [fields[2 * i]!, fields[2 * i + 1]!] as const)

export const element = <A>(codec: Codec<A>, { fields, id }: RawEntry): Element<A> => {
  const decoded = codec.decode(fields)
  return Either.isRight(decoded)
    ? { _tag: "Entry", id, timestamp: timestampOf(id), value: decoded.right }
    : { _tag: "Undecodable", id, timestamp: timestampOf(id), detail: decoded.left, fields: pairsOf(fields) }
}

export const traceOf = (codec: Codec<any>, fields: Fields): string | undefined =>
  codec.traced ? fieldOf(fields, TRACE) : undefined

export const traceFields = (traceparent: string): Fields => [TRACE, traceparent]
