/**
 * Job queues over Redis: typed jobs with delays, priorities, retries and deduplication, workers that lose no job when a
 * process dies, and dead letters for what can't be done.
 *
 * A job runs at least once: when a worker gives no sign of life for as long as its lease, another one takes the job. Only
 * one of them can settle it.
 *
 * @since 0.1.0
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import type * as Scope from "effect/Scope"
import { randomBytes } from "node:crypto"
import { RedisClient } from "../RedisClient.js"
import type { RedisError, RedisInputError } from "../RedisError.js"
import { layer as testServer, RedisTestServer } from "../RedisTestServer.js"
import * as Waker from "../Stream/Waker.js"
import * as Awaits from "./Awaits.js"
import * as Batch from "./Batch.js"
import { type Control, makeControl, opener } from "./Control.js"
import * as Courier from "./Courier.js"
import { type DeadLetterExport, makeExport } from "./DeadLetterExport.js"
import { type DeadLetters, makeDeadLetters } from "./DeadLetters.js"
import { type Definition, type Enqueued, type EnqueueOptions, settingsOf } from "./Definition.js"
import { type Events, makeEvents } from "./Events.js"
import { type Flows, makeFlows } from "./flows.js"
import { type Groups, makeGroups } from "./Groups.js"
import { type Inspection, makeInspection } from "./Inspection.js"
import * as Producer from "./Producer.js"
import type { PayloadTooLarge, QueueFull } from "./QueueError.js"
import { makeResults, type Results } from "./Results.js"
import * as Scheduler from "./scheduler.js"
import { makeSchedules, type Schedules } from "./Schedules.js"
import * as Wakeups from "./Wakeups.js"
import * as Worker from "./Worker.js"

// ---------------------------------------------------------------------------------------------------------------------
// Models
// ---------------------------------------------------------------------------------------------------------------------

/**
 * One of several jobs.
 *
 * @since 0.1.0
 * @category models
 */
export interface NewJob<out A> extends EnqueueOptions {
  readonly payload: A
}

/**
 * @since 0.1.0
 * @category models
 */
export interface Service
  extends Control, DeadLetters, DeadLetterExport, Inspection, Flows, Groups, Schedules, Results, Events
{
  /**
   * Adds a job. Jobs that are added to a queue in one turn, or while calls for it are underway, leave together. When the
   * reply is lost it is asked for again, and the job is added once.
   */
  readonly enqueue: <A>(
    definition: Definition<A, any>,
    payload: NoInfer<A>,
    options?: EnqueueOptions
  ) => Effect.Effect<Enqueued, PayloadTooLarge | QueueFull | RedisError>
  /** Adds up to 10,000 jobs, all or none; duplicates are dropped and do not count. */
  readonly enqueueAll: <A>(
    definition: Definition<A, any>,
    jobs: ReadonlyArray<NewJob<NoInfer<A>>>
  ) => Effect.Effect<ReadonlyArray<Enqueued>, PayloadTooLarge | QueueFull | RedisError>
  /**
   * A worker that runs a handler for each job until the scope ends. Handlers that run then may go on for a while; jobs
   * that did not end are given back, and that is no failed attempt.
   */
  readonly makeWorker: <A, B, E, R>(
    definition: Definition<A, B>,
    handler: Worker.Handler<A, E, R, NoInfer<B>>,
    options?: Worker.WorkerOptions<E>
  ) => Effect.Effect<Worker.Worker, RedisInputError, Exclude<R, Scope.Scope> | Scope.Scope>
  /** The same with a handler that takes several jobs at once. */
  readonly makeBatchWorker: <A, B, E, R>(
    definition: Definition<A, B>,
    handler: Batch.BatchHandler<A, E, R, NoInfer<B>>,
    options: Batch.BatchOptions<E>
  ) => Effect.Effect<Worker.Worker, RedisInputError, Exclude<R, Scope.Scope> | Scope.Scope>
  /** Fires the schedules of a queue until the scope ends, as every worker of it does. */
  readonly makeScheduler: <A>(definition: Definition<A, any>) => Effect.Effect<void, RedisInputError, Scope.Scope>
}

/**
 * @since 0.1.0
 * @category tags
 */
export class Queue extends Context.Tag("effect-redis-kit/Queue")<Queue, Service>() {}

// ---------------------------------------------------------------------------------------------------------------------
// Constructors
// ---------------------------------------------------------------------------------------------------------------------

