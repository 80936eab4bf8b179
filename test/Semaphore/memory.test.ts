import { assert, describe, it } from "@effect/vitest"
import { Duration, Effect, Either, Fiber, Layer, Metric, Option, type Scope, TestClock } from "effect"
import { lockAcquired, lockNotAcquired, locksLost } from "../../src/internal/metrics.js"
import * as Lock from "../../src/Lock/index.js"
import { acquire, permitKeysOf, release } from "../../src/Lock/permitScripts.js"
import * as ReadWriteLock from "../../src/ReadWriteLock/index.js"
import { RedisClient } from "../../src/RedisClient.js"
import { RedisTestServer } from "../../src/RedisTestServer.js"
import * as Semaphore from "../../src/Semaphore/index.js"
import { inMemory } from "../kit/processes.js"
import * as Spans from "../kit/spans.js"

const process = inMemory(Semaphore.make)

/** Keys of semaphores that somebody holds or waits for. */
const remains = Effect.flatMap(
  RedisTestServer,
  (server) => Effect.map(server.keys, (keys) => keys.map(({ key }) => key).filter((key) => !key.endsWith(":fence")))
)

/** Lets everything run that needs no time. */
const settle = TestClock.adjust(0)

const define = (name: string, permits: number) => Semaphore.define({ name, permits })

/** As a process tells the server who asks. */
const claim = (name: string, owner: string, limit: number, cluster = false) => ({
  keys: permitKeysOf("semaphore", name),
  owner,
  limit,
  weight: 1,
  notices: { channel: "lock:process:", cluster }
})

