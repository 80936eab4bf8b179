/**
 * Who is where, over Redis: the truth is each connection, users follow from it, and that somebody came or went is told
 * once, whatever happens to the processes.
 *
 * @since 0.1.0
 */
import * as Chunk from "effect/Chunk"
import * as Context from "effect/Context"
import * as Data from "effect/Data"
import * as DateTime from "effect/DateTime"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Fiber from "effect/Fiber"
import * as FiberId from "effect/FiberId"
import * as Layer from "effect/Layer"
import * as Metric from "effect/Metric"
import * as Option from "effect/Option"
import * as Random from "effect/Random"
import * as Redacted from "effect/Redacted"
import * as Schedule from "effect/Schedule"
import * as Schema from "effect/Schema"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import * as SubscriptionRef from "effect/SubscriptionRef"
import { randomBytes } from "node:crypto"
import { makeFork } from "../internal/background.js"
import { checkWhole, inputError, nonNegativeMillis, positiveMillis } from "../internal/input.js"
import { mayPass } from "../internal/mayPass.js"
import { checkName } from "../internal/rooms.js"
import { withSpan } from "../internal/telemetry.js"
import { type Gap, type Message, RedisClient } from "../RedisClient.js"
import type { RedisError, RedisInputError } from "../RedisError.js"
import { layer as testServer, type RedisTestServer } from "../RedisTestServer.js"
import * as scripts from "./scripts.js"

// ---------------------------------------------------------------------------------------------------------------------
// Models
// ---------------------------------------------------------------------------------------------------------------------

/**
 * A kind of rooms in which users are present, with what is known of each connection.
 *
 * @since 0.1.0
 * @category models
 */
export interface Definition<M> {
  readonly name: string
  readonly meta: Schema.Schema<M, string>
  readonly ttl: Duration.DurationInput
  readonly lastSeen: Duration.DurationInput
}

/**
 * What is said of a connection when it joins: nothing, when the definition has no `meta`.
 *
 * @since 0.1.0
 * @category models
 */
export type Meta<M> = [void] extends [M] ? [] : [meta: M]

/**
 * A connection of one's own, which is present as long as its scope is open.
 *
 * @since 0.1.0
 * @category models
 */
export interface Present {
  readonly room: string
  readonly user: string
  /** The connection. */
  readonly id: string
  readonly since: DateTime.Utc
  /**
   * How many times this connection was found to be gone, and has joined again: the process was paused for longer than
   * the ttl, or the server has lost its data. The present number comes first, unless it is zero.
   */
  readonly rejoins: Stream.Stream<number>
  /** Leaves before the scope closes. When it fails, the ttl makes an end of it. */
  readonly leave: Effect.Effect<void, RedisError>
}

/**
 * One connection of a user, for example a tab of a browser.
 *
 * @since 0.1.0
 * @category models
 */
export interface Connection<out M> {
  readonly id: string
  readonly since: DateTime.Utc
  /** `None` when the present schema can't read it: another version of the program has written it. */
  readonly meta: Option.Option<M>
}

/**
 * A user who is present, with all connections.
 *
 * @since 0.1.0
 * @category models
 */
export interface Member<out M> {
  readonly user: string
  readonly connections: ReadonlyArray<Connection<M>>
}

/**
 * Some of the users, in the order of the bytes of their names. `next` is what to give as `after` for those behind them.
 *
 * @since 0.1.0
 * @category models
 */
export interface Page<out A> {
  readonly members: ReadonlyArray<A>
  readonly next: Option.Option<string>
}

/**
 * @since 0.1.0
 * @category models
 */
export interface PageOptions {
  /** How many users at most; 100 by default, and no more than 1000. */
  readonly limit?: number | undefined
  /** Users behind this one, whether it is still there or not. */
  readonly after?: string | undefined
}

/**
 * @since 0.1.0
 * @category models
 */
export interface Count {
  readonly users: number
  readonly connections: number
}

/**
 * A user is there who was not: the first connection has joined.
 *
 * @since 0.1.0
 * @category models
 */
export class Joined extends Data.TaggedClass("Joined")<{
  readonly user: string
  readonly at: DateTime.Utc
}> {}

/**
 * A user is gone: the last connection has left, or nothing was heard of it for longer than the ttl (`"expired"`).
 *
 * @since 0.1.0
 * @category models
 */
