/**
 * The options of a cache, checked once when it is opened.
 */
import type * as Duration from "effect/Duration"
import * as Either from "effect/Either"
import { checkKey, inputError, nonNegativeMillis, positiveMillis } from "../internal/input.js"
import type { RedisInputError } from "../RedisError.js"
import type { Options } from "./Cache.js"
import { lifeOf } from "./Shared.js"

export interface Settings<in K, in A> {
  /** Milliseconds, and `Infinity` for no end. */
  readonly life: (value: A, key: K) => Either.Either<number, RedisInputError>
  /** Of every entry, as far as it is known. */
  readonly longest: number
  readonly near: { readonly capacity: number; readonly bytes: number | undefined; readonly ttl: number } | undefined
  readonly grace: number
  readonly beta: number | undefined
  readonly negative: number | undefined
  readonly jitter: number
  readonly maxBytes: number
  readonly backoff: number
  readonly soft: number
  readonly hard: number | undefined
  readonly lease: number
}

const OPERATION = "Cache.open"

export const settingsOf = <K, A, E>(options: Options<K, A, E>): Either.Either<Settings<K, A>, RedisInputError> =>
  Either.gen(function*() {
    const refuse = (field: string, expected: string, actual: unknown) =>
      Either.left(inputError(OPERATION, field, expected, actual))
    const optional = (
      check: typeof positiveMillis,
      field: string,
      input: Duration.DurationInput | undefined
    ): Either.Either<number | undefined, RedisInputError> =>
      input === undefined ? Either.right(undefined) : check(OPERATION, field, input)
    const atLeastOne = (field: string, n: number | undefined): Either.Either<void, RedisInputError> =>
      n === undefined || (Number.isSafeInteger(n) && n >= 1)
        ? Either.void
        : refuse(field, "a whole number of one or more", n)

    const bad = checkKey(OPERATION, options.name, "name")
    if (bad !== undefined) return yield* Either.left(bad)
    const { earlyRefresh, near, ttl } = options
    const fixed = typeof ttl === "function" ? undefined : yield* lifeOf(OPERATION, "ttl", ttl)
    if (fixed === 0) return yield* refuse("ttl", "longer than zero", ttl)
    yield* atLeastOne("near.capacity", near?.capacity)
    yield* atLeastOne("near.bytes", near?.bytes)
    yield* atLeastOne("maxBytes", options.maxBytes)
    const jitter = options.jitter ?? 0
    if (!(jitter >= 0 && jitter <= 1)) return yield* refuse("jitter", "a number from 0 to 1", jitter)
    const beta = earlyRefresh === true ? 1 : earlyRefresh === false ? undefined : earlyRefresh?.beta
    if (beta !== undefined && !(beta > 0 && beta < Infinity)) {
      return yield* refuse("earlyRefresh.beta", "a number greater than zero", beta)
    }
    const grace = (yield* optional(nonNegativeMillis, "grace", options.grace)) ?? 0
    return {
      life: typeof ttl === "function"
        ? (value: A, key: K) => lifeOf("Cache", "ttl", ttl(value, key))
        : () => Either.right(fixed!),
      longest: fixed === undefined || fixed === Infinity ? 0 : fixed + grace,
      near: near === undefined ? undefined : {
        capacity: near.capacity,
        bytes: near.bytes,
        ttl: (yield* optional(positiveMillis, "near.ttl", near.ttl)) ?? Infinity
      },
      grace,
      beta,
      negative: yield* optional(positiveMillis, "negative.ttl", options.negative?.ttl),
      jitter,
      maxBytes: options.maxBytes ?? Infinity,
      backoff: (yield* optional(positiveMillis, "backoff", options.backoff)) ?? 10_000,
      soft: (yield* optional(nonNegativeMillis, "lookupTimeout.soft", options.lookupTimeout?.soft)) ?? 0,
      hard: yield* optional(positiveMillis, "lookupTimeout.hard", options.lookupTimeout?.hard),
      lease: (yield* optional(positiveMillis, "lease", options.lease)) ?? 10_000
    }
  })
