/**
 * The Lua of rate limits. What one identifier has used of one limit is one key, named by the algorithm and its numbers,
 * with the identifier as its hash tag. Times are microseconds of the server's clock.
 *
 * - `g`, `t` (GCRA, token bucket): a string with the time at which everything will be available again, in ticks. A tick
 *   is about a microsecond, and so long that each use takes a whole number of them: no use is ever rounded. Behind it
 *   stands the limit that was in force, when that was another than the policy's, or when the identifier is blocked; and
 *   behind that until when it is.
 * - `l` (exact sliding window): a list with the time of each use, the newest first.
 * - `s`, `f` (sliding and fixed window): a hash with the number of uses in each tenth of a window, or in each window. Those
 *   that may overlap the present window count: eleven, or one.
 *
 * Of those that are no strings, `:block` is there while the identifier is blocked, with the time until then.
 *
 * A turn that somebody waits for is a use in the future. Every key lives until everything is available again. All scripts
 * are O(uses in the list) at worst and O(log n) or O(1) in general; those that decide read everything before they write
 * anything.
 */
import * as Either from "effect/Either"
import type { RedisArg, Reply } from "../RedisClient.js"
import * as RedisScript from "../RedisScript.js"
import type { Kind, Tier } from "./tiers.js"

const serverNow = `
local clock = redis.call('TIME')
local now = clock[1] * 1000000 + clock[2]`

const buckets = `
local function ticks(window, limit)
  local one = math.max(1, math.floor(window / limit + 0.5))
  return one, one * limit / window
end

-- When all will be available, with which limit, and until when it is blocked.
local function parse(text, declared)
  local ends, limit, blocked = string.match(text, '^(%d+) ?(%d*) ?(%d*)$')
  return tonumber(ends), tonumber(limit) or declared, tonumber(blocked)
end

local function save(key, ends, rate, limit, declared, blocked)
  local text = string.format('%.0f', ends)
  if blocked or limit ~= declared then text = text .. ' ' .. string.format('%.0f', limit) end
  if blocked then text = text .. ' ' .. string.format('%.0f', blocked) end
  local life = math.max(ends / rate, blocked or 0)
  redis.call('SET', key, text, 'PXAT', string.format('%.0f', math.ceil(life / 1000)))
end`

/**
 * Each function looks at one key for a use of `cost`, and returns how long to wait for it, how many uses of cost 1 there
 * are now, when all will be available, how much is used, and three functions that write: `use` at the time that was found
 * (it returns the same without the wait, and the time), `give_back`, and `fine`.
 */
const bucket = `${buckets}

local function bucket(tier)
  local key, limit, burst, cost = tier.key, tier.limit, tier.burst, tier.cost
  local one, rate = ticks(tier.window, limit)
  local here = math.floor(now * rate)
  local level, ends = 0, 0
  local held, held_one, held_rate = 0, one, rate
  local text = redis.call('GET', key)
  if text then
    local of
    ends, of, tier.until_then = parse(text, tier.declared)
    if of ~= limit then held_one, held_rate = ticks(tier.window, of) end
    held = math.max(0, ends - math.floor(now * held_rate))
    level = of == limit and held or math.ceil(held / held_one * one)
  end

  -- Where ticks are no microseconds the last digit of a time is uncertain.
  local function until_ticks(at, rate)
    return rate == 1 and at - now or at / rate - now + 1
  end
  local function state(level, at, one, rate)
    return math.max(0, math.floor((burst * one - level) / one)),
      level == 0 and 0 or until_ticks(at, rate), math.ceil(level / one)
  end
  local function put(level)
    local blocked = tier.blocked and tier.until_then
    if level == 0 and not blocked then
      if text then redis.call('DEL', key) end
    else
      save(key, here + level, rate, limit, tier.declared, blocked)
    end
    return state(level, here + level, one, rate)
  end

  tier.remaining, tier.reset, tier.used = state(held, ends, held_one, held_rate)
  local over = held - (burst - cost) * held_one
  if over <= 0 then
    tier.wait = 0
  elseif tier.patience and held_rate ~= rate then
    -- From then on it is available at the new rate.
    tier.wait = until_ticks(here + level - (burst - cost) * one, rate)
  else
    tier.wait = until_ticks(ends - (burst - cost) * held_one, held_rate)
  end
  tier.use = function()
    tier.at = now + tier.wait
    return put(level + cost * one)
  end
  tier.give_back = function() return put(math.max(0, level - cost * one)) end
  tier.fine = function() return put(math.max(level, math.min(level + cost * one, burst * one))) end
end`

