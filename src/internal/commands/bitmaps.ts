import * as Option from "effect/Option"
import type { RedisArg } from "../../RedisClient.js"
import type { BitmapCommands, BitRange } from "../../RedisCommands.js"
import { checkKey, inputError } from "../input.js"
import { type Args, checkInteger, checkOffset, checkSomeKeys, isBad } from "./args.js"
import * as Decode from "./decode.js"
import type { Env } from "./env.js"

const rangeArgs = (operation: string, range: BitRange): Args => {
  const { end = -1, start = 0, unit } = range
  return checkInteger(operation, "start", start) ?? checkInteger(operation, "end", end) ??
    (unit === undefined ? [start, end] : [start, end, unit === "bit" ? "BIT" : "BYTE"])
}

/** -1 where no bit has the value. */
const position = Decode.decoder(
  "a position or -1",
  (reply) =>
    typeof reply !== "number" || !Number.isSafeInteger(reply) || reply < -1
      ? undefined
      : reply === -1
      ? Option.none()
      : Option.some(reply)
)

/** @internal */
export const make = ({ key, read, write }: Env): BitmapCommands => ({
  setBit: (name, offset, value) =>
    write(
      "SETBIT",
      checkKey("setBit", name) ?? checkOffset("setBit", "offset", offset) ?? [key(name), offset, value ? 1 : 0],
      Decode.boolean
    ),
  getBit: (name, offset) =>
    read(
      "GETBIT",
      checkKey("getBit", name) ?? checkOffset("getBit", "offset", offset) ?? [key(name), offset],
      Decode.boolean
    ),
  bitCount: (name, range) => {
    const args: Args = range === undefined ? [] : rangeArgs("bitCount", range)
    return read(
      "BITCOUNT",
      checkKey("bitCount", name) ?? (isBad(args) ? args : [key(name), ...args]),
      Decode.integer
    )
  },
  bitPos: (name, value, range) => {
    const args: Args = range === undefined ? [] : rangeArgs("bitPos", range)
    return read(
      "BITPOS",
      checkKey("bitPos", name) ?? (isBad(args) ? args : [key(name), value ? 1 : 0, ...args]),
      position
    )
  },
  bitOp: (operation, destination, names) => {
    const bad = checkKey("bitOp", destination, "destination") ?? checkSomeKeys("bitOp", names) ??
      (operation === "not" && names.length > 1 ? inputError("bitOp", "keys", "one key", names.length) : undefined)
    const args: ReadonlyArray<RedisArg> = [operation.toUpperCase(), key(destination), ...names.map(key)]
    return write("BITOP", bad ?? args, Decode.integer)
  }
})
