/**
 * The command line program: `npm start -- --help`.
 */
import { runMain } from "@effect/platform-node/NodeRuntime"
import { Cause, ConfigError, Console, Data, Effect, Logger, LogLevel } from "effect"
import { RedisLive, RedisTest } from "effect-redis-kit"
import { spawn } from "node:child_process"
import { randomUUID } from "node:crypto"
import { fileURLToPath } from "node:url"
import { backstage } from "./backstage.js"
import { evening, type Screen } from "./box-office.js"
import { emptyTally, letIn } from "./crowd.js"
import { discoveries, forget } from "./discover.js"
import { HELP, type Options, parse, type Port } from "./options.js"
import { headline, summary, verdict } from "./report.js"
import { close, type Sale } from "./sale.js"
import { plan } from "./venues.js"
import { serve } from "./web/server.js"

/** Where it is, is up to `RedisLive`. */
const hasServer = [process.env.REDIS_URL, process.env.REDIS_HOST].some((value) => value !== undefined && value !== "")

class WorkerFailed extends Data.TaggedError("WorkerFailed")<{ readonly message: string }> {}

const worker = (args: ReadonlyArray<string>): Effect.Effect<void, WorkerFailed> =>
  Effect.async((resume) => {
    const child = spawn(process.execPath, [fileURLToPath(import.meta.url), ...args], {
      stdio: ["ignore", "ignore", "inherit"]
    })
    const failed = (how: string) => resume(new WorkerFailed({ message: `a process that sold ${how}` }))
    child.once("error", ({ message }) => failed(`could not be started: ${message}`))
    child.once("exit", (code, signal) => code === 0 ? resume(Effect.void) : failed(`ended with ${signal ?? code}`))
    return Effect.sync(() => void child.kill())
  })

/** As many processes as are wanted, each with its share of the buyers. */
const workers = (sale: Sale, { buyers, pace, processes, seats, venues }: Options, seed: string) =>
  Effect.forEach(
    Array.from({ length: processes }, (_, n) => Math.floor((buyers + n) / processes)),
    (share, n) =>
      worker([
        "--worker",
        `--sale=${sale.id}`,
        `--seed=${seed}-${n + 1}`,
        `--venues=${venues}`,
        `--seats=${seats}`,
        `--buyers=${share}`,
        ...(pace === undefined ? [] : [`--pace=${Math.ceil(pace / processes)}`])
      ]),
    { concurrency: "unbounded", discard: true }
  )

const screenOf = ({ check }: Options): Screen =>
  check
    ? { show: () => Effect.void, every: "1 minute" }
    : process.stdout.isTTY
    ? { show: (line) => Effect.sync(() => void process.stdout.write(`\r${line}\x1b[K`)), every: "500 millis" }
    : { show: Console.log, every: "3 seconds" }

/** Serves the page until the scope closes, and says where it is. */
const openPage = (sale: Sale, { exact, number }: Port) =>
  serve(sale, number).pipe(
    Effect.map((port) => `Page: http://localhost:${port}`),
    Effect.catchTag("CannotListen", (error) =>
      exact
        ? error
        : Effect.map(serve(sale, 0), (port) => `Page: http://localhost:${port} (${error.message})`)),
    Effect.flatMap(Console.log)
  )

/** Whoever looks at the page has time to see something. */
const PACE_OF_A_SHOW = 20

const program = (given: Options) =>
  Effect.gen(function*() {
    const isShow = given.port !== undefined && process.stdout.isTTY
    const options = { ...given, pace: given.pace ?? (isShow ? PACE_OF_A_SHOW : undefined) }
    const sale: Sale = { id: options.sale ?? randomUUID().slice(0, 8), venues: plan(options.venues, options.seats) }
    const seed = options.seed ?? randomUUID().slice(0, 8)
    const crowd = letIn({ sale, seed, buyers: options.buyers, tally: emptyTally(), pace: options.pace })
    if (options.worker) {
      yield* crowd
      return
    }
    yield* Console.log(yield* headline(sale, options.buyers, hasServer ? "a Redis server" : "the server in memory"))
    if (options.sale === undefined) {
      yield* Effect.addFinalizer(() => Effect.ignore(Effect.zipRight(forget(sale), close(sale))))
    }
    if (options.port !== undefined) yield* openPage(sale, options.port)
    const selling = Effect.if(options.processes > 1, {
      onTrue: () => workers(sale, options, seed),
      onFalse: () => crowd
    })
    const { audit, time } = yield* evening(sale, selling, screenOf(options))
    const lines = [...yield* summary(sale, audit, time), ...yield* discoveries(sale), ...verdict(audit)]
    for (const line of lines) yield* Console.log(line)
    if (audit.problems.length > 0) {
      process.exitCode = 1
    } else if (options.port !== undefined && process.stdout.isTTY) {
      yield* Console.log("The page stays open until Ctrl-C.")
      yield* backstage(sale)
      return yield* Effect.never
    }
  }).pipe(Effect.scoped)

const main = Effect.gen(function*() {
  const options = yield* parse(process.argv.slice(2))
  if (options.help) {
    yield* Console.log(HELP)
    return
  }
  if (options.processes > 1 && !hasServer) {
    return yield* Effect.fail("--processes needs a server that all of them can reach: set REDIS_URL")
  }
  yield* Effect.provide(program(options), hasServer ? RedisLive : RedisTest)
})

main.pipe(
  Effect.catchAll((error) =>
    Effect.zipRight(
      Console.error(
        typeof error === "string"
          ? `${error}\nTry --help.`
          : ConfigError.isConfigError(error)
          ? Cause.pretty(Cause.fail(error))
          : error.message
      ),
      Effect.sync(() => void (process.exitCode = 1))
    )
  ),
  // Careless buyers lose their locks on purpose, of which the library warns; the summary counts them.
  Effect.provide(Logger.minimumLogLevel(LogLevel.Error)),
  runMain
)
