/**
 * Messages over Redis: typed channels, subscriptions that are ready when they say so, and that say when something is
 * missing.
 *
 * A message reaches whoever is subscribed at that moment, once at most, and is kept for nobody.
 *
 * @since 0.1.0
 */
import * as Chunk from "effect/Chunk"
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import { randomBytes } from "node:crypto"
import { inputError } from "../internal/input.js"
import { messageDecodeFailures } from "../internal/metrics.js"
import { withSpan } from "../internal/telemetry.js"
import * as Redis from "../RedisClient.js"
import { type RedisError, RedisInputError } from "../RedisError.js"
import { layer as testServer, type RedisTestServer } from "../RedisTestServer.js"
import * as codec from "./codec.js"
import { Inbox, Missing } from "./Inbox.js"
import { channelsOf, checkChannel, checkTarget, codecsOf, isPattern, isSharded, nameOf } from "./targets.js"

// ---------------------------------------------------------------------------------------------------------------------
// Models
// ---------------------------------------------------------------------------------------------------------------------

/**
 * What is written to a channel:
 *
 * - `"envelope"`: JSON with the payload and what is known about it. The default
 * - `"plain"`: the text that the schema encodes to and nothing else, for programs that know nothing of envelopes
 * - `"binary"`: the bytes that the schema encodes to
 *
 * @since 0.1.0
 * @category models
 */
export type Format = "envelope" | "plain" | "binary"

/**
 * @since 0.1.0
 * @category models
 */
export interface Channel<in out A, out F extends Format = Format> {
  readonly _tag: "Channel"
  readonly name: string
  readonly format: F
  /** Of the payload. Messages of another one are not decoded. */
  readonly version: number
  /** Whether it lives in the slot of its name (`SPUBLISH`), and not on every node of a Cluster. */
  readonly sharded: boolean
  /** @internal */
  readonly codec: codec.Codec<A>
}

/**
 * All channels whose names match a glob.
 *
 * @since 0.1.0
 * @category models
 */
export interface Pattern<in out A, out F extends Format = Format> {
  readonly _tag: "Pattern"
  readonly glob: string
  readonly format: F
  readonly version: number
  /** @internal */
  readonly codec: codec.Codec<A>
}

/**
 * What can be subscribed to: a channel, several of one kind, or a pattern.
 *
 * @since 0.1.0
 * @category models
 */
export type Target<A, F extends Format = Format> = Channel<A, F> | ReadonlyArray<Channel<A, F>> | Pattern<A, F>

/**
 * A message without an envelope.
 *
 * @since 0.1.0
 * @category models
 */
export interface PlainMessage<out A> {
  readonly _tag: "Message"
  readonly channel: string
  /** Set when the subscription was to a pattern. */
  readonly pattern: Option.Option<string>
  readonly payload: A
}

/**
 * @since 0.1.0
 * @category models
 */
export interface Message<out A> extends PlainMessage<A> {
  /** Different for every message. It begins with the name of the process, that is of one built layer. */
  readonly id: string
  /** What the publisher says it is, or else the payload's `_tag`. */
  readonly type: Option.Option<string>
  /** Who published it: the `source` of that layer. */
  readonly source: string
  /** When it was published, in milliseconds, by the publisher's clock. */
  readonly timestamp: number
  readonly correlationId: Option.Option<string>
}

/**
 * @since 0.1.0
 * @category models
 */
export type MessageOf<A, F extends Format> = F extends "envelope" ? Message<A> : PlainMessage<A>

/**
 * Messages are missing here. Whoever keeps something that they tell about should read it again.
 *
 * @since 0.1.0
 * @category models
 */
export class Gap extends Data.TaggedClass("Gap")<{
  /** `"disconnected"`: the connection was lost meanwhile. `"overflow"`: this subscriber was too slow. */
  readonly reason: "disconnected" | "overflow"
  /** How many there was no room for. Nobody knows how many were published while the connection was lost. */
  readonly dropped: number
}> {}

/**
 * A message that is not what its channel says.
 *
 * @since 0.1.0
 * @category models
 */
