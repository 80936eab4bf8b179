import {
  HttpApi,
  HttpApiBuilder,
  HttpApiClient,
  HttpApiEndpoint,
  HttpApiError,
  HttpApiGroup,
  HttpApiMiddleware,
  HttpApp,
  HttpClient,
  HttpClientRequest,
  HttpServer,
  HttpServerResponse,
  OpenApi
} from "@effect/platform"
import { NodeHttpServer } from "@effect/platform-node"
import { assert, describe, it } from "@effect/vitest"
import {
  Context,
  Deferred,
  Effect,
  Exit,
  Fiber,
  Layer,
  Logger,
  LogLevel,
  Option,
  Queue,
  Redacted,
  Ref,
  Schema,
  TestClock
} from "effect"
import { inspect } from "node:util"
import * as ClientAddress from "../../src/http/ClientAddress.js"
import * as Sessions from "../../src/http/Sessions.js"
import * as RedisTestServer from "../../src/RedisTestServer.js"
import * as Session from "../../src/Session/index.js"
import * as Spans from "../kit/spans.js"
import {
  Api,
  browser,
  CLEARED,
  type Form,
  formNames,
  Gate,
  parseSet,
  send,
  serving,
  type Site,
  siteOf,
  UNAUTHORIZED
} from "./sessionsSuite.js"
import { warnings, whileTimePasses } from "./support.js"

const { Fault } = RedisTestServer

const run = <A, E>(
  effect: Effect.Effect<
    A,
    E,
    | HttpClient.HttpClient
    | HttpServer.HttpServer
    | Gate
    | Session.Session
    | RedisTestServer.RedisTestServer
  >,
  form: Form,
  site: Site
) => Effect.provide(serving(effect, form, site), Session.layerTest)

