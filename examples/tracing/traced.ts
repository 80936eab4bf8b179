/**
 * The shop with OpenTelemetry: one order over HTTP, and what was told of it. Exporters in memory stand for those of a real
 * service, such as `OTLPTraceExporter`.
 */
import * as NodeSdk from "@effect/opentelemetry/NodeSdk"
import { HttpServer } from "@effect/platform"
import { NodeHttpServer } from "@effect/platform-node"
import {
  AggregationTemporality,
  InMemoryMetricExporter,
  type MetricData,
  PeriodicExportingMetricReader
} from "@opentelemetry/sdk-metrics"
import { InMemorySpanExporter, type ReadableSpan, SimpleSpanProcessor } from "@opentelemetry/sdk-trace-base"
import { Deferred, Effect, Layer } from "effect"
import { RedisTest } from "effect-redis-kit"
import { createServer } from "node:http"
import * as Shop from "./shop.js"

/** Who calls the shop has a span too, in another program: its trace goes on here. */
export const CALLER = { traceId: "0af7651916cd43dd8448eb211c80319c", spanId: "b7ad6b7169203331" }

export interface Told {
  /** Of the trace of the caller, in the order in which they began. */
  readonly spans: ReadonlyArray<ReadableSpan>
  readonly metrics: ReadonlyArray<MetricData>
}

/** Orders it, waits for its receipt, and returns what was told. It runs on `RedisLive` as well. */
export const order = (article: string): Effect.Effect<Told> =>
  Effect.suspend(() => {
    const spans = new InMemorySpanExporter()
    const metrics = new InMemoryMetricExporter(AggregationTemporality.CUMULATIVE)
    const reader = new PeriodicExportingMetricReader({ exporter: metrics })
    const Telemetry = NodeSdk.layer(() => ({
      resource: { serviceName: "shop" },
      spanProcessor: new SimpleSpanProcessor(spans),
      metricReader: reader
    }))

    return Effect.gen(function*() {
      // When this has ended, the worker has stopped, and all spans are there.
      yield* once(article)
      yield* Effect.promise(() => reader.forceFlush())
      return {
        spans: spans.getFinishedSpans()
          .filter((span) => span.spanContext().traceId === CALLER.traceId)
          .sort((a, b) => a.startTime[0] - b.startTime[0] || a.startTime[1] - b.startTime[1]),
        metrics: metrics.getMetrics().at(-1)?.scopeMetrics.flatMap((scope) => scope.metrics) ?? []
      }
    }).pipe(Effect.provide(Telemetry))
  })

/** The shop is opened, asked, and closed when it has printed the receipt. */
const once = (article: string): Effect.Effect<void> =>
  Effect.gen(function*() {
    const printed = yield* Deferred.make<void>()
    const Program = Layer.mergeAll(
      HttpServer.serve(Shop.routes),
      Shop.worker(() => Effect.asVoid(Deferred.succeed(printed, undefined)))
    ).pipe(
      Layer.provideMerge(NodeHttpServer.layer(createServer, { port: 0, host: "127.0.0.1" })),
      Layer.provide(RedisTest),
      Layer.orDie
    )
    yield* Effect.gen(function*() {
      const { address } = yield* HttpServer.HttpServer
      const port = address._tag === "TcpAddress" ? address.port : 0
      yield* Effect.promise(() =>
        fetch(`http://127.0.0.1:${port}/orders/${article}`, {
          method: "POST",
          headers: { traceparent: `00-${CALLER.traceId}-${CALLER.spanId}-01`, connection: "close" }
        })
      )
      yield* Deferred.await(printed)
    }).pipe(Effect.provide(Program))
  })
