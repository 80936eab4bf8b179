/**
 * Policies as they are used: checked, with defaults and numbers in place.
 */
import * as Duration from "effect/Duration"
import * as Either from "effect/Either"
import { createHash } from "node:crypto"
import { checkKey, inputError, positiveMillis } from "../internal/input.js"
import type { RedisInputError } from "../RedisError.js"
import * as metrics from "./metrics.js"
import type { Algorithm, ConsumeOptions, Policy } from "./RateLimiter.js"

/** How it is counted, as scripts and keys call it. `l` and `s` are the sliding windows: a log, and tenths of a window. */
export type Kind = "g" | "t" | "l" | "s" | "f"

/** A policy. */
export interface Rate {
  readonly policy: Policy
  readonly kind: Kind
  readonly limit: number
  readonly burst: number | undefined
  readonly window: number
  readonly windowDuration: Duration.Duration
  /** For a bucket, as scripts compute them: how many ticks a use takes, and how many there are in a microsecond. */
  readonly one: number
  readonly ticks: number
  /** How long it waits, in microseconds; undefined when it does not. */
  readonly patience: number | undefined
  readonly onUnavailable: "fail" | "allow" | "local"
  /** In milliseconds. */
  readonly deadline: number | undefined
  /** How many refused identifiers are remembered. */
  readonly remembered: number
  /** What its keys begin with. */
  readonly prefix: string
  readonly decisions: metrics.Decisions
  /** What is asked for when nothing else is said. */
  readonly usual: Amounts
}

/** What a use takes, and of what. */
export interface Amounts {
  readonly cost: number
  /** In force. */
  readonly limit: number
  /** The most there ever is at once. */
  readonly burst: number
  /** For a bucket with the limit of the policy, in ticks: how much is used, and the highest level that leaves room for it. */
  readonly use: number
  readonly most: number
  /** The same as scripts get them. */
  readonly useText: string
  readonly mostText: string
}

/** A policy for an identifier. */
export interface Tier extends Amounts {
  readonly rate: Rate
  readonly id: string
  readonly key: string
}

export const isTier = (tier: Tier | RedisInputError): tier is Tier => "rate" in tier

const MOST = 1_000_000_000

/** Up to here a sliding window knows the time of each use. */
const EXACT = 1000

/** With a limit that is raised while the program runs. */
const MOST_EXACT = 10_000

/** In microseconds; the clock of the server and this together are still whole numbers. */
const HUNDRED_YEARS = 100 * 365 * 86_400_000_000

const isCount = (n: unknown): n is number => typeof n === "number" && Number.isSafeInteger(n) && n > 0 && n <= MOST

const COUNT = `a whole number from 1 to ${MOST}`

/** A duration in microseconds. */
export const micros = (
  operation: string,
  field: string,
  input: Duration.DurationInput
): Either.Either<number, RedisInputError> =>
  Either.flatMap(positiveMillis(operation, field, input), (millis) =>
    millis * 1000 <= HUNDRED_YEARS
      ? Either.right(millis * 1000)
      : Either.left(inputError(operation, field, "a duration of at most 100 years", input)))

const kinds: Readonly<Record<Algorithm, Kind>> = {
  "gcra": "g",
  "token-bucket": "t",
  "sliding-window": "s",
  "fixed-window": "f"
}

const isOneOf = (value: unknown, all: ReadonlyArray<unknown>): boolean => value === undefined || all.includes(value)

const reserved = /[%{}]/g

/** Only the identifier stands in braces. It is short, because there are many keys; the window is in seconds. */
const prefixOf = (kind: Kind, { burst, limit, name }: Policy, window: number): string =>
  `rl:${kind}${limit}/${window / 1_000_000}${burst === undefined ? "" : `/${burst}`}:${
    name.replace(reserved, encodeURIComponent)
  }:`

const amountsOf = (declared: number | undefined, one: number, cost: number, limit: number): Amounts => {
  const burst = declared ?? limit
  const use = cost * one
  const most = (burst - cost) * one
  return { cost, limit, burst, use, most, useText: String(use), mostText: String(most) }
}

