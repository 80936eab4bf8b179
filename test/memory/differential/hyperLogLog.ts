/**
 * HyperLogLogs, whole ones and others.
 */
import { FastCheck as FC } from "effect"
import { type Argv, command, key, many, member, oneOf, value } from "./generators.js"

const logKey = key("log")
/** A run of elements, of which two runs often have some in common. */
const elements = FC.tuple(FC.nat(2000), FC.oneof(FC.nat(30), FC.nat(1500))).map(([from, count]): Argv =>
  Array.from({ length: count }, (_, i) => `element ${from + i}`)
)
const bytes = FC.uint8Array({ minLength: 1, maxLength: 20 }).map((array) => Buffer.from(array).toString("latin1"))

export const logs = FC.oneof(
  { weight: 6, arbitrary: command("PFADD", logKey, many(FC.oneof(member, value, bytes), 0, 4)) },
  { weight: 3, arbitrary: command("PFADD", logKey, elements) },
  { weight: 4, arbitrary: command("PFCOUNT", many(logKey, 1, 3)) },
  { weight: 2, arbitrary: command("PFMERGE", logKey, many(logKey, 0, 3)) },
  command(oneOf("GET", "STRLEN"), logKey),
  command("COPY", logKey, logKey, "REPLACE"),
  command("DEL", logKey)
)

/**
 * Where a string ends within a run of two bytes, the server reads and writes the byte behind it, which nothing defines.
 * What is written here has no such end.
 */
const ended = bytes.map((text) => `${text}\x80`)

export const spoilt = FC.oneof(
  { weight: 12, arbitrary: logs },
  command("APPEND", logKey, ended),
  command("SETRANGE", logKey, oneOf("0", "4", "5", "8", "15", "16", "17", "18", "40", "12303"), ended),
  command("SETRANGE", logKey, "15", oneOf("\x80")),
  command("SET", logKey, FC.oneof(oneOf("HYLL", "HYLL\x02".padEnd(20, "\0"), "HYLL\x01".padEnd(16, "\0")), bytes)),
  command("SETRANGE", logKey, oneOf("16"), oneOf("\xff".repeat(12288), "\xff".repeat(100)))
)
