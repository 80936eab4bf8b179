/**
 * Where `@effect/experimental/RateLimiter` keeps its counts: all processes together stay within a limit, by the clock of
 * the server.
 *
 * @since 0.1.0
 */
import { RateLimiterStore, RateLimitStoreError } from "@effect/experimental/RateLimiter"
import type * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Layer from "effect/Layer"
import { inputError } from "../internal/input.js"
import { withSpan } from "../internal/telemetry.js"
import { RedisClient, type Reply } from "../RedisClient.js"
import type { RedisError, RedisInputError } from "../RedisError.js"
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
  /** What its keys begin with; `"ratelimiter:"` by default. */
  readonly prefix?: string | undefined
}

// ---------------------------------------------------------------------------------------------------------------------
// Constructors
// ---------------------------------------------------------------------------------------------------------------------

/**
 * What both scripts have in common. The state of a key is two numbers, the second one a time in microseconds. It lives
 * until it says no more than no state at all, and numbers are printed with all their digits.
 */
const common = `
local clock = redis.call('TIME')
local now = clock[1] * 1000000 + clock[2]
local tokens, refill, limit = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local first, second = string.match(redis.call('GET', KEYS[1]) or '', '^(%S+) (%S+)$')
first, second = tonumber(first), tonumber(second)

local function text(n) return string.format('%.17g', n) end

local function keep(n, time, micros)
  local millis = math.min(math.max(math.ceil(micros / 1000), 1), 315360000000000)
  redis.call('SET', KEYS[1], text(n) .. ' ' .. text(time), 'PX', string.format('%.0f', millis))
end
`

const numbers = (n: number) => (reply: Reply): Either.Either<ReadonlyArray<number>, string> => {
  const values = Array.isArray(reply) ? reply.map(Number) : []
  return values.length === n && !values.some(Number.isNaN) ? Either.right(values) : Either.left(`${n} numbers`)
}

/**
 * Counts tokens until the time that all of them take to come back is over. A refusal writes nothing. O(1).
 *
 * KEYS the state: the count, and when it ends. ARGV tokens, microseconds for one token, limit or nothing.
 * Returns `[count, microseconds left]`.
 */
const fixedWindow = RedisScript.make({
  name: "rateLimiterStore.fixedWindow",
  lua: `${common}
local count, ends = first, second
if not count or not ends or ends <= now then count, ends = 0, now end
if limit and count + tokens > limit then return { text(count + tokens), text(ends - now) } end
count, ends = count + tokens, ends + refill * tokens
if ends > now then keep(count, ends, ends - now) end
return { text(count), text(ends - now) }`,
  params: (key: string, tokens: number, refill: number, limit: number | undefined) => ({
    keys: [key],
    args: [tokens, refill, limit ?? ""]
  }),
  result: numbers(2)
})

/**
 * Takes tokens from a bucket that gets one back after the other. A refusal writes nothing. O(1).
 *
 * KEYS the state: the tokens, and since when they are so many. ARGV tokens, microseconds for one token, limit, whether
 * more can be taken than there are. Returns `[tokens that remain]`.
 */
const tokenBucket = RedisScript.make({
  name: "rateLimiterStore.tokenBucket",
  lua: `${common}
local left, since = first, second
if not left or not since or since > now then left, since = left or limit, now end
local back = math.floor((now - since) / refill)
left, since = left + back, since + back * refill
if left >= limit then left, since = limit, now end
local remaining = left - tokens
if remaining < 0 and ARGV[4] ~= '1' then return { text(remaining) } end
if remaining < limit then keep(remaining, since, since + (limit - remaining) * refill - now) end
return { text(remaining) }`,
  params: (key: string, tokens: number, refill: number, limit: number, overflow: boolean) => ({
    keys: [key],
    args: [tokens, refill, limit, overflow ? "1" : "0"]
  }),
  result: numbers(1)
})

