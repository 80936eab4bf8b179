import { assert, describe, it } from "@effect/vitest"
import { Effect, Fiber, Logger, LogLevel, TestClock } from "effect"
import { EventStore, RedisClient, RedisTest } from "effect-redis-kit"
import { audit } from "../../examples/box-office/audit.js"
import { evening } from "../../examples/box-office/box-office.js"
import { emptyTally, letIn } from "../../examples/box-office/crowd.js"
import { close, Order, type Sale, venueKeys } from "../../examples/box-office/sale.js"
import { auditLog, countRevenue, record, Sold } from "../../examples/box-office/sales.js"
import { plan } from "../../examples/box-office/venues.js"

const quiet = Logger.minimumLogLevel(LogLevel.None)

const saleOf = (id: string): Sale => ({ id, venues: plan(2, 60) })

const order = (id: string, price: number) =>
  new Order({ id, buyer: "eve", row: "A", seats: ["A1"], price, fencingToken: 1 })

const logOf = ({ id }: Sale) => EventStore.open(EventStore.define({ name: `box-office:${id}`, event: Sold }))

/** Lets time pass until it is done. */
const passing = <A, E, R>(effect: Effect.Effect<A, E, R>) =>
  Effect.gen(function*() {
    const fiber = yield* Effect.fork(effect)
    while ((yield* Fiber.poll(fiber))._tag === "None") yield* TestClock.adjust("20 millis")
    return yield* Fiber.join(fiber)
  })

describe("the log of sales", () => {
  it.effect(
    "has every order of an evening once, and gives the same revenue when it is read again",
    () =>
      Effect.gen(function*() {
        const sale = saleOf("logged")
        const tally = emptyTally()
        const { audit } = yield* passing(
          evening(sale, letIn({ sale, seed: "seed", buyers: 60, tally }), {
            show: () => Effect.void,
            every: "1 second"
          })
        )
        assert.deepStrictEqual(audit.problems, [])
        const log = yield* logOf(sale)
        const { events } = yield* log.since({ limit: 1000 })
        assert.strictEqual(events.length, audit.orders)
        assert.isAbove(audit.orders, 10)
        // What is there lasts for an hour at most, and nothing of it when the sale is closed.
        const redis = yield* RedisClient.RedisClient
        assert.isAbove(Number(yield* redis.send("PTTL", redis.key("events:{box-office:logged.0}:all"))), 0)
        yield* close(sale)
        assert.strictEqual((yield* log.since()).events.length, 0)
      }).pipe(Effect.provide(RedisTest), Effect.provide(quiet)),
    60_000
  )

  it.effect("has an order once that is recorded twice", () =>
    Effect.gen(function*() {
      const sale = saleOf("twice")
      const [venue] = sale.venues
      const orders = [order("one", 100), order("two", 200)]
      for (const one of [...orders, ...orders]) yield* record(sale, venue, one)
      const counting = yield* Effect.fork(countRevenue(sale))
      yield* TestClock.adjust("1 second")
      assert.deepStrictEqual(yield* auditLog(sale, [{ venue, orders }]), [])
      yield* Fiber.interrupt(counting)
    }).pipe(Effect.provide(RedisTest)))

  it.effect("an audit sees orders that are missing, too many, or counted wrong", () =>
    Effect.gen(function*() {
      const redis = yield* RedisClient.RedisClient
      const sale = saleOf("wrong")
      const [venue] = sale.venues
      yield* record(sale, venue, order("one", 100))
      yield* record(sale, venue, order("dear", 300))
      yield* record(sale, venue, order("nobody's", 5))
      const counting = yield* Effect.fork(countRevenue(sale))
      yield* TestClock.adjust("1 second")
      yield* redis.hincrBy(`box-office:{wrong:${venue.id}}:counted`, "revenue", 1)
      const orders = [order("one", 100), order("lost", 200), order("dear", 299)]
      assert.deepStrictEqual(yield* auditLog(sale, [{ venue, orders: orders.slice(0, 2) }]), [
        "tokyo-jp: order lost is in the log 0 times",
        "tokyo-jp: the log has more orders than the ledger",
        "tokyo-jp: revenue was counted as 406 from the log, and is 405 when it is read again"
      ])
      const texts = yield* auditLog(sale, [{ venue, orders }])
      assert.include(texts, "tokyo-jp: order dear has another price in the log")
      // And so does the audit of the whole sale.
      yield* redis.rpush(venueKeys(sale, venue).ledger, yield* Effect.orDie(encoded(order("lost", 200))))
      const { problems } = yield* passing(audit(sale))
      assert.isAtLeast(problems.filter(({ check }) => check === "log").length, 3)
      yield* Fiber.interrupt(counting)
    }).pipe(Effect.provide(RedisTest)))
})

const encoded = (order: Order) => Effect.sync(() => JSON.stringify({ ...order }))
