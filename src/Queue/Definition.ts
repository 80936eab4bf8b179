/**
 * What a queue is, as a value.
 */
import type * as DateTime from "effect/DateTime"
import * as Duration from "effect/Duration"
import type * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import type * as Option from "effect/Option"
import * as Schedule from "effect/Schedule"
import type * as Schema from "effect/Schema"
import { checkWhole, nonNegativeMillis, positiveMillis } from "../internal/input.js"
import { checkName } from "../internal/rooms.js"
import type { RedisError, RedisInputError } from "../RedisError.js"
import type { ChildOutcome } from "./flows.js"
import type { GroupLimits } from "./groupScripts.js"
import { LEVELS } from "./keys.js"
import { usesOf } from "./resultScripts.js"

/**
 * How long a job that has failed waits for its next attempt: a schedule, which gets the errors and is gone through once
 * for each failed attempt, or a function of the error and the number of the attempt. When the schedule has ended, or the
 * function gives nothing, there is no further attempt.
 *
 * @since 0.1.0
 * @category models
 */
export type Backoff =
  | Schedule.Schedule<unknown, unknown>
  | ((error: unknown, attempt: number) => Duration.DurationInput | Option.Option<Duration.DurationInput>)

/**
 * What holds for each group of a queue by itself.
 *
 * @since 0.1.0
 * @category models
 */
export interface GroupDefaults {
  /** How many jobs of a group may run at once, in all processes together; any number by default. */
  readonly concurrency?: number | undefined
  /** No more than `limit` jobs of a group start in any `window`, in all processes together; any number by default. */
  readonly rate?: { readonly limit: number; readonly window: Duration.DurationInput } | undefined
}

/**
 * A queue, with the type of what its jobs are about, and of what their handlers give when the queue has a `result`.
 *
 * @since 0.1.0
 * @category models
 */
export interface Definition<in out A, in out B = unknown> {
  readonly name: string
  readonly payload: Schema.Schema<A, any>
  readonly result: Schema.Schema<B, any> | undefined
  readonly attempts: number
  readonly backoff: Backoff
  readonly timeout: Duration.DurationInput | undefined
  readonly priorities: number
  readonly maxSize: number | undefined
  readonly maxPayload: number
  readonly lease: Duration.DurationInput
  readonly deadLetters: {
    readonly count: number
    readonly age: Duration.DurationInput
  }
  readonly completed: {
    readonly count: number
    readonly age: Duration.DurationInput
  } | undefined
  readonly logs: {
    readonly lines: number
    readonly bytes: number
  }
  readonly events: {
    readonly maxLength: number
  } | undefined
  readonly retryable: (error: unknown) => boolean
  readonly inspected: boolean
  readonly groups: GroupDefaults | undefined
}

/**
 * @since 0.1.0
 * @category models
 */
