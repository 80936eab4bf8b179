/**
 * The Lua of enqueueing and working. The keys are in `keys.ts`; every script gets them all, and they share a slot.
 *
 * A call that is made again because its reply was lost does nothing again: producers and workers make one call at a time
 * and number them, and the server remembers what it replied to the last one.
 */
import * as Either from "effect/Either"
import { constantKeys } from "../internal/constantKeys.js"
import type { Reply } from "../RedisClient.js"
import * as RedisScript from "../RedisScript.js"
import { leaving } from "./flowLua.js"
import * as groups from "./groupScripts.js"
import { FIRST_READY, type Keys, LAST_READY, LEVELS, names } from "./keys.js"
import * as results from "./resultScripts.js"

const lists = Array.from({ length: LEVELS }, (_, i) => `KEYS[${FIRST_READY + i}]`).join(", ")

/** How many arguments a command gets at once; more than about 7000 do not fit on Lua's stack. */
const CHUNK = 1000

/** How many jobs a worker gets at once, however many it wants. */
export const MOST_CLAIMED = CHUNK

/** How long the last reply to a producer is remembered, in milliseconds; far longer than calls are repeated. */
const REMEMBERED = 60_000

/** How long a sign that there is something to do lasts. Whoever comes later looks without it. */
const MARKED = "'60000'"

/**
 * What scripts that move jobs have in common. Before it stand `local uses, channel`: the switches of `resultScripts.ts`,
 * and the channel on which workers are woken on a Cluster, with the prefix of the client.
 *
 * - `cluster`: whether it is one
 * - `now`: the time in milliseconds
 * - `mark()`: wakes a worker
 * - `level_of(id)`
 * - `put(id, level, front)`: makes a job ready
 * - `skips(level, id)`: whether an id from a list is not a job there; true only once for each that was left behind
 * - `instant(text)`: the instant that `+` and milliseconds from now, or `@` and an instant mean
 * - `enter(id, level, due)`: makes it ready, or delayed until it is due
 * - `halted(id)`: what has run is waiting again
 * - `free(id, at_once)`: ends the claim of a job to its deduplication key, also when a window is open; what waited for that
 *   follows
 * - `forget(id)`: the job with all that belongs to it, but not what says in which state it is
 * - `trim_dead(count, age)`: removes the dead letters that are too many or too old
 * - `event`, `over` and `publish` of `resultScripts.ts`
 *
 * And what `flowLua.ts` says.
 */
const commonFor = (keysBeforeGroups: number | undefined): string => {
  const when = (lua: string): string => keysBeforeGroups === undefined ? "" : lua
  return `${names}
local cluster = string.sub(uses, 1, 1) == '1'
${results.telling}
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
-- Something has become ready that was not before.
local fresh = false

local function mark()
  if cluster then
    redis.call('PUBLISH', channel, '')
  elseif redis.call('ZADD', marker, 0, '0') == 1 then
    redis.call('PEXPIRE', marker, ${MARKED})
  end
end

local function level_of(id)
  return tonumber(redis.call('HGET', levels, id) or 0)
end

${keysBeforeGroups === undefined ? "" : groups.moving(keysBeforeGroups)}local function put(id, level, front)${
    when(groups.putting)
  }
  redis.call(front and 'LPUSH' or 'RPUSH', ready(level), id)
  fresh = true
end

-- Whether an id from a list is only what is left of a job that was removed, or has another level now.
local function skips(level, id)
  local field = level .. '|' .. id
  local left = tonumber(redis.call('HGET', removed, field) or 0)
  if left == 0 then return false end
  if left == 1 then redis.call('HDEL', removed, field) else redis.call('HINCRBY', removed, field, -1) end
  return true
end

-- Those that are due at the same time come in the order in which they were added.
local function delay(id, due)
  local last = redis.call('ZRANGE', delayed, string.format('(%.0f', due + 1), string.format('%.0f', due), 'BYSCORE', 'REV', 'LIMIT', 0, 1, 'WITHSCORES')[2]
  local score = last and tonumber(last) + 1 / 4096 or due
  if score >= due + 1 then score = tonumber(last) end
  redis.call('ZADD', delayed, string.format('%.17g', score), id)
end

local function instant(text)
  local sign, millis = string.match(text, '^([+@])(%d+)$')
  if sign then return sign == '+' and now + millis or tonumber(millis) end
end

local function enter(id, level, due)
  if due > now then
    delay(id, due)
  else
    put(id, level)
  end
end

local function halted(id)
  local key = redis.call('HGET', unique_of, id)
  if key and redis.call('HGET', unique_next, key) == '' then redis.call('HDEL', unique_next, key) end
end

local function free(id, at_once)
  local key = redis.call('HGET', unique_of, id)
  if not key then return end
  redis.call('HDEL', unique_of, id)
  if redis.call('HGET', unique, key) ~= id then return end
  local follower = redis.call('HGET', unique_next, key)
  if follower then redis.call('HDEL', unique_next, key) end
  if follower and follower ~= '' then
    local level, due, deadline, other, envelope = string.match(follower, '^(%d) (%d+) (%S+) ([^%z]+)%z(.*)$')
    if redis.call('HSETNX', jobs, other, envelope) == 1 then
      redis.call('HSET', unique, key, other)
      redis.call('HSET', unique_of, other, key)
      if level ~= '0' then redis.call('HSET', levels, other, level) end
      if deadline ~= '-' then redis.call('HSET', deadlines, other, deadline) end${when(groups.following)}
      event('added', other)
      return enter(other, tonumber(level), tonumber(due))
    end
  end
  local till = redis.call('ZSCORE', unique_until, key)
  if till and tonumber(till) > now and not at_once then return end
  redis.call('HDEL', unique, key)
  if till then redis.call('ZREM', unique_until, key) end
end
${leaving}
local function forget(id)
  leave_flow(id, 'r', '')
  redis.call('HDEL', jobs, id)
  redis.call('HDEL', levels, id)
  redis.call('HDEL', failures, id)
  redis.call('HDEL', deadlines, id)
  redis.call('HDEL', progress, id)
  redis.call('HDEL', logs, id)
  event('removed', id)
  over(id)
  redis.call('SREM', cancelled, id)${when(groups.forgetting)}
  free(id, true)
end

local function trim_dead(count, age)
  local function drop(ids)
    if #ids == 0 then return end
    redis.call('ZREM', dead, unpack(ids))
    redis.call('HDEL', dead_info, unpack(ids))
    redis.call('HDEL', jobs, unpack(ids))
    redis.call('HDEL', logs, unpack(ids))
    redis.call('HDEL', levels, unpack(ids))${when("\n    redis.call('HDEL', group_of, unpack(ids))")}
    if in_flow() then
      for _, id in ipairs(ids) do leave_flow(id, 'r', '') end
    end
  end
  local too_many = math.min(redis.call('ZCARD', dead) - count, ${CHUNK})
  if too_many > 0 then drop(redis.call('ZRANGE', dead, 0, too_many - 1)) end
  drop(redis.call('ZRANGE', dead, '-inf', string.format('%.0f', now - age), 'BYSCORE', 'LIMIT', 0, 100))
end
`
}

