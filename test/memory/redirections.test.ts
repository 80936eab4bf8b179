/**
 * What a server says when it is not the one to ask, or not yet: the texts of a real one are those of the faults.
 */
import { assert, describe, it } from "@effect/vitest"
import { Effect, Layer } from "effect"
import { hashSlot } from "../../src/internal/slot.js"
import { RedisClient } from "../../src/RedisClient.js"
import { Fault, layerWith, RedisTestServer } from "../../src/RedisTestServer.js"
import * as RealCluster from "../kit/RealCluster.js"
import * as RealServer from "../kit/RealServer.js"

/** The error that a server of the in-memory kind gives to a command. */
const ours = (fault: Fault) =>
  Effect.gen(function*() {
    yield* Effect.flatMap(RedisTestServer, ({ inject }) => inject(fault))
    const error = yield* Effect.flip(Effect.flatMap(RedisClient, (client) => client.send("GET", "key")))
    assert.strictEqual(error._tag, "RedisReplyError")
    return error._tag === "RedisReplyError" ? error.reply : ""
  }).pipe(Effect.provide(Layer.fresh(layerWith())), Effect.scoped)

/** The error that a real server gives to the first command that it refuses. */
const theirs = (url: string, ...commands: ReadonlyArray<ReadonlyArray<string>>) =>
  Effect.match(RealServer.talk(url, commands), {
    onFailure: ({ message }) => message.replace(/^[^:]*: /, ""),
    onSuccess: () => ""
  })

describe("a Cluster", () => {
  it.scoped("sends away, asks elsewhere and asks to try again in the words of the faults", () =>
    Effect.gen(function*() {
      const cluster = yield* RealCluster.start({ replicasPerMaster: 0 })
      const slot = hashSlot("{a}1")
      const from = yield* cluster.masterOf(slot)
      const to = (yield* cluster.masters).find(({ id }) => id !== from.id)!
      const at = `${to.host}:${to.port}`

      assert.strictEqual(
        yield* theirs(to.url, ["GET", "{a}1"]),
        yield* ours(Fault.moved({ slot, to: `${from.host}:${from.port}` }))
      )

      yield* RealServer.talk(from.url, [["MSET", "{a}1", "1", "{a}2", "2"]])
      const migration = yield* cluster.beginMigration(slot, to)
      yield* migration.migrateKeys(1)
      const here = (yield* RealServer.talk(from.url, [["CLUSTER", "GETKEYSINSLOT", String(slot), "10"]]))[0]
      const gone = String(here).includes("{a}1") ? "{a}2" : "{a}1"
      assert.strictEqual(yield* theirs(from.url, ["GET", gone]), yield* ours(Fault.ask({ slot, to: at })))
      assert.strictEqual(yield* theirs(from.url, ["MGET", "{a}1", "{a}2"]), yield* ours(Fault.tryAgain()))
      assert.strictEqual(
        yield* theirs(to.url, ["ASKING"], ["MGET", "{a}1", "{a}2"]),
        yield* ours(Fault.tryAgain())
      )
      yield* migration.end
    }))

  it.scoped("that has lost a master is down in the words of the fault", () =>
    Effect.gen(function*() {
      const cluster = yield* RealCluster.start({ replicasPerMaster: 0, requireFullCoverage: true })
      const [first] = yield* cluster.masters
      yield* cluster.dropSlots(0, 100)
      const text = yield* RealServer.until(
        "the node knows",
        theirs(first!.url, ["GET", "{a}1"]),
        (text) => text.startsWith("CLUSTERDOWN"),
        (text) => text
      )
      assert.strictEqual(text, yield* ours(Fault.clusterDown()))
    }))
})

describe("a server", () => {
  it.scoped("that loads, or runs a script for long, says so in the words of the faults", () =>
    Effect.gen(function*() {
      const server = yield* RealServer.start({
        appendonly: true,
        args: [
          "--key-load-delay",
          "2000",
          "--loading-process-events-interval-bytes",
          "1024",
          "--busy-reply-threshold",
          "1"
        ]
      })
      yield* RealServer.talk(server.url, [
        ["EVAL", "for i = 1, 5000 do redis.call('SET', 'key:' .. i, string.rep('x', 100)) end", "0"]
      ])
      // It runs until it is killed, so nobody waits for it.
      yield* Effect.forkScoped(Effect.ignore(RealServer.talk(server.url, [["EVAL", "while true do end", "0"]])))
      const busy = yield* RealServer.until(
        "the script is long",
        theirs(server.url, ["GET", "key"]),
        (text) => text !== "",
        (text) => text
      )
      assert.strictEqual(busy, yield* ours(Fault.busy()))
      yield* RealServer.talk(server.url, [["SCRIPT", "KILL"]])
      // The script ends some instructions after the reply to the order.
      const unknown = yield* RealServer.until(
        "the script is dead",
        theirs(server.url, ["EVALSHA", "0000000000000000000000000000000000000000", "0"]),
        (text) => text !== busy,
        (text) => text
      )
      assert.strictEqual(unknown, yield* ours(Fault.noScript({ command: "GET" })))

      yield* server.kill
      yield* Effect.forkScoped(Effect.ignore(server.restart))
      const loading = yield* RealServer.until(
        "the server is there",
        theirs(server.url, ["GET", "key"]),
        (text) => text.startsWith("LOADING"),
        (text) => text
      )
      assert.strictEqual(loading, yield* ours(Fault.loading()))
    }))
})
