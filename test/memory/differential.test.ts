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
    socket.write(Buffer.concat(commands.map((argv) => Resp.encode(argv.map((arg) => Buffer.from(arg, "latin1"))))))
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
  const parser = new Resp.Parser("latin1")
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
    { weight: 1, arbitrary: oneOf("string1", "hash1", "list1", "set1", "zset1", "stream1", "none") }
  )

const anyKey = oneOf(
  "string1",
  "string2",
  "hash1",
  "hash2",
  "list1",
  "list2",
  "set1",
  "set2",
  "zset1",
  "zset2",
  "stream1",
  "stream2",
  "bits1",
  "log1",
  "none"
)
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
  command(
    "SCAN",
    oneOf("0"),
    "COUNT",
    oneOf("1000"),
    "TYPE",
    oneOf("string", "HASH", "list", "set", "zset", "stream", "foo")
  ),
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

const bitKey = key("bits")
const offset = FC.oneof(
  { weight: 8, arbitrary: oneOf("0", "1", "2", "7", "8", "9", "31", "63", "100", "70000") },
  { weight: 1, arbitrary: oneOf("-1", "x", "", "4294967296", "9223372036854775807", "#1", "01") }
)
const fieldOffset = FC.oneof(
  { weight: 4, arbitrary: oneOf("0", "1", "5", "8", "17", "63", "#0", "#1", "#2", "#7") },
  { weight: 1, arbitrary: FC.oneof(offset, oneOf("#", "#x", "#-1", "##1", "#2305843009213693952")) }
)
const fieldType = FC.oneof(
  { weight: 6, arbitrary: oneOf("u1", "i1", "u2", "i3", "u8", "i8", "i16", "u31", "i33", "u63", "i63", "i64") },
  { weight: 1, arbitrary: oneOf("u0", "u64", "i65", "i0", "x8", "", "u", "i-1", "I8", "u08") }
)
const fieldValue = FC.oneof(
  { weight: 3, arbitrary: oneOf("0", "1", "-1", "2", "100", "-100", "127", "128", "255", "-129") },
  {
    weight: 2,
    arbitrary: oneOf("9223372036854775807", "-9223372036854775808", "4611686018427387904", "4294967295", "-2147483648")
  },
  { weight: 1, arbitrary: integer }
)
const getField = command("GET", fieldType, fieldOffset)
const setField = command(oneOf("SET", "INCRBY"), fieldType, fieldOffset, fieldValue)
const overflow = FC.oneof(
  { weight: 9, arbitrary: words("OVERFLOW WRAP", "OVERFLOW SAT", "OVERFLOW FAIL", "overflow sat") },
  { weight: 1, arbitrary: words("OVERFLOW FOO", "OVERFLOW") }
)
const bitUnit = optional(words("BIT", "BYTE", "bit"))

const bits = FC.oneof(
  { weight: 3, arbitrary: command("SETBIT", bitKey, offset, oneOf("0", "1", "1", "1", "2", "x", "-1")) },
  { weight: 2, arbitrary: command("SET", bitKey, oneOf("\xff\xff\xff", "\x00\x00", "foobar", "\xf0\x0f", "", "12")) },
  command("GETBIT", bitKey, offset),
  command(oneOf("GET", "BITCOUNT", "STRLEN", "DEL"), bitKey),
  { weight: 2, arbitrary: command("BITCOUNT", bitKey, integer, integer, bitUnit, odd) },
  command("BITPOS", bitKey, oneOf("0", "1", "2", "x"), many(integer, 0, 1)),
  { weight: 2, arbitrary: command("BITPOS", bitKey, oneOf("0", "1"), integer, integer, bitUnit, odd) },
  command("BITOP", oneOf("AND", "OR", "XOR", "not", "NOT", "FOO"), bitKey, many(bitKey, 1, 3)),
  command("BITOP", "NOT", bitKey, bitKey),
  { weight: 4, arbitrary: command("BITFIELD", bitKey, many(FC.oneof(getField, setField, overflow), 0, 5), odd) },
  { weight: 2, arbitrary: command("BITFIELD", bitKey, overflow, setField, getField) },
  command("BITFIELD_RO", bitKey, many(getField, 0, 2), many(setField, 0, 1))
)

