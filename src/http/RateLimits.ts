/**
 * Rate limits of HTTP servers: as `HttpMiddleware`, as middleware of `HttpLayerRouter`, and as `HttpApiMiddleware`.
 *
 * @since 0.1.0
 */
import * as HttpApi from "@effect/platform/HttpApi"
import type * as HttpApiGroup from "@effect/platform/HttpApiGroup"
import * as HttpApiMiddleware from "@effect/platform/HttpApiMiddleware"
import * as HttpApp from "@effect/platform/HttpApp"
import * as HttpLayerRouter from "@effect/platform/HttpLayerRouter"
import * as HttpRouter from "@effect/platform/HttpRouter"
import * as HttpServerRequest from "@effect/platform/HttpServerRequest"
import * as HttpServerResponse from "@effect/platform/HttpServerResponse"
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import type * as Predicate from "effect/Predicate"
import * as Schema from "effect/Schema"
import { type Decision, RateLimiter, type Service as Limiter } from "../RateLimiter/RateLimiter.js"
import type { RedisInputError } from "../RedisError.js"
import { type Charges, Cost, decide, Failure, RateLimitUnavailable, tooManyRequests } from "./Charge.js"
import * as RateLimitHeaders from "./RateLimitHeaders.js"

// ---------------------------------------------------------------------------------------------------------------------
// Models
// ---------------------------------------------------------------------------------------------------------------------

export { type Charge, type Charges, Cost } from "./Charge.js"

/**
 * @since 0.1.0
 * @category models
 */
export interface Options<E = never, R = never> {
  /** What the request of the environment is charged with. Where it fails, the request is answered with that failure. */
  readonly charge: Effect.Effect<Charges, E, R>
  /** Requests that are not charged and get no headers. */
  readonly skip?: Predicate.Predicate<HttpServerRequest.HttpServerRequest> | undefined
  /** Which headers each response gets; `"ietf"` by default. */
  readonly headers?: RateLimitHeaders.Style | undefined
}

/**
 * @since 0.1.0
 * @category models
 */
export interface ApiOptions<E = never, R = never> extends Options<E, R> {
  /** The API, for the `Cost` of its endpoints. */
  readonly api?: HttpApi.HttpApi<string, HttpApiGroup.HttpApiGroup.Any, any, any> | undefined
}

// ---------------------------------------------------------------------------------------------------------------------
// Tags
// ---------------------------------------------------------------------------------------------------------------------

/**
 * A middleware for endpoints, groups and APIs that need no other one. Whoever needs several makes a class like this for each.
 *
 * @example
 * ```ts
 * import { HttpApi, HttpApiEndpoint, HttpApiGroup } from "@effect/platform"
 * import { Effect, Layer, Schema } from "effect"
 * import { RateLimiter } from "effect-redis-kit"
 * import { ClientAddress, RateLimits } from "effect-redis-kit/http"
 *
 * const Api = HttpApi.make("api").add(
 *   HttpApiGroup.make("books")
 *     .add(HttpApiEndpoint.get("list", "/books").addSuccess(Schema.Array(Schema.String)))
 *     .middleware(RateLimits.RateLimit)
 * )
 *
 * const Anonymous = RateLimiter.policy({ name: "anonymous", limit: 60, window: "1 minute" })
 *
 * const RateLimitLive = RateLimits.layerApi(RateLimits.RateLimit, {
 *   charge: Effect.map(ClientAddress.fromRequest(), (id) => ({ policy: Anonymous, id }))
 * }).pipe(Layer.provide(RateLimiter.layer))
 * ```
 *
 * @since 0.1.0
 * @category tags
 */
export class RateLimit extends HttpApiMiddleware.Tag<RateLimit>()("effect-redis-kit/http/RateLimit", {
  failure: Failure
}) {}

// ---------------------------------------------------------------------------------------------------------------------
// Errors
// ---------------------------------------------------------------------------------------------------------------------

export { Failure, RateLimitUnavailable, TooManyRequests, tooManyRequests } from "./Charge.js"

// ---------------------------------------------------------------------------------------------------------------------
// Constructors
// ---------------------------------------------------------------------------------------------------------------------

type Headers = RateLimitHeaders.RateLimitHeaders

/** Every response that is sent for this request gets them, also that of a failure. */
const announce = (headers: Headers): Effect.Effect<void> =>
  HttpApp.appendPreResponseHandler((_, response) => Effect.succeed(RateLimitHeaders.addTo(response, headers)))

const encode = Schema.encodeSync(Failure)

