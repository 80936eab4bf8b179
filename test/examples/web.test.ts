import { assert, describe, it } from "@effect/vitest"
import { Context, Effect, Exit, Layer, Logger, LogLevel, Redacted, Schedule, Scope } from "effect"
import {
  Cache,
  CacheInvalidator,
  ChatRoom,
  ConsumerGroup,
  Counter,
  EventBus,
  EventStore,
  Geo,
  Leaderboard,
  Lock,
  Notifications,
  Presence,
  PubSub,
  Queue,
  RateLimiter,
  ReadWriteLock,
  RedisClient,
  type RedisError,
  RedisTest,
  RedisTestServer,
  Semaphore,
  Session,
  Stream,
  UniqueCounter
} from "effect-redis-kit"
import * as IoRedis from "effect-redis-kit/IoRedis"
import { inject } from "vitest"
import { backstage } from "../../examples/box-office/backstage.js"
import { putOnMap } from "../../examples/box-office/discover.js"
import { everythingChanged, openCatalogue } from "../../examples/box-office/live.js"
import { buy, type Sale } from "../../examples/box-office/sale.js"
import { plan, type Row, type Venue } from "../../examples/box-office/venues.js"
import { serve } from "../../examples/box-office/web/server.js"
import "../kit/globalSetup.js"

const quiet = Logger.minimumLogLevel(LogLevel.None)

const services = Layer.mergeAll(
  Cache.layer,
  ChatRoom.layer,
  ConsumerGroup.layer,
  Counter.layer,
  EventStore.layer,
  Geo.layer,
  Leaderboard.layer,
  Lock.layer,
  Presence.layer,
  Queue.layer,
  RateLimiter.layer,
  ReadWriteLock.layer,
  Semaphore.layer,
  Session.layer,
  Stream.layer,
  UniqueCounter.layer,
  Layer.provideMerge(Layer.mergeAll(CacheInvalidator.layer, EventBus.layer, Notifications.layer), PubSub.layer)
)

/** A process: what is in the layers is its own. */
const processOf = <E>(client: Layer.Layer<RedisClient.RedisClient, E>) =>
  Layer.build(Layer.provideMerge(services, Layer.fresh(client)))

type Process = Effect.Effect.Success<ReturnType<typeof processOf>>

interface Driver {
  readonly name: string
  /** Two processes with one Redis. */
  readonly processes: Effect.Effect<readonly [Process, Process], RedisError.RedisError, Scope.Scope>
}

const drivers: ReadonlyArray<Driver> = [
  {
    name: "in memory",
    processes: Effect.gen(function*() {
      const server = Context.get(yield* Layer.build(RedisTestServer.layer), RedisTestServer.RedisTestServer)
      const client = Layer.scoped(RedisClient.RedisClient, server.client())
      return [yield* processOf(client), yield* processOf(client)] as const
    })
  },
  {
    name: "live",
    processes: Effect.gen(function*() {
      const client = IoRedis.layer({
        url: Redacted.make(inject("redisUrl")),
        keyPrefix: `web:${crypto.randomUUID()}:`
      })
      const first = yield* processOf(client)
      yield* Effect.addFinalizer(() => Effect.ignore(Context.get(first, RedisClient.RedisClient).unlinkMatching("*")))
      return [first, yield* processOf(client)] as const
    })
  }
]

/** One who sends requests, with a cookie. */
class Visitor {
  cookie = ""
  constructor(readonly port: number) {}

  ask(path: string, body?: unknown, headers: Record<string, string> = {}) {
    return Effect.promise(async () => {
      const response = await fetch(`http://127.0.0.1:${this.port}${path}`, {
        method: body === undefined ? "GET" : "POST",
        headers: { cookie: this.cookie, "content-type": "application/json", ...headers },
        ...(body !== undefined && { body: JSON.stringify(body) })
      })
      const cookie = response.headers.getSetCookie()[0]
      if (cookie !== undefined) this.cookie = cookie.slice(0, cookie.indexOf(";"))
      const text = await response.text()
      return { status: response.status, headers: response.headers, cookie, body: text === "" ? null : JSON.parse(text) }
    })
  }

  login(name: string) {
    return Effect.tap(this.ask("/api/login", { name }), ({ status }) => assert.strictEqual(status, 204))
  }

