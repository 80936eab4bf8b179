import { assert, describe, it } from "@effect/vitest"
import { Deferred, Effect, Either, Layer, Logger, LogLevel, Option, Ref } from "effect"
import { RedisTest } from "effect-redis-kit"
import { confirm, deliver, MailboxFull, Mailer } from "../../examples/box-office/mail.js"
import { buy, Order, type Sale } from "../../examples/box-office/sale.js"
import { plan } from "../../examples/box-office/venues.js"
import { serve } from "../../examples/box-office/web/server.js"
import * as RealServer from "../kit/RealServer.js"
import * as Chromium from "./chromium.js"

const quiet = Logger.minimumLogLevel(LogLevel.None)

const text = (id: string) => `document.getElementById("${id}").textContent`

const isSold = (seat: string) => `document.querySelector('[data-seat="${seat}"]').disabled`

const logIn = (page: Chromium.Page, name: string) =>
  Effect.gen(function*() {
    yield* page.type("#name", name)
    yield* page.click("#login button")
    yield* page.until(`${text("me")} === "${name}"`)
  })

/** Chromium removes a cookie before it stores the one that takes its place. */
const session = (page: Chromium.Page) =>
  Effect.map(
    RealServer.until(
      "there is one cookie",
      Effect.mapError(page.cookies, ({ message }) => new RealServer.RealServerError({ message })),
      ({ length }) => length === 1,
      (cookies) => `${cookies.length} cookies`
    ),
    ([cookie]) => cookie!
  )

describe("the page in a browser", () => {
  it.scopedLive("logs in, shows limits, sells, and is live", () =>
    Effect.gen(function*() {
      const sale: Sale = { id: "browser", venues: plan(3, 120) }
      const [venue] = sale.venues
      const port = yield* serve(sale, 0)
      const browser = yield* Chromium.start
      const here = yield* browser.open(`http://localhost:${port}/`)
      const there = yield* browser.open(`http://localhost:${port}/`)

      // Visitors.
      yield* here.until(`${text("state")} === "live" && ${text("visitors")} === "2"`)
      yield* here.until(`${text("title")} === "${venue.city}, ${venue.country}"`)
      assert.strictEqual(yield* here.evaluate(text("left-buyer")), "–")
      yield* here.until(`${text("left-address")} === "20 of 20"`)
      assert.deepStrictEqual(yield* here.cookies, [])

      // Who is not logged in can't buy.
      yield* here.click("#order button")
      yield* here.until(`${text("message")} === "Log in first."`)

      // The cookie is as promised, and no script sees it.
      yield* logIn(here, "ada")
      const first = yield* session(here)
      assert.deepInclude(first, {
        name: "__Host-session",
        domain: "localhost",
        path: "/",
        httpOnly: true,
        secure: true,
        sameSite: "Lax",
        session: false
      })
      assert.strictEqual(yield* here.evaluate("document.cookie"), "")
      assert.notInclude(yield* here.evaluate("document.documentElement.outerHTML"), first.value)
      yield* here.until(`${text("left-buyer")} === "5 of 5"`)

      // Each login has another token, also while one is logged in; the one before is worth nothing.
      assert.strictEqual(yield* here.evaluate("ask('login', { name: 'ada' }).then(({ status }) => status)"), 204)
      const second = yield* session(here)
      assert.notStrictEqual(second.value, first.value)
      const stale = yield* Effect.promise(() =>
        fetch(`http://localhost:${port}/api/me`, { headers: { cookie: `${first.name}=${first.value}` } })
      )
      assert.strictEqual(stale.status, 401)

      // Another browser of the same buyer.
      yield* logIn(there, "ada")
      yield* here.until(`${text("sessions")} === "2"`)
      yield* here.until(`${text("visitors")} === "1"`)

      // What one buys is sold in the other, and counts for both.
      yield* here.click(`[data-seat="B2"]`)
      yield* here.click("#order button")
      yield* here.until(`${text("message")}.startsWith("Yours: B1, B2 for $")`)
      yield* there.until(`${isSold("B1")} && ${isSold("B2")} && !${isSold("B3")}`)
      yield* here.until(`${text("left-buyer")} === "4 of 5" && ${text("left-address")} === "19 of 20"`)
      yield* there.until(`${text("left-buyer")} === "4 of 5" && ${text("left-address")} === "19 of 20"`)

      // So is what the crowd buys.
      assert.isFalse(yield* here.evaluate(isSold("A1")))
      const row = venue.rows[0]!
      yield* buy({
        sale,
        venue,
        row,
        party: 1,
        buyer: "somebody",
        pay: () => Effect.void,
        careless: false,
        onWaited: () => {}
      })
      yield* here.until(isSold("A1"))
      yield* there.until(isSold("A1"))

      // Until the limit is reached.
      yield* here.evaluate("document.getElementById('party').value = '1'")
      for (let left = 3; left >= 0; left--) {
        yield* here.click("#order button")
        yield* here.until(`${text("left-buyer")} === "${left} of 5"`)
      }
      yield* here.click("#order button")
      yield* here.until(`/^Too many orders \\(orders-per-buyer\\)\\. Try again in \\d+ s\\.$/.test(${text("message")})`)
      yield* there.until(`${text("left-buyer")} === "0 of 5" && ${text("left-address")} === "15 of 20"`)

      // Logged out everywhere: the other browser hears of it, and its cookie is gone.
      yield* there.click("#logout-everywhere")
      yield* there.until("!document.getElementById('login').hidden")
      yield* here.until("!document.getElementById('login').hidden && document.getElementById('account').hidden")
      assert.deepStrictEqual(yield* here.cookies, [])
      assert.deepStrictEqual(yield* there.cookies, [])
      const ended = yield* Effect.promise(() =>
        fetch(`http://localhost:${port}/api/me`, { headers: { cookie: `${second.name}=${second.value}` } })
      )
      assert.strictEqual(ended.status, 401)
      yield* here.until(`${text("left-buyer")} === "–"`)
    }).pipe(Effect.provide(Layer.merge(RedisTest, quiet))), 120_000)
})

