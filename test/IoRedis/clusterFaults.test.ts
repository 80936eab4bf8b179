import { assert, layer as withLayer } from "@effect/vitest"
import { Array as Arr, Duration, Effect, Exit, Fiber, Option, Scope, Stream } from "effect"
import { hashSlot } from "../../src/internal/slot.js"
import { readSlots } from "../../src/ioredis/Cluster.js"
import type { Service } from "../../src/RedisClient.js"
import { clusterOptions } from "../kit/layers.js"
import * as RealCluster from "../kit/RealCluster.js"
import {
  assertExact,
  assertNothingTwice,
  connectTo,
  counter,
  increments,
  type Tally,
  unknowns,
  untilHeard
} from "./failover.js"
import { eventually, outcome, unique } from "./support.js"

const { RealCluster: Servers } = RealCluster

const connect = (options: Parameters<typeof connectTo>[0] = {}) =>
  Effect.flatMap(Servers, (servers) => connectTo({ ...clusterOptions(servers), ...options }))

const spread = (count: number) => Arr.makeBy(count, () => unique("spread"))

/** A channel of the same slot as this one, and one that is served by another master. */
const otherMaster = (key: string) =>
  Effect.gen(function*() {
    const { masterOf } = yield* Servers
    const master = yield* masterOf(key)
    while (true) {
      const other = unique("other")
      if ((yield* masterOf(other)).id !== master.id) return other
    }
  })

/** Waits until another server has the slot of the key. */
const awaitOther = (cluster: RealCluster.Cluster, key: string, old: RealCluster.Node) =>
  eventually(Effect.gen(function*() {
    const [node] = yield* Effect.filter(
      cluster.nodes,
      (node) => Effect.map(node.running, (running) => running && node.id !== old.id)
    )
    const slots = node === undefined ? [] : yield* node.cli("CLUSTER", "SLOTS")
    const slot = hashSlot(key)
    const owner = readSlots(slots, old)?.ranges.find(([first, last]) => first <= slot && slot <= last)?.[2]
    return owner === undefined || owner.port === old.port ? yield* Effect.fail("not yet") : owner
  }))

const status = (client: Service) => Effect.map(Stream.runHead(client.state), (state) => Option.getOrThrow(state).status)

/** All of it is told in time, and the client is as good as new. */
const assertRecovered = (client: Service, tally: Tally, deadline: number) =>
  Effect.gen(function*() {
    assert.strictEqual(tally.ok + unknowns(tally) + tally.failed.length, tally.issued)
    assert.isAtMost(tally.slowest, deadline + 3000)
    for (const error of tally.failed) {
      assert.include(["RedisConnectionError", "RedisReplyError"], error._tag, error.message)
    }
    for (const key of tally.values.keys()) yield* client.incr(key)
    yield* eventually(Effect.filterOrFail(status(client), (status) => status === "connected"))
    yield* eventually(Effect.filterOrFail(client.health, (health) => health.healthy))
  })

