import { assert, layer } from "@effect/vitest"
import {
  DateTime,
  Deferred,
  Duration,
  Effect,
  Either,
  Exit,
  Fiber,
  Layer,
  Logger,
  LogLevel,
  Option,
  Ref,
  Schema,
  Scope
} from "effect"
import * as Queue from "../../src/Queue/index.js"
import { keysOf } from "../../src/Queue/keys.js"
import { RedisClient } from "../../src/RedisClient.js"
import type { RedisError } from "../../src/RedisError.js"
import { error, fresh, type Time, until } from "../kit/suites.js"
import { makeHand } from "./hand.js"

const Payload = Schema.Struct({ n: Schema.Number })

const define = (text: string, options: Partial<Queue.Options<typeof Payload.Type, typeof Payload.Encoded>> = {}) =>
  Queue.define({ name: fresh(text), payload: Payload, backoff: () => 0, ...options })

type Definition = ReturnType<typeof define>

/** Adds jobs with these ids; the number in the payload is the place among them. */
const add = (definition: Definition, ids: ReadonlyArray<string>, options: Queue.EnqueueOptions = {}) =>
  Queue.enqueueAll(definition, ids.map((id, n) => ({ ...options, id, payload: { n } })))

const idsOf = (jobs: ReadonlyArray<{ readonly id: string }>) => jobs.map(({ id }) => id)

const names = (prefix: string, count: number) => Array.from({ length: count }, (_, i) => `${prefix}${i}`)

/** All pages, as ids. */
const allOf = <E, R>(
  page: (offset: number) => Effect.Effect<
    { readonly items: ReadonlyArray<{ readonly id: string }>; readonly next: Option.Option<number> },
    E,
    R
  >
): Effect.Effect<ReadonlyArray<string>, E, R> =>
  Effect.gen(function*() {
    const ids: Array<string> = []
    let next = Option.some(0)
    while (Option.isSome(next)) {
      const found = yield* page(next.value)
      ids.push(...idsOf(found.items))
      next = found.next
    }
    return ids
  })

const listAll = (definition: Definition, state: Queue.JobState, limit = 100) =>
  allOf((offset) =>
    Effect.map(Queue.list(definition, state, { offset, limit }), ({ jobs, next }) => ({ items: jobs, next }))
  )

/** The keys of a queue that are there, without those that remember the last call of somebody. */
const keysLeft = (definition: Definition) =>
  Effect.gen(function*() {
    const client = yield* RedisClient
    const keys = keysOf(definition.name)
    const left: Array<string> = []
    for (const key of keys.all) if ((yield* client.exists(key)) === 1) left.push(key)
    return left
  })

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

const serverTime = Effect.map(
  Effect.flatMap(RedisClient, (client) => client.send("TIME")),
  (reply) => {
    const [seconds, micros] = reply as [string, string]
    return Number(seconds) * 1000 + Number(micros) / 1000
  }
)

/** The four numbers, which must agree with what is stored. */
const counted = (definition: Definition) =>
  Effect.gen(function*() {
    const client = yield* RedisClient
    const counts = yield* Queue.counts(definition)
    const { dead, delayed, ready, running } = counts
    assert.strictEqual(ready + delayed + running + dead, yield* client.hlen(keysOf(definition.name).jobs))
    assert.lengthOf(yield* listAll(definition, "ready"), ready)
    return [ready, delayed, running, dead]
  })

/** Jobs that became dead letters after one attempt. */
const bury = (
  definition: Definition,
  ids: ReadonlyArray<string>,
  reason: Queue.DeadReason = "exhausted",
  attempts = 1
) =>
  Effect.gen(function*() {
    const hand = yield* makeHand(definition)
    yield* add(definition, ids)
    const taken = yield* hand.take(ids.length)
    assert.deepStrictEqual(idsOf(taken), ids)
    yield* hand.buryAll(reason, attempts)(taken)
  })

