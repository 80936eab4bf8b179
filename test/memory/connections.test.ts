/**
 * What belongs to a connection or to the whole server, on a server and on the engine: the same commands over the same
 * connections, and all that each connection receives.
 */
import { assert, describe, it } from "@effect/vitest"
import { Effect, type Scope } from "effect"
import * as Net from "node:net"
import { BLOCKED, Engine } from "../../src/memory/Engine.js"
import * as RealServer from "../kit/RealServer.js"
import * as Resp from "../kit/resp.js"
import { bare, fromWire, type Shown } from "./show.js"

type Name = "A" | "B" | "C"

const NAMES: ReadonlyArray<Name> = ["A", "B", "C"]

/** On which connection, and the command; `$A` in it is the id of that connection, `@A` its address. */
type Step = readonly [on: Name, ...command: ReadonlyArray<string>]

/** What each connection has received, replies and messages, in order. */
type Received = Readonly<Record<Name, ReadonlyArray<Shown>>>

interface Side {
  /** What the connections have received when the server has answered. */
  readonly run: (on: Name, command: ReadonlyArray<string>) => Promise<Received>
  readonly ids: Readonly<Record<Name, number>>
  readonly addresses: Readonly<Record<Name, string>>
}

// ---------------------------------------------------------------------------------------------------------------------
// A server
// ---------------------------------------------------------------------------------------------------------------------

class Socket {
  private received: Array<Shown> = []
  private readonly parser = new Resp.Parser()
  private inTransaction = false
  private closed = false
  private awaited: { readonly isLast: (reply: string) => boolean; readonly done: () => void } | undefined

  constructor(private readonly socket: Net.Socket) {
    socket.on("data", (chunk) => {
      for (const { value } of this.parser.push(chunk)) {
        const text = JSON.stringify(value)
        // A subscriber is answered with an array.
        if (text !== "\"barrier\"" && text !== "[\"pong\",\"barrier\"]") this.received.push(fromWire(value))
        if (this.awaited?.isLast(text) === true) this.awaited.done()
      }
    })
    socket.on("error", () => {})
    socket.on("close", () => {
      this.closed = true
      this.awaited?.done()
    })
  }

  /** Returns when the answer has come, and whatever came before it. */
  send(...commands: ReadonlyArray<ReadonlyArray<string>>): Promise<void> {
    for (const [name] of commands) {
      if (name === "MULTI") this.inTransaction = true
      if (name === "EXEC" || name === "DISCARD") this.inTransaction = false
    }
    // A transaction would take the barrier for one of its own; it gives one reply for each command.
    const sent = this.inTransaction ? commands : [...commands, ["PING", "barrier"]]
    if (this.closed || sent.length === 0) return Promise.resolve()
    return new Promise((done) => {
      this.awaited = { done, isLast: this.inTransaction ? () => true : (reply) => reply.includes("barrier") }
      this.socket.write(Buffer.concat(sent.map((command) => Resp.encode(command))))
    })
  }

  take(): ReadonlyArray<Shown> {
    const { received } = this
    this.received = []
    return this.closed ? [...received, "closed"] : received
  }
}

const dial = (port: number): Effect.Effect<Socket, never, Scope.Scope> =>
  Effect.map(
    Effect.acquireRelease(
      Effect.async<Net.Socket>((resume) => {
        const socket = Net.connect(port, "127.0.0.1", () => resume(Effect.succeed(socket)))
      }),
      (socket) => Effect.sync(() => socket.destroy())
    ),
    (socket) => new Socket(socket)
  )

const record = <A>(of: (name: Name) => A): Record<Name, A> => ({ A: of("A"), B: of("B"), C: of("C") })

