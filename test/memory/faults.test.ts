import { assert, describe, it } from "@effect/vitest"
import { Effect, Either, Exit, Fiber, Option, Queue, Redacted, type Scope, Stream, TestClock } from "effect"
import { layer } from "../../src/IoRedis.js"
import { commandTable } from "../../src/memory/commands/table.js"
import { allowedWhileLoading, deniedWithoutMemory, UNBLOCKED } from "../../src/memory/condition.js"
import { RedisClient, type Reply } from "../../src/RedisClient.js"
import type { RedisError } from "../../src/RedisError.js"
import * as RedisScript from "../../src/RedisScript.js"
import { type Condition, Fault, layerWith, type Options, RedisTestServer } from "../../src/RedisTestServer.js"
import { liveWith } from "../kit/layers.js"
import * as RealServer from "../kit/RealServer.js"

type Needs = RedisClient | RedisTestServer | Scope.Scope

const test = <A, E>(name: string, body: Effect.Effect<A, E, Needs>, options: Options = {}) =>
  it.scoped(name, () => Effect.provide(body, layerWith(options)))

const reply = Fault.reply("ERR injected")

/** What becomes of a command: its reply, or the code or the tag of its error. */
const outcome = <A>(effect: Effect.Effect<A, RedisError>): Effect.Effect<A | string> =>
  Effect.catchAll(effect, (error) => Effect.succeed(error._tag === "RedisReplyError" ? error.reply : error._tag))

const send = (
  command: string,
  ...args: ReadonlyArray<string | number>
): Effect.Effect<Reply, RedisError, RedisClient> =>
  Effect.flatMap(RedisClient, (client) => client.send(command, ...args))

const outcomes = (count: number, command = "INCR") =>
  Effect.flatMap(
    RedisClient,
    (client) =>
      Effect.forEach(Array.from({ length: count }), () =>
        Effect.map(outcome(client.send(command, "n")), (got) => got === "ERR injected" ? "fault" : got))
  )

const READONLY = "READONLY You can't write against a read only replica."
const OOM = "OOM command not allowed when used memory > 'maxmemory'."
const LOADING = "LOADING Redis is loading the dataset in memory"

