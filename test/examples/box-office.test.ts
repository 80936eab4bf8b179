import { assert, beforeAll, describe, it } from "@effect/vitest"
import { Effect, Either, Fiber, Layer, Logger, LogLevel, Redacted, Stream, TestClock } from "effect"
import { Layers, Lock, RedisClient, RedisTest } from "effect-redis-kit"
import { type ChildProcess, execFile, spawn } from "node:child_process"
import { once } from "node:events"
import { createServer } from "node:net"
import { fileURLToPath } from "node:url"
import { promisify } from "node:util"
import { inject } from "vitest"
import { type Audit, audit } from "../../examples/box-office/audit.js"
import { evening } from "../../examples/box-office/box-office.js"
import { emptyTally, letIn } from "../../examples/box-office/crowd.js"
import { parse, type Port } from "../../examples/box-office/options.js"
import { summary, verdict } from "../../examples/box-office/report.js"
import { close, open, type Sale, saleKeys, venueKeys } from "../../examples/box-office/sale.js"
import { capacity, plan } from "../../examples/box-office/venues.js"
import "../kit/globalSetup.js"

const root = fileURLToPath(new URL("../..", import.meta.url))

const run = promisify(execFile)

/** Its careless buyers lose their locks, of which the library warns. */
const quiet = Logger.minimumLogLevel(LogLevel.None)

const silent = { show: () => Effect.void, every: "1 second" } as const

const saleOf = (id: string, venues = 5, seats = 200): Sale => ({ id, venues: plan(venues, seats) })

/** More people than seats, so that they fight. */
const soldOut = (sale: Sale, seed = "seed") =>
  Effect.gen(function*() {
    const tally = emptyTally()
    const result = yield* evening(sale, letIn({ sale, seed, buyers: 250, tally }), silent)
    return { ...result, tally }
  })

const serverWith = (keyPrefix: string) => Layers.live({ url: Redacted.make(inject("redisUrl")), keyPrefix })

const doubles = ({ problems }: Audit) => problems.filter(({ check }) => check === "once")

const assertSound = (audit: Audit, sale: Sale) => {
  assert.deepStrictEqual(audit.problems, [])
  assert.strictEqual(audit.stillSelling, 0)
  assert.strictEqual(audit.tickets, audit.seatsSold)
  assert.isAtLeast(audit.tickets, capacity(...sale.venues) * 0.8)
  assert.isAbove(audit.revenue, 0)
}

describe("venues", () => {
  it("are in the largest cities and always the same", () => {
    const venues = plan(20, 2400)
    assert.deepStrictEqual(venues, plan(20, 2400))
    assert.deepStrictEqual(venues.slice(0, 3).map(({ id }) => id), ["tokyo-jp", "mumbai-in", "mexico-city-mx"])
    assert.strictEqual(new Set(venues.map(({ id }) => id)).size, 20)
    assert.closeTo(capacity(...venues), 2400, 20)
    for (const venue of venues) {
      const seats = venue.rows.flatMap((row) => row.seats)
      assert.strictEqual(new Set(seats).size, seats.length)
      for (const { price } of venue.rows) assert.isTrue(Number.isInteger(price) && price > 0)
      const prices = venue.rows.map(({ price }) => price)
      assert.deepStrictEqual(prices, prices.toSorted((a, b) => b - a))
    }
    assert.isAbove(capacity(venues[0]), capacity(venues[19] ?? venues[0]))
  })

  it("are thousands", () => {
    assert.isAbove(plan(1_000_000, 1000).length, 7000)
  })
})

