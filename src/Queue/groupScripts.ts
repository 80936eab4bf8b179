/**
 * The Lua of groups: parts of the scripts in `scripts.ts` and `controlScripts.ts`, for queues that have groups. The keys
 * are described in `keys.ts`.
 *
 * Groups whose turn comes stand in a ring. A claim takes the first group, one job of it, and puts the group at the end
 * again; one that comes, or comes back, stands at the end, too. So each group waits for one job of each of the others at
 * most. A group with ready jobs that is not in the ring is *held*, until one of its jobs has ended or its pause has, or it
 * is to come *later*, when its rate admits the next job. What is in the ring may turn out to have nothing to do: the claim
 * looks.
 *
 * Jobs without a group stay in the lists of the queue, and are one more group, with the empty text as its name.
 */
import { groupNames, LEVELS } from "./keys.js"

/** A place that is none: of a job that was never ready. */
export const NO_PLACE = `'${"0".repeat(17)}'`

/** Half of what 16 digits hold: places at the end count up from there, and places at the front count down. */
const MIDDLE = "5000000000000000"

/** How many groups a claim looks at that turn out to have nothing to do, and how many jobs of a group it reads at once. */
const LOOKED_AT = 2000
const PORTION = 100

/**
 * What scripts that move jobs know of groups. `before` is how many keys there are before those of the groups.
 *
 * - `group_name(id)`
 * - `call_group(group)`: gives it a place in the ring, unless it has one, is held, or comes later
 * - `put_in_group(group, id, level, front)`
 * - `leave_group(id, text)`: takes a ready job out of its group, and tells whether it had one. Of one that is gone the text
 *   in `group_of` is given
 * - `release(member, id)`: a job of a group does not run any more
 */
export const moving = (before: number): string =>
  `${groupNames(before)}
local function group_name(id)
  local text = redis.call('HGET', group_of, id)
  return text and string.sub(text, 18)
end

local function span(group)
  return '[' .. group .. '\\0', '(' .. group .. '\\1'
end

local last_turn
local function turn(group)
  if not last_turn then last_turn = tonumber(redis.call('ZRANGE', group_turns, -1, -1, 'WITHSCORES')[2] or 0) end
  last_turn = last_turn + 1
  redis.call('ZADD', group_turns, 'NX', last_turn, group)
end

local function call_group(group)
  if redis.call('SISMEMBER', group_held, group) == 0 and not redis.call('ZSCORE', group_later, group) then
    turn(group)
    fresh = true
  end
end

local function place_of(level, n)
  return (${LEVELS - 1} - level) .. string.format('%016.0f', ${MIDDLE} + n)
end

local function put_in_group(group, id, level, front)
  local n = redis.call('HINCRBY', meta, front and 'groupFront' or 'groupBack', front and -1 or 1)
  local place = place_of(level, n)
  redis.call('HSET', group_of, id, place .. group)
  redis.call('ZADD', group_jobs, 0, group .. '\\0' .. place .. id)
  call_group(group)
end

local function leave_group(id, text)
  text = text or redis.call('HGET', group_of, id)
  if not text then return false end
  local group = string.sub(text, 18)
  redis.call('ZREM', group_jobs, group .. '\\0' .. string.sub(text, 1, 17) .. id)
  local first, last = span(group)
  if #redis.call('ZRANGEBYLEX', group_jobs, first, last, 'LIMIT', 0, 1) == 0 then
    redis.call('ZREM', group_turns, group)
    redis.call('ZREM', group_later, group)
    redis.call('SREM', group_held, group)
  end
  return true
end

local function release(member, id)
  local group = group_name(id)
  if not group then return end
  redis.call('ZREM', group_running, group .. '\\0' .. member)
  if redis.call('SREM', group_held, group) == 1 then
    turn(group)
    fresh = true
  end
end
`

/** In `put`: jobs of groups are ready elsewhere. */
export const putting = `
  local group = group_name(id)
  if group then return put_in_group(group, id, level, front) end`

