import { assert, layer as withLayer } from "@effect/vitest"
import { Array as Arr, Chunk, Effect, Either, Exit, Fiber, Option, Queue, Redacted, Scope, Stream } from "effect"
import { hashSlot } from "../../src/internal/slot.js"
import { clientOptions, fromClient } from "../../src/IoRedis.js"
import type { RedisArg, Service } from "../../src/RedisClient.js"
import type { RedisError } from "../../src/RedisError.js"
import { clusterOptions } from "../kit/layers.js"
import * as RealCluster from "../kit/RealCluster.js"
import * as RealServer from "../kit/RealServer.js"
import { assertExact, connectTo, counter, increments, unknowns, untilHeard } from "./failover.js"
import { eventually, mute, unique } from "./support.js"

const { RealCluster: Servers } = RealCluster

const connect = (options: Parameters<typeof connectTo>[0] = {}) =>
  Effect.flatMap(Servers, (servers) => connectTo({ ...clusterOptions(servers), ...options }))

/** How often the nodes answered with an error of this code. */
const answers = (code: string) =>
  Effect.flatMap(Servers, ({ nodes }) =>
    Effect.map(
      Effect.forEach(nodes, (node) => node.cli("INFO", "errorstats")),
      (infos) =>
        infos.reduce(
          (n: number, info) => n + Number(new RegExp(`errorstat_${code}:count=(\\d+)`).exec(String(info))?.[1] ?? 0),
          0
        )
    ))

/** A key of each master. */
const keysOfAll = Effect.gen(function*() {
  const { masterOf } = yield* Servers
  const keys = new Map<string, string>()
  for (let i = 0; keys.size < 3; i++) {
    const key = unique(`spread${i}`)
    keys.set((yield* masterOf(key)).url, key)
  }
  return Array.from(keys.values())
})

const failure = <A>(effect: Effect.Effect<A, RedisError, Scope.Scope>) => Effect.flip(Effect.scoped(effect))

