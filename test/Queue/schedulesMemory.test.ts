import { assert, describe, it } from "@effect/vitest"
import { DateTime, Duration, Effect, Exit, Fiber, Layer, Logger, Option, Schema, Scope, TestClock } from "effect"
import * as Queue from "../../src/Queue/index.js"
import { keysOf } from "../../src/Queue/keys.js"
import * as scripts from "../../src/Queue/scheduleScripts.js"
import { RedisClient } from "../../src/RedisClient.js"
import { Fault, RedisTestServer } from "../../src/RedisTestServer.js"
import { inMemory } from "../kit/processes.js"
import { skewed } from "../kit/skewed.js"
import * as Spans from "../kit/spans.js"
import { forkWith } from "../kit/steps.js"
import { fresh } from "../kit/suites.js"

const Payload = Schema.Struct({ n: Schema.Number })

const define = (options: Partial<Queue.Options<typeof Payload.Type, typeof Payload.Encoded>> = {}) =>
  Queue.define({ name: fresh("scheduled"), payload: Payload, ...options })

type Definition = ReturnType<typeof define>

const every = { every: "1 minute", payload: { n: 1 } } as const

const operations = (definition: Definition): Record<string, Effect.Effect<unknown, unknown, Queue.Queue>> => ({
  schedule: Queue.schedule(definition, "new", every),
  getSchedule: Queue.getSchedule(definition, "active"),
  listSchedules: Queue.listSchedules(definition),
  pauseSchedule: Queue.pauseSchedule(definition, "active"),
  resumeSchedule: Queue.resumeSchedule(definition, "paused"),
  fireSchedule: Queue.fireSchedule(definition, "active"),
  removeSchedule: Queue.removeSchedule(definition, "active", { job: true })
})

const filled = (definition: Definition) =>
  Effect.gen(function*() {
    yield* Queue.schedule(definition, "active", every)
    yield* Queue.schedule(definition, "paused", every)
    yield* Queue.pauseSchedule(definition, "paused")
  })

/** All three keys know the same schedules. */
const isWhole = (definition: Definition) =>
  Effect.gen(function*() {
    const client = yield* RedisClient
    const { schedules, schedulesDue, schedulesState } = keysOf(definition.name)
    const ids = (yield* client.hkeys(schedules)).toSorted()
    assert.deepStrictEqual((yield* client.hkeys(schedulesState)).toSorted(), ids)
    assert.deepStrictEqual((yield* client.zrange(schedulesDue)).toSorted(), ids)
    return ids
  })

const commandsOf = (definition: Definition) =>
  Effect.gen(function*() {
    const { journal } = yield* RedisTestServer
    const { schedulesDue } = keysOf(definition.name)
    return (yield* journal).filter(({ args }) => args[1] === scripts.tick.sha && args.includes(schedulesDue)).length
  })

