/**
 * Strings.
 */
import { FastCheck as FC } from "effect"
import { anyKey, command, float, integer, many, odd, oneOf, string, value, words } from "./generators.js"
import { life } from "./keys.js"

export const strings = FC.oneof(
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

export const lcs = FC.oneof(
  command("SET", string, many(oneOf("a", "b", "c"), 0, 12).map((letters) => letters.join(""))),
  command(
    "LCS",
    string,
    string,
    many(words("LEN", "IDX", "IDX", "WITHMATCHLEN", "MINMATCHLEN 2", "MINMATCHLEN -1", "MINMATCHLEN x", "FOO"), 0, 3)
  )
)
