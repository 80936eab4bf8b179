/**
 * Commands as they are, pipelines, transactions and scripts.
 */
import { assert } from "@effect/vitest"
import { Effect, Either, Option, Schema } from "effect"
import type { Reply } from "../../../src/RedisClient.js"
import { RedisReplyError } from "../../../src/RedisError.js"
import * as RedisScript from "../../../src/RedisScript.js"
import { eventually, failure, gives, none, refused, rejected, some, type Test } from "./tools.js"

const allBytes = Uint8Array.from({ length: 256 }, (_, i) => i)

/** The right sides; the code of an error on the left. */
const flatten = (replies: ReadonlyArray<Either.Either<Reply, RedisReplyError>>) =>
  replies.map((reply) => Either.isRight(reply) ? reply.right : reply.left.code)

const swap = RedisScript.make({
  name: "swap",
  lua: `
local old = redis.call("GET", KEYS[1])
redis.call("SET", KEYS[1], ARGV[1])
return old`,
  params: (key: string, value: string | Uint8Array) => ({ keys: [key], args: [value] }),
  result: Schema.NullOr(Schema.String)
})

const increase = RedisScript.make({
  name: "increase",
  lua: `return redis.call("INCRBY", KEYS[1], ARGV[1])`,
  params: (key: string, by: number) => ({ keys: [key], args: [by] }),
  result: RedisScript.number
})

export const wire = (test: Test): void => {
  send(test)
  pipelines(test)
  transactions(test)
  scripts(test)
}

const send = (test: Test): void => {
  test("send takes text, numbers and bytes", (client, { name }) =>
    Effect.gen(function*() {
      const key = client.key(name())
      yield* gives(client.send("SET", key, "text"), "OK")
      yield* gives(client.send("GET", key), "text")
      yield* gives(client.send("get", key), "text")
      yield* gives(client.send("DEL", key), 1)
      yield* gives(client.send("GET", key), null)
      yield* gives(client.send("RPUSH", key, 1, -2.5, Infinity, -Infinity, Uint8Array.of(104, 105), ""), 6)
      yield* gives(client.send("LRANGE", key, 0, -1), ["1", "-2.5", "inf", "-inf", "hi", ""])
      yield* gives(client.send("LRANGE", key, 9, 9), [])
    }))

  test("send refuses what is no argument", (client, { name }) =>
    Effect.gen(function*() {
      const key = client.key(name())
      yield* refused(client.send("SET", key, NaN), "argument 2")
      yield* gives(client.send("EXISTS", key), 0)
    }))

  test("errors of the server have their code and no arguments", (client, { name }) =>
    Effect.gen(function*() {
      const key = client.key(name())
      yield* client.send("SET", key, "secret")
      const wrongType = yield* rejected(client.send("LPUSH", key, "secret"), "WRONGTYPE")
      assert.strictEqual(wrongType.command, "LPUSH")
      assert.notInclude(wrongType.message, "secret")
      assert.isFalse(wrongType.isRetryable)
      yield* rejected(client.send("GET"), "ERR")
      yield* rejected(client.send("SET", key, "a", "NONSENSE"), "ERR")
      const unknown = yield* rejected(client.send("NOSUCHCOMMAND"), "ERR")
      assert.match(unknown.reply, /unknown command/)
    }))

  test("sendBytes gives and takes every byte", (client, { name }) =>
    Effect.gen(function*() {
      const key = client.key(name())
      yield* client.send("SET", key, allBytes)
      const reply = yield* client.sendBytes("GET", key)
      assert.instanceOf(reply, Uint8Array)
      assert.deepStrictEqual(reply instanceof Uint8Array ? Array.from(reply) : [], Array.from(allBytes))
      yield* gives(client.send("STRLEN", key), 256)
      yield* gives(client.sendBytes("STRLEN", key), 256)
      yield* client.send("DEL", key)
      yield* gives(client.sendBytes("GET", key), null)
      yield* client.send("RPUSH", key, allBytes, "")
      const list = yield* client.sendBytes("LRANGE", key, 0, -1)
      if (!Array.isArray(list)) return assert.fail("no array")
      assert.deepStrictEqual(list.map((item) => Array.from(item)), [Array.from(allBytes), []])
    }))

  test("keys may hold any bytes", (client) =>
    Effect.gen(function*() {
      const key = Buffer.concat([Buffer.from(client.key("binary:")), allBytes])
      yield* client.send("SET", key, "x")
      yield* gives(client.send("GET", key), "x")
      yield* gives(client.send("GET", key.subarray(0, -1)), null)
      yield* gives(client.send("DEL", key), 1)
    }))

  test("values of some megabytes", (client, { name }) =>
    Effect.gen(function*() {
      const key = name()
      const large = Buffer.alloc(5_000_000, allBytes)
      yield* client.set(key, large)
      yield* gives(client.strlen(key), large.length)
      const got = Option.getOrThrow(yield* client.getBytes(key))
      assert.isTrue(large.equals(got))
      yield* client.set(key, "ä".repeat(1_000_000))
      yield* gives(client.strlen(key), 2_000_000)
      yield* gives(Effect.map(client.get(key), Option.map((text) => text.length)), some(1_000_000))
      yield* client.del(key)
    }))

  test("a command of ten thousand arguments", (client, { name }) =>
    Effect.gen(function*() {
      const key = name()
      const members = Array.from({ length: 10_000 }, (_, i) => `${i}`)
      yield* gives(client.sadd(key, ...members), members.length)
      yield* gives(client.scard(key), members.length)
      yield* gives(client.srem(key, ...members), members.length)
    }))

  test("text that is not UTF-8 arrives with replacement characters", (client, { name }) =>
    Effect.gen(function*() {
      const key = name()
      yield* client.set(key, Uint8Array.of(0x61, 0xff, 0xc3, 0x28))
      yield* gives(client.get(key), some("a\ufffd\ufffd("))
      yield* gives(client.strlen(key), 4)
    }))
}

