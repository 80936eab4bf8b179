/**
 * `Reactivity` of `@effect/experimental` for all processes: what is invalidated in one of them makes the queries of all
 * run again.
 *
 * @since 0.1.0
 */
import * as Reactivity from "@effect/experimental/Reactivity"
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Hash from "effect/Hash"
import * as Layer from "effect/Layer"
import * as Schedule from "effect/Schedule"
import type * as Scope from "effect/Scope"
import * as CacheInvalidator from "../PubSub/CacheInvalidator.js"
import * as PubSub from "../PubSub/PubSub.js"
import type { RedisClient } from "../RedisClient.js"
import type { RedisError } from "../RedisError.js"
import { layer as testServer, type RedisTestServer } from "../RedisTestServer.js"

// ---------------------------------------------------------------------------------------------------------------------
// Models
// ---------------------------------------------------------------------------------------------------------------------

/**
 * @since 0.1.0
 * @category options
 */
export interface Options {
  /** Who belongs together; `"reactivity"` by default. Other names hear nothing of each other. */
  readonly name?: string | undefined
}

type Keys = ReadonlyArray<unknown> | Readonly<Record<string, ReadonlyArray<unknown>>>

// ---------------------------------------------------------------------------------------------------------------------
// Constructors
// ---------------------------------------------------------------------------------------------------------------------

/** Every query has this key beside its own, so that all of them can be run. */
const EVERYTHING = "\0effect-redis-kit/everything"

/** More keys than these that wait to be told are everything. */
const MOST_KEYS = 10_000

/** Among what waits to be told: everything. No key is told by this text. */
const ALL = "all"

const isList = (keys: Keys): keys is ReadonlyArray<unknown> => Array.isArray(keys)

const hashOf = (key: unknown): string | number => typeof key === "string" ? key : Hash.hash(key)

/** What `Reactivity` knows keys by, each once. */
const resolve = (keys: Keys, counts: (key: unknown) => boolean): ReadonlySet<string | number> => {
  if (isList(keys)) return new Set(keys.filter(counts).map(hashOf))
  const resolved = new Set<string>()
  for (const [name, ids] of Object.entries(keys)) {
    resolved.add(name)
    for (const id of ids) if (counts(id)) resolved.add(`${name}:${hashOf(id)}`)
  }
  return resolved
}

/** Something that has this hash, which is all that matters. */
const hashed = (hash: number) => ({ [Hash.symbol]: () => hash })

/** With a key that is given twice, giving up a registration would fail. */
const withEverything = (keys: Keys): ReadonlyArray<unknown> => [
  ...Array.from(resolve(keys, () => true), (key) => typeof key === "string" ? key : hashed(key)),
  EVERYTHING
]

/** Objects that are known by their identity alone mean nothing to another process. */
const isTold = (key: unknown): boolean =>
  typeof key === "function" || (typeof key === "object" && key !== null)
    ? Hash.isHash(key) || key instanceof Date
    : true

/** As texts: `s` and the key itself, or `h` and its hash. */
const encode = (keys: Keys): ReadonlyArray<string> =>
  Array.from(resolve(keys, isTold), (key) => typeof key === "string" ? `s${key}` : `h${key}`)

const decode = (text: string): unknown => text.startsWith("h") ? hashed(Number(text.slice(1))) : text.slice(1)

/** After 100 ms, 200 ms, and so on; then every five seconds. */
const untilTold = Schedule.union(Schedule.exponential("100 millis"), Schedule.spaced("5 seconds"))

/**
 * A `Reactivity` that hears of invalidations until its scope is closed. When it is there, the server has confirmed.
 *
 * Queries of this process run again at once. Others are told in the background, many keys with one message, until it has
 * worked; so an invalidation neither waits nor fails. Where messages may have been missed, all queries run again.
 *
 * @since 0.1.0
 * @category constructors
 */
