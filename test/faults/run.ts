/**
 * Everything at once: servers, processes that use them, and what happens to both. In the end all that was written down is
 * judged.
 */
import { Clock, Data, Duration, Effect, Exit, Layer, Logger, LogLevel, Schedule, Scope, Stream } from "effect"
import { Redis } from "ioredis"
import * as Layers from "../../src/Layers.js"
import * as Bundle from "../kit/bundle.js"
import * as RealServer from "../kit/RealServer.js"
import * as Process from "../kit/worker.js"
import { loads } from "./loads.js"
import * as Rooms from "./rooms.js"
import { between, choose, cluster, type Dice, dice, type Fault, sentinel, type Servers } from "./servers.js"
import { ANSWERED, type Book, bookOf, COMMAND_TIMEOUT, found, PACE, patient, type Task, type Verdict } from "./work.js"

export interface Options {
  readonly on: "cluster" | "sentinel"
  readonly seconds: number
  readonly seed: number
  /** How many processes use the servers. */
  readonly processes: number
  /** Nothing happens to anybody, and every load does what its promise rules out. */
  readonly planted?: boolean | undefined
  /** See `Task`. */
  readonly pace?: number | undefined
  /** The names of all that happens, unless everything does. */
  readonly only?: ReadonlyArray<string> | undefined
  readonly say: (line: string) => Effect.Effect<void>
}

export interface Report {
  readonly on: Options["on"]
  readonly version: string
  readonly seconds: number
  readonly seed: number
  /** How often each fault has happened. */
  readonly faults: ReadonlyMap<string, number>
  readonly verdicts: ReadonlyArray<Verdict>
}

export class RunFailed extends Data.TaggedError("RunFailed")<{ readonly message: string }> {}

export const ENDED = "processes: none ends by itself"

/** Keys whose slots are in use. */
const HOT = [
  "{jobs}",
  "{counts.0}",
  "{numbers}",
  "{lock-0}",
  "{strict}",
  "{few}",
  "{ada}",
  "{chats:blue}",
  "{views:ada}",
  "{sums}",
  "{c0}",
  "cache:shared:tags",
  "{lobby:all}",
  "counted-0"
]

interface Service {
  readonly name: string
  readonly child: Process.Worker["child"]
  readonly exit: Process.Worker["exit"]
  readonly scope: Scope.CloseableScope
  /** Since when it works. */
  ready: number | undefined
}

/** Somebody who only looks, and insists. */
const onlooker = ({ client }: Servers) =>
  Layer.retry(
    Layers.live({ ...client, commandTimeout: "10 seconds", connectTimeout: "30 seconds" }),
    Schedule.intersect(Schedule.spaced("500 millis"), Schedule.recurs(20))
  )

const judge = (
  servers: Servers,
  task: Task,
  book: Book
): Effect.Effect<ReadonlyArray<Verdict>, unknown> =>
  Effect.scoped(Effect.map(Effect.forEach(loads, (load) => load.judge(book, task)), (all) => all.flat())).pipe(
    Effect.provide(onlooker(servers))
  )

