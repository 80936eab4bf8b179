/**
 * Reserved connections, health, state, interruption and concurrency.
 */
import { assert } from "@effect/vitest"
import { Chunk, Duration, Effect, Either, Fiber, Option, Stream } from "effect"
import type { Connection } from "../../../src/RedisClient.js"
import type { RedisError } from "../../../src/RedisError.js"
import * as RedisScript from "../../../src/RedisScript.js"
import { eventually, gives, none, refused, rejected, some, type Test, turn } from "./tools.js"

const connectionIds = (connection: Connection) =>
  Effect.map(
    connection.send("CLIENT", "LIST"),
    (list) => Array.from(String(list).matchAll(/^id=(\d+) /gm), (match) => Number(match[1]))
  )

/** Waits until the server holds the connection back, seen from another connection to the same server. */
const isBlocked = (observer: Connection, connection: Connection) =>
  Effect.map(
    observer.send("CLIENT", "LIST"),
    (list) =>
      String(list).split("\n").some((line) => line.startsWith(`id=${connection.id} `) && /flags=\w*b/.test(line))
  )

const blocked = (observer: Connection, connection: Connection) => eventually(isBlocked(observer, connection))

const immediate = Effect.async<void>((resume) => void setImmediate(() => resume(Effect.void)))

export const connections = (test: Test): void => {
  reserved(test)
  blocking(test)
  handingBack(test)
  health(test)
}

const reserved = (test: Test): void => {
  test("a reserved connection has an id of its own, and ends with its scope", (client) =>
    Effect.gen(function*() {
      const observer = yield* client.reserve({ key: "any" })
      const [a, b] = yield* Effect.scoped(Effect.gen(function*() {
        const anywhere = yield* client.reserve()
        yield* gives(anywhere.send("CLIENT", "ID"), anywhere.id)
        const a = yield* client.reserve({ key: "any" })
        const b = yield* client.reserve({ key: "any" })
        yield* gives(a.send("CLIENT", "ID"), a.id)
        yield* gives(b.send("CLIENT", "ID"), b.id)
        assert.notStrictEqual(a.id, b.id)
        const ids = yield* connectionIds(observer)
        assert.includeMembers(ids, [a.id, b.id])
        return [a.id, b.id]
      }))
      yield* eventually(Effect.map(connectionIds(observer), (ids) => !ids.includes(a!) && !ids.includes(b!)))
    }))

  test("a reserved connection can do what the client can", (client, { name }) =>
    Effect.gen(function*() {
      const connection = yield* client.reserve({ key: name() })
      const key = name()
      yield* connection.set(key, "a")
      yield* gives(client.get(key), some("a"))
      yield* gives(connection.send("GET", client.key(key)), "a")
      const replies = yield* connection.pipeline([["GET", client.key(key)], ["NOSUCHCOMMAND"]])
      assert.deepStrictEqual(replies.map(Either.isRight), [true, false])
      const script = RedisScript.make({
        name: "get",
        lua: `return redis.call("GET", KEYS[1])`,
        params: (key: string) => ({ keys: [key], args: [] }),
        result: RedisScript.string
      })
      yield* gives(connection.eval(script, key), "a")
      const bytes = yield* connection.sendBytes("GET", client.key(key))
      assert.deepStrictEqual(bytes instanceof Uint8Array ? Array.from(bytes) : bytes, [97])
      yield* refused(connection.get(""), "key")
    }))

  test(
    "a transaction after watch runs only when nobody touched the keys",
    (client, { name }) =>
      Effect.gen(function*() {
        const connection = yield* client.reserve({ key: name() })
        const [key, to] = [name(), name()]
        const commands = [["SET", client.key(to), "done"]] as const
        yield* connection.watch(key)
        yield* client.set(key, "touched")
        yield* gives(connection.transaction(commands), none)
        yield* gives(client.get(to), none)
        // Exec has ended the watch.
        const done = yield* connection.transaction(commands)
        assert.deepStrictEqual(Option.map(done, (replies) => replies.map(Either.getOrNull)), some(["OK"]))
        yield* client.del(to)
        yield* connection.watch(key)
        yield* client.set(key, "touched again")
        yield* connection.unwatch
        assert.isTrue(Option.isSome(yield* connection.transaction(commands)))
        yield* connection.watch(key, to)
        assert.isTrue(Option.isSome(yield* connection.transaction(commands)))
        yield* gives(connection.transaction([]), some([]))
        yield* rejected(connection.transaction([["NOSUCHCOMMAND"]]), "ERR")
      })
  )
}