describe("Semaphore on virtual time", () => {
  it.effect("needs no time of its own: each lease ends at its own instant", () =>
    Effect.gen(function*() {
      const semaphore = define("week", 3)
      yield* Semaphore.acquire(semaphore, 1, { lease: "7 days", renew: false })
      yield* Semaphore.acquire(semaphore, 2, { lease: "1 day", renew: false })
      yield* TestClock.adjust("86399999 millis")
      assert.strictEqual(yield* Semaphore.available(semaphore), 0)
      yield* TestClock.adjust("1 millis")
      assert.strictEqual(yield* Semaphore.available(semaphore), 2)
      yield* TestClock.adjust("6 days")
      assert.strictEqual(yield* Semaphore.available(semaphore), 3)
      assert.deepStrictEqual(yield* remains, [])
    }).pipe(Effect.scoped, Effect.provide(Semaphore.layerTest)))

  it.effect("a waiter gets what a process that died held when that one's lease is over, without anybody's release", () =>
    Effect.gen(function*() {
      const semaphore = define("died", 2)
      const dying = yield* process
      yield* Effect.forkDaemon(Effect.scoped(
        Effect.zipRight(dying.service.acquire(semaphore, 1, { lease: "6 seconds" }), Effect.never)
      ))
      yield* Semaphore.acquire(semaphore, 1, { lease: "1 hour" })
      yield* settle
      yield* dying.die
      const asking = yield* Effect.fork(Semaphore.acquire(semaphore, 1, { waitTimeout: "1 minute" }))
      yield* TestClock.adjust("5900 millis")
      assert.deepStrictEqual(yield* Fiber.poll(asking), Option.none())
      // A little spread, so that not all who wait ask at the same moment.
      yield* TestClock.adjust("800 millis")
      assert.isTrue(yield* (yield* Fiber.join(asking)).isHeld)
    }).pipe(Effect.scoped, Effect.provide(Semaphore.layerTest)))

  it.effect("the reply to the acquisition is lost: the same call gets the permits, once", () =>
    Effect.gen(function*() {
      const server = yield* RedisTestServer
      const semaphore = define("lost", 3)
      yield* Effect.scoped(Semaphore.acquire(define("warm", 1)))
      yield* server.inject({ _tag: "lose-reply", command: "EVALSHA" })
      const fiber = yield* Effect.fork(Effect.scoped(
        Effect.zipRight(Semaphore.acquire(semaphore, 2), Semaphore.inspect(semaphore))
      ))
      yield* TestClock.adjust("500 millis")
      const { holders, inUse, waiters } = yield* Fiber.join(fiber)
      assert.strictEqual(inUse, 2)
      assert.strictEqual(holders.length, 1)
      assert.strictEqual(waiters, 0)
      assert.deepStrictEqual(yield* remains, [])
    }).pipe(Effect.provide(Semaphore.layerTest)))

  it.effect("the reply to a claim is lost: the turn is not lost with it", () =>
    Effect.gen(function*() {
      const server = yield* RedisTestServer
      const semaphore = define("claim", 1)
      const held = yield* Semaphore.acquire(semaphore)
      const asking = yield* Effect.fork(Semaphore.acquire(semaphore))
      yield* settle
      yield* Effect.zipRight(
        // The first is that to the release.
        server.inject({ _tag: "delay", command: "EVALSHA", duration: 0, times: 1 }),
        server.inject({ _tag: "lose-reply", command: "EVALSHA", times: 2 })
      )
      yield* Effect.fork(held.release)
      yield* TestClock.adjust("1 second")
      const next = yield* Fiber.join(asking)
      yield* TestClock.adjust("1 minute")
      assert.isTrue(yield* next.isHeld)
      assert.strictEqual((yield* Semaphore.inspect(semaphore)).inUse, 1)
    }).pipe(Effect.scoped, Effect.provide(Semaphore.layerTest)))

  it.effect("the reply is lost and the caller gives up: no permit stays out", () =>
    Effect.gen(function*() {
      const server = yield* RedisTestServer
      yield* Effect.scoped(Semaphore.acquire(define("warm", 1)))
      yield* server.inject({ _tag: "lose-reply", command: "EVALSHA", times: 3 })
      const fiber = yield* Effect.fork(
        Effect.either(Effect.scoped(Semaphore.acquire(define("given-up", 2), 2, { waitTimeout: 0 })))
      )
      yield* TestClock.adjust("2 seconds")
      const result = yield* Fiber.join(fiber)
      assert(Either.isLeft(result))
      assert.strictEqual(result.left._tag, "RedisOutcomeUnknownError")
      yield* TestClock.adjust("2 seconds")
      assert.deepStrictEqual(yield* remains, [])
    }).pipe(Effect.provide(Semaphore.layerTest)))

  it.effect("the reply to the release is lost: the result stays, and the permits come back once", () =>
    Effect.gen(function*() {
      const server = yield* RedisTestServer
      const semaphore = define("release", 2)
      yield* Semaphore.acquire(semaphore, 1, { lease: "1 hour" })
      const result = yield* Effect.fork(Semaphore.withPermits(
        Effect.as(server.inject({ _tag: "lose-reply", command: "EVALSHA" }), "done"),
        semaphore
      ))
      yield* TestClock.adjust("1 second")
      assert.strictEqual(yield* Fiber.join(result), "done")
      assert.strictEqual(yield* Semaphore.available(semaphore), 1)
    }).pipe(Effect.scoped, Effect.provide(Semaphore.layerTest)))

  it.effect("renewals that fail are no loss before the deadline, and the work ends at it", () =>
    Effect.gen(function*() {
      const server = yield* RedisTestServer
      const semaphore = define("away", 1)
      const fiber = yield* Effect.fork(
        Effect.either(Semaphore.withPermits(Effect.never, semaphore, 1, { lease: "9 seconds" }))
      )
      yield* settle
      yield* server.inject({ _tag: "reply", error: "LOADING Redis is loading the dataset in memory", times: 4 })
      yield* TestClock.adjust("1 minute")
      assert.deepStrictEqual(yield* Fiber.poll(fiber), Option.none())
      yield* server.disconnect({ downtime: "30 seconds" })
      yield* TestClock.adjust("15 seconds")
      const result = yield* Fiber.join(fiber)
      assert(Either.isLeft(result))
      assert.strictEqual(result.left._tag, "LockLost")
      yield* TestClock.adjust("30 seconds")
      assert.deepStrictEqual(yield* remains, [])
    }).pipe(Effect.provide(Semaphore.layerTest)))

  it.effect("a waiter survives a lost connection, and a flush of the scripts", () =>
    Effect.gen(function*() {
      const server = yield* RedisTestServer
      const client = yield* RedisClient
      const semaphore = define("waiter", 2)
      const holder = yield* process
      const held = yield* holder.service.acquire(semaphore, 2, { lease: "1 hour" })
      const waiting = yield* Effect.fork(
        Semaphore.withPermits(Effect.succeed("served"), semaphore, 2, { waitTimeout: "1 hour" })
      )
      yield* settle
      yield* client.send("SCRIPT", "FLUSH")
      yield* server.disconnect({ downtime: "3 seconds" })
      const releasing = yield* Effect.fork(held.release)
      yield* TestClock.adjust("20 seconds")
      assert.isTrue(yield* Fiber.join(releasing))
      assert.strictEqual(yield* Fiber.join(waiting), "served")
      yield* holder.die
      assert.deepStrictEqual(yield* remains, [])
    }).pipe(Effect.scoped, Effect.provide(Semaphore.layerTest)))

  it.effect("the waiters of a process that died are skipped at once", () =>
    Effect.gen(function*() {
      const client = yield* RedisClient
      const semaphore = define("skip", 2)
      const held = yield* Semaphore.acquire(semaphore, 2, { lease: "1 minute" })
      const queue = permitKeysOf("semaphore", semaphore.name)[2]!
      // As a process leaves them that is killed: in the queue, and nobody listening.
      yield* client.zadd(queue, [["ghost:0/1", 1], ["ghost:1/2", 2], ["ghost:2/1+", 3]])
      const waiting = yield* Effect.fork(Semaphore.withPermits(Effect.succeed("served"), semaphore, 2))
      yield* settle
      yield* held.release
      yield* settle
      assert.strictEqual(yield* Fiber.join(waiting), "served")
      assert.deepStrictEqual(yield* remains, [])
    }).pipe(Effect.scoped, Effect.provide(Semaphore.layerTest)))

  it.effect("waiters of a process that died do not stop who only asks once", () =>
    Effect.gen(function*() {
      const client = yield* RedisClient
      const semaphore = define("ghosts", 2)
      yield* client.zadd(permitKeysOf("semaphore", semaphore.name)[2]!, [["ghost:0/1", 1], ["ghost:1/2", 2]])
      assert.isTrue(Option.isSome(yield* Semaphore.tryAcquire(semaphore, 2)))
      assert.strictEqual((yield* Semaphore.inspect(semaphore)).waiters, 0)
    }).pipe(Effect.scoped, Effect.provide(Semaphore.layerTest)))

  for (
    const [who, comes] of Object.entries<
      (held: Semaphore.Held) => Effect.Effect<unknown, unknown, Semaphore.Semaphore | RedisClient | Scope.Scope>
    >({
      "a holder that extends its lease": ({ extend }) => extend("1 hour"),
      "a holder that asks again because the reply was lost": ({ fencingToken, name }) =>
        Effect.gen(function*() {
          const client = yield* RedisClient
          const { holders } = yield* Semaphore.inspect(define(name, 5))
          const { holder } = holders.find((holder) => holder.fencingToken === fencingToken)!
          const token = yield* client.eval(acquire, claim(name, `${holder}/1`, 5), 3_600_000, true)
          assert.strictEqual(token, fencingToken)
        }),
      "somebody who gives permits back": ({ release }) => release,
      "somebody who overtakes": ({ name }) =>
        Effect.map(
          Semaphore.tryAcquire(define(name, 5), 1, { fair: false }),
          (held) => assert.isTrue(Option.isSome(held))
        ),
      "somebody who asks once, in vain": ({ name }) =>
        Effect.scoped(Effect.map(
          Semaphore.tryAcquire(define(name, 5), 1),
          (held) => assert.isTrue(Option.isNone(held))
        ))
    })
  ) {
    it.effect(`whoever comes by hands on what leases that are over have held: ${who}`, () =>
      Effect.gen(function*() {
        const semaphore = define("passing-by", 5)
        const held = yield* Semaphore.acquire(semaphore, 1, { lease: "1 hour" })
        yield* Semaphore.acquire(semaphore, 4, { lease: "4 seconds", renew: false })
        const asking = yield* Effect.fork(Semaphore.acquire(semaphore, 3, { waitTimeout: "1 minute" }))
        const behind = yield* Effect.fork(Semaphore.acquire(semaphore, 3, { waitTimeout: "1 minute" }))
        yield* settle
        // At this very moment, and before those who wait look for themselves.
        yield* TestClock.adjust("4 seconds")
        assert.deepStrictEqual(yield* Fiber.poll(asking), Option.none())
        yield* comes(held)
        yield* settle
        assert.isTrue(Option.isSome(yield* Fiber.poll(asking)))
        assert.deepStrictEqual(yield* Fiber.poll(behind), Option.none())
      }).pipe(Effect.scoped, Effect.provide(Semaphore.layerTest)))
  }

  it.effect("turns that nobody takes go on after two seconds, past all waiters of that process", () =>
    Effect.gen(function*() {
      const client = yield* RedisClient
      const semaphore = define("stopped", 4)
      const held = yield* Semaphore.acquire(semaphore, 4, { lease: "1 minute" })
      // A stopped process: its subscription is open, and it does not answer.
      // @effect-diagnostics-next-line floatingEffect:off
      yield* client.subscribe({ channels: ["lock:process:stopped"] })
      const queue = permitKeysOf("semaphore", semaphore.name)[2]!
      yield* client.zadd(queue, Array.from({ length: 50 }, (_, i) => [`stopped:${i}/1`, i + 1] as const))
      const waiting = yield* Effect.fork(
        Semaphore.withPermits(Effect.succeed("served"), semaphore, 3, { waitTimeout: "1 minute" })
      )
      yield* settle
      yield* held.release
      yield* TestClock.adjust("1900 millis")
      assert.deepStrictEqual(yield* Fiber.poll(waiting), Option.none())
      yield* TestClock.adjust("300 millis")
      assert.strictEqual(yield* Fiber.join(waiting), "served")
      assert.deepStrictEqual(yield* remains, [])
    }).pipe(Effect.scoped, Effect.provide(Semaphore.layerTest)))

  it.effect("on a Cluster nobody counts as gone because nobody of this node heard", () =>
    Effect.gen(function*() {
      const client = yield* RedisClient
      const semaphore = define("cluster", 1)
      const on = (owner: string) => claim(semaphore.name, owner, 1, true)
      yield* client.eval(acquire, on("a:0/1"), 10_000, true)
      yield* client.eval(acquire, on("elsewhere:0/1"), 10_000, true)
      yield* client.eval(release, on("a:0/1"))
      const { holders } = yield* Semaphore.inspect(semaphore)
      assert.deepStrictEqual(holders.map(({ holder }) => holder), ["elsewhere:0"])
      assert.deepStrictEqual(holders.map(({ remaining }) => Duration.toMillis(remaining)), [2000])
    }).pipe(Effect.provide(Semaphore.layerTest)))

  it.effect("who asks again while it waits does not bring back the number of permits that it knows", () =>
    Effect.gen(function*() {
      const before = define("resized", 4)
      const held = yield* Effect.forEach([1, 2, 3, 4], () => Semaphore.acquire(before))
      const asking = yield* Effect.fork(Semaphore.acquire(before, 1, { waitTimeout: "1 minute" }))
      yield* settle
      assert.deepStrictEqual(yield* Semaphore.tryAcquire(define("resized", 2)), Option.none())
      yield* TestClock.adjust("20 seconds")
      for (const one of held.slice(0, 2)) {
        yield* one.release
        yield* TestClock.adjust("6 seconds")
        assert.deepStrictEqual(yield* Fiber.poll(asking), Option.none())
      }
      yield* held[2]!.release
      yield* settle
      assert.isTrue(yield* (yield* Fiber.join(asking)).isHeld)
    }).pipe(Effect.scoped, Effect.provide(Semaphore.layerTest)))

  it.effect("those who may overtake are looked for among the first in the queue only, and come by themselves else", () =>
    Effect.gen(function*() {
      const semaphore = define("deep", 2)
      yield* Semaphore.acquire(semaphore, 1, { lease: "1 hour" })
      const held = yield* Semaphore.acquire(semaphore, 1, { lease: "1 hour" })
      yield* Effect.forEach(
        Array.from({ length: 70 }),
        () => Effect.zipRight(Effect.fork(Semaphore.acquire(semaphore, 2, { waitTimeout: "1 minute" })), settle)
      )
      const unfair = yield* Effect.fork(Semaphore.acquire(semaphore, 1, { waitTimeout: "1 minute", fair: false }))
      yield* settle
      yield* held.release
      yield* settle
      assert.deepStrictEqual(yield* Fiber.poll(unfair), Option.none())
      yield* TestClock.adjust("6 seconds")
      assert.isTrue(yield* (yield* Fiber.join(unfair)).isHeld)
    }).pipe(Effect.scoped, Effect.provide(Semaphore.layerTest)))

  it.effect("a thousand acquisitions leave no key, no waiter and no timer", () =>
    Effect.gen(function*() {
      const server = yield* RedisTestServer
      yield* Effect.forEach(
        Array.from({ length: 1000 }, (_, i) => i),
        (i) =>
          Semaphore.withPermits(Effect.yieldNow(), define(`many-${i % 10}`, 3), 1 + i % 3, { waitTimeout: "1 minute" }),
        { concurrency: 50, discard: true }
      )
      assert.deepStrictEqual(yield* remains, [])
      const before = (yield* server.journal).length
      yield* TestClock.adjust("1 hour")
      assert.strictEqual((yield* server.journal).length, before)
      assert.deepStrictEqual(Array.from(yield* TestClock.sleeps()), [])
    }).pipe(Effect.provide(Semaphore.layerTest)))

  it.effect("asks once when it may not wait, and sends nothing for what can never be had", () =>
    Effect.gen(function*() {
      const server = yield* RedisTestServer
      const semaphore = define("once", 2)
      yield* Effect.scoped(Semaphore.tryAcquire(semaphore))
      yield* Effect.scoped(Semaphore.acquire(semaphore, 1, { waitTimeout: 0 }))
      assert.deepStrictEqual(yield* server.subscriptions, [])
      yield* Effect.scoped(Semaphore.acquire(semaphore))
      assert.strictEqual((yield* server.subscriptions).length, 1)
      const before = (yield* server.journal).length
      yield* Effect.scoped(Semaphore.acquire(semaphore))
      assert.strictEqual((yield* server.journal).length, before + 2)
      assert.isTrue(Either.isLeft(yield* Effect.either(Effect.scoped(Semaphore.acquire(semaphore, 3)))))
      assert.isTrue(Either.isLeft(yield* Effect.either(Effect.scoped(Semaphore.acquire(semaphore, 0)))))
      assert.strictEqual((yield* server.journal).length, before + 2)
    }).pipe(Effect.provide(Semaphore.layerTest)))

  it.effect("what is built together shares one subscription and the renewal of its leases", () =>
    Effect.gen(function*() {
      const server = yield* RedisTestServer
      const held = [
        yield* Lock.acquire("shared"),
        yield* ReadWriteLock.acquireRead("shared"),
        yield* Semaphore.acquire(define("shared", 3)),
        yield* Semaphore.acquire(define("shared", 3), 2, { lease: "30 seconds" })
      ]
      assert.strictEqual((yield* server.subscriptions).length, 1)
      yield* TestClock.adjust("1 minute")
      for (const { isHeld } of held) assert.isTrue(yield* isHeld)
      // One timer for all of them.
      assert.strictEqual(Array.from(yield* TestClock.sleeps()).length, 1)
      assert.strictEqual(yield* Semaphore.available(define("shared", 3)), 0)
    }).pipe(
      Effect.scoped,
      Effect.provide(Layer.mergeAll(Lock.layerTest, ReadWriteLock.layerTest, Semaphore.layerTest))
    ))
})

