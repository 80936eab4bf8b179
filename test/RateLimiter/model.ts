/**
 * What each way of counting says, by the plainest means: numbers without rounding, and a look at everything each time.
 * Times are whole milliseconds.
 */
import { FastCheck } from "effect"
import type { Algorithm } from "../../src/RateLimiter/index.js"

export interface Settings {
  readonly algorithm: Algorithm
  readonly limit: number
  readonly burst?: number | undefined
  readonly window: number
}

export interface Answer {
  readonly allowed: boolean
  readonly remaining: number
  /** -1 when it is in vain. */
  readonly retryAfter: number
  readonly resetAfter: number
  readonly used: number
  /** Whether it hangs on less than a tenth of a millisecond, so that both answers are right. */
  readonly close: boolean
}

export interface Model {
  readonly ask: (now: number, cost: number, limit: number) => Answer
  readonly use: (now: number, cost: number, limit: number) => void
  readonly giveBack: (now: number, cost: number, limit: number) => void
  readonly fine: (now: number, cost: number, limit: number) => void
}

const positive = (n: number) => Math.max(0, n)

/** A bucket that leaks the limit in a window. The level is multiplied by the window, and so a whole number. */
const bucket = ({ burst, window }: Settings): Model => {
  let level = 0
  let at = 0
  let rate = 1
  const most = (limit: number) => (burst ?? limit) * window
  const levelAt = (now: number) => positive(level - (now - at) * rate)
  const put = (now: number, to: number, limit: number) => {
    level = to
    at = now
    rate = limit
  }
  return {
    ask: (now, cost, limit) => {
      const level = levelAt(now)
      const over = level + cost * window - most(limit)
      const edge = rate / 10
      return {
        allowed: over <= 0,
        remaining: positive(Math.floor((most(limit) - level) / window)),
        retryAfter: cost * window > most(limit) ? -1 : positive(Math.ceil(over / rate)),
        resetAfter: Math.ceil(level / rate),
        used: Math.ceil(level / window),
        close: Math.abs(over) <= edge || (level + edge) % window <= 2 * edge
      }
    },
    use: (now, cost, limit) => put(now, levelAt(now) + cost * window, limit),
    giveBack: (now, cost, limit) => put(now, positive(levelAt(now) - cost * window), limit),
    fine: (now, cost, limit) =>
      put(now, Math.max(levelAt(now), Math.min(levelAt(now) + cost * window, most(limit))), limit)
  }
}

/** Uses, each of which counts until a time. `ends` is when one that is made now stops counting. */
const uses = (ends: (now: number) => number): Model => {
  let all: Array<number> = []
  const live = (now: number) => all = all.filter((end) => end > now).sort((a, b) => a - b)
  return {
    ask: (now, cost, limit) => {
      const ends = live(now)
      const over = ends.length + cost - limit
      return {
        allowed: over <= 0,
        remaining: positive(limit - ends.length),
        retryAfter: cost > limit ? -1 : over <= 0 ? 0 : Math.ceil(ends[over - 1]! - now),
        resetAfter: ends.length === 0 ? 0 : Math.ceil(ends[ends.length - 1]! - now),
        used: ends.length,
        close: false
      }
    },
    use: (now, cost) => void all.push(...Array.from({ length: cost }, () => ends(now))),
    giveBack: (now, cost) => void live(now).splice(0, cost),
    fine: (now, cost, limit) => {
      const n = positive(Math.min(cost, limit - live(now).length))
      all.push(...Array.from({ length: n }, () => ends(now)))
    }
  }
}

export const modelOf = (settings: Settings): Model => {
  const { algorithm, limit, window } = settings
  switch (algorithm) {
    case "gcra":
    case "token-bucket":
      return bucket(settings)
    case "sliding-window":
      return limit <= 1000
        ? uses((now) => now + window)
        : uses((now) => (Math.floor(now / (window / 10)) + 11) * (window / 10))
    case "fixed-window":
      return uses((now) => (Math.floor(now / window) + 1) * window)
  }
}

export type Step =
  | { readonly _tag: "consume" | "check" | "refund" | "penalty"; readonly cost: number; readonly limit: number }
  | { readonly _tag: "pass"; readonly millis: number }
  | { readonly _tag: "retry"; readonly cost: number }

/** How many of the cost are one here, so that large limits are reached as well. */
export const steps = ({ limit, window }: Settings): FastCheck.Arbitrary<ReadonlyArray<Step>> => {
  const unit = Math.max(1, Math.floor(limit / 10))
  const cost = FastCheck.oneof(
    { weight: 4, arbitrary: FastCheck.integer({ min: 1, max: 4 }).map((n) => n * unit) },
    { weight: 1, arbitrary: FastCheck.integer({ min: 1, max: 2 * limit }) }
  )
  const inForce = FastCheck.oneof(
    { weight: 5, arbitrary: FastCheck.constant(limit) },
    { weight: 1, arbitrary: FastCheck.integer({ min: 1, max: 2 * limit }) }
  )
  const using = (tag: "consume" | "check" | "refund" | "penalty") =>
    FastCheck.record({ _tag: FastCheck.constant(tag), cost, limit: inForce })
  return FastCheck.array(
    FastCheck.oneof(
      { weight: 8, arbitrary: using("consume") },
      { weight: 1, arbitrary: using("check") },
      { weight: 1, arbitrary: using("refund") },
      { weight: 1, arbitrary: using("penalty") },
      {
        weight: 4,
        arbitrary: FastCheck.oneof(
          FastCheck.integer({ min: 1, max: Math.ceil(window / 10) }),
          FastCheck.integer({ min: 1, max: 2 * window }),
          FastCheck.constant(window),
          FastCheck.constant(window - 1)
        ).map((millis): Step => ({ _tag: "pass", millis: Math.max(1, millis) }))
      },
      { weight: 2, arbitrary: FastCheck.record({ _tag: FastCheck.constant("retry" as const), cost }) }
    ),
    { minLength: 5, maxLength: 40 }
  )
}
