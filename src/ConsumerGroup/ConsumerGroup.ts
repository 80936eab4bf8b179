/**
 * Consumer groups of streams: each entry is handled by one of many workers, at least once, and none is lost when a worker,
 * a connection or the server dies.
 *
 * @since 0.1.0
 */
import * as Arr from "effect/Array"
import * as Context from "effect/Context"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Schedule from "effect/Schedule"
import * as Schema from "effect/Schema"
import type * as Scope from "effect/Scope"
import * as EffectStream from "effect/Stream"
import { randomBytes } from "node:crypto"
import { checkCount } from "../internal/commands/args.js"
import { checkKey, inputError, nonNegativeMillis, positiveMillis } from "../internal/input.js"
import { reading } from "../internal/retries.js"
import { withSpan } from "../internal/telemetry.js"
import { RedisClient, type Reply } from "../RedisClient.js"
import type { RedisError, RedisInputError } from "../RedisError.js"
import { layer as testServer, type RedisTestServer } from "../RedisTestServer.js"
import { element, rawEntries, type RawEntry } from "../Stream/codec.js"
import { bound, checkId } from "../Stream/ids.js"
import {
  type Bound,
  checkStream,
  type ConsumerInfo,
  decodeFailure,
  type Definition as StreamDefinition,
  type Element,
  type Entry
} from "../Stream/Stream.js"
import { layer as wakerLayer, make as makeWaker, Waker } from "../Stream/Waker.js"
import * as scripts from "./scripts.js"
import * as Workers from "./Worker.js"

// ---------------------------------------------------------------------------------------------------------------------
// Models
// ---------------------------------------------------------------------------------------------------------------------

/**
 * A group: its stream, its name, and where it begins.
 *
 * @since 0.1.0
 * @category models
 */
export interface Definition<in out A> {
  readonly stream: StreamDefinition<A>
  readonly name: string
  /** After which entry it begins when it is made. */
  readonly from: "start" | "end" | (string & {})
  /** About how many dead letters are kept. */
  readonly maxDeadLetters: number
}

/**
 * An entry that was given to a worker.
 *
 * @since 0.1.0
 * @category models
 */
export interface Delivered<out A> extends Entry<A> {
  /** How often it was given to anybody, this time included. */
  readonly deliveries: number
}

/**
 * What happens to a worker beside handling entries.
 *
 * - `DeadLettered`: an entry was moved to the dead letters by this worker
 * - `TakenOver`: another worker has an entry that this one held, because it was not renewed in time; its handler was
 *   interrupted
 * - `Trimmed`: entries were pending, and are no longer in the stream: nobody can handle them any more
 * - `Recreated`: the group, or the whole stream, was gone and was made again
 *
 * @since 0.1.0
 * @category models
 */
export type Event = Event.DeadLettered | Event.TakenOver | Event.Trimmed | Event.Recreated

/**
 * @since 0.1.0
 */
export declare namespace Event {
  /**
   * @since 0.1.0
   * @category models
   */
  export interface DeadLettered {
    readonly _tag: "DeadLettered"
    readonly id: string
    readonly reason: "undecodable" | "failed" | "deliveries"
    readonly deliveries: number
  }
  /**
   * @since 0.1.0
   * @category models
   */
  export interface TakenOver {
    readonly _tag: "TakenOver"
    readonly id: string
  }
  /**
   * @since 0.1.0
   * @category models
   */
  export interface Trimmed {
    readonly _tag: "Trimmed"
    readonly ids: ReadonlyArray<string>
  }
  /**
   * @since 0.1.0
   * @category models
   */
  export interface Recreated {
    readonly _tag: "Recreated"
    readonly what: "group" | "stream"
  }
}

/**
 * How a worker works.
 *
 * @since 0.1.0
 * @category models
 */
export interface WorkerOptions<in A, out R = never> {
  /**
   * Its name among the consumers of the group, which no two workers may have at the same time. A random one unless given.
   * A worker that comes back with its old name goes on at once with what it had; else that is taken after a lease.
   */
  readonly consumer?: string | undefined
  /** How many entries are handled at the same time; 1 by default, which keeps their order as long as nothing fails. */
  readonly concurrency?: number | undefined
  /** Entries with equal keys are handled one after the other by this worker, and a retry holds up those behind it. */
  readonly key?: ((entry: Delivered<A>) => string) | undefined
  /** How many entries are read at once, and at most wait here for a handler; 10 by default. */
  readonly batchSize?: number | undefined
  /**
   * For how long an entry belongs to a worker without a sign of life; 30 seconds by default. It is renewed at a third of
   * it, for as long as the handler runs.
   */
  readonly lease?: Duration.DurationInput | undefined
  /** How often it looks for entries of dead workers; a third of the lease by default. */
  readonly claimEvery?: Duration.DurationInput | undefined
  /** When a failed entry is tried again, by the number of its failures. From a second, doubled, to a minute by default. */
  readonly retry?: Schedule.Schedule<unknown, unknown> | undefined
  /** After so many deliveries it becomes a dead letter; 10 by default. */
  readonly maxDeliveries?: number | undefined
  /** How long handlers may go on when the worker stops, before they are interrupted; 10 seconds by default. */
  readonly drain?: Duration.DurationInput | undefined
  /** After how long a consumer that has nothing and says nothing is removed from the group; an hour by default. */
  readonly retireAfter?: Duration.DurationInput | undefined
  /** Is told what happens. */
  readonly onEvent?: ((event: Event) => Effect.Effect<unknown, never, R>) | undefined
}

