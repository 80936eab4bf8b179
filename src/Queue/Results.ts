/**
 * Completed jobs that are kept, their results, waiting for them, and what jobs have logged.
 *
 * @since 0.1.0
 */
import type * as DateTime from "effect/DateTime"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import { inputError, nonNegativeMillis, positiveMillis } from "../internal/input.js"
import type * as RedisClient from "../RedisClient.js"
import { RedisDecodeError, type RedisError, type RedisInputError } from "../RedisError.js"
import type { Awaits, End } from "./Awaits.js"
import {
  inPages,
  JobNotFound,
  nextOf,
  type Open,
  type Opened,
  pageOf,
  type PageOptions,
  parseJson,
  timeOf,
  withinOf
} from "./Control.js"
import * as scripts from "./controlScripts.js"
import { type Definition, type Enqueued, type EnqueueOptions, type Settings, settingsOf } from "./Definition.js"
import { DeadInfo, type DeadReason, Reason, whyOf } from "./envelope.js"
import type { Producer } from "./Producer.js"
import type { PayloadTooLarge, QueueFull } from "./QueueError.js"

// ---------------------------------------------------------------------------------------------------------------------
// Models
// ---------------------------------------------------------------------------------------------------------------------

/**
 * A job that is complete, and is kept.
 *
 * @since 0.1.0
 * @category models
 */
export interface CompletedJob<out A, out B> {
  readonly id: string
  /** `Left` says why the payload can't be read. */
  readonly payload: Either.Either<A, string>
  /** What its handler has given; `undefined` when the queue has no `result`. `Left` says why it can't be read. */
  readonly result: Either.Either<B, string>
  /** How many attempts have failed before. */
  readonly failures: number
  /** How many there were at most. */
  readonly attempts: number
  readonly priority: number
  /** By the clock of whoever enqueued it. */
  readonly enqueuedAt: DateTime.Utc
  /** By the clock of the server. */
  readonly completedAt: DateTime.Utc
}

/**
 * Some completed jobs, and where to go on.
 *
 * @since 0.1.0
 * @category models
 */
export interface CompletedPage<out A, out B> {
  readonly jobs: ReadonlyArray<CompletedJob<A, B>>
  /** The `offset` of the next page. */
  readonly next: Option.Option<number>
}

/**
 * @since 0.1.0
 * @category models
 */
export interface AwaitOptions {
  /** How long to wait at most; a minute by default. */
  readonly timeout?: Duration.DurationInput | undefined
}

/**
 * @since 0.1.0
 * @category models
 */
export interface EnqueueAndWaitOptions extends EnqueueOptions {
  /** How long to wait at most, from the time at which the job is in the queue; a minute by default. */
  readonly awaitTimeout?: Duration.DurationInput | undefined
}

/**
 * What a handler has logged.
 *
 * @since 0.1.0
 * @category models
 */
export interface LogLine {
  /** By the clock of the server. */
  readonly at: DateTime.Utc
  readonly line: string
}

/**
 * What can come of waiting for a job besides its result.
 *
 * @since 0.1.0
 * @category models
 */
export type AwaitError = JobFailed | JobNotFound | AwaitTimedOut | RedisError

/**
 * @since 0.1.0
 * @category models
 */
export interface Results {
  /**
   * Waits for the result of a job of a queue that keeps completed ones, whether it ends before or after that. It always
   * ends itself, at the latest after `timeout`. Interrupting it leaves the job alone.
   *
   * `JobNotFound` says that there is no such job: it never was, it was removed, or its result is not kept any more.
   * `RedisError` says that the server could not be asked at the beginning; later it is asked again. A result that does not
   * fit the queue is a `RedisDecodeError`.
   */
  readonly awaitResult: <A, B>(
    definition: Definition<A, B>,
    id: string,
    options?: AwaitOptions
  ) => Effect.Effect<B, AwaitError>
  /**
   * Adds a job and waits for its result. When the job is dropped as a duplicate, it waits for the one that is there. The
   * job stays when the waiting ends.
   */
  readonly enqueueAndWait: <A, B>(
    definition: Definition<A, B>,
    payload: NoInfer<A>,
    options?: EnqueueAndWaitOptions
  ) => Effect.Effect<B, AwaitError | PayloadTooLarge | QueueFull>
  /** Some of the completed jobs that are kept, the newest first by default. */
  readonly completedJobs: <A, B>(
    definition: Definition<A, B>,
    options?: PageOptions & { readonly order?: "newest" | "oldest" | undefined }
  ) => Effect.Effect<CompletedPage<A, B>, RedisError>
  readonly completedJob: <A, B>(
    definition: Definition<A, B>,
    id: string
  ) => Effect.Effect<Option.Option<CompletedJob<A, B>>, RedisError>
  /** Removes all completed jobs of at least this age, step by step. Returns how many. */
  readonly cleanCompleted: <A>(
    definition: Definition<A, any>,
    age: Duration.DurationInput
  ) => Effect.Effect<number, RedisError>
  /** The last lines that the handlers of a job have logged, the oldest first; none for a job that is gone. */
  readonly logs: <A>(
    definition: Definition<A, any>,
    id: string
  ) => Effect.Effect<ReadonlyArray<LogLine>, RedisError>
}

