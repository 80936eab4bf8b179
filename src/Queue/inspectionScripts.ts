/**
 * The Lua of looking at queues as a whole, and of what workers report for that.
 */
import * as Either from "effect/Either"
import type { Reply } from "../RedisClient.js"
import * as RedisScript from "../RedisScript.js"
import * as control from "./controlScripts.js"
import { HEAD } from "./envelope.js"
import { type Keys, LEVELS, registryKey } from "./keys.js"

/** How many queues are remembered, and for how many milliseconds after somebody has announced them. */
const MOST_QUEUES = 10_000
const REMEMBERED = 30 * 86_400_000

/** How many workers of a queue are remembered, and how many leases and workers are looked at. */
const MOST_WORKERS = 1000

/** For how many minutes counters are kept. */
export const MINUTES = 60

/** Keys that the scripts of jobs have no use for; the last ones of the scripts here. */
const observed = ({ history, workers, workersInfo }: Keys): ReadonlyArray<string> => [workers, workersInfo, history]

export const keysOf = (keys: Keys): ReadonlyArray<string> => [...keys.all, ...observed(keys)]

const names = `
local workers, workers_info, history = KEYS[#KEYS - 2], KEYS[#KEYS - 1], KEYS[#KEYS]`

const params = (target: control.Target, ...args: ReadonlyArray<string | number>) => ({
  ...control.params(target, ...args),
  keys: keysOf(target.keys)
})

/**
 * Says that there is a queue. O(log n) with n queues.
 *
 * KEYS the registry. ARGV name.
 */
export const announce = RedisScript.make({
  name: "queue.announce",
  lua: `
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('ZADD', KEYS[1], string.format('%.0f', now), ARGV[1])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', string.format('(%.0f', now - ${REMEMBERED}))
redis.call('ZREMRANGEBYRANK', KEYS[1], 0, -${MOST_QUEUES + 1})
return 1`,
  params: (name: string) => ({ keys: [registryKey], args: [name] }),
  result: RedisScript.number,
  idempotent: true
})

/**
 * What a worker tells about itself, and the counters of the queue for its history. O(log n) with n workers.
 *
 * KEYS meta, and those of the workers and the history. ARGV worker, how long it counts as alive in milliseconds or an empty
 * text for ever, JSON about it or an empty text when it has ended.
 */
export const report = RedisScript.make({
  name: "queue.report",
  lua: `
local meta, workers, workers_info, history = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local function drop(gone)
  if #gone == 0 then return end
  redis.call('ZREM', workers, unpack(gone))
  redis.call('HDEL', workers_info, unpack(gone))
end
drop(redis.call('ZRANGE', workers, '-inf', string.format('(%.0f', now), 'BYSCORE', 'LIMIT', 0, 100))
if ARGV[3] == '' then
  drop({ ARGV[1] })
else
  redis.call('ZADD', workers, ARGV[2] == '' and '+inf' or string.format('%.0f', now + ARGV[2]), ARGV[1])
  redis.call('HSET', workers_info, ARGV[1], ARGV[3])
  local over = redis.call('ZCARD', workers) - ${MOST_WORKERS}
  if over > 0 then drop(redis.call('ZRANGE', workers, 0, math.min(over, 100) - 1)) end
end
if ARGV[2] ~= '' then
  for _, key in ipairs({ workers, workers_info }) do redis.call('PEXPIRE', key, ARGV[2] + 60000) end
end
-- Of a queue that was removed nothing shall be left.
if ARGV[3] == '' and redis.call('EXISTS', history) == 0 then return 1 end
local minute = math.floor(now / 60000)
local totals = redis.call('HMGET', meta, 'completed', 'failed', 'dead')
local text = (totals[1] or '0') .. ' ' .. (totals[2] or '0') .. ' ' .. (totals[3] or '0')
local before = redis.call('HGET', history, minute)
local first = before and string.match(before, '^%d+ %d+ %d+')
redis.call('HSET', history, minute, (first or text) .. ' ' .. text)
redis.call('PEXPIRE', history, ${2 * MINUTES * 60_000})
if not before then
  for _, other in ipairs(redis.call('HKEYS', history)) do
    if tonumber(other) <= minute - ${MINUTES} then redis.call('HDEL', history, other) end
  end
end
return 1`,
  params: (keys: Keys, worker: string, alive: number, info: string) => ({
    keys: [keys.meta, ...observed(keys)],
    args: [worker, Number.isFinite(alive) ? String(alive) : "", info]
  }),
  result: RedisScript.number,
  idempotent: true
})

