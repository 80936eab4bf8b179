/**
 * Rate limits over Redis: how much each identifier may do in a time, for all processes together, decided by one script
 * on the clock of the server.
 *
 * @since 0.1.0
 */
import * as Context from "effect/Context"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import { dual } from "effect/Function"
import * as Layer from "effect/Layer"
import type * as Scope from "effect/Scope"
import type { RedisClient } from "../RedisClient.js"
import type { RedisError } from "../RedisError.js"
import { layer as testServer, type RedisTestServer } from "../RedisTestServer.js"
import type { RateLimitExceeded } from "./RateLimitExceeded.js"
import { makeService } from "./service.js"

// ---------------------------------------------------------------------------------------------------------------------
// Models
// ---------------------------------------------------------------------------------------------------------------------

/**
 * How a limit is counted. What each of them promises for any stretch of time as long as the window:
 *
 * - `"gcra"`: a steady rate of `limit` in a `window`, and `burst` of it at once (the limit, when it is left out). At most
 *   burst + limit. One small string; the cheapest
 * - `"token-bucket"`: the same arithmetic by its better known name: a bucket of `burst` tokens that is filled steadily
 *   with `limit` tokens in a `window`. It has keys of its own
 * - `"sliding-window"`: never more than the limit in any stretch of time as long as the window. Exact for limits of up to
 *   1000; above, a use counts for up to a tenth of the window longer, and never shorter
 * - `"fixed-window"`: the limit in each window of the server's clock; at most twice the limit around a boundary
 *
 * @since 0.1.0
 * @category models
 */
export type Algorithm = "gcra" | "sliding-window" | "fixed-window" | "token-bucket"

/**
 * A rate limit: a plain value, made once by `policy`. It is checked when it is used.
 *
 * @since 0.1.0
 * @category models
 */
export interface Policy {
  /** Names it in keys, results, metrics and headers. */
  readonly name: string
  /** How much of it in a window. */
  readonly limit: number
  readonly window: Duration.DurationInput
  /** `"gcra"` by default. */
  readonly algorithm?: Algorithm | undefined
  /** For `"gcra"` and `"token-bucket"`: how much of it at once; the limit by default. */
  readonly burst?: number | undefined
  /**
   * What `rateLimited` does when there is nothing left: fail (by default), or wait for its turn. A turn is reserved, so
   * those who wait are served in the order of their arrival.
   */
  readonly onExceeded?: "fail" | "delay" | undefined
  /** The longest that `"delay"` waits; the window by default. Who would have to wait longer fails at once. */
  readonly maxWait?: Duration.DurationInput | undefined
  /**
   * What is decided when Redis does not answer: fail with its error (by default), allow, or count in this process alone.
   */
  readonly onUnavailable?: "fail" | "allow" | "local" | undefined
  /**
   * How long Redis may take; then `onUnavailable` decides. 100 milliseconds by default, and with `"fail"` as long as any
   * other command may take.
   */
  readonly unavailableTimeout?: Duration.DurationInput | undefined
  /**
   * Whether this process remembers who was refused, and refuses the same again without asking until the time it was told;
   * `false` by default. `true` remembers up to 10,000 identifiers.
   */
  readonly blockCache?: boolean | { readonly capacity: number } | undefined
}

/**
 * @since 0.1.0
 * @category models
 */
export interface ConsumeOptions {
  /** How much is used; 1 by default. */
  readonly cost?: number | undefined
  /**
   * Counts instead of the policy's limit, for limits that differ by customer or change while the program runs. What was
   * used before stays used.
   */
  readonly limit?: number | undefined
}

/**
 * One of several limits of `consumeAll`.
 *
 * @since 0.1.0
 * @category models
 */
export interface Request extends ConsumeOptions {
  readonly policy: Policy
  readonly id: string
}

/**
 * What one limit says.
 *
 * @since 0.1.0
 * @category models
 */
export interface TierDecision {
  readonly allowed: boolean
  /** The name of the policy. */
  readonly policy: string
  /** The limit in force. */
  readonly limit: number
  readonly window: Duration.Duration
  /** How often something of cost 1 would be allowed now; what was asked for is taken off when it is allowed. */
  readonly remaining: number
  /**
   * When the same request will be allowed, if nobody else uses anything meanwhile: zero when it is allowed, and infinite
   * when it never will be. In whole milliseconds, rounded up.
   */
  readonly retryAfter: Duration.Duration
  /** When everything will be available again. In whole milliseconds, rounded up. */
  readonly resetAfter: Duration.Duration
  /** `false` when the cost is more than can ever be available at once. */
  readonly satisfiable: boolean
}