const respond = (failure: Failure, status: number, headers: Headers): HttpServerResponse.HttpServerResponse =>
  HttpServerResponse.unsafeJson(encode(failure), { status, headers })

/**
 * Charges the request and goes on with what was decided. Nothing has happened before, so it may be interrupted where the
 * server interrupts nothing.
 */
const charged = <E, R, A, E2, R2>(
  limiter: Limiter,
  { charge, headers: style = "ietf" }: Options<E, R>,
  cost: number,
  use: (decision: Decision | undefined, headers: Headers) => Effect.Effect<A, E2, R2>
): Effect.Effect<A, E2 | Exclude<E, RedisInputError>, R | R2> =>
  Effect.flatMap(Effect.interruptible(decide(limiter, charge, cost)), (decision) =>
    decision === undefined
      ? use(undefined, {})
      : Effect.flatMap(Clock.currentTimeMillis, (now) => use(decision, RateLimitHeaders.make(decision, style, now))))

const guard = <E, R>(limiter: Limiter, options: Options<E, R>) =>
<E2, R2>(
  app: HttpApp.Default<E2, R2>
): HttpApp.Default<E2 | Exclude<E, RedisInputError>, R2 | R> => {
  const limited = charged(limiter, options, 1, (decision, headers): HttpApp.Default<E2, R2> => {
    if (decision === undefined) return Effect.succeed(respond(new RateLimitUnavailable(), 503, headers))
    // It may be outside of where handlers of responses are called, so a refusal has its headers already.
    return decision.allowed
      ? Effect.zipRight(announce(headers), app)
      : Effect.succeed(respond(tooManyRequests(decision), 429, headers))
  })
  const { skip } = options
  return skip === undefined
    ? limited
    : Effect.flatMap(HttpServerRequest.HttpServerRequest, (request) => skip(request) ? app : limited)
}

/**
 * Rate limits of an app, for a part of it or for all of it. It can also be the middleware of `HttpServer.serve`.
 *
 * @example
 * ```ts
 * import { HttpRouter, HttpServer, HttpServerResponse } from "@effect/platform"
 * import { Effect } from "effect"
 * import { RateLimiter } from "effect-redis-kit"
 * import { ClientAddress, RateLimits } from "effect-redis-kit/http"
 *
 * const Anonymous = RateLimiter.policy({ name: "anonymous", limit: 60, window: "1 minute" })
 *
 * const server = HttpRouter.empty.pipe(
 *   HttpRouter.get("/", HttpServerResponse.text("hello")),
 *   RateLimits.middleware({
 *     charge: Effect.map(ClientAddress.fromRequest(), (id) => ({ policy: Anonymous, id }))
 *   }),
 *   HttpServer.serve()
 * )
 * ```
 *
 * @since 0.1.0
 * @category constructors
 */
export const middleware = <E, R>(options: Options<E, R>) =>
<E2, R2>(
  app: HttpApp.Default<E2, R2>
): HttpApp.Default<E2 | Exclude<E, RedisInputError>, R2 | R | RateLimiter> =>
  Effect.flatMap(RateLimiter, (limiter) => guard(limiter, options)(app))

/**
 * Rate limits of some routes of an `HttpLayerRouter`: its `layer` is provided to them.
 *
 * @example
 * ```ts
 * import { HttpLayerRouter, HttpServerResponse } from "@effect/platform"
 * import { Effect, Layer } from "effect"
 * import { RateLimiter } from "effect-redis-kit"
 * import { ClientAddress, RateLimits } from "effect-redis-kit/http"
 *
 * const Search = RateLimiter.policy({ name: "search", limit: 10, window: "1 second" })
 *
 * const routes = HttpLayerRouter.add("GET", "/search", HttpServerResponse.text("found")).pipe(
 *   Layer.provide(
 *     RateLimits.routerMiddleware({
 *       charge: Effect.map(ClientAddress.fromRequest(), (id) => ({ policy: Search, id }))
 *     }).layer
 *   )
 * )
 * ```
 *
 * @since 0.1.0
 * @category constructors
 */
export const routerMiddleware = <E, R>(options: Options<E, R>): HttpLayerRouter.Middleware<{
  provides: never
  handles: never
  error: Exclude<E, RedisInputError>
  requires: Exclude<R, HttpLayerRouter.Provided>
  layerError: never
  layerRequires: RateLimiter
}> => HttpLayerRouter.middleware(Effect.map(RateLimiter, (limiter) => guard(limiter, options as Options))) as never

