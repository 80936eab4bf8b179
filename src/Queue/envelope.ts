/**
 * What is kept of a job: a JSON that only clients read.
 */
import * as Cause from "effect/Cause"
import * as Either from "effect/Either"
import * as Option from "effect/Option"
import * as ParseResult from "effect/ParseResult"
import * as Redacted from "effect/Redacted"
import * as Schema from "effect/Schema"
import { inputError } from "../internal/input.js"
import { exceptPlain } from "../internal/plainValues.js"
import type { RedisInputError } from "../RedisError.js"
import type { Definition } from "./Definition.js"
import { PayloadTooLarge } from "./QueueError.js"

/** What a job has besides its payload, where it differs from what its queue says. */
export interface Head {
  /** Milliseconds, by the clock of whoever enqueued it. */
  readonly enqueuedAt: number
  /** For how many milliseconds it was not to start. */
  readonly delay?: number | undefined
  readonly attempts?: number | undefined
  readonly timeout?: number | undefined
  readonly traceparent?: string | undefined
  readonly group?: string | undefined
  /** The schedule that it is from, and the slot in milliseconds. */
  readonly schedule?: string | undefined
  readonly slot?: number | undefined
}

/** The payload of a job, when it is one of its queue. */
export interface Envelope<out A> extends Head {
  /** As it was written. */
  readonly encoded: unknown
  readonly payload: Either.Either<A, unknown>
}

/** UTF-8 has no more than three bytes for each unit of UTF-16. */
const sizeOf = (text: string, limit: number): number => text.length * 3 <= limit ? text.length : Buffer.byteLength(text)

const textOf = (encoded: unknown): string | undefined => {
  try {
    return JSON.stringify(encoded)
  } catch {
    return undefined
  }
}

/** Makes the values of a field of a definition into text. */
export const encoderOf = <A>(
  { maxPayload, name }: Definition<any, any>,
  field: "payload" | "result",
  schema: Schema.Schema<A, any>
) => {
  const encode = exceptPlain(schema, Schema.encodeEither(schema))
  // What is wrong may be a secret.
  const refused = (operation: string) =>
    Either.left(inputError(operation, field, String(schema.ast), Redacted.make("")))
  return (operation: string, value: A): Either.Either<string, RedisInputError | PayloadTooLarge> => {
    let encoded: Either.Either<unknown, unknown>
    try {
      encoded = encode(value)
    } catch {
      return refused(operation)
    }
    const text = Either.isRight(encoded) ? textOf(encoded.right) : undefined
    if (text === undefined) return refused(operation)
    const size = sizeOf(text, maxPayload)
    return size > maxPayload ? Either.left(new PayloadTooLarge({ queue: name, size, maxPayload })) : Either.right(text)
  }
}

/** Ids that are made here begin with the time, so that it need not be kept a second time. */
const TIME_DIGITS = 9

/** An id that nobody else has, sortable by time as far as clocks of different machines agree. */
export const makeId = (millis: number, process: string, n: number): string =>
  `${millis.toString(36).padStart(TIME_DIGITS, "0")}${process}${n.toString(36)}`

const timeOf = (id: string): number => Number.parseInt(id.slice(0, TIME_DIGITS), 36)

/** The time is left out when it is in the id. */
export const encode = (
  { attempts, delay, enqueuedAt, group, schedule, slot, timeout, traceparent }: {
    readonly [K in keyof Head]?: Head[K] | undefined
  },
  payload: string
): string => {
  let text = "{"
  if (enqueuedAt !== undefined) text += `"t":${enqueuedAt},`
  if (delay !== undefined) text += `"d":${delay},`
  if (attempts !== undefined) text += `"n":${attempts},`
  if (timeout !== undefined) text += `"o":${timeout},`
  if (traceparent !== undefined) text += `"c":${JSON.stringify(traceparent)},`
  if (group !== undefined) text += `"g":${JSON.stringify(group)},`
  if (schedule !== undefined) text += `"i":${JSON.stringify(schedule)},`
  if (slot !== undefined) text += `"s":${slot},`
  return `${text}"p":${payload}}`
}

const parse = (text: string): unknown => {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}

const isNumber = (value: unknown): value is number => typeof value === "number"