export class DecodeFailure extends Data.TaggedClass("DecodeFailure")<{
  readonly channel: string
  readonly pattern: Option.Option<string>
  /** What does not fit: what is around the payload, the version, or the payload. */
  readonly reason: "envelope" | "version" | "payload"
  /** Where, without anything of what is in the message. */
  readonly detail: string
  /** The whole of it. */
  readonly bytes: Uint8Array
}> {
  /**
   * The whole of it as text.
   *
   * @since 0.1.0
   */
  get text(): string {
    return new TextDecoder("utf-8", { ignoreBOM: true }).decode(this.bytes)
  }
}

/**
 * What waits for a subscriber that is busy: at most `capacity` messages (1024 by default). When there is no room, the
 * oldest goes (`"drop-oldest"`, the default), the new one goes (`"drop-newest"`), or nothing more is taken and the
 * subscription fails once what waits is read (`"fail"`). Whatever it is, neither publishers nor other subscribers notice.
 *
 * @since 0.1.0
 * @category models
 */
export interface Buffer {
  readonly capacity?: number | undefined
  readonly policy?: "drop-oldest" | "drop-newest" | "fail" | undefined
}

/**
 * @since 0.1.0
 * @category models
 */
export interface SubscribeOptions {
  /** Whether a `Gap` is delivered where messages are missing. */
  readonly gaps?: boolean | undefined
  /** Whether what can't be decoded is delivered as a `DecodeFailure`. It is logged and left out otherwise. */
  readonly failures?: boolean | undefined
  /** Leaves out what this very process, that is this built layer, has published. Only messages with an envelope tell. */
  readonly skipOwn?: boolean | undefined
  readonly buffer?: Buffer | undefined
}

type Given<O, K extends string> = K extends keyof O ? O[K] : never

/**
 * What a subscription with these options delivers.
 *
 * @since 0.1.0
 * @category models
 */
export type Element<A, F extends Format, O> =
  | MessageOf<A, F>
  | (true extends Given<O, "gaps"> ? Gap : never)
  | (true extends Given<O, "failures"> ? DecodeFailure : never)

/**
 * What a subscription with these options can fail with once it is there.
 *
 * @since 0.1.0
 * @category models
 */
export type Failure<O> = "fail" extends Given<NonNullable<Given<O, "buffer">>, "policy"> ? SubscriberTooSlow : never

/**
 * A subscription that the server has confirmed. It ends with its scope.
 *
 * @since 0.1.0
 * @category models
 */
export interface Subscription<out A, out E = never> {
  /** The next element. When the subscription has ended, it is interrupted. */
  readonly take: Effect.Effect<A, E>
  /**
   * From where `take` stands until the end of the subscription. It takes what waits in one step, so what a stream that
   * stops early has not delivered is gone.
   */
  readonly stream: Stream.Stream<A, E>
  /** How many messages were dropped so far because there was no room for them. */
  readonly dropped: Effect.Effect<number>
}

/**
 * @since 0.1.0
 * @category models
 */
export interface PublishOptions {
  /** What ties messages together, such as the id of a request. */
  readonly correlationId?: string | undefined
  /** What kind of message it is; the payload's `_tag` unless given. */
  readonly type?: string | undefined
}

/**
 * @since 0.1.0
 * @category models
 */
export interface Service {
  /**
   * Publishes a value, and returns how many subscribers it reached. All subscriptions of one process count as one. On a
   * Cluster a message goes to every node, but only those of one node are counted; with sharded channels the number is
   * right.
   */
  readonly publish: <A, F extends Format>(
    channel: Channel<A, F>,
    value: A,
    ...options: F extends "envelope" ? [options?: PublishOptions] : []
  ) => Effect.Effect<number, RedisError>
  /** Subscribes for as long as the stream runs. See `subscribe`. */
  readonly subscribe: <A, F extends Format, const O extends SubscribeOptions = {}>(
    target: Target<A, F>,
    options?: O
  ) => Stream.Stream<Element<A, F, O>, RedisError | Failure<O>>
  /** Subscribes for as long as the scope is open. See `subscribeScoped`. */
  readonly subscribeScoped: <A, F extends Format, const O extends SubscribeOptions = {}>(
    target: Target<A, F>,
    options?: O
  ) => Effect.Effect<Subscription<Element<A, F, O>, Failure<O>>, RedisError, Scope.Scope>
}

/**
 * @since 0.1.0
 * @category tags
 */
export class PubSub extends Context.Tag("effect-redis-kit/PubSub")<PubSub, Service>() {}

