/**
 * Bits of strings.
 */
import { FastCheck as FC } from "effect"
import { command, integer, key, many, odd, oneOf, optional, words } from "./generators.js"

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

export const bits = FC.oneof(
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
