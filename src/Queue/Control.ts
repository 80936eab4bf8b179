/**
 * Operating a queue: its settings, its jobs one by one and in pages, and their removal.
 *
 * @since 0.1.0
 */
import * as DateTime from "effect/DateTime"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import { checkWhole, inputError, nonNegativeMillis, positiveMillis } from "../internal/input.js"
import { checkName } from "../internal/rooms.js"
import { withSpan } from "../internal/telemetry.js"
import type * as RedisClient from "../RedisClient.js"
import type { RedisError, RedisInputError } from "../RedisError.js"
import * as scripts from "./controlScripts.js"
import { type Definition, settingsOf } from "./Definition.js"
import { decoder, whyOf } from "./envelope.js"
import { keysOf, registryKey } from "./keys.js"
import type { Notices } from "./scripts.js"

// ---------------------------------------------------------------------------------------------------------------------
// Models
// ---------------------------------------------------------------------------------------------------------------------

/**
 * Where a job is. Completed jobs are gone, unless the queue keeps them.
 *
 * @since 0.1.0
 * @category models
 */
export type JobState = "ready" | "delayed" | "blocked" | "running" | "dead" | "completed"

/**
 * How many jobs are in each state. Their sum is the number of jobs.
 *
 * @since 0.1.0
 * @category models
 */
export interface Counts {
  readonly ready: number
  /** Those that wait for their time, and those that wait for their next attempt. */
  readonly delayed: number
  /** Those that wait for their children. */
  readonly blocked: number
  /** Those that a worker has taken, whether it has started them or not. */
  readonly running: number
  readonly dead: number
  /** Those that are kept. */
  readonly completed: number
}

/**
 * No more than `limit` jobs start in any `window`, in all processes together.
 *
 * @since 0.1.0
 * @category models
 */
export interface QueueRateLimit {
  readonly limit: number
  readonly window: Duration.DurationInput
}

/**
 * @since 0.1.0
 * @category models
 */
export interface Status {
  readonly counts: Counts
  readonly paused: boolean
  /** How many jobs may run at once, in all processes together. */
  readonly concurrency: Option.Option<number>
  readonly rateLimit: Option.Option<{ readonly limit: number; readonly window: Duration.Duration }>
  /** Since the queue is there: jobs that completed, attempts that failed, and jobs that became dead letters. */
  readonly totals: {
    readonly completed: number
    readonly failed: number
    readonly dead: number
  }
}

/**
 * A job, as it is stored.
 *
 * @since 0.1.0
 * @category models
 */
export interface JobInfo<out A> {
  readonly id: string
  readonly state: JobState
  /** `Left` says why the payload can't be read: another release wrote it, or somebody else. */
  readonly payload: Either.Either<A, string>
  readonly priority: number
  readonly group: Option.Option<string>
  /** How many attempts have failed. */
  readonly failures: number
  /** How many there are at most. */
  readonly attempts: number
  /** By the clock of whoever enqueued it. */
  readonly enqueuedAt: DateTime.Utc
  /** When it is due, since when it waits for children, when its lease ends, when it died or was completed; nothing for one that is ready. */
  readonly at: Option.Option<DateTime.Utc>
}

/**
 * Some jobs, and where to go on.
 *
 * @since 0.1.0
 * @category models
 */
export interface JobPage<out J> {
  readonly jobs: ReadonlyArray<J>
  /** The `offset` of the next page. */
  readonly next: Option.Option<number>
}

/**
 * @since 0.1.0
 * @category models
 */
export interface PageOptions {
  /** How many to leave out; 0 by default. */
  readonly offset?: number | undefined
  /** How many at most; 100 by default, and no more than 1000. */
  readonly limit?: number | undefined
}

/**
 * When a job shall run: after a while, or at an instant.
 *
 * @since 0.1.0
 * @category models
 */
export type When = { readonly delay: Duration.DurationInput } | { readonly at: DateTime.DateTime }

/**
 * What operates a queue.
 *
 * @since 0.1.0
 * @category models
 */
