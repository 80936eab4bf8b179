import { assert, layer } from "@effect/vitest"
import {
  Cause,
  Context,
  Deferred,
  Duration,
  Effect,
  Either,
  Exit,
  Fiber,
  type Layer,
  Option,
  Ref,
  Schedule,
  type Scope
} from "effect"
import * as Quorum from "../../src/Quorum/index.js"
import { keysOf } from "../../src/Quorum/scripts.js"
import type * as RedisClient from "../../src/RedisClient.js"
import type { RedisError } from "../../src/RedisError.js"
import type { Time } from "../kit/suites.js"

/** A client of each of the five servers, beside those of the quorum. */
export class Clients extends Context.Tag("test/Quorum/Clients")<Clients, ReadonlyArray<RedisClient.Service>>() {}

let names = 0
const fresh = (text: string) => `${text}-${names++}`

/** The services that a new process would have on the same servers. */
const anotherProcess: Effect.Effect<Quorum.Service, never, Clients | Scope.Scope> = Effect.flatMap(
  Clients,
  (clients) => Effect.orDie(Quorum.make(clients))
)

/** How many nodes have this lock. */
const votes = (name: string): Effect.Effect<number, RedisError, Clients> =>
  Effect.flatMap(Clients, (clients) =>
    Effect.map(
      Effect.forEach(clients, (client) => client.exists(keysOf(name)[0]!)),
      (counts) => counts.reduce((a, b) => a + b, 0)
    ))

const error = <A, E, R>(effect: Effect.Effect<A, E, R>) => Effect.flip(effect)

