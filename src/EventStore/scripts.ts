/**
 * The Lua of event stores. The keys of one partition share a hash tag, and begin with `events:{name.partition}`:
 *
 * - `:a:type:id` is the stream of an aggregate: its events, of which the ids are `version-0`. An entry has the id of the
 *   event (`i`), its position (`p`), and the event itself as JSON (`e`).
 * - `:all` is a stream of all events in the order of their positions. An entry says where the event is: the type (`t`) and
 *   the id (`a`) of the aggregate, and the version (`v`).
 * - `:once:type:id:event` says where an append without an expected version has begun, for as long as it may be retried.
 * - `:snapshot:name:type:id` is a hash with the last snapshot of an aggregate: `version`, `schema`, `state`.
 * - `:checkpoint:projection` is a hash: the `position` that a projection has come to, how many `events` that are, and the
 *   `fence`, the token of whoever has moved it last.
 *
 * And `events:{name}:partitions` is how many partitions there are. Nothing of this is ever trimmed or expires, except
 * `:once`: history belongs to whoever has defined the store.
 *
 * Each append publishes its last position on the channel `events:{name.partition}:appended`, to wake up those who wait.
 */
import * as Either from "effect/Either"
import * as RedisScript from "../RedisScript.js"
import type { Aggregate } from "./EventStoreError.js"

/** A partition of a store. */
export interface Place {
  readonly name: string
  readonly partition: number
  /** What its keys begin with. */
  readonly base: string
  /** As the server knows it. */
  readonly channel: string
}

/** `}` would end the hash tag, and `%` is what it is written with. */
const escapeTag = (name: string): string => name.replace(/[%}]/g, encodeURIComponent)

export const baseOf = (name: string, partition: number): string => `events:{${escapeTag(name)}.${partition}}`

export const channelOf = (base: string): string => `${base}:appended`

export const allKey = (base: string): string => `${base}:all`

/** A colon in a type would end it early. */
const nameOf = ({ id, type }: Aggregate): string => `${type.replace(/[%:]/g, encodeURIComponent)}:${id}`

export const aggregateKey = (base: string, aggregate: Aggregate): string => `${base}:a:${nameOf(aggregate)}`

export const checkpointKey = (base: string, projection: string): string => `${base}:checkpoint:${projection}`

export const snapshotKey = (base: string, snapshot: string, aggregate: Aggregate): string =>
  `${base}:snapshot:${snapshot.replace(/[%:]/g, encodeURIComponent)}:${nameOf(aggregate)}`

/**
 * Says how many partitions there are, unless it was said before. O(1).
 *
 * KEYS partitions. ARGV how many. Returns how many there are.
 */
export const open = RedisScript.make({
  name: "events.open",
  lua: `
redis.call('SET', KEYS[1], ARGV[1], 'NX')
return tonumber(redis.call('GET', KEYS[1]))`,
  params: (name: string, partitions: number) => ({
    keys: [`events:{${escapeTag(name)}}:partitions`],
    args: [partitions]
  }),
  result: RedisScript.number,
  idempotent: true
})

/** An event as it is written. */
export interface Written {
  readonly id: string
  readonly body: string
}

/** What became of an append: without a position it is a conflict, and the version is the one that there is. */
export interface Appended {
  readonly version: number
  readonly position: string | undefined
  readonly duplicate: boolean
}

/**
 * Appends events to an aggregate when it is at the expected version, all or none. When it is not, and the same events are
 * where they would have been written, they were: the reply to the first call was lost. O(n) with n events.
 *
 * Only the very first write can be refused, when somebody has removed events by hand; what the other stream has got by
 * then is taken back.
 *
 * KEYS the aggregate, all, and once when no number is expected. ARGV a number or `any` or `exists`, type and id of the
 * aggregate, channel, how long an append is remembered in milliseconds, and id and body of each event. Returns the version
 * that there is on a conflict, else the new version, the last position, and whether they were there.
 */