describe("which commands", () => {
  test(
    "after: the third one is hit, and others do not count",
    Effect.gen(function*() {
      const server = yield* RedisTestServer
      yield* server.inject({ ...reply, command: "INCR", after: 2, times: 2 })
      yield* send("GET", "n")
      assert.deepStrictEqual(yield* outcomes(6), [1, 2, "fault", "fault", 3, 4])
    })
  )

  test(
    "one line loses the reply to the third script",
    Effect.gen(function*() {
      const client = yield* RedisClient
      const server = yield* RedisTestServer
      const increment = RedisScript.make({
        name: "increment",
        lua: "return redis.call('INCR', KEYS[1])",
        params: (key: string) => ({ keys: [key], args: [] }),
        result: RedisScript.number
      })
      yield* client.eval(increment, "n")
      yield* server.inject(Fault.loseReply({ command: "EVALSHA", after: 2 }))
      const got = yield* Effect.forEach([1, 2, 3, 4], () => outcome(client.eval(increment, "n")))
      assert.deepStrictEqual(got, [2, 3, "RedisOutcomeUnknownError", 5])
    })
  )

  test(
    "each fault counts every match; of those that are due the oldest happens",
    Effect.gen(function*() {
      const server = yield* RedisTestServer
      yield* server.inject(Fault.reply("ERR first", { after: 1 }))
      yield* server.inject(Fault.reply("ERR second", { after: 1 }))
      yield* server.inject(Fault.reply("ERR third", { after: 4 }))
      assert.deepStrictEqual(yield* outcomes(6), [1, "ERR first", "ERR second", 2, "ERR third", 3])
    })
  )

  const draw = (options: { readonly seed?: number }, serverOptions: Options = {}) =>
    Effect.gen(function*() {
      const server = yield* RedisTestServer
      yield* server.inject({ ...reply, probability: 0.25, ...options })
      return (yield* outcomes(400)).map((got) => got === "fault")
    }).pipe(Effect.provide(layerWith(serverOptions)))

  it.effect("probability: about that often, by the seed, without end", () =>
    Effect.gen(function*() {
      const first = yield* draw({ seed: 7 })
      const hits = first.filter((hit) => hit).length
      assert.isAbove(hits, 60)
      assert.isBelow(hits, 140)
      assert.isTrue(first.slice(300).includes(true))
      assert.deepStrictEqual(yield* draw({ seed: 7 }), first)
      assert.notDeepEqual(yield* draw({ seed: 8 }), first)
      assert.deepStrictEqual(yield* draw({}), yield* draw({}))
      assert.notDeepEqual(yield* draw({}), yield* draw({}, { seed: 2 }))
    }))

  it.effect("what a fault draws does not depend on others", () =>
    Effect.gen(function*() {
      const alone = yield* draw({ seed: 7 })
      const beside = yield* Effect.gen(function*() {
        const server = yield* RedisTestServer
        yield* server.inject(Fault.reply("ERR other", { after: 10, times: 20 }))
        yield* server.inject({ ...reply, probability: 0.25, seed: 7 })
        return (yield* outcomes(400)).map((got) => got === "fault")
      }).pipe(Effect.provide(layerWith()))
      assert.deepStrictEqual(beside.slice(30), alone.slice(30))
      assert.isTrue(alone.slice(10, 30).includes(true))
      assert.isFalse(beside.slice(10, 30).includes(true))
    }))

  test(
    "probability 0 and 1, and `times` as their bound",
    Effect.gen(function*() {
      const server = yield* RedisTestServer
      yield* server.inject({ ...reply, probability: 0 })
      assert.deepStrictEqual(yield* outcomes(2), [1, 2])
      yield* server.inject({ ...reply, probability: 1, times: 3 })
      assert.deepStrictEqual(yield* outcomes(4), ["fault", "fault", "fault", 3])
    })
  )

  test(
    "what makes no sense is refused by name",
    Effect.gen(function*() {
      const server = yield* RedisTestServer
      const bad: ReadonlyArray<readonly [string, Fault]> = [
        ["times", { ...reply, times: 0 }],
        ["times", { ...reply, times: 1.5 }],
        ["times", { ...reply, times: NaN }],
        ["after", { ...reply, after: -1 }],
        ["after", { ...reply, after: Infinity }],
        ["probability", { ...reply, probability: 1.1 }],
        ["probability", { ...reply, probability: NaN }],
        ["seed", { ...reply, probability: 0.5, seed: 0.5 }],
        ["error", Fault.reply("")],
        ["error", Fault.reply("ERR two\r\nlines")],
        ["duration", Fault.delay(-1)]
      ]
      for (const [field, fault] of bad) {
        const error = yield* Effect.flip(server.inject(fault))
        assert.strictEqual(error._tag, "RedisInputError")
        assert.strictEqual(error.field, field)
      }
      assert.deepStrictEqual(yield* server.faults, [])
    })
  )
})

describe("listing and taking back", () => {
  test(
    "faults are listed until they have happened, and say how often they did",
    Effect.gen(function*() {
      const server = yield* RedisTestServer
      const twice = yield* server.inject({ ...reply, times: 2 })
      const later = yield* server.inject(Fault.loseReply({ after: 100 }))
      assert.deepStrictEqual((yield* server.faults).map(({ fault }) => fault._tag), ["reply", "lose-reply"])
      yield* outcomes(1)
      assert.strictEqual(yield* twice.happened, 1)
      yield* outcomes(2)
      assert.strictEqual(yield* twice.happened, 2)
      assert.strictEqual(yield* later.happened, 0)
      assert.deepStrictEqual((yield* server.faults).map(({ fault }) => fault), [later.fault])
    })
  )

  test(
    "one is withdrawn and the others stay; clearFaults takes all",
    Effect.gen(function*() {
      const server = yield* RedisTestServer
      const first = yield* server.inject(Fault.reply("ERR first", { times: 9 }))
      yield* server.inject(Fault.reply("ERR second", { times: 9 }))
      yield* first.withdraw
      yield* first.withdraw
      assert.deepStrictEqual(yield* outcomes(1), ["ERR second"])
      yield* server.clearFaults
      assert.deepStrictEqual(yield* server.faults, [])
      assert.deepStrictEqual(yield* outcomes(1), [1])
      assert.strictEqual(yield* first.happened, 0)
    })
  )
})