  order(venue: Venue, row: string, party = 1) {
    return this.ask("/api/orders", { venue: venue.id, row, party })
  }
}

const buyer = (port: number, name: string) => {
  const visitor = new Visitor(port)
  return Effect.as(visitor.login(name), visitor)
}

/** Collects events until the scope closes. */
const listen = ({ cookie, port }: Visitor) =>
  Effect.gen(function*() {
    const events: Array<{ readonly name: string; readonly data: any }> = []
    const abort = yield* Effect.acquireRelease(
      Effect.sync(() => new AbortController()),
      (abort) => Effect.sync(() => abort.abort())
    )
    const response = yield* Effect.promise(() =>
      fetch(`http://127.0.0.1:${port}/api/events`, { headers: { cookie }, signal: abort.signal })
    )
    assert.strictEqual(response.headers.get("content-type"), "text/event-stream")
    const read = async () => {
      let rest = ""
      const decoder = new TextDecoder()
      for await (const chunk of response.body!) {
        const parts = (rest + decoder.decode(chunk, { stream: true })).split("\n\n")
        rest = parts.pop() ?? ""
        for (const part of parts) {
          const match = /^event: (.*)\ndata: (.*)$/.exec(part)
          if (match !== null) events.push({ name: match[1]!, data: JSON.parse(match[2]!) })
        }
      }
    }
    read().catch(() => {})
    const last = (name: string) => events.findLast((event) => event.name === name)?.data
    yield* eventually(() => assert.isDefined(last("ready")))
    return { events, last }
  })

/** Tries again until it holds. */
const eventually = (check: () => void) =>
  Effect.sync(check).pipe(
    Effect.sandbox,
    Effect.retry({ schedule: Schedule.spaced("20 millis"), times: 500 }),
    Effect.unsandbox
  )

const saleOf = (venues: number, seats: number): Sale => ({ id: "web", venues: plan(venues, seats) })

const buyAs = (sale: Sale, venue: Venue, row: Row, party: number) =>
  buy({
    sale,
    venue,
    row,
    party,
    buyer: "somebody",
    pay: () => Effect.void,
    careless: false,
    onWaited: () => {}
  })

