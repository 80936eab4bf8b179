import { assert, layer } from "@effect/vitest"
import { Effect, Either, Metric, Option } from "effect"
import { RedisClient } from "../../src/RedisClient.js"
import { RedisReplyError } from "../../src/RedisError.js"
import * as RedisScript from "../../src/RedisScript.js"
import { live } from "../kit/layers.js"
import * as Spans from "../kit/spans.js"
import { unique } from "./support.js"

const counter = (outcome: string) =>
  Effect.map(
    Metric.value(Metric.tagged(
      Metric.counter("effect_redis_commands_total", { description: "Commands issued, by outcome", incremental: true }),
      "outcome",
      outcome
    )),
    (state) => state.count
  )

layer(live, { excludeTestServices: true })("IoRedis commands", (it) => {
  it.effect("replies have one shape, whatever ioredis makes of them", () =>
    Effect.gen(function*() {
      const client = yield* RedisClient
      const key = client.key(unique("shape"))
      assert.strictEqual(yield* client.send("hset", key, "a", "1", "b", "2"), 2)
      // ioredis makes an object of this one.
      assert.deepStrictEqual(yield* client.send("hgetall", key), ["a", "1", "b", "2"])
      assert.deepStrictEqual(yield* client.send("HGETALL", key), ["a", "1", "b", "2"])
      assert.isNull(yield* client.send("HGET", key, "c"))
      assert.deepStrictEqual(yield* client.send("HMGET", key, "a", "c"), ["1", null])
      yield* client.send("ZADD", `${key}z`, 1.5, "m", Infinity, "n")
      assert.deepStrictEqual(yield* client.send("ZRANGE", `${key}z`, 0, -1, "WITHSCORES"), ["m", "1.5", "n", "inf"])
      assert.strictEqual(yield* client.send("ZSCORE", `${key}z`, "m"), "1.5")
      assert.deepStrictEqual(yield* client.send("EVAL", "return {1, {'a', false}, 2}", 0), [1, ["a", null], 2])
    }))

  it.effect("bytes go and come unchanged", () =>
    Effect.gen(function*() {
      const client = yield* RedisClient
      const key = client.key(unique("bytes"))
      const bytes = Uint8Array.from({ length: 256 }, (_, i) => i)
      yield* client.send("SET", key, bytes)
      assert.deepStrictEqual(new Uint8Array((yield* client.sendBytes("GET", key)) as Uint8Array), bytes)
      assert.deepStrictEqual(
        new Uint8Array((yield* client.sendBytes("GETRANGE", key, 128, 130)) as Uint8Array),
        bytes.slice(128, 131)
      )
      // A view of something larger.
      yield* client.send("SET", key, bytes.subarray(10, 12))
      assert.strictEqual(yield* client.send("STRLEN", key), 2)
      yield* client.send("SET", key, new Uint8Array(0))
      assert.strictEqual(yield* client.send("GET", key), "")
    }))

  it.effect("large values and large batches arrive whole", () =>
    Effect.gen(function*() {
      const client = yield* RedisClient
      const key = client.key(unique("large"))
      const value = "ü€😀".repeat(300_000)
      yield* client.send("SET", key, value)
      assert.strictEqual(yield* client.send("GET", key), value)
      const replies = yield* client.pipeline([
        ["SET", `${key}1`, value],
        ["SET", `${key}2`, Buffer.from(value)],
        ["GET", `${key}1`],
        ["GET", `${key}2`]
      ])
      assert.deepStrictEqual(replies.slice(2), [Either.right(value), Either.right(value)])
    }))

  it.effect("an error reply is a RedisReplyError with its code", () =>
    Effect.gen(function*() {
      const client = yield* RedisClient
      const key = client.key(unique("error"))
      yield* client.send("SET", key, "x")
      const error = yield* Effect.flip(client.send("LPUSH", key, "a"))
      assert(error._tag === "RedisReplyError")
      assert.strictEqual(error.code, "WRONGTYPE")
      assert.strictEqual(error.command, "LPUSH")
    }))

  it.effect("an error inside of a reply is a value", () =>
    Effect.gen(function*() {
      const client = yield* RedisClient
      const reply = yield* client.send("EVAL", "return {1, redis.error_reply('MINE is bad'), 3}", 0)
      assert(Array.isArray(reply) && reply[1] instanceof RedisReplyError)
      assert.strictEqual(reply[1].code, "MINE")
      assert.deepStrictEqual([reply[0], reply[2]], [1, 3])
    }))

  it.effect("commands of one fiber are executed in their order, and of all fibers once", () =>
    Effect.gen(function*() {
      const client = yield* RedisClient
      const key = client.key(unique("order"))
      const replies = yield* Effect.forEach(Array.from({ length: 5000 }), () => client.send("INCR", key), {
        concurrency: "unbounded"
      })
      assert.deepStrictEqual(replies, Array.from({ length: 5000 }, (_, i) => i + 1))
    }))

  it.effect("what would take the shared connection from others is refused", () =>
    Effect.gen(function*() {
      const client = yield* RedisClient
      const key = client.key(unique("refused"))
      const commands = [
        ["BLPOP", key, "0"],
        ["subscribe", "a"],
        ["MULTI"],
        ["WATCH", key],
        ["SELECT", "1"],
        ["QUIT"],
        ["MONITOR"],
        ["XREAD", "BLOCK", "0", "STREAMS", key, "$"],
        ["XREADGROUP", "GROUP", "g", "c", "block", "0", "STREAMS", key, ">"]
      ] as const
      for (const command of commands) {
        const [name, ...args] = command
        const error = yield* Effect.flip(client.send(name, ...args))
        assert.strictEqual(error._tag, "RedisInputError", name)
        assert.strictEqual((yield* Effect.flip(client.pipeline([command])))._tag, "RedisInputError", name)
      }
      assert.isNull(yield* client.send("XREAD", "STREAMS", key, "0"))
      assert.strictEqual(yield* client.send("PING"), "PONG")
    }))

  it.effect("a pipeline replies in order, and errors are values", () =>
    Effect.gen(function*() {
      const client = yield* RedisClient
      const key = client.key(unique("pipeline"))
      const replies = yield* client.pipeline([["SET", key, "x"], ["LPUSH", key, "a"], ["hgetall", `${key}h`], [
        "GET",
        key
      ]])
      assert.deepStrictEqual(replies.map(Either.isRight), [true, false, true, true])
      assert.deepStrictEqual(replies[2], Either.right([]))
      assert.deepStrictEqual(replies[3], Either.right("x"))
      const failed = Option.getOrThrow(Either.getLeft(replies[1]!))
      assert.strictEqual(failed.code, "WRONGTYPE")
      assert.strictEqual(failed.command, "LPUSH")
      assert.deepStrictEqual(yield* client.pipeline([]), [])
    }))

  it.effect("a transaction replies as a whole, and errors are values", () =>
    Effect.gen(function*() {
      const client = yield* RedisClient
      const key = client.key(unique("transaction"))
      const replies = yield* client.transaction([["SET", key, "1"], ["LPUSH", key, "a"], ["INCR", key]])
      assert.deepStrictEqual(replies[0], Either.right("OK"))
      assert.deepStrictEqual(replies[2], Either.right(2))
      const failed = Option.getOrThrow(Either.getLeft(replies[1]!))
      assert.strictEqual(failed.command, "LPUSH")
      assert.deepStrictEqual(yield* client.transaction([]), [])
    }))

  it.effect("a transaction with a command that the server refuses does nothing, and says which", () =>
    Effect.gen(function*() {
      const client = yield* RedisClient
      const key = client.key(unique("abort"))
      const error = yield* Effect.flip(client.transaction([["SET", key, "1"], ["GET"], ["NOSUCH", "payload"]]))
      assert(error._tag === "RedisReplyError")
      assert.strictEqual(error.command, "GET")
      assert.strictEqual(error.code, "ERR")
      assert.include(error.reply, "wrong number of arguments")
      assert.isNull(yield* client.send("GET", key))
    }))

  it.effect("transactions do not mix with commands of other fibers", () =>
    Effect.gen(function*() {
      const client = yield* RedisClient
      const key = client.key(unique("mix"))
      const transaction = client.transaction([["INCR", key], ["INCR", key], ["INCR", key]])
      const results = yield* Effect.forEach(
        Array.from({ length: 200 }, (_, i) => i),
        (i) => i % 2 === 0 ? Effect.as(client.send("INCR", key), []) : transaction,
        { concurrency: "unbounded" }
      )
      for (const replies of results) {
        if (replies.length === 0) continue
        const [a, b, c] = replies.map((reply) => Number(Either.getOrThrow(reply)))
        assert.deepStrictEqual([b, c], [a! + 1, a! + 2])
      }
      assert.strictEqual(yield* client.send("GET", key), "400")
    }))

  it.effect("a script is sent once as text, and then by its hash", () =>
    Effect.gen(function*() {
      const client = yield* RedisClient
      const key = unique("script")
      const script = RedisScript.make({
        name: "unique",
        lua: `-- ${key}\nreturn {KEYS[1], ARGV[1]}`,
        params: (key: string, arg: string) => ({ keys: [key], args: [arg] }),
        result: RedisScript.reply
      })
      for (let i = 0; i < 3; i++) assert.deepStrictEqual(yield* client.eval(script, key, "x"), [client.key(key), "x"])
      yield* client.send("SCRIPT", "FLUSH")
      const replies = yield* Effect.forEach(Array.from({ length: 100 }), () => client.eval(script, key, "y"), {
        concurrency: "unbounded"
      })
      assert.isTrue(replies.every((reply) => Array.isArray(reply) && reply[1] === "y"))
    }))

  it.effect("commands are counted by their outcome, and timed", () =>
    Effect.gen(function*() {
      const client = yield* RedisClient
      const key = client.key(unique("metrics"))
      const [ok, failed] = [yield* counter("ok"), yield* counter("reply_error")]
      yield* client.send("SET", key, "x")
      yield* client.pipeline([["GET", key], ["LPUSH", key, "a"]])
      yield* Effect.ignore(client.send("LPUSH", key, "a"))
      assert.strictEqual((yield* counter("ok")) - ok, 2)
      assert.strictEqual((yield* counter("reply_error")) - failed, 2)
      const snapshot = yield* Metric.snapshot
      const durations = snapshot.find((pair) => pair.metricKey.name === "effect_redis_command_duration_seconds")
      assert.isDefined(durations)
    }))

  it.effect("a command makes no span", () =>
    Effect.gen(function*() {
      const client = yield* RedisClient
      const spans = yield* Spans.Spans
      yield* client.send("PING")
      yield* client.pipeline([["PING"]])
      assert.lengthOf(yield* spans.all, 0)
    }).pipe(Effect.provide(Spans.layer)))
})