/**
 * What was decided. With several limits, the fields are those of the one that matters: when it was refused, the one
 * that refuses for longest; when it was allowed, the one of which least remains. A refusal uses nothing of any of them.
 *
 * @since 0.1.0
 * @category models
 */
export interface Decision extends TierDecision {
  /** What each limit says, in the order in which they were given. */
  readonly tiers: ReadonlyArray<TierDecision>
  /**
   * Where the answer comes from: the server; this process, because the server did not answer (`onUnavailable: "local"`);
   * nowhere, because the server did not answer (`"allow"`); or this process, which knew that it would be refused
   * (`blockCache`).
   */
  readonly source: "redis" | "local" | "allowed-while-unavailable" | "block-cache"
}

/**
 * @since 0.1.0
 * @category models
 */
export interface Service {
  /**
   * Uses some of a limit, or of several limits of one identifier: of all of them or of none, by one script. A refusal is
   * a value, not a failure, and writes nothing.
   */
  readonly consume: (
    policy: Policy | ReadonlyArray<Policy>,
    id: string,
    options?: ConsumeOptions
  ) => Effect.Effect<Decision, RedisError>
  /**
   * Uses some of several limits of different identifiers: of all of them or of none. It is one script, except on a
   * Cluster where the identifiers are on several slots: there they are used one after the other, and given back when a
   * later one refuses.
   */
  readonly consumeAll: (requests: ReadonlyArray<Request>) => Effect.Effect<Decision, RedisError>
  /** What `consume` would answer. It uses and writes nothing, so `remaining` is what there is now. */
  readonly check: (
    policy: Policy | ReadonlyArray<Policy>,
    id: string,
    options?: ConsumeOptions
  ) => Effect.Effect<Decision, RedisError>
  /** How much is used now. */
  readonly count: (
    policy: Policy,
    id: string,
    options?: Pick<ConsumeOptions, "limit">
  ) => Effect.Effect<number, RedisError>
  /** Gives back what was used, never more than was used. Answers as `check` does afterwards. */
  readonly refund: (
    policy: Policy | ReadonlyArray<Policy>,
    id: string,
    options?: ConsumeOptions
  ) => Effect.Effect<Decision, RedisError>
  /**
   * Uses so much whether or not there is so much left, until nothing is left. Answers as `check` does afterwards.
   */
  readonly penalty: (
    policy: Policy | ReadonlyArray<Policy>,
    id: string,
    options?: ConsumeOptions
  ) => Effect.Effect<Decision, RedisError>
  /** Refuses everything of an identifier for so long from now, whatever is left of its limit. */
  readonly block: (
    policy: Policy | ReadonlyArray<Policy>,
    id: string,
    duration: Duration.DurationInput
  ) => Effect.Effect<void, RedisError>
  /** Ends a block, and says whether there was one. What was used stays used. */
  readonly unblock: (policy: Policy | ReadonlyArray<Policy>, id: string) => Effect.Effect<boolean, RedisError>
  /** Forgets what an identifier has used, and that it is blocked. */
  readonly reset: (policy: Policy | ReadonlyArray<Policy>, id: string) => Effect.Effect<void, RedisError>
  /** Runs an effect if the limit allows it. See `rateLimited`. */
  readonly rateLimited: <A, E, R, E2 = never, R2 = never>(
    effect: Effect.Effect<A, E, R>,
    policy: Policy | ReadonlyArray<Policy>,
    id: string | Effect.Effect<string, E2, R2>,
    options?: ConsumeOptions
  ) => Effect.Effect<A, E | E2 | RateLimitExceeded | RedisError, R | R2>
}

/**
 * @since 0.1.0
 * @category tags
 */
export class RateLimiter extends Context.Tag("effect-redis-kit/RateLimiter")<RateLimiter, Service>() {}

// ---------------------------------------------------------------------------------------------------------------------
// Errors
// ---------------------------------------------------------------------------------------------------------------------

export { RateLimitExceeded } from "./RateLimitExceeded.js"

