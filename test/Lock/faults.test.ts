import { assert, describe, it } from "@effect/vitest"
import { Chunk, Deferred, Effect, Either, Fiber, Layer, Option, Redacted, Stream } from "effect"
import type { ChildProcess } from "node:child_process"
import { layer as redis } from "../../src/IoRedis.js"
import * as Lock from "../../src/Lock/index.js"
import { keysOf } from "../../src/Lock/scripts.js"
import { RedisClient } from "../../src/RedisClient.js"
import * as FaultProxy from "../kit/FaultProxy.js"
import * as RealServer from "../kit/RealServer.js"
import * as Worker from "../kit/worker.js"

const worker = (task: object) => Worker.start(new URL("./worker.ts", import.meta.url), task)

const services = (url: string, commandTimeout: "2 seconds" | "500 millis" = "2 seconds") =>
  Layer.provideMerge(Lock.layer, redis({ url: Redacted.make(url), commandTimeout }))

describe("Lock under faults", () => {
  it.live("a holder that was stopped beyond its lease can do no harm when it goes on", () =>
    Effect.gen(function*() {
      const server = yield* RealServer.start()
      const name = "stopped"
      const { child, exit, messages } = yield* worker({ url: server.url, kind: "holder", name, fibers: 1, rounds: 1 })
      const said = yield* Stream.toPull(messages)
      const next = Effect.map(Effect.orDie(said), Chunk.unsafeHead)
      const { held: token } = yield* next
      yield* Effect.gen(function*() {
        const lock = yield* Lock.Lock
        child.kill("SIGSTOP")
        const held = yield* Lock.acquire(name, { lease: "20 seconds" })
        assert.isAbove(held.fencingToken, token)
        yield* lock.fencedSet(`${name}:value`, "successor", held.fencingToken)
        const client = yield* RedisClient
        yield* client.hset(`{${name}}:state`, { fence: String(held.fencingToken) })
        child.stdin!.write("go\n")
        child.kill("SIGCONT")
        assert.deepStrictEqual(yield* next, {
          isHeld: false,
          extended: "LockLost",
          written: false,
          fenced: "FencingTokenRejected",
          released: false,
          lost: "LockLost"
        })
        assert.isTrue(yield* held.isHeld)
        const info = Option.getOrThrow(yield* lock.inspect(name))
        assert.strictEqual(info.fencingToken, held.fencingToken)
        const { value } = Option.getOrThrow(yield* lock.fencedGet(`${name}:value`))
        assert.strictEqual(value, "successor")
      }).pipe(Effect.scoped, Effect.provide(services(server.url)))
      assert.strictEqual(yield* exit, 0)
    }).pipe(Effect.scoped))

  it.live(
    "four processes of a hundred fibers keep to one holder through the death of the server and a stopped process",
    () =>
      Effect.gen(function*() {
        const server = yield* RealServer.start({ appendonly: true })
        const name = "crowd"
        const workers = yield* Effect.forEach(
          [1, 2, 3, 4],
          () => worker({ url: server.url, kind: "crowd", name, fibers: 100, rounds: 5 })
        )
        const results = yield* Effect.fork(
          Effect.forEach(workers, ({ messages }) => Worker.first(messages), { concurrency: "unbounded" })
        )
        const log = Effect.map(
          server.cli("LRANGE", `{${name}}:log`, "0", "-1"),
          (reply) => reply as ReadonlyArray<string>
        )
        const until = (
          enough: (entries: ReadonlyArray<string>) => boolean
        ): Effect.Effect<void, RealServer.RealServerError> =>
          Effect.flatMap(log, (entries) =>
            enough(entries) ? Effect.void : Effect.delay(Effect.suspend(() => until(enough)), "50 millis"))
        /** Stops whoever writes until one is stopped that holds the lock. */
        const stopHolder: Effect.Effect<ChildProcess, RealServer.RealServerError> = Effect.gen(function*() {
          const pid = Number((yield* log).at(-1)?.split(" ")[1]?.split("/")[0])
          const stopped = workers.find(({ child }) =>
            child.pid === pid
          )!.child
          stopped.kill("SIGSTOP")
          const [lock, , fence] = keysOf(name)
          const before = yield* server.cli("GET", lock!)
          yield* Effect.sleep("100 millis")
          const unchanged = before !== null && before === (yield* server.cli("GET", lock!))
          // Beside the token stands whoever's turn it is and who has not come yet: that is no holder.
          const claimed = !String(yield* server.cli("GET", fence!)).includes(" ")
          if (unchanged && claimed) return stopped
          stopped.kill("SIGCONT")
          yield* Effect.sleep("20 millis")
          return yield* stopHolder
        })
        // A process that finds no server when it starts ends, so each must have come to the lock before the server dies.
        yield* until((entries) =>
          workers.every(({ child }) => entries.some((entry) => entry.includes(` ${child.pid}/`)))
        )
        yield* server.kill
        yield* Effect.sleep("1 second")
        yield* server.restart
        yield* until((entries) => entries.length >= 1000)
        const stopped = yield* stopHolder
        yield* Effect.sleep("1500 millis")
        yield* server.kill
        yield* server.restart
        yield* Effect.sleep("1500 millis")
        stopped.kill("SIGCONT")
        const outcomes: Record<string, number> = {}
        for (const result of yield* Fiber.join(results)) {
          for (const [outcome, n] of Object.entries<number>(result.outcomes)) {
            outcomes[outcome] = (outcomes[outcome] ?? 0) + n
          }
        }
        const typed = [
          "served",
          "fenced off",
          "LockNotAcquired",
          "LockLost",
          "RedisConnectionError",
          "RedisOutcomeUnknownError",
          "RedisTimeoutError",
          "RedisReplyError"
        ]
        assert.includeMembers(typed, Object.keys(outcomes))
        assert.strictEqual(Object.values(outcomes).reduce((a, b) => a + b, 0), 4 * 100 * 5)
        assert.isAbove(outcomes["served"] ?? 0, 1900)

        const entries = (yield* log).map((entry) => entry.split(" "))
        const holders = new Map<string, string>()
        let last = 0
        for (const [token, who] of entries) {
          assert.isAtLeast(Number(token), last)
          last = Number(token)
          // A token belongs to one holder.
          assert.strictEqual(holders.get(token!) ?? who, who)
          holders.set(token!, who!)
        }
        // Nothing of any fiber is left: the processes end by themselves.
        for (const { exit } of workers) assert.strictEqual(yield* exit, 0)
        const [lock, queue] = keysOf(name)
        assert.strictEqual(yield* server.cli("EXISTS", lock!, queue!), 0)
        assert.strictEqual(
          yield* server.cli("PUBSUB", "CHANNELS", "*").pipe(
            Effect.map((reply) => (reply as ReadonlyArray<string>).length)
          ),
          0
        )
      }).pipe(Effect.scoped),
    120_000
  )

  it.live("waiters of a killed process do not hold up the queue", () =>
    Effect.gen(function*() {
      const server = yield* RealServer.start()
      const name = "killed"
      yield* Effect.gen(function*() {
        const lock = yield* Lock.Lock
        const held = yield* Lock.acquire(name, { lease: "30 seconds" })
        const dying = yield* worker({ url: server.url, kind: "crowd", name, fibers: 20, rounds: 1 })
        const waiters = (n: number): Effect.Effect<void, any> =>
          Effect.flatMap(lock.inspect(name), (info) =>
            Option.getOrThrow(info).waiters === n
              ? Effect.void
              : Effect.delay(
                Effect.suspend(() => waiters(n)),
                "20 millis"
              ))
        yield* waiters(20)
        const behind = yield* Effect.fork(lock.withLock(Effect.succeed("served"), name, { waitTimeout: "20 seconds" }))
        yield* waiters(21)
        dying.child.kill("SIGKILL")
        yield* dying.exit
        yield* Effect.sleep("100 millis")
        yield* held.release
        const served = yield* Effect.timeoutOption(Fiber.join(behind), "1 second")
        assert.deepStrictEqual(served, Option.some("served"))
      }).pipe(Effect.scoped, Effect.provide(services(server.url)))
    }).pipe(Effect.scoped), 60_000)

  it.live("a lost reply neither leaks the lock nor makes the caller wait for itself", () =>
    Effect.gen(function*() {
      const server = yield* RealServer.start()
      const proxy = yield* FaultProxy.make(server)
      yield* Effect.gen(function*() {
        const lock = yield* Lock.Lock
        // The scripts are known to the server, so that the next reply is that of the one command.
        yield* Effect.scoped(Lock.acquire("warm"))
        yield* proxy.dropReplies(1)
        const start = Date.now()
        const held = yield* Lock.acquire("lost-reply", { lease: "30 seconds", waitTimeout: "10 seconds" })
        assert.isBelow(Date.now() - start, 5000)
        assert.strictEqual(Option.getOrThrow(yield* lock.inspect("lost-reply")).fencingToken, held.fencingToken)
        yield* proxy.dropReplies(1)
        yield* held.release.pipe(Effect.ignore)
        // Whether the release was executed or not, the lock is free or its owner is gone for good.
        const next = yield* Lock.acquire("lost-reply", { waitTimeout: "10 seconds" })
        assert.isAbove(next.fencingToken, held.fencingToken)
      }).pipe(Effect.scoped, Effect.provide(services(proxy.url)))
    }).pipe(Effect.scoped), 30_000)

  it.live("a holder that can't reach the server is stopped at its deadline", () =>
    Effect.gen(function*() {
      const server = yield* RealServer.start()
      yield* Effect.gen(function*() {
        const inside = yield* Deferred.make<void>()
        const fiber = yield* Effect.fork(Effect.either(
          Lock.withLock(Effect.zipRight(Deferred.succeed(inside, undefined), Effect.never), "unreachable", {
            lease: "1 second"
          })
        ))
        yield* Deferred.await(inside)
        const start = Date.now()
        yield* server.pause
        // A release that gets no answer does not delay the news by more than its own deadline.
        const result = yield* Fiber.join(fiber)
        assert.isBelow(Date.now() - start, 5000)
        assert(Either.isLeft(result))
        assert(result.left._tag === "LockLost")
        assert.strictEqual(result.left.reason, "expired")
        yield* server.resume
      }).pipe(Effect.scoped, Effect.provide(services(server.url, "500 millis")))
    }).pipe(Effect.scoped), 30_000)

  it.live(
    "a waiter whose subscription broke still gets the lock, and scripts may be flushed underneath",
    () =>
      Effect.gen(function*() {
        const server = yield* RealServer.start()
        yield* Effect.gen(function*() {
          const lock = yield* Lock.Lock
          const held = yield* Lock.acquire("deaf", { lease: "30 seconds" })
          const waiting = yield* Effect.fork(
            lock.withLock(Effect.succeed("served"), "deaf", { waitTimeout: "20 seconds" })
          )
          yield* Effect.sleep("200 millis")
          yield* server.cli("CLIENT", "KILL", "TYPE", "pubsub")
          yield* server.cli("SCRIPT", "FLUSH")
          yield* held.release
          assert.deepStrictEqual(yield* Effect.timeoutOption(Fiber.join(waiting), "8 seconds"), Option.some("served"))
          yield* server.cli("SCRIPT", "FLUSH")
          assert.isFalse(yield* lock.isLocked("deaf"))
        }).pipe(Effect.scoped, Effect.provide(services(server.url)))
      }).pipe(Effect.scoped),
    60_000
  )
})