export class Left extends Data.TaggedClass("Left")<{
  readonly user: string
  readonly at: DateTime.Utc
  readonly reason: "left" | "expired"
}> {}

/**
 * Who came and went. After a `Gap` some of it may be missing: `members` says who is there.
 *
 * @since 0.1.0
 * @category models
 */
export type Event = Joined | Left | Gap

/**
 * @since 0.1.0
 * @category models
 */
export interface Service {
  /**
   * Makes a connection of a user present in a room until the scope closes. Every connection is one of its own, also of
   * the same user. Interrupting it at any point leaves nothing behind.
   */
  readonly join: <M>(
    definition: Definition<M>,
    room: string,
    user: string,
    ...meta: Meta<M>
  ) => Effect.Effect<Present, RedisError, Scope.Scope>
  /** Some of those who are there. */
  readonly members: <M>(
    definition: Definition<M>,
    room: string,
    options?: PageOptions
  ) => Effect.Effect<Page<Member<M>>, RedisError>
  /** All who are there. Who stays all the while comes once; who comes or goes meanwhile may come or not. */
  readonly allMembers: <M>(definition: Definition<M>, room: string) => Stream.Stream<Member<M>, RedisError>
  /** The connections of a user. */
  readonly connections: <M>(
    definition: Definition<M>,
    room: string,
    user: string
  ) => Effect.Effect<ReadonlyArray<Connection<M>>, RedisError>
  readonly isOnline: <M>(definition: Definition<M>, room: string, user: string) => Effect.Effect<boolean, RedisError>
  /**
   * When a connection of the user last gave a sign of life: of one who is there the last heartbeat, and of one who left
   * when that was. `None` when it is not known, or was longer ago than the definition's `lastSeen`.
   */
  readonly lastSeen: <M>(
    definition: Definition<M>,
    room: string,
    user: string
  ) => Effect.Effect<Option.Option<DateTime.Utc>, RedisError>
  readonly count: <M>(definition: Definition<M>, room: string) => Effect.Effect<Count, RedisError>
  /**
   * Who comes and goes, from now on: ready when the server has confirmed it. As long as the scope is open, this process
   * also looks for connections whose time is over. The stream can be run once.
   */
  readonly subscribe: <M>(
    definition: Definition<M>,
    room: string,
    options?: { readonly capacity?: number | undefined }
  ) => Effect.Effect<Stream.Stream<Event>, RedisError, Scope.Scope>
  /** The same for as long as the stream is read. */
  readonly events: <M>(
    definition: Definition<M>,
    room: string,
    options?: { readonly capacity?: number | undefined }
  ) => Stream.Stream<Event, RedisError>
}

/**
 * @since 0.1.0
 * @category tags
 */
export class Presence extends Context.Tag("effect-redis-kit/Presence")<Presence, Service>() {}

// ---------------------------------------------------------------------------------------------------------------------
// Constructors
// ---------------------------------------------------------------------------------------------------------------------

/** For connections of which nothing is said. */
const nothing: Schema.Schema<void, string> = Schema.transform(Schema.String, Schema.Void, {
  strict: true,
  decode: () => undefined,
  encode: () => ""
})

/**
 * Describes a kind of rooms.
 *
 * - `meta`: what is said of each connection, for example the device. Nothing by default
 * - `ttl`: how long a connection is there without a sign of life of its process; 30 seconds by default, and at least
 *   100 milliseconds. Each process gives one every third of it
 * - `lastSeen`: how long it is remembered when somebody was last seen; seven days by default. With zero it is not
 *
 * @example
 * ```ts
 * import { Effect, Schema } from "effect"
 * import { Presence } from "effect-redis-kit"
 *
 * const Documents = Presence.define({
 *   name: "documents",
 *   meta: Schema.Struct({ device: Schema.String }),
 *   ttl: "30 seconds"
 * })
 *
 * const program = Effect.scoped(Effect.gen(function*() {
 *   yield* Presence.join(Documents, "report-7", "ada", { device: "phone" })
 *   const { members } = yield* Presence.members(Documents, "report-7")
 *   yield* Effect.log(members.map(({ user }) => user))
 * }))
 * ```
 *
 * @since 0.1.0
 * @category constructors
 */
