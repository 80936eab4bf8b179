/**
 * Whatever is asked in whatever order: the store on Redis against that of upstream in memory, and against its own promise.
 */
import * as Limiter from "@effect/experimental/RateLimiter"
import { assert, describe, it } from "@effect/vitest"
import { Context, Duration, Effect, FastCheck, Layer, TestClock } from "effect"
import * as Store from "../../src/integrations/RateLimiterStore.js"

const steps = FastCheck.array(
  FastCheck.record({
    tokens: FastCheck.integer({ min: 0, max: 4 }),
    limited: FastCheck.boolean(),
    wait: FastCheck.integer({ min: 0, max: 1500 })
  }),
  { minLength: 1, maxLength: 25 }
)

const limit = FastCheck.integer({ min: 1, max: 6 })

// Whole ones, because upstream adds them up in milliseconds.
const refill = FastCheck.integer({ min: 1, max: 700 })

const stores = Effect.all({
  ours: Effect.map(Layer.build(Store.layerTest), Context.get(Limiter.RateLimiterStore)),
  upstream: Effect.map(Layer.build(Layer.fresh(Limiter.layerStoreMemory)), Context.get(Limiter.RateLimiterStore))
})

describe("RateLimiterStore by a model", () => {
  it.effect.prop(
    "a fixed window counts as upstream's in memory does",
    [steps, limit, refill],
    ([steps, limit, refill]) =>
      Effect.gen(function*() {
        const { ours, upstream } = yield* stores
        for (const { limited, tokens, wait } of steps) {
          const options = {
            key: "a",
            tokens,
            limit: limited ? limit : undefined,
            refillRate: Duration.millis(refill)
          }
          assert.deepStrictEqual(yield* ours.fixedWindow(options), yield* upstream.fixedWindow(options))
          yield* TestClock.adjust(wait)
        }
      }).pipe(Effect.scoped),
    { fastCheck: { numRuns: 40 } }
  )

  it.effect.prop(
    "a bucket never gives more than what it holds and what came back, and gives all of it after a rest",
    [steps, limit, refill],
    ([steps, limit, refill]) =>
      Effect.gen(function*() {
        const { ours } = yield* stores
        const take = (tokens: number) =>
          ours.tokenBucket({ key: "a", tokens, limit, refillRate: Duration.millis(refill), allowOverflow: false })
        const taken: Array<readonly [at: number, tokens: number]> = []
        let now = 0
        for (const { tokens, wait } of steps) {
          if ((yield* take(tokens)) >= 0) taken.push([now, tokens])
          yield* TestClock.adjust(wait)
          now += wait
        }
        for (const [i, [from]] of taken.entries()) {
          let sum = 0
          for (const [at, tokens] of taken.slice(i)) {
            sum += tokens
            assert.isAtMost(sum, limit + Math.floor((at - from) / refill))
          }
        }
        yield* TestClock.adjust(limit * refill)
        assert.strictEqual(yield* take(limit), 0)
      }).pipe(Effect.scoped),
    { fastCheck: { numRuns: 40 } }
  )
})
