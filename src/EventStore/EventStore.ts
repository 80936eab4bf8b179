/**
 * Event stores over Redis: the history of aggregates, appended with an expected version, read again in order, and followed
 * by projections.
 *
 * @since 0.1.0
 */
import * as Chunk from "effect/Chunk"
import * as Context from "effect/Context"
import type * as DateTime from "effect/DateTime"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as ParseResult from "effect/ParseResult"
import * as Redacted from "effect/Redacted"
import type * as Schedule from "effect/Schedule"
import * as Schema from "effect/Schema"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import { randomBytes } from "node:crypto"
import { checkWhole, inputError, positiveMillis } from "../internal/input.js"
import { checkName } from "../internal/rooms.js"
import { hashSlot } from "../internal/slot.js"
import { withSpan } from "../internal/telemetry.js"
import * as Lock from "../Lock/Lock.js"
import { RedisClient, type Service as Client } from "../RedisClient.js"
import type { RedisError, RedisInputError } from "../RedisError.js"
import { layer as testServer, type RedisTestServer } from "../RedisTestServer.js"
import * as Codec from "./codec.js"
import type { Tagged } from "./codec.js"
import {
  type Aggregate,
  type EventDecodeError,
  ExpectedVersion,
  PartitionsMismatch,
  VersionConflict
} from "./EventStoreError.js"
import * as metrics from "./metrics.js"
import * as Projection from "./Projection.js"
import * as Reader from "./Reader.js"
import * as scripts from "./scripts.js"

// ---------------------------------------------------------------------------------------------------------------------
// Models
// ---------------------------------------------------------------------------------------------------------------------

export { Aggregate, ExpectedVersion } from "./EventStoreError.js"

export type { Tagged } from "./codec.js"

/**
 * A store: its name, and the type of its events `A` and of what is written beside them, `M`.
 *
 * @since 0.1.0
 * @category models
 */
export interface Definition<in out A extends Tagged, in out M> {
  readonly name: string
  readonly partitions: number
  readonly retryWindow: Duration.DurationInput
  readonly id: ((event: A) => string) | undefined
  readonly codec: Codec.Codec<A, M>
}

/**
 * An event with everything that is known about it.
 *
 * @since 0.1.0
 * @category models
 */
export interface Recorded<out A, out M> {
  readonly id: string
  /** Its `_tag` when it was written. */
  readonly type: string
  readonly aggregate: Aggregate
  /** Its number among the events of the aggregate, from 1 on. */
  readonly version: number
  readonly partition: number
  /** Where it stands among all events of the partition. Only the store knows which of two positions is the later one. */
  readonly position: string
  /** By the server's clock. */
  readonly timestamp: DateTime.Utc
  readonly metadata: M
  readonly data: A
}

/**
 * What a program gives along with events.
 *
 * @since 0.1.0
 * @category models
 */
export type WithMetadata<M> = {} extends M ? { readonly metadata?: M | undefined } : { readonly metadata: M }

/**
 * @since 0.1.0
 * @category models
 */
export type AppendOptions<M> = WithMetadata<M> & {
  /** What must be true of the aggregate; `"any"` by default. */
  readonly expected?: ExpectedVersion | undefined
  /**
   * Names the append, so that it can be made again, also by another process: the events get the ids `id.1`, `id.2` and so
   * on. Without it each append is another one, and only the client itself repeats it.
   */
  readonly id?: string | undefined
}

/**
 * What became of an append. `duplicate` says that the same events were there already.
 *
 * @since 0.1.0
 * @category models
 */
export interface Appended {
  /** Of the last event of the append. */
  readonly version: number
  readonly partition: number
  /** Of the last event of the append; empty when there was none. */
  readonly position: string
  readonly duplicate: boolean
}

/**
 * Which events of an aggregate: from a version (1 by default) to another, both included, and how many.
 *
 * @since 0.1.0
 * @category models
 */
export interface LoadOptions {
  readonly from?: number | undefined
  readonly to?: number | undefined
  readonly limit?: number | undefined
}

/**
 * Events of an aggregate, oldest first. `version` is that of the last of them, and 0 when there are none.
 *
 * @since 0.1.0
 * @category models
 */
export interface Loaded<out A, out M> {
  readonly version: number
  readonly events: ReadonlyArray<Recorded<A, M>>
}

/**
 * Which events of a partition.
 *
 * @since 0.1.0
 * @category models
 */
export interface ReadOptions {
  /** It can be left out when the store has one. */
  readonly partition?: number | undefined
  /** Only events behind this position; all by default. */
  readonly after?: string | undefined
  /** Only events of aggregates of this type. */
  readonly category?: string | undefined
}

/**
 * Some events of a partition, in order. Whoever goes on from `position` misses nothing.
 *
 * @since 0.1.0
 * @category models
 */
export interface Page<out A, out M> {
  readonly events: ReadonlyArray<Either.Either<Recorded<A, M>, EventDecodeError>>
  readonly position: string
  /** Whether there was nothing behind it at that moment. */
  readonly end: boolean
}

/**
 * Which events to follow. Without a partition it is all of them, and then `after` can't be a position.
 *
 * @since 0.1.0
 * @category models
 */
