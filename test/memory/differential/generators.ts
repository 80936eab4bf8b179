/**
 * What the commands of all data types are made of. The pools are small, so that commands meet each other's keys, of the
 * wrong type too.
 */
import { FastCheck as FC } from "effect"

export type Argv = ReadonlyArray<string>

export const oneOf = (...texts: ReadonlyArray<string>) => FC.constantFrom(...texts)

/** Mostly a key of this type, sometimes of any. */
export const key = (type: string) =>
  FC.oneof(
    { weight: 12, arbitrary: oneOf(`${type}1`, `${type}2`, `${type}3`) },
    { weight: 1, arbitrary: oneOf("string1", "hash1", "list1", "set1", "zset1", "stream1", "none") }
  )

export const anyKey = oneOf(
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
/** The last two are in another order as text in UTF-16 than as bytes. */
export const member = oneOf("a", "b", "c", "d", "e", "", "ab", "B", "\xef\xbd\x81", "\xf0\x9f\x98\x80")
export const value = FC.oneof(
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
export const integer = FC.oneof(
  { weight: 8, arbitrary: oneOf("0", "1", "2", "3", "-1", "-2", "-3", "5", "10", "-10") },
  {
    weight: 1,
    arbitrary: oneOf("x", "", "1.0", " 1", "007", "9223372036854775807", "-9223372036854775808", "9223372036854775808")
  }
)
export const small = FC.oneof({ weight: 10, arbitrary: oneOf("0", "1", "2", "3", "100") }, {
  weight: 1,
  arbitrary: integer
})
export const score = FC.oneof(
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
export const float = FC.oneof(
  { weight: 6, arbitrary: oneOf("0.1", "0.2", "1", "-1.5", "3", "5.0e3", "1e-10", "10.25", "-0.1") },
  {
    weight: 1,
    arbitrary: oneOf("x", "", "inf", "-inf", "nan", "1e17", "1e30", "0x10", " 1", "1e5000", "123456789.987654321")
  }
)

export const garbage = oneOf("NX", "XX", "FOO", "", "COUNT", "LIMIT", "WITHSCORES", "1")

/** A fixed word in one of its cases. */
export const word = (text: string) =>
  FC.oneof({ weight: 8, arbitrary: FC.constant(text) }, { weight: 1, arbitrary: oneOf(text.toLowerCase()) })

type Part = FC.Arbitrary<string> | FC.Arbitrary<Argv> | string

export const command = (...parts: ReadonlyArray<Part>): FC.Arbitrary<Argv> =>
  FC.tuple(...parts.map((part) => typeof part === "string" ? word(part) : part)).map((texts) => texts.flat())

/** From `min` to `max` times. */
export const many = (part: FC.Arbitrary<string> | FC.Arbitrary<Argv>, min: number, max: number): FC.Arbitrary<Argv> =>
  FC.array<string | Argv>(part, { minLength: min, maxLength: max }).map((texts) => texts.flat())

/** Present more often than not absent, and followed by something odd now and then. */
export const optional = (...choices: ReadonlyArray<FC.Arbitrary<Argv>>): FC.Arbitrary<Argv> =>
  FC.oneof(
    { weight: 4, arbitrary: FC.constant<Argv>([]) },
    { weight: 4, arbitrary: FC.oneof(...choices) },
    { weight: 1, arbitrary: FC.tuple(FC.oneof(...choices), FC.oneof(...choices)).map((both) => both.flat()) }
  )

export const odd = FC.oneof({ weight: 30, arbitrary: FC.constant<Argv>([]) }, {
  weight: 1,
  arbitrary: many(garbage, 1, 2)
})

export const words = (...texts: ReadonlyArray<string>) => FC.constantFrom(...texts.map((text) => text.split(" ")))

/** Keys with their number before them, which is wrong now and then. */
export const counted = (keys: FC.Arbitrary<string>): FC.Arbitrary<Argv> =>
  FC.tuple(many(keys, 1, 3), FC.oneof({ weight: 20, arbitrary: FC.constant("") }, { weight: 1, arbitrary: integer }))
    .map(([names, wrong]) => [wrong === "" ? String(names.length) : wrong].concat(names))

export const string = key("string")
export const hash = key("hash")
export const list = key("list")
export const set = key("set")
export const zset = key("zset")
