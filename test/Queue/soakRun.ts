/**
 * Many jobs and a few processes that work at them, while one process after the other is killed, one stands still for longer
 * than a lease, and the server dies twice. What must hold in the end is checked by what the processes have written down.
 */
import { Clock, Data, Effect, Layer, Redacted, Ref, Schedule, type Scope } from "effect"
import type { ChildProcess } from "node:child_process"
import * as Fs from "node:fs"
import * as Os from "node:os"
import * as Path from "node:path"
import { layer as redis } from "../../src/IoRedis.js"
import * as Queue from "../../src/Queue/index.js"
import { keysOf } from "../../src/Queue/keys.js"
import * as RealServer from "../kit/RealServer.js"
import * as Worker from "../kit/worker.js"
import { anything, ATTEMPTS, fateOf, jobs, numberOf, optionsOf, type Task } from "./soakJobs.js"

export interface Options {
  readonly jobs: number
  /** How many are enqueued in a second. */
  readonly rate: number
  /** Of a job, in milliseconds. */
  readonly lease: number
  /** Milliseconds between two processes that are killed. */
  readonly killEvery: number
  /** For how many milliseconds the server is away, each time. */
  readonly downtime: number
  readonly say: (line: string) => Effect.Effect<void>
}

const PROCESSES = 4
const CONCURRENCY = 20

/** How many are enqueued in one call. */
const BATCH = 100

export class SoakFailed extends Data.TaggedError("SoakFailed")<{ readonly message: string }> {}

// ---------------------------------------------------------------------------------------------------------------------
// What has happened
// ---------------------------------------------------------------------------------------------------------------------

interface Run {
  readonly pid: number
  readonly attempt: number
  readonly started: number
  /** How the handler ended, if it came to that. */
  end: "done" | "failed" | "interrupted" | undefined
}

/** For so long a process could not do anything, or it was killed at this moment. */
interface Trouble {
  readonly pid: number
  readonly from: number
  readonly to: number
}

interface History {
  readonly runs: ReadonlyMap<number, ReadonlyArray<Run>>
  readonly troubles: ReadonlyArray<Trouble>
}

/** What the processes have written down. */
const read = (folder: string, kills: ReadonlyArray<Trouble>): History => {
  const runs = new Map<number, Array<Run>>()
  const troubles = [...kills]
  for (const name of Fs.readdirSync(folder)) {
    const pid = Number.parseInt(name)
    for (const line of Fs.readFileSync(Path.join(folder, name), "utf8").split("\n").slice(0, -1)) {
      const [time, what, first, attempt] = line.split(" ")
      const at = Number(time)
      const n = Number(first)
      if (what === "gap") {
        troubles.push({ pid, from: n, to: at })
        continue
      }
      const known = runs.get(n) ?? []
      runs.set(n, known)
      if (what === "start") known.push({ pid, attempt: Number(attempt), started: at, end: undefined })
      else known.findLast((run) => run.pid === pid && run.attempt === Number(attempt))!.end = what as Run["end"]
    }
  }
  for (const known of runs.values()) known.sort((a, b) => a.attempt - b.attempt || a.started - b.started)
  return { runs, troubles }
}

interface DeadLetter {
  readonly reason: string
  readonly attempts: number
}

export interface Report {
  readonly jobs: number
  readonly done: number
  /** Dead letters by reason. */
  readonly dead: Readonly<Record<string, number>>
  readonly runs: number
  /** Jobs that a second handler started for, although the one before had not failed. Each one has its explanation. */
  readonly again: number
  /** Attempts that were used up without any handler. Each one has its explanation. */
  readonly unseen: number
  readonly kills: number
  readonly outages: number
  readonly millis: number
  /** Nothing, when all is well. */
  readonly problems: ReadonlyArray<string>
}

/** Renewals and timers are not on the millisecond. */
const SLACK = 50