const checked = (policy: Policy): Either.Either<Rate, RedisInputError> => {
  const operation = "RateLimiter.policy"
  const refuse = (field: string, expected: string, actual: unknown) =>
    Either.left(inputError(operation, field, expected, actual))
  const { algorithm = "gcra", blockCache, burst, limit, name, onExceeded, onUnavailable = "fail" } = policy
  const bad = checkKey(operation, name, "name")
  if (bad !== undefined) return Either.left(bad)
  if (!isCount(limit)) return refuse("limit", COUNT, limit)
  const micro = micros(operation, "window", policy.window)
  if (Either.isLeft(micro)) return Either.left(micro.left)
  const window = micro.right
  if (limit > window) return refuse("limit", "at most one for each microsecond of the window", limit)
  if (!Object.hasOwn(kinds, algorithm)) return refuse("algorithm", Object.keys(kinds).join(", "), algorithm)
  if (burst !== undefined) {
    if (algorithm !== "gcra" && algorithm !== "token-bucket") {
      return refuse("burst", `left out, because a ${algorithm} has none`, burst)
    }
    if (!isCount(burst)) return refuse("burst", COUNT, burst)
    if (burst / limit * window > HUNDRED_YEARS) return refuse("burst", "one that is there again in 100 years", burst)
  }
  if (!isOneOf(onExceeded, ["fail", "delay"])) return refuse("onExceeded", "fail or delay", onExceeded)
  if (!isOneOf(onUnavailable, ["fail", "allow", "local"])) {
    return refuse("onUnavailable", "fail, allow or local", onUnavailable)
  }
  let patience: number | undefined
  if (onExceeded === "delay") patience = window
  if (policy.maxWait !== undefined) {
    const maxWait = micros(operation, "maxWait", policy.maxWait)
    if (Either.isLeft(maxWait)) return Either.left(maxWait.left)
    if (onExceeded !== "delay") return refuse("maxWait", `left out, or onExceeded "delay"`, policy.maxWait)
    patience = maxWait.right
  }
  let deadline: number | undefined = onUnavailable === "fail" ? undefined : 100
  if (policy.unavailableTimeout !== undefined) {
    const timeout = positiveMillis(operation, "unavailableTimeout", policy.unavailableTimeout)
    if (Either.isLeft(timeout)) return Either.left(timeout.left)
    deadline = timeout.right
  }
  const remembered = typeof blockCache === "object" ? blockCache.capacity : blockCache === true ? 10_000 : 0
  if (typeof blockCache === "object" && !isCount(remembered)) return refuse("blockCache.capacity", COUNT, remembered)
  const kind = algorithm === "sliding-window" && limit <= EXACT ? "l" : kinds[algorithm]
  const one = Math.max(1, Math.floor(window / limit + 0.5))
  return Either.right({
    usual: amountsOf(burst, one, 1, limit),
    policy,
    kind,
    limit,
    burst,
    window,
    windowDuration: Duration.millis(window / 1000),
    one,
    ticks: one * limit / window,
    patience,
    onUnavailable,
    deadline,
    remembered,
    prefix: prefixOf(kind, policy, window),
    decisions: metrics.decisionsOf(name)
  })
}

// A policy is a constant, and the same whoever uses it.
const known = new WeakMap<Policy, Either.Either<Rate, RedisInputError>>()

export const rateOf = (policy: Policy): Either.Either<Rate, RedisInputError> => {
  let rate = known.get(policy)
  if (rate === undefined) {
    rate = checked(policy)
    known.set(policy, rate)
  }
  return rate
}

/** An identifier can be as long as a token. Of a long one the hash is enough, and keys stay small. */
const LONG = 128

/** `}` would end the hash tag early, and `%` is what it is written with. */
export const keyOf = ({ prefix }: Rate, id: string): string =>
  id.length > LONG
    ? `${prefix}#{${createHash("sha256").update(id).digest("base64url")}}`
    : `${prefix}{${/[%}]/.test(id) ? id.replace(/[%}]/g, encodeURIComponent) : id}}`

const tierWith = (
  rate: Rate,
  id: string,
  { burst, cost, limit, most, mostText, use, useText }: Amounts
): Tier => ({ rate, id, key: keyOf(rate, id), cost, limit, burst, use, most, useText, mostText })

export const tierOf = (
  operation: string,
  policy: Policy,
  id: string,
  options: ConsumeOptions | undefined
): Tier | RedisInputError => {
  const resolved = rateOf(policy)
  if (Either.isLeft(resolved)) return resolved.left
  const rate = resolved.right
  const bad = checkKey(operation, id, "id")
  if (bad !== undefined) return bad
  if (options === undefined) return tierWith(rate, id, rate.usual)
  const { cost = 1, limit = rate.limit } = options
  if (!isCount(cost)) return inputError(operation, "cost", COUNT, cost)
  if (limit !== rate.limit) {
    if (!isCount(limit)) return inputError(operation, "limit", COUNT, limit)
    if (limit > rate.window) {
      return inputError(operation, "limit", "at most one for each microsecond of the window", limit)
    }
    if (rate.kind === "l" && limit > MOST_EXACT) {
      return inputError(
        operation,
        "limit",
        `at most ${MOST_EXACT}, for a policy whose limit is at most ${EXACT}`,
        limit
      )
    }
    if (rate.burst !== undefined && rate.burst / limit * rate.window > HUNDRED_YEARS) {
      return inputError(operation, "limit", "one by which the burst is there again in 100 years", limit)
    }
  }
  return tierWith(rate, id, amountsOf(rate.burst, rate.one, cost, limit))
}