describe("disconnect", () => {
  test(
    "before: not executed; after: executed; nobody can tell, and the client is back at once",
    Effect.gen(function*() {
      const server = yield* RedisTestServer
      yield* server.inject(Fault.disconnectBefore({ command: "INCR" }))
      assert.deepStrictEqual(yield* outcomes(2), ["RedisOutcomeUnknownError", 1])
      yield* server.inject(Fault.disconnectAfter({ command: "INCR" }))
      assert.deepStrictEqual(yield* outcomes(2), ["RedisOutcomeUnknownError", 3])
    })
  )

  test(
    "only the connection of the command breaks, with what waits on it",
    Effect.gen(function*() {
      const client = yield* RedisClient
      const server = yield* RedisTestServer
      const other = yield* server.client()
      const states: Array<string> = []
      yield* Effect.forkScoped(Stream.runForEach(client.state, (state) => Effect.sync(() => states.push(state.status))))
      const mine = yield* client.reserve()
      const before = yield* server.connections
      yield* server.inject(Fault.delay("1 second", { command: "ECHO" }))
      const slow = yield* Effect.fork(outcome(client.send("ECHO", "a")))
      const behind = yield* Effect.fork(outcome(client.send("INCR", "n")))
      yield* TestClock.adjust("500 millis")
      yield* server.inject(Fault.disconnectBefore({ command: "INCR" }))
      yield* TestClock.adjust("500 millis")
      assert.strictEqual(yield* Fiber.join(slow), "a")
      assert.strictEqual(yield* Fiber.join(behind), "RedisOutcomeUnknownError")
      assert.strictEqual(yield* other.send("GET", "n"), null)
      assert.strictEqual(yield* mine.send("PING"), "PONG")
      assert.strictEqual(yield* server.connections, before)
      yield* TestClock.adjust("1 millis")
      assert.isAbove(states.length, 1)
    })
  )

  test(
    "a reserved connection ends, and its blocked command with it",
    Effect.gen(function*() {
      const client = yield* RedisClient
      const server = yield* RedisTestServer
      const mine = yield* client.reserve()
      yield* server.inject(Fault.disconnectAfter({ command: "BLPOP" }))
      const waiting = yield* Effect.fork(
        Effect.either(mine.sendBlocking("BLPOP", ["jobs", "0"], () => Effect.void))
      )
      yield* TestClock.adjust("1 second")
      yield* client.send("RPUSH", "jobs", "a")
      const got = yield* Fiber.join(waiting)
      assert(Either.isLeft(got))
      assert.strictEqual(got.left._tag, "RedisOutcomeUnknownError")
      // The server gave it away before the connection broke: that is what such a fault is for.
      assert.strictEqual(yield* client.send("LLEN", "jobs"), 0)
      assert.strictEqual(yield* outcome(mine.send("PING")), "RedisConnectionError")
    })
  )

  test(
    "a subscriber gets a Gap and goes on",
    Effect.gen(function*() {
      const client = yield* RedisClient
      const server = yield* RedisTestServer
      const received: Array<string> = []
      const listen = client.subscribe({ channels: ["news"] }).pipe(
        Effect.flatMap((queue) =>
          Effect.forever(
            Effect.map(Queue.take(queue), (one) => received.push(one._tag === "Gap" ? "gap" : one.payload))
          )
        )
      )
      yield* Effect.forkScoped(Effect.scoped(listen))
      yield* TestClock.adjust("1 second")
      yield* client.publish("news", "before")
      yield* server.inject(Fault.disconnectAfter({ command: "SUBSCRIBE" }))
      yield* Effect.forkScoped(Effect.scoped(client.subscribe({ channels: ["sport"] })))
      for (let i = 0; i < 10; i++) yield* TestClock.adjust("1 second")
      yield* client.publish("news", "after")
      yield* TestClock.adjust("1 second")
      assert.deepStrictEqual(received, ["before", "gap", "after"])
    })
  )

  test(
    "a transaction is executed as a whole or not at all",
    Effect.gen(function*() {
      const client = yield* RedisClient
      const server = yield* RedisTestServer
      const both = client.transaction([["INCR", "n"], ["SET", "a", "1"]])
      yield* server.inject(Fault.disconnectBefore({ command: "SET" }))
      assert.strictEqual(yield* outcome(both), "RedisOutcomeUnknownError")
      assert.deepStrictEqual(yield* server.keys, [])
      yield* server.inject(Fault.disconnectAfter({ command: "INCR" }))
      assert.strictEqual(yield* outcome(both), "RedisOutcomeUnknownError")
      assert.deepStrictEqual(yield* client.send("MGET", "n", "a"), ["1", "1"])
    })
  )

  test(
    "does not end an outage",
    Effect.gen(function*() {
      const client = yield* RedisClient
      const server = yield* RedisTestServer
      yield* server.inject(Fault.disconnectBefore({ times: 5 }))
      yield* server.disconnect({ downtime: "2 seconds" })
      const waiting = yield* Effect.fork(outcome(client.send("INCR", "n")))
      yield* TestClock.adjust("1 second")
      assert.isTrue(Option.isNone(yield* Fiber.poll(waiting)))
      yield* TestClock.adjust("1 second")
      assert.strictEqual(yield* Fiber.join(waiting), "RedisOutcomeUnknownError")
    })
  )

  test(
    "interrupting the caller before the fault leaves nothing behind",
    Effect.gen(function*() {
      const client = yield* RedisClient
      const server = yield* RedisTestServer
      const before = yield* server.connections
      yield* server.inject(Fault.delay("1 second", { command: "INCR" }))
      const slow = yield* Effect.fork(client.send("INCR", "n"))
      yield* TestClock.adjust("500 millis")
      yield* server.inject(Fault.disconnectBefore())
      assert.isTrue(Exit.isInterrupted(yield* Fiber.interrupt(slow)))
      const behind = yield* Effect.fork(outcome(client.send("PING")))
      yield* TestClock.adjust("500 millis")
      assert.strictEqual(yield* Fiber.join(behind), "RedisOutcomeUnknownError")
      assert.strictEqual(yield* client.send("PING"), "PONG")
      assert.strictEqual(yield* server.connections, before)
    })
  )
})