withLayer(RealCluster.layer, { excludeTestServices: true, timeout: "60 seconds" })("a Cluster", (it) => {
  it.scoped(
    "whose master is killed answers everybody, executes nothing twice, and comes back",
    () =>
      Effect.gen(function*() {
        const cluster = yield* Servers
        const client = yield* connect({ commandTimeout: "15 seconds" })
        const keys = spread(50)
        const key = keys[0]
        const master = yield* cluster.masterOf(key)
        const shard = yield* client.subscribe({ shardChannels: [`{${key}}:shard`] })
        const unhurt = yield* otherMaster(key)
        const calm = yield* client.subscribe({ shardChannels: [unhurt] })
        // One connection for all, at whatever node, and some of them at the one that is lost.
        const clients = yield* Effect.forEach(Arr.range(1, 6), () => connect())
        const plain = yield* Effect.forEach(clients, (client) => client.subscribe({ channels: [key] }))
        const during = Effect.zipRight(master.kill, awaitOther(cluster, key, master))
        const tally = yield* increments(client, { total: 1000, keys, workers: 20, during })
        // Within the time of a command somebody took over, so nothing had to fail that was not sent.
        assert.deepStrictEqual(tally.failed, [])
        assert.isAbove(tally.slowest, 300)
        yield* assertNothingTwice(client, tally)
        yield* assertRecovered(client, tally, 15_000)
        // No script was ever sent to the new master.
        assert.isAbove(yield* client.eval(counter, key), 0)
        assert.deepStrictEqual(
          yield* untilHeard(shard, client.spublish(`{${key}}:shard`, "back"), "back"),
          ["disconnected"]
        )
        assert.deepStrictEqual(yield* untilHeard(calm, client.spublish(unhurt, "back"), "back"), [])
        const gaps = yield* Effect.forEach(plain, (queue) => untilHeard(queue, client.publish(key, "back"), "back"))
        for (const seen of gaps) {
          assert.include(["", "disconnected"], seen.filter((element) => element !== "back").join())
        }
        yield* master.restart
        yield* cluster.awaitOk
      }),
    60_000
  )

  it.scoped("whose master hands over loses nothing", () =>
    Effect.gen(function*() {
      const cluster = yield* Servers
      const client = yield* connect()
      const keys = spread(50)
      const master = yield* cluster.masterOf(keys[0])
      const shard = yield* client.subscribe({ shardChannels: [keys[0]] })
      const reserved = yield* client.reserve({ key: keys[0] })
      const tally = yield* increments(client, { total: 1000, keys, workers: 20, during: cluster.failover(master) })
      assert.deepStrictEqual(tally.failed, [])
      assert.strictEqual(unknowns(tally), 0)
      yield* assertExact(client, tally)
      yield* assertRecovered(client, tally, 5000)
      assert.deepStrictEqual(yield* untilHeard(shard, client.spublish(keys[0], "back"), "back"), ["disconnected"])
      // It stays where it was, and says so.
      const error = yield* Effect.flip(reserved.get(keys[0]))
      assert.strictEqual(error._tag === "RedisReplyError" && error.code, "MOVED")
      const again = yield* client.reserve({ key: keys[0] })
      assert.isTrue(Option.isSome(yield* again.get(keys[0])))
    }), 60_000)

  it.scoped(
    "whose master stops answering does so for nobody longer than a command may take",
    () =>
      Effect.gen(function*() {
        const cluster = yield* Servers
        const client = yield* connect({ commandTimeout: "3 seconds", connectTimeout: "2 seconds" })
        const keys = spread(50)
        const key = keys[0]
        const master = yield* cluster.masterOf(key)
        const shard = yield* client.subscribe({ shardChannels: [key] })
        yield* Effect.addFinalizer(() => Effect.ignore(master.resume))
        const during = Effect.zipRight(master.pause, awaitOther(cluster, key, master))
        const tally = yield* increments(client, { total: 1000, keys, workers: 20, during })
        assert.isAbove(unknowns(tally), 0)
        yield* eventually(client.incr(key))
        yield* assertNothingTwice(client, tally)
        assert.deepStrictEqual(yield* untilHeard(shard, client.spublish(key, "back"), "back"), ["disconnected"])
        yield* assertRecovered(client, tally, 3000)
        yield* master.resume
        yield* cluster.awaitOk
        // Nothing that was sent before runs now.
        yield* client.del(key)
        assert.strictEqual(yield* client.incr(key), 1)
      }),
    60_000
  )

  it.scoped("whose master is away makes callers wait, and lets them go", () =>
    Effect.gen(function*() {
      const cluster = yield* Servers
      const scope = yield* Scope.make()
      const client = yield* Scope.extend(connect({ commandTimeout: "10 seconds" }), scope)
      const keys = spread(30)
      const key = keys[0]
      const master = yield* cluster.masterOf(key)
      yield* client.mset(keys.map((key) => [key, 0] as const))
      yield* master.kill
      yield* Effect.sleep(50)
      // Of what waits for the new master, half is interrupted.
      const waiting = yield* Effect.forEach(Arr.range(1, 100), () => Effect.fork(client.incr(key)))
      const others = yield* Effect.forEach(
        [
          client.pipeline(keys.map((key) => ["INCR", key] as const)),
          client.transaction([["INCR", key], ["INCR", key]]),
          client.eval(counter, key),
          Effect.scoped(client.reserve({ key })),
          Effect.scoped(client.subscribe({ shardChannels: [key] }))
        ],
        (effect) => Effect.fork<unknown, unknown, never>(effect)
      )
      yield* Effect.sleep(100)
      const [took] = yield* Effect.timed(Fiber.interruptAll([...waiting.slice(50), ...others]))
      assert.isBelow(Duration.toMillis(took), 3000)
      const values = yield* Effect.forEach(waiting.slice(0, 50), Fiber.join)
      assert.deepStrictEqual(values.sort((a, b) => a - b), Arr.range(1, 50))
      assert.strictEqual(Option.getOrNull(yield* client.get(key)), "50")
      yield* master.restart
      yield* cluster.awaitOk
      // The end of the scope does not wait for a failover.
      const next = yield* cluster.masterOf(key)
      yield* next.pause
      const stuck = yield* Effect.forEach(Arr.range(1, 10), () => Effect.fork(outcome(client.incr(key))))
      yield* Effect.sleep(50)
      const [closing] = yield* Effect.timed(Scope.close(scope, Exit.void))
      assert.isBelow(Duration.toMillis(closing), 5000)
      for (const fiber of stuck) assert.include(["RedisOutcomeUnknownError"], yield* Fiber.join(fiber))
      yield* next.resume
      yield* cluster.awaitOk
    }), 60_000)

  it.scoped("without a master and a replica fails in time, and for its own slots only", () =>
    Effect.gen(function*() {
      const small = yield* RealCluster.start({ masters: 3, replicasPerMaster: 0, requireFullCoverage: false })
      const client = yield* connectTo({ ...clusterOptions(small), commandTimeout: "700 millis" })
      const keys = spread(60)
      yield* client.mset(keys.map((key) => [key, 1] as const))
      const key = keys[0]
      const master = yield* small.masterOf(key)
      const lost: Array<string> = []
      for (const key of keys) if ((yield* small.masterOf(key)).id === master.id) lost.push(key)
      yield* master.kill
      yield* Effect.sleep(50)
      const check = (codes: ReadonlyArray<string>) =>
        Effect.forEach(keys, (key) =>
          Effect.gen(function*() {
            const [took, result] = yield* Effect.timed(outcome(client.send("INCR", key)))
            assert.isBelow(Duration.toMillis(took), 4000)
            if (lost.includes(key)) assert.include(codes, result)
            else assert.strictEqual(result, "ok", key)
          }), { concurrency: "unbounded", discard: true })
      yield* check(["RedisConnectionError", "RedisReplyError"])
      yield* eventually(Effect.filterOrFail(client.health, (health) => !health.healthy))
      assert.notStrictEqual(yield* status(client), "connected")
      // Parts of it were done.
      const split = yield* Effect.flip(client.touch(...keys))
      assert.strictEqual(split._tag === "RedisOutcomeUnknownError" && split.reason, "partial")
      const pipeline = yield* outcome(client.pipeline(keys.map((key) => ["INCR", key] as const)))
      assert.include(["RedisOutcomeUnknownError", "ok"], pipeline)
      assert.include(["RedisConnectionError", "RedisReplyError"], yield* outcome(Stream.runDrain(client.scan())))
      yield* master.restart
      yield* small.awaitOk
      yield* eventually(client.incr(key))
      yield* eventually(Effect.filterOrFail(status(client), (status) => status === "connected"))
      assert.isTrue((yield* client.health).healthy)
    }), 60_000)

  it.scoped("with slots that nobody has fails for these, and comes back by itself", () =>
    Effect.gen(function*() {
      const small = yield* RealCluster.start({ masters: 3, replicasPerMaster: 0, requireFullCoverage: false })
      const client = yield* connectTo({ ...clusterOptions(small), commandTimeout: "600 millis" })
      const keys = spread(60)
      yield* client.mset(keys.map((key) => [key, 1] as const))
      yield* small.dropSlots(0, 8191)
      const served = (key: string) => client.slot(key) > 8191
      assert.isTrue(keys.some(served) && !keys.every(served))
      yield* Effect.forEach(keys, (key) =>
        Effect.gen(function*() {
          const [took, result] = yield* Effect.timed(Effect.either(client.incr(key)))
          assert.isBelow(Duration.toMillis(took), 4000)
          if (served(key)) return assert.strictEqual(result._tag, "Right", key)
          const code = result._tag === "Left" && result.left._tag === "RedisReplyError" ? result.left.code : result._tag
          assert.strictEqual(code, "CLUSTERDOWN")
        }), { concurrency: "unbounded", discard: true })
      const replies = yield* client.pipeline(keys.map((key) => ["GET", key] as const))
      replies.forEach((reply, i) => assert.strictEqual(reply._tag, served(keys[i]!) ? "Right" : "Left"))
      const health = yield* client.health
      assert.isFalse(health.healthy)
      assert.include(Option.getOrThrow(health.error).message, "CLUSTERDOWN")
      const waiting = yield* Effect.fork(
        Effect.forEach(keys, (key) => eventually(client.get(key)), { concurrency: "unbounded" })
      )
      yield* small.coverSlots
      for (const value of yield* Fiber.join(waiting)) assert.isTrue(Option.isSome(value))
      yield* eventually(Effect.filterOrFail(client.health, (health) => health.healthy))
    }), 60_000)
})