export const suite = (
  name: string,
  driver: Layer.Layer<Quorum.Quorum | Clients>,
  options: { readonly excludeTestServices?: boolean },
  time: Time
) => {
  const { elapse } = time
  /** Until it holds; fails after a while. */
  const eventually = <E, R>(condition: Effect.Effect<boolean, E, R>) =>
    Effect.gen(function*() {
      for (let i = 0; i < 200; i++) {
        if (yield* condition) return
        yield* elapse("10 millis")
      }
      assert.fail("it never came to hold")
    })
  const gone = (key: string) => eventually(Effect.map(votes(key), (n) => n === 0))
  /** As an operator would, on so many nodes. */
  const takeAway = (name: string, from: number, owner?: string) =>
    Effect.flatMap(Clients, (clients) =>
      Effect.forEach(clients.slice(0, from), (client) => {
        const key = keysOf(name)[0]!
        return owner === undefined
          ? Effect.asVoid(client.del(key))
          : Effect.asVoid(client.set(key, owner, { ttl: "1 minute" }))
      }, { discard: true }))

  layer(driver, options)(`Quorum, ${name}`, (it) => {
    it.effect("lets one in at a time", () =>
      Effect.gen(function*() {
        const [client] = yield* Clients
        const key = fresh("counter")
        const processes = [yield* Quorum.Quorum, yield* anotherProcess]
        const increment = Effect.gen(function*() {
          const now = Number(Option.getOrElse(yield* client!.get(key), () => "0"))
          yield* Effect.yieldNow()
          yield* client!.set(key, String(now + 1))
        })
        const all = yield* Effect.fork(Effect.forEach(
          Array.from({ length: 20 }, (_, i) => i),
          (i) => processes[i % 2]!.withLock(increment, key, { waitTimeout: Infinity }),
          { concurrency: "unbounded" }
        ))
        for (let i = 0; i < 1000 && Option.isNone(yield* Fiber.poll(all)); i++) yield* elapse("20 millis")
        yield* Fiber.join(all)
        assert.strictEqual(Option.getOrUndefined(yield* client!.get(key)), "20")
        yield* gone(key)
      }).pipe(Effect.scoped))

    it.effect("tells who asks for a held lock who holds it, and for how long", () =>
      Effect.gen(function*() {
        const quorum = yield* anotherProcess
        const [client] = yield* Clients
        const key = fresh("held")
        const held = yield* Quorum.acquire(key, { lease: "20 seconds" })
        yield* eventually(Effect.map(votes(key), (n) => n === 5))
        assert.isTrue(Option.isNone(yield* quorum.tryAcquire(key)))
        const failure = yield* error(quorum.acquire(key, { waitTimeout: 0 }))
        assert(failure._tag === "LockNotAcquired")
        assert.strictEqual(failure.reason, "held")
        assert.strictEqual(failure.key, key)
        const owner = Option.getOrThrow(yield* client!.get(keysOf(key)[0]!))
        assert.strictEqual(Option.getOrUndefined(failure.holder), owner.slice(0, owner.indexOf("/")))
        const remaining = Duration.toMillis(Option.getOrThrow(failure.remaining))
        assert(remaining > 0 && remaining <= 20_000)
        // Who was refused has left nothing on any node.
        assert.strictEqual(yield* votes(key), 5)
        assert.isTrue(yield* held.release)
        yield* gone(key)
        assert.isTrue(Option.isSome(yield* quorum.tryAcquire(key)))
      }).pipe(Effect.scoped))

    it.effect("gives up after waitTimeout and leaves nothing behind", () =>
      Effect.gen(function*() {
        const quorum = yield* anotherProcess
        const key = fresh("timeout")
        const held = yield* Quorum.acquire(key)
        const waiting = yield* Effect.fork(error(quorum.withLock(Effect.void, key, { waitTimeout: "200 millis" })))
        yield* elapse("300 millis")
        const failure = yield* Fiber.join(waiting)
        assert(failure._tag === "LockNotAcquired")
        assert.strictEqual(failure.reason, "timeout")
        assert.isAtLeast(Duration.toMillis(failure.waited), 199)
        assert.isTrue(yield* held.release)
        yield* gone(key)
      }).pipe(Effect.scoped))

    it.effect("comes to whoever waits when it is given back", () =>
      Effect.gen(function*() {
        const quorum = yield* anotherProcess
        const key = fresh("waits")
        const held = yield* Quorum.acquire(key)
        const waiting = yield* Effect.fork(quorum.withLock(quorum.fencingToken(key), key, { waitTimeout: Infinity }))
        yield* elapse("100 millis")
        assert.isTrue(Option.isNone(yield* Fiber.poll(waiting)))
        yield* held.release
        yield* elapse("500 millis")
        assert.isAbove(Option.getOrThrow(yield* Fiber.join(waiting)), held.fencingToken)
      }).pipe(Effect.scoped))

    it.effect("keeps locks of different names apart, whatever the names are made of", () =>
      Effect.gen(function*() {
        const odd = ["a", "a}", "}a", "{a}", "{}", "}", "a:fence", "a}:fence", "a%7D", "a%", " a ", "a\nb", "ä€😀"]
        const [client] = yield* Clients
        for (const key of odd) yield* Quorum.acquire(key, { waitTimeout: 0 })
        for (const key of odd) {
          assert.isTrue((yield* votes(key)) >= 3, key)
          assert.strictEqual(new Set(keysOf(key).map(client!.slot)).size, 1, key)
        }
      }).pipe(Effect.scoped))

    it.effect("grows the fencing token over release, expiry and processes", () =>
      Effect.gen(function*() {
        const processes = [yield* Quorum.Quorum, yield* anotherProcess, yield* anotherProcess]
        const key = fresh("token")
        const tokens: Array<number> = []
        for (let i = 0; i < 9; i++) {
          const take = processes[i % 3]!.acquire(key, { lease: "500 millis", renew: false, waitTimeout: 0 })
          if (i % 2 === 0) {
            yield* Effect.scoped(Effect.map(take, (held) => void tokens.push(held.fencingToken)))
            yield* gone(key)
          } else {
            tokens.push((yield* take).fencingToken)
            yield* elapse("600 millis")
          }
        }
        for (let i = 1; i < tokens.length; i++) assert.isAbove(tokens[i]!, tokens[i - 1]!)
      }).pipe(Effect.scoped))

    it.effect("takes up the tokens of a clock that is far ahead, with one more round", () =>
      Effect.gen(function*() {
        const clients = yield* Clients
        const quorum = yield* anotherProcess
        const key = fresh("ahead")
        const far = 6e15
        for (const client of clients) yield* client.set(keysOf(key)[1]!, String(far), { ttl: "1 minute" })
        const first = yield* Effect.scoped(
          Effect.map(quorum.acquire(key, { waitTimeout: 0 }), (held) => held.fencingToken)
        )
        assert.isAbove(first, far)
        assert.isTrue(Number.isSafeInteger(first))
        const second = yield* quorum.acquire(key, { waitTimeout: 0 })
        assert.isAbove(second.fencingToken, first)
      }).pipe(Effect.scoped))

    it.effect("can be given back early, and only once", () =>
      Effect.gen(function*() {
        const key = fresh("early")
        const held = yield* Quorum.acquire(key)
        assert.isTrue(yield* held.isHeld)
        assert.isTrue(yield* held.release)
        assert.isFalse(yield* held.release)
        assert.isFalse(yield* held.isHeld)
        assert.deepStrictEqual(yield* held.remaining, Duration.zero)
        assert.strictEqual((yield* error(held.extend("1 second")))._tag, "LockLost")
        yield* gone(key)
        const next = yield* Quorum.acquire(key, { waitTimeout: 0 })
        assert.isFalse(yield* held.release)
        assert.isTrue(yield* next.isHeld)
        assert.isTrue((yield* votes(key)) >= 3)
      }).pipe(Effect.scoped))

    it.effect("never touches the lock of a successor", () =>
      Effect.gen(function*() {
        const key = fresh("successor")
        const late = yield* Quorum.acquire(key, { lease: "300 millis", renew: false })
        yield* elapse("400 millis")
        const next = yield* Quorum.acquire(key, { waitTimeout: 0 })
        const failure = yield* error(late.extend("1 minute"))
        assert(failure._tag === "LockLost")
        assert.strictEqual(failure.reason, "expired")
        assert.isFalse(yield* late.release)
        yield* next.extend("10 seconds")
        assert.isTrue(yield* next.release)
      }).pipe(Effect.scoped))

    it.effect("extends the lease it holds on every node, and not one that others have", () =>
      Effect.gen(function*() {
        const clients = yield* Clients
        const key = fresh("extend")
        const held = yield* Quorum.acquire(key, { lease: "5 seconds" })
        yield* held.extend("1 hour")
        yield* eventually(Effect.map(
          Effect.forEach(clients, (client) => client.ttl(keysOf(key)[0]!)),
          (lives) =>
            lives.every((life) => Duration.greaterThan(Option.getOrElse(life, () => Duration.zero), "59 minutes"))
        ))
        assert.isAbove(Duration.toMillis(yield* held.remaining), 3_500_000)
        yield* takeAway(key, 3, "another:1")
        const failure = yield* error(held.extend("1 hour"))
        assert(failure._tag === "LockLost")
        assert.strictEqual(failure.reason, "taken")
        assert.isFalse(yield* held.isHeld)
        yield* takeAway(key, 3)
      }).pipe(Effect.scoped))

    it.effect("stays held for as long as the work takes", () =>
      Effect.gen(function*() {
        const quorum = yield* anotherProcess
        const key = fresh("renew")
        const held = yield* Quorum.acquire(key, { lease: "600 millis" })
        for (let i = 0; i < 8; i++) {
          yield* elapse("200 millis")
          assert.isTrue(Option.isNone(yield* quorum.tryAcquire(key)))
        }
        assert.isTrue(yield* held.isHeld)
        assert.isTrue(yield* held.release)
        yield* elapse("600 millis")
        assert.strictEqual(yield* votes(key), 0)
      }).pipe(Effect.scoped))

    it.effect("comes back to nodes that lost it, as long as nobody else has taken it there", () =>
      Effect.gen(function*() {
        const key = fresh("lost-by-nodes")
        const held = yield* Quorum.acquire(key, { lease: "900 millis" })
        yield* eventually(Effect.map(votes(key), (n) => n === 5))
        // One after the other, all nodes lose it.
        for (let i = 0; i < 5; i++) {
          const clients = yield* Clients
          yield* clients[i]!.del(...keysOf(key))
          assert.strictEqual(yield* votes(key), 4)
          yield* eventually(Effect.map(votes(key), (n) => n === 5))
        }
        assert.isTrue(yield* held.isHeld)
        assert.isTrue(yield* held.release)
        yield* gone(key)
        yield* elapse("1 second")
        assert.strictEqual(yield* votes(key), 0)
      }).pipe(Effect.scoped))

    it.effect("interrupts the work when the lease ends, and says so when it has stopped", () =>
      Effect.gen(function*() {
        const key = fresh("expired")
        const stopped = yield* Ref.make(false)
        const work = Effect.never.pipe(
          Effect.onInterrupt(() => Effect.zipRight(Effect.yieldNow(), Ref.set(stopped, true)))
        )
        const fiber = yield* Effect.fork(error(Quorum.withLock(work, key, { lease: "300 millis", renew: false })))
        yield* elapse("50 millis")
        assert.isFalse(yield* Ref.get(stopped))
        yield* elapse("400 millis")
        const failure = yield* Fiber.join(fiber)
        assert(failure._tag === "LockLost")
        assert.strictEqual(failure.reason, "expired")
        assert.isTrue(yield* Ref.get(stopped))
      }))

    it.effect("interrupts the work when a majority of the nodes has another holder", () =>
      Effect.gen(function*() {
        const key = fresh("taken")
        const inside = yield* Deferred.make<void>()
        const fiber = yield* Effect.fork(Effect.exit(
          Quorum.withLock(Effect.zipRight(Deferred.succeed(inside, undefined), Effect.never), key, {
            lease: "600 millis"
          })
        ))
        yield* Deferred.await(inside)
        yield* takeAway(key, 2, "another:1")
        yield* elapse("700 millis")
        assert.isTrue(Option.isNone(yield* Fiber.poll(fiber)))
        yield* takeAway(key, 3, "another:1")
        yield* elapse("400 millis")
        const exit = yield* Fiber.join(fiber)
        assert(Exit.isFailure(exit))
        const failure = Option.getOrThrow(Cause.failureOption(exit.cause))
        assert(failure._tag === "LockLost")
        assert.strictEqual(failure.reason, "taken")
        yield* eventually(Effect.map(votes(key), (n) => n === 3))
        yield* takeAway(key, 3)
      }))

    it.effect("reports a loss that nobody noticed before the work was done", () =>
      Effect.gen(function*() {
        const key = fresh("unnoticed")
        const failure = yield* error(Quorum.withLock(takeAway(key, 3), key))
        assert(failure._tag === "LockLost")
        assert.strictEqual(failure.reason, "taken")
        // A minority that lost it is no loss.
        yield* Quorum.withLock(takeAway(key, 2), key)
      }))

    it.effect("keeps a failure of the work, also when the lock is gone", () =>
      Effect.gen(function*() {
        const key = fresh("own-failure")
        const failing = Effect.zipRight(takeAway(key, 5), Effect.fail("of its own" as const))
        assert.strictEqual(yield* error(Quorum.withLock(failing, key)), "of its own")
        const dying = yield* Effect.exit(Quorum.withLock(Effect.die("a bug"), key))
        assert(Exit.isFailure(dying))
        assert.strictEqual(Option.getOrUndefined(Cause.dieOption(dying.cause)), "a bug")
        yield* gone(key)
      }))

    it.effect("tells a bare holder of the loss without interrupting it", () =>
      Effect.gen(function*() {
        const key = fresh("bare")
        const held = yield* Quorum.acquire(key, { lease: "300 millis", renew: false })
        const lost = yield* Effect.fork(error(held.lost))
        yield* elapse("50 millis")
        assert.isTrue(yield* held.isHeld)
        yield* elapse("350 millis")
        assert.strictEqual((yield* Fiber.join(lost)).reason, "expired")
        assert.isFalse(yield* held.isHeld)
        assert.strictEqual((yield* error(held.protect(Effect.void)))._tag, "LockLost")
      }).pipe(Effect.scoped))

    it.effect("is taken again inside, without waiting and with the same token", () =>
      Effect.gen(function*() {
        const quorum = yield* anotherProcess
        const key = fresh("reentrant")
        const held = yield* Quorum.acquire(key)
        const inner = Effect.scoped(
          Effect.map(Quorum.acquire(key, { waitTimeout: 0 }), (held) => held.fencingToken)
        )
        const [token, again, inside] = yield* held.protect(Effect.all([
          inner,
          Quorum.withLock(Effect.timeout(inner, "1 second"), key),
          Quorum.fencingToken(key)
        ]))
        assert.strictEqual(token, held.fencingToken)
        assert.strictEqual(again, held.fencingToken)
        assert.strictEqual(Option.getOrUndefined(inside), held.fencingToken)
        assert.isTrue((yield* votes(key)) >= 3)
        // Another quorum over the same servers is somebody else, also inside.
        assert.isTrue(Option.isNone(yield* held.protect(quorum.tryAcquire(key))))
        // Outside of `protect` it is a stranger like any other.
        assert.isTrue(Option.isNone(yield* Quorum.tryAcquire(key)))
        assert.isTrue(Option.isNone(yield* Quorum.fencingToken(key)))
        assert.isTrue(yield* held.release)
        yield* gone(key)
      }).pipe(Effect.scoped))

    it.effect("is given back when its holder is interrupted or its scope closes", () =>
      Effect.gen(function*() {
        const key = fresh("closed")
        yield* Effect.scoped(Quorum.acquire(key))
        yield* gone(key)
        const fiber = yield* Effect.fork(Quorum.withLock(Effect.never, key))
        yield* eventually(Effect.map(votes(key), (n) => n === 5))
        yield* Fiber.interrupt(fiber)
        yield* gone(key)
      }))

    for (
      const [kind, take] of [
        ["waiting", { waitTimeout: "1 minute" }],
        ["immediate", { waitTimeout: 0 }]
      ] as const
    ) {
      it.effect(`leaves nothing behind when it is interrupted at any step (${kind})`, () =>
        Effect.gen(function*() {
          const processes = [yield* Quorum.Quorum, yield* anotherProcess]
          for (const contended of [false, true]) {
            for (let steps = 0; steps < 40; steps++) {
              const key = fresh("interrupted")
              const holder = contended ? yield* processes[1]!.acquire(key) : undefined
              const fiber = yield* Effect.fork(
                Effect.scoped(Effect.zipRight(processes[0]!.acquire(key, take), Effect.never))
              )
              for (let i = 0; i < steps; i++) yield* Effect.yieldNow()
              // Over a network, steps of a fiber are shorter than those of the server.
              if (steps % 4 === 3) yield* Effect.promise(() => new Promise((resolve) => setImmediate(resolve)))
              const releasing = holder === undefined ? undefined : yield* Effect.fork(holder.release)
              yield* Fiber.interrupt(fiber)
              if (releasing !== undefined) yield* Fiber.join(releasing)
              yield* gone(key)
              assert.isTrue(Option.isSome(yield* Quorum.tryAcquire(key)))
            }
          }
        }).pipe(Effect.scoped))
    }

    it.effect("works with any number of nodes, and counts a server once however often it is named", () =>
      Effect.gen(function*() {
        const clients = yield* Clients
        for (const size of [1, 2, 3, 4]) {
          const key = fresh(`of-${size}`)
          const quorum = yield* Quorum.make(clients.slice(0, size))
          const other = yield* Quorum.make(clients.slice(0, size).reverse())
          const held = yield* quorum.acquire(key)
          yield* eventually(Effect.map(votes(key), (n) => n === size))
          assert.isTrue(Option.isNone(yield* other.tryAcquire(key)))
          assert.isTrue(yield* held.release)
          yield* gone(key)
          assert.isTrue(Option.isSome(yield* other.tryAcquire(key)))
        }
        const twice = yield* Quorum.make([clients[0]!, clients[0]!])
        assert.isTrue(Option.isNone(yield* twice.tryAcquire(fresh("twice"))))
      }).pipe(Effect.scoped))

    it.effect("does not mind when the servers forget the scripts", () =>
      Effect.gen(function*() {
        const clients = yield* Clients
        const key = fresh("flushed")
        const flush = Effect.forEach(clients, (client) => client.send("SCRIPT", "FLUSH"))
        yield* flush
        const held = yield* Quorum.acquire(key, { lease: "900 millis" })
        yield* flush
        yield* held.extend("600 millis")
        yield* flush
        yield* elapse("500 millis")
        assert.isTrue(yield* held.isHeld)
        yield* flush
        assert.isTrue(yield* held.release)
        yield* gone(key)
      }).pipe(Effect.scoped))

    it.effect("asks again by a schedule, until that ends", () =>
      Effect.gen(function*() {
        const quorum = yield* anotherProcess
        const key = fresh("schedule")
        yield* Quorum.acquire(key)
        const seen: Array<string> = []
        const ended = yield* Effect.fork(error(quorum.withLock(Effect.void, key, {
          retry: Schedule.spaced("20 millis").pipe(
            Schedule.intersect(Schedule.recurs(2)),
            Schedule.tapInput((failure: { readonly _tag: string }) => Effect.sync(() => seen.push(failure._tag)))
          )
        })))
        yield* elapse("200 millis")
        assert.strictEqual((yield* Fiber.join(ended))._tag, "LockNotAcquired")
        assert.deepStrictEqual(seen, ["LockNotAcquired", "LockNotAcquired", "LockNotAcquired"])
      }).pipe(Effect.scoped))

    it.effect("refuses what makes no sense, by name", () =>
      Effect.gen(function*() {
        const clients = yield* Clients
        const refused = <A, E, R>(effect: Effect.Effect<A, E, R>, field: string) =>
          Effect.map(error(effect), (failure) => {
            const input = failure as unknown as { readonly _tag: string; readonly field: string }
            assert.strictEqual(input._tag, "RedisInputError")
            assert.strictEqual(input.field, field)
          })
        yield* refused(Quorum.acquire(""), "name")
        yield* refused(Quorum.withLock(Effect.void, ""), "name")
        yield* refused(Quorum.tryAcquire(""), "name")
        for (const lease of [0, -1, NaN, Infinity, "soon" as "1 second", Duration.zero]) {
          yield* refused(Quorum.acquire("bad", { lease }), "lease")
          yield* refused(Quorum.make(clients, { nodeTimeout: lease }), "nodeTimeout")
        }
        for (const waitTimeout of [-1, NaN, -Infinity, "later" as "1 second"]) {
          yield* refused(Quorum.acquire("bad", { waitTimeout }), "waitTimeout")
        }
        yield* refused(Quorum.make([]), "nodes")
        const held = yield* Quorum.acquire(fresh("good"))
        for (const lease of [0, -1, NaN, Infinity]) yield* refused(held.extend(lease), "lease")
      }).pipe(Effect.scoped))

    it.effect("can be composed data-first and data-last", () =>
      Effect.gen(function*() {
        const key = fresh("dual")
        const body = Effect.succeed(1)
        assert.strictEqual(yield* Quorum.withLock(body, key), 1)
        assert.strictEqual(yield* Quorum.withLock(body, key, { lease: "1 second" }), 1)
        assert.strictEqual(yield* body.pipe(Quorum.withLock(key)), 1)
        assert.strictEqual(yield* body.pipe(Quorum.withLock(key, { lease: "1 second" })), 1)
        const either = yield* Effect.either(Effect.fail("no").pipe(Quorum.withLock(key)))
        assert.deepStrictEqual(either, Either.left("no"))
      }))
  })
}
