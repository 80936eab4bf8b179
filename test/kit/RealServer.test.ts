import { assert, describe, it } from "@effect/vitest"
import { Effect, Exit, Option, Scope } from "effect"
import * as ChildProcess from "node:child_process"
import * as Fs from "node:fs"
import * as Os from "node:os"
import * as Path from "node:path"
import * as RealServer from "./RealServer.js"

const nothing: RealServer.Surroundings = {
  env: {},
  which: () => Option.none(),
  hasContainers: Effect.succeed(false),
  canInstall: false,
  install: Effect.die("nothing may be installed"),
  say: () => {}
}

const onPath = (...programs: ReadonlyArray<string>) => (program: string) =>
  programs.includes(program) ? Option.some(`/bin/${program}`) : Option.none()

describe("finding a server", () => {
  it.effect("REDIS_URL comes first", () =>
    Effect.gen(function*() {
      const source = yield* RealServer.find({
        ...nothing,
        env: { REDIS_URL: "redis://there" },
        which: onPath("redis-server"),
        hasContainers: Effect.succeed(true)
      })
      assert.deepStrictEqual(source, RealServer.Source.Url({ url: "redis://there" }))
    }))

  it.effect("then a program, Redis before Valkey", () =>
    Effect.gen(function*() {
      const program = (...programs: ReadonlyArray<string>) =>
        RealServer.find({ ...nothing, which: onPath(...programs), hasContainers: Effect.succeed(true) })
      assert.deepStrictEqual(
        yield* program("valkey-server", "redis-server"),
        RealServer.Source.Program({ path: "/bin/redis-server" })
      )
      assert.deepStrictEqual(yield* program("valkey-server"), RealServer.Source.Program({ path: "/bin/valkey-server" }))
      assert.deepStrictEqual(
        yield* RealServer.find({ ...nothing, env: { REDIS_URL: "" }, which: onPath("redis-server") }),
        RealServer.Source.Program({ path: "/bin/redis-server" })
      )
    }))

  it.effect("then a container", () =>
    Effect.gen(function*() {
      const source = yield* RealServer.find({ ...nothing, hasContainers: Effect.succeed(true), canInstall: true })
      assert.deepStrictEqual(source, RealServer.Source.Container())
    }))

  it.effect("REDIS_TEST_CONTAINER=1 forces a container", () =>
    Effect.gen(function*() {
      const forced = {
        ...nothing,
        env: { REDIS_TEST_CONTAINER: "1", REDIS_URL: "redis://there" },
        which: onPath("redis-server")
      }
      assert.deepStrictEqual(
        yield* RealServer.find({ ...forced, hasContainers: Effect.succeed(true) }),
        RealServer.Source.Container()
      )
      const error = yield* Effect.flip(RealServer.find(forced))
      assert.include(error.message, "no container runtime")
    }))

  it.effect("then it installs one, and says so", () =>
    Effect.gen(function*() {
      let installed = false
      const said: Array<string> = []
      const source = yield* RealServer.find({
        ...nothing,
        canInstall: true,
        install: Effect.sync(() => void (installed = true)),
        which: (program) => installed ? onPath("redis-server")(program) : Option.none(),
        say: (message) => void said.push(message)
      })
      assert.deepStrictEqual(source, RealServer.Source.Program({ path: "/bin/redis-server" }))
      assert.lengthOf(said, 1)
      assert.include(said[0]!, "apt-get")
    }))

  it.effect("else it fails with one sentence", () =>
    Effect.gen(function*() {
      for (const around of [nothing, { ...nothing, canInstall: true, install: Effect.void }]) {
        const error = yield* Effect.flip(RealServer.find(around))
        assert.match(error.message, /^No Redis server for the tests: [^.]+\.$/)
        assert.include(error.message, "REDIS_URL")
        assert.include(error.message, "redis-server")
        assert.include(error.message, "Docker")
      }
    }))

  it.effect("what needs a program takes or installs one, or says so in one sentence", () =>
    Effect.gen(function*() {
      const here = { ...nothing, env: { REDIS_URL: "redis://there" }, hasContainers: Effect.succeed(true) }
      assert.deepStrictEqual(
        yield* RealServer.findProgram({ ...here, which: onPath("valkey-server") }),
        RealServer.Source.Program({ path: "/bin/valkey-server" })
      )
      let installed = false
      assert.deepStrictEqual(
        yield* RealServer.findProgram({
          ...here,
          canInstall: true,
          install: Effect.sync(() => void (installed = true)),
          which: (program) => installed ? onPath("redis-server")(program) : Option.none()
        }),
        RealServer.Source.Program({ path: "/bin/redis-server" })
      )
      for (const around of [here, { ...here, canInstall: true, install: Effect.void }]) {
        const error = yield* Effect.flip(RealServer.findProgram(around))
        assert.match(error.message, /^This test starts several servers: [^.]+\.$/)
        assert.include(error.message, "redis-server")
      }
    }))

  it.live("without a container runtime the probe says no, and does not fail", () =>
    Effect.map(RealServer.surroundings.hasContainers, (has) => assert.isBoolean(has)))
})

