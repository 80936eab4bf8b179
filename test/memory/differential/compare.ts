/**
 * The same commands to a real server and to the engine: replies and error texts must be equal, but for what changed
 * after Redis 7.0.
 *
 * What is in no order is sorted before it is compared, what is chosen at random is compared by its shape, and times to
 * live within a tolerance.
 */
import { FastCheck as FC } from "effect"
import * as Net from "node:net"
import { isDeepStrictEqual } from "node:util"
import { BLOCKED, Engine } from "../../../src/memory/Engine.js"
import * as Resp from "../../kit/resp.js"
import { bare, fromWire, show, type Shown } from "../show.js"
import { type Comparison, comparison } from "../versions.js"
import type { Argv } from "./generators.js"
import type { Suite } from "./suites.js"

// ---------------------------------------------------------------------------------------------------------------------
// The real server
// ---------------------------------------------------------------------------------------------------------------------

/** A database of our own: other tests use the same server. */
const DATABASE = "9"

interface Connection {
  readonly send: (commands: ReadonlyArray<Argv>) => Promise<ReadonlyArray<Resp.Reply>>
  /** Why nothing can be sent any more. */
  readonly lost: () => Error | undefined
  readonly close: () => void
}

const open = (url: string): Connection => {
  const { hostname, port } = new URL(url)
  const socket = Net.connect(Number(port), hostname)
  const parser = new Resp.Parser("latin1")
  let lost: Error | undefined
  let collected: Array<Resp.Reply> = []
  let waiting: {
    readonly count: number
    readonly resolve: (replies: ReadonlyArray<Resp.Reply>) => void
    readonly reject: (error: Error) => void
  } | undefined
  socket.on("data", (chunk) => {
    for (const { value } of parser.push(chunk)) collected.push(value)
    if (collected.length === waiting?.count) waiting.resolve(collected)
  })
  socket.on("error", (error) => lost = error)
  socket.on("close", () => {
    lost ??= new Error("the server has closed the connection")
    waiting?.reject(lost)
  })
  return {
    send: (commands) =>
      new Promise((resolve, reject) => {
        if (lost !== undefined) return reject(lost)
        collected = []
        waiting = { count: commands.length, resolve, reject }
        socket.write(Buffer.concat(commands.map((argv) => Resp.encode(argv.map((arg) => Buffer.from(arg, "latin1"))))))
      }),
    lost: () => lost,
    close: () => socket.destroy()
  }
}

// ---------------------------------------------------------------------------------------------------------------------
// Reading replies
// ---------------------------------------------------------------------------------------------------------------------

const unordered = new Set(["SMEMBERS", "SUNION", "SINTER", "SDIFF", "HKEYS", "HVALS", "KEYS"])
/** An id that was made of the time, of which each side has its own. */
const timely = /^1[78][0-9]{11}-[0-9]+$/

/** How long ago, to one and a half minute: what happened in this run is now. */
const ago = (millis: number): string => millis > 1e12 ? "ever" : `${Math.round(millis / 100_000)}`

/** What depends on the time, in a reply about streams. */
const timeless = (argv: Argv, reply: Shown): Shown => {
  const name = argv[0]!.toUpperCase()
  const inPending = name === "XPENDING" && argv.length > 3
  const now = Date.now()
  const read = (item: Shown, i: number, all: ReadonlyArray<Shown>): Shown => {
    if (isArray(item)) return item.map(read)
    if (typeof item === "string") return timely.test(item) ? "now" : item
    if (typeof item !== "number") return item
    if ((inPending && i === 2) || all[i - 1] === "idle") return ago(item)
    if (item > 1.5e12 && item < 2e12) return ago(now - item)
    // The form of the tree depends on all of its ids.
    return all[i - 1] === "radix-tree-nodes" && /"1[78][0-9]{11}-/.test(JSON.stringify(all)) ? "nodes" : item
  }
  return read(reply, 0, [])
}

const randomly = new Set(["SPOP", "SRANDMEMBER", "HRANDFIELD", "ZRANDMEMBER", "RANDOMKEY"])
const timed = new Set(["TTL", "PTTL", "EXPIRETIME", "PEXPIRETIME"])

const sorted = (reply: ReadonlyArray<Shown>): Array<Shown> =>
  [...reply].sort((a, b) => JSON.stringify(a) < JSON.stringify(b) ? -1 : 1)

