/**
 * A process of the soak test of flows: it adds some, or works at all queues until it is told to stop, and writes down what it
 * does: what was written is there, however it ends.
 */
import { Clock, Effect, Layer, Logger, LogLevel, Schedule } from "effect"
import { once } from "node:events"
import * as Fs from "node:fs"
import * as Path from "node:path"
import { layer as redis } from "../../src/IoRedis.js"
import * as Queue from "../../src/Queue/index.js"
import { childrenOf, fails, flowOf, queues, type Task } from "./flowSoakJobs.js"

const task: Task = JSON.parse(process.argv[2] ?? "{}")

const file = Fs.openSync(Path.join(task.folder, `${process.pid}.log`), "a")

/** `time what id`. */
const note = (what: string, id: string) =>
  Effect.map(Clock.currentTimeMillis, (now) => void Fs.writeSync(file, `${now} ${what} ${id}\n`))

const defined = queues(task)

const handle =
  (below: Queue.Definition<{ readonly flow: number }, string>) => (job: Queue.Job<{ readonly flow: number }>) =>
    Effect.gen(function*() {
      const { attempt, id } = job
      yield* note("start", id)
      const results = yield* Effect.flatMap(Queue.childResults(job, below), Effect.all)
      if (JSON.stringify(results) !== JSON.stringify(childrenOf(id))) yield* note("wrong", `${id} ${results.join()}`)
      if (fails(id, attempt)) return yield* Effect.fail("at first")
      yield* Effect.sleep(5)
      yield* note("done", id)
      return id
    })

const work = Effect.gen(function*() {
  const { bottom, middle, top } = defined
  yield* Queue.makeWorker(top, handle(middle), { concurrency: 10 })
  yield* Queue.makeWorker(middle, handle(bottom), { concurrency: 10 })
  yield* Queue.makeWorker(bottom, handle(bottom), { concurrency: 10 })
  yield* Effect.promise(() => once(process.stdin, "data"))
}).pipe(Effect.scoped)

const produce = ({ from, step, to }: NonNullable<Task["produce"]>) =>
  Effect.gen(function*() {
    for (let n = from; n < to; n += step) {
      yield* Effect.retry(Queue.enqueueFlow(flowOf(defined, n)), Schedule.spaced("100 millis"))
      yield* note("added", String(n))
      yield* Effect.sleep(5)
    }
  })

await Effect.runPromise(
  (task.produce === undefined ? work : produce(task.produce)).pipe(
    Effect.provide(Layer.provideMerge(Queue.layer, redis({ clusterNodes: task.nodes }))),
    Logger.withMinimumLogLevel(LogLevel.None)
  )
)
process.exit(0)
