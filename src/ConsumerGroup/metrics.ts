import * as MetricKey from "effect/MetricKey"
import { tagged } from "../internal/metrics.js"

const entries = MetricKey.counter("effect_redis_stream_entries_total", {
  description: "What became of entries that were given to a worker",
  incremental: true
})

export const handled = tagged(entries, { outcome: "handled" })
export const failed = tagged(entries, { outcome: "failed" })
export const deadLettered = tagged(entries, { outcome: "dead_lettered" })
export const takenOver = tagged(entries, { outcome: "taken_over" })
export const released = tagged(entries, { outcome: "released" })
export const trimmed = tagged(entries, { outcome: "trimmed" })

const lags = MetricKey.gauge("effect_redis_stream_lag", {
  description: "Entries that were not given to any consumer of a group yet"
})

const pendings = MetricKey.gauge("effect_redis_stream_pending", {
  description: "Entries that were given to consumers of a group and are not acknowledged"
})

export const lagOf = (stream: string, group: string) => tagged(lags, { stream, group })
export const pendingOf = (stream: string, group: string) => tagged(pendings, { stream, group })
