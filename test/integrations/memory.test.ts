/**
 * What only the server in memory can show: faults at a point, what was sent, and what is left at an instant.
 */
import * as PersistedQueue from "@effect/experimental/PersistedQueue"
import * as Persistence from "@effect/experimental/Persistence"
import * as Limiter from "@effect/experimental/RateLimiter"
import * as Platform from "@effect/platform/KeyValueStore"
import { assert, describe, it } from "@effect/vitest"
import { Duration, Effect, Exit, Fiber, Layer, Logger, Option, Schema, Scope, TestClock } from "effect"
import * as BackingPersistence from "../../src/integrations/BackingPersistence.js"
import * as KeyValueStore from "../../src/integrations/KeyValueStore.js"
import * as scripts from "../../src/integrations/persistedQueueScripts.js"
import * as PersistedQueueStore from "../../src/integrations/PersistedQueueStore.js"
import * as RateLimiterStore from "../../src/integrations/RateLimiterStore.js"
import { RedisClient } from "../../src/RedisClient.js"
import * as RedisTestServer from "../../src/RedisTestServer.js"
import * as Spans from "../kit/spans.js"

const { Fault } = RedisTestServer

const server = RedisTestServer.RedisTestServer

const keys = Effect.flatMap(server, ({ keys }) => keys)

/** What was sent while an effect ran. */
const sent = <A, E, R>(effect: Effect.Effect<A, E, R>) =>
  Effect.gen(function*() {
    const { journal } = yield* server
    const before = (yield* journal).length
    yield* effect
    return (yield* journal).slice(before).map(({ args }) => args)
  })

/** The messages that are logged while an effect runs. */
const logged = <A, E, R>(effect: Effect.Effect<A, E, R>) =>
  Effect.suspend(() => {
    const messages: Array<string> = []
    const logger = Logger.make(({ message }) => void messages.push(String(message)))
    return Effect.as(Effect.provide(effect, Logger.replace(Logger.defaultLogger, logger)), messages)
  })

describe("RateLimiterStore in memory", () => {
  const services = Limiter.layer.pipe(Layer.provideMerge(RateLimiterStore.layerTest))

  it.effect("those who may be delayed run one window after the other", () =>
    Effect.gen(function*() {
      const sleep = yield* Limiter.makeSleep
      const clock = yield* Effect.clock
      const times: Array<number> = []
      const run = Effect.zipRight(
        sleep({ key: "sleep", limit: 3, window: "1 second" }),
        Effect.sync(() => void times.push(clock.unsafeCurrentTimeMillis()))
      )
      const all = yield* Effect.fork(Effect.all(Array.from({ length: 9 }, () => run), { concurrency: "unbounded" }))
      for (let i = 0; i < 3; i++) yield* TestClock.adjust("1 second")
      yield* Fiber.join(all)
      assert.deepStrictEqual(times.map((time) => Math.floor(time / 1000)), [0, 0, 0, 1, 1, 1, 2, 2, 2])
    }).pipe(Effect.provide(services)))

  it.effect("its state is gone at the very moment when it says nothing any more", () =>
    Effect.gen(function*() {
      const limiter = yield* Limiter.RateLimiter
      for (const algorithm of ["fixed-window", "token-bucket"] as const) {
        yield* limiter.consume({ algorithm, key: "a", limit: 3, window: "1 second" })
        yield* TestClock.adjust("333 millis")
        assert.strictEqual((yield* keys).length, 1)
        yield* TestClock.adjust("1 millis")
        assert.deepStrictEqual(yield* keys, [])
      }
    }).pipe(Effect.provide(services)))

  it.effect("a bucket that is used before a token is whole loses nothing of it", () =>
    Effect.gen(function*() {
      const { tokenBucket } = yield* Limiter.RateLimiterStore
      const take = (tokens: number) =>
        tokenBucket({ key: "a", tokens, limit: 2, refillRate: Duration.seconds(1), allowOverflow: false })
      assert.strictEqual(yield* take(2), 0)
      yield* TestClock.adjust("1500 millis")
      assert.strictEqual(yield* take(1), 0)
      yield* TestClock.adjust("499 millis")
      assert.strictEqual(yield* take(1), -1)
      yield* TestClock.adjust("1 millis")
      assert.strictEqual(yield* take(1), 0)
    }).pipe(Effect.provide(services)))

  it.effect("each decision is one command, and a failure keeps its cause", () =>
    Effect.gen(function*() {
      const limiter = yield* Limiter.RateLimiter
      const { become, inject } = yield* server
      const take = limiter.consume({ key: "a", limit: 1, window: "1 hour" })
      yield* take
      assert.deepStrictEqual((yield* sent(Effect.either(take))).map(([command]) => command), ["EVALSHA"])
      yield* inject(Fault.loseReply())
      const unknown = yield* Effect.flip(take)
      assert(unknown.reason === "StoreError")
      assert.propertyVal(unknown.cause, "_tag", "RedisOutcomeUnknownError")
      yield* become("loading")
      const loading = yield* Effect.flip(take)
      assert(loading.reason === "StoreError")
      assert.propertyVal(loading.cause, "code", "LOADING")
    }).pipe(Effect.provide(services)))

  it.effect("one span for each decision", () =>
    Effect.gen(function*() {
      const limiter = yield* Limiter.RateLimiter
      yield* limiter.consume({ key: "a", limit: 1, window: "1 hour" })
      yield* limiter.consume({ key: "a", limit: 1, window: "1 hour", algorithm: "token-bucket" })
      const spans = yield* Effect.flatMap(Spans.Spans, ({ all }) => all)
      assert.deepStrictEqual(
        spans.map(({ name }) => name),
        ["rateLimiterStore.fixedWindow", "rateLimiterStore.tokenBucket"]
      )
      assert.strictEqual(spans[0]?.attributes.get("effect_redis.rate_limiter.key"), "a")
    }).pipe(Effect.provide(Layer.provideMerge(services, Spans.layer))))
})