const pipelines = (test: Test): void => {
  test("a pipeline gives its replies in order", (client, { name }) =>
    Effect.gen(function*() {
      const key = client.key(name())
      yield* gives(client.pipeline([]), [])
      const commands = Array.from({ length: 500 }, () => ["INCR", key] as const)
      const replies = yield* client.pipeline(commands)
      assert.deepStrictEqual(flatten(replies), commands.map((_, i) => i + 1))
    }))

  test("an error in a pipeline does not touch the others", (client, { name }) =>
    Effect.gen(function*() {
      const key = name()
      const replies = yield* client.pipeline([
        ["SET", client.key(key), "text"],
        ["INCR", client.key(key)],
        ["NOSUCHCOMMAND"],
        ["APPEND", client.key(key), Uint8Array.of(33)],
        ["GET", client.key(key)],
        ["LRANGE", client.key(name()), 0, -1]
      ])
      assert.deepStrictEqual(flatten(replies), ["OK", "ERR", "ERR", 5, "text!", []])
      const error = replies[1]!
      assert.isTrue(Either.isLeft(error) && error.left instanceof RedisReplyError)
      assert.strictEqual(Either.isLeft(error) ? error.left.command : "", "INCR")
      yield* refused(
        client.pipeline([["SET", client.key(key), "changed"], ["INCRBY", client.key(key), NaN]]),
        "argument 2"
      )
      yield* gives(client.get(key), some("text!"))
    }))

  test("scripts in a pipeline, also when the server has forgotten them", (client, { name }) =>
    Effect.gen(function*() {
      const key = name()
      const pipeline = client.pipeline([
        RedisScript.call(increase, key, 2),
        ["INCR", client.key(key)],
        RedisScript.call(increase, key, 10)
      ])
      yield* client.scriptFlush
      const [first, second, third] = flatten(yield* pipeline)
      // The scripts were unknown, so they ran after the command between them.
      assert.deepStrictEqual([first, second, third], [3, 1, 13])
      yield* pipeline
      yield* gives(client.get(key), some("26"))
    }))

  test("an error of a script in a pipeline is its own", (client, { name }) =>
    Effect.gen(function*() {
      const key = name()
      yield* client.rpush(key, "a")
      const replies = yield* client.pipeline([
        RedisScript.call(increase, key, 1),
        ["LLEN", client.key(key)]
      ])
      assert.deepStrictEqual(flatten(replies), ["WRONGTYPE", 1])
    }))
}

