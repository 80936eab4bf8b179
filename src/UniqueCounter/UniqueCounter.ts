/**
 * Counts of different things over Redis, in a few kilobytes however many there are: HyperLogLogs, for a total and for each
 * minute, hour and day of UTC.
 *
 * @since 0.1.0
 */
import * as Context from "effect/Context"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Layer from "effect/Layer"
import type * as Schema from "effect/Schema"
import { checkWhole, inputError } from "../internal/input.js"
import { checkName, roomKey } from "../internal/rooms.js"
import { withSpan } from "../internal/telemetry.js"
import { type Texts, textsOf } from "../internal/texts.js"
import { lifeOf, makeGuess, presentOf, type Unit, type Window, windowsOf } from "../internal/windows.js"
import { RedisClient } from "../RedisClient.js"
import type { RedisError, RedisInputError } from "../RedisError.js"
import { layer as testServer, type RedisTestServer } from "../RedisTestServer.js"
import * as scripts from "./scripts.js"

// ---------------------------------------------------------------------------------------------------------------------
// Models
// ---------------------------------------------------------------------------------------------------------------------

export type {
  /**
   * A kind of window: it begins and ends with a minute, an hour or a day of UTC.
   *
   * @since 0.1.0
   * @category models
   */
  Unit
}

/**
 * A kind of unique counters: one for each key.
 *
 * @since 0.1.0
 * @category models
 */
export interface Definition<in out K, in out M, in out W extends Unit = never> {
  readonly name: string
  readonly key: Schema.Schema<K, string>
  readonly member: Schema.Schema<M, string>
  readonly windows: Readonly<Record<W, Duration.DurationInput>>
  readonly total: Duration.DurationInput
  readonly group: (key: K) => string
}

/**
 * Which windows are counted together; without it, the total is.
 *
 * @since 0.1.0
 * @category options
 */
export interface CountOptions<out W extends Unit> {
  readonly window: W
  /** Of how many windows together; of one by default. */
  readonly last?: number | undefined
  /** How many windows ago the last of them is; 0, the default, is the present one. */
  readonly ago?: number | undefined
}

/**
 * @since 0.1.0
 * @category models
 */
export interface Service {
  /**
   * Counts members, at most 10,000, and returns whether that may have changed the estimate of the total. A member that
   * was counted before changes nothing, and one in many that are new does not either. When the reply was lost and the
   * command was sent again, it can be `false` although it has changed.
   */
  readonly add: <K, M, W extends Unit>(
    definition: Definition<K, M, W>,
    key: K,
    ...members: ReadonlyArray<M>
  ) => Effect.Effect<boolean, RedisError>
  /** How many different members were counted: the estimate is off by 0.81 % (one standard error). */
  readonly count: <K, M, W extends Unit>(
    definition: Definition<K, M, W>,
    key: K,
    options?: CountOptions<NoInfer<W>>
  ) => Effect.Effect<number, RedisError>
  /** How many different members were counted for at least one of these keys. Who is in several counts once. */
  readonly union: <K, M, W extends Unit>(
    definition: Definition<K, M, W>,
    keys: ReadonlyArray<K>,
    options?: CountOptions<NoInfer<W>>
  ) => Effect.Effect<number, RedisError>
  /** Adds what was counted for `sources`, total and windows, to what was counted for `into`. The sources stay. */
  readonly merge: <K, M, W extends Unit>(
    definition: Definition<K, M, W>,
    into: K,
    sources: ReadonlyArray<K>
  ) => Effect.Effect<void, RedisError>
  /** Removes the counter of a key: its total and its windows. */
  readonly reset: <K, M, W extends Unit>(definition: Definition<K, M, W>, key: K) => Effect.Effect<void, RedisError>
}

/**
 * @since 0.1.0
 * @category tags
 */
export class UniqueCounter extends Context.Tag("effect-redis-kit/UniqueCounter")<UniqueCounter, Service>() {}

// ---------------------------------------------------------------------------------------------------------------------
// Constructors
// ---------------------------------------------------------------------------------------------------------------------

