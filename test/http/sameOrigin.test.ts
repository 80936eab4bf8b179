import {
  HttpApi,
  HttpApiBuilder,
  HttpApiClient,
  HttpApiEndpoint,
  HttpApiGroup,
  HttpClient,
  HttpClientRequest,
  HttpLayerRouter,
  HttpRouter,
  HttpServer,
  HttpServerResponse
} from "@effect/platform"
import { NodeHttpServer } from "@effect/platform-node"
import { assert, describe, it } from "@effect/vitest"
import { Effect, Either, Layer, Schema } from "effect"
import * as SameOrigin from "../../src/http/SameOrigin.js"
import { send } from "./sessionsSuite.js"

const isAllowed = (
  method: string,
  headers: Readonly<Record<string, string>>,
  options: SameOrigin.Options = { trusted: ["https://app.example.com", "HTTP://Localhost:5173"] }
) => Either.getOrThrow(SameOrigin.make(options))({ method, headers: { host: "www.example.com", ...headers } } as never)

const evil = { "sec-fetch-site": "cross-site", "origin": "https://evil.example" }

describe("SameOrigin", () => {
  it("lets pages of this site go on, and whatever is no browser", () => {
    for (
      const headers of [
        {},
        { "sec-fetch-site": "same-origin", "origin": "https://www.example.com" },
        { "sec-fetch-site": "same-origin" },
        { "sec-fetch-site": "none" },
        { "origin": "https://www.example.com" },
        { "origin": "http://www.example.com" },
        { "origin": "https://WWW.example.com", "host": "www.EXAMPLE.com" },
        { "origin": "http://127.0.0.1:8080", "host": "127.0.0.1:8080" },
        { "origin": "http://[::1]:8080", "host": "[::1]:8080" },
        // Behind a proxy the host may be another one.
        { "sec-fetch-site": "same-origin", "origin": "https://www.example.com", "host": "10.0.0.7:3000" },
        // Those that are trusted.
        { "sec-fetch-site": "same-site", "origin": "https://app.example.com" },
        { "sec-fetch-site": "cross-site", "origin": "http://localhost:5173" },
        { "origin": "https://app.example.com" }
      ]
    ) {
      for (const method of ["POST", "PUT", "PATCH", "DELETE"]) {
        assert.isTrue(isAllowed(method, headers), JSON.stringify(headers))
      }
    }
  })

  it("refuses everybody else", () => {
    for (
      const headers of [
        evil,
        { "sec-fetch-site": "cross-site" },
        { "sec-fetch-site": "same-site" },
        { "sec-fetch-site": "same-site", "origin": "https://evil.example.com" },
        { "sec-fetch-site": "cross-site", "origin": "https://www.example.com" },
        { "sec-fetch-site": "same-origin, cross-site" },
        { "sec-fetch-site": "Same-Origin" },
        { "sec-fetch-site": "" },
        { "origin": "null" },
        { "origin": "" },
        { "origin": "https://evil.example" },
        { "origin": "https://www.example.com.evil.example" },
        { "origin": "https://evil.example/www.example.com" },
        { "origin": "https://www.example.com@evil.example" },
        { "origin": "https://user@www.example.com" },
        { "origin": "https://evilwww.example.com" },
        { "origin": "https://www.example.com:8443" },
        { "origin": "https://www.example.com, https://evil.example" },
        { "origin": "https://www.example.com https://evil.example" },
        { "origin": "https://www.example.com\n" },
        { "origin": "www.example.com" },
        { "origin": "ftp://www.example.com" },
        { "origin": "file://" },
        { "origin": "https://", "host": "" },
        { "origin": "null", "host": "null" },
        { "origin": "https://app.example.com.evil.example" },
        { "origin": "http://app.example.com", "sec-fetch-site": "same-site" },
        { "origin": "https://app.example.com:444" }
      ]
    ) {
      for (const method of ["POST", "PUT", "PATCH", "DELETE", "TRACE", "post", "get", "MADE-UP"]) {
        assert.isFalse(isAllowed(method, headers), `${method} ${JSON.stringify(headers)}`)
      }
      // These change nothing, unless they open a socket that the page can write to.
      for (const method of ["GET", "HEAD", "OPTIONS"]) {
        assert.isTrue(isAllowed(method, headers))
        assert.isFalse(isAllowed(method, { ...headers, upgrade: "websocket" }))
      }
    }
  })

  it("wants trusted origins to be some", () => {
    for (const origin of ["", "app.example.com", "https://app.example.com/", "https://*.example.com/x", "null", 5]) {
      const error = Either.flip(SameOrigin.make({ trusted: [origin as string] })).pipe(Either.getOrThrow)
      assert.deepStrictEqual([error._tag, error.field], ["RedisInputError", "trusted"])
    }
  })

  const Api = HttpApi.make("api").add(
    HttpApiGroup.make("all").add(
      HttpApiEndpoint.post("write", "/").addSuccess(Schema.String).middleware(SameOrigin.SameOrigin)
    )
  )

  const api = HttpApiBuilder.serve().pipe(
    Layer.provide(HttpApiBuilder.api(Api)),
    Layer.provide(HttpApiBuilder.group(Api, "all", (all) => all.handle("write", () => Effect.succeed("done")))),
    Layer.provide(SameOrigin.layerApi(SameOrigin.SameOrigin, { trusted: ["https://app.example.com"] }))
  )

  const done = Effect.sync(() => HttpServerResponse.unsafeJson("done"))
  const options = { trusted: ["https://app.example.com"] }
  const servers = {
    "an app": HttpRouter.empty.pipe(HttpRouter.post("/", done), SameOrigin.middleware(options), HttpServer.serve()),
    "a server": HttpServer.serve(HttpRouter.empty.pipe(HttpRouter.post("/", done)), SameOrigin.middleware(options)),
    "a router": HttpLayerRouter.serve(
      Layer.merge(
        HttpLayerRouter.add("POST", "/", done),
        HttpLayerRouter.middleware(SameOrigin.middleware(options), { global: true })
      ),
      { disableLogger: true, disableListenLog: true }
    ),
    "an API": api
  } as const

  for (const [name, server] of Object.entries(servers)) {
    it.effect(`answers 403 as a middleware of ${name}`, () =>
      Effect.gen(function*() {
        const refused = yield* send("POST", "/", evil)
        assert.deepStrictEqual([refused.status, refused.body], [403, {
          _tag: "CrossOriginRequest",
          error: "Forbidden"
        }])
        for (const headers of [{}, { origin: "https://app.example.com" }, { "sec-fetch-site": "same-origin" }]) {
          const { body, status } = yield* send("POST", "/", headers)
          assert.deepStrictEqual([status, body], [200, "done"])
        }
      }).pipe(Effect.provide(Layer.provideMerge(server, NodeHttpServer.layerTest))))
  }

  it.effect("is typed for the client of an API", () =>
    Effect.gen(function*() {
      const client = yield* HttpApiClient.make(Api, {
        transformClient: HttpClient.mapRequest(HttpClientRequest.setHeaders(evil))
      })
      const failure = yield* Effect.flip(client.all.write())
      assert.instanceOf(failure, SameOrigin.CrossOriginRequest)
      assert.strictEqual(failure.message, "the request was sent by a page of another site")
    }).pipe(Effect.provide(Layer.provideMerge(api, NodeHttpServer.layerTest))))

  it.effect("answers 500 when it trusts nonsense, and lets nobody in", () =>
    Effect.gen(function*() {
      assert.strictEqual((yield* send("POST", "/", evil)).status, 500)
    }).pipe(
      Effect.provide(
        Layer.provideMerge(
          HttpServer.serve(done, SameOrigin.middleware({ trusted: ["*"] })),
          NodeHttpServer.layerTest
        )
      )
    ))
})
