/**
 * A process that works at the jobs of the soak test until it is told to stop, and writes down what it does: what was
 * written is there, however it ends.
 */
import { Clock, Effect, Layer, Logger, LogLevel, Redacted, Schedule } from "effect"
import { once } from "node:events"
import * as Fs from "node:fs"
import * as Path from "node:path"
import { layer as redis } from "../../src/IoRedis.js"
import * as Queue from "../../src/Queue/index.js"
import { RedisClient } from "../../src/RedisClient.js"
import { Failed, fateOf, jobs, millisOf, type Task } from "./soakJobs.js"

const task: Task = JSON.parse(process.argv[2] ?? "{}")

const file = Fs.openSync(Path.join(task.folder, `${process.pid}.log`), "a")

/** `time what job attempt`, or `time gap from`. */
const note = (...words: ReadonlyArray<string | number>) =>
  Effect.map(Clock.currentTimeMillis, (now) => void Fs.writeSync(file, `${[now, ...words].join(" ")}\n`))

const handle = ({ attempt, payload: { n } }: Queue.Job<{ readonly n: number }>) =>
  Effect.gen(function*() {
    yield* note("start", n, attempt)
    const millis = millisOf(n)
    if (millis > 0) yield* Effect.sleep(millis)
    const fate = fateOf(n)
    if (typeof fate === "string" || attempt <= fate.failures) {
      yield* note("failed", n, attempt)
      return yield* new Failed({ final: fate === "gives up" })
    }
    yield* note("done", n, attempt)
  }).pipe(Effect.onInterrupt(() => note("interrupted", n, attempt)))

/** Writes down when this process or the server stood still for so long that a lease may have ended. */
const watch = Effect.gen(function*() {
  const client = yield* RedisClient
  let last = yield* Clock.currentTimeMillis
  return yield* client.send("PING").pipe(
    Effect.timeout("1 second"),
    Effect.matchEffect({
      onFailure: () => Effect.void,
      onSuccess: () =>
        Effect.gen(function*() {
          const now = yield* Clock.currentTimeMillis
          if (now - last > task.lease / 4) yield* note("gap", last)
          last = now
        })
    }),
    Effect.repeat(Schedule.spaced("50 millis"))
  )
})

const program = Effect.gen(function*() {
  yield* Effect.forkScoped(watch)
  yield* Queue.makeWorker(jobs(task.lease), handle, { concurrency: task.concurrency })
  yield* Effect.promise(() => once(process.stdin, "data"))
}).pipe(Effect.scoped)

await Effect.runPromise(
  program.pipe(
    Effect.provide(
      Layer.provideMerge(
        Queue.layer,
        // The server may be away at this moment.
        Layer.retry(
          redis({ url: Redacted.make(task.url), commandTimeout: "3 seconds" }),
          Schedule.spaced("100 millis")
        )
      )
    ),
    Logger.withMinimumLogLevel(LogLevel.None)
  )
)
process.exit(0)
