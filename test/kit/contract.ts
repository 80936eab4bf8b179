/**
 * The five forms that a contract suite runs in.
 */
import type { Layer } from "effect"
import type { RedisClient } from "../../src/RedisClient.js"
import type { RedisError } from "../../src/RedisError.js"
import { live, memory, memoryCluster, onCluster, onSentinel } from "./layers.js"
import { sharing } from "./sharing.js"
import { real, type Time, virtual } from "./suites.js"

type Suite = (
  name: string,
  driver: Layer.Layer<RedisClient, RedisError>,
  options: { readonly excludeTestServices?: boolean },
  time: Time
) => void

/**
 * What ioredis has no part in is not run again with its other version. Clusters and Sentinels are the business of the
 * contract of `RedisClient`, which runs in all forms with both.
 */
const otherVersion = process.env.REDIS_TEST_IOREDIS === "ioredis-6"

export const everywhere = (...suites: ReadonlyArray<Suite>) => {
  const shared = otherVersion ? sharing(live) : sharing(live, onCluster, onSentinel)
  for (const suite of suites) {
    if (!otherVersion) {
      suite("in memory", memory, {}, virtual)
      suite("in memory, as a Cluster", memoryCluster, {}, virtual)
    }
    suite("live", live, shared, real)
    if (!otherVersion) {
      suite("on a Cluster", onCluster, shared, real)
      suite("with Sentinel", onSentinel, shared, real)
    }
  }
}
