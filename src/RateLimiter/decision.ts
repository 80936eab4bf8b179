/**
 * From numbers to what callers see.
 */
import * as Duration from "effect/Duration"
import type { Decision, TierDecision } from "./RateLimiter.js"
import { RateLimitExceeded } from "./RateLimitExceeded.js"
import type { Tier } from "./tiers.js"

/** `wait` is -1 when it is in vain. Times are in milliseconds. */
export const tierDecision = (
  { limit, rate }: Tier,
  wait: number,
  remaining: number,
  reset: number
): TierDecision => ({
  allowed: wait === 0,
  policy: rate.policy.name,
  limit,
  window: rate.windowDuration,
  remaining,
  retryAfter: wait === 0 ? Duration.zero : wait < 0 ? Duration.infinity : Duration.millis(wait),
  resetAfter: Duration.millis(reset),
  satisfiable: wait >= 0
})

/** Where ticks are no microseconds the last digit of a time is uncertain. */
const millisOf = (level: number, ticks: number): number =>
  level <= 0 ? 0 : Math.ceil((ticks === 1 ? level : level / ticks + 1) / 1000)

/** What follows from the level of a bucket with the limit of the policy; it is negative when the use was refused. */
export const bucketDecision = (tier: Tier, level: number): TierDecision => {
  const { burst, cost, most, rate: { one, ticks } } = tier
  const held = level >= 0 ? level : -1 - level
  const wait = level >= 0 ? 0 : cost > burst ? -1 : millisOf(held - most, ticks)
  return tierDecision(tier, wait, Math.max(0, Math.floor((burst * one - held) / one)), millisOf(held, ticks))
}

/** The one that refuses for longest; or, when all allow it, the one of which least remains. */
const matters = (tiers: ReadonlyArray<TierDecision>): TierDecision => {
  let most = tiers[0]!
  for (let i = 1; i < tiers.length; i++) {
    const tier = tiers[i]!
    if (
      tier.allowed === most.allowed
        ? tier.allowed
          ? tier.remaining < most.remaining
          : Duration.greaterThan(tier.retryAfter, most.retryAfter)
        : most.allowed
    ) most = tier
  }
  return most
}

export const decisionOf = (tiers: ReadonlyArray<TierDecision>, source: Decision["source"]): Decision => {
  const { allowed, limit, policy, remaining, resetAfter, retryAfter, satisfiable, window } = matters(tiers)
  return { allowed, policy, limit, window, remaining, retryAfter, resetAfter, satisfiable, tiers, source }
}

/** Where it happened is known, and a stack would cost more than the decision. */
export const exceeded = (
  key: string,
  { limit, policy, remaining, resetAfter, retryAfter, satisfiable }: Decision
): RateLimitExceeded => {
  const before = Error.stackTraceLimit
  Error.stackTraceLimit = 0
  const error = new RateLimitExceeded({ key, policy, limit, remaining, retryAfter, resetAfter, satisfiable }, true)
  Error.stackTraceLimit = before
  return error
}