/** For producers and workers: behind the keys of a queue is the one that remembers their last call. */
const common = commonFor(undefined)
const commonOfGroups = commonFor(LAST_READY + 1)

/** For all else, which treats every queue as one with groups. */
export const moving = commonFor(LAST_READY)

/** What a job is enqueued with besides its envelope; `undefined` when there is nothing. */
export interface Extras {
  readonly level: number
  /** `-`, `+` with milliseconds from now, or `@` with an instant. */
  readonly due: string
  readonly deadline: string
  readonly deduplication: {
    readonly mode: "u" | "w" | "r" | "k"
    readonly window: number
    readonly key: string
  } | undefined
}

/** The text for `enqueue`. A job with an id of its own always has some. */
export const extrasText = ({ deadline, deduplication, due, level }: Extras): string =>
  deduplication === undefined
    ? `${level} ${due} ${deadline} - 0 `
    : `${level} ${due} ${deadline} ${deduplication.mode} ${deduplication.window} ${deduplication.key}`

/**
 * One letter for each job: `a` added, `d` a duplicate of another one, `r` added in the place of one that was removed, `i`
 * put into the place of one under the id of that, `k` kept to follow the running one, `f` refused because the queue is
 * full.
 */
export interface Received {
  readonly outcomes: string
  /** For each `d` and each `i` of the outcomes. */
  readonly ids: ReadonlyArray<string>
}

/**
 * What the server remembers the last call of somebody by, and in which order scripts get it: behind the keys of the
 * queue, or those of them that `add` needs.
 */
export const keysFor = ({ plain }: Keys, memory: string): ReadonlyArray<string> => constantKeys([...plain, memory])

/** The same for queues with groups. */
export const keysForGroups = ({ groups, plain }: Keys, memory: string): ReadonlyArray<string> =>
  constantKeys([...plain, memory, ...groups])

export const keysForAdd = ({ jobs, marker, ready }: Keys, memory: string): ReadonlyArray<string> =>
  constantKeys([jobs, ready[0]!, marker, memory])

/** For `workPlainly`. */
export const keysForPlain = (keys: Keys, memory: string): ReadonlyArray<string> =>
  constantKeys([
    keys.jobs,
    keys.leases,
    keys.ready[0]!,
    keys.delayed,
    keys.meta,
    keys.marker,
    memory,
    keys.levels,
    keys.failures,
    keys.deadlines,
    keys.progress,
    keys.cancelled,
    keys.removed,
    keys.flows,
    keys.uniqueOf,
    keys.uniqueUntil,
    keys.logs
  ])

/** Whoever makes numbered calls, with the keys of these calls. */
export interface Caller {
  readonly keys: ReadonlyArray<string>
  readonly call: number
}

/** Before a script of a producer: the reply to its last call, when it is this one. */
export const recall = (grouped: boolean): string => `
local memory = KEYS[${LAST_READY + 1}]
local last = redis.call('GET', memory)
if last then
  local call, reply = string.match(last, '^(%d+) (.*)$')
  if tonumber(call) >= tonumber(ARGV[1]) then return reply end
end
local uses, channel = ARGV[2], ARGV[3]
${grouped ? commonOfGroups : common}
local function answer(reply)
  redis.call('SET', memory, ARGV[1] .. ' ' .. reply, 'PX', '${REMEMBERED}')
  return reply
end
`