withLayer(RealCluster.layer, { excludeTestServices: true, timeout: "60 seconds" })("a Cluster", (it) => {
  it.scoped("is learnt from the first seed that answers", () =>
    Effect.gen(function*() {
      const { nodes } = yield* Servers
      const [{ host, port } = { host: "", port: 0 }] = nodes
      const silent = yield* mute
      const closed = { host: "127.0.0.1", port: yield* RealServer.freePort }
      const client = yield* connectTo({ clusterNodes: [silent, closed, { host, port }], commandTimeout: "2 seconds" })
      for (const key of yield* keysOfAll) assert.strictEqual(yield* client.incr(key), 1)
      assert.strictEqual(client.mode, "cluster")
      assert.match(client.target, /^redis\+cluster:\/\/127\.0\.0\.1:\d+,/)
    }))

  it.scoped("can also be learnt with the first command", () =>
    Effect.gen(function*() {
      const client = yield* connect({ lazyConnect: true })
      assert.strictEqual(Option.getOrThrow(yield* Stream.runHead(client.state)).status, "disconnected")
      const keys = yield* keysOfAll
      assert.deepStrictEqual(yield* Effect.forEach(keys, (key) => client.incr(key), { concurrency: 3 }), [1, 1, 1])
      assert.strictEqual(Option.getOrThrow(yield* Stream.runHead(client.state)).status, "connected")
    }))

  it.scoped("that can't be reached is a typed error in time", () =>
    Effect.gen(function*() {
      const closed = { host: "127.0.0.1", port: yield* RealServer.freePort }
      const refused = yield* failure(connectTo({ clusterNodes: [closed] }))
      assert(refused._tag === "RedisConnectionError")
      assert.strictEqual(refused.reason, "connect")
      assert.include(refused.detail, "ECONNREFUSED")
      const silent = yield* failure(connectTo({ clusterNodes: [yield* mute], connectTimeout: "300 millis" }))
      assert(silent._tag === "RedisConnectionError")
      const lazy = yield* connectTo({ clusterNodes: [closed], lazyConnect: true, commandTimeout: "300 millis" })
      const late = yield* Effect.flip(lazy.get("key"))
      assert(late._tag === "RedisConnectionError")
      assert.strictEqual(late.reason, "unavailable")
      assert.include(late.detail, "ECONNREFUSED")
    }))

  it.scoped("that is none is named", () =>
    Effect.gen(function*() {
      const { host, port } = yield* RealServer.start()
      const error = yield* failure(connectTo({ clusterNodes: [{ host, port }] }))
      assert(error._tag === "RedisConnectionError")
      assert.include(error.detail, "no node of a Cluster")
    }))

  it.scoped("with a password refuses a wrong one", () =>
    Effect.gen(function*() {
      const password = "the-right-one"
      const small = yield* RealCluster.start({ password, masters: 3, replicasPerMaster: 0 })
      const options = { ...clusterOptions(small), connectTimeout: "3 seconds", commandTimeout: "3 seconds" } as const
      for (const wrong of [Redacted.make("the-wrong-one"), undefined]) {
        const error = yield* failure(connectTo({ ...options, password: wrong }))
        assert(error._tag === "RedisConnectionError")
        assert.strictEqual(error.reason, "auth")
        const lazy = yield* connectTo({ ...options, password: wrong, lazyConnect: true })
        const late = yield* Effect.flip(lazy.get("key"))
        assert(late._tag === "RedisConnectionError")
        assert.strictEqual(late.reason, "auth")
        assert.notInclude(`${error.message}${late.message}`, "the-")
      }
      const client = yield* connectTo({ ...options, password: Redacted.make(password) })
      yield* client.mset(Arr.makeBy(50, (i) => [`key:${i}`, i] as const))
      assert.strictEqual((yield* client.mget(["key:7"]))[0]?.pipe(Option.getOrNull), "7")
    }), 60_000)

  it.scoped("is not for ioredis' own client of one", () =>
    Effect.gen(function*() {
      const { Cluster } = yield* Effect.promise(() => import("ioredis"))
      const own = new Cluster([{ host: "127.0.0.1", port: 1 }], { lazyConnect: true, ...clientOptions })
      const error = yield* failure(fromClient(own as never))
      assert(error._tag === "RedisInputError")
      assert.strictEqual(error.field, "client")
    }))

  it.scoped("gets every command at the node that has its keys", () =>
    Effect.gen(function*() {
      const client = yield* connect()
      const before = yield* answers("MOVED")
      for (let round = 0; round < 20; round++) {
        const tag = `{${unique("tag")}}`
        const [a, b, c] = [`${tag}a`, `${tag}b`, `${tag}c`]
        const commands: ReadonlyArray<readonly [string, ...Array<RedisArg>]> = [
          ["SET", a, 1],
          ["GET", Buffer.from(a)],
          ["MGET", a, b],
          ["OBJECT", "ENCODING", a],
          ["MEMORY", "USAGE", a],
          ["DUMP", a],
          ["COPY", a, b],
          ["RENAME", b, c],
          ["BITOP", "NOT", b, a],
          ["EVAL", "return redis.call('GET', KEYS[1])", 1, a],
          ["EVAL_RO", "return redis.call('GET', KEYS[2])", 2, a, b],
          ["RPUSH", `${tag}list`, 3, 1, 2],
          ["LMPOP", 1, `${tag}list`, "LEFT"],
          ["LMOVE", `${tag}list`, `${tag}list2`, "LEFT", "RIGHT"],
          ["SORT", `${tag}list`, "ASC", "STORE", `${tag}sorted`],
          ["ZADD", `${tag}z`, 1, "x"],
          ["ZUNIONSTORE", `${tag}z2`, 1, `${tag}z`],
          ["ZUNION", 2, `${tag}z`, `${tag}z2`],
          ["ZDIFF", 1, `${tag}z`],
          ["ZINTERCARD", 1, `${tag}z`],
          ["ZMPOP", 1, `${tag}z`, "MIN"],
          ["ZRANGESTORE", `${tag}z3`, `${tag}z2`, 0, -1],
          ["GEOADD", `${tag}geo`, 13.4, 52.5, "Berlin"],
          ["GEORADIUS", `${tag}geo`, 13, 52, 100, "km", "STORE", `${tag}near`],
          ["SADD", `${tag}s`, "x"],
          ["SINTERCARD", 1, `${tag}s`],
          ["PFADD", `${tag}hll`, "x"],
          ["PFCOUNT", `${tag}hll`],
          ["XADD", `${tag}stream`, "*", "f", "v"],
          ["XGROUP", "CREATE", `${tag}stream`, "g", "0"],
          ["XREADGROUP", "GROUP", "g", "c", "COUNT", 1, "STREAMS", `${tag}stream`, ">"],
          ["XREAD", "COUNT", 1, "STREAMS", `${tag}stream`, "0"],
          ["XINFO", "STREAM", `${tag}stream`],
          ["XPENDING", `${tag}stream`, "g"],
          ["SPUBLISH", `${tag}channel`, "x"],
          ["TOUCH", a, b],
          ["UNLINK", a, b, c]
        ]
        for (const [name, ...args] of commands) yield* client.send(name, ...args)
        yield* client.pipeline(commands)
        yield* client.transaction(commands)
        yield* client.eval(counter, a)
      }
      assert.strictEqual(yield* answers("MOVED"), before)
    }), 60_000)

  it.scoped("refuses keys of several slots before anything is sent", () =>
    Effect.gen(function*() {
      const client = yield* connect()
      const [a, b] = [unique("a"), unique("b")]
      assert.notStrictEqual(client.slot(a), client.slot(b))
      const before = yield* answers("CROSSSLOT")
      const cases: ReadonlyArray<Effect.Effect<unknown, RedisError>> = [
        client.send("MGET", a, b),
        client.send("EVAL", "return 1", 2, a, b),
        client.send("RENAME", a, b),
        client.send("SORT", a, "STORE", b),
        client.send("GEORADIUS", a, 1, 1, 1, "m", "STOREDIST", b),
        client.send("ZUNIONSTORE", a, 1, b),
        client.send("XREAD", "STREAMS", a, b, "0", "0"),
        client.msetNx({ [a]: 1, [b]: 1 }),
        client.sinter([a, b]),
        client.rename(a, b),
        client.transaction([["SET", a, 1], ["SET", b, 1]])
      ]
      for (const effect of cases) {
        const error = yield* Effect.flip(effect)
        assert(error._tag === "RedisReplyError")
        assert.strictEqual(error.code, "CROSSSLOT")
        assert.strictEqual(error.reply, "CROSSSLOT Keys in request don't hash to the same slot")
      }
      const replies = yield* client.pipeline([["SET", a, 1], ["DEL", a, b], ["GET", a]])
      assert.deepStrictEqual(replies.map((reply) => Either.isRight(reply) ? reply.right : reply.left.code), [
        "OK",
        "CROSSSLOT",
        "1"
      ])
      assert.strictEqual(yield* client.exists(a, b), 1)
      assert.strictEqual(yield* answers("CROSSSLOT"), before)
    }))

  it.scoped("finds the slot of any key", () =>
    Effect.gen(function*() {
      const client = yield* connect()
      const before = yield* answers("MOVED")
      const odd = [
        "{",
        "}",
        "{}",
        "{}a",
        "a{}b",
        "a{b",
        "}{",
        "{{a}}",
        "{a}{b}",
        "{\u{1F600}}x",
        "\0",
        " ",
        "a\r\nb",
        "日本"
      ]
      for (const key of odd) {
        assert.strictEqual(yield* client.set(key, key), true)
        assert.strictEqual(Option.getOrNull(yield* client.get(key)), key)
        assert.strictEqual(yield* client.send("CLUSTER", "KEYSLOT", key), client.slot(key))
        const bytes = Buffer.concat([Uint8Array.of(255, 0), Buffer.from(key), Uint8Array.of(254)])
        yield* client.send("SET", bytes, "x")
        assert.strictEqual(yield* client.send("GETDEL", bytes), "x")
        yield* client.del(key)
      }
      assert.strictEqual(yield* answers("MOVED"), before)
      // The number of keys is what the caller says.
      for (const count of ["99999999999", "-1", "one", "1e9", ""]) {
        const error = yield* Effect.flip(client.send("EVAL", "return 1", count, "key"))
        assert(error._tag === "RedisReplyError")
        assert.strictEqual(error.code, "ERR")
      }
      for (const command of [["GET"], ["EVAL"], ["XREAD"], ["NOSUCHCOMMAND", "key"], ["OBJECT"]] as const) {
        const [name, ...args] = command
        const error = yield* Effect.flip(client.send(name, ...args))
        assert(error._tag === "RedisReplyError")
        assert.strictEqual(error.code, "ERR")
      }
    }))

  it.scoped("splits typed commands of many keys", () =>
    Effect.gen(function*() {
      const client = yield* connect({ keyPrefix: `${unique("split")}:` })
      const names = Arr.makeBy(400, (i) => `key:${i}`)
      yield* client.mset(names.map((name, i) => [name, i] as const))
      const shuffled = [...names.slice(200), "none", ...names.slice(0, 200), "key:3"]
      assert.deepStrictEqual(
        (yield* client.mget(shuffled)).map(Option.getOrNull),
        shuffled.map((name) => name === "none" ? null : name.slice(4))
      )
      assert.strictEqual(yield* client.exists(...names, "key:1", "none"), 401)
      assert.strictEqual(yield* client.touch(...names, "none"), 400)
      assert.strictEqual(yield* client.del(...names.slice(0, 100), "none"), 100)
      assert.strictEqual(yield* client.unlink(...names), 300)
      assert.strictEqual(yield* client.exists(...names), 0)
    }))

  it.scoped("is asked as a whole where the question is about all", () =>
    Effect.gen(function*() {
      const { masters } = yield* Servers
      const client = yield* connect({ keyPrefix: `${unique("whole")}:` })
      const size = yield* client.dbSize
      const names = Arr.makeBy(300, (i) => `key:${i}`)
      yield* client.pipeline(names.map((name) => ["SET", client.key(name), "x"] as const))
      assert.strictEqual(yield* client.dbSize, size + 300)
      const scanned = Chunk.toReadonlyArray(yield* Stream.runCollect(client.scan({ count: 10 })))
      assert.deepStrictEqual(new Set(scanned), new Set(names))
      assert.strictEqual(yield* client.unlinkMatching("key:1*"), 111)
      assert.strictEqual(yield* client.dbSize, size + 189)
      assert.strictEqual(yield* client.unlinkMatching("*"), 189)

      const lua = `return "${unique("script")}"`
      const sha = yield* client.scriptLoad(lua)
      for (const master of yield* masters) {
        assert.deepStrictEqual(yield* master.cli("SCRIPT", "EXISTS", sha), [1])
      }
      const [one] = yield* masters
      yield* one!.cli("SCRIPT", "FLUSH")
      assert.deepStrictEqual(yield* client.scriptExists([sha]), [false])
      yield* client.scriptFlush
      for (const master of yield* masters) {
        assert.deepStrictEqual(yield* master.cli("SCRIPT", "EXISTS", sha), [0])
      }
      const health = yield* client.health
      assert.isTrue(health.healthy)
      assert.strictEqual(Option.getOrThrow(health.server).mode, "cluster")
    }))

  it.scoped("keeps a pipeline's replies in order, whatever their nodes", () =>
    Effect.gen(function*() {
      const client = yield* connect()
      const keys = Arr.makeBy(50, () => unique("order"))
      const commands = Arr.makeBy(1000, (i) => ["INCR", keys[i % 50]!] as const)
      const results = yield* Effect.all(Arr.makeBy(5, () => client.pipeline(commands)), { concurrency: "unbounded" })
      const seen = new Map<string, Array<number>>(keys.map((key) => [key, []]))
      for (const replies of results) {
        assert.lengthOf(replies, 1000)
        replies.forEach((reply, i) => seen.get(keys[i % 50]!)!.push(Number(Either.getOrThrow(reply))))
        // Of one key, the later command of a pipeline comes later.
        for (const [k] of keys.entries()) {
          const own = replies.flatMap((reply, i) => i % 50 === k ? [Number(Either.getOrThrow(reply))] : [])
          assert.deepStrictEqual(own, [...own].sort((a, b) => a - b))
        }
      }
      for (const values of seen.values()) {
        assert.deepStrictEqual(values.sort((a, b) => a - b), Arr.range(1, 100))
      }
    }))

  it.scoped("has reserved connections at the node of a key", () =>
    Effect.gen(function*() {
      const client = yield* connect()
      const keys = yield* keysOfAll
      for (const key of keys) {
        const connection = yield* client.reserve({ key })
        const waiting = yield* Effect.fork(connection.blpop([key], "1 minute"))
        yield* eventually(Effect.zipRight(Effect.sleep(5), client.rpush(key, "x")))
        assert.deepStrictEqual(Option.getOrNull(yield* Fiber.join(waiting)), [key, "x"])
        // Interrupting it reaches the same node.
        const interrupted = yield* Effect.fork(connection.blpop([key], "1 minute"))
        yield* Effect.sleep(20)
        yield* Fiber.interrupt(interrupted)
        yield* client.rpush(key, "stays")
        assert.deepStrictEqual(yield* client.lrange(key, 0, -1), ["stays"])
        assert.strictEqual(yield* connection.send("LPOP", key), "stays")
        const other = keys.find((other) => other !== key)!
        const error = yield* Effect.flip(connection.get(other))
        assert(error._tag === "RedisReplyError")
        assert.strictEqual(error.code, "MOVED")
      }
      const anywhere = yield* client.reserve()
      assert.strictEqual(yield* anywhere.send("CLIENT", "ID"), anywhere.id)
    }))

  it.scoped("leaves no connection behind", () =>
    Effect.gen(function*() {
      const { nodes } = yield* Servers
      const name = unique("gone")
      const named = Effect.map(
        Effect.forEach(nodes, (node) => node.cli("CLIENT", "LIST")),
        (lists) => lists.flatMap((list) => String(list).split("\n").filter((line) => line.includes(` name=${name} `)))
      )
      const scope = yield* Scope.make()
      const client = yield* Scope.extend(connect({ name }), scope)
      const keys = yield* keysOfAll
      yield* Effect.forEach(keys, (key) => client.incr(key))
      // @effect-diagnostics-next-line floatingEffect:off
      yield* Scope.extend(client.subscribe({ shardChannels: keys }), scope)
      // @effect-diagnostics-next-line floatingEffect:off
      yield* Scope.extend(client.subscribe({ channels: keys }), scope)
      yield* Effect.scoped(client.reserve({ key: keys[0]! }))
      // For commands three, for shard channels three, and one for channels.
      yield* eventually(Effect.filterOrFail(named, (list) => list.length === 7))
      yield* Scope.close(scope, Exit.void)
      yield* eventually(Effect.filterOrFail(named, (list) => list.length === 0))
      const error = yield* Effect.flip(client.get("key"))
      assert(error._tag === "RedisConnectionError")
      assert.strictEqual(error.reason, "closed")
    }))

  it.scoped("closes the connection of a master without shard channels", () =>
    Effect.gen(function*() {
      const { nodes } = yield* Servers
      const name = unique("few")
      const named = Effect.map(
        Effect.forEach(nodes, (node) => node.cli("CLIENT", "LIST")),
        (lists) => lists.flatMap((list) => String(list).split("\n").filter((line) => line.includes(` name=${name} `)))
      )
      const client = yield* connect({ name })
      const before = (yield* named).length
      // @effect-diagnostics-next-line floatingEffect:off
      yield* Effect.scoped(client.subscribe({ shardChannels: yield* keysOfAll }))
      yield* eventually(Effect.filterOrFail(named, (list) => list.length <= before))
      // And makes another one when it is needed.
      const queue = yield* client.subscribe({ shardChannels: ["again"] })
      assert.strictEqual(yield* client.spublish("again", "x"), 1)
      assert.strictEqual((yield* Queue.take(queue))._tag, "Message")
    }))
})