describe("conditions", () => {
  const become = (condition: Condition) => Effect.flatMap(RedisTestServer, (server) => server.become(condition))

  /** The same on the server in memory and on a real one in that state. */
  const probes = {
    normal: [
      ["EVAL", "#!lua flags=no-writes\nreturn redis.call('SET', KEYS[1], '1')", 1, "a"],
      ["EVAL_RO", "#!lua\nreturn 1", 0],
      ["EVAL_RO", "#!lua flags=no-writes\nreturn redis.call('GET', KEYS[1])", 1, "a"]
    ],
    "read-only": [
      ["GET", "a"],
      ["SET", "a", "1"],
      ["DEL", "a"],
      ["EVAL", "return redis.call('GET', KEYS[1])", 1, "a"],
      ["EVAL", "return redis.call('SET', KEYS[1], '1')", 1, "a"],
      ["EVAL", "return redis.pcall('SET', KEYS[1], '1')['err']", 1, "a"],
      ["EVAL", "#!lua\nreturn 1", 0],
      ["EVAL", "#!lua flags=no-writes\nreturn 1", 0],
      ["EVAL", "#!lua flags=no-writes\nreturn redis.call('SET', KEYS[1], '1')", 1, "a"],
      ["EVAL_RO", "#!lua\nreturn 1", 0],
      ["EVAL_RO", "return redis.call('SET', KEYS[1], '1')", 1, "a"],
      ["PUBLISH", "a", "b"],
      ["SORT", "none"],
      ["FLUSHALL"]
    ],
    "out-of-memory": [
      ["GET", "a"],
      ["SET", "a", "1"],
      ["EXPIRE", "a", "100"],
      ["EVAL", "return redis.call('GET', KEYS[1])", 1, "a"],
      ["EVAL", "return redis.call('SET', KEYS[1], '1')", 1, "a"],
      ["EVAL", "redis.call('DEL', KEYS[1]) return redis.call('SET', KEYS[1], 'x')", 1, "a"],
      ["EVAL", "#!lua\nreturn 1", 0],
      ["EVAL", "#!lua flags=no-writes\nreturn 1", 0],
      ["EVAL", "#!lua flags=no-writes\nreturn redis.call('SET', KEYS[1], '1')", 1, "a"],
      ["EVAL_RO", "#!lua\nreturn 1", 0],
      ["EVAL_RO", "return redis.call('SET', KEYS[1], '1')", 1, "a"],
      ["EVAL", "#!lua flags=allow-oom\nreturn redis.call('SET', KEYS[1], 'y')", 1, "a"],
      ["LPUSH", "list", "x"],
      ["XGROUP", "CREATE", "s", "g", "$", "MKSTREAM"],
      ["DEL", "a"],
      ["PUBLISH", "a", "b"]
    ]
  } as const

  const transactions = [[["SET", "a", "1"]], [["GET", "a"]]] as const

  const probe = (condition: "normal" | "read-only" | "out-of-memory") =>
    Effect.gen(function*() {
      const client = yield* RedisClient
      const single = yield* Effect.forEach(probes[condition], ([command, ...args]) =>
        outcome(client.send(command, ...args)))
      const grouped = yield* Effect.forEach(transactions, (commands) =>
        outcome(client.transaction(commands)))
      return [...single, ...grouped]
    })

  const enter = {
    normal: [["SET", "a", "0"]],
    "read-only": [["SET", "a", "0"], ["REPLICAOF", "127.0.0.1", "1"]],
    "out-of-memory": [["SET", "a", "0"], ["CONFIG", "SET", "maxmemory", "1"]]
  } as const

  for (const condition of ["normal", "read-only", "out-of-memory"] as const) {
    it.live(`${condition} answers as a real server`, () =>
      Effect.gen(function*() {
        const real = yield* RealServer.start()
        const expected = yield* Effect.gen(function*() {
          for (const [command, ...args] of enter[condition]) yield* send(command, ...args)
          return yield* probe(condition)
        }).pipe(Effect.provide(layer({ url: Redacted.make(real.url) })))
        const got = yield* Effect.gen(function*() {
          yield* send("SET", "a", "0")
          yield* become(condition)
          return yield* probe(condition)
        }).pipe(Effect.provide(layerWith()))
        assert.deepStrictEqual(got, expected)
        const code = condition === "normal" ? "ERR" : condition === "read-only" ? "READONLY" : "OOM"
        assert.isTrue(expected.some((one) => String(one).startsWith(code)))
      }).pipe(Effect.scoped))
  }

  it.live("which commands are refused is what a real server says of them", () =>
    Effect.gen(function*() {
      const flagged = (entries: unknown, flag: string): Array<string> =>
        (entries as ReadonlyArray<ReadonlyArray<unknown>>).flatMap((entry) => {
          const below = flagged(entry[9], flag)
          return (entry[2] as ReadonlyArray<string>).includes(flag) ? below.concat(String(entry[0])) : below
        })
      const all = yield* send("COMMAND")
      const known = new Set(
        [...commandTable.values()].flatMap(({ name, subcommands }) =>
          subcommands === undefined ? [name] : Array.from(subcommands.values(), (child) => child.name)
        )
      )
      const ours = (names: Iterable<string>) => Array.from(names).filter((name) => known.has(name)).sort()
      assert.deepStrictEqual(ours(deniedWithoutMemory), ours(flagged(all, "denyoom")))
      assert.deepStrictEqual(ours(allowedWhileLoading), ours(flagged(all, "loading")))
      assert.isAbove(ours(deniedWithoutMemory).length, 50)
      assert.isAbove(ours(allowedWhileLoading).length, 20)
    }).pipe(Effect.provide(liveWith())))

  test(
    "loading: nearly everything is refused, until it is over",
    Effect.gen(function*() {
      const client = yield* RedisClient
      yield* send("SET", "a", "1")
      yield* become("loading")
      for (
        const command of [["GET", "a"], ["SET", "a", "2"], ["EVAL", "return 1", "0"], ["PING"], ["DBSIZE"]] as const
      ) {
        assert.strictEqual(yield* outcome(client.send(command[0], ...command.slice(1))), LOADING, command[0])
      }
      for (const command of [["ECHO", "x"], ["TIME"], ["PUBLISH", "a", "b"], ["CLIENT", "ID"]] as const) {
        assert.notInclude(String(yield* outcome(client.send(command[0], ...command.slice(1)))), "LOADING", command[0])
      }
      assert.strictEqual(yield* outcome(client.transaction([["GET", "a"]])), LOADING)
      // It would answer INFO.
      const { error, healthy } = yield* client.health
      assert.isFalse(healthy)
      assert.strictEqual(Option.getOrThrow(error).message.includes("LOADING"), true)
      yield* become("normal")
      assert.isTrue((yield* client.health).healthy)
      assert.strictEqual(yield* send("GET", "a"), "1")
    })
  )

  test(
    "what was queued before is refused by EXEC",
    Effect.gen(function*() {
      const client = yield* RedisClient
      const server = yield* RedisTestServer
      const conditions: ReadonlyArray<readonly [Condition, string]> = [
        ["read-only", READONLY],
        ["out-of-memory", OOM],
        ["loading", LOADING]
      ]
      for (const [condition, text] of conditions) {
        // Both EXEC and the change of the condition wait on Effect's clock.
        yield* server.inject(Fault.delay("1 second", { command: "EXEC" }))
        const running = yield* Effect.fork(outcome(client.transaction([["SET", "a", "1"]])))
        yield* TestClock.adjust("500 millis")
        yield* server.become(condition)
        yield* TestClock.adjust("500 millis")
        assert.include(String(yield* Fiber.join(running)), text)
        yield* server.become("normal")
        assert.deepStrictEqual(yield* server.keys, [])
      }
    })
  )

  test(
    "who is blocked when the server becomes a replica is told",
    Effect.gen(function*() {
      const client = yield* RedisClient
      const mine = yield* client.reserve()
      const waiting = yield* Effect.fork(outcome(mine.sendBlocking("BLPOP", ["jobs", "0"], () => Effect.void)))
      yield* TestClock.adjust("1 second")
      yield* become("read-only")
      yield* TestClock.adjust("1 millis")
      assert.strictEqual(yield* Fiber.join(waiting), UNBLOCKED.text)
    })
  )

  test(
    "flush ends it",
    Effect.gen(function*() {
      const server = yield* RedisTestServer
      yield* server.become("read-only")
      yield* server.flush
      assert.deepStrictEqual(yield* outcomes(1), [1])
    })
  )
})

