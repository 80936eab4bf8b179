/**
 * What operates the groups of a queue, for use with the service of the environment.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import type { RedisError } from "../RedisError.js"
import type { Definition } from "./Definition.js"
import type { GroupInfo, GroupLimits, GroupPage, GroupPageOptions } from "./Groups.js"
import { Queue } from "./Queue.js"

/**
 * Some of the groups that have jobs which are ready or run.
 *
 * @since 0.1.0
 * @category accessors
 */
export const groups = <A>(
  definition: Definition<A, any>,
  options?: GroupPageOptions
): Effect.Effect<GroupPage, RedisError, Queue> => Effect.flatMap(Queue, (queue) => queue.groups(definition, options))

/**
 * One group, whether it has jobs or not.
 *
 * @since 0.1.0
 * @category accessors
 */
export const group = <A>(
  definition: Definition<A, any>,
  group: string
): Effect.Effect<GroupInfo, RedisError, Queue> => Effect.flatMap(Queue, (queue) => queue.group(definition, group))

/**
 * Gives a group limits of its own; `{}` takes them back.
 *
 * @since 0.1.0
 * @category accessors
 */
export const setGroupLimits = <A>(
  definition: Definition<A, any>,
  group: string,
  limits: GroupLimits
): Effect.Effect<void, RedisError, Queue> =>
  Effect.flatMap(Queue, (queue) => queue.setGroupLimits(definition, group, limits))

/**
 * No job of the group starts anywhere, until it is resumed. Running ones go on, and jobs can be enqueued.
 *
 * @since 0.1.0
 * @category accessors
 */
export const pauseGroup = <A>(
  definition: Definition<A, any>,
  group: string
): Effect.Effect<void, RedisError, Queue> => Effect.flatMap(Queue, (queue) => queue.pauseGroup(definition, group))

/**
 * Ends the pause of a group.
 *
 * @since 0.1.0
 * @category accessors
 */
export const resumeGroup = <A>(
  definition: Definition<A, any>,
  group: string
): Effect.Effect<void, RedisError, Queue> => Effect.flatMap(Queue, (queue) => queue.resumeGroup(definition, group))
