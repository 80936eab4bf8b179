/**
 * How the span of whoever appends an entry comes to whoever handles it.
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import type * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import * as Tracer from "effect/Tracer"
import { isTraced } from "../internal/telemetry.js"
import { spanOf, traceparentOf } from "../internal/traceparent.js"
import { type Fields, traceFields } from "./codec.js"

const NONE: Fields = []

/** The fields for the span that the fiber is in; none when nobody listens. */
export const fieldsOf = (fiber: Fiber.RuntimeFiber<any, any>): Fields => {
  if (!isTraced(fiber)) return NONE
  const span = Context.getOption(fiber.currentContext, Tracer.ParentSpan)
  return Option.isNone(span) ? NONE : traceFields(traceparentOf(span.value))
}

/** Runs an effect as a part of what the other process did. */
export const within = <A, E, R>(effect: Effect.Effect<A, E, R>, traceparent: string): Effect.Effect<A, E, R> => {
  const span = spanOf(traceparent)
  return span === undefined ? effect : Effect.withParentSpan(effect, span) as Effect.Effect<A, E, R>
}
