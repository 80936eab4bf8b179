/**
 * Counters over Redis: totals, and counts for each minute, hour and day of UTC, with the life of every key set by the
 * same script that counts.
 *
 * @since 0.1.0
 */
import * as Context from "effect/Context"
import type * as DateTime from "effect/DateTime"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import { checkWhole, inputError } from "../internal/input.js"
import { checkName, roomKey } from "../internal/rooms.js"
import { withSpan } from "../internal/telemetry.js"
import { type Texts, textsOf } from "../internal/texts.js"
import {
  indexOf,
  lifeOf,
  makeGuess,
  presentOf,
  startOf,
  type Unit,
  type Window,
  windowsOf
} from "../internal/windows.js"
import { RedisClient } from "../RedisClient.js"
import { RedisDecodeError, type RedisError, type RedisInputError } from "../RedisError.js"
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
 * A kind of counters: one for each key.
 *
 * @since 0.1.0
 * @category models
 */
export interface Definition<in out K, in out W extends Unit = never> {
  readonly name: string
  readonly key: Schema.Schema<K, string>
  readonly windows: Readonly<Record<W, Duration.DurationInput>>
  readonly total: Duration.DurationInput
  readonly top: Option.Option<number>
}

/**
 * What was counted in one window.
 *
 * @since 0.1.0
 * @category models
 */
export interface Count {
  readonly start: DateTime.Utc
  readonly count: number
}

/**
 * One of those with the largest counts.
 *
 * @since 0.1.0
 * @category models
 */
export interface Ranked<out K> {
  readonly key: K
  readonly count: number
}

/**
 * @since 0.1.0
 * @category options
 */
export interface RangeOptions {
  /** How many windows; all that are kept by default. */
  readonly last?: number | undefined
  /** The newest first by default. */
  readonly order?: "newest" | "oldest" | undefined
  /** The last window is the one with this instant in it; the present one by default. */
  readonly until?: DateTime.DateTime | undefined
}

/**
 * @since 0.1.0
 * @category options
 */
export interface TopOptions {
  /** How many keys; 10 by default. */
  readonly limit?: number | undefined
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
  /** Counts one, or `by`, and returns the total. */
  readonly increment: <K, W extends Unit>(
    definition: Definition<K, W>,
    key: K,
    by?: number
  ) => Effect.Effect<number, RedisError | CounterOverflow>
  /** The total; 0 when nothing was counted. */
  readonly get: <K, W extends Unit>(definition: Definition<K, W>, key: K) => Effect.Effect<number, RedisError>
  /** The totals of many keys, in their order. */
  readonly getMany: <K, W extends Unit>(
    definition: Definition<K, W>,
    keys: ReadonlyArray<K>
  ) => Effect.Effect<ReadonlyArray<number>, RedisError>
  /** Windows beside each other. None is missing: where nothing was counted the count is 0. */
  readonly range: <K, W extends Unit>(
    definition: Definition<K, W>,
    key: K,
    window: NoInfer<W>,
    options?: RangeOptions
  ) => Effect.Effect<ReadonlyArray<Count>, RedisError>
  /** The keys with the largest counts in a window or several, the largest first. */
  readonly top: <K, W extends Unit>(
    definition: Definition<K, W>,
    window: NoInfer<W>,
    options?: TopOptions
  ) => Effect.Effect<ReadonlyArray<Ranked<K>>, RedisError>
  /** Removes the counter of a key: its total, its windows, and its place in every top. */
  readonly reset: <K, W extends Unit>(definition: Definition<K, W>, key: K) => Effect.Effect<void, RedisError>
}

/**
 * @since 0.1.0
 * @category tags
 */
export class Counter extends Context.Tag("effect-redis-kit/Counter")<Counter, Service>() {}

// ---------------------------------------------------------------------------------------------------------------------
// Errors
// ---------------------------------------------------------------------------------------------------------------------

/**
 * The total or a window would pass what a number of JavaScript holds exactly (`Number.MAX_SAFE_INTEGER`). Nothing was
 * counted.
 *
 * @since 0.1.0
 * @category errors
 */
export class CounterOverflow extends Schema.TaggedError<CounterOverflow>("effect-redis-kit/Counter/CounterOverflow")(
  "CounterOverflow",
  { name: Schema.String, key: Schema.String, by: Schema.Number }
) {
  /** @since 0.1.0 */
  override get message(): string {
    return `${this.name}: a count of "${this.key}" would pass ${Number.MAX_SAFE_INTEGER} with ${this.by} more`
  }
}

