import { afterAll, assert, describe, it } from "@effect/vitest"
import { Clock, DateTime, Effect, FastCheck, Fiber, Schema, TestClock, TestContext } from "effect"
import * as Counter from "../../src/Counter/index.js"
import { RedisClient } from "../../src/RedisClient.js"
import { Fault, RedisTestServer } from "../../src/RedisTestServer.js"
import * as Spans from "../kit/spans.js"
import { error } from "../kit/suites.js"

const HOUR = 3_600_000
const DAY = 24 * HOUR

const Views = Counter.define({
  name: "views",
  key: Schema.String,
  windows: { hour: "7 days", day: "90 days" }
})

const Tops = Counter.define({
  name: "tops",
  key: Schema.String,
  windows: { hour: "5 hours" },
  total: "10 hours",
  top: { capacity: 2 }
})

const shown = (all: ReadonlyArray<Counter.Count>) =>
  all.map(({ count, start }) => `${DateTime.formatIso(start).slice(0, 13)} ${count}`)

/** Their clocks are changed in a year of these zones at an hour, or at midnight, or by half an hour. */
const zones = ["UTC", "Europe/Berlin", "America/New_York", "America/Sao_Paulo", "Australia/Lord_Howe"]

const original = process.env.TZ
afterAll(() => {
  if (original === undefined) delete process.env.TZ
  else process.env.TZ = original
})

/** A client whose clock is wrong by so much. */
const offBy = (millis: number) =>
  Effect.gen(function*() {
    const clock = yield* Effect.clock
    const wrong: Clock.Clock = {
      ...clock,
      [Clock.ClockTypeId]: Clock.ClockTypeId,
      unsafeCurrentTimeMillis: () => clock.unsafeCurrentTimeMillis() + millis
    }
    return yield* Effect.withClock(Counter.make, wrong)
  })