export interface SubscribeOptions {
  readonly partition?: number | undefined
  /** Only events behind this position, or only those that come from `"now"` on; all by default. */
  readonly after?: string | undefined
  /** Only events of aggregates of this type. */
  readonly category?: string | undefined
}

/**
 * The state of an aggregate, kept so that not all of its history has to be read. It can be thrown away at any time.
 *
 * @since 0.1.0
 * @category models
 */
export interface Snapshot<in out S> {
  readonly name: string
  readonly state: Schema.Schema<S, any>
  readonly version: number
}

/**
 * A state, and the version of the aggregate that it belongs to.
 *
 * @since 0.1.0
 * @category models
 */
export interface Versioned<out S> {
  readonly version: number
  readonly state: S
}

/**
 * How aggregates of a type decide: what they are before anything has happened, what an event makes of them, and which
 * events a command leads to.
 *
 * @since 0.1.0
 * @category models
 */
export interface Decider<in out S, in C, in out A extends Tagged, out E, out R> {
  readonly type: string
  readonly initial: S
  readonly evolve: (state: S, event: A) => S
  readonly decide: (command: C, state: S) => Effect.Effect<ReadonlyArray<A>, E, R>
  readonly snapshot: Snapshot<S> | undefined
  readonly snapshotEvery: number
  readonly conflictRetries: number
}

/**
 * @since 0.1.0
 * @category models
 */
export type ExecuteOptions<M> = WithMetadata<M> & {
  /** The version that the command was made for. With any other it fails, and is not decided again. */
  readonly expected?: number | undefined
}

/**
 * What a command has led to.
 *
 * @since 0.1.0
 * @category models
 */
export interface Executed<out S, out A> extends Versioned<S> {
  readonly events: ReadonlyArray<A>
}

/**
 * How a projection works.
 *
 * @since 0.1.0
 * @category models
 */
export interface ProjectionOptions<in A, in M, in out E, out R> {
  /** Names its checkpoint. Under another name it begins at the start again. */
  readonly name: string
  /** Only events of aggregates of this type. */
  readonly category?: string | undefined
  /**
   * Called for one event of a partition after the other, and for each one at least once: again when it fails, and for the
   * last few after a crash.
   */
  readonly handle: (event: Recorded<A, M>) => Effect.Effect<unknown, E, R>
  /** What to do about an event that can't be read, before going on behind it. By default the projection fails with it. */
  readonly onUndecodable?: ((error: EventDecodeError) => Effect.Effect<unknown, E, R>) | undefined
  /** After how many events the checkpoint is stored at the latest; 100 by default. */
  readonly batch?: number | undefined
  /**
   * How to try again when handling an event fails. By default for ever, at first after 100 milliseconds and at last every
   * 30 seconds. When the schedule ends, the projection fails.
   */
  readonly retry?: Schedule.Schedule<unknown, E> | undefined
  /** How long the projection stands still when the process that runs it dies; 10 seconds by default. */
  readonly lease?: Duration.DurationInput | undefined
}

/**
 * How far a projection has come in a partition.
 *
 * @since 0.1.0
 * @category models
 */
export interface ProjectionStatus {
  readonly partition: number
  /** The position of the last event that counts as handled. */
  readonly position: string
  /** How many events there are behind it, of whatever category. */
  readonly behind: number
}

/**
 * The events of a store.
 *
 * @since 0.1.0
 * @category models
 */
