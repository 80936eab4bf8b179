/**
 * Handlers for the messages of channels, by their type. However many there are for one channel, Redis sees one
 * subscription, and none of them can stop another.
 *
 * @since 0.1.0
 */
import type * as Cause from "effect/Cause"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import { inputError } from "../internal/input.js"
import { handlerFailures } from "../internal/metrics.js"
import { withSpan } from "../internal/telemetry.js"
import type { RedisClient } from "../RedisClient.js"
import type { RedisError, RedisInputError } from "../RedisError.js"
import type { RedisTestServer } from "../RedisTestServer.js"
import * as PubSub from "./PubSub.js"
import { nameOf } from "./targets.js"

// ---------------------------------------------------------------------------------------------------------------------
// Models
// ---------------------------------------------------------------------------------------------------------------------

/**
 * What is done with a message. `message` is all that is known about it.
 *
 * @since 0.1.0
 * @category models
 */
export type Handler<in A, in M, out E, out R> = (payload: A, message: M) => Effect.Effect<unknown, E, R>

/**
 * The `_tag`s of a union.
 *
 * @since 0.1.0
 * @category models
 */
export type Tags<A> = A extends { readonly _tag: infer T extends string } ? T : never

/**
 * The members of a union with such a `_tag`.
 *
 * @since 0.1.0
 * @category models
 */
export type Tagged<A, T extends string> = Extract<A, { readonly _tag: T }>

/**
 * The same message with another payload.
 *
 * @since 0.1.0
 * @category models
 */
export type MessageWith<A, F extends PubSub.Format, T extends string> = PubSub.MessageOf<Tagged<A, T>, F>

/**
 * A handler for every `_tag` of a union.
 *
 * @since 0.1.0
 * @category models
 */
export type Handlers<A, F extends PubSub.Format> = {
  readonly [T in Tags<A>]: Handler<Tagged<A, T>, MessageWith<A, F, T>, any, any>
}

type ErrorOf<H> = { readonly [K in keyof H]: H[K] extends Handler<any, any, infer E, any> ? E : never }[keyof H]
type ContextOf<H> = { readonly [K in keyof H]: H[K] extends Handler<any, any, any, infer R> ? R : never }[keyof H]

/**
 * A handler failed, or died, with this message.
 *
 * @since 0.1.0
 * @category models
 */
export interface HandlerFailure<out M, out E> {
  readonly message: M
  readonly cause: Cause.Cause<E>
}

/**
 * @since 0.1.0
 * @category models
 */
export interface Options<in M = unknown, in E = never, out R = never> {
  /**
   * How many messages this handler works on at a time. It is 1 by default, which keeps their order; with more there is
   * none.
   */
  readonly concurrency?: number | "unbounded" | undefined
  /** What waits while the handler is busy; see `PubSub.Buffer`. */
  readonly buffer?: {
    readonly capacity?: number | undefined
    readonly policy?: "drop-oldest" | "drop-newest" | undefined
  } | undefined
  /** Leaves out what this process has published. */
  readonly skipOwn?: boolean | undefined
  /** Told of every message that the handler failed with. The failure is logged otherwise. */
  readonly onFailure?: ((failure: HandlerFailure<M, E>) => Effect.Effect<unknown, never, R>) | undefined
  /** Told when messages are missing, in its place among them. */
  readonly onGap?: ((gap: PubSub.Gap) => Effect.Effect<unknown, never, R>) | undefined
  /** Told of what can't be decoded, in its place among the messages. It is logged otherwise. */
  readonly onDecodeFailure?: ((failure: PubSub.DecodeFailure) => Effect.Effect<unknown, never, R>) | undefined
}

/**
 * @since 0.1.0
 * @category models
 */
export interface Service {
  /** Publishes a value, as `PubSub.publish`. */
  readonly publish: PubSub.Service["publish"]
  /** Runs a handler for every message. See `subscribe`. */
  readonly subscribe: <A, F extends PubSub.Format, E, R, R2 = never>(
    target: PubSub.Target<A, F>,
    handler: Handler<A, PubSub.MessageOf<A, F>, E, R>,
    options?: Options<PubSub.MessageOf<A, F>, E, R2>
  ) => Effect.Effect<void, RedisError, R | R2 | Scope.Scope>
  /** Runs a handler for the messages with one `_tag`. See `on`. */
  readonly on: <A, F extends PubSub.Format, T extends Tags<A>, E, R, R2 = never>(
    target: PubSub.Target<A, F>,
    tag: T,
    handler: Handler<Tagged<A, T>, MessageWith<A, F, T>, E, R>,
    options?: Options<MessageWith<A, F, T>, E, R2>
  ) => Effect.Effect<void, RedisError, R | R2 | Scope.Scope>
  /** Runs one of several handlers, by the `_tag` of a message. See `handle`. */
  readonly handle: <A, F extends PubSub.Format, const H extends Handlers<A, F>, R2 = never>(
    target: PubSub.Target<A, F>,
    handlers: H,
    options?: Options<PubSub.MessageOf<A, F>, ErrorOf<H>, R2>
  ) => Effect.Effect<void, RedisError, ContextOf<H> | R2 | Scope.Scope>
}