/** Goes through the runs of every job. */
const check = (
  total: number,
  { runs, troubles }: History,
  dead: ReadonlyMap<number, DeadLetter>
): Pick<Report, "again" | "done" | "problems" | "runs" | "unseen"> => {
  const problems: Array<string> = []
  let done = 0
  let again = 0
  let unseen = 0
  let all = 0
  const trouble = (from: number, to: number, pid?: number) =>
    troubles.some((one) => (pid === undefined || one.pid === pid) && one.from <= to + SLACK && one.to >= from - SLACK)

  for (let n = 0; n < total; n++) {
    const known = runs.get(n) ?? []
    const letter = dead.get(n)
    const fate = fateOf(n)
    all += known.length
    const problem = (text: string) =>
      problems.push(
        `job ${n}: ${text} (${JSON.stringify(known)}${letter === undefined ? "" : `, ${JSON.stringify(letter)}`})`
      )

    let before: Run | undefined
    for (const run of known) {
      const expected = (before?.attempt ?? 0) + 1
      if (before !== undefined && before.end !== "failed") {
        again++
        // A process that stood still may begin with an attempt after its lease, and so after the next attempt.
        const [from, to] = [before.started, run.started].toSorted((a, b) => a - b) as [number, number]
        if (!trouble(from, to, before.pid)) problem("ran twice, although nothing had happened")
      }
      if (run.attempt < expected) problem(`has attempt ${run.attempt} twice`)
      if (run.attempt > expected) {
        unseen += run.attempt - expected
        if (!trouble(before?.started ?? 0, run.started)) {
          problem(`has attempt ${run.attempt} after ${expected - 1}, although nothing had happened`)
        }
      }
      if (run.attempt > ATTEMPTS) problem("was tried too often")
      before = run
    }

    const last = known.at(-1)
    if (letter === undefined) {
      done++
      if (!known.some(({ end }) => end === "done")) problem("is lost")
      if (typeof fate === "string") problem(`is gone, and was meant to be a dead letter: ${fate}`)
    } else if (letter.reason === "lease-expired") {
      if (letter.attempts !== ATTEMPTS) problem(`is a dead letter after ${letter.attempts} attempts`)
      unseen += ATTEMPTS - (last?.attempt ?? 0)
      if (!trouble(last?.started ?? 0, Infinity)) problem("lost its leases, although nothing had happened")
    } else if (fate === "garbled") {
      if (letter.reason !== "undecodable") problem("is a dead letter for another reason")
      if (known.length > 0) problem("was handled, although it can't be read")
    } else {
      const reason = fate === "always fails" ? "exhausted" : fate === "gives up" ? "unrecoverable" : undefined
      if (letter.reason !== reason) problem("is a dead letter for another reason")
      if (last?.end !== "failed") problem("has not failed")
      if (letter.attempts !== last?.attempt) problem("is a dead letter after another number of attempts")
      if (fate === "always fails" && letter.attempts !== ATTEMPTS) problem("was given up too early")
    }
  }
  return { again, done, problems, runs: all, unseen }
}

// ---------------------------------------------------------------------------------------------------------------------
// What happens
// ---------------------------------------------------------------------------------------------------------------------

/** Puts all jobs into the queue, as fast as it is told, and again and again until each call has succeeded. */
const produce = ({ jobs: total, lease, rate }: Options, produced: Ref.Ref<number>) =>
  Effect.gen(function*() {
    const Jobs = jobs(lease)
    const Anything = anything(lease)
    const start = yield* Clock.currentTimeMillis
    const insistently = Effect.retry(Schedule.spaced("100 millis"))
    for (let from = 0; from < total; from += BATCH) {
      const numbers = Array.from({ length: Math.min(BATCH, total - from) }, (_, i) => from + i)
      const isGarbled = (n: number) => fateOf(n) === "garbled"
      const readable = numbers.filter((n) => !isGarbled(n))
      // In turns all at once, and one by one.
      const enqueueing = from / BATCH % 2 === 0
        ? Queue.enqueueAll(Jobs, readable.map((n) => ({ payload: { n }, ...optionsOf(n) }))).pipe(insistently)
        : Effect.forEach(readable, (n) => Queue.enqueue(Jobs, { n }, optionsOf(n)).pipe(insistently), {
          concurrency: "unbounded",
          discard: true
        })
      yield* Effect.zipRight(
        enqueueing,
        Effect.forEach(
          numbers.filter(isGarbled),
          (n) => Queue.enqueue(Anything, { number: n }, optionsOf(n)).pipe(insistently),
          { discard: true }
        )
      )
      yield* Ref.set(produced, from + numbers.length)
      yield* Effect.sleep(Math.max(0, start + (from + BATCH) / rate * 1000 - (yield* Clock.currentTimeMillis)))
    }
  })

