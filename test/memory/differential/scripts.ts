/**
 * Transactions, scripts, and what fits nowhere else.
 */
import { FastCheck as FC } from "effect"
import { anyKey, command, list, many, member, oneOf, value } from "./generators.js"

export const transactions = FC.oneof(
  { weight: 3, arbitrary: command("MULTI") },
  { weight: 3, arbitrary: command("EXEC") },
  command("DISCARD"),
  command("WATCH", many(anyKey, 1, 2)),
  command("UNWATCH")
)

export const scripts = FC.oneof(
  command("EVAL", oneOf("return redis.call('GET', KEYS[1])"), oneOf("1"), anyKey),
  command(
    "EVAL",
    oneOf("redis.call('SET', KEYS[1], ARGV[1]) return redis.pcall('LPUSH', KEYS[1], 'x')"),
    oneOf("1"),
    anyKey,
    value
  ),
  command(
    "EVAL",
    oneOf("return {KEYS[1], ARGV[1] or false, 3.7, {1, nil, 2}}"),
    oneOf("1", "0", "2", "x", "-1"),
    many(value, 1, 2)
  ),
  command("EVAL", oneOf("return redis.call('BLPOP', KEYS[1], 0)", "return redis.call('MULTI')"), oneOf("1"), list),
  command("EVAL", oneOf("return redis.call('BLMPOP', 0, 1, KEYS[1], 'LEFT')"), oneOf("1"), list),
  command("EVAL", oneOf("return redis.call('NOPE')", "return redis.call('GET')", "return redis.call()"), oneOf("0")),
  command(
    "EVAL_RO",
    oneOf("return redis.call('SET', KEYS[1], '1')", "return redis.call('TYPE', KEYS[1])"),
    oneOf("1"),
    anyKey
  ),
  command("EVALSHA", oneOf("x", "ffffffffffffffffffffffffffffffffffffffff"), oneOf("0", "1", "x")),
  command("EVAL", oneOf("local x = 1 y"), oneOf("0"))
)

export const odds = FC.oneof(
  command(oneOf("FOO", "get", "GETT", "CLIENT", "client foo"), many(value, 0, 3)),
  command(
    oneOf("HSET", "ZADD", "SET", "LPUSH", "EXPIRE", "SCAN", "EVAL", "PING", "MULTI", "BLPOP"),
    many(member, 0, 2)
  ),
  command("CLIENT", oneOf("FOO", "SETNAME", "GETNAME", "ID", "UNBLOCK"), many(oneOf("x", "1"), 2, 3)),
  command("PUBSUB", oneOf("FOO", "NUMPAT", "CHANNELS", "SHARDCHANNELS"), many(oneOf("x", "1"), 2, 3)),
  command("SCRIPT", oneOf("FOO", "EXISTS", "FLUSH"), oneOf("x"), many(oneOf("x", "1"), 0, 2)),
  command("SELECT", oneOf("x", "-1", "99")),
  command("PUBLISH", oneOf("nobody"), value),
  command("WAIT", oneOf("0"), oneOf("0", "x", "-1")),
  command("PUBSUB", oneOf("NUMSUB"), many(oneOf("nobody"), 0, 2))
)
