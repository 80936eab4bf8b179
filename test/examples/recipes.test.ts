import { HttpClient, HttpClientRequest, type HttpClientResponse, HttpServer } from "@effect/platform"
import { NodeHttpServer } from "@effect/platform-node"
import { assert, describe, it } from "@effect/vitest"
import { Deferred, Effect, Fiber, Layer, Logger, LogLevel, TestClock } from "effect"
import { Cache, Leaderboard, Queue, RateLimiter, RedisTest, RedisTestServer, Session } from "effect-redis-kit"
import * as ApiRateLimits from "../../examples/recipes/api-rate-limits.js"
import * as Authentication from "../../examples/recipes/authentication.js"
import * as CacheWithFallback from "../../examples/recipes/cache-with-fallback.js"
import * as JobQueue from "../../examples/recipes/job-queue.js"
import * as Board from "../../examples/recipes/leaderboard.js"
import { whileTimePasses } from "../http/support.js"
import { drivers } from "../kit/layers.js"

const quiet = Logger.minimumLogLevel(LogLevel.None)

/** What an effect prints. */
const printed = <A, E, R>(effect: Effect.Effect<A, E, R>) =>
  Effect.gen(function*() {
    const lines: Array<string> = []
    const log = (line: unknown) => Effect.sync(() => void lines.push(String(line)))
    yield* Effect.consoleWith((console) => Effect.withConsole(effect, { ...console, log }))
    return lines
  })

const execute = (request: HttpClientRequest.HttpClientRequest) =>
  Effect.flatMap(HttpClient.HttpClient, (client) => client.execute(request))

const get = (path: string, headers: Readonly<Record<string, string>> = {}) =>
  execute(HttpClientRequest.get(path, { headers }))

const post = (path: string, body: unknown, headers: Readonly<Record<string, string>> = {}) =>
  execute(HttpClientRequest.bodyUnsafeJson(HttpClientRequest.post(path, { headers }), body))

/** The cookie of a response, as a browser sends it back. */
const cookieOf = ({ headers }: HttpClientResponse.HttpClientResponse) => (headers["set-cookie"] ?? "").split(";")[0]!

const password = "correct horse"
const accounts = Authentication.Accounts.layerOf([
  { id: "1", email: "ada@example.com", roles: ["admin"], password },
  { id: "2", email: "grace@example.com", roles: [], password }
])

const mailer = (sent: Array<string>, full: { yes: boolean }) =>
  Layer.succeed(JobQueue.Mailer, {
    send: ({ key, subject, to }) =>
      Effect.suspend(() => {
        if (to.startsWith("busy") && full.yes) return new JobQueue.MailboxBusy()
        sent.push(key.startsWith("welcome:") ? key : subject)
        return Effect.void
      })
  })

/** A catalogue with a lamp, which counts how often it is asked. */
const catalogueOf = (prices: Map<string, number>, state: { asked: number; down: boolean }) => {
  const find = (id: string) =>
    Effect.suspend((): Effect.Effect<
      CacheWithFallback.Product,
      CacheWithFallback.NoSuchProduct | CacheWithFallback.CatalogueDown
    > => {
      state.asked++
      const price = prices.get(id)
      if (state.down) return new CacheWithFallback.CatalogueDown()
      return price === undefined
        ? new CacheWithFallback.NoSuchProduct({ id })
        : Effect.succeed(new CacheWithFallback.Product({ id, name: "Lamp", price }))
    })
  return Layer.succeed(CacheWithFallback.Catalogue, {
    find,
    setPrice: (id, price) => Effect.sync(() => void prices.set(id, price))
  })
}