describe("BackingPersistence in memory", () => {
  const open = Effect.flatMap(Persistence.BackingPersistence, (persistence) => persistence.make("store"))
  const forever = Option.none<Duration.Duration>()

  it.scoped("a life ends at its millisecond, rounded up", () =>
    Effect.gen(function*() {
      const store = yield* open
      yield* store.set("a", 1, Option.some(Duration.millis(1.5)))
      yield* store.setMany([["b", 1, Option.some(Duration.nanos(1n))]])
      assert.deepStrictEqual(yield* store.getMany(["a", "b"]), [Option.some(1), Option.some(1)])
      yield* TestClock.adjust("1 millis")
      assert.deepStrictEqual(yield* store.getMany(["a", "b"]), [Option.some(1), Option.none()])
      yield* TestClock.adjust("1 millis")
      assert.deepStrictEqual(yield* keys, [])
    }).pipe(Effect.provide(BackingPersistence.layerTest)))

  it.scoped("many are one write and one read; clear never asks for all keys", () =>
    Effect.gen(function*() {
      const store = yield* open
      const nothing = yield* sent(Effect.all([store.getMany([]), store.setMany([])]))
      assert.deepStrictEqual(nothing, [])
      const write = yield* sent(store.setMany([["a", 1, forever], ["b", 2, Option.some(Duration.seconds(1))]]))
      assert.deepStrictEqual(write, [
        ["SET", "persistence:store:a", "1"],
        ["SET", "persistence:store:b", "2", "PX", "1000"]
      ])
      assert.deepStrictEqual(
        yield* sent(store.getMany(["a", "b"])),
        [["MGET", "persistence:store:a", "persistence:store:b"]]
      )
      const cleared = yield* sent(store.clear)
      assert.deepStrictEqual(new Set(cleared.map(([command]) => command)), new Set(["SCAN", "UNLINK"]))
      assert.deepStrictEqual(yield* keys, [])
    }).pipe(Effect.provide(BackingPersistence.layerTest)))

  it.scoped("a write that was refused is a failure, also one of many, and so is a clear", () =>
    Effect.gen(function*() {
      const store = yield* open
      yield* store.set("a", 1, forever)
      const { become, clearFaults, inject } = yield* server
      yield* inject(Fault.outOfMemory({ command: "SET", after: 1 }))
      const full = yield* Effect.flip(store.setMany([["a", 2, forever], ["b", 2, forever], ["c", 2, forever]]))
      assert(full.reason === "BackingError")
      assert.strictEqual(full.method, "setMany")
      assert.propertyVal(full.cause, "code", "OOM")
      yield* clearFaults
      yield* become("read-only")
      for (const effect of [store.set("a", 1, forever), store.remove("a"), store.clear]) {
        const failure = yield* Effect.flip(effect)
        assert(failure.reason === "BackingError")
        assert.propertyVal(failure.cause, "code", "READONLY")
      }
    }).pipe(Effect.provide(BackingPersistence.layerTest)))

  it.scoped("what cannot be read is reported once each time, without what it holds", () =>
    Effect.gen(function*() {
      const store = yield* open
      const client = yield* RedisClient
      yield* client.set("persistence:store:a", "{secret")
      const messages = yield* logged(Effect.zipRight(store.get("a"), store.getMany(["a", "b"])))
      assert.deepStrictEqual(messages, Array(2).fill("a persisted value is no JSON: it counts as absent"))
    }).pipe(Effect.provide(BackingPersistence.layerTest)))
})

