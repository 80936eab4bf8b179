/**
 * Streams of Redis: typed entries that are appended, kept, and read as often as somebody wants.
 *
 * For entries that are to be handled once each, by many workers, see `ConsumerGroup`.
 *
 * @since 0.1.0
 */
import * as Chunk from "effect/Chunk"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import type * as Schema from "effect/Schema"
import * as EffectStream from "effect/Stream"
import { checkCount, checkOffset } from "../internal/commands/args.js"
import { checkKey, inputError, positiveMillis } from "../internal/input.js"
import { mayPass } from "../internal/mayPass.js"
import { reading } from "../internal/retries.js"
import { hashTag } from "../internal/slot.js"
import { withSpan } from "../internal/telemetry.js"
import { type Command, type RedisArg, RedisClient, type Reply } from "../RedisClient.js"
import type { StreamConsumerInfo, StreamGroupInfo } from "../RedisCommands.js"
import { RedisDecodeError, type RedisError, RedisInputError } from "../RedisError.js"
import { layer as testServer, type RedisTestServer } from "../RedisTestServer.js"
import * as codec from "./codec.js"
import * as ids from "./ids.js"
import * as replies from "./replies.js"
import * as scripts from "./scripts.js"
import { fieldsOf as traceFieldsOf } from "./trace.js"
import { layer as wakerLayer, make as makeWaker, wait, type Waiting, Waker } from "./Waker.js"

// ---------------------------------------------------------------------------------------------------------------------
// Models
// ---------------------------------------------------------------------------------------------------------------------

/**
 * A stream: its name, and what its entries hold.
 *
 * @since 0.1.0
 * @category models
 */
export interface Definition<in out A> {
  readonly name: string
  /** The key in Redis, without the prefix of the client. */
  readonly key: string
  /** How many entries are kept, about. All of them when it is left out. */
  readonly maxLength: number | undefined
  /** @internal */
  readonly codec: codec.Codec<A>
}

/**
 * An entry that is what its stream says.
 *
 * @since 0.1.0
 * @category models
 */
export interface Entry<out A> {
  readonly _tag: "Entry"
  readonly id: string
  /** The first half of the id: when it was appended, in milliseconds of the server's clock, unless somebody chose the id. */
  readonly timestamp: number
  readonly value: A
}

/**
 * An entry that is not what its stream says.
 *
 * @since 0.1.0
 * @category models
 */
export interface Undecodable {
  readonly _tag: "Undecodable"
  readonly id: string
  readonly timestamp: number
  /** What does not fit, without anything of what is in the entry. */
  readonly detail: string
  /** The whole of it. A name can occur twice. */
  readonly fields: ReadonlyArray<readonly [name: string, value: string]>
}

/**
 * What is read from a stream. What can't be decoded is there too, so that nothing is passed over unseen.
 *
 * @since 0.1.0
 * @category models
 */
export type Element<A> = Entry<A> | Undecodable

/**
 * One end of a range: an id, or milliseconds, for all entries of that time. It belongs to the range unless it is
 * `exclusive`.
 *
 * @since 0.1.0
 * @category models
 */
export type Bound = string | number | { readonly exclusive: string | number }

/**
 * @since 0.1.0
 * @category models
 */
export interface AppendOptions {
  /**
   * An id that is greater than all before it; `"1700000000000-*"` leaves its second half to the server. The server makes
   * one of its clock when it is left out.
   */
  readonly id?: string | undefined
  /** What goes from the other end, in place of the `maxLength` of the stream. */
  readonly trim?: TrimTo | undefined
}

/**
 * What is kept: so many entries, or those from an id on. About so many, which is much cheaper, unless it is `exact`.
 *
 * @since 0.1.0
 * @category models
 */
export type TrimTo =
  & ({ readonly maxLength: number } | { readonly minId: string })
  & { readonly exact?: boolean | undefined }

/**
 * @since 0.1.0
 * @category models
 */
export type TrimOptions =
  & (TrimTo | { readonly olderThan: Duration.DurationInput; readonly exact?: boolean | undefined })
  & {
    /** Whether entries go that a group needs still. */
    readonly force?: boolean | undefined
  }

/**
 * @since 0.1.0
 * @category models
 */
export interface Trimmed {
  /** How many entries are gone. */
  readonly removed: number
  /** The group for whose sake entries stay that would have gone. */
  readonly heldBy: Option.Option<string>
}

/**
 * @since 0.1.0
 * @category models
 */
export interface RangeOptions {
  /** The first; the oldest entry unless given. */
  readonly from?: Bound | undefined
  /** The last; the newest entry unless given. */
  readonly to?: Bound | undefined
  /** How many at most; all unless given. */
  readonly count?: number | undefined
}

/**
 * @since 0.1.0
 * @category models
 */
export interface ReadOptions {
  /** What was read last; from the beginning unless given. `"$"` is the last entry that there is. */
  readonly after?: string | undefined
  /** How many at most, 100 by default. */
  readonly count?: number | undefined
  /** How long to wait when there is nothing. */
  readonly block?: Duration.DurationInput | undefined
}

/**
 * A place in a stream, for reading several at once.
 *
 * @since 0.1.0
 * @category models
 */
export interface Position<in out A> {
  readonly stream: Definition<A>
  readonly after: string
}

type ValueOf<P> = P extends Position<infer A> ? A : never