/** Reads the envelopes of a definition. It never fails: a payload that is none is a `Left`. */
export const decoder = <A>({ payload }: Definition<A, any>) => {
  const decode = exceptPlain(payload, Schema.decodeUnknownEither(payload))
  return (text: string, id: string): Envelope<A> => {
    const envelope = parse(text)
    if (typeof envelope !== "object" || envelope === null || !("p" in envelope)) {
      return { enqueuedAt: 0, encoded: undefined, payload: Either.left("an envelope") }
    }
    const { c, d, g, i, n, o, p, s, t }: {
      c?: unknown
      d?: unknown
      g?: unknown
      i?: unknown
      n?: unknown
      o?: unknown
      p: unknown
      s?: unknown
      t?: unknown
    } = envelope
    let decoded: Either.Either<A, unknown>
    try {
      decoded = decode(p)
    } catch (error) {
      decoded = Either.left(error)
    }
    return {
      enqueuedAt: isNumber(t) ? t : timeOf(id) || 0,
      delay: isNumber(d) ? d : undefined,
      attempts: isNumber(n) ? n : undefined,
      timeout: isNumber(o) ? o : undefined,
      traceparent: typeof c === "string" ? c : undefined,
      group: typeof g === "string" ? g : undefined,
      schedule: typeof i === "string" ? i : undefined,
      slot: isNumber(s) ? s : undefined,
      encoded: p,
      payload: decoded
    }
  }
}

/** How much of an envelope `waitingSince` needs. */
export const HEAD = 64

/** From when on a job waits, given the beginning of its envelope. */
export const waitingSince = (head: string, id: string): number => {
  const [, enqueuedAt, delay] = /^\{(?:"t":(\d+(?:\.\d+)?),)?(?:"d":(\d+),)?/.exec(head) ?? []
  return (enqueuedAt === undefined ? timeOf(id) || 0 : Number(enqueuedAt)) + Number(delay ?? 0)
}

/** Where a payload is wrong, without what is there. */
export const whyOf = (error: unknown): string => {
  if (!ParseResult.isParseError(error)) return "its envelope can't be read"
  const paths = ParseResult.ArrayFormatter.formatErrorSync(error).map(({ path }) => path.map(String).join("."))
  const named = paths.filter((path) => path !== "").join(", ")
  return `it does not fit the schema${named === "" ? "" : ` (${named})`}`
}

/**
 * Why a job became a dead letter.
 *
 * - `exhausted`: its last attempt failed, or its backoff has ended
 * - `unrecoverable`: its handler said that no further attempt makes sense, or `retryable` did
 * - `lease-expired`: the worker of its last attempt gave no sign of life any more
 * - `undecodable`: its payload is not what the queue takes
 * - `deadline`: it was not finished in time
 * - `cancelled`: somebody has cancelled it
 * - `no-handler`: nobody knows what to do with its type
 * - `child-failed`: a child of it did not complete
 *
 * @since 0.1.0
 * @category models
 */
export type DeadReason = typeof Reason.Type

export const Reason = Schema.Literal(
  "exhausted",
  "unrecoverable",
  "lease-expired",
  "undecodable",
  "deadline",
  "cancelled",
  "no-handler",
  "child-failed"
)

/** What is kept about a dead letter. When it became one is in the key of the dead letters. */
export const DeadInfo = Schema.parseJson(Schema.Struct({
  reason: Reason,
  /** How many attempts have failed. */
  attempts: Schema.Number,
  /** The last error in one line, and with all that is known about it. Both are cut when they are long. */
  error: Schema.optional(Schema.String),
  cause: Schema.optional(Schema.String)
}))

const MOST_ERROR = 1000
const MOST_CAUSE = 8000

const cut = (text: string, most: number): string => text.length <= most ? text : `${text.slice(0, most)}…`

const describe = (error: unknown): string => {
  try {
    if (typeof error === "object" && error !== null) {
      const { _tag, message, name }: { _tag?: unknown; message?: unknown; name?: unknown } = error
      const kind = typeof _tag === "string" ? _tag : typeof name === "string" ? name : undefined
      const text = typeof message === "string" && message !== "" ? message : undefined
      if (kind !== undefined) return text === undefined ? kind : `${kind}: ${text}`
      return text ?? JSON.stringify(error)
    }
    return String(error)
  } catch {
    return "an error that can't be shown"
  }
}

const pretty = (cause: Cause.Cause<unknown>): string => {
  try {
    return Cause.pretty(cause)
  } catch {
    return "a cause that can't be shown"
  }
}

/** The JSON about a dead letter. */
export const deadInfo = (reason: DeadReason, attempts: number, cause: Cause.Cause<unknown> | undefined): string =>
  JSON.stringify({
    reason,
    attempts,
    ...(cause !== undefined && {
      error: cut(describe(Option.getOrElse(Cause.failureOption(cause), () => Cause.squash(cause))), MOST_ERROR),
      cause: cut(pretty(cause), MOST_CAUSE)
    })
  })