/** Those who wait for events of queues, and for entries of streams that are built together with them, share a connection. */
const makeShared: Effect.Effect<Service, never, RedisClient | Scope.Scope | Waker.Waker> = Effect.gen(function*() {
  const client = yield* RedisClient
  const process = randomBytes(9).toString("base64url").replace(/[-_]/g, "0")
  const pace = Option.isSome(yield* Effect.serviceOption(RedisTestServer)) ? Wakeups.inMemory : Wakeups.onServer
  const wakeups = yield* Wakeups.make(client, pace)
  const courier = yield* Courier.make(client, process)
  const { planter, ...producer } = yield* Producer.make(client, process)
  const open = opener({ cluster: client.mode === "cluster" }, client)
  const awaits = yield* Awaits.make(client, pace)
  const fireSchedules = yield* Scheduler.make(client, wakeups, pace)
  let workers = 0
  let firings = 0
  const shared: Worker.Shared = {
    client,
    wakeups,
    pace,
    courier,
    nextWorker: () => `${process}.${workers++}`,
    fireSchedules
  }
  return {
    ...makeControl(client, open),
    ...makeDeadLetters(client, open),
    ...makeExport(client, open),
    ...makeInspection(client, open, client.mode === "cluster"),
    ...makeFlows(client, open, planter, courier),
    ...makeGroups(client, open),
    ...makeSchedules(client, open, () => `${process}.${firings++}`),
    makeScheduler: (definition) => Effect.zipRight(settingsOf(definition), fireSchedules(definition)),
    ...producer,
    ...makeResults(client, open, awaits, producer),
    ...makeEvents(client, yield* Waker.Waker),
    makeWorker: (definition, handler, options) => Worker.make(shared, definition, handler, options),
    makeBatchWorker: (definition, handler, options) => Batch.make(shared, definition, handler, options)
  }
})

/**
 * Queues over the client of the environment.
 *
 * @since 0.1.0
 * @category constructors
 */
export const make: Effect.Effect<Service, never, RedisClient | Scope.Scope> = Effect.flatMap(
  Waker.make,
  (waker) => Effect.provideService(makeShared, Waker.Waker, waker)
)

// ---------------------------------------------------------------------------------------------------------------------
// Layers
// ---------------------------------------------------------------------------------------------------------------------

/**
 * @since 0.1.0
 * @category layers
 */
export const layer: Layer.Layer<Queue, never, RedisClient> = Layer.provide(
  Layer.scoped(Queue, makeShared),
  Waker.layer
)

/**
 * Queues on a server in memory, with the server and its client beside it.
 *
 * @since 0.1.0
 * @category layers
 */
export const layerTest: Layer.Layer<Queue | RedisClient | RedisTestServer> = Layer.provideMerge(layer, testServer)

/**
 * A worker as a layer: it works as long as the layer is there.
 *
 * @example
 * ```ts
 * import { Effect, Layer, Schema } from "effect"
 * import { Queue, RedisLive } from "effect-redis-kit"
 *
 * const Thumbnails = Queue.define({ name: "thumbnails", payload: Schema.Struct({ image: Schema.String }) })
 *
 * const ThumbnailWorker = Queue.worker(
 *   Thumbnails,
 *   (job) => Effect.log(`attempt ${job.attempt} of ${job.payload.image}`),
 *   { concurrency: 4 }
 * )
 *
 * const program = Layer.launch(ThumbnailWorker.pipe(Layer.provide(RedisLive)))
 * ```
 *
 * @since 0.1.0
 * @category layers
 */
export const worker = <A, B, E, R>(
  definition: Definition<A, B>,
  handler: Worker.Handler<A, E, R, NoInfer<B>>,
  options?: Worker.WorkerOptions<E>
): Layer.Layer<never, RedisInputError, Queue | Exclude<R, Scope.Scope>> =>
  Layer.scopedDiscard(makeWorker(definition, handler, options))

/**
 * A worker that takes several jobs at once, as a layer.
 *
 * @example
 * ```ts
 * import { Effect, Schema } from "effect"
 * import { Queue } from "effect-redis-kit"
 *
 * const Views = Queue.define({ name: "views", payload: Schema.Struct({ page: Schema.String }) })
 *
 * const ViewWorker = Queue.batchWorker(
 *   Views,
 *   (jobs) => Effect.log(`${jobs.length} rows, from ${jobs[0].payload.page} on`),
 *   { size: 500, within: "1 second" }
 * )
 * ```
 *
 * @since 0.1.0
 * @category layers
 */
