/**
 * The Lua of what operates the groups of a queue. All take KEYS and ARGV as the scripts in `controlScripts.ts`.
 */
import * as Either from "effect/Either"
import type { Reply } from "../RedisClient.js"
import * as RedisScript from "../RedisScript.js"
import { common, params, type Target } from "./controlScripts.js"

/** A group as it is stored. */
export interface Row {
  readonly group: string
  readonly waiting: number
  readonly running: number
  readonly paused: boolean
  /** Its own limits, where it has some; what stands for none is 0. */
  readonly concurrency: number | undefined
  readonly limit: number | undefined
  /** Milliseconds. */
  readonly window: number | undefined
  /** How many turns of others come before its own; nothing when it is held back. */
  readonly turn: number | undefined
  /** When its rate admits the next job, in milliseconds. */
  readonly later: number | undefined
}

const numberOf = (text: string | undefined): number | undefined =>
  text === undefined || text === "-" ? undefined : Number(text)

const rowOf = (reply: Reply): Row | undefined => {
  const [group, waiting, running, own, turn, later] = Array.isArray(reply) ? reply : []
  if (
    typeof group !== "string" || typeof waiting !== "number" || typeof running !== "number" ||
    typeof own !== "string" || typeof turn !== "number" || typeof later !== "string"
  ) {
    return undefined
  }
  const [paused, concurrency, limit, window] = own.split(" ")
  return {
    group,
    waiting,
    running,
    paused: paused === "1",
    concurrency: numberOf(concurrency),
    limit: numberOf(limit),
    window: numberOf(window),
    turn: turn < 0 || waiting === 0 ? undefined : turn,
    later: later === "" ? undefined : Number(later)
  }
}

const row = `
local function row(group)
  local first, last = span(group)
  local later = redis.call('ZSCORE', group_later, group)
  return { group, redis.call('ZLEXCOUNT', group_jobs, first, last), redis.call('ZLEXCOUNT', group_running, first, last),
    redis.call('HGET', group_limits, group) or '0 - - -', redis.call('ZRANK', group_turns, group) or -1, later or '' }
end`

/**
 * One group. O(log n) with n jobs and groups.
 *
 * ARGV group. Returns the group.
 */
export const get = RedisScript.make({
  name: "queue.group",
  lua: `${common}${row}
return row(ARGV[3])`,
  params: (target: Target, group: string) => params(target, group),
  result: (reply): Either.Either<Row, string> => {
    const found = rowOf(reply)
    return found === undefined ? Either.left("a group") : Either.right(found)
  },
  idempotent: true
})

/**
 * Some of the groups that have jobs which are ready or run, in the order of the bytes of their names. O(m log n) for m of
 * n jobs.
 *
 * ARGV the group behind which they begin or an empty text, limit. Returns groups, and whether there are more.
 */
export const list = RedisScript.make({
  name: "queue.groups",
  lua: `${common}${row}
local after, limit = ARGV[3], tonumber(ARGV[4])

local function behind(key)
  local entry = redis.call('ZRANGEBYLEX', key, after == '' and '-' or '(' .. after .. '\\1', '+', 'LIMIT', 0, 1)[1]
  return entry and string.sub(entry, 1, string.find(entry, '\\0', 1, true) - 1)
end

-- The server compares bytes, and Lua as people do.
local function first_of(a, b)
  if not a or not b then return a or b end
  for i = 1, math.min(#a, #b) do
    local x, y = string.byte(a, i), string.byte(b, i)
    if x ~= y then return x < y and a or b end
  end
  return #a < #b and a or b
end

local found = {}
while true do
  local group = first_of(behind(group_jobs), behind(group_running))
  if not group then return { found, 0 } end
  if #found == limit then return { found, 1 } end
  found[#found + 1] = row(group)
  after = group
end`,
  params: (target: Target, after: string, limit: number) => params(target, after, limit),
  result: (reply): Either.Either<{ readonly rows: ReadonlyArray<Row>; readonly more: boolean }, string> => {
    const [found, more] = Array.isArray(reply) ? reply : []
    const rows = Array.isArray(found) ? found.map(rowOf) : [undefined]
    return rows.every((row) => row !== undefined)
      ? Either.right({ rows, more: more === 1 })
      : Either.left("a list of groups")
  },
  idempotent: true
})

/**
 * Pauses a group, resumes it, or sets its limits. It takes its turn again at once, unless something else holds it. O(log n)
 * with n groups.
 *
 * ARGV group, and `p` and whether it is paused, or `l` and its limits. Returns nothing.
 */
export const configure = RedisScript.make({
  name: "queue.configureGroup",
  lua: `${common}
local group = ARGV[3]
local halt, limits = string.match(redis.call('HGET', group_limits, group) or '0 - - -', '^(%d) (.*)$')
if ARGV[4] == 'p' then halt = ARGV[5] else limits = ARGV[5] end
-- A full server takes what comes behind a removal.
redis.call('HDEL', group_limits, group)
if halt ~= '0' or limits ~= '- - -' then redis.call('HSET', group_limits, group, halt .. ' ' .. limits) end
redis.call('SREM', group_held, group)
redis.call('ZREM', group_later, group)
local first, last = span(group)
if #redis.call('ZRANGEBYLEX', group_jobs, first, last, 'LIMIT', 0, 1) > 0 then turn(group) end
mark()`,
  params: (target: Target, group: string, what: "p" | "l", value: string) => params(target, group, what, value),
  result: RedisScript.reply,
  idempotent: true
})
