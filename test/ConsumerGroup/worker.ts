/**
 * A process that handles entries until it is killed. What it has handled it says before it acknowledges it.
 */
import { Effect, Layer, Logger, LogLevel, Redacted, Schedule } from "effect"
import * as ConsumerGroup from "../../src/ConsumerGroup/index.js"
import { layer as redis } from "../../src/IoRedis.js"
import { BATCH, CONCURRENCY, Group, isPoison, type Task } from "./task.js"

const task: Task = JSON.parse(process.argv[2] ?? "{}")

const say = (message: unknown) => Effect.sync(() => void process.stdout.write(`${JSON.stringify(message)}\n`))

const program = Effect.gen(function*() {
  const worker = yield* ConsumerGroup.start(
    Group,
    ({ deliveries, id, value }) =>
      Effect.zipRight(
        Effect.sleep(task.work),
        isPoison(value.n) ? Effect.fail("it always fails") : say([id, deliveries])
      ),
    {
      consumer: task.consumer,
      concurrency: CONCURRENCY,
      batchSize: BATCH,
      lease: "2 seconds",
      claimEvery: "200 millis",
      retry: Schedule.spaced("20 millis"),
      maxDeliveries: 8
    }
  )
  yield* say("ready")
  return yield* worker.failure
})

await Effect.runPromise(
  Effect.scoped(program).pipe(
    Effect.provide(Layer.provideMerge(
      ConsumerGroup.layer,
      redis({ url: Redacted.make(task.url), commandTimeout: "3 seconds" })
    )),
    Logger.withMinimumLogLevel(LogLevel.None)
  )
)
process.exit(0)