for (const form of formNames) {
  describe(`${form}, as time passes`, () => {
    it.effect("writes the cookie again when the session lives longer, and not when it is over", () => {
      const site = siteOf({ idleTimeout: "10 minutes", touchEvery: "1 minute", absoluteTimeout: "25 minutes" })
      return Effect.gen(function*() {
        const ada = yield* browser()
        const { token, ...first } = parseSet((yield* ada.login("Ada")).set)
        assert.deepStrictEqual(first, { told: 600_000, maxAge: 600 })
        const before = yield* Ref.get(ada.jar)
        yield* TestClock.adjust("59 seconds")
        assert.isUndefined((yield* ada.get("/me")).set)
        yield* TestClock.adjust("1500 millis")
        const moved = { token, told: 660_500, maxAge: 600 }
        assert.deepStrictEqual(parseSet((yield* ada.get("/maybe")).set), moved)
        assert.isUndefined((yield* ada.get("/me")).set)
        // The browser that has not got it is told again, and so is one that has only the token.
        assert.deepStrictEqual(parseSet((yield* send("GET", "/me", { cookie: before })).set), moved)
        assert.deepStrictEqual(parseSet((yield* send("GET", "/me", { cookie: `__Host-session=${token}` })).set), moved)
        for (let minute = 9; minute < 20; minute += 9) {
          yield* TestClock.adjust("9 minutes")
          yield* ada.get("/me")
        }
        // The session may have ended at 25 minutes, not a moment later.
        assert.strictEqual(yield* Ref.get(ada.jar), `__Host-session=${token}.${(1_500_000).toString(36)}`)
        yield* TestClock.adjust("5990 seconds")
        const over = yield* ada.get("/me")
        assert.deepStrictEqual([over.status, over.set, over.body], [401, undefined, UNAUTHORIZED])
      }).pipe((effect) => run(effect, form, site))
    })

    it.effect("wants to know again who it is, before something that matters", () => {
      const site = siteOf({ freshFor: "10 minutes" })
      return Effect.gen(function*() {
        const ada = yield* browser()
        const nobody = yield* ada.get("/fresh")
        assert.deepStrictEqual([nobody.status, nobody.body], [401, UNAUTHORIZED])
        yield* ada.login("Ada")
        yield* TestClock.adjust("10 minutes")
        for (const again of ["/me", "/rotate"]) {
          const { body, headers, set, status } = yield* ada.get("/fresh")
          assert.deepStrictEqual([status, body], [403, { _tag: "NotFresh", error: "Forbidden" }])
          assert.deepStrictEqual([set, headers["cache-control"]], [undefined, "no-store"])
          yield* again === "/me" ? ada.get(again) : ada.post(again)
        }
        yield* ada.post("/reauthenticate")
        assert.strictEqual((yield* ada.get("/fresh")).status, 200)
      }).pipe((effect) => run(effect, form, site))
    })

    it.effect("neither overwrites nor removes a new cookie because of an old one", () => {
      const site = siteOf({ touchEvery: 0, rotateGrace: "1 minute" })
      return Effect.gen(function*() {
        const ada = yield* browser()
        yield* ada.login("Ada")
        const old = yield* Ref.get(ada.jar)
        yield* TestClock.adjust("1 second")
        yield* ada.post("/rotate")
        yield* TestClock.adjust("1 second")
        // It was underway, and is answered after the other one.
        const late = yield* send("GET", "/me", { cookie: old })
        assert.deepStrictEqual([late.status, late.set], [200, undefined])
        assert.include((yield* ada.get("/me")).set ?? "", (yield* Ref.get(ada.jar)).slice(0, 81))
        yield* TestClock.adjust("1 minute")
        const later = yield* send("GET", "/me", { cookie: old })
        assert.deepStrictEqual([later.status, later.set], [401, undefined])
        assert.strictEqual((yield* ada.get("/me")).status, 200)
        // It was underway while she logged in again.
        const before = yield* Ref.get(ada.jar)
        yield* ada.login("Ada")
        const underway = yield* send("GET", "/me", { cookie: before })
        assert.deepStrictEqual([underway.status, underway.set], [401, undefined])
      }).pipe((effect) => run(effect, form, site))
    })
  })

  describe(`${form}, when something is wrong`, () => {
    it.effect("answers 503 while Redis is away, and keeps the cookie", () => {
      const site = siteOf()
      return Effect.gen(function*() {
        const ada = yield* browser()
        yield* ada.login("Ada")
        const server = yield* RedisTestServer.RedisTestServer
        const fault = yield* server.inject(Fault.failBeforeSend({ times: 10_000 }))
        const asked = [
          ...["/me", "/maybe", "/fresh", "/id"].map(ada.get),
          ...["/logout", "/logout/others", "/logout/everywhere", "/rotate", "/visit"].map((path) => ada.post(path)),
          (yield* browser()).login("Bob")
        ]
        for (const { body, headers, set, status } of yield* Effect.all(asked, { concurrency: "unbounded" })) {
          assert.deepStrictEqual([status, body], [503, { _tag: "SessionsUnavailable", error: "Service Unavailable" }])
          assert.isUndefined(set)
          assert.notStrictEqual(headers["cache-control"], "public")
        }
        // Whoever shows nothing, or nonsense, needs no Redis.
        assert.deepStrictEqual((yield* send("GET", "/maybe")).body, { user: null })
        assert.strictEqual((yield* send("GET", "/me", { cookie: "__Host-session=x" })).status, 401)
        yield* fault.withdraw
        assert.strictEqual((yield* ada.get("/me")).status, 200)
      }).pipe(
        (effect) => whileTimePasses(effect, 20),
        (effect) => run(effect, form, site),
        warnings,
        Effect.map((texts) => {
          assert.lengthOf(texts, 10)
          for (const text of texts) assert.include(text, "sessions are not available")
        })
      )
    })

    it.effect("ends nothing because of another fingerprint, and lets nobody with one do so", () => {
      const site = siteOf({ fingerprint: "reject" })
      return Effect.gen(function*() {
        const ada = yield* browser("Firefox/142.0")
        yield* ada.login("Ada")
        const cookie = yield* Ref.get(ada.jar)
        // A new release of the browser is the same browser.
        const updated = yield* send("GET", "/me", { cookie, "user-agent": "Firefox/143.1" })
        assert.strictEqual(updated.body.print, "match")
        const thief = yield* browser("Thief/1")
        for (const path of ["/me", "/fresh", "/rotate", "/reauthenticate", "/visit", "/logout/others"]) {
          yield* Ref.set(thief.jar, cookie)
          const { body, set, status } = yield* path === "/me" || path === "/fresh" ? thief.get(path) : thief.post(path)
          assert.deepStrictEqual([status, body, set], [401, UNAUTHORIZED, undefined], path)
        }
        yield* thief.post("/logout/everywhere")
        yield* Ref.set(thief.jar, cookie)
        yield* thief.post("/logout")
        yield* Ref.set(thief.jar, cookie)
        yield* thief.login("Eve")
        assert.strictEqual((yield* ada.get("/me")).body.user, "Ada")
      }).pipe((effect) => run(effect, form, site))
    })

    it.effect("keeps a session that it can't read, and ends it when it is told to", () => {
      const site = siteOf()
      const Older = Session.define({ name: site.definition.name, data: Schema.Struct({ theme: Schema.Number }) })
      return Effect.gen(function*() {
        const sessions = yield* Session.open(Older)
        const { token } = yield* sessions.create({ userId: "Ada", data: { theme: 1 } })
        const cookie = `__Host-session=${Redacted.value(token)}`
        const { body, set, status } = yield* send("GET", "/me", { cookie })
        assert.deepStrictEqual([status, body, set], [401, UNAUTHORIZED, undefined])
        assert.deepStrictEqual((yield* send("GET", "/maybe", { cookie })).body, { user: null })
        assert.strictEqual(yield* sessions.count("Ada"), 1)
        assert.strictEqual((yield* send("POST", "/logout", { cookie })).set, CLEARED)
        assert.strictEqual(yield* sessions.count("Ada"), 0)
      }).pipe((effect) => run(effect, form, site), warnings, Effect.map((texts) => assert.lengthOf(texts, 2)))
    })

    it.effect("answers options that mean nothing with 500", () =>
      Effect.forEach([
        siteOf({ idleTimeout: 0 }),
        siteOf({}, { clientAddress: { hops: -1 } }),
        siteOf({}, { name: "a;b" })
      ], (site) =>
        Effect.gen(function*() {
          assert.strictEqual((yield* (yield* browser()).login("Ada")).status, 500)
        }).pipe((effect) => run(effect, form, site)), { discard: true }))

    it.effect("does not go on when the client is gone, and takes its login back", () => {
      const site = siteOf()
      return Effect.gen(function*() {
        const interrupted = yield* Queue.unbounded<void>()
        const watch = <A, E, R>(effect: Effect.Effect<A, E, R>) =>
          Effect.onInterrupt(effect, () => Queue.offer(interrupted, undefined))
        const service = yield* Session.Session
        const watched = Session.Session.of({
          open: (definition) =>
            Effect.map(service.open(definition), (sessions) => ({
              ...sessions,
              create: (options) => watch(sessions.create(options)),
              getAndTouch: (...args) => watch(sessions.getAndTouch(...args))
            }))
        })
        yield* Effect.gen(function*() {
          const server = yield* RedisTestServer.RedisTestServer
          const ada = yield* browser()
          // The scripts are known from now on.
          yield* ada.login("Ada")
          yield* ada.get("/me")
          yield* ada.post("/logout")
          yield* ada.login("Ada")
          for (const slowly of [Effect.flatMap(browser(), ({ login }) => login("Bob")), ada.post("/visit")]) {
            const slow = yield* server.inject(Fault.delay("1 second"))
            const request = yield* Effect.fork(slowly)
            while ((yield* slow.happened) === 0) yield* Effect.promise(() => new Promise(setImmediate))
            yield* Fiber.interrupt(request)
            yield* whileTimePasses(Queue.take(interrupted), 20)
            yield* TestClock.adjust("1 minute")
          }
          assert.strictEqual(yield* Effect.flatMap(service.open(site.definition), ({ count }) => count("Bob")), 0)
          const { arrived } = yield* Gate
          assert.isFalse(yield* Deferred.isDone(arrived))
          yield* TestClock.adjust("1 hour")
          assert.deepStrictEqual(Array.from(yield* TestClock.sleeps()), [])
        }).pipe(
          (effect) => serving(effect, form, site),
          Effect.provideService(Session.Session, watched)
        )
      }).pipe(Effect.provide(Session.layerTest))
    })
  })
}