/** How workers are woken, and what else a queue wants to be told. */
export interface Notices extends results.Uses {
  readonly cluster: boolean
  /** With the prefix of the client. */
  readonly wake: string
}

const NONE: ReadonlyArray<never> = []

const { flag, switches } = results

/** Call, whether it is a Cluster, channel, limit of the queue or 0, whether all, and jobs. */
export const producing = (
  { call, keys }: Caller,
  notices: Notices,
  limit: number,
  all: boolean,
  jobs: ReadonlyArray<string>
) => ({
  keys,
  args: [String(call), switches(notices), notices.wake, String(limit), flag(all), ...jobs]
})

export const received = (reply: Reply): Either.Either<Received, string> => {
  if (typeof reply !== "string") return Either.left("a letter for each job")
  const end = reply.indexOf("\n")
  return Either.right(
    end < 0
      ? { outcomes: reply, ids: [] }
      : { outcomes: reply.slice(0, end), ids: reply.slice(end + 1).split("\0") }
  )
}

/**
 * Lua that adds jobs, behind what moves them and `local limit`, the limit of the queue or 0: `add(id, envelope, extras)` for
 * each, which gives a letter of `Received` and puts the ids of others into `ids`, and `added()` at the end.
 */
const addingFor = (grouped: boolean): string => `
local size = limit > 0 and redis.call('HLEN', jobs) - redis.call('ZCARD', dead) - redis.call('ZCARD', kept) or 0
local outcomes, ids = {}, {}
local by_level, postponed = {}, {}

local function admit(id, envelope)
  if limit > 0 and size >= limit then return false end
  size = size + 1
  redis.call('HSET', jobs, id, envelope)
  return true
end

local function add_ready(id, level)
  local list = by_level[level]
  if list then list[#list + 1] = id else by_level[level] = { id } end
end

local function claim_key(id, key, mode, window)
  redis.call('HSET', unique, key, id)
  redis.call('HSET', unique_of, id, key)
  if mode == 'w' then
    redis.call('ZADD', unique_until, now + window, key)
  else
    redis.call('ZREM', unique_until, key)
  end
end

local function holder(key)
  local id = redis.call('HGET', unique, key)
  local till = id and redis.call('ZSCORE', unique_until, key)
  if till and tonumber(till) <= now then
    redis.call('HDEL', unique, key)
    redis.call('ZREM', unique_until, key)
    return false
  end
  return id
end

${grouped ? groups.enqueueing(CHUNK) : ""}local function add(id, envelope, extras)
  if redis.call('HEXISTS', jobs, id) == 1 then
    ids[#ids + 1] = id
    return 'd'
  end${grouped ? groups.reading : ""}
  if extras == '' then
    if not admit(id, envelope) then return 'f' end${grouped ? groups.addingPlain : ""}
    event('added', id)
    add_ready(id, 0)
    return 'a'
  end
  local level, due, deadline, mode, window, key = string.match(extras, '^(%d) (%S+) (%S+) (%S) (%d+) (.*)$')
  due, deadline = instant(due) or 0, instant(deadline)
  deadline = deadline and string.format('%.0f', deadline) or '-'
  local outcome = 'a'
  local other = mode ~= '-' and holder(key)
  if other then
    if mode == 'r' and redis.call('ZREM', delayed, other) == 1 then
      size = size - 1
      redis.call('HDEL', unique_next, key)
      forget(other)
      outcome = 'r'
    elseif mode == 'k' and redis.call('HEXISTS', unique_next, key) == 1 then
      redis.call('HSET', unique_next, key, string.format('%s %.0f %s ', level, due, deadline) .. id .. '\\0' .. envelope${
  grouped ? groups.addingFollower : ""
})
      return 'k'
    elseif mode == 'k' and redis.call('HEXISTS', jobs, other) == 1 then
      redis.call('HSET', jobs, other, envelope)${grouped ? groups.addingInPlace : ""}
      ids[#ids + 1] = other
      return 'i'
    else
      ids[#ids + 1] = other
      return 'd'
    end
  end
  if not admit(id, envelope) then return 'f' end
  event('added', id)
  if mode ~= '-' then claim_key(id, key, mode, window) end
  if level ~= '0' then redis.call('HSET', levels, id, level) end
  if deadline ~= '-' then redis.call('HSET', deadlines, id, deadline) end
  if due > now then
    delay(id, due)
    postponed[id] = true${grouped ? groups.addingDelayed + groups.addingReady : ""}
  else
    add_ready(id, tonumber(level))
  end
  return outcome
end

local function added()
  ${grouped ? "flush()\n  " : ""}for level, list in pairs(by_level) do
    fresh = true
    for i = 1, #list, ${CHUNK} do
      redis.call('RPUSH', ready(level), unpack(list, i, math.min(i + ${CHUNK - 1}, #list)))
    end
  end
  -- A worker that sleeps until the first is due has to know that there is an earlier one.
  if fresh or next(postponed) and postponed[redis.call('ZRANGE', delayed, 0, 0)[1]] then mark() end
  publish()
end
`

/** Behind `moving`. */
export const adding = addingFor(true)

