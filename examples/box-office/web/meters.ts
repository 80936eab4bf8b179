/**
 * What the metrics of the library say of this process.
 */
import { Effect, Metric, type MetricPair } from "effect"

interface Count {
  readonly tags: Readonly<Record<string, string>>
  readonly count: number
}

const countsOf = (pairs: ReadonlyArray<MetricPair.MetricPair.Untyped>, name: string): ReadonlyArray<Count> =>
  pairs.flatMap(({ metricKey, metricState }) =>
    metricKey.name === name && "count" in metricState
      ? [{
        tags: Object.fromEntries(metricKey.tags.map(({ key, value }) => [key, value])),
        count: Number(metricState.count)
      }]
      : []
  )

const sum = (counts: ReadonlyArray<Count>, tags: Readonly<Record<string, string>> = {}) =>
  counts.reduce(
    (total, count) =>
      Object.entries(tags).every(([key, value]) => count.tags[key] === value) ? total + count.count : total,
    0
  )

export const meters = Effect.map(Metric.snapshot, (pairs) => {
  const cache = countsOf(pairs, "effect_redis_cache_requests_total")
  const decisions = countsOf(pairs, "effect_redis_rate_limit_decisions_total")
  return {
    cache: ["near", "redis"].map((tier) => ({
      tier,
      hits: sum(cache, { cache: "box-office", tier, outcome: "hit" }),
      misses: sum(cache, { cache: "box-office", tier, outcome: "miss" })
    })),
    limits: [...new Set(decisions.map(({ tags }) => tags["policy"] ?? ""))].toSorted().map((policy) => ({
      policy,
      allowed: sum(decisions, { policy, outcome: "allowed" }),
      refused: sum(decisions, { policy, outcome: "rejected" })
    })),
    commands: sum(countsOf(pairs, "effect_redis_commands_total")),
    reconnects: sum(countsOf(pairs, "effect_redis_reconnects_total")),
    gaps: sum(countsOf(pairs, "effect_redis_subscription_gaps_total"))
  }
})
