import { assert, describe, it } from "@effect/vitest"
import { Array as Arr, Duration, Effect, Either, Fiber, Schedule } from "effect"
import type { Service } from "../../src/RedisClient.js"
import type { RedisError } from "../../src/RedisError.js"
import * as RedisScript from "../../src/RedisScript.js"
import * as RealServer from "../kit/RealServer.js"
import { connect, connectionsNamed, eventually, outcome, proxied, unique } from "./support.js"

const count = (outcomes: ReadonlyArray<string>) => {
  const of = (tag: string) => outcomes.filter((other) => other === tag).length
  return {
    ok: of("ok"),
    unknown: of("RedisOutcomeUnknownError"),
    unsent: of("RedisConnectionError"),
    total: outcomes.length
  }
}

/** What the server counted lies between what is known to have happened and what may have. */
const assertNothingTwice = (client: Service, key: string, outcomes: ReadonlyArray<string>) =>
  Effect.gen(function*() {
    const seen = count(outcomes)
    assert.strictEqual(seen.ok + seen.unknown + seen.unsent, seen.total, outcomes.join())
    const counted = Number(yield* client.send("GET", key))
    assert.isAtLeast(counted, seen.ok)
    assert.isAtMost(counted, seen.ok + seen.unknown)
    return seen
  })

const incr = RedisScript.make({
  name: "incr",
  lua: `return redis.call("INCR", KEYS[1])`,
  params: (key: string) => ({ keys: [key], args: [] }),
  result: RedisScript.number
})

describe("a lost reply", () => {
  it.scopedLive("is an unknown outcome, and the command is not sent again", () =>
    Effect.gen(function*() {
      const proxy = yield* proxied
      const key = unique("lost")
      const client = yield* connect({ url: proxy.url })
      const direct = yield* connect()
      for (let i = 1; i <= 20; i++) {
        yield* proxy.dropReplies(1, { command: "INCR" })
        const error = yield* Effect.flip(client.send("INCR", key))
        assert(error._tag === "RedisOutcomeUnknownError")
        assert.strictEqual(error.reason, "disconnected")
        assert.strictEqual(error.command, "INCR")
        assert.isFalse(error.isRetryable)
        assert.strictEqual(yield* direct.send("GET", key), String(i))
      }
      assert.strictEqual((yield* proxy.commandsSeen).get("INCR"), 20)
      // The client is as good as new.
      assert.strictEqual(yield* client.send("INCR", key), 21)
    }))

  it.scopedLive("is an unknown outcome for a pipeline, a transaction and a script", () =>
    Effect.gen(function*() {
      const proxy = yield* proxied
      const client = yield* connect({ url: proxy.url })
      const direct = yield* connect()
      const key = unique("lost")
      const commands = Arr.makeBy(10, () => ["INCR", key] as const)
      yield* proxy.dropReplies(1, { command: "INCR" })
      assert.strictEqual(yield* outcome(client.pipeline(commands)), "RedisOutcomeUnknownError")
      assert.strictEqual(yield* direct.send("GET", key), "10")
      yield* proxy.dropReplies(1, { command: "EXEC" })
      assert.strictEqual(yield* outcome(client.transaction(commands)), "RedisOutcomeUnknownError")
      assert.strictEqual(yield* direct.send("GET", key), "20")
      yield* client.eval(incr, key)
      yield* proxy.dropReplies(1, { command: "EVALSHA" })
      assert.strictEqual(yield* outcome(client.eval(incr, key)), "RedisOutcomeUnknownError")
      assert.strictEqual(yield* direct.send("GET", key), "22")
    }))

  it.scopedLive("is repeated for what is marked idempotent", () =>
    Effect.gen(function*() {
      const proxy = yield* proxied
      const client = yield* connect({ url: proxy.url })
      const key = unique("idempotent")
      const assign = RedisScript.make({
        name: "assign",
        lua: `redis.call("SET", KEYS[1], "1") return 1`,
        params: (key: string) => ({ keys: [key], args: [] }),
        result: RedisScript.number,
        idempotent: true
      })
      yield* client.eval(assign, key)
      yield* proxy.dropReplies(1, { command: "EVALSHA" })
      assert.strictEqual(yield* client.eval(assign, key), 1)
    }))
})

