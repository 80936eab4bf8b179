/**
 * Looking at queues as a whole, as a dashboard does.
 *
 * @since 0.1.0
 */
import type * as DateTime from "effect/DateTime"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import { checkName } from "../internal/rooms.js"
import { withSpan } from "../internal/telemetry.js"
import type * as RedisClient from "../RedisClient.js"
import type { RedisError } from "../RedisError.js"
import { type JobInfo, type Open, parseJson, spanned, type Status, statusOf, timeOf } from "./Control.js"
import { type DeadLetter, letterOf } from "./DeadLetters.js"
import type { Definition } from "./Definition.js"
import { waitingSince } from "./envelope.js"
import * as scripts from "./inspectionScripts.js"
import { keysOf, registryKey } from "./keys.js"
import { Report } from "./Observer.js"

// ---------------------------------------------------------------------------------------------------------------------
// Models
// ---------------------------------------------------------------------------------------------------------------------

/**
 * What became of jobs in one minute. What happens in its last seconds may count for the next one.
 *
 * @since 0.1.0
 * @category models
 */
export interface Throughput {
  /** When it began. */
  readonly minute: DateTime.Utc
  readonly completed: number
  /** Attempts that failed. */
  readonly failed: number
  /** Jobs that became dead letters. */
  readonly dead: number
}

/**
 * A queue at a glance.
 *
 * @since 0.1.0
 * @category models
 */
export interface Overview extends Status {
  readonly name: string
  /** How many jobs without a group are ready, by priority, from 0 to 7. */
  readonly readyByPriority: ReadonlyArray<number>
  /** How many jobs with a group are. */
  readonly readyInGroups: number
  /** The ready job without a group that waits for longest: since it was enqueued, or since its delay was over. */
  readonly oldestReady: Option.Option<{
    readonly id: string
    readonly priority: number
    readonly since: DateTime.Utc
    readonly age: Duration.Duration
  }>
  /** When the next delayed job is due. */
  readonly nextDue: Option.Option<DateTime.Utc>
  /** How many workers have told that they live. Only those of an inspected queue do. */
  readonly workers: number
  /** Of the last hour, the oldest minute first; without those in which nobody worked. Only an inspected queue has it. */
  readonly throughput: ReadonlyArray<Throughput>
  /** By the clock of the server. */
  readonly at: DateTime.Utc
}

/**
 * A job that runs. The lease is what says so.
 *
 * @since 0.1.0
 * @category models
 */
export interface RunningJob {
  readonly id: string
  /** By the clock of the worker. Known when the queue is inspected, a second after the start. */
  readonly since: Option.Option<DateTime.Utc>
  readonly leaseEnds: DateTime.Utc
}

/**
 * Somebody who works on a queue.
 *
 * @since 0.1.0
 * @category models
 */
export interface WorkerInfo {
  readonly id: string
  /** What it has told about itself. Workers of a queue that is not inspected are only known by their leases. */
  readonly report: Option.Option<{
    readonly host: string
    readonly pid: number
    readonly since: DateTime.Utc
    readonly concurrency: number
  }>
  readonly jobs: ReadonlyArray<RunningJob>
}

/**
 * Everything that is known of a job.
 *
 * @since 0.1.0
 * @category models
 */
export interface JobStory<out A> extends JobInfo<A> {
  /** What its handler has told last. */
  readonly progress: Option.Option<unknown>
  readonly deadline: Option.Option<DateTime.Utc>
  readonly deduplicationKey: Option.Option<string>
  /** Somebody has cancelled it, and it has not ended yet. */
  readonly cancelled: boolean
  /** Who runs it. */
  readonly worker: Option.Option<{ readonly id: string; readonly job: RunningJob }>
  /** How it ended. */
  readonly deadLetter: Option.Option<DeadLetter<A>>
}

/**
 * @since 0.1.0
 * @category models
 */
export interface Inspection {
  /** The names of the inspected queues that somebody has used in the last 30 days; 10,000 at most. */
  readonly queues: Effect.Effect<ReadonlyArray<string>, RedisError>
  /** Queues at a glance, inspected or not: one call for each, all at the same time. */
  readonly overview: (names: ReadonlyArray<string>) => Effect.Effect<ReadonlyArray<Overview>, RedisError>
  /** Who works on a queue, and what they run; 1000 workers and jobs at most. */
  readonly workers: <A>(definition: Definition<A, any>) => Effect.Effect<ReadonlyArray<WorkerInfo>, RedisError>
  /** Everything that is known of a job. */
  readonly story: <A>(
    definition: Definition<A, any>,
    id: string
  ) => Effect.Effect<Option.Option<JobStory<A>>, RedisError>
}

// ---------------------------------------------------------------------------------------------------------------------
// Constructors
// ---------------------------------------------------------------------------------------------------------------------

const decodeReport = Schema.decodeOption(Report)

/** Counters that grow are the throughput when the ones before are taken away; a queue may have been removed meanwhile. */
const throughputOf = (history: scripts.Overview["history"]): ReadonlyArray<Throughput> => {
  let before: ReadonlyArray<number> | undefined
  return history.toSorted(([a], [b]) => a - b).map(([minute, counters]) => {
    const start = before ?? counters.slice(0, 3)
    const end = counters.slice(3)
    before = end
    const [completed = 0, failed = 0, dead = 0] = end.map((n, i) => n >= start[i]! ? n - start[i]! : n)
    return { minute: timeOf(minute * 60_000), completed, failed, dead }
  })
}

