import { assert, describe, it } from "@effect/vitest"
import { Effect, FastCheck, Fiber, Option, Schema, TestClock, TestContext } from "effect"
import * as Geo from "../../src/Geo/index.js"
import { RedisClient } from "../../src/RedisClient.js"
import type { RedisError } from "../../src/RedisError.js"
import { Fault, RedisTestServer } from "../../src/RedisTestServer.js"
import * as Spans from "../kit/spans.js"

const Shops = Geo.define({
  name: "shops",
  member: Schema.String,
  value: Schema.Struct({ opens: Schema.String }),
  ttl: "1 hour"
})

const Plain = Geo.define({ name: "plain", member: Schema.NumberFromString })

const value = { opens: "08:00" }

const here = { longitude: 10, latitude: 50 }

describe("Geo in memory", () => {
  it.effect("a set ends with its ttl, as a whole", () =>
    Effect.gen(function*() {
      const server = yield* RedisTestServer
      yield* Geo.add(Shops, [{ member: "a", ...here, value }])
      yield* TestClock.adjust("59 minutes")
      yield* Geo.add(Shops, [{ member: "b", ...here, value }])
      yield* TestClock.adjust("59 minutes")
      assert.strictEqual(yield* Geo.count(Shops), 2)
      assert.isTrue(Option.isSome((yield* Geo.search(Shops, { around: here, radius: 1 }))[0]!.value))
      yield* TestClock.adjust("1 minutes")
      assert.deepStrictEqual(yield* server.keys, [])
    }).pipe(Effect.provide(Geo.layerTest)))

  it.effect("without a ttl it stays until it is removed", () =>
    Effect.gen(function*() {
      const server = yield* RedisTestServer
      yield* Geo.add(Plain, [{ member: 1, ...here }])
      yield* TestClock.adjust("36500 days")
      assert.strictEqual(yield* Geo.remove(Plain, 1), 1)
      assert.deepStrictEqual(yield* server.keys, [])
    }).pipe(Effect.provide(Geo.layerTest)))

  it.effect("what another version has written is no value, and what is no member is left out", () =>
    Effect.gen(function*() {
      const client = yield* RedisClient
      yield* Geo.add(Shops, [{ member: "a", ...here, value }, { member: "b", ...here, value }])
      yield* client.hset("geo:{shops:places}:values", { a: "{\"closes\":1}" })
      yield* client.hdel("geo:{shops:places}:values", "b")
      const found = yield* Geo.search(Shops, { around: here, radius: 1 })
      assert.deepStrictEqual(found.map(({ member, value }) => [member, value]), [
        ["a", Option.none()],
        ["b", Option.none()]
      ])
      yield* Geo.add(Plain, [{ member: 1, ...here }])
      yield* client.send("GEOADD", client.key("geo:{plain:places}"), 10, 50, "no number")
      assert.deepStrictEqual((yield* Geo.search(Plain, { around: here, radius: 1 })).map(({ member }) => member), [1])
      assert.strictEqual(yield* Geo.count(Plain), 2)
    }).pipe(Effect.provide(Geo.layerTest)))

  it.effect("a lost reply is asked for again", () =>
    Effect.gen(function*() {
      const server = yield* RedisTestServer
      yield* Geo.add(Shops, [{ member: "a", ...here, value }])
      for (
        const operation of [
          Geo.add(Shops, [{ member: "b", ...here, value }]),
          Geo.search(Shops, { around: { member: "b" }, radius: 1 }),
          Geo.remove(Shops, "a")
        ]
      ) {
        const lost = yield* server.inject(Fault.loseReply({ command: "EVALSHA" }))
        const fiber = yield* Effect.fork<unknown, RedisError | Geo.GeoMemberNotFound, Geo.Geo>(operation)
        yield* TestClock.adjust("5 seconds")
        yield* Fiber.join(fiber)
        assert.strictEqual(yield* lost.happened, 1)
      }
      assert.strictEqual(yield* Geo.count(Shops), 1)
    }).pipe(Effect.provide(Geo.layerTest)))

  it.effect("a lost reply to a single command is asked for again as well", () =>
    Effect.gen(function*() {
      const server = yield* RedisTestServer
      yield* Geo.add(Plain, [{ member: 1, ...here }])
      const operations = [
        ["GEOADD", Geo.add(Plain, [{ member: 2, longitude: 10.001, latitude: 50 }])],
        ["GEOSEARCH", Geo.search(Plain, { around: { member: 2 }, radius: 1 })],
        ["GEODIST", Geo.distance(Plain, 1, 2)]
      ] as const
      for (const [command, operation] of operations) {
        const lost = yield* server.inject(Fault.loseReply({ command }))
        const fiber = yield* Effect.fork<unknown, RedisError | Geo.GeoMemberNotFound, Geo.Geo>(operation)
        yield* TestClock.adjust("5 seconds")
        yield* Fiber.join(fiber)
        assert.strictEqual(yield* lost.happened, 1, command)
      }
      assert.strictEqual(yield* Geo.count(Plain), 2)
    }).pipe(Effect.provide(Geo.layerTest)))

  it.effect("what is no set of places, and a server that is not ready, are the server's errors", () =>
    Effect.gen(function*() {
      const server = yield* RedisTestServer
      const client = yield* RedisClient
      yield* client.set("geo:{plain:places}", "no places")
      const search: Effect.Effect<unknown, RedisError | Geo.GeoMemberNotFound, Geo.Geo> = Geo.search(Plain, {
        around: here,
        radius: 1
      })
      for (const operation of [search, Geo.add(Plain, [{ member: 1, ...here }])]) {
        const wrong = yield* Effect.flip(operation)
        assert(wrong._tag === "RedisReplyError")
        assert.strictEqual(wrong.code, "WRONGTYPE")
      }
      yield* server.become("loading")
      const fiber = yield* Effect.fork(Effect.flip(search))
      yield* TestClock.adjust("1 minute")
      const loading = yield* Fiber.join(fiber)
      assert(loading._tag === "RedisReplyError")
      assert.strictEqual(loading.code, "LOADING")
    }).pipe(Effect.provide(Geo.layerTest)))

  it.effect(
    "pages of whatever size are the whole, in the order of distance and name",
    () =>
      Effect.promise(() =>
        FastCheck.assert(
          FastCheck.asyncProperty(
            // A grid so coarse that many are at the same distance.
            FastCheck.uniqueArray(
              FastCheck.record({
                member: FastCheck.integer({ min: 0, max: 99 }),
                longitude: FastCheck.integer({ min: -3, max: 3 }).map((x) => x === 0 ? 180 : x > 0 ? x - 180 : 180 + x),
                latitude: FastCheck.integer({ min: -3, max: 3 })
              }),
              { maxLength: 40, selector: ({ member }) => member }
            ),
            FastCheck.integer({ min: 1, max: 15 }),
            FastCheck.constantFrom("nearest" as const, "farthest" as const),
            FastCheck.boolean(),
            (entries, limit, order, box) =>
              Effect.runPromise(
                Effect.gen(function*() {
                  if (entries.length > 0) yield* Geo.add(Plain, entries)
                  const shape = box ? { width: 2000, height: 2000 } : { radius: 1000 }
                  const whole = { around: { longitude: 180, latitude: 0 }, unit: "km", order, ...shape } as const
                  const all = yield* Geo.search(Plain, whole)
                  assert.strictEqual(all.length, entries.length)
                  const sign = order === "nearest" ? 1 : -1
                  const sorted = all.toSorted((a, b) =>
                    sign * (a.distance - b.distance) || (String(a.member) < String(b.member) ? -1 : 1)
                  )
                  assert.deepStrictEqual(all, sorted)
                  const paged: Array<Geo.Found<number, void>> = []
                  for (;;) {
                    const page: ReadonlyArray<Geo.Found<number, void>> = yield* Geo.search(Plain, {
                      ...whole,
                      limit,
                      after: paged.at(-1)
                    })
                    if (page.length === 0) break
                    paged.push(...page)
                  }
                  assert.deepStrictEqual(paged, all)
                }).pipe(Effect.provide(Geo.layerTest), Effect.provide(TestContext.TestContext))
              )
          ),
          { numRuns: 100 }
        )
      ),
    60_000
  )

  it.effect("makes one span for an operation", () =>
    Effect.gen(function*() {
      const spans = yield* Spans.Spans
      yield* Geo.add(Shops, [{ member: "a", ...here, value }])
      yield* Geo.search(Shops, { around: here, radius: 1 })
      const all = (yield* spans.all).filter(({ name }) => name.startsWith("geo."))
      assert.deepStrictEqual(
        all.map(({ attributes, name }) => [name, attributes.get("effect_redis.geo.name")]),
        [["geo.add", "shops"], ["geo.search", "shops"]]
      )
    }).pipe(Effect.provide(Geo.layerTest), Effect.provide(Spans.layer)))
})
