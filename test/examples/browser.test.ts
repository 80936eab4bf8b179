import { afterAll, assert, beforeAll, describe, it } from "@effect/vitest"
import { Deferred, Effect, Either, Exit, Layer, Logger, LogLevel, Option, Redacted, Ref, Scope } from "effect"
import { Layers, RedisTest } from "effect-redis-kit"
import { mkdirSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { backstage } from "../../examples/box-office/backstage.js"
import { emptyTally, letIn } from "../../examples/box-office/crowd.js"
import { putOnMap } from "../../examples/box-office/discover.js"
import { confirm, deliver, MailboxFull, Mailer } from "../../examples/box-office/mail.js"
import { buy, open, Order, type Sale } from "../../examples/box-office/sale.js"
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

/** One for all tests: their pages share nothing. */
let browser: Chromium.Browser
const running = Effect.runSync(Scope.make())
beforeAll(async () => {
  browser = await Effect.runPromise(Scope.extend(Chromium.start, running))
}, 120_000)
afterAll(() => Effect.runPromise(Scope.close(running, Exit.void)))

/** Writes a picture of a page into the folder `SCREENSHOTS`, for whoever wants to look at it. */
const show = (page: Chromium.Page, name: string) =>
  Effect.gen(function*() {
    const folder = process.env.SCREENSHOTS
    if (folder === undefined) return
    const picture = yield* page.picture
    yield* Effect.sync(() => {
      mkdirSync(folder, { recursive: true })
      writeFileSync(join(folder, `${name}.png`), picture)
    })
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
      // Chromium says so of each answer that is an error; nothing else is wrong.
      for (const page of [here, there]) {
        for (const problem of yield* page.problems) assert.match(problem, /status of (401|429) /)
      }
    }).pipe(Effect.provide(RedisTest), Effect.provide(quiet)), 120_000)
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
        const page = yield* browser.open(`http://localhost:${port}/`)
        yield* page.until(`${text("state")} === "live"`)
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
        yield* page.until(`${text("work")} === "1 worker"`)
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
        yield* page.until(`${text("resent")} === "ada has sent of full again."`)
      }).pipe(Effect.provide(RedisTest), Effect.provide(quiet)),
    120_000
  )
})

