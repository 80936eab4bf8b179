/**
 * Caches over Redis: typed values with a time to live, looked up once for all processes together, invalidated by key, by
 * tag or as a whole, and with a copy in the memory of each process that is never older than the server says.
 *
 * @since 0.1.0
 */
import * as Context from "effect/Context"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import { dual } from "effect/Function"
import * as Layer from "effect/Layer"
import type * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import * as Scope from "effect/Scope"
import type { RedisClient } from "../RedisClient.js"
import type { RedisError } from "../RedisError.js"
import { layer as testServer, type RedisTestServer } from "../RedisTestServer.js"
import type { CacheConflict, CacheLookupTimeout, CacheValueTooLarge } from "./CacheError.js"
import * as Handles from "./Handle.js"
import type { Fields, HashDefinition, HashHandle } from "./Hash.js"
import * as Hashes from "./Hash.js"
import type { Stats } from "./metrics.js"
import * as Shared from "./Shared.js"

// ---------------------------------------------------------------------------------------------------------------------
// Models
// ---------------------------------------------------------------------------------------------------------------------

export type { Fields, HashDefinition, HashHandle, HashRecord } from "./Hash.js"
export type { Stats } from "./metrics.js"

/**
 * How payloads are written, beyond JSON: compressed, or encrypted.
 *
 * @since 0.1.0
 * @category models
 */
export interface Codec {
  /** Nothing when the text is to be stored as it is. */
  readonly encode: (json: string) => Uint8Array | undefined
  /** It may throw: the entry then counts as missing. */
  readonly decode: (bytes: Uint8Array) => string
}

/**
 * @since 0.1.0
 * @category options
 */
export interface Options<in out K, in out A, in out E = never> {
  /** Names its keys on the server. */
  readonly name: string
  /** What it is asked by. A key that is encoded as a text is used as it is, any other one as JSON. */
  readonly key: Schema.Schema<K, any>
  /** What it keeps; stored as JSON. */
  readonly value: Schema.Schema<A, any>
  /**
   * How long an entry is fresh. Zero stores nothing, and `Duration.infinity` keeps it until it is removed or the server
   * needs the memory.
   */
  readonly ttl: Duration.DurationInput | ((value: A, key: K) => Duration.DurationInput)
  /** A copy in the memory of each process. */
  readonly near?: {
    /** How many entries at most; the least recently used go first. */
    readonly capacity: number
    /** How many bytes at most, counted as the server stores them. */
    readonly bytes?: number | undefined
    /** How long one is used; as long as it is fresh by default. */
    readonly ttl?: Duration.DurationInput | undefined
  } | undefined
  /**
   * How long an entry is kept after it was fresh. Within that time `getOrSet` gives it at once, and one caller of all
   * processes refreshes it. None by default.
   */
  readonly grace?: Duration.DurationInput | undefined
  /**
   * Refreshes an entry that is in use a little before it ends, the earlier the longer its lookup takes: with `beta` 1
   * (the default of `true`) about as much before as the lookup takes, more with more.
   */
  readonly earlyRefresh?: boolean | { readonly beta: number } | undefined
  /** Names for groups of entries, to invalidate them together. */
  readonly tags?: ((value: A, key: K) => ReadonlyArray<string>) | undefined
  /** Remembers for so long that a lookup found nothing, or failed with an error of this schema. */
  readonly negative?: {
    readonly ttl: Duration.DurationInput
    readonly error?: Schema.Schema<E, any> | undefined
  } | undefined
  /** Which part of the time to live is left to chance, from 0 to 1, so that entries do not end together. None by default. */
  readonly jitter?: number | undefined
  readonly codec?: Codec | undefined
  /** A larger entry is not stored. */
  readonly maxBytes?: number | undefined
  /** After a refresh began nobody else begins one for so long, so it is also the pause after a failure; 10 seconds. */
  readonly backoff?: Duration.DurationInput | undefined
  readonly lookupTimeout?: {
    /** How long `getOrSet` waits for a refresh before it gives what it has; not at all by default. */
    readonly soft?: Duration.DurationInput | undefined
    /** Then it fails with `CacheLookupTimeout`. The lookup goes on, and what it finds is stored. */
    readonly hard?: Duration.DurationInput | undefined
  } | undefined
  /**
   * For how long others wait for a lookup without a sign of life of its process; 10 seconds. It is renewed as long as the
   * lookup runs.
   */
  readonly lease?: Duration.DurationInput | undefined
  /**
   * What `getOrSet` does when the server can't be asked: give what is near, or else run the lookup (the default), or fail.
   */
  readonly onUnavailable?: "lookup" | "fail" | undefined
}

