/**
 * Rate limits in all their forms, over real HTTP.
 */
import {
  HttpApi,
  HttpApiBuilder,
  HttpApiEndpoint,
  HttpApiGroup,
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
import { Chunk, Clock, Deferred, Duration, Effect, Layer, Option, Ref, Schema, Stream } from "effect"
import * as ClientAddress from "../../src/http/ClientAddress.js"
import * as RateLimitHeaders from "../../src/http/RateLimitHeaders.js"
import * as RateLimits from "../../src/http/RateLimits.js"
import * as RateLimiter from "../../src/RateLimiter/index.js"
import { RedisClient } from "../../src/RedisClient.js"
import type { RedisError, RedisInputError } from "../../src/RedisError.js"
import { fresh } from "../kit/suites.js"

type Options = RateLimits.Options<RedisInputError, HttpServerRequest.HttpServerRequest>

/** How often handlers ran; and a handler that never ends. */
class Handled extends Effect.Service<Handled>()("test/Handled", {
  effect: Effect.all({ times: Ref.make(0), waiting: Deferred.make<void>(), interrupted: Deferred.make<void>() })
}) {}

const hello = Effect.flatMap(Handled, ({ times }) => Effect.as(Ref.update(times, (n) => n + 1), "hello"))

const broken = Effect.zipRight(hello, Effect.dieMessage("broken on purpose"))

const endless = Effect.flatMap(
  Handled,
  ({ interrupted, waiting }) =>
    Effect.zipRight(Deferred.succeed(waiting, undefined), Effect.never).pipe(
      Effect.interruptible,
      Effect.onInterrupt(() => Deferred.succeed(interrupted, undefined))
    )
)

const router = HttpRouter.empty.pipe(
  HttpRouter.get("/hello", Effect.map(hello, HttpServerResponse.text)),
  HttpRouter.get("/broken", broken),
  HttpRouter.get("/endless", endless)
)

const routes = Layer.mergeAll(
  HttpLayerRouter.add("GET", "/hello", Effect.map(hello, (text) => HttpServerResponse.text(text))),
  HttpLayerRouter.add("GET", "/broken", broken),
  HttpLayerRouter.add("GET", "/endless", endless)
)

const endpoints = HttpApiGroup.make("endpoints")
  .add(HttpApiEndpoint.get("hello", "/hello").addSuccess(Schema.String))
  .add(HttpApiEndpoint.get("broken", "/broken").addSuccess(Schema.String))
  .add(HttpApiEndpoint.get("endless", "/endless"))

const Limited = HttpApi.make("limited").add(endpoints.middleware(RateLimits.RateLimit))

const quiet = { disableLogger: true, disableListenLog: true }

const apiHandlers = (options: Options) =>
  HttpApiBuilder.group(
    Limited,
    "endpoints",
    (handlers) => handlers.handle("hello", () => hello).handle("broken", () => broken).handle("endless", () => endless)
  ).pipe(Layer.provide(RateLimits.layerApi(RateLimits.RateLimit, options)))

const forms = {
  "middleware of an app": (options: Options) => router.pipe(RateLimits.middleware(options), HttpServer.serve()),
  "middleware of a server": (options: Options) => HttpServer.serve(router, RateLimits.middleware(options)),
  "middleware of some routes": (options: Options) =>
    HttpLayerRouter.serve(Layer.provide(routes, RateLimits.routerMiddleware(options).layer), quiet),
  "middleware of all routes": (options: Options) =>
    HttpLayerRouter.serve(Layer.merge(routes, RateLimits.layerRouter(options)), quiet),
  "middleware of an API": (options: Options) =>
    HttpApiBuilder.serve().pipe(Layer.provide(HttpApiBuilder.api(Limited)), Layer.provide(apiHandlers(options))),
  "middleware of an API in a router": (options: Options) =>
    HttpLayerRouter.serve(Layer.provide(HttpLayerRouter.addHttpApi(Limited), apiHandlers(options)), quiet)
}

export type Form = keyof typeof forms

export const formNames = Object.keys(forms) as ReadonlyArray<Form>

/** Runs with a server of this form on the limiter of the environment, and an HTTP client of that. */
export const serving = <A, E, R>(
  effect: Effect.Effect<A, E, R | HttpClient.HttpClient | Handled>,
  form: Form,
  options: Options
) => {
  const server: Layer.Layer<
    never,
    never,
    | HttpServer.HttpServer
    | RateLimiter.RateLimiter
    | Handled
    | Layer.Layer.Success<typeof NodeHttpServer.layerTest>
  > = forms[form](options)
  return Effect.provide(
    effect,
    Layer.provideMerge(server, Layer.merge(NodeHttpServer.layerTest, Handled.Default))
  )
}

export const policyOf = (
  limit: number,
  options?: Partial<RateLimiter.Policy>
): RateLimiter.Policy =>
  RateLimiter.policy({ name: fresh("http"), limit, window: "1 minute", algorithm: "sliding-window", ...options })

/** Whoever the request says that it is from. */
export const byUser = (policy: RateLimits.Charge["policy"], options?: RateLimiter.ConsumeOptions) =>
  Effect.map(HttpServerRequest.HttpServerRequest, ({ headers }): RateLimits.Charge => ({
    policy,
    id: headers["x-user"] ?? "nobody",
    ...options
  }))

export interface Answer {
  readonly status: number
  readonly headers: Readonly<Record<string, string>>
  readonly body: unknown
}

const json = (text: string): unknown => text.startsWith("{") || text.startsWith("\"") ? JSON.parse(text) : text

export const get = (
  path: string,
  headers: Readonly<Record<string, string>> = {}
): Effect.Effect<Answer, never, HttpClient.HttpClient> =>
  Effect.flatMap(HttpClient.HttpClient, (client) =>
    client.execute(HttpClientRequest.get(path, { headers })).pipe(
      Effect.flatMap((response) =>
        Effect.map(response.text, (text) => ({
          status: response.status,
          headers: response.headers,
          body: json(text)
        }))
      ),
      Effect.orDie
    ))

export const many = (times: number, path: string, headers?: Readonly<Record<string, string>>) =>
  Effect.all(Array.from({ length: times }, () => get(path, headers)), { concurrency: 20 })

export const statuses = (answers: ReadonlyArray<Answer>): Readonly<Record<number, number>> => {
  const counts: Record<number, number> = {}
  for (const { status } of answers) counts[status] = (counts[status] ?? 0) + 1
  return counts
}

export const handled = Effect.flatMap(Handled, ({ times }) => Ref.get(times))

const LIMITS = ["ratelimit-policy", "ratelimit", "x-ratelimit-limit", "x-ratelimit-remaining"]

const pick = (headers: Readonly<Record<string, string>>, names: ReadonlyArray<string>) =>
  Object.fromEntries(names.map((name) => [name, headers[name]]))

/** What `t` and the epoch say may be a second less when it is read again. */
const about = (actual: string | undefined, expected: string | undefined) =>
  assert.closeTo(Number(actual), Number(expected), 1)

export const suite = (
  name: string,
  driver: Layer.Layer<RedisClient, RedisError>,
  options: { readonly excludeTestServices?: boolean },
  names = formNames
) => {
  for (const form of names) {
    layer(Layer.orDie(Layer.provideMerge(RateLimiter.layer, driver)), options)(`${form}, ${name}`, (it) => {
      it.effect("lets exactly as many through as there may be", () => {
        const policies = [policyOf(7), policyOf(7, { algorithm: "fixed-window", window: "30 days" })]
        return Effect.forEach(policies, (policy) =>
          Effect.gen(function*() {
            const answers = yield* many(20, "/hello", { "x-user": "Ada" })
            assert.deepStrictEqual(statuses(answers), { 200: 7, 429: 13 })
            assert.strictEqual(yield* handled, 7)
            assert.strictEqual(yield* RateLimiter.count(policy, "Ada"), 7)
            assert.deepStrictEqual(statuses(yield* many(2, "/hello", { "x-user": "Bob" })), { 200: 2 })
          }).pipe((effect) => serving(effect, form, { charge: byUser(policy) })))
      })

      it.effect("tells what was decided, in the headers of every response", () => {
        const policy = policyOf(4)
        return Effect.gen(function*() {
          const paths = ["/hello", "/broken", "/hello", "/hello", "/hello"]
          for (const [i, path] of paths.entries()) {
            const { body, headers, status } = yield* get(path, { "x-user": "Ada" })
            assert.strictEqual(status, i === 4 ? 429 : path === "/broken" ? 500 : 200)
            const decision = i < 4
              ? yield* RateLimiter.check(policy, "Ada")
              : { ...yield* RateLimiter.consume(policy, "Ada"), allowed: false }
            assert.strictEqual(decision.remaining, Math.max(0, 3 - i))
            const expected = RateLimitHeaders.make(decision, "both", yield* Clock.currentTimeMillis)
            const names = LIMITS.filter((name) => name !== "ratelimit")
            assert.deepStrictEqual(pick(headers, names), pick(expected, names))
            const member = /^"(.*)";r=(\d+);t=(\d+)$/.exec(headers["ratelimit"] ?? "")
            assert.deepStrictEqual(member?.slice(1, 3), [policy.name, String(decision.remaining)])
            about(member?.[3], /t=(\d+)$/.exec(expected["ratelimit"]!)?.[1])
            about(headers["x-ratelimit-reset"], expected["x-ratelimit-reset"])
            if (status === 429) {
              about(headers["retry-after"], expected["retry-after"])
              assert.deepStrictEqual(body, {
                _tag: "TooManyRequests",
                error: "Too Many Requests",
                policy: policy.name,
                limit: 4,
                remaining: 0,
                retryAfter: Number(headers["retry-after"])
              })
            } else {
              assert.isUndefined(headers["retry-after"])
            }
          }
        }).pipe((effect) => serving(effect, form, { charge: byUser(policy), headers: "both" }))
      })

      it.effect("has the headers of the style that is wanted, and Retry-After in any case", () =>
        Effect.forEach(["ietf", "legacy", "both", "none", undefined] as const, (style) => {
          const policy = policyOf(1)
          return Effect.gen(function*() {
            for (const refused of [false, true]) {
              const { headers } = yield* get("/hello")
              const has = (name: string) => headers[name] !== undefined
              const ietf = style === undefined || style === "ietf" || style === "both"
              for (const name of LIMITS) {
                assert.strictEqual(
                  has(name),
                  name.startsWith("x-") ? style === "legacy" || style === "both" : ietf,
                  name
                )
              }
              assert.strictEqual(has("retry-after"), refused)
            }
          }).pipe((effect) =>
            serving(effect, form, { charge: byUser(policy), ...(style !== undefined && { headers: style }) })
          )
        }))

      it.effect("has one count for all tiers of a user", () => {
        const policy = policyOf(3)
        const limits: Readonly<Record<string, number>> = { premium: 10, authenticated: 5 }
        const charge = Effect.map(HttpServerRequest.HttpServerRequest, ({ headers }) => ({
          policy,
          id: headers["x-user"] ?? "nobody",
          limit: limits[headers["x-tier"] ?? ""]
        }))
        const as = (tier: string) => ({ "x-user": "Ada", "x-tier": tier })
        return Effect.gen(function*() {
          assert.deepStrictEqual(statuses(yield* many(8, "/hello", as("anonymous"))), { 200: 3, 429: 5 })
          assert.deepStrictEqual(statuses(yield* many(8, "/hello", as("authenticated"))), { 200: 2, 429: 6 })
          assert.deepStrictEqual(statuses(yield* many(8, "/hello", as("premium"))), { 200: 5, 429: 3 })
          const { headers } = yield* get("/hello", as("premium"))
          assert.strictEqual(headers["ratelimit-policy"], `"${policy.name}";q=10;w=60`)
        }).pipe((effect) => serving(effect, form, { charge }))
      })

      it.effect("charges several limits at once, of one identifier or of several ones", () => {
        const [second, day] = [policyOf(3), policyOf(100, { window: "1 day" })]
        const [user, everybody] = [policyOf(2), policyOf(3)]
        return Effect.gen(function*() {
          yield* Effect.gen(function*() {
            assert.deepStrictEqual(statuses(yield* many(9, "/hello")), { 200: 3, 429: 6 })
            assert.strictEqual(yield* RateLimiter.count(day, "nobody"), 3)
            const { headers } = yield* get("/hello")
            assert.strictEqual(headers["ratelimit-policy"], `"${second.name}";q=3;w=60, "${day.name}";q=100;w=86400`)
            assert.match(headers["ratelimit"] ?? "", /;r=0;t=\d+, .*;r=97;t=\d+$/)
          }).pipe((effect) => serving(effect, form, { charge: byUser([second, day]) }))
          yield* Effect.gen(function*() {
            assert.deepStrictEqual(statuses(yield* many(5, "/hello", { "x-user": "Ada" })), { 200: 2, 429: 3 })
            assert.deepStrictEqual(statuses(yield* many(5, "/hello", { "x-user": "Bob" })), { 200: 1, 429: 4 })
          }).pipe((effect) =>
            serving(effect, form, {
              charge: Effect.map(HttpServerRequest.HttpServerRequest, ({ headers }) => [
                { policy: user, id: headers["x-user"]! },
                { policy: everybody, id: "all" }
              ])
            })
          )
        })
      })

      it.effect("refuses for ever what costs more than there ever is", () => {
        const policy = policyOf(5)
        return Effect.gen(function*() {
          const { body, headers, status } = yield* get("/hello")
          assert.strictEqual(status, 429)
          assert.isUndefined(headers["retry-after"])
          assert.notProperty(body, "retryAfter")
          assert.strictEqual(yield* RateLimiter.count(policy, "nobody"), 0)
        }).pipe((effect) => serving(effect, form, { charge: byUser(policy, { cost: 6 }) }))
      })

      it.effect("leaves out what is not to be charged", () => {
        const policy = policyOf(1)
        return Effect.gen(function*() {
          const skipped = yield* many(5, "/hello", { "x-user": "monitor" })
          assert.deepStrictEqual(statuses(skipped), { 200: 5 })
          assert.isUndefined(skipped[0]!.headers["ratelimit"])
          assert.deepStrictEqual(statuses(yield* many(5, "/hello")), { 200: 1, 429: 4 })
        }).pipe((effect) =>
          serving(effect, form, { charge: byUser(policy), skip: ({ headers }) => headers["x-user"] === "monitor" })
        )
      })

      it.effect("is not evaded by addresses that a client makes up", () => {
        const charge = (options?: ClientAddress.Options) => (policy: RateLimiter.Policy): Options => ({
          charge: Effect.map(ClientAddress.fromRequest({ ipv6Prefix: 128, ...options }), (id) => ({ policy, id }))
        })
        const rotating = (behind = "") =>
          Effect.all(
            Array.from({ length: 8 }, (_, i) =>
              get("/hello", {
                "x-forwarded-for": `203.0.113.${i}${behind}`,
                "forwarded": `for=203.0.113.${i}`,
                "x-real-ip": `203.0.113.${i}`
              })),
            { concurrency: 20 }
          )
        return Effect.gen(function*() {
          // Without a proxy.
          const direct = policyOf(3)
          yield* Effect.gen(function*() {
            assert.deepStrictEqual(statuses(yield* rotating()), { 200: 3, 429: 5 })
          }).pipe((effect) => serving(effect, form, charge()(direct)))
          // A proxy has appended what it saw.
          const proxied = policyOf(3)
          yield* Effect.gen(function*() {
            assert.deepStrictEqual(statuses(yield* rotating(", 198.51.100.7")), { 200: 3, 429: 5 })
            assert.strictEqual(yield* RateLimiter.count(proxied, "198.51.100.7"), 3)
            assert.strictEqual((yield* get("/hello", { "x-forwarded-for": "198.51.100.8" })).status, 200)
          }).pipe((effect) => serving(effect, form, charge({ trustedProxies: ClientAddress.privateNetworks })(proxied)))
        })
      })

      it.effect("survives a client that goes away, and charges it", () => {
        const policy = policyOf(3)
        return Effect.gen(function*() {
          const { interrupted, waiting } = yield* Handled
          yield* Effect.raceFirst(Effect.asVoid(get("/endless")), Deferred.await(waiting))
          yield* Deferred.await(interrupted)
          assert.deepStrictEqual(statuses(yield* many(5, "/hello")), { 200: 2, 429: 3 })
          const client = yield* RedisClient
          const keys = Chunk.toReadonlyArray(yield* Stream.runCollect(client.scan({ match: `*${policy.name}*` })))
          assert.isAbove(keys.length, 0)
          for (const key of keys) assert.isTrue(Option.exists(yield* client.ttl(key), Duration.isFinite), key)
        }).pipe((effect) => serving(effect, form, { charge: byUser(policy) }))
      })

      it.effect("answers a policy that means nothing with 500, and does not go on", () => {
        const mistaken: ReadonlyArray<Options["charge"]> = [
          byUser(policyOf(0)),
          byUser(policyOf(5), { cost: 0.5 }),
          byUser(policyOf(5, { window: 0 })),
          Effect.map(ClientAddress.fromRequest({ hops: -1 }), (id) => ({ policy: policyOf(5), id }))
        ]
        return Effect.forEach(mistaken, (charge) =>
          Effect.gen(function*() {
            assert.strictEqual((yield* get("/hello")).status, 500)
            assert.strictEqual(yield* handled, 0)
          }).pipe((effect) => serving(effect, form, { charge })))
      })
    })
  }
}