// ---------------------------------------------------------------------------------------------------------------------
// Constructors
// ---------------------------------------------------------------------------------------------------------------------

/**
 * Describes a rate limit.
 *
 * @example
 * ```ts
 * import { Effect } from "effect"
 * import { RateLimiter } from "effect-redis-kit"
 *
 * const Sms = RateLimiter.policy({ name: "sms", limit: 5, window: "1 minute" })
 *
 * declare const sendSms: Effect.Effect<void>
 *
 * const program = sendSms.pipe(RateLimiter.rateLimited(Sms, "user-42"))
 * ```
 *
 * @since 0.1.0
 * @category constructors
 */
export const policy = (options: Policy): Policy => options

/**
 * Rate limits over the client of the environment. What is remembered in this process belongs to the scope.
 *
 * @since 0.1.0
 * @category constructors
 */
export const make: Effect.Effect<Service, never, RedisClient | Scope.Scope> = makeService

// ---------------------------------------------------------------------------------------------------------------------
// Layers
// ---------------------------------------------------------------------------------------------------------------------

/**
 * @since 0.1.0
 * @category layers
 */
export const layer: Layer.Layer<RateLimiter, never, RedisClient> = Layer.scoped(RateLimiter, make)

/**
 * Rate limits on a server in memory, with the server and its client beside it.
 *
 * @since 0.1.0
 * @category layers
 */
export const layerTest: Layer.Layer<RateLimiter | RedisClient | RedisTestServer> = Layer.provideMerge(layer, testServer)

// ---------------------------------------------------------------------------------------------------------------------
// Combinators
// ---------------------------------------------------------------------------------------------------------------------

/**
 * Runs an effect if the limit of an identifier allows it, and fails with `RateLimitExceeded` if not. Several limits must
 * all allow it.
 *
 * With `onExceeded: "delay"` it waits for its turn, up to `maxWait`. Interrupting it while it waits gives the turn back.
 *
 * @example
 * ```ts
 * import { Context, Effect } from "effect"
 * import { RateLimiter } from "effect-redis-kit"
 *
 * const PerSecond = RateLimiter.policy({ name: "per-second", limit: 10, window: "1 second" })
 * const PerDay = RateLimiter.policy({ name: "per-day", limit: 1000, window: "1 day", algorithm: "fixed-window" })
 *
 * class CurrentUser extends Context.Tag("CurrentUser")<CurrentUser, { readonly id: string }>() {}
 *
 * declare const search: Effect.Effect<ReadonlyArray<string>>
 *
 * const program = search.pipe(
 *   RateLimiter.rateLimited([PerSecond, PerDay], Effect.map(CurrentUser, ({ id }) => id), { cost: 2 })
 * )
 * ```
 *
 * @since 0.1.0
 * @category combinators
 */
export const rateLimited: {
  <E2 = never, R2 = never>(
    policy: Policy | ReadonlyArray<Policy>,
    id: string | Effect.Effect<string, E2, R2>,
    options?: ConsumeOptions
  ): <A, E, R>(
    effect: Effect.Effect<A, E, R>
  ) => Effect.Effect<A, E | E2 | RateLimitExceeded | RedisError, R | R2 | RateLimiter>
  <A, E, R, E2 = never, R2 = never>(
    effect: Effect.Effect<A, E, R>,
    policy: Policy | ReadonlyArray<Policy>,
    id: string | Effect.Effect<string, E2, R2>,
    options?: ConsumeOptions
  ): Effect.Effect<A, E | E2 | RateLimitExceeded | RedisError, R | R2 | RateLimiter>
} = dual(
  (args) => Effect.isEffect(args[0]),
  <A, E, R, E2, R2>(
    effect: Effect.Effect<A, E, R>,
    policy: Policy | ReadonlyArray<Policy>,
    id: string | Effect.Effect<string, E2, R2>,
    options?: ConsumeOptions
  ) => Effect.flatMap(RateLimiter, (service) => service.rateLimited(effect, policy, id, options))
)

