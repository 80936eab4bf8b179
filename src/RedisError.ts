/**
 * What can go wrong between this library and a Redis server, as data.
 *
 * Every member has its own `_tag`, so that `Effect.catchTag` tells them apart, and carries what a caller needs to act.
 * No member ever carries a password, a payload or an argument of a command.
 *
 * @since 0.1.0
 */
import * as Predicate from "effect/Predicate"
import * as Schema from "effect/Schema"

/**
 * @since 0.1.0
 * @category type ids
 */
export const TypeId: unique symbol = Symbol.for("effect-redis-kit/RedisError")

/**
 * @since 0.1.0
 * @category type ids
 */
export type TypeId = typeof TypeId

/**
 * The server could not be reached: connection refused, unknown host, wrong password, or the connection was down for as
 * long as the command was allowed to wait. **The command was certainly not executed.**
 *
 * `target` is the address without user and password. `reason` names what failed:
 *
 * - `"connect"`: the server refused, could not be found, or did not answer within the connect timeout
 * - `"auth"`: the server refused the user name, the password, or demands one
 * - `"unavailable"`: no connection became ready within the command's deadline
 * - `"closed"`: the client was closed
 *
 * @since 0.1.0
 * @category errors
 */
export class RedisConnectionError extends Schema.TaggedError<RedisConnectionError>(
  "effect-redis-kit/RedisError/RedisConnectionError"
)("RedisConnectionError", {
  target: Schema.String,
  reason: Schema.Literal("connect", "auth", "unavailable", "closed"),
  detail: Schema.String
}) {
  /** @since 0.1.0 */
  readonly [TypeId]: TypeId = TypeId
  /**
   * Whether the same call may succeed when it is made again.
   *
   * @since 0.1.0
   */
  get isRetryable(): boolean {
    return this.reason === "connect" || this.reason === "unavailable"
  }
  /** @since 0.1.0 */
  override get message(): string {
    return `${this.target}: ${this.detail}`
  }
}

/**
 * No reply within the deadline to a command that changes nothing, so it may be repeated without harm.
 *
 * `timeout` is the deadline in milliseconds, counted from the moment the command was issued.
 *
 * @since 0.1.0
 * @category errors
 */
export class RedisTimeoutError extends Schema.TaggedError<RedisTimeoutError>(
  "effect-redis-kit/RedisError/RedisTimeoutError"
)("RedisTimeoutError", {
  target: Schema.String,
  command: Schema.String,
  timeout: Schema.Number
}) {
  /** @since 0.1.0 */
  readonly [TypeId]: TypeId = TypeId
  /** @since 0.1.0 */
  get isRetryable(): boolean {
    return true
  }
  /** @since 0.1.0 */
  override get message(): string {
    return `${this.target}: ${this.command} got no reply within ${this.timeout} ms`
  }
}

const retryableCodes: ReadonlySet<string> = new Set([
  "LOADING",
  "READONLY",
  "TRYAGAIN",
  "CLUSTERDOWN",
  "MASTERDOWN",
  "BUSY",
  "NOREPLICAS"
])

/**
 * The server answered with an error. `code` is its first word (`WRONGTYPE`, `NOSCRIPT`, `OOM`, `ERR`, …) and `reply` the
 * whole text. The command had no effect, except that a failing script keeps the writes it made before it failed.
 *
 * @since 0.1.0
 * @category errors
 */
export class RedisReplyError extends Schema.TaggedError<RedisReplyError>(
  "effect-redis-kit/RedisError/RedisReplyError"
)("RedisReplyError", {
  command: Schema.String,
  code: Schema.String,
  reply: Schema.String
}) {
  /** @since 0.1.0 */
  readonly [TypeId]: TypeId = TypeId
  /**
   * `true` for the states that a server leaves by itself: loading, failing over, busy with a script.
   *
   * @since 0.1.0
   */
  get isRetryable(): boolean {
    return retryableCodes.has(this.code)
  }
  /** @since 0.1.0 */
  override get message(): string {
    return `${this.command}: ${this.reply}`
  }
}

/**
 * The command was sent and no reply came back, so **it may or may not have been executed**. It is never sent again by
 * the library, except when it is marked idempotent.
 *
 * `reason` is `"timeout"` when the deadline passed and `"disconnected"` when the connection broke. It is `"partial"` when
 * it was split over several nodes of a Cluster, and some of them executed their part while others did not.
 *
 * @since 0.1.0
 * @category errors
 */
export class RedisOutcomeUnknownError extends Schema.TaggedError<RedisOutcomeUnknownError>(
  "effect-redis-kit/RedisError/RedisOutcomeUnknownError"
)("RedisOutcomeUnknownError", {
  target: Schema.String,
  command: Schema.String,
  reason: Schema.Literal("timeout", "disconnected", "partial")
}) {
  /** @since 0.1.0 */
  readonly [TypeId]: TypeId = TypeId
  /** @since 0.1.0 */
  get isRetryable(): boolean {
    return false
  }
  /** @since 0.1.0 */
  override get message(): string {
    return `${this.target}: ${this.command} was sent, but ${
      this.reason === "timeout"
        ? "no reply came in time; it may have been executed"
        : this.reason === "disconnected"
        ? "the connection broke before the reply; it may have been executed"
        : "not to every node; a part of it may have been executed"
    }`
  }
}

/**
 * A reply had another shape than the command promises, for example from a script or a proxy. `detail` describes the
 * shape and never contains the data.
 *
 * @since 0.1.0
 * @category errors
 */
export class RedisDecodeError extends Schema.TaggedError<RedisDecodeError>(
  "effect-redis-kit/RedisError/RedisDecodeError"
)("RedisDecodeError", {
  command: Schema.String,
  detail: Schema.String
}) {
  /** @since 0.1.0 */
  readonly [TypeId]: TypeId = TypeId
  /** @since 0.1.0 */
  get isRetryable(): boolean {
    return false
  }
  /** @since 0.1.0 */
  override get message(): string {
    return `${this.command}: unexpected reply, ${this.detail}`
  }
}

/**
 * An argument is not acceptable. Nothing was sent.
 *
 * @since 0.1.0
 * @category errors
 */
export class RedisInputError extends Schema.TaggedError<RedisInputError>(
  "effect-redis-kit/RedisError/RedisInputError"
)("RedisInputError", {
  operation: Schema.String,
  field: Schema.String,
  expected: Schema.String,
  actual: Schema.String
}) {
  /** @since 0.1.0 */
  readonly [TypeId]: TypeId = TypeId
  /** @since 0.1.0 */
  get isRetryable(): boolean {
    return false
  }
  /** @since 0.1.0 */
  override get message(): string {
    return `${this.operation}: ${this.field} must be ${this.expected}, but it is ${this.actual}`
  }
}

/**
 * @since 0.1.0
 * @category schemas
 */
export const RedisError = Schema.Union(
  RedisConnectionError,
  RedisTimeoutError,
  RedisReplyError,
  RedisOutcomeUnknownError,
  RedisDecodeError,
  RedisInputError
)

/**
 * Everything that a call to Redis can fail with.
 *
 * @since 0.1.0
 * @category errors
 */
export type RedisError =
  | RedisConnectionError
  | RedisTimeoutError
  | RedisReplyError
  | RedisOutcomeUnknownError
  | RedisDecodeError
  | RedisInputError

/**
 * @since 0.1.0
 * @category refinements
 */
export const isRedisError = (u: unknown): u is RedisError => Predicate.hasProperty(u, TypeId)
