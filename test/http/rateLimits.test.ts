import {
  HttpApi,
  HttpApiBuilder,
  HttpApiClient,
  HttpApiEndpoint,
  HttpApiError,
  HttpApiGroup,
  HttpApiMiddleware,
  HttpApiSecurity,
  HttpApp,
  HttpLayerRouter,
  HttpRouter,
  HttpServer,
  HttpServerRequest,
  HttpServerResponse,
  OpenApi
} from "@effect/platform"
import { NodeHttpServer } from "@effect/platform-node"
import { assert, describe, it } from "@effect/vitest"
import { Context, Deferred, Effect, Fiber, Layer, Option, Redacted, Schedule, Schema, TestClock } from "effect"
import { inject } from "vitest"
import * as RateLimits from "../../src/http/RateLimits.js"
import * as RateLimiter from "../../src/RateLimiter/index.js"
import * as RedisTestServer from "../../src/RedisTestServer.js"
import * as FaultProxy from "../kit/FaultProxy.js"
import { liveWith } from "../kit/layers.js"
import { byUser, formNames, get, handled, many, policyOf, serving, statuses } from "./rateLimitsSuite.js"
import { warnings, whileTimePasses } from "./support.js"
import "../kit/globalSetup.js"

const { Fault } = RedisTestServer

for (const form of formNames) {
  describe(`${form}, when Redis is away`, () => {
    const away = Effect.flatMap(
      RedisTestServer.RedisTestServer,
      (server) => server.inject(Fault.failBeforeSend({ times: 10_000 }))
    )

    it.effect("answers 503, unless the policy knows better", () => {
      const policy = policyOf(3)
      return Effect.gen(function*() {
        const fault = yield* away
        const { body, headers, status } = yield* get("/hello")
        assert.strictEqual(status, 503)
        assert.deepStrictEqual(body, { _tag: "RateLimitUnavailable", error: "Service Unavailable" })
        assert.isUndefined(headers["ratelimit"])
        yield* fault.withdraw
        assert.deepStrictEqual(statuses(yield* many(5, "/hello")), { 200: 3, 429: 2 })
      }).pipe(
        (effect) => serving(effect, form, { charge: byUser(policy) }),
        whileTimePasses,
        warnings,
        Effect.map((texts) => {
          assert.lengthOf(texts, 1)
          assert.include(texts[0], "a rate limit could not be checked")
        }),
        Effect.provide(RateLimiter.layerTest)
      )
    })

    it.effect("lets everybody through, if the policy says so", () => {
      const policy = policyOf(3, { onUnavailable: "allow" })
      return Effect.gen(function*() {
        yield* away
        const answers = yield* many(10, "/hello")
        assert.deepStrictEqual(statuses(answers), { 200: 10 })
        assert.isUndefined(answers[0]!.headers["ratelimit"])
        assert.strictEqual(answers[0]!.headers["ratelimit-policy"], `"${policy.name}";q=3;w=60`)
      }).pipe(
        (effect) => serving(effect, form, { charge: byUser(policy) }),
        whileTimePasses,
        Effect.provide(RateLimiter.layerTest)
      )
    })

    it.effect("counts by itself, if the policy says so", () => {
      const policy = policyOf(3, { onUnavailable: "local" })
      return Effect.gen(function*() {
        yield* away
        const answers = yield* many(10, "/hello")
        assert.deepStrictEqual(statuses(answers), { 200: 3, 429: 7 })
        assert.match(answers[0]!.headers["ratelimit"] ?? "", /;r=\d;t=\d+$/)
      }).pipe(
        (effect) => serving(effect, form, { charge: byUser(policy) }),
        whileTimePasses,
        Effect.provide(RateLimiter.layerTest)
      )
    })

    it.effect("does not go on when the client is gone before Redis has answered", () => {
      const policy = policyOf(3)
      return Effect.gen(function*() {
        const interrupted = yield* Deferred.make<void>()
        const limiter = yield* RateLimiter.RateLimiter
        const watched = RateLimiter.RateLimiter.of({
          ...limiter,
          consume: (...args) =>
            Effect.onInterrupt(limiter.consume(...args), () => Deferred.succeed(interrupted, undefined))
        })
        yield* Effect.gen(function*() {
          const server = yield* RedisTestServer.RedisTestServer
          // The script is known from now on.
          yield* get("/hello", { "x-user": "Ada" })
          const slow = yield* server.inject(Fault.delay("1 second"))
          const request = yield* Effect.fork(get("/hello"))
          while ((yield* slow.happened) === 0) yield* Effect.promise(() => new Promise(setImmediate))
          yield* Fiber.interrupt(request)
          yield* Deferred.await(interrupted)
          // What was sent is executed, and stays charged.
          yield* TestClock.adjust("1 second")
          assert.strictEqual(yield* handled, 1)
          assert.deepStrictEqual(statuses(yield* many(5, "/hello")), { 200: 2, 429: 3 })
          // One timer of the client may be set for a deadline that was met.
          yield* TestClock.adjust("1 hour")
          assert.deepStrictEqual(Array.from(yield* TestClock.sleeps()), [])
        }).pipe(
          (effect) => serving(effect, form, { charge: byUser(policy) }),
          Effect.provideService(RateLimiter.RateLimiter, watched)
        )
      }).pipe(Effect.provide(RateLimiter.layerTest))
    })
  })
}

