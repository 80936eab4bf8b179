/**
 * The two drivers, for suites that must hold on both.
 */
import { Effect, Layer, Redacted } from "effect"
import { randomUUID } from "node:crypto"
import { inject } from "vitest"
import { layer } from "../../src/IoRedis.js"
import { RedisClient } from "../../src/RedisClient.js"
import type { Options } from "../../src/RedisConfig.js"
import type { RedisError } from "../../src/RedisError.js"
import * as RedisTestServer from "../../src/RedisTestServer.js"
import "./globalSetup.js"

/** A client of the run's server. Each build has its own prefix, and removes its keys at the end. */
export const liveWith = (options: Options = {}): Layer.Layer<RedisClient, RedisError> =>
  Layer.unwrapEffect(Effect.sync(() => {
    const own = layer({
      url: Redacted.make(inject("redisUrl")),
      keyPrefix: `test:${randomUUID().slice(0, 8)}:`,
      ...options
    })
    const cleanUp = Layer.scopedDiscard(
      Effect.acquireRelease(RedisClient, (client) => Effect.ignore(client.unlinkMatching("*")))
    )
    return Layer.provideMerge(cleanUp, own)
  }))

export const live: Layer.Layer<RedisClient, RedisError> = liveWith()

export const memory = RedisTestServer.layer

/**
 * For each driver the name, the layer, and the options of `layer` of `@effect/vitest`: live suites run on the real clock.
 */
export const drivers = [
  ["in memory", memory, {}],
  ["live", live, { excludeTestServices: true }]
] as const
