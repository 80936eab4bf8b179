/**
 * Tells every process to forget what it keeps of its own: by key, by glob, by tag, or all of it.
 *
 * A message can be missed while a connection is down. Whoever listens here then forgets everything, so that nothing out
 * of date stays for longer than the connection was away.
 *
 * @since 0.1.0
 */
import * as Cache from "effect/Cache"
import * as Context from "effect/Context"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Schema from "effect/Schema"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import { matchesGlob } from "../internal/glob.js"
import { checkKey, inputError } from "../internal/input.js"
import { handlerFailures } from "../internal/metrics.js"
import type { RedisClient } from "../RedisClient.js"
import type { RedisError, RedisInputError } from "../RedisError.js"
import type { RedisTestServer } from "../RedisTestServer.js"
import * as PubSub from "./PubSub.js"

// ---------------------------------------------------------------------------------------------------------------------
// Models
// ---------------------------------------------------------------------------------------------------------------------

const Names = Schema.optional(Schema.Array(Schema.String))

/**
 * @since 0.1.0
 * @category schemas
 */
export const Invalidation = Schema.Struct({
  keys: Names,
  patterns: Names,
  tags: Names,
  all: Schema.optional(Schema.Boolean)
})

/**
 * What to forget: keys, keys that match a glob as Redis does it (`user:*`), what has a tag, or everything.
 *
 * @since 0.1.0
 * @category models
 */
export interface Invalidation {
  readonly keys?: ReadonlyArray<string> | undefined
  readonly patterns?: ReadonlyArray<string> | undefined
  readonly tags?: ReadonlyArray<string> | undefined
  readonly all?: boolean | undefined
}

/**
 * Something that processes keep copies of.
 *
 * @since 0.1.0
 * @category models
 */
export interface Definition {
  readonly name: string
  /** Where it is told. */
  readonly channel: PubSub.Channel<Invalidation, "envelope">
}

/**
 * Forgets. Where `patterns` or `tags` are left out, such an invalidation is one of everything, and so is one that fails.
 *
 * @since 0.1.0
 * @category models
 */
export interface Handler<out E = never, out R = never> {
  readonly keys: (keys: ReadonlyArray<string>) => Effect.Effect<unknown, E, R>
  readonly patterns?: ((patterns: ReadonlyArray<string>) => Effect.Effect<unknown, E, R>) | undefined
  readonly tags?: ((tags: ReadonlyArray<string>) => Effect.Effect<unknown, E, R>) | undefined
  readonly all: Effect.Effect<unknown, E, R>
}

/**
 * @since 0.1.0
 * @category models
 */
export interface ListenOptions {
  /** Leaves out what this process has told itself, where it forgets on its own. */
  readonly skipOwn?: boolean | undefined
}

/**
 * @since 0.1.0
 * @category models
 */
export interface Service {
  /** Tells every process, this one too, with one message. Returns how many subscribers it reached. */
  readonly invalidate: (definition: Definition, what: Invalidation) => Effect.Effect<number, RedisError>
  /** Forgets whatever it is told, for as long as the scope is open. See `listen`. */
  readonly listen: <E, R>(
    definition: Definition,
    handler: Handler<E, R>,
    options?: ListenOptions
  ) => Effect.Effect<void, RedisError, R | Scope.Scope>
}

/**
 * @since 0.1.0
 * @category tags
 */
export class CacheInvalidator extends Context.Tag("effect-redis-kit/CacheInvalidator")<CacheInvalidator, Service>() {}

// ---------------------------------------------------------------------------------------------------------------------
// Constructors
// ---------------------------------------------------------------------------------------------------------------------

/**
 * @since 0.1.0
 * @category constructors
 */
export const define = (options: { readonly name: string }): Definition => ({
  name: options.name,
  channel: PubSub.channel(`cache:invalidate:${options.name}`, Invalidation)
})

const check = (operation: string, { name }: Definition): RedisInputError | undefined =>
  checkKey(operation, name, "name")

const given = (names: ReadonlyArray<string> | undefined): names is ReadonlyArray<string> =>
  names !== undefined && names.length > 0

/** One after the other; the first that fails ends it. */
const apply = <E, R>(
  handler: Handler<E, R>,
  { all, keys, patterns, tags }: Invalidation
): Effect.Effect<unknown, E, R> => {
  const steps: Array<Effect.Effect<unknown, E, R>> = []
  if (given(keys)) steps.push(handler.keys(keys))
  if (given(patterns)) steps.push(handler.patterns?.(patterns) ?? handler.all)
  if (given(tags)) steps.push(handler.tags?.(tags) ?? handler.all)
  return all === true ? handler.all : Effect.all(steps, { discard: true })
}

/**
 * @since 0.1.0
 * @category constructors
 */
