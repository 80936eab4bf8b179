/**
 * The Lua of what operates a queue: looking at its jobs, moving and removing them, and its dead letters. What the keys
 * hold is said in `keys.ts`; producers and workers have scripts of their own in `scripts.ts`.
 *
 * A job is in exactly one state. Delayed and dead ones are found in O(log n), and a job is ready when it is nowhere else.
 * Whether it runs is looked up among all that run: the lease is stored under the worker, which is what makes settling
 * cheap. A job that leaves the list of its level before its turn leaves its id there, and the claim skips it; taking it
 * out would be O(n).
 *
 * No script touches more than `PAGE` jobs, but for `obliterate`, which unlinks whole keys. All take KEYS as in `keys.ts`,
 * and as ARGV[1] and ARGV[2] the switches of `resultScripts.ts`, and the channel on which workers are woken on a Cluster.
 */
import * as Either from "effect/Either"
import type { Reply } from "../RedisClient.js"
import * as RedisScript from "../RedisScript.js"
import { reviving } from "./flowLua.js"
import { type Keys, LEVELS, names } from "./keys.js"
import { switches } from "./resultScripts.js"
import { moving, type Notices } from "./scripts.js"

/** A queue as these scripts know it. */
export interface Target extends Notices {
  readonly keys: Keys
}

export type State = "ready" | "delayed" | "blocked" | "running" | "dead" | "completed"

/** How many jobs one script touches at most. */
export const PAGE = 1000

export const params = (target: Target, ...args: ReadonlyArray<string | number>) => ({
  keys: target.keys.all,
  args: [switches(target), target.wake, ...args]
})

/** Behind `common` of `scripts.ts`: where a job is, and how it goes. */
export const common = `
local uses, channel = ARGV[1], ARGV[2]
${moving}
local function whole(n) return string.format('%.0f', n) end

-- O(n) with n running jobs.
local function lease_of(id)
  local pattern = '*|' .. string.gsub(id, '[%*%?%[%]%\\\\]', '\\\\%0')
  local cursor = '0'
  repeat
    local part = redis.call('ZSCAN', leases, cursor, 'MATCH', pattern, 'COUNT', 1000)
    cursor = part[1]
    for i = 1, #part[2], 2 do
      if string.match(part[2][i], '|(.*)$') == id then return part[2][i], tonumber(part[2][i + 1]) end
    end
  until cursor == '0'
end

-- The state of a job, and the member and the end of the lease of one that runs.
local function state_of(id)
  if redis.call('HEXISTS', jobs, id) == 0 then return end
  if redis.call('ZSCORE', dead, id) then return 'dead' end
  if redis.call('ZSCORE', delayed, id) then return 'delayed' end
  if redis.call('ZSCORE', blocked, id) then return 'blocked' end
  if redis.call('ZSCORE', kept, id) then return 'completed' end
  local member, ends = lease_of(id)
  if member then return 'running', member, ends end
  return 'ready'
end

-- Of a job that is gone its place in its group has to be given.
local function leave(level, id, place)
  if not leave_group(id, place) then redis.call('HINCRBY', removed, level .. '|' .. id, 1) end
end

-- Removes a job that is in this state. One that runs has the lease with this member.
local function discard(id, state, member)
  if state == 'running' then
    redis.call('ZREM', leases, member)
    release(member, id)
  end
  if state == 'delayed' then redis.call('ZREM', delayed, id) end
  if state == 'dead' then
    redis.call('ZREM', dead, id)
    redis.call('HDEL', dead_info, id)
  end
  if state == 'completed' then
    redis.call('ZREM', kept, id)
    redis.call('HDEL', kept_info, id)
  end
  local level, place = level_of(id), redis.call('HGET', group_of, id)
  forget(id)
  if state == 'ready' then leave(level, id, place) end
end

-- Tells whoever runs a job to stop.
local function stop(id, control)
  -- A full server takes what comes behind a removal.
  redis.call('SREM', cancelled, id)
  redis.call('SADD', cancelled, id)
  redis.call('PUBLISH', control, 'cancel ' .. id)
end
`

// ---------------------------------------------------------------------------------------------------------------------
// Settings
// ---------------------------------------------------------------------------------------------------------------------

