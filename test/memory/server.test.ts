import { assert, describe, it } from "@effect/vitest"
import { Chunk, Deferred, Effect, Either, Exit, Fiber, Layer, Option, Queue, Scope, Stream, TestClock } from "effect"
import * as MemoryServer from "../../src/memory/MemoryServer.js"
import { type Connection, type Gap, type Message, RedisClient, type Reply } from "../../src/RedisClient.js"
import type { RedisError } from "../../src/RedisError.js"
import * as RedisScript from "../../src/RedisScript.js"
import * as RedisTestServer from "../../src/RedisTestServer.js"

const test = <A, E>(
  name: string,
  body: Effect.Effect<A, E, RedisClient | RedisTestServer.RedisTestServer | Scope.Scope>
) => it.scoped(name, () => Effect.provide(body, Layer.fresh(RedisTestServer.layer)))

/** Sends a blocking command with nothing to hand back. */
const block = (connection: Connection, command: string, ...args: ReadonlyArray<string>) =>
  connection.sendBlocking(command, args, () => Effect.void)

const failure = <A>(effect: Effect.Effect<A, RedisError>) => Effect.flip(effect)

const take = (queue: Queue.Dequeue<Message | Gap>) =>
  Effect.map(Queue.take(queue), (element) => element._tag === "Gap" ? `gap ${element.reason}` : element.payload)

const increment = RedisScript.make({
  name: "increment",
  lua: "return redis.call('INCR', KEYS[1])",
  params: (key: string) => ({ keys: [key], args: [] }),
  result: RedisScript.number
})

const isEmpty = Effect.flatMap(
  RedisTestServer.RedisTestServer,
  (server) => Effect.map(server.keys, (keys) => keys.length === 0)
)

describe("time", () => {
  test(
    "keys live as long as the virtual clock says",
    Effect.gen(function*() {
      const client = yield* RedisClient
      yield* client.send("SET", "session", "x", "EX", 7 * 86400)
      yield* TestClock.adjust("6 days")
      assert.strictEqual(yield* client.send("GET", "session"), "x")
      assert.strictEqual(yield* client.send("TTL", "session"), 86400)
      yield* TestClock.adjust("1 day")
      assert.isNull(yield* client.send("GET", "session"))
      assert.strictEqual(yield* client.send("DBSIZE"), 0)
    })
  )

  test(
    "starts at zero, which is an instant like others, and scripts see it",
    Effect.gen(function*() {
      const client = yield* RedisClient
      assert.deepStrictEqual(yield* client.send("TIME"), ["0", "0"])
      yield* TestClock.adjust("1500 millis")
      assert.deepStrictEqual(yield* client.send("EVAL", "return redis.call('TIME')", 0), ["1", "500000"])
    })
  )

  test(
    "keys whose time has come are gone from the inspection without being asked for",
    Effect.gen(function*() {
      const client = yield* RedisClient
      yield* client.send("SET", "a", "1", "PX", 10)
      assert.isFalse(yield* isEmpty)
      yield* TestClock.adjust("10 millis")
      assert.isTrue(yield* isEmpty)
    })
  )
})