const log = `
local function log(tier)
  local key, window, limit, cost = tier.key, tier.window, tier.limit, tier.cost
  local function stamp(i) return tonumber(redis.call('LINDEX', key, i)) end
  local length = redis.call('LLEN', key)
  local live, newest, last = length, now, nil
  if length > 0 then
    last = stamp(0)
    newest = math.max(now, last)
    if stamp(-1) <= now - window then
      -- The first of those that are over.
      local low, high = 0, length - 1
      while low < high do
        local middle = math.floor((low + high) / 2)
        if stamp(middle) <= now - window then high = middle else low = middle + 1 end
      end
      live = low
    end
  end
  local function push(n, at)
    if live < length then redis.call('LTRIM', key, 0, live - 1) end
    local text, some = string.format('%.0f', at), {}
    for i = 1, n do
      some[#some + 1] = text
      if #some == 1000 or i == n then
        redis.call('LPUSH', key, unpack(some))
        some = {}
      end
    end
    live = live + n
    redis.call('PEXPIREAT', key, string.format('%.0f', math.ceil((at + window) / 1000)))
  end

  tier.remaining = newest > now and 0 or math.max(0, limit - live)
  tier.reset, tier.used = live > 0 and last + window - now or 0, live
  local at = newest
  if cost <= limit and live + cost > limit then at = math.max(at, stamp(limit - cost) + window) end
  tier.wait = at - now
  tier.use = function()
    tier.at = at
    push(cost, at)
    return at > now and 0 or math.max(0, limit - live), at + window - now, live
  end
  tier.give_back = function()
    if tier.stamp then
      redis.call('LREM', key, cost, tier.stamp)
    elseif live <= cost then
      redis.call('DEL', key)
    else
      -- The oldest ones, so that those who stay never count for less time than they must.
      redis.call('LTRIM', key, 0, live - cost - 1)
    end
  end
  tier.fine = function()
    local n = math.min(cost, limit - live)
    if n > 0 then push(n, newest) end
  end
end`

const counters = `
local function counters(tier)
  local key, limit, cost = tier.key, tier.limit, tier.cost
  local parts = tier.kind == 's' and 10 or 0
  local width = parts == 0 and tier.window or tier.window / parts
  local here = math.floor(now / width)
  local first, newest, sum = here - parts, here, 0
  local live, counts, over = {}, {}, {}
  local all = redis.call('HGETALL', key)
  for i = 1, #all, 2 do
    local part, n = tonumber(all[i]), tonumber(all[i + 1])
    if part < first then
      over[#over + 1] = all[i]
    else
      live[#live + 1] = part
      counts[part] = n
      sum = sum + n
      if part > newest then newest = part end
    end
  end
  if #live > 1 then table.sort(live) end

  local function state()
    local last = live[#live]
    return newest > here and 0 or math.max(0, limit - sum), last and (last + parts + 1) * width - now or 0, sum
  end
  local function add(n, part)
    if #over > 0 then redis.call('HDEL', key, unpack(over)) end
    redis.call('HINCRBY', key, string.format('%.0f', part), n)
    if not counts[part] then
      live[#live + 1] = part
      redis.call('PEXPIREAT', key, string.format('%.0f', math.ceil((part + parts + 1) * width / 1000)))
    end
    counts[part] = (counts[part] or 0) + n
    sum, newest = sum + n, math.max(newest, part)
  end
  local function take(n, part)
    local field = string.format('%.0f', part)
    if n >= counts[part] then redis.call('HDEL', key, field) else redis.call('HINCRBY', key, field, -n) end
  end

  tier.remaining, tier.reset, tier.used = state()
  local part, left = newest, sum
  for _, each in ipairs(live) do
    if cost > limit then break end
    if each < part - parts then
      left = left - counts[each]
    elseif left + cost > limit then
      left = left - counts[each]
      part = each + parts + 1
    else
      break
    end
  end
  tier.wait = part == here and 0 or part * width - now
  tier.use = function()
    tier.at = part == here and now or part * width
    add(cost, part)
    return state()
  end
  tier.give_back = function()
    if tier.stamp then
      local own = math.floor(tonumber(tier.stamp) / width)
      if counts[own] then take(cost, own) end
      return
    end
    -- The oldest ones, so that those who stay never count for less time than they must.
    local n = cost
    for _, each in ipairs(live) do
      if n <= 0 then break end
      take(n, each)
      n = n - counts[each]
    end
  end
  tier.fine = function()
    local n = math.min(cost, limit - sum)
    if n > 0 then add(n, newest) end
  end
end`

