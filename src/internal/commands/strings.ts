import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import type { RedisArg } from "../../RedisClient.js"
import type { SetOptions, StringCommands } from "../../RedisCommands.js"
import { checkKey } from "../input.js"
import {
  type Args,
  checkFinite,
  checkInteger,
  checkKeys,
  checkOffset,
  checkSome,
  expiryArgs,
  isBad,
  pairs
} from "./args.js"
import * as Decode from "./decode.js"
import { type Env, readOnly } from "./env.js"

/** @internal */
export const make = ({ key, read, run, split, write }: Env): StringCommands => {
  const onGet = Decode.optionalText("GET")
  const onGetBytes = Decode.optionalBytes("GET")
  const bytes = { encoding: "bytes", ...readOnly } as const

  const setArgs = (operation: string, name: string, value: RedisArg, options: SetOptions | undefined): Args => {
    const bad = checkKey(operation, name)
    if (bad !== undefined || options === undefined) return bad ?? [key(name), value]
    const expiry = expiryArgs(operation, options)
    if (isBad(expiry)) return expiry
    const onlyIf = options.onlyIf === "absent" ? ["NX"] : options.onlyIf === "present" ? ["XX"] : []
    return [key(name), value, ...onlyIf, ...expiry]
  }

  const entryArgs = (operation: string, input: Parameters<StringCommands["mset"]>[0]): Args => {
    const entries = pairs(input)
    const bad = checkSome(operation, "entries", entries)
    if (bad !== undefined) return bad
    const args: Array<RedisArg> = []
    for (const [name, value] of entries) {
      const text = String(name)
      const bad = checkKey(operation, text)
      if (bad !== undefined) return bad
      args.push(key(text), value)
    }
    return args
  }

  return {
    get: (name) => {
      const bad = checkKey("get", name)
      return bad === undefined ? run("GET", [key(name)], onGet, readOnly) : Effect.fail(bad)
    },
    getBytes: (name) => {
      const bad = checkKey("getBytes", name)
      return bad === undefined ? run("GET", [key(name)], onGetBytes, bytes) : Effect.fail(bad)
    },
    set: (name, value, options) => write("SET", setArgs("set", name, value, options), Decode.okOrNothing),
    setGet: (name, value, options) => {
      const args = setArgs("setGet", name, value, options)
      return write("SET", isBad(args) ? args : [...args, "GET"], Decode.optionalText)
    },
    getDel: (name) => write("GETDEL", checkKey("getDel", name) ?? [key(name)], Decode.optionalText),
    getEx: (name, options) => {
      const expiry = expiryArgs("getEx", options)
      const bad = checkKey("getEx", name) ?? (isBad(expiry) ? expiry : checkSome("getEx", "options", expiry))
      return write("GETEX", bad ?? (isBad(expiry) ? expiry : [key(name), ...expiry]), Decode.optionalText)
    },
    mget: (names) =>
      names.length === 0
        ? Effect.succeed([])
        : split("read", "MGET", checkKeys("mget", names) ?? names.map(key), 1, Decode.optionalTexts, (parts) => {
          const merged = new Array<Option.Option<string>>(names.length).fill(Option.none())
          for (const [values, indexes] of parts) indexes.forEach((index, i) => merged[index] = values[i]!)
          return merged
        }),
    mset: (entries) => split("write", "MSET", entryArgs("mset", entries), 2, Decode.ok, () => undefined),
    msetNx: (entries) => write("MSETNX", entryArgs("msetNx", entries), Decode.boolean),
    incr: (name) => write("INCR", checkKey("incr", name) ?? [key(name)], Decode.integer),
    incrBy: (name, increment) =>
      write(
        "INCRBY",
        checkKey("incrBy", name) ?? checkInteger("incrBy", "increment", increment) ?? [key(name), increment],
        Decode.integer
      ),
    incrByFloat: (name, increment) =>
      write(
        "INCRBYFLOAT",
        checkKey("incrByFloat", name) ?? checkFinite("incrByFloat", "increment", increment) ?? [key(name), increment],
        Decode.double
      ),
    decr: (name) => write("DECR", checkKey("decr", name) ?? [key(name)], Decode.integer),
    decrBy: (name, decrement) =>
      write(
        "DECRBY",
        checkKey("decrBy", name) ?? checkInteger("decrBy", "decrement", decrement) ?? [key(name), decrement],
        Decode.integer
      ),
    append: (name, value) => write("APPEND", checkKey("append", name) ?? [key(name), value], Decode.integer),
    strlen: (name) => read("STRLEN", checkKey("strlen", name) ?? [key(name)], Decode.integer),
    getRange: (name, start, end) =>
      read(
        "GETRANGE",
        checkKey("getRange", name) ?? checkInteger("getRange", "start", start) ??
          checkInteger("getRange", "end", end) ?? [key(name), start, end],
        Decode.text
      ),
    setRange: (name, offset, value) =>
      write(
        "SETRANGE",
        checkKey("setRange", name) ?? checkOffset("setRange", "offset", offset) ?? [key(name), offset, value],
        Decode.integer
      )
  }
}