const server: Effect.Effect<Side, RealServer.RealServerError, Scope.Scope> = Effect.gen(function*() {
  const { port } = yield* RealServer.start()
  const sockets: Record<Name, Socket> = { A: yield* dial(port), B: yield* dial(port), C: yield* dial(port) }
  const infos: Array<string> = []
  for (const name of NAMES) {
    yield* Effect.promise(() => sockets[name].send(["CLIENT", "INFO"]))
    infos.push(String(sockets[name].take()[0]))
  }
  const part = (pattern: RegExp) => record((name) => pattern.exec(infos[NAMES.indexOf(name)]!)![1]!)
  const ids = part(/id=(\d+)/)
  return {
    ids: record((name) => Number(ids[name])),
    addresses: part(/ addr=(\S+)/),
    run: async (on, command) => {
      await sockets[on].send(command)
      for (const name of NAMES) await sockets[name].send()
      return record((name) => sockets[name].take())
    }
  }
})

// ---------------------------------------------------------------------------------------------------------------------
// The engine
// ---------------------------------------------------------------------------------------------------------------------

const engine = (): Side => {
  const engine = new Engine({ now: () => 1_790_000_000_000 })
  const received = record<Array<Shown>>(() => [])
  const sessions = record(() => engine.connect())
  const closed = record(() => false)
  for (const name of NAMES) {
    const session = sessions[name]
    session.onMessage = (kind, pattern, channel, payload) =>
      received[name].push(
        kind === "pattern"
          ? ["pmessage", pattern, channel, payload]
          : [kind === "shard" ? "smessage" : "message", channel, payload]
      )
    session.onInvalidated = (keys) => received[name].push(["message", "__redis__:invalidate", keys])
    session.onKilled = () => void (closed[name] = true)
  }
  return {
    ids: record((name) => sessions[name].id),
    addresses: record((name) => sessions[name].address),
    run: async (on, command) => {
      if (!closed[on]) {
        const reply = engine.execute(sessions[on], command)
        assert(reply !== BLOCKED)
        const confirmations = /^[ps]?(un)?subscribe$/i.test(command[0]!)
        if (confirmations && Array.isArray(reply)) received[on].push(...reply.map(bare))
        else received[on].push(bare(reply))
      }
      // What is tracked is told at the end of the loop of events, which is after each command here.
      await Promise.resolve()
      return record((name) => [...received[name].splice(0), ...(closed[name] ? ["closed"] : [])])
    }
  }
}

// ---------------------------------------------------------------------------------------------------------------------
// The comparison
// ---------------------------------------------------------------------------------------------------------------------

const isList = (reply: Shown): reply is ReadonlyArray<Shown> => Array.isArray(reply)

/** Ids by the names of their connections. */
const named = (side: Side) => (reply: Shown): Shown => {
  if (isList(reply)) return reply.map(named(side))
  if (typeof reply === "number") return NAMES.find((name) => side.ids[name] === reply) ?? reply
  return reply
}

const fill = (side: Side, command: ReadonlyArray<string>): ReadonlyArray<string> =>
  command.map((arg) =>
    /^\$[ABC]$/.test(arg)
      ? String(side.ids[arg[1] as Name])
      : /^@[ABC]$/.test(arg)
      ? side.addresses[arg[1] as Name]
      : arg
  )

/** Both sides receive the same. Replies that are numbers of their own are compared by `read`. */
const same = (
  name: string,
  steps: ReadonlyArray<Step>,
  read: (reply: Shown, command: ReadonlyArray<string>) => Shown = (reply) => reply
) =>
  it.scoped(name, () =>
    Effect.gen(function*() {
      const sides = [yield* server, engine()] as const
      for (const [on, ...command] of steps) {
        const [theirs, ours] = yield* Effect.promise(() =>
          Promise.all(sides.map(async (side) => {
            const received = await side.run(on, fill(side, command))
            const name = /^(TRACKINGINFO|GETREDIR|ID)$/.test(command[1] ?? "") ? named(side) : (reply: Shown) => reply
            return record((on) => received[on].map((reply) => read(name(reply), command)))
          }))
        )
        assert.deepStrictEqual(ours, theirs, [on, ...command].join(" "))
      }
    }))