describe("a started server", () => {
  it.scopedLive("answers, and is gone with its scope", () =>
    Effect.gen(function*() {
      const scope = yield* Scope.make()
      const server = yield* Scope.extend(RealServer.start(), scope)
      assert.strictEqual(yield* server.cli("PING"), "PONG")
      assert.match(server.version, /^(redis|valkey) \d+\./)
      const pid = /process_id:(\d+)/.exec(String(yield* server.cli("INFO", "server")))?.[1]
      const config = yield* server.cli("CONFIG", "GET", "dir")
      const folder = Array.isArray(config) ? String(config[1]) : ""
      yield* Scope.close(scope, Exit.void)
      if (server.kind !== "Program") return
      assert.isFalse(Fs.existsSync(`/proc/${pid}`) && !/zombie/.test(Fs.readFileSync(`/proc/${pid}/status`, "utf8")))
      assert.isFalse(Fs.existsSync(folder))
    }))

  it.scopedLive("survives kill and restart with its data, when asked to", () =>
    Effect.gen(function*() {
      const server = yield* RealServer.start({ appendonly: true })
      yield* server.cli("SET", "a", "1")
      yield* server.kill
      assert.strictEqual((yield* Effect.flip(server.cli("PING")))._tag, "RealServerError")
      yield* server.restart
      assert.strictEqual(yield* server.cli("GET", "a"), "1")
      const plain = yield* RealServer.start()
      yield* plain.cli("SET", "a", "1")
      yield* plain.restart
      assert.isNull(yield* plain.cli("GET", "a"))
    }))

  it.scopedLive("can be frozen, and thawed", () =>
    Effect.gen(function*() {
      const server = yield* RealServer.start()
      yield* server.pause
      const fiber = yield* Effect.fork(server.cli("PING"))
      yield* Effect.sleep(100)
      assert.isTrue(Option.isNone(yield* fiber.poll))
      yield* server.resume
      assert.strictEqual(yield* fiber, "PONG")
    }))

  it.scopedLive("asks for its password", () =>
    Effect.gen(function*() {
      const server = yield* RealServer.start({ password: "p@ss:/word" })
      assert.strictEqual(yield* server.cli("PING"), "PONG")
      const open = yield* RealServer.open(
        RealServer.Source.Url({ url: `redis://${server.host}:${server.port}` })
      ).pipe(Effect.flip)
      assert.include(open.message, "NOAUTH")
    }))

  it.scopedLive("that does not start says why", () =>
    Effect.gen(function*() {
      const error = yield* Effect.flip(RealServer.start({ args: ["--no-such-option", "1"] }))
      assert.include(error.message, "did not start")
      const missing = yield* Effect.flip(RealServer.open(RealServer.Source.Program({ path: "/no/such-server" })))
      assert.include(missing.message, "/no/such-server did not start")
    }))

  it.live("is killed when the process that started it is gone", () =>
    Effect.gen(function*() {
      const folder = Fs.mkdtempSync(Path.join(Os.tmpdir(), "redis-test-"))
      const server = ChildProcess.spawn("sleep", ["60"], { stdio: "ignore" })
      const { shell, watch } = RealServer.guard(folder)
      watch(server.pid)
      // Both are listened to from the beginning: they may end in the same moment.
      const [killed, done] = [server, shell].map((child) =>
        new Promise<string | null>((resolve) => child.once("exit", (_code, signal) => resolve(signal)))
      )
      // What the system does with the pipe when we are gone.
      shell.stdin?.end()
      assert.strictEqual(yield* Effect.promise(async () => await killed), "SIGKILL")
      yield* Effect.promise(async () => await done)
      assert.isFalse(Fs.existsSync(folder))
    }))
})
