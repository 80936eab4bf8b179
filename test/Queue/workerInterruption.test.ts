/**
 * Interruption at every step, and at random points: nothing is left behind, and no job is lost or counted as failed.
 */
import { assert, describe, it } from "@effect/vitest"
import { Array as Arr, Deferred, Effect, Exit, Fiber, Layer, Logger, Random, Supervisor, TestClock } from "effect"
import * as Queue from "../../src/Queue/index.js"
import { RedisClient } from "../../src/RedisClient.js"
import { RedisTestServer } from "../../src/RedisTestServer.js"
import { live } from "../kit/layers.js"
import { forkWith } from "../kit/steps.js"
import { define, keysLeft } from "./suite.js"

const quiet = Logger.remove(Logger.defaultLogger)

const turnOfTheEventLoop = Effect.promise(() => new Promise((resolve) => setImmediate(resolve)))

/** Until it is done, with some time of the test's clock between. */
const settled = <A, E>(fiber: Fiber.RuntimeFiber<A, E>) =>
  Effect.gen(function*() {
    for (let i = 0; i < 200 && (yield* Fiber.poll(fiber))._tag === "None"; i++) {
      yield* turnOfTheEventLoop
      if (i % 20 === 19) yield* TestClock.adjust("10 millis")
    }
    return yield* Fiber.await(fiber)
  })

/** At each of its steps, or some of them, until it has no more. */
const everyStep = <R>(
  effect: (step: number) => Effect.Effect<unknown, unknown, R>,
  after: (step: number, exit: Exit.Exit<unknown, unknown>) => Effect.Effect<void, unknown, R>,
  stride = 1
) =>
  Effect.gen(function*() {
    const context = yield* Effect.context<R>()
    let steps = 0
    for (let step = 1;; step += stride) {
      const [fiber, reached] = yield* forkWith(Effect.provide(effect(step), context), {
        step,
        yields: true,
        interrupts: true
      })
      const exit = yield* settled(fiber)
      yield* after(step, exit)
      if (!reached()) return steps
      steps++
    }
  })

/** Takes what is left, and tells how often which job ran. */
const drain = (queue: Queue.Definition<{ readonly n: number }>) =>
  Effect.scoped(Effect.gen(function*() {
    const seen: Array<Queue.Job<{ readonly n: number }>> = []
    yield* Queue.makeWorker(queue, (job) => Effect.sync(() => void seen.push(job)))
    for (let i = 0; i < 200 && (yield* keysLeft(queue.name)).length > 0; i++) yield* turnOfTheEventLoop
    assert.deepStrictEqual(yield* keysLeft(queue.name), [])
    return seen
  }))

const leavesNoFiber = <A, E, R>(effect: Effect.Effect<A, E, R>) =>
  Effect.gen(function*() {
    const supervisor = yield* Supervisor.track
    yield* Effect.supervised(effect, supervisor)
    assert.strictEqual((yield* supervisor.value).filter((fiber) => fiber.unsafePoll() === null).length, 0)
  })

