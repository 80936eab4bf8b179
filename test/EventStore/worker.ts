/**
 * A process that runs a projection, and says what it has handled.
 */
import { Effect, Layer, Logger, LogLevel, Redacted } from "effect"
import * as EventStore from "../../src/EventStore/index.js"
import { layer as redis } from "../../src/IoRedis.js"
import { accounts, amounts } from "./tools.js"

export interface Task {
  readonly url: string
  readonly name: string
  readonly projection: string
  readonly batch: number
  /** Milliseconds. */
  readonly lease: number
  /** How long an event takes, in milliseconds. */
  readonly pause: number
}

const task: Task = JSON.parse(process.argv[2] ?? "{}")

const say = (message: object) => Effect.sync(() => void process.stdout.write(`${JSON.stringify(message)}\n`))

const program = Effect.flatMap(EventStore.open(accounts(task.name)), (store) =>
  store.project({
    name: task.projection,
    batch: task.batch,
    lease: task.lease,
    handle: (event) => Effect.delay(say({ amount: amounts([event])[0] }), task.pause)
  }))

await Effect.runPromise(
  program.pipe(
    Effect.provide(Layer.provideMerge(EventStore.layer, redis({ url: Redacted.make(task.url) }))),
    Logger.withMinimumLogLevel(LogLevel.None)
  )
)