for (const { name, processes } of drivers) {
  describe(`the box office over HTTP, ${name}`, () => {
    /** Two processes that serve the same sale. */
    const open = (sale: Sale) =>
      Effect.gen(function*() {
        const both = yield* processes
        const here = yield* Effect.provide(serve(sale, 0), both[0])
        const there = yield* Effect.provide(serve(sale, 0), both[1])
        return { processes: both, here, there }
      })

    const test = (title: string, run: () => Effect.Effect<void, unknown, Scope.Scope>) =>
      it.scopedLive(title, () => Effect.provide(run(), quiet), 30_000)

    test("logs in and out, and each login has a token of its own", () =>
      Effect.gen(function*() {
        const { here, there } = yield* open(saleOf(1, 8))
        const ada = new Visitor(here)
        assert.strictEqual((yield* ada.ask("/api/me")).status, 401)
        const { cookie } = yield* ada.login("ada")
        assert.match(
          cookie ?? "",
          /^__Host-session=[\w.-]+; Max-Age=604800; Path=\/; HttpOnly; Secure; SameSite=Lax$/
        )
        const first = new Visitor(there)
        first.cookie = ada.cookie
        assert.deepStrictEqual((yield* first.ask("/api/me")).body, { name: "ada", sessions: 1 })
        yield* ada.login("ada")
        assert.notStrictEqual(ada.cookie, first.cookie)
        assert.strictEqual((yield* first.ask("/api/me")).status, 401)
        assert.deepStrictEqual((yield* ada.ask("/api/me")).body, { name: "ada", sessions: 1 })
        const before = ada.cookie
        assert.strictEqual((yield* ada.ask("/api/logout", {})).status, 204)
        assert.strictEqual(ada.cookie, "__Host-session=")
        first.cookie = before
        assert.strictEqual((yield* first.ask("/api/me")).status, 401)
        for (const name of ["", " ", 7, "x".repeat(41)]) {
          assert.strictEqual((yield* ada.ask("/api/login", { name })).status, 400)
        }
      }))

    test("has five sessions of a buyer at most, and ends all of them at once", () =>
      Effect.gen(function*() {
        const { here, there } = yield* open(saleOf(1, 8))
        const visitors = yield* Effect.forEach(
          [here, there, here, there, here, there],
          (port) => buyer(port, "ada")
        )
        const answers = yield* Effect.forEach(visitors, (visitor) => visitor.ask("/api/me"))
        assert.deepStrictEqual(answers.map(({ status }) => status), [401, 200, 200, 200, 200, 200])
        assert.strictEqual(answers[5]!.body.sessions, 5)
        const grace = yield* buyer(here, "grace")
        assert.strictEqual((yield* visitors[1]!.ask("/api/logout-everywhere", {})).status, 204)
        const after = yield* Effect.forEach(visitors, (visitor) => visitor.ask("/api/me"))
        assert.deepStrictEqual(after.map(({ status }) => status), [401, 401, 401, 401, 401, 401])
        assert.strictEqual((yield* grace.ask("/api/me")).status, 200)
      }))

    test("limits orders of a buyer and of an address, and shows what is left", () =>
      Effect.gen(function*() {
        const sale = saleOf(1, 200)
        const [venue] = sale.venues
        const { here, there } = yield* open(sale)
        const visitor = new Visitor(here)
        assert.strictEqual((yield* visitor.order(venue, "A")).status, 401)
        const left = (visitor: Visitor) =>
          Effect.map(visitor.ask("/api/limits"), ({ body }) => [body.buyer?.remaining, body.address.remaining])
        assert.deepStrictEqual(yield* left(visitor), [undefined, 20])

        const ada = yield* buyer(here, "ada")
        for (let n = 1; n <= 5; n++) {
          const { headers, status } = yield* ada.order(venue, "A")
          assert.strictEqual(status, 201)
          assert.include(headers.get("ratelimit"), `"orders-per-buyer";r=${5 - n};`)
          assert.include(headers.get("ratelimit"), `"orders-per-address";r=${20 - n};`)
          assert.deepStrictEqual(yield* left(ada), [5 - n, 20 - n])
        }
        const refused = yield* ada.order(venue, "A")
        assert.strictEqual(refused.status, 429)
        assert.deepInclude(refused.body, {
          _tag: "TooManyRequests",
          policy: "orders-per-buyer",
          limit: 5,
          remaining: 0
        })
        assert.strictEqual(refused.headers.get("retry-after"), String(refused.body.retryAfter))
        assert.isAtLeast(refused.body.retryAfter, 1)
        assert.isAtMost(refused.body.retryAfter, 60)

        // In all processes, and with another login too.
        const again = yield* buyer(there, "ada")
        assert.strictEqual((yield* again.order(venue, "A")).status, 429)
        assert.deepStrictEqual(yield* left(again), [0, 15])

        // What is refused is not charged to the other limit.
        for (const name of ["bob", "cleo", "dan"]) {
          const other = yield* buyer(there, name)
          for (let n = 0; n < 5; n++) assert.strictEqual((yield* other.order(venue, "B")).status, 201)
        }
        const eve = yield* buyer(here, "eve")
        const full = yield* eve.order(venue, "B")
        assert.strictEqual(full.status, 429)
        assert.strictEqual(full.body.policy, "orders-per-address")
        assert.deepStrictEqual(yield* left(eve), [5, 0])
      }))

    test("sells a seat once", () =>
      Effect.gen(function*() {
        const sale = saleOf(1, 8)
        const [venue] = sale.venues
        const { here, there } = yield* open(sale)
        const buyers = yield* Effect.forEach(
          ["ada", "bob", "cleo"],
          (name, n) => buyer(n % 2 === 0 ? here : there, name)
        )
        const all = yield* Effect.forEach(
          [...buyers, ...buyers, ...buyers],
          (buyer) => buyer.order(venue, "A"),
          { concurrency: "unbounded" }
        )
        for (const { status } of all) assert.include([201, 409], status)
        const seats = all.flatMap(({ body, status }) => status === 201 ? body.seats : [])
        // Whoever did not wait long enough for the row comes again.
        while (seats.length < 4) {
          const { body, status } = yield* buyers[seats.length % 3]!.order(venue, "A")
          if (status === 201) seats.push(...body.seats)
        }
        assert.deepStrictEqual(seats.toSorted(), ["A1", "A2", "A3", "A4"])
        const gone = yield* (yield* buyer(here, "dan")).order(venue, "A")
        assert.strictEqual(gone.status, 409)
        assert.deepStrictEqual(gone.body, { _tag: "NotSold", reason: "seats gone" })
        const { body } = yield* new Visitor(there).ask(`/api/venues/${venue.id}`)
        assert.deepStrictEqual(
          body.rows.map((row: { readonly seats: ReadonlyArray<{ readonly sold: boolean }> }) =>
            row.seats.filter(({ sold }) => sold).length
          ),
          [4, 0]
        )
      }))

    test("has the catalogue near, until something of it changes", () =>
      Effect.gen(function*() {
        const sale = saleOf(3, 60)
        const [venue] = sale.venues
        const { here, processes: [services, others] } = yield* open(sale)
        const visitor = new Visitor(here)
        const lookups = Effect.provide(Effect.flatMap(openCatalogue, ({ stats }) => stats), services).pipe(
          Effect.map(({ lookups }) => lookups.succeeded)
        )
        const listing = Effect.map(visitor.ask("/api/venues"), ({ body }) => body[0])
        const before = yield* listing
        assert.deepStrictEqual(before.sections.map(({ soldOut }: { readonly soldOut: boolean }) => soldOut), [
          false,
          false,
          false
        ])
        assert.strictEqual(before.from, before.sections[2].from)
        assert.strictEqual(yield* lookups, 3)
        for (let n = 0; n < 5; n++) assert.deepStrictEqual(yield* listing, before)
        assert.strictEqual(yield* lookups, 3)

        // Seats that are sold change nothing, and the last one of a section does.
        const cheap = venue.rows.filter(({ section }) => section === "balcony")
        const sell = (row: Row, party: number) => Effect.provide(buyAs(sale, venue, row, party), others)
        for (const row of cheap.slice(1)) yield* sell(row, row.seats.length)
        yield* sell(cheap[0]!, cheap[0]!.seats.length - 1)
        yield* listing
        assert.strictEqual(yield* lookups, 3)
        yield* sell(cheap[0]!, 1)
        let changed = before
        while (changed.from === before.from) changed = yield* listing
        assert.strictEqual(changed.from, before.sections[1].from)
        assert.isTrue(changed.sections[2].soldOut)
        assert.strictEqual(yield* lookups, 4)

        for (const row of venue.rows) if (row.section !== "balcony") yield* sell(row, row.seats.length)
        while (changed.from !== null) changed = yield* listing
        assert.isAtMost(yield* lookups, 6)

        // All venues at once, by their countries.
        const loads = yield* lookups
        yield* Effect.provide(everythingChanged(sale), others)
        while ((yield* lookups) < loads + 3) yield* listing
        yield* listing
        assert.strictEqual(yield* lookups, loads + 3)
      }))

    test("tells pages of all processes what is sold, who is there, and of their account", () =>
      Effect.gen(function*() {
        const sale = saleOf(2, 40)
        const [venue] = sale.venues
        const row = venue.rows.at(-1)!
        const { here, processes: [, others], there } = yield* open(sale)
        const ada = yield* buyer(here, "ada")
        const page = yield* listen(ada)
        yield* eventually(() => assert.deepStrictEqual(page.last("visitors"), { visitors: 1 }))
        const leaving = yield* Scope.make()
        yield* Scope.extend(listen(new Visitor(there)), leaving)
        yield* Scope.extend(listen(new Visitor(here)), leaving)
        // Another page of somebody who is there already.
        const otherPage = yield* listen(yield* buyer(there, "ada"))
        yield* eventually(() => assert.deepStrictEqual(page.last("visitors"), { visitors: 3 }))
        yield* eventually(() => assert.deepStrictEqual(otherPage.last("visitors"), { visitors: 3 }))
        assert.isDefined(page.last("account"))
        yield* Scope.close(leaving, Exit.void)
        yield* eventually(() => assert.deepStrictEqual(page.last("visitors"), { visitors: 1 }))

        const { body } = yield* (yield* buyer(there, "bob")).order(venue, row.name, 2)
        assert.deepStrictEqual(body.seats, row.seats.slice(0, 2))
        const sold = { _tag: "SeatsSold", venue: venue.id, seats: body.seats, listing: false }
        yield* eventually(() => assert.deepStrictEqual(page.last("sold"), sold))
        yield* eventually(() => assert.deepStrictEqual(otherPage.last("sold"), sold))
        assert.isUndefined(otherPage.last("account"))

        // What the crowd of another process buys, and the last seat of a section.
        const front = venue.rows.filter(({ section }) => section === "front")
        for (const row of front) {
          yield* Effect.provide(buyAs(sale, venue, row, row.seats.length), others)
        }
        yield* eventually(() => {
          const { listing, seats } = page.last("sold")
          assert.deepStrictEqual(seats, front.at(-1)!.seats)
          assert.isTrue(listing)
        })
        yield* ada.ask("/api/logout-everywhere", {})
        yield* eventually(() => assert.isDefined(otherPage.last("account")))
      }))

    test("has one connection to Redis for the events of any number of pages", () =>
      Effect.gen(function*() {
        const sale = saleOf(1, 8)
        const { here, processes: [services] } = yield* open(sale)
        const redis = Context.get(services, RedisClient.RedisClient)
        const subscribers = Effect.map(
          redis.send("PUBSUB", "NUMSUB", redis.key(`box-office:${sale.id}:sold`)),
          (reply) => (reply as ReadonlyArray<unknown>)[1]
        )
        const pages = yield* Effect.forEach(Array.from({ length: 20 }), () => listen(new Visitor(here)))
        assert.strictEqual(yield* subscribers, 1)
        yield* eventually(() => assert.deepStrictEqual(pages[0]!.last("visitors"), { visitors: 20 }))
        const { body } = yield* (yield* buyer(here, "ada")).order(sale.venues[0], "A")
        for (const page of pages) {
          yield* eventually(() => assert.deepStrictEqual(page.last("sold").seats, body.seats))
        }
      }))

    test("tells what happens: the ticker, the lobby, who is refused, and the board", () =>
      Effect.gen(function*() {
        const sale = saleOf(3, 60)
        const [venue, other] = sale.venues
        const { here, processes: [first, second], there } = yield* open(sale)
        yield* Effect.provide(Effect.all([putOnMap(sale), backstage(sale)]), first)
        yield* Effect.provide(backstage(sale), second)
        const ada = yield* buyer(here, "ada")
        const page = yield* listen(new Visitor(there))
        yield* eventually(() => assert.strictEqual(page.last("redis")?.up, true))

        // An order, everywhere.
        const { body: order } = yield* ada.order(venue, "A", 2)
        const ticked = { order: order.id, venue: venue.id, city: venue.city, seats: order.seats, price: order.price }
        yield* eventually(() => assert.deepInclude(page.last("tick"), ticked))
        const { body: ticks } = yield* new Visitor(there).ask("/api/ticker")
        assert.deepStrictEqual(ticks, [page.last("tick")])
        yield* eventually(() => {
          const { best, dearest, log, orders, popular, revenue, tickets, venues } = page.last("board")
          assert.deepStrictEqual({ orders, revenue, tickets }, { orders: 1, revenue: order.price, tickets: 2 })
          assert.deepStrictEqual(log, { revenue: order.price, behind: 0 })
          assert.deepStrictEqual(venues.map(([, tickets]: [string, number]) => tickets), [2, 0, 0])
          assert.deepStrictEqual(best, [{ rank: 1, venue: venue.id, city: venue.city, tickets: 2 }])
          assert.deepStrictEqual(dearest, [{ rank: 1, price: order.price, city: venue.city, seats: 2 }])
          assert.deepStrictEqual(popular, [])
        })

        // Words, once for each id.
        const say = (visitor: Visitor, words: unknown, id?: string) => visitor.ask("/api/lobby", { words, id })
        assert.strictEqual((yield* say(new Visitor(here), "hello")).status, 401)
        assert.strictEqual((yield* say(ada, "hello", "once-upon-a-time")).status, 204)
        assert.strictEqual((yield* say(ada, "hello", "once-upon-a-time")).status, 204)
        for (const words of ["", " ", 7, "x".repeat(281)]) {
          assert.strictEqual((yield* say(yield* buyer(here, "bob"), words)).status, 400)
        }
        yield* eventually(() => assert.deepInclude(page.last("said"), { who: "ada", words: "hello" }))
        const more = [..."abcdefgh"]
        for (const words of more) assert.strictEqual((yield* say(ada, words)).status, 204)
        assert.strictEqual((yield* say(ada, "i")).status, 429)
        yield* eventually(() => assert.strictEqual(page.last("said").words, "h"))
        assert.deepStrictEqual(
          page.events.flatMap(({ data, name }) => name === "said" ? [data.words] : []),
          ["hello", ...more]
        )
        const late = yield* listen(new Visitor(here))
        yield* eventually(() => assert.strictEqual(late.last("said")?.words, "h"))
        yield* eventually(() => assert.deepInclude(page.last("news"), { policy: "words-per-buyer", who: "ada" }))

        // Who orders too much is named, and an address is not; a tenth of a second after the last who was refused at the
        // earliest, as others in between are not told.
        yield* Effect.sleep("150 millis")
        for (let n = 0; n < 5; n++) yield* ada.order(other!, "A")
        yield* eventually(() => assert.deepInclude(page.last("news"), { policy: "orders-per-buyer", who: "ada" }))
        assert.isAbove(page.last("news").retryAfter, 0)

        // Stock is taken when somebody asks, of all processes.
        assert.strictEqual((yield* new Visitor(here).ask("/api/stock-take", {})).status, 401)
        assert.strictEqual((yield* ada.ask("/api/stock-take", {})).status, 204)
        yield* eventually(() => {
          const { stock } = page.last("board")
          assert.deepInclude(stock, { orders: 5, problems: [] })
        })

        // Where else to go.
        const near = (id: string) => Effect.map(ada.ask(`/api/venues/${id}/neighbours`), ({ body }) => body)
        assert.deepStrictEqual(
          (yield* near(venue.id)).map(({ venue }: { readonly venue: string }) => venue).toSorted(),
          sale.venues.slice(1).map(({ id }) => id).toSorted()
        )
        assert.strictEqual((yield* ada.ask("/api/venues/atlantis/neighbours")).status, 404)
        // As soon as a venue has sold out, no process names it.
        for (const row of other!.rows) {
          yield* Effect.provide(
            Effect.ignore(Effect.forEach(row.seats, () => buyAs(sale, other!, row, 1))),
            second
          )
        }
        let names = yield* near(venue.id)
        while (names.length > 1) names = yield* near(venue.id)
        assert.strictEqual(names[0].venue, sale.venues[2]!.id)
      }))

    test("serves the page with a policy, and says when it has not changed", () =>
      Effect.gen(function*() {
        const { here } = yield* open(saleOf(1, 8))
        const get = (path: string, headers: Record<string, string> = {}) =>
          Effect.promise(() => fetch(`http://127.0.0.1:${here}${path}`, { headers }))
        for (const [path, type] of [["/", "html"], ["/page.css", "css"], ["/page.js", "javascript"]] as const) {
          const whole = yield* get(path)
          assert.strictEqual(whole.status, 200)
          assert.strictEqual(whole.headers.get("content-type"), `text/${type}; charset=utf-8`)
          assert.include(whole.headers.get("content-security-policy"), "default-src 'none'")
          assert.strictEqual(whole.headers.get("x-content-type-options"), "nosniff")
          const etag = whole.headers.get("etag") ?? ""
          assert.isNotEmpty(yield* Effect.promise(() => whole.text()))
          assert.strictEqual((yield* get(path, { "if-none-match": etag })).status, 304)
          assert.strictEqual((yield* get(path, { "if-none-match": "\"other\"" })).status, 200)
        }
      }))

    test("refuses what makes no sense, and what other sites send", () =>
      Effect.gen(function*() {
        const sale = saleOf(1, 8)
        const [venue] = sale.venues
        const { here } = yield* open(sale)
        const ada = yield* buyer(here, "ada")
        assert.strictEqual((yield* ada.ask("/api/venues/atlantis")).status, 404)
        assert.strictEqual((yield* ada.order(venue, "Z")).status, 404)
        assert.strictEqual((yield* ada.order({ ...venue, id: "atlantis" }, "A")).status, 404)
        const bob = yield* buyer(here, "bob")
        for (const party of [0, 1.5, 9, "2", null]) {
          assert.strictEqual((yield* bob.ask("/api/orders", { venue: venue.id, row: "A", party })).status, 400)
        }
        const evil = { origin: "https://evil.example" }
        assert.strictEqual((yield* ada.ask("/api/orders", { venue: venue.id, row: "A", party: 1 }, evil)).status, 403)
        assert.strictEqual((yield* ada.ask("/api/logout-everywhere", {}, evil)).status, 403)
        assert.strictEqual((yield* ada.ask("/api/stock-take", {}, evil)).status, 403)
        assert.strictEqual((yield* ada.ask("/api/lobby", { words: "hello" }, evil)).status, 403)
        assert.strictEqual((yield* ada.ask("/api/me")).status, 200)
        assert.strictEqual((yield* ada.ask("/health")).body.healthy, true)
      }))
  })
}

