/**
 * What can go wrong with jobs, as data.
 */
import * as Data from "effect/Data"
import * as Duration from "effect/Duration"
import * as Schema from "effect/Schema"

/**
 * The queue has as many jobs as it takes. Nothing was added.
 *
 * @since 0.1.0
 * @category errors
 */
export class QueueFull extends Schema.TaggedError<QueueFull>("effect-redis-kit/Queue/QueueFull")("QueueFull", {
  queue: Schema.String,
  maxSize: Schema.Number
}) {
  /** @since 0.1.0 */
  override get message(): string {
    return `the queue "${this.queue}" takes no more than ${this.maxSize} jobs`
  }
}

/**
 * The payload has more bytes than the queue takes. Nothing was sent.
 *
 * @since 0.1.0
 * @category errors
 */
export class PayloadTooLarge extends Schema.TaggedError<PayloadTooLarge>("effect-redis-kit/Queue/PayloadTooLarge")(
  "PayloadTooLarge",
  { queue: Schema.String, size: Schema.Number, maxPayload: Schema.Number }
) {
  /** @since 0.1.0 */
  override get message(): string {
    return `a payload of ${this.size} bytes is more than the ${this.maxPayload} that the queue "${this.queue}" takes`
  }
}

/**
 * An attempt took longer than it may. It is what `backoff` gets.
 *
 * @since 0.1.0
 * @category errors
 */
export class JobTimedOut extends Schema.TaggedError<JobTimedOut>("effect-redis-kit/Queue/JobTimedOut")("JobTimedOut", {
  queue: Schema.String,
  id: Schema.String,
  timeout: Schema.Number
}) {
  /** @since 0.1.0 */
  override get message(): string {
    return `the job ${this.id} of the queue "${this.queue}" took longer than ${this.timeout} ms`
  }
}

/**
 * A handler gave what is no `result` of its queue, or too much of it: its attempt has failed. It is what `backoff` gets.
 *
 * @since 0.1.0
 * @category errors
 */
export class JobResultInvalid
  extends Schema.TaggedError<JobResultInvalid>("effect-redis-kit/Queue/JobResultInvalid")("JobResultInvalid", {
    queue: Schema.String,
    id: Schema.String,
    detail: Schema.String
  })
{
  /** @since 0.1.0 */
  override get message(): string {
    return `the result of the job ${this.id} of the queue "${this.queue}" is none: ${this.detail}`
  }
}

/**
 * A handler fails with it to say that no further attempt makes sense: the job becomes a dead letter at once.
 *
 * @since 0.1.0
 * @category errors
 */
export class Unrecoverable<out E> extends Data.TaggedError("Unrecoverable")<{ readonly error: E }> {}

/**
 * A handler fails with it to be called again after a while. That is no failed attempt.
 *
 * @since 0.1.0
 * @category errors
 */
export class Postponed extends Data.TaggedError("Postponed")<{ readonly delay: Duration.Duration }> {}

/**
 * Ends a job with a dead letter, whatever attempts are left.
 *
 * @example
 * ```ts
 * import { Effect } from "effect"
 * import { Queue } from "effect-redis-kit"
 *
 * const charge = (card: string) =>
 *   card.length === 16 ? Effect.log("charged") : Effect.fail(Queue.unrecoverable("no such card"))
 * ```
 *
 * @since 0.1.0
 * @category errors
 */
export const unrecoverable = <E>(error: E): Unrecoverable<E> => new Unrecoverable({ error })

/**
 * Ends an attempt without counting it: the job comes again after a while, or at once when that is zero.
 *
 * @example
 * ```ts
 * import { Effect } from "effect"
 * import { Queue } from "effect-redis-kit"
 *
 * const send = (busy: boolean) => busy ? Effect.fail(Queue.postpone("30 seconds")) : Effect.log("sent")
 * ```
 *
 * @since 0.1.0
 * @category errors
 */
export const postpone = (delay: Duration.DurationInput): Postponed => new Postponed({ delay: Duration.decode(delay) })
