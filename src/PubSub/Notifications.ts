/**
 * Notifications for one user and for everybody, for any number of sockets in a process over one connection to Redis.
 *
 * @since 0.1.0
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type * as Schema from "effect/Schema"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import { checkKey } from "../internal/input.js"
import type { RedisClient } from "../RedisClient.js"
import type { RedisError, RedisInputError } from "../RedisError.js"
import type { RedisTestServer } from "../RedisTestServer.js"
import * as PubSub from "./PubSub.js"

// ---------------------------------------------------------------------------------------------------------------------
// Models
// ---------------------------------------------------------------------------------------------------------------------

/**
 * A kind of notifications.
 *
 * @since 0.1.0
 * @category models
 */
export interface Definition<in out A> {
  readonly name: string
  /** For everybody. */
  readonly everybody: PubSub.Channel<A, "envelope">
  /** For one user. */
  readonly user: (userId: string) => PubSub.Channel<A, "envelope">
}

/**
 * @since 0.1.0
 * @category models
 */
export interface Notification<out A> extends Omit<PubSub.Message<A>, "_tag" | "channel" | "pattern"> {
  readonly _tag: "Notification"
  /** Whether it is for this user or for everybody. */
  readonly audience: "user" | "everybody"
}

/**
 * @since 0.1.0
 * @category models
 */
export interface Options {
  /**
   * What waits for a socket that is slow: at most `capacity` notifications (64 by default). The oldest go when there is no
   * room, and a `Gap` says so; with `"drop-newest"` the new ones.
   */
  readonly buffer?: {
    readonly capacity?: number | undefined
    readonly policy?: "drop-oldest" | "drop-newest" | undefined
  } | undefined
}

/**
 * @since 0.1.0
 * @category models
 */
export interface Service {
  /** Notifies one user, and returns how many processes have a socket of that user; on a Cluster, of one node. */
  readonly notify: <A>(
    definition: Definition<A>,
    userId: string,
    value: A,
    options?: PubSub.PublishOptions
  ) => Effect.Effect<number, RedisError>
  /** Notifies everybody, and returns how many processes have sockets; on a Cluster, of one node. */
  readonly broadcast: <A>(
    definition: Definition<A>,
    value: A,
    options?: PubSub.PublishOptions
  ) => Effect.Effect<number, RedisError>
  /**
   * What is for this user and for everybody, as long as the stream runs. The user must be known to be the one: whoever
   * takes the id from a URL lets everybody read everything. See `subscribe`.
   */
  readonly subscribeUser: <A>(
    definition: Definition<A>,
    userId: string,
    options?: Options
  ) => Stream.Stream<Notification<A> | PubSub.Gap, RedisError>
  /** As `subscribeUser`, for as long as the scope is open. When it returns, the server has confirmed. */
  readonly subscribeUserScoped: <A>(
    definition: Definition<A>,
    userId: string,
    options?: Options
  ) => Effect.Effect<PubSub.Subscription<Notification<A> | PubSub.Gap>, RedisError, Scope.Scope>
}

/**
 * @since 0.1.0
 * @category tags
 */
export class Notifications extends Context.Tag("effect-redis-kit/Notifications")<Notifications, Service>() {}

/**
 * Who is there, as the program's authentication has found out.
 *
 * @since 0.1.0
 * @category tags
 */
export class CurrentUser extends Context.Tag("effect-redis-kit/Notifications/CurrentUser")<CurrentUser, {
  readonly id: string
}>() {}

// ---------------------------------------------------------------------------------------------------------------------
// Constructors
// ---------------------------------------------------------------------------------------------------------------------

/**
 * Describes a kind of notifications: its name and what they say.
 *
 * @example
 * ```ts
 * import { Effect, Schema } from "effect"
 * import { Notifications } from "effect-redis-kit"
 *
 * const Alerts = Notifications.define({ name: "alerts", schema: Schema.Struct({ text: Schema.String }) })
 *
 * const program = Effect.zipRight(
 *   Notifications.notify(Alerts, "ada", { text: "your order is on its way" }),
 *   Notifications.broadcast(Alerts, { text: "we close at midnight" })
 * )
 * ```
 *
 * @since 0.1.0
 * @category constructors
 */
export const define = <A, I>(options: {
  readonly name: string
  readonly schema: Schema.Schema<A, I>
  readonly version?: number | undefined
}): Definition<A> => {
  const { name, schema, version } = options
  // Without a colon in it, no name and no user end up in the channel of another.
  const escaped = name.replaceAll("%", "%25").replaceAll(":", "%3A")
  return {
    name,
    everybody: PubSub.channel(`notifications:${escaped}:all`, schema, { version }),
    user: (userId) => PubSub.channel(`notifications:${escaped}:user:${userId}`, schema, { version })
  }
}

const check = (operation: string, { name }: Definition<any>, userId?: string): RedisInputError | undefined =>
  checkKey(operation, name, "name") ?? (userId === undefined ? undefined : checkKey(operation, userId, "userId"))

const toNotification =
  <A>(everybody: string) => (element: PubSub.Message<A> | PubSub.Gap): Notification<A> | PubSub.Gap => {
    if (element._tag === "Gap") return element
    const { channel, correlationId, id, payload, source, timestamp, type } = element
    const audience = channel === everybody ? "everybody" : "user"
    return { _tag: "Notification", audience, payload, id, type, source, timestamp, correlationId }
  }