/**
 * A description of a cache: a plain value.
 *
 * @since 0.1.0
 * @category models
 */
export interface Definition<in out K, in out A, in out E = never> extends Options<K, A, E> {}

/**
 * @since 0.1.0
 * @category options
 */
export interface SetOptions {
  /** In place of that of the cache. */
  readonly ttl?: Duration.DurationInput | undefined
  /** In place of those of the cache. */
  readonly tags?: ReadonlyArray<string> | undefined
}

/**
 * What lookups of a cache can fail with besides their own errors.
 *
 * @since 0.1.0
 * @category errors
 */
export type CacheError = RedisError | CacheLookupTimeout

/**
 * A cache that is open. All who open the same one in a process share it.
 *
 * @since 0.1.0
 * @category models
 */
export interface Handle<in out K, in out A, in out E = never> {
  readonly name: string
  /** What is stored and fresh; with `stale`, also what is within its grace. */
  readonly get: (
    key: K,
    options?: { readonly stale?: boolean | undefined }
  ) => Effect.Effect<Option.Option<A>, RedisError>
  readonly has: (key: K) => Effect.Effect<boolean, RedisError>
  /**
   * What is stored, or else what the lookup finds. It runs once for all who ask at the same time, in all processes; they
   * all get its result. A `set`, `delete` or invalidation while it runs wins: what it finds is given to those who wait,
   * and not stored.
   *
   * It has the context of the caller that began it. Interrupting a caller hurts no other one, and interrupting the last
   * one interrupts it.
   */
  readonly getOrSet: <E2, R>(
    key: K,
    lookup: Effect.Effect<A, E2, R>
  ) => Effect.Effect<A, E | E2 | CacheError, R>
  /** The same for a lookup that may find nothing. With `negative` this is remembered as well. */
  readonly getOrSetOption: <E2, R>(
    key: K,
    lookup: Effect.Effect<Option.Option<A>, E2, R>
  ) => Effect.Effect<Option.Option<A>, E | E2 | CacheError, R>
  readonly set: (key: K, value: A, options?: SetOptions) => Effect.Effect<void, RedisError | CacheValueTooLarge>
  readonly delete: (key: K) => Effect.Effect<void, RedisError>
  /** Removes it, and gives it to one caller. */
  readonly take: (key: K) => Effect.Effect<Option.Option<A>, RedisError>
  /** One value for each key, in their order. One read for all of them, or on a Cluster for each slot. */
  readonly getMany: (keys: Iterable<K>) => Effect.Effect<Array<Option.Option<A>>, RedisError>
  /** One write for all of them. It is not atomic. */
  readonly setMany: (
    entries: Iterable<readonly [key: K, value: A, options?: SetOptions]>
  ) => Effect.Effect<void, RedisError | CacheValueTooLarge>
  readonly deleteMany: (keys: Iterable<K>) => Effect.Effect<void, RedisError>
  /** Invalidates every entry that has one of these tags, whatever their number. */
  readonly invalidateTags: (...tags: ReadonlyArray<string>) => Effect.Effect<void, RedisError>
  /** Invalidates every entry. They are invisible at once, and removed in the background. */
  readonly clear: Effect.Effect<void, RedisError>
  /**
   * Removes the entries whose encoded key matches a glob, and gives how many there were. It looks at every key of the
   * server: prefer tags.
   */
  readonly clearPattern: (pattern: string) => Effect.Effect<number, RedisError>
  /**
   * Adds to a number, and gives the sum. It gets its time to live with the first addition: that of the cache, if that is
   * no function. Numbers are apart from entries, and `clear` does not remove them.
   */
  readonly increment: (
    key: K,
    by?: number,
    options?: { readonly ttl?: Duration.DurationInput | undefined }
  ) => Effect.Effect<number, RedisError>
  readonly decrement: (
    key: K,
    by?: number,
    options?: { readonly ttl?: Duration.DurationInput | undefined }
  ) => Effect.Effect<number, RedisError>
  /** The number that is counted for a key. */
  readonly count: (key: K) => Effect.Effect<Option.Option<number>, RedisError>
  readonly resetCount: (key: K) => Effect.Effect<void, RedisError>
  /** What was counted since it was opened in this process. */
  readonly stats: Effect.Effect<Stats>
}

