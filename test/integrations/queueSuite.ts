import * as PersistedQueue from "@effect/experimental/PersistedQueue"
import { assert, layer } from "@effect/vitest"
import { Context, Deferred, Duration, Effect, Exit, Fiber, Layer, Option, Ref, Schema, Scope } from "effect"
import { baseOf, keysOf } from "../../src/integrations/persistedQueueScripts.js"
import * as Store from "../../src/integrations/PersistedQueueStore.js"
import { RedisClient } from "../../src/RedisClient.js"
import type { RedisError } from "../../src/RedisError.js"
import { fresh, type Time, until } from "../kit/suites.js"

const Item = Schema.Struct({ n: Schema.BigInt })

const numbers = (name: string) => PersistedQueue.make({ name, schema: Schema.Number })

/** The same queues in another process. */
const elsewhere = (options?: Store.Options) =>
  Effect.map(
    Layer.build(PersistedQueue.layer.pipe(Layer.provide(Layer.scoped(
      PersistedQueue.PersistedQueueStore,
      Effect.orDie(Store.make(options))
    )))),
    Context.get(PersistedQueue.PersistedQueueFactory)
  )

const keys = (name: string) => keysOf(baseOf("persisted-queue:", name))

/** How many keys of a queue there are that have no life. */
const remains = (name: string) =>
  Effect.gen(function*() {
    const client = yield* RedisClient
    const lives = yield* Effect.forEach(keys(name), (key) => client.ttl(key))
    return lives.filter((life) => Option.isSome(life) && !Duration.isFinite(life.value)).length
  })

const value = <A>(a: A) => Effect.succeed(a)

/** A life of its own, as of a process that can be killed. */
const mortal = Effect.map(Scope.make(), (scope) => ({ scope, die: Scope.close(scope, Exit.void) }))