/**
 * A worker that runs until its scope closes.
 *
 * @since 0.1.0
 * @category models
 */
export interface Worker {
  readonly consumer: string
  /** Takes no more entries and gives those back that were not begun. What runs goes on. */
  readonly pause: Effect.Effect<void>
  readonly resume: Effect.Effect<void>
  /** What the end of the scope does: nothing new, drain, acknowledge, give back. */
  readonly stop: Effect.Effect<void>
  /** How many entries it has: waiting, being handled, and not yet acknowledged. */
  readonly held: Effect.Effect<number>
  /** Fails when the worker can't go on, for example because the key holds something else than a stream. */
  readonly failure: Effect.Effect<never, RedisError>
}

/**
 * @since 0.1.0
 * @category models
 */
export interface Lag {
  /** How many entries were not given to anybody yet. Unknown when entries were deleted from the stream. */
  readonly lag: Option.Option<number>
  /** How many were given to consumers and are not acknowledged. */
  readonly pending: number
}

/**
 * @since 0.1.0
 * @category models
 */
export interface PendingSummary {
  readonly total: number
  readonly firstId: Option.Option<string>
  readonly lastId: Option.Option<string>
  /** Those that have some. */
  readonly consumers: ReadonlyArray<{ readonly name: string; readonly pending: number }>
}

/**
 * @since 0.1.0
 * @category models
 */
export interface Pending {
  readonly id: string
  readonly consumer: string
  /** Since it was last given to somebody, or renewed. */
  readonly idle: Duration.Duration
  readonly deliveries: number
}

/**
 * @since 0.1.0
 * @category models
 */
export interface PendingOptions {
  readonly from?: Bound | undefined
  readonly to?: Bound | undefined
  /** How many at most, 100 by default. */
  readonly count?: number | undefined
  readonly consumer?: string | undefined
  /** Only those that are idle for so long. */
  readonly minIdle?: Duration.DurationInput | undefined
}

/**
 * What was claimed in one step over the pending entries.
 *
 * @since 0.1.0
 * @category models
 */
export interface Claimed<A> {
  readonly entries: ReadonlyArray<Element<A>>
  /** Where to go on; `None` at the end. */
  readonly cursor: Option.Option<string>
  /** Pending entries that were no longer in the stream. They are not pending any more. */
  readonly trimmed: ReadonlyArray<string>
}

/**
 * An entry that was given up.
 *
 * @since 0.1.0
 * @category models
 */
export interface DeadLetter<A> {
  /** Of the dead letter. */
  readonly id: string
  /** The key of the stream that it is from. */
  readonly stream: string
  readonly group: string
  readonly originalId: string
  readonly reason: "undecodable" | "failed" | "deliveries"
  /** The kind of the last failure and its message, or what can't be decoded. */
  readonly error: string
  readonly deliveries: number
  /** Who had it last. */
  readonly consumer: string
  /** When it was given up, in milliseconds of the server's clock. */
  readonly movedAt: number
  /** The entry, with its original id. */
  readonly element: Element<A>
}

/**
 * @since 0.1.0
 * @category models
 */
export interface Replayed {
  /** Entries that are pending again for this group, and for no other. */
  readonly restored: number
  /** Entries that were no longer in the stream: a copy of each was appended, which all groups get. */
  readonly copied: number
}

/**
 * @since 0.1.0
 * @category models
 */
