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

const waits = MetricKey.histogram(
  "effect_redis_queue_wait_duration_seconds",
  MetricBoundaries.fromIterable([0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 10, 30, 60, 300, 1800, 7200, 86_400]),
  "From the moment a job may start to the start of its first attempt, by the clocks of its producer and its worker"
)

const byOutcome = (tags: Readonly<Record<string, string>>) => ({
  completed: tagged(jobs, { ...tags, outcome: "completed" }),
  retried: tagged(jobs, { ...tags, outcome: "retried" }),
  dead: tagged(jobs, { ...tags, outcome: "dead" }),
  released: tagged(jobs, { ...tags, outcome: "released" }),
  lost: tagged(jobs, { ...tags, outcome: "lost" }),
  seconds: tagged(seconds, tags),
  wait: tagged(waits, tags)
})

const fired = MetricKey.counter("effect_redis_queue_schedules_fired_total", {
  description: "Slots of schedules that this process has fired",
  incremental: true
})

export const firedBy = (queue: string) => tagged(fired, { queue })

export type OfWorker = ReturnType<typeof byOutcome>

/** How many types of jobs a queue has at most. Whoever reads metrics keeps a series for each. */
const MOST_TYPES = 100

/**
 * The metrics of a worker by the types of its jobs, and those of jobs whose type is not known: such as were not started.
 * Without types there is no such tag.
 */
export const ofWorker = (queue: string, types: ReadonlyArray<string> = []) => {
  const others = byOutcome(types.length === 0 ? { queue } : { queue, type: "other" })
  const known = new Map(types.slice(0, MOST_TYPES).map((type) => [type, byOutcome({ queue, type })]))
  return {
    others,
    of: (type: string | undefined): OfWorker => type === undefined ? others : known.get(type) ?? others
  }
}
