/**
 * The Lua of sessions. All sessions of a user are in one hash, so the list of a user's sessions and the sessions
 * themselves are the same thing, and every key of a script is known before it is called.
 *
 * - `session:name:{xx}:rest` is the hash of a user: from the id of a session to its record. `xx` and `rest` are a digest
 *   of name and user. It lives as long as the last of its sessions.
 * - `session:name:{xx}:expiry` is a sorted set of all such `rest` with the same `xx`, by a time before which none of
 *   their sessions ends. It is there only when ends are watched for, and users' hashes then live an hour longer.
 *
 * A record is text in lines: when the session ends, was created, was last seen and was authenticated (13 digits each,
 * behind a `1`), the user, the device, the fingerprint, the user agent, the address, and then a line for each field of the
 * data, as `"name":value` in JSON, with a comma between two of them. JSON has no line breaks of its own, so scripts replace
 * fields without reading them, and what stands between braces around these lines is JSON again.
 *
 * An id that was replaced and is still good for a while has `=`, when that ends, and the id that replaced it.
 */
import * as Either from "effect/Either"
import type { Reply } from "../RedisClient.js"
import * as RedisScript from "../RedisScript.js"

/** How much longer than its sessions a user's hash lives when ends are watched for, in milliseconds. */
const KEEP = 3_600_000

/** How many entries are looked at when something is written anyway, to remove what is over. */
const SAMPLE = 16

const HEADER = `^1${"%d".repeat(52)}\\n`

const start = `
local sessions, tracked = KEYS[1], KEYS[2]
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
`

/** Functions cost more than what they do, so a script decides with this whether it needs any. */
const lives = (value: string) => `string.byte(${value}) == 49 and (tonumber(string.sub(${value}, 2, 14)) or 0) > now`

const finding = `
local purge

local function is_session(value)
  return value and string.find(value, '${HEADER}') ~= nil
end

local function ends(value)
  return tonumber(string.sub(value, 2, 14)) or 0
end

local function target(value)
  return string.sub(value, 1, 1) == '=' and string.sub(value, 15) or nil
end

-- The session with this id or the one that replaced it. What another release has written is found as well.
local function find(id)
  local value = redis.call('HGET', sessions, id)
  local new = value and target(value)
  if new then
    if ends(value) <= now then return nil end
    id, value = new, redis.call('HGET', sessions, new)
    if value and target(value) then return nil end
  end
  if is_session(value) and ends(value) <= now then
    if purge then purge({ id, value }) end
    return nil
  end
  return id, value
end
`

const channel = `
local channel = ARGV[1]
`

const changing = `
local function digits(n)
  return string.format('%.0f', n)
end

local function tell(what, id, value, more)
  local user = string.match(value, '\\n([^\\n]*)')
  redis.call('PUBLISH', channel, table.concat({ what, digits(now), id, more or '', user }, '\\n'))
end

local function member()
  return string.match(sessions, '[^:]*$')
end

local function live_until(key, expires)
  if redis.call('PEXPIREAT', key, digits(expires), 'GT') == 0 then
    redis.call('PEXPIREAT', key, digits(expires), 'NX')
  end
end

-- The keys live until then at least.
local function keep(expires, fresh)
  if tracked then
    redis.call('ZADD', tracked, 'LT', digits(expires), member())
    expires = expires + ${KEEP}
    live_until(tracked, expires)
  end
  if fresh then
    redis.call('PEXPIREAT', sessions, digits(expires))
  else
    live_until(sessions, expires)
  end
end

local function forget()
  if tracked and redis.call('EXISTS', sessions) == 0 then redis.call('ZREM', tracked, member()) end
end

-- Removes what is over; returns the sessions that are left, and how many ended.
purge = function(entries)
  local live, ended = {}, 0
  for i = 1, #entries, 2 do
    local id, value = entries[i], entries[i + 1]
    local new = target(value)
    if new then
      local at = redis.call('HGET', sessions, new)
      if ends(value) <= now or not at or target(at) then redis.call('HDEL', sessions, id) end
    elseif is_session(value) then
      if ends(value) <= now then
        redis.call('HDEL', sessions, id)
        tell('expired', id, value)
        ended = ended + 1
      else
        live[#live + 1] = { id = id, value = value }
      end
    end
  end
  if ended > 0 then forget() end
  return live, ended
end

local function purge_some()
  purge(redis.call('HRANDFIELD', sessions, ${SAMPLE}, 'WITHVALUES'))
end

local function all()
  return redis.call('HGETALL', sessions)
end

local function remove(id, value, what, more)
  redis.call('HDEL', sessions, id)
  tell(what, id, value, more)
end

-- When it ends, when it was created, last seen and authenticated.
local function header(created, authenticated, idle, absolute)
  return '1' .. string.format('%013.0f', math.min(now + idle, created + absolute)) .. string.format('%013.0f', created)
    .. string.format('%013.0f', now) .. authenticated
end

local function used(value, authenticated, idle, absolute)
  return header(tonumber(string.sub(value, 15, 27)), authenticated or string.sub(value, 41, 53), idle, absolute)
    .. string.sub(value, 54)
end
`

