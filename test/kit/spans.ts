/**
 * A tracer that keeps what it is told.
 */
import { Context, Effect, Layer, Tracer } from "effect"

export class Spans extends Context.Tag("test/Spans")<Spans, {
  /** In the order in which they were started. */
  readonly all: Effect.Effect<ReadonlyArray<Tracer.Span>>
  readonly named: (name: string) => Effect.Effect<ReadonlyArray<Tracer.Span>>
}>() {}

/** Records the spans of whatever runs with this layer. */
export const layer: Layer.Layer<Spans> = Layer.unwrapEffect(
  Effect.map(Effect.tracer, (present) => {
    const spans: Array<Tracer.Span> = []
    const recording = Tracer.make({
      span: (...args) => {
        const span = present.span(...args)
        spans.push(span)
        return span
      },
      context: (f, fiber) => present.context(f, fiber)
    })
    return Layer.merge(
      Layer.setTracer(recording),
      Layer.succeed(Spans, {
        all: Effect.sync(() => spans.slice()),
        named: (name) => Effect.sync(() => spans.filter((span) => span.name === name))
      })
    )
  })
)