const execute = (options: Options): Effect.Effect<Report, unknown, Scope.Scope> =>
  Effect.gen(function*() {
    const { planted = false, say } = options
    const roll: Dice = dice(options.seed)
    const begun = yield* Clock.currentTimeMillis
    const tell = (text: string) =>
      Effect.flatMap(
        Clock.currentTimeMillis,
        (now) => say(`${options.on} ${((now - begun) / 1000).toFixed(1).padStart(6)} s: ${text}`)
      )

    const [servers, record, program] = yield* Effect.all(
      [
        options.on === "cluster" ? cluster(HOT) : sentinel,
        RealServer.start(),
        Bundle.make(new URL("./service.ts", import.meta.url))
      ],
      { concurrency: "unbounded" }
    )
    const redis = yield* Effect.acquireRelease(
      Effect.sync(() => new Redis(record.url)),
      (redis) => Effect.sync(() => redis.disconnect())
    )
    const book = bookOf(redis)
    const client = { ...servers.client, commandTimeout: COMMAND_TIMEOUT, connectTimeout: 10_000 }
    const taskOf = (name: string): Task => ({
      name,
      client,
      replicas: servers.replicas,
      mode: servers.mode,
      book: record.url,
      planted,
      pace: options.pace ?? PACE
    })
    const violations: Array<string> = []

    // The processes.
    const scope = yield* Effect.scope
    const services = new Set<Service>()
    const gone = new Set<string>()
    let names = 0
    const launch = Effect.gen(function*() {
      const name = `p${++names}`
      const own = yield* Scope.fork(scope, { _tag: "Sequential" })
      const { child, exit, messages } = yield* Scope.extend(
        Process.start(program, taskOf(name)),
        own
      )
      const service: Service = { name, child, exit, scope: own, ready: undefined }
      services.add(service)
      yield* Effect.forkIn(
        Stream.runForEach(messages, () => Effect.map(Clock.currentTimeMillis, (now) => void (service.ready = now))),
        own
      )
      yield* Effect.forkIn(
        Effect.map(exit, (code) => {
          if (services.delete(service)) violations.push(`${name} ended with ${code}`)
        }),
        own
      )
      return service
    })
    const ready = Effect.repeat(Effect.sync(() => [...services].every(({ ready }) => ready !== undefined)), {
      until: (ready) => ready || violations.length > 0,
      schedule: Schedule.spaced("50 millis")
    })
    yield* Effect.replicateEffect(launch, options.processes, { discard: true })
    yield* ready
    if (violations.length > 0) return yield* new RunFailed({ message: violations.join(", ") })
    yield* tell(`${servers.version}, ${options.processes} processes are at work`)

    const working = Effect.sync(() => [...services].filter(({ ready }) => ready !== undefined))
    const processFaults: ReadonlyArray<Fault> = [
      {
        name: "a process is killed, and another takes its place",
        weight: 2,
        happen: (roll) =>
          Effect.gen(function*() {
            const all = yield* working
            if (all.length < options.processes) return
            const victim = choose(roll, all)
            services.delete(victim)
            gone.add(victim.name)
            victim.child.kill("SIGKILL")
            yield* victim.exit
            yield* Scope.close(victim.scope, Exit.void)
            yield* launch
          })
      },
      {
        name: "a process stands still",
        weight: 2,
        happen: (roll) =>
          Effect.gen(function*() {
            const all = yield* working
            if (all.length === 0) return
            const { child } = choose(roll, all)
            child.kill("SIGSTOP")
            yield* Effect.sleep(between(roll, 500, 5000))
            child.kill("SIGCONT")
          })
      }
    ]

    // Who is there, after a time without trouble.
    let looks = 0
    const lookAround = Effect.gen(function*() {
      const calm = yield* Clock.currentTimeMillis
      yield* Effect.sleep(2 * Rooms.TTL + 1000)
      while (true) {
        const there = new Set(yield* patient(Rooms.present))
        const now = yield* Clock.currentTimeMillis
        const known = [...services].filter(({ ready }) => ready !== undefined && ready < now - 2 * Rooms.TTL)
        const wrong = [
          ...known.filter(({ name }) => !there.has(name)).map(({ name }) => `${name} is at work, and not there`),
          ...[...gone].filter((name) => there.has(name)).map((name) => `${name} is gone, and still there`)
        ]
        if (wrong.length > 0 && now - calm < Rooms.LATEST) {
          yield* Effect.sleep(500)
          continue
        }
        looks += known.length + gone.size
        return void violations.push(...wrong)
      }
    }).pipe(Effect.provide(onlooker(servers)), Effect.orDie)

    // What happens to them.
    const { only } = options
    const known = [...servers.faults, ...processFaults]
    const unknown = only?.filter((name) => !known.some((fault) => fault.name === name)) ?? []
    if (unknown.length > 0) return yield* new RunFailed({ message: `nothing is called ${unknown.join(", ")}` })
    const possible = known.filter(({ name }) => only?.includes(name) ?? true).flatMap((fault) =>
      Array.from({ length: fault.weight }, () => fault)
    )
    const happened = new Map<string, number>()
    const start = yield* Clock.currentTimeMillis
    const elapsed = Effect.map(Clock.currentTimeMillis, (now) => now - start)
    const end = options.seconds * 1000
    const queue: Array<Fault> = []
    let faults = 0
    while ((yield* elapsed) < end) {
      if (planted) {
        yield* Effect.sleep(200)
        continue
      }
      yield* Effect.sleep(between(roll, 300, 1500))
      // All in some order, and then all in another one.
      if (queue.length === 0) {
        const bag = possible.slice()
        while (bag.length > 0) queue.push(bag.splice(Math.floor(roll() * bag.length), 1)[0]!)
      }
      const fault = queue.pop()!
      yield* tell(fault.name)
      happened.set(fault.name, (happened.get(fault.name) ?? 0) + 1)
      yield* Effect.catchAll(
        fault.happen(roll),
        (error) => Effect.zipRight(tell(`this did not come to its end: ${error.message}`), servers.mend)
      )
      // A busy machine may take its time.
      yield* Effect.retry(servers.settle, { times: 3 })
      if (++faults % 12 === 0) yield* lookAround
    }
    const seconds = (yield* elapsed) / 1000

    // The end, in order.
    yield* ready
    const toAll = (line: string) =>
      Effect.sync(() => services.forEach(({ child }) => void child.stdin?.write(`${line}\n`)))
    yield* toAll("calm")
    yield* tell("nothing happens any more")
    yield* lookAround
    // While the processes work off what is there.
    const verdicts = yield* judge(servers, taskOf("judge"), book)
    const last = [...services]
    services.clear()
    for (const { child } of last) child.stdin?.write("end\n")
    const codes = yield* Effect.forEach(last, ({ exit }) => Effect.timeoutOption(exit, "60 seconds"), {
      concurrency: "unbounded"
    })
    codes.forEach((code, i) => {
      if (code._tag === "None" || code.value !== 0) {
        violations.push(`${last[i]!.name} ended with ${code._tag === "None" ? "nothing" : code.value}`)
      }
    })
    const ended = violations.filter((text) => text.includes(" ended with "))
    return {
      on: options.on,
      version: servers.version,
      seconds,
      seed: options.seed,
      faults: happened,
      verdicts: [
        ...verdicts,
        { promise: Rooms.PRESENT, checks: looks, violations: violations.filter((text) => !ended.includes(text)) },
        yield* found(book, ANSWERED),
        { promise: ENDED, checks: names, violations: ended }
      ]
    }
  })

