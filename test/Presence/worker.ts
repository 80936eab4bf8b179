/**
 * A process with connections in a room, for the tests that kill and stop some. It says in lines of JSON which of them
 * have joined again, until it is killed or told to end.
 */
import { Effect, Logger, LogLevel, Redacted, Stream } from "effect"
import { createInterface } from "node:readline"
import { layer as redis } from "../../src/IoRedis.js"
import * as Presence from "../../src/Presence/index.js"

interface Task {
  readonly url: string
  readonly room: string
  readonly users: ReadonlyArray<string>
}

const task: Task = JSON.parse(process.argv[2] ?? "{}")

const Rooms = Presence.define({ name: "processes", ttl: "1 second" })

const say = (message: object) => Effect.sync(() => void process.stdout.write(`${JSON.stringify(message)}\n`))

const lines = Stream.fromAsyncIterable(createInterface({ input: process.stdin }), String)

await Effect.runPromise(
  Effect.scoped(Effect.gen(function*() {
    for (const user of task.users) {
      const { rejoins } = yield* Presence.join(Rooms, task.room, user)
      yield* Effect.forkScoped(Stream.runForEach(rejoins, (rejoins) => say({ user, rejoins })))
    }
    yield* say({ ready: true })
    yield* Stream.runHead(lines)
  })).pipe(
    Effect.provide(Presence.layer),
    Effect.provide(redis({ url: Redacted.make(task.url), commandTimeout: "2 seconds" })),
    // That connections are gone is what this is about, and the lines of the output are for the test.
    Logger.withMinimumLogLevel(LogLevel.None)
  )
)
process.stdin.destroy()
