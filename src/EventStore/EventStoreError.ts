/**
 * What can be wrong with events.
 */
import * as Schema from "effect/Schema"

/**
 * Whose history it is: its type, also called category, and its id.
 *
 * @since 0.1.0
 * @category schemas
 */
export const Aggregate = Schema.Struct({ type: Schema.String, id: Schema.String })

/**
 * @since 0.1.0
 * @category models
 */
export type Aggregate = typeof Aggregate.Type

/**
 * What must be true of an aggregate for events to be appended to it:
 *
 * - a number: it has exactly so many events
 * - `"no-stream"`: it has none, the same as 0
 * - `"exists"`: it has some
 * - `"any"`: nothing
 *
 * @since 0.1.0
 * @category schemas
 */
export const ExpectedVersion = Schema.Union(Schema.Literal("any", "no-stream", "exists"), Schema.NonNegativeInt)

/**
 * @since 0.1.0
 * @category models
 */
export type ExpectedVersion = typeof ExpectedVersion.Type

const nameOf = ({ id, type }: Aggregate): string => `"${type}" "${id}"`

/**
 * The aggregate is not at the version that was expected: somebody else has written to it meanwhile. Nothing was written.
 *
 * `actual` is the version of its last event, and 0 when it has none. With `"any"` it says that the id of the append was
 * used before for other events.
 *
 * @since 0.1.0
 * @category errors
 */
export class VersionConflict extends Schema.TaggedError<VersionConflict>("effect-redis-kit/EventStore/VersionConflict")(
  "VersionConflict",
  {
    store: Schema.String,
    aggregate: Aggregate,
    expected: ExpectedVersion,
    actual: Schema.Number
  }
) {
  /** @since 0.1.0 */
  override get message(): string {
    return `${nameOf(this.aggregate)} of "${this.store}" is at version ${this.actual}, and not ${this.expected}`
  }
}

/**
 * An event can't be read: it does not fit the schema, was written by a later release, or is gone. Nothing is passed over
 * in silence: whoever wants to go on behind it says so, by its `version` or its `position`.
 *
 * `detail` says where it does not fit, and never contains data.
 *
 * @since 0.1.0
 * @category errors
 */
export class EventDecodeError extends Schema.TaggedError<EventDecodeError>(
  "effect-redis-kit/EventStore/EventDecodeError"
)("EventDecodeError", {
  store: Schema.String,
  aggregate: Aggregate,
  version: Schema.Number,
  partition: Schema.Number,
  /** Empty when the event does not say so itself. */
  position: Schema.String,
  /** Empty when it can't be told. */
  type: Schema.String,
  detail: Schema.String
}) {
  /** @since 0.1.0 */
  override get message(): string {
    return `event ${this.version} of ${nameOf(this.aggregate)} of "${this.store}" can't be read: ${this.detail}`
  }
}

/**
 * The store was made with another number of partitions. With this one, aggregates would be looked for where they are not.
 *
 * @since 0.1.0
 * @category errors
 */
export class PartitionsMismatch extends Schema.TaggedError<PartitionsMismatch>(
  "effect-redis-kit/EventStore/PartitionsMismatch"
)("PartitionsMismatch", {
  store: Schema.String,
  expected: Schema.Number,
  actual: Schema.Number
}) {
  /** @since 0.1.0 */
  override get message(): string {
    return `"${this.store}" has ${this.actual} partitions, and not ${this.expected}: that can't be changed`
  }
}
