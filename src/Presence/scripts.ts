/**
 * The Lua of presence. The keys of one room share a hash tag, and begin with `presence:{name:room}`:
 *
 * - `:connections` is a sorted set of the connections by the end of their time, in milliseconds of the server's clock.
 * - `:tabs` has the same members in the order of their users, so that those of one user stand together.
 * - `:users` is a sorted set of the users that have connections, in the order of their names.
 * - `:info` is a hash with `since meta` for each connection.
 * - `:seen` is a sorted set of users by the last sign of life of a connection that is gone.
 *
 * A member is a user, NUL, and the id of the connection, which has a fixed length. The first four live an hour longer
 * than the last connection; the last one as long as last signs of life are kept.
 *
 * What is told to others is told by the script that makes it so: `joined` by the one that adds the first connection of
 * a user, `left` by the one that removes the last. Every script first removes connections whose time is over, at most
 * 100 of them, and those that read say whether there may be more. All are the same whether they run once or twice.
 */
import * as Either from "effect/Either"
import { roomKey } from "../internal/rooms.js"
import type { Reply } from "../RedisClient.js"
import * as RedisScript from "../RedisScript.js"

/** A room as the scripts know it. */
export interface Room {
  readonly key: string
  /** As the server knows it. */
  readonly channel: string
  /** Milliseconds. */
  readonly ttl: number
  /** How long last signs of life are kept, in milliseconds. */
  readonly keep: number
}

/** How many characters the id of a connection has. */
export const ID_LENGTH = 20

export const keyOf = (name: string, room: string): string => roomKey("presence", name, room)

export const channelOf = (key: string): string => `${key}:events`

export const keysOf = (key: string): ReadonlyArray<string> => [
  `${key}:connections`,
  `${key}:tabs`,
  `${key}:users`,
  `${key}:info`,
  `${key}:seen`
]

export const memberOf = (user: string, id: string): string => `${user}\0${id}`

const params = (room: Room, ...args: ReadonlyArray<string | number>) => ({
  keys: keysOf(room.key),
  args: [room.channel, room.ttl, room.keep, ...args]
})

/** How many connections whose time is over one script removes. */
const PURGED = 100

/** How much longer than its last connection a room lives, so that somebody may still be told of it. */
const MEMORY = 3_600_000

const beginning = `
local connections, tabs, users, info, seen = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local channel, ttl, keep = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)

local function user_of(member)
  return string.sub(member, 1, -${ID_LENGTH + 2})
end

local function tabs_of(user)
  return redis.call('ZRANGEBYLEX', tabs, '[' .. user .. '\\0', '(' .. user .. '\\1')
end

-- Whether it is there, and its time is not over.
local function alive(member)
  local score = tonumber(redis.call('ZSCORE', connections, member) or nil)
  if score and score > now then return score end
end

local function see(user, at)
  if keep == 0 then return end
  redis.call('ZADD', seen, 'GT', at, user)
  for _, old in ipairs(redis.call('ZRANGEBYSCORE', seen, '-inf', now - keep, 'LIMIT', 0, ${PURGED})) do
    redis.call('ZREM', seen, old)
  end
  redis.call('PEXPIRE', seen, keep)
end

local function remove(member, at, reason)
  if redis.call('ZREM', connections, member) == 0 then return end
  local user = user_of(member)
  redis.call('ZREM', tabs, member)
  redis.call('HDEL', info, member)
  see(user, at)
  if redis.call('ZLEXCOUNT', tabs, '[' .. user .. '\\0', '(' .. user .. '\\1') == 0 then
    redis.call('ZREM', users, user)
    redis.call('PUBLISH', channel, 'left ' .. reason .. ' ' .. now .. ' ' .. user)
  end
end

local function expire(member, score)
  remove(member, score - ttl, 'expired')
end

local function purge()
  local dead = redis.call('ZRANGEBYSCORE', connections, '-inf', now, 'WITHSCORES', 'LIMIT', 0, ${PURGED})
  for i = 1, #dead, 2 do expire(dead[i], tonumber(dead[i + 1])) end
  return #dead == ${2 * PURGED} and 1 or 0
end

local function live_on()
  local last = redis.call('ZRANGE', connections, -1, -1, 'WITHSCORES')[2]
  if not last then return end
  for i = 1, 4 do redis.call('PEXPIREAT', KEYS[i], last + ${MEMORY}) end
end

local more = purge()`

