import { assert, describe, it } from "@effect/vitest"
import { Clock, Duration, Effect, FastCheck, Fiber, Layer, Metric, MetricState, TestClock } from "effect"
import * as RateLimiter from "../../src/RateLimiter/index.js"
import { RedisClient } from "../../src/RedisClient.js"
import * as RedisTestServer from "../../src/RedisTestServer.js"
import * as Spans from "../kit/spans.js"
import { error } from "../kit/suites.js"

const { Fault } = RedisTestServer
const { policy } = RateLimiter

/** How many commands this client sends. */
const commands = Effect.flatMap(
  RedisTestServer.RedisTestServer,
  (server) => Effect.map(server.journal, (all) => all.length)
)

/** Something that takes no time, or that the clock must be moved for. */
const within = <A, E, R>(duration: Duration.DurationInput, effect: Effect.Effect<A, E, R>) =>
  Effect.gen(function*() {
    const fiber = yield* Effect.fork(effect)
    yield* TestClock.adjust(duration)
    assert.notStrictEqual(fiber.unsafePoll(), null, "it takes longer")
    return yield* Fiber.join(fiber)
  })

const ms = (duration: Duration.Duration) => Duration.toMillis(duration)

describe("RateLimiter on virtual time", () => {
  describe("refuses what makes no sense before anything is sent", () => {
    const good: RateLimiter.Policy = { name: "good", limit: 10, window: "1 second" }
    const bad: ReadonlyArray<readonly [field: string, policy: any]> = [
      ...[0, -1, 1.5, NaN, Infinity, 2 ** 31, "3", undefined].map((limit) => ["limit", { ...good, limit }] as const),
      ["limit", { ...good, limit: 1001, window: "1 millis" }],
      ...[0, -5, Infinity, NaN, "never", "200 years", Duration.infinity, undefined].map(
        (window) => ["window", { ...good, window }] as const
      ),
      ["name", { ...good, name: "" }],
      ["algorithm", { ...good, algorithm: "leaky" }],
      ["algorithm", { ...good, algorithm: "toString" }],
      ...[0, -1, 0.5, NaN].map((burst) => ["burst", { ...good, burst }] as const),
      ["burst", { ...good, burst: 5, algorithm: "fixed-window" }],
      ["burst", { ...good, burst: 1_000_000, limit: 1, window: "1 day" }],
      ["onExceeded", { ...good, onExceeded: "wait" }],
      ["maxWait", { ...good, onExceeded: "delay", maxWait: 0 }],
      ["maxWait", { ...good, onExceeded: "delay", maxWait: Infinity }],
      ["maxWait", { ...good, maxWait: "1 second" }],
      ["onUnavailable", { ...good, onUnavailable: "open" }],
      ["unavailableTimeout", { ...good, unavailableTimeout: -1 }],
      ["blockCache.capacity", { ...good, blockCache: { capacity: 0 } }]
    ]

    it.effect("of policies", () =>
      Effect.gen(function*() {
        for (const [field, wrong] of bad) {
          const operations: ReadonlyArray<Effect.Effect<unknown, unknown, RateLimiter.RateLimiter>> = [
            RateLimiter.consume(wrong, "id"),
            RateLimiter.check([good, wrong], "id"),
            RateLimiter.consumeAll([{ policy: wrong, id: "id" }]),
            RateLimiter.rateLimited(Effect.void, wrong, "id"),
            RateLimiter.reset(wrong, "id")
          ]
          for (const operation of operations) {
            const failure = yield* error(operation)
            assert.deepInclude(failure, { _tag: "RedisInputError", field }, JSON.stringify(wrong))
          }
        }
        assert.strictEqual(yield* commands, 0)
      }).pipe(Effect.provide(RateLimiter.layerTest)))

    it.effect("of what is asked for", () =>
      Effect.gen(function*() {
        const refuses = (field: string, operation: Effect.Effect<unknown, unknown, RateLimiter.RateLimiter>) =>
          Effect.map(
            error(operation),
            (failure) => assert.deepInclude(failure, { _tag: "RedisInputError", field })
          )
        for (const cost of [0, -1, 1.5, NaN, Infinity, 2 ** 31]) {
          yield* refuses("cost", RateLimiter.consume(good, "id", { cost }))
          yield* refuses("cost", RateLimiter.check(good, "id", { cost }))
          yield* refuses("cost", RateLimiter.refund(good, "id", { cost }))
          yield* refuses("cost", RateLimiter.penalty(good, "id", { cost }))
          yield* refuses("cost", RateLimiter.rateLimited(Effect.void, good, Effect.succeed("id"), { cost }))
          yield* refuses("cost", RateLimiter.consumeAll([{ policy: good, id: "id", cost }]))
        }
        for (const limit of [0, -1, 1.5, NaN, 2_000_000]) {
          yield* refuses("limit", RateLimiter.consume(good, "id", { limit }))
          yield* refuses("limit", RateLimiter.count(good, "id", { limit }))
        }
        const exact = policy({ ...good, algorithm: "sliding-window" })
        yield* refuses("limit", RateLimiter.consume(exact, "id", { limit: 10_001 }))
        for (const duration of [0, -1, Infinity, NaN]) {
          yield* refuses("duration", RateLimiter.block(good, "id", duration))
        }
        yield* refuses("id", RateLimiter.consume(good, ""))
        yield* refuses("policy", RateLimiter.consume([], "id"))
        yield* refuses("policy", RateLimiter.consumeAll([]))
        yield* refuses("policy", RateLimiter.consume([good, { ...good }], "id"))
        yield* refuses("policy", RateLimiter.consumeAll([{ policy: good, id: "a" }, { policy: good, id: "a" }]))
        assert.strictEqual(yield* commands, 0)
      }).pipe(Effect.provide(RateLimiter.layerTest)))
  })

  it.effect("everything is one command, however many limits there are", () =>
    Effect.gen(function*() {
      const all = [
        policy({ name: "a", limit: 2, window: "1 second" }),
        policy({ name: "b", limit: 2, window: "1 minute", algorithm: "sliding-window" }),
        policy({ name: "c", limit: 2, window: "1 hour", algorithm: "fixed-window" })
      ]
      const each = [
        () => RateLimiter.consume(all, "id"),
        () => RateLimiter.consume(all[0]!, "id"),
        () => RateLimiter.consumeAll(all.map((policy, i) => ({ policy, id: `id-${i}` }))),
        () => RateLimiter.check(all, "id"),
        () => RateLimiter.count(all[1]!, "id"),
        () => RateLimiter.refund(all, "id"),
        () => RateLimiter.penalty(all, "id"),
        () => RateLimiter.block(all, "id", "1 second"),
        () => RateLimiter.unblock(all, "id"),
        () => RateLimiter.reset(all, "id"),
        () => RateLimiter.rateLimited(Effect.void, all, "id")
      ] satisfies ReadonlyArray<() => Effect.Effect<unknown, unknown, RateLimiter.RateLimiter>>
      // Once for the scripts that the server does not know yet.
      for (const operation of each) yield* operation()
      for (const operation of each) {
        const before = yield* commands
        yield* operation()
        assert.strictEqual(yield* commands, before + 1)
      }
    }).pipe(Effect.provide(RateLimiter.layerTest)))

  it.effect("nothing is left once everything is available again", () =>
    Effect.gen(function*() {
      const server = yield* RedisTestServer.RedisTestServer
      for (const algorithm of ["gcra", "token-bucket", "sliding-window", "fixed-window"] as const) {
        for (const limit of [3, 3000]) {
          const used = policy({ name: "used", limit, window: "1 minute", algorithm })
          const { resetAfter } = yield* RateLimiter.consume(used, "id", { cost: limit })
          assert.strictEqual((yield* server.keys).length, 1)
          yield* TestClock.adjust(resetAfter)
          assert.strictEqual((yield* RateLimiter.check(used, "id")).remaining, limit)
          yield* TestClock.adjust("1 millis")
          assert.deepStrictEqual(yield* server.keys, [])
        }
      }
    }).pipe(Effect.provide(RateLimiter.layerTest)))

  it.effect("a limit that does not divide its window is still exact", () =>
    Effect.gen(function*() {
      for (const limit of [3, 6, 7, 997, 3000, 44_721, 300_001]) {
        const odd = policy({ name: "odd", limit, window: "1 second" })
        const id = `${limit}`
        let left = limit
        for (const part of [0.5, 0.25, 0.2]) {
          const cost = Math.ceil(limit * part)
          if (cost > left) continue
          left -= cost
          assert.strictEqual((yield* RateLimiter.consume(odd, id, { cost })).remaining, left)
        }
        if (limit < 1000) {
          for (; left > 0; left--) assert.strictEqual((yield* RateLimiter.consume(odd, id)).remaining, left - 1)
        } else {
          assert.isFalse((yield* RateLimiter.consume(odd, id, { cost: left + 1 })).allowed)
          assert.isTrue((yield* RateLimiter.consume(odd, id, { cost: left })).allowed)
        }
        assert.isFalse((yield* RateLimiter.consume(odd, id)).allowed)
        // And it comes back steadily.
        yield* TestClock.adjust("900 millis")
        assert.approximately((yield* RateLimiter.check(odd, id)).remaining, Math.floor(limit * 0.9), 1)
        yield* TestClock.adjust("101 millis")
        assert.strictEqual((yield* RateLimiter.check(odd, id)).remaining, limit)
      }
    }).pipe(Effect.provide(RateLimiter.layerTest)))

  describe("a sliding window", () => {
    const arrivals = FastCheck.array(
      FastCheck.record({
        pause: FastCheck.oneof(
          FastCheck.constant(0),
          FastCheck.integer({ min: 0, max: 30 }),
          FastCheck.integer({ min: 60, max: 130 })
        ),
        burst: FastCheck.integer({ min: 1, max: 8 })
      }),
      { minLength: 4, maxLength: 16 }
    )

    for (const [name, factor] of [["exact", 1], ["in parts", 300]] as const) {
      it.effect.prop(
        `${name}: never allows more than the limit in any stretch of time as long as it`,
        { arrivals },
        ({ arrivals }) =>
          Effect.gen(function*() {
            const window = 100
            const limit = 5 * factor
            const strict = policy({ name: "strict", limit, window, algorithm: "sliding-window" })
            const allowed: Array<number> = []
            for (const { burst, pause } of arrivals) {
              if (pause > 0) yield* TestClock.adjust(pause)
              const now = yield* Clock.currentTimeMillis
              for (let i = 0; i < burst; i++) {
                if ((yield* RateLimiter.consume(strict, "id", { cost: factor })).allowed) allowed.push(now)
              }
            }
            for (const start of allowed) {
              const within = allowed.filter((at) => at >= start && at < start + window).length
              assert.isAtMost(within, 5)
            }
          }).pipe(Effect.provide(RateLimiter.layerTest)),
        { fastCheck: { numRuns: 20 }, timeout: 60_000 }
      )
    }
  })

  describe("waiting", () => {
    const visitors = FastCheck.array(
      FastCheck.record({
        pause: FastCheck.oneof(FastCheck.constant(0), FastCheck.integer({ min: 1, max: 40 })),
        cost: FastCheck.integer({ min: 1, max: 2 }),
        /** After how long it loses its patience. */
        leaves: FastCheck.option(FastCheck.integer({ min: 0, max: 300 }), { nil: undefined })
      }),
      { minLength: 3, maxLength: 20 }
    )

    for (
      const [algorithm, factor] of [
        ["gcra", 1],
        ["sliding-window", 1],
        ["sliding-window", 1000],
        ["fixed-window", 1]
      ] as const
    ) {
      it.effect.prop(
        `${algorithm} times ${factor}: everybody who stays is served, and who leaves leaves nothing`,
        { visitors },
        ({ visitors }) =>
          Effect.gen(function*() {
            const server = yield* RedisTestServer.RedisTestServer
            const window = 100
            const limit = 3 * factor
            const patient = policy({
              name: "patient",
              limit,
              window,
              algorithm,
              onExceeded: "delay",
              maxWait: "1 hour"
            })
            const served: Array<{ readonly at: number; readonly cost: number }> = []
            const visit = (cost: number) =>
              RateLimiter.rateLimited(
                Effect.map(Clock.currentTimeMillis, (at) => void served.push({ at, cost })),
                patient,
                "id",
                { cost: cost * factor }
              )
            const staying: Array<Fiber.RuntimeFiber<void, unknown>> = []
            for (const { cost, leaves, pause } of visitors) {
              if (pause > 0) yield* TestClock.adjust(pause)
              if (leaves === undefined) {
                staying.push(yield* Effect.fork(visit(cost)))
              } else {
                const fiber = yield* Effect.fork(visit(cost))
                yield* Effect.fork(Effect.zipRight(Effect.sleep(leaves), Fiber.interrupt(fiber)))
              }
              yield* Effect.yieldNow()
            }
            yield* TestClock.adjust("1 minute")
            for (const fiber of staying) yield* Fiber.join(fiber)
            assert.deepStrictEqual(yield* server.keys, [])
            assert.deepStrictEqual(Array.from(yield* TestClock.sleeps()), [])
            if (algorithm === "sliding-window") {
              for (const { at: start } of served) {
                const used = served.filter(({ at }) => at >= start && at < start + window)
                assert.isAtMost(used.reduce((sum, { cost }) => sum + cost, 0), 3)
              }
            }
          }).pipe(Effect.provide(RateLimiter.layerTest)),
        { fastCheck: { numRuns: 15 }, timeout: 60_000 }
      )
    }

    it.effect("a turn that is given back is there for the next one", () =>
      Effect.gen(function*() {
        for (const algorithm of ["gcra", "token-bucket", "sliding-window", "fixed-window"] as const) {
          for (const limit of [2, 2000]) {
            const patient = policy({
              name: "given-back",
              limit,
              window: "1 minute",
              algorithm,
              onExceeded: "delay",
              maxWait: "1 hour"
            })
            const one = { cost: limit / 2 }
            yield* RateLimiter.consume(patient, "id", { cost: limit })
            const before = yield* RateLimiter.check(patient, "id")
            const fibers = yield* Effect.forEach(
              [1, 2, 3, 4, 5],
              () => Effect.fork(RateLimiter.rateLimited(Effect.void, patient, "id", one))
            )
            yield* TestClock.adjust(0)
            assert.isAbove(ms((yield* RateLimiter.check(patient, "id")).resetAfter), ms(before.resetAfter))
            // In any order.
            for (const i of [2, 4, 0, 1, 3]) yield* Fiber.interrupt(fibers[i]!)
            assert.deepStrictEqual(yield* RateLimiter.check(patient, "id"), before)
          }
        }
      }).pipe(Effect.provide(RateLimiter.layerTest)))

    it.effect("also longer than a timer can", () =>
      Effect.gen(function*() {
        const patient = policy({ name: "month", limit: 1, window: "30 days", onExceeded: "delay" })
        yield* RateLimiter.consume(patient, "id")
        const fiber = yield* Effect.fork(RateLimiter.rateLimited(Clock.currentTimeMillis, patient, "id"))
        yield* TestClock.adjust(0)
        assert.deepStrictEqual(Array.from(yield* TestClock.sleeps()), [2 ** 31 - 1])
        yield* TestClock.adjust("29 days")
        assert.strictEqual(fiber.unsafePoll(), null)
        yield* TestClock.adjust("1 day")
        assert.strictEqual(yield* Fiber.join(fiber), 30 * 86_400_000)
      }).pipe(Effect.provide(RateLimiter.layerTest)))

    it.effect("the default is to wait as long as the window", () =>
      Effect.gen(function*() {
        const patient = policy({ name: "default", limit: 1, window: "1 minute", onExceeded: "delay" })
        yield* RateLimiter.consume(patient, "id")
        const fiber = yield* Effect.fork(RateLimiter.rateLimited(Clock.currentTimeMillis, patient, "id"))
        yield* TestClock.adjust(0)
        const failure = yield* error(RateLimiter.rateLimited(Effect.void, patient, "id"))
        assert(failure._tag === "RateLimitExceeded")
        assert.strictEqual(ms(failure.retryAfter), 120_000)
        yield* TestClock.adjust("59999 millis")
        assert.strictEqual(fiber.unsafePoll(), null)
        yield* TestClock.adjust("1 millis")
        assert.strictEqual(yield* Fiber.join(fiber), 60_000)
      }).pipe(Effect.provide(RateLimiter.layerTest)))
  })

  describe("the block cache", () => {
    const remembering = policy({ name: "remembering", limit: 4, window: "4 seconds", blockCache: true })

    it.effect("asks nobody until the time it was told, for that cost", () =>
      Effect.gen(function*() {
        yield* RateLimiter.consume(remembering, "id", { cost: 3 })
        const refused = yield* RateLimiter.consume(remembering, "id", { cost: 2 })
        assert.strictEqual(refused.source, "redis")
        assert.strictEqual(ms(refused.retryAfter), 1000)
        const before = yield* commands
        yield* TestClock.adjust("400 millis")
        const again = yield* RateLimiter.consume(remembering, "id", { cost: 2 })
        assert.isFalse(again.allowed)
        assert.strictEqual(again.source, "block-cache")
        assert.strictEqual(ms(again.retryAfter), 600)
        assert.strictEqual(ms(again.resetAfter), 2600)
        assert.strictEqual(again.tiers.length, 1)
        const failure = yield* error(RateLimiter.rateLimited(Effect.void, remembering, "id", { cost: 2 }))
        assert.strictEqual(failure._tag, "RateLimitExceeded")
        assert.strictEqual(yield* commands, before)
        // Less, another limit, another identifier: they may be allowed.
        assert.isTrue((yield* RateLimiter.consume(remembering, "other", { cost: 2 })).allowed)
        assert.isTrue((yield* RateLimiter.consume(remembering, "id", { cost: 2, limit: 40 })).allowed)
        yield* RateLimiter.refund(remembering, "id", { cost: 2 })
        assert.isTrue((yield* RateLimiter.consume(remembering, "id", { cost: 1 })).allowed)
        yield* RateLimiter.reset(remembering, "id")
        yield* RateLimiter.consume(remembering, "id", { cost: 3 })
        assert.isFalse((yield* RateLimiter.consume(remembering, "id", { cost: 2 })).allowed)
        yield* TestClock.adjust("1 second")
        const then = yield* RateLimiter.consume(remembering, "id", { cost: 2 })
        assert.isTrue(then.allowed)
        assert.strictEqual(then.source, "redis")
      }).pipe(Effect.provide(RateLimiter.layerTest)))

    it.effect("forgets what is given back, reset or unblocked here", () =>
      Effect.gen(function*() {
        const sources = (n: number) =>
          Effect.forEach(
            Array.from({ length: n }),
            () =>
              Effect.map(RateLimiter.consume(remembering, "id"), ({ allowed, source }) => [allowed, source] as const)
          )
        yield* RateLimiter.consume(remembering, "id", { cost: 4 })
        assert.deepStrictEqual(yield* sources(2), [[false, "redis"], [false, "block-cache"]])
        yield* RateLimiter.refund(remembering, "id")
        assert.deepStrictEqual(yield* sources(2), [[true, "redis"], [false, "redis"]])
        yield* RateLimiter.reset(remembering, "id")
        assert.deepStrictEqual(yield* sources(1), [[true, "redis"]])
        yield* RateLimiter.block(remembering, "id", "1 hour")
        assert.deepStrictEqual(yield* sources(2), [[false, "redis"], [false, "block-cache"]])
        yield* RateLimiter.unblock(remembering, "id")
        assert.deepStrictEqual(yield* sources(1), [[true, "redis"]])
      }).pipe(Effect.provide(RateLimiter.layerTest)))

    it.effect("remembers no more than it may, and nothing that is never allowed", () =>
      Effect.gen(function*() {
        const small = policy({ name: "small", limit: 1, window: "1 hour", blockCache: { capacity: 3 } })
        for (const id of ["a", "b", "c", "d"]) {
          yield* RateLimiter.consume(small, id)
          yield* RateLimiter.consume(small, id)
        }
        const sources: Array<string> = []
        for (const id of ["d", "c", "b", "a"]) sources.push((yield* RateLimiter.consume(small, id)).source)
        assert.deepStrictEqual(sources, ["block-cache", "block-cache", "block-cache", "redis"])
        yield* RateLimiter.consume(small, "e", { cost: 2 })
        assert.strictEqual((yield* RateLimiter.consume(small, "e", { cost: 2 })).source, "redis")
        // Several limits are remembered as one request.
        const other = policy({ name: "other", limit: 5, window: "1 hour" })
        yield* RateLimiter.consume([small, other], "d")
        assert.strictEqual((yield* RateLimiter.consume([small, other], "d")).source, "block-cache")
        assert.isTrue((yield* RateLimiter.consume(other, "d")).allowed)
      }).pipe(Effect.provide(RateLimiter.layerTest)))
  })

  describe("when the server does not answer", () => {
    const limit = { limit: 3, window: "1 minute" } as const
    const fails = policy({ name: "fails", ...limit })
    const allows = policy({ name: "allows", ...limit, onUnavailable: "allow" })
    const counts = policy({ name: "counts", ...limit, onUnavailable: "local" })
    const both = [allows, counts] as const

    it.effect("it fails, allows, or counts by itself, as the policy says", () =>
      Effect.gen(function*() {
        const server = yield* RedisTestServer.RedisTestServer
        yield* server.inject(Fault.failBeforeSend({ times: 1000 }))
        const failure = yield* error(RateLimiter.consume(fails, "id"))
        assert.strictEqual(failure._tag, "RedisConnectionError")
        assert.strictEqual(
          (yield* error(RateLimiter.rateLimited(Effect.void, fails, "id")))._tag,
          "RedisConnectionError"
        )
        for (let i = 0; i < 10; i++) {
          const decision = yield* RateLimiter.consume(allows, "id")
          assert.isTrue(decision.allowed)
          assert.strictEqual(decision.source, "allowed-while-unavailable")
        }
        const outcomes: Array<boolean> = []
        for (let i = 0; i < 5; i++) {
          const decision = yield* RateLimiter.consume(counts, "id")
          assert.strictEqual(decision.source, "local")
          assert.strictEqual(decision.remaining, Math.max(0, 2 - i))
          outcomes.push(decision.allowed)
        }
        assert.deepStrictEqual(outcomes, [true, true, true, false, false])
        const refused = yield* RateLimiter.check(counts, "id")
        assert.isFalse(refused.allowed)
        assert.strictEqual(ms(refused.retryAfter), 20_000)
        yield* TestClock.adjust("20 seconds")
        // It is time to ask the server again, and that takes some.
        assert.strictEqual((yield* within("100 millis", RateLimiter.check(counts, "id"))).remaining, 1)
        assert.isTrue((yield* RateLimiter.consume(counts, "id")).allowed)
        assert.isFalse((yield* RateLimiter.consume(counts, "id")).allowed)
        // The strictest of several.
        assert.strictEqual((yield* RateLimiter.consume(both, "several")).source, "local")
        assert.isFalse((yield* RateLimiter.consume(both, "several", { cost: 4 })).satisfiable)
        assert.isFalse((yield* RateLimiter.consume(allows, "id", { cost: 4 })).satisfiable)
        assert.strictEqual((yield* error(RateLimiter.consume([fails, counts], "id")))._tag, "RedisConnectionError")
      }).pipe(Effect.provide(RateLimiter.layerTest)))

    for (
      const [what, fault] of [
        ["loads", Fault.loading({ times: 2 })],
        ["is full", Fault.outOfMemory({ times: 2 })],
        ["is a replica", Fault.readOnly({ times: 2 })],
        ["loses the reply", Fault.disconnectAfter({ times: 2 })]
      ] as const
    ) {
      it.effect(`a server that ${what} does not answer`, () =>
        Effect.gen(function*() {
          const server = yield* RedisTestServer.RedisTestServer
          yield* server.inject(fault)
          assert.strictEqual(
            (yield* within("100 millis", RateLimiter.consume(allows, "id"))).source,
            "allowed-while-unavailable"
          )
        }).pipe(Effect.provide(RateLimiter.layerTest)))
    }

    it.effect("a refusal is an answer, and so is an error that is about the data", () =>
      Effect.gen(function*() {
        const client = yield* RedisClient
        for (let i = 0; i < 3; i++) yield* RateLimiter.consume(both, "id")
        for (let i = 0; i < 5; i++) {
          const refused = yield* RateLimiter.consume(both, "id")
          assert.isFalse(refused.allowed)
          assert.strictEqual(refused.source, "redis")
        }
        const server = yield* RedisTestServer.RedisTestServer
        for (const { key } of yield* server.keys) {
          yield* client.del(key)
          yield* client.send("SADD", key, "member")
        }
        for (let i = 0; i < 5; i++) {
          const failure = yield* error(RateLimiter.consume(allows, "id"))
          assert.deepInclude(failure, { _tag: "RedisReplyError", code: "WRONGTYPE" })
        }
      }).pipe(Effect.provide(RateLimiter.layerTest)))

    it.effect("it answers in its own time when the server keeps silent, then at once, and comes back by itself", () =>
      Effect.gen(function*() {
        const server = yield* RedisTestServer.RedisTestServer
        const client = yield* RedisClient
        yield* RateLimiter.consume(allows, "id")
        yield* server.inject(Fault.delay("1 hour", { times: 1000 }))
        for (let i = 0; i < 2; i++) {
          const fiber = yield* Effect.fork(RateLimiter.consume(allows, "id"))
          yield* TestClock.adjust("99 millis")
          assert.strictEqual(fiber.unsafePoll(), null)
          yield* TestClock.adjust("1 millis")
          assert.strictEqual((yield* Fiber.join(fiber)).source, "allowed-while-unavailable")
        }
        // From now on nobody waits.
        for (let i = 0; i < 50; i++) {
          assert.strictEqual((yield* RateLimiter.consume(counts, `${i}`)).source, "local")
        }
        // But for one in each pause.
        yield* TestClock.adjust("500 millis")
        const probe = yield* Effect.fork(RateLimiter.consume(allows, "id"))
        yield* TestClock.adjust(0)
        assert.strictEqual((yield* RateLimiter.consume(allows, "id")).source, "allowed-while-unavailable")
        assert.strictEqual(probe.unsafePoll(), null)
        // The one who asks may go away, and then another one asks.
        yield* Fiber.interrupt(probe)
        const another = yield* Effect.fork(RateLimiter.consume(allows, "id"))
        yield* TestClock.adjust("99 millis")
        assert.strictEqual(another.unsafePoll(), null)
        yield* TestClock.adjust("1 millis")
        assert.strictEqual((yield* Fiber.join(another)).source, "allowed-while-unavailable")
        yield* server.clearFaults
        yield* server.disconnect()
        yield* TestClock.adjust("10 seconds")
        yield* client.exists("anything")
        assert.strictEqual((yield* RateLimiter.consume(allows, "id")).source, "redis")
        assert.strictEqual((yield* RateLimiter.consume(counts, "id")).source, "redis")
      }).pipe(Effect.provide(RateLimiter.layerTest)))

    it.effect("who fails can have a deadline too", () =>
      Effect.gen(function*() {
        const server = yield* RedisTestServer.RedisTestServer
        const quick = policy({ name: "quick", ...limit, unavailableTimeout: "50 millis" })
        yield* RateLimiter.consume(quick, "id")
        yield* server.inject(Fault.delay("1 hour", { times: 1000 }))
        const consumed = yield* within("50 millis", error(RateLimiter.consume(quick, "id")))
        assert.deepInclude(consumed, { _tag: "RedisOutcomeUnknownError", reason: "timeout" })
        const checked = yield* within("50 millis", error(RateLimiter.check(quick, "id")))
        assert.deepInclude(checked, { _tag: "RedisTimeoutError", timeout: 50 })
      }).pipe(Effect.provide(RateLimiter.layerTest)))

    it.effect("who waits for its turn gets one from this process", () =>
      Effect.gen(function*() {
        const server = yield* RedisTestServer.RedisTestServer
        const patient = policy({
          name: "patient",
          limit: 1,
          window: "1 second",
          onExceeded: "delay",
          onUnavailable: "local"
        })
        yield* server.inject(Fault.delay("1 hour", { times: 1000 }))
        const fiber = yield* Effect.fork(
          Effect.forEach([1, 2], () => RateLimiter.rateLimited(Clock.currentTimeMillis, patient, "id"))
        )
        yield* TestClock.adjust("100 millis")
        yield* TestClock.adjust("100 millis")
        yield* TestClock.adjust("1 second")
        yield* TestClock.adjust("100 millis")
        const [first, second] = yield* Fiber.join(fiber)
        assert.isAtLeast(second! - first!, 1000)
      }).pipe(Effect.provide(RateLimiter.layerTest)))
  })

  describe("on a Cluster", () => {
    const OnCluster = Layer.provideMerge(RateLimiter.layer, RedisTestServer.layerWith({ cluster: true }))
    const perUser = policy({ name: "user", limit: 3, window: "1 minute" })
    const perTeam = policy({ name: "team", limit: 2, window: "1 minute", algorithm: "sliding-window" })
    const as = RateLimiter.consumeAll([{ policy: perUser, id: "ada" }, { policy: perTeam, id: "lovelace" }])

    it.effect("gives back what was used when a later node fails", () =>
      Effect.gen(function*() {
        const server = yield* RedisTestServer.RedisTestServer
        yield* as
        yield* server.inject(Fault.clusterDown({ command: "EVALSHA", after: 1, times: 10 }))
        const failing = yield* error(as)
        assert.deepInclude(failing, { _tag: "RedisReplyError", code: "CLUSTERDOWN" })
        yield* server.clearFaults
        // It could not be given back while the Cluster was down.
        assert.strictEqual(yield* RateLimiter.count(perUser, "ada"), 2)
        yield* server.inject(Fault.clusterDown({ command: "EVALSHA", after: 1 }))
        yield* error(as)
        assert.strictEqual(yield* RateLimiter.count(perUser, "ada"), 2)
        assert.strictEqual(yield* RateLimiter.count(perTeam, "lovelace"), 1)
      }).pipe(Effect.provide(OnCluster)))

    it.effect("interrupted halfway it has used all of them or none", () =>
      Effect.gen(function*() {
        const server = yield* RedisTestServer.RedisTestServer
        yield* as
        yield* server.inject(Fault.delay("1 second", { command: "EVALSHA", after: 1 }))
        const fiber = yield* Effect.fork(as)
        yield* TestClock.adjust("10 millis")
        const interrupting = yield* Effect.fork(Fiber.interrupt(fiber))
        yield* TestClock.adjust("1 second")
        yield* Fiber.join(interrupting)
        assert.strictEqual(yield* RateLimiter.count(perUser, "ada"), 2)
        assert.strictEqual(yield* RateLimiter.count(perTeam, "lovelace"), 2)
      }).pipe(Effect.provide(OnCluster)))
  })

  it.effect("a failure has no stack, and says what it is about", () =>
    Effect.gen(function*() {
      const texts = policy({ name: "texts", limit: 1, window: "1 minute" })
      yield* RateLimiter.consume(texts, "ada")
      const before = Error.stackTraceLimit
      const failure = yield* error(RateLimiter.rateLimited(Effect.void, texts, "ada"))
      assert.strictEqual(Error.stackTraceLimit, before)
      assert(failure._tag === "RateLimitExceeded")
      assert.strictEqual(failure.message, `the limit "texts" (1) refuses "ada" for 1m`)
      assert.notInclude(failure.stack ?? "", "\n    at ")
      const never = yield* error(RateLimiter.rateLimited(Effect.void, texts, "ada", { cost: 2 }))
      assert.include(never.message, "more than there ever is")
    }).pipe(Effect.provide(RateLimiter.layerTest)))

  it.effect("counts what was decided", () =>
    Effect.gen(function*() {
      const counted = policy({ name: "counted", limit: 2, window: "1 minute", blockCache: true })
      for (let i = 0; i < 5; i++) yield* RateLimiter.consume(counted, "ada")
      yield* RateLimiter.check(counted, "ada")
      const found = (yield* Metric.snapshot)
        .filter(({ metricKey }) =>
          metricKey.name === "effect_redis_rate_limit_decisions_total" &&
          metricKey.tags.some(({ key, value }) => key === "policy" && value === "counted")
        )
        .map(({ metricKey, metricState }) => [
          metricKey.tags.filter(({ key }) => key !== "policy").map(({ value }) => value).sort().join(" "),
          MetricState.isCounterState(metricState) ? Number(metricState.count) : -1
        ])
        .filter(([, n]) => n !== 0)
      assert.deepStrictEqual(Object.fromEntries(found), {
        "allowed redis": 2,
        "redis rejected": 1,
        "block-cache rejected": 2
      })
    }).pipe(Effect.provide(RateLimiter.layerTest)))

  it.effect("has one span for each operation, with what was decided and without the identifier", () =>
    Effect.gen(function*() {
      const spans = yield* Spans.Spans
      const seen = policy({ name: "seen", limit: 2, window: "1 minute" })
      yield* RateLimiter.consume(seen, "secret-token", { cost: 2 })
      yield* Effect.ignore(RateLimiter.rateLimited(Effect.void, seen, "secret-token"))
      yield* RateLimiter.reset(seen, "secret-token")
      const all = yield* spans.all
      assert.deepStrictEqual(
        all.map(({ name }) => name),
        ["rateLimiter.consume", "rateLimiter.rateLimited", "rateLimiter.reset"]
      )
      assert.deepStrictEqual(Object.fromEntries(all[0]!.attributes), {
        "db.system.name": "redis",
        "db.operation.name": "rateLimiter.consume",
        "effect_redis.rate_limit.policies": ["seen"],
        "effect_redis.rate_limit.cost": 2,
        "effect_redis.rate_limit.policy": "seen",
        "effect_redis.rate_limit.allowed": true,
        "effect_redis.rate_limit.source": "redis"
      })
      assert.strictEqual(all[1]!.attributes.get("effect_redis.rate_limit.allowed"), false)
      for (const { attributes } of all) assert.notInclude(JSON.stringify(Array.from(attributes)), "secret")
    }).pipe(Effect.provide(Spans.layer), Effect.provide(RateLimiter.layerTest)))
})
