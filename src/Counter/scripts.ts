/**
 * The Lua of counters. A counter has a string with its total, and a hash for each kind of window. The hash has the count
 * of each window by its number (how many such windows have begun since 1970, in UTC), and in `from` the number of the
 * first that may be there. It lives until the last of its windows is forgotten.
 *
 * Where the largest are wanted, there is a sorted set for each window, with the keys of counters and their exact counts
 * in that window. Its name has the window's number in it, so the caller says which windows it takes for the present
 * ones, and a script that finds that it is another time does nothing but say so.
 */
import * as Either from "effect/Either"
import { clockLua, type OtherTime, otherTimeOf, type Window } from "../internal/windows.js"
import * as RedisScript from "../RedisScript.js"

/** The keys of one counter. */
export interface Keys {
  readonly total: string
  /** One for each kind of window. */
  readonly windows: ReadonlyArray<string>
}

/** A count as Redis has it. */
export const countOf = (text: string): number | undefined => {
  const count = Number(text)
  return text !== "" && Number.isSafeInteger(count) ? count : undefined
}

/** The largest of the kind of window that is counted here, with so many members at most. */
export interface Top {
  /** One key for each kind of window. */
  readonly keys: ReadonlyArray<string>
  /** Of each kind of window the one that is taken for the present one. */
  readonly present: ReadonlyArray<number>
  readonly member: string
  readonly capacity: number
}

/**
 * Adds to the total and to the present windows, all or nothing. O(1), and O(log n) with n members of a top; whoever is the
 * first in a window removes those that are forgotten.
 *
 * KEYS total, a hash for each kind of window, and with a top a sorted set for each. ARGV by, life of the total (0 for no
 * end), member, capacity (0 for no top), and for each kind of window its size, how many are kept, and which one is taken
 * for the present one. Returns the total; `false` when it or a window would pass 2^53, and `time` with the time when it
 * is another window.
 */
export const increment = RedisScript.make({
  name: "counter.increment",
  lua: `${clockLua}
local by, life, member, capacity = tonumber(ARGV[1]), tonumber(ARGV[2]), ARGV[3], tonumber(ARGV[4])
local kinds = (#ARGV - 4) / 3

local function fits(count)
  return math.abs(tonumber(count or 0) + by) <= 9007199254740991
end

local windows = {}
for i = 1, kinds do
  local size = tonumber(ARGV[3 * i + 2])
  local window = { key = KEYS[1 + i], size = size, keep = tonumber(ARGV[3 * i + 3]), at = math.floor(now / size) }
  if capacity > 0 and window.at ~= tonumber(ARGV[3 * i + 4]) then return { 'time', now } end
  local found = redis.call('HMGET', window.key, window.at, 'from')
  if not fits(found[1]) then return false end
  window.known, window.from = found[1], tonumber(found[2] or window.at)
  windows[i] = window
end
if not fits(redis.call('GET', KEYS[1])) then return false end

for i, window in ipairs(windows) do
  local key, at, keep = window.key, window.at, window.keep
  local over = (at + keep) * window.size
  local count = redis.call('HINCRBY', key, at, ARGV[1])
  if not window.known then
    for old = window.from, at - keep do redis.call('HDEL', key, old) end
    redis.call('HSET', key, 'from', math.min(at, math.max(window.from, at - keep + 1)))
    redis.call('PEXPIREAT', key, over)
  end
  if capacity > 0 then
    local top = KEYS[1 + kinds + i]
    if redis.call('ZADD', top, count, member) == 1 then
      if redis.call('ZCARD', top) > capacity then redis.call('ZPOPMIN', top) end
      redis.call('PEXPIREAT', top, over)
    end
  end
end
local total = redis.call('INCRBY', KEYS[1], ARGV[1])
if life > 0 then redis.call('PEXPIRE', KEYS[1], ARGV[2]) end
-- A client may read large integers inexactly, and texts as they are.
return string.format('%.0f', total)`,
  params: (keys: Keys, windows: ReadonlyArray<Window>, by: number, life: number, top: Top | undefined) => {
    const args: Array<string | number> = [by, life, top?.member ?? "", top?.capacity ?? 0]
    windows.forEach(({ keep, size }, i) => args.push(size, keep, top?.present[i] ?? 0))
    return {
      keys: top === undefined ? [keys.total, ...keys.windows] : [keys.total, ...keys.windows, ...top.keys],
      args
    }
  },
  result: (reply): Either.Either<number | undefined | OtherTime, string> => {
    if (reply === null) return Either.right(undefined)
    const result = typeof reply === "string" ? countOf(reply) : otherTimeOf(reply)
    return result === undefined ? Either.left("a count, nothing or the time") : Either.right(result)
  }
})

/** Windows beside each other, the newest first. */
export interface Range {
  /** The number of the newest. */
  readonly newest: number
  readonly counts: ReadonlyArray<number>
}