describe("ready-made errors", () => {
  const texts = Object.entries(Fault).flatMap(([name, make]) => {
    const fault = name === "moved" || name === "ask"
      ? Fault[name]({ slot: 42, to: "127.0.0.1:7001" })
      : name === "delay" || name === "reply"
      ? undefined
      : (make as () => Fault)()
    return fault?._tag === "reply" ? [[name, fault.error] as const] : []
  })

  test(
    "each is a reply error with its code",
    Effect.gen(function*() {
      const client = yield* RedisClient
      const server = yield* RedisTestServer
      const codes: Array<string> = []
      for (const [, error] of texts) {
        yield* server.inject(Fault.reply(error))
        const failed = yield* Effect.flip(client.send("SET", "a", "1"))
        assert(failed._tag === "RedisReplyError")
        assert.strictEqual(failed.reply, error)
        codes.push(failed.code)
      }
      assert.deepStrictEqual(codes, [
        "LOADING",
        "READONLY",
        "OOM",
        "NOSCRIPT",
        "BUSY",
        "MASTERDOWN",
        "NOREPLICAS",
        "CLUSTERDOWN",
        "MOVED",
        "ASK",
        "TRYAGAIN"
      ])
    })
  )

  const expected = Object.fromEntries(texts)

  it.live("have the text of a real server", () =>
    Effect.gen(function*() {
      const real = yield* RealServer.start()
      yield* Effect.gen(function*() {
        const client = yield* RedisClient
        const ask = (command: string, ...args: ReadonlyArray<string | number>) => outcome(client.send(command, ...args))
        assert.strictEqual(yield* ask("EVALSHA", "0".repeat(40), 0), expected.noScript)
        yield* client.send("CONFIG", "SET", "min-replicas-to-write", 1)
        assert.strictEqual(yield* ask("SET", "a", "1"), expected.noReplicas)
        yield* client.send("CONFIG", "SET", "min-replicas-to-write", 0)
        yield* client.send("CONFIG", "SET", "maxmemory", 1)
        assert.strictEqual(yield* ask("SET", "a", "1"), expected.outOfMemory)
        yield* client.send("CONFIG", "SET", "maxmemory", 0)
        yield* client.send("CONFIG", "SET", "busy-reply-threshold", 1)
        const other = yield* client.reserve()
        const endless = yield* Effect.fork(Effect.either(other.send("EVAL", "while true do end", 0)))
        assert.strictEqual(
          yield* ask("GET", "a").pipe(Effect.repeat({ until: (got) => typeof got === "string" })),
          expected.busy
        )
        yield* client.send("SCRIPT", "KILL")
        yield* Fiber.join(endless)
        const waiting = yield* Effect.fork(
          outcome(other.sendBlocking("BLPOP", ["jobs", "0"], () => Effect.void))
        )
        yield* Effect.repeat(client.send("INFO", "clients"), {
          until: (info) => String(info).includes("blocked_clients:1")
        })
        yield* client.send("REPLICAOF", "127.0.0.1", 1)
        assert.strictEqual(yield* ask("SET", "a", "1"), expected.readOnly)
        yield* client.send("CONFIG", "SET", "replica-serve-stale-data", "no")
        assert.strictEqual(yield* ask("GET", "a"), expected.masterDown)
        assert.strictEqual(yield* Fiber.join(waiting), UNBLOCKED.text)
      }).pipe(Effect.scoped, Effect.provide(layer({ url: Redacted.make(real.url) })))
    }).pipe(Effect.scoped))

  it.live("have the text of a real Cluster", () =>
    Effect.gen(function*() {
      const real = yield* RealServer.start({ args: ["--cluster-enabled", "yes"] })
      yield* Effect.gen(function*() {
        const client = yield* RedisClient
        const slot = client.slot("foo")
        const ask = (command: string, ...args: ReadonlyArray<string | number>) => outcome(client.send(command, ...args))
        yield* client.send("CLUSTER", "ADDSLOTS", slot)
        assert.strictEqual(yield* ask("GET", "foo"), expected.clusterDown)
      }).pipe(Effect.provide(layer({ url: Redacted.make(real.url) })))
    }).pipe(Effect.scoped))
})

