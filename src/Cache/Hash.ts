/**
 * Objects whose fields are read and written one by one: a hash for each.
 */
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Option from "effect/Option"
import type * as Schema from "effect/Schema"
import { escapeGlob } from "../internal/commands/glob.js"
import { checkKey, inputError } from "../internal/input.js"
import { withSpan } from "../internal/telemetry.js"
import type { RedisError, RedisInputError } from "../RedisError.js"
import * as Metrics from "./metrics.js"
import * as scripts from "./scripts.js"
import { checked, endOf, keyWriter, lifeOf, prefixOf, type Shared, valueReader, valueWriter } from "./Shared.js"

/**
 * The fields of an object, each with its own schema.
 *
 * @since 0.1.0
 * @category models
 */
export interface Fields {
  readonly [field: string]: Schema.Schema<any, any>
}

/**
 * What is known of an object: any of its fields can be missing.
 *
 * @since 0.1.0
 * @category models
 */
export type HashRecord<F extends Fields> = { readonly [N in keyof F]?: Schema.Schema.Type<F[N]> | undefined }

/**
 * A description of a cache of objects: a plain value.
 *
 * @since 0.1.0
 * @category models
 */
export interface HashDefinition<in out K, in out F extends Fields> {
  readonly name: string
  readonly key: Schema.Schema<K, any>
  readonly fields: F
  /** Of the whole object, from the last write on. */
  readonly ttl: Duration.DurationInput
}

/**
 * @since 0.1.0
 * @category models
 */
export interface HashHandle<in out K, in out F extends Fields> {
  readonly name: string
  /** The fields that are there; nothing when there is none. */
  readonly get: (key: K) => Effect.Effect<Option.Option<HashRecord<F>>, RedisError>
  readonly getField: <N extends keyof F & string>(
    key: K,
    field: N
  ) => Effect.Effect<Option.Option<Schema.Schema.Type<F[N]>>, RedisError>
  /** Writes these fields in one step, and leaves the others. The whole object gets its time to live anew. */
  readonly set: (key: K, fields: HashRecord<F>) => Effect.Effect<void, RedisError>
  readonly setField: <N extends keyof F & string>(
    key: K,
    field: N,
    value: Schema.Schema.Type<F[N]>
  ) => Effect.Effect<void, RedisError>
  readonly deleteFields: (key: K, ...fields: ReadonlyArray<keyof F & string>) => Effect.Effect<void, RedisError>
  readonly delete: (key: K) => Effect.Effect<void, RedisError>
  /** Removes all objects step by step, and gives how many there were. */
  readonly clear: Effect.Effect<number, RedisError>
}

export const make = <K, F extends Fields>(
  shared: Shared,
  definition: HashDefinition<K, F>
): Effect.Effect<HashHandle<K, F>, RedisInputError> =>
  Effect.gen(function*() {
    const { name } = definition
    const bad = checkKey("Cache.openHash", name, "name")
    if (bad !== undefined) return yield* bad
    const life = yield* lifeOf("Cache.openHash", "ttl", definition.ttl)
    if (life === 0) return yield* inputError("Cache.openHash", "ttl", "longer than zero", 0)
    const { client, run } = shared
    const prefix = `${prefixOf(name)}h:`
    const writeText = keyWriter(definition.key)
    const writeKey = (operation: string, key: K): Either.Either<string, RedisInputError> => {
      const text = writeText(operation, key)
      return typeof text === "string" ? Either.right(text) : Either.left(text)
    }
    const counts = Metrics.make(name)
    const codecs = new Map(
      Object.entries(definition.fields).map(([field, schema]) => [
        field,
        { write: valueWriter(schema), read: valueReader(schema) }
      ])
    )

    const span = <A, E>(operation: string, effect: Effect.Effect<A, E>) =>
      withSpan(effect, operation, () => ({ "effect_redis.cache.name": name }))

    /** A field that can't be read is not there. */
    const read = (field: string, json: string): Option.Option<unknown> => {
      const codec = codecs.get(field)
      if (codec === undefined) return Option.none()
      const value = codec.read(json)
      if (Either.isRight(value)) return Option.some(value.right)
      counts.undecodable.add()
      run(Effect.logWarning(`the field "${field}" of the cache "${name}" can't be read, and counts as missing`))
      return Option.none()
    }

    const counted = <A>(found: Option.Option<A>): Option.Option<A> => {
      if (Option.isSome(found)) counts.hit.add()
      else counts.miss.add()
      return found
    }

    const known = (operation: string, field: string): Either.Either<string, RedisInputError> =>
      codecs.has(field)
        ? Either.right(field)
        : Either.left(inputError(operation, "field", `one of ${Array.from(codecs.keys()).join(", ")}`, field))

    const write = (operation: string, key: K, fields: HashRecord<F>): Effect.Effect<void, RedisError> =>
      Effect.suspend(() =>
        checked(
          Either.gen(function*() {
            const text = yield* writeKey(operation, key)
            const args: Array<string> = []
            for (const [field, value] of Object.entries(fields)) {
              if (value === undefined) continue
              args.push(yield* known(operation, field), yield* codecs.get(field)!.write(operation, value, field))
            }
            return args.length > 0
              ? { text, args }
              : yield* Either.left(inputError(operation, "fields", "at least one", "none"))
          }),
          ({ args, text }) =>
            span("cache.setFields", Effect.asVoid(client.eval(scripts.setFields, prefix + text, endOf(life), args)))
        )
      )

    return {
      name,
      get: (key) =>
        Effect.suspend(() =>
          checked(writeKey("Cache.getFields", key), (text) =>
            span(
              "cache.getFields",
              Effect.map(client.hgetAll(prefix + text), (all) => {
                const found: { [field: string]: unknown } = {}
                for (const [field, json] of Object.entries(all)) {
                  const value = read(field, json)
                  if (Option.isSome(value)) found[field] = value.value
                }
                return counted(Object.keys(found).length > 0 ? Option.some(found as HashRecord<F>) : Option.none())
              })
            ))
        ),
      getField: <N extends keyof F & string>(key: K, field: N) =>
        Effect.suspend(() =>
          checked(Either.flatMap(known("Cache.getField", field), () => writeKey("Cache.getField", key)), (text) =>
            span(
              "cache.getField",
              Effect.map(
                client.hget(prefix + text, field),
                (json) =>
                  counted(Option.flatMap(json, (json) => read(field, json) as Option.Option<Schema.Schema.Type<F[N]>>))
              )
            ))
        ),
      set: (key, fields) => write("Cache.setFields", key, fields),
      setField: (key, field, value) => write("Cache.setField", key, { [field]: value } as unknown as HashRecord<F>),
      deleteFields: (key, ...fields) =>
        Effect.suspend(() =>
          checked(writeKey("Cache.deleteFields", key), (text) =>
            fields.length === 0
              ? Effect.void
              : span("cache.deleteFields", Effect.asVoid(client.hdel(prefix + text, ...fields))))
        ),
      delete: (key) =>
        Effect.suspend(() =>
          checked(writeKey("Cache.delete", key), (text) =>
            span("cache.delete", Effect.asVoid(client.unlink(prefix + text))))
        ),
      clear: span("cache.clear", client.unlinkMatching(`${escapeGlob(prefix)}*`))
    }
  })