describe("blocking", () => {
  test(
    "a wait ends with the virtual timeout",
    Effect.gen(function*() {
      const client = yield* RedisClient
      const connection = yield* client.reserve()
      const fiber = yield* Effect.fork(block(connection, "BLPOP", "queue", "5"))
      yield* TestClock.adjust("4999 millis")
      assert.isTrue(Option.isNone(yield* Fiber.poll(fiber)))
      yield* TestClock.adjust("1 millis")
      assert.isNull(yield* Fiber.join(fiber))
    })
  )

  test(
    "an hour of waiting, and then an element",
    Effect.gen(function*() {
      const client = yield* RedisClient
      const connection = yield* client.reserve()
      const fiber = yield* Effect.fork(block(connection, "BLPOP", "queue", "0"))
      yield* TestClock.adjust("1 hour")
      yield* client.send("RPUSH", "queue", "job")
      assert.deepStrictEqual(yield* Fiber.join(fiber), ["queue", "job"])
      assert.strictEqual(yield* client.send("EXISTS", "queue"), 0)
    })
  )

  test(
    "waiters are served in the order of their arrival, also by pushes of scripts and transactions",
    Effect.gen(function*() {
      const client = yield* RedisClient
      const served: Array<Reply> = []
      const fibers: Array<Fiber.RuntimeFiber<void, RedisError>> = []
      for (let i = 0; i < 5; i++) {
        const connection = yield* client.reserve()
        fibers.push(
          yield* Effect.fork(
            Effect.map(block(connection, "BLPOP", "queue", "0"), (reply) => void served.push([i, reply]))
          )
        )
        yield* TestClock.adjust(0)
      }
      yield* client.send(
        "EVAL",
        "redis.call('RPUSH', KEYS[1], 'a', 'b') redis.call('SET', KEYS[2], 'x')",
        2,
        "queue",
        "k"
      )
      yield* client.transaction([["RPUSH", "queue", "c"], ["RPUSH", "queue", "d"], ["LLEN", "queue"]])
      yield* client.send("RPUSH", "queue", "e")
      yield* Fiber.joinAll(fibers)
      assert.deepStrictEqual(served, [
        [0, ["queue", "a"]],
        [1, ["queue", "b"]],
        [2, ["queue", "c"]],
        [3, ["queue", "d"]],
        [4, ["queue", "e"]]
      ])
    })
  )

  test(
    "a move hands the element on to those who wait for its new list",
    Effect.gen(function*() {
      const client = yield* RedisClient
      const [first, second] = [yield* client.reserve(), yield* client.reserve()]
      const last = yield* Effect.fork(block(second, "BLPOP", "b", "0"))
      yield* TestClock.adjust(0)
      const move = yield* Effect.fork(block(first, "BLMOVE", "a", "b", "LEFT", "RIGHT", "0"))
      yield* TestClock.adjust(0)
      yield* client.send("RPUSH", "a", "x")
      assert.strictEqual(yield* Fiber.join(move), "x")
      assert.deepStrictEqual(yield* Fiber.join(last), ["b", "x"])
    })
  )

  test(
    "interrupting a wait loses nothing",
    Effect.gen(function*() {
      const client = yield* RedisClient
      const connection = yield* client.reserve()
      const fiber = yield* Effect.fork(block(connection, "BLPOP", "queue", "0"))
      yield* TestClock.adjust(0)
      yield* Fiber.interrupt(fiber)
      yield* client.send("RPUSH", "queue", "job")
      assert.strictEqual(yield* client.send("LLEN", "queue"), 1)
      assert.deepStrictEqual(yield* block(connection, "BLPOP", "queue", "0"), ["queue", "job"])
    })
  )

  test(
    "CLIENT UNBLOCK ends a wait, with an error when asked to",
    Effect.gen(function*() {
      const client = yield* RedisClient
      const connection = yield* client.reserve()
      const first = yield* Effect.fork(block(connection, "BZPOPMIN", "z", "0"))
      yield* TestClock.adjust(0)
      assert.strictEqual(yield* client.send("CLIENT", "UNBLOCK", connection.id), 1)
      assert.isNull(yield* Fiber.join(first))
      const second = yield* Effect.fork(failure(block(connection, "BZPOPMIN", "z", "0")))
      yield* TestClock.adjust(0)
      assert.strictEqual(yield* client.send("CLIENT", "UNBLOCK", connection.id, "ERROR"), 1)
      const error = yield* Fiber.join(second)
      assert(error._tag === "RedisReplyError")
      assert.strictEqual(error.code, "UNBLOCKED")
      assert.strictEqual(yield* client.send("CLIENT", "UNBLOCK", connection.id), 0)
    })
  )

  test(
    "commands behind a blocked one on the same connection wait for it",
    Effect.gen(function*() {
      const client = yield* RedisClient
      const connection = yield* client.reserve()
      const blocked = yield* Effect.fork(block(connection, "BLPOP", "queue", "2"))
      yield* TestClock.adjust(0)
      const behind = yield* Effect.fork(connection.send("PING"))
      yield* TestClock.adjust("1 second")
      assert.isTrue(Option.isNone(yield* Fiber.poll(behind)))
      yield* TestClock.adjust("1 second")
      assert.isNull(yield* Fiber.join(blocked))
      assert.strictEqual(yield* Fiber.join(behind), "PONG")
    })
  )

  test(
    "commands that block are refused on the shared connection",
    Effect.gen(function*() {
      const client = yield* RedisClient
      for (const command of ["BLPOP", "WATCH", "MULTI", "SUBSCRIBE", "SELECT"]) {
        assert.strictEqual((yield* failure(client.send(command, "x", "0")))._tag, "RedisInputError", command)
      }
    })
  )
})

