/**
 * Invalidations of a Cluster while its slots and masters change.
 */
import { assert, describe, it } from "@effect/vitest"
import { Effect, Exit, Fiber, type Scope, Scope as Scopes } from "effect"
import * as IoRedis from "../../src/IoRedis.js"
import type { Service } from "../../src/RedisClient.js"
import * as RedisConfig from "../../src/RedisConfig.js"
import type { RedisError } from "../../src/RedisError.js"
import { clusterOptions } from "../kit/layers.js"
import * as RealCluster from "../kit/RealCluster.js"
import * as Mirror from "./mirror.js"
import { eventually } from "./support.js"

const connect = (
  cluster: RealCluster.Cluster,
  options: RedisConfig.Options = {}
): Effect.Effect<Service, RedisError, Scope.Scope> =>
  Effect.flatMap(
    RedisConfig.make({ ...clusterOptions(cluster), keyPrefix: "app:", commandTimeout: "1 second", ...options }),
    IoRedis.make
  )

const trackers = (cluster: RealCluster.Cluster) =>
  Effect.map(
    Effect.flatMap(cluster.masters, Effect.forEach((master) => master.cli("CLIENT", "LIST"))),
    (lists) => lists.map((list) => String(list).split("\n").filter((line) => /flags=\w*tB/.test(line)).length)
  )

describe("invalidations of a Cluster", () => {
  it.scopedLive("come from every master, over one connection each", () =>
    Effect.gen(function*() {
      const cluster = yield* RealCluster.start({ replicasPerMaster: 0 })
      const scope = yield* Scopes.make()
      // Nothing else makes it read the map.
      const client = yield* connect(cluster, { lazyConnect: true })
      const writer = yield* connect(cluster)
      const mirror = yield* Scopes.extend(Mirror.make(client, ""), scope)
      const other = yield* Scopes.extend(Mirror.make(client, "key:"), scope)
      yield* mirror.armed
      yield* other.armed
      for (let i = 0; i < 200; i++) {
        const key = `key:${i}`
        yield* other.write(key, mirror.write(key, writer.set(key, "x")))
      }
      yield* mirror.settle
      yield* other.settle
      assert.deepStrictEqual([mirror.checked(), other.checked(), mirror.losses()], [200, 200, 0])
      yield* eventually(Effect.map(trackers(cluster), (counts) => assert.deepStrictEqual(counts, [1, 1, 1])))
      // The keys of a client whose prefix has a hash tag are on one of them.
      const tagged = yield* connect(cluster, { keyPrefix: "{tag}:" })
      const one = yield* Scopes.extend(Mirror.make(tagged, ""), scope)
      yield* one.armed
      yield* one.write("a", tagged.set("a", "x"))
      yield* one.settle
      assert.strictEqual(one.checked(), 1)
      yield* eventually(Effect.map(trackers(cluster), (counts) => assert.deepStrictEqual(counts.toSorted(), [1, 1, 2])))
      yield* Scopes.close(scope, Exit.void)
      yield* eventually(Effect.map(trackers(cluster), (counts) => assert.deepStrictEqual(counts, [0, 0, 0])))
    }), 60_000)

  it.scopedLive("are proved by another slot when that of the probes is on its way", () =>
    Effect.gen(function*() {
      const cluster = yield* RealCluster.start({ replicasPerMaster: 0 })
      const client = yield* connect(cluster)
      const mirror = yield* Mirror.make(client, "")
      yield* mirror.armed
      // The first numbers in braces that a server has are the names of its probes.
      const from = yield* cluster.masterOf("{0}")
      const to = (yield* cluster.masters).find((master) => master.id !== from.id)!
      const migration = yield* cluster.beginMigration("{0}", to)
      yield* eventually(Effect.suspend(() => mirror.losses() === 1 ? Effect.void : Effect.fail("not yet")))
      yield* mirror.armed
      for (let i = 0; i < 100; i++) yield* mirror.write(`${i}`, client.set(`${i}`, "x"))
      yield* mirror.settle
      assert.strictEqual(mirror.checked(), 100)
      assert.strictEqual(mirror.losses(), 1)
      yield* migration.end
    }), 60_000)

  it.scopedLive("miss nothing while slots and masters change", () =>
    Effect.gen(function*() {
      const cluster = yield* RealCluster.start()
      const client = yield* connect(cluster)
      const writer = yield* connect(cluster, { commandTimeout: "5 seconds" })
      const mirror = yield* Mirror.make(client, "k:")
      yield* mirror.armed
      let writes = 0
      const writing = Effect.forever(Effect.gen(function*() {
        const key = `k:${++writes}`
        yield* mirror.write(key, writer.set(key, "x", { ttl: "1 minute" }))
        if (writes % 10 === 0) yield* Effect.sleep("1 millis")
      }))
      const during = <E>(change: Effect.Effect<unknown, E>) =>
        Effect.gen(function*() {
          const fibers = yield* Effect.replicateEffect(Effect.fork(writing), 3)
          yield* Effect.sleep("100 millis")
          yield* change
          yield* Effect.sleep("100 millis")
          yield* Fiber.interruptAll(fibers)
          yield* mirror.settle
          yield* mirror.armed
        })
      const [first] = yield* cluster.masters
      for (let i = 0; i < 5; i++) {
        yield* during(Effect.flatMap(cluster.masterOf(`app:k:${i}`), (from) =>
          Effect.flatMap(cluster.masters, (masters) =>
            cluster.moveSlot(
              `app:k:${i}`,
              masters.find((master) =>
                master.id !== from.id
              )!
            ))))
      }
      yield* during(cluster.failover(first!))
      assert.isAbove(mirror.losses(), 0)
      const losses = mirror.losses()
      const [killed] = yield* cluster.masters
      yield* during(Effect.zipRight(killed!.kill, cluster.awaitOk))
      assert.isAbove(mirror.losses(), losses)
      yield* during(Effect.zipRight(killed!.restart, cluster.awaitOk))
      yield* during(Effect.void)
      assert.isAbove(mirror.checked(), 100)
    }), 120_000)
})
