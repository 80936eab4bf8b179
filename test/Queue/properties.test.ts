/**
 * Random calls of producers and workers beside a model: after each of them every key holds what the model says.
 */
import { assert, describe, it } from "@effect/vitest"
import { Clock, Context, type Duration, Effect, FastCheck, Layer, Option } from "effect"
import { keysOf } from "../../src/Queue/keys.js"
import * as scripts from "../../src/Queue/scripts.js"
import { RedisClient } from "../../src/RedisClient.js"
import { layerWith, RedisTestServer } from "../../src/RedisTestServer.js"
import { work as callOf } from "./work.js"

const keys = keysOf("model")
const LEASE = 1000
const terms = { cluster: false, wake: keys.wake, lease: LEASE, deadCount: 3, deadAge: 5000 }

type Operation =
  | { readonly op: "add"; readonly id: number; readonly level: number; readonly delay: number }
  | {
    readonly op: "claim"
    readonly worker: number
    readonly want: number
    readonly settles: ReadonlyArray<readonly [number, string]>
  }
  | { readonly op: "repeat"; readonly worker: number }
  | { readonly op: "wait"; readonly millis: number }

const operation: FastCheck.Arbitrary<Operation> = FastCheck.oneof(
  FastCheck.record({
    op: FastCheck.constant("add" as const),
    id: FastCheck.integer({ min: 0, max: 6 }),
    level: FastCheck.integer({ min: 0, max: 7 }),
    delay: FastCheck.constantFrom(0, 0, 0, 1, 500, 500, 2000)
  }),
  FastCheck.record({
    op: FastCheck.constant("claim" as const),
    worker: FastCheck.integer({ min: 0, max: 1 }),
    want: FastCheck.integer({ min: 0, max: 3 }),
    settles: FastCheck.array(
      FastCheck.tuple(
        FastCheck.nat(9),
        FastCheck.constantFrom("c", "c", "x", "p0", "p700", "r0", "r500", "d{}", "f{}")
      ),
      { maxLength: 3 }
    )
  }),
  FastCheck.record({ op: FastCheck.constant("repeat" as const), worker: FastCheck.integer({ min: 0, max: 1 }) }),
  FastCheck.record({ op: FastCheck.constant("wait" as const), millis: FastCheck.constantFrom(1, 200, 499, 1000, 5001) })
)

interface Lease {
  readonly member: string
  readonly id: string
  end: number
}

/** What the keys should hold. */
class Model {
  readonly jobs = new Map<string, string>()
  readonly ready: Array<Array<string>> = Array.from({ length: 8 }, () => [])
  readonly levels = new Map<string, number>()
  delayed: Array<{ readonly id: string; readonly due: number }> = []
  leases: Array<Lease> = []
  readonly failures = new Map<string, number>()
  dead: Array<{ readonly id: string; readonly at: number }> = []
  completed = 0
  failed = 0
  died = 0

  level(id: string) {
    return this.levels.get(id) ?? 0
  }

  enter(id: string, due: number, now: number) {
    if (due <= now) {
      this.ready[this.level(id)]!.push(id)
      return
    }
    // Behind all that are due at the same time.
    const i = this.delayed.findIndex((other) => other.due > due)
    this.delayed.splice(i < 0 ? this.delayed.length : i, 0, { id, due })
  }

  add(id: string, envelope: string, level: number, delay: number, now: number) {
    if (this.jobs.has(id)) return false
    this.jobs.set(id, envelope)
    if (level > 0) this.levels.set(id, level)
    this.enter(id, now + delay, now)
    return true
  }

  forget(id: string) {
    this.jobs.delete(id)
    this.levels.delete(id)
    this.failures.delete(id)
  }

  settle(member: string, outcome: string, now: number): boolean {
    const lease = this.leases.find((lease) => lease.member === member)
    if (lease === undefined) return false
    this.leases = this.leases.filter((other) => other !== lease)
    const { id } = lease
    const millis = Number(outcome.slice(1))
    switch (outcome[0]) {
      case "c":
        this.completed++
        this.forget(id)
        break
      case "r":
        this.failed++
        this.failures.set(id, (this.failures.get(id) ?? 0) + 1)
        this.enter(id, now + millis, now)
        break
      case "d":
      case "f":
        if (outcome[0] === "f") this.failed++
        this.died++
        this.failures.delete(id)
        this.dead.push({ id, at: now })
        this.dead.sort((a, b) => a.at - b.at || (a.id < b.id ? -1 : 1))
        break
      default:
        if (millis > 0) this.enter(id, now + millis, now)
        else this.ready[this.level(id)]!.unshift(id)
    }
    return true
  }

