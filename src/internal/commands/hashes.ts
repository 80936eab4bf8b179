import * as Effect from "effect/Effect"
import type { HashCommands } from "../../RedisCommands.js"
import { checkKey } from "../input.js"
import { checkFinite, checkInteger, checkNonZero, checkSome, flatPairs } from "./args.js"
import * as Decode from "./decode.js"
import type { Env } from "./env.js"
import { scanKey } from "./scan.js"

const fieldsWithValues = Decode.asPairs(Decode.asText)

/** @internal */
export const make = (env: Env): HashCommands => {
  const { key, read, write } = env
  return {
    hset: (name, fields) =>
      write("HSET", checkKey("hset", name) ?? flatPairs("hset", "fields", [key(name)], fields), Decode.integer),
    hsetNx: (name, field, value) =>
      write("HSETNX", checkKey("hsetNx", name) ?? [key(name), field, value], Decode.boolean),
    hget: (name, field) => read("HGET", checkKey("hget", name) ?? [key(name), field], Decode.optionalText),
    hmget: (name, fields) => {
      const bad = checkKey("hmget", name)
      return bad === undefined && fields.length === 0
        ? Effect.succeed([])
        : read("HMGET", bad ?? [key(name), ...fields], Decode.optionalTexts)
    },
    hgetAll: (name) => read("HGETALL", checkKey("hgetAll", name) ?? [key(name)], Decode.record),
    hdel: (name, ...fields) =>
      write(
        "HDEL",
        checkKey("hdel", name) ?? checkSome("hdel", "fields", fields) ?? [key(name), ...fields],
        Decode.integer
      ),
    hexists: (name, field) => read("HEXISTS", checkKey("hexists", name) ?? [key(name), field], Decode.boolean),
    hkeys: (name) => read("HKEYS", checkKey("hkeys", name) ?? [key(name)], Decode.texts),
    hvals: (name) => read("HVALS", checkKey("hvals", name) ?? [key(name)], Decode.texts),
    hlen: (name) => read("HLEN", checkKey("hlen", name) ?? [key(name)], Decode.integer),
    hstrlen: (name, field) => read("HSTRLEN", checkKey("hstrlen", name) ?? [key(name), field], Decode.integer),
    hincrBy: (name, field, increment) =>
      write(
        "HINCRBY",
        checkKey("hincrBy", name) ?? checkInteger("hincrBy", "increment", increment) ?? [key(name), field, increment],
        Decode.integer
      ),
    hincrByFloat: (name, field, increment) =>
      write(
        "HINCRBYFLOAT",
        checkKey("hincrByFloat", name) ?? checkFinite("hincrByFloat", "increment", increment) ??
          [key(name), field, increment],
        Decode.double
      ),
    hrandField: (name) => read("HRANDFIELD", checkKey("hrandField", name) ?? [key(name)], Decode.optionalText),
    hrandFieldCount: (name, count) =>
      read(
        "HRANDFIELD",
        checkKey("hrandFieldCount", name) ?? checkNonZero("hrandFieldCount", "count", count) ?? [key(name), count],
        Decode.texts
      ),
    hscan: (name, options) => scanKey(env, "hscan", "HSCAN", name, options, fieldsWithValues)
  }
}