/**
 * @since 0.1.0
 * @category models
 */
export type Positions = Readonly<Record<string, Position<any>>>

/**
 * The elements of each of several streams.
 *
 * @since 0.1.0
 * @category models
 */
export type Elements<P extends Positions> = { readonly [K in keyof P]: ReadonlyArray<Element<ValueOf<P[K]>>> }

/**
 * An element, and which of several streams it is from.
 *
 * @since 0.1.0
 * @category models
 */
export type ElementOf<P extends Positions> = {
  readonly [K in keyof P & string]: readonly [stream: K, element: Element<ValueOf<P[K]>>]
}[keyof P & string]

interface Common {
  readonly length: number
  /** The last id that was given, also when that entry is gone. */
  readonly lastId: string
  readonly maxDeletedId: string
  /** How many were ever appended. */
  readonly entriesAdded: number
}

/**
 * @since 0.1.0
 * @category models
 */
export interface StreamInfo<out A> extends Common {
  readonly groups: number
  readonly firstEntry: Option.Option<Element<A>>
  readonly lastEntry: Option.Option<Element<A>>
}

/**
 * @since 0.1.0
 * @category models
 */
export type GroupInfo = StreamGroupInfo

/**
 * @since 0.1.0
 * @category models
 */
export type ConsumerInfo = StreamConsumerInfo

/**
 * @since 0.1.0
 * @category models
 */
export interface FullGroup extends Omit<GroupInfo, "consumers"> {
  readonly pendingEntries: ReadonlyArray<{
    readonly id: string
    readonly consumer: string
    /** In milliseconds of the server's clock. */
    readonly deliveredAt: number
    readonly deliveries: number
  }>
  readonly consumers: ReadonlyArray<{
    readonly name: string
    readonly pending: number
    /** In milliseconds of the server's clock. */
    readonly seenAt: number
  }>
}

/**
 * @since 0.1.0
 * @category models
 */
export interface FullInfo<out A> extends Common {
  readonly entries: ReadonlyArray<Element<A>>
  readonly groups: ReadonlyArray<FullGroup>
}

/**
 * @since 0.1.0
 * @category models
 */
export interface TailOptions {
  /** What was read last. `"$"`, the default, is the last entry that there is when the stream begins. */
  readonly after?: string | undefined
  /** How many are read at a time, 100 by default. */
  readonly count?: number | undefined
}

/**
 * @since 0.1.0
 * @category models
 */
export interface Service {
  /** Appends a value and returns the id of the entry. See `append`. */
  readonly append: <A>(stream: Definition<A>, value: A, options?: AppendOptions) => Effect.Effect<string, RedisError>
  /** The same, but only when there is such a stream. */
  readonly appendIfExists: <A>(
    stream: Definition<A>,
    value: A,
    options?: AppendOptions
  ) => Effect.Effect<Option.Option<string>, RedisError>
  /** Appends values one after the other, with nothing of others between them. See `appendAll`. */
  readonly appendAll: <A>(
    stream: Definition<A>,
    values: ReadonlyArray<A>,
    options?: Omit<AppendOptions, "id">
  ) => Effect.Effect<ReadonlyArray<string>, RedisError>
  /** Entries after an id, oldest first. */
  readonly read: <A>(
    stream: Definition<A>,
    options?: ReadOptions
  ) => Effect.Effect<ReadonlyArray<Element<A>>, RedisError>
  /** Entries of several streams, from one moment. See `readMany`. */
  readonly readMany: <const P extends Positions>(
    positions: P,
    options?: { readonly count?: number | undefined }
  ) => Effect.Effect<Elements<P>, RedisError>
  /** Entries between two ids, oldest first. */
  readonly range: <A>(
    stream: Definition<A>,
    options?: RangeOptions
  ) => Effect.Effect<ReadonlyArray<Element<A>>, RedisError>
  /** The same, newest first. */
  readonly rangeReverse: <A>(
    stream: Definition<A>,
    options?: RangeOptions
  ) => Effect.Effect<ReadonlyArray<Element<A>>, RedisError>
  /** One entry. */
  readonly get: <A>(stream: Definition<A>, id: string) => Effect.Effect<Option.Option<Element<A>>, RedisError>
  /** All entries between two ids, oldest first, read page by page; `count` is the size of a page. */
  readonly entries: <A>(stream: Definition<A>, options?: RangeOptions) => EffectStream.Stream<Element<A>, RedisError>
  /** What is appended from now on, or after an id, without an end. See `tail`. */
  readonly tail: <A>(stream: Definition<A>, options?: TailOptions) => EffectStream.Stream<Element<A>, RedisError>
  /** Several of them in one. See `tailMany`. */
  readonly tailMany: <const P extends Positions>(
    positions: P,
    options?: { readonly count?: number | undefined }
  ) => EffectStream.Stream<ElementOf<P>, RedisError>
  /** Removes the oldest entries. See `trim`. */
  readonly trim: <A>(stream: Definition<A>, options: TrimOptions) => Effect.Effect<Trimmed, RedisError>
  /** Removes entries, and returns how many there were. */
  readonly remove: <A>(stream: Definition<A>, ...ids: ReadonlyArray<string>) => Effect.Effect<number, RedisError>
  readonly length: <A>(stream: Definition<A>) => Effect.Effect<number, RedisError>
  /** The last id that was given, `0-0` where there is no stream: whoever reads after it misses nothing. */
  readonly lastId: <A>(stream: Definition<A>) => Effect.Effect<string, RedisError>
  /** `None` where there is no stream. */
  readonly info: <A>(stream: Definition<A>) => Effect.Effect<Option.Option<StreamInfo<A>>, RedisError>
  /** With entries, pending entries and consumers, `count` of each (10 by default). `None` where there is no stream. */
  readonly infoFull: <A>(
    stream: Definition<A>,
    options?: { readonly count?: number | undefined }
  ) => Effect.Effect<Option.Option<FullInfo<A>>, RedisError>
  /** The groups of a stream; none where there is no stream. */
  readonly groups: <A>(stream: Definition<A>) => Effect.Effect<ReadonlyArray<GroupInfo>, RedisError>
}

