/**
 * Which keys change, as their server tells it.
 */
import { assert } from "@effect/vitest"
import { Array as Arr, Cause, Chunk, Effect, Exit, Fiber, Option, Queue, type Scope, Stream } from "effect"
import type { Invalidation, Service } from "../../../src/RedisClient.js"
import type { RedisError } from "../../../src/RedisError.js"
import * as RedisScript from "../../../src/RedisScript.js"
import { eventually, gives, refused, type Test, turn } from "./tools.js"

/** What a stream says, from its first word on. */
export const listen = (
  client: Service,
  prefixes: ReadonlyArray<string>,
  options?: { readonly capacity?: number | undefined }
): Effect.Effect<Queue.Dequeue<Invalidation>, RedisError, Scope.Scope> =>
  Effect.gen(function*() {
    const queue = yield* Queue.unbounded<Invalidation>()
    yield* Effect.forkScoped(Stream.runForEach(client.invalidations(prefixes, options), (said) => queue.offer(said)))
    return queue
  })

/** As `listen`, from its first `Armed` on. */
export const listenArmed = (client: Service, prefixes: ReadonlyArray<string>) =>
  Effect.tap(
    listen(client, prefixes),
    (queue) => Effect.map(Queue.take(queue), (said) => assert.strictEqual(said._tag, "Armed"))
  )

/** The keys that are reported until this one is, sorted. */
export const keysUntil = (queue: Queue.Dequeue<Invalidation>, last: string): Effect.Effect<ReadonlyArray<string>> =>
  Effect.gen(function*() {
    const seen = new Set<string>()
    while (true) {
      const said = yield* Queue.take(queue)
      if (said._tag !== "Invalidated") return assert.fail(said._tag)
      for (const key of said.keys) seen.add(key)
      if (seen.delete(last)) return [...seen].sort()
    }
  })