describe("an evening", () => {
  it.live("in memory sells every seat once", () =>
    Effect.gen(function*() {
      const sale = saleOf("memory")
      const { audit, tally, time } = yield* soldOut(sale)
      assertSound(audit, sale)
      assert.strictEqual(tally.bought + tally.cardRefused + tally.gaveUp + tally.hungUp + tally.soldOut, 250)
      for (const fate of ["bought", "cardRefused", "soldOut", "seatsGone", "waits"] as const) {
        assert.isAbove(tally[fate], 0, fate)
      }
      const lines = (yield* summary(sale, audit, time)).join("\n")
      assert.include(lines, "Tokyo, Japan")
      const [, city, tickets] = /^best-selling this week: 1\. (.+?) (\d+), /m.exec(lines) ?? []
      assert.strictEqual(Number(tickets), Math.max(...audit.venues.map(({ tickets }) => tickets)))
      assert.strictEqual(audit.venues.find(({ venue }) => venue.city === city)?.tickets, Number(tickets))
      assert.include(lines, `${audit.tickets} of ${capacity(...sale.venues)} seats sold`)
      assert.isTrue(verdict(audit).every((line) => line.startsWith("✓")))
    }).pipe(Effect.provide(RedisTest), Effect.provide(quiet)), 60_000)

  it.live("on a server sells every seat once, and leaves nothing behind that lasts", () =>
    Effect.gen(function*() {
      const redis = yield* RedisClient.RedisClient
      const sale = saleOf("live")
      assertSound((yield* soldOut(sale)).audit, sale)
      yield* close(sale)
      const { plan, sellers } = saleKeys(sale)
      const keys = sale.venues.flatMap((venue) => Object.values(venueKeys(sale, venue)))
      assert.strictEqual(yield* redis.exists(plan, sellers, ...keys), 0)
      // The cache belongs to all sales, and keeps what it knows of tags.
      const left = Stream.filter(redis.scan(), (key) => key !== "cache:box-office:tags")
      yield* Stream.runForEach(left, (key) =>
        Effect.map(redis.send("PTTL", redis.key(key)), (life) => assert.notStrictEqual(life, -1, key)))
      yield* redis.unlinkMatching("*")
    }).pipe(
      Effect.provide(Layer.suspend(() =>
        serverWith(`box:${crypto.randomUUID()}:`)
      )),
      Effect.provide(quiet)
    ), 60_000)

  it.effect("passes under TestClock as well", () =>
    Effect.gen(function*() {
      const sale = saleOf("virtual")
      const fiber = yield* Effect.fork(soldOut(sale))
      while ((yield* Fiber.poll(fiber))._tag === "None") yield* TestClock.adjust("20 millis")
      assertSound((yield* Fiber.join(fiber)).audit, sale)
    }).pipe(Effect.provide(RedisTest), Effect.provide(quiet)), 60_000)
})