/**
 * @since 0.1.0
 * @category tags
 */
export class Stream extends Context.Tag("effect-redis-kit/Stream")<Stream, Service>() {}

// ---------------------------------------------------------------------------------------------------------------------
// Constructors
// ---------------------------------------------------------------------------------------------------------------------

interface Options {
  readonly name: string
  readonly key?: string | undefined
  readonly maxLength?: number | undefined
}

/**
 * Describes a stream.
 *
 * - `schema`: what an entry holds. It is written as JSON into one field, so it may be anything
 * - `fields`: the same as fields of their own, for streams that other programs write or read; all of them must encode to
 *   texts
 * - `key`: the key in Redis, `stream:{name}` unless given. Streams with a common `{hash tag}` are on one node of a Cluster
 * - `maxLength`: about how many entries are kept, the newest of them. What goes is gone for groups as well
 *
 * The schema must neither wait nor need services.
 *
 * @example
 * ```ts
 * import { Schema } from "effect"
 * import { Stream } from "effect-redis-kit"
 *
 * const Orders = Stream.define({
 *   name: "orders",
 *   schema: Schema.Struct({ id: Schema.String, cents: Schema.Int, at: Schema.Date }),
 *   maxLength: 1_000_000
 * })
 *
 * // One that a program in another language writes.
 * const Sensors = Stream.define({
 *   name: "sensors",
 *   key: "sensor-data",
 *   fields: Schema.Struct({ sensor: Schema.String, celsius: Schema.NumberFromString })
 * })
 * ```
 *
 * @since 0.1.0
 * @category constructors
 */
export const define: {
  <A, I>(options: Options & { readonly schema: Schema.Schema<A, I> }): Definition<A>
  <A, I extends { readonly [K in keyof I]: string | undefined }>(
    options: Options & { readonly fields: Schema.Schema<A, I> }
  ): Definition<A>
} = <A>(
  options: Options & ({ readonly schema: Schema.Schema<A, any> } | { readonly fields: Schema.Schema<A, any> })
): Definition<A> => ({
  name: options.name,
  key: options.key ?? `stream:{${options.name}}`,
  maxLength: options.maxLength,
  codec: "schema" in options ? codec.json(options.schema) : codec.plain(options.fields)
})

/**
 * A place in a stream: after an id, at the beginning unless given, or at `"$"`, the end.
 *
 * @since 0.1.0
 * @category constructors
 */
export const position = <A>(stream: Definition<A>, after: string = ids.ZERO): Position<A> => ({ stream, after })

const LAST = "$"

const PAGE = 100

/** @internal */
export const checkStream = (
  operation: string,
  { key, maxLength, name }: Definition<any>
): RedisInputError | undefined =>
  checkKey(operation, name, "name") ??
    checkKey(operation, key) ??
    // The keys beside it must be in its slot.
    (hashTag(key) === key && /[{}]/.test(key)
      ? inputError(operation, "key", "a text without braces, or with a {hash tag}", key)
      : undefined) ??
    (maxLength === undefined ? undefined : checkCount(operation, "maxLength", maxLength))

/** @internal */
export const attributes = (stream: Definition<any>) => () => ({ "effect_redis.stream.name": stream.name })

const checkAfter = (operation: string, after: string): RedisInputError | undefined =>
  after === LAST ? undefined : ids.checkId(operation, "after", after)

const checkNewId = (operation: string, id: string): RedisInputError | undefined =>
  /^\d{1,20}-\*$/.test(id) ? undefined : ids.checkId(operation, "id", id)

const trimArgs = (operation: string, to: TrimTo): ReadonlyArray<string> | RedisInputError => {
  const how = to.exact === true ? "=" : "~"
  return "minId" in to
    ? ids.checkId(operation, "minId", to.minId) ?? ["MINID", how, to.minId]
    : checkOffset(operation, "maxLength", to.maxLength) ?? ["MAXLEN", how, String(to.maxLength)]
}

const isBad = (value: unknown): value is RedisInputError => value instanceof RedisInputError

/** What comes after the key, without the fields. */
const appendArgs = (
  operation: string,
  stream: Definition<any>,
  options: AppendOptions | undefined,
  create: boolean
): ReadonlyArray<string> | RedisInputError => {
  const bad = checkStream(operation, stream) ??
    (options?.id === undefined ? undefined : checkNewId(operation, options.id))
  if (bad !== undefined) return bad
  const { maxLength } = stream
  const to = options?.trim ?? (maxLength === undefined ? undefined : { maxLength })
  const trim = to === undefined ? [] : trimArgs(operation, to)
  return isBad(trim) ? trim : [...create ? [] : ["NOMKSTREAM"], ...trim, options?.id ?? "*"]
}

