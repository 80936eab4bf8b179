/**
 * A real Redis or Valkey server for tests: found, or started for them and stopped after them.
 */
import { Data, Effect, Option, type Scope } from "effect"
import * as ChildProcess from "node:child_process"
import * as Fs from "node:fs"
import * as Net from "node:net"
import * as Os from "node:os"
import * as Path from "node:path"
import * as Resp from "./resp.js"

export class RealServerError extends Data.TaggedError("RealServerError")<{ readonly message: string }> {}

/** Where a server can come from. */
export type Source = Data.TaggedEnum<{
  /** Somebody else's server. */
  Url: { readonly url: string }
  /** A program on this machine. */
  Program: { readonly path: string }
  /** Docker, through testcontainers. */
  Container: {}
}>
export const Source = Data.taggedEnum<Source>()

/** What `find` looks at; tests put their own in place of it. */
export interface Surroundings {
  readonly env: Readonly<Record<string, string | undefined>>
  /** The full path of a program on the PATH. */
  readonly which: (program: string) => Option.Option<string>
  /** Whether a container runtime answers. */
  readonly hasContainers: Effect.Effect<boolean>
  /** Whether packages can be installed here: Debian or a relative, and we are root. */
  readonly canInstall: boolean
  readonly install: Effect.Effect<void, RealServerError>
  /** Tells the developer what is being done. */
  readonly say: (message: string) => void
}

const which = (program: string): Option.Option<string> => {
  for (const folder of (process.env.PATH ?? "").split(Path.delimiter)) {
    const path = Path.join(folder, program)
    try {
      Fs.accessSync(path, Fs.constants.X_OK)
      return Option.some(path)
    } catch {
      // not in this folder
    }
  }
  return Option.none()
}

const run = (program: string, args: ReadonlyArray<string>): Effect.Effect<void, RealServerError> =>
  Effect.async((resume) => {
    const child = ChildProcess.spawn(program, args, {
      stdio: ["ignore", "ignore", "inherit"],
      env: { ...process.env, DEBIAN_FRONTEND: "noninteractive" }
    })
    const failed = (why: string) =>
      resume(Effect.fail(new RealServerError({ message: `${program} ${args.join(" ")}: ${why}` })))
    child.on("error", (error) => failed(error.message))
    child.on("exit", (code) => code === 0 ? resume(Effect.void) : failed(`exit code ${code}`))
  })

export const surroundings: Surroundings = {
  env: process.env,
  which,
  hasContainers: Effect.tryPromise(async () => {
    const { getContainerRuntimeClient } = await import("testcontainers")
    await getContainerRuntimeClient()
  }).pipe(Effect.isSuccess),
  canInstall: process.getuid?.() === 0 && Fs.existsSync("/etc/debian_version"),
  install: Effect.zipRight(
    run("apt-get", ["update", "-qq"]),
    run("apt-get", ["install", "-y", "-qq", "--no-install-recommends", "redis-server"])
  ),
  say: (message) => process.stderr.write(`${message}\n`)
}

const NOTHING_FOUND =
  "No Redis server for the tests: set REDIS_URL, put redis-server or valkey-server on the PATH, or start Docker."

/**
 * `REDIS_URL`; a program on the PATH; a container (`REDIS_TEST_CONTAINER=1` tries it before everything else); a package
 * installed on the spot. Tests are never skipped for want of a server: they fail with one sentence.
 */
export const find = (around: Surroundings = surroundings): Effect.Effect<Source, RealServerError> =>
  Effect.gen(function*() {
    if (around.env.REDIS_TEST_CONTAINER === "1") {
      if (yield* around.hasContainers) return Source.Container()
      return yield* new RealServerError({
        message: "REDIS_TEST_CONTAINER=1 asks for a container, but no container runtime answers."
      })
    }
    const url = around.env.REDIS_URL
    if (url !== undefined && url !== "") return Source.Url({ url })
    const program = () => Option.orElse(around.which("redis-server"), () => around.which("valkey-server"))
    const found = program()
    if (Option.isSome(found)) return Source.Program({ path: found.value })
    if (yield* around.hasContainers) return Source.Container()
    if (around.canInstall) {
      around.say("No Redis server found: installing one with apt-get.")
      yield* around.install
      const installed = program()
      if (Option.isSome(installed)) return Source.Program({ path: installed.value })
    }
    return yield* new RealServerError({ message: NOTHING_FOUND })
  })