const logKey = key("log")
/** A run of elements, of which two runs often have some in common. */
const elements = FC.tuple(FC.nat(2000), FC.oneof(FC.nat(30), FC.nat(1500))).map(([from, count]): Argv =>
  Array.from({ length: count }, (_, i) => `element ${from + i}`)
)
const bytes = FC.uint8Array({ minLength: 1, maxLength: 20 }).map((array) => Buffer.from(array).toString("latin1"))

const logs = FC.oneof(
  { weight: 6, arbitrary: command("PFADD", logKey, many(FC.oneof(member, value, bytes), 0, 4)) },
  { weight: 3, arbitrary: command("PFADD", logKey, elements) },
  { weight: 4, arbitrary: command("PFCOUNT", many(logKey, 1, 3)) },
  { weight: 2, arbitrary: command("PFMERGE", logKey, many(logKey, 0, 3)) },
  command(oneOf("GET", "STRLEN"), logKey),
  command("COPY", logKey, logKey, "REPLACE"),
  command("DEL", logKey)
)

const spoilt = FC.oneof(
  { weight: 12, arbitrary: logs },
  command("APPEND", logKey, bytes),
  command("SETRANGE", logKey, oneOf("0", "4", "5", "8", "15", "16", "17", "18", "40", "12303"), bytes),
  command("SETRANGE", logKey, "15", oneOf("\x80")),
  command("SET", logKey, FC.oneof(oneOf("HYLL", "HYLL\x02".padEnd(20, "\0"), "HYLL\x01".padEnd(16, "\0")), bytes)),
  command("SETRANGE", logKey, oneOf("16"), oneOf("\xff".repeat(12288), "\xff".repeat(100)))
)

const geoKey = key("geo")
/** So few that distances which are equal leave no choice of order. */
const geoMember = oneOf("a", "b", "c", "d", "e", "f")
const cities = words(
  "13.361389 38.115556",
  "15.087269 37.502669",
  "2.3522 48.8566",
  "-0.1276 51.5072",
  "139.6917 35.6895",
  "-78.4678 -0.1807",
  "178.4419 -18.1416",
  "-149.9003 61.2181",
  "15.6356 78.2232",
  "-68.3030 -54.8019",
  "-122.4194 37.7749",
  "174.7633 -36.8485"
)
const edges = words(
  "180 85.05112878",
  "-180 -85.05112878",
  "180 -85.05112878",
  "-180 85.05112878",
  "180 0",
  "-180 0",
  "0 0",
  "-0 -0",
  "0 85.05112878",
  "179.9999999 84.9999999",
  "-179.9999999 0.0000001",
  "1e-10 -1e-10",
  "90 66.0000001",
  "-90 -80.0000001"
)
const degrees = (max: number): FC.Arbitrary<string> =>
  FC.noBias(FC.integer({ min: -max * 1e6, max: max * 1e6 })).map((millionths) => String(millionths / 1e6))