const encode = <A>(
  operation: string,
  stream: Definition<A>,
  value: A
): Either.Either<codec.Fields, RedisInputError> =>
  Either.mapLeft(
    stream.codec.encode(value),
    (detail) => new RedisInputError({ operation, field: "value", expected: "what the stream holds", actual: detail })
  )

/** @internal */
export const decodeFailure = (command: string, expected: string): RedisDecodeError =>
  new RedisDecodeError({ command, detail: `expected ${expected}` })

const textOf = (command: string) => (reply: Reply): Effect.Effect<string, RedisError> =>
  typeof reply === "string" ? Effect.succeed(reply) : Effect.fail(decodeFailure(command, "a text"))

const isMissing = (error: RedisError): boolean =>
  error._tag === "RedisReplyError" && error.reply.startsWith("ERR no such key")

/** @internal */
export const makeShared: Effect.Effect<Service, never, RedisClient | Waker> = Effect.gen(function*() {
  const client = yield* RedisClient
  const waker = yield* Waker

  const look = (command: string, ...args: ReadonlyArray<RedisArg>) => reading(client.send(command, ...args))

  const elements =
    <A>(command: string, stream: Definition<A>) =>
    (reply: unknown): Effect.Effect<ReadonlyArray<Element<A>>, RedisError> => {
      const raw = codec.rawEntries(reply)
      return raw === undefined
        ? Effect.fail(decodeFailure(command, "entries"))
        : Effect.succeed(raw.map((entry) => codec.element(stream.codec, entry)))
    }

  const add = <A>(
    operation: string,
    name: string,
    stream: Definition<A>,
    value: A,
    options: AppendOptions | undefined,
    create: boolean
  ): Effect.Effect<Reply, RedisError> => {
    const args = appendArgs(operation, stream, options, create)
    if (isBad(args)) return Effect.fail(args)
    const fields = encode(operation, stream, value)
    if (Either.isLeft(fields)) return Effect.fail(fields.left)
    const key = client.key(stream.key)
    return withSpan(
      stream.codec.traced
        ? Effect.withFiberRuntime<Reply, RedisError>((fiber) =>
          client.send("XADD", key, ...args, ...fields.right, ...traceFieldsOf(fiber))
        )
        : client.send("XADD", key, ...args, ...fields.right),
      name,
      attributes(stream)
    )
  }

  const appendAll: Service["appendAll"] = (stream, values, options) => {
    const operation = "Stream.appendAll"
    const args = appendArgs(operation, stream, options, true)
    if (isBad(args)) return Effect.fail(args)
    const key = client.key(stream.key)
    const head = [key, ...args]
    const fields: Array<codec.Fields> = []
    for (const value of values) {
      const encoded = encode(operation, stream, value)
      if (Either.isLeft(encoded)) return Effect.fail(encoded.left)
      fields.push(encoded.right)
    }
    if (fields.length === 0) return Effect.succeed([])
    return withSpan(
      Effect.withFiberRuntime<ReadonlyArray<string>, RedisError>((fiber) => {
        const trace = stream.codec.traced ? traceFieldsOf(fiber) : []
        const commands: Array<Command> = []
        for (const each of fields) commands.push(["XADD", ...head, ...each, ...trace])
        return Effect.flatMap(
          client.transaction(commands),
          (results): Effect.Effect<ReadonlyArray<string>, RedisError> => {
            const out: Array<string> = []
            for (const result of results) {
              if (Either.isLeft(result)) return Effect.fail(result.left)
              if (typeof result.right !== "string") return Effect.fail(decodeFailure("XADD", "a text"))
              out.push(result.right)
            }
            return Effect.succeed(out)
          }
        )
      }),
      "stream.appendAll",
      attributes(stream)
    )
  }

  const lastId = (stream: Definition<any>) => client.eval(scripts.lastId, stream.key)

  const resolve = (stream: Definition<any>, after: string): Effect.Effect<string, RedisError> =>
    after === LAST ? lastId(stream) : Effect.succeed(after)

  const page = <A>(
    stream: Definition<A>,
    after: string,
    count: number
  ): Effect.Effect<ReadonlyArray<Element<A>>, RedisError> =>
    // Reading after an id is the range behind it, and has a simpler reply than XREAD.
    Effect.flatMap(
      look("XRANGE", client.key(stream.key), `(${after}`, "+", "COUNT", count),
      elements("XRANGE", stream)
    )

  const ranged = <A>(
    name: "range" | "rangeReverse",
    stream: Definition<A>,
    options: RangeOptions | undefined
  ): Effect.Effect<ReadonlyArray<Element<A>>, RedisError> => {
    const operation = `Stream.${name}`
    const from = ids.bound(operation, "from", options?.from, "-")
    const to = ids.bound(operation, "to", options?.to, "+")
    const bad = checkStream(operation, stream) ??
      (options?.count === undefined ? undefined : checkCount(operation, "count", options.count))
    if (bad !== undefined) return Effect.fail(bad)
    if (Either.isLeft(from)) return Effect.fail(from.left)
    if (Either.isLeft(to)) return Effect.fail(to.left)
    const command = name === "range" ? "XRANGE" : "XREVRANGE"
    const bounds = name === "range" ? [from.right, to.right] : [to.right, from.right]
    const limit = options?.count === undefined ? [] : ["COUNT", options.count]
    return withSpan(
      Effect.flatMap(
        look(command, client.key(stream.key), ...bounds, ...limit),
        elements(command, stream)
      ),
      `stream.${name}`,
      attributes(stream)
    )
  }

  const checkRead = (
    operation: string,
    stream: Definition<any>,
    after: string,
    count: number
  ): RedisInputError | undefined =>
    checkStream(operation, stream) ?? checkAfter(operation, after) ?? checkCount(operation, "count", count)

  /** Asks until there is something. */
  const awaited = <A>(
    stream: Definition<A>,
    after: string,
    count: number,
    waiting: Waiting
  ): Effect.Effect<ReadonlyArray<Element<A>>, RedisError> =>
    Effect.flatMap(
      page(stream, after, count),
      (entries) =>
        entries.length > 0
          ? Effect.succeed(entries)
          : Effect.zipRight(wait(waiting, after), awaited(stream, after, count, waiting))
    )

  const read: Service["read"] = (stream, { after = ids.ZERO, block, count = PAGE } = {}) => {
    const bad = checkRead("Stream.read", stream, after, count)
    if (bad !== undefined) return Effect.fail(bad)
    if (block === undefined) {
      return after === LAST
        ? Effect.succeed([])
        : withSpan(page(stream, after, count), "stream.read", attributes(stream))
    }
    const millis = positiveMillis("Stream.read", "block", block)
    if (Either.isLeft(millis)) return Effect.fail(millis.left)
    return withSpan(
      Effect.flatMap(resolve(stream, after), (from) =>
        waker.use(stream.key).pipe(
          Effect.flatMap((waiting) => awaited(stream, from, count, waiting)),
          Effect.timeoutTo({
            duration: Duration.millis(millis.right),
            onTimeout: () => [],
            onSuccess: (entries) => entries
          }),
          Effect.scoped
        )),
      "stream.read",
      attributes(stream)
    )
  }

  const PAUSE = Duration.millis(100)
  const LONGEST_PAUSE = 2000

  /** What fails and may pass is tried again, for as long as somebody listens. */
  const patient = <A>(stream: Definition<any>, effect: Effect.Effect<A, RedisError>): Effect.Effect<A, RedisError> => {
    const again = (millis: number): Effect.Effect<A, RedisError> =>
      Effect.catchAll(effect, (error) =>
        mayPass(error)
          ? Effect.zipRight(
            Effect.sleep(Duration.millis(millis)),
            again(Math.min(LONGEST_PAUSE, 2 * millis))
          )
          : Effect.fail(error))
    return Effect.catchAll(effect, (error) =>
      mayPass(error)
        ? Effect.logWarning(`the stream "${stream.name}" can't be read at the moment`, error).pipe(
          Effect.zipRight(Effect.sleep(PAUSE)),
          Effect.zipRight(again(2 * Duration.toMillis(PAUSE)))
        )
        : Effect.fail(error))
  }

  const tail: Service["tail"] = (stream, { after = LAST, count = PAGE } = {}) => {
    const bad = checkRead("Stream.tail", stream, after, count)
    if (bad !== undefined) return EffectStream.fail(bad)
    return EffectStream.unwrapScoped(
      Effect.map(
        Effect.zip(patient(stream, resolve(stream, after)), waker.use(stream.key)),
        ([from, waiting]) =>
          EffectStream.unfoldChunkEffect(
            from,
            (from) =>
              Effect.map(patient(stream, awaited(stream, from, count, waiting)), (entries) =>
                Option.some([Chunk.unsafeFromArray(entries), entries[entries.length - 1]!.id] as const))
          )
      )
    )
  }

  const checkPositions = (operation: string, positions: Positions, count: number): RedisInputError | undefined => {
    let slot: number | undefined
    let first: string | undefined
    const seen = new Set<string>()
    for (const { after, stream } of Object.values(positions)) {
      const bad = checkRead(operation, stream, after, count)
      if (bad !== undefined) return bad
      if (seen.has(stream.key)) return inputError(operation, "positions", "each stream once", stream.name)
      seen.add(stream.key)
      if (client.mode !== "cluster") continue
      first ??= stream.key
      if ((slot ??= client.slot(stream.key)) !== client.slot(stream.key)) {
        return inputError(operation, "positions", `streams with the hash tag of "${first}"`, stream.key)
      }
    }
    return seen.size === 0 ? inputError(operation, "positions", "at least one", "none") : undefined
  }

  const readMany: Service["readMany"] = <const P extends Positions>(
    positions: P,
    { count = PAGE }: { readonly count?: number | undefined } = {}
  ) => {
    const bad = checkPositions("Stream.readMany", positions, count)
    if (bad !== undefined) return Effect.fail(bad)
    const all = Object.entries(positions)
    const keys = all.map(([, { stream }]) => client.key(stream.key))
    return withSpan(
      Effect.flatMap(
        look("XREAD", "COUNT", count, "STREAMS", ...keys, ...all.map(([, { after }]) => after)),
        (reply) => {
          const found = new Map<unknown, unknown>(
            Array.isArray(reply)
              ? reply.map((each) => Array.isArray(each) ? [each[0], each[1]] : [each, undefined])
              : []
          )
          const out: Array<readonly [string, ReadonlyArray<Element<any>>]> = []
          for (let i = 0; i < all.length; i++) {
            const [name, { stream }] = all[i]!
            const raw = codec.rawEntries(found.get(keys[i]) ?? null)
            if (raw === undefined) return Effect.fail(decodeFailure("XREAD", "streams with entries"))
            out.push([name, raw.map((entry) => codec.element(stream.codec, entry))])
          }
          return Effect.succeed(Object.fromEntries(out) as Elements<P>)
        }
      ),
      "stream.readMany",
      () => ({ "effect_redis.stream.name": all.map(([, { stream }]) => stream.name).join(",") })
    )
  }

  const tailMany: Service["tailMany"] = <const P extends Positions>(
    positions: P,
    options?: { readonly count?: number | undefined }
  ) => {
    const all = Object.entries(positions)
    return EffectStream.mergeAll(
      all.map(([name, { after, stream }]) =>
        EffectStream.map(tail(stream, { after, count: options?.count }), (element) => [name, element] as ElementOf<P>)
      ),
      { concurrency: "unbounded" }
    )
  }

  const trim: Service["trim"] = (stream, options) => {
    const operation = "Stream.trim"
    const bad = checkStream(operation, stream)
    if (bad !== undefined) return Effect.fail(bad)
    const exact = options.exact === true
    let trimming: scripts.Trimming
    if ("olderThan" in options) {
      const millis = positiveMillis(operation, "olderThan", options.olderThan)
      if (Either.isLeft(millis)) return Effect.fail(millis.left)
      trimming = { by: "age", to: millis.right, exact }
    } else {
      const args = trimArgs(operation, options)
      if (isBad(args)) return Effect.fail(args)
      trimming = { by: "minId" in options ? "id" : "length", to: args[2]!, exact }
    }
    const force = options.force === true
    const step = (removed: number): Effect.Effect<Trimmed, RedisError> =>
      Effect.flatMap(client.eval(scripts.trim, stream.key, trimming, force), (result) =>
        result.more
          ? step(removed + result.removed)
          : Effect.succeed({
            removed: removed + result.removed,
            heldBy: Option.fromNullable(result.heldBy)
          }))
    return withSpan(step(0), "stream.trim", attributes(stream))
  }

  const optional = <A>(effect: Effect.Effect<A, RedisError>): Effect.Effect<Option.Option<A>, RedisError> =>
    Effect.catchIf(Effect.asSome(effect), isMissing, () => Effect.succeedNone)

  const decoded =
    <A>(command: string, expected: string, read: (reply: unknown) => A | undefined) =>
    (reply: Reply): Effect.Effect<A, RedisError> => {
      const value = read(reply)
      return value === undefined ? Effect.fail(decodeFailure(command, expected)) : Effect.succeed(value)
    }

  const simple = <A>(
    name: string,
    stream: Definition<any>,
    effect: Effect.Effect<A, RedisError>
  ): Effect.Effect<A, RedisError> => {
    const bad = checkStream(`Stream.${name}`, stream)
    return bad === undefined ? withSpan(effect, `stream.${name}`, attributes(stream)) : Effect.fail(bad)
  }

  return {
    append: (stream, value, options) =>
      Effect.flatMap(add("Stream.append", "stream.append", stream, value, options, true), textOf("XADD")),
    appendIfExists: (stream, value, options) =>
      Effect.flatMap(
        add("Stream.appendIfExists", "stream.appendIfExists", stream, value, options, false),
        (reply) => reply === null ? Effect.succeedNone : Effect.asSome(textOf("XADD")(reply))
      ),
    appendAll,
    read,
    readMany,
    range: (stream, options) => ranged("range", stream, options),
    rangeReverse: (stream, options) => ranged("rangeReverse", stream, options),
    get: (stream, id) =>
      Effect.map(ranged("range", stream, { from: id, to: id, count: 1 }), ([first]) => Option.fromNullable(first)),
    entries: (stream, options) =>
      EffectStream.paginateChunkEffect(options?.from, (from) =>
        Effect.map(
          ranged("range", stream, { from, to: options?.to, count: options?.count ?? PAGE }),
          (found) => [
            Chunk.unsafeFromArray(found),
            found.length < (options?.count ?? PAGE)
              ? Option.none()
              : Option.some<Bound>({ exclusive: found[found.length - 1]!.id })
          ]
        )),
    tail,
    tailMany,
    trim,
    remove: (stream, ...given) => {
      for (const id of given) {
        const bad = ids.checkId("Stream.remove", "ids", id)
        if (bad !== undefined) return Effect.fail(bad)
      }
      return given.length === 0
        ? Effect.succeed(0)
        : simple(
          "remove",
          stream,
          client.xdel(stream.key, ...given)
        )
    },
    length: (stream) => simple("length", stream, client.xlen(stream.key)),
    lastId: (stream) => simple("lastId", stream, lastId(stream)),
    info: (stream) =>
      simple(
        "info",
        stream,
        optional(Effect.flatMap(
          look("XINFO", "STREAM", client.key(stream.key)),
          decoded("XINFO", "what is known of a stream", replies.streamInfo(stream.codec))
        ))
      ),
    infoFull: (stream, { count = 10 } = {}) => {
      const bad = checkCount("Stream.infoFull", "count", count)
      return bad !== undefined ? Effect.fail(bad) : simple(
        "infoFull",
        stream,
        optional(Effect.flatMap(
          look("XINFO", "STREAM", client.key(stream.key), "FULL", "COUNT", count),
          decoded("XINFO", "what is known of a stream", replies.fullInfo(stream.codec))
        ))
      )
    },
    groups: (stream) =>
      simple(
        "groups",
        stream,
        Effect.map(
          optional(client.xinfoGroups(stream.key)),
          Option.getOrElse((): ReadonlyArray<GroupInfo> => [])
        )
      )
  }
})