export interface Options<A, I, B = unknown, J = unknown> {
  readonly name: string
  readonly payload: Schema.Schema<A, I>
  /**
   * What a handler gives; without it anything, which is dropped. A handler that gives something else, or more bytes as
   * JSON than a payload may have, has failed.
   */
  readonly result?: Schema.Schema<B, J> | undefined
  /** How often a job is tried before it is a dead letter; 3 by default, and 1000 at most. */
  readonly attempts?: number | undefined
  /** Exponential from a second on, with jitter, and no more than an hour by default. */
  readonly backoff?: Backoff | undefined
  /** How long one attempt may take; for ever by default. */
  readonly timeout?: Duration.DurationInput | undefined
  /** How many priorities there are, from 0 on; 4 by default, and 8 at most. Larger ones come first. */
  readonly priorities?: number | undefined
  /** How many jobs the queue takes; dead letters do not count. No limit by default. */
  readonly maxSize?: number | undefined
  /** How many bytes a payload may have as JSON; 1 MiB by default. */
  readonly maxPayload?: number | undefined
  /**
   * How long a job stays with a worker that gives no sign of life; 30 seconds by default. A worker gives one three times
   * in that time, so a job may take far longer.
   */
  readonly lease?: Duration.DurationInput | undefined
  /** How many dead letters are kept, and how long; 10,000 and 30 days by default. */
  readonly deadLetters?: {
    readonly count?: number | undefined
    readonly age?: Duration.DurationInput | undefined
  } | undefined
  /**
   * Keeps completed jobs with their results, so many and so long: 1000 and an hour when nothing else is said. Without it,
   * or with a count of 0, none is kept, and nobody can await one. As long as a job is kept, its id is in use.
   */
  readonly completed?: {
    readonly count?: number | undefined
    readonly age?: Duration.DurationInput | undefined
  } | undefined
  /** How many of the last lines of each job are kept, and how many bytes at most; 100 and 16 KiB by default. */
  readonly logs?: {
    readonly lines?: number | undefined
    readonly bytes?: number | undefined
  } | undefined
  /** Writes down what happens to jobs, about so many of the last events; 10,000 when nothing else is said. None without it. */
  readonly events?: {
    readonly maxLength?: number | undefined
  } | undefined
  /** Whether another attempt makes sense after an error of the handler; always by default. */
  readonly retryable?: ((error: unknown) => boolean) | undefined
  /**
   * `queues` lists it, its workers report what they run, and its throughput is kept by the minute for an hour; not by default.
   * A worker makes a small call for it, once in a second at most.
   */
  readonly inspected?: boolean | undefined
  /** Its jobs may have a group: groups take turns, and may have limits. Without it there are none. */
  readonly groups?: GroupDefaults | undefined
}

/**
 * What becomes of a job whose deduplication key is in use.
 *
 * - `until-finished`: it is dropped as long as the other one is not complete and no dead letter
 * - `window`: it is dropped for so long after the other one was added, whether that is finished or not
 * - `replace-delayed`: it takes the place of the other one as long as that is delayed, and is dropped else
 * - `keep-last`: it takes the place of the other one as long as that waits. When it runs, this one comes next; of several
 *   that come meanwhile the last
 *
 * @since 0.1.0
 * @category models
 */
export type Deduplication =
  | {
    readonly key: string
    readonly mode: "until-finished" | "replace-delayed" | "keep-last"
  }
  | {
    readonly key: string
    readonly mode: "window"
    readonly ttl: Duration.DurationInput
  }

/**
 * @since 0.1.0
 * @category models
 */
export interface EnqueueOptions {
  /** A job with an id that is there already, also as a dead letter, is dropped. */
  readonly id?: string | undefined
  /** It does not start before. */
  readonly delay?: Duration.DurationInput | undefined
  readonly at?: DateTime.DateTime | undefined
  /** 0 by default. Larger ones come first. */
  readonly priority?: number | undefined
  /** In place of those of the queue. */
  readonly attempts?: number | undefined
  readonly timeout?: Duration.DurationInput | undefined
  /** From then on it is not started, and when it runs it is interrupted: it becomes a dead letter. */
  readonly deadline?: Duration.DurationInput | DateTime.DateTime | undefined
  readonly deduplicate?: Deduplication | undefined
  /** For queues with groups. Jobs without one are a group, too, which has no limits. */
  readonly group?: string | undefined
}

/**
 * What became of a job that was enqueued.
 *
 * - `added`: it is in the queue
 * - `replaced`: it is, and another one is not any more
 * - `kept`: it follows the running one with its deduplication key
 * - `duplicate`: it was dropped, and `id` is the id of the one that was there
 *
 * @since 0.1.0
 * @category models
 */
export interface Enqueued {
  readonly id: string
  readonly outcome: "added" | "replaced" | "kept" | "duplicate"
}

/**
 * The schedule that a job is from, and the time it is for. That may be long ago, when nobody could fire it or run it.
 *
 * @since 0.1.0
 * @category models
 */
export interface Firing {
  readonly id: string
  readonly slot: DateTime.Utc
}

