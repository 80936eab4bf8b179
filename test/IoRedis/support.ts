import { Effect, Either, Redacted, type Scope } from "effect"
import * as Net from "node:net"
import { inject } from "vitest"
import * as IoRedis from "../../src/IoRedis.js"
import type { Service } from "../../src/RedisClient.js"
import * as RedisConfig from "../../src/RedisConfig.js"
import type { RedisError } from "../../src/RedisError.js"
import * as FaultProxy from "../kit/FaultProxy.js"
import "../kit/globalSetup.js"

let names = 0

/** A name that no other test uses. */
export const unique = (name: string): string => `${name}:${process.pid}:${Date.now().toString(36)}:${++names}`

/** The server of the run. */
export const serverUrl = (): string => inject("redisUrl")

export const serverAddress = () => {
  const url = new URL(serverUrl())
  return { host: url.hostname, port: url.port === "" ? 6379 : Number(url.port) }
}

/** A client of its own, closed with the scope. */
export const connect = (
  options: Omit<RedisConfig.Options, "url"> & { readonly url?: string | undefined } = {}
): Effect.Effect<Service, RedisError, Scope.Scope> =>
  Effect.flatMap(
    RedisConfig.make({ ...options, url: Redacted.make(options.url ?? serverUrl()) }),
    IoRedis.make
  )

/** A proxy before the server of the run, with the same user and database. */
export const proxied = Effect.map(FaultProxy.make(serverAddressLazy()), (proxy) => {
  const url = new URL(serverUrl())
  url.hostname = proxy.host
  url.port = String(proxy.port)
  return { ...proxy, url: url.toString() }
})

function serverAddressLazy() {
  return {
    get host() {
      return serverAddress().host
    },
    get port() {
      return serverAddress().port
    }
  }
}

/** Tries again and again until it succeeds; the test's own timeout ends it. */
export const eventually = <A, E, R>(effect: Effect.Effect<A, E, R>): Effect.Effect<A, never, R> =>
  effect.pipe(
    Effect.catchAllCause(() => Effect.zipRight(Effect.sleep(20), Effect.suspend(() => eventually(effect))))
  )

/** The tag of what an effect failed with, or `"ok"`. */
export const outcome = <A, E extends { readonly _tag: string }, R>(effect: Effect.Effect<A, E, R>) =>
  Effect.map(Effect.either(effect), (result) => Either.isRight(result) ? "ok" : result.left._tag)

export const connectionsNamed = (client: Service, name: string) =>
  Effect.map(
    client.send("CLIENT", "LIST"),
    (list) => String(list).split("\n").filter((line) => line.includes(` name=${name} `))
  )

/** Accepts connections, and says nothing. */
export const mute = Effect.acquireRelease(
  Effect.async<Net.Server>((resume) => {
    const server = Net.createServer((socket) => void socket.on("error", () => {}))
    server.listen(0, "127.0.0.1", () => resume(Effect.succeed(server)))
  }),
  (server) => Effect.sync(() => void server.close())
).pipe(Effect.map((server) => {
  const bound = server.address()
  return { host: "127.0.0.1", port: typeof bound === "object" && bound !== null ? bound.port : 0 }
}))
