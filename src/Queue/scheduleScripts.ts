/**
 * The Lua of schedules. What a schedule is stands in `schedules` and changes only when somebody changes it; where it is
 * stands in `schedulesDue` and `schedulesState`, so firing a slot writes little.
 *
 * The server decides whether a slot is due, by its own time, and clients say which one comes next: it can't read crons.
 * Each of them says it for a slot of a revision, and only the first one is heard. So a slot is fired once, whoever tries,
 * and however often.
 *
 * The state is `revision flag fired last`: a revision that no other schedule of the queue ever had; `a` active, `n` active
 * and the next slot is not known yet, `p` paused; how many slots were fired; and the last of them, or `-`. As long as the
 * next slot is not known, the instant after which it comes takes its place.
 *
 * All take KEYS as in `keys.ts`, and as ARGV[1] and ARGV[2] whether it is a Cluster, and the channel on which workers are
 * woken there.
 */
import * as Either from "effect/Either"
import type { Reply } from "../RedisClient.js"
import * as RedisScript from "../RedisScript.js"
import { common as finding, params, type Target } from "./controlScripts.js"
import { adding } from "./scripts.js"

/** What the runners of all processes are told when there may be an earlier slot. */
export const CHANGED = "schedules"

/** How many schedules are looked at in one call. */
const LOOKED = 100

/** A schedule as it is stored. */
export interface Row {
  readonly id: string
  readonly revision: string
  readonly flag: "a" | "n" | "p"
  readonly fired: number
  /** The last slot that was fired. */
  readonly last: number | undefined
  /** `Infinity` when there is none. */
  readonly slot: number
  /** JSON of `When`, JSON of `Limits`, the envelope of its jobs and their extras, with NUL between them. */
  readonly text: string
}

const rowOf = (reply: Reply | undefined): Row | undefined => {
  const [id, state, slot, text] = Array.isArray(reply) ? reply : []
  if (typeof id !== "string" || typeof state !== "string" || typeof slot !== "string" || typeof text !== "string") {
    return undefined
  }
  const [revision = "", flag, fired, last] = state.split(" ")
  return {
    id,
    revision,
    flag: flag === "p" || flag === "n" ? flag : "a",
    fired: Number(fired),
    last: last === "-" ? undefined : Number(last),
    slot: slot === "inf" ? Infinity : Number(slot),
    text
  }
}

const rowsOf = (reply: Reply | undefined): ReadonlyArray<Row> | undefined => {
  if (!Array.isArray(reply)) return undefined
  const rows = reply.map(rowOf)
  return rows.every((row) => row !== undefined) ? rows : undefined
}

const common = `${finding}
local function read(id)
  local text = redis.call('HGET', schedules_state, id)
  if text then return string.match(text, '^(%S+) (%S) (%d+) (%S+)$') end
end

local function write(id, revision, flag, fired, last)
  redis.call('HSET', schedules_state, id, revision .. ' ' .. flag .. ' ' .. fired .. ' ' .. last)
end

local function row(id)
  return { id, redis.call('HGET', schedules_state, id) or '', redis.call('ZSCORE', schedules_due, id) or 'inf',
    redis.call('HGET', schedules, id) or '' }
end
`

/** What a job of a schedule is enqueued with: its envelope but for what its slot adds, and its extras. */
const making = `
local function make(id, job, slot)
  local envelope, extras = string.match(redis.call('HGET', schedules, id), '^[^%z]*%z[^%z]*%z([^%z]*)%z(.*)$')
  return add(job, '{"t":' .. whole(now) .. ',"s":' .. slot .. ',' .. envelope, extras)
end
`

/**
 * Makes or changes a schedule. The same again changes nothing. A change of its jobs or limits alone keeps the next slot;
 * else, and for one that has ended, it is the first one from now on. What is paused stays paused. O(log n) with n schedules.
 *
 * ARGV id, how many schedules there may be, channel, text. Returns the schedule, or nothing when there are too many.
 */
export const upsert = RedisScript.make({
  name: "queue.schedule",
  idempotent: true,
  lua: `${common}
local id, text = ARGV[3], ARGV[6]
local old = redis.call('HGET', schedules, id)
if old == text then return row(id) end
if not old and redis.call('ZCARD', schedules_due) >= tonumber(ARGV[4]) then return false end
local revision = whole(now) .. '.' .. redis.call('HINCRBY', meta, 'revision', 1)
local _, flag, fired, last = read(id)
local due = redis.call('ZSCORE', schedules_due, id)
local same = old and string.match(old, '^[^%z]*') == string.match(text, '^[^%z]*')
if flag ~= 'p' and not (same and due and due ~= 'inf') then
  flag, due = 'n', whole(now)
end
redis.call('HSET', schedules, id, text)
redis.call('ZADD', schedules_due, due or 'inf', id)
write(id, revision, flag, fired or 0, last or '-')
redis.call('PUBLISH', ARGV[5], '${CHANGED}')
return row(id)`,
  params: (target: Target, id: string, most: number, control: string, text: string) =>
    params(target, id, most, control, text),
  result: (reply): Either.Either<Row | undefined, string> => {
    const row = rowOf(reply)
    return reply === null || row !== undefined ? Either.right(row) : Either.left("a schedule or nothing")
  }
})