const transactions = (test: Test): void => {
  test("a transaction gives its replies in order", (client, { name }) =>
    Effect.gen(function*() {
      const key = name()
      yield* gives(client.transaction([]), [])
      const replies = yield* client.transaction([
        ["SET", client.key(key), "1"],
        ["INCRBY", client.key(key), 4],
        RedisScript.call(increase, key, 10),
        ["GET", client.key(key)]
      ])
      assert.deepStrictEqual(flatten(replies), ["OK", 5, 15, "15"])
    }))

  test("nothing runs between the commands of a transaction", (client, { name }) =>
    Effect.gen(function*() {
      const key = name()
      const results = yield* Effect.forEach(Array.from({ length: 50 }), () =>
        client.transaction([
          ["INCR", client.key(key)],
          ["INCR", client.key(key)],
          ["INCR", client.key(key)]
        ]), { concurrency: "unbounded" })
      const all = results.map(flatten)
      for (const [a, b, c] of all) {
        assert.strictEqual(Number(b), Number(a) + 1)
        assert.strictEqual(Number(c), Number(a) + 2)
      }
      assert.deepStrictEqual(new Set(all.flat()), new Set(Array.from({ length: 150 }, (_, i) => i + 1)))
    }))

  test("an error in a transaction does not undo the others", (client, { name }) =>
    Effect.gen(function*() {
      const key = name()
      const replies = yield* client.transaction([
        ["SET", client.key(key), "text"],
        ["INCR", client.key(key)],
        ["APPEND", client.key(key), "!"]
      ])
      assert.deepStrictEqual(flatten(replies), ["OK", "ERR", 5])
      yield* gives(client.get(key), some("text!"))
    }))

  test("a command that cannot be queued aborts the whole transaction", (client, { name }) =>
    Effect.gen(function*() {
      const key = name()
      // The reply of EXEC would be EXECABORT, which does not say why.
      const unknown = yield* rejected(client.transaction([["SET", client.key(key), "x"], ["NOSUCHCOMMAND"]]), "ERR")
      assert.strictEqual(unknown.command, "NOSUCHCOMMAND")
      assert.match(unknown.reply, /unknown command/)
      const arguments_ = yield* rejected(client.transaction([["SET", client.key(key), "x"], ["GET"]]), "ERR")
      assert.strictEqual(arguments_.command, "GET")
      yield* gives(client.get(key), none)
      yield* gives(Effect.map(client.transaction([["SET", client.key(key), "y"]]), flatten), ["OK"])
    }))

  test("a transaction does not need the server to know a script", (client, { name }) =>
    Effect.gen(function*() {
      yield* client.scriptFlush
      const replies = yield* client.transaction([RedisScript.call(swap, name(), "x")])
      assert.deepStrictEqual(flatten(replies), [null])
      yield* refused(client.transaction([RedisScript.call(swap, "", "x")]), "key")
    }))
}