/** What an overview of a queue is made of. */
export interface Overview {
  readonly status: control.Status
  /** How many jobs are ready, by level, without those of groups. */
  readonly levels: ReadonlyArray<number>
  readonly inGroups: number
  /** The first job of each level, with the beginning of its envelope. */
  readonly heads: ReadonlyArray<{ readonly level: number; readonly id: string; readonly head: string }>
  /** When the first delayed job is due. */
  readonly due: number | undefined
  readonly workers: number
  /** Minutes, each with counters at its first and its last report. */
  readonly history: ReadonlyArray<readonly [minute: number, counters: ReadonlyArray<number>]>
  readonly now: number
}

const isText = (u: unknown): u is string => typeof u === "string"

const pairsOf = (flat: ReadonlyArray<Reply>): ReadonlyArray<readonly [string, string]> =>
  Array.from({ length: Math.floor(flat.length / 2) }, (_, i) => [String(flat[2 * i]), String(flat[2 * i + 1])] as const)

const headOf = (reply: Reply): Overview["heads"][number] | undefined => {
  const [level, id, head] = Array.isArray(reply) ? reply : []
  return typeof level === "number" && isText(id) && isText(head) ? { level, id, head } : undefined
}

/**
 * A queue at a glance. O(1), and O(n) with n jobs that were removed while they were ready, of which it looks at 1000 at most.
 *
 * Returns what \`queue.status\` returns, the ready jobs by level, the first of each level, when the first delayed one is due,
 * how many workers there are, the history, the time, and how many ready jobs have groups.
 */
export const overview = RedisScript.make({
  name: "queue.overview",
  lua: `${control.common}${names}
local by_level, heads = {}, {}
for level = 0, ${LEVELS - 1} do
  local key = ready(level)
  by_level[level + 1] = redis.call('LLEN', key)
  if by_level[level + 1] > 0 then
    for _, id in ipairs(redis.call('LRANGE', key, 0, 9)) do
      local envelope = redis.call('HEXISTS', removed, level .. '|' .. id) == 0 and redis.call('HGET', jobs, id)
      if envelope then
        heads[#heads + 1] = { level, id, string.sub(envelope, 1, ${HEAD}) }
        break
      end
    end
  end
end
if redis.call('HLEN', removed) <= 1000 then
  local left = redis.call('HGETALL', removed)
  for i = 1, #left, 2 do
    local level = tonumber(string.sub(left[i], 1, 1)) + 1
    by_level[level] = by_level[level] - left[i + 1]
  end
end
local due = redis.call('ZRANGE', delayed, 0, 0, 'WITHSCORES')[2]
return { redis.call('HLEN', jobs), redis.call('ZCARD', delayed), redis.call('ZCARD', leases), redis.call('ZCARD', dead),
  redis.call('ZCARD', kept), redis.call('HMGET', meta, 'paused', 'concurrency', 'limit', 'window', 'completed', 'failed', 'dead'),
  redis.call('ZCARD', blocked), by_level, heads, due or '', redis.call('ZCOUNT', workers, now, '+inf'), redis.call('HGETALL', history), now, redis.call('ZCARD', group_jobs) }`,
  params,
  result: (reply): Either.Either<Overview, string> => {
    const [, , , , , , , levels, heads, due, workers, history, now, inGroups] = Array.isArray(reply) ? reply : []
    const firsts = Array.isArray(heads) ? heads.map(headOf) : [undefined]
    if (
      !Array.isArray(levels) || !levels.every((n) => typeof n === "number") || !isText(due) ||
      typeof workers !== "number" || !Array.isArray(history) || typeof now !== "number" ||
      typeof inGroups !== "number" ||
      !firsts.every((first) => first !== undefined)
    ) {
      return Either.left("an overview")
    }
    return Either.map(control.status.decode(reply), (status) => ({
      status,
      levels,
      inGroups,
      heads: firsts,
      due: due === "" ? undefined : Math.floor(Number(due)),
      workers,
      history: pairsOf(history).map(([minute, counters]) => [Number(minute), counters.split(" ").map(Number)] as const),
      now
    }))
  },
  idempotent: true
})

