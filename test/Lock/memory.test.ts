import { assert, describe, it } from "@effect/vitest"
import { Duration, Effect, Either, Exit, FastCheck, Fiber, Layer, Metric, Option, TestClock, Tracer } from "effect"
import { lockAcquired, lockNotAcquired, locksLost } from "../../src/internal/metrics.js"
import * as Lock from "../../src/Lock/index.js"
import { keysOf } from "../../src/Lock/scripts.js"
import { RedisClient } from "../../src/RedisClient.js"
import { RedisTestServer } from "../../src/RedisTestServer.js"
import { inMemory } from "../kit/processes.js"

const process = Effect.map(inMemory(Lock.make), ({ die, service }) => ({ lock: service, die }))

/** Keys of locks that somebody holds or waits for. */
const remains = Effect.flatMap(
  RedisTestServer,
  (server) => Effect.map(server.keys, (keys) => keys.map(({ key }) => key).filter((key) => !key.endsWith(":fence")))
)

/** Lets everything run that needs no time. */
const settle = TestClock.adjust(0)

describe("Lock on virtual time", () => {
  it.effect("needs no time of its own: a lease of a week ends in a week", () =>
    Effect.gen(function*() {
      const lock = yield* Lock.Lock
      const held = yield* Lock.acquire("week", { lease: "7 days", renew: false })
      yield* TestClock.adjust("6 days")
      assert.isTrue(yield* lock.isLocked("week"))
      assert.isTrue(yield* held.isHeld)
      yield* TestClock.adjust("1 day")
      assert.isFalse(yield* lock.isLocked("week"))
      assert.isFalse(yield* held.isHeld)
    }).pipe(Effect.scoped, Effect.provide(Lock.layerTest)))

  it.effect("gives out tokens that count from one when the clock stands at zero", () =>
    Effect.gen(function*() {
      for (let expected = 1; expected < 5; expected++) {
        const token = yield* Effect.scoped(Effect.map(Lock.acquire("zero"), (held) => held.fencingToken))
        assert.strictEqual(token, expected)
      }
    }).pipe(Effect.provide(Lock.layerTest)))

  it.effect("a renewal that comes after an extension it was sent before does not shorten it", () =>
    Effect.gen(function*() {
      const server = yield* RedisTestServer
      const client = yield* RedisClient
      const lock = yield* Lock.Lock
      const held = yield* Lock.acquire("late renewal", { lease: "9 seconds" })
      yield* held.extend("9 seconds")
      // Both are sent behind a command that takes its time; then the server seems not to know the script of the first.
      yield* server.inject({ _tag: "delay", command: "ECHO", duration: "2 seconds", times: 1 })
      yield* TestClock.adjust("2500 millis")
      yield* Effect.fork(client.send("ECHO", "slow"))
      yield* server.inject({ _tag: "reply", command: "EVALSHA", error: "NOSCRIPT No matching script.", times: 1 })
      yield* TestClock.adjust("1500 millis")
      const extension = yield* Effect.fork(held.extend("60 seconds"))
      yield* TestClock.adjust("1 second")
      yield* Fiber.join(extension)
      const left = Option.getOrThrow(yield* lock.ttl("late renewal"))
      assert.isAbove(Duration.toSeconds(left), 55)
      const late = (yield* server.journal).filter(({ args }) => args[0] === "EVAL" && args.at(-1) === "9000")
      assert.lengthOf(late, 2)
    }).pipe(Effect.scoped, Effect.provide(Lock.layerTest)))

  it.effect("the reply to the acquisition is lost: the same call gets the lock, once", () =>
    Effect.gen(function*() {
      const server = yield* RedisTestServer
      const lock = yield* Lock.Lock
      yield* Effect.scoped(Lock.acquire("warm"))
      yield* server.inject({ _tag: "lose-reply", command: "EVALSHA" })
      const fiber = yield* Effect.fork(Effect.scoped(Effect.zipRight(Lock.acquire("lost"), lock.inspect("lost"))))
      yield* TestClock.adjust("500 millis")
      const info = Option.getOrThrow(yield* Fiber.join(fiber))
      assert.strictEqual(info.waiters, 0)
      assert.deepStrictEqual(yield* remains, [])
    }).pipe(Effect.provide(Lock.layerTest)))

  it.effect("the reply is lost and the caller gives up: the lock does not stay", () =>
    Effect.gen(function*() {
      const server = yield* RedisTestServer
      yield* Effect.scoped(Lock.acquire("warm"))
      yield* server.inject({ _tag: "lose-reply", command: "EVALSHA", times: 3 })
      const fiber = yield* Effect.fork(Effect.either(Effect.scoped(Lock.acquire("given-up", { waitTimeout: 0 }))))
      yield* TestClock.adjust("2 seconds")
      const result = yield* Fiber.join(fiber)
      assert(Either.isLeft(result))
      assert.strictEqual(result.left._tag, "RedisOutcomeUnknownError")
      yield* TestClock.adjust("2 seconds")
      assert.deepStrictEqual(yield* remains, [])
    }).pipe(Effect.provide(Lock.layerTest)))

  it.effect("the reply to the release is lost: the result stays, and no successor is harmed", () =>
    Effect.gen(function*() {
      const server = yield* RedisTestServer
      const lock = yield* Lock.Lock
      const result = yield* Effect.fork(Lock.withLock(
        Effect.as(server.inject({ _tag: "lose-reply", command: "EVALSHA" }), "done"),
        "release"
      ))
      yield* TestClock.adjust("1 second")
      assert.strictEqual(yield* Fiber.join(result), "done")
      const held = yield* Lock.acquire("release", { waitTimeout: 0 })
      yield* TestClock.adjust("1 minute")
      assert.isTrue(yield* held.isHeld)
      assert.isTrue(yield* lock.isLocked("release"))
    }).pipe(Effect.scoped, Effect.provide(Lock.layerTest)))

  it.effect("renewals that fail are no loss before the deadline, and one that succeeds saves the lease", () =>
    Effect.gen(function*() {
      const server = yield* RedisTestServer
      const held = yield* Lock.acquire("renewals", { lease: "9 seconds" })
      yield* server.inject({ _tag: "reply", error: "LOADING Redis is loading the dataset in memory", times: 4 })
      yield* TestClock.adjust("8 seconds")
      assert.isTrue(yield* held.isHeld)
      yield* TestClock.adjust("1 minute")
      assert.isTrue(yield* held.isHeld)
    }).pipe(Effect.scoped, Effect.provide(Lock.layerTest)))

  it.effect("the work ends at the deadline when the server is away, and a late release harms nobody", () =>
    Effect.gen(function*() {
      const server = yield* RedisTestServer
      const stranger = yield* process
      const fiber = yield* Effect.fork(Effect.either(Lock.withLock(Effect.never, "away", { lease: "6 seconds" })))
      yield* settle
      yield* server.disconnect({ downtime: "30 seconds" })
      yield* TestClock.adjust("5 seconds")
      assert.deepStrictEqual(yield* Fiber.poll(fiber), Option.none())
      yield* TestClock.adjust("10 seconds")
      const result = yield* Fiber.join(fiber)
      assert(Either.isLeft(result))
      assert.strictEqual(result.left._tag, "LockLost")
      yield* TestClock.adjust("30 seconds")
      const held = yield* stranger.lock.acquire("away", { waitTimeout: 0 })
      yield* TestClock.adjust("1 minute")
      assert.isTrue(yield* held.isHeld)
      yield* stranger.die
    }).pipe(Effect.scoped, Effect.provide(Lock.layerTest)))

  it.effect("a waiter survives a lost connection", () =>
    Effect.gen(function*() {
      const server = yield* RedisTestServer
      const holder = yield* process
      const held = yield* holder.lock.acquire("waiter", { lease: "1 hour" })
      const waiting = yield* Effect.fork(
        Lock.withLock(Effect.succeed("served"), "waiter", { waitTimeout: "1 hour" })
      )
      yield* settle
      yield* server.disconnect({ downtime: "3 seconds" })
      const releasing = yield* Effect.fork(held.release)
      yield* TestClock.adjust("20 seconds")
      assert.isTrue(yield* Fiber.join(releasing))
      assert.strictEqual(yield* Fiber.join(waiting), "served")
      yield* holder.die
      assert.deepStrictEqual(yield* remains, [])
    }).pipe(Effect.scoped, Effect.provide(Lock.layerTest)))

  it.effect("the waiters of a process that died are skipped at once", () =>
    Effect.gen(function*() {
      const server = yield* RedisTestServer
      const held = yield* Lock.acquire("skip", { lease: "1 minute" })
      const keys = keysOf("skip")
      const client = yield* RedisClient
      // As a process leaves them that is killed: in the queue, and nobody listening.
      yield* client.zadd(keys[1]!, [["ghost:0", 1], ["ghost:1", 2], ["ghost:2", 3]])
      const waiting = yield* Effect.fork(Lock.withLock(Effect.succeed("served"), "skip"))
      yield* settle
      yield* held.release
      yield* settle
      assert.strictEqual(yield* Fiber.join(waiting), "served")
      assert.deepStrictEqual(yield* remains, [])
      assert.deepStrictEqual((yield* server.subscriptions).length, 1)
    }).pipe(Effect.scoped, Effect.provide(Lock.layerTest)))

  it.effect("a turn that nobody takes goes on after two seconds, past all waiters of that process", () =>
    Effect.gen(function*() {
      const client = yield* RedisClient
      const held = yield* Lock.acquire("stopped", { lease: "1 minute" })
      // A stopped process: its subscription is open, and it does not answer.
      // @effect-diagnostics-next-line floatingEffect:off
      yield* client.subscribe({ channels: ["lock:process:stopped"] })
      yield* client.zadd(keysOf("stopped")[1]!, Array.from({ length: 50 }, (_, i) => [`stopped:${i}`, i + 1] as const))
      const waiting = yield* Effect.fork(
        Lock.withLock(Effect.succeed("served"), "stopped", { waitTimeout: "1 minute" })
      )
      yield* settle
      yield* held.release
      yield* TestClock.adjust("1900 millis")
      assert.deepStrictEqual(yield* Fiber.poll(waiting), Option.none())
      yield* TestClock.adjust("300 millis")
      assert.strictEqual(yield* Fiber.join(waiting), "served")
      assert.deepStrictEqual(yield* remains, [])
    }).pipe(Effect.scoped, Effect.provide(Lock.layerTest)))

  it.effect("every key of a lock has a bounded life", () =>
    Effect.gen(function*() {
      const server = yield* RedisTestServer
      yield* Lock.acquire("bounded", { renew: false })
      const waiting = yield* Effect.fork(Effect.scoped(Lock.acquire("bounded", { waitTimeout: Infinity })))
      yield* settle
      const keys = yield* server.keys
      assert.strictEqual(keys.length, 3)
      for (const { key, ttl } of keys) assert(ttl > 0 && ttl <= 86_400_000, key)
      yield* Fiber.interrupt(waiting)
      yield* TestClock.adjust("2 days")
      assert.deepStrictEqual(yield* server.keys, [])
    }).pipe(Effect.scoped, Effect.provide(Lock.layerTest)))

  it.effect("ten thousand locks leave no key, no waiter and no timer", () =>
    Effect.gen(function*() {
      const server = yield* RedisTestServer
      yield* Effect.forEach(
        Array.from({ length: 10_000 }, (_, i) => `many-${i % 100}`),
        (name) => Lock.withLock(Effect.yieldNow(), name, { waitTimeout: "1 minute" }),
        { concurrency: 50, discard: true }
      )
      assert.deepStrictEqual(yield* remains, [])
      // One timer may still be set for the renewal that is not needed any more; when it rings there is nothing to renew.
      const before = (yield* server.journal).length
      yield* TestClock.adjust("1 hour")
      assert.strictEqual((yield* server.journal).length, before)
      assert.deepStrictEqual(Array.from(yield* TestClock.sleeps()), [])
    }).pipe(Effect.provide(Lock.layerTest)))

  it.effect("asks once when it may not wait, and makes no subscription for it", () =>
    Effect.gen(function*() {
      const server = yield* RedisTestServer
      yield* Effect.scoped(Lock.tryAcquire("once"))
      yield* Effect.scoped(Lock.acquire("once", { waitTimeout: 0 }))
      assert.deepStrictEqual(yield* server.subscriptions, [])
      yield* Effect.scoped(Lock.acquire("once"))
      assert.strictEqual((yield* server.subscriptions).length, 1)
      const sent = (yield* server.journal).filter(({ args }) => args[0] === "EVALSHA" || args[0] === "EVAL")
      yield* Effect.scoped(Lock.acquire("once"))
      const after = (yield* server.journal).filter(({ args }) => args[0] === "EVALSHA" || args[0] === "EVAL")
      assert.strictEqual(after.length - sent.length, 2)
    }).pipe(Effect.provide(Lock.layerTest)))

  it.effect("what the layer holds ends with the layer", () =>
    Effect.gen(function*() {
      const server = yield* RedisTestServer
      const other = yield* process
      yield* Effect.scoped(other.lock.acquire("layer"))
      assert.strictEqual((yield* server.subscriptions).length, 1)
      yield* other.die
      yield* settle
      assert.deepStrictEqual(yield* server.subscriptions, [])
    }).pipe(Effect.provide(Lock.layerTest)))

  it.effect("bad options are refused before anything is sent", () =>
    Effect.gen(function*() {
      const server = yield* RedisTestServer
      const before = (yield* server.journal).length
      for (const options of [{ lease: 0 }, { lease: NaN }, { lease: Infinity }, { waitTimeout: -1 }]) {
        const failure = yield* Effect.flip(Effect.scoped(Lock.acquire("bad", options)))
        assert.strictEqual(failure._tag, "RedisInputError")
      }
      assert.strictEqual((yield* server.journal).length, before)
    }).pipe(Effect.provide(Lock.layerTest)))
})

