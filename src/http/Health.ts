/**
 * `GET /health`: whether Redis answers, for load balancers and people.
 *
 * @since 0.1.0
 */
import type * as HttpApi from "@effect/platform/HttpApi"
import * as HttpApiBuilder from "@effect/platform/HttpApiBuilder"
import * as HttpApiEndpoint from "@effect/platform/HttpApiEndpoint"
import * as HttpApiGroup from "@effect/platform/HttpApiGroup"
import * as HttpApiSchema from "@effect/platform/HttpApiSchema"
import * as HttpApp from "@effect/platform/HttpApp"
import * as HttpLayerRouter from "@effect/platform/HttpLayerRouter"
import * as HttpServerResponse from "@effect/platform/HttpServerResponse"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import { positiveMillis } from "../internal/input.js"
import { type Health, RedisClient } from "../RedisClient.js"
import type { RedisInputError } from "../RedisError.js"

// ---------------------------------------------------------------------------------------------------------------------
// Models
// ---------------------------------------------------------------------------------------------------------------------

/**
 * @since 0.1.0
 * @category models
 */
export interface Options {
  /** When the answer is no, if Redis has given none; 1 second by default. */
  readonly timeout?: Duration.DurationInput | undefined
  /** Whether version, mode, clients and memory of the server are told; `true` by default. */
  readonly details?: boolean | undefined
}

/**
 * Redis has answered.
 *
 * @since 0.1.0
 * @category schemas
 */
export class Healthy extends Schema.Class<Healthy>("effect-redis-kit/http/Healthy")({
  healthy: Schema.Literal(true),
  responseTimeMs: Schema.Number,
  server: Schema.optional(Schema.Struct({
    version: Schema.String,
    mode: Schema.String,
    connectedClients: Schema.Number,
    usedMemoryHuman: Schema.String
  }))
}) {}

// ---------------------------------------------------------------------------------------------------------------------
// Errors
// ---------------------------------------------------------------------------------------------------------------------

/**
 * Redis has not answered, or not as it should: 503. `error` is the name of the failure, and nothing that belongs to the
 * inside, as an address.
 *
 * @since 0.1.0
 * @category errors
 */
export class Unhealthy extends Schema.TaggedError<Unhealthy>("effect-redis-kit/http/Unhealthy")(
  "Unhealthy",
  {
    healthy: Schema.Literal(false),
    responseTimeMs: Schema.Number,
    error: Schema.String
  },
  HttpApiSchema.annotations({ status: 503, description: "Redis is not available" })
) {
  /** @since 0.1.0 */
  override get message(): string {
    return `Redis is not healthy: ${this.error}`
  }
}

// ---------------------------------------------------------------------------------------------------------------------
// Constructors
// ---------------------------------------------------------------------------------------------------------------------

const roundMillis = (duration: Duration.Duration): number => Math.round(Duration.toMillis(duration) * 1000) / 1000

const toReport = ({ error, responseTime, server }: Health, details: boolean): Effect.Effect<Healthy, Unhealthy> => {
  const responseTimeMs = roundMillis(responseTime)
  return Option.isSome(error)
    ? Effect.fail(new Unhealthy({ healthy: false, responseTimeMs, error: error.value._tag }))
    : Effect.succeed(
      new Healthy({ healthy: true, responseTimeMs, ...(details && Option.isSome(server) && { server: server.value }) })
    )
}

/** The check, once its options are known to mean something. */
const prepare = (
  options: Options = {}
): Effect.Effect<Effect.Effect<Healthy, Unhealthy>, RedisInputError, RedisClient> =>
  Effect.zipWith(
    positiveMillis("Health", "timeout", options.timeout ?? "1 second"),
    RedisClient,
    (millis, { health }) =>
      Effect.flatMap(
        Effect.timeoutTo(health, {
          duration: millis,
          onSuccess: Option.some<Health>,
          onTimeout: Option.none<Health>
        }),
        Option.match({
          onNone: () =>
            Effect.fail(new Unhealthy({ healthy: false, responseTimeMs: millis, error: "RedisTimeoutError" })),
          onSome: (health) => toReport(health, options.details !== false)
        })
      )
  )