/** How many arguments each limit has. */
const ARGS = 6

/**
 * KEYS for each limit: what is used, and whether it is blocked, which a bucket says itself. ARGV mode, how long it may wait
 * and the turn that is given back (both may be empty); then for each limit: kind, window, declared limit, limit in force,
 * burst, cost.
 *
 * Returns for each limit: milliseconds to wait (-1 when it is in vain), remaining, milliseconds until all is available,
 * used; and behind them the time of the turn, when it may wait.
 */
const decideWith = (functions: string, byKind: string) => `
local mode, patience = ARGV[1], tonumber(ARGV[2])
${serverNow}
${functions}
local kinds = { ${byKind} }
local tiers, allowed = {}, true

local function look(i, cost)
  local a = 4 + (i - 1) * ${ARGS}
  local tier = {
    key = KEYS[2 * i - 1],
    kind = ARGV[a],
    window = tonumber(ARGV[a + 1]),
    declared = tonumber(ARGV[a + 2]),
    limit = tonumber(ARGV[a + 3]),
    burst = tonumber(ARGV[a + 4]),
    cost = cost or tonumber(ARGV[a + 5]),
    stamp = ARGV[3] ~= '' and ARGV[3],
    patience = patience
  }
  kinds[tier.kind](tier)
  if tier.cost > tier.burst then tier.wait = -1 end
  if tier.kind ~= 'g' and tier.kind ~= 't' then tier.until_then = tonumber(redis.call('GET', KEYS[2 * i])) end
  if tier.until_then then
    local blocked = tier.until_then - now
    if blocked > 0 then
      tier.blocked, tier.remaining, tier.reset = true, 0, math.max(tier.reset, blocked)
      if tier.wait >= 0 then tier.wait = math.max(tier.wait, blocked) end
    end
  end
  tiers[i] = tier
  return tier
end

for i = 1, #KEYS / 2 do
  local tier = look(i)
  if tier.wait ~= 0 and (tier.wait < 0 or tier.blocked or not patience or tier.wait > patience) then allowed = false end
end

for i, tier in ipairs(tiers) do
  if mode == 'consume' then
    if allowed then tier.remaining, tier.reset, tier.used = tier.use() end
  elseif mode ~= 'check' then
    tier[mode]()
    look(i, 1)
  end
end

local reply = {}
for _, tier in ipairs(tiers) do
  reply[#reply + 1] = tier.wait < 0 and -1 or math.ceil(tier.wait / 1000)
  reply[#reply + 1] = tier.remaining
  reply[#reply + 1] = math.ceil(tier.reset / 1000)
  reply[#reply + 1] = tier.used
end
if patience and allowed then reply[#reply + 1] = string.format('%.0f', tiers[1].at) end
return reply`

/** What a script is called for. */
export interface Call {
  readonly mode: "consume" | "check" | "give_back" | "fine"
  readonly tiers: ReadonlyArray<Tier>
  /** How long it may wait for its turn, in microseconds; for one limit alone. */
  readonly patience?: number
  /** The turn that is given back. */
  readonly stamp?: string
}

const params = ({ mode, patience, stamp, tiers }: Call): RedisScript.Params => {
  const keys: Array<string> = []
  const args: Array<RedisArg> = [mode, patience ?? "", stamp ?? ""]
  for (const { burst, cost, key, limit, rate } of tiers) {
    keys.push(key, blockOf(key))
    args.push(rate.kind, rate.window, rate.limit, limit, burst, cost)
  }
  return { keys, args }
}

