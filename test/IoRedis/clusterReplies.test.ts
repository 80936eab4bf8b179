/**
 * What a Cluster can answer, from nodes that only pretend to be some.
 */
import { assert, describe, it } from "@effect/vitest"
import { Duration, Effect, Either, Fiber, Option } from "effect"
import { readSlots } from "../../src/ioredis/Cluster.js"
import type { RedisError, RedisReplyError } from "../../src/RedisError.js"
import { array, bulk, fake, type FakeNode, range, two } from "../kit/FakeNode.js"
import { connectTo, counter } from "./failover.js"

const connect = (node: FakeNode, millis = 5000) =>
  connectTo({ clusterNodes: [{ host: node.host, port: node.port }], commandTimeout: millis })

const sent = (node: FakeNode, command: string) => node.seen.filter((seen) => seen.startsWith(command)).length

describe("the map of a Cluster", () => {
  const asked = { host: "seed", port: 1 }

  it("takes addresses in every form", () => {
    const master = (node: ReadonlyArray<unknown>) => readSlots([[0, 16383, node]], asked)?.ranges[0]?.[2]
    assert.deepStrictEqual(master(["10.0.0.1", 7000, "id", []]), { host: "10.0.0.1", port: 7000 })
    assert.deepStrictEqual(master(["node.example", 7000, "id", ["ip", "10.0.0.1"]]), {
      host: "node.example",
      port: 7000
    })
    // What is left out is where the answer came from.
    assert.deepStrictEqual(master(["", 7000, "id", []]), { host: "seed", port: 7000 })
    assert.deepStrictEqual(master([null, 7000, "id", ["hostname", "node.example"]]), { host: "seed", port: 7000 })
    assert.deepStrictEqual(master(["?", 7000, "id", ["hostname", "node.example"]]), {
      host: "node.example",
      port: 7000
    })
    assert.deepStrictEqual(master(["?", 7000, "id", ["ip", "::1"]]), { host: "::1", port: 7000 })
    assert.isUndefined(master(["?", 7000, "id", []]))
    assert.isUndefined(master(["?", 7000, "id", ["hostname", ""]]))
    assert.isUndefined(master(["10.0.0.1", "7000", "id"]))
    const map = readSlots([[0, 1, ["a", 1], ["b", 2], ["", 3]], [3, 4, ["c", 1]]], asked)
    assert.deepStrictEqual(map?.ranges, [[0, 1, { host: "a", port: 1 }], [3, 4, { host: "c", port: 1 }]])
    assert.deepStrictEqual(map?.members, new Set(["a:1", "b:2", "seed:3", "c:1"]))
    for (const bad of [null, "OK", 1, [1], [["0", 1, ["a", 1]]]]) assert.isUndefined(readSlots(bad, asked))
  })

  it.scopedLive("may name nobody, or make no sense", () =>
    Effect.gen(function*() {
      const node = yield* fake
      for (const slots of ["*0\r\n", "+OK\r\n", array([range(0, 16383, "?", 1)])]) {
        node.slots = slots
        const error = yield* Effect.flip(Effect.scoped(connect(node)))
        assert(error._tag === "RedisConnectionError")
        assert.include(error.detail, "has slots")
      }
      node.slots = "-NOPERM this user has no permissions to run the 'cluster|slots' command\r\n"
      const error = yield* Effect.flip(Effect.scoped(connect(node)))
      assert.strictEqual(error._tag, "RedisReplyError")
    }))

  it.scopedLive("may leave its hosts out", () =>
    Effect.gen(function*() {
      const [a, b] = yield* two
      a.slots = array([range(0, 8191, "null", a.port), range(8192, 16383, "", b.port)])
      const client = yield* connect(a)
      const low = Array.from({ length: 50 }, (_, i) => `key:${i}`).find((key) => client.slot(key) < 8192)!
      const high = Array.from({ length: 50 }, (_, i) => `key:${i}`).find((key) => client.slot(key) > 8191)!
      yield* client.mget([low])
        .pipe(Effect.ignore)
      yield* client.send("GET", high)
      assert.strictEqual(sent(a, "MGET"), 1)
      assert.strictEqual(sent(b, "GET"), 1)
      assert.strictEqual(sent(a, "GET"), 0)
    }))
})