export const invalidations = (test: Test): void => {
  test("whatever changes a key, in whatever way, is told", (client, { name, other }) =>
    Effect.gen(function*() {
      const foreign = yield* other("")
      const prefix = `${name("changes")}:`
      const key = (label: string) => `${prefix}${label}`
      const full = (label: string) => client.key(key(label))
      const queue = yield* listenArmed(client, [prefix])
      let ends = 0
      const tells = (write: Effect.Effect<unknown, RedisError>, ...labels: ReadonlyArray<string>) =>
        Effect.gen(function*() {
          yield* write
          const end = key(`end${++ends}`)
          yield* foreign.send("SET", client.key(end), "x")
          const keys = yield* keysUntil(queue, end)
          assert.deepStrictEqual(keys, labels.map(key))
        })
      const send = (...args: readonly [string, ...Array<string | number>]) => foreign.send(...args)

      yield* tells(send("SET", full("a"), 1), "a")
      yield* tells(send("GET", full("a")))
      yield* tells(send("INCR", full("a")), "a")
      yield* tells(send("APPEND", full("a"), "x"), "a")
      yield* tells(send("PEXPIRE", full("a"), 60_000), "a")
      yield* tells(send("PERSIST", full("a")), "a")
      yield* tells(send("RENAME", full("a"), full("b")), "a", "b")
      yield* tells(send("COPY", full("b"), full("a")), "a")
      yield* tells(send("DEL", full("a"), full("b"), full("none")), "a", "b")
      yield* tells(send("DEL", full("none")))
      yield* tells(send("MSET", full("a"), 1, full("b"), 2), "a", "b")
      yield* tells(send("UNLINK", full("a"), full("b")), "a", "b")
      yield* tells(send("HSET", full("h"), "f", 1), "h")
      yield* tells(send("HINCRBY", full("h"), "f", 1), "h")
      yield* tells(send("HDEL", full("h"), "f"), "h")
      yield* tells(send("HDEL", full("h"), "f"))
      yield* tells(send("RPUSH", full("l"), 1, 2, 3), "l")
      yield* tells(send("LTRIM", full("l"), 0, 1), "l")
      yield* tells(send("LMOVE", full("l"), full("m"), "LEFT", "LEFT"), "l", "m")
      yield* tells(send("SADD", full("s"), 1), "s")
      yield* tells(send("SADD", full("s"), 1))
      yield* tells(send("SREM", full("s"), 1), "s")
      yield* tells(send("ZADD", full("z"), 1, "m"), "z")
      yield* tells(send("ZINCRBY", full("z"), 1, "m"), "z")
      yield* tells(send("ZREM", full("z"), "m"), "z")
      yield* tells(send("SET", full("c"), 1, "NX"), "c")
      yield* tells(send("SET", full("c"), 1, "NX"))
      // Of this client, too.
      yield* tells(client.set(key("own"), "x"), "own")
      yield* tells(client.getDel(key("own")), "own")
      yield* tells(
        foreign.transaction([["SET", full("t"), 1], ["DEL", full("t")], ["SET", full("u"), 1]]),
        "t",
        "u"
      )
      yield* tells(
        foreign.pipeline([["SET", full("p"), 1], ["NOSUCHCOMMAND"], ["INCR", full("q")]]),
        "p",
        "q"
      )
      const script = RedisScript.make({
        name: "writes",
        lua: `redis.call("SET", KEYS[1], 1) redis.call("DEL", KEYS[2]) redis.call("HSET", KEYS[3], "f", 1) return 1`,
        params: (...keys: ReadonlyArray<string>) => ({ keys, args: [] }),
        result: RedisScript.number
      })
      yield* tells(client.eval(script, key("x"), key("u"), key("y")), "u", "x", "y")
    }))

  test("a change of a waiting client is told", (client, { name }) =>
    Effect.gen(function*() {
      const prefix = `${name("blocked")}:`
      const queue = yield* listenArmed(client, [prefix])
      const connection = yield* client.reserve({ key: name() })
      const fiber = yield* Effect.fork(connection.blmove(`${prefix}from`, `${prefix}to`, {
        from: "left",
        to: "left",
        timeout: "1 minute"
      }))
      yield* turn
      yield* client.rpush(`${prefix}from`, "x")
      yield* Fiber.join(fiber)
      yield* client.set(`${prefix}z`, "end")
      assert.deepStrictEqual(yield* keysUntil(queue, `${prefix}z`), [`${prefix}from`, `${prefix}to`])
    }))

  test("the end of a life is told", (client, { name, pass }) =>
    Effect.gen(function*() {
      const prefix = `${name("life")}:`
      const queue = yield* listenArmed(client, [prefix])
      yield* client.set(`${prefix}a`, "x", { ttl: "50 millis" })
      assert.deepStrictEqual(yield* keysUntil(queue, `${prefix}a`), [])
      yield* pass("60 millis")
      // Reading it is enough for the server to see it.
      yield* gives(client.get(`${prefix}a`), Option.none())
      assert.deepStrictEqual(yield* keysUntil(queue, `${prefix}a`), [])
    }))

  test("other prefixes are not told", (client, { name, other }) =>
    Effect.gen(function*() {
      const near = yield* other("near:")
      const prefix = `${name("own")}:`
      const queue = yield* listenArmed(client, [prefix])
      yield* client.set(prefix.slice(0, -1), "x")
      yield* client.set(`x${prefix}a`, "x")
      yield* client.set(prefix.toUpperCase(), "x")
      yield* near.set(`${prefix}a`, "x")
      yield* client.set(prefix, "x")
      yield* client.set(`${prefix}end`, "x")
      assert.deepStrictEqual(yield* keysUntil(queue, `${prefix}end`), [prefix])
    }))

  test(
    "an empty prefix is every key of the client, and of nobody else",
    (_, { name, other }) =>
      Effect.gen(function*() {
        const mine = yield* other(`${name("mine")}:`)
        const others = yield* other(`${name("others")}:`)
        const queue = yield* listenArmed(mine, [""])
        yield* others.set("a", "x")
        yield* mine.set("b", "x")
        yield* mine.set("c", "x")
        assert.deepStrictEqual(yield* keysUntil(queue, "c"), ["b"])
        // What was written to prove that it works is not told, and not there.
        yield* gives(Effect.map(Stream.runCollect(mine.scan()), (keys) => Chunk.toReadonlyArray(keys).toSorted()), [
          "b",
          "c"
        ])
      })
  )

  test("names can hold anything", (client, { name }) =>
    Effect.gen(function*() {
      for (const odd of ["*?[a]\\", " ", "\0\r\n", "{tag}:", "日本語", "\u{1f600}", "\ufeff", "\"',", "__redis__:"]) {
        const prefix = `${name(odd)}:${odd}`
        const queue = yield* listenArmed(client, [prefix])
        yield* client.set(`${prefix}${odd},${odd}`, "x")
        yield* client.set(`${prefix}end`, "x")
        assert.deepStrictEqual(yield* keysUntil(queue, `${prefix}end`), [`${prefix}${odd},${odd}`])
      }
      // A key that is no text comes as well as text can.
      const prefix = `${name("bytes")}:`
      const queue = yield* listenArmed(client, [prefix])
      const bytes = new Uint8Array([...new TextEncoder().encode(client.key(prefix)), 255, 0, 254])
      yield* client.send("SET", bytes, "x")
      yield* client.set(`${prefix}end`, "x")
      assert.deepStrictEqual(yield* keysUntil(queue, `${prefix}end`), [`${prefix}\ufffd\0\ufffd`])
      // Half of a pair is sent as a replacement character, and so is the key that a program writes with it.
      const half = yield* listenArmed(client, [`${prefix}\ud800`])
      yield* client.set(`${prefix}\ud800a`, "x")
      assert.deepStrictEqual(yield* keysUntil(half, `${prefix}\ufffda`), [])
      yield* client.send("DEL", bytes)
    }))

  test(
    "messages of others on the server's channel are none of its words",
    (client, { name }) =>
      Effect.gen(function*() {
        const prefix = `${name("forged")}:`
        const queue = yield* listenArmed(client, [prefix])
        yield* client.send("PUBLISH", "__redis__:invalidate", client.key(`${prefix}forged`))
        yield* client.send("PUBLISH", "__redis__:invalidate", "")
        yield* client.set(`${prefix}end`, "x")
        assert.deepStrictEqual(yield* keysUntil(queue, `${prefix}end`), [])
      })
  )

  test("streams of all prefixes each get their own", (_, { name, other }) =>
    Effect.gen(function*() {
      const client = yield* other(`${name("shared")}:`)
      const queues = [
        [["a:"], yield* listenArmed(client, ["a:"])],
        [["a:"], yield* listenArmed(client, ["a:"])],
        [["a:b:"], yield* listenArmed(client, ["a:b:"])],
        [["a:", "c:", "a:b:"], yield* listenArmed(client, ["a:", "c:", "a:b:"])],
        [["d:", "a"], yield* listenArmed(client, ["d:", "a"])],
        [[""], yield* listenArmed(client, [""])]
      ] as const
      const keys = ["a:1", "a:b:1", "ab", "c:1", "d:1", "e:1"]
      for (const key of keys) yield* client.set(key, "x")
      for (const [prefixes, queue] of queues) {
        const own = keys.filter((key) => prefixes.some((prefix) => key.startsWith(prefix)))
        yield* client.set(`${prefixes[0]}end`, "x")
        const seen = yield* keysUntil(queue, `${prefixes[0]}end`)
        // The ends of the others can be among them.
        assert.deepStrictEqual(seen.filter((key) => !key.endsWith("end")), own)
      }
    }))

  test(
    "a stream that comes or goes does not disturb the others, and loses them nothing",
    (_, { name, other }) =>
      Effect.gen(function*() {
        const client = yield* other(`${name("steady")}:`)
        const writer = yield* other(`${name("foreign")}:`)
        const queue = yield* listenArmed(client, ["steady:"])
        const written: Array<string> = []
        const writing = yield* Effect.fork(Effect.forever(Effect.gen(function*() {
          const key = `steady:${written.length}`
          yield* writer.send("SET", client.key(key), "x")
          written.push(key)
          if (written.length % 10 === 0) yield* turn
        })))
        for (let i = 0; i < 10 || written.length < 50; i++) {
          yield* Effect.asVoid(
            Effect.scoped(listenArmed(client, [i % 3 === 0 ? "" : i % 3 === 1 ? `other${i}:` : "steady:1"]))
          )
          yield* turn
        }
        yield* Fiber.interrupt(writing)
        yield* client.set("steady:end", "x")
        const seen = new Set(yield* keysUntil(queue, "steady:end"))
        assert.deepStrictEqual(written.filter((key) => !seen.has(key)), [])
      })
  )

  test("what is not read in time becomes one word", (client, { name }) =>
    Effect.gen(function*() {
      const prefix = `${name("slow")}:`
      const gate = yield* Effect.makeLatch(false)
      const said: Array<Invalidation> = []
      const fast = yield* listenArmed(client, [prefix])
      yield* client.invalidations([prefix], { capacity: 5 }).pipe(
        Stream.runForEach((element) => Effect.zipRight(gate.await, Effect.sync(() => said.push(element)))),
        Effect.forkScoped
      )
      yield* eventually(Effect.as(turn, true))
      const write = (from: number, to: number) =>
        Effect.forEach(Arr.range(from, to), (i) => client.set(`${prefix}${i}`, "x"), { discard: true })
      yield* write(1, 20)
      yield* client.set(`${prefix}end`, "x")
      // The fast one has it, so the slow one has, too.
      assert.lengthOf(yield* keysUntil(fast, `${prefix}end`), 20)
      yield* gate.open
      yield* eventually(Effect.sync(() => said.some((element) => element._tag === "InvalidatedAll")))
      assert.deepStrictEqual(
        said.map((element) => element._tag).filter((tag) => tag !== "Invalidated"),
        ["Armed", "InvalidatedAll"]
      )
      said.length = 0
      yield* client.set(`${prefix}later`, "x")
      yield* eventually(Effect.sync(() => said.length > 0))
      assert.deepStrictEqual(said.map((element) => element._tag === "Invalidated" ? element.keys : element._tag), [
        [`${prefix}later`]
      ])
    }))

  test("keys that wait are told once, and together", (client, { name }) =>
    Effect.gen(function*() {
      const prefix = `${name("merged")}:`
      const gate = yield* Effect.makeLatch(true)
      const fast = yield* listenArmed(client, [prefix])
      const said: Array<Invalidation> = []
      yield* client.invalidations([prefix]).pipe(
        Stream.runForEach((element) => Effect.zipRight(gate.await, Effect.sync(() => said.push(element)))),
        Effect.forkScoped
      )
      yield* eventually(Effect.sync(() => said.length === 1))
      yield* gate.close
      // One is in its hands, and the others wait.
      for (const key of ["first", "a", "b", "a", "b", "a", "end"]) {
        yield* client.set(`${prefix}${key}`, "x")
        yield* turn
      }
      yield* keysUntil(fast, `${prefix}end`)
      yield* gate.open
      yield* eventually(Effect.sync(() => said.length === 3))
      const keys = said.flatMap((element) => element._tag === "Invalidated" ? element.keys : [])
      assert.deepStrictEqual(keys.toSorted(), ["a", "b", "end", "first"].map((key) => `${prefix}${key}`))
    }))

  test("a stream that ends or is interrupted leaves no key behind", (_, { name, other }) =>
    Effect.gen(function*() {
      const client = yield* other(`${name("ended")}:`)
      for (let i = 0; i < 20; i++) {
        const fiber = yield* Effect.fork(Stream.runDrain(client.invalidations([`${i % 3}`])))
        for (let j = 0; j < i % 5; j++) yield* turn
        yield* Fiber.interrupt(fiber)
      }
      const one = yield* Stream.runCollect(Stream.take(client.invalidations(["a"]), 1))
      assert.deepStrictEqual(Chunk.toReadonlyArray(one).map((said) => said._tag), ["Armed"])
      yield* gives(Effect.map(Stream.runCollect(client.scan()), Chunk.size), 0)
    }))

  test("a stream can be run again", (client, { name }) =>
    Effect.gen(function*() {
      const prefix = `${name("again")}:`
      const stream = client.invalidations([prefix]).pipe(Stream.take(2))
      for (let i = 0; i < 3; i++) {
        const fiber = yield* Effect.fork(Stream.runCollect(Stream.tap(
          stream,
          (said) => said._tag === "Armed" ? client.set(`${prefix}${i}`, "x") : Effect.void
        )))
        const said = Chunk.toReadonlyArray(yield* Fiber.join(fiber))
        assert.deepStrictEqual(said.map((element) => element._tag === "Invalidated" ? element.keys : element._tag), [
          "Armed",
          [`${prefix}${i}`]
        ])
      }
    }))

  test("the end of the client is the end of its streams", (_, { name, other }) =>
    Effect.gen(function*() {
      const prefix = `${name("closed")}:`
      const [fiber, client] = yield* Effect.scoped(Effect.gen(function*() {
        const client = yield* other(prefix)
        const armed = yield* Effect.makeLatch(false)
        const fiber = yield* Effect.forkDaemon(
          Stream.runCollect(Stream.tap(client.invalidations([""]), () => armed.open))
        )
        yield* armed.await
        return [fiber, client] as const
      }))
      const said = Chunk.toReadonlyArray(yield* Fiber.join(fiber))
      assert.deepStrictEqual(said.map((element) => element._tag), ["Armed", "Down"])
      const exit = yield* Effect.exit(Stream.runDrain(client.invalidations([""])))
      assert(Exit.isFailure(exit))
      const error = Cause.failureOption(exit.cause)
      assert(Option.isSome(error) && error.value._tag === "RedisConnectionError")
      assert.strictEqual(error.value.reason, "closed")
    }))

  test("what can't be listened to is refused", (client) =>
    Effect.gen(function*() {
      yield* refused(Stream.runDrain(client.invalidations([])), "prefixes")
      for (const capacity of [0, -1, 1.5, NaN, Infinity]) {
        yield* refused(Stream.runDrain(client.invalidations(["a"], { capacity })), "capacity")
      }
    }))
}