const anywhere: FC.Arbitrary<Argv> = FC.tuple(degrees(180), degrees(85))
const nowhere = words(
  "181 0",
  "0 85.06",
  "x 0",
  "0 nan",
  "inf 0",
  "1e300 -1e22",
  "-180.00000049 1",
  "0  1",
  "200.5 -0.0000001"
)
const place = FC.oneof(
  { weight: 10, arbitrary: cities },
  { weight: 6, arbitrary: edges },
  { weight: 10, arbitrary: anywhere },
  { weight: 1, arbitrary: nowhere }
)
const unit = FC.oneof({ weight: 12, arbitrary: oneOf("m", "km", "ft", "mi", "KM") }, {
  weight: 1,
  arbitrary: oneOf("", "x", "meters")
})
const length = FC.oneof(
  { weight: 8, arbitrary: oneOf("0", "1", "5", "50", "500", "1000", "5000", "20000", "0.5", "1e7", "3000000") },
  { weight: 1, arbitrary: oneOf("-1", "x", "inf", "", "1e300", "nan", "-0") }
)
const from = FC.oneof({ weight: 4, arbitrary: command("FROMLONLAT", place) }, command("FROMMEMBER", geoMember))
const by = FC.oneof(command("BYRADIUS", length, unit), command("BYBOX", length, length, unit))
const searchOptions = many(
  FC.oneof(
    {
      weight: 5,
      arbitrary: words("ASC", "DESC", "asc", "COUNT 1", "COUNT 2", "COUNT 3", "COUNT 3 ANY", "COUNT 1 ANY")
    },
    { weight: 1, arbitrary: words("COUNT 0", "COUNT -1", "COUNT x", "COUNT", "ANY", "FOO", "STOREDIST") }
  ),
  0,
  2
)
const shown = many(words("WITHCOORD", "WITHDIST", "WITHHASH", "withdist"), 0, 3)
const stored = FC.oneof(
  { weight: 3, arbitrary: many(FC.tuple(oneOf("STORE", "STOREDIST", "store"), geoKey), 0, 1) },
  { weight: 1, arbitrary: words("STORE", "STOREDIST") }
)

const searches = FC.oneof(
  { weight: 6, arbitrary: command("GEOSEARCH", geoKey, from, by, searchOptions, shown) },
  command("GEOSEARCH", geoKey, by, searchOptions, from, shown),
  command("GEOSEARCH", geoKey, many(FC.oneof(from, by), 1, 4), odd),
  command("GEOSEARCHSTORE", geoKey, geoKey, from, by, searchOptions, optional(words("STOREDIST", "WITHDIST"))),
  command("GEORADIUS", geoKey, place, length, unit, searchOptions, shown, stored),
  command("GEORADIUS_RO", geoKey, place, length, unit, searchOptions, shown, odd),
  command("GEORADIUSBYMEMBER", geoKey, geoMember, length, unit, searchOptions, shown, stored),
  command("GEORADIUSBYMEMBER_RO", geoKey, geoMember, length, unit, searchOptions, shown, odd)
)

const namedPlace = FC.tuple(place, geoMember).map(([xy, name]) => xy.concat(name))

const addPlaces = FC.oneof(
  {
    weight: 8,
    arbitrary: command("GEOADD", geoKey, many(namedPlace, 1, 6))
  },
  command(
    "GEOADD",
    geoKey,
    many(words("NX", "XX", "CH", "ch"), 0, 2),
    many(namedPlace, 0, 2),
    odd
  )
)

const places = FC.oneof(
  { weight: 4, arbitrary: addPlaces },
  command("ZADD", geoKey, score, geoMember),
  command("ZREM", geoKey, geoMember),
  command("ZSCORE", geoKey, geoMember),
  { weight: 2, arbitrary: command(oneOf("GEOPOS", "GEOHASH"), geoKey, many(geoMember, 0, 4)) },
  { weight: 3, arbitrary: command("GEODIST", geoKey, geoMember, geoMember, many(unit, 0, 1), odd) },
  { weight: 12, arbitrary: searches }
)

/** So many that cells and their order matter. */
const manyPlaces = FC.oneof(
  command(
    "GEOADD",
    oneOf("geo1", "geo2"),
    FC.array(
      FC.oneof({ weight: 1, arbitrary: anywhere }, {
        weight: 1,
        arbitrary: FC.tuple(degrees(5), degrees(5)).map((
          [x, y]
        ): Argv => [String(170 + Number(x)), String(Number(y) + 60)])
      }),
      { minLength: 20, maxLength: 60 }
    ).chain((all) => FC.nat(100).map((first): Argv => all.flatMap((xy, i) => [...xy, `place ${first + i}`])))
  ),
  { weight: 3, arbitrary: searches }
)

