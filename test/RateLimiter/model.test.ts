import { assert, describe, it } from "@effect/vitest"
import { Clock, Duration, Effect, FastCheck, Layer, TestClock } from "effect"
import * as RateLimiter from "../../src/RateLimiter/index.js"
import { live } from "../kit/layers.js"
import { fresh } from "../kit/suites.js"
import { type Answer, modelOf, type Settings, type Step, steps } from "./model.js"

/** The limits of a window, some of which divide it without a rest and some do not. */
const limits: Readonly<Record<string, FastCheck.Arbitrary<Settings>>> = {
  "gcra": FastCheck.record({
    algorithm: FastCheck.constantFrom("gcra" as const, "token-bucket" as const),
    limit: FastCheck.constantFrom(1, 2, 3, 7, 10, 60, 999, 3000),
    burst: FastCheck.option(FastCheck.integer({ min: 1, max: 30 }), { nil: undefined }),
    window: FastCheck.constantFrom(250, 1000, 1001, 60_000, 2_592_000_000)
  }),
  "sliding-window, exact": FastCheck.record({
    algorithm: FastCheck.constant("sliding-window" as const),
    limit: FastCheck.constantFrom(1, 2, 3, 10, 100),
    window: FastCheck.constantFrom(10, 1000, 60_000)
  }),
  "sliding-window, in parts": FastCheck.record({
    algorithm: FastCheck.constant("sliding-window" as const),
    limit: FastCheck.constantFrom(1001, 1500),
    window: FastCheck.constantFrom(25, 1000, 60_000)
  }),
  "fixed-window": FastCheck.record({
    algorithm: FastCheck.constant("fixed-window" as const),
    limit: FastCheck.constantFrom(1, 2, 10, 5000),
    window: FastCheck.constantFrom(10, 1000, 60_000)
  })
}

const operations = {
  consume: RateLimiter.consume,
  check: RateLimiter.check,
  refund: RateLimiter.refund,
  penalty: RateLimiter.penalty
}

const scenario = (settings: FastCheck.Arbitrary<Settings>) =>
  settings.chain((settings) => steps(settings).map((steps) => ({ settings, steps })))

const ms = (duration: Duration.Duration) => Duration.isFinite(duration) ? Duration.toMillis(duration) : -1

const agrees = (decision: RateLimiter.Decision, expected: Answer, remaining: number, what: string) => {
  const show = `${what}: ${JSON.stringify(decision)} and not ${JSON.stringify(expected)}`
  if (!expected.close) {
    assert.strictEqual(decision.allowed, expected.allowed, show)
    assert.strictEqual(decision.remaining, remaining, show)
  }
  // Half a microsecond can make a millisecond.
  assert.approximately(ms(decision.retryAfter), decision.allowed ? 0 : expected.retryAfter, 1, show)
  assert.strictEqual(decision.satisfiable, expected.retryAfter >= 0)
}

const run = (settings: Settings, all: ReadonlyArray<Step>) =>
  Effect.gen(function*() {
    const model = modelOf(settings)
    const policy = RateLimiter.policy({ name: fresh("model"), ...settings })
    const id = "user"
    for (const step of all) {
      const now = yield* Clock.currentTimeMillis
      switch (step._tag) {
        case "pass":
          yield* TestClock.adjust(step.millis)
          break
        case "retry": {
          const before = yield* RateLimiter.check(policy, id, { cost: step.cost })
          if (before.allowed || !before.satisfiable) break
          // A fiftieth earlier it would still be refused, and at this time it is allowed.
          const wait = ms(before.retryAfter)
          const early = Math.min(wait - 1, Math.floor(wait * 0.98))
          yield* TestClock.adjust(early)
          if (wait - early > 1) assert.isFalse((yield* RateLimiter.check(policy, id, { cost: step.cost })).allowed)
          yield* TestClock.adjust(wait - early)
          const after = yield* RateLimiter.check(policy, id, { cost: step.cost })
          assert.isTrue(after.allowed)
          const expected = model.ask(yield* Clock.currentTimeMillis, step.cost, settings.limit)
          agrees(after, expected, expected.remaining, "retry")
          break
        }
        case "check": {
          const { cost, limit } = step
          const expected = model.ask(now, cost, limit)
          agrees(yield* RateLimiter.check(policy, id, { cost, limit }), expected, expected.remaining, "check")
          if (!expected.close) assert.strictEqual(yield* RateLimiter.count(policy, id, { limit }), expected.used)
          break
        }
        case "consume": {
          const { cost, limit } = step
          const expected = model.ask(now, cost, limit)
          const decision = yield* RateLimiter.consume(policy, id, { cost, limit })
          if (decision.allowed) model.use(now, cost, limit)
          const after = model.ask(now, 1, limit)
          agrees(decision, expected, after.remaining, "consume")
          assert.approximately(ms(decision.resetAfter), after.resetAfter, 1)
          break
        }
        case "refund":
        case "penalty": {
          const { cost, limit } = step
          if (step._tag === "refund") model.giveBack(now, cost, limit)
          else model.fine(now, cost, limit)
          const decision = yield* operations[step._tag](policy, id, { cost, limit })
          const expected = model.ask(now, 1, limit)
          agrees(decision, expected, expected.remaining, step._tag)
        }
      }
    }
  })

describe("RateLimiter, whatever happens in whatever order", () => {
  for (const [name, settings] of Object.entries(limits)) {
    it.effect.prop(
      `${name} does what a plain model does`,
      { it: scenario(settings) },
      ({ it }) => run(it.settings, it.steps).pipe(Effect.provide(RateLimiter.layerTest)),
      { fastCheck: { numRuns: 18 }, timeout: 60_000 }
    )
  }

  /** What happens within a moment of a month is the same on any clock. */
  it.live("and so it does on a server", () =>
    Effect.gen(function*() {
      const runtime = yield* Effect.runtime<RateLimiter.RateLimiter>()
      yield* Effect.promise(() =>
        FastCheck.assert(
          FastCheck.asyncProperty(
            scenario(
              FastCheck.record({
                algorithm: FastCheck.constantFrom("gcra", "token-bucket", "sliding-window", "fixed-window"),
                limit: FastCheck.constantFrom(1, 3, 10, 1500),
                window: FastCheck.constant(30 * 86_400_000)
              })
            ),
            ({ settings, steps }) =>
              Effect.gen(function*() {
                const model = modelOf(settings)
                const policy = RateLimiter.policy({ name: fresh("live-model"), ...settings })
                for (const step of steps) {
                  if (step._tag === "pass" || step._tag === "retry") continue
                  const { _tag, cost } = step
                  const expected = model.ask(0, cost, settings.limit)
                  const decision = yield* operations[_tag](policy, "user", { cost })
                  if (_tag === "refund") model.giveBack(0, cost, settings.limit)
                  else if (_tag === "penalty") model.fine(0, cost, settings.limit)
                  else assert.strictEqual(decision.allowed, expected.allowed)
                  if (_tag === "consume" && decision.allowed) model.use(0, cost, settings.limit)
                  assert.strictEqual(decision.remaining, model.ask(0, 1, settings.limit).remaining)
                }
              }).pipe(Effect.provide(runtime), Effect.runPromise)
          ),
          { numRuns: 40 }
        )
      )
    }).pipe(Effect.provide(Layer.provideMerge(RateLimiter.layer, live))), 60_000)
})
