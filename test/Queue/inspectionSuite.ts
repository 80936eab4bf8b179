import { assert, layer } from "@effect/vitest"
import {
  DateTime,
  Deferred,
  Duration,
  Effect,
  Either,
  Exit,
  Layer,
  Logger,
  LogLevel,
  Option,
  Schema,
  Scope
} from "effect"
import * as Queue from "../../src/Queue/index.js"
import { keysOf, registryKey } from "../../src/Queue/keys.js"
import { RedisClient } from "../../src/RedisClient.js"
import type { RedisError } from "../../src/RedisError.js"
import { error, fresh, type Time, until } from "../kit/suites.js"
import { makeHand } from "./hand.js"
import { define, gate, type Task } from "./suite.js"

const one = (queue: Queue.Definition<Task>) =>
  Effect.map(Queue.overview([queue.name]), ([overview]) => {
    assert.isDefined(overview)
    return overview
  })

const sumOf = (throughput: ReadonlyArray<Queue.Throughput>) =>
  throughput.reduce(
    (sum, { completed, dead, failed }) => ({
      completed: sum.completed + completed,
      failed: sum.failed + failed,
      dead: sum.dead + dead
    }),
    { completed: 0, failed: 0, dead: 0 }
  )

export const inspectionSuite = (
  name: string,
  driver: Layer.Layer<RedisClient, RedisError>,
  options: { readonly excludeTestServices?: boolean },
  time: Time
) => {
  const { elapse } = time
  const eventually = until(time)

  const services = Layer.provideMerge(
    Layer.orDie(Layer.provideMerge(Queue.layer, driver)),
    Logger.minimumLogLevel(LogLevel.Error)
  )

  layer(services, options)(`inspection of queues, ${name}`, (it) => {
    it.scoped("queues are known as soon as somebody uses them, when they want that, and forgotten with them", () =>
      Effect.gen(function*() {
        const used = define("used", { inspected: true })
        const worked = define("worked", { inspected: true })
        const hidden = define("hidden")
        yield* Queue.enqueue(used, { n: 0 })
        yield* Queue.enqueue(hidden, { n: 0 })
        yield* Queue.makeWorker(worked, () => Effect.void)
        yield* Queue.makeWorker(hidden, () => Effect.void)
        yield* eventually(
          Effect.map(Queue.queues, (names) => names.includes(used.name) && names.includes(worked.name))
        )
        assert.notInclude(yield* Queue.queues, hidden.name)
        yield* Queue.obliterate(used)
        assert.notInclude(yield* Queue.queues, used.name)
        assert.include(yield* Queue.queues, worked.name)
      }))

    it.scoped("what nobody has used for long is forgotten", () =>
      Effect.gen(function*() {
        const client = yield* RedisClient
        const old = fresh("old")
        const inTime = fresh("in-time")
        const { now } = yield* serverNow
        yield* client.zadd(registryKey, [[old, now - 31 * 86_400_000], [inTime, now - 29 * 86_400_000]])
        const queue = define("announces", { inspected: true })
        yield* Queue.enqueue(queue, { n: 0 })
        yield* eventually(Effect.map(Queue.queues, (names) => names.includes(queue.name)))
        const names = yield* Queue.queues
        assert.notInclude(names, old)
        assert.include(names, inTime)
      }))

    it.scoped("a queue at a glance", () =>
      Effect.gen(function*() {
        const queue = define("glance", { priorities: 8 })
        const empty = yield* one(queue)
        assert.deepStrictEqual(empty.counts, { ready: 0, delayed: 0, blocked: 0, running: 0, dead: 0, completed: 0 })
        assert.deepStrictEqual([empty.oldestReady, empty.nextDue, empty.throughput, empty.workers], [
          Option.none(),
          Option.none(),
          [],
          0
        ])

        yield* Queue.enqueue(queue, { n: 0 }, { id: "runs" })
        const hand = yield* makeHand(queue)
        yield* hand.next
        yield* Queue.enqueue(queue, { n: 0 }, { id: "dies" })
        yield* hand.bury("exhausted", 1)(yield* hand.next)
        yield* Queue.enqueueAll(queue, ["removed", "a", "b"].map((id) => ({ id, payload: { n: 1 } })))
        yield* elapse("2 millis")
        yield* Queue.enqueue(queue, { n: 2 }, { id: "urgent", priority: 7 })
        yield* Queue.enqueue(queue, { n: 2 }, { id: "moved", priority: 3 })
        yield* Queue.changePriority(queue, "moved", 4)
        yield* Queue.enqueue(queue, { n: 3 }, { delay: "2 hours" })
        yield* Queue.enqueue(queue, { n: 3 }, { delay: "1 hour" })
        yield* Queue.remove(queue, "removed")
        yield* Queue.pause(queue)
        yield* Queue.setGlobalConcurrency(queue, 5)
        yield* elapse("2 millis")

        const other = define("other")
        const [first, second] = yield* Queue.overview([queue.name, other.name])
        assert.isDefined(first)
        assert.isDefined(second)
        assert.strictEqual(second.name, other.name)
        assert.deepStrictEqual(second.counts, { ready: 0, delayed: 0, blocked: 0, running: 0, dead: 0, completed: 0 })
        assert.strictEqual(first.name, queue.name)
        assert.deepStrictEqual(first.counts, yield* Queue.counts(queue))
        assert.deepStrictEqual(first.counts, { ready: 4, delayed: 2, blocked: 0, running: 1, dead: 1, completed: 0 })
        assert.deepStrictEqual(first.readyByPriority, [2, 0, 0, 0, 1, 0, 0, 1])
        assert.isTrue(first.paused)
        assert.deepStrictEqual(first.concurrency, Option.some(5))
        const oldest = Option.getOrThrow(first.oldestReady)
        assert.deepStrictEqual([oldest.id, oldest.priority], ["a", 0])
        assert.deepStrictEqual(
          Option.some(oldest.since),
          Option.map(yield* Queue.get(queue, "a"), (job) => job.enqueuedAt)
        )
        assert.isAtLeast(Duration.toMillis(oldest.age), 0)
        const due = Duration.toMinutes(DateTime.distanceDuration(first.at, Option.getOrThrow(first.nextDue)))
        assert.isTrue(due > 50 && due <= 60, String(due))
        assert.deepStrictEqual(yield* Queue.overview([]), [])
        assert.strictEqual((yield* error(Queue.overview([""])))._tag, "RedisInputError")
      }))

    it.effect("a job that was delayed waits from the end of its delay on", () =>
      Effect.gen(function*() {
        const queue = define("delayed")
        yield* Queue.enqueue(queue, { n: 0 }, { id: "late", delay: "1 hour" })
        const { id } = yield* Queue.enqueue(queue, { n: 1 }, { delay: "2 hours" })
        yield* Queue.promote(queue, "late")
        const first = Option.getOrThrow((yield* one(queue)).oldestReady)
        const enqueuedAt = Option.getOrThrow(yield* Queue.get(queue, "late")).enqueuedAt
        assert.deepStrictEqual(
          [first.id, DateTime.distance(enqueuedAt, first.since), Duration.toMillis(first.age)],
          ["late", 3_600_000, 0]
        )
        yield* Queue.remove(queue, "late")
        yield* Queue.promote(queue, id)
        const second = Option.getOrThrow((yield* one(queue)).oldestReady)
        const then = Option.getOrThrow(yield* Queue.get(queue, id)).enqueuedAt
        assert.strictEqual(DateTime.distance(then, second.since), 7_200_000)
      }))

    it.scoped("who works, and what they run since when", () =>
      Effect.gen(function*() {
        const queue = define("crew", { inspected: true })
        const { handler, open, state } = yield* gate
        const scope = yield* Scope.make()
        yield* Scope.extend(Queue.makeWorker(queue, handler, { concurrency: 2, prefetch: 0 }), scope)
        yield* eventually(Effect.map(Queue.workers(queue), ({ length }) => length === 1))
        const [idle] = yield* Queue.workers(queue)
        assert.deepStrictEqual(idle?.jobs, [])
        assert.deepStrictEqual(
          Option.map(idle!.report, ({ concurrency, pid }) => [concurrency, pid]),
          Option.some([2, process.pid])
        )
        assert.strictEqual((yield* one(queue)).workers, 1)
        yield* Queue.enqueueAll(queue, ["a", "b"].map((id) => ({ id, payload: { n: 0 } })))
        yield* eventually(Effect.sync(() => state.waiting === 2))
        // One that tells nothing is known by its leases.
        yield* Queue.enqueue(queue, { n: 0 }, { id: "c" })
        const hand = yield* makeHand(queue)
        yield* hand.next
        yield* eventually(Effect.map(Queue.workers(queue), (workers) =>
          workers.some(({ jobs }) =>
            jobs.length === 2 && jobs.every(({ since }) => Option.isSome(since))
          )))
        const workers = yield* Queue.workers(queue)
        assert.deepStrictEqual(
          workers.map(({ jobs, report }) => [
            Option.isSome(report),
            jobs.map(({ id }) =>
              id
            ).toSorted()
          ]).toSorted(),
          [[false, ["c"]], [true, ["a", "b"]]]
        )
        const { at } = yield* one(queue)
        for (const { leaseEnds } of workers.flatMap(({ jobs }) => jobs)) {
          assert.isTrue(DateTime.greaterThan(leaseEnds, at))
        }
        yield* open
        yield* Scope.close(scope, Exit.void)
        assert.deepStrictEqual((yield* Queue.workers(queue)).map(({ jobs }) => jobs.map(({ id }) => id)), [["c"]])
        assert.strictEqual((yield* one(queue)).workers, 0)
      }))

    it.scoped("a worker that has died is forgotten, and so are too many", () =>
      Effect.gen(function*() {
        const queue = define("dead-workers", { inspected: true })
        const client = yield* RedisClient
        const { workers, workersInfo } = keysOf(queue.name)
        const { now } = yield* serverNow
        const crowd = Array.from({ length: 1010 }, (_, i) => `w${i}`)
        yield* client.zadd(workers, [["gone", now - 1], ...crowd.map((id, i) => [id, now + 1e8 + i] as const)])
        yield* client.hset(workersInfo, Object.fromEntries(["gone", ...crowd].map((id) => [id, "?"])))
        yield* Queue.makeWorker(queue, () => Effect.void)
        yield* eventually(Effect.map(client.zcard(workers), (n) => n === 1000))
        assert.strictEqual(yield* client.hlen(workersInfo), 1000)
        assert.isNull(yield* client.send("ZSCORE", client.key(workers), "gone"))
        const found = yield* Queue.workers(queue)
        assert.isAtLeast(found.length, 999)
      }))

    it.scoped("throughput by the minute", () =>
      Effect.gen(function*() {
        const queue = define("throughput", { inspected: true, attempts: 2 })
        const worker = yield* Queue.makeWorker(queue, ({ payload: { n } }) => n < 0 ? Effect.fail("no") : Effect.void)
        yield* Queue.enqueueAll(queue, [1, 2, -1, 3].map((n) => ({ payload: { n } })))
        yield* eventually(Effect.map(one(queue), ({ throughput }) => {
          const sum = sumOf(throughput)
          return sum.completed === 3 && sum.failed === 2 && sum.dead === 1
        }))
        // Minutes that were long ago are not shown, and the first report of a minute removes them.
        const client = yield* RedisClient
        const { history } = keysOf(queue.name)
        const { now } = yield* serverNow
        const old = String(Math.floor(now / 60_000) - 61)
        yield* client.hset(history, { [old]: "0 0 0 0 0 0" })
        assert.strictEqual(sumOf((yield* one(queue)).throughput).completed, 3)
        yield* eventually(Effect.gen(function*() {
          const { now } = yield* serverNow
          yield* client.hdel(history, String(Math.floor(now / 60_000)))
          yield* Queue.enqueue(queue, { n: 4 })
          return !(yield* client.hkeys(history)).includes(old)
        }))
        yield* worker.stop
      }))

    it.scoped("nothing is written for a queue that is not inspected", () =>
      Effect.gen(function*() {
        const queue = define("silent")
        const client = yield* RedisClient
        let done = false
        yield* Queue.makeWorker(queue, () => Effect.sync(() => void (done = true)))
        yield* Queue.enqueue(queue, { n: 0 })
        yield* eventually(Effect.sync(() => done))
        yield* elapse("1100 millis")
        const { history, workers, workersInfo } = keysOf(queue.name)
        for (const key of [history, workers, workersInfo]) assert.strictEqual(yield* client.exists(key), 0)
        const overview = yield* one(queue)
        assert.deepStrictEqual([overview.workers, overview.throughput, overview.totals.completed], [0, [], 1])
      }))

    it.scoped("the whole story of a job, from its beginning to its end", () =>
      Effect.gen(function*() {
        const queue = define("story", { inspected: true, attempts: 1 })
        assert.deepStrictEqual(yield* Queue.story(queue, "j"), Option.none())
        yield* Queue.enqueue(queue, { n: 7 }, {
          id: "j",
          delay: "1 hour",
          deadline: "2 hours",
          priority: 2,
          deduplicate: { key: "k", mode: "until-finished" }
        })
        const story = Effect.map(Queue.story(queue, "j"), Option.getOrThrow)
        const delayed = yield* story
        const stored = Option.getOrThrow(yield* Queue.get(queue, "j"))
        assert.strictEqual(delayed.state, "delayed")
        assert.deepStrictEqual(delayed.payload, Either.right({ n: 7 }))
        assert.deepStrictEqual([delayed.priority, delayed.at, delayed.enqueuedAt], [2, stored.at, stored.enqueuedAt])
        assert.deepStrictEqual(delayed.deduplicationKey, Option.some("k"))
        assert.isTrue(Option.isSome(delayed.deadline))
        assert.deepStrictEqual([delayed.progress, delayed.worker, delayed.deadLetter, delayed.cancelled], [
          Option.none(),
          Option.none(),
          Option.none(),
          false
        ])
        yield* Queue.promote(queue, "j")
        assert.strictEqual((yield* story).state, "ready")
        const end = yield* Deferred.make<void>()
        yield* Queue.makeWorker(queue, (job) =>
          Effect.zipRight(
            Effect.zipRight(job.progress({ percent: 40 }), Deferred.await(end)),
            Effect.fail("it broke")
          ))
        yield* eventually(Effect.map(story, ({ progress, worker }) =>
          Option.isSome(progress) && Option.isSome(Option.flatMap(worker, ({ job }) =>
            job.since))))
        const running = yield* story
        assert.strictEqual(running.state, "running")
        assert.deepStrictEqual(running.progress, Option.some({ percent: 40 }))
        const [worker] = yield* Queue.workers(queue)
        assert.deepStrictEqual(
          Option.map(running.worker, ({ id }) =>
            id),
          Option.some(worker?.id)
        )
        yield* Deferred.succeed(end, undefined)
        yield* eventually(Effect.map(story, ({ state }) => state === "dead"))
        const dead = yield* story
        assert.deepStrictEqual(
          Option.map(dead.deadLetter, ({ error, reason }) => [reason, error]),
          Option.some(["exhausted", Option.some("it broke")])
        )
        assert.deepStrictEqual([dead.worker, dead.deduplicationKey], [Option.none(), Option.none()])
      }))

    it.effect("what is no report of a worker is none", () =>
      Effect.gen(function*() {
        const queue = define("broken")
        const client = yield* RedisClient
        const { history, workers, workersInfo } = keysOf(queue.name)
        yield* client.zadd(workers, [["w", 8e15]])
        yield* client.hset(workersInfo, { w: "no JSON" })
        yield* client.hset(history, { "x": "1", "1": "" })
        assert.deepStrictEqual(yield* Queue.workers(queue), [{ id: "w", report: Option.none(), jobs: [] }])
        assert.strictEqual((yield* one(queue)).workers, 1)
        yield* Queue.obliterate(queue)
        for (const key of [history, workers, workersInfo]) assert.strictEqual(yield* client.exists(key), 0)
      }))

    it.effect("a queue of which only the name is known", () =>
      Effect.gen(function*() {
        const queue = define("unknown")
        yield* Queue.enqueue(queue, { n: 1 }, { id: "j" })
        const unknown = Queue.define({ name: queue.name, payload: Schema.Unknown })
        const { jobs } = yield* Queue.list(unknown, "ready")
        assert.deepStrictEqual(jobs.map(({ payload }) => payload), [Either.right({ n: 1 })])
      }))
  })
}

const serverNow = Effect.map(
  Effect.flatMap(RedisClient, (client) => client.send("TIME")),
  (reply) => ({ now: Number((reply as [string, string])[0]) * 1000 })
)
