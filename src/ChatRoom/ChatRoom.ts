/**
 * Chat rooms over Redis: members, messages that are stored and delivered in one order, and readers that recover exactly
 * what they have missed, or are told that they can't.
 *
 * @since 0.1.0
 */
import * as Context from "effect/Context"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Layer from "effect/Layer"
import * as Metric from "effect/Metric"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import * as Schema from "effect/Schema"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import { randomBytes } from "node:crypto"
import { checkSchema, checkWhole, inputError, positiveMillis } from "../internal/input.js"
import { checkName } from "../internal/rooms.js"
import { withSpan } from "../internal/telemetry.js"
import * as Presence from "../Presence/index.js"
import { RedisClient } from "../RedisClient.js"
import type { RedisError, RedisInputError } from "../RedisError.js"
import { layer as testServer, type RedisTestServer } from "../RedisTestServer.js"
import { decoder, type Element, encode, Position, type Stored } from "./Element.js"
import * as scripts from "./scripts.js"
import * as Subscription from "./Subscription.js"

// ---------------------------------------------------------------------------------------------------------------------
// Models
// ---------------------------------------------------------------------------------------------------------------------

export {
  type Element,
  HistoryLost,
  MemberJoined,
  MemberLeft,
  Message,
  Position,
  Recovered,
  type Stored,
  Typing,
  Undecodable
} from "./Element.js"

/**
 * A kind of chat rooms, with the type of its messages.
 *
 * @since 0.1.0
 * @category models
 */
export interface Definition<in out A> {
  readonly name: string
  readonly message: Schema.Schema<A, any>
  readonly history: {
    readonly size: number
    readonly ttl: Duration.DurationInput
  }
  readonly idle: Duration.DurationInput
  /** Who is here: rooms of the same names, for all that `Presence` can do. */
  readonly presence: Presence.Definition<void>
}

/**
 * Where a message stands. `duplicate` says that a message of this user with this id was there already; this one was
 * dropped, and the place is that of the first.
 *
 * @since 0.1.0
 * @category models
 */
export interface Sent {
  readonly position: Position
  readonly id: string
  readonly duplicate: boolean
}

/**
 * Some of the messages, oldest first, and the end of the history at that moment: a subscription from there misses
 * nothing.
 *
 * @since 0.1.0
 * @category models
 */
export interface History<A> {
  readonly messages: ReadonlyArray<Stored<A>>
  readonly position: Position
}

/**
 * @since 0.1.0
 * @category models
 */
export interface SubscribeOptions {
  /**
   * Where to begin: behind a position that was seen before, at the `"start"` of what is kept, or `"now"`, which is the
   * default.
   */
  readonly from?: Position | "start" | "now" | undefined
  /**
   * How many elements wait for a slow reader before it has to read from the history; 1024 by default.
   */
  readonly capacity?: number | undefined
}

/**
 * @since 0.1.0
 * @category models
 */
