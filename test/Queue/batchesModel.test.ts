/**
 * Random batches: whatever their handlers do, and whenever workers stop, each job has exactly one outcome.
 */
import { assert, describe, it } from "@effect/vitest"
import { Cause, Effect, Exit, FastCheck, Fiber, Logger, Option, Scope, TestClock } from "effect"
import * as Queue from "../../src/Queue/index.js"
import { define, keysLeft, type Task } from "./suite.js"

const quiet = Logger.remove(Logger.defaultLogger)

const turnOfTheEventLoop = Effect.promise(() => new Promise((resolve) => setImmediate(resolve)))

/** What becomes of an attempt of a job. `whole` takes the batch with it. */
type Fate = "done" | "fails" | "unrecoverable" | "postponed" | "whole"

const fate = FastCheck.constantFrom<Fate>("done", "done", "done", "fails", "unrecoverable", "postponed", "whole")

const worker = FastCheck.record({
  size: FastCheck.integer({ min: 1, max: 5 }),
  within: FastCheck.constantFrom(0, 5, 50),
  concurrency: FastCheck.integer({ min: 1, max: 3 }),
  /** How long its batches take. */
  takes: FastCheck.constantFrom(0, 3, 40),
  /** When it stops, and how long its batches may go on then. */
  stops: FastCheck.constantFrom(undefined, 1, 30, 70),
  drain: FastCheck.constantFrom(0, 20, 1000)
})

const plan = FastCheck.record({
  jobs: FastCheck.array(
    FastCheck.record({
      fates: FastCheck.array(fate, { minLength: 0, maxLength: 4 }),
      timeout: FastCheck.constantFrom(undefined, undefined, 20),
      after: FastCheck.constantFrom(0, 0, 2, 20)
    }),
    { minLength: 1, maxLength: 14 }
  ),
  workers: FastCheck.array(worker, { minLength: 1, maxLength: 3 }),
  /** Jobs that somebody cancels, and when. */
  cancels: FastCheck.array(FastCheck.record({ job: FastCheck.nat(13), at: FastCheck.nat(60) }), { maxLength: 3 })
})

type Plan = typeof plan extends FastCheck.Arbitrary<infer P> ? P : never

const ATTEMPTS = 3