describe("faults", () => {
  const faults = Effect.map(RedisTestServer.RedisTestServer, (server) => server.inject)

  test(
    "fail before send: nothing is executed",
    Effect.gen(function*() {
      const client = yield* RedisClient
      const inject = yield* faults
      yield* inject({ _tag: "fail-before-send" })
      const error = yield* failure(client.send("INCR", "n"))
      assert.strictEqual(error._tag, "RedisConnectionError")
      assert.isTrue(yield* isEmpty)
      assert.strictEqual(yield* client.send("INCR", "n"), 1)
    })
  )

  test(
    "lose a reply: executed, and nobody knows",
    Effect.gen(function*() {
      const client = yield* RedisClient
      const inject = yield* faults
      yield* inject({ _tag: "lose-reply", command: "incr" })
      yield* client.send("SET", "other", "1")
      const error = yield* failure(client.send("INCR", "n"))
      assert(error._tag === "RedisOutcomeUnknownError")
      assert.strictEqual(error.command, "INCR")
      assert.strictEqual(error.reason, "disconnected")
      assert.strictEqual(yield* client.send("GET", "n"), "1")
    })
  )

  test(
    "a reply of one's choice, as often as one likes",
    Effect.gen(function*() {
      const client = yield* RedisClient
      const inject = yield* faults
      yield* inject({ _tag: "reply", error: "OOM command not allowed when used memory > 'maxmemory'.", times: 2 })
      for (let i = 0; i < 2; i++) {
        const error = yield* failure(client.send("SET", "a", "1"))
        assert(error._tag === "RedisReplyError")
        assert.strictEqual(error.code, "OOM")
        assert.strictEqual(error.command, "SET")
      }
      assert.isTrue(yield* isEmpty)
      assert.strictEqual(yield* client.send("SET", "a", "1"), "OK")
    })
  )

  test(
    "a delay ends in time, or in the deadline while the command is executed later",
    Effect.gen(function*() {
      const client = yield* RedisClient
      const inject = yield* faults
      yield* inject({ _tag: "delay", duration: "2 seconds" })
      const slow = yield* Effect.fork(client.send("INCR", "n"))
      yield* TestClock.adjust("1 second")
      assert.isTrue(yield* isEmpty)
      yield* TestClock.adjust("1 second")
      assert.strictEqual(yield* Fiber.join(slow), 1)
      yield* inject({ _tag: "delay", duration: "7 seconds" })
      const late = yield* Effect.fork(failure(client.send("INCR", "n")))
      yield* TestClock.adjust("5 seconds")
      const error = yield* Fiber.join(late)
      assert(error._tag === "RedisOutcomeUnknownError")
      assert.strictEqual(error.reason, "timeout")
      yield* TestClock.adjust("2 seconds")
      assert.strictEqual(yield* client.send("GET", "n"), "2")
    })
  )

  test(
    "a script is named by its SHA, whichever way it is called",
    Effect.gen(function*() {
      const client = yield* RedisClient
      const inject = yield* faults
      yield* inject({ _tag: "lose-reply", command: increment.sha, times: 2 })
      yield* client.send("EVAL", "return 1", 0)
      assert.strictEqual((yield* failure(client.eval(increment, "n")))._tag, "RedisOutcomeUnknownError")
      assert.isTrue(yield* isEmpty)
      assert.strictEqual((yield* failure(client.send("EVAL", increment.lua, 1, "n")))._tag, "RedisOutcomeUnknownError")
      assert.strictEqual(yield* client.eval(increment, "n"), 2)
    })
  )

  test(
    "in pipelines and transactions",
    Effect.gen(function*() {
      const client = yield* RedisClient
      const inject = yield* faults
      yield* inject({ _tag: "reply", error: "READONLY no", command: "SET" })
      const replies = yield* client.pipeline([["INCR", "n"], ["SET", "a", "1"], ["INCR", "n"]])
      assert.deepStrictEqual(replies.map(Either.isRight), [true, false, true])
      yield* inject({ _tag: "lose-reply", command: "SET" })
      const lost = yield* failure(client.transaction([["INCR", "n"], ["SET", "a", "1"]]))
      assert.strictEqual(lost._tag, "RedisOutcomeUnknownError")
      assert.deepStrictEqual(yield* client.send("MGET", "n", "a"), ["3", "1"])
      yield* inject({ _tag: "fail-before-send", command: "SET" })
      assert.strictEqual(
        (yield* failure(client.pipeline([["INCR", "n"], ["SET", "a", "2"]])))._tag,
        "RedisConnectionError"
      )
      assert.deepStrictEqual(yield* client.send("MGET", "n", "a"), ["3", "1"])
    })
  )

  test(
    "flush forgets keys, scripts and faults",
    Effect.gen(function*() {
      const client = yield* RedisClient
      const server = yield* RedisTestServer.RedisTestServer
      yield* client.eval(increment, "n")
      yield* server.inject({ _tag: "fail-before-send" })
      yield* server.flush
      assert.isTrue(yield* isEmpty)
      assert.deepStrictEqual(yield* client.send("SCRIPT", "EXISTS", increment.sha), [0])
      assert.strictEqual(yield* client.eval(increment, "n"), 1)
    })
  )
})