export interface Service {
  /** Makes a user a member, which it stays until it leaves or nothing has happened in the room for `idle`. */
  readonly join: <A>(definition: Definition<A>, room: string, user: string) => Effect.Effect<void, RedisError>
  /** Ends a membership. */
  readonly leave: <A>(definition: Definition<A>, room: string, user: string) => Effect.Effect<void, RedisError>
  readonly isMember: <A>(definition: Definition<A>, room: string, user: string) => Effect.Effect<boolean, RedisError>
  /** Some of the members, whether they are here or not. */
  readonly members: <A>(
    definition: Definition<A>,
    room: string,
    options?: Presence.PageOptions
  ) => Effect.Effect<Presence.Page<string>, RedisError>
  /** How many members there are. */
  readonly memberCount: <A>(definition: Definition<A>, room: string) => Effect.Effect<number, RedisError>
  /** Makes a connection of a member present until the scope closes. */
  readonly enter: <A>(
    definition: Definition<A>,
    room: string,
    user: string
  ) => Effect.Effect<Presence.Present, NotAMember | RedisError, Scope.Scope>
  /** Some of the members who are here. */
  readonly here: <A>(
    definition: Definition<A>,
    room: string,
    options?: Presence.PageOptions
  ) => Effect.Effect<Presence.Page<string>, RedisError>
  /**
   * Sends a message of a member. With an `id` of its own a message can be sent again, as long as the id is remembered,
   * and is stored and delivered once.
   */
  readonly send: <A>(
    definition: Definition<A>,
    room: string,
    user: string,
    message: A,
    options?: { readonly id?: string | undefined }
  ) => Effect.Effect<Sent, NotAMember | RedisError>
  /** Tells those who are subscribed that a member types, or has stopped. It is not stored. */
  readonly typing: <A>(
    definition: Definition<A>,
    room: string,
    user: string,
    typing?: boolean
  ) => Effect.Effect<void, NotAMember | RedisError>
  /** The last messages, or the last before an offset. */
  readonly history: <A>(
    definition: Definition<A>,
    room: string,
    options?: {
      /** Only messages before this offset. */
      readonly before?: number | undefined
      /** 50 by default, and no more than 1000. */
      readonly limit?: number | undefined
    }
  ) => Effect.Effect<History<A>, RedisError>
  /**
   * What happens in the room. Messages come in the order of the history, each once; after an outage the missed ones
   * come first. When some of them can't be had any more, a `HistoryLost` stands in their place.
   *
   * It is ready when the server has confirmed it. The stream can be run once, as long as the scope is open.
   */
  readonly subscribe: <A>(
    definition: Definition<A>,
    room: string,
    options?: SubscribeOptions
  ) => Effect.Effect<Stream.Stream<Element<A>, RedisError>, RedisError, Scope.Scope>
  /** The same for as long as the stream is read. */
  readonly events: <A>(
    definition: Definition<A>,
    room: string,
    options?: SubscribeOptions
  ) => Stream.Stream<Element<A>, RedisError>
}

/**
 * @since 0.1.0
 * @category tags
 */
export class ChatRoom extends Context.Tag("effect-redis-kit/ChatRoom")<ChatRoom, Service>() {}

// ---------------------------------------------------------------------------------------------------------------------
// Errors
// ---------------------------------------------------------------------------------------------------------------------

/**
 * Only members may do this. Nothing was sent to anybody.
 *
 * @since 0.1.0
 * @category errors
 */
export class NotAMember extends Schema.TaggedError<NotAMember>("effect-redis-kit/ChatRoom/NotAMember")("NotAMember", {
  name: Schema.String,
  room: Schema.String,
  user: Schema.String
}) {
  /** @since 0.1.0 */
  override get message(): string {
    return `"${this.user}" is not a member of the room "${this.room}"`
  }
}

// ---------------------------------------------------------------------------------------------------------------------
// Constructors
// ---------------------------------------------------------------------------------------------------------------------

/**
 * Describes a kind of chat rooms.
 *
 * - `history`: how many messages are kept (100 by default), and for how long after the last one (a day by default)
 * - `idle`: how long members stay members when nobody joins or sends; 30 days by default
 * - `presence`: `ttl` and `lastSeen` of who is here, as in `Presence.define`
 *
 * @example
 * ```ts
 * import { Effect, Schema, Stream } from "effect"
 * import { ChatRoom } from "effect-redis-kit"
 *
 * const Support = ChatRoom.define({
 *   name: "support",
 *   message: Schema.Struct({ text: Schema.String }),
 *   history: { size: 500, ttl: "7 days" }
 * })
 *
 * const program = Effect.gen(function*() {
 *   yield* ChatRoom.join(Support, "order-42", "ada")
 *   yield* ChatRoom.send(Support, "order-42", "ada", { text: "Where is it?" })
 *   yield* ChatRoom.events(Support, "order-42", { from: "start" }).pipe(Stream.runForEach(Effect.log))
 * })
 * ```
 *
 * @since 0.1.0
 * @category constructors
 */
export const define = <A, I>(options: {
  readonly name: string
  readonly message: Schema.Schema<A, I>
  readonly history?: {
    readonly size?: number | undefined
    readonly ttl?: Duration.DurationInput | undefined
  } | undefined
  readonly idle?: Duration.DurationInput | undefined
  readonly presence?: {
    readonly ttl?: Duration.DurationInput | undefined
    readonly lastSeen?: Duration.DurationInput | undefined
  } | undefined
}): Definition<A> => ({
  name: options.name,
  message: options.message,
  history: { size: options.history?.size ?? 100, ttl: options.history?.ttl ?? "1 day" },
  idle: options.idle ?? "30 days",
  presence: Presence.define({ ...options.presence, name: `chat.${options.name}` })
})

