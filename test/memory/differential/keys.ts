/**
 * Keys of every type, and their lives.
 */
import { FastCheck as FC } from "effect"
import { anyKey, command, many, oneOf, optional, value, words } from "./generators.js"

const pattern = oneOf("*", "a*", "?", "[a-c]", "[^a]", "*b", "\\a", "string*", "*[12]", "a?", "[", "[a-", "**", "z*t?")

/** Lives that are far away or over. */
export const life = FC.oneof(
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

const expiryOf = (key: FC.Arbitrary<string>) =>
  FC.oneof(
    command("EXPIRE", key, oneOf("100", "1000", "-1", "0", "x", "9223372036854775807"), optional(words("NX", "XX"))),
    command("PEXPIRE", key, oneOf("100000", "-1", "0", "x", "9223372036854775807"), optional(words("NX", "XX"))),
    command(
      "PEXPIREAT",
      key,
      oneOf("4102444800000", "4102444800001", "4102444900000", "1", "-5"),
      many(words("NX", "XX", "GT", "LT", "gt", "FOO"), 0, 2)
    ),
    command(
      "EXPIREAT",
      key,
      oneOf("4102444800", "4102444801", "1", "x", "9223372036854775"),
      optional(words("GT", "LT"))
    ),
    command(oneOf("TTL", "PTTL", "EXPIRETIME", "PEXPIRETIME", "PERSIST"), key)
  )

export const expiry = expiryOf(anyKey)

/** One key, so that most commands find a life that another one has set. */
const mortal = FC.oneof({ weight: 12, arbitrary: oneOf("string1") }, { weight: 1, arbitrary: oneOf("none") })

export const lives = FC.oneof(
  { weight: 8, arbitrary: expiryOf(mortal) },
  // One millisecond apart, which the others do not tell from each other.
  {
    weight: 6,
    arbitrary: command("PEXPIREAT", mortal, oneOf("4102444800000", "4102444800001"), optional(words("GT", "LT")))
  },
  command("SET", mortal, value, many(FC.oneof(words("KEEPTTL", "NX"), life), 0, 1)),
  command("GETEX", mortal, many(FC.oneof(words("PERSIST"), life), 0, 1)),
  command(oneOf("APPEND", "GETSET"), mortal, value),
  command(oneOf("RENAME", "COPY"), mortal, mortal)
)

export const keys = FC.oneof(
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