export const make: Effect.Effect<Service, never, PubSub.PubSub> = Effect.map(PubSub.PubSub, (pubsub): Service => ({
  invalidate: (definition, what) => {
    const operation = "CacheInvalidator.invalidate"
    const bad = check(operation, definition)
    if (bad !== undefined) return Effect.fail(bad)
    return what.all !== true && ![what.keys, what.patterns, what.tags].some(given)
      ? Effect.fail(inputError(operation, "what", "keys, patterns, tags or all", "nothing"))
      : pubsub.publish(definition.channel, what)
  },
  listen: (definition, handler, options) => {
    const bad = check("CacheInvalidator.listen", definition)
    if (bad !== undefined) return Effect.fail(bad)
    const failed = (what: string) => (cause: unknown) => {
      handlerFailures.unsafeUpdate(1, [])
      return Effect.logError(`invalidating ${what} of "${definition.name}" failed`, cause)
    }
    const everything = Effect.catchAllCause(handler.all, failed("everything"))
    return Effect.flatMap(
      pubsub.subscribeScoped(definition.channel, {
        gaps: true,
        failures: true,
        skipOwn: options?.skipOwn ?? false
      }),
      ({ stream }) =>
        // What was kept before may have been told to others before this one could hear it.
        Effect.zipRight(
          everything,
          Stream.runForEach(stream, (element) =>
            element._tag === "Message"
              ? Effect.catchAllCause(
                Effect.suspend(() => apply(handler, element.payload)),
                (cause) => Effect.zipRight(failed("some")(cause), everything)
              )
              : everything).pipe(
              Effect.interruptible,
              Effect.forkScoped,
              Effect.asVoid
            )
        )
    )
  }
}))

/**
 * Forgets the entries of a `Map` by their keys. `tags` says what tags an entry has; without it, an invalidation by tag is
 * one of everything.
 *
 * @example
 * ```ts
 * import { Effect } from "effect"
 * import { CacheInvalidator } from "effect-redis-kit"
 *
 * const Settings = CacheInvalidator.define({ name: "settings" })
 *
 * const settings = new Map<string, string>()
 *
 * const program = Effect.scoped(Effect.gen(function*() {
 *   yield* CacheInvalidator.listen(Settings, CacheInvalidator.forMap(settings))
 *   yield* CacheInvalidator.invalidate(Settings, { keys: ["theme"], patterns: ["user:*"] })
 * }))
 * ```
 *
 * @since 0.1.0
 * @category constructors
 */
export const forMap = <V>(
  map: Map<string, V>,
  options?: { readonly tags?: ((value: V, key: string) => Iterable<string>) | undefined }
): Handler => {
  const tagsOf = options?.tags
  const removeWhere = (remove: (value: V, key: string) => boolean) =>
    Effect.sync(() => {
      for (const [key, value] of map) if (remove(value, key)) map.delete(key)
    })
  return {
    keys: (keys) => Effect.sync(() => keys.forEach((key) => map.delete(key))),
    patterns: (patterns) => removeWhere((_, key) => patterns.some((pattern) => matchesGlob(pattern, key))),
    tags: tagsOf === undefined ? undefined : (tags) => removeWhere((value, key) => hasOne(tagsOf(value, key), tags)),
    all: Effect.sync(() => map.clear())
  }
}

const hasOne = (tags: Iterable<string>, among: ReadonlyArray<string>): boolean => {
  for (const tag of tags) if (among.includes(tag)) return true
  return false
}

/** A lookup that is told to read again and again comes to an end after so many times. */
const MOST_LOOKUPS = 5

/**
 * An Effect `Cache` that forgets what it is told, for as long as the scope is open.
 *
 * An invalidation that arrives while a value is looked up is not lost: the value is looked up again, because it may be the
 * one from before the change. An Effect `Cache` whose `invalidate` is called at that moment keeps the old value.
 *
 * @example
 * ```ts
 * import { Effect } from "effect"
 * import { CacheInvalidator } from "effect-redis-kit"
 *
 * const Users = CacheInvalidator.define({ name: "users" })
 *
 * declare const load: (id: string) => Effect.Effect<{ readonly name: string; readonly org: string }>
 *
 * const program = Effect.scoped(Effect.gen(function*() {
 *   const users = yield* CacheInvalidator.makeCache(Users, {
 *     capacity: 10_000,
 *     timeToLive: "1 hour",
 *     lookup: load,
 *     tags: (user) => [`org:${user.org}`]
 *   })
 *   yield* users.get("ada")
 *   yield* CacheInvalidator.invalidate(Users, { tags: ["org:7"] })
 * }))
 * ```
 *
 * @since 0.1.0
 * @category constructors
 */