export interface Options {
  /** Keeps the data on disk, so that it survives `kill` and `restart`. */
  readonly appendonly?: boolean | undefined
  readonly password?: string | undefined
  /** More arguments of `redis-server`. */
  readonly args?: ReadonlyArray<string> | undefined
}

export interface Server {
  readonly kind: Source["_tag"]
  readonly url: string
  readonly host: string
  readonly port: number
  /** As `redis 7.0.15`. */
  readonly version: string
  /** Stops it in the middle of what it does (SIGKILL). */
  readonly kill: Effect.Effect<void, RealServerError>
  /** Starts it again on the same port, after stopping it if it runs. */
  readonly restart: Effect.Effect<void, RealServerError>
  /** Freezes it: connections stay open, and nothing answers (SIGSTOP). */
  readonly pause: Effect.Effect<void, RealServerError>
  readonly resume: Effect.Effect<void, RealServerError>
  /** One command over a connection of its own; an error reply is a failure. */
  readonly cli: (...args: ReadonlyArray<string>) => Effect.Effect<Resp.Reply, RealServerError>
}

const address = (url: string) => {
  const parsed = new URL(url)
  const username = decodeURIComponent(parsed.username)
  const password = decodeURIComponent(parsed.password)
  const db = parsed.pathname.slice(1)
  return {
    host: parsed.hostname.replace(/^\[(.*)\]$/, "$1"),
    port: parsed.port === "" ? 6379 : Number(parsed.port),
    hello: [
      ...(password === "" ? [] : [username === "" ? ["AUTH", password] : ["AUTH", username, password]]),
      ...(db === "" ? [] : [["SELECT", db]])
    ]
  }
}

const ask = (url: string, args: ReadonlyArray<string>, timeoutMillis = 10_000) => {
  const { hello, ...where } = address(url)
  return Effect.tryPromise({
    try: async () => (await Resp.talk(where, [...hello, args], timeoutMillis)).at(-1) ?? null,
    catch: (error) =>
      new RealServerError({ message: `${args[0]}: ${error instanceof Error ? error.message : String(error)}` })
  })
}

const describe = (kind: Server["kind"], url: string, signals: Pick<Server, "kill" | "restart" | "pause" | "resume">) =>
  Effect.map(ask(url, ["INFO", "server"]), (info): Server => {
    const field = (name: string) => new RegExp(`^${name}:(.*?)\r?$`, "m").exec(String(info))?.[1]
    const valkey = field("valkey_version")
    const { host, port } = address(url)
    return {
      kind,
      url,
      host,
      port,
      version: valkey === undefined ? `redis ${field("redis_version")}` : `valkey ${valkey}`,
      cli: (...args) => ask(url, args),
      ...signals
    }
  })

const cannot = (what: string) =>
  Effect.fail(new RealServerError({ message: `${what} needs a server that the tests started from a program.` }))

export const freePort: Effect.Effect<number> = Effect.async((resume) => {
  const probe = Net.createServer()
  probe.listen(0, "127.0.0.1", () => {
    const bound = probe.address()
    const port = typeof bound === "object" && bound !== null ? bound.port : 0
    probe.close(() => resume(Effect.succeed(port)))
  })
})

/**
 * Kills the server when this process is gone, however it went: the shell's `read` ends when the other end of its pipe
 * does.
 */
export const guard = (pid: number, folder: string): ChildProcess.ChildProcess => {
  const watcher = ChildProcess.spawn(
    "/bin/sh",
    ["-c", "read _; kill -9 \"$1\"; rm -rf \"$2\"", "sh", `${pid}`, folder],
    {
      stdio: ["pipe", "ignore", "ignore"],
      detached: true
    }
  )
  watcher.unref()
  if (watcher.stdin !== null && "unref" in watcher.stdin && typeof watcher.stdin.unref === "function") {
    watcher.stdin.unref()
  }
  return watcher
}

const flags = (options: Options): ReadonlyArray<string> => [
  "--save",
  "",
  "--appendonly",
  options.appendonly === true ? "yes" : "no",
  "--enable-debug-command",
  "yes",
  ...(options.password === undefined ? [] : ["--requirepass", options.password]),
  ...(options.args ?? [])
]