// ---------------------------------------------------------------------------------------------------------------------
// Layers
// ---------------------------------------------------------------------------------------------------------------------

/**
 * Rate limits of everything that an `HttpLayerRouter` is asked for, also of what it does not have.
 *
 * @since 0.1.0
 * @category layers
 */
export const layerRouter = <E, R>(options: Options<E, R>): Layer.Layer<
  never,
  never,
  | RateLimiter
  | HttpLayerRouter.HttpRouter
  | HttpLayerRouter.Request.From<"GlobalRequires", Exclude<R, HttpLayerRouter.GlobalProvided>>
  | HttpLayerRouter.Request.From<"GlobalError", Exclude<E, RedisInputError>>
> =>
  HttpLayerRouter.middleware(Effect.map(RateLimiter, (limiter) => guard(limiter, options as Options)), {
    global: true
  })

/** The costs of the endpoints that have one, by method and path. */
const costsOf = (api: ApiOptions["api"]): ReadonlyMap<string, number> => {
  const costs = new Map<string, number>()
  if (api !== undefined) {
    HttpApi.reflect(api, {
      onGroup: () => {},
      onEndpoint: ({ endpoint, mergedAnnotations }) => {
        const cost = Context.getOption(mergedAnnotations, Cost)
        if (Option.isSome(cost)) costs.set(`${endpoint.method} ${endpoint.path}`, cost.value)
      }
    })
  }
  return costs
}

/**
 * Rate limits of an `HttpApi`, for the tag that stands at its endpoints or groups, or at the whole of it: then everything
 * costs 1, because no endpoint is known yet, and paths that there are not are charged too. The failure of the tag is `Failure`, or a
 * union with whatever else a charge fails with.
 *
 * @example
 * ```ts
 * import { HttpApiMiddleware } from "@effect/platform"
 * import { Context, Effect, Option } from "effect"
 * import { RateLimiter } from "effect-redis-kit"
 * import { ClientAddress, RateLimits } from "effect-redis-kit/http"
 *
 * class Limited extends HttpApiMiddleware.Tag<Limited>()("Limited", { failure: RateLimits.Failure }) {}
 *
 * // What another middleware provides, which comes later in the list of the endpoint.
 * class CurrentUser extends Context.Tag("CurrentUser")<CurrentUser, { readonly id: string }>() {}
 *
 * const Api = RateLimiter.policy({ name: "api", limit: 60, window: "1 minute" })
 *
 * const LimitedLive = RateLimits.layerApi(Limited, {
 *   charge: Effect.gen(function*() {
 *     const user = yield* Effect.serviceOption(CurrentUser)
 *     return Option.isSome(user)
 *       ? { policy: Api, id: `user:${user.value.id}`, limit: 300 }
 *       : { policy: Api, id: yield* ClientAddress.fromRequest() }
 *   })
 * })
 * ```
 *
 * @since 0.1.0
 * @category layers
 */
export const layerApi = <I, R, E = never>(
  tag: Context.Tag<I, HttpApiMiddleware.HttpApiMiddleware<void, Failure | E>>,
  options: ApiOptions<NoInfer<E> | RedisInputError, R>
): Layer.Layer<I, never, RateLimiter | Exclude<R, HttpRouter.HttpRouter.Provided>> =>
  Layer.effect(
    tag,
    Effect.gen(function*() {
      type Outer = Exclude<R, HttpRouter.HttpRouter.Provided>
      const context = yield* Effect.context<Outer>()
      const limiter = yield* RateLimiter
      const costs = costsOf(options.api)
      const { skip } = options
      const use = (decision: Decision | undefined, headers: Headers): Effect.Effect<void, Failure> => {
        if (decision === undefined) return Effect.fail(new RateLimitUnavailable())
        return Effect.zipRight(
          announce(headers),
          decision.allowed ? Effect.void : Effect.fail(tooManyRequests(decision))
        )
      }
      return Effect.contextWithEffect((request: Context.Context<HttpRouter.HttpRouter.Provided>) => {
        if (skip?.(Context.get(request, HttpServerRequest.HttpServerRequest)) === true) return Effect.void
        // A middleware of the whole API may run before there is a route.
        const found = Context.getOption(request, HttpRouter.RouteContext)
        const cost = Option.isSome(found)
          ? costs.get(`${found.value.route.method} ${found.value.route.path}`)
          : undefined
        return Effect.provide(
          charged(limiter, options, cost ?? 1, use),
          Context.merge(context, request) as Context.Context<HttpRouter.HttpRouter.Provided | R>
        )
      })
    })
  )
