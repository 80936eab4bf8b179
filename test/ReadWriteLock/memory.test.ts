import { assert, describe, it } from "@effect/vitest"
import { Effect, Either, Fiber, Option, TestClock } from "effect"
import { extend, permitKeysOf } from "../../src/Lock/permitScripts.js"
import * as ReadWriteLock from "../../src/ReadWriteLock/index.js"
import { RedisClient } from "../../src/RedisClient.js"
import { RedisTestServer } from "../../src/RedisTestServer.js"
import { inMemory } from "../kit/processes.js"
import * as Spans from "../kit/spans.js"

const process = inMemory(ReadWriteLock.make)

const { acquireRead, acquireWrite, withReadLock, withWriteLock } = ReadWriteLock

const patient = { waitTimeout: "1 hour" } as const

const inspect = (name: string) => Effect.flatMap(ReadWriteLock.ReadWriteLock, (lock) => lock.inspect(name))

/** Keys of locks that somebody holds or waits for. */
const remains = Effect.flatMap(
  RedisTestServer,
  (server) => Effect.map(server.keys, (keys) => keys.map(({ key }) => key).filter((key) => !key.endsWith(":fence")))
)

/** Lets everything run that needs no time. */
const settle = TestClock.adjust(0)

describe("ReadWriteLock on virtual time", () => {
  it.effect("a writer waits for a reader that died until that one's own lease is over", () =>
    Effect.gen(function*() {
      const dying = yield* process
      const living = yield* acquireRead("died", { lease: "1 hour" })
      yield* Effect.forkDaemon(Effect.scoped(
        Effect.zipRight(dying.service.acquireRead("died", { lease: "6 seconds" }), Effect.never)
      ))
      yield* settle
      yield* dying.die
      const writer = yield* Effect.fork(acquireWrite("died", patient))
      yield* settle
      yield* living.release
      yield* TestClock.adjust("5900 millis")
      assert.deepStrictEqual(yield* Fiber.poll(writer), Option.none())
      yield* TestClock.adjust("800 millis")
      assert.isTrue(yield* (yield* Fiber.join(writer)).isHeld)
    }).pipe(Effect.scoped, Effect.provide(ReadWriteLock.layerTest)))

  it.effect("the reply to a downgrade is lost: readers come in all the same", () =>
    Effect.gen(function*() {
      const server = yield* RedisTestServer
      const other = yield* process
      const held = yield* acquireWrite("lost", { lease: "1 minute" })
      const reader = yield* Effect.fork(other.service.acquireRead("lost", patient))
      yield* settle
      yield* server.inject({ _tag: "lose-reply", command: extend.sha })
      const downgrading = yield* Effect.fork(held.downgrade)
      yield* TestClock.adjust("1 second")
      yield* Fiber.join(downgrading)
      yield* Fiber.join(reader)
      assert.strictEqual((yield* inspect("lost")).readers.length, 2)
    }).pipe(Effect.scoped, Effect.provide(ReadWriteLock.layerTest)))

  it.effect("a downgrade that the server did not hear of is made up for by the next renewal", () =>
    Effect.gen(function*() {
      const server = yield* RedisTestServer
      const held = yield* acquireWrite("deaf", { lease: "30 seconds" })
      yield* server.inject({ _tag: "reply", command: extend.sha, error: "ERR out of order" })
      assert.isTrue(Either.isLeft(yield* Effect.either(held.downgrade)))
      assert.isTrue(Option.isSome((yield* inspect("deaf")).writer))
      // For this process it is a read lock from then on.
      const upgrade = yield* Effect.flip(held.protect(withWriteLock(Effect.void, "deaf")))
      assert.strictEqual(upgrade._tag, "LockUpgradeRefused")
      yield* TestClock.adjust("12 seconds")
      assert.isTrue(yield* held.isHeld)
      assert.strictEqual((yield* inspect("deaf")).readers.length, 1)
    }).pipe(Effect.scoped, Effect.provide(ReadWriteLock.layerTest)))

  it.effect("a renewal that was sent before a downgrade and comes after it makes no writer again", () =>
    Effect.gen(function*() {
      const client = yield* RedisClient
      const held = yield* acquireWrite("late")
      const { holder } = Option.getOrThrow((yield* inspect("late")).writer)
      const all = 1_000_000_000
      yield* held.downgrade
      yield* client.eval(extend, {
        keys: permitKeysOf("rwlock", "late"),
        owner: `${holder}/${all}`,
        limit: all,
        weight: all,
        notices: { channel: "lock:process:", cluster: false }
      }, 10_000)
      assert.strictEqual((yield* inspect("late")).readers.length, 1)
    }).pipe(Effect.scoped, Effect.provide(ReadWriteLock.layerTest)))

  it.effect("the replies to acquisitions are lost: nobody waits for itself", () =>
    Effect.gen(function*() {
      const server = yield* RedisTestServer
      yield* withReadLock(Effect.void, "warm")
      for (const acquire of [acquireRead("replies"), acquireWrite("replies")]) {
        yield* server.inject({ _tag: "lose-reply", command: "EVALSHA" })
        const fiber = yield* Effect.fork(Effect.scoped(Effect.zipRight(acquire, inspect("replies"))))
        yield* TestClock.adjust("500 millis")
        const { readers, waiters, writer } = yield* Fiber.join(fiber)
        assert.strictEqual(readers.length + Option.toArray(writer).length, 1)
        assert.strictEqual(waiters, 0)
      }
      assert.deepStrictEqual(yield* remains, [])
    }).pipe(Effect.provide(ReadWriteLock.layerTest)))

  it.effect("waiters survive a lost connection", () =>
    Effect.gen(function*() {
      const server = yield* RedisTestServer
      const holder = yield* process
      const held = yield* holder.service.acquireWrite("waiters", { lease: "1 hour" })
      const waiting = yield* Effect.fork(Effect.all([
        withReadLock(Effect.succeed("read"), "waiters", patient),
        withWriteLock(Effect.succeed("written"), "waiters", patient),
        withReadLock(Effect.succeed("read"), "waiters", patient)
      ], { concurrency: 3 }))
      yield* settle
      yield* server.disconnect({ downtime: "3 seconds" })
      const releasing = yield* Effect.fork(held.release)
      yield* TestClock.adjust("20 seconds")
      assert.isTrue(yield* Fiber.join(releasing))
      assert.deepStrictEqual(yield* Fiber.join(waiting), ["read", "written", "read"])
      yield* holder.die
      assert.deepStrictEqual(yield* remains, [])
    }).pipe(Effect.scoped, Effect.provide(ReadWriteLock.layerTest)))

  it.effect("a stopped process holds up readers and writers for two seconds, with all of its waiters", () =>
    Effect.gen(function*() {
      const client = yield* RedisClient
      const held = yield* acquireWrite("stopped", { lease: "1 minute" })
      // @effect-diagnostics-next-line floatingEffect:off
      yield* client.subscribe({ channels: ["lock:process:stopped"] })
      yield* client.zadd(permitKeysOf("rwlock", "stopped")[2]!, [
        ["stopped:0/1000000000", 1],
        ["stopped:1/1", 2],
        ["stopped:2/1000000000", 3]
      ])
      const reader = yield* Effect.fork(acquireRead("stopped", patient))
      yield* settle
      yield* held.release
      yield* TestClock.adjust("1900 millis")
      assert.deepStrictEqual(yield* Fiber.poll(reader), Option.none())
      yield* TestClock.adjust("300 millis")
      assert.isTrue(yield* (yield* Fiber.join(reader)).isHeld)
      assert.strictEqual((yield* inspect("stopped")).waiters, 0)
    }).pipe(Effect.scoped, Effect.provide(ReadWriteLock.layerTest)))

  it.effect("a hundred readers come in together", () =>
    Effect.gen(function*() {
      const server = yield* RedisTestServer
      const others = yield* Effect.forEach([1, 2, 3, 4], () => process)
      const held = yield* acquireWrite("together")
      // The scripts are known from here on.
      yield* inspect("together")
      yield* withReadLock(Effect.void, "other")
      const readers = yield* Effect.forEach(
        Array.from({ length: 100 }, (_, i) => others[i % 4]!),
        ({ service }) => Effect.fork(service.acquireRead("together", patient))
      )
      yield* settle
      const before = (yield* server.journal).length
      yield* held.release
      yield* settle
      yield* Fiber.join(Fiber.all(readers))
      assert.strictEqual((yield* inspect("together")).readers.length, 100)
      // One release, one claim for each, and nothing that would grow with their number in another way.
      assert.isAtMost((yield* server.journal).length - before, 102)
    }).pipe(Effect.scoped, Effect.provide(ReadWriteLock.layerTest)))

  it.effect("makes one span for an operation", () =>
    Effect.gen(function*() {
      const spans = yield* Spans.Spans
      yield* withReadLock(Effect.void, "observed")
      yield* withWriteLock(Effect.void, "observed")
      yield* Effect.scoped(acquireRead("observed"))
      const all = (yield* spans.all).filter(({ name }) => name.startsWith("rwlock."))
      assert.deepStrictEqual(all.map(({ name }) => name), [
        "rwlock.withReadLock",
        "rwlock.withWriteLock",
        "rwlock.acquireRead"
      ])
      for (const { attributes } of all) assert.strictEqual(attributes.get("effect_redis.lock.name"), "observed")
    }).pipe(Effect.provide(ReadWriteLock.layerTest), Effect.provide(Spans.layer)))
})
