/**
 * Time on the server in memory is Effect's clock: days pass in no time.
 */
import { assert, it } from "@effect/vitest"
import { Duration, Effect, Fiber, Layer, Option, Stream, TestClock } from "effect"
import { RedisClient } from "../../src/RedisClient.js"
import * as RedisScript from "../../src/RedisScript.js"
import * as RedisTestServer from "../../src/RedisTestServer.js"
import { gives, none, some } from "./contract/tools.js"

const remaining = (key: string) =>
  Effect.flatMap(RedisClient, (client) => Effect.map(client.ttl(key), Option.map(Duration.toMillis)))

// Each test gets a server of its own, whose clock starts at 0.
const test = <A, E>(name: string, body: Effect.Effect<A, E, RedisClient | RedisTestServer.RedisTestServer>) =>
  it.effect(name, () => Effect.provide(body, Layer.fresh(RedisTestServer.layer)))

test(
  "a key lives for seven days, to the millisecond",
  Effect.gen(function*() {
    const client = yield* RedisClient
    yield* client.set("session", "x", { ttl: "7 days" })
    yield* gives(client.ttl("session"), some(Duration.days(7)))
    yield* TestClock.adjust("6 days")
    yield* gives(client.ttl("session"), some(Duration.days(1)))
    yield* TestClock.adjust(Duration.subtract(Duration.days(1), Duration.millis(1)))
    yield* gives(client.ttl("session"), some(Duration.millis(1)))
    yield* gives(client.get("session"), some("x"))
    yield* TestClock.adjust("1 millis")
    yield* gives(client.get("session"), none)
    yield* gives(client.ttl("session"), none)
    yield* gives(client.dbSize, 0)
  })
)

test(
  "the server's time is Effect's clock",
  Effect.gen(function*() {
    const client = yield* RedisClient
    yield* gives(client.time, 0n)
    yield* TestClock.adjust("1 day")
    yield* gives(client.time, 86_400_000_000n)
    const now = RedisScript.make({
      name: "now",
      lua: `return redis.call("TIME")[1]`,
      params: () => ({ keys: [], args: [] }),
      result: RedisScript.string
    })
    yield* gives(client.eval(now), "86400")
  })
)

test(
  "expireAt and set with expireAt",
  Effect.gen(function*() {
    const client = yield* RedisClient
    yield* client.set("a", "x", { expireAt: new Date(1000) })
    yield* client.set("b", "x")
    yield* gives(client.expireAt("b", new Date(2000)), true)
    yield* TestClock.adjust("1 second")
    yield* gives(client.mget(["a", "b"]), [none, some("x")])
    yield* TestClock.adjust("1 second")
    yield* gives(client.exists("b"), 0)
    yield* client.set("c", "x")
    yield* gives(client.expireAt("c", new Date(1999)), true)
    yield* gives(client.exists("c"), 0)
  })
)

test(
  "a life can be kept, made longer, and taken away",
  Effect.gen(function*() {
    const client = yield* RedisClient
    yield* client.set("key", "1", { ttl: "1 hour" })
    yield* TestClock.adjust("30 minutes")
    yield* client.set("key", "2", { keepTtl: true })
    yield* gives(remaining("key"), some(30 * 60_000))
    yield* client.incr("key")
    yield* gives(remaining("key"), some(30 * 60_000))
    yield* client.getEx("key", { ttl: "2 hours" })
    yield* gives(remaining("key"), some(2 * 60 * 60_000))
    yield* client.rename("key", "renamed")
    yield* client.copy("renamed", "copied")
    yield* gives(remaining("copied"), some(2 * 60 * 60_000))
    yield* gives(client.persist("renamed"), true)
    yield* TestClock.adjust("365 days")
    yield* gives(client.exists("renamed", "copied"), 1)
    yield* gives(client.get("renamed"), some("3"))
  })
)

test(
  "every type of key expires",
  Effect.gen(function*() {
    const client = yield* RedisClient
    yield* client.set("string", "x")
    yield* client.rpush("list", "x")
    yield* client.sadd("set", "x")
    yield* client.zadd("zset", { x: 1 })
    yield* client.hset("hash", { x: 1 })
    const keys = ["string", "list", "set", "zset", "hash"]
    for (const key of keys) yield* gives(client.expire(key, "1 minute"), true)
    yield* TestClock.adjust("59999 millis")
    yield* gives(client.exists(...keys), keys.length)
    yield* TestClock.adjust("1 millis")
    yield* gives(client.exists(...keys), 0)
    yield* gives(client.hgetAll("hash"), {})
    yield* gives(client.llen("list"), 0)
    // What is made anew has no expiry.
    yield* client.hset("hash", { y: 1 })
    yield* gives(client.ttl("hash"), some(Duration.infinity))
  })
)

test(
  "a blocked command waits on Effect's clock",
  Effect.scoped(Effect.gen(function*() {
    const client = yield* RedisClient
    const connection = yield* client.reserve()
    const fiber = yield* Effect.fork(connection.blpop(["list"], "1 hour"))
    yield* TestClock.adjust("59 minutes")
    assert.isTrue(Option.isNone(yield* Fiber.poll(fiber)))
    yield* TestClock.adjust("1 minute")
    yield* gives(Fiber.join(fiber), none)

    const patient = yield* Effect.fork(connection.blpop(["list"], Duration.infinity))
    yield* TestClock.adjust("365 days")
    assert.isTrue(Option.isNone(yield* Fiber.poll(patient)))
    yield* client.rpush("list", "at last")
    yield* gives(Fiber.join(patient), some(["list", "at last"] as const))
  }))
)

test(
  "health is checked as often as Effect's clock says",
  Effect.scoped(Effect.gen(function*() {
    const client = yield* RedisClient
    const server = yield* RedisTestServer.RedisTestServer
    const checks = Effect.map(server.journal, (entries) => entries.filter((entry) => entry.args[0] === "INFO").length)
    yield* Effect.forkScoped(Stream.runDrain(client.healthChanges("30 seconds")))
    yield* TestClock.adjust(0)
    yield* gives(checks, 1)
    yield* TestClock.adjust("29 seconds")
    yield* gives(checks, 1)
    yield* TestClock.adjust("1 second")
    yield* gives(checks, 2)
    yield* TestClock.adjust("5 minutes")
    yield* gives(checks, 12)
  }))
)