/**
 * Windows beside each other; 0 for those in which nothing was counted. O(n) for n windows.
 *
 * KEYS hash. ARGV size, how many are kept, how many are wanted, and the last of them or an empty text for the present
 * one. Returns the number of the last one, and the counts from there backwards.
 */
export const range = RedisScript.make({
  name: "counter.range",
  lua: `${clockLua}
local size, keep, last = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local present = math.floor(now / size)
local newest = ARGV[4] == '' and present or tonumber(ARGV[4])
local counts, fields = { newest }, {}

local function read()
  if #fields == 0 then return end
  for _, count in ipairs(redis.call('HMGET', KEYS[1], unpack(fields))) do
    counts[#counts + 1] = count or '0'
  end
  fields = {}
end

for at = newest, newest - last + 1, -1 do
  -- What is older may still be there, and is not told.
  fields[#fields + 1] = at > present - keep and at or 'none'
  if #fields == 1000 then read() end
end
read()
return counts`,
  params: (key: string, { keep, size }: Window, last: number, newest: number | undefined) => ({
    keys: [key],
    args: [size, keep, last, newest ?? ""]
  }),
  result: (reply): Either.Either<Range, string> => {
    const expected = Either.left("a number and a list of counts")
    if (!Array.isArray(reply)) return expected
    const [newest, ...texts] = reply
    if (typeof newest !== "number") return expected
    const counts: Array<number> = []
    for (const text of texts) {
      const count = typeof text === "string" ? countOf(text) : undefined
      if (count === undefined) return expected
      counts.push(count)
    }
    return Either.right({ newest, counts })
  },
  idempotent: true
})

/** A text with its count. */
export type Scored = readonly [member: string, count: number]

/**
 * The largest of one or several windows, the largest first. O(n) for one window of which n are wanted; O(m log m) with m
 * members in several.
 *
 * KEYS a sorted set for each window. ARGV size, which one is taken for the present one, how many are wanted. Returns
 * members with their counts, or `time` with the time when it is another window.
 */
export const top = RedisScript.make({
  name: "counter.top",
  lua: `${clockLua}
if math.floor(now / tonumber(ARGV[1])) ~= tonumber(ARGV[2]) then return { 'time', now } end
local limit = tonumber(ARGV[3])
if #KEYS == 1 then return redis.call('ZRANGE', KEYS[1], 0, limit - 1, 'REV', 'WITHSCORES') end
local union = { 'ZUNION', #KEYS, unpack(KEYS) }
union[#union + 1] = 'WITHSCORES'
local all = redis.call(unpack(union))
local found = {}
for i = #all - 1, math.max(1, #all - 2 * limit + 1), -2 do
  found[#found + 1] = all[i]
  found[#found + 1] = all[i + 1]
end
return found`,
  params: (keys: ReadonlyArray<string>, { size }: Window, present: number, limit: number) => ({
    keys,
    args: [size, present, limit]
  }),
  result: (reply): Either.Either<ReadonlyArray<Scored> | OtherTime, string> => {
    const other = otherTimeOf(reply)
    if (other !== undefined) return Either.right(other)
    const expected = Either.left("a list of members with counts")
    if (!Array.isArray(reply)) return expected
    const found: Array<Scored> = []
    for (let i = 0; i < reply.length; i += 2) {
      const [member, score] = [reply[i], reply[i + 1]]
      if (typeof member !== "string" || typeof score !== "string") return expected
      found.push([member, Number(score)])
    }
    return Either.right(found)
  },
  idempotent: true
})

/**
 * Removes a counter, and its key from all tops. O(n log m) for n windows with m members each.
 *
 * KEYS total, a hash for each kind of window, and the sorted sets. ARGV member, and for each kind of window its size and
 * which one is taken for the present one. Returns nothing, or `time` with the time when it is another window.
 */
export const reset = RedisScript.make({
  name: "counter.reset",
  lua: `${clockLua}
local kinds = (#ARGV - 1) / 2
for i = 1, kinds do
  if math.floor(now / tonumber(ARGV[2 * i])) ~= tonumber(ARGV[2 * i + 1]) then return { 'time', now } end
end
for i = 1, 1 + kinds do redis.call('UNLINK', KEYS[i]) end
for i = 2 + kinds, #KEYS do redis.call('ZREM', KEYS[i], ARGV[1]) end`,
  params: (
    keys: Keys,
    windows: ReadonlyArray<Window>,
    member: string,
    present: ReadonlyArray<number>,
    tops: ReadonlyArray<string>
  ) => ({
    keys: [keys.total, ...keys.windows, ...tops],
    args: [member, ...windows.flatMap(({ size }, i) => [size, present[i]!])]
  }),
  result: (reply) => Either.right(otherTimeOf(reply)),
  idempotent: true
})
