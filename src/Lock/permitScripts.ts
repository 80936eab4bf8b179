/**
 * The Lua of what several can hold at once: a number of permits, of which each holder has one or more for a lease of its
 * own. A semaphore is that by name; in a read-write lock a reader holds one permit and a writer all of them. The keys of
 * one name share a hash tag, and begin with `semaphore:{name}` or `rwlock:{name}`:
 *
 * - The key itself is a hash with `weight token` for each owner, the sum of the weights (`used`) and the number of
 *   permits there are (`limit`), which is that of whoever asked last. Behind the token stands `?` as long as it is the
 *   owner's turn and it has not claimed its permits.
 * - `:leases` is a sorted set of the owners by the end of their leases, in milliseconds of the server's clock. It and the
 *   hash live as long as the longest lease, and a minute longer when somebody waits.
 * - `:queue` is a sorted set of the owners that wait, by arrival. It lives a minute past the last sign of life of any of
 *   them.
 * - `:fence` holds the last fencing token, and lives a day past the last grant.
 *
 * An owner is `process:n/weight`, with `+` behind it when it may overtake. Every script first takes back what leases that
 * are over have held, and is the same whether it runs once or twice for the same owner.
 */
import * as Either from "effect/Either"
import type { Reply } from "../RedisClient.js"
import * as RedisScript from "../RedisScript.js"
import { DAY, flag, keyOf, nextToken, type Notices, type Owner, queueing, TURN, withoutWeight } from "./scripts.js"
import type { Answer } from "./Waiters.js"

/** An owner of permits, or one who asks for some. */
export interface PermitOwner extends Owner {
  /** How many permits there are. */
  readonly limit: number
  /** How many it holds. */
  readonly weight: number
  readonly notices: Notices
}

export const permitKeysOf = (kind: "semaphore" | "rwlock", name: string): ReadonlyArray<string> => {
  const key = keyOf(kind, name)
  return [key, `${key}:leases`, `${key}:queue`, `${key}:fence`]
}

/** The name of an owner says what it asks for. */
export const ownerOf = (owner: string, weight: number, fair: boolean): string => `${owner}/${weight}${fair ? "" : "+"}`

const serverNow = `
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)`

/** KEYS holders, leases, queue, fence. ARGV owner, limit, …, channel, whether it is a Cluster. */
const counting = `
local holders, leases, queue, fence = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local me, asked, channel, cluster = ARGV[1], tonumber(ARGV[2]), ARGV[#ARGV - 1], ARGV[#ARGV] == '1'
${serverNow}
local counts = redis.call('HMGET', holders, 'used', 'limit')
local used, limit = tonumber(counts[1]) or 0, tonumber(counts[2]) or asked
local queued = redis.call('EXISTS', queue) == 1
local changed, freed = false, false
${queueing}
local function wants(owner)
  local weight, overtakes = string.match(owner, '/(%d+)(%+?)$')
  return tonumber(weight), overtakes == '+'
end

local function held_by(owner)
  if used == 0 then return nil end
  local weight, token, turn = string.match(redis.call('HGET', holders, owner) or '', '^(%d+) (%d+)(.*)$')
  return tonumber(weight), token, turn == ' ?'
end

local function put(owner, weight, token, life, turn)
  redis.call('HSET', holders, owner, weight .. ' ' .. token .. (turn and ' ?' or ''))
  redis.call('ZADD', leases, now + life, owner)
  changed = true
end

local function take_back(owner, weight)
  redis.call('HDEL', holders, owner)
  redis.call('ZREM', leases, owner)
  used = used - (weight or 0)
  changed, freed = true, true
end

-- Who did not come when it was its turn belongs to a process that is stopped or gone, and so do its other waiters.
local function purge()
  if used == 0 then return end
  for _, owner in ipairs(redis.call('ZRANGEBYSCORE', leases, '-inf', now)) do
    local weight, _, turn = held_by(owner)
    take_back(owner, weight)
    if turn and process_of(owner) ~= process_of(me) then drop(process_of(owner)) end
  end
end

-- Whoever waits with more than there are by now gets in when nobody else is.
local function fits(weight)
  return used == 0 or used + weight <= limit
end

local function grant(owner, weight, life, turn)
  local last = redis.call('GET', fence)
  ${nextToken}
  redis.call('SET', fence, text, 'PX', ${DAY})
  put(owner, weight, text, life, turn)
  used = used + weight
  return token
end

-- Gives permits to those who wait and can still be reached, in the order of their arrival as long as they fit. Of those
-- behind one who does not, the first 64 are looked at for some who may overtake.
-- Returns the token when one of them is the caller itself.
local function hand_out(life)
  if not queued then return nil end
  local mine
  local at, turns = 0, {}
  while used < limit and at < 64 do
    local owner = redis.call('ZRANGE', queue, at, at)[1]
    if not owner then break end
    local weight, overtakes = wants(owner)
    if not fits(weight) or (at > 0 and not overtakes) then
      at = at + 1
    elseif owner == me then
      redis.call('ZREM', queue, owner)
      mine = grant(owner, weight, life)
    elseif reaches(owner, channel, 'turn ' .. owner) then
      redis.call('ZREM', queue, owner)
      grant(owner, weight, ${TURN}, true)
      turns[process_of(owner)] = true
    else
      drop(process_of(owner))
      at = 0
    end
  end
  for process in pairs(turns) do watch_turn(channel, ${TURN}, process .. ':') end
  return mine
end

local function keep()
  if not changed then return end
  if used == 0 then
    redis.call('DEL', holders, leases)
    return
  end
  local longest = redis.call('ZRANGE', leases, -1, -1, 'WITHSCORES')[2] or now
  -- A turn that nobody takes must be known for what it was when it is over.
  if queued then longest = longest + 60000 end
  redis.call('HSET', holders, 'used', used, 'limit', limit)
  redis.call('PEXPIREAT', holders, longest)
  redis.call('PEXPIREAT', leases, longest)
end

purge()
`

