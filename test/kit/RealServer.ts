/**
 * A real Redis or Valkey server for tests: found, or started for them and stopped after them.
 */
import { Data, Effect, Either, Option, type Scope } from "effect"
import * as ChildProcess from "node:child_process"
import * as Crypto from "node:crypto"
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

const NO_PROGRAM =
  "This test starts several servers: put redis-server or valkey-server on the PATH, a URL or a container is not enough."

const program = (around: Surroundings): Option.Option<string> =>
  Option.orElse(around.which("redis-server"), () => around.which("valkey-server"))

const installed = (around: Surroundings): Effect.Effect<Option.Option<string>, RealServerError> =>
  Effect.gen(function*() {
    if (!around.canInstall) return Option.none()
    around.say("No Redis server found: installing one with apt-get.")
    yield* around.install
    return program(around)
  })

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
    const found = program(around)
    if (Option.isSome(found)) return Source.Program({ path: found.value })
    if (yield* around.hasContainers) return Source.Container()
    const path = yield* installed(around)
    if (Option.isSome(path)) return Source.Program({ path: path.value })
    return yield* new RealServerError({ message: NOTHING_FOUND })
  })

/** As `find`, for what needs a program: a cluster is not made of one URL. */
export const findProgram = (around: Surroundings = surroundings): Effect.Effect<Source, RealServerError> =>
  Effect.gen(function*() {
    const found = program(around)
    const path = Option.isSome(found) ? found : yield* installed(around)
    if (Option.isSome(path)) return Source.Program({ path: path.value })
    return yield* new RealServerError({ message: NO_PROGRAM })
  })