/** Where it is noted that an identifier is blocked. */
const blockOf = (key: string): string => `${key}:block`

/** All that there may be of an identifier. */
export const keysOf = (tiers: ReadonlyArray<Tier>): ReadonlyArray<string> =>
  tiers.flatMap(({ key }) => [key, blockOf(key)])

/** Four numbers for each limit, and perhaps the time of a turn. */
export type Figures = ReadonlyArray<number | string>

const isFigures = (reply: Reply): reply is Figures =>
  Array.isArray(reply) && reply.every((each) => typeof each === "number" || typeof each === "string")

const result = (reply: Reply): Either.Either<Figures, string> =>
  isFigures(reply) ? Either.right(reply) : Either.left("an array of numbers")

const decideScripts = (name: string, lua: string) => ({
  write: RedisScript.make({ name: `rateLimiter.${name}`, lua, params, result }),
  read: RedisScript.make({ name: `rateLimiter.${name}`, lua, params, result, idempotent: true })
})

const ofBuckets = decideScripts("bucket", decideWith(bucket, "g = bucket, t = bucket"))
const ofLogs = decideScripts("log", decideWith(log, "l = log"))
const ofCounters = decideScripts("counters", decideWith(counters, "s = counters, f = counters"))
const ofAll = decideScripts(
  "tiers",
  decideWith(bucket + log + counters, "g = bucket, t = bucket, l = log, s = counters, f = counters")
)

const byKind: Record<Kind, typeof ofAll> = { g: ofBuckets, t: ofBuckets, l: ofLogs, s: ofCounters, f: ofCounters }

const isBucket = (kind: Kind): boolean => byKind[kind] === ofBuckets

/** The script for these limits: the shortest that knows all of them. */
export const scriptOf = ({ mode, tiers }: Call): RedisScript.RedisScript<[Call], Figures> => {
  let scripts = byKind[tiers[0]!.rate.kind]
  for (let i = 1; i < tiers.length; i++) if (byKind[tiers[i]!.rate.kind] !== scripts) scripts = ofAll
  return mode === "check" ? scripts.read : scripts.write
}

const taking = `
local call, floor, ceil, format = redis.call, math.floor, math.ceil, string.format${serverNow}

-- What the server itself makes of so long a number takes it half a microsecond. A server of 32 bits has a short %d.
local function text(n)
  if n < 1e7 then return n end
  local high = floor(n / 1e7)
  return format('%d%07d', high, n - high * 1e7)
end
`

/**
 * Consuming from buckets alone that are all in force as declared: what is nearly always asked. Here everything that does not
 * depend on the time was computed before, and what follows from the level of a bucket is left to the caller: arguments,
 * numbers in replies and tables are much of what a script costs.
 *
 * KEYS what is used of each limit. ARGV for each limit the highest level at which it allows the use, then for each limit
 * how much the use adds, in ticks; and then the ticks in a microsecond for each, unless that is 1 for all.
 *
 * Returns the level of each bucket, in ticks: afterwards, if they allow it. If not, -1 less the level. Nothing, and nothing
 * is done, when a bucket was filled by another limit or may be blocked. With one bucket the level is returned by itself,
 * without tables.
 */
const takeOne = `${taking}
local ends = tonumber(call('GET', KEYS[1]) or 0)
if not ends then return end
local rate, here = ARGV[3] or 1, now
if rate ~= 1 then here = floor(now * rate) end
local level = ends - here
if level < 0 then level = 0 end
if level > tonumber(ARGV[1]) then return -1 - level end
level = level + ARGV[2]
call('SET', KEYS[1], text(here + level), 'PXAT', text(ceil((here + level) / rate / 1000)))
return level`