/**
 * Streams over the client of the environment. The connection on which this process waits for entries belongs to the
 * scope.
 *
 * @since 0.1.0
 * @category constructors
 */
export const make = Effect.flatMap(makeWaker, (waker) => Effect.provideService(makeShared, Waker, waker))

// ---------------------------------------------------------------------------------------------------------------------
// Layers
// ---------------------------------------------------------------------------------------------------------------------

/**
 * @since 0.1.0
 * @category layers
 */
export const layer: Layer.Layer<Stream, never, RedisClient> = Layer.provide(
  Layer.effect(Stream, makeShared),
  wakerLayer
)

/**
 * Streams on a server in memory, with the server and its client beside it.
 *
 * @since 0.1.0
 * @category layers
 */
export const layerTest: Layer.Layer<Stream | RedisClient | RedisTestServer> = Layer.provideMerge(layer, testServer)

// ---------------------------------------------------------------------------------------------------------------------
// Accessors
// ---------------------------------------------------------------------------------------------------------------------

/**
 * Appends a value, and returns the id of the entry. With a `maxLength` the oldest entries go in the same step, about as
 * many as are too many.
 *
 * It is never sent twice: when the reply is lost it fails with `RedisOutcomeUnknownError`, and the entry may be there.
 *
 * @example
 * ```ts
 * import { Effect, Schema } from "effect"
 * import { Stream } from "effect-redis-kit"
 *
 * const Clicks = Stream.define({ name: "clicks", schema: Schema.Struct({ page: Schema.String }), maxLength: 10_000 })
 *
 * const program = Effect.gen(function*() {
 *   const id = yield* Stream.append(Clicks, { page: "/" })
 *   yield* Effect.log(`appended as ${id}`)
 * })
 * ```
 *
 * @since 0.1.0
 * @category accessors
 */