const run = ({ cancels, jobs, workers }: Plan) =>
  Effect.gen(function*() {
    const queue = define("model", { attempts: ATTEMPTS })
    /** Jobs that are in a batch at present. */
    const handled = new Set<string>()
    /** A handler that fails would only be called again. */
    const wrong: Array<string> = []
    const attempts = new Map<string, number>()
    /** How often a handler has said that a job is done. */
    const done = new Map<string, number>()

    const fateOf = ({ id, payload }: Queue.Job<Task>): Fate => {
      const n = attempts.get(id) ?? 0
      attempts.set(id, n + 1)
      return jobs[payload.n]?.fates[n] ?? "done"
    }

    const handler = ({ size, takes }: Plan["workers"][number]) => (batch: ReadonlyArray<Queue.Job<Task>>) =>
      Effect.gen(function*() {
        if (batch.length < 1 || batch.length > size) wrong.push(`a batch of ${batch.length}`)
        if (new Set(batch.map(({ id }) => id)).size < batch.length) wrong.push("a job twice in a batch")
        for (const { id, payload } of batch) {
          // After a timeout it can be there again while the others of its batch go on.
          if (handled.has(id) && jobs[payload.n]?.timeout === undefined) wrong.push(`${id} in two batches at once`)
          handled.add(id)
        }
        yield* Effect.sleep(takes)
        const fates = batch.map((job) => [job, fateOf(job)] as const)
        if (fates.some(([, fate]) => fate === "whole")) return yield* Effect.dieMessage("whole")
        type Failure = readonly [Queue.Job<Task>, string | Queue.Postponed | Queue.Unrecoverable<string>]
        const failures = fates.flatMap(([job, fate]): ReadonlyArray<Failure> => {
          switch (fate) {
            case "fails":
              return [[job, "failed"]]
            case "unrecoverable":
              return [[job, Queue.unrecoverable("never")]]
            case "postponed":
              return [[job, Queue.postpone(7)]]
            default:
              done.set(job.id, (done.get(job.id) ?? 0) + 1)
              return []
          }
        })
        if (failures.length > 0) return yield* Queue.batchFailures(failures)
      }).pipe(Effect.ensuring(Effect.sync(() => {
        for (const { id } of batch) handled.delete(id)
      })))

    const start = (options: Plan["workers"][number]) =>
      Effect.gen(function*() {
        const scope = yield* Scope.make()
        const { concurrency, drain, size, within } = options
        yield* Scope.extend(
          Queue.makeBatchWorker(queue, handler(options), { size, within, concurrency, drain }),
          scope
        )
        const stop = Scope.close(scope, Exit.void)
        yield* options.stops === undefined
          ? Effect.addFinalizer(() => stop)
          : Effect.forkScoped(Effect.delay(stop, options.stops))
      })

    for (const options of workers) yield* start(options)
    yield* Effect.forkScoped(Effect.forEach(
      jobs,
      ({ after, timeout }, n) =>
        Effect.delay(Queue.enqueue(queue, { n }, { id: `j${n}`, ...(timeout !== undefined && { timeout }) }), after),
      { concurrency: "unbounded" }
    ))
    yield* Effect.forkScoped(Effect.forEach(
      cancels,
      ({ at, job }) => Effect.delay(Queue.cancel(queue, `j${job}`), at),
      { concurrency: "unbounded" }
    ))
    yield* Effect.sleep(120)
    // Somebody has to do the rest.
    yield* start({ size: 3, within: 10, concurrency: 2, takes: 0, stops: undefined, drain: 1000 })
    const left = Effect.map(Queue.counts(queue), ({ delayed, ready, running }) => delayed + ready + running)
    for (let i = 0; i < 100 && (yield* left) > 0; i++) yield* Effect.sleep(50)

    assert.deepStrictEqual(wrong, [])
    assert.strictEqual(yield* left, 0)
    const { totals } = yield* Queue.status(queue)
    assert.strictEqual(totals.completed + totals.dead, jobs.length)
    const { letters } = yield* Queue.deadLetters(queue)
    assert.strictEqual(letters.length, totals.dead)
    for (const { failures } of letters) assert.isAtMost(failures, ATTEMPTS)
    const dead = new Set(letters.map(({ id }) => id))
    for (let n = 0; n < jobs.length; n++) {
      const id = `j${n}`
      if (!dead.has(id)) assert.isAtLeast(done.get(id) ?? 0, 1, `${id} is complete, and nobody has done it`)
      // One that is dead though it was done was cancelled, or out of time, before its batch ended.
      if ((done.get(id) ?? 0) > 1) assert.isDefined(jobs[n]?.timeout)
    }
    if (dead.size === 0) assert.deepStrictEqual(yield* keysLeft(queue.name), [])
    assert.strictEqual(handled.size, 0)
  })

describe("batches, at random", () => {
  // All share a clock: letting time pass is what costs most.
  it.effect("each job has exactly one outcome", () =>
    Effect.gen(function*() {
      const running = yield* Effect.fork(Effect.forEach(
        FastCheck.sample(plan, 40),
        (plan) =>
          Effect.map(
            Effect.exit(Effect.scoped(run(plan))),
            (exit) => Exit.isSuccess(exit) ? [] : [`${JSON.stringify(plan)}\n${Cause.pretty(exit.cause)}`]
          ),
        { concurrency: "unbounded" }
      ))
      while (Option.isNone(yield* Fiber.poll(running))) {
        yield* TestClock.adjust(10)
        yield* turnOfTheEventLoop
      }
      assert.deepStrictEqual((yield* Fiber.join(running)).flat(), [])
    }).pipe(Effect.provide(Queue.layerTest), Effect.provide(quiet)), 120_000)
})
