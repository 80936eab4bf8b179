/**
 * The same random commands to a real server and to the engine: replies and error texts must be equal, but for what
 * changed after Redis 7.0.
 *
 * The pools are small, so that commands meet each other's keys, of the wrong type too. What is in no order is sorted
 * before it is compared, what is chosen at random is compared by its shape, and times to live within a tolerance.
 */
import { afterAll, assert, beforeAll, describe, it } from "@effect/vitest"
import { FastCheck as FC } from "effect"
import * as Net from "node:net"
import { inject } from "vitest"
import { BLOCKED, Engine } from "../../src/memory/Engine.js"
import { type EngineReply, Status } from "../../src/memory/reply.js"
import "../kit/globalSetup.js"
import * as Resp from "../kit/resp.js"
import { show, type Shown } from "./tools.js"
import { type Comparison, comparison } from "./versions.js"

type Argv = ReadonlyArray<string>

// ---------------------------------------------------------------------------------------------------------------------
// The real server
// ---------------------------------------------------------------------------------------------------------------------

/** A database of our own: other tests use the same server. */
const DATABASE = "9"

let socket: Net.Socket
let onReplies: (replies: ReadonlyArray<Resp.Reply>) => void = () => {}
let expected = 0
let collected: Array<Resp.Reply> = []

const real = (commands: ReadonlyArray<Argv>): Promise<ReadonlyArray<Resp.Reply>> =>
  new Promise((resolve) => {
    expected = commands.length
    collected = []
    onReplies = resolve
    socket.write(Buffer.concat(commands.map(Resp.encode)))
  })

const fromWire = (reply: Resp.Reply): Shown =>
  reply instanceof Resp.ErrorReply
    ? `-${reply.message}`
    : typeof reply === "object" && reply !== null
    ? reply.map(fromWire)
    : reply

let compared: Comparison

beforeAll(async () => {
  compared = await comparison(inject("redisUrl"))
  const { hostname, port } = new URL(inject("redisUrl"))
  socket = Net.connect(Number(port), hostname)
  const parser = new Resp.Parser()
  socket.on("data", (chunk) => {
    for (const { value } of parser.push(chunk)) collected.push(value)
    if (collected.length === expected) onReplies(collected)
  })
  const [, size] = await real([["SELECT", DATABASE], ["DBSIZE"]])
  // The server may be somebody's own, and what follows empties the database.
  if (size !== 0) {
    socket.destroy()
    throw new Error(
      `database ${DATABASE} of the server is used by these tests and must be empty; it has ${String(size)} keys`
    )
  }
})

afterAll(async () => {
  if (!socket.destroyed) await real([["FLUSHDB"]])
  socket.destroy()
})

// ---------------------------------------------------------------------------------------------------------------------
// Commands
// ---------------------------------------------------------------------------------------------------------------------

const oneOf = (...texts: ReadonlyArray<string>) => FC.constantFrom(...texts)

/** Mostly a key of this type, sometimes of any. */
const key = (type: string) =>
  FC.oneof(
    { weight: 12, arbitrary: oneOf(`${type}1`, `${type}2`, `${type}3`) },
    { weight: 1, arbitrary: oneOf("string1", "hash1", "list1", "set1", "zset1", "none") }
  )

