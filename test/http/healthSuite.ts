/**
 * Health in its three forms, over real HTTP.
 */
import { HttpApi, HttpApiBuilder, HttpClient, HttpLayerRouter, HttpRouter, HttpServer } from "@effect/platform"
import { NodeHttpServer } from "@effect/platform-node"
import { assert, layer } from "@effect/vitest"
import { Effect, Layer } from "effect"
import * as Health from "../../src/http/Health.js"
import { RedisClient } from "../../src/RedisClient.js"
import type { RedisError, RedisInputError } from "../../src/RedisError.js"

export const Api = HttpApi.make("api").add(Health.Group)

const forms = {
  "an app": (options?: Health.Options) =>
    HttpServer.serve(HttpRouter.empty.pipe(HttpRouter.get("/health", Health.app(options)))),
  "a route": (options?: Health.Options) =>
    HttpLayerRouter.serve(Health.layerRouter(options), { disableLogger: true, disableListenLog: true }),
  "a group of an API": (options?: Health.Options) =>
    HttpApiBuilder.serve().pipe(
      Layer.provide(HttpApiBuilder.api(Api)),
      Layer.provide(Health.layerApi(Api, options))
    )
}

export type Form = keyof typeof forms

export const formNames = Object.keys(forms) as ReadonlyArray<Form>

export const get = Effect.flatMap(HttpClient.get("/health"), (response) =>
  Effect.map(response.json, (body) => ({
    status: response.status,
    cache: response.headers["cache-control"],
    body: body as Record<string, unknown>
  })))

/** Runs with a server of this form on the client of the environment, and an HTTP client of that. */
export const serving = <A, E, R>(
  effect: Effect.Effect<A, E, R | HttpClient.HttpClient>,
  form: Form,
  options?: Health.Options
) => {
  const server: Layer.Layer<
    never,
    RedisInputError,
    | HttpServer.HttpServer
    | RedisClient
    | Layer.Layer.Success<typeof NodeHttpServer.layerTest>
  > = forms[form](options)
  return Effect.provide(effect, Layer.provideMerge(server, NodeHttpServer.layerTest))
}

export const suite = (
  name: string,
  driver: Layer.Layer<RedisClient, RedisError>,
  options: { readonly excludeTestServices?: boolean }
) => {
  for (const form of formNames) {
    layer(Layer.orDie(driver), options)(`health as ${form}, ${name}`, (it) => {
      it.effect("is 200 with what is known of the server", () =>
        Effect.gen(function*() {
          const { body, cache, status } = yield* serving(get, form)
          assert.strictEqual(status, 200)
          assert.strictEqual(cache, "no-store")
          assert.isTrue(body["healthy"])
          assert.isAtLeast(body["responseTimeMs"] as number, 0)
          const server = body["server"] as Record<string, unknown>
          assert.match(String(server["version"]), /^\d+\.\d+/)
          assert.strictEqual(server["mode"], (yield* RedisClient).mode === "cluster" ? "cluster" : "standalone")
          assert.isAbove(server["connectedClients"] as number, 0)
          assert.isString(server["usedMemoryHuman"])
          assert.deepStrictEqual(Object.keys(body).sort(), ["healthy", "responseTimeMs", "server"])
        }))

      it.effect("tells nothing of the server when it should not", () =>
        Effect.gen(function*() {
          const { body, status } = yield* serving(get, form, { details: false })
          assert.strictEqual(status, 200)
          assert.deepStrictEqual(Object.keys(body).sort(), ["healthy", "responseTimeMs"])
        }))
    })
  }
}