for (const [name, driver] of drivers) {
  describe(`recipes ${name}`, () => {
    it.live("limit an API by who asks", () =>
      Effect.gen(function*() {
        const first = yield* get("/books", { authorization: "Bearer ada" })
        assert.strictEqual(first.status, 200)
        assert.strictEqual(first.headers["x-ratelimit-limit"], "300")
        assert.strictEqual(first.headers["x-ratelimit-remaining"], "299")
        const paying = yield* get("/books", { authorization: "Bearer grace" })
        assert.strictEqual(paying.headers["x-ratelimit-limit"], "1000")
        const statuses = yield* Effect.forEach(
          Array.from({ length: 61 }),
          () => Effect.map(get("/books"), ({ status }) => status),
          { concurrency: 10 }
        )
        assert.strictEqual(statuses.filter((status) => status === 200).length, 60)
        const refused = yield* get("/books")
        assert.strictEqual(refused.status, 429)
        assert.isAbove(Number(refused.headers["retry-after"]), 0)
        assert.include(yield* refused.json, { error: "Too Many Requests", limit: 60, remaining: 0 })
        assert.strictEqual((yield* get("/books", { authorization: "Bearer ada" })).status, 200)
      }).pipe(
        Effect.provide(
          HttpServer.serve(ApiRateLimits.app).pipe(
            Layer.provide(RateLimiter.layer),
            Layer.provide(driver),
            Layer.provideMerge(NodeHttpServer.layerTest)
          )
        )
      ))

    it.live("log users in, show their devices, and log them out everywhere", () =>
      Effect.gen(function*() {
        const login = (email: string, secret: string, headers?: Readonly<Record<string, string>>) =>
          post("/login", { email, password: secret }, headers)
        assert.strictEqual((yield* login("ada@example.com", "wrong")).status, 401)
        assert.strictEqual((yield* login("nobody@example.com", password)).status, 401)
        assert.strictEqual((yield* post("/login", { email: "ada@example.com" })).status, 400)
        assert.strictEqual((yield* get("/me")).status, 401)
        const phone = yield* login("ada@example.com", password, { "x-device-id": "phone", "user-agent": "Phone" })
        assert.strictEqual(phone.status, 200)
        const again = yield* login("ada@example.com", password, { "x-device-id": "phone", "user-agent": "Phone" })
        const cookie = cookieOf(again)
        assert.strictEqual((yield* get("/me", { cookie: cookieOf(phone) })).status, 401)
        assert.deepStrictEqual(yield* (yield* get("/me", { cookie })).json, {
          id: "1",
          email: "ada@example.com",
          roles: ["admin"]
        })
        const listed = yield* (yield* get("/devices", { cookie })).json
        assert.isTrue(Array.isArray(listed) && listed.length === 1 && listed[0].here === true)
        // Five attempts of this address in a minute: those with the wrong password count as well.
        assert.strictEqual((yield* login("grace@example.com", password)).status, 200)
        assert.strictEqual((yield* login("grace@example.com", password)).status, 429)
        assert.strictEqual(
          (yield* post("/logout", {}, { cookie, "sec-fetch-site": "cross-site" })).status,
          403
        )
        assert.deepStrictEqual(yield* (yield* post("/logout/everywhere", {}, { cookie })).json, { count: 1 })
        assert.strictEqual((yield* get("/me", { cookie })).status, 401)
      }).pipe(
        Effect.provide(
          HttpServer.serve(Authentication.app).pipe(
            Layer.provide([Session.layer, RateLimiter.layer, accounts]),
            Layer.provide(driver),
            Layer.provideMerge(NodeHttpServer.layerTest)
          )
        ),
        Effect.provide(quiet)
      ))

    it.live("rank the players of a game", () =>
      Effect.gen(function*() {
        assert.deepStrictEqual(yield* printed(Board.program), [
          "Ada was 8, and is 3 now",
          "best: 1. Jean 1600, 2. Margaret 1500, 3. Ada 1450",
          "around Ada: 1. Jean 1600, 2. Margaret 1500, 3. Ada 1450, 4. Radia 1400, 5. Frances 1300",
          "better than 63 % of 8 players"
        ])
        assert.deepStrictEqual(yield* Board.finish("ada", { name: "Ada" }, 10), { previousRank: 3, rank: 3 })
        const { secondPage } = yield* Board.standing("42")
        assert.deepStrictEqual(secondPage.entries.map(Board.line), [
          "5. Frances 1300",
          "6. Barbara 1200",
          "7. Player 42 1150",
          "8. Grace 1100"
        ])
      }).pipe(Effect.provide(Leaderboard.layer), Effect.provide(driver)))

    it.live("send mails as jobs", () => {
      const sent: Array<string> = []
      const full = { yes: true }
      return Effect.gen(function*() {
        const lines = yield* printed(JobQueue.program)
        assert.deepStrictEqual(lines, ["1 dead: busy@example.com (MailboxBusy: the mailbox is busy)"])
        assert.deepStrictEqual([...sent].sort(), ["Your new password", "welcome:ada@example.com"])
        full.yes = false
        yield* Queue.replay(JobQueue.Mails, "welcome:busy@example.com")
        yield* Effect.provide(
          Effect.repeat(Effect.sleep("20 millis"), { until: () => sent.length === 3 }),
          JobQueue.Worker
        )
        assert.strictEqual(sent[2], "welcome:busy@example.com")
        assert.deepStrictEqual(yield* JobQueue.status, { waiting: 0, running: 0, dead: 0, letters: [] })
      }).pipe(
        Effect.provide(mailer(sent, full)),
        Effect.provide(Queue.layer),
        Effect.provide(driver),
        Effect.provide(quiet)
      )
    })

    it.live("keep what is expensive to get", () => {
      const state = { asked: 0, down: false }
      return Effect.gen(function*() {
        assert.deepStrictEqual(yield* printed(CacheWithFallback.program), [
          "100 readers: Lamp costs 20",
          "now it costs 25",
          "unicorn: NoSuchProduct"
        ])
        assert.strictEqual(state.asked, 3)
        assert.strictEqual((yield* Effect.flip(CacheWithFallback.product("unicorn")))._tag, "NoSuchProduct")
        assert.strictEqual(state.asked, 3)
        yield* CacheWithFallback.imported
        assert.strictEqual((yield* CacheWithFallback.product("lamp")).price, 25)
        assert.strictEqual(state.asked, 4)
      }).pipe(
        Effect.provide(catalogueOf(new Map([["lamp", 20]]), state)),
        Effect.provide(Cache.layer),
        Effect.provide(driver)
      )
    })
  })
}