const anyKey = oneOf("string1", "string2", "hash1", "hash2", "list1", "list2", "set1", "set2", "zset1", "zset2", "none")
const member = oneOf("a", "b", "c", "d", "e", "", "ab", "B")
const value = FC.oneof(
  { weight: 4, arbitrary: oneOf("a", "b", "", "hello", "10", "-3", "0", "7") },
  {
    weight: 1,
    arbitrary: oneOf(
      " 1",
      "01",
      "+5",
      "1.5",
      "3.0e3",
      "9223372036854775807",
      "-9223372036854775808",
      "abc def",
      "1e400"
    )
  }
)
const integer = FC.oneof(
  { weight: 8, arbitrary: oneOf("0", "1", "2", "3", "-1", "-2", "-3", "5", "10", "-10") },
  {
    weight: 1,
    arbitrary: oneOf("x", "", "1.0", " 1", "007", "9223372036854775807", "-9223372036854775808", "9223372036854775808")
  }
)
const small = FC.oneof({ weight: 10, arbitrary: oneOf("0", "1", "2", "3", "100") }, { weight: 1, arbitrary: integer })
const score = FC.oneof(
  { weight: 8, arbitrary: oneOf("0", "1", "2", "3", "-1", "1.5", "2.25", "10", "-0") },
  {
    weight: 2,
    arbitrary: oneOf(
      "inf",
      "-inf",
      "+inf",
      "Infinity",
      "1e5",
      "1e20",
      "1e21",
      "0.1",
      "3.14159",
      "1e-7",
      "0x10",
      "nan",
      "x",
      "",
      " 1",
      "1e400",
      "1e-400",
      "123456789012345678",
      ".5",
      "5."
    )
  }
)
const float = FC.oneof(
  { weight: 6, arbitrary: oneOf("0.1", "0.2", "1", "-1.5", "3", "5.0e3", "1e-10", "10.25", "-0.1") },
  {
    weight: 1,
    arbitrary: oneOf("x", "", "inf", "-inf", "nan", "1e17", "1e30", "0x10", " 1", "1e5000", "123456789.987654321")
  }
)
const bound = FC.oneof(
  { weight: 8, arbitrary: oneOf("0", "1", "2", "3", "(1", "(2", "-inf", "+inf", "inf", "1.5", "(1.5", "(inf", "10") },
  { weight: 1, arbitrary: oneOf("x", "", "(", "(x", "nan", " 1", "1e400", "[1", "0x2") }
)
const lex = FC.oneof(
  { weight: 8, arbitrary: oneOf("-", "+", "[a", "[b", "(a", "(c", "[", "(", "[ab", "[B", "[d") },
  { weight: 1, arbitrary: oneOf("", "a", "-a", "+a", "1") }
)
const pattern = oneOf("*", "a*", "?", "[a-c]", "[^a]", "*b", "\\a", "string*", "*[12]", "a?", "[", "[a-", "**", "z*t?")
const garbage = oneOf("NX", "XX", "FOO", "", "COUNT", "LIMIT", "WITHSCORES", "1")

/** A fixed word in one of its cases. */
const word = (text: string) =>
  FC.oneof({ weight: 8, arbitrary: FC.constant(text) }, { weight: 1, arbitrary: oneOf(text.toLowerCase()) })

type Part = FC.Arbitrary<string> | FC.Arbitrary<Argv> | string

const command = (...parts: ReadonlyArray<Part>): FC.Arbitrary<Argv> =>
  FC.tuple(...parts.map((part) => typeof part === "string" ? word(part) : part)).map((texts) => texts.flat())

/** From `min` to `max` times. */
const many = (part: FC.Arbitrary<string> | FC.Arbitrary<Argv>, min: number, max: number): FC.Arbitrary<Argv> =>
  FC.array<string | Argv>(part, { minLength: min, maxLength: max }).map((texts) => texts.flat())

/** Present more often than not absent, and followed by something odd now and then. */
const optional = (...choices: ReadonlyArray<FC.Arbitrary<Argv>>): FC.Arbitrary<Argv> =>
  FC.oneof(
    { weight: 4, arbitrary: FC.constant<Argv>([]) },
    { weight: 4, arbitrary: FC.oneof(...choices) },
    { weight: 1, arbitrary: FC.tuple(FC.oneof(...choices), FC.oneof(...choices)).map((both) => both.flat()) }
  )

const odd = FC.oneof({ weight: 30, arbitrary: FC.constant<Argv>([]) }, { weight: 1, arbitrary: many(garbage, 1, 2) })

const words = (...texts: ReadonlyArray<string>) => FC.constantFrom(...texts.map((text) => text.split(" ")))

/** Keys with their number before them, which is wrong now and then. */
const counted = (keys: FC.Arbitrary<string>): FC.Arbitrary<Argv> =>
  FC.tuple(many(keys, 1, 3), FC.oneof({ weight: 20, arbitrary: FC.constant("") }, { weight: 1, arbitrary: integer }))
    .map(([names, wrong]) => [wrong === "" ? String(names.length) : wrong].concat(names))

const string = key("string")
const hash = key("hash")
const list = key("list")
const set = key("set")
const zset = key("zset")

