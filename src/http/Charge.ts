/**
 * What a request is charged with, and how it is answered when it can't be.
 *
 * @since 0.1.0
 */
import * as HttpApiSchema from "@effect/platform/HttpApiSchema"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Predicate from "effect/Predicate"
import * as Schema from "effect/Schema"
import type { ConsumeOptions, Decision, Policy, Request, Service } from "../RateLimiter/RateLimiter.js"
import type { RedisInputError } from "../RedisError.js"
import { fixed } from "./failure.js"
import { retryAfterSeconds } from "./RateLimitHeaders.js"

// ---------------------------------------------------------------------------------------------------------------------
// Models
// ---------------------------------------------------------------------------------------------------------------------

/**
 * What a request uses, and of whose budget: a limit or several of them of one identifier. `limit` counts instead of the
 * policy's, so that those of different tiers share one count.
 *
 * @since 0.1.0
 * @category models
 */
export interface Charge extends ConsumeOptions {
  readonly policy: Policy | ReadonlyArray<Policy>
  /** A user, an address, or whoever has a budget. It is a part of a key. */
  readonly id: string
}

/**
 * One identifier, or limits of several ones that are used together.
 *
 * @since 0.1.0
 * @category models
 */
export type Charges = Charge | ReadonlyArray<Request>

/**
 * What a call of an endpoint costs, as its annotation, or as that of a group; 1 by default. Where a charge has a cost of its own,
 * that counts.
 *
 * @example
 * ```ts
 * import { HttpApiEndpoint } from "@effect/platform"
 * import { RateLimits } from "effect-redis-kit/http"
 *
 * const search = HttpApiEndpoint.get("search", "/search").annotate(RateLimits.Cost, 5)
 * ```
 *
 * @since 0.1.0
 * @category annotations
 */
export class Cost extends Context.Tag("effect-redis-kit/http/Cost")<Cost, number>() {}

// ---------------------------------------------------------------------------------------------------------------------
// Errors
// ---------------------------------------------------------------------------------------------------------------------

/**
 * The limit is used up: 429. `retryAfter` is in whole seconds; it is missing when the request will never be let through,
 * because it costs more than there ever is.
 *
 * @since 0.1.0
 * @category errors
 */
export class TooManyRequests extends Schema.TaggedError<TooManyRequests>("effect-redis-kit/http/TooManyRequests")(
  "TooManyRequests",
  {
    error: fixed("Too Many Requests"),
    policy: Schema.String,
    limit: Schema.Number,
    remaining: Schema.Number,
    retryAfter: Schema.optional(Schema.Number)
  },
  HttpApiSchema.annotations({ status: 429, description: "The rate limit is used up" })
) {
  /** @since 0.1.0 */
  override get message(): string {
    return `the limit "${this.policy}" (${this.limit}) is used up`
  }
}

/**
 * Redis did not say whether the limit allows it, and the policy has no answer of its own (`onUnavailable`): 503.
 *
 * @since 0.1.0
 * @category errors
 */
export class RateLimitUnavailable
  extends Schema.TaggedError<RateLimitUnavailable>("effect-redis-kit/http/RateLimitUnavailable")(
    "RateLimitUnavailable",
    { error: fixed("Service Unavailable") },
    HttpApiSchema.annotations({ status: 503, description: "The rate limit could not be checked" })
  )
{
  /** @since 0.1.0 */
  override get message(): string {
    return "the rate limit could not be checked"
  }
}

/**
 * What a middleware of an API fails with.
 *
 * @since 0.1.0
 * @category schemas
 */
export const Failure = Schema.Union(TooManyRequests, RateLimitUnavailable)

/**
 * @since 0.1.0
 * @category errors
 */
export type Failure = TooManyRequests | RateLimitUnavailable

// ---------------------------------------------------------------------------------------------------------------------
// Constructors
// ---------------------------------------------------------------------------------------------------------------------

/**
 * The refusal of a decision.
 *
 * @since 0.1.0
 * @category constructors
 */
export const tooManyRequests = (decision: Decision): TooManyRequests =>
  new TooManyRequests({
    policy: decision.policy,
    limit: decision.limit,
    remaining: decision.remaining,
    retryAfter: retryAfterSeconds(decision)
  })

const isRequests = (charges: Charges): charges is ReadonlyArray<Request> => Array.isArray(charges)

const isInputError = Predicate.isTagged("RedisInputError")

const consume = (limiter: Service, charges: Charges, cost: number) =>
  isRequests(charges)
    ? limiter.consumeAll(cost === 1 ? charges : charges.map((request) => ({ ...request, cost: request.cost ?? cost })))
    : limiter.consume(charges.policy, charges.id, { cost: charges.cost ?? cost, limit: charges.limit })

/**
 * Charges, and says what was decided; `undefined` when Redis has not answered. A bad argument is a mistake of the program
 * and a defect, because no client can do anything about it.
 *
 * @internal
 */
export const decide = <E, R>(
  limiter: Service,
  charge: Effect.Effect<Charges, E, R>,
  cost: number
): Effect.Effect<Decision | undefined, Exclude<E, RedisInputError>, R> =>
  Effect.flatMap(
    Effect.catchAll(charge, (error) =>
      isInputError(error) ? Effect.die(error) : Effect.fail(error as Exclude<E, RedisInputError>)),
    (charges) =>
      Effect.catchAll(consume(limiter, charges, cost), (error) =>
        error._tag === "RedisInputError"
          ? Effect.die(error)
          : Effect.as(
            Effect.logWarning("refused, because a rate limit could not be checked", error),
            undefined
          ))
  )
