/**
 * Waiting for results under faults and interruption, and against a model; and what it costs.
 */
import { assert, describe, it } from "@effect/vitest"
import {
  Effect,
  Exit,
  FastCheck,
  Fiber,
  Layer,
  Logger,
  LogLevel,
  Schedule,
  Schema,
  Supervisor,
  TestClock
} from "effect"
import * as Queue from "../../src/Queue/index.js"
import { keysOf } from "../../src/Queue/keys.js"
import * as resultScripts from "../../src/Queue/resultScripts.js"
import * as scripts from "../../src/Queue/scripts.js"
import { RedisClient } from "../../src/RedisClient.js"
import { Fault, RedisTestServer } from "../../src/RedisTestServer.js"
import { live } from "../kit/layers.js"
import { forkWith } from "../kit/steps.js"
import { fresh } from "../kit/suites.js"
import { run } from "./awaitsRun.js"
import { makeHand } from "./hand.js"
import { keysLeft } from "./suite.js"

/** More with QUEUE_RUNS=5000. */
const RUNS = Number(process.env["QUEUE_RUNS"] ?? 12)

const Payload = Schema.Struct({ n: Schema.Number })

const define = (options: { readonly attempts?: number; readonly events?: { readonly maxLength: number } } = {}) =>
  Queue.define({
    name: fresh("results"),
    payload: Payload,
    result: Schema.Number,
    backoff: () => 5,
    completed: { count: 20_000 },
    ...options
  })

type Definition = ReturnType<typeof define>

const turnOfTheEventLoop = Effect.promise(() => new Promise((resolve) => setImmediate(resolve)))

const quiet = Logger.minimumLogLevel(LogLevel.Error)

const inMemory = Layer.provideMerge(Queue.layerTest, quiet)

/** Until it has ended. Some time of the test's clock passes, first in small steps. */
const settled = <A, E>(fiber: Fiber.RuntimeFiber<A, E>) =>
  Effect.gen(function*() {
    for (let i = 0; i < 100 && (yield* Fiber.poll(fiber))._tag === "None"; i++) {
      yield* turnOfTheEventLoop
      yield* TestClock.adjust(i < 30 ? "10 millis" : "500 millis")
    }
    assert.strictEqual((yield* Fiber.poll(fiber))._tag, "Some", "it has not ended")
    return yield* Fiber.await(fiber)
  })

const endOf = (exit: Exit.Exit<number, Queue.AwaitError>): string =>
  Exit.match(exit, {
    onSuccess: String,
    onFailure: (cause) =>
      cause._tag !== "Fail" ? cause._tag : cause.error._tag === "JobFailed" ? cause.error.reason : cause.error._tag
  })

const callsOf = (server: RedisTestServer["Type"], sha: string) =>
  Effect.map(server.journal, (all) => all.filter(({ args }) => args[1] === sha).length)

/** Nobody waits for anything any more. */
const nothingIsLeft = (queue: Definition) =>
  Effect.gen(function*() {
    const server = yield* RedisTestServer
    for (let i = 0; i < 50; i++) yield* turnOfTheEventLoop
    assert.notInclude(yield* server.subscriptions, keysOf(queue.name).done)
    // A sleep that was interrupted is forgotten when its time comes.
    yield* TestClock.adjust("2 hours")
    assert.deepStrictEqual(Array.from(yield* TestClock.sleeps()), [])
  })

// ---------------------------------------------------------------------------------------------------------------------
// A model
// ---------------------------------------------------------------------------------------------------------------------

/** What happens to one job, and when somebody begins to wait for it. */
interface Plan {
  readonly fate:
    | "succeeds"
    | "fails once"
    | "fails"
    | "unrecoverable"
    | "postpones"
    | "cancelled"
    | "removed"
    | "absent"
  readonly delay: number
  readonly waits: number
}

const plan: FastCheck.Arbitrary<Plan> = FastCheck.record({
  fate: FastCheck.constantFrom(
    "succeeds",
    "fails once",
    "fails",
    "unrecoverable",
    "postpones",
    "cancelled",
    "removed",
    "absent"
  ),
  delay: FastCheck.constantFrom(0, 0, 10, 40),
  waits: FastCheck.constantFrom(0, 0, 5, 20, 60, 200)
})

type Trouble = "none" | "lost reply" | "connections" | "messages"

const faults: FastCheck.Arbitrary<Trouble> = FastCheck.constantFrom("none", "lost reply", "connections", "messages")