export const makeCache = <V, E, R>(
  definition: Definition,
  options: {
    readonly capacity: number
    readonly timeToLive: Duration.DurationInput
    readonly lookup: (key: string) => Effect.Effect<V, E, R>
    readonly tags?: ((value: V, key: string) => Iterable<string>) | undefined
  }
): Effect.Effect<Cache.Cache<string, V, E>, RedisError, R | CacheInvalidator | Scope.Scope> =>
  Effect.gen(function*() {
    const lookups = new Set<{ readonly key: string; stale: boolean }>()
    /** What is being read at this moment: their keys, which the cache does not tell. */
    const outdate = (concerns: (key: string) => boolean): ReadonlyArray<string> => {
      const concerned = Array.from(lookups).filter(({ key }) => concerns(key))
      for (const each of concerned) each.stale = true
      return concerned.map(({ key }) => key)
    }

    const lookup = (key: string, left: number): Effect.Effect<V, E, R> =>
      Effect.suspend(() => {
        const present = { key, stale: false }
        lookups.add(present)
        return options.lookup(key).pipe(
          Effect.exit,
          Effect.ensuring(Effect.sync(() => lookups.delete(present))),
          Effect.flatMap((exit) =>
            !present.stale
              ? exit
              : left > 1
              ? lookup(key, left - 1)
              // Whoever waits has it, and nobody else: by then the cache has stored it.
              : Effect.zipRight(Effect.forkDaemon(Effect.zipRight(Effect.yieldNow(), cache.invalidate(key))), exit)
          )
        )
      })

    const cache: Cache.Cache<string, V, E> = yield* Cache.make({
      capacity: options.capacity,
      timeToLive: options.timeToLive,
      lookup: (key: string) => lookup(key, MOST_LOOKUPS)
    })

    /** Once more when a lookup that had just ended has stored its value. */
    const forget = (effect: Effect.Effect<void>) => Effect.zipRight(effect, Effect.zipRight(Effect.yieldNow(), effect))
    const removeAll = (keys: Iterable<string>) =>
      Effect.forEach(keys, (key) => cache.invalidate(key), { discard: true })
    const { tags: tagsOf } = options

    yield* listen(definition, {
      keys: (keys) =>
        forget(Effect.suspend(() => {
          outdate((key) => keys.includes(key))
          return removeAll(keys)
        })),
      patterns: (patterns) => {
        const concerns = (key: string) => patterns.some((pattern) => matchesGlob(pattern, key))
        return forget(Effect.flatMap(cache.keys, (keys) => removeAll([...outdate(concerns), ...keys.filter(concerns)])))
      },
      tags: tagsOf === undefined ? undefined : (tags) =>
        forget(Effect.flatMap(cache.entries, (entries) =>
          removeAll([
            // What tags they will have is not known yet.
            ...outdate(() => true),
            ...entries.flatMap(([key, value]) => hasOne(tagsOf(value, key), tags) ? [key] : [])
          ]))),
      all: forget(Effect.suspend(() => {
        outdate(() => true)
        return cache.invalidateAll
      }))
    })
    return cache
  })

// ---------------------------------------------------------------------------------------------------------------------
// Layers
// ---------------------------------------------------------------------------------------------------------------------

/**
 * @since 0.1.0
 * @category layers
 */
export const layer: Layer.Layer<CacheInvalidator, never, PubSub.PubSub> = Layer.effect(CacheInvalidator, make)

/**
 * Invalidations on a server in memory, with what they need beside them.
 *
 * @since 0.1.0
 * @category layers
 */
export const layerTest: Layer.Layer<CacheInvalidator | PubSub.PubSub | RedisClient | RedisTestServer> = Layer
  .provideMerge(layer, PubSub.layerTest)

// ---------------------------------------------------------------------------------------------------------------------
// Accessors
// ---------------------------------------------------------------------------------------------------------------------

/**
 * Tells every process, this one too, with one message. Returns how many subscribers it reached.
 *
 * @since 0.1.0
 * @category accessors
 */
export const invalidate = (
  definition: Definition,
  what: Invalidation
): Effect.Effect<number, RedisError, CacheInvalidator> =>
  Effect.flatMap(CacheInvalidator, (service) => service.invalidate(definition, what))

/**
 * Forgets whatever it is told, for as long as the scope is open. When it returns, the server has confirmed, and everything
 * from before was forgotten once.
 *
 * Everything is forgotten as well when messages may be missing, when one can't be read, and when the handler fails with
 * one. As long as the connection is down nothing is forgotten: that comes when it is back.
 *
 * @since 0.1.0
 * @category accessors
 */
export const listen = <E, R>(
  definition: Definition,
  handler: Handler<E, R>,
  options?: ListenOptions
): Effect.Effect<void, RedisError, R | CacheInvalidator | Scope.Scope> =>
  Effect.flatMap(CacheInvalidator, (service) => service.listen(definition, handler, options))