/**
 * Adds jobs. With `all` either every one that is not a duplicate is added, or none. O(n) with n jobs, and O(log m) for
 * each delayed one with m of them.
 *
 * KEYS those of the queue, and that of the producer. ARGV call, whether it is a Cluster, channel, limit of the queue or 0,
 * whether all, and for each job id, envelope and extras.
 * Returns a letter for each job, and behind a line end the ids that others have instead, with NUL between them.
 */
const enqueueFor = (grouped: boolean) =>
  RedisScript.make({
    name: "queue.enqueue",
    idempotent: true,
    lua: `${recall(grouped)}
local limit = tonumber(ARGV[4])
${addingFor(grouped)}
local first = 6
local refused = false
if ARGV[5] == '1' and limit > 0 then
  local new = 0
  for i = first, #ARGV, 3 do new = new + 1 - redis.call('HEXISTS', jobs, ARGV[i]) end
  refused = size + new > limit
end
for i = first, #ARGV, 3 do
  outcomes[#outcomes + 1] = refused and 'f' or add(ARGV[i], ARGV[i + 1], ARGV[i + 2])
end
added()
local reply = table.concat(outcomes)
if #ids > 0 then reply = reply .. '\\n' .. table.concat(ids, '\\0') end
return answer(reply)`,
    params: producing,
    result: received
  })

export const enqueue = enqueueFor(false)

/** The same for queues with groups. */
export const enqueueInGroups = enqueueFor(true)

/**
 * Adds jobs that have nothing besides their envelopes, and ids that nobody else has. O(n) with n jobs.
 *
 * KEYS jobs, the list of level 0, marker, and that of the producer. ARGV call, whether it is a Cluster, channel, and for
 * each job id and envelope.
 */
export const add = RedisScript.make({
  name: "queue.add",
  idempotent: true,
  lua: `
local call = redis.call
local last = call('SET', KEYS[4], ARGV[1] .. ' ', 'PX', '${REMEMBERED}', 'GET')
if last and tonumber(string.match(last, '^%d+')) >= tonumber(ARGV[1]) then
  call('SET', KEYS[4], last, 'PX', '${REMEMBERED}')
  return 0
end
if #ARGV == 5 then
  call('HSET', KEYS[1], ARGV[4], ARGV[5])
  call('RPUSH', KEYS[2], ARGV[4])
else
  for first = 4, #ARGV, ${2 * CHUNK} do
    local last = math.min(first + ${2 * CHUNK - 1}, #ARGV)
    local ids = {}
    for i = first, last, 2 do ids[#ids + 1] = ARGV[i] end
    call('HSET', KEYS[1], unpack(ARGV, first, last))
    call('RPUSH', KEYS[2], unpack(ids))
  end
end
if ARGV[2] == '1' then
  call('PUBLISH', ARGV[3], '')
elseif call('ZADD', KEYS[3], 0, '0') == 1 then
  call('PEXPIRE', KEYS[3], ${MARKED})
end
return 1`,
  params: (
    { call, keys }: Caller,
    { cluster, wake }: Notices,
    entries: ReadonlyArray<string>
  ) => ({
    keys,
    args: [String(call), flag(cluster), wake, ...entries]
  }),
  result: RedisScript.number
})

/** Takes jobs from the lists until there are `take`, or sets `drained`. */
const popReady = `-- What was removed is skipped in portions, so that much of it holds up nobody else.
local tries = 0
while #ids < take and tries < ${CHUNK} do
  tries = tries + 1
  local popped = redis.call('LMPOP', ${LEVELS}, ${lists}, 'LEFT', 'COUNT', take - #ids)
  if not popped then
    drained = true
    break
  end
  local level = 0
  for i = ${FIRST_READY}, ${LAST_READY} do
    if KEYS[i] == popped[1] then level = ${LAST_READY} - i end
  end
  local batch = popped[2]
  local texts = redis.call('HMGET', jobs, unpack(batch))
  for i, id in ipairs(batch) do
    if not (some_removed and skips(level, id)) and texts[i] then
      local n = #ids + 1
      ids[n], envelopes[n], found[n] = id, texts[i], level
    end
  end
end`

/** What `work` is told about a queue, beyond its keys. */
export interface Terms extends Notices {
  /** In milliseconds. */
  readonly lease: number
  readonly deadCount: number
  readonly deadAge: number
  /** The limits of its groups, if it has groups. */
  readonly groups?: groups.GroupLimits | undefined
}

/** What a worker got. Those without an envelope were not meant for it, but count in the numbering of its leases. */
export interface Claimed {
  /** Which of the settled ones the worker did not own any more. */
  readonly lost: ReadonlyArray<number>
  /** In how many milliseconds there will be something to do, as far as is known; less than 0 when nothing is. */
  readonly next: number
  readonly now: number
  readonly ids: ReadonlyArray<string>
  readonly envelopes: ReadonlyArray<string | null>
  readonly levels: ReadonlyArray<number>
  /** Of each, or empty when none has any. */
  readonly failures: ReadonlyArray<string | null>
  readonly deadlines: ReadonlyArray<string | null>
  readonly cancelled: ReadonlyArray<number>
  /** The queue has limits, and gives nothing in advance. */
  readonly limited: boolean
  /** Other queues have to be told something. */
  readonly posted: boolean
}