export const append = <A>(
  stream: Definition<A>,
  value: A,
  options?: AppendOptions
): Effect.Effect<string, RedisError, Stream> =>
  Effect.flatMap(Stream, (service) => service.append(stream, value, options))

/**
 * Appends a value if there is such a stream already.
 *
 * @since 0.1.0
 * @category accessors
 */
export const appendIfExists = <A>(
  stream: Definition<A>,
  value: A,
  options?: AppendOptions
): Effect.Effect<Option.Option<string>, RedisError, Stream> =>
  Effect.flatMap(Stream, (service) => service.appendIfExists(stream, value, options))

/**
 * Appends values in one transaction: in their order, with nothing of others between them, and readers see all or none.
 *
 * @since 0.1.0
 * @category accessors
 */
export const appendAll = <A>(
  stream: Definition<A>,
  values: ReadonlyArray<A>,
  options?: Omit<AppendOptions, "id">
): Effect.Effect<ReadonlyArray<string>, RedisError, Stream> =>
  Effect.flatMap(Stream, (service) => service.appendAll(stream, values, options))

/**
 * Entries after an id, oldest first. With `block` it waits for some when there are none.
 *
 * @since 0.1.0
 * @category accessors
 */
export const read = <A>(
  stream: Definition<A>,
  options?: ReadOptions
): Effect.Effect<ReadonlyArray<Element<A>>, RedisError, Stream> =>
  Effect.flatMap(Stream, (service) => service.read(stream, options))

