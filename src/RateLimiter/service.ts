/**
 * How rate limits are asked for.
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Exit from "effect/Exit"
import { identity } from "effect/Function"
import type * as Scope from "effect/Scope"
import { inputError } from "../internal/input.js"
import { withSpan } from "../internal/telemetry.js"
import { RedisClient } from "../RedisClient.js"
import { type RedisError, type RedisInputError, RedisOutcomeUnknownError, RedisTimeoutError } from "../RedisError.js"
import * as BlockCache from "./BlockCache.js"
import { bucketDecision, decisionOf, exceeded, tierDecision } from "./decision.js"
import * as metrics from "./metrics.js"
import type { ConsumeOptions, Decision, Policy, Service, TierDecision } from "./RateLimiter.js"
import type { RateLimitExceeded } from "./RateLimitExceeded.js"
import * as scripts from "./scripts.js"
import { isTier, micros, type Tier, tierOf } from "./tiers.js"
import * as Unavailable from "./Unavailable.js"

type Tiers = readonly [Tier, ...ReadonlyArray<Tier>]

/** `allowed` and the time of the turn, when it may have to wait for it. */
interface Turn {
  readonly decision: Decision
  readonly wait: number
  readonly stamp: string
}

const isSeveral = (policy: Policy | ReadonlyArray<Policy>): policy is ReadonlyArray<Policy> => Array.isArray(policy)

const isTiers = (tiers: ReadonlyArray<Tier | RedisInputError>): tiers is Tiers =>
  tiers.length > 0 && tiers.every(isTier)

const isRefused = (tiers: Tiers | RedisInputError): tiers is RedisInputError => "_tag" in tiers

/** Each key once, because a script looks at all of them before it writes. */
const distinct = (operation: string, tiers: ReadonlyArray<Tier | RedisInputError>): Tiers | RedisInputError => {
  const keys = new Set<string>()
  for (const tier of tiers) {
    if (!isTier(tier)) return tier
    if (keys.has(tier.key)) {
      return inputError(operation, "policy", "given once for each identifier", tier.rate.policy.name)
    }
    keys.add(tier.key)
  }
  return isTiers(tiers) ? tiers : inputError(operation, "policy", "at least one", "none")
}

const tiersOf = (
  operation: string,
  policy: Policy | ReadonlyArray<Policy>,
  id: string,
  options: ConsumeOptions | undefined
): Tiers | RedisInputError => {
  if (isSeveral(policy)) return distinct(operation, policy.map((each) => tierOf(operation, each, id, options)))
  const tier = tierOf(operation, policy, id, options)
  return isTier(tier) ? [tier] : tier
}

/** The numbers of a reply, for each limit. */
const tierAt = (tiers: ReadonlyArray<Tier>, figures: scripts.Figures, i: number): TierDecision =>
  tierDecision(tiers[i]!, Number(figures[4 * i]), Number(figures[4 * i + 1]), Number(figures[4 * i + 2]))

const read = (tiers: ReadonlyArray<Tier>, figures: scripts.Figures): Decision =>
  decisionOf(
    tiers.length === 1 ? [tierAt(tiers, figures, 0)] : tiers.map((_, i) => tierAt(tiers, figures, i)),
    "redis"
  )

const readLevels = (tiers: ReadonlyArray<Tier>, levels: ReadonlyArray<number>): Decision =>
  decisionOf(
    tiers.length === 1
      ? [bucketDecision(tiers[0]!, levels[0]!)]
      : tiers.map((tier, i) => bucketDecision(tier, levels[i]!)),
    "redis"
  )

const attributes = (tiers: ReadonlyArray<Tier>) => () => ({
  "effect_redis.rate_limit.policies": tiers.map(({ rate }) => rate.policy.name),
  "effect_redis.rate_limit.cost": tiers[0]!.cost
})

const outcome = ({ allowed, policy, source }: Decision) => ({
  "effect_redis.rate_limit.policy": policy,
  "effect_redis.rate_limit.allowed": allowed,
  "effect_redis.rate_limit.source": source
})

const count = (tiers: Tiers, decision: Decision): Decision => {
  const { rate } = tiers.length === 1
    ? tiers[0]
    : tiers.find(({ rate }) => rate.policy.name === decision.policy) ?? tiers[0]
  metrics.count(rate.decisions, decision)
  return decision
}

