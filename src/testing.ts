/**
 * For the tests of programs that use this library: `RedisTest`, the server behind it with its faults, and `drivers`,
 * which runs one suite in memory and on a real server.
 *
 * Nothing here depends on a test framework, and ioredis is not loaded before a live layer is built.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { randomBytes } from "node:crypto"
import * as Layers from "./Layers.js"
import { RedisClient } from "./RedisClient.js"
import type * as RedisConfig from "./RedisConfig.js"
import type { RedisError } from "./RedisError.js"

/**
 * @since 0.1.0
 */
export { RedisTest } from "./Layers.js"

/**
 * @since 0.1.0
 */
export * as RedisTestServer from "./RedisTestServer.js"

/**
 * @since 0.1.0
 */
export { Fault } from "./RedisTestServer.js"

/**
 * A layer whose keys nobody else has. It is made with another random key prefix each time it is built, `"test:"` and ten
 * letters or digits, and all keys under that prefix are removed when its scope ends. So suites share a server, also at
 * the same time. Pass the prefix on as it is: what is removed is all that the layer's `RedisClient` has under its prefix.
 *
 * A process that is killed leaves its keys behind; they can be told by `test:`.
 *
 * @example
 * ```ts
 * import { Redacted } from "effect"
 * import * as IoRedis from "effect-redis-kit/IoRedis"
 * import { isolated } from "effect-redis-kit/testing"
 *
 * const url = Redacted.make("redis://localhost:6379")
 * const Client = isolated((keyPrefix) => IoRedis.layer({ url, keyPrefix }))
 * ```
 *
 * @since 0.1.0
 * @category layers
 */
export const isolated = <A, E, R>(
  make: (keyPrefix: string) => Layer.Layer<RedisClient | A, E, R>
): Layer.Layer<RedisClient | A, E, R> =>
  // Not of Effect's Random: suites with equal seeds would share their keys.
  Layer.unwrapEffect(Effect.sync(() => {
    const id = randomBytes(5).toString("hex")
    const cleanUp = Layer.scopedDiscard(
      Effect.acquireRelease(RedisClient, (client) => Effect.ignore(client.unlinkMatching("*")))
    )
    return Layer.provideMerge(cleanUp, make(`test:${id}:`))
  }))

/**
 * Every service on a real server, with keys of its own as in `isolated`. A `keyPrefix` of the options comes before
 * the random one.
 *
 * @since 0.1.0
 * @category layers
 */
export const live = (options: RedisConfig.Options): Layer.Layer<RedisClient | Layers.Services, RedisError> =>
  isolated((keyPrefix) => Layers.live({ ...options, keyPrefix: `${options.keyPrefix ?? ""}${keyPrefix}` }))

/**
 * What a suite is run on.
 *
 * @since 0.1.0
 * @category models
 */
export interface Driver {
  /** For the title of the suite. */
  readonly name: "in memory" | "live"
  readonly layer: Layer.Layer<RedisClient | Layers.Services, RedisError>
  /** For `layer` of `@effect/vitest`: a real server does not live on `TestClock`. */
  readonly options: { readonly excludeTestServices: boolean }
}

/**
 * The in-memory server and a real one, for a suite that must hold on both. The options are those of `Layers.live`: where
 * the real one is. They are read when its layer is built.
 *
 * @example
 * ```ts
 * import { assert, layer } from "@effect/vitest"
 * import { Effect, Option, Redacted } from "effect"
 * import { RedisClient } from "effect-redis-kit"
 * import { drivers } from "effect-redis-kit/testing"
 *
 * const url = Redacted.make(process.env.REDIS_URL ?? "redis://localhost:6379")
 *
 * for (const driver of drivers({ url })) {
 *   layer(driver.layer, driver.options)(`names, ${driver.name}`, (it) => {
 *     it.effect("are kept", () =>
 *       Effect.gen(function*() {
 *         const redis = yield* RedisClient.RedisClient
 *         yield* redis.set("name", "Ada")
 *         assert.strictEqual(Option.getOrNull(yield* redis.get("name")), "Ada")
 *       }))
 *   })
 * }
 * ```
 *
 * @since 0.1.0
 * @category constructors
 */
export const drivers = (options: RedisConfig.Options): readonly [memory: Driver, live: Driver] => [
  { name: "in memory", layer: Layers.RedisTest, options: { excludeTestServices: false } },
  { name: "live", layer: live(options), options: { excludeTestServices: true } }
]
