/**
 * A schedule and a few processes with wrong clocks that all make it, fire it and work at its jobs, while one after the
 * other is killed, and sometimes all of them. What must hold in the end is checked by what they have written down.
 */
import { DateTime, Effect, Layer, Option, Redacted, Schedule, Schema, type Scope } from "effect"
import * as Fs from "node:fs"
import * as Os from "node:os"
import * as Path from "node:path"
import { layer as redis } from "../../src/IoRedis.js"
import * as Queue from "../../src/Queue/index.js"
import * as RealServer from "../kit/RealServer.js"
import * as Worker from "../kit/worker.js"
import type { Task } from "./schedulesWorker.js"

export const Ticks = Queue.define({
  name: "ticks",
  payload: Schema.String,
  attempts: 1000,
  backoff: () => 0,
  lease: "2 seconds"
})

export interface Options {
  readonly processes: number
  /** In milliseconds, all of them. */
  readonly every: number
  readonly duration: number
  readonly killEvery: number
}

export interface Report {
  readonly slots: number
  readonly runs: number
  readonly kills: number
  readonly problems: ReadonlyArray<string>
}

/** Lines `id attempt` of all processes. */
const runsIn = (folder: string): ReadonlyArray<string> =>
  Fs.readdirSync(folder).flatMap((name) =>
    Fs.readFileSync(Path.join(folder, name), "utf8").split("\n").filter((line) => line.includes(" "))
  )

const hasWorked = (folder: string, pid: number | undefined): boolean => {
  const path = Path.join(folder, `${pid}.log`)
  return Fs.existsSync(path) && Fs.statSync(path).size > 0
}

/** What is wrong with what has happened. */
const problemsOf = (
  runs: ReadonlyArray<string>,
  { fired, last, next }: Queue.ScheduleInfo<string>,
  every: number
): ReadonlyArray<string> => {
  const problems: Array<string> = []
  if (new Set(runs).size !== runs.length) problems.push("a job was there twice")
  const slots = new Set(runs.map((line) => Number(/^schedule:tick:(\d+) /.exec(line)?.[1])))
  const sorted = [...slots].toSorted((a, b) => a - b)
  for (let i = 1; i < sorted.length; i++) {
    if (sorted[i]! - sorted[i - 1]! !== every) problems.push(`no slot between ${sorted[i - 1]} and ${sorted[i]}`)
  }
  if (fired !== slots.size) problems.push(`${fired} slots were fired, and the jobs of ${slots.size} were run`)
  if (Option.isSome(next)) problems.push("it is not paused")
  if (Option.getOrUndefined(Option.map(last, DateTime.toEpochMillis)) !== sorted.at(-1)) {
    problems.push("the last slot has no job")
  }
  return problems
}

export const run = (
  { duration, every, killEvery, processes }: Options
): Effect.Effect<Report, unknown, Scope.Scope> =>
  Effect.gen(function*() {
    const folder = yield* Effect.acquireRelease(
      Effect.sync(() => Fs.mkdtempSync(Path.join(Os.tmpdir(), "schedules-"))),
      (folder) => Effect.sync(() => Fs.rmSync(folder, { recursive: true }))
    )
    const server = yield* RealServer.start()
    const start = (i: number) =>
      Worker.start(
        new URL("./schedulesWorker.ts", import.meta.url),
        { url: server.url, folder, every, skew: [0, 3_600_000, -3_600_000, 777][i % 4]! } satisfies Task
      )
    const workers = yield* Effect.all(Array.from({ length: processes }, (_, i) => start(i)))
    return yield* Effect.gen(function*() {
      const info = Effect.flatten(Queue.getSchedule(Ticks, "tick"))
      yield* Effect.retry(info, Schedule.spaced("20 millis"))
      const began = yield* Effect.clockWith((clock) => clock.currentTimeMillis)
      let kills = 0
      let now = began
      for (let round = 1; now - began < duration; round++) {
        yield* Effect.sleep(killEvery)
        // A busy machine takes its time to start a process: that it works shows in what it has written.
        yield* Effect.repeat(Effect.sync(() => workers.every(({ child }) => hasWorked(folder, child.pid))), {
          schedule: Schedule.spaced("20 millis"),
          until: (all) => all
        })
        // Now and then nobody is left.
        const victims = round % 5 === 2 ? workers.map((_, i) => i) : [round % processes]
        for (const i of victims) {
          workers[i]!.child.kill("SIGKILL")
          kills++
          workers[i] = yield* start(i)
        }
        now = yield* Effect.clockWith((clock) => clock.currentTimeMillis)
      }
      // All that were fired are done, also those of the processes that were killed.
      const fired = yield* Effect.map(info, ({ fired }) => fired)
      yield* Effect.repeat(info, { schedule: Schedule.spaced("20 millis"), until: (info) => info.fired > fired + 3 })
      yield* Queue.pauseSchedule(Ticks, "tick")
      yield* Effect.repeat(Queue.counts(Ticks), {
        schedule: Schedule.spaced("20 millis"),
        until: ({ delayed, ready, running }) => delayed + ready + running === 0
      })
      const runs = runsIn(folder)
      const end = yield* info
      return { slots: end.fired, runs: runs.length, kills, problems: problemsOf(runs, end, every) }
    }).pipe(Effect.provide(Layer.provideMerge(Queue.layer, redis({ url: Redacted.make(server.url) }))))
  })