const scripts = (test: Test): void => {
  test("a script gives what its decoder or its schema says", (client, { name }) =>
    Effect.gen(function*() {
      const key = name()
      yield* gives(client.eval(increase, key, 5), 5)
      yield* gives(client.eval(swap, name(), "x"), null)
      yield* gives(client.eval(swap, key, "x"), "5")
      const Pair = Schema.Tuple(Schema.NumberFromString, Schema.BooleanFromUnknown)
      const pair = RedisScript.make({
        name: "pair",
        lua: `return {ARGV[1], 1}`,
        params: (n: number) => ({ keys: [], args: [n] }),
        result: Pair
      })
      yield* gives(client.eval(pair, 1.5), [1.5, true])
    }))

  test("a reply of another shape is a decode error without the data", (client, { name }) =>
    Effect.gen(function*() {
      const key = name()
      yield* client.set(key, "secret")
      const bad = RedisScript.make({
        name: "bad",
        lua: `return redis.call("GET", KEYS[1])`,
        params: (key: string) => ({ keys: [key], args: [] }),
        result: RedisScript.number
      })
      const badSchema = RedisScript.make({
        name: "badSchema",
        lua: `return {redis.call("GET", KEYS[1])}`,
        params: (key: string) => ({ keys: [key], args: [] }),
        result: Schema.Tuple(Schema.Number)
      })
      for (const script of [bad, badSchema]) {
        const error = yield* failure(client.eval<[string], unknown>(script, key))
        if (error._tag !== "RedisDecodeError") return assert.fail(error._tag)
        assert.strictEqual(error.command, script.name)
        assert.notInclude(error.message, "secret")
      }
    }))

  test("a server that has forgotten a script gets it again", (client, { name }) =>
    Effect.gen(function*() {
      const key = name()
      yield* client.eval(increase, key, 1)
      yield* client.scriptFlush
      yield* gives(client.scriptExists([increase.sha]), [false])
      yield* gives(client.eval(increase, key, 1), 2)
      const server = yield* client.reserve({ key })
      // Other suites make the same server forget its scripts.
      yield* eventually(Effect.zipRight(
        client.eval(increase, key, 1),
        Effect.map(server.scriptExists([increase.sha]), ([known]) => known === true)
      ))
    }))

  test(
    "an error of a script has its code, and keeps what was written before",
    (client, { name }) =>
      Effect.gen(function*() {
        const key = name()
        const failing = RedisScript.make({
          name: "failing",
          lua: `
redis.call("SET", KEYS[1], "written")
return redis.call("LPUSH", KEYS[1], "x")`,
          params: (key: string) => ({ keys: [key], args: [] }),
          result: RedisScript.reply
        })
        yield* rejected(client.eval(failing, key), "WRONGTYPE")
        yield* gives(client.get(key), some("written"))
        const custom = RedisScript.make({
          name: "custom",
          lua: `return redis.error_reply("MYCODE something happened")`,
          params: () => ({ keys: [], args: [] }),
          result: RedisScript.reply
        })
        const error = yield* rejected(client.eval(custom), "MYCODE")
        assert.strictEqual(error.reply, "MYCODE something happened")
        const raised = RedisScript.make({
          name: "raised",
          lua: `error("of the script")`,
          params: () => ({ keys: [], args: [] }),
          result: RedisScript.reply
        })
        yield* rejected(client.eval(raised), "ERR")
        const syntax = RedisScript.make({
          name: "syntax",
          lua: `return (`,
          params: () => ({ keys: [], args: [] }),
          result: RedisScript.reply
        })
        yield* rejected(client.eval(syntax), "ERR")
      })
  )

  test("keys of a script get the prefix, arguments do not", (client, { name }) =>
    Effect.gen(function*() {
      const key = name()
      const echo = RedisScript.make({
        name: "echo",
        lua: `return {KEYS[1], ARGV[1]}`,
        params: (key: string) => ({ keys: [key], args: [key] }),
        result: Schema.Tuple(Schema.String, Schema.String)
      })
      yield* gives(client.eval(echo, key), [client.key(key), key])
      yield* refused(client.eval(echo, ""), "key")
    }))

  test("scripts give and take bytes", (client, { name }) =>
    Effect.gen(function*() {
      const key = name()
      const swapBytes = RedisScript.make({
        name: "swapBytes",
        lua: swap.lua,
        params: (key: string, value: Uint8Array) => ({ keys: [key], args: [value] }),
        encoding: "bytes",
        result: (reply) =>
          reply === null || reply instanceof Uint8Array ? Either.right(reply) : Either.left("bytes or nothing")
      })
      yield* gives(client.eval(swapBytes, key, allBytes), null)
      const reply = yield* client.eval(swapBytes, key, Uint8Array.of())
      assert.deepStrictEqual(reply === null ? null : Array.from(reply), Array.from(allBytes))
    }))

  test("replies of Lua: numbers are cut, nil ends a table, false is nothing", (client) =>
    Effect.gen(function*() {
      const replies = RedisScript.make({
        name: "replies",
        lua: `return {1.9, -1.9, true, false, "text", {"nested", {}}, redis.status_reply("FINE"), nil, "lost"}`,
        params: () => ({ keys: [], args: [] }),
        result: RedisScript.reply
      })
      yield* gives(client.eval(replies), [1, -1, 1, null, "text", ["nested", []], "FINE"])
      const nothing = RedisScript.make({
        name: "nothing",
        lua: `redis.call("PING")`,
        params: () => ({ keys: [], args: [] }),
        result: RedisScript.boolean
      })
      yield* gives(client.eval(nothing), false)
    }))

  test("numbers past 1e14 keep their digits with %.0f, and not without", (client) =>
    Effect.gen(function*() {
      const digits = RedisScript.make({
        name: "digits",
        lua: `
local n = tonumber(ARGV[1])
return {string.format("%.0f", n), tostring(n), n}`,
        params: (n: number) => ({ keys: [], args: [n] }),
        result: Schema.Tuple(Schema.String, Schema.String, Schema.Number)
      })
      const n = 1_700_000_000_123_456
      yield* gives(client.eval(digits, n), [String(n), "1.7000000001235e+15", n])
    }))

  test("time inside a script is the server's", (client) =>
    Effect.gen(function*() {
      const time = RedisScript.make({
        name: "time",
        lua: `local t = redis.call("TIME") return string.format("%.0f", t[1] * 1000000 + t[2])`,
        params: () => ({ keys: [], args: [] }),
        result: Schema.BigInt
      })
      const before = yield* client.time
      const inside = yield* client.eval(time)
      assert.isTrue(inside >= before && inside <= (yield* client.time))
    }))
}
