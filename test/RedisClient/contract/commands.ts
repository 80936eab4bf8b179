/**
 * The typed commands.
 */
import { assert } from "@effect/vitest"
import { Chunk, DateTime, Duration, Effect, Option, Stream } from "effect"
import type { Service } from "../../../src/RedisClient.js"
import type { RedisError } from "../../../src/RedisError.js"
import { eventually, failure, gives, givesSorted, none, refused, rejected, some, type Test } from "./tools.js"

const collect = <A, E>(stream: Stream.Stream<A, E>) => Effect.map(Stream.runCollect(stream), Chunk.toReadonlyArray)

export const commands = (test: Test): void => {
  strings(test)
  keys(test)
  hashes(test)
  lists(test)
  sets(test)
  sortedSets(test)
  server(test)
  wrongTypes(test)
}

const strings = (test: Test): void => {
  test("get and set", (client, { name }) =>
    Effect.gen(function*() {
      const key = name()
      yield* gives(client.get(key), none)
      yield* gives(client.set(key, "value"), true)
      yield* gives(client.get(key), some("value"))
      yield* gives(client.set(key, ""), true)
      yield* gives(client.get(key), some(""))
      yield* gives(client.set(key, 1.5), true)
      yield* gives(client.get(key), some("1.5"))
      yield* gives(client.set(key, -Infinity), true)
      yield* gives(client.get(key), some("-inf"))
      const text = "naïve 日本語 \u{1F600} \r\n \0 end"
      yield* client.set(key, text)
      yield* gives(client.get(key), some(text))
    }))

  test("getBytes", (client, { name }) =>
    Effect.gen(function*() {
      const key = name()
      const bytes = Uint8Array.from({ length: 256 }, (_, i) => 255 - i)
      yield* gives(client.getBytes(key), none)
      yield* client.set(key, bytes)
      const got = Option.getOrThrow(yield* client.getBytes(key))
      assert.deepStrictEqual(Array.from(got), Array.from(bytes))
    }))

  test("set only if absent or present", (client, { name }) =>
    Effect.gen(function*() {
      const key = name()
      yield* gives(client.set(key, "a", { onlyIf: "present" }), false)
      yield* gives(client.exists(key), 0)
      yield* gives(client.set(key, "a", { onlyIf: "absent" }), true)
      yield* gives(client.set(key, "b", { onlyIf: "absent" }), false)
      yield* gives(client.get(key), some("a"))
      yield* gives(client.set(key, "b", { onlyIf: "present" }), true)
      yield* gives(client.get(key), some("b"))
    }))

  test("set with a life", (client, { name }) =>
    Effect.gen(function*() {
      const key = name()
      yield* client.set(key, "a", { ttl: "1 hour" })
      const ttl = Option.getOrThrow(yield* client.ttl(key))
      assert.isTrue(Duration.between(ttl, { minimum: "59 minutes", maximum: "1 hour" }))
      yield* client.set(key, "b", { keepTtl: true })
      assert.isTrue(Duration.lessThanOrEqualTo(Option.getOrThrow(yield* client.ttl(key)), "1 hour"))
      yield* client.set(key, "c")
      yield* gives(client.ttl(key), some(Duration.infinity))
      const now = Number((yield* client.time) / 1000n)
      yield* client.set(key, "d", { expireAt: new Date(now + 3_600_000), onlyIf: "present" })
      assert.isTrue(Duration.between(Option.getOrThrow(yield* client.ttl(key)), {
        minimum: "59 minutes",
        maximum: "1 hour"
      }))
      yield* client.set(key, "e", { ttl: "0.5 millis" })
      yield* refused(client.set(key, "f", { ttl: 0 }), "ttl")
      yield* refused(client.set(key, "f", { ttl: -1 }), "ttl")
      yield* refused(client.set(key, "f", { ttl: NaN }), "ttl")
      yield* refused(client.set(key, "f", { ttl: Infinity }), "ttl")
      yield* refused(client.set(key, "f", { ttl: Duration.infinity }), "ttl")
      yield* refused(client.set(key, "f", { expireAt: new Date(NaN) }), "expireAt")
      yield* refused(client.set(key, "f", { expireAt: new Date(0) }), "expireAt")
      yield* refused(client.set(key, "f", { ttl: 1000, keepTtl: true }), "options")
    }))

  test("a key ends with its life", (client, { name, pass }) =>
    Effect.gen(function*() {
      const key = name()
      yield* client.set(key, "a", { ttl: "40 millis" })
      yield* gives(client.get(key), some("a"))
      yield* pass("80 millis")
      yield* gives(client.get(key), none)
      yield* gives(client.ttl(key), none)
      yield* gives(client.exists(key), 0)
      yield* gives(client.set(key, "b", { onlyIf: "absent" }), true)
    }))

  test("setGet", (client, { name }) =>
    Effect.gen(function*() {
      const key = name()
      yield* gives(client.setGet(key, "a"), none)
      yield* gives(client.setGet(key, "b", { ttl: "1 hour" }), some("a"))
      assert.isTrue(Duration.isFinite(Option.getOrThrow(yield* client.ttl(key))))
      yield* gives(client.setGet(key, "c", { onlyIf: "absent" }), some("b"))
      yield* gives(client.get(key), some("b"))
      yield* gives(client.setGet(name(), "d", { onlyIf: "present" }), none)
    }))

  test("getDel and getEx", (client, { name }) =>
    Effect.gen(function*() {
      const key = name()
      yield* gives(client.getDel(key), none)
      yield* gives(client.getEx(key, { ttl: "1 hour" }), none)
      yield* client.set(key, "a")
      yield* gives(client.getEx(key, { ttl: "1 hour" }), some("a"))
      assert.isTrue(Duration.isFinite(Option.getOrThrow(yield* client.ttl(key))))
      yield* gives(client.getEx(key, { persist: true }), some("a"))
      yield* gives(client.ttl(key), some(Duration.infinity))
      const now = yield* client.time
      yield* gives(
        client.getEx(key, { expireAt: DateTime.unsafeMake(Number(now / 1000n) + 60_000) }),
        some("a")
      )
      assert.isTrue(Duration.isFinite(Option.getOrThrow(yield* client.ttl(key))))
      yield* gives(client.getDel(key), some("a"))
      yield* gives(client.get(key), none)
      yield* refused(client.getEx(key, { ttl: 0 }), "ttl")
    }))

  test("many strings at once", (client, { apart, name }) =>
    Effect.gen(function*() {
      const [a, b, c] = [apart(), name(), name()]
      yield* gives(client.mget([]), [])
      yield* client.mset({ [a]: "1", [b]: 2 })
      yield* gives(client.mget([a, c, b, a]), [some("1"), none, some("2"), some("1")])
      yield* gives(client.msetNx([[b, "x"], [c, "y"]]), false)
      yield* gives(client.get(c), none)
      yield* gives(client.msetNx(new Map([[c, "y"]])), true)
      yield* gives(client.get(c), some("y"))
      const list = name()
      yield* client.rpush(list, "x")
      yield* gives(client.mget([list]), [none])
      yield* refused(client.mset({}), "entries")
      yield* refused(client.msetNx([]), "entries")
      yield* refused(client.mset({ "": "x" }), "key")
      yield* refused(client.mget([a, ""]), "keys")
    }))

  test("numbers in strings", (client, { name }) =>
    Effect.gen(function*() {
      const key = name()
      yield* gives(client.incr(key), 1)
      yield* gives(client.incrBy(key, 9), 10)
      yield* gives(client.decr(key), 9)
      yield* gives(client.decrBy(key, 19), -10)
      yield* gives(client.incrByFloat(key, 0.5), -9.5)
      yield* rejected(client.incr(key), "ERR")
      yield* client.set(key, "9007199254740991")
      assert.strictEqual((yield* failure(client.incr(key)))._tag, "RedisDecodeError")
      yield* gives(client.get(key), some("9007199254740992"))
      yield* refused(client.incrBy(key, 1.5), "increment")
      yield* refused(client.decrBy(key, NaN), "decrement")
      yield* refused(client.incrByFloat(key, Infinity), "increment")
    }))

  test("parts of strings", (client, { name }) =>
    Effect.gen(function*() {
      const key = name()
      yield* gives(client.strlen(key), 0)
      yield* gives(client.append(key, "hello"), 5)
      yield* gives(client.append(key, " world"), 11)
      yield* gives(client.getRange(key, 0, 4), "hello")
      yield* gives(client.getRange(key, -5, -1), "world")
      yield* gives(client.getRange(name(), 0, -1), "")
      yield* gives(client.setRange(key, 6, "there"), 11)
      yield* gives(client.get(key), some("hello there"))
      yield* gives(client.strlen(key), 11)
      yield* gives(client.setRange(name(), 3, "x"), 4)
      yield* refused(client.setRange(key, -1, "x"), "offset")
      yield* refused(client.getRange(key, 0.5, 1), "start")
    }))
}

