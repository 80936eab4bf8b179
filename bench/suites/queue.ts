/**
 * Jobs beside BullMQ, which keeps each of them in a hash of its own, claims them one by one, and writes a stream of events.
 */
import * as Experimental from "@effect/experimental/PersistedQueue"
import { Context, Effect, Layer, Redacted, Schedule, Schema, type Scope } from "effect"
import * as PersistedQueueStore from "effect-redis-kit/integrations/PersistedQueueStore"
import * as IoRedis from "effect-redis-kit/IoRedis"
import * as Queue from "effect-redis-kit/Queue"
import { type Case, type Contender, fibers, type Measure, promises, type Slice } from "../harness.js"
import * as Peers from "../peers.js"
import { connect, PREFIX, Server } from "../server.js"

/** 100 bytes of JSON. */
const Email = Schema.Struct({
  to: Schema.String,
  subject: Schema.String,
  template: Schema.String,
  user: Schema.Number
})

const email = (n: number): typeof Email.Type => ({
  to: "ada.lovelace@example.com",
  subject: "Welcome to box office",
  template: "hello",
  user: 100_000 + n % 900_000
})

/** How many are put into a queue at once. */
const BULK = 1000

const bulk = Array.from({ length: BULK }, (_, n) => email(n))

const settings = { name: "emails", payload: Email, attempts: 3, backoff: Schedule.exponential("1 second") }

const Emails = Queue.define(settings)

/** Writes down that each job is added, started and completed. */
const WithEvents = Queue.define({ ...settings, events: { maxLength: 10_000 } })

/** Keeps the last thousand jobs, each with a result. */
const WithResults = Queue.define({ ...settings, completed: { count: 1000 }, result: Schema.Unknown })

/** The same in a hundred groups without limits. */
const Grouped = Queue.define({ name: "grouped", payload: Email, attempts: 3, groups: {} })

const GROUPS = 100

type Handler = (email: typeof Email.Type) => void

/** Everybody can do the same. */
interface Player {
  readonly name: string
  readonly enqueue: (loops: number) => Slice
  /** Puts so many into the queue, in calls of 1000. */
  readonly fill: (jobs: number) => Effect.Effect<void, unknown>
  /** To be handled so many milliseconds from now. */
  readonly later: (millis: number, email: typeof Email.Type) => Effect.Effect<unknown, unknown>
  /** Works until the scope closes. */
  readonly work: (concurrency: number, handle: Handler) => Effect.Effect<unknown, unknown, Scope.Scope>
}

const bulks = (jobs: number) =>
  Array.from({ length: Math.ceil(jobs / BULK) }, (_, i) => Math.min(BULK, jobs - i * BULK))

const services = Effect.flatMap(Server, ({ url }) =>
  Layer.build(
    Layer.provideMerge(Queue.layer, IoRedis.layer({ url: Redacted.make(url), keyPrefix: PREFIX }))
  ))

/** The producer and the worker have connections of their own, as theirs have. */
const ours = (
  name: string,
  prefetch: Queue.WorkerOptions<never>["prefetch"],
  queue: Queue.Definition<typeof Email.Type, unknown> = Emails
) =>
  Effect.gen(function*() {
    const producer = Context.get(yield* services, Queue.Queue)
    const worker = Context.get(yield* services, Queue.Queue)
    const player: Player = {
      name,
      enqueue: (loops) => fibers(loops, (n) => producer.enqueue(queue, email(n))),
      fill: (jobs) =>
        Effect.forEach(
          bulks(jobs),
          (size) => producer.enqueueAll(queue, bulk.slice(0, size).map((payload) => ({ payload }))),
          { discard: true }
        ),
      later: (delay, email) => producer.enqueue(queue, email, delay === 0 ? {} : { delay }),
      work: (concurrency, handle) =>
        worker.makeWorker(
          queue,
          ({ payload }) =>
            Effect.sync(() => {
              handle(payload)
              return { sent: payload.user }
            }),
          { concurrency, prefetch }
        )
    }
    return player
  })

/** The same with a handler that takes as many jobs at once as the others have handlers. */
const inBatches = Effect.gen(function*() {
  const player = yield* ours("ours, in batches", 0)
  const worker = Context.get(yield* services, Queue.Queue)
  return {
    ...player,
    work: (size: number, handle: Handler) =>
      worker.makeBatchWorker(Emails, (jobs) => Effect.sync(() => jobs.forEach(({ payload }) => handle(payload))), {
        size,
        within: "10 millis"
      })
  }
})