const startProgram = (path: string, options: Options): Effect.Effect<Server, RealServerError, Scope.Scope> =>
  Effect.gen(function*() {
    const folder = yield* Effect.acquireRelease(
      Effect.sync(() => Fs.mkdtempSync(Path.join(Os.tmpdir(), "redis-test-"))),
      (folder) => Effect.sync(() => Fs.rmSync(folder, { recursive: true, force: true }))
    )
    let child: ChildProcess.ChildProcess | undefined
    let output = ""

    const stop: Effect.Effect<void> = Effect.async((resume) => {
      const running = child
      child = undefined
      if (running === undefined || running.exitCode !== null || running.signalCode !== null) return resume(Effect.void)
      running.once("exit", () => resume(Effect.void))
      running.kill("SIGKILL")
    })

    const launch = (port: number): Effect.Effect<string, RealServerError> =>
      Effect.gen(function*() {
        output = ""
        const started = ChildProcess.spawn(path, [
          "--port",
          `${port}`,
          "--bind",
          "127.0.0.1",
          "--dir",
          folder,
          "--appendfsync",
          "always",
          ...flags(options)
        ], { stdio: ["ignore", "pipe", "pipe"], detached: true })
        child = started
        started.on("error", (error) => output += error.message)
        const keep = (chunk: Buffer) => void (output = (output + chunk).slice(-2000))
        started.stdout?.on("data", keep)
        started.stderr?.on("data", keep)
        if (started.pid !== undefined) {
          const watcher = guard(started.pid, folder)
          started.once("exit", () => watcher.kill("SIGKILL"))
        }
        const url = options.password === undefined
          ? `redis://127.0.0.1:${port}`
          : `redis://:${encodeURIComponent(options.password)}@127.0.0.1:${port}`
        for (let attempt = 0; attempt < 500; attempt++) {
          if (started.exitCode !== null || started.pid === undefined) break
          // PING is refused while the server loads its data.
          if (yield* Effect.isSuccess(ask(url, ["PING"], 1000))) return url
          yield* Effect.async<void>((resume) => void setTimeout(() => resume(Effect.void), 20))
        }
        yield* stop
        return yield* new RealServerError({ message: `${path} did not start: ${output.trim()}` })
      })

    // Somebody else may take the free port before the server does.
    const launchSomewhere: Effect.Effect<string, RealServerError> = Effect.flatMap(freePort, launch)
    const url = yield* Effect.acquireRelease(Effect.retry(launchSomewhere, { times: 2 }), () => stop)
    const { port } = address(url)

    const signal = (name: "SIGSTOP" | "SIGCONT") => Effect.sync(() => void child?.kill(name))
    return yield* describe("Program", url, {
      kill: stop,
      restart: Effect.zipRight(stop, launch(port)),
      pause: signal("SIGSTOP"),
      resume: signal("SIGCONT")
    })
  })

const startContainer = (options: Options): Effect.Effect<Server, RealServerError, Scope.Scope> =>
  Effect.gen(function*() {
    const image = process.env.REDIS_TEST_IMAGE ?? "redis:7-alpine"
    const container = yield* Effect.acquireRelease(
      Effect.tryPromise({
        try: async () => {
          const { GenericContainer } = await import("testcontainers")
          const serverProgram = image.includes("valkey") ? "valkey-server" : "redis-server"
          return await new GenericContainer(image)
            .withExposedPorts(6379)
            .withCommand([
              serverProgram,
              ...flags(options)
            ])
            .start()
        },
        catch: (error) =>
          new RealServerError({ message: `container: ${error instanceof Error ? error.message : String(error)}` })
      }),
      (container) => Effect.promise(() => container.stop())
    )
    const auth = options.password === undefined ? "" : `:${encodeURIComponent(options.password)}@`
    return yield* describe("Container", `redis://${auth}${container.getHost()}:${container.getMappedPort(6379)}`, {
      kill: cannot("kill"),
      restart: cannot("restart"),
      pause: cannot("pause"),
      resume: cannot("resume")
    })
  })

/** A server from this source; `options` are for a server that is started. */
export const open = (source: Source, options: Options = {}): Effect.Effect<Server, RealServerError, Scope.Scope> =>
  Source.$match(source, {
    Url: ({ url }) =>
      describe("Url", url, {
        kill: cannot("kill"),
        restart: cannot("restart"),
        pause: cannot("pause"),
        resume: cannot("resume")
      }),
    Program: ({ path }) => startProgram(path, options),
    Container: () => startContainer(options)
  })

/** A fresh server that belongs to the scope, also when `REDIS_URL` names another. */
export const start = (options: Options = {}): Effect.Effect<Server, RealServerError, Scope.Scope> =>
  Effect.flatMap(
    find({ ...surroundings, env: { ...surroundings.env, REDIS_URL: undefined } }),
    (source) => open(source, options)
  )