export const append = RedisScript.make({
  name: "events.append",
  lua: `
local stream, all, once = KEYS[1], KEYS[2], KEYS[3]
local expected, kind, id = ARGV[1], ARGV[2], ARGV[3]
local count = (#ARGV - 5) / 2
local base, version, fits
if not once then
  base = tonumber(expected)
  version = redis.call('XLEN', stream)
end
-- How many there are is quicker to tell than the last version, and the same unless somebody has removed some.
if once or version ~= base then
  local last = redis.call('XREVRANGE', stream, '+', '-', 'COUNT', 1)[1]
  version = 0
  if last then version = tonumber(string.match(last[1], '^%d+')) end
end
if once then
  base = tonumber(redis.call('GET', once))
  fits = not base and (expected == 'any' or version > 0)
else
  fits = base == version
end
if not fits then
  if base and count > 0 and base + count <= version then
    local there = redis.call('XRANGE', stream, (base + 1) .. '-0', (base + count) .. '-0')
    local same = #there == count
    for i, entry in ipairs(there) do same = same and entry[2][2] == ARGV[4 + 2 * i] end
    if same then return { base + count, there[count][2][4], 1 } end
  end
  return { version }
end
if count == 0 then return { version, '', 0 } end
local position
for i = 1, count do
  position = redis.call('XADD', all, '*', 't', kind, 'a', id, 'v', version + i)
  local added = redis.pcall('XADD', stream, (version + i) .. '-0', 'i', ARGV[4 + 2 * i], 'p', position,
    'e', ARGV[5 + 2 * i])
  if type(added) == 'table' then
    redis.call('XDEL', all, position)
    return added
  end
end
if once then redis.call('SET', once, version, 'PX', ARGV[5]) end
redis.call('PUBLISH', ARGV[4], position)
return { version + count, position, 0 }`,
  params: (
    { base, channel }: Place,
    aggregate: Aggregate,
    expected: "any" | "exists" | number,
    events: ReadonlyArray<Written>,
    window: number
  ) => {
    const keys = [aggregateKey(base, aggregate), allKey(base)]
    const args = [expected, aggregate.type, aggregate.id, channel, window]
    if (typeof expected !== "number") keys.push(`${base}:once:${nameOf(aggregate)}:${events[0]?.id ?? ""}`)
    for (const { body, id } of events) args.push(id, body)
    return { keys, args }
  },
  result: (reply): Either.Either<Appended, string> => {
    const [version, position, duplicate] = Array.isArray(reply) ? reply : []
    return typeof version === "number" && (position === undefined || typeof position === "string")
      ? Either.right({ version, position, duplicate: duplicate === 1 })
      : Either.left("a version, with or without a position")
  },
  idempotent: true
})

/**
 * Keeps a snapshot unless there is a later one, or one of a later schema. O(1).
 *
 * KEYS snapshot. ARGV version, schema, state. Returns whether it was kept.
 */
export const saveSnapshot = RedisScript.make({
  name: "events.saveSnapshot",
  lua: `
local there = redis.call('HMGET', KEYS[1], 'schema', 'version')
local schema, version = tonumber(there[1]), tonumber(there[2])
if schema and version then
  if schema > tonumber(ARGV[2]) or (schema == tonumber(ARGV[2]) and version > tonumber(ARGV[1])) then return 0 end
end
redis.call('HSET', KEYS[1], 'version', ARGV[1], 'schema', ARGV[2], 'state', ARGV[3])
return 1`,
  params: (key: string, version: number, schema: number, state: string) => ({
    keys: [key],
    args: [version, schema, state]
  }),
  result: RedisScript.boolean,
  idempotent: true
})

/** Where a projection stands. */
export interface Checkpoint {
  readonly position: string
  /** How many events that are. */
  readonly events: number
}

/**
 * Makes the holder of a fencing token the one who moves the checkpoint, and returns where it is. O(1).
 *
 * KEYS checkpoint. ARGV token. Returns nothing when a later token was seen, else position and events.
 */
export const takeOver = RedisScript.make({
  name: "events.takeOver",
  lua: `
local there = redis.call('HMGET', KEYS[1], 'fence', 'position', 'events')
if tonumber(there[1] or 0) > tonumber(ARGV[1]) then return false end
redis.call('HSET', KEYS[1], 'fence', ARGV[1])
return { there[2] or '0-0', tonumber(there[3] or 0) }`,
  params: (key: string, token: number) => ({ keys: [key], args: [token] }),
  result: (reply): Either.Either<Checkpoint | undefined, string> => {
    if (reply === null) return Either.right(undefined)
    const [position, events] = Array.isArray(reply) ? reply : []
    return typeof position === "string" && typeof events === "number"
      ? Either.right({ position, events })
      : Either.left("nothing, or a position and a number")
  },
  idempotent: true
})

/**
 * Moves a checkpoint, unless somebody with another token has taken over. O(1).
 *
 * KEYS checkpoint. ARGV token, position, events. Returns whether it was moved.
 */
export const moveCheckpoint = RedisScript.make({
  name: "events.moveCheckpoint",
  lua: `
if redis.call('HGET', KEYS[1], 'fence') ~= ARGV[1] then return 0 end
redis.call('HSET', KEYS[1], 'position', ARGV[2], 'events', ARGV[3])
return 1`,
  params: (key: string, token: number, { events, position }: Checkpoint) => ({
    keys: [key],
    args: [token, position, events]
  }),
  result: RedisScript.boolean,
  idempotent: true
})

/**
 * Brings a checkpoint back to the start. Whoever moves it at this moment is refused from here on, and begins again. O(1).
 *
 * KEYS checkpoint. Returns nothing.
 */
export const resetCheckpoint = RedisScript.make({
  name: "events.resetCheckpoint",
  lua: `
redis.call('HDEL', KEYS[1], 'position', 'events')
if redis.call('EXISTS', KEYS[1]) == 1 then redis.call('HINCRBY', KEYS[1], 'fence', 1) end`,
  params: (key: string) => ({ keys: [key], args: [] }),
  result: RedisScript.reply,
  idempotent: true
})
