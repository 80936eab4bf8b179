import { assert, describe, it } from "@effect/vitest"
import { Clock, Effect, FastCheck, Fiber, Schema, TestClock, TestContext } from "effect"
import { RedisClient } from "../../src/RedisClient.js"
import { Fault, RedisTestServer } from "../../src/RedisTestServer.js"
import * as UniqueCounter from "../../src/UniqueCounter/index.js"
import * as Spans from "../kit/spans.js"

const HOUR = 3_600_000

const Visitors = UniqueCounter.define({
  name: "visitors",
  key: Schema.String,
  member: Schema.String,
  windows: { hour: "4 hours" },
  total: "10 hours"
})

describe("UniqueCounter in memory", () => {
  it.effect("windows end with the hour and are forgotten, and no key is left", () =>
    Effect.gen(function*() {
      const server = yield* RedisTestServer
      const count = (last: number, ago = 0) => UniqueCounter.count(Visitors, "home", { window: "hour", last, ago })
      yield* TestClock.setTime(HOUR - 1)
      yield* UniqueCounter.add(Visitors, "home", "ada", "bob")
      yield* TestClock.adjust(1)
      assert.strictEqual(yield* count(1), 0)
      yield* UniqueCounter.add(Visitors, "home", "bob", "eve")
      assert.strictEqual(yield* count(1), 2)
      assert.strictEqual(yield* count(1, 1), 2)
      assert.strictEqual(yield* count(2), 3)
      yield* TestClock.setTime(5 * HOUR - 1)
      assert.strictEqual(yield* count(5), 3)
      yield* TestClock.adjust(1)
      assert.strictEqual(yield* count(5), 2)
      assert.strictEqual((yield* server.keys).length, 2)
      yield* TestClock.setTime(6 * HOUR)
      assert.strictEqual((yield* server.keys).length, 1)
      yield* TestClock.setTime(11 * HOUR)
      assert.deepStrictEqual(yield* server.keys, [])
    }).pipe(Effect.provide(UniqueCounter.layerTest)))

  it.effect("a merge gives each window its own life", () =>
    Effect.gen(function*() {
      const server = yield* RedisTestServer
      yield* UniqueCounter.add(Visitors, "home", "ada")
      yield* TestClock.setTime(3 * HOUR)
      yield* UniqueCounter.add(Visitors, "home", "bob")
      yield* UniqueCounter.merge(Visitors, "all", ["home"])
      const lives = (yield* server.keys).map(({ key, ttl }) => `${key} ${ttl / HOUR}`)
      assert.deepStrictEqual(
        lives.filter((life) => life.includes("all ")).toSorted(),
        [
          "unique:{visitors:all}:hour:0:all 2",
          "unique:{visitors:all}:hour:3:all 5",
          "unique:{visitors:all}:total:all 10"
        ]
      )
      assert.strictEqual(yield* UniqueCounter.count(Visitors, "all", { window: "hour", ago: 3 }), 1)
    }).pipe(Effect.provide(UniqueCounter.layerTest)))

  for (const millis of [-30 * HOUR, -1, 1, HOUR]) {
    it.effect(`the time is the server's for a client whose clock is wrong by ${millis} ms`, () =>
      Effect.gen(function*() {
        yield* TestClock.setTime(1000 * HOUR)
        const clock = yield* Effect.clock
        const wrong = yield* Effect.withClock(UniqueCounter.make, {
          ...clock,
          [Clock.ClockTypeId]: Clock.ClockTypeId,
          unsafeCurrentTimeMillis: () => clock.unsafeCurrentTimeMillis() + millis
        })
        yield* wrong.add(Visitors, "home", "ada")
        assert.strictEqual(yield* UniqueCounter.count(Visitors, "home", { window: "hour" }), 1)
        assert.strictEqual(yield* wrong.count(Visitors, "home", { window: "hour" }), 1)
        yield* TestClock.adjust("59 minutes")
        yield* UniqueCounter.add(Visitors, "home", "bob")
        assert.strictEqual(yield* wrong.count(Visitors, "home", { window: "hour" }), 2)
        yield* wrong.reset(Visitors, "home")
        assert.strictEqual(yield* UniqueCounter.count(Visitors, "home", { window: "hour" }), 0)
      }).pipe(Effect.provide(UniqueCounter.layerTest)))
  }

  it.effect("a lost reply is asked for again", () =>
    Effect.gen(function*() {
      const server = yield* RedisTestServer
      yield* UniqueCounter.add(Visitors, "home", "ada")
      const lost = yield* server.inject(Fault.loseReply({ command: "EVALSHA" }))
      const fiber = yield* Effect.fork(UniqueCounter.add(Visitors, "home", "bob"))
      yield* TestClock.adjust("5 seconds")
      yield* Fiber.join(fiber)
      assert.strictEqual(yield* lost.happened, 1)
      assert.strictEqual(yield* UniqueCounter.count(Visitors, "home"), 2)
    }).pipe(Effect.provide(UniqueCounter.layerTest)))

  it.effect("a key of another type is the server's error", () =>
    Effect.gen(function*() {
      const client = yield* RedisClient
      yield* client.sadd("unique:{visitors:all}:total:home", "x")
      const failure = yield* Effect.flip(UniqueCounter.count(Visitors, "home"))
      assert(failure._tag === "RedisReplyError")
      assert.strictEqual(failure.code, "WRONGTYPE")
    }).pipe(Effect.provide(UniqueCounter.layerTest)))

  it.effect("counts small numbers as a set would", () =>
    Effect.promise(() =>
      FastCheck.assert(
        FastCheck.asyncProperty(
          FastCheck.array(
            FastCheck.record({
              pause: FastCheck.integer({ min: 0, max: 2 * HOUR }),
              key: FastCheck.constantFrom("a", "b", "c"),
              members: FastCheck.array(FastCheck.constantFrom("1", "2", "3", "4", "5", "6"), {
                minLength: 1,
                maxLength: 4
              })
            }),
            { maxLength: 25 }
          ),
          (steps) =>
            Effect.runPromise(
              Effect.gen(function*() {
                const seen: Array<readonly [hour: number, key: string, member: string]> = []
                let now = 0
                for (const { key, members, pause } of steps) {
                  now += pause
                  yield* TestClock.adjust(pause)
                  const hour = Math.floor(now / HOUR)
                  yield* UniqueCounter.add(Visitors, key, ...members)
                  for (const member of members) seen.push([hour, key, member])
                  const count = (keys: ReadonlyArray<string>, last: number, ago: number) =>
                    new Set(
                      seen.filter(([at, key]) => keys.includes(key) && at <= hour - ago && at > hour - ago - last)
                        .map(([, , member]) => member)
                    ).size
                  for (const [last, ago] of [[1, 0], [3, 0], [2, 3]] as const) {
                    const options = { window: "hour", last, ago } as const
                    assert.strictEqual(yield* UniqueCounter.count(Visitors, key, options), count([key], last, ago))
                    assert.strictEqual(
                      yield* UniqueCounter.union(Visitors, ["a", "b", "c"], options),
                      count(["a", "b", "c"], last, ago)
                    )
                  }
                }
              }).pipe(Effect.provide(UniqueCounter.layerTest), Effect.provide(TestContext.TestContext))
            )
        ),
        { numRuns: 40 }
      )
    ), 60_000)

  it.effect("makes one span for an operation", () =>
    Effect.gen(function*() {
      const spans = yield* Spans.Spans
      yield* UniqueCounter.add(Visitors, "home", "ada")
      yield* UniqueCounter.union(Visitors, ["home"])
      const all = (yield* spans.all).filter(({ name }) => name.startsWith("unique."))
      assert.deepStrictEqual(
        all.map(({ attributes, name }) => [name, attributes.get("effect_redis.unique.name")]),
        [["unique.add", "visitors"], ["unique.union", "visitors"]]
      )
    }).pipe(Effect.provide(UniqueCounter.layerTest), Effect.provide(Spans.layer)))
})