/** Mostly the first one, so that commands meet its groups. */
const stream = FC.oneof(
  { weight: 10, arbitrary: oneOf("stream1") },
  { weight: 4, arbitrary: oneOf("stream2") },
  { weight: 1, arbitrary: key("stream") }
)
const group = FC.oneof({ weight: 20, arbitrary: oneOf("g1", "g1", "g2") }, { weight: 1, arbitrary: oneOf("g3", "") })
const consumer = oneOf("c1", "c2", "c3")
const entryId = FC.oneof(
  {
    weight: 30,
    arbitrary: oneOf("1-1", "1-2", "2", "2-1", "3-0", "5-5", "9-0", "9-1", "9-2", "9-7", "9-50", "9-101", "9-150", "0")
  },
  { weight: 2, arbitrary: oneOf("0-0", "9-18446744073709551615", "99999999999999-1", "9223372036854775808-1") },
  {
    weight: 1,
    arbitrary: oneOf(
      "18446744073709551615-18446744073709551615",
      "18446744073709551615-18446744073709551614",
      "18446744073709551616-0",
      "1-18446744073709551616",
      "9-*",
      "$",
      ">",
      "-",
      "+",
      "",
      "x",
      "1-",
      "-1",
      "1-x",
      "1-1-1",
      "(1-1",
      "007-1",
      "+1-1",
      " 1-1",
      "1--5",
      "1--05",
      "1-1\0x"
    )
  }
)
const newId = FC.oneof(
  { weight: 10, arbitrary: oneOf("1-*", "2-*", "5-*", "9-*", "9-*", "9-*", "9-*", "*") },
  { weight: 5, arbitrary: entryId }
)
const idBound = FC.oneof(
  { weight: 3, arbitrary: oneOf("-", "+") },
  { weight: 5, arbitrary: entryId },
  { weight: 2, arbitrary: entryId.map((id) => `(${id}`) }
)
const idRange = FC.oneof(
  { weight: 2, arbitrary: FC.constant<Argv>(["-", "+"]) },
  { weight: 3, arbitrary: FC.tuple(idBound, idBound) }
)
const trim = FC.oneof(
  { weight: 6, arbitrary: FC.tuple(oneOf("MAXLEN"), oneOf("0", "1", "2", "5", "100", "120")) },
  { weight: 3, arbitrary: FC.tuple(oneOf("MAXLEN"), oneOf("~", "="), oneOf("0", "1", "3", "50", "100", "150")) },
  { weight: 3, arbitrary: FC.tuple(oneOf("MINID"), oneOf("~", "=", "~"), entryId) },
  { weight: 3, arbitrary: FC.tuple(oneOf("minid"), entryId) },
  {
    weight: 1,
    arbitrary: words("MAXLEN", "MAXLEN ~", "MAXLEN -1", "MAXLEN x", "MINID", "MINID x", "MAXLEN = 1 MINID 1", "LIMIT 0")
  }
)
const trimLimit = FC.oneof(
  { weight: 3, arbitrary: FC.constant<Argv>([]) },
  { weight: 1, arbitrary: words("LIMIT 0", "LIMIT 1", "LIMIT 100", "LIMIT 99", "LIMIT 150", "LIMIT -1", "LIMIT") }
)
/** None of these comes near to the time that passes while the tests run. */
const idle = FC.oneof({ weight: 8, arbitrary: oneOf("0", "0", "0", "-1", "500000") }, {
  weight: 1,
  arbitrary: oneOf("x", "9223372036854775807", "-9223372036854775808")
})
const streamCount = FC.oneof(
  { weight: 6, arbitrary: FC.constant<Argv>([]) },
  { weight: 6, arbitrary: words("COUNT 1", "COUNT 2", "COUNT 3", "count 100") },
  { weight: 1, arbitrary: words("COUNT 0", "COUNT -1", "COUNT x", "COUNT", "COUNT 1 COUNT 2") }
)
const pairsOf = FC.tuple(oneOf("f", "f", "g"), value)