const writing = start + channel + finding + changing

/** The hash of a user, and the sorted set of ends when they are watched for. */
export type Keys = ReadonlyArray<string>

/** What scripts that write have in common. */
export interface Settings {
  /** As the server knows it. */
  readonly channel: string
  /** All in milliseconds, as text. */
  readonly idle: string
  readonly absolute: string
  readonly touchEvery: string
  /** Both limits and the channel. */
  readonly terms: string
}

/** A record, and the server's time. */
export interface Found {
  readonly now: number
  readonly record: string
  /** Another id than the one that was asked for. */
  readonly id: string | undefined
}

const isText = (reply: Reply | undefined): reply is string => typeof reply === "string"

const found = (reply: Reply): Either.Either<Found | undefined, string> => {
  if (reply === null) return Either.right(undefined)
  if (Array.isArray(reply)) {
    const [now, record, id] = reply as ReadonlyArray<Reply>
    if (typeof now === "number" && isText(record) && (id === undefined || isText(id))) {
      return Either.right({ now, record, id })
    }
  }
  return Either.left("nothing, or a time, a record and an id")
}

/** An id with its record. */
export type Entry = readonly [id: string, record: string]

const entries = (flat: ReadonlyArray<Reply>): ReadonlyArray<Entry> | undefined => {
  const pairs: Array<Entry> = []
  for (let i = 0; i < flat.length; i += 2) {
    const id = flat[i]
    const record = flat[i + 1]
    if (!isText(id) || !isText(record)) return undefined
    pairs.push([id, record])
  }
  return pairs
}

const flag = (value: boolean): string => value ? "1" : "0"

/**
 * Reads a session. O(1).
 *
 * KEYS hash. ARGV id. Returns the server's time, the record, and the id that replaced the one that was asked for; or nothing.
 */
export const get = RedisScript.make({
  name: "session.get",
  idempotent: true,
  lua: `${start}
local value = redis.call('HGET', sessions, ARGV[1])
if not value then return false end
-- Most of the time this is all.
if ${lives("value")} then return { now, value } end
${finding}
local id
id, value = find(ARGV[1])
return value and { now, value, id }`,
  params: ([sessions]: Keys, id: string) => ({ keys: [sessions!], args: [id] }),
  result: found
})

/**
 * Stores a new session; before that it removes what is over, and what must make room. O(1) as long as a user has fewer
 * sessions than allowed, else O(n log n) in them.
 *
 * KEYS hash, ends. ARGV channel, id, idle and absolute limit, how many a user may have (0: any number), whether to evict,
 * the device that may have only this one (or nothing), the record without its first line. Returns that first line, and
 * what was evicted; or how many there are when there is no room.
 */
