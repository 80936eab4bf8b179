/**
 * How a rate limit says no, for those who want it as a failure.
 */
import * as Duration from "effect/Duration"
import * as Schema from "effect/Schema"

/**
 * The limit is used up. `key` is the identifier and `policy` the limit that refuses for longest; the other fields are
 * those of the decision.
 *
 * @since 0.1.0
 * @category errors
 */
export class RateLimitExceeded extends Schema.TaggedError<RateLimitExceeded>(
  "effect-redis-kit/RateLimiter/RateLimitExceeded"
)("RateLimitExceeded", {
  key: Schema.String,
  policy: Schema.String,
  limit: Schema.Number,
  remaining: Schema.Number,
  retryAfter: Schema.Duration,
  resetAfter: Schema.Duration,
  satisfiable: Schema.Boolean
}) {
  /** @since 0.1.0 */
  override get message(): string {
    return `the limit "${this.policy}" (${this.limit}) refuses "${this.key}"${
      this.satisfiable ? ` for ${Duration.format(this.retryAfter)}` : ": it asks for more than there ever is"
    }`
  }
}
