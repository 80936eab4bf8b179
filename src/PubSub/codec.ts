/**
 * What a message looks like on a channel, and what is read from it.
 */
import * as Either from "effect/Either"
import * as Option from "effect/Option"
import * as ParseResult from "effect/ParseResult"
import type * as Schema from "effect/Schema"

/** Why a message can't be read, or a value not be written. Never what is in it. */
export interface Refusal {
  readonly _tag: "Refusal"
  readonly reason: "envelope" | "version" | "payload"
  readonly detail: string
}

/** What is written around the payload. */
export interface Envelope {
  readonly id: string
  readonly type: Option.Option<string>
  readonly source: string
  readonly timestamp: number
  readonly correlationId: Option.Option<string>
}

/** What is read: `envelope` is there when the format has one. */
export interface Opened<A> {
  readonly _tag: "Opened"
  readonly envelope: Envelope | undefined
  readonly payload: A
}

export interface Codec<A> {
  readonly encode: (value: A, envelope: Envelope) => string | Uint8Array | Refusal
  readonly decode: (bytes: Uint8Array) => Opened<A> | Refusal
}

const refusal = (reason: Refusal["reason"], detail: string): Refusal => ({ _tag: "Refusal", reason, detail })

const MOST_PLACES = 200

/** Where it does not fit: the names of the fields, and no values. */
const places = (issue: ParseResult.ParseIssue): string => {
  const paths = ParseResult.ArrayFormatter.formatIssueSync(issue).map(({ path }) => path.map(String).join("."))
  const text = Array.from(new Set(paths.filter((path) => path !== ""))).join(", ")
  return text === "" ? "as a whole" : `at ${text.length > MOST_PLACES ? `${text.slice(0, MOST_PLACES)}…` : text}`
}

/** As in every other text, a byte order mark stays. What is no UTF-8 is refused, and not replaced. */
const decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true })

const isText = (u: unknown): u is string => typeof u === "string"

const tagOf = (encoded: unknown): Option.Option<string> =>
  typeof encoded === "object" && encoded !== null && "_tag" in encoded && isText(encoded._tag)
    ? Option.some(encoded._tag)
    : Option.none()

/** A schema that throws is as good as one that fails. */
const guarded = <A>(run: () => A, refused: () => Refusal): A | Refusal => {
  try {
    return run()
  } catch {
    return refused()
  }
}

const makeWith = <A>(
  schema: Schema.Schema<A, any>,
  write: (encoded: any, envelope: Envelope) => string | Uint8Array | Refusal,
  read: (bytes: Uint8Array) => { readonly envelope: Envelope | undefined; readonly encoded: unknown } | Refusal
): Codec<A> => {
  const encode = ParseResult.encodeUnknownEither(schema)
  const decode = ParseResult.decodeUnknownEither(schema)
  const broken = () => refusal("payload", "the schema throws")
  return {
    encode: (value, envelope) =>
      guarded(() => {
        const encoded = encode(value)
        return Either.isLeft(encoded)
          ? refusal("payload", `it does not fit ${places(encoded.left)}`)
          : write(encoded.right, envelope)
      }, broken),
    decode: (bytes) =>
      guarded((): Opened<A> | Refusal => {
        const opened = read(bytes)
        if ("_tag" in opened) return opened
        const payload = decode(opened.encoded)
        return Either.isLeft(payload)
          ? refusal("payload", `it does not fit ${places(payload.left)}`)
          : { _tag: "Opened", envelope: opened.envelope, payload: payload.right }
      }, broken)
  }
}

const parse = (bytes: Uint8Array): unknown => {
  try {
    return JSON.parse(decoder.decode(bytes))
  } catch {
    return undefined
  }
}

const notOurs = refusal("envelope", "it is not an envelope of this library")

const isOptionalText = (u: unknown): u is string | undefined => u === undefined || isText(u)

/** `{"version":1,"id":…,"type":…,"source":…,"timestamp":…,"correlationId":…,"payload":…}` */
export const envelope = <A>(schema: Schema.Schema<A, any>, version: number): Codec<A> =>
  makeWith(
    schema,
    (payload, { correlationId, id, source, timestamp, type }) =>
      guarded(
        () =>
          JSON.stringify({
            version,
            id,
            type: Option.getOrUndefined(Option.orElse(type, () => tagOf(payload))),
            source,
            timestamp,
            correlationId: Option.getOrUndefined(correlationId),
            payload
          }),
        () => refusal("payload", "what the schema makes of it is no JSON")
      ),
    (bytes) => {
      const value = parse(bytes)
      if (typeof value !== "object" || value === null) return notOurs
      const { correlationId, id, payload, source, timestamp, type, version: actual } = value as Record<string, unknown>
      if (
        typeof actual !== "number" || typeof timestamp !== "number" || !isText(id) || !isText(source) ||
        !isOptionalText(type) || !isOptionalText(correlationId)
      ) {
        return notOurs
      }
      if (actual !== version) return refusal("version", `it is of version ${actual}, and ${version} is read here`)
      return {
        envelope: {
          id,
          type: Option.fromNullable(type),
          source,
          timestamp,
          correlationId: Option.fromNullable(correlationId)
        },
        encoded: payload
      }
    }
  )

export const plain = <A>(schema: Schema.Schema<A, string>): Codec<A> =>
  makeWith(
    schema,
    (encoded) => isText(encoded) ? encoded : refusal("payload", "the schema does not make a text of it"),
    (bytes) =>
      guarded(
        () => ({ envelope: undefined, encoded: decoder.decode(bytes) }),
        () => refusal("payload", "it is no UTF-8")
      )
  )

/** Bytes that arrive belong to the connection, and may be seen by others. */
export const binary = <A>(schema: Schema.Schema<A, Uint8Array>): Codec<A> =>
  makeWith(
    schema,
    (encoded) => encoded instanceof Uint8Array ? encoded : refusal("payload", "the schema does not make bytes of it"),
    (bytes) => ({ envelope: undefined, encoded: new Uint8Array(bytes) })
  )