/** What was decided without the server has no turn. */
const atOnce = (decision: Decision): Turn => ({ decision, wait: 0, stamp: "" })

/** Timers of JavaScript end at 2^31 milliseconds. */
const LONGEST_SLEEP = 2 ** 31 - 1

const sleep = (millis: number): Effect.Effect<void> =>
  millis <= LONGEST_SLEEP
    ? Effect.sleep(millis)
    : Effect.zipRight(Effect.sleep(LONGEST_SLEEP), Effect.suspend(() => sleep(millis - LONGEST_SLEEP)))

export const makeService: Effect.Effect<Service, never, RedisClient | Scope.Scope> = Effect.gen(function*() {
  const client = yield* RedisClient
  const clock = yield* Effect.clock
  const now = () => Number(clock.unsafeCurrentTimeNanos()) / 1e6
  const refusals = BlockCache.make()
  const circuit = yield* Unavailable.makeCircuit(client.target)
  const local = Unavailable.makeLocal(now)

  const send = (call: scripts.Call) => client.eval(scripts.scriptOf(call), call)

  const ask = (call: scripts.Call): Effect.Effect<Decision, RedisError> =>
    Effect.map(send(call), (figures) => read(call.tiers, figures))

  const take = (tiers: Tiers, from: (decision: Decision) => Decision): Effect.Effect<Decision, RedisError> => {
    const script = scripts.takeOf(tiers)
    const decide = () => Effect.map(ask({ mode: "consume", tiers }), from)
    return script === undefined ? decide() : Effect.flatMap(
      client.eval(script, tiers),
      (levels) => levels === undefined ? decide() : Exit.succeed(from(readLevels(tiers, levels)))
    )
  }

  /** The strictest of several limits says what happens when the server does not answer, and the shortest when. */
  const orElse = <A>(
    { mode, tiers }: scripts.Call,
    asked: Effect.Effect<A, RedisError>,
    from: (decision: Decision) => A
  ): Effect.Effect<A, RedisError> => {
    let fails = false
    let counts = false
    let deadline = Infinity
    for (const { rate } of tiers) {
      if (rate.onUnavailable === "fail") fails = true
      if (rate.onUnavailable === "local") counts = true
      if (rate.deadline !== undefined && rate.deadline < deadline) deadline = rate.deadline
    }
    if (!fails) {
      return circuit.protect(
        asked,
        deadline,
        () => from(counts ? local.consume(tiers, mode === "consume") : Unavailable.allowedAnyway(tiers))
      )
    }
    if (deadline === Infinity) return asked
    const { target } = client
    const command = scripts.scriptOf({ mode, tiers }).name
    return circuit.deadline(asked, deadline, () =>
      mode === "check"
        ? new RedisTimeoutError({ target, command, timeout: deadline })
        : new RedisOutcomeUnknownError({ target, command, reason: "timeout" }))
  }

  const consumeNow = (tiers: Tiers): Effect.Effect<Decision, RedisError> => {
    const counted = (decision: Decision) => count(tiers, decision)
    const decided = orElse({ mode: "consume", tiers }, take(tiers, counted), counted)
    if (!tiers.some(({ rate }) => rate.remembered > 0)) return decided
    return Effect.suspend(() => {
      const asked = now()
      const known = refusals.get(tiers, asked)
      if (known !== undefined) return Effect.succeed(count(tiers, known))
      const state = refusals.state()
      return Effect.map(decided, (decision) => {
        if (!decision.allowed && decision.source === "redis") refusals.add(tiers, decision, asked, state)
        return decision
      })
    })
  }

  /** Who waits has its turn already: nobody who comes later gets it. */
  const takeTurn = (tier: Tier, patience: number): Effect.Effect<Decision, RedisError> => {
    const call = { mode: "consume", tiers: [tier], patience } as const
    const reserved = Effect.map(send(call), (figures): Turn => {
      const stamp = figures[4]
      return stamp === undefined
        ? atOnce(read([tier], figures))
        : {
          decision: decisionOf([tierDecision(tier, 0, Number(figures[1]), Number(figures[2]))], "redis"),
          wait: Number(figures[0]),
          stamp: String(stamp)
        }
    })
    return Effect.uninterruptibleMask((restore) =>
      Effect.flatMap(orElse(call, reserved, atOnce), ({ decision, stamp, wait }) => {
        count([tier], decision)
        return wait === 0 ? Effect.succeed(decision) : Effect.as(
          Effect.onInterrupt(
            restore(sleep(wait)),
            () => Effect.ignore(send({ mode: "give_back", tiers: [tier], stamp }))
          ),
          decision
        )
      })
    )
  }

  /** Several limits have no common turn, and neither has a process that counts alone: it asks again when there may be some. */
  const comeBack = (tiers: Tiers, decide: Effect.Effect<Decision, RedisError>, waited: number): typeof decide =>
    Effect.flatMap(decide, (decision) => {
      if (decision.allowed || !decision.satisfiable) return Effect.succeed(decision)
      let patience = Infinity
      decision.tiers.forEach(({ allowed }, i) => {
        if (!allowed) patience = Math.min(patience, (tiers[i]!.rate.patience ?? 0) / 1000)
      })
      const wait = Duration.toMillis(decision.retryAfter)
      return waited + wait > patience
        ? Effect.succeed(decision)
        : Effect.zipRight(sleep(wait), comeBack(tiers, consumeNow(tiers), waited + wait))
    })

  const permitted = (tiers: Tiers): Effect.Effect<Decision, RedisError> => {
    if (tiers.every(({ rate }) => rate.patience === undefined)) return consumeNow(tiers)
    const [tier] = tiers
    if (tiers.length > 1 || tier.rate.patience === undefined) return comeBack(tiers, consumeNow(tiers), 0)
    return Effect.flatMap(
      takeTurn(tier, tier.rate.patience),
      (decision) =>
        decision.allowed || decision.source === "redis"
          ? Effect.succeed(decision)
          : comeBack(tiers, Effect.succeed(decision), 0)
    )
  }

  const limited = <A, E, R>(
    effect: Effect.Effect<A, E, R>,
    policy: Policy | ReadonlyArray<Policy>,
    id: string,
    options: ConsumeOptions | undefined
  ): Effect.Effect<A, E | RateLimitExceeded | RedisError, R> => {
    const tiers = tiersOf("RateLimiter.rateLimited", policy, id, options)
    if (isRefused(tiers)) return Effect.fail(tiers)
    return Effect.flatMap(
      withSpan(permitted(tiers), "rateLimiter.rateLimited", attributes(tiers), outcome),
      (decision): Effect.Effect<A, E | RateLimitExceeded, R> =>
        decision.allowed ? effect : Effect.fail(exceeded(id, decision))
    )
  }

  /** The identifiers of a Cluster are on many nodes, and no script reaches two of them. */
  const bySlot = (tiers: Tiers): ReadonlyArray<Tiers> => {
    if (client.mode !== "cluster") return [tiers]
    const groups = new Map<number, [Tier, ...Array<Tier>]>()
    for (const tier of tiers) {
      const slot = client.slot(tier.key)
      const group = groups.get(slot)
      if (group === undefined) groups.set(slot, [tier])
      else group.push(tier)
    }
    return Array.from(groups.values())
  }

  /** What comes out of several groups, in the order in which their limits were given. */
  const merge = (tiers: Tiers, groups: ReadonlyArray<Tiers>, decisions: ReadonlyArray<Decision>): Decision => {
    const byTier = new Map<Tier, TierDecision>()
    groups.forEach((group, i) => group.forEach((tier, j) => byTier.set(tier, decisions[i]!.tiers[j]!)))
    const notFromRedis = decisions.find(({ source }) => source !== "redis")
    return decisionOf(tiers.map((tier) => byTier.get(tier)!), notFromRedis?.source ?? "redis")
  }

  const giveBack = (tiers: Tiers): Effect.Effect<void> => Effect.ignore(send({ mode: "give_back", tiers }))

  const consumeGroups = (tiers: Tiers, groups: ReadonlyArray<Tiers>): Effect.Effect<Decision, RedisError> =>
    Effect.uninterruptible(Effect.gen(function*() {
      const taken: Array<Tiers> = []
      const decisions: Array<Decision> = []
      const undo = Effect.suspend(() => Effect.forEach(taken, giveBack, { discard: true, concurrency: "unbounded" }))
      for (const group of groups) {
        const call = { mode: "consume", tiers: group } as const
        const decision = yield* Effect.tapError(orElse(call, take(group, identity), identity), () => undo)
        if (!decision.allowed) {
          yield* undo
          const others = yield* Effect.forEach(groups, (other) => {
            const call = { mode: "check", tiers: other } as const
            return other === group
              ? Effect.succeed(decision)
              : orElse(call, ask(call), identity)
          }, { concurrency: "unbounded" })
          return merge(tiers, groups, others)
        }
        if (decision.source === "redis") taken.push(group)
        decisions.push(decision)
      }
      return merge(tiers, groups, decisions)
    }))

  /** What follows once the input is known to be good. */
  const withTiers = <A>(
    operation: "check" | "refund" | "penalty" | "block" | "unblock" | "reset" | "count",
    policy: Policy | ReadonlyArray<Policy>,
    id: string,
    options: ConsumeOptions | undefined,
    run: (tiers: Tiers) => Effect.Effect<A, RedisError>
  ): Effect.Effect<A, RedisError> => {
    const tiers = tiersOf(`RateLimiter.${operation}`, policy, id, options)
    return isRefused(tiers)
      ? Effect.fail(tiers)
      : withSpan(run(tiers), `rateLimiter.${operation}`, attributes(tiers))
  }

  /** What is known here about an identifier is out of date. */
  const changing = <A>(tiers: Tiers, effect: Effect.Effect<A, RedisError>): Effect.Effect<A, RedisError> =>
    Effect.ensuring(
      effect,
      Effect.sync(() => {
        for (const { id, key } of tiers) {
          refusals.forget(id)
          local.forget(key)
        }
      })
    )

  return {
    consume: (policy, id, options) => {
      const tiers = tiersOf("RateLimiter.consume", policy, id, options)
      return isRefused(tiers)
        ? Effect.fail(tiers)
        : withSpan(consumeNow(tiers), "rateLimiter.consume", attributes(tiers), outcome)
    },
    consumeAll: (requests) => {
      const operation = "RateLimiter.consumeAll"
      const tiers = distinct(
        operation,
        requests.map((request) => tierOf(operation, request.policy, request.id, request))
      )
      if (isRefused(tiers)) return Effect.fail(tiers)
      const groups = bySlot(tiers)
      const counted = (decision: Decision) => count(tiers, decision)
      return withSpan(
        groups.length === 1
          ? orElse({ mode: "consume", tiers }, take(tiers, counted), counted)
          : Effect.map(consumeGroups(tiers, groups), counted),
        "rateLimiter.consumeAll",
        attributes(tiers),
        outcome
      )
    },
    check: (policy, id, options) =>
      withTiers("check", policy, id, options, (tiers) => {
        const call = { mode: "check", tiers } as const
        return orElse(call, ask(call), identity)
      }),
    count: (policy, id, options) =>
      withTiers(
        "count",
        policy,
        id,
        { limit: options?.limit },
        (tiers) => Effect.map(send({ mode: "check", tiers }), (figures) => Number(figures[3]))
      ),
    refund: (policy, id, options) =>
      withTiers("refund", policy, id, options, (tiers) => changing(tiers, ask({ mode: "give_back", tiers }))),
    penalty: (policy, id, options) =>
      withTiers("penalty", policy, id, options, (tiers) => ask({ mode: "fine", tiers })),
    block: (policy, id, duration) =>
      withTiers("block", policy, id, undefined, (tiers) => {
        const micro = micros("RateLimiter.block", "duration", duration)
        return Either.isLeft(micro)
          ? Effect.fail(micro.left)
          : Effect.asVoid(client.eval(scripts.block, tiers, micro.right))
      }),
    unblock: (policy, id) =>
      withTiers(
        "unblock",
        policy,
        id,
        undefined,
        (tiers) => changing(tiers, Effect.map(client.eval(scripts.block, tiers, 0), (n) => n > 0))
      ),
    reset: (policy, id) =>
      withTiers(
        "reset",
        policy,
        id,
        undefined,
        (tiers) => changing(tiers, Effect.asVoid(client.del(...scripts.keysOf(tiers))))
      ),
    rateLimited: (effect, policy, id, options) =>
      Effect.isEffect(id)
        ? Effect.flatMap(id, (id) => limited(effect, policy, id, options))
        : limited(effect, policy, id, options)
  }
})