describe("disconnect", () => {
  test(
    "each subscriber gets one gap, and then messages again",
    Effect.gen(function*() {
      const client = yield* RedisClient
      const server = yield* RedisTestServer.RedisTestServer
      const channels = yield* client.subscribe({ channels: ["news"] })
      const patterns = yield* client.subscribe({ patterns: ["n*"] })
      const shards = yield* client.subscribe({ shardChannels: ["shard"] })
      yield* server.disconnect()
      yield* TestClock.adjust("1 second")
      assert.strictEqual(yield* client.send("PUBLISH", "news", "hello"), 2)
      assert.strictEqual(yield* client.send("SPUBLISH", "shard", "hi"), 1)
      assert.strictEqual(yield* take(channels), "gap disconnected")
      assert.strictEqual(yield* take(channels), "hello")
      assert.strictEqual(yield* take(patterns), "gap disconnected")
      assert.strictEqual(yield* take(patterns), "hello")
      assert.strictEqual(yield* take(shards), "gap disconnected")
      assert.strictEqual(yield* take(shards), "hi")
      assert.isTrue(yield* Queue.isEmpty(channels))
    })
  )

  test(
    "commands wait for the connection, no longer than their deadline",
    Effect.gen(function*() {
      const client = yield* RedisClient
      const server = yield* RedisTestServer.RedisTestServer
      yield* server.disconnect({ downtime: "3 seconds" })
      const waiting = yield* Effect.fork(client.send("INCR", "n"))
      yield* TestClock.adjust("2 seconds")
      assert.isTrue(Option.isNone(yield* Fiber.poll(waiting)))
      assert.isTrue(yield* isEmpty)
      yield* TestClock.adjust("1 second")
      assert.strictEqual(yield* Fiber.join(waiting), 1)
      yield* server.disconnect({ downtime: "1 hour" })
      const hopeless = yield* Effect.fork(failure(client.send("INCR", "n")))
      yield* TestClock.adjust("5 seconds")
      const error = yield* Fiber.join(hopeless)
      assert(error._tag === "RedisConnectionError")
      assert.strictEqual(error.reason, "unavailable")
      yield* TestClock.adjust("1 hour")
      assert.strictEqual(yield* client.send("GET", "n"), "1")
    })
  )

  test(
    "a command that is taken back while it waits is never executed",
    Effect.gen(function*() {
      const client = yield* RedisClient
      const server = yield* RedisTestServer.RedisTestServer
      yield* server.disconnect({ downtime: "3 seconds" })
      const waiting = yield* Effect.fork(client.send("INCR", "n"))
      yield* TestClock.adjust("1 second")
      yield* Fiber.interrupt(waiting)
      yield* TestClock.adjust("3 seconds")
      assert.isTrue(yield* isEmpty)
    })
  )

  test(
    "reserved connections die, with what they wait for",
    Effect.gen(function*() {
      const client = yield* RedisClient
      const server = yield* RedisTestServer.RedisTestServer
      const connection = yield* client.reserve()
      const waiting = yield* Effect.fork(failure(block(connection, "BLPOP", "queue", "0")))
      yield* TestClock.adjust(0)
      yield* server.disconnect()
      const error = yield* Fiber.join(waiting)
      assert(error._tag === "RedisOutcomeUnknownError")
      assert.strictEqual(error.reason, "disconnected")
      const later = yield* failure(connection.send("PING"))
      assert(later._tag === "RedisConnectionError")
      assert.strictEqual(later.reason, "closed")
      yield* client.send("RPUSH", "queue", "kept")
      assert.strictEqual(yield* client.send("LLEN", "queue"), 1)
    })
  )

  test(
    "a connection can't be reserved while the server is down",
    Effect.gen(function*() {
      const client = yield* RedisClient
      const server = yield* RedisTestServer.RedisTestServer
      yield* server.disconnect({ downtime: "1 second" })
      const error = yield* failure(Effect.scoped(client.reserve()))
      assert(error._tag === "RedisConnectionError")
      assert.strictEqual(error.reason, "connect")
      yield* TestClock.adjust("1 second")
      assert.strictEqual(yield* Effect.scoped(Effect.flatMap(client.reserve(), (own) => own.send("PING"))), "PONG")
    })
  )

  test(
    "a delayed command on a cut connection is not executed",
    Effect.gen(function*() {
      const client = yield* RedisClient
      const server = yield* RedisTestServer.RedisTestServer
      yield* server.inject({ _tag: "delay", duration: "2 seconds" })
      const delayed = yield* Effect.fork(failure(client.send("INCR", "n")))
      yield* TestClock.adjust("1 second")
      yield* server.disconnect()
      assert.strictEqual((yield* Fiber.join(delayed))._tag, "RedisOutcomeUnknownError")
      yield* TestClock.adjust("2 seconds")
      assert.isTrue(yield* isEmpty)
    })
  )

  test(
    "the state tells it",
    Effect.gen(function*() {
      const client = yield* RedisClient
      const server = yield* RedisTestServer.RedisTestServer
      const ready = yield* Deferred.make<void>()
      const fiber = yield* client.state.pipe(
        Stream.tap(() => Deferred.succeed(ready, undefined)),
        Stream.take(3),
        Stream.runCollect,
        Effect.fork
      )
      yield* Deferred.await(ready)
      yield* server.disconnect({ downtime: "2 seconds" })
      yield* TestClock.adjust("2 seconds")
      const states = Chunk.toReadonlyArray(yield* Fiber.join(fiber))
      assert.deepStrictEqual(states.map((state) => state.status), ["connected", "reconnecting", "connected"])
      assert.isTrue(Option.isSome(states[1]!.error))
    })
  )

  test(
    "CLIENT KILL ends one connection, which comes back",
    Effect.gen(function*() {
      const client = yield* RedisClient
      const server = yield* RedisTestServer.RedisTestServer
      const other = yield* server.client()
      const id = yield* other.send("CLIENT", "ID")
      assert.strictEqual(yield* client.send("CLIENT", "KILL", "ID", String(id)), 1)
      assert.notStrictEqual(yield* other.send("CLIENT", "ID"), id)
      assert.strictEqual(yield* server.connections, 2)
    })
  )
})

