/**
 * Locks whose holders write to a store that looks at the fencing token, locks and permits that all replicas have.
 */
import { Effect, Layer, Option, Redacted, type Scope } from "effect"
import { layer as ioredis } from "../../src/IoRedis.js"
import * as Lock from "../../src/Lock/index.js"
import { RedisClient } from "../../src/RedisClient.js"
import * as RedisScript from "../../src/RedisScript.js"
import * as Semaphore from "../../src/Semaphore/index.js"
import { type Book, chance, type Load, now, readAll, type Verdict, Work } from "./work.js"

export const FENCED = "locks: a fenced store never goes back"
export const TOKENS = "locks: a later holder has a larger token"
export const ALONE = "locks on all replicas: one holder at a time"
export const PERMITS = "semaphores: never more permits out than there are"

const NAMES = ["lock-0", "lock-1", "lock-2"]
const PERMIT_COUNT = 3
const LEASE = 3000

/** Clocks of one machine are read at slightly different moments. */
const SLACK = 5

const Few = Semaphore.define({ name: "few", permits: PERMIT_COUNT })

// ---------------------------------------------------------------------------------------------------------------------
// What is protected, on the server of the book
// ---------------------------------------------------------------------------------------------------------------------

/** A read moves the fence as a write does. */
const touch = RedisScript.make({
  name: "touch",
  lua: `${Lock.fenceLua}
    if ARGV[4] == '' and not fence(KEYS[1], 'fence', ARGV[1]) then return -1 end
    local value = tonumber(redis.call('HGET', KEYS[1], 'value') or '0')
    redis.call('RPUSH', KEYS[2], cjson.encode({ tonumber(ARGV[1]), ARGV[2], tonumber(ARGV[3]), value }))
    if tonumber(ARGV[3]) >= 0 then redis.call('HSET', KEYS[1], 'value', ARGV[3] + 1) end
    return value`,
  params: (name: string, token: number, who: string, seen: number, bug: string) => ({
    keys: [`{${name}}:store`, `{${name}}:writes`],
    args: [String(token), who, seen, bug]
  }),
  result: RedisScript.number
})

/** The token, who has it, what a writer has read before (-1 for a reader), and what is stored. */
type Touch = readonly [token: number, who: string, seen: number, stored: number]

export const judgeStore = (touches: ReadonlyArray<Touch>): Omit<Verdict, "promise"> => {
  const violations: Array<string> = []
  const owners = new Map<number, string>()
  let last = 0
  for (const [token, who, seen, stored] of touches) {
    if (token < last) violations.push(`${who} came with token ${token} after ${last}`)
    if ((owners.get(token) ?? who) !== who) violations.push(`token ${token} of ${owners.get(token)} and ${who}`)
    if (seen >= 0 && seen !== stored) violations.push(`${who} had read ${seen} and wrote over ${stored}`)
    owners.set(token, who)
    last = Math.max(last, token)
  }
  return { checks: touches.length, violations }
}

interface Grant {
  readonly name: string
  readonly token: number
  readonly from: number
  readonly to: number
}

export const judgeTokens = (grants: ReadonlyArray<Grant>): Omit<Verdict, "promise"> => {
  const violations: Array<string> = []
  for (const name of new Set(grants.map((grant) => grant.name))) {
    const own = grants.filter((grant) => grant.name === name)
    const byAnswer = own.toSorted((a, b) => a.to - b.to)
    const seen = new Set<number>()
    let before = 0
    let largest = 0
    for (const { from, token } of own.toSorted((a, b) => a.from - b.from)) {
      while (before < byAnswer.length && byAnswer[before]!.to < from) {
        largest = Math.max(largest, byAnswer[before++]!.token)
      }
      if (token <= largest) violations.push(`${name} gave ${token} after ${largest}`)
      if (seen.has(token)) violations.push(`${name} gave ${token} twice`)
      seen.add(token)
    }
  }
  return { checks: grants.length, violations }
}

interface Hold {
  readonly id: string
  readonly name: string
  readonly n: number
  readonly from: number
  /** The lease is good until then at least. */
  readonly to: number
}