export const define: {
  <M, I>(options: {
    readonly name: string
    readonly meta: Schema.Schema<M, I>
    readonly ttl?: Duration.DurationInput | undefined
    readonly lastSeen?: Duration.DurationInput | undefined
  }): Definition<M>
  (options: {
    readonly name: string
    readonly ttl?: Duration.DurationInput | undefined
    readonly lastSeen?: Duration.DurationInput | undefined
  }): Definition<void>
} = <M, I>(options: {
  readonly name: string
  readonly meta?: Schema.Schema<M, I>
  readonly ttl?: Duration.DurationInput | undefined
  readonly lastSeen?: Duration.DurationInput | undefined
}): Definition<any> => ({
  name: options.name,
  meta: options.meta === undefined ? nothing : Schema.parseJson(options.meta),
  ttl: options.ttl ?? "30 seconds",
  lastSeen: options.lastSeen ?? "7 days"
})

/** A heartbeat more often than this would cost more than it tells. */
const SHORTEST_TTL = 100

const MOST_MEMBERS = 1000

/** How many connections one script keeps alive. */
const BATCH = 500

const rejoins = Metric.counter("effect_redis_presence_rejoins_total", {
  description: "Connections that were found to be gone, and have joined again",
  incremental: true
})

/** One connection of this process. */
interface Own {
  readonly member: string
  readonly user: string
  readonly meta: string
  readonly rejoins: SubscriptionRef.SubscriptionRef<number>
}

/** A room in which this process has connections, or of which it wants to hear. */
interface Watched {
  readonly room: scripts.Room
  readonly own: Map<string, Own>
  watchers: number
  fiber: Fiber.RuntimeFiber<void> | undefined
}

const roomOf = <M>(
  operation: string,
  { lastSeen, name, ttl }: Definition<M>,
  room: string,
  channel: (name: string) => string
): Either.Either<scripts.Room, RedisInputError> => {
  const bad = checkName(operation, "name", name) ?? checkName(operation, "room", room)
  if (bad !== undefined) return Either.left(bad)
  const millis = positiveMillis(operation, "ttl", ttl)
  if (Either.isLeft(millis)) return Either.left(millis.left)
  if (millis.right < SHORTEST_TTL) {
    return Either.left(inputError(operation, "ttl", `at least ${SHORTEST_TTL} milliseconds`, millis.right))
  }
  const key = scripts.keyOf(name, room)
  return Either.map(
    nonNegativeMillis(operation, "lastSeen", lastSeen),
    (keep) => ({ key, channel: channel(scripts.channelOf(key)), ttl: millis.right, keep })
  )
}

const connectionsOf = <M>(
  definition: Definition<M>,
  tabs: ReadonlyArray<scripts.Tab>
): ReadonlyArray<Connection<M>> => {
  const decode = Schema.decodeOption(definition.meta)
  return tabs.map(({ id, meta, since }) => ({ id, since: DateTime.unsafeMake(since), meta: decode(meta) }))
}

const eventOf = (message: Message | Gap): Option.Option<Event> => {
  if (message._tag === "Gap") return Option.some(message)
  const [, joined, left, millis = "", user = ""] = /^(?:(joined)|left (left|expired)) (\d+) ([^]+)$/.exec(
    message.payload
  ) ?? []
  const at = DateTime.make(Number(millis))
  if (Option.isNone(at)) return Option.none()
  if (joined !== undefined) return Option.some(new Joined({ user, at: at.value }))
  return left === "left" || left === "expired"
    ? Option.some(new Left({ user, at: at.value, reason: left }))
    : Option.none()
}

/**
 * Presence over the client of the environment. The heartbeats of this process belong to the scope.
 *
 * @since 0.1.0
 * @category constructors
 */
