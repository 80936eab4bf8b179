import { assert, describe, it } from "@effect/vitest"
import { Array as Arr, Effect, Either, Exit, Fiber, Option, Scope } from "effect"
import { Redis } from "ioredis"
import * as IoRedis from "../../src/IoRedis.js"
import * as RealServer from "../kit/RealServer.js"
import { connect, connectionsNamed, eventually, outcome, proxied, serverUrl, unique } from "./support.js"

describe("a reserved connection", () => {
  it.scopedLive("is another one, with its id, and ends with its scope", () =>
    Effect.gen(function*() {
      const name = unique("reserved")
      const client = yield* connect({ name })
      const shared = yield* client.send("CLIENT", "ID")
      yield* Effect.scoped(Effect.gen(function*() {
        const own = yield* client.reserve()
        assert.notStrictEqual(own.id, shared)
        assert.strictEqual(yield* own.send("CLIENT", "ID"), own.id)
        assert.lengthOf(yield* connectionsNamed(client, name), 2)
      }))
      yield* eventually(Effect.filterOrFail(connectionsNamed(client, name), (lines) => lines.length === 1))
    }))

  it.scopedLive("ends with the client, when that ends first", () =>
    Effect.gen(function*() {
      const scope = yield* Scope.make()
      const client = yield* Scope.extend(connect(), scope)
      const own = yield* client.reserve()
      yield* Scope.close(scope, Exit.void)
      assert.strictEqual(yield* outcome(own.send("PING")), "RedisConnectionError")
      assert.strictEqual(yield* outcome(Effect.scoped(client.reserve())), "RedisConnectionError")
    }))

  it.scopedLive("blocks nobody else", () =>
    Effect.gen(function*() {
      const client = yield* connect()
      const own = yield* client.reserve()
      const key = unique("block")
      const fiber = yield* Effect.fork(own.sendBlocking("BLPOP", [key, 0], () => Effect.void))
      yield* Effect.sleep(50)
      assert.strictEqual(yield* client.send("PING"), "PONG")
      yield* client.send("RPUSH", key, "a")
      assert.deepStrictEqual(yield* Fiber.join(fiber), [key, "a"])
    }))

  it.scopedLive("waits past the command timeout", () =>
    Effect.gen(function*() {
      const client = yield* connect({ commandTimeout: "100 millis" })
      const own = yield* client.reserve()
      const key = unique("long")
      const fiber = yield* Effect.fork(own.sendBlocking("BLPOP", [key, 0], () => Effect.void))
      yield* Effect.sleep(600)
      yield* client.send("RPUSH", key, "a")
      assert.deepStrictEqual(yield* Fiber.join(fiber), [key, "a"])
    }))

  it.scopedLive("loses no element when its wait is interrupted, in 200 races", () =>
    Effect.gen(function*() {
      const client = yield* connect()
      const key = unique("race")
      const received: Array<string> = []
      const returned: Array<string> = []
      // Text for who receives it, a buffer for who hands it back.
      const element = (reply: unknown) => Array.isArray(reply) ? String(reply[1]) : undefined
      yield* Effect.forEach(Arr.range(0, 9), (worker) =>
        Effect.scoped(Effect.gen(function*() {
          const own = yield* client.reserve()
          const mine = `${key}:${worker}`
          for (let i = 0; i < 20; i++) {
            const fiber = yield* Effect.fork(
              own.sendBlocking("BLPOP", [mine, 0], (reply) =>
                Effect.sync(() => void returned.push(element(reply) ?? "nothing")))
            )
            // From "not yet sent" to "long since answered".
            if (i % 4 > 0) {
              yield* Effect.sleep(i % 4)
            }
            const [exit] = yield* Effect.all([
              Effect.zipRight(Effect.sleep(i % 3), Fiber.interrupt(fiber)),
              client.send("RPUSH", mine, `${worker}-${i}`)
            ], { concurrency: "unbounded" })
            if (Exit.isSuccess(exit)) {
              received.push(element(exit.value) ?? "nothing")
            }
            // The connection is in order.
            assert.strictEqual(yield* own.send("ECHO", `${i}`), `${i}`)
            const left = yield* client.send("LPOP", mine)
            if (left !== null) {
              returned.push(String(left))
            }
          }
        })), { concurrency: "unbounded" })
      const expected = Arr.flatMap(Arr.range(0, 9), (worker) =>
        Arr.makeBy(20, (i) => `${worker}-${i}`))
      assert.sameMembers([...received, ...returned], expected)
      assert.isAbove(returned.length, 0)
    }))

  it.scopedLive("an interrupt with nothing to hand back leaves it usable", () =>
    Effect.gen(function*() {
      const client = yield* connect()
      const own = yield* client.reserve()
      const key = unique("idle")
      for (let i = 0; i < 20; i++) {
        const fiber = yield* Effect.fork(
          own.sendBlocking("BLPOP", [key, 0], () => Effect.die("nothing was there to hand back"))
        )
        if (i % 2 === 0) yield* Effect.sleep(5)
        yield* Fiber.interrupt(fiber)
      }
      yield* client.send("RPUSH", key, "a")
      // A late CLIENT UNBLOCK would end this one.
      assert.deepStrictEqual(yield* own.sendBlocking("BLPOP", [key, 1], () => Effect.void), [key, "a"])
      const [reply] = yield* Effect.all([
        own.sendBlocking("BLPOP", [key, 5], () => Effect.void),
        Effect.delay(client.send("RPUSH", key, "b"), 100)
      ], { concurrency: "unbounded" })
      assert.deepStrictEqual(reply, [key, "b"])
    }))

  it.scopedLive("an interrupt that is faster than the command still ends it", () =>
    Effect.gen(function*() {
      const proxy = yield* proxied
      const redis = yield* Effect.acquireRelease(
        Effect.sync(() => new Redis(serverUrl(), { lazyConnect: true, ...IoRedis.clientOptions })),
        (redis) => Effect.sync(() => redis.disconnect())
      )
      const client = yield* IoRedis.fromClient(redis)
      assert.strictEqual(yield* client.send("PING"), "PONG")
      // Only connections that are opened from here on take the slow way.
      Object.assign(redis.options, { host: proxy.host, port: proxy.port })
      const own = yield* client.reserve()
      yield* proxy.delay(150)
      const key = unique("slow")
      const fiber = yield* Effect.fork(own.sendBlocking("BLPOP", [key, 0], () => Effect.void))
      yield* Effect.sleep(10)
      yield* Fiber.interrupt(fiber)
      yield* proxy.delay(0)
      yield* client.send("RPUSH", key, "a")
      assert.deepStrictEqual(yield* own.sendBlocking("BLPOP", [key, 1], () => Effect.void), [key, "a"])
    }))

  it.scopedLive("interrupting ends also when the server does not answer any more", () =>
    Effect.gen(function*() {
      const server = yield* RealServer.start()
      const client = yield* connect({ url: server.url, commandTimeout: "300 millis" })
      const own = yield* client.reserve()
      const fiber = yield* Effect.fork(own.sendBlocking("BLPOP", ["a", 0], () => Effect.void))
      yield* Effect.sleep(50)
      yield* server.pause
      yield* Fiber.interrupt(fiber)
      assert.strictEqual(yield* outcome(own.send("PING")), "RedisConnectionError")
      yield* server.resume
    }))

  it.scopedLive("that is lost fails what it waits for, and does not come back", () =>
    Effect.gen(function*() {
      const proxy = yield* proxied
      const client = yield* connect({ url: proxy.url })
      const own = yield* client.reserve()
      const fiber = yield* Effect.fork(Effect.flip(own.sendBlocking("BLPOP", [unique("lost"), 0], () => Effect.void)))
      yield* Effect.sleep(50)
      yield* proxy.cut
      const error = yield* Fiber.join(fiber)
      assert(error._tag === "RedisOutcomeUnknownError")
      assert.strictEqual(error.reason, "disconnected")
      const next = yield* Effect.flip(own.send("PING"))
      assert(next._tag === "RedisConnectionError")
      assert.strictEqual(next.reason, "closed")
      // The shared one does.
      assert.strictEqual(yield* eventually(client.send("PING")), "PONG")
    }))

  it.scopedLive("fails typed when it can't be had", () =>
    Effect.gen(function*() {
      const proxy = yield* proxied
      const client = yield* connect({ url: proxy.url })
      yield* proxy.refuse
      assert.strictEqual(yield* outcome(Effect.scoped(client.reserve())), "RedisConnectionError")
    }))

  it.scopedLive("watches keys", () =>
    Effect.gen(function*() {
      const client = yield* connect({ keyPrefix: "watch:" })
      const own = yield* client.reserve()
      const key = unique("watched")
      yield* own.watch(key)
      assert.deepStrictEqual(
        yield* own.transaction([["SET", client.key(key), "1"]]),
        Option.some([Either.right("OK" as const)])
      )
      yield* own.watch(key)
      yield* client.send("SET", client.key(key), "2")
      assert.deepStrictEqual(yield* own.transaction([["SET", client.key(key), "3"]]), Option.none())
      assert.strictEqual(yield* client.send("GET", client.key(key)), "2")
      yield* own.watch(key)
      yield* client.send("SET", client.key(key), "4")
      yield* own.unwatch
      assert.isTrue(Option.isSome(yield* own.transaction([["DEL", client.key(key)]])))
    }))

  it.scopedLive("refuses what is the driver's business", () =>
    Effect.gen(function*() {
      const client = yield* connect()
      const own = yield* client.reserve()
      assert.strictEqual(yield* outcome(own.send("SUBSCRIBE", "a")), "RedisInputError")
      assert.strictEqual(yield* outcome(own.sendBlocking("MONITOR", [], () => Effect.void)), "RedisInputError")
      assert.strictEqual(yield* own.send("PING"), "PONG")
    }))
})
