/**
 * Many groups, a few of which have a thousand times the jobs of the others, and workers of which some vanish with what they
 * have taken. Every claim is written down in the order in which the server made it, and that is what is judged: turns, not
 * times.
 */
import { Effect, Schema } from "effect"
import * as Queue from "../../src/Queue/index.js"
import { keysOf } from "../../src/Queue/keys.js"
import * as scripts from "../../src/Queue/scripts.js"
import { RedisClient } from "../../src/RedisClient.js"
import type { RedisError } from "../../src/RedisError.js"

export interface Options {
  readonly name: string
  readonly groups: number
  /** How many of them have `skew` jobs instead of one. */
  readonly large: number
  readonly skew: number
  /** How many jobs of a group may run at once. */
  readonly concurrency: number
  readonly workers: number
  /** After so many calls the worker that made the last one vanishes. The leases of the one before end then. */
  readonly vanish: number
}

export interface Report {
  readonly claims: number
  readonly vanished: number
  /** For how many claims of others a group that had one job has waited, at worst, after all were enqueued. */
  readonly slowest: number
  /** How many jobs of one group ran at once, at most. */
  readonly most: number
  readonly problems: ReadonlyArray<string>
}

/** Far longer than a run. */
const LEASE = 3_600_000

const Payload = Schema.Struct({ n: Schema.Number })

interface Held {
  readonly id: string
  readonly member: string
}

const groupOf = (id: string): string => id.slice(0, id.indexOf(":"))

export const run = (
  { concurrency, groups, large, name, skew, vanish, workers }: Options
): Effect.Effect<Report, Queue.PayloadTooLarge | Queue.QueueFull | RedisError, Queue.Queue | RedisClient> =>
  Effect.gen(function*() {
    const client = yield* RedisClient
    const definition = Queue.define({ name, payload: Payload, groups: { concurrency } })
    const keys = keysOf(name)
    const problems: Array<string> = []

    // The large ones come first, and the small ones behind all of them.
    const names = Array.from({ length: groups }, (_, i) => `g${i}`)
    const all = names.flatMap((group, i) =>
      Array.from({ length: i < large ? skew : 1 }, (_, n) => ({ payload: { n }, group, id: `${group}:${n}` }))
    )
    for (let i = 0; i < all.length; i += 5000) yield* Queue.enqueueAll(definition, all.slice(i, i + 5000))

    let made = 0
    const newWorker = () => {
      const id = `w${made++}`
      return {
        id,
        keys: scripts.keysForGroups(keys, `${keys.taken}:${id}`),
        calls: 0,
        held: new Array<Held>()
      }
    }
    const crew = Array.from({ length: workers }, newWorker)
    const terms: scripts.Terms = {
      cluster: client.mode === "cluster",
      wake: client.key(keys.wake),
      lease: LEASE,
      deadCount: 1000,
      deadAge: 86_400_000,
      groups: { concurrency, limit: 0, window: 0 }
    }

    /** Ids that run, as far as is known here: until they are settled, or somebody else has them. */
    const running = new Map<string, Set<string>>()
    const owner = new Map<string, string>()
    const order: Array<string> = []
    const done = new Set<string>()
    let most = 0
    let vanished = 0
    let idle = 0
    const gone = new Set<string>()

    /** Ends the leases of those who have vanished. */
    const endLeases = Effect.gen(function*() {
      const found = yield* client.zrangeWithScores(keys.leases)
      const over = found.filter(([member]) => gone.has(member.slice(0, member.indexOf(":"))))
      if (over.length > 0) {
        yield* client.zadd(keys.leases, over.map(([member, score]) => [member, score - 2 * LEASE] as const))
      }
    })

    for (let call = 1; done.size < all.length; call++) {
      const worker = crew[call % workers]!
      // All it has ends with this call, and it asks for another number of jobs each time.
      const settles = worker.held.flatMap(({ member }) => [member, "c"])
      const number = ++worker.calls
      const want = 1 + call * 7 % 19
      const { ids, lost } = yield* client.eval(
        scripts.workInGroups,
        { keys: worker.keys, call: number },
        worker.id,
        terms,
        want,
        0,
        settles
      )
      worker.held.forEach(({ id, member }, i) => {
        if (lost.includes(i)) return
        if (owner.get(id) !== member) problems.push(`${id} was settled by somebody who did not have it`)
        running.get(groupOf(id))!.delete(id)
        done.add(id)
      })
      worker.held = ids.map((id, i) => ({ id, member: `${worker.id}:${number}:${i + 1}|${id}` }))
      for (const { id, member } of worker.held) {
        const group = groupOf(id)
        if (done.has(id)) problems.push(`${id} was done before`)
        const some = running.get(group) ?? new Set()
        running.set(group, some.add(id))
        owner.set(id, member)
        most = Math.max(most, some.size)
        order.push(group)
      }
      idle = ids.length > 0 ? 0 : idle + 1
      if (call % vanish === 0 || idle > workers) yield* endLeases
      if (ids.length > 0 && call % vanish === 0) {
        gone.add(worker.id)
        crew[call % workers] = newWorker()
        vanished++
      }
      if (idle > 10 * workers) {
        problems.push(`${all.length - done.size} jobs are never taken`)
        break
      }
    }

    const first = new Map<string, number>()
    order.forEach((group, i) => {
      if (!first.has(group)) first.set(group, i)
    })
    const small = names.slice(large)
    const slowest = Math.max(...small.map((group) => first.get(group) ?? Infinity))
    if (slowest >= groups) problems.push(`a group has waited for ${slowest} claims, and there are ${groups} groups`)
    if (most > concurrency) problems.push(`${most} jobs of a group ran at once`)
    const { dead, ...left } = yield* Queue.counts(definition)
    if (dead + left.ready + left.running + left.delayed > 0) problems.push("some jobs are left")
    for (const key of [keys.groupJobs, keys.groupHeld, keys.groupRunning, keys.groupOf]) {
      if ((yield* client.exists(key)) > 0) problems.push(`${key} is left`)
    }
    return { claims: order.length, vanished, slowest, most, problems }
  })
