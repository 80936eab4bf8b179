/**
 * One of the processes that use everything at once, until it is killed or told to end. It goes on with each line it gets.
 */
import { Effect, Layer, Logger, LogLevel, Schedule } from "effect"
import { Redis } from "ioredis"
import { once } from "node:events"
import { createInterface } from "node:readline"
import * as Layers from "../../src/Layers.js"
import { loads } from "./loads.js"
import { makeWork, type Task, Work } from "./work.js"

const task: Task = JSON.parse(process.argv[2] ?? "{}")

const say = (message: object) => Effect.sync(() => void process.stdout.write(`${JSON.stringify(message)}\n`))

const input = createInterface({ input: process.stdin })

const line = Effect.promise(() => once(input, "line"))

const redis = new Redis(task.book, { enableAutoPipelining: true })

const program = Effect.gen(function*() {
  const work = yield* makeWork(task, redis)
  yield* Effect.forEach(loads, ({ run }) => run, { discard: true }).pipe(
    Effect.provide(Layer.succeed(Work, work))
  )
  yield* say({ ready: task.name })
  // A bug as others: this promise is broken as well.
  if (task.planted && task.name === "p1") {
    yield* Effect.forkScoped(Effect.delay(Effect.sync(() => process.exit(7)), 8000))
  }
  yield* line
  work.calm.now = true
  yield* line
})

await Effect.runPromise(
  program.pipe(
    Effect.scoped,
    // It may begin while the servers are in trouble.
    Effect.provide(Layer.retry(Layers.live(task.client), Schedule.spaced("500 millis"))),
    // What goes wrong on the way is what this is about.
    Logger.withMinimumLogLevel(LogLevel.None)
  )
)
await redis.quit()
process.exit(0)