export interface Control {
  /** No job of the queue starts anywhere, until it is resumed. Running ones go on, and jobs can be enqueued. */
  readonly pause: <A>(definition: Definition<A, any>) => Effect.Effect<void, RedisError>
  readonly resume: <A>(definition: Definition<A, any>) => Effect.Effect<void, RedisError>
  /** How many jobs may run at once, in all processes together; `undefined` for any number. */
  readonly setGlobalConcurrency: <A>(
    definition: Definition<A, any>,
    concurrency: number | undefined
  ) => Effect.Effect<void, RedisError>
  /** How many jobs may start in any window, in all processes together; `undefined` for any number. */
  readonly setRateLimit: <A>(
    definition: Definition<A, any>,
    rateLimit: QueueRateLimit | undefined
  ) => Effect.Effect<void, RedisError>
  /** How many jobs are in each state. */
  readonly counts: <A>(definition: Definition<A, any>) => Effect.Effect<Counts, RedisError>
  /** The counts, the settings, and what became of earlier jobs. */
  readonly status: <A>(definition: Definition<A, any>) => Effect.Effect<Status, RedisError>
  /**
   * Some of the jobs of a state: those that wait in the order in which they will start, those that wait for children
   * from the oldest, running ones by the end of their leases, dead and completed ones from the oldest. As jobs come and go, a page can repeat some of the one before, or miss some.
   */
  readonly list: <A>(
    definition: Definition<A, any>,
    state: JobState,
    options?: PageOptions
  ) => Effect.Effect<JobPage<JobInfo<A>>, RedisError>
  readonly get: <A>(definition: Definition<A, any>, id: string) => Effect.Effect<Option.Option<JobInfo<A>>, RedisError>
  /** What the handler of a running job has told last. */
  readonly progress: <A>(
    definition: Definition<A, any>,
    id: string
  ) => Effect.Effect<Option.Option<unknown>, RedisError>
  /** Removes a job that does not run. Its children that are not complete go with it, and its parent hears of it. */
  readonly remove: <A>(
    definition: Definition<A, any>,
    id: string
  ) => Effect.Effect<void, JobNotFound | JobIsRunning | RedisError>
  /**
   * Interrupts the handler of a running job, wherever it runs. The job becomes a dead letter. Returns whether it runs;
   * when it ends by itself meanwhile, nothing happens.
   */
  readonly cancel: <A>(definition: Definition<A, any>, id: string) => Effect.Effect<boolean, RedisError>
  /** Makes a delayed job ready, at its priority. */
  readonly promote: <A>(
    definition: Definition<A, any>,
    id: string
  ) => Effect.Effect<void, JobNotFound | JobNotDelayed | RedisError>
  /** Changes when a delayed job is due, or has its next attempt. */
  readonly changeDelay: <A>(
    definition: Definition<A, any>,
    id: string,
    when: When
  ) => Effect.Effect<void, JobNotFound | JobNotDelayed | RedisError>
  /** Gives a job that waits another priority. It comes behind those that have it already. */
  readonly changePriority: <A>(
    definition: Definition<A, any>,
    id: string,
    priority: number
  ) => Effect.Effect<void, JobNotFound | JobNotWaiting | RedisError>
  /**
   * Removes all jobs that wait, also for children, step by step, and returns how many. Those that are enqueued meanwhile may
   * stay. With `delayed: false` only those that are ready are removed.
   */
  readonly drain: <A>(
    definition: Definition<A, any>,
    options?: { readonly delayed?: boolean | undefined }
  ) => Effect.Effect<number, RedisError>
  /**
   * Removes the queue with everything: jobs, dead letters, schedules, settings and counters. While jobs run it is refused; with
   * `force` their workers lose them.
   */
  readonly obliterate: <A>(
    definition: Definition<A, any>,
    options?: { readonly force?: boolean | undefined }
  ) => Effect.Effect<void, QueueIsBusy | RedisError>
}

// ---------------------------------------------------------------------------------------------------------------------
// Errors
// ---------------------------------------------------------------------------------------------------------------------

/**
 * There is no such job: it never was, it has completed, or it was removed.
 *
 * @since 0.1.0
 * @category errors
 */
export class JobNotFound extends Schema.TaggedError<JobNotFound>("effect-redis-kit/Queue/JobNotFound")("JobNotFound", {
  queue: Schema.String,
  id: Schema.String
}) {
  /** @since 0.1.0 */
  override get message(): string {
    return `there is no job "${this.id}" in the queue "${this.queue}"`
  }
}

/**
 * A worker has the job. `cancel` interrupts it.
 *
 * @since 0.1.0
 * @category errors
 */
