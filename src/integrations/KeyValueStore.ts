/**
 * The `KeyValueStore` of `@effect/platform`: texts and bytes under a prefix of their own, with a `modify` that loses
 * nothing when several processes use it at once.
 *
 * @since 0.1.0
 */
import * as PlatformError from "@effect/platform/Error"
import * as KeyValueStore from "@effect/platform/KeyValueStore"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import * as Stream from "effect/Stream"
import { withSpan } from "../internal/telemetry.js"
import { type BytesReply, RedisClient } from "../RedisClient.js"
import { escapeGlob } from "../RedisCommands.js"
import type { RedisError } from "../RedisError.js"
import * as RedisScript from "../RedisScript.js"
import { layer as testServer, type RedisTestServer } from "../RedisTestServer.js"

// ---------------------------------------------------------------------------------------------------------------------
// Models
// ---------------------------------------------------------------------------------------------------------------------

/**
 * @since 0.1.0
 * @category options
 */
export interface Options {
  /**
   * What its keys begin with; `"kv:"` by default. `size`, `isEmpty` and `clear` mean all keys that begin with it, so no
   * prefix should be the beginning of another one.
   */
  readonly prefix?: string | undefined
}

// ---------------------------------------------------------------------------------------------------------------------
// Constructors
// ---------------------------------------------------------------------------------------------------------------------

/**
 * Writes a value where another one still is. O(1).
 *
 * KEYS the key. ARGV the value that was seen, the new one. Returns 1 when it was written, otherwise the present value,
 * or nothing when there is none.
 */
const replace = RedisScript.make({
  name: "keyValueStore.replace",
  lua: `
local present = redis.call('GET', KEYS[1])
if present ~= ARGV[1] then return present end
redis.call('SET', KEYS[1], ARGV[2])
return 1`,
  params: (key: string, seen: Uint8Array, value: Uint8Array) => ({ keys: [key], args: [seen, value] }),
  encoding: "bytes",
  result: (reply: BytesReply): Either.Either<1 | Uint8Array | null, string> =>
    reply === 1 || reply === null || reply instanceof Uint8Array
      ? Either.right(reply)
      : Either.left("1, the present value, or nothing")
})

const encoder = new TextEncoder()
const decoder = new TextDecoder("utf-8", { ignoreBOM: true })

const sameBytes = (a: Uint8Array, b: Uint8Array): boolean =>
  a === b || (a.length === b.length && a.every((byte, i) => byte === b[i]))

const platformError = (method: string, key: string | undefined) => (error: RedisError): PlatformError.PlatformError =>
  error._tag === "RedisInputError"
    ? new PlatformError.BadArgument({ module: "KeyValueStore", method, description: error.message, cause: error })
    : new PlatformError.SystemError({
      module: "KeyValueStore",
      method,
      reason: error._tag === "RedisTimeoutError"
        ? "TimedOut"
        : error._tag === "RedisDecodeError" || (error._tag === "RedisReplyError" && error.code === "WRONGTYPE")
        ? "InvalidData"
        : error._tag === "RedisReplyError" && error.code === "NOPERM"
        ? "PermissionDenied"
        : "Unknown",
      description: error.message,
      ...(key === undefined ? {} : { pathOrDescriptor: key }),
      cause: error
    })

/** Decoding and encoding are effects, so they run apart from the step that replaces what was read. */
const modifyJson = <A, I, R>(
  store: KeyValueStore.KeyValueStore,
  schema: Schema.Schema<A, I, R>
): KeyValueStore.SchemaStore<A, R>["modify"] => {
  const json = Schema.parseJson(schema)
  const decode = Schema.decode(json)
  const encode = Schema.encode(json)
  return (key, f) =>
    Effect.gen(function*() {
      while (true) {
        const seen = yield* store.get(key)
        if (Option.isNone(seen)) return Option.none()
        const value = f(yield* decode(seen.value))
        const text = yield* encode(value)
        let replaced = false
        const present = yield* store.modify(key, (now) => {
          replaced = now === seen.value
          return replaced ? text : now
        })
        if (Option.isNone(present)) return Option.none()
        if (replaced) return Option.some(value)
      }
    })
}

/**
 * A store over the client of the environment. Entries stay until they are removed.
 *
 * The function that is given to `modify` can be called more than once: when the value was changed meanwhile, it is called
 * again with the new one.
 *
 * @since 0.1.0
 * @category constructors
 */
