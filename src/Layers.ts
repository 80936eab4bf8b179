/**
 * All services at once: on a server, and in memory.
 *
 * @since 0.1.0
 */
import type { ConfigError } from "effect/ConfigError"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Cache from "./Cache/Cache.js"
import * as ChatRoom from "./ChatRoom/ChatRoom.js"
import * as ConsumerGroup from "./ConsumerGroup/ConsumerGroup.js"
import * as Counter from "./Counter/Counter.js"
import * as EventStore from "./EventStore/EventStore.js"
import * as Geo from "./Geo/Geo.js"
import * as Leaderboard from "./Leaderboard/Leaderboard.js"
import * as Lock from "./Lock/Lock.js"
import * as Presence from "./Presence/Presence.js"
import * as CacheInvalidator from "./PubSub/CacheInvalidator.js"
import * as EventBus from "./PubSub/EventBus.js"
import * as Notifications from "./PubSub/Notifications.js"
import * as PubSub from "./PubSub/PubSub.js"
import * as Queue from "./Queue/Queue.js"
import * as RateLimiter from "./RateLimiter/RateLimiter.js"
import * as ReadWriteLock from "./ReadWriteLock/ReadWriteLock.js"
import type { RedisClient } from "./RedisClient.js"
import type * as RedisConfig from "./RedisConfig.js"
import type { RedisError } from "./RedisError.js"
import * as RedisTestServer from "./RedisTestServer.js"
import * as Semaphore from "./Semaphore/Semaphore.js"
import * as Session from "./Session/Session.js"
import * as Stream from "./Stream/Stream.js"
import * as UniqueCounter from "./UniqueCounter/UniqueCounter.js"

/**
 * Every service that is written against `RedisClient`.
 *
 * @since 0.1.0
 * @category models
 */
export type Services =
  | Cache.Cache
  | CacheInvalidator.CacheInvalidator
  | ChatRoom.ChatRoom
  | ConsumerGroup.ConsumerGroup
  | Counter.Counter
  | EventBus.EventBus
  | EventStore.EventStore
  | Geo.Geo
  | Leaderboard.Leaderboard
  | Lock.Lock
  | Notifications.Notifications
  | Presence.Presence
  | PubSub.PubSub
  | Queue.Queue
  | RateLimiter.RateLimiter
  | ReadWriteLock.ReadWriteLock
  | Semaphore.Semaphore
  | Session.Session
  | Stream.Stream
  | UniqueCounter.UniqueCounter

const messages = Layer.provideMerge(
  Layer.mergeAll(CacheInvalidator.layer, EventBus.layer, Notifications.layer),
  PubSub.layer
)

const services: Layer.Layer<Services, never, RedisClient> = Layer.mergeAll(
  Cache.layer,
  ChatRoom.layer,
  ConsumerGroup.layer,
  Counter.layer,
  EventStore.layer,
  Geo.layer,
  Leaderboard.layer,
  Lock.layer,
  Presence.layer,
  Queue.layer,
  RateLimiter.layer,
  ReadWriteLock.layer,
  Semaphore.layer,
  Session.layer,
  Stream.layer,
  UniqueCounter.layer,
  messages
)

/** Whoever only uses `RedisTest` never loads ioredis. */
const driver = Effect.promise(() => import("./IoRedis.js"))

/**
 * Every service on a Redis server, configured by the environment (`REDIS_URL`, `REDIS_HOST`, …; see `RedisConfig.config`)
 * and sharing one connection for commands.
 *
 * @example
 * ```ts
 * import { Effect } from "effect"
 * import { RedisLive, withLock } from "effect-redis-kit"
 *
 * const report = Effect.log("one at a time, anywhere").pipe(withLock("report"))
 *
 * Effect.runPromise(report.pipe(Effect.provide(RedisLive)))
 * ```
 *
 * @since 0.1.0
 * @category layers
 */
export const RedisLive: Layer.Layer<RedisClient | Services, RedisError | ConfigError> = Layer.provideMerge(
  services,
  Layer.unwrapEffect(Effect.map(driver, ({ layerConfig }) => layerConfig()))
)

/**
 * Every service on a Redis server, with options given here. Keep the result in a constant: each call makes a connection
 * of its own.
 *
 * @since 0.1.0
 * @category layers
 */
export const live = (options: RedisConfig.Options): Layer.Layer<RedisClient | Services, RedisError> =>
  Layer.provideMerge(services, Layer.unwrapEffect(Effect.map(driver, ({ layer }) => layer(options))))

/**
 * Every service on a server in memory that lives on Effect's clock, with the server beside it: for unit tests.
 *
 * It is a constant, as is every `layerTest`: layers that are built together share one server. Two separate
 * `Effect.provide` get two.
 *
 * @example
 * ```ts
 * import { Effect, Option, TestClock, TestContext } from "effect"
 * import { RedisClient, RedisTest } from "effect-redis-kit"
 *
 * const test = Effect.gen(function*() {
 *   const redis = yield* RedisClient.RedisClient
 *   yield* redis.set("session", "ada", { ttl: "7 days" })
 *   yield* TestClock.adjust("7 days")
 *   return Option.isNone(yield* redis.get("session"))
 * })
 *
 * Effect.runPromise(test.pipe(Effect.provide(RedisTest), Effect.provide(TestContext.TestContext)))
 * ```
 *
 * @since 0.1.0
 * @category layers
 */
export const RedisTest: Layer.Layer<RedisClient | Services | RedisTestServer.RedisTestServer> = Layer.provideMerge(
  services,
  RedisTestServer.layer
)
