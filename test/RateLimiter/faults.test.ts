import { assert, describe, it } from "@effect/vitest"
import { Effect, Layer, Redacted } from "effect"
import { layer as redis } from "../../src/IoRedis.js"
import * as RateLimiter from "../../src/RateLimiter/index.js"
import * as FaultProxy from "../kit/FaultProxy.js"
import * as RealServer from "../kit/RealServer.js"
import { error } from "../kit/suites.js"

const limit = { limit: 3, window: "1 hour" } as const
/** The machine may be busy. */
const patient = { unavailableTimeout: "1 second" } as const
const fails = RateLimiter.policy({ name: "fails", ...limit })
const allows = RateLimiter.policy({ name: "allows", ...limit, onUnavailable: "allow", ...patient })
const counts = RateLimiter.policy({ name: "counts", ...limit, onUnavailable: "local", ...patient })

/** Whoever waits for a command waits much longer than these tests take. */
const services = (url: string) =>
  Layer.provideMerge(RateLimiter.layer, redis({ url: Redacted.make(url), commandTimeout: "1 minute" }))

/** Long before the deadline of a command, however busy the machine is. */
const soon = <A, E, R>(effect: Effect.Effect<A, E, R>) => Effect.timeout(effect, "20 seconds")

const sourceOf = (policy: RateLimiter.Policy, id: string) =>
  Effect.map(soon(RateLimiter.consume(policy, id)), ({ source }) => source)

const backAgain = (policy: RateLimiter.Policy) =>
  Effect.repeat(Effect.zipRight(Effect.sleep("50 millis"), sourceOf(policy, "back")), {
    until: (source) => source === "redis",
    times: 300
  })

describe("RateLimiter under faults", () => {
  for (const mode of ["refused", "black-holed"] as const) {
    it.live(`${mode}: the policy answers, and the server is asked again once it is back`, () =>
      Effect.gen(function*() {
        const server = yield* RealServer.start()
        const proxy = yield* FaultProxy.make(server)
        yield* Effect.gen(function*() {
          assert.strictEqual(yield* sourceOf(allows, "ada"), "redis")
          yield* mode === "refused" ? proxy.refuse : proxy.stall()
          for (let i = 0; i < 5; i++) {
            assert.strictEqual(yield* sourceOf(allows, "ada"), "allowed-while-unavailable")
          }
          const decisions = yield* Effect.forEach(
            Array.from({ length: 20 }),
            () => soon(RateLimiter.consume(counts, "ada")),
            { concurrency: "unbounded" }
          )
          assert.isTrue(decisions.every(({ source }) => source === "local"))
          assert.strictEqual(decisions.filter(({ allowed }) => allowed).length, 3)
          const hasty = RateLimiter.policy({ ...fails, unavailableTimeout: "200 millis" })
          const failure = yield* error(soon(RateLimiter.consume(hasty, "ada")))
          assert.include(["RedisConnectionError", "RedisOutcomeUnknownError"], failure._tag)
          yield* mode === "refused" ? proxy.accept : proxy.resume
          assert.strictEqual(yield* backAgain(allows), "redis")
          assert.strictEqual(yield* backAgain(counts), "redis")
        }).pipe(Effect.provide(services(proxy.url)))
      }).pipe(Effect.scoped), 60_000)
  }

  it.live("a lost reply is not asked for twice, and a flushed script is not noticed", () =>
    Effect.gen(function*() {
      const server = yield* RealServer.start()
      const proxy = yield* FaultProxy.make(server)
      yield* Effect.gen(function*() {
        yield* RateLimiter.consume(fails, "ada")
        yield* proxy.dropReplies(1)
        const failure = yield* error(RateLimiter.consume(fails, "ada"))
        assert.strictEqual(failure._tag, "RedisOutcomeUnknownError")
        assert.strictEqual(yield* RateLimiter.count(fails, "ada"), 2)
        yield* server.cli("SCRIPT", "FLUSH")
        assert.isTrue((yield* RateLimiter.consume(fails, "ada")).allowed)
        assert.isFalse((yield* RateLimiter.consume(fails, "ada")).allowed)
        // Looking is repeated.
        yield* proxy.dropReplies(1)
        assert.strictEqual((yield* RateLimiter.check(fails, "ada")).remaining, 0)
      }).pipe(Effect.provide(services(proxy.url)))
    }).pipe(Effect.scoped), 30_000)

  it.live("a server that was restarted and has lost everything begins anew", () =>
    Effect.gen(function*() {
      const server = yield* RealServer.start()
      yield* Effect.gen(function*() {
        yield* RateLimiter.consume(allows, "ada", { cost: 3 })
        assert.isFalse((yield* RateLimiter.consume(allows, "ada")).allowed)
        yield* server.kill
        assert.strictEqual(yield* sourceOf(allows, "ada"), "allowed-while-unavailable")
        yield* server.restart
        assert.strictEqual(yield* backAgain(allows), "redis")
        assert.strictEqual((yield* RateLimiter.check(allows, "ada")).remaining, 3)
      }).pipe(Effect.provide(services(server.url)))
    }).pipe(Effect.scoped), 60_000)
})