const keys = (test: Test): void => {
  test("del, unlink, exists and touch", (client, { apart }) =>
    Effect.gen(function*() {
      const [a, b, c] = [apart(), apart(), apart()]
      yield* client.mset({ [a]: 1, [b]: 2 })
      yield* gives(client.exists(a, b, c, a), 3)
      yield* gives(client.touch(a, c), 1)
      yield* gives(client.del(a, c), 1)
      yield* gives(client.unlink(b, b), 1)
      yield* gives(client.exists(a, b), 0)
      yield* gives(client.del(), 0)
      yield* gives(client.unlink(), 0)
      yield* gives(client.exists(), 0)
      yield* gives(client.touch(), 0)
      yield* refused(client.del(a, ""), "keys")
      yield* refused(client.exists(""), "keys")
    }))

  test("expire, persist and ttl", (client, { name }) =>
    Effect.gen(function*() {
      const key = name()
      yield* gives(client.ttl(key), none)
      yield* gives(client.expire(key, "1 minute"), false)
      yield* gives(client.persist(key), false)
      yield* client.set(key, "a")
      yield* gives(client.ttl(key), some(Duration.infinity))
      yield* gives(client.persist(key), false)
      yield* gives(client.expire(key, "1 minute", { onlyIf: "some" }), false)
      yield* gives(client.expire(key, "1 minute", { onlyIf: "none" }), true)
      yield* gives(client.expire(key, "1 minute", { onlyIf: "none" }), false)
      yield* gives(client.expire(key, "1 second", { onlyIf: "greater" }), false)
      yield* gives(client.expire(key, "1 hour", { onlyIf: "greater" }), true)
      yield* gives(client.expire(key, "2 hours", { onlyIf: "less" }), false)
      yield* gives(client.expire(key, "30 minutes", { onlyIf: "less" }), true)
      assert.isTrue(Duration.between(Option.getOrThrow(yield* client.ttl(key)), {
        minimum: "29 minutes",
        maximum: "30 minutes"
      }))
      yield* gives(client.persist(key), true)
      yield* gives(client.ttl(key), some(Duration.infinity))
      for (const bad of [0, -1, NaN, Infinity, "0 seconds"] as const) {
        yield* refused(client.expire(key, bad), "ttl")
      }
      yield* gives(client.exists(key), 1)
    }))

  test("expireAt", (client, { name }) =>
    Effect.gen(function*() {
      const key = name()
      yield* client.set(key, "a")
      const now = Number((yield* client.time) / 1000n)
      yield* gives(client.expireAt(key, new Date(now + 60_000)), true)
      assert.isTrue(Duration.lessThanOrEqualTo(Option.getOrThrow(yield* client.ttl(key)), "1 minute"))
      yield* gives(client.expireAt(key, DateTime.unsafeMake(now + 30_000), { onlyIf: "greater" }), false)
      yield* refused(client.expireAt(key, new Date(NaN)), "at")
      // The first instant of Unix time is one as any other, and it is over.
      yield* gives(client.expireAt(key, new Date(0)), true)
      yield* gives(client.exists(key), 0)
    }))

  test("type", (client, { name }) =>
    Effect.gen(function*() {
      const key = name()
      yield* gives(client.type(key), none)
      yield* client.set(key, "a")
      yield* gives(client.type(key), some("string" as const))
      yield* client.del(key)
      yield* client.rpush(key, "a")
      yield* gives(client.type(key), some("list" as const))
      yield* client.del(key)
      yield* client.sadd(key, "a")
      yield* gives(client.type(key), some("set" as const))
      yield* client.del(key)
      yield* client.zadd(key, { a: 1 })
      yield* gives(client.type(key), some("zset" as const))
      yield* client.del(key)
      yield* client.hset(key, { a: 1 })
      yield* gives(client.type(key), some("hash" as const))
    }))

  test("rename and copy", (client, { name }) =>
    Effect.gen(function*() {
      const [a, b, c] = [name(), name(), name()]
      yield* rejected(client.rename(a, b), "ERR")
      yield* client.set(a, "1", { ttl: "1 hour" })
      yield* client.set(c, "3")
      yield* client.rename(a, b)
      yield* gives(client.mget([a, b]), [none, some("1")])
      assert.isTrue(Duration.isFinite(Option.getOrThrow(yield* client.ttl(b))))
      yield* gives(client.renameNx(b, c), false)
      yield* gives(client.renameNx(b, a), true)
      yield* gives(client.copy(a, c), false)
      yield* gives(client.copy(a, c, { replace: true }), true)
      yield* gives(client.get(c), some("1"))
      assert.isTrue(Duration.isFinite(Option.getOrThrow(yield* client.ttl(c))))
      yield* gives(client.copy(name(), b), false)
      yield* refused(client.rename(a, ""), "newKey")
      yield* refused(client.copy("", a), "source")
    }))
}