describe("Counter in memory", () => {
  for (const zone of zones) {
    it.effect(`windows are those of UTC where the process has the time of ${zone}`, () =>
      Effect.gen(function*() {
        process.env.TZ = zone
        const winter = new Date("2026-01-15T12:00:00Z").getTimezoneOffset()
        const summer = new Date("2026-07-15T12:00:00Z").getTimezoneOffset()
        if (zone === "Europe/Berlin") assert.deepStrictEqual([winter, summer], [-60, -120])
        if (zone === "America/New_York") assert.deepStrictEqual([winter, summer], [300, 240])
        // Midnight, and the hours around the changes of 2026 in these zones.
        for (const night of ["2026-03-08", "2026-03-29", "2026-04-05", "2026-10-04", "2026-10-25", "2026-11-01"]) {
          const midnight = Date.parse(`${night}T00:00:00Z`)
          const key = `${zone} ${night}`
          for (const hour of [-1, 0, 1, 2, 3, 5, 6, 7, 16]) {
            yield* TestClock.setTime(midnight + hour * HOUR)
            yield* Counter.increment(Views, key)
            yield* TestClock.setTime(midnight + hour * HOUR + HOUR - 1)
            yield* Counter.increment(Views, key, 10)
          }
          const hours = yield* Counter.range(Views, key, "hour", { last: 18, order: "oldest" })
          assert.deepStrictEqual(
            hours.map(({ start }) => start.epochMillis),
            Array.from({ length: 18 }, (_, i) => midnight + (i - 1) * HOUR)
          )
          assert.deepStrictEqual(
            hours.map(({ count }) => count),
            [11, 11, 11, 11, 11, 0, 11, 11, 11, 0, 0, 0, 0, 0, 0, 0, 0, 11]
          )
          const yesterday = new Date(midnight - 1).toISOString().slice(0, 10)
          assert.deepStrictEqual(
            shown(yield* Counter.range(Views, key, "day", { last: 2 })),
            [`${night}T00 88`, `${yesterday}T00 11`]
          )
        }
      }).pipe(Effect.provide(Counter.layerTest)))
  }

  it.effect("a window is told until it is over for as long as it is kept, and then nothing of it is left", () =>
    Effect.gen(function*() {
      const client = yield* RedisClient
      const server = yield* RedisTestServer
      const key = "counter:{views:home}"
      yield* TestClock.setTime(HOUR / 2)
      yield* Counter.increment(Views, "home")
      yield* TestClock.setTime(HOUR + 7 * DAY - 1)
      assert.strictEqual((yield* Counter.range(Views, "home", "hour")).at(-1)?.count, 1)
      yield* TestClock.setTime(HOUR + 7 * DAY)
      assert.isTrue((yield* Counter.range(Views, "home", "hour")).every(({ count }) => count === 0))
      const earlier = DateTime.unsafeMake(0)
      assert.deepStrictEqual(
        (yield* Counter.range(Views, "home", "hour", { last: 1, until: earlier })).map(({ count }) => count),
        [0]
      )
      assert.strictEqual(yield* client.exists(`${key}:hour`), 0)
      assert.strictEqual(yield* client.exists(`${key}:day`), 1)
      yield* TestClock.setTime(366 * DAY)
      assert.deepStrictEqual(yield* server.keys, [])
    }).pipe(Effect.provide(Counter.layerTest)))

  it.effect("a counter that is always in use does not grow", () =>
    Effect.gen(function*() {
      const client = yield* RedisClient
      const server = yield* RedisTestServer
      for (let hour = 0; hour < 400; hour++) {
        // It rests for a while, also for longer than anything is kept.
        yield* TestClock.adjust(hour === 200 ? 3 * HOUR : hour === 300 ? 50 * HOUR : HOUR)
        yield* Counter.increment(Tops, `page ${hour % 3}`)
        yield* Counter.increment(Tops, "always")
        const fields = yield* client.hkeys("counter:{tops:top}:hour:always")
        assert.isAtMost(fields.length, 7)
        assert.isAtMost((yield* server.keys).length, 6 + 8)
        for (const { key, ttl } of yield* server.keys) assert.isAbove(ttl, 0, key)
      }
      const all = yield* Counter.range(Tops, "always", "hour")
      assert.deepStrictEqual(all.map(({ count }) => count), [1, 1, 1, 1, 1, 1])
      yield* TestClock.adjust("10 hours")
      assert.deepStrictEqual(yield* server.keys, [])
    }).pipe(Effect.provide(Counter.layerTest)))

  it.effect("a total without an end stays until it is removed", () =>
    Effect.gen(function*() {
      const server = yield* RedisTestServer
      const forever = Counter.define({ name: "forever", key: Schema.String, total: Infinity })
      yield* Counter.increment(forever, "a")
      yield* TestClock.adjust("36500 days")
      assert.strictEqual(yield* Counter.get(forever, "a"), 1)
      yield* Counter.reset(forever, "a")
      assert.deepStrictEqual(yield* server.keys, [])
    }).pipe(Effect.provide(Counter.layerTest)))

  for (const millis of [-3 * DAY, -HOUR, -1, 1, 20 * HOUR, 400 * DAY]) {
    it.effect(`the time is the server's for a client whose clock is wrong by ${millis} ms`, () =>
      Effect.gen(function*() {
        const server = yield* RedisTestServer
        yield* TestClock.setTime(1000 * DAY)
        const right = yield* Counter.make
        const wrong = yield* offBy(millis)
        yield* right.increment(Tops, "a", 2)
        assert.strictEqual(yield* wrong.increment(Tops, "a", 3), 5)
        assert.deepStrictEqual(yield* wrong.top(Tops, "hour"), [{ key: "a", count: 5 }])
        assert.deepStrictEqual(yield* right.top(Tops, "hour"), [{ key: "a", count: 5 }])
        // It has learnt what time it is: a call is one command from here on.
        const before = (yield* server.journal).length
        yield* wrong.increment(Tops, "a")
        assert.strictEqual((yield* server.journal).length, before + 1)
        yield* TestClock.adjust("1 hours")
        yield* wrong.increment(Tops, "a")
        assert.deepStrictEqual(yield* right.top(Tops, "hour", { last: 2 }), [{ key: "a", count: 7 }])
        yield* wrong.reset(Tops, "a")
        assert.deepStrictEqual(yield* right.top(Tops, "hour", { last: 2 }), [])
      }).pipe(Effect.provide(Counter.layerTest)))
  }

  it.effect("counts nothing twice when a reply is lost, and says so", () =>
    Effect.gen(function*() {
      const server = yield* RedisTestServer
      yield* Counter.increment(Views, "home")
      yield* server.inject(Fault.loseReply({ command: "EVALSHA" }))
      const fiber = yield* Effect.fork(error(Counter.increment(Views, "home")))
      yield* TestClock.adjust("30 seconds")
      assert.strictEqual((yield* Fiber.join(fiber))._tag, "RedisOutcomeUnknownError")
      assert.strictEqual(yield* Counter.get(Views, "home"), 2)
    }).pipe(Effect.provide(Counter.layerTest)))

  it.effect("what is no count is a failure, and not a number", () =>
    Effect.gen(function*() {
      const client = yield* RedisClient
      for (const text of ["", "x", "1.5", "9007199254740993"]) {
        yield* client.set("counter:{views:home}:total", text)
        assert.strictEqual((yield* error(Counter.get(Views, "home")))._tag, "RedisDecodeError")
      }
    }).pipe(Effect.provide(Counter.layerTest)))

  it.effect("one definition in place of another: what is kept for less long is gone, the rest stays", () =>
    Effect.gen(function*() {
      const longer = Counter.define({ name: "changing", key: Schema.String, windows: { hour: "10 hours" } })
      const shorter = Counter.define({ name: "changing", key: Schema.String, windows: { hour: "3 hours" } })
      const client = yield* RedisClient
      for (let hour = 0; hour < 8; hour++) {
        yield* Counter.increment(longer, "a", hour + 1)
        yield* TestClock.adjust("1 hours")
      }
      yield* Counter.increment(shorter, "a", 9)
      assert.deepStrictEqual(
        (yield* Counter.range(shorter, "a", "hour")).map(({ count }) => count),
        [9, 8, 7, 6]
      )
      assert.deepStrictEqual(
        (yield* client.hkeys("counter:{changing:a}:hour")).toSorted(),
        ["5", "6", "7", "8", "from"]
      )
    }).pipe(Effect.provide(Counter.layerTest)))

  it.effect("counts as a table of all that happened would", () =>
    Effect.promise(() =>
      FastCheck.assert(
        FastCheck.asyncProperty(
          FastCheck.array(
            FastCheck.record({
              pause: FastCheck.oneof(FastCheck.constant(0), FastCheck.integer({ min: 0, max: 4 * HOUR })),
              key: FastCheck.constantFrom("a", "b", "c", "d"),
              by: FastCheck.integer({ min: 0, max: 5 })
            }),
            { maxLength: 40 }
          ),
          (steps) =>
            Effect.runPromise(
              Effect.gen(function*() {
                const seen = new Map<string, number>()
                let now = 0
                for (const { by, key, pause } of steps) {
                  now += pause
                  yield* TestClock.adjust(pause)
                  const hour = Math.floor(now / HOUR)
                  yield* Counter.increment(Tops, key, by)
                  seen.set(`${hour} ${key}`, (seen.get(`${hour} ${key}`) ?? 0) + by)
                  const count = (key: string, ago: number) => seen.get(`${hour - ago} ${key}`) ?? 0
                  assert.deepStrictEqual(
                    (yield* Counter.range(Tops, key, "hour")).map(({ count }) => count),
                    [0, 1, 2, 3, 4, 5].map((ago) => count(key, ago))
                  )
                  for (const ago of [0, 3]) {
                    const best = ["a", "b", "c", "d"].map((key) => count(key, ago)).sort((a, b) => b - a).slice(0, 2)
                    const top = yield* Counter.top(Tops, "hour", { ago })
                    assert.deepStrictEqual(
                      top.map(({ count }) => count).filter((n) => n > 0),
                      best.filter((n) => n > 0)
                    )
                    for (const ranked of top) assert.strictEqual(ranked.count, count(ranked.key, ago))
                  }
                }
              }).pipe(Effect.provide(Counter.layerTest), Effect.provide(TestContext.TestContext))
            )
        ),
        { numRuns: 60 }
      )
    ), 60_000)

  it.effect("makes one span for an operation", () =>
    Effect.gen(function*() {
      const spans = yield* Spans.Spans
      yield* Counter.increment(Views, "home")
      yield* Counter.range(Views, "home", "day")
      const all = (yield* spans.all).filter(({ name }) => name.startsWith("counter."))
      assert.deepStrictEqual(
        all.map(({ attributes, name }) => [name, attributes.get("effect_redis.counter.name")]),
        [["counter.increment", "views"], ["counter.range", "views"]]
      )
    }).pipe(Effect.provide(Counter.layerTest), Effect.provide(Spans.layer)))
})