/**
 * What a handler gets.
 *
 * @since 0.1.0
 * @category models
 */
export interface Job<out A> {
  readonly id: string
  readonly payload: A
  /** 1 at the first time. */
  readonly attempt: number
  /** How many there are at most. */
  readonly attempts: number
  readonly priority: number
  readonly group: Option.Option<string>
  /** By the clock of whoever enqueued it. */
  readonly enqueuedAt: DateTime.Utc
  /** Where it comes from, when a schedule has made it. */
  readonly schedule: Option.Option<Firing>
  /** Keeps a value, as JSON, that others can read as long as the job runs. Whether the job still belongs to this worker. */
  readonly progress: (value: unknown) => Effect.Effect<boolean, RedisError>
  /** What became of the jobs that it has waited for, in the order in which they were given. `childResults` decodes it. */
  readonly children: Effect.Effect<ReadonlyArray<ChildOutcome>, RedisError>
  /**
   * Keeps a line, with the time, as long as there is something of the job; also of a dead letter, or a completed job that
   * is kept. A long one is cut. Whether the job still belongs to this worker.
   */
  readonly log: (line: string) => Effect.Effect<boolean, RedisError>
}

/** The options in milliseconds, checked. */
export interface Settings {
  readonly lease: number
  readonly timeout: number | undefined
  readonly deadCount: number
  readonly deadAge: number
  /** 0 keeps no completed jobs. */
  readonly keptCount: number
  readonly keptAge: number
  /** How many events are kept; 0 for none. */
  readonly mostEvents: number
  /** What of it scripts are told. */
  readonly uses: string
  readonly groups: GroupLimits | undefined
}

/** A second, doubled each time, up to an hour, a fifth more or less. */
export const defaultBackoff: Schedule.Schedule<Duration.Duration> = Schedule.exponential("1 second").pipe(
  Schedule.delayed((delay) => Duration.min(delay, Duration.hours(1))),
  Schedule.jittered
)

export const MOST_ATTEMPTS = 1000

const MOST_JOBS = 1_000_000_000

/** Every line that is added takes the others along. */
const MOST_LINES = 10_000
const LEAST_LOGS = 1024
const MOST_LOGS = 1024 * 1024

/** A string on the server has no more than 512 MiB. */
const MOST_PAYLOAD = 256 * 1024 * 1024

/** Definitions are values of a module, so each is looked at once. */
const checked = new WeakMap<Definition<any, any>, Either.Either<Settings, RedisInputError>>()

export const settingsOf = <A>(definition: Definition<A, any>): Either.Either<Settings, RedisInputError> => {
  const known = checked.get(definition)
  if (known !== undefined) return known
  const result = check(definition)
  checked.set(definition, result)
  return result
}

const check = <A>(definition: Definition<A, any>): Either.Either<Settings, RedisInputError> => {
  const operation = "Queue.define"
  const { attempts, completed, deadLetters, events, lease, logs, maxPayload, maxSize, name, priorities, timeout } =
    definition
  const bad = checkName(operation, "name", name) ??
    checkWhole(operation, "attempts", 1, MOST_ATTEMPTS, attempts) ??
    checkWhole(operation, "priorities", 1, LEVELS, priorities) ??
    (maxSize === undefined ? undefined : checkWhole(operation, "maxSize", 1, MOST_JOBS, maxSize)) ??
    checkWhole(operation, "maxPayload", 1, MOST_PAYLOAD, maxPayload) ??
    checkWhole(operation, "deadLetters.count", 0, MOST_JOBS, deadLetters.count) ??
    (completed === undefined ? undefined : checkWhole(operation, "completed.count", 0, MOST_JOBS, completed.count)) ??
    (events === undefined ? undefined : checkWhole(operation, "events.maxLength", 0, MOST_JOBS, events.maxLength)) ??
    checkWhole(operation, "logs.lines", 1, MOST_LINES, logs.lines) ??
    checkWhole(operation, "logs.bytes", LEAST_LOGS, MOST_LOGS, logs.bytes)
  if (bad !== undefined) return Either.left(bad)
  const keptCount = completed?.count ?? 0
  const mostEvents = events?.maxLength ?? 0
  const keptAge = completed === undefined ? Either.right(0) : positiveMillis(operation, "completed.age", completed.age)
  return Either.all({
    lease: positiveMillis(operation, "lease", lease),
    timeout: timeout === undefined ? Either.right(undefined) : positiveMillis(operation, "timeout", timeout),
    deadCount: Either.right(deadLetters.count),
    deadAge: nonNegativeMillis(operation, "deadLetters.age", deadLetters.age),
    keptCount: Either.right(keptCount),
    keptAge,
    mostEvents: Either.right(mostEvents),
    uses: Either.map(keptAge, (age) => usesOf(keptCount, age, mostEvents)),
    groups: definition.groups === undefined
      ? Either.right(undefined)
      : checkGroups(operation, "groups.", definition.groups)
  })
}

