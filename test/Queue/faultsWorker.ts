/**
 * A process with one worker, whose job waits for a line and then ends as it is told. What happens to it is told in lines
 * of JSON.
 */
import { Effect, Fiber, Layer, Logger, LogLevel, Redacted, Schema, Stream } from "effect"
import { createInterface } from "node:readline"
import { layer as redis } from "../../src/IoRedis.js"
import * as Queue from "../../src/Queue/index.js"

export interface Task {
  readonly url: string
  readonly name: string
  readonly lease: number
}

const task: Task = JSON.parse(process.argv[2] ?? "{}")

const say = (message: object) => Effect.sync(() => void process.stdout.write(`${JSON.stringify(message)}\n`))

const Jobs = Queue.define({
  name: task.name,
  payload: Schema.Struct({ succeeds: Schema.Boolean }),
  lease: task.lease
})

const lines = Stream.fromAsyncIterable(createInterface({ input: process.stdin }), String)

/** What the library warns of. */
const warnings = Logger.make<unknown, void>(({ logLevel, message }) => {
  if (LogLevel.greaterThanEqual(logLevel, LogLevel.Warning)) {
    process.stdout.write(`${JSON.stringify({ warned: String(message) })}\n`)
  }
})

const program = Effect.gen(function*() {
  const go = yield* Effect.forkScoped(Stream.runHead(lines))
  yield* Queue.makeWorker(Jobs, ({ attempt, payload }) =>
    // It does not let itself be stopped: it comes to its end, however late.
    Effect.uninterruptible(Effect.gen(function*() {
      yield* say({ attempt })
      yield* Fiber.join(go)
      yield* say({ ended: payload.succeeds })
      if (!payload.succeeds) {
        return yield* Effect.fail("failed")
      }
    })))
  return yield* Effect.never
}).pipe(Effect.scoped)

await Effect.runPromise(
  program.pipe(
    Effect.provide(Layer.provideMerge(Queue.layer, redis({ url: Redacted.make(task.url) }))),
    Effect.provide(Logger.replace(Logger.defaultLogger, warnings))
  )
)
