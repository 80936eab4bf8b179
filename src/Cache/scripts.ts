/**
 * The Lua of the cache. Each script has one key, so that the entries of a cache can be anywhere on a Cluster:
 *
 * - `cache:NAME:e:KEY` is an entry (see `entry.ts`), or the lease of whoever looks its value up: `L` and a mark of their
 *   own. It lives as long as its time to live and its grace, or the lease.
 * - `cache:NAME:n:KEY` is a number that is counted, `cache:NAME:h:KEY` a hash. They live as long as they were given.
 * - `cache:NAME:tags` is a sorted set of the tags that were invalidated, by when that was, each with `:` before it.
 *   `last` is the newest of these moments, and entries from before `floor` are invalid whatever tags they have. Moments are
 *   those of the server's clock in microseconds, and grow also when that is set back. The cache owns this key: it stays,
 *   and is pruned with each invalidation. Where it was lost, the floor is raised to the present.
 *
 * Where the server does not tell which keys change, a write publishes it: `channel` is not empty then, and `message` is the
 * key of the entry.
 */
import * as Either from "effect/Either"
import { Buffer } from "node:buffer"
import type { BytesReply, RedisArg, Reply } from "../RedisClient.js"
import * as RedisScript from "../RedisScript.js"
import { EPOCH, epochOf, HEADER, PATCH } from "./entry.js"

/** Where a write is told to others; without a channel the server does that. */
export interface Notice {
  readonly channel: string
  readonly message: string
}

const isBytes = (reply: BytesReply): reply is Uint8Array => reply instanceof Uint8Array

const bytesOrNothing = (reply: BytesReply): Either.Either<Uint8Array | undefined, string> =>
  reply === null ? Either.right(undefined) : isBytes(reply) ? Either.right(reply) : Either.left("bytes or nothing")

const publish = `
local function tell()
  if ARGV[1] ~= '' then redis.call('PUBLISH', ARGV[1], ARGV[2]) end
end`

// ---------------------------------------------------------------------------------------------------------------------
// Entries
// ---------------------------------------------------------------------------------------------------------------------

/**
 * Puts a lease in place of something that is not valid any more, if it still is what was seen, or nothing.
 *
 * KEYS: the entry. ARGV: the header that was seen, the lease, its length in milliseconds.
 * Returns nothing when it was done, else what is there. Complexity: O(1), or the length of what is there.
 */
export const replace = RedisScript.make({
  name: "cacheReplace",
  lua: `
local seen = redis.call('GETRANGE', KEYS[1], 0, #ARGV[1] - 1)
if seen ~= '' and seen ~= ARGV[1] then return redis.call('GET', KEYS[1]) end
redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
return false`,
  params: (key: string, seen: Uint8Array, lease: string, millis: number) => ({
    keys: [key],
    args: [seen, lease, millis]
  }),
  result: bytesOrNothing,
  encoding: "bytes"
})

export interface Filled {
  readonly filled: boolean
  /** Milliseconds of the server's clock. */
  readonly time: number
}

const filled = (reply: Reply): Either.Either<Filled, string> =>
  Array.isArray(reply) && typeof reply[0] === "number" && typeof reply[1] === "number"
    ? Either.right({ filled: reply[0] === 1, time: reply[1] })
    : Either.left("two numbers")

/**
 * Stores what was looked up, if the key still holds what whoever looked it up has put there: a lease, or the header of the
 * entry that is refreshed.
 *
 * KEYS: the entry. ARGV: channel, message, what must be there, the entry, its life in milliseconds or 0 for no end.
 * Returns whether it was stored, and the time. Complexity: O(1).
 */
export const fill = RedisScript.make({
  name: "cacheFill",
  lua: `${publish}
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
if redis.call('GETRANGE', KEYS[1], 0, #ARGV[3] - 1) ~= ARGV[3] then return {0, now} end
if ARGV[5] == '0' then
  redis.call('SET', KEYS[1], ARGV[4])
else
  redis.call('SET', KEYS[1], ARGV[4], 'PX', ARGV[5])
end
tell()
return {1, now}`,
  params: (key: string, held: string, entry: RedisArg, millis: number, { channel, message }: Notice) => ({
    keys: [key],
    args: [channel, message, held, entry, millis]
  }),
  result: filled
})

/**
 * Moves the soft expiry of an entry, if it still is the one that was seen. Whoever gets that done refreshes it.
 *
 * KEYS: the entry. ARGV: the header that was seen, its new end.
 * Returns whether it was done. Complexity: O(1).
 */
export const elect = RedisScript.make({
  name: "cacheElect",
  lua: `
if redis.call('GETRANGE', KEYS[1], 0, ${HEADER - 1}) ~= ARGV[1] then return 0 end
redis.call('SETRANGE', KEYS[1], ${PATCH}, ARGV[2])
return 1`,
  params: (key: string, head: string, patch: string) => ({ keys: [key], args: [head, patch] }),
  result: RedisScript.boolean
})