describe("everything on the page", () => {
  it.scopedLive(
    "shows data, on a phone and in the dark too, and is loaded with three files",
    () =>
      Effect.gen(function*() {
        const sale: Sale = { id: "browser-all", venues: plan(8, 160) }
        yield* open(sale)
        yield* putOnMap(sale)
        yield* backstage(sale)
        const port = yield* serve(sale, 0)
        const page = yield* browser.open(`http://localhost:${port}/`)
        yield* page.until(`${text("state")} === "live"`)

        // What it takes to load.
        const { loaded, sizes, urls } = yield* page.evaluate(`(() => {
        const [document_] = performance.getEntriesByType("navigation")
        const files = performance.getEntriesByType("resource").filter(({ name }) => !name.includes("/api/"))
        return {
          loaded: document_.loadEventEnd,
          sizes: [document_, ...files].map(({ decodedBodySize }) => decodedBodySize),
          urls: performance.getEntriesByType("resource").map(({ name }) => name)
        }
      })()`)
        const bytes = sizes.reduce((sum: number, size: number) => sum + size, 0)
        process.stderr.write(
          `The page is loaded after ${Math.round(loaded)} ms: ${sizes.length} files, ${bytes} bytes.\n`
        )
        assert.isAbove(loaded, 0)
        assert.strictEqual(sizes.length, 3)
        assert.isBelow(bytes, 60_000)
        for (const url of urls) assert.isTrue(url.startsWith(`http://localhost:${port}/`), url)

        // The map: a point for each venue, where its city is.
        const points = `[...document.querySelectorAll("#points circle")]`
        yield* page.until(`${points}.length === 8`)
        const [tokyo] = sale.venues
        const [x, y] = yield* page.evaluate(
          `(({ cx, cy }) => [cx.baseVal.value, cy.baseVal.value])(${points}.find(({ dataset }) => dataset.venue === "tokyo-jp"))`
        )
        assert.closeTo(x, tokyo.longitude + 180, 0.01)
        assert.closeTo(y, 80 - tokyo.latitude, 0.01)
        yield* page.until(`${text("title")} === "Tokyo, Japan"`)
        assert.isAbove(yield* page.evaluate(`document.querySelectorAll("#labels text").length`), 3)

        // Who is called like a tag is a text.
        const name = "<img src=x onerror=alert(1)>"
        yield* logIn(page, name)
        yield* page.type("#words", "two in <b>Tokyo</b>?")
        yield* page.click("#say button")
        yield* page.until(`${text("talk")} === ${JSON.stringify(`${name}: two in <b>Tokyo</b>?`)}`)
        assert.strictEqual(yield* page.evaluate(`document.querySelectorAll("main img, #talk li > b > *").length`), 0)
        yield* page.until(`document.getElementById("words").value === ""`)

        // What a venue is like, and what is near.
        yield* page.until(`/^\\S+.*, [\\d,]+ km/.test(${text("neighbours")})`)
        yield* page.evaluate(`${points}[1].dispatchEvent(new MouseEvent("click"))`)
        yield* page.until(`${text("title")} === "${sale.venues[1]!.city}, ${sale.venues[1]!.country}"`)

        // People come. The limit refuses one who wants too much.
        yield* Effect.forkScoped(letIn({ sale, seed: "show", buyers: 250, tally: emptyTally(), pace: 60 }))
        yield* page.click("#take-stock")
        yield* page.until(`${text("verdict")} === "✓ No seat is sold twice."`)
        yield* page.until(`document.getElementById("ticker").childElementCount > 5`)
        const seats = yield* page.evaluate(text("tickets"))
        yield* page.until(`${text("tickets")} !== "${seats}"`)
        yield* page.until(`document.getElementById("venues").querySelectorAll("button").length === 8`)
        yield* page.until(`document.querySelectorAll("#best li").length === 5 && ${text("best")}.includes("seats")`)
        yield* page.until(`document.querySelectorAll("#dearest li").length === 5 && ${text("dearest")}.includes("$")`)
        yield* page.until(
          `document.querySelectorAll("#popular li").length === 5 && ${text("popular")}.includes("looks")`
        )
        yield* page.until(`${text("revenue")} !== "$0" && ${text("log")} !== ""`)
        yield* page.until(`Number(${text("seen")}) > 10 && ${text("visitors")} === "1"`)
        yield* page.until(`/[1-9]\\d*% of/.test(${text("cache")})`)
        yield* page.until(`${text("version")}.startsWith("7.") && ${text("commands")}.endsWith("a second")`)
        yield* page.until(`document.querySelectorAll("#till-dots span").length === 40 && ${text("tills")} === "40"`)
        yield* page.until(`document.querySelector("#curve path").getAttribute("d")?.includes("L")`)
        yield* page.until(`${text("throughput")}.includes("brought")`)
        for (let n = 0; n < 6; n++) {
          yield* page.evaluate(`document.getElementById("message").textContent = ""`)
          yield* page.click("#order button")
          yield* page.until(`${text("message")} !== ""`)
        }
        yield* page.until(`${text("refused")}.includes("by orders-per-buyer, for ")`)
        yield* page.until(`${text("policies")}.includes("orders-per-buyer")`)

        // Nothing is wider than a phone, and the dark is dark.
        const back = "getComputedStyle(document.body).backgroundColor.match(/\\d+/g).every((part) => part < 60)"
        for (const scheme of ["light", "dark"] as const) {
          for (const width of [1280, 390]) {
            yield* page.look({ width, height: 900, scheme })
            yield* page.evaluate("scrollTo(0, 0)")
            yield* page.until(`${back} === ${scheme === "dark"} && innerWidth === ${width}`)
            assert.isAtMost(yield* page.evaluate("document.documentElement.scrollWidth"), width)
            yield* show(page, `${scheme}-${width}`)
          }
        }
        for (const problem of yield* page.problems) assert.match(problem, /status of (401|409|429) /)
      }).pipe(Effect.provide(RedisTest), Effect.provide(quiet)),
    120_000
  )
})