export interface Service {
  /** Makes the group, and the stream where there is none. Says whether it was not there before. */
  readonly create: <A>(group: Definition<A>) => Effect.Effect<boolean, RedisError>
  /** Removes the group, with what is pending and not its dead letters. Says whether it was there. */
  readonly destroy: <A>(group: Definition<A>) => Effect.Effect<boolean, RedisError>
  /** Sets after which entry it goes on. What is pending stays so. */
  readonly seek: <A>(group: Definition<A>, to: Definition<A>["from"]) => Effect.Effect<void, RedisError>
  readonly consumers: <A>(group: Definition<A>) => Effect.Effect<ReadonlyArray<ConsumerInfo>, RedisError>
  /** Removes a consumer; fails when entries are pending for it, which would be lost. */
  readonly removeConsumer: <A>(
    group: Definition<A>,
    consumer: string
  ) => Effect.Effect<void, ConsumerHasPending | RedisError>
  readonly lag: <A>(group: Definition<A>) => Effect.Effect<Lag, RedisError>
  readonly pending: <A>(group: Definition<A>) => Effect.Effect<PendingSummary, RedisError>
  readonly pendingEntries: <A>(
    group: Definition<A>,
    options?: PendingOptions
  ) => Effect.Effect<ReadonlyArray<Pending>, RedisError>
  /** Takes pending entries for a consumer when they were idle for so long. */
  readonly claim: <A>(
    group: Definition<A>,
    consumer: string,
    ids: ReadonlyArray<string>,
    options: { readonly minIdle: Duration.DurationInput }
  ) => Effect.Effect<ReadonlyArray<Element<A>>, RedisError>
  /** Takes whatever was idle for so long, step by step. */
  readonly autoClaim: <A>(
    group: Definition<A>,
    consumer: string,
    options: {
      readonly minIdle: Duration.DurationInput
      readonly cursor?: string | undefined
      readonly count?: number | undefined
    }
  ) => Effect.Effect<Claimed<A>, RedisError>
  /** Acknowledges entries, and returns how many were pending. */
  readonly acknowledge: <A>(
    group: Definition<A>,
    ...ids: ReadonlyArray<string>
  ) => Effect.Effect<number, RedisError>
  /** Starts a worker that runs until the scope closes. See `start`. */
  readonly start: <A, E, R, R2 = never>(
    group: Definition<A>,
    handler: (entry: Delivered<A>) => Effect.Effect<unknown, E, R>,
    options?: WorkerOptions<A, R2>
  ) => Effect.Effect<Worker, RedisError, R | R2 | Scope.Scope>
  /** Runs a worker for as long as it is not interrupted. See `run`. */
  readonly run: <A, E, R, R2 = never>(
    group: Definition<A>,
    handler: (entry: Delivered<A>) => Effect.Effect<unknown, E, R>,
    options?: WorkerOptions<A, R2>
  ) => Effect.Effect<never, RedisError, R | R2>
  /** The dead letters of the group, oldest first. */
  readonly deadLetters: <A>(
    group: Definition<A>,
    options?: { readonly after?: string | undefined; readonly count?: number | undefined }
  ) => Effect.Effect<ReadonlyArray<DeadLetter<A>>, RedisError>
  /** All of them, page by page. */
  readonly allDeadLetters: <A>(group: Definition<A>) => EffectStream.Stream<DeadLetter<A>, RedisError>
  readonly countDeadLetters: <A>(group: Definition<A>) => Effect.Effect<number, RedisError>
  /** Puts dead letters back. See `replay`. */
  readonly replay: <A>(
    group: Definition<A>,
    ...ids: ReadonlyArray<string>
  ) => Effect.Effect<Replayed, RedisError>
  /** Puts all back that there are at this moment. */
  readonly replayAll: <A>(group: Definition<A>) => Effect.Effect<Replayed, RedisError>
  /** Removes dead letters for good, and returns how many there were. */
  readonly removeDeadLetters: <A>(
    group: Definition<A>,
    ...ids: ReadonlyArray<string>
  ) => Effect.Effect<number, RedisError>
}

/**
 * @since 0.1.0
 * @category tags
 */
export class ConsumerGroup extends Context.Tag("effect-redis-kit/ConsumerGroup")<ConsumerGroup, Service>() {}

// ---------------------------------------------------------------------------------------------------------------------
// Errors
// ---------------------------------------------------------------------------------------------------------------------

/**
 * The consumer stays: entries are pending for it that would be lost with it. Claim them for another one first.
 *
 * @since 0.1.0
 * @category errors
 */
export class ConsumerHasPending extends Schema.TaggedError<ConsumerHasPending>(
  "effect-redis-kit/ConsumerGroup/ConsumerHasPending"
)("ConsumerHasPending", { group: Schema.String, consumer: Schema.String, pending: Schema.Number }) {
  /** @since 0.1.0 */
  override get message(): string {
    return `${this.pending} entries are pending for the consumer "${this.consumer}" of "${this.group}"`
  }
}

// ---------------------------------------------------------------------------------------------------------------------
// Constructors
// ---------------------------------------------------------------------------------------------------------------------

/**
 * Describes a group of a stream.
 *
 * - `from`: after which entry it begins when it is made: `"start"`, the default, `"end"`, or an id
 * - `maxDeadLetters`: about how many dead letters are kept, the newest of them; 100,000 by default
 *
 * @example
 * ```ts
 * import { Schema } from "effect"
 * import { ConsumerGroup, Stream } from "effect-redis-kit"
 *
 * const Orders = Stream.define({ name: "orders", schema: Schema.Struct({ id: Schema.String }) })
 *
 * const Mailers = ConsumerGroup.define({ stream: Orders, name: "mailers" })
 * const Audit = ConsumerGroup.define({ stream: Orders, name: "audit", from: "end" })
 * ```
 *
 * @since 0.1.0
 * @category constructors
 */
