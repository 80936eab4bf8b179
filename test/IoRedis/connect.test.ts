import { assert, describe, it } from "@effect/vitest"
import { ConfigProvider, Duration, Effect, Exit, Inspectable, Layer, Redacted, Scope } from "effect"
import * as Net from "node:net"
import * as IoRedis from "../../src/IoRedis.js"
import { RedisClient } from "../../src/RedisClient.js"
import * as RedisConfig from "../../src/RedisConfig.js"
import * as RealServer from "../kit/RealServer.js"
import * as TlsProxy from "../kit/tls.js"
import { connect, connectionsNamed, eventually, serverAddress, serverUrl, unique } from "./support.js"

const SECRET = "s3cret-of-the-test"

const failure = (options: Parameters<typeof connect>[0]) => Effect.flip(Effect.scoped(connect(options)))

const texts = (error: unknown) =>
  [String(error), JSON.stringify(error), Inspectable.format(error), error instanceof Error ? error.stack : ""].join(
    "\n"
  )

/** Accepts connections and never says anything. */
const silentServer = Effect.map(
  Effect.acquireRelease(
    Effect.async<{ readonly server: Net.Server; readonly sockets: Set<Net.Socket> }>((resume) => {
      const sockets = new Set<Net.Socket>()
      const server = Net.createServer((socket) => {
        sockets.add(socket)
        socket.on("error", () => {})
        socket.on("close", () => sockets.delete(socket))
        socket.resume()
      })
      server.listen(0, "127.0.0.1", () => resume(Effect.succeed({ server, sockets })))
    }),
    ({ server, sockets }) =>
      Effect.sync(() => {
        server.close()
        for (const socket of sockets) socket.destroy()
      })
  ),
  ({ server, sockets }) => {
    const address = server.address()
    return { sockets, url: `redis://127.0.0.1:${typeof address === "object" && address !== null ? address.port : 0}` }
  }
)

