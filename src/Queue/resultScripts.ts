/**
 * The Lua of kept jobs and their results, of log lines, and of events.
 *
 * Completed jobs that are kept are in one sorted set by when they ended, and one hash with their results: the bound by
 * number and the bound by age both cut off its beginning, and no job has a key of its own. Their envelopes stay where they
 * are.
 *
 * Whether a queue keeps anything or has events is a matter of its definition, so whoever calls a script says it, behind
 * the letter that says whether it is a Cluster. A queue that has none of it sends that letter alone.
 */
import * as Either from "effect/Either"
import type { Reply } from "../RedisClient.js"
import * as RedisScript from "../RedisScript.js"
import { type Keys, names } from "./keys.js"

/** What a definition wants besides the plain queue. */
export interface Uses {
  readonly cluster: boolean
  /** What `usesOf` makes of its definition; nothing for a plain queue. */
  readonly uses?: string | undefined
}

export const flag = (value: boolean): string => value ? "1" : "0"

/** How the definition of a queue is told to scripts: how many jobs it keeps, for how many milliseconds, and its events. */
export const usesOf = (keptCount: number, keptAge: number, events: number): string =>
  keptCount === 0 && events === 0 ? "" : ` ${keptCount} ${keptAge} ${events}`

/** The first argument of all scripts that move jobs. */
export const switches = ({ cluster, uses = "" }: Uses): string => flag(cluster) + uses

/** More ids than this are no message: whoever awaits one looks for all. */
const MOST_TOLD = 1000

/** How many kept jobs are removed at once for their age. */
const CHUNK = 1000

/**
 * For all scripts that move jobs. Before it stand the names of the keys, `uses` and `channel`.
 *
 * - `keeps`, `kept_age`, `most_events`: what the definition wants; 0 for nothing
 * - `event(kind, id, detail)`: writes an event
 * - `over(id)`: whoever awaits this job has to look
 * - `publish()`: says so, once for all
 */
export const telling = `
local keeps, kept_age, most_events = 0, 0, 0
if #uses > 1 then
  local count, age, most = string.match(uses, ' (%d+) (%d+) (%d+)')
  keeps, kept_age, most_events = tonumber(count), tonumber(age), tonumber(most)
end
local ended_ids = {}

local function event(kind, id, detail)
  if most_events == 0 then return end
  if detail then
    redis.call('XADD', events, 'MAXLEN', '~', most_events, '*', 't', kind, 'id', id, 'd', detail)
  else
    redis.call('XADD', events, 'MAXLEN', '~', most_events, '*', 't', kind, 'id', id)
  end
end

local function over(id)
  if keeps > 0 then ended_ids[#ended_ids + 1] = id end
end

local function publish()
  if #ended_ids > 0 then
    redis.call('PUBLISH', channel .. ':done', #ended_ids > ${MOST_TOLD} and '' or table.concat(ended_ids, '\\0'))
  end
end
`

/**
 * For `work`.
 *
 * - `keep(ids, results, first, last, rare)`: keeps completed jobs
 * - `trim_kept(added)`: what is too much, or too old
 * - `tell_work(ids, rare, settled)`: the events of jobs that were taken, and of a queue that has nothing to do any more
 */