const MOST_HISTORY = 100_000

const MOST_PAGE = 1000

const sent = Metric.counter("effect_redis_chat_messages_total", {
  description: "Messages sent to chat rooms",
  incremental: true
})

const roomOf = <A>(
  operation: string,
  { history, idle, name }: Definition<A>,
  room: string,
  channel: (name: string) => string
): Either.Either<scripts.Room, RedisInputError> => {
  const bad = checkName(operation, "name", name) ?? checkName(operation, "room", room) ??
    checkWhole(operation, "history.size", 1, MOST_HISTORY, history.size)
  if (bad !== undefined) return Either.left(bad)
  const key = scripts.keyOf(name, room)
  return Either.zipWith(
    positiveMillis(operation, "history.ttl", history.ttl),
    positiveMillis(operation, "idle", idle),
    (ttl, idle) => ({ key, channel: channel(scripts.channelOf(key)), size: history.size, ttl, idle })
  )
}

/**
 * Chat rooms over the client and the presence of the environment.
 *
 * @since 0.1.0
 * @category constructors
 */
export const make: Effect.Effect<Service, never, RedisClient | Presence.Presence> = Effect.gen(function*() {
  const client = yield* RedisClient
  const presence = yield* Presence.Presence
  const process = randomBytes(12).toString("base64url")
  let ids = 0
  const nextId = () => `${process}.${ids++}`

  /** Checks what every operation is given, and makes its span. */
  const within = <A, B, E, R>(
    operation: string,
    definition: Definition<A>,
    name: string,
    user: string | undefined,
    use: (room: scripts.Room) => Effect.Effect<B, E, R>
  ): Effect.Effect<B, E | RedisInputError, R> => {
    const room = roomOf(`ChatRoom.${operation}`, definition, name, client.key)
    if (Either.isLeft(room)) return Effect.fail(room.left)
    const bad = user === undefined ? undefined : checkName(`ChatRoom.${operation}`, "user", user)
    return bad === undefined
      ? withSpan(use(room.right), `chat.${operation}`, () => ({
        "effect_redis.chat.name": definition.name,
        "effect_redis.chat.room": name
      }))
      : Effect.fail(bad)
  }

  const membersKey = ({ key }: scripts.Room) => scripts.keysOf(key)[0]!

  const isMember = (room: scripts.Room, user: string) =>
    Effect.map(client.zscore(membersKey(room), user), Option.isSome)

  const refused = <A>({ name }: Definition<A>, room: string, user: string) =>
    Effect.fail(new NotAMember({ name, room, user }))

  const subscribe = <A>(
    operation: string,
    definition: Definition<A>,
    name: string,
    options: SubscribeOptions | undefined
  ) => {
    const from = options?.from ?? "now"
    if (typeof from !== "string") {
      const position = checkSchema(`ChatRoom.${operation}`, Position, from)
      if (Either.isLeft(position)) return Effect.fail(position.left)
    }
    return within(
      operation,
      definition,
      name,
      undefined,
      (room) => Subscription.make(client, room, decoder(definition.message), from, options?.capacity)
    )
  }

  return {
    join: (definition, name, user) =>
      within("join", definition, name, user, (room) => Effect.asVoid(client.eval(scripts.join, room, user))),
    leave: (definition, name, user) =>
      within("leave", definition, name, user, (room) => Effect.asVoid(client.eval(scripts.leave, room, user))),
    isMember: (definition, name, user) => within("isMember", definition, name, user, (room) => isMember(room, user)),
    members: (definition, name, options) => {
      const limit = options?.limit ?? 100
      const after = options?.after
      const bad = checkWhole("ChatRoom.members", "limit", 1, MOST_PAGE, limit)
      return bad === undefined
        ? within("members", definition, name, after, (room) =>
          Effect.map(
            client.zrange(membersKey(room), {
              by: "lex",
              min: after === undefined ? undefined : { exclusive: after },
              limit: { offset: 0, count: limit + 1 }
            }),
            (names) => ({
              members: names.slice(0, limit),
              next: Option.fromNullable(names.length > limit ? names[limit - 1] : undefined)
            })
          ))
        : Effect.fail(bad)
    },
    memberCount: (definition, name) =>
      within("memberCount", definition, name, undefined, (room) => client.zcard(membersKey(room))),
    enter: (definition, name, user) =>
      within("enter", definition, name, user, (room) =>
        Effect.flatMap(
          isMember(room, user),
          (isMember): Effect.Effect<Presence.Present, NotAMember | RedisError, Scope.Scope> =>
            isMember ? presence.join(definition.presence, name, user) : refused(definition, name, user)
        )),
    here: (definition, name, options) =>
      Effect.map(
        presence.members(definition.presence, name, options),
        ({ members, next }) => ({ members: members.map(({ user }) => user), next })
      ),
    send: (definition, name, user, message, options) =>
      within(
        "send",
        definition,
        name,
        user,
        (room) =>
          Effect.suspend((): Effect.Effect<Sent, NotAMember | RedisError> => {
            const id = options?.id ?? nextId()
            const bad = checkName("ChatRoom.send", "id", id)
            if (bad !== undefined) return Effect.fail(bad)
            const body = encode(definition.message, id, user, message)
            if (Either.isLeft(body)) {
              return Effect.fail(
                // What is wrong may be a secret.
                inputError("ChatRoom.send", "message", String(definition.message.ast), Redacted.make(""))
              )
            }
            return Effect.flatMap(client.eval(scripts.send, room, user, id, body.right, nextId()), (result) => {
              if (result === undefined) return refused(definition, name, user)
              const { epoch, offset } = result
              // An id that was made up for this message is there already when a lost reply was asked for again.
              const duplicate = result.duplicate && options?.id !== undefined
              if (!duplicate) sent.unsafeUpdate(1, [])
              return Effect.succeed({ position: { epoch, offset }, id, duplicate })
            })
          })
      ),
    typing: (definition, name, user, typing = true) =>
      within("typing", definition, name, user, (room) =>
        Effect.flatMap(
          client.eval(scripts.typing, room, user, typing),
          (isMember) => isMember ? Effect.void : refused(definition, name, user)
        )),
    history: (definition, name, options) => {
      const limit = options?.limit ?? 50
      const before = options?.before
      const bad = checkWhole("ChatRoom.history", "limit", 1, MOST_PAGE, limit) ??
        (before === undefined
          ? undefined
          : checkWhole("ChatRoom.history", "before", 1, Number.MAX_SAFE_INTEGER, before))
      if (bad !== undefined) return Effect.fail(bad)
      const decode = decoder(definition.message)
      return within(
        "history",
        definition,
        name,
        undefined,
        (room) =>
          Effect.map(client.eval(scripts.before, room, before ?? 0, limit), ({ entries, epoch, offset }) => ({
            messages: entries.map(({ at, body, offset }) => decode({ epoch, offset }, at, body)).reverse(),
            position: { epoch, offset }
          }))
      )
    },
    subscribe: (definition, name, options) => subscribe("subscribe", definition, name, options),
    events: (definition, name, options) => Stream.unwrapScoped(subscribe("events", definition, name, options))
  }
})

