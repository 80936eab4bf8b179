import { assert, beforeAll, describe, it } from "@effect/vitest"
import { Cause, ConfigProvider, Effect, Layer, Option, Redacted, TestClock } from "effect"
import {
  Layers,
  Lock,
  ReadWriteLock,
  RedisClient,
  RedisLive,
  RedisTest,
  RedisTestServer,
  Semaphore,
  withLock
} from "effect-redis-kit"
import { inject } from "vitest"
import "./kit/globalSetup.js"
import { compileModules, heavy, loadedBy } from "./kit/imports.js"

const set = (key: string, value: string) => Effect.flatMap(RedisClient.RedisClient, (client) => client.set(key, value))

const get = (key: string) =>
  Effect.flatMap(RedisClient.RedisClient, (client) => Effect.map(client.get(key), Option.getOrNull))

describe("RedisTest", () => {
  it.effect("has every service, and a server that lives on the clock of the test", () =>
    Effect.gen(function*() {
      const client = yield* RedisClient.RedisClient
      const server = yield* RedisTestServer.RedisTestServer
      yield* client.set("session", "ada", { ttl: "7 days" }).pipe(
        withLock("session"),
        ReadWriteLock.withWriteLock("session"),
        Semaphore.withPermits(Semaphore.define({ name: "session", permits: 1 }))
      )
      yield* TestClock.adjust("167 hours")
      assert.strictEqual(yield* get("session"), "ada")
      yield* TestClock.adjust("1 hours")
      assert.isNull(yield* get("session"))
      assert.isFalse((yield* server.keys).some(({ key }) => key === "session"))
    }).pipe(Effect.provide(RedisTest)))

  it.effect("is one server for layers that are built together", () =>
    Effect.gen(function*() {
      yield* set("key", "value")
      const server = yield* RedisTestServer.RedisTestServer
      assert.deepStrictEqual((yield* server.keys).map(({ key }) => key), ["key"])
      const one = yield* server.connections
      assert.isAtMost(one, 2)
    }).pipe(Effect.provide(Layer.mergeAll(RedisTest, Lock.layerTest, RedisTestServer.layer))))

  it.effect("is the same server wherever it is merged in", () => {
    class Writer extends Effect.Service<Writer>()("test/Writer", {
      effect: Effect.as(set("key", "from the other layer"), {})
    }) {}
    return Effect.gen(function*() {
      yield* Writer
      assert.strictEqual(yield* get("key"), "from the other layer")
    }).pipe(Effect.provide(Layer.merge(Layer.provide(Writer.Default, Lock.layerTest), RedisTest)))
  })

  it.effect("is another server each time it is provided", () =>
    Effect.gen(function*() {
      yield* Effect.provide(set("key", "value"), RedisTest)
      assert.isNull(yield* Effect.provide(get("key"), RedisTest))
    }))
})

describe("RedisLive", () => {
  const program = Effect.gen(function*() {
    const client = yield* RedisClient.RedisClient
    const key = `layers:${crypto.randomUUID()}`
    yield* client.set(key, "value", { ttl: "1 minute" }).pipe(withLock(key, { lease: "5 seconds" }))
    const value = Option.getOrNull(yield* client.get(key))
    yield* client.del(key)
    return value
  })

  const withEnvironment = (...entries: ReadonlyArray<readonly [string, string]>) =>
    Effect.withConfigProvider(ConfigProvider.fromMap(new Map(entries)))

  it.live("is configured by the environment", () =>
    Effect.gen(function*() {
      const result = yield* program.pipe(Effect.provide(RedisLive), withEnvironment(["REDIS_URL", inject("redisUrl")]))
      assert.strictEqual(result, "value")
    }))

  it.live("names the variable that is wrong", () =>
    Effect.gen(function*() {
      const error = yield* program.pipe(Effect.provide(RedisLive), withEnvironment(["REDIS_PORT", "abc"]), Effect.flip)
      const text = Cause.pretty(Cause.fail(error))
      assert.include(text, "REDIS_PORT")
      assert.include(text, "a port number from 1 to 65535")
    }))

  it.live("takes options as well, and the same program runs on both", () =>
    Effect.gen(function*() {
      const live = Layers.live({ url: Redacted.make(inject("redisUrl")), keyPrefix: "test:layers:" })
      assert.strictEqual(yield* Effect.provide(program, live), "value")
      assert.strictEqual(yield* Effect.provide(program, RedisTest), "value")
    }))
})

describe("importing", () => {
  beforeAll(() => compileModules("layers"))

  it("Lock alone loads neither ioredis nor the server in memory", async () => {
    const urls = await loadedBy("layers", (module) => `await import(${module("Lock/index.js")})`)
    assert.isTrue(urls.some((url) => url.endsWith("/Lock/Lock.js")))
    assert.deepStrictEqual(heavy(urls), [])
  })

  it("everything loads neither of them either, until a layer is built", async () => {
    const urls = await loadedBy("layers", (module) => `await import(${module("index.js")})`)
    assert.isTrue(urls.some((url) => url.endsWith("/index.js")))
    assert.deepStrictEqual(heavy(urls), [])
  })

  it("RedisTest never loads ioredis", async () => {
    const urls = await loadedBy("layers", (module) => `
      import { Effect } from "effect"
      import { RedisTest } from ${module("index.js")}
      await Effect.runPromise(Effect.provide(Effect.void, RedisTest))`)
    assert.deepStrictEqual(heavy(urls), ["/node_modules/luaparse/", "/memory/"])
  })

  it("RedisLive never loads the server in memory", async () => {
    const urls = await loadedBy("layers", (module) => `
      import { Effect, Redacted } from "effect"
      import { Layers } from ${module("index.js")}
      const url = Redacted.make(${JSON.stringify(inject("redisUrl"))})
      await Effect.runPromise(Effect.provide(Effect.void, Layers.live({ url })))`)
    assert.deepStrictEqual(heavy(urls), ["/node_modules/ioredis/"])
  })
})