describe("a server in cluster mode", () => {
  test(
    "is strict about slots, with a prefix of one's own",
    Effect.gen(function*() {
      const client = yield* RedisClient
      const server = yield* RedisTestServer
      yield* client.set("a", "1")
      assert.deepStrictEqual((yield* server.keys).map(({ key }) => key), ["shop:a"])
      const error = yield* Effect.flip(client.send("MGET", "a", "b"))
      assert(error._tag === "RedisReplyError")
      assert.strictEqual(error.code, "CROSSSLOT")
    }),
    { cluster: true, keyPrefix: "shop:" }
  )

  test(
    "slots that are elsewhere answer MOVED, also in transactions and scripts",
    Effect.gen(function*() {
      const client = yield* RedisClient
      const server = yield* RedisTestServer
      const slot = client.slot("foo")
      yield* client.send("SET", "foo", "1")
      yield* server.moveSlots(slot, slot)
      const moved = `MOVED ${slot} 127.0.0.1:6380`
      assert.strictEqual(yield* outcome(client.send("GET", "foo")), moved)
      assert.strictEqual(yield* outcome(client.send("GET", "{foo}:x")), moved)
      assert.strictEqual(yield* outcome(client.send("EVAL", "return redis.call('GET', KEYS[1])", 1, "foo")), moved)
      assert.strictEqual(yield* outcome(client.transaction([["GET", "foo"]])), moved)
      assert.strictEqual(yield* client.send("GET", "bar"), null)
      assert.include(String(yield* outcome(client.send("MGET", "bar", "foo"))), "CROSSSLOT")
      yield* server.moveSlots(0, 16383, "10.0.0.1:7000")
      assert.strictEqual(yield* outcome(client.send("GET", "foo")), `MOVED ${slot} 10.0.0.1:7000`)
      assert.strictEqual(yield* client.send("PING"), "PONG")
      yield* server.flush
      assert.strictEqual(yield* client.send("GET", "foo"), null)
    }),
    { cluster: true }
  )

  test(
    "slots that do not exist are refused",
    Effect.gen(function*() {
      const server = yield* RedisTestServer
      for (const [first, last] of [[-1, 5], [0, 16384], [7, 6], [0.5, 1], [NaN, 1]] as const) {
        assert.strictEqual((yield* Effect.flip(server.moveSlots(first, last)))._tag, "RedisInputError")
      }
    }),
    { cluster: true }
  )

  test(
    "a standalone server has no slots to move",
    Effect.gen(function*() {
      const server = yield* RedisTestServer
      assert.strictEqual((yield* Effect.flip(server.moveSlots(0, 1))).field, "server")
    })
  )
})