describe("interruption of queues, in memory", () => {
  it.effect("enqueue, at every step: the job is there or not, and others are not hurt", () =>
    leavesNoFiber(
      Effect.gen(function*() {
        const queue = define("enqueue")
        const steps = yield* everyStep(
          (n) => Queue.enqueue(queue, { n }, { id: String(n), delay: 0 }),
          (n, exit) =>
            Effect.gen(function*() {
              yield* Queue.enqueue(queue, { n: -n })
              const seen = (yield* drain(queue)).map(({ payload }) => payload.n)
              assert.include(seen, -n)
              if (Exit.isSuccess(exit)) assert.include(seen, n)
              assert.isAtMost(seen.length, 2)
            })
        )
        assert.isAbove(steps, 5)
      }).pipe(Effect.provide(Layer.merge(Queue.layerTest, quiet)))
    ))

  it.effect("a worker, at every seventh step: its job is complete, or waits as if nothing had happened", () =>
    leavesNoFiber(
      Effect.gen(function*() {
        const server = yield* RedisTestServer
        const queue = define("worker", { attempts: 1 })
        let ran: Array<number> = []
        const steps = yield* everyStep(
          (n) =>
            Effect.scoped(Effect.gen(function*() {
              const done = yield* Deferred.make<void>()
              const handler = (job: Queue.Job<{ readonly n: number }>) =>
                Effect.yieldNow().pipe(
                  Effect.zipRight(Effect.sync(() => void ran.push(job.payload.n))),
                  Effect.zipRight(Deferred.succeed(done, undefined))
                )
              yield* Queue.enqueue(queue, { n })
              yield* Queue.makeWorker(queue, handler, { drain: 0 })
              yield* Deferred.await(done)
            })),
          (n) =>
            Effect.gen(function*() {
              const { dead, running } = yield* Queue.counts(queue)
              assert.strictEqual(running, 0, `step ${n}`)
              assert.strictEqual(dead, 0, `step ${n}`)
              const rest = yield* drain(queue)
              assert.isAtMost(ran.length + rest.length, 2)
              assert.isTrue(rest.every(({ attempt }) => attempt === 1))
              ran = []
            }),
          7
        )
        assert.isAbove(steps, 40)
        assert.deepStrictEqual(yield* server.subscriptions, [])
        assert.isAtMost(yield* server.connections, 3)
        yield* TestClock.adjust("1 minute")
        assert.deepStrictEqual(Array.from(yield* TestClock.sleeps()), [])
      }).pipe(Effect.provide(Layer.merge(Queue.layerTest, quiet)))
    ))

  it.effect("a worker of batches, at every eleventh step: the same for each of its jobs", () =>
    leavesNoFiber(
      Effect.gen(function*() {
        const server = yield* RedisTestServer
        const queue = define("batches", { attempts: 1 })
        let ran: Array<number> = []
        const steps = yield* everyStep(
          (n) =>
            Effect.scoped(Effect.gen(function*() {
              const done = yield* Deferred.make<void>()
              const handler = (jobs: ReadonlyArray<Queue.Job<{ readonly n: number }>>) =>
                Effect.yieldNow().pipe(
                  Effect.zipRight(Effect.sync(() => void ran.push(...jobs.map(({ payload }) => payload.n)))),
                  Effect.zipRight(Deferred.succeed(done, undefined))
                )
              yield* Queue.enqueueAll(queue, [{ payload: { n } }, { payload: { n: -n } }])
              yield* Queue.makeBatchWorker(queue, handler, { size: 2, within: "1 second", drain: 0 })
              yield* Deferred.await(done)
            })),
          (n) =>
            Effect.gen(function*() {
              const { dead, running } = yield* Queue.counts(queue)
              assert.strictEqual(running, 0, `step ${n}`)
              assert.strictEqual(dead, 0, `step ${n}`)
              const rest = yield* drain(queue)
              assert.isAtMost(ran.length + rest.length, 4)
              assert.isTrue(rest.every(({ attempt }) => attempt === 1))
              ran = []
            }),
          11
        )
        assert.isAbove(steps, 25)
        assert.deepStrictEqual(yield* server.subscriptions, [])
        assert.isAtMost(yield* server.connections, 3)
        yield* TestClock.adjust("1 minute")
        assert.deepStrictEqual(Array.from(yield* TestClock.sleeps()), [])
      }).pipe(Effect.provide(Layer.merge(Queue.layerTest, quiet)))
    ))

  it.effect("a worker's pause, stop and start at random points lose nothing, and count nothing", () =>
    leavesNoFiber(
      Effect.gen(function*() {
        const queue = define("random", { attempts: 1 })
        const done = new Set<number>()
        yield* Queue.enqueueAll(queue, Arr.range(0, 199).map((n) => ({ payload: { n } })))
        const crowd = Effect.gen(function*() {
          const handler = (job: Queue.Job<{ readonly n: number }>) =>
            Effect.zipRight(turnOfTheEventLoop, Effect.sync(() => void done.add(job.payload.n)))
          const concurrency = yield* Random.nextIntBetween(1, 5)
          const prefetch = yield* Random.nextIntBetween(0, 5)
          const worker = yield* Queue.makeWorker(queue, handler, { concurrency, prefetch, drain: 0 })
          for (let i = yield* Random.nextIntBetween(0, 5); i > 0; i--) yield* turnOfTheEventLoop
          const choice = yield* Random.nextIntBetween(0, 4)
          if (choice === 0) yield* Effect.zipRight(worker.pause, worker.resume)
          if (choice === 1) yield* worker.stop
          if (choice === 2) yield* worker.setConcurrency(1)
          for (let i = yield* Random.nextIntBetween(0, 5); i > 0; i--) yield* turnOfTheEventLoop
        }).pipe(Effect.scoped)
        const member = Effect.gen(function*() {
          const fiber = yield* Effect.fork(crowd)
          for (let i = yield* Random.nextIntBetween(0, 15); i > 0; i--) yield* turnOfTheEventLoop
          yield* Fiber.interrupt(fiber)
        })
        const seed = yield* Random.nextInt
        yield* Effect.logDebug(`seed ${seed}`)
        const all = yield* Effect.fork(
          Effect.withRandom(
            Effect.forEach(Arr.range(1, 60), () => member, { concurrency: 4, discard: true }),
            Random.make(seed)
          )
        )
        while ((yield* Fiber.poll(all))._tag === "None") yield* turnOfTheEventLoop
        yield* Fiber.join(all)
        assert.strictEqual((yield* Queue.counts(queue)).running, 0)
        const rest = yield* drain(queue)
        for (const { payload } of rest) done.add(payload.n)
        assert.strictEqual(done.size, 200)
        assert.deepStrictEqual((yield* Queue.status(queue)).totals, { completed: 200, failed: 0, dead: 0 })
      }).pipe(Effect.provide(Layer.merge(Queue.layerTest, quiet)))
    ))
})

