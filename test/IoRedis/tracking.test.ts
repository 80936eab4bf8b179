/**
 * Invalidations on a live server when things go wrong.
 */
import { assert, describe, it } from "@effect/vitest"
import { Effect, Exit, Fiber, Option, Queue, Random, Scope, Stream } from "effect"
import { Redis } from "ioredis"
import * as Net from "node:net"
import * as Invalidations from "../../src/internal/invalidations.js"
import { hashSlot } from "../../src/internal/slot.js"
import * as IoRedis from "../../src/IoRedis.js"
import { makeExecutor } from "../../src/ioredis/executor.js"
import { Link } from "../../src/ioredis/Link.js"
import type { Node, Topology } from "../../src/ioredis/Topology.js"
import { makeTracker } from "../../src/ioredis/Tracking.js"
import {
  Armed,
  Down,
  type DriverExecutor,
  Invalidated,
  InvalidatedAll,
  type Invalidation,
  type Service
} from "../../src/RedisClient.js"
import * as RealServer from "../kit/RealServer.js"
import * as Mirror from "./mirror.js"
import { connect, connectionsNamed, eventually, proxied, serverUrl, unique } from "./support.js"

const run = <E>(stream: Stream.Stream<Invalidation, E>) =>
  Effect.gen(function*() {
    const queue = yield* Queue.unbounded<Invalidation>()
    yield* Effect.forkScoped(Stream.runForEach(stream, (said) => queue.offer(said)))
    return queue
  })

const listen = (client: Service, ...prefixes: ReadonlyArray<string>) => run(client.invalidations(prefixes))

/** Passes over everything until it is told this. */
const untilTag = (queue: Queue.Dequeue<Invalidation>, tag: Invalidation["_tag"]): Effect.Effect<void> =>
  Effect.flatMap(Queue.take(queue), (said) => said._tag === tag ? Effect.void : untilTag(queue, tag))

/** It is armed now: a write of somebody else is told, and no loss before it. */
const isTold = (
  queue: Queue.Dequeue<Invalidation>,
  write: (key: string) => Effect.Effect<unknown, unknown>,
  prefix = ""
) =>
  Effect.gen(function*() {
    const key = `${prefix}${unique("told")}`
    yield* Effect.orDie(write(key))
    while (true) {
      const said = yield* Queue.take(queue)
      if (said._tag === "Invalidated" && said.keys.includes(key)) return
      assert.notStrictEqual(said._tag, "Down")
    }
  })

const idsNamed = (client: Service, name: string) =>
  Effect.map(
    connectionsNamed(client, name),
    (lines) => lines.filter((line) => /flags=\w*tB/.test(line)).map((line) => /id=(\d+)/.exec(line)![1]!)
  )

/** Passes bytes on, and can put another connection to the server in the place of one, of which the client sees nothing. */
const swapper = (server: { readonly host: string; readonly port: number }) =>
  Effect.map(
    Effect.acquireRelease(
      Effect.async<{ readonly listener: Net.Server; readonly swap: () => void }>((resume) => {
        const swaps = new Set<() => void>()
        const listener = Net.createServer((client) => {
          let upstream: Net.Socket
          const open = () => {
            const opened = upstream = Net.connect(server.port, server.host)
            opened.on("data", (chunk) => client.write(chunk))
            opened.on("error", () => {})
            opened.on("close", () => opened === upstream && client.destroy())
          }
          const swap = () => {
            const old = upstream
            open()
            old.destroy()
          }
          open()
          swaps.add(swap)
          client.on("data", (chunk) => upstream.write(chunk))
          client.on("error", () => {})
          client.on("close", () => {
            swaps.delete(swap)
            upstream.destroy()
          })
        })
        listener.listen(0, "127.0.0.1", () =>
          resume(Effect.succeed({
            listener,
            swap: () => swaps.forEach((swap) => swap())
          })))
      }),
      ({ listener }) => Effect.sync(() => listener.close())
    ),
    ({ listener, swap }) => {
      const address = listener.address()
      return { swap: Effect.sync(swap), port: typeof address === "object" && address !== null ? address.port : 0 }
    }
  )