/**
 * @since 0.1.0
 * @category models
 */
export interface Service {
  /** Opens a cache, or gives the one that is open. Nothing is sent before it is used. */
  readonly open: <K, A, E>(
    definition: Definition<K, A, E>
  ) => Effect.Effect<Handle<K, A, E>, CacheConflict | RedisError>
  /** The same for objects with fields. */
  readonly openHash: <K, F extends Fields>(
    definition: HashDefinition<K, F>
  ) => Effect.Effect<HashHandle<K, F>, CacheConflict | RedisError>
}

/**
 * @since 0.1.0
 * @category tags
 */
export class Cache extends Context.Tag("effect-redis-kit/Cache")<Cache, Service>() {}

// ---------------------------------------------------------------------------------------------------------------------
// Errors
// ---------------------------------------------------------------------------------------------------------------------

export { CacheConflict, CacheLookupTimeout, CacheValueTooLarge } from "./CacheError.js"

// ---------------------------------------------------------------------------------------------------------------------
// Constructors
// ---------------------------------------------------------------------------------------------------------------------

/**
 * Describes a cache. Do it once, at the level of a module.
 *
 * @example
 * ```ts
 * import { Effect, Schema } from "effect"
 * import { Cache } from "effect-redis-kit"
 *
 * class User extends Schema.Class<User>("User")({ id: Schema.String, org: Schema.String }) {}
 *
 * const Users = Cache.define({
 *   name: "users",
 *   key: Schema.String,
 *   value: User,
 *   ttl: "1 hour",
 *   near: { capacity: 10_000 },
 *   grace: "1 day",
 *   tags: (user) => [`org:${user.org}`]
 * })
 *
 * declare const fetchUser: (id: string) => Effect.Effect<User, "unknown user">
 *
 * const program = Effect.gen(function*() {
 *   const users = yield* Cache.open(Users)
 *   const ada = yield* users.getOrSet("ada", fetchUser("ada"))
 *   yield* users.invalidateTags(`org:${ada.org}`)
 * })
 * ```
 *
 * @since 0.1.0
 * @category constructors
 */
export const define = <K, A, E = never>(options: Options<K, A, E>): Definition<K, A, E> => options

/**
 * Describes a cache of objects whose fields are read and written one by one. It costs about twice the memory of a cache of
 * whole values, and has neither tags, near copies nor lookups.
 *
 * @example
 * ```ts
 * import { Effect, Schema } from "effect"
 * import { Cache } from "effect-redis-kit"
 *
 * const Profiles = Cache.defineHash({
 *   name: "profiles",
 *   key: Schema.String,
 *   fields: { name: Schema.String, visits: Schema.Number },
 *   ttl: "1 day"
 * })
 *
 * const program = Effect.gen(function*() {
 *   const profiles = yield* Cache.openHash(Profiles)
 *   yield* profiles.set("ada", { name: "Ada", visits: 1 })
 *   return yield* profiles.getField("ada", "visits")
 * })
 * ```
 *
 * @since 0.1.0
 * @category constructors
 */
export const defineHash = <K, const F extends Fields>(options: HashDefinition<K, F>): HashDefinition<K, F> => options

/**
 * A cache of whatever JSON can hold, without a schema: what comes back is believed to be an `A`.
 *
 * @example
 * ```ts
 * import { Cache } from "effect-redis-kit"
 *
 * const Rates = Cache.json<{ readonly usd: number }>({ name: "rates", ttl: "5 minutes" })
 * ```
 *
 * @since 0.1.0
 * @category constructors
 */
