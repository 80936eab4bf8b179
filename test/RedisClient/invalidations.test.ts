/**
 * Invalidations where something goes wrong, under virtual time; and what takes a server of its own.
 */
import { assert, describe, it } from "@effect/vitest"
import { type Duration, Effect, Fiber, Layer, Queue, Redacted, type Scope, Stream, TestClock } from "effect"
import { layer as redis } from "../../src/IoRedis.js"
import { type Invalidation, RedisClient } from "../../src/RedisClient.js"
import * as RedisTestServer from "../../src/RedisTestServer.js"
import { memory } from "../kit/layers.js"
import * as RealServer from "../kit/RealServer.js"
import { listen } from "./contract/invalidations.js"
import { eventually, turn } from "./contract/tools.js"

const live = Layer.unwrapScoped(
  Effect.map(RealServer.start(), ({ url }) => redis({ url: Redacted.make(url), keyPrefix: "test:" }))
)

const take = (queue: Queue.Dequeue<Invalidation>) =>
  Effect.map(Queue.take(queue), (said) => said._tag === "Invalidated" ? said.keys.toSorted().join(" ") : said._tag)

/** Skips what is told more than once, and never a loss. */
const until = (queue: Queue.Dequeue<Invalidation>, word: string) =>
  Effect.gen(function*() {
    while (true) {
      const said = yield* take(queue)
      if (said === word) return
      assert.notStrictEqual(said, "Down")
    }
  })

describe("a flush", () => {
  for (const [name, layer] of [["in memory", memory], ["live", live]] as const) {
    it.scoped(`is one word (${name})`, () =>
      Effect.gen(function*() {
        const client = yield* RedisClient
        const queue = yield* listen(client, ["a", "b"])
        const other = yield* listen(client, ["c"])
        assert.strictEqual(yield* take(queue), "Armed")
        assert.strictEqual(yield* take(other), "Armed")
        for (const command of ["FLUSHDB", "FLUSHALL"]) {
          yield* client.send("MSET", client.key("a1"), 1, client.key("b1"), 1)
          yield* client.send(command)
          yield* until(queue, "InvalidatedAll")
          yield* until(other, "InvalidatedAll")
          yield* client.set("a2", 1)
          yield* until(queue, "a2")
          yield* client.set("c2", 1)
          yield* until(other, "c2")
        }
      }).pipe(Effect.provide(Layer.fresh(layer))))
  }
})

const test = <A, E>(
  name: string,
  body: Effect.Effect<A, E, RedisClient | RedisTestServer.RedisTestServer | Scope.Scope>
) => it.scoped(name, () => Effect.provide(body, Layer.fresh(memory)))

/** Moves the clock in small steps until it says something. */
const wait = (
  queue: Queue.Dequeue<Invalidation>,
  limit: number,
  step: Duration.DurationInput = "100 millis"
): Effect.Effect<string> =>
  Effect.gen(function*() {
    for (let i = 0; i < limit; i++) {
      yield* turn
      if ((yield* Queue.size(queue)) > 0) return yield* take(queue)
      yield* TestClock.adjust(step)
    }
    return "nothing"
  })

const tell = (command: string, error: string) =>
  Effect.flatMap(RedisTestServer.RedisTestServer, (server) => server.inject({ _tag: "reply", command, error }))