// ---------------------------------------------------------------------------------------------------------------------
// Errors
// ---------------------------------------------------------------------------------------------------------------------

/**
 * More messages came than a subscriber with the policy `"fail"` had room for.
 *
 * @since 0.1.0
 * @category errors
 */
export class SubscriberTooSlow extends Schema.TaggedError<SubscriberTooSlow>(
  "effect-redis-kit/PubSub/SubscriberTooSlow"
)("SubscriberTooSlow", { channel: Schema.String, capacity: Schema.Number }) {
  /** @since 0.1.0 */
  override get message(): string {
    return `a subscriber of "${this.channel}" left more than ${this.capacity} messages unread`
  }
}

// ---------------------------------------------------------------------------------------------------------------------
// Constructors
// ---------------------------------------------------------------------------------------------------------------------

interface Options {
  readonly version?: number | undefined
  readonly format?: Format | undefined
}

const formatted = <A>(schema: Schema.Schema<A, any>, { format = "envelope", version = 1 }: Options = {}) => ({
  format,
  version,
  codec: format === "plain"
    ? codec.plain(schema)
    : format === "binary"
    ? codec.binary(schema)
    : codec.envelope(schema, version)
})

/**
 * Describes a channel: its name, and what is published there. Making one is cheap, so channels with a part that varies
 * are functions.
 *
 * The schema must neither wait nor need services. When what it encodes to changes so that older programs can't read it,
 * `version` (1 by default) goes up: they then get a `DecodeFailure`, and nothing that only looks right.
 *
 * @example
 * ```ts
 * import { Schema } from "effect"
 * import { PubSub } from "effect-redis-kit"
 *
 * class UserCreated extends Schema.TaggedClass<UserCreated>()("UserCreated", { id: Schema.String }) {}
 * class UserRenamed extends Schema.TaggedClass<UserRenamed>()("UserRenamed", { id: Schema.String, name: Schema.String }) {}
 *
 * const UserEvents = PubSub.channel("user.events", Schema.Union(UserCreated, UserRenamed))
 *
 * // One for each room.
 * const Room = (id: string) => PubSub.channel(`room:${id}`, Schema.Struct({ text: Schema.String }), { sharded: true })
 *
 * // For and from programs that write JSON without an envelope.
 * const Legacy = PubSub.channel("legacy", Schema.parseJson(Schema.Struct({ n: Schema.Number })), { format: "plain" })
 *
 * const Pictures = PubSub.channel("pictures", Schema.Uint8ArrayFromSelf, { format: "binary" })
 * ```
 *
 * @since 0.1.0
 * @category constructors
 */
export const channel: {
  <A, I>(
    name: string,
    schema: Schema.Schema<A, I>,
    options?: {
      readonly version?: number | undefined
      readonly format?: "envelope" | undefined
      readonly sharded?: boolean | undefined
    }
  ): Channel<A, "envelope">
  <A>(
    name: string,
    schema: Schema.Schema<A, string>,
    options: { readonly format: "plain"; readonly sharded?: boolean | undefined }
  ): Channel<A, "plain">
  <A>(
    name: string,
    schema: Schema.Schema<A, Uint8Array>,
    options: { readonly format: "binary"; readonly sharded?: boolean | undefined }
  ): Channel<A, "binary">
} = (
  name: string,
  schema: Schema.Schema<any, any>,
  options?: Options & { readonly sharded?: boolean | undefined }
): Channel<any, any> => ({ _tag: "Channel", name, sharded: options?.sharded ?? false, ...formatted(schema, options) })

/**
 * Describes all channels whose names match a glob, to subscribe to. Sharded channels are not among them.
 *
 * @example
 * ```ts
 * import { Effect, Schema, Stream } from "effect"
 * import { PubSub } from "effect-redis-kit"
 *
 * const AllOrders = PubSub.pattern("orders.*", Schema.Struct({ id: Schema.Number }))
 *
 * const program = PubSub.subscribe(AllOrders).pipe(
 *   Stream.runForEach(({ channel, payload }) => Effect.log(`${channel}: ${payload.id}`))
 * )
 * ```
 *
 * @since 0.1.0
 * @category constructors
 */
