/**
 * What the workers of an inspected queue tell about themselves: that they live, and what they run since when. It is told
 * by a call of its own, some time after something has changed, so that no job waits for it.
 */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import type * as Scope from "effect/Scope"
import { hostname } from "node:os"
import * as Alarm from "../internal/alarm.js"
import type { Service as Client } from "../RedisClient.js"
import * as scripts from "./inspectionScripts.js"
import type { Keys } from "./keys.js"
import type { Pace } from "./Wakeups.js"

/** What is kept of a worker. */
export const Report = Schema.parseJson(Schema.Struct({
  host: Schema.String,
  pid: Schema.Number,
  /** Milliseconds, by its own clock. */
  since: Schema.Number,
  concurrency: Schema.Number,
  running: Schema.Number,
  /** Some of the jobs that run, and since when. */
  jobs: Schema.Array(Schema.Tuple(Schema.String, Schema.Number))
}))

const encodeReport = Schema.encodeSync(Report)

/** What a worker shows of itself. */
export interface Observed {
  readonly concurrency: number
  readonly running: ReadonlySet<{ readonly id: string; readonly startedAt: number }>
}

export interface Observer {
  /** Something has started or ended. */
  readonly changed: () => void
}

/** How long after a change it is told, in milliseconds: many changes are told at once. */
const SOON = 1000

/** How many of its jobs a worker names. */
const NAMED = 100

/** A queue is announced again after so long. */
export const ANNOUNCED = 3_600_000

/** How long a worker that ends tries to say so. */
const FAREWELL = "1 second"

/** Says that there is a queue, in the background. */
export const announce = (client: Client, name: string): Effect.Effect<void> =>
  Effect.ignore(client.eval(scripts.announce, name))

export const make = (
  client: Client,
  name: string,
  keys: Keys,
  worker: string,
  pace: Pace,
  look: () => Observed
): Effect.Effect<Observer, never, Scope.Scope> =>
  Effect.gen(function*() {
    const since = yield* Clock.currentTimeMillis
    const wall = yield* Effect.clock
    /** Three reports may be lost. */
    const alive = pace.report * 3
    let toldAt = -Infinity
    let announcedAt = -Infinity
    let telling = false
    let dirty = false
    let ended = false

    const info = (): string => {
      const { concurrency, running } = look()
      // Those times are of a clock that never goes back.
      const offset = wall.unsafeCurrentTimeMillis() - now()
      const jobs: Array<readonly [string, number]> = []
      for (const { id, startedAt } of running) {
        if (jobs.length === NAMED) break
        jobs.push([id, Math.round(startedAt + offset)])
      }
      return encodeReport({ host: hostname(), pid: process.pid, since, concurrency, running: running.size, jobs })
    }

    const tell = (): void => {
      if (telling || ended) return
      telling = true
      dirty = false
      toldAt = now()
      const announcing = toldAt >= announcedAt + ANNOUNCED
      if (announcing) announcedAt = toldAt
      const report = Effect.ignore(client.eval(scripts.report, keys, worker, alive, info()))
      // The first report is what the history begins with, so it comes before the first job.
      run(announcing ? Effect.zipRight(report, announce(client, name)) : report).addObserver(() => {
        telling = false
        next()
      })
    }

    /** Reports come at intervals, or not at all when there is nothing to say. */
    const next = (): void => {
      const at = toldAt + (dirty ? SOON : pace.report)
      if (at < Infinity) ringBy(at)
    }

    const { now, ringBy, run } = yield* Alarm.make(() => {
      if (now() >= toldAt + (dirty ? SOON : pace.report)) tell()
      else next()
    })
    yield* Effect.addFinalizer(() =>
      Effect.suspend(() => {
        ended = true
        return Effect.timeoutOption(
          Effect.interruptible(Effect.ignore(client.eval(scripts.report, keys, worker, 0, ""))),
          FAREWELL
        )
      })
    )
    tell()
    return {
      changed: () => {
        if (dirty || ended) return
        dirty = true
        if (!telling) next()
      }
    }
  })