/** What a queue is set to, and what became of its jobs. */
export interface Status {
  readonly ready: number
  readonly delayed: number
  readonly blocked: number
  readonly running: number
  readonly dead: number
  readonly kept: number
  readonly paused: boolean
  readonly concurrency: number | undefined
  readonly limit: number | undefined
  /** Milliseconds. */
  readonly window: number | undefined
  readonly completed: number
  readonly failed: number
  readonly died: number
}

const numberOf = (text: Reply | undefined): number | undefined => typeof text === "string" ? Number(text) : undefined

/**
 * How many jobs there are in each state, the settings and the counters. O(1).
 *
 * Returns jobs, delayed, running, dead and kept ones, fields of `meta`, and blocked jobs.
 */
export const status = RedisScript.make({
  name: "queue.status",
  lua: `${names}
return { redis.call('HLEN', jobs), redis.call('ZCARD', delayed), redis.call('ZCARD', leases), redis.call('ZCARD', dead),
  redis.call('ZCARD', kept), redis.call('HMGET', meta, 'paused', 'concurrency', 'limit', 'window', 'completed', 'failed', 'dead'),
  redis.call('ZCARD', blocked) }`,
  params,
  result: (reply): Either.Either<Status, string> => {
    const [jobs, delayed, running, dead, kept, meta, blocked] = Array.isArray(reply) ? reply : []
    if (
      typeof jobs !== "number" || typeof delayed !== "number" || typeof running !== "number" ||
      typeof dead !== "number" || typeof kept !== "number" || !Array.isArray(meta) || typeof blocked !== "number"
    ) {
      return Either.left("five numbers and a list")
    }
    const [paused, concurrency, limit, window, completed, failed, died] = meta
    return Either.right({
      ready: jobs - delayed - blocked - running - dead - kept,
      delayed,
      blocked,
      running,
      dead,
      kept,
      paused: paused === "1",
      concurrency: numberOf(concurrency),
      limit: numberOf(limit),
      window: numberOf(window),
      completed: numberOf(completed) ?? 0,
      failed: numberOf(failed) ?? 0,
      died: numberOf(died) ?? 0
    })
  },
  idempotent: true
})

/**
 * Changes settings, and wakes those who wait: they may do more now. O(1).
 *
 * ARGV pairs of a field of `meta` and its value, or an empty text to remove it. Returns nothing.
 */
export const configure = RedisScript.make({
  name: "queue.configure",
  lua: `${common}
local was_paused = redis.call('HEXISTS', meta, 'paused')
for i = 3, #ARGV, 2 do
  -- A full server takes what comes behind a removal.
  redis.call('HDEL', meta, ARGV[i])
  if ARGV[i + 1] ~= '' then redis.call('HSET', meta, ARGV[i], ARGV[i + 1]) end
end
-- What was started before there was a limit is not counted.
if redis.call('HEXISTS', meta, 'limit') == 0 then redis.call('DEL', starts) end
local is_paused = redis.call('HEXISTS', meta, 'paused')
if is_paused ~= was_paused then event(is_paused == 1 and 'paused' or 'resumed', '') end
mark()`,
  params: (target: Target, settings: Readonly<Record<string, string | number>>) =>
    params(target, ...Object.entries(settings).flat()),
  result: RedisScript.reply,
  idempotent: true
})

// ---------------------------------------------------------------------------------------------------------------------
// Looking
// ---------------------------------------------------------------------------------------------------------------------

/** A job as it is stored. */
export interface Row {
  readonly id: string
  readonly state: State
  readonly envelope: string
  readonly level: number
  readonly failures: number
  /**
   * When it is due, since when it is blocked, when its lease ends, when it died or was completed, in milliseconds; 0 for
   * one that is ready.
   */
  readonly at: number
  /** About a dead letter: JSON. About a completed one: the JSON of its result, or nothing. */
  readonly info: string
}

export interface Page {
  readonly rows: ReadonlyArray<Row>
  /** Where the next page begins; 0 when there is none. */
  readonly next: number
}

const states: ReadonlyArray<unknown> = [
  "ready",
  "delayed",
  "blocked",
  "running",
  "dead",
  "completed"
] satisfies ReadonlyArray<State>

const isState = (u: unknown): u is State => states.includes(u)