export const pattern: {
  <A, I>(
    glob: string,
    schema: Schema.Schema<A, I>,
    options?: { readonly version?: number | undefined; readonly format?: "envelope" | undefined }
  ): Pattern<A, "envelope">
  <A>(glob: string, schema: Schema.Schema<A, string>, options: { readonly format: "plain" }): Pattern<A, "plain">
  <A>(glob: string, schema: Schema.Schema<A, Uint8Array>, options: { readonly format: "binary" }): Pattern<A, "binary">
} = (glob: string, schema: Schema.Schema<any, any>, options?: Options): Pattern<any, any> => ({
  _tag: "Pattern",
  glob,
  ...formatted(schema, options)
})

/** Elements that are decoded in one step, before others have their turn. */
const BATCH = 256

const POLICIES: ReadonlyArray<unknown> = ["drop-oldest", "drop-newest", "fail"] satisfies ReadonlyArray<
  Buffer["policy"]
>

const inboxOf = <M>(operation: string, buffer: Buffer | undefined): Inbox<M> | RedisInputError => {
  const { capacity = 1024, policy = "drop-oldest" } = buffer ?? {}
  return !Number.isSafeInteger(capacity) || capacity < 1
    ? inputError(operation, "buffer.capacity", "a whole number of one or more", capacity)
    : !POLICIES.includes(policy)
    ? inputError(operation, "buffer.policy", POLICIES.join(", "), policy)
    : new Inbox<M>(capacity, policy)
}

const attributes = (name: string) => () => ({ "messaging.destination.name": name })

/**
 * Messages over the client of the environment. `source` is the name of this program in the messages that it publishes;
 * without one it is a random name.
 *
 * @since 0.1.0
 * @category constructors
 */