describe("KeyValueStore in memory", () => {
  it.effect("no modify of two processes at once is lost, and one that is alone is two commands", () =>
    Effect.gen(function*() {
      const { client } = yield* server
      const stores = [
        yield* Platform.KeyValueStore,
        yield* Effect.provideService(KeyValueStore.make(), RedisClient, yield* client())
      ]
      yield* stores[0]!.set("n", "0")
      const add = (i: number) => stores[i % 2]!.modify("n", (n) => String(Number(n) + 1))
      const alone = yield* sent(add(0))
      assert.deepStrictEqual(alone.map(([command]) => command), ["GET", "EVALSHA", "EVAL"])
      assert.deepStrictEqual((yield* sent(add(0))).map(([command]) => command), ["GET", "EVALSHA"])
      yield* Effect.forEach(Array.from({ length: 50 }, (_, i) => i), add, { concurrency: "unbounded" })
      assert.deepStrictEqual(yield* stores[1]!.get("n"), Option.some("52"))
    }).pipe(Effect.scoped, Effect.provide(KeyValueStore.layerTest)))

  it.effect("a modify that changes nothing writes nothing", () =>
    Effect.gen(function*() {
      const store = yield* Platform.KeyValueStore
      yield* store.set("a", "1")
      const commands = yield* sent(Effect.all([
        store.modify("a", (text) => text),
        store.modifyUint8Array("a", (bytes) => bytes)
      ]))
      assert.deepStrictEqual(commands.map(([command]) => command), ["GET", "GET"])
    }).pipe(Effect.provide(KeyValueStore.layerTest)))

  it.effect("a modify whose reply is lost fails, because nobody knows whether it was made", () =>
    Effect.gen(function*() {
      const store = yield* Platform.KeyValueStore
      yield* store.set("n", "0")
      const add = store.modify("n", (n) => String(Number(n) + 1))
      yield* add
      yield* Effect.flatMap(server, ({ inject }) => inject(Fault.loseReply({ command: "EVALSHA" })))
      const failure = yield* Effect.flip(add)
      assert(failure._tag === "SystemError")
      assert.propertyVal(failure.cause, "_tag", "RedisOutcomeUnknownError")
      assert.deepStrictEqual(yield* store.get("n"), Option.some("2"))
    }).pipe(Effect.provide(KeyValueStore.layerTest)))

  it.effect("size and clear never ask for all keys, and a function that throws is a defect", () =>
    Effect.gen(function*() {
      const store = yield* Platform.KeyValueStore
      yield* store.set("a", "1")
      const commands = yield* sent(Effect.all([store.size, store.isEmpty, store.clear]))
      assert.deepStrictEqual(new Set(commands.map(([command]) => command)), new Set(["SCAN", "UNLINK"]))
      yield* store.set("a", "1")
      const bug = new Error("bug")
      const exit = yield* Effect.exit(store.modify("a", () => {
        throw bug
      }))
      assert.deepStrictEqual(exit, Exit.die(bug))
    }).pipe(Effect.provide(KeyValueStore.layerTest)))
})