export interface Store<in out A extends Tagged, in out M> {
  readonly definition: Definition<A, M>
  /**
   * Appends events to an aggregate, all or none. A repeated append is recognised by the ids of its events: for ever when a
   * version or `"no-stream"` is expected, and for `retryWindow` otherwise. Without events nothing is written.
   */
  readonly append: (
    aggregate: Aggregate,
    events: ReadonlyArray<A>,
    ...options: {} extends M ? [options?: AppendOptions<M>] : [options: AppendOptions<M>]
  ) => Effect.Effect<Appended, VersionConflict | RedisError>
  /** The events of an aggregate, at once. */
  readonly load: (
    aggregate: Aggregate,
    options?: LoadOptions
  ) => Effect.Effect<Loaded<A, M>, EventDecodeError | RedisError>
  /** The same, page by page. */
  readonly stream: (
    aggregate: Aggregate,
    options?: LoadOptions
  ) => Stream.Stream<Recorded<A, M>, EventDecodeError | RedisError>
  /** The version of the last event of an aggregate, and 0 when it has none. */
  readonly version: (aggregate: Aggregate) => Effect.Effect<number, RedisError>
  /** The partition that an aggregate is in. */
  readonly partitionOf: (aggregate: Aggregate) => number
  /** The events of a partition behind a position, of all aggregates, 100 at most by default. */
  readonly since: (
    options?: ReadOptions & { readonly limit?: number | undefined }
  ) => Effect.Effect<Page<A, M>, RedisError>
  /** All events there are, page by page: of a partition, or of all of them, one after the other. */
  readonly replay: (options?: ReadOptions) => Stream.Stream<Recorded<A, M>, EventDecodeError | RedisError>
  /**
   * All events there are, and then those that come, without end. Events of one partition come in order, each once. When
   * one can't be read it fails after those before it, with the position to go on from.
   */
  readonly subscribe: (options?: SubscribeOptions) => Stream.Stream<Recorded<A, M>, EventDecodeError | RedisError>
  /**
   * Handles all events and then those that come, from where the projection was when it was stopped. Of all processes that
   * run it, one works on each partition at a time. It ends when an event can't be handled.
   */
  readonly project: <E, R>(
    options: ProjectionOptions<A, M, E, R>
  ) => Effect.Effect<never, E | EventDecodeError | RedisError, R>
  /** How far a projection has come. */
  readonly projectionStatus: (name: string) => Effect.Effect<ReadonlyArray<ProjectionStatus>, RedisError>
  /** Makes a projection begin at the start again, also where it runs at this moment. */
  readonly resetProjection: (name: string) => Effect.Effect<void, RedisError>
  /** Keeps the state of an aggregate at a version, unless a later one is kept. Returns whether it was. */
  readonly saveSnapshot: <S>(
    snapshot: Snapshot<S>,
    aggregate: Aggregate,
    at: Versioned<S>
  ) => Effect.Effect<boolean, RedisError>
  /** The last snapshot; `None` when there is none that this version of its schema can read. */
  readonly loadSnapshot: <S>(
    snapshot: Snapshot<S>,
    aggregate: Aggregate
  ) => Effect.Effect<Option.Option<Versioned<S>>, RedisError>
  /** The present state of an aggregate. */
  readonly state: <S, C, E, R>(
    decider: Decider<S, C, A, E, R>,
    id: string
  ) => Effect.Effect<Versioned<S>, EventDecodeError | RedisError>
  /**
   * Decides on a command by the present state, and appends what comes out of it. When somebody else has appended meanwhile
   * it decides again by what is true then, `conflictRetries` times at most.
   */
  readonly execute: <S, C, E, R>(
    decider: Decider<S, C, A, E, R>,
    id: string,
    command: C,
    ...options: {} extends M ? [options?: ExecuteOptions<M>] : [options: ExecuteOptions<M>]
  ) => Effect.Effect<Executed<S, A>, E | VersionConflict | EventDecodeError | RedisError, R>
}

/**
 * @since 0.1.0
 * @category models
 */
export interface Service {
  /** The events of a definition. It makes sure that the store has so many partitions, which can't be changed later. */
  readonly open: <A extends Tagged, M>(
    definition: Definition<A, M>
  ) => Effect.Effect<Store<A, M>, PartitionsMismatch | RedisError>
}

/**
 * @since 0.1.0
 * @category tags
 */
export class EventStore extends Context.Tag("effect-redis-kit/EventStore")<EventStore, Service>() {}

// ---------------------------------------------------------------------------------------------------------------------
// Errors
// ---------------------------------------------------------------------------------------------------------------------

export { EventDecodeError, PartitionsMismatch, VersionConflict } from "./EventStoreError.js"

// ---------------------------------------------------------------------------------------------------------------------
// Constructors
// ---------------------------------------------------------------------------------------------------------------------

const Anything = Schema.Record({ key: Schema.String, value: Schema.Unknown })

/**
 * Describes a store.
 *
 * - `event`: a union of all events, each with a `_tag`
 * - `metadata`: what is written beside each event, as who has caused it; any JSON object by default
 * - `upcasters`: for a type whose form has changed, a schema for each change, oldest first. It decodes the form before to
 *   the form after, both as they are stored
 * - `id`: the id of an event, when it has one of its own. It makes every append repeatable
 * - `partitions`: over how many parts of the store aggregates are spread, 1 by default. A Cluster can have them on
 *   different nodes. It can't be changed later
 * - `retryWindow`: how long an append is recognised that expects `"any"` or `"exists"`; 10 minutes by default
 *
 * @example
 * ```ts
 * import { Effect, Schema } from "effect"
 * import { EventStore } from "effect-redis-kit"
 *
 * class Opened extends Schema.TaggedClass<Opened>()("Opened", { owner: Schema.String }) {}
 * class Deposited extends Schema.TaggedClass<Deposited>()("Deposited", { amount: Schema.Number }) {}
 *
 * const Accounts = EventStore.define({ name: "accounts", event: Schema.Union(Opened, Deposited) })
 *
 * const program = Effect.gen(function*() {
 *   const accounts = yield* EventStore.open(Accounts)
 *   const account = { type: "account", id: "42" }
 *   yield* accounts.append(account, [new Opened({ owner: "ada" })], { expected: "no-stream" })
 *   yield* accounts.append(account, [new Deposited({ amount: 10 })], { expected: 1 })
 *   const { events, version } = yield* accounts.load(account)
 * })
 * ```
 *
 * @since 0.1.0
 * @category constructors
 */
