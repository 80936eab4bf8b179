import { assert, describe, it } from "@effect/vitest"
import { Deferred, Effect, Either, Exit, Fiber, Layer, Logger, LogLevel, Option, Schema, TestClock } from "effect"
import * as Cache from "../../src/Cache/index.js"
import { fill } from "../../src/Cache/scripts.js"
import { RedisClient } from "../../src/RedisClient.js"
import * as RedisTestServer from "../../src/RedisTestServer.js"
import { connect, eventually } from "../IoRedis/support.js"
import * as FaultProxy from "../kit/FaultProxy.js"
import * as RealServer from "../kit/RealServer.js"

const { Fault } = RedisTestServer

const numbers = (options?: Partial<Cache.Options<string, number>>) =>
  Cache.define({ name: "numbers", key: Schema.String, value: Schema.Number, ttl: "1 hour", ...options })

const quietly = Logger.minimumLogLevel(LogLevel.None)

const inMemory = Layer.provideMerge(
  Layer.provideMerge(Cache.layer, RedisTestServer.layerWith({ commandTimeout: "250 millis" })),
  quietly
)

/** One more process on the server in memory. */
const anotherProcess = Effect.gen(function*() {
  const server = yield* RedisTestServer.RedisTestServer
  const client = yield* server.client({ commandTimeout: "250 millis" })
  return yield* Effect.provideService(Cache.make, RedisClient, client)
})

/** What an effect gives while the clock stands still. */
const atOnce = <A, E, R>(effect: Effect.Effect<A, E, R>) =>
  Effect.gen(function*() {
    const fiber = yield* Effect.fork(effect)
    for (let i = 0; i < 200; i++) yield* Effect.yieldNow()
    const exit = yield* Fiber.poll(fiber)
    if (Option.isNone(exit)) {
      yield* Fiber.interrupt(fiber)
      return yield* Effect.dieMessage("it waits")
    }
    return yield* exit.value
  })

/** What an effect gives in so many milliseconds of the clock. */
const within = <A, E, R>(millis: number, effect: Effect.Effect<A, E, R>) =>
  Effect.gen(function*() {
    const fiber = yield* Effect.fork(effect)
    for (let passed = 0; passed < millis && Option.isNone(yield* Fiber.poll(fiber)); passed += 10) {
      for (let i = 0; i < 20; i++) yield* Effect.yieldNow()
      yield* TestClock.adjust(10)
    }
    return yield* atOnce(Fiber.join(fiber))
  })

const settled = Effect.repeatN(Effect.yieldNow(), 200)

