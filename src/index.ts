/**
 * Redis services for Effect.
 *
 * The live driver is `effect-redis-kit/IoRedis`. It is not here, so that importing this module does not load ioredis.
 *
 * @since 0.1.0
 */

/**
 * @since 0.1.0
 */
export * as Cache from "./Cache/index.js"

/**
 * @since 0.1.0
 */
export * as CacheInvalidator from "./PubSub/CacheInvalidator.js"

/**
 * @since 0.1.0
 */
export * as ChatRoom from "./ChatRoom/index.js"

/**
 * @since 0.1.0
 */
export * as ConsumerGroup from "./ConsumerGroup/index.js"

/**
 * @since 0.1.0
 */
export * as Counter from "./Counter/index.js"

/**
 * @since 0.1.0
 */
export * as EventBus from "./PubSub/EventBus.js"

/**
 * @since 0.1.0
 */
export * as EventStore from "./EventStore/index.js"

/**
 * @since 0.1.0
 */
export * as Geo from "./Geo/index.js"

/**
 * @since 0.1.0
 */
export * as Layers from "./Layers.js"

/**
 * @since 0.1.0
 */
export { RedisLive, RedisTest } from "./Layers.js"

/**
 * @since 0.1.0
 */
export * as Leaderboard from "./Leaderboard/index.js"

/**
 * @since 0.1.0
 */
export * as Lock from "./Lock/index.js"

/**
 * @since 0.1.0
 */
export { withLock } from "./Lock/Lock.js"

/**
 * @since 0.1.0
 */
export * as Notifications from "./PubSub/Notifications.js"

/**
 * @since 0.1.0
 */
export * as Presence from "./Presence/index.js"

/**
 * @since 0.1.0
 */
export * as PubSub from "./PubSub/index.js"

/**
 * @since 0.1.0
 */
export * as Queue from "./Queue/index.js"

/**
 * @since 0.1.0
 */
export * as Quorum from "./Quorum/index.js"

/**
 * @since 0.1.0
 */
export * as RateLimiter from "./RateLimiter/index.js"

/**
 * @since 0.1.0
 */
export { rateLimited } from "./RateLimiter/RateLimiter.js"

/**
 * @since 0.1.0
 */
export * as ReadWriteLock from "./ReadWriteLock/index.js"

/**
 * @since 0.1.0
 */
export * as RedisClient from "./RedisClient.js"

/**
 * @since 0.1.0
 */
export * as RedisCommands from "./RedisCommands.js"

/**
 * @since 0.1.0
 */
export * as RedisConfig from "./RedisConfig.js"

/**
 * @since 0.1.0
 */
export * as RedisError from "./RedisError.js"

/**
 * @since 0.1.0
 */
export * as RedisScript from "./RedisScript.js"

/**
 * @since 0.1.0
 */
export * as RedisTestServer from "./RedisTestServer.js"

/**
 * @since 0.1.0
 */
export * as Semaphore from "./Semaphore/index.js"

/**
 * @since 0.1.0
 */
export * as Session from "./Session/index.js"

/**
 * @since 0.1.0
 */
export * as Stream from "./Stream/index.js"

/**
 * @since 0.1.0
 */
export * as UniqueCounter from "./UniqueCounter/index.js"