export const makeWith = (
  options: { readonly source?: string | undefined } = {}
): Effect.Effect<Service, never, Redis.RedisClient> =>
  Effect.map(Redis.RedisClient, (client): Service => {
    const process = randomBytes(9).toString("base64url")
    const own = `${process}.`
    const source = options.source ?? process
    let published = 0

    const publish = (
      channel: Channel<any>,
      value: unknown,
      { correlationId, type }: PublishOptions = {}
    ): Effect.Effect<number, RedisError> => {
      const { codec, format, name, sharded } = channel
      const bad = checkChannel("PubSub.publish", channel)
      if (bad !== undefined) return Effect.fail(bad)
      if (format !== "envelope" && (correlationId !== undefined || type !== undefined)) {
        return Effect.fail(inputError("PubSub.publish", "options", "left out: there is no envelope", "given"))
      }
      return withSpan(
        Effect.flatMap(Clock.currentTimeMillis, (timestamp): Effect.Effect<number, RedisError> => {
          const encoded = codec.encode(value, {
            id: own + (published++).toString(36),
            type: Option.fromNullable(type),
            source,
            timestamp,
            correlationId: Option.fromNullable(correlationId)
          })
          if (typeof encoded === "object" && "_tag" in encoded) {
            return Effect.fail(
              new RedisInputError({
                operation: "PubSub.publish",
                field: "value",
                expected: "what the schema of the channel can encode",
                actual: `another: ${encoded.detail}`
              })
            )
          }
          return sharded ? client.spublish(name, encoded) : client.publish(name, encoded)
        }),
        "pubsub.publish",
        attributes(name)
      )
    }

    /** What is in a message, or nothing when it is not wanted. */
    const open = (
      codecOf: (channel: string) => codec.Codec<unknown>,
      { bytes, channel, pattern }: Redis.Message,
      skipOwn: boolean
    ): PlainMessage<unknown> | DecodeFailure | undefined => {
      const opened = codecOf(channel).decode(bytes)
      if (opened._tag === "Refusal") {
        messageDecodeFailures.unsafeUpdate(1, [])
        return new DecodeFailure({ channel, pattern, reason: opened.reason, detail: opened.detail, bytes })
      }
      const { envelope, payload } = opened
      if (envelope === undefined) return { _tag: "Message", channel, pattern, payload }
      if (skipOwn && envelope.id.startsWith(own)) return undefined
      const { correlationId, id, source, timestamp, type } = envelope
      const message: Message<unknown> = {
        _tag: "Message",
        channel,
        pattern,
        payload,
        id,
        type,
        source,
        timestamp,
        correlationId
      }
      return message
    }

    type Any = PlainMessage<any> | Gap | DecodeFailure

    const openAll = (
      name: string,
      codecOf: (channel: string) => codec.Codec<unknown>,
      items: ReadonlyArray<Redis.Message | Missing>,
      { failures = false, gaps = false, skipOwn = false }: SubscribeOptions
    ): Effect.Effect<Array<Any>> =>
      Effect.suspend(() => {
        const elements: Array<Any> = []
        let refused = 0
        let last: DecodeFailure | undefined
        for (const item of items) {
          if (item instanceof Missing) {
            const reason = item.disconnected ? "disconnected" : "overflow"
            if (gaps) elements.push(new Gap({ reason, dropped: item.dropped }))
            continue
          }
          const element = open(codecOf, item, skipOwn)
          if (element === undefined) continue
          if (element._tag === "Message" || failures) elements.push(element)
          else {
            refused++
            last = element
          }
        }
        return last === undefined ? Effect.succeed(elements) : Effect.as(
          Effect.logWarning(
            `${refused} message(s) of "${name}" could not be decoded, the last one of "${last.channel}": ` +
              last.detail
          ),
          elements
        )
      })

    const subscribeScoped = (
      target: Target<any>,
      options: SubscribeOptions = {}
    ): Effect.Effect<Subscription<any, any>, RedisError, Scope.Scope> => {
      const operation = "PubSub.subscribe"
      const bad = checkTarget(operation, target, options.skipOwn ?? false)
      if (bad !== undefined) return Effect.fail(bad)
      const name = nameOf(target)
      const codecOf = codecsOf(target)
      const inbox = inboxOf<Redis.Message>(operation, options.buffer)
      if (!(inbox instanceof Inbox)) return Effect.fail(inbox)

      const next = (most: number): Effect.Effect<Array<Any>, Option.Option<SubscriberTooSlow>> =>
        Effect.suspend(() => {
          if (!inbox.isEmpty) {
            return Effect.flatMap(
              openAll(name, codecOf, inbox.take(most), options),
              (elements) => elements.length === 0 ? next(most) : Effect.succeed(elements)
            )
          }
          return inbox.overflown
            ? Effect.fail(Option.some(new SubscriberTooSlow({ channel: name, capacity: inbox.capacity })))
            : inbox.isEnded
            ? Effect.fail(Option.none())
            : Effect.zipRight(inbox.wait, next(most))
        })

      const result: Subscription<Any, SubscriberTooSlow> = {
        take: Effect.matchEffect(next(1), {
          onSuccess: ([element]) => Effect.succeed(element!),
          onFailure: Option.match({ onNone: () => Effect.interrupt, onSome: Effect.fail })
        }),
        stream: Stream.repeatEffectChunkOption(Effect.map(next(BATCH), Chunk.unsafeFromArray)),
        dropped: Effect.sync(() => inbox.dropped)
      }

      const names = isPattern(target) ? [target.glob] : channelsOf(target).map((channel) => channel.name)
      const subscription: Redis.Subscription = isPattern(target)
        ? { patterns: names }
        : channelsOf(target).some(isSharded)
        ? { shardChannels: names }
        : { channels: names }

      // A scope of its own: when it can't have all of its channels, it has none, however long the caller's is open.
      return withSpan(
        Effect.uninterruptibleMask((restore) =>
          Effect.flatMap(Effect.scope, (scope) =>
            Effect.flatMap(Scope.fork(scope, scope.strategy), (inner) =>
              restore(client[Redis.Listen](subscription, {
                onMessage: (message) =>
                  inbox.put(message),
                onGap: () => inbox.disconnected()
              })).pipe(
                Scope.extend(inner),
                Effect.onError((cause) => Scope.close(inner, Exit.failCause(cause))),
                Effect.zipRight(Scope.addFinalizer(inner, Effect.sync(() => inbox.close()))),
                Effect.as(result)
              )))
        ),
        "pubsub.subscribe",
        attributes(name)
      )
    }

    const subscribe = (
      target: Target<any>,
      options?: SubscribeOptions
    ): Stream.Stream<any, any> =>
      Stream.unwrapScoped(Effect.map(subscribeScoped(target, options), ({ stream }) =>
        stream))

    return { publish, subscribe, subscribeScoped }
  })

/**
 * Messages over the client of the environment.
 *
 * @since 0.1.0
 * @category constructors
 */
export const make: Effect.Effect<Service, never, Redis.RedisClient> = makeWith()