const hashes = (test: Test): void => {
  test("hash fields", (client, { name }) =>
    Effect.gen(function*() {
      const key = name()
      yield* gives(client.hgetAll(key), {})
      yield* gives(client.hget(key, "a"), none)
      yield* gives(client.hset(key, { a: "1", b: 2, empty: "" }), 3)
      yield* gives(client.hset(key, new Map([["a", "one"], ["c", "3"]])), 1)
      yield* gives(client.hset(key, [["d", Uint8Array.of(104, 105)]]), 1)
      yield* gives(client.hget(key, "a"), some("one"))
      yield* gives(client.hget(key, "empty"), some(""))
      yield* gives(client.hmget(key, ["b", "x", "d"]), [some("2"), none, some("hi")])
      yield* gives(client.hmget(key, []), [])
      yield* gives(client.hmget(name(), ["x"]), [none])
      yield* gives(client.hgetAll(key), { a: "one", b: "2", c: "3", d: "hi", empty: "" })
      yield* gives(client.hlen(key), 5)
      yield* gives(client.hlen(name()), 0)
      yield* givesSorted(client.hkeys(key), ["a", "b", "c", "d", "empty"])
      yield* givesSorted(client.hvals(key), ["one", "2", "3", "hi", ""])
      yield* gives(client.hkeys(name()), [])
      yield* gives(client.hexists(key, "a"), true)
      yield* gives(client.hexists(key, "x"), false)
      yield* gives(client.hstrlen(key, "a"), 3)
      yield* gives(client.hstrlen(key, "x"), 0)
      yield* gives(client.hsetNx(key, "a", "x"), false)
      yield* gives(client.hsetNx(key, "e", "x"), true)
      yield* gives(client.hdel(key, "a", "b", "x"), 2)
      yield* gives(client.hdel(name(), "a"), 0)
      yield* refused(client.hset(key, {}), "fields")
      yield* refused(client.hset(key, []), "fields")
      yield* refused(client.hdel(key), "fields")
      yield* refused(client.hget("", "a"), "key")
      yield* refused(client.hmget("", []), "key")
    }))

  test("a field may be called as a property of every object", (client, { name }) =>
    Effect.gen(function*() {
      const key = name()
      yield* client.hset(key, [["__proto__", "1"], ["constructor", "2"], ["toString", "3"]])
      const all = yield* client.hgetAll(key)
      assert.deepStrictEqual(Object.entries(all).sort(), [["__proto__", "1"], ["constructor", "2"], ["toString", "3"]])
    }))

  test("numbers in hashes", (client, { name }) =>
    Effect.gen(function*() {
      const key = name()
      yield* gives(client.hincrBy(key, "n", 5), 5)
      yield* gives(client.hincrBy(key, "n", -7), -2)
      yield* gives(client.hincrByFloat(key, "n", 0.25), -1.75)
      yield* rejected(client.hincrBy(key, "n", 1), "ERR")
      yield* refused(client.hincrBy(key, "n", 0.5), "increment")
      yield* refused(client.hincrByFloat(key, "n", NaN), "increment")
    }))

  test("hrandField", (client, { name }) =>
    Effect.gen(function*() {
      const key = name()
      yield* gives(client.hrandField(key), none)
      yield* gives(client.hrandFieldCount(key, 3), [])
      yield* client.hset(key, { a: 1, b: 2 })
      assert.include(["a", "b"], Option.getOrThrow(yield* client.hrandField(key)))
      yield* givesSorted(client.hrandFieldCount(key, 5), ["a", "b"])
      assert.lengthOf(yield* client.hrandFieldCount(key, -5), 5)
      yield* refused(client.hrandFieldCount(key, 0), "count")
    }))

  test("hscan", (client, { name }) =>
    Effect.gen(function*() {
      const key = name()
      yield* gives(collect(client.hscan(key)), [])
      const fields = Array.from({ length: 700 }, (_, i) => [`field ${i}`, `value ${i}`] as const)
      yield* client.hset(key, fields)
      assert.deepStrictEqual(new Map(yield* collect(client.hscan(key, { count: 50 }))), new Map(fields))
      assert.deepStrictEqual(
        new Map(yield* collect(client.hscan(key, { match: "field 69?" }))),
        new Map(fields.slice(690))
      )
      yield* refused(Stream.runDrain(client.hscan(key, { count: 0 })), "count")
      yield* refused(Stream.runDrain(client.hscan("")), "key")
    }))
}