/**
 * Entries of several streams in one step. On a Cluster they must have a common `{hash tag}`; else it fails with a
 * `RedisInputError`, and nothing is sent.
 *
 * @example
 * ```ts
 * import { Effect, Schema } from "effect"
 * import { Stream } from "effect-redis-kit"
 *
 * const Paid = Stream.define({ name: "paid", key: "{shop}:paid", schema: Schema.String })
 * const Sent = Stream.define({ name: "sent", key: "{shop}:sent", schema: Schema.Number })
 *
 * const program = Effect.gen(function*() {
 *   const { paid, sent } = yield* Stream.readMany({ paid: Stream.position(Paid), sent: Stream.position(Sent, "17-0") })
 *   yield* Effect.log(`${paid.length} paid, ${sent.length} sent`)
 * })
 * ```
 *
 * @since 0.1.0
 * @category accessors
 */
export const readMany = <const P extends Positions>(
  positions: P,
  options?: { readonly count?: number | undefined }
): Effect.Effect<Elements<P>, RedisError, Stream> =>
  Effect.flatMap(Stream, (service) => service.readMany(positions, options))

/**
 * Entries between two ids, oldest first.
 *
 * @since 0.1.0
 * @category accessors
 */
export const range = <A>(
  stream: Definition<A>,
  options?: RangeOptions
): Effect.Effect<ReadonlyArray<Element<A>>, RedisError, Stream> =>
  Effect.flatMap(Stream, (service) => service.range(stream, options))