/**
 * Adds a connection; `joined` when it is the first of its user. O(log n) with n connections.
 *
 * KEYS connections, tabs, users, info, seen. ARGV channel, ttl, keep, user, member, meta. Returns since when it is
 * there, in milliseconds.
 */
export const join = RedisScript.make({
  name: "presence.join",
  lua: `${beginning}
local user, member, meta = ARGV[4], ARGV[5], ARGV[6]
local score = redis.call('ZSCORE', connections, member)
if score and not alive(member) then
  expire(member, tonumber(score))
  score = false
end
redis.call('ZADD', connections, now + ttl, member)
if not score then
  redis.call('ZADD', tabs, 0, member)
  redis.call('HSET', info, member, now .. ' ' .. meta)
  if redis.call('ZADD', users, 0, user) == 1 then
    redis.call('PUBLISH', channel, 'joined ' .. now .. ' ' .. user)
  end
end
live_on()
return tonumber(string.match(redis.call('HGET', info, member) or '', '^%d+')) or now`,
  params: (room: Room, user: string, member: string, meta: string) => params(room, user, member, meta),
  result: RedisScript.number,
  idempotent: true
})

/**
 * Removes a connection; `left` when it is the last of its user. O(log n) with n connections.
 *
 * KEYS as above. ARGV channel, ttl, keep, member. Returns nothing.
 */
export const leave = RedisScript.make({
  name: "presence.leave",
  lua: `${beginning}
local score = redis.call('ZSCORE', connections, ARGV[4])
if score and not alive(ARGV[4]) then expire(ARGV[4], tonumber(score)) else remove(ARGV[4], now, 'left') end
live_on()`,
  params: (room: Room, member: string) => params(room, member),
  result: RedisScript.reply,
  idempotent: true
})

/** Whether connections whose time is over may be left, and which of those that were given are gone. */
export interface Beaten {
  readonly more: boolean
  readonly gone: ReadonlyArray<string>
}

const isTexts = (reply: Reply): reply is ReadonlyArray<string> =>
  Array.isArray(reply) && reply.every((one) => typeof one === "string")

const beaten = (reply: Reply): Either.Either<Beaten, string> => {
  if (!Array.isArray(reply)) return Either.left("a list")
  const [more, gone] = reply
  return typeof more === "number" && isTexts(gone)
    ? Either.right({ more: more === 1, gone })
    : Either.left("a number and a list of texts")
}

/**
 * Gives connections another ttl. It never brings one back: a late one must not undo that its connection has left.
 * O(m log n) for m of n connections.
 *
 * KEYS as above. ARGV channel, ttl, keep, members. Returns whether there may be more to remove, and the members that
 * are not there any more.
 */
export const beat = RedisScript.make({
  name: "presence.beat",
  lua: `${beginning}
local gone = {}
for i = 4, #ARGV do
  if alive(ARGV[i]) then
    redis.call('ZADD', connections, now + ttl, ARGV[i])
  else
    local score = redis.call('ZSCORE', connections, ARGV[i])
    if score then expire(ARGV[i], tonumber(score)) end
    gone[#gone + 1] = ARGV[i]
  end
end
live_on()
return { more, gone }`,
  params: (room: Room, members: ReadonlyArray<string>) => params(room, ...members),
  result: beaten,
  idempotent: true
})

/** A connection: its id, since when it is there, and its meta as text. */
export interface Tab {
  readonly id: string
  readonly since: number
  readonly meta: string
}

const tabOf = (text: string): Tab | undefined => {
  const space = text.indexOf(" ", ID_LENGTH + 1)
  const since = Number(text.slice(ID_LENGTH + 1, space))
  return space === -1 || !Number.isSafeInteger(since)
    ? undefined
    : { id: text.slice(0, ID_LENGTH), since, meta: text.slice(space + 1) }
}

const tabsOf = (texts: ReadonlyArray<string>): ReadonlyArray<Tab> =>
  texts.flatMap((text) => {
    const tab = tabOf(text)
    return tab === undefined ? [] : [tab]
  })

const listing = `
-- Those of a user as 'id since meta', and when the last of them will be over.
local function list(user)
  local all, last = {}, nil
  for _, member in ipairs(tabs_of(user)) do
    local score = alive(member)
    if score then
      last = math.max(last or score, score)
      all[#all + 1] = string.sub(member, -${ID_LENGTH}) .. ' ' .. (redis.call('HGET', info, member) or (now .. ' '))
    end
  end
  return all, last
end`

