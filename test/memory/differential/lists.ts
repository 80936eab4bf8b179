/**
 * Lists.
 */
import { FastCheck as FC } from "effect"
import { command, counted, integer, list, many, member, oneOf, optional, small, words } from "./generators.js"

export const side = oneOf("LEFT", "RIGHT", "left", "FOO")

export const lists = FC.oneof(
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
