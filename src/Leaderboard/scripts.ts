/**
 * The Lua of leaderboards. The keys of all boards of one group share a hash tag. Those of one board begin with
 * `leaderboard:{group}:name:layout`, followed by the season where there are some:
 *
 * - `:scores` is a sorted set of the members, the best first: where high scores are good they are stored with the other
 *   sign. So members of one score stand in the order of their bytes, and what is too much is at the end.
 * - `:players` is a hash with the profiles, of members alone.
 * - `:order` has what a tie rule needs: for `dense` a sorted set of the different scores; for `first-to-reach` a hash with
 *   the number under which each member reached its score, and the last number under the empty text. There the members of
 *   `:scores` are `number:member`.
 *
 * All keys of a board live equally long, and are written by one script at a time, so they never differ. Scores are texts
 * on their way: Lua would print 14 digits of them.
 *
 * Every script begins with the same four arguments: from when to when (in milliseconds of the server's clock) it may
 * be executed, or empty texts; and the command that gives keys their life with its argument, or empty texts. Outside
 * of that time a script does nothing, and answers what the time is.
 */
import * as Either from "effect/Either"
import type { Reply } from "../RedisClient.js"
import * as RedisScript from "../RedisScript.js"

/** How members with the same score are ranked. */
export type Ties = "ordinal" | "competition" | "dense" | "first-to-reach"

/** A board as the scripts know it. */
export interface Board {
  readonly key: string
  readonly from: number | ""
  readonly to: number | ""
  readonly life: readonly [command: "" | "PEXPIRE" | "PEXPIREAT", millis: number | ""]
}

/** It is another time at the server, in milliseconds. */
export class Elsewhen {
  constructor(readonly now: number) {}
}

/** The key of a board. */
export const keyOf = (
  group: string,
  name: string,
  direction: "high" | "low",
  ties: Ties,
  season: string | undefined
): string => {
  const layout = ties === "dense" || ties === "first-to-reach" ? `${direction}-${ties}` : direction
  const board = `leaderboard:{${group.replace(/[%}]/g, encodeURIComponent)}}:${
    name.replace(/[%:}]/g, encodeURIComponent)
  }:${layout}`
  return season === undefined ? board : `${board}:${season}`
}

export const keysOf = (key: string): ReadonlyArray<string> => [`${key}:scores`, `${key}:players`, `${key}:order`]

const headOf = ({ from, life, to }: Board): ReadonlyArray<string | number> => [from, to, ...life]

const params = (board: Board, ...args: ReadonlyArray<string | number>) => ({
  keys: keysOf(board.key),
  args: [...headOf(board), ...args]
})

/** How many members one command writes or removes. */
const CHUNK = 1000

/** The number of who reached its score, before the member: as wide as all integers that a double can hold. */
const NUMBER = "%016.0f"

/** What stands before a member of a `first-to-reach` board. */
export const PLACE_LENGTH = 17

const beginning = `
local board, players, order = KEYS[1], KEYS[2], KEYS[3]
if ARGV[1] ~= '' then
  local clock = redis.call('TIME')
  local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
  if now < tonumber(ARGV[1]) or now >= tonumber(ARGV[2]) then return now end`

const reading = `${beginning}
end`

/** Keys whose life is over would be gone with the write. */
const writing = `${beginning}
  if ARGV[3] == 'PEXPIREAT' and now >= tonumber(ARGV[4]) then return 'over' end
end`

const living = `
if ARGV[3] ~= '' then
  for i = 1, 3 do redis.call(ARGV[3], KEYS[i], ARGV[4]) end
end`

const isNumbered = (ties: Ties): boolean => ties === "first-to-reach"

/** Sets `member`, as it is in the sorted set, and `score`. */
const locate = (ties: Ties, id: string): string =>
  isNumbered(ties)
    ? `
local place = redis.call('HGET', order, ${id})
local member = place and place .. ':' .. ${id}
local score = member and redis.call('ZSCORE', board, member)`
    : `
local member = ${id}
local score = redis.call('ZSCORE', board, member)`

/** How many ranks are better. */
const rankOf = (ties: Ties, member: string, score: string): string => {
  switch (ties) {
    case "competition":
      return `redis.call('ZCOUNT', board, '-inf', '(' .. ${score})`
    case "dense":
      return `redis.call('ZCOUNT', order, '-inf', '(' .. ${score})`
    default:
      return `redis.call('ZRANK', board, ${member})`
  }
}

/** Sets `id` to a member without its number. */
const idOf = (ties: Ties, member: string): string =>
  isNumbered(ties) ? `string.sub(${member}, ${PLACE_LENGTH + 1})` : member

