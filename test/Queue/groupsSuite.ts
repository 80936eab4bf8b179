import { assert, layer } from "@effect/vitest"
import { Duration, Effect, Layer, type Layer as Layers, Logger, LogLevel, Option, Schema } from "effect"
import * as Queue from "../../src/Queue/index.js"
import { keysOf } from "../../src/Queue/keys.js"
import { RedisClient } from "../../src/RedisClient.js"
import type { RedisError } from "../../src/RedisError.js"
import { error, fresh, type Time, until } from "../kit/suites.js"
import { makeHand } from "./hand.js"
import { gate, keysLeft, recorder } from "./suite.js"

const Task = Schema.Struct({ n: Schema.Number })

type Task = typeof Task.Type

const define = (text: string, groups: Queue.GroupDefaults = {}, options: Partial<Queue.Options<Task, Task>> = {}) =>
  Queue.define({ name: fresh(text), payload: Task, backoff: () => 0, groups, ...options })

type Definition = ReturnType<typeof define>

/** Adds jobs with the ids `group`1, `group`2 and so on. */
const add = (queue: Definition, group: string, count: number, options: Queue.EnqueueOptions = {}) =>
  Queue.enqueueAll(
    queue,
    Array.from({ length: count }, (_, n) => ({ payload: { n }, group, id: `${group}${n + 1}`, ...options }))
  )

const idsOf = (jobs: ReadonlyArray<{ readonly id: string }>) => jobs.map(({ id }) => id)

/** Makes members of a sorted set older, so that no test has to wait, and none has to be fast. */
const age = (key: string, by: number, only: (member: string) => boolean = () => true) =>
  Effect.gen(function*() {
    const client = yield* RedisClient
    const found = yield* client.zrangeWithScores(key)
    yield* client.zadd(
      key,
      found.filter(([member]) => only(member)).map(([member, score]) => [member, score - by] as const)
    )
  })