describe("Cache under faults, in memory", () => {
  it.scoped("a server that does not answer costs one command timeout, and from then on nothing", () =>
    Effect.gen(function*() {
      const server = yield* RedisTestServer.RedisTestServer
      const cache = yield* Cache.open(numbers({ near: { capacity: 1000 } }))
      yield* settled
      yield* cache.set("near", 1)
      yield* settled
      assert.deepStrictEqual(yield* cache.get("near"), Option.some(1))
      yield* server.inject(Fault.delay("1 hour", { probability: 1 }))
      assert.deepStrictEqual(yield* atOnce(cache.get("near")), Option.some(1))
      let lookups = 0
      const lookup = Effect.sync(() => ++lookups)
      assert.strictEqual(yield* within(260, cache.getOrSet("cold", lookup)), 1)
      for (let i = 0; i < 100; i++) {
        assert.strictEqual(yield* atOnce(cache.getOrSet(`cold-${i}`, lookup)), i + 2)
      }
      // What is near is of use still, whether the server tells of changes or not.
      yield* TestClock.adjust("500 millis")
      assert.strictEqual(yield* atOnce(cache.getOrSet("near", Effect.die("it ran"))), 1)
      yield* server.clearFaults
    }).pipe(Effect.provide(inMemory)))

  it.scoped("a server that answers again is asked again", () =>
    Effect.gen(function*() {
      const server = yield* RedisTestServer.RedisTestServer
      const cache = yield* Cache.open(numbers())
      yield* settled
      yield* cache.set("k", 1)
      const lost = yield* server.inject(Fault.loseReply({ probability: 1 }))
      assert.strictEqual(yield* within(260, cache.getOrSet("k", Effect.succeed(2))), 2)
      yield* lost.withdraw
      yield* TestClock.adjust("2 seconds")
      yield* settled
      assert.deepStrictEqual(yield* within(1000, cache.get("k")), Option.some(1))
    }).pipe(Effect.provide(inMemory)))

  it.scoped("when the reply to its lease is lost, nobody waits for a lookup that nobody runs", () =>
    Effect.gen(function*() {
      const server = yield* RedisTestServer.RedisTestServer
      const cache = yield* Cache.open(numbers())
      const other = yield* Effect.flatMap(anotherProcess, (service) => service.open(numbers()))
      yield* settled
      yield* server.inject(Fault.loseReply({ command: "SET" }))
      assert.strictEqual(yield* within(300, cache.getOrSet("k", Effect.succeed(1))), 1)
      assert.strictEqual(yield* within(1000, other.getOrSet("k", Effect.succeed(2))), 2)
      assert.deepStrictEqual(yield* within(2000, cache.get("k")), Option.some(2))
    }).pipe(Effect.provide(inMemory)))

  it.scoped("when the reply to its fill is lost, it gives what it has found", () =>
    Effect.gen(function*() {
      const server = yield* RedisTestServer.RedisTestServer
      const cache = yield* Cache.open(numbers())
      yield* settled
      // From now on the server knows the script.
      yield* cache.getOrSet("other", Effect.succeed(0))
      const go = yield* Deferred.make<number>()
      const caller = yield* Effect.fork(cache.getOrSet("k", Deferred.await(go)))
      yield* settled
      yield* server.inject(Fault.loseReply({ command: fill.sha }))
      yield* Deferred.succeed(go, 1)
      assert.strictEqual(yield* within(300, Fiber.join(caller)), 1)
      yield* TestClock.adjust("2 seconds")
      yield* settled
      assert.deepStrictEqual(yield* within(300, cache.get("k")), Option.some(1))
    }).pipe(Effect.provide(inMemory)))

  it.scoped("a connection that breaks during a lookup does not fail it", () =>
    Effect.gen(function*() {
      const server = yield* RedisTestServer.RedisTestServer
      const cache = yield* Cache.open(numbers({ near: { capacity: 10 } }))
      yield* settled
      const go = yield* Deferred.make<number>()
      const caller = yield* Effect.fork(cache.getOrSet("k", Deferred.await(go)))
      yield* settled
      yield* server.disconnect({ downtime: "1 minute" })
      yield* Deferred.succeed(go, 1)
      assert.strictEqual(yield* within(300, Fiber.join(caller)), 1)
    }).pipe(Effect.provide(inMemory)))

  it.scoped("a server that is full still serves reads, and lookups", () =>
    Effect.gen(function*() {
      const server = yield* RedisTestServer.RedisTestServer
      const cache = yield* Cache.open(numbers())
      yield* settled
      yield* cache.set("k", 1)
      const full = yield* server.inject(Fault.outOfMemory({ command: "SET", probability: 1 }))
      assert.deepStrictEqual(yield* cache.get("k"), Option.some(1))
      assert.strictEqual(yield* atOnce(cache.getOrSet("other", Effect.succeed(2))), 2)
      const refused = yield* Effect.either(cache.set("k", 3))
      assert.isTrue(Either.isLeft(refused) && refused.left._tag === "RedisReplyError" && refused.left.code === "OOM")
      yield* full.withdraw
      // That was an answer, so it is asked at once.
      assert.strictEqual(yield* atOnce(cache.getOrSet("other", Effect.succeed(3))), 3)
      assert.deepStrictEqual(yield* cache.get("other"), Option.some(3))
    }).pipe(Effect.provide(inMemory)))

  it.scoped("a lookup that needs its own key does not wait for itself", () =>
    Effect.gen(function*() {
      const cache = yield* Cache.open(numbers())
      yield* settled
      const inner = cache.getOrSet("k", Effect.succeed(1))
      assert.strictEqual(yield* within(1000, cache.getOrSet("k", Effect.map(inner, (n) => n + 1))), 2)
      assert.deepStrictEqual(yield* cache.get("k"), Option.some(2))
      const around = cache.getOrSet("a", cache.getOrSet("b", cache.getOrSet("a", Effect.succeed(1))))
      assert.strictEqual(yield* within(1000, around), 1)
    }).pipe(Effect.provide(inMemory)))

  it.scoped("lookups of two processes that need each other do not wait for each other for ever", () =>
    Effect.gen(function*() {
      const definition = numbers({ lease: "1 second" })
      const one = yield* Cache.open(definition)
      const other = yield* Effect.flatMap(anotherProcess, (service) => service.open(definition))
      yield* settled
      const begun = yield* Effect.all([Deferred.make<void>(), Deferred.make<void>()])
      const meet = (i: 0 | 1) =>
        Effect.zipRight(Deferred.succeed(begun[i], undefined), Effect.forEach(begun, Deferred.await))
      const a = one.getOrSet("a", Effect.zipRight(meet(0), one.getOrSet("b", Effect.succeed(1))))
      const b = other.getOrSet("b", Effect.zipRight(meet(1), other.getOrSet("a", Effect.succeed(2))))
      const values = yield* within(5000, Effect.all([a, b], { concurrency: 2 }))
      assert.isTrue(values.every((n) => n === 1 || n === 2))
    }).pipe(Effect.provide(inMemory)))
})