describe("connecting", () => {
  it.scopedLive("fails when the port refuses", () =>
    Effect.gen(function*() {
      const port = yield* RealServer.freePort
      const error = yield* failure({ url: `redis://127.0.0.1:${port}` })
      assert(error._tag === "RedisConnectionError")
      assert.strictEqual(error.reason, "connect")
      assert.include(error.detail, "ECONNREFUSED")
      assert.strictEqual(error.target, `redis://127.0.0.1:${port}/0`)
      assert.isTrue(error.isRetryable)
    }))

  it.scopedLive("fails when the host is unknown", () =>
    Effect.gen(function*() {
      const error = yield* failure({ url: "redis://no-such-host.invalid", connectTimeout: "10 seconds" })
      assert(error._tag === "RedisConnectionError")
      assert.strictEqual(error.reason, "connect")
    }))

  it.scopedLive("fails within the connect timeout when nobody answers", () =>
    Effect.gen(function*() {
      const silent = yield* silentServer
      const [took, error] = yield* Effect.timed(failure({ url: silent.url, connectTimeout: "300 millis" }))
      assert(error._tag === "RedisConnectionError")
      assert.strictEqual(error.reason, "connect")
      assert.isAbove(Duration.toMillis(took), 250)
      assert.isBelow(Duration.toMillis(took), 5000)
      yield* eventually(Effect.suspend(() => silent.sockets.size === 0 ? Effect.void : Effect.fail("open")))
    }))

  it.scopedLive("fails when the password is wrong, and never shows it", () =>
    Effect.gen(function*() {
      const server = yield* RealServer.start({ password: "right" })
      const { host, port } = server
      const wrong = yield* failure({ url: `redis://:${SECRET}@${host}:${port}` })
      assert(wrong._tag === "RedisConnectionError")
      assert.strictEqual(wrong.reason, "auth")
      assert.isFalse(wrong.isRetryable)
      assert.notInclude(texts(wrong), SECRET)

      const user = yield* failure({ url: `redis://nobody:${SECRET}@${host}:${port}` })
      assert(user._tag === "RedisConnectionError")
      assert.strictEqual(user.reason, "auth")
      assert.notInclude(texts(user), SECRET)

      const none = yield* failure({ url: `redis://${host}:${port}` })
      assert(none._tag === "RedisConnectionError")
      assert.strictEqual(none.reason, "auth")

      const unchecked = yield* failure({ url: `redis://${host}:${port}`, readyCheck: false })
      assert(unchecked._tag === "RedisConnectionError")
      assert.strictEqual(unchecked.reason, "auth")

      const client = yield* connect({ url: server.url })
      assert.strictEqual(yield* client.send("PING"), "PONG")
      // Every failed attempt has closed what it opened.
      yield* eventually(
        Effect.filterOrFail(client.send("CLIENT", "LIST"), (list) => String(list).trim().split("\n").length === 1)
      )
    }))

  it.scopedLive("fails when the database does not exist, instead of using another", () =>
    Effect.gen(function*() {
      const url = new URL(serverUrl())
      url.pathname = "/9999"
      for (const readyCheck of [true, false]) {
        const error = yield* failure({ url: url.toString(), readyCheck })
        assert(error._tag === "RedisConnectionError")
        assert.strictEqual(error.reason, "connect")
        assert.include(error.detail, "database")
      }
    }))

  it.scopedLive("uses the database", () =>
    Effect.gen(function*() {
      const url = new URL(serverUrl())
      url.pathname = "/3"
      const client = yield* connect({ url: url.toString() })
      assert.include(String(yield* client.send("CLIENT", "INFO")), " db=3 ")
      const own = yield* Effect.scoped(Effect.flatMap(client.reserve(), (own) => own.send("CLIENT", "INFO")))
      assert.include(String(own), " db=3 ")
    }))

  it.scopedLive("waits while the server loads its data", () =>
    Effect.gen(function*() {
      const server = yield* RealServer.start({ appendonly: true, args: ["--key-load-delay", "300"] })
      const first = yield* connect({ url: server.url })
      yield* first.pipeline(Array.from({ length: 3000 }, (_, i) => ["SET", `k${i}`, "x"] as const))
      yield* Effect.zipRight(server.kill, Effect.fork(server.restart))
      const client = yield* eventually(connect({ url: server.url }))
      assert.strictEqual(yield* client.send("DBSIZE"), 3000)
    }))

  it.scopedLive("with lazyConnect connects with the first command", () =>
    Effect.gen(function*() {
      const name = unique("lazy")
      const watcher = yield* connect()
      const client = yield* connect({ lazyConnect: true, name })
      assert.lengthOf(yield* connectionsNamed(watcher, name), 0)
      assert.strictEqual(yield* client.send("PING"), "PONG")
      assert.lengthOf(yield* connectionsNamed(watcher, name), 1)
    }))

  it.scopedLive("with lazyConnect a layer is built without a server, and commands wait for one", () =>
    Effect.gen(function*() {
      const port = yield* RealServer.freePort
      const url = `redis://127.0.0.1:${port}`
      const client = yield* connect({ url, lazyConnect: true, commandTimeout: "300 millis" })
      const [took, error] = yield* Effect.timed(Effect.flip(client.send("PING")))
      assert(error._tag === "RedisConnectionError")
      assert.strictEqual(error.reason, "unavailable")
      assert.include(error.detail, "ECONNREFUSED")
      assert.isAbove(Duration.toMillis(took), 250)
    }))

  it.scopedLive("with lazyConnect a wrong password fails commands at once", () =>
    Effect.gen(function*() {
      const server = yield* RealServer.start({ password: "right" })
      const client = yield* connect({
        url: `redis://:${SECRET}@${server.host}:${server.port}`,
        lazyConnect: true,
        commandTimeout: "20 seconds"
      })
      const error = yield* Effect.flip(client.send("PING"))
      assert(error._tag === "RedisConnectionError")
      assert.strictEqual(error.reason, "auth")
      assert.notInclude(texts(error), SECRET)
    }))

  it.scopedLive("encrypts, and trusts only what it is told to", () =>
    Effect.gen(function*() {
      const { host, port } = yield* TlsProxy.make(serverAddress())
      const { password } = new URL(serverUrl())
      const url = `rediss://${password === "" ? "" : `:${password}@`}${host}:${port}`
      const client = yield* connect({ url, tls: { ca: TlsProxy.certificate } })
      assert.strictEqual(yield* client.send("PING"), "PONG")
      const own = yield* client.reserve()
      assert.strictEqual(yield* own.send("PING"), "PONG")
      const careless = yield* connect({ url, tls: { rejectUnauthorized: false } })
      assert.strictEqual(yield* careless.send("PING"), "PONG")

      const unknown = yield* failure({ url })
      assert(unknown._tag === "RedisConnectionError")
      assert.strictEqual(unknown.reason, "connect")
      assert.include(unknown.detail, "self-signed")
      const plain = yield* failure({ url: url.replace("rediss:", "redis:"), connectTimeout: "1 second" })
      assert.strictEqual(plain._tag, "RedisConnectionError")
    }))

  it.scopedLive("notices later that the password was changed, and that it is right again", () =>
    Effect.gen(function*() {
      const server = yield* RealServer.start({ password: "first" })
      const client = yield* connect({ url: server.url, commandTimeout: "10 seconds" })
      const other = yield* connect({ url: server.url })
      yield* other.send("CONFIG", "SET", "requirepass", "second")
      yield* other.send("CLIENT", "KILL", "TYPE", "normal")
      const error = yield* eventually(Effect.flip(client.send("PING")))
      assert(error._tag === "RedisConnectionError" || error._tag === "RedisOutcomeUnknownError")
      const next = error._tag === "RedisConnectionError" ? error : yield* Effect.flip(client.send("PING"))
      assert(next._tag === "RedisConnectionError")
      assert.strictEqual(next.reason, "auth")
      const admin = yield* connect({ url: `redis://:second@${server.host}:${server.port}` })
      yield* admin.send("CONFIG", "SET", "requirepass", "first")
      assert.strictEqual(yield* eventually(client.send("PING")), "PONG")
    }))

  it.scoped("does not depend on the test clock", () =>
    Effect.gen(function*() {
      const client = yield* connect()
      assert.strictEqual(yield* client.send("PING"), "PONG")
      const port = yield* RealServer.freePort
      const lazy = yield* connect({ url: `redis://127.0.0.1:${port}`, lazyConnect: true, commandTimeout: "100 millis" })
      assert.strictEqual((yield* Effect.flip(lazy.send("PING")))._tag, "RedisConnectionError")
    }))

  it.scopedLive("sets the connection's name", () =>
    Effect.gen(function*() {
      const name = unique("name")
      const client = yield* connect({ name })
      assert.strictEqual(yield* client.send("CLIENT", "GETNAME"), name)
    }))

  it.live("refuses bad options by their name", () =>
    Effect.gen(function*() {
      const error = yield* Effect.flip(Layer.build(IoRedis.layer({ port: 70_000 }))).pipe(Effect.scoped)
      assert(error._tag === "RedisInputError")
      assert.strictEqual(error.field, "port")
    }))

  it.live("takes its options from the environment", () =>
    Effect.gen(function*() {
      const client = yield* RedisClient
      assert.strictEqual(client.key("a"), "env:a")
      assert.strictEqual(yield* client.send("PING"), "PONG")
    }).pipe(
      Effect.provide(IoRedis.layerConfig()),
      Effect.withConfigProvider(
        ConfigProvider.fromMap(new Map([["REDIS_URL", serverUrl()], ["REDIS_KEY_PREFIX", "env:"]]))
      )
    ))

  it.live("fails with ConfigError when the environment is wrong", () =>
    Effect.gen(function*() {
      const error = yield* Effect.flip(Effect.scoped(Layer.build(IoRedis.layerConfig()))).pipe(
        Effect.withConfigProvider(ConfigProvider.fromMap(new Map([["REDIS_PORT", "many"]])))
      )
      assert.include(String(error), "REDIS_PORT")
    }))
})