const pairs = (reply: ReadonlyArray<Shown>): Array<Array<Shown>> => {
  const out: Array<Array<Shown>> = []
  for (let i = 0; i < reply.length; i += 2) out.push([reply[i]!, reply[i + 1]!])
  return out
}

const isError = (reply: string): boolean => /^-[A-Z]+ /.test(reply)

const isArray = (reply: Shown): reply is ReadonlyArray<Shown> => Array.isArray(reply)

/** No next number for `time-*`: the server looks at the cause of an earlier error, so it says one or the other. */
const sameCause = (text: string): string =>
  text.replace(
    "Elements are too large to be stored",
    "The ID specified in XADD is equal or smaller than the target stream top item"
  )

/** Both sides are read like this. */
const read = (compared: Comparison, reply: Shown): Shown =>
  typeof reply === "string"
    ? compared.read(sameCause(reply))
    : isArray(reply)
    ? reply.map((item) => read(compared, item))
    : reply

/** Two replies about time to live are equal when they are not more than two seconds apart. */
const near = (name: string, a: Shown, b: Shown): boolean =>
  typeof a === "number" && typeof b === "number" && a > 0 && b > 0 &&
  Math.abs(a - b) <= (name.startsWith("P") ? 2000 : 2) + a * 1e-12

/** Distances that were stored may differ in their last bit: the server's sines are not always rounded correctly. */
const rounded = (reply: Shown): Shown =>
  isArray(reply)
    ? reply.map(rounded)
    : typeof reply === "string" && /^\d+\.\d{6,}$/.test(reply)
    ? String(Number(Number(reply).toPrecision(14)))
    : reply

const normalize = (argv: Argv, given: Shown, other: Shown): Shown => {
  const name = argv[0]!.toUpperCase()
  const reply = name.startsWith("Z") && argv[1]?.startsWith("geo") === true ? rounded(given) : given
  if (name.startsWith("X")) return timeless(argv, reply)
  if (timed.has(name) && near(name, reply, other)) return "near"
  if (typeof reply === "string" && randomly.has(name) && !isError(reply) && reply !== "QUEUED") return "chosen"
  if (!isArray(reply)) return reply
  if (randomly.has(name)) return reply.length
  if (unordered.has(name)) return sorted(reply)
  if (name === "HGETALL") return sorted(pairs(reply))
  if (name.endsWith("SCAN") && isArray(reply[1]!)) {
    return [reply[0]!, sorted(name === "HSCAN" || name === "ZSCAN" ? pairs(reply[1]) : reply[1])]
  }
  return reply
}

/** The replies of EXEC are compared like those of the commands that it ran. */
const normalizeAll = (
  commands: ReadonlyArray<Argv>,
  replies: ReadonlyArray<Shown>,
  others: ReadonlyArray<Shown>
): Array<Shown> => {
  let queued: Array<Argv> = []
  return replies.map((reply, i) => {
    const argv = commands[i]!
    const name = argv[0]!.toUpperCase()
    const other = others[i]!
    if (reply === "QUEUED") {
      queued.push(argv)
      return reply
    }
    if (name === "EXEC") {
      const ran = queued
      queued = []
      return isArray(reply)
        ? reply.map((item, n) => normalize(ran[n]!, item, isArray(other) ? other[n] ?? null : null))
        : reply
    }
    if (name === "DISCARD") queued = []
    return normalize(argv, reply, other)
  })
}

/** With what makes the server's answer depend on these commands alone. */
const settle = (argv: Argv): ReadonlyArray<Argv> => {
  const name = argv[0]!.toUpperCase()
  // What was taken at random may differ, so the rest of it goes as well.
  if (name === "SPOP" && argv[1] !== undefined) return [argv, ["DEL", argv[1]]]
  // SORT refuses every number when the last one that the server has read for anybody was out of range.
  if (name.startsWith("SORT")) return [["GEORADIUS_RO", "nowhere", "0", "0", "1", "m"], argv]
  return [argv]
}

/** Without what the server of this run does differently. */
const sent = (compared: Comparison, commands: ReadonlyArray<Argv>): ReadonlyArray<Argv> => {
  let inTransaction = false
  return commands.filter((argv) => {
    const keep = compared.sends(argv, inTransaction)
    if (argv.length === 1 && /^(?:MULTI|EXEC|DISCARD)$/i.test(argv[0]!)) inTransaction = /^MULTI$/i.test(argv[0]!)
    return keep
  })
}