/** The workers that have told something about themselves, and the leases. */
export interface Crew {
  readonly reports: ReadonlyArray<readonly [worker: string, info: string]>
  readonly leases: ReadonlyArray<readonly [member: string, ends: number]>
}

/**
 * Who works on a queue. O(n + m) with n workers and m running jobs, of which it looks at 1000 each.
 *
 * Returns workers and the JSON about them, and leases that have not ended with their ends.
 */
export const crew = RedisScript.make({
  name: "queue.workers",
  lua: `${control.common}${names}
local alive = redis.call('ZRANGE', workers, now, '+inf', 'BYSCORE', 'LIMIT', 0, ${MOST_WORKERS})
local reports = {}
for i, info in ipairs(#alive > 0 and redis.call('HMGET', workers_info, unpack(alive)) or {}) do
  reports[2 * i - 1], reports[2 * i] = alive[i], info or ''
end
local held = redis.call('ZRANGE', leases, '(' .. now, '+inf', 'BYSCORE', 'LIMIT', 0, ${MOST_WORKERS}, 'WITHSCORES')
return { reports, held }`,
  params,
  result: (reply): Either.Either<Crew, string> => {
    const [reports, held] = Array.isArray(reply) ? reply : []
    return Array.isArray(reports) && Array.isArray(held)
      ? Either.right({
        reports: pairsOf(reports),
        leases: pairsOf(held).map(([member, ends]) => [member, Number(ends)] as const)
      })
      : Either.left("workers and leases")
  },
  idempotent: true
})

/** Everything that is known of a job. */
export interface Story {
  readonly row: control.Row
  /** The member of its lease. */
  readonly member: string
  /** JSON of what its handler has told last. */
  readonly progress: string
  readonly deadline: string
  readonly deduplicationKey: string
  readonly cancelled: boolean
  /** JSON about its worker. */
  readonly worker: string
}

/**
 * Everything that is known of a job. As \`queue.get\`.
 *
 * ARGV id. Returns the job, the member of its lease, progress, deadline, deduplication key, whether it is cancelled, and
 * what its worker has told, or nothing.
 */
export const story = RedisScript.make({
  name: "queue.story",
  lua: `${control.common}${names}${control.rows}
local id = ARGV[3]
local state, member, ends = state_of(id)
if not state then return false end
local at = ends
if state == 'delayed' then at = redis.call('ZSCORE', delayed, id) end
if state == 'dead' then at = redis.call('ZSCORE', dead, id) end
local worker = member and redis.call('HGET', workers_info, string.match(member, '^(.-):')) or ''
return { row(id, state, at), member or '', redis.call('HGET', progress, id) or '', redis.call('HGET', deadlines, id) or '',
  redis.call('HGET', unique_of, id) or '', redis.call('SISMEMBER', cancelled, id), worker }`,
  params: (target: control.Target, id: string) => params(target, id),
  result: (reply): Either.Either<Story | undefined, string> => {
    if (reply === null) return Either.right(undefined)
    const [first, member, progress, deadline, deduplicationKey, cancelled, worker] = Array.isArray(reply) ? reply : []
    const row = first === undefined ? undefined : control.rowOf(first)
    return row !== undefined && isText(member) && isText(progress) && isText(deadline) && isText(deduplicationKey) &&
        isText(worker)
      ? Either.right({ row, member, progress, deadline, deduplicationKey, cancelled: cancelled === 1, worker })
      : Either.left("a job or nothing")
  },
  idempotent: true
})