export const rowOf = (reply: Reply): Row | undefined => {
  const [id, state, envelope, level, failures, at, info] = Array.isArray(reply) ? reply : []
  return typeof id === "string" && isState(state) && typeof envelope === "string" && typeof level === "number" &&
      typeof failures === "number" && typeof at === "string" && typeof info === "string"
    ? { id, state, envelope, level, failures, at: Number(at), info }
    : undefined
}

const page = (reply: Reply): Either.Either<Page, string> => {
  const [found, next] = Array.isArray(reply) ? reply : []
  const rows = Array.isArray(found) ? found.map(rowOf) : [undefined]
  return typeof next === "number" && rows.every((row) => row !== undefined)
    ? Either.right({ rows, next })
    : Either.left("a list of jobs and a number")
}

export const rows = `
local function row(id, state, at)
  local failed, info = redis.call('HGET', failures, id), ''
  if state == 'dead' then info = redis.call('HGET', dead_info, id) or '' end
  if state == 'completed' then
    failed, info = string.match(redis.call('HGET', kept_info, id) or '0 ', '^(%d+) (.*)$')
  end
  return { id, state, redis.call('HGET', jobs, id) or '', level_of(id), tonumber(failed or 0),
    at and whole(math.floor(at)) or '0', info }
end`

/**
 * One job. O(1), and O(n) with n running jobs when it runs or is ready.
 *
 * ARGV id. Returns the job or nothing.
 */
export const get = RedisScript.make({
  name: "queue.get",
  lua: `${common}${rows}
local id = ARGV[3]
local state, _, ends = state_of(id)
if not state then return false end
local at = ends
if state == 'delayed' then at = redis.call('ZSCORE', delayed, id) end
if state == 'dead' then at = redis.call('ZSCORE', dead, id) end
if state == 'blocked' then at = redis.call('ZSCORE', blocked, id) end
if state == 'completed' then at = redis.call('ZSCORE', kept, id) end
return row(id, state, at)`,
  params: (target: Target, id: string) => params(target, id),
  result: (reply): Either.Either<Row | undefined, string> => {
    if (reply === null) return Either.right(undefined)
    const row = rowOf(reply)
    return row === undefined ? Either.left("a job or nothing") : Either.right(row)
  },
  idempotent: true
})

/**
 * Some of the jobs of a state: those that are ready and delayed in the order in which they will start, blocked ones by when
 * they came, running ones by the end of their leases, and dead and completed ones by when they ended. O(log n + m) for m
 * jobs; O(n) for the place in a long list.
 *
 * ARGV state, offset, limit, 1 for the last ones first. Returns jobs, and where the next page begins or 0.
 */
export const list = RedisScript.make({
  name: "queue.list",
  lua: `${common}${rows}
local state, offset, limit, newest = ARGV[3], tonumber(ARGV[4]), tonumber(ARGV[5]), ARGV[6] == '1'
local found, seen, total = {}, 0, 0
if state == 'ready' then
  local skip = offset
  for level = ${LEVELS - 1}, 0, -1 do
    local length = redis.call('LLEN', ready(level))
    total = total + length
    if skip >= length then
      skip = skip - length
    elseif seen < limit then
      local ids = redis.call('LRANGE', ready(level), skip, skip + limit - seen - 1)
      for i, id in ipairs(ids) do
        local left = redis.call('HGET', removed, level .. '|' .. id)
        -- Of several the first ones are no job. This is O(n), and rare.
        local there = not left or redis.call('LPOS', ready(level), id, 'RANK', left + 1) == skip + i - 1
        if there and redis.call('HEXISTS', jobs, id) == 1 then found[#found + 1] = row(id, 'ready') end
      end
      skip = 0
      seen = seen + #ids
    end
  end
  local length = redis.call('ZCARD', group_jobs)
  total = total + length
  if skip < length and seen < limit then
    local part = redis.call('ZRANGE', group_jobs, skip, skip + limit - seen - 1)
    for _, entry in ipairs(part) do
      local id = string.sub(entry, string.find(entry, '\\0', 1, true) + 18)
      if redis.call('HEXISTS', jobs, id) == 1 then found[#found + 1] = row(id, 'ready') end
    end
    seen = seen + #part
  end
else
  local key = ({ delayed = delayed, blocked = blocked, dead = dead, completed = kept })[state] or leases
  total = redis.call('ZCARD', key)
  local part = redis.call(newest and 'ZREVRANGE' or 'ZRANGE', key, offset, offset + limit - 1, 'WITHSCORES')
  seen = #part / 2
  for i = 1, #part, 2 do
    local id = state == 'running' and string.match(part[i], '|(.*)$') or part[i]
    found[#found + 1] = row(id, state, part[i + 1])
  end
end
return { found, offset + seen < total and seen > 0 and offset + seen or 0 }`,
  params: (target: Target, state: State, offset: number, limit: number, newest: boolean) =>
    params(target, state, offset, limit, newest ? 1 : 0),
  result: page,
  idempotent: true
})

