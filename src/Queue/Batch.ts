/**
 * Workers that take several jobs at once.
 *
 * Beneath is a worker as any other, with a handler for each job that hands the job over and waits for what becomes of it.
 * So leases, attempts, timeouts, deadlines and cancellation are those of each job, and a batch is no more than jobs that
 * happen to be handled together.
 */
import type * as Arr from "effect/Array"
import * as Cause from "effect/Cause"
import * as Data from "effect/Data"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as ExecutionStrategy from "effect/ExecutionStrategy"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import * as Runtime from "effect/Runtime"
import * as RuntimeFlags from "effect/RuntimeFlags"
import * as Scope from "effect/Scope"
import type { AnySpan } from "effect/Tracer"
import * as Alarm from "../internal/alarm.js"
import { checkWhole, inputError, nonNegativeMillis } from "../internal/input.js"
import { isTraced } from "../internal/telemetry.js"
import type { RedisInputError } from "../RedisError.js"
import { type Definition, type Job, settingsOf } from "./Definition.js"
import * as Worker from "./Worker.js"

/**
 * Some jobs of a batch have failed, each with an error of its own. The others are complete.
 *
 * @since 0.1.0
 * @category errors
 */
export class BatchFailures<out E> extends Data.TaggedError("BatchFailures")<{
  /** By the ids of the jobs. */
  readonly failures: ReadonlyMap<string, E>
}> {}

/**
 * What a handler of batches fails with when some of its jobs have failed: those that are named, or for which there is an
 * error, fail with it, and the others are complete. An error may be `unrecoverable` or `postpone`.
 *
 * @example
 * ```ts
 * import { Effect } from "effect"
 * import { Queue } from "effect-redis-kit"
 *
 * const send = (_texts: ReadonlyArray<string>): Effect.Effect<ReadonlyArray<"sent" | "refused" | "later">> =>
 *   Effect.succeed(["sent", "refused", "later"])
 *
 * const handler = (jobs: ReadonlyArray<Queue.Job<string>>) =>
 *   Effect.gen(function*() {
 *     const answers = yield* send(jobs.map(({ payload }) => payload))
 *     return yield* Queue.batchFailures(jobs, (_, i) =>
 *       answers[i] === "refused"
 *         ? Queue.unrecoverable("refused")
 *         : answers[i] === "later"
 *         ? Queue.postpone("1 minute")
 *         : undefined)
 *   })
 * ```
 *
 * @since 0.1.0
 * @category errors
 */
export const batchFailures: {
  <J extends { readonly id: string }, E>(
    jobs: Iterable<J>,
    errorOf: (job: J, index: number) => E | undefined
  ): BatchFailures<E>
  <E>(failures: Iterable<readonly [job: string | { readonly id: string }, error: E]>): BatchFailures<E>
} = (
  all: Iterable<any>,
  errorOf?: (job: { readonly id: string }, index: number) => unknown
): BatchFailures<any> => {
  const failures = new Map<string, unknown>()
  let i = 0
  for (const one of all) {
    const [job, error] = errorOf === undefined ? one : [one, errorOf(one, i++)]
    if (errorOf === undefined || error !== undefined) failures.set(typeof job === "string" ? job : job.id, error)
  }
  return new BatchFailures({ failures })
}

/**
 * What one job of a batch fails with.
 *
 * @since 0.1.0
 * @category models
 */
export type JobError<E> = E extends BatchFailures<infer OfJob> ? OfJob : E

/**
 * What a handler of batches gives: anything, or, when the queue has a `result`, for each job in their order its result or
 * what it has failed with.
 *
 * @since 0.1.0
 * @category models
 */
export type BatchResults<B, E> = unknown extends B ? unknown : ReadonlyArray<Either.Either<B, E>>

/**
 * When it succeeds, all jobs are complete, but for those of a queue with a `result` that it says something else of. When it
 * fails with `batchFailures`, those that are named there have failed. When it fails in any other way, all of them have.
 *
 * @since 0.1.0
 * @category models
 */
export type BatchHandler<A, E, R, B = unknown> = (
  jobs: Arr.NonEmptyReadonlyArray<Job<A>>
) => Effect.Effect<BatchResults<B, E>, E, R>

/**
 * @since 0.1.0
 * @category models
 */
export interface BatchOptions<E> extends Omit<Worker.WorkerOptions<JobError<E>>, "prefetch"> {
  /** How many jobs a batch has at most. */
  readonly size: number
  /** How long the first job of a batch waits for others. A job's `timeout` includes it. */
  readonly within: Duration.DurationInput
  /** How many batches are handled at the same time; 1 by default. */
  readonly concurrency?: number | undefined
}