// ---------------------------------------------------------------------------------------------------------------------
// Layers
// ---------------------------------------------------------------------------------------------------------------------

/**
 * Chat rooms, with the presence that is built together with them.
 *
 * @since 0.1.0
 * @category layers
 */
export const layer: Layer.Layer<ChatRoom, never, RedisClient> = Layer.provide(
  Layer.effect(ChatRoom, make),
  Presence.layer
)

/**
 * Chat rooms on a server in memory, with the server and its client beside it.
 *
 * @since 0.1.0
 * @category layers
 */
export const layerTest: Layer.Layer<ChatRoom | RedisClient | RedisTestServer> = Layer.provideMerge(layer, testServer)

// ---------------------------------------------------------------------------------------------------------------------
// Accessors
// ---------------------------------------------------------------------------------------------------------------------

/**
 * Makes a user a member.
 *
 * @since 0.1.0
 * @category accessors
 */
export const join = <A>(
  definition: Definition<A>,
  room: string,
  user: string
): Effect.Effect<void, RedisError, ChatRoom> =>
  Effect.flatMap(ChatRoom, (service) => service.join(definition, room, user))

/**
 * Ends a membership.
 *
 * @since 0.1.0
 * @category accessors
 */
export const leave = <A>(
  definition: Definition<A>,
  room: string,
  user: string
): Effect.Effect<void, RedisError, ChatRoom> =>
  Effect.flatMap(ChatRoom, (service) => service.leave(definition, room, user))

