/**
 * What the caches of one process share, that is of one built layer.
 */
import type * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Option from "effect/Option"
import type * as ParseResult from "effect/ParseResult"
import * as Random from "effect/Random"
import * as Schema from "effect/Schema"
import * as SchemaAST from "effect/SchemaAST"
import type * as Scope from "effect/Scope"
import { randomBytes } from "node:crypto"
import * as Alarm from "../internal/alarm.js"
import * as Breaker from "../internal/breaker.js"
import { checkKey, inputError } from "../internal/input.js"
import { exceptPlain } from "../internal/plainValues.js"
import { RedisClient, type Service as Client } from "../RedisClient.js"
import type { RedisError, RedisInputError } from "../RedisError.js"
import * as RedisScript from "../RedisScript.js"
import { CacheConflict } from "./CacheError.js"
import { markOf, MARKS, PATCH } from "./entry.js"
import * as scripts from "./scripts.js"

/** A lookup under way, and what others see of it on the server. */
export interface Held {
  readonly key: string
  /** What the entry begins with. It changes when a refresh is renewed. */
  held: string
  /** Milliseconds. */
  readonly length: number
  /** The next header, when it is not a lease but an entry that is refreshed. */
  readonly next: (() => string) | undefined
  renewAt: number
  /** It may be on the server. */
  sent: boolean
  /** It is not there any more. */
  settled: boolean
}

export interface Shared {
  readonly client: Client
  readonly scope: Scope.Scope
  readonly clock: Clock.Clock
  readonly breaker: Breaker.Breaker
  /** Names this process. */
  readonly process: string
  /** Runs in the background until the scope closes. */
  readonly run: Alarm.Alarm["run"]
  /** A mark that no other write has. */
  readonly mark: () => string
  readonly leaseToken: () => string
  /** A number from 0 to 1. */
  readonly random: () => number
  /** Renews what is held at every third of its length, until it is let go. */
  readonly hold: (held: Held) => void
  readonly letGo: (held: Held) => void
}

/** For how long a server that does not answer is not asked again, in milliseconds. */
const PAUSE = 1000

export const make: Effect.Effect<Shared, never, RedisClient | Scope.Scope> = Effect.gen(function*() {
  const client = yield* RedisClient
  const scope = yield* Effect.scope
  const clock = yield* Effect.clock
  const breaker = yield* Breaker.make({ name: "cache", failures: 1, pause: PAUSE, counts: Breaker.isOutage })
  const process = randomBytes(9).toString("base64url").replace(/[-_]/g, "0")
  let marks = yield* Random.nextIntBetween(0, MARKS)
  let leases = 0
  let seed = yield* Random.nextIntBetween(1, 2 ** 31 - 1)

  const held = new Set<Held>()
  const alarm = yield* Alarm.make(() => {
    const now = alarm.now()
    const calls: Array<ReturnType<typeof renewal>> = []
    let next = Infinity
    for (const one of held) {
      if (now >= one.renewAt) {
        one.renewAt = now + one.length / 3
        calls.push(renewal(one))
      }
      next = Math.min(next, one.renewAt)
    }
    // One that is lost is seen when its value is to be stored.
    if (calls.length > 0) alarm.run(Effect.ignore(client.pipeline(calls)))
    if (next < Infinity) alarm.ringBy(next)
  })

  const renewal = (one: Held) => {
    if (one.next === undefined) return RedisScript.call(scripts.extend, one.key, one.held, one.length)
    const before = one.held
    one.held = one.next()
    return RedisScript.call(scripts.elect, one.key, before, one.held.slice(PATCH))
  }

  return {
    client,
    scope,
    clock,
    breaker,
    process,
    run: alarm.run,
    mark: () => markOf(marks++),
    leaseToken: () => `L${process}${markOf(leases++)}`,
    // A multiplicative congruential generator is random enough to spread what would happen at once.
    random: () => (seed = (seed * 48271) % 2147483647) / 2147483647,
    hold: (one) => {
      one.renewAt = alarm.now() + one.length / 3
      held.add(one)
      alarm.ringBy(one.renewAt)
    },
    letGo: (one) => void held.delete(one)
  }
})

// ---------------------------------------------------------------------------------------------------------------------
// Definitions
// ---------------------------------------------------------------------------------------------------------------------

const isPlain = (u: unknown): u is Record<string, unknown> =>
  typeof u === "object" && u !== null && Object.getPrototypeOf(u) === Object.prototype

const same = (one: unknown, other: unknown): boolean => {
  if (Object.is(one, other)) return true
  if (!isPlain(one) || !isPlain(other)) return false
  const keys = new Set([...Object.keys(one), ...Object.keys(other)])
  for (const key of keys) if (!same(one[key], other[key])) return false
  return true
}

/** Opens what is defined once for each name. */
export const memo = <D extends { readonly name: string }, H>() => {
  const opened = new Map<string, readonly [definition: D, handle: H]>()
  return <E>(definition: D, make: () => Effect.Effect<H, E>): Effect.Effect<H, E | CacheConflict> =>
    Effect.suspend((): Effect.Effect<H, E | CacheConflict> => {
      const conflict = () => Effect.fail(new CacheConflict({ name: definition.name }))
      const present = opened.get(definition.name)
      if (present !== undefined) {
        return same(present[0], definition) ? Effect.succeed(present[1]) : conflict()
      }
      return Effect.flatMap(make(), (handle) => {
        // Two who open it at the same time get the same one.
        const first = opened.get(definition.name)
        if (first !== undefined) return same(first[0], definition) ? Effect.succeed(first[1]) : conflict()
        opened.set(definition.name, [definition, handle])
        return Effect.succeed(handle)
      })
    })
}