/** Never more than `limit` at any moment. */
export const judgeHolds = (
  holds: ReadonlyArray<Hold>,
  ends: ReadonlyMap<string, number>,
  limit: number
): Omit<Verdict, "promise"> => {
  const violations: Array<string> = []
  for (const name of new Set(holds.map((hold) => hold.name))) {
    const steps = holds.filter((hold) => hold.name === name).flatMap(({ from, id, n, to }) => {
      const end = Math.min(to, ends.get(id) ?? to) - SLACK
      return end <= from ? [] : [{ at: from, n, id }, { at: end, n: -n, id }]
    }).sort((a, b) => a.at - b.at || a.n - b.n)
    const out = new Set<string>()
    let sum = 0
    for (const { id, n } of steps) {
      sum += n
      if (n > 0) out.add(id)
      else out.delete(id)
      if (n > 0 && sum > limit) violations.push(`${name}: ${sum} of ${limit} are out, by ${[...out].join(", ")}`)
    }
  }
  return { checks: holds.length, violations }
}

// ---------------------------------------------------------------------------------------------------------------------
// The load
// ---------------------------------------------------------------------------------------------------------------------

const fenced = (name: string, who: string, store: RedisClient["Type"]) =>
  Effect.gen(function*() {
    const { ask, book, bug } = yield* Work
    const from = now()
    const held = yield* ask(
      "Lock.acquire",
      Lock.acquire(name, { lease: "1 second", waitTimeout: "4 seconds", fair: chance(0.7) }),
      4000
    )
    const token = held.fencingToken
    yield* book.note("grants", { name, token: bug() ? Math.floor(token / 1e7) : token, from, to: now() })
    yield* held.protect(Effect.gen(function*() {
      const late = bug() ? token - 1e6 : token
      const seen = yield* store.eval(touch, name, late, who, -1, late === token ? "" : "bug")
      yield* Effect.sleep(Math.random() * 40)
      if (seen >= 0) yield* store.eval(touch, name, token, who, seen, "")
    }))
  }).pipe(Effect.scoped)

type Refused = Effect.Effect.Error<ReturnType<typeof Semaphore.acquire>>

/** One that is held by lease alone, and all replicas know of it. */
const strict = Effect.gen(function*() {
  const { ask, book, bug, task } = yield* Work
  const semaphore = chance(0.5)
  const options = {
    lease: LEASE,
    renew: false,
    waitTimeout: "1 second",
    minReplicas: task.replicas,
    replicaTimeout: "500 millis"
  } as const
  const n = semaphore && chance(0.3) ? 2 : 1
  const id = `${task.name}/${now()}`
  const from = now()
  const planted = bug()
  const one = yield* ask(
    "acquire with minReplicas",
    Effect.suspend((): Effect.Effect<
      Lock.Held | Semaphore.Held,
      Refused,
      Lock.Lock | Semaphore.Semaphore | Scope.Scope
    > => semaphore ? Semaphore.acquire(Few, n, options) : Lock.acquire("strict", options)),
    2000
  ).pipe(Effect.asSome, Effect.catchAll((error) => planted ? Effect.succeedNone : Effect.fail(error)))
  const hold: Hold = { id, name: semaphore ? "few" : "strict", n: planted ? n + 2 : n, from: now(), to: from + LEASE }
  yield* book.note("holds", hold)
  yield* Effect.sleep(Math.random() * 200)
  yield* book.note("ends", [id, now()])
  if (Option.isSome(one)) yield* ask("release", one.value.release)
}).pipe(Effect.scoped)

export const load: Load = {
  run: Effect.gen(function*() {
    const { paced, task } = yield* Work
    const services = yield* Layer.build(ioredis({ url: Redacted.make(task.book) }))
    const store = yield* Effect.provide(RedisClient, services)
    let turn = 0
    for (const name of NAMES) {
      yield* Effect.forkScoped(
        paced(60, Effect.suspend(() => fenced(name, `${task.name}/${name}/${++turn}`, store)))
      )
    }
    for (let i = 0; i < 3; i++) yield* Effect.forkScoped(paced(50, strict))
  }),
  judge: (book: Book) =>
    Effect.gen(function*() {
      const stores = yield* Effect.forEach(NAMES, (name) => readAll<Touch>(book, `{${name}}:writes`))
      const parts = stores.map(judgeStore)
      const grants = yield* readAll<Grant>(book, "grants")
      const holds = yield* readAll<Hold>(book, "holds")
      const ends = new Map(yield* readAll<readonly [string, number]>(book, "ends"))
      return [
        {
          promise: FENCED,
          checks: parts.reduce((sum, { checks }) => sum + checks, 0),
          violations: parts.flatMap(({ violations }) => violations)
        },
        { promise: TOKENS, ...judgeTokens(grants) },
        { promise: ALONE, ...judgeHolds(holds.filter(({ name }) => name === "strict"), ends, 1) },
        { promise: PERMITS, ...judgeHolds(holds.filter(({ name }) => name === "few"), ends, PERMIT_COUNT) }
      ]
    })
}
