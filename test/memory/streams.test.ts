/**
 * Streams of the in-memory server: what the random comparison does not reach, and those who wait for entries, beside a
 * real server.
 */
import { assert, describe, it } from "@effect/vitest"
import { Effect, FastCheck as FC, Fiber, Layer, ManagedRuntime, Option, type Scope, TestClock } from "effect"
import { inject } from "vitest"
import { formatId, makeId, Ordered, Stream } from "../../src/memory/streams.js"
import { type Connection, RedisClient } from "../../src/RedisClient.js"
import type { RedisError } from "../../src/RedisError.js"
import * as RedisTestServer from "../../src/RedisTestServer.js"
import { drivers, live, memory } from "../kit/layers.js"
import { eventually } from "../RedisClient/contract/tools.js"
import type { Shown } from "./show.js"
import { makeServer, run, type Server, steps, SYNTAX, WRONG_TYPE } from "./tools.js"
import { comparison } from "./versions.js"

const INVALID_ID = "-ERR Invalid stream ID specified as stream command argument"
const TOO_SMALL = "-ERR The ID specified in XADD is equal or smaller than the target stream top item"
const NO_GROUP = (key: string, group: string, where = "") =>
  `-NOGROUP No such key '${key}' or consumer group '${group}'${where}`

/** Adds entries `1-1` to `1-n`. */
const fill = (server: Server, key: string, count: number): void => {
  for (let i = 1; i <= count; i++) server.run("XADD", key, `1-${i}`, "n", i)
}

/** A reply of names and values. */
const field = (reply: Shown, name: string): Shown => Array.isArray(reply) ? reply[reply.indexOf(name) + 1] : null

