/**
 * The Lua of consumer groups. Beside the stream, and in its slot, there are for each group
 *
 * - `:retry:{group}`, a sorted set of pending entries that must not be taken before a time, in milliseconds of the
 *   server's clock. It lives a day longer than the last of these times; without it an entry is taken when it is idle.
 * - `:dead:{group}`, a stream of dead letters. The first 16 texts of a dead letter are names and values about it, in a
 *   fixed order; what follows are the fields of the entry as they were.
 *
 * Every change of a pending entry is made for its owner alone, and XACK is what guards the way to the dead letters.
 */
import * as Either from "effect/Either"
import type { Reply } from "../RedisClient.js"
import * as RedisScript from "../RedisScript.js"
import { rawEntries, type RawEntry, rawEntry } from "../Stream/codec.js"
import { beside } from "../Stream/scripts.js"

/** A group as the scripts know it. */
export interface Keys {
  readonly stream: string
  readonly retry: string
  readonly dead: string
  readonly group: string
}

export const keysOf = (stream: string, group: string): Keys => ({
  stream,
  retry: beside(stream, `retry:${group}`),
  dead: beside(stream, `dead:${group}`),
  group
})

/** How many pending entries a script looks at. */
const PAGE = 1000

/** How many fields of an entry a dead letter keeps: Lua passes no more than 8000 arguments. */
const MOST_FIELDS = 3500

const DAY = 86_400_000

const clock = `
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)`

/** How often an entry was delivered, when it is pending for this consumer. */
const own = `
local function own(key, group, consumer, id)
  local found = redis.call('XPENDING', key, group, id, id, 1)[1]
  if found and found[2] == consumer then return found[4] end
end`

/**
 * Makes a group, and the stream where there is none.
 *
 * KEYS: the stream. ARGV: the group, and after which id it begins, when there is a stream. Returns 0 when there was such a
 * group, 1 when it was made, and 2 when the stream was made as well. O(1).
 */
export const create = RedisScript.make({
  name: "groupCreate",
  lua: `
local there = redis.call('EXISTS', KEYS[1]) == 1
if there then
  for _, info in ipairs(redis.call('XINFO', 'GROUPS', KEYS[1])) do
    if info[2] == ARGV[1] then return 0 end
  end
end
redis.call('XGROUP', 'CREATE', KEYS[1], ARGV[1], there and ARGV[2] or '0', 'MKSTREAM')
return there and 1 or 2`,
  params: ({ group, stream }: Keys, from: string) => ({ keys: [stream], args: [group, from] }),
  result: RedisScript.number,
  idempotent: true
})

/**
 * Removes a group with its retries. Dead letters stay.
 *
 * KEYS: the stream and the retries. ARGV: the group. Returns whether there was one. O(pending entries).
 */
export const destroy = RedisScript.make({
  name: "groupDestroy",
  lua: `
redis.call('DEL', KEYS[2])
if redis.call('EXISTS', KEYS[1]) == 0 then return 0 end
return redis.call('XGROUP', 'DESTROY', KEYS[1], ARGV[1])`,
  params: ({ group, retry, stream }: Keys) => ({ keys: [stream, retry], args: [group] }),
  result: RedisScript.boolean
})

export type Polled =
  | { readonly entries: ReadonlyArray<RawEntry> }
  /** The last entry that there is. */
  | { readonly last: string }

/**
 * New entries for a consumer; when there are none, the id of the last entry, after which it can wait for others.
 *
 * KEYS: the stream. ARGV: the group, the consumer, and how many at most. O(entries).
 */