// ---------------------------------------------------------------------------------------------------------------------

type Step =
  | {
    readonly _tag: "take"
    readonly process: number
    readonly fair: boolean
    readonly lease: number
    readonly hold: number
  }
  | { readonly _tag: "interrupt"; readonly fiber: number }
  | { readonly _tag: "pass"; readonly millis: number }
  | { readonly _tag: "force" }
  | { readonly _tag: "disconnect"; readonly downtime: number }
  | { readonly _tag: "lose-reply" }

const step: FastCheck.Arbitrary<Step> = FastCheck.oneof(
  {
    weight: 8,
    arbitrary: FastCheck.record({
      _tag: FastCheck.constant("take" as const),
      process: FastCheck.nat(2),
      fair: FastCheck.boolean(),
      lease: FastCheck.integer({ min: 500, max: 5000 }),
      hold: FastCheck.nat(8000)
    })
  },
  {
    weight: 3,
    arbitrary: FastCheck.record({ _tag: FastCheck.constant("interrupt" as const), fiber: FastCheck.nat(20) })
  },
  {
    weight: 5,
    arbitrary: FastCheck.record({ _tag: FastCheck.constant("pass" as const), millis: FastCheck.nat(4000) })
  },
  { weight: 1, arbitrary: FastCheck.record({ _tag: FastCheck.constant("force" as const) }) },
  {
    weight: 1,
    arbitrary: FastCheck.record({
      _tag: FastCheck.constant("disconnect" as const),
      downtime: FastCheck.nat(6000)
    })
  },
  { weight: 1, arbitrary: FastCheck.record({ _tag: FastCheck.constant("lose-reply" as const) }) }
)