/**
 * Uses some of a limit, or of several limits of one identifier: of all of them or of none. A refusal is a value.
 *
 * @example
 * ```ts
 * import { Duration, Effect } from "effect"
 * import { RateLimiter } from "effect-redis-kit"
 *
 * const Uploads = RateLimiter.policy({ name: "uploads", limit: 100, window: "1 hour" })
 *
 * const program = Effect.gen(function*() {
 *   const decision = yield* RateLimiter.consume(Uploads, "user-42", { cost: 3 })
 *   if (!decision.allowed) yield* Effect.log(`try again in ${Duration.format(decision.retryAfter)}`)
 * })
 * ```
 *
 * @since 0.1.0
 * @category accessors
 */
export const consume = (
  policy: Policy | ReadonlyArray<Policy>,
  id: string,
  options?: ConsumeOptions
): Effect.Effect<Decision, RedisError, RateLimiter> =>
  Effect.flatMap(RateLimiter, (service) => service.consume(policy, id, options))

/**
 * Uses some of several limits of different identifiers: of all of them or of none.
 *
 * @example
 * ```ts
 * import { RateLimiter } from "effect-redis-kit"
 *
 * const PerUser = RateLimiter.policy({ name: "per-user", limit: 10, window: "1 minute" })
 * const PerAddress = RateLimiter.policy({ name: "per-address", limit: 100, window: "1 minute" })
 *
 * const program = RateLimiter.consumeAll([
 *   { policy: PerUser, id: "user-42" },
 *   { policy: PerAddress, id: "203.0.113.7" }
 * ])
 * ```
 *
 * @since 0.1.0
 * @category accessors
 */
export const consumeAll = (
  requests: ReadonlyArray<Request>
): Effect.Effect<Decision, RedisError, RateLimiter> =>
  Effect.flatMap(RateLimiter, (service) => service.consumeAll(requests))

/**
 * What `consume` would answer. It uses and writes nothing.
 *
 * @since 0.1.0
 * @category accessors
 */
export const check = (
  policy: Policy | ReadonlyArray<Policy>,
  id: string,
  options?: ConsumeOptions
): Effect.Effect<Decision, RedisError, RateLimiter> =>
  Effect.flatMap(RateLimiter, (service) => service.check(policy, id, options))

/**
 * How much is used now.
 *
 * @since 0.1.0
 * @category accessors
 */
export const count = (
  policy: Policy,
  id: string,
  options?: Pick<ConsumeOptions, "limit">
): Effect.Effect<number, RedisError, RateLimiter> =>
  Effect.flatMap(RateLimiter, (service) => service.count(policy, id, options))

/**
 * Gives back what was used, never more than was used.
 *
 * @since 0.1.0
 * @category accessors
 */
export const refund = (
  policy: Policy | ReadonlyArray<Policy>,
  id: string,
  options?: ConsumeOptions
): Effect.Effect<Decision, RedisError, RateLimiter> =>
  Effect.flatMap(RateLimiter, (service) => service.refund(policy, id, options))

/**
 * Uses so much whether or not there is so much left, until nothing is left.
 *
 * @since 0.1.0
 * @category accessors
 */
export const penalty = (
  policy: Policy | ReadonlyArray<Policy>,
  id: string,
  options?: ConsumeOptions
): Effect.Effect<Decision, RedisError, RateLimiter> =>
  Effect.flatMap(RateLimiter, (service) => service.penalty(policy, id, options))

/**
 * Refuses everything of an identifier for so long from now, whatever is left of its limit.
 *
 * @since 0.1.0
 * @category accessors
 */
export const block = (
  policy: Policy | ReadonlyArray<Policy>,
  id: string,
  duration: Duration.DurationInput
): Effect.Effect<void, RedisError, RateLimiter> =>
  Effect.flatMap(RateLimiter, (service) => service.block(policy, id, duration))

/**
 * Ends a block, and says whether there was one.
 *
 * @since 0.1.0
 * @category accessors
 */
export const unblock = (
  policy: Policy | ReadonlyArray<Policy>,
  id: string
): Effect.Effect<boolean, RedisError, RateLimiter> =>
  Effect.flatMap(RateLimiter, (service) => service.unblock(policy, id))

/**
 * Forgets what an identifier has used, and that it is blocked.
 *
 * @since 0.1.0
 * @category accessors
 */
export const reset = (
  policy: Policy | ReadonlyArray<Policy>,
  id: string
): Effect.Effect<void, RedisError, RateLimiter> => Effect.flatMap(RateLimiter, (service) => service.reset(policy, id))