const overviewOf = (
  name: string,
  { due, heads, history, inGroups, levels, now, status, workers }: scripts.Overview
): Overview => {
  const [oldest] = heads
    .map(({ head, id, level }) => ({ id, priority: level, since: waitingSince(head, id) }))
    .toSorted((a, b) => a.since - b.since)
  return {
    ...statusOf(status),
    name,
    readyByPriority: levels,
    readyInGroups: inGroups,
    oldestReady: oldest === undefined ? Option.none() : Option.some({
      id: oldest.id,
      priority: oldest.priority,
      since: timeOf(oldest.since),
      age: Duration.millis(Math.max(0, now - oldest.since))
    }),
    nextDue: Option.map(Option.fromNullable(due), timeOf),
    workers,
    // What was kept an hour ago is removed by the next report.
    throughput: throughputOf(history).filter(({ minute }) => minute.epochMillis > now - scripts.MINUTES * 60_000),
    at: timeOf(now)
  }
}

/** The worker and the job of a lease. */
const holderOf = (member: string): readonly [worker: string, id: string] => [
  member.slice(0, member.indexOf(":")),
  member.slice(member.indexOf("|") + 1)
]

const sinceOf = (report: typeof Report.Type | undefined, id: string): Option.Option<DateTime.Utc> =>
  Option.map(Option.fromNullable(report?.jobs.find(([job]) => job === id)), ([, since]) => timeOf(since))

const workersOf = ({ leases, reports }: scripts.Crew): ReadonlyArray<WorkerInfo> => {
  const told = new Map(reports.map(([worker, info]) => [worker, Option.getOrUndefined(decodeReport(info))]))
  const jobs = new Map<string, Array<RunningJob>>(reports.map(([worker]) => [worker, []]))
  for (const [member, ends] of leases) {
    const [worker, id] = holderOf(member)
    const running = { id, since: sinceOf(told.get(worker), id), leaseEnds: timeOf(ends) }
    const others = jobs.get(worker)
    if (others === undefined) jobs.set(worker, [running])
    else others.push(running)
  }
  return Array.from(jobs, ([id, jobs]) => ({
    id,
    jobs,
    report: Option.map(Option.fromNullable(told.get(id)), ({ concurrency, host, pid, since }) => ({
      host,
      pid,
      since: timeOf(since),
      concurrency
    }))
  })).toSorted((a, b) => a.id < b.id ? -1 : 1)
}

/**
 * What looks at the queues of a client.
 *
 * @internal
 */
export const makeInspection = (
  client: RedisClient.Service,
  open: Open,
  cluster: boolean
): Inspection => ({
  queues: withSpan(
    Effect.map(client.zrange(registryKey), (names) => names.toSorted()),
    "queue.queues",
    () => ({})
  ),
  overview: (names) => {
    const bad = names.map((name) => checkName("Queue.overview", "name", name)).find((error) => error !== undefined)
    if (bad !== undefined) return Effect.fail(bad)
    const one = (name: string) => {
      const keys = keysOf(name)
      return Effect.map(
        client.eval(scripts.overview, { keys, cluster, wake: client.key(keys.wake) }),
        (found) => overviewOf(name, found)
      )
    }
    return withSpan(
      Effect.forEach(names, one, { concurrency: "unbounded" }),
      "queue.overview",
      () => ({ "db.operation.batch.size": names.length })
    )
  },
  workers: (definition) => {
    const opened = open("Queue.workers", definition)
    return Either.isLeft(opened)
      ? Effect.fail(opened.left)
      : spanned("workers", definition, Effect.map(client.eval(scripts.crew, opened.right.target), workersOf))
  },
  story: <A>(definition: Definition<A, any>, id: string) => {
    const opened = open("Queue.story", definition, id)
    if (Either.isLeft(opened)) return Effect.fail(opened.left)
    const { read, target } = opened.right
    const toLetter = letterOf(opened.right)
    const storyOf = (found: scripts.Story): JobStory<A> => {
      const { cancelled, deadline, deduplicationKey, member, progress, row, worker } = found
      const [holder] = holderOf(member)
      return {
        ...read(row),
        progress: progress === "" ? Option.none() : parseJson(progress),
        deadline: deadline === "" ? Option.none() : Option.some(timeOf(Number(deadline))),
        deduplicationKey: deduplicationKey === "" ? Option.none() : Option.some(deduplicationKey),
        cancelled,
        worker: row.state === "running"
          ? Option.some({
            id: holder,
            job: { id, since: sinceOf(Option.getOrUndefined(decodeReport(worker)), id), leaseEnds: timeOf(row.at) }
          })
          : Option.none(),
        deadLetter: row.state === "dead" ? Option.some(toLetter(row)) : Option.none()
      }
    }
    return spanned(
      "story",
      definition,
      Effect.map(client.eval(scripts.story, target, id), (found) => Option.map(Option.fromNullable(found), storyOf))
    )
  }
})