describe("messages", () => {
  same("reach channels and patterns, and are counted", [
    ["A", "SUBSCRIBE", "news", "weather", "news"],
    ["A", "PSUBSCRIBE", "n*", "["],
    ["B", "PSUBSCRIBE", "n?ws"],
    ["C", "PUBLISH", "news", "one"],
    ["C", "PUBLISH", "weather", ""],
    ["C", "PUBLISH", "nobody", "x"],
    ["C", "PUBSUB", "NUMSUB", "news", "weather", "nothing"],
    ["C", "PUBSUB", "NUMSUB"],
    ["C", "PUBSUB", "NUMPAT"],
    ["C", "PUBSUB", "CHANNELS", "w*"],
    ["C", "PUBSUB", "NOTHING"],
    ["A", "UNSUBSCRIBE", "weather", "unknown"],
    ["A", "PUNSUBSCRIBE", "n*"],
    ["C", "PUBLISH", "news", "two"],
    ["C", "PUBLISH", "weather", "three"],
    ["A", "UNSUBSCRIBE"],
    ["A", "UNSUBSCRIBE"],
    ["B", "PUNSUBSCRIBE"],
    ["B", "PUNSUBSCRIBE"],
    ["C", "PUBLISH", "news", "four"]
  ])

  same("reach shards, and nobody else", [
    ["A", "SSUBSCRIBE", "s1", "s2"],
    ["B", "SUBSCRIBE", "s1"],
    ["B", "PSUBSCRIBE", "*"],
    ["C", "SPUBLISH", "s1", "x"],
    ["C", "PUBLISH", "s1", "y"],
    ["C", "PUBSUB", "SHARDNUMSUB", "s1", "s2", "s3"],
    ["C", "PUBSUB", "SHARDNUMSUB"],
    ["C", "PUBSUB", "SHARDCHANNELS", "*2"],
    ["A", "SUNSUBSCRIBE", "s1"],
    ["C", "SPUBLISH", "s1", "x"],
    ["A", "SUNSUBSCRIBE"],
    ["A", "SUNSUBSCRIBE"],
    ["C", "SPUBLISH", "s2", "x"]
  ])

  same("are sent by scripts and transactions", [
    ["A", "SUBSCRIBE", "news"],
    ["B", "EVAL", "return redis.call('PUBLISH', 'news', ARGV[1])", "0", "from a script"],
    ["B", "MULTI"],
    ["B", "PUBLISH", "news", "from a transaction"],
    ["B", "EXEC"],
    ["B", "EVAL", "return redis.pcall('SUBSCRIBE', 'news')", "0"],
    ["B", "SUBSCRIBE"],
    ["B", "SPUBLISH", "news"]
  ])
})

describe("scripts", () => {
  const sha = "e0e1f9fabfc9d4800c877a703b823ac0578ff8db"

  same("are loaded, found and forgotten", [
    ["A", "SCRIPT", "LOAD", "return 1"],
    ["A", "SCRIPT", "LOAD", "return redis.call('SET', KEYS[1], ARGV[1])"],
    ["A", "SCRIPT", "LOAD", "return ("],
    ["A", "SCRIPT", "LOAD", "local = 1"],
    ["A", "SCRIPT", "LOAD"],
    ["B", "EVALSHA", sha, "0"],
    ["B", "EVALSHA_RO", sha, "0"],
    ["B", "EVALSHA_RO", sha.toUpperCase(), "0"],
    ["B", "EVALSHA_RO", "d8f2fad9f8e86a53d2a6ebd960b33c4972cacc37", "1", "k", "v"],
    ["B", "EVALSHA_RO", "0000000000000000000000000000000000000000", "0"],
    ["B", "EVALSHA_RO", sha, "1"],
    ["B", "EVALSHA_RO", sha, "-1"],
    ["B", "EVALSHA_RO", sha],
    ["B", "SCRIPT", "EXISTS", sha, "nothing"],
    ["A", "SCRIPT", "FLUSH", "NEVER"],
    ["A", "SCRIPT", "FLUSH"],
    ["B", "EVALSHA_RO", sha, "0"]
  ])
})

