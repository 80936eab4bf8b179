import * as Effect from "effect/Effect"
import type { SetCommands } from "../../RedisCommands.js"
import { checkKey } from "../input.js"
import { checkCount, checkNonZero, checkSome, checkSomeKeys } from "./args.js"
import * as Decode from "./decode.js"
import type { Env } from "./env.js"
import { scanKey } from "./scan.js"

const members = Decode.asArray(Decode.asText)

/** @internal */
export const make = (env: Env): SetCommands => {
  const { key, read, write } = env

  const combine = (operation: string, command: string) => (names: ReadonlyArray<string>) =>
    read(command, checkSomeKeys(operation, names) ?? names.map(key), Decode.texts)

  const store = (operation: string, command: string) => (destination: string, names: ReadonlyArray<string>) =>
    write(
      command,
      checkKey(operation, destination, "destination") ?? checkSomeKeys(operation, names) ??
        [key(destination), ...names.map(key)],
      Decode.integer
    )

  return {
    sadd: (name, ...members) =>
      write(
        "SADD",
        checkKey("sadd", name) ?? checkSome("sadd", "members", members) ?? [key(name), ...members],
        Decode.integer
      ),
    srem: (name, ...members) =>
      write(
        "SREM",
        checkKey("srem", name) ?? checkSome("srem", "members", members) ?? [key(name), ...members],
        Decode.integer
      ),
    smembers: (name) => read("SMEMBERS", checkKey("smembers", name) ?? [key(name)], Decode.texts),
    sismember: (name, member) => read("SISMEMBER", checkKey("sismember", name) ?? [key(name), member], Decode.boolean),
    smismember: (name, members) => {
      const bad = checkKey("smismember", name)
      return bad === undefined && members.length === 0
        ? Effect.succeed([])
        : read("SMISMEMBER", bad ?? [key(name), ...members], Decode.booleans)
    },
    scard: (name) => read("SCARD", checkKey("scard", name) ?? [key(name)], Decode.integer),
    spop: (name) => write("SPOP", checkKey("spop", name) ?? [key(name)], Decode.optionalText),
    spopCount: (name, count) =>
      write(
        "SPOP",
        checkKey("spopCount", name) ?? checkCount("spopCount", "count", count) ?? [key(name), count],
        Decode.texts
      ),
    srandMember: (name) => read("SRANDMEMBER", checkKey("srandMember", name) ?? [key(name)], Decode.optionalText),
    srandMemberCount: (name, count) =>
      read(
        "SRANDMEMBER",
        checkKey("srandMemberCount", name) ?? checkNonZero("srandMemberCount", "count", count) ?? [key(name), count],
        Decode.texts
      ),
    smove: (source, destination, member) =>
      write(
        "SMOVE",
        checkKey("smove", source, "source") ?? checkKey("smove", destination, "destination") ??
          [key(source), key(destination), member],
        Decode.boolean
      ),
    sunion: combine("sunion", "SUNION"),
    sinter: combine("sinter", "SINTER"),
    sdiff: combine("sdiff", "SDIFF"),
    sunionStore: store("sunionStore", "SUNIONSTORE"),
    sinterStore: store("sinterStore", "SINTERSTORE"),
    sdiffStore: store("sdiffStore", "SDIFFSTORE"),
    sinterCard: (names, options) => {
      const limit = options?.limit
      return read(
        "SINTERCARD",
        checkSomeKeys("sinterCard", names) ??
          (limit === undefined ? undefined : checkCount("sinterCard", "limit", limit)) ??
          [names.length, ...names.map(key), ...(limit === undefined ? [] : ["LIMIT", limit])],
        Decode.integer
      )
    },
    sscan: (name, options) => scanKey(env, "sscan", "SSCAN", name, options, members)
  }
}
