/**
 * Sessions in cookies, in all their forms, over real HTTP.
 */
import {
  HttpApi,
  HttpApiBuilder,
  HttpApiEndpoint,
  HttpApiGroup,
  HttpApiMiddleware,
  HttpClient,
  HttpClientRequest,
  HttpLayerRouter,
  HttpRouter,
  HttpServer,
  HttpServerRequest,
  HttpServerResponse
} from "@effect/platform"
import { NodeHttpServer } from "@effect/platform-node"
import { assert, layer } from "@effect/vitest"
import { Context, Deferred, Effect, Fiber, Layer, Option, Redacted, Ref, Schema, TestClock } from "effect"
import * as SameOrigin from "../../src/http/SameOrigin.js"
import * as Sessions from "../../src/http/Sessions.js"
import type { RedisClient } from "../../src/RedisClient.js"
import type { RedisError } from "../../src/RedisError.js"
import * as Session from "../../src/Session/index.js"
import { fresh } from "../kit/suites.js"

const Data = Schema.Struct({ theme: Schema.String, visits: Schema.Number })

export type Site = Sessions.CookieSessions<typeof Data.Type>

export const siteOf = (options: Partial<Session.Options> = {}, http?: Sessions.Options): Site =>
  Sessions.cookies(Session.define({ name: fresh("site"), data: Data, ...options }), http)

class CurrentUser extends Context.Tag("test/CurrentUser")<CurrentUser, Session.SessionInfo<typeof Data.Type>>() {}

const security = { cookie: Sessions.cookies(Session.define({ name: "any" })).security }

class LoggedIn extends HttpApiMiddleware.Tag<LoggedIn>()("test/LoggedIn", {
  failure: Sessions.Failure,
  provides: CurrentUser,
  security
}) {}

class Freshly extends HttpApiMiddleware.Tag<Freshly>()("test/Freshly", {
  failure: Sessions.Failure,
  provides: CurrentUser,
  security
}) {}

/** A request that waits in its handler until it may go on. */
export class Gate extends Effect.Service<Gate>()("test/Gate", {
  effect: Effect.all({ arrived: Deferred.make<void>(), open: Deferred.make<void>() })
}) {}

const wait = Effect.flatMap(
  Gate,
  ({ arrived, open }) => Effect.zipRight(Deferred.succeed(arrived, undefined), Deferred.await(open))
)

const Form = Schema.Struct({ name: Schema.String, password: Schema.String, device: Schema.optional(Schema.String) })

const authenticate = ({ device, name, password }: typeof Form.Type) =>
  password === "right"
    ? Effect.succeed({ userId: name, data: { theme: "dark", visits: 0 }, deviceId: device })
    : Effect.fail(new Sessions.Unauthorized())

const Me = Schema.Struct({ user: Schema.String, theme: Schema.String, visits: Schema.Number, print: Schema.String })

const me = Effect.map(CurrentUser, ({ data, fingerprint, userId }) => ({ user: userId, ...data, print: fingerprint }))

const id = Effect.map(Sessions.CurrentSession, ({ id }) => ({ id }))

const maybe = Effect.map(Sessions.MaybeSession, (session) => ({
  user: Option.getOrNull(Option.map(session, ({ userId }) => userId))
}))

const visit = (site: Site) =>
  Effect.gen(function*() {
    const { data } = yield* CurrentUser
    yield* wait
    const { data: { visits } } = yield* Sessions.update(site, { visits: data.visits + 1 })
    return { visits }
  })

const ok = { ok: true }

const Ok = Schema.Struct({ ok: Schema.Boolean })

const rotate = (site: Site) => Effect.as(Sessions.rotate(site), ok)

const reauthenticate = (site: Site) => Effect.as(Sessions.reauthenticate(site), ok)

// ---------------------------------------------------------------------------------------------------------------------
// The forms
// ---------------------------------------------------------------------------------------------------------------------

const lookups = (site: Site) => ({
  required: Sessions.requireAuth(site),
  fresh: Sessions.requireFresh(site),
  attached: Sessions.attach(site)
})

const json = Effect.map((body: unknown) => HttpServerResponse.unsafeJson(body))

const login = (site: Site) =>
  HttpServerRequest.schemaBodyJson(Form).pipe(
    Effect.orDie,
    Effect.flatMap(authenticate),
    Effect.flatMap((user) => Sessions.login(site, user)),
    Effect.as(HttpServerResponse.empty())
  )

