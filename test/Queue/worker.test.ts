import { assert, describe, it } from "@effect/vitest"
import {
  Array as Arr,
  DateTime,
  Duration,
  Effect,
  Exit,
  Fiber,
  Layer,
  Logger,
  Metric,
  Option,
  Random,
  Schedule,
  Schema,
  Scope,
  TestClock,
  type Tracer
} from "effect"
import * as Queue from "../../src/Queue/index.js"
import { keysOf } from "../../src/Queue/keys.js"
import { ofWorker } from "../../src/Queue/metrics.js"
import * as scripts from "../../src/Queue/scripts.js"
import { RedisClient } from "../../src/RedisClient.js"
import { Fault, layerWith, RedisTestServer } from "../../src/RedisTestServer.js"
import * as Spans from "../kit/spans.js"
import { fresh, until, virtual } from "../kit/suites.js"
import { define, gate, keysLeft, recorder } from "./suite.js"
import { work } from "./work.js"

const eventually = until(virtual)
const holds = (condition: () => boolean) => eventually(Effect.sync(condition))

const commands = Effect.flatMap(RedisTestServer, ({ journal }) => journal)

const count = (name: string) =>
  Effect.map(commands, (all) => all.filter(({ args }) => args[0]?.toUpperCase() === name).length)

/** Calls that settle or take jobs. */
const calls = Effect.map(
  commands,
  (all) => all.filter(({ args }) => args[1] === scripts.work.sha || args[1] === scripts.workPlainly.sha)
)

/** Those that do not settle any. */
const claims = Effect.map(
  calls,
  (all) => all.filter(({ args }) => args.length === 3 + Number(args[2]) + (args[1] === scripts.work.sha ? 9 : 5)).length
)

/** A worker that takes jobs and is never heard of again. */
const ghost = (queue: Queue.Definition<any>, want: number, call = 1, settles: ReadonlyArray<string> = []) =>
  Effect.flatMap(RedisClient, (client) => {
    const keys = keysOf(queue.name)
    return work(
      client,
      keys,
      "ghost",
      call,
      {
        cluster: false,
        wake: "",
        lease: Duration.toMillis(queue.lease),
        deadCount: 10,
        deadAge: 1_000_000
      },
      want,
      settles
    )
  })

const turnOfTheEventLoop = Effect.promise(() => new Promise((resolve) => setImmediate(resolve)))

const quiet = Logger.remove(Logger.defaultLogger)

const test = (
  name: string,
  body: Effect.Effect<void, any, Queue.Queue | RedisClient | RedisTestServer | Scope.Scope>
) => it.scoped(name, () => body.pipe(Effect.provide(Layer.merge(Queue.layerTest, quiet))))