describe("the audit", () => {
  /** A lock that lets everybody in. */
  const brokenLock = (tokens: () => number) =>
    Layer.provideMerge(
      Layer.effect(
        Lock.Lock,
        Effect.map(Lock.Lock, (lock) =>
          Lock.Lock.of({
            ...lock,
            acquire: (name, options) =>
              Effect.map(lock.acquire(`${name}:${crypto.randomUUID()}`, options), (held) => ({
                ...held,
                fencingToken: tokens()
              }))
          }))
      ),
      RedisTest
    )

  it.live("sees double sales when the lock is broken", () =>
    Effect.gen(function*() {
      const { audit } = yield* soldOut(saleOf("broken"))
      assert.isAbove(doubles(audit).length, 0)
      assert.match(doubles(audit)[0]?.text ?? "", /[A-Z]\d+ is sold \d+ times: to seed-\d+ \(.*\) and seed-\d+/)
      assert.isAbove(audit.tickets, audit.seatsSold)
      assert.include(verdict(audit)[0], "NOT TRUE")
    }).pipe(Effect.provide(brokenLock(() => 1)), Effect.provide(quiet)), 60_000)

  it.live(
    "sees none when only the lock is broken, and the fencing tokens grow: the fence holds by itself",
    () =>
      Effect.suspend(() => {
        let token = 0
        return Effect.gen(function*() {
          const { audit, tally } = yield* soldOut(saleOf("fenced"))
          assert.deepStrictEqual(doubles(audit), [])
          assert.isAbove(tally.heldTooLong, 0)
        }).pipe(Effect.provide(brokenLock(() => ++token)), Effect.provide(quiet))
      }),
    60_000
  )

  it.live("sees every kind of wrong record", () =>
    Effect.gen(function*() {
      const redis = yield* RedisClient.RedisClient
      const sale = saleOf("forged", 1, 40)
      const keys = venueKeys(sale, sale.venues[0])
      const order = (id: string, seats: ReadonlyArray<string>, price: number) =>
        JSON.stringify({ id, buyer: "eve", row: "A", seats, price, fencingToken: 1 })
      yield* redis.hset(keys.seats, { A1: "one", A2: "two", A3: "three", A9: "nobody" })
      const { price } = sale.venues[0].rows[0] ?? { price: 0 }
      yield* redis.rpush(
        keys.ledger,
        order("one", ["A1"], price),
        order("two", ["A2"], price - 1),
        order("other", ["A3"], price),
        order("again", ["A1"], price),
        order("void", ["A4"], price),
        order("empty", [], 0),
        "not json"
      )
      yield* redis.hset(keys.totals, { orders: 5, tickets: 5, revenue: 1 })
      yield* redis.rpush(saleKeys(sale).receipts, "one", "lost")
      yield* redis.set(`lock:{box-office:${sale.id}:tokyo-jp:A}`, "somebody 1")
      const { problems } = yield* audit(sale)
      const texts = (check: string) => problems.filter((problem) => problem.check === check).map(({ text }) => text)
      assert.deepStrictEqual(texts("once"), ["tokyo-jp: A1 is sold 2 times: to eve (one) and eve (again)"])
      assert.deepStrictEqual(texts("map"), [
        `tokyo-jp: entry 5 of the ledger is no order: ${order("empty", [], 0)}`,
        "tokyo-jp: entry 6 of the ledger is no order: not json",
        "tokyo-jp: A3 belongs to three, and was sold with order other",
        "tokyo-jp: A4 belongs to nobody, and was sold with order void",
        "tokyo-jp: A9 belongs to order nobody, which is not in the ledger"
      ])
      assert.deepStrictEqual(texts("revenue"), [
        `tokyo-jp: order two cost ${price - 1} cents, and A2 cost ${price}`,
        `tokyo-jp: revenue were counted as 1, and are ${price * 5 - 1} by the ledger`
      ])
      assert.deepStrictEqual(texts("receipts"), ["order lost is in no ledger"])
      assert.deepStrictEqual(texts("locks"), ["lock:{box-office:forged:tokyo-jp:A} is left over"])
    }).pipe(Effect.provide(RedisTest)), 20_000)

  it.effect("leaves locks to the last process", () =>
    Effect.gen(function*() {
      const redis = yield* RedisClient.RedisClient
      const sale = saleOf("last", 1, 40)
      yield* redis.sadd(saleKeys(sale).sellers, "somebody")
      yield* redis.set(`lock:{box-office:${sale.id}:tokyo-jp:A}`, "somebody 1")
      const result = yield* audit(sale)
      assert.deepStrictEqual(result.problems, [])
      assert.include(verdict(result).join("\n"), "others still sell (processes: 1)")
    }).pipe(Effect.provide(RedisTest)))

  it.effect("a sale is opened once, and others must mean the same", () =>
    Effect.gen(function*() {
      yield* open(saleOf("same"))
      yield* open(saleOf("same"))
      const error = yield* Effect.flip(open(saleOf("same", 4)))
      assert.match(error.message, /the sale "same" is one of 5 venues and \d+ seats, and not of 4 venues/)
    }).pipe(Effect.provide(RedisTest)))
})

