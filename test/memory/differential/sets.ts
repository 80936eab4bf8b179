/**
 * Sets.
 */
import { FastCheck as FC } from "effect"
import { command, counted, integer, many, member, odd, oneOf, optional, set, small, words } from "./generators.js"

export const sets = FC.oneof(
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