/** In `free`, after the follower is a job: its group stands behind its envelope, which has no NUL. */
export const following = `
      local bare, group = string.match(envelope, '^([^%z]*)%z(.*)$')
      if group then
        redis.call('HSET', jobs, other, bare)
        redis.call('HSET', group_of, other, ${NO_PLACE} .. group)
      end`

/** In `forget`. */
export const forgetting = `
  redis.call('HDEL', group_of, id)`

// ---------------------------------------------------------------------------------------------------------------------
// Enqueueing
// ---------------------------------------------------------------------------------------------------------------------

/** What `enqueue` is given for a job of a group, before its other extras. */
export const groupText = (group: string | undefined): string => group === undefined ? "" : `\0${group}\0`

/** Before `add`. */
export const enqueueing = (chunk: number): string => `
local grouped = {}
local function flush()
  if #grouped == 0 then return end
  local n = redis.call('HINCRBY', meta, 'groupBack', #grouped) - #grouped
  for i = 1, #grouped, ${chunk} do
    local places, members = {}, {}
    for j = i, math.min(i + ${chunk - 1}, #grouped) do
      local id, level, group = unpack(grouped[j])
      local place = place_of(level, n + j)
      places[#places + 1] = id
      places[#places + 1] = place .. group
      members[#members + 1] = 0
      members[#members + 1] = group .. '\\0' .. place .. id
    end
    redis.call('HSET', group_of, unpack(places))
    redis.call('ZADD', group_jobs, unpack(members))
  end
  local called = {}
  for _, job in ipairs(grouped) do
    if not called[job[3]] then
      called[job[3]] = true
      call_group(job[3])
    end
  end
  grouped = {}
end

-- A job that waits gets the group of what was put into its place.
local function regroup(id, group)
  flush()
  local old = group_name(id)
  if (old or nil) == group then return end
  local is_ready = not redis.call('ZSCORE', delayed, id)
  local level = level_of(id)
  if is_ready and not leave_group(id) then redis.call('HINCRBY', removed, level .. '|' .. id, 1) end
  if group then redis.call('HSET', group_of, id, ${NO_PLACE} .. group) else redis.call('HDEL', group_of, id) end
  if is_ready then put(id, level) end
end
`

/** The group of a job, and its other extras, in \`add\`. */
export const reading = `
  local group
  if string.byte(extras) == 0 then group, extras = string.match(extras, '^%z([^%z]*)%z(.*)$') end`

/** For a job without other extras. */
export const addingPlain = `
    if group then
      grouped[#grouped + 1] = { id, 0, group }
      return 'a'
    end`

/** For one that follows another one. */
export const addingFollower = ` .. (group and '\\0' .. group or '')`

/** For one that takes the place of another one. */
export const addingInPlace = `
      regroup(other, group)`

/** For one with other extras. */
export const addingDelayed = `
    if group then redis.call('HSET', group_of, id, ${NO_PLACE} .. group) end`

export const addingReady = `
  elseif group then
    grouped[#grouped + 1] = { id, tonumber(level), group }`

// ---------------------------------------------------------------------------------------------------------------------
// Working
// ---------------------------------------------------------------------------------------------------------------------

/** The limits of all groups of a queue, as `work` is told them: what stands for none is 0. */
export interface GroupLimits {
  readonly concurrency: number
  readonly limit: number
  /** In milliseconds. */
  readonly window: number
}

export const NO_LIMITS: GroupLimits = { concurrency: 0, limit: 0, window: 0 }

/** They are the last argument, so that the places of the others do not depend on them. */
export const limitsText = ({ concurrency, limit, window }: GroupLimits): string => `${concurrency} ${limit} ${window}`

/** At the beginning of `work`. */
export const opening = `
local of_all = { string.match(table.remove(ARGV), '^(%d+) (%d+) (%d+)$') }
for i = 1, 3 do of_all[i] = tonumber(of_all[i]) end
`

/** When a job was settled, or its lease has ended. */
export const releasing = (member: string): string => `
    release(${member}, id)`

/** When the settings are known. */
export const limiting = `
local some_limits = redis.call('EXISTS', group_limits) == 1
local group_limited = some_limits or of_all[1] > 0 or of_all[2] > 0
`