/** At the end everything is looked at. */
const inspect: ReadonlyArray<Argv> = [
  ["DISCARD"],
  ["KEYS", "*"],
  ...["string1", "string2", "string3"].flatMap((name): Array<Argv> => [["GET", name], ["PTTL", name]]),
  ...["bits1", "bits2", "bits3", "log1", "log2", "log3"].map((name): Argv => ["GET", name]),
  ...["hash1", "hash2", "hash3"].map((name): Argv => ["HGETALL", name]),
  ...["list1", "list2", "list3", "items1", "items2"].map((name): Argv => ["LRANGE", name, "0", "-1"]),
  ...["set1", "set2", "set3"].map((name): Argv => ["SMEMBERS", name]),
  ...["stream1", "stream2", "stream3"].flatMap((name): Array<Argv> => [
    ["XINFO", "STREAM", name],
    ["XRANGE", name, "-", "+"],
    ["XPENDING", name, "g1", "-", "+", "100"],
    ["XINFO", "STREAM", name, "FULL", "COUNT", "0"]
  ]),
  ...["zset1", "zset2", "zset3", "lex1", "lex2", "geo1", "geo2", "geo3"].map((
    name
  ): Argv => ["ZRANGE", name, "0", "-1", "WITHSCORES"])
]

const ours = (commands: ReadonlyArray<Argv>): Array<Shown> => {
  const start = Date.now()
  let waited = 0
  const engine = new Engine({ now: () => start + waited })
  const session = engine.connect()
  return commands.map((argv) => {
    let unblocked: Shown = null
    session.onUnblocked = (reply) => unblocked = show(reply)
    const reply = engine.execute(session, argv)
    if (reply !== BLOCKED) return bare(reply)
    waited++
    engine.unblock(session)
    return unblocked
  })
}

export interface Options {
  /** How many sequences of commands. */
  readonly sequences: number
  readonly seed?: number | undefined
}

export interface Differential {
  /** Fails when something differs: in `counterexample` the shortest sequence that was found, and why in `errorInstance`. */
  readonly check: (suite: Suite, options: Options) => Promise<FC.RunDetails<[Array<Argv>]>>
  /** Of all checks so far. */
  readonly count: () => { readonly sequences: number; readonly commands: number }
  readonly close: () => Promise<void>
}

/** Compares with the server of this address. */
export const connect = async (url: string): Promise<Differential> => {
  const compared = await comparison(url)
  const connection = open(url)
  const [, size] = await connection.send([["SELECT", DATABASE], ["DBSIZE"]])
  // The server may be somebody's own, and what follows empties the database.
  if (size !== 0) {
    connection.close()
    throw new Error(
      `database ${DATABASE} of the server is used by these tests and must be empty; it has ${String(size)} keys`
    )
  }
  const total = { sequences: 0, commands: 0 }

  const compare = async (commands: ReadonlyArray<Argv>): Promise<void> => {
    const theirs = await connection.send([["FLUSHDB"], ["UNWATCH"], ...commands])
    const there = theirs.slice(2).map((reply) => read(compared, fromWire(reply)))
    const here = ours(commands).map((reply) => read(compared, reply))
    const expected = normalizeAll(commands, there, here)
    const actual = normalizeAll(commands, here, there)
    total.sequences++
    total.commands += commands.length
    for (let i = 0; i < commands.length; i++) {
      if (!isDeepStrictEqual(actual[i], expected[i])) {
        throw new Error(
          `command ${i}: ${JSON.stringify(commands[i])}\nserver: ${JSON.stringify(expected[i])}\nengine: ${
            JSON.stringify(actual[i])
          }`
        )
      }
    }
  }

  return {
    check: async ({ arbitrary, before = [], length }, { seed, sequences }) => {
      const details = await FC.check(
        FC.asyncProperty(
          FC.array(arbitrary, { minLength: 1, maxLength: length, size: "max" }),
          (generated) => compare([...before, ...sent(compared, generated).flatMap(settle), ...sent(compared, inspect)])
        ),
        { numRuns: sequences, ...(seed === undefined ? {} : { seed }) }
      )
      const lost = connection.lost()
      // This is no difference.
      if (lost !== undefined) throw lost
      return details
    },
    count: () => ({ ...total }),
    close: async () => {
      await connection.send([["FLUSHDB"]])
      connection.close()
    }
  }
}
