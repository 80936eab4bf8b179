import { assert, describe, it } from "@effect/vitest"
import { Deferred, Effect, Exit, Fiber, Layer, Option, Schema, TestClock } from "effect"
import * as scripts from "../../src/Queue/controlScripts.js"
import * as Queue from "../../src/Queue/index.js"
import { keysOf } from "../../src/Queue/keys.js"
import { renew } from "../../src/Queue/scripts.js"
import { RedisClient } from "../../src/RedisClient.js"
import { Fault, RedisTestServer } from "../../src/RedisTestServer.js"
import * as Spans from "../kit/spans.js"
import { forkWith } from "../kit/steps.js"
import { fresh } from "../kit/suites.js"
import { makeHand } from "./hand.js"

const Payload = Schema.Struct({ n: Schema.Number })

const define = () => Queue.define({ name: fresh("operated"), payload: Payload, completed: {}, events: {} })

type Definition = ReturnType<typeof define>

/** A queue with one job in each state, which has it for an id. */
const filled = (definition: Definition) =>
  Effect.gen(function*() {
    const hand = yield* makeHand(definition)
    const add = (id: string, options: Queue.EnqueueOptions = {}) =>
      Queue.enqueue(definition, { n: 1 }, { ...options, id })
    yield* add("dead")
    yield* hand.bury("exhausted", 3)(yield* hand.next)
    yield* add("completed")
    yield* hand.complete(yield* hand.next)
    yield* add("running")
    yield* hand.next
    yield* add("ready")
    yield* add("delayed", { delay: "1 hour" })
  })

const operations = (definition: Definition): Record<string, Effect.Effect<unknown, unknown, Queue.Queue>> => ({
  pause: Queue.pause(definition),
  resume: Queue.resume(definition),
  setGlobalConcurrency: Queue.setGlobalConcurrency(definition, 5),
  setRateLimit: Queue.setRateLimit(definition, { limit: 5, window: "1 minute" }),
  counts: Queue.counts(definition),
  status: Queue.status(definition),
  list: Queue.list(definition, "ready"),
  get: Queue.get(definition, "running"),
  progress: Queue.progress(definition, "running"),
  cancel: Queue.cancel(definition, "running"),
  changePriority: Queue.changePriority(definition, "ready", 2),
  changeDelay: Queue.changeDelay(definition, "delayed", { delay: "2 hours" }),
  promote: Queue.promote(definition, "delayed"),
  remove: Queue.remove(definition, "ready"),
  deadLetters: Queue.deadLetters(definition),
  deadLetter: Queue.deadLetter(definition, "dead"),
  deadLetterCount: Queue.deadLetterCount(definition),
  replay: Queue.replay(definition, "dead"),
  replayMany: Queue.replayMany(definition, ["dead", "ready"]),
  removeDeadLetters: Queue.removeDeadLetters(definition, ["dead"]),
  cleanDeadLetters: Queue.cleanDeadLetters(definition, 0),
  drain: Queue.drain(definition),
  completedJobs: Queue.completedJobs(definition),
  completedJob: Queue.completedJob(definition, "completed"),
  cleanCompleted: Queue.cleanCompleted(definition, 0),
  awaitResult: Effect.exit(Queue.awaitResult(definition, "completed")),
  logs: Queue.logs(definition, "running"),
  eventsPage: Queue.eventsPage(definition),
  obliterate: Queue.obliterate(definition, { force: true })
})

/** Each job is in one state, and in one place. */
const isWhole = (definition: Definition) =>
  Effect.gen(function*() {
    const client = yield* RedisClient
    const counts = yield* Queue.counts(definition)
    const ids: Array<string> = []
    for (const state of ["ready", "delayed", "blocked", "running", "dead", "completed"] as const) {
      const { jobs } = yield* Queue.list(definition, state)
      assert.lengthOf(jobs, counts[state])
      ids.push(...jobs.map(({ id }) => id))
    }
    const stored = yield* client.hkeys(keysOf(definition.name).jobs)
    assert.deepStrictEqual(ids.toSorted(), stored.toSorted())
  })