for (const form of ["middleware of a server", "middleware of an API"] as const) {
  it.scopedLive(`${form}: comes back by itself`, () =>
    Effect.gen(function*() {
      const url = new URL(inject("redisUrl"))
      const proxy = yield* FaultProxy.make({ host: url.hostname, port: Number(url.port || 6379) })
      url.hostname = proxy.host
      url.port = String(proxy.port)
      const redis = Layer.provide(
        RateLimiter.layer,
        liveWith({ url: Redacted.make(url.href), commandTimeout: "1 second" })
      )
      yield* Effect.forEach(["fail", "allow", "local"] as const, (onUnavailable) =>
        Effect.gen(function*() {
          assert.strictEqual((yield* get("/hello")).status, 200)
          for (const trouble of [proxy.refuse, proxy.stall()]) {
            yield* trouble
            const { status } = yield* get("/hello")
            assert.strictEqual(status, onUnavailable === "fail" ? 503 : 200)
            yield* Effect.zipRight(proxy.accept, proxy.resume)
            yield* Effect.repeat(get("/hello"), {
              until: ({ headers, status }) => status === 200 && headers["ratelimit"] !== undefined,
              schedule: Schedule.spaced("20 millis")
            })
          }
        }).pipe((effect) =>
          serving(effect, form, { charge: byUser(policyOf(1_000_000, { algorithm: "gcra", onUnavailable })) })
        )).pipe(Effect.provide(redis))
    }).pipe(warnings))
}

class CurrentUser extends Context.Tag("test/CurrentUser")<
  CurrentUser,
  { readonly id: string; readonly premium: boolean }
>() {}

class Authorization extends HttpApiMiddleware.Tag<Authorization>()("test/Authorization", {
  failure: HttpApiError.Unauthorized,
  provides: CurrentUser,
  security: { bearer: HttpApiSecurity.bearer }
}) {}

const AuthorizationLive = Layer.succeed(Authorization, {
  bearer: (token) => {
    const id = Redacted.value(token)
    return id === ""
      ? Effect.fail(new HttpApiError.Unauthorized())
      : Effect.succeed({ id, premium: id.startsWith("premium") })
  }
})

/** One that has failures of its own. */
class Picky extends HttpApiMiddleware.Tag<Picky>()("test/Picky", {
  failure: Schema.Union(RateLimits.Failure, HttpApiError.Forbidden)
}) {}

const Api = HttpApi.make("api").add(
  HttpApiGroup.make("books")
    .add(HttpApiEndpoint.get("list", "/books").addSuccess(Schema.String))
    .add(
      HttpApiEndpoint.get("search", "/books/search/:text").setPath(Schema.Struct({ text: Schema.String })).addSuccess(
        Schema.String
      ).annotate(RateLimits.Cost, 5)
    )
    .middleware(RateLimits.RateLimit)
    .middleware(Authorization)
    .prefix("/v1")
).add(
  HttpApiGroup.make("exports")
    .annotate(RateLimits.Cost, 4)
    .add(HttpApiEndpoint.get("start", "/exports").addSuccess(Schema.String).middleware(Picky))
    .add(HttpApiEndpoint.get("free", "/free").addSuccess(Schema.String))
)

class Service extends Context.Tag("test/Service")<Service, { readonly blocked: string }>() {}