/** The end of each wait is that of its job, whenever it began and whatever happened to the connection. */
const endsAsItsJob = (plans: ReadonlyArray<Plan>, fault: Trouble) =>
  Effect.gen(function*() {
    const queue = define({ attempts: 2 })
    const server = yield* RedisTestServer
    const client = yield* RedisClient
    const again = new Set<number>()
    const idOf = (n: number) => `job ${n}`
    for (const [n, { delay, fate }] of plans.entries()) {
      if (fate === "absent") continue
      yield* Queue.enqueue(queue, { n }, { id: idOf(n), delay: fate === "removed" ? 3_600_000 : delay })
    }
    const waits = yield* Effect.forEach(plans, ({ waits }, n) =>
      Effect.fork(Effect.exit(
        Effect.zipRight(Effect.sleep(waits), Queue.awaitResult(queue, idOf(n), { timeout: "1 hour" }))
      )))
    yield* turnOfTheEventLoop
    if (fault === "lost reply") {
      yield* server.inject(Fault.disconnectAfter({ command: scripts.work.sha }))
      yield* server.inject(Fault.disconnectAfter({ command: resultScripts.fates.sha }))
    }
    const worker = yield* Effect.fork(Queue.runWorker(queue, (job): Effect.Effect<number, unknown> => {
      const { n } = job.payload
      switch (plans[n]!.fate) {
        case "fails":
          return Effect.fail("no")
        case "fails once":
          return job.attempt === 1 ? Effect.fail("once") : Effect.succeed(n)
        case "unrecoverable":
          return Effect.fail(Queue.unrecoverable("no"))
        case "postpones":
          return again.has(n) ? Effect.succeed(n) : Effect.sync(() => again.add(n)).pipe(
            Effect.zipRight(Effect.fail(Queue.postpone("15 millis")))
          )
        case "cancelled":
          return Effect.never
        default:
          return Effect.succeed(n)
      }
    }, { concurrency: plans.length + 1 }))
    yield* TestClock.adjust("10 millis")
    if (fault === "connections") yield* server.disconnect({ downtime: "30 millis" })
    // Whoever removes jobs does not say so.
    const silently = { ...queue, completed: undefined }
    const teller: Queue.Definition<typeof Payload.Type, number> = fault === "messages"
      ? Queue.define({ ...silently })
      : queue
    for (const [n, { fate }] of plans.entries()) {
      const patiently = <A, E, R>(effect: Effect.Effect<A, E, R>) =>
        Effect.flatMap(
          Effect.fork(Effect.retry(effect, { schedule: Schedule.spaced("5 millis"), times: 200 })),
          (fiber) => settled(fiber)
        )
      if (fate === "removed") yield* Effect.either(Effect.flatten(patiently(Queue.remove(teller, idOf(n)))))
      if (fate === "cancelled") {
        yield* patiently(Effect.filterOrFail(Queue.cancel(queue, idOf(n)), (runs) => runs, () => "not yet" as const))
      }
    }
    for (const [n, { fate }] of plans.entries()) {
      const end = endOf(yield* Effect.flatten(settled(waits[n]!)))
      const all: Readonly<Record<Plan["fate"], string>> = {
        "succeeds": String(n),
        "fails once": String(n),
        "postpones": String(n),
        "fails": "exhausted",
        "unrecoverable": "unrecoverable",
        "cancelled": "cancelled",
        "removed": "JobNotFound",
        "absent": "JobNotFound"
      }
      assert.strictEqual(end, all[fate], `${fate}, ${fault}`)
    }
    const interrupting = yield* Effect.fork(Fiber.interrupt(worker))
    yield* settled(interrupting)
    assert.isAtLeast(yield* client.hlen(keysOf(queue.name).jobs), 0)
  })

