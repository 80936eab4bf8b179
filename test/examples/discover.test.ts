import { assert, describe, it } from "@effect/vitest"
import { type Array, Effect, Layer, Logger, LogLevel, Redacted, TestClock } from "effect"
import { Layers, RedisClient, RedisTest, RedisTestServer } from "effect-redis-kit"
import { inject } from "vitest"
import { discoveries, forget, near, popular, putOnMap, viewed, visitors } from "../../examples/box-office/discover.js"
import { type Sale, venueKeys } from "../../examples/box-office/sale.js"
import { capacity, MAX_VENUES, plan, type Venue } from "../../examples/box-office/venues.js"
import { serve } from "../../examples/box-office/web/server.js"
import "../kit/globalSetup.js"

const quiet = Logger.minimumLogLevel(LogLevel.None)

const saleOf = (id: string, venues: number): Sale => ({ id, venues: plan(venues, 20_000) })

const sellOut = (sale: Sale, venue: Venue, left = 0) =>
  Effect.flatMap(
    RedisClient.RedisClient,
    (redis) => redis.hset(venueKeys(sale, venue).totals, { tickets: `${capacity(venue) - left}` })
  )

const kilometres = (a: Venue, b: Venue) => {
  const [from, to] = [a.latitude * Math.PI / 180, b.latitude * Math.PI / 180]
  const lambda = (b.longitude - a.longitude) * Math.PI / 180
  const cosine = Math.sin(from) * Math.sin(to) + Math.cos(from) * Math.cos(to) * Math.cos(lambda)
  return 6372.797 * Math.acos(Math.min(1, cosine))
}

const ids = (all: ReadonlyArray<{ readonly venue: Venue }>) => all.map(({ venue }) => venue.id)

const forms = {
  "in memory": RedisTest,
  "live": Layer.suspend(() =>
    Layers.live({ url: Redacted.make(inject("redisUrl")), keyPrefix: `discover:${crypto.randomUUID()}:` })
  )
}

for (const [form, layer] of Object.entries(forms)) {
  describe(`finding a venue, ${form}`, () => {
    it.live("the nearest are the nearest of all venues, and those that are sold out are passed over", () =>
      Effect.gen(function*() {
        const sale = saleOf("near", 300)
        yield* putOnMap(sale)
        const [home] = sale.venues
        const byDistance = sale.venues.toSorted((a, b) => kilometres(home, a) - kilometres(home, b))
        const found = yield* near(sale, home, { limit: 50 })
        assert.deepStrictEqual(ids(found), byDistance.slice(0, 50).map(({ id }) => id))
        for (const one of found) {
          assert.closeTo(one.kilometres, kilometres(home, one.venue), 0.01 + one.kilometres * 0.001)
          assert.strictEqual(one.free, capacity(one.venue))
        }
        // More than two pages have too few.
        for (const venue of byDistance.slice(0, 45)) yield* sellOut(sale, venue, 1)
        assert.deepStrictEqual(
          ids(yield* near(sale, home, { limit: 3, seats: 2 })),
          byDistance.slice(45, 48).map(({ id }) => id)
        )
        assert.strictEqual((yield* near(sale, home, { limit: 1, seats: 1 }))[0]?.free, 1)
        for (const venue of byDistance) yield* sellOut(sale, venue)
        assert.deepStrictEqual(yield* near(sale, home, { limit: 3, seats: 1 }), [])
        yield* forget(sale)
        assert.deepStrictEqual(yield* near(sale, home, { limit: 3 }), [])
      }).pipe(Effect.provide(layer)))

    it.live("counts views and visitors of venues, and forgets them", () =>
      Effect.gen(function*() {
        const redis = yield* RedisClient.RedisClient
        const sale = saleOf("popular", 20)
        yield* putOnMap(sale)
        const [tokyo, mumbai] = sale.venues as unknown as Array.NonEmptyReadonlyArray<Venue> & readonly [Venue, Venue]
        yield* Effect.forEach(
          [["ada", tokyo], ["ada", tokyo], ["bob", tokyo], ["bob", mumbai], ["eve", mumbai]] as const,
          ([name, venue]) => viewed(sale, venue, name),
          { concurrency: "unbounded" }
        )
        const top = yield* popular(sale, 10)
        // They may be of two hours.
        if (top.reduce((sum, { views }) => sum + views, 0) === 5) {
          assert.deepStrictEqual(
            top.map(({ venue, views, visitors }) => [venue.id, views, visitors]),
            [["tokyo-jp", 3, 2], ["mumbai-in", 2, 2]]
          )
          const lines = (yield* discoveries(sale)).join("\n")
          assert.include(lines, "3 visitors looked for seats")
          assert.include(lines, "Tokyo (3 times, 2 visitors)")
          assert.include(lines, "the nearest two seats from Tokyo: Tokyo")
        }
        assert.strictEqual(yield* visitors(sale), 3)
        yield* forget(sale)
        assert.strictEqual(yield* visitors(sale), 0)
        for (const key of ["geo:*popular*", "counter:*popular:top*total*", "unique:*popular*"]) {
          assert.strictEqual(yield* redis.unlinkMatching(key), 0, key)
        }
        yield* redis.unlinkMatching("*")
      }).pipe(Effect.provide(layer)))
  })
}

