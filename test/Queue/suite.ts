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
  Option,
  Ref,
  Schedule,
  Schema,
  Scope
} from "effect"
import * as Queue from "../../src/Queue/index.js"
import { keysOf } from "../../src/Queue/keys.js"
import { RedisClient } from "../../src/RedisClient.js"
import type { RedisError } from "../../src/RedisError.js"
import { error, fresh, type Time, until } from "../kit/suites.js"

export const Task = Schema.Struct({ n: Schema.Number })

export type Task = typeof Task.Type

export const define = (text: string, options: Partial<Omit<Queue.Options<Task, Task>, "payload">> = {}) =>
  Queue.define({ name: fresh(text), payload: Task, backoff: () => 10, ...options })

/** What a handler was called with, in order. */
export const recorder = <A = Task>() => {
  const jobs: Array<Queue.Job<A>> = []
  return { jobs, record: (job: Queue.Job<A>) => Effect.sync(() => void jobs.push(job)) }
}

const numbers = (jobs: ReadonlyArray<Queue.Job<Task>>) => jobs.map(({ payload }) => payload.n)

/** A handler that waits until it is let go, and knows how many wait. */
export const gate = Effect.map(Deferred.make<void>(), (open) => {
  const jobs: Array<Queue.Job<Task>> = []
  const state = { waiting: 0, most: 0, interrupted: 0 }
  return {
    jobs,
    state,
    open: Deferred.succeed(open, undefined),
    handler: (job: Queue.Job<Task>) =>
      Effect.suspend(() => {
        jobs.push(job)
        state.waiting++
        state.most = Math.max(state.most, state.waiting)
        return Deferred.await(open)
      }).pipe(
        Effect.onInterrupt(() => Effect.sync(() => void state.interrupted++)),
        Effect.ensuring(Effect.sync(() => void state.waiting--))
      )
  }
})

const letterOf = (queue: Queue.Definition<Task>, id: string) =>
  Effect.flatMap(Queue.deadLetter(queue, id), Effect.orDie)

/** The keys of a queue that are there, without those that are always or end by themselves. */
export const keysLeft = (name: string) =>
  Effect.gen(function*() {
    const client = yield* RedisClient
    const { all, marker, meta, starts } = keysOf(name)
    const found = yield* client.pipeline(all.map((key) => ["EXISTS", client.key(key)] as const))
    return all.filter((key, i) =>
      Either.getOrElse(found[i]!, () => 0) === 1 && key !== meta && key !== marker && key !== starts
    )
  })

