import { assert, describe, it } from "@effect/vitest"
import {
  Config,
  ConfigProvider,
  Duration,
  Effect,
  Either,
  Inspectable,
  Option,
  Redacted,
  Schedule,
  Schema
} from "effect"
import * as RedisConfig from "../src/RedisConfig.js"

const SECRET = "s3cret-of-the-test"

const load = (variables: Record<string, string>) =>
  Effect.withConfigProvider(RedisConfig.config, ConfigProvider.fromMap(new Map(Object.entries(variables))))

const texts = (value: unknown) => [String(value), JSON.stringify(value), Inspectable.format(value)].join("\n")

const reveal = (password: Option.Option<Redacted.Redacted>) => Option.getOrNull(Option.map(password, Redacted.value))

describe("the environment", () => {
  it.effect("may be empty", () =>
    Effect.gen(function*() {
      const config = yield* load({})
      assert.strictEqual(config.host, "localhost")
      assert.strictEqual(config.port, 6379)
      assert.strictEqual(config.db, 0)
      assert.isTrue(Option.isNone(config.username))
      assert.isTrue(Option.isNone(config.password))
      assert.isTrue(Option.isNone(config.tls))
      assert.isTrue(Option.isNone(config.name))
      assert.strictEqual(config.keyPrefix, "")
      assert.strictEqual(Duration.toMillis(config.connectTimeout), 10_000)
      assert.strictEqual(Duration.toMillis(config.commandTimeout), 5000)
      assert.isTrue(config.readyCheck)
      assert.isFalse(config.lazyConnect)
      assert.strictEqual(config.retry, RedisConfig.defaultRetry)
      assert.deepStrictEqual(Either.getOrThrow(RedisConfig.make()), config)
    }))

  it.effect("sets everything", () =>
    Effect.gen(function*() {
      const config = yield* load({
        REDIS_HOST: "redis.internal",
        REDIS_PORT: "6380",
        REDIS_USERNAME: "app",
        REDIS_PASSWORD: SECRET,
        REDIS_DB: "2",
        REDIS_TLS: "true",
        REDIS_KEY_PREFIX: "shop:",
        REDIS_NAME: "shop-1",
        REDIS_CONNECT_TIMEOUT: "2 seconds",
        REDIS_COMMAND_TIMEOUT: "750",
        REDIS_READY_CHECK: "no",
        REDIS_LAZY_CONNECT: "1"
      })
      assert.strictEqual(config.host, "redis.internal")
      assert.strictEqual(config.port, 6380)
      assert.deepStrictEqual(config.username, Option.some("app"))
      assert.strictEqual(reveal(config.password), SECRET)
      assert.strictEqual(config.db, 2)
      assert.isTrue(Option.isSome(config.tls))
      assert.strictEqual(config.keyPrefix, "shop:")
      assert.deepStrictEqual(config.name, Option.some("shop-1"))
      assert.strictEqual(Duration.toMillis(config.connectTimeout), 2000)
      assert.strictEqual(Duration.toMillis(config.commandTimeout), 750)
      assert.isFalse(config.readyCheck)
      assert.isTrue(config.lazyConnect)
      assert.notInclude(texts(config), SECRET)
      assert.strictEqual(RedisConfig.target(config), "rediss://redis.internal:6380/2")
    }))

  it.effect("REDIS_URL wins over the rest", () =>
    Effect.gen(function*() {
      const config = yield* load({
        REDIS_URL: "rediss://user:p%40ss@example.com:7000/4",
        REDIS_HOST: "elsewhere",
        REDIS_PORT: "1",
        REDIS_USERNAME: "other",
        REDIS_PASSWORD: "other",
        REDIS_DB: "9",
        REDIS_TLS: "false",
        REDIS_KEY_PREFIX: "kept:"
      })
      assert.strictEqual(config.host, "example.com")
      assert.strictEqual(config.port, 7000)
      assert.deepStrictEqual(config.username, Option.some("user"))
      assert.strictEqual(reveal(config.password), "p@ss")
      assert.strictEqual(config.db, 4)
      assert.isTrue(Option.isSome(config.tls))
      assert.strictEqual(config.keyPrefix, "kept:")
      assert.strictEqual(RedisConfig.target(config), "rediss://example.com:7000/4")

      const plain = yield* load({ REDIS_URL: "redis://example.com", REDIS_PASSWORD: "other", REDIS_TLS: "true" })
      assert.isTrue(Option.isNone(plain.password))
      assert.isTrue(Option.isNone(plain.tls))
      assert.strictEqual(plain.port, 6379)
      assert.strictEqual(plain.db, 0)
    }))

  it.effect("a variable that is set to nothing is not set", () =>
    Effect.gen(function*() {
      const config = yield* load({ REDIS_URL: "", REDIS_HOST: " ", REDIS_PORT: "", REDIS_TLS: "" })
      assert.strictEqual(config.host, "localhost")
      assert.strictEqual(config.port, 6379)
    }))

  it.effect("a URL can name an address of version 6", () =>
    Effect.gen(function*() {
      const config = yield* load({ REDIS_URL: "redis://[::1]:6380" })
      assert.strictEqual(config.host, "::1")
      assert.strictEqual(RedisConfig.target(config), "redis://[::1]:6380/0")
    }))

  it.effect("names the nodes of a Cluster", () =>
    Effect.gen(function*() {
      const config = yield* load({ REDIS_CLUSTER_NODES: "a:7000, b ,[::1]:7002", REDIS_DB: "0", REDIS_TLS: "true" })
      assert.deepStrictEqual(config.clusterNodes, [
        { host: "a", port: 7000 },
        { host: "b", port: 6379 },
        { host: "::1", port: 7002 }
      ])
      assert.isTrue(Option.isNone(config.sentinels))
      assert.strictEqual(RedisConfig.target(config), "rediss+cluster://a:7000,b:6379,[::1]:7002")
    }))

  it.effect("names sentinels and their master", () =>
    Effect.gen(function*() {
      const config = yield* load({
        REDIS_SENTINELS: "a,b:26380",
        REDIS_SENTINEL_MASTER: "shop",
        REDIS_SENTINEL_USERNAME: "watcher",
        REDIS_SENTINEL_PASSWORD: SECRET,
        REDIS_SENTINEL_TLS: "yes",
        REDIS_DB: "3"
      })
      const sentinels = Option.getOrThrow(config.sentinels)
      assert.deepStrictEqual(sentinels.nodes, [{ host: "a", port: 26379 }, { host: "b", port: 26380 }])
      assert.strictEqual(sentinels.master, "shop")
      assert.deepStrictEqual(sentinels.username, Option.some("watcher"))
      assert.strictEqual(reveal(sentinels.password), SECRET)
      assert.deepStrictEqual(sentinels.tls, Option.some({}))
      assert.isTrue(Option.isNone(config.tls))
      assert.deepStrictEqual(config.clusterNodes, [])
      assert.strictEqual(RedisConfig.target(config), "redis+sentinel://a:26379,b:26380/shop/3")
      assert.notInclude(texts(config), SECRET)
    }))

  it.effect("beside nodes or sentinels REDIS_URL gives access only", () =>
    Effect.gen(function*() {
      const url = `rediss://user:${SECRET}@elsewhere:1`
      const cluster = yield* load({ REDIS_URL: url, REDIS_CLUSTER_NODES: "a:7000" })
      assert.strictEqual(RedisConfig.target(cluster), "rediss+cluster://a:7000")
      assert.deepStrictEqual(cluster.username, Option.some("user"))
      assert.strictEqual(reveal(cluster.password), SECRET)
      const sentinel = yield* load({ REDIS_URL: `${url}/4`, REDIS_SENTINELS: "a", REDIS_SENTINEL_MASTER: "m" })
      assert.strictEqual(RedisConfig.target(sentinel), "rediss+sentinel://a:26379/m/4")
      assert.isTrue(Option.isNone(Option.getOrThrow(sentinel.sentinels).password))
    }))

  const misfits: ReadonlyArray<readonly [variable: string, env: Record<string, string>]> = [
    ["REDIS_SENTINELS", { REDIS_CLUSTER_NODES: "a", REDIS_SENTINELS: "b", REDIS_SENTINEL_MASTER: "m" }],
    ["REDIS_SENTINEL_MASTER", { REDIS_SENTINELS: "b" }],
    ["REDIS_SENTINEL_MASTER", { REDIS_SENTINEL_MASTER: "m" }],
    ["REDIS_SENTINEL_PASSWORD", { REDIS_CLUSTER_NODES: "a", REDIS_SENTINEL_PASSWORD: SECRET }],
    ["REDIS_SENTINEL_TLS", { REDIS_SENTINEL_TLS: "true" }],
    ["REDIS_DB", { REDIS_CLUSTER_NODES: "a", REDIS_DB: "1" }],
    ["REDIS_URL", { REDIS_CLUSTER_NODES: "a", REDIS_URL: `redis://:${SECRET}@b/1` }],
    ["REDIS_HOST", { REDIS_CLUSTER_NODES: "a", REDIS_HOST: "b" }],
    ["REDIS_PORT", { REDIS_SENTINELS: "a", REDIS_SENTINEL_MASTER: "m", REDIS_PORT: "1" }]
  ]
  for (const [variable, env] of misfits) {
    it.effect(`${Object.keys(env).join(" and ")} can't be used together`, () =>
      Effect.gen(function*() {
        const error = yield* Effect.flip(load(env))
        assert.include(String(error), variable)
        assert.notInclude(texts(error), SECRET)
      }))
  }

  const bad: ReadonlyArray<readonly [variable: string, value: string, expected: string]> = [
    ["REDIS_URL", "localhost:6379", "redis://"],
    ["REDIS_URL", "http://localhost", "redis://"],
    ["REDIS_URL", "redis://localhost/first", "redis://"],
    ["REDIS_URL", "redis://localhost:99999", "redis://"],
    ["REDIS_URL", "redis://localhost:0", "redis://"],
    ["REDIS_URL", "redis://a:%zz@localhost", "redis://"],
    ["REDIS_PORT", "0", "1 to 65535"],
    ["REDIS_PORT", "65536", "1 to 65535"],
    ["REDIS_PORT", "6379x", "1 to 65535"],
    ["REDIS_PORT", "-1", "1 to 65535"],
    ["REDIS_DB", "-1", "zero or more"],
    ["REDIS_DB", "one", "zero or more"],
    ["REDIS_DB", "1.5", "zero or more"],
    ["REDIS_TLS", "maybe", "true or false"],
    ["REDIS_READY_CHECK", "2", "true or false"],
    ["REDIS_LAZY_CONNECT", "never", "true or false"],
    ["REDIS_CONNECT_TIMEOUT", "soon", "duration"],
    ["REDIS_CONNECT_TIMEOUT", "0", "duration"],
    ["REDIS_COMMAND_TIMEOUT", "-5", "duration"],
    ["REDIS_COMMAND_TIMEOUT", "100 days", "duration"],
    ["REDIS_CLUSTER_NODES", "a:b", "host:port"],
    ["REDIS_CLUSTER_NODES", "a:70000", "host:port"],
    ["REDIS_CLUSTER_NODES", "a,,b", "host:port"],
    ["REDIS_CLUSTER_NODES", "redis://a:1", "host:port"],
    ["REDIS_SENTINELS", "::1:26379", "host:port"],
    ["REDIS_SENTINEL_TLS", "maybe", "true or false"],
    ["REDIS_NAME", "two words", "without spaces"]
  ]
  for (const [variable, value, expected] of bad) {
    it.effect(`${variable}=${value} fails with its name and what was expected`, () =>
      Effect.gen(function*() {
        const error = yield* Effect.flip(load({ [variable]: value }))
        assert.include(String(error), variable)
        assert.include(String(error), expected)
      }))
  }

  it.effect("a bad value that may hold a secret is not repeated", () =>
    Effect.gen(function*() {
      const error = yield* Effect.flip(load({ REDIS_URL: `http://user:${SECRET}@localhost` }))
      assert.notInclude(texts(error), SECRET)
    }))

  it.effect("is a Config like any other", () =>
    Effect.gen(function*() {
      const config = yield* Effect.withConfigProvider(
        Config.map(RedisConfig.config, ({ port }) => port),
        ConfigProvider.fromMap(new Map([["REDIS_PORT", "1234"]]))
      )
      assert.strictEqual(config, 1234)
    }))
})