describe("sessions of a server", () => {
  it.effect("show no token in a log, a span, an error or a command", () => {
    const site = siteOf({ touchEvery: 0, fingerprint: "reject" })
    const seen: Array<string> = []
    const show = (value: unknown) => inspect(value, { depth: 12, maxArrayLength: null, maxStringLength: null })
    const logger = Logger.make((options) => {
      const { annotations, cause, message, spans } = options
      seen.push(show([message, cause, annotations, spans]))
      seen.push(Logger.logfmtLogger.log(options), Logger.jsonLogger.log(options), Logger.stringLogger.log(options))
    })
    const tokens = new Set<string>()
    return Effect.gen(function*() {
      const server = yield* RedisTestServer.RedisTestServer
      const ada = yield* browser()
      const note = ({ set }: { readonly set: string | undefined }) => {
        const token = /[\w-]{22}\.([\w-]{43})/.exec(set ?? "")?.[1]
        if (token !== undefined) tokens.add(token)
      }
      note(yield* ada.login("Ada"))
      note(yield* ada.login("Ada"))
      yield* ada.get("/me")
      yield* TestClock.adjust("1 second")
      note(yield* ada.get("/me"))
      note(yield* ada.post("/rotate"))
      note(yield* ada.post("/reauthenticate"))
      yield* send("GET", "/me", { cookie: yield* Ref.get(ada.jar), "user-agent": "other" })
      for (const fault of [Fault.readOnly, Fault.failBeforeSend, Fault.outOfMemory, Fault.loseReply]) {
        yield* server.inject(fault({ times: 3 }))
        yield* whileTimePasses(Effect.all([ada.get("/me"), ada.post("/rotate")]), 20)
      }
      yield* server.clearFaults
      note(yield* ada.login("Ada"))
      yield* ada.post("/logout/everywhere")
      assert.isAtLeast(tokens.size, 4)
      const spans = yield* Effect.flatMap(Spans.Spans, ({ all }) => all)
      assert.isTrue(spans.some(({ name }) => name.startsWith("http.server")))
      assert.isTrue(spans.some(({ name }) => name === "session.getAndTouch"))
      // What is exported of a span. Beside it, it holds the response itself, cookies and all.
      const exported = spans.map(({ attributes, name, status }) =>
        show([name, attributes, status._tag === "Ended" && Exit.isFailure(status.exit) && status.exit.cause])
      )
      const all = [...seen, ...exported, show(yield* server.journal)].join("\n")
      // Headers of requests and responses are there.
      assert.include(all, "http.request.header.cookie")
      assert.include(all, "no-store")
      for (const token of tokens) assert.isFalse(all.includes(token))
    }).pipe(
      (effect) => serving(effect, "middleware of an API", site),
      Effect.provide(Layer.provideMerge(Session.layerTest, Spans.layer)),
      Effect.provide(Logger.replace(Logger.defaultLogger, logger)),
      Logger.withMinimumLogLevel(LogLevel.All)
    )
  })

  const quiet = Layer.merge(NodeHttpServer.layerTest, Gate.Default)

  it.effect("can be around all of it, where nobody handles responses any more", () => {
    const site = siteOf({ touchEvery: 0 })
    const app = Effect.map(Sessions.CurrentSession, ({ userId }) => HttpServerResponse.text(`"${userId}"`))
    const server = HttpServer.serve(app, Sessions.middleware(Sessions.CurrentSession, Sessions.requireAuth(site)))
    return Effect.gen(function*() {
      const sessions = yield* Session.open(site.definition)
      const { token } = yield* sessions.create({ userId: "Ada", data: { theme: "", visits: 0 } })
      const cookie = `__Host-session=${Redacted.value(token)}`
      const { body, headers, set } = yield* send("GET", "/", { cookie })
      assert.deepStrictEqual([body, headers["cache-control"]], ["Ada", "no-store"])
      assert.strictEqual(parseSet(set).token, Redacted.value(token))
      yield* sessions.delete(token)
      const refused = yield* send("GET", "/", { cookie })
      assert.deepStrictEqual([refused.status, refused.body, refused.set], [401, UNAUTHORIZED, undefined])
      assert.strictEqual(refused.headers["cache-control"], "no-store")
      const nonsense = yield* send("GET", "/", { cookie: "__Host-session=nonsense" })
      assert.deepStrictEqual([nonsense.status, nonsense.body, nonsense.set], [401, UNAUTHORIZED, CLEARED])
      yield* (yield* RedisTestServer.RedisTestServer).become("loading")
      const { status } = yield* whileTimePasses(send("GET", "/", { cookie }), 20)
      assert.strictEqual(status, 503)
    }).pipe(Effect.provide(Layer.provideMerge(server, quiet)), Effect.provide(Session.layerTest))
  })

  it.effect("stop looking when the client is gone, also around all of it", () => {
    const site = siteOf()
    const app = Effect.map(Sessions.CurrentSession, () => HttpServerResponse.empty())
    const server = HttpServer.serve(app, Sessions.middleware(Sessions.CurrentSession, Sessions.requireAuth(site)))
    return Effect.gen(function*() {
      const service = yield* Session.Session
      const ended = yield* Deferred.make<boolean>()
      const { token } = yield* Effect.flatMap(
        service.open(site.definition),
        ({ create }) => create({ userId: "Ada", data: { theme: "", visits: 0 } })
      )
      const watched = Session.Session.of({
        open: (definition) =>
          Effect.map(service.open(definition), (sessions) => ({
            ...sessions,
            getAndTouch: (...args) =>
              Effect.onExit(
                sessions.getAndTouch(...args),
                (exit) => Deferred.succeed(ended, Exit.isInterrupted(exit))
              )
          }))
      })
      yield* Effect.gen(function*() {
        const slow = yield* (yield* RedisTestServer.RedisTestServer).inject(Fault.delay("1 hour"))
        const request = yield* Effect.fork(send("GET", "/", { cookie: `__Host-session=${Redacted.value(token)}` }))
        while ((yield* slow.happened) === 0) yield* Effect.promise(() => new Promise(setImmediate))
        yield* Fiber.interrupt(request)
        assert.isTrue(yield* whileTimePasses(Deferred.await(ended)))
      }).pipe(
        Effect.provide(Layer.provideMerge(server, quiet)),
        Effect.provideService(Session.Session, watched)
      )
    }).pipe(Effect.provide(Session.layerTest))
  })

  it.effect("may go on to whatever the request is about, and fail in its own way", () => {
    class Forbidden extends Schema.TaggedError<Forbidden>()("Forbidden", {}) {}
    class Admin extends Context.Tag("test/Admin")<Admin, { readonly name: string }>() {}
    class Names extends Context.Tag("test/Names")<Names, { readonly admin: string }>() {}
    class OnlyAdmins extends HttpApiMiddleware.Tag<OnlyAdmins>()("test/OnlyAdmins", {
      failure: Schema.Union(Sessions.Failure, HttpApiError.Forbidden),
      provides: Admin
    }) {}
    const site = siteOf()
    const admin = <E>(forbidden: E) =>
      Effect.flatMap(
        Sessions.requireAuth(site),
        ({ userId }) =>
          Effect.flatMap(Names, (names): Effect.Effect<{ readonly name: string }, E> =>
            names.admin === userId ? Effect.succeed({ name: userId }) : Effect.fail(forbidden))
      )
    const Admins = HttpApi.make("admins").add(
      HttpApiGroup.make("all").add(
        HttpApiEndpoint.get("name", "/").addSuccess(Schema.String).middleware(OnlyAdmins)
      )
    )
    // @ts-expect-error the tag does not have this failure
    Sessions.layerApi(Sessions.Authenticated, Effect.fail(new Forbidden()))
    const api = HttpApiBuilder.serve().pipe(
      Layer.provide(HttpApiBuilder.api(Admins)),
      Layer.provide(
        HttpApiBuilder.group(Admins, "all", (all) => all.handle("name", () => Effect.map(Admin, ({ name }) => name)))
      ),
      Layer.provide(Sessions.layerApi(OnlyAdmins, admin(new HttpApiError.Forbidden())))
    )
    const app = Effect.map(Admin, ({ name }) => HttpServerResponse.text(`"${name}"`)).pipe(
      Sessions.middleware(Admin, admin(new Forbidden())),
      Effect.catchTag("Forbidden", () => HttpServerResponse.empty({ status: 403 })),
      HttpServer.serve()
    )
    return Effect.forEach([api, app], (server) =>
      Effect.gen(function*() {
        const sessions = yield* Session.open(site.definition)
        for (const [userId, status] of [["Ada", 200], ["Bob", 403]] as const) {
          const { token } = yield* sessions.create({ userId, data: { theme: "", visits: 0 } })
          const answer = yield* send("GET", "/", { cookie: `__Host-session=${Redacted.value(token)}` })
          assert.strictEqual(answer.status, status)
          // The one that is refused has a session all the same.
          assert.strictEqual(parseSet(answer.set).token, Redacted.value(token))
        }
        assert.strictEqual((yield* send("GET", "/")).status, 401)
      }).pipe(
        Effect.provide(Layer.provideMerge(server, quiet)),
        Effect.provideService(Names, { admin: "Ada" }),
        Effect.provide(Session.layerTest)
      ))
  })

  it.effect("are typed for the client of an API", () => {
    const site = siteOf({ maxPerUser: 1, onLimit: "reject", freshFor: "1 minute" })
    return Effect.gen(function*() {
      const jar = yield* Ref.make("")
      const client = yield* HttpApiClient.make(Api, {
        transformClient: (client) =>
          client.pipe(
            HttpClient.mapRequestEffect((request) =>
              Effect.map(Ref.get(jar), (cookie) => HttpClientRequest.setHeader(request, "cookie", cookie))
            ),
            HttpClient.tap(({ headers }) =>
              headers["set-cookie"] === undefined
                ? Effect.void
                : Ref.set(jar, headers["set-cookie"].split(";")[0]!)
            )
          )
      })
      const login = client.sessions.login({ payload: { name: "Ada", password: "right" } })
      assert.instanceOf(
        yield* Effect.flip(client.sessions.login({ payload: { name: "Ada", password: "wrong" } })),
        Sessions.Unauthorized
      )
      assert.instanceOf(yield* Effect.flip(client.account.me()), Sessions.Unauthorized)
      yield* login
      assert.deepStrictEqual(yield* client.account.me(), { user: "Ada", theme: "dark", visits: 0, print: "unchecked" })
      const mine = yield* Ref.getAndSet(jar, "")
      const full = yield* Effect.flip(login)
      assert.instanceOf(full, Sessions.TooManySessions)
      assert.deepInclude({ ...full }, { error: "Conflict", limit: 1 })
      yield* Ref.set(jar, mine)
      yield* TestClock.adjust("1 minute")
      const messages = [
        yield* Effect.flip(client.account.fresh()),
        yield* Effect.zipRight(
          Effect.flatMap(RedisTestServer.RedisTestServer, (server) => server.become("loading")),
          whileTimePasses(Effect.flip(client.account.me()), 20)
        )
      ].map((error) => [error._tag, error.message])
      assert.deepStrictEqual(messages, [
        ["NotFresh", "the last authentication is too long ago"],
        ["SessionsUnavailable", "sessions are not available"]
      ])
    }).pipe((effect) => run(effect, "middleware of an API", site), warnings)
  })

  it("are a part of the documentation of an API", () => {
    const { components, paths } = OpenApi.fromApi(Api)
    assert.deepStrictEqual(components.securitySchemes["cookie"], {
      type: "apiKey",
      name: "__Host-session",
      in: "cookie"
    })
    assert.deepStrictEqual(paths["/id"]?.get?.security, [{ cookie: [] }])
    assert.sameMembers(Object.keys(paths["/login"]?.post?.responses ?? {}), ["204", "400", "401", "403", "409", "503"])
    assert.sameMembers(Object.keys(paths["/fresh"]?.get?.responses ?? {}), ["200", "400", "401", "403", "503"])
  })

  it.effect("have cookies of other kinds where that is wanted", () => {
    const cookieOf = (http: Sessions.Options) => {
      const site = siteOf({}, http)
      return Effect.gen(function*() {
        const ada = yield* browser()
        const { set } = yield* ada.login("Ada")
        assert.strictEqual((yield* ada.get("/me")).body.user, "Ada")
        return (set ?? "").replace(/=[\w.-]{60,}/, "")
      }).pipe((effect) => run(effect, "middleware of an app", site))
    }
    return Effect.gen(function*() {
      const texts = yield* warnings(Effect.gen(function*() {
        assert.strictEqual(
          yield* cookieOf({ name: "users", sameSite: "strict" }),
          "__Host-users; Max-Age=604800; Path=/; HttpOnly; Secure; SameSite=Strict"
        )
      }))
      assert.deepStrictEqual(texts, [])
      const loud = yield* warnings(Effect.gen(function*() {
        assert.strictEqual(
          yield* cookieOf({ insecure: true }),
          "session; Max-Age=604800; Path=/; HttpOnly; SameSite=Lax"
        )
      }))
      assert.deepStrictEqual(loud, [`the cookie "session" is not secure, which is for development alone`])
    })
  })

  it.effect("note the device of a login, through the proxies that are trusted", () => {
    const site = siteOf({ onePerDevice: true }, {
      clientAddress: { trustedProxies: ClientAddress.privateNetworks },
      fingerprint: ({ headers }) => headers["accept-language"]
    })
    return Effect.gen(function*() {
      const login = (headers: Record<string, string>, device?: string) =>
        send("POST", "/login", headers, { name: "Ada", password: "right", device })
      yield* login({
        "x-forwarded-for": "1.2.3.4, 203.0.113.7",
        "user-agent": "u".repeat(5000),
        "accept-language": "de"
      }, "d".repeat(5000))
      const sessions = yield* Session.open(site.definition)
      const [first] = yield* sessions.listForUser("Ada")
      assert.deepStrictEqual(first!.device, {
        deviceId: Option.some("d".repeat(512)),
        userAgent: Option.some("u".repeat(256)),
        ip: Option.some("203.0.113.7")
      })
      const again = parseSet((yield* login({ "user-agent": "" }, "d".repeat(5000))).set)
      assert.strictEqual(yield* sessions.count("Ada"), 1)
      yield* login({ "accept-language": "fr" }, "phone")
      assert.strictEqual(yield* sessions.count("Ada"), 2)
      const { body } = yield* send("GET", "/me", { "cookie": `__Host-session=${again.token}`, "accept-language": "it" })
      assert.strictEqual(body.print, "unchecked")
    }).pipe((effect) => run(effect, "middleware of an app", site))
  })

  it.effect("leave it to a handler how long its response may be kept, unless it sets the cookie", () => {
    const site = siteOf({ touchEvery: "1 minute" })
    const server = HttpServerResponse.text(`""`, { headers: { "cache-control": "private, max-age=5" } }).pipe(
      Sessions.middleware(Sessions.MaybeSession, Sessions.attach(site)),
      HttpServer.serve()
    )
    return Effect.gen(function*() {
      const sessions = yield* Session.open(site.definition)
      const { session, token } = yield* sessions.create({ userId: "Ada", data: { theme: "", visits: 0 } })
      const cookie = `__Host-session=${Redacted.value(token)}.${session.expiresAt.epochMillis.toString(36)}`
      assert.strictEqual((yield* send("GET", "/", { cookie })).headers["cache-control"], "private, max-age=5")
      yield* TestClock.adjust("1 minute")
      assert.strictEqual((yield* send("GET", "/", { cookie })).headers["cache-control"], "no-store")
      assert.strictEqual((yield* send("GET", "/", { cookie: `${cookie}x!` })).headers["cache-control"], "no-store")
    }).pipe(Effect.provide(Layer.provideMerge(server, quiet)), Effect.provide(Session.layerTest))
  })

  it.effect("give their token to whoever needs it, and work in a web handler", () => {
    const site = siteOf()
    return Effect.gen(function*() {
      const runtime = yield* Effect.runtime<Session.Session>()
      const handler = HttpApp.toWebHandlerRuntime(runtime)(
        Effect.gen(function*() {
          const before = yield* Sessions.token(site)
          yield* Sessions.login(site, { userId: "Ada", data: { theme: "", visits: 0 } })
          return HttpServerResponse.text(Option.getOrElse(Option.map(before, Redacted.value), () => "none"))
        })
      )
      const ask = (cookie: string) => Effect.promise(() => handler(new Request("http://x/", { headers: { cookie } })))
      const first = yield* ask("__Host-session=nonsense")
      assert.strictEqual(yield* Effect.promise(() => first.text()), "none")
      const { token } = parseSet(first.headers.get("set-cookie") ?? "")
      const second = yield* ask(first.headers.get("set-cookie")!.split(";")[0]!)
      assert.strictEqual(yield* Effect.promise(() => second.text()), token)
    }).pipe(Effect.provide(Session.layerTest))
  })
})