const answer = (reply: Reply): Either.Either<Answer, string> =>
  typeof reply === "number"
    ? Either.right(reply)
    : Array.isArray(reply) && typeof reply[0] === "number" && typeof reply[1] === "string"
    ? Either.right({ remaining: reply[0], holder: withoutWeight(reply[1]) })
    : Either.left("a token, or the time left and a holder")

/**
 * Takes permits, claims them when it is the owner's turn, or joins the queue. O(log n + k log n) with n holders and
 * waiters, of which k leases are over or k turns come.
 *
 * KEYS holders, leases, queue, fence. ARGV owner, limit, lease, whether to wait, channel, whether it is a Cluster.
 * Returns the token, or `[milliseconds left, holder]`.
 */
export const acquire = RedisScript.make({
  name: "permits.acquire",
  idempotent: true,
  lua: `${counting}
local lease, wait = ARGV[3], ARGV[4] == '1'
local held, token = held_by(me)
if held then
  put(me, held, token, lease)
  if freed then hand_out() end
  keep()
  return tonumber(token)
end
local waits = queued and redis.call('ZSCORE', queue, me)
-- The number of permits is that of the latest newcomer: who waits has asked before.
if not waits and limit ~= asked then limit, changed = asked, true end
local weight, overtakes = wants(me)
if fits(weight) and (overtakes or not queued) then
  if waits then redis.call('ZREM', queue, me) end
  token = grant(me, weight, lease)
  if overtakes then hand_out() end
else
  if wait then
    if not waits then
      local newest = redis.call('ZRANGE', queue, -1, -1, 'WITHSCORES')[2]
      redis.call('ZADD', queue, (newest or 0) + 1, me)
    end
    redis.call('PEXPIRE', queue, '60000')
    queued = true
  end
  token = hand_out(lease)
  -- Those who came before may all be gone.
  if not token and fits(weight) and redis.call('EXISTS', queue) == 0 then token = grant(me, weight, lease) end
end
keep()
if token then return token end
local first = redis.call('ZRANGE', leases, 0, 0, 'WITHSCORES')
return { (first[2] or now) - now, first[1] or '/' }`,
  params: ({ keys, limit, notices: { channel, cluster }, owner }: PermitOwner, lease: number, wait: boolean) => ({
    keys,
    args: [owner, String(limit), String(lease), flag(wait), channel, flag(cluster)]
  }),
  result: answer
})

/**
 * Ends whatever an owner has to do with a name: gives its permits back, and leaves the queue. O(log n + k log n) as above.
 *
 * KEYS holders, leases, queue, fence. ARGV owner, limit, channel, whether it is a Cluster. Returns whether the owner held
 * permits.
 */