const logout = (site: Site) => Effect.as(Sessions.logout(site), HttpServerResponse.empty())

const ended = <E, R>(effect: Effect.Effect<number, E, R>) => json(Effect.map(effect, (ended) => ({ ended })))

const router = (site: Site) => {
  const find = lookups(site)
  const user = Sessions.middleware(CurrentUser, find.required)
  return HttpRouter.empty.pipe(
    HttpRouter.post("/login", login(site)),
    HttpRouter.post("/logout", logout(site)),
    HttpRouter.post("/logout/others", ended(Sessions.logoutOthers(site))),
    HttpRouter.post("/logout/everywhere", ended(Sessions.logoutEverywhere(site))),
    HttpRouter.get("/me", user(json(me))),
    HttpRouter.get("/id", Sessions.middleware(Sessions.CurrentSession, find.required)(json(id))),
    HttpRouter.get("/maybe", Sessions.middleware(Sessions.MaybeSession, find.attached)(json(maybe))),
    HttpRouter.get("/fresh", Sessions.middleware(CurrentUser, find.fresh)(json(me))),
    HttpRouter.post("/visit", user(json(visit(site)))),
    HttpRouter.post("/rotate", json(rotate(site))),
    HttpRouter.post("/reauthenticate", json(reauthenticate(site)))
  )
}

const routes = (site: Site) => {
  const find = lookups(site)
  const { add } = HttpLayerRouter
  return Layer.mergeAll(
    add("POST", "/login", login(site)),
    add("POST", "/logout", logout(site)),
    add("POST", "/logout/others", ended(Sessions.logoutOthers(site))),
    add("POST", "/logout/everywhere", ended(Sessions.logoutEverywhere(site))),
    add("POST", "/rotate", json(rotate(site))),
    add("POST", "/reauthenticate", json(reauthenticate(site))),
    Layer.mergeAll(add("GET", "/me", json(me)), add("POST", "/visit", json(visit(site)))).pipe(
      Layer.provide(Sessions.routerMiddleware(CurrentUser, find.required).layer)
    ),
    Layer.provide(add("GET", "/id", json(id)), Sessions.routerMiddleware(Sessions.CurrentSession, find.required).layer),
    Layer.provide(
      add("GET", "/maybe", json(maybe)),
      Sessions.routerMiddleware(Sessions.MaybeSession, find.attached).layer
    ),
    Layer.provide(add("GET", "/fresh", json(me)), Sessions.routerMiddleware(CurrentUser, find.fresh).layer),
    HttpLayerRouter.middleware(SameOrigin.middleware(), { global: true })
  )
}

const account = HttpApiGroup.make("account")
  .add(HttpApiEndpoint.get("me", "/me").addSuccess(Me).middleware(LoggedIn))
  .add(
    HttpApiEndpoint.get("id", "/id").addSuccess(Schema.Struct({ id: Schema.String })).middleware(Sessions.Authenticated)
  )
  .add(
    HttpApiEndpoint.get("maybe", "/maybe").addSuccess(Schema.Struct({ user: Schema.NullOr(Schema.String) })).middleware(
      Sessions.Attached
    )
  )
  .add(HttpApiEndpoint.get("fresh", "/fresh").addSuccess(Me).middleware(Freshly))
  .add(
    HttpApiEndpoint.post("visit", "/visit").addSuccess(Schema.Struct({ visits: Schema.Number })).middleware(LoggedIn)
  )
  .add(HttpApiEndpoint.post("rotate", "/rotate").addSuccess(Ok))
  .add(HttpApiEndpoint.post("reauthenticate", "/reauthenticate").addSuccess(Ok))
  .addError(Sessions.Unauthorized)
  .addError(Sessions.SessionsUnavailable)

export const Api = HttpApi.make("site").add(account).add(Sessions.group(Form))