describe("a redirection", () => {
  it.scopedLive("is followed, also when its host is left out", () =>
    Effect.gen(function*() {
      const [a, b] = yield* two
      const client = yield* connect(a)
      for (const host of ["127.0.0.1", ""]) {
        a.answer = () => `-MOVED ${client.slot("key")} ${host}:${b.port}\r\n`
        assert.strictEqual(yield* client.send("INCR", "key"), 1)
        assert.strictEqual((yield* client.pipeline([["INCR", "key"], ["INCR", "key"]])).length, 2)
      }
      b.answer = ([name]) => name === "EXEC" ? "*1\r\n:1\r\n" : name === "MULTI" ? "+OK\r\n" : "+QUEUED\r\n"
      assert.strictEqual((yield* client.transaction([["INCR", "key"]])).length, 1)
    }))

  /** Each of them sends everything to the other one; their maps say the same, or one map for both. */
  const quarrel = (a: FakeNode, b: FakeNode, slot: number, maps: boolean) => {
    a.answer = () => `-MOVED ${slot} 127.0.0.1:${b.port}\r\n`
    b.answer = () => `-MOVED ${slot} 127.0.0.1:${a.port}\r\n`
    if (!maps) return
    b.slots = array([range(0, 16383, "127.0.0.1", a.port)])
    a.slots = array([range(0, 16383, "127.0.0.1", b.port)])
  }

  for (const maps of [false, true]) {
    it.scopedLive(`in circles goes on until the deadline${maps ? ", also when the map changes all the time" : ""}`, () =>
      Effect.gen(function*() {
        const [a, b] = yield* two
        const client = yield* connect(a, 1000)
        quarrel(a, b, client.slot("key"), maps)
        const check = (error: RedisError | undefined) => {
          assert(error?._tag === "RedisReplyError")
          assert.strictEqual(error.code, "CLUSTERDOWN")
          assert.include(error.reply, `MOVED ${client.slot("key")}`)
          assert.isTrue(error.isRetryable)
        }
        const [took, single] = yield* Effect.timed(Effect.flip(client.send("INCR", "key")))
        check(single)
        assert.isAbove(Duration.toMillis(took), 700)
        assert.isBelow(sent(a, "INCR") + sent(b, "INCR"), 16)
        const [reply] = yield* client.pipeline([["APPEND", "key", "x"]])
        assert(reply !== undefined && Either.isLeft(reply))
        check(reply.left)
        assert.isBelow(sent(a, "APPEND") + sent(b, "APPEND"), 16)
        check(yield* Effect.flip(client.transaction([["INCR", "key"]])))
        assert.isBelow(sent(a, "MULTI") + sent(b, "MULTI"), 16)
      }))
  }

  it.scopedLive("in circles is followed when the nodes agree in the end", () =>
    Effect.gen(function*() {
      const [a, b] = yield* two
      const client = yield* connect(a, 10_000)
      quarrel(a, b, client.slot("key"), true)
      const answers = yield* Effect.fork(Effect.all([
        client.send("INCR", "key"),
        client.pipeline([["INCR", "key"]])
      ], { concurrency: "unbounded" }))
      yield* Effect.repeat(Effect.sleep(20), { until: () => sent(a, "INCR") + sent(b, "INCR") > 34 })
      b.answer = () => ":1\r\n"
      const [single, [piped]] = yield* Fiber.join(answers)
      assert.strictEqual(single, 1)
      assert.deepStrictEqual(piped, Either.right(1))
    }))

  it.scopedLive("that asks is one write with its command, and changes no map", () =>
    Effect.gen(function*() {
      const [a, b] = yield* two
      const client = yield* connect(a)
      a.answer = ([name]) =>
        name === "MULTI" ? "+OK\r\n" : name === "EXEC" ?
          "-EXECABORT Transaction discarded\r\n"
          : `-ASK ${client.slot("key")} 127.0.0.1:${b.port}\r\n`
      for (let i = 0; i < 3; i++) assert.strictEqual(yield* client.send("INCR", "key"), 1)
      assert.deepStrictEqual(b.seen, Array.from({ length: 3 }, () => ["ASKING", "INCR key", "|"]).flat())
      assert.strictEqual(sent(a, "INCR"), 3)
      b.seen.length = 0
      yield* client.pipeline([["GET", "key"], ["DEL", "key"]])
      assert.deepStrictEqual(b.seen, ["ASKING", "GET key", "ASKING", "DEL key", "|"])
      b.seen.length = 0
      b.answer = ([name]) => name === "EXEC" ? "*1\r\n:7\r\n" : name === "MULTI" ? "+OK\r\n" : "+QUEUED\r\n"
      assert.deepStrictEqual((yield* client.transaction([["INCR", "key"]])).map(Either.getOrNull), [7])
      assert.deepStrictEqual(b.seen, ["ASKING", "MULTI", "INCR key", "EXEC", "|"])
    }))
})