const takeAll = `${taking}
local n = #KEYS
local levels, heres, allowed = {}, {}, true
for i = 1, n do
  local ends = tonumber(call('GET', KEYS[i]) or 0)
  if not ends then return end
  local here, rate = now, ARGV[2 * n + i]
  if rate then here = floor(now * rate) end
  local level = ends - here
  if level < 0 then level = 0 end
  levels[i], heres[i] = level, here
  if level > tonumber(ARGV[i]) then allowed = false end
end
for i = 1, n do
  if allowed then
    local level = levels[i] + ARGV[n + i]
    local ends = heres[i] + level
    call('SET', KEYS[i], text(ends), 'PXAT', text(ceil(ends / (ARGV[2 * n + i] or 1) / 1000)))
    levels[i] = level
  else
    levels[i] = -1 - levels[i]
  end
end
return levels`

const takeParams = (tiers: ReadonlyArray<Tier>): RedisScript.Params => {
  const n = tiers.length
  const keys = new Array<string>(n)
  const args = new Array<RedisArg>(2 * n)
  let even = true
  for (let i = 0; i < n; i++) {
    const { key, mostText, rate, useText } = tiers[i]!
    keys[i] = key
    args[i] = mostText
    args[n + i] = useText
    if (rate.ticks !== 1) even = false
  }
  if (!even) { for (const { rate } of tiers) args.push(String(rate.ticks)) }
  return { keys, args }
}

/** A level for each limit, or nothing. */
export type Levels = ReadonlyArray<number> | undefined

const isLevels = (reply: Reply): reply is ReadonlyArray<number> =>
  Array.isArray(reply) && reply.every((each) => typeof each === "number")

const levels = (reply: Reply): Either.Either<Levels, string> =>
  typeof reply === "number"
    ? Either.right([reply])
    : reply === null
    ? Either.right(undefined)
    : isLevels(reply)
    ? Either.right(reply)
    : Either.left("levels of buckets")

const take = (lua: string) => RedisScript.make({ name: ofBuckets.write.name, lua, params: takeParams, result: levels })

const takeFromOne = take(takeOne)
const takeFromAll = take(takeAll)

/** The script that consumes from these limits, if they are buckets in force as declared. */
export const takeOf = (
  tiers: ReadonlyArray<Tier>
): RedisScript.RedisScript<[ReadonlyArray<Tier>], Levels> | undefined => {
  for (let i = 0; i < tiers.length; i++) {
    const { limit, rate } = tiers[i]!
    if (limit !== rate.limit || !isBucket(rate.kind)) return undefined
  }
  return tiers.length === 1 ? takeFromOne : takeFromAll
}

/**
 * Blocks for so long from now, or ends that.
 *
 * KEYS for each limit where it is noted. ARGV for how long, in microseconds; and for each limit, if it is a bucket, its
 * window and the declared limit. Returns how many were blocked before. O(1) for each limit.
 */
export const block = RedisScript.make({
  name: "rateLimiter.block",
  idempotent: true,
  lua: `${serverNow}
${buckets}

local length, were = tonumber(ARGV[1]), 0
local until_then = length > 0 and now + length or nil
for i, key in ipairs(KEYS) do
  local window, declared = tonumber(ARGV[2 * i]), tonumber(ARGV[2 * i + 1])
  local held, before = redis.call('GET', key), nil
  if declared then
    local ends, limit = 0, declared
    if held then ends, limit, before = parse(held, declared) end
    local _, rate = ticks(window, limit)
    if until_then or ends / rate > now then
      save(key, ends, rate, limit, declared, until_then)
    elseif held then
      redis.call('DEL', key)
    end
  else
    before = held and tonumber(held)
    if until_then then
      redis.call('SET', key, string.format('%.0f', until_then), 'PXAT', string.format('%.0f', math.ceil(until_then / 1000)))
    elseif held then
      redis.call('DEL', key)
    end
  end
  if before and before > now then were = were + 1 end
end
return were`,
  params: (tiers: ReadonlyArray<Tier>, micros: number) => {
    const keys: Array<string> = []
    const args: Array<RedisArg> = [micros]
    for (const { key, rate: { kind, limit, window } } of tiers) {
      const bucket = isBucket(kind)
      keys.push(bucket ? key : blockOf(key))
      args.push(bucket ? window : "", bucket ? limit : "")
    }
    return { keys, args }
  },
  result: RedisScript.number
})