// ---------------------------------------------------------------------------------------------------------------------
// Constructors
// ---------------------------------------------------------------------------------------------------------------------

/**
 * Describes a kind of counters.
 *
 * - `key`: what is counted apart, as a schema that makes a text of it
 * - `windows`: which windows are counted, and for how long each of them is kept after it is over
 * - `total`: for how long a total is kept after it was last counted; a year by default. `Infinity` keeps it until `reset`
 * - `top`: of how many keys the largest counts of each window are known. Then all counters of the definition are in one
 *   slot of a Cluster, `increment` takes no negative numbers, and at most 1000 windows of a kind are kept
 *
 * @example
 * ```ts
 * import { Effect, Schema } from "effect"
 * import { Counter } from "effect-redis-kit"
 *
 * const Views = Counter.define({
 *   name: "views",
 *   key: Schema.String,
 *   windows: { hour: "7 days", day: "90 days" }
 * })
 *
 * const program = Effect.gen(function*() {
 *   const total = yield* Counter.increment(Views, "/home")
 *   const today = yield* Counter.range(Views, "/home", "hour", { last: 24 })
 *   return { total, today }
 * })
 * ```
 *
 * @since 0.1.0
 * @category constructors
 */
export const define = <K, W extends Unit = never>(options: {
  readonly name: string
  readonly key: Schema.Schema<K, string>
  readonly windows?: Readonly<Record<W, Duration.DurationInput>> | undefined
  readonly total?: Duration.DurationInput | undefined
  readonly top?: { readonly capacity: number } | undefined
}): Definition<K, W> => ({
  name: options.name,
  key: options.key,
  windows: options.windows ?? {} as Readonly<Record<W, Duration.DurationInput>>,
  total: options.total ?? "365 days",
  top: Option.map(Option.fromNullable(options.top), ({ capacity }) => capacity)
})

/** A reset names the tops of all windows that are kept. */
const MOST_WINDOWS_WITH_TOP = 1001

const MOST_CAPACITY = 100_000

interface Settings<K> {
  readonly texts: Texts<K>
  readonly windows: ReadonlyArray<Window>
  /** Milliseconds; 0 for no end. */
  readonly life: number
  /** 0 for none. */
  readonly capacity: number
}

const checked = new WeakMap<Definition<any, any>, Either.Either<Settings<any>, RedisInputError>>()

const check = <K, W extends Unit>(definition: Definition<K, W>): Either.Either<Settings<K>, RedisInputError> =>
  Either.gen(function*() {
    const operation = "Counter.define"
    const capacity = Option.getOrElse(definition.top, () => 0)
    const bad = checkName(operation, "name", definition.name) ??
      checkWhole(operation, "top.capacity", Option.isSome(definition.top) ? 1 : 0, MOST_CAPACITY, capacity)
    if (bad !== undefined) return yield* Either.left(bad)
    const windows = yield* windowsOf(operation, definition.windows, capacity > 0 ? MOST_WINDOWS_WITH_TOP : undefined)
    if (capacity > 0 && windows.length === 0) {
      return yield* Either.left(inputError(operation, "windows", "at least one, because there is a top", "none"))
    }
    return {
      texts: textsOf(definition.key),
      windows,
      life: yield* lifeOf(operation, "total", definition.total),
      capacity
    }
  })

const settingsOf = <K, W extends Unit>(definition: Definition<K, W>): Either.Either<Settings<K>, RedisInputError> => {
  let known = checked.get(definition)
  if (known === undefined) checked.set(definition, known = check(definition))
  return known
}

/** With a top the key stands behind the hash tag, because all counters share a slot. */
const keysOf = ({ capacity, windows }: Settings<any>, name: string, key: string): scripts.Keys => {
  const of = capacity > 0
    ? (what: string) => `${roomKey("counter", name, "top")}:${what}:${key}`
    : (what: string) => `${roomKey("counter", name, key)}:${what}`
  return { total: of("total"), windows: windows.map(({ unit }) => of(unit)) }
}

const topKey = (name: string, { unit }: Window, index: number) =>
  `${roomKey("counter", name, "top")}:top:${unit}:${index}`

/**
 * Counters over the client of the environment.
 *
 * @since 0.1.0
 * @category constructors
 */