// ---------------------------------------------------------------------------------------------------------------------
// Values
// ---------------------------------------------------------------------------------------------------------------------

/** Milliseconds, rounded up: 0 where nothing is to be stored, and `Infinity` for no end. */
export const lifeOf = (
  operation: string,
  field: string,
  input: Duration.DurationInput
): Either.Either<number, RedisInputError> => {
  const decoded = typeof input === "number" && Number.isNaN(input) ? Option.none() : Duration.decodeUnknown(input)
  if (Option.isNone(decoded)) return Either.left(inputError(operation, field, "a duration", input))
  const millis = Duration.toMillis(decoded.value)
  return Either.right(millis > 10_000 * 365 * 86_400_000 ? Infinity : Math.ceil(millis))
}

/** A life as scripts take it. */
export const endOf = (life: number): number => life === Infinity ? 0 : life

const isText = (schema: Schema.Schema<any, any>): boolean => {
  const { ast } = Schema.encodedSchema(schema)
  return SchemaAST.isStringKeyword(ast) || SchemaAST.isTemplateLiteral(ast) ||
    (SchemaAST.isLiteral(ast) && typeof ast.literal === "string")
}

/** JSON whose fields are in order, so that equal keys are equal texts. */
const stable = (u: unknown): string =>
  JSON.stringify(u, (_, value: unknown) =>
    isPlain(value)
      ? Object.fromEntries(Object.keys(value).sort().map((key) => [key, value[key]]))
      : value)

/** How a key is written. Most are written to be looked up near, so nothing is wrapped. */
export const keyWriter = <K>(
  schema: Schema.Schema<K, any>
): (operation: string, key: K) => string | RedisInputError => {
  const encode = Schema.encodeUnknownEither(schema)
  const text = isText(schema)
  const plain = Object.is(schema, Schema.String)
  return (operation, key) => {
    if (plain && typeof key === "string" && key.length > 0) return key
    const encoded = encode(key)
    if (Either.isLeft(encoded)) return inputError(operation, "key", String(schema.ast), typeof key)
    const written = text ? String(encoded.right) : stable(encoded.right)
    return checkKey(operation, written) ?? written
  }
}

/** How a value is written: as JSON. */
export const valueWriter = <A>(
  schema: Schema.Schema<A, any>
): (operation: string, value: A, field?: string) => Either.Either<string, RedisInputError> => {
  const encode = exceptPlain(schema, Schema.encodeUnknownEither(schema))
  return (operation, value, field = "value") => {
    const encoded = encode(value)
    let json: string | undefined
    try {
      json = Either.isRight(encoded) ? JSON.stringify(encoded.right) : undefined
    } catch {
      // It refers to itself, or holds what JSON can't.
    }
    return json === undefined
      ? Either.left(inputError(operation, field, `a value of ${String(schema.ast)}, as JSON`, typeof value))
      : Either.right(json)
  }
}

/** What JSON has held; a schema may throw. */
export const valueDecoder = <A>(schema: Schema.Schema<A, any>): (value: unknown) => Either.Either<A, ParseError> =>
  exceptPlain(schema, Schema.decodeUnknownEither(schema))

export const valueReader = <A>(schema: Schema.Schema<A, any>): (json: string) => Either.Either<A, ParseError> => {
  const decode = valueDecoder(schema)
  return (json) => {
    try {
      return decode(JSON.parse(json))
    } catch {
      return Either.left(undefined)
    }
  }
}

/**
 * Several texts of JSON in one go, which costs a quarter less than one after the other; nothing when one of them is none.
 *
 * No text that is broken is completed by good ones: strings end with their line, and brackets that it opens or closes are
 * missing, or left over, at the end. Where it is several values the number is another one.
 */
export const parseAll = (texts: ReadonlyArray<string>): ReadonlyArray<unknown> | undefined => {
  try {
    const all: unknown = JSON.parse(`[${texts.join(",\n")}]`)
    return Array.isArray(all) && all.length === texts.length ? all : undefined
  } catch {
    return undefined
  }
}

type ParseError = ParseResult.ParseError | undefined

/** Fails when the input is refused. */
export const checked = <A, B, E, R>(
  input: Either.Either<A, RedisInputError>,
  use: (a: A) => Effect.Effect<B, E, R>
): Effect.Effect<B, E | RedisError, R> => Either.isLeft(input) ? Effect.fail(input.left) : use(input.right)

/** Fails when the key is refused. */
export const keyed = <B, E, R>(
  text: string | RedisInputError,
  use: (text: string) => Effect.Effect<B, E, R>
): Effect.Effect<B, E | RedisError, R> => typeof text === "string" ? use(text) : Effect.fail(text)

const RESERVED = /[%:{}]/

/** What the keys of a namespace begin with. No name is the beginning of another one's keys. */
export const prefixOf = (name: string): string =>
  `cache:${RESERVED.test(name) ? name.replace(/[%:{}]/g, encodeURIComponent) : name}:`
