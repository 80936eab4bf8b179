import * as Effect from "effect/Effect"
import type { RedisArg } from "../../RedisClient.js"
import type { CombineOptions, SortedSetCommands, SortedSetRange, ZaddOptions } from "../../RedisCommands.js"
import { checkKey, inputError } from "../input.js"
import {
  type Args,
  checkCount,
  checkInteger,
  checkNonZero,
  checkScore,
  checkSome,
  checkSomeKeys,
  isBad,
  lexRangeArgs,
  noneGiven,
  pairs,
  score,
  scoreRangeArgs,
  sortedSetRangeArgs
} from "./args.js"
import * as Decode from "./decode.js"
import type { Env } from "./env.js"
import { scanKey } from "./scan.js"

const conditions = { absent: "NX", present: "XX", greater: "GT", less: "LT" } as const

const scoredMembers = Decode.asPairs(Decode.asDouble)

/** @internal */
export const make = (env: Env): SortedSetCommands => {
  const { key, read, write } = env

  const addArgs = (
    name: string,
    entries: Parameters<SortedSetCommands["zadd"]>[1],
    options: ZaddOptions | undefined
  ): Args => {
    const bad = checkKey("zadd", name)
    if (bad !== undefined) return bad
    const args: Array<RedisArg> = [key(name)]
    if (options?.onlyIf !== undefined) args.push(conditions[options.onlyIf])
    if (options?.changed === true) args.push("CH")
    const head = args.length
    for (const [member, value] of pairs(entries)) {
      const bad = checkScore("zadd", "score", value)
      if (bad !== undefined) return bad
      args.push(score(value), member)
    }
    return args.length > head ? args : noneGiven("zadd", "entries")
  }

  const rangeArgs = (operation: string, name: string, range: SortedSetRange, ...more: ReadonlyArray<string>): Args => {
    const args = sortedSetRangeArgs(operation, range)
    return checkKey(operation, name) ?? (isBad(args) ? args : [key(name), ...args, ...more])
  }

  const pop = (operation: string, command: string) => (name: string) =>
    write(command, checkKey(operation, name) ?? [key(name)], Decode.optionalScored)

  const popCount = (operation: string, command: string) => (name: string, count: number) =>
    write(
      command,
      checkKey(operation, name) ?? checkCount(operation, "count", count) ?? [key(name), count],
      Decode.scored
    )

  const combineArgs = (operation: string, names: ReadonlyArray<string>, options: CombineOptions | undefined): Args => {
    const bad = checkSomeKeys(operation, names)
    if (bad !== undefined) return bad
    const args: Array<RedisArg> = [names.length, ...names.map(key)]
    const { aggregate, weights } = options ?? {}
    if (weights !== undefined) {
      if (weights.length !== names.length) {
        return inputError(operation, "weights", `one for each key, ${names.length} in all`, weights.length)
      }
      args.push("WEIGHTS")
      for (const weight of weights) {
        const bad = checkScore(operation, "weights", weight)
        if (bad !== undefined) return bad
        args.push(score(weight))
      }
    }
    if (aggregate !== undefined) args.push("AGGREGATE", aggregate.toUpperCase())
    return args
  }

  const combine = (operation: string, command: string) => (names: ReadonlyArray<string>, options?: CombineOptions) =>
    read(command, combineArgs(operation, names, options), Decode.texts)

  const combineWithScores =
    (operation: string, command: string) => (names: ReadonlyArray<string>, options?: CombineOptions) => {
      const args = combineArgs(operation, names, options)
      return read(command, isBad(args) ? args : [...args, "WITHSCORES"], Decode.scored)
    }

  const store =
    (operation: string, command: string) =>
    (destination: string, names: ReadonlyArray<string>, options?: CombineOptions) => {
      const args = combineArgs(operation, names, options)
      return write(
        command,
        checkKey(operation, destination, "destination") ?? (isBad(args) ? args : [key(destination), ...args]),
        Decode.integer
      )
    }

  const zdiff = combine("zdiff", "ZDIFF")
  const zdiffWithScores = combineWithScores("zdiffWithScores", "ZDIFF")
  const zdiffStore = store("zdiffStore", "ZDIFFSTORE")

  return {
    zadd: (name, entries, options) => write("ZADD", addArgs(name, entries, options), Decode.integer),
    zincrBy: (name, increment, member) =>
      write(
        "ZINCRBY",
        checkKey("zincrBy", name) ?? checkScore("zincrBy", "increment", increment) ??
          [key(name), score(increment), member],
        Decode.double
      ),
    zrem: (name, ...members) =>
      write(
        "ZREM",
        checkKey("zrem", name) ?? checkSome("zrem", "members", members) ?? [key(name), ...members],
        Decode.integer
      ),
    zscore: (name, member) => read("ZSCORE", checkKey("zscore", name) ?? [key(name), member], Decode.optionalDouble),
    zmscore: (name, members) => {
      const bad = checkKey("zmscore", name)
      return bad === undefined && members.length === 0
        ? Effect.succeed([])
        : read("ZMSCORE", bad ?? [key(name), ...members], Decode.optionalDoubles)
    },
    zrank: (name, member) => read("ZRANK", checkKey("zrank", name) ?? [key(name), member], Decode.optionalInteger),
    zrevRank: (name, member) =>
      read("ZREVRANK", checkKey("zrevRank", name) ?? [key(name), member], Decode.optionalInteger),
    zcard: (name) => read("ZCARD", checkKey("zcard", name) ?? [key(name)], Decode.integer),
    zcount: (name, range = {}) => {
      const bounds = scoreRangeArgs("zcount", range)
      return read(
        "ZCOUNT",
        checkKey("zcount", name) ?? (isBad(bounds) ? bounds : [key(name), ...bounds]),
        Decode.integer
      )
    },
    zlexCount: (name, range = {}) =>
      read("ZLEXCOUNT", checkKey("zlexCount", name) ?? [key(name), ...lexRangeArgs(range)], Decode.integer),
    zrange: (name, range = {}) => read("ZRANGE", rangeArgs("zrange", name, range), Decode.texts),
    zrangeWithScores: (name, range = {}) =>
      read("ZRANGE", rangeArgs("zrangeWithScores", name, range, "WITHSCORES"), Decode.scored),
    zrangeStore: (destination, source, range) => {
      const args = rangeArgs("zrangeStore", source, range)
      return write(
        "ZRANGESTORE",
        checkKey("zrangeStore", destination, "destination") ?? (isBad(args) ? args : [key(destination), ...args]),
        Decode.integer
      )
    },
    zpopMin: pop("zpopMin", "ZPOPMIN"),
    zpopMinCount: popCount("zpopMinCount", "ZPOPMIN"),
    zpopMax: pop("zpopMax", "ZPOPMAX"),
    zpopMaxCount: popCount("zpopMaxCount", "ZPOPMAX"),
    zremRangeByRank: (name, start, stop) =>
      write(
        "ZREMRANGEBYRANK",
        checkKey("zremRangeByRank", name) ?? checkInteger("zremRangeByRank", "start", start) ??
          checkInteger("zremRangeByRank", "stop", stop) ?? [key(name), start, stop],
        Decode.integer
      ),
    zremRangeByScore: (name, range) => {
      const bounds = scoreRangeArgs("zremRangeByScore", range)
      return write(
        "ZREMRANGEBYSCORE",
        checkKey("zremRangeByScore", name) ?? (isBad(bounds) ? bounds : [key(name), ...bounds]),
        Decode.integer
      )
    },
    zremRangeByLex: (name, range) =>
      write(
        "ZREMRANGEBYLEX",
        checkKey("zremRangeByLex", name) ?? [key(name), ...lexRangeArgs(range)],
        Decode.integer
      ),
    zunion: combine("zunion", "ZUNION"),
    zunionWithScores: combineWithScores("zunionWithScores", "ZUNION"),
    zunionStore: store("zunionStore", "ZUNIONSTORE"),
    zinter: combine("zinter", "ZINTER"),
    zinterWithScores: combineWithScores("zinterWithScores", "ZINTER"),
    zinterStore: store("zinterStore", "ZINTERSTORE"),
    zdiff: (names) => zdiff(names),
    zdiffWithScores: (names) => zdiffWithScores(names),
    zdiffStore: (destination, names) => zdiffStore(destination, names),
    zinterCard: (names, options) => {
      const args = combineArgs("zinterCard", names, undefined)
      const limit = options?.limit
      return read(
        "ZINTERCARD",
        isBad(args) || limit === undefined
          ? args
          : checkCount("zinterCard", "limit", limit) ?? [...args, "LIMIT", limit],
        Decode.integer
      )
    },
    zrandMember: (name) => read("ZRANDMEMBER", checkKey("zrandMember", name) ?? [key(name)], Decode.optionalText),
    zrandMemberCount: (name, count) =>
      read(
        "ZRANDMEMBER",
        checkKey("zrandMemberCount", name) ?? checkNonZero("zrandMemberCount", "count", count) ?? [key(name), count],
        Decode.texts
      ),
    zscan: (name, options) => scanKey(env, "zscan", "ZSCAN", name, options, scoredMembers)
  }
}