/** Keys, and an id for each of them. */
const streamsAndIds = (id: FC.Arbitrary<string>) =>
  FC.array(FC.tuple(stream, id), { minLength: 1, maxLength: 2 }).map((pairs): Argv =>
    ["STREAMS"].concat(pairs.map(([key]) => key), pairs.map(([, id]) => id))
  )

const readGroup = FC.tuple(oneOf("GROUP"), group, consumer)
const undelivered = FC.oneof({ weight: 3, arbitrary: oneOf(">") }, { weight: 1, arbitrary: entryId })

/** As many entries as it takes to fill the nodes of the server, by their number or by their size. */
const manyEntries = command(
  "EVAL",
  oneOf(`for i = 1, ARGV[1] do
    redis.call('XADD', KEYS[1], '9-*', 'f' .. i % ARGV[3], string.rep(ARGV[4], i * 7 % (ARGV[2] + 1)))
  end`),
  oneOf("1"),
  oneOf("stream1", "stream2"),
  oneOf("30", "120", "250"),
  FC.oneof(oneOf("0", "1", "30", "9000"), FC.nat(600).map(String)),
  oneOf("1", "2"),
  oneOf("x", "1", "-1")
)

const entries = FC.oneof(
  { weight: 10, arbitrary: command("XADD", stream, newId, many(pairsOf, 1, 2)) },
  { weight: 5, arbitrary: command("XADD", stream, optional(trim), trimLimit, newId, many(pairsOf, 1, 2)) },
  { weight: 1, arbitrary: command("XADD", stream, optional(words("NOMKSTREAM")), newId, many(value, 1, 4)) },
  { weight: 1, arbitrary: manyEntries },
  command("XLEN", stream),
  { weight: 2, arbitrary: command("XRANGE", stream, idRange, streamCount) },
  { weight: 2, arbitrary: command("XREVRANGE", stream, idRange.map((range) => [...range].reverse()), streamCount) },
  { weight: 4, arbitrary: command("XDEL", stream, many(entryId, 1, 4)) },
  { weight: 4, arbitrary: command("XTRIM", stream, trim, trimLimit, odd) },
  command(
    "XSETID",
    stream,
    entryId,
    many(
      FC.oneof(
        words("ENTRIESADDED 0", "ENTRIESADDED 7", "ENTRIESADDED 1000", "ENTRIESADDED -1", "ENTRIESADDED x", "FOO"),
        FC.tuple(oneOf("MAXDELETEDID"), entryId)
      ),
      0,
      2
    )
  ),
  { weight: 3, arbitrary: command("XREAD", streamCount, streamsAndIds(FC.oneof(entryId, oneOf("$", "0")))) },
  {
    weight: 1,
    arbitrary: command(
      "XREAD",
      many(garbage, 0, 1),
      optional(words("NOACK", "GROUP g1 c1")),
      words("STREAMS stream1", "streams", "STREAMS stream1 0")
    )
  }
)