/**
 * The claim. \`listed\` is Lua that takes jobs from the lists until there are \`take\`, or sets \`drained\`.
 *
 * Sets \`drained\` when the ring has nothing more.
 */
export const claiming = (listed: string, lists: string): string => `
-- What each of the jobs taken belongs to.
local group_by_n = {}
local micros_text = string.format('%016.0f', micros)

local function limits_of(group)
  local text = some_limits and redis.call('HGET', group_limits, group)
  if not text then return false, unpack(of_all) end
  local halt, own, limit, window = string.match(text, '^(%d) (%S+) (%S+) (%S+)$')
  return halt == '1', tonumber(own) or of_all[1], tonumber(limit) or of_all[2], tonumber(window) or of_all[3]
end

local function load(state)
  state.members = redis.call('ZRANGEBYLEX', group_jobs, state.after, state.last, 'LIMIT', 0, state.portion)
  state.at = 1
  state.ended = #state.members < state.portion
  if #state.members > 0 then state.after = '(' .. state.members[#state.members] end
end

local function has_more(state)
  if state.at > #state.members and not state.ended then load(state) end
  return state.at <= #state.members
end

-- The rate of the group admits no more: it comes later.
local function postpone_group(group, state)
  local first, last = span(group)
  local entry = redis.call('ZRANGEBYLEX', group_starts, first, last, 'LIMIT', state.used - state.limit, 1)[1]
  local start = tonumber(string.sub(entry, #group + 2, #group + 17))
  redis.call('ZADD', group_later, string.format('%.0f', math.ceil((start + state.window * 1000) / 1000)), group)
end

-- Whether it may go on. If not it is where it will be called from.
local function admits(group, state)
  if not has_more(state) then return false end
  if state.halt or state.running and state.running >= state.most then
    redis.call('SADD', group_held, group)
    return false
  end
  if state.used and state.used >= state.limit then
    postpone_group(group, state)
    return false
  end
  return true
end

-- What is known of a group whose turn has come.
local function look(group, portion)
  local halt, most, limit, window = limits_of(group)
  local first, last = span(group)
  local state = { halt = halt, most = most, limit = limit, window = window, portion = portion, after = first, last = last,
    members = {}, at = 1 }
  if most > 0 then
    state.running = redis.call('ZLEXCOUNT', group_running, first, last)
    if state.running >= most then
      -- A worker that knows nothing of groups may have ended a lease.
      for _, entry in ipairs(redis.call('ZRANGEBYLEX', group_running, first, last, 'LIMIT', 0, ${PORTION})) do
        if not redis.call('ZSCORE', leases, string.sub(entry, #group + 2)) then
          redis.call('ZREM', group_running, entry)
          state.running = state.running - 1
        end
      end
    end
  end
  if limit > 0 then
    local since = string.format('%016.0f', math.max(0, micros - window * 1000 + 1))
    redis.call('ZREMRANGEBYLEX', group_starts, first, '(' .. group .. '\\0' .. since)
    state.used = redis.call('ZLEXCOUNT', group_starts, first, last)
  end
  return state
end

local started_for = 0
local gone = {}
local function serve(group, state)
  local entry = state.members[state.at]
  state.at = state.at + 1
  gone[#gone + 1] = entry
  local n, id = #ids + 1, string.sub(entry, #group + 19)
  ids[n], envelopes[n], found[n] = id, false, ${LEVELS - 1} - tonumber(string.sub(entry, #group + 2, #group + 2))
  group_by_n[n] = group
  if state.running then state.running = state.running + 1 end
  if state.used then
    state.used = state.used + 1
    started_for = math.max(started_for, state.window)
    redis.call('ZADD', group_starts, 0, group .. '\\0' .. micros_text .. member(n, id))
    redis.call('ZADD', group_quiet, string.format('%.0f', now + state.window), group)
  end
end

local function from_lists(take)
  local drained = false
  ${listed}
  return not drained
end

if want > 0 then
  for _, group in ipairs(redis.call('ZRANGE', group_quiet, '-inf', now, 'BYSCORE', 'LIMIT', 0, ${PORTION})) do
    redis.call('ZREM', group_quiet, group)
    redis.call('ZREMRANGEBYLEX', group_starts, span(group))
  end
end
if take > 0 then
  local due = redis.call('ZRANGE', group_later, '-inf', now, 'BYSCORE', 'LIMIT', 0, 500)
  if #due > 0 then
    redis.call('ZREM', group_later, unpack(due))
    for _, group in ipairs(due) do turn(group) end
    fresh = true
  end
  if redis.call('EXISTS', ${lists}) > 0 then turn('') end

  -- Those whose turn comes first, and those that have had one in this call.
  local waiting, at, served = {}, 1, {}
  local states = {}
  local all, looked = false, 0
  while #ids < take and looked < ${LOOKED_AT} do
    local group = waiting[at]
    if group then
      at = at + 1
      looked = looked + 1
      if group == '' then
        local alone = all and at > #waiting and #served == 0
        if from_lists(alone and take or #ids + 1) then served[#served + 1] = '' end
      else
        local state = states[group]
        if not state then
          state = look(group, all and math.min(math.ceil((take - #ids) / #waiting) + 1, ${PORTION}) or 2)
          states[group] = state
          if admits(group, state) then serve(group, state) else state = false end
        else
          serve(group, state)
        end
        if state and admits(group, state) then served[#served + 1] = group end
      end
    elseif not all then
      local popped = redis.call('ZPOPMIN', group_turns, take - #ids)
      all = #popped / 2 < take - #ids
      waiting, at = {}, 1
      for i = 1, #popped, 2 do waiting[#waiting + 1] = popped[i] end
    elseif #served > 0 then
      waiting, at, served = served, 1, {}
    else
      drained = true
      break
    end
  end
  for i = at, #waiting do turn(waiting[i]) end
  for _, group in ipairs(served) do
    if group ~= '' or redis.call('EXISTS', ${lists}) > 0 then turn(group) end
  end
  if #gone > 0 then
    redis.call('ZREM', group_jobs, unpack(gone))
    local of_groups, places = {}, {}
    for n in pairs(group_by_n) do
      of_groups[#of_groups + 1] = ids[n]
      places[#places + 1] = n
    end
    for i, text in ipairs(redis.call('HMGET', jobs, unpack(of_groups))) do envelopes[places[i]] = text end
    -- A job without an envelope is none.
    local count, entries = #ids, {}
    local all_ids, all_envelopes, all_found = ids, envelopes, found
    ids, envelopes, found = {}, {}, {}
    for n = 1, count do
      if all_envelopes[n] then
        local i = #ids + 1
        ids[i], envelopes[i], found[i] = all_ids[n], all_envelopes[n], all_found[n]
        if group_by_n[n] then
          entries[#entries + 1] = 0
          entries[#entries + 1] = group_by_n[n] .. '\\0' .. member(i, ids[i])
        end
      else
        redis.call('HDEL', group_of, all_ids[n])
      end
    end
    if #entries > 0 then redis.call('ZADD', group_running, unpack(entries)) end
  end
  if started_for > 0 then
    for _, key in ipairs({ group_starts, group_quiet }) do
      if redis.call('PTTL', key) < started_for then redis.call('PEXPIRE', key, started_for) end
    end
  end
end
`

/** When the next call makes sense, and when it is for somebody else to make. */
export const asking = `
local soonest = want > 0 and redis.call('ZRANGE', group_later, 0, 0, 'WITHSCORES')[2]
if soonest and not paused then
  if want > taken then
    at(tonumber(soonest))
  elseif not cluster and room > taken and tonumber(soonest) < now + 5000 then
    -- This worker will be busy then.
    mark()
  end
end
if want > taken then
  -- Nobody ends what a group waits for, when a worker has ended it that knows nothing of groups.
  local held = redis.call('SRANDMEMBER', group_held)
  if held then
    redis.call('SREM', group_held, held)
    if admits(held, look(held, 1)) then
      turn(held)
      at(now)
    end
  end
end
`