describe("PersistedQueueStore in memory", () => {
  const services = PersistedQueue.layer.pipe(Layer.provideMerge(PersistedQueueStore.layerTest))
  const numbers = PersistedQueue.make({ name: "q", schema: Schema.Number })
  const value = <A>(a: A) => Effect.succeed(a)

  /** Without a tracer or a timer of the queue's own: what a test needs to move on. */
  const after = <A, E>(fiber: Fiber.Fiber<A, E>, duration: Duration.DurationInput) =>
    Effect.gen(function*() {
      const steps = Math.ceil(Duration.toMillis(duration) / 50)
      for (let i = 0; i < steps; i++) yield* TestClock.adjust("50 millis")
      assert.isTrue(Option.isSome(yield* Fiber.poll(fiber)), "it takes longer")
      return yield* Fiber.join(fiber)
    })

  /** The scripts are known to the server, so that a fault hits the command that is meant. */
  const warm = Effect.gen(function*() {
    const queue = yield* numbers
    yield* queue.offer(0)
    yield* queue.take(value)
  })

  it.effect("an offer whose reply is lost is made once", () =>
    Effect.gen(function*() {
      const { inject } = yield* server
      const queue = yield* numbers
      yield* warm
      yield* inject(Fault.loseReply({ command: scripts.offer.sha }))
      const offering = yield* Effect.fork(queue.offer(1))
      yield* after(offering, "1 second")
      assert.strictEqual(yield* queue.take(value), 1)
      const more = yield* Effect.fork(queue.take(value))
      yield* TestClock.adjust("20 seconds")
      assert.deepStrictEqual(yield* Fiber.poll(more), Option.none())
      yield* Fiber.interrupt(more)
    }).pipe(Effect.provide(services)))

  it.effect("a claim whose reply is lost does not keep its item until the lease ends, and has not failed", () =>
    Effect.gen(function*() {
      const { inject } = yield* server
      const queue = yield* numbers
      yield* warm
      yield* queue.offer(1)
      yield* inject(Fault.loseReply({ command: scripts.claim.sha }))
      const taking = yield* Effect.fork(queue.take((n, { attempts }) => value([n, attempts])))
      assert.deepStrictEqual(yield* after(taking, "1 second"), [1, 0])
    }).pipe(Effect.provide(services)))

  it.effect("so it is when whoever claimed it does not wait any more", () =>
    Effect.gen(function*() {
      const { inject } = yield* server
      const queue = yield* numbers
      yield* warm
      yield* queue.offer(1)
      const lost = yield* inject(Fault.loseReply({ command: scripts.claim.sha }))
      const taking = yield* Effect.fork(queue.take(() => Effect.never, { maxAttempts: 1 }))
      while ((yield* lost.happened) === 0) yield* TestClock.adjust("1 millis")
      yield* Fiber.interrupt(taking)
      const elsewhere = yield* PersistedQueueStore.make()
      const other = yield* Effect.provide(
        numbers,
        Layer.provide(PersistedQueue.layer, Layer.succeed(PersistedQueue.PersistedQueueStore, elsewhere))
      )
      const again = yield* Effect.fork(other.take((n, { attempts }) => value([n, attempts])))
      assert.deepStrictEqual(yield* after(again, "1 second"), [1, 0])
    }).pipe(Effect.scoped, Effect.provide(services)))

  it.effect("an end whose reply is lost is one end", () =>
    Effect.gen(function*() {
      const { inject } = yield* server
      const queue = yield* numbers
      yield* warm
      yield* queue.offer(1)
      yield* inject(Fault.loseReply({ command: scripts.settle.sha }))
      yield* after(yield* Effect.fork(queue.take(value)), "1 second")
      const more = yield* Effect.fork(queue.take(value))
      yield* TestClock.adjust("2 minutes")
      assert.deepStrictEqual(yield* Fiber.poll(more), Option.none())
      yield* Fiber.interrupt(more)
    }).pipe(Effect.provide(services)))

  it.effect("an end that the server can't be told at once is told later, and the item is not worked at again", () =>
    Effect.gen(function*() {
      const { become } = yield* server
      const queue = yield* numbers
      yield* warm
      yield* queue.offer(1)
      const taking = yield* Effect.fork(queue.take(() => become("loading")))
      for (let i = 0; i < 40; i++) yield* TestClock.adjust("250 millis")
      // Its worker goes on meanwhile.
      yield* Fiber.join(taking)
      yield* become("normal")
      yield* TestClock.adjust("1 second")
      assert.deepStrictEqual((yield* keys).filter(({ ttl }) => ttl < 0), [])
    }).pipe(Effect.provide(services)))

  it.effect("an outage is waited for, and what was offered meanwhile is not missed", () =>
    Effect.gen(function*() {
      const { become, client, disconnect } = yield* server
      const queue = yield* numbers
      const waiting = yield* Effect.fork(queue.take(value))
      yield* TestClock.adjust("1 second")
      // Another one's offer arrives while this one's connections are down: no message.
      const other = yield* client()
      const elsewhere = yield* Effect.provideService(PersistedQueueStore.make(), RedisClient, other)
      yield* disconnect({ downtime: "300 millis" })
      const offering = yield* Effect.fork(elsewhere.offer({ name: "q", id: "x", element: 5, isCustomId: false }))
      assert.strictEqual(yield* after(waiting, "2 seconds"), 5)
      yield* Fiber.join(offering)
      yield* become("loading")
      const later = yield* Effect.fork(queue.take(value))
      yield* TestClock.adjust("30 seconds")
      yield* become("normal")
      yield* TestClock.adjust("1 second")
      yield* queue.offer(6)
      assert.strictEqual(yield* after(later, "1 second"), 6)
    }).pipe(Effect.scoped, Effect.provide(services)))

  it.effect("what will not pass is a failure of the takers", () =>
    Effect.gen(function*() {
      const client = yield* RedisClient
      const queue = yield* numbers
      yield* client.set("persisted-queue:{q}:waiting", "no list")
      const failure = yield* Effect.flip(Effect.asVoid(queue.take(value)))
      assert(failure._tag === "PersistedQueueError")
      assert.propertyVal(failure.cause, "_tag", "RedisReplyError")
      yield* client.del("persisted-queue:{q}:waiting")
      yield* queue.offer(1)
      assert.strictEqual(yield* queue.take(value), 1)
    }).pipe(Effect.provide(services)))

  it.effect("those who wait ask the server only now and then, however many they are", () =>
    Effect.gen(function*() {
      const queue = yield* numbers
      const waiting = yield* Effect.fork(
        Effect.forEach(Array.from({ length: 100 }), () => queue.take(value), { concurrency: "unbounded" })
      )
      yield* TestClock.adjust("1 second")
      const asked = yield* sent(Effect.forEach(Array.from({ length: 60 }), () => TestClock.adjust("1 second")))
      assert.isAtMost(asked.length, 7)
      // And an offer is one claim for all of them.
      const offered = yield* sent(Effect.zipRight(queue.offer(1), TestClock.adjust("1 millis")))
      assert.isAtMost(offered.filter(([, sha]) => sha === scripts.claim.sha).length, 2)
      yield* Fiber.interrupt(waiting)
    }).pipe(Effect.provide(services)))

  it.effect("a hundred who wait are served by a few claims, in the order in which they came", () =>
    Effect.gen(function*() {
      const queue = yield* numbers
      const order: Array<number> = []
      const waiting = yield* Effect.forEach(
        Array.from({ length: 100 }, (_, i) => i),
        (i) => Effect.fork(queue.take((n) => Effect.sync(() => void (order[i] = n))))
      )
      yield* TestClock.adjust("1 second")
      const store = yield* PersistedQueue.PersistedQueueStore
      const claims = yield* sent(
        Effect.zipRight(
          Effect.forEach(
            Array.from({ length: 100 }, (_, i) => i),
            (i) => store.offer({ name: "q", id: String(i), element: i, isCustomId: true }),
            { concurrency: "unbounded" }
          ),
          Fiber.joinAll(waiting)
        )
      )
      assert.deepStrictEqual(order, Array.from({ length: 100 }, (_, i) => i))
      assert.isAtMost(claims.filter(([, sha]) => sha === scripts.claim.sha).length, 20)
    }).pipe(Effect.provide(services)))

  it.effect("no key, timer, connection or subscription is left when the time of all is over", () =>
    Effect.gen(function*() {
      const { connections, subscriptions } = yield* server
      const queue = yield* numbers
      for (const n of [1, 2, 3]) yield* queue.offer(n, { id: `id-${n}` })
      yield* queue.take(value)
      yield* Effect.exit(queue.take(() => Effect.fail("boom"), { maxAttempts: 1 }))
      yield* queue.take(value)
      assert.isAbove((yield* subscriptions).length, 0)
      const lives = (yield* keys).map(({ key, ttl }) => [key, ttl] as const)
      assert.deepStrictEqual(
        new Map(lives),
        new Map([["persisted-queue:{q}:dead", 30 * 86_400_000], ["persisted-queue:{q}:ids", 86_400_000]])
      )
      yield* TestClock.adjust("20 seconds")
      assert.deepStrictEqual(yield* subscriptions, [])
      assert.deepStrictEqual(Array.from(yield* TestClock.sleeps()), [])
      assert.isAtMost(yield* connections, 2)
      yield* TestClock.adjust("30 days")
      assert.deepStrictEqual(yield* keys, [])
    }).pipe(Effect.provide(services)))

  it.effect("an item whose taker was interrupted, and whose scope nobody closes, comes again", () =>
    Effect.gen(function*() {
      const store = yield* PersistedQueue.PersistedQueueStore
      const queue = yield* numbers
      yield* queue.offer(1)
      const forgotten = yield* Scope.make()
      const take = Scope.extend(store.take({ name: "q", maxAttempts: 1 }), forgotten)
      const taker = yield* Effect.fork(Effect.zipRight(take, Effect.never))
      yield* TestClock.adjust("1 second")
      yield* Fiber.interrupt(taker)
      const waiting = yield* Effect.fork(queue.take((n, { attempts }) => value([n, attempts])))
      assert.deepStrictEqual(yield* after(waiting, "12 seconds"), [1, 0])
    }).pipe(Effect.provide(services)))

  it.effect("takers that are interrupted while they wait do not keep the queue open", () =>
    Effect.gen(function*() {
      const { subscriptions } = yield* server
      const queue = yield* numbers
      const waiting = yield* Effect.forEach(Array.from({ length: 5 }), () => Effect.fork(queue.take(value)))
      yield* TestClock.adjust("1 second")
      assert.strictEqual((yield* subscriptions).length, 1)
      yield* Fiber.interruptAll(waiting)
      yield* TestClock.adjust("1 minute")
      assert.deepStrictEqual(yield* subscriptions, [])
      assert.deepStrictEqual(Array.from(yield* TestClock.sleeps()), [])
    }).pipe(Effect.provide(services)))

  it.effect("ids that are past their time go one by one while the queue is in use", () =>
    Effect.gen(function*() {
      const client = yield* RedisClient
      const queue = yield* numbers
      // One that takes for ever, so that the queue is never empty.
      yield* queue.offer(0)
      const working = yield* Effect.fork(queue.take(() => Effect.never))
      yield* TestClock.adjust(0)
      for (let n = 1; n <= 20; n++) {
        yield* queue.offer(n, { id: `id-${n}` })
        assert.strictEqual(yield* queue.take(value), n)
        yield* TestClock.adjust("1 second")
      }
      assert.isAtMost(yield* client.zcard("persisted-queue:{q}:ids"), 5)
      yield* Fiber.interrupt(working)
    }).pipe(
      Effect.provide(
        PersistedQueue.layer.pipe(
          Layer.provide(PersistedQueueStore.layerWith({ idRetention: "4 seconds" })),
          Layer.provideMerge(RedisTestServer.layer)
        )
      )
    ))

  it.effect("one span for an offer, and one for the wait of a taker", () =>
    Effect.gen(function*() {
      const queue = yield* numbers
      yield* queue.offer(1)
      yield* queue.take(value)
      const spans = yield* Effect.flatMap(Spans.Spans, ({ all }) => all)
      assert.deepStrictEqual(spans.map(({ name }) => name), ["persistedQueue.offer", "persistedQueue.take"])
    }).pipe(Effect.provide(Layer.provideMerge(services, Spans.layer))))
})
