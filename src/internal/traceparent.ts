/**
 * A span as text, for whoever goes on with it in another process.
 *
 * @see https://www.w3.org/TR/trace-context/#traceparent-header
 */
import * as Tracer from "effect/Tracer"

/** @internal */
export const traceparentOf = ({ sampled, spanId, traceId }: Tracer.AnySpan): string =>
  `00-${traceId}-${spanId}-${sampled ? "01" : "00"}`

const TRACEPARENT = /^[0-9a-f]{2}-([0-9a-zA-Z]{1,64})-([0-9a-zA-Z]{1,64})-([0-9a-f]{2})/

/**
 * The span that a text names, if it names one.
 *
 * @internal
 */
export const spanOf = (traceparent: string): Tracer.ExternalSpan | undefined => {
  const [, traceId, spanId, flags] = TRACEPARENT.exec(traceparent) ?? []
  return traceId === undefined || spanId === undefined || flags === undefined
    ? undefined
    : Tracer.externalSpan({ traceId, spanId, sampled: (Number.parseInt(flags, 16) & 1) === 1 })
}
