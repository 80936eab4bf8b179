/**
 * Results, log lines and events, for use with the service of the environment.
 *
 * @since 0.1.0
 */
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as Option from "effect/Option"
import * as Stream from "effect/Stream"
import type { RedisError } from "../RedisError.js"
import type { PageOptions } from "./Control.js"
import type { Definition } from "./Definition.js"
import type { EventsMissed, EventsOptions, EventsPage, EventsPageOptions, JobEvent } from "./Events.js"
import { Queue } from "./Queue.js"
import type { PayloadTooLarge, QueueFull } from "./QueueError.js"
import type {
  AwaitError,
  AwaitOptions,
  CompletedJob,
  CompletedPage,
  EnqueueAndWaitOptions,
  LogLine
} from "./Results.js"

/**
 * Waits for the result of a job, whether it ends before or after that.
 *
 * @example
 * ```ts
 * import { Effect, Schema } from "effect"
 * import { Queue } from "effect-redis-kit"
 *
 * const Squares = Queue.define({
 *   name: "squares",
 *   payload: Schema.Number,
 *   result: Schema.Number,
 *   completed: { count: 10_000, age: "10 minutes" }
 * })
 *
 * const program = Effect.gen(function*() {
 *   const { id } = yield* Queue.enqueue(Squares, 12)
 *   const square = yield* Queue.awaitResult(Squares, id, { timeout: "30 seconds" })
 *   yield* Effect.log(square)
 * }).pipe(
 *   Effect.catchTags({
 *     JobFailed: ({ attempts, reason }) => Effect.log(`${reason} after ${attempts} attempts`),
 *     AwaitTimedOut: () => Effect.log("it takes longer")
 *   })
 * )
 * ```
 *
 * @since 0.1.0
 * @category accessors
 */
export const awaitResult = <A, B>(
  definition: Definition<A, B>,
  id: string,
  options?: AwaitOptions
): Effect.Effect<B, AwaitError, Queue> => Effect.flatMap(Queue, (queue) => queue.awaitResult(definition, id, options))

/**
 * Adds a job and waits for its result.
 *
 * @since 0.1.0
 * @category accessors
 */
export const enqueueAndWait = <A, B>(
  definition: Definition<A, B>,
  payload: NoInfer<A>,
  options?: EnqueueAndWaitOptions
): Effect.Effect<B, AwaitError | PayloadTooLarge | QueueFull, Queue> =>
  Effect.flatMap(Queue, (queue) => queue.enqueueAndWait(definition, payload, options))

/**
 * Some of the completed jobs that are kept, the newest first by default.
 *
 * @since 0.1.0
 * @category accessors
 */
export const completedJobs = <A, B>(
  definition: Definition<A, B>,
  options?: PageOptions & { readonly order?: "newest" | "oldest" | undefined }
): Effect.Effect<CompletedPage<A, B>, RedisError, Queue> =>
  Effect.flatMap(Queue, (queue) => queue.completedJobs(definition, options))

/**
 * One completed job.
 *
 * @since 0.1.0
 * @category accessors
 */
export const completedJob = <A, B>(
  definition: Definition<A, B>,
  id: string
): Effect.Effect<Option.Option<CompletedJob<A, B>>, RedisError, Queue> =>
  Effect.flatMap(Queue, (queue) => queue.completedJob(definition, id))

/**
 * Removes all completed jobs of at least this age. Returns how many.
 *
 * @since 0.1.0
 * @category accessors
 */
export const cleanCompleted = <A>(
  definition: Definition<A, any>,
  age: Duration.DurationInput
): Effect.Effect<number, RedisError, Queue> => Effect.flatMap(Queue, (queue) => queue.cleanCompleted(definition, age))

/**
 * The last lines that the handlers of a job have logged, the oldest first.
 *
 * @since 0.1.0
 * @category accessors
 */
export const logs = <A>(
  definition: Definition<A, any>,
  id: string
): Effect.Effect<ReadonlyArray<LogLine>, RedisError, Queue> =>
  Effect.flatMap(Queue, (queue) => queue.logs(definition, id))

/**
 * What happens to the jobs of a queue whose definition has `events`.
 *
 * @example
 * ```ts
 * import { Effect, Schema, Stream } from "effect"
 * import { Queue } from "effect-redis-kit"
 *
 * const Orders = Queue.define({ name: "orders", payload: Schema.String, events: { maxLength: 10_000 } })
 *
 * const program = Stream.runForEach(
 *   Queue.events(Orders),
 *   (event) => event._tag === "Dead" ? Effect.log(`${event.id}: ${event.reason}`) : Effect.void
 * )
 * ```
 *
 * @since 0.1.0
 * @category accessors
 */
export const events = <A>(
  definition: Definition<A, any>,
  options?: EventsOptions
): Stream.Stream<JobEvent | EventsMissed, RedisError, Queue> =>
  Stream.unwrap(Effect.map(Queue, (queue) => queue.events(definition, options)))

/**
 * Some of the events that are kept, the oldest first.
 *
 * @since 0.1.0
 * @category accessors
 */
export const eventsPage = <A>(
  definition: Definition<A, any>,
  options?: EventsPageOptions
): Effect.Effect<EventsPage, RedisError, Queue> =>
  Effect.flatMap(Queue, (queue) => queue.eventsPage(definition, options))
