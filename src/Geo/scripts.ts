/**
 * The Lua of places. A set of places has two keys in one slot: `geo:{name:places}` is a sorted set, as `GEOADD` makes it,
 * and `geo:{name:places}:values` a hash with what is known of each member, if anything is.
 *
 * All are the same whether they run once or twice, except for what the writing ones return.
 */
import * as Either from "effect/Either"
import type { RedisArg, Reply } from "../RedisClient.js"
import * as RedisScript from "../RedisScript.js"

/** The keys of a set of places. */
export interface Keys {
  readonly places: string
  readonly values: string
}

/** A place as the scripts know it. */
export interface Entry {
  readonly longitude: number
  readonly latitude: number
  readonly member: string
  /** `undefined` for a set without values. */
  readonly value: string | undefined
}

/**
 * Puts members at places. O(n log m) for n of m.
 *
 * KEYS places, values. ARGV life (0 for no end), whether there are values, how many members there are, longitude, latitude
 * and member of each, and then member and value of each. Returns how many were not there before.
 */
export const add = RedisScript.make({
  name: "geo.add",
  lua: `
local life, valued, n = tonumber(ARGV[1]), ARGV[2] == '1', tonumber(ARGV[3])
local last = 3 + 3 * n
local added = 0
for from = 4, last, 3000 do
  added = added + redis.call('GEOADD', KEYS[1], unpack(ARGV, from, math.min(from + 2999, last)))
end
if valued then
  for from = last + 1, #ARGV, 2000 do
    redis.call('HSET', KEYS[2], unpack(ARGV, from, math.min(from + 1999, #ARGV)))
  end
end
if life > 0 then
  redis.call('PEXPIRE', KEYS[1], life)
  if valued then redis.call('PEXPIRE', KEYS[2], life) end
end
return added`,
  params: (keys: Keys, life: number, valued: boolean, entries: ReadonlyArray<Entry>) => {
    const args: Array<RedisArg> = [life, valued ? 1 : 0, entries.length]
    for (const { latitude, longitude, member } of entries) args.push(longitude, latitude, member)
    if (valued) { for (const { member, value = "" } of entries) args.push(member, value) }
    return { keys: [keys.places, keys.values], args }
  },
  result: RedisScript.number,
  idempotent: true
})

/**
 * Removes members. O(n log m) for n of m.
 *
 * KEYS places, values. ARGV members. Returns how many there were.
 */
export const remove = RedisScript.make({
  name: "geo.remove",
  lua: `
local removed = 0
for from = 1, #ARGV, 1000 do
  local last = math.min(from + 999, #ARGV)
  removed = removed + redis.call('ZREM', KEYS[1], unpack(ARGV, from, last))
  redis.call('HDEL', KEYS[2], unpack(ARGV, from, last))
end
return removed`,
  params: (keys: Keys, members: ReadonlyArray<string>) => ({ keys: [keys.places, keys.values], args: members }),
  result: RedisScript.number,
  idempotent: true
})

/** Where a member is, and what is known of it. */
export interface Known {
  readonly longitude: number
  readonly latitude: number
  readonly value: string | undefined
}

const isCoordinates = (reply: Reply | undefined): reply is readonly [string, string] =>
  Array.isArray(reply) && reply.length === 2 && typeof reply[0] === "string" && typeof reply[1] === "string"

/**
 * Where members are, and what is known of them. O(n) for n members.
 *
 * KEYS places, values. ARGV whether values are wanted, members. Returns positions, and then values.
 */
export const get = RedisScript.make({
  name: "geo.get",
  lua: `
local positions, values = {}, {}
for from = 2, #ARGV, 1000 do
  local last = math.min(from + 999, #ARGV)
  for _, position in ipairs(redis.call('GEOPOS', KEYS[1], unpack(ARGV, from, last))) do
    positions[#positions + 1] = position
  end
  if ARGV[1] == '1' then
    for _, value in ipairs(redis.call('HMGET', KEYS[2], unpack(ARGV, from, last))) do
      values[#values + 1] = value
    end
  end
end
return { positions, values }`,
  params: (keys: Keys, valued: boolean, members: ReadonlyArray<string>) => ({
    keys: [keys.places, keys.values],
    args: [valued ? 1 : 0, ...members]
  }),
  result: (reply): Either.Either<ReadonlyArray<Known | undefined>, string> => {
    const expected = Either.left("a list of positions and one of values")
    const [positions, values] = Array.isArray(reply) ? reply : []
    if (!Array.isArray(positions) || !Array.isArray(values)) return expected
    const known: Array<Known | undefined> = []
    for (const [i, position] of positions.entries()) {
      const value = values[i]
      if (isCoordinates(position)) {
        known.push({
          longitude: Number(position[0]),
          latitude: Number(position[1]),
          value: typeof value === "string" ? value : undefined
        })
      } else if (position === null) known.push(undefined)
      else return expected
    }
    return Either.right(known)
  },
  idempotent: true
})

/** What `GEODIST` returns. */
export const distanceOf = (reply: Reply): Either.Either<number | undefined, string> =>
  reply === null
    ? Either.right(undefined)
    : typeof reply === "string" && reply !== "" && Number.isFinite(Number(reply))
    ? Either.right(Number(reply))
    : Either.left("a distance")

