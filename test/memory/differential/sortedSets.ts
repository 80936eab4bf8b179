/**
 * Sorted sets.
 */
import { FastCheck as FC } from "effect"
import {
  command,
  counted,
  integer,
  many,
  member,
  odd,
  oneOf,
  optional,
  score,
  set,
  small,
  words,
  zset
} from "./generators.js"

const bound = FC.oneof(
  { weight: 8, arbitrary: oneOf("0", "1", "2", "3", "(1", "(2", "-inf", "+inf", "inf", "1.5", "(1.5", "(inf", "10") },
  { weight: 1, arbitrary: oneOf("x", "", "(", "(x", "nan", " 1", "1e400", "[1", "0x2") }
)
const lex = FC.oneof(
  { weight: 8, arbitrary: oneOf("-", "+", "[a", "[b", "(a", "(c", "[", "(", "[ab", "[B", "[d") },
  { weight: 1, arbitrary: oneOf("", "a", "-a", "+a", "1") }
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

export const zsets = FC.oneof(
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

/** Ranges by bytes have a meaning only where all scores are equal, so these have keys of their own. */
const lexKey = FC.oneof({ weight: 12, arbitrary: oneOf("lex1", "lex2") }, {
  weight: 1,
  arbitrary: oneOf("string1", "none")
})
export const lexRanges = FC.oneof(
  { weight: 3, arbitrary: command("ZADD", lexKey, many(FC.tuple(oneOf("0"), member), 1, 4)) },
  command("ZREM", lexKey, many(member, 1, 2)),
  command(oneOf("ZRANGEBYLEX", "ZREVRANGEBYLEX"), lexKey, lex, lex, optional(words("WITHSCORES"), limit)),
  command("ZRANGE", lexKey, lex, lex, "BYLEX", optional(words("REV", "WITHSCORES"), limit)),
  command("ZRANGESTORE", lexKey, lexKey, lex, lex, "BYLEX", optional(words("REV"), limit)),
  command("ZLEXCOUNT", lexKey, lex, lex),
  command("ZREMRANGEBYLEX", lexKey, lex, lex)
)