describe("Lock, whatever happens in whatever order", () => {
  it.effect.prop(
    "has one holder with the right to write, serves or fails everybody, and leaves nothing",
    { steps: FastCheck.array(step, { maxLength: 25 }) },
    ({ steps }) =>
      Effect.gen(function*() {
        const server = yield* RedisTestServer
        const processes = [yield* process, yield* process, yield* process]
        const accepted: Array<number> = []
        const fibers: Array<Fiber.RuntimeFiber<Either.Either<unknown, { readonly _tag: string }>>> = []
        for (const step of steps) {
          switch (step._tag) {
            case "take": {
              const { lock } = processes[step.process]!
              const body = Effect.scoped(Effect.gen(function*() {
                const held = yield* lock.acquire("one", {
                  fair: step.fair,
                  lease: step.lease,
                  waitTimeout: "1 hour"
                })
                // What the lock protects refuses older tokens.
                if (accepted.length === 0 || held.fencingToken > accepted[accepted.length - 1]!) {
                  accepted.push(held.fencingToken)
                } else {
                  assert.fail("a later holder got a smaller token")
                }
                yield* held.protect(Effect.sleep(step.hold))
              }))
              fibers.push(yield* Effect.fork(Effect.either(body)))
              break
            }
            case "interrupt": {
              const fiber = fibers[step.fiber]
              if (fiber !== undefined) yield* Fiber.interruptFork(fiber)
              break
            }
            case "pass":
              yield* TestClock.adjust(step.millis)
              break
            case "force":
              yield* Effect.fork(Effect.ignore(processes[0]!.lock.forceRelease("one")))
              break
            case "disconnect":
              yield* server.disconnect({ downtime: step.downtime })
              break
            case "lose-reply":
              yield* server.inject({ _tag: "lose-reply", command: "EVALSHA" })
              break
          }
        }
        // Long enough for everybody's turn.
        for (let i = 0; i < 3; i++) yield* TestClock.adjust("2 minutes")
        for (const fiber of fibers) {
          const exit = yield* Fiber.await(fiber)
          if (Exit.isFailure(exit)) assert.isTrue(Exit.isInterrupted(exit), String(exit))
          else if (Either.isLeft(exit.value)) assert.strictEqual(exit.value.left._tag, "LockLost")
        }
        assert.deepStrictEqual(yield* remains, [])
        for (const { die } of processes) yield* die
      }).pipe(Effect.provide(Lock.layerTest)),
    { fastCheck: { numRuns: 60 }, timeout: 120_000 }
  )
})

