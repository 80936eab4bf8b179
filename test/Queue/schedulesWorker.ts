/**
 * A process whose clock is wrong, with a worker of a queue. It makes the schedule fifty times at once, and writes down each
 * job that it starts: what was written is there, however the process ends.
 */
import { Clock, Effect, Layer, Logger, LogLevel, Redacted, Schedule } from "effect"
import * as Fs from "node:fs"
import * as Path from "node:path"
import { layer as redis } from "../../src/IoRedis.js"
import * as Queue from "../../src/Queue/index.js"
import { skewed } from "../kit/skewed.js"
import { Ticks } from "./schedulesRun.js"

export interface Task {
  readonly url: string
  readonly folder: string
  readonly every: number
  /** By how many milliseconds the clock is wrong. */
  readonly skew: number
}

const { every, folder, skew, url }: Task = JSON.parse(process.argv[2] ?? "{}")

const file = Fs.openSync(Path.join(folder, `${process.pid}.log`), "a")

const program = Effect.gen(function*() {
  yield* Queue.makeWorker(
    Ticks,
    ({ attempt, id }) =>
      Effect.zipRight(Effect.sync(() => Fs.writeSync(file, `${id} ${attempt}\n`)), Effect.sleep("20 millis")),
    { concurrency: 5 }
  )
  yield* Effect.all(
    Array.from({ length: 50 }, () => Queue.schedule(Ticks, "tick", { every, payload: "tick", grace: "1 hour" })),
    { concurrency: "unbounded" }
  )
  Fs.writeSync(file, "up\n")
  return yield* Effect.never
}).pipe(Effect.scoped, Effect.provide(Queue.layer))

await Effect.runPromise(
  program.pipe(
    Effect.retry(Schedule.spaced("50 millis")),
    Effect.provide(Layer.retry(redis({ url: Redacted.make(url) }), Schedule.spaced("50 millis"))),
    Effect.withClock(skewed(Clock.make(), skew)),
    Logger.withMinimumLogLevel(LogLevel.None)
  )
)