/** As `ours`, but each job has one of the groups. */
const inGroups = Effect.gen(function*() {
  const player = yield* ours("ours, in 100 groups", 0)
  const producer = Context.get(yield* services, Queue.Queue)
  const worker = Context.get(yield* services, Queue.Queue)
  return {
    ...player,
    fill: (jobs: number) =>
      Effect.forEach(
        bulks(jobs),
        (size) =>
          producer.enqueueAll(
            Grouped,
            bulk.slice(0, size).map((payload, n) => ({ payload, group: `tenant-${n % GROUPS}` }))
          ),
        { discard: true }
      ),
    work: (concurrency: number, handle: Handler) =>
      worker.makeWorker(Grouped, ({ payload }) => Effect.sync(() => handle(payload)), { concurrency, prefetch: 0 })
  }
})

const theirs = Effect.gen(function*() {
  const { hostname, port } = new URL((yield* Server).url)
  const options = { connection: { host: hostname, port: Number(port) }, prefix: `${PREFIX}bull` }
  const bullmq = Peers.bullmq()
  const queue = yield* Effect.acquireRelease(
    Effect.sync(() => new bullmq.Queue("emails", { ...options, defaultJobOptions: { removeOnComplete: true } })),
    (queue) => Effect.promise(() => queue.close())
  )
  const player: Player = {
    name: "bullmq",
    enqueue: (loops) => promises(loops, (n) => queue.add("email", email(n))),
    fill: (jobs) =>
      Effect.forEach(
        bulks(jobs),
        (size) => Effect.promise(() => queue.addBulk(bulk.slice(0, size).map((data) => ({ name: "email", data })))),
        { discard: true }
      ),
    later: (delay, email) => Effect.promise(() => queue.add("email", email, { delay })),
    work: (concurrency, handle) =>
      Effect.acquireRelease(
        Effect.sync(() => {
          const worker = new bullmq.Worker("emails", async ({ data }) => handle(data), { ...options, concurrency })
          worker.on("error", ({ message }) => void process.stderr.write(`${message}\n`))
          return worker
        }),
        (worker) => Effect.promise(() => worker.close())
      )
  }
  return player
})

/** `PersistedQueue` of `@effect/experimental` on our store. It has neither bulk nor delays. */
const persisted = Effect.gen(function*() {
  const { url } = yield* Server
  const context = yield* Layer.build(
    Experimental.layer.pipe(
      Layer.provide(PersistedQueueStore.layer),
      Layer.provide(IoRedis.layer({ url: Redacted.make(url), keyPrefix: PREFIX }))
    )
  )
  const queue = yield* Effect.provide(Experimental.make({ name: "emails", schema: Email }), context)
  const player: Player = {
    name: "PersistedQueue on our store",
    enqueue: (loops) => fibers(loops, (n) => queue.offer(email(n))),
    fill: (jobs) =>
      Effect.forEach(Array.from({ length: jobs }, (_, n) => n), (n) => queue.offer(email(n)), {
        concurrency: 100,
        discard: true
      }),
    later: () => Effect.dieMessage("it has no delays"),
    work: (concurrency, handle) =>
      Effect.forkScoped(
        Effect.replicateEffect(Effect.forever(queue.take((email) => Effect.sync(() => handle(email)))), concurrency, {
          concurrency: "unbounded",
          discard: true
        })
      )
  }
  return player
})

/** Removes whatever is left in the queues. Nobody works at this time. */
const emptying = Effect.map(connect(), (redis) =>
  Effect.promise(async () => {
    for await (const keys of redis.scanStream({ match: `${PREFIX}*`, count: 10_000 })) {
      if (keys.length > 0) await redis.del(...keys)
    }
  }))

const measure = (name: string, ratio: number): Measure => ({ name, unit: "op/s", better: "higher", target: { ratio } })

// ---------------------------------------------------------------------------------------------------------------------
// Enqueue
// ---------------------------------------------------------------------------------------------------------------------

/** Leaves an empty queue to whoever comes next. */
const then = (slice: Slice, empty: Effect.Effect<void>): Slice => (seconds) => Effect.tap(slice(seconds), () => empty)

const enqueue = (loops: number, target: number): Case => ({
  measures: [measure(`queue.enqueue.${loops}`, target)],
  contenders: Effect.gen(function*() {
    const empty = yield* emptying
    const contender = ({ enqueue, name }: Player): Contender => ({ name, slice: then(enqueue(loops), empty) })
    return [contender(yield* ours("ours", 0)), contender(yield* theirs), contender(yield* persisted)]
  })
})

