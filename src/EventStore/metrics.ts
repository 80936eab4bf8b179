/**
 * What is counted about event stores.
 */
import * as Metric from "effect/Metric"
import * as MetricKey from "effect/MetricKey"
import { tagged } from "../internal/metrics.js"

const appends = MetricKey.counter("effect_redis_event_store_appends_total", {
  description: "Appends to event stores, by outcome",
  incremental: true
})

export const appended = tagged(appends, { outcome: "appended" })
export const duplicate = tagged(appends, { outcome: "duplicate" })
export const conflict = tagged(appends, { outcome: "conflict" })

export const eventsAppended = Metric.counter("effect_redis_event_store_events_total", {
  description: "Events appended to event stores",
  incremental: true
})

const handled = MetricKey.counter("effect_redis_projection_events_total", {
  description: "Events that projections of this process have handled",
  incremental: true
})

const behind = MetricKey.gauge("effect_redis_projection_delay_seconds", {
  description: "How old the event was that a projection has handled last, at that moment"
})

export const projectionOf = (store: string, projection: string, partition: number) => {
  const tags = { store, projection, partition: String(partition) }
  return { handled: tagged(handled, tags), delay: tagged(behind, tags) }
}