export const make: Effect.Effect<Service, never, RedisClient> = Effect.gen(function*() {
  const client = yield* RedisClient
  const guess = yield* makeGuess

  const span = <A, E>(operation: string, name: string, effect: Effect.Effect<A, E>): Effect.Effect<A, E> =>
    withSpan(effect, `counter.${operation}`, () => ({ "effect_redis.counter.name": name }))

  /** Checks what every operation is given. */
  const within = <K, W extends Unit, A, E>(
    operation: string,
    definition: Definition<K, W>,
    key: K,
    use: (settings: Settings<K>, keys: scripts.Keys, text: string) => Effect.Effect<A, E | RedisError>
  ): Effect.Effect<A, E | RedisError> => {
    const settings = settingsOf(definition)
    if (Either.isLeft(settings)) return Effect.fail(settings.left)
    const text = settings.right.texts.encode(`Counter.${operation}`, "key", key)
    if (Either.isLeft(text)) return Effect.fail(text.left)
    const keys = keysOf(settings.right, definition.name, text.right)
    return span(operation, definition.name, use(settings.right, keys, text.right))
  }

  const windowOf = (
    operation: string,
    { windows }: Settings<any>,
    unit: Unit
  ): Either.Either<Window, RedisInputError> => {
    const window = windows.find((window) => window.unit === unit)
    return window === undefined
      ? Either.left(inputError(operation, "window", "a window of the definition", unit))
      : Either.right(window)
  }

  const countOf = (found: Option.Option<string>): Either.Either<number, RedisDecodeError> => {
    if (Option.isNone(found)) return Either.right(0)
    const count = scripts.countOf(found.value)
    return count === undefined
      ? Either.left(new RedisDecodeError({ command: "GET", detail: "expected a count" }))
      : Either.right(count)
  }

  const increment: Service["increment"] = (definition, key, by = 1) => {
    const lowest = Option.isSome(definition.top) ? 0 : Number.MIN_SAFE_INTEGER
    const bad = checkWhole("Counter.increment", "by", lowest, Number.MAX_SAFE_INTEGER, by)
    if (bad !== undefined) return Effect.fail(bad)
    return within("increment", definition, key, ({ capacity, life, windows }, keys, text) => {
      const counted = capacity === 0
        ? client.eval(scripts.increment, keys, windows, by, life, undefined)
        : guess((now) => {
          const present = presentOf(windows, now)
          return client.eval(scripts.increment, keys, windows, by, life, {
            keys: windows.map((window, i) => topKey(definition.name, window, present[i]!)),
            present,
            member: text,
            capacity
          })
        })
      return Effect.flatMap(counted, (total) =>
        typeof total === "number"
          ? Effect.succeed(total)
          : Effect.fail(new CounterOverflow({ name: definition.name, key: text, by })))
    })
  }

  const getMany: Service["getMany"] = (definition, keys) => {
    const settings = settingsOf(definition)
    if (Either.isLeft(settings)) return Effect.fail(settings.left)
    const names = Either.all(keys.map((key) => settings.right.texts.encode("Counter.getMany", "keys", key)))
    if (Either.isLeft(names)) return Effect.fail(names.left)
    const totals = names.right.map((text) => keysOf(settings.right, definition.name, text).total)
    return span(
      "getMany",
      definition.name,
      Effect.flatMap(client.mget(totals), (found) => Either.all(found.map(countOf)))
    )
  }

  const range: Service["range"] = (definition, key, unit, options) =>
    within("range", definition, key, (settings, keys) => {
      const found = windowOf("Counter.range", settings, unit)
      if (Either.isLeft(found)) return Effect.fail(found.left)
      const window = found.right
      const { last = window.keep, order = "newest", until } = options ?? {}
      const bad = checkWhole("Counter.range", "last", 1, window.keep, last)
      if (bad !== undefined) return Effect.fail(bad)
      return Effect.map(
        client.eval(
          scripts.range,
          keys.windows[settings.windows.indexOf(window)]!,
          window,
          last,
          until === undefined ? undefined : indexOf(window, until)
        ),
        ({ counts, newest }) => {
          const all = counts.map((count, i): Count => ({ start: startOf(window, newest - i), count }))
          return order === "newest" ? all : all.reverse()
        }
      )
    })

  const top: Service["top"] = (definition, unit, options) => {
    const { ago = 0, last = 1, limit = 10 } = options ?? {}
    return Either.gen(function*() {
      const settings = yield* settingsOf(definition)
      if (settings.capacity === 0) {
        return yield* Either.left(inputError("Counter.top", "definition", "one with a top", definition.name))
      }
      const window = yield* windowOf("Counter.top", settings, unit)
      const bad = checkWhole("Counter.top", "limit", 1, MOST_CAPACITY, limit) ??
        checkWhole("Counter.top", "last", 1, window.keep, last) ??
        checkWhole("Counter.top", "ago", 0, window.keep - last, ago)
      return bad === undefined ? { settings, window } : yield* Either.left(bad)
    }).pipe(
      Effect.flatMap(({ settings, window }) =>
        span(
          "top",
          definition.name,
          Effect.map(
            guess((now) => {
              const present = Math.floor(now / window.size)
              const keys = Array.from({ length: last }, (_, i) => topKey(definition.name, window, present - ago - i))
              return client.eval(scripts.top, keys, window, present, limit)
            }),
            (found) =>
              found.flatMap(([member, count]) => {
                const key = settings.texts.decode(member)
                return Either.isRight(key) ? [{ key: key.right, count }] : []
              })
          )
        )
      )
    )
  }

  return {
    increment,
    get: (definition, key) =>
      within("get", definition, key, (_, { total }) => Effect.flatMap(client.get(total), countOf)),
    getMany,
    range,
    top,
    reset: (definition, key) =>
      within("reset", definition, key, ({ capacity, windows }, keys, text) =>
        capacity === 0
          ? Effect.asVoid(client.unlink(keys.total, ...keys.windows))
          : guess((now) => {
            const present = presentOf(windows, now)
            const tops = windows.flatMap((window, i) =>
              Array.from({ length: window.keep }, (_, ago) => topKey(definition.name, window, present[i]! - ago))
            )
            return client.eval(scripts.reset, keys, windows, text, present, tops)
          }))
  }
})