describe("operating queues, in memory", () => {
  it.effect("each operation is one command", () =>
    Effect.gen(function*() {
      const server = yield* RedisTestServer
      for (const name of Object.keys(operations(define()))) {
        // The first time its script is not known.
        const warm = define()
        yield* filled(warm)
        yield* Effect.exit(operations(warm)[name]!)
        const definition = define()
        yield* filled(definition)
        const before = (yield* server.journal).length
        const exit = yield* Effect.exit(operations(definition)[name]!)
        assert.isTrue(name === "replay" || name === "remove" ? Exit.isSuccess(exit) : true)
        assert.strictEqual((yield* server.journal).length - before, 1, name)
      }
    }).pipe(Effect.provide(Queue.layerTest)))

  it.effect("whatever is interrupted at whatever step, each job is in one state", () =>
    Effect.gen(function*() {
      const context = yield* Effect.context<Queue.Queue | RedisClient>()
      for (const name of ["changePriority", "remove", "replay", "drain"]) {
        for (let step = 1;; step++) {
          const definition = define()
          yield* filled(definition)
          const operation = Effect.provide(operations(definition)[name]!, context)
          const [fiber, reached] = yield* forkWith(operation, { step, yields: true, interrupts: true })
          yield* Fiber.await(fiber)
          yield* isWhole(definition)
          if (!reached()) break
        }
      }
    }).pipe(Effect.provide(Queue.layerTest)), 60_000)

  it.effect("a lost reply is asked for again where that is harmless, and told where it is not", () =>
    Effect.gen(function*() {
      const server = yield* RedisTestServer
      const lost = <A, E>(sha: string, effect: Effect.Effect<A, E, Queue.Queue>) =>
        Effect.gen(function*() {
          yield* server.inject(Fault.disconnectAfter({ command: sha }))
          const fiber = yield* Effect.fork(effect)
          while (Option.isNone(yield* Fiber.poll(fiber))) yield* TestClock.adjust("10 millis")
          return yield* Fiber.await(fiber)
        })
      const tagOf = <A, E extends { readonly _tag: string }>(exit: Exit.Exit<A, E>) =>
        Exit.match(exit, {
          onSuccess: () => "ok",
          onFailure: (cause) => cause._tag === "Fail" ? cause.error._tag : cause._tag
        })
      // The first time a script is not known, so that what is lost would be that answer.
      for (const operation of Object.values(operations(define()))) yield* Effect.exit(operation)
      const definition = define()
      yield* filled(definition)
      assert.strictEqual(tagOf(yield* lost(scripts.configure.sha, Queue.pause(definition))), "ok")
      assert.isTrue((yield* Queue.status(definition)).paused)
      assert.strictEqual(
        tagOf(yield* lost(scripts.changePriority.sha, Queue.changePriority(definition, "ready", 2))),
        "ok"
      )
      yield* isWhole(definition)
      assert.deepStrictEqual(
        yield* lost(scripts.cancel.sha, Queue.cancel(definition, "running")),
        Exit.succeed(true)
      )
      const removed = yield* lost(scripts.remove.sha, Queue.remove(definition, "ready"))
      assert.strictEqual(tagOf(removed), "RedisOutcomeUnknownError")
      assert.isTrue(Option.isNone(yield* Queue.get(definition, "ready")))
      const unknown = yield* lost(scripts.replay.sha, Queue.replay(definition, "dead"))
      assert.strictEqual(tagOf(unknown), "RedisOutcomeUnknownError")
      assert.strictEqual(tagOf(yield* Effect.exit(Queue.replay(definition, "dead"))), "JobNotDead")
      assert.strictEqual(tagOf(yield* lost(scripts.drain.sha, Queue.drain(definition))), "ok")
      assert.deepStrictEqual(yield* Queue.counts(definition), {
        ready: 0,
        delayed: 0,
        blocked: 0,
        running: 1,
        dead: 0,
        completed: 1
      })
      yield* isWhole(definition)
    }).pipe(Effect.provide(Queue.layerTest)))

  it.effect("a full server can be emptied, and workers keep their jobs", () =>
    Effect.gen(function*() {
      const server = yield* RedisTestServer
      const client = yield* RedisClient
      const definition = define()
      yield* filled(definition)
      const keys = keysOf(definition.name)
      const [running] = yield* client.zrange(keys.leases)
      yield* server.become("out-of-memory")
      assert.strictEqual(
        (yield* Effect.flip(Queue.enqueue(definition, { n: 1 })))._tag,
        "RedisReplyError"
      )
      assert.strictEqual(yield* client.eval(renew, keys, 60_000, [running!]), "h")
      yield* Queue.pause(definition)
      yield* Queue.resume(definition)
      assert.isTrue(yield* Queue.cancel(definition, "running"))
      yield* Queue.remove(definition, "ready")
      yield* Queue.promote(definition, "delayed")
      yield* Queue.replay(definition, "dead")
      yield* isWhole(definition)
      assert.strictEqual(yield* Queue.drain(definition), 2)
      assert.deepStrictEqual(yield* Queue.counts(definition), {
        ready: 0,
        delayed: 0,
        blocked: 0,
        running: 1,
        dead: 0,
        completed: 1
      })
    }).pipe(Effect.provide(Queue.layerTest)))

  it.effect("many removed jobs are skipped in portions, and none of the others is missed", () =>
    Effect.scoped(Effect.gen(function*() {
      const definition = define()
      const ids = Array.from({ length: 2200 }, (_, i) => `${i}`)
      yield* Queue.enqueueAll(definition, ids.map((id, n) => ({ id, payload: { n } })))
      yield* Effect.forEach(ids, (id) => Queue.remove(definition, id), { discard: true })
      yield* Queue.enqueue(definition, { n: 1 }, { id: "last" })
      const hand = yield* makeHand(definition)
      assert.deepStrictEqual(yield* hand.take(1), [])
      const done = yield* Deferred.make<string>()
      yield* Queue.makeWorker(definition, (job) => Deferred.succeed(done, job.id), { prefetch: 0 })
      yield* TestClock.adjust("10 millis")
      assert.isTrue(yield* Deferred.isDone(done))
      assert.strictEqual(yield* Deferred.await(done), "last")
    })).pipe(Effect.provide(Queue.layerTest)))

  it.effect("a predicate that dies has replayed what it has chosen before, and no more", () =>
    Effect.gen(function*() {
      const definition = define()
      const hand = yield* makeHand(definition)
      yield* Queue.enqueueAll(definition, Array.from({ length: 150 }, (_, n) => ({ payload: { n } })))
      yield* hand.buryAll("exhausted", 3)(yield* hand.take(150))
      let looked = 0
      const exit = yield* Effect.exit(Queue.replayWhere(definition, () => {
        if (++looked > 120) throw new Error("out of order")
        return true
      }))
      assert.isTrue(Exit.isFailure(exit))
      assert.deepStrictEqual(yield* Queue.counts(definition), {
        ready: 100,
        delayed: 0,
        blocked: 0,
        running: 0,
        dead: 50,
        completed: 0
      })
      yield* isWhole(definition)
    }).pipe(Effect.provide(Queue.layerTest)))

  it.effect("each operation has a span, with the name of the queue and nothing of its jobs", () =>
    Effect.gen(function*() {
      const spans = yield* Spans.Spans
      const definition = define()
      yield* filled(definition)
      for (const operation of Object.values(operations(definition))) yield* Effect.exit(operation)
      const all = (yield* spans.all).filter(({ name }) => name.startsWith("queue."))
      assert.deepStrictEqual(
        Array.from(new Set(all.map(({ name }) => name.slice("queue.".length)))),
        Object.keys(operations(definition))
      )
      for (const { attributes } of all) {
        assert.deepStrictEqual(Object.fromEntries(attributes), {
          "db.system.name": "redis",
          "db.operation.name": attributes.get("db.operation.name"),
          "effect_redis.queue.name": definition.name
        })
      }
    }).pipe(Effect.provide(Layer.merge(Queue.layerTest, Spans.layer))))
})
