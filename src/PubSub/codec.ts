/**
 * What a message looks like on a channel, and what is read from it.
 */
import * as Either from "effect/Either"
import * as Option from "effect/Option"
import * as ParseResult from "effect/ParseResult"
import type * as Schema from "effect/Schema"
import { exceptPlain } from "../internal/plainValues.js"
import type * as Redis from "../RedisClient.js"
import type { Message, PlainMessage } from "./PubSub.js"

/** Why a message can't be read, or a value not be written. Never what is in it. */
export interface Refusal {
  readonly _tag: "Refusal"
  readonly reason: "envelope" | "version" | "payload"
  readonly detail: string
}

/** What is written around the payload. */
export interface Envelope {
  /** Of letters and digits, `-`, `_` and `.`. */
  readonly id: string
  readonly type: string | undefined
  /** As JSON. */
  readonly source: string
  readonly timestamp: number
  readonly correlationId: string | undefined
}

export interface Codec<A> {
  /** Formats without an envelope do not look at it. */
  readonly encode: (value: A, envelope: Envelope) => string | Uint8Array | Refusal
  readonly decode: (message: Redis.Message) => PlainMessage<A> | Message<A> | Refusal
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

/** All subscribers share one text. Only a text with the replacement character can be of what is no UTF-8. */
const textOf = ({ bytes, payload }: Redis.Message): string =>
  payload.includes("\uFFFD") ? decoder.decode(bytes) : payload

const isText = (u: unknown): u is string => typeof u === "string"

const tagOf = (encoded: unknown): string | undefined =>
  typeof encoded === "object" && encoded !== null && "_tag" in encoded && isText(encoded._tag)
    ? encoded._tag
    : undefined

/** With the payload as it was read, and then as it is. */
type Opened = { -readonly [K in keyof PlainMessage<any>]: PlainMessage<any>[K] }

const broken = refusal("payload", "the schema throws")

const misfit = (issue: ParseResult.ParseIssue): Refusal => refusal("payload", `it does not fit ${places(issue)}`)

/** A schema that throws is as good as one that fails. */
const makeWith = <A>(
  schema: Schema.Schema<A, any>,
  write: (encoded: any, envelope: Envelope) => string | Uint8Array | Refusal,
  read: (message: Redis.Message) => Opened | Refusal
): Codec<A> => {
  const encode = exceptPlain(schema, ParseResult.encodeUnknownEither(schema))
  const decode = exceptPlain(schema, ParseResult.decodeUnknownEither(schema))
  return {
    encode: (value, envelope) => {
      try {
        const encoded = encode(value)
        return Either.isLeft(encoded) ? misfit(encoded.left) : write(encoded.right, envelope)
      } catch {
        return broken
      }
    },
    decode: (message) => {
      try {
        const opened = read(message)
        if (opened._tag === "Refusal") return opened
        const payload = decode(opened.payload)
        if (Either.isLeft(payload)) return misfit(payload.left)
        opened.payload = payload.right
        return opened
      } catch {
        return broken
      }
    }
  }
}

/** Channels are often made where they are used, with a schema that is there once. */
const forEachSchema = <B>(make: (schema: Schema.Schema<any, any>) => B): (schema: Schema.Schema<any, any>) => B => {
  const made = new WeakMap<Schema.Schema<any, any>, B>()
  return (schema) => {
    let one = made.get(schema)
    if (one === undefined) made.set(schema, one = make(schema))
    return one
  }
}

const notOurs = refusal("envelope", "it is not an envelope of this library")

const parse = (message: Redis.Message): unknown => {
  try {
    return JSON.parse(textOf(message))
  } catch {
    return undefined
  }
}

const isOptionalText = (u: unknown): u is string | undefined => u === undefined || isText(u)

const field = (name: string, text: string | undefined): string =>
  text === undefined ? "" : `,"${name}":${JSON.stringify(text)}`

/** `{"version":1,"id":…,"type":…,"source":…,"timestamp":…,"correlationId":…,"payload":…}` */
const makeEnvelope = (schema: Schema.Schema<any, any>, version: number): Codec<any> =>
  makeWith(
    schema,
    (payload, { correlationId, id, source, timestamp, type = tagOf(payload) }) => {
      let json: string | undefined
      try {
        json = JSON.stringify(payload)
      } catch {
        return refusal("payload", "what the schema makes of it is no JSON")
      }
      return `{"version":${version},"id":"${id}"${field("type", type)},"source":${source},"timestamp":${timestamp}` +
        `${field("correlationId", correlationId)}${json === undefined ? "" : `,"payload":${json}`}}`
    },
    (raw) => {
      const value = parse(raw)
      if (typeof value !== "object" || value === null) return notOurs
      const { correlationId, id, payload, source, timestamp, type, version: actual } = value as Record<string, unknown>
      if (
        typeof actual !== "number" || typeof timestamp !== "number" || !isText(id) || !isText(source) ||
        !isOptionalText(type) || !isOptionalText(correlationId)
      ) {
        return notOurs
      }
      if (actual !== version) return refusal("version", `it is of version ${actual}, and ${version} is read here`)
      const message: Message<unknown> = {
        _tag: "Message",
        channel: raw.channel,
        pattern: raw.pattern,
        payload,
        id,
        type: Option.fromNullable(type),
        source,
        timestamp,
        correlationId: Option.fromNullable(correlationId)
      }
      return message
    }
  )

const versionsOf = forEachSchema(() => new Map<number, Codec<any>>())

export const envelope = <A>(schema: Schema.Schema<A, any>, version: number): Codec<A> => {
  const versions = versionsOf(schema)
  let one = versions.get(version)
  if (one === undefined) versions.set(version, one = makeEnvelope(schema, version))
  return one
}

const without = ({ channel, pattern }: Redis.Message, payload: unknown): Opened => ({
  _tag: "Message",
  channel,
  pattern,
  payload
})

export const plain: <A>(schema: Schema.Schema<A, string>) => Codec<A> = forEachSchema((schema) =>
  makeWith(
    schema,
    (encoded) => isText(encoded) ? encoded : refusal("payload", "the schema does not make a text of it"),
    (raw) => {
      let text: string
      try {
        text = textOf(raw)
      } catch {
        return refusal("payload", "it is no UTF-8")
      }
      return without(raw, text)
    }
  )
)

/** Bytes that arrive belong to the connection, and may be seen by others. */
export const binary: <A>(schema: Schema.Schema<A, Uint8Array>) => Codec<A> = forEachSchema((schema) =>
  makeWith(
    schema,
    (encoded) => encoded instanceof Uint8Array ? encoded : refusal("payload", "the schema does not make bytes of it"),
    (raw) => without(raw, new Uint8Array(raw.bytes))
  )
)