const check = (
  operation: string,
  options: { readonly tokens: number; readonly limit: number | undefined; readonly refillRate: Duration.Duration }
): Either.Either<number, RedisInputError> => {
  const { limit, refillRate, tokens } = options
  const count = "a finite number of zero or more"
  if (!Number.isFinite(tokens) || tokens < 0) return Either.left(inputError(operation, "tokens", count, tokens))
  if (limit !== undefined && (!Number.isFinite(limit) || limit < 0)) {
    return Either.left(inputError(operation, "limit", count, limit))
  }
  const micros = Duration.toMillis(refillRate) * 1000
  return micros > 0 && micros < Infinity
    ? Either.right(micros)
    : Either.left(inputError(operation, "refillRate", "a finite duration greater than zero", refillRate))
}

const storeError = (cause: RedisError): RateLimitStoreError =>
  new RateLimitStoreError({ message: `the limit could not be checked: ${cause.message}`, cause })

/**
 * A store over the client of the environment.
 *
 * @since 0.1.0
 * @category constructors
 */
export const make = (
  options?: Options
): Effect.Effect<Context.Tag.Service<typeof RateLimiterStore>, never, RedisClient> =>
  Effect.map(RedisClient, (client) => {
    // Each algorithm has its own state, so that a key can be used with both.
    const prefix = options?.prefix ?? "ratelimiter:"
    return {
      fixedWindow: ({ key, limit, refillRate, tokens }) => {
        const micros = check("RateLimiterStore.fixedWindow", { tokens, limit, refillRate })
        return Either.isLeft(micros)
          ? Effect.fail(storeError(micros.left))
          : withSpan(
            client.eval(fixedWindow, `${prefix}window:${key}`, tokens, micros.right, limit).pipe(
              Effect.mapBoth({
                onFailure: storeError,
                onSuccess: ([count, micros]) => [count!, micros! / 1000] as const
              })
            ),
            "rateLimiterStore.fixedWindow",
            () => ({ "effect_redis.rate_limiter.key": key })
          )
      },
      tokenBucket: ({ allowOverflow, key, limit, refillRate, tokens }) => {
        const micros = check("RateLimiterStore.tokenBucket", { tokens, limit, refillRate })
        return Either.isLeft(micros)
          ? Effect.fail(storeError(micros.left))
          : withSpan(
            client.eval(tokenBucket, `${prefix}bucket:${key}`, tokens, micros.right, limit, allowOverflow).pipe(
              Effect.mapBoth({ onFailure: storeError, onSuccess: ([remaining]) => remaining! })
            ),
            "rateLimiterStore.tokenBucket",
            () => ({ "effect_redis.rate_limiter.key": key })
          )
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
export const layerWith = (options?: Options): Layer.Layer<RateLimiterStore, never, RedisClient> =>
  Layer.effect(RateLimiterStore, make(options))

/**
 * @example
 * ```ts
 * import * as RateLimiter from "@effect/experimental/RateLimiter"
 * import { Effect, Layer } from "effect"
 * import * as RateLimiterStore from "effect-redis-kit/integrations/RateLimiterStore"
 * import * as IoRedis from "effect-redis-kit/IoRedis"
 *
 * const Limits = RateLimiter.layer.pipe(
 *   Layer.provide(RateLimiterStore.layer),
 *   Layer.provide(IoRedis.layerConfig())
 * )
 *
 * const program = Effect.gen(function*() {
 *   const withLimiter = yield* RateLimiter.makeWithRateLimiter
 *   yield* Effect.log("sent").pipe(
 *     withLimiter({ key: "sms", limit: 3, window: "1 second", onExceeded: "delay" })
 *   )
 * }).pipe(Effect.provide(Limits))
 * ```
 *
 * @since 0.1.0
 * @category layers
 */
export const layer: Layer.Layer<RateLimiterStore, never, RedisClient> = layerWith()

/**
 * A store on a server in memory, with the server and its client beside it.
 *
 * @since 0.1.0
 * @category layers
 */
export const layerTest: Layer.Layer<RateLimiterStore | RedisClient | RedisTestServer> = Layer.provideMerge(
  layer,
  testServer
)