export const define: {
  <A extends Tagged, I, M, MI>(options: {
    readonly name: string
    readonly event: Schema.Schema<A, I>
    readonly metadata: Schema.Schema<M, MI>
    readonly upcasters?: Readonly<Record<string, ReadonlyArray<Schema.Schema<any, any>>>> | undefined
    readonly id?: ((event: A) => string) | undefined
    readonly partitions?: number | undefined
    readonly retryWindow?: Duration.DurationInput | undefined
  }): Definition<A, M>
  <A extends Tagged, I>(options: {
    readonly name: string
    readonly event: Schema.Schema<A, I>
    readonly upcasters?: Readonly<Record<string, ReadonlyArray<Schema.Schema<any, any>>>> | undefined
    readonly id?: ((event: A) => string) | undefined
    readonly partitions?: number | undefined
    readonly retryWindow?: Duration.DurationInput | undefined
  }): Definition<A, { readonly [name: string]: unknown }>
} = <A extends Tagged>(options: {
  readonly name: string
  readonly event: Schema.Schema<A, any>
  readonly metadata?: Schema.Schema<any, any>
  readonly upcasters?: Readonly<Record<string, ReadonlyArray<Schema.Schema<any, any>>>> | undefined
  readonly id?: ((event: A) => string) | undefined
  readonly partitions?: number | undefined
  readonly retryWindow?: Duration.DurationInput | undefined
}): Definition<A, any> => ({
  name: options.name,
  partitions: options.partitions ?? 1,
  retryWindow: options.retryWindow ?? "10 minutes",
  id: options.id,
  codec: Codec.make(options.event, options.metadata ?? Anything, options.upcasters ?? {})
})

/**
 * Describes snapshots. One of an older `version` of the schema counts as none; so does one that does not fit.
 *
 * @since 0.1.0
 * @category constructors
 */
export const snapshot = <S, I>(options: {
  readonly name: string
  readonly state: Schema.Schema<S, I>
  /** 1 by default. It has to grow whenever `evolve` or the schema changes. */
  readonly version?: number | undefined
}): Snapshot<S> => ({ name: options.name, state: options.state, version: options.version ?? 1 })

/**
 * Describes how aggregates of a type decide. `decide` is run again when its decision came too late, so it does nothing
 * that must not be done twice.
 *
 * - `snapshot`: where the state is kept, after every `snapshotEvery` events (100 by default)
 * - `conflictRetries`: how often a command is decided again because somebody else was faster; 10 by default
 *
 * @example
 * ```ts
 * import { Data, Effect, Schema } from "effect"
 * import { EventStore } from "effect-redis-kit"
 *
 * class Deposited extends Schema.TaggedClass<Deposited>()("Deposited", { amount: Schema.Number }) {}
 * class Withdrawn extends Schema.TaggedClass<Withdrawn>()("Withdrawn", { amount: Schema.Number }) {}
 * class Overdrawn extends Data.TaggedError("Overdrawn")<{ readonly balance: number }> {}
 *
 * const Accounts = EventStore.define({ name: "accounts", event: Schema.Union(Deposited, Withdrawn) })
 *
 * const Account = EventStore.decider({
 *   store: Accounts,
 *   type: "account",
 *   initial: 0,
 *   evolve: (balance, event) => event._tag === "Deposited" ? balance + event.amount : balance - event.amount,
 *   decide: (amount: number, balance) =>
 *     amount > balance
 *       ? Effect.fail(new Overdrawn({ balance }))
 *       : Effect.succeed([new Withdrawn({ amount })]),
 *   snapshot: EventStore.snapshot({ name: "balance", state: Schema.Number })
 * })
 *
 * const program = Effect.gen(function*() {
 *   const accounts = yield* EventStore.open(Accounts)
 *   const { state } = yield* accounts.execute(Account, "42", 10)
 * })
 * ```
 *
 * @since 0.1.0
 * @category constructors
 */
export const decider = <S, C, A extends Tagged, M, E = never, R = never>(options: {
  readonly store: Definition<A, M>
  readonly type: string
  readonly initial: S
  readonly evolve: (state: S, event: A) => S
  readonly decide: (command: C, state: S) => Effect.Effect<ReadonlyArray<A>, E, R>
  readonly snapshot?: Snapshot<S> | undefined
  readonly snapshotEvery?: number | undefined
  readonly conflictRetries?: number | undefined
}): Decider<S, C, A, E, R> => ({
  type: options.type,
  initial: options.initial,
  evolve: options.evolve,
  decide: options.decide,
  snapshot: options.snapshot,
  snapshotEvery: options.snapshotEvery ?? 100,
  conflictRetries: options.conflictRetries ?? 10
})

/** How many events one append may have: the server does nothing else meanwhile. */
const MOST_EVENTS = 1000

const MOST_PAGE = 1000

/** Slots of a Cluster: more parts would share them. */
const MOST_PARTITIONS = 16384

const PAGE = 500

const isCount = (n: number): boolean => Number.isSafeInteger(n) && n > 0

const COUNT = "a whole number greater than zero"

const checkAggregate = (operation: string, { id, type }: Aggregate): RedisInputError | undefined =>
  checkName(operation, "aggregate.type", type) ?? checkName(operation, "aggregate.id", id)

const checkSnapshot = <S>(operation: string, { name, version }: Snapshot<S>): RedisInputError | undefined =>
  checkName(operation, "snapshot.name", name) ??
    (isCount(version) ? undefined : inputError(operation, "snapshot.version", COUNT, version))

const isExpected = Schema.is(ExpectedVersion)

const EXPECTED = "\"any\", \"no-stream\", \"exists\" or a whole number of zero or more"