// ---------------------------------------------------------------------------------------------------------------------

/** A tracer that keeps the spans it is asked for. */
const recording = (spans: Array<Tracer.Span>) =>
  Layer.setTracer(Tracer.make({
    span: (name, parent, context, links, startTime, kind) => {
      const attributes = new Map<string, unknown>()
      const span: Tracer.Span = {
        _tag: "Span",
        name,
        parent,
        context,
        links,
        kind,
        attributes,
        spanId: String(spans.length),
        traceId: "trace",
        sampled: true,
        status: { _tag: "Started", startTime },
        attribute: (key, value) => void attributes.set(key, value),
        event: () => undefined,
        addLinks: () => undefined,
        end: () => undefined
      }
      spans.push(span)
      return span
    },
    context: (f) => f()
  }))

describe("Lock, observed", () => {
  it.effect("makes one span for an operation when a tracer listens, with the field's attribute names", () =>
    Effect.gen(function*() {
      const spans: Array<Tracer.Span> = []
      yield* Effect.gen(function*() {
        const parent = yield* Lock.withLock(Effect.orDie(Effect.currentSpan), "observed")
        assert.strictEqual(parent.name, "lock.withLock")
        yield* Effect.scoped(Lock.acquire("observed"))
        yield* Effect.scoped(Lock.tryAcquire("observed"))
      }).pipe(Effect.provide(recording(spans)))
      assert.deepStrictEqual(spans.map((span) => span.name), ["lock.withLock", "lock.acquire", "lock.tryAcquire"])
      for (const span of spans) {
        assert.strictEqual(span.kind, "client")
        assert.deepStrictEqual(Object.fromEntries(span.attributes), {
          "db.system.name": "redis",
          "db.operation.name": span.name,
          "effect_redis.lock.name": "observed"
        })
      }
    }).pipe(Effect.provide(Lock.layerTest)))

  it.effect("makes no span when nobody listens", () =>
    Effect.gen(function*() {
      const inside = yield* Lock.withLock(Effect.option(Effect.currentSpan), "unobserved")
      assert.deepStrictEqual(inside, Option.none())
    }).pipe(Effect.provide(Lock.layerTest)))

  it.effect("counts what became of every attempt", () =>
    Effect.gen(function*() {
      const count = (metric: typeof locksLost) => Effect.map(Metric.value(metric), (state) => state.count)
      const read = Effect.all({
        acquired: count(lockAcquired),
        refused: count(lockNotAcquired),
        lost: count(locksLost)
      })
      const before = yield* read
      const held = yield* Lock.acquire("counted", { lease: "1 second", renew: false })
      yield* Lock.tryAcquire("counted")
      yield* TestClock.adjust("2 seconds")
      assert.isFalse(yield* held.isHeld)
      const after = yield* read
      assert.deepStrictEqual(
        {
          acquired: after.acquired - before.acquired,
          refused: after.refused - before.refused,
          lost: after.lost - before.lost
        },
        { acquired: 1, refused: 1, lost: 1 }
      )
    }).pipe(Effect.scoped, Effect.provide(Lock.layerTest)))
})