/**
 * @since 0.1.0
 * @category constructors
 */
export const make: Effect.Effect<Service, never, PubSub.PubSub> = Effect.map(PubSub.PubSub, (pubsub): Service => {
  const subscribeUserScoped: Service["subscribeUserScoped"] = (definition, userId, options) => {
    const bad = check("Notifications.subscribeUser", definition, userId)
    if (bad !== undefined) return Effect.fail(bad)
    const { capacity = 64, policy } = options?.buffer ?? {}
    const convert = toNotification<any>(definition.everybody.name)
    return Effect.map(
      pubsub.subscribeScoped([definition.user(userId), definition.everybody], {
        gaps: true,
        buffer: { capacity, policy }
      }),
      ({ dropped, stream, take }) => ({
        take: Effect.map(take, convert),
        stream: Stream.map(stream, convert),
        dropped
      })
    )
  }
  return {
    notify: (definition, userId, value, options) => {
      const bad = check("Notifications.notify", definition, userId)
      return bad === undefined ? pubsub.publish(definition.user(userId), value, options) : Effect.fail(bad)
    },
    broadcast: (definition, value, options) => {
      const bad = check("Notifications.broadcast", definition)
      return bad === undefined ? pubsub.publish(definition.everybody, value, options) : Effect.fail(bad)
    },
    subscribeUser: (definition, userId, options) =>
      Stream.unwrapScoped(Effect.map(subscribeUserScoped(definition, userId, options), ({ stream }) => stream)),
    subscribeUserScoped
  }
})

// ---------------------------------------------------------------------------------------------------------------------
// Layers
// ---------------------------------------------------------------------------------------------------------------------

/**
 * @since 0.1.0
 * @category layers
 */
export const layer: Layer.Layer<Notifications, never, PubSub.PubSub> = Layer.effect(Notifications, make)

/**
 * Notifications on a server in memory, with what they need beside them.
 *
 * @since 0.1.0
 * @category layers
 */
export const layerTest: Layer.Layer<Notifications | PubSub.PubSub | RedisClient | RedisTestServer> = Layer.provideMerge(
  layer,
  PubSub.layerTest
)

// ---------------------------------------------------------------------------------------------------------------------
// Accessors
// ---------------------------------------------------------------------------------------------------------------------

/**
 * Notifies one user, and returns how many processes have a socket of that user; on a Cluster, of one node.
 *
 * @since 0.1.0
 * @category accessors
 */
export const notify = <A>(
  definition: Definition<A>,
  userId: string,
  value: A,
  options?: PubSub.PublishOptions
): Effect.Effect<number, RedisError, Notifications> =>
  Effect.flatMap(Notifications, (service) => service.notify(definition, userId, value, options))

/**
 * Notifies everybody, and returns how many processes have sockets; on a Cluster, of one node.
 *
 * @since 0.1.0
 * @category accessors
 */
export const broadcast = <A>(
  definition: Definition<A>,
  value: A,
  options?: PubSub.PublishOptions
): Effect.Effect<number, RedisError, Notifications> =>
  Effect.flatMap(Notifications, (service) => service.broadcast(definition, value, options))

/**
 * What is for the current user and for everybody, as long as the stream runs, in the order in which it was published.
 * The user is the one of the context, where the program's authentication has put it.
 *
 * A `Gap` says that notifications are missing, because a connection was lost or because this socket is too slow: the
 * time to read again what they tell about. One that is too slow harms nobody else.
 *
 * @example
 * ```ts
 * import { Effect, Schema, Stream } from "effect"
 * import { Notifications } from "effect-redis-kit"
 *
 * const Alerts = Notifications.define({ name: "alerts", schema: Schema.Struct({ text: Schema.String }) })
 *
 * const program = Notifications.subscribe(Alerts).pipe(
 *   Stream.runForEach((element) =>
 *     Effect.log(element._tag === "Gap" ? "something is missing" : element.payload.text)
 *   ),
 *   Effect.provideService(Notifications.CurrentUser, { id: "ada" })
 * )
 * ```
 *
 * @since 0.1.0
 * @category accessors
 */
export const subscribe = <A>(
  definition: Definition<A>,
  options?: Options
): Stream.Stream<Notification<A> | PubSub.Gap, RedisError, Notifications | CurrentUser> =>
  Stream.unwrap(
    Effect.map(
      Effect.all([Notifications, CurrentUser]),
      ([service, user]) => service.subscribeUser(definition, user.id, options)
    )
  )

/**
 * As `subscribe`, for as long as the scope is open. When it returns, the server has confirmed: the time to read what
 * there is already, and to tell the client that it is there.
 *
 * @since 0.1.0
 * @category accessors
 */
export const subscribeScoped = <A>(
  definition: Definition<A>,
  options?: Options
): Effect.Effect<
  PubSub.Subscription<Notification<A> | PubSub.Gap>,
  RedisError,
  Notifications | CurrentUser | Scope.Scope
> =>
  Effect.flatMap(
    Effect.all([Notifications, CurrentUser]),
    ([service, user]) => service.subscribeUserScoped(definition, user.id, options)
  )