/** A process of its own, with patience for so long. */
const process = (url: string, commandTimeout: "500 millis" | "2 seconds" = "500 millis") =>
  Effect.gen(function*() {
    const client = yield* connect({ url, commandTimeout })
    const service = yield* Effect.provideService(Cache.make, RedisClient, client)
    return { client, service }
  })

/** Whether a value that is near is given without asking the server. */
const isNear = (cache: Cache.Handle<string, number>, key: string) =>
  Effect.gen(function*() {
    const before = yield* cache.stats
    yield* cache.get(key)
    const after = yield* cache.stats
    return after.near.hits > before.near.hits
  })

const near = (cache: Cache.Handle<string, number>, key: string) =>
  eventually(Effect.filterOrFail(isNear(cache, key), (hit) => hit, () => "not yet"))

describe("Cache under faults, live", () => {
  it.live("a server that is stopped, killed and started again", () =>
    Effect.gen(function*() {
      const server = yield* RealServer.start()
      const { service } = yield* process(server.url)
      const cache = yield* service.open(numbers({ near: { capacity: 10 } }))
      yield* cache.set("near", 1)
      yield* near(cache, "near")
      for (const fault of [server.pause, server.kill]) {
        yield* fault
        assert.strictEqual(yield* cache.getOrSet("cold", Effect.succeed(2)), 2)
        assert.strictEqual(yield* cache.getOrSet("near", Effect.succeed(3)), 1)
        yield* server.running.pipe(Effect.flatMap(() => fault === server.pause ? server.resume : server.restart))
        if (fault === server.kill) {
          // It has lost everything, and nothing of what was near counts.
          yield* eventually(Effect.filterOrFail(cache.get("near"), Option.isNone, () => "not yet"))
        }
        yield* eventually(cache.set("near", 1))
        yield* near(cache, "near")
      }
      assert.deepStrictEqual(yield* cache.get("near"), Option.some(1))
    }).pipe(Effect.scoped, Effect.provide(quietly)))

  it.live("after a cut nothing is served that was near before", () =>
    Effect.gen(function*() {
      const server = yield* RealServer.start()
      const proxy = yield* FaultProxy.make(server)
      const definition = numbers({ near: { capacity: 10 }, onUnavailable: "fail" })
      const reader = yield* process(proxy.url)
      const writer = yield* process(server.url, "2 seconds")
      const cache = yield* reader.service.open(definition)
      const other = yield* writer.service.open(definition)
      let value = 1
      yield* other.set("k", value)
      yield* near(cache, "k")
      const faults = {
        refuse: [proxy.refuse, proxy.accept],
        stall: [proxy.stall(), proxy.resume]
      } as const
      for (const [name, [begin, end]] of Object.entries(faults)) {
        yield* begin
        yield* other.set("k", ++value)
        // Silence is noticed within a command timeout.
        yield* Effect.sleep(name === "refuse" ? "200 millis" : "1200 millis")
        for (let i = 0; i < 3; i++) {
          const found = yield* Effect.exit(cache.get("k"))
          assert.isFalse(Exit.isSuccess(found), name)
        }
        yield* end
        const found = yield* eventually(cache.get("k"))
        assert.deepStrictEqual(found, Option.some(value), name)
        yield* near(cache, "k")
      }
      // Only the connection that tells of changes.
      for (let i = 0; i < 3; i++) {
        yield* server.cli("CLIENT", "KILL", "TYPE", "pubsub")
        yield* other.set("k", ++value)
        yield* Effect.sleep("200 millis")
        assert.deepStrictEqual(yield* cache.get("k"), Option.some(value))
        yield* near(cache, "k")
      }
    }).pipe(Effect.scoped, Effect.provide(quietly)))

  it.live("without its scripts the server gets them again", () =>
    Effect.gen(function*() {
      const server = yield* RealServer.start()
      const { service } = yield* process(server.url, "2 seconds")
      const cache = yield* service.open(numbers({ tags: () => ["all"] }))
      for (let i = 0; i < 3; i++) {
        yield* server.cli("SCRIPT", "FLUSH")
        assert.strictEqual(yield* cache.getOrSet("k", Effect.succeed(i)), i)
        yield* server.cli("SCRIPT", "FLUSH")
        yield* cache.invalidateTags("all")
        assert.deepStrictEqual(yield* cache.get("k"), Option.none())
      }
    }).pipe(Effect.scoped, Effect.provide(quietly)))
})