/** Lives that are far away or over. */
const life = FC.oneof(
  { weight: 6, arbitrary: words("EX 100", "PX 100000", "EXAT 4102444800", "PXAT 4102444800123") },
  { weight: 2, arbitrary: words("EXAT 1", "PXAT 1000") },
  {
    weight: 2,
    arbitrary: words(
      "EX 0",
      "EX -1",
      "PX x",
      "EX",
      "EX 9223372036854775807",
      "PX 9223372036854775807",
      "EXAT 9223372036854775",
      "EX 100 EX 200",
      "EX 100 PX 100"
    )
  }
)

const strings = FC.oneof(
  { weight: 6, arbitrary: command("SET", string, value) },
  command("SET", string, value, many(FC.oneof(words("NX", "XX", "GET", "KEEPTTL"), life), 0, 2), odd),
  command("GET", string, odd),
  command("SETNX", string, value),
  command("SETEX", string, oneOf("100", "0", "-1", "x", "9223372036854775807"), value),
  command("PSETEX", string, oneOf("100000", "0", "-1", "x", "9223372036854775807"), value),
  command("GETSET", string, value),
  command("GETDEL", string),
  command("GETEX", string, many(FC.oneof(words("PERSIST"), life), 0, 2), odd),
  command("MGET", many(FC.oneof(string, anyKey), 1, 3)),
  command("MSET", many(FC.oneof(string, value), 2, 5)),
  command("MSETNX", many(FC.oneof(string, value), 2, 5)),
  command(oneOf("INCR", "DECR"), string),
  command(oneOf("INCRBY", "DECRBY"), string, integer),
  command("INCRBYFLOAT", string, float),
  command("APPEND", string, value),
  command("STRLEN", string),
  command(oneOf("GETRANGE", "SUBSTR"), string, integer, integer),
  command("SETRANGE", string, oneOf("0", "1", "3", "7", "-1", "x"), value)
)

const expiry = FC.oneof(
  command("EXPIRE", anyKey, oneOf("100", "1000", "-1", "0", "x", "9223372036854775807"), optional(words("NX", "XX"))),
  command("PEXPIRE", anyKey, oneOf("100000", "-1", "0", "x", "9223372036854775807"), optional(words("NX", "XX"))),
  command(
    "PEXPIREAT",
    anyKey,
    oneOf("4102444800000", "4102444800001", "4102444900000", "1", "-5"),
    many(words("NX", "XX", "GT", "LT", "gt", "FOO"), 0, 2)
  ),
  command(
    "EXPIREAT",
    anyKey,
    oneOf("4102444800", "4102444801", "1", "x", "9223372036854775"),
    optional(words("GT", "LT"))
  ),
  command(oneOf("TTL", "PTTL", "EXPIRETIME", "PEXPIRETIME", "PERSIST"), anyKey)
)

const keys = FC.oneof(
  command(oneOf("DEL", "UNLINK"), many(anyKey, 1, 2)),
  command(oneOf("EXISTS", "TOUCH"), many(anyKey, 1, 4)),
  command("TYPE", anyKey),
  command("RENAME", anyKey, anyKey),
  command("RENAMENX", anyKey, anyKey),
  command("COPY", anyKey, anyKey, optional(words("REPLACE", "DB x", "DB -1", "DB"))),
  command("KEYS", pattern),
  command("RANDOMKEY"),
  // Where a step of the default size ends, when there are more keys than that, is the server's own affair.
  command("SCAN", oneOf("0", "0", "0", "x"), words("COUNT 1000", "COUNT 0", "COUNT x", "COUNT", "FOO 1")),
  command("SCAN", oneOf("0"), "MATCH", pattern, "COUNT", oneOf("1000")),
  command("SCAN", oneOf("0"), "COUNT", oneOf("1000"), "TYPE", oneOf("string", "HASH", "list", "set", "zset", "foo")),
  command("PING", optional(words("hi"))),
  command("ECHO", value),
  expiry
)

