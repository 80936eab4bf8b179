/**
 * The Lua of the lock. The keys of one name share a hash tag:
 *
 * - `lock:{name}` holds `owner token` and lives as long as the lease.
 * - `lock:{name}:queue` is a sorted set of the owners that wait, by arrival. It lives a minute past the last sign of
 *   life of any of them.
 * - `lock:{name}:fence` holds the last fencing token, and behind it the owner whose turn it is while that one has not
 *   claimed the lock yet. It lives a day past the last grant, so that tokens keep growing when the server's clock is set
 *   back.
 *
 * An owner is `process:n`. Whoever's turn it is hears of it on its process's channel and claims the lock by asking for it
 * again: every script is the same whether it runs once or twice for the same owner.
 */
import * as Either from "effect/Either"
import * as Option from "effect/Option"
import type { Reply } from "../RedisClient.js"
import * as RedisScript from "../RedisScript.js"
import type { Answer } from "./Waiters.js"

const RESERVED = /[%}]/

/** Who holds a lock or waits for it, and where. */
export interface Owner {
  readonly keys: ReadonlyArray<string>
  readonly owner: string
}

/** What the keys of a name begin with. `}` would end the hash tag early, and `%` is what it is written with. */
export const keyOf = (kind: string, name: string): string =>
  `${kind}:{${RESERVED.test(name) ? name.replace(/[%}]/g, encodeURIComponent) : name}}`

/** The keys of a name. */
export const keysOf = (name: string): ReadonlyArray<string> => {
  const key = keyOf("lock", name)
  return [key, `${key}:queue`, `${key}:fence`]
}

/** The channel of a process is this with the process behind it. */
export const CHANNEL = "lock:process:"

/** How long whoever's turn it is may take to claim the lock, in milliseconds; never longer than its lease. */
export const TURN = 2000

/** How scripts tell the processes that wait. */
export interface Notices {
  /** What the channels of all processes begin with, as the server knows them. */
  readonly channel: string
  readonly cluster: boolean
}

/** Who may wait for a lock. */
export interface Waiter extends Owner {
  readonly fair: boolean
  readonly notices: Notices
}

/** The process and its number, as they are shown: owners of permits say behind them how many they want. */
export const withoutWeight = (owner: string): string => owner.replace(/\/.*/, "")

export const flag = (value: boolean): string => value ? "1" : "0"

/** One argument for several flags, because arguments are much of what a script costs. */
const modeOf = (fair: boolean, wait: boolean, cluster: boolean): string =>
  (fair ? "f" : "") + (wait ? "w" : "") + (cluster ? "c" : "")

/** A day in milliseconds, for how long the last token is remembered. */
export const DAY = "'86400000'"

/** The next token after `last`: the time in microseconds, or one more when the clock was set back. */
export const nextToken = `
  local time = redis.call('TIME')
  local token = time[1] * 1000000 + time[2]
  local seen = last and tonumber(string.match(last, '^%d+')) or 0
  if token <= seen then token = seen + 1 end
  local text = string.format('%.0f', token)`

/** What the queues of all kinds of locks have in common. `cluster` says whether it is one. */
export const queueing = `
-- On a Cluster the server counts only those who listen to itself: nobody is known to be gone.
local function reaches(owner, channel, message)
  return redis.call('PUBLISH', channel .. string.match(owner, '^[^:]+'), message) > 0 or cluster
end

local function process_of(owner)
  return string.match(owner, '^[^:]+')
end

local function drop(process)
  for _, owner in ipairs(redis.call('ZRANGE', queue, 0, -1)) do
    if process_of(owner) == process then redis.call('ZREM', queue, owner) end
  end
end

-- The first waiter of another process looks whether the turn was taken, so that one that nobody takes does not hold up
-- the queue.
local function watch_turn(channel, claim, process)
  for _, owner in ipairs(redis.call('ZRANGE', queue, 0, 63)) do
    if string.sub(owner, 1, #process) ~= process then
      redis.call('PUBLISH', channel .. process_of(owner), 'next ' .. owner .. ' ' .. claim)
      return
    end
  end
end
`