export const define = <A>(options: {
  readonly stream: StreamDefinition<A>
  readonly name: string
  readonly from?: "start" | "end" | (string & {}) | undefined
  readonly maxDeadLetters?: number | undefined
}): Definition<A> => ({
  stream: options.stream,
  name: options.name,
  from: options.from ?? "start",
  maxDeadLetters: options.maxDeadLetters ?? 100_000
})

const positionOf = (from: Definition<any>["from"]): string => from === "start" ? "0" : from === "end" ? "$" : from

const checkFrom = (operation: string, field: string, from: Definition<any>["from"]): RedisInputError | undefined =>
  from === "start" || from === "end" ? undefined : checkId(operation, field, from)

const checkGroup = (operation: string, group: Definition<any>): RedisInputError | undefined =>
  checkStream(operation, group.stream) ??
    checkKey(operation, group.name, "name of the group") ??
    checkFrom(operation, "from", group.from) ??
    checkCount(operation, "maxDeadLetters", group.maxDeadLetters)

const checkIds = (operation: string, ids: ReadonlyArray<string>): RedisInputError | undefined => {
  for (const id of ids) {
    const bad = checkId(operation, "ids", id)
    if (bad !== undefined) return bad
  }
  return undefined
}

const defaultRetry = Schedule.union(Schedule.exponential("1 second"), Schedule.spaced("1 minute"))

/** How many entries a script takes at most: Lua passes no more than 8000 arguments. */
const MOST = 1000

const SHORTEST_LEASE = 100

const settingsOf = <A, R>(
  operation: string,
  group: Definition<A>,
  options: WorkerOptions<A, R>
): Either.Either<Workers.Settings<A, R>, RedisInputError> =>
  Either.gen(function*() {
    const check = (bad: RedisInputError | undefined) => bad === undefined ? Either.void : Either.left(bad)
    const {
      batchSize = 10,
      concurrency = 1,
      consumer = randomBytes(12).toString("base64url"),
      maxDeliveries = 10
    } = options
    yield* check(
      checkGroup(operation, group) ??
        checkKey(operation, consumer, "consumer") ??
        checkCount(operation, "concurrency", concurrency) ??
        checkCount(operation, "batchSize", batchSize) ??
        checkCount(operation, "maxDeliveries", maxDeliveries) ??
        (batchSize > MOST ? inputError(operation, "batchSize", `at most ${MOST}`, batchSize) : undefined) ??
        (concurrency > MOST ? inputError(operation, "concurrency", `at most ${MOST}`, concurrency) : undefined)
    )
    const lease = yield* positiveMillis(operation, "lease", options.lease ?? "30 seconds")
    yield* check(
      lease < SHORTEST_LEASE
        ? inputError(operation, "lease", `at least ${SHORTEST_LEASE} milliseconds`, lease)
        : undefined
    )
    return {
      consumer,
      concurrency,
      batchSize,
      maxDeliveries,
      key: options.key,
      lease,
      claimEvery: yield* positiveMillis(operation, "claimEvery", options.claimEvery ?? lease / 3),
      drain: yield* nonNegativeMillis(operation, "drain", options.drain ?? "10 seconds"),
      retire: yield* positiveMillis(operation, "retireAfter", options.retireAfter ?? "1 hour"),
      retry: options.retry ?? defaultRetry,
      kept: group.maxDeadLetters,
      onEvent: options.onEvent
    }
  })

const isReason = (text: string | undefined): text is DeadLetter<any>["reason"] =>
  text === "undecodable" || text === "failed" || text === "deliveries"

/** `undefined` for what somebody else has put there. */
const deadLetter = <A>(group: Definition<A>, { fields, id }: RawEntry): DeadLetter<A> | undefined => {
  for (let i = 0; i < scripts.META.length; i++) if (fields[2 * i] !== scripts.META[i]) return undefined
  const [, stream, , originalId, , name, , reason, , error, , deliveries, , consumer, , movedAt] = fields
  if (!isReason(reason)) return undefined
  return {
    id,
    stream: stream!,
    originalId: originalId!,
    group: name!,
    reason,
    error: error!,
    deliveries: Number(deliveries),
    consumer: consumer!,
    movedAt: Number(movedAt),
    element: element(group.stream.codec, { id: originalId!, fields: fields.slice(2 * scripts.META.length) })
  }
}

const attributes = ({ name, stream }: Definition<any>) => () => ({
  "effect_redis.stream.name": stream.name,
  "effect_redis.stream.group": name
})