// ---------------------------------------------------------------------------------------------------------------------
// Errors
// ---------------------------------------------------------------------------------------------------------------------

/**
 * The job that was waited for became a dead letter. It can be replayed.
 *
 * @since 0.1.0
 * @category errors
 */
export class JobFailed extends Schema.TaggedError<JobFailed>("effect-redis-kit/Queue/JobFailed")("JobFailed", {
  queue: Schema.String,
  id: Schema.String,
  reason: Schema.Literal(...Reason.literals, "unknown"),
  /** How many attempts have failed. */
  attempts: Schema.Number,
  /** The last error in one line, as the dead letter has it. */
  error: Schema.optional(Schema.String)
}) {
  /** @since 0.1.0 */
  override get message(): string {
    return `the job "${this.id}" of the queue "${this.queue}" became a dead letter: ${this.reason}`
  }
}

/**
 * The job that was waited for has not ended in time. It goes on.
 *
 * @since 0.1.0
 * @category errors
 */
export class AwaitTimedOut
  extends Schema.TaggedError<AwaitTimedOut>("effect-redis-kit/Queue/AwaitTimedOut")("AwaitTimedOut", {
    queue: Schema.String,
    id: Schema.String,
    /** Milliseconds. */
    timeout: Schema.Number
  })
{
  /** @since 0.1.0 */
  override get message(): string {
    return `the job "${this.id}" of the queue "${this.queue}" has not ended within ${this.timeout} ms`
  }
}

// ---------------------------------------------------------------------------------------------------------------------
// Constructors
// ---------------------------------------------------------------------------------------------------------------------

const decodeInfo = Schema.decodeOption(DeadInfo)

const DEFAULT_TIMEOUT = "1 minute"

/** Reads the results of a definition; `Left` says why one can't be read. */
const resultDecoder = <A, B>({ result }: Definition<A, B>): (text: string) => Either.Either<B, string> => {
  // Without a schema `B` is `unknown`.
  if (result === undefined) return () => Either.right(undefined as B)
  const decode = Schema.decodeUnknownEither(Schema.parseJson(result))
  return (text) => {
    if (text === "") return Either.left("there is none")
    try {
      return Either.mapLeft(decode(text), whyOf)
    } catch (error) {
      return Either.left(whyOf(error))
    }
  }
}

const completedOf = <A, B>({ read }: Opened<A>, definition: Definition<A, B>) => {
  const decode = resultDecoder(definition)
  return (row: scripts.Row): CompletedJob<A, B> => {
    const { attempts, enqueuedAt, failures, id, payload, priority } = read(row)
    return {
      id,
      payload,
      result: decode(row.info),
      failures,
      attempts,
      priority,
      enqueuedAt,
      completedAt: timeOf(row.at)
    }
  }
}

/** The first line is about the last call. */
const linesOf = (text: string): ReadonlyArray<LogLine> =>
  text.split("\n").slice(1, -1).map((entry) => {
    const end = entry.indexOf(" ")
    const line = Option.getOrUndefined(parseJson(entry.slice(end + 1)))
    return { at: timeOf(Number(entry.slice(0, end))), line: typeof line === "string" ? line : "" }
  })

/**
 * What knows the ends of the jobs of a client.
 *
 * @internal
 */