describe("interruption of queues, live", () => {
  it.live("workers that come and go at random points lose nothing, and count nothing", () =>
    leavesNoFiber(
      Effect.gen(function*() {
        const client = yield* RedisClient
        const queue = define("live", { attempts: 1 })
        const done = new Set<number>()
        yield* Queue.enqueueAll(queue, Arr.range(0, 999).map((n) => ({ payload: { n } })))
        const handler = (job: Queue.Job<{ readonly n: number }>) =>
          Effect.zipRight(turnOfTheEventLoop, Effect.sync(() => void done.add(job.payload.n)))
        const member = Effect.gen(function*() {
          const fiber = yield* Effect.fork(
            Queue.runWorker(queue, handler, {
              concurrency: yield* Random.nextIntBetween(1, 5),
              prefetch: yield* Random.nextIntBetween(0, 5),
              drain: 0
            })
          )
          yield* Effect.sleep(yield* Random.nextIntBetween(0, 10))
          yield* Fiber.interrupt(fiber)
        })
        yield* Effect.forEach(Arr.range(1, 60), () => member, { concurrency: 4, discard: true })
        assert.strictEqual((yield* Queue.counts(queue)).running, 0)
        yield* Effect.scoped(Effect.gen(function*() {
          yield* Queue.makeWorker(queue, handler, { concurrency: 10 })
          for (let i = 0; i < 1000 && (yield* keysLeft(queue.name)).length > 0; i++) yield* Effect.sleep("10 millis")
        }))
        assert.strictEqual(done.size, 1000)
        assert.deepStrictEqual((yield* Queue.status(queue)).totals, { completed: 1000, failed: 0, dead: 0 })
        assert.deepStrictEqual(yield* client.send("PUBSUB", "CHANNELS", client.key("queue:*")), [])
      }).pipe(Effect.provide(Layer.merge(Layer.provideMerge(Queue.layer, live), quiet)))
    ))
})