/**
 * One schedule. O(1).
 *
 * ARGV id. Returns it or nothing.
 */
export const get = RedisScript.make({
  name: "queue.getSchedule",
  idempotent: true,
  lua: `${common}
if redis.call('HEXISTS', schedules, ARGV[3]) == 0 then return false end
return row(ARGV[3])`,
  params: (target: Target, id: string) => params(target, id),
  result: (reply): Either.Either<Row | undefined, string> => {
    const row = rowOf(reply)
    return reply === null || row !== undefined ? Either.right(row) : Either.left("a schedule or nothing")
  }
})

/**
 * Some schedules, in the order of their next slots. O(log n + m) for m of n, and O(n) for a far offset.
 *
 * ARGV offset, limit. Returns schedules, and where the next page begins or 0.
 */
export const list = RedisScript.make({
  name: "queue.listSchedules",
  idempotent: true,
  lua: `${common}
local offset, limit = tonumber(ARGV[3]), tonumber(ARGV[4])
local found = redis.call('ZRANGE', schedules_due, offset, offset + limit - 1)
local rows = {}
for i, id in ipairs(found) do rows[i] = row(id) end
return { rows, redis.call('ZCARD', schedules_due) > offset + limit and offset + limit or 0 }`,
  params: (target: Target, offset: number, limit: number) => params(target, offset, limit),
  result: (reply): Either.Either<{ readonly rows: ReadonlyArray<Row>; readonly next: number }, string> => {
    const [found, next] = Array.isArray(reply) ? reply : []
    const rows = rowsOf(found)
    return rows !== undefined && typeof next === "number"
      ? Either.right({ rows, next })
      : Either.left("schedules and a number")
  }
})

/**
 * Pauses a schedule. O(log n).
 *
 * ARGV id. Returns whether there is one.
 */
export const pause = RedisScript.make({
  name: "queue.pauseSchedule",
  idempotent: true,
  lua: `${common}
local id = ARGV[3]
local revision, _, fired, last = read(id)
if not revision then return 0 end
-- A full server takes what comes behind a removal.
redis.call('ZREM', schedules_due, id)
redis.call('ZADD', schedules_due, 'inf', id)
write(id, revision, 'p', fired, last)
return 1`,
  params: (target: Target, id: string) => params(target, id),
  result: RedisScript.boolean
})

/**
 * Ends the pause of a schedule. Slots from now on count. O(log n).
 *
 * ARGV id, channel. Returns whether there is one.
 */
export const resume = RedisScript.make({
  name: "queue.resumeSchedule",
  idempotent: true,
  lua: `${common}
local id = ARGV[3]
local revision, flag, fired, last = read(id)
if not revision then return 0 end
if flag == 'p' then
  -- A full server takes what comes behind a removal.
  redis.call('ZREM', schedules_due, id)
  redis.call('ZADD', schedules_due, whole(now), id)
  write(id, revision, 'n', fired, last)
  redis.call('PUBLISH', ARGV[4], '${CHANGED}')
end
return 1`,
  params: (target: Target, id: string, control: string) => params(target, id, control),
  result: RedisScript.boolean
})

/**
 * Removes a schedule, and perhaps the job of its last slot when that waits. O(log n), and O(m) with m running jobs when
 * the job is removed too.
 *
 * ARGV id, whether the job is removed. Returns whether there was one.
 */
export const remove = RedisScript.make({
  name: "queue.removeSchedule",
  lua: `${common}
local id = ARGV[3]
local revision, _, _, last = read(id)
if not revision then return 0 end
redis.call('HDEL', schedules, id)
redis.call('HDEL', schedules_state, id)
redis.call('ZREM', schedules_due, id)
if ARGV[4] == '1' and last ~= '-' then
  local job = 'schedule:' .. id .. ':' .. last
  local state = state_of(job)
  if state == 'ready' or state == 'delayed' then
    redis.call('ZREM', delayed, job)
    local level, place = level_of(job), redis.call('HGET', group_of, job)
    forget(job)
    if state == 'ready' then leave(level, job, place) end
    if fresh then mark() end
  end
end
return 1`,
  params: (target: Target, id: string, withJob: boolean) => params(target, id, withJob ? 1 : 0),
  result: RedisScript.boolean
})