export const release = RedisScript.make({
  name: "permits.release",
  lua: `${counting}
local weight = held_by(me)
if weight then take_back(me, weight) else redis.call('ZREM', queue, me) end
hand_out()
keep()
return weight and 1 or 0`,
  params: ({ keys, limit, notices: { channel, cluster }, owner }: PermitOwner) => ({
    keys,
    args: [owner, String(limit), channel, flag(cluster)]
  }),
  result: RedisScript.boolean
})

/**
 * Sets the time left of permits that the owner still holds, and gives back those beyond its weight. O(log n + k log n) as
 * above.
 *
 * KEYS holders, leases, queue, fence. ARGV owner, limit, lease, weight, channel, whether it is a Cluster. Returns whether
 * the owner holds permits.
 */
export const extend = RedisScript.make({
  name: "permits.extend",
  idempotent: true,
  lua: `${counting}
local held, token = held_by(me)
if held then
  local weight = math.min(held, tonumber(ARGV[4]))
  if weight < held then
    used = used - held + weight
    freed = true
  end
  put(me, weight, token, ARGV[3])
end
if freed then hand_out() end
keep()
return held and 1 or 0`,
  params: ({ keys, limit, notices: { channel, cluster }, owner, weight }: PermitOwner, lease: number) => ({
    keys,
    args: [owner, String(limit), String(lease), String(weight), channel, flag(cluster)]
  }),
  result: RedisScript.boolean
})

/**
 * Takes all permits back whoever holds them. O(n) with n holders.
 *
 * KEYS holders, leases, queue, fence. ARGV nothing, limit, channel, whether it is a Cluster. Returns how many permits were
 * held.
 */
export const forceRelease = RedisScript.make({
  name: "permits.forceRelease",
  lua: `${counting}
local held = used
if held > 0 then
  redis.call('DEL', holders, leases)
  used, changed = 0, true
end
hand_out()
keep()
return held`,
  params: (keys: ReadonlyArray<string>, limit: number, { channel, cluster }: Notices) => ({
    keys,
    args: ["", String(limit), channel, flag(cluster)]
  }),
  result: RedisScript.number
})

/**
 * How many permits are held. O(log n + k) with n holders, of which k leases are over.
 *
 * KEYS holders, leases.
 */
export const inUse = RedisScript.make({
  name: "permits.inUse",
  idempotent: true,
  lua: `${serverNow}
local used = tonumber(redis.call('HGET', KEYS[1], 'used')) or 0
for _, owner in ipairs(redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', now)) do
  used = used - (tonumber(string.match(redis.call('HGET', KEYS[1], owner) or '', '^(%d+) ')) or 0)
end
return used`,
  params: (keys: ReadonlyArray<string>) => ({ keys: keys.slice(0, 2), args: [] }),
  result: RedisScript.number
})

/** What `inspect` reads. */
export interface Inspection {
  readonly waiters: number
  /** By the end of their leases. */
  readonly holders: ReadonlyArray<{
    readonly owner: string
    readonly weight: number
    readonly token: number
    /** Milliseconds. */
    readonly remaining: number
  }>
}

/**
 * KEYS holders, leases, queue. Returns the number of waiters, and for each holder owner, weight, token and milliseconds
 * left. O(n) with n holders.
 */
export const inspect = RedisScript.make({
  name: "permits.inspect",
  idempotent: true,
  lua: `${serverNow}
local reply = { redis.call('ZCARD', KEYS[3]) }
local owners = redis.call('ZRANGEBYSCORE', KEYS[2], string.format('(%.0f', now), '+inf', 'WITHSCORES')
for i = 1, #owners, 2 do
  local weight, token = string.match(redis.call('HGET', KEYS[1], owners[i]) or '', '^(%d+) (%d+)')
  if weight then
    for _, value in ipairs({ owners[i], weight, token, owners[i + 1] - now }) do reply[#reply + 1] = value end
  end
end
return reply`,
  params: (keys: ReadonlyArray<string>) => ({ keys: keys.slice(0, 3), args: [] }),
  result: (reply): Either.Either<Inspection, string> => {
    if (!Array.isArray(reply) || typeof reply[0] !== "number" || reply.length % 4 !== 1) {
      return Either.left("the number of waiters, and four values for each holder")
    }
    const [waiters, ...values] = reply
    const holders = Array.from({ length: values.length / 4 }, (_, i) => {
      const [owner, weight, token, remaining] = values.slice(4 * i, 4 * i + 4)
      return {
        owner: withoutWeight(String(owner)),
        weight: Number(weight),
        token: Number(token),
        remaining: Number(remaining)
      }
    })
    return Either.right({ waiters, holders })
  }
})
