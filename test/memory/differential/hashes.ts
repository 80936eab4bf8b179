/**
 * Hashes.
 */
import { FastCheck as FC } from "effect"
import { command, float, hash, integer, many, member, oneOf, optional, value, words } from "./generators.js"

export const hashes = FC.oneof(
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
