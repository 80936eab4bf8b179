/**
 * The server that everybody runs against.
 */
import { Context, Data, Effect, Layer, type Scope } from "effect"
import { Redis } from "ioredis"
import { type ChildProcess, spawn } from "node:child_process"
import * as Fs from "node:fs"
import * as Net from "node:net"
import * as Path from "node:path"

export class ServerError extends Data.TaggedError("ServerError")<{ readonly message: string }> {}

export class Server extends Context.Tag("bench/Server")<Server, { readonly url: string; readonly version: string }>() {}

const NO_SERVER = "No Redis server for the benchmarks: put redis-server or valkey-server on the PATH, or set REDIS_URL."

/** All that the benchmarks write has this in its name, so that it can be removed from somebody's server. */
export const PREFIX = "erk-bench:"

const programOnPath = (): string | undefined => {
  for (const name of ["redis-server", "valkey-server"]) {
    for (const folder of (process.env.PATH ?? "").split(Path.delimiter)) {
      const path = Path.join(folder, name)
      if (Fs.existsSync(path)) return path
    }
  }
  return undefined
}

const freePort = Effect.async<number>((resume) => {
  const probe = Net.createServer()
  probe.listen(0, "127.0.0.1", () => {
    const address = probe.address()
    probe.close(() => resume(Effect.succeed(typeof address === "object" && address !== null ? address.port : 0)))
  })
})

const stop = (child: ChildProcess): Effect.Effect<void> =>
  Effect.async((resume) => {
    if (child.exitCode !== null || child.signalCode !== null) return resume(Effect.void)
    child.once("exit", () => resume(Effect.void))
    child.kill("SIGKILL")
  })

const start = (program: string): Effect.Effect<string, never, Scope.Scope> =>
  Effect.gen(function*() {
    const port = yield* freePort
    const args = ["--port", `${port}`, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
    yield* Effect.acquireRelease(Effect.sync(() => spawn(program, args, { stdio: "ignore" })), stop)
    return `redis://127.0.0.1:${port}`
  })

/** One more server for those that need several. */
export const another: Effect.Effect<string, ServerError, Scope.Scope> = Effect.suspend(() => {
  const program = programOnPath()
  return program === undefined ? new ServerError({ message: NO_SERVER }) : start(program)
})

/** A client as its users make it, closed with the scope. */
export const connect = (
  options: { readonly enableAutoPipelining?: boolean } = {}
): Effect.Effect<Redis, ServerError, Scope.Scope | Server> =>
  Effect.flatMap(Server, ({ url }) => connectTo(url, options))

export const connectTo = (
  url: string,
  options: { readonly enableAutoPipelining?: boolean } = {}
): Effect.Effect<Redis, ServerError, Scope.Scope> =>
  Effect.tap(
    Effect.acquireRelease(
      Effect.sync(() => new Redis(url, options).on("error", () => {})),
      (redis) => Effect.sync(() => redis.disconnect())
    ),
    (redis) =>
      Effect.tryPromise({
        try: () => redis.ping(),
        catch: (error) => new ServerError({ message: `The Redis server does not answer: ${String(error)}` })
      })
  )

const removeAll = (redis: Redis): Effect.Effect<void> =>
  Effect.promise(async () => {
    for await (const keys of redis.scanStream({ match: `*${PREFIX}*`, count: 1000 })) {
      if (keys.length > 0) await redis.unlink(...keys)
    }
  })

/** Removes what the benchmarks have written. */
export const clean: Effect.Effect<void, ServerError, Server> = Effect.scoped(Effect.flatMap(connect(), removeAll))

/** A server of our own, from a program on the `PATH`; else the one of `REDIS_URL`. */
export const layer: Layer.Layer<Server, ServerError> = Layer.scoped(
  Server,
  Effect.gen(function*() {
    const program = programOnPath()
    const url = program === undefined ? process.env.REDIS_URL : yield* start(program)
    if (url === undefined || url === "") return yield* new ServerError({ message: NO_SERVER })
    const redis = yield* connectTo(url)
    yield* Effect.addFinalizer(() => removeAll(redis))
    const info = yield* Effect.promise(() => redis.info("server"))
    const field = (name: string) => new RegExp(`^${name}:(.*?)\r?$`, "m").exec(info)?.[1]
    const valkey = field("valkey_version")
    return { url, version: valkey === undefined ? `Redis ${field("redis_version")}` : `Valkey ${valkey}` }
  })
)