const servingApi = <A, E, R>(effect: Effect.Effect<A, E, R>, policy: RateLimiter.Policy) => {
  const group = Layer.merge(
    HttpApiBuilder.group(Api, "books", (handlers) =>
      handlers
        .handle("list", () => Effect.map(CurrentUser, ({ id }) => `the books of ${id}`))
        .handle("search", ({ path }) => Effect.succeed(path.text))),
    HttpApiBuilder.group(Api, "exports", (handlers) =>
      handlers
        .handle("start", () => Effect.succeed("started"))
        .handle("free", () => Effect.succeed("free")))
  )
  const limits = Layer.merge(
    RateLimits.layerApi(RateLimits.RateLimit, {
      api: Api,
      charge: Effect.map(Effect.serviceOption(CurrentUser), (user) =>
        Option.match(user, {
          onNone: () => ({ policy, id: "nobody" }),
          onSome: ({ id, premium }) => ({ policy, id, limit: premium ? 20 : undefined })
        }))
    }),
    RateLimits.layerApi(Picky, {
      api: Api,
      charge: Effect.gen(function*() {
        const { blocked } = yield* Service
        const { headers } = yield* HttpServerRequest.HttpServerRequest
        if (headers["x-user"] === blocked) return yield* new HttpApiError.Forbidden()
        return { policy, id: headers["x-user"] ?? "nobody" }
      })
    })
  )
  return Effect.provide(
    effect,
    HttpApiBuilder.serve().pipe(
      Layer.provide(HttpApiBuilder.api(Api)),
      Layer.provide(group),
      // What a request has counts, and not what was there when the layer was built.
      Layer.provide(Layer.provide(limits, Layer.succeed(CurrentUser, { id: "of the layer", premium: false }))),
      Layer.provide(AuthorizationLive),
      Layer.provide(Layer.succeed(Service, { blocked: "Eve" })),
      Layer.provideMerge(NodeHttpServer.layerTest)
    )
  )
}

describe("rate limits of an API", () => {
  it.effect("are typed for its client", () => {
    const policy = policyOf(6)
    return Effect.gen(function*() {
      const client = yield* HttpApiClient.make(Api)
      yield* client.exports.start()
      const failure = yield* Effect.flip(client.exports.start())
      assert.instanceOf(failure, RateLimits.TooManyRequests)
      assert.deepInclude({ ...failure }, { policy: policy.name, limit: 6, remaining: 2, retryAfter: 60 })
      assert.strictEqual(failure.message, `the limit "${policy.name}" (6) is used up`)
      const server = yield* RedisTestServer.RedisTestServer
      yield* server.become("loading")
      assert.instanceOf(yield* whileTimePasses(Effect.flip(client.exports.start())), RateLimits.RateLimitUnavailable)
    }).pipe((effect) => servingApi(effect, policy), warnings, Effect.provide(RateLimiter.layerTest))
  })

  it.effect("charge an endpoint with its cost, and know who was authorized", () => {
    const policy = policyOf(12)
    const as = (user: string) => ({ authorization: `Bearer ${user}` })
    return Effect.gen(function*() {
      const used = (user: string) => RateLimiter.count(policy, user)
      assert.strictEqual((yield* get("/v1/books", as("Ada"))).body, "the books of Ada")
      assert.strictEqual(yield* used("Ada"), 1)
      assert.strictEqual((yield* get("/v1/books/search/x", as("Ada"))).status, 200)
      assert.strictEqual(yield* used("Ada"), 6)
      assert.strictEqual((yield* get("/v1/books/search/y", as("Ada"))).status, 200)
      assert.strictEqual((yield* get("/v1/books/search/z", as("Ada"))).status, 429)
      // What was refused was not charged.
      assert.strictEqual((yield* get("/v1/books", as("Ada"))).status, 200)
      assert.strictEqual(yield* used("Ada"), 12)
      assert.deepStrictEqual(statuses(yield* many(25, "/v1/books", as("premium-Bob"))), { 200: 20, 429: 5 })
      // Who is not authorized is not charged.
      assert.strictEqual((yield* get("/v1/books")).status, 401)
      assert.strictEqual(yield* used("nobody"), 0)
      assert.strictEqual((yield* get("/exports", { "x-user": "Cid" })).status, 200)
      assert.strictEqual(yield* used("Cid"), 4)
      assert.isUndefined((yield* get("/free")).headers["ratelimit"])
    }).pipe((effect) => servingApi(effect, policy), Effect.provide(RateLimiter.layerTest))
  })

  it.effect("may fail with whatever else their tag fails with, and with nothing else", () => {
    const policy = policyOf(12)
    RateLimits.layerApi(RateLimits.RateLimit, {
      // @ts-expect-error the tag does not have this failure
      // @effect-diagnostics-next-line missingEffectError:off
      charge: Effect.fail(new HttpApiError.Forbidden())
    })
    return Effect.gen(function*() {
      assert.strictEqual((yield* get("/exports", { "x-user": "Eve" })).status, 403)
      assert.strictEqual(yield* RateLimiter.count(policy, "Eve"), 0)
    }).pipe((effect) => servingApi(effect, policy), Effect.provide(RateLimiter.layerTest))
  })

  it.effect("may stand at the whole of it, and then concern whatever it is asked for", () => {
    const policy = policyOf(3)
    const Whole = HttpApi.make("whole").add(
      HttpApiGroup.make("books").add(
        HttpApiEndpoint.get("list", "/books").addSuccess(Schema.String).annotate(RateLimits.Cost, 2)
      )
    ).middleware(RateLimits.RateLimit)
    const handlers = HttpApiBuilder.group(Whole, "books", (books) => books.handle("list", () => Effect.succeed("all")))
    const limits = RateLimits.layerApi(RateLimits.RateLimit, { api: Whole, charge: byUser(policy) })
    const quiet = { disableLogger: true, disableListenLog: true }
    const servers = [
      HttpApiBuilder.serve().pipe(
        Layer.provide(HttpApiBuilder.api(Whole)),
        Layer.provide(handlers),
        Layer.provide(limits)
      ),
      HttpLayerRouter.serve(HttpLayerRouter.addHttpApi(Whole), quiet).pipe(
        Layer.provide(handlers),
        Layer.provide(limits)
      )
    ] as const
    return Effect.gen(function*() {
      yield* Effect.gen(function*() {
        assert.strictEqual((yield* get("/nothing")).status, 404)
        assert.deepStrictEqual(statuses(yield* many(4, "/books")), { 200: 2, 429: 2 })
      }).pipe(Effect.provide(Layer.provideMerge(servers[0], NodeHttpServer.layerTest)))
      yield* RateLimiter.reset(policy, "nobody")
      // Here it runs for each route, so it knows the endpoint.
      yield* Effect.gen(function*() {
        assert.deepStrictEqual(statuses(yield* many(4, "/books")), { 200: 1, 429: 3 })
      }).pipe(Effect.provide(Layer.provideMerge(servers[1], NodeHttpServer.layerTest)))
    }).pipe(Effect.provide(RateLimiter.layerTest))
  })

  it("are a part of its documentation", () => {
    const responses = OpenApi.fromApi(Api).paths["/v1/books"]?.get?.responses
    assert.include(JSON.stringify(responses?.["429"]), "TooManyRequests")
    assert.include(JSON.stringify(responses?.["503"]), "RateLimitUnavailable")
  })
})

