/**
 * Rate limits of the procedures of `@effect/rpc`.
 *
 * It is a module of its own, because only those who have procedures have that package.
 *
 * @since 0.1.0
 */
import type { Headers } from "@effect/platform/Headers"
import type * as Rpc from "@effect/rpc/Rpc"
import * as RpcMiddleware from "@effect/rpc/RpcMiddleware"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import { RateLimiter } from "../RateLimiter/RateLimiter.js"
import type { RedisInputError } from "../RedisError.js"
import { type Charges, Cost, decide, Failure, RateLimitUnavailable, tooManyRequests } from "./Charge.js"

// ---------------------------------------------------------------------------------------------------------------------
// Models
// ---------------------------------------------------------------------------------------------------------------------

/**
 * The call of a procedure.
 *
 * @since 0.1.0
 * @category models
 */
export interface Call {
  readonly clientId: number
  readonly rpc: Rpc.AnyWithProps
  readonly payload: unknown
  readonly headers: Headers
}

/**
 * @since 0.1.0
 * @category models
 */
export interface Options<E = never, R = never> {
  /** What a call is charged with. Where it fails, the call is answered with that failure. */
  readonly charge: (call: Call) => Effect.Effect<Charges, E, R>
  /** Calls that are not charged. */
  readonly skip?: ((call: Call) => boolean) | undefined
}

// ---------------------------------------------------------------------------------------------------------------------
// Tags
// ---------------------------------------------------------------------------------------------------------------------

/**
 * A middleware for procedures and groups that need no other one. Whoever needs several makes a class like this for each. What a
 * call costs is the annotation `RateLimits.Cost` of its procedure, 1 without one.
 *
 * @example
 * ```ts
 * import { Rpc, RpcGroup } from "@effect/rpc"
 * import { Effect, Schema } from "effect"
 * import { RateLimiter } from "effect-redis-kit"
 * import { RateLimits } from "effect-redis-kit/http"
 * import * as RpcRateLimits from "effect-redis-kit/http/RpcRateLimits"
 *
 * const Books = RpcGroup.make(
 *   Rpc.make("List", { success: Schema.Array(Schema.String) }),
 *   Rpc.make("Search", { payload: { text: Schema.String }, success: Schema.Array(Schema.String) })
 *     .annotate(RateLimits.Cost, 5)
 * ).middleware(RpcRateLimits.RateLimit)
 *
 * const Api = RateLimiter.policy({ name: "rpc", limit: 60, window: "1 minute" })
 *
 * declare const userOf: (token: string | undefined) => Effect.Effect<string>
 *
 * const RateLimitLive = RpcRateLimits.layer(RpcRateLimits.RateLimit, {
 *   charge: ({ headers }) => Effect.map(userOf(headers["authorization"]), (id) => ({ policy: Api, id }))
 * })
 * ```
 *
 * @since 0.1.0
 * @category tags
 */
export class RateLimit extends RpcMiddleware.Tag<RateLimit>()("effect-redis-kit/http/RpcRateLimit", {
  failure: Failure
}) {}

// ---------------------------------------------------------------------------------------------------------------------
// Layers
// ---------------------------------------------------------------------------------------------------------------------

/**
 * Rate limits for the tag that stands at procedures or groups. The failure of the tag is `RateLimits.Failure`, or a union with
 * whatever else a charge fails with.
 *
 * @since 0.1.0
 * @category layers
 */
export const layer = <I, R, E = never>(
  tag: Context.Tag<I, RpcMiddleware.RpcMiddleware<void, Failure | E>>,
  options: Options<NoInfer<E> | RedisInputError, R>
): Layer.Layer<I, never, RateLimiter | R> =>
  Layer.effect(
    tag,
    Effect.gen(function*() {
      const context = yield* Effect.context<R>()
      const limiter = yield* RateLimiter
      const { charge, skip } = options
      return (call: Call): Effect.Effect<void, Failure | E> => {
        if (skip?.(call) === true) return Effect.void
        const cost = Option.getOrElse(Context.getOption(call.rpc.annotations, Cost), () => 1)
        return Effect.flatMap(
          Effect.mapInputContext(decide(limiter, charge(call), cost), (request: Context.Context<never>) =>
            Context.merge(context, request)),
          (decision): Effect.Effect<void, Failure> => {
            if (decision === undefined) {
              return Effect.fail(new RateLimitUnavailable())
            }
            return decision.allowed ? Effect.void : Effect.fail(tooManyRequests(decision))
          }
        )
      }
    })
  )
