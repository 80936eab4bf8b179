/**
 * An HTTP API with rate limits: 60 a minute for anybody, 300 for whoever has a token, 1000 for those who pay. Searching
 * costs ten times as much as reading. `GET /health` says whether Redis answers.
 *
 * It runs on the server in memory, or on the one at `REDIS_URL`:
 *
 *     PORT=3000 node build/examples/http-rate-limits.js
 *     curl -i localhost:3000/books
 *     curl -i -H "authorization: Bearer grace" "localhost:3000/search?text=redis"
 */
import { HttpApi, HttpApiBuilder, HttpApiEndpoint, HttpApiGroup, HttpServer, HttpServerRequest } from "@effect/platform"
import { NodeHttpServer, NodeRuntime } from "@effect/platform-node"
import { Config, Effect, Layer, Schema } from "effect"
import { RateLimiter, RedisTestServer } from "effect-redis-kit"
import { ClientAddress, Health, RateLimits } from "effect-redis-kit/http"
import * as IoRedis from "effect-redis-kit/IoRedis"
import { createServer } from "node:http"

const Books = HttpApiGroup.make("books")
  .add(HttpApiEndpoint.get("list", "/books").addSuccess(Schema.Array(Schema.String)))
  .add(
    HttpApiEndpoint.get("search", "/search")
      .setUrlParams(Schema.Struct({ text: Schema.String }))
      .addSuccess(Schema.Array(Schema.String))
      .annotate(RateLimits.Cost, 10)
  )
  .middleware(RateLimits.RateLimit)

const Api = HttpApi.make("library").add(Books).add(Health.Group)

const books = ["Redis in Action", "The Little Schemer", "A Discipline of Programming"]

const BooksLive = HttpApiBuilder.group(Api, "books", (handlers) =>
  handlers
    .handle("list", () => Effect.succeed(books))
    .handle("search", ({ urlParams }) =>
      Effect.succeed(books.filter((title) =>
        title.toLowerCase().includes(urlParams.text.toLowerCase())
      ))))

// One policy for everybody: whoever pays from now on keeps the count, and has more left of it.
const PerMinute = RateLimiter.policy({
  name: "per-minute",
  limit: 60,
  window: "1 minute",
  algorithm: "sliding-window"
})

/** The tokens of a real service are in its sessions. */
const users: ReadonlyMap<string, { readonly id: string; readonly limit: number }> = new Map([
  ["Bearer ada", { id: "ada", limit: 300 }],
  ["Bearer grace", { id: "grace", limit: 1000 }]
])

const RateLimitLive = Layer.unwrapEffect(Effect.map(
  Config.withDefault(Config.array(Config.string(), "TRUSTED_PROXIES"), []),
  (trustedProxies) => {
    const address = ClientAddress.fromRequest({ trustedProxies })
    return RateLimits.layerApi(RateLimits.RateLimit, {
      api: Api,
      headers: "both",
      charge: Effect.flatMap(HttpServerRequest.HttpServerRequest, ({ headers }) => {
        const user = users.get(headers["authorization"] ?? "")
        return user === undefined
          ? Effect.map(address, (ip) => ({ policy: PerMinute, id: `address:${ip}` }))
          : Effect.succeed({ policy: PerMinute, id: `user:${user.id}`, limit: user.limit })
      })
    })
  }
))

const Redis = process.env.REDIS_URL === undefined ? RedisTestServer.layer : IoRedis.layerConfig()

const Server = HttpApiBuilder.serve().pipe(
  HttpServer.withLogAddress,
  Layer.provide(HttpApiBuilder.api(Api)),
  Layer.provide([BooksLive, Health.layerApi(Api, { details: false })]),
  Layer.provide(RateLimitLive),
  Layer.provide(RateLimiter.layer),
  Layer.provide(Redis),
  Layer.provide(NodeHttpServer.layerConfig(createServer, {
    port: Config.withDefault(Config.integer("PORT"), 3000),
    host: Config.succeed("127.0.0.1")
  }))
)

NodeRuntime.runMain(Layer.launch(Server))