describe("recipes, when something is wrong", () => {
  const away = Effect.flatMap(
    RedisTestServer.RedisTestServer,
    (server) => server.inject(RedisTestServer.Fault.failBeforeSend({ times: 10_000 }))
  )

  it.effect("an API lets everybody in while Redis is away", () =>
    Effect.gen(function*() {
      yield* away
      const answers = yield* Effect.forEach(Array.from({ length: 70 }), () => get("/books"))
      assert.isTrue(answers.every(({ status }) => status === 200))
    }).pipe(
      Effect.provide(
        Layer.provideMerge(HttpServer.serve(ApiRateLimits.app), NodeHttpServer.layerTest)
      ),
      whileTimePasses,
      Effect.provide(RateLimiter.layerTest)
    ))

  it.effect("urgent mails go first, and nobody gets one that is too old", () => {
    const sent: Array<string> = []
    return Effect.gen(function*() {
      const first = yield* Deferred.make<void>()
      yield* JobQueue.welcome("ada@example.com", "Ada")
      yield* JobQueue.resetPassword("grace@example.com")
      const worker = yield* Effect.fork(
        Effect.scoped(Queue.runWorker(JobQueue.Mails, ({ payload }) =>
          Effect.zipRight(
            Effect.sync(() => void sent.push(payload._tag)),
            Deferred.succeed(first, undefined)
          )))
      )
      yield* Deferred.await(first)
      yield* Fiber.interrupt(worker)
      assert.strictEqual(sent[0], "PasswordReset")
      yield* JobQueue.resetPassword("grace@example.com")
      yield* TestClock.adjust("10 minutes")
      const late = yield* Effect.fork(Effect.scoped(Effect.zipRight(Layer.build(JobQueue.Worker), Effect.never)))
      yield* TestClock.adjust("1 minute")
      yield* Fiber.interrupt(late)
      assert.deepStrictEqual((yield* JobQueue.status).letters.map(({ reason }) => reason), ["deadline"])
    }).pipe(Effect.provide(mailer(sent, { yes: false })), Effect.provide(RedisTest), Effect.provide(quiet))
  })

  it.effect("a cache says what was true before while its source is down, and asks the source while Redis is", () => {
    const state = { asked: 0, down: false }
    return Effect.gen(function*() {
      assert.strictEqual((yield* CacheWithFallback.product("lamp")).price, 20)
      state.down = true
      yield* TestClock.adjust("6 minutes")
      assert.strictEqual((yield* CacheWithFallback.product("lamp")).price, 20)
      assert.strictEqual((yield* Effect.flip(CacheWithFallback.product("desk")))._tag, "CatalogueDown")
      state.down = false
      yield* away
      assert.strictEqual((yield* CacheWithFallback.product("desk")).price, 80)
    }).pipe(
      Effect.provide(catalogueOf(new Map([["lamp", 20], ["desk", 80]]), state)),
      Effect.provide(RedisTest),
      whileTimePasses
    )
  })
})
