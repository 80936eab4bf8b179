import * as MetricKey from "effect/MetricKey"
import { tagged } from "../internal/metrics.js"

const changes = MetricKey.counter("effect_redis_sessions_total", {
  description: "What became of sessions, as far as this process did it",
  incremental: true
})

export const created = tagged(changes, { event: "created" })
export const evicted = tagged(changes, { event: "evicted" })
export const rejected = tagged(changes, { event: "rejected" })
export const rotated = tagged(changes, { event: "rotated" })
export const deleted = tagged(changes, { event: "deleted" })
export const expired = tagged(changes, { event: "expired" })

const lookups = MetricKey.counter("effect_redis_session_lookups_total", {
  description: "Sessions that were asked for by their token",
  incremental: true
})

export const found = tagged(lookups, { outcome: "found" })
export const notFound = tagged(lookups, { outcome: "not_found" })
export const mismatched = tagged(lookups, { outcome: "fingerprint_mismatch" })