/**
 * Asks Redis, within the deadline.
 *
 * @since 0.1.0
 * @category constructors
 */
export const check = (options?: Options): Effect.Effect<Healthy, Unhealthy | RedisInputError, RedisClient> =>
  Effect.flatten(prepare(options))

const NO_STORE = { "cache-control": "no-store" }

const encodeHealthy = Schema.encodeSync(Healthy)

const encodeUnhealthy = Schema.encodeSync(Unhealthy)

const respond = (check: Effect.Effect<Healthy, Unhealthy>): Effect.Effect<HttpServerResponse.HttpServerResponse> =>
  Effect.match(check, {
    onSuccess: (report) => HttpServerResponse.unsafeJson(encodeHealthy(report), { headers: NO_STORE }),
    onFailure: (report) => HttpServerResponse.unsafeJson(encodeUnhealthy(report), { status: 503, headers: NO_STORE })
  })

/**
 * Answers every request with 200 or 503 and the report, for a router of one's own.
 *
 * @example
 * ```ts
 * import { HttpRouter } from "@effect/platform"
 * import { Health } from "effect-redis-kit/http"
 *
 * const router = HttpRouter.empty.pipe(HttpRouter.get("/health", Health.app({ timeout: "500 millis" })))
 * ```
 *
 * @since 0.1.0
 * @category constructors
 */
export const app = (
  options?: Options
): Effect.Effect<HttpServerResponse.HttpServerResponse, RedisInputError, RedisClient> =>
  Effect.flatMap(prepare(options), respond)

/**
 * The endpoint as a part of an `HttpApi`: `client.health.check()`. `layerApi` answers it.
 *
 * @since 0.1.0
 * @category constructors
 */
export class Group extends HttpApiGroup.make("health").add(
  HttpApiEndpoint.get("check", "/health").addSuccess(Healthy).addError(Unhealthy)
) {}

// ---------------------------------------------------------------------------------------------------------------------
// Layers
// ---------------------------------------------------------------------------------------------------------------------

/**
 * The route of an `HttpLayerRouter`; `/health` by default.
 *
 * @example
 * ```ts
 * import { HttpLayerRouter } from "@effect/platform"
 * import { Layer } from "effect"
 * import { RedisTest } from "effect-redis-kit"
 * import { Health } from "effect-redis-kit/http"
 *
 * const Server = HttpLayerRouter.serve(Health.layerRouter()).pipe(Layer.provide(RedisTest))
 * ```
 *
 * @since 0.1.0
 * @category layers
 */
export const layerRouter = (
  options?: Options & { readonly path?: HttpLayerRouter.PathInput | undefined }
): Layer.Layer<never, RedisInputError, HttpLayerRouter.HttpRouter | RedisClient> =>
  Layer.unwrapEffect(
    Effect.map(prepare(options), (check) => HttpLayerRouter.add("GET", options?.path ?? "/health", respond(check)))
  )

/**
 * Answers for `Group` of an API.
 *
 * @example
 * ```ts
 * import { HttpApi, HttpApiBuilder } from "@effect/platform"
 * import { Layer } from "effect"
 * import { Health } from "effect-redis-kit/http"
 *
 * const Api = HttpApi.make("api").add(Health.Group)
 *
 * const ApiLive = HttpApiBuilder.api(Api).pipe(Layer.provide(Health.layerApi(Api)))
 * ```
 *
 * @since 0.1.0
 * @category layers
 */
export const layerApi = <Id extends string, Groups extends HttpApiGroup.HttpApiGroup.Any, E, R>(
  api: HttpApi.HttpApi<Id, Groups, E, R>,
  options?: Options
): Layer.Layer<HttpApiGroup.ApiGroup<Id, "health">, RedisInputError, RedisClient> => {
  const noStore = HttpApp.appendPreResponseHandler((_, response) =>
    Effect.succeed(HttpServerResponse.setHeaders(response, NO_STORE))
  )
  return Layer.unwrapEffect(Effect.map(prepare(options), (check) =>
    HttpApiBuilder.group(
      api as unknown as HttpApi.HttpApi<Id, typeof Group>,
      "health",
      (handlers) => handlers.handle("check", () => Effect.zipRight(noStore, check))
    )))
}