/**
 * Describes a kind of unique counters.
 *
 * - `key`: what is counted apart, for example a page, as a schema that makes a text of it
 * - `member`: what is counted once, for example a visitor
 * - `windows`: which windows are counted, and for how long each is kept after it is over; at most 1000 of a kind
 * - `total`: for how long a total is kept after something was last added to it; a year by default. `Infinity` keeps it
 *   until `reset`
 * - `group`: on a Cluster, keys of one group are in one slot. Only keys of one group can be counted together or merged.
 *   By default all keys are one group
 *
 * @example
 * ```ts
 * import { Effect, Schema } from "effect"
 * import { UniqueCounter } from "effect-redis-kit"
 *
 * const Visitors = UniqueCounter.define({
 *   name: "visitors",
 *   key: Schema.String,
 *   member: Schema.String,
 *   windows: { day: "90 days" }
 * })
 *
 * const program = Effect.gen(function*() {
 *   yield* UniqueCounter.add(Visitors, "/home", "ada")
 *   const week = yield* UniqueCounter.count(Visitors, "/home", { window: "day", last: 7 })
 *   const both = yield* UniqueCounter.union(Visitors, ["/home", "/shop"])
 *   return { week, both }
 * })
 * ```
 *
 * @since 0.1.0
 * @category constructors
 */
export const define = <K, M, W extends Unit = never>(options: {
  readonly name: string
  readonly key: Schema.Schema<K, string>
  readonly member: Schema.Schema<M, string>
  readonly windows?: Readonly<Record<W, Duration.DurationInput>> | undefined
  readonly total?: Duration.DurationInput | undefined
  readonly group?: ((key: NoInfer<K>) => string) | undefined
}): Definition<K, M, W> => ({
  name: options.name,
  key: options.key,
  member: options.member,
  windows: options.windows ?? {} as Readonly<Record<W, Duration.DurationInput>>,
  total: options.total ?? "365 days",
  group: options.group ?? (() => "all")
})

/** A reset names all of them. */
const MOST_WINDOWS = 1001

/** That Lua can give to one command. */
const MOST_KEYS = 5000

/** Of one script. */
const MOST_MERGED = 20_000

const MOST_MEMBERS = 10_000

interface Settings<K, M> {
  readonly keys: Texts<K>
  readonly members: Texts<M>
  readonly windows: ReadonlyArray<Window>
  /** Milliseconds; 0 for no end. */
  readonly life: number
}

const checked = new WeakMap<Definition<any, any, any>, Either.Either<Settings<any, any>, RedisInputError>>()

const settingsOf = <K, M, W extends Unit>(
  definition: Definition<K, M, W>
): Either.Either<Settings<K, M>, RedisInputError> => {
  let known = checked.get(definition)
  if (known === undefined) {
    known = Either.gen(function*() {
      const operation = "UniqueCounter.define"
      const bad = checkName(operation, "name", definition.name)
      if (bad !== undefined) return yield* Either.left(bad)
      return {
        keys: textsOf(definition.key),
        members: textsOf(definition.member),
        windows: yield* windowsOf(operation, definition.windows, MOST_WINDOWS),
        life: yield* lifeOf(operation, "total", definition.total)
      }
    })
    checked.set(definition, known)
  }
  return known
}

/** One counter: what its keys begin with, and what they end with. */
interface Place {
  readonly tag: string
  readonly text: string
}

const totalKey = ({ tag, text }: Place) => `${tag}:total:${text}`

const windowKey = ({ tag, text }: Place, { unit }: Window, index: number) => `${tag}:${unit}:${index}:${text}`

/** The total, and every window that is kept from the present one backwards. */
const allKeys = (place: Place, { present, windows }: scripts.Time): ReadonlyArray<string> => [
  totalKey(place),
  ...windows.flatMap((window, i) =>
    Array.from({ length: window.keep }, (_, ago) => windowKey(place, window, present[i]! - ago))
  )
]

/**
 * Unique counters over the client of the environment.
 *
 * @since 0.1.0
 * @category constructors
 */
