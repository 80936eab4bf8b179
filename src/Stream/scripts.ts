/**
 * The Lua of streams, and what their keys are called.
 */
import * as Either from "effect/Either"
import { hashTag } from "../internal/slot.js"
import type { Reply } from "../RedisClient.js"
import * as RedisScript from "../RedisScript.js"

/** A key beside that of a stream, in the same slot. */
export const beside = (key: string, suffix: string): string =>
  hashTag(key) === key ? `{${key}}:${suffix}` : `${key}:${suffix}`

/** How many entries an exact trim looks at in one script. */
const PAGE = 1000

/**
 * The functions that compare ids. Both halves have up to 20 digits, more than a number of Lua holds.
 */
export const LESS = `
local function halves(id)
  local time, sequence = string.match(id, '^(%d+)-(%d+)$')
  if time then return time, sequence end
  return id, '0'
end

local function shorter(a, b)
  if #a ~= #b then return #a < #b end
  return a < b
end

local function less(a, b)
  local time_a, sequence_a = halves(a)
  local time_b, sequence_b = halves(b)
  if time_a ~= time_b then return shorter(time_a, time_b) end
  return shorter(sequence_a, sequence_b)
end`

/**
 * The last id that a stream has given, `0-0` without a stream.
 *
 * KEYS: the stream. O(1), and what its first and last entries are long.
 */
export const lastId = RedisScript.make({
  name: "streamLastId",
  lua: `
if redis.call('EXISTS', KEYS[1]) == 0 then return '0-0' end
local info = redis.call('XINFO', 'STREAM', KEYS[1])
for i = 1, #info, 2 do
  if info[i] == 'last-generated-id' then return info[i + 1] end
end`,
  params: (key: string) => ({ keys: [key], args: [] }),
  result: RedisScript.string,
  idempotent: true
})

export interface Trimming {
  readonly by: "length" | "id" | "age"
  /** A number of entries, an id, or milliseconds. */
  readonly to: string | number
  readonly exact: boolean
}

export interface Trimmed {
  readonly removed: number
  /** The group for whose sake entries stay. */
  readonly heldBy: string | undefined
  readonly more: boolean
}

const isTrimmed = (reply: Reply): reply is readonly [number, string | null, number] =>
  Array.isArray(reply) && reply.length === 3 && typeof reply[0] === "number" && typeof reply[2] === "number" &&
  (reply[1] === null || typeof reply[1] === "string")

/**
 * Trims, but keeps what a group has not been given or not acknowledged.
 *
 * KEYS: the stream. ARGV: `length`, `id` or `age`, to which one, `=` or `~`, and 1 to look at no group. Returns how many entries were removed, the
 * group that stands in the way or nothing, and whether there is more to do. O(groups + removed), of at most ${PAGE}
 * entries for an exact length.
 */
export const trim = RedisScript.make({
  name: "streamTrim",
  lua: `
local key, by, to, how, force = KEYS[1], ARGV[1], ARGV[2], ARGV[3], ARGV[4] == '1'
if redis.call('EXISTS', key) == 0 then return {0, false, 0} end
${LESS}

-- From here on somebody needs the entries.
local safe, holder
for _, info in ipairs(force and {} or redis.call('XINFO', 'GROUPS', key)) do
  local group = {}
  for i = 1, #info, 2 do group[info[i]] = info[i + 1] end
  local first
  if group['pending'] > 0 then
    first = redis.call('XPENDING', key, group['name'])[2]
  else
    local waiting = redis.call('XRANGE', key, '(' .. group['last-delivered-id'], '+', 'COUNT', 1)
    first = waiting[1] and waiting[1][1]
  end
  if first and (not safe or less(first, safe)) then safe, holder = first, group['name'] end
end

if by ~= 'length' then
  local target = to
  if by == 'age' then
    local clock = redis.call('TIME')
    target = string.format('%.0f', math.max(0, clock[1] * 1000 + math.floor(clock[2] / 1000) - tonumber(to)))
  end
  local held = false
  if safe and less(safe, target) then target, held = safe, holder end
  return {redis.call('XTRIM', key, 'MINID', how, target), held, 0}
end

local surplus = redis.call('XLEN', key) - tonumber(to)
if surplus <= 0 then return {0, false, 0} end
if not safe then return {redis.call('XTRIM', key, 'MAXLEN', how, to), false, 0} end
if how == '~' then
  local removed = redis.call('XTRIM', key, 'MINID', '~', safe, 'LIMIT', surplus)
  local oldest = redis.call('XRANGE', key, '-', '+', 'COUNT', 1)
  local held = removed < surplus and oldest[1] and not less(oldest[1][1], safe) and holder
  return {removed, held, 0}
end
local free = redis.call('XRANGE', key, '-', '(' .. safe, 'COUNT', math.min(surplus, ${PAGE}))
if #free > 0 then redis.call('XTRIM', key, 'MAXLEN', '=', redis.call('XLEN', key) - #free) end
if #free == surplus then return {#free, false, 0} end
if #free == ${PAGE} then return {#free, false, 1} end
return {#free, holder, 0}`,
  params: (key: string, { by, exact, to }: Trimming, force: boolean) => ({
    keys: [key],
    args: [by, to, exact ? "=" : "~", force ? 1 : 0]
  }),
  result: (reply): Either.Either<Trimmed, string> =>
    isTrimmed(reply)
      ? Either.right({ removed: reply[0], heldBy: reply[1] ?? undefined, more: reply[2] === 1 })
      : Either.left("a count, the name of a group or nothing, and a flag")
})