/** What moves slots has a Cluster of its own. */
withLayer(RealCluster.layer, { excludeTestServices: true, timeout: "60 seconds" })(
  "a Cluster whose slots move",
  (it) => {
    const another = (slot: number) =>
      Effect.gen(function*() {
        const { masterOf, masters } = yield* Servers
        const from = yield* masterOf(slot)
        return (yield* masters).find((master) => master.id !== from.id)!
      })

    it.scoped("is followed without anybody noticing", () =>
      Effect.gen(function*() {
        const { moveSlot } = yield* Servers
        const client = yield* connect()
        const keys = Arr.makeBy(3, () => unique("followed"))
        for (const key of keys) {
          yield* client.set(key, "before")
          yield* moveSlot(key, yield* another(hashSlot(key)))
          assert.strictEqual(Option.getOrNull(yield* client.get(key)), "before")
          const replies = yield* client.pipeline([["SET", key, "after"], ["GET", key]])
          assert.deepStrictEqual(replies.map(Either.getOrThrow), ["OK", "after"])
          const both = yield* client.transaction([["APPEND", key, "!"], ["GET", key]])
          assert.deepStrictEqual(both.map(Either.getOrThrow), [6, "after!"])
        }
      }), 60_000)

    it.scoped("answers everything while they move", () =>
      Effect.gen(function*() {
        const { beginMigration } = yield* Servers
        const client = yield* connect()
        const tag = unique("busy")
        const counters = Arr.makeBy(20, (i) => `{${tag}}:${i}`)
        const elsewhere = Arr.makeBy(20, () => unique("elsewhere"))
        const before = yield* Effect.all([answers("MOVED"), answers("ASK"), answers("TRYAGAIN")])
        let transactions = 0
        let pipelines = 0
        let scripts = 0
        let sets = 0
        const besides = unique("besides")
        const together = Arr.makeBy(12, (i) => `{${tag}}:together:${i}`)
        const run = <A>(effect: Effect.Effect<A, RedisError>) =>
          Effect.forever(Effect.zipRight(effect, Effect.sleep(1)))
        const load = [
          run(Effect.map(
            client.transaction([["INCR", `{${tag}}:tx`], ["INCR", `{${tag}}:tx2`]]),
            (replies) => {
              transactions++
              assert.strictEqual(Either.getOrThrow(replies[0]!), Either.getOrThrow(replies[1]!))
            }
          )),
          run(Effect.map(
            client.pipeline([
              ["INCR", `{${tag}}:pipe`],
              ["INCR", besides],
              ["GET", `{${tag}}:pipe`]
            ]),
            (replies) => {
              pipelines++
              assert.deepStrictEqual(replies.map((reply) => Number(Either.getOrThrow(reply))), [
                pipelines,
                pipelines,
                pipelines
              ])
            }
          )),
          run(Effect.map(client.eval(counter, `{${tag}}:script`), (n) => assert.strictEqual(n, ++scripts))),
          // Some of them have moved already, and others have not.
          run(Effect.flatMap(
            Effect.suspend(() => client.mset(together.map((key) => [key, sets] as const))),
            () =>
              Effect.map(client.mget(together), (values) => {
                for (const value of values) assert.strictEqual(Option.getOrNull(value), `${sets}`)
                sets++
              })
          ))
        ]
        const fibers = yield* Effect.forEach(load, (effect) => Effect.fork(effect))
        const counting = yield* Effect.fork(
          increments(client, { total: 4000, keys: [...counters, ...elsewhere], workers: 20 })
        )
        const migrate = Effect.gen(function*() {
          const migration = yield* beginMigration(tag, yield* another(hashSlot(tag)))
          while ((yield* migration.migrateKeys(3)) > 0) yield* Effect.sleep(15)
          yield* Effect.sleep(50)
          yield* migration.end
        })
        yield* Effect.repeatN(migrate, 2)
        const tally = yield* Fiber.join(counting)
        for (const fiber of fibers) {
          const state = yield* Fiber.poll(fiber)
          if (Option.isSome(state)) return assert.fail(String(state.value))
        }
        yield* Fiber.interruptAll(fibers)
        assert.deepStrictEqual(tally.failed, [])
        assert.strictEqual(unknowns(tally), 0)
        assert.isAtLeast(tally.ok, 4000)
        for (const [key, values] of tally.values) {
          assert.deepStrictEqual(values.slice().sort((a, b) => a - b), Arr.range(1, values.length), key)
        }
        yield* assertExact(client, tally)
        assert.isAbove(transactions, 20)
        assert.isAbove(pipelines, 20)
        assert.isAbove(scripts, 20)
        assert.isAbove(sets, 20)
        // All of these answers came, and nobody saw them.
        const after = yield* Effect.all([answers("MOVED"), answers("ASK"), answers("TRYAGAIN")])
        after.forEach((count, i) => assert.isAbove(count, before[i]!))
      }), 60_000)

    it.scoped("lets shard channels go along, with one gap", () =>
      Effect.gen(function*() {
        const { moveSlot } = yield* Servers
        const client = yield* connect()
        const channel = unique("shard")
        const queue = yield* client.subscribe({ shardChannels: [channel] })
        const still = yield* client.subscribe({ channels: [channel] })
        for (let round = 0; round < 3; round++) {
          yield* client.spublish(channel, `${round}`)
          const before = yield* Queue.take(queue)
          assert.strictEqual(before._tag === "Message" ? before.payload : before.reason, `${round}`)
          yield* moveSlot(channel, yield* another(hashSlot(channel)))
          assert.deepStrictEqual(
            yield* untilHeard(queue, client.spublish(channel, `moved ${round}`), `moved ${round}`),
            [
              "disconnected"
            ]
          )
          // What was published before it was heard.
          yield* Queue.takeAll(queue)
          assert.strictEqual(yield* client.spublish(channel, "last"), 1)
          yield* eventually(Effect.filterOrFail(
            Queue.take(queue),
            (element) => element._tag === "Message" && element.payload === "last"
          ))
        }
        assert.strictEqual(yield* Queue.size(still), 0)
      }), 60_000)

    it.scoped("answers a client whose map is old", () =>
      Effect.gen(function*() {
        const { masterOf, masters, moveSlot } = yield* Servers
        const [first] = yield* masters
        const clients: Array<Service> = []
        for (let i = 0; i < 3; i++) clients.push(yield* connect())
        const tags = Arr.makeBy(3, () => unique("old"))
        for (const tag of tags) if ((yield* masterOf(tag)).id !== first!.id) yield* moveSlot(tag, first!)
        for (const tag of tags) yield* moveSlot(tag, yield* another(hashSlot(tag)))
        const results = yield* Effect.forEach(
          clients,
          (client) => Effect.forEach(tags, (tag) => client.incr(`{${tag}}`), { concurrency: "unbounded" }),
          { concurrency: "unbounded" }
        )
        for (const i of tags.keys()) {
          assert.deepStrictEqual(results.map((values) => values[i]).sort(), [1, 2, 3])
        }
      }), 60_000)
  }
)
