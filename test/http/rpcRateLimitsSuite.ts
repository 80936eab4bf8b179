/**
 * Rate limits of procedures, called over real HTTP.
 */
import { HttpClient, HttpClientRequest, HttpLayerRouter } from "@effect/platform"
import { NodeHttpServer } from "@effect/platform-node"
import { Rpc, RpcClient, RpcGroup, RpcMiddleware, RpcSerialization, RpcServer } from "@effect/rpc"
import { assert, layer } from "@effect/vitest"
import { Context, Effect, Either, Layer, Ref, Schema } from "effect"
import * as RateLimits from "../../src/http/RateLimits.js"
import * as RpcRateLimits from "../../src/http/RpcRateLimits.js"
import * as RateLimiter from "../../src/RateLimiter/index.js"
import type { RedisClient } from "../../src/RedisClient.js"
import type { RedisError } from "../../src/RedisError.js"
import { policyOf } from "./rateLimitsSuite.js"

class Unknown extends Schema.TaggedError<Unknown>()("Unknown", {}) {}

/** One that has failures of its own. */
class Picky extends RpcMiddleware.Tag<Picky>()("test/Picky", {
  failure: Schema.Union(RateLimits.Failure, Unknown)
}) {}

class Users extends Context.Tag("test/Users")<Users, { readonly find: (token: string | undefined) => string }>() {}

const Books = RpcGroup.make(
  Rpc.make("List", { success: Schema.String }),
  Rpc.make("Search", { payload: { text: Schema.String }, success: Schema.String }).annotate(RateLimits.Cost, 5),
  Rpc.make("Ping", { success: Schema.String })
).middleware(RpcRateLimits.RateLimit).add(
  Rpc.make("Export", { success: Schema.String }).middleware(Picky)
)

export const client = RpcClient.make(Books)

/** Runs with a server on the limiter of the environment, and what a client of that needs. */
export const serving = <A, E, R>(effect: Effect.Effect<A, E, R>, policy: RateLimiter.Policy) => {
  const server = Effect.map(Ref.make(0), (handled) => {
    const answer = (text: string) => Effect.as(Ref.update(handled, (n) => n + 1), text)
    const handlers = Books.toLayer({
      List: () => answer("all"),
      Search: ({ text }) => answer(text),
      Ping: () => answer("pong"),
      Export: () => answer("started")
    })
    const limits = Layer.merge(
      RpcRateLimits.layer(RpcRateLimits.RateLimit, {
        charge: ({ headers }) => Effect.map(Users, ({ find }) => ({ policy, id: find(headers["x-user"]) })),
        skip: ({ rpc }) => rpc._tag === "Ping"
      }),
      RpcRateLimits.layer(Picky, {
        charge: ({ headers }) =>
          headers["x-user"] === undefined
            ? Effect.fail(new Unknown())
            : Effect.succeed([{ policy, id: headers["x-user"] }])
      })
    )
    const users = Layer.succeed(Users, { find: (token) => token ?? "nobody" })
    return HttpLayerRouter.serve(
      RpcServer.layerHttpRouter({ group: Books, path: "/rpc", protocol: "http" }),
      { disableLogger: true, disableListenLog: true }
    ).pipe(Layer.provide(handlers), Layer.provide(limits), Layer.provide(users))
  })
  // The client of `layerTest` knows where the server is.
  const protocol = Layer.effect(
    RpcClient.Protocol,
    Effect.flatMap(
      HttpClient.HttpClient,
      (http) => RpcClient.makeProtocolHttp(HttpClient.mapRequestInput(http, HttpClientRequest.prependUrl("/rpc")))
    )
  )
  return effect.pipe(
    Effect.provide(
      protocol.pipe(
        Layer.provideMerge(Layer.unwrapEffect(server)),
        Layer.provideMerge(NodeHttpServer.layerTest),
        Layer.provide(RpcSerialization.layerJson)
      )
    ),
    Effect.scoped
  )
}

export const suite = (
  name: string,
  driver: Layer.Layer<RedisClient, RedisError>,
  options: { readonly excludeTestServices?: boolean }
) => {
  layer(Layer.orDie(Layer.provideMerge(RateLimiter.layer, driver)), options)(
    `rate limits of procedures, ${name}`,
    (it) => {
      it.effect("let exactly as many through as there may be, and fail with a typed error", () => {
        const policy = policyOf(7)
        return Effect.gen(function*() {
          const books = yield* client
          const results = yield* Effect.all(Array.from({ length: 30 }, () => Effect.either(books.List())), {
            concurrency: "unbounded"
          })
          assert.lengthOf(results.filter(Either.isRight), 7)
          for (const result of results) {
            if (Either.isRight(result)) continue
            assert.instanceOf(result.left, RateLimits.TooManyRequests)
            assert.strictEqual(result.left._tag === "TooManyRequests" && result.left.policy, policy.name)
          }
          assert.strictEqual(yield* RateLimiter.count(policy, "nobody"), 7)
        }).pipe((effect) => serving(effect, policy))
      })

      it.effect("charge a procedure with its cost, and whoever its headers say", () => {
        const policy = policyOf(7)
        return Effect.gen(function*() {
          const books = yield* client
          const headers = { "x-user": "Ada" }
          assert.strictEqual(yield* books.Search({ text: "x" }, { headers }), "x")
          assert.strictEqual(yield* RateLimiter.count(policy, "Ada"), 5)
          const failure = yield* Effect.flip(books.Search({ text: "x" }, { headers }))
          assert.deepInclude({ ...failure }, { _tag: "TooManyRequests", limit: 7, remaining: 2, retryAfter: 60 })
          assert.strictEqual(yield* books.List(undefined, { headers }), "all")
          for (let i = 0; i < 5; i++) assert.strictEqual(yield* books.Ping(undefined, { headers }), "pong")
          assert.strictEqual(yield* RateLimiter.count(policy, "Ada"), 6)
        }).pipe((effect) => serving(effect, policy))
      })

      it.effect("may fail with whatever else their tag fails with, and then charge nobody", () => {
        const policy = policyOf(2)
        return Effect.gen(function*() {
          const books = yield* client
          assert.instanceOf(yield* Effect.flip(books.Export()), Unknown)
          const headers = { "x-user": "Ada" }
          yield* books.Export(undefined, { headers })
          yield* books.Export(undefined, { headers })
          assert.instanceOf(yield* Effect.flip(books.Export(undefined, { headers })), RateLimits.TooManyRequests)
          assert.strictEqual(yield* RateLimiter.count(policy, "Ada"), 2)
        }).pipe((effect) => serving(effect, policy))
      })
    }
  )
}