/**
 * Whether a user is a member.
 *
 * @since 0.1.0
 * @category accessors
 */
export const isMember = <A>(
  definition: Definition<A>,
  room: string,
  user: string
): Effect.Effect<boolean, RedisError, ChatRoom> =>
  Effect.flatMap(ChatRoom, (service) => service.isMember(definition, room, user))

/**
 * Some of the members, whether they are here or not.
 *
 * @since 0.1.0
 * @category accessors
 */
export const members = <A>(
  definition: Definition<A>,
  room: string,
  options?: Presence.PageOptions
): Effect.Effect<Presence.Page<string>, RedisError, ChatRoom> =>
  Effect.flatMap(ChatRoom, (service) => service.members(definition, room, options))

/**
 * How many members there are.
 *
 * @since 0.1.0
 * @category accessors
 */
export const memberCount = <A>(
  definition: Definition<A>,
  room: string
): Effect.Effect<number, RedisError, ChatRoom> =>
  Effect.flatMap(ChatRoom, (service) => service.memberCount(definition, room))

/**
 * Makes a connection of a member present until the scope closes.
 *
 * @since 0.1.0
 * @category accessors
 */
export const enter = <A>(
  definition: Definition<A>,
  room: string,
  user: string
): Effect.Effect<Presence.Present, NotAMember | RedisError, ChatRoom | Scope.Scope> =>
  Effect.flatMap(ChatRoom, (service) => service.enter(definition, room, user))

/**
 * Some of the members who are here.
 *
 * @since 0.1.0
 * @category accessors
 */
export const here = <A>(
  definition: Definition<A>,
  room: string,
  options?: Presence.PageOptions
): Effect.Effect<Presence.Page<string>, RedisError, ChatRoom> =>
  Effect.flatMap(ChatRoom, (service) => service.here(definition, room, options))

/**
 * Sends a message of a member.
 *
 * @since 0.1.0
 * @category accessors
 */
export const send = <A>(
  definition: Definition<A>,
  room: string,
  user: string,
  message: A,
  options?: { readonly id?: string | undefined }
): Effect.Effect<Sent, NotAMember | RedisError, ChatRoom> =>
  Effect.flatMap(ChatRoom, (service) => service.send(definition, room, user, message, options))

/**
 * Tells those who are subscribed that a member types, or has stopped.
 *
 * @since 0.1.0
 * @category accessors
 */
export const typing = <A>(
  definition: Definition<A>,
  room: string,
  user: string,
  typing?: boolean
): Effect.Effect<void, NotAMember | RedisError, ChatRoom> =>
  Effect.flatMap(ChatRoom, (service) => service.typing(definition, room, user, typing))

/**
 * The last messages, or the last before an offset.
 *
 * @since 0.1.0
 * @category accessors
 */
export const history = <A>(
  definition: Definition<A>,
  room: string,
  options?: { readonly before?: number | undefined; readonly limit?: number | undefined }
): Effect.Effect<History<A>, RedisError, ChatRoom> =>
  Effect.flatMap(ChatRoom, (service) => service.history(definition, room, options))

/**
 * What happens in the room, ready when the server has confirmed it.
 *
 * @since 0.1.0
 * @category accessors
 */
export const subscribe = <A>(
  definition: Definition<A>,
  room: string,
  options?: SubscribeOptions
): Effect.Effect<Stream.Stream<Element<A>, RedisError>, RedisError, ChatRoom | Scope.Scope> =>
  Effect.flatMap(ChatRoom, (service) => service.subscribe(definition, room, options))

/**
 * What happens in the room, for as long as the stream is read.
 *
 * @since 0.1.0
 * @category accessors
 */
export const events = <A>(
  definition: Definition<A>,
  room: string,
  options?: SubscribeOptions
): Stream.Stream<Element<A>, RedisError, ChatRoom> =>
  Stream.unwrap(Effect.map(ChatRoom, (service) => service.events(definition, room, options)))
