/**
 * How the span of whoever appends an entry comes to whoever handles it: as a `traceparent` of the W3C.
 *
 * @see https://www.w3.org/TR/trace-context/#traceparent-header
 */
import * as Context from "effect/Context"
import * as DefaultServices from "effect/DefaultServices"
import * as Effect from "effect/Effect"
import type * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import * as Tracer from "effect/Tracer"
import { type Fields, traceFields } from "./codec.js"

const silent = Context.get(DefaultServices.liveServices, Tracer.Tracer)

const NONE: Fields = []

/** Whether somebody listens to spans. */
export const isTraced = (fiber: Fiber.RuntimeFiber<any, any>): boolean =>
  Context.get(fiber.getFiberRef(DefaultServices.currentServices), Tracer.Tracer) !== silent

/** The fields for the span that the fiber is in; none when nobody listens. */
export const fieldsOf = (fiber: Fiber.RuntimeFiber<any, any>): Fields => {
  if (!isTraced(fiber)) return NONE
  const span = Context.getOption(fiber.currentContext, Tracer.ParentSpan)
  if (Option.isNone(span)) return NONE
  const { sampled, spanId, traceId } = span.value
  return traceFields(`00-${traceId}-${spanId}-${sampled ? "01" : "00"}`)
}

/** Runs an effect as a part of what the other process did. */
export const within = <A, E, R>(effect: Effect.Effect<A, E, R>, traceparent: string): Effect.Effect<A, E, R> => {
  const [, traceId, spanId, flags] = /^[0-9a-f]{2}-([0-9a-zA-Z]{1,64})-([0-9a-zA-Z]{1,64})-([0-9a-f]{2})/.exec(
    traceparent
  ) ?? []
  return traceId === undefined || spanId === undefined || flags === undefined
    ? effect
    : Effect.withParentSpan(
      effect,
      Tracer.externalSpan({ traceId, spanId, sampled: (Number.parseInt(flags, 16) & 1) === 1 })
    ) as Effect.Effect<A, E, R>
}
