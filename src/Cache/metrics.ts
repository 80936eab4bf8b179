/**
 * What the caches of a process count: in memory, and as metrics named `effect_redis_cache_*`.
 */
import * as MetricKey from "effect/MetricKey"
import { tagged } from "../internal/metrics.js"

const options = (description: string) => ({ description, incremental: true }) as const

const requests = MetricKey.counter(
  "effect_redis_cache_requests_total",
  options("Keys that were asked for, by where they were looked for and what was found")
)
const loads = MetricKey.counter("effect_redis_cache_loads_total", options("Lookups that ended, by outcome"))
const evictions = MetricKey.counter(
  "effect_redis_cache_evictions_total",
  options("Entries that had to leave the near cache because there was no room")
)
const refusals = MetricKey.counter(
  "effect_redis_cache_refused_fills_total",
  options("Lookups whose value was not stored, because something newer was written meanwhile")
)
const undecodable = MetricKey.counter(
  "effect_redis_cache_undecodable_total",
  options("Entries that could not be read and counted as missing")
)
const unavailable = MetricKey.counter(
  "effect_redis_cache_unavailable_total",
  options("Keys that were asked for or stored while the server could not be asked")
)

/**
 * What a cache has counted since it was opened.
 *
 * @since 0.1.0
 * @category models
 */
export interface Stats {
  /** In the memory of this process. */
  readonly near: {
    readonly hits: number
    readonly misses: number
    /** Entries that had to go because there was no room. */
    readonly evictions: number
    /** Entries that are there now. */
    readonly size: number
    readonly bytes: number
  }
  /** On the server. */
  readonly redis: {
    readonly hits: number
    readonly misses: number
    /** Found within its grace. */
    readonly stale: number
    /** The server could not be asked. */
    readonly unavailable: number
    /** Found, but could not be read. They count as misses too. */
    readonly undecodable: number
  }
  readonly lookups: {
    readonly succeeded: number
    readonly failed: number
    /** Succeeded, but something newer was written meanwhile, so the value was not stored. */
    readonly refused: number
  }
}

interface Count {
  readonly add: (n?: number) => void
  readonly value: () => number
}

const noLabels: [] = []

const count = (
  key: MetricKey.MetricKey.Counter<number>,
  ...labels: ReadonlyArray<readonly [string, string]>
): Count => {
  const metric = tagged(key, Object.fromEntries(labels))
  let n = 0
  return {
    add: (by = 1) => {
      n += by
      metric.unsafeUpdate(by, noLabels)
    },
    value: () => n
  }
}

export const make = (name: string) => {
  const cache = ["cache", name] as const
  const request = (tier: string, outcome: string) => count(requests, cache, ["tier", tier], ["outcome", outcome])
  const load = (outcome: string) => count(loads, cache, ["outcome", outcome])
  return {
    nearHit: request("near", "hit"),
    nearMiss: request("near", "miss"),
    hit: request("redis", "hit"),
    miss: request("redis", "miss"),
    stale: request("redis", "stale"),
    unavailable: count(unavailable, cache),
    undecodable: count(undecodable, cache),
    loaded: load("ok"),
    failed: load("failed"),
    refused: count(refusals, cache),
    evicted: count(evictions, cache)
  }
}
