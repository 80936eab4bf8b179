/**
 * What rate limits decide, by policy.
 */
import type * as Metric from "effect/Metric"
import * as MetricKey from "effect/MetricKey"
import { tagged } from "../internal/metrics.js"
import type { Decision } from "./RateLimiter.js"

const decisions = MetricKey.counter("effect_redis_rate_limit_decisions_total", {
  description: "Decisions of rate limits, by policy, outcome and where the answer came from",
  incremental: true
})

/** The counters of one policy. */
export type Decisions = Map<string, Metric.Metric.Counter<number>>

const byPolicy = new Map<string, Decisions>()

export const decisionsOf = (policy: string): Decisions => {
  let counters = byPolicy.get(policy)
  if (counters === undefined) byPolicy.set(policy, counters = new Map())
  return counters
}

const outcomeOf = ({ allowed, source }: Decision): string =>
  source === "redis" ? (allowed ? "allowed" : "rejected") : `${allowed ? "allowed" : "rejected"}, ${source}`

export const count = (counters: Decisions, decision: Decision): void => {
  const outcome = outcomeOf(decision)
  let counter = counters.get(outcome)
  if (counter === undefined) {
    counter = tagged(decisions, {
      policy: decision.policy,
      outcome: decision.allowed ? "allowed" : "rejected",
      source: decision.source
    })
    counters.set(outcome, counter)
  }
  counter.unsafeUpdate(1, noLabels)
}

const noLabels: [] = []