export const poll = RedisScript.make({
  name: "groupPoll",
  lua: `
local found = redis.call('XREADGROUP', 'GROUP', ARGV[1], ARGV[2], 'COUNT', ARGV[3], 'STREAMS', KEYS[1], '>')
if found and found[1] then return {found[1][2], ''} end
local last = redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', 1)[1]
return {false, last and last[1] or '0-0'}`,
  params: ({ group, stream }: Keys, consumer: string, count: number) => ({
    keys: [stream],
    args: [group, consumer, count]
  }),
  result: (reply: Reply): Either.Either<Polled, string> => {
    if (!Array.isArray(reply) || reply.length !== 2) return Either.left("entries or an id")
    const [found, last]: ReadonlyArray<Reply> = reply
    const entries = found === null ? undefined : rawEntries(found)
    return entries !== undefined
      ? Either.right({ entries })
      : typeof last === "string" && last !== ""
      ? Either.right({ last })
      : Either.left("entries or an id")
  }
})

export interface Taken {
  readonly entries: ReadonlyArray<readonly [entry: RawEntry, deliveries: number]>
  /** Pending entries that are no longer in the stream. */
  readonly trimmed: ReadonlyArray<string>
  /** Where to go on looking; `-` when all was looked at. */
  readonly cursor: string
  /** Milliseconds until the next retry, if there is one. */
  readonly next: number | undefined
  readonly pending: number
  readonly lag: number | undefined
}

const isTexts = (u: unknown): u is ReadonlyArray<string> =>
  Array.isArray(u) && u.every((part) => typeof part === "string")

const taken = (reply: Reply): Either.Either<Taken, string> => {
  const bad = Either.left("entries, ids, a cursor and numbers")
  if (!Array.isArray(reply) || reply.length !== 6) return bad
  const [found, trimmed, cursor, next, pending, lag]: ReadonlyArray<Reply> = reply
  if (
    !Array.isArray(found) || !isTexts(trimmed) || typeof cursor !== "string" || typeof next !== "number" ||
    typeof pending !== "number" || typeof lag !== "number"
  ) {
    return bad
  }
  const entries: Array<readonly [RawEntry, number]> = []
  for (const each of found as ReadonlyArray<Reply>) {
    const entry = rawEntry(each)
    if (entry === undefined || !Array.isArray(each) || typeof each[2] !== "number") return bad
    entries.push([entry, each[2]])
  }
  return Either.right({
    entries,
    trimmed,
    cursor,
    next: next < 0 ? undefined : next,
    pending,
    lag: lag < 0 ? undefined : lag
  })
}

/**
 * Pending entries for a consumer: retries that are due, its own ones that it does not know of when it asks for them, and
 * those that nobody has renewed for a lease. What waits for a retry is left alone. Each counts as delivered once more.
 *
 * KEYS: the stream and the retries. ARGV: the group, the consumer, the lease, how many at most, whether its own ones are
 * wanted, where to look for idle ones, and the ids that it holds. O(${PAGE} + groups).
 */
