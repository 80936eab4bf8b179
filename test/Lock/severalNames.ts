/**
 * Several locks at once.
 */
import { assert, layer } from "@effect/vitest"
import { Duration, Effect, Fiber, Layer, Option } from "effect"
import * as Lock from "../../src/Lock/index.js"
import type { RedisClient } from "../../src/RedisClient.js"
import type { RedisError } from "../../src/RedisError.js"
import { error, fresh, type Time, until } from "../kit/suites.js"
import { anotherProcess, remains } from "./suite.js"

export const severalNames = (
  name: string,
  driver: Layer.Layer<RedisClient, RedisError>,
  options: { readonly excludeTestServices?: boolean },
  time: Time
) => {
  const eventually = until(time)
  const free = (names: ReadonlyArray<string>) =>
    Effect.map(Effect.forEach(names, remains), (counts) => counts.every((count) => count === 0))

  layer(Layer.orDie(Layer.provideMerge(Lock.layer, driver)), options)(`Several locks, ${name}`, (it) => {
    it.effect("takes all, each with a token of its own, and gives all back", () =>
      Effect.gen(function*() {
        const lock = yield* Lock.Lock
        const names = [fresh("b"), fresh("a"), fresh("c")]
        const before = yield* Effect.scoped(Effect.map(Lock.acquire(names[0]!), (held) => held.fencingToken))
        const held = yield* Lock.acquireAll([...names, names[0]!])
        assert.deepStrictEqual(held.names, [...names].sort())
        assert.isAbove(held.fencingTokens.get(names[0]!) ?? 0, before)
        for (const name of names) {
          const info = Option.getOrThrow(yield* lock.inspect(name))
          assert.strictEqual(info.fencingToken, held.fencingTokens.get(name))
        }
        assert.isTrue(yield* held.isHeld)
        yield* held.extend("1 minute")
        for (const name of names) {
          const { remaining } = Option.getOrThrow(yield* lock.inspect(name))
          assert.isAbove(Duration.toMillis(remaining), 30_000)
        }
        assert.isTrue(yield* held.release)
        assert.isFalse(yield* held.release)
        assert.isTrue(yield* free(names))
      }).pipe(Effect.scoped))

    it.effect("takes none when one is held, and says which", () =>
      Effect.gen(function*() {
        const lock = yield* Lock.Lock
        const [a, b, c] = [fresh("a"), fresh("b"), fresh("c")]
        const holder = yield* Lock.acquire(b)
        for (const waitTimeout of [0, "100 millis"] as const) {
          const asking = yield* Effect.fork(error(Effect.scoped(Lock.acquireAll([c, b, a], { waitTimeout }))))
          yield* time.elapse("150 millis")
          const failure = yield* Fiber.join(asking)
          assert(failure._tag === "LockNotAcquired")
          assert.strictEqual(failure.key, b)
          assert.isFalse(yield* lock.isLocked(a))
          assert.isFalse(yield* lock.isLocked(c))
        }
        assert.strictEqual(Option.getOrThrow(yield* lock.inspect(b)).waiters, 0)
        yield* holder.release
        assert.isTrue(yield* free([a, b, c]))
      }).pipe(Effect.scoped))

    it.effect("waits for the one that is held", () =>
      Effect.gen(function*() {
        const lock = yield* Lock.Lock
        const other = yield* anotherProcess
        const names = [fresh("a"), fresh("b")]
        const holder = yield* other.acquire(names[1]!)
        const waiting = yield* Effect.fork(lock.withLocks(Lock.fencingToken(names[1]!), names))
        yield* eventually(
          Effect.map(lock.inspect(names[1]!), Option.exists((info) => info.waiters === 1))
        )
        yield* holder.release
        yield* eventually(Effect.map(Fiber.poll(waiting), Option.isSome))
        assert.isAbove(Option.getOrThrow(yield* Fiber.join(waiting)), holder.fencingToken)
        assert.isTrue(yield* free(names))
      }).pipe(Effect.scoped))

    it.effect("those who ask in opposite orders don't wait for each other for ever", () =>
      Effect.gen(function*() {
        const processes = [yield* Lock.Lock, yield* anotherProcess]
        const names = [fresh("x"), fresh("y"), fresh("z")]
        const inside = new Map(names.map((name) => [name, 0]))
        let turns = 0
        const work = (mine: ReadonlyArray<string>) =>
          Effect.gen(function*() {
            for (const name of mine) {
              assert.strictEqual(inside.get(name), 0)
              inside.set(name, 1)
            }
            yield* Effect.yieldNow()
            for (const name of mine) inside.set(name, 0)
            turns++
          })
        const crowd = yield* Effect.fork(Effect.forEach(
          Array.from({ length: 60 }, (_, i) => i),
          (i) => {
            const rotated = [...names.slice(i % 3), ...names.slice(0, i % 3)]
            const mine = i % 2 === 0 ? rotated.slice(0, 2) : rotated.toReversed()
            return processes[i % 2]!.withLocks(work(mine), mine, { waitTimeout: "1 minute", fair: i % 5 !== 0 })
          },
          { concurrency: "unbounded", discard: true }
        ))
        yield* eventually(Effect.map(Fiber.poll(crowd), Option.isSome))
        yield* Fiber.join(crowd)
        assert.strictEqual(turns, 60)
        assert.isTrue(yield* free(names))
      }).pipe(Effect.scoped))

    it.effect("losing one of them ends the work", () =>
      Effect.gen(function*() {
        const lock = yield* Lock.Lock
        const names = [fresh("a"), fresh("b")]
        const working = yield* Effect.fork(
          error(lock.withLocks(Effect.never, names, { lease: "1500 millis" }))
        )
        yield* eventually(lock.isLocked(names[1]!))
        yield* lock.forceRelease(names[1]!)
        yield* eventually(Effect.map(Fiber.poll(working), Option.isSome))
        const failure = yield* Fiber.join(working)
        assert(failure._tag === "LockLost")
        assert.strictEqual(failure.key, names[1])
        assert.strictEqual(failure.reason, "taken")
        assert.isTrue(yield* free(names))
      }))

    it.effect("those it is inside of already are taken again", () =>
      Effect.gen(function*() {
        const lock = yield* Lock.Lock
        const [a, b] = [fresh("a"), fresh("b")]
        const outer = yield* lock.withLock(
          Effect.gen(function*() {
            const token = Option.getOrThrow(yield* lock.fencingToken(a))
            const again = yield* lock.withLocks(lock.fencingToken(a), [b, a], { waitTimeout: 0 })
            assert.deepStrictEqual(again, Option.some(token))
            assert.isFalse(yield* lock.isLocked(b))
            return yield* lock.isLocked(a)
          }),
          a
        )
        assert.isTrue(outer)
        assert.isTrue(yield* free([a, b]))
      }))

    it.effect("refuses what makes no sense, by name", () =>
      Effect.gen(function*() {
        for (
          const [names, field] of [[[], "names"], [[""], "name"], [["ok", ""], "name"]] as const
        ) {
          const refused = yield* error(Effect.scoped(Lock.acquireAll(names)))
          assert(refused._tag === "RedisInputError")
          assert.strictEqual(refused.field, field)
          assert.strictEqual((yield* error(Effect.void.pipe(Lock.withLocks(names))))._tag, "RedisInputError")
        }
        const refused = yield* error(Effect.scoped(Lock.acquireAll(["ok"], { minReplicas: 1.5 })))
        assert(refused._tag === "RedisInputError")
        assert.strictEqual(refused.field, "minReplicas")
      }))
  })
}
