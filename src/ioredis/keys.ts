/**
 * Which slot a command belongs to.
 */
import { Command } from "ioredis"
import { hashSlotOf } from "../internal/slot.js"
import type { RedisArg } from "../RedisClient.js"
import { type CommandArgs, toArguments } from "./Request.js"

/** Where the number of keys stands; they come behind it. The number comes from the caller, so it is not believed. */
const counted: Readonly<Record<string, number>> = {
  EVAL: 1,
  EVALSHA: 1,
  EVAL_RO: 1,
  EVALSHA_RO: 1,
  FCALL: 1,
  FCALL_RO: 1,
  BLMPOP: 1,
  BZMPOP: 1,
  LMPOP: 0,
  ZMPOP: 0,
  SINTERCARD: 0,
  ZINTERCARD: 0,
  ZUNION: 0,
  ZINTER: 0,
  ZDIFF: 0,
  ZUNIONSTORE: 1,
  ZINTERSTORE: 1,
  ZDIFFSTORE: 1,
  MSETEX: 0
}

/** Their first argument is a subcommand, and the next one a key. */
const behindSubcommand: ReadonlySet<string> = new Set(["XGROUP", "XINFO", "OBJECT", "MEMORY"])

/** Besides their first argument, what comes after such a word is a key. */
const storing: ReadonlySet<string> = new Set(["SORT", "GEORADIUS", "GEORADIUSBYMEMBER"])
const STORE = /^STORE(DIST)?$/i

type Place = "first" | "none" | "counted" | "second" | "storing" | "asked"

const places = new Map<string, Place>()

const keysOf = (name: string, args: CommandArgs): ReadonlyArray<unknown> => new Command(name, args).getKeys()

/**
 * ioredis knows the keys of every command, but making one of its commands costs more than all the rest. So it is asked
 * once where they are, with arguments that tell: names first, then numbers and what may come before a key.
 */
const findPlace = (name: string): Place => {
  if (name in counted) return "counted"
  if (behindSubcommand.has(name)) return "second"
  if (storing.has(name)) return "storing"
  if (name === "MIGRATE") return "asked"
  const keys = keysOf(name, ["a", "b", "c", "d", "e", "f", "g", "h"])
  if (keys.length === 1 && keys[0] === "a") return "first"
  return keys.length === 0 && keysOf(name, ["1", "1", "1", "STREAMS", "1", "1"]).length === 0 ? "none" : "asked"
}

/** `undefined` for a command without keys, `"cross"` when its keys are in several slots. */
export const slotOf = (name: string, args: ReadonlyArray<RedisArg>): number | "cross" | undefined => {
  let place = places.get(name)
  if (place === undefined) {
    place = findPlace(name)
    // As with names of commands.
    if (places.size < 1000) places.set(name, place)
  }
  switch (place) {
    case "first":
      return args.length === 0 ? undefined : hashSlotOf(asKey(args[0]!))
    case "second":
      return args.length < 2 ? undefined : hashSlotOf(asKey(args[1]!))
    case "none":
      return undefined
    case "counted": {
      const at = counted[name]!
      const step = name === "MSETEX" ? 2 : 1
      const keys: Array<unknown> = name.endsWith("STORE") ? args.slice(0, 1) : []
      const end = Math.min(args.length, at + 1 + Number(args[at]) * step)
      for (let i = at + 1; i < end; i += step) keys.push(args[i])
      return common(keys)
    }
    case "storing":
      return common(args.filter((_, i) => i === 0 || (i > 1 && STORE.test(String(args[i - 1])))))
    case "asked":
      return common(keysOf(name, toArguments(args)))
  }
}

const asKey = (arg: RedisArg): string | Uint8Array => typeof arg === "number" ? String(arg) : arg

const common = (keys: ReadonlyArray<unknown>): number | "cross" | undefined => {
  let slot: number | undefined
  for (const key of keys) {
    // Too few arguments; the server says so.
    if (typeof key !== "string" && !(key instanceof Uint8Array)) continue
    const other = hashSlotOf(key)
    if (slot !== undefined && slot !== other) return "cross"
    slot = other
  }
  return slot
}