const hashes = FC.oneof(
  { weight: 4, arbitrary: command(oneOf("HSET", "HMSET"), hash, many(FC.oneof(member, value), 2, 5)) },
  { weight: 4, arbitrary: command("HSET", hash, member, value) },
  command("HSETNX", hash, member, value),
  command("HGET", hash, member),
  command("HMGET", hash, many(member, 1, 3)),
  command(oneOf("HGETALL", "HKEYS", "HVALS", "HLEN"), hash),
  command(oneOf("HEXISTS", "HSTRLEN"), hash, member),
  command("HDEL", hash, many(member, 1, 3)),
  command("HINCRBY", hash, member, integer),
  command("HINCRBYFLOAT", hash, member, float),
  command("HRANDFIELD", hash, optional(many(integer, 1, 1)), optional(words("WITHVALUES", "FOO"))),
  command(
    "HSCAN",
    hash,
    oneOf("0", "0", "x"),
    optional(words("COUNT 100", "COUNT 0", "MATCH a*", "MATCH", "TYPE hash"))
  )
)

const side = oneOf("LEFT", "RIGHT", "left", "FOO")
const timeout = oneOf("0.001", "0.001", "-1", "x", "inf", "")

const lists = FC.oneof(
  { weight: 4, arbitrary: command(oneOf("LPUSH", "RPUSH"), list, many(member, 1, 4)) },
  command(oneOf("LPUSHX", "RPUSHX"), list, many(member, 1, 2)),
  command(oneOf("LPOP", "RPOP"), list, optional(many(small, 1, 1))),
  command("LLEN", list),
  command(oneOf("LRANGE", "LTRIM"), list, integer, integer),
  command("LRANGE", list, oneOf("0"), oneOf("-1")),
  command("LINDEX", list, integer),
  command("LSET", list, integer, member),
  command("LINSERT", list, oneOf("BEFORE", "after", "FOO"), member, member),
  command("LREM", list, integer, member),
  command(
    "LPOS",
    list,
    member,
    many(
      words("RANK 1", "RANK -1", "RANK 2", "RANK 0", "COUNT 0", "COUNT 2", "COUNT -1", "MAXLEN 2", "MAXLEN -1", "RANK"),
      0,
      2
    )
  ),
  command("LMOVE", list, list, side, side),
  command("RPOPLPUSH", list, list),
  command("LMPOP", counted(list), side, optional(words("COUNT 2", "COUNT 0", "COUNT x", "COUNT")))
)

const sets = FC.oneof(
  { weight: 4, arbitrary: command("SADD", set, many(FC.oneof(member, integer), 1, 4)) },
  command("SREM", set, many(member, 1, 3)),
  command(oneOf("SMEMBERS", "SCARD"), set),
  command("SISMEMBER", set, member),
  command("SMISMEMBER", set, many(member, 1, 3)),
  command("SPOP", set, optional(many(small, 1, 1)), odd),
  command("SRANDMEMBER", set, optional(many(integer, 1, 1)), odd),
  command("SMOVE", set, set, member),
  command(oneOf("SUNION", "SINTER", "SDIFF"), many(set, 1, 3)),
  command(oneOf("SUNIONSTORE", "SINTERSTORE", "SDIFFSTORE"), set, many(set, 1, 3)),
  command("SINTERCARD", counted(set), optional(words("LIMIT 1", "LIMIT 0", "LIMIT -1", "LIMIT x", "LIMIT", "FOO"))),
  command("SSCAN", set, oneOf("0", "x"), oneOf("COUNT"), oneOf("1000"))
)

const combine = optional(
  words("WEIGHTS 2", "WEIGHTS 2 3", "WEIGHTS 1 0.5 2", "WEIGHTS x", "WEIGHTS inf -inf", "WEIGHTS"),
  words("AGGREGATE MIN", "aggregate max", "AGGREGATE SUM", "AGGREGATE foo", "AGGREGATE"),
  words("WITHSCORES")
)
const limit = words(
  "LIMIT 0 2",
  "LIMIT 1 -1",
  "LIMIT 1 1",
  "LIMIT -1 2",
  "LIMIT 0 0",
  "LIMIT 5 5",
  "LIMIT 0",
  "LIMIT x 1"
)