export const run = (options: Options): Effect.Effect<Report, RunFailed> =>
  Effect.scoped(execute(options)).pipe(
    Effect.mapError((error) => new RunFailed({ message: String(error) })),
    Logger.withMinimumLogLevel(LogLevel.None)
  )

/** Nothing was wrong, and everything was looked at. */
export const isClean = ({ verdicts }: Report): boolean =>
  verdicts.every(({ checks, violations }) => checks > 0 && violations.length === 0)

export const table = ({ faults, on, seconds, seed, verdicts, version }: Report): ReadonlyArray<string> => {
  const width = Math.max(
    ...verdicts.map(({ promise }) => promise.length),
    ...[...faults.keys()].map((name) => name.length)
  )
  const row = (name: string, ...cells: ReadonlyArray<string | number>) =>
    `| ${name.padEnd(width)} | ${cells.map((cell) => String(cell).padStart(10)).join(" | ")} |`
  const total = verdicts.reduce((sum, verdict) => sum + verdict.violations.length, 0)
  const unchecked = verdicts.filter(({ checks }) => checks === 0)
  return [
    `${on}, ${version}, ${Duration.format(Duration.seconds(Math.round(seconds)))}, seed ${seed}`,
    "",
    row("fault", "times"),
    `|${"-".repeat(width + 2)}|${"-".repeat(12)}|`,
    ...[...faults].sort(([a], [b]) => a < b ? -1 : 1).map(([name, n]) => row(name, n)),
    "",
    row("promise", "checks", "violations"),
    `|${"-".repeat(width + 2)}|${"-".repeat(12)}|${"-".repeat(12)}|`,
    ...verdicts.map(({ checks, promise, violations }) => row(promise, checks, violations.length)),
    "",
    ...verdicts.flatMap(({ promise, violations }) =>
      violations.slice(0, 10).map((text) => `WRONG: ${promise}: ${text}`)
    ),
    ...unchecked.map(({ promise }) => `NOT CHECKED: ${promise}`),
    total === 0 ? "no violation" : `${total} violations`
  ]
}