describe("under virtual time", () => {
  test(
    "a lost connection is told at once, and made again",
    Effect.gen(function*() {
      const client = yield* RedisClient
      const server = yield* RedisTestServer.RedisTestServer
      const queue = yield* listen(client, ["a"])
      assert.strictEqual(yield* take(queue), "Armed")
      for (let i = 0; i < 5; i++) {
        yield* server.disconnect()
        assert.strictEqual(yield* take(queue), "Down")
        assert.strictEqual(yield* wait(queue, 50), "Armed")
        yield* client.set(`a${i}`, 1)
        assert.strictEqual(yield* take(queue), `a${i}`)
      }
    })
  )

  test(
    "all streams of a client share one connection, which ends with the last of them",
    Effect.gen(function*() {
      const client = yield* RedisClient
      const server = yield* RedisTestServer.RedisTestServer
      const connections = yield* server.connections
      const soon = (count: number) => eventually(Effect.map(server.connections, (n) => n === connections + count))
      for (let i = 0; i < 3; i++) {
        yield* Effect.scoped(Effect.gen(function*() {
          for (const prefixes of [["a"], ["a"], ["ab"], ["c", "d"], [""]]) {
            assert.strictEqual(yield* take(yield* listen(client, prefixes)), "Armed")
          }
          yield* soon(1)
        }))
        yield* soon(0)
        // One that comes back before the connection without it is there.
        yield* Effect.scoped(Effect.gen(function*() {
          const queue = yield* listen(client, ["a"])
          for (let j = 0; j < 10; j++) {
            const fiber = yield* Effect.fork(Stream.runDrain(client.invalidations([`b${j % 2}`])))
            if (j % 3 === 0) yield* turn
            else yield* Effect.yieldNow()
            yield* Fiber.interrupt(fiber)
          }
          assert.strictEqual(yield* take(queue), "Armed")
          yield* soon(1)
          assert.strictEqual(yield* Queue.size(queue), 0)
        }))
        yield* soon(0)
      }
    })
  )

  test(
    "while the server is away nothing is promised, and it comes back by itself",
    Effect.gen(function*() {
      const client = yield* RedisClient
      const server = yield* RedisTestServer.RedisTestServer
      const queue = yield* listen(client, ["a"])
      assert.strictEqual(yield* take(queue), "Armed")
      yield* server.disconnect({ downtime: "1 minute" })
      assert.strictEqual(yield* take(queue), "Down")
      assert.strictEqual(yield* wait(queue, 55, "1 second"), "nothing")
      assert.strictEqual(yield* wait(queue, 20, "1 second"), "Armed")
      yield* client.set("a", 1)
      assert.strictEqual(yield* take(queue), "a")
      // A stream that begins while it is away says nothing before it is armed.
      yield* server.disconnect({ downtime: "1 minute" })
      const late = yield* listen(client, ["b"])
      assert.strictEqual(yield* wait(late, 55, "1 second"), "nothing")
      assert.strictEqual(yield* wait(late, 20, "1 second"), "Armed")
    })
  )

  test(
    "a connection that somebody kills is another one soon",
    Effect.gen(function*() {
      const client = yield* RedisClient
      const queue = yield* listen(client, ["a"])
      assert.strictEqual(yield* take(queue), "Armed")
      assert.strictEqual(yield* client.send("CLIENT", "KILL", "TYPE", "pubsub"), 1)
      assert.strictEqual(yield* take(queue), "Down")
      assert.strictEqual(yield* wait(queue, 50), "Armed")
    })
  )

  test(
    "a heartbeat that does not come back within half a command timeout is a loss",
    Effect.gen(function*() {
      const server = yield* RedisTestServer.RedisTestServer
      const client = yield* server.client({ commandTimeout: "2 seconds" })
      const connections = yield* server.connections
      const queue = yield* listen(client, ["a"])
      assert.strictEqual(yield* take(queue), "Armed")
      // A hundred of them that do come back say nothing.
      assert.strictEqual(yield* wait(queue, 100, "1 second"), "nothing")
      yield* server.inject({ _tag: "delay", command: "EVAL", duration: "30 seconds" })
      const before = yield* TestClock.currentTimeMillis
      assert.strictEqual(yield* wait(queue, 50), "Down")
      assert.isAtMost((yield* TestClock.currentTimeMillis) - before, 2100)
      assert.strictEqual(yield* wait(queue, 50, "1 second"), "Armed")
      assert.strictEqual(yield* server.connections, connections + 1)
      assert.deepStrictEqual(yield* server.keys, [])
    })
  )

  test(
    "nothing counts as armed before a write has come back",
    Effect.gen(function*() {
      const client = yield* RedisClient
      const server = yield* RedisTestServer.RedisTestServer
      yield* server.inject({ _tag: "delay", command: "EVAL", duration: "3 seconds" })
      const queue = yield* listen(client, ["a"])
      assert.strictEqual(yield* wait(queue, 29), "nothing")
      assert.strictEqual(yield* wait(queue, 5), "Armed")
      // One that does not come back within a command timeout is given up, with its connection.
      const slow = yield* server.client({ keyPrefix: "slow:" })
      yield* server.inject({ _tag: "delay", command: "EVAL", duration: "5500 millis" })
      const other = yield* listen(slow, [""])
      assert.strictEqual(yield* wait(other, 49), "nothing")
      assert.strictEqual(yield* wait(other, 50), "Armed")
    })
  )

  test(
    "a lost reply to a heartbeat that did arrive is no loss",
    Effect.gen(function*() {
      const client = yield* RedisClient
      const server = yield* RedisTestServer.RedisTestServer
      const queue = yield* listen(client, ["a"])
      assert.strictEqual(yield* take(queue), "Armed")
      yield* server.inject({ _tag: "lose-reply", command: "EVAL" })
      assert.strictEqual(yield* wait(queue, 100), "nothing")
      yield* server.inject({ _tag: "fail-before-send", command: "EVAL" })
      assert.strictEqual(yield* wait(queue, 100), "nothing")
    })
  )

  for (
    const [command, error] of [
      ["CLIENT", "NOPERM this user has no permissions to run the 'client|id' command"],
      ["SUBSCRIBE", "NOPERM this user has no permissions to access one of the channels used as arguments"],
      ["EVAL", "NOPERM this user has no permissions to run the 'eval' command"],
      ["CLIENT", "ERR unsupported command"]
    ] as const
  ) {
    test(
      `a server that refuses it fails the stream: ${command}, ${error}`,
      Effect.gen(function*() {
        const client = yield* RedisClient
        const server = yield* RedisTestServer.RedisTestServer
        const connections = yield* server.connections
        yield* tell(command, error)
        const failure = yield* Effect.flip(Stream.runDrain(client.invalidations(["a"])))
        assert(failure._tag === "RedisReplyError")
        assert.strictEqual(failure.reply, error)
        assert.strictEqual(failure.command.toUpperCase(), command)
        assert.strictEqual(yield* server.connections, connections)
        // Another one can have more luck.
        assert.strictEqual(yield* take(yield* listen(client, ["a"])), "Armed")
      })
    )
  }

  test(
    "a refusal of later prefixes fails only the stream that asked for them",
    Effect.gen(function*() {
      const client = yield* RedisClient
      const queue = yield* listen(client, ["a"])
      assert.strictEqual(yield* take(queue), "Armed")
      yield* tell("CLIENT", "NOPERM not today")
      const failed = yield* Effect.flip(Stream.runDrain(client.invalidations(["b"])))
      assert.strictEqual(failed._tag, "RedisReplyError")
      yield* client.set("a", 1)
      assert.strictEqual(yield* take(queue), "a")
      assert.strictEqual(yield* take(yield* listen(client, ["b"])), "Armed")
    })
  )

  test(
    "a stream that was armed is not given up when it is refused later",
    Effect.gen(function*() {
      const client = yield* RedisClient
      const server = yield* RedisTestServer.RedisTestServer
      const queue = yield* listen(client, ["a"])
      assert.strictEqual(yield* take(queue), "Armed")
      for (let i = 0; i < 5; i++) yield* tell("CLIENT", "NOPERM not now")
      yield* server.disconnect()
      assert.strictEqual(yield* take(queue), "Down")
      assert.strictEqual(yield* wait(queue, 200), "Armed")
    })
  )

  test(
    "a server that is not ready yet is asked again",
    Effect.gen(function*() {
      const client = yield* RedisClient
      yield* tell("CLIENT", "LOADING Redis is loading the dataset in memory")
      yield* tell("EVAL", "READONLY You can't write against a read only replica.")
      const queue = yield* listen(client, ["a"])
      assert.strictEqual(yield* wait(queue, 50), "Armed")
    })
  )

  test(
    "what a slow stream has missed is one word, however often the connection was lost",
    Effect.gen(function*() {
      const client = yield* RedisClient
      const server = yield* RedisTestServer.RedisTestServer
      const gate = yield* Effect.makeLatch(true)
      const said: Array<string> = []
      const fast = yield* listen(client, ["a"])
      yield* client.invalidations(["a"], { capacity: 10 }).pipe(
        Stream.runForEach((element) => Effect.zipRight(gate.await, Effect.sync(() => said.push(element._tag)))),
        Effect.forkScoped
      )
      assert.strictEqual(yield* wait(fast, 10), "Armed")
      yield* eventually(Effect.sync(() => said.length === 1))
      yield* gate.close
      for (let i = 0; i < 30; i++) {
        yield* client.set("a", i)
        yield* take(fast)
        yield* server.disconnect()
        assert.strictEqual(yield* take(fast), "Down")
        assert.strictEqual(yield* wait(fast, 100), "Armed")
      }
      for (let i = 0; i < 30; i++) yield* client.set(`a${i}`, i)
      while ((yield* take(fast)) !== "a29") { /* until the last one */ }
      yield* gate.open
      yield* eventually(Effect.sync(() => said.includes("InvalidatedAll")))
      yield* turn
      // The second was in its hands.
      assert.deepStrictEqual(said, ["Armed", "Invalidated", "Down", "Armed", "InvalidatedAll"])
      // The last word when it is down stays that one.
      said.length = 0
      yield* gate.close
      yield* client.set("a", 1)
      yield* turn
      for (let i = 0; i < 30; i++) yield* client.set(`a${i}`, i)
      yield* server.disconnect({ downtime: "1 hour" })
      yield* turn
      yield* gate.open
      yield* eventually(Effect.sync(() => said.includes("Down")))
      assert.deepStrictEqual(said, ["Invalidated", "InvalidatedAll", "Down"])
    })
  )

  test(
    "a stream with hardly any room is told all the same",
    Effect.gen(function*() {
      const client = yield* RedisClient
      const server = yield* RedisTestServer.RedisTestServer
      const gate = yield* Effect.makeLatch(true)
      const said: Array<string> = []
      yield* client.invalidations(["a"], { capacity: 1 }).pipe(
        Stream.runForEach((element) => Effect.zipRight(gate.await, Effect.sync(() => said.push(element._tag)))),
        Effect.forkScoped
      )
      yield* eventually(Effect.sync(() => said.length === 1))
      yield* gate.close
      for (const key of ["a1", "a2", "a3"]) {
        yield* client.set(key, 1)
        yield* turn
      }
      yield* server.disconnect({ downtime: "1 hour" })
      yield* turn
      yield* gate.open
      yield* eventually(Effect.sync(() => said.includes("Down")))
      // The first was in its hands.
      assert.deepStrictEqual(said, ["Armed", "Invalidated", "InvalidatedAll", "Down"])
    })
  )

  test(
    "whatever happens to the connection, nothing is missed while it is armed",
    Effect.gen(function*() {
      const server = yield* RedisTestServer.RedisTestServer
      const client = yield* server.client({ keyPrefix: "p:", commandTimeout: "1 second" })
      const writer = yield* server.client()
      let armed = false
      let downs = 0
      let checked = 0
      const seen = new Set<string>()
      yield* client.invalidations(["x"]).pipe(
        Stream.runForEach((said) =>
          Effect.sync(() => {
            if (said._tag === "Invalidated") said.keys.forEach((key) => seen.add(key))
            else if (said._tag === "Armed") armed = true
            else if (said._tag === "Down") {
              armed = false
              downs++
            }
          })
        ),
        Effect.forkScoped
      )
      let seed = 7
      const random = (n: number) => (seed = (seed * 48271) % 2147483647) % n
      for (let i = 0; i < 2000; i++) {
        if (checked >= 100 && downs >= 10) return
        if (!armed) yield* TestClock.adjust("500 millis")
        const fault = random(40)
        if (fault === 0) yield* server.disconnect()
        else if (fault === 1) yield* server.disconnect({ downtime: "300 millis" })
        else if (fault === 2) yield* server.inject({ _tag: "delay", command: "EVAL", duration: "3 seconds" })
        else if (fault < 12) yield* TestClock.adjust("200 millis")
        const key = `x${i}`
        const before = armed ? downs : -1
        const fiber = yield* Effect.fork(writer.send("SET", `p:${key}`, i))
        yield* turn
        for (let n = 0; n < 20 && (yield* Fiber.poll(fiber))._tag === "None"; n++) yield* TestClock.adjust("100 millis")
        const exit = yield* Fiber.await(fiber)
        yield* turn
        if (before !== downs || exit._tag === "Failure") continue
        checked++
        assert.isTrue(seen.has(key))
      }
      assert.fail("it was hardly ever armed")
    })
  )
})