describe("clients", () => {
  test(
    "several clients share the keys, each with its prefix",
    Effect.gen(function*() {
      const client = yield* RedisClient
      const server = yield* RedisTestServer.RedisTestServer
      const shop = yield* server.client({ keyPrefix: "shop:" })
      yield* shop.set("a", "1")
      assert.strictEqual(yield* client.send("GET", "shop:a"), "1")
      const queue = yield* shop.subscribe({ channels: ["news"] })
      assert.deepStrictEqual(yield* server.subscriptions, ["shop:news"])
      yield* client.send("PUBLISH", "shop:news", "hi")
      const message = yield* Queue.take(queue)
      assert(message._tag === "Message")
      assert.strictEqual(message.channel, "news")
    })
  )

  test(
    "a client ends with its scope, and so does everything it had",
    Effect.gen(function*() {
      const server = yield* RedisTestServer.RedisTestServer
      const scope = yield* Scope.make()
      const client = yield* Scope.extend(server.client(), scope)
      // @effect-diagnostics-next-line floatingEffect:off
      yield* Scope.extend(client.subscribe({ channels: ["news"] }), scope)
      yield* Scope.extend(client.reserve(), scope)
      assert.strictEqual(yield* server.connections, 4)
      yield* Scope.close(scope, Exit.void)
      assert.strictEqual(yield* server.connections, 1)
      assert.deepStrictEqual(yield* server.subscriptions, [])
      const error = yield* failure(client.send("PING"))
      assert(error._tag === "RedisConnectionError")
      assert.strictEqual(error.reason, "closed")
    })
  )

  test(
    "the deadline is the client's own",
    Effect.gen(function*() {
      const server = yield* RedisTestServer.RedisTestServer
      const client = yield* server.client({ commandTimeout: "100 millis" })
      yield* server.disconnect({ downtime: "1 second" })
      const fiber = yield* Effect.fork(failure(client.send("PING")))
      yield* TestClock.adjust("100 millis")
      assert.strictEqual((yield* Fiber.join(fiber))._tag, "RedisConnectionError")
    })
  )

  test(
    "WATCH of one connection sees the writes of another, and what expires",
    Effect.gen(function*() {
      const client = yield* RedisClient
      const connection = yield* client.reserve()
      yield* client.send("SET", "a", "1", "PX", 100)
      yield* connection.watch("a")
      yield* client.send("SET", "a", "2", "KEEPTTL")
      assert.isTrue(Option.isNone(yield* connection.transaction([["SET", "b", "1"]])))
      yield* connection.watch("a")
      yield* TestClock.adjust("100 millis")
      assert.isTrue(Option.isNone(yield* connection.transaction([["SET", "b", "1"]])))
      yield* connection.watch("a")
      assert.isTrue(Option.isSome(yield* connection.transaction([["SET", "b", "1"]])))
    })
  )

  test(
    "fibers take turns at every command",
    Effect.gen(function*() {
      const client = yield* RedisClient
      const add = Effect.gen(function*() {
        const n = Number(yield* client.send("GET", "n"))
        yield* client.send("SET", "n", n + 1)
      })
      yield* Effect.all([add, add], { concurrency: "unbounded" })
      assert.strictEqual(yield* client.send("GET", "n"), "1")
    })
  )

  test(
    "the journal holds what was sent, text as text",
    Effect.gen(function*() {
      const client = yield* RedisClient
      const server = yield* RedisTestServer.RedisTestServer
      yield* client.send("set", "käse", "🧀")
      yield* client.pipeline([["GET", "käse"], ["nope"]])
      const journal = yield* server.journal
      assert.deepStrictEqual(journal.map(({ args }) => args), [["SET", "käse", "🧀"], ["GET", "käse"], ["NOPE"]])
      assert.strictEqual(journal[0]!.client, journal[1]!.client)
    })
  )

  test(
    "the journal is bounded, newest last",
    Effect.gen(function*() {
      const client = yield* RedisClient
      const server = yield* RedisTestServer.RedisTestServer
      for (let i = 0; i < 1005; i++) yield* client.send("ECHO", i)
      const journal = yield* server.journal
      assert.strictEqual(journal.length, 1000)
      assert.deepStrictEqual(journal[0]!.args, ["ECHO", "5"])
      assert.deepStrictEqual(journal[999]!.args, ["ECHO", "1004"])
    })
  )

  test(
    "bytes come back as they were sent",
    Effect.gen(function*() {
      const client = yield* RedisClient
      const bytes = Uint8Array.from({ length: 256 }, (_, i) => i)
      yield* client.send("SET", "bytes", bytes)
      assert.deepStrictEqual(yield* client.sendBytes("GET", "bytes"), bytes)
      assert.strictEqual(yield* client.send("STRLEN", "bytes"), 256)
      assert.strictEqual(yield* client.send("STRLEN", "none"), 0)
      yield* client.send("SET", "text", "äöü")
      assert.strictEqual(yield* client.send("STRLEN", "text"), 6)
      assert.strictEqual(yield* client.send("GETRANGE", "text", 0, 1), "ä")
    })
  )

  test(
    "arguments of an unknown command do not show up in its error",
    Effect.gen(function*() {
      const client = yield* RedisClient
      const error = yield* failure(client.send("GIBBERISH", "secret"))
      assert(error._tag === "RedisReplyError")
      assert.strictEqual(error.reply, "ERR unknown command 'GIBBERISH'")
    })
  )

  test(
    "health",
    Effect.gen(function*() {
      const client = yield* RedisClient
      const health = yield* client.health
      assert.isTrue(health.healthy)
      const server = Option.getOrThrow(health.server)
      assert.strictEqual(server.version, "7.0.15")
      assert.strictEqual(server.mode, "standalone")
      assert.strictEqual(server.connectedClients, 1)
    })
  )
})