// ---------------------------------------------------------------------------------------------------------------------
// One job
// ---------------------------------------------------------------------------------------------------------------------

/** What came of it: `ok`, or the state that stands in the way, or `missing`. */
export type Outcome = "ok" | "missing" | State

const outcome = (reply: Reply): Either.Either<Outcome, string> =>
  reply === "ok" || reply === "missing" || isState(reply)
    ? Either.right(reply)
    : Either.left("ok, missing or a state")

/**
 * Removes a job that does not run. O(log n), and as `get`.
 *
 * ARGV id. Returns an outcome.
 */
export const remove = RedisScript.make({
  name: "queue.remove",
  lua: `${common}
local id = ARGV[3]
local state, member, ends = state_of(id)
if not state then return 'missing' end
-- A lease that is over binds nobody: whoever had it can't settle the job any more.
if state == 'running' and ends > now then return 'running' end
discard(id, state, member)
if fresh then mark() end
publish()
return 'ok'`,
  params: (target: Target, id: string) => params(target, id),
  result: outcome
})

/**
 * Tells whoever runs a job to stop. O(n) with n running jobs.
 *
 * ARGV id, channel. Returns whether it runs.
 */
export const cancel = RedisScript.make({
  name: "queue.cancel",
  lua: `${common}
local id = ARGV[3]
local member, ends = lease_of(id)
if not member or ends <= now then return 0 end
stop(id, ARGV[4])
return 1`,
  params: (target: Target, id: string, channel: string) => params(target, id, channel),
  result: RedisScript.boolean,
  idempotent: true
})

/**
 * Makes a delayed job ready. O(log n), and as `get` when it is not delayed.
 *
 * ARGV id. Returns an outcome.
 */
export const promote = RedisScript.make({
  name: "queue.promote",
  lua: `${common}
local id = ARGV[3]
if redis.call('ZREM', delayed, id) == 0 then return state_of(id) or 'missing' end
put(id, level_of(id))
mark()
return 'ok'`,
  params: (target: Target, id: string) => params(target, id),
  result: outcome
})

/**
 * Changes when a delayed job is due. O(log n), and as `get` when it is not delayed.
 *
 * ARGV id, milliseconds, whether they are from now on. Returns an outcome.
 */
export const changeDelay = RedisScript.make({
  name: "queue.changeDelay",
  lua: `${common}
local id, due = ARGV[3], tonumber(ARGV[4])
if not redis.call('ZSCORE', delayed, id) then return state_of(id) or 'missing' end
if ARGV[5] == '1' then due = now + due end
delay(id, due)
-- A worker that sleeps until the first is due has to know that there is an earlier one.
if redis.call('ZRANGE', delayed, 0, 0)[1] == id then mark() end
return 'ok'`,
  params: (target: Target, id: string, millis: number, fromNow: boolean) => params(target, id, millis, fromNow ? 1 : 0),
  result: outcome,
  idempotent: true
})

/**
 * Gives a job that is ready, delayed or blocked another priority; behind those that have it already. As `get`.
 *
 * ARGV id, level. Returns an outcome.
 */
export const changePriority = RedisScript.make({
  name: "queue.changePriority",
  lua: `${common}
local id, level = ARGV[3], tonumber(ARGV[4])
local state = state_of(id)
if state ~= 'ready' and state ~= 'delayed' and state ~= 'blocked' then return state or 'missing' end
if level == level_of(id) then return 'ok' end
local before, place = level_of(id), redis.call('HGET', group_of, id)
if level == 0 then redis.call('HDEL', levels, id) else redis.call('HSET', levels, id, level) end
if state == 'ready' then
  put(id, level_of(id))
  leave(before, id, place)
end
return 'ok'`,
  params: (target: Target, id: string, level: number) => params(target, id, level),
  result: outcome,
  idempotent: true
})

