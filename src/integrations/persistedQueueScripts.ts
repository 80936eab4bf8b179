/**
 * The Lua of the persisted queue. The keys of one queue share a hash tag:
 *
 * - `persisted-queue:{name}` is a hash with the payload of each item that is not finished. Scripts never look into it.
 * - `…:waiting` is a list of the ids that nobody works at, next one first.
 * - `…:leases` is a sorted set of what somebody works at, by the end of the lease. A member is `claim id`: removing it is
 *   what settles an item, so only whoever still holds it can.
 * - `…:attempts` is a hash of how often each item has failed.
 * - `…:ids` is a sorted set of the ids that are not accepted again, by the time until which; infinite as long as the item
 *   is there, and minus infinite when the id was made up for it, because then it need not be remembered for long.
 * - `…:dead` is a list of what failed too often, newest first. It has a bounded length, and its life begins anew with each.
 *
 * The keys of a queue that is empty are gone, but for the last two, which have a life.
 */
import * as Either from "effect/Either"
import type { Reply } from "../RedisClient.js"
import * as RedisScript from "../RedisScript.js"

/** What all scripts know of a queue. */
export interface Queue {
  readonly keys: ReadonlyArray<string>
  /** With the client's prefix: who waits is told there. */
  readonly channel: string
  /** Milliseconds. */
  readonly lease: number
  readonly idRetention: number
  readonly deadLetterRetention: number
  readonly deadLetters: number
}

const RESERVED = /[%}]/g

/** What the keys of a queue begin with. `}` would end the hash tag early, and `%` is what it is written with. */
export const baseOf = (prefix: string, name: string): string =>
  `${prefix}{${name.replace(RESERVED, encodeURIComponent)}}`

export const keysOf = (base: string): ReadonlyArray<string> => [
  base,
  `${base}:waiting`,
  `${base}:leases`,
  `${base}:attempts`,
  `${base}:ids`,
  `${base}:dead`
]

/** How long an id that was made up is remembered when its item is finished: longer than its offer can be repeated. */
const MADE_UP = 600_000

const common = `
local items, waiting, leases, attempts, ids, dead = unpack(KEYS)
local channel, lease, id_retention = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local args = { unpack(ARGV, 6) }

local function tell() redis.call('PUBLISH', channel, '') end

-- When the queue is empty nobody purges the ids any more.
local function finish(id)
  redis.call('HDEL', items, id)
  redis.call('HDEL', attempts, id)
  local score = redis.call('ZSCORE', ids, id)
  if score then
    redis.call('ZADD', ids, string.format('%.0f', now + (score == '-inf' and ${MADE_UP} or id_retention)), id)
  end
  redis.call('ZREMRANGEBYSCORE', ids, 0, string.format('%.0f', now))
  if redis.call('EXISTS', items) == 0 then
    redis.call('PEXPIRE', ids, string.format('%.0f', math.max(${MADE_UP}, id_retention)))
  end
end

local function bury(id, count, failure, item)
  redis.call('LPUSH', dead, '{"id":' .. cjson.encode(id) .. ',"attempts":' .. count .. ',"failure":' ..
    cjson.encode(failure) .. ',"item":' .. (item or redis.call('HGET', items, id) or 'null') .. '}')
  redis.call('LTRIM', dead, 0, ARGV[5] - 1)
  redis.call('PEXPIRE', dead, ARGV[4])
  finish(id)
end

local function id_of(member) return string.match(member, '^%S+ (.*)$') end
`

const paramsOf = (
  { channel, deadLetterRetention, deadLetters, idRetention, keys, lease }: Queue,
  ...args: ReadonlyArray<string | number>
) => ({ keys, args: [channel, lease, idRetention, deadLetterRetention, deadLetters, ...args] })

/**
 * Adds an item, unless its id is not accepted. O(log n).
 *
 * ARGV id, payload, whether the id is the user's. Returns whether it was added.
 */