const lists = (test: Test): void => {
  test("pushing and popping", (client, { name }) =>
    Effect.gen(function*() {
      const key = name()
      yield* gives(client.lpop(key), none)
      yield* gives(client.rpop(key), none)
      yield* gives(client.lpopCount(key, 2), [])
      yield* gives(client.rpopCount(key, 2), [])
      yield* gives(client.llen(key), 0)
      yield* gives(client.lpushX(key, "x"), 0)
      yield* gives(client.rpushX(key, "x"), 0)
      yield* gives(client.rpush(key, "c", "d"), 2)
      yield* gives(client.lpush(key, "b", "a"), 4)
      yield* gives(client.lpushX(key, "0"), 5)
      yield* gives(client.rpushX(key, 9), 6)
      yield* gives(client.lrange(key, 0, -1), ["0", "a", "b", "c", "d", "9"])
      yield* gives(client.lrange(key, 1, 2), ["a", "b"])
      yield* gives(client.lrange(name(), 0, -1), [])
      yield* gives(client.llen(key), 6)
      yield* gives(client.lpop(key), some("0"))
      yield* gives(client.rpop(key), some("9"))
      yield* gives(client.lpopCount(key, 2), ["a", "b"])
      yield* gives(client.rpopCount(key, 9), ["d", "c"])
      yield* gives(client.exists(key), 0)
      yield* refused(client.lpush(key), "values")
      yield* refused(client.rpush(key), "values")
      yield* refused(client.lpushX(key), "values")
      yield* refused(client.rpushX(key), "values")
      yield* refused(client.lpopCount(key, 0), "count")
      yield* refused(client.rpopCount(key, 1.5), "count")
      yield* refused(client.lrange(key, NaN, 1), "start")
    }))

  test("inside a list", (client, { name }) =>
    Effect.gen(function*() {
      const key = name()
      yield* gives(client.lindex(key, 0), none)
      yield* rejected(client.lset(key, 0, "x"), "ERR")
      yield* gives(client.linsert(key, "before", "a", "x"), none)
      yield* client.rpush(key, "a", "b", "a", "c", "a")
      yield* gives(client.lindex(key, -1), some("a"))
      yield* gives(client.lindex(key, 5), none)
      yield* client.lset(key, 1, "B")
      yield* rejected(client.lset(key, 9, "x"), "ERR")
      yield* gives(client.linsert(key, "after", "B", "x"), some(6))
      yield* gives(client.linsert(key, "before", "B", "w"), some(7))
      yield* gives(client.linsert(key, "before", "nowhere", "w"), none)
      yield* gives(client.lrange(key, 0, -1), ["a", "w", "B", "x", "a", "c", "a"])
      yield* gives(client.lpos(key, "a"), some(0))
      yield* gives(client.lpos(key, "a", { rank: 2 }), some(4))
      yield* gives(client.lpos(key, "a", { rank: -1 }), some(6))
      yield* gives(client.lpos(key, "c", { maxLength: 3 }), none)
      yield* gives(client.lpos(key, "nowhere"), none)
      yield* gives(client.lposCount(key, "a", 0), [0, 4, 6])
      yield* gives(client.lposCount(key, "a", 2, { rank: -1 }), [6, 4])
      yield* gives(client.lposCount(name(), "a", 0), [])
      yield* gives(client.lrem(key, 1, "a"), 1)
      yield* gives(client.lrem(key, -1, "a"), 1)
      yield* gives(client.lrange(key, 0, -1), ["w", "B", "x", "a", "c"])
      yield* gives(client.lrem(key, 0, "nowhere"), 0)
      yield* client.ltrim(key, 1, -2)
      yield* gives(client.lrange(key, 0, -1), ["B", "x", "a"])
      yield* client.ltrim(key, 5, 9)
      yield* gives(client.exists(key), 0)
      yield* refused(client.lpos(key, "a", { rank: 0 }), "rank")
      yield* refused(client.lpos(key, "a", { maxLength: 0 }), "maxLength")
      yield* refused(client.lposCount(key, "a", -1), "count")
      yield* refused(client.lindex(key, 0.5), "index")
    }))

  test("lmove", (client, { name }) =>
    Effect.gen(function*() {
      const [a, b] = [name(), name()]
      yield* gives(client.lmove(a, b, { from: "left", to: "right" }), none)
      yield* client.rpush(a, "1", "2", "3")
      yield* gives(client.lmove(a, b, { from: "left", to: "right" }), some("1"))
      yield* gives(client.lmove(a, b, { from: "right", to: "left" }), some("3"))
      yield* gives(client.lrange(b, 0, -1), ["3", "1"])
      yield* gives(client.lmove(b, b, { from: "left", to: "right" }), some("3"))
      yield* gives(client.lrange(b, 0, -1), ["1", "3"])
      yield* refused(client.lmove("", b, { from: "left", to: "right" }), "source")
      yield* refused(client.lmove(a, "", { from: "left", to: "right" }), "destination")
    }))
}