const blocking = (test: Test): void => {
  test("blpop and brpop take what is there", (client, { name }) =>
    Effect.gen(function*() {
      const connection = yield* client.reserve({ key: name() })
      const [a, b] = [name(), name()]
      yield* client.rpush(b, "1", "2", "3")
      yield* gives(connection.blpop([a, b], "1 minute"), some([b, "1"] as const))
      yield* gives(connection.brpop([a, b], "1 minute"), some([b, "3"] as const))
      yield* client.rpush(a, "first")
      yield* gives(connection.blpop([a, b], Duration.infinity), some([a, "first"] as const))
    }))

  test("a blocked pop is woken by a push", (client, { name }) =>
    Effect.gen(function*() {
      const observer = yield* client.reserve({ key: name() })
      const connection = yield* client.reserve({ key: name() })
      const key = name()
      for (const pop of [connection.blpop, connection.brpop]) {
        const fiber = yield* Effect.fork(pop([name(), key], Duration.infinity))
        yield* blocked(observer, connection)
        yield* gives(client.rpush(key, "x"), 1)
        yield* gives(Fiber.join(fiber), some([key, "x"] as const))
      }
      yield* gives(client.exists(key), 0)
    }))

  test("a blocked pop ends with its time", (client, { name, pass }) =>
    Effect.gen(function*() {
      const observer = yield* client.reserve({ key: name() })
      const connection = yield* client.reserve({ key: name() })
      const waits: ReadonlyArray<Effect.Effect<Option.Option<unknown>, RedisError>> = [
        connection.blpop([name()], "30 millis"),
        connection.brpop([name()], 30),
        connection.blmove(name(), name(), { from: "left", to: "left", timeout: "30 millis" }),
        connection.blmpop([name()], { from: "left", timeout: "30 millis" }),
        connection.bzpopMin([name()], "30 millis"),
        connection.bzpopMax([name()], "30 millis")
      ]
      for (const wait of waits) {
        const fiber = yield* Effect.fork(wait)
        // On a busy machine it may be over before anybody has looked.
        yield* eventually(
          Effect.zipWith(isBlocked(observer, connection), Fiber.poll(fiber), (is, exit) => is || Option.isSome(exit))
        )
        yield* pass("100 millis")
        yield* gives(Fiber.join(fiber), none)
      }
      yield* connection.ping
    }))

  test("those who wait longest are served first", (client, { name }) =>
    Effect.gen(function*() {
      const observer = yield* client.reserve({ key: name() })
      const key = name()
      const [a, b] = [yield* client.reserve({ key: name() }), yield* client.reserve({ key: name() })]
      const first = yield* Effect.fork(a.blpop([key], Duration.infinity))
      yield* blocked(observer, a)
      const second = yield* Effect.fork(b.blpop([key], Duration.infinity))
      yield* blocked(observer, b)
      yield* client.rpush(key, "1", "2")
      yield* gives(Fiber.join(first), some([key, "1"] as const))
      yield* gives(Fiber.join(second), some([key, "2"] as const))
    }))

  test("blmove", (client, { name }) =>
    Effect.gen(function*() {
      const observer = yield* client.reserve({ key: name() })
      const connection = yield* client.reserve({ key: name() })
      const [a, b] = [name(), name()]
      yield* client.rpush(a, "1", "2")
      yield* gives(connection.blmove(a, b, { from: "right", to: "left", timeout: "1 minute" }), some("2"))
      const fiber = yield* Effect.fork(connection.blmove(name(), b, { from: "left", to: "left", timeout: "1 minute" }))
      yield* blocked(observer, connection)
      yield* Fiber.interrupt(fiber)
      const woken = yield* client.reserve({ key: name() })
      const source = name()
      const waiting = yield* Effect.fork(woken.blmove(source, b, { from: "left", to: "right", timeout: Infinity }))
      yield* blocked(observer, woken)
      yield* client.rpush(source, "3")
      yield* gives(Fiber.join(waiting), some("3"))
      yield* gives(client.lrange(b, 0, -1), ["2", "3"])
    }))

  test("blmpop", (client, { name }) =>
    Effect.gen(function*() {
      const connection = yield* client.reserve({ key: name() })
      const [a, b] = [name(), name()]
      yield* client.rpush(b, "1", "2", "3", "4")
      yield* gives(connection.blmpop([a, b], { from: "left", timeout: "1 minute" }), some([b, ["1"]] as const))
      yield* gives(
        connection.blmpop([a, b], { from: "right", count: 2, timeout: "1 minute" }),
        some([b, ["4", "3"]] as const)
      )
      yield* gives(
        connection.blmpop([a, b], { from: "right", count: 9, timeout: "1 minute" }),
        some([b, ["2"]] as const)
      )
    }))

  test("bzpopMin and bzpopMax", (client, { name }) =>
    Effect.gen(function*() {
      const observer = yield* client.reserve({ key: name() })
      const connection = yield* client.reserve({ key: name() })
      const [a, b] = [name(), name()]
      yield* client.zadd(b, { low: -1.5, middle: 0, high: Infinity })
      yield* gives(connection.bzpopMin([a, b], "1 minute"), some([b, "low", -1.5] as const))
      yield* gives(connection.bzpopMax([a, b], "1 minute"), some([b, "high", Infinity] as const))
      const fiber = yield* Effect.fork(connection.bzpopMin([a], "1 minute"))
      yield* blocked(observer, connection)
      yield* client.zadd(a, { x: 0.1 })
      yield* gives(Fiber.join(fiber), some([a, "x", 0.1] as const))
    }))

  test("blocking commands use the prefix", (_, { name, other }) =>
    Effect.gen(function*() {
      const client = yield* other(`${name("prefix")}:`)
      const connection = yield* client.reserve({ key: "list" })
      yield* client.rpush("list", "1", "2", "3")
      yield* client.zadd("sorted", { a: 1, b: 2 })
      yield* gives(connection.blpop(["none", "list"], "1 minute"), some(["list", "1"] as const))
      yield* gives(connection.brpop(["list"], "1 minute"), some(["list", "3"] as const))
      yield* gives(connection.bzpopMin(["sorted"], "1 minute"), some(["sorted", "a", 1] as const))
      yield* gives(connection.bzpopMax(["sorted"], "1 minute"), some(["sorted", "b", 2] as const))
      yield* gives(connection.blmove("list", "to", { from: "left", to: "left", timeout: "1 minute" }), some("2"))
      yield* gives(
        connection.blmpop(["list", "to"], { from: "left", timeout: "1 minute" }),
        some(["to", ["2"]] as const)
      )
      yield* connection.watch("watched")
      yield* client.set("watched", "x")
      yield* gives(connection.transaction([["PING"]]), none)
    }))

  test("sendBlocking", (client, { name }) =>
    Effect.gen(function*() {
      const connection = yield* client.reserve({ key: name() })
      const key = client.key(name())
      yield* client.send("RPUSH", key, "a")
      yield* gives(connection.sendBlocking("BLPOP", [key, 1], () => Effect.void), [key, "a"])
      yield* rejected(connection.sendBlocking("BLPOP", [key, "nonsense"], () => Effect.void), "ERR")
      yield* refused(connection.sendBlocking("BLPOP", [key, NaN], () => Effect.void), "argument 2")
      yield* client.send("SET", key, "a")
      yield* rejected(connection.sendBlocking("BLPOP", [key, 1], () => Effect.void), "WRONGTYPE")
    }))

  test("what cannot be waited for is refused", (client, { name }) =>
    Effect.gen(function*() {
      const connection = yield* client.reserve({ key: name() })
      const key = name()
      yield* client.rpush(key, "a")
      for (const timeout of [0, -1, NaN, 0.5, "0 seconds", "500 micros"] as const) {
        yield* refused(connection.blpop([key], timeout), "timeout")
        yield* refused(connection.blmove(key, key, { from: "left", to: "left", timeout }), "timeout")
        yield* refused(connection.blmpop([key], { from: "left", timeout }), "timeout")
        yield* refused(connection.bzpopMin([key], timeout), "timeout")
      }
      yield* refused(connection.blpop([], "1 second"), "keys")
      yield* refused(connection.brpop([key, ""], "1 second"), "keys")
      yield* refused(connection.bzpopMax([], "1 second"), "keys")
      yield* refused(connection.blmpop([], { from: "left", timeout: "1 second" }), "keys")
      yield* refused(connection.blmpop([key], { from: "left", count: 0, timeout: "1 second" }), "count")
      yield* refused(connection.blmove("", key, { from: "left", to: "left", timeout: "1 second" }), "source")
      yield* gives(client.llen(key), 1)
    }))
}

