/**
 * What may pass by itself.
 */
import type { RedisError } from "../RedisError.js"

/**
 * Whether asking again makes sense, for what may be asked twice.
 *
 * @internal
 */
export const mayPass = (error: RedisError): boolean => error.isRetryable || error._tag === "RedisOutcomeUnknownError"