export const create = RedisScript.make({
  name: "session.create",
  idempotent: true,
  lua: `${start}
local id, idle, absolute, limit, device = ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5]), ARGV[7]
local n = redis.call('HLEN', sessions)
local has_room, some = device == '' and (limit == 0 or n < limit), nil
local is_plain = not tracked and (n == 0 or has_room)
if n > 0 and has_room then
  some = redis.call('HRANDFIELD', sessions, ${SAMPLE}, 'WITHVALUES')
  for i = 2, #some, 2 do
    if not (${lives("some[i]")}) then is_plain = false end
  end
end
local born, expires = string.format('%013.0f', now), now + math.min(idle, absolute)
local first = '1' .. string.format('%013.0f', expires) .. born .. born .. born
local value = first .. '\\n' .. ARGV[8]
-- What was stored before when the reply was lost.
local function stored()
  local value = redis.call('HGET', sessions, id)
  return value and { string.sub(value, 1, 53) }
end
-- Most of the time this is all.
if is_plain then
  if redis.call('HSETNX', sessions, id, value) == 0 then return stored() end
  if n == 0 then
    redis.call('PEXPIREAT', sessions, expires)
  elseif redis.call('PEXPIREAT', sessions, expires, 'GT') == 0 then
    redis.call('PEXPIREAT', sessions, expires, 'NX')
  end
  redis.call('PUBLISH', ARGV[1], 'created\\n' .. born .. '\\n' .. id .. '\\n\\n' .. string.match(ARGV[8], '[^\\n]*'))
  return { first }
end
local before = stored()
if before then return before end
${finding}
${channel}
${changing}
local result = { first }
if some then
  purge(some)
elseif n > 0 then
  local same, others = {}, {}
  for _, session in ipairs(purge(all())) do
    local list = device ~= '' and string.match(session.value, '^[^\\n]*\\n[^\\n]*\\n([^\\n]*)') == device and same or others
    list[#list + 1] = session
  end
  if limit > 0 and #others >= limit then
    if ARGV[6] ~= '1' then return #others + #same end
    -- Who was not seen for longest goes first.
    table.sort(others, function(a, b)
      local left, right = string.sub(a.value, 28, 40) .. a.value, string.sub(b.value, 28, 40) .. b.value
      if left == right then return a.id < b.id end
      return left < right
    end)
  end
  local function drop(session, why)
    remove(session.id, session.value, 'evicted', why)
    result[#result + 1] = session.id
    result[#result + 1] = session.value
  end
  for _, session in ipairs(same) do drop(session, 'device') end
  if limit > 0 then
    for i = 1, #others - limit + 1 do drop(others[i], 'limit') end
  end
end
redis.call('HSET', sessions, id, value)
keep(ends(value), redis.call('HLEN', sessions) == 1)
tell('created', id, value)
return result`,
  params: (
    keys: Keys,
    { absolute, channel, idle }: Settings,
    options: {
      readonly id: string
      readonly limit: number
      readonly evict: boolean
      readonly device: string
      readonly rest: string
    }
  ) => ({
    keys,
    args: [
      channel,
      options.id,
      idle,
      absolute,
      String(options.limit),
      flag(options.evict),
      options.device,
      options.rest
    ]
  }),
  result: (
    reply
  ): Either.Either<number | { readonly header: string; readonly evicted: ReadonlyArray<Entry> }, string> => {
    if (typeof reply === "number") return Either.right(reply)
    if (Array.isArray(reply)) {
      const [header, ...rest] = reply as ReadonlyArray<Reply>
      const evicted = entries(rest)
      if (isText(header) && evicted !== undefined) return Either.right({ header, evicted })
    }
    return Either.left("a number, or a text and evicted sessions")
  }
})

/**
 * Prolongs a session, unless that was done a moment ago, and reads it. O(1).
 *
 * KEYS hash, ends. ARGV id, how long ago a moment is, the only fingerprint that may prolong it (or nothing), and in one
 * text, because most of the time nobody asks for them, idle and absolute limit and channel. Returns what `get` returns.
 */