describe("a worker", () => {
  test(
    "57 jobs at concurrency 13 need few calls, and an idle queue does not spin",
    Effect.gen(function*() {
      const queue = define("calls")
      yield* Queue.enqueueAll(queue, Array.from({ length: 57 }, (_, n) => ({ payload: { n } })))
      const { jobs, record } = recorder()
      yield* Queue.makeWorker(queue, (job) => Effect.zipRight(turnOfTheEventLoop, record(job)), {
        concurrency: 13,
        prefetch: 0
      })
      yield* holds(() => jobs.length === 57)
      yield* TestClock.adjust("20 millis")
      assert.isAtMost(yield* claims, 2)
      assert.isAtMost(yield* count("BZPOPMIN"), 2)
      const idle = (yield* commands).length
      yield* TestClock.adjust("1 minute")
      // It looks less and less often.
      assert.isAtMost((yield* commands).length - idle, 10)
    })
  )

  test(
    "jobs in advance make one call serve many, and handlers that are slow get none",
    Effect.gen(function*() {
      const fast = define("fast")
      yield* Queue.enqueueAll(fast, Array.from({ length: 200 }, (_, n) => ({ payload: { n } })))
      const { jobs, record } = recorder()
      yield* Queue.makeWorker(fast, record)
      yield* holds(() => jobs.length === 200)
      assert.isAtMost((yield* calls).length, 30)
      assert.deepStrictEqual(jobs.map(({ payload }) => payload.n), Arr.range(0, 199))

      const services = yield* Effect.context<Queue.Queue>()
      const slow = define("slow")
      yield* Queue.enqueueAll(slow, Array.from({ length: 10 }, (_, n) => ({ payload: { n } })))
      let most = 0
      yield* Queue.makeWorker(slow, () =>
        Effect.gen(function*() {
          yield* Effect.sleep("10 millis")
          most = Math.max(most, (yield* Queue.counts(slow).pipe(Effect.orDie)).running)
        }).pipe(Effect.provide(services)))
      yield* eventually(Effect.map(keysLeft(slow.name), (keys) => keys.length === 0))
      assert.strictEqual(most, 1)
    })
  )

  test(
    "renews the leases of long jobs, so that they run once",
    Effect.gen(function*() {
      const queue = define("long", { lease: "10 seconds" })
      const { handler, jobs, open } = yield* gate
      yield* Queue.enqueueAll(queue, Array.from({ length: 4 }, (_, n) => ({ payload: { n } })))
      yield* Queue.makeWorker(queue, handler, { concurrency: 2, prefetch: 2 })
      const other = recorder()
      yield* holds(() => jobs.length === 2)
      yield* Queue.makeWorker(queue, other.record)
      yield* TestClock.adjust("10 minutes")
      assert.strictEqual(jobs.length, 2)
      assert.strictEqual(other.jobs.length, 0)
      yield* open
      yield* eventually(Effect.map(keysLeft(queue.name), (keys) => keys.length === 0))
      assert.strictEqual(jobs.length + other.jobs.length, 4)
    })
  )

  test(
    "takes over what a dead worker had, as the next attempt, when the lease has ended",
    Effect.gen(function*() {
      const queue = define("dead", { lease: "10 seconds", attempts: 2 })
      yield* Queue.enqueue(queue, { n: 1 }, { priority: 2 })
      assert.strictEqual((yield* ghost(queue, 1)).ids.length, 1)
      yield* Queue.enqueue(queue, { n: 2 }, { priority: 2 })
      const { jobs, record } = recorder()
      yield* Queue.makeWorker(queue, record)
      yield* TestClock.adjust("9900 millis")
      assert.deepStrictEqual(jobs.map(({ payload }) => payload.n), [2])
      yield* TestClock.adjust("200 millis")
      assert.deepStrictEqual(jobs.map(({ attempt, payload, priority }) => [payload.n, attempt, priority]), [[2, 1, 2], [
        1,
        2,
        2
      ]])
      assert.deepStrictEqual(yield* keysLeft(queue.name), [])
    })
  )

  test(
    "does not run a job again whose last attempt ended with a lost lease",
    Effect.gen(function*() {
      const queue = define("last", { lease: "1 second", attempts: 1 })
      const { id } = yield* Queue.enqueue(queue, { n: 1 })
      yield* ghost(queue, 1)
      const { jobs, record } = recorder()
      yield* Queue.makeWorker(queue, record)
      yield* TestClock.adjust("2 seconds")
      assert.strictEqual(jobs.length, 0)
      const letter = yield* Effect.flatten(Queue.deadLetter(queue, id))
      assert.strictEqual(letter.reason, "lease-expired")
      assert.strictEqual(letter.attempts, 1)
      assert.deepStrictEqual(yield* Queue.counts(queue), {
        ready: 0,
        delayed: 0,
        blocked: 0,
        running: 0,
        dead: 1,
        completed: 0
      })
    })
  )

  test(
    "who has lost a job can neither complete, fail nor renew it",
    Effect.gen(function*() {
      const client = yield* RedisClient
      const queue = define("stale", { lease: "1 second", attempts: 5 })
      const { id } = yield* Queue.enqueue(queue, { n: 1 })
      yield* ghost(queue, 1)
      yield* TestClock.adjust("1100 millis")
      const { handler, open, state } = yield* gate
      yield* Queue.makeWorker(queue, handler)
      yield* holds(() => state.waiting === 1)
      const stale = `ghost:1:1|${id}`
      assert.strictEqual(yield* client.eval(scripts.renew, keysOf(queue.name), 1000, [stale]), "l")
      assert.isFalse(yield* client.eval(scripts.tell, keysOf(queue.name), stale, id, "1", 0))
      for (const [i, outcome] of ["c", "r0", "x", "p5", "d{}", "f{}"].entries()) {
        assert.deepStrictEqual((yield* ghost(queue, 0, 2 + i, [stale, outcome])).lost, [0])
      }
      assert.deepStrictEqual(yield* Queue.counts(queue), {
        ready: 0,
        delayed: 0,
        blocked: 0,
        running: 1,
        dead: 0,
        completed: 0
      })
      yield* open
      yield* eventually(Effect.map(keysLeft(queue.name), (keys) => keys.length === 0))
      assert.deepStrictEqual((yield* Queue.status(queue)).totals, { completed: 1, failed: 1, dead: 0 })
    })
  )

  it.scoped("a lost lease interrupts its handler, and the worker goes on", () => {
    const lines: Array<string> = []
    const logger = Logger.make(({ annotations, message }) => {
      lines.push(`${String(message)} ${JSON.stringify(Object.fromEntries(annotations))}`)
    })
    return Effect.gen(function*() {
      const client = yield* RedisClient
      const queue = define("loss", { lease: "3 seconds" })
      const { handler, jobs, state } = yield* gate
      yield* Queue.makeWorker(
        queue,
        (job) => job.payload.n === 0 ? handler(job) : Effect.sync(() => void jobs.push(job))
      )
      const { id } = yield* Queue.enqueue(queue, { n: 0 })
      yield* holds(() => state.waiting === 1)
      // As if it was away for long, and somebody else had the job meanwhile.
      yield* client.send("DEL", client.key(keysOf(queue.name).leases))
      yield* TestClock.adjust("1 second")
      yield* holds(() => state.interrupted === 1)
      assert.isTrue(lines.some((line) => line.includes("lost a job") && line.includes(id)))
      assert.strictEqual((yield* Metric.value(ofWorker(queue.name).others.lost)).count, 1)
      yield* Queue.enqueue(queue, { n: 1 })
      yield* holds(() => jobs.length === 2)
    }).pipe(Effect.provide(Layer.merge(Queue.layerTest, Logger.replace(Logger.defaultLogger, logger))))
  })

  test(
    "lost replies make nothing happen twice, and nothing get lost",
    Effect.gen(function*() {
      const server = yield* RedisTestServer
      const queue = define("replies", { attempts: 1 })
      const { jobs, record } = recorder()
      // Never so many in a row that the client gives up.
      for (const command of [scripts.work.sha, scripts.workPlainly.sha, scripts.add.sha]) {
        for (let after = 1; after < 30; after += 9) {
          yield* server.inject(Fault.loseReply({ command, after }))
          yield* server.inject(Fault.disconnectAfter({ command, after: after + 3 }))
          yield* server.inject(Fault.disconnectBefore({ command, after: after + 6 }))
        }
      }
      yield* Queue.makeWorker(queue, record, { concurrency: 4 })
      const adding = yield* Effect.fork(
        Effect.forEach(
          Arr.range(0, 59),
          (n) =>
            Effect.flatMap(
              Queue.enqueue(queue, { n }),
              ({ outcome }) => Effect.sync(() => assert.strictEqual(outcome, "added"))
            ).pipe(Effect.delay("100 millis")),
          { concurrency: 2 }
        )
      )
      while (Option.isNone(yield* Fiber.poll(adding))) yield* TestClock.adjust("1 second")
      const added = yield* Fiber.await(adding)
      const left = (yield* server.faults).length
      yield* server.clearFaults
      yield* added
      assert.isAtMost(left, 12)
      for (let i = 0; i < 30 && (yield* keysLeft(queue.name)).length > 0; i++) yield* TestClock.adjust("1 second")
      assert.deepStrictEqual(jobs.map(({ payload }) => payload.n).sort((a, b) => a - b), Arr.range(0, 59))
      assert.strictEqual((yield* Metric.value(ofWorker(queue.name).others.lost)).count, 0)
      assert.deepStrictEqual(yield* keysLeft(queue.name), [])
      assert.deepStrictEqual((yield* Queue.status(queue)).totals, { completed: 60, failed: 0, dead: 0 })
    })
  )

  test(
    "of two calls at a time each is remembered apart",
    Effect.gen(function*() {
      const server = yield* RedisTestServer
      const queue = define("lanes")
      yield* Queue.enqueue(queue, { n: 0 })
      yield* server.inject(Fault.loading({ command: scripts.add.sha }))
      // It is sent once more after a pause, when the second one was there.
      const first = yield* Effect.fork(Queue.enqueue(queue, { n: 1 }))
      yield* TestClock.adjust("1 millis")
      const second = yield* Effect.fork(Queue.enqueue(queue, { n: 2 }))
      yield* TestClock.adjust("1 second")
      assert.deepStrictEqual([(yield* first).outcome, (yield* second).outcome], ["added", "added"])
      const { jobs, record } = recorder()
      yield* Queue.makeWorker(queue, record)
      yield* eventually(Effect.map(keysLeft(queue.name), (keys) => keys.length === 0))
      assert.deepStrictEqual(jobs.map(({ payload }) => payload.n), [0, 2, 1])
    })
  )

  test(
    "a call that comes late does nothing",
    Effect.gen(function*() {
      const queue = define("late")
      yield* Queue.enqueueAll(queue, Array.from({ length: 3 }, (_, n) => ({ payload: { n } })))
      const first = yield* ghost(queue, 1, 5)
      assert.deepStrictEqual((yield* ghost(queue, 1, 5)).ids, first.ids)
      assert.deepStrictEqual((yield* ghost(queue, 1, 5)).envelopes, first.envelopes)
      assert.deepStrictEqual((yield* ghost(queue, 2, 4)).ids, [])
      assert.strictEqual((yield* Queue.counts(queue)).running, 1)
      const member = `ghost:5:1|${first.ids[0]}`
      assert.deepStrictEqual((yield* ghost(queue, 0, 6, [member, "c", "ghost:1:1|nobody", "c"])).lost, [1])
      assert.deepStrictEqual((yield* ghost(queue, 0, 6, [member, "c", "ghost:1:1|nobody", "c"])).lost, [1])
      assert.strictEqual((yield* Queue.status(queue)).totals.completed, 1)
    })
  )

  test(
    "a lost marker costs some seconds, and no job",
    Effect.gen(function*() {
      const client = yield* RedisClient
      const queue = define("marker")
      const { jobs, record } = recorder()
      yield* Queue.makeWorker(queue, record)
      yield* TestClock.adjust("50 millis")
      // As if it was added without anybody being told.
      const { jobs: envelopes, ready } = keysOf(queue.name)
      yield* client.transaction([
        ["HSET", client.key(envelopes), "quiet", "{\"t\":0,\"p\":{\"n\":7}}"],
        ["RPUSH", client.key(ready[0]!), "quiet"]
      ])
      yield* TestClock.adjust("9 seconds")
      assert.deepStrictEqual(jobs.map(({ payload }) => payload.n), [7])
    })
  )

  test(
    "goes on after an outage that is longer than anything it waits for, idle and busy",
    Effect.gen(function*() {
      const server = yield* RedisTestServer
      const queue = define("outage", { lease: "1 minute" })
      const { handler, jobs, open } = yield* gate
      const idle = define("outage")
      const { jobs: others, record } = recorder()
      yield* Queue.makeWorker(queue, handler, { concurrency: 2 })
      yield* Queue.makeWorker(idle, record)
      yield* Queue.enqueueAll(queue, [0, 1, 2, 3].map((n) => ({ payload: { n } })))
      yield* holds(() => jobs.length === 2)
      yield* server.disconnect({ downtime: "30 seconds" })
      yield* open
      yield* TestClock.adjust("29 seconds")
      for (let i = 0; i < 10; i++) yield* TestClock.adjust("1 second")
      yield* eventually(Effect.map(keysLeft(queue.name), (keys) => keys.length === 0))
      assert.strictEqual(jobs.length, 4)
      yield* Queue.enqueue(idle, { n: 1 })
      yield* holds(() => others.length === 1)
    })
  )

  test(
    "a server that has forgotten its scripts, or is busy, does not matter",
    Effect.gen(function*() {
      const server = yield* RedisTestServer
      const client = yield* RedisClient
      const queue = define("scripts")
      const { jobs, record } = recorder()
      yield* Queue.makeWorker(queue, record)
      yield* client.send("SCRIPT", "FLUSH")
      yield* Queue.enqueue(queue, { n: 0 })
      yield* holds(() => jobs.length === 1)
      yield* server.inject(Fault.busy({ command: scripts.workPlainly.sha, times: 3 }))
      yield* server.inject(Fault.reply("ERR something else", { command: scripts.workPlainly.sha, times: 2 }))
      yield* Queue.enqueue(queue, { n: 1 })
      for (let i = 0; i < 50 && jobs.length < 2; i++) yield* TestClock.adjust("100 millis")
      assert.strictEqual(jobs.length, 2)
    })
  )

  test(
    "stops at once while it waits, and with it ends whatever it had",
    Effect.gen(function*() {
      const server = yield* RedisTestServer
      const queue = define("stop")
      const scope = yield* Scope.make()
      yield* Scope.extend(Queue.makeWorker(queue, () => Effect.void), scope)
      yield* TestClock.adjust("12 seconds")
      // No time passes.
      yield* Scope.close(scope, Exit.void)
      assert.deepStrictEqual(yield* server.subscriptions, [])
      yield* TestClock.adjust("1 minute")
      assert.deepStrictEqual(Array.from(yield* TestClock.sleeps()), [])
      assert.deepStrictEqual(yield* keysLeft(queue.name), [])
    })
  )

  test(
    "a marker that nobody needs any more is passed on",
    Effect.gen(function*() {
      const server = yield* RedisTestServer
      const queue = define("pass")
      const elsewhere = yield* Layer.build(
        Layer.provide(Queue.layer, Layer.scoped(RedisClient, server.client()))
      )
      const { handler, open, state } = yield* gate
      const { jobs, record } = recorder()
      yield* Queue.makeWorker(queue, handler, { prefetch: 0 })
      yield* Effect.provide(Queue.makeWorker(queue, record), elsewhere)
      // One of them is busy with the first job; whoever hears of the second, the other one gets it.
      yield* Queue.enqueue(queue, { n: 0 })
      yield* TestClock.adjust("10 millis")
      for (let n = 1; n < 10; n++) {
        yield* Queue.enqueue(queue, { n })
        yield* TestClock.adjust("10 millis")
      }
      yield* open
      yield* TestClock.adjust("10 millis")
      assert.strictEqual(state.waiting, 0)
      assert.deepStrictEqual(yield* keysLeft(queue.name), [])
      assert.isAtLeast(jobs.length, 1)
    })
  )

  test(
    "a busy worker of a queue with limits is not woken again and again for what it can't take",
    Effect.gen(function*() {
      const queue = define("limited")
      const { handler, open, state } = yield* gate
      yield* Queue.setGlobalConcurrency(queue, 10)
      const { jobs, record } = recorder()
      // Fast ones first, so that it would take jobs in advance.
      yield* Queue.enqueueAll(queue, Array.from({ length: 30 }, (_, n) => ({ payload: { n } })))
      yield* Queue.makeWorker(queue, (job) => job.payload.n === 20 ? handler(job) : record(job))
      yield* holds(() => state.waiting === 1)
      assert.deepStrictEqual(yield* Queue.counts(queue), {
        ready: 9,
        delayed: 0,
        blocked: 0,
        running: 1,
        dead: 0,
        completed: 0
      })
      const before = (yield* commands).length
      yield* TestClock.adjust("5 seconds")
      assert.isAtMost((yield* commands).length - before, 5)
      yield* open
      yield* holds(() => jobs.length === 29)
    })
  )

  test(
    "knows when a job was enqueued, whoever made its id",
    Effect.gen(function*() {
      const queue = define("when")
      const { jobs, record } = recorder()
      yield* Queue.makeWorker(queue, record)
      yield* Queue.enqueue(queue, { n: 0 })
      yield* TestClock.adjust("400 days")
      yield* Queue.enqueue(queue, { n: 1 })
      yield* Queue.enqueue(queue, { n: 2 }, { id: "own" })
      yield* holds(() => jobs.length === 3)
      const day = 86_400_000
      assert.deepStrictEqual(jobs.map(({ enqueuedAt }) => DateTime.toEpochMillis(enqueuedAt)), [
        0,
        400 * day,
        400 * day
      ])
    })
  )

  test(
    "does not start what it took before it was stopped for longer than the lease",
    Effect.gen(function*() {
      const server = yield* RedisTestServer
      const queue = define("stood still", { lease: "3 seconds", attempts: 5 })
      const { handler, jobs, open, state } = yield* gate
      const { jobs: others, record } = recorder()
      const worker = yield* Queue.makeWorker(queue, handler, { prefetch: 3 })
      yield* Queue.enqueueAll(queue, [0, 1, 2, 3].map((n) => ({ payload: { n } })))
      yield* eventually(Effect.map(Queue.counts(queue), ({ running }) => running === 4))
      // It can't renew, as if it stood still.
      yield* server.inject(Fault.reply("ERR no", { command: scripts.renew.sha, times: 100 }))
      yield* TestClock.adjust("4 seconds")
      const elsewhere = yield* Layer.build(Layer.provide(Queue.layer, Layer.scoped(RedisClient, server.client())))
      yield* Effect.provide(Queue.makeWorker(queue, record, { concurrency: 4 }), elsewhere)
      yield* holds(() => others.length === 4)
      yield* open
      yield* worker.stop
      assert.strictEqual(state.waiting, 0)
      assert.deepStrictEqual(jobs.map(({ payload }) => payload.n), [0])
      assert.isTrue(others.every(({ attempt }) => attempt === 2))
    })
  )

  test(
    "weeks go by in a test",
    Effect.gen(function*() {
      const queue = define("weeks")
      const { jobs, record } = recorder()
      yield* Queue.makeWorker(queue, record)
      const before = (yield* commands).length
      yield* Queue.enqueue(queue, { n: 1 }, { delay: "21 days" })
      yield* TestClock.adjust(Duration.millis(21 * 86_400_000 - 1))
      assert.strictEqual(jobs.length, 0)
      yield* TestClock.adjust("1 millis")
      assert.strictEqual(jobs.length, 1)
      assert.isAtMost((yield* commands).length - before, 60)
    })
  )

  test(
    "exponential backoff doubles, at its exact times",
    Effect.gen(function*() {
      const queue = define("doubles", { attempts: 6, backoff: Schedule.exponential("1 second") })
      const times: Array<number> = []
      yield* Queue.makeWorker(queue, () =>
        Effect.clockWith((clock) =>
          Effect.sync(() => {
            times.push(clock.unsafeCurrentTimeMillis())
          })
        ).pipe(Effect.zipRight(Effect.fail("no"))))
      yield* Queue.enqueue(queue, { n: 0 })
      for (let i = 0; i < 40; i++) yield* TestClock.adjust("1 second")
      assert.deepStrictEqual(times, [0, 1000, 3000, 7000, 15_000, 31_000])
    })
  )

  test(
    "the default backoff stays within its jitter, and below an hour",
    Effect.gen(function*() {
      const queue = Queue.define({ name: "default-backoff", payload: Schema.Number, attempts: 20 })
      const times: Array<number> = []
      yield* Queue.makeWorker(queue, () =>
        Effect.clockWith((clock) =>
          Effect.sync(() => {
            times.push(clock.unsafeCurrentTimeMillis())
          })
        ).pipe(Effect.zipRight(Effect.fail("no"))))
      yield* Queue.enqueue(queue, 1)
      for (let i = 0; i < 400 && times.length < 16; i++) yield* TestClock.adjust("100 seconds")
      const gaps = times.slice(1).map((time, i) => time - times[i]!)
      gaps.forEach((gap, i) => {
        const nominal = Math.min(1000 * 2 ** i, 3_600_000)
        assert.isAtLeast(gap, nominal * 0.8)
        assert.isAtMost(gap, nominal * 1.2 + 1)
      })
      assert.isAtLeast(gaps.length, 12)
    }).pipe(Effect.withRandom(Random.make("a seed")))
  )

  test(
    "a schedule that ends after a time counts the time that passed between attempts",
    Effect.gen(function*() {
      const queue = define("upTo", {
        attempts: 100,
        backoff: Schedule.spaced("1 second").pipe(Schedule.upTo("5 seconds"))
      })
      let attempts = 0
      yield* Queue.makeWorker(queue, () =>
        Effect.suspend(() => {
          attempts++
          return Effect.fail("no")
        }))
      yield* Queue.enqueue(queue, { n: 0 }, { delay: "1 day" })
      yield* TestClock.adjust("1 day")
      for (let i = 0; i < 20; i++) yield* TestClock.adjust("1 second")
      assert.isAtLeast(attempts, 5)
      assert.isAtMost(attempts, 7)
      assert.strictEqual((yield* Queue.counts(queue)).dead, 1)
    })
  )

  test(
    "a backoff that throws makes a dead letter, and the worker goes on",
    Effect.gen(function*() {
      const queue = define("throws", {
        backoff: () => {
          throw new Error("no backoff")
        }
      })
      const { jobs, record } = recorder()
      yield* Queue.makeWorker(queue, (job) => job.payload.n === 0 ? Effect.fail("no") : record(job))
      yield* Queue.enqueueAll(queue, [0, 1].map((n) => ({ payload: { n } })))
      yield* holds(() => jobs.length === 1)
      yield* eventually(Effect.map(Queue.counts(queue), ({ dead, running }) => dead === 1 && running === 0))
    })
  )

  test(
    "only so many dead letters are kept, and only for so long",
    Effect.gen(function*() {
      const queue = define("letters", { attempts: 1, deadLetters: { count: 5, age: "1 hour" } })
      yield* Queue.makeWorker(queue, () => Effect.fail("no"), { concurrency: 3 })
      yield* Queue.enqueueAll(queue, Array.from({ length: 20 }, (_, n) => ({ payload: { n } })))
      yield* eventually(
        Effect.map(Queue.counts(queue), ({ dead, ready, running }) => dead === 5 && ready + running === 0)
      )
      yield* TestClock.adjust("61 minutes")
      yield* Queue.enqueue(queue, { n: 20 })
      yield* eventually(Effect.map(Queue.counts(queue), ({ dead }) => dead === 1))
      const none = define("no letters", { attempts: 1, deadLetters: { count: 0 } })
      yield* Queue.makeWorker(none, () => Effect.fail("no"))
      yield* Queue.enqueue(none, { n: 0 })
      yield* eventually(Effect.map(Queue.status(none), ({ totals }) => totals.dead === 1))
      assert.deepStrictEqual(yield* keysLeft(none.name), [])
    })
  )

  test(
    "an interrupted caller takes back what was not sent, and hurts nobody",
    Effect.gen(function*() {
      const server = yield* RedisTestServer
      const queue = define("callers")
      // The server knows the script from here on: who is interrupted does not send its text.
      yield* Queue.enqueue(define("others"), { n: 0 })
      yield* server.inject(Fault.delay("100 millis", { command: scripts.add.sha }))
      const first = yield* Effect.fork(Queue.enqueue(queue, { n: 0 }))
      yield* TestClock.adjust("10 millis")
      const second = yield* Effect.fork(Queue.enqueue(queue, { n: 1 }))
      yield* TestClock.adjust("10 millis")
      const others = yield* Effect.forEach(Arr.range(2, 9), (n) => Effect.fork(Queue.enqueue(queue, { n })))
      const fibers = [first, second, ...others]
      yield* TestClock.adjust("10 millis")
      yield* Effect.forEach([3, 5, 0], (i) => Fiber.interrupt(fibers[i]!))
      yield* TestClock.adjust("1 second")
      const exits = yield* Effect.forEach(fibers, (fiber) => Fiber.await(fiber))
      assert.deepStrictEqual(
        exits.map(Exit.isSuccess),
        [0, 1, 2, 3, 4, 5, 6, 7, 8, 9].map((n) => ![0, 3, 5].includes(n))
      )
      const { jobs, record } = recorder()
      yield* Queue.makeWorker(queue, record)
      yield* eventually(Effect.map(keysLeft(queue.name), (keys) => keys.length === 0))
      // The first two were on their way.
      assert.deepStrictEqual(jobs.map(({ payload }) => payload.n), [0, 1, 2, 4, 6, 7, 8, 9])
    })
  )

  test(
    "many callers share calls, and one alone is sent at once",
    Effect.gen(function*() {
      const queue = define("sharing")
      yield* Queue.enqueue(define("sharing"), { n: 0 })
      const before = (yield* commands).length
      yield* Queue.enqueue(queue, { n: 0 })
      assert.strictEqual((yield* commands).length, before + 1)
      yield* Effect.forEach(Arr.range(1, 1000), (n) => Queue.enqueue(queue, { n }), { concurrency: "unbounded" })
      assert.isAtMost((yield* commands).length, before + 5)
      assert.strictEqual((yield* Queue.counts(queue)).ready, 1001)
    })
  )

  test(
    "who comes alone leaves the way free, however its call ends",
    Effect.gen(function*() {
      const server = yield* RedisTestServer
      const queue = define("alone")
      const enqueue = Queue.enqueue(queue, { n: 0 })
      const others = Effect.replicateEffect(enqueue, 5, { concurrency: "unbounded" })
      const sent = Effect.map(commands, ({ length }) => length)
      yield* enqueue

      yield* server.inject(Fault.delay("100 millis", { command: scripts.add.sha, times: 1 }))
      const alone = yield* Effect.fork(enqueue)
      yield* TestClock.adjust("10 millis")
      // It was on its way.
      yield* Fiber.interrupt(alone)
      yield* TestClock.adjust("1 second")
      const before = yield* sent
      // One by itself, and all that came in the same turn.
      assert.lengthOf(yield* others, 5)
      assert.strictEqual(yield* sent, before + 2)

      yield* enqueue
      yield* server.become("out-of-memory")
      assert.isTrue(Exit.isFailure(yield* Effect.exit(enqueue)))
      yield* server.become("normal")
      const again = yield* sent
      assert.lengthOf(yield* others, 5)
      assert.strictEqual(yield* sent, again + 2)
      assert.strictEqual((yield* Queue.counts(queue)).ready, 13)
    })
  )

  test(
    "the failure of a call is that of all its callers",
    Effect.gen(function*() {
      const server = yield* RedisTestServer
      const queue = define("failing")
      yield* server.become("out-of-memory")
      const exits = yield* Effect.forEach(Arr.range(0, 9), (n) => Effect.exit(Queue.enqueue(queue, { n })), {
        concurrency: "unbounded"
      })
      assert.isTrue(exits.every(Exit.isFailure))
      yield* server.become("normal")
      assert.strictEqual((yield* Queue.enqueue(queue, { n: 0 })).outcome, "added")
    })
  )
})

