import { assert, describe, it, layer } from "@effect/vitest"
import { Effect, Exit, Fiber, Scope } from "effect"
import * as Leftovers from "./leftovers.js"
import * as RealCluster from "./RealCluster.js"
import * as RealServer from "./RealServer.js"

const { RealCluster: Cluster } = RealCluster

/** What a command was refused with. */
const refusal = (node: RealCluster.Node, ...command: ReadonlyArray<string>) =>
  Effect.map(Effect.flip(node.cli(...command)), ({ message }) => message)

const other = (cluster: RealCluster.Cluster, than: RealCluster.Node) =>
  Effect.map(cluster.masters, (masters) => masters.find((master) => master !== than)!)

const roleOf = (node: RealCluster.Node) => Effect.map(node.cli("ROLE"), (role) => Array.isArray(role) ? role[0] : role)

/** Written, and known to a replica. */
const write = (node: RealCluster.Node, key: string, value: string) =>
  Effect.map(
    RealServer.talk(node.url, [["SET", key, value], ["WAIT", "1", "5000"]]),
    (replies) => assert.deepStrictEqual(replies, ["OK", 1])
  )

/** A key of a slot that this master has. */
const keyOf = (cluster: RealCluster.Cluster, master: RealCluster.Node) =>
  Effect.flatten(Effect.findFirst(
    Array.from({ length: 100 }, (_, index) => `key:${index}`),
    (key) => Effect.map(cluster.masterOf(key), (node) => node === master)
  ))