/**
 * Extends a lease.
 *
 * KEYS: the entry. ARGV: the lease, its length in milliseconds. Returns whether it was still there. Complexity: O(1).
 */
export const extend = RedisScript.make({
  name: "cacheExtend",
  lua: `
if redis.call('GETRANGE', KEYS[1], 0, #ARGV[1] - 1) ~= ARGV[1] then return 0 end
return redis.call('PEXPIRE', KEYS[1], ARGV[2])`,
  params: (key: string, lease: string, millis: number) => ({ keys: [key], args: [lease, millis] }),
  result: RedisScript.boolean,
  idempotent: true
})

/**
 * Gives a lease back.
 *
 * KEYS: the entry. ARGV: the lease. Returns whether it was still there. Complexity: O(1).
 */
export const release = RedisScript.make({
  name: "cacheRelease",
  lua: `
if redis.call('GETRANGE', KEYS[1], 0, #ARGV[1] - 1) ~= ARGV[1] then return 0 end
return redis.call('DEL', KEYS[1])`,
  params: (key: string, lease: string) => ({ keys: [key], args: [lease] }),
  result: RedisScript.boolean,
  idempotent: true
})

/**
 * Any write of one key, and tells it.
 *
 * KEYS: the entry. ARGV: channel, message, the command, and what it gets behind the key. Returns the command's reply.
 */
export const change = RedisScript.make({
  name: "cacheChange",
  lua: `${publish}
local reply = redis.call(ARGV[3], KEYS[1], unpack(ARGV, 4))
tell()
return reply`,
  params: (key: string, { channel, message }: Notice, command: string, ...args: ReadonlyArray<RedisArg>) => ({
    keys: [key],
    args: [channel, message, command, ...args]
  }),
  result: (reply: BytesReply) => Either.right(reply),
  encoding: "bytes"
})

/**
 * Removes an entry from before the floor. Leases stay: what they are for will be from before the floor itself.
 *
 * KEYS: the entry. ARGV: the floor as entries have it. Returns whether it was removed. Complexity: O(1).
 */
export const sweep = RedisScript.make({
  name: "cacheSweep",
  lua: `
local head = redis.call('GETRANGE', KEYS[1], 0, ${EPOCH[1] - 1})
if head == '' or string.sub(head, 1, 1) == 'L' or string.sub(head, ${EPOCH[0] + 1}) >= ARGV[1] then return 0 end
return redis.call('UNLINK', KEYS[1])`,
  params: (key: string, floor: number) => ({ keys: [key], args: [epochOf(floor)] }),
  result: RedisScript.boolean,
  idempotent: true
})

/**
 * Counts, and gives the number a life when it has none.
 *
 * KEYS: the number. ARGV: what is added, the life in milliseconds or 0 for no end. Returns the sum. Complexity: O(1).
 */
export const count = RedisScript.make({
  name: "cacheCount",
  lua: `
local n = redis.call('INCRBY', KEYS[1], ARGV[1])
if ARGV[2] ~= '0' then redis.call('PEXPIRE', KEYS[1], ARGV[2], 'NX') end
return n`,
  params: (key: string, by: number, millis: number) => ({ keys: [key], args: [by, millis] }),
  result: RedisScript.number
})

/**
 * Writes fields of a hash, and gives it a life from now on.
 *
 * KEYS: the hash. ARGV: the life in milliseconds or 0 for no end, fields with values. Complexity: O(fields).
 */
export const setFields = RedisScript.make({
  name: "cacheSetFields",
  lua: `
redis.call('HSET', KEYS[1], unpack(ARGV, 2))
if ARGV[1] ~= '0' then redis.call('PEXPIRE', KEYS[1], ARGV[1]) else redis.call('PERSIST', KEYS[1]) end
return 1`,
  params: (key: string, millis: number, fields: ReadonlyArray<string>) => ({ keys: [key], args: [millis, ...fields] }),
  result: RedisScript.boolean,
  idempotent: true
})

// ---------------------------------------------------------------------------------------------------------------------
// Tags
// ---------------------------------------------------------------------------------------------------------------------

/** How many changed tags are told at once. Those who ask for more ask again, for the tags they need. */
const NEWS = 1000

/** How many tags are remembered; the floor takes the place of those that were invalidated before them. */
const TAGS = 100_000

/**
 * A cache whose set of tags was lost, or is an older copy than what somebody has seen, begins at the present.
 */
const state = `
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local floor, last = unpack(redis.call('ZMSCORE', KEYS[1], 'floor', 'last'))
floor, last = tonumber(floor or nil), tonumber(last or nil)
local seen = tonumber(ARGV[1])
if not floor or not last or last < seen then
  floor = now > seen and now or seen + 1
  last = floor
  redis.call('DEL', KEYS[1])
  redis.call('ZADD', KEYS[1], string.format('%.0f', floor), 'floor', string.format('%.0f', last), 'last')
end`

export interface State {
  /** Milliseconds of the server's clock. */
  readonly time: number
  readonly floor: number
  readonly last: number
  /** Every tag that was invalidated after this is in `tags`, or was told before. */
  readonly base: number
  /** Oldest first. */
  readonly tags: ReadonlyArray<readonly [tag: string, version: number]>
}