// ---------------------------------------------------------------------------------------------------------------------
// Layers
// ---------------------------------------------------------------------------------------------------------------------

/**
 * With a name for this program, which its messages carry as their `source`. Keep the result in a constant.
 *
 * @since 0.1.0
 * @category layers
 */
export const layerWith = (
  options: { readonly source?: string | undefined }
): Layer.Layer<PubSub, never, Redis.RedisClient> => Layer.effect(PubSub, makeWith(options))

/**
 * @since 0.1.0
 * @category layers
 */
export const layer: Layer.Layer<PubSub, never, Redis.RedisClient> = Layer.effect(PubSub, make)

/**
 * Messages on a server in memory, with the server and its client beside it.
 *
 * @since 0.1.0
 * @category layers
 */
export const layerTest: Layer.Layer<PubSub | Redis.RedisClient | RedisTestServer> = Layer.provideMerge(
  layer,
  testServer
)

// ---------------------------------------------------------------------------------------------------------------------
// Accessors
// ---------------------------------------------------------------------------------------------------------------------

/**
 * Publishes a value, and returns how many subscribers it reached: 0 is no failure, nobody listens. All subscriptions of
 * one process count as one, and on a Cluster only those of one node are counted.
 *
 * @example
 * ```ts
 * import { Schema } from "effect"
 * import { PubSub } from "effect-redis-kit"
 *
 * const Prices = PubSub.channel("prices", Schema.Struct({ symbol: Schema.String, price: Schema.Number }))
 *
 * const program = PubSub.publish(Prices, { symbol: "ACME", price: 12.5 }, { correlationId: "request-7" })
 * ```
 *
 * @since 0.1.0
 * @category accessors
 */
export const publish = <A, F extends Format>(
  channel: Channel<A, F>,
  value: A,
  ...options: F extends "envelope" ? [options?: PublishOptions] : []
): Effect.Effect<number, RedisError, PubSub> =>
  Effect.flatMap(PubSub, (service) => service.publish(channel, value, ...options))

/**
 * The messages of a channel or a pattern, from the moment when the server has confirmed the subscription and for as long
 * as the stream runs. Lost connections are made again; what was published meanwhile is gone, and `gaps` tells where.
 *
 * Messages come in the order in which they were published. What can't be decoded is logged and left out, unless
 * `failures` asks for it.
 *
 * @example
 * ```ts
 * import { Effect, Schema, Stream } from "effect"
 * import { PubSub } from "effect-redis-kit"
 *
 * const Prices = PubSub.channel("prices", Schema.Struct({ symbol: Schema.String, price: Schema.Number }))
 *
 * const program = PubSub.subscribe(Prices, { gaps: true }).pipe(
 *   Stream.runForEach((element) =>
 *     element._tag === "Gap"
 *       ? Effect.log("prices may have changed unnoticed")
 *       : Effect.log(`${element.payload.symbol} is at ${element.payload.price}`)
 *   )
 * )
 * ```
 *
 * @since 0.1.0
 * @category accessors
 */
export const subscribe = <A, F extends Format, const O extends SubscribeOptions = {}>(
  target: Target<A, F>,
  options?: O
): Stream.Stream<Element<A, F, O>, RedisError | Failure<O>, PubSub> =>
  Stream.unwrap(Effect.map(PubSub, (service) => service.subscribe(target, options)))

/**
 * Subscribes for as long as the scope is open. When it returns, the server has confirmed: whatever is published from then
 * on arrives.
 *
 * @example
 * ```ts
 * import { Effect, Schema } from "effect"
 * import { PubSub } from "effect-redis-kit"
 *
 * const Answers = PubSub.channel("answers", Schema.String)
 *
 * declare const ask: Effect.Effect<void>
 *
 * const program = Effect.scoped(Effect.gen(function*() {
 *   const answers = yield* PubSub.subscribeScoped(Answers)
 *   yield* ask
 *   return (yield* answers.take).payload
 * }))
 * ```
 *
 * @since 0.1.0
 * @category accessors
 */
export const subscribeScoped = <A, F extends Format, const O extends SubscribeOptions = {}>(
  target: Target<A, F>,
  options?: O
): Effect.Effect<Subscription<Element<A, F, O>, Failure<O>>, RedisError, PubSub | Scope.Scope> =>
  Effect.flatMap(PubSub, (service) => service.subscribeScoped(target, options))
