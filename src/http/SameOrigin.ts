/**
 * Refuses requests that another site makes a browser send, so that nobody acts with the cookies of a user (CSRF).
 *
 * A browser says where a request comes from: in `Sec-Fetch-Site`, or, where that is missing, in `Origin`. No page can forge
 * either of them. So there is no token to hand out and to check.
 *
 * @since 0.1.0
 */
import * as HttpApiMiddleware from "@effect/platform/HttpApiMiddleware"
import * as HttpApiSchema from "@effect/platform/HttpApiSchema"
import type * as HttpApp from "@effect/platform/HttpApp"
import * as HttpServerRequest from "@effect/platform/HttpServerRequest"
import * as HttpServerRespondable from "@effect/platform/HttpServerRespondable"
import type * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Layer from "effect/Layer"
import type * as Predicate from "effect/Predicate"
import * as Schema from "effect/Schema"
import { inputError } from "../internal/input.js"
import type { RedisInputError } from "../RedisError.js"
import { fixed, toResponse } from "./failure.js"

// ---------------------------------------------------------------------------------------------------------------------
// Models
// ---------------------------------------------------------------------------------------------------------------------

/**
 * @since 0.1.0
 * @category models
 */
export interface Options {
  /** Other origins whose pages may send such requests, as `"https://app.example.com"`; none by default. */
  readonly trusted?: ReadonlyArray<string> | undefined
}

// ---------------------------------------------------------------------------------------------------------------------
// Errors
// ---------------------------------------------------------------------------------------------------------------------

/**
 * A page of another site has sent this request: 403.
 *
 * @since 0.1.0
 * @category errors
 */
export class CrossOriginRequest
  extends Schema.TaggedError<CrossOriginRequest>("effect-redis-kit/http/CrossOriginRequest")(
    "CrossOriginRequest",
    { error: fixed("Forbidden") },
    HttpApiSchema.annotations({ status: 403, description: "The request was sent by a page of another site" })
  )
{
  /** @since 0.1.0 */
  override get message(): string {
    return "the request was sent by a page of another site"
  }

  /** @since 0.1.0 */
  [HttpServerRespondable.symbol]() {
    return toResponse(CrossOriginRequest, this)
  }
}

// ---------------------------------------------------------------------------------------------------------------------
// Tags
// ---------------------------------------------------------------------------------------------------------------------

/**
 * A middleware for endpoints, groups and APIs.
 *
 * @since 0.1.0
 * @category tags
 */
export class SameOrigin extends HttpApiMiddleware.Tag<SameOrigin>()("effect-redis-kit/http/SameOrigin", {
  failure: CrossOriginRequest
}) {}

// ---------------------------------------------------------------------------------------------------------------------
// Constructors
// ---------------------------------------------------------------------------------------------------------------------

/** Whatever changes nothing, as long as it does not open a socket. */
const SAFE: ReadonlySet<string> = new Set(["GET", "HEAD", "OPTIONS"])

const ORIGIN = /^https?:\/\/([^\s/?#@,]+)$/

type Request = Pick<HttpServerRequest.HttpServerRequest, "method" | "headers">

/**
 * Whether a request may go on. It fails when a trusted origin is none.
 *
 * - `GET`, `HEAD` and `OPTIONS` may, unless they open a WebSocket.
 * - `Sec-Fetch-Site` decides where it is given: `same-origin` and `none` (the user has typed it) may.
 * - Else `Origin` decides: its host is that of the request.
 * - Without both it is no browser, and has only cookies of its own.
 *
 * @example
 * ```ts
 * import { Either } from "effect"
 * import { SameOrigin } from "effect-redis-kit/http"
 *
 * const isAllowed = Either.getOrThrow(SameOrigin.make({ trusted: ["https://app.example.com"] }))
 * ```
 *
 * @since 0.1.0
 * @category constructors
 */
export const make = (options: Options = {}): Either.Either<Predicate.Predicate<Request>, RedisInputError> => {
  const trusted = new Set<string>()
  for (const origin of options.trusted ?? []) {
    const lower = typeof origin === "string" ? origin.toLowerCase() : ""
    if (!ORIGIN.test(lower)) {
      return Either.left(inputError("SameOrigin", "trusted", "origins as in https://app.example.com", origin))
    }
    trusted.add(lower)
  }
  return Either.right(({ headers, method }) => {
    if (SAFE.has(method) && headers["upgrade"] === undefined) return true
    const origin = headers["origin"]?.toLowerCase()
    if (origin !== undefined && trusted.has(origin)) return true
    const site = headers["sec-fetch-site"]
    if (site !== undefined) return site === "same-origin" || site === "none"
    return origin === undefined || ORIGIN.exec(origin)?.[1] === (headers["host"]?.toLowerCase() ?? "")
  })
}

/**
 * The same for the request of the environment. A trusted origin that is none is a mistake of the program and a defect.
 *
 * @since 0.1.0
 * @category constructors
 */
export const check = (
  options?: Options
): Effect.Effect<void, CrossOriginRequest, HttpServerRequest.HttpServerRequest> =>
  Either.match(make(options), {
    onLeft: (error) => Effect.die(error),
    onRight: (isAllowed) =>
      Effect.flatMap(
        HttpServerRequest.HttpServerRequest,
        (request) => isAllowed(request) ? Effect.void : Effect.fail(new CrossOriginRequest())
      )
  })

/**
 * Answers such requests of an app with 403. It can also be the middleware of `HttpServer.serve`, and that of an
 * `HttpLayerRouter`.
 *
 * @example
 * ```ts
 * import { HttpLayerRouter, HttpRouter, HttpServer } from "@effect/platform"
 * import { SameOrigin } from "effect-redis-kit/http"
 *
 * const server = HttpRouter.empty.pipe(SameOrigin.middleware(), HttpServer.serve())
 *
 * const everywhere = HttpLayerRouter.middleware(SameOrigin.middleware(), { global: true })
 * ```
 *
 * @since 0.1.0
 * @category constructors
 */
export const middleware = (options?: Options) => {
  const checked = check(options)
  return <E, R>(app: HttpApp.Default<E, R>): HttpApp.Default<E, R> =>
    Effect.matchEffect(checked, { onFailure: HttpServerRespondable.toResponse, onSuccess: () => app })
}

// ---------------------------------------------------------------------------------------------------------------------
// Layers
// ---------------------------------------------------------------------------------------------------------------------

/**
 * Refuses such requests of an `HttpApi`, where the tag stands at its endpoints or groups, or at the whole of it.
 *
 * @example
 * ```ts
 * import { HttpApi } from "@effect/platform"
 * import { SameOrigin } from "effect-redis-kit/http"
 *
 * const Api = HttpApi.make("api").middleware(SameOrigin.SameOrigin)
 *
 * const SameOriginLive = SameOrigin.layerApi(SameOrigin.SameOrigin)
 * ```
 *
 * @since 0.1.0
 * @category layers
 */
export const layerApi = <I>(
  tag: Context.Tag<I, HttpApiMiddleware.HttpApiMiddleware<void, CrossOriginRequest>>,
  options?: Options
): Layer.Layer<I> => Layer.succeed(tag, check(options))
