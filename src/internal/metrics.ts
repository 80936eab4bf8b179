/**
 * The metrics of the library, all named `effect_redis_*`. Updating one is an addition in memory; nothing is computed
 * until somebody reads them.
 */
import * as Metric from "effect/Metric"
import * as MetricBoundaries from "effect/MetricBoundaries"
import * as MetricKey from "effect/MetricKey"
import type * as MetricKeyType from "effect/MetricKeyType"
import * as MetricLabel from "effect/MetricLabel"

/**
 * With all tags in its key, because `Metric.tagged` joins tags and looks for the metric with every update.
 *
 * @internal
 */
export const tagged = <Type extends MetricKeyType.MetricKeyType<any, any>>(
  key: MetricKey.MetricKey<Type>,
  tags: Readonly<Record<string, string>>
): Metric.Metric<
  Type,
  MetricKeyType.MetricKeyType.InType<Type>,
  MetricKeyType.MetricKeyType.OutType<Type>
> =>
  Metric.fromMetricKey(
    MetricKey.taggedWithLabels(key, Object.entries(tags).map(([name, value]) => MetricLabel.make(name, value)))
  )

const commands = MetricKey.counter("effect_redis_commands_total", {
  description: "Commands issued, by outcome",
  incremental: true
})

/** @internal */
export const commandsOk = tagged(commands, { outcome: "ok" })

/** @internal */
export const commandsFailed = {
  RedisConnectionError: tagged(commands, { outcome: "connection_error" }),
  RedisTimeoutError: tagged(commands, { outcome: "timeout" }),
  RedisReplyError: tagged(commands, { outcome: "reply_error" }),
  RedisOutcomeUnknownError: tagged(commands, { outcome: "unknown" }),
  RedisDecodeError: tagged(commands, { outcome: "decode_error" }),
  RedisInputError: tagged(commands, { outcome: "input_error" })
} as const

/** @internal */
export const commandSeconds = Metric.histogram(
  "effect_redis_command_duration_seconds",
  MetricBoundaries.fromIterable([
    0.0001,
    0.00025,
    0.0005,
    0.001,
    0.0025,
    0.005,
    0.01,
    0.025,
    0.05,
    0.1,
    0.25,
    0.5,
    1,
    2.5,
    5
  ]),
  "From the moment a command is issued to its reply"
)

/** @internal */
export const connectionUp = Metric.gauge("effect_redis_connections_up", {
  description: "Shared command connections that are ready"
})

/** @internal */
export const reconnects = Metric.counter("effect_redis_reconnects_total", {
  description: "Connections made again after a loss",
  incremental: true
})

/** @internal */
export const subscriptionGaps = Metric.counter("effect_redis_subscription_gaps_total", {
  description: "Subscriptions that were told that messages may be missing after a lost connection",
  incremental: true
})

/** @internal */
export const messagesDropped = Metric.counter("effect_redis_messages_dropped_total", {
  description: "Messages dropped because a subscriber's buffer was full",
  incremental: true
})

/** @internal */
export const invalidationOutages = Metric.counter("effect_redis_invalidation_outages_total", {
  description: "Streams of invalidations that were told that invalidations may be missing",
  incremental: true
})

const lockAcquisitions = MetricKey.counter("effect_redis_lock_acquisitions_total", {
  description: "Attempts to take a lock that ended, by outcome",
  incremental: true
})

/** @internal */
export const lockAcquired = tagged(lockAcquisitions, { outcome: "acquired" })

/** @internal */
export const lockNotAcquired = tagged(lockAcquisitions, { outcome: "not_acquired" })

/** @internal */
export const lockWaitSeconds = Metric.histogram(
  "effect_redis_lock_wait_duration_seconds",
  MetricBoundaries.fromIterable([0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 10, 30, 60]),
  "How long those who got a lock had waited for it"
)

/** @internal */
export const locksLost = Metric.counter("effect_redis_locks_lost_total", {
  description: "Locks whose holder learnt that it no longer holds them",
  incremental: true
})

const openBreakers = MetricKey.gauge("effect_redis_breakers_open", {
  description: "Circuit breakers that keep calls from a server that does not answer, by what they protect"
})

/** @internal */
export const breakersOpen = (name: string) => tagged(openBreakers, { breaker: name })

/** @internal */
export const messageDecodeFailures = Metric.counter("effect_redis_message_decode_failures_total", {
  description: "Messages that a subscriber could not decode",
  incremental: true
})

/** @internal */
export const handlerFailures = Metric.counter("effect_redis_handler_failures_total", {
  description: "Messages whose handler failed",
  incremental: true
})