const handingBack = (test: Test): void => {
  test("an interrupted wait frees its connection", (client, { name }) =>
    Effect.gen(function*() {
      const observer = yield* client.reserve({ key: name() })
      const connection = yield* client.reserve({ key: name() })
      const key = name()
      const fiber = yield* Effect.fork(connection.blpop([key], Duration.infinity))
      yield* blocked(observer, connection)
      yield* Fiber.interrupt(fiber)
      yield* connection.ping
      yield* client.rpush(key, "stays")
      yield* gives(client.lrange(key, 0, -1), ["stays"])
    }))

  test("interrupting a wait loses nothing, and changes no order", (client, { name }) =>
    Effect.gen(function*() {
      const connection = yield* client.reserve({ key: name() })
      const list = name()
      const sorted = name()
      const [from, to] = [name(), name()]
      const pops = [connection.blpop([list], Duration.infinity), connection.brpop([list], Duration.infinity)]
      // The interruption comes before, with or after the push.
      const heads = [Effect.void, Effect.yieldNow(), immediate, Effect.zipRight(immediate, immediate), turn]
      let round = 0
      const race = (wait: Effect.Effect<unknown, RedisError>, push: Effect.Effect<unknown, RedisError>) =>
        Effect.gen(function*() {
          const fiber = yield* Effect.fork(wait)
          yield* turn
          const head = heads[round++ % heads.length]!
          yield* Effect.all([push, Effect.zipRight(head, Fiber.interrupt(fiber))], { concurrency: "unbounded" })
          return yield* Fiber.await(fiber)
        })
      for (let i = 0; i < 40; i++) {
        const got = yield* race(pops[i % 2]!, client.rpush(list, `${i}-1`, `${i}-2`))
        const left = yield* client.lrange(list, 0, -1)
        if (got._tag === "Failure") {
          assert.deepStrictEqual(left, [`${i}-1`, `${i}-2`])
        } else {
          assert.lengthOf(left, 1)
        }
        yield* client.del(list)

        const popped = yield* race(
          i % 2 === 0 ? connection.bzpopMin([sorted], "1 minute") : connection.bzpopMax([sorted], "1 minute"),
          client.zadd(sorted, { a: i + 0.5, b: Infinity })
        )
        if (popped._tag === "Failure") {
          yield* gives(client.zrangeWithScores(sorted), [["a", i + 0.5], ["b", Infinity]])
        } else {
          yield* gives(client.zcard(sorted), 1)
        }
        yield* client.del(sorted)

        yield* client.rpush(to, "before")
        const moved = yield* race(
          connection.blmove(from, to, { from: i % 2 === 0 ? "left" : "right", to: "left", timeout: "1 minute" }),
          client.rpush(from, "1", "2")
        )
        if (moved._tag === "Failure") {
          yield* gives(client.lrange(from, 0, -1), ["1", "2"])
          yield* gives(client.lrange(to, 0, -1), ["before"])
        } else {
          yield* gives(client.llen(to), 2)
        }
        yield* client.del(from, to)

        const several = yield* race(
          connection.blmpop([list], { from: i % 2 === 0 ? "left" : "right", count: 2, timeout: "1 minute" }),
          client.rpush(list, "1", "2", "3")
        )
        if (several._tag === "Failure") yield* gives(client.lrange(list, 0, -1), ["1", "2", "3"])
        else yield* gives(client.llen(list), 1)
        yield* client.del(list)
      }
      yield* connection.ping
    }))

  test("interrupting a wait changes no byte of an element", (client, { name }) =>
    Effect.gen(function*() {
      const observer = yield* client.reserve({ key: name() })
      const connection = yield* client.reserve({ key: name() })
      const [key, to] = [name(), name()]
      const element = Uint8Array.from({ length: 256 }, (_, i) => i)
      const pushes = client.rpush(key, element)
      const list = client.sendBytes("LRANGE", client.key(key), 0, -1)
      const waits: ReadonlyArray<
        readonly [
          wait: Effect.Effect<unknown, RedisError>,
          push: Effect.Effect<unknown, RedisError>,
          left: Effect.Effect<unknown, RedisError>
        ]
      > = [
        [connection.blpop([key], "1 minute"), pushes, list],
        [connection.brpop([key], "1 minute"), pushes, list],
        [connection.blmove(key, to, { from: "left", to: "right", timeout: "1 minute" }), pushes, list],
        [connection.blmpop([key], { from: "right", count: 2, timeout: "1 minute" }), pushes, list],
        [
          connection.bzpopMin([key], "1 minute"),
          client.zadd(key, [[element, 0.5]]),
          client.sendBytes("ZRANGE", client.key(key), 0, -1)
        ]
      ]
      for (const [wait, push, left] of waits) {
        let handedBack = 0
        for (let round = 0; round < 50 && handedBack < 2; round++) {
          const fiber = yield* Effect.fork(wait)
          yield* blocked(observer, connection)
          // The server serves who waits before it reads what ends the wait, so the element was always taken.
          yield* Effect.all([push, Fiber.interrupt(fiber)], { concurrency: "unbounded" })
          const exit = yield* Fiber.await(fiber)
          if (exit._tag === "Failure") {
            handedBack++
            const elements = yield* left
            assert.deepStrictEqual(Array.isArray(elements) ? elements.map((bytes) => Array.from(bytes)) : elements, [
              Array.from(element)
            ])
            yield* gives(client.exists(to), 0)
          }
          yield* client.del(key, to)
        }
        assert.strictEqual(handedBack, 2)
      }
    }))

  test(
    "interrupting a command returns at once, and the connection lives on",
    (client, { name }) =>
      Effect.gen(function*() {
        const key = name()
        const fibers = yield* Effect.forEach(Array.from({ length: 100 }), () => Effect.fork(client.incr(key)))
        yield* Effect.yieldNow()
        yield* Fiber.interruptAll(fibers)
        // Some of them may have been executed, all of them once at most.
        const count = Number(Option.getOrElse(yield* client.get(key), () => "0"))
        assert.isAtMost(count, 100)
        yield* gives(client.set(key, "x"), true)
        yield* gives(client.get(key), some("x"))
      })
  )

  test("a hundred fibers share one connection", (client, { name }) =>
    Effect.gen(function*() {
      const key = name()
      const results = yield* Effect.forEach(
        Array.from({ length: 100 }),
        () => Effect.replicateEffect(client.incr(key), 10),
        { concurrency: "unbounded" }
      )
      const seen = results.flatMap((numbers) => Array.from(numbers))
      assert.deepStrictEqual(seen.sort((a, b) => a - b), Array.from({ length: 1000 }, (_, i) => i + 1))
      // Each fiber sees its own numbers grow.
      for (const numbers of results) {
        const own = Array.from(numbers)
        assert.deepStrictEqual(own, own.slice().sort((a, b) => a - b))
      }
    }))
}

