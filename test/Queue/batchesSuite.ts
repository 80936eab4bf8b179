import { assert, layer } from "@effect/vitest"
import { Deferred, Effect, Either, Exit, Fiber, Layer, Logger, LogLevel, Option, Schema, Scope } from "effect"
import * as Queue from "../../src/Queue/index.js"
import { keysOf } from "../../src/Queue/keys.js"
import { RedisClient } from "../../src/RedisClient.js"
import type { RedisError } from "../../src/RedisError.js"
import { error, fresh, type Time, until } from "../kit/suites.js"
import { define, keysLeft, Task } from "./suite.js"

type Jobs = ReadonlyArray<Queue.Job<Task>>

const numbers = (jobs: Jobs) => jobs.map(({ payload }) => payload.n)

/** What a handler was called with, in order. */
const recorder = () => {
  const batches: Array<Jobs> = []
  return { batches, record: (jobs: Jobs) => Effect.sync(() => void batches.push(jobs)) }
}

/** A handler that waits until it is let go. */
const gate = Effect.map(Deferred.make<void>(), (open) => {
  const batches: Array<Jobs> = []
  const state = { waiting: 0, most: 0, interrupted: 0 }
  return {
    batches,
    state,
    open: Deferred.succeed(open, undefined),
    handler: (jobs: Jobs) =>
      Effect.suspend(() => {
        batches.push(jobs)
        state.waiting++
        state.most = Math.max(state.most, state.waiting)
        return Deferred.await(open)
      }).pipe(
        Effect.onInterrupt(() => Effect.sync(() => void state.interrupted++)),
        Effect.ensuring(Effect.sync(() => void state.waiting--))
      )
  }
})

const add = (queue: Queue.Definition<Task, any>, count: number, options: Queue.EnqueueOptions = {}, first = 0) =>
  Queue.enqueueAll(queue, Array.from({ length: count }, (_, i) => ({ ...options, payload: { n: first + i } })))

