import { assert, describe, it, layer } from "@effect/vitest"
import { Effect, Exit, Fiber, Scope } from "effect"
import * as Leftovers from "./leftovers.js"
import * as RealSentinel from "./RealSentinel.js"
import * as RealServer from "./RealServer.js"

const { RealSentinel: Sentinels } = RealSentinel

const roleOf = (server: RealServer.Server) =>
  Effect.map(server.cli("ROLE"), (role) => Array.isArray(role) ? role[0] : role)

/** The ports that the sentinels name. */
const named = (set: RealSentinel.SentinelSet) =>
  Effect.forEach(set.sentinels, (sentinel) =>
    Effect.map(
      sentinel.cli("SENTINEL", "GET-MASTER-ADDR-BY-NAME", set.masterName),
      (address) => Number(Array.isArray(address) ? address[1] : undefined)
    ))

layer(RealSentinel.layer, { excludeTestServices: true })("a Sentinel set", (it) => {
  it.effect("has a master, two replicas, and three sentinels that know them", () =>
    Effect.gen(function*() {
      const set = yield* Sentinels
      const master = yield* set.master
      const replicas = yield* set.replicas
      assert.match(set.version, /^(redis|valkey) \d+\./)
      assert.sameMembers([master, ...replicas], [...set.servers])
      assert.deepStrictEqual(yield* named(set), [master.port, master.port, master.port])
      assert.strictEqual(yield* roleOf(master), "master")
      assert.deepStrictEqual(yield* RealServer.talk(master.url, [["SET", "a", "1"], ["WAIT", "2", "5000"]]), ["OK", 2])
      for (const replica of replicas) assert.strictEqual(yield* replica.cli("GET", "a"), "1")
      for (const sentinel of set.sentinels) {
        assert.include(String(yield* sentinel.cli("SENTINEL", "CKQUORUM", set.masterName)), "OK 3 usable Sentinels")
      }
    }))

  it.effect("fails over while all are up", () =>
    Effect.gen(function*() {
      const set = yield* Sentinels
      const old = yield* set.master
      const master = yield* set.failover
      assert.notStrictEqual(master, old)
      assert.strictEqual(yield* set.master, master)
      assert.deepStrictEqual(yield* named(set), [master.port, master.port, master.port])
      assert.strictEqual(yield* roleOf(master), "master")
      assert.strictEqual(yield* roleOf(old), "slave")
    }))

  it.effect("replaces a master that dies, which is a replica when it comes back", () =>
    Effect.gen(function*() {
      const set = yield* Sentinels
      const old = yield* set.master
      const master = yield* set.killMaster
      assert.notStrictEqual(master, old)
      assert.deepStrictEqual(yield* named(set), [master.port, master.port, master.port])
      assert.strictEqual(yield* master.cli("SET", "a", "2"), "OK")
      yield* old.restart
      yield* set.awaitOk
      assert.strictEqual(yield* roleOf(old), "slave")
      assert.strictEqual(yield* old.cli("GET", "a"), "2")
    }))

  it.effect("replaces a master that is frozen", () =>
    Effect.gen(function*() {
      const set = yield* Sentinels
      const old = yield* set.master
      yield* old.pause
      yield* set.awaitOk
      assert.notStrictEqual(yield* set.master, old)
      yield* old.resume
      yield* set.awaitOk
      assert.strictEqual(yield* roleOf(old), "slave")
    }))

  it.effect("does so without one sentinel, which learns it later", () =>
    Effect.gen(function*() {
      const set = yield* Sentinels
      const [dead, frozen] = set.sentinels
      yield* dead!.kill
      yield* set.awaitOk
      const old = yield* set.master
      const master = yield* set.killMaster
      yield* old.restart
      yield* dead!.restart
      yield* set.awaitOk
      assert.deepStrictEqual(yield* named(set), [master.port, master.port, master.port])
      yield* frozen!.pause
      const next = yield* set.failover
      yield* frozen!.resume
      yield* set.awaitOk
      assert.deepStrictEqual(yield* named(set), [next.port, next.port, next.port])
    }))
})

describe("a Sentinel set of one's own", () => {
  it.scopedLive("may have passwords", () =>
    Effect.gen(function*() {
      const set = yield* RealSentinel.start({
        password: "p@ss:/word",
        sentinelPassword: "s@ss:/word",
        args: ["--maxmemory", "50mb"]
      })
      for (const { host, port } of [...set.servers, ...set.sentinels]) {
        const { message } = yield* Effect.flip(RealServer.talk(`redis://${host}:${port}`, [["PING"]]))
        assert.include(message, "NOAUTH")
      }
      const old = yield* set.master
      assert.deepStrictEqual(yield* old.cli("CONFIG", "GET", "maxmemory"), ["maxmemory", `${50 * 1024 * 1024}`])
      const master = yield* set.failover
      assert.notStrictEqual(master, old)
      yield* set.sentinels[0]!.restart
      yield* master.restart
      yield* set.awaitOk
    }))

  it.scopedLive("is gone with its scope, also with dead and frozen processes", () =>
    Effect.gen(function*() {
      const left = yield* Leftovers.watch
      const scope = yield* Scope.make()
      const set = yield* Scope.extend(RealSentinel.start(), scope)
      assert.lengthOf((yield* left).folders, 6)
      yield* set.servers[0]!.kill
      yield* set.servers[1]!.pause
      yield* set.sentinels[0]!.kill
      yield* set.sentinels[1]!.pause
      yield* Scope.close(scope, Exit.void)
      assert.deepStrictEqual(yield* left, { folders: [], processes: [] })
    }))

  it.scopedLive("leaves nothing when its start fails or is interrupted", () =>
    Effect.gen(function*() {
      const left = yield* Leftovers.watch
      const failed = Effect.scoped(RealSentinel.start({ args: ["--no-such-option", "1"] }))
      assert.include((yield* Effect.flip(failed)).message, "did not start")
      assert.deepStrictEqual(yield* left, { folders: [], processes: [] })

      for (const count of [1, 5]) {
        const fiber = yield* Effect.fork(Effect.scoped(RealSentinel.start()))
        yield* RealServer.until("nothing starts", left, ({ folders }) => folders.length >= count, String)
        yield* Fiber.interrupt(fiber)
        assert.deepStrictEqual(yield* left, { folders: [], processes: [] })
      }
    }))
})