interface Slot {
  child: ChildProcess
  /** Stands still, and is left alone. */
  frozen: boolean
}

const pairs = (reply: unknown): ReadonlyArray<readonly [string, string]> => {
  const flat = reply as ReadonlyArray<string>
  return Array.from({ length: flat.length / 2 }, (_, i) => [flat[2 * i]!, flat[2 * i + 1]!] as const)
}

export const run = (options: Options): Effect.Effect<Report, RealServer.RealServerError | SoakFailed, Scope.Scope> =>
  Effect.gen(function*() {
    const { downtime, jobs: total, killEvery, lease, say } = options
    const keys = keysOf("soak")
    const folder = yield* Effect.acquireRelease(
      Effect.sync(() => Fs.mkdtempSync(Path.join(Os.tmpdir(), "soak-"))),
      (folder) => Effect.sync(() => Fs.rmSync(folder, { recursive: true, force: true }))
    )
    const server = yield* RealServer.start({ appendonly: true })
    const task: Task = { url: server.url, folder, lease, concurrency: CONCURRENCY }
    const kills: Array<Trouble> = []
    const start = yield* Clock.currentTimeMillis
    const millis = Effect.map(Clock.currentTimeMillis, (now) => now - start)
    const tell = (text: string) => Effect.flatMap(millis, (now) => say(`${(now / 1000).toFixed(1)} s: ${text}`))

    const launch = Worker.start(new URL("./soakWorker.ts", import.meta.url), task)
    const slots = yield* Effect.replicateEffect(
      Effect.map(launch, ({ child }): Slot => ({ child, frozen: false })),
      PROCESSES
    )

    /** One process after the other, and a new one in its place. */
    let next = 0
    const kill = Effect.gen(function*() {
      const slot = slots[next++ % PROCESSES]!
      // One that has not begun yet would prove nothing.
      if (slot.frozen || !Fs.existsSync(Path.join(folder, `${slot.child.pid}.log`))) return
      const now = yield* Clock.currentTimeMillis
      slot.child.kill("SIGKILL")
      kills.push({ pid: slot.child.pid!, from: now, to: now })
      slot.child = (yield* launch).child
    })

    const freeze = Effect.gen(function*() {
      const slot = slots[1]!
      slot.frozen = true
      slot.child.kill("SIGSTOP")
      yield* tell("a process stands still")
      yield* Effect.sleep(lease * 1.5)
      slot.child.kill("SIGCONT")
      // It has to find out by itself, and not be killed before.
      yield* Effect.sleep(lease)
      slot.frozen = false
    })

    const outage = Effect.gen(function*() {
      yield* server.kill
      yield* tell("the server is gone")
      yield* Effect.sleep(downtime)
      yield* server.restart
      yield* tell("the server is back")
    })

    const produced = yield* Ref.make(0)
    const until = (part: number) =>
      Effect.repeat(Ref.get(produced), {
        schedule: Schedule.spaced("20 millis"),
        until: (n) => n >= part * total
      })

    const outcome = yield* Effect.gen(function*() {
      yield* Effect.repeat(Effect.sync(() => Fs.readdirSync(folder).length), {
        schedule: Schedule.spaced("50 millis"),
        until: (ready) => ready === PROCESSES
      })
      yield* tell(`${PROCESSES} processes wait for ${total} jobs`)
      const killing = yield* Effect.forkScoped(Effect.repeat(Effect.delay(kill, killEvery), Schedule.forever))
      yield* Effect.forkScoped(Effect.zipRight(until(0.2), freeze))
      const outages = yield* Effect.forkScoped(
        Effect.forEach([0.4, 0.8], (part) => Effect.zipRight(until(part), outage), { discard: true })
      )
      yield* produce(options, produced)
      yield* outages.await
      yield* killing.interruptAsFork(killing.id())
      yield* tell("all jobs are in the queue, and nobody is killed any more")

      const left = Effect.map(
        RealServer.talk(server.url, [
          ["HLEN", keys.jobs],
          ["ZCARD", keys.dead],
          ["ZCARD", keys.leases],
          ["ZCARD", keys.delayed]
        ]),
        ([stored, dead, leases, delayed]) => ({ waiting: Number(stored) - Number(dead), leases, delayed })
      )
      let before = -1
      let since = yield* millis
      while (true) {
        const now = yield* left
        if (now.waiting === 0) break
        if (now.waiting !== before) {
          before = now.waiting
          since = yield* millis
        } else if ((yield* millis) > since + 60_000 + 3 * lease) {
          const processes = slots.map(({ child }) => child.exitCode ?? child.signalCode ?? "runs").join(", ")
          return yield* new SoakFailed({
            message: `nothing happens any more: ${JSON.stringify(now)}, and of the processes: ${processes}`
          })
        }
        yield* Effect.sleep("100 millis")
      }
      return yield* millis
    }).pipe(
      Effect.provide(
        Layer.provide(
          Queue.layer, // A call that is made again by the library adds nothing again; one of ours would, where jobs are finished by then.
          redis({ url: Redacted.make(server.url), commandTimeout: "2 minutes" })
        )
      ),
      Effect.mapError((error) =>
        error instanceof RealServer.RealServerError || error instanceof SoakFailed
          ? error
          : new SoakFailed({ message: String(error) })
      )
    )
    yield* tell("the queue is empty")

    const problems: Array<string> = []
    for (const { child } of slots) {
      const ended = new Promise<number | null>((resolve) => child.once("exit", resolve))
      if (child.exitCode === null) child.stdin!.write("stop\n")
      const code = child.exitCode ?? (yield* Effect.promise(() => ended))
      if (code !== 0) problems.push(`a process ended with ${code}`)
    }

    const letters = new Map(
      pairs(yield* server.cli("HGETALL", keys.deadInfo)).map(([id, json]) =>
        [numberOf(id), JSON.parse(json) as DeadLetter] as const
      )
    )
    const checked = check(total, read(folder, kills), letters)
    const dead: Record<string, number> = {}
    for (const { reason } of letters.values()) dead[reason] = (dead[reason] ?? 0) + 1

    // Of every job that is not dead, nothing is left; dead ones keep their priority. What else there is has an end.
    const stored = new Set((yield* server.cli("KEYS", "*")) as ReadonlyArray<string>)
    for (const key of [keys.jobs, keys.dead, keys.deadInfo, keys.levels, keys.meta]) stored.delete(key)
    for (const id of (yield* server.cli("HKEYS", keys.levels)) as ReadonlyArray<string>) {
      if (!letters.has(numberOf(id))) problems.push(`the priority of ${id} is left over`)
    }
    for (const key of stored) {
      if (Number(yield* server.cli("PTTL", key)) <= 0) problems.push(`${key} is left over`)
    }
    for (const [command, key] of [["HLEN", keys.jobs], ["ZCARD", keys.dead], ["HLEN", keys.deadInfo]] as const) {
      const size = Number(yield* server.cli(command, key))
      if (size !== letters.size) problems.push(`${key} has ${size} entries for ${letters.size} dead letters`)
    }
    const counters = new Map(pairs(yield* server.cli("HGETALL", keys.meta)))
    for (const [name, n] of [["completed", checked.done], ["dead", letters.size]] as const) {
      if (Number(counters.get(name)) !== n) problems.push(`${name} were counted as ${counters.get(name)}, not ${n}`)
    }
    return {
      ...checked,
      jobs: total,
      dead,
      kills: kills.length,
      outages: 2,
      millis: outcome,
      problems: [...problems, ...checked.problems]
    }
  })