export const settling = `
local function keep(ids, results, first, last, rare)
  local failed = rare and redis.call('HMGET', failures, unpack(ids, first, last)) or {}
  local scored, infos = {}, {}
  local at = string.format('%.0f', now)
  for i = first, last do
    local n = 2 * (i - first)
    scored[n + 1], scored[n + 2] = at, ids[i]
    infos[n + 1], infos[n + 2] = ids[i], (failed[i - first + 1] or 0) .. ' ' .. results[i]
    over(ids[i])
  end
  redis.call('ZADD', kept, unpack(scored))
  redis.call('HSET', kept_info, unpack(infos))
end

local function drop_kept(ids)
  if #ids == 0 then return end
  redis.call('ZREM', kept, unpack(ids))
  redis.call('HDEL', kept_info, unpack(ids))
  redis.call('HDEL', jobs, unpack(ids))
  redis.call('HDEL', levels, unpack(ids))
  redis.call('HDEL', logs, unpack(ids))
end

-- More than were added, so that a smaller number takes effect soon.
local function trim_kept(added)
  if added > 0 then
    local too_many = math.min(redis.call('ZCARD', kept) - keeps, added + ${CHUNK})
    while too_many > 0 do
      local part = math.min(too_many, ${CHUNK})
      drop_kept(redis.call('ZRANGE', kept, 0, part - 1))
      too_many = too_many - part
    end
  end
  drop_kept(redis.call('ZRANGE', kept, '-inf', string.format('%.0f', now - kept_age), 'BYSCORE', 'LIMIT', 0, ${CHUNK}))
end

local function tell_work(ids, rare, settled)
  local failed = rare and #ids > 0 and redis.call('HMGET', failures, unpack(ids)) or {}
  for i, id in ipairs(ids) do event('started', id, (failed[i] or 0) + 1) end
  if
    settled and redis.call('ZCARD', leases) == 0
    and redis.call('HLEN', jobs) == redis.call('ZCARD', delayed) + redis.call('ZCARD', blocked) + redis.call('ZCARD', dead)
      + redis.call('ZCARD', kept)
  then
    event('drained', '')
  end
end
`

// ---------------------------------------------------------------------------------------------------------------------
// Results
// ---------------------------------------------------------------------------------------------------------------------

/** What became of a job: nothing yet, or it is not there, or its end with a text about it. */
export type Fate =
  | { readonly _tag: "pending" | "missing" }
  /** The JSON of its result, or an empty text. */
  | { readonly _tag: "completed"; readonly text: string }
  /** JSON about the dead letter. */
  | { readonly _tag: "dead"; readonly text: string }

const PENDING: Fate = { _tag: "pending" }
const MISSING: Fate = { _tag: "missing" }

const fateOf = (reply: Reply): Fate | undefined => {
  if (typeof reply !== "string") return undefined
  switch (reply[0]) {
    case "p":
      return PENDING
    case "m":
      return MISSING
    case "c":
      return { _tag: "completed", text: reply.slice(1) }
    case "d":
      return { _tag: "dead", text: reply.slice(1) }
    default:
      return undefined
  }
}

/**
 * What became of jobs. A job that follows a running one under its deduplication key is not there yet, but will be. O(n)
 * with n jobs; when some are not there O(m), too, with m keys of jobs that run.
 *
 * ARGV for how many milliseconds jobs are kept, and ids. Returns a text for each.
 */
export const fates = RedisScript.make({
  name: "queue.fates",
  lua: `${names}
local time = redis.call('TIME')
local oldest = time[1] * 1000 + math.floor(time[2] / 1000) - ARGV[1]
local followers

local function follows(id)
  if not followers then
    followers = {}
    for _, text in ipairs(redis.call('HVALS', unique_next)) do
      local other = string.match(text, '^%d %d+ %S+ ([^%z]+)%z')
      if other then followers[other] = true end
    end
  end
  return followers[id]
end

local found = {}
for i = 2, #ARGV do
  local id = ARGV[i]
  local info = redis.call('HGET', kept_info, id)
  if info then
    local at = redis.call('ZSCORE', kept, id)
    found[i - 1] = at and tonumber(at) > oldest and 'c' .. string.match(info, '^%d+ (.*)$') or 'm'
  else
    info = redis.call('HGET', dead_info, id)
    if info then
      found[i - 1] = 'd' .. info
    elseif redis.call('HEXISTS', jobs, id) == 1 or follows(id) then
      found[i - 1] = 'p'
    else
      found[i - 1] = 'm'
    end
  end
end
return found`,
  params: ({ all }: Keys, age: number, ids: ReadonlyArray<string>) => ({ keys: all, args: [String(age), ...ids] }),
  result: (reply): Either.Either<ReadonlyArray<Fate>, string> => {
    const found = Array.isArray(reply) ? reply.map(fateOf) : [undefined]
    return found.every((fate) => fate !== undefined) ? Either.right(found) : Either.left("what became of each")
  },
  idempotent: true
})

// ---------------------------------------------------------------------------------------------------------------------
// Log lines
// ---------------------------------------------------------------------------------------------------------------------

/**
 * Adds a line to what a job has logged, as long as somebody has its lease. The first ones are removed when there are too
 * many. O(b) with b bytes that are kept of the job.
 *
 * KEYS leases, logs. ARGV member, id, number of the call, JSON of the line, how many lines, how many bytes. Returns
 * whether it has the lease.
 */