describe("invalidations", () => {
  it.scopedLive("a killed connection is told at once, and is another one when it is armed again", () =>
    Effect.gen(function*() {
      const name = unique("killed")
      // No heartbeat comes in the time of this test.
      const client = yield* connect({ name, keyPrefix: `${name}:`, commandTimeout: "10 minutes" })
      const direct = yield* connect()
      const queue = yield* listen(client, "")
      yield* untilTag(queue, "Armed")
      for (let i = 0; i < 4; i++) {
        const [id] = yield* idsNamed(direct, name)
        assert.strictEqual(yield* direct.send("CLIENT", "KILL", "ID", String(id)), 1)
        assert.strictEqual((yield* Queue.take(queue))._tag, "Down")
        assert.strictEqual((yield* Queue.take(queue))._tag, "Armed")
        yield* isTold(queue, (key) => direct.send("SET", client.key(key), "x", "PX", 1000))
        const ids = yield* idsNamed(direct, name)
        assert.lengthOf(ids, 1)
        assert.notInclude(ids, id)
      }
    }))

  it.scopedLive("a frozen server is a loss, and so is one that is killed", () =>
    Effect.gen(function*() {
      const server = yield* RealServer.start()
      const client = yield* connect({ url: server.url, commandTimeout: "500 millis", connectTimeout: "500 millis" })
      const queue = yield* listen(client, "")
      yield* untilTag(queue, "Armed")
      for (let i = 0; i < 3; i++) {
        yield* server.pause
        yield* untilTag(queue, "Down")
        assert.strictEqual(yield* Queue.size(queue), 0)
        yield* server.resume
        yield* untilTag(queue, "Armed")
        yield* isTold(queue, (key) => server.cli("SET", key, "x"))
        yield* server.kill
        yield* untilTag(queue, "Down")
        yield* server.restart
        yield* untilTag(queue, "Armed")
        yield* isTold(queue, (key) => server.cli("SET", key, "x"))
        // So quickly that no heartbeat falls between: what it knew of us is gone with it.
        yield* server.restart
        yield* untilTag(queue, "Down")
        yield* untilTag(queue, "Armed")
        yield* isTold(queue, (key) => server.cli("SET", key, "x"))
      }
    }))

  for (const direction of ["requests", "replies", "both"] as const) {
    it.scopedLive(`a network that swallows ${direction} is a loss`, () =>
      Effect.gen(function*() {
        const proxy = yield* proxied
        const direct = yield* connect()
        const client = yield* connect({
          url: proxy.url,
          keyPrefix: `${unique("swallowed")}:`,
          commandTimeout: "500 millis",
          connectTimeout: "500 millis"
        })
        const queue = yield* listen(client, "a")
        yield* untilTag(queue, "Armed")
        yield* proxy.stall(direction)
        yield* untilTag(queue, "Down")
        yield* proxy.resume
        yield* untilTag(queue, "Armed")
        yield* isTold(queue, (key) => direct.send("SET", client.key(key), "x", "PX", 1000), "a")
      }))
  }

  it.scopedLive("a connection that lives while its tracking is lost is found by the next heartbeat", () =>
    Effect.gen(function*() {
      const url = new URL(serverUrl())
      const proxy = yield* swapper({ host: url.hostname, port: Number(url.port) })
      url.port = String(proxy.port)
      url.hostname = "127.0.0.1"
      const client = yield* connect({
        url: url.toString(),
        keyPrefix: `${unique("swapped")}:`,
        commandTimeout: "500 millis"
      })
      const direct = yield* connect()
      const queue = yield* listen(client, "")
      for (let i = 0; i < 3; i++) {
        yield* untilTag(queue, "Armed")
        yield* isTold(queue, (key) => direct.send("SET", client.key(key), "x", "PX", 1000))
        yield* proxy.swap
        yield* untilTag(queue, "Down")
      }
    }))

  it.scopedLive("a server that is not there yet is waited for", () =>
    Effect.gen(function*() {
      const server = yield* RealServer.start()
      yield* server.kill
      const client = yield* connect({ url: server.url, lazyConnect: true, commandTimeout: "300 millis" })
      const queue = yield* listen(client, "")
      yield* Effect.sleep("600 millis")
      assert.strictEqual(yield* Queue.size(queue), 0)
      yield* server.restart
      assert.strictEqual((yield* Queue.take(queue))._tag, "Armed")
      yield* isTold(queue, (key) => server.cli("SET", key, "x"))
    }))

  for (
    const [what, rules, command] of [
      ["CLIENT", ["~*", "&*", "+@all", "-client"], "CLIENT"],
      ["CLIENT TRACKING", ["~*", "&*", "+@all", "-client|tracking"], "CLIENT"],
      ["the channel", ["~*", "resetchannels", "+@all"], "subscribe"],
      ["scripts", ["~*", "&*", "+@all", "-eval"], "EVAL"],
      ["the keys", ["~other:*", "&*", "+@all"], "EVAL"]
    ] as const
  ) {
    it.scopedLive(`a user who may not use ${what} is told so`, () =>
      Effect.gen(function*() {
        const server = yield* RealServer.start()
        yield* server.cli("ACL", "SETUSER", "limited", "on", ">pass", ...rules)
        const url = new URL(server.url)
        url.username = "limited"
        url.password = "pass"
        const client = yield* connect({ url: url.toString() })
        const error = yield* Effect.flip(Stream.runDrain(client.invalidations([""])))
        assert(error._tag === "RedisReplyError")
        assert.strictEqual(error.code, "NOPERM")
        assert.strictEqual(error.command, command)
        assert.lengthOf(String(yield* server.cli("CLIENT", "LIST", "TYPE", "pubsub")), 0)
      }))
  }

  it.scopedLive("a server without any memory left is no reason to stop", () =>
    Effect.gen(function*() {
      const server = yield* RealServer.start()
      const client = yield* connect({ url: server.url, commandTimeout: "300 millis" })
      yield* server.cli("SET", "a", "x")
      yield* server.cli("CONFIG", "SET", "maxmemory", "1")
      const queue = yield* listen(client, "")
      assert.strictEqual((yield* Queue.take(queue))._tag, "Armed")
      // Several heartbeats.
      yield* Effect.sleep("1 second")
      assert.strictEqual(yield* Queue.size(queue), 0)
      assert.strictEqual(yield* client.send("DEL", "a"), 1)
      const said = yield* Queue.take(queue)
      assert.deepStrictEqual(said._tag === "Invalidated" ? said.keys : said._tag, ["a"])
    }))

  it.scopedLive("all streams of a client share one connection, which ends with the last of them", () =>
    Effect.gen(function*() {
      const name = unique("share")
      const client = yield* connect({ name, keyPrefix: `${name}:` })
      const direct = yield* connect()
      const soon = (count: number) =>
        eventually(Effect.filterOrFail(idsNamed(direct, name), (ids) => ids.length === count))
      yield* Effect.scoped(Effect.gen(function*() {
        for (const prefixes of [["a"], ["a"], ["ab"], ["c", "d"], [""]]) {
          yield* untilTag(yield* listen(client, ...prefixes), "Armed")
        }
        yield* soon(1)
      }))
      yield* soon(0)
      // One that comes back while the connection without it is being made: the first is not kept beside it.
      yield* Effect.scoped(Effect.gen(function*() {
        const queue = yield* listen(client, "a")
        for (let i = 0; i < 20; i++) {
          const fiber = yield* Effect.fork(Stream.runDrain(client.invalidations(["b"])))
          yield* Effect.sleep(i % 10)
          yield* Fiber.interrupt(fiber)
        }
        yield* untilTag(queue, "Armed")
        yield* soon(1)
        assert.strictEqual(yield* Queue.size(queue), 0)
      }))
      yield* soon(0)
    }))

  it.scopedLive("interrupting at any moment leaves no connection and no key", () =>
    Effect.gen(function*() {
      const name = unique("interrupted")
      const client = yield* connect({ name, keyPrefix: `${name}:` })
      const direct = yield* connect()
      for (let i = 0; i < 40; i++) {
        const fiber = yield* Effect.fork(Stream.runDrain(client.invalidations([`${i % 2}`])))
        yield* Effect.sleep(i % 20)
        yield* Fiber.interrupt(fiber)
        // The end of a stream is also that of its connection.
        if (i % 10 === 9) {
          yield* eventually(Effect.filterOrFail(connectionsNamed(direct, name), (lines) => lines.length === 1))
        }
      }
      const reply = yield* direct.send("KEYS", `${name}:*`)
      assert.deepStrictEqual(reply, [])
    }))

  it.scopedLive("the end of the client leaves no connection, whatever goes on", () =>
    Effect.gen(function*() {
      const direct = yield* connect()
      const name = unique("closing")
      for (let i = 0; i < 10; i++) {
        const scope = yield* Scope.make()
        const client = yield* Scope.extend(connect({ name, keyPrefix: `${name}:` }), scope)
        const fibers = yield* Effect.forEach(["", "a", "b"], (prefix) =>
          Effect.forkDaemon(Stream.runDrain(client.invalidations([prefix]))))
        yield* Effect.sleep(i * 3)
        yield* Scope.close(scope, Exit.void)
        yield* Fiber.joinAll(fibers)
        yield* eventually(Effect.filterOrFail(connectionsNamed(direct, name), (lines) =>
          lines.length === 0))
      }
    }))

  it.scopedLive("work over a client of ioredis that somebody owns", () =>
    Effect.gen(function*() {
      const redis = yield* Effect.acquireRelease(
        Effect.sync(() => new Redis(serverUrl(), { lazyConnect: true, ...IoRedis.clientOptions })),
        (redis) => Effect.sync(() => redis.disconnect())
      )
      const client = yield* IoRedis.fromClient(redis, { keyPrefix: `${unique("owned")}:` })
      const direct = yield* connect()
      const queue = yield* listen(client, "")
      yield* untilTag(queue, "Armed")
      yield* isTold(queue, (key) => direct.send("SET", client.key(key), "x", "PX", 1000))
    }))

  it.scopedLive("miss nothing while they are armed, whatever happens", () =>
    Effect.gen(function*() {
      const server = yield* RealServer.start()
      const proxy = yield* swapper(server)
      const client = yield* connect({
        url: `redis://127.0.0.1:${proxy.port}`,
        keyPrefix: "app:",
        commandTimeout: "1 second",
        connectTimeout: "1 second"
      })
      const writers = yield* Effect.replicateEffect(connect({ url: server.url, commandTimeout: "10 seconds" }), 4)
      const mirror = yield* Mirror.make(client, "k:", { capacity: 500 })
      // Others come and go, so that what is tracked changes all the time.
      yield* Effect.forkScoped(Effect.forever(Effect.gen(function*() {
        const prefix = ["", "k:1", "other:"][yield* Random.nextIntBetween(0, 3)]!
        yield* Effect.ignore(Stream.runDrain(client.invalidations([prefix])).pipe(Effect.timeout("80 millis")))
      })))

      let writes = 0
      const commands: ReadonlyArray<(key: string) => ReadonlyArray<readonly [string, ...Array<string>]>> = [
        (key) => [["SET", key, "x", "PX", "60000"]],
        (key) => [["HSET", key, "f", "x"]],
        (key) => [["RPUSH", key, "x"]],
        (key) => [["SET", key, "x"], ["DEL", key]],
        (key) => [["MULTI"], ["INCR", key], ["EXEC"]],
        (key) => [["EVAL", "return redis.call('SADD', KEYS[1], 'x')", "1", key]]
      ]
      const write = (writer: Service) =>
        Effect.suspend(() => {
          const key = `k:${++writes}`
          const [first, ...rest] = commands[writes % commands.length]!(`app:${key}`)
          return mirror.write(
            key,
            first![0] === "MULTI" ? writer.transaction([rest[0]!]) : writer.pipeline([first!, ...rest])
          )
        })
      const faults: ReadonlyArray<Effect.Effect<unknown, unknown>> = [
        Effect.void,
        // It kills itself as well.
        Effect.ignore(server.cli("CLIENT", "KILL", "TYPE", "pubsub")),
        Effect.ignore(server.cli("CLIENT", "KILL", "TYPE", "normal")),
        proxy.swap,
        Effect.zipRight(server.pause, Effect.zipRight(Effect.sleep("700 millis"), server.resume)),
        Effect.zipRight(server.pause, Effect.zipRight(Effect.sleep("50 millis"), server.resume)),
        server.restart
      ]
      for (let round = 0; round * writers.length * 60 < 10_000; round++) {
        const fault = yield* Effect.fork(
          Effect.delay(faults[round % faults.length]!, yield* Random.nextIntBetween(0, 30))
        )
        yield* Effect.forEach(writers, (writer) => Effect.replicateEffect(write(writer), 60, { discard: true }), {
          concurrency: "unbounded",
          discard: true
        })
        yield* Fiber.join(fault)
        yield* mirror.settle
        yield* mirror.armed
      }
      assert.isAbove(mirror.losses(), 5)
      assert.isAbove(mirror.checked(), 1000)
    }), 120_000)
})