// ---------------------------------------------------------------------------------------------------------------------
// Layers
// ---------------------------------------------------------------------------------------------------------------------

/**
 * @since 0.1.0
 * @category layers
 */
export const layer: Layer.Layer<Counter, never, RedisClient> = Layer.effect(Counter, make)

/**
 * Counters on a server in memory, with the server and its client beside them.
 *
 * @since 0.1.0
 * @category layers
 */
export const layerTest: Layer.Layer<Counter | RedisClient | RedisTestServer> = Layer.provideMerge(layer, testServer)

// ---------------------------------------------------------------------------------------------------------------------
// Accessors
// ---------------------------------------------------------------------------------------------------------------------

/**
 * Counts one, or `by`, and returns the total.
 *
 * @since 0.1.0
 * @category accessors
 */
export const increment = <K, W extends Unit>(
  definition: Definition<K, W>,
  key: K,
  by?: number
): Effect.Effect<number, RedisError | CounterOverflow, Counter> =>
  Effect.flatMap(Counter, (service) => service.increment(definition, key, by))

/**
 * The total; 0 when nothing was counted.
 *
 * @since 0.1.0
 * @category accessors
 */
export const get = <K, W extends Unit>(
  definition: Definition<K, W>,
  key: K
): Effect.Effect<number, RedisError, Counter> => Effect.flatMap(Counter, (service) => service.get(definition, key))

/**
 * The totals of many keys, in their order.
 *
 * @since 0.1.0
 * @category accessors
 */
export const getMany = <K, W extends Unit>(
  definition: Definition<K, W>,
  keys: ReadonlyArray<K>
): Effect.Effect<ReadonlyArray<number>, RedisError, Counter> =>
  Effect.flatMap(Counter, (service) => service.getMany(definition, keys))

/**
 * Windows beside each other. None is missing: where nothing was counted the count is 0.
 *
 * @since 0.1.0
 * @category accessors
 */
export const range = <K, W extends Unit>(
  definition: Definition<K, W>,
  key: K,
  window: NoInfer<W>,
  options?: RangeOptions
): Effect.Effect<ReadonlyArray<Count>, RedisError, Counter> =>
  Effect.flatMap(Counter, (service) => service.range(definition, key, window, options))

/**
 * The keys with the largest counts in a window or several, the largest first.
 *
 * @since 0.1.0
 * @category accessors
 */
export const top = <K, W extends Unit>(
  definition: Definition<K, W>,
  window: NoInfer<W>,
  options?: TopOptions
): Effect.Effect<ReadonlyArray<Ranked<K>>, RedisError, Counter> =>
  Effect.flatMap(Counter, (service) => service.top(definition, window, options))

/**
 * Removes the counter of a key: its total, its windows, and its place in every top.
 *
 * @since 0.1.0
 * @category accessors
 */
export const reset = <K, W extends Unit>(
  definition: Definition<K, W>,
  key: K
): Effect.Effect<void, RedisError, Counter> => Effect.flatMap(Counter, (service) => service.reset(definition, key))
