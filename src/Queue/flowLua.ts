/**
 * The Lua of flows that other scripts of a queue have in common.
 *
 * What belongs to flows stands in one hash, so that a queue without any is known by one key that is not there:
 *
 * - `>ID`: what a parent waits for, as `children open failed due deadCount deadAge token`
 * - `N|ID`: its child number N, as a letter for its state, one for its policy, and its queue, id and outcome
 * - `<ID`: the parent of a child, as its queue, its id, the number of the child and the token of the flow
 * - `#`: there is something in the outbox
 * - `@`: who delivers the outbox, and until when
 *
 * Queues are in different slots, so no script can touch two of them. What one has to tell another stands in its outbox, in the
 * order of stamps that only grow: the time in microseconds, or one more than the last. Whoever receives remembers the last
 * stamp of each sender, so what is delivered again does nothing again, however late.
 *
 * States of a child are `o` open, `c` completed, `f` a dead letter, `r` removed, and `u` not added because there was a job
 * with its id. Policies are `f` fail, `i` ignore and `x` remove.
 */

/** How long stamps are remembered, in milliseconds. Nothing is on its way for so long. */
export const STAMPED = 86_400_000

/**
 * - `in_flow()`: whether anything here belongs to a flow
 * - `packed(...)`, `texts_of(text)`: several texts as one, and back
 * - `post(queue, text)`: has it told to another queue
 * - `stamped()`: keeps the stamps for a while
 * - `parent_of(id)`: what is said about its parent
 * - `told(id, state, text)`: tells its parent what became of a job
 * - `leave_flow(id, state, text)`: the same, and takes its open children with it; then nothing here is about the job
 */
export const leaving = `
local micros_now = time[1] * 1000000 + time[2]
local flowing, stamp

local function in_flow()
  if flowing == nil then flowing = redis.call('EXISTS', flows) == 1 end
  return flowing
end

local function packed(...)
  local parts = { ... }
  for i = 1, #parts do
    local text = tostring(parts[i])
    parts[i] = #text .. ':' .. text
  end
  return table.concat(parts)
end

local function texts_of(text)
  local texts, at = {}, 1
  while at <= #text do
    local colon = string.find(text, ':', at, true)
    local size = tonumber(string.sub(text, at, colon - 1))
    texts[#texts + 1] = string.sub(text, colon + 1, colon + size)
    at = colon + size + 1
  end
  return texts
end

local function stamped()
  redis.call('PEXPIRE', stamps, '${STAMPED}')
end

local function post(queue, text)
  if not stamp then
    stamp = math.max(tonumber(redis.call('ZSCORE', stamps, '') or -1), micros_now - 1)
    redis.call('HSET', flows, '#', '1')
    flowing = true
    -- Somebody who works here delivers it.
    fresh = true
  end
  stamp = stamp + 1
  local at = string.format('%.0f', stamp)
  redis.call('ZADD', outbox, at, packed(at, queue, text))
  redis.call('ZADD', stamps, at, '')
  stamped()
end

local function parent_of(id)
  local text = redis.call('HGET', flows, '<' .. id)
  return text and texts_of(text)
end

local function told(id, state, text)
  local parent = in_flow() and parent_of(id)
  if parent then post(parent[1], packed('d', parent[2], parent[3], parent[4], state, text)) end
end

local function child_of(id, i)
  local text = redis.call('HGET', flows, i .. '|' .. id)
  if not text then return end
  return string.sub(text, 1, 1), string.sub(text, 2, 2), texts_of(string.sub(text, 3))
end

local function leave_flow(id, state, text)
  if not in_flow() then return end
  told(id, state, text)
  redis.call('HDEL', flows, '<' .. id)
  local record = redis.call('HGET', flows, '>' .. id)
  if not record then return end
  local children, token = string.match(record, '^(%d+) .* (%S+)$')
  for i = 1, tonumber(children) do
    local now_is, _, child = child_of(id, i)
    if now_is == 'o' then post(child[1], packed('x', child[2], id, i, token)) end
    redis.call('HDEL', flows, i .. '|' .. id)
  end
  redis.call('HDEL', flows, '>' .. id)
  redis.call('ZREM', blocked, id)
end
`

/**
 * - `record_of(id)`, `write_record(id, record)`: what a parent waits for
 * - `revive(id)`: for a dead letter that shall be tried again. Its parent waits for it again, and it waits for its children
 *   that made it fail, which are tried again, too. Whether there are any
 * - `again(id, all)`: makes a dead letter ready, or blocked. The attempt that ended it is taken back, or all are
 */
export const reviving = `
local function record_of(id)
  local text = redis.call('HGET', flows, '>' .. id)
  if not text then return end
  local children, open, failed, due, count, age, token = string.match(text, '^(%d+) (%d+) (%d+) (%d+) (%d+) (%d+) (%S+)$')
  return {
    children = tonumber(children), open = tonumber(open), failed = tonumber(failed), due = tonumber(due),
    count = tonumber(count), age = tonumber(age), token = token
  }
end

local function write_record(id, record)
  redis.call('HSET', flows, '>' .. id, string.format('%.0f %.0f %.0f %.0f %.0f %.0f %s',
    record.children, record.open, record.failed, record.due, record.count, record.age, record.token))
end

local function write_child(id, i, state, policy, queue, child, text)
  redis.call('HSET', flows, i .. '|' .. id, state .. policy .. packed(queue, child, text))
end

local function revive(id)
  if not in_flow() then return false end
  local parent = parent_of(id)
  if parent then post(parent[1], packed('o', parent[2], parent[3], parent[4])) end
  local record = record_of(id)
  if not record then return false end
  for i = 1, record.children do
    local state, policy, child = child_of(id, i)
    if policy == 'f' and state ~= 'o' and state ~= 'c' then
      record.open = record.open + 1
      record.failed = record.failed - 1
      write_child(id, i, 'o', policy, child[1], child[2], '')
      post(child[1], packed('y', child[2], id, i, record.token))
    end
  end
  write_record(id, record)
  if record.open == 0 then return false end
  redis.call('ZADD', blocked, now, id)
  return true
end

local function again(id, all)
  local text, attempts = redis.call('HGET', dead_info, id), 0
  if not all and text then
    local readable, info = pcall(cjson.decode, text)
    attempts = readable and type(info) == 'table' and tonumber(info.attempts) or 0
  end
  redis.call('ZREM', dead, id)
  redis.call('HDEL', dead_info, id)
  if attempts > 1 then redis.call('HSET', failures, id, attempts - 1) end
  if not revive(id) then put(id, level_of(id)) end
end
`