export const log = RedisScript.make({
  name: "queue.log",
  lua: `
if not redis.call('ZSCORE', KEYS[1], ARGV[1]) then return 0 end
local last = string.match(ARGV[1], '^[^|]*') .. ' ' .. ARGV[3]
local before, lines = string.match(redis.call('HGET', KEYS[2], ARGV[2]) or '\\n', '^([^\\n]*)\\n(.*)$')
-- The same call once more.
if before == last then return 1 end
local time = redis.call('TIME')
lines = lines .. string.format('%.0f', time[1] * 1000 + math.floor(time[2] / 1000)) .. ' ' .. ARGV[4] .. '\\n'
local _, count = string.gsub(lines, '\\n', '')
local first, most, bytes = 1, tonumber(ARGV[5]), tonumber(ARGV[6])
while count > 1 and (count > most or #lines - first + 1 > bytes) do
  first = string.find(lines, '\\n', first, true) + 1
  count = count - 1
end
redis.call('HSET', KEYS[2], ARGV[2], last .. '\\n' .. string.sub(lines, first))
return 1`,
  params: (
    { leases, logs }: Keys,
    member: string,
    id: string,
    call: number,
    json: string,
    bounds: { readonly lines: number; readonly bytes: number }
  ) => ({
    keys: [leases, logs],
    args: [member, id, String(call), json, String(bounds.lines), String(bounds.bytes)]
  }),
  result: RedisScript.boolean,
  idempotent: true
})

// ---------------------------------------------------------------------------------------------------------------------
// Events
// ---------------------------------------------------------------------------------------------------------------------

/** Some events, as they are written. */
export interface Written {
  readonly entries: ReadonlyArray<{ readonly id: string; readonly fields: ReadonlyMap<string, string> }>
  /** Some before them may be gone. */
  readonly gap: boolean
  /** Where the next ones begin. */
  readonly last: string
}

const entryOf = (reply: Reply): Written["entries"][number] | undefined => {
  const [id, texts] = Array.isArray(reply) ? reply : []
  if (typeof id !== "string" || !Array.isArray(texts)) return undefined
  const fields = new Map<string, string>()
  for (let i = 0; i + 1 < texts.length; i += 2) fields.set(String(texts[i]), String(texts[i + 1]))
  return { id, fields }
}

/**
 * The events behind one. Nothing says that exactly the next one was removed, so there is a gap when all up to that one
 * were removed, and others came. O(log n + m) for m of n.
 *
 * KEYS events. ARGV the id of the one, or `$` for the last one, how many, and whether a gap is of interest. Returns
 * entries, whether there is a gap, and the id of the last one.
 */
export const read = RedisScript.make({
  name: "queue.events",
  lua: `
local after = ARGV[1]
if redis.call('EXISTS', KEYS[1]) == 0 then return { {}, 0, after == '$' and '0-0' or after } end
local info = redis.call('XINFO', 'STREAM', KEYS[1])
local about = {}
for i = 1, #info, 2 do about[info[i]] = info[i + 1] end
if after == '$' then return { {}, 0, about['last-generated-id'] } end
local entries = redis.call('XRANGE', KEYS[1], '(' .. after, '+', 'COUNT', ARGV[2])
local gap = 0
if
  ARGV[3] == '1' and #entries > 0 and about['entries-added'] > about['length']
  and #redis.call('XRANGE', KEYS[1], '-', after, 'COUNT', 1) == 0
then
  gap = 1
end
return { entries, gap, #entries > 0 and entries[#entries][1] or after }`,
  params: ({ events }: Keys, after: string, limit: number, gaps: boolean) => ({
    keys: [events],
    args: [after, String(limit), flag(gaps)]
  }),
  result: (reply): Either.Either<Written, string> => {
    const [found, gap, last] = Array.isArray(reply) ? reply : []
    const entries = Array.isArray(found) ? found.map(entryOf) : [undefined]
    return typeof last === "string" && entries.every((entry) => entry !== undefined)
      ? Either.right({ entries, gap: gap === 1, last })
      : Either.left("entries, a number and an id")
  },
  idempotent: true
})
