/**
 * What is decided when the server does not answer.
 */
import * as Effect from "effect/Effect"
import * as FiberId from "effect/FiberId"
import type * as Scope from "effect/Scope"
import * as Alarm from "../internal/alarm.js"
import * as Breaker from "../internal/breaker.js"
import { isRedisError, type RedisError, RedisTimeoutError } from "../RedisError.js"
import { decisionOf, tierDecision } from "./decision.js"
import type { Decision } from "./RateLimiter.js"
import type { Tier } from "./tiers.js"

/** Besides those that pass by themselves: the server can't write. */
const unable: ReadonlySet<string> = new Set(["OOM", "MISCONF"])

const isUnavailable = (error: RedisError): boolean => {
  switch (error._tag) {
    case "RedisConnectionError":
    case "RedisTimeoutError":
    case "RedisOutcomeUnknownError":
      return true
    case "RedisReplyError":
      return error.isRetryable || unable.has(error.code)
    case "RedisDecodeError":
    case "RedisInputError":
      return false
  }
}

/** Two requests in a row that were not answered are enough to leave the server alone for so many milliseconds. */
const FAILURES = 2
const PAUSE = 500

/** Ends a request that takes longer than so many milliseconds. */
type Deadline = <A>(
  ask: Effect.Effect<A, RedisError>,
  millis: number,
  onTimeout: () => RedisError
) => Effect.Effect<A, RedisError>

/** One timer for all of them: a race of each request with a timer of its own would cost more than the request. */
const makeDeadline: Effect.Effect<Deadline, never, Scope.Scope> = Effect.gen(function*() {
  const asking = new Set<{ readonly until: number; readonly expire: () => void }>()
  const alarm = yield* Alarm.make(() => {
    const now = alarm.now()
    let next = Infinity
    for (const each of asking) {
      if (each.until <= now) each.expire()
      else if (each.until < next) next = each.until
    }
    if (next < Infinity) alarm.ringBy(next)
  })
  return <A>(ask: Effect.Effect<A, RedisError>, millis: number, onTimeout: () => RedisError) =>
    Effect.async<A, RedisError>((resume) => {
      const until = alarm.now() + millis
      const fiber = alarm.run(ask)
      const stop = () => {
        asking.delete(each)
        fiber.unsafeInterruptAsFork(FiberId.none)
      }
      const each = {
        until,
        expire: () => {
          stop()
          resume(Effect.fail(onTimeout()))
        }
      }
      asking.add(each)
      fiber.addObserver((exit) => {
        if (asking.delete(each)) resume(exit)
      })
      alarm.ringBy(until)
      return Effect.sync(stop)
    })
})

export interface Circuit {
  readonly deadline: Deadline
  /**
   * Asks the server for so many milliseconds at most, and falls back when it does not answer. Once it is known to be
   * away, it falls back at once, and one request after each pause asks again.
   */
  readonly protect: <A>(
    ask: Effect.Effect<A, RedisError>,
    millis: number,
    fallback: () => A
  ) => Effect.Effect<A, RedisError>
}

export const makeCircuit = (target: string): Effect.Effect<Circuit, never, Scope.Scope> =>
  Effect.gen(function*() {
    const deadline = yield* makeDeadline
    const breaker = yield* Breaker.make({
      name: "rate_limiter",
      failures: FAILURES,
      pause: PAUSE,
      counts: (error) => isRedisError(error) && isUnavailable(error)
    })
    return {
      deadline,
      protect: (ask, millis, fallback) => {
        const otherwise = Effect.sync(fallback)
        const inTime = deadline(
          ask,
          millis,
          () => new RedisTimeoutError({ target, command: "EVALSHA", timeout: millis })
        )
        return Effect.catchIf(breaker.run(inTime, otherwise), isUnavailable, () => otherwise)
      }
    }
  })

/** Counts in this process alone, by GCRA with the limit of the policy, for so many keys at most. */
export interface LocalLimiter {
  readonly consume: (tiers: ReadonlyArray<Tier>, write: boolean) => Decision
  readonly forget: (key: string) => void
}

const MOST_LOCAL = 10_000

export const makeLocal = (now: () => number): LocalLimiter => {
  /** When everything will be available again. Those who came first are the first to be forgotten. */
  const ends = new Map<string, number>()
  return {
    consume: (tiers, write) => {
      const time = now()
      const waits = tiers.map(({ burst, cost, key, limit, rate }) => {
        const one = rate.window / 1000 / limit
        const level = Math.max(0, (ends.get(key) ?? 0) - time)
        // A millionth of one, for what adding fractions leaves over.
        const over = level - (burst - cost + 1e-6) * one
        return { key, one, level, wait: cost > burst ? -1 : over <= 0 ? 0 : Math.ceil(over) }
      })
      const allowed = waits.every(({ wait }) => wait === 0)
      const decisions = waits.map(({ key, level, one, wait }, i) => {
        const tier = tiers[i]!
        const after = allowed && write ? level + tier.cost * one : level
        if (after > level) {
          ends.delete(key)
          ends.set(key, time + after)
          for (const oldest of ends.keys()) {
            if (ends.size <= MOST_LOCAL) break
            ends.delete(oldest)
          }
        }
        return tierDecision(tier, wait, Math.max(0, Math.floor(tier.burst - after / one + 1e-6)), Math.ceil(after))
      })
      return decisionOf(decisions, "local")
    },
    forget: (key) => void ends.delete(key)
  }
}

/** Nobody counts. */
export const allowedAnyway = (tiers: ReadonlyArray<Tier>): Decision =>
  decisionOf(
    tiers.map((tier) => tierDecision(tier, tier.cost > tier.burst ? -1 : 0, tier.burst, 0)),
    "allowed-while-unavailable"
  )