describe("entries", () => {
  it("have ids of the virtual time", () => {
    const server = makeServer()
    run(server, [["XADD s * a 1", "0-1"], ["XADD s * a 2", "0-2"]])
    server.clock.now = 1500
    run(server, [
      ["XADD s * a 3", "1500-0"],
      ["XADD s 1500-* a 4", "1500-1"],
      ["XADD s 1600-* a 5", "1600-0"],
      ["XADD s * a 6", "1600-1"],
      ["XADD s 1600-1 a 7", TOO_SMALL],
      ["XADD s 1500-* a 8", TOO_SMALL],
      ["XLEN s", 6]
    ])
    server.clock.now = 1000
    run(server, [["XADD s * a 9", "1600-2"]])
  })

  steps(
    "have ids up to the last one of all",
    ["XADD s 18446744073709551615-18446744073709551614 a 1", "18446744073709551615-18446744073709551614"],
    ["XADD s * a 2", "18446744073709551615-18446744073709551615"],
    ["XADD s * a 3", "-ERR The stream has exhausted the last possible ID, unable to add more items"],
    ["XADD s 18446744073709551616-0 a 3", INVALID_ID],
    ["XRANGE s (18446744073709551615-18446744073709551614 +", [[
      "18446744073709551615-18446744073709551615",
      ["a", "2"]
    ]]],
    ["XRANGE s (18446744073709551615-18446744073709551615 +", "-ERR invalid start ID for the interval"],
    ["XREVRANGE s (0-0 -", "-ERR invalid end ID for the interval"],
    ["XREAD STREAMS s 18446744073709551615-18446744073709551615", null],
    ["XADD t 7-18446744073709551615 a 1", "7-18446744073709551615"],
    ["XADD t 7-* a 2", TOO_SMALL],
    ["XADD t 8-* a 2", "8-0"]
  )

  steps(
    "are cut from the front",
    ["XADD s 1-1 a 1", "1-1"],
    ["XADD s NOMKSTREAM MAXLEN = 2 1-2 a 2", "1-2"],
    ["XADD s MAXLEN 2 1-3 a 3", "1-3"],
    ["XRANGE s - +", [["1-2", ["a", "2"]], ["1-3", ["a", "3"]]]],
    ["XTRIM s MINID 1-3", 1],
    ["XADD none NOMKSTREAM * a 1", null],
    ["XTRIM s MAXLEN 1 LIMIT 1", "-ERR syntax error, LIMIT cannot be used without the special ~ option"],
    ["XTRIM s MAXLEN 1 MINID 1", "-ERR syntax error, MAXLEN and MINID options at the same time are not compatible"],
    ["XTRIM s FOO 1", SYNTAX]
  )

  it("an approximate trim removes whole nodes: of a hundred entries, or 4096 bytes", () => {
    const server = makeServer()
    fill(server, "s", 250)
    run(server, [["XTRIM s MAXLEN ~ 151", 0], ["XTRIM s MAXLEN ~ 150", 100], ["XTRIM s MINID ~ 1-200", 0]])
    run(server, [["XTRIM s MINID ~ 1-201", 100], ["XLEN s", 50], ["XTRIM s MAXLEN ~ 0 LIMIT 49", 0]])
    run(server, [["XTRIM s MAXLEN ~ 0 LIMIT 50", 50], ["XLEN s", 0], ["EXISTS s", 1]])
    for (let i = 1; i <= 3; i++) server.run("XADD", "t", `1-${i}`, "f", "x".repeat(1800))
    run(server, [["XTRIM t MAXLEN ~ 2", 0], ["XTRIM t MAXLEN ~ 1", 2]])
  })

  steps(
    "an empty stream is a key, and knows its last id",
    ["XADD s 5-1 a 1", "5-1"],
    ["XDEL s 5-1 5-1 6-1", 1],
    ["XLEN s", 0],
    ["TYPE s", "+stream"],
    ["SCAN 0 TYPE stream", ["0", ["s"]]],
    ["XADD s 5-1 a 1", TOO_SMALL],
    ["XSETID s 4-0", "+OK"],
    ["XADD s 5-1 a 1", "5-1"],
    ["XSETID s 5-0", "-ERR The ID specified in XSETID is smaller than the target stream top item"],
    ["XSETID none 5-0", "-ERR no such key"],
    ["SET k v", "+OK"],
    ["XADD k * a 1", WRONG_TYPE],
    ["XREAD STREAMS s k 0 0", WRONG_TYPE]
  )

  it("a copy has the groups too, and goes its own way", () => {
    const server = makeServer()
    fill(server, "s", 3)
    run(server, [
      ["XGROUP CREATE s g 0", "+OK"],
      ["XREADGROUP GROUP g c COUNT 2 STREAMS s >", [["s", [["1-1", ["n", "1"]], ["1-2", ["n", "2"]]]]]]
    ])
    const before = server.run("XINFO", "STREAM", "s", "FULL")
    run(server, [
      ["COPY s t", 1],
      ["XACK s g 1-1 1-2", 2],
      ["XDEL s 1-3", 1],
      ["XPENDING s g", [0, null, null, null]],
      ["XPENDING t g", [2, "1-1", "1-2", [["c", "2"]]]],
      ["XLEN t", 3]
    ])
    assert.deepStrictEqual(server.run("XINFO", "STREAM", "t", "FULL"), before)
  })

  it("a hundred thousand of them, kept and cut", () => {
    const server = makeServer()
    for (let i = 0; i < 100_000; i++) {
      server.engine.execute(server.session, ["XADD", "s", "MAXLEN", "50000", `${i + 1}-0`, "n", "x"])
    }
    run(server, [["XLEN s", 50_000], ["XGROUP CREATE s g 0", "+OK"], ["XTRIM s MINID 60001", 10_000]])
    assert.deepStrictEqual(server.run("XRANGE", "s", "-", "+", "COUNT", 1), [["60001-0", ["n", "x"]]])
    assert.deepStrictEqual(server.run("XREVRANGE", "s", "75000-5", "75000-0"), [["75000-0", ["n", "x"]]])
    server.run("XREADGROUP", "GROUP", "g", "c", "STREAMS", "s", ">")
    for (let i = 60_001; i <= 99_999; i++) server.engine.execute(server.session, ["XACK", "s", "g", `${i}`])
    run(server, [["XPENDING s g", [1, "100000-0", "100000-0", [["c", "1"]]]]])
  })
})