const isMissing = (error: RedisError): boolean =>
  error._tag === "RedisReplyError" && (error.code === "NOGROUP" || error.reply.startsWith("ERR no such key"))

const PAGE = 100

const makeShared: Effect.Effect<Service, never, RedisClient | Waker> = Effect.gen(function*() {
  const client = yield* RedisClient
  const waker = yield* Waker

  const keyOf = (group: Definition<any>) => client.key(group.stream.key)

  const within = <A, E>(
    operation: string,
    group: Definition<any>,
    bad: RedisInputError | undefined,
    use: (keys: scripts.Keys) => Effect.Effect<A, E | RedisError>
  ): Effect.Effect<A, E | RedisError> => {
    const wrong = checkGroup(`ConsumerGroup.${operation}`, group) ?? bad
    return wrong === undefined
      ? withSpan(
        use(scripts.keysOf(group.stream.key, group.name)),
        `consumerGroup.${operation}`,
        attributes(group)
      )
      : Effect.fail(wrong)
  }

  const decoded =
    <A>(command: string, expected: string, read: (reply: Reply) => A | undefined) =>
    (reply: Reply): Effect.Effect<A, RedisError> => {
      const value = read(reply)
      return value === undefined ? Effect.fail(decodeFailure(command, expected)) : Effect.succeed(value)
    }

  const elements = <A>(command: string, group: Definition<A>) =>
    decoded(
      command,
      "entries",
      // What was trimmed is nothing in its place.
      (reply) =>
        rawEntries(Array.isArray(reply) ? reply.filter((entry) => entry !== null) : reply)
          ?.map((entry) => element(group.stream.codec, entry))
    )

  /** A group that is not there yet is made. */
  const ensured = <A>(group: Definition<any>, effect: Effect.Effect<A, RedisError>): Effect.Effect<A, RedisError> =>
    Effect.catchIf(effect, isMissing, () => Effect.zipRight(ensure(group), effect))

  const ensure = (group: Definition<any>) =>
    Effect.map(
      client.eval(scripts.create, scripts.keysOf(group.stream.key, group.name), positionOf(group.from)),
      (made) => made > 0
    )

  const start: Service["start"] = <A, E, R, R2 = never>(
    group: Definition<A>,
    handler: (entry: Delivered<A>) => Effect.Effect<unknown, E, R>,
    options: WorkerOptions<A, R2> = {}
  ) => {
    const settings = settingsOf("ConsumerGroup.start", group, options)
    return Either.isLeft(settings)
      ? Effect.fail(settings.left)
      : Workers.start<A, E, R | R2>(client, waker, group, positionOf(group.from), handler, settings.right)
  }

  const letters = (
    keys: scripts.Keys,
    after: string,
    limit: number,
    last = "+"
  ): Effect.Effect<ReadonlyArray<RawEntry>, RedisError> =>
    Effect.flatMap(
      reading(client.send("XRANGE", client.key(keys.dead), `(${after}`, last, "COUNT", limit)),
      decoded("XRANGE", "entries", rawEntries)
    )

  const deadLetters: Service["deadLetters"] = (group, { after = "0-0", count = PAGE } = {}) =>
    within(
      "deadLetters",
      group,
      checkId("ConsumerGroup.deadLetters", "after", after) ??
        checkCount("ConsumerGroup.deadLetters", "count", count),
      (keys) =>
        Effect.map(
          letters(keys, after, count),
          (found) =>
            found.flatMap((entry) => {
              const letter = deadLetter(group, entry)
              return letter === undefined ? [] : [letter]
            })
        )
    )

  const replay = (group: Definition<any>, keys: scripts.Keys, ids: ReadonlyArray<string>): Effect.Effect<
    Replayed,
    RedisError
  > =>
    Effect.map(
      ensured(group, client.eval(scripts.replay, keys, ids)),
      ([restored, copied]) => ({ restored, copied })
    )

  const plus = (a: Replayed, b: Replayed): Replayed => ({
    restored: a.restored + b.restored,
    copied: a.copied + b.copied
  })

  const nothing: Replayed = { restored: 0, copied: 0 }

  const replaySome = (group: Definition<any>, keys: scripts.Keys, ids: ReadonlyArray<string>) =>
    Effect.reduce(
      Arr.chunksOf(ids, PAGE),
      nothing,
      (sum, some) => Effect.map(replay(group, keys, some), (more) => plus(sum, more))
    )

  /** From page to page, up to the last one that there was at the beginning. */
  const replayUpTo = (
    group: Definition<any>,
    keys: scripts.Keys,
    after: string,
    last: string,
    sum: Replayed
  ): Effect.Effect<Replayed, RedisError> =>
    Effect.flatMap(
      letters(keys, after, PAGE, last),
      (found) =>
        found.length === 0
          ? Effect.succeed(sum)
          : Effect.flatMap(
            replay(group, keys, found.map(({ id }) => id)),
            (more) => replayUpTo(group, keys, found[found.length - 1]!.id, last, plus(sum, more))
          )
    )

  const claimed = <A>(group: Definition<A>) => (reply: Reply): Claimed<A> | undefined => {
    if (!Array.isArray(reply) || typeof reply[0] !== "string") return undefined
    const [, found, gone]: ReadonlyArray<Reply> = reply
    const cursor = reply[0]
    const entries = rawEntries(found)
    if (entries === undefined || !Array.isArray(gone)) return undefined
    return {
      entries: entries.map((entry) => element(group.stream.codec, entry)),
      cursor: cursor === "0-0" ? Option.none() : Option.some(cursor),
      trimmed: gone.map(String)
    }
  }

  const removed = (
    operation: string,
    group: Definition<any>,
    ids: ReadonlyArray<string>,
    remove: (keys: scripts.Keys) => Effect.Effect<number, RedisError>
  ): Effect.Effect<number, RedisError> =>
    within(
      operation,
      group,
      checkIds(`ConsumerGroup.${operation}`, ids),
      (keys) => ids.length === 0 ? Effect.succeed(0) : remove(keys)
    )

  return {
    create: (group) => within("create", group, undefined, () => ensure(group)),
    destroy: (group) => within("destroy", group, undefined, (keys) => client.eval(scripts.destroy, keys)),
    seek: (group, to) =>
      within(
        "seek",
        group,
        checkFrom("ConsumerGroup.seek", "to", to),
        () => ensured(group, client.xgroupSetId(group.stream.key, group.name, positionOf(to)))
      ),
    consumers: (group) =>
      within("consumers", group, undefined, () =>
        Effect.catchIf(
          client.xinfoConsumers(group.stream.key, group.name),
          isMissing,
          () => Effect.succeed([])
        )),
    removeConsumer: (group, consumer) =>
      within(
        "removeConsumer",
        group,
        checkKey("ConsumerGroup.removeConsumer", consumer, "consumer"),
        (keys) =>
          Effect.flatMap(
            Effect.catchIf(client.eval(scripts.retire, keys, consumer), isMissing, () => Effect.succeed(0)),
            (pending): Effect.Effect<void, ConsumerHasPending> =>
              pending === 0 ? Effect.void : new ConsumerHasPending({ group: group.name, consumer, pending })
          )
      ),
    lag: (group) =>
      within("lag", group, undefined, () =>
        client.xinfoGroups(group.stream.key).pipe(
          Effect.map((all): Lag => {
            const own = all.find(({ name }) => name === group.name)
            return { lag: own?.lag ?? Option.none(), pending: own?.pending ?? 0 }
          }),
          Effect.catchIf(isMissing, () => Effect.succeed<Lag>({ lag: Option.none(), pending: 0 }))
        )),
    pending: (group) =>
      within("pending", group, undefined, () =>
        Effect.map(
          ensured(group, client.xpending(group.stream.key, group.name)),
          ({ consumers, count, first, last }): PendingSummary => ({
            total: count,
            firstId: first,
            lastId: last,
            consumers: consumers.map(([name, pending]) => ({ name, pending }))
          })
        )),
    pendingEntries: (group, { consumer, count = PAGE, from, minIdle, to } = {}) => {
      const operation = "ConsumerGroup.pendingEntries"
      const first = bound(operation, "from", from, "-")
      const last = bound(operation, "to", to, "+")
      const idle = nonNegativeMillis(operation, "minIdle", minIdle ?? 0)
      if (Either.isLeft(first)) return Effect.fail(first.left)
      if (Either.isLeft(last)) return Effect.fail(last.left)
      if (Either.isLeft(idle)) return Effect.fail(idle.left)
      return within(
        "pendingEntries",
        group,
        checkCount(operation, "count", count) ??
          (consumer === undefined ? undefined : checkKey(operation, consumer, "consumer")),
        () =>
          ensured(
            group,
            client.xpendingRange(group.stream.key, group.name, {
              start: first.right,
              end: last.right,
              count,
              consumer,
              minIdle: idle.right === 0 ? undefined : idle.right
            })
          )
      )
    },
    claim: (group, consumer, ids, { minIdle }) => {
      const idle = nonNegativeMillis("ConsumerGroup.claim", "minIdle", minIdle)
      if (Either.isLeft(idle)) return Effect.fail(idle.left)
      return within(
        "claim",
        group,
        checkKey("ConsumerGroup.claim", consumer, "consumer") ?? checkIds("ConsumerGroup.claim", ids),
        () =>
          ids.length === 0
            ? Effect.succeed([])
            : Effect.flatMap(
              client.send("XCLAIM", keyOf(group), group.name, consumer, idle.right, ...ids),
              elements("XCLAIM", group)
            )
      )
    },
    autoClaim: (group, consumer, { count = PAGE, cursor = "0-0", minIdle }) => {
      const operation = "ConsumerGroup.autoClaim"
      const idle = nonNegativeMillis(operation, "minIdle", minIdle)
      if (Either.isLeft(idle)) return Effect.fail(idle.left)
      return within(
        "autoClaim",
        group,
        checkKey(operation, consumer, "consumer") ?? checkId(operation, "cursor", cursor) ??
          checkCount(operation, "count", count),
        () =>
          Effect.flatMap(
            client.send("XAUTOCLAIM", keyOf(group), group.name, consumer, idle.right, cursor, "COUNT", count),
            decoded("XAUTOCLAIM", "a cursor, entries and ids", claimed(group))
          )
      )
    },
    acknowledge: (group, ...ids) =>
      removed("acknowledge", group, ids, () => client.xack(group.stream.key, group.name, ...ids)),
    start,
    run: (group, handler, options) =>
      Effect.scoped(Effect.flatMap(start(group, handler, options), (worker) => worker.failure)),
    deadLetters,
    allDeadLetters: (group) =>
      EffectStream.paginateEffect(
        "0-0",
        (after) =>
          within("allDeadLetters", group, undefined, (keys) =>
            Effect.map(letters(keys, after, PAGE), (found) =>
              [
                found.flatMap((entry) => {
                  const letter = deadLetter(group, entry)
                  return letter === undefined ? [] : [letter]
                }),
                found.length < PAGE ? Option.none() : Option.some(found[found.length - 1]!.id)
              ] as const))
      ).pipe(EffectStream.flattenIterables),
    countDeadLetters: (group) =>
      within(
        "countDeadLetters",
        group,
        undefined,
        (keys) => client.xlen(keys.dead)
      ),
    replay: (group, ...ids) =>
      within("replay", group, checkIds("ConsumerGroup.replay", ids), (keys) => replaySome(group, keys, ids)),
    replayAll: (group) =>
      within("replayAll", group, undefined, (keys) =>
        Effect.flatMap(
          Effect.flatMap(
            reading(client.send("XREVRANGE", client.key(keys.dead), "+", "-", "COUNT", 1)),
            decoded("XREVRANGE", "entries", rawEntries)
          ),
          ([last]) => last === undefined ? Effect.succeed(nothing) : replayUpTo(group, keys, "0-0", last.id, nothing)
        )),
    removeDeadLetters: (group, ...ids) =>
      removed("removeDeadLetters", group, ids, (keys) => client.xdel(keys.dead, ...ids))
  }
})

