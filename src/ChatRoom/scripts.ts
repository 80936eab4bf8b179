/**
 * The Lua of chat rooms. The keys of one room share a hash tag, and begin with `chat:{name:room}`:
 *
 * - `:members` is a sorted set of the members, in the order of their names.
 * - `:meta` is a hash: `offset`, the number of the last message, `at`, when it was sent, and `epoch`, which names the count. A new one begins
 *   when this key is lost.
 * - `:history` is a stream of the last messages, of which the ids are `offset-0`.
 * - `:sent` is a sorted set of `user NUL id` of the last messages by their offsets.
 *
 * Members and the count live as long as the definition's `idle` past the last join or message, the count also as long
 * as the history. History and ids live as long as the history's `ttl` past the last message.
 *
 * Everything is told on one channel by the script that makes it so, and so history and delivery have the same order:
 * `message EPOCH OFFSET BEFORE MILLIS BODY`, `joined MILLIS USER`, `left MILLIS USER`, `typing 1|0 USER`.
 * `BEFORE` is when the message before it was sent, which says whether a reader was given that one and no other.
 */
import * as Either from "effect/Either"
import { roomKey } from "../internal/rooms.js"
import type { Reply } from "../RedisClient.js"
import * as RedisScript from "../RedisScript.js"

/** A room as the scripts know it; times are in milliseconds. */
export interface Room {
  readonly key: string
  /** As the server knows it. */
  readonly channel: string
  readonly size: number
  readonly ttl: number
  readonly idle: number
}

export const keyOf = (name: string, room: string): string => roomKey("chat", name, room)

export const channelOf = (key: string): string => `${key}:events`

export const keysOf = (key: string): ReadonlyArray<string> => [
  `${key}:members`,
  `${key}:meta`,
  `${key}:history`,
  `${key}:sent`
]

/** How many ids of messages are remembered at least. */
const REMEMBERED = 1000

const serverNow = `
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)`

/**
 * Makes somebody a member. O(log n) with n members.
 *
 * KEYS members, meta. ARGV channel, idle, user. Returns nothing.
 */
export const join = RedisScript.make({
  name: "chat.join",
  lua: `${serverNow}
if redis.call('ZADD', KEYS[1], 0, ARGV[3]) == 1 then
  redis.call('PUBLISH', ARGV[1], 'joined ' .. now .. ' ' .. ARGV[3])
end
redis.call('PEXPIRE', KEYS[1], ARGV[2])
redis.call('PEXPIRE', KEYS[2], ARGV[2], 'GT')`,
  params: (room: Room, user: string) => ({
    keys: keysOf(room.key).slice(0, 2),
    args: [room.channel, room.idle, user]
  }),
  result: RedisScript.reply,
  idempotent: true
})

/**
 * Ends a membership. O(log n) with n members.
 *
 * KEYS members. ARGV channel, user. Returns nothing.
 */
export const leave = RedisScript.make({
  name: "chat.leave",
  lua: `${serverNow}
if redis.call('ZREM', KEYS[1], ARGV[2]) == 1 then
  redis.call('PUBLISH', ARGV[1], 'left ' .. now .. ' ' .. ARGV[2])
end`,
  params: (room: Room, user: string) => ({ keys: keysOf(room.key).slice(0, 1), args: [room.channel, user] }),
  result: RedisScript.reply,
  idempotent: true
})

/**
 * Tells that a member types, or has stopped. Nothing is stored. O(log n) with n members.
 *
 * KEYS members. ARGV channel, user, 1 or 0. Returns whether it is a member.
 */
export const typing = RedisScript.make({
  name: "chat.typing",
  lua: `
if not redis.call('ZSCORE', KEYS[1], ARGV[2]) then return 0 end
redis.call('PUBLISH', ARGV[1], 'typing ' .. ARGV[3] .. ' ' .. ARGV[2])
return 1`,
  params: (room: Room, user: string, typing: boolean) => ({
    keys: keysOf(room.key).slice(0, 1),
    args: [room.channel, user, typing ? 1 : 0]
  }),
  result: RedisScript.boolean,
  idempotent: true
})

/** What became of a message: its place, and whether it was there already. */
export interface Sent {
  readonly epoch: string
  readonly offset: number
  readonly duplicate: boolean
}

/**
 * Stores a message, trims the history, and publishes it; when its id is known, nothing of this. O(log n) with n members
 * and ids.
 *
 * KEYS members, meta, history, sent. ARGV channel, user, `user NUL id`, body, an epoch if a new one is needed, size of
 * the history, its ttl, idle, ids to remember. Returns 0 when the user is no member, else epoch, offset, and whether it
 * was there.
 */