describe("the command line", () => {
  it("has defaults, and reads what is given", () => {
    const options = Either.getOrThrow(parse(["--venues", "3", "--sale", "gala_1", "--check"]))
    assert.deepInclude(options, { venues: 3, seats: 2400, buyers: 3000, processes: 1, sale: "gala_1", check: true })
  })

  it.each([
    [["--venues", "0"], "--venues must be a whole number from 1 to"],
    [["--venues", "1e9"], "--venues must be a whole number from 1 to"],
    [["--seats", "many"], "but it is \"many\""],
    [["--buyers=-5"], "--buyers must be a whole number from 1 to 1000000"],
    [["--processes", "1.5"], "--processes must be a whole number from 1 to 64"],
    [["--port", "65536"], "--port must be a whole number from 0 to 65535"],
    [["--pace", "0"], "--pace must be a whole number from 1 to"],
    [["--sale", "a}b"], "--sale must be 1 to 64 letters"],
    [["--sail", "x"], "--sail"],
    [["now"], "now"]
  ])("refuses %s", (args, expected) => {
    const result = parse(args)
    assert.isTrue(Either.isLeft(result))
    if (Either.isLeft(result)) assert.include(result.left, expected)
  })
})

describe("the page", () => {
  it.each<[ReadonlyArray<string>, Port | undefined]>([
    [[], { number: 3000, exact: false }],
    [["--port", "0"], { number: 0, exact: true }],
    [["--no-page"], undefined],
    [["--check"], undefined],
    [["--check", "--port", "8080"], { number: 8080, exact: true }],
    [["--worker"], undefined]
  ])("with %s is at %s", (args, expected) => {
    assert.deepStrictEqual(Either.getOrThrow(parse(args)).port, expected)
  })
})