/** What has to do with waiters. A script that finds none ends before it. */
const handing = `
local function is(flag) return string.find(mode, flag, 1, true) ~= nil end
local fair, wait, cluster = is('f'), is('w'), is('c')
${queueing}
local function read_lock(value)
  return string.match(value, '^(%S+) (%d+)$')
end

-- Gives the lock to an owner; when it is its turn and it does not know yet, the turn is kept beside the token.
local function grant(owner, life, last, turn)
  ${nextToken}
  redis.call('SET', fence, turn and (text .. ' ' .. owner) or text, 'PX', ${DAY})
  redis.call('SET', lock, owner .. ' ' .. text, 'PX', life)
  return token
end

-- Gives the lock to whoever waits longest and can still be reached; frees it when there is nobody.
-- Returns the token when that is the caller itself.
local function hand_over(me, lease)
  local last = redis.call('GET', fence)
  local missed = last and string.match(last, ' (%S+)$')
  -- It was somebody's turn who never came: that process is stopped or gone, and so are its other waiters.
  if missed and not (me and process_of(me) == process_of(missed)) then drop(process_of(missed)) end
  while true do
    local owner = redis.call('ZPOPMIN', queue)[1]
    if not owner then
      redis.call('DEL', lock)
      return nil
    end
    if owner == me then return grant(me, lease, last) end
    if reaches(owner, channel, 'turn ' .. owner) then
      grant(owner, ${TURN}, last, true)
      watch_turn(channel, ${TURN}, process_of(owner) .. ':')
      return nil
    end
    drop(process_of(owner))
  end
end

-- Tells whoever waits longest that the lock is free, and leaves it to whoever comes first.
local function announce()
  while true do
    local owner = redis.call('ZRANGE', queue, 0, 0)[1]
    if not owner or reaches(owner, channel, 'turn ' .. owner) then return end
    drop(process_of(owner))
  end
end

local function free(fair)
  if redis.call('EXISTS', queue) == 0 then
    redis.call('DEL', lock)
  elseif fair then
    hand_over()
  else
    redis.call('DEL', lock)
    announce()
  end
end
`

const answer = (reply: Reply): Either.Either<Answer, string> =>
  typeof reply === "number"
    ? Either.right(reply)
    : Array.isArray(reply) && typeof reply[0] === "number" && typeof reply[1] === "string"
    ? Either.right({ remaining: reply[0], holder: reply[1] })
    : Either.left("a token, or the time left and the holder")

/**
 * Takes the lock, claims it when it is the owner's turn, or joins the queue. O(log n) with n waiters.
 *
 * KEYS lock, queue, fence. ARGV owner, lease, flags (`f` to be fair, `w` to wait, `c` for a Cluster), channel.
 * Returns the token, or `[milliseconds left, holder]`.
 */
export const acquire = RedisScript.make({
  name: "lock.acquire",
  idempotent: true,
  lua: `
local lock, queue, fence = KEYS[1], KEYS[2], KEYS[3]
local me, lease = ARGV[1], ARGV[2]
-- Nobody holds it and nobody waits: most of the time this is all.
if redis.call('EXISTS', lock, queue) == 0 then
  local last = redis.call('GET', fence)
  ${nextToken}
  redis.call('SET', fence, text, 'PX', ${DAY})
  redis.call('SET', lock, me .. ' ' .. text, 'PX', lease)
  return token
end
local mode, channel = ARGV[3], ARGV[4]
${handing}
local held, last = redis.call('GET', lock), redis.call('GET', fence)
if held then
  local owner, token = read_lock(held)
  if owner == me then
    redis.call('PEXPIRE', lock, lease)
    if last and string.find(last, ' ', 1, true) then redis.call('SET', fence, token, 'PX', ${DAY}) end
    return tonumber(token)
  end
elseif not fair then
  redis.call('ZREM', queue, me)
  return grant(me, lease, last)
end
if wait then
  if not redis.call('ZSCORE', queue, me) then
    local newest = redis.call('ZRANGE', queue, -1, -1, 'WITHSCORES')[2]
    redis.call('ZADD', queue, (newest or 0) + 1, me)
  end
  redis.call('PEXPIRE', queue, '60000')
end
if not held then
  local token = hand_over(me, lease)
  if token then return token end
  held = redis.call('GET', lock)
  if not held then return grant(me, lease, redis.call('GET', fence)) end
end
local owner = read_lock(held)
return { redis.call('PTTL', lock), owner }`,
  params: ({ fair, keys, notices: { channel, cluster }, owner }: Waiter, lease: number, wait: boolean) => ({
    keys,
    args: [owner, String(lease), modeOf(fair, wait, cluster), channel]
  }),
  result: answer
})