export class JobIsRunning extends Schema.TaggedError<JobIsRunning>("effect-redis-kit/Queue/JobIsRunning")(
  "JobIsRunning",
  { queue: Schema.String, id: Schema.String }
) {
  /** @since 0.1.0 */
  override get message(): string {
    return `the job "${this.id}" of the queue "${this.queue}" is running`
  }
}

const State = Schema.Literal("ready", "delayed", "blocked", "running", "dead", "completed")

/**
 * Only a delayed job can do this. Nothing was changed.
 *
 * @since 0.1.0
 * @category errors
 */
export class JobNotDelayed extends Schema.TaggedError<JobNotDelayed>("effect-redis-kit/Queue/JobNotDelayed")(
  "JobNotDelayed",
  { queue: Schema.String, id: Schema.String, state: State }
) {
  /** @since 0.1.0 */
  override get message(): string {
    return `the job "${this.id}" of the queue "${this.queue}" is not delayed, but ${this.state}`
  }
}

/**
 * Only a job that is ready, delayed or blocked can do this. Nothing was changed.
 *
 * @since 0.1.0
 * @category errors
 */
export class JobNotWaiting extends Schema.TaggedError<JobNotWaiting>("effect-redis-kit/Queue/JobNotWaiting")(
  "JobNotWaiting",
  { queue: Schema.String, id: Schema.String, state: State }
) {
  /** @since 0.1.0 */
  override get message(): string {
    return `the job "${this.id}" of the queue "${this.queue}" does not wait, but is ${this.state}`
  }
}

/**
 * Jobs of the queue are running. Nothing was removed.
 *
 * @since 0.1.0
 * @category errors
 */
export class QueueIsBusy extends Schema.TaggedError<QueueIsBusy>("effect-redis-kit/Queue/QueueIsBusy")("QueueIsBusy", {
  queue: Schema.String,
  running: Schema.Number
}) {
  /** @since 0.1.0 */
  override get message(): string {
    return `${this.running} jobs of the queue "${this.queue}" are running`
  }
}

// ---------------------------------------------------------------------------------------------------------------------
// Constructors
// ---------------------------------------------------------------------------------------------------------------------

/** A definition that was checked, as the scripts know it. */
export interface Opened<A> {
  readonly target: scripts.Target
  readonly read: (row: scripts.Row) => JobInfo<A>
}

export const timeOf = (millis: number): DateTime.Utc =>
  Option.getOrElse(DateTime.make(millis), () => DateTime.unsafeMake(0))

/** Checks what every operation is given, and knows what it needs of a definition. */
export const opener =
  (notices: Pick<Notices, "cluster">, client: RedisClient.Service) =>
  <A>(operation: string, definition: Definition<A, any>, id?: string): Either.Either<Opened<A>, RedisInputError> => {
    const bad = id === undefined ? undefined : checkName(operation, "id", id)
    if (bad !== undefined) return Either.left(bad)
    return Either.map(settingsOf(definition), ({ uses }) => {
      const keys = keysOf(definition.name)
      const decode = decoder(definition)
      return {
        target: { keys, cluster: notices.cluster, uses, wake: client.key(keys.wake) },
        read: ({ at, envelope: text, failures, id, level, state }) => {
          const { attempts, enqueuedAt, group, payload } = decode(text, id)
          return {
            id,
            state,
            payload: Either.mapLeft(payload, whyOf),
            priority: level,
            group: Option.fromNullable(group),
            failures,
            attempts: attempts ?? definition.attempts,
            enqueuedAt: timeOf(enqueuedAt),
            at: state === "ready" ? Option.none() : Option.some(timeOf(at))
          }
        }
      }
    })
  }

export type Open = ReturnType<typeof opener>

const MOST_PAGE = scripts.PAGE

/** The log of the starts has one entry for each. */
const MOST_STARTS = 1_000_000

const MOST_CONCURRENCY = 1_000_000

const MOST_OFFSET = Number.MAX_SAFE_INTEGER

/** Offset and limit of a page. */
export const pageOf = (
  operation: string,
  options: PageOptions | undefined
): Either.Either<{ readonly offset: number; readonly limit: number }, RedisInputError> => {
  const offset = options?.offset ?? 0
  const limit = options?.limit ?? 100
  const bad = checkWhole(operation, "offset", 0, MOST_OFFSET - MOST_PAGE, offset) ??
    checkWhole(operation, "limit", 1, MOST_PAGE, limit)
  return bad === undefined ? Either.right({ offset, limit }) : Either.left(bad)
}