const api = (site: Site) => {
  const find = lookups(site)
  return Layer.mergeAll(
    HttpApiBuilder.group(Api, "account", (handlers) =>
      handlers
        .handle("me", () => me)
        .handle("id", () => id)
        .handle("maybe", () => maybe)
        .handle("fresh", () => me)
        .handle("visit", () => visit(site))
        .handle("rotate", () => rotate(site))
        .handle("reauthenticate", () => reauthenticate(site))),
    Sessions.layerGroup(Api, site, { authenticate })
  ).pipe(
    Layer.provide([
      Sessions.layerApi(LoggedIn, find.required),
      Sessions.layerApi(Freshly, find.fresh),
      Sessions.layerApi(Sessions.Authenticated, find.required),
      Sessions.layerApi(Sessions.Attached, find.attached)
    ])
  )
}

const quiet = { disableLogger: true, disableListenLog: true }

const forms = {
  "middleware of an app": (site: Site) => router(site).pipe(SameOrigin.middleware(), HttpServer.serve()),
  "middleware of a router": (site: Site) => HttpLayerRouter.serve(routes(site), quiet),
  "middleware of an API": (site: Site) =>
    HttpApiBuilder.serve().pipe(Layer.provide(HttpApiBuilder.api(Api)), Layer.provide(api(site)))
}

export type Form = keyof typeof forms

export const formNames = Object.keys(forms) as ReadonlyArray<Form>

type Server = Layer.Layer<
  never,
  never,
  HttpServer.HttpServer | Session.Session | Gate | Layer.Layer.Success<typeof NodeHttpServer.layerTest>
>

/** Runs with a server of this form on the sessions of the environment, and an HTTP client of that. */
export const serving = <A, E, R>(
  effect: Effect.Effect<A, E, R | HttpClient.HttpClient | HttpServer.HttpServer | Gate>,
  form: Form,
  site: Site
) => {
  const server: Server = forms[form](site)
  return Effect.provide(effect, Layer.provideMerge(server, Layer.merge(NodeHttpServer.layerTest, Gate.Default)))
}

// ---------------------------------------------------------------------------------------------------------------------
// A browser
// ---------------------------------------------------------------------------------------------------------------------

interface Answer {
  readonly status: number
  readonly headers: Readonly<Record<string, string>>
  /** The header that sets a cookie, as it was sent. */
  readonly set: string | undefined
  readonly body: any
}

export const send = (
  method: "GET" | "POST",
  path: string,
  headers: Readonly<Record<string, string>> = {},
  body?: unknown
): Effect.Effect<Answer, never, HttpClient.HttpClient> =>
  Effect.flatMap(HttpClient.HttpClient, (client) =>
    HttpClientRequest.make(method)(path, { headers }).pipe(
      body === undefined ? (request) => request : HttpClientRequest.bodyUnsafeJson(body),
      client.execute,
      Effect.flatMap((response) =>
        Effect.map(response.text, (text) => ({
          status: response.status,
          headers: response.headers,
          set: response.headers["set-cookie"],
          body: text === "" ? undefined : JSON.parse(text)
        }))
      ),
      Effect.orDie
    ))

/** Keeps one cookie, as a browser does. */
export const browser = (agent = "Mozilla/5.0 (X11; Linux) Firefox/142.0") =>
  Effect.map(Ref.make(""), (jar) => {
    const request = (method: "GET" | "POST", path: string, body?: unknown) =>
      Effect.gen(function*() {
        const cookie = yield* Ref.get(jar)
        const headers = { "user-agent": agent, "sec-fetch-site": "same-origin", ...(cookie !== "" && { cookie }) }
        const answer = yield* send(method, path, headers, body)
        if (answer.set !== undefined) {
          const pair = answer.set.split(";")[0]!
          yield* Ref.set(jar, pair.endsWith("=") ? "" : pair)
        }
        return answer
      })
    return {
      jar,
      get: (path: string) => request("GET", path),
      post: (path: string, body?: unknown) => request("POST", path, body),
      login: (name: string, more: { readonly password?: string; readonly device?: string } = {}) =>
        request("POST", "/login", { name, password: "right", ...more })
    }
  })

export const UNAUTHORIZED = { _tag: "Unauthorized", error: "Unauthorized" }

export const CLEARED = "__Host-session=; Max-Age=0; Path=/; HttpOnly; Secure; SameSite=Lax"

const WEEK = 7 * 86_400