// ---------------------------------------------------------------------------------------------------------------------
// Many jobs
// ---------------------------------------------------------------------------------------------------------------------

/** How many were removed, and how many may still be there. */
export interface Removed {
  readonly removed: number
  readonly left: number
}

const removedOf = (reply: Reply): Either.Either<Removed, string> => {
  const [removed, left] = Array.isArray(reply) ? reply : []
  return typeof removed === "number" && typeof left === "number"
    ? Either.right({ removed, left })
    : Either.left("two numbers")
}

/**
 * Removes jobs that wait. O(m log n) for m of n jobs, no more than a page.
 *
 * ARGV whether delayed and blocked ones, too. Returns how many, and how many places may still be there.
 */
export const drain = RedisScript.make({
  name: "queue.drain",
  lua: `${common}
local budget, gone, left = ${PAGE}, 0, 0
for level = ${LEVELS - 1}, 0, -1 do
  local ids = budget > 0 and redis.call('LPOP', ready(level), budget) or {}
  budget = budget - #ids
  for _, id in ipairs(ids) do
    if not skips(level, id) then
      forget(id)
      gone = gone + 1
    end
  end
  left = left + redis.call('LLEN', ready(level))
end
local entries = budget > 0 and redis.call('ZPOPMIN', group_jobs, budget) or {}
budget = budget - #entries / 2
for i = 1, #entries, 2 do
  forget(string.sub(entries[i], string.find(entries[i], '\\0', 1, true) + 18))
  gone = gone + 1
end
local waiting = redis.call('ZCARD', group_jobs)
left = left + waiting
if waiting == 0 then redis.call('DEL', group_turns, group_later, group_held) end
if ARGV[3] == '1' then
  local ids = budget > 0 and redis.call('ZRANGE', delayed, 0, budget - 1) or {}
  for _, id in ipairs(ids) do
    redis.call('ZREM', delayed, id)
    forget(id)
    gone = gone + 1
  end
  left = left + redis.call('ZCARD', delayed)
  -- What its children have to be told counts, too.
  while budget > 0 do
    local id = redis.call('ZRANGE', blocked, 0, 0)[1]
    if not id then break end
    budget = budget - tonumber(string.match(redis.call('HGET', flows, '>' .. id) or '1', '^%d+'))
    redis.call('ZREM', blocked, id)
    forget(id)
    gone = gone + 1
  end
  left = left + redis.call('ZCARD', blocked) * ${PAGE}
end
if fresh then mark() end
publish()
return { gone, left }`,
  params: (target: Target, alsoDelayed: boolean) => params(target, alsoDelayed ? 1 : 0),
  result: removedOf,
  idempotent: true
})

/**
 * Removes the oldest dead letters, or completed jobs. O(m log n) for m of n, no more than a page.
 *
 * ARGV how old they must be, in milliseconds, which ones. Returns how many, and how many such are left.
 */
export const clean = RedisScript.make({
  name: "queue.clean",
  lua: `${common}
local before = whole(now - tonumber(ARGV[3]))
local key, info = dead, dead_info
if ARGV[4] == 'completed' then key, info = kept, kept_info end
local ids = redis.call('ZRANGEBYSCORE', key, '-inf', before, 'LIMIT', 0, ${PAGE})
for _, id in ipairs(ids) do
  redis.call('ZREM', key, id)
  redis.call('HDEL', info, id)
  forget(id)
end
if fresh then mark() end
publish()
return { #ids, redis.call('ZCOUNT', key, '-inf', before) }`,
  params: (target: Target, age: number, state: "dead" | "completed") => params(target, age, state),
  result: removedOf,
  idempotent: true
})

/**
 * Removes everything but stamps, which end by themselves. O(1), and O(n) with n running jobs.
 *
 * ARGV whether leases do not matter. Returns how many jobs run and stand in the way.
 */
