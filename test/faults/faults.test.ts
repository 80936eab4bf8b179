/**
 * Whether the judges of the reliability suite can find anything. `npm run test:faults` runs it.
 */
import { assert, describe, it } from "@effect/vitest"
import { Effect, Redacted } from "effect"
import { Redis } from "ioredis"
import * as IoRedis from "../../src/IoRedis.js"
import * as RedisClient from "../../src/RedisClient.js"
import * as RedisConfig from "../../src/RedisConfig.js"
import * as RealServer from "../kit/RealServer.js"
import { judgeSums } from "./counts.js"
import { judgeHistory } from "./events.js"
import { judgeUses } from "./limits.js"
import { judgeHolds, judgeStore, judgeTokens } from "./locks.js"
import { judgeJumps } from "./messages.js"
import { judgeChat } from "./rooms.js"
import { dice } from "./servers.js"
import { judgeReader } from "./streams.js"
import { makeWork, type Task } from "./work.js"

describe("what the reliability suite takes for wrong", () => {
  const wrong = (verdict: { readonly violations: ReadonlyArray<string> }) => verdict.violations.length

  it("a fenced store: a smaller token, a token of two, a write over what was not read", () => {
    assert.strictEqual(wrong(judgeStore([[1, "a", -1, 0], [1, "a", 0, 0], [2, "b", -1, 1], [2, "b", 1, 1]])), 0)
    assert.strictEqual(wrong(judgeStore([[2, "b", -1, 0], [1, "a", -1, 0]])), 1)
    assert.strictEqual(wrong(judgeStore([[1, "a", -1, 0], [1, "b", -1, 0]])), 1)
    assert.strictEqual(wrong(judgeStore([[1, "a", -1, 0], [1, "a", 0, 1]])), 1)
  })

  it("tokens: one that is not larger than one given before, and none of those given at the same time", () => {
    const grant = (token: number, from: number, to: number) => ({ name: "a", token, from, to })
    assert.strictEqual(wrong(judgeTokens([grant(1, 0, 10), grant(2, 11, 20)])), 0)
    assert.strictEqual(wrong(judgeTokens([grant(2, 0, 10), grant(1, 5, 20)])), 0)
    assert.strictEqual(wrong(judgeTokens([grant(2, 0, 10), grant(1, 11, 20)])), 1)
    assert.strictEqual(wrong(judgeTokens([grant(2, 0, 10), grant(2, 5, 20)])), 1)
  })

  it("holders: more than allowed at a moment, counted until their end or that of their lease", () => {
    const hold = (id: string, from: number, to: number, n = 1) => ({ id, name: "a", n, from, to })
    const holds = [hold("a", 0, 100), hold("b", 50, 150)]
    assert.strictEqual(wrong(judgeHolds(holds, new Map(), 1)), 1)
    assert.strictEqual(wrong(judgeHolds(holds, new Map([["a", 50]]), 1)), 0)
    assert.strictEqual(wrong(judgeHolds(holds, new Map(), 2)), 0)
    assert.strictEqual(wrong(judgeHolds([hold("a", 0, 100), hold("b", 50, 150, 2)], new Map(), 2)), 1)
    assert.strictEqual(wrong(judgeHolds([hold("a", 0, 100), hold("b", 101, 150)], new Map(), 1)), 0)
  })

  it("limits: more in a window than the algorithm allows, when it is certain that they were in it", () => {
    const uses = (policy: string, n: number, took = 1) =>
      Array.from({ length: n }, (_, i) => ({ policy, id: "a", from: i * 10, to: i * 10 + took }))
    assert.strictEqual(wrong(judgeUses(uses("sliding-window", 5))), 0)
    assert.isAbove(wrong(judgeUses(uses("sliding-window", 6))), 0)
    assert.strictEqual(wrong(judgeUses(uses("sliding-window", 6, 999))), 0)
    assert.strictEqual(wrong(judgeUses(uses("gcra", 10))), 0)
    assert.isAbove(wrong(judgeUses(uses("gcra", 11))), 0)
  })

  it("messages: an acknowledged one that was missed, unless a Gap stood there", () => {
    const acknowledged = new Map([["a", new Set([1, 2, 4, 5])]])
    const jump = (from: number, to: number, told = false) => judgeJumps([{ topic: "a", from, to, told }], acknowledged)
    assert.strictEqual(wrong(jump(1, 4)), 1)
    assert.strictEqual(wrong(jump(1, 4, true)), 0)
    assert.strictEqual(wrong(jump(2, 4)), 0)
  })

  it("readers: what comes twice, back, or not at all; what a failover has lost explains what is missing before it", () => {
    const ids = (...times: ReadonlyArray<number>) => times.map((time) => `${time}-0`)
    const stored = new Set(ids(1, 2, 3, 5))
    assert.strictEqual(wrong(judgeReader(ids(1, 2, 3, 5), stored, ids(1, 2, 3, 5))), 0)
    assert.strictEqual(wrong(judgeReader(ids(1, 2, 2), stored, [])), 1)
    assert.strictEqual(wrong(judgeReader(ids(1, 3, 2), stored, [])), 1)
    assert.strictEqual(wrong(judgeReader(ids(1, 3, 5), stored, ids(2))), 1)
    assert.strictEqual(wrong(judgeReader(ids(1, 4, 5), stored, ids(3))), 0)
    assert.strictEqual(wrong(judgeReader(ids(2, 3), stored, ids(1, 5))), 0)
  })

  it("histories: a hole, an event twice", () => {
    const event = (id: string, version: number) => ({ aggregate: "a", id, version, position: `${version}-0` })
    assert.strictEqual(wrong(judgeHistory([event("x", 1), event("y", 2)])), 0)
    assert.strictEqual(wrong(judgeHistory([event("x", 1), event("y", 3)])), 1)
    assert.strictEqual(wrong(judgeHistory([event("x", 1), event("x", 2)])), 1)
  })

  it("sums: less than was confirmed, more than was possible", () => {
    const judge = (sum: number | undefined) =>
      judgeSums(new Map(sum === undefined ? [] : [["a", sum]]), new Map([["a", 5]]), new Map([["a", 7]])).length
    assert.deepStrictEqual([4, 5, 7, 8, undefined].map(judge), [1, 0, 0, 1, 1])
  })

  it("chats: a hole, a message twice, one that did not come; not after it was told that some are lost", () => {
    const heard = (...offsets: ReadonlyArray<number>) =>
      offsets.map((offset) => offset < 0 ? "lost" as const : { epoch: "e", offset, id: `m${offset}` })
    assert.strictEqual(wrong(judgeChat(heard(1, 2, 3), new Map([["m2", 2]]))), 0)
    assert.strictEqual(wrong(judgeChat(heard(1, 3), new Map([["m2", 2]]))), 2)
    assert.isAbove(wrong(judgeChat(heard(1, 2, 2), new Map())), 0)
    assert.strictEqual(wrong(judgeChat(heard(1, -1, 3), new Map([["m2", 2]]))), 0)
  })

  const confirming = Effect.gen(function*() {
    const [one, other, record] = yield* Effect.replicateEffect(RealServer.start(), 3)
    const [client, elsewhere] = yield* Effect.forEach(
      [one!, other!],
      ({ url }) => Effect.flatMap(RedisConfig.make({ url: Redacted.make(url) }), IoRedis.make)
    )
    const redis = yield* Effect.acquireRelease(
      Effect.sync(() => new Redis(record!.url)),
      (redis) => Effect.sync(() => redis.disconnect())
    )
    const task: Task = {
      name: "p1",
      client: {},
      replicas: 0,
      mode: "sentinel",
      book: record!.url,
      planted: false,
      pace: 1
    }
    /** Commands go to the second server as long as `away` holds, and reserved connections to the first one. */
    let away = false
    const two: RedisClient.Service = {
      ...client!,
      send: (...args: Parameters<RedisClient.Service["send"]>) => (away ? elsewhere! : client!).send(...args)
    }
    const work = (replicas: number) =>
      Effect.provideService(makeWork({ ...task, replicas }, redis), RedisClient.RedisClient, two)
    const move = (to: boolean) => Effect.sync(() => void (away = to))
    return { write: Effect.suspend(() => two.send("INCR", "n")), work, move }
  })

  it.scopedLive("a write is confirmed by replicas of the server that it went to, and of no other", () =>
    Effect.gen(function*() {
      const { move, work, write } = yield* confirming
      const { confirm } = yield* work(0)
      const confirmed = (write: Effect.Effect<unknown, unknown>) =>
        Effect.map(confirm("{a}", write), ({ confirmed }) => confirmed)
      assert.isTrue(yield* confirmed(write))
      assert.isFalse(yield* confirmed(Effect.zipRight(move(true), write)))
      assert.isFalse(yield* confirmed(Effect.zipRight(write, move(false))))
      assert.isFalse(yield* confirmed(Effect.fail("refused")))
      assert.isTrue(yield* confirmed(write))
      const alone = yield* work(1)
      assert.isFalse((yield* alone.confirm("{a}", write)).confirmed)
    }))

  it("has a seed that repeats what happens", () => {
    const [one, other] = [dice(7), dice(7)]
    assert.deepStrictEqual([one(), one()], [other(), other()])
  })
})