describe("groups", () => {
  it("how long entries are idle and consumers were not seen is the virtual time", () => {
    const server = makeServer()
    fill(server, "s", 2)
    run(server, [["XGROUP CREATE s g 0", "+OK"]])
    server.run("XREADGROUP", "GROUP", "g", "a", "STREAMS", "s", ">")
    server.clock.now = 1000
    run(server, [
      ["XPENDING s g IDLE 1000 - + 10", [["1-1", "a", 1000, 1], ["1-2", "a", 1000, 1]]],
      ["XPENDING s g IDLE 1001 - + 10", []],
      ["XCLAIM s g b 1001 1-1", []],
      ["XCLAIM s g b 1000 1-1", [["1-1", ["n", "1"]]]],
      ["XAUTOCLAIM s g b 1000 0 COUNT 5 JUSTID", ["0-0", ["1-2"], []]],
      ["XINFO CONSUMERS s g", [
        ["name", "a", "pending", 0, "idle", 1000],
        ["name", "b", "pending", 2, "idle", 0]
      ]],
      ["XCLAIM s g b 0 1-2 IDLE 300 RETRYCOUNT 7 JUSTID", ["1-2"]],
      ["XPENDING s g - + 10", [["1-1", "b", 0, 2], ["1-2", "b", 300, 7]]]
    ])
  })

  it("what was deleted before it was acknowledged", () => {
    const server = makeServer()
    fill(server, "s", 4)
    run(server, [["XGROUP CREATE s g 0", "+OK"]])
    server.run("XREADGROUP", "GROUP", "g", "a", "STREAMS", "s", ">")
    run(server, [
      ["XDEL s 1-1 1-3 1-4", 3],
      ["XREADGROUP GROUP g a STREAMS s 0", [["s", [
        ["1-1", null],
        ["1-2", ["n", "2"]],
        ["1-3", null],
        ["1-4", null]
      ]]]],
      ["XCLAIM s g b 0 1-4", []],
      ["XAUTOCLAIM s g b 0 - COUNT 2 JUSTID", ["1-3", ["1-2"], ["1-1"]]],
      ["XAUTOCLAIM s g b 0 1-3 COUNT 2", ["0-0", [], ["1-3"]]],
      ["XPENDING s g", [1, "1-2", "1-2", [["b", "1"]]]]
    ])
  })

  it("lag is told as long as it can be known", () => {
    const server = makeServer()
    fill(server, "s", 4)
    const lag = () => {
      const groups = server.run("XINFO", "GROUPS", "s")
      const [group = null] = Array.isArray(groups) ? groups : []
      return [field(group, "entries-read"), field(group, "lag")]
    }
    run(server, [["XGROUP CREATE s g 0", "+OK"]])
    assert.deepStrictEqual(lag(), [null, 4])
    server.run("XREADGROUP", "GROUP", "g", "a", "COUNT", 1, "STREAMS", "s", ">")
    assert.deepStrictEqual(lag(), [1, 3])
    run(server, [["XDEL s 1-3", 1]])
    assert.deepStrictEqual(lag(), [1, null])
    server.run("XREADGROUP", "GROUP", "g", "a", "STREAMS", "s", ">")
    assert.deepStrictEqual(lag(), [4, 0])
    run(server, [["XGROUP SETID s g 1-2", "+OK"]])
    assert.deepStrictEqual(lag(), [null, null])
  })

  steps(
    "what is missing is named",
    [
      "XGROUP CREATE s g $",
      "-ERR The XGROUP subcommand requires the key to exist. Note that for CREATE you may want " +
      "to use the MKSTREAM option to create an empty stream automatically."
    ],
    ["XGROUP CREATE s g $ MKSTREAM", "+OK"],
    ["XGROUP CREATE s g $ MKSTREAM", "-BUSYGROUP Consumer Group name already exists"],
    ["XGROUP SETID s h 0", "-NOGROUP No such consumer group 'h' for key name 's'"],
    ["XREADGROUP GROUP h c STREAMS s >", NO_GROUP("s", "h", " in XREADGROUP with GROUP option")],
    ["XPENDING s h", NO_GROUP("s", "h")],
    ["XCLAIM none g c 0 1-1", NO_GROUP("none", "g")],
    ["XAUTOCLAIM s h c 0 0", NO_GROUP("s", "h")],
    ["XACK s h 1-1", 0],
    ["XINFO CONSUMERS s h", "-NOGROUP No such consumer group 'h' for key name 's'"],
    ["XGROUP HELP", "-ERR command 'XGROUP HELP' is not supported by the in-memory server"]
  )
})