/**
 * @since 0.1.0
 * @category tags
 */
export class EventBus extends Context.Tag("effect-redis-kit/EventBus")<EventBus, Service>() {}

// ---------------------------------------------------------------------------------------------------------------------
// Constructors
// ---------------------------------------------------------------------------------------------------------------------

const check = ({ buffer, concurrency = 1 }: Pick<Options, "buffer" | "concurrency">): RedisInputError | undefined =>
  concurrency !== "unbounded" && (!Number.isSafeInteger(concurrency) || concurrency < 1)
    ? inputError("EventBus.subscribe", "concurrency", `a whole number of one or more, or "unbounded"`, concurrency)
    : (buffer as PubSub.Buffer | undefined)?.policy === "fail"
    ? inputError("EventBus.subscribe", "buffer.policy", "drop-oldest, drop-newest", "fail")
    : undefined

type Any = PubSub.PlainMessage<any> | PubSub.Gap | PubSub.DecodeFailure

/** The handler of a message; the message itself is left out when there is none. */
type Choose = (message: PubSub.PlainMessage<any>) => Handler<any, any, any, any> | undefined

/**
 * Handlers over the messages of the environment.
 *
 * @since 0.1.0
 * @category constructors
 */
export const make: Effect.Effect<Service, never, PubSub.PubSub> = Effect.map(PubSub.PubSub, (pubsub): Service => {
  const register = (
    target: PubSub.Target<any>,
    choose: Choose,
    options: Options<any, any, any> = {}
  ): Effect.Effect<void, RedisError, any> => {
    const bad = check(options)
    if (bad !== undefined) return Effect.fail(bad)
    const name = nameOf(target)
    const { buffer, concurrency = 1, onDecodeFailure, onFailure, onGap, skipOwn } = options

    /** Whatever comes out of it, the next message has its turn. */
    const isolated = (effect: Effect.Effect<unknown, unknown, any>, message: PubSub.PlainMessage<any> | undefined) =>
      Effect.catchAllCause(effect, (cause) => {
        handlerFailures.unsafeUpdate(1, [])
        const logged = (cause: Cause.Cause<unknown>) =>
          Effect.logError(`a handler of "${message?.channel ?? name}" failed`, cause)
        return message === undefined || onFailure === undefined
          ? logged(cause)
          : Effect.catchAllCause(Effect.suspend(() => onFailure({ message, cause })), logged)
      })

    const handle = (element: Any): Effect.Effect<unknown, never, any> => {
      if (element._tag === "Message") {
        const handler = choose(element)
        return handler === undefined ? Effect.void : withSpan(
          isolated(Effect.suspend(() => handler(element.payload, element)), element),
          "eventbus.handle",
          () => ({ "messaging.destination.name": element.channel })
        )
      }
      return element._tag === "Gap"
        ? onGap === undefined ? Effect.void : isolated(Effect.suspend(() => onGap(element)), undefined)
        : onDecodeFailure === undefined
        ? Effect.void
        : isolated(Effect.suspend(() => onDecodeFailure(element)), undefined)
    }

    return Effect.flatMap(
      pubsub.subscribeScoped(target, {
        gaps: onGap !== undefined,
        failures: onDecodeFailure !== undefined,
        skipOwn,
        buffer
      }),
      ({ stream }) =>
        (concurrency === 1
          ? Stream.runForEach(stream, handle)
          : Stream.runDrain(Stream.mapEffect(stream, handle, { concurrency, unordered: true }))).pipe(
            Effect.interruptible,
            Effect.forkScoped,
            Effect.asVoid
          )
    )
  }

  const tagOf = ({ payload }: PubSub.PlainMessage<any>): unknown =>
    typeof payload === "object" && payload !== null ? payload._tag : undefined

  return {
    publish: pubsub.publish,
    subscribe: (target, handler, options) => register(target, () => handler, options),
    on: (target, tag, handler, options) =>
      register(target, (message) => tagOf(message) === tag ? handler : undefined, options),
    handle: (target, handlers, options) => {
      const byTag = new Map<unknown, Handler<any, any, any, any>>(Object.entries(handlers))
      return register(target, (message) => byTag.get(tagOf(message)), options)
    }
  }
})

// ---------------------------------------------------------------------------------------------------------------------
// Layers
// ---------------------------------------------------------------------------------------------------------------------

/**
 * @since 0.1.0
 * @category layers
 */
export const layer: Layer.Layer<EventBus, never, PubSub.PubSub> = Layer.effect(EventBus, make)

/**
 * Handlers on a server in memory, with what they need beside them.
 *
 * @since 0.1.0
 * @category layers
 */
export const layerTest: Layer.Layer<EventBus | PubSub.PubSub | RedisClient | RedisTestServer> = Layer.provideMerge(
  layer,
  PubSub.layerTest
)

// ---------------------------------------------------------------------------------------------------------------------
// Accessors
// ---------------------------------------------------------------------------------------------------------------------

