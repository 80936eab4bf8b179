/**
 * Flows of three levels, in three queues on three nodes of a Cluster, while those who add them and those who work at them are
 * killed one after the other. What must hold in the end is checked by what the processes have written down.
 */
import { Clock, Data, Effect, Schedule, type Scope } from "effect"
import type { ChildProcess } from "node:child_process"
import * as Fs from "node:fs"
import * as Os from "node:os"
import * as Path from "node:path"
import { keysOf } from "../../src/Queue/keys.js"
import * as RealCluster from "../kit/RealCluster.js"
import type * as RealServer from "../kit/RealServer.js"
import * as Worker from "../kit/worker.js"
import { childrenOf, type Task } from "./flowSoakJobs.js"

export interface Options {
  readonly flows: number
  /** In milliseconds. */
  readonly lease: number
  /** Milliseconds between two processes that are killed. */
  readonly killEvery: number
  readonly say: (line: string) => Effect.Effect<void>
}

export interface Report {
  readonly flows: number
  /** Handlers that ran to their ends. */
  readonly runs: number
  /** Those of them that ran for a job that had come to its end before. */
  readonly again: number
  readonly kills: number
  readonly millis: number
  /** Nothing, when all is well. */
  readonly problems: ReadonlyArray<string>
}

export class FlowSoakFailed extends Data.TaggedError("FlowSoakFailed")<{ readonly message: string }> {}

const WORKERS = 4
const PRODUCERS = 2

/** How many flows a producer adds before it may be killed. */
const ALIVE = 5

interface Line {
  readonly at: number
  readonly what: string
  readonly id: string
}

const read = (folder: string, pid?: number): ReadonlyArray<Line> =>
  Fs.readdirSync(folder).filter((name) => pid === undefined || name === `${pid}.log`).flatMap((name) =>
    Fs.readFileSync(Path.join(folder, name), "utf8").split("\n").slice(0, -1).map((line) => {
      const [at, what, ...id] = line.split(" ")
      return { at: Number(at), what: what ?? "", id: id.join(" ") }
    })
  )

const idsOf = (flow: number): ReadonlyArray<string> => {
  const below = (id: string): ReadonlyArray<string> => [id, ...childrenOf(id).flatMap(below)]
  return below(String(flow))
}

const check = (flows: number, lines: ReadonlyArray<Line>): Pick<Report, "again" | "problems" | "runs"> => {
  const problems: Array<string> = []
  const firstDone = new Map<string, number>()
  let runs = 0
  for (const { at, id, what } of lines) {
    if (what === "wrong") problems.push(`other results than those of its children: ${id}`)
    if (what !== "done") continue
    runs++
    firstDone.set(id, Math.min(at, firstDone.get(id) ?? Infinity))
  }
  for (let n = 0; n < flows; n++) {
    for (const id of idsOf(n)) if (!firstDone.has(id)) problems.push(`${id} never came to its end`)
  }
  for (const { at, id, what } of lines) {
    if (what !== "start") continue
    for (const child of childrenOf(id)) {
      const done = firstDone.get(child)
      if (done === undefined || done > at) problems.push(`${id} started before its child ${child} had come to its end`)
    }
  }
  return { problems, runs, again: runs - firstDone.size }
}