export const batchesSuite = (
  name: string,
  driver: Layer.Layer<RedisClient, RedisError>,
  options: { readonly excludeTestServices?: boolean },
  time: Time
) => {
  const { elapse } = time
  const eventually = until(time)
  const drained = (queue: string) => eventually(Effect.map(keysLeft(queue), (keys) => keys.length === 0))
  const holds = (condition: () => boolean) => eventually(Effect.sync(condition))

  const services = Layer.provideMerge(
    Layer.orDie(Layer.provideMerge(Queue.layer, driver)),
    Logger.minimumLogLevel(LogLevel.Error)
  )

  layer(services, options)(`batches, ${name}`, (it) => {
    it.scoped("full ones start at once, and the rest when the first of it has waited", () =>
      Effect.gen(function*() {
        const queue = define("sizes")
        yield* add(queue, 7)
        const { batches, record } = recorder()
        yield* Queue.makeBatchWorker(queue, record, { size: 3, within: "400 millis" })
        yield* holds(() => batches.length === 2)
        yield* drained(queue.name)
        assert.deepStrictEqual(batches.map(numbers), [[0, 1, 2], [3, 4, 5], [6]])
        assert.deepStrictEqual(batches[2]?.map(({ attempt, attempts, priority }) => [attempt, attempts, priority]), [[
          1,
          3,
          0
        ]])
      }))

    it.scoped("jobs that come one by one are handled together", () =>
      Effect.gen(function*() {
        const queue = define("trickle")
        const { batches, record } = recorder()
        yield* Queue.makeBatchWorker(queue, record, { size: 5, within: "1 hour" })
        for (let n = 0; n < 10; n++) {
          yield* Queue.enqueue(queue, { n })
          yield* elapse("5 millis")
        }
        yield* drained(queue.name)
        assert.deepStrictEqual(batches.map(numbers), [[0, 1, 2, 3, 4], [5, 6, 7, 8, 9]])
      }))

    it.scoped("a batch of one, and no patience at all", () =>
      Effect.gen(function*() {
        const queue = define("one")
        const { batches, record } = recorder()
        yield* Queue.makeBatchWorker(queue, record, { size: 1, within: "1 hour" })
        yield* add(queue, 3)
        yield* drained(queue.name)
        assert.deepStrictEqual(batches.map(numbers), [[0], [1], [2]])
        const hasty = define("hasty")
        yield* add(hasty, 4)
        yield* Queue.makeBatchWorker(hasty, record, { size: 100, within: 0 })
        yield* drained(hasty.name)
        assert.deepStrictEqual(batches.slice(3).flatMap(numbers), [0, 1, 2, 3])
      }))

    it.scoped("each job has an outcome of its own", () =>
      Effect.gen(function*() {
        const queue = define("outcomes", { attempts: 2 })
        yield* Queue.enqueueAll(queue, Array.from({ length: 5 }, (_, n) => ({ id: `j${n}`, payload: { n } })))
        const seen: Array<ReadonlyArray<readonly [number, number]>> = []
        yield* Queue.makeBatchWorker(
          queue,
          (jobs) => {
            seen.push(jobs.map(({ attempt, payload }) => [payload.n, attempt]))
            return Queue.batchFailures(jobs, ({ attempt, payload: { n } }) =>
              n === 1
                ? "always"
                : n === 2
                ? Queue.unrecoverable("never again")
                : n === 3 && seen.length === 1
                ? Queue.postpone(0)
                : n === 4 && attempt === 1
                ? "once"
                : undefined)
          },
          { size: 5, within: "30 millis" }
        )
        yield* eventually(Effect.map(Queue.counts(queue), ({ dead, delayed, ready, running }) =>
          dead === 2 && delayed + ready + running === 0))
        assert.deepStrictEqual(seen[0], [[0, 1], [1, 1], [2, 1], [3, 1], [4, 1]])
        const attemptsOf = (n: number) =>
          seen.flat().filter(([m]) => m === n).map(([, attempt]) => attempt)
        assert.deepStrictEqual([0, 1, 2, 3, 4].map(attemptsOf), [[1], [1, 2], [1], [1, 1], [1, 2]])
        const { letters } = yield* Queue.deadLetters(queue)
        assert.deepStrictEqual(
          letters.map(({ error, failures, id, reason }) => [id, reason, Option.getOrNull(error), failures]).toSorted(),
          [["j1", "exhausted", "always", 2], ["j2", "unrecoverable", "never again", 1]]
        )
        const { totals } = yield* Queue.status(queue)
        assert.strictEqual(totals.completed, 3)
      }))

    it.scoped("when the handler fails, all of its jobs do; `retryable` sees the errors of jobs", () =>
      Effect.gen(function*() {
        const queue = define("whole", { attempts: 2 })
        yield* add(queue, 3)
        let calls = 0
        yield* Queue.makeBatchWorker(queue, (jobs) => {
          calls++
          if (calls === 1) return Effect.die(new Error("broken"))
          return calls === 2 ? Effect.fail("again") : Effect.sync(() => assert.fail(`${jobs.length} more`))
        }, { size: 3, within: "1 hour" })
        yield* eventually(Effect.map(Queue.deadLetterCount(queue), (n) => n === 3))
        assert.strictEqual(calls, 2)

        const picky = define("picky")
        yield* add(picky, 2)
        const errors: Array<string> = []
        yield* Queue.makeBatchWorker(picky, (jobs) => Queue.batchFailures(jobs.map((job) => [job, "no"])), {
          size: 2,
          within: "1 hour",
          retryable: (error) => {
            errors.push(error)
            return false
          }
        })
        yield* eventually(Effect.map(Queue.deadLetterCount(picky), (n) => n === 2))
        assert.deepStrictEqual(errors, ["no", "no"])
      }))

    it.scoped("jobs of a queue with a result have one each, or an error of their own", () =>
      Effect.gen(function*() {
        const queue = Queue.define({
          name: fresh("results"),
          payload: Task,
          result: Schema.Int,
          attempts: 2,
          backoff: () => 0
        })
        yield* add(queue, 3)
        const seen: Array<ReadonlyArray<readonly [number, number]>> = []
        const errors: Array<string> = []
        yield* Queue.makeBatchWorker(
          queue,
          (jobs) => {
            seen.push(jobs.map(({ attempt, payload }) => [payload.n, attempt]))
            return Effect.succeed(
              jobs.map(({ attempt, payload: { n } }) =>
                n === 1 && attempt === 1 ? Either.left("odd") : Either.right(n === 2 ? 0.5 : n)
              )
            )
          },
          {
            size: 3,
            within: "50 millis",
            retryable: (error) => {
              errors.push(error)
              return true
            }
          }
        )
        yield* eventually(Effect.map(Queue.status(queue), ({ totals }) => totals.completed === 2 && totals.dead === 1))
        assert.deepStrictEqual(seen[0], [[0, 1], [1, 1], [2, 1]])
        assert.deepStrictEqual(seen.slice(1).flat().toSorted(), [[1, 2], [2, 2]])
        assert.deepStrictEqual(errors, ["odd"])

        // It has to say something of each.
        const short = Queue.define({ name: fresh("short"), payload: Task, result: Schema.Int, attempts: 1 })
        yield* add(short, 2)
        yield* Queue.makeBatchWorker(short, () => Effect.succeed([Either.right(1)]), { size: 2, within: "1 hour" })
        yield* eventually(Effect.map(Queue.deadLetterCount(short), (n) => n === 2))
      }))

    it.scoped("with a defect beside the failures of some, the others have failed, too", () =>
      Effect.gen(function*() {
        const queue = define("beside", { attempts: 1 })
        yield* Queue.enqueueAll(queue, [{ id: "a", payload: { n: 0 } }, { id: "b", payload: { n: 1 } }])
        yield* Queue.makeBatchWorker(
          queue,
          () => Effect.ensuring(Queue.batchFailures([["a", "no"], ["nobody", "x"]]), Effect.die(new Error("closing"))),
          { size: 2, within: "1 hour" }
        )
        yield* eventually(Effect.map(Queue.deadLetterCount(queue), (n) => n === 2))
        const { letters } = yield* Queue.deadLetters(queue)
        assert.deepStrictEqual(
          letters.map(({ error, id }) => [id, Option.getOrNull(error)]).toSorted(),
          [["a", "no"], ["b", "Error: closing"]]
        )
      }))

    it.scoped("a job that is cancelled or takes too long goes, and the others stay", () =>
      Effect.gen(function*() {
        const queue = define("leaves", { attempts: 1 })
        const [{ id }] = (yield* add(queue, 1)) as [Queue.Enqueued]
        yield* add(queue, 1, { timeout: "300 millis" }, 1)
        yield* add(queue, 1, { deadline: "300 millis" }, 2)
        yield* add(queue, 1, {}, 3)
        const { batches, handler, open, state } = yield* gate
        yield* Queue.makeBatchWorker(queue, handler, { size: 4, within: "1 hour" })
        yield* holds(() => state.waiting === 1)
        assert.isTrue(yield* Queue.cancel(queue, id))
        yield* eventually(Effect.map(Queue.deadLetterCount(queue), (n) => n === 3))
        assert.strictEqual(state.interrupted, 0)
        yield* open
        yield* eventually(Effect.map(Queue.counts(queue), ({ running }) => running === 0))
        assert.lengthOf(batches, 1)
        const { letters } = yield* Queue.deadLetters(queue)
        assert.deepStrictEqual(letters.map(({ reason }) => reason).toSorted(), ["cancelled", "deadline", "exhausted"])
        assert.strictEqual((yield* Queue.status(queue)).totals.completed, 1)
      }))

    it.scoped("a batch whose jobs have all gone is interrupted, and its place is free", () =>
      Effect.gen(function*() {
        const queue = define("gone")
        const ids = (yield* add(queue, 3)).map(({ id }) => id)
        const { handler, open, state } = yield* gate
        yield* Queue.makeBatchWorker(queue, handler, { size: 3, within: "1 hour" })
        yield* holds(() => state.waiting === 1)
        for (const id of ids) yield* Queue.cancel(queue, id)
        yield* holds(() => state.interrupted === 1 && state.waiting === 0)
        yield* open
        yield* add(queue, 3)
        yield* eventually(Effect.map(Queue.status(queue), ({ totals }) => totals.completed === 3))
        assert.strictEqual(yield* Queue.deadLetterCount(queue), 3)
      }))

    it.scoped("one that waits for others can be cancelled, and is not in the batch", () =>
      Effect.gen(function*() {
        const queue = define("waits")
        const [first] = (yield* add(queue, 2)) as [Queue.Enqueued, Queue.Enqueued]
        const { batches, record } = recorder()
        yield* Queue.makeBatchWorker(queue, record, { size: 3, within: "1 hour" })
        yield* eventually(Effect.map(Queue.counts(queue), ({ running }) => running === 2))
        assert.isTrue(yield* Queue.cancel(queue, first.id))
        yield* eventually(Effect.map(Queue.deadLetterCount(queue), (n) => n === 1))
        yield* add(queue, 2, {}, 2)
        yield* eventually(Effect.map(Queue.counts(queue), ({ ready, running }) => running + ready === 0))
        assert.deepStrictEqual(batches.map(numbers), [[1, 2, 3]])
      }))

    it.scoped("there are no more batches than allowed, and others get the jobs that would have to wait", () =>
      Effect.gen(function*() {
        const queue = define("concurrency")
        const busy = yield* gate
        const worker = yield* Queue.makeBatchWorker(queue, busy.handler, { size: 2, within: "1 hour", concurrency: 2 })
        yield* add(queue, 6)
        yield* holds(() => busy.state.waiting === 2)
        yield* eventually(Effect.map(Queue.counts(queue), ({ ready, running }) => ready === 2 && running === 4))
        const { batches, record } = recorder()
        yield* Queue.makeBatchWorker(queue, record, { size: 2, within: "1 hour" })
        yield* holds(() => batches.length === 1)
        assert.strictEqual((yield* error(worker.setConcurrency(0)))._tag, "RedisInputError")
        yield* worker.setConcurrency(3)
        yield* Effect.forEach([0, 1], () => add(queue, 20))
        yield* holds(() => busy.state.waiting === 3)
        yield* busy.open
        yield* drained(queue.name)
        assert.strictEqual(busy.state.most, 3)
        assert.strictEqual(busy.batches.length + batches.length, 23)
      }))

    it.scoped("a stop handles at once what has come, and takes nothing more", () =>
      Effect.gen(function*() {
        const queue = define("stop")
        yield* add(queue, 2)
        const { batches, record } = recorder()
        const scope = yield* Scope.make()
        yield* Scope.extend(Queue.makeBatchWorker(queue, record, { size: 10, within: "1 hour" }), scope)
        yield* eventually(Effect.map(Queue.counts(queue), ({ running }) => running === 2))
        assert.lengthOf(batches, 0)
        yield* Scope.close(scope, Exit.void)
        assert.deepStrictEqual(batches.map(numbers), [[0, 1]])
        assert.deepStrictEqual(yield* keysLeft(queue.name), [])
        yield* add(queue, 1)
        yield* elapse("20 millis")
        assert.strictEqual((yield* Queue.counts(queue)).ready, 1)
      }))

    it.scoped("a pause handles at once what has come, and a stop by hand does", () =>
      Effect.gen(function*() {
        const queue = define("pause")
        yield* add(queue, 2)
        const { batches, record } = recorder()
        const worker = yield* Queue.makeBatchWorker(queue, record, { size: 10, within: "1 hour" })
        yield* eventually(Effect.map(Queue.counts(queue), ({ running }) => running === 2))
        yield* worker.pause
        assert.isTrue(yield* worker.isPaused)
        assert.deepStrictEqual(batches.map(numbers), [[0, 1]])
        yield* add(queue, 3, {}, 2)
        yield* worker.resume
        yield* eventually(Effect.map(Queue.counts(queue), ({ running }) => running === 3))
        assert.strictEqual(yield* worker.running, 3)
        assert.lengthOf(batches, 1)
        yield* Effect.all([worker.stop, worker.stop], { concurrency: 2 })
        assert.deepStrictEqual(batches.map(numbers), [[0, 1], [2, 3, 4]])
        assert.deepStrictEqual(yield* keysLeft(queue.name), [])
      }))

    it.scoped("what does not end in time is interrupted, and only then given back, with no failure", () =>
      Effect.gen(function*() {
        const queue = define("drain")
        yield* add(queue, 3)
        let runningThen = -1
        let closed = 0
        const scope = yield* Scope.make()
        const client = yield* RedisClient
        let started = false
        yield* Scope.extend(
          Queue.makeBatchWorker(queue, () =>
            Effect.sync(() => void (started = true)).pipe(
              Effect.zipRight(Effect.never),
              Effect.onInterrupt(() =>
                client.zcard(keysOf(queue.name).leases).pipe(
                  Effect.map((running) => {
                    runningThen = running
                    closed++
                  }),
                  Effect.orDie
                )
              )
            ), { size: 3, within: "1 hour", drain: "20 millis" }),
          scope
        )
        yield* holds(() => started)
        const closing = yield* Effect.fork(Scope.close(scope, Exit.void))
        yield* eventually(Effect.map(Fiber.poll(closing), Option.isSome))
        assert.deepStrictEqual([closed, runningThen], [1, 3])
        const { batches, record } = recorder()
        yield* Queue.makeBatchWorker(queue, record, { size: 3, within: "1 hour" })
        yield* drained(queue.name)
        assert.deepStrictEqual(batches.map(numbers), [[0, 1, 2]])
        assert.deepStrictEqual(batches[0]?.map(({ attempt }) => attempt), [1, 1, 1])
      }))

    it.scoped("a payload that can't be read is no part of a batch", () =>
      Effect.gen(function*() {
        const queue = define("undecodable")
        yield* Queue.enqueueAll(queue, [0, 1, 2].map((n) => ({ id: `j${n}`, payload: { n } })))
        const client = yield* RedisClient
        yield* client.hset(keysOf(queue.name).jobs, { j1: `{"t":1,"p":"no"}` })
        const { batches, record } = recorder()
        yield* Queue.makeBatchWorker(queue, record, { size: 2, within: "1 hour" })
        yield* holds(() => batches.length === 1)
        assert.deepStrictEqual(batches.map(numbers), [[0, 2]])
        yield* eventually(Effect.map(Queue.deadLetterCount(queue), (n) => n === 1))
      }))

    it.scoped("refuses what makes no sense before anything is sent", () =>
      Effect.gen(function*() {
        const queue = define("refused", { timeout: "1 second" })
        const fieldOf = (options: Queue.BatchOptions<never>) =>
          Effect.map(error(Queue.makeBatchWorker(queue, () => Effect.void, options)), ({ field }) => field)
        assert.strictEqual(yield* fieldOf({ size: 0, within: 1 }), "size")
        assert.strictEqual(yield* fieldOf({ size: 10_001, within: 1 }), "size")
        assert.strictEqual(yield* fieldOf({ size: 1.5, within: 1 }), "size")
        assert.strictEqual(yield* fieldOf({ size: 1, within: -1 }), "within")
        assert.strictEqual(yield* fieldOf({ size: 1, within: "1 second" }), "within")
        assert.strictEqual(yield* fieldOf({ size: 1, within: 1, concurrency: 0 }), "concurrency")
        assert.strictEqual(yield* fieldOf({ size: 1, within: 1, drain: -1 }), "drain")
      }))
  })
}