const enqueueBulk: Case = {
  measures: [measure(`queue.enqueue.bulk${BULK}`, 5)],
  contenders: Effect.gen(function*() {
    const empty = yield* emptying
    const contender = ({ fill, name }: Player): Contender => ({
      name,
      slice: then(
        (seconds) => Effect.map(fibers(1, () => fill(BULK))(seconds), ([calls]) => [calls! * BULK]),
        empty
      )
    })
    return [contender(yield* ours("ours", 0)), contender(yield* theirs)]
  })
}

// ---------------------------------------------------------------------------------------------------------------------
// Work
// ---------------------------------------------------------------------------------------------------------------------

/**
 * Jobs that are handled in a second, and the milliseconds of CPU time that this process needs for each. All of them wait
 * already when the worker starts; the first tenth is not timed.
 */
const draining = ({ fill, work }: Player, concurrency: number): Slice => {
  let rate = 2000
  return (seconds) =>
    Effect.scoped(Effect.gen(function*() {
      const jobs = Math.max(500, Math.ceil(rate * seconds))
      const first = Math.ceil(jobs / 10)
      yield* fill(jobs)
      let handled = 0
      let started = 0
      let cpu = process.cpuUsage()
      let finish: (figures: ReadonlyArray<number>) => void = () => {}
      const done = new Promise<ReadonlyArray<number>>((resolve) => finish = resolve)
      yield* work(concurrency, () => {
        handled++
        if (handled === first) {
          started = performance.now()
          cpu = process.cpuUsage()
        } else if (handled === jobs) {
          const { system, user } = process.cpuUsage(cpu)
          rate = (jobs - first) / ((performance.now() - started) / 1000)
          finish([rate, (system + user) / 1000 / (jobs - first)])
        }
      })
      return yield* Effect.promise(() => done)
    }))
}

const working = (
  measures: Case["measures"],
  concurrency: number,
  players: Effect.Effect<
    readonly [Player, Player, ...ReadonlyArray<Player>],
    unknown,
    Scope.Scope | Server
  >
): Case => ({
  measures,
  contenders: Effect.gen(function*() {
    const empty = yield* emptying
    const contender = (player: Player): Contender => ({
      name: player.name,
      slice: then(draining(player, concurrency), empty)
    })
    const [first, second, ...others] = yield* players
    return [contender(first), contender(second), ...others.map(contender)]
  })
})

const process1: Case = working(
  [measure("queue.process.1", 1.5)],
  1,
  Effect.all([ours("ours, no prefetch", 0), theirs])
)

const process1Prefetch: Case = working(
  [measure("queue.process.1.prefetch16", 8)],
  1,
  Effect.all([ours("ours", 16), theirs])
)

const process10: Case = working(
  [measure("queue.process.10", 1.5)],
  10,
  Effect.all([ours("ours, no prefetch", 0), theirs, ours("ours, as it comes", undefined), persisted])
)

/** What groups cost. BullMQ has them in its paid edition alone, so the plain queue is beside it. */
const groups: Case = working(
  [measure("queue.groups", 0.5)],
  10,
  Effect.all([inGroups, ours("ours, a plain queue", 0)])
)

const process100: Case = working(
  [
    measure("queue.process.100", 3),
    { name: "queue.cpuPerJob.100", unit: "ms", better: "lower", target: { ratio: 0.3 } }
  ],
  100,
  Effect.all([ours("ours, no prefetch", 0), theirs, ours("ours, as it comes", undefined), persisted])
)

/** What it costs when it is switched on, beside the same queue without it. */
const process100With = (what: "events" | "results", queue: typeof WithEvents): Case =>
  working(
    [measure(`queue.process.100.${what}`, what === "events" ? 0.5 : 0.8)],
    100,
    Effect.all([ours(`ours, with ${what}`, 0, queue), ours("the plain queue", 0), theirs])
  )
/** What a batch costs for each of its jobs, beside a handler for each of them. */
const batches: Case = working(
  [
    measure("queue.batches.100", 0.8),
    { name: "queue.batches.cpuPerJob", unit: "ms", better: "lower", target: { ratio: 1.25 } }
  ],
  100,
  Effect.all([inBatches, ours("a handler for each job", 0)])
)

// ---------------------------------------------------------------------------------------------------------------------
// Time
// ---------------------------------------------------------------------------------------------------------------------

const sleep = (millis: number) => Effect.promise(() => new Promise((resolve) => setTimeout(resolve, millis)))