/** A job that waits to become part of a batch, or for what becomes of it there. */
interface Entry<A, B, E> {
  readonly job: Job<A>
  readonly span: AnySpan | undefined
  readonly since: number
  readonly resume: (outcome: Effect.Effect<B, E>) => void
  batch: Batch<A, B, E> | undefined
}

interface Batch<A, B, E> {
  /** Those that are still here. */
  readonly entries: Set<Entry<A, B, E>>
  fiber: Fiber.RuntimeFiber<unknown, unknown> | undefined
}

const MOST_JOBS = 10_000

const checkConcurrency = (operation: string, n: number) =>
  checkWhole(operation, "concurrency", 1, Worker.MOST_CONCURRENCY / MOST_JOBS, n)

const isBatchFailures = (u: unknown): u is BatchFailures<any> => u instanceof BatchFailures

type OutcomeOf<B, E> = (job: { readonly id: string }) => Exit.Exit<B, E>

/** What becomes of the jobs of a batch, given what its handler says of all of them. */
const outcomeOf = <E>(exit: Exit.Exit<unknown, E>): OutcomeOf<undefined, JobError<E>> => {
  const done = Exit.succeed(undefined)
  if (Exit.isSuccess(exit)) return () => done
  const { cause } = exit
  const failures = Option.getOrUndefined(Option.filter(Cause.failureOption(cause), isBatchFailures))?.failures
  if (failures === undefined) {
    const all = Exit.failCause(cause as Cause.Cause<JobError<E>>)
    return () => all
  }
  // Whatever went wrong besides is nobody's in particular.
  const others = Cause.size(cause) === 1 ? done : Exit.failCause(
    Cause.filter(cause, (part) => !(Cause.isFailType(part) && isBatchFailures(part.error))) as Cause.Cause<JobError<E>>
  )
  return ({ id }) => failures.has(id) ? Exit.fail(failures.get(id) as JobError<E>) : others
}

/** The same for a queue whose jobs have results. */
const resultOf = <A, B, E>(
  exit: Exit.Exit<unknown, E>,
  jobs: ReadonlyArray<Job<A>>
): OutcomeOf<B, JobError<E>> => {
  if (Exit.isFailure(exit)) return outcomeOf(exit) as OutcomeOf<B, JobError<E>>
  const results = exit.value
  if (!Array.isArray(results) || results.length !== jobs.length || !results.every(Either.isEither)) {
    const broken = Exit.die(new Error("a batch did not say of each of its jobs what came of it"))
    return () => broken
  }
  const byId = new Map(jobs.map(({ id }, i) => [id, results[i] as Either.Either<B, JobError<E>>]))
  return ({ id }) =>
    Either.match(byId.get(id)!, { onLeft: Exit.fail, onRight: Exit.succeed }) as Exit.Exit<B, JobError<E>>
}