describe("the box office over HTTP, when Redis is away", () => {
  const test = (
    title: string,
    run: () => Effect.Effect<void, unknown, Scope.Scope | Layer.Layer.Success<typeof RedisTest>>
  ) => it.scopedLive(title, () => run().pipe(Effect.provide(RedisTest), Effect.provide(quiet)), 30_000)

  test("says so, and goes on afterwards with the same sessions", () =>
    Effect.gen(function*() {
      const server = yield* RedisTestServer.RedisTestServer
      const sale = saleOf(1, 8)
      const ada = yield* buyer(yield* serve(sale, 0), "ada")
      const { cookie } = ada
      const paths = ["/api/venues", `/api/venues/${sale.venues[0].id}`, "/api/limits", "/api/me"]
      const statuses = Effect.gen(function*() {
        const answers = yield* Effect.forEach(paths, (path) => ada.ask(path))
        const order = yield* ada.order(sale.venues[0], "A")
        const events = yield* Effect.promise(async (signal) => {
          const response = await fetch(`http://127.0.0.1:${ada.port}/api/events`, { headers: { cookie }, signal })
          await response.body?.cancel()
          return response
        })
        return [...answers, order, events].map(({ status }) => status)
      })
      yield* server.become("loading")
      assert.deepStrictEqual(yield* statuses, [503, 503, 503, 503, 503, 503])
      assert.strictEqual(ada.cookie, cookie)
      assert.strictEqual((yield* new Visitor(ada.port).ask("/api/login", { name: "bob" })).status, 503)
      yield* server.become("normal")
      assert.deepStrictEqual(yield* statuses, [200, 200, 200, 200, 201, 200])
    }))

  test("pages are told to read again what they may have missed", () =>
    Effect.gen(function*() {
      const server = yield* RedisTestServer.RedisTestServer
      const sale = saleOf(1, 8)
      const port = yield* serve(sale, 0)
      const page = yield* listen(new Visitor(port))
      yield* server.disconnect()
      yield* eventually(() => assert.isDefined(page.last("reload")))
      const { body } = yield* (yield* buyer(port, "ada")).order(sale.venues[0], "A")
      yield* eventually(() => assert.deepStrictEqual(page.last("sold")?.seats, body.seats))
    }))

  test("pages are told that Redis is away, and that it is back", () =>
    Effect.gen(function*() {
      const server = yield* RedisTestServer.RedisTestServer
      const page = yield* listen(new Visitor(yield* serve(saleOf(1, 8), 0)))
      yield* eventually(() => assert.strictEqual(page.last("redis")?.up, true))
      // It answers, and refuses everything.
      yield* server.become("loading")
      yield* eventually(() => assert.strictEqual(page.last("redis").up, false))
      yield* server.become("normal")
      yield* eventually(() => assert.strictEqual(page.last("redis").up, true))
    }))

  test("a port that is taken is an error", () =>
    Effect.gen(function*() {
      const sale = saleOf(1, 8)
      const error = yield* Effect.flip(serve(sale, yield* serve(sale, 0)))
      assert.strictEqual(error._tag, "CannotListen")
      assert.include(error.message, "EADDRINUSE")
    }))
})