  trim(now: number) {
    const drop = (count: number) => {
      for (const { id } of this.dead.splice(0, count)) this.forget(id)
    }
    drop(Math.max(0, this.dead.length - terms.deadCount))
    drop(this.dead.filter(({ at }) => at <= now - terms.deadAge).length)
  }

  claim(worker: string, call: number, want: number, now: number): ReadonlyArray<string> {
    if (want === 0) return []
    const ended = this.leases
      .filter(({ end }) => end <= now)
      .sort((a, b) => a.end - b.end || (a.member < b.member ? -1 : 1))
    for (const lease of ended.reverse()) {
      this.leases = this.leases.filter((other) => other !== lease)
      this.failed++
      this.failures.set(lease.id, (this.failures.get(lease.id) ?? 0) + 1)
      this.ready[this.level(lease.id)]!.unshift(lease.id)
    }
    const due = this.delayed.filter((job) => job.due <= now)
    this.delayed = this.delayed.filter((job) => job.due > now)
    for (const { id } of due) this.ready[this.level(id)]!.push(id)
    const ids: Array<string> = []
    for (let level = 7; level >= 0; level--) ids.push(...this.ready[level]!.splice(0, want - ids.length))
    ids.forEach((id, i) => this.leases.push({ member: `${worker}:${call}:${i + 1}|${id}`, id, end: now + LEASE }))
    return ids
  }
}

/** A clock that stands still until it is told otherwise. */
class ManualClock implements Clock.Clock {
  readonly [Clock.ClockTypeId]: Clock.ClockTypeId = Clock.ClockTypeId
  now = 0
  unsafeCurrentTimeMillis() {
    return this.now
  }
  unsafeCurrentTimeNanos() {
    return BigInt(this.now) * 1_000_000n
  }
  readonly currentTimeMillis = Effect.sync(() => this.now)
  readonly currentTimeNanos = Effect.sync(() => BigInt(this.now) * 1_000_000n)
  scheduler(): Effect.Effect<Clock.ClockTypeId> {
    throw new Error("unused")
  }
  sleep(_duration: Duration.Duration) {
    return Effect.never
  }
}

/** What the keys hold, in the form of the model. */
const stored = Effect.gen(function*() {
  const server = yield* RedisTestServer
  const hash = (key: string) =>
    Effect.map(
      server.dump(key),
      (contents) => Option.isSome(contents) && contents.value._tag === "hash" ? contents.value.fields : {}
    )
  const list = (key: string) =>
    Effect.map(
      server.dump(key),
      (contents) => Option.isSome(contents) && contents.value._tag === "list" ? contents.value.elements : []
    )
  const zset = (key: string) =>
    Effect.map(
      server.dump(key),
      (contents) => Option.isSome(contents) && contents.value._tag === "zset" ? contents.value.members : []
    )
  const meta = yield* hash(keys.meta)
  return {
    jobs: yield* hash(keys.jobs),
    ready: yield* Effect.forEach(keys.ready, list),
    levels: yield* hash(keys.levels),
    delayed: (yield* zset(keys.delayed)).map(({ member, score }) => [member, Math.floor(score)]),
    leases: (yield* zset(keys.leases)).map(({ member, score }) => `${member} ${score}`).sort(),
    failures: yield* hash(keys.failures),
    dead: (yield* zset(keys.dead)).map(({ member }) => member),
    info: Object.keys(yield* hash(keys.deadInfo)).sort(),
    counters: [meta.completed, meta.failed, meta.dead].map((text) => Number(text ?? 0))
  }
})

const expected = (model: Model): Effect.Effect.Success<typeof stored> => ({
  jobs: Object.fromEntries(model.jobs),
  ready: model.ready,
  levels: Object.fromEntries(Array.from(model.levels, ([id, level]) => [id, String(level)])),
  delayed: model.delayed.map(({ due, id }) => [id, due]),
  leases: model.leases.map(({ end, member }) => `${member} ${end}`).sort(),
  failures: Object.fromEntries(Array.from(model.failures, ([id, n]) => [id, String(n)])),
  dead: model.dead.map(({ id }) => id),
  info: model.dead.map(({ id }) => id).sort(),
  counters: [model.completed, model.failed, model.died]
})