const zsets = FC.oneof(
  { weight: 6, arbitrary: command("ZADD", zset, many(FC.tuple(score, member), 1, 4)) },
  {
    weight: 2,
    arbitrary: command(
      "ZADD",
      zset,
      many(words("NX", "XX", "GT", "LT", "CH", "INCR", "ch"), 0, 3),
      many(FC.tuple(score, member), 1, 2),
      odd
    )
  },
  command("ZINCRBY", zset, score, member),
  command("ZREM", zset, many(member, 1, 3)),
  command(oneOf("ZSCORE", "ZRANK", "ZREVRANK"), zset, member),
  command("ZMSCORE", zset, many(member, 1, 3)),
  command("ZCARD", zset),
  command("ZCOUNT", zset, bound, bound),
  command(
    "ZRANGE",
    zset,
    integer,
    integer,
    optional(words("WITHSCORES", "REV", "withscores rev", "REV WITHSCORES"), limit)
  ),
  command("ZRANGE", zset, oneOf("0"), oneOf("-1"), "WITHSCORES"),
  command("ZRANGE", zset, bound, bound, "BYSCORE", optional(words("REV", "WITHSCORES", "BYLEX"), limit)),
  command(oneOf("ZRANGEBYSCORE", "ZREVRANGEBYSCORE"), zset, bound, bound, optional(words("WITHSCORES", "REV"), limit)),
  command("ZREVRANGE", zset, integer, integer, optional(words("WITHSCORES", "REV", "BYSCORE"), limit)),
  command("ZRANGESTORE", zset, zset, integer, integer, optional(words("REV", "WITHSCORES"), limit)),
  command("ZRANGESTORE", zset, zset, bound, bound, "BYSCORE", optional(words("REV"), limit)),
  command(oneOf("ZPOPMIN", "ZPOPMAX"), zset, optional(many(small, 1, 1)), odd),
  command(
    "ZMPOP",
    counted(zset),
    oneOf("MIN", "max", "FOO"),
    optional(words("COUNT 2", "COUNT 0", "COUNT x", "COUNT"))
  ),
  command("ZREMRANGEBYRANK", zset, integer, integer),
  command("ZREMRANGEBYSCORE", zset, bound, bound),
  command(oneOf("ZUNION", "ZINTER"), counted(FC.oneof(zset, set)), combine),
  command("ZDIFF", counted(FC.oneof(zset, set)), optional(words("WITHSCORES", "WEIGHTS 1"))),
  command(oneOf("ZUNIONSTORE", "ZINTERSTORE"), zset, counted(FC.oneof(zset, set)), combine),
  command("ZDIFFSTORE", zset, counted(FC.oneof(zset, set)), optional(words("WITHSCORES"))),
  command(
    "ZINTERCARD",
    counted(FC.oneof(zset, set)),
    optional(words("LIMIT 1", "LIMIT 0", "LIMIT -1", "LIMIT x", "FOO"))
  ),
  command("ZRANDMEMBER", zset, optional(many(integer, 1, 1)), optional(words("WITHSCORES", "FOO"))),
  command("ZSCAN", zset, oneOf("0", "x"), optional(words("COUNT 100", "MATCH a*", "COUNT -1")))
)

/** Waiting takes real time, so these are rare. */
const blocking = FC.oneof(
  command(oneOf("BLPOP", "BRPOP"), many(list, 1, 2), timeout),
  command("BLMOVE", list, list, side, side, timeout),
  command("BRPOPLPUSH", list, list, timeout),
  command("BLMPOP", timeout, counted(list), side, optional(words("COUNT 2", "COUNT 0"))),
  command(oneOf("BZPOPMIN", "BZPOPMAX"), many(zset, 1, 2), timeout),
  command("BZMPOP", timeout, counted(zset), oneOf("MIN", "MAX"), optional(words("COUNT 2")))
)

/** Ranges by bytes have a meaning only where all scores are equal, so these have keys of their own. */
const lexKey = FC.oneof({ weight: 12, arbitrary: oneOf("lex1", "lex2") }, {
  weight: 1,
  arbitrary: oneOf("string1", "none")
})
const lexRanges = FC.oneof(
  { weight: 3, arbitrary: command("ZADD", lexKey, many(FC.tuple(oneOf("0"), member), 1, 4)) },
  command("ZREM", lexKey, many(member, 1, 2)),
  command(oneOf("ZRANGEBYLEX", "ZREVRANGEBYLEX"), lexKey, lex, lex, optional(words("WITHSCORES"), limit)),
  command("ZRANGE", lexKey, lex, lex, "BYLEX", optional(words("REV", "WITHSCORES"), limit)),
  command("ZRANGESTORE", lexKey, lexKey, lex, lex, "BYLEX", optional(words("REV"), limit)),
  command("ZLEXCOUNT", lexKey, lex, lex),
  command("ZREMRANGEBYLEX", lexKey, lex, lex)
)

