import { assert, layer } from "@effect/vitest"
import {
  Cause,
  Deferred,
  Duration,
  Effect,
  Either,
  Exit,
  Fiber,
  FiberRef,
  Layer,
  Option,
  Ref,
  Schedule,
  type Scope
} from "effect"
import * as Lock from "../../src/Lock/index.js"
import { keysOf } from "../../src/Lock/scripts.js"
import { RedisClient } from "../../src/RedisClient.js"
import type { RedisError } from "../../src/RedisError.js"
import * as RedisScript from "../../src/RedisScript.js"
import { error, fresh, type Time, until } from "../kit/suites.js"

/** The services that a new process would have on the same server. */
export const anotherProcess: Effect.Effect<Lock.Service, never, RedisClient | Scope.Scope> = Lock.make

/** Every key that a lock of this name has, but for the memory of the last fencing token. */
export const remains = (name: string) =>
  Effect.flatMap(RedisClient, (client) => {
    const [lock, queue] = keysOf(name)
    return client.exists(lock!, queue!)
  })

export const suite = (
  name: string,
  driver: Layer.Layer<RedisClient, RedisError>,
  options: { readonly excludeTestServices?: boolean },
  time: Time
) => {
  const { elapse } = time
  const eventually = until(time)

  layer(Layer.orDie(Layer.provideMerge(Lock.layer, driver)), options)(`Lock, ${name}`, (it) => {
    it.effect("lets one in at a time", () =>
      Effect.gen(function*() {
        const client = yield* RedisClient
        const key = fresh("counter")
        const other = yield* anotherProcess
        const lock = yield* Lock.Lock
        const increment = Effect.gen(function*() {
          const now = Number(Option.getOrElse(yield* client.get(key), () => "0"))
          yield* Effect.yieldNow()
          yield* client.set(key, String(now + 1))
        })
        yield* Effect.forEach(
          Array.from({ length: 60 }, (_, i) => i),
          (i) => (i % 2 === 0 ? lock : other).withLock(increment, key, { waitTimeout: Infinity, fair: i % 3 !== 0 }),
          { concurrency: "unbounded" }
        )
        assert.deepStrictEqual(yield* client.get(key), Option.some("60"))
        assert.strictEqual(yield* remains(key), 0)
      }).pipe(Effect.scoped))

    it.effect("tells who asks for a held lock who holds it, and for how long", () =>
      Effect.gen(function*() {
        const lock = yield* Lock.Lock
        const key = fresh("held")
        const held = yield* Lock.acquire(key, { lease: "20 seconds" })
        assert.deepStrictEqual(yield* lock.tryAcquire(key), Option.none())
        const failure = yield* error(Lock.acquire(key, { waitTimeout: 0 }))
        assert(failure._tag === "LockNotAcquired")
        assert.strictEqual(failure.reason, "held")
        assert.strictEqual(failure.key, key)
        const info = Option.getOrThrow(yield* lock.inspect(key))
        assert.deepStrictEqual(failure.holder, Option.some(info.holder))
        assert.strictEqual(info.fencingToken, held.fencingToken)
        assert.strictEqual(info.waiters, 0)
        const remaining = Duration.toMillis(Option.getOrThrow(failure.remaining))
        assert(remaining > 0 && remaining <= 20_000)
        assert.isTrue(yield* lock.isLocked(key))
        assert.isTrue(Option.isSome(yield* lock.ttl(key)))
        yield* held.release
        assert.isFalse(yield* lock.isLocked(key))
        assert.deepStrictEqual(yield* lock.ttl(key), Option.none())
        assert.deepStrictEqual(yield* lock.inspect(key), Option.none())
      }).pipe(Effect.scoped))

    it.effect("gives up after waitTimeout and leaves nothing behind", () =>
      Effect.gen(function*() {
        const lock = yield* Lock.Lock
        const key = fresh("timeout")
        const held = yield* Lock.acquire(key)
        const waiting = yield* Effect.fork(error(lock.withLock(Effect.void, key, { waitTimeout: "200 millis" })))
        yield* eventually(Effect.map(lock.inspect(key), (info) => Option.getOrThrow(info).waiters === 1))
        yield* elapse("250 millis")
        const failure = yield* Fiber.join(waiting)
        assert(failure._tag === "LockNotAcquired")
        assert.strictEqual(failure.reason, "timeout")
        assert.isAtLeast(Duration.toMillis(failure.waited), 200)
        assert.strictEqual(Option.getOrThrow(yield* lock.inspect(key)).waiters, 0)
        yield* held.release
        assert.strictEqual(yield* remains(key), 0)
      }).pipe(Effect.scoped))

    it.effect("serves waiters in the order of their arrival, across processes", () =>
      Effect.gen(function*() {
        const processes = [yield* Lock.Lock, yield* anotherProcess, yield* anotherProcess]
        const key = fresh("order")
        const served = yield* Ref.make<ReadonlyArray<number>>([])
        const held = yield* Lock.acquire(key)
        const fibers = yield* Effect.forEach(Array.from({ length: 24 }, (_, i) => i), (i) =>
          Effect.gen(function*() {
            const fiber = yield* Effect.fork(
              processes[i % 3]!.withLock(Ref.update(served, (all) => [...all, i]), key, { waitTimeout: "1 minute" })
            )
            yield* eventually(
              Effect.map(processes[0]!.inspect(key), (info) => Option.getOrThrow(info).waiters === i + 1)
            )
            return fiber
          }))
        yield* held.release
        yield* Fiber.joinAll(fibers)
        assert.deepStrictEqual(yield* Ref.get(served), Array.from({ length: 24 }, (_, i) => i))
        assert.strictEqual(yield* remains(key), 0)
      }).pipe(Effect.scoped))

    it.effect("skips a waiter that gave up", () =>
      Effect.gen(function*() {
        const lock = yield* Lock.Lock
        const key = fresh("gave-up")
        const held = yield* Lock.acquire(key)
        const waiters = (n: number) =>
          eventually(Effect.map(lock.inspect(key), (info) => Option.getOrThrow(info).waiters === n))
        const first = yield* Effect.fork(lock.withLock(Effect.succeed(1), key))
        yield* waiters(1)
        const second = yield* Effect.fork(lock.withLock(Effect.succeed(2), key))
        yield* waiters(2)
        yield* Fiber.interrupt(first)
        assert.strictEqual(Option.getOrThrow(yield* lock.inspect(key)).waiters, 1)
        yield* held.release
        assert.strictEqual(yield* Fiber.join(second), 2)
        assert.strictEqual(yield* remains(key), 0)
      }).pipe(Effect.scoped))

    it.effect("keeps locks of different names apart, whatever the names are made of", () =>
      Effect.gen(function*() {
        const lock = yield* Lock.Lock
        const odd = [
          "a",
          "a}",
          "}a",
          "{a}",
          "{}",
          "}",
          "a:queue",
          "a}:queue",
          "a%7D",
          "a%",
          " a ",
          "a\nb",
          "ä€😀",
          "x".repeat(2000)
        ]
        for (const key of odd) yield* Lock.acquire(key, { waitTimeout: 0 })
        for (const key of odd) assert.isTrue(yield* lock.isLocked(key), key)
        for (const key of odd) {
          const slots = keysOf(key).map((each) => each)
          const client = yield* RedisClient
          assert.strictEqual(new Set(slots.map(client.slot)).size, 1, key)
        }
      }).pipe(Effect.scoped))

    it.effect("grows the fencing token over release, expiry, force and the loss of its own memory", () =>
      Effect.gen(function*() {
        const lock = yield* Lock.Lock
        const client = yield* RedisClient
        const key = fresh("token")
        const tokens: Array<number> = []
        const take = Effect.scoped(Effect.map(Lock.acquire(key), (held) => void tokens.push(held.fencingToken)))
        yield* take
        yield* take
        const expiring = yield* Lock.acquire(key, { lease: "50 millis", renew: false })
        tokens.push(expiring.fencingToken)
        yield* elapse("100 millis")
        yield* take
        const forced = yield* Lock.acquire(key)
        tokens.push(forced.fencingToken)
        assert.isTrue(yield* lock.forceRelease(key))
        assert.isFalse(yield* lock.forceRelease(key))
        yield* take
        yield* client.del(...keysOf(key))
        // The time is what carries on when everything else is gone.
        yield* elapse("1 millis")
        yield* take
        for (let i = 1; i < tokens.length; i++) assert.isAbove(tokens[i]!, tokens[i - 1]!)
      }).pipe(Effect.scoped))

    it.effect("refuses a write with an older token", () =>
      Effect.gen(function*() {
        const lock = yield* Lock.Lock
        const client = yield* RedisClient
        const key = fresh("fenced")
        yield* lock.fencedSet(key, "first", 10)
        yield* lock.fencedSet(key, "again", 10)
        yield* lock.fencedSet(key, "second", 11, { ttl: "1 minute" })
        const failure = yield* error(lock.fencedSet(key, "late", 10))
        assert(failure._tag === "FencingTokenRejected")
        assert.strictEqual(failure.fencingToken, 10)
        assert.strictEqual(failure.latest, 11)
        assert.deepStrictEqual(yield* lock.fencedGet(key), Option.some({ value: "second", token: 11 }))
        assert.isTrue(Duration.isFinite(Option.getOrThrow(yield* client.ttl(key))))
        yield* lock.fencedSet(key, "kept", 2 ** 53 - 1)
        assert.deepStrictEqual(yield* client.ttl(key), Option.some(Duration.infinity))
        assert.deepStrictEqual(yield* lock.fencedGet(key), Option.some({ value: "kept", token: 2 ** 53 - 1 }))
        assert.deepStrictEqual(yield* lock.fencedGet(fresh("absent")), Option.none())
      }))

    it.effect("has a fence for scripts of one's own", () =>
      Effect.gen(function*() {
        const client = yield* RedisClient
        const write = RedisScript.make({
          name: "write",
          lua: `${Lock.fenceLua}
            if not fence(KEYS[1], 'fence:' .. ARGV[1], ARGV[2]) then return 0 end
            redis.call('HSET', KEYS[1], ARGV[1], ARGV[3])
            return 1`,
          params: (key: string, field: string, token: number, value: string) => ({
            keys: [key],
            args: [field, token, value]
          }),
          result: RedisScript.boolean
        })
        const key = fresh("own-fence")
        assert.isTrue(yield* client.eval(write, key, "a", 5, "x"))
        assert.isTrue(yield* client.eval(write, key, "b", 4, "y"))
        assert.isFalse(yield* client.eval(write, key, "a", 4, "z"))
        assert.deepStrictEqual(yield* client.hget(key, "a"), Option.some("x"))
      }))

    it.effect("can be given back early, and only once", () =>
      Effect.gen(function*() {
        const lock = yield* Lock.Lock
        const key = fresh("early")
        const held = yield* Lock.acquire(key)
        assert.isTrue(yield* held.release)
        assert.isFalse(yield* held.release)
        assert.isFalse(yield* held.isHeld)
        assert.deepStrictEqual(yield* held.remaining, Duration.zero)
        const failure = yield* error(held.extend("1 second"))
        assert.strictEqual(failure._tag, "LockLost")
        const next = yield* Lock.acquire(key, { waitTimeout: 0 })
        assert.isFalse(yield* held.release)
        assert.isTrue(yield* next.isHeld)
        assert.isTrue(yield* lock.isLocked(key))
      }).pipe(Effect.scoped))

    it.effect("never touches the lock of a successor", () =>
      Effect.gen(function*() {
        const lock = yield* Lock.Lock
        const key = fresh("successor")
        const late = yield* Lock.acquire(key, { lease: "60 millis", renew: false })
        yield* elapse("120 millis")
        const next = yield* Lock.acquire(key, { waitTimeout: 0 })
        const failure = yield* error(late.extend("1 minute"))
        assert(failure._tag === "LockLost")
        assert.strictEqual(failure.reason, "expired")
        assert.isFalse(yield* late.release)
        const info = Option.getOrThrow(yield* lock.inspect(key))
        assert.strictEqual(info.fencingToken, next.fencingToken)
        assert.isAtMost(Duration.toMillis(info.remaining), 10_000)
        assert.isTrue(yield* next.release)
      }).pipe(Effect.scoped))

    it.effect("extends the lease it holds, and never makes one", () =>
      Effect.gen(function*() {
        const lock = yield* Lock.Lock
        const key = fresh("extend")
        const held = yield* Lock.acquire(key, { lease: "5 seconds" })
        yield* held.extend("1 hour")
        assert.isAbove(Duration.toMillis(Option.getOrThrow(yield* lock.ttl(key))), 3_500_000)
        assert.isAbove(Duration.toMillis(yield* held.remaining), 3_500_000)
        assert.isTrue(yield* lock.forceRelease(key))
        const failure = yield* error(held.extend("1 hour"))
        assert(failure._tag === "LockLost")
        assert.strictEqual(failure.reason, "taken")
        assert.isFalse(yield* lock.isLocked(key))
        assert.isFalse(yield* held.isHeld)
      }).pipe(Effect.scoped))

    it.effect("stays held for as long as the work takes", () =>
      Effect.gen(function*() {
        const lock = yield* Lock.Lock
        const key = fresh("renew")
        const held = yield* Lock.acquire(key, { lease: "1 second" })
        for (let i = 0; i < 10; i++) {
          yield* elapse("250 millis")
          assert.deepStrictEqual(yield* lock.tryAcquire(key), Option.none())
        }
        assert.isTrue(yield* held.isHeld)
        assert.isTrue(yield* held.release)
        yield* elapse("300 millis")
        assert.strictEqual(yield* remains(key), 0)
      }).pipe(Effect.scoped))

    it.effect("interrupts the work when the lease ends, and says so when it has stopped", () =>
      Effect.gen(function*() {
        const key = fresh("expired")
        const stopped = yield* Ref.make(false)
        const work = Effect.never.pipe(
          Effect.onInterrupt(() => Effect.zipRight(Effect.yieldNow(), Ref.set(stopped, true)))
        )
        const fiber = yield* Effect.fork(error(Lock.withLock(work, key, { lease: "100 millis", renew: false })))
        yield* elapse("20 millis")
        assert.isFalse(yield* Ref.get(stopped))
        yield* elapse("200 millis")
        const failure = yield* Fiber.join(fiber)
        assert(failure._tag === "LockLost")
        assert.strictEqual(failure.reason, "expired")
        assert.isTrue(yield* Ref.get(stopped))
      }))

    it.effect("interrupts the work when the lock is taken away", () =>
      Effect.gen(function*() {
        const lock = yield* Lock.Lock
        const key = fresh("taken")
        const fiber = yield* Effect.fork(Effect.exit(Lock.withLock(Effect.never, key, { lease: "150 millis" })))
        yield* eventually(lock.isLocked(key))
        yield* lock.forceRelease(key)
        yield* elapse("200 millis")
        const exit = yield* Fiber.join(fiber)
        assert(Exit.isFailure(exit))
        const failure = Option.getOrThrow(Cause.failureOption(exit.cause))
        assert(failure._tag === "LockLost")
        assert.strictEqual(failure.reason, "taken")
      }))

    it.effect("reports a loss that nobody noticed before the work was done", () =>
      Effect.gen(function*() {
        const lock = yield* Lock.Lock
        const key = fresh("unnoticed")
        const failure = yield* error(Lock.withLock(lock.forceRelease(key), key))
        assert(failure._tag === "LockLost")
        assert.strictEqual(failure.reason, "taken")
      }))

    it.effect("waits for work that can't be interrupted before it reports the loss", () =>
      Effect.gen(function*() {
        const key = fresh("uninterruptible")
        const done = yield* Deferred.make<void>()
        const finished = yield* Ref.make(false)
        const work = Effect.uninterruptible(Effect.zipRight(Deferred.await(done), Ref.set(finished, true)))
        const fiber = yield* Effect.fork(error(Lock.withLock(work, key, { lease: "80 millis", renew: false })))
        yield* elapse("200 millis")
        assert.deepStrictEqual(yield* Fiber.poll(fiber), Option.none())
        yield* Deferred.succeed(done, undefined)
        assert.strictEqual((yield* Fiber.join(fiber))._tag, "LockLost")
        assert.isTrue(yield* Ref.get(finished))
      }))

    it.effect("keeps a failure of the work, also when the lock is gone", () =>
      Effect.gen(function*() {
        const lock = yield* Lock.Lock
        const key = fresh("own-failure")
        const failing = Effect.zipRight(lock.forceRelease(key), Effect.fail("of its own" as const))
        assert.strictEqual(yield* error(Lock.withLock(failing, key)), "of its own")
        const dying = yield* Effect.exit(Lock.withLock(Effect.die("a bug"), key))
        assert(Exit.isFailure(dying))
        assert.deepStrictEqual(Cause.dieOption(dying.cause), Option.some("a bug"))
        assert.strictEqual(yield* remains(key), 0)
      }))

    it.effect("tells a bare holder of the loss without interrupting it", () =>
      Effect.gen(function*() {
        const key = fresh("bare")
        const held = yield* Lock.acquire(key, { lease: "80 millis", renew: false })
        const lost = yield* Effect.fork(error(held.lost))
        yield* elapse("20 millis")
        assert.isTrue(yield* held.isHeld)
        yield* elapse("150 millis")
        assert.strictEqual((yield* Fiber.join(lost)).reason, "expired")
        assert.isFalse(yield* held.isHeld)
        // Who asks later hears it at once.
        assert.strictEqual((yield* error(held.lost)).fencingToken, held.fencingToken)
        assert.strictEqual((yield* error(held.protect(Effect.void)))._tag, "LockLost")
      }).pipe(Effect.scoped))

    it.effect("is taken again inside, without waiting and with the same token", () =>
      Effect.gen(function*() {
        const lock = yield* Lock.Lock
        const key = fresh("reentrant")
        const inner = Effect.scoped(
          Effect.map(Lock.acquire(key, { waitTimeout: 0 }), (held) => held.fencingToken)
        )
        const held = yield* Lock.acquire(key)
        const [token, again] = yield* held.protect(Effect.gen(function*() {
          const token = yield* inner
          assert.isTrue(yield* lock.isLocked(key))
          // A timeout runs its effect on another fiber, which is still inside.
          const again = yield* Lock.withLock(Effect.timeout(Lock.withLock(inner, key), "1 second"), key)
          assert.isTrue(yield* lock.isLocked(key))
          return [token, again] as const
        }))
        assert.strictEqual(token, held.fencingToken)
        assert.strictEqual(again, held.fencingToken)
        // Outside of `protect` it is a stranger like any other.
        assert.deepStrictEqual(yield* lock.tryAcquire(key), Option.none())
        assert.isTrue(yield* held.release)
        assert.strictEqual(yield* remains(key), 0)
      }).pipe(Effect.scoped))

    it.effect("knows its fencing token inside, and none outside", () =>
      Effect.gen(function*() {
        const lock = yield* Lock.Lock
        const key = fresh("inside")
        assert.deepStrictEqual(yield* Lock.fencingToken(key), Option.none())
        const held = yield* Lock.acquire(key)
        const inside = yield* held.protect(Effect.all([Lock.fencingToken(key), Lock.fencingToken("another")]))
        assert.deepStrictEqual(inside, [Option.some(held.fencingToken), Option.none()])
        yield* held.release
        const [token, written] = yield* Lock.withLock(
          Effect.flatMap(Lock.fencingToken(key), (token) =>
            Effect.zip(
              Effect.succeed(token),
              Effect.either(lock.fencedSet(fresh("value"), "x", Option.getOrThrow(token)))
            )),
          key
        )
        assert.isAbove(Option.getOrThrow(token), held.fencingToken)
        assert.isTrue(Either.isRight(written))
      }).pipe(Effect.scoped))

    it.effect("hands on what the work sets for its fiber", () =>
      Effect.gen(function*() {
        const key = fresh("refs")
        const ref = yield* FiberRef.make("before")
        yield* Lock.withLock(FiberRef.set(ref, "at once"), key)
        assert.strictEqual(yield* FiberRef.get(ref), "at once")
        yield* Lock.withLock(Effect.zipRight(elapse("1 millis"), FiberRef.set(ref, "later")), key)
        assert.strictEqual(yield* FiberRef.get(ref), "later")
      }).pipe(Effect.scoped))

    it.effect("lets the work go on with what its caller has set, as if there were no lock", () =>
      Effect.gen(function*() {
        const key = fresh("caller")
        const ref = yield* FiberRef.make("nobody's", { fork: () => "a child's" })
        yield* FiberRef.set(ref, "the caller's")
        const read = FiberRef.get(ref)
        assert.strictEqual(yield* Lock.withLock(read, key), "the caller's")
        assert.strictEqual(yield* Lock.withLock(Effect.zipRight(elapse("1 millis"), read), key), "the caller's")
        assert.strictEqual(yield* Effect.flatMap(Effect.fork(Lock.withLock(read, key)), Fiber.join), "a child's")
      }).pipe(Effect.scoped))

    it.effect("lets no work begin that may be interrupted, when its caller is already", () =>
      Effect.gen(function*() {
        const key = fresh("interrupted-before")
        const seen: Array<string> = []
        const note = (what: string) => Effect.sync(() => void seen.push(what))
        const asked = yield* Deferred.make<void>()
        const go = yield* Deferred.make<void>()
        const work = Effect.zipRight(note("critical"), Effect.interruptible(note("the rest")))
        const fiber = yield* Deferred.succeed(asked, undefined).pipe(
          Effect.zipRight(Deferred.await(go)),
          Effect.zipRight(Lock.withLock(work, key)),
          Effect.uninterruptible,
          Effect.fork
        )
        yield* Deferred.await(asked)
        yield* Fiber.interruptFork(fiber)
        yield* Deferred.succeed(go, undefined)
        assert.isTrue(Exit.isInterrupted(yield* Fiber.await(fiber)))
        assert.deepStrictEqual(seen, ["critical"])
        assert.isFalse(yield* Effect.flatMap(Lock.Lock, (lock) => lock.isLocked(key)))
      }))

    it.effect("is not entered by fibers outside of it", () =>
      Effect.gen(function*() {
        const lock = yield* Lock.Lock
        const key = fresh("stranger")
        const go = yield* Deferred.make<void>()
        const stranger = yield* Effect.fork(
          Effect.zipRight(Deferred.await(go), Effect.scoped(lock.tryAcquire(key)))
        )
        const outcome = yield* Lock.withLock(
          Effect.zipRight(Deferred.succeed(go, undefined), Fiber.join(stranger)),
          key
        )
        assert.deepStrictEqual(outcome, Option.none())
      }))

    it.effect("stays with a holder that took it twice until the last is given back", () =>
      Effect.gen(function*() {
        const lock = yield* Lock.Lock
        const key = fresh("depth")
        const held = yield* Lock.acquire(key)
        const inner = yield* held.protect(Lock.acquire(key))
        assert.isTrue(yield* held.release)
        assert.isTrue(yield* lock.isLocked(key))
        assert.isTrue(yield* inner.isHeld)
        assert.isTrue(yield* inner.release)
        assert.isFalse(yield* lock.isLocked(key))
      }).pipe(Effect.scoped))

    it.effect("wakes the next waiter when it is taken away by force", () =>
      Effect.gen(function*() {
        const lock = yield* Lock.Lock
        const key = fresh("force-wakes")
        yield* Lock.acquire(key, { lease: "1 minute" })
        const waiting = yield* Effect.fork(lock.withLock(Effect.succeed("served"), key, { waitTimeout: "30 seconds" }))
        yield* eventually(Effect.map(lock.inspect(key), (info) => Option.getOrThrow(info).waiters === 1))
        yield* lock.forceRelease(key)
        assert.strictEqual(yield* Fiber.join(waiting), "served")
      }).pipe(Effect.scoped))

    it.effect("is given back when its holder is interrupted or its scope closes", () =>
      Effect.gen(function*() {
        const lock = yield* Lock.Lock
        const key = fresh("closed")
        yield* Effect.scoped(Lock.acquire(key))
        assert.strictEqual(yield* remains(key), 0)
        const fiber = yield* Effect.fork(Lock.withLock(Effect.never, key))
        yield* eventually(lock.isLocked(key))
        yield* Fiber.interrupt(fiber)
        assert.strictEqual(yield* remains(key), 0)
      }))

    for (
      const [kind, take] of [
        ["fair", { waitTimeout: "1 minute" }],
        ["unfair", { waitTimeout: "1 minute", fair: false }],
        ["immediate", { waitTimeout: 0 }],
        ["polling", { waitTimeout: "1 minute", retry: Schedule.spaced("10 millis") }]
      ] as const
    ) {
      it.effect(`leaves nothing behind when it is interrupted at any step (${kind})`, () =>
        Effect.gen(function*() {
          const lock = yield* Lock.Lock
          for (const contended of [false, true]) {
            for (let steps = 0; steps < 40; steps++) {
              const key = fresh("interrupted")
              const holder = contended ? yield* Lock.acquire(key) : undefined
              const fiber = yield* Effect.fork(Effect.scoped(Effect.zipRight(Lock.acquire(key, take), Effect.never)))
              for (let i = 0; i < steps; i++) yield* Effect.yieldNow()
              // Over a network, steps of a fiber are shorter than those of the server.
              if (steps % 4 === 3) yield* Effect.promise(() => new Promise((resolve) => setImmediate(resolve)))
              const releasing = holder === undefined ? undefined : yield* Effect.fork(holder.release)
              yield* Fiber.interrupt(fiber)
              if (releasing !== undefined) yield* Fiber.join(releasing)
              yield* eventually(Effect.map(remains(key), (n) => n === 0))
              assert.isTrue(Option.isSome(yield* lock.tryAcquire(key)))
            }
          }
        }).pipe(Effect.scoped))
    }

    it.effect("forgets a thousand waiters that are interrupted at once", () =>
      Effect.gen(function*() {
        const lock = yield* Lock.Lock
        const key = fresh("thousand")
        yield* Lock.acquire(key, { lease: "1 minute" })
        const waiting = yield* Effect.fork(Effect.forEach(
          Array.from({ length: 1000 }),
          () => lock.withLock(Effect.void, key, { waitTimeout: "1 minute" }),
          { concurrency: "unbounded" }
        ))
        const waiters = Effect.map(lock.inspect(key), (info) => Option.getOrThrow(info).waiters)
        yield* eventually(Effect.map(waiters, (n) => n === 1000))
        yield* Fiber.interrupt(waiting)
        assert.strictEqual(yield* waiters, 0)
      }).pipe(Effect.scoped))

    it.effect("without fairness lets one in at a time, and everybody in the end", () =>
      Effect.gen(function*() {
        const processes = [yield* Lock.Lock, yield* anotherProcess]
        const key = fresh("unfair")
        const inside = yield* Ref.make(0)
        const work = Effect.gen(function*() {
          assert.strictEqual(yield* Ref.updateAndGet(inside, (n) => n + 1), 1)
          yield* Effect.yieldNow()
          yield* Ref.update(inside, (n) => n - 1)
        })
        yield* Effect.forEach(
          Array.from({ length: 40 }, (_, i) => processes[i % 2]!),
          (lock) => lock.withLock(work, key, { fair: false, waitTimeout: "1 minute" }),
          { concurrency: "unbounded", discard: true }
        )
        assert.strictEqual(yield* remains(key), 0)
      }).pipe(Effect.scoped))

    it.effect("can ask by a schedule instead of queueing", () =>
      Effect.gen(function*() {
        const lock = yield* Lock.Lock
        const key = fresh("schedule")
        const held = yield* Lock.acquire(key)
        const ended = yield* Effect.fork(error(Lock.withLock(Effect.void, key, {
          retry: Schedule.intersect(Schedule.spaced("20 millis"), Schedule.recurs(2))
        })))
        yield* elapse("100 millis")
        const failure = yield* Fiber.join(ended)
        assert(failure._tag === "LockNotAcquired")
        assert.strictEqual(failure.reason, "timeout")
        const timedOut = yield* Effect.fork(error(Lock.withLock(Effect.void, key, {
          retry: Schedule.spaced("20 millis"),
          waitTimeout: "100 millis"
        })))
        yield* elapse("200 millis")
        assert.strictEqual((yield* Fiber.join(timedOut))._tag, "LockNotAcquired")
        assert.strictEqual(Option.getOrThrow(yield* lock.inspect(key)).waiters, 0)
        const served = yield* Effect.fork(
          Lock.withLock(Effect.succeed("served"), key, { retry: Schedule.spaced("20 millis") })
        )
        yield* elapse("50 millis")
        yield* held.release
        yield* elapse("50 millis")
        assert.strictEqual(yield* Fiber.join(served), "served")
      }).pipe(Effect.scoped))

    it.effect("refuses what makes no sense, by name, before anything is sent", () =>
      Effect.gen(function*() {
        const lock = yield* Lock.Lock
        const refused = <A, E, R>(effect: Effect.Effect<A, E, R>, field: string) =>
          Effect.map(error(effect), (failure) => {
            const input = failure as unknown as {
              readonly _tag: string
              readonly field: string
              readonly message: string
            }
            assert.strictEqual(input._tag, "RedisInputError")
            assert.strictEqual(input.field, field)
            assert.include(input.message, "must be")
          })
        yield* refused(Lock.acquire(""), "name")
        yield* refused(Lock.withLock(Effect.void, ""), "name")
        yield* refused(lock.tryAcquire(""), "name")
        yield* refused(lock.inspect(""), "name")
        yield* refused(lock.isLocked(""), "name")
        yield* refused(lock.forceRelease(""), "name")
        yield* refused(lock.fencedSet("", "", 1), "key")
        yield* refused(lock.fencedGet(""), "key")
        for (const lease of [0, -1, NaN, Infinity, -Infinity, "soon" as "1 second", Duration.zero, Duration.infinity]) {
          yield* refused(Lock.acquire("bad", { lease }), "lease")
          yield* refused(lock.fencedSet("bad", "", 1, { ttl: lease }), "ttl")
        }
        for (const waitTimeout of [-1, NaN, -Infinity, "later" as "1 second"]) {
          yield* refused(Lock.acquire("bad", { waitTimeout }), "waitTimeout")
        }
        for (const token of [0.5, -1, NaN, Infinity, 2 ** 53]) {
          yield* refused(lock.fencedSet("bad", "", token), "token")
        }
        const held = yield* Lock.acquire("good")
        for (const lease of [0, -1, NaN, Infinity]) yield* refused(held.extend(lease), "lease")
      }).pipe(Effect.scoped))

    it.effect("can be composed data-first and data-last", () =>
      Effect.gen(function*() {
        const key = fresh("dual")
        const body = Effect.succeed(1)
        assert.strictEqual(yield* Lock.withLock(body, key), 1)
        assert.strictEqual(yield* Lock.withLock(body, key, { lease: "1 second" }), 1)
        assert.strictEqual(yield* body.pipe(Lock.withLock(key)), 1)
        assert.strictEqual(yield* body.pipe(Lock.withLock(key, { lease: "1 second" })), 1)
        const either = yield* Effect.either(Effect.fail("no").pipe(Lock.withLock(key)))
        assert.deepStrictEqual(either, Either.left("no"))
      }))
  })
}