const health = (test: Test): void => {
  test("health", (client) =>
    Effect.gen(function*() {
      const health = yield* client.health
      assert.isTrue(health.healthy)
      assert.deepStrictEqual(health.error, none)
      assert.isTrue(Duration.isFinite(health.responseTime))
      const server = Option.getOrThrow(health.server)
      assert.match(server.version, /^\d+\.\d+\.\d+/)
      assert.strictEqual(server.mode, client.mode === "cluster" ? "cluster" : "standalone")
      assert.isAbove(server.connectedClients, 0)
      assert.match(server.usedMemoryHuman, /^\d/)
    }))

  test("healthChanges checks at once, and then again", (client, { pass }) =>
    Effect.gen(function*() {
      const fiber = yield* client.healthChanges("50 millis").pipe(Stream.take(3), Stream.runCollect, Effect.fork)
      while (Option.isNone(yield* Fiber.poll(fiber))) {
        yield* pass("10 millis")
        yield* turn
      }
      const checks = Chunk.toReadonlyArray(yield* Fiber.join(fiber))
      assert.deepStrictEqual(checks.map((check) => check.healthy), [true, true, true])
      yield* refused(Stream.runDrain(client.healthChanges(0)), "every")
      yield* refused(Stream.runDrain(client.healthChanges(Infinity)), "every")
    }))

  test("state begins with the present one", (client) =>
    Effect.gen(function*() {
      yield* client.ping
      for (let i = 0; i < 2; i++) {
        const state = Option.getOrThrow(yield* Stream.runHead(client.state))
        assert.strictEqual(state.status, "connected")
        assert.deepStrictEqual(state.error, none)
      }
    }))
}