export const nextOf = (next: number): Option.Option<number> => next === 0 ? Option.none() : Option.some(next)

/** Makes the span of an operation of a queue. */
export const spanned = <A, B, E, R = never>(
  operation: string,
  { name }: Definition<A, any>,
  effect: Effect.Effect<B, E, R>
): Effect.Effect<B, E, R> => withSpan(effect, `queue.${operation}`, () => ({ "effect_redis.queue.name": name }))

const countsOf = ({ blocked, dead, delayed, kept, ready, running }: scripts.Status): Counts => ({
  ready,
  delayed,
  blocked,
  running,
  dead,
  completed: kept
})

export const statusOf = (found: scripts.Status): Status => ({
  counts: countsOf(found),
  paused: found.paused,
  concurrency: Option.fromNullable(found.concurrency),
  rateLimit: found.limit === undefined || found.window === undefined
    ? Option.none()
    : Option.some({ limit: found.limit, window: Duration.millis(found.window) }),
  totals: { completed: found.completed, failed: found.failed, dead: found.died }
})

export const parseJson = (text: string): Option.Option<unknown> => {
  try {
    return Option.some(JSON.parse(text))
  } catch {
    return Option.none()
  }
}

/** Checks a definition and perhaps an id, and makes the span. */
export const withinOf = (open: Open) =>
<A, B, E>(
  operation: string,
  definition: Definition<A, any>,
  id: string | undefined,
  use: (opened: Opened<A>) => Effect.Effect<B, E>
): Effect.Effect<B, E | RedisInputError> => {
  const opened = open(`Queue.${operation}`, definition, id)
  return Either.isLeft(opened) ? Effect.fail(opened.left) : spanned(operation, definition, use(opened.right))
}

/**
 * What operates the queues of a client.
 *
 * @internal
 */