describe("where nothing may wait", () => {
  steps(
    "a transaction replies at once, and a script says so",
    ["MULTI", "+OK"],
    ["XREAD BLOCK 0 STREAMS s $", "+QUEUED"],
    ["EXEC", [null]]
  )

  it("a script", () => {
    const server = makeServer()
    const script = "return redis.pcall('XREAD', 'BLOCK', 0, 'STREAMS', KEYS[1], '$')"
    assert.strictEqual(
      server.run("EVAL", script, 1, "s"),
      "-ERR XREAD command is not allowed with BLOCK option from scripts"
    )
  })

  it("a Cluster looks at all keys of a read", () => {
    const server = makeServer({ cluster: true })
    const crossSlot = "-CROSSSLOT Keys in request don't hash to the same slot"
    run(server, [
      ["XREAD COUNT 1 STREAMS {a}1 {a}2 0 0", null],
      ["XREAD COUNT 1 STREAMS a b 0 0", crossSlot],
      ["XREADGROUP GROUP streams c NOACK BLOCK 1 STREAMS a b > >", crossSlot]
    ])
    assert.match(String(server.run("EVAL", "return redis.call('XREAD', 'STREAMS', 'b', '0')", 1, "a")), /'b' \(slot/)
  })
})

describe("the structures below", () => {
  const ids = FC.nat({ max: 3000 })

  it("things in order are found, added and deleted like those of a plain list", () => {
    FC.assert(
      FC.property(FC.array(FC.tuple(FC.boolean(), ids), { minLength: 1500, maxLength: 4000 }), (changes) => {
        const ordered = new Ordered<{ readonly id: bigint }>()
        const plain = new Set<bigint>()
        for (const [adds, n] of changes) {
          const id = BigInt(n)
          assert.strictEqual(ordered.get(id) !== undefined, plain.has(id))
          if (adds && !plain.has(id)) {
            plain.add(id)
            ordered.add({ id })
          } else if (!adds) {
            plain.delete(id)
            ordered.delete(id)
          }
        }
        const sorted = [...plain].sort((a, b) => a < b ? -1 : 1)
        assert.deepStrictEqual([...ordered].map(({ id }) => id), sorted)
        assert.strictEqual(ordered.size, sorted.length)
        assert.strictEqual(ordered.last?.id, sorted.at(-1))
        for (const [, n] of changes.slice(0, 100)) {
          assert.strictEqual(ordered.atLeast(BigInt(n))?.id, sorted.find((id) => id >= BigInt(n)))
        }
      }),
      { numRuns: 20 }
    )
  })

  it("ranges over many nodes, some with holes", () => {
    FC.assert(
      FC.property(
        FC.array(ids, { maxLength: 1500 }),
        FC.array(FC.tuple(ids, ids), { maxLength: 30 }),
        (gone, ranges) => {
          const stream = new Stream()
          for (let n = 0; n < 1500; n++) stream.append(makeId(BigInt(n), 1n), ["n", "x"])
          for (const n of gone) stream.delete(makeId(BigInt(n), 1n))
          const left = Array.from({ length: 1500 }, (_, n) => n).filter((n) => !gone.includes(n))
          assert.strictEqual(stream.size, left.length)
          for (const [from, to] of ranges) {
            const expected = left.filter((n) => n >= from && n <= to).map((n) => formatId(makeId(BigInt(n), 1n)))
            const [first, last] = [makeId(BigInt(from), 1n), makeId(BigInt(to), 1n)]
            assert.deepStrictEqual(stream.range(first, last, Infinity).map(({ name }) => name), expected)
            assert.deepStrictEqual(stream.range(first, last, 7).map(({ name }) => name), expected.slice(0, 7))
            expected.reverse()
            assert.deepStrictEqual(stream.reversed(first, last, Infinity).map(({ name }) => name), expected)
            assert.deepStrictEqual(stream.reversed(first, last, 7).map(({ name }) => name), expected.slice(0, 7))
          }
        }
      ),
      { numRuns: 20 }
    )
  })
})

// ---------------------------------------------------------------------------------------------------------------------
// Waiting
// ---------------------------------------------------------------------------------------------------------------------

/** Sends a blocking command with nothing to hand back. */
const block = (connection: Connection, command: string, ...args: ReadonlyArray<string>) =>
  connection.sendBlocking(command, args, () => Effect.void)

const said = (error: RedisError): string => "code" in error ? `-${error.message}` : error._tag

describe("waiting, on the virtual clock", () => {
  const test = <A, E>(name: string, body: Effect.Effect<A, E, RedisClient | Scope.Scope>) =>
    it.scoped(name, () => Effect.provide(body, Layer.fresh(RedisTestServer.layer)))

  test(
    "ends with its time",
    Effect.gen(function*() {
      const client = yield* RedisClient
      const connection = yield* client.reserve()
      const fiber = yield* Effect.fork(block(connection, "XREAD", "BLOCK", "5000", "STREAMS", "s", "$"))
      yield* TestClock.adjust("4999 millis")
      assert.isTrue(Option.isNone(yield* Fiber.poll(fiber)))
      yield* TestClock.adjust("1 millis")
      assert.isNull(yield* Fiber.join(fiber))
    })
  )

  test(
    "ends with an entry, also one of a script or a transaction, and then with the next",
    Effect.gen(function*() {
      const client = yield* RedisClient
      const connection = yield* client.reserve()
      const adds = [
        client.send("XADD", "s", "*", "f", "plain"),
        client.send("EVAL", "return redis.call('XADD', KEYS[1], '*', 'f', 'script')", 1, "s"),
        client.transaction([["XADD", "s", "*", "f", "transaction"]])
      ]
      const got: Array<unknown> = []
      for (const add of adds) {
        const fiber = yield* Effect.fork(block(connection, "XREAD", "BLOCK", "0", "STREAMS", "none", "s", "$", "$"))
        yield* TestClock.adjust("1 hour")
        yield* add
        got.push(yield* Fiber.join(fiber))
      }
      assert.deepStrictEqual(got, [
        [["s", [["3600000-0", ["f", "plain"]]]]],
        [["s", [["7200000-0", ["f", "script"]]]]],
        [["s", [["10800000-0", ["f", "transaction"]]]]]
      ])
    })
  )

  test(
    "a group hands each entry to the one that has waited longest",
    Effect.gen(function*() {
      const client = yield* RedisClient
      yield* client.send("XGROUP", "CREATE", "s", "g", "$", "MKSTREAM")
      const fibers: Array<Fiber.RuntimeFiber<unknown, RedisError>> = []
      for (const name of ["a", "b", "c"]) {
        const connection = yield* client.reserve()
        fibers.push(
          yield* Effect.fork(
            block(connection, "XREADGROUP", "GROUP", "g", name, "COUNT", "1", "BLOCK", "0", "STREAMS", "s", ">")
          )
        )
        yield* TestClock.adjust(0)
      }
      yield* client.send("XADD", "s", "1-1", "f", "1")
      yield* client.send("XADD", "s", "1-2", "f", "2")
      assert.deepStrictEqual(yield* Fiber.join(fibers[0]!), [["s", [["1-1", ["f", "1"]]]]])
      assert.deepStrictEqual(yield* Fiber.join(fibers[1]!), [["s", [["1-2", ["f", "2"]]]]])
      assert.isTrue(Option.isNone(yield* Fiber.poll(fibers[2]!)))
      assert.deepStrictEqual(yield* client.send("XPENDING", "s", "g"), [2, "1-1", "1-2", [["a", "1"], ["b", "1"]]])
      yield* Fiber.interrupt(fibers[2]!)
      yield* client.send("XADD", "s", "1-3", "f", "3")
      assert.deepStrictEqual(yield* client.send("XLEN", "s"), 3)
      assert.deepStrictEqual(yield* client.send("XPENDING", "s", "g", "1-3", "1-3", 1), [])
    })
  )

  test(
    "a reader of a group hears of the end of its stream, also when its life ends",
    Effect.gen(function*() {
      const client = yield* RedisClient
      const connection = yield* client.reserve()
      const wait = Effect.flip(block(connection, "XREADGROUP", "GROUP", "g", "c", "BLOCK", "0", "STREAMS", "s", ">"))
      const create = client.send("XGROUP", "CREATE", "s", "g", "$", "MKSTREAM")
      const heard = (end: Effect.Effect<unknown, RedisError>) =>
        Effect.gen(function*() {
          yield* create
          const fiber = yield* Effect.fork(wait)
          yield* TestClock.adjust(0)
          yield* end
          return said(yield* Fiber.join(fiber))
        })
      const gone = "the stream key no longer exists"
      assert.include(yield* heard(client.send("DEL", "s")), gone)
      assert.include(yield* heard(client.send("SET", "s", "x")), gone)
      yield* client.send("DEL", "s")
      assert.include(yield* heard(client.send("FLUSHALL")), gone)
      assert.include(yield* heard(client.send("XGROUP", "DESTROY", "s", "g")), "no longer exists")
      assert.include(
        yield* heard(
          Effect.zipRight(client.send("PEXPIRE", "s", 1000), TestClock.adjust("1 second"))
        ),
        gone
      )
      yield* create
      yield* client.send("PEXPIRE", "s", 1000)
      const fiber = yield* Effect.fork(wait)
      yield* TestClock.adjust("500 millis")
      yield* client.send("PEXPIRE", "s", 1500)
      yield* TestClock.adjust("1499 millis")
      assert.isTrue(Option.isNone(yield* Fiber.poll(fiber)))
      yield* TestClock.adjust("1 millis")
      assert.include(said(yield* Fiber.join(fiber)), gone)
    })
  )

  test(
    "is refused on the shared connection",
    Effect.gen(function*() {
      const client = yield* RedisClient
      const waits = [
        ["XREAD", "BLOCK", "0", "STREAMS", "s", "$"],
        ["xreadgroup", "GROUP", "g", "c", "block", "0", "STREAMS", "s", ">"]
      ] as const
      for (const [name, ...args] of waits) {
        assert.strictEqual((yield* Effect.flip(client.send(name, ...args)))._tag, "RedisInputError")
        assert.strictEqual((yield* Effect.flip(client.pipeline([[name, ...args]])))._tag, "RedisInputError")
        assert.strictEqual((yield* Effect.flip(client.transaction([[name, ...args]])))._tag, "RedisInputError")
      }
      // The word is a key here.
      assert.isNull(yield* client.send("XREAD", "STREAMS", "block", "0"))
    })
  )
})

/** Each with whether it counts as a change of the key: what it replies does not tell. */
const changes: ReadonlyArray<readonly [command: string, changed: boolean]> = [
  ["XADD @ 1-1 f v", true],
  ["XADD @ 2-* f v", true],
  ["XADD @ 1-1 f v", false],
  ["XDEL @ 9-9", false],
  ["XDEL @ 1-1", true],
  ["XTRIM @ MAXLEN 5", false],
  ["XTRIM @ MAXLEN 0", true],
  ["XADD @ 3-1 f v", true],
  ["XGROUP CREATE @ g 0", false],
  ["XGROUP CREATE @:other g 0 MKSTREAM", true],
  ["XGROUP CREATECONSUMER @ g c", false],
  ["XREADGROUP GROUP g c STREAMS @ >", false],
  ["XREADGROUP GROUP g c STREAMS @ 0", false],
  ["XCLAIM @ g d 0 3-1", false],
  ["XAUTOCLAIM @ g c 0 0", false],
  ["XACK @ g 3-1", false],
  ["XSETID @ 9-0", false],
  ["XGROUP SETID @ g $", false],
  ["XGROUP DESTROY @ g", false],
  ["XREAD STREAMS @ 0", false]
]

describe("a key that is watched", () => {
  for (const [name, layer] of drivers) {
    it.live(`is changed by some commands, ${name}`, () =>
      Effect.gen(function*() {
        const client = yield* RedisClient
        const key = client.key("{watched}")
        const connection = yield* client.reserve({ key })
        for (const [command, changed] of changes) {
          const [name, ...args] = command.replace("@", key).split(" ") as [string, ...Array<string>]
          yield* connection.watch("{watched}", "{watched}:other")
          yield* Effect.ignore(client.send(name, ...args))
          assert.strictEqual(Option.isNone(yield* connection.transaction([["PING"]])), changed, command)
        }
      }).pipe(Effect.scoped, Effect.provide(layer)))
  }
})

type Move =
  | { readonly wait: number; readonly argv: ReadonlyArray<string> }
  | { readonly write: ReadonlyArray<ReadonlyArray<string>> }

/** Two keys, three that wait, and whatever can end a wait or must not. */
const moves: FC.Arbitrary<Move> = (() => {
  const oneOf = (...texts: ReadonlyArray<string>) => FC.constantFrom(...texts)
  const key = oneOf("@a", "@a", "@a", "@b")
  const words = (...texts: ReadonlyArray<string>) => FC.constantFrom(...texts.map((text) => text.split(" ")))
  const count = words("COUNT 1", "COUNT 2", "COUNT 100")
  const read = FC.tuple(
    count,
    FC.oneof(
      key.map((name) => ["STREAMS", name, "$"]),
      FC.tuple(key, oneOf("$", "9-2", "99-0")).map(([name, id]) => ["STREAMS", name, "@b", id, "$"])
    )
  ).map(([count, streams]) => ["XREAD"].concat(count, ["BLOCK", "0"], streams))
  const readGroup = FC.tuple(
    oneOf("g", "g", "h"),
    oneOf("c1", "c2"),
    FC.oneof(count, words("NOACK", "NOACK COUNT 1")),
    FC.oneof(key.map((name) => ["STREAMS", name, ">"]), words("STREAMS @a @b > >"))
  ).map(([group, consumer, options, streams]) =>
    ["XREADGROUP", "GROUP", group, consumer].concat(options, ["BLOCK", "0"], streams)
  )
  const add = key.map((name) => ["XADD", name, "9-*", "f", "v"])
  const write = FC.oneof(
    { weight: 6, arbitrary: add },
    { weight: 1, arbitrary: key.map((name) => ["XADD", name, "MAXLEN", "0", "9-*", "f", "v"]) },
    {
      weight: 6,
      arbitrary: FC.tuple(key, oneOf("g", "g", "h"), oneOf("$", "$", "0"))
        .map(([name, group, id]) => ["XGROUP", "CREATE", name, group, id, "MKSTREAM"])
    },
    { weight: 1, arbitrary: FC.tuple(key, oneOf("g", "h")).map(([name, group]) => ["XGROUP", "DESTROY", name, group]) },
    { weight: 1, arbitrary: key.map((name) => ["XGROUP", "SETID", name, "g", "0"]) },
    { weight: 1, arbitrary: key.map((name) => ["DEL", name]) },
    { weight: 1, arbitrary: key.map((name) => ["SET", name, "x"]) },
    { weight: 1, arbitrary: key.map((name) => ["LPUSH", name, "x"]) },
    { weight: 1, arbitrary: words("RENAME @a @b", "RENAME @b @a", "COPY @a @b REPLACE", "PEXPIRE @a 0") },
    { weight: 1, arbitrary: key.map((name) => ["XDEL", name, "9-0", "9-1", "9-2"]) },
    {
      weight: 2,
      arbitrary: key.map((name) => [
        "EVAL",
        "redis.pcall('XADD', KEYS[1], '9-*', 'f', '1') return redis.pcall('XADD', KEYS[1], '9-*', 'f', '2')",
        "1",
        name
      ])
    }
  )
  return FC.oneof(
    {
      weight: 4,
      arbitrary: FC.record({ wait: FC.nat({ max: 2 }), argv: FC.oneof(read, readGroup, readGroup) })
    },
    { weight: 4, arbitrary: write.map((argv): Move => ({ write: [argv] })) },
    { weight: 1, arbitrary: FC.array(write, { minLength: 2, maxLength: 4 }).map((write): Move => ({ write })) }
  )
})()

let rounds = 0

/** Makes the moves on one server, and returns what everybody was told, in order. */
const play = (list: ReadonlyArray<Move>): Effect.Effect<ReadonlyArray<string>, RedisError, RedisClient> =>
  Effect.scoped(Effect.gen(function*() {
    const client = yield* RedisClient
    const prefix = client.key(`{waiting:${process.pid}:${++rounds}}`)
    const named = (argv: ReadonlyArray<string>) => argv.map((arg) => arg.replace(/^@/, prefix))
    const log: Array<string> = []
    const tell = (who: string, what: unknown) => log.push(`${who}: ${JSON.stringify(what).replaceAll(prefix, "@")}`)
    const observer = yield* client.reserve({ key: prefix })
    const waiters = yield* Effect.forEach([0, 1, 2], () => client.reserve({ key: prefix }))
    const fibers = new Map<number, Fiber.RuntimeFiber<unknown, never>>()
    const isBlocked = (id: number) =>
      Effect.map(
        observer.send("CLIENT", "LIST"),
        (text) => String(text).split("\n").some((line) => line.startsWith(`id=${id} `) && /flags=\w*b/.test(line))
      )
    const either = (effect: Effect.Effect<unknown, RedisError>) =>
      Effect.catchAll(effect, (e) => Effect.succeed(said(e)))
    yield* Effect.addFinalizer(() => Effect.orDie(client.send("DEL", `${prefix}a`, `${prefix}b`)))
    for (const name of ["a", "b"]) yield* client.send("XGROUP", "CREATE", `${prefix}${name}`, "g", "$", "MKSTREAM")
    for (const move of list) {
      if ("wait" in move) {
        const { wait } = move
        if (fibers.has(wait)) continue
        const [name, ...args] = named(move.argv) as [string, ...Array<string>]
        const fiber = yield* Effect.fork(either(block(waiters[wait]!, name, ...args)))
        fibers.set(wait, fiber)
        // It waits now, or it was answered.
        yield* eventually(
          Effect.gen(function*() {
            return Option.isSome(yield* Fiber.poll(fiber)) || (yield* isBlocked(waiters[wait]!.id))
          })
        )
      } else {
        const commands = move.write.map(named)
        const [name, ...args] = commands[0] as [string, ...Array<string>]
        tell(
          "writer",
          commands.length > 1
            ? yield* Effect.map(
              client.transaction(commands as Array<[string, ...Array<string>]>),
              (replies) => replies.map((reply) => reply._tag === "Right" ? reply.right : said(reply.left))
            )
            : yield* either(client.send(name, ...args))
        )
      }
      for (const [i, fiber] of Array.from(fibers).sort(([a], [b]) => a - b)) {
        if (yield* isBlocked(waiters[i]!.id)) continue
        tell(`waiter ${i}`, yield* Fiber.join(fiber))
        fibers.delete(i)
      }
    }
    tell("still waiting", [...fibers.keys()].sort())
    yield* Fiber.interruptAll(fibers.values())
    for (const name of ["a", "b"]) {
      tell(name, yield* either(client.send("XINFO", "STREAM", `${prefix}${name}`)))
      tell(name, yield* either(client.send("XPENDING", `${prefix}${name}`, "g")))
    }
    return log
  }))

describe("waiting, as on a server", () => {
  const scale = Number(process.env.FC_SCALE ?? 1)

  it("whoever waits hears the same at the same moment", async () => {
    const { sends } = await comparison(inject("redisUrl"))
    const real = ManagedRuntime.make(live)
    const ours = ManagedRuntime.make(memory)
    await FC.assert(
      FC.asyncProperty(FC.array(moves, { minLength: 5, maxLength: 25, size: "max" }), async (all) => {
        const list = all.filter((move) =>
          "wait" in move ? sends(move.argv, false) : move.write.every((argv) => sends(argv, move.write.length > 1))
        )
        const expected = await real.runPromise(play(list))
        assert.deepStrictEqual(await ours.runPromise(play(list)), expected)
      }),
      { numRuns: 40 * scale }
    ).finally(() => Promise.all([real.dispose(), ours.dispose()]))
  })
})
