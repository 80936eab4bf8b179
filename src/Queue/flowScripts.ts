/**
 * The Lua of flows: adding them, telling queues what others have posted, and looking at them. What the keys hold is said in
 * `flowLua.ts`.
 */
import * as Either from "effect/Either"
import type { Reply } from "../RedisClient.js"
import * as RedisScript from "../RedisScript.js"
import { common as looking, params, type Target } from "./controlScripts.js"
import { reviving, STAMPED } from "./flowLua.js"
import * as groups from "./groupScripts.js"
import { producing, recall, received } from "./scripts.js"

/** How many entries of an outbox are read at once, and after how many bytes no more are. */
const PAGE = 100
const PAGE_BYTES = 1_000_000

/** How long whoever delivers an outbox has it, in milliseconds, without a sign of life. */
const DELIVERY = 5000

/** Several texts as one, as `packed` does it in Lua. */
export const packed = (...texts: ReadonlyArray<string>): string =>
  texts.map((text) => `${Buffer.byteLength(text)}:${text}`).join("")

/** `plant`: adds a job, and has its children told to their queues. Each of them is a text as `Node` says. */
const planting = (grouped: boolean): string => `
local function plant(id, envelope, extras, terms, token, kids, parent)${grouped ? groups.reading : ""}
  local level, due, deadline = string.match(extras, '^(%d) (%S+) (%S+)')
  due, deadline = instant(due or '-') or 0, instant(deadline or '-')
  redis.call('HSET', jobs, id, envelope)
  if level and level ~= '0' then redis.call('HSET', levels, id, level) end
  if deadline then redis.call('HSET', deadlines, id, string.format('%.0f', deadline)) end
  if parent then redis.call('HSET', flows, '<' .. id, parent) end${grouped ? groups.addingDelayed : ""}
  if #kids == 0 then return enter(id, tonumber(level or 0), due) end
  redis.call('ZADD', blocked, now, id)
  redis.call('HSET', flows, '>' .. id, string.format('%d %d 0 %.0f %s %s', #kids, #kids, due, terms, token))
  for i, kid in ipairs(kids) do
    local texts = texts_of(kid)
    redis.call('HSET', flows, i .. '|' .. id, 'o' .. texts[2] .. packed(texts[1], texts[3], ''))
    post(texts[1], packed('a', id, i, token, kid))
  end
end
`

/** A job of a flow with all that is below it. */
export interface Node {
  readonly queue: string
  readonly policy: "f" | "i" | "x"
  readonly id: string
  readonly envelope: string
  /** As `enqueue` takes them. */
  readonly extras: string
  /** How many dead letters its queue keeps, and for how many milliseconds. */
  readonly terms: string
  readonly children: ReadonlyArray<string>
}

export const nodeText = ({ children, envelope, extras, id, policy, queue, terms }: Node): string =>
  packed(queue, policy, id, envelope, extras, terms, packed(...children))

/**
 * Adds the root of a flow. O(n) with n children.
 *
 * KEYS those of the queue, and that of the producer. ARGV as those of `enqueue`, with id, envelope, extras, terms, the token
 * of the flow, and its children for the jobs. Returns as `enqueue` does.
 */
const enqueueFlowFor = (grouped: boolean) =>
  RedisScript.make({
    name: "queue.enqueueFlow",
    idempotent: true,
    lua: `${recall(grouped)}${planting(grouped)}
local limit, id = tonumber(ARGV[4]), ARGV[6]
if redis.call('HEXISTS', jobs, id) == 1 then return answer('d\\n' .. id) end
if limit > 0 and redis.call('HLEN', jobs) - redis.call('ZCARD', dead) - redis.call('ZCARD', kept) >= limit then return answer('f') end
local kids = {}
for i = 11, #ARGV do kids[#kids + 1] = ARGV[i] end
plant(id, ARGV[7], ARGV[8], ARGV[9], ARGV[10], kids)
mark()
return answer('a')`,
    params: producing,
    result: received
  })

export const enqueueFlow = enqueueFlowFor(false)

/** The same for queues with groups. */
export const enqueueFlowInGroups = enqueueFlowFor(true)

// ---------------------------------------------------------------------------------------------------------------------
// The outbox
// ---------------------------------------------------------------------------------------------------------------------