/**
 * Consumer groups over the client of the environment. The connection on which workers of this process wait for entries
 * belongs to the scope.
 *
 * @since 0.1.0
 * @category constructors
 */
export const make: Effect.Effect<Service, never, RedisClient | Scope.Scope> = Effect.flatMap(
  makeWaker,
  (waker) => Effect.provideService(makeShared, Waker, waker)
)

// ---------------------------------------------------------------------------------------------------------------------
// Layers
// ---------------------------------------------------------------------------------------------------------------------

/**
 * @since 0.1.0
 * @category layers
 */
export const layer: Layer.Layer<ConsumerGroup, never, RedisClient> = Layer.provide(
  Layer.effect(ConsumerGroup, makeShared),
  wakerLayer
)

/**
 * Consumer groups on a server in memory, with the server and its client beside it.
 *
 * @since 0.1.0
 * @category layers
 */
export const layerTest: Layer.Layer<ConsumerGroup | RedisClient | RedisTestServer> = Layer.provideMerge(
  layer,
  testServer
)

/**
 * A worker as a layer: it runs for as long as the program that is built with it.
 *
 * @example
 * ```ts
 * import { Effect, Layer, Schema } from "effect"
 * import { ConsumerGroup, Stream } from "effect-redis-kit"
 *
 * const Orders = Stream.define({ name: "orders", schema: Schema.Struct({ id: Schema.String }) })
 * const Mailers = ConsumerGroup.define({ stream: Orders, name: "mailers" })
 *
 * const Mailing = ConsumerGroup.worker(Mailers, (order) => Effect.log(`mail for ${order.value.id}`), {
 *   concurrency: 20
 * })
 *
 * const program = Layer.launch(Mailing)
 * ```
 *
 * @since 0.1.0
 * @category layers
 */