export const controlSuite = (
  name: string,
  driver: Layer.Layer<RedisClient, RedisError>,
  options: { readonly excludeTestServices?: boolean },
  time: Time
) => {
  const { elapse } = time
  const eventually = until(time)

  // Dead letters are logged as warnings.
  const silent = Logger.minimumLogLevel(LogLevel.Error)

  const services = Layer.provideMerge(Layer.orDie(Layer.provideMerge(Queue.layer, driver)), silent)

  layer(services, options)(`operating queues, ${name}`, (it) => {
    // -----------------------------------------------------------------------------------------------------------------
    // Settings
    // -----------------------------------------------------------------------------------------------------------------

    it.effect("a pause stops starts and nothing else, and its end wakes a worker that sleeps", () =>
      Effect.scoped(Effect.gen(function*() {
        const queue = define("pause")
        const hand = yield* makeHand(queue)
        yield* add(queue, ["a", "b"])
        const a = yield* hand.next
        yield* Queue.pause(queue)
        assert.deepStrictEqual(yield* hand.take(10), [])
        yield* add(queue, ["c"])
        yield* add(queue, ["later"], { delay: "20 millis" })
        yield* elapse("30 millis")
        assert.deepStrictEqual(yield* hand.take(10), [])
        assert.isTrue(yield* hand.complete(a))
        assert.isTrue((yield* Queue.status(queue)).paused)
        assert.deepStrictEqual(yield* counted(queue), [2, 1, 0, 0])

        const done = yield* Ref.make<ReadonlyArray<string>>([])
        yield* Queue.makeWorker(queue, (job) => Ref.update(done, (ids) => [...ids, job.id]))
        yield* elapse("50 millis")
        assert.deepStrictEqual(yield* Ref.get(done), [])
        yield* Queue.resume(queue)
        yield* eventually(Effect.map(Ref.get(done), ({ length }) => length === 3))
        assert.deepStrictEqual((yield* Ref.get(done)).toSorted(), ["b", "c", "later"])
        assert.isFalse((yield* Queue.status(queue)).paused)
      })))

    it.effect("global concurrency holds for all workers together, and leaks by no way out", () =>
      Effect.gen(function*() {
        const queue = define("concurrency")
        const one = yield* makeHand(queue)
        const other = yield* makeHand(queue)
        yield* Queue.setGlobalConcurrency(queue, 3)
        yield* add(queue, names("j", 9))
        const [a, b] = yield* one.take(2)
        const lost = yield* other.take(5)
        assert.lengthOf(lost, 1)
        assert.deepStrictEqual(yield* one.take(5), [])
        yield* one.complete(a!)
        yield* one.retry(0)(b!)
        // The lease of the third ends, too.
        yield* age(keysOf(queue.name).leases, 120_000)
        const [c, d, e, ...more] = yield* one.take(5)
        assert.deepStrictEqual(more, [])
        yield* one.retry(60_000)(c!)
        yield* one.bury("exhausted", 1)(d!)
        yield* one.release(e!)
        const full = yield* one.take(5)
        assert.lengthOf(full, 3)
        assert.deepStrictEqual(
          Option.getOrNull((yield* Queue.status(queue)).concurrency),
          3
        )
        yield* Queue.setGlobalConcurrency(queue, 4)
        assert.lengthOf(yield* one.take(5), 1)
        yield* Queue.setGlobalConcurrency(queue, 1)
        assert.lengthOf(yield* one.take(5), 0)
        yield* Queue.setGlobalConcurrency(queue, undefined)
        assert.lengthOf(yield* one.take(5), 2)
        assert.isTrue(Option.isNone((yield* Queue.status(queue)).concurrency))
      }))

    it.effect("a larger global concurrency wakes workers that sleep", () =>
      Effect.scoped(Effect.gen(function*() {
        const queue = define("concurrency-wakes")
        yield* Queue.setGlobalConcurrency(queue, 1)
        const running = yield* Ref.make(0)
        yield* Queue.makeWorker(
          queue,
          () => Effect.zipRight(Ref.update(running, (n) => n + 1), Effect.never),
          { concurrency: 5, drain: 0 }
        )
        yield* add(queue, names("j", 5))
        yield* eventually(Effect.map(Ref.get(running), (n) => n === 1))
        yield* elapse("50 millis")
        assert.strictEqual(yield* Ref.get(running), 1)
        yield* Queue.setGlobalConcurrency(queue, 4)
        yield* eventually(Effect.map(Ref.get(running), (n) => n === 4))
        yield* Queue.setGlobalConcurrency(queue, undefined)
        yield* eventually(Effect.map(Ref.get(running), (n) => n === 5))
      })))

    it.effect("a rate limit is for all workers together, and holds in every window", () =>
      Effect.gen(function*() {
        const queue = define("rate")
        const one = yield* makeHand(queue)
        const other = yield* makeHand(queue)
        yield* add(queue, names("j", 12))
        const { starts } = keysOf(queue.name)
        yield* Queue.setRateLimit(queue, { limit: 3, window: "1 hour" })
        assert.deepStrictEqual(
          Option.getOrNull((yield* Queue.status(queue)).rateLimit),
          { limit: 3, window: Duration.hours(1) }
        )
        assert.lengthOf(yield* one.take(2), 2)
        yield* age(starts, 2_400_000_000)
        const [last, ...more] = yield* other.take(5)
        assert.lengthOf(more, 0)
        // What has ended still counts.
        yield* other.complete(last!)
        assert.lengthOf(yield* one.take(5), 0)
        // 80 minutes after the first two, and 40 after the third.
        yield* age(starts, 2_400_000_000)
        assert.lengthOf(yield* one.take(5), 2)
        assert.lengthOf(yield* one.take(5), 0)
        yield* age(starts, 3_600_000_000)
        assert.lengthOf(yield* other.take(5), 3)
        yield* Queue.setRateLimit(queue, undefined)
        assert.isTrue(Option.isNone((yield* Queue.status(queue)).rateLimit))
        assert.lengthOf(yield* other.take(12), 4)
        assert.strictEqual(yield* Effect.flatMap(RedisClient, (client) => client.exists(starts)), 0)
      }))

    it.effect("refuses what makes no sense before anything is sent", () =>
      Effect.gen(function*() {
        const queue = define("input", { priorities: 3 })
        const refused = [
          Queue.setGlobalConcurrency(queue, 0),
          Queue.setGlobalConcurrency(queue, 1.5),
          Queue.setRateLimit(queue, { limit: 0, window: "1 second" }),
          Queue.setRateLimit(queue, { limit: 1, window: 0 }),
          Queue.list(queue, "ready", { limit: 0 }),
          Queue.list(queue, "ready", { limit: 1001 }),
          Queue.list(queue, "ready", { offset: -1 }),
          Queue.deadLetters(queue, { offset: 0.5 }),
          Queue.get(queue, ""),
          Queue.remove(queue, "a\0b"),
          Queue.changePriority(queue, "a", 3),
          Queue.changePriority(queue, "a", -1),
          Queue.changeDelay(queue, "a", { delay: -1 }),
          Queue.cleanDeadLetters(queue, Number.NaN),
          Queue.replayMany(queue, ["a", ""]),
          Queue.pause(Queue.define({ name: "", payload: Payload }))
        ]
        for (const effect of refused) {
          assert.strictEqual((yield* error<unknown, any, any>(effect))._tag, "RedisInputError")
        }
        assert.deepStrictEqual(yield* keysLeft(queue), [])
      }))

    // -----------------------------------------------------------------------------------------------------------------
    // Looking
    // -----------------------------------------------------------------------------------------------------------------

    it.effect("counts and lists jobs by state, as they are", () =>
      Effect.gen(function*() {
        const queue = define("states", { attempts: 4 })
        const hand = yield* makeHand(queue)
        yield* bury(queue, ["dead"], "unrecoverable", 2)
        yield* add(queue, ["running"], { priority: 3 })
        yield* hand.next
        yield* add(queue, ["ready", "other"])
        yield* add(queue, ["delayed"], { delay: "1 hour", priority: 2, attempts: 9 })
        assert.deepStrictEqual(yield* counted(queue), [2, 1, 1, 1])
        assert.deepStrictEqual(yield* listAll(queue, "ready"), ["ready", "other"])
        assert.deepStrictEqual(yield* listAll(queue, "running"), ["running"])
        assert.deepStrictEqual(yield* listAll(queue, "dead"), ["dead"])

        const { jobs: [delayed], next } = yield* Queue.list(queue, "delayed")
        assert.isTrue(Option.isNone(next))
        assert.deepStrictEqual(
          { ...delayed, at: undefined, enqueuedAt: undefined },
          {
            id: "delayed",
            state: "delayed",
            payload: Either.right({ n: 0 }),
            priority: 2,
            failures: 0,
            attempts: 9,
            at: undefined,
            enqueuedAt: undefined
          }
        )
        const now = yield* serverTime
        const due = DateTime.toEpochMillis(Option.getOrThrow(delayed!.at))
        assert.isAtMost(Math.abs(due - now - 3_600_000), 60_000)
        assert.isAtMost(Math.abs(DateTime.toEpochMillis(delayed!.enqueuedAt) - now), 60_000)

        const stateOf = (id: string) =>
          Effect.map(Queue.get(queue, id), Option.match({ onNone: () => "none", onSome: ({ state }) => state }))
        for (const id of ["dead", "running", "ready", "delayed", "none"]) {
          assert.strictEqual(yield* stateOf(id), id)
        }
        const running = Option.getOrThrow(yield* Queue.get(queue, "running"))
        assert.deepStrictEqual([running.priority, running.attempts], [3, 4])
        assert.isAbove(DateTime.toEpochMillis(Option.getOrThrow(running.at)), now)
        assert.isTrue(Option.isNone(Option.getOrThrow(yield* Queue.get(queue, "ready")).at))

        const { counts, totals } = yield* Queue.status(queue)
        assert.deepStrictEqual(counts, { ready: 2, delayed: 1, blocked: 0, running: 1, dead: 1, completed: 0 })
        assert.deepStrictEqual(totals, { completed: 0, failed: 1, dead: 1 })
      }))

    it.effect("shows what it can't read as a value", () =>
      Effect.gen(function*() {
        const queue = define("unreadable")
        const client = yield* RedisClient
        const { jobs } = keysOf(queue.name)
        yield* add(queue, ["good", "other-type", "no-json"])
        yield* client.hset(jobs, { "other-type": `{"t":1,"p":{"n":"secret"}}`, "no-json": "{" })
        const found = (yield* Queue.list(queue, "ready")).jobs
        assert.deepStrictEqual(idsOf(found), ["good", "other-type", "no-json"])
        assert.deepStrictEqual(found.map(({ payload }) => payload), [
          Either.right({ n: 0 }),
          Either.left("it does not fit the schema (n)"),
          Either.left("its envelope can't be read")
        ])
        const one = Option.getOrThrow(yield* Queue.get(queue, "other-type"))
        assert.isTrue(Either.isLeft(one.payload))
      }))

    it.effect("pages go through all levels in the order in which jobs start", () =>
      Effect.gen(function*() {
        const queue = define("pages", { priorities: 8 })
        const hand = yield* makeHand(queue)
        for (let level = 0; level < 8; level++) yield* add(queue, names(`p${level}-`, 31), { priority: level })
        for (const id of ["p7-0", "p7-30", "p3-7", "p0-30"]) yield* Queue.remove(queue, id)
        const listed = yield* listAll(queue, "ready", 17)
        assert.lengthOf(listed, 8 * 31 - 4)
        assert.deepStrictEqual(listed, yield* listAll(queue, "ready", 1000))
        assert.deepStrictEqual(idsOf(yield* hand.take(1000)), listed)
        assert.strictEqual(listed[0], "p7-1")
        assert.deepStrictEqual((yield* listAll(queue, "running", 50)).toSorted(), listed.toSorted())
        assert.deepStrictEqual(yield* counted(queue), [0, 0, listed.length, 0])
      }))

    it.effect("shows what a handler has told about its progress, as long as it runs", () =>
      Effect.scoped(Effect.gen(function*() {
        const queue = define("progress")
        const told = yield* Deferred.make<void>()
        const go = yield* Deferred.make<void>()
        yield* Queue.makeWorker(queue, (job) =>
          Effect.gen(function*() {
            yield* job.progress({ percent: 40 })
            yield* Deferred.succeed(told, undefined)
            yield* Deferred.await(go)
          }))
        assert.isTrue(Option.isNone(yield* Queue.progress(queue, "a")))
        yield* add(queue, ["a"])
        yield* eventually(Deferred.isDone(told))
        assert.deepStrictEqual(yield* Queue.progress(queue, "a"), Option.some({ percent: 40 }))
        yield* Deferred.succeed(go, undefined)
        yield* eventually(Effect.map(Queue.get(queue, "a"), Option.isNone))
        assert.isTrue(Option.isNone(yield* Queue.progress(queue, "a")))
      })))

    // -----------------------------------------------------------------------------------------------------------------
    // One job
    // -----------------------------------------------------------------------------------------------------------------

    it.effect("a removed job never runs, and a running one is not removed", () =>
      Effect.gen(function*() {
        const queue = define("remove")
        const hand = yield* makeHand(queue)
        yield* bury(queue, ["dead"])
        yield* add(queue, ["running", "ready", "stays"])
        const running = yield* hand.next
        yield* add(queue, ["delayed"], { delay: "10 millis", priority: 1 })
        for (const id of ["dead", "ready", "delayed"]) {
          yield* Queue.remove(queue, id)
          const gone = yield* error(Queue.remove(queue, id))
          assert.deepStrictEqual(gone, new Queue.JobNotFound({ queue: queue.name, id }))
        }
        assert.deepStrictEqual(
          yield* error(Queue.remove(queue, "running")),
          new Queue.JobIsRunning({ queue: queue.name, id: "running" })
        )
        yield* elapse("20 millis")
        assert.deepStrictEqual(yield* counted(queue), [1, 0, 1, 0])
        const stays = yield* hand.next
        assert.strictEqual(stays.id, "stays")
        assert.deepStrictEqual(yield* hand.take(10), [])
        assert.isTrue(yield* hand.complete(running))
        assert.isTrue(yield* hand.complete(stays))
        assert.strictEqual((yield* error(Queue.remove(queue, "running")))._tag, "JobNotFound")
        assert.deepStrictEqual(
          (yield* keysLeft(queue)).filter((key) => !key.endsWith(":meta") && !key.endsWith(":marker")),
          []
        )
      }))

    it.effect("an id that was removed can come again, wherever it was before, and runs once", () =>
      Effect.gen(function*() {
        const queue = define("again")
        const hand = yield* makeHand(queue)
        for (const priority of [0, 2, 0, 0, 3]) {
          yield* add(queue, ["x"], { priority })
          yield* add(queue, [`between-${priority}`])
          yield* Queue.remove(queue, "x")
        }
        yield* add(queue, ["x"])
        const order: Array<string> = []
        for (let taken = yield* hand.take(1); taken.length > 0; taken = yield* hand.take(1)) {
          order.push(...idsOf(taken))
        }
        assert.deepStrictEqual(order, ["between-0", "between-2", "between-3", "x"])
        assert.deepStrictEqual(yield* counted(queue), [0, 0, 4, 0])
      }))

    it.effect("a job whose worker is gone can be removed, and is lost to that worker", () =>
      Effect.gen(function*() {
        const queue = define("expired")
        const hand = yield* makeHand(queue)
        yield* add(queue, ["a"])
        const a = yield* hand.next
        yield* age(keysOf(queue.name).leases, 120_000)
        assert.isFalse(yield* Queue.cancel(queue, "a"))
        yield* Queue.remove(queue, "a")
        assert.isFalse(yield* hand.complete(a))
        assert.deepStrictEqual(yield* hand.take(1), [])
        assert.deepStrictEqual(yield* counted(queue), [0, 0, 0, 0])
        assert.strictEqual((yield* Queue.status(queue)).totals.completed, 0)
      }))

    it.effect("removing a job frees its deduplication key at once", () =>
      Effect.gen(function*() {
        const queue = define("unique")
        const deduplicate: Queue.Deduplication = { key: "k", mode: "until-finished" }
        for (const delay of [0, 60_000]) {
          const first = yield* Queue.enqueue(queue, { n: 1 }, { deduplicate, delay })
          assert.strictEqual((yield* Queue.enqueue(queue, { n: 2 }, { deduplicate })).outcome, "duplicate")
          yield* Queue.remove(queue, first.id)
          const second = yield* Queue.enqueue(queue, { n: 3 }, { deduplicate })
          assert.strictEqual(second.outcome, "added")
          yield* Queue.remove(queue, second.id)
        }
        assert.deepStrictEqual(yield* counted(queue), [0, 0, 0, 0])
      }))

    it.effect("a delayed job is promoted to its priority, and no other job is", () =>
      Effect.gen(function*() {
        const queue = define("promote")
        const hand = yield* makeHand(queue)
        yield* bury(queue, ["dead"])
        yield* add(queue, ["running"])
        yield* hand.next
        yield* add(queue, ["ready"])
        yield* add(queue, ["low", "high"], { delay: "1 hour" })
        yield* Queue.changePriority(queue, "high", 3)
        yield* Queue.promote(queue, "low")
        yield* Queue.promote(queue, "high")
        for (const state of ["ready", "running", "dead"] as const) {
          for (const effect of [Queue.promote(queue, state), Queue.changeDelay(queue, state, { delay: 0 })]) {
            assert.deepStrictEqual(
              yield* error(effect),
              new Queue.JobNotDelayed({ queue: queue.name, id: state, state })
            )
          }
        }
        assert.strictEqual((yield* error(Queue.promote(queue, "none")))._tag, "JobNotFound")
        assert.strictEqual((yield* error(Queue.changeDelay(queue, "none", { delay: 1 })))._tag, "JobNotFound")
        assert.deepStrictEqual(idsOf(yield* hand.take(10)), ["high", "ready", "low"])
      }))

    it.effect("promotes for a worker that sleeps, and wakes it in time when a delay gets shorter", () =>
      Effect.scoped(Effect.gen(function*() {
        const queue = define("promote-wakes")
        const done = yield* Ref.make<ReadonlyArray<string>>([])
        yield* Queue.makeWorker(queue, (job) => Ref.update(done, (ids) => [...ids, job.id]))
        yield* add(queue, ["a", "b", "c"], { delay: "1 hour" })
        yield* elapse("50 millis")
        yield* Queue.promote(queue, "b")
        yield* eventually(Effect.map(Ref.get(done), (ids) => ids.includes("b")))
        yield* Queue.changeDelay(queue, "c", { delay: "20 millis" })
        yield* eventually(Effect.map(Ref.get(done), (ids) => ids.includes("c")))
        assert.deepStrictEqual(yield* Ref.get(done), ["b", "c"])
      })))

    it.effect("a changed delay counts, in both directions, and never early", () =>
      Effect.gen(function*() {
        const queue = define("delay")
        const hand = yield* makeHand(queue)
        yield* add(queue, ["a", "b", "c"], { delay: "1 hour" })
        yield* add(queue, ["d"], { delay: "20 millis" })
        yield* Queue.changeDelay(queue, "d", { delay: "2 hours" })
        yield* Queue.changeDelay(queue, "b", { delay: "30 minutes" })
        yield* Queue.changeDelay(queue, "c", { at: DateTime.unsafeMake(1) })
        assert.deepStrictEqual(idsOf(yield* hand.take(10)), ["c"])
        assert.deepStrictEqual(yield* listAll(queue, "delayed"), ["b", "a", "d"])
        const now = yield* serverTime
        yield* Queue.changeDelay(queue, "b", { delay: "100 millis" })
        yield* eventually(Effect.map(hand.take(10), (taken) => idsOf(taken).includes("b")))
        assert.isAtLeast((yield* serverTime) - now, 100)
        // Those of the same instant keep the order in which they were changed.
        const at = DateTime.unsafeMake("2038-01-01T00:00:00Z")
        yield* Queue.changeDelay(queue, "d", { at })
        yield* Queue.changeDelay(queue, "a", { at })
        const { jobs } = yield* Queue.list(queue, "delayed")
        assert.deepStrictEqual(idsOf(jobs), ["d", "a"])
        assert.deepStrictEqual(jobs.map((job) => job.at), [Option.some(at), Option.some(at)])
      }))

    it.effect("a job that waits gets another priority, as often as one likes, and runs once", () =>
      Effect.gen(function*() {
        const queue = define("priority")
        const hand = yield* makeHand(queue)
        yield* bury(queue, ["dead"])
        yield* add(queue, ["running"])
        const running = yield* hand.next
        yield* add(queue, ["a", "b", "c", "d"])
        yield* add(queue, ["late"], { delay: "10 millis" })
        yield* Queue.changePriority(queue, "late", 3)
        for (const priority of [3, 0, 2, 2, 0, 1]) yield* Queue.changePriority(queue, "c", priority)
        yield* Queue.changePriority(queue, "d", 2)
        yield* Queue.changePriority(queue, "a", 1)
        for (const priority of [3, 0]) yield* Queue.changePriority(queue, "b", priority)
        assert.deepStrictEqual(yield* counted(queue), [4, 1, 1, 1])
        assert.deepStrictEqual(yield* listAll(queue, "ready"), ["d", "c", "a", "b"])
        for (const state of ["running", "dead"] as const) {
          assert.deepStrictEqual(
            yield* error(Queue.changePriority(queue, state, 1)),
            new Queue.JobNotWaiting({ queue: queue.name, id: state, state })
          )
        }
        assert.strictEqual((yield* error(Queue.changePriority(queue, "none", 1)))._tag, "JobNotFound")
        yield* elapse("20 millis")
        const taken = yield* hand.take(10)
        assert.deepStrictEqual(idsOf(taken), ["late", "d", "c", "a", "b"])
        assert.deepStrictEqual(yield* hand.take(10), [])
        // What comes back has the priority that it got.
        yield* hand.retry(0)(taken[2]!)
        yield* hand.release(taken[4]!)
        assert.strictEqual(Option.getOrThrow(yield* Queue.get(queue, "c")).priority, 1)
        assert.deepStrictEqual(idsOf(yield* hand.take(10)), ["c", "b"])
        yield* hand.complete(running)
      }))

    it.effect("a running job is cancelled from any process, and one that does not run is not", () =>
      Effect.scoped(Effect.gen(function*() {
        const queue = define("cancel")
        const interrupted = yield* Ref.make<ReadonlyArray<string>>([])
        const started = yield* Ref.make<ReadonlyArray<string>>([])
        yield* Queue.makeWorker(
          queue,
          (job) =>
            Ref.update(started, (ids) => [...ids, job.id]).pipe(
              Effect.zipRight(Effect.never),
              Effect.onInterrupt(() => Ref.update(interrupted, (ids) => [...ids, job.id]))
            ),
          { concurrency: 2, drain: 0 }
        )
        yield* add(queue, ["a", "b"])
        yield* add(queue, ["later"], { delay: "1 hour" })
        yield* eventually(Effect.map(Ref.get(started), ({ length }) => length === 2))
        const elsewhere = yield* Layer.build(Layer.fresh(Queue.layer))
        const cancel = (id: string) => Effect.provide(Queue.cancel(queue, id), elsewhere)
        for (const id of ["later", "none"]) assert.isFalse(yield* cancel(id))
        assert.isTrue(yield* cancel("a"))
        yield* eventually(Effect.map(Queue.deadLetter(queue, "a"), Option.isSome))
        assert.deepStrictEqual(yield* Ref.get(interrupted), ["a"])
        assert.strictEqual(Option.getOrThrow(yield* Queue.deadLetter(queue, "a")).reason, "cancelled")
        assert.isFalse(yield* cancel("a"))
        assert.deepStrictEqual(yield* counted(queue), [0, 1, 1, 1])
        const client = yield* RedisClient
        assert.strictEqual(yield* client.exists(keysOf(queue.name).cancelled), 0)
      })))

    it.effect("ids may be of any signs, and no job is taken for another one", () =>
      Effect.gen(function*() {
        const queue = define("signs")
        const hand = yield* makeHand(queue)
        const running = ["ab", "a|b", "[b]", "x\\y", "\n", "é ✓", "%s"]
        const waiting = ["a*", "b", "a?", "[ab]", "x", "*", "|", "*|b", "é", "%"]
        yield* add(queue, running)
        yield* hand.take(running.length)
        yield* add(queue, waiting)
        for (const id of running) assert.strictEqual((yield* error(Queue.remove(queue, id)))._tag, "JobIsRunning")
        for (const id of waiting) {
          assert.isFalse(yield* Queue.cancel(queue, id))
          yield* Queue.changePriority(queue, id, 1)
          yield* Queue.remove(queue, id)
        }
        assert.deepStrictEqual(yield* hand.take(20), [])
        assert.deepStrictEqual((yield* listAll(queue, "running")).toSorted(), running.toSorted())
      }))

    // -----------------------------------------------------------------------------------------------------------------
    // Many jobs
    // -----------------------------------------------------------------------------------------------------------------

    it.effect("drains all that waits, however much it is, and nothing else", () =>
      Effect.gen(function*() {
        const queue = define("drain")
        const hand = yield* makeHand(queue)
        yield* bury(queue, ["dead"])
        yield* add(queue, ["running"])
        const running = yield* hand.next
        yield* add(queue, names("r", 1500))
        yield* add(queue, names("p", 700), { priority: 2 })
        yield* add(queue, names("d", 1200), { delay: "1 hour", priority: 1 })
        for (let i = 0; i < 10; i++) {
          yield* Queue.changePriority(queue, `r${i}`, 3)
          yield* Queue.remove(queue, `p${i}`)
        }
        assert.strictEqual(yield* Queue.drain(queue, { delayed: false }), 2190)
        assert.deepStrictEqual(yield* counted(queue), [0, 1200, 1, 1])
        yield* add(queue, ["r0"])
        assert.strictEqual(yield* Queue.drain(queue), 1201)
        assert.deepStrictEqual(yield* counted(queue), [0, 0, 1, 1])
        assert.strictEqual(yield* Queue.drain(queue), 0)
        assert.deepStrictEqual(yield* hand.take(10), [])
        assert.isTrue(yield* hand.complete(running))
        assert.strictEqual(yield* Queue.cleanDeadLetters(queue, 0), 1)
        assert.deepStrictEqual(
          (yield* keysLeft(queue)).filter((key) => !key.endsWith(":meta") && !key.endsWith(":marker")),
          []
        )
      }))

    it.effect("obliterates everything, but not while jobs run", () =>
      Effect.gen(function*() {
        const queue = define("obliterate")
        const hand = yield* makeHand(queue)
        yield* bury(queue, ["dead"])
        yield* add(queue, ["a", "b", "c"], { priority: 1, deduplicate: { key: "k", mode: "window", ttl: "1 hour" } })
        yield* add(queue, ["x", "y"])
        yield* Queue.remove(queue, "y")
        const [one, two] = yield* hand.take(2)
        yield* add(queue, ["later"], { delay: "1 hour" })
        yield* Queue.setRateLimit(queue, { limit: 5, window: "1 hour" })
        assert.deepStrictEqual(
          yield* error(Queue.obliterate(queue)),
          new Queue.QueueIsBusy({ queue: queue.name, running: 2 })
        )
        assert.deepStrictEqual(yield* counted(queue), [0, 1, 2, 1])
        yield* Queue.obliterate(queue, { force: true })
        assert.deepStrictEqual(yield* keysLeft(queue), [])
        assert.isFalse(yield* hand.complete(one!))
        assert.isFalse(yield* hand.retry(0)(two!))
        assert.deepStrictEqual(yield* counted(queue), [0, 0, 0, 0])
        yield* add(queue, ["a"])
        yield* Queue.obliterate(queue)
        assert.deepStrictEqual(yield* keysLeft(queue), [])
      }))

    // -----------------------------------------------------------------------------------------------------------------
    // Dead letters
    // -----------------------------------------------------------------------------------------------------------------

    it.effect("a dead letter tells what it was about, and why it died", () =>
      Effect.scoped(Effect.gen(function*() {
        const queue = define("letters", { attempts: 3 })
        const client = yield* RedisClient
        yield* add(queue, ["exhausted"], { priority: 2, attempts: 2 })
        yield* add(queue, ["unrecoverable", "undecodable", "fine"])
        yield* client.hset(keysOf(queue.name).jobs, { undecodable: `{"t":5,"p":{"n":"secret"}}` })
        const ran = yield* Ref.make<ReadonlyArray<string>>([])
        yield* Queue.makeWorker(queue, (job) =>
          Effect.zipRight(
            Ref.update(ran, (ids) => [...ids, job.id]),
            job.id === "fine"
              ? Effect.void
              // @effect-diagnostics-next-line globalErrorInEffectFailure:off
              : Effect.fail(job.id === "unrecoverable" ? Queue.unrecoverable("no such card") : new Error("no route"))
          ))
        yield* eventually(Effect.map(Queue.counts(queue), ({ dead, ready }) => dead === 3 && ready === 0))
        yield* eventually(Effect.map(Queue.get(queue, "fine"), Option.isNone))
        assert.deepStrictEqual((yield* Ref.get(ran)).toSorted(), ["exhausted", "exhausted", "fine", "unrecoverable"])
        const letterOf = (id: string) => Effect.map(Queue.deadLetter(queue, id), Option.getOrThrow)
        const { cause, enqueuedAt, failedAt, ...exhausted } = yield* letterOf("exhausted")
        assert.deepStrictEqual(exhausted, {
          id: "exhausted",
          payload: Either.right({ n: 0 }),
          reason: "exhausted",
          error: Option.some("Error: no route"),
          failures: 2,
          attempts: 2,
          priority: 2,
          group: Option.none()
        })
        assert.include(Option.getOrThrow(cause), "no route")
        assert.isAtMost(Math.abs(DateTime.toEpochMillis(failedAt) - DateTime.toEpochMillis(enqueuedAt)), 60_000)
        const unrecoverable = yield* letterOf("unrecoverable")
        assert.deepStrictEqual(
          [unrecoverable.reason, unrecoverable.error, unrecoverable.failures, unrecoverable.attempts],
          ["unrecoverable", Option.some("no such card"), 1, 3]
        )
        const undecodable = yield* letterOf("undecodable")
        assert.deepStrictEqual([undecodable.reason, undecodable.failures], ["undecodable", 0])
        assert.deepStrictEqual(undecodable.payload, Either.left("it does not fit the schema (n)"))
        assert.strictEqual(DateTime.toEpochMillis(undecodable.enqueuedAt), 5)
        assert.isTrue(Option.isNone(yield* Queue.deadLetter(queue, "fine")))
      })))

    it.effect("dead letters come in pages, from the newest or from the oldest", () =>
      Effect.gen(function*() {
        const queue = define("letter-pages")
        const ids: Array<string> = []
        for (let i = 0; i < 3; i++) {
          const some = names(`l${i}-`, 9)
          yield* bury(queue, some)
          ids.push(...some)
          yield* elapse("5 millis")
        }
        const all = (order: "newest" | "oldest") =>
          allOf((offset) =>
            Effect.map(
              Queue.deadLetters(queue, { order, offset, limit: 5 }),
              ({ letters, next }) => ({ items: letters, next })
            )
          )
        assert.deepStrictEqual(yield* all("oldest"), ids)
        assert.deepStrictEqual(yield* all("newest"), ids.toReversed())
        assert.strictEqual((yield* Queue.deadLetters(queue, { limit: 1 })).letters[0]!.id, "l2-8")
        assert.strictEqual(yield* Queue.deadLetterCount(queue), 27)
      }))

    it.effect("no more dead letters are kept than the queue says, and none for longer", () =>
      Effect.gen(function*() {
        const client = yield* RedisClient
        const queue = define("bounded", { deadLetters: { count: 3, age: "1 hour" } })
        yield* bury(queue, names("l", 5))
        assert.deepStrictEqual(yield* listAll(queue, "dead"), ["l2", "l3", "l4"])
        assert.strictEqual(yield* client.hlen(keysOf(queue.name).deadInfo), 3)
        assert.deepStrictEqual(yield* counted(queue), [0, 0, 0, 3])
        yield* age(keysOf(queue.name).dead, 3_600_000, (id) => id !== "l4")
        yield* bury(queue, ["new"])
        assert.deepStrictEqual(yield* listAll(queue, "dead"), ["l4", "new"])
        assert.deepStrictEqual(yield* counted(queue), [0, 0, 0, 2])
        const none = define("none-kept", { deadLetters: { count: 0 } })
        yield* bury(none, ["a"])
        assert.deepStrictEqual(yield* counted(none), [0, 0, 0, 0])
      }))

    it.effect("a replayed job has one more attempt or all of them, at its priority", () =>
      Effect.gen(function*() {
        const queue = define("replay", { attempts: 3 })
        const hand = yield* makeHand(queue)
        yield* add(queue, ["a", "b", "c", "high"])
        yield* Queue.changePriority(queue, "high", 3)
        for (const one of yield* hand.take(4)) yield* hand.bury("exhausted", 3)(one)
        const failures = (id: string) => Effect.map(Queue.get(queue, id), (job) => Option.getOrThrow(job).failures)
        yield* add(queue, ["before"])
        yield* Queue.replay(queue, "a")
        yield* Queue.replay(queue, "b", { resetAttempts: true })
        yield* Queue.replay(queue, "high")
        assert.deepStrictEqual([yield* failures("a"), yield* failures("b")], [2, 0])
        assert.deepStrictEqual(yield* listAll(queue, "ready"), ["high", "before", "a", "b"])
        for (const [id, state] of [["a", "ready"], ["before", "ready"]] as const) {
          assert.deepStrictEqual(
            yield* error(Queue.replay(queue, id)),
            new Queue.JobNotDead({ queue: queue.name, id, state })
          )
        }
        assert.strictEqual((yield* error(Queue.replay(queue, "none")))._tag, "JobNotFound")
        assert.strictEqual((yield* hand.next).id, "high")
        assert.deepStrictEqual(
          yield* error(Queue.replay(queue, "high")),
          new Queue.JobNotDead({ queue: queue.name, id: "high", state: "running" })
        )
        yield* Queue.remove(queue, "c")
        assert.strictEqual((yield* error(Queue.replay(queue, "c")))._tag, "JobNotFound")
        assert.deepStrictEqual(yield* counted(queue), [3, 0, 1, 0])
      }))

    it.effect("a replayed job runs again, once more than it may, and without the deadline that it missed", () =>
      Effect.scoped(Effect.gen(function*() {
        const queue = define("replay-runs", { attempts: 2 })
        const attempts = yield* Ref.make<ReadonlyArray<string>>([])
        const works = yield* Ref.make(false)
        yield* Queue.makeWorker(queue, (job) =>
          Effect.gen(function*() {
            yield* Ref.update(attempts, (all) => [...all, `${job.id} ${job.attempt}`])
            if (!(yield* Ref.get(works))) return yield* Effect.fail("down")
          }))
        const died = (count: number) =>
          eventually(
            Effect.map(Queue.counts(queue), ({ dead, ready, running }) => dead === count && ready + running === 0)
          )
        yield* Queue.pause(queue)
        yield* add(queue, ["late"], { deadline: "20 millis" })
        yield* elapse("30 millis")
        yield* Queue.resume(queue)
        yield* died(1)
        assert.deepStrictEqual(yield* Ref.get(attempts), [])
        yield* add(queue, ["a"])
        yield* died(2)
        assert.deepStrictEqual(yield* Ref.get(attempts), ["a 1", "a 2"])
        yield* Queue.replay(queue, "a")
        yield* died(2)
        assert.deepStrictEqual(yield* Ref.get(attempts), ["a 1", "a 2", "a 2"])
        yield* Ref.set(works, true)
        assert.strictEqual(yield* Queue.replayMany(queue, ["a", "late", "none", "a"], { resetAttempts: true }), 2)
        yield* died(0)
        yield* eventually(Effect.map(Ref.get(attempts), ({ length }) => length === 5))
        assert.deepStrictEqual((yield* Ref.get(attempts)).slice(3), ["a 1", "late 1"])
        assert.strictEqual((yield* Queue.status(queue)).totals.completed, 2)
      })))

    it.effect("replays those that a predicate chooses, over many pages", () =>
      Effect.gen(function*() {
        const queue = define("replay-where")
        yield* bury(queue, names("a", 150))
        yield* bury(queue, names("b", 20), "lease-expired")
        yield* bury(queue, names("c", 150))
        const some = (letter: Queue.DeadLetter<{ readonly n: number }>) =>
          letter.reason === "exhausted" && Either.getOrThrow(letter.payload).n % 3 === 0
        assert.strictEqual(yield* Queue.replayWhere(queue, some), 100)
        assert.deepStrictEqual(yield* counted(queue), [100, 0, 0, 220])
        assert.strictEqual(yield* Queue.replayWhere(queue, some), 0)
        assert.strictEqual(yield* Queue.replayWhere(queue, ({ reason }) => reason === "lease-expired"), 20)
        assert.strictEqual(yield* Queue.replayWhere(queue, () => true), 200)
        assert.deepStrictEqual(yield* counted(queue), [320, 0, 0, 0])
      }))

    it.effect("leaves alone what dies while it replays", () =>
      Effect.scoped(Effect.gen(function*() {
        const queue = define("replay-dies", { attempts: 1 })
        yield* bury(queue, names("a", 250))
        const ran = yield* Ref.make<ReadonlyArray<string>>([])
        yield* Queue.makeWorker(
          queue,
          (job) => Effect.zipRight(Ref.update(ran, (ids) => [...ids, job.id]), Effect.fail("down")),
          { concurrency: 50 }
        )
        yield* elapse("5 millis")
        assert.strictEqual(yield* Queue.replayWhere(queue, () => true), 250)
        yield* eventually(Effect.map(Queue.counts(queue), ({ dead }) => dead === 250))
        assert.deepStrictEqual((yield* Ref.get(ran)).toSorted(), names("a", 250).toSorted())
      })))

    it.effect("removes dead letters one by one, and by age", () =>
      Effect.gen(function*() {
        const queue = define("clean")
        yield* bury(queue, names("old", 600))
        yield* bury(queue, names("elder", 500))
        yield* age(keysOf(queue.name).dead, 86_400_000)
        yield* bury(queue, ["new", "newer"])
        yield* add(queue, ["ready"])
        assert.strictEqual(yield* Queue.removeDeadLetters(queue, ["old0", "new", "ready", "none", "old0"]), 2)
        assert.strictEqual(yield* Queue.cleanDeadLetters(queue, "2 days"), 0)
        assert.strictEqual(yield* Queue.cleanDeadLetters(queue, "1 day"), 1099)
        assert.deepStrictEqual(yield* listAll(queue, "dead"), ["newer"])
        assert.strictEqual(yield* Queue.cleanDeadLetters(queue, 0), 1)
        assert.deepStrictEqual(yield* counted(queue), [1, 0, 0, 0])
        assert.strictEqual(yield* Queue.removeDeadLetters(queue, []), 0)
      }))

    // -----------------------------------------------------------------------------------------------------------------
    // Several types
    // -----------------------------------------------------------------------------------------------------------------

    it.effect("each type of job has its handler, and one of a newer release waits as a dead letter", () =>
      Effect.scoped(Effect.gen(function*() {
        const Welcome = Schema.TaggedStruct("Welcome", { to: Schema.String })
        const Receipt = Schema.TaggedStruct("Receipt", { amount: Schema.Number })
        class Reminder extends Schema.TaggedClass<Reminder>()("Reminder", { at: Schema.Date }) {}
        const mails = Queue.define({ name: fresh("types"), payload: Schema.Union(Welcome, Receipt) })
        const newer = Queue.define({ name: mails.name, payload: Schema.Union(Welcome, Receipt, Reminder) })
        const did = yield* Ref.make<ReadonlyArray<string>>([])
        const tell = (text: string) => Ref.update(did, (all) => [...all, text])
        const scope = yield* Scope.make()
        yield* Queue.makeWorker(
          mails,
          Queue.handlers(mails, {
            Welcome: ({ to }) => tell(`welcome ${to}`),
            Receipt: ({ amount }, job) => tell(`${amount} ${job.id} ${job.payload.amount}`)
          })
        ).pipe(Scope.extend(scope))
        yield* Queue.enqueueAll(newer, [
          { id: "w", payload: { _tag: "Welcome", to: "ada" } },
          { id: "new", payload: new Reminder({ at: new Date(0) }) },
          { id: "r", payload: { _tag: "Receipt", amount: 7 } }
        ])
        yield* eventually(
          Effect.map(Queue.counts(mails), ({ dead, ready, running }) => dead === 1 && ready + running === 0)
        )
        yield* Scope.close(scope, Exit.void)
        assert.deepStrictEqual(yield* Ref.get(did), ["welcome ada", "7 r 7"])
        assert.strictEqual(Option.getOrThrow(yield* Queue.deadLetter(mails, "new")).reason, "no-handler")

        // The newer release has come.
        const dates = yield* Ref.make<ReadonlyArray<Date>>([])
        yield* Queue.makeWorker(
          newer,
          Queue.handlers(newer, {
            Welcome: () => Effect.void,
            Receipt: () => Effect.void,
            Reminder: ({ at }) => Ref.update(dates, (all) => [...all, at])
          })
        )
        assert.strictEqual(yield* Queue.replayWhere(newer, ({ reason }) => reason === "no-handler"), 1)
        yield* eventually(Effect.map(Ref.get(dates), ({ length }) => length === 1))
        assert.deepStrictEqual(yield* Ref.get(dates), [new Date(0)])
      })))

    it.effect("a known type that does not fit is no unknown one, and neither is what has no type", () =>
      Effect.scoped(Effect.gen(function*() {
        const queue = Queue.define({
          name: fresh("no-type"),
          payload: Schema.TaggedStruct("A", { n: Schema.Number })
        })
        const client = yield* RedisClient
        const stored: Record<string, string> = {
          "known": `{"t":1,"p":{"_tag":"A","n":"x"}}`,
          "none": `{"t":1,"p":{"n":1}}`,
          "number": `{"t":1,"p":{"_tag":1}}`,
          "null": `{"t":1,"p":null}`,
          "text": `{"t":1,"p":"A"}`,
          "prototype": `{"t":1,"p":{"_tag":"constructor"}}`,
          "unknown": `{"t":1,"p":{"_tag":"B"}}`
        }
        for (const id of Object.keys(stored)) yield* Queue.enqueue(queue, { _tag: "A", n: 1 }, { id })
        yield* client.hset(keysOf(queue.name).jobs, stored)
        yield* Queue.makeWorker(queue, Queue.handlers(queue, { A: () => Effect.die("never") }))
        yield* eventually(Effect.map(Queue.deadLetterCount(queue), (n) => n === 7))
        const { letters } = yield* Queue.deadLetters(queue)
        assert.deepStrictEqual(
          Object.fromEntries(letters.map(({ id, reason }) => [id, reason])),
          {
            "known": "undecodable",
            "none": "undecodable",
            "number": "undecodable",
            "null": "undecodable",
            "text": "undecodable",
            "prototype": "no-handler",
            "unknown": "no-handler"
          }
        )
      })))

    // -----------------------------------------------------------------------------------------------------------------
    // At the same time
    // -----------------------------------------------------------------------------------------------------------------

    it.effect("a job is either removed or taken, never both", () =>
      Effect.gen(function*() {
        const queue = define("race-remove")
        const hands = yield* Effect.all(Array.from({ length: 3 }, () => makeHand(queue)))
        const ids = names("j", 60)
        yield* add(queue, ids)
        const taking = yield* Effect.fork(Effect.forEach(
          hands,
          (hand) => Effect.map(Effect.replicateEffect(hand.take(4), 5), (all) => idsOf(all.flat())),
          { concurrency: "unbounded" }
        ))
        const exits = yield* Effect.forEach(
          ids.toReversed(),
          (id) => Effect.map(Effect.exit(Queue.remove(queue, id)), (exit) => [id, exit] as const),
          { concurrency: 4 }
        )
        const taken = (yield* Fiber.join(taking)).flat()
        const removed = exits.flatMap(([id, exit]) => Exit.isSuccess(exit) ? [id] : [])
        assert.strictEqual(new Set(taken).size, taken.length)
        assert.deepStrictEqual([...taken, ...removed].toSorted(), ids.toSorted())
        assert.deepStrictEqual(yield* counted(queue), [0, 0, taken.length, 0])
      }))

    it.effect("a job that is promoted when it is due runs once", () =>
      Effect.gen(function*() {
        const queue = define("race-promote")
        const hand = yield* makeHand(queue)
        const ids = names("j", 40)
        yield* Effect.forEach(ids, (id, i) => Queue.enqueue(queue, { n: i }, { id, delay: 1 + i }), { discard: true })
        const promoting = yield* Effect.fork(Effect.forEach(
          ids.toReversed(),
          (id) => Effect.exit(Queue.promote(queue, id)),
          { concurrency: 4 }
        ))
        const taken: Array<string> = []
        yield* eventually(Effect.map(hand.take(5), (some) => {
          taken.push(...idsOf(some))
          return taken.length >= 40
        }))
        yield* Fiber.join(promoting)
        assert.deepStrictEqual(yield* hand.take(5), [])
        assert.deepStrictEqual(taken.toSorted(), ids.toSorted())
        assert.deepStrictEqual(yield* counted(queue), [0, 0, 40, 0])
      }))

    it.effect("of several who replay a letter one does", () =>
      Effect.gen(function*() {
        const queue = define("race-replay")
        const ids = names("j", 20)
        yield* bury(queue, ids)
        const others = yield* Layer.build(Layer.fresh(Queue.layer))
        const replay = Effect.forEach(ids, (id) => Effect.option(Queue.replay(queue, id)), { concurrency: 5 })
        const results = yield* Effect.all([
          replay,
          Effect.provide(replay, others),
          Effect.provide(
            Effect.map(Queue.replayWhere(queue, () => true), (n) => Array(n).fill(Option.some(1))),
            others
          )
        ], { concurrency: "unbounded" })
        assert.lengthOf(results.flat().filter(Option.isSome), 20)
        assert.deepStrictEqual(yield* counted(queue), [20, 0, 0, 0])
      }).pipe(Effect.scoped))
  })
}