/**
 * Takes several locks, or none of them: all must be free, and nobody may wait for any. O(n) with n names.
 *
 * KEYS lock, queue, fence of each name. ARGV owner, lease. Returns the token of each, or nothing.
 */
export const acquireAll = RedisScript.make({
  name: "lock.acquireAll",
  idempotent: true,
  lua: `
local me, lease = ARGV[1], ARGV[2]
local tokens = {}
for i = 1, #KEYS, 3 do
  local held = redis.call('GET', KEYS[i])
  if held then
    local owner, token = string.match(held, '^(%S+) (%d+)$')
    if owner ~= me then return false end
    tokens[(i + 2) / 3] = tonumber(token)
  elseif redis.call('EXISTS', KEYS[i + 1]) == 1 then
    return false
  end
end
for i = 1, #KEYS, 3 do
  local n = (i + 2) / 3
  if tokens[n] then
    redis.call('PEXPIRE', KEYS[i], lease)
  else
    local last = redis.call('GET', KEYS[i + 2])
    ${nextToken}
    redis.call('SET', KEYS[i + 2], text, 'PX', ${DAY})
    redis.call('SET', KEYS[i], me .. ' ' .. text, 'PX', lease)
    tokens[n] = token
  end
end
return tokens`,
  params: (owners: ReadonlyArray<Owner>, lease: number) => ({
    keys: owners.flatMap(({ keys }) => keys),
    args: [owners[0]?.owner ?? "", lease]
  }),
  result: (reply): Either.Either<ReadonlyArray<number> | undefined, string> =>
    reply === null
      ? Either.right(undefined)
      : Array.isArray(reply)
      ? Either.right(reply.map(Number))
      : Either.left("a token for each name, or nothing")
})

/**
 * Ends whatever an owner has to do with a name: frees the lock when it holds it, and leaves the queue. O(log n) with n
 * waiters.
 *
 * KEYS lock, queue, fence. ARGV owner, flags, channel, as above. Returns whether the owner held the lock.
 */
export const release = RedisScript.make({
  name: "lock.release",
  lua: `
local lock, queue, fence = KEYS[1], KEYS[2], KEYS[3]
local me, mode, channel = ARGV[1], ARGV[2], ARGV[3]
local held = redis.call('GET', lock)
local mine = held and string.sub(held, 1, #me + 1) == me .. ' '
if mine and redis.call('EXISTS', queue) == 0 then
  redis.call('DEL', lock)
  return 1
end
${handing}
if not mine then redis.call('ZREM', queue, me) end
-- The word that the lock is free may have been for this owner: it goes on to the next.
if mine or not held then free(fair) end
return mine and 1 or 0`,
  params: ({ fair, keys, notices: { channel, cluster }, owner }: Waiter) => ({
    keys,
    args: [owner, modeOf(fair, false, cluster), channel]
  }),
  result: RedisScript.boolean
})

/**
 * Sets the time left of a lock that the owner still holds; never makes one. O(1).
 *
 * KEYS lock. ARGV owner, lease. Returns whether the owner holds the lock.
 */