export const make: Effect.Effect<Service, never, RedisClient | Scope.Scope> = Effect.gen(function*() {
  const client = yield* RedisClient
  const run = yield* makeFork
  const process = randomBytes(9).toString("base64url")
  let connections = 0
  const watched = new Map<string, Watched>()

  const nextId = () => process + (connections++).toString(36).padStart(scripts.ID_LENGTH - process.length, "0")

  /** Removes all whose time is over, and counts the others. */
  const drain = (room: scripts.Room): Effect.Effect<Count, RedisError> =>
    Effect.flatMap(
      client.eval(scripts.sweep, room),
      ({ connections, more, users }) => more ? drain(room) : Effect.succeed({ users, connections })
    )

  /** What a script reads is exact when it has left nobody whose time is over. */
  const exact = <A extends { readonly more: boolean }>(
    room: scripts.Room,
    read: Effect.Effect<A, RedisError>
  ): Effect.Effect<A, RedisError> =>
    Effect.flatMap(read, (found) => found.more ? Effect.zipRight(drain(room), read) : Effect.succeed(found))

  /** Of a join that failed, was interrupted or came too late, and that the server may have executed. */
  const abandon = (room: scripts.Room, member: string) =>
    Effect.suspend(() => {
      const fiber = run(
        client.eval(scripts.leave, room, member).pipe(
          Effect.retry({
            schedule: Schedule.spaced("200 millis").pipe(Schedule.upTo(Duration.millis(room.ttl))),
            while: mayPass
          }),
          Effect.ignore
        )
      )
      // The caller is told of its own matter soon, also when the server is away.
      return Effect.timeoutOption(Effect.interruptible(Fiber.await(fiber)), "500 millis")
    })

  const rejoin = (state: Watched, member: string) =>
    Effect.suspend(() => {
      const own = state.own.get(member)
      if (own === undefined) return Effect.void
      return client.eval(scripts.join, state.room, own.user, member, own.meta).pipe(
        // It may have left while this was tried again.
        Effect.onExit(() => state.own.has(member) ? Effect.void : abandon(state.room, member)),
        Effect.zipRight(SubscriptionRef.update(own.rejoins, (n) => n + 1)),
        Effect.zipRight(Effect.sync(() => rejoins.unsafeUpdate(1, []))),
        Effect.zipRight(Effect.logWarning(`a connection of ${state.room.key} was gone, and has joined again`))
      )
    })

  const beat = (state: Watched): Effect.Effect<void, RedisError> =>
    Effect.suspend(() => {
      const members = Array.from(state.own.keys())
      if (members.length === 0) return Effect.asVoid(drain(state.room))
      const batches: Array<ReadonlyArray<string>> = []
      for (let i = 0; i < members.length; i += BATCH) batches.push(members.slice(i, i + BATCH))
      return Effect.forEach(
        batches,
        (batch) =>
          Effect.flatMap(client.eval(scripts.beat, state.room, batch), ({ gone, more }) =>
            Effect.zipRight(
              Effect.forEach(gone, (member) => rejoin(state, member), { concurrency: 64, discard: true }),
              more ? drain(state.room) : Effect.void
            )),
        { concurrency: 4, discard: true }
      )
    })

  const keepAlive = (state: Watched): Effect.Effect<void> => {
    const { key, ttl } = state.room
    const sleep = (millis: number) =>
      Effect.flatMap(Random.next, (jitter) => Effect.sleep(Duration.millis(Math.ceil(millis * (0.8 + 0.2 * jitter)))))
    let failing = false
    // What failed is tried again soon: the ttl goes on.
    const attempt = beat(state).pipe(
      Effect.tapError((error) => {
        if (failing) return Effect.void
        failing = true
        return Effect.logWarning(`no heartbeat for ${key}`, error)
      }),
      Effect.retry(Schedule.spaced(Duration.millis(Math.min(1000, Math.ceil(ttl / 10))))),
      Effect.orDie,
      Effect.zipRight(Effect.sync(() => void (failing = false)))
    )
    return Effect.forever(Effect.zipRight(sleep(ttl / 3), attempt))
  }

  const watch = (room: scripts.Room): Watched => {
    const id = `${room.ttl} ${room.keep} ${room.key}`
    let state = watched.get(id)
    if (state === undefined) {
      state = { room, own: new Map(), watchers: 0, fiber: undefined }
      watched.set(id, state)
    }
    state.watchers++
    state.fiber ??= run(keepAlive(state))
    return state
  }

  const unwatch = (state: Watched): void => {
    state.watchers--
    if (state.watchers > 0) return
    state.fiber?.unsafeInterruptAsFork(FiberId.none)
    watched.delete(`${state.room.ttl} ${state.room.keep} ${state.room.key}`)
  }

  const join = (room: scripts.Room, name: string, user: string, meta: string) =>
    Effect.uninterruptibleMask((restore) =>
      Effect.gen(function*() {
        const id = nextId()
        const member = scripts.memberOf(user, id)
        const own: Own = { member, user, meta, rejoins: yield* SubscriptionRef.make(0) }
        const since = yield* Effect.onError(
          restore(client.eval(scripts.join, room, user, member, meta)),
          () => abandon(room, member)
        )
        const state = watch(room)
        state.own.set(member, own)
        const leave = Effect.suspend(() => {
          if (!state.own.delete(member)) return Effect.void
          unwatch(state)
          return Effect.asVoid(client.eval(scripts.leave, room, member))
        })
        yield* Effect.addFinalizer(() => Effect.ignore(leave))
        const present: Present = {
          room: name,
          user,
          id,
          since: DateTime.unsafeMake(since),
          rejoins: Stream.filter(own.rejoins.changes, (n) => n > 0),
          leave: Effect.uninterruptible(leave)
        }
        return present
      })
    )

  const attributes = (name: string, room: string) => () => ({
    "effect_redis.presence.name": name,
    "effect_redis.presence.room": room
  })

  /** Checks what every operation is given, and makes its span. */
  const within = <M, A, R>(
    operation: string,
    definition: Definition<M>,
    room: string,
    user: string | undefined,
    use: (room: scripts.Room) => Effect.Effect<A, RedisError, R>
  ): Effect.Effect<A, RedisError, R> => {
    const known = roomOf(`Presence.${operation}`, definition, room, client.key)
    if (Either.isLeft(known)) return Effect.fail(known.left)
    const bad = user === undefined ? undefined : checkName(`Presence.${operation}`, "user", user)
    return bad === undefined
      ? withSpan(use(known.right), `presence.${operation}`, attributes(definition.name, room))
      : Effect.fail(bad)
  }

  const subscribe = (
    room: scripts.Room,
    options: { readonly capacity?: number | undefined } | undefined
  ): Effect.Effect<Stream.Stream<Event>, RedisError, Scope.Scope> =>
    client.subscribe({ channels: [scripts.channelOf(room.key)], capacity: options?.capacity }).pipe(
      Effect.zipLeft(
        Effect.acquireRelease(Effect.sync(() => watch(room)), (state) => Effect.sync(() => unwatch(state)))
      ),
      Effect.map((messages) => Stream.filterMap(Stream.fromQueue(messages), eventOf))
    )

  const look = <M>(operation: string, definition: Definition<M>, room: string, user: string) =>
    within(operation, definition, room, user, (room) => client.eval(scripts.look, room, user))

  const members: Service["members"] = (definition, room, options) => {
    const limit = options?.limit ?? 100
    const bad = checkWhole("Presence.members", "limit", 1, MOST_MEMBERS, limit)
    if (bad !== undefined) return Effect.fail(bad)
    return within("members", definition, room, options?.after, (room) =>
      Effect.map(
        exact(room, client.eval(scripts.page, room, limit, options?.after ?? "")),
        ({ next, users }) => ({
          members: users.map(({ tabs, user }) => ({ user, connections: connectionsOf(definition, tabs) })),
          next: Option.fromNullable(next)
        })
      ))
  }

  return {
    join: (definition, name, user, ...[meta]) =>
      within("join", definition, name, user, (room) => {
        const encoded = Schema.encodeEither(definition.meta)(meta as typeof definition.meta.Type)
        return Either.isLeft(encoded)
          // What is wrong may be a secret.
          ? Effect.fail(inputError("Presence.join", "meta", String(definition.meta.ast), Redacted.make("")))
          : join(room, name, user, encoded.right)
      }),
    members,
    allMembers: (definition, room) =>
      Stream.paginateChunkEffect(
        undefined as string | undefined,
        (after) =>
          Effect.map(
            members(definition, room, { limit: MOST_MEMBERS, after }),
            ({ members, next }) => [Chunk.unsafeFromArray(members), next]
          )
      ),
    connections: (definition, room, user) =>
      Effect.map(look("connections", definition, room, user), ({ tabs }) => connectionsOf(definition, tabs)),
    isOnline: (definition, room, user) =>
      Effect.map(look("isOnline", definition, room, user), ({ tabs }) => tabs.length > 0),
    lastSeen: (definition, room, user) =>
      Effect.map(
        look("lastSeen", definition, room, user),
        ({ seen }) => Option.map(Option.fromNullable(seen), (at) => DateTime.unsafeMake(at))
      ),
    count: (definition, room) => within("count", definition, room, undefined, drain),
    subscribe: (definition, room, options) =>
      within("subscribe", definition, room, undefined, (room) => subscribe(room, options)),
    events: (definition, room, options) =>
      Stream.unwrapScoped(within("events", definition, room, undefined, (room) => subscribe(room, options)))
  }
})