const groups = FC.oneof(
  {
    weight: 6,
    arbitrary: command(
      "XGROUP",
      "CREATE",
      stream,
      group,
      FC.oneof(entryId, oneOf("0", "$")),
      optional(words("MKSTREAM")),
      optional(words("ENTRIESREAD 0", "ENTRIESREAD 2", "ENTRIESREAD -1", "ENTRIESREAD -2", "ENTRIESREAD", "mkstream"))
    )
  },
  {
    weight: 2,
    arbitrary: command(
      "XGROUP",
      "SETID",
      stream,
      group,
      FC.oneof(entryId, oneOf("0", "$")),
      optional(words("ENTRIESREAD 1", "ENTRIESREAD 3", "MKSTREAM", "ENTRIESREAD 9223372036854775807"))
    )
  },
  command("XGROUP", "DESTROY", key("stream"), group),
  command("XGROUP", oneOf("CREATECONSUMER", "delconsumer"), stream, group, consumer),
  command("XGROUP", oneOf("FOO", "CREATE", "DESTROY", "SETID"), many(garbage, 0, 4)),
  {
    weight: 8,
    arbitrary: command("XREADGROUP", readGroup, streamCount, optional(words("NOACK")), streamsAndIds(undelivered))
  },
  command("XREADGROUP", many(garbage, 0, 2), oneOf("GROUP"), group, consumer, words("STREAMS stream1 >", "COUNT 1 2")),
  { weight: 3, arbitrary: command("XACK", stream, group, many(entryId, 1, 4)) },
  { weight: 2, arbitrary: command("XPENDING", stream, group) },
  {
    weight: 3,
    arbitrary: command(
      "XPENDING",
      stream,
      group,
      optional(FC.tuple(oneOf("IDLE"), idle)),
      idRange,
      small,
      optional(many(consumer, 1, 1)),
      odd
    )
  },
  {
    weight: 5,
    arbitrary: command(
      "XCLAIM",
      stream,
      group,
      consumer,
      idle,
      many(entryId, 1, 3),
      many(
        words(
          "IDLE 0",
          "IDLE 1000000",
          "IDLE x",
          "IDLE -5",
          "TIME 0",
          "TIME -1",
          "TIME 9999999999999",
          "RETRYCOUNT 5",
          "RETRYCOUNT -1",
          "RETRYCOUNT 9223372036854775807",
          "FORCE",
          "FORCE",
          "JUSTID",
          "LASTID 5-5",
          "LASTID 0",
          "LASTID x",
          "FOO",
          "IDLE"
        ),
        0,
        3
      )
    )
  },
  {
    weight: 4,
    arbitrary: command(
      "XAUTOCLAIM",
      stream,
      group,
      consumer,
      idle,
      FC.oneof(idBound, oneOf("0", "-")),
      optional(words("COUNT 1", "COUNT 2", "COUNT 0", "COUNT x", "COUNT")),
      optional(words("JUSTID", "FOO"))
    )
  },
  { weight: 2, arbitrary: command("XINFO", "STREAM", stream) },
  command(
    "XINFO",
    "STREAM",
    stream,
    words("FULL", "FULL COUNT 1", "FULL COUNT 0", "full count -1", "FULL COUNT", "FOO")
  ),
  { weight: 2, arbitrary: command("XINFO", "GROUPS", stream, odd) },
  command("XINFO", "CONSUMERS", stream, group),
  command("XINFO", many(garbage, 0, 3))
)

const streams = FC.oneof(entries, groups)

/** Entries of all sizes, and then approximate trims, each to one entry less: they show where the nodes end. */
const nodes = command(
  "EVAL",
  oneOf(`
    local count, seed, most, apart = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
    local function below(limit) seed = seed * 16807 % 2147483647 return seed % limit end
    local time, added = 1, {}
    for i = 1, count do
      local same = below(3) == 0
      if not same then time = time + 1 + below(apart) end
      local entry = {}
      for f = 1, 1 + below(ARGV[5]) do
        entry[2 * f - 1] = below(9) == 0 and string.rep('g', below(most)) or f
        entry[2 * f] = below(2) == 0 and string.rep('x', below(most)) or tostring(below(10 ^ below(12)) - below(300))
      end
      redis.call('XADD', KEYS[1], string.format('%.0f-', time) .. (same and '*' or below(apart)), unpack(entry))
    end
    added[1] = redis.call('XINFO', 'STREAM', KEYS[1])
    for i = count, 0, -1 do added[#added + 1] = redis.call('XTRIM', KEYS[1], 'MAXLEN', '~', i) end
    return added
  `),
  oneOf("1"),
  key("stream"),
  FC.integer({ min: 2, max: 400 }).map(String),
  FC.integer({ min: 1, max: 2e9 }).map(String),
  oneOf("2", "20", "70", "300", "4200", "20000"),
  oneOf("1", "10", "1000", "100000", "2147483646"),
  oneOf("1", "1", "2", "4")
)