/** Something that another queue has to be told. */
export interface Entry {
  readonly stamp: string
  readonly queue: string
  readonly text: string
}

export interface Mail {
  /** For how many milliseconds somebody else delivers the outbox; 0 for nobody. */
  readonly busy: number
  readonly entries: ReadonlyArray<Entry>
}

const entryOf = (reply: Reply): Entry | undefined => {
  const [stamp, queue, text] = Array.isArray(reply) ? reply : []
  return typeof stamp === "string" && typeof queue === "string" && typeof text === "string"
    ? { stamp, queue, text }
    : undefined
}

/**
 * Removes from an outbox what was delivered, and reads what comes behind a stamp. Only one process delivers it at a time, to
 * spare the others the work: it is harmless when two do. O(n log m) with n of m entries.
 *
 * KEYS those of the queue. ARGV process, stamp or an empty text, stamps to remove. Returns for how many milliseconds somebody
 * else has it, and stamp, queue and text of each entry.
 */
export const readOutbox = RedisScript.make({
  name: "queue.readOutbox",
  lua: `${looking}
-- A full server takes what comes behind a removal.
redis.call('ZREM', outbox, '')
for i = 5, #ARGV do redis.call('ZREMRANGEBYSCORE', outbox, ARGV[i], ARGV[i]) end
if redis.call('EXISTS', outbox) == 0 then
  redis.call('HDEL', flows, '#', '@')
  return { 0, {} }
end
local holder, ends = string.match(redis.call('HGET', flows, '@') or '', '^(%S+) (%d+)$')
if holder and holder ~= ARGV[3] and tonumber(ends) > now then return { tonumber(ends) - now, {} } end
redis.call('HSET', flows, '#', '1', '@', ARGV[3] .. ' ' .. whole(now + ${DELIVERY}))
local found, size = {}, 0
for _, entry in ipairs(redis.call('ZRANGE', outbox, ARGV[4] == '' and '-inf' or '(' .. ARGV[4], '+inf', 'BYSCORE', 'LIMIT', 0, ${PAGE})) do
  found[#found + 1] = texts_of(entry)
  size = size + #entry
  if size > ${PAGE_BYTES} then break end
end
return { 0, found }`,
  params: (target: Target, process: string, after: string, delivered: ReadonlyArray<string>) =>
    params(target, process, after, ...delivered),
  result: (reply): Either.Either<Mail, string> => {
    const [busy, found] = Array.isArray(reply) ? reply : []
    const entries = Array.isArray(found) ? found.map(entryOf) : [undefined]
    return typeof busy === "number" && entries.every((entry) => entry !== undefined)
      ? Either.right({ busy, entries })
      : Either.left("a number and a list")
  },
  idempotent: true
})

/**
 * Tells a queue what another one has posted, in the order of the stamps. What it knows already it leaves out.
 *
 * - `a`, parent, number, token, node: adds a child
 * - `d`, parent, number, token, state, text: what became of a child
 * - `o`, parent, number, token: a child that was a dead letter is tried again
 * - `x`, child, parent, number, token: the parent is gone, so the child goes, too
 * - `y`, child, parent, number, token: the parent is tried again, so the child is, too
 *
 * KEYS those of the queue. ARGV sender, control channel, for each entry stamp and text. O(n log m) with n entries and their
 * children, and O(r) with r running jobs for each `x`. Returns whether there is something in its own outbox now.
 */