/**
 * Ends jobs, frees those whose lease has ended, makes ready what is due, and takes jobs. O(n) with n jobs that it ends or
 * takes, and O(log m) for each with m jobs that run or are delayed.
 *
 * KEYS those of the queue, and that of the worker. ARGV call, switches, channel, worker, how many it wants,
 * how many of these in advance, lease, how many dead letters are kept, for how many milliseconds, and for each job to
 * settle the member of its lease and what becomes of it. Nothing is given in advance when the queue has limits.
 *
 * - `c`: it is complete
 * - `x`: it is given back to the front, and nothing counts
 * - `p` with milliseconds: the same, after so long
 * - `r` with milliseconds: an attempt has failed, and the next one may come after so long
 * - `d` with a JSON: it is a dead letter
 * - `f` with a JSON: it is one because an attempt has failed
 *
 * Returns numbers of the settled ones that the worker did not own any more, when to ask again, the time, and of the jobs
 * taken ids, envelopes, levels, failures, deadlines and whether they are cancelled, and 1 when the queue has limits, with
 * 2 more when there is something in its outbox.
 */
const workFor = (grouped: boolean) =>
  RedisScript.make({
    name: "queue.work",
    idempotent: true,
    lua: `${grouped ? groups.opening : ""}
local memory = KEYS[${LAST_READY + 1}]
local call, worker = ARGV[1], ARGV[4]
local uses, channel = ARGV[2], ARGV[3]
local want, lease = tonumber(ARGV[5]), ARGV[7]
${grouped ? commonOfGroups : common}${results.settling}
local function member(i, id)
  return worker .. ':' .. call .. ':' .. i .. '|' .. id
end

-- Whether there is anything of what some jobs have, and most have not.
local rare = true

local function reply(lost, ids, envelopes, found, next, limited)
  if in_flow() and redis.call('HEXISTS', flows, '#') == 1 then limited = limited + 2 end
  local failed, until_when, stop = {}, {}, {}
  if rare and #ids > 0 and redis.call('EXISTS', failures, deadlines, cancelled) > 0 then
    failed = redis.call('HMGET', failures, unpack(ids))
    until_when = redis.call('HMGET', deadlines, unpack(ids))
    stop = redis.call('SMISMEMBER', cancelled, unpack(ids))
  end
  return { lost, next, now, ids, envelopes, found, failed, until_when, stop, limited }
end

local last = redis.call('GET', memory)
if last then
  local number, lost, taken = string.match(last, '^(%d+) (%S*) (.*)$')
  number = tonumber(number)
  -- A late copy of a call that nobody waits for.
  if number > tonumber(call) then return { '', -1, now, {}, {}, {}, {}, {}, {}, 0 } end
  if number == tonumber(call) then
    local ids, envelopes, found = {}, {}, {}
    for id in string.gmatch(taken, '[^%z]+') do
      local i = #ids + 1
      ids[i] = id
      envelopes[i] = redis.call('ZSCORE', leases, member(i, id)) and redis.call('HGET', jobs, id) or false
      found[i] = level_of(id)
    end
    return reply(lost, ids, envelopes, found, 0, 0)
  end
end

rare = redis.call('EXISTS', levels, failures, deadlines, progress, cancelled, unique_of, removed, flows, logs) > 0
-- Nobody asks for it again.
if not rare then flowing = false end

local completed, given, failed, died = {}, {}, 0, 0
local lost = {}
for i = 10, #ARGV, 2 do
  local owned, outcome = ARGV[i], ARGV[i + 1]
  if redis.call('ZREM', leases, owned) == 1 then
    local id = string.match(owned, '|(.*)$')${grouped ? groups.releasing("owned") : ""}
    local kind = string.sub(outcome, 1, 1)
    if kind == 'c' then
      completed[#completed + 1] = id
      leave_flow(id, 'c', string.sub(outcome, 2))
      if keeps > 0 then given[#completed] = string.sub(outcome, 2) end
      event('completed', id)
    elseif kind == 'd' or kind == 'f' then
      died = died + 1
      if kind == 'f' then failed = failed + 1 end
      redis.call('HDEL', failures, id)
      redis.call('HDEL', deadlines, id)
      redis.call('HDEL', progress, id)
      redis.call('SREM', cancelled, id)
      redis.call('ZADD', dead, now, id)
      redis.call('HSET', dead_info, id, string.sub(outcome, 2))
      told(id, 'f', string.sub(outcome, 2))
      event('dead', id, string.match(outcome, '"reason":"([^"]*)"'))
      over(id)
      free(id)
    else
      local millis = tonumber(string.sub(outcome, 2)) or 0
      if kind == 'r' then
        failed = failed + 1
        redis.call('HINCRBY', failures, id, 1)
        rare = true
      end
      halted(id)
      event(kind == 'r' and 'retried' or 'released', id, string.format('%.0f', millis))
      if kind == 'r' or millis > 0 then
        enter(id, level_of(id), now + millis)
      else
        put(id, level_of(id), true)
      end
    end
  else
    lost[#lost + 1] = (i - 10) / 2
  end
end

for i = 1, #completed, ${CHUNK} do
  local last = math.min(i + ${CHUNK - 1}, #completed)
  if keeps > 0 then
    keep(completed, given, i, last, rare)
  else
    redis.call('HDEL', jobs, unpack(completed, i, last))
  end${grouped ? "\n  redis.call('HDEL', group_of, unpack(completed, i, last))" : ""}
  if rare then
    if keeps == 0 then
      redis.call('HDEL', levels, unpack(completed, i, last))
      redis.call('HDEL', logs, unpack(completed, i, last))
    end
    redis.call('HDEL', failures, unpack(completed, i, last))
    redis.call('HDEL', deadlines, unpack(completed, i, last))
    redis.call('HDEL', progress, unpack(completed, i, last))
    redis.call('SREM', cancelled, unpack(completed, i, last))
    if redis.call('EXISTS', unique_of) == 1 then
      for j = i, last do free(completed[j]) end
    end
  end
end
if #completed > 0 then redis.call('HINCRBY', meta, 'completed', #completed) end
if keeps > 0 then trim_kept(#completed) end

if died > 0 then
  redis.call('HINCRBY', meta, 'dead', died)
  trim_dead(tonumber(ARGV[8]), tonumber(ARGV[9]))
end

local settings = redis.call('HMGET', meta, 'paused', 'concurrency', 'limit', 'window')
local paused = settings[1]
local first_due
${grouped ? groups.limiting : ""}if settings[2] or settings[3]${
      grouped ? " or group_limited" : ""
    } then want = want - ARGV[6] end

if want > 0 then
  local ended = redis.call('ZRANGE', leases, '-inf', now, 'BYSCORE', 'LIMIT', 0, 100)
  for i = #ended, 1, -1 do
    local id = string.match(ended[i], '|(.*)$')
    redis.call('ZREM', leases, ended[i])${grouped ? groups.releasing("ended[i]") : ""}
    redis.call('HINCRBY', failures, id, 1)
    event('stalled', id)
    halted(id)
    put(id, level_of(id), true)
  end
  failed = failed + #ended
  rare = rare or #ended > 0
  if not paused then
    first_due = redis.call('ZRANGE', delayed, 0, 0, 'WITHSCORES')[2]
    if first_due and math.floor(first_due) <= now then
      local due = redis.call('ZRANGE', delayed, '-inf', string.format('(%.0f', now + 1), 'BYSCORE', 'LIMIT', 0, 500)
      redis.call('ZREM', delayed, unpack(due))
      for _, id in ipairs(due) do put(id, level_of(id)) end
      first_due = redis.call('ZRANGE', delayed, 0, 0, 'WITHSCORES')[2]
    end
  end
end

if failed > 0 then redis.call('HINCRBY', meta, 'failed', failed) end

local room = paused and 0 or math.huge
local used = 0
if settings[2] then room = math.min(room, settings[2] - redis.call('ZCARD', leases)) end
local micros = time[1] * 1000000 + time[2]
if settings[3] and room > 0 then
  redis.call('ZREMRANGEBYSCORE', starts, '-inf', string.format('%.0f', micros - settings[4] * 1000))
  used = redis.call('ZCARD', starts)
  room = math.min(room, settings[3] - used)
end

local ids, envelopes, found = {}, {}, {}
local take = math.min(want, room, ${CHUNK})
local drained = false
local some_removed = rare and take > 0 and redis.call('EXISTS', removed) == 1
${grouped ? groups.claiming(popReady, lists) : popReady}

local taken = #ids
if taken > 0 then
  local ends = string.format('%.0f', now + lease)
  local scored = {}
  for i = 1, taken do
    scored[2 * i - 1], scored[2 * i] = ends, member(i, ids[i])
  end
  redis.call('ZADD', leases, unpack(scored))
  if settings[3] then
    local score = string.format('%.0f', micros)
    for i = 1, taken do scored[2 * i - 1] = score end
    redis.call('ZADD', starts, unpack(scored))
    redis.call('PEXPIRE', starts, settings[4])
  end
  if rare and redis.call('EXISTS', unique_of) == 1 then
    local keys = redis.call('HMGET', unique_of, unpack(ids))
    for i = 1, taken do
      if keys[i] then redis.call('HSETNX', unique_next, keys[i], '') end
    end
  end
end
if most_events > 0 then tell_work(ids, rare, #ARGV >= 10 and (#ARGV - 9) / 2 > #lost) end
publish()

-- When the rate limit admits the next one.
local refill
if settings[3] and not paused and used + taken >= tonumber(settings[3]) then
  local i = used + taken - settings[3]
  local first = redis.call('ZRANGE', starts, i, i, 'WITHSCORES')[2]
  if first then refill = math.ceil((first + settings[4] * 1000) / 1000) end
end

-- Others take what is left, or learn when they may. On a Cluster all were told when it came, unless that was now.
if
  not drained and (room > taken or refill and want == taken) and (not cluster or fresh or settings[2] or settings[3])
  and redis.call('EXISTS', ${lists}${grouped ? ", group_turns" : ""}) > 0
then
  mark()
end

local next = -1
local function at(instant)
  local millis = math.max(0, math.ceil(instant - now))
  if next < 0 or millis < next then next = millis end
end
if want > taken then
  local first = redis.call('ZRANGE', leases, 0, 0, 'WITHSCORES')[2]
  if first then at(tonumber(first)) end
  if refill then at(refill) end
  if taken < take and not drained then at(now) end
  if redis.call('EXISTS', unique_until) == 1 then
    for _, key in ipairs(redis.call('ZRANGE', unique_until, '-inf', now, 'BYSCORE', 'LIMIT', 0, 100)) do
      redis.call('ZREM', unique_until, key)
      redis.call('HDEL', unique, key)
    end
  end
end
if first_due and room > taken then
  local due = math.floor(first_due)
  if want > taken then
    at(due)
  elseif not cluster and due < now + 5000 then
    -- This worker will be busy then.
    mark()
  end
end
${grouped ? groups.asking : ""}
redis.call('SET', memory, call .. ' ' .. table.concat(lost, ',') .. ' ' .. table.concat(ids, '\\0'), 'PX', string.format('%.0f', math.max(${REMEMBERED}, 2 * lease)))
return reply(table.concat(lost, ','), ids, envelopes, found, next, (settings[2] or settings[3]${
      grouped ? " or group_limited" : ""
    }) and 1 or 0)`,
    params: (
      { call, keys }: Caller,
      worker: string,
      terms: Terms,
      want: number,
      ahead: number,
      settles: ReadonlyArray<string>
    ) => ({
      keys,
      args: [
        String(call),
        switches(terms),
        terms.wake,
        worker,
        String(want),
        String(ahead),
        String(terms.lease),
        String(terms.deadCount),
        String(terms.deadAge),
        ...settles,
        ...(grouped ? [groups.limitsText(terms.groups ?? groups.NO_LIMITS)] : [])
      ]
    }),
    result: (reply): Either.Either<Claimed, string> => {
      if (!Array.isArray(reply) || reply.length !== 10) return Either.left("jobs")
      const [lost, next, now, ids, envelopes, levels, failures, deadlines, cancelled, limited]: ReadonlyArray<any> =
        reply
      return typeof lost === "string" && typeof next === "number" && typeof now === "number" && Array.isArray(ids) &&
          Array.isArray(envelopes) && Array.isArray(levels) && Array.isArray(failures) && Array.isArray(deadlines) &&
          Array.isArray(cancelled)
        ? Either.right({
          lost: lost === "" ? [] : lost.split(",").map(Number),
          next,
          now,
          ids,
          envelopes,
          levels,
          failures,
          deadlines,
          cancelled,
          limited: limited % 2 === 1,
          posted: limited >= 2
        })
        : Either.left("jobs")
    }
  })