export const worker = <A, E, R, R2 = never>(
  group: Definition<A>,
  handler: (entry: Delivered<A>) => Effect.Effect<unknown, E, R>,
  options?: WorkerOptions<A, R2>
): Layer.Layer<never, RedisError, ConsumerGroup | Exclude<R | R2, Scope.Scope>> =>
  Layer.scopedDiscard(start(group, handler, options))

// ---------------------------------------------------------------------------------------------------------------------
// Accessors
// ---------------------------------------------------------------------------------------------------------------------

/**
 * Starts a worker that runs until the scope closes, and can be paused, resumed and stopped before.
 *
 * A handler that succeeds acknowledges its entry. When it fails or dies, the entry is tried again by the `retry` schedule,
 * by any worker of the group, until it becomes a dead letter.
 *
 * The end of the scope lets handlers finish (`drain`), acknowledges what they did, and gives back what was not begun, so
 * that others can take it at once.
 *
 * @example
 * ```ts
 * import { Effect, Schedule, Schema } from "effect"
 * import { ConsumerGroup, Stream } from "effect-redis-kit"
 *
 * const Orders = Stream.define({ name: "orders", schema: Schema.Struct({ id: Schema.String, user: Schema.String }) })
 * const Mailers = ConsumerGroup.define({ stream: Orders, name: "mailers" })
 *
 * const program = Effect.scoped(Effect.gen(function*() {
 *   const worker = yield* ConsumerGroup.start(
 *     Mailers,
 *     (order) => Effect.log(`mail for ${order.value.id}, delivery ${order.deliveries}`),
 *     {
 *       concurrency: 20,
 *       key: (order) => order.value.user,
 *       retry: Schedule.exponential("2 seconds"),
 *       maxDeliveries: 5
 *     }
 *   )
 *   yield* worker.pause
 *   yield* worker.resume
 * }))
 * ```
 *
 * @since 0.1.0
 * @category accessors
 */