export const touch = RedisScript.make({
  name: "session.touch",
  idempotent: true,
  lua: `${start}
local value = redis.call('HGET', sessions, ARGV[1])
if not value then return false end
-- Most of the time this is all.
if ${lives("value")} and now - ARGV[2] < (tonumber(string.sub(value, 28, 40)) or 0) then return { now, value } end
local idle, absolute, channel = string.match(ARGV[4], '^(%d+) (%d+) (.*)$')
${finding}
${changing}
local id
id, value = find(ARGV[1])
if not value then return false end
if is_session(value) and now - tonumber(string.sub(value, 28, 40)) >= tonumber(ARGV[2]) then
  local print = string.match(value, '^[^\\n]*\\n[^\\n]*\\n[^\\n]*\\n([^\\n]*)')
  if ARGV[3] == '' or print == '' or print == ARGV[3] then
    value = used(value, nil, tonumber(idle), tonumber(absolute))
    redis.call('HSET', sessions, id, value)
    keep(ends(value))
    purge_some()
  end
end
return { now, value, id }`,
  params: (keys: Keys, { terms, touchEvery }: Settings, id: string, fingerprint: string) => ({
    keys,
    args: [id, touchEvery, fingerprint, terms]
  }),
  result: found
})

/** The name of a field in JSON, and its line, which is empty when the field is to be removed. */
export type Field = readonly [name: string, line: string]

/**
 * Replaces some fields of the data, and keeps the others. O(size of the record).
 *
 * KEYS hash, ends. ARGV channel, id, then for each field its name and its line. Returns what `get` returns.
 */
export const update = RedisScript.make({
  name: "session.update",
  lua: `${writing}
local id, value = find(ARGV[2])
if not value then return false end
if not is_session(value) then return { now, value, id } end
local function is_replaced(field)
  for i = 3, #ARGV, 2 do
    local name = ARGV[i] .. ':'
    if string.sub(field, 1, #name) == name then return true end
  end
  return false
end
local head, data = {}, {}
for text in string.gmatch(value .. '\\n', '([^\\n]*)\\n') do
  if #head < 6 then
    head[#head + 1] = text
  else
    if string.sub(text, -1) == ',' then text = string.sub(text, 1, -2) end
    if not is_replaced(text) then data[#data + 1] = text end
  end
end
for i = 3, #ARGV, 2 do
  if ARGV[i + 1] ~= '' then data[#data + 1] = ARGV[i + 1] end
end
if #data > 0 then head[7] = table.concat(data, ',\\n') end
value = table.concat(head, '\\n')
redis.call('HSET', sessions, id, value)
return { now, value, id }`,
  params: (keys: Keys, { channel }: Settings, id: string, fields: ReadonlyArray<Field>) => ({
    keys,
    args: [channel, id, ...fields.flat()]
  }),
  result: found
})

/**
 * Gives a session another id. The one before may be good for a while; then it can read, and not be replaced again. O(1).
 *
 * KEYS hash, ends. ARGV channel, id, new id, idle and absolute limit, how long the id before is good, whether the user
 * has just been authenticated. Returns what `get` returns.
 */
export const rotate = RedisScript.make({
  name: "session.rotate",
  idempotent: true,
  lua: `${writing}
local old, new, grace = ARGV[2], ARGV[3], tonumber(ARGV[6])
local value = redis.call('HGET', sessions, new)
-- It was done before, and the reply was lost.
if is_session(value) then
  if ends(value) <= now then return false end
  return { now, value, new }
end
local id
id, value = find(old)
if not value or id ~= old then return false end
if not is_session(value) then return { now, value, id } end
value = used(value, ARGV[7] == '1' and string.format('%013.0f', now), tonumber(ARGV[4]), tonumber(ARGV[5]))
redis.call('HSET', sessions, new, value)
if grace > 0 then
  redis.call('HSET', sessions, old, '=' .. string.format('%013.0f', math.min(now + grace, ends(value))) .. new)
else
  redis.call('HDEL', sessions, old)
end
keep(ends(value))
tell('rotated', new, value, old)
purge_some()
return { now, value, new }`,
  params: (
    keys: Keys,
    { absolute, channel, idle }: Settings,
    options: {
      readonly id: string
      readonly newId: string
      readonly grace: number
      readonly authenticated: boolean
    }
  ) => ({
    keys,
    args: [
      channel,
      options.id,
      options.newId,
      idle,
      absolute,
      String(options.grace),
      flag(options.authenticated)
    ]
  }),
  result: found
})

