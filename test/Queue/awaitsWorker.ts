/**
 * A process that works at the jobs of `awaitsRun.ts` until it is killed.
 */
import { Effect, Layer, Logger, LogLevel, Redacted } from "effect"
import { layer as redis } from "../../src/IoRedis.js"
import * as Queue from "../../src/Queue/index.js"
import { jobs, type Task } from "./awaitsJobs.js"

const task: Task = JSON.parse(process.argv[2] ?? "{}")

const handle = ({ payload: { fate, n } }: Queue.Job<ReturnType<typeof jobs>["payload"]["Type"]>) =>
  Effect.gen(function*() {
    yield* Effect.sleep(n % 5)
    if (fate === "kills") process.kill(process.pid, "SIGKILL")
    if (fate === "fails") return yield* Effect.fail("failed")
    if (fate === "unrecoverable") return yield* Queue.unrecoverable("never")
    return n
  })

await Effect.runPromise(
  Effect.zipRight(
    Effect.sync(() => process.stdout.write(`{"ready":true}\n`)),
    Queue.runWorker(jobs(task.lease), handle, { concurrency: 20 })
  ).pipe(
    Effect.provide(Layer.provideMerge(Queue.layer, redis({ url: Redacted.make(task.url) }))),
    Logger.withMinimumLogLevel(LogLevel.None)
  )
)