export const offer = RedisScript.make({
  name: "persistedQueue.offer",
  idempotent: true,
  lua: `${common}
local id, payload, custom = args[1], args[2], args[3]
if redis.call('HEXISTS', items, id) == 1 then return 0 end
local score = redis.call('ZSCORE', ids, id)
-- An infinite one without its item is what is left of a queue that lost its keys.
if score and score ~= 'inf' and score ~= '-inf' and tonumber(score) > now then return 0 end
redis.call('HSET', items, id, payload)
redis.call('RPUSH', waiting, id)
redis.call('ZADD', ids, custom == '1' and '+inf' or '-inf', id)
redis.call('PERSIST', ids)
tell()
return 1`,
  params: (queue: Queue, id: string, payload: string, custom: boolean) =>
    paramsOf(queue, id, payload, custom ? "1" : "0"),
  result: RedisScript.boolean
})

/** What a claim got. */
export interface Claimed {
  readonly items: ReadonlyArray<{ readonly id: string; readonly payload: string; readonly attempts: number }>
  /** Milliseconds until the first lease ends. */
  readonly next: number
}

const claimed = (reply: Reply): Either.Either<Claimed, string> => {
  if (!Array.isArray(reply) || reply.length % 3 !== 1) return Either.left("the time left, and items")
  const items: Array<Claimed["items"][number]> = []
  for (let i = 1; i < reply.length; i += 3) {
    items.push({ id: String(reply[i]), payload: String(reply[i + 1]), attempts: Number(reply[i + 2]) })
  }
  const next = Number(reply[0])
  return Either.right({ items, next: next < 0 ? Infinity : next })
}

/**
 * Takes back what those held whose leases have ended, and claims up to `count` items. O(log n) for each.
 *
 * ARGV claim, count, how often an item may fail.
 */
export const claim = RedisScript.make({
  name: "persistedQueue.claim",
  lua: `${common}
local claim, count, most = args[1], tonumber(args[2]), tonumber(args[3])
local ended = redis.call('ZRANGEBYSCORE', leases, '-inf', string.format('%.0f', now), 'LIMIT', 0, 100)
for i = #ended, 1, -1 do
  local id = id_of(ended[i])
  redis.call('ZREM', leases, ended[i])
  local failed = redis.call('HINCRBY', attempts, id, 1)
  if failed >= most then
    bury(id, failed, 'the lease ended: its worker stopped, or was cut off')
  else
    redis.call('LPUSH', waiting, id)
  end
end
local reply = { -1 }
while count > 0 do
  local id = redis.call('LPOP', waiting)
  if not id then break end
  local payload = redis.call('HGET', items, id)
  if payload then
    redis.call('ZADD', leases, string.format('%.0f', now + lease), claim .. ' ' .. id)
    reply[#reply + 1] = id
    reply[#reply + 1] = payload
    reply[#reply + 1] = redis.call('HGET', attempts, id) or '0'
    count = count - 1
  else
    redis.call('HDEL', attempts, id)
  end
end
if #ended > 0 and redis.call('EXISTS', waiting) == 1 then tell() end
local first = redis.call('ZRANGE', leases, 0, 0, 'WITHSCORES')[2]
if first then reply[1] = math.max(0, first - now) end
return reply`,
  params: (queue: Queue, claim: string, count: number, maxAttempts: number) =>
    paramsOf(queue, claim, count, maxAttempts),
  result: claimed
})

/** How an item is settled. */
export type Outcome =
  | { readonly _tag: "done" }
  /** It was not worked at, or not to the end: it goes back to where it was. */
  | { readonly _tag: "released" }
  /** With a payload, in place of the one that is kept, it is never tried again. */
  | {
    readonly _tag: "failed"
    readonly maxAttempts: number
    readonly failure: string
    readonly payload?: string | undefined
  }

export type Settled = "lost" | "settled" | "dead"

const settledAs: ReadonlyArray<Settled> = ["lost", "settled", "dead"]

