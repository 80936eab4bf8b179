/**
 * What operates queues, for use with the service of the environment.
 *
 * @since 0.1.0
 */
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as Option from "effect/Option"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import type { RedisError } from "../RedisError.js"
import type {
  Counts,
  JobInfo,
  JobIsRunning,
  JobNotDelayed,
  JobNotFound,
  JobNotWaiting,
  JobPage,
  JobState,
  PageOptions,
  QueueIsBusy,
  QueueRateLimit,
  Status,
  When
} from "./Control.js"
import type { DeadLetterRecord, ExportedDeadLetter, ExportOptions, Imported } from "./DeadLetterExport.js"
import type { DeadLetter, DeadLetterPage, JobNotDead, ReplayOptions } from "./DeadLetters.js"
import type { Definition, Enqueued } from "./Definition.js"
import type { Flow, FlowNode } from "./flows.js"
import type { JobStory, Overview, WorkerInfo } from "./Inspection.js"
import { Queue } from "./Queue.js"
import type { PayloadTooLarge, QueueFull } from "./QueueError.js"

/**
 * No job of the queue starts anywhere, until it is resumed. Running ones go on, and jobs can be enqueued.
 *
 * @since 0.1.0
 * @category accessors
 */
export const pause = <A>(
  definition: Definition<A, any>
): Effect.Effect<void, RedisError, Queue> => Effect.flatMap(Queue, (queue) => queue.pause(definition))

/**
 * Ends a pause.
 *
 * @since 0.1.0
 * @category accessors
 */
export const resume = <A>(
  definition: Definition<A, any>
): Effect.Effect<void, RedisError, Queue> => Effect.flatMap(Queue, (queue) => queue.resume(definition))

/**
 * How many jobs may run at once, in all processes together; `undefined` for any number.
 *
 * @since 0.1.0
 * @category accessors
 */
export const setGlobalConcurrency = <A>(
  definition: Definition<A, any>,
  concurrency: number | undefined
): Effect.Effect<void, RedisError, Queue> =>
  Effect.flatMap(Queue, (queue) => queue.setGlobalConcurrency(definition, concurrency))

/**
 * How many jobs may start in any window, in all processes together; `undefined` for any number.
 *
 * @since 0.1.0
 * @category accessors
 */
export const setRateLimit = <A>(
  definition: Definition<A, any>,
  rateLimit: QueueRateLimit | undefined
): Effect.Effect<void, RedisError, Queue> => Effect.flatMap(Queue, (queue) => queue.setRateLimit(definition, rateLimit))

/**
 * How many jobs are in each state.
 *
 * @since 0.1.0
 * @category accessors
 */
export const counts = <A>(
  definition: Definition<A, any>
): Effect.Effect<Counts, RedisError, Queue> => Effect.flatMap(Queue, (queue) => queue.counts(definition))

/**
 * The counts, the settings, and what became of earlier jobs.
 *
 * @since 0.1.0
 * @category accessors
 */
export const status = <A>(
  definition: Definition<A, any>
): Effect.Effect<Status, RedisError, Queue> => Effect.flatMap(Queue, (queue) => queue.status(definition))

/**
 * Some of the jobs of a state.
 *
 * @since 0.1.0
 * @category accessors
 */
export const list = <A>(
  definition: Definition<A, any>,
  state: JobState,
  options?: PageOptions
): Effect.Effect<JobPage<JobInfo<A>>, RedisError, Queue> =>
  Effect.flatMap(Queue, (queue) => queue.list(definition, state, options))

/**
 * A job, whatever its state.
 *
 * @since 0.1.0
 * @category accessors
 */
export const get = <A>(
  definition: Definition<A, any>,
  id: string
): Effect.Effect<Option.Option<JobInfo<A>>, RedisError, Queue> =>
  Effect.flatMap(Queue, (queue) => queue.get(definition, id))

/**
 * What the handler of a running job has told last.
 *
 * @since 0.1.0
 * @category accessors
 */
export const progress = <A>(
  definition: Definition<A, any>,
  id: string
): Effect.Effect<Option.Option<unknown>, RedisError, Queue> =>
  Effect.flatMap(Queue, (queue) => queue.progress(definition, id))

/**
 * Removes a job that does not run.
 *
 * @since 0.1.0
 * @category accessors
 */
export const remove = <A>(
  definition: Definition<A, any>,
  id: string
): Effect.Effect<void, JobNotFound | JobIsRunning | RedisError, Queue> =>
  Effect.flatMap(Queue, (queue) => queue.remove(definition, id))

/**
 * Interrupts the handler of a running job, wherever it runs. Returns whether it runs.
 *
 * @since 0.1.0
 * @category accessors
 */