export const extend = RedisScript.make({
  name: "lock.extend",
  idempotent: true,
  lua: `
local held = redis.call('GET', KEYS[1])
if held and string.match(held, '^(%S+) ') == ARGV[1] then return redis.call('PEXPIRE', KEYS[1], ARGV[2]) end
return 0`,
  params: ({ keys, owner }: Owner, lease: number) => ({ keys: keys.slice(0, 1), args: [owner, lease] }),
  result: RedisScript.boolean
})

/**
 * Frees the lock whoever holds it. O(log n) with n waiters.
 *
 * KEYS lock, queue, fence. ARGV flags, channel, as above. Returns whether anybody held it.
 */
export const forceRelease = RedisScript.make({
  name: "lock.forceRelease",
  lua: `
local lock, queue, fence = KEYS[1], KEYS[2], KEYS[3]
local mode, channel = ARGV[1], ARGV[2]
${handing}
local held = redis.call('EXISTS', lock)
free(fair)
return held`,
  params: (keys: ReadonlyArray<string>, { channel, cluster }: Notices) => ({
    keys,
    args: [modeOf(true, false, cluster), channel]
  }),
  result: RedisScript.boolean
})

/** What `inspect` reads. */
export interface Inspection {
  readonly holder: string
  readonly token: number
  readonly remaining: number
  readonly waiters: number
}

/**
 * KEYS lock, queue. Returns nothing, or `[owner, token, milliseconds left, number of waiters]`. O(1).
 */
export const inspect = RedisScript.make({
  name: "lock.inspect",
  idempotent: true,
  lua: `
local held = redis.call('GET', KEYS[1])
if not held then return false end
local owner, token = string.match(held, '^(%S+) (%d+)$')
return { owner, token, redis.call('PTTL', KEYS[1]), redis.call('ZCARD', KEYS[2]) }`,
  params: (keys: ReadonlyArray<string>) => ({ keys: keys.slice(0, 2), args: [] }),
  result: (reply): Either.Either<Option.Option<Inspection>, string> => {
    if (reply === null) return Either.right(Option.none())
    if (!Array.isArray(reply)) return Either.left("nothing, or a holder")
    const [holder, token, remaining, waiters] = reply
    return typeof holder === "string" && typeof token === "string" && typeof remaining === "number" &&
        typeof waiters === "number"
      ? Either.right(Option.some({ holder, token: Number(token), remaining, waiters }))
      : Either.left("a holder, its token, the time left and the number of waiters")
  }
})

export const fenceLua = `
-- Whether no larger token was seen in this field of this hash; if so, the token is kept there.
local function fence(key, field, token)
  local last = redis.call('HGET', key, field)
  if last and tonumber(last) > tonumber(token) then return false end
  redis.call('HSET', key, field, token)
  return true
end
`

/**
 * Writes a value unless a larger token has written before. O(1).
 *
 * KEYS the hash. ARGV token, value, milliseconds to live or 0. Returns 1, or the larger token.
 */
export const fencedSet = RedisScript.make({
  name: "lock.fencedSet",
  idempotent: true,
  lua: `${fenceLua}
if not fence(KEYS[1], 'fence', ARGV[1]) then return redis.call('HGET', KEYS[1], 'fence') end
redis.call('HSET', KEYS[1], 'value', ARGV[2])
if ARGV[3] == '0' then redis.call('PERSIST', KEYS[1]) else redis.call('PEXPIRE', KEYS[1], ARGV[3]) end
return 1`,
  params: (key: string, token: number, value: string | Uint8Array, ttl: number) => ({
    keys: [key],
    args: [token, value, ttl]
  }),
  result: (reply): Either.Either<Option.Option<number>, string> =>
    reply === 1
      ? Either.right(Option.none())
      : typeof reply === "string"
      ? Either.right(Option.some(Number(reply)))
      : Either.left("1, or the larger token")
})