describe("several masters", () => {
  interface Master extends Node {
    readonly executor: DriverExecutor
    readonly server: RealServer.Server
    readonly keys: Array<string>
  }

  const timeout = 500

  const makeMaster = Effect.gen(function*() {
    const server = yield* RealServer.start()
    const open = (role: "shared" | "reserved") =>
      new Link({
        target: server.url,
        role,
        connectTimeout: timeout,
        commandTimeout: timeout,
        patient: role === "shared"
      }).own({ host: server.host, port: server.port })
    const shared = yield* Effect.acquireRelease(Effect.sync(() => open("shared")), (link) => link.close)
    const own = makeExecutor(shared, true)
    const keys: Array<string> = []
    const executor: DriverExecutor = {
      ...own,
      issue: (command) => {
        keys.push(String(command.args[2]))
        return own.issue(command)
      }
    }
    const master: Master = {
      id: server.url,
      open: (role) => open(role === "shared" ? role : "reserved"),
      executor,
      server,
      keys
    }
    return master
  })

  /** A topology that is changed by hand, and streams over it. */
  const make = (keyPrefix: string, masters: ReadonlyArray<Master>, owns?: (index: number, slot: number) => boolean) =>
    Effect.gen(function*() {
      let present = masters
      const listeners = new Set<() => void>()
      const topology: Topology = {
        masters: () => present,
        onChange: (listener) => {
          listeners.add(listener)
          return () => listeners.delete(listener)
        }
      }
      const invalidations = yield* Invalidations.make({
        tracker: makeTracker({
          topology,
          writer: (node) => {
            const index = masters.findIndex((master) => master.id === node.id)
            return {
              executor: masters[index]!.executor,
              ...(owns === undefined ? {} : { owns: (slot: number) => owns(index, slot) })
            }
          },
          open: (node) => Effect.sync(() => node.open("reserved")),
          close: (link) => link.close
        }),
        target: "several",
        keyPrefix,
        id: "test",
        timeout,
        elements: {
          armed: new Armed(),
          down: new Down(),
          all: new InvalidatedAll(),
          keys: (keys) => new Invalidated({ keys })
        }
      })
      return {
        invalidations,
        listeners,
        become: (others: ReadonlyArray<Master>) =>
          Effect.sync(() => {
            present = others
            for (const listener of listeners) listener()
          })
      }
    })

  const trackers = (master: Master) =>
    Effect.map(
      master.server.cli("CLIENT", "LIST"),
      (list) => String(list).split("\n").filter((line) => /flags=\w*tB/.test(line)).length
    )

  it.scopedLive("are one stream, which is armed while all of them are", () =>
    Effect.gen(function*() {
      const [a, b] = [yield* makeMaster, yield* makeMaster]
      const { become, invalidations, listeners } = yield* make("p:", [a, b])
      yield* become([a])
      assert.strictEqual(listeners.size, 0)
      const scope = yield* Scope.make()
      const queue = yield* Scope.extend(run(invalidations.stream(["p:x"], 1000)), scope)
      const tells = (master: Master) => isTold(queue, (key) => master.server.cli("SET", `p:${key}`, "x"), "x")
      assert.strictEqual((yield* Queue.take(queue))._tag, "Armed")
      yield* tells(a)

      // One that comes.
      yield* become([a, b])
      yield* untilTag(queue, "Down")
      assert.strictEqual((yield* Queue.take(queue))._tag, "Armed")
      yield* tells(a)
      yield* tells(b)

      // Nothing new.
      yield* become([a, b])
      yield* tells(b)
      assert.strictEqual(yield* Queue.size(queue), 0)

      // One that is lost.
      yield* b.server.kill
      yield* untilTag(queue, "Down")
      yield* a.server.cli("SET", "p:x-meanwhile", "x")
      yield* Effect.sleep("100 millis")
      assert.strictEqual(yield* Queue.size(queue), 0)
      yield* b.server.restart
      yield* untilTag(queue, "Armed")
      yield* tells(b)
      yield* tells(a)

      // One that goes.
      yield* become([b])
      yield* untilTag(queue, "Down")
      yield* untilTag(queue, "Armed")
      yield* tells(b)
      yield* eventually(Effect.filterOrFail(trackers(a), (count) => count === 0))

      // And all of them.
      yield* become([])
      yield* untilTag(queue, "Down")
      yield* become([a, b])
      yield* untilTag(queue, "Armed")
      yield* tells(a)

      yield* Scope.close(scope, Exit.void)
      assert.strictEqual(listeners.size, 0)
      for (const master of [a, b]) {
        yield* eventually(Effect.filterOrFail(trackers(master), (count) => count === 0))
      }
    }))

  it.scopedLive("are all there when it is armed, however they come and go", () =>
    Effect.gen(function*() {
      const [a, b] = [yield* makeMaster, yield* makeMaster]
      const { become, invalidations } = yield* make("p:", [a, b])
      let armed = false
      let changes = 0
      const told = new Set<string>()
      yield* invalidations.stream(["p:x"], 1000).pipe(
        Stream.runForEach((said) =>
          Effect.sync(() => {
            if (said._tag === "Invalidated") said.keys.forEach((key) => told.add(key))
            else {
              armed = said._tag === "Armed"
              changes++
            }
          })
        ),
        Effect.forkScoped
      )
      let writes = 0
      const isTrue = Effect.gen(function*() {
        const now = changes
        const key = `x${++writes}`
        if (!armed) return yield* Effect.fail("not armed")
        yield* Effect.forEach([a, b], ({ server }, i) => server.cli("SET", `p:${key}:${i}`, "x"))
        yield* eventually(Effect.suspend(() =>
          changes !== now || (told.has(`${key}:0`) && told.has(`${key}:1`)) ? Effect.void : Effect.fail("wait")
        ))
        if (changes !== now) {
          return yield* Effect.fail("lost meanwhile")
        }
      })
      const sets = [[a], [b], [a, b], []]
      for (let round = 0; round < 10; round++) {
        for (let i = 0; i < 10; i++) {
          yield* become(sets[yield* Random.nextIntBetween(0, 4)]!)
          const other = yield* Effect.fork(Stream.runDrain(invalidations.stream([`p:${i % 3}`], 10)))
          yield* Effect.sleep(yield* Random.nextIntBetween(0, 15))
          yield* Fiber.interrupt(other)
        }
        yield* become([a, b])
        yield* eventually(isTrue)
      }
    }))

  it.scopedLive("are each proved by a key that they hold", () =>
    Effect.gen(function*() {
      const [a, b, c] = [yield* makeMaster, yield* makeMaster, yield* makeMaster]
      const owner = (slot: number) => slot === 42 ? 0 : 1
      const several = yield* make("p:", [a, b, c], (index, slot) => owner(slot) === index)
      const queue = yield* run(several.invalidations.stream(["p:"], 1000))
      assert.strictEqual((yield* Queue.take(queue))._tag, "Armed")
      assert.isAbove(a.keys.length, 0)
      assert.isAbove(b.keys.length, 0)
      // It has no slot, so there is nothing to be told of.
      assert.lengthOf(c.keys, 0)
      assert.strictEqual(yield* trackers(c), 0)
      for (const [index, master] of [[0, a], [1, b]] as const) {
        for (const key of master.keys) {
          assert.strictEqual(owner(hashSlot(key)), index)
          assert.isTrue(key.startsWith("p:"))
        }
      }
      // With a hash tag in the prefix all keys of the client are on one of them.
      for (const master of [a, b]) master.keys.length = 0
      const slot = hashSlot("{tag}")
      const tagged = yield* make("{tag}:", [a, b], (index, other) => (other === slot) === (index === 1))
      const one = yield* run(tagged.invalidations.stream(["{tag}:"], 1000))
      assert.strictEqual((yield* Queue.take(one))._tag, "Armed")
      assert.isTrue(a.keys.every((key) => key.startsWith("p:")))
      assert.isTrue(b.keys.some((key) => key.startsWith("{tag}:")))
      assert.isTrue(Option.isNone(yield* Queue.poll(one)))
    }))
})