export const send = RedisScript.make({
  name: "chat.send",
  lua: `
local members, meta, history, sent = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local channel, user, id, body, ttl, idle = ARGV[1], ARGV[2], ARGV[3], ARGV[4], tonumber(ARGV[7]), tonumber(ARGV[8])
${serverNow}
if not redis.call('ZSCORE', members, user) then return 0 end
local count = redis.call('HMGET', meta, 'epoch', 'at')
local epoch, before = count[1], count[2] or '0'
if not epoch then
  -- What is left of an earlier count has numbers that would come again.
  redis.call('DEL', history, sent)
  epoch = ARGV[5]
  redis.call('HSET', meta, 'epoch', epoch, 'offset', 0)
end
local known = redis.call('ZSCORE', sent, id)
if known then return { epoch, tonumber(known), 1 } end
local offset = redis.call('HINCRBY', meta, 'offset', 1)
redis.call('HSET', meta, 'at', now)
redis.call('XADD', history, 'MAXLEN', '=', ARGV[6], offset .. '-0', 't', now, 'b', body)
redis.call('ZADD', sent, offset, id)
redis.call('ZREMRANGEBYRANK', sent, 0, -1 - tonumber(ARGV[9]))
redis.call('PEXPIRE', history, ttl)
redis.call('PEXPIRE', sent, ttl)
redis.call('PEXPIRE', meta, math.max(ttl, idle))
redis.call('PEXPIRE', members, idle)
redis.call('PUBLISH', channel, 'message ' .. epoch .. ' ' .. offset .. ' ' .. before .. ' ' .. now .. ' ' .. body)
return { epoch, offset, 0 }`,
  params: (room: Room, user: string, id: string, body: string, epoch: string) => ({
    keys: keysOf(room.key),
    args: [
      room.channel,
      user,
      `${user}\0${id}`,
      body,
      epoch,
      room.size,
      room.ttl,
      room.idle,
      Math.max(room.size, REMEMBERED)
    ]
  }),
  result: (reply): Either.Either<Sent | undefined, string> => {
    if (reply === 0) return Either.right(undefined)
    const [epoch, offset, duplicate] = Array.isArray(reply) ? reply : []
    return typeof epoch === "string" && typeof offset === "number"
      ? Either.right({ epoch, offset, duplicate: duplicate === 1 })
      : Either.left("0, or an epoch and two numbers")
  },
  idempotent: true
})

/** A message as it is kept. */
export interface Entry {
  readonly offset: number
  /** Milliseconds. */
  readonly at: number
  readonly body: string
}

/** Where the count stands, and some of the history. */
export interface Part {
  /** Empty when there is none. */
  readonly epoch: string
  /** The number of the last message, whether it is still there or not. */
  readonly offset: number
  /** The message at the position that was given is another one: the count went back, and came as far again. */
  readonly replaced: boolean
  readonly entries: ReadonlyArray<Entry>
}

const entryOf = (reply: Reply): Entry | undefined => {
  const [id, fields] = Array.isArray(reply) ? reply : []
  const [, at, , body] = Array.isArray(fields) ? fields : []
  // More digits than a time has.
  if (typeof id !== "string" || typeof body !== "string" || !/^\d{1,15}$/.test(String(at))) return undefined
  return { offset: Number(id.slice(0, id.indexOf("-"))), at: Number(at), body }
}

const part = (reply: Reply): Either.Either<Part, string> => {
  const expected = Either.left("an epoch, an offset and a list of messages")
  if (!Array.isArray(reply)) return expected
  const [epoch, offset, found, replaced] = reply
  if (typeof epoch !== "string" || typeof offset !== "number" || !Array.isArray(found)) return expected
  const entries: Array<Entry> = []
  for (const one of found) {
    const entry = entryOf(one)
    if (entry === undefined) return expected
    entries.push(entry)
  }
  return Either.right({ epoch, offset, replaced: replaced === 1, entries })
}

const standing = `
local count = redis.call('HMGET', KEYS[1], 'epoch', 'offset')
local epoch, offset = count[1] or '', tonumber(count[2] or 0)`

/**
 * The messages behind a position, oldest first; all that there are when its epoch is over. O(log n + m) for m of n
 * messages.
 *
 * KEYS meta, history. ARGV epoch, offset, limit, and when the message at the position was sent, or an empty text.
 * Returns epoch, last offset, the messages, and whether the one at the position is another.
 */
export const since = RedisScript.make({
  name: "chat.since",
  lua: `${standing}
local from, replaced = '-', 0
if epoch == ARGV[1] then
  local id = ARGV[2] .. '-0'
  from = '(' .. id
  local here = redis.call('XRANGE', KEYS[2], id, id)[1]
  if here and ARGV[4] ~= '' and here[2][2] ~= ARGV[4] then replaced = 1 end
end
local found = {}
if epoch ~= '' then found = redis.call('XRANGE', KEYS[2], from, '+', 'COUNT', ARGV[3]) end
return { epoch, offset, found, replaced }`,
  params: (room: Room, epoch: string, offset: number, limit: number, sentAt: number | undefined) => ({
    keys: keysOf(room.key).slice(1, 3),
    args: [epoch, offset, limit, sentAt ?? ""]
  }),
  result: part,
  idempotent: true
})

/**
 * The last messages before an offset, newest first. O(log n + m) for m of n messages.
 *
 * KEYS meta, history. ARGV offset or 0 for the end, limit. Returns epoch, last offset, and the messages.
 */
export const before = RedisScript.make({
  name: "chat.before",
  lua: `${standing}
local to = '+'
if ARGV[1] ~= '0' then to = '(' .. ARGV[1] .. '-0' end
local found = {}
if epoch ~= '' then found = redis.call('XREVRANGE', KEYS[2], to, '-', 'COUNT', ARGV[2]) end
return { epoch, offset, found }`,
  params: (room: Room, offset: number, limit: number) => ({
    keys: keysOf(room.key).slice(1, 3),
    args: [offset, limit]
  }),
  result: part,
  idempotent: true
})
