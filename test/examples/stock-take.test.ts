import { assert, describe, it } from "@effect/vitest"
import { Deferred, Effect, Fiber, Layer, Logger, LogLevel, Option, PubSub as Hub, TestClock } from "effect"
import { EventBus, Leaderboard, ReadWriteLock, RedisClient, RedisTest, Semaphore, Stream } from "effect-redis-kit"
import { backstage } from "../../examples/box-office/backstage.js"
import { lastSamples } from "../../examples/box-office/chores.js"
import { mayOrder } from "../../examples/box-office/limits.js"
import { news } from "../../examples/box-office/news.js"
import { booksOf, buy, CardRefused, Order, type Sale, venueKeys } from "../../examples/box-office/sale.js"
import { countRevenue } from "../../examples/box-office/sales.js"
import { lastStockTake, takeStock } from "../../examples/box-office/stock-take.js"
import { dearestOrders, lastTicks, rankOrders, tick } from "../../examples/box-office/ticker.js"
import { atTill, tillsOf } from "../../examples/box-office/tills.js"
import { plan, type Venue } from "../../examples/box-office/venues.js"
import { nap } from "../kit/RealServer.js"

const quiet = Logger.minimumLogLevel(LogLevel.None)

const saleOf = (id: string): Sale => ({ id, venues: plan(2, 80) })

const buyAs = (sale: Sale, buyer: string) => {
  const [venue] = sale.venues
  return buy({
    sale,
    venue,
    row: venue.rows[0]!,
    party: 1,
    buyer,
    pay: () => Effect.void,
    careless: false,
    onWaited: () => {}
  })
}

/** Asks again until it is so, and not for ever. */
const until = <E, R>(what: Effect.Effect<boolean, E, R>) =>
  Effect.repeat(Effect.zipRight(nap(10), what), { until: (yes) => yes }).pipe(Effect.timeout("20 seconds"))

/** Nobody gets past the chart, which is written in the middle of a purchase, before the gate is open. */
const gated = (gate: Deferred.Deferred<void>) =>
  Layer.provideMerge(
    Layer.effect(
      Leaderboard.Leaderboard,
      Effect.map(Leaderboard.Leaderboard, (board) =>
        Leaderboard.Leaderboard.of({
          ...board,
          submit: (...args) => Effect.zipRight(Deferred.await(gate), board.submit(...args))
        }))
    ),
    RedisTest
  )

describe("a stock-take", () => {
  it.scopedLive(
    "waits for whoever is in the middle of a purchase, and finds everything right",
    () =>
      Effect.gen(function*() {
        const gate = yield* Deferred.make<void>()
        yield* Effect.gen(function*() {
          const redis = yield* RedisClient.RedisClient
          const locks = yield* ReadWriteLock.ReadWriteLock
          const sale = saleOf("middle")
          yield* Effect.forkScoped(countRevenue(sale))
          const buying = yield* Effect.fork(buyAs(sale, "ada"))
          // The seat is sold, and neither the chart nor the log knows.
          yield* until(Effect.map(redis.hlen(venueKeys(sale, sale.venues[0]).seats), (n) => n === 1))
          const counting = yield* Effect.fork(takeStock(sale))
          yield* until(Effect.map(locks.inspect(booksOf(sale)), ({ waiters }) => waiters === 1))
          // Who comes now pays, and waits until stock is taken.
          const later = yield* Effect.fork(buyAs({ ...sale, venues: [sale.venues[1]!] }, "bob"))
          yield* until(Effect.map(locks.inspect(booksOf(sale)), ({ waiters }) => waiters === 2))
          yield* Deferred.succeed(gate, undefined)
          const found = yield* Fiber.join(counting)
          assert.deepStrictEqual(found.problems, [])
          assert.deepInclude(found, { orders: 1, tickets: 1, revenue: (yield* Fiber.join(buying)).price })
          assert.deepStrictEqual(yield* lastStockTake(sale), Option.some(found))
          yield* Fiber.join(later)
          assert.strictEqual((yield* takeStock(sale)).orders, 2)
        }).pipe(Effect.provide(gated(gate)))
      }).pipe(Effect.provide(quiet)),
    60_000
  )

  it.scopedLive("sees a seat that is sold twice, and an order that is not in the log", () =>
    Effect.gen(function*() {
      const redis = yield* RedisClient.RedisClient
      const sale = saleOf("forged")
      const [venue] = sale.venues
      yield* Effect.forkScoped(countRevenue(sale))
      const order = yield* buyAs(sale, "ada")
      assert.deepStrictEqual((yield* takeStock(sale)).problems, [])
      const forged = new Order({ ...order, id: "forged", buyer: "eve" })
      yield* redis.rpush(venueKeys(sale, venue).ledger, JSON.stringify(forged))
      const { problems } = yield* takeStock(sale)
      assert.include(problems[0], "A1 is sold 2 times: to ada")
      assert.include(problems.join("\n"), "order forged is in the log 0 times")
    }).pipe(Effect.provide(RedisTest), Effect.provide(quiet)), 60_000)
})

