import { assert, describe, it } from "@effect/vitest"
import { Effect, Fiber, Logger, LogLevel, TestClock } from "effect"
import { RedisClient, RedisTest } from "effect-redis-kit"
import { audit } from "../../examples/box-office/audit.js"
import {
  allDelivered,
  confirm,
  type Confirmation,
  confirmed,
  deliver,
  deliveredKey,
  forgetMails,
  MailboxBusy,
  MailboxFull,
  Mailer,
  mailsOf,
  sendAgain
} from "../../examples/box-office/mail.js"
import { Order, type Sale, venueKeys } from "../../examples/box-office/sale.js"
import { plan } from "../../examples/box-office/venues.js"
import { serve } from "../../examples/box-office/web/server.js"

const quiet = Logger.minimumLogLevel(LogLevel.None)

const sale: Sale = { id: "mails", venues: plan(1, 40) }
const [venue] = sale.venues
const row = venue.rows[0]!

const orderOf = (id: string, buyer: string, seat = 0) =>
  new Order({ id, buyer, row: row.name, seats: [row.seats[seat]!], price: row.price, fencingToken: 1 })

/** `busy` takes the mail the second time, and `full` never does. */
const mailer = (sent: Array<string>, full: { yes: boolean } = { yes: true }) => ({
  send: ({ buyer, order }: Confirmation, attempt: number) =>
    Effect.suspend((): Effect.Effect<void, MailboxBusy | MailboxFull> => {
      if (buyer === "busy" && attempt === 1) return new MailboxBusy()
      if (buyer === "full" && full.yes) return new MailboxFull()
      sent.push(order)
      return Effect.void
    })
})

describe("mails of the box office", () => {
  it.effect("are brought once, again where a mailbox was busy, and are dead letters where it is full", () =>
    Effect.gen(function*() {
      const sent: Array<string> = []
      for (const buyer of ["ada", "busy", "full"]) yield* confirm(sale, venue, orderOf(`of ${buyer}`, buyer))
      yield* confirm(sale, venue, orderOf("of ada", "ada"))
      assert.strictEqual((yield* mailsOf(sale)).waiting, 3)
      const work = yield* Effect.fork(
        Effect.scoped(Effect.zipRight(deliver(sale), allDelivered(sale))).pipe(
          Effect.provideService(Mailer, mailer(sent))
        )
      )
      while ((yield* Fiber.poll(work))._tag === "None") yield* TestClock.adjust("20 millis")
      assert.deepStrictEqual(sent, ["of ada", "of busy"])
      assert.deepStrictEqual(yield* mailsOf(sale), {
        delivered: 2,
        waiting: 0,
        undelivered: [{ order: "of full", reason: "exhausted", error: "MailboxFull: the mailbox is full", attempts: 3 }]
      })
      assert.deepStrictEqual(yield* confirmed(sale), new Set(["of ada", "of busy", "of full"]))
    }).pipe(Effect.provide(RedisTest), Effect.provide(quiet)))

  it.live("that could not be brought can be sent again, by those who are logged in", () =>
    Effect.gen(function*() {
      const sent: Array<string> = []
      const full = { yes: true }
      yield* Effect.provideService(deliver(sale), Mailer, mailer(sent, full))
      yield* confirm(sale, venue, orderOf("late", "full"))
      yield* allDelivered(sale)
      const port = yield* serve(sale, 0)
      const ask = (path: string, init: RequestInit = {}) =>
        Effect.promise(() => fetch(`http://127.0.0.1:${port}/api${path}`, init))
      const shown = Effect.flatMap(ask("/mails"), (response) => Effect.promise(() => response.json()))
      const dead = { order: "late", reason: "exhausted", error: "MailboxFull: the mailbox is full", attempts: 3 }
      assert.deepStrictEqual(yield* shown, { delivered: 0, waiting: 0, undelivered: [dead] })
      assert.strictEqual((yield* ask("/mails/late", { method: "POST" })).status, 401)

      const login = yield* ask("/login", {
        method: "POST",
        headers: { "content-type": "application/json" },
        body: JSON.stringify({ name: "ada" })
      })
      const cookie = login.headers.getSetCookie()[0]!
      const again = (order: string) => ask(`/mails/${order}`, { method: "POST", headers: { cookie } })
      assert.strictEqual((yield* again("nobody")).status, 404)
      // It is tried three times more.
      assert.strictEqual((yield* again("late")).status, 204)
      yield* allDelivered(sale)
      assert.deepStrictEqual(yield* shown, { delivered: 0, waiting: 0, undelivered: [dead] })
      full.yes = false
      assert.strictEqual((yield* again("late")).status, 204)
      yield* allDelivered(sale)
      assert.deepStrictEqual(yield* shown, { delivered: 1, waiting: 0, undelivered: [] })
      assert.deepStrictEqual(sent, ["late"])
      assert.strictEqual((yield* again("late")).status, 404)
    }).pipe(Effect.scoped, Effect.provide(RedisTest), Effect.provide(quiet)), 30_000)

  it.effect("that are missing are seen by the audit", () =>
    Effect.gen(function*() {
      const redis = yield* RedisClient.RedisClient
      const sold = [orderOf("told", "ada", 0), orderOf("dead", "full", 1), orderOf("forgotten", "eve", 2)]
      const keys = venueKeys(sale, venue)
      for (const order of sold) {
        yield* redis.hset(keys.seats, { [order.seats[0]]: order.id })
        yield* redis.rpush(keys.ledger, JSON.stringify(order))
      }
      yield* redis.hset(keys.totals, { orders: 3, tickets: 3, revenue: 3 * row.price })
      for (const order of sold.slice(0, 2)) yield* confirm(sale, venue, order)
      const problems = Effect.map(
        audit(sale),
        ({ problems }) => problems.filter(({ check }) => check === "mails").map(({ text }) => text)
      )
      assert.deepStrictEqual(yield* problems, ["told", "dead", "forgotten"].map((id) => `order ${id} has neither`))
      const work = yield* Effect.fork(
        Effect.scoped(Effect.zipRight(deliver(sale), allDelivered(sale))).pipe(
          Effect.provideService(Mailer, mailer([]))
        )
      )
      while ((yield* Fiber.poll(work))._tag === "None") yield* TestClock.adjust("20 millis")
      assert.deepStrictEqual(yield* problems, ["order forgotten has neither"])
    }).pipe(Effect.provide(RedisTest), Effect.provide(quiet)))

  it.effect("leave nothing when they are forgotten", () =>
    Effect.gen(function*() {
      const redis = yield* RedisClient.RedisClient
      yield* confirm(sale, venue, orderOf("waits", "ada"))
      yield* redis.hset(deliveredKey(sale), { other: "eve" })
      yield* forgetMails(sale)
      assert.deepStrictEqual(yield* mailsOf(sale), { delivered: 0, waiting: 0, undelivered: [] })
      assert.strictEqual((yield* sendAgain(sale, "waits").pipe(Effect.flip))._tag, "JobNotFound")
      // What it told its producer last is the only thing that it remembers for a while.
      const keys = yield* redis.unlinkMatching("*")
      assert.isAtMost(keys, 1)
    }).pipe(Effect.provide(RedisTest), Effect.provide(quiet)))
})