export const cancel = <A>(
  definition: Definition<A, any>,
  id: string
): Effect.Effect<boolean, RedisError, Queue> => Effect.flatMap(Queue, (queue) => queue.cancel(definition, id))

/**
 * Makes a delayed job ready, at its priority.
 *
 * @since 0.1.0
 * @category accessors
 */
export const promote = <A>(
  definition: Definition<A, any>,
  id: string
): Effect.Effect<void, JobNotFound | JobNotDelayed | RedisError, Queue> =>
  Effect.flatMap(Queue, (queue) => queue.promote(definition, id))

/**
 * Changes when a delayed job is due, or has its next attempt.
 *
 * @since 0.1.0
 * @category accessors
 */
export const changeDelay = <A>(
  definition: Definition<A, any>,
  id: string,
  when: When
): Effect.Effect<void, JobNotFound | JobNotDelayed | RedisError, Queue> =>
  Effect.flatMap(Queue, (queue) => queue.changeDelay(definition, id, when))

/**
 * Gives a job that waits another priority. It comes behind those that have it already.
 *
 * @since 0.1.0
 * @category accessors
 */
export const changePriority = <A>(
  definition: Definition<A, any>,
  id: string,
  priority: number
): Effect.Effect<void, JobNotFound | JobNotWaiting | RedisError, Queue> =>
  Effect.flatMap(Queue, (queue) => queue.changePriority(definition, id, priority))

/**
 * Removes all jobs that wait, and returns how many.
 *
 * @since 0.1.0
 * @category accessors
 */
export const drain = <A>(
  definition: Definition<A, any>,
  options?: { readonly delayed?: boolean | undefined }
): Effect.Effect<number, RedisError, Queue> => Effect.flatMap(Queue, (queue) => queue.drain(definition, options))

/**
 * Removes the queue with everything. While jobs run it is refused, unless it is forced.
 *
 * @since 0.1.0
 * @category accessors
 */
export const obliterate = <A>(
  definition: Definition<A, any>,
  options?: { readonly force?: boolean | undefined }
): Effect.Effect<void, QueueIsBusy | RedisError, Queue> =>
  Effect.flatMap(Queue, (queue) => queue.obliterate(definition, options))

/**
 * Some of the dead letters, the newest first by default.
 *
 * @since 0.1.0
 * @category accessors
 */
export const deadLetters = <A>(
  definition: Definition<A, any>,
  options?: PageOptions & { readonly order?: "newest" | "oldest" | undefined }
): Effect.Effect<DeadLetterPage<A>, RedisError, Queue> =>
  Effect.flatMap(Queue, (queue) => queue.deadLetters(definition, options))

/**
 * One dead letter.
 *
 * @since 0.1.0
 * @category accessors
 */
export const deadLetter = <A>(
  definition: Definition<A, any>,
  id: string
): Effect.Effect<Option.Option<DeadLetter<A>>, RedisError, Queue> =>
  Effect.flatMap(Queue, (queue) => queue.deadLetter(definition, id))

/**
 * How many dead letters there are.
 *
 * @since 0.1.0
 * @category accessors
 */
export const deadLetterCount = <A>(
  definition: Definition<A, any>
): Effect.Effect<number, RedisError, Queue> => Effect.flatMap(Queue, (queue) => queue.deadLetterCount(definition))

/**
 * Makes a dead letter ready again.
 *
 * @since 0.1.0
 * @category accessors
 */
export const replay = <A>(
  definition: Definition<A, any>,
  id: string,
  options?: ReplayOptions
): Effect.Effect<void, JobNotFound | JobNotDead | RedisError, Queue> =>
  Effect.flatMap(Queue, (queue) => queue.replay(definition, id, options))

/**
 * Makes dead letters ready again. Returns how many of them there were.
 *
 * @since 0.1.0
 * @category accessors
 */
export const replayMany = <A>(
  definition: Definition<A, any>,
  ids: ReadonlyArray<string>,
  options?: ReplayOptions
): Effect.Effect<number, RedisError, Queue> =>
  Effect.flatMap(Queue, (queue) => queue.replayMany(definition, ids, options))

/**
 * Makes all dead letters ready again that a predicate chooses. Returns how many.
 *
 * @since 0.1.0
 * @category accessors
 */
export const replayWhere = <A>(
  definition: Definition<A, any>,
  predicate: (letter: DeadLetter<A>) => boolean,
  options?: ReplayOptions
): Effect.Effect<number, RedisError, Queue> =>
  Effect.flatMap(Queue, (queue) => queue.replayWhere(definition, predicate, options))