/** A score that nobody has any more is no rank of its own. */
const forget = (ties: Ties, score: string): string =>
  ties === "dense"
    ? `if redis.call('ZCOUNT', board, ${score}, ${score}) == 0 then
  redis.call('ZREMRANGEBYSCORE', order, ${score}, ${score})
end`
    : ""

/** Removes the worst until `max` are left. */
const trim = (ties: Ties): string => `
local excess = max > 0 and redis.call('ZCARD', board) - max or 0
while excess > 0 do
  local n = math.min(excess, ${CHUNK})
  local gone = redis.call('ZRANGE', board, -n, -1)
  redis.call('ZREMRANGEBYRANK', board, -n, -1)${
  isNumbered(ties)
    ? `
  for i = 1, n do gone[i] = ${idOf(ties, "gone[i]")} end
  redis.call('HDEL', order, unpack(gone))`
    : ""
}
  redis.call('HDEL', players, unpack(gone))
  excess = excess - n${
  ties === "dense"
    ? `
  if excess <= 0 then
    redis.call('ZREMRANGEBYSCORE', order, '(' .. redis.call('ZRANGE', board, -1, -1, 'WITHSCORES')[2], '+inf')
  end`
    : ""
}
end`

type Decoded<A> = Either.Either<A | Elsewhen, string>

/** A number alone is the time; what a script has to say comes in a list. */
const result =
  <A>(expected: string, decode: (reply: ReadonlyArray<Reply>) => A | undefined) => (reply: Reply): Decoded<A> => {
    if (typeof reply === "number") return Either.right(new Elsewhen(reply))
    const value = Array.isArray(reply) ? decode(reply) : undefined
    return value === undefined ? Either.left(expected) : Either.right(value)
  }

const isOptional = (reply: Reply | undefined): reply is string | null => typeof reply === "string" || reply === null

const counted = result("a list of one number", ([n]) => typeof n === "number" ? n : undefined)

/** What became of a score; ranks count from 0, and scores have the sign in which they are stored. */
export interface Submitted {
  readonly rank: number | null
  readonly previousRank: number | null
  readonly score: string
  readonly previousScore: string | null
}

/** Why nothing was written. */
export type Refused = "over" | "infinite"

const isRank = (reply: Reply | undefined): reply is number | null => typeof reply === "number" || reply === null

/** Members and their scores from a place on, with the rank of the first and the size of the board. */
export interface Part {
  readonly start: number
  readonly rank: number
  readonly total: number
  readonly found: ReadonlyArray<string>
  /** Empty texts where nothing is known. */
  readonly profiles: ReadonlyArray<string>
}

const EMPTY: Part = { start: 0, rank: 0, total: 0, found: [], profiles: [] }

const partsOf = (text: string): ReadonlyArray<string> => text === "" ? [] : text.split("\0")

const part = result<Part>("three numbers and two texts", ([start, rank, total, members, infos]) => {
  if (start === undefined) return EMPTY
  if (
    typeof start !== "number" || typeof rank !== "number" || typeof total !== "number" || typeof members !== "string" ||
    typeof infos !== "string"
  ) {
    return undefined
  }
  const found = partsOf(members)
  return found.length % 2 === 0 ? { start, rank, total, found, profiles: partsOf(infos) } : undefined
})

/**
 * From `start` to `stop`, and profiles when they are asked for. One text with NUL between its parts costs the client half
 * of what a list of texts does, and the server less too. Neither members nor profiles can have one.
 */
const range = (ties: Ties, profiles: string): string => `
local found = redis.call('ZRANGE', board, start, stop, 'WITHSCORES')
local rank = start${
  ties === "competition" || ties === "dense" ? `\nif found[1] then rank = ${rankOf(ties, "", "found[2]")} end` : ""
}
local profiles = {}
if ${profiles} == '1' and found[1] then
  local ids = {}
  for i = 1, #found, 2 do ids[#ids + 1] = ${idOf(ties, "found[i]")} end
  profiles = redis.call('HMGET', players, unpack(ids))
  for i = 1, #profiles do profiles[i] = profiles[i] or '' end
end
return { start, rank, redis.call('ZCARD', board), table.concat(found, '\\0'), table.concat(profiles, '\\0') }`

/** A member: its score, and how many ranks are better. */
export interface Place {
  readonly score: string
  readonly rank: number
  readonly profile: string | null
}