/**
 * Entries between two ids, newest first.
 *
 * @since 0.1.0
 * @category accessors
 */
export const rangeReverse = <A>(
  stream: Definition<A>,
  options?: RangeOptions
): Effect.Effect<ReadonlyArray<Element<A>>, RedisError, Stream> =>
  Effect.flatMap(Stream, (service) => service.rangeReverse(stream, options))

/**
 * One entry.
 *
 * @since 0.1.0
 * @category accessors
 */
export const get = <A>(
  stream: Definition<A>,
  id: string
): Effect.Effect<Option.Option<Element<A>>, RedisError, Stream> =>
  Effect.flatMap(Stream, (service) => service.get(stream, id))

/**
 * All entries between two ids, oldest first, read page by page.
 *
 * @since 0.1.0
 * @category accessors
 */
export const entries = <A>(
  stream: Definition<A>,
  options?: RangeOptions
): EffectStream.Stream<Element<A>, RedisError, Stream> =>
  EffectStream.unwrap(Effect.map(Stream, (service) => service.entries(stream, options)))

/**
 * What is appended from the moment on that the stream is run, or after an id. It never ends by itself.
 *
 * Nothing is missed: where it begins is settled once, and from then on it reads after what it read last, also when the
 * connection was lost meanwhile. It reads no more than it is asked for. What is trimmed before it was read is not there
 * any more.
 *
 * All that wait in one process share one connection; on a Cluster, those of one slot.
 *
 * @example
 * ```ts
 * import { Effect, Schema, Stream } from "effect"
 * import { Stream as RedisStream } from "effect-redis-kit"
 *
 * const Clicks = RedisStream.define({ name: "clicks", schema: Schema.Struct({ page: Schema.String }) })
 *
 * const program = RedisStream.tail(Clicks).pipe(
 *   Stream.runForEach((entry) =>
 *     entry._tag === "Entry" ? Effect.log(entry.value.page) : Effect.logWarning(`${entry.id}: ${entry.detail}`)
 *   )
 * )
 * ```
 *
 * @since 0.1.0
 * @category accessors
 */
export const tail = <A>(
  stream: Definition<A>,
  options?: TailOptions
): EffectStream.Stream<Element<A>, RedisError, Stream> =>
  EffectStream.unwrap(Effect.map(Stream, (service) => service.tail(stream, options)))

/**
 * Several tails in one. Each stream keeps its order; between them there is none. The streams may be anywhere on a
 * Cluster.
 *
 * @since 0.1.0
 * @category accessors
 */
export const tailMany = <const P extends Positions>(
  positions: P,
  options?: { readonly count?: number | undefined }
): EffectStream.Stream<ElementOf<P>, RedisError, Stream> =>
  EffectStream.unwrap(Effect.map(Stream, (service) => service.tailMany(positions, options)))

/**
 * Removes the oldest entries, but none that a group was not given yet or has not acknowledged: those stay, and
 * `heldBy` names the group that needs the oldest of them. With `force` they go too.
 *
 * @since 0.1.0
 * @category accessors
 */
export const trim = <A>(stream: Definition<A>, options: TrimOptions): Effect.Effect<Trimmed, RedisError, Stream> =>
  Effect.flatMap(Stream, (service) => service.trim(stream, options))

/**
 * Removes entries, and returns how many there were.
 *
 * @since 0.1.0
 * @category accessors
 */
export const remove = <A>(
  stream: Definition<A>,
  ...ids: ReadonlyArray<string>
): Effect.Effect<number, RedisError, Stream> => Effect.flatMap(Stream, (service) => service.remove(stream, ...ids))

/**
 * How many entries there are.
 *
 * @since 0.1.0
 * @category accessors
 */
export const length = <A>(stream: Definition<A>): Effect.Effect<number, RedisError, Stream> =>
  Effect.flatMap(Stream, (service) => service.length(stream))

/**
 * The last id that was given, `0-0` where there is no stream. Whoever reads after it misses nothing.
 *
 * @since 0.1.0
 * @category accessors
 */
export const lastId = <A>(stream: Definition<A>): Effect.Effect<string, RedisError, Stream> =>
  Effect.flatMap(Stream, (service) => service.lastId(stream))

/**
 * What is known of a stream; `None` where there is none.
 *
 * @since 0.1.0
 * @category accessors
 */
export const info = <A>(stream: Definition<A>): Effect.Effect<Option.Option<StreamInfo<A>>, RedisError, Stream> =>
  Effect.flatMap(Stream, (service) => service.info(stream))

/**
 * The same with entries, groups and their consumers.
 *
 * @since 0.1.0
 * @category accessors
 */
export const infoFull = <A>(
  stream: Definition<A>,
  options?: { readonly count?: number | undefined }
): Effect.Effect<Option.Option<FullInfo<A>>, RedisError, Stream> =>
  Effect.flatMap(Stream, (service) => service.infoFull(stream, options))

/**
 * The groups of a stream.
 *
 * @since 0.1.0
 * @category accessors
 */
export const groups = <A>(stream: Definition<A>): Effect.Effect<ReadonlyArray<GroupInfo>, RedisError, Stream> =>
  Effect.flatMap(Stream, (service) => service.groups(stream))