/**
 * Removes dead letters. Returns how many of them there were.
 *
 * @since 0.1.0
 * @category accessors
 */
export const removeDeadLetters = <A>(
  definition: Definition<A, any>,
  ids: ReadonlyArray<string>
): Effect.Effect<number, RedisError, Queue> =>
  Effect.flatMap(Queue, (queue) => queue.removeDeadLetters(definition, ids))

/**
 * Removes all dead letters of at least this age. Returns how many.
 *
 * @since 0.1.0
 * @category accessors
 */
export const cleanDeadLetters = <A>(
  definition: Definition<A, any>,
  age: Duration.DurationInput
): Effect.Effect<number, RedisError, Queue> => Effect.flatMap(Queue, (queue) => queue.cleanDeadLetters(definition, age))

/**
 * All dead letters from the oldest on. One that is there all the time comes exactly once, whatever comes and goes
 * meanwhile.
 *
 * @example
 * ```ts
 * import { Effect, Schema, Stream } from "effect"
 * import { Queue } from "effect-redis-kit"
 *
 * const Emails = Queue.define({ name: "emails", payload: Schema.Struct({ to: Schema.String }) })
 *
 * const lines = Queue.exportDeadLetters(Emails).pipe(Stream.map(({ record }) => JSON.stringify(record)))
 * ```
 *
 * @since 0.1.0
 * @category accessors
 */
export const exportDeadLetters = <A>(
  definition: Definition<A, any>,
  options?: ExportOptions
): Stream.Stream<ExportedDeadLetter<A>, RedisError, Queue> =>
  Stream.unwrap(Effect.map(Queue, (queue) => queue.exportDeadLetters(definition, options)))

/**
 * Makes dead letters of records again. Those whose id is in use are left out, so it can be repeated.
 *
 * @since 0.1.0
 * @category accessors
 */
export const importDeadLetters = <A, E, R>(
  definition: Definition<A, any>,
  records: Stream.Stream<DeadLetterRecord, E, R>
): Effect.Effect<Imported, E | RedisError, Queue | Exclude<R, Scope.Scope>> =>
  Effect.flatMap(Queue, (queue) => queue.importDeadLetters(definition, records))

/**
 * The names of the inspected queues that somebody has used in the last 30 days.
 *
 * @since 0.1.0
 * @category accessors
 */
export const queues: Effect.Effect<ReadonlyArray<string>, RedisError, Queue> = Effect.flatMap(
  Queue,
  (queue) => queue.queues
)

/**
 * Queues at a glance, inspected or not.
 *
 * @since 0.1.0
 * @category accessors
 */
export const overview = (
  names: ReadonlyArray<string>
): Effect.Effect<ReadonlyArray<Overview>, RedisError, Queue> => Effect.flatMap(Queue, (queue) => queue.overview(names))

/**
 * Who works on a queue, and what they run.
 *
 * @since 0.1.0
 * @category accessors
 */
export const workers = <A>(
  definition: Definition<A, any>
): Effect.Effect<ReadonlyArray<WorkerInfo>, RedisError, Queue> =>
  Effect.flatMap(Queue, (queue) => queue.workers(definition))

/**
 * Everything that is known of a job.
 *
 * @since 0.1.0
 * @category accessors
 */
export const story = <A>(
  definition: Definition<A, any>,
  id: string
): Effect.Effect<Option.Option<JobStory<A>>, RedisError, Queue> =>
  Effect.flatMap(Queue, (queue) => queue.story(definition, id))

/**
 * Adds a job with all that it waits for.
 *
 * @since 0.1.0
 * @category accessors
 */
export const enqueueFlow = (
  flow: Flow
): Effect.Effect<Enqueued, PayloadTooLarge | QueueFull | RedisError, Queue> =>
  Effect.flatMap(Queue, (queue) => queue.enqueueFlow(flow))

/**
 * A job with all that it waits for, across queues.
 *
 * @since 0.1.0
 * @category accessors
 */
export const flowTree = <A>(
  definition: Definition<A, any>,
  id: string
): Effect.Effect<Option.Option<FlowNode>, RedisError, Queue> =>
  Effect.flatMap(Queue, (queue) => queue.flowTree(definition, id))

/**
 * Ends a job with all that it waits for: running ones are cancelled, all others are removed.
 *
 * @since 0.1.0
 * @category accessors
 */
export const cancelFlow = <A>(
  definition: Definition<A, any>,
  id: string
): Effect.Effect<void, JobNotFound | RedisError, Queue> =>
  Effect.flatMap(Queue, (queue) => queue.cancelFlow(definition, id))
