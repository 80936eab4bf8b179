import { assert, layer } from "@effect/vitest"
import { Duration, Effect, Either, Exit, Fiber, FiberRef, Layer, Option, Ref, Schedule, type Scope } from "effect"
import { permitKeysOf } from "../../src/Lock/permitScripts.js"
import { RedisClient } from "../../src/RedisClient.js"
import type { RedisError } from "../../src/RedisError.js"
import * as Semaphore from "../../src/Semaphore/index.js"
import { error, fresh, type Time, until } from "../kit/suites.js"

const define = (text: string, permits: number) => Semaphore.define({ name: fresh(text), permits })

const anotherProcess: Effect.Effect<Semaphore.Service, never, RedisClient | Scope.Scope> = Semaphore.make

/** Every key of a semaphore, but for the memory of the last fencing token. */
const remains = ({ name }: Semaphore.Definition) =>
  Effect.flatMap(RedisClient, (client) => client.exists(...permitKeysOf("semaphore", name).slice(0, 3)))

const waiters = (semaphore: Semaphore.Definition) => Effect.map(Semaphore.inspect(semaphore), (info) => info.waiters)

export const suite = (
  name: string,
  driver: Layer.Layer<RedisClient, RedisError>,
  options: { readonly excludeTestServices?: boolean },
  time: Time
) => {
  const { elapse } = time
  const eventually = until(time)
  const waiting = (semaphore: Semaphore.Definition, n: number) =>
    eventually(Effect.map(waiters(semaphore), (now) => now === n))

  layer(Layer.orDie(Layer.provideMerge(Semaphore.layer, driver)), options)(`Semaphore, ${name}`, (it) => {
    it.effect("never has more permits out than there are, and all of them when many want some", () =>
      Effect.gen(function*() {
        const semaphore = define("crowd", 5)
        const processes = [yield* Semaphore.Semaphore, yield* anotherProcess]
        const inside = yield* Ref.make({ now: 0, most: 0 })
        const work = (n: number) =>
          Effect.acquireUseRelease(
            Ref.update(inside, ({ most, now }) => ({ now: now + n, most: Math.max(most, now + n) })),
            () => elapse("1 millis"),
            () => Ref.update(inside, ({ most, now }) => ({ now: now - n, most }))
          )
        yield* Effect.forEach(
          Array.from({ length: 100 }, (_, i) => i),
          (i) =>
            processes[i % 2]!.withPermits(work(1 + i % 3), semaphore, 1 + i % 3, {
              waitTimeout: Infinity,
              fair: i % 5 !== 0
            }),
          { concurrency: "unbounded", discard: true }
        )
        assert.deepStrictEqual(yield* Ref.get(inside), { now: 0, most: 5 })
        assert.strictEqual(yield* remains(semaphore), 0)
        assert.strictEqual(yield* Semaphore.available(semaphore), 5)
      }).pipe(Effect.scoped))

    it.effect("gives all permits that were asked for, or none", () =>
      Effect.gen(function*() {
        const semaphore = define("all-or-none", 5)
        const held = yield* Semaphore.acquire(semaphore, 3)
        assert.strictEqual(held.permits, 3)
        assert.strictEqual(held.name, semaphore.name)
        assert.deepStrictEqual(yield* Semaphore.tryAcquire(semaphore, 3), Option.none())
        assert.strictEqual(yield* Semaphore.available(semaphore), 2)
        const two = Option.getOrThrow(yield* Semaphore.tryAcquire(semaphore, 2))
        assert.isAbove(two.fencingToken, held.fencingToken)
        assert.strictEqual(yield* Semaphore.available(semaphore), 0)
        assert.isTrue(yield* held.release)
        assert.strictEqual(yield* Semaphore.available(semaphore), 3)
        assert.isTrue(yield* two.release)
        assert.strictEqual(yield* remains(semaphore), 0)
      }).pipe(Effect.scoped))

    it.effect("tells who holds permits, and for how long", () =>
      Effect.gen(function*() {
        const semaphore = define("inspect", 4)
        assert.deepStrictEqual(yield* Semaphore.inspect(semaphore), {
          permits: 4,
          inUse: 0,
          holders: [],
          waiters: 0
        })
        const long = yield* Semaphore.acquire(semaphore, 3, { lease: "20 seconds" })
        const short = yield* Semaphore.acquire(semaphore, 1, { lease: "5 seconds" })
        const failure = yield* error(Semaphore.acquire(semaphore, 2, { waitTimeout: 0 }))
        assert(failure._tag === "LockNotAcquired")
        assert.strictEqual(failure.reason, "held")
        const { holders, inUse } = yield* Semaphore.inspect(semaphore)
        assert.strictEqual(inUse, 4)
        assert.deepStrictEqual(
          holders.map(({ fencingToken, permits }) => [fencingToken, permits]),
          [[short.fencingToken, 1], [long.fencingToken, 3]]
        )
        // Whose lease ends first.
        assert.deepStrictEqual(failure.holder, Option.some(holders[0]!.holder))
        assert.match(holders[0]!.holder, /^\w+:\d+$/)
        const remaining = Duration.toMillis(Option.getOrThrow(failure.remaining))
        assert(remaining > 0 && remaining <= 5000)
        assert.isAbove(Duration.toMillis(holders[1]!.remaining), 10_000)
      }).pipe(Effect.scoped))

    it.effect("refuses at once what can never be had", () =>
      Effect.gen(function*() {
        const semaphore = define("exceeded", 3)
        for (
          const asking of [
            Effect.asVoid(Semaphore.acquire(semaphore, 4, { waitTimeout: Infinity })),
            Effect.asVoid(Semaphore.tryAcquire(semaphore, 4)),
            Semaphore.withPermits(Effect.void, semaphore, 4)
          ]
        ) {
          const failure = yield* error(asking)
          assert(failure._tag === "PermitsExceeded")
          assert.strictEqual(failure.key, semaphore.name)
          assert.strictEqual(failure.requested, 4)
          assert.strictEqual(failure.permits, 3)
          assert.include(failure.message, "there are 3")
        }
        assert.strictEqual(yield* waiters(semaphore), 0)
        assert.strictEqual(yield* remains(semaphore), 0)
      }).pipe(Effect.scoped))

    it.effect("gives up after waitTimeout and leaves nothing behind", () =>
      Effect.gen(function*() {
        const semaphore = define("timeout", 2)
        const held = yield* Semaphore.acquire(semaphore, 1)
        const asking = yield* Effect.fork(
          error(Semaphore.withPermits(Effect.void, semaphore, 2, { waitTimeout: "200 millis" }))
        )
        yield* waiting(semaphore, 1)
        yield* elapse("250 millis")
        const failure = yield* Fiber.join(asking)
        assert(failure._tag === "LockNotAcquired")
        assert.strictEqual(failure.reason, "timeout")
        assert.isAtLeast(Duration.toMillis(failure.waited), 200)
        assert.strictEqual(yield* waiters(semaphore), 0)
        yield* held.release
        assert.strictEqual(yield* remains(semaphore), 0)
      }).pipe(Effect.scoped))

    it.effect("serves waiters in the order of their arrival, across processes", () =>
      Effect.gen(function*() {
        const processes = [yield* Semaphore.Semaphore, yield* anotherProcess, yield* anotherProcess]
        const semaphore = define("order", 3)
        const served = yield* Ref.make<ReadonlyArray<number>>([])
        const held = yield* Semaphore.acquire(semaphore, 3)
        const fibers = yield* Effect.forEach(Array.from({ length: 18 }, (_, i) => i), (i) =>
          Effect.gen(function*() {
            const fiber = yield* Effect.fork(
              // Those who ask for all are alone, so that their order among the others shows.
              processes[i % 3]!.withPermits(Ref.update(served, (all) => [...all, i]), semaphore, 3, {
                waitTimeout: "1 minute"
              })
            )
            yield* waiting(semaphore, i + 1)
            return fiber
          }))
        yield* held.release
        yield* Fiber.joinAll(fibers)
        assert.deepStrictEqual(yield* Ref.get(served), Array.from({ length: 18 }, (_, i) => i))
        assert.strictEqual(yield* remains(semaphore), 0)
      }).pipe(Effect.scoped))

    it.effect("wakes everybody who fits when permits come back", () =>
      Effect.gen(function*() {
        const processes = [yield* Semaphore.Semaphore, yield* anotherProcess]
        const semaphore = define("several", 4)
        const held = yield* Semaphore.acquire(semaphore, 4)
        const asking = yield* Effect.forEach(Array.from({ length: 6 }, (_, i) => i), (i) =>
          Effect.gen(function*() {
            const fiber = yield* Effect.fork(Effect.scoped(
              Effect.zipRight(processes[i % 2]!.acquire(semaphore, 1, { waitTimeout: "1 minute" }), Effect.never)
            ))
            yield* waiting(semaphore, i + 1)
            return fiber
          }))
        yield* held.release
        yield* waiting(semaphore, 2)
        // Their turns are claimed: the leases are their own, and not the two seconds that a turn has.
        yield* eventually(
          Effect.map(Semaphore.inspect(semaphore), ({ holders }) =>
            holders.length === 4 && holders.every(({ remaining }) => Duration.toSeconds(remaining) > 5))
        )
        yield* Fiber.interrupt(asking[0]!)
        yield* waiting(semaphore, 1)
        yield* Fiber.interruptAll(asking)
        assert.strictEqual(yield* remains(semaphore), 0)
      }).pipe(Effect.scoped))

    it.effect("does not let small requests overtake a large one that waits", () =>
      Effect.gen(function*() {
        const semaphore = define("large", 4)
        const first = yield* Semaphore.acquire(semaphore, 2)
        const second = yield* Semaphore.acquire(semaphore, 1)
        const large = yield* Effect.fork(Semaphore.acquire(semaphore, 4, { waitTimeout: "1 minute" }))
        yield* waiting(semaphore, 1)
        // One is free, but it was not here first.
        assert.deepStrictEqual(yield* Semaphore.tryAcquire(semaphore), Option.none())
        const small = yield* Effect.fork(Semaphore.acquire(semaphore, 1, { waitTimeout: "1 minute" }))
        yield* waiting(semaphore, 2)
        yield* first.release
        yield* elapse("30 millis")
        assert.strictEqual(yield* waiters(semaphore), 2)
        // Who does not care for the order may.
        const overtaking = Option.getOrThrow(yield* Semaphore.tryAcquire(semaphore, 1, { fair: false }))
        yield* overtaking.release
        yield* second.release
        const all = yield* Fiber.join(large)
        assert.strictEqual(all.permits, 4)
        assert.deepStrictEqual(yield* Fiber.poll(small), Option.none())
        yield* all.release
        yield* (yield* Fiber.join(small)).release
        assert.strictEqual(yield* remains(semaphore), 0)
      }).pipe(Effect.scoped))

    it.effect("wakes those who may overtake when they fit beside a large request that does not", () =>
      Effect.gen(function*() {
        const semaphore = define("overtaking", 3)
        const stays = yield* Semaphore.acquire(semaphore, 1)
        const goes = yield* Semaphore.acquire(semaphore, 2)
        const large = yield* Effect.fork(Semaphore.acquire(semaphore, 3, { waitTimeout: "1 minute" }))
        yield* waiting(semaphore, 1)
        const fair = yield* Effect.fork(Semaphore.acquire(semaphore, 1, { waitTimeout: "1 minute" }))
        yield* waiting(semaphore, 2)
        const unfair = yield* Effect.fork(
          Semaphore.acquire(semaphore, 2, { waitTimeout: "1 minute", fair: false })
        )
        yield* waiting(semaphore, 3)
        yield* goes.release
        yield* (yield* Fiber.join(unfair)).release
        assert.deepStrictEqual(yield* Fiber.poll(large), Option.none())
        assert.deepStrictEqual(yield* Fiber.poll(fair), Option.none())
        yield* stays.release
        yield* (yield* Fiber.join(large)).release
        yield* Fiber.join(fair)
      }).pipe(Effect.scoped))

    it.effect("serves the next when a large request in front gives up", () =>
      Effect.gen(function*() {
        const semaphore = define("gave-up", 2)
        yield* Semaphore.acquire(semaphore, 1)
        const large = yield* Effect.fork(Semaphore.acquire(semaphore, 2, { waitTimeout: "1 minute" }))
        yield* waiting(semaphore, 1)
        const small = yield* Effect.fork(Semaphore.acquire(semaphore, 1, { waitTimeout: "1 minute" }))
        yield* waiting(semaphore, 2)
        yield* Fiber.interrupt(large)
        assert.isTrue(yield* (yield* Fiber.join(small)).isHeld)
      }).pipe(Effect.scoped))

    it.effect("with fewer permits than are in use gives none until enough came back", () =>
      Effect.gen(function*() {
        const before = define("shrinking", 4)
        const after = Semaphore.define({ ...before, permits: 2 })
        const held = yield* Effect.forEach([1, 2, 3, 4], () => Semaphore.acquire(before))
        const asking = yield* Effect.fork(Semaphore.acquire(after, 1, { waitTimeout: "1 minute" }))
        yield* waiting(before, 1)
        assert.strictEqual(yield* Semaphore.available(after), 0)
        assert.deepStrictEqual(yield* Effect.option(Semaphore.acquire(after, 1, { waitTimeout: 0 })), Option.none())
        for (const one of held.slice(0, 2)) {
          yield* one.release
          yield* elapse("30 millis")
          assert.deepStrictEqual(yield* Fiber.poll(asking), Option.none())
        }
        yield* held[2]!.release
        assert.strictEqual((yield* Fiber.join(asking)).permits, 1)
        assert.strictEqual((yield* Semaphore.inspect(after)).inUse, 2)
      }).pipe(Effect.scoped))

    it.effect("serves those who wait when there are more permits", () =>
      Effect.gen(function*() {
        const before = define("growing", 1)
        const after = Semaphore.define({ ...before, permits: 3 })
        yield* Semaphore.acquire(before)
        const asking = yield* Effect.fork(Semaphore.acquire(before, 1, { waitTimeout: "1 minute" }))
        yield* waiting(before, 1)
        const newcomer = yield* Semaphore.acquire(after, 1, { waitTimeout: "1 second" })
        const first = yield* Fiber.join(asking)
        assert.isAbove(newcomer.fencingToken, first.fencingToken)
        assert.strictEqual((yield* Semaphore.inspect(after)).inUse, 3)
      }).pipe(Effect.scoped))

    it.effect("serves who waits with more permits than there are by now when nobody else holds any", () =>
      Effect.gen(function*() {
        const before = define("too-many", 4)
        const after = Semaphore.define({ ...before, permits: 2 })
        const held = yield* Semaphore.acquire(before)
        const asking = yield* Effect.fork(Semaphore.acquire(before, 4, { waitTimeout: "1 minute" }))
        yield* waiting(before, 1)
        const behind = yield* Effect.fork(Semaphore.acquire(after, 1, { waitTimeout: "1 minute" }))
        yield* waiting(before, 2)
        yield* held.release
        const all = yield* Fiber.join(asking)
        assert.deepStrictEqual(yield* Fiber.poll(behind), Option.none())
        yield* all.release
        yield* Fiber.join(behind)
      }).pipe(Effect.scoped))

    it.effect("ends each lease by itself, and wakes who waits for it", () =>
      Effect.gen(function*() {
        const semaphore = define("leases", 2)
        const long = yield* Semaphore.acquire(semaphore, 1, { lease: "1 minute", renew: false })
        const short = yield* Semaphore.acquire(semaphore, 1, { lease: "300 millis", renew: false })
        const asking = yield* Effect.fork(
          Semaphore.acquire(semaphore, 1, { lease: "2 seconds", waitTimeout: "10 seconds" })
        )
        yield* waiting(semaphore, 1)
        // Whoever asks with a short lease takes nothing from those who have a longer one.
        assert.deepStrictEqual(
          yield* Semaphore.tryAcquire(semaphore, 1, { lease: "1 millis", fair: false }),
          Option.none()
        )
        yield* elapse("500 millis")
        const next = yield* Fiber.join(asking)
        assert.isFalse(yield* short.isHeld)
        assert.isTrue(yield* long.isHeld)
        const { holders } = yield* Semaphore.inspect(semaphore)
        assert.deepStrictEqual(
          holders.map(({ fencingToken }) => fencingToken),
          [next.fencingToken, long.fencingToken]
        )
        assert.isAbove(Duration.toSeconds(holders[1]!.remaining), 50)
        // The late one can neither extend what it lost nor give back what is not its own.
        const failure = yield* error(short.extend("1 minute"))
        assert(failure._tag === "LockLost")
        assert.strictEqual(failure.reason, "expired")
        assert.isFalse(yield* short.release)
        assert.strictEqual((yield* Semaphore.inspect(semaphore)).inUse, 2)
        assert.isTrue(yield* long.release)
        assert.isTrue(yield* next.release)
      }).pipe(Effect.scoped))

    it.effect("does not count permits whose lease is over, though nobody has come since", () =>
      Effect.gen(function*() {
        const semaphore = define("uncounted", 2)
        yield* Semaphore.acquire(semaphore, 1, { lease: "1 minute" })
        const short = yield* Semaphore.acquire(semaphore, 1, { lease: "60 millis", renew: false })
        yield* elapse("120 millis")
        assert.strictEqual(yield* Semaphore.available(semaphore), 1)
        assert.strictEqual((yield* Semaphore.inspect(semaphore)).inUse, 1)
        // What is over is over, also when nobody took it.
        const failure = yield* error(short.extend("1 minute"))
        assert.strictEqual(failure._tag, "LockLost")
        assert.strictEqual(yield* Semaphore.available(semaphore), 1)
      }).pipe(Effect.scoped))

    it.effect("stays held for as long as the work takes", () =>
      Effect.gen(function*() {
        const semaphore = define("renew", 2)
        const one = yield* Semaphore.acquire(semaphore, 1, { lease: "900 millis" })
        const other = yield* Semaphore.acquire(semaphore, 1, { lease: "1 second" })
        for (let i = 0; i < 10; i++) {
          yield* elapse("200 millis")
          assert.deepStrictEqual(yield* Semaphore.tryAcquire(semaphore), Option.none())
        }
        assert.isTrue(yield* one.isHeld)
        assert.isTrue(yield* one.release)
        assert.isTrue(yield* other.release)
        yield* elapse("400 millis")
        assert.strictEqual(yield* remains(semaphore), 0)
      }).pipe(Effect.scoped))

    it.effect("extends one lease and no other", () =>
      Effect.gen(function*() {
        const semaphore = define("extend", 2)
        const one = yield* Semaphore.acquire(semaphore, 1, { lease: "5 seconds" })
        yield* Semaphore.acquire(semaphore, 1, { lease: "5 seconds" })
        yield* one.extend("1 hour")
        const { holders } = yield* Semaphore.inspect(semaphore)
        assert.isAtMost(Duration.toSeconds(holders[0]!.remaining), 5)
        assert.strictEqual(holders[1]!.fencingToken, one.fencingToken)
        assert.isAbove(Duration.toSeconds(holders[1]!.remaining), 3500)
        assert.isAbove(Duration.toSeconds(yield* one.remaining), 3500)
      }).pipe(Effect.scoped))

    it.effect("interrupts the work when the permits are taken away, and wakes who waits", () =>
      Effect.gen(function*() {
        const semaphore = define("forced", 2)
        const service = yield* Semaphore.Semaphore
        const interrupted = yield* Ref.make(0)
        const work = Effect.onInterrupt(Effect.never, () => Ref.update(interrupted, (n) => n + 1))
        const fibers = yield* Effect.forEach([1, 2], () =>
          Effect.fork(error(Semaphore.withPermits(work, semaphore, 1, { lease: "3 seconds" }))))
        yield* eventually(Effect.map(Semaphore.available(semaphore), (n) =>
          n === 0))
        const asking = yield* Effect.fork(Semaphore.acquire(semaphore, 2))
        yield* waiting(semaphore, 1)
        assert.strictEqual(yield* service.forceReleaseAll(semaphore), 2)
        const next = yield* Fiber.join(asking)
        yield* elapse("1200 millis")
        for (const failure of yield* Fiber.join(Fiber.all(fibers))) {
          assert(failure._tag === "LockLost")
          assert.strictEqual(failure.reason, "taken")
        }
        assert.strictEqual(yield* Ref.get(interrupted), 2)
        assert.isTrue(yield* next.isHeld)
        yield* next.release
        assert.strictEqual(yield* service.forceReleaseAll(semaphore), 0)
        assert.strictEqual(yield* remains(semaphore), 0)
      }).pipe(Effect.scoped))

    it.effect("interrupts the work when its lease ends, and keeps a failure of its own", () =>
      Effect.gen(function*() {
        const semaphore = define("expired", 1)
        const lost = yield* Effect.fork(
          error(Semaphore.withPermits(Effect.never, semaphore, 1, { lease: "100 millis", renew: false }))
        )
        yield* elapse("250 millis")
        const failure = yield* Fiber.join(lost)
        assert(failure._tag === "LockLost")
        assert.strictEqual(failure.reason, "expired")
        const own = yield* error(Semaphore.withPermits(Effect.fail("of its own" as const), semaphore))
        assert.strictEqual(own, "of its own")
        assert.strictEqual(yield* remains(semaphore), 0)
      }).pipe(Effect.scoped))

    it.effect("can be given back early, and only once", () =>
      Effect.gen(function*() {
        const semaphore = define("early", 2)
        const held = yield* Semaphore.acquire(semaphore, 2)
        assert.isTrue(yield* held.release)
        assert.isFalse(yield* held.release)
        assert.isFalse(yield* held.isHeld)
        assert.deepStrictEqual(yield* held.remaining, Duration.zero)
        assert.strictEqual(
          (yield* error(held.protect(Effect.void).pipe(Effect.zipRight(held.extend(1)))))._tag,
          "LockLost"
        )
        const next = yield* Semaphore.acquire(semaphore, 2, { waitTimeout: 0 })
        assert.isFalse(yield* held.release)
        assert.isTrue(yield* next.isHeld)
        assert.strictEqual(yield* Semaphore.available(semaphore), 0)
      }).pipe(Effect.scoped))

    it.effect("takes more permits inside, and waits for itself no longer than it may", () =>
      Effect.gen(function*() {
        const semaphore = define("nested", 2)
        const inUse = Effect.map(Semaphore.inspect(semaphore), (info) => info.inUse)
        const nested = yield* inUse.pipe(Semaphore.withPermits(semaphore), Semaphore.withPermits(semaphore))
        assert.strictEqual(nested, 2)
        const stuck = yield* Effect.fork(Effect.flip(
          Effect.void.pipe(
            Semaphore.withPermits(semaphore, 1, { waitTimeout: "100 millis" }),
            Semaphore.withPermits(semaphore, 2)
          )
        ))
        yield* elapse("150 millis")
        assert.strictEqual((yield* Fiber.join(stuck))._tag, "LockNotAcquired")
        assert.strictEqual(yield* remains(semaphore), 0)
      }))

    it.effect("grows the fencing token with each grant", () =>
      Effect.gen(function*() {
        const client = yield* RedisClient
        const semaphore = define("token", 3)
        const tokens: Array<number> = []
        const take = Effect.map(Semaphore.acquire(semaphore), (held) => void tokens.push(held.fencingToken))
        yield* take
        yield* take
        yield* Effect.scoped(take)
        yield* take
        yield* client.del(...permitKeysOf("semaphore", semaphore.name))
        // The time is what carries on when everything else is gone.
        yield* elapse("1 millis")
        yield* take
        for (let i = 1; i < tokens.length; i++) assert.isAbove(tokens[i]!, tokens[i - 1]!)
      }).pipe(Effect.scoped))

    it.effect("keeps semaphores of different names apart, whatever the names are made of", () =>
      Effect.gen(function*() {
        const client = yield* RedisClient
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
          "a/1+"
        ]
        const all = odd.map((name) => Semaphore.define({ name, permits: 1 }))
        for (const semaphore of all) yield* Semaphore.acquire(semaphore, 1, { waitTimeout: 0 })
        for (const semaphore of all) {
          assert.strictEqual(yield* Semaphore.available(semaphore), 0)
          const slots = permitKeysOf("semaphore", semaphore.name).map((key) => client.slot(key))
          assert.strictEqual(new Set(slots).size, 1, semaphore.name)
        }
      }).pipe(Effect.scoped))

    it.effect("gives every key a bounded life: as long as the longest lease, a minute for the queue, a day for the fence", () =>
      Effect.gen(function*() {
        const client = yield* RedisClient
        const semaphore = define("bounded", 2)
        const [holders, leases, queue, fence] = permitKeysOf("semaphore", semaphore.name)
        const long = yield* Semaphore.acquire(semaphore, 1, { lease: "30 seconds", renew: false })
        yield* Semaphore.acquire(semaphore, 1, { lease: "5 seconds", renew: false })
        const asking = yield* Effect.fork(Semaphore.acquire(semaphore))
        yield* waiting(semaphore, 1)
        const ttl = (key: string | undefined) =>
          Effect.map(client.ttl(key!), (life) => Duration.toSeconds(Option.getOrThrow(life)))
        for (const key of [holders, leases]) {
          const life = yield* ttl(key)
          assert(life > 20 && life <= 30, key)
        }
        assert.isAtMost(yield* ttl(queue), 60)
        assert.isAtMost(yield* ttl(fence), 86_400)
        yield* long.release
        yield* Fiber.interrupt(asking)
        for (const key of [holders, leases]) assert.isAtMost(yield* ttl(key), 10)
      }).pipe(Effect.scoped))

    it.effect("can ask by a schedule instead of queueing", () =>
      Effect.gen(function*() {
        const semaphore = define("schedule", 1)
        const held = yield* Semaphore.acquire(semaphore)
        const ended = yield* Effect.fork(error(Semaphore.withPermits(Effect.void, semaphore, 1, {
          retry: Schedule.intersect(Schedule.spaced("20 millis"), Schedule.recurs(2))
        })))
        yield* elapse("100 millis")
        assert.strictEqual((yield* Fiber.join(ended))._tag, "LockNotAcquired")
        assert.strictEqual(yield* waiters(semaphore), 0)
        const served = yield* Effect.fork(
          Semaphore.withPermits(Effect.succeed("served"), semaphore, 1, { retry: Schedule.spaced("20 millis") })
        )
        yield* held.release
        yield* elapse("50 millis")
        assert.strictEqual(yield* Fiber.join(served), "served")
      }).pipe(Effect.scoped))

    it.effect("forgets a thousand waiters that are interrupted at once", () =>
      Effect.gen(function*() {
        const semaphore = define("thousand", 1)
        yield* Semaphore.acquire(semaphore, 1, { lease: "1 minute" })
        const asking = yield* Effect.fork(Effect.forEach(
          Array.from({ length: 1000 }),
          () => Semaphore.withPermits(Effect.void, semaphore, 1, { waitTimeout: "1 minute" }),
          { concurrency: "unbounded" }
        ))
        yield* waiting(semaphore, 1000)
        yield* Fiber.interrupt(asking)
        assert.strictEqual(yield* waiters(semaphore), 0)
      }).pipe(Effect.scoped))

    it.effect("hands on what the work sets for its fiber", () =>
      Effect.gen(function*() {
        const ref = yield* FiberRef.make("before")
        yield* Semaphore.withPermits(FiberRef.set(ref, "after"), define("refs", 1))
        assert.strictEqual(yield* FiberRef.get(ref), "after")
      }).pipe(Effect.scoped))

    it.effect("refuses what makes no sense, by name, before anything is sent", () =>
      Effect.gen(function*() {
        const service = yield* Semaphore.Semaphore
        const good = define("good", 2)
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
        const nameless = Semaphore.define({ name: "", permits: 1 })
        yield* refused(Semaphore.acquire(nameless), "name")
        yield* refused(Semaphore.withPermits(Effect.void, nameless), "name")
        yield* refused(Semaphore.tryAcquire(nameless), "name")
        yield* refused(Semaphore.available(nameless), "name")
        yield* refused(Semaphore.inspect(nameless), "name")
        yield* refused(service.forceReleaseAll(nameless), "name")
        for (const permits of [0, -1, 0.5, NaN, Infinity, 2 ** 53, 1e9 + 1]) {
          yield* refused(Semaphore.acquire({ name: "bad", permits }), "permits of the semaphore")
          yield* refused(Semaphore.available({ name: "bad", permits }), "permits of the semaphore")
          yield* refused(Semaphore.acquire(good, permits), "permits")
          yield* refused(Semaphore.withPermits(Effect.void, good, permits), "permits")
        }
        for (const lease of [0, -1, NaN, Infinity, "soon" as "1 second"]) {
          yield* refused(Semaphore.acquire(good, 1, { lease }), "lease")
        }
        for (const waitTimeout of [-1, NaN, "later" as "1 second"]) {
          yield* refused(Semaphore.acquire(good, 1, { waitTimeout }), "waitTimeout")
        }
        assert.strictEqual(yield* remains(good), 0)
      }).pipe(Effect.scoped))

    it.effect("can be composed data-first and data-last", () =>
      Effect.gen(function*() {
        const semaphore = define("dual", 2)
        const body = Effect.succeed(1)
        assert.strictEqual(yield* Semaphore.withPermits(body, semaphore), 1)
        assert.strictEqual(yield* Semaphore.withPermits(body, semaphore, 2), 1)
        assert.strictEqual(yield* Semaphore.withPermits(body, semaphore, 2, { lease: "1 second" }), 1)
        assert.strictEqual(yield* body.pipe(Semaphore.withPermits(semaphore)), 1)
        assert.strictEqual(yield* body.pipe(Semaphore.withPermits(semaphore, 2)), 1)
        assert.strictEqual(yield* body.pipe(Semaphore.withPermits(semaphore, 2, { lease: "1 second" })), 1)
        const either = yield* Effect.either(Effect.fail("no").pipe(Semaphore.withPermits(semaphore)))
        assert.deepStrictEqual(either, Either.left("no"))
        const exit = yield* Effect.exit(Effect.die("a bug").pipe(Semaphore.withPermits(semaphore)))
        assert.isTrue(Exit.isFailure(exit))
        assert.strictEqual(yield* remains(semaphore), 0)
      }))
  })
}
