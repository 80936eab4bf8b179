/**
 * What a handler answers when Redis does not.
 */
import { Effect } from "effect"
import { RedisError } from "effect-redis-kit"
import { Unavailable } from "./api.js"

export const orUnavailable = <A, E, R>(
  effect: Effect.Effect<A, E | RedisError.RedisError, R>
): Effect.Effect<A, Exclude<E, RedisError.RedisError> | Unavailable, R> =>
  Effect.catchAll(
    effect,
    (error): Effect.Effect<never, Exclude<E, RedisError.RedisError> | Unavailable> =>
      RedisError.isRedisError(error)
        ? Effect.zipRight(Effect.logWarning(error), new Unavailable())
        : Effect.fail(error as Exclude<E, RedisError.RedisError>)
  )