export const obliterate = RedisScript.make({
  name: "queue.obliterate",
  lua: `${common}
local running = redis.call('ZCOUNT', leases, '(' .. whole(now), '+inf')
if running > 0 and ARGV[3] ~= '1' then return running end
local doomed = {}
for _, key in ipairs(KEYS) do
  if key ~= stamps then doomed[#doomed + 1] = key end
end
redis.call('UNLINK', unpack(doomed))
if keeps > 0 then redis.call('PUBLISH', channel .. ':done', '') end
return 0`,
  params: (target: Target, force: boolean) => ({
    ...params(target, force ? 1 : 0),
    keys: [...target.keys.all, target.keys.workers, target.keys.workersInfo, target.keys.history]
  }),
  result: RedisScript.number,
  idempotent: true
})

// ---------------------------------------------------------------------------------------------------------------------
// Dead letters
// ---------------------------------------------------------------------------------------------------------------------

/**
 * Dead letters behind another one, from the oldest to those of an instant. O(m + (log n)²) for m of n. The other one may be
 * gone by now.
 *
 * ARGV id and instant of the other one, or empty texts, the last instant or an empty text for now, limit. Returns jobs,
 * and the instant of the server.
 */
export const letters = RedisScript.make({
  name: "queue.letters",
  lua: `${common}${rows}
local after, at, last = ARGV[3], ARGV[4], ARGV[5]
if last == '' then last = whole(now) end
-- By bytes, as the server orders them. Lua would go by its locale.
local function precedes(a, b)
  for i = 1, math.min(#a, #b) do
    local x, y = string.byte(a, i), string.byte(b, i)
    if x ~= y then return x < y end
  end
  return #a < #b
end
local rank = 0
if at ~= '' then
  local to = redis.call('ZCOUNT', dead, '-inf', at)
  rank = redis.call('ZCOUNT', dead, '-inf', '(' .. at)
  while rank < to do
    local middle = math.floor((rank + to) / 2)
    if precedes(after, redis.call('ZRANGE', dead, middle, middle)[1]) then to = middle else rank = middle + 1 end
  end
end
local part = redis.call('ZRANGE', dead, rank, rank + ARGV[6] - 1, 'WITHSCORES')
local found = {}
for i = 1, #part, 2 do
  if tonumber(part[i + 1]) <= tonumber(last) then found[#found + 1] = row(part[i], 'dead', part[i + 1]) end
end
return { found, tonumber(last) }`,
  params: (
    target: Target,
    after: { readonly id: string; readonly at: number } | undefined,
    last: number | undefined,
    limit: number
  ) => params(target, after?.id ?? "", after?.at ?? "", last ?? "", limit),
  result: page,
  idempotent: true
})

/**
 * Makes dead letters ready again, at the end of their levels. The attempt that ended one is taken back, or all are.
 * O(m log n) for m of n.
 *
 * ARGV whether all attempts are taken back; ids, each with when it died, or an empty text for whenever. Returns an outcome
 * for each.
 */
export const replay = RedisScript.make({
  name: "queue.replay",
  lua: `${common}${reviving}
local outcomes = {}
for i = 4, #ARGV, 2 do
  local id, at = ARGV[i], tonumber(ARGV[i + 1])
  local died = tonumber(redis.call('ZSCORE', dead, id) or nil)
  if not died or at and at ~= died then
    outcomes[#outcomes + 1] = state_of(id) or 'missing'
  else
    again(id, ARGV[3] == '1')
    event('replayed', id)
    outcomes[#outcomes + 1] = 'ok'
  end
end
if fresh then mark() end
return outcomes`,
  params: (target: Target, reset: boolean, letters: ReadonlyArray<{ readonly id: string; readonly at?: number }>) =>
    params(target, reset ? 1 : 0, ...letters.flatMap(({ at, id }) => [id, at ?? ""])),
  result: (reply): Either.Either<ReadonlyArray<Outcome>, string> =>
    Array.isArray(reply) ? Either.all(reply.map(outcome)) : Either.left("a list")
})

/**
 * Removes dead letters. O(m log n) for m of n.
 *
 * ARGV ids. Returns how many there were.
 */
export const bin = RedisScript.make({
  name: "queue.removeDeadLetters",
  lua: `${common}
local gone = 0
for i = 3, #ARGV do
  if redis.call('ZREM', dead, ARGV[i]) == 1 then
    redis.call('HDEL', dead_info, ARGV[i])
    forget(ARGV[i])
    gone = gone + 1
  end
end
if fresh then mark() end
publish()
return gone`,
  params: (target: Target, ids: ReadonlyArray<string>) => params(target, ...ids),
  result: RedisScript.number
})