/**
 * Settles an item, if it is still held by this claim. O(log n).
 *
 * ARGV claim, id, outcome, how often it may fail, failure, payload. Returns 0 when it is not held, 2 when it is dead, else
 * 1.
 */
export const settle = RedisScript.make({
  name: "persistedQueue.settle",
  idempotent: true,
  lua: `${common}
local id, outcome = args[2], args[3]
if redis.call('ZREM', leases, args[1] .. ' ' .. id) == 0 then return 0 end
if outcome == 'done' then
  finish(id)
  return 1
end
if outcome == 'failed' then
  local failed = redis.call('HINCRBY', attempts, id, 1)
  if args[6] or failed >= tonumber(args[4]) then
    bury(id, failed, args[5], args[6])
    return 2
  end
  redis.call('RPUSH', waiting, id)
else
  redis.call('LPUSH', waiting, id)
end
tell()
return 1`,
  params: (queue: Queue, claim: string, id: string, outcome: Outcome) =>
    outcome._tag !== "failed"
      ? paramsOf(queue, claim, id, outcome._tag)
      : paramsOf(
        queue,
        claim,
        id,
        outcome._tag,
        outcome.maxAttempts,
        outcome.failure,
        ...(outcome.payload === undefined ? [] : [outcome.payload])
      ),
  result: (reply) => {
    const settled = settledAs[Number(reply)]
    return settled === undefined ? Either.left("0, 1 or 2") : Either.right(settled)
  }
})

/**
 * Gives back all that a claim got: its reply was lost. O(n) with n items that are worked at.
 *
 * ARGV claim. Returns how many there were.
 */
export const releaseAll = RedisScript.make({
  name: "persistedQueue.releaseAll",
  idempotent: true,
  lua: `${common}
local prefix, count = args[1] .. ' ', 0
local members = redis.call('ZREVRANGE', leases, 0, -1)
for _, member in ipairs(members) do
  if string.sub(member, 1, #prefix) == prefix then
    redis.call('ZREM', leases, member)
    redis.call('LPUSH', waiting, id_of(member))
    count = count + 1
  end
end
if count > 0 then tell() end
return count`,
  params: (queue: Queue, claim: string) => paramsOf(queue, claim),
  result: RedisScript.number
})

/**
 * Renews leases that are still there; never makes one. O(log n) for each.
 *
 * ARGV `claim id` of each. Returns those that are lost.
 */
export const renew = RedisScript.make({
  name: "persistedQueue.renew",
  idempotent: true,
  lua: `${common}
local lost = {}
for _, member in ipairs(args) do
  if redis.call('ZSCORE', leases, member) then
    redis.call('ZADD', leases, string.format('%.0f', now + lease), member)
  else
    lost[#lost + 1] = member
  end
end
return lost`,
  params: (queue: Queue, members: ReadonlyArray<string>) => paramsOf(queue, ...members),
  result: (reply) => Array.isArray(reply) ? Either.right(reply.map(String)) : Either.left("members")
})

/**
 * Puts a dead letter back into its queue, as if it had never failed. O(n) with n dead letters.
 *
 * ARGV the letter as it is kept, id, payload. Returns whether it was: not when the letter is gone, or when an item of this
 * id was offered again.
 */
export const replay = RedisScript.make({
  name: "persistedQueue.replay",
  lua: `${common}
local letter, id, payload = args[1], args[2], args[3]
if redis.call('HEXISTS', items, id) == 1 or redis.call('LREM', dead, 1, letter) == 0 then return 0 end
redis.call('HSET', items, id, payload)
redis.call('RPUSH', waiting, id)
redis.call('ZADD', ids, '+inf', id)
redis.call('PERSIST', ids)
tell()
return 1`,
  params: (queue: Queue, letter: string, id: string, payload: string) => paramsOf(queue, letter, id, payload),
  result: RedisScript.boolean
})