describe("the server", () => {
  same("counts its keys and forgets them", [
    ["A", "DBSIZE"],
    ["A", "MSET", "a", "1", "b", "2", "c", "3"],
    ["B", "DBSIZE"],
    ["B", "DBSIZE", "now"],
    ["B", "FLUSHDB", "LATER"],
    ["B", "FLUSHDB", "SYNC", "SYNC"],
    ["B", "FLUSHDB", "async"],
    ["A", "DBSIZE"],
    ["A", "SET", "a", "1"],
    ["B", "WATCH", "a"],
    ["A", "FLUSHALL"],
    ["B", "MULTI"],
    ["B", "SET", "a", "2"],
    ["B", "EXEC"],
    ["A", "FLUSHALL", "LATER"],
    ["A", "FLUSHALL", "SYNC"],
    ["A", "DBSIZE"]
  ])

  same("tells the time", [["A", "TIME"], ["A", "TIME", "zone"]], (reply) => {
    if (!isList(reply)) return reply
    const [seconds, micros] = reply
    assert.match(String(seconds), /^1[78]\d{8}$/)
    assert.match(String(micros), /^\d{1,6}$/)
    return reply.length
  })

  it.scoped("has no field of INFO that a server does not have", () =>
    Effect.gen(function*() {
      const sides = [yield* server, engine()] as const
      const [theirs, ours] = yield* Effect.promise(() =>
        Promise.all(sides.map(async (side) => {
          const { A } = await side.run("A", ["INFO"])
          await side.run("A", ["SET", "key", "value"])
          const { A: keyspace } = await side.run("A", ["INFO", "keyspace"])
          const { A: unknown } = await side.run("A", ["INFO", "nothing"])
          const fields = new Map<string, string>()
          let section = ""
          for (const line of String(A[0]).split("\r\n")) {
            if (line.startsWith("# ")) section = line
            else if (line !== "") fields.set(`${section} ${line.split(":")[0]}`, line.split(":")[1]!)
          }
          return { fields, keyspace, unknown }
        }))
      )
      const { fields } = ours!
      assert.deepStrictEqual([...fields.keys()].filter((field) => !theirs!.fields.has(field)), [])
      for (const fixed of ["# Server redis_mode", "# Replication role", "# Cluster cluster_enabled"]) {
        assert.strictEqual(fields.get(fixed), theirs!.fields.get(fixed), fixed)
      }
      assert.deepStrictEqual(ours!.keyspace, theirs!.keyspace)
      assert.deepStrictEqual(ours!.unknown, theirs!.unknown)
    }))
})