const openWith = <A extends Tagged, M>(
  client: Client,
  lock: Lock.Service,
  definition: Definition<A, M>,
  nextId: () => string,
  retryWindow: number
): Store<A, M> => {
  const { codec, name, partitions } = definition
  const places = Array.from({ length: partitions }, (_, partition): scripts.Place => {
    const base = scripts.baseOf(name, partition)
    return { name, partition, base, channel: client.key(scripts.channelOf(base)) }
  })
  const partitionOf = ({ id, type }: Aggregate): number =>
    partitions === 1 ? 0 : hashSlot(`${type}:${id}`.replaceAll("{", "(")) % partitions
  const placeOf = (aggregate: Aggregate) => places[partitionOf(aggregate)]!
  const reader = Reader.make<A, M>(client, name, codec.decode)

  const within = <B, E, R>(
    operation: string,
    bad: RedisInputError | undefined,
    run: () => Effect.Effect<B, E, R>
  ): Effect.Effect<B, E | RedisInputError, R> =>
    bad === undefined
      ? withSpan(Effect.suspend(run), `eventstore.${operation}`, () => ({ "effect_redis.eventstore.name": name }))
      : Effect.fail(bad)

  // --- Writing ---

  const append = (
    aggregate: Aggregate,
    events: ReadonlyArray<A>,
    options: {
      readonly expected?: ExpectedVersion | undefined
      readonly id?: string | undefined
      readonly metadata?: M | undefined
    }
  ): Effect.Effect<Appended, VersionConflict | RedisError> => {
    const operation = "EventStore.append"
    const expected = options.expected ?? "any"
    if (!isExpected(expected)) return Effect.fail(inputError(operation, "expected", EXPECTED, expected))
    if (events.length > MOST_EVENTS) {
      return Effect.fail(inputError(operation, "events", `at most ${MOST_EVENTS} of them`, events.length))
    }
    const bodies = codec.encode(events, options.metadata)
    if (Either.isLeft(bodies)) {
      // What is wrong may be a secret.
      return Effect.fail(inputError(operation, bodies.left, "what the schema says", Redacted.make("")))
    }
    const base = options.id ?? nextId()
    const written: Array<scripts.Written> = []
    for (const [i, body] of bodies.right.entries()) {
      const id = options.id === undefined && definition.id !== undefined
        ? definition.id(events[i]!)
        : `${base}.${i + 1}`
      const bad = checkName(operation, "id", id)
      if (bad !== undefined) return Effect.fail(bad)
      written.push({ id, body })
    }
    const place = placeOf(aggregate)
    return Effect.flatMap(
      client.eval(scripts.append, place, aggregate, expected === "no-stream" ? 0 : expected, written, retryWindow),
      ({ duplicate, position, version }) => {
        if (position === undefined) {
          metrics.conflict.unsafeUpdate(1, [])
          return Effect.fail(new VersionConflict({ store: name, aggregate, expected, actual: version }))
        }
        if (duplicate) {
          metrics.duplicate.unsafeUpdate(1, [])
        } else {
          metrics.appended.unsafeUpdate(1, [])
          metrics.eventsAppended.unsafeUpdate(events.length, [])
        }
        return Effect.succeed({
          version,
          partition: place.partition,
          position,
          // With ids that were made up for this call, its own first try is what was there.
          duplicate: duplicate && (options.id !== undefined || definition.id !== undefined)
        })
      }
    )
  }

  // --- Aggregates ---

  const rangeOf = (
    operation: string,
    aggregate: Aggregate,
    { from = 1, limit = Infinity, to = Infinity }: LoadOptions
  ) => {
    const bad = checkAggregate(operation, aggregate) ??
      (isCount(from) ? undefined : inputError(operation, "from", COUNT, from)) ??
      (to === Infinity || isCount(to) ? undefined : inputError(operation, "to", COUNT, to)) ??
      (limit === Infinity || isCount(limit) ? undefined : inputError(operation, "limit", COUNT, limit))
    return bad === undefined ? Either.right({ from, limit, to }) : Either.left(bad)
  }

  const load = (aggregate: Aggregate, from: number, to: number, limit: number) => {
    const events: Array<Recorded<A, M>> = []
    const place = placeOf(aggregate)
    const loop = (from: number): Effect.Effect<Loaded<A, M>, EventDecodeError | RedisError> => {
      const count = Math.min(MOST_PAGE, limit - events.length)
      return Effect.flatMap(reader.aggregate(place, aggregate, from, to, count), (found) => {
        for (const one of found) {
          if (Either.isLeft(one)) return Effect.fail(one.left)
          events.push(one.right)
        }
        const version = events.at(-1)?.version ?? 0
        return found.length < count || events.length >= limit ? Effect.succeed({ version, events }) : loop(version + 1)
      })
    }
    return loop(from)
  }

  // --- Partitions ---

  const readable = (operation: string, { after, category, partition }: ReadOptions): RedisInputError | undefined =>
    (partition === undefined ? undefined : checkWhole(operation, "partition", 0, partitions - 1, partition)) ??
      (after === undefined || Reader.isPosition(after)
        ? undefined
        : inputError(operation, "after", "a position of this store", after)) ??
      (category === undefined ? undefined : checkName(operation, "category", category))

  /** Those that are meant; a position belongs to one of them. */
  const meant = (
    operation: string,
    { after, partition }: ReadOptions
  ): Either.Either<ReadonlyArray<scripts.Place>, RedisInputError> =>
    partition !== undefined
      ? Either.right([places[partition]!])
      : partitions === 1 || after === undefined
      ? Either.right(places)
      : Either.left(inputError(operation, "partition", "the one that the position is of", partition))

  const flattened = <E, R>(
    pages: Stream.Stream<Pick<Page<A, M>, "events">, E, R>
  ): Stream.Stream<Recorded<A, M>, E | EventDecodeError, R> =>
    Stream.flatMap(pages, ({ events }) => {
      const failed = events.findIndex(Either.isLeft)
      const readable = Chunk.unsafeFromArray(
        Array.from(failed === -1 ? events : events.slice(0, failed), (one) => Either.getOrThrow(one))
      )
      const error = events[failed]
      return error !== undefined && Either.isLeft(error)
        ? Stream.concat(Stream.fromChunk(readable), Stream.fail(error.left))
        : Stream.fromChunk(readable)
    })

  const checked = <B, E>(
    operation: string,
    options: ReadOptions,
    streams: (place: scripts.Place) => Stream.Stream<B, E>,
    concurrency: number | "unbounded"
  ): Stream.Stream<B, E | RedisInputError> => {
    const bad = readable(operation, options)
    if (bad !== undefined) return Stream.fail(bad)
    const some = meant(operation, options)
    if (Either.isLeft(some)) return Stream.fail(some.left)
    const [first, ...others] = some.right
    return others.length === 0
      ? streams(first!)
      : Stream.flatMap(Stream.fromIterable(some.right), streams, { concurrency })
  }

  // --- Snapshots ---

  const saveSnapshot = <S>(
    { name, state: schema, version: form }: Snapshot<S>,
    aggregate: Aggregate,
    { state, version }: Versioned<S>
  ): Effect.Effect<boolean, RedisError> =>
    Effect.suspend(() => {
      const operation = "EventStore.saveSnapshot"
      if (!isCount(version)) return Effect.fail(inputError(operation, "version", COUNT, version))
      const json = Either.flatMap(
        Either.mapLeft(ParseResult.encodeUnknownEither(schema)(state), Codec.whereOf),
        (encoded) => Either.try({ try: () => JSON.stringify({ state: encoded }), catch: () => "as a whole" })
      )
      return Either.isLeft(json)
        ? Effect.fail(inputError(operation, `state ${json.left}`, "what the schema says", Redacted.make("")))
        : client.eval(
          scripts.saveSnapshot,
          scripts.snapshotKey(placeOf(aggregate).base, name, aggregate),
          version,
          form,
          json.right
        )
    })

  const loadSnapshot = <S>(
    { name, state: schema, version: form }: Snapshot<S>,
    aggregate: Aggregate
  ): Effect.Effect<Option.Option<Versioned<S>>, RedisError> =>
    Effect.map(
      client.hmget(scripts.snapshotKey(placeOf(aggregate).base, name, aggregate), ["version", "schema", "state"]),
      (fields) => {
        const [version, schemaVersion, json] = fields.map(Option.getOrUndefined)
        if (version === undefined || json === undefined || schemaVersion !== String(form)) return Option.none()
        const stored = Schema.decodeUnknownOption(Schema.parseJson(Schema.Struct({ state: schema })))(json)
        return Option.map(stored, ({ state }) => ({ version: Number(version), state }))
      }
    )

  // --- Deciders ---

  const evolved = <S, C, E, R>(
    { evolve }: Decider<S, C, A, E, R>,
    from: Versioned<S>,
    { events, version }: Loaded<A, M>
  ): Versioned<S> =>
    events.length === 0
      ? from
      : { version, state: events.reduce((state, { data }) => evolve(state, data), from.state) }

  /** The state of the last snapshot, and what came behind it. */
  const stateOf = <S, C, E, R>(decider: Decider<S, C, A, E, R>, aggregate: Aggregate) => {
    const beginning: Versioned<S> = { version: 0, state: decider.initial }
    const kept = decider.snapshot === undefined
      ? Effect.succeed(beginning)
      : Effect.map(loadSnapshot(decider.snapshot, aggregate), Option.getOrElse(() => beginning))
    return Effect.flatMap(kept, (from) =>
      Effect.map(
        load(aggregate, from.version + 1, Infinity, Infinity),
        (loaded) => ({ kept: from.version, now: evolved(decider, from, loaded) })
      ))
  }

  const checkDecider = <S, C, E, R>(
    operation: string,
    { conflictRetries, snapshot, snapshotEvery, type }: Decider<S, C, A, E, R>,
    id: string
  ): RedisInputError | undefined =>
    checkAggregate(operation, { type, id }) ??
      (snapshot === undefined ? undefined : checkSnapshot(operation, snapshot)) ??
      (isCount(snapshotEvery) ? undefined : inputError(operation, "snapshotEvery", COUNT, snapshotEvery)) ??
      (Number.isSafeInteger(conflictRetries) && conflictRetries >= 0
        ? undefined
        : inputError(operation, "conflictRetries", "a whole number of zero or more", conflictRetries))

  const execute = <S, C, E, R>(
    decider: Decider<S, C, A, E, R>,
    id: string,
    command: C,
    options: { readonly expected?: number | undefined; readonly metadata?: M | undefined }
  ): Effect.Effect<Executed<S, A>, E | VersionConflict | EventDecodeError | RedisError, R> => {
    const aggregate: Aggregate = { type: decider.type, id }
    const { expected, metadata } = options
    const { snapshot } = decider

    const decide = (
      kept: number,
      now: Versioned<S>,
      retries: number
    ): Effect.Effect<Executed<S, A>, E | VersionConflict | EventDecodeError | RedisError, R> =>
      Effect.flatMap(Effect.suspend(() => decider.decide(command, now.state)), (events) => {
        if (events.length === 0) return Effect.succeed({ ...now, events })
        const appending = append(aggregate, events, { expected: now.version, metadata })
        return Effect.matchEffect(appending, {
          onFailure: (error) =>
            error._tag === "VersionConflict" && retries > 0 && expected === undefined
              ? Effect.flatMap(
                load(aggregate, now.version + 1, Infinity, Infinity),
                (loaded) => decide(kept, evolved(decider, now, loaded), retries - 1)
              )
              : Effect.fail(error),
          onSuccess: ({ version }) => {
            const state = events.reduce(decider.evolve, now.state)
            const executed = { version, state, events }
            return snapshot === undefined || version - kept < decider.snapshotEvery
              ? Effect.succeed(executed)
              // The events are there: that a snapshot could not be kept changes nothing.
              : Effect.as(
                Effect.catchAll(
                  saveSnapshot(snapshot, aggregate, executed),
                  (error) => Effect.logWarning("a snapshot could not be kept", error)
                ),
                executed
              )
          }
        })
      })

    return Effect.flatMap(
      stateOf(decider, aggregate),
      ({ kept, now }) =>
        expected === undefined || expected === now.version
          ? decide(kept, now, decider.conflictRetries)
          : Effect.fail(new VersionConflict({ store: name, aggregate, expected, actual: now.version }))
    )
  }

  const projections = Projection.make({ client, lock, places, reader })

  return {
    definition,
    append: (aggregate, events, ...[options]) =>
      within("append", checkAggregate("EventStore.append", aggregate), () => append(aggregate, events, options ?? {})),
    load: (aggregate, options = {}) => {
      const range = rangeOf("EventStore.load", aggregate, options)
      return Either.isLeft(range)
        ? Effect.fail(range.left)
        : within("load", undefined, () => load(aggregate, range.right.from, range.right.to, range.right.limit))
    },
    stream: (aggregate, options = {}) => {
      const range = rangeOf("EventStore.stream", aggregate, options)
      if (Either.isLeft(range)) return Stream.fail(range.left)
      const { from, limit, to } = range.right
      return Stream.paginateChunkEffect({ from, limit }, ({ from, limit }) => {
        const count = Math.min(PAGE, limit)
        return Effect.map(
          reader.aggregate(placeOf(aggregate), aggregate, from, to, count),
          (found): readonly [
            Chunk.Chunk<Either.Either<Recorded<A, M>, EventDecodeError>>,
            Option.Option<{ readonly from: number; readonly limit: number }>
          ] => {
            const last = found.at(-1)
            const failed = found.some(Either.isLeft)
            const next = last === undefined || failed || found.length < count || limit === count
              ? Option.none()
              : Option.some({ from: Either.getOrThrow(last).version + 1, limit: limit - count })
            return [Chunk.unsafeFromArray(Array.from(found)), next]
          }
        )
      }).pipe(Stream.mapEffect((one) => one))
    },
    version: (aggregate) =>
      within(
        "version",
        checkAggregate("EventStore.version", aggregate),
        () => reader.version(placeOf(aggregate), aggregate)
      ),
    partitionOf,
    since: (options = {}) => {
      const operation = "EventStore.since"
      const { after = Reader.START, category, limit = 100, partition } = options
      return within(
        "since",
        readable(operation, options) ??
          checkWhole(operation, "limit", 1, MOST_PAGE, limit) ??
          (partition === undefined && partitions > 1
            ? inputError(operation, "partition", `a whole number from 0 to ${partitions - 1}`, partition)
            : undefined),
        () =>
          Effect.map(
            reader.part(places[partition ?? 0]!, after, category, limit),
            ({ end, events, position }) => ({ events, position, end })
          )
      )
    },
    replay: (options = {}) =>
      checked("EventStore.replay", options, (place) =>
        flattened(
          Stream.paginateEffect(options.after ?? Reader.START, (after) =>
            Effect.map(
              reader.part(place, after, options.category, PAGE),
              (page) => [page, page.end ? Option.none() : Option.some(page.position)] as const
            ))
        ), 1),
    subscribe: ({ after, ...options } = {}) =>
      checked(
        "EventStore.subscribe",
        { ...options, after: after === "now" ? undefined : after },
        (place) => flattened(reader.follow(place, after, options.category, PAGE)),
        "unbounded"
      ),
    project: (options) => projections.run(options),
    projectionStatus: (projection) =>
      within(
        "projectionStatus",
        checkName("EventStore.projectionStatus", "name", projection),
        () => projections.status(projection)
      ),
    resetProjection: (projection) =>
      within(
        "resetProjection",
        checkName("EventStore.resetProjection", "name", projection),
        () => projections.reset(projection)
      ),
    saveSnapshot: (snapshot, aggregate, at) => {
      const operation = "EventStore.saveSnapshot"
      return within(
        "saveSnapshot",
        checkAggregate(operation, aggregate) ?? checkSnapshot(operation, snapshot),
        () => saveSnapshot(snapshot, aggregate, at)
      )
    },
    loadSnapshot: (snapshot, aggregate) => {
      const operation = "EventStore.loadSnapshot"
      return within(
        "loadSnapshot",
        checkAggregate(operation, aggregate) ?? checkSnapshot(operation, snapshot),
        () => loadSnapshot(snapshot, aggregate)
      )
    },
    state: (decider, id) =>
      within(
        "state",
        checkDecider("EventStore.state", decider, id),
        () => Effect.map(stateOf(decider, { type: decider.type, id }), ({ now }) => now)
      ),
    execute: (decider, id, command, ...[options]) =>
      within(
        "execute",
        checkDecider("EventStore.execute", decider, id),
        () => execute(decider, id, command, options ?? {})
      )
  }
}

