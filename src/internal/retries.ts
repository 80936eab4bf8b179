/**
 * Trying again what may be done twice.
 */
import * as Effect from "effect/Effect"
import * as Schedule from "effect/Schedule"
import { defaultRetry } from "../RedisConfig.js"
import { isRedisError, type RedisError } from "../RedisError.js"
import { mayPass } from "./mayPass.js"

/** Whether reading again may help, and the first time took no deadline's time. */
const isBrief = (error: RedisError): boolean =>
  error._tag === "RedisOutcomeUnknownError"
    ? error.reason === "disconnected"
    : error._tag === "RedisReplyError" && error.isRetryable

/**
 * For commands that change nothing, which the client does not know.
 *
 * @internal
 */
export const reading = <A>(effect: Effect.Effect<A, RedisError>): Effect.Effect<A, RedisError> =>
  Effect.catchAll(
    effect,
    (error) => isBrief(error) ? Effect.retry(effect, { schedule: defaultRetry, while: isBrief }) : Effect.fail(error)
  )

/**
 * An outage ends some time; what can't work ends it.
 *
 * @internal
 */
export const untilItWorks = <A, E = never>(
  effect: Effect.Effect<A, E | RedisError>
): Effect.Effect<A, E | RedisError> =>
  Effect.retry(effect, {
    schedule: Schedule.union(Schedule.exponential("100 millis"), Schedule.spaced("1 second")),
    while: (error) => isRedisError(error) && mayPass(error)
  })