export const make = (
  options?: Options
): Effect.Effect<Reactivity.Reactivity.Service, RedisError, RedisClient | Scope.Scope> =>
  Effect.gen(function*() {
    const definition = CacheInvalidator.define({ name: options?.name ?? "reactivity" })
    // One of its own, so that what others tell over the same connection is heard.
    const invalidator = yield* Effect.provideServiceEffect(CacheInvalidator.make, PubSub.PubSub, PubSub.make)
    const local = yield* Reactivity.make

    let waiting = new Set<string>()
    const latch = yield* Effect.makeLatch(false)
    const add = (texts: Iterable<string>) => {
      if (waiting.has(ALL)) return
      for (const text of texts) waiting.add(text)
      if (waiting.size > MOST_KEYS || waiting.has(ALL)) waiting = new Set([ALL])
    }

    /** What was not told stays to be told. */
    const tell = Effect.suspend(() => {
      if (waiting.size === 0) return Effect.void
      const texts = waiting
      waiting = new Set()
      return invalidator.invalidate(definition, texts.has(ALL) ? { all: true } : { keys: Array.from(texts) }).pipe(
        Effect.onError((cause) => {
          add(texts)
          return Cause.isInterrupted(cause)
            ? Effect.void
            : Effect.logWarning("invalidations were not told to other processes", cause)
        })
      )
    })

    yield* invalidator.listen(
      definition,
      {
        keys: (texts) => Effect.sync(() => local.unsafeInvalidate(texts.map(decode))),
        all: Effect.sync(() => local.unsafeInvalidate([EVERYTHING]))
      },
      { skipOwn: true }
    )
    // What is left at the end gets one more try.
    yield* Effect.addFinalizer(() => Effect.ignore(tell))
    yield* latch.await.pipe(
      Effect.zipRight(latch.close),
      Effect.zipRight(Effect.yieldNow()),
      Effect.zipRight(Effect.retry(tell, untilTold)),
      Effect.forever,
      Effect.interruptible,
      Effect.forkScoped
    )

    const unsafeInvalidate = (keys: Keys): void => {
      local.unsafeInvalidate(keys)
      add(encode(keys))
      latch.unsafeOpen()
    }
    const invalidate = (keys: Keys) => Effect.sync(() => unsafeInvalidate(keys))

    return Reactivity.Reactivity.of({
      unsafeInvalidate,
      invalidate,
      mutation: (keys, effect) => Effect.zipLeft(effect, invalidate(keys)),
      unsafeRegister: (keys, handler) => local.unsafeRegister(withEverything(keys), handler),
      query: (keys, effect) => local.query(withEverything(keys), effect),
      stream: (keys, effect) => local.stream(withEverything(keys), effect)
    })
  })

// ---------------------------------------------------------------------------------------------------------------------
// Layers
// ---------------------------------------------------------------------------------------------------------------------

/**
 * With options. Keep the result in a constant.
 *
 * @since 0.1.0
 * @category layers
 */
export const layerWith = (options?: Options): Layer.Layer<Reactivity.Reactivity, RedisError, RedisClient> =>
  Layer.scoped(Reactivity.Reactivity, make(options))

/**
 * @example
 * ```ts
 * import * as Reactivity from "@effect/experimental/Reactivity"
 * import { Effect, Layer, Stream } from "effect"
 * import * as RedisReactivity from "effect-redis-kit/integrations/Reactivity"
 * import * as IoRedis from "effect-redis-kit/IoRedis"
 *
 * declare const countSeats: Effect.Effect<number>
 * declare const sellSeat: Effect.Effect<void>
 *
 * // In each process: the count, and again whenever any of them sells a seat.
 * const counts = countSeats.pipe(
 *   Reactivity.stream({ seats: ["hall-1"] }),
 *   Stream.runForEach((count) => Effect.log(`${count} seats`))
 * )
 *
 * const sale = sellSeat.pipe(Reactivity.mutation({ seats: ["hall-1"] }))
 *
 * const Live = Layer.provide(RedisReactivity.layer, IoRedis.layerConfig())
 *
 * const program = Effect.zipRight(Effect.fork(counts), sale).pipe(Effect.provide(Live))
 * ```
 *
 * @since 0.1.0
 * @category layers
 */
export const layer: Layer.Layer<Reactivity.Reactivity, RedisError, RedisClient> = layerWith()

/**
 * On a server in memory, with the server and its client beside it.
 *
 * @since 0.1.0
 * @category layers
 */
export const layerTest: Layer.Layer<Reactivity.Reactivity | RedisClient | RedisTestServer> = Layer.provideMerge(
  Layer.orDie(layer),
  testServer
)
