/**
 * Spans of service operations, made only when somebody listens.
 *
 * Attribute names are those of OpenTelemetry's semantic conventions for databases.
 *
 * @see https://opentelemetry.io/docs/specs/semconv/database/redis/
 */
import * as Context from "effect/Context"
import * as DefaultServices from "effect/DefaultServices"
import * as Effect from "effect/Effect"
import type * as Fiber from "effect/Fiber"
import * as Tracer from "effect/Tracer"

const ATTR_DB_SYSTEM_NAME = "db.system.name"
const ATTR_DB_OPERATION_NAME = "db.operation.name"

const silent = Context.get(DefaultServices.liveServices, Tracer.Tracer)

/**
 * Whether a tracer listens that is not Effect's own, which shows its spans to nobody.
 *
 * @internal
 */
export const isTraced = (fiber: Fiber.RuntimeFiber<any, any>): boolean =>
  Context.get(fiber.getFiberRef(DefaultServices.currentServices), Tracer.Tracer) !== silent

/**
 * A span around an operation. With no tracer but Effect's own, which shows its spans to nobody, the effect runs as it is.
 * `outcome` adds what came out of it.
 *
 * @internal
 */
export const withSpan = <A, E, R>(
  effect: Effect.Effect<A, E, R>,
  name: string,
  attributes: () => Record<string, unknown>,
  outcome?: (value: A) => Record<string, unknown>
): Effect.Effect<A, E, R> =>
  Effect.withFiberRuntime((fiber) =>
    isTraced(fiber)
      ? Effect.useSpan(
        name,
        {
          kind: "client",
          captureStackTrace: false,
          attributes: { [ATTR_DB_SYSTEM_NAME]: "redis", [ATTR_DB_OPERATION_NAME]: name, ...attributes() }
        },
        (span) =>
          Effect.withParentSpan(
            outcome === undefined
              ? effect
              : Effect.tap(effect, (value) => Effect.annotateCurrentSpan(outcome(value))),
            span
          )
      )
      : effect
  )