export const start = <A, E, R, R2 = never>(
  group: Definition<A>,
  handler: (entry: Delivered<A>) => Effect.Effect<unknown, E, R>,
  options?: WorkerOptions<A, R2>
): Effect.Effect<Worker, RedisError, ConsumerGroup | R | R2 | Scope.Scope> =>
  Effect.flatMap(ConsumerGroup, (service) => service.start(group, handler, options))

/**
 * Runs a worker until it is interrupted, and stops it as the end of a scope does. It fails when it can't go on.
 *
 * @since 0.1.0
 * @category accessors
 */
export const run = <A, E, R, R2 = never>(
  group: Definition<A>,
  handler: (entry: Delivered<A>) => Effect.Effect<unknown, E, R>,
  options?: WorkerOptions<A, R2>
): Effect.Effect<never, RedisError, ConsumerGroup | R | R2> =>
  Effect.flatMap(ConsumerGroup, (service) => service.run(group, handler, options))

/**
 * Makes a group, and the stream where there is none. A worker does that by itself.
 *
 * @since 0.1.0
 * @category accessors
 */
export const create = <A>(group: Definition<A>): Effect.Effect<boolean, RedisError, ConsumerGroup> =>
  Effect.flatMap(ConsumerGroup, (service) => service.create(group))

/**
 * Removes a group, with what is pending and not its dead letters.
 *
 * @since 0.1.0
 * @category accessors
 */
export const destroy = <A>(group: Definition<A>): Effect.Effect<boolean, RedisError, ConsumerGroup> =>
  Effect.flatMap(ConsumerGroup, (service) => service.destroy(group))

/**
 * How far a group is behind.
 *
 * @since 0.1.0
 * @category accessors
 */
export const lag = <A>(group: Definition<A>): Effect.Effect<Lag, RedisError, ConsumerGroup> =>
  Effect.flatMap(ConsumerGroup, (service) => service.lag(group))

/**
 * How many entries are pending, and for whom.
 *
 * @since 0.1.0
 * @category accessors
 */
export const pending = <A>(group: Definition<A>): Effect.Effect<PendingSummary, RedisError, ConsumerGroup> =>
  Effect.flatMap(ConsumerGroup, (service) => service.pending(group))

/**
 * The dead letters of a group, oldest first.
 *
 * @since 0.1.0
 * @category accessors
 */
export const deadLetters = <A>(
  group: Definition<A>,
  options?: { readonly after?: string | undefined; readonly count?: number | undefined }
): Effect.Effect<ReadonlyArray<DeadLetter<A>>, RedisError, ConsumerGroup> =>
  Effect.flatMap(ConsumerGroup, (service) => service.deadLetters(group, options))

/**
 * Puts dead letters back. An entry that is still in its stream is pending again for this group alone, as if it was never
 * delivered. Of one that is not, a copy is appended, which all groups get.
 *
 * @since 0.1.0
 * @category accessors
 */
export const replay = <A>(
  group: Definition<A>,
  ...ids: ReadonlyArray<string>
): Effect.Effect<Replayed, RedisError, ConsumerGroup> =>
  Effect.flatMap(ConsumerGroup, (service) => service.replay(group, ...ids))

/**
 * Puts all dead letters back that there are at this moment.
 *
 * @since 0.1.0
 * @category accessors
 */
export const replayAll = <A>(group: Definition<A>): Effect.Effect<Replayed, RedisError, ConsumerGroup> =>
  Effect.flatMap(ConsumerGroup, (service) => service.replayAll(group))