describe("finding a venue", () => {
  it.effect("everything of it ends by itself", () =>
    Effect.gen(function*() {
      const server = yield* RedisTestServer.RedisTestServer
      const sale = saleOf("ends", 20)
      yield* putOnMap(sale)
      yield* viewed(sale, sale.venues[0], "ada")
      assert.isAbove((yield* server.keys).length, 4)
      yield* TestClock.adjust("2 hours")
      assert.deepStrictEqual(yield* server.keys, [])
    }).pipe(Effect.provide(RedisTest)))

  it.effect("all cities are on the map of Redis", () =>
    Effect.gen(function*() {
      const sale = saleOf("world", MAX_VENUES)
      assert.strictEqual(yield* putOnMap(sale), MAX_VENUES)
    }).pipe(Effect.provide(RedisTest)))

  it.live("over HTTP", () =>
    Effect.gen(function*() {
      const sale = saleOf("http", 20)
      yield* putOnMap(sale)
      const port = yield* serve(sale, 0)
      const ask = (path: string) =>
        Effect.promise(async () => {
          const response = await fetch(`http://127.0.0.1:${port}/api${path}`)
          return { status: response.status, body: await response.json() as any }
        })
      const [tokyo] = sale.venues
      yield* sellOut(sale, tokyo)
      const { longitude, latitude } = tokyo
      const nearest = yield* ask(`/near?longitude=${longitude}&latitude=${latitude}&limit=2`)
      assert.strictEqual(nearest.status, 200)
      assert.deepStrictEqual(nearest.body[0].city, "Tokyo")
      assert.deepStrictEqual([nearest.body[0].free, nearest.body.length], [0, 2])
      const free = yield* ask(`/near?longitude=${longitude}&latitude=${latitude}&seats=2`)
      assert.strictEqual(free.body.length, 10)
      assert.deepStrictEqual(free.body[0], nearest.body[1])
      for (const query of ["longitude=200&latitude=0", "longitude=0&latitude=90", "longitude=0"]) {
        assert.strictEqual((yield* ask(`/near?${query}`)).status, 400)
      }
      for (let i = 0; i < 3; i++) assert.strictEqual((yield* ask("/venues/tokyo-jp")).status, 200)
      const { body } = yield* ask("/popular")
      const total = body.reduce((sum: number, { views }: { readonly views: number }) => sum + views, 0)
      if (total === 3) assert.deepStrictEqual(body, [{ venue: "tokyo-jp", city: "Tokyo", views: 3, visitors: 1 }])
      assert.strictEqual(yield* visitors(sale), 1)
    }).pipe(Effect.scoped, Effect.provide(RedisTest), Effect.provide(quiet)))
})