const transactions = FC.oneof(
  { weight: 3, arbitrary: command("MULTI") },
  { weight: 3, arbitrary: command("EXEC") },
  command("DISCARD"),
  command("WATCH", many(anyKey, 1, 2)),
  command("UNWATCH")
)

const scripts = FC.oneof(
  command("EVAL", oneOf("return redis.call('GET', KEYS[1])"), oneOf("1"), anyKey),
  command(
    "EVAL",
    oneOf("redis.call('SET', KEYS[1], ARGV[1]) return redis.pcall('LPUSH', KEYS[1], 'x')"),
    oneOf("1"),
    anyKey,
    value
  ),
  command(
    "EVAL",
    oneOf("return {KEYS[1], ARGV[1] or false, 3.7, {1, nil, 2}}"),
    oneOf("1", "0", "2", "x", "-1"),
    many(value, 1, 2)
  ),
  command("EVAL", oneOf("return redis.call('BLPOP', KEYS[1], 0)", "return redis.call('MULTI')"), oneOf("1"), list),
  command("EVAL", oneOf("return redis.call('BLMPOP', 0, 1, KEYS[1], 'LEFT')"), oneOf("1"), list),
  command("EVAL", oneOf("return redis.call('NOPE')", "return redis.call('GET')", "return redis.call()"), oneOf("0")),
  command(
    "EVAL_RO",
    oneOf("return redis.call('SET', KEYS[1], '1')", "return redis.call('TYPE', KEYS[1])"),
    oneOf("1"),
    anyKey
  ),
  command("EVALSHA", oneOf("x", "ffffffffffffffffffffffffffffffffffffffff"), oneOf("0", "1", "x")),
  command("EVAL", oneOf("local x = 1 y"), oneOf("0"))
)

const odds = FC.oneof(
  command(oneOf("FOO", "get", "GETT", "CLIENT", "client foo"), many(value, 0, 3)),
  command(
    oneOf("HSET", "ZADD", "SET", "LPUSH", "EXPIRE", "SCAN", "EVAL", "PING", "MULTI", "BLPOP"),
    many(member, 0, 2)
  ),
  command("CLIENT", oneOf("FOO", "SETNAME", "GETNAME", "ID", "UNBLOCK"), many(oneOf("x", "1"), 2, 3)),
  command("PUBSUB", oneOf("FOO", "NUMPAT", "CHANNELS", "SHARDCHANNELS"), many(oneOf("x", "1"), 2, 3)),
  command("SCRIPT", oneOf("FOO", "EXISTS", "FLUSH"), oneOf("x"), many(oneOf("x", "1"), 0, 2)),
  command("SELECT", oneOf("x", "-1", "99")),
  command("PUBLISH", oneOf("nobody"), value),
  command("WAIT", oneOf("0"), oneOf("0", "x", "-1")),
  command("PUBSUB", oneOf("NUMSUB"), many(oneOf("nobody"), 0, 2))
)

// ---------------------------------------------------------------------------------------------------------------------
// Comparing
// ---------------------------------------------------------------------------------------------------------------------

const unordered = new Set(["SMEMBERS", "SUNION", "SINTER", "SDIFF", "HKEYS", "HVALS", "KEYS"])
const randomly = new Set(["SPOP", "SRANDMEMBER", "HRANDFIELD", "ZRANDMEMBER", "RANDOMKEY"])
const timed = new Set(["TTL", "PTTL", "EXPIRETIME", "PEXPIRETIME"])

const sorted = (reply: ReadonlyArray<Shown>): Array<Shown> =>
  [...reply].sort((a, b) => JSON.stringify(a) < JSON.stringify(b) ? -1 : 1)

const pairs = (reply: ReadonlyArray<Shown>): Array<Array<Shown>> => {
  const out: Array<Array<Shown>> = []
  for (let i = 0; i < reply.length; i += 2) out.push([reply[i]!, reply[i + 1]!])
  return out
}