export const run = (
  { flows, killEvery, lease, say }: Options
): Effect.Effect<Report, RealServer.RealServerError | FlowSoakFailed, Scope.Scope> =>
  Effect.gen(function*() {
    const folder = yield* Effect.acquireRelease(
      Effect.sync(() => Fs.mkdtempSync(Path.join(Os.tmpdir(), "flows-"))),
      (folder) => Effect.sync(() => Fs.rmSync(folder, { recursive: true, force: true }))
    )
    const cluster = yield* RealCluster.start({ masters: 3, replicasPerMaster: 0 })
    // A queue on each node.
    const nodes: Array<RealCluster.Node> = []
    const names: Array<string> = []
    for (let n = 0; names.length < 3; n++) {
      const node = yield* cluster.masterOf(keysOf(`flows${n}`).jobs)
      if (nodes.includes(node)) continue
      nodes.push(node)
      names.push(`flows${n}`)
    }
    const task: Task = {
      nodes: cluster.nodes.map(({ host, port }) => ({ host, port })),
      folder,
      names: names as unknown as Task["names"],
      lease
    }
    const start = yield* Clock.currentTimeMillis
    const millis = Effect.map(Clock.currentTimeMillis, (now) => now - start)
    const tell = (text: string) => Effect.flatMap(millis, (now) => say(`${(now / 1000).toFixed(1)} s: ${text}`))
    const module = new URL("./flowSoakWorker.ts", import.meta.url)

    const launchWorker = Effect.map(Worker.start(module, task), ({ child }) => child)
    const workers = yield* Effect.replicateEffect(launchWorker, WORKERS)
    /** It begins where the one before was killed: the flow that came then may have been added or not. */
    const launchProducer = (n: number, from: number) =>
      Effect.map(
        Worker.start(module, { ...task, produce: { from, to: flows, step: PRODUCERS } } satisfies Task),
        ({ child }) => ({ child, n, from })
      )
    const producers = yield* Effect.forEach(
      Array.from({ length: PRODUCERS }, (_, n) => n),
      (n) => launchProducer(n, n)
    )
    const hasEnded = (child: ChildProcess) => child.exitCode !== null
    const hasBegun = (child: ChildProcess) => Fs.existsSync(Path.join(folder, `${child.pid}.log`))

    let kills = 0
    const kill = (child: ChildProcess): boolean => {
      // One that has not begun yet would prove nothing.
      if (hasEnded(child) || !hasBegun(child)) return false
      child.kill("SIGKILL")
      kills++
      return true
    }
    let turn = 0
    const killing = Effect.gen(function*() {
      turn++
      if (turn % 3 === 0) {
        const i = turn / 3 % PRODUCERS
        const producer = producers[i]!
        const added = read(folder, producer.child.pid).filter(({ what }) => what === "added")
        // It takes longer to start than to add some, and has to come to its end some time.
        if (added.length < ALIVE || !kill(producer.child)) return
        producers[i] = yield* launchProducer(
          producer.n,
          Number(added.at(-1)!.id) + PRODUCERS
        )
      } else {
        const i = turn % WORKERS
        if (kill(workers[i]!)) workers[i] = yield* launchWorker
      }
    })

    const sizes = Effect.map(
      Effect.forEach(names, (name, i) => {
        const keys = keysOf(name)
        return Effect.forEach(
          [["HLEN", keys.jobs], ["ZCARD", keys.outbox], ["ZCARD", keys.blocked], ["HLEN", keys.flows]] as const,
          ([command, key]) => nodes[i]!.cli(command, key)
        )
      }),
      (sizes) => sizes.map((some) => some.map(Number))
    )

    const murderer = yield* Effect.forkScoped(Effect.repeat(Effect.delay(killing, killEvery), Schedule.forever))
    yield* Effect.repeat(Effect.sync(() => producers.every(({ child }) => hasEnded(child))), {
      schedule: Schedule.spaced("50 millis"),
      until: (all) => all
    })
    yield* tell(`${flows} flows are added, ${kills} processes were killed`)
    // Some more are killed in the middle of what is left; on a busy machine those that begin late are the first.
    yield* Effect.repeat(Effect.sleep(2 * killEvery), { until: () => kills > 0 })
    yield* murderer.interruptAsFork(murderer.id())

    let before = ""
    let since = yield* millis
    while (true) {
      const now = yield* sizes
      if (now.flat().every((n) => n === 0)) break
      if (JSON.stringify(now) !== before) {
        before = JSON.stringify(now)
        since = yield* millis
      } else if ((yield* millis) > since + 60_000 + 3 * lease) {
        return yield* new FlowSoakFailed({ message: `nothing happens any more: ${before}` })
      }
      yield* Effect.sleep("100 millis")
    }
    const ended = yield* millis
    yield* tell("nothing is left")

    const problems: Array<string> = []
    for (const child of workers) {
      const exit = new Promise<number | null>((resolve) => child.once("exit", resolve))
      if (child.exitCode === null) child.stdin!.write("stop\n")
      const code = child.exitCode ?? (yield* Effect.promise(() => exit))
      if (code !== 0) problems.push(`a process ended with ${code}`)
    }
    for (const node of nodes) {
      for (const key of (yield* node.cli("KEYS", "*")) as ReadonlyArray<string>) {
        if (!key.endsWith(":meta") && Number(yield* node.cli("PTTL", key)) <= 0) problems.push(`${key} is left over`)
      }
    }
    const checked = check(flows, read(folder))
    return { ...checked, flows, kills, millis: ended, problems: [...problems, ...checked.problems] }
  })
