import { assert, describe, it } from "@effect/vitest"
import { Effect, Layer, Option, Queue, Stream } from "effect"
import { Redis, type RedisOptions } from "ioredis"
import * as IoRedis from "../../src/IoRedis.js"
import { RedisClient } from "../../src/RedisClient.js"
import { connectionsNamed, eventually, outcome, proxied, serverUrl, unique } from "./support.js"

const open = (options: RedisOptions = {}, url = serverUrl()) =>
  Effect.acquireRelease(
    Effect.sync(() => {
      const redis = new Redis(url, { lazyConnect: true, ...IoRedis.clientOptions, ...options })
      redis.on("error", () => {})
      return redis
    }),
    (redis) => Effect.sync(() => redis.disconnect())
  )

describe("fromClient", () => {
  it.scopedLive("uses the client, and leaves it open", () =>
    Effect.gen(function*() {
      const name = unique("own")
      const redis = yield* open({ connectionName: name })
      const listeners = redis.listenerCount("close")
      const key = unique("from")
      yield* Effect.scoped(Effect.gen(function*() {
        const client = yield* IoRedis.fromClient(redis, { keyPrefix: "from:" })
        assert.strictEqual(client.key("a"), "from:a")
        assert.strictEqual(yield* client.send("SET", key, "1"), "OK")
        const queue = yield* client.subscribe({ channels: ["a"] })
        const own = yield* client.reserve()
        assert.strictEqual(yield* own.send("INCR", key), 2)
        assert.lengthOf(yield* connectionsNamed(client, name), 3)
        yield* client.send("PUBLISH", "from:a", "x")
        assert.strictEqual((yield* Queue.take(queue))._tag, "Message")
      }))
      assert.strictEqual(redis.status, "ready")
      assert.strictEqual(yield* Effect.promise(() => redis.get(key)), "2")
      assert.strictEqual(redis.listenerCount("close"), listeners)
      yield* eventually(Effect.gen(function*() {
        const list = yield* Effect.promise(() => redis.client("LIST"))
        const mine = String(list).split("\n").filter((line) => line.includes(` name=${name} `))
        return yield* mine.length === 1 ? Effect.void : Effect.fail("open")
      }))
    }))

  it.scopedLive("works on a client that is connected already, and beside its owner", () =>
    Effect.gen(function*() {
      const redis = yield* open()
      yield* Effect.promise(() => redis.connect())
      const client = yield* IoRedis.fromClient(redis)
      const key = unique("beside")
      const ours = Effect.forEach(Array.from({ length: 200 }), () => client.send("INCR", key), {
        concurrency: "unbounded"
      })
      const theirs = Effect.promise(() => Promise.all(Array.from({ length: 200 }, () => redis.incr(key))))
      const [a, b] = yield* Effect.all([ours, theirs], { concurrency: "unbounded" })
      assert.strictEqual(new Set([...a, ...b]).size, 400)
      assert.strictEqual(Option.getOrThrow(yield* Stream.runHead(client.state)).status, "connected")
    }))

  it.scopedLive("executes nothing twice", () =>
    Effect.gen(function*() {
      const proxy = yield* proxied
      const redis = yield* open({}, proxy.url)
      const client = yield* IoRedis.fromClient(redis)
      const key = unique("twice")
      yield* client.send("SET", key, "0")
      yield* proxy.dropReplies(1, { command: "INCR" })
      assert.strictEqual(yield* outcome(client.send("INCR", key)), "RedisOutcomeUnknownError")
      assert.strictEqual(yield* client.send("GET", key), "1")
    }))

  it.scopedLive("says so when its owner has closed it", () =>
    Effect.gen(function*() {
      const redis = yield* open()
      const client = yield* IoRedis.fromClient(redis)
      yield* client.send("PING")
      redis.disconnect()
      const error = yield* Effect.flip(eventually(Effect.flip(client.send("PING"))).pipe(Effect.flatMap(Effect.fail)))
      assert(error._tag === "RedisConnectionError")
      yield* Effect.sleep(50)
      const closed = yield* Effect.flip(client.send("PING"))
      assert(closed._tag === "RedisConnectionError")
      assert.strictEqual(closed.reason, "closed")
      const again = yield* IoRedis.fromClient(redis)
      assert.strictEqual(yield* outcome(again.send("PING")), "RedisConnectionError")
    }))

  const refused: ReadonlyArray<readonly [field: string, options: RedisOptions]> = [
    ["keyPrefix", { keyPrefix: "a:" }],
    ["autoResendUnfulfilledCommands", { autoResendUnfulfilledCommands: true }],
    ["maxRetriesPerRequest", { maxRetriesPerRequest: 20 }],
    ["maxRetriesPerRequest", { maxRetriesPerRequest: null }],
    ["enableOfflineQueue", { enableOfflineQueue: true }],
    ["stringNumbers", { stringNumbers: true }],
    ["commandTimeout", { commandTimeout: 100 }]
  ]
  for (const [field, options] of refused) {
    it.scopedLive(`refuses a client by its option ${field}: ${JSON.stringify(options)}`, () =>
      Effect.gen(function*() {
        const redis = yield* open(options)
        const error = yield* Effect.flip(IoRedis.fromClient(redis))
        assert(error._tag === "RedisInputError")
        assert.strictEqual(error.field, field)
        assert.strictEqual(redis.status, "wait")
      }))
  }

  it.scopedLive("refuses RESP3 of version 6 of ioredis", () =>
    Effect.gen(function*() {
      for (const option of [{ protocol: 3 }, { replyMapping: "resp3" }]) {
        const redis = yield* open()
        Object.assign(redis.options, { protocol: 2, ...option })
        assert.strictEqual(yield* outcome(IoRedis.fromClient(redis)), "RedisInputError")
      }
    }))

  it.scopedLive("refuses a client that subscribes", () =>
    Effect.gen(function*() {
      const redis = yield* open()
      yield* Effect.promise(() => redis.connect())
      yield* Effect.promise(() => redis.subscribe("a"))
      assert.strictEqual(yield* outcome(IoRedis.fromClient(redis)), "RedisInputError")
    }))

  it.scopedLive("refuses bad options of its own", () =>
    Effect.gen(function*() {
      const redis = yield* open()
      assert.strictEqual(yield* outcome(IoRedis.fromClient(redis, { commandTimeout: 0 })), "RedisInputError")
    }))

  it.scopedLive("is a layer too", () =>
    Effect.gen(function*() {
      const redis = yield* open()
      const reply = yield* Effect.flatMap(RedisClient, (client) => client.send("PING")).pipe(
        Effect.provide(Layer.fresh(IoRedis.layerFromClient(redis)))
      )
      assert.strictEqual(reply, "PONG")
    }))
})