describe("waiting for results", () => {
  it.effect.prop(
    "ends as the job does, whenever it began, and whatever happens to connections and messages",
    { plans: FastCheck.array(plan, { minLength: 1, maxLength: 8 }), fault: faults },
    ({ fault, plans }) => Effect.provide(endsAsItsJob(plans, fault), inMemory),
    { fastCheck: { numRuns: RUNS }, timeout: 120_000 + RUNS * 1000 }
  )

  it.effect("thousands share one subscription and few calls", () =>
    Effect.gen(function*() {
      const queue = define()
      const server = yield* RedisTestServer
      const hand = yield* makeHand(queue)
      const ids = Array.from({ length: 2000 }, (_, i) => `j${i}`)
      yield* Queue.enqueueAll(queue, ids.map((id, n) => ({ id, payload: { n } })))
      const waits = yield* Effect.forEach(ids, (id) => Effect.fork(Queue.awaitResult(queue, id)))
      yield* settled(
        yield* Effect.fork(Effect.repeat(server.subscriptions, {
          until: (all) => all.includes(keysOf(queue.name).done),
          schedule: Schedule.spaced("1 millis")
        }))
      )
      for (let i = 0; i < 200; i++) yield* turnOfTheEventLoop
      const before = yield* callsOf(server, resultScripts.fates.sha)
      // Once each to begin with, and once more when the subscription is there.
      assert.isAtMost(before, 12)
      const subscribed = (yield* server.journal).filter(({ args }) => args[0] === "SUBSCRIBE")
      assert.lengthOf(subscribed, 1)
      for (let i = 0; i < 2; i++) yield* hand.completeAll(yield* hand.take(1000))
      for (const fiber of waits) {
        const exit = yield* settled(fiber)
        // The hand gives no results.
        assert.strictEqual(endOf(exit), "RedisDecodeError")
      }
      assert.isAtMost((yield* callsOf(server, resultScripts.fates.sha)) - before, 8)
      assert.notInclude(yield* server.subscriptions, keysOf(queue.name).done)
    }).pipe(Effect.provide(inMemory)))

  it.effect("interrupted at every step, it leaves no subscription, timer or fiber", () =>
    Effect.gen(function*() {
      const queue = define()
      yield* Queue.enqueue(queue, { n: 1 }, { id: "a", delay: "1 hour" })
      const context = yield* Effect.context<Queue.Queue>()
      const supervisor = yield* Supervisor.track
      yield* Effect.gen(function*() {
        for (let step = 1;; step++) {
          const wait = Effect.provide(Queue.awaitResult(queue, "a", { timeout: "1 hour" }), context)
          const [fiber, reached] = yield* forkWith(wait, { step, yields: true, interrupts: true })
          for (let i = 0; i < 30; i++) yield* turnOfTheEventLoop
          yield* Fiber.interrupt(fiber)
          yield* nothingIsLeft(queue)
          if (!reached()) break
        }
      }).pipe(Effect.supervised(supervisor))
      const alive = (yield* supervisor.value).filter((fiber) => fiber.unsafePoll() === null)
      assert.lengthOf(alive, 0)
    }).pipe(Effect.provide(inMemory)))

  it.effect("nobody has to say that a job has ended: it is asked for again after a while", () =>
    Effect.gen(function*() {
      const queue = define()
      const client = yield* RedisClient
      yield* Queue.enqueue(queue, { n: 1 }, { id: "a", delay: "1 hour" })
      const fiber = yield* Effect.fork(Queue.awaitResult(queue, "a", { timeout: "1 hour" }))
      yield* TestClock.adjust("1 second")
      for (let i = 0; i < 20; i++) yield* turnOfTheEventLoop
      yield* client.del(keysOf(queue.name).jobs)
      yield* TestClock.adjust("3 seconds")
      assert.strictEqual((yield* Fiber.poll(fiber))._tag, "None")
      assert.strictEqual(endOf(yield* settled(fiber)), "JobNotFound")
      yield* nothingIsLeft(queue)
    }).pipe(Effect.provide(inMemory)))

  it.scoped("an end while the connection is lost is heard of when it is back; the first call of all may fail", () =>
    Effect.gen(function*() {
      const queue = define()
      const server = yield* RedisTestServer
      const hand = yield* makeHand(queue)
      yield* Queue.enqueue(queue, { n: 1 }, { id: "a" })
      const fiber = yield* Effect.fork(Queue.awaitResult(queue, "a", { timeout: "1 hour" }))
      for (let i = 0; i < 30; i++) yield* turnOfTheEventLoop
      const taken = yield* hand.next
      const other = yield* server.client()
      yield* server.disconnect({ downtime: "300 millis" })
      const late = yield* Effect.fork(
        Effect.retry(hand.completeWith("7")(taken), Schedule.spaced("10 millis")).pipe(
          Effect.provideService(RedisClient, other)
        )
      )
      yield* settled(late)
      assert.strictEqual(endOf(yield* settled(fiber)), "7")
      yield* server.become("out-of-memory")
      // Reading needs no memory.
      assert.strictEqual(yield* Queue.awaitResult(queue, "a"), 7)
      yield* server.inject(Fault.reply("ERR no", { command: resultScripts.fates.sha }))
      assert.strictEqual(
        (yield* Effect.flip(Queue.awaitResult(queue, "a")))._tag,
        "RedisReplyError"
      )
    }).pipe(Effect.provide(inMemory)))

  it.effect("the end of the layer ends it", () =>
    Effect.gen(function*() {
      const queue = define()
      const wait = yield* Effect.gen(function*() {
        const service = yield* Queue.make
        yield* service.enqueue(queue, { n: 1 }, { id: "a", delay: "1 hour" })
        const fiber = yield* Effect.forkDaemon(service.awaitResult(queue, "a", { timeout: "1 hour" }))
        for (let i = 0; i < 30; i++) yield* turnOfTheEventLoop
        return { fiber, service }
      }).pipe(Effect.scoped)
      assert.strictEqual(endOf(yield* settled(wait.fiber)), "RedisConnectionError")
      assert.strictEqual(
        (yield* Effect.flip(wait.service.awaitResult(queue, "a")))._tag,
        "RedisConnectionError"
      )
    }).pipe(Effect.provide(inMemory)))

  it.effect("a call of a worker whose reply was lost writes no event twice, and keeps one result", () =>
    Effect.gen(function*() {
      const queue = define({ events: { maxLength: 1000 } })
      const server = yield* RedisTestServer
      yield* Queue.enqueue(queue, { n: 1 }, { id: "a" })
      for (let i = 0; i < 3; i++) yield* server.inject(Fault.disconnectAfter({ command: scripts.work.sha }))
      const worker = yield* Effect.fork(
        Queue.runWorker(queue, (job) => Effect.as(Effect.zipRight(job.progress(1), job.log("once")), 5))
      )
      assert.strictEqual(endOf(yield* settled(yield* Effect.fork(Queue.awaitResult(queue, "a")))), "5")
      yield* settled(yield* Effect.fork(Fiber.interrupt(worker)))
      const { events } = yield* Queue.eventsPage(queue)
      assert.deepStrictEqual(events.map(({ _tag }) => _tag), [
        "Added",
        "Started",
        "Progress",
        "Completed",
        "Drained"
      ])
      assert.lengthOf(yield* Queue.logs(queue, "a"), 1)
      assert.strictEqual((yield* Queue.counts(queue)).completed, 1)
    }).pipe(Effect.provide(inMemory)))

  it.effect("a queue that wants none of it sends what it always has, and the server does no more", () =>
    Effect.gen(function*() {
      const server = yield* RedisTestServer
      const plain = Queue.define({ name: fresh("plain"), payload: Payload })
      const worker = yield* Effect.fork(Queue.runWorker(plain, () => Effect.void))
      yield* Queue.enqueue(plain, { n: 1 })
      yield* Queue.enqueue(plain, { n: 2 }, { priority: 1 })
      yield* TestClock.adjust("10 millis")
      yield* settled(yield* Effect.fork(Fiber.interrupt(worker)))
      assert.deepStrictEqual(yield* keysLeft(plain.name), [])
      const scriptsOf = (yield* server.journal).map(({ args }) => args)
      const work = scriptsOf.find((args) => args[1] === scripts.work.sha)
      const count = Number(work?.[2])
      assert.strictEqual(work?.[3 + count + 1], "0")
      assert.isFalse(scriptsOf.some(([name]) => name === "XADD"))
    }).pipe(Effect.provide(inMemory)))

  it.live("a subscriber that is killed misses nothing", () =>
    Effect.gen(function*() {
      const queue = define()
      const client = yield* RedisClient
      const hand = yield* makeHand(queue)
      yield* Queue.enqueueAll(queue, [1, 2, 3].map((n) => ({ id: `j${n}`, payload: { n } })))
      const waits = yield* Effect.forEach([1, 2, 3], (n) => Effect.fork(Queue.awaitResult(queue, `j${n}`)))
      const heard = Effect.map(client.send("PUBSUB", "NUMSUB", client.key(keysOf(queue.name).done)), (reply) =>
        Array.isArray(reply) && Number(reply[1]) === 1)
      yield* Effect.repeat(heard, {
        until: (is) =>
          is,
        schedule: Schedule.spaced("10 millis")
      })
      const taken = yield* hand.take(3)
      yield* client.send("CLIENT", "KILL", "TYPE", "pubsub")
      for (const [i, one] of taken.entries()) assert.isTrue(yield* hand.completeWith(String(i))(one))
      for (const [i, fiber] of waits.entries()) assert.strictEqual(yield* Fiber.join(fiber), i)
    }).pipe(Effect.provide(Layer.provideMerge(Queue.layer, live))), 60_000)

  it.live(
    "in short what `awaits.ts` does at length: processes that are killed while many wait",
    () =>
      Effect.gen(function*() {
        const report = yield* run({
          jobs: 600,
          processes: 2,
          killEvery: 3000,
          lease: 1500,
          killers: 1,
          spread: 1000,
          say: Effect.logDebug
        })
        assert.deepStrictEqual(report.problems.slice(0, 5), [])
        assert.strictEqual(report.subscriptions, 1)
        assert.strictEqual(report.ends["lease-expired"] !== undefined, true)
        assert.strictEqual(Object.values(report.ends).reduce((sum, n) => sum + n, 0), 600)
      }).pipe(Effect.scoped, Effect.provide(quiet)),
    180_000
  )
})
