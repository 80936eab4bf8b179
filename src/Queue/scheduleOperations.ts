/**
 * Schedules, for use with the service of the environment.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import type * as Option from "effect/Option"
import type { RedisError } from "../RedisError.js"
import type { PageOptions } from "./Control.js"
import type { Definition, Enqueued } from "./Definition.js"
import { Queue } from "./Queue.js"
import type { PayloadTooLarge, QueueFull } from "./QueueError.js"
import type { ScheduleInfo, ScheduleNotFound, ScheduleOptions, SchedulePage, TooManySchedules } from "./Schedules.js"

/**
 * Makes a schedule, or changes the one with this id. The same again changes nothing, so every process may do it when it
 * starts.
 *
 * @example
 * ```ts
 * import { Effect, Schema } from "effect"
 * import { Queue } from "effect-redis-kit"
 *
 * const Reports = Queue.define({ name: "reports", payload: Schema.Struct({ kind: Schema.String }) })
 *
 * const program = Effect.gen(function*() {
 *   yield* Queue.schedule(Reports, "daily", {
 *     cron: "0 6 * * *",
 *     timeZone: "Europe/Zurich",
 *     payload: { kind: "daily" }
 *   })
 *   yield* Queue.schedule(Reports, "load", { every: "30 seconds", payload: { kind: "load" } })
 * })
 * ```
 *
 * @since 0.1.0
 * @category accessors
 */
export const schedule = <A>(
  definition: Definition<A, any>,
  id: string,
  options: ScheduleOptions<NoInfer<A>>
): Effect.Effect<ScheduleInfo<A>, TooManySchedules | PayloadTooLarge | RedisError, Queue> =>
  Effect.flatMap(Queue, (queue) => queue.schedule(definition, id, options))

/**
 * A schedule.
 *
 * @since 0.1.0
 * @category accessors
 */
export const getSchedule = <A>(
  definition: Definition<A, any>,
  id: string
): Effect.Effect<Option.Option<ScheduleInfo<A>>, RedisError, Queue> =>
  Effect.flatMap(Queue, (queue) => queue.getSchedule(definition, id))

/**
 * Some of the schedules, in the order of their next slots.
 *
 * @since 0.1.0
 * @category accessors
 */
export const listSchedules = <A>(
  definition: Definition<A, any>,
  options?: PageOptions
): Effect.Effect<SchedulePage<A>, RedisError, Queue> =>
  Effect.flatMap(Queue, (queue) => queue.listSchedules(definition, options))

/**
 * Pauses a schedule: slots that come until it is resumed are left out.
 *
 * @since 0.1.0
 * @category accessors
 */
export const pauseSchedule = <A>(
  definition: Definition<A, any>,
  id: string
): Effect.Effect<void, ScheduleNotFound | RedisError, Queue> =>
  Effect.flatMap(Queue, (queue) => queue.pauseSchedule(definition, id))

/**
 * Ends the pause of a schedule.
 *
 * @since 0.1.0
 * @category accessors
 */
export const resumeSchedule = <A>(
  definition: Definition<A, any>,
  id: string
): Effect.Effect<void, ScheduleNotFound | RedisError, Queue> =>
  Effect.flatMap(Queue, (queue) => queue.resumeSchedule(definition, id))

/**
 * Removes a schedule, and returns whether there was one. With `job: true` the job of its last slot is removed too, when
 * that waits.
 *
 * @since 0.1.0
 * @category accessors
 */
export const removeSchedule = <A>(
  definition: Definition<A, any>,
  id: string,
  options?: { readonly job?: boolean | undefined }
): Effect.Effect<boolean, RedisError, Queue> =>
  Effect.flatMap(Queue, (queue) => queue.removeSchedule(definition, id, options))

/**
 * Makes a job of a schedule at once, besides those of its slots.
 *
 * @since 0.1.0
 * @category accessors
 */
export const fireSchedule = <A>(
  definition: Definition<A, any>,
  id: string
): Effect.Effect<Enqueued, ScheduleNotFound | QueueFull | RedisError, Queue> =>
  Effect.flatMap(Queue, (queue) => queue.fireSchedule(definition, id))