const sets = (test: Test): void => {
  test("members of a set", (client, { name }) =>
    Effect.gen(function*() {
      const [a, b] = [name(), name()]
      yield* gives(client.smembers(a), [])
      yield* gives(client.spop(a), none)
      yield* gives(client.spopCount(a, 2), [])
      yield* gives(client.srandMember(a), none)
      yield* gives(client.srandMemberCount(a, 2), [])
      yield* gives(client.sadd(a, "x", "y", "x", 3), 3)
      yield* givesSorted(client.smembers(a), ["3", "x", "y"])
      yield* gives(client.scard(a), 3)
      yield* gives(client.sismember(a, "x"), true)
      yield* gives(client.sismember(a, "z"), false)
      yield* gives(client.smismember(a, ["z", "y", 3]), [false, true, true])
      yield* gives(client.smismember(a, []), [])
      assert.include(["x", "y", "3"], Option.getOrThrow(yield* client.srandMember(a)))
      yield* givesSorted(client.srandMemberCount(a, 9), ["3", "x", "y"])
      assert.lengthOf(yield* client.srandMemberCount(a, -9), 9)
      yield* gives(client.scard(a), 3)
      yield* gives(client.smove(a, b, "x"), true)
      yield* gives(client.smove(a, b, "x"), false)
      yield* gives(client.smembers(b), ["x"])
      yield* gives(client.srem(a, "y", "z"), 1)
      yield* gives(client.spop(a), some("3"))
      yield* gives(client.exists(a), 0)
      yield* client.sadd(a, "1", "2", "3")
      assert.lengthOf(yield* client.spopCount(a, 2), 2)
      yield* gives(client.scard(a), 1)
      yield* refused(client.sadd(a), "members")
      yield* refused(client.srem(a), "members")
      yield* refused(client.spopCount(a, 0), "count")
      yield* refused(client.srandMemberCount(a, 0), "count")
      yield* refused(client.smismember("", []), "key")
    }))

  test("several sets", (client, { name }) =>
    Effect.gen(function*() {
      const [a, b, c, to] = [name(), name(), name(), name()]
      yield* client.sadd(a, "1", "2", "3")
      yield* client.sadd(b, "2", "3", "4")
      yield* givesSorted(client.sunion([a, b, c]), ["1", "2", "3", "4"])
      yield* givesSorted(client.sinter([a, b]), ["2", "3"])
      yield* givesSorted(client.sinter([a, c]), [])
      yield* givesSorted(client.sdiff([a, b]), ["1"])
      yield* gives(client.sunionStore(to, [a, b]), 4)
      yield* gives(client.sinterStore(to, [a, b]), 2)
      yield* givesSorted(client.smembers(to), ["2", "3"])
      yield* gives(client.sdiffStore(to, [a, b]), 1)
      yield* gives(client.smembers(to), ["1"])
      yield* gives(client.sinterStore(to, [a, c]), 0)
      yield* gives(client.exists(to), 0)
      yield* gives(client.sinterCard([a, b]), 2)
      yield* gives(client.sinterCard([a, b], { limit: 1 }), 1)
      yield* refused(client.sunion([]), "keys")
      yield* refused(client.sinter([]), "keys")
      yield* refused(client.sdiff([a, ""]), "keys")
      yield* refused(client.sunionStore("", [a]), "destination")
      yield* refused(client.sinterStore(to, []), "keys")
      yield* refused(client.sinterCard([a], { limit: 0 }), "limit")
    }))

  test("sscan", (client, { name }) =>
    Effect.gen(function*() {
      const key = name()
      const members = Array.from({ length: 700 }, (_, i) => `member ${i}`)
      yield* client.sadd(key, ...members)
      assert.deepStrictEqual(new Set(yield* collect(client.sscan(key, { count: 50 }))), new Set(members))
      assert.deepStrictEqual(
        new Set(yield* collect(client.sscan(key, { match: "*r 69[0-4]" }))),
        new Set(members.slice(690, 695))
      )
      yield* gives(collect(client.sscan(name())), [])
    }))
}