const stateOf = (reply: Reply): Either.Either<State, string> => {
  if (!Array.isArray(reply) || reply.length < 4) return Either.left("a state")
  const [time, floor, last, base] = reply.slice(0, 4).map(Number) as [number, number, number, number]
  const tags: Array<readonly [string, number]> = []
  for (let i = reply.length - 2; i >= 4; i -= 2) {
    const member = String(reply[i])
    if (member !== "floor" && member !== "last") tags.push([member.slice(1), Number(reply[i + 1])])
  }
  return Number.isNaN(time + floor + last + base)
    ? Either.left("a state")
    : Either.right({ time, floor, last, base, tags })
}

/**
 * What has changed since. It makes the set where there is none.
 *
 * KEYS: the tags. ARGV: the newest moment that whoever asks has heard of.
 * Returns time, floor, last, base, and tags with their moments, newest first. Complexity: O(log n), and what has changed.
 */
export const changes = RedisScript.make({
  name: "cacheTags",
  lua: `${state}
local news = redis.call(
  'ZREVRANGEBYSCORE', KEYS[1], '+inf', '(' .. string.format('%.0f', seen), 'WITHSCORES', 'LIMIT', 0, ${NEWS + 2})
local base = #news == ${2 * (NEWS + 2)} and news[#news] or '0'
return {string.format('%.0f', math.floor(now / 1000)), string.format('%.0f', floor), string.format('%.0f', last), base, unpack(news)}`,
  params: (key: string, seen: number) => ({ keys: [key], args: [seen] }),
  result: stateOf,
  idempotent: true
})

/**
 * Invalidates tags. Those that were invalidated longer ago than entries live are forgotten, and the oldest where there are
 * too many: the floor is raised to where they were.
 *
 * KEYS: the tags. ARGV: the newest moment that whoever asks has heard of, channel, message, how long entries live in
 * microseconds or 0 for no end, tags. Returns the moment. Complexity: O(log n) for each tag, and what is forgotten.
 */
export const invalidate = RedisScript.make({
  name: "cacheInvalidate",
  lua: `${state}
local version = now > last and now or last + 1
local text = string.format('%.0f', version)
for i = 5, #ARGV do redis.call('ZADD', KEYS[1], text, ARGV[i]) end
redis.call('ZADD', KEYS[1], text, 'last')
local forgotten = {}
if ARGV[4] ~= '0' then
  forgotten = redis.call(
    'ZREVRANGEBYSCORE', KEYS[1], string.format('%.0f', now - ARGV[4]), '(' .. string.format('%.0f', floor),
    'WITHSCORES', 'LIMIT', 0, 1)
end
local over = redis.call('ZCARD', KEYS[1]) - ${TAGS}
if over > 0 then
  local most = redis.call('ZRANGE', KEYS[1], over, over, 'WITHSCORES')
  if not forgotten[2] or tonumber(most[2]) > tonumber(forgotten[2]) then forgotten = most end
end
if forgotten[2] then
  redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', forgotten[2])
  redis.call('ZADD', KEYS[1], forgotten[2], 'floor', text, 'last')
end
if ARGV[2] ~= '' then redis.call('PUBLISH', ARGV[2], ARGV[3]) end
return text`,
  params: (key: string, seen: number, { channel, message }: Notice, life: number, tags: ReadonlyArray<string>) => ({
    keys: [key],
    args: [seen, channel, message, life, ...tags.map((tag) => `:${tag}`)]
  }),
  result: (reply: Reply) => Either.right(Number(reply)),
  // Twice forgets more than once, and nothing that has to stay.
  idempotent: true
})

/**
 * Invalidates everything: raises the floor.
 *
 * KEYS: the tags. ARGV: the newest moment that whoever asks has heard of, channel, message. Returns the moment.
 * Complexity: O(n) for the tags that are forgotten.
 */
export const clear = RedisScript.make({
  name: "cacheClear",
  lua: `${state}
local version = now > last and now or last + 1
local text = string.format('%.0f', version)
redis.call('DEL', KEYS[1])
redis.call('ZADD', KEYS[1], text, 'floor', text, 'last')
if ARGV[2] ~= '' then redis.call('PUBLISH', ARGV[2], ARGV[3]) end
return text`,
  params: (key: string, seen: number, { channel, message }: Notice) => ({
    keys: [key],
    args: [seen, channel, message]
  }),
  result: (reply: Reply) => Either.right(Number(reply)),
  // Twice forgets more than once, and nothing that has to stay.
  idempotent: true
})

/** When these tags were invalidated, as arguments of `ZMSCORE`. */
export const members = (tags: ReadonlyArray<string>): ReadonlyArray<string> => tags.map((tag) => `:${tag}`)

/** An entry as bytes. */
export const byteLength = (entry: string | Uint8Array): number =>
  typeof entry === "string" ? Buffer.byteLength(entry) : entry.length