layer(RealCluster.layer, { excludeTestServices: true })("a cluster", (it) => {
  it.effect("has three masters with a replica each, and serves keys on every master", () =>
    Effect.gen(function*() {
      const cluster = yield* Cluster
      assert.lengthOf(cluster.nodes, 6)
      assert.match(cluster.version, /^(redis|valkey) \d+\./)
      const masters = yield* cluster.masters
      assert.lengthOf(masters, 3)
      assert.sameMembers([...masters, ...yield* cluster.replicas], [...cluster.nodes])
      for (const master of masters) {
        const replicas = yield* cluster.replicasOf(master)
        assert.lengthOf(replicas, 1)
        assert.strictEqual(yield* roleOf(replicas[0]!), "slave")
      }
      const used = new Set<RealCluster.Node>()
      for (const key of Array.from({ length: 20 }, (_, index) => `key:${index}`)) {
        const master = yield* cluster.masterOf(key)
        used.add(master)
        yield* write(master, key, "1")
        const refused = yield* refusal(yield* other(cluster, master), "GET", key)
        assert.match(refused, new RegExp(`MOVED \\d+ ${master.host}:${master.port}$`))
      }
      assert.sameMembers([...used], [...masters])
      assert.strictEqual(yield* cluster.masterOf(0), cluster.nodes[0])
    }))

  it.effect("moves a slot with its keys", () =>
    Effect.gen(function*() {
      const cluster = yield* Cluster
      const from = yield* cluster.masterOf("{moved}")
      const to = yield* other(cluster, from)
      const keys = Array.from({ length: 250 }, (_, index) => `{moved}:${index}`)
      yield* RealServer.talk(from.url, keys.map((key) => ["SET", key, key]))
      yield* cluster.moveSlot("{moved}", to)
      assert.strictEqual(yield* cluster.masterOf("{moved}"), to)
      assert.deepStrictEqual(yield* RealServer.talk(to.url, keys.map((key) => ["GET", key])), keys)
      assert.include(yield* refusal(from, "GET", keys[0]!), `${to.host}:${to.port}`)
      for (const node of yield* cluster.replicas) assert.include(yield* refusal(node, "GET", keys[0]!), "MOVED")
      yield* cluster.moveSlot("{moved}", from)
      assert.strictEqual(yield* from.cli("GET", keys[0]!), keys[0])
    }))

  it.effect("can stand in the middle of a migration", () =>
    Effect.gen(function*() {
      const cluster = yield* Cluster
      const from = yield* cluster.masterOf("{t}")
      const to = yield* other(cluster, from)
      yield* RealServer.talk(from.url, [["SET", "{t}a", "a"], ["SET", "{t}b", "b"]])
      const migration = yield* cluster.beginMigration("{t}", to)
      assert.strictEqual(yield* from.cli("GET", "{t}a"), "a")
      const ask = new RegExp(`ASK ${migration.slot} ${to.host}:${to.port}$`)
      assert.match(yield* refusal(from, "GET", "{t}new"), ask)

      assert.strictEqual(yield* migration.migrateKeys(1), 1)
      assert.match(yield* refusal(from, "MGET", "{t}a", "{t}b"), /TRYAGAIN|ASK/)
      const asked = yield* Effect.either(RealServer.talk(to.url, [["ASKING"], ["MGET", "{t}a", "{t}b"]]))
      assert.include(String(asked), "TRYAGAIN")
      assert.include(yield* refusal(to, "GET", "{t}a"), "MOVED")

      assert.strictEqual(yield* migration.migrateKeys(10), 1)
      assert.strictEqual(yield* migration.migrateKeys(10), 0)
      assert.match(yield* refusal(from, "GET", "{t}a"), ask)
      assert.deepStrictEqual(yield* RealServer.talk(to.url, [["ASKING"], ["GET", "{t}a"]]), ["OK", "a"])
      yield* migration.end
      assert.strictEqual(yield* to.cli("GET", "{t}b"), "b")
      assert.include(yield* refusal(from, "GET", "{t}a"), "MOVED")
    }))

  it.effect("fails over while both are up", () =>
    Effect.gen(function*() {
      const cluster = yield* Cluster
      const master = yield* cluster.masterOf(0)
      const [replica] = yield* cluster.replicasOf(master)
      assert.strictEqual(yield* cluster.failover(0), replica)
      assert.strictEqual(yield* cluster.masterOf(0), replica)
      assert.strictEqual(yield* roleOf(master), "slave")
      assert.deepStrictEqual(yield* cluster.replicasOf(replica!), [master])
    }))

  it.effect("survives the death of a master", () =>
    Effect.gen(function*() {
      const cluster = yield* Cluster
      const master = yield* cluster.masterOf(8000)
      const [replica] = yield* cluster.replicasOf(master)
      const key = yield* keyOf(cluster, master)
      yield* write(master, key, "kept")
      yield* master.kill
      assert.isFalse(yield* master.running)
      yield* cluster.awaitOk
      assert.strictEqual(yield* cluster.masterOf(8000), replica)
      assert.strictEqual(yield* replica!.cli("GET", key), "kept")
      yield* master.restart
      yield* cluster.awaitOk
      assert.deepStrictEqual(yield* cluster.replicasOf(replica!), [master])
    }))

  it.effect("replaces a frozen master, which follows when it is back", () =>
    Effect.gen(function*() {
      const cluster = yield* Cluster
      const master = yield* cluster.masterOf(16383)
      const [replica] = yield* cluster.replicasOf(master)
      yield* master.pause
      yield* cluster.awaitOk
      assert.strictEqual(yield* cluster.masterOf(16383), replica)
      yield* master.resume
      yield* cluster.awaitOk
      assert.strictEqual(yield* roleOf(master), "slave")
    }))

  it.effect("is down without some slots, until they are back", () =>
    Effect.gen(function*() {
      const cluster = yield* Cluster
      const owners = yield* Effect.forEach([5000, 6000], cluster.masterOf)
      const key = yield* keyOf(cluster, owners[0]!)
      yield* owners[0]!.cli("SET", key, "kept")
      yield* cluster.dropSlots(5000, 6000)
      for (const node of yield* cluster.masters) assert.include(yield* refusal(node, "GET", key), "CLUSTERDOWN")
      assert.include((yield* Effect.flip(cluster.masterOf(5500))).message, "no master has slot 5500")
      yield* cluster.coverSlots
      assert.strictEqual(yield* owners[0]!.cli("GET", key), "kept")
      assert.deepStrictEqual(yield* Effect.forEach([5000, 6000], cluster.masterOf), owners)
    }))
})