const sortedSets = (test: Test): void => {
  test("zadd", (client, { name }) =>
    Effect.gen(function*() {
      const key = name()
      yield* gives(client.zadd(key, { a: 1, b: 2.5 }), 2)
      yield* gives(client.zadd(key, new Map([["a", 3], ["c", -Infinity]])), 1)
      yield* gives(client.zadd(key, [["d", Infinity], [Uint8Array.of(101), 0.1]]), 2)
      yield* gives(client.zrangeWithScores(key), [["c", -Infinity], ["e", 0.1], ["b", 2.5], ["a", 3], ["d", Infinity]])
      yield* gives(client.zadd(key, { a: 9, x: 1 }, { onlyIf: "absent" }), 1)
      yield* gives(client.zadd(key, { a: 4, y: 1 }, { onlyIf: "present", changed: true }), 1)
      yield* gives(client.zscore(key, "y"), none)
      yield* gives(client.zadd(key, { a: 3, b: 5 }, { onlyIf: "greater", changed: true }), 1)
      yield* gives(client.zadd(key, { a: 3, b: 6 }, { onlyIf: "less", changed: true }), 1)
      yield* gives(client.zmscore(key, ["a", "b", "y"]), [some(3), some(5), none])
      yield* refused(client.zadd(key, {}), "entries")
      yield* refused(client.zadd(key, { a: NaN }), "score")
      yield* refused(client.zadd("", { a: 1 }), "key")
    }))

  test("one member of a sorted set", (client, { name }) =>
    Effect.gen(function*() {
      const key = name()
      yield* gives(client.zscore(key, "a"), none)
      yield* gives(client.zrank(key, "a"), none)
      yield* gives(client.zrevRank(key, "a"), none)
      yield* gives(client.zincrBy(key, 1.5, "a"), 1.5)
      yield* gives(client.zincrBy(key, -2, "a"), -0.5)
      yield* client.zadd(key, { b: 1, c: 2 })
      yield* gives(client.zrank(key, "a"), some(0))
      yield* gives(client.zrevRank(key, "a"), some(2))
      yield* gives(client.zcard(key), 3)
      yield* gives(client.zmscore(key, []), [])
      yield* gives(client.zrem(key, "a", "x"), 1)
      const exact = 1_700_000_000_123_456
      yield* client.zadd(key, { exact, tenth: 0.1, third: 1 / 3 })
      yield* gives(client.zmscore(key, ["exact", "tenth", "third"]), [some(exact), some(0.1), some(1 / 3)])
      yield* refused(client.zincrBy(key, NaN, "a"), "increment")
      yield* refused(client.zrem(key), "members")
      yield* client.zadd(key, { inf: Infinity })
      yield* rejected(client.zincrBy(key, -Infinity, "inf"), "ERR")
    }))

  test("ranges of a sorted set", (client, { name }) =>
    Effect.gen(function*() {
      const key = name()
      yield* gives(client.zrange(key), [])
      yield* client.zadd(key, { a: 1, b: 2, c: 3, d: 4 })
      yield* gives(client.zrange(key), ["a", "b", "c", "d"])
      yield* gives(client.zrange(key, { start: 1, stop: 2 }), ["b", "c"])
      yield* gives(client.zrange(key, { by: "index", stop: 1, rev: true }), ["d", "c"])
      yield* gives(client.zrange(key, { by: "score", min: 2, max: { exclusive: 4 } }), ["b", "c"])
      yield* gives(client.zrange(key, { by: "score", min: 2, rev: true }), ["d", "c", "b"])
      yield* gives(client.zrange(key, { by: "score", limit: { offset: 1, count: 2 } }), ["b", "c"])
      yield* gives(client.zrange(key, { by: "score", limit: { offset: 3 } }), ["d"])
      yield* gives(client.zrangeWithScores(key, { by: "score", max: 2, rev: true }), [["b", 2], ["a", 1]])
      yield* gives(client.zrangeWithScores(key, { start: -1 }), [["d", 4]])
      yield* gives(client.zcount(key), 4)
      yield* gives(client.zcount(key, { min: { exclusive: 1 }, max: 3 }), 2)
      yield* gives(client.zremRangeByScore(key, { min: 4, max: Infinity }), 1)
      yield* gives(client.zremRangeByRank(key, 0, 0), 1)
      yield* gives(client.zrange(key), ["b", "c"])
      yield* refused(client.zrange(key, { start: 0.5 }), "start")
      yield* refused(client.zrange(key, { by: "score", min: NaN }), "min")
      yield* refused(client.zrange(key, { by: "score", max: { exclusive: NaN } }), "max")
      yield* refused(client.zrange(key, { by: "score", limit: { offset: -1 } }), "limit.offset")
      yield* refused(client.zrange(key, { by: "lex", limit: { count: 0.5 } }), "limit.count")
      yield* refused(client.zcount(key, { min: NaN }), "min")
      yield* refused(client.zremRangeByScore(key, { min: 0, max: NaN }), "max")
      yield* refused(client.zremRangeByRank(key, 0, NaN), "stop")
    }))

  test("ranges of members with one score", (client, { name }) =>
    Effect.gen(function*() {
      const key = name()
      yield* client.zadd(key, { b: 0, a: 0, d: 0, c: 0, "": 0 })
      yield* gives(client.zrange(key, { by: "lex" }), ["", "a", "b", "c", "d"])
      yield* gives(client.zrange(key, { by: "lex", min: "b", max: { exclusive: "d" } }), ["b", "c"])
      yield* gives(client.zrange(key, { by: "lex", max: "b", rev: true }), ["b", "a", ""])
      yield* gives(client.zrange(key, { by: "lex", min: "a", limit: { count: 2 } }), ["a", "b"])
      yield* gives(client.zlexCount(key), 5)
      yield* gives(client.zlexCount(key, { min: { exclusive: "a" }, max: "c" }), 2)
      yield* gives(client.zremRangeByLex(key, { min: "c" }), 2)
      yield* gives(client.zrange(key), ["", "a", "b"])
    }))

  test("zrangeStore", (client, { name }) =>
    Effect.gen(function*() {
      const [from, to] = [name(), name()]
      yield* client.zadd(from, { a: 1, b: 2, c: 3 })
      yield* gives(client.zrangeStore(to, from, { by: "score", min: 2 }), 2)
      yield* gives(client.zrangeWithScores(to), [["b", 2], ["c", 3]])
      yield* gives(client.zrangeStore(to, from, { start: 0, stop: 0, rev: true }), 1)
      yield* gives(client.zrange(to), ["c"])
      yield* gives(client.zrangeStore(to, from, { start: 5 }), 0)
      yield* gives(client.exists(to), 0)
      yield* refused(client.zrangeStore("", from, {}), "destination")
    }))

  test("popping from a sorted set", (client, { name }) =>
    Effect.gen(function*() {
      const key = name()
      yield* gives(client.zpopMin(key), none)
      yield* gives(client.zpopMaxCount(key, 2), [])
      yield* client.zadd(key, { a: 1, b: 2, c: 3, d: 4, e: 5.5 })
      yield* gives(client.zpopMin(key), some(["a", 1] as const))
      yield* gives(client.zpopMax(key), some(["e", 5.5] as const))
      yield* gives(client.zpopMaxCount(key, 2), [["d", 4], ["c", 3]])
      yield* gives(client.zpopMinCount(key, 9), [["b", 2]])
      yield* refused(client.zpopMinCount(key, 0), "count")
    }))

  test("several sorted sets", (client, { name }) =>
    Effect.gen(function*() {
      const [a, b, c, to] = [name(), name(), name(), name()]
      yield* client.zadd(a, { x: 1, y: 2 })
      yield* client.zadd(b, { y: 3, z: 4 })
      yield* gives(client.zunion([a, b]), ["x", "z", "y"])
      yield* gives(client.zunionWithScores([a, b], { weights: [10, 1], aggregate: "max" }), [
        ["z", 4],
        ["x", 10],
        ["y", 20]
      ])
      yield* gives(client.zunionStore(to, [a, b, c], { aggregate: "min" }), 3)
      yield* gives(client.zrangeWithScores(to), [["x", 1], ["y", 2], ["z", 4]])
      yield* gives(client.zinter([a, b]), ["y"])
      yield* gives(client.zinterWithScores([a, b], { aggregate: "sum" }), [["y", 5]])
      yield* gives(client.zinterStore(to, [a, b], { weights: [-1, 1] }), 1)
      yield* gives(client.zrangeWithScores(to), [["y", 1]])
      yield* gives(client.zdiff([a, b]), ["x"])
      yield* gives(client.zdiffWithScores([b, a]), [["z", 4]])
      yield* gives(client.zdiffStore(to, [a, b]), 1)
      yield* gives(client.zrange(to), ["x"])
      yield* gives(client.zinterStore(to, [a, c]), 0)
      yield* gives(client.exists(to), 0)
      yield* gives(client.zinterCard([a, b]), 1)
      yield* gives(client.zinterCard([a, a], { limit: 1 }), 1)
      yield* refused(client.zunion([]), "keys")
      yield* refused(client.zunion([a, b], { weights: [1] }), "weights")
      yield* refused(client.zinter([a], { weights: [NaN] }), "weights")
      yield* refused(client.zdiffStore("", [a]), "destination")
      yield* refused(client.zinterCard([a], { limit: 0 }), "limit")
    }))

  test("zrandMember", (client, { name }) =>
    Effect.gen(function*() {
      const key = name()
      yield* gives(client.zrandMember(key), none)
      yield* gives(client.zrandMemberCount(key, 2), [])
      yield* client.zadd(key, { a: 1, b: 2 })
      assert.include(["a", "b"], Option.getOrThrow(yield* client.zrandMember(key)))
      yield* givesSorted(client.zrandMemberCount(key, 5), ["a", "b"])
      assert.lengthOf(yield* client.zrandMemberCount(key, -5), 5)
      yield* refused(client.zrandMemberCount(key, 0), "count")
    }))

  test("zscan", (client, { name }) =>
    Effect.gen(function*() {
      const key = name()
      const entries = Array.from({ length: 700 }, (_, i) => [`member ${i}`, i / 8] as const)
      yield* client.zadd(key, entries)
      assert.deepStrictEqual(new Map(yield* collect(client.zscan(key, { count: 50 }))), new Map(entries))
      assert.deepStrictEqual(
        new Map(yield* collect(client.zscan(key, { match: "member 42" }))),
        new Map([["member 42", 42 / 8]])
      )
    }))
}