export const suite = (
  name: string,
  driver: Layer.Layer<RedisClient, RedisError>,
  options: { readonly excludeTestServices?: boolean },
  time: Time
) => {
  const { elapse } = time
  const eventually = until(time)
  const drained = (queue: string) => eventually(Effect.map(keysLeft(queue), (keys) => keys.length === 0))
  const holds = (condition: () => boolean) => eventually(Effect.sync(condition))

  layer(Layer.orDie(Layer.provideMerge(Queue.layer, driver)), options)(`Queue, ${name}`, (it) => {
    it.scoped("runs jobs that were added before there was a worker, in order, and leaves nothing", () =>
      Effect.gen(function*() {
        const queue = define("before")
        const { jobs, record } = recorder()
        for (let n = 0; n < 5; n++) yield* Queue.enqueue(queue, { n }, n % 2 === 0 ? {} : { id: `own ${n}` })
        yield* Queue.makeWorker(queue, record)
        yield* drained(queue.name)
        assert.deepStrictEqual(numbers(jobs), [0, 1, 2, 3, 4])
        assert.strictEqual(jobs[3]?.id, "own 3")
        assert.deepStrictEqual(jobs.map(({ attempt, attempts, priority }) => [attempt, attempts, priority]), [
          [1, 3, 0],
          [1, 3, 0],
          [1, 3, 0],
          [1, 3, 0],
          [1, 3, 0]
        ])
      }))

    it.scoped("runs jobs that come while workers are idle", () =>
      Effect.gen(function*() {
        const queue = define("idle")
        const { jobs, record } = recorder()
        yield* Queue.makeWorker(queue, record, { concurrency: 3 })
        yield* Queue.makeWorker(queue, record)
        for (let n = 0; n < 5; n++) {
          yield* elapse("20 millis")
          yield* Queue.enqueue(queue, { n })
          yield* holds(() => jobs.length === n + 1)
        }
        yield* drained(queue.name)
      }))

    it.scoped("several queues share what wakes workers", () =>
      Effect.gen(function*() {
        const queues = [define("many"), define("many"), define("many:{}%")]
        const { jobs, record } = recorder()
        for (const queue of queues) yield* Queue.makeWorker(queue, record)
        for (let n = 0; n < 9; n++) {
          yield* elapse("5 millis")
          yield* Queue.enqueue(queues[n % 3]!, { n })
          yield* holds(() => jobs.length === n + 1)
        }
        assert.deepStrictEqual(numbers(jobs), [0, 1, 2, 3, 4, 5, 6, 7, 8])
      }))

    it.scoped("a payload arrives as it was", () =>
      Effect.gen(function*() {
        const values: ReadonlyArray<unknown> = [
          0,
          -0.5,
          9007199254740991,
          "",
          "dunkel ✓ \n\t\"{}\u2028 \0",
          "\ud800 and \udfff alone",
          null,
          [],
          {},
          { a: [null, { b: "ä" }] }
        ]
        const queue = Queue.define({ name: fresh("payloads"), payload: Schema.Unknown })
        const { jobs, record } = recorder<unknown>()
        yield* Queue.enqueueAll(queue, values.map((payload) => ({ payload })))
        yield* Queue.makeWorker(queue, record)
        yield* drained(queue.name)
        assert.deepStrictEqual(jobs.map(({ payload }) => payload), values)

        const rich = Queue.define({
          name: fresh("rich"),
          payload: Schema.Struct({ at: Schema.Date, large: Schema.BigInt, set: Schema.ReadonlySet(Schema.String) })
        })
        const value = { at: new Date(1234567890123), large: 2n ** 80n, set: new Set(["a"]) }
        const seen = recorder<typeof value>()
        yield* Queue.enqueue(rich, value)
        yield* Queue.makeWorker(rich, (job) => seen.record(job as Queue.Job<typeof value>))
        yield* drained(rich.name)
        assert.deepStrictEqual(seen.jobs[0]?.payload, value)
      }))

    it.scoped("larger priorities come first, and equal ones in order; a retry keeps its own", () =>
      Effect.gen(function*() {
        const queue = define("priority", { backoff: () => 0 })
        const order: Array<string> = []
        yield* Queue.enqueueAll(
          queue,
          [0, 3, 1, 3, 0, 2].map((priority, n) => ({ payload: { n }, priority }))
        )
        yield* Queue.makeWorker(queue, (job) =>
          Effect.suspend(() => {
            order.push(`${job.payload.n}:${job.priority}`)
            return job.payload.n === 1 && job.attempt === 1 ? Effect.fail("again") : Effect.void
          }), { prefetch: 0 })
        yield* drained(queue.name)
        assert.deepStrictEqual(order, ["1:3", "3:3", "1:3", "5:2", "2:1", "0:0", "4:0"])
      }))

    it.scoped("runs as many at once as it may, and changes that while it works", () =>
      Effect.gen(function*() {
        const queue = define("concurrency")
        const { handler, jobs, open, state } = yield* gate
        yield* Queue.enqueueAll(queue, Array.from({ length: 12 }, (_, n) => ({ payload: { n } })))
        const worker = yield* Queue.makeWorker(queue, handler, { concurrency: 3 })
        yield* holds(() => jobs.length === 3)
        yield* worker.setConcurrency(5)
        yield* holds(() => jobs.length === 5)
        assert.strictEqual(yield* worker.running, 5)
        assert.strictEqual((yield* Queue.counts(queue)).running, 5)
        yield* worker.setConcurrency(2)
        assert.strictEqual((yield* error(worker.setConcurrency(0)))._tag, "RedisInputError")
        state.most = 0
        yield* open
        yield* drained(queue.name)
        assert.strictEqual(jobs.length, 12)
        assert.strictEqual(new Set(numbers(jobs)).size, 12)
      }))

    it.scoped("a slow job does not hold back the others, also when they were taken in advance", () =>
      Effect.gen(function*() {
        const queue = define("slow")
        const { handler, open, state } = yield* gate
        const { jobs, record } = recorder()
        const mixed = (job: Queue.Job<Task>) => job.payload.n === 20 ? handler(job) : record(job)
        yield* Queue.enqueueAll(queue, Array.from({ length: 60 }, (_, n) => ({ payload: { n } })))
        yield* Queue.makeWorker(queue, mixed)
        yield* holds(() => state.waiting === 1)
        const other = yield* Queue.makeWorker(queue, mixed)
        yield* holds(() => jobs.length === 59)
        assert.strictEqual(state.waiting, 1)
        yield* open
        yield* drained(queue.name)
        yield* other.stop
      }))

    it.scoped("every job runs once, and those that fail once twice, with several workers", () =>
      Effect.gen(function*() {
        const queue = define("once")
        const seen = new Map<number, number>()
        const handler = (job: Queue.Job<Task>) =>
          Effect.suspend(() => {
            seen.set(job.payload.n, (seen.get(job.payload.n) ?? 0) + 1)
            return job.payload.n % 3 === 0 && job.attempt === 1 ? Effect.fail("once") : Effect.void
          })
        for (let i = 0; i < 3; i++) yield* Queue.makeWorker(queue, handler, { concurrency: i + 1 })
        yield* Effect.forEach(Array.from({ length: 24 }, (_, n) => n), (n) => Queue.enqueue(queue, { n }), {
          concurrency: "unbounded"
        })
        yield* drained(queue.name)
        for (let n = 0; n < 24; n++) assert.strictEqual(seen.get(n), n % 3 === 0 ? 2 : 1, `job ${n}`)
        assert.deepStrictEqual((yield* Queue.status(queue)).totals, { completed: 24, failed: 8, dead: 0 })
      }))

    it.scoped("tries again after the backoff, and keeps the last error of what has no attempts left", () =>
      Effect.gen(function*() {
        const queue = define("retry", { attempts: 5 })
        const attempts: Array<number> = []
        const handler = (job: Queue.Job<Task>) =>
          Effect.suspend(() => {
            attempts.push(job.attempt)
            // @effect-diagnostics-next-line globalErrorInEffectFailure:off
            return Effect.fail(new Error(`no ${job.attempt}`))
          })
        yield* Queue.makeWorker(queue, handler)
        const { id } = yield* Queue.enqueue(queue, { n: 1 }, { attempts: 3, priority: 1 })
        yield* eventually(Effect.map(Queue.counts(queue), ({ dead }) => dead === 1))
        assert.deepStrictEqual(attempts, [1, 2, 3])
        const letter = yield* letterOf(queue, id)
        assert.strictEqual(letter.reason, "exhausted")
        assert.include(JSON.stringify(letter), "no 3")
        assert.deepStrictEqual(yield* Queue.counts(queue), {
          ready: 0,
          delayed: 0,
          blocked: 0,
          running: 0,
          dead: 1,
          completed: 0
        })
        yield* Queue.replay(queue, id)
        yield* eventually(Effect.sync(() => attempts.length > 3))
      }))

    it.scoped("defects and timeouts are failed attempts", () =>
      Effect.gen(function*() {
        const queue = define("defects", { timeout: "100 millis", attempts: 2 })
        const errors: Array<unknown> = []
        yield* Queue.makeWorker(queue, (job) =>
          job.payload.n === 0
            ? Effect.die(new Error("broken"))
            : job.payload.n === 1
            ? Effect.never
            : job.payload.n === 2
            ? Effect.interrupt
            : (() => {
              throw new Error("thrown")
            })(), {
          concurrency: 4,
          backoff: (error) => {
            errors.push(error)
            return 1
          }
        })
        yield* Queue.enqueueAll(queue, [0, 1, 2, 3].map((n) => ({ payload: { n }, id: String(n) })))
        yield* eventually(Effect.map(Queue.counts(queue), ({ dead }) => dead === 4))
        assert.strictEqual(errors.length, 4)
        assert.isTrue(errors.some((error) => error instanceof Queue.JobTimedOut))
        assert.strictEqual((yield* letterOf(queue, "1")).reason, "exhausted")
        assert.include(JSON.stringify(yield* letterOf(queue, "1")), "JobTimedOut")
        assert.include(JSON.stringify(yield* letterOf(queue, "3")), "thrown")
      }))

    it.scoped("a result that is none, or too large, is a failed attempt", () =>
      Effect.gen(function*() {
        const queue = Queue.define({
          name: fresh("bad-results"),
          payload: Task,
          result: Schema.NonEmptyString,
          maxPayload: 50,
          attempts: 2,
          backoff: () => 1
        })
        const results = ["", "x".repeat(100), "fine"]
        const errors: Array<unknown> = []
        yield* Queue.makeWorker(queue, ({ payload }) => Effect.succeed(results[payload.n]!), {
          backoff: (error) => {
            errors.push(error)
            return 1
          }
        })
        yield* Queue.enqueueAll(queue, [0, 1, 2].map((n) => ({ payload: { n }, id: String(n) })))
        yield* eventually(
          Effect.map(Queue.status(queue), ({ counts, totals }) => counts.dead === 2 && totals.completed === 1)
        )
        assert.strictEqual(errors.filter((error) => error instanceof Queue.JobResultInvalid).length, 2)
        for (const id of ["0", "1"]) {
          const letter = yield* Effect.flatMap(Queue.deadLetter(queue, id), Effect.orDie)
          assert.strictEqual(letter.reason, "exhausted")
          assert.include(JSON.stringify(letter), "JobResultInvalid")
        }
      }))

    it.scoped("a handler can say that there is no use in trying again, and so can the queue and the worker", () =>
      Effect.gen(function*() {
        const queue = define("unrecoverable", { retryable: (error) => error !== "queue" })
        const { jobs, record } = recorder()
        const errors = [Queue.unrecoverable("gone"), "queue", "worker"] as const
        yield* Queue.makeWorker(
          queue,
          (job) => Effect.zipRight(record(job), Effect.fail(errors[job.payload.n]!)),
          { retryable: (error) => error !== "worker" }
        )
        yield* Queue.enqueueAll(queue, [0, 1, 2].map((n) => ({ payload: { n }, id: String(n) })))
        yield* eventually(Effect.map(Queue.counts(queue), ({ dead }) => dead === 3))
        assert.strictEqual(jobs.length, 3)
        for (const id of ["0", "1", "2"]) {
          assert.strictEqual((yield* letterOf(queue, id)).reason, "unrecoverable")
        }
        assert.include(JSON.stringify(yield* letterOf(queue, "0")), "gone")
      }))

    it.scoped("a postponed job comes again, at once to the front, and that is no attempt", () =>
      Effect.gen(function*() {
        const queue = define("postponed", { attempts: 1 })
        const order: Array<string> = []
        const times = new Map<number, number>()
        yield* Queue.enqueueAll(queue, [0, 1, 2].map((n) => ({ payload: { n } })))
        yield* Queue.makeWorker(queue, ({ attempt, payload: { n } }) =>
          Effect.suspend(() => {
            const time = times.get(n) ?? 0
            times.set(n, time + 1)
            order.push(`${n}:${attempt}`)
            return n === 0 && time < 3
              ? Queue.postpone(0)
              : n === 1 && time === 0
              ? Queue.postpone("30 millis")
              : Effect.void
          }), { prefetch: 0 })
        yield* drained(queue.name)
        assert.deepStrictEqual(order, ["0:1", "0:1", "0:1", "0:1", "1:1", "2:1", "1:1"])
        assert.strictEqual((yield* Queue.counts(queue)).dead, 0)
      }))

    it.scoped("a delayed job does not start before it is due, and does not hold back others", () =>
      Effect.gen(function*() {
        const client = yield* RedisClient
        const queue = define("delay")
        const millis = Effect.map(client.send("TIME"), (time) => {
          const [seconds, micros] = time as readonly [string, string]
          return Number(seconds) * 1000 + Number(micros) / 1000
        })
        const started: Array<readonly [n: number, at: number]> = []
        yield* Queue.makeWorker(
          queue,
          ({ payload: { n } }) => Effect.orDie(Effect.map(millis, (at) => void started.push([n, at]))),
          { concurrency: 4 }
        )
        yield* elapse("20 millis")
        const before = yield* millis
        // At one moment, so that a pause of this process changes no order.
        yield* Queue.enqueueAll(queue, [
          { payload: { n: 0 }, delay: "365 days" },
          { payload: { n: 3 }, delay: "90 millis" },
          { payload: { n: 2 }, delay: "60 millis" },
          { payload: { n: 4 }, at: DateTime.unsafeMake(Math.ceil(before) + 1500) },
          { payload: { n: 1 } }
        ])
        yield* holds(() => started.length === 4)
        assert.deepStrictEqual(started.map(([n]) => n), [1, 2, 3, 4])
        for (const [n, at] of started) assert.isAtLeast(at, before + [0, 0, 60, 90, 1499][n]!, `job ${n}`)
        assert.deepStrictEqual(yield* Queue.counts(queue), {
          ready: 0,
          delayed: 1,
          blocked: 0,
          running: 0,
          dead: 0,
          completed: 0
        })
      }))

    it.scoped("jobs that are due at the same time come in the order in which they were added", () =>
      Effect.gen(function*() {
        const queue = define("equals")
        const { jobs, record } = recorder()
        const client = yield* RedisClient
        const now = Number(((yield* client.send("TIME")) as ReadonlyArray<string>)[0]) * 1000
        const at = DateTime.unsafeMake(now + 1500)
        yield* Queue.enqueueAll(
          queue,
          Array.from({ length: 20 }, (_, n) => ({ payload: { n }, at, ...(n % 3 === 0 && { id: `z${20 - n}` }) }))
        )
        for (let n = 20; n < 25; n++) yield* Queue.enqueue(queue, { n }, { at })
        yield* elapse("1600 millis")
        yield* Queue.makeWorker(queue, record)
        yield* drained(queue.name)
        assert.deepStrictEqual(numbers(jobs), Array.from({ length: 25 }, (_, n) => n))
      }))

    it.scoped("an id that is there already is dropped, also when many come at once", () =>
      Effect.gen(function*() {
        const queue = define("ids")
        const results = yield* Effect.forEach(
          Array.from({ length: 20 }, (_, n) => n),
          (n) => Queue.enqueue(queue, { n }, { id: "same ✓" }),
          { concurrency: "unbounded" }
        )
        assert.strictEqual(results.filter(({ outcome }) => outcome === "added").length, 1)
        assert.isTrue(results.every(({ id }) => id === "same ✓"))
        assert.deepStrictEqual(
          yield* Queue.enqueueAll(queue, [
            { payload: { n: 1 }, id: "a" },
            { payload: { n: 2 }, id: "same ✓", delay: "1 hour" },
            { payload: { n: 3 }, id: "a" }
          ]),
          [
            { id: "a", outcome: "added" },
            { id: "same ✓", outcome: "duplicate" },
            { id: "a", outcome: "duplicate" }
          ]
        )
        const { jobs, record } = recorder()
        yield* Queue.makeWorker(queue, record)
        yield* drained(queue.name)
        assert.deepStrictEqual(numbers(jobs), [results.findIndex(({ outcome }) => outcome === "added"), 1])
        // When it is complete the id is free.
        assert.strictEqual((yield* Queue.enqueue(queue, { n: 9 }, { id: "a" })).outcome, "added")
        yield* drained(queue.name)
      }))

    it.scoped("equal ids in two queues have nothing to do with each other", () =>
      Effect.gen(function*() {
        const [one, two] = [define("two"), define("two")]
        const { handler, jobs, open } = yield* gate
        for (const queue of [one, two]) {
          assert.strictEqual((yield* Queue.enqueue(queue, { n: 1 }, { id: "x" })).outcome, "added")
          yield* Queue.makeWorker(queue, handler)
        }
        yield* holds(() => jobs.length === 2)
        yield* open
        yield* drained(one.name)
        yield* drained(two.name)
      }))

    it.scoped("until-finished drops what comes while the job is there", () =>
      Effect.gen(function*() {
        const queue = define("unfinished")
        const { handler, jobs, open } = yield* gate
        const deduplicate = { key: "user:1 {x}", mode: "until-finished" } as const
        const first = yield* Queue.enqueue(queue, { n: 0 }, { deduplicate })
        const dropped = { id: first.id, outcome: "duplicate" as const }
        assert.deepStrictEqual(yield* Queue.enqueue(queue, { n: 1 }, { deduplicate }), dropped)
        yield* Queue.makeWorker(queue, handler)
        yield* holds(() => jobs.length === 1)
        assert.deepStrictEqual(yield* Queue.enqueue(queue, { n: 2 }, { deduplicate }), dropped)
        yield* open
        yield* drained(queue.name)
        assert.strictEqual((yield* Queue.enqueue(queue, { n: 3 }, { deduplicate })).outcome, "added")
        yield* drained(queue.name)
        assert.deepStrictEqual(numbers(jobs), [0, 3])
      }))

    it.scoped("a window drops for its time, whatever becomes of the job", () =>
      Effect.gen(function*() {
        const queue = define("window")
        const { jobs, record } = recorder()
        const deduplicate = { key: "k", mode: "window", ttl: "2 seconds" } as const
        yield* Queue.makeWorker(queue, record)
        yield* Queue.enqueue(queue, { n: 0 }, { deduplicate })
        yield* eventually(Effect.map(Queue.counts(queue), ({ ready, running }) => ready + running === 0))
        assert.strictEqual((yield* Queue.enqueue(queue, { n: 1 }, { deduplicate })).outcome, "duplicate")
        yield* elapse("2100 millis")
        assert.strictEqual((yield* Queue.enqueue(queue, { n: 2 }, { deduplicate })).outcome, "added")
        yield* holds(() => jobs.length === 2)
        // Removing the job frees the key at once.
        const other = { key: "other", mode: "window", ttl: "1 hour" } as const
        const { id } = yield* Queue.enqueue(queue, { n: 3 }, { deduplicate: other, delay: "1 hour" })
        assert.strictEqual((yield* Queue.enqueue(queue, { n: 4 }, { deduplicate: other })).outcome, "duplicate")
        yield* Queue.remove(queue, id)
        assert.strictEqual((yield* Queue.enqueue(queue, { n: 5 }, { deduplicate: other })).outcome, "added")
        yield* holds(() => jobs.length === 3)
        assert.deepStrictEqual(numbers(jobs), [0, 2, 5])
      }))

    it.scoped("replace-delayed takes the place of a job that is delayed, and of no other", () =>
      Effect.gen(function*() {
        const queue = define("replace")
        const { handler, jobs, open } = yield* gate
        const deduplicate = { key: "k", mode: "replace-delayed" } as const
        const first = yield* Queue.enqueue(queue, { n: 0 }, { deduplicate, delay: "1 hour", priority: 2 })
        const second = yield* Queue.enqueue(queue, { n: 1 }, { deduplicate, delay: "2 hours" })
        assert.strictEqual(second.outcome, "replaced")
        assert.notStrictEqual(second.id, first.id)
        assert.strictEqual((yield* Queue.enqueue(queue, { n: 2 }, { deduplicate })).outcome, "replaced")
        assert.deepStrictEqual(yield* Queue.counts(queue), {
          ready: 1,
          delayed: 0,
          blocked: 0,
          running: 0,
          dead: 0,
          completed: 0
        })
        assert.strictEqual((yield* Queue.enqueue(queue, { n: 3 }, { deduplicate })).outcome, "duplicate")
        yield* Queue.makeWorker(queue, handler)
        yield* holds(() => jobs.length === 1)
        assert.strictEqual((yield* Queue.enqueue(queue, { n: 4 }, { deduplicate })).outcome, "duplicate")
        yield* open
        yield* drained(queue.name)
        assert.deepStrictEqual(jobs.map(({ payload, priority }) => [payload.n, priority]), [[2, 0]])
      }))

    it.scoped("keep-last runs the last one after the running one, never beside it", () =>
      Effect.gen(function*() {
        const queue = define("keep")
        const { handler, jobs, open, state } = yield* gate
        const deduplicate = { key: "k", mode: "keep-last" } as const
        const add = (n: number) => Effect.map(Queue.enqueue(queue, { n }, { deduplicate }), ({ outcome }) => outcome)
        assert.strictEqual(yield* add(0), "added")
        assert.strictEqual(yield* add(1), "replaced")
        yield* Queue.makeWorker(queue, handler, { concurrency: 3 })
        yield* holds(() => jobs.length === 1)
        for (let n = 2; n < 6; n++) assert.strictEqual(yield* add(n), "kept")
        yield* open
        yield* drained(queue.name)
        assert.deepStrictEqual(numbers(jobs), [1, 5])
        assert.strictEqual(state.most, 1)
      }))

    it.scoped("what follows a running job comes also when that fails, is tried again, or dies", () =>
      Effect.gen(function*() {
        const queue = define("follow", { attempts: 2 })
        const { jobs, record } = recorder()
        const go = yield* Deferred.make<void>()
        const deduplicate = { key: "k", mode: "keep-last" } as const
        yield* Queue.makeWorker(
          queue,
          (job) =>
            record(job).pipe(
              Effect.zipRight(Deferred.await(go)),
              Effect.zipRight(job.payload.n === 0 ? Effect.fail("no") : Effect.void)
            ),
          { concurrency: 2 }
        )
        yield* Queue.enqueue(queue, { n: 0 }, { deduplicate })
        yield* holds(() => jobs.length === 1)
        yield* Queue.enqueue(queue, { n: 1 }, { deduplicate, priority: 3, id: "own" })
        yield* Deferred.succeed(go, undefined)
        yield* eventually(
          Effect.map(Queue.counts(queue), ({ dead, ready, running }) => dead === 1 && ready + running === 0)
        )
        assert.deepStrictEqual(
          jobs.map(({ attempt, id, payload, priority }) => [payload.n, attempt, priority, id === "own"]),
          [
            [0, 1, 0, false],
            [0, 2, 0, false],
            [1, 1, 3, true]
          ]
        )
      }))

    it.scoped("all of several jobs are added, or none", () =>
      Effect.gen(function*() {
        const queue = define("all", { maxSize: 5 })
        const batch = (length: number) =>
          Queue.enqueueAll(queue, Array.from({ length }, (_, n) => ({ payload: { n } })))
        const full = yield* error(batch(6))
        assert.instanceOf(full, Queue.QueueFull)
        assert.deepStrictEqual(yield* Queue.counts(queue), {
          ready: 0,
          delayed: 0,
          blocked: 0,
          running: 0,
          dead: 0,
          completed: 0
        })
        assert.strictEqual((yield* batch(4)).length, 4)
        yield* error(batch(2))
        yield* Queue.enqueue(queue, { n: 5 }, { delay: "1 hour", id: "last" })
        assert.strictEqual((yield* error(Queue.enqueue(queue, { n: 6 })))._tag, "QueueFull")
        // It is there, so it needs no room.
        assert.strictEqual((yield* Queue.enqueue(queue, { n: 6 }, { id: "last" })).outcome, "duplicate")
        assert.strictEqual(
          (yield* Queue.enqueueAll(queue, [{ payload: { n: 6 }, id: "last" }]))[0]?.outcome,
          "duplicate"
        )
        assert.deepStrictEqual(yield* Queue.counts(queue), {
          ready: 4,
          delayed: 1,
          blocked: 0,
          running: 0,
          dead: 0,
          completed: 0
        })
        const one = yield* error(
          Queue.enqueueAll(define("bad"), [{ payload: { n: 1 } }, { payload: { n: 1 }, id: "" }])
        )
        assert.strictEqual(one._tag, "RedisInputError")
        assert.deepStrictEqual(yield* Queue.enqueueAll(queue, []), [])
      }))

    it.scoped("ten thousand at once, and no more", () =>
      Effect.gen(function*() {
        const queue = define("bulk")
        const jobs = Array.from({ length: 10_000 }, (_, n) => ({ payload: { n }, priority: n % 2 }))
        yield* Queue.enqueueAll(queue, jobs)
        assert.strictEqual((yield* Queue.counts(queue)).ready, 10_000)
        assert.strictEqual((yield* error(Queue.enqueueAll(queue, [...jobs, ...jobs])))._tag, "RedisInputError")
        let sum = 0
        yield* Queue.makeWorker(queue, ({ payload }) => Effect.sync(() => void (sum += payload.n)), {
          concurrency: 3000
        })
        yield* eventually(
          Effect.zipRight(elapse("20 millis"), Effect.map(keysLeft(queue.name), (keys) => keys.length === 0))
        )
        assert.strictEqual(sum, 10_000 * 9999 / 2)
      }))

    it.scoped("what is not acceptable is refused before anything is sent", () =>
      Effect.gen(function*() {
        const queue = define("refused", { maxPayload: 20 })
        const wrong: ReadonlyArray<Queue.EnqueueOptions> = [
          { id: "" },
          { id: "a\0b" },
          { id: "\ud800" },
          { id: "x".repeat(257) },
          { priority: 4 },
          { priority: -1 },
          { priority: 0.5 },
          { attempts: 0 },
          { delay: -1 },
          { delay: "1 second", at: DateTime.unsafeMake(0) },
          { timeout: 0 },
          { deadline: Duration.infinity },
          { deduplicate: { key: "", mode: "keep-last" } },
          { deduplicate: { key: "k", mode: "window", ttl: 0 } }
        ]
        for (const options of wrong) {
          assert.strictEqual(
            (yield* error(Queue.enqueue(queue, { n: 1 }, options)))._tag,
            "RedisInputError",
            JSON.stringify(options)
          )
        }
        const large = yield* error(Queue.enqueue(queue, { n: 1.2345678901234567e-100 }))
        assert.instanceOf(large, Queue.PayloadTooLarge)
        assert.strictEqual((yield* error(Queue.enqueue(queue, { n: "secret" } as never)))._tag, "RedisInputError")
        const bad = [
          define("", {}),
          Queue.define({ name: "", payload: Task }),
          define("bad", { attempts: 0 }),
          define("bad", { priorities: 9 }),
          define("bad", { maxSize: 0 }),
          define("bad", { lease: 0 }),
          define("bad", { deadLetters: { count: -1 } })
        ].slice(1)
        for (const definition of bad) {
          assert.strictEqual((yield* error(Queue.enqueue(definition, { n: 1 })))._tag, "RedisInputError")
          assert.strictEqual(
            (yield* error(Effect.scoped(Queue.makeWorker(definition, () => Effect.void))))._tag,
            "RedisInputError"
          )
        }
        for (const options of [{ concurrency: 0 }, { prefetch: -1 }, { drain: -1 }]) {
          assert.strictEqual(
            (yield* error(Effect.scoped(Queue.makeWorker(queue, () => Effect.void, options))))._tag,
            "RedisInputError"
          )
        }
        assert.deepStrictEqual(yield* keysLeft(queue.name), [])
      }))

    it.scoped("a payload of another shape becomes a dead letter at once, and the next job runs", () =>
      Effect.gen(function*() {
        const queue = define("undecodable")
        const other = Queue.define({ name: queue.name, payload: Schema.Struct({ secret: Schema.String }) })
        const client = yield* RedisClient
        const { jobs, record } = recorder()
        const { id } = yield* Queue.enqueue(other, { secret: "hunter2" })
        yield* Queue.enqueue(queue, { n: 1 }, { id: "broken" })
        yield* Queue.enqueue(queue, { n: 2 })
        yield* client.send("HSET", client.key(keysOf(queue.name).jobs), "broken", "{")
        yield* Queue.makeWorker(queue, record)
        yield* holds(() => jobs.length === 1)
        yield* eventually(Effect.map(Queue.counts(queue), ({ dead }) => dead === 2))
        assert.deepStrictEqual(numbers(jobs), [2])
        for (const each of [id, "broken"]) {
          const letter = yield* letterOf(queue, each)
          assert.strictEqual(letter.reason, "undecodable")
          assert.notInclude(JSON.stringify(letter), "hunter2")
        }
      }))

    it.scoped("a job that was not started in time is not started at all, and one that runs is interrupted", () =>
      Effect.gen(function*() {
        const queue = define("deadline")
        const { handler, jobs, state } = yield* gate
        yield* Queue.enqueue(queue, { n: 0 }, { id: "late", deadline: "100 millis" })
        yield* Queue.enqueue(queue, { n: 1 }, { id: "gone", deadline: DateTime.unsafeMake(0) })
        yield* elapse("200 millis")
        yield* Queue.makeWorker(queue, handler, { concurrency: 5 })
        yield* eventually(Effect.map(Queue.counts(queue), ({ dead }) => dead === 2))
        assert.strictEqual(jobs.length, 0)
        yield* Queue.enqueue(queue, { n: 2 }, { id: "running", deadline: "500 millis" })
        yield* holds(() => state.waiting === 1)
        yield* eventually(Effect.map(Queue.counts(queue), ({ dead }) => dead === 3))
        assert.strictEqual(state.interrupted, 1)
        for (const id of ["late", "gone", "running"]) {
          assert.strictEqual((yield* letterOf(queue, id)).reason, "deadline")
        }
      }))

    it.scoped("the end of a worker lets handlers go on for a while, and gives the others back without an attempt", () =>
      Effect.gen(function*() {
        const queue = define("stop", { attempts: 1 })
        const scope = yield* Scope.make()
        const { handler, jobs, open, state } = yield* gate
        const worker = yield* Scope.extend(
          Queue.makeWorker(queue, handler, { concurrency: 2, prefetch: 3, drain: "1 hour" }),
          scope
        )
        yield* Queue.enqueueAll(queue, Array.from({ length: 8 }, (_, n) => ({ payload: { n } })))
        yield* holds(() => state.waiting === 2)
        yield* eventually(Effect.map(Queue.counts(queue), ({ running }) => running === 5))
        const closing = yield* Effect.fork(Scope.close(scope, Exit.void))
        yield* eventually(Effect.map(Queue.counts(queue), ({ running }) => running === 2))
        assert.deepStrictEqual(yield* Queue.counts(queue), {
          ready: 6,
          delayed: 0,
          blocked: 0,
          running: 2,
          dead: 0,
          completed: 0
        })
        yield* open
        yield* Fiber.join(closing)
        yield* worker.stop
        assert.strictEqual(state.interrupted, 0)
        assert.deepStrictEqual(yield* Queue.counts(queue), {
          ready: 6,
          delayed: 0,
          blocked: 0,
          running: 0,
          dead: 0,
          completed: 0
        })
        yield* Queue.makeWorker(queue, handler)
        yield* drained(queue.name)
        assert.deepStrictEqual(numbers(jobs), [0, 1, 2, 3, 4, 5, 6, 7])
        assert.isTrue(jobs.every(({ attempt }) => attempt === 1))
      }))

    it.scoped("a handler that is interrupted at the end gives its job back, also at its last attempt", () =>
      Effect.gen(function*() {
        const queue = define("interrupted", { attempts: 1 })
        const { handler, jobs, state } = yield* gate
        const worker = yield* Queue.makeWorker(queue, handler, { drain: 0 })
        yield* Queue.enqueue(queue, { n: 0 })
        yield* holds(() => state.waiting === 1)
        yield* worker.stop
        assert.strictEqual(state.interrupted, 1)
        assert.deepStrictEqual(yield* Queue.counts(queue), {
          ready: 1,
          delayed: 0,
          blocked: 0,
          running: 0,
          dead: 0,
          completed: 0
        })
        const again = recorder()
        yield* Queue.makeWorker(queue, again.record)
        yield* drained(queue.name)
        assert.deepStrictEqual([jobs[0]?.attempt, again.jobs[0]?.attempt], [1, 1])
      }))

    it.scoped("a paused worker takes nothing, waits for what runs, and leaves the rest to others", () =>
      Effect.gen(function*() {
        const queue = define("paused")
        const { handler, jobs, open, state } = yield* gate
        const worker = yield* Queue.makeWorker(queue, handler, { prefetch: 5 })
        yield* Queue.enqueueAll(queue, [0, 1, 2].map((n) => ({ payload: { n } })))
        yield* holds(() => state.waiting === 1)
        const pausing = yield* Effect.fork(worker.pause)
        yield* eventually(worker.isPaused)
        yield* eventually(Effect.map(Queue.counts(queue), ({ ready }) => ready === 2))
        assert.isTrue(Option.isNone(yield* Fiber.poll(pausing)))
        yield* open
        yield* Fiber.join(pausing)
        assert.strictEqual(jobs.length, 1)
        const other = recorder()
        const second = yield* Queue.makeWorker(queue, other.record)
        yield* drained(queue.name)
        assert.deepStrictEqual(numbers(other.jobs), [1, 2])
        yield* second.stop
        yield* Queue.enqueue(queue, { n: 3 })
        yield* worker.resume
        yield* drained(queue.name)
        assert.deepStrictEqual(numbers(jobs), [0, 3])
      }))

    it.scoped("what a handler acquires is released when the attempt ends", () =>
      Effect.gen(function*() {
        const queue = define("resources")
        const open = yield* Ref.make(0)
        const most = yield* Ref.make(0)
        yield* Queue.makeWorker(queue, () =>
          Effect.acquireRelease(
            Effect.flatMap(Ref.updateAndGet(open, (n) => n + 1), (n) => Ref.update(most, (m) => Math.max(m, n))),
            () => Ref.update(open, (n) => n - 1)
          ))
        yield* Queue.enqueueAll(queue, Array.from({ length: 10 }, (_, n) => ({ payload: { n } })))
        yield* drained(queue.name)
        assert.deepStrictEqual([yield* Ref.get(open), yield* Ref.get(most)], [0, 1])
      }))

    it.scoped("a handler tells its progress", () =>
      Effect.gen(function*() {
        const queue = define("progress")
        const { handler, open } = yield* gate
        const circular: { self?: unknown } = {}
        circular.self = circular
        const refused: Array<string> = []
        yield* Queue.makeWorker(queue, (job) =>
          Effect.gen(function*() {
            refused.push((yield* error(job.progress(circular)))._tag, (yield* error(job.progress(undefined)))._tag)
            assert.isTrue(yield* job.progress({ percent: 50 }))
            yield* handler(job)
          }))
        yield* Queue.enqueue(queue, { n: 1 }, { id: "job" })
        yield* eventually(Effect.map(Queue.progress(queue, "job"), Option.isSome))
        assert.deepStrictEqual(yield* Queue.progress(queue, "job"), Option.some({ percent: 50 }))
        assert.deepStrictEqual(refused, ["RedisInputError", "RedisInputError"])
        yield* open
        yield* drained(queue.name)
      }))

    it.scoped("somebody else's cancellation interrupts the handler, and there is no further attempt", () =>
      Effect.gen(function*() {
        const queue = define("cancel")
        const { handler, jobs, state } = yield* gate
        yield* Queue.makeWorker(queue, handler)
        yield* Queue.enqueue(queue, { n: 1 }, { id: "job" })
        yield* holds(() => state.waiting === 1)
        assert.isTrue(yield* Queue.cancel(queue, "job"))
        yield* eventually(Effect.map(Queue.counts(queue), ({ dead }) => dead === 1))
        assert.strictEqual((yield* letterOf(queue, "job")).reason, "cancelled")
        assert.strictEqual(state.interrupted, 1)
        assert.strictEqual(jobs.length, 1)
        assert.isFalse(yield* Queue.cancel(queue, "job"))
      }))

    it.scoped("bad schedules end, and good ones are gone through step by step", () =>
      Effect.gen(function*() {
        const queue = define("schedule", {
          attempts: 10,
          backoff: Schedule.intersect(Schedule.exponential("5 millis"), Schedule.recurs(3))
        })
        const attempts: Array<number> = []
        yield* Queue.makeWorker(queue, ({ attempt }) =>
          Effect.suspend(() => {
            attempts.push(attempt)
            return Effect.fail("no")
          }))
        const { id } = yield* Queue.enqueue(queue, { n: 1 })
        yield* eventually(Effect.map(Queue.counts(queue), ({ dead }) => dead === 1))
        assert.deepStrictEqual(attempts, [1, 2, 3, 4])
        assert.strictEqual((yield* letterOf(queue, id)).reason, "exhausted")
      }))
  })
}
