/**
 * Where `@effect/experimental/Persistence` keeps results, so that `PersistedCache` and `RequestResolver.persisted` run on
 * Redis.
 *
 * @since 0.1.0
 */
import * as Persistence from "@effect/experimental/Persistence"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import { inputError } from "../internal/input.js"
import { withSpan } from "../internal/telemetry.js"
import { type RedisArg, RedisClient } from "../RedisClient.js"
import { escapeGlob } from "../RedisCommands.js"
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
  /** What its keys begin with; `"persistence:"` by default. Behind it come the id of the store and the key. */
  readonly prefix?: string | undefined
}

// ---------------------------------------------------------------------------------------------------------------------
// Constructors
// ---------------------------------------------------------------------------------------------------------------------

type TimeToLive = Option.Option<Duration.Duration>

type Write = readonly [command: string, ...args: ReadonlyArray<RedisArg>]

/** Longer than ten thousand years is for ever. */
const FOREVER = 10_000 * 365 * 86_400_000

/** `undefined` when the value is no JSON, or what cannot be written throws. */
const encode = (value: unknown): string | undefined => {
  try {
    return JSON.stringify(value)
  } catch {
    return undefined
  }
}

/** An entry that has no time to live is not written, and what was there before goes. */
const write = (method: string, key: string, value: unknown, ttl: TimeToLive): Either.Either<Write, RedisError> => {
  const millis = Option.match(ttl, { onNone: () => Infinity, onSome: (ttl) => Math.ceil(Duration.toMillis(ttl)) })
  if (!(millis > 0)) return Either.right(["UNLINK", key])
  const text = encode(value)
  if (text === undefined) return Either.left(inputError(method, "value", "something that JSON can hold", value))
  return Either.right(millis > FOREVER ? ["SET", key, text] : ["SET", key, text, "PX", millis])
}

const backingError = (method: string) => (cause: unknown) => Persistence.PersistenceBackingError.make(method, cause)

const report = (problem: string, storeId: string): Effect.Effect<void> =>
  Effect.logWarning(`a persisted value ${problem}: it counts as absent`).pipe(
    Effect.annotateLogs({ storeId, package: "effect-redis-kit", module: "BackingPersistence" })
  )

/**
 * Persistence over the client of the environment. Values are kept as JSON.
 *
 * A value that is no JSON counts as absent and is logged, so that it is computed again and replaced. Entries without time
 * to live stay until they are removed.
 *
 * @since 0.1.0
 * @category constructors
 */
export const make = (options?: Options): Effect.Effect<Persistence.BackingPersistence, never, RedisClient> =>
  Effect.map(RedisClient, (client) => ({
    [Persistence.BackingPersistenceTypeId]: Persistence.BackingPersistenceTypeId,
    make: (storeId) => {
      // The id ends at the first colon, so that no store has keys of another one.
      const prefix = `${options?.prefix ?? "persistence:"}${storeId.replace(/[%:]/g, encodeURIComponent)}:`

      const run = <A>(
        method: string,
        effect: Effect.Effect<A, RedisError>
      ): Effect.Effect<A, Persistence.PersistenceBackingError> =>
        withSpan(
          Effect.mapError(effect, backingError(method)),
          `backingPersistence.${method}`,
          () => ({ "effect_redis.persistence.store": storeId })
        )

      const parse = (text: Option.Option<string>): Option.Option<unknown> | undefined => {
        if (Option.isNone(text)) return text
        try {
          return Option.some(JSON.parse(text.value))
        } catch {
          return undefined
        }
      }

      const corrupt = Effect.as(report("is no JSON", storeId), Option.none<unknown>())

      return Effect.succeed<Persistence.BackingPersistenceStore>({
        get: (key) =>
          run(
            "get",
            client.get(prefix + key).pipe(
              Effect.flatMap((text) => {
                const value = parse(text)
                return value === undefined ? corrupt : Effect.succeed(value)
              }),
              // As in `getMany`, where the server says of such a key that there is none.
              Effect.catchIf((error) => error._tag === "RedisReplyError" && error.code === "WRONGTYPE", () => corrupt)
            )
          ),
        getMany: (keys) =>
          run(
            "getMany",
            Effect.flatMap(client.mget(keys.map((key) => prefix + key)), (texts) => {
              const values = texts.map(parse)
              return values.every((value) => value !== undefined)
                ? Effect.succeed(values)
                : Effect.forEach(values, (value) => value === undefined ? corrupt : Effect.succeed(value))
            })
          ),
        set: (key, value, ttl) =>
          run(
            "set",
            Effect.suspend(() => {
              const command = write("set", client.key(prefix + key), value, ttl)
              return Either.isLeft(command) ? Effect.fail(command.left) : Effect.asVoid(client.send(...command.right))
            })
          ),
        setMany: (entries) =>
          run(
            "setMany",
            Effect.suspend(() => {
              const commands = Either.all(
                entries.map(([key, value, ttl]) => write("setMany", client.key(prefix + key), value, ttl))
              )
              if (Either.isLeft(commands)) return Effect.fail(commands.left)
              return Effect.flatMap(client.pipeline(commands.right), (replies) => Effect.asVoid(Either.all(replies)))
            })
          ),
        remove: (key) => run("remove", Effect.asVoid(client.unlink(prefix + key))),
        clear: run("clear", Effect.asVoid(client.unlinkMatching(`${escapeGlob(prefix)}*`)))
      })
    }
  }))

