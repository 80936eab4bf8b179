import { layer as limiterLayer, RateLimiter, RateLimiterStore } from "@effect/experimental/RateLimiter"
import * as Limiter from "@effect/experimental/RateLimiter"
import { assert, layer } from "@effect/vitest"
import { type Clock, Duration, Effect, Either, Layer, Option, Schema } from "effect"
import * as Store from "../../src/integrations/RateLimiterStore.js"
import { RedisClient } from "../../src/RedisClient.js"
import type { RedisError } from "../../src/RedisError.js"
import { fresh, type Time } from "../kit/suites.js"

const ttl = (key: string) =>
  Effect.flatMap(
    RedisClient,
    (client) =>
      Effect.map(client.ttl(`ratelimiter:${key}`), Option.match({ onNone: () => 0, onSome: Duration.toMillis }))
  )

const consume = (options: Parameters<RateLimiter["consume"]>[0]) =>
  Effect.flatMap(RateLimiter, (limiter) => limiter.consume(options))

const isExceeded = Schema.is(Limiter.RateLimitExceeded)

const algorithms = ["fixed-window", "token-bucket"] as const

export const suite = (
  name: string,
  driver: Layer.Layer<RedisClient, RedisError>,
  options: { readonly excludeTestServices?: boolean },
  { elapse }: Time
) => {
  const services = limiterLayer.pipe(Layer.provideMerge(Store.layer), Layer.provideMerge(driver), Layer.orDie)

  layer(services, options)(`RateLimiterStore, ${name}`, (it) => {
    for (const algorithm of algorithms) {
      it.effect(`${algorithm}: no window that is not whole milliseconds for a token is an error`, () =>
        Effect.gen(function*() {
          for (
            const [limit, window] of [[3, "1 minute"], [7, "1 second"], [2000, "1 second"], [3, "100 nanos"]] as const
          ) {
            const key = fresh("fractions")
            const first = yield* consume({ algorithm, key, limit, window })
            assert.strictEqual(first.remaining, limit - 1)
            assert.isTrue(Duration.isZero(first.delay))
          }
        }))

      it.effect(`${algorithm}: exactly the limit is let in by many at once, and the time to wait is told`, () =>
        Effect.gen(function*() {
          const key = fresh("crowd")
          const results = yield* Effect.forEach(
            Array.from({ length: 50 }),
            () => Effect.either(consume({ algorithm, key, limit: 20, window: "1 hour" })),
            { concurrency: "unbounded" }
          )
          const accepted = results.filter(Either.isRight)
          assert.strictEqual(accepted.length, 20)
          assert.deepStrictEqual(
            accepted.map(({ right }) => right.remaining).sort((a, b) => a - b),
            Array.from({ length: 20 }, (_, i) => i)
          )
          for (const result of results) {
            if (Either.isRight(result)) continue
            assert(isExceeded(result.left))
            assert.strictEqual(result.left.limit, 20)
            assert.isAbove(Duration.toMillis(result.left.retryAfter), 0)
            assert.isAtMost(Duration.toMillis(result.left.retryAfter), 3_600_000)
          }
        }))

      it.effect(`${algorithm}: lets in again when the time is over`, () =>
        Effect.gen(function*() {
          const key = fresh("again")
          const take = consume({ algorithm, key, limit: 2, window: "1200 millis" })
          yield* take
          yield* take
          const failure = yield* Effect.flip(take)
          assert(isExceeded(failure))
          yield* elapse(Duration.sum(failure.retryAfter, Duration.millis(1)))
          yield* take
        }))

      it.effect(`${algorithm}: no key lives longer than it says anything`, () =>
        Effect.gen(function*() {
          const key = fresh("life")
          const part = algorithm === "fixed-window" ? "window" : "bucket"
          const take = (key: string, window: Duration.DurationInput, onExceeded: "fail" | "delay", tokens: number) =>
            Effect.either(consume({ algorithm, key, limit: 3, window, onExceeded, tokens }))
          const hours = Effect.map(ttl(`${part}:${key}`), (millis) => Math.ceil(millis / 3_600_000))
          yield* take(key, "3 hours", "fail", 1)
          assert.strictEqual(yield* hours, 1)
          yield* take(key, "3 hours", "fail", 2)
          assert.strictEqual(yield* hours, 3)
          // Refused: as it was.
          yield* take(key, "3 hours", "fail", 3)
          assert.strictEqual(yield* hours, 3)
          yield* take(key, "3 hours", "delay", 3)
          assert.strictEqual(yield* hours, 6)
          const short = fresh("short")
          yield* take(short, "600 millis", "delay", 3)
          yield* elapse("601 millis")
          assert.strictEqual(yield* ttl(`${part}:${short}`), 0)
        }))

      it.effect(`${algorithm}: with delay nobody is refused, and each waits for its turn`, () =>
        Effect.gen(function*() {
          const key = fresh("delay")
          const delays: Array<number> = []
          for (let i = 0; i < 7; i++) {
            const { delay } = yield* consume({ algorithm, key, limit: 2, window: "1 hour", onExceeded: "delay" })
            delays.push(Duration.toHours(delay))
          }
          // Whole windows for one; for the other a token after the other.
          const expected = algorithm === "fixed-window" ? [0, 0, 1, 1, 2, 2, 3] : [0, 0, 0.5, 1, 1.5, 2, 2.5]
          delays.forEach((delay, i) => assert.closeTo(delay, expected[i]!, 0.01))
        }))

      it.effect(`${algorithm}: what is left of a key by others is no error for ever`, () =>
        Effect.gen(function*() {
          const client = yield* RedisClient
          const key = fresh("rubbish")
          const part = algorithm === "fixed-window" ? "window" : "bucket"
          for (const rubbish of ["rubbish", "", "5", "x y"]) {
            yield* client.set(`ratelimiter:${part}:${key}`, rubbish)
            assert.strictEqual((yield* consume({ algorithm, key, limit: 3, window: "1 hour" })).remaining, 2)
          }
        }))

      it.effect(`${algorithm}: a cost of zero tells what is left, and costs nothing`, () =>
        Effect.gen(function*() {
          const key = fresh("zero")
          const look = consume({ algorithm, key, limit: 3, window: "1 hour", tokens: 0 })
          assert.strictEqual((yield* look).remaining, 3)
          yield* consume({ algorithm, key, limit: 3, window: "1 hour", tokens: 2 })
          assert.strictEqual((yield* look).remaining, 1)
          assert.strictEqual((yield* look).remaining, 1)
        }))

      it.effect(`${algorithm}: what makes no sense is refused by name, and nothing is sent`, () =>
        Effect.gen(function*() {
          const key = fresh("nonsense")
          const refused = (field: string, options: Partial<Parameters<RateLimiter["consume"]>[0]>) =>
            Effect.gen(function*() {
              const failure = yield* Effect.flip(
                consume({ algorithm, key, limit: 3, window: "1 hour", ...options })
              )
              assert(!isExceeded(failure))
              assert.include(failure.message, `${field} must be`)
            })
          yield* refused("tokens", { tokens: -1 })
          yield* refused("tokens", { tokens: NaN })
          yield* refused("refillRate", { window: 0 })
          yield* refused("refillRate", { window: Infinity })
          if (algorithm === "token-bucket") yield* refused("limit", { limit: NaN })
          assert.strictEqual(yield* ttl(`window:${key}`), 0)
          assert.strictEqual(yield* ttl(`bucket:${key}`), 0)
        }))
    }

    it.effect("a key can be used with both algorithms, and they do not disturb each other", () =>
      Effect.gen(function*() {
        const key = fresh("both")
        for (let i = 1; i <= 3; i++) {
          for (const algorithm of algorithms) {
            const { remaining } = yield* consume({ algorithm, key, limit: 3, window: "1 hour" })
            assert.strictEqual(remaining, 3 - i)
          }
        }
      }))

    it.effect("a bucket fills up token by token, and never beyond the limit", () =>
      Effect.gen(function*() {
        const store = yield* RateLimiterStore
        const key = fresh("bucket")
        const take = (tokens: number) =>
          store.tokenBucket({ key, tokens, limit: 2, refillRate: Duration.millis(400), allowOverflow: false })
        assert.strictEqual(yield* take(2), 0)
        assert.strictEqual(yield* take(1), -1)
        yield* elapse("410 millis")
        assert.strictEqual(yield* take(1), 0)
        yield* elapse("1300 millis")
        assert.strictEqual(yield* take(2), 0)
        assert.strictEqual(yield* take(1), -1)
      }))

    it.effect("a bucket whose limit becomes smaller holds no more than that, at once", () =>
      Effect.gen(function*() {
        const store = yield* RateLimiterStore
        const key = fresh("smaller")
        const take = (tokens: number, limit: number) =>
          store.tokenBucket({ key, tokens, limit, refillRate: Duration.hours(1), allowOverflow: false })
        assert.strictEqual(yield* take(1, 10), 9)
        assert.strictEqual(yield* take(3, 2), -1)
        assert.strictEqual(yield* take(2, 2), 0)
      }))

    it.effect("a server whose clock was set back does not stop a bucket until that time comes again", () =>
      Effect.gen(function*() {
        const client = yield* RedisClient
        const store = yield* RateLimiterStore
        const key = fresh("back")
        const take = store.tokenBucket({
          key,
          tokens: 1,
          limit: 3,
          refillRate: Duration.millis(400),
          allowOverflow: false
        })
        yield* client.set(`ratelimiter:bucket:${key}`, "1 1e17")
        assert.strictEqual(yield* take, 0)
        assert.isAtMost(yield* ttl(`bucket:${key}`), 1200)
        yield* elapse("410 millis")
        assert.strictEqual(yield* take, 0)
      }))

    it.effect("a client whose clock is wrong gets no more than others", () =>
      Effect.gen(function*() {
        const clock = yield* Effect.clock
        const wrong: Clock.Clock = Object.assign(Object.create(clock), {
          unsafeCurrentTimeMillis: () => clock.unsafeCurrentTimeMillis() + 86_400_000,
          unsafeCurrentTimeNanos: () => clock.unsafeCurrentTimeNanos() + 86_400_000_000_000n
        })
        for (const algorithm of algorithms) {
          const take = consume({ algorithm, key: fresh("clock"), limit: 2, window: "1 hour" })
          yield* take
          yield* Effect.withClock(take, wrong)
          assert(isExceeded(yield* Effect.flip(Effect.withClock(take, wrong))))
          assert(isExceeded(yield* Effect.flip(take)))
        }
      }))

    it.effect("the store counts by its contract: a refusal tells what it would be, and changes nothing", () =>
      Effect.gen(function*() {
        const store = yield* RateLimiterStore
        const key = fresh("contract")
        const window = (tokens: number, limit: number | undefined) =>
          store.fixedWindow({ key, tokens, limit, refillRate: Duration.minutes(1) })
        assert.strictEqual((yield* window(2, 3))[0], 2)
        const [count, left] = yield* window(5, 3)
        assert.strictEqual(count, 7)
        assert.isAtMost(left, 120_000)
        assert.isAbove(left, 100_000)
        assert.strictEqual((yield* window(1, 3))[0], 3)
        const [beyond, longer] = yield* window(3, undefined)
        assert.strictEqual(beyond, 6)
        assert.isAbove(longer, 340_000)
      }))

    it.effect("large numbers and fractions of tokens are exact", () =>
      Effect.gen(function*() {
        const store = yield* RateLimiterStore
        const key = fresh("exact")
        const limit = 9_007_199_254_740_991
        const bucket = (tokens: number) =>
          store.tokenBucket({ key, tokens, limit, refillRate: Duration.hours(1), allowOverflow: false })
        assert.strictEqual(yield* bucket(1), limit - 1)
        assert.strictEqual(yield* bucket(2), limit - 3)
        const window = (tokens: number) => store.fixedWindow({ key, tokens, limit: 2, refillRate: Duration.hours(1) })
        assert.strictEqual((yield* window(0.25))[0], 0.25)
        assert.strictEqual((yield* window(1.5))[0], 1.75)
        assert.strictEqual((yield* window(0.5))[0], 2.25)
      }))

    it.effect("withLimiter runs its effect, or fails, by what the store says", () =>
      Effect.gen(function*() {
        const withLimiter = yield* Limiter.makeWithRateLimiter
        const options = { key: fresh("with"), limit: 1, window: "1 hour" } as const
        assert.strictEqual(yield* Effect.succeed("sent").pipe(withLimiter(options)), "sent")
        assert(isExceeded(yield* Effect.flip(Effect.succeed("sent").pipe(withLimiter(options)))))
      }))
  })
}