export const make: Effect.Effect<Service, never, RedisClient> = Effect.gen(function*() {
  const client = yield* RedisClient
  const guess = yield* makeGuess

  /** Checks what every operation is given; `places` are those of `keys`, which are all of one group. */
  const within = <K, M, W extends Unit, A>(
    operation: string,
    definition: Definition<K, M, W>,
    keys: ReadonlyArray<K>,
    use: (
      settings: Settings<K, M>,
      places: ReadonlyArray<Place>
    ) => Either.Either<Effect.Effect<A, RedisError>, RedisError>
  ): Effect.Effect<A, RedisError> =>
    Either.match(
      Either.gen(function*() {
        const settings = yield* settingsOf(definition)
        const places: Array<Place> = []
        for (const key of keys) {
          const text = yield* settings.keys.encode(`UniqueCounter.${operation}`, "key", key)
          const group = definition.group(key)
          const bad = checkName(`UniqueCounter.${operation}`, "group", group)
          if (bad !== undefined) return yield* Either.left(bad)
          places.push({ tag: roomKey("unique", definition.name, group), text })
          if (places[0]!.tag !== places.at(-1)!.tag) {
            return yield* Either.left(inputError(`UniqueCounter.${operation}`, "keys", "of one group", group))
          }
        }
        return yield* use(settings, places)
      }),
      {
        onLeft: Effect.fail,
        onRight: (effect) =>
          withSpan(effect, `unique.${operation}`, () => ({ "effect_redis.unique.name": definition.name }))
      }
    )

  const timed = <A>(
    { life, windows }: Settings<any, any>,
    ask: (time: scripts.Time) => ReturnType<typeof client.eval<any, A>>
  ) => guess((now) => ask({ life, windows, present: presentOf(windows, now) }))

  const union = <K, M, W extends Unit>(
    operation: string,
    definition: Definition<K, M, W>,
    keys: ReadonlyArray<K>,
    options: CountOptions<W> | undefined
  ): Effect.Effect<number, RedisError> =>
    within(operation, definition, keys, ({ windows }, places) => {
      const refuse = (field: string, expected: string, actual: unknown) =>
        Either.left(inputError(`UniqueCounter.${operation}`, field, expected, actual))
      if (places.length === 0) return Either.right(Effect.succeed(0))
      if (places.length > MOST_KEYS) return refuse("keys", `at most ${MOST_KEYS}`, places.length)
      if (options === undefined) {
        return Either.right(guess(() => client.eval(scripts.count, places.map(totalKey), undefined, 0)))
      }
      const window = windows.find(({ unit }) => unit === options.window)
      if (window === undefined) return refuse("window", "a window of the definition", options.window)
      const { ago = 0, last = 1 } = options
      const most = Math.min(window.keep, Math.floor(MOST_KEYS / places.length))
      const bad = checkWhole(`UniqueCounter.${operation}`, "last", 1, most, last) ??
        checkWhole(`UniqueCounter.${operation}`, "ago", 0, window.keep - last, ago)
      if (bad !== undefined) return Either.left(bad)
      return Either.right(guess((now) => {
        const present = Math.floor(now / window.size)
        const all = places.flatMap((place) =>
          Array.from({ length: last }, (_, i) => windowKey(place, window, present - ago - i))
        )
        return client.eval(scripts.count, all, window, present)
      }))
    })

  return {
    add: (definition, key, ...members) =>
      within("add", definition, [key], (settings, [place]) =>
        Either.gen(function*() {
          const bad = checkWhole("UniqueCounter.add", "members", 1, MOST_MEMBERS, members.length)
          if (bad !== undefined) return yield* Either.left(bad)
          const texts: Array<string> = []
          for (const member of members) {
            texts.push(yield* settings.members.encode("UniqueCounter.add", "member", member))
          }
          return Effect.map(
            timed(settings, (time) =>
              client.eval(
                scripts.add,
                [totalKey(place!), ...time.windows.map((window, i) => windowKey(place!, window, time.present[i]!))],
                time,
                texts
              )),
            (changed) => changed === 1
          )
        })),
    count: (definition, key, options) => union("count", definition, [key], options),
    union: (definition, keys, options) => union("union", definition, keys, options),
    merge: (definition, into, sources) =>
      within("merge", definition, [into, ...sources], (settings, places) => {
        if (sources.length === 0) return Either.right(Effect.void)
        const width = settings.windows.reduce((sum, { keep }) => sum + keep, 1)
        const most = Math.min(MOST_KEYS, Math.floor(MOST_MERGED / width) - 1)
        if (sources.length > most) {
          return Either.left(inputError("UniqueCounter.merge", "sources", `at most ${most}`, sources.length))
        }
        return Either.right(Effect.asVoid(timed(settings, (time) => {
          const columns = places.map((place) => allKeys(place, time))
          const groups = columns[0]!.map((_, row) => columns.map((column) => column[row]!))
          return client.eval(scripts.merge, groups, time)
        })))
      }),
    reset: (definition, key) =>
      within("reset", definition, [key], (settings, [place]) =>
        Either.right(
          Effect.asVoid(timed(settings, (time) => client.eval(scripts.reset, allKeys(place!, time), time)))
        ))
  }
})