describe("an answer that says that nothing was executed", () => {
  const answers = [
    "TRYAGAIN Multiple keys request during rehashing of slot",
    "CLUSTERDOWN The cluster is down",
    "CLUSTERDOWN Hash slot not served",
    "LOADING Redis is loading the dataset in memory",
    "MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.",
    "READONLY You can't write against a read only replica."
  ]
  for (const text of answers) {
    it.scopedLive(`(${text.split(" ")[0]}) lets the command wait, until its deadline at most`, () =>
      Effect.gen(function*() {
        const node = yield* fake
        const client = yield* connect(node, 1000)
        let times = 3
        node.answer = () => times-- > 0 ? `-${text}\r\n` : ":1\r\n"
        assert.strictEqual(yield* client.send("INCR", "key"), 1)
        times = 3
        assert.deepStrictEqual((yield* client.pipeline([["INCR", "key"]])).map(Either.getOrNull), [1])
        node.answer = () => `-${text}\r\n`
        const check = (error: RedisReplyError) => {
          assert.strictEqual(error.reply, text)
          assert.isTrue(error.isRetryable)
        }
        const [took, error] = yield* Effect.timed(Effect.flip(client.send("INCR", "key")))
        assert(error._tag === "RedisReplyError")
        check(error)
        assert.isAbove(Duration.toMillis(took), 700)
        assert.isBelow(Duration.toMillis(took), 4000)
        const [reply] = yield* client.pipeline([["INCR", "key"]])
        assert(reply !== undefined && Either.isLeft(reply))
        check(reply.left)
      }))
  }

  it.scopedLive("is not believed when a script gives it", () =>
    Effect.gen(function*() {
      const node = yield* fake
      const client = yield* connect(node)
      const own = [
        "TRYAGAIN later",
        "CLUSTERDOWN for me",
        "MOVED 1",
        "MOVED over there",
        "READONLY You can't write against a read only replica. script: 1, on @user_script:1.",
        "LOADING the gun script: 1, on @user_script:1."
      ]
      for (const text of own) {
        node.seen.length = 0
        node.answer = () => `-${text}\r\n`
        const error = yield* Effect.flip(client.eval(counter, "key"))
        assert.strictEqual(error._tag === "RedisReplyError" && error.reply, text)
        assert.strictEqual(sent(node, "EVALSHA"), 1, text)
      }
    }))
})

describe("no answer", () => {
  it.scopedLive("is an unknown outcome, and nothing is sent again", () =>
    Effect.gen(function*() {
      const [a, b] = yield* two
      a.slots = b.slots = array([range(0, 8191, a.host, a.port), range(8192, 16383, b.host, b.port)])
      const client = yield* connect(a)
      const keys = Array.from({ length: 50 }, (_, i) => `key:${i}`)
      const low = keys.find((key) => client.slot(key) < 8192)!
      const high = keys.find((key) => client.slot(key) > 8191)!
      a.answer = () => undefined
      for (let i = 1; i <= 5; i++) {
        const error = yield* Effect.flip(client.send("INCR", low))
        assert(error._tag === "RedisOutcomeUnknownError")
        assert.strictEqual(error.reason, "disconnected")
        assert.strictEqual(sent(a, "INCR"), i)
      }
      const pipeline = yield* Effect.flip(client.pipeline([["APPEND", low, "x"], ["APPEND", high, "x"]]))
      assert.strictEqual(pipeline._tag, "RedisOutcomeUnknownError")
      assert.strictEqual(sent(a, "APPEND"), 1)
      assert.strictEqual(sent(b, "APPEND"), 1)
      const transaction = yield* Effect.flip(client.transaction([["INCR", low]]))
      assert.strictEqual(transaction._tag, "RedisOutcomeUnknownError")
      assert.strictEqual(sent(a, "MULTI"), 1)
      // Split, it is unknown as a whole.
      const split = yield* Effect.flip(client.del(low, high))
      assert.strictEqual(split._tag, "RedisOutcomeUnknownError")
      assert.strictEqual(sent(a, "DEL"), 1)
      // What changes nothing is sent again.
      a.answer = () => sent(a, "GET") > 1 ? bulk("x") : undefined
      assert.strictEqual(Option.getOrNull(yield* client.get(low)), "x")
    }))

  it.scopedLive("to a part, and a refusal of another, is told as a whole", () =>
    Effect.gen(function*() {
      const [a, b] = yield* two
      a.slots = b.slots = array([range(0, 8191, a.host, a.port), range(8192, 16383, b.host, b.port)])
      const client = yield* connect(a)
      const keys = Array.from({ length: 50 }, (_, i) => `key:${i}`)
      b.answer = () => "-OOM command not allowed when used memory > 'maxmemory'.\r\n"
      a.answer = () => "+OK\r\n"
      const error = yield* Effect.flip(client.mset(keys.map((key) => [key, "secret"] as const)))
      assert(error._tag === "RedisOutcomeUnknownError")
      assert.strictEqual(error.reason, "partial")
      assert.notInclude(error.message, "secret")
      // When all of them refuse, it is a refusal.
      a.answer = b.answer
      const refused = yield* Effect.flip(client.mset(keys.map((key) => [key, "x"] as const)))
      assert.strictEqual(refused._tag === "RedisReplyError" && refused.code, "OOM")
    }))
})