describe("the chores", () => {
  it.effect("are done once by all processes together", () =>
    Effect.gen(function*() {
      const sale = saleOf("chores")
      yield* backstage(sale)
      yield* backstage(sale)
      const fiber = yield* Effect.fork(buyAs(sale, "ada"))
      for (let n = 0; n < 320; n++) yield* TestClock.adjust("100 millis")
      const { price } = yield* Fiber.join(fiber)
      const samples = yield* lastSamples(sale)
      assert.strictEqual(samples.length, 16)
      assert.deepStrictEqual(
        samples.map(({ at }) => Math.round(at / 1000)),
        Array.from({ length: 16 }, (_, n) => 2 * n + 2)
      )
      assert.deepInclude(samples.at(-1), { tickets: 1, revenue: price })
      const stock = yield* Effect.flatten(lastStockTake(sale))
      assert.deepInclude(stock, { orders: 1, problems: [] })
      assert.isAtLeast(stock.at, 30_000)
    }).pipe(Effect.scoped, Effect.provide(RedisTest), Effect.provide(quiet)), 60_000)
})

describe("the ticker", () => {
  it.scopedLive("ranks the dearest orders, each once", () =>
    Effect.gen(function*() {
      const sale = saleOf("ticker")
      const venue: Venue = sale.venues[0]
      const order = (id: string, price: number) =>
        tick(sale, venue, new Order({ id, buyer: "ada", row: "A", seats: ["A1", "A2"], price, fencingToken: 1 }))
      yield* order("cheap", 1)
      yield* order("dear", 3)
      yield* order("dear", 3)
      yield* rankOrders(sale)
      yield* order("fair", 2)
      yield* until(Effect.map(dearestOrders(sale, 5), ({ length }) => length === 3))
      assert.deepStrictEqual(
        yield* dearestOrders(sale, 5),
        [3, 2, 1].map((price, n) => ({ rank: n + 1, price, city: venue.city, seats: 2 }))
      )
      assert.deepStrictEqual((yield* lastTicks(sale, 2)).map(({ order }) => order), ["fair", "dear"])
      assert.strictEqual(
        yield* Stream.length(Stream.define({ name: "box-office:ticker:ticker", schema: Order })),
        4
      )
    }).pipe(Effect.provide(RedisTest)), 30_000)
})

describe("the tills", () => {
  it.scopedLive("take forty at a time, and give back the till of whoever hangs up", () =>
    Effect.gen(function*() {
      const sale = saleOf("tills")
      const payers = yield* Effect.forEach(Array.from({ length: 41 }), () => Effect.fork(atTill(sale, Effect.never)))
      yield* until(Effect.map(tillsOf(sale), ({ inUse }) => inUse === 40))
      assert.strictEqual((yield* Effect.flip(Fiber.join(payers[40]!)))._tag, "LockNotAcquired")
      yield* Fiber.interruptAll(payers)
      yield* until(Effect.map(tillsOf(sale), ({ inUse, waiters }) => inUse === 0 && waiters === 0))
      assert.strictEqual((yield* Effect.flip(atTill(sale, new CardRefused())))._tag, "CardRefused")
      const { holders } = yield* Semaphore.inspect(Semaphore.define({ name: "box-office:tills:tills", permits: 40 }))
      assert.deepStrictEqual(holders, [])
    }).pipe(Effect.provide(RedisTest)), 30_000)
})

describe("the limit of orders", () => {
  it.scopedLive("lets five orders pass, and tells who wanted more", () =>
    Effect.gen(function*() {
      const sale = saleOf("touts")
      const told = yield* Hub.unbounded<string>()
      const heard = yield* Hub.subscribe(told)
      yield* EventBus.on(news(sale), "Refused", ({ policy, who }) => Hub.publish(told, `${who} by ${policy}`))
      const answers = yield* Effect.forEach(Array.from({ length: 6 }), () => mayOrder(sale, "eve"))
      assert.deepStrictEqual(answers, [true, true, true, true, true, false])
      assert.strictEqual(yield* heard.take, "eve by orders-per-buyer")
    }).pipe(Effect.provide(RedisTest)), 30_000)
})