/** The test kit's parser does not tell statuses from strings. */
const bare = (reply: EngineReply): Shown =>
  reply instanceof Status ? reply.text : Array.isArray(reply) ? reply.map(bare) : show(reply)

const isError = (reply: string): boolean => /^-[A-Z]+ /.test(reply)

const isArray = (reply: Shown): reply is ReadonlyArray<Shown> => Array.isArray(reply)

/** Both sides are read like this. */
const read = (reply: Shown): Shown =>
  typeof reply === "string" ? compared.read(reply) : isArray(reply) ? reply.map(read) : reply

/** Two replies about time to live are equal when they are not more than two seconds apart. */
const near = (name: string, a: Shown, b: Shown): boolean =>
  typeof a === "number" && typeof b === "number" && a > 0 && b > 0 &&
  Math.abs(a - b) <= (name.startsWith("P") ? 2000 : 2) + a * 1e-12

const normalize = (argv: Argv, reply: Shown, other: Shown): Shown => {
  const name = argv[0]!.toUpperCase()
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

/** What was taken at random may differ, so the rest of it goes as well. */
const settle = (argv: Argv): ReadonlyArray<Argv> =>
  argv[0]!.toUpperCase() === "SPOP" && argv[1] !== undefined ? [argv, ["DEL", argv[1]]] : [argv]

/** Without what the server of this run does differently. */
const sent = (commands: ReadonlyArray<Argv>): ReadonlyArray<Argv> => {
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
  ...["hash1", "hash2", "hash3"].map((name): Argv => ["HGETALL", name]),
  ...["list1", "list2", "list3"].map((name): Argv => ["LRANGE", name, "0", "-1"]),
  ...["set1", "set2", "set3"].map((name): Argv => ["SMEMBERS", name]),
  ...["zset1", "zset2", "zset3", "lex1", "lex2"].map((name): Argv => ["ZRANGE", name, "0", "-1", "WITHSCORES"])
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

const compare = (arbitrary: FC.Arbitrary<Argv>, length: number, numRuns: number) => async () => {
  await FC.assert(
    FC.asyncProperty(FC.array(arbitrary, { minLength: 1, maxLength: length, size: "max" }), async (generated) => {
      const commands = [...sent(generated).flatMap(settle), ...inspect]
      const theirs = await real([["FLUSHDB"], ["UNWATCH"], ...commands])
      const there = theirs.slice(2).map(fromWire).map(read)
      const here = ours(commands).map(read)
      const expected = normalizeAll(commands, there, here)
      const actual = normalizeAll(commands, here, there)
      for (let i = 0; i < commands.length; i++) {
        assert.deepStrictEqual(actual[i], expected[i], `command ${i}: ${JSON.stringify(commands[i])}`)
      }
    }),
    { numRuns, ...(process.env.FC_SEED === undefined ? {} : { seed: Number(process.env.FC_SEED) }) }
  )
}

const scale = Number(process.env.FC_SCALE ?? 1)

describe("the engine answers like a server", () => {
  it("strings", compare(FC.oneof({ weight: 4, arbitrary: strings }, expiry), 30, 300 * scale))
  it("keys", compare(FC.oneof({ weight: 3, arbitrary: keys }, strings, hashes, lists, sets, zsets), 40, 300 * scale))
  it("hashes", compare(FC.oneof({ weight: 6, arbitrary: hashes }, keys), 30, 300 * scale))
  it(
    "lists",
    compare(FC.oneof({ weight: 120, arbitrary: lists }, { weight: 20, arbitrary: keys }, blocking), 30, 300 * scale)
  )
  it("sets", compare(FC.oneof({ weight: 6, arbitrary: sets }, keys), 30, 300 * scale))
  it(
    "sorted sets",
    compare(
      FC.oneof({ weight: 240, arbitrary: zsets }, { weight: 20, arbitrary: FC.oneof(sets, keys) }, blocking),
      40,
      500 * scale
    )
  )
  it("ranges by bytes", compare(lexRanges, 30, 200 * scale))
  it(
    "everything together, with transactions and scripts",
    compare(
      FC.oneof(
        { weight: 200, arbitrary: FC.oneof(strings, keys, hashes, lists, sets, zsets, transactions, scripts, odds) },
        blocking
      ),
      40,
      500 * scale
    )
  )
})