export const groupsSuite = (
  name: string,
  driver: Layers.Layer<RedisClient, RedisError>,
  options: { readonly excludeTestServices?: boolean },
  time: Time
) => {
  const { elapse } = time
  const eventually = until(time)
  const holds = (condition: () => boolean) => eventually(Effect.sync(condition))
  const drained = (queue: Definition) => eventually(Effect.map(keysLeft(queue.name), (keys) => keys.length === 0))

  // Dead letters are logged as warnings.
  const silent = Logger.minimumLogLevel(LogLevel.Error)

  const services = Layer.provideMerge(Layer.orDie(Layer.provideMerge(Queue.layer, driver)), silent)

  layer(services, options)(`groups of queues, ${name}`, (it) => {
    // -----------------------------------------------------------------------------------------------------------------
    // Turns
    // -----------------------------------------------------------------------------------------------------------------

    it.effect("groups take turns, whatever they have waiting, and within one the priority counts", () =>
      Effect.gen(function*() {
        const queue = define("turns")
        const hand = yield* makeHand(queue)
        yield* add(queue, "big", 6)
        yield* add(queue, "small", 1)
        yield* add(queue, "mid", 3)
        yield* Queue.enqueue(queue, { n: 0 }, { group: "big", id: "urgent", priority: 2 })
        assert.deepStrictEqual(idsOf(yield* hand.take(2)), ["urgent", "small1"])
        // The one that has had its turn comes behind the others, also behind those that have come meanwhile.
        yield* add(queue, "late", 1)
        assert.deepStrictEqual(idsOf(yield* hand.take(4)), ["mid1", "big1", "late1", "mid2"])
        assert.deepStrictEqual(idsOf(yield* hand.take(10)), ["big2", "mid3", "big3", "big4", "big5", "big6"])
        assert.deepStrictEqual(yield* hand.take(10), [])
      }))

    it.effect("a group waits for no more than one job of each other one, however much those have", () =>
      Effect.gen(function*() {
        const queue = define("fair", { concurrency: 3 })
        const workers = [yield* makeHand(queue), yield* makeHand(queue)]
        const groups = Array.from({ length: 30 }, (_, i) => `g${i}-`)
        yield* Queue.enqueueAll(
          queue,
          Array.from({ length: 500 }, (_, n) => ({ payload: { n }, group: "whale", id: `whale${n}` }))
        )
        for (const group of groups) yield* add(queue, group, 2)
        const order: Array<string> = []
        for (let i = 0; order.length < 120; i++) {
          assert.isBelow(i, 200)
          const worker = workers[i % 2]!
          const taken = yield* worker.take(1 + i % 4)
          order.push(...idsOf(taken))
          for (const one of taken) assert.isTrue(yield* worker.complete(one))
        }
        const turn = (id: string) => order.indexOf(id)
        for (const group of groups) {
          assert.isAtLeast(turn(`${group}1`), 0)
          assert.isAtMost(turn(`${group}1`), groups.length)
          assert.isAtMost(turn(`${group}2`) - turn(`${group}1`), groups.length + 1)
        }
        assert.strictEqual(new Set(order).size, order.length)
      }))

    it.effect("a group that comes back again and again takes no more turns than others", () =>
      Effect.gen(function*() {
        const queue = define("back")
        const hand = yield* makeHand(queue)
        yield* add(queue, "b", 20)
        yield* add(queue, "c", 20)
        const order: Array<string> = []
        for (let i = 0; i < 15; i++) {
          yield* Queue.enqueue(queue, { n: i }, { group: "a", id: `a${i}` })
          order.push((yield* hand.next).id.slice(0, 1))
        }
        assert.deepStrictEqual(order.filter((group) => group === "a").length, 5)
        assert.deepStrictEqual(order.filter((group) => group === "c").length, 5)
      }))

    it.effect("jobs without a group are one more group, without limits", () =>
      Effect.gen(function*() {
        const queue = define("without", { concurrency: 1 })
        const hand = yield* makeHand(queue)
        yield* Queue.enqueueAll(queue, [1, 2, 3, 4, 5].map((n) => ({ payload: { n }, id: `-${n}` })))
        // One that has nothing besides its payload is added by another script.
        const { id } = yield* Queue.enqueue(queue, { n: 6 })
        yield* add(queue, "a", 2)
        yield* add(queue, "b", 2)
        assert.deepStrictEqual(idsOf(yield* hand.take(5)), ["a1", "b1", "-1", "-2", "-3"])
        assert.deepStrictEqual(idsOf(yield* hand.take(5)), ["-4", "-5", id])
        assert.deepStrictEqual(yield* hand.take(5), [])
      }))

    it.effect("a call that is repeated takes nothing twice, and counts once", () =>
      Effect.gen(function*() {
        const queue = define("repeated", { concurrency: 2, rate: { limit: 3, window: "1 hour" } })
        const hand = yield* makeHand(queue)
        yield* add(queue, "a", 5)
        const first = yield* hand.take(1)
        assert.deepStrictEqual(idsOf(yield* hand.again), idsOf(first))
        assert.deepStrictEqual(idsOf(yield* hand.again), idsOf(first))
        assert.strictEqual((yield* Queue.group(queue, "a")).running, 1)
        yield* hand.complete(first[0]!)
        assert.deepStrictEqual(idsOf(yield* hand.take(5)), ["a2", "a3"])
        assert.deepStrictEqual(yield* hand.take(5), [])
      }))

    // -----------------------------------------------------------------------------------------------------------------
    // Limits
    // -----------------------------------------------------------------------------------------------------------------

    it.scoped("no group ever runs more than it may, with several workers, failures and new limits", () =>
      Effect.gen(function*() {
        const queue = define("concurrency", { concurrency: 2 })
        const running = new Map<string, number>()
        const most = new Map<string, number>()
        let done = 0
        const handler = (job: Queue.Job<Task>) =>
          Effect.suspend(() => {
            const group = Option.getOrThrow(job.group)
            running.set(group, (running.get(group) ?? 0) + 1)
            most.set(group, Math.max(most.get(group) ?? 0, running.get(group)!))
            return Effect.sleep("5 millis").pipe(
              Effect.zipRight(job.payload.n % 3 === 0 && job.attempt === 1 ? Effect.fail("once") : Effect.void),
              Effect.tap(() => Effect.sync(() => void done++)),
              Effect.ensuring(Effect.sync(() => void running.set(group, running.get(group)! - 1)))
            )
          })
        yield* Queue.setGroupLimits(queue, "g3", { concurrency: 1 })
        for (let i = 0; i < 3; i++) yield* Queue.makeWorker(queue, handler, { concurrency: 6, prefetch: 4 })
        for (let i = 0; i < 5; i++) yield* add(queue, `g${i}`, i === 0 ? 30 : 5)
        yield* holds(() => done === 50)
        assert.deepStrictEqual(Array.from(most).toSorted(), [["g0", 2], ["g1", 2], ["g2", 2], ["g3", 1], ["g4", 2]])
        yield* Queue.setGroupLimits(queue, "g3", {})
        yield* drained(queue)
      }))

    it.effect("a worker that is gone holds the place of its job until its lease ends, and no longer", () =>
      Effect.gen(function*() {
        const queue = define("crash", { concurrency: 1 })
        const gone = yield* makeHand(queue)
        const hand = yield* makeHand(queue)
        yield* add(queue, "a", 2)
        yield* add(queue, "b", 1)
        const [lost] = yield* gone.take(1)
        assert.deepStrictEqual(idsOf(yield* hand.take(5)), ["b1"])
        yield* age(keysOf(queue.name).leases, 120_000, (member) => member.endsWith("|a1"))
        const taken = yield* hand.take(5)
        assert.deepStrictEqual(idsOf(taken), ["a1"])
        assert.strictEqual((yield* Queue.group(queue, "a")).running, 1)
        // Whoever comes late changes nothing.
        assert.isFalse(yield* gone.complete(lost!))
        assert.deepStrictEqual(yield* hand.take(5), [])
        assert.isTrue(yield* hand.complete(taken[0]!))
        assert.deepStrictEqual(idsOf(yield* hand.take(5)), ["a2"])
      }))

    it.effect("a place that nobody gave back is found", () =>
      Effect.gen(function*() {
        const queue = define("repair", { concurrency: 1 })
        const client = yield* RedisClient
        const hand = yield* makeHand(queue)
        yield* add(queue, "a", 2)
        const { member } = yield* hand.next
        // As a worker of a release that knows nothing of groups does.
        yield* client.zrem(keysOf(queue.name).leases, member)
        assert.deepStrictEqual(yield* hand.ask(1).pipe(Effect.map(({ next, taken }) => [next, idsOf(taken)])), [0, []])
        assert.deepStrictEqual(idsOf(yield* hand.take(1)), ["a2"])
      }))

    it.effect("the rate of a group holds back that group alone, and the worker learns when to ask again", () =>
      Effect.gen(function*() {
        const queue = define("rate", { rate: { limit: 2, window: "600 millis" } })
        const hand = yield* makeHand(queue)
        yield* add(queue, "a", 5)
        yield* add(queue, "b", 3)
        const { next, taken } = yield* hand.ask(10)
        assert.deepStrictEqual(idsOf(taken), ["a1", "b1", "a2", "b2"])
        assert.isAbove(next, 0)
        // Rounded up, so that nobody asks too early.
        assert.isAtMost(next, 601)
        const { admittedAt, turn } = yield* Queue.group(queue, "a")
        assert.isTrue(Option.isSome(admittedAt))
        assert.isTrue(Option.isNone(turn))
        yield* add(queue, "c", 1)
        const seen: Array<string> = []
        const step = Effect.gen(function*() {
          const batch = idsOf(yield* hand.take(10))
          for (const group of ["a", "b", "c"]) {
            assert.isAtMost(batch.filter((id) => id.startsWith(group)).length, 2)
          }
          seen.push(...batch)
          return seen.length === 5
        })
        yield* eventually(step)
        assert.strictEqual(seen[0], "c1")
        assert.deepStrictEqual(seen.toSorted(), ["a3", "a4", "a5", "b3", "c1"])
        assert.isAbove(seen.indexOf("a5"), seen.indexOf("a4"))
      }))

    it.effect("limits of its own and a pause hold for one group, and can be taken back", () =>
      Effect.gen(function*() {
        const queue = define("own", { concurrency: 1, rate: { limit: 100, window: "1 minute" } })
        const hand = yield* makeHand(queue)
        yield* add(queue, "a", 9)
        yield* add(queue, "b", 9)
        yield* Queue.setGroupLimits(queue, "a", { concurrency: 3, rate: "unlimited" })
        assert.deepStrictEqual(idsOf(yield* hand.take(10)), ["a1", "b1", "a2", "a3"])
        const own = yield* Queue.group(queue, "a")
        assert.deepStrictEqual([own.waiting, own.running, own.paused], [6, 3, false])
        assert.deepStrictEqual(own.concurrency, Option.some(3))
        assert.isTrue(Option.isNone(own.rate))
        const other = yield* Queue.group(queue, "b")
        assert.deepStrictEqual(other.concurrency, Option.some(1))
        assert.deepStrictEqual(
          Option.map(other.rate, ({ limit, window }) => [limit, Duration.toMillis(window)]),
          Option.some([100, 60_000])
        )

        yield* Queue.pauseGroup(queue, "a")
        yield* Queue.setGroupLimits(queue, "a", { concurrency: "unlimited" })
        yield* Queue.setGroupLimits(queue, "b", { concurrency: 2 })
        assert.deepStrictEqual(idsOf(yield* hand.take(10)), ["b2"])
        const paused = yield* Queue.group(queue, "a")
        assert.isTrue(paused.paused)
        assert.isTrue(Option.isNone(paused.concurrency))
        assert.isTrue(Option.isNone(paused.turn))
        yield* Queue.resumeGroup(queue, "a")
        assert.deepStrictEqual(idsOf(yield* hand.take(2)), ["a4", "a5"])
        yield* Queue.setGroupLimits(queue, "a", {})
        assert.deepStrictEqual(yield* hand.take(10), [])
        yield* Queue.setGroupLimits(queue, "b", {})
        assert.strictEqual(
          yield* Effect.flatMap(RedisClient, (client) => client.exists(keysOf(queue.name).groupLimits)),
          0
        )
      }))

    it.effect("the limits and the pause of the queue hold, too", () =>
      Effect.gen(function*() {
        const queue = define("both", { concurrency: 2 })
        const hand = yield* makeHand(queue)
        for (const group of ["a", "b", "c"]) yield* add(queue, group, 3)
        yield* Queue.setGlobalConcurrency(queue, 4)
        const taken = yield* hand.take(10)
        assert.deepStrictEqual(idsOf(taken), ["a1", "b1", "c1", "a2"])
        assert.deepStrictEqual(yield* hand.take(10), [])
        yield* Queue.pause(queue)
        for (const one of taken) yield* hand.complete(one)
        assert.deepStrictEqual(yield* hand.take(10), [])
        yield* Queue.resume(queue)
        yield* Queue.setGlobalConcurrency(queue, undefined)
        yield* Queue.setRateLimit(queue, { limit: 3, window: "1 hour" })
        assert.deepStrictEqual(idsOf(yield* hand.take(10)), ["b2", "c2", "a3"])
        assert.deepStrictEqual(yield* hand.take(10), [])
        yield* Queue.setRateLimit(queue, undefined)
        assert.deepStrictEqual(idsOf(yield* hand.take(10)), ["b3", "c3"])
      }))

    it.scoped("a worker that sleeps is woken when a group may go on", () =>
      Effect.gen(function*() {
        const queue = define("woken", { concurrency: 1 })
        const { handler, jobs, open, state } = yield* gate
        const busy = yield* Queue.makeWorker(queue, handler)
        yield* add(queue, "a", 2)
        yield* holds(() => state.waiting === 1)
        const seen = recorder<Task>()
        yield* Queue.makeWorker(queue, seen.record)
        yield* elapse("30 millis")
        assert.lengthOf(seen.jobs, 0)
        yield* Effect.fork(busy.pause)
        yield* open
        yield* holds(() => seen.jobs.length === 1)
        assert.deepStrictEqual(idsOf([...jobs, ...seen.jobs]), ["a1", "a2"])

        yield* Queue.pauseGroup(queue, "b")
        yield* add(queue, "b", 1)
        yield* elapse("30 millis")
        assert.lengthOf(seen.jobs, 1)
        yield* Queue.resumeGroup(queue, "b")
        yield* holds(() => seen.jobs.length === 2)
        yield* drained(queue)
      }))

    it.scoped("a worker goes on by itself when the rate of a group admits the next job", () =>
      Effect.gen(function*() {
        const queue = define("paced", { rate: { limit: 1, window: "300 millis" } })
        const { jobs, record } = recorder<Task>()
        yield* Queue.makeWorker(queue, record, { concurrency: 5 })
        yield* add(queue, "a", 3)
        yield* add(queue, "b", 2)
        yield* holds(() => jobs.length === 5)
        assert.deepStrictEqual(idsOf(jobs).filter((id) => id.startsWith("a")), ["a1", "a2", "a3"])
        yield* drained(queue)
      }))

    // -----------------------------------------------------------------------------------------------------------------
    // What becomes of jobs
    // -----------------------------------------------------------------------------------------------------------------

    it.effect("a job keeps its group wherever it goes, and gives its place back", () =>
      Effect.gen(function*() {
        const queue = define("ways", { concurrency: 1 }, { attempts: 1 })
        const hand = yield* makeHand(queue)
        const expectRunning = (expected: number) =>
          Effect.map(Queue.group(queue, "a"), ({ running }) => assert.strictEqual(running, expected))
        yield* add(queue, "a", 2)
        // Given back: to the front of its group.
        yield* hand.release(yield* hand.next)
        const again = yield* hand.next
        assert.strictEqual(again.id, "a1")
        // Postponed, and promoted: at its end.
        yield* hand.postpone(60_000)(again)
        yield* expectRunning(0)
        assert.deepStrictEqual(Option.flatMap(yield* Queue.get(queue, "a1"), ({ group }) => group), Option.some("a"))
        yield* Queue.promote(queue, "a1")
        assert.strictEqual((yield* Queue.group(queue, "a")).waiting, 2)
        const second = yield* hand.next
        assert.strictEqual(second.id, "a2")
        // Failed, with and without a delay.
        yield* hand.retry(0)(second)
        const first = yield* hand.next
        assert.strictEqual(first.id, "a1")
        yield* hand.retry(60_000)(first)
        yield* Queue.changeDelay(queue, "a1", { delay: 0 })
        const third = yield* hand.next
        assert.strictEqual(third.id, "a2")
        // Dead, and replayed.
        yield* hand.bury("exhausted", 1)(third)
        yield* expectRunning(0)
        assert.deepStrictEqual(
          Option.flatMap(yield* Queue.deadLetter(queue, "a2"), ({ group }) => group),
          Option.some("a")
        )
        yield* Queue.replay(queue, "a2")
        const taken = yield* hand.take(5)
        assert.deepStrictEqual(idsOf(taken), ["a1"])
        yield* hand.complete(taken[0]!)
        // Removed while it waits, and while its lease is over.
        yield* add(queue, "b", 2)
        assert.deepStrictEqual(idsOf(yield* hand.take(5)), ["a2", "b1"])
        yield* Queue.remove(queue, "b2")
        assert.strictEqual((yield* Queue.group(queue, "b")).waiting, 0)
        yield* age(keysOf(queue.name).leases, 120_000, (member) => member.endsWith("|a2"))
        yield* Queue.remove(queue, "a2")
        yield* expectRunning(0)
        assert.deepStrictEqual((yield* Queue.groups(queue)).groups.map(({ group }) => group), ["b"])
      }))

    it.scoped("a job that is cancelled gives its place back", () =>
      Effect.gen(function*() {
        const queue = define("cancelled", { concurrency: 1 })
        const { handler, jobs, open } = yield* gate
        yield* Queue.makeWorker(queue, handler, { concurrency: 3 })
        yield* add(queue, "a", 2)
        yield* holds(() => jobs.length === 1)
        assert.isTrue(yield* Queue.cancel(queue, "a1"))
        yield* holds(() => jobs.length === 2)
        assert.strictEqual((yield* Queue.counts(queue)).dead, 1)
        yield* open
        yield* eventually(Effect.map(Queue.group(queue, "a"), ({ running }) => running === 0))
      }))

    it.scoped("a worker that stops gives its jobs back to their groups", () =>
      Effect.gen(function*() {
        const queue = define("stopped", { concurrency: 2 })
        const { handler, jobs } = yield* gate
        const worker = yield* Queue.makeWorker(queue, handler, { concurrency: 4, drain: 0 })
        yield* add(queue, "a", 3)
        yield* add(queue, "b", 3)
        yield* holds(() => jobs.length === 4)
        yield* worker.stop
        const hand = yield* makeHand(queue)
        const taken = yield* hand.take(10)
        assert.deepStrictEqual(idsOf(taken).toSorted(), ["a1", "a2", "b1", "b2"])
        for (const one of taken) yield* hand.complete(one)
        assert.deepStrictEqual(idsOf(yield* hand.take(10)).toSorted(), ["a3", "b3"])
      }))

    it.effect("what is dropped, replaced or kept by its deduplication key has the group it was given", () =>
      Effect.gen(function*() {
        const queue = define("unique", { concurrency: 1 })
        const hand = yield* makeHand(queue)
        const groupOf = (id: string) =>
          Effect.map(Queue.get(queue, id), (job) => Option.getOrNull(Option.flatMap(job, ({ group }) => group)))
        const waiting = (group: string) => Effect.map(Queue.group(queue, group), ({ waiting }) => waiting)

        // In the place of a delayed one.
        const delayed = { key: "r", mode: "replace-delayed" } as const
        yield* Queue.enqueue(queue, { n: 1 }, { id: "r1", group: "a", delay: "1 hour", deduplicate: delayed })
        yield* Queue.enqueue(queue, { n: 2 }, { id: "r2", group: "b", delay: "1 hour", deduplicate: delayed })
        yield* Queue.promote(queue, "r2")
        assert.deepStrictEqual([yield* waiting("a"), yield* waiting("b")], [0, 1])
        yield* hand.complete(yield* hand.next)

        // In the place of one that waits, also of one in the same call.
        const last = { key: "k", mode: "keep-last" } as const
        yield* Queue.enqueueAll(queue, [
          { payload: { n: 1 }, id: "k1", group: "a", deduplicate: last },
          { payload: { n: 2 }, id: "k2", group: "b", deduplicate: last }
        ])
        assert.deepStrictEqual([yield* waiting("a"), yield* waiting("b"), yield* groupOf("k1")], [0, 1, "b"])
        yield* Queue.enqueue(queue, { n: 3 }, { id: "k3", deduplicate: last })
        assert.deepStrictEqual([yield* waiting("b"), yield* groupOf("k1")], [0, null])
        yield* Queue.enqueue(queue, { n: 4 }, { id: "k4", group: "c", deduplicate: last })
        assert.deepStrictEqual([yield* waiting("c"), yield* groupOf("k1")], [1, "c"])

        // Behind the running one; of several the last.
        const running = yield* hand.next
        assert.strictEqual(running.id, "k1")
        yield* Queue.enqueue(queue, { n: 5 }, { id: "k5", group: "a", deduplicate: last })
        const { outcome } = yield* Queue.enqueue(queue, { n: 6 }, { id: "k6", group: "b", deduplicate: last })
        assert.strictEqual(outcome, "kept")
        assert.deepStrictEqual([yield* waiting("a"), yield* waiting("b")], [0, 0])
        yield* hand.complete(running)
        assert.deepStrictEqual([yield* waiting("a"), yield* waiting("b"), yield* groupOf("k6")], [0, 1, "b"])
        const follower = yield* hand.next
        // One without a group.
        yield* Queue.enqueue(queue, { n: 7 }, { id: "k7", deduplicate: last })
        yield* hand.complete(follower)
        assert.strictEqual(yield* groupOf("k7"), null)
        yield* hand.complete(yield* hand.next)
        assert.deepStrictEqual(yield* keysLeft(queue.name), [])
      }))

    it.effect("a queue with groups can be emptied, and leaves nothing", () =>
      Effect.gen(function*() {
        const queue = define("emptied", { concurrency: 1, rate: { limit: 2, window: "1 hour" } })
        const hand = yield* makeHand(queue)
        for (const group of ["a", "b"]) yield* add(queue, group, 3)
        yield* add(queue, "later", 2, { delay: "1 hour" })
        yield* Queue.enqueue(queue, { n: 0 })
        const taken = yield* hand.take(10)
        assert.lengthOf(taken, 3)
        assert.deepStrictEqual(
          (yield* Queue.list(queue, "ready")).jobs.map(({ group, id }) => [id, Option.getOrNull(group)]),
          [["a2", "a"], ["a3", "a"], ["b2", "b"], ["b3", "b"]]
        )
        assert.deepStrictEqual(yield* Queue.counts(queue), {
          ready: 4,
          delayed: 2,
          blocked: 0,
          running: 3,
          dead: 0,
          completed: 0
        })
        assert.strictEqual(yield* Queue.drain(queue), 6)
        for (const one of taken) yield* hand.complete(one)
        const { groupQuiet, groupStarts } = keysOf(queue.name)
        assert.deepStrictEqual(
          (yield* keysLeft(queue.name)).filter((key) => key !== groupStarts && key !== groupQuiet),
          []
        )
        // What is known of their rates has an end.
        const client = yield* RedisClient
        for (const key of [groupQuiet, groupStarts]) {
          assert.isTrue(Option.isSome(yield* client.ttl(key)), key)
        }
        yield* Queue.setGroupLimits(queue, "a", { concurrency: 2 })
        yield* Queue.obliterate(queue)
        for (const key of keysOf(queue.name).all) assert.strictEqual(yield* client.exists(key), 0, key)
      }))

    // -----------------------------------------------------------------------------------------------------------------
    // Looking, and bad input
    // -----------------------------------------------------------------------------------------------------------------

    it.effect("all groups with jobs are found, page by page", () =>
      Effect.gen(function*() {
        const queue = define("pages", { concurrency: 1 })
        const hand = yield* makeHand(queue)
        const groups = ["ö", "a", "a b", "a\u0001", "Z", "%*?[", "a|1:2"]
        for (const group of groups) yield* add(queue, group, 2)
        const taken = yield* hand.take(10)
        assert.lengthOf(taken, groups.length)
        // Of one group nothing waits, of another one nothing runs.
        yield* Queue.remove(queue, "Z2")
        yield* hand.complete(taken[0]!)
        const found: Array<Queue.GroupInfo> = []
        let after = Option.some<string | undefined>(undefined)
        while (Option.isSome(after)) {
          const page: Queue.GroupPage = yield* Queue.groups(queue, { after: after.value, limit: 2 })
          assert.isAtMost(page.groups.length, 2)
          found.push(...page.groups)
          after = page.next
        }
        assert.deepStrictEqual(
          found.map(({ group, running, waiting }) => [group, waiting, running]),
          [["%*?[", 1, 1], ["Z", 0, 1], ["a", 1, 1], ["a\u0001", 1, 1], ["a b", 1, 1], ["a|1:2", 1, 1], ["ö", 1, 0]]
        )
        assert.deepStrictEqual((yield* Queue.group(queue, "ö")).turn, Option.some(0))
        const nobody = yield* Queue.group(queue, "nobody")
        assert.deepStrictEqual([nobody.waiting, nobody.running, Option.isNone(nobody.turn)], [0, 0, true])
      }))

    it.effect("handlers know the group of a job", () =>
      Effect.scoped(Effect.gen(function*() {
        const queue = define("handlers")
        const { jobs, record } = recorder<Task>()
        yield* Queue.makeWorker(queue, record)
        yield* Queue.enqueue(queue, { n: 1 }, { group: "tenant \"7\" ✓" })
        yield* Queue.enqueue(queue, { n: 2 })
        yield* holds(() => jobs.length === 2)
        assert.deepStrictEqual(
          jobs.toSorted((a, b) => a.payload.n - b.payload.n).map(({ group }) => group),
          [Option.some("tenant \"7\" ✓"), Option.none()]
        )
        yield* drained(queue)
      })))

    it.effect("a group that can't be is refused before anything is sent", () =>
      Effect.gen(function*() {
        const plain = Queue.define({ name: fresh("plain"), payload: Task })
        const queue = define("refused")
        const field = <A, E, R>(effect: Effect.Effect<A, E, R>) =>
          Effect.map(error(effect), (error) => {
            const { _tag, field } = error as { readonly _tag: string; readonly field: string }
            assert.strictEqual(_tag, "RedisInputError")
            return field
          })
        assert.strictEqual(yield* field(Queue.enqueue(plain, { n: 1 }, { group: "a" })), "group")
        assert.strictEqual(yield* field(Queue.enqueueAll(plain, [{ payload: { n: 1 }, group: "a" }])), "group")
        for (const group of ["", "a\0b", "\ud800", "x".repeat(257)]) {
          assert.strictEqual(yield* field(Queue.enqueue(queue, { n: 1 }, { group })), "group")
          assert.strictEqual(yield* field(Queue.pauseGroup(queue, group)), "group")
        }
        assert.strictEqual(yield* field(Queue.group(plain, "a")), "definition")
        assert.strictEqual(yield* field(Queue.groups(plain)), "definition")
        assert.strictEqual(yield* field(Queue.groups(queue, { limit: 1001 })), "limit")
        assert.strictEqual(yield* field(Queue.setGroupLimits(queue, "a", { concurrency: 0 })), "concurrency")
        assert.strictEqual(
          yield* field(Queue.setGroupLimits(queue, "a", { rate: { limit: 1, window: 0 } })),
          "rate.window"
        )
        assert.strictEqual(
          yield* field(Queue.enqueue(define("bad", { concurrency: 1.5 }), { n: 1 })),
          "groups.concurrency"
        )
        const rate = { limit: -1, window: "1 second" } as const
        assert.strictEqual(yield* field(Queue.enqueue(define("bad", { rate }), { n: 1 })), "groups.rate.limit")
        assert.deepStrictEqual(yield* keysLeft(queue.name), [])
      }))
  })
}
