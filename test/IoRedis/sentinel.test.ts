import { assert, layer as withLayer } from "@effect/vitest"
import { Array as Arr, Duration, Effect, Exit, Fiber, Option, Redacted, Scope, Stream } from "effect"
import { Redis } from "ioredis"
import { clientOptions, fromClient } from "../../src/IoRedis.js"
import type { RedisError } from "../../src/RedisError.js"
import { sentinelOptions } from "../kit/layers.js"
import * as RealSentinel from "../kit/RealSentinel.js"
import * as RealServer from "../kit/RealServer.js"
import { assertExact, assertNothingTwice, connectTo, counter, increments, unknowns, untilHeard } from "./failover.js"
import { eventually, mute, outcome, unique } from "./support.js"

const { RealSentinel: Servers } = RealSentinel

const connect = (options: Parameters<typeof connectTo>[0] = {}) =>
  Effect.flatMap(Servers, (servers) => connectTo({ ...sentinelOptions(servers), ...options }))

const failure = <A, R>(effect: Effect.Effect<A, RedisError, R | Scope.Scope>) => Effect.flip(Effect.scoped(effect))

withLayer(RealSentinel.layer, { excludeTestServices: true, timeout: "60 seconds" })("Sentinel", (it) => {
  it.scoped("names the master, also when some sentinels are away or hang", () =>
    Effect.gen(function*() {
      const { masterName, sentinels } = yield* Servers
      const [{ host, port } = { host: "", port: 0 }] = sentinels
      const closed = { host: "127.0.0.1", port: yield* RealServer.freePort }
      const client = yield* connectTo({
        sentinels: [closed, yield* mute, { host, port }],
        sentinelMaster: masterName,
        connectTimeout: "4 seconds"
      })
      assert.strictEqual(client.mode, "sentinel")
      assert.include(client.target, `/${masterName}/0`)
      assert.strictEqual((yield* client.send("ROLE") as Effect.Effect<any, RedisError>)[0], "master")
      const health = yield* client.health
      assert.isTrue(health.healthy)
    }))

  it.scoped("can be those of a client that somebody else owns", () =>
    Effect.gen(function*() {
      const { failover, masterName, sentinels } = yield* Servers
      const redis = yield* Effect.acquireRelease(
        Effect.sync(() =>
          new Redis({
            sentinels: sentinels.map(({ host, port }) => ({ host, port })),
            name: masterName,
            lazyConnect: true,
            ...clientOptions
          }).on("error", () => {})
        ),
        (redis) => Effect.sync(() => redis.disconnect())
      )
      const client = yield* fromClient(redis)
      assert.strictEqual(client.mode, "sentinel")
      assert.include(client.target, `/${masterName}/0`)
      const key = unique("owned")
      assert.strictEqual(yield* client.incr(key), 1)
      const queue = yield* client.subscribe({ channels: [key] })
      yield* failover
      assert.isAbove(yield* eventually(client.incr(key)), 1)
      assert.deepStrictEqual(yield* untilHeard(queue, client.publish(key, "back"), "back"), ["disconnected"])
    }))

  it.scoped("that can't be asked is a typed error in time", () =>
    Effect.gen(function*() {
      const { masterName, sentinels } = yield* Servers
      const closed = { host: "127.0.0.1", port: yield* RealServer.freePort }
      const refused = yield* failure(connectTo({ sentinels: [closed], sentinelMaster: masterName }))
      assert(refused._tag === "RedisConnectionError")
      assert.strictEqual(refused.reason, "connect")
      assert.include(refused.detail, "no sentinel answered")
      const silent = yield* mute
      const [took, late] = yield* Effect.timed(failure(connectTo({
        sentinels: [silent, silent],
        sentinelMaster: masterName,
        connectTimeout: "500 millis"
      })))
      assert(late._tag === "RedisConnectionError")
      assert.isBelow(Duration.toMillis(took), 4000)
      const unknown = yield* failure(connect({ sentinelMaster: "nobody" }))
      assert(unknown._tag === "RedisConnectionError")
      assert.strictEqual(unknown.detail, "the sentinels know no master called \"nobody\"")
      // Lazily, it is what the first command fails with.
      const lazy = yield* connectTo({
        sentinels: sentinels.map(({ host, port }) => ({ host, port })),
        sentinelMaster: "nobody",
        lazyConnect: true,
        commandTimeout: "400 millis"
      })
      const error = yield* Effect.flip(lazy.get("key"))
      assert(error._tag === "RedisConnectionError")
      assert.include(error.detail, "nobody")
    }))

  it.scoped("and its servers have passwords of their own", () =>
    Effect.gen(function*() {
      const set = yield* RealSentinel.start({ password: "of-the-servers", sentinelPassword: "of-the-sentinels" })
      const options = { ...sentinelOptions(set), connectTimeout: "3 seconds" } as const
      const server = Redacted.make("of-the-servers")
      const sentinel = Redacted.make("of-the-sentinels")
      for (
        const wrong of [
          { password: server },
          { password: server, sentinelPassword: Redacted.make("wrong") },
          { sentinelPassword: sentinel },
          { password: Redacted.make("wrong"), sentinelPassword: sentinel }
        ]
      ) {
        const error = yield* failure(connectTo({ ...options, ...wrong }))
        assert(error._tag === "RedisConnectionError")
        assert.strictEqual(error.reason, "auth", error.detail)
        assert.notInclude(error.message, "of-the")
      }
      const client = yield* connectTo({ ...options, password: server, sentinelPassword: sentinel, db: 2 })
      yield* client.set("key", "x")
      const direct = yield* (yield* set.master).cli("DBSIZE")
      assert.strictEqual(direct, 0)
    }), 60_000)

  it.scoped("makes another server the master, and no increment is lost or runs twice", () =>
    Effect.gen(function*() {
      const { failover } = yield* Servers
      const client = yield* connect()
      const keys = Arr.makeBy(50, () => unique("handed"))
      const queue = yield* client.subscribe({ channels: [keys[0]] })
      const shard = yield* client.subscribe({ shardChannels: [keys[0]] })
      const reserved = yield* client.reserve()
      const blocked = yield* Effect.fork(Effect.either(reserved.blpop([unique("list")], "1 minute")))
      const tally = yield* increments(client, { total: 1000, keys, workers: 20, during: failover })
      yield* eventually(client.incr(unique("again")))
      assert.isAtMost(tally.slowest, 8000)
      // For a moment the old master refuses writes, which is not an unknown outcome, or takes what it then loses.
      for (const error of tally.failed) {
        assert.include(
          ["READONLY", "unavailable", "UNBLOCKED"],
          error._tag === "RedisReplyError"
            ? error.code
            : error._tag === "RedisConnectionError"
            ? error.reason
            : error._tag
        )
      }
      yield* assertNothingTwice(client, tally)
      assert.isAbove(yield* client.eval(counter, keys[0]), 0)
      assert.deepStrictEqual(yield* untilHeard(queue, client.publish(keys[0], "back"), "back"), ["disconnected"])
      assert.deepStrictEqual(yield* untilHeard(shard, client.spublish(keys[0], "back"), "back"), ["disconnected"])
      // It was connected to a master that is none any more.
      assert.strictEqual((yield* Fiber.join(blocked))._tag, "Left")
      const next = yield* client.reserve()
      assert.strictEqual((yield* next.send("ROLE") as Effect.Effect<any, RedisError>)[0], "master")
    }), 60_000)

  it.scoped(
    "finds a new master when the old one is killed; everybody is answered, nothing runs twice",
    () =>
      Effect.gen(function*() {
        const { awaitOk, killMaster, master } = yield* Servers
        const client = yield* connect()
        const old = yield* master
        const keys = Arr.makeBy(50, () => unique("killed"))
        const queue = yield* client.subscribe({ channels: [keys[0]] })
        const shard = yield* client.subscribe({ shardChannels: [keys[0]] })
        const tally = yield* increments(client, { total: 1000, keys, workers: 20, during: killMaster })
        // It went on while there was no master.
        assert.isAbove(tally.slowest, 300)
        assert.isAtMost(tally.slowest, 8000)
        assert.strictEqual(tally.ok + unknowns(tally) + tally.failed.length, tally.issued)
        for (const error of tally.failed) assert.include(["RedisConnectionError", "RedisReplyError"], error._tag)
        yield* eventually(client.incr(unique("again")))
        yield* assertNothingTwice(client, tally)
        assert.isAbove(yield* client.eval(counter, keys[0]), 0)
        assert.deepStrictEqual(yield* untilHeard(queue, client.publish(keys[0], "back"), "back"), ["disconnected"])
        assert.deepStrictEqual(yield* untilHeard(shard, client.spublish(keys[0], "back"), "back"), ["disconnected"])
        assert.strictEqual(Option.getOrThrow(yield* Stream.runHead(client.state)).status, "connected")
        yield* old.restart
        yield* awaitOk
      }),
    60_000
  )

  it.scoped(
    "finds a new master when the old one hangs",
    () =>
      Effect.gen(function*() {
        const { awaitOk, master } = yield* Servers
        yield* awaitOk
        const client = yield* connect({ commandTimeout: "3 seconds" })
        const old = yield* master
        yield* Effect.addFinalizer(() => Effect.ignore(old.resume))
        const keys = Arr.makeBy(50, () => unique("paused"))
        const queue = yield* client.subscribe({ channels: [keys[0]] })
        const other = eventually(Effect.filterOrFail(master, ({ port }) => port !== old.port))
        const during = Effect.zipRight(old.pause, other)
        const tally = yield* increments(client, { total: 1000, keys, workers: 20, during })
        assert.isAbove(unknowns(tally), 0)
        assert.isAtMost(tally.slowest, 6000)
        yield* eventually(client.incr(unique("again")))
        assert.notStrictEqual((yield* master).port, old.port)
        yield* assertNothingTwice(client, tally)
        assert.deepStrictEqual(yield* untilHeard(queue, client.publish(keys[0], "back"), "back"), ["disconnected"])
        yield* old.resume
        yield* awaitOk
        // It is a replica now, and nobody talks to it.
        const settled = yield* increments(client, { total: 200, keys: [unique("settled")], workers: 10 })
        assert.deepStrictEqual(settled.failed, [])
        yield* assertExact(client, settled)
      }),
    60_000
  )

  it.scoped("lets go of callers who wait for it, and of a client that is closed", () =>
    Effect.gen(function*() {
      const { awaitOk, master, sentinels } = yield* Servers
      yield* awaitOk
      const scope = yield* Scope.make()
      const client = yield* Scope.extend(connect({ commandTimeout: "20 seconds" }), scope)
      const key = unique("waits")
      const old = yield* master
      // Without sentinels nobody is named.
      for (const sentinel of sentinels) yield* sentinel.pause
      yield* Effect.addFinalizer(() => Effect.forEach(sentinels, (sentinel) => Effect.ignore(sentinel.resume)))
      yield* old.kill
      yield* Effect.sleep(50)
      const waiting = yield* Effect.forEach(Arr.range(1, 20), () => Effect.fork(outcome(client.incr(key))))
      yield* Effect.sleep(100)
      const [took] = yield* Effect.timed(Fiber.interruptAll(waiting.slice(10)))
      assert.isBelow(Duration.toMillis(took), 3000)
      const [closing] = yield* Effect.timed(Scope.close(scope, Exit.void))
      assert.isBelow(Duration.toMillis(closing), 5000)
      for (const fiber of waiting.slice(0, 10)) assert.strictEqual(yield* Fiber.join(fiber), "RedisConnectionError")
      yield* old.restart
      for (const sentinel of sentinels) yield* sentinel.resume
      yield* awaitOk
      const again = yield* connect()
      assert.strictEqual(yield* again.incr(key), 1)
    }), 60_000)
})
