import * as Option from "effect/Option"
import type { RedisArg } from "../../RedisClient.js"
import type { ListCommands, LposOptions } from "../../RedisCommands.js"
import { checkKey } from "../input.js"
import { type Args, checkCount, checkInteger, checkNonZero, checkOffset, checkSome, isBad } from "./args.js"
import * as Decode from "./decode.js"
import type { Env } from "./env.js"

/** 0 without a list, -1 without the pivot. */
const lengthAfterInsert = Decode.decoder(
  "a length",
  (reply) => typeof reply !== "number" ? undefined : reply > 0 ? Option.some(reply) : Option.none()
)

/** @internal */
export const end = (side: "left" | "right"): "LEFT" | "RIGHT" => side === "left" ? "LEFT" : "RIGHT"

/** @internal */
export const make = ({ key, read, write }: Env): ListCommands => {
  const push = (operation: string, command: string) => (name: string, ...values: ReadonlyArray<RedisArg>) =>
    write(
      command,
      checkKey(operation, name) ?? checkSome(operation, "values", values) ?? [key(name), ...values],
      Decode.integer
    )

  const popCount = (operation: string, command: string) => (name: string, count: number) =>
    write(
      command,
      checkKey(operation, name) ?? checkCount(operation, "count", count) ?? [key(name), count],
      Decode.textsOrNothing
    )

  const posArgs = (operation: string, name: string, value: RedisArg, options: LposOptions | undefined): Args => {
    const { maxLength, rank } = options ?? {}
    const bad = checkKey(operation, name) ??
      (rank === undefined ? undefined : checkNonZero(operation, "rank", rank)) ??
      (maxLength === undefined ? undefined : checkCount(operation, "maxLength", maxLength))
    if (bad !== undefined) return bad
    const args: Array<RedisArg> = [key(name), value]
    if (rank !== undefined) args.push("RANK", rank)
    if (maxLength !== undefined) args.push("MAXLEN", maxLength)
    return args
  }

  return {
    lpush: push("lpush", "LPUSH"),
    rpush: push("rpush", "RPUSH"),
    lpushX: push("lpushX", "LPUSHX"),
    rpushX: push("rpushX", "RPUSHX"),
    lpop: (name) => write("LPOP", checkKey("lpop", name) ?? [key(name)], Decode.optionalText),
    lpopCount: popCount("lpopCount", "LPOP"),
    rpop: (name) => write("RPOP", checkKey("rpop", name) ?? [key(name)], Decode.optionalText),
    rpopCount: popCount("rpopCount", "RPOP"),
    llen: (name) => read("LLEN", checkKey("llen", name) ?? [key(name)], Decode.integer),
    lrange: (name, start, stop) =>
      read(
        "LRANGE",
        checkKey("lrange", name) ?? checkInteger("lrange", "start", start) ?? checkInteger("lrange", "stop", stop) ??
          [key(name), start, stop],
        Decode.texts
      ),
    lindex: (name, index) =>
      read(
        "LINDEX",
        checkKey("lindex", name) ?? checkInteger("lindex", "index", index) ?? [key(name), index],
        Decode.optionalText
      ),
    lset: (name, index, value) =>
      write(
        "LSET",
        checkKey("lset", name) ?? checkInteger("lset", "index", index) ?? [key(name), index, value],
        Decode.ok
      ),
    linsert: (name, where, pivot, value) =>
      write(
        "LINSERT",
        checkKey("linsert", name) ?? [key(name), where === "before" ? "BEFORE" : "AFTER", pivot, value],
        lengthAfterInsert
      ),
    lrem: (name, count, value) =>
      write(
        "LREM",
        checkKey("lrem", name) ?? checkInteger("lrem", "count", count) ?? [key(name), count, value],
        Decode.integer
      ),
    ltrim: (name, start, stop) =>
      write(
        "LTRIM",
        checkKey("ltrim", name) ?? checkInteger("ltrim", "start", start) ?? checkInteger("ltrim", "stop", stop) ??
          [key(name), start, stop],
        Decode.ok
      ),
    lmove: (source, destination, { from, to }) =>
      write(
        "LMOVE",
        checkKey("lmove", source, "source") ?? checkKey("lmove", destination, "destination") ??
          [key(source), key(destination), end(from), end(to)],
        Decode.optionalText
      ),
    lpos: (name, value, options) => read("LPOS", posArgs("lpos", name, value, options), Decode.optionalInteger),
    lposCount: (name, value, count, options) => {
      const args = posArgs("lposCount", name, value, options)
      return read(
        "LPOS",
        isBad(args) ? args : checkOffset("lposCount", "count", count) ?? [...args, "COUNT", count],
        Decode.integers
      )
    }
  }
}