export const makeResults = (
  client: RedisClient.Service,
  open: Open,
  awaits: Awaits,
  producer: Producer
): Results => {
  const within = withinOf(open)

  const waitable = <A>(
    operation: string,
    definition: Definition<A, any>,
    field: string,
    timeout: Duration.DurationInput
  ): Either.Either<readonly [Settings, number], RedisInputError> =>
    Either.flatMap(settingsOf(definition), (settings) =>
      settings.keptCount === 0
        ? Either.left(inputError(operation, "definition", "one that keeps completed jobs", "one that keeps none"))
        : Either.map(positiveMillis(operation, field, timeout), (millis) => [settings, millis] as const))

  const outcomeOf = <A, B>(
    definition: Definition<A, B>,
    id: string,
    end: End
  ): Effect.Effect<B, JobFailed | JobNotFound | RedisDecodeError> => {
    const queue = definition.name
    if (end._tag === "missing") return Effect.fail(new JobNotFound({ queue, id }))
    if (end._tag === "completed") {
      return Either.mapLeft(
        resultDecoder(definition)(end.text),
        (detail) => new RedisDecodeError({ command: "Queue.awaitResult", detail: `the result of a job: ${detail}` })
      )
    }
    const info = Option.getOrUndefined(decodeInfo(end.text))
    const reason: DeadReason | "unknown" = info?.reason ?? "unknown"
    return Effect.fail(new JobFailed({ queue, id, reason, attempts: info?.attempts ?? 0, error: info?.error }))
  }

  const ended = <A, B>(
    definition: Definition<A, B>,
    opened: Opened<A>,
    { keptAge }: Settings,
    id: string,
    timeout: number
  ): Effect.Effect<B, AwaitError> =>
    awaits.end(opened.target.keys, keptAge, id).pipe(
      Effect.timeoutFail({
        duration: Duration.millis(timeout),
        onTimeout: () => new AwaitTimedOut({ queue: definition.name, id, timeout })
      }),
      Effect.flatMap((end) => outcomeOf(definition, id, end))
    )

  return {
    awaitResult: (definition, id, options) => {
      const terms = waitable("Queue.awaitResult", definition, "timeout", options?.timeout ?? DEFAULT_TIMEOUT)
      if (Either.isLeft(terms)) return Effect.fail(terms.left)
      const [settings, timeout] = terms.right
      return within("awaitResult", definition, id, (opened) => ended(definition, opened, settings, id, timeout))
    },
    enqueueAndWait: <A, B>(
      definition: Definition<A, B>,
      payload: A,
      { awaitTimeout = DEFAULT_TIMEOUT, ...options }: EnqueueAndWaitOptions = {}
    ) => {
      const terms = waitable("Queue.enqueueAndWait", definition, "awaitTimeout", awaitTimeout)
      if (Either.isLeft(terms)) return Effect.fail(terms.left)
      const [settings, timeout] = terms.right
      return within("enqueueAndWait", definition, undefined, (opened) =>
        Effect.flatMap(
          producer.enqueue(definition, payload, options),
          ({ id }: Enqueued) => ended(definition, opened, settings, id, timeout)
        ))
    },
    completedJobs: (definition, options) => {
      const page = pageOf("Queue.completedJobs", options)
      if (Either.isLeft(page)) return Effect.fail(page.left)
      const { limit, offset } = page.right
      return within("completedJobs", definition, undefined, (opened) =>
        Effect.map(
          client.eval(scripts.list, opened.target, "completed", offset, limit, options?.order !== "oldest"),
          ({ next, rows }) => ({ jobs: rows.map(completedOf(opened, definition)), next: nextOf(next) })
        ))
    },
    completedJob: (definition, id) =>
      within(
        "completedJob",
        definition,
        id,
        (opened) =>
          Effect.map(
            client.eval(scripts.get, opened.target, id),
            (row) => row?.state === "completed" ? Option.some(completedOf(opened, definition)(row)) : Option.none()
          )
      ),
    cleanCompleted: (definition, age) => {
      const millis = nonNegativeMillis("Queue.cleanCompleted", "age", age)
      return Either.isLeft(millis)
        ? Effect.fail(millis.left)
        : within(
          "cleanCompleted",
          definition,
          undefined,
          ({ target }) => inPages(client.eval(scripts.clean, target, millis.right, "completed"))
        )
    },
    logs: (definition, id) =>
      within("logs", definition, id, ({ target }) =>
        Effect.map(
          client.hget(target.keys.logs, id),
          Option.match({ onNone: () => [], onSome: linesOf })
        ))
  }
}
