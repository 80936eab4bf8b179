/**
 * Streams and their groups.
 */
import { FastCheck as FC } from "effect"
import { type Argv, command, garbage, key, many, odd, oneOf, optional, small, value, words } from "./generators.js"

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
export const streamCount = FC.oneof(
  { weight: 6, arbitrary: FC.constant<Argv>([]) },
  { weight: 6, arbitrary: words("COUNT 1", "COUNT 2", "COUNT 3", "count 100") },
  { weight: 1, arbitrary: words("COUNT 0", "COUNT -1", "COUNT x", "COUNT", "COUNT 1 COUNT 2") }
)
const pairsOf = FC.tuple(oneOf("f", "f", "g"), value)

/** Keys, and an id for each of them. */
export const streamsAndIds = (id: FC.Arbitrary<string>) =>
  FC.array(FC.tuple(stream, id), { minLength: 1, maxLength: 2 }).map((pairs): Argv =>
    ["STREAMS"].concat(pairs.map(([key]) => key), pairs.map(([, id]) => id))
  )

export const readGroup = FC.tuple(oneOf("GROUP"), group, consumer)
export const undelivered = FC.oneof({ weight: 3, arbitrary: oneOf(">") }, { weight: 1, arbitrary: entryId })

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

export const entries = FC.oneof(
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

export const groups = FC.oneof(
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

export const streams = FC.oneof(entries, groups)

/** Entries of all sizes, and then approximate trims, each to one entry less: they show where the nodes end. */
export const nodes = command(
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
export const grouped: ReadonlyArray<Argv> = [
  ...["1-1", "1-2", "2-1", "3-0", "5-5", "9-0", "9-1", "9-2"].map((id): Argv => ["XADD", "stream1", id, "f", id]),
  ["XGROUP", "CREATE", "stream1", "g1", "0"],
  ["XGROUP", "CREATE", "stream1", "g2", "2-1", "ENTRIESREAD", "3"],
  ["XGROUP", "CREATE", "stream2", "g1", "$", "MKSTREAM"],
  ["XREADGROUP", "GROUP", "g1", "c1", "COUNT", "4", "STREAMS", "stream1", ">"],
  ["XREADGROUP", "GROUP", "g1", "c2", "COUNT", "2", "STREAMS", "stream1", ">"]
]