describe("Semaphore, observed", () => {
  it.effect("makes one span for an operation, and counts what became of every attempt", () =>
    Effect.gen(function*() {
      const spans = yield* Spans.Spans
      const semaphore = define("observed", 3)
      const count = (metric: typeof locksLost) => Effect.map(Metric.value(metric), (state) => state.count)
      const read = Effect.all([count(lockAcquired), count(lockNotAcquired), count(locksLost)])
      const before = yield* read
      yield* Semaphore.withPermits(Effect.void, semaphore, 2)
      yield* Semaphore.acquire(semaphore, 3, { lease: "1 second", renew: false })
      yield* Semaphore.tryAcquire(semaphore)
      yield* TestClock.adjust("2 seconds")
      const after = yield* read
      assert.deepStrictEqual(after.map((n, i) => n - before[i]!), [2, 1, 1])
      const all = (yield* spans.all).filter(({ name }) => name.startsWith("semaphore."))
      assert.deepStrictEqual(
        all.map(({ attributes, name }) => [name, attributes.get("effect_redis.semaphore.permits")]),
        [["semaphore.withPermits", 2], ["semaphore.acquire", 3], ["semaphore.tryAcquire", 1]]
      )
      for (const { attributes } of all) assert.strictEqual(attributes.get("effect_redis.semaphore.name"), "observed")
    }).pipe(Effect.scoped, Effect.provide(Semaphore.layerTest), Effect.provide(Spans.layer)))
})
