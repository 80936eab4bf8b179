import { assert, describe, it } from "@effect/vitest"
import { Duration, Effect, Fiber, Layer, Random, Supervisor } from "effect"
import * as RateLimiter from "../../src/RateLimiter/index.js"
import * as RedisTestServer from "../../src/RedisTestServer.js"
import { live } from "../kit/layers.js"
import { fresh } from "../kit/suites.js"

const turnOfTheEventLoop = Effect.promise(() => new Promise((resolve) => setImmediate(resolve)))

/** Waits for a turn that comes in hours, and is interrupted before it has asked, while it asks or while it waits. */
const interrupted = (policy: RateLimiter.Policy) =>
  Effect.gen(function*() {
    const fiber = yield* Effect.fork(RateLimiter.rateLimited(Effect.die("it is not its turn"), policy, "id"))
    const yields = yield* Random.nextIntBetween(0, 20)
    for (let i = 0; i < yields; i++) yield* Effect.yieldNow()
    const turns = yield* Random.nextIntBetween(0, 4)
    for (let i = 0; i < turns; i++) yield* turnOfTheEventLoop
    yield* Fiber.interrupt(fiber)
  })

const policies = ([["gcra", 2], ["sliding-window", 2], ["sliding-window", 1010], ["fixed-window", 2]] as const).map(
  ([algorithm, limit]): RateLimiter.Policy => ({
    name: fresh("interrupted"),
    limit,
    window: "30 days",
    algorithm,
    onExceeded: "delay",
    maxWait: "30000 days"
  })
)

/** Many times, of which twenty at once; then all is as if they had never been there. */
const nothingIsLeft = Effect.forEach(policies, (policy) =>
  Effect.gen(function*() {
    const { resetAfter } = yield* RateLimiter.consume(policy, "id", { cost: policy.limit })
    yield* Effect.forEach(Array.from({ length: 75 }), () => interrupted(policy), {
      concurrency: 20,
      discard: true
    })
    const after = yield* RateLimiter.check(policy, "id")
    assert.strictEqual(yield* RateLimiter.count(policy, "id"), policy.limit)
    assert.isAtMost(Duration.toMillis(after.resetAfter), Duration.toMillis(resetAfter))
  }), { discard: true })

const leavesNoFiber = <A, E, R>(effect: Effect.Effect<A, E, R>) =>
  Effect.gen(function*() {
    const supervisor = yield* Supervisor.track
    yield* Effect.supervised(effect, supervisor)
    const left = (yield* supervisor.value).filter((fiber) => fiber.unsafePoll() === null)
    assert.strictEqual(left.length, 0)
  })

describe("RateLimiter, interrupted anywhere while it waits, leaves nothing", () => {
  it.effect("in memory", () =>
    leavesNoFiber(
      Effect.gen(function*() {
        const server = yield* RedisTestServer.RedisTestServer
        yield* nothingIsLeft
        assert.isAtMost(yield* server.connections, 1)
      }).pipe(Effect.provide(RateLimiter.layerTest))
    ))

  it.live(
    "live",
    () => leavesNoFiber(nothingIsLeft.pipe(Effect.provide(Layer.provideMerge(RateLimiter.layer, live)))),
    60_000
  )
})