export const take = RedisScript.make({
  name: "groupTake",
  lua: `
local key, retry = KEYS[1], KEYS[2]
local group, me, lease, most, mine, cursor = ARGV[1], ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4]), ARGV[5], ARGV[6]
local held, ids, deliveries = {}, {}, {}
for i = 7, #ARGV do held[ARGV[i]] = true end
${clock}

local function pick(id, count)
  if deliveries[id] then return end
  ids[#ids + 1] = id
  deliveries[id] = count + 1
end

local function free(id)
  return not held[id] and not redis.call('ZSCORE', retry, id)
end

for _, id in ipairs(redis.call('ZRANGEBYSCORE', retry, '-inf', now, 'LIMIT', 0, most)) do
  redis.call('ZREM', retry, id)
  local found = redis.call('XPENDING', key, group, id, id, 1)[1]
  if found and not held[id] then pick(id, found[4]) end
end

local start = '-'
while mine == '1' and start and #ids < most do
  local page = redis.call('XPENDING', key, group, start, '+', ${PAGE}, me)
  for _, item in ipairs(page) do
    if #ids < most and free(item[1]) then pick(item[1], item[4]) end
  end
  start = #page == ${PAGE} and '(' .. page[#page][1]
end

local next_cursor = cursor
if #ids < most then
  local page = redis.call('XPENDING', key, group, cursor, '+', ${PAGE})
  next_cursor = '-'
  for i, item in ipairs(page) do
    if item[3] >= lease and free(item[1]) then pick(item[1], item[4]) end
    if #ids >= most or i == ${PAGE} then
      next_cursor = '(' .. item[1]
      break
    end
  end
end

local entries, trimmed, there = {}, {}, {}
if #ids > 0 then
  for _, entry in ipairs(redis.call('XCLAIM', key, group, me, 0, unpack(ids))) do
    if entry then
      there[entry[1]] = true
      entries[#entries + 1] = {entry[1], entry[2], deliveries[entry[1]]}
    end
  end
  for _, id in ipairs(ids) do
    if not there[id] then trimmed[#trimmed + 1] = id end
  end
end

local first = redis.call('ZRANGE', retry, 0, 0, 'WITHSCORES')
local pending, lag = 0, -1
for _, info in ipairs(redis.call('XINFO', 'GROUPS', key)) do
  local about = {}
  for i = 1, #info, 2 do about[info[i]] = info[i + 1] end
  if about['name'] == group then pending, lag = about['pending'], about['lag'] or -1 end
end
return {entries, trimmed, next_cursor, first[2] and math.max(0, tonumber(first[2]) - now) or -1, pending, lag}`,
  params: (
    { group, retry, stream }: Keys,
    consumer: string,
    options: {
      readonly lease: number
      readonly most: number
      readonly own: boolean
      readonly cursor: string
      readonly held: Iterable<string>
    }
  ) => ({
    keys: [stream, retry],
    args: [group, consumer, options.lease, options.most, options.own ? 1 : 0, options.cursor, ...options.held]
  }),
  result: taken
})

/**
 * Renews what a consumer works on, as far as it is still its own.
 *
 * KEYS: the stream. ARGV: the group, the consumer, and ids. Returns the ids that others have. O(ids).
 */
export const renew = RedisScript.make({
  name: "groupRenew",
  lua: `
local key, group, me = KEYS[1], ARGV[1], ARGV[2]
local mine, taken = {}, {}
for i = 3, #ARGV do
  local found = redis.call('XPENDING', key, group, ARGV[i], ARGV[i], 1)[1]
  if found then
    if found[2] == me then mine[#mine + 1] = ARGV[i] else taken[#taken + 1] = ARGV[i] end
  end
end
if #mine > 0 then
  mine[#mine + 1] = 'JUSTID'
  redis.call('XCLAIM', key, group, me, 0, unpack(mine))
end
return taken`,
  params: ({ group, stream }: Keys, consumer: string, ids: ReadonlyArray<string>) => ({
    keys: [stream],
    args: [group, consumer, ...ids]
  }),
  result: (reply: Reply): Either.Either<ReadonlyArray<string>, string> =>
    isTexts(reply) ? Either.right(reply) : Either.left("ids"),
  idempotent: true
})

/**
 * Sets how often an entry was delivered, for a retry by the same consumer.
 *
 * KEYS: the stream. ARGV: the group, the consumer, the id and the number. Returns whether it is its own. O(1).
 */
export const again = RedisScript.make({
  name: "groupAgain",
  lua: `
${own}
if not own(KEYS[1], ARGV[1], ARGV[2], ARGV[3]) then return 0 end
return #redis.call('XCLAIM', KEYS[1], ARGV[1], ARGV[2], 0, ARGV[3], 'RETRYCOUNT', ARGV[4], 'JUSTID')`,
  params: ({ group, stream }: Keys, consumer: string, id: string, deliveries: number) => ({
    keys: [stream],
    args: [group, consumer, id, deliveries]
  }),
  result: RedisScript.boolean,
  idempotent: true
})

const keepRetries = `
local function put_off(retry, at, id, now)
  redis.call('ZADD', retry, at, id)
  local last = redis.call('ZRANGE', retry, -1, -1, 'WITHSCORES')[2]
  redis.call('PEXPIRE', retry, math.max(0, tonumber(last) - now) + ${DAY})
end`

/**
 * Puts an entry off that failed. Whoever comes first after that time takes it.
 *
 * KEYS: the stream and the retries. ARGV: the group, the consumer, the id and milliseconds. Returns whether it was its
 * own. O(log retries).
 */
