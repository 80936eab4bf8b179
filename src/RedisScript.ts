/**
 * A Lua script as a typed value: its text, what it takes, and what it returns.
 *
 * @since 0.1.0
 */
import * as Either from "effect/Either"
import * as Schema from "effect/Schema"
import { createHash } from "node:crypto"
import type { BytesReply, Encoding, RedisArg, Reply } from "./RedisClient.js"

/**
 * @since 0.1.0
 * @category type ids
 */
export const TypeId: unique symbol = Symbol.for("effect-redis-kit/RedisScript")

/**
 * @since 0.1.0
 * @category type ids
 */
export type TypeId = typeof TypeId

/**
 * What a script is called with. Every key that the script touches is declared in `keys`, where the client puts its key
 * prefix before it; `args` are passed as they are.
 *
 * @since 0.1.0
 * @category models
 */
export interface Params {
  readonly keys: ReadonlyArray<string>
  readonly args: ReadonlyArray<RedisArg>
}

/**
 * A script that takes `P` and returns `A`.
 *
 * @since 0.1.0
 * @category models
 */
export interface RedisScript<in P extends ReadonlyArray<any>, out A> {
  readonly [TypeId]: TypeId
  /** For errors, spans and metrics. */
  readonly name: string
  readonly lua: string
  /** SHA-1 of the text, by which the server knows it. */
  readonly sha: string
  readonly params: (...params: P) => Params
  /** Whether strings in the reply arrive as text or as bytes. */
  readonly encoding: Encoding
  /** `Left` describes the shape that was expected. */
  readonly decode: (reply: any) => Either.Either<A, string>
  /**
   * Whether running it twice with the same parameters is the same as running it once, so that the client may send it
   * again when the reply was lost.
   */
  readonly idempotent: boolean
}

/**
 * A script together with its parameters: an entry of a pipeline or a transaction.
 *
 * @since 0.1.0
 * @category models
 */
export interface Call<out A = unknown> {
  readonly [TypeId]: TypeId
  readonly script: RedisScript<any, A>
  readonly params: Params
}

/**
 * Describes a script.
 *
 * Keep to four rules: declare every key, take the time from `redis.call("TIME")` and never from an argument, format
 * numbers that may pass 1e14 with `string.format("%.0f", n)` because Lua prints only 14 digits, and let keys of one call
 * share a hash tag.
 *
 * @example
 * ```ts
 * import { RedisScript } from "effect-redis-kit"
 *
 * // Adds to a counter, and gives it a life with the first addition.
 * const countWithin = RedisScript.make({
 *   name: "countWithin",
 *   lua: `
 *     local n = redis.call("INCRBY", KEYS[1], ARGV[1])
 *     if n == tonumber(ARGV[1]) then redis.call("PEXPIRE", KEYS[1], ARGV[2]) end
 *     return n`,
 *   params: (key: string, by: number, millis: number) => ({ keys: [key], args: [by, millis] }),
 *   result: RedisScript.number
 * })
 * ```
 *
 * @since 0.1.0
 * @category constructors
 */
export const make: {
  <P extends ReadonlyArray<any>, A, I = any>(options: {
    readonly name: string
    readonly lua: string
    readonly params: (...params: P) => Params
    readonly result: ((reply: Reply) => Either.Either<A, string>) | Schema.Schema<A, I>
    readonly encoding?: "text" | undefined
    readonly idempotent?: boolean | undefined
  }): RedisScript<P, A>
  <P extends ReadonlyArray<any>, A, I = any>(options: {
    readonly name: string
    readonly lua: string
    readonly params: (...params: P) => Params
    readonly result: ((reply: BytesReply) => Either.Either<A, string>) | Schema.Schema<A, I>
    readonly encoding: "bytes"
    readonly idempotent?: boolean | undefined
  }): RedisScript<P, A>
} = <P extends ReadonlyArray<any>, A>(options: {
  readonly name: string
  readonly lua: string
  readonly params: (...params: P) => Params
  readonly result: ((reply: any) => Either.Either<A, string>) | Schema.Schema<A, any>
  readonly encoding?: Encoding | undefined
  readonly idempotent?: boolean | undefined
}): RedisScript<P, A> => ({
  [TypeId]: TypeId,
  name: options.name,
  lua: options.lua,
  sha: createHash("sha1").update(options.lua).digest("hex"),
  params: options.params,
  encoding: options.encoding ?? "text",
  decode: isSchema(options.result) ? fromSchema(options.result) : options.result,
  idempotent: options.idempotent ?? false
})

const isSchema = <A>(
  result: ((reply: any) => Either.Either<A, string>) | Schema.Schema<A, any>
): result is Schema.Schema<A, any> => Schema.isSchema(result)

const fromSchema = <A>(schema: Schema.Schema<A, any>): (reply: unknown) => Either.Either<A, string> => {
  const decode = Schema.decodeUnknownEither(schema)
  return (reply) => Either.mapLeft(decode(reply), () => String(schema.ast))
}

/**
 * A script with its parameters, for `pipeline` and `transaction`.
 *
 * @since 0.1.0
 * @category constructors
 */
export const call = <P extends ReadonlyArray<any>, A>(script: RedisScript<P, A>, ...params: P): Call<A> => ({
  [TypeId]: TypeId,
  script,
  params: script.params(...params)
})

/**
 * @since 0.1.0
 * @category refinements
 */
export const isCall = (u: object): u is Call => TypeId in u && "params" in u && "script" in u

/**
 * Decoders for the replies that most scripts give.
 *
 * @since 0.1.0
 * @category decoders
 */
export const number = (reply: Reply): Either.Either<number, string> =>
  typeof reply === "number" ? Either.right(reply) : Either.left("a number")

/**
 * @since 0.1.0
 * @category decoders
 */
export const string = (reply: Reply): Either.Either<string, string> =>
  typeof reply === "string" ? Either.right(reply) : Either.left("a text")

/**
 * For 1 and 0, and for `true` and `false` in Lua, which arrive as 1 and nothing.
 *
 * @since 0.1.0
 * @category decoders
 */
export const boolean = (reply: Reply): Either.Either<boolean, string> =>
  reply === 1
    ? Either.right(true)
    : reply === 0 || reply === null
    ? Either.right(false)
    : Either.left("1, 0 or nothing")

/**
 * The reply as it is.
 *
 * @since 0.1.0
 * @category decoders
 */
export const reply = (reply: Reply): Either.Either<Reply, string> => Either.right(reply)
