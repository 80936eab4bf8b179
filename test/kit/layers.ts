/**
 * The two drivers, and the three kinds of servers that one of them talks to, for suites that must hold on all of them.
 */
import { Context, Effect, Layer, Redacted, type Scope } from "effect"
import { inject } from "vitest"
import { layer } from "../../src/IoRedis.js"
import type { RedisClient } from "../../src/RedisClient.js"
import type { Options } from "../../src/RedisConfig.js"
import type { RedisError } from "../../src/RedisError.js"
import * as RedisTestServer from "../../src/RedisTestServer.js"
import { isolated } from "../../src/testing.js"
import * as RealCluster from "./RealCluster.js"
import * as RealSentinel from "./RealSentinel.js"
import "./globalSetup.js"

type ClientLayer = (options?: Options) => Layer.Layer<RedisClient, RedisError>

/** Each build has its own prefix, and removes its keys at the end. */
const clientAt = (where: () => Options): ClientLayer => (options = {}) =>
  isolated((keyPrefix) => layer({ ...where(), keyPrefix, ...options }))

/** A client of the run's server. */
export const liveWith: ClientLayer = clientAt(() => ({ url: Redacted.make(inject("redisUrl")) }))

/** Makes more clients of the servers that a layer has started. */
export class Clients extends Context.Tag("test/Clients")<Clients, ClientLayer>() {}

export const clusterOptions = (cluster: RealCluster.Cluster): Options => ({
  clusterNodes: cluster.nodes.map(({ host, port }) => ({ host, port }))
})

export const sentinelOptions = (set: RealSentinel.SentinelSet): Options => ({
  sentinels: set.sentinels.map(({ host, port }) => ({ host, port })),
  sentinelMaster: set.masterName
})

/** Servers of their own, which nobody can do without. */
const started = <E>(make: Effect.Effect<Options, E, Scope.Scope>): Layer.Layer<RedisClient | Clients, RedisError> =>
  Layer.unwrapScoped(Effect.map(Effect.orDie(make), (options) => {
    const clients = clientAt(() => options)
    return Layer.merge(clients(), Layer.succeed(Clients, clients))
  }))

export const onCluster = started(Effect.map(RealCluster.start(), clusterOptions))

export const onSentinel = started(Effect.map(RealSentinel.start(), sentinelOptions))

export const live: Layer.Layer<RedisClient, RedisError> = liveWith()

export const memory = RedisTestServer.layer

/** As a Cluster of one node, which is as strict about slots as any. */
export const memoryCluster = RedisTestServer.layerWith({ cluster: true })

/**
 * For each driver the name, the layer, and the options of `layer` of `@effect/vitest`: live suites run on the real clock.
 */
export const drivers = [
  ["in memory", memory, {}],
  ["live", live, { excludeTestServices: true }]
] as const