/** The parts of a cookie that sets a session of a week. */
export const parseSet = (set: string | undefined) => {
  const match =
    /^__Host-session=([\w-]{22}\.[\w-]{43})\.([0-9a-z]+); Max-Age=(\d+); Path=\/; HttpOnly; Secure; SameSite=Lax$/.exec(
      set ?? ""
    )
  assert(match !== null, `no cookie as it should be: ${set}`)
  return { token: match[1]!, told: parseInt(match[2]!, 36), maxAge: Number(match[3]) }
}

/** The cookie stays as it is: it may be another one by now. */
const isUnauthorized = (answer: Answer) => {
  assert.deepStrictEqual([answer.status, answer.body], [401, UNAUTHORIZED])
  assert.strictEqual(answer.headers["cache-control"], "no-store")
  assert.strictEqual(answer.set, undefined)
}

export const suite = (
  name: string,
  driver: Layer.Layer<RedisClient, RedisError>,
  options: { readonly excludeTestServices?: boolean },
  names = formNames
) => {
  const tick = options.excludeTestServices === true ? Effect.sleep("2 millis") : TestClock.adjust("2 millis")
  for (const form of names) {
    layer(Layer.orDie(Layer.provideMerge(Session.layer, driver)), options)(`${form}, ${name}`, (it) => {
      it.effect("logs in with a cookie that is as it should be, byte by byte, and out again", () => {
        const site = siteOf()
        return Effect.gen(function*() {
          const ada = yield* browser()
          isUnauthorized(yield* ada.get("/me"))
          assert.deepStrictEqual((yield* ada.get("/maybe")).body, { user: null })
          const refused = yield* ada.login("Ada", { password: "wrong" })
          assert.deepStrictEqual([refused.status, refused.body, refused.set], [401, UNAUTHORIZED, undefined])

          const login = yield* ada.login("Ada")
          assert.deepStrictEqual([login.status, login.body], [204, undefined])
          assert.strictEqual(login.headers["cache-control"], "no-store")
          const { maxAge, told, token } = parseSet(login.set)
          assert.strictEqual(maxAge, WEEK)
          const sessions = yield* Session.open(site.definition)
          const session = yield* sessions.get(Redacted.make(token))
          assert.strictEqual(session.expiresAt.epochMillis, told)
          assert.deepStrictEqual(session.device, {
            deviceId: Option.none(),
            userAgent: Option.some("Mozilla/5.0 (X11; Linux) Firefox/142.0"),
            ip: Option.some("127.0.0.1")
          })

          const { body, headers, set, status } = yield* ada.get("/me")
          assert.deepStrictEqual([status, body], [200, { user: "Ada", theme: "dark", visits: 0, print: "match" }])
          // The browser knows all about it already.
          assert.isUndefined(set)
          assert.strictEqual(headers["cache-control"], "no-store")
          assert.deepStrictEqual((yield* ada.get("/maybe")).body, { user: "Ada" })
          assert.deepStrictEqual((yield* ada.get("/id")).body, { id: session.id })
          assert.strictEqual((yield* ada.get("/fresh")).status, 200)

          const cookie = yield* Ref.get(ada.jar)
          const logout = yield* ada.post("/logout")
          assert.deepStrictEqual([logout.status, logout.set], [204, CLEARED])
          assert.strictEqual(yield* sessions.count("Ada"), 0)
          // Who has kept the cookie has nothing.
          for (const path of ["/me", "/id", "/fresh"]) isUnauthorized(yield* send("GET", path, { cookie }))
          const maybe = yield* send("GET", "/maybe", { cookie })
          assert.deepStrictEqual([maybe.status, maybe.body, maybe.set], [200, { user: null }, undefined])
          assert.strictEqual((yield* send("POST", "/logout", { cookie })).status, 204)
        }).pipe((effect) => serving(effect, form, site))
      })

      it.effect("never goes on with a session that was there before the login", () => {
        const site = siteOf({ maxPerUser: 1 })
        return Effect.gen(function*() {
          const sessions = yield* Session.open(site.definition)
          // Whoever has planted this one knows its token.
          const planted = yield* sessions.create({ userId: "Eve", data: { theme: "light", visits: 0 } })
          const ada = yield* browser()
          yield* Ref.set(ada.jar, `__Host-session=${Redacted.value(planted.token)}`)
          const first = parseSet((yield* ada.login("Ada")).set)
          assert.notStrictEqual(first.token, Redacted.value(planted.token))
          assert.strictEqual(yield* sessions.count("Eve"), 0)
          isUnauthorized(yield* send("GET", "/me", { cookie: `__Host-session=${Redacted.value(planted.token)}` }))
          assert.strictEqual((yield* ada.get("/me")).body.user, "Ada")
          // Her own earlier session ends as well, and takes no room.
          const second = parseSet((yield* ada.login("Ada")).set)
          assert.notStrictEqual(second.token, first.token)
          assert.strictEqual(yield* sessions.count("Ada"), 1)
          isUnauthorized(yield* send("GET", "/me", { cookie: `__Host-session=${first.token}` }))
          assert.strictEqual((yield* ada.get("/me")).status, 200)
        }).pipe((effect) => serving(effect, form, site))
      })

      it.effect("changes the token when the rights change, and when the user has proved again who it is", () => {
        const site = siteOf()
        return Effect.gen(function*() {
          const ada = yield* browser()
          let { token } = parseSet((yield* ada.login("Ada")).set)
          for (const path of ["/rotate", "/reauthenticate"]) {
            const { headers, set, status } = yield* ada.post(path)
            assert.deepStrictEqual([status, headers["cache-control"]], [200, "no-store"])
            const next = parseSet(set)
            assert.notStrictEqual(next.token, token)
            assert.strictEqual((yield* ada.get("/me")).status, 200)
            isUnauthorized(yield* send("GET", "/me", { cookie: `__Host-session=${token}` }))
            token = next.token
          }
          const nobody = yield* browser()
          isUnauthorized(yield* nobody.post("/rotate"))
        }).pipe((effect) => serving(effect, form, site))
      })

      it.effect("is not revived by a slow request", () => {
        const site = siteOf({ touchEvery: 0 })
        return Effect.gen(function*() {
          const ada = yield* browser()
          const { arrived, open } = yield* Gate
          yield* ada.login("Ada")
          const cookie = yield* Ref.get(ada.jar)
          const slow = yield* Effect.fork(send("POST", "/visit", { cookie }))
          yield* Deferred.await(arrived)
          assert.strictEqual((yield* ada.post("/logout")).set, CLEARED)
          yield* Deferred.succeed(open, undefined)
          isUnauthorized(yield* Fiber.join(slow))
          isUnauthorized(yield* send("GET", "/me", { cookie }))
          const sessions = yield* Session.open(site.definition)
          assert.strictEqual(yield* sessions.count("Ada"), 0)
          assert.deepStrictEqual(yield* sessions.listForUser("Ada"), [])
        }).pipe((effect) => serving(effect, form, site))
      })

      it.effect("logs out elsewhere, and everywhere", () => {
        const site = siteOf()
        return Effect.gen(function*() {
          const [phone, laptop, bob] = [yield* browser("Phone/1"), yield* browser("Laptop/1"), yield* browser()]
          yield* Effect.all([phone.login("Ada"), laptop.login("Ada"), bob.login("Bob")])
          assert.deepStrictEqual((yield* phone.post("/logout/others")).body, { ended: 1 })
          isUnauthorized(yield* laptop.get("/me"))
          assert.strictEqual((yield* phone.get("/me")).status, 200)

          yield* laptop.login("Ada")
          const { body, set } = yield* phone.post("/logout/everywhere")
          assert.deepStrictEqual([body, set], [{ ended: 2 }, CLEARED])
          for (const { get } of [phone, laptop]) assert.strictEqual((yield* get("/me")).status, 401)
          assert.strictEqual((yield* bob.get("/me")).status, 200)
          for (const path of ["/logout/others", "/logout/everywhere"]) {
            assert.deepStrictEqual((yield* phone.post(path)).body, UNAUTHORIZED)
          }
        }).pipe((effect) => serving(effect, form, site))
      })

      it.effect("ends the oldest session when there are too many, or refuses the newest", () => {
        const [evicting, rejecting] = [siteOf({ maxPerUser: 5 }), siteOf({ maxPerUser: 1, onLimit: "reject" })]
        return Effect.gen(function*() {
          yield* Effect.gen(function*() {
            const browsers = yield* Effect.all(Array.from({ length: 6 }, () => browser()))
            for (const { login } of browsers) {
              assert.strictEqual((yield* login("Ada")).status, 204)
              yield* tick
            }
            isUnauthorized(yield* browsers[0]!.get("/me"))
            for (const { get } of browsers.slice(1)) assert.strictEqual((yield* get("/me")).status, 200)
          }).pipe((effect) => serving(effect, form, evicting))
          yield* Effect.gen(function*() {
            const [first, second] = [yield* browser(), yield* browser()]
            yield* first.login("Ada")
            const { body, set, status } = yield* second.login("Ada")
            assert.deepStrictEqual([status, body, set], [
              409,
              { _tag: "TooManySessions", error: "Conflict", limit: 1 },
              undefined
            ])
            // The one that the request came with makes room.
            assert.strictEqual((yield* first.login("Ada")).status, 204)
            assert.strictEqual((yield* first.get("/me")).status, 200)
          }).pipe((effect) => serving(effect, form, rejecting))
        })
      })

      it.effect("has no use for cookies that are none of its own", () => {
        const site = siteOf()
        return Effect.gen(function*() {
          const [ada, eve] = [yield* browser(), yield* browser()]
          const { token } = parseSet((yield* ada.login("Ada")).set)
          const other = parseSet((yield* eve.login("Eve")).set).token
          const good = `__Host-session=${token}`
          for (
            const cookie of [
              "__Host-session=",
              "__Host-session",
              `__Host-session=${token}x`,
              `__Host-session="${token}"`,
              `__Host-session=${token.replace(".", "%2E")}`,
              `__Host-session=${token.slice(0, -1)}`,
              `__Host-session=${"a".repeat(8000)}`,
              "__Host-session=%F0%28%8C%28",
              "__Host-session=__proto__",
              // One of them was put there by somebody else.
              `${good}; __Host-session=${other}`,
              `__Host-session=${other}; ${good}`,
              `__Host-session=; ${good}`,
              // Another name: a browser lets anybody set it.
              `session=${token}`,
              `__host-session=${token}`,
              `__Secure-session=${token}`,
              `\u00a0${good}`,
              `\u0085${good}`,
              `x__Host-session=${token}`,
              `$Version=1; "__Host-session"=${token}`,
              `__Host-session\u00a0=${token}`,
              `a="; ${good.replace("=", ":")}"`
            ]
          ) {
            const { body, headers, set, status } = yield* send("GET", "/me", { cookie })
            assert.deepStrictEqual([status, body], [401, UNAUTHORIZED], cookie)
            assert.strictEqual(headers["cache-control"], "no-store")
            const shown = /(^|[ ;])__Host-session=/.test(cookie)
            assert.strictEqual(set, shown ? CLEARED : undefined, cookie)
          }
          // A token that nobody has.
          for (const none of [`${"A".repeat(22)}.${"A".repeat(43)}`, `${token.slice(0, 23)}${other.slice(23)}`]) {
            isUnauthorized(yield* send("GET", "/me", { cookie: `__Host-session=${none}` }))
          }
          for (
            const cookie of [
              good,
              `a=b; ${good}; c=d`,
              `;;=; =x; a;${good};`,
              ` \t__Host-session = ${token} `,
              `${good}; ${good}`,
              `${good}.${Number.MAX_SAFE_INTEGER.toString(36)}`
            ]
          ) {
            const { body, status } = yield* send("GET", "/me", { cookie, "user-agent": "x" })
            assert.deepStrictEqual([status, body?.user], [200, "Ada"], cookie)
          }
        }).pipe((effect) => serving(effect, form, site))
      })

      it.effect("refuses what the page of another site sends", () => {
        const site = siteOf()
        return Effect.gen(function*() {
          const ada = yield* browser()
          yield* ada.login("Ada")
          const cookie = yield* Ref.get(ada.jar)
          for (const path of ["/logout", "/logout/others", "/logout/everywhere"]) {
            const { body, set, status } = yield* send("POST", path, { cookie, "sec-fetch-site": "cross-site" })
            assert.deepStrictEqual([status, body, set], [
              403,
              { _tag: "CrossOriginRequest", error: "Forbidden" },
              undefined
            ])
          }
          const login = yield* send("POST", "/login", { origin: "https://evil.example" }, {
            name: "Eve",
            password: "right"
          })
          assert.deepStrictEqual([login.status, login.set], [403, undefined])
          assert.strictEqual((yield* ada.get("/me")).status, 200)
        }).pipe((effect) => serving(effect, form, site))
      })
    })
  }
}