const exactlyOneState = (model: Model) => {
  const states = [
    ...model.ready.flat(),
    ...model.delayed.map(({ id }) => id),
    ...model.leases.map(({ id }) => id),
    ...model.dead.map(({ id }) => id)
  ]
  assert.deepStrictEqual(states.sort(), Array.from(model.jobs.keys()).sort())
}

const run = (operations: ReadonlyArray<Operation>) => {
  const clock = new ManualClock()
  return Effect.gen(function*() {
    const context = yield* Layer.build(layerWith())
    const client = Context.get(context, RedisClient)
    const model = new Model()
    const members: Array<string> = []
    const last: Array<{ readonly call: () => ReturnType<typeof work>; readonly result: scripts.Claimed } | undefined> =
      []
    let calls = 0
    const work = (worker: string, call: number, want: number, settles: ReadonlyArray<string>) =>
      callOf(client, keys, worker, call, terms, want, settles)
    const add = (call: number, id: string, envelope: string, level: number, delay: number) =>
      client.eval(scripts.enqueue, { keys: scripts.keysFor(keys, `${keys.sent}:p`), call }, terms, 0, false, [
        id,
        envelope,
        scripts.extrasText({ level, due: delay === 0 ? "-" : `+${delay}`, deadline: "-", deduplication: undefined })
      ])
    for (const operation of operations) {
      const now = clock.now
      switch (operation.op) {
        case "add": {
          const call = ++calls
          const id = `j${operation.id}`
          const envelope = `{"p":${call}}`
          const added = model.add(id, envelope, operation.level, operation.delay, now)
          const reply = yield* add(call, id, envelope, operation.level, operation.delay)
          assert.strictEqual(reply.outcomes, added ? "a" : "d")
          assert.deepStrictEqual(reply.ids, added ? [] : [id])
          // The same call again is the same.
          assert.deepStrictEqual(yield* add(call, id, envelope, operation.level, operation.delay), reply)
          break
        }
        case "claim": {
          const worker = `w${operation.worker}`
          const call = ++calls
          const settles = operation.settles.flatMap(([i, outcome]) =>
            members.length === 0 ? [] : [[members[i % members.length]!, outcome] as const]
          )
          const lost: Array<number> = []
          const before = model.died
          settles.forEach(([member, outcome], i) => {
            if (!model.settle(member, outcome, now)) lost.push(i)
          })
          if (model.died > before) model.trim(now)
          const ids = model.claim(worker, call, operation.want, now)
          const send = () => work(worker, call, operation.want, settles.flat())
          const result = yield* send()
          assert.deepStrictEqual(result.lost, lost)
          assert.deepStrictEqual(result.ids, ids)
          assert.deepStrictEqual(ids.map((_, i) => result.levels[i] ?? 0), ids.map((id) => model.level(id)))
          assert.deepStrictEqual(result.envelopes, ids.map((id) => model.jobs.get(id)!))
          ids.forEach((id, i) => {
            assert.strictEqual(Number(result.failures[i] ?? 0), model.failures.get(id) ?? 0)
            members.push(`${worker}:${call}:${i + 1}|${id}`)
          })
          last[operation.worker] = { call: send, result }
          break
        }
        case "repeat": {
          const previous = last[operation.worker]
          if (previous === undefined) break
          const again = yield* previous.call()
          assert.deepStrictEqual(again.ids, previous.result.ids)
          assert.deepStrictEqual(again.lost, previous.result.lost)
          break
        }
        case "wait":
          clock.now += operation.millis
      }
      exactlyOneState(model)
      assert.deepStrictEqual(yield* Effect.provide(stored, context), expected(model))
    }
  }).pipe(Effect.scoped, Effect.withClock(clock))
}

const runs = Number(process.env.QUEUE_RUNS ?? 40)

describe("queues beside a model", () => {
  it.live(`${runs} random sequences`, () =>
    Effect.promise(() =>
      FastCheck.assert(
        FastCheck.asyncProperty(
          FastCheck.array(operation, { minLength: 5, maxLength: 40, size: "max" }),
          (operations) => Effect.runPromise(run(operations))
        ),
        { numRuns: runs }
      )
    ), { timeout: 60_000 })
})