describe("a cut connection", () => {
  it.scopedLive("with 200 commands in flight executes none of them twice", () =>
    Effect.gen(function*() {
      const proxy = yield* proxied
      const direct = yield* connect()
      const client = yield* connect({ url: proxy.url })
      let unknown = 0
      for (let round = 0; round < 20; round++) {
        const key = unique("cut")
        const fiber = yield* Effect.fork(
          Effect.forEach(Arr.range(1, 200), () => outcome(client.send("INCR", key)), { concurrency: "unbounded" })
        )
        yield* Effect.sleep(round % 5)
        yield* proxy.cut
        unknown += (yield* assertNothingTwice(direct, key, yield* Fiber.join(fiber))).unknown
      }
      assert.isAbove(unknown, 0)
    }))

  it.scopedLive("under a steady load executes nothing twice, and the load goes on", () =>
    Effect.gen(function*() {
      const proxy = yield* proxied
      const direct = yield* connect()
      const client = yield* connect({ url: proxy.url })
      const key = unique("load")
      const worker = Effect.forEach(Arr.range(1, 200), () =>
        Effect.zipLeft(outcome(client.send("INCR", key)), Effect.sleep(1)))
      const fiber = yield* Effect.fork(
        Effect.map(
          Effect.forEach(Arr.range(1, 20), () =>
            worker, { concurrency: "unbounded" }),
          Arr.flatten
        )
      )
      yield* proxy.cut.pipe(Effect.delay("80 millis"), Effect.repeatN(5))
      const seen = yield* assertNothingTwice(direct, key, yield* Fiber.join(fiber))
      assert.strictEqual(seen.unsent, 0)
      assert.isAbove(seen.ok, 3000)
    }))
})

describe("without a connection", () => {
  it.scopedLive("commands wait for one, and are then sent", () =>
    Effect.gen(function*() {
      const proxy = yield* proxied
      const client = yield* connect({ url: proxy.url })
      const key = unique("wait")
      yield* proxy.refuse
      yield* Effect.sleep(20)
      const fiber = yield* Effect.fork(
        Effect.forEach(Arr.range(1, 100), () => client.send("INCR", key), { concurrency: "unbounded" })
      )
      yield* Effect.sleep(200)
      yield* proxy.accept
      assert.deepStrictEqual(yield* Fiber.join(fiber), Arr.range(1, 100))
    }))

  it.scopedLive("commands fail at their deadline, were not executed, and never will be", () =>
    Effect.gen(function*() {
      const proxy = yield* proxied
      const direct = yield* connect()
      const client = yield* connect({ url: proxy.url, commandTimeout: "300 millis" })
      const key = unique("never")
      yield* proxy.refuse
      yield* Effect.sleep(20)
      const [took, errors] = yield* Effect.timed(
        Effect.forEach(
          [
            client.send("INCR", key),
            client.pipeline([["INCR", key]]),
            client.transaction([["INCR", key]]),
            client.eval(incr, key)
          ],
          (effect) => Effect.flip<unknown, RedisError, never>(effect),
          { concurrency: "unbounded" }
        )
      )
      for (const error of errors) {
        assert(error._tag === "RedisConnectionError")
        assert.strictEqual(error.reason, "unavailable")
      }
      assert.isAbove(Duration.toMillis(took), 250)
      assert.isBelow(Duration.toMillis(took), 3000)
      yield* proxy.accept
      assert.strictEqual(yield* eventually(client.send("PING")), "PONG")
      assert.isNull(yield* direct.send("GET", key))
    }))

  it.scopedLive("an interrupted command is not sent later", () =>
    Effect.gen(function*() {
      const proxy = yield* proxied
      const client = yield* connect({ url: proxy.url })
      const key = unique("interrupted")
      yield* proxy.refuse
      yield* Effect.sleep(20)
      const fiber = yield* Effect.fork(client.send("INCR", key))
      yield* Effect.sleep(50)
      yield* Fiber.interrupt(fiber)
      yield* proxy.accept
      assert.isNull(yield* client.send("GET", key))
    }))
})

