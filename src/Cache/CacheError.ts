import * as Schema from "effect/Schema"

/**
 * A cache of this name is open with other options.
 *
 * @since 0.1.0
 * @category errors
 */
export class CacheConflict extends Schema.TaggedError<CacheConflict>("effect-redis-kit/Cache/CacheConflict")(
  "CacheConflict",
  { name: Schema.String }
) {
  /** @since 0.1.0 */
  override get message(): string {
    return `the cache "${this.name}" is open with other options`
  }
}

/**
 * A lookup took longer than `lookupTimeout.hard`. It goes on, and what it finds is stored. `timeout` is in milliseconds.
 *
 * @since 0.1.0
 * @category errors
 */
export class CacheLookupTimeout extends Schema.TaggedError<CacheLookupTimeout>(
  "effect-redis-kit/Cache/CacheLookupTimeout"
)("CacheLookupTimeout", { name: Schema.String, timeout: Schema.Number }) {
  /** @since 0.1.0 */
  override get message(): string {
    return `a lookup of the cache "${this.name}" took longer than ${this.timeout} ms`
  }
}

/**
 * An entry is larger than `maxBytes` allows. Nothing was stored.
 *
 * @since 0.1.0
 * @category errors
 */
export class CacheValueTooLarge extends Schema.TaggedError<CacheValueTooLarge>(
  "effect-redis-kit/Cache/CacheValueTooLarge"
)("CacheValueTooLarge", { name: Schema.String, bytes: Schema.Number, maxBytes: Schema.Number }) {
  /** @since 0.1.0 */
  override get message(): string {
    return `an entry of ${this.bytes} bytes is too large for the cache "${this.name}", which takes ${this.maxBytes}`
  }
}