describe("a cluster of one's own", () => {
  it.scopedLive("may have a password and no replicas, and serve the slots that are covered", () =>
    Effect.gen(function*() {
      const cluster = yield* RealCluster.start({
        masters: 2,
        replicasPerMaster: 0,
        password: "p@ss:/word",
        requireFullCoverage: false,
        args: ["--maxmemory", "50mb"]
      })
      assert.lengthOf(cluster.urls, 2)
      const [first, second] = cluster.nodes
      assert.strictEqual(yield* cluster.masterOf(8191), first)
      assert.strictEqual(yield* cluster.masterOf(8192), second)
      assert.deepStrictEqual(yield* first!.cli("CONFIG", "GET", "maxmemory"), ["maxmemory", `${50 * 1024 * 1024}`])
      assert.include(
        (yield* Effect.flip(RealServer.talk(`redis://${first!.host}:${first!.port}`, [["PING"]]))).message,
        "NOAUTH"
      )

      const owner = yield* cluster.masterOf("a")
      const to = yield* other(cluster, owner)
      yield* owner.cli("SET", "a", "1")
      yield* cluster.moveSlot("a", to)
      assert.strictEqual(yield* to.cli("GET", "a"), "1")

      yield* cluster.dropSlots(0, 99)
      assert.strictEqual(yield* to.cli("GET", "a"), "1")
      assert.include((yield* Effect.flip(cluster.masterOf(99))).message, "no master has slot 99")
      assert.strictEqual(yield* cluster.masterOf(100), first)
      yield* cluster.coverSlots
      assert.strictEqual(yield* cluster.masterOf(99), first)
      assert.include((yield* Effect.flip(cluster.failover(first!))).message, "no running replica")
    }))

  it.scopedLive("is gone with its scope, also with dead and frozen nodes", () =>
    Effect.gen(function*() {
      const left = yield* Leftovers.watch
      const scope = yield* Scope.make()
      const cluster = yield* Scope.extend(RealCluster.start(), scope)
      assert.lengthOf((yield* left).folders, 6)
      yield* cluster.nodes[0]!.kill
      yield* cluster.nodes[1]!.pause
      yield* Scope.close(scope, Exit.void)
      assert.deepStrictEqual(yield* left, { folders: [], processes: [] })
    }))

  it.scopedLive("leaves nothing when its start fails or is interrupted", () =>
    Effect.gen(function*() {
      const left = yield* Leftovers.watch
      const failed = Effect.scoped(RealCluster.start({ args: ["--rename-command", "CLUSTER", ""] }))
      assert.include((yield* Effect.flip(failed)).message, "CLUSTER")
      assert.deepStrictEqual(yield* left, { folders: [], processes: [] })

      for (const [what, count] of [["folders", 2], ["processes", 12]] as const) {
        const fiber = yield* Effect.fork(Effect.scoped(RealCluster.start()))
        yield* RealServer.until("nothing starts", left, (there) => there[what].length >= count, String)
        yield* Fiber.interrupt(fiber)
        assert.deepStrictEqual(yield* left, { folders: [], processes: [] })
      }
    }))

  it.scopedLive("says what is wrong when it does not get well", () =>
    Effect.gen(function*() {
      const cluster = yield* RealCluster.start({ masters: 1, replicasPerMaster: 1, patience: 8 })
      yield* cluster.masters.pipe(Effect.flatMap(([master]) => master!.kill))
      // One master of one can't be voted out.
      const { message } = yield* Effect.flip(cluster.awaitOk)
      assert.include(message, "the cluster is not up: not within 8 s.")
      assert.match(message, /127\.0\.0\.1:\d+ not running; 127\.0\.0\.1:\d+ slave, state fail, .*master,fail/)
    }))
})