/**
 * Event stores over the client and the locks of the environment.
 *
 * @since 0.1.0
 * @category constructors
 */
export const make: Effect.Effect<Service, never, RedisClient | Lock.Lock> = Effect.gen(function*() {
  const client = yield* RedisClient
  const lock = yield* Lock.Lock
  const process = randomBytes(12).toString("base64url")
  let ids = 0
  const nextId = () => `${process}.${ids++}`

  return {
    open: <A extends Tagged, M>(definition: Definition<A, M>) =>
      Effect.suspend((): Effect.Effect<Store<A, M>, PartitionsMismatch | RedisError> => {
        const operation = "EventStore.open"
        const { name, partitions } = definition
        const bad = checkName(operation, "name", name) ??
          checkWhole(operation, "partitions", 1, MOST_PARTITIONS, partitions)
        if (bad !== undefined) return Effect.fail(bad)
        const retryWindow = positiveMillis(operation, "retryWindow", definition.retryWindow)
        return Either.isLeft(retryWindow)
          ? Effect.fail(retryWindow.left)
          : Effect.flatMap(client.eval(scripts.open, name, partitions), (actual) =>
            actual === partitions
              ? Effect.succeed(openWith(client, lock, definition, nextId, retryWindow.right))
              : Effect.fail(new PartitionsMismatch({ store: name, expected: partitions, actual })))
      })
  }
})