describe("processes", () => {
  const program = `${root}build/examples/box-office/main.js`

  const start = (args: ReadonlyArray<string>, env: Record<string, string>) => {
    const child = spawn(process.execPath, [program, ...args], {
      env: { PATH: process.env.PATH, ...env },
      stdio: ["ignore", "pipe", "pipe"]
    })
    const text: Array<string> = []
    child.stdout.on("data", (data) => text.push(String(data)))
    child.stderr.on("data", (data) => text.push(String(data)))
    return { child, text }
  }

  const ended = async ({ child, text }: { readonly child: ChildProcess; readonly text: ReadonlyArray<string> }) => {
    if (child.exitCode === null && child.signalCode === null) await once(child, "exit")
    return { code: child.exitCode, text: text.join("") }
  }

  /** Waits until the best venue has sold a few seats. */
  const someSold = (id: string) =>
    Effect.gen(function*() {
      const redis = yield* RedisClient.RedisClient
      const sale = saleOf(id, 6, 500)
      const sold = redis.hlen(venueKeys(sale, sale.venues[0]).seats)
      while ((yield* sold) < 5) yield* Effect.sleep("20 millis")
    })

  const small = ["--venues", "6", "--seats", "500", "--buyers", "400", "--check"]

  beforeAll(async () => {
    const compiler = `${root}node_modules/@typescript/native/bin/tsc`
    await run(process.execPath, [compiler, "-b", `${root}src`, `${root}examples`])
  }, 120_000)

  it("one, without any server, ends well", async () => {
    const { code, text } = await ended(start(small, {}))
    assert.strictEqual(code, 0, text)
    assert.include(text, "✓ no seat is sold twice")
  }, 60_000)

  it("four that were started by themselves, one of them paused: nothing is sold twice", async () => {
    const env = { REDIS_URL: inject("redisUrl"), REDIS_KEY_PREFIX: `box:${crypto.randomUUID()}:` }
    const args = [...small, "--sale", "together"]
    const sellers = [1, 2, 3, 4].map(() => start(args, env))
    const paused = sellers[0]?.child
    await Effect.runPromise(someSold("together").pipe(Effect.provide(serverWith(env.REDIS_KEY_PREFIX))))
    paused?.kill("SIGSTOP")
    // Longer than the locks live that it holds.
    await new Promise((resolve) => setTimeout(resolve, 7000))
    paused?.kill("SIGCONT")
    for (const seller of sellers) {
      const { code, text } = await ended(seller)
      assert.strictEqual(code, 0, text)
      assert.include(text, "✓ no seat is sold twice")
    }
  }, 90_000)

  it("four that are started by one", async () => {
    const env = { REDIS_URL: inject("redisUrl"), REDIS_KEY_PREFIX: `box:${crypto.randomUUID()}:` }
    const { code, text } = await ended(start([...small, "--processes", "4"], env))
    assert.strictEqual(code, 0, text)
    assert.include(text, "400 buyers: ")
    assert.include(text, "✓ no lock, no till and no queue is left")
  }, 90_000)

  it.each([1, 2])("serves a page that shows what %i of them sell, and ends although it is open", async (processes) => {
    const env = { REDIS_URL: inject("redisUrl"), REDIS_KEY_PREFIX: `box:${crypto.randomUUID()}:` }
    const args = ["--venues=3", "--seats=60", "--buyers=60", "--pace=30", "--check", "--port=0"]
    const seller = start([...args, `--processes=${processes}`], processes === 1 ? {} : env)
    let url: string | undefined
    while (url === undefined && seller.child.exitCode === null) {
      await new Promise((resolve) => setTimeout(resolve, 20))
      url = /^Page: (.*)$/m.exec(seller.text.join(""))?.[1]
    }
    const page = await fetch(`${url}/`)
    assert.include(await page.text(), "<title>Box office</title>")
    const events = await fetch(`${url}/api/events`)
    let told = ""
    const reading = (async () => {
      for await (const chunk of events.body ?? []) told += Buffer.from(chunk).toString()
    })().catch(() => {})
    const { code, text } = await ended(seller)
    await reading
    assert.strictEqual(code, 0, text)
    assert.include(text, "✓ no seat is sold twice")
    assert.include(told, "event: sold\n")
  }, 60_000)

  it("fails when the port is taken that it was told", async () => {
    const taken = createServer().listen(0, "127.0.0.1")
    await once(taken, "listening")
    const address = taken.address()
    const port = typeof address === "object" && address !== null ? address.port : 0
    const { code, text } = await ended(start(["--port", `${port}`], {}))
    taken.close()
    assert.strictEqual(code, 1, text)
    assert.include(text, "EADDRINUSE")
    assert.notInclude(text, "    at ")
  }, 60_000)

  it("takes another port when it was told none", async () => {
    // Where somebody else has it already, that will do.
    const taken = createServer().on("error", () => {})
    await new Promise((resolve) => taken.once("error", resolve).listen(3000, "127.0.0.1", () => resolve(undefined)))
    const { code, text } = await ended(start(["--venues=2", "--seats=40", "--buyers=20"], {}))
    taken.close()
    assert.strictEqual(code, 0, text)
    assert.match(text, /^Page: http:\/\/localhost:(?!3000 )\d+ \(.*EADDRINUSE.*:3000\)$/m)
  }, 60_000)

  it("says what is wrong, and ends with 1", async () => {
    const refused = async (args: ReadonlyArray<string>, env: Record<string, string>, expected: string) => {
      const { code, text } = await ended(start(args, env))
      assert.strictEqual(code, 1, text)
      assert.include(text, expected)
      assert.notInclude(text, "    at ")
    }
    await refused(["--venues", "none"], {}, "--venues must be a whole number")
    await refused(["--processes", "4"], {}, "set REDIS_URL")
    await refused([], { REDIS_URL: "http://localhost" }, "REDIS_URL")
    await refused([], { REDIS_URL: "redis://localhost:1" }, "localhost:1")
  }, 30_000)

  it("explains itself", async () => {
    const { code, text } = await ended(start(["--help"], {}))
    assert.strictEqual(code, 0, text)
    assert.include(text, "--buyers N")
  }, 30_000)
})
