/**
 * A process that logs one user in several times at once, whenever it is told to.
 */
import { Effect, Layer, Logger, LogLevel, Redacted } from "effect"
import { once } from "node:events"
import { layer as redis } from "../../src/IoRedis.js"
import * as Session from "../../src/Session/index.js"

export interface Task {
  readonly url: string
  readonly name: string
  readonly maxPerUser: number
  readonly logins: number
  readonly rounds: number
}

const task: Task = JSON.parse(process.argv[2] ?? "{}")

const say = (message: object) => Effect.sync(() => void process.stdout.write(`${JSON.stringify(message)}\n`))

const program = Effect.gen(function*() {
  const sessions = yield* Session.open(Session.define(task))
  // The connection is made, and the script is known.
  yield* sessions.create({ userId: "warm", data: {} })
  for (let round = 0; round < task.rounds; round++) {
    yield* say({ ready: round })
    yield* Effect.promise(() => once(process.stdin, "data"))
    const created = yield* Effect.forEach(
      Array.from({ length: task.logins }),
      () => sessions.create({ userId: `ada-${round}`, data: {} }),
      { concurrency: "unbounded" }
    )
    yield* say({
      created: created.map(({ session, token }) => ({ id: session.id, token: Redacted.value(token) })),
      evicted: created.flatMap(({ evicted }) => evicted.map(({ id }) => id))
    })
  }
})

await Effect.runPromise(
  program.pipe(
    Effect.provide(Layer.provideMerge(Session.layer, redis({ url: Redacted.make(task.url) }))),
    Logger.withMinimumLogLevel(LogLevel.None)
  )
)
process.exit(0)