describe("telemetry of queues", () => {
  it.scoped("a handler goes on with the trace of whoever enqueued", () =>
    Effect.gen(function*() {
      const spans = yield* Spans.Spans
      const queue = define("traced")
      const inside: Array<Option.Option<Tracer.Span>> = []
      yield* Queue.makeWorker(queue, () =>
        Effect.map(Effect.option(Effect.currentSpan), (span) => void inside.push(span)))
      const { id } = yield* Queue.enqueue(queue, { n: 1 }).pipe(Effect.withSpan("request"))
      yield* holds(() =>
        inside.length === 1
      )
      const [request] = yield* spans.named("request")
      const [send] = yield* spans.named(`send ${queue.name}`)
      const [process] = yield* spans.named(`process ${queue.name}`)
      assert.strictEqual(send?.kind, "producer")
      assert.strictEqual(Option.getOrUndefined(send!.parent)?.spanId, request?.spanId)
      assert.strictEqual(process?.kind, "consumer")
      assert.strictEqual(process?.traceId, request?.traceId)
      assert.strictEqual(Option.getOrUndefined(process!.parent)?.spanId, send?.spanId)
      assert.strictEqual(Option.getOrUndefined(inside[0]!)?.spanId, process?.spanId)
      assert.deepInclude(Object.fromEntries(process!.attributes), {
        "messaging.system": "redis",
        "messaging.destination.name": queue.name,
        "messaging.message.id": id,
        "messaging.operation.type": "process",
        "effect_redis.queue.attempt": 1
      })
    }).pipe(Effect.provide(Layer.provideMerge(Layer.provideMerge(Queue.layer, layerWith()), Spans.layer))))

  test(
    "no span is made, and no trace is kept, when nobody listens",
    Effect.gen(function*() {
      const server = yield* RedisTestServer
      const queue = define("silent")
      yield* Queue.enqueue(queue, { n: 1 }).pipe(Effect.withSpan("request"))
      const stored = yield* Effect.flatten(server.dump(keysOf(queue.name).jobs))
      assert.notInclude(JSON.stringify(stored), "00-")
    })
  )

  test(
    "counts what becomes of attempts",
    Effect.gen(function*() {
      const queue = define("counted", { attempts: 2, backoff: () => 0 })
      const outcomes = ofWorker(queue.name).others
      const { handler, open, state } = yield* gate
      const worker = yield* Queue.makeWorker(
        queue,
        (job) => job.payload.n === 0 ? Effect.void : job.payload.n === 1 ? Effect.fail("no") : handler(job),
        { drain: 0 }
      )
      yield* Queue.enqueueAll(queue, [0, 1, 2].map((n) => ({ payload: { n } })))
      yield* holds(() => state.waiting === 1)
      yield* eventually(Effect.map(Metric.value(outcomes.dead), ({ count }) => count === 1)).pipe(
        Effect.race(Effect.zipRight(open, Effect.never))
      )
      yield* worker.stop
      assert.strictEqual((yield* Metric.value(outcomes.completed)).count, 2)
      assert.strictEqual((yield* Metric.value(outcomes.retried)).count, 1)
      assert.strictEqual((yield* Metric.value(outcomes.seconds)).count, 4)
    })
  )

  test(
    "counts by type, and how long jobs have waited",
    Effect.gen(function*() {
      const queue = Queue.define({
        name: fresh("types"),
        payload: Schema.Union(Schema.TaggedStruct("A", {}), Schema.TaggedStruct("B", {})),
        attempts: 1
      })
      yield* Queue.enqueue(queue, { _tag: "A" })
      yield* Queue.enqueue(queue, { _tag: "A" }, { delay: "1 hour" })
      yield* Queue.enqueue(queue, { _tag: "B" })
      yield* TestClock.adjust("3 seconds")
      yield* Queue.makeWorker(queue, Queue.handlers(queue, { A: () => Effect.void, B: () => Effect.fail("no") }))
      yield* TestClock.adjust("2 hours")
      const { of, others } = ofWorker(queue.name, ["A", "B"])
      const valueOf = ({ completed, dead, wait }: ReturnType<typeof of>) =>
        Effect.all({ completed: Metric.value(completed), dead: Metric.value(dead), wait: Metric.value(wait) })
      yield* eventually(Effect.map(valueOf(of("A")), ({ completed }) => completed.count === 2))
      const { wait } = yield* valueOf(of("A"))
      // The delay is no waiting.
      assert.deepStrictEqual([wait.count, wait.max], [2, 3])
      const b = yield* valueOf(of("B"))
      assert.deepStrictEqual([b.completed.count, b.dead.count, b.wait.count], [0, 1, 1])
      assert.strictEqual(of("C"), others)
      assert.strictEqual((yield* Metric.value(others.completed)).count, 0)
      // There are no more series than that.
      const many = ofWorker(queue.name, Array.from({ length: 150 }, (_, i) => `T${i}`))
      assert.notStrictEqual(many.of("T99"), many.others)
      assert.strictEqual(many.of("T100"), many.others)
    })
  )
})