describe("rate limits of an app", () => {
  const hello = HttpRouter.empty.pipe(HttpRouter.get("/hello", HttpServerResponse.text("hello")))

  const serve = <A, E, R, E2, R2>(effect: Effect.Effect<A, E, R>, app: HttpApp.Default<E2, R2>) =>
    Effect.provide(effect, Layer.provideMerge(HttpServer.serve(app), NodeHttpServer.layerTest))

  it.effect("may be several, each with its headers", () => {
    const [outer, inner] = [policyOf(5), policyOf(3)]
    const app = hello.pipe(
      RateLimits.middleware({ charge: byUser(inner), headers: "both" }),
      RateLimits.middleware({ charge: byUser(outer), headers: "both" })
    )
    return Effect.gen(function*() {
      for (const [i, status] of [200, 200, 200, 429, 429, 429].entries()) {
        const answer = yield* get("/hello")
        assert.strictEqual(answer.status, status)
        const policies = answer.headers["ratelimit-policy"]!.split(", ").sort()
        const [a, b] = [`"${outer.name}";q=5;w=60`, `"${inner.name}";q=3;w=60`]
        // The inner one is not asked when the outer one has refused.
        assert.deepStrictEqual(policies, i < 5 ? [a, b].sort() : [a])
        assert.strictEqual(answer.headers["x-ratelimit-limit"], i < 5 ? "3" : "5")
      }
      assert.strictEqual(yield* RateLimiter.count(inner, "nobody"), 3)
    }).pipe((effect) => serve(effect, app), Effect.provide(RateLimiter.layerTest))
  })

  it.effect("answer with the failure of a charge", () => {
    const app = hello.pipe(
      RateLimits.middleware({ charge: Effect.fail(HttpServerResponse.text("who are you?", { status: 401 })) })
    )
    return Effect.gen(function*() {
      const { body, status } = yield* get("/hello")
      assert.deepStrictEqual([status, body], [401, "who are you?"])
    }).pipe((effect) => serve(effect, app), Effect.provide(RateLimiter.layerTest))
  })

  it.effect("work in a web handler", () => {
    const policy = policyOf(1)
    return Effect.gen(function*() {
      const runtime = yield* Effect.runtime<RateLimiter.RateLimiter>()
      const handler = HttpApp.toWebHandlerRuntime(runtime)(
        hello.pipe(RateLimits.middleware({ charge: byUser(policy) }))
      )
      const [first, second] = [
        yield* Effect.promise(() => handler(new Request("http://x/hello"))),
        yield* Effect.promise(() => handler(new Request("http://x/hello")))
      ]
      assert.deepStrictEqual([first.status, second.status], [200, 429])
      assert.strictEqual(first.headers.get("ratelimit"), `"${policy.name}";r=0;t=60`)
    }).pipe(Effect.provide(RateLimiter.layerTest))
  })
})