/**
 * Makes a job of a schedule at once. O(1).
 *
 * ARGV limit of the queue or 0, id, id of the job. Returns the letter of `Received` and the id of the other job, or nothing.
 */
export const fire = RedisScript.make({
  name: "queue.fireSchedule",
  lua: `${common}
if redis.call('HEXISTS', schedules, ARGV[4]) == 0 then return false end
local limit = tonumber(ARGV[3])
${adding}${making}
local letter = make(ARGV[4], ARGV[5], whole(now))
added()
return { letter, ids[1] or ARGV[5] }`,
  params: (target: Target, limit: number, id: string, job: string) => params(target, limit, id, job),
  result: (reply): Either.Either<{ readonly letter: string; readonly id: string } | undefined, string> => {
    if (reply === null) return Either.right(undefined)
    const [letter, id] = Array.isArray(reply) ? reply : []
    return typeof letter === "string" && typeof id === "string"
      ? Either.right({ letter, id })
      : Either.left("a letter and an id, or nothing")
  }
})

/** What somebody wants to do at a slot. */
export interface Move {
  readonly id: string
  readonly revision: string
  readonly slot: number
  /** The next one; nothing when the schedule ends with it. */
  readonly next: number | undefined
  /** How late it may be fired, in milliseconds; nothing when it is not to be fired. */
  readonly patience: number | undefined
}

/** What is at the head of the schedules. */
export interface Looked {
  /** One letter for each move: of `Received` when a slot was fired, `m` when it was passed over, `-` when nothing happened. */
  readonly outcomes: string
  readonly now: number
  /** Those that are due, and those that will be next. Of their texts only `When` and `Limits`. */
  readonly rows: ReadonlyArray<Row>
}

/**
 * Moves schedules on, and looks which ones are next. O(n log m) with n moves and schedules at the head, of m.
 *
 * ARGV limit of the queue or 0, and for each move id, revision, slot, the next slot or nothing, and how late it may be
 * fired: nothing when it is not fired, `-` when that does not matter.
 */
export const tick = RedisScript.make({
  name: "queue.fireSchedules",
  idempotent: true,
  lua: `${common}
local limit = tonumber(ARGV[3])
local outcomes = {}
local function moves()
${adding}${making}
  local done = {}
  for i = 4, #ARGV, 5 do
    local id, slot, patience = ARGV[i], tonumber(ARGV[i + 2]), ARGV[i + 4]
    local revision, flag, fired, last = read(id)
    local outcome = '-'
    if
      revision == ARGV[i + 1] and flag ~= 'p' and slot <= now and tonumber(redis.call('ZSCORE', schedules_due, id)) == slot
      and (patience == '' or patience == '-' or now - slot <= tonumber(patience))
    then
      outcome = patience == '' and 'm' or make(id, 'schedule:' .. id .. ':' .. ARGV[i + 2], ARGV[i + 2])
      if outcome ~= 'f' then
        if outcome ~= 'm' then fired, last = fired + 1, ARGV[i + 2] end
        redis.call('ZADD', schedules_due, ARGV[i + 3] == '' and 'inf' or ARGV[i + 3], id)
        write(id, revision, 'a', whole(fired), last)
      end
    end
    done[#done + 1] = outcome
  end
  added()
  return done
end
if #ARGV > 3 then outcomes = moves() end
local rows = {}
local function tell(from, to)
  for _, id in ipairs(redis.call('ZRANGE', schedules_due, from, to, 'BYSCORE', 'LIMIT', 0, ${LOOKED})) do
    local found = row(id)
    found[4] = string.match(found[4], '^[^%z]*%z[^%z]*') or ''
    rows[#rows + 1] = found
  end
end
tell('-inf', whole(now))
local first = redis.call('ZRANGE', schedules_due, '(' .. whole(now), '(+inf', 'BYSCORE', 'LIMIT', 0, 1, 'WITHSCORES')[2]
if first then tell(first, first) end
return { table.concat(outcomes), now, rows }`,
  params: (target: Target, limit: number, moves: ReadonlyArray<Move>) => {
    const args: Array<string> = []
    for (const { id, next, patience, revision, slot } of moves) {
      args.push(
        id,
        revision,
        String(slot),
        next === undefined ? "" : String(next),
        patience === undefined ? "" : patience === Infinity ? "-" : String(patience)
      )
    }
    return params(target, limit, ...args)
  },
  result: (reply): Either.Either<Looked, string> => {
    const [outcomes, now, found] = Array.isArray(reply) ? reply : []
    const rows = rowsOf(found)
    return typeof outcomes === "string" && typeof now === "number" && rows !== undefined
      ? Either.right({ outcomes, now, rows })
      : Either.left("letters, the time and schedules")
  }
})