describe("interruption", () => {
  it.scopedLive("of a command returns at once, and leaves the connection in order", () =>
    Effect.gen(function*() {
      const client = yield* connect()
      const key = unique("interrupt")
      yield* Effect.forEach(
        Arr.range(1, 200),
        () => Effect.flatMap(Effect.fork(client.send("INCR", key)), Fiber.interrupt),
        { discard: true }
      )
      const replies = yield* Effect.forEach(Arr.range(1, 50), (i) => client.send("ECHO", String(i)), {
        concurrency: "unbounded"
      })
      assert.strictEqual(replies.join(), Arr.range(1, 50).join())
    }))
})

describe("a server that does not answer", () => {
  it.scopedLive("fails commands at their deadline; the client comes back by itself", () =>
    Effect.gen(function*() {
      const server = yield* RealServer.start()
      const client = yield* connect({ url: server.url, commandTimeout: "1 second" })
      const key = "counter"
      const results: Array<string> = []
      let slowest = 0
      const worker = Effect.gen(function*() {
        const [took, result] = yield* Effect.timed(outcome(client.send("INCR", key)))
        slowest = Math.max(slowest, Duration.toMillis(took))
        results.push(result)
        yield* Effect.sleep(5)
      })
      const fibers = yield* Effect.forkAll(Array.from({ length: 20 }, () => Effect.forever(worker)))
      yield* Effect.sleep(200)
      yield* server.pause
      yield* Effect.sleep(3500)
      yield* server.resume
      const before = results.length
      yield* eventually(Effect.suspend(() =>
        results.slice(before).filter((result) => result === "ok").length > 100 ? Effect.void : Effect.fail("not yet")
      ))
      yield* Fiber.interrupt(fibers)
      assert.isBelow(slowest, 2500)
      const seen = count(results)
      assert.isAbove(seen.unknown, 0)
      // Interrupted commands are not among the results.
      const counted = Number(yield* client.send("GET", key))
      assert.isAtLeast(counted, seen.ok)
      assert.isAtMost(counted, seen.ok + seen.unknown + 20)
    }))

  it.scopedLive("is told apart by what was sent: unknown, then unavailable", () =>
    Effect.gen(function*() {
      const proxy = yield* proxied
      const client = yield* connect({ url: proxy.url, commandTimeout: "300 millis", connectTimeout: "300 millis" })
      yield* proxy.stall("replies")
      const first = yield* Effect.flip(client.send("INCR", unique("stall")))
      assert(first._tag === "RedisOutcomeUnknownError")
      assert.strictEqual(first.reason, "timeout")
      // The silent connection was dropped, and the next one does not get through its greeting.
      yield* Effect.sleep(20)
      const second = yield* Effect.flip(client.send("INCR", unique("stall")))
      assert(second._tag === "RedisConnectionError")
      yield* proxy.resume
      assert.strictEqual(yield* eventually(client.send("PING")), "PONG")
    }))

  it.scopedLive("is found on an idle connection too", () =>
    Effect.gen(function*() {
      const proxy = yield* proxied
      const client = yield* connect({ url: proxy.url, commandTimeout: "200 millis", connectTimeout: "200 millis" })
      assert.strictEqual(yield* proxy.accepted, 1)
      yield* proxy.stall("both")
      // Nobody sends anything; the driver asks by itself.
      yield* eventually(Effect.filterOrFail(proxy.accepted, (n) => n === 2))
      // Neither does the next connection get an answer.
      yield* eventually(Effect.filterOrFail(proxy.accepted, (n) => n === 4))
      yield* proxy.resume
      assert.strictEqual(yield* eventually(client.send("PING")), "PONG")
    }))

  it.scopedLive("does not end an idle connection that is well", () =>
    Effect.gen(function*() {
      const name = unique("idle-well")
      const client = yield* connect({ commandTimeout: "50 millis", name })
      const direct = yield* connect()
      const before = yield* connectionsNamed(direct, name)
      yield* Effect.sleep(500)
      const after = yield* connectionsNamed(direct, name)
      assert.strictEqual(after[0]?.split(" ")[0], before[0]?.split(" ")[0])
      assert.strictEqual(yield* client.send("PING"), "PONG")
    }))

  it.scopedLive("for a moment is no reason to fail: a slow command is waited for", () =>
    Effect.gen(function*() {
      const server = yield* RealServer.start()
      const client = yield* connect({ url: server.url, commandTimeout: "2 seconds" })
      yield* server.pause
      const fiber = yield* Effect.fork(client.send("PING"))
      yield* Effect.sleep(300)
      yield* server.resume
      assert.strictEqual(yield* Fiber.join(fiber), "PONG")
    }))
})