// ---------------------------------------------------------------------------------------------------------------------
// Layers
// ---------------------------------------------------------------------------------------------------------------------

/**
 * @since 0.1.0
 * @category layers
 */
export const layer: Layer.Layer<Presence, never, RedisClient> = Layer.scoped(Presence, make)

/**
 * Presence on a server in memory, with the server and its client beside it.
 *
 * @since 0.1.0
 * @category layers
 */
export const layerTest: Layer.Layer<Presence | RedisClient | RedisTestServer> = Layer.provideMerge(layer, testServer)

// ---------------------------------------------------------------------------------------------------------------------
// Accessors
// ---------------------------------------------------------------------------------------------------------------------

/**
 * Makes a connection of a user present in a room until the scope closes.
 *
 * @since 0.1.0
 * @category accessors
 */
export const join = <M>(
  definition: Definition<M>,
  room: string,
  user: string,
  ...meta: Meta<M>
): Effect.Effect<Present, RedisError, Presence | Scope.Scope> =>
  Effect.flatMap(Presence, (service) => service.join(definition, room, user, ...meta))

/**
 * Some of those who are there.
 *
 * @since 0.1.0
 * @category accessors
 */
export const members = <M>(
  definition: Definition<M>,
  room: string,
  options?: PageOptions
): Effect.Effect<Page<Member<M>>, RedisError, Presence> =>
  Effect.flatMap(Presence, (service) => service.members(definition, room, options))

