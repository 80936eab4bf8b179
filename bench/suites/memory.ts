/**
 * The server in memory beside ioredis-mock, each with one caller.
 */
import { Effect, Layer } from "effect"
import { RedisTest } from "effect-redis-kit/Layers"
import { RedisClient } from "effect-redis-kit/RedisClient"
import * as RedisScript from "effect-redis-kit/RedisScript"
import * as RedisTestServer from "effect-redis-kit/RedisTestServer"
import { type Case, fibers, promises, type Slice } from "../harness.js"
import * as Peers from "../peers.js"

const MEMBERS = 1000

const limit = RedisScript.make({
  name: "limit",
  lua: `local n = redis.call('INCR', KEYS[1])
if n == 1 then redis.call('PEXPIRE', KEYS[1], ARGV[1]) end
local left = redis.call('PTTL', KEYS[1])
if n > tonumber(ARGV[2]) then return { 0, left } end
return { 1, left }`,
  params: (key: string, millis: number, max: number) => ({ keys: [key], args: [millis, max] }),
  result: RedisScript.reply
})

const setUp = Effect.gen(function*() {
  const client = yield* RedisClient.pipe(Effect.provide(yield* Layer.build(RedisTestServer.layer)))
  const mock = yield* Effect.acquireRelease(
    Effect.sync(() => new (Peers.ioredisMock().default)()),
    (mock) => Effect.sync(() => mock.disconnect())
  )
  return { client, mock }
})

const get: Case = {
  measures: [{ name: "memory.get", unit: "op/s", better: "higher", target: { ratio: 0.5 } }],
  contenders: Effect.gen(function*() {
    const { client, mock } = yield* setUp
    yield* client.set("key", "value")
    yield* Effect.promise(() => mock.set("key", "value"))
    return [
      { name: "ours", slice: fibers(1, () => client.get("key")) },
      { name: "ioredis-mock", slice: promises(1, () => mock.get("key")) }
    ]
  })
}

/** What every test pays before it begins. */
const build: Case = {
  measures: [{ name: "memory.build", unit: "ms", better: "lower", target: { absolute: 10 } }],
  contenders: Effect.sync(() => {
    const timed = (make: Effect.Effect<unknown>): Slice => () =>
      Effect.gen(function*() {
        const times: Array<number> = []
        for (let i = 0; i < 50; i++) {
          const began = performance.now()
          yield* make
          times.push(performance.now() - began)
        }
        return [times.toSorted((a, b) => a - b)[25]!]
      })
    const mock = Peers.ioredisMock().default
    return [
      { name: "RedisTest", slice: timed(Effect.scoped(Layer.build(RedisTest))) },
      { name: "ioredis-mock", slice: timed(Effect.sync(() => new mock().disconnect())) }
    ]
  })
}

const zadd: Case = {
  measures: [{ name: "memory.zadd", unit: "op/s", better: "higher", target: { ratio: 5 } }],
  contenders: Effect.gen(function*() {
    const { client, mock } = yield* setUp
    const member = (n: number) => `member:${n % MEMBERS}`
    // Scores in another order than the members, so that members move.
    const score = (n: number) => (n * 7919) % 100_003
    for (let n = 0; n < MEMBERS; n++) {
      yield* client.zadd("board", [[member(n), score(n)]])
      yield* Effect.promise(() => mock.zadd("board", score(n), member(n)))
    }
    return [
      { name: "ours", slice: fibers(1, (n) => client.zadd("board", [[member(n), score(n)]])) },
      { name: "ioredis-mock", slice: promises(1, (n) => mock.zadd("board", score(n), member(n))) }
    ]
  })
}

const evalsha: Case = {
  measures: [{ name: "memory.evalsha", unit: "op/s", better: "higher", target: { ratio: 5 } }],
  contenders: Effect.gen(function*() {
    const { client, mock } = yield* setUp
    // It has no SCRIPT LOAD; a script that ran once is known to it.
    yield* Effect.promise(() => mock.eval(limit.lua, 1, "window", "60000", "10"))
    return [
      { name: "ours", slice: fibers(1, () => client.eval(limit, "window", 60_000, 10)) },
      { name: "ioredis-mock", slice: promises(1, () => mock.evalsha(limit.sha, 1, "window", "60000", "10")) }
    ]
  })
}

export const cases: ReadonlyArray<Case> = [build, get, zadd, evalsha]