export const makeControl = (client: RedisClient.Service, open: Open): Control => {
  const within = withinOf(open)

  const configure = <A>(
    operation: string,
    definition: Definition<A, any>,
    settings: Readonly<Record<string, string | number>>
  ) =>
    within(
      operation,
      definition,
      undefined,
      ({ target }) => Effect.asVoid(client.eval(scripts.configure, target, settings))
    )

  /** Changes a job. `refused` is the error for one that is in the wrong state. */
  const change = <A, E>(
    operation: string,
    definition: Definition<A, any>,
    id: string,
    use: (target: scripts.Target) => Effect.Effect<scripts.Outcome, RedisError>,
    refused: (state: JobState) => E
  ): Effect.Effect<void, JobNotFound | E | RedisError> =>
    within(operation, definition, id, ({ target }) =>
      Effect.flatMap(
        use(target),
        (outcome): Effect.Effect<void, JobNotFound | E> =>
          outcome === "ok"
            ? Effect.void
            : Effect.fail(
              outcome === "missing" ? new JobNotFound({ queue: definition.name, id }) : refused(outcome)
            )
      ))

  const notDelayed = <A>({ name }: Definition<A, any>, id: string) => (state: JobState) =>
    new JobNotDelayed({ queue: name, id, state })

  const status = <A>(operation: string, definition: Definition<A, any>) =>
    within(operation, definition, undefined, ({ target }) => client.eval(scripts.status, target))

  return {
    pause: (definition) => configure("pause", definition, { paused: 1 }),
    resume: (definition) => configure("resume", definition, { paused: "" }),
    setGlobalConcurrency: (definition, concurrency) => {
      const operation = "setGlobalConcurrency"
      const bad = concurrency === undefined
        ? undefined
        : checkWhole(`Queue.${operation}`, "concurrency", 1, MOST_CONCURRENCY, concurrency)
      return bad === undefined
        ? configure(operation, definition, { concurrency: concurrency ?? "" })
        : Effect.fail(bad)
    },
    setRateLimit: (definition, rateLimit) => {
      const operation = "setRateLimit"
      if (rateLimit === undefined) return configure(operation, definition, { limit: "", window: "" })
      const bad = checkWhole(`Queue.${operation}`, "limit", 1, MOST_STARTS, rateLimit.limit)
      if (bad !== undefined) return Effect.fail(bad)
      const window = positiveMillis(`Queue.${operation}`, "window", rateLimit.window)
      return Either.isLeft(window)
        ? Effect.fail(window.left)
        : configure(operation, definition, { limit: rateLimit.limit, window: window.right })
    },
    counts: (definition) => Effect.map(status("counts", definition), countsOf),
    status: (definition) => Effect.map(status("status", definition), statusOf),
    list: (definition, state, options) => {
      const page = pageOf("Queue.list", options)
      if (Either.isLeft(page)) return Effect.fail(page.left)
      const { limit, offset } = page.right
      return within("list", definition, undefined, ({ read, target }) =>
        Effect.map(
          client.eval(scripts.list, target, state, offset, limit, false),
          ({ next, rows }) => ({ jobs: rows.map(read), next: nextOf(next) })
        ))
    },
    get: (definition, id) =>
      within(
        "get",
        definition,
        id,
        ({ read, target }) =>
          Effect.map(client.eval(scripts.get, target, id), (row) => Option.map(Option.fromNullable(row), read))
      ),
    progress: (definition, id) =>
      within(
        "progress",
        definition,
        id,
        ({ target }) => Effect.map(client.hget(target.keys.progress, id), Option.flatMap(parseJson))
      ),
    remove: (definition, id) =>
      change(
        "remove",
        definition,
        id,
        (target) => client.eval(scripts.remove, target, id),
        () => new JobIsRunning({ queue: definition.name, id })
      ),
    cancel: (definition, id) =>
      within(
        "cancel",
        definition,
        id,
        ({ target }) => client.eval(scripts.cancel, target, id, client.key(target.keys.control))
      ),
    promote: (definition, id) =>
      change(
        "promote",
        definition,
        id,
        (target) => client.eval(scripts.promote, target, id),
        notDelayed(definition, id)
      ),
    changeDelay: (definition, id, when) => {
      const fromNow = "delay" in when
      const millis = fromNow
        ? nonNegativeMillis("Queue.changeDelay", "delay", when.delay)
        : instantOf("Queue.changeDelay", when.at)
      return Either.isLeft(millis)
        ? Effect.fail(millis.left)
        : change(
          "changeDelay",
          definition,
          id,
          (target) => client.eval(scripts.changeDelay, target, id, millis.right, fromNow),
          notDelayed(definition, id)
        )
    },
    changePriority: (definition, id, priority) => {
      const bad = checkWhole("Queue.changePriority", "priority", 0, definition.priorities - 1, priority)
      return bad === undefined
        ? change(
          "changePriority",
          definition,
          id,
          (target) => client.eval(scripts.changePriority, target, id, priority),
          (state) => new JobNotWaiting({ queue: definition.name, id, state })
        )
        : Effect.fail(bad)
    },
    drain: (definition, options) =>
      within(
        "drain",
        definition,
        undefined,
        ({ target }) => inPages(client.eval(scripts.drain, target, options?.delayed !== false))
      ),
    obliterate: (definition, options) =>
      within("obliterate", definition, undefined, ({ target }) =>
        Effect.flatMap(
          client.eval(scripts.obliterate, target, options?.force === true),
          (running): Effect.Effect<void, QueueIsBusy | RedisError> =>
            running === 0
              ? definition.inspected ? Effect.asVoid(client.zrem(registryKey, definition.name)) : Effect.void
              : Effect.fail(new QueueIsBusy({ queue: definition.name, running }))
        ))
  }
}

const instantOf = (operation: string, at: DateTime.DateTime): Either.Either<number, RedisInputError> => {
  const millis = DateTime.isDateTime(at) ? DateTime.toEpochMillis(at) : Number.NaN
  return millis >= 0 ? Either.right(Math.ceil(millis)) : Either.left(inputError(operation, "at", "an instant", at))
}

/** Repeats what removes a page, as often as is needed for what is there at the beginning. */
export const inPages = (step: Effect.Effect<scripts.Removed, RedisError>): Effect.Effect<number, RedisError> =>
  Effect.flatMap(step, (first) =>
    Effect.map(
      Effect.iterate(
        { ...first, pages: Math.ceil(first.left / scripts.PAGE) },
        {
          while: ({ left, pages }) => left > 0 && pages > 0,
          body: ({ pages, removed }) =>
            Effect.map(step, (next) => ({
              removed: removed + next.removed,
              left: next.left,
              pages: pages - 1
            }))
        }
      ),
      ({ removed }) => removed
    ))