describe("a busy process", () => {
  it.scopedLive("takes the replies that have come before it looks at deadlines", () =>
    Effect.gen(function*() {
      const client = yield* connect({ commandTimeout: "100 millis" })
      const fiber = yield* Effect.fork(
        Effect.forEach(Arr.range(1, 50), () => client.send("PING"), { concurrency: "unbounded" })
      )
      yield* Effect.async<void>((resume) =>
        void setImmediate(() => {
          const end = performance.now() + 400
          while (performance.now() < end);
          resume(Effect.void)
        })
      )
      assert.lengthOf(yield* Fiber.join(fiber), 50)
    }))
})

describe("a server that is killed", () => {
  it.scopedLive("and started again is used again", () =>
    Effect.gen(function*() {
      const server = yield* RealServer.start({ appendonly: true })
      const client = yield* connect({ url: server.url })
      const key = "counter"
      const fiber = yield* Effect.fork(
        Effect.forEach(
          Arr.range(1, 400),
          () => Effect.zipLeft(outcome(client.send("INCR", key)), Effect.sleep(2)),
          { concurrency: 20 }
        )
      )
      yield* Effect.sleep(20)
      yield* server.kill
      yield* Effect.sleep(300)
      yield* server.restart
      const seen = yield* assertNothingTwice(client, key, yield* Fiber.join(fiber))
      assert.isAbove(seen.ok, 300)
    }))

  it.scopedLive("loses its scripts, which nobody sees", () =>
    Effect.gen(function*() {
      const server = yield* RealServer.start({ appendonly: true })
      const client = yield* connect({ url: server.url })
      assert.strictEqual(yield* client.eval(incr, "a"), 1)
      yield* server.restart
      assert.strictEqual(yield* client.eval(incr, "a").pipe(Effect.retry(Schedule.recurs(3))), 2)
      yield* client.send("SCRIPT", "FLUSH")
      assert.strictEqual(yield* client.eval(incr, "a"), 3)
      yield* client.send("SCRIPT", "FLUSH")
      const replies = yield* client.pipeline([
        ["SET", "b", "1"],
        RedisScript.call(incr, "a"),
        ["GET", "b"],
        RedisScript.call(incr, "a")
      ])
      assert.deepStrictEqual(replies, [Either.right("OK"), Either.right(4), Either.right("1"), Either.right(5)])
    }))
})

describe("a master that becomes a replica", () => {
  it.scopedLive("is left for another connection, without losing a reply", () =>
    Effect.gen(function*() {
      const server = yield* RealServer.start()
      const client = yield* connect({ url: server.url })
      const id = yield* client.send("CLIENT", "ID")
      yield* server.cli("REPLICAOF", "127.0.0.1", "1")
      const results = yield* Effect.forEach(
        Arr.range(1, 50),
        (i) => Effect.either(i % 2 === 0 ? client.send("GET", "a") : client.send("SET", "a", "1")),
        { concurrency: "unbounded" }
      )
      for (const result of results) {
        if (Either.isRight(result)) continue
        assert(result.left._tag === "RedisReplyError")
        assert.include(["READONLY", "MASTERDOWN"], result.left.code)
        assert.isTrue(result.left.isRetryable)
      }
      yield* server.cli("REPLICAOF", "NO", "ONE")
      assert.strictEqual(yield* eventually(client.send("SET", "a", "1")), "OK")
      assert.notStrictEqual(yield* client.send("CLIENT", "ID"), id)
    }))
})
