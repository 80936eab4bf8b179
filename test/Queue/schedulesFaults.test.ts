import { assert, describe, it } from "@effect/vitest"
import { Effect, Layer, Logger, LogLevel, Redacted, Schedule, Schema } from "effect"
import { layer as redis } from "../../src/IoRedis.js"
import * as Queue from "../../src/Queue/index.js"
import * as RealServer from "../kit/RealServer.js"
import { run } from "./schedulesRun.js"

const Ticks = Queue.define({ name: "ticks", payload: Schema.Null })

describe.concurrent("schedules of queues under faults", () => {
  it.live(
    "processes with wrong clocks are killed: each slot is fired once, and each job is done",
    () =>
      Effect.gen(function*() {
        const { kills, problems, slots } = yield* run({ processes: 2, every: 250, duration: 400, killEvery: 400 })
        assert.deepStrictEqual(problems, [])
        assert.isAtLeast(slots, 4)
        assert.isAtLeast(kills, 1)
      }).pipe(Effect.scoped),
    120_000
  )

  it.live(
    "a server that dies: schedules go on by themselves, and each slot is fired once",
    () =>
      Effect.gen(function*() {
        const server = yield* RealServer.start({ appendonly: true })
        const ids: Array<string> = []
        yield* Effect.gen(function*() {
          yield* Queue.makeWorker(Ticks, ({ id }) => Effect.sync(() => void ids.push(id)))
          yield* Queue.schedule(Ticks, "tick", { every: "200 millis", payload: null })
          const comes = (count: number) =>
            Effect.repeat(Effect.sync(() => ids.length), {
              schedule: Schedule.spaced("20 millis"),
              until: (n) => n >= count
            })
          yield* comes(2)
          yield* server.kill
          yield* Effect.sleep("1 second")
          yield* server.restart
          yield* comes(ids.length + 8)
          yield* server.cli("SCRIPT", "FLUSH")
          yield* server.cli("CLIENT", "KILL", "TYPE", "normal")
          yield* server.cli("CLIENT", "KILL", "TYPE", "pubsub")
          yield* comes(ids.length + 3)
          const slots = ids.map((id) => Number(id.slice("schedule:tick:".length)))
          for (let i = 1; i < slots.length; i++) assert.strictEqual(slots[i]! - slots[i - 1]!, 200)
          // What was told nobody is found out all the same.
          yield* Queue.schedule(Ticks, "other", { every: "200 millis", payload: null, count: 1 })
          yield* Effect.repeat(Effect.flatten(Queue.getSchedule(Ticks, "other")), {
            schedule: Schedule.spaced("20 millis"),
            until: ({ fired }) => fired === 1
          })
        }).pipe(
          Effect.scoped,
          Effect.provide(
            Layer.provideMerge(Queue.layer, redis({ url: Redacted.make(server.url), commandTimeout: "20 seconds" }))
          )
        )
      }).pipe(Effect.scoped, Logger.withMinimumLogLevel(LogLevel.None)),
    60_000
  )
})
