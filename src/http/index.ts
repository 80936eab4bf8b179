/**
 * For servers of `@effect/platform`: rate limits, sessions, the address and the origin of a request, and health.
 *
 * @since 0.1.0
 */

/**
 * @since 0.1.0
 */
export * as ClientAddress from "./ClientAddress.js"

/**
 * @since 0.1.0
 */
export * as Health from "./Health.js"

/**
 * @since 0.1.0
 */
export * as RateLimitHeaders from "./RateLimitHeaders.js"

/**
 * @since 0.1.0
 */
export * as RateLimits from "./RateLimits.js"

/**
 * @since 0.1.0
 */
export * as SameOrigin from "./SameOrigin.js"

/**
 * @since 0.1.0
 */
export * as Sessions from "./Sessions.js"