describe("two processes and a Redis that is killed", () => {
  const state = (what: string) => `document.documentElement.dataset.state === "${what}"`

  const buyOne = (page: Chromium.Page) =>
    Effect.gen(function*() {
      yield* page.evaluate(
        `(document.getElementById("message").textContent = "", document.getElementById("party").value = "1")`
      )
      yield* page.click("#order button")
      yield* page.until(`${text("message")} !== ""`)
      const said: string = yield* page.evaluate(text("message"))
      assert.match(said, /^Yours: \w+ for /)
      return /^Yours: (\w+) for /.exec(said)?.[1] ?? ""
    })

  it.scopedLive("sell the same seats, say that they reconnect, and go on", () =>
    Effect.gen(function*() {
      const sale: Sale = { id: "browser-live", venues: plan(3, 120) }
      const redis = yield* RealServer.start({ appendonly: true })
      const process = Layer.build(Layer.fresh(Layers.live({ url: Redacted.make(redis.url) })))
      const [first, second] = [yield* process, yield* process]
      yield* Effect.provide(Effect.all([open(sale), backstage(sale)]), first)
      yield* Effect.provide(backstage(sale), second)
      const door = yield* Scope.make()
      const port = yield* serve(sale, 0).pipe(Effect.provide(first), Scope.extend(door))
      const here = yield* browser.open(`http://localhost:${port}/`)
      const there = yield* browser.open(`http://localhost:${yield* Effect.provide(serve(sale, 0), second)}/`)
      for (const page of [here, there]) yield* page.until(`${state("live")} && ${text("visitors")} === "2"`)
      yield* logIn(here, "ada")
      yield* logIn(there, "bob")
      const one = yield* buyOne(here)
      yield* there.until(isSold(one))
      for (const page of [here, there]) {
        yield* page.until(`${text("ticker")}.includes("${one}") && ${text("tickets")} === "1"`)
      }

      // Redis is away: both say so, and what they show stays.
      yield* redis.kill
      for (const page of [here, there]) {
        yield* page.until(`${state("redis")} && ${text("state")} === "reconnecting: Redis is away"`)
        yield* page.until(`/^What you see is [1-9]\\d* s old.$/.test(${text("age")})`)
        yield* page.until(`getComputedStyle(document.getElementById("world")).opacity < 0.8`)
        assert.strictEqual(yield* page.evaluate(text("tickets")), "1")
        assert.isTrue(yield* page.evaluate(isSold(one)))
      }
      yield* show(here, "redis-away")
      // Somebody comes just now.
      const late = yield* browser.open(`http://localhost:${port}/`)
      yield* late.until(`${text("state")} === "reconnecting: Redis is away"`)
      yield* redis.restart
      for (const page of [here, there, late]) yield* page.until(`${state("live")} && ${text("age")} === ""`)

      // And all of it is there: the sessions, the seats, what is told, and the board.
      const two = yield* buyOne(there)
      for (const page of [here, late]) yield* page.until(`${isSold(one)} && ${isSold(two)}`)
      yield* here.until(`${text("ticker")}.includes("${two}") && ${text("tickets")} === "2"`)
      yield* here.type("#words", "still here?")
      yield* here.click("#say button")
      yield* there.until(`${text("talk")} === "ada: still here?"`)
      yield* here.click("#take-stock")
      yield* here.until(`${text("counted")}.startsWith("2 orders, 2 seats")`)
      assert.strictEqual(yield* here.evaluate(text("me")), "ada")

      // A process is away, and comes back where it was.
      yield* Scope.close(door, Exit.void)
      yield* here.until(`${state("server")} && ${text("state")} === "reconnecting: the server is away"`)
      assert.isTrue(yield* there.evaluate(state("live")))
      const three = yield* buyOne(there)
      yield* Effect.provide(serve(sale, port), first)
      yield* here.until(`${state("live")} && ${isSold(three)}`)

      // Requests failed meanwhile. No script did.
      for (const page of [here, there, late]) {
        for (const problem of yield* page.problems) {
          assert.match(problem, /^Failed to load resource: .*(status of (401|503) |net::ERR_)/)
        }
      }
    }).pipe(Effect.provide(quiet)), 120_000)
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
