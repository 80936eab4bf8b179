/**
 * The Lua of one node of a quorum. The keys of one name share a hash tag:
 *
 * - `quorum:{name}` holds the owner and lives as long as the lease.
 * - `quorum:{name}:fence` holds the last token that this node has granted or was told to forget, and behind it the owner
 *   that it was granted to, as long as that one may still hold it. It lives a day longer than the lease.
 *
 * Every script is the same whether it runs once or twice for the same owner, and whichever of them arrives last: a
 * release leaves its token in the fence, so that nothing that was sent before it can take the lock after it.
 */
import * as Either from "effect/Either"
import { keyOf } from "../Lock/scripts.js"
import type { Reply } from "../RedisClient.js"
import * as RedisScript from "../RedisScript.js"

/** How long the last token is remembered after everything else, in milliseconds: a day. */
const MEMORY = 86_400_000

/** The keys of a name. */
export const keysOf = (name: string): ReadonlyArray<string> => {
  const key = keyOf("quorum", name)
  return [key, `${key}:fence`]
}

/** Who asks one node for a name. */
export interface Owner {
  readonly keys: ReadonlyArray<string>
  readonly owner: string
  readonly token: number
}

const call = ({ keys, owner, token }: Owner, lease: number) => ({
  keys,
  args: [owner, String(token), String(lease), String(lease + MEMORY)]
})

const beginning = `
local lock, fence = KEYS[1], KEYS[2]
local me, token, lease, memory = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local held = redis.call('GET', lock)`

/** What clocks give until the year 2219, with room for more after it. */
const MAX_TOKEN = 2 ** 53 - 2 ** 50

/** Whether the node gives its vote, who has it, or the token that is too large for it. */
export type Answer =
  | { readonly _tag: "Granted" }
  | { readonly _tag: "Held"; readonly holder: string; readonly remaining: number }
  | { readonly _tag: "Stale"; readonly last: number }

const granted: Answer = { _tag: "Granted" }

/**
 * Takes the lock when it is free and the token is larger than all that the node has seen. O(1).
 *
 * KEYS lock, fence. ARGV owner, token, lease, memory (milliseconds). Returns 1, `[milliseconds left, holder]`, or the
 * last token as a text.
 */
export const acquire = RedisScript.make({
  name: "quorum.acquire",
  idempotent: true,
  lua: `${beginning}
if held and held ~= me then return { redis.call('PTTL', lock), held } end
if not held then
  local last = redis.call('GET', fence)
  if last then
    last = string.match(last, '^%d+')
    if tonumber(last) >= tonumber(token) then return last end
  end
  redis.call('SET', fence, token .. ' ' .. me, 'PX', memory)
end
redis.call('SET', lock, me, 'PX', lease)
return 1`,
  params: call,
  result: (reply: Reply): Either.Either<Answer, string> => {
    if (reply === 1) return Either.right(granted)
    if (Array.isArray(reply) && typeof reply[0] === "number" && typeof reply[1] === "string") {
      return Either.right({ _tag: "Held", remaining: reply[0], holder: reply[1] })
    }
    const last = typeof reply === "string" ? Number(reply) : NaN
    return Number.isSafeInteger(last) && last <= MAX_TOKEN
      ? Either.right({ _tag: "Stale", last })
      : Either.left("1, the time left and the holder, or a token")
  }
})

/**
 * Sets the time left of a lock that the owner holds. It takes it again on a node that has lost it or never had it, when
 * nobody has taken it meanwhile: the token is still the largest. O(1).
 *
 * KEYS lock, fence. ARGV owner, token, lease, memory. Returns whether the owner holds the lock.
 */
export const renew = RedisScript.make({
  name: "quorum.renew",
  idempotent: true,
  lua: `${beginning}
if held == me then
  redis.call('PEXPIRE', lock, lease)
  redis.call('PEXPIRE', fence, memory)
  return 1
end
if held then return 0 end
local last = redis.call('GET', fence)
if last and last ~= token .. ' ' .. me and tonumber(string.match(last, '^%d+')) >= tonumber(token) then return 0 end
redis.call('SET', fence, token .. ' ' .. me, 'PX', memory)
redis.call('SET', lock, me, 'PX', lease)
return 1`,
  params: call,
  result: RedisScript.boolean
})

/**
 * Frees the lock when the owner holds it, and refuses from here on whatever its owner has asked for before. O(1).
 *
 * KEYS lock, fence. ARGV owner, token, memory. Returns whether the owner held the lock.
 */
export const release = RedisScript.make({
  name: "quorum.release",
  idempotent: true,
  lua: `
local lock, fence = KEYS[1], KEYS[2]
local me, token = ARGV[1], ARGV[2]
local last = redis.call('GET', fence)
if not last or last == token .. ' ' .. me or tonumber(string.match(last, '^%d+')) < tonumber(token) then
  redis.call('SET', fence, token, 'PX', ARGV[3])
end
if redis.call('GET', lock) == me then return redis.call('DEL', lock) end
return 0`,
  params: ({ keys, owner, token }: Owner) => ({ keys, args: [owner, String(token), String(MEMORY)] }),
  result: RedisScript.boolean
})