// ---------------------------------------------------------------------------------------------------------------------
// Layers
// ---------------------------------------------------------------------------------------------------------------------

/**
 * Event stores, with the locks that are built together with them.
 *
 * @since 0.1.0
 * @category layers
 */
export const layer: Layer.Layer<EventStore, never, RedisClient> = Layer.provide(
  Layer.effect(EventStore, make),
  Lock.layer
)

/**
 * Event stores on a server in memory, with the server and its client beside it.
 *
 * @since 0.1.0
 * @category layers
 */
export const layerTest: Layer.Layer<EventStore | RedisClient | RedisTestServer> = Layer.provideMerge(layer, testServer)

/**
 * A projection that runs for as long as the layer is there. When it ends because an event can't be handled, it says so in
 * the log; run `store.project` yourself to learn it otherwise.
 *
 * @example
 * ```ts
 * import { Effect, Schema } from "effect"
 * import { EventStore } from "effect-redis-kit"
 *
 * class Sold extends Schema.TaggedClass<Sold>()("Sold", { price: Schema.Number }) {}
 *
 * const Sales = EventStore.define({ name: "sales", event: Sold })
 *
 * const Revenue = EventStore.layerProjection(Sales, {
 *   name: "revenue",
 *   handle: ({ data, id }) => Effect.log(`${id}: ${data.price}`)
 * })
 * ```
 *
 * @since 0.1.0
 * @category layers
 */
export const layerProjection = <A extends Tagged, M, E, R>(
  definition: Definition<A, M>,
  options: ProjectionOptions<A, M, E, R>
): Layer.Layer<never, PartitionsMismatch | RedisError, EventStore | Exclude<R, Scope.Scope>> =>
  Layer.scopedDiscard(
    Effect.flatMap(open(definition), (store) =>
      store.project(options).pipe(
        Effect.catchAllCause((cause) =>
          Effect.logError(`the projection "${options.name}" of "${definition.name}" has ended`, cause)
        ),
        Effect.interruptible,
        Effect.forkScoped
      ))
  )

// ---------------------------------------------------------------------------------------------------------------------
// Accessors
// ---------------------------------------------------------------------------------------------------------------------

/**
 * The events of a definition.
 *
 * @since 0.1.0
 * @category accessors
 */
export const open = <A extends Tagged, M>(
  definition: Definition<A, M>
): Effect.Effect<Store<A, M>, PartitionsMismatch | RedisError, EventStore> =>
  Effect.flatMap(EventStore, (service) => service.open(definition))
