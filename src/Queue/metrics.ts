/**
 * What queues count.
 */
import * as MetricBoundaries from "effect/MetricBoundaries"
import * as MetricKey from "effect/MetricKey"
import { tagged } from "../internal/metrics.js"

const enqueued = MetricKey.counter("effect_redis_queue_enqueued_total", {
  description: "Jobs that were enqueued, without those that were dropped as duplicates",
  incremental: true
})

export const enqueuedTo = (queue: string) => tagged(enqueued, { queue })

const jobs = MetricKey.counter("effect_redis_queue_attempts_total", {
  description: "Attempts that ended, by outcome",
  incremental: true
})

const seconds = MetricKey.histogram(
  "effect_redis_queue_attempt_duration_seconds",
  MetricBoundaries.fromIterable([0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 10, 30, 60, 300, 1800]),
  "From the start of a handler to its end"
)

export const ofWorker = (queue: string) => ({
  completed: tagged(jobs, { queue, outcome: "completed" }),
  retried: tagged(jobs, { queue, outcome: "retried" }),
  dead: tagged(jobs, { queue, outcome: "dead" }),
  released: tagged(jobs, { queue, outcome: "released" }),
  lost: tagged(jobs, { queue, outcome: "lost" }),
  seconds: tagged(seconds, { queue })
})

const fired = MetricKey.counter("effect_redis_queue_schedules_fired_total", {
  description: "Slots of schedules that this process has fired",
  incremental: true
})

export const firedBy = (queue: string) => tagged(fired, { queue })
