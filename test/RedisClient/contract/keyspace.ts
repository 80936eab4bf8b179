/**
 * The key prefix, scanning and removing by pattern.
 */
import { assert } from "@effect/vitest"
import { Chunk, Effect, Stream } from "effect"
import type { ScanOptions, Service } from "../../../src/RedisClient.js"
import { gives, givesSorted, none, refused, some, type Test } from "./tools.js"

/** A key can come more than once. */
const scanned = (client: Service, options?: ScanOptions) =>
  Effect.map(Stream.runCollect(client.scan(options)), (keys) => Array.from(new Set(Chunk.toReadonlyArray(keys))))

const setAll = (client: Service, names: ReadonlyArray<string>) =>
  client.pipeline(names.map((name) => ["SET", client.key(name), "x"] as const))

export const keyspace = (test: Test): void => {
  test("typed commands use the prefix, send does not", (_, { name, other }) =>
    Effect.gen(function*() {
      const prefix = `${name("prefix")}:`
      const client = yield* other(prefix)
      assert.include(client.key("a"), prefix)
      assert.isTrue(client.key("a").endsWith(`${prefix}a`))
      yield* client.set("a", "1")
      yield* gives(client.send("GET", client.key("a")), "1")
      yield* gives(client.send("GET", `${prefix}not here`), null)
      yield* client.mset({ b: "2" })
      yield* client.rename("b", "c")
      yield* gives(client.send("MGET", client.key("b"), client.key("c")), [null, "2"])
      yield* client.sadd("s1", "x")
      yield* client.sunionStore("s2", ["s1"])
      yield* gives(client.send("SMEMBERS", client.key("s2")), ["x"])
      yield* client.zadd("z1", { x: 1 })
      yield* client.zunionStore("z2", ["z1"])
      yield* client.zrangeStore("z3", "z2", {})
      yield* gives(client.send("ZRANGE", client.key("z3"), 0, -1), ["x"])
      yield* client.rpush("l1", "x")
      yield* client.lmove("l1", "l2", { from: "left", to: "left" })
      yield* gives(client.send("LRANGE", client.key("l2"), 0, -1), ["x"])
      yield* client.copy("a", "d")
      yield* gives(client.send("GET", client.key("d")), "1")
      yield* givesSorted(scanned(client), ["a", "c", "d", "l2", "s1", "s2", "z1", "z2", "z3"])
    }))

  test("clients with other prefixes do not see each other", (_, { apart, other }) =>
    Effect.gen(function*() {
      const prefix = apart("shop")
      const a = yield* other(`${prefix}:`)
      // One is the beginning of the other.
      const b = yield* other(`${prefix}:b:`)
      yield* a.set("key", "of a")
      yield* b.set("key", "of b")
      yield* gives(a.get("key"), some("of a"))
      yield* gives(b.get("key"), some("of b"))
      yield* gives(scanned(b), ["key"])
      yield* givesSorted(scanned(a), ["key", "b:key"])
      yield* gives(b.unlinkMatching("*"), 1)
      yield* gives(a.get("key"), some("of a"))
    }))

  test("a prefix may hold the special characters of globs", (_, { apart, other }) =>
    Effect.gen(function*() {
      const prefix = apart("glob")
      const glob = yield* other(`${prefix}*[?\\:`)
      const plain = yield* other(`${prefix}X[a\\:`)
      const near = yield* other(`${prefix}Xa:`)
      for (const client of [glob, plain, near]) yield* setAll(client, ["a", "b[1]"])
      yield* givesSorted(scanned(glob), ["a", "b[1]"])
      yield* gives(scanned(glob, { match: "b*" }), ["b[1]"])
      yield* gives(scanned(glob, { match: "[a]" }), ["a"])
      yield* gives(glob.unlinkMatching("*"), 2)
      yield* gives(scanned(glob), [])
      yield* givesSorted(scanned(plain), ["a", "b[1]"])
      yield* givesSorted(scanned(near), ["a", "b[1]"])
    }))

  test("key and slot", (client, { apart, other }) =>
    Effect.gen(function*() {
      const tag = apart("tag")
      assert.strictEqual(client.slot(`{${tag}}:a`), client.slot(`b:{${tag}}`))
      const plain = yield* other(`{${tag}}:`)
      assert.strictEqual(plain.slot("anything"), plain.slot("else"))
      assert.isTrue(client.slot(tag) >= 0 && client.slot(tag) < 16_384)
      assert.isTrue(client.key(tag).endsWith(tag))
    }))

  test("scan finds ten thousand keys", (_, { apart, other }) =>
    Effect.gen(function*() {
      const client = yield* other(`${apart("many")}:`)
      const names = Array.from({ length: 10_000 }, (_, i) => `key ${i}`)
      for (let i = 0; i < names.length; i += 1000) yield* setAll(client, names.slice(i, i + 1000))
      const found = yield* scanned(client)
      assert.lengthOf(found, names.length)
      assert.deepStrictEqual(new Set(found), new Set(names))
      assert.lengthOf(yield* scanned(client, { match: "key 99??" }), 100)
      assert.lengthOf(yield* scanned(client, { match: "key [0-4]", count: 10 }), 5)
      yield* gives(client.unlinkMatching("key 9*"), 1111)
      yield* gives(client.unlinkMatching("*"), 10_000 - 1111)
      yield* gives(scanned(client), [])
    }))

  test("scan by type", (_, { apart, other }) =>
    Effect.gen(function*() {
      const client = yield* other(`${apart("types")}:`)
      yield* client.set("string", "x")
      yield* client.rpush("list", "x")
      yield* client.sadd("set", "x")
      yield* client.zadd("zset", { x: 1 })
      yield* client.hset("hash", { x: 1 })
      for (const type of ["string", "list", "set", "zset", "hash"] as const) {
        yield* gives(scanned(client, { type }), [type])
      }
      yield* gives(scanned(client, { type: "stream" }), [])
      yield* gives(scanned(client, { type: "set", match: "z*" }), [])
    }))

  test("scan gives names of any characters", (_, { apart, other }) =>
    Effect.gen(function*() {
      const client = yield* other(`${apart("strange")}:`)
      const names = ["日本語 \u{1F600}", "two\r\nlines", " ", "\0", "a*b", "a?b", "a[b", "a\\b", "{tag}", "\"quotes\""]
      yield* setAll(client, names)
      yield* givesSorted(scanned(client), names)
      yield* gives(scanned(client, { match: "a\\*b" }), ["a*b"])
      yield* gives(scanned(client, { match: "a\\\\b" }), ["a\\b"])
      yield* gives(scanned(client, { match: "two*" }), ["two\r\nlines"])
      for (const key of names) yield* gives(client.get(key), some("x"))
    }))

  test("scan refuses a count that is none", (client) =>
    Effect.gen(function*() {
      for (const count of [0, -1, 1.5, NaN]) yield* refused(Stream.runDrain(client.scan({ count })), "count")
    }))

  test("unlinkMatching removes what matches, and nothing else", (_, { apart, other }) =>
    Effect.gen(function*() {
      const prefix = apart("unlink")
      const client = yield* other(`${prefix}:`)
      const outside = yield* other(prefix)
      yield* setAll(client, ["user:1", "user:2", "superuser:1", "session:1"])
      yield* setAll(outside, ["user:1", "x"])
      yield* client.rpush("user:3", "x")
      yield* gives(client.unlinkMatching("user:*"), 3)
      yield* givesSorted(scanned(client), ["session:1", "superuser:1"])
      yield* gives(client.unlinkMatching("nothing*"), 0)
      yield* gives(client.unlinkMatching("*"), 2)
      yield* givesSorted(scanned(outside), ["user:1", "x"])
      yield* refused(client.unlinkMatching(""), "pattern")
      yield* gives(client.get("user:1"), none)
    }))
}