export const work = workFor(false)

/** The same for queues with groups. */
export const workInGroups = workFor(true)

/**
 * What `work` does for a queue in which nothing is out of the ordinary, at half the cost: jobs that are complete, and that
 * have nothing besides their envelopes. It changes nothing when there may be anything else, and `work` has to be asked,
 * with the same number.
 *
 * KEYS jobs, leases, the list of level 0, delayed, meta, marker, that of the worker, and what has to be absent. ARGV call,
 * whether it is a Cluster, worker, how many it wants, lease, and the members of the leases of the jobs that are complete.
 * Returns nothing, or as `work` the first five.
 */
export const workPlainly = RedisScript.make({
  name: "queue.work.plain",
  idempotent: true,
  lua: `
local call = redis.call
local jobs, leases, ready, delayed, meta, marker, memory = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6], KEYS[7]
local number, want, lease = ARGV[1], tonumber(ARGV[4]), tonumber(ARGV[5])
local last = call('GET', memory)
if last and tonumber(string.match(last, '^%d+')) >= tonumber(number) then return false end
if call('EXISTS', unpack(KEYS, 8)) > 0 then return false end
local settings = call('HMGET', meta, 'paused', 'concurrency', 'limit')
if settings[1] or settings[2] or settings[3] then return false end
local time = call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local due = call('ZRANGE', delayed, 0, 0, 'WITHSCORES')[2]
due = due and math.floor(due)
if due and due <= now then return false end
local ends = call('ZRANGE', leases, 0, 0, 'WITHSCORES')[2]
ends = ends and tonumber(ends)
if ends and ends <= now then return false end

local lost, completed = {}, {}
if #ARGV == 6 then
  -- Of one alone its removal says whether it was there.
  if call('ZREM', leases, ARGV[6]) == 1 then completed[1] = string.match(ARGV[6], '|(.*)$') else lost[1] = 0 end
elseif #ARGV > 6 then
  for i, owned in ipairs(call('ZMSCORE', leases, unpack(ARGV, 6))) do
    if owned then completed[#completed + 1] = string.match(ARGV[i + 5], '|(.*)$') else lost[#lost + 1] = i - 1 end
  end
  if #completed > 0 then call('ZREM', leases, unpack(ARGV, 6)) end
end
if #completed > 0 then
  call('HDEL', jobs, unpack(completed))
  call('HINCRBY', meta, 'completed', #completed)
end

local ids = want > 0 and call('LPOP', ready, want) or {}
local taken = #ids
local envelopes = {}
if taken > 0 then
  envelopes = call('HMGET', jobs, unpack(ids))
  local prefix, till = ARGV[3] .. ':' .. number .. ':', string.format('%.0f', now + lease)
  local scored = {}
  for i = 1, taken do
    scored[2 * i - 1], scored[2 * i] = till, prefix .. i .. '|' .. ids[i]
  end
  call('ZADD', leases, unpack(scored))
end

local next = -1
if taken < want then
  if #lost > 0 or #ARGV > 5 then
    ends = call('ZRANGE', leases, 0, 0, 'WITHSCORES')[2]
    ends = ends and tonumber(ends)
  elseif taken > 0 and not ends then
    ends = now + lease
  end
  if ends then next = math.max(0, math.ceil(ends - now)) end
  if due and (next < 0 or due - now < next) then next = due - now end
elseif ARGV[2] == '0' and (call('EXISTS', ready) == 1 or due and due < now + 5000) then
  -- Others take what is left, or what is due while this worker is busy.
  if call('ZADD', marker, 0, '0') == 1 then call('PEXPIRE', marker, ${MARKED}) end
end
lost = table.concat(lost, ',')
call('SET', memory, number .. ' ' .. lost .. ' ' .. table.concat(ids, '\\0'), 'PX', string.format('%.0f', math.max(${REMEMBERED}, 2 * lease)))
return { lost, next, now, ids, envelopes }`,
  params: (
    { call, keys }: Caller,
    worker: string,
    { cluster, lease }: Terms,
    want: number,
    completed: ReadonlyArray<string>
  ) => ({
    keys,
    args: [String(call), flag(cluster), worker, String(want), String(lease), ...completed]
  }),
  result: (reply): Either.Either<Claimed | undefined, string> => {
    if (reply === null) return Either.right(undefined)
    if (!Array.isArray(reply) || reply.length !== 5) return Either.left("jobs or nothing")
    const [lost, next, now, ids, envelopes]: ReadonlyArray<any> = reply
    return typeof lost === "string" && typeof next === "number" && typeof now === "number" && Array.isArray(ids) &&
        Array.isArray(envelopes)
      ? Either.right({
        lost: lost === "" ? [] : lost.split(",").map(Number),
        next,
        now,
        ids,
        envelopes,
        levels: NONE,
        failures: NONE,
        deadlines: NONE,
        cancelled: NONE,
        limited: false,
        posted: false
      })
      : Either.left("jobs or nothing")
  }
})