export const delay = RedisScript.make({
  name: "groupDelay",
  lua: `
${own}
${keepRetries}
if not own(KEYS[1], ARGV[1], ARGV[2], ARGV[3]) then return 0 end
${clock}
put_off(KEYS[2], now + tonumber(ARGV[4]), ARGV[3], now)
return 1`,
  params: ({ group, retry, stream }: Keys, consumer: string, id: string, millis: number) => ({
    keys: [stream, retry],
    args: [group, consumer, id, millis]
  }),
  result: RedisScript.boolean,
  idempotent: true
})

/**
 * Gives entries back: anybody may take them at once, and they were delivered so often as is told.
 *
 * KEYS: the stream and the retries. ARGV: the group, the consumer, and pairs of id and number. Returns how many were its
 * own. O(ids).
 */
export const release = RedisScript.make({
  name: "groupRelease",
  lua: `
${own}
${keepRetries}
${clock}
local released = 0
for i = 3, #ARGV, 2 do
  if own(KEYS[1], ARGV[1], ARGV[2], ARGV[i]) then
    local args = {ARGV[i], 'TIME', 0, 'RETRYCOUNT', ARGV[i + 1], 'JUSTID'}
    if #redis.call('XCLAIM', KEYS[1], ARGV[1], ARGV[2], 0, unpack(args)) > 0 then
      put_off(KEYS[2], 0, ARGV[i], now)
      released = released + 1
    end
  end
end
return released`,
  params: (
    { group, retry, stream }: Keys,
    consumer: string,
    entries: ReadonlyArray<readonly [id: string, deliveries: number]>
  ) => ({ keys: [stream, retry], args: [group, consumer, ...entries.flat()] }),
  result: RedisScript.number,
  idempotent: true
})

/** The names before the fields of a dead letter. */
export const META = [
  "original_stream",
  "original_id",
  "original_group",
  "reason",
  "error",
  "deliveries",
  "consumer",
  "moved_at"
] as const

/**
 * Moves an entry to the dead letters. What is in the stream counts, as it is; the fields that are told are for an entry
 * that was trimmed meanwhile.
 *
 * KEYS: the stream, the retries and the dead letters. ARGV: the group, the consumer, the id, the reason, the error, how
 * often it was delivered, how many dead letters are kept, the name of the stream, and fields. Returns whether it was moved
 * by this call. O(fields).
 */
export const bury = RedisScript.make({
  name: "groupBury",
  lua: `
local key, group, me, id = KEYS[1], ARGV[1], ARGV[2], ARGV[3]
${own}
if not own(key, group, me, id) then return 0 end
local entry = redis.call('XRANGE', key, id, id)[1]
if redis.call('XACK', key, group, id) == 0 then return 0 end
redis.call('ZREM', KEYS[2], id)
local fields = entry and entry[2]
if not fields then
  fields = {}
  for i = 9, #ARGV do fields[i - 8] = ARGV[i] end
end
${clock}
local about = {
  'original_stream', ARGV[8], 'original_id', id, 'original_group', group, 'reason', ARGV[4],
  'error', ARGV[5], 'deliveries', ARGV[6], 'consumer', me, 'moved_at', string.format('%.0f', now)
}
for i = 1, math.min(#fields, ${2 * MOST_FIELDS}) do about[#about + 1] = fields[i] end
redis.call('XADD', KEYS[3], 'MAXLEN', '~', ARGV[7], '*', unpack(about))
return 1`,
  params: (
    { dead, group, retry, stream }: Keys,
    consumer: string,
    letter: {
      readonly id: string
      readonly reason: string
      readonly error: string
      readonly deliveries: number
      readonly kept: number
      readonly fields: ReadonlyArray<string>
    }
  ) => ({
    keys: [stream, retry, dead],
    args: [
      group,
      consumer,
      letter.id,
      letter.reason,
      letter.error,
      letter.deliveries,
      letter.kept,
      stream,
      ...letter.fields.slice(0, 2 * MOST_FIELDS)
    ]
  }),
  result: RedisScript.boolean,
  idempotent: true
})