/**
 * What `PersistedCache` and persisted requests need, over any `BackingPersistence`. It differs from
 * `Persistence.layerResult` in one thing: a value that is not of the schema any more, as after a new release, counts as
 * absent and is logged. There it is a failure, again and again until the value expires.
 */
const resultsOver = Layer.effect(
  Persistence.ResultPersistence,
  Effect.map(Persistence.ResultPersistence, (persistence): Persistence.ResultPersistence => ({
    ...persistence,
    make: (options) =>
      Effect.map(persistence.make(options), (store) => ({
        ...store,
        get: (key) =>
          Effect.catchIf(
            store.get(key),
            (error) => error.reason === "ParseError",
            () => Effect.as(report("is not of its schema", options.storeId), Option.none())
          )
      }))
  }))
).pipe(Layer.provide(Persistence.layerResult))

// ---------------------------------------------------------------------------------------------------------------------
// Layers
// ---------------------------------------------------------------------------------------------------------------------

/**
 * With options. Keep the result in a constant.
 *
 * @since 0.1.0
 * @category layers
 */
export const layerWith = (options?: Options): Layer.Layer<Persistence.BackingPersistence, never, RedisClient> =>
  Layer.effect(Persistence.BackingPersistence, make(options))

/**
 * @since 0.1.0
 * @category layers
 */
export const layer: Layer.Layer<Persistence.BackingPersistence, never, RedisClient> = layerWith()

/**
 * As `layerResult`, with options. Keep the result in a constant.
 *
 * @since 0.1.0
 * @category layers
 */
export const layerResultWith = (options?: Options): Layer.Layer<Persistence.ResultPersistence, never, RedisClient> =>
  Layer.provide(resultsOver, layerWith(options))

/**
 * What `PersistedCache` and `RequestResolver.persisted` need. A value that is not of its schema any more, as after a new
 * release, counts as absent and is logged; with `Persistence.layerResult` it would be a failure until it expires.
 *
 * @example
 * ```ts
 * import * as PersistedCache from "@effect/experimental/PersistedCache"
 * import { Effect, Exit, Layer, PrimaryKey, Schema } from "effect"
 * import * as BackingPersistence from "effect-redis-kit/integrations/BackingPersistence"
 * import * as IoRedis from "effect-redis-kit/IoRedis"
 *
 * class GetPrice extends Schema.TaggedRequest<GetPrice>()("GetPrice", {
 *   success: Schema.Number,
 *   failure: Schema.String,
 *   payload: { article: Schema.String }
 * }) {
 *   [PrimaryKey.symbol]() {
 *     return this.article
 *   }
 * }
 *
 * const program = Effect.gen(function*() {
 *   const prices = yield* PersistedCache.make({
 *     storeId: "prices",
 *     lookup: (_: GetPrice) => Effect.succeed(9.5),
 *     timeToLive: (_: GetPrice, exit) => Exit.isSuccess(exit) ? "1 hour" : "10 seconds"
 *   })
 *   return yield* prices.get(new GetPrice({ article: "tea" }))
 * }).pipe(Effect.scoped, Effect.provide(Layer.provide(BackingPersistence.layerResult, IoRedis.layerConfig())))
 * ```
 *
 * @since 0.1.0
 * @category layers
 */
export const layerResult: Layer.Layer<Persistence.ResultPersistence, never, RedisClient> = layerResultWith()

/**
 * Both on a server in memory, with the server and its client beside them.
 *
 * @since 0.1.0
 * @category layers
 */
export const layerTest: Layer.Layer<
  Persistence.BackingPersistence | Persistence.ResultPersistence | RedisClient | RedisTestServer
> = resultsOver.pipe(Layer.provideMerge(layer), Layer.provideMerge(testServer))