describe("options", () => {
  const refused: ReadonlyArray<readonly [field: string, options: object, expected: string]> = [
    ["port", { port: 0 }, "1 to 65535"],
    ["port", { port: 1.5 }, "1 to 65535"],
    ["port", { port: "6379" }, "1 to 65535"],
    ["host", { host: " " }, "host"],
    ["db", { db: -1 }, "zero or more"],
    ["connectTimeout", { connectTimeout: 0 }, "duration"],
    ["commandTimeout", { commandTimeout: "soon" }, "duration"],
    ["commandTimeout", { commandTimeout: Infinity }, "duration"],
    ["name", { name: "two words" }, "without spaces"],
    ["retry", { retry: 3 }, "Schedule"],
    ["clusterNodes", { clusterNodes: [] }, "at least one"],
    ["clusterNodes.1.port", { clusterNodes: [{ host: "a" }, { host: "b", port: 0 }] }, "1 to 65535"],
    ["sentinels.0.host", { sentinels: [{ host: "" }], sentinelMaster: "m" }, "host"],
    ["sentinels", { sentinels: [{ host: "a" }], sentinelMaster: "m", clusterNodes: [{ host: "b" }] }, "Cluster"],
    ["sentinelMaster", { sentinels: [{ host: "a" }] }, "given"],
    ["sentinelMaster", { sentinels: [{ host: "a" }], sentinelMaster: " " }, "master"],
    ["sentinelUsername", { sentinelUsername: "a" }, "no sentinels"],
    ["db", { clusterNodes: [{ host: "a" }], db: 1 }, "0"],
    ["url", { clusterNodes: [{ host: "a" }], url: Redacted.make("redis://b/1") }, "without a database"],
    ["host", { clusterNodes: [{ host: "a" }], host: "b" }, "left out"],
    ["port", { sentinels: [{ host: "a" }], sentinelMaster: "m", port: 1 }, "left out"],
    ["hots", { hots: "localhost" }, "no such option"],
    ["url", { url: Redacted.make("http://localhost") }, "redis://"]
  ]
  for (const [field, options, expected] of refused) {
    it(`refuse ${JSON.stringify(options)} by the field's name`, () => {
      const result = RedisConfig.make(options)
      assert(Either.isLeft(result))
      assert.strictEqual(result.left.field, field)
      assert.include(result.left.message, expected)
    })
  }

  it("never repeat a secret", () => {
    const attempts = [
      { url: Redacted.make(`http://user:${SECRET}@localhost`) },
      // Not redacted, by mistake.
      JSON.parse(JSON.stringify({ url: `redis://user:${SECRET}@localhost` })),
      JSON.parse(JSON.stringify({ password: SECRET })),
      JSON.parse(JSON.stringify({ sentinelPassword: SECRET }))
    ]
    for (const options of attempts) {
      const result = RedisConfig.make(options)
      assert(Either.isLeft(result))
      assert.notInclude(texts(result.left), SECRET)
      assert.notInclude(result.left.message, SECRET)
    }
  })

  it("take durations in every form", () => {
    for (const commandTimeout of ["2 seconds", 2000, Duration.seconds(2)] as const) {
      const config = Either.getOrThrow(RedisConfig.make({ commandTimeout }))
      assert.strictEqual(Duration.toMillis(config.commandTimeout), 2000)
    }
  })

  it("take the details of TLS, unless the URL says that there is none", () => {
    const tls = { servername: "redis.internal", rejectUnauthorized: false }
    const config = Either.getOrThrow(RedisConfig.make({ tls }))
    assert.deepStrictEqual(config.tls, Option.some(tls))
    const url = Either.getOrThrow(RedisConfig.make({ tls, url: Redacted.make("rediss://a") }))
    assert.deepStrictEqual(url.tls, Option.some(tls))
    const plain = Either.getOrThrow(RedisConfig.make({ tls, url: Redacted.make("redis://a") }))
    assert.isTrue(Option.isNone(plain.tls))
  })

  it("keep a schedule", () => {
    const retry = Schedule.recurs(1)
    assert.strictEqual(Either.getOrThrow(RedisConfig.make({ retry })).retry, retry)
  })

  it("are a Schema", () => {
    const decoded = Schema.decodeUnknownSync(RedisConfig.Options)({ port: 1234, commandTimeout: "1 second" })
    assert.strictEqual(decoded.port, 1234)
  })
})