describe("dump", () => {
  test(
    "shows what each type holds",
    Effect.gen(function*() {
      const server = yield* RedisTestServer
      const show = (key: string) => Effect.map(server.dump(key), Option.getOrNull)
      yield* send("SET", "string", "Zoë")
      yield* send("RPUSH", "list", "b", "a", "b")
      yield* send("SADD", "set", "x", "y")
      yield* send("ZADD", "zset", 2, "two", -1.5, "minus", "+inf", "most")
      yield* send("HSET", "hash", "f", "1", "__proto__", "2")
      yield* TestClock.adjust("5 millis")
      yield* send("XADD", "stream", "*", "f", "1", "f", "2")
      yield* send("XADD", "stream", "*", "g", "3")
      assert.deepStrictEqual(yield* show("string"), { _tag: "string", value: "Zoë" })
      assert.deepStrictEqual(yield* show("list"), { _tag: "list", elements: ["b", "a", "b"] })
      assert.deepStrictEqual(yield* show("set"), { _tag: "set", members: ["x", "y"] })
      assert.deepStrictEqual(yield* show("zset"), {
        _tag: "zset",
        members: [{ member: "minus", score: -1.5 }, { member: "two", score: 2 }, { member: "most", score: Infinity }]
      })
      const hash = yield* show("hash")
      assert(hash?._tag === "hash")
      assert.deepStrictEqual(Object.entries(hash.fields), [["f", "1"], ["__proto__", "2"]])
      assert.deepStrictEqual(yield* show("stream"), {
        _tag: "stream",
        entries: [{ id: "5-0", fields: [["f", "1"], ["f", "2"]] }, { id: "5-1", fields: [["g", "3"]] }]
      })
      assert.isNull(yield* show("none"))
    })
  )

  test(
    "does not show what has expired",
    Effect.gen(function*() {
      const server = yield* RedisTestServer
      yield* send("SET", "a", "1", "PX", 10)
      yield* TestClock.adjust("9 millis")
      assert.isTrue(Option.isSome(yield* server.dump("a")))
      yield* TestClock.adjust("1 millis")
      assert.isTrue(Option.isNone(yield* server.dump("a")))
    })
  )
})