export const make = <A, B, E, R>(
  shared: Worker.Shared,
  definition: Definition<A, B>,
  handler: BatchHandler<A, E, R, NoInfer<B>>,
  { concurrency: atOnce = 1, size, within, ...options }: BatchOptions<E>
): Effect.Effect<Worker.Worker, RedisInputError, Exclude<R, Scope.Scope> | Scope.Scope> =>
  Effect.uninterruptible(Effect.gen(function*() {
    const operation = "Queue.batchWorker"
    const { name } = definition
    const { timeout } = yield* settingsOf(definition)
    const bad = checkWhole(operation, "size", 1, MOST_JOBS, size) ?? checkConcurrency(operation, atOnce)
    if (bad !== undefined) return yield* bad
    const patience = yield* nonNegativeMillis(operation, "within", within)
    if (timeout !== undefined && patience >= timeout) {
      return yield* inputError(operation, "within", `less than the timeout of ${timeout} ms`, within)
    }

    const fork = Runtime.runFork(
      Runtime.enableRuntimeFlag(yield* Effect.runtime<Exclude<R, Scope.Scope>>(), RuntimeFlags.Interruption)
    )
    const traced = yield* Effect.withFiberRuntime<boolean>((fiber) => Effect.succeed(isTraced(fiber)))
    const scope = yield* Scope.fork(yield* Effect.scope, ExecutionStrategy.sequential)
    const { now, ringBy } = yield* Scope.extend(Alarm.make(() => flush()), scope)

    let concurrency = atOnce
    /** In the order in which they came. */
    const waiting = new Set<Entry<A, B, JobError<E>>>()
    let batches = 0
    /** Jobs in batches. */
    let handled = 0
    /** Nobody comes any more, so nobody is waited for. */
    let hurry = false
    let stopping = false

    /** The first one that waits, when there is a place for a batch. */
    const next = () => {
      const [entry] = waiting
      return batches < concurrency ? entry : undefined
    }

    const flush = (): void => {
      for (let entry = next(); entry !== undefined; entry = next()) {
        const due = entry.since + patience
        if (!hurry && waiting.size < size && now() < due) return ringBy(due)
        begin()
      }
    }

    const effectOf = (
      entries: ReadonlySet<Entry<A, B, JobError<E>>>,
      jobs: Arr.NonEmptyReadonlyArray<Job<A>>
    ): Effect.Effect<unknown, E, Exclude<R, Scope.Scope>> => {
      const effect = Effect.scoped(Effect.suspend(() => handler(jobs)))
      return traced
        ? Effect.withSpan(effect, `process batch ${name}`, {
          kind: "consumer",
          captureStackTrace: false,
          root: true,
          links: Array.from(entries).flatMap(({ span }) =>
            span === undefined ? [] : [{ _tag: "SpanLink" as const, span, attributes: {} }]
          ),
          attributes: {
            "messaging.system": "redis",
            "messaging.destination.name": name,
            "messaging.batch.message_count": jobs.length,
            "messaging.operation.type": "process",
            "messaging.operation.name": "process batch"
          }
        }) as Effect.Effect<unknown, E, Exclude<R, Scope.Scope>>
        : effect
    }

    /** Starts a batch of those that have waited for longest. */
    const begin = (): void => {
      const batch: Batch<A, B, JobError<E>> = { entries: new Set(), fiber: undefined }
      for (const entry of waiting) {
        if (batch.entries.size === size) break
        waiting.delete(entry)
        batch.entries.add(entry)
        entry.batch = batch
      }
      batches++
      handled += batch.entries.size
      const jobs = Array.from(batch.entries, ({ job }) => job) as unknown as Arr.NonEmptyReadonlyArray<Job<A>>
      const fiber = fork(effectOf(batch.entries, jobs))
      batch.fiber = fiber
      fiber.addObserver((exit) => {
        batches--
        handled -= batch.entries.size
        const outcome = definition.result === undefined
          ? outcomeOf(exit) as OutcomeOf<B, JobError<E>>
          : resultOf<A, B, E>(exit, jobs)
        const ended = Array.from(batch.entries)
        batch.entries.clear()
        for (const { job, resume } of ended) resume(outcome(job))
        flush()
      })
    }

    /** A job that is interrupted goes. Nobody needs a batch without jobs. */
    const leave = (entry: Entry<A, B, JobError<E>>): Effect.Effect<unknown> => {
      if (waiting.delete(entry)) return Effect.void
      const { batch } = entry
      if (batch?.fiber === undefined || !batch.entries.delete(entry)) return Effect.void
      handled--
      if (batch.entries.size === 0) return Fiber.interrupt(batch.fiber)
      // The others are about to go, too, and no job is given back while its handler runs.
      return stopping ? Fiber.await(batch.fiber) : Effect.void
    }

    const join = (job: Job<A>, span: AnySpan | undefined): Effect.Effect<B, JobError<E>> =>
      Effect.async<B, JobError<E>>((resume) => {
        const entry: Entry<A, B, JobError<E>> = { job, span, since: now(), resume, batch: undefined }
        waiting.add(entry)
        if (hurry || waiting.size >= size || waiting.size === 1) flush()
        return Effect.suspend(() => leave(entry))
      })

    const worker = yield* Scope.extend(
      Worker.make<A, B, JobError<E>, never>(
        shared,
        definition,
        traced
          ? (job) =>
            Effect.flatMap(Effect.option(Effect.currentParentSpan), (span) => join(job, Option.getOrUndefined(span)))
          : (job) => join(job, undefined),
        { ...options, concurrency: Worker.MOST_CONCURRENCY, prefetch: 0 },
        // Jobs that would only wait for the end of a batch are for others.
        () => handled + Math.max(0, concurrency - batches) * size
      ),
      scope
    )

    const setHurry = (value: boolean) =>
      Effect.sync(() => {
        hurry = value
        flush()
      })
    // It comes before the end of the worker, which waits for its jobs.
    yield* Scope.addFinalizer(
      scope,
      Effect.suspend(() => {
        stopping = true
        return setHurry(true)
      })
    )

    return {
      ...worker,
      pause: Effect.zipRight(setHurry(true), worker.pause),
      resume: Effect.suspend(() => {
        if (!stopping) hurry = false
        return worker.resume
      }),
      setConcurrency: (n) =>
        Effect.suspend(() => {
          const bad = checkConcurrency(operation, n)
          if (bad !== undefined) return Effect.fail(bad)
          concurrency = n
          flush()
          // It has more room, perhaps.
          return worker.setConcurrency(Worker.MOST_CONCURRENCY)
        }),
      stop: Effect.zipRight(Scope.close(scope, Exit.void), worker.stop)
    }
  }))