const server = (test: Test): void => {
  test("ping, time and dbSize", (client, { name }) =>
    Effect.gen(function*() {
      yield* client.ping
      const before = yield* client.time
      const after = yield* client.time
      assert.isTrue(after >= before)
      const reply = yield* client.send("TIME")
      assert.isTrue(Array.isArray(reply) && Number(reply[0]) >= Number(before / 1_000_000n))
      yield* client.set(name(), "x")
      assert.isAbove(yield* client.dbSize, 0)
    }))

  test("scripts of the server", (client) =>
    Effect.gen(function*() {
      const lua = `return "a script of this test alone"`
      // Other suites make the same server forget its scripts.
      yield* eventually(Effect.gen(function*() {
        const sha = yield* client.scriptLoad(lua)
        assert.match(sha, /^[0-9a-f]{40}$/)
        const [known, unknown] = yield* client.scriptExists([sha, "0".repeat(40)])
        assert.isFalse(unknown)
        return known === true && (yield* Effect.option(client.send("EVALSHA", sha, 0)))._tag === "Some"
      }))
      yield* gives(client.scriptExists([]), [])
      yield* rejected(client.scriptLoad("return ("), "ERR")
    }))
}

/** What a command makes of a key that holds something else. */
const wrongTypes = (test: Test): void => {
  type On = (client: Service, key: string) => Effect.Effect<unknown, RedisError>
  const onString: Record<string, On> = {
    hset: (client, key) => client.hset(key, { a: 1 }),
    hsetNx: (client, key) => client.hsetNx(key, "a", 1),
    hget: (client, key) => client.hget(key, "a"),
    hmget: (client, key) => client.hmget(key, ["a"]),
    hgetAll: (client, key) => client.hgetAll(key),
    hdel: (client, key) => client.hdel(key, "a"),
    hexists: (client, key) => client.hexists(key, "a"),
    hkeys: (client, key) => client.hkeys(key),
    hvals: (client, key) => client.hvals(key),
    hlen: (client, key) => client.hlen(key),
    hstrlen: (client, key) => client.hstrlen(key, "a"),
    hincrBy: (client, key) => client.hincrBy(key, "a", 1),
    hincrByFloat: (client, key) => client.hincrByFloat(key, "a", 1),
    hrandField: (client, key) => client.hrandField(key),
    hrandFieldCount: (client, key) => client.hrandFieldCount(key, 1),
    hscan: (client, key) => Stream.runDrain(client.hscan(key)),
    lpush: (client, key) => client.lpush(key, "a"),
    rpush: (client, key) => client.rpush(key, "a"),
    lpushX: (client, key) => client.lpushX(key, "a"),
    rpushX: (client, key) => client.rpushX(key, "a"),
    lpop: (client, key) => client.lpop(key),
    lpopCount: (client, key) => client.lpopCount(key, 1),
    rpop: (client, key) => client.rpop(key),
    rpopCount: (client, key) => client.rpopCount(key, 1),
    llen: (client, key) => client.llen(key),
    lrange: (client, key) => client.lrange(key, 0, 1),
    lindex: (client, key) => client.lindex(key, 0),
    lset: (client, key) => client.lset(key, 0, "a"),
    linsert: (client, key) => client.linsert(key, "before", "a", "b"),
    lrem: (client, key) => client.lrem(key, 0, "a"),
    ltrim: (client, key) => client.ltrim(key, 0, 1),
    lmove: (client, key) => client.lmove(key, key, { from: "left", to: "left" }),
    lpos: (client, key) => client.lpos(key, "a"),
    lposCount: (client, key) => client.lposCount(key, "a", 1),
    sadd: (client, key) => client.sadd(key, "a"),
    srem: (client, key) => client.srem(key, "a"),
    smembers: (client, key) => client.smembers(key),
    sismember: (client, key) => client.sismember(key, "a"),
    smismember: (client, key) => client.smismember(key, ["a"]),
    scard: (client, key) => client.scard(key),
    spop: (client, key) => client.spop(key),
    spopCount: (client, key) => client.spopCount(key, 1),
    srandMember: (client, key) => client.srandMember(key),
    srandMemberCount: (client, key) => client.srandMemberCount(key, 1),
    smove: (client, key) => client.smove(key, key, "a"),
    sunion: (client, key) => client.sunion([key]),
    sinter: (client, key) => client.sinter([key]),
    sdiff: (client, key) => client.sdiff([key]),
    sunionStore: (client, key) => client.sunionStore(key, [key]),
    sinterStore: (client, key) => client.sinterStore(key, [key]),
    sdiffStore: (client, key) => client.sdiffStore(key, [key]),
    sinterCard: (client, key) => client.sinterCard([key]),
    sscan: (client, key) => Stream.runDrain(client.sscan(key)),
    zadd: (client, key) => client.zadd(key, { a: 1 }),
    zincrBy: (client, key) => client.zincrBy(key, 1, "a"),
    zrem: (client, key) => client.zrem(key, "a"),
    zscore: (client, key) => client.zscore(key, "a"),
    zmscore: (client, key) => client.zmscore(key, ["a"]),
    zrank: (client, key) => client.zrank(key, "a"),
    zrevRank: (client, key) => client.zrevRank(key, "a"),
    zcard: (client, key) => client.zcard(key),
    zcount: (client, key) => client.zcount(key),
    zlexCount: (client, key) => client.zlexCount(key),
    zrange: (client, key) => client.zrange(key),
    zrangeWithScores: (client, key) => client.zrangeWithScores(key),
    zrangeStore: (client, key) => client.zrangeStore(key, key, {}),
    zpopMin: (client, key) => client.zpopMin(key),
    zpopMinCount: (client, key) => client.zpopMinCount(key, 1),
    zpopMax: (client, key) => client.zpopMax(key),
    zpopMaxCount: (client, key) => client.zpopMaxCount(key, 1),
    zremRangeByRank: (client, key) => client.zremRangeByRank(key, 0, 1),
    zremRangeByScore: (client, key) => client.zremRangeByScore(key, { min: 0, max: 1 }),
    zremRangeByLex: (client, key) => client.zremRangeByLex(key, { min: "a" }),
    zunion: (client, key) => client.zunion([key]),
    zunionWithScores: (client, key) => client.zunionWithScores([key]),
    zunionStore: (client, key) => client.zunionStore(key, [key]),
    zinter: (client, key) => client.zinter([key]),
    zinterWithScores: (client, key) => client.zinterWithScores([key]),
    zinterStore: (client, key) => client.zinterStore(key, [key]),
    zdiff: (client, key) => client.zdiff([key]),
    zdiffWithScores: (client, key) => client.zdiffWithScores([key]),
    zdiffStore: (client, key) => client.zdiffStore(key, [key]),
    zinterCard: (client, key) => client.zinterCard([key]),
    zrandMember: (client, key) => client.zrandMember(key),
    zrandMemberCount: (client, key) => client.zrandMemberCount(key, 1),
    zscan: (client, key) => Stream.runDrain(client.zscan(key))
  }
  const onList: Record<string, On> = {
    get: (client, key) => client.get(key),
    getBytes: (client, key) => client.getBytes(key),
    setGet: (client, key) => client.setGet(key, "a"),
    getDel: (client, key) => client.getDel(key),
    getEx: (client, key) => client.getEx(key, { persist: true }),
    incr: (client, key) => client.incr(key),
    incrBy: (client, key) => client.incrBy(key, 1),
    incrByFloat: (client, key) => client.incrByFloat(key, 1),
    decr: (client, key) => client.decr(key),
    decrBy: (client, key) => client.decrBy(key, 1),
    append: (client, key) => client.append(key, "a"),
    strlen: (client, key) => client.strlen(key),
    getRange: (client, key) => client.getRange(key, 0, 1),
    setRange: (client, key) => client.setRange(key, 0, "a")
  }
  test("a key of another type is an error of the server", (client, { name }) =>
    Effect.gen(function*() {
      const [string, list] = [name(), name()]
      yield* client.set(string, "untouched")
      yield* client.rpush(list, "untouched")
      for (const [cases, key] of [[onString, string], [onList, list]] as const) {
        for (const [command, run] of Object.entries(cases)) {
          const error = yield* rejected(run(client, key), "WRONGTYPE")
          assert.match(error.reply, /^WRONGTYPE Operation against a key holding the wrong kind of value/, command)
        }
      }
      yield* gives(client.get(string), some("untouched"))
      yield* gives(client.lrange(list, 0, -1), ["untouched"])
    }))
}