describe("schedules of queues, in memory", () => {
  it.effect(
    "four processes with skewed clocks, of which some die: each slot is fired once",
    () =>
      Effect.gen(function*() {
        const queue = define({ lease: "5 seconds" })
        const clock = yield* Effect.clock
        const jobs = new Map<string, number>()
        const handler = ({ id }: Queue.Job<unknown>) =>
          Effect.zipRight(
            Effect.sync(() => jobs.set(id, (jobs.get(id) ?? 0) + 1)),
            id.endsWith("50000") ? Effect.delay(Effect.void, "700 millis") : Effect.void
          )
        const start = (skew: number) =>
          Effect.gen(function*() {
            const process = yield* Effect.withClock(inMemory(Queue.make), skewed(clock, skew))
            const scope = yield* Scope.make()
            yield* process.service.makeWorker(queue, handler, { drain: 0 }).pipe(
              Effect.withClock(skewed(clock, skew)),
              Scope.extend(scope)
            )
            yield* Effect.all(
              Array.from(
                { length: 50 },
                () => process.service.schedule(queue, "tick", { every: "30 seconds", payload: { n: 1 } })
              ),
              { concurrency: "unbounded" }
            ).pipe(Effect.withClock(skewed(clock, skew)))
            return { die: Effect.zipRight(Effect.forkDaemon(Scope.close(scope, Exit.void)), process.die) }
          })
        const skews = [0, 3_600_000, 12_345, 50_000]
        const processes = yield* Effect.all(skews.map(start), { concurrency: "unbounded" })
        for (let i = 0; i < 8; i++) {
          yield* TestClock.adjust("75 seconds")
          // In the middle of its job, and of a slot.
          if (i % 2 === 1) {
            const which = i % 4
            yield* processes[which]!.die
            yield* TestClock.adjust("0 millis")
            processes[which] = yield* start(skews[which]! + i)
          }
        }
        yield* TestClock.adjust("14 seconds")
        const { fired, last } = Option.getOrThrow(yield* Queue.getSchedule(queue, "tick"))
        const end = DateTime.toEpochMillis(Option.getOrThrow(last))
        assert.isAtLeast(end, 600_000)
        assert.strictEqual(fired, end / 30_000)
        assert.deepStrictEqual(
          [...jobs.keys()].toSorted(),
          Array.from({ length: fired }, (_, i) => `schedule:tick:${(i + 1) * 30_000}`).toSorted()
        )
        assert.lengthOf((yield* Queue.listSchedules(queue)).schedules, 1)
        for (const { die } of processes) yield* die
      }).pipe(Effect.provide(Queue.layerTest)),
    120_000
  )

  it.effect("each operation is one command, and has a span with nothing of its jobs", () =>
    Effect.gen(function*() {
      const server = yield* RedisTestServer
      const spans = yield* Spans.Spans
      for (const name of Object.keys(operations(define()))) {
        const warm = define()
        yield* filled(warm)
        yield* operations(warm)[name]!
        const definition = define()
        yield* filled(definition)
        const before = (yield* server.journal).length
        yield* operations(definition)[name]!
        assert.strictEqual((yield* server.journal).length - before, 1, name)
        const { attributes } = (yield* spans.all).findLast((span) => span.name === `queue.${name}`)!
        assert.deepStrictEqual(Object.fromEntries(attributes), {
          "db.system.name": "redis",
          "db.operation.name": `queue.${name}`,
          "effect_redis.queue.name": definition.name
        })
      }
    }).pipe(Effect.provide(Layer.merge(Queue.layerTest, Spans.layer))))

  it.effect("whatever is interrupted at whatever step, schedules are whole", () =>
    Effect.gen(function*() {
      const context = yield* Effect.context<Queue.Queue | RedisClient>()
      for (const name of ["schedule", "resumeSchedule", "removeSchedule"]) {
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

  it.effect("a scheduler that is interrupted at whatever step leaves no runner", () =>
    Effect.gen(function*() {
      const server = yield* RedisTestServer
      const context = yield* Effect.context<Queue.Queue>()
      const queue = define()
      for (let step = 1;; step++) {
        const program = Effect.provide(Effect.scoped(Queue.makeScheduler(queue)), context)
        const [fiber, reached] = yield* forkWith(program, { step, yields: true, interrupts: true })
        yield* Fiber.await(fiber)
        yield* TestClock.adjust("1 millis")
        assert.deepStrictEqual(yield* server.subscriptions, [])
        if (!reached()) break
      }
      // The last one that leaves stops it, and not the first.
      const scopes = [yield* Scope.make(), yield* Scope.make()]
      for (const scope of scopes) yield* Scope.extend(Queue.makeScheduler(queue), scope)
      yield* Queue.schedule(queue, "tick", every)
      yield* TestClock.adjust("1 minute")
      yield* Scope.close(scopes[0]!, Exit.void)
      yield* TestClock.adjust("1 minute")
      assert.strictEqual((yield* Queue.counts(queue)).ready, 2)
      yield* Scope.close(scopes[1]!, Exit.void)
      yield* TestClock.adjust("1 hour")
      assert.strictEqual((yield* Queue.counts(queue)).ready, 2)
      assert.deepStrictEqual(yield* server.subscriptions, [])
    }).pipe(Effect.provide(Queue.layerTest)))

  it.effect("lost replies and outages: each slot is fired once, and the outage is told once", () => {
    const warnings: Array<string> = []
    const logger = Logger.replace(
      Logger.defaultLogger,
      Logger.make<unknown, void>(({ logLevel, message }) => {
        if (logLevel._tag === "Warning") warnings.push(String(message))
      })
    )
    return Effect.gen(function*() {
      const server = yield* RedisTestServer
      const queue = define()
      yield* Queue.makeScheduler(queue)
      yield* Queue.schedule(queue, "tick", { every: "1 second", payload: { n: 1 } })
      yield* TestClock.adjust("10 seconds")
      for (let i = 0; i < 10; i++) {
        yield* server.inject(Fault.disconnectAfter({ command: scripts.tick.sha }))
        yield* TestClock.adjust("5 seconds")
        yield* server.inject(Fault.noScript())
        yield* TestClock.adjust("5 seconds")
      }
      yield* server.disconnect({ downtime: "20 seconds" })
      warnings.length = 0
      yield* TestClock.adjust("40 seconds")
      assert.lengthOf(warnings.filter((warning) => warning.includes("scheduler")), 1)
      const { jobs } = yield* Queue.list(queue, "ready", { limit: 1000 })
      assert.deepStrictEqual(
        jobs.map(({ id }) => id),
        Array.from({ length: 150 }, (_, i) => `schedule:tick:${(i + 1) * 1000}`)
      )
      yield* isWhole(queue)
    }).pipe(Effect.scoped, Effect.provide(Queue.layerTest), Effect.provide(logger))
  })

  it.effect("a lost reply of what is repeated is asked for again, and told where that makes a difference", () =>
    Effect.gen(function*() {
      const server = yield* RedisTestServer
      const lost = <A, E>(script: { readonly sha: string }, effect: Effect.Effect<A, E, Queue.Queue>) =>
        Effect.gen(function*() {
          yield* server.inject(Fault.disconnectAfter({ command: script.sha }))
          const fiber = yield* Effect.fork(Effect.exit(effect))
          while (Option.isNone(yield* Fiber.poll(fiber))) yield* TestClock.adjust("10 millis")
          return Exit.match(yield* Fiber.join(fiber), {
            onSuccess: () => "ok",
            onFailure: (cause) =>
              cause._tag === "Fail" ? (cause.error as unknown as { readonly _tag: string })._tag : cause._tag
          })
        })
      yield* filled(define())
      for (const operation of Object.values(operations(define()))) yield* Effect.exit(operation)
      const queue = define()
      assert.strictEqual(yield* lost(scripts.upsert, Queue.schedule(queue, "one", every)), "ok")
      assert.strictEqual(yield* lost(scripts.pause, Queue.pauseSchedule(queue, "one")), "ok")
      assert.strictEqual(yield* lost(scripts.resume, Queue.resumeSchedule(queue, "one")), "ok")
      assert.strictEqual(yield* lost(scripts.fire, Queue.fireSchedule(queue, "one")), "RedisOutcomeUnknownError")
      assert.strictEqual((yield* Queue.counts(queue)).ready, 1)
      assert.strictEqual(yield* lost(scripts.remove, Queue.removeSchedule(queue, "one")), "RedisOutcomeUnknownError")
      assert.deepStrictEqual(yield* isWhole(queue), [])
    }).pipe(Effect.provide(Queue.layerTest)))

  it.effect("a full server refuses schedules, and they can be paused, resumed and removed", () =>
    Effect.gen(function*() {
      const server = yield* RedisTestServer
      const queue = define()
      yield* filled(queue)
      yield* server.become("out-of-memory")
      assert.strictEqual((yield* Effect.flip(Queue.schedule(queue, "new", every)))._tag, "RedisReplyError")
      yield* Queue.pauseSchedule(queue, "active")
      yield* Queue.resumeSchedule(queue, "active")
      assert.isTrue(yield* Queue.removeSchedule(queue, "paused"))
      assert.deepStrictEqual(yield* isWhole(queue), ["active"])
    }).pipe(Effect.provide(Queue.layerTest)))

  it.effect("a queue without schedules costs next to nothing, and one with a far slot no more", () =>
    Effect.gen(function*() {
      const queue = define()
      yield* Queue.makeWorker(queue, () => Effect.void)
      yield* TestClock.adjust("1 millis")
      assert.strictEqual(yield* commandsOf(queue), 1)
      yield* TestClock.adjust("30 days")
      const looks = yield* commandsOf(queue)
      assert.isBelow(looks, 20)
      yield* Queue.schedule(queue, "far", { every: "1 day", payload: { n: 1 } })
      yield* TestClock.adjust("100 millis")
      // It looks, and says when the next slot is.
      assert.strictEqual((yield* commandsOf(queue)) - looks, 2)
      yield* TestClock.adjust("2 days")
      assert.strictEqual(Option.getOrThrow(yield* Queue.getSchedule(queue, "far")).fired, 2)
      assert.isBelow((yield* commandsOf(queue)) - looks, 2 * 15)
    }).pipe(Effect.scoped, Effect.provide(Queue.layerTest)))

  it.effect("what can't be read is told once and holds up nobody", () => {
    const errors: Array<string> = []
    const logger = Logger.replace(
      Logger.defaultLogger,
      Logger.make<unknown, void>(({ logLevel, message }) => {
        if (logLevel._tag === "Error") errors.push(String(message))
      })
    )
    return Effect.gen(function*() {
      const client = yield* RedisClient
      const queue = define()
      yield* Queue.makeScheduler(queue)
      yield* Queue.schedule(queue, "newer", every)
      yield* Queue.schedule(queue, "tick", { ...every, every: "2 seconds" })
      yield* client.hset(keysOf(queue.name).schedules, { newer: "{\"moon\":\"full\"}\0{}\0\0\"p\":1}" })
      yield* TestClock.adjust("80 seconds")
      assert.strictEqual(Option.getOrThrow(yield* Queue.getSchedule(queue, "tick")).fired, 40)
      assert.lengthOf(errors, 1)
      assert.isTrue(Option.isNone(yield* Queue.getSchedule(queue, "newer")))
      assert.lengthOf((yield* Queue.listSchedules(queue)).schedules, 1)
      // Whoever knows it can write it anew.
      yield* Queue.schedule(queue, "newer", every)
      yield* TestClock.adjust("1 minute")
      assert.strictEqual(Option.getOrThrow(yield* Queue.getSchedule(queue, "newer")).fired, 1)
    }).pipe(Effect.scoped, Effect.provide(Queue.layerTest), Effect.provide(logger))
  })

  it.effect("schedules of one slot are fired together, however many there are", () =>
    Effect.gen(function*() {
      const queue = define()
      for (let i = 0; i < 250; i++) yield* Queue.schedule(queue, `s${i}`, { ...every, every: "1 hour" })
      yield* Queue.makeScheduler(queue)
      yield* TestClock.adjust("1 minute")
      const before = yield* commandsOf(queue)
      yield* TestClock.adjust(Duration.minutes(59))
      assert.strictEqual((yield* Queue.counts(queue)).ready, 250)
      assert.isBelow((yield* commandsOf(queue)) - before, 15)
    }).pipe(Effect.scoped, Effect.provide(Queue.layerTest)))
})
