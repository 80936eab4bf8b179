/**
 * Procedures with a middleware that limits them: 10 a minute for each user, of which a search costs 5. The client is in the same
 * program, to show what it gets.
 *
 *     node build/examples/rpc-rate-limits.js
 */
import { FetchHttpClient, HttpRouter, HttpServer } from "@effect/platform"
import { NodeHttpServer } from "@effect/platform-node"
import { Rpc, RpcClient, RpcGroup, RpcSerialization, RpcServer } from "@effect/rpc"
import { Effect, Layer, Schema } from "effect"
import { RateLimiter, RedisTestServer } from "effect-redis-kit"
import { RateLimits } from "effect-redis-kit/http"
import * as RpcRateLimits from "effect-redis-kit/http/RpcRateLimits"
import { createServer } from "node:http"

const Books = RpcGroup.make(
  Rpc.make("List", { success: Schema.Array(Schema.String) }),
  Rpc.make("Search", { payload: { text: Schema.String }, success: Schema.Array(Schema.String) })
    .annotate(RateLimits.Cost, 5)
).middleware(RpcRateLimits.RateLimit)

const books = ["Redis in Action", "The Little Schemer", "A Discipline of Programming"]

const BooksLive = Books.toLayer({
  List: () => Effect.succeed(books),
  Search: ({ text }) => Effect.succeed(books.filter((title) => title.toLowerCase().includes(text.toLowerCase())))
})

const PerMinute = RateLimiter.policy({ name: "procedures", limit: 10, window: "1 minute", algorithm: "sliding-window" })

/** The tokens of a real service are in its sessions. */
const users: ReadonlyMap<string | undefined, string> = new Map([["Bearer ada", "ada"], ["Bearer grace", "grace"]])

// It runs on `IoRedis.layerConfig()` as well.
const RateLimitLive = RpcRateLimits.layer(RpcRateLimits.RateLimit, {
  charge: ({ headers }) => Effect.succeed({ policy: PerMinute, id: users.get(headers["authorization"]) ?? "nobody" })
}).pipe(Layer.provide(RateLimiter.layer), Layer.provide(RedisTestServer.layer))

const Server = HttpRouter.Default.serve().pipe(
  Layer.provide(RpcServer.layer(Books)),
  Layer.provide([BooksLive, RateLimitLive]),
  Layer.provide(RpcServer.layerProtocolHttp({ path: "/rpc" })),
  Layer.provide(RpcSerialization.layerNdjson),
  Layer.provideMerge(NodeHttpServer.layer(createServer, { port: 0, host: "127.0.0.1" }))
)

const Client = Layer.unwrapEffect(Effect.map(HttpServer.HttpServer, ({ address }) =>
  RpcClient.layerProtocolHttp({
    url: `http://127.0.0.1:${address._tag === "TcpAddress" ? address.port : 0}/rpc`
  }))).pipe(Layer.provide([FetchHttpClient.layer, RpcSerialization.layerNdjson]))

const program = Effect.gen(function*() {
  const client = yield* RpcClient.make(Books)
  const search = client.Search({ text: "redis" })
  yield* Effect.gen(function*() {
    yield* Effect.log(yield* search)
    yield* Effect.log(yield* search)
    // 429 of HTTP, as a value: the limit of ten is used up.
    yield* Effect.log(yield* Effect.flip(search))
  }).pipe(RpcClient.withHeaders({ authorization: "Bearer ada" }))
  // Somebody else has a limit of their own.
  yield* Effect.log(yield* client.List().pipe(RpcClient.withHeaders({ authorization: "Bearer grace" })))
})

await Effect.runPromise(program.pipe(Effect.scoped, Effect.provide(Layer.provideMerge(Client, Server))))