/** How many starts of a group are remembered at most. */
const MOST_STARTS = 1_000_000

/** What stands for none is 0. */
export const checkGroups = (
  operation: string,
  path: string,
  { concurrency, rate }: GroupDefaults
): Either.Either<GroupLimits, RedisInputError> => {
  const bad = (concurrency === undefined
    ? undefined
    : checkWhole(operation, `${path}concurrency`, 1, MOST_STARTS, concurrency)) ??
    (rate === undefined ? undefined : checkWhole(operation, `${path}rate.limit`, 1, MOST_STARTS, rate.limit))
  if (bad !== undefined) return Either.left(bad)
  return Either.map(
    rate === undefined ? Either.right(0) : positiveMillis(operation, `${path}rate.window`, rate.window),
    (window) => ({ concurrency: concurrency ?? 0, limit: rate?.limit ?? 0, window })
  )
}

/**
 * Describes a queue. Its name is what makes it the same for others, so all who use it should use one definition.
 *
 * @example
 * ```ts
 * import { Effect, Schedule, Schema } from "effect"
 * import { Queue } from "effect-redis-kit"
 *
 * const Emails = Queue.define({
 *   name: "emails",
 *   payload: Schema.Struct({ to: Schema.String, subject: Schema.String }),
 *   attempts: 5,
 *   backoff: Schedule.exponential("1 second").pipe(Schedule.jittered)
 * })
 *
 * const EmailWorker = Queue.worker(Emails, (job) => Effect.log(`to ${job.payload.to}`), { concurrency: 20 })
 *
 * const program = Queue.enqueue(Emails, { to: "ada@example.com", subject: "Hello" }, { delay: "10 minutes" })
 * ```
 *
 * @since 0.1.0
 * @category constructors
 */
export const define = <A, I, B = unknown, J = unknown>(options: Options<A, I, B, J>): Definition<A, B> => ({
  name: options.name,
  payload: options.payload,
  result: options.result,
  attempts: options.attempts ?? 3,
  backoff: options.backoff ?? defaultBackoff,
  timeout: options.timeout,
  priorities: options.priorities ?? 4,
  maxSize: options.maxSize,
  maxPayload: options.maxPayload ?? 1024 * 1024,
  lease: options.lease ?? "30 seconds",
  deadLetters: { count: options.deadLetters?.count ?? 10_000, age: options.deadLetters?.age ?? "30 days" },
  completed: options.completed === undefined
    ? undefined
    : { count: options.completed.count ?? 1000, age: options.completed.age ?? "1 hour" },
  logs: { lines: options.logs?.lines ?? 100, bytes: options.logs?.bytes ?? 16 * 1024 },
  events: options.events === undefined ? undefined : { maxLength: options.events.maxLength ?? 10_000 },
  retryable: options.retryable ?? (() => true),
  inspected: options.inspected ?? false,
  groups: options.groups
})