/** Who owns entries that were put back, until a worker takes them. */
export const REPLAYED = "replayed"

/**
 * Puts dead letters back. An entry that is still in the stream is pending again for this group alone; of another one a
 * copy is appended, which all groups get.
 *
 * KEYS: the stream, the retries and the dead letters. ARGV: the group and ids of dead letters. Returns how many were put
 * back, and how many were appended. O(ids).
 */
export const replay = RedisScript.make({
  name: "groupReplay",
  lua: `
local key, retry, dead, group = KEYS[1], KEYS[2], KEYS[3], ARGV[1]
${keepRetries}
${clock}
local restored, copied = 0, 0
for i = 2, #ARGV do
  local letter = redis.call('XRANGE', dead, ARGV[i], ARGV[i])[1]
  local fields = letter and letter[2]
  if fields and #fields > ${
    2 * META.length
  } and fields[3] == 'original_id' and string.match(fields[4], '^%d+-%d+$') then
    local id = fields[4]
    local claimed = redis.call(
      'XCLAIM', key, group, '${REPLAYED}', 0, id, 'TIME', 0, 'RETRYCOUNT', 0, 'FORCE', 'JUSTID'
    )
    if #claimed > 0 then
      put_off(retry, 0, id, now)
      restored = restored + 1
    else
      local original = {}
      for j = ${2 * META.length + 1}, #fields do original[#original + 1] = fields[j] end
      redis.call('XADD', key, '*', unpack(original))
      copied = copied + 1
    end
    redis.call('XDEL', dead, ARGV[i])
  end
end
return {restored, copied}`,
  params: ({ dead, group, retry, stream }: Keys, ids: ReadonlyArray<string>) => ({
    keys: [stream, retry, dead],
    args: [group, ...ids]
  }),
  result: (reply: Reply): Either.Either<readonly [restored: number, copied: number], string> =>
    Array.isArray(reply) && typeof reply[0] === "number" && typeof reply[1] === "number"
      ? Either.right([reply[0], reply[1]])
      : Either.left("two numbers")
})

/**
 * Removes a consumer that has nothing pending.
 *
 * KEYS: the stream. ARGV: the group and the consumer. Returns how many entries are pending for it: with 0 it is gone.
 * O(consumers).
 */
export const retire = RedisScript.make({
  name: "groupRetire",
  lua: `
if redis.call('EXISTS', KEYS[1]) == 0 then return 0 end
for _, item in ipairs(redis.call('XPENDING', KEYS[1], ARGV[1])[4] or {}) do
  if item[1] == ARGV[2] and tonumber(item[2]) > 0 then return tonumber(item[2]) end
end
redis.call('XGROUP', 'DELCONSUMER', KEYS[1], ARGV[1], ARGV[2])
return 0`,
  params: ({ group, stream }: Keys, consumer: string) => ({ keys: [stream], args: [group, consumer] }),
  result: RedisScript.number,
  idempotent: true
})

/**
 * Removes consumers that have nothing pending and of which nothing was heard for a while.
 *
 * KEYS: the stream. ARGV: the group, the consumer that asks, and milliseconds. Returns how many. O(consumers).
 */
export const prune = RedisScript.make({
  name: "groupPrune",
  lua: `
local removed = 0
for _, info in ipairs(redis.call('XINFO', 'CONSUMERS', KEYS[1], ARGV[1])) do
  local about = {}
  for i = 1, #info, 2 do about[info[i]] = info[i + 1] end
  if about['pending'] == 0 and about['idle'] >= tonumber(ARGV[3]) and about['name'] ~= ARGV[2] then
    redis.call('XGROUP', 'DELCONSUMER', KEYS[1], ARGV[1], about['name'])
    removed = removed + 1
  end
end
return removed`,
  params: ({ group, stream }: Keys, consumer: string, millis: number) => ({
    keys: [stream],
    args: [group, consumer, millis]
  }),
  result: RedisScript.number,
  idempotent: true
})