describe("the queue on the page", () => {
  it.scopedLive(
    "shows counts, running jobs, throughput and dead letters, and sends again",
    () =>
      Effect.gen(function*() {
        const sale: Sale = { id: "browser-queue", venues: plan(1, 40) }
        const [venue] = sale.venues
        const row = venue.rows[0]!
        const order = (id: string, buyer: string) =>
          confirm(
            sale,
            venue,
            new Order({ id, buyer, row: row.name, seats: [row.seats[0]!], price: row.price, fencingToken: 1 })
          )
        const port = yield* serve(sale, 0)
        const browser = yield* Chromium.start
        const page = yield* browser.open(`http://localhost:${port}/`)
        yield* page.until(`${text("state")} === "live"`)
        assert.strictEqual(yield* page.evaluate(text("ready")), "–")
        // What is above it may still grow, so it is opened without the mouse.
        yield* page.evaluate(`document.getElementById("queue").open = true`)
        yield* page.until(`${text("ready")} === "0" && ${text("work")} === "0 workers"`)

        yield* order("of full", "full")
        yield* order("of slow", "slow")
        yield* page.until(`${text("ready")} === "2" && ${text("work")}.includes("the oldest waits")`)
        const slow = yield* Deferred.make<void>()
        const roomy = yield* Ref.make(false)
        yield* deliver(sale).pipe(Effect.provideService(Mailer, {
          send: ({ buyer }) =>
            buyer === "slow"
              ? Deferred.await(slow)
              : Effect.flatMap(Ref.get(roomy), (yes) => yes ? Effect.void : new MailboxFull())
        }))
        yield* page.until(`${text("jobs")} === "of slow: to slow, attempt 1" && ${text("running")} === "1"`)
        yield* page.until(`${text("letters")}.startsWith("of full: MailboxFull") && ${text("dead")} === "1"`)
        yield* page.until(`${text("work")} === "1 workers"`)
        yield* Deferred.succeed(slow, undefined)
        yield* page.until(`${text("jobs")} === "" && ${text("throughput")}.includes("1 brought")`)

        // Who is not logged in can only look.
        yield* page.click("#letters button")
        yield* page.until(`${text("message")} === "Log in first."`)
        yield* logIn(page, "ada")
        yield* Ref.set(roomy, true)
        yield* page.click("#letters button")
        yield* page.until(`${text("letters")} === "" && ${text("dead")} === "0"`)
        assert.strictEqual(yield* page.evaluate(text("message")), "It is sent again.")
      }).pipe(Effect.provide(Layer.merge(RedisTest, quiet))),
    120_000
  )
})

describe("Chromium", () => {
  const none: Chromium.Surroundings = {
    which: () => Option.none(),
    canInstall: false,
    install: Effect.die("not here"),
    say: () => {}
  }

  it.effect("is installed where that is possible", () =>
    Effect.gen(function*() {
      let installed = false
      const said: Array<string> = []
      const program = yield* Chromium.find({
        which: (name) => installed && name === "chromium" ? Option.some("/usr/bin/chromium") : Option.none(),
        canInstall: true,
        install: Effect.sync(() => void (installed = true)),
        say: (message) => void said.push(message)
      })
      assert.strictEqual(program, "/usr/bin/chromium")
      assert.deepStrictEqual(said, ["No Chromium found: installing it with apt-get."])
    }))

  it.effect("fails with one sentence where it is not", () =>
    Effect.gen(function*() {
      const found = yield* Effect.either(Chromium.find(none))
      assert.isTrue(Either.isLeft(found))
      if (Either.isLeft(found)) {
        assert.strictEqual(
          found.left.message,
          "No Chromium for the tests: put chromium or google-chrome on the PATH."
        )
      }
    }))
})