/** A source of a merge. */
export interface Source {
  readonly key: string
  /** Whether its scores have the sign of the destination's. */
  readonly weight: 1 | -1
  readonly ties: Ties
}

const makeScripts = (ties: Ties) => {
  const name = (operation: string) => `leaderboard.${operation}`
  return {
    /**
     * Gives a member a score, removes the worst when there are too many, and tells the ranks before and after.
     * O(log n) with n members.
     *
     * ARGV: the four, the size or 0, member, mode, score, and the profile if there is one. Returns ranks after and
     * before, scores after and before; `over` when the season is kept no longer, `infinite` when the sum is.
     */
    submit: RedisScript.make({
      name: name("submit"),
      lua: `${writing}
local max, id, mode, new = tonumber(ARGV[5]), ARGV[6], ARGV[7], ARGV[8]${locate(ties, "id")}
local before = score and ${rankOf(ties, "member", "score")}
if mode == 'increment' then
  if score then
    local sum = tonumber(score) + tonumber(new)
    if sum == math.huge or sum == -math.huge then return 'infinite' end
    new = string.format('%.17g', sum)
  end
elseif mode == 'best' and score and tonumber(score) <= tonumber(new) then
  new = score
end
if not score or tonumber(score) ~= tonumber(new) then${
        isNumbered(ties)
          ? `
  if member then redis.call('ZREM', board, member) end
  place = string.format('${NUMBER}', redis.call('HINCRBY', order, '', 1))
  member = place .. ':' .. id
  redis.call('HSET', order, id, place)`
          : ""
      }
  redis.call('ZADD', board, new, member)${
        ties === "dense"
          ? `
  if redis.call('ZCOUNT', order, new, new) == 0 then redis.call('ZADD', order, new, new) end
  if score then ${forget(ties, "score")} end`
          : ""
      }
end${trim(ties)}
local after = ${
        ties === "competition" || ties === "dense"
          ? `(max == 0 or redis.call('ZSCORE', board, member)) and ${rankOf(ties, "member", "new")}`
          : rankOf(ties, "member", "new")
      }
if ARGV[9] and after then redis.call('HSET', players, id, ARGV[9]) end${living}
return { after, before, new, score }`,
      params: (board: Board, max: number, id: string, mode: string, score: string, profile: string | undefined) =>
        profile === undefined
          ? params(board, max, id, mode, score)
          : params(board, max, id, mode, score, profile),
      result: (reply): Decoded<Submitted | Refused> =>
        reply === "over" || reply === "infinite"
          ? Either.right(reply)
          : result<Submitted>("two ranks and two scores", ([rank, previousRank, score, previousScore]) =>
            isRank(rank) && isRank(previousRank) && typeof score === "string" && isOptional(previousScore)
              ? { rank, previousRank, score, previousScore }
              : undefined)(reply)
    }),

    /**
     * Gives a member of the board a profile. O(1).
     *
     * ARGV: the four, member, profile. Returns whether it is a member; `over` when the season is kept no longer.
     */
    setPlayer: RedisScript.make({
      name: name("setPlayer"),
      lua: `${writing}
local id = ARGV[5]${locate(ties, "id")}
if not score then return { 0 } end
redis.call('HSET', players, id, ARGV[6])${living}
return { 1 }`,
      params: (board: Board, id: string, profile: string) => params(board, id, profile),
      result: (reply): Decoded<number | "over"> => reply === "over" ? Either.right(reply) : counted(reply),
      idempotent: true
    }),

    /**
     * So many members from a place on. O(log n + m) for m of n members.
     *
     * ARGV: the four, start, stop, whether profiles are wanted. Returns start, the rank there, the size, members with
     * scores, and profiles, each of them as one text.
     */
    list: RedisScript.make({
      name: name("list"),
      lua: `${reading}
local start, stop = tonumber(ARGV[5]), tonumber(ARGV[6])${range(ties, "ARGV[7]")}`,
      params: (board: Board, start: number, stop: number, profiles: boolean) =>
        params(board, start, stop, profiles ? 1 : 0),
      result: part,
      idempotent: true
    }),

    /**
     * A member with those before and behind it; at the ends of the board there are more of them on the other side.
     * O(log n + m) for m of n members.
     *
     * ARGV: the four, member, how many on each side, whether profiles are wanted. Returns as `list` does, and an empty
     * list when it is no member.
     */
    around: RedisScript.make({
      name: name("around"),
      lua: `${reading}
local id, radius = ARGV[5], tonumber(ARGV[6])${
        isNumbered(ties)
          ? `
local place = redis.call('HGET', order, id)
local at = place and redis.call('ZRANK', board, place .. ':' .. id)`
          : `
local at = redis.call('ZRANK', board, id)`
      }
if not at then return {} end
local start = math.max(0, math.min(at - radius, redis.call('ZCARD', board) - 2 * radius - 1))
local stop = start + 2 * radius${range(ties, "ARGV[7]")}`,
      params: (board: Board, id: string, radius: number, profiles: boolean) =>
        params(board, id, radius, profiles ? 1 : 0),
      result: part,
      idempotent: true
    }),

    /**
     * Where members stand. O(m log n) for m of n members.
     *
     * ARGV: the four, whether profiles are wanted, members. Returns score, rank and profile of each, `false` for what is
     * not there.
     */
    look: RedisScript.make({
      name: name("look"),
      lua: `${reading}
local found = {}
for i = 6, #ARGV do
  local id = ARGV[i]${locate(ties, "id")}
  local at = #found
  found[at + 1] = score
  found[at + 2] = score and ${rankOf(ties, "member", "score")}
  found[at + 3] = score and ARGV[5] == '1' and redis.call('HGET', players, id)
end
return found`,
      params: (board: Board, profiles: boolean, ids: ReadonlyArray<string>) => params(board, profiles ? 1 : 0, ...ids),
      result: result("scores, ranks and profiles", (reply) => {
        const places: Array<Place | undefined> = []
        for (let i = 0; i < reply.length; i += 3) {
          const score = reply[i]
          const rank = reply[i + 1]
          const profile = reply[i + 2]
          if (typeof score === "string" && typeof rank === "number" && isOptional(profile)) {
            places.push({ score, rank, profile })
          } else if (score === null) {
            places.push(undefined)
          } else {
            return undefined
          }
        }
        return places
      }),
      idempotent: true
    }),

    /**
     * How many members there are, and how many have a worse score than one of them. O(log n) with n members.
     *
     * ARGV: the four, member. Returns both; the second is -1 when it is no member.
     */
    worse: RedisScript.make({
      name: name("worse"),
      lua: `${reading}
local id = ARGV[5]${locate(ties, "id")}
return { redis.call('ZCARD', board), score and redis.call('ZCOUNT', board, '(' .. score, '+inf') or -1 }`,
      params: (board: Board, id: string) => params(board, id),
      result: result(
        "two numbers",
        ([total, worse]) => typeof total === "number" && typeof worse === "number" ? { total, worse } : undefined
      ),
      idempotent: true
    }),

    /**
     * Removes members. O(m log n) for m of n members.
     *
     * ARGV: the four, members. Returns how many there were.
     */
    remove: RedisScript.make({
      name: name("remove"),
      lua: `${reading}
local removed = 0
for i = 5, #ARGV do
  local id = ARGV[i]${locate(ties, "id")}
  if score then
    redis.call('ZREM', board, member)
    redis.call('HDEL', players, id)
    ${isNumbered(ties) ? "redis.call('HDEL', order, id)" : forget(ties, "score")}
    removed = removed + 1
  end
end
return { removed }`,
      params: (board: Board, ids: ReadonlyArray<string>) => params(board, ...ids),
      result: counted
    }),

    /**
     * Makes a board of others: members of several get the sum, the minimum or the maximum of their scores, and the first
     * profile that one of them has. What is made stands in keys of its own until all is read. O(n log n) with n members
     * of all boards.
     *
     * KEYS: those of the destination, three that end with the script, and those of each source. ARGV: the four, the size
     * or 0, how scores are combined, how many sources; for each of them a factor, and 1 when its members have numbers.
     * Returns the new size; `over` when the season is kept no longer, `infinite` when a sum is.
     */
    merge: RedisScript.make({
      name: name("merge"),
      lua: `${writing}
local merged, infos, scratch = KEYS[4], KEYS[5], KEYS[6]
local max, combine, count = tonumber(ARGV[5]), ARGV[6], tonumber(ARGV[7])
for s = 1, count do
  local source, weight, numbered = KEYS[3 * s + 4], ARGV[6 + 2 * s], ARGV[7 + 2 * s] == '1'
  if numbered then
    local start = 0
    repeat
      local found = redis.call('ZRANGE', source, start, start + ${CHUNK - 1}, 'WITHSCORES')
      local entries = {}
      for i = 1, #found, 2 do
        entries[i] = found[i + 1]
        entries[i + 1] = string.sub(found[i], ${PLACE_LENGTH + 1})
      end
      if found[1] then redis.call('ZADD', scratch, unpack(entries)) end
      start = start + ${CHUNK}
    until #found < ${2 * CHUNK}
    source = scratch
  end
  if s == 1 then
    redis.call('ZUNIONSTORE', merged, 1, source, 'WEIGHTS', weight)
  else
    redis.call('ZUNIONSTORE', merged, 2, merged, source, 'WEIGHTS', 1, weight, 'AGGREGATE', combine)
  end
  if numbered then redis.call('DEL', scratch) end
  for at = -1, 0 do
    local score = redis.call('ZRANGE', merged, at, at, 'WITHSCORES')[2]
    if score == 'inf' or score == '-inf' then
      redis.call('UNLINK', merged)
      return 'infinite'
    end
  end
end
for s = count, 1, -1 do
  local cursor = '0'
  repeat
    local page = redis.call('HSCAN', KEYS[3 * s + 5], cursor, 'COUNT', ${CHUNK})
    cursor = page[1]
    for i = 1, #page[2], ${CHUNK} do
      redis.call('HSET', infos, unpack(page[2], i, math.min(i + ${CHUNK - 1}, #page[2])))
    end
  until cursor == '0'
end
redis.call('UNLINK', board, players, order)
if redis.call('EXISTS', infos) == 1 then redis.call('RENAME', infos, players) end
${
        isNumbered(ties)
          ? `local last = 0
repeat
  local found = redis.call('ZRANGE', merged, last, last + ${CHUNK - 1}, 'WITHSCORES')
  local entries, places = {}, {}
  for i = 1, #found, 2 do
    last = last + 1
    local place = string.format('${NUMBER}', last)
    entries[i], entries[i + 1] = found[i + 1], place .. ':' .. found[i]
    places[i], places[i + 1] = found[i], place
  end
  if found[1] then
    redis.call('ZADD', board, unpack(entries))
    redis.call('HSET', order, '', last, unpack(places))
  end
until #found < ${2 * CHUNK}
redis.call('UNLINK', merged)`
          : `if redis.call('EXISTS', merged) == 1 then redis.call('RENAME', merged, board) end`
      }${trim(ties)}${
        ties === "dense"
          ? `
local start, before = 0, nil
repeat
  local found = redis.call('ZRANGE', board, start, start + ${CHUNK - 1}, 'WITHSCORES')
  local entries = {}
  for i = 2, #found, 2 do
    -- As texts, zero and minus zero would be two.
    if tonumber(found[i]) ~= before then
      before = tonumber(found[i])
      entries[#entries + 1] = found[i]
      entries[#entries + 1] = found[i]
    end
  end
  if entries[1] then redis.call('ZADD', order, unpack(entries)) end
  start = start + ${CHUNK}
until #found < ${2 * CHUNK}`
          : ""
      }${living}
return { redis.call('ZCARD', board) }`,
      params: (board: Board, max: number, combine: string, sources: ReadonlyArray<Source>) => ({
        keys: [
          ...keysOf(board.key),
          ...["merged", "infos", "scratch"].map((part) => `${board.key}:${part}`),
          ...sources.flatMap(({ key }) => keysOf(key))
        ],
        args: [
          ...headOf(board),
          max,
          combine,
          sources.length,
          ...sources.flatMap(({ ties, weight }) => [weight, isNumbered(ties) ? 1 : 0])
        ]
      }),
      result: (reply): Decoded<number | Refused> =>
        reply === "over" || reply === "infinite" ? Either.right(reply) : counted(reply)
    })
  }
}

/** One set of scripts for each tie rule, so that none of them asks which one it is. */
export const byTies = {
  ordinal: makeScripts("ordinal"),
  competition: makeScripts("competition"),
  dense: makeScripts("dense"),
  "first-to-reach": makeScripts("first-to-reach")
} as const satisfies Record<Ties, unknown>

/**
 * How many members have a score within bounds. O(log n) with n members.
 *
 * ARGV: the four, and both bounds.
 */
export const count = RedisScript.make({
  name: "leaderboard.count",
  lua: `${reading}
return { redis.call('ZCOUNT', board, ARGV[5], ARGV[6]) }`,
  params: (board: Board, min: string, max: string) => params(board, min, max),
  result: counted,
  idempotent: true
})

/**
 * Removes a board. O(1); the memory is freed in the background.
 *
 * ARGV: the four. Returns how many members it had.
 */
export const clear = RedisScript.make({
  name: "leaderboard.clear",
  lua: `${reading}
local size = redis.call('ZCARD', board)
redis.call('UNLINK', board, players, order)
return { size }`,
  params: (board: Board) => params(board),
  result: counted
})
