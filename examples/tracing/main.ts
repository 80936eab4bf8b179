/**
 * One trace from an HTTP request through a lock and a cache miss to the worker of a queued job, and the metrics:
 *
 *     node build/examples/tracing/main.js
 */
import type { ReadableSpan } from "@opentelemetry/sdk-trace-base"
import { Effect } from "effect"
import { CALLER, order } from "./traced.js"

const print = (line: string): void => void process.stdout.write(`${line}\n`)

const { metrics, spans } = await Effect.runPromise(order("teapot"))

const show = (span: ReadableSpan, depth: number): void => {
  const attributes = Object.entries(span.attributes).filter(([name]) => !name.includes(".header."))
  print(`${"  ".repeat(depth)}${span.name}  ${JSON.stringify(Object.fromEntries(attributes))}`)
  const { spanId } = span.spanContext()
  for (const child of spans) if (child.parentSpanContext?.spanId === spanId) show(child, depth + 1)
}

print(`trace ${CALLER.traceId}`)
for (const span of spans) if (span.parentSpanContext?.spanId === CALLER.spanId) show(span, 1)

for (const { dataPoints, descriptor } of metrics) {
  for (const { attributes, value } of dataPoints) {
    const text = typeof value === "number" ? `${value}` : `${value.count} times, ${value.sum ?? 0} in all`
    if (descriptor.name.startsWith("effect_redis_")) print(`${descriptor.name} ${JSON.stringify(attributes)} ${text}`)
  }
}
