/**
 * What a command costs through the client, beside the same command of the ioredis below it.
 */
import { Effect, Layer, Redacted } from "effect"
import * as IoRedis from "effect-redis-kit/IoRedis"
import { RedisClient } from "effect-redis-kit/RedisClient"
import * as RedisScript from "effect-redis-kit/RedisScript"
import { type Case, fibers, promises } from "../harness.js"
import { connect, PREFIX, Server } from "../server.js"

const KEYS = 1000
const keys = Array.from({ length: KEYS }, (_, i) => `${PREFIX}client:${i}`)
const keyOf = (n: number): string => keys[n % KEYS]!

/** 70 bytes. */
const value = JSON.stringify({ id: "7f1f2ad4-55b5-4a1b", name: "Ada Lovelace", visits: 42, ok: true })

const count = RedisScript.make({
  name: "count",
  lua: "return redis.call('INCRBY', KEYS[1], ARGV[1])",
  params: (key: string, by: number) => ({ keys: [key], args: [by] }),
  result: RedisScript.number
})

const setUp = Effect.gen(function*() {
  const { url } = yield* Server
  const client = yield* RedisClient.pipe(Effect.provide(yield* Layer.build(IoRedis.layer({ url: Redacted.make(url) }))))
  return { client, batched: yield* connect({ enableAutoPipelining: true }), plain: yield* connect() }
})

const get = (loops: number, target: number): Case => ({
  measures: [{ name: `client.get.${loops}`, unit: "op/s", better: "higher", target: { ratio: target } }],
  contenders: Effect.gen(function*() {
    const { batched, client, plain } = yield* setUp
    yield* Effect.promise(() => batched.mset(new Map(keys.map((key) => [key, value]))))
    return [
      { name: "ours", slice: fibers(loops, (n) => client.get(keyOf(n))) },
      { name: "ioredis auto-pipelined", slice: promises(loops, (n) => batched.get(keyOf(n))) },
      { name: "ioredis as it comes", slice: promises(loops, (n) => plain.get(keyOf(n))) },
      { name: "ours, by send", slice: fibers(loops, (n) => client.send("GET", keyOf(n))) }
    ]
  })
})

const evaluate = (loops: number, target: number): Case => ({
  measures: [{ name: `client.eval.${loops}`, unit: "op/s", better: "higher", target: { ratio: target } }],
  contenders: Effect.gen(function*() {
    const { batched, client, plain } = yield* setUp
    yield* Effect.promise(async () => {
      await batched.del(keys)
      await batched.script("LOAD", count.lua)
    })
    return [
      { name: "ours", slice: fibers(loops, (n) => client.eval(count, keyOf(n), 1)) },
      { name: "ioredis auto-pipelined", slice: promises(loops, (n) => batched.evalsha(count.sha, 1, keyOf(n), 1)) },
      { name: "ioredis as it comes", slice: promises(loops, (n) => plain.evalsha(count.sha, 1, keyOf(n), 1)) }
    ]
  })
})

export const cases: ReadonlyArray<Case> = [get(1, 0.9), get(100, 0.6), evaluate(100, 0.7)]