/** What is known of a user. */
export interface Known {
  readonly more: boolean
  readonly tabs: ReadonlyArray<Tab>
  /** The last sign of life, in milliseconds. */
  readonly seen: number | undefined
}

/**
 * One user's connections, and the last sign of life. O(log n + m) for m of n connections.
 *
 * KEYS as above. ARGV channel, ttl, keep, user. Returns whether there may be more to remove, the last sign of life in
 * milliseconds or -1, and `id since meta` for each connection.
 */
export const look = RedisScript.make({
  name: "presence.look",
  lua: `${beginning}
${listing}
local all, last = list(ARGV[4])
local at = tonumber(redis.call('ZSCORE', seen, ARGV[4]) or nil)
if at and at <= now - keep then at = nil end
if last then at = math.max(at or 0, last - ttl) end
return { more, at or -1, all }`,
  params: (room: Room, user: string) => params(room, user),
  result: (reply): Either.Either<Known, string> => {
    if (!Array.isArray(reply)) return Either.left("a list")
    const [more, seen, tabs] = reply
    return typeof more === "number" && typeof seen === "number" && isTexts(tabs)
      ? Either.right({ more: more === 1, tabs: tabsOf(tabs), seen: seen < 0 ? undefined : seen })
      : Either.left("two numbers and a list of texts")
  },
  idempotent: true
})

/** Some of the users, and behind which one to go on. */
export interface Page {
  readonly more: boolean
  readonly next: string | undefined
  readonly users: ReadonlyArray<{ readonly user: string; readonly tabs: ReadonlyArray<Tab> }>
}

/**
 * Users in the order of the bytes of their names, each with its connections. O(m log n) for m users, and the same for
 * their connections.
 *
 * KEYS as above. ARGV channel, ttl, keep, limit, and the user behind whom to begin or an empty text. Returns whether
 * there may be more to remove, whether there are further users, and for each user a list of its name and
 * its connections.
 */
export const page = RedisScript.make({
  name: "presence.page",
  lua: `${beginning}
${listing}
local limit = tonumber(ARGV[4])
local from = ARGV[5] == '' and '-' or '(' .. ARGV[5]
local names = redis.call('ZRANGEBYLEX', users, from, '+', 'LIMIT', 0, limit + 1)
local found = {}
for i = 1, math.min(#names, limit) do
  local all = list(names[i])
  found[i] = { names[i], all }
end
return { more, #names > limit and 1 or 0, found }`,
  params: (room: Room, limit: number, after: string) => params(room, limit, after),
  result: (reply): Either.Either<Page, string> => {
    const expected = Either.left("two numbers and a list of users with their connections")
    if (!Array.isArray(reply)) return expected
    const [more, further, found] = reply
    if (typeof more !== "number" || !Array.isArray(found)) return expected
    const users: Array<Page["users"][number]> = []
    for (const entry of found) {
      const [user, tabs] = Array.isArray(entry) ? entry : []
      if (typeof user !== "string" || !isTexts(tabs)) return expected
      users.push({ user, tabs: tabsOf(tabs) })
    }
    return Either.right({
      more: more === 1,
      next: further === 1 ? users.at(-1)?.user : undefined,
      // All of somebody's connections can be over, and not removed yet.
      users: users.filter(({ tabs }) => tabs.length > 0)
    })
  },
  idempotent: true
})

/**
 * Removes connections whose time is over, and counts what remains. O(log n) with n connections, and for each that it
 * removes.
 *
 * KEYS as above. ARGV channel, ttl, keep. Returns whether there may be more to remove, the number of users, and that of
 * connections.
 */
export const sweep = RedisScript.make({
  name: "presence.sweep",
  lua: `${beginning}
return { more, redis.call('ZCARD', users), redis.call('ZCARD', connections) }`,
  params: (room: Room) => params(room),
  result: (reply) => {
    if (!Array.isArray(reply)) return Either.left("three numbers")
    const [more, users, connections] = reply
    return typeof more === "number" && typeof users === "number" && typeof connections === "number"
      ? Either.right({ more: more === 1, users, connections })
      : Either.left("three numbers")
  },
  idempotent: true
})