/**
 * All who are there, page by page.
 *
 * @since 0.1.0
 * @category accessors
 */
export const allMembers = <M>(
  definition: Definition<M>,
  room: string
): Stream.Stream<Member<M>, RedisError, Presence> =>
  Stream.unwrap(Effect.map(Presence, (service) => service.allMembers(definition, room)))

/**
 * The connections of a user.
 *
 * @since 0.1.0
 * @category accessors
 */
export const connections = <M>(
  definition: Definition<M>,
  room: string,
  user: string
): Effect.Effect<ReadonlyArray<Connection<M>>, RedisError, Presence> =>
  Effect.flatMap(Presence, (service) => service.connections(definition, room, user))

/**
 * Whether a user has a connection.
 *
 * @since 0.1.0
 * @category accessors
 */
export const isOnline = <M>(
  definition: Definition<M>,
  room: string,
  user: string
): Effect.Effect<boolean, RedisError, Presence> =>
  Effect.flatMap(Presence, (service) => service.isOnline(definition, room, user))

/**
 * When a connection of the user last gave a sign of life.
 *
 * @since 0.1.0
 * @category accessors
 */
export const lastSeen = <M>(
  definition: Definition<M>,
  room: string,
  user: string
): Effect.Effect<Option.Option<DateTime.Utc>, RedisError, Presence> =>
  Effect.flatMap(Presence, (service) => service.lastSeen(definition, room, user))

/**
 * How many users and connections there are.
 *
 * @since 0.1.0
 * @category accessors
 */
export const count = <M>(definition: Definition<M>, room: string): Effect.Effect<Count, RedisError, Presence> =>
  Effect.flatMap(Presence, (service) => service.count(definition, room))

/**
 * Who comes and goes, ready when the server has confirmed it.
 *
 * @since 0.1.0
 * @category accessors
 */
export const subscribe = <M>(
  definition: Definition<M>,
  room: string,
  options?: { readonly capacity?: number | undefined }
): Effect.Effect<Stream.Stream<Event>, RedisError, Presence | Scope.Scope> =>
  Effect.flatMap(Presence, (service) => service.subscribe(definition, room, options))

/**
 * Who comes and goes, for as long as the stream is read.
 *
 * @since 0.1.0
 * @category accessors
 */
export const events = <M>(
  definition: Definition<M>,
  room: string,
  options?: { readonly capacity?: number | undefined }
): Stream.Stream<Event, RedisError, Presence> =>
  Stream.unwrap(Effect.map(Presence, (service) => service.events(definition, room, options)))