export const json = <A>(options: Omit<Options<string, A>, "key" | "value">): Definition<string, A> => ({
  ...options,
  key: Schema.String,
  value: Schema.Any as Schema.Schema<A, any>
})

/**
 * Caches over the client of the environment. What they listen to and their background work belong to the scope.
 *
 * @since 0.1.0
 * @category constructors
 */
export const make: Effect.Effect<Service, never, RedisClient | Scope.Scope> = Effect.map(Shared.make, (shared) => {
  const opened = Shared.memo<Definition<any, any, any>, Handle<any, any, any>>()
  const openedHashes = Shared.memo<HashDefinition<any, any>, HashHandle<any, any>>()
  return {
    openHash: <K, F extends Fields>(definition: HashDefinition<K, F>) =>
      openedHashes(definition, () => Hashes.make(shared, definition)) as Effect.Effect<
        HashHandle<K, F>,
        CacheConflict | RedisError
      >,
    open: <K, A, E>(definition: Definition<K, A, E>) =>
      opened(definition, () => Scope.extend(Handles.make(shared, definition), shared.scope)) as Effect.Effect<
        Handle<K, A, E>,
        CacheConflict | RedisError
      >
  }
})

// ---------------------------------------------------------------------------------------------------------------------
// Layers
// ---------------------------------------------------------------------------------------------------------------------

/**
 * @since 0.1.0
 * @category layers
 */
export const layer: Layer.Layer<Cache, never, RedisClient> = Layer.scoped(Cache, make)

/**
 * Caches on a server in memory, with the server and its client beside it.
 *
 * @since 0.1.0
 * @category layers
 */
export const layerTest: Layer.Layer<Cache | RedisClient | RedisTestServer> = Layer.provideMerge(layer, testServer)

// ---------------------------------------------------------------------------------------------------------------------
// Accessors
// ---------------------------------------------------------------------------------------------------------------------

/**
 * Opens a cache, or gives the one that is open. All who open the same definition share one, with what it has near. The
 * same name with other options fails with `CacheConflict`.
 *
 * @since 0.1.0
 * @category accessors
 */
export const open = <K, A, E>(
  definition: Definition<K, A, E>
): Effect.Effect<Handle<K, A, E>, CacheConflict | RedisError, Cache> =>
  Effect.flatMap(Cache, (service) => service.open(definition))

/**
 * Opens a cache of objects with fields, or gives the one that is open.
 *
 * @since 0.1.0
 * @category accessors
 */
export const openHash = <K, F extends Fields>(
  definition: HashDefinition<K, F>
): Effect.Effect<HashHandle<K, F>, CacheConflict | RedisError, Cache> =>
  Effect.flatMap(Cache, (service) => service.openHash(definition))

// ---------------------------------------------------------------------------------------------------------------------
// Combinators
// ---------------------------------------------------------------------------------------------------------------------

/**
 * Looks in a cache before it runs an effect, and stores what that finds: `getOrSet` as a combinator.
 *
 * @example
 * ```ts
 * import { Effect, Schema } from "effect"
 * import { Cache } from "effect-redis-kit"
 *
 * const Totals = Cache.define({ name: "totals", key: Schema.Number, value: Schema.Number, ttl: "1 minute" })
 *
 * declare const sumUp: (year: number) => Effect.Effect<number>
 *
 * const total = (year: number) => sumUp(year).pipe(Cache.cached(Totals, year))
 * ```
 *
 * @since 0.1.0
 * @category combinators
 */
export const cached: {
  <K, A, E = never>(
    cache: Definition<K, A, E>,
    key: NoInfer<K>
  ): <E2, R>(effect: Effect.Effect<A, E2, R>) => Effect.Effect<A, E | E2 | CacheError | CacheConflict, R | Cache>
  <A, E2, R, K, E = never>(
    effect: Effect.Effect<A, E2, R>,
    cache: Definition<K, A, E>,
    key: NoInfer<K>
  ): Effect.Effect<A, E | E2 | CacheError | CacheConflict, R | Cache>
} = dual(
  3,
  <A, E2, R, K, E>(effect: Effect.Effect<A, E2, R>, cache: Definition<K, A, E>, key: K) =>
    Effect.flatMap(open(cache), (cache) => cache.getOrSet(key, effect))
)