describe("options", () => {
  it.scoped("cluster: keys of one command share a slot, and scripts touch what they declare", () =>
    Effect.gen(function*() {
      const { connect } = yield* MemoryServer.make({ cluster: true })
      const client = yield* connect()
      const code = (effect: Effect.Effect<unknown, RedisError>) =>
        Effect.map(failure(effect), (error) => error._tag === "RedisReplyError" ? error.code : error._tag)
      assert.strictEqual(yield* client.send("MSET", "{a}1", "x", "{a}2", "y"), "OK")
      assert.strictEqual(yield* code(client.send("MSET", "a", "x", "b", "y")), "CROSSSLOT")
      assert.strictEqual(yield* code(client.send("ZUNIONSTORE", "a", "1", "b")), "CROSSSLOT")
      assert.strictEqual(yield* code(client.send("EVAL", "return 1", "2", "a", "b")), "CROSSSLOT")
      assert.strictEqual(yield* code(client.transaction([["GET", "a"], ["GET", "b"]])), "CROSSSLOT")
      const error = yield* failure(client.send("EVAL", "return redis.call('GET', 'hidden')", "1", "a"))
      assert(error._tag === "RedisReplyError")
      assert.include(error.reply, "'hidden'")
      assert.isNull(yield* client.send("EVAL", "return redis.call('GET', KEYS[1])", "1", "a"))
    }))

  it.scoped("the same seed makes the same choices", () =>
    Effect.gen(function*() {
      const choices = (seed: number) =>
        Effect.gen(function*() {
          const { connect } = yield* MemoryServer.make({ seed })
          const client = yield* connect()
          yield* client.send("SADD", "s", ...Array.from({ length: 50 }, (_, i) => i))
          return yield* client.send("SPOP", "s", 20)
        })
      assert.deepStrictEqual(yield* choices(7), yield* choices(7))
      assert.notDeepEqual(yield* choices(7), yield* choices(8))
    }))
})