/**
 * Publishes a value, as `PubSub.publish`.
 *
 * @since 0.1.0
 * @category accessors
 */
export const publish = <A, F extends PubSub.Format>(
  channel: PubSub.Channel<A, F>,
  value: A,
  ...options: F extends "envelope" ? [options?: PubSub.PublishOptions] : []
): Effect.Effect<number, RedisError, EventBus> =>
  Effect.flatMap(EventBus, (service) => service.publish(channel, value, ...options))

/**
 * Runs a handler for every message of a channel or a pattern, for as long as the scope is open. When it returns, the
 * server has confirmed, and the handler gets whatever is published from then on; when it can't subscribe, it fails and
 * leaves nothing.
 *
 * A handler gets one message at a time, in the order in which they were published. What it fails with, expected or not,
 * is reported, and the next message has its turn: neither other handlers nor later messages notice. When the scope is
 * closed, a handler that is running is interrupted.
 *
 * @example
 * ```ts
 * import { Effect, Schema } from "effect"
 * import { EventBus, PubSub } from "effect-redis-kit"
 *
 * const Prices = PubSub.channel("prices", Schema.Struct({ symbol: Schema.String, price: Schema.Number }))
 *
 * const program = Effect.scoped(Effect.gen(function*() {
 *   yield* EventBus.subscribe(Prices, ({ price, symbol }, { timestamp }) => Effect.log(symbol, price, timestamp), {
 *     onGap: () => Effect.log("prices may have changed unnoticed")
 *   })
 *   yield* EventBus.publish(Prices, { symbol: "ACME", price: 12.5 })
 *   yield* Effect.never
 * }))
 * ```
 *
 * @since 0.1.0
 * @category accessors
 */
export const subscribe = <A, F extends PubSub.Format, E, R, R2 = never>(
  target: PubSub.Target<A, F>,
  handler: Handler<A, PubSub.MessageOf<A, F>, E, R>,
  options?: Options<PubSub.MessageOf<A, F>, E, R2>
): Effect.Effect<void, RedisError, R | R2 | EventBus | Scope.Scope> =>
  Effect.flatMap(EventBus, (service) => service.subscribe(target, handler, options))

/**
 * Runs a handler for the messages whose payload has one `_tag`. In everything else it is as `subscribe`.
 *
 * @example
 * ```ts
 * import { Effect, Schema } from "effect"
 * import { EventBus, PubSub } from "effect-redis-kit"
 *
 * class UserCreated extends Schema.TaggedClass<UserCreated>()("UserCreated", { id: Schema.String }) {}
 * class UserDeleted extends Schema.TaggedClass<UserDeleted>()("UserDeleted", { id: Schema.String }) {}
 *
 * const UserEvents = PubSub.channel("user.events", Schema.Union(UserCreated, UserDeleted))
 *
 * const program = EventBus.on(UserEvents, "UserCreated", ({ id }) => Effect.log(`welcome ${id}`))
 * ```
 *
 * @since 0.1.0
 * @category accessors
 */
export const on = <A, F extends PubSub.Format, T extends Tags<A>, E, R, R2 = never>(
  target: PubSub.Target<A, F>,
  tag: T,
  handler: Handler<Tagged<A, T>, MessageWith<A, F, T>, E, R>,
  options?: Options<MessageWith<A, F, T>, E, R2>
): Effect.Effect<void, RedisError, R | R2 | EventBus | Scope.Scope> =>
  Effect.flatMap(EventBus, (service) => service.on(target, tag, handler, options))

/**
 * Runs one of several handlers, by the `_tag` of the payload. There is one for every `_tag`, and together they take one
 * message at a time. In everything else it is as `subscribe`.
 *
 * @example
 * ```ts
 * import { Effect, Schema } from "effect"
 * import { EventBus, PubSub } from "effect-redis-kit"
 *
 * class UserCreated extends Schema.TaggedClass<UserCreated>()("UserCreated", { id: Schema.String }) {}
 * class UserDeleted extends Schema.TaggedClass<UserDeleted>()("UserDeleted", { id: Schema.String }) {}
 *
 * const UserEvents = PubSub.channel("user.events", Schema.Union(UserCreated, UserDeleted))
 *
 * const program = EventBus.handle(UserEvents, {
 *   UserCreated: ({ id }) => Effect.log(`welcome ${id}`),
 *   UserDeleted: ({ id }, { correlationId }) => Effect.log(`farewell ${id}`, correlationId)
 * })
 * ```
 *
 * @since 0.1.0
 * @category accessors
 */
export const handle = <A, F extends PubSub.Format, const H extends Handlers<A, F>, R2 = never>(
  target: PubSub.Target<A, F>,
  handlers: H,
  options?: Options<PubSub.MessageOf<A, F>, ErrorOf<H>, R2>
): Effect.Effect<void, RedisError, ContextOf<H> | R2 | EventBus | Scope.Scope> =>
  Effect.flatMap(EventBus, (service) => service.handle(target, handlers, options))