/** The members of the leases, when nothing but completion is told and wanted, and `workPlainly` takes as many. */
export const completedOf = (
  { uses = "" }: Terms,
  settles: ReadonlyArray<string>,
  want: number
): ReadonlyArray<string> | undefined => {
  if (uses !== "" || want > MOST_CLAIMED || settles.length > 2 * MOST_CLAIMED) return undefined
  const members = new Array<string>(settles.length / 2)
  for (let i = 0; i < members.length; i++) {
    if (settles[2 * i + 1] !== "c") return undefined
    members[i] = settles[2 * i]!
  }
  return members
}

/**
 * Renews leases. O(n log m) with n of m leases.
 *
 * KEYS leases, cancelled. ARGV lease in milliseconds, members. Returns a letter for each: `h` held, `l` lost, `c` held and
 * cancelled.
 */
export const renew = RedisScript.make({
  name: "queue.renew",
  idempotent: true,
  lua: `
local time = redis.call('TIME')
local ends = string.format('%.0f', time[1] * 1000 + math.floor(time[2] / 1000) + ARGV[1])
local some = redis.call('EXISTS', KEYS[2]) == 1
-- A full server takes what comes behind a removal: handlers that run there shall not lose their jobs.
redis.call('ZREM', KEYS[1], '')
local result = {}
for i = 2, #ARGV do
  if not redis.call('ZSCORE', KEYS[1], ARGV[i]) then
    result[i - 1] = 'l'
  else
    redis.call('ZADD', KEYS[1], 'XX', 'GT', ends, ARGV[i])
    result[i - 1] = some and redis.call('SISMEMBER', KEYS[2], string.match(ARGV[i], '|(.*)$')) == 1 and 'c' or 'h'
  end
end
return table.concat(result)`,
  params: ({ cancelled, leases }: Keys, lease: number, members: ReadonlyArray<string>) => ({
    keys: [leases, cancelled],
    args: [String(lease), ...members]
  }),
  result: RedisScript.string
})

/**
 * Keeps what a handler tells about its progress, as long as it has the lease. O(log n) with n leases.
 *
 * KEYS leases, progress, and events when there are any. ARGV member, id, JSON, and how many events. Returns whether it has
 * the lease.
 */
export const tell = RedisScript.make({
  name: "queue.progress",
  idempotent: true,
  lua: `
if not redis.call('ZSCORE', KEYS[1], ARGV[1]) then return 0 end
local before = KEYS[3] and redis.call('HGET', KEYS[2], ARGV[2])
redis.call('HSET', KEYS[2], ARGV[2], ARGV[3])
-- The same once more is nothing new, also when the call was repeated.
if KEYS[3] and before ~= ARGV[3] then
  redis.call('XADD', KEYS[3], 'MAXLEN', '~', ARGV[4], '*', 't', 'progress', 'id', ARGV[2], 'd', ARGV[3])
end
return 1`,
  params: ({ events, leases, progress }: Keys, member: string, id: string, json: string, most: number) =>
    most > 0
      ? { keys: [leases, progress, events], args: [member, id, json, String(most)] }
      : { keys: [leases, progress], args: [member, id, json] },
  result: RedisScript.boolean
})