/** Streams that have entries and groups. */
const grouped: ReadonlyArray<Argv> = [
  ...["1-1", "1-2", "2-1", "3-0", "5-5", "9-0", "9-1", "9-2"].map((id): Argv => ["XADD", "stream1", id, "f", id]),
  ["XGROUP", "CREATE", "stream1", "g1", "0"],
  ["XGROUP", "CREATE", "stream1", "g2", "2-1", "ENTRIESREAD", "3"],
  ["XGROUP", "CREATE", "stream2", "g1", "$", "MKSTREAM"],
  ["XREADGROUP", "GROUP", "g1", "c1", "COUNT", "4", "STREAMS", "stream1", ">"],
  ["XREADGROUP", "GROUP", "g1", "c2", "COUNT", "2", "STREAMS", "stream1", ">"]
]

const sortPattern = oneOf("string*", "hash*->a", "nope", "zset*", "#", "*", "hash*->", "hash*->b", "s*1", "string*->a")
const sortOptions = many(
  FC.oneof(
    {
      weight: 4,
      arbitrary: words("ALPHA", "ASC", "DESC", "desc", "LIMIT 0 2", "LIMIT 1 -1", "LIMIT -1 3", "LIMIT 2 0")
    },
    { weight: 4, arbitrary: command(oneOf("BY", "GET"), sortPattern) },
    { weight: 1, arbitrary: words("LIMIT x 1", "LIMIT 1", "BY", "GET", "STORE", "FOO") }
  ),
  0,
  4
)
/** Elements that are equal to each other, or in no order, come in one that both agree on only when they are all of a list. */
const isSettled = ([, name = "", ...options]: Argv): boolean =>
  !options.includes("BY") ||
  (options.includes("ALPHA")
    ? name.startsWith("items") && !options.includes("LIMIT")
    : !(name.startsWith("bag") && /BY (?!\S*\*)/.test(options.join(" "))))
const numbers = oneOf("1", "2", "3", "10", "-1", "1.5", "1e2")
/** Keys of their own: none of them changes its type, and no sorted set has -0, which its compact form hides until then. */
const items = oneOf("items1", "items2")
const bag = oneOf("bag1", "bag2")
const ranked = oneOf("ranked1", "ranked2")
const sortable = FC.oneof(
  { weight: 5, arbitrary: items },
  { weight: 3, arbitrary: bag },
  { weight: 3, arbitrary: ranked },
  { weight: 1, arbitrary: oneOf("string1", "none") }
)
const sorts = FC.oneof(
  { weight: 2, arbitrary: command("RPUSH", items, many(numbers, 1, 4)) },
  command("SADD", bag, many(numbers, 1, 4)),
  command("SET", string, numbers),
  command("HSET", hash, oneOf("a", "b"), numbers),
  command("ZADD", ranked, oneOf("0", "1", "-1", "1.5", "10"), numbers),
  {
    weight: 6,
    arbitrary: FC.oneof(
      { weight: 3, arbitrary: command("SORT", sortable, sortOptions) },
      { weight: 2, arbitrary: command("SORT", sortable, "ALPHA", sortOptions) },
      command("SORT", sortable, sortOptions, "STORE", items),
      command("SORT_RO", sortable, sortOptions, odd)
    ).map((argv) => argv.map((word) => ["alpha", "by"].includes(word) ? word.toUpperCase() : word)).filter(isSettled)
  }
)

