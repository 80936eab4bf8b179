/**
 * Who was refused, and until when: a refusal that is known needs no server.
 */
import * as Duration from "effect/Duration"
import { decisionOf } from "./decision.js"
import type { Decision, TierDecision } from "./RateLimiter.js"
import type { Tier } from "./tiers.js"

export interface BlockCache {
  /** The same refusal again, as long as it holds. `now` is in milliseconds. */
  readonly get: (tiers: ReadonlyArray<Tier>, now: number) => Decision | undefined
  /** What was refused, asked at this time and in this state. */
  readonly add: (tiers: ReadonlyArray<Tier>, decision: Decision, asked: number, state: number) => void
  readonly forget: (id: string) => void
  /** Another one each time that something is forgotten: what was asked before is not to be remembered. */
  readonly state: () => number
}

interface Refusal {
  readonly asked: number
  readonly until: number
  readonly decision: Decision
}

/** An identifier can be refused different things. */
const MOST_OF_ONE = 16

/** Another cost or limit may be allowed, so only the same request is the same. */
const requestOf = (tiers: ReadonlyArray<Tier>): string => {
  let request = ""
  for (const { cost, limit, rate } of tiers) request += `${rate.prefix}${cost}/${limit} `
  return request
}

const later = (tier: TierDecision, passed: number): TierDecision => {
  const wait = Duration.toMillis(tier.retryAfter) - passed
  return {
    ...tier,
    allowed: wait <= 0,
    retryAfter: wait <= 0 ? Duration.zero : Duration.millis(wait),
    resetAfter: Duration.millis(Math.max(0, Duration.toMillis(tier.resetAfter) - passed))
  }
}

export const make = (): BlockCache => {
  // Those who came first are the first to be forgotten.
  const refusals = new Map<string, Map<string, Refusal>>()
  let forgotten = 0
  return {
    get: (tiers, now) => {
      const { id } = tiers[0]!
      const ofId = refusals.get(id)
      if (ofId === undefined) return undefined
      const request = requestOf(tiers)
      const refusal = ofId.get(request)
      if (refusal === undefined) return undefined
      if (now >= refusal.until) {
        ofId.delete(request)
        if (ofId.size === 0) refusals.delete(id)
        return undefined
      }
      const passed = Math.floor(now - refusal.asked)
      return decisionOf(refusal.decision.tiers.map((tier) => later(tier, passed)), "block-cache")
    },
    add: (tiers, decision, asked, state) => {
      if (!decision.satisfiable || state !== forgotten) return
      const { id } = tiers[0]!
      let ofId = refusals.get(id)
      refusals.delete(id)
      if (ofId === undefined || ofId.size >= MOST_OF_ONE) ofId = new Map()
      ofId.set(requestOf(tiers), { asked, until: asked + Duration.toMillis(decision.retryAfter), decision })
      refusals.set(id, ofId)
      const capacity = Math.max(...tiers.map(({ rate }) => rate.remembered))
      for (const oldest of refusals.keys()) {
        if (refusals.size <= capacity) break
        refusals.delete(oldest)
      }
    },
    forget: (id) => {
      forgotten++
      refusals.delete(id)
    },
    state: () => forgotten
  }
}