export const suite = (
  name: string,
  driver: Layer.Layer<RedisClient, RedisError>,
  options: { readonly excludeTestServices?: boolean },
  time: Time
) => {
  const { elapse } = time
  const eventually = until(time)
  const services = PersistedQueue.layer.pipe(Layer.provideMerge(Store.layer), Layer.provideMerge(driver), Layer.orDie)

  layer(services, options)(`PersistedQueueStore, ${name}`, (it) => {
    it.effect("gives what was offered, and keeps nothing of it", () =>
      Effect.gen(function*() {
        const id = fresh("one")
        const queue = yield* PersistedQueue.make({ name: id, schema: Item })
        yield* queue.offer({ n: 2n ** 70n })
        assert.deepStrictEqual(yield* queue.take(value), { n: 2n ** 70n })
        assert.strictEqual(yield* remains(id), 0)
      }))

    it.effect("first in, first out, with own ids and without", () =>
      Effect.gen(function*() {
        const queue = yield* numbers(fresh("fifo"))
        const order = Array.from({ length: 20 }, (_, i) => i)
        for (const n of order) yield* queue.offer(n, n % 3 === 0 ? { id: `id-${n}` } : undefined)
        const taken: Array<number> = []
        for (const _ of order) taken.push(yield* queue.take(value))
        assert.deepStrictEqual(taken, order)
      }))

    it.effect("elements come back exactly, whatever they are", () =>
      Effect.gen(function*() {
        const name = fresh("exact")
        const queue = yield* PersistedQueue.make({ name, schema: Schema.Unknown })
        const elements = [0, "", null, undefined, false, [], {}, { a: "é\ud800 \u2028\n" }, 9_007_199_254_740_991, 1e-7]
        for (const element of elements) {
          yield* queue.offer(element)
          assert.deepStrictEqual(yield* queue.take(value), element)
        }
        const failure = yield* Effect.flip(queue.offer(1n))
        assert.strictEqual(failure._tag, "PersistedQueueError")
        assert.strictEqual(yield* remains(name), 0)
      }))

    it.effect("who waits is woken by an offer of another process, at once", () =>
      Effect.gen(function*() {
        const id = fresh("wake")
        const queue = yield* numbers(id)
        const other = yield* (yield* elsewhere()).make({ name: id, schema: Schema.Number })
        for (let i = 0; i < 3; i++) {
          const waiting = yield* Effect.fork(queue.take(value))
          yield* elapse("100 millis")
          assert.deepStrictEqual(yield* Fiber.poll(waiting), Option.none())
          yield* other.offer(i)
          // Much less than anybody asks again by itself.
          yield* eventually(Effect.map(Fiber.poll(waiting), Option.isSome))
          assert.strictEqual(yield* Fiber.join(waiting), i)
        }
      }).pipe(Effect.scoped))

    it.effect("an interrupted item is there again at once, in its place, and has not failed", () =>
      Effect.gen(function*() {
        const id = fresh("interrupt")
        const queue = yield* numbers(id)
        yield* queue.offer(1)
        yield* queue.offer(2)
        for (let i = 0; i < 3; i++) {
          const started = yield* Deferred.make<void>()
          const fiber = yield* Effect.fork(
            queue.take(() => Effect.zipRight(Deferred.succeed(started, undefined), Effect.never), { maxAttempts: 1 })
          )
          yield* Deferred.await(started)
          yield* Fiber.interrupt(fiber)
        }
        const seen = yield* queue.take((n, { attempts }) => value([n, attempts]))
        assert.deepStrictEqual(seen, [1, 0])
        assert.strictEqual(yield* queue.take(value), 2)
        assert.deepStrictEqual(yield* Store.deadLetters(id), [])
        assert.strictEqual(yield* remains(id), 0)
      }))

    it.effect("an item that is worked at is never handed out again, however long it takes", () =>
      Effect.gen(function*() {
        const id = fresh("long")
        const short = { lease: "1500 millis" } as const
        const queue = yield* (yield* elsewhere(short)).make({ name: id, schema: Schema.Number })
        const other = yield* (yield* elsewhere(short)).make({ name: id, schema: Schema.Number })
        const finish = yield* Deferred.make<void>()
        const times = yield* Ref.make(0)
        const work = () => Effect.zipRight(Ref.update(times, (n) => n + 1), Deferred.await(finish))
        yield* queue.offer(1)
        const first = yield* Effect.fork(queue.take(work))
        yield* eventually(Effect.map(Ref.get(times), (n) => n === 1))
        const second = yield* Effect.fork(other.take(work))
        const third = yield* Effect.fork(queue.take(work))
        for (let i = 0; i < 7; i++) yield* elapse("250 millis")
        assert.strictEqual(yield* Ref.get(times), 1)
        yield* Deferred.succeed(finish, undefined)
        yield* Fiber.join(first)
        yield* elapse("200 millis")
        assert.strictEqual(yield* Ref.get(times), 1)
        yield* Fiber.interruptAll([second, third])
        assert.strictEqual(yield* remains(id), 0)
      }).pipe(Effect.scoped))

    it.effect("what fails is tried again behind the others, with the number of its attempts", () =>
      Effect.gen(function*() {
        const id = fresh("retry")
        const queue = yield* numbers(id)
        yield* queue.offer(1)
        yield* queue.offer(2)
        assert.strictEqual(yield* Effect.flip(queue.take(() => Effect.fail("boom"))), "boom")
        assert.strictEqual(yield* queue.take(value), 2)
        assert.deepStrictEqual(yield* Effect.exit(queue.take(() => Effect.die("bug"))), Exit.die("bug"))
        assert.deepStrictEqual(yield* queue.take((n, { attempts }) => value([n, attempts])), [1, 2])
        assert.strictEqual(yield* remains(id), 0)
      }))

    it.effect("the last attempt that fails does not die: its item becomes a dead letter, and is not tried again", () =>
      Effect.gen(function*() {
        const id = fresh("dead")
        const queue = yield* numbers(id)
        yield* queue.offer(7, { id: "seven \"7\"\n/é" })
        yield* queue.offer(8)
        const attempts: Array<number> = []
        const work = (n: number, metadata: { readonly attempts: number }) => {
          if (n === 7) attempts.push(metadata.attempts)
          return n === 7 ? Effect.fail(`boom ${metadata.attempts}`) : Effect.void
        }
        for (let i = 0; i < 4; i++) yield* Effect.exit(queue.take(work, { maxAttempts: 3 }))
        assert.deepStrictEqual(attempts, [0, 1, 2])
        const [letter, ...more] = yield* Store.deadLetters(id)
        assert.deepStrictEqual(more, [])
        assert(letter !== undefined)
        assert.strictEqual(letter.id, "seven \"7\"\n/é")
        assert.strictEqual(letter.element, 7)
        assert.strictEqual(letter.attempts, 3)
        assert.include(letter.failure, "boom 2")
        assert.strictEqual(yield* remains(id), 0)
        // Its id is still known, until somebody puts it back.
        yield* queue.offer(7, { id: letter.id })
        const waiting = yield* Effect.fork(queue.take((n, { attempts, id }) => value({ n, attempts, id })))
        yield* elapse("100 millis")
        assert.deepStrictEqual(yield* Fiber.poll(waiting), Option.none())
        assert.isTrue(yield* Store.replay(id, letter.id))
        assert.isFalse(yield* Store.replay(id, letter.id))
        assert.deepStrictEqual(yield* Fiber.join(waiting), { n: 7, attempts: 0, id: letter.id })
        assert.deepStrictEqual(yield* Store.deadLetters(id), [])
        assert.strictEqual(yield* remains(id), 0)
      }))

    it.effect("dead letters have a bound: the newest are kept", () =>
      Effect.gen(function*() {
        const id = fresh("bound")
        const few = { deadLetters: 2 }
        const queue = yield* (yield* elsewhere(few)).make({ name: id, schema: Schema.Number })
        for (const n of [1, 2, 3]) {
          yield* queue.offer(n)
          yield* Effect.exit(queue.take(() => Effect.fail("boom"), { maxAttempts: 1 }))
        }
        const letters = yield* Store.deadLetters(id, few)
        assert.deepStrictEqual(letters.map(({ element }) => element), [3, 2])
      }).pipe(Effect.scoped))

    it.effect("the same id is accepted once: while it waits, while it is worked at, and for some time after", () =>
      Effect.gen(function*() {
        const id = fresh("ids")
        const forgetful = { idRetention: "1 second" } as const
        const queue = yield* (yield* elsewhere(forgetful)).make({ name: id, schema: Schema.Number })
        yield* queue.offer(1, { id: "a" })
        yield* queue.offer(2, { id: "a" })
        yield* queue.take((n) =>
          Effect.gen(function*() {
            assert.strictEqual(n, 1)
            yield* queue.offer(3, { id: "a" })
          })
        )
        yield* queue.offer(4, { id: "a" })
        const waiting = yield* Effect.fork(queue.take(value))
        yield* elapse("100 millis")
        assert.deepStrictEqual(yield* Fiber.poll(waiting), Option.none())
        yield* elapse("1 second")
        yield* queue.offer(5, { id: "a" })
        assert.strictEqual(yield* Fiber.join(waiting), 5)
      }).pipe(Effect.scoped))

    it.effect("queues with the same ids have nothing to do with each other", () =>
      Effect.gen(function*() {
        const id = fresh("apart")
        const names = [id, `${id}}x`, `${id}%7Dx`, `${id}:waiting`, `{${id}}`]
        const queues = yield* Effect.forEach(names, numbers)
        for (const [i, queue] of queues.entries()) yield* queue.offer(i, { id: "same" })
        for (const [i, queue] of queues.entries()) assert.strictEqual(yield* queue.take(value), i)
      }))

    it.effect("a taker that is interrupted while it waits takes nothing with it", () =>
      Effect.gen(function*() {
        const id = fresh("phantom")
        const queue = yield* numbers(id)
        for (let i = 0; i < 5; i++) {
          const gone = yield* Effect.fork(queue.take(value))
          yield* Effect.yieldNow()
          if (i % 2 === 0) yield* elapse("20 millis")
          yield* Fiber.interrupt(gone)
        }
        yield* queue.offer(1)
        assert.strictEqual(yield* queue.take(value), 1)
        assert.strictEqual(yield* remains(id), 0)
      }))

    it.effect("three processes with many takers, of which some fail: each item is done once, and every failure is tried again once", () =>
      Effect.gen(function*() {
        const id = fresh("crowd")
        const processes = yield* Effect.all([elsewhere(), elsewhere(), elsewhere()])
        const queues = yield* Effect.forEach(processes, (factory) => factory.make({ name: id, schema: Schema.Number }))
        const count = 60
        const delivered = new Map<number, number>()
        let done = 0
        const work = (n: number) =>
          Effect.suspend(() => {
            const times = (delivered.get(n) ?? 0) + 1
            delivered.set(n, times)
            return n % 3 === 0 && times === 1 ? Effect.fail("once") : Effect.sync(() => void done++)
          })
        const takers = yield* Effect.forEach(
          Array.from({ length: 9 }, (_, i) => queues[i % 3]!),
          (queue) => Effect.fork(Effect.forever(Effect.exit(queue.take(work))))
        )
        yield* Effect.forEach(
          Array.from({ length: count }, (_, i) => i),
          (i) => queues[i % 3]!.offer(i),
          { concurrency: 10, discard: true }
        )
        yield* eventually(Effect.sync(() => done === count))
        yield* Fiber.interruptAll(takers)
        for (const [n, times] of delivered) assert.strictEqual(times, n % 3 === 0 ? 2 : 1)
        assert.strictEqual(yield* remains(id), 0)
      }).pipe(Effect.scoped))

    it.effect("what a worker held that is gone comes again when its lease has ended, which counts as a failure", () =>
      Effect.gen(function*() {
        const id = fresh("crash")
        const short = { lease: "800 millis" } as const
        const { die, scope } = yield* mortal
        const store = yield* Scope.extend(Store.make(short), scope)
        const survivor = yield* (yield* elsewhere(short)).make({ name: id, schema: Schema.Number })
        yield* survivor.offer(1)
        yield* survivor.offer(2)
        // Taken, and its end never told.
        const never = yield* Scope.make()
        const taken = yield* Scope.extend(store.take({ name: id, maxAttempts: 3 }), never)
        assert.deepStrictEqual([taken.element, taken.attempts], [1, 0])
        yield* die
        assert.strictEqual(yield* survivor.take(value), 2)
        const again = yield* Effect.fork(survivor.take((n, { attempts }) => value([n, attempts])))
        yield* elapse("100 millis")
        assert.deepStrictEqual(yield* Fiber.poll(again), Option.none())
        yield* eventually(Effect.map(Fiber.poll(again), Option.isSome))
        assert.deepStrictEqual(yield* Fiber.join(again), [1, 1])
        assert.strictEqual(yield* remains(id), 0)
      }).pipe(Effect.scoped))

    it.effect("a worker that is gone at the last attempt leaves a dead letter, and nothing that is tried for ever", () =>
      Effect.gen(function*() {
        const id = fresh("poison")
        const short = { lease: "400 millis" } as const
        const { die, scope } = yield* mortal
        const store = yield* Scope.extend(Store.make(short), scope)
        const survivor = yield* (yield* elsewhere(short)).make({ name: id, schema: Schema.Number })
        yield* survivor.offer(1)
        yield* Scope.extend(store.take({ name: id, maxAttempts: 1 }), yield* Scope.make())
        yield* die
        const waiting = yield* Effect.fork(survivor.take(value, { maxAttempts: 1 }))
        yield* eventually(Effect.map(Store.deadLetters(id), (letters) => letters.length === 1))
        const [letter] = yield* Store.deadLetters(id)
        assert(letter !== undefined)
        assert.strictEqual(letter.element, 1)
        assert.include(letter.failure, "lease")
        assert.deepStrictEqual(yield* Fiber.poll(waiting), Option.none())
        assert.strictEqual(yield* remains(id), 0)
        yield* Fiber.interrupt(waiting)
      }).pipe(Effect.scoped))

    it.effect("who comes too late can neither finish nor give back what another one works at now", () =>
      Effect.gen(function*() {
        const id = fresh("late")
        const short = { lease: "400 millis" } as const
        const { die, scope } = yield* mortal
        const store = yield* Scope.extend(Store.make(short), scope)
        const factory = yield* elsewhere(short)
        const survivor = yield* factory.make({ name: id, schema: Schema.Number })
        yield* survivor.offer(1)
        const late = [yield* Scope.make(), yield* Scope.make()] as const
        yield* Scope.extend(store.take({ name: id, maxAttempts: 9 }), late[0])
        // It renews nothing from here on, but its commands still arrive.
        yield* die
        const started = yield* Deferred.make<void>()
        const finish = yield* Deferred.make<void>()
        const again = yield* Effect.fork(
          survivor.take((n, { attempts }) =>
            Effect.zipRight(Deferred.succeed(started, undefined), Effect.as(Deferred.await(finish), [n, attempts]))
          )
        )
        yield* eventually(Deferred.isDone(started))
        yield* Scope.close(late[0], Exit.void)
        const client = yield* RedisClient
        assert.strictEqual(yield* client.zcard(keys(id)[2]!), 1)
        assert.strictEqual(yield* client.hlen(keys(id)[0]!), 1)
        yield* Deferred.succeed(finish, undefined)
        assert.deepStrictEqual(yield* Fiber.join(again), [1, 1])
        assert.strictEqual(yield* remains(id), 0)
      }).pipe(Effect.scoped))

    it.effect("a payload that is no JSON becomes a dead letter, and does not hold up the others", () =>
      Effect.gen(function*() {
        const client = yield* RedisClient
        const id = fresh("corrupt")
        const queue = yield* numbers(id)
        yield* queue.offer(1, { id: "bad" })
        yield* queue.offer(2)
        yield* client.hset(keys(id)[0]!, { bad: "{nope" })
        assert.strictEqual(yield* queue.take(value), 2)
        const [letter] = yield* Store.deadLetters(id)
        assert(letter !== undefined)
        assert.strictEqual(letter.id, "bad")
        assert.strictEqual(letter.element, "{nope")
        assert.strictEqual(yield* remains(id), 0)
      }))

    it.effect("who waits is told when the layer goes", () =>
      Effect.gen(function*() {
        const { die, scope } = yield* mortal
        const queue = yield* (yield* Scope.extend(elsewhere(), scope)).make({
          name: fresh("closing"),
          schema: Schema.Number
        })
        const waiting = yield* Effect.fork(queue.take(value))
        yield* elapse("50 millis")
        yield* die
        assert.isTrue(Exit.isInterrupted(yield* Fiber.await(waiting)))
      }))

    it.effect("what makes no sense is refused by name", () =>
      Effect.gen(function*() {
        const refused = <A, E extends { readonly message: string }, R>(effect: Effect.Effect<A, E, R>, field: string) =>
          Effect.map(Effect.flip(effect), ({ message }) => assert.include(message, `${field} must be`))
        const queue = yield* numbers(fresh("nonsense"))
        const nameless = yield* numbers("")
        yield* refused(nameless.offer(1), "name")
        yield* refused(
          Effect.asVoid(nameless.take(value)) as Effect.Effect<void, PersistedQueue.PersistedQueueError>,
          "name"
        )
        yield* refused(queue.offer(1, { id: "" }), "id")
        for (const maxAttempts of [0, -1, NaN]) {
          yield* refused(
            queue.take(value, { maxAttempts }) as Effect.Effect<number, PersistedQueue.PersistedQueueError>,
            "maxAttempts"
          )
        }
        yield* refused(Store.make({ lease: 0 }), "lease")
        yield* refused(Store.make({ idRetention: Infinity }), "idRetention")
        yield* refused(Store.make({ deadLetterRetention: NaN }), "deadLetterRetention")
        for (const deadLetters of [0, 1.5, NaN]) yield* refused(Store.make({ deadLetters }), "deadLetters")
      }).pipe(Effect.scoped))
  })
}