/**
 * How far two members are from each other. O(log n).
 *
 * KEYS places. ARGV members, unit. Returns the distance, or nothing where one is not there.
 */
export const distance = RedisScript.make({
  name: "geo.distance",
  lua: `return redis.call('GEODIST', KEYS[1], ARGV[1], ARGV[2], ARGV[3])`,
  params: (keys: Keys, from: string, to: string, unit: string) => ({ keys: [keys.places], args: [from, to, unit] }),
  result: distanceOf,
  idempotent: true
})

/** What is searched for. */
export interface Query {
  /** Of `GEOSEARCH`: where, and in which shape. */
  readonly shape: ReadonlyArray<RedisArg>
  /** Whether that begins with a member. */
  readonly around: string | undefined
  readonly order: "ASC" | "DESC"
  /** 0 for all. */
  readonly limit: number
  /** Where the last page ended, and how many there were up to there. */
  readonly after: { readonly distance: number; readonly seen: number } | undefined
  readonly valued: boolean
}

/** A place that was found. */
export interface Found extends Known {
  readonly member: string
  readonly distance: number
}

/** What `GEOSEARCH` and the script for it return, in their order. */
export const foundOf = (reply: Reply): Either.Either<ReadonlyArray<Found> | undefined, string> => {
  if (reply === null) return Either.right(undefined)
  const expected = Either.left("a list of members with distances and positions")
  if (!Array.isArray(reply)) return expected
  const found: Array<Found> = []
  for (const one of reply) {
    if (!Array.isArray(one)) return expected
    // By index, because this is what a search spends its time on.
    const member = one[0]
    const distance = one[1]
    const position = one[2]
    const value = one[3]
    if (typeof member !== "string" || typeof distance !== "string" || !isCoordinates(position)) return expected
    found.push({
      member,
      distance: Number(distance),
      longitude: Number(position[0]),
      latitude: Number(position[1]),
      value: typeof value === "string" ? value : undefined
    })
  }
  return Either.right(found)
}

/**
 * Members within a radius or a box, by distance. O(n + m log m) for m members in the shape, of n around it.
 *
 * With a limit it returns as many of those that are farther than where the last page ended (nearer, in the other order).
 * Those at exactly that distance, and at the distance of the last one, all come along, because only their names tell who
 * of them comes first; that is up to the caller.
 *
 * KEYS places, values. ARGV whether values are wanted, the member that it is around or an empty text, order, limit, the
 * distance where the last page ended or an empty text, how many there were up to there, and the rest of `GEOSEARCH`.
 * Returns what was found as `{ member, distance, { longitude, latitude }, value }`, or `false` when that member is not there.
 */
export const search = RedisScript.make({
  name: "geo.search",
  lua: `
local valued, around, order, limit = ARGV[1] == '1', ARGV[2], ARGV[3], tonumber(ARGV[4])
local after, seen = tonumber(ARGV[5]), tonumber(ARGV[6])
if around ~= '' and not redis.call('ZSCORE', KEYS[1], around) then return false end

local function find(count)
  local args = { 'GEOSEARCH', KEYS[1], unpack(ARGV, 7) }
  args[#args + 1] = order
  args[#args + 1] = 'WITHDIST'
  args[#args + 1] = 'WITHCOORD'
  if count then
    args[#args + 1] = 'COUNT'
    args[#args + 1] = count
  end
  return redis.call(unpack(args))
end

-- The first that is not before the end of the last page.
local function first_of(all)
  if not after then return 1 end
  for i = 1, #all do
    local distance = tonumber(all[i][2])
    if order == 'ASC' and distance >= after or order == 'DESC' and distance <= after then return i end
  end
  return #all + 1
end

local function ends(all, count)
  local first = first_of(all)
  local last = first - 1 + limit
  for i = first, #all do
    if not after or tonumber(all[i][2]) ~= after then break end
    last = last + 1
  end
  while last > 0 and all[last + 1] and all[last + 1][2] == all[last][2] do last = last + 1 end
  -- There may be more at the distance of the last one.
  if last >= #all and #all == count then return end
  return first, math.min(last, #all)
end

local all, first, last
if limit == 0 then
  all = find()
  first, last = 1, #all
else
  local count = seen + limit + 1
  repeat
    all = find(count)
    first, last = ends(all, count)
    count = count * 2
  until first
end
local found, members = {}, {}
for i = first, last do
  found[#found + 1] = all[i]
  members[#members + 1] = all[i][1]
end
if valued then
  for from = 1, #members, 1000 do
    local values = redis.call('HMGET', KEYS[2], unpack(members, from, math.min(from + 999, #members)))
    for i, value in ipairs(values) do found[from - 1 + i][4] = value end
  end
end
return found`,
  params: (keys: Keys, { after, around, limit, order, shape, valued }: Query) => ({
    keys: [keys.places, keys.values],
    args: [
      valued ? 1 : 0,
      around ?? "",
      order,
      limit,
      after === undefined ? "" : String(after.distance),
      after?.seen ?? 0,
      ...shape
    ]
  }),
  result: foundOf,
  idempotent: true
})