export const batchWorker = <A, B, E, R>(
  definition: Definition<A, B>,
  handler: Batch.BatchHandler<A, E, R, NoInfer<B>>,
  options: Batch.BatchOptions<E>
): Layer.Layer<never, RedisInputError, Queue | Exclude<R, Scope.Scope>> =>
  Layer.scopedDiscard(makeBatchWorker(definition, handler, options))

/**
 * Fires the schedules of a queue as long as the layer is there, for a process without a worker of it.
 *
 * @example
 * ```ts
 * import { Effect, Layer, Schema } from "effect"
 * import { Queue, RedisLive } from "effect-redis-kit"
 *
 * const Reports = Queue.define({ name: "reports", payload: Schema.Struct({ kind: Schema.String }) })
 *
 * const program = Layer.launch(Queue.scheduler(Reports).pipe(Layer.provide(RedisLive)))
 * ```
 *
 * @since 0.1.0
 * @category layers
 */
export const scheduler = <A>(definition: Definition<A, any>): Layer.Layer<never, RedisInputError, Queue> =>
  Layer.scopedDiscard(Effect.flatMap(Queue, (service) => service.makeScheduler(definition)))

// ---------------------------------------------------------------------------------------------------------------------
// Accessors
// ---------------------------------------------------------------------------------------------------------------------

/**
 * Adds a job.
 *
 * @since 0.1.0
 * @category accessors
 */
export const enqueue = <A>(
  definition: Definition<A, any>,
  payload: NoInfer<A>,
  options?: EnqueueOptions
): Effect.Effect<Enqueued, PayloadTooLarge | QueueFull | RedisError, Queue> =>
  Effect.flatMap(Queue, (service) => service.enqueue(definition, payload, options))

/**
 * Adds up to 10,000 jobs, all or none.
 *
 * @since 0.1.0
 * @category accessors
 */
export const enqueueAll = <A>(
  definition: Definition<A, any>,
  jobs: ReadonlyArray<NewJob<NoInfer<A>>>
): Effect.Effect<ReadonlyArray<Enqueued>, PayloadTooLarge | QueueFull | RedisError, Queue> =>
  Effect.flatMap(Queue, (service) => service.enqueueAll(definition, jobs))

/**
 * A worker that works until the scope ends, with what steers it.
 *
 * @since 0.1.0
 * @category accessors
 */
export const makeWorker = <A, B, E, R>(
  definition: Definition<A, B>,
  handler: Worker.Handler<A, E, R, NoInfer<B>>,
  options?: Worker.WorkerOptions<E>
): Effect.Effect<Worker.Worker, RedisInputError, Queue | Exclude<R, Scope.Scope> | Scope.Scope> =>
  Effect.flatMap(Queue, (service) => service.makeWorker(definition, handler, options))

/**
 * A worker that takes several jobs at once until the scope ends, with what steers it.
 *
 * @since 0.1.0
 * @category accessors
 */
export const makeBatchWorker = <A, B, E, R>(
  definition: Definition<A, B>,
  handler: Batch.BatchHandler<A, E, R, NoInfer<B>>,
  options: Batch.BatchOptions<E>
): Effect.Effect<Worker.Worker, RedisInputError, Queue | Exclude<R, Scope.Scope> | Scope.Scope> =>
  Effect.flatMap(Queue, (service) => service.makeBatchWorker(definition, handler, options))

/**
 * Fires the schedules of a queue until the scope ends, as every worker of it does.
 *
 * @since 0.1.0
 * @category accessors
 */
export const makeScheduler = <A>(
  definition: Definition<A, any>
): Effect.Effect<void, RedisInputError, Queue | Scope.Scope> =>
  Effect.flatMap(Queue, (service) => service.makeScheduler(definition))

/**
 * Works until it is interrupted.
 *
 * @since 0.1.0
 * @category accessors
 */
export const runWorker = <A, B, E, R>(
  definition: Definition<A, B>,
  handler: Worker.Handler<A, E, R, NoInfer<B>>,
  options?: Worker.WorkerOptions<E>
): Effect.Effect<never, RedisInputError, Queue | Exclude<R, Scope.Scope>> =>
  Effect.scoped(Effect.zipRight(makeWorker(definition, handler, options), Effect.never))
