/**
 * How locks fail, of whatever kind.
 *
 * @since 0.1.0
 */
import * as Duration from "effect/Duration"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"

/**
 * Somebody else holds the lock: at this moment (`reason` is `"held"`), or for all of the time that was allowed for
 * waiting (`"timeout"`). `holder` and `remaining` are what the server last said of the present holder and its lease. Or
 * nobody holds it, but fewer replicas than demanded acknowledged it in time (`"replicas"`), and it was given back.
 *
 * @since 0.1.0
 * @category errors
 */
export class LockNotAcquired extends Schema.TaggedError<LockNotAcquired>("effect-redis-kit/Lock/LockNotAcquired")(
  "LockNotAcquired",
  {
    key: Schema.String,
    reason: Schema.Literal("held", "timeout", "replicas"),
    holder: Schema.Option(Schema.String),
    remaining: Schema.Option(Schema.Duration),
    waited: Schema.Duration,
    /** How many replicas acknowledged it, when they were asked. */
    acknowledged: Schema.Option(Schema.Number)
  }
) {
  /** @since 0.1.0 */
  override get message(): string {
    switch (this.reason) {
      case "held":
        return `the lock "${this.key}" is held by somebody else`
      case "timeout":
        return `the lock "${this.key}" did not become free within ${Duration.format(this.waited)}`
      case "replicas":
        return `the lock "${this.key}" was acknowledged by ${
          Option.getOrElse(this.acknowledged, () => 0)
        } replicas only`
    }
  }
}

/**
 * The holder does not hold the lock any more: its lease ended before it could be renewed (`"expired"`), or the server
 * says that somebody else holds the lock or nobody does (`"taken"`).
 *
 * @since 0.1.0
 * @category errors
 */
export class LockLost extends Schema.TaggedError<LockLost>("effect-redis-kit/Lock/LockLost")("LockLost", {
  key: Schema.String,
  fencingToken: Schema.Number,
  reason: Schema.Literal("expired", "taken")
}) {
  /** @since 0.1.0 */
  override get message(): string {
    return `the lock "${this.key}" was lost: ${
      this.reason === "expired" ? "its lease ended before it could be renewed" : "it is not this holder's any more"
    }`
  }
}

/**
 * A write with a token smaller than one that has written already: whoever made it has lost the lock since.
 *
 * @since 0.1.0
 * @category errors
 */
export class FencingTokenRejected extends Schema.TaggedError<FencingTokenRejected>(
  "effect-redis-kit/Lock/FencingTokenRejected"
)("FencingTokenRejected", {
  key: Schema.String,
  fencingToken: Schema.Number,
  latest: Schema.Number
}) {
  /** @since 0.1.0 */
  override get message(): string {
    return `"${this.key}" was written with a newer fencing token (${this.latest}) than ${this.fencingToken}`
  }
}