export const make = (options?: Options): Effect.Effect<KeyValueStore.KeyValueStore, never, RedisClient> =>
  Effect.map(RedisClient, (client) => {
    const prefix = options?.prefix ?? "kv:"
    const all = `${escapeGlob(prefix)}*`

    const run = <A>(
      method: string,
      key: string | undefined,
      effect: Effect.Effect<A, RedisError>
    ): Effect.Effect<A, PlatformError.PlatformError> =>
      withSpan(
        Effect.mapError(effect, platformError(method, key)),
        `keyValueStore.${method}`,
        () => key === undefined ? {} : { "effect_redis.key_value_store.key": key }
      )

    const getBytes = (key: string) => client.getBytes(prefix + key)

    /** `f` tells the result and its bytes. */
    const swap = <A>(
      key: string,
      f: (seen: Uint8Array) => readonly [value: A, bytes: Uint8Array]
    ): Effect.Effect<Option.Option<A>, RedisError> => {
      const attempt = (seen: Uint8Array): Effect.Effect<Option.Option<A>, RedisError> =>
        Effect.suspend(() => {
          const [value, bytes] = f(seen)
          if (sameBytes(bytes, seen)) return Effect.succeedSome(value)
          return Effect.flatMap(
            client.eval(replace, prefix + key, seen, bytes),
            (result) =>
              result === 1 ? Effect.succeedSome(value) : result === null ? Effect.succeedNone : attempt(result)
          )
        })
      return Effect.flatMap(getBytes(key), Option.match({ onNone: () => Effect.succeedNone, onSome: attempt }))
    }

    const store = KeyValueStore.make({
      get: (key) => run("get", key, client.get(prefix + key)),
      getUint8Array: (key) => run("getUint8Array", key, getBytes(key)),
      set: (key, value) => run("set", key, Effect.asVoid(client.set(prefix + key, value))),
      remove: (key) => run("remove", key, Effect.asVoid(client.unlink(prefix + key))),
      has: (key) => run("has", key, Effect.map(client.exists(prefix + key), (n) => n > 0)),
      clear: run("clear", undefined, Effect.asVoid(client.unlinkMatching(all))),
      // A scan can see a key more than once.
      size: run(
        "size",
        undefined,
        Effect.map(Stream.runCollect(client.scan({ match: all })), (keys) => new Set(keys).size)
      ),
      isEmpty: run("isEmpty", undefined, Effect.map(Stream.runHead(client.scan({ match: all })), Option.isNone)),
      modify: (key, f) =>
        run(
          "modify",
          key,
          swap(key, (seen) => {
            const text = decoder.decode(seen)
            const value = f(text)
            // Bytes that are no text are not replaced by what they look like.
            return [value, value === text ? seen : encoder.encode(value)]
          })
        ),
      modifyUint8Array: (key, f) =>
        run(
          "modifyUint8Array",
          key,
          swap(key, (seen) => {
            // A copy, because the function may write into what it gets.
            const value = f(new Uint8Array(seen))
            return [value, value]
          })
        )
    })

    return {
      ...store,
      // `this` can be a store that was made of this one, as by `prefix`.
      forSchema(schema) {
        const { forSchema } = store
        return { ...{ ...this, forSchema }.forSchema(schema), modify: modifyJson(this, schema) }
      }
    }
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
export const layerWith = (options?: Options): Layer.Layer<KeyValueStore.KeyValueStore, never, RedisClient> =>
  Layer.effect(KeyValueStore.KeyValueStore, make(options))

/**
 * @example
 * ```ts
 * import * as KeyValueStore from "@effect/platform/KeyValueStore"
 * import { Effect, Layer } from "effect"
 * import * as RedisKeyValueStore from "effect-redis-kit/integrations/KeyValueStore"
 * import * as IoRedis from "effect-redis-kit/IoRedis"
 *
 * const Store = Layer.provide(RedisKeyValueStore.layer, IoRedis.layerConfig())
 *
 * const program = Effect.gen(function*() {
 *   const store = yield* KeyValueStore.KeyValueStore
 *   yield* store.set("visits", "0")
 *   yield* store.modify("visits", (visits) => String(Number(visits) + 1))
 * }).pipe(Effect.provide(Store))
 * ```
 *
 * @since 0.1.0
 * @category layers
 */
export const layer: Layer.Layer<KeyValueStore.KeyValueStore, never, RedisClient> = layerWith()

/**
 * A store on a server in memory, with the server and its client beside it.
 *
 * @since 0.1.0
 * @category layers
 */
export const layerTest: Layer.Layer<KeyValueStore.KeyValueStore | RedisClient | RedisTestServer> = Layer.provideMerge(
  layer,
  testServer
)