export interface Options {
  /** Keeps the data on disk, so that it survives `kill` and `restart`. */
  readonly appendonly?: boolean | undefined
  readonly password?: string | undefined
  /** More arguments of `redis-server`. */
  readonly args?: ReadonlyArray<string> | undefined
  /** Lines of a configuration file of its own, which the server may rewrite. Only for a program. */
  readonly config?: ReadonlyArray<string> | undefined
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
  /** Neither killed nor frozen, as far as the tests did it. */
  readonly running: Effect.Effect<boolean>
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

/** Commands over one connection, which is closed after them; an error reply is a failure. */
export const talk = (
  url: string,
  commands: ReadonlyArray<ReadonlyArray<string>>,
  timeoutMillis = 10_000
): Effect.Effect<ReadonlyArray<Resp.Reply>, RealServerError> => {
  const { hello, ...where } = address(url)
  return Effect.tryPromise({
    try: async () => (await Resp.talk(where, [...hello, ...commands], timeoutMillis)).slice(hello.length),
    catch: (error) =>
      new RealServerError({
        message: `${commands.map(([name]) => name).join(", ")}: ${
          error instanceof Error ? error.message : String(error)
        }`
      })
  })
}

const ask = (url: string, args: ReadonlyArray<string>) => Effect.map(talk(url, [args]), ([reply]) => reply ?? null)

/** In real time, also where tests move the clock. */
export const nap = (millis: number): Effect.Effect<void> =>
  Effect.async((resume) => {
    const timer = setTimeout(() => resume(Effect.void), millis)
    return Effect.sync(() => clearTimeout(timer))
  })

/** Asks again and again until the answer is right, for 20 seconds; the failure shows the last answer. */
export const until = <A>(
  what: string,
  question: Effect.Effect<A, RealServerError>,
  right: (answer: A) => boolean,
  show: (answer: A) => string,
  seconds = 20
): Effect.Effect<A, RealServerError> =>
  Effect.gen(function*() {
    const end = performance.now() + seconds * 1000
    while (true) {
      const answer = yield* Effect.either(question)
      if (Either.isRight(answer) && right(answer.right)) return answer.right
      if (performance.now() > end) {
        const last = Either.match(answer, { onLeft: (error) => error.message, onRight: show })
        return yield* new RealServerError({ message: `${what}: not within ${seconds} s. ${last}` })
      }
      yield* nap(50)
    }
  })

type Signals = Pick<Server, "kill" | "restart" | "pause" | "resume" | "running">

const describe = (kind: Server["kind"], url: string, signals: Signals) =>
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

const noSignals: Signals = {
  kill: cannot("kill"),
  restart: cannot("restart"),
  pause: cannot("pause"),
  resume: cannot("resume"),
  running: Effect.succeed(true)
}

const isFree = (port: number): Effect.Effect<boolean> =>
  Effect.async((resume) => {
    const probe = Net.createServer()
    probe.once("error", () => resume(Effect.succeed(false)))
    probe.listen(port, "127.0.0.1", () => probe.close(() => resume(Effect.succeed(true))))
  })

const handedOut = new Set<number>()

/**
 * A port that nobody listens at, nor at the one 10000 above it, where a node of a cluster talks to the others. Both are
 * below those that the system gives to clients: such a client could take the port of a server that is down for a while.
 */
export const freePort: Effect.Effect<number> = Effect.gen(function*() {
  while (true) {
    const port = 10_000 + Crypto.randomInt(12_768)
    if (handedOut.has(port)) continue
    handedOut.add(port)
    if ((yield* isFree(port)) && (yield* isFree(port + 10_000))) return port
  }
})

export interface Guard {
  /** The process that the folder belongs to from now on. */
  readonly watch: (pid: number | undefined) => void
  readonly shell: ChildProcess.ChildProcess
}

/**
 * Kills the process and removes its folder when we are gone, however we went: the shell's `read` ends when the other end
 * of its pipe does.
 */
export const guard = (folder: string): Guard => {
  const shell = ChildProcess.spawn(
    "/bin/sh",
    ["-c", "while read -r line; do pid=$line; done; [ -z \"$pid\" ] || kill -9 \"$pid\"; rm -rf \"$1\"", "sh", folder],
    {
      stdio: ["pipe", "ignore", "ignore"],
      detached: true
    }
  )
  shell.unref()
  shell.stdin.on("error", () => {})
  if ("unref" in shell.stdin && typeof shell.stdin.unref === "function") shell.stdin.unref()
  return { shell, watch: (pid) => void shell.stdin.write(`${pid ?? ""}\n`) }
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

/** Kills a process, and waits until it is gone. One that could not be started has no exit. */
const end = (child: ChildProcess.ChildProcess): Effect.Effect<void> =>
  Effect.async((resume) => {
    if (child.pid === undefined || child.exitCode !== null || child.signalCode !== null) return resume(Effect.void)
    child.once("exit", () => resume(Effect.void))
    child.ref()
    child.kill("SIGKILL")
  })

const startProgram = (path: string, options: Options): Effect.Effect<Server, RealServerError, Scope.Scope> =>
  Effect.gen(function*() {
    const folder = yield* Effect.acquireRelease(
      Effect.sync(() => Fs.mkdtempSync(Path.join(Os.tmpdir(), "redis-test-"))),
      (folder) => Effect.sync(() => Fs.rmSync(folder, { recursive: true, force: true }))
    )
    const watcher = yield* Effect.acquireRelease(
      Effect.sync(() => guard(folder)),
      ({ shell }) => end(shell)
    )
    const configFile = Path.join(folder, "server.conf")
    if (options.config !== undefined) Fs.writeFileSync(configFile, `${options.config.join("\n")}\n`)
    let child: ChildProcess.ChildProcess | undefined
    let frozen = false
    let output = ""

    const stop: Effect.Effect<void> = Effect.suspend(() => {
      const running = child
      child = undefined
      return running === undefined ? Effect.void : end(running)
    })
    yield* Effect.addFinalizer(() => stop)

    const launch = (port: number): Effect.Effect<string, RealServerError> =>
      Effect.gen(function*() {
        output = ""
        frozen = false
        const started = ChildProcess.spawn(path, [
          ...(options.config === undefined ? [] : [configFile]),
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
        watcher.watch(started.pid)
        started.once("exit", () => watcher.watch(undefined))
        const url = options.password === undefined
          ? `redis://127.0.0.1:${port}`
          : `redis://:${encodeURIComponent(options.password)}@127.0.0.1:${port}`
        // PING is refused while the server loads its data; the process says whether the answer is this server's.
        const answers = Effect.map(
          talk(url, [["PING"], ["INFO", "server"]], 1000),
          (replies) => String(replies[1]).includes(`process_id:${started.pid}\r`)
        )
        for (let attempt = 0; attempt < 500; attempt++) {
          if (started.exitCode !== null || started.pid === undefined) break
          if (yield* Effect.orElseSucceed(answers, () => false)) return url
          yield* nap(20)
        }
        yield* stop
        return yield* new RealServerError({ message: `${path} did not start: ${output.trim()}` })
      })

    // Somebody else may take the free port before the server does.
    const url = yield* Effect.retry(Effect.flatMap(freePort, launch), { times: 2 })
    const { port } = address(url)

    const signal = (name: "SIGSTOP" | "SIGCONT") =>
      Effect.sync(() => {
        frozen = name === "SIGSTOP"
        child?.kill(name)
      })
    return yield* describe("Program", url, {
      kill: stop,
      restart: Effect.zipRight(stop, launch(port)),
      pause: signal("SIGSTOP"),
      resume: signal("SIGCONT"),
      running: Effect.sync(() => child !== undefined && child.exitCode === null && child.signalCode === null && !frozen)
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
    return yield* describe(
      "Container",
      `redis://${auth}${container.getHost()}:${container.getMappedPort(6379)}`,
      noSignals
    )
  })

/** A server from this source; `options` are for a server that is started. */
export const open = (source: Source, options: Options = {}): Effect.Effect<Server, RealServerError, Scope.Scope> =>
  Source.$match(source, {
    Url: ({ url }) => describe("Url", url, noSignals),
    Program: ({ path }) => startProgram(path, options),
    Container: () => startContainer(options)
  })

/** A fresh server that belongs to the scope, also when `REDIS_URL` names another. */
export const start = (options: Options = {}): Effect.Effect<Server, RealServerError, Scope.Scope> =>
  Effect.flatMap(
    find({ ...surroundings, env: { ...surroundings.env, REDIS_URL: undefined } }),
    (source) => open(source, options)
  )
