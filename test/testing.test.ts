import { assert, beforeAll, describe, it, layer } from "@effect/vitest"
import { Context, Effect, Exit, Layer, Option, Redacted, Scope, TestClock } from "effect"
import { type Layers, RedisClient, withLock } from "effect-redis-kit"
import { drivers, Fault, isolated, live, RedisTest, RedisTestServer } from "effect-redis-kit/testing"
import { inject } from "vitest"
import { compileModules, heavy, loadedBy } from "./kit/imports.js"
import { liveWith } from "./kit/layers.js"

const url = () => Redacted.make(inject("redisUrl"))

/** Everything on the server, whatever its prefix. */
const everything = (pattern: string) =>
  Effect.gen(function*() {
    const client = yield* RedisClient.RedisClient
    const keys: Array<string> = []
    let cursor = "0"
    do {
      const reply = yield* client.send("SCAN", cursor, "MATCH", pattern, "COUNT", 1000)
      const [next, found] = reply as readonly [string, ReadonlyArray<string>]
      cursor = next
      keys.push(...found)
    } while (cursor !== "0")
    return keys
  }).pipe(Effect.provide(liveWith()))

describe("the live layer", () => {
  const build = (made: Layer.Layer<RedisClient.RedisClient | Layers.Services, unknown>) =>
    Effect.gen(function*() {
      const scope = yield* Scope.make()
      const context = yield* Layer.buildWithScope(Layer.fresh(made), scope)
      return { client: Context.get(context, RedisClient.RedisClient), close: Scope.close(scope, Exit.void) }
    })

  it.live("has another prefix each time, and removes its own keys alone", () =>
    Effect.gen(function*() {
      const options = { url: url(), keyPrefix: "mine*:" }
      const one = yield* build(live(options))
      const two = yield* build(live(options))
      assert.match(one.client.key("a"), /^mine\*:test:[0-9a-f]{10}:a$/)
      assert.notStrictEqual(one.client.key("a"), two.client.key("a"))
      yield* one.client.set("a", "1")
      yield* two.client.set("a", "2")
      assert.strictEqual(Option.getOrNull(yield* one.client.get("a")), "1")
      yield* one.close
      assert.deepStrictEqual(yield* everything("mine[*]:*"), [two.client.key("a")])
      yield* two.close
      assert.deepStrictEqual(yield* everything("mine[*]:*"), [])
    }))

  it.live("removes its keys when its user fails or is interrupted", () =>
    Effect.gen(function*() {
      let key = ""
      const write = Effect.gen(function*() {
        const client = yield* RedisClient.RedisClient
        key = client.key("a")
        yield* client.set("a", "1")
      })
      for (const end of [Effect.fail("no"), Effect.die("no"), Effect.interrupt]) {
        const exit = yield* Effect.exit(Effect.provide(Effect.zipRight(write, end), live({ url: url() })))
        assert.isTrue(Exit.isFailure(exit))
        assert.deepStrictEqual(yield* everything(key), [])
      }
    }))

  it.effect("isolates any layer, also one in memory", () =>
    Effect.gen(function*() {
      const server = yield* RedisTestServer.RedisTestServer
      const own = isolated((keyPrefix) => Layer.scoped(RedisClient.RedisClient, server.client({ keyPrefix })))
      yield* Effect.gen(function*() {
        const client = yield* RedisClient.RedisClient
        yield* client.set("a", "1")
        assert.deepStrictEqual((yield* server.keys).map(({ key }) => key), [client.key("a")])
      }).pipe(Effect.provide(own))
      assert.deepStrictEqual(yield* server.keys, [])
    }).pipe(Effect.provide(RedisTest)))
})

describe("RedisTest with faults", () => {
  it.effect("a program is tested against what it will meet", () =>
    Effect.gen(function*() {
      const server = yield* RedisTestServer.RedisTestServer
      const lost = yield* server.inject(Fault.loseReply({ command: "EVALSHA" }))
      yield* server.inject(Fault.noScript())
      const done = yield* Effect.fork(Effect.succeed("done").pipe(withLock("report")))
      for (let i = 0; i < 20; i++) yield* TestClock.adjust("1 second")
      assert.strictEqual(yield* done, "done")
      assert.strictEqual(yield* lost.happened, 1)
      assert.deepStrictEqual(yield* server.faults, [])
    }).pipe(Effect.provide(RedisTest)))
})

describe("importing", () => {
  beforeAll(() => compileModules("testing"))

  it("loads neither ioredis nor the server in memory, also when the drivers are made", async () => {
    const urls = await loadedBy("testing", (module) =>
      `import { drivers } from ${module("testing.js")}
       drivers({})`)
    assert.isTrue(urls.some((url) => url.endsWith("/testing.js")))
    assert.deepStrictEqual(heavy(urls), [])
  })

  for (
    const [index, parts] of [["0", ["/node_modules/luaparse/", "/memory/"]], ["1", ["/node_modules/ioredis/"]]] as const
  ) {
    it(`the layer of driver ${index} loads ${parts.join(" and ")} alone`, async () => {
      const urls = await loadedBy("testing", (module) =>
        `import { Effect, Redacted } from "effect"
         import { drivers } from ${module("testing.js")}
         const { layer } = drivers({ url: Redacted.make(${JSON.stringify(inject("redisUrl"))}) })[${index}]
         await Effect.runPromise(Effect.provide(Effect.void, layer))`)
      assert.deepStrictEqual(heavy(urls), parts)
    })
  }
})

// Last, because `layer` replaces `it.effect` for what comes after it in a file.
for (const driver of drivers({ url: url() })) {
  layer(driver.layer, driver.options)(`one suite on both drivers: ${driver.name}`, (it) => {
    it.effect("services share one server", () =>
      Effect.gen(function*() {
        const redis = yield* RedisClient.RedisClient
        yield* redis.set("name", "Ada").pipe(withLock("name"))
        assert.strictEqual(Option.getOrNull(yield* redis.get("name")), "Ada")
        assert.isTrue(Option.isNone(yield* redis.get("other")))
      }))
  })
}
