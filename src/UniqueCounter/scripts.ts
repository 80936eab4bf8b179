/**
 * The Lua of unique counters. A counter is a HyperLogLog for the total, and one for each window, which has the number of
 * the window in its name and lives until the window is forgotten. So the caller says which windows it takes for the
 * present ones, and a script that finds that it is another time does nothing but say so.
 *
 * All are the same whether they run once or twice: nobody is counted twice.
 */
import * as Either from "effect/Either"
import { clockLua, type OtherTime, otherTimeOf, type Window } from "../internal/windows.js"
import type { Reply } from "../RedisClient.js"
import * as RedisScript from "../RedisScript.js"

const numberOrTime = (reply: Reply): Either.Either<number | OtherTime, string> => {
  const result = typeof reply === "number" ? reply : otherTimeOf(reply)
  return result === undefined ? Either.left("a number or the time") : Either.right(result)
}

const beginning = `${clockLua}
local life, kinds = tonumber(ARGV[1]), tonumber(ARGV[2])
local windows = {}
for i = 1, kinds do
  local size = tonumber(ARGV[3 * i])
  local at = math.floor(now / size)
  if at ~= tonumber(ARGV[3 * i + 2]) then return { 'time', now } end
  windows[i] = { size = size, keep = tonumber(ARGV[3 * i + 1]), at = at }
end

local function keep_total(key)
  if life > 0 then redis.call('PEXPIRE', key, life) end
end

local function keep_window(key, window, ago)
  redis.call('PEXPIREAT', key, (window.at - ago + window.keep) * window.size)
end`

/** What is there of time: for how long a total is kept, and which windows are taken for the present ones. */
export interface Time {
  /** Milliseconds; 0 for no end. */
  readonly life: number
  readonly windows: ReadonlyArray<Window>
  readonly present: ReadonlyArray<number>
}

const timeArgs = ({ life, present, windows }: Time): Array<string | number> => [
  life,
  windows.length,
  ...windows.flatMap(({ keep, size }, i) => [size, keep, present[i]!])
]

/**
 * Adds members to the total and to the present windows. O(n) for n members.
 *
 * KEYS total, and the present window of each kind. ARGV life, how many kinds of windows there are, for each its size, how
 * many are kept and which one is taken for the present one, and the members. Returns whether the estimate of the total
 * may have changed, or `time` with the time when it is another window.
 */
export const add = RedisScript.make({
  name: "unique.add",
  lua: `${beginning}
local changed = 0
for i, key in ipairs(KEYS) do
  for from = 3 + 3 * kinds, #ARGV, 1000 do
    local more = redis.call('PFADD', key, unpack(ARGV, from, math.min(from + 999, #ARGV)))
    if i == 1 and more == 1 then changed = 1 end
  end
  if i == 1 then keep_total(key) else keep_window(key, windows[i - 1], 0) end
end
return changed`,
  params: (keys: ReadonlyArray<string>, time: Time, members: ReadonlyArray<string>) => {
    const args = timeArgs(time)
    for (const member of members) args.push(member)
    return { keys, args }
  },
  result: numberOrTime,
  idempotent: true
})

/**
 * How many there are in at least one of several. O(n) for n keys.
 *
 * KEYS HyperLogLogs. ARGV nothing; or the size of windows and which one is taken for the present one. Returns the estimate,
 * or `time` with the time when it is another window.
 */
export const count = RedisScript.make({
  name: "unique.count",
  lua: `
if ARGV[1] then
  ${clockLua}
  if math.floor(now / tonumber(ARGV[1])) ~= tonumber(ARGV[2]) then return { 'time', now } end
end
return redis.call('PFCOUNT', unpack(KEYS))`,
  params: (keys: ReadonlyArray<string>, window: Window | undefined, present: number) => ({
    keys,
    args: window === undefined ? [] : [window.size, present]
  }),
  result: numberOrTime,
  idempotent: true
})

/**
 * Adds all that others have counted, to the total and to every window that is kept. O(n) for n keys.
 *
 * KEYS groups of the same width, each of a target and its sources: first the totals, then for each kind the windows from
 * the present one backwards. ARGV as of `add`, with the width in place of the members. Returns 1, or `time` with the time
 * when it is another window.
 */
export const merge = RedisScript.make({
  name: "unique.merge",
  lua: `${beginning}
local width = tonumber(ARGV[3 + 3 * kinds])
local at = 0

-- The target, when there was something to add to it.
local function merge()
  local target, sources = KEYS[at + 1], {}
  for i = 2, width do
    if redis.call('EXISTS', KEYS[at + i]) == 1 then sources[#sources + 1] = KEYS[at + i] end
  end
  at = at + width
  if #sources == 0 then return end
  redis.call('PFMERGE', target, unpack(sources))
  return target
end

local total = merge()
if total then keep_total(total) end
for _, window in ipairs(windows) do
  for ago = 0, window.keep - 1 do
    local target = merge()
    if target then keep_window(target, window, ago) end
  end
end
return 1`,
  params: (groups: ReadonlyArray<ReadonlyArray<string>>, time: Time) => ({
    keys: groups.flat(),
    args: [...timeArgs(time), groups[0]!.length]
  }),
  result: numberOrTime,
  idempotent: true
})

/**
 * Removes keys. O(n) for n keys.
 *
 * KEYS all of a counter. ARGV as of `add`, without members. Returns 1, or `time` with the time when it is another window.
 */
export const reset = RedisScript.make({
  name: "unique.reset",
  lua: `${beginning}
for _, key in ipairs(KEYS) do redis.call('UNLINK', key) end
return 1`,
  params: (keys: ReadonlyArray<string>, time: Time) => ({ keys, args: timeArgs(time) }),
  result: numberOrTime,
  idempotent: true
})