export const receive = RedisScript.make({
  name: "queue.receive",
  lua: `${looking}${planting(true)}${reviving}
local sender, control = ARGV[3], ARGV[4]
local first_due = redis.call('ZRANGE', delayed, 0, 0)[1]
-- A full server takes what comes behind a removal, and these jobs were taken before.
redis.call('ZREMRANGEBYSCORE', stamps, '-inf', string.format('(%.0f', micros_now - ${STAMPED} * 1000))
local last = tonumber(redis.call('ZSCORE', stamps, sender) or -1)

local function is_ours(id, parent, i, token)
  return redis.call('HGET', flows, '<' .. id) == packed(sender, parent, i, token)
end

-- Whether it still waits, or may wait again.
local function waits_for(parent, i, token)
  local record = record_of(parent)
  if record and record.token == token then return record, child_of(parent, i) end
end

local function bury(id, record)
  local failed
  for i = 1, record.children do
    local state, policy, child = child_of(id, i)
    if policy == 'f' and state ~= 'c' then
      failed = { state, child }
      break
    end
  end
  local state, child = failed[1], failed[2]
  local what = state == 'f' and 'became a dead letter' or state == 'r' and 'was removed' or 'was not added, its id is in use'
  local info = cjson.encode({
    reason = 'child-failed',
    attempts = tonumber(redis.call('HGET', failures, id) or 0),
    error = 'the child ' .. child[2] .. ' of the queue ' .. child[1] .. ' ' .. what
  })
  redis.call('HDEL', failures, id)
  redis.call('HDEL', deadlines, id)
  redis.call('ZADD', dead, now, id)
  redis.call('HSET', dead_info, id, info)
  redis.call('HINCRBY', meta, 'dead', 1)
  told(id, 'f', info)
  free(id)
  trim_dead(record.count, record.age)
end

local function settle(parent, i, token, outcome, text)
  local record, state, policy, child = waits_for(parent, i, token)
  if state ~= 'o' then return end
  record.open = record.open - 1
  if outcome ~= 'c' and policy == 'x' then
    redis.call('HDEL', flows, i .. '|' .. parent)
  else
    write_child(parent, i, outcome, policy, child[1], child[2], text)
    if outcome ~= 'c' and policy == 'f' then record.failed = record.failed + 1 end
  end
  write_record(parent, record)
  if record.open > 0 or redis.call('ZREM', blocked, parent) == 0 then return end
  if record.failed > 0 then bury(parent, record) else enter(parent, level_of(parent), record.due) end
end

local does = {
  a = function(parent, i, token, node)
    local texts = texts_of(node)
    local id = texts[3]
    if redis.call('HEXISTS', jobs, id) == 1 then return post(sender, packed('d', parent, i, token, 'u', '')) end
    flowing = true
    plant(id, texts[4], texts[5], texts[6], token, texts_of(texts[7]), packed(sender, parent, i, token))
  end,
  d = settle,
  o = function(parent, i, token)
    local record, state, policy, child = waits_for(parent, i, token)
    if not state or state == 'o' or state == 'c' then return end
    if not (redis.call('ZSCORE', blocked, parent) or redis.call('ZSCORE', dead, parent)) then return end
    record.open = record.open + 1
    if policy == 'f' then record.failed = record.failed - 1 end
    write_child(parent, i, 'o', policy, child[1], child[2], '')
    write_record(parent, record)
  end,
  x = function(id, parent, i, token)
    if not is_ours(id, parent, i, token) then return end
    -- There is nobody to be told.
    redis.call('HDEL', flows, '<' .. id)
    local state, member, ends = state_of(id)
    if state == 'running' and ends > now then
      stop(id, control)
    elseif state and state ~= 'dead' then
      discard(id, state, member)
    end
  end,
  y = function(id, parent, i, token)
    if not is_ours(id, parent, i, token) then
      post(sender, packed('d', parent, i, token, 'r', ''))
    elseif redis.call('ZSCORE', dead, id) then
      again(id)
    end
  end
}

for i = 5, #ARGV, 2 do
  local at = tonumber(ARGV[i])
  if at > last then
    last = at
    local texts = texts_of(ARGV[i + 1])
    does[texts[1]](texts[2], texts[3], texts[4], texts[5], texts[6])
  end
end
redis.call('ZADD', stamps, string.format('%.0f', last), sender)
stamped()
if fresh or redis.call('ZRANGE', delayed, 0, 0)[1] ~= first_due then mark() end
return redis.call('HEXISTS', flows, '#')`,
  params: (target: Target, sender: string, control: string, entries: ReadonlyArray<Entry>) =>
    params(target, sender, control, ...entries.flatMap(({ stamp, text }) => [stamp, text])),
  result: RedisScript.boolean,
  idempotent: true
})

// ---------------------------------------------------------------------------------------------------------------------
// Looking at flows
// ---------------------------------------------------------------------------------------------------------------------

/** A child, as its parent knows it. */
export interface Child {
  readonly state: string
  readonly policy: string
  readonly queue: string
  readonly id: string
  /** The result of one that is complete, or what is known about a dead letter: JSON, or an empty text. */
  readonly text: string
}