const percentiles = (values: Array<number>): ReadonlyArray<number> => {
  values.sort((a, b) => a - b)
  return [0.5, 0.99].map((part) => values[Math.min(values.length - 1, Math.floor(values.length * part))]!)
}

/** A worker that has nothing to do, and tells when it gets something. */
const idling = ({ later, work }: Player) =>
  Effect.gen(function*() {
    let wake: (time: number) => void = () => {}
    const next = () => new Promise<number>((resolve) => wake = resolve)
    yield* work(1, () => wake(performance.now()))
    const warm = next()
    yield* later(0, email(0))
    yield* Effect.promise(() => warm)
    return next
  })

/** From the moment that a job is put into the queue until its handler starts, one job after the other. */
const idle = (player: Player, pause: number): Slice => (seconds) =>
  Effect.scoped(Effect.gen(function*() {
    const next = yield* idling(player)
    const times: Array<number> = []
    const until = performance.now() + seconds * 1000
    while (performance.now() < until) {
      // By then it waits again.
      yield* sleep(pause)
      const handled = next()
      const started = performance.now()
      yield* player.later(0, email(times.length))
      times.push((yield* Effect.promise(() => handled)) - started)
    }
    return percentiles(times)
  }))

const idleLatency: Case = {
  measures: [
    { name: "queue.idleLatency", unit: "ms", better: "lower", target: { ratio: 1 } },
    { name: "queue.idleLatency.p99", unit: "ms", better: "lower", target: { ratio: 1.3 } }
  ],
  contenders: Effect.gen(function*() {
    // So few jobs come in a turn that the compiler would be at work during all of them.
    const contender = (player: Player) => Effect.as(idle(player, 1)(3), { name: player.name, slice: idle(player, 3) })
    return [yield* contender(yield* ours("ours", undefined)), yield* contender(yield* theirs)]
  })
}

/** How long after the moment that it was meant for a job is handled, with 20 of them in a second. */
const lateness = (player: Player): Slice => (seconds) =>
  Effect.scoped(Effect.gen(function*() {
    const jobs = Math.max(40, Math.ceil(seconds * 20))
    const due: Array<number> = []
    const late: Array<number> = []
    let finish = () => {}
    const done = new Promise<void>((resolve) => finish = resolve)
    yield* player.work(10, ({ user }) => {
      late.push(Date.now() - due[user - 100_000]!)
      if (late.length === jobs) finish()
    })
    for (let n = 0; n < jobs; n++) {
      // Not all at the same distance.
      const delay = 100 + n * 50 + (n * 17) % 40
      due[n] = Date.now() + delay
      yield* player.later(delay, email(n))
    }
    yield* Effect.promise(() => done)
    return percentiles(late)
  }))

const delayedLateness: Case = {
  measures: [
    { name: "queue.delayedLateness", unit: "ms", better: "lower", target: { absolute: 3 } },
    { name: "queue.delayedLateness.p99", unit: "ms", better: "lower", target: { absolute: 10 } }
  ],
  contenders: Effect.gen(function*() {
    const contender = (player: Player): Contender => ({ name: player.name, slice: lateness(player) })
    return [contender(yield* ours("ours", undefined)), contender(yield* theirs)]
  })
}

// ---------------------------------------------------------------------------------------------------------------------
// Memory
// ---------------------------------------------------------------------------------------------------------------------

const COUNTED = 20_000

/** What a job that waits takes on the server. */
const bytesPerJob: Case = {
  measures: [{ name: "queue.bytesPerJob", unit: "B", better: "lower", target: { ratio: 0.35 } }],
  contenders: Effect.gen(function*() {
    const redis = yield* connect()
    const empty = yield* emptying
    const used = Effect.promise(async () => Number(/used_memory:(\d+)/.exec(await redis.info("memory"))?.[1]))
    const contender = ({ fill, name }: Player): Contender => ({
      name,
      slice: () =>
        Effect.gen(function*() {
          const before = yield* used
          yield* fill(COUNTED)
          const after = yield* used
          yield* empty
          return [(after - before) / COUNTED]
        })
    })
    return [contender(yield* ours("ours", 0)), contender(yield* theirs)]
  })
}

export const cases: ReadonlyArray<Case> = [
  enqueue(1, 1.2),
  enqueue(100, 2.5),
  enqueueBulk,
  process1,
  process1Prefetch,
  process10,
  process100,
  process100With("events", WithEvents),
  process100With("results", WithResults),
  batches,
  groups,
  idleLatency,
  delayedLateness,
  bytesPerJob
]
