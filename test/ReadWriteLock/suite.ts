import { assert, layer } from "@effect/vitest"
import { Deferred, Duration, Effect, Either, Fiber, Layer, Option, Ref, Schedule, type Scope } from "effect"
import { permitKeysOf } from "../../src/Lock/permitScripts.js"
import * as ReadWriteLock from "../../src/ReadWriteLock/index.js"
import { RedisClient } from "../../src/RedisClient.js"
import type { RedisError } from "../../src/RedisError.js"
import { error, fresh, type Time, until } from "../kit/suites.js"

const { acquireRead, acquireWrite, tryAcquireRead, tryAcquireWrite, withReadLock, withWriteLock } = ReadWriteLock

const anotherProcess: Effect.Effect<ReadWriteLock.Service, never, RedisClient | Scope.Scope> = ReadWriteLock.make

/** Every key of a lock, but for the memory of the last fencing token. */
const remains = (name: string) =>
  Effect.flatMap(RedisClient, (client) => client.exists(...permitKeysOf("rwlock", name).slice(0, 3)))

const inspect = (name: string) => Effect.flatMap(ReadWriteLock.ReadWriteLock, (lock) => lock.inspect(name))

const patient = { waitTimeout: "1 minute" } as const

export const suite = (
  name: string,
  driver: Layer.Layer<RedisClient, RedisError>,
  options: { readonly excludeTestServices?: boolean },
  time: Time
) => {
  const { elapse } = time
  const eventually = until(time)
  const waiting = (name: string, n: number) => eventually(Effect.map(inspect(name), ({ waiters }) => waiters === n))
  const readers = (name: string, n: number) =>
    eventually(Effect.map(inspect(name), (info) => info.readers.length === n))

  layer(Layer.orDie(Layer.provideMerge(ReadWriteLock.layer, driver)), options)(`ReadWriteLock, ${name}`, (it) => {
    it.effect("lets many read or one write", () =>
      Effect.gen(function*() {
        const key = fresh("crowd")
        const processes = [yield* ReadWriteLock.ReadWriteLock, yield* anotherProcess]
        const inside = yield* Ref.make({ readers: 0, writers: 0, mostReaders: 0 })
        const add = (readers: number, writers: number) =>
          Ref.update(inside, (now) => {
            const next = { ...now, readers: now.readers + readers, writers: now.writers + writers }
            assert.isAtMost(next.writers, 1)
            assert.isTrue(next.writers === 0 || next.readers === 0)
            return { ...next, mostReaders: Math.max(next.mostReaders, next.readers) }
          })
        const as = (readers: number, writers: number) =>
          Effect.acquireUseRelease(add(readers, writers), () => elapse("1 millis"), () => add(-readers, -writers))
        yield* Effect.forEach(
          Array.from({ length: 80 }, (_, i) => i),
          (i) => {
            const lock = processes[i % 2]!
            const settings = { waitTimeout: Infinity, fair: i % 7 !== 0 }
            return i % 4 === 0
              ? lock.withWriteLock(as(0, 1), key, settings)
              : lock.withReadLock(as(1, 0), key, settings)
          },
          { concurrency: "unbounded", discard: true }
        )
        const { mostReaders, ...now } = yield* Ref.get(inside)
        assert.deepStrictEqual(now, { readers: 0, writers: 0 })
        assert.isAbove(mostReaders, 1)
        assert.strictEqual(yield* remains(key), 0)
      }).pipe(Effect.scoped))

    it.effect("tells who holds it", () =>
      Effect.gen(function*() {
        const key = fresh("inspect")
        const lock = yield* ReadWriteLock.ReadWriteLock
        const nobody = { writer: Option.none(), readers: [], waiters: 0 }
        assert.deepStrictEqual(yield* inspect(key), nobody)
        const long = yield* acquireRead(key, { lease: "20 seconds" })
        const short = yield* acquireRead(key, { lease: "5 seconds" })
        const reading = yield* inspect(key)
        assert.isTrue(Option.isNone(reading.writer))
        assert.deepStrictEqual(
          reading.readers.map(({ fencingToken }) => fencingToken),
          [short.fencingToken, long.fencingToken]
        )
        const failure = yield* error(acquireWrite(key, { waitTimeout: 0 }))
        assert(failure._tag === "LockNotAcquired")
        assert.strictEqual(failure.reason, "held")
        assert.strictEqual(failure.key, key)
        assert.deepStrictEqual(failure.holder, Option.some(reading.readers[0]!.holder))
        assert.isAtMost(Duration.toSeconds(Option.getOrThrow(failure.remaining)), 5)
        yield* long.release
        yield* short.release
        const writer = yield* acquireWrite(key)
        assert.isAbove(writer.fencingToken, Math.max(short.fencingToken, long.fencingToken))
        const writing = yield* inspect(key)
        assert.strictEqual(Option.getOrThrow(writing.writer).fencingToken, writer.fencingToken)
        assert.deepStrictEqual(writing.readers, [])
        assert.deepStrictEqual(yield* tryAcquireRead(key), Option.none())
        assert.deepStrictEqual(yield* tryAcquireWrite(key), Option.none())
        assert.isTrue(yield* lock.forceRelease(key))
        assert.isFalse(yield* lock.forceRelease(key))
        assert.isFalse(yield* writer.release)
        assert.deepStrictEqual(yield* inspect(key), nobody)
      }).pipe(Effect.scoped))

    it.effect("lets a reader that comes after a waiting writer wait behind it", () =>
      Effect.gen(function*() {
        const key = fresh("starving")
        const other = yield* anotherProcess
        const first = yield* acquireRead(key)
        const writer = yield* Effect.fork(acquireWrite(key, patient))
        yield* waiting(key, 1)
        // It could read beside the first one, and the writer would wait for ever if that went on.
        assert.deepStrictEqual(yield* tryAcquireRead(key), Option.none())
        const late = yield* Effect.forEach([1, 2, 3], (n) =>
          Effect.zipLeft(Effect.fork(other.acquireRead(key, patient)), waiting(key, n + 1)))
        const lastWriter = yield* Effect.fork(other.acquireWrite(key, patient))
        yield* waiting(key, 5)
        const lastReader = yield* Effect.fork(acquireRead(key, patient))
        yield* waiting(key, 6)
        yield* first.release
        const written = yield* Fiber.join(writer)
        assert.strictEqual((yield* inspect(key)).waiters, 5)
        yield* written.release
        // Those who come next and only read come in together, and no farther than the next writer.
        const together = yield* Fiber.join(Fiber.all(late))
        assert.strictEqual((yield* inspect(key)).readers.length, 3)
        assert.strictEqual((yield* inspect(key)).waiters, 2)
        for (const { fencingToken } of together) {
          assert.isAbove(fencingToken, written.fencingToken)
        }
        yield* Effect.forEach(together, ({ release }) =>
          release)
        const writtenAgain = yield* Fiber.join(lastWriter)
        assert.isAbove(writtenAgain.fencingToken, Math.max(...together.map(({ fencingToken }) => fencingToken)))
        yield* writtenAgain.release
        yield* (yield* Fiber.join(lastReader)).release
        assert.strictEqual(yield* remains(key), 0)
      }).pipe(Effect.scoped))

    it.effect("lets a reader that may overtake read beside others though a writer waits", () =>
      Effect.gen(function*() {
        const key = fresh("overtaking")
        const first = yield* acquireRead(key)
        const writer = yield* Effect.fork(acquireWrite(key, patient))
        yield* waiting(key, 1)
        const beside = Option.getOrThrow(yield* tryAcquireRead(key, { fair: false }))
        yield* first.release
        yield* elapse("30 millis")
        assert.deepStrictEqual(yield* Fiber.poll(writer), Option.none())
        yield* beside.release
        assert.isTrue(yield* (yield* Fiber.join(writer)).isHeld)
      }).pipe(Effect.scoped))

    it.effect("lets the readers behind a writer in when the writer gives up", () =>
      Effect.gen(function*() {
        const key = fresh("gave-up")
        yield* acquireRead(key)
        const writer = yield* Effect.fork(error(acquireWrite(key, { waitTimeout: "200 millis" })))
        yield* waiting(key, 1)
        const reader = yield* Effect.fork(acquireRead(key, patient))
        yield* waiting(key, 2)
        yield* elapse("250 millis")
        const failure = yield* Fiber.join(writer)
        assert(failure._tag === "LockNotAcquired")
        assert.strictEqual(failure.reason, "timeout")
        assert.isTrue(yield* (yield* Fiber.join(reader)).isHeld)
        assert.strictEqual((yield* inspect(key)).waiters, 0)
      }).pipe(Effect.scoped))

    it.effect("delays a writer for a reader that died no longer than that one's own lease", () =>
      Effect.gen(function*() {
        const key = fresh("dead-reader")
        const short = yield* acquireRead(key, { lease: "300 millis", renew: false })
        const living = yield* acquireRead(key, { lease: "1 minute" })
        const writer = yield* Effect.fork(acquireWrite(key, patient))
        yield* waiting(key, 1)
        yield* living.release
        assert.deepStrictEqual(yield* Fiber.poll(writer), Option.none())
        yield* elapse("500 millis")
        const written = yield* Fiber.join(writer)
        assert.isFalse(yield* short.isHeld)
        // The one that comes back to life can do nothing to the writer.
        assert.strictEqual((yield* error(short.extend("1 minute")))._tag, "LockLost")
        assert.isFalse(yield* short.release)
        assert.strictEqual(
          Option.getOrThrow((yield* inspect(key)).writer).fencingToken,
          written.fencingToken
        )
      }).pipe(Effect.scoped))

    it.effect("leaves each reader its own lease", () =>
      Effect.gen(function*() {
        const key = fresh("leases")
        const dying = yield* acquireRead(key, { lease: "100 millis", renew: false })
        const renewed = yield* acquireRead(key, { lease: "900 millis" })
        yield* acquireRead(key, { lease: "1 minute", renew: false })
        for (let i = 0; i < 8; i++) yield* elapse("200 millis")
        assert.isFalse(yield* dying.isHeld)
        assert.isTrue(yield* renewed.isHeld)
        assert.strictEqual((yield* inspect(key)).readers.length, 2)
      }).pipe(Effect.scoped))

    it.effect("can be read again inside of reading, also while a writer waits", () =>
      Effect.gen(function*() {
        const key = fresh("read-read")
        const go = yield* Deferred.make<void>()
        const writer = yield* Effect.fork(Effect.zipRight(Deferred.await(go), acquireWrite(key, patient)))
        yield* withReadLock(
          Effect.gen(function*() {
            const token = Option.getOrThrow(yield* ReadWriteLock.fencingToken(key))
            yield* Deferred.succeed(go, undefined)
            yield* waiting(key, 1)
            const again = yield* Effect.scoped(
              Effect.map(acquireRead(key, { waitTimeout: 0 }), ({ fencingToken }) => fencingToken)
            )
            assert.strictEqual(again, token)
            // On another fiber as well, which is still inside.
            yield* withReadLock(Effect.timeout(withReadLock(Effect.void, key), "1 second"), key)
            assert.strictEqual((yield* inspect(key)).readers.length, 1)
          }),
          key
        )
        assert.isTrue(yield* (yield* Fiber.join(writer)).isHeld)
      }).pipe(Effect.scoped))

    it.effect("can be read and written again inside of writing", () =>
      Effect.gen(function*() {
        const key = fresh("write-write")
        const held = yield* acquireWrite(key)
        yield* held.protect(Effect.gen(function*() {
          const inner = Effect.scoped(Effect.map(
            Effect.all([acquireWrite(key, { waitTimeout: 0 }), acquireRead(key, { waitTimeout: 0 })]),
            (all) => all.map(({ fencingToken }) => fencingToken)
          ))
          assert.deepStrictEqual(yield* inner, [held.fencingToken, held.fencingToken])
          // Reading inside of writing is still writing.
          yield* withReadLock(withWriteLock(Effect.void, key), key)
          assert.deepStrictEqual(
            yield* ReadWriteLock.fencingToken(key),
            Option.some(held.fencingToken)
          )
        }))
        assert.isTrue(Option.isSome((yield* inspect(key)).writer))
        // Outside of `protect` it is a stranger like any other.
        assert.deepStrictEqual(yield* tryAcquireRead(key), Option.none())
        assert.deepStrictEqual(yield* ReadWriteLock.fencingToken(key), Option.none())
        assert.isTrue(yield* held.release)
        assert.strictEqual(yield* remains(key), 0)
      }).pipe(Effect.scoped))

    it.effect("refuses to write inside of reading, at once", () =>
      Effect.gen(function*() {
        const key = fresh("upgrade")
        for (
          const upgrade of [
            Effect.asVoid(Effect.scoped(acquireWrite(key, { waitTimeout: Infinity }))),
            Effect.asVoid(Effect.scoped(tryAcquireWrite(key))),
            withWriteLock(Effect.void, key, { waitTimeout: Infinity })
          ]
        ) {
          const failure = yield* error(withReadLock(upgrade, key))
          assert(failure._tag === "LockUpgradeRefused")
          assert.strictEqual(failure.key, key)
          assert.include(failure.message, "wait for itself")
        }
        // Another name is another lock.
        yield* withReadLock(withWriteLock(Effect.void, fresh("other")), key)
        assert.strictEqual(yield* remains(key), 0)
      }))

    it.effect("is not entered by fibers outside of it", () =>
      Effect.gen(function*() {
        const key = fresh("stranger")
        const go = yield* Deferred.make<void>()
        const stranger = yield* Effect.fork(
          Effect.zipRight(Deferred.await(go), Effect.scoped(tryAcquireRead(key)))
        )
        const outcome = yield* withWriteLock(
          Effect.zipRight(Deferred.succeed(go, undefined), Fiber.join(stranger)),
          key
        )
        assert.deepStrictEqual(outcome, Option.none())
      }))

    it.effect("makes a reader of a writer with nobody in between, and lets those in who wait to read", () =>
      Effect.gen(function*() {
        const key = fresh("downgrade")
        const other = yield* anotherProcess
        const held = yield* acquireWrite(key, { lease: "20 seconds" })
        const beside = yield* Effect.forEach(
          [1, 2],
          (n) => Effect.zipLeft(Effect.fork(other.acquireRead(key, patient)), waiting(key, n))
        )
        const writer = yield* Effect.fork(other.acquireWrite(key, patient))
        yield* waiting(key, 3)
        const behind = yield* Effect.fork(acquireRead(key, patient))
        yield* waiting(key, 4)
        yield* held.downgrade
        const reading = yield* Fiber.join(Fiber.all(beside))
        const info = yield* inspect(key)
        assert.isTrue(Option.isNone(info.writer))
        assert.strictEqual(info.readers.length, 3)
        assert.strictEqual(info.waiters, 2)
        assert.isTrue(info.readers.some(({ fencingToken }) => fencingToken === held.fencingToken))
        assert.isTrue(yield* held.isHeld)
        // Once more changes nothing.
        yield* held.downgrade
        assert.strictEqual((yield* inspect(key)).readers.length, 3)
        assert.strictEqual(
          (yield* error(held.protect(withWriteLock(Effect.void, key))))._tag,
          "LockUpgradeRefused"
        )
        yield* held.protect(withReadLock(Effect.void, key))
        yield* Effect.forEach(reading, ({ release }) => release)
        assert.deepStrictEqual(yield* Fiber.poll(writer), Option.none())
        assert.isTrue(yield* held.release)
        yield* (yield* Fiber.join(writer)).release
        yield* (yield* Fiber.join(behind)).release
        assert.strictEqual(yield* remains(key), 0)
      }).pipe(Effect.scoped))

    it.effect("stays a reader when it is renewed after it was a writer", () =>
      Effect.gen(function*() {
        const key = fresh("downgrade-renew")
        const held = yield* acquireWrite(key, { lease: "900 millis" })
        yield* held.downgrade
        for (let i = 0; i < 6; i++) {
          yield* elapse("300 millis")
          const beside = Option.getOrThrow(yield* tryAcquireRead(key))
          yield* beside.release
        }
        assert.isTrue(yield* held.isHeld)
        assert.strictEqual((yield* inspect(key)).readers.length, 1)
      }).pipe(Effect.scoped))

    it.effect("stays a writer as long as what it runs inside of is one", () =>
      Effect.gen(function*() {
        const key = fresh("downgrade-inside")
        const outer = yield* acquireWrite(key)
        yield* outer.protect(Effect.scoped(Effect.gen(function*() {
          const inner = yield* acquireWrite(key)
          yield* withWriteLock(Effect.void, key)
          yield* inner.downgrade
          assert.isTrue(Option.isSome((yield* inspect(key)).writer))
          yield* withWriteLock(Effect.void, key)
        })))
        // What has ended inside counts no more.
        yield* outer.downgrade
        assert.isTrue(Option.isNone((yield* inspect(key)).writer))
        yield* readers(key, 1)
      }).pipe(Effect.scoped))

    it.effect("reports that it can't become a reader when the lock is lost", () =>
      Effect.gen(function*() {
        const key = fresh("downgrade-lost")
        const lock = yield* ReadWriteLock.ReadWriteLock
        const held = yield* acquireWrite(key)
        yield* lock.forceRelease(key)
        const failure = yield* error(held.downgrade)
        assert(failure._tag === "LockLost")
        assert.strictEqual(failure.reason, "taken")
        assert.strictEqual(yield* remains(key), 0)
      }).pipe(Effect.scoped))

    it.effect("interrupts what reads and writes when the lock is taken away, and wakes who waits", () =>
      Effect.gen(function*() {
        const key = fresh("forced")
        const lock = yield* ReadWriteLock.ReadWriteLock
        const reading = yield* Effect.forEach(
          [1, 2],
          () => Effect.fork(error(withReadLock(Effect.never, key, { lease: "3 seconds" })))
        )
        yield* readers(key, 2)
        const writer = yield* Effect.fork(error(withWriteLock(Effect.never, key, { lease: "3 seconds" })))
        yield* waiting(key, 1)
        assert.isTrue(yield* lock.forceRelease(key))
        yield* eventually(Effect.map(inspect(key), ({ writer }) => Option.isSome(writer)))
        yield* elapse("1200 millis")
        for (const failure of yield* Fiber.join(Fiber.all(reading))) assert.strictEqual(failure._tag, "LockLost")
        assert.isTrue(yield* lock.forceRelease(key))
        yield* elapse("1200 millis")
        const failure = yield* Fiber.join(writer)
        assert(failure._tag === "LockLost")
        assert.strictEqual(failure.reason, "taken")
        assert.strictEqual(yield* remains(key), 0)
      }))

    it.effect("can be given back early, and only once", () =>
      Effect.gen(function*() {
        const key = fresh("early")
        for (const acquire of [acquireRead(key), acquireWrite(key)]) {
          const held = yield* acquire
          assert.isTrue(yield* held.release)
          assert.isFalse(yield* held.release)
          assert.isFalse(yield* held.isHeld)
          const next = yield* acquireWrite(key, { waitTimeout: 0 })
          assert.isFalse(yield* held.release)
          assert.isTrue(yield* next.release)
        }
        assert.strictEqual(yield* remains(key), 0)
      }).pipe(Effect.scoped))

    it.effect("keeps a failure of the work, and can be asked by a schedule", () =>
      Effect.gen(function*() {
        const key = fresh("own-failure")
        assert.strictEqual(yield* error(withReadLock(Effect.fail("of its own" as const), key)), "of its own")
        assert.strictEqual(yield* error(withWriteLock(Effect.fail("of its own" as const), key)), "of its own")
        const held = yield* acquireWrite(key)
        const retry = Schedule.spaced("20 millis")
        const asking = yield* Effect.fork(
          Effect.all([withReadLock(Effect.void, key, { retry }), withReadLock(Effect.void, key, { retry })], {
            concurrency: 2
          })
        )
        yield* elapse("50 millis")
        assert.strictEqual((yield* inspect(key)).waiters, 0)
        yield* held.release
        yield* elapse("50 millis")
        yield* Fiber.join(asking)
        assert.strictEqual(yield* remains(key), 0)
      }).pipe(Effect.scoped))

    it.effect("keeps locks of different names, and of the other kinds, apart", () =>
      Effect.gen(function*() {
        const client = yield* RedisClient
        for (const key of ["a", "a}", "{a}", "}", "a:leases", "a%7D", "ä€😀"]) {
          yield* acquireWrite(key, { waitTimeout: 0 })
          const slots = permitKeysOf("rwlock", key).map((each) => client.slot(each))
          assert.strictEqual(new Set(slots).size, 1, key)
        }
        assert.strictEqual(yield* client.exists(...permitKeysOf("semaphore", "a")), 0)
      }).pipe(Effect.scoped))

    it.effect("refuses what makes no sense, by name", () =>
      Effect.gen(function*() {
        const lock = yield* ReadWriteLock.ReadWriteLock
        const refused = <A, E, R>(effect: Effect.Effect<A, E, R>, field: string) =>
          Effect.map(error(effect), (failure) => {
            const input = failure as unknown as {
              readonly _tag: string
              readonly field: string
              readonly operation: string
            }
            assert.strictEqual(input._tag, "RedisInputError")
            assert.strictEqual(input.field, field)
            assert.match(input.operation, /^ReadWriteLock\./)
          })
        for (const acquire of [lock.acquireRead, lock.acquireWrite]) {
          yield* refused(acquire(""), "name")
          yield* refused(acquire("bad", { lease: 0 }), "lease")
          yield* refused(acquire("bad", { waitTimeout: -1 }), "waitTimeout")
        }
        yield* refused(lock.tryAcquireRead(""), "name")
        yield* refused(lock.tryAcquireWrite(""), "name")
        yield* refused(withReadLock(Effect.void, ""), "name")
        yield* refused(withWriteLock(Effect.void, ""), "name")
        yield* refused(lock.inspect(""), "name")
        yield* refused(lock.forceRelease(""), "name")
      }).pipe(Effect.scoped))

    it.effect("can be composed data-first and data-last", () =>
      Effect.gen(function*() {
        const key = fresh("dual")
        const body = Effect.succeed(1)
        for (const wrap of [withReadLock, withWriteLock]) {
          assert.strictEqual(yield* wrap(body, key), 1)
          assert.strictEqual(yield* wrap(body, key, { lease: "1 second" }), 1)
          assert.strictEqual(yield* body.pipe(wrap(key)), 1)
          assert.strictEqual(yield* body.pipe(wrap(key, { lease: "1 second" })), 1)
          assert.deepStrictEqual(yield* Effect.either(Effect.fail("no").pipe(wrap(key))), Either.left("no"))
        }
      }))
  })
}