describe("connections", () => {
  /** Of a line of CLIENT LIST what the engine knows, without what each side has its own of. */
  const described = (reply: Shown): Shown =>
    typeof reply === "string" && reply.startsWith("id=")
      ? reply.split("\n").filter((line) => line !== "").map((line) =>
        line.split(" ")
          .filter((field) => /^(name|flags|db|sub|psub|ssub|multi|user|redir|resp)=/.test(field))
          .map((field) => /^redir=\d/.test(field) ? "redir=id" : field)
      )
      : reply

  same(
    "are described",
    [
      ["A", "CLIENT", "INFO"],
      ["A", "CLIENT", "SETNAME", "ada"],
      ["B", "SUBSCRIBE", "one", "two"],
      ["B", "PSUBSCRIBE", "*"],
      ["B", "SSUBSCRIBE", "one"],
      ["C", "CLIENT", "LIST"],
      ["C", "CLIENT", "LIST", "TYPE", "pubsub"],
      ["C", "CLIENT", "LIST", "TYPE", "normal"],
      ["C", "CLIENT", "LIST", "TYPE", "human"],
      ["C", "CLIENT", "LIST", "ID", "$A", "$C", "999999"],
      ["C", "CLIENT", "LIST", "ID", "ada"],
      ["C", "CLIENT", "LIST", "ID"],
      ["C", "CLIENT", "LIST", "NAME", "ada"],
      ["A", "MULTI"],
      ["A", "GET", "key"],
      ["C", "CLIENT", "LIST", "ID", "$A"],
      ["A", "DISCARD"],
      ["A", "CLIENT", "TRACKING", "ON", "BCAST", "PREFIX", "x"],
      ["C", "CLIENT", "LIST", "ID", "$A"]
    ],
    described
  )

  same("are killed by their ids, addresses and kinds", [
    ["C", "CLIENT", "KILL", "ID", "999999"],
    ["C", "CLIENT", "KILL", "ID", "0"],
    ["C", "CLIENT", "KILL", "ID", "ada"],
    ["C", "CLIENT", "KILL", "127.0.0.1:1"],
    ["C", "CLIENT", "KILL", "ADDR", "127.0.0.1:1"],
    ["C", "CLIENT", "KILL", "ID", "$C"],
    ["C", "CLIENT", "KILL", "ID", "$C", "SKIPME", "maybe"],
    ["C", "CLIENT", "KILL", "TYPE", "human"],
    ["C", "CLIENT", "KILL", "COLOUR", "red"],
    ["C", "CLIENT", "KILL", "TYPE", "pubsub"],
    ["B", "SUBSCRIBE", "news"],
    ["C", "CLIENT", "KILL", "TYPE", "pubsub"],
    ["C", "PUBLISH", "news", "for nobody"],
    ["C", "CLIENT", "KILL", "@A"],
    ["C", "CLIENT", "KILL", "@A"]
  ])

  same("are killed all but the one that asks", [
    ["C", "CLIENT", "KILL", "TYPE", "normal"],
    ["C", "PING"]
  ])

  same("are told which keys change", [
    ["A", "CLIENT", "GETREDIR"],
    ["A", "CLIENT", "TRACKINGINFO"],
    ["A", "CLIENT", "TRACKING", "ON", "REDIRECT", "$A", "BCAST", "PREFIX", "user:", "PREFIX", "order:"],
    ["A", "CLIENT", "TRACKINGINFO"],
    ["A", "CLIENT", "GETREDIR"],
    ["A", "SUBSCRIBE", "__redis__:invalidate"],
    ["B", "SET", "user:1", "ada"],
    ["B", "SET", "other", "ada"],
    ["B", "MSET", "user:1", "ada"],
    ["B", "DEL", "user:nobody"],
    ["B", "EVAL", "redis.call('SET', 'order:1', 1) return redis.call('INCR', 'order:1')", "0"],
    ["B", "PEXPIRE", "order:1", "0"],
    ["B", "FLUSHALL"]
  ])

  same("are told so without a prefix as well, and refuse what makes no sense", [
    ["A", "CLIENT", "TRACKING", "ON", "PREFIX", "a"],
    ["A", "CLIENT", "TRACKING", "MAYBE"],
    ["A", "CLIENT", "TRACKING", "ON", "BCAST", "REDIRECT", "999999"],
    ["A", "CLIENT", "TRACKING", "ON", "BCAST", "REDIRECT", "ada"],
    ["A", "CLIENT", "TRACKING", "ON", "BCAST", "OPTIN"],
    ["A", "CLIENT", "TRACKING", "ON", "BCAST", "PREFIX", "a", "PREFIX", "ab"],
    ["A", "CLIENT", "TRACKING", "ON", "BCAST", "COLOUR"],
    ["A", "CLIENT", "TRACKING", "ON", "REDIRECT", "$A", "BCAST"],
    ["A", "CLIENT", "TRACKINGINFO"],
    ["A", "CLIENT", "TRACKING", "ON", "REDIRECT", "$A", "BCAST", "PREFIX", "a"],
    ["A", "SUBSCRIBE", "__redis__:invalidate"],
    ["B", "SET", "anything", "1"],
    ["A", "UNSUBSCRIBE"],
    ["A", "CLIENT", "TRACKING", "OFF"],
    ["A", "CLIENT", "TRACKINGINFO"],
    ["A", "CLIENT", "GETREDIR"]
  ])
})