/**
 * Ends a session. O(1).
 *
 * KEYS hash, ends. ARGV channel, id. Returns whether there was one.
 */
export const remove = RedisScript.make({
  name: "session.delete",
  idempotent: true,
  lua: `${writing}
local id, value = find(ARGV[2])
if not value then return 0 end
remove(id, value, 'deleted')
purge_some()
forget()
return 1`,
  params: (keys: Keys, { channel }: Settings, id: string) => ({ keys, args: [channel, id] }),
  result: RedisScript.boolean
})

/**
 * Ends all sessions of a user, whatever their records look like. O(n).
 *
 * KEYS hash, ends. ARGV channel. Returns how many there were.
 */
export const removeAll = RedisScript.make({
  name: "session.deleteForUser",
  idempotent: true,
  lua: `${writing}
local live = purge(all())
for _, session in ipairs(live) do tell('deleted', session.id, session.value) end
redis.call('UNLINK', sessions)
forget()
return #live`,
  params: (keys: Keys, { channel }: Settings) => ({ keys, args: [channel] }),
  result: RedisScript.number
})

/**
 * Ends all sessions of a user but one. O(n).
 *
 * KEYS hash, ends. ARGV channel, id. Returns how many ended, or nothing when that one is not there.
 */
export const removeOthers = RedisScript.make({
  name: "session.deleteOthers",
  idempotent: true,
  lua: `${writing}
local id, value = find(ARGV[2])
if not is_session(value) then return false end
local ended = 0
for _, session in ipairs(purge(all())) do
  if session.id ~= id then
    remove(session.id, session.value, 'deleted')
    ended = ended + 1
  end
end
-- What leads to one of those, and what another release has written.
local entries = all()
for i = 1, #entries, 2 do
  if entries[i] ~= id and target(entries[i + 1]) ~= id then redis.call('HDEL', sessions, entries[i]) end
end
return ended`,
  params: (keys: Keys, { channel }: Settings, id: string) => ({ keys, args: [channel, id] }),
  result: (reply): Either.Either<number | undefined, string> =>
    reply === null ? Either.right(undefined) : RedisScript.number(reply)
})

/**
 * All sessions of a user. O(n).
 *
 * KEYS hash, ends. ARGV channel. Returns the server's time, then ids with records.
 */
export const list = RedisScript.make({
  name: "session.list",
  idempotent: true,
  lua: `${writing}
local result = { now }
for _, session in ipairs(purge(all())) do
  result[#result + 1] = session.id
  result[#result + 1] = session.value
end
return result`,
  params: (keys: Keys, { channel }: Settings) => ({ keys, args: [channel] }),
  result: (reply): Either.Either<{ readonly now: number; readonly entries: ReadonlyArray<Entry> }, string> => {
    if (Array.isArray(reply)) {
      const [now, ...rest] = reply as ReadonlyArray<Reply>
      const all = entries(rest)
      if (typeof now === "number" && all !== undefined) return Either.right({ now, entries: all })
    }
    return Either.left("a time, ids and records")
  }
})

/**
 * How many sessions a user has. O(n).
 *
 * KEYS hash, ends. ARGV channel. Returns the number.
 */
export const count = RedisScript.make({
  name: "session.count",
  idempotent: true,
  lua: `${writing}
local live = purge(all())
return #live`,
  params: (keys: Keys, { channel }: Settings) => ({ keys, args: [channel] }),
  result: RedisScript.number
})

/**
 * Removes what is over, and notes when to look again. O(n).
 *
 * KEYS hash, ends. ARGV channel. Returns how many sessions ended.
 */
export const sweep = RedisScript.make({
  name: "session.sweep",
  idempotent: true,
  lua: `${writing}
local live, ended = purge(all())
local next
for _, session in ipairs(live) do
  local at = ends(session.value)
  if not next or at < next then next = at end
end
if next then
  redis.call('ZADD', tracked, digits(next), member())
else
  redis.call('ZREM', tracked, member())
end
return ended`,
  params: (keys: Keys, channel: string) => ({ keys, args: [channel] }),
  result: RedisScript.number
})