const lcs = FC.oneof(
  command("SET", string, many(oneOf("a", "b", "c"), 0, 12).map((letters) => letters.join(""))),
  command(
    "LCS",
    string,
    string,
    many(words("LEN", "IDX", "IDX", "WITHMATCHLEN", "MINMATCHLEN 2", "MINMATCHLEN -1", "MINMATCHLEN x", "FOO"), 0, 3)
  )
)

/** Waiting takes real time, so these are rare. */
const blocking = FC.oneof(
  command("XREAD", oneOf("BLOCK"), oneOf("1", "1", "-1", "x"), streamCount, streamsAndIds(oneOf("$", "9-7", "99-0"))),
  command(
    "XREADGROUP",
    readGroup,
    oneOf("BLOCK"),
    oneOf("1", "1", "-1", "x"),
    streamCount,
    streamsAndIds(undelivered)
  ),
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

/** The test kit's parser does not tell statuses from strings. */
const bare = (reply: EngineReply): Shown =>
  reply instanceof Status ? reply.text : Array.isArray(reply) ? reply.map(bare) : show(reply)

const isError = (reply: string): boolean => /^-[A-Z]+ /.test(reply)

const isArray = (reply: Shown): reply is ReadonlyArray<Shown> => Array.isArray(reply)

/** No next number for `time-*`: the server looks at the cause of an earlier error, so it says one or the other. */
const sameCause = (text: string): string =>
  text.replace(
    "Elements are too large to be stored",
    "The ID specified in XADD is equal or smaller than the target stream top item"
  )

/** Both sides are read like this. */
const read = (reply: Shown): Shown =>
  typeof reply === "string" ? compared.read(sameCause(reply)) : isArray(reply) ? reply.map(read) : reply

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

const compare = (
  arbitrary: FC.Arbitrary<Argv>,
  length: number,
  numRuns: number,
  before: ReadonlyArray<Argv> = []
) =>
async () => {
  await FC.assert(
    FC.asyncProperty(FC.array(arbitrary, { minLength: 1, maxLength: length, size: "max" }), async (generated) => {
      const commands = [...before, ...sent(generated).flatMap(settle), ...sent(inspect)]
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
  it(
    "streams",
    compare(
      FC.oneof(
        { weight: 300, arbitrary: streams },
        { weight: 20, arbitrary: keys },
        { weight: 10, arbitrary: transactions },
        blocking
      ),
      40,
      300 * scale
    )
  )
  it("where the nodes of a stream end", compare(nodes, 2, 50 * scale))
  it(
    "groups of consumers",
    compare(
      FC.oneof(
        { weight: 300, arbitrary: groups },
        { weight: 100, arbitrary: entries },
        { weight: 10, arbitrary: keys },
        blocking
      ),
      40,
      300 * scale,
      grouped
    )
  )
  it("ranges by bytes", compare(lexRanges, 30, 200 * scale))
  it("bits", compare(FC.oneof({ weight: 9, arbitrary: bits }, keys), 30, 300 * scale))
  it("HyperLogLog", compare(FC.oneof({ weight: 9, arbitrary: logs }, keys), 20, 100 * scale))
  it("HyperLogLog whose strings were changed", compare(spoilt, 20, 100 * scale))
  it("SORT", compare(FC.oneof({ weight: 9, arbitrary: sorts }, keys), 30, 300 * scale))
  it("LCS", compare(FC.oneof({ weight: 9, arbitrary: lcs }, keys), 20, 100 * scale))
  it("places", compare(FC.oneof({ weight: 12, arbitrary: places }, keys), 30, 300 * scale))
  it("many places", compare(manyPlaces, 12, 200 * scale))
  it(
    "everything together, with transactions and scripts",
    compare(
      FC.oneof(
        {
          weight: 200,
          arbitrary: FC.oneof(
            strings,
            bits,
            logs,
            places,
            sorts,
            keys,
            hashes,
            lists,
            sets,
            zsets,
            streams,
            transactions,
            scripts,
            odds
          )
        },
        blocking
      ),
      40,
      500 * scale
    )
  )
})