const childOf = (reply: Reply): Child | undefined => {
  const [state, policy, queue, id, text] = Array.isArray(reply) ? reply : []
  return typeof state === "string" && typeof policy === "string" && typeof queue === "string" &&
      typeof id === "string" && typeof text === "string"
    ? { state, policy, queue, id, text }
    : undefined
}

const childrenOf = (reply: Reply | undefined): ReadonlyArray<Child> | undefined => {
  const found = Array.isArray(reply) ? reply.map(childOf) : [undefined]
  return found.every((child) => child !== undefined) ? found : undefined
}

const listing = `
local function children_of(id, texts)
  local record = redis.call('HGET', flows, '>' .. id)
  local children = {}
  for i = 1, record and tonumber(string.match(record, '^%d+')) or 0 do
    local state, policy, child = child_of(id, i)
    if state then children[#children + 1] = { state, policy, child[1], child[2], texts and child[3] or '' } end
  end
  return children
end
`

/**
 * The children of a job, in the order in which they were given, without those that were left out because they failed. O(n)
 * with n of them.
 *
 * KEYS those of the queue. ARGV id.
 */
export const children = RedisScript.make({
  name: "queue.children",
  lua: `${looking}${listing}
return children_of(ARGV[3], true)`,
  params: (target: Target, id: string) => params(target, id),
  result: (reply): Either.Either<ReadonlyArray<Child>, string> =>
    Either.fromNullable(childrenOf(reply), () => "a list of children"),
  idempotent: true
})

/** A job of a flow, as its queue knows it. */
export interface Branch {
  /** Empty when there is no such job. */
  readonly state: string
  /** As `packed`: its parent, or an empty text. */
  readonly parent: string
  readonly token: string
  readonly children: ReadonlyArray<Child>
}

/**
 * Jobs of flows. O(n + m + r) with n of them, m children and r running jobs.
 *
 * KEYS those of the queue. ARGV ids. Returns state, parent, token and children of each.
 */
export const branches = RedisScript.make({
  name: "queue.branches",
  lua: `${looking}${listing}
local running = {}
for _, member in ipairs(redis.call('ZRANGE', leases, 0, -1)) do running[string.match(member, '|(.*)$')] = true end
local found = {}
for i = 3, #ARGV do
  local id = ARGV[i]
  local state = ''
  if redis.call('HEXISTS', jobs, id) == 1 then
    state = redis.call('ZSCORE', dead, id) and 'dead' or redis.call('ZSCORE', delayed, id) and 'delayed'
      or redis.call('ZSCORE', blocked, id) and 'blocked' or running[id] and 'running' or 'ready'
  end
  local record = redis.call('HGET', flows, '>' .. id)
  found[#found + 1] = { state, redis.call('HGET', flows, '<' .. id) or '', record and string.match(record, '(%S+)$') or '', children_of(id) }
end
return found`,
  params: (target: Target, ids: ReadonlyArray<string>) => params(target, ...ids),
  result: (reply): Either.Either<ReadonlyArray<Branch>, string> => {
    const found = Array.isArray(reply) ? reply.map(branchOf) : [undefined]
    return found.every((branch) => branch !== undefined) ? Either.right(found) : Either.left("a list of jobs")
  },
  idempotent: true
})

const branchOf = (reply: Reply): Branch | undefined => {
  const [state, parent, token, children] = Array.isArray(reply) ? reply : []
  const known = childrenOf(children)
  return typeof state === "string" && typeof parent === "string" && typeof token === "string" && known !== undefined
    ? { state, parent, token, children: known }
    : undefined
}

/**
 * Ends a job with all that is below it: a running one is cancelled, any other is removed. O(n) with n children, and as
 * `remove`.
 *
 * KEYS those of the queue. ARGV id, control channel. Returns whether there was one.
 */
export const cancelFlow = RedisScript.make({
  name: "queue.cancelFlow",
  lua: `${looking}
local id = ARGV[3]
local state, member, ends = state_of(id)
if not state then return 0 end
if state == 'running' and ends > now then stop(id, ARGV[4]) else discard(id, state, member) end
if fresh then mark() end
return 1`,
  params: (target: Target, id: string, control: string) => params(target, id, control),
  result: RedisScript.boolean
})
