/**
 * Messages over Redis: typed channels, subscriptions that are ready when they say so, and that say when something is
 * missing.
 *
 * A message reaches whoever is subscribed at that moment, once at most, and is kept for nobody.
 *
 * @since 0.1.0
 */
import * as Chunk from "effect/Chunk"
import * as Context from "effect/Context"
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import type * as Scope from "effect/Scope"
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

const inboxOf = (operation: string, buffer: Buffer | undefined): Inbox<Redis.Message> | RedisInputError => {
  const { capacity = 1024, policy = "drop-oldest" } = buffer ?? {}
  return !Number.isSafeInteger(capacity) || capacity < 1
    ? inputError(operation, "buffer.capacity", "a whole number of one or more", capacity)
    : !POLICIES.includes(policy)
    ? inputError(operation, "buffer.policy", POLICIES.join(", "), policy)
    : new Inbox(capacity, policy)
}

const subscriptionTo = (target: Target<any>): Redis.Subscription => {
  if (isPattern(target)) return { patterns: [target.glob] }
  const channels = channelsOf(target)
  const names = channels.map(({ name }) => name)
  return channels.some(isSharded) ? { shardChannels: names } : { channels: names }
}

type Any = PlainMessage<any> | Message<any> | Gap | DecodeFailure

/** There can be very many, so what is asked of one is made then. */
class Reader implements Subscription<Any, SubscriberTooSlow> {
  private readonly codecOf: (channel: string) => codec.Codec<any>

  constructor(
    private readonly inbox: Inbox<Redis.Message>,
    private readonly target: Target<any>,
    private readonly options: SubscribeOptions,
    /** What the ids of this process begin with. */
    private readonly own: string
  ) {
    this.codecOf = codecsOf(target)
  }

  get take(): Effect.Effect<Any, SubscriberTooSlow> {
    return Effect.matchEffect(this.next(1), {
      onSuccess: ([element]) => Effect.succeed(element!),
      onFailure: Option.match({ onNone: () => Effect.interrupt, onSome: Effect.fail })
    })
  }

  get stream(): Stream.Stream<Any, SubscriberTooSlow> {
    return Stream.repeatEffectChunkOption(Effect.map(this.next(BATCH), Chunk.unsafeFromArray))
  }

  get dropped(): Effect.Effect<number> {
    return Effect.sync(() => this.inbox.dropped)
  }

  private next(most: number): Effect.Effect<Array<Any>, Option.Option<SubscriberTooSlow>> {
    return Effect.suspend(() => {
      const { inbox } = this
      if (inbox.isEmpty) {
        return inbox.overflown
          ? Effect.fail(
            Option.some(new SubscriberTooSlow({ channel: nameOf(this.target), capacity: inbox.capacity }))
          )
          : inbox.isEnded
          ? Effect.fail(Option.none())
          : Effect.zipRight(inbox.wait, this.next(most))
      }
      const refused: Array<DecodeFailure> = []
      const elements = this.open(inbox.take(most), refused)
      const going = elements.length === 0 ? this.next(most) : Effect.succeed(elements)
      return refused.length === 0 ? going : Effect.zipRight(this.warn(refused), going)
    })
  }

  private open(items: ReadonlyArray<Redis.Message | Missing>, refused: Array<DecodeFailure>): Array<Any> {
    const { failures = false, gaps = false, skipOwn = false } = this.options
    const elements: Array<Any> = []
    for (const item of items) {
      if (item instanceof Missing) {
        const reason = item.disconnected ? "disconnected" : "overflow"
        if (gaps) elements.push(new Gap({ reason, dropped: item.dropped }))
        continue
      }
      const { bytes, channel, pattern } = item
      const message = this.codecOf(channel).decode(item)
      if (message._tag === "Message") {
        if (!skipOwn || !("id" in message) || !message.id.startsWith(this.own)) elements.push(message)
        continue
      }
      messageDecodeFailures.unsafeUpdate(1, [])
      const failure = new DecodeFailure({ channel, pattern, reason: message.reason, detail: message.detail, bytes })
      if (failures) elements.push(failure)
      else refused.push(failure)
    }
    return elements
  }

  private warn(refused: ReadonlyArray<DecodeFailure>): Effect.Effect<void> {
    const last = refused.at(-1)!
    return Effect.logWarning(
      `${refused.length} message(s) of "${nameOf(this.target)}" could not be decoded, the last one of ` +
        `"${last.channel}": ${last.detail}`
    )
  }
}

const attributes = (name: string) => () => ({ "messaging.destination.name": name })

/** For formats that have none. */
const noEnvelope: codec.Envelope = { id: "", type: undefined, source: "", timestamp: 0, correlationId: undefined }

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
    const source = JSON.stringify(options.source ?? process)
    let published = 0

    const publish = (
      channel: Channel<any>,
      value: unknown,
      { correlationId, type }: PublishOptions = {}
    ): Effect.Effect<number, RedisError> => {
      const { format, name, sharded } = channel
      const bad = checkChannel("PubSub.publish", channel)
      if (bad !== undefined) return Effect.fail(bad)
      const send = (envelope: codec.Envelope): Effect.Effect<number, RedisError> => {
        const encoded = channel.codec.encode(value, envelope)
        return typeof encoded === "object" && "_tag" in encoded
          ? Effect.fail(
            new RedisInputError({
              operation: "PubSub.publish",
              field: "value",
              expected: "what the schema of the channel can encode",
              actual: `another: ${encoded.detail}`
            })
          )
          : sharded
          ? client.spublish(name, encoded)
          : client.publish(name, encoded)
      }
      const bare = format !== "envelope"
      if (bare && (correlationId !== undefined || type !== undefined)) {
        return Effect.fail(inputError("PubSub.publish", "options", "left out: there is no envelope", "given"))
      }
      return withSpan(
        bare ? Effect.suspend(() => send(noEnvelope)) : Effect.clockWith((clock) =>
          send({
            id: own + (published++).toString(36),
            type,
            source,
            timestamp: clock.unsafeCurrentTimeMillis(),
            correlationId
          })
        ),
        "pubsub.publish",
        attributes(name)
      )
    }

    const subscribeScoped = (
      target: Target<any>,
      options: SubscribeOptions = {}
    ): Effect.Effect<Subscription<any, any>, RedisError, Scope.Scope> =>
      Effect.suspend(() => {
        const operation = "PubSub.subscribe"
        const bad = checkTarget(operation, target, options.skipOwn ?? false)
        if (bad !== undefined) return Effect.fail(bad)
        const inbox = inboxOf(operation, options.buffer)
        if (!(inbox instanceof Inbox)) return Effect.fail(inbox)
        return withSpan(
          Effect.as(client[Redis.Listen](subscriptionTo(target), inbox), new Reader(inbox, target, options, own)),
          "pubsub.subscribe",
          attributes(nameOf(target))
        )
      })

    const subscribe = (
      target: Target<any>,
      options?: SubscribeOptions
    ): Stream.Stream<any, any> =>
      Stream.unwrapScoped(Effect.map(subscribeScoped(target, options), ({ stream }) => stream))

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