describe("closing", () => {
  it.scopedLive("leaves no connection, no timer and no socket", () =>
    Effect.gen(function*() {
      const watcher = yield* connect()
      const resources = () =>
        process.getActiveResourcesInfo().filter((kind) => /Timeout|Immediate|TCP/.test(kind)).length
      const name = unique("closing")
      const before = resources()
      const scope = yield* Scope.make()
      const client = yield* Scope.extend(connect({ name }), scope)
      // @effect-diagnostics-next-line floatingEffect:off
      yield* Scope.extend(client.subscribe({ channels: ["a"] }), scope)
      yield* Scope.extend(client.reserve(), scope)
      assert.lengthOf(yield* connectionsNamed(watcher, name), 3)
      yield* Scope.close(scope, Exit.void)
      yield* eventually(
        Effect.filterOrFail(connectionsNamed(watcher, name), (connections) => connections.length === 0)
      )
      yield* eventually(Effect.suspend(() => resources() <= before ? Effect.void : Effect.fail("open")))
    }))

  it.scopedLive("is quick when the server is frozen, and settles what is underway", () =>
    Effect.gen(function*() {
      const server = yield* RealServer.start()
      const scope = yield* Scope.make()
      const client = yield* Scope.extend(connect({ url: server.url, commandTimeout: "30 seconds" }), scope)
      yield* server.pause
      const fiber = yield* Effect.fork(Effect.flip(client.send("INCR", "a")))
      yield* Effect.sleep(50)
      const [took] = yield* Effect.timed(Scope.close(scope, Exit.void))
      assert.isBelow(Duration.toMillis(took), 5000)
      const error = yield* fiber
      assert.strictEqual(error._tag, "RedisOutcomeUnknownError")
      const late = yield* Effect.flip(client.send("PING"))
      assert(late._tag === "RedisConnectionError")
      assert.strictEqual(late.reason, "closed")
      yield* server.resume
    }))

  it.scopedLive("settles commands that wait for a connection", () =>
    Effect.gen(function*() {
      const port = yield* RealServer.freePort
      const scope = yield* Scope.make()
      const client = yield* Scope.extend(
        connect({ url: `redis://127.0.0.1:${port}`, lazyConnect: true, commandTimeout: "30 seconds" }),
        scope
      )
      const fiber = yield* Effect.fork(Effect.flip(client.send("PING")))
      yield* Effect.sleep(50)
      yield* Scope.close(scope, Exit.void)
      const error = yield* fiber
      assert(error._tag === "RedisConnectionError")
      assert.strictEqual(error.reason, "closed")
    }))

  it.scopedLive("lets replies arrive that are underway", () =>
    Effect.gen(function*() {
      const scope = yield* Scope.make()
      const client = yield* Scope.extend(connect(), scope)
      const fibers = yield* Effect.forkAll(Array.from({ length: 50 }, () => client.send("PING")))
      yield* Effect.yieldNow()
      yield* Scope.close(scope, Exit.void)
      assert.deepStrictEqual(yield* fibers, Array.from({ length: 50 }, () => "PONG"))
    }))
})

describe("secrets", () => {
  it.scopedLive("never appear in errors of commands", () =>
    Effect.gen(function*() {
      const client = yield* connect()
      // Servers quote the arguments of commands that they do not know.
      const error = yield* Effect.flip(client.send("NOSUCHCOMMAND", SECRET))
      assert(error._tag === "RedisReplyError")
      assert.strictEqual(error.code, "ERR")
      assert.include(error.reply, "unknown command")
      assert.notInclude(texts(error), SECRET)
    }))

  it.effect("do not appear in the configuration either", () =>
    Effect.gen(function*() {
      const config = yield* RedisConfig.make({ password: Redacted.make(SECRET) })
      assert.notInclude(texts(config), SECRET)
    }))
})