// ---------------------------------------------------------------------------------------------------------------------
// Layers
// ---------------------------------------------------------------------------------------------------------------------

/**
 * @since 0.1.0
 * @category layers
 */
export const layer: Layer.Layer<UniqueCounter, never, RedisClient> = Layer.effect(UniqueCounter, make)

/**
 * Unique counters on a server in memory, with the server and its client beside them.
 *
 * @since 0.1.0
 * @category layers
 */
export const layerTest: Layer.Layer<UniqueCounter | RedisClient | RedisTestServer> = Layer.provideMerge(
  layer,
  testServer
)

// ---------------------------------------------------------------------------------------------------------------------
// Accessors
// ---------------------------------------------------------------------------------------------------------------------

/**
 * Counts members, and returns whether that may have changed the estimate of the total.
 *
 * @since 0.1.0
 * @category accessors
 */
export const add = <K, M, W extends Unit>(
  definition: Definition<K, M, W>,
  key: K,
  ...members: ReadonlyArray<M>
): Effect.Effect<boolean, RedisError, UniqueCounter> =>
  Effect.flatMap(UniqueCounter, (service) => service.add(definition, key, ...members))

/**
 * How many different members were counted.
 *
 * @since 0.1.0
 * @category accessors
 */
export const count = <K, M, W extends Unit>(
  definition: Definition<K, M, W>,
  key: K,
  options?: CountOptions<NoInfer<W>>
): Effect.Effect<number, RedisError, UniqueCounter> =>
  Effect.flatMap(UniqueCounter, (service) => service.count(definition, key, options))

/**
 * How many different members were counted for at least one of these keys.
 *
 * @since 0.1.0
 * @category accessors
 */
export const union = <K, M, W extends Unit>(
  definition: Definition<K, M, W>,
  keys: ReadonlyArray<K>,
  options?: CountOptions<NoInfer<W>>
): Effect.Effect<number, RedisError, UniqueCounter> =>
  Effect.flatMap(UniqueCounter, (service) => service.union(definition, keys, options))

/**
 * Adds what was counted for `sources` to what was counted for `into`.
 *
 * @since 0.1.0
 * @category accessors
 */
export const merge = <K, M, W extends Unit>(
  definition: Definition<K, M, W>,
  into: K,
  sources: ReadonlyArray<K>
): Effect.Effect<void, RedisError, UniqueCounter> =>
  Effect.flatMap(UniqueCounter, (service) => service.merge(definition, into, sources))

/**
 * Removes the counter of a key: its total and its windows.
 *
 * @since 0.1.0
 * @category accessors
 */
export const reset = <K, M, W extends Unit>(
  definition: Definition<K, M, W>,
  key: K
): Effect.Effect<void, RedisError, UniqueCounter> =>
  Effect.flatMap(UniqueCounter, (service) => service.reset(definition, key))
