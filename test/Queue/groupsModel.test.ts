/**
 * Queues with groups, whatever happens in whatever order, against a plain model: one ring, one job at a time.
 */
import { assert, describe, it } from "@effect/vitest"
import { Clock, Effect, FastCheck, Option, Schema, TestClock } from "effect"
import * as Queue from "../../src/Queue/index.js"
import { keysOf } from "../../src/Queue/keys.js"
import { RedisClient } from "../../src/RedisClient.js"
import { makeHand, type Taken } from "./hand.js"

/** More with QUEUE_RUNS=5000. */
const RUNS = Number(process.env["QUEUE_RUNS"] ?? 12)

const LEVELS = 3
const LEASE = 1000

/** Few, so that they meet again. */
const IDS = [..."abcdefghijkl", "m|n", "*"]
const GROUPS = ["x", "x\u0001", "é"]

/** Concurrency, or limit and window of the rate; 0 is none. */
interface Limits {
  readonly concurrency: number
  readonly limit: number
  readonly window: number
}

type Step =
  | {
    readonly _tag: "add"
    readonly ids: ReadonlyArray<string>
    readonly group: string | undefined
    readonly level: number
    readonly delay: number
  }
  | { readonly _tag: "take"; readonly want: number }
  | { readonly _tag: "complete" | "release" | "bury" | "remove" | "promote" | "replay"; readonly id: string }
  | { readonly _tag: "retry"; readonly id: string; readonly delay: number }
  | { readonly _tag: "changePriority"; readonly id: string; readonly level: number }
  | { readonly _tag: "drain"; readonly delayed: boolean }
  | { readonly _tag: "pause" | "resume"; readonly group: string }
  | { readonly _tag: "limits"; readonly group: string; readonly limits: Limits | undefined }
  | { readonly _tag: "wait"; readonly millis: number }

const tag = <const T extends string>(...tags: ReadonlyArray<T>) => FastCheck.constantFrom(...tags)
const id = FastCheck.constantFrom(...IDS)
const group = FastCheck.constantFrom(...GROUPS)
const level = FastCheck.nat(LEVELS - 1)
const delay = FastCheck.constantFrom(0, 0, 5, 10)

const limits: FastCheck.Arbitrary<Limits> = FastCheck.record({
  concurrency: FastCheck.constantFrom(0, 0, 0, 1, 2),
  limit: FastCheck.constantFrom(0, 0, 0, 1, 2),
  window: FastCheck.constantFrom(5, 10)
}).map(({ concurrency, limit, window }) => ({ concurrency, limit, window: limit === 0 ? 0 : window }))

const step: FastCheck.Arbitrary<Step> = FastCheck.oneof(
  {
    weight: 12,
    arbitrary: FastCheck.record({
      _tag: tag("add"),
      ids: FastCheck.uniqueArray(id, { minLength: 1, maxLength: 8 }),
      group: FastCheck.option(group, { nil: undefined, freq: 4 }),
      level,
      delay
    })
  },
  { weight: 10, arbitrary: FastCheck.record({ _tag: tag("take"), want: FastCheck.integer({ min: 1, max: 6 }) }) },
  {
    weight: 16,
    arbitrary: FastCheck.record({
      _tag: tag("complete", "complete", "release", "bury", "remove", "promote", "replay"),
      id
    })
  },
  { weight: 3, arbitrary: FastCheck.record({ _tag: tag("retry"), id, delay }) },
  { weight: 4, arbitrary: FastCheck.record({ _tag: tag("changePriority"), id, level }) },
  { weight: 1, arbitrary: FastCheck.record({ _tag: tag("drain"), delayed: FastCheck.boolean() }) },
  { weight: 3, arbitrary: FastCheck.record({ _tag: tag("pause", "resume", "resume"), group }) },
  {
    weight: 3,
    arbitrary: FastCheck.record({ _tag: tag("limits"), group, limits: FastCheck.option(limits, { nil: undefined }) })
  },
  { weight: 6, arbitrary: FastCheck.record({ _tag: tag("wait"), millis: FastCheck.constantFrom(1, 4, 5, 10, LEASE) }) }
)

interface Entry {
  state: Queue.JobState
  readonly group: string
  level: number
  /** For the order of equals. */
  order: number
  /** Due, dead since, or the end of the lease. */
  at: number
  member: string
}

const byBytes = (a: string, b: string) => Buffer.compare(Buffer.from(a), Buffer.from(b))

class Model {
  readonly jobs = new Map<string, Entry>()
  readonly ring: Array<string> = []
  readonly held = new Set<string>()
  readonly later = new Map<string, number>()
  readonly starts = new Map<string, Array<number>>()
  /** When the starts of a group do not count any more. */
  readonly quiet = new Map<string, number>()
  readonly own = new Map<string, Limits>()
  readonly paused = new Set<string>()
  private order = 0

  constructor(readonly defaults: Limits) {}

  some(state: Queue.JobState, group?: string): Array<[string, Entry]> {
    return Array.from(this.jobs).filter(([, job]) =>
      job.state === state && (group === undefined || job.group === group)
    )
  }

  ready(group: string): Array<string> {
    return this.some("ready", group).toSorted(([, a], [, b]) => b.level - a.level || a.order - b.order).map(([id]) =>
      id
    )
  }

  list(state: Queue.JobState): Array<string> {
    if (state === "ready") return ["", ...GROUPS.toSorted(byBytes)].flatMap((group) => this.ready(group))
    return this.some(state).toSorted(([a, x], [b, y]) =>
      x.at - y.at ||
      (state === "delayed" ? x.order - y.order : state === "dead" ? byBytes(a, b) : byBytes(x.member, y.member))
    ).map(([id]) => id)
  }

  turn(group: string): void {
    if (!this.ring.includes(group)) this.ring.push(group)
  }

  put(id: string, front = false): void {
    const job = this.jobs.get(id)!
    job.state = "ready"
    job.order = front ? -++this.order : ++this.order
    if (job.group !== "" && !this.held.has(job.group) && !this.later.has(job.group)) this.turn(job.group)
  }

  enter(id: string, now: number, delay: number): void {
    if (delay === 0) return this.put(id)
    const job = this.jobs.get(id)!
    job.state = "delayed"
    job.at = now + delay
    job.order = ++this.order
  }

  /** A job does not run any more. */
  freed({ group }: Entry): void {
    if (this.held.delete(group)) this.turn(group)
  }

  remove(id: string): void {
    const { group, state } = this.jobs.get(id)!
    this.jobs.delete(id)
    if (state === "ready" && group !== "" && this.ready(group).length === 0) this.forgetTurn(group)
  }

  forgetTurn(group: string): void {
    if (this.ring.includes(group)) this.ring.splice(this.ring.indexOf(group), 1)
    this.held.delete(group)
    this.later.delete(group)
  }

  drain(delayed: boolean): number {
    const gone = [...this.list("ready"), ...(delayed ? this.list("delayed") : [])]
    for (const id of gone) this.jobs.delete(id)
    this.ring.length = 0
    this.held.clear()
    this.later.clear()
    return gone.length
  }

  configured(group: string): void {
    this.held.delete(group)
    this.later.delete(group)
    if (this.ready(group).length > 0) this.turn(group)
  }

  /** Whether one more may start. If not the group is where it is called from. */
  admits(group: string, now: number): boolean {
    if (this.ready(group).length === 0) return false
    if (group === "") return true
    const { concurrency, limit, window } = this.own.get(group) ?? this.defaults
    if (this.paused.has(group) || concurrency > 0 && this.some("running", group).length >= concurrency) {
      this.held.add(group)
      return false
    }
    if (limit > 0) {
      const starts = (this.starts.get(group) ?? []).filter((start) => start > now - window)
      this.starts.set(group, starts)
      if (starts.length >= limit) {
        this.later.set(group, starts[starts.length - limit]! + window)
        return false
      }
    }
    return true
  }

  take(now: number, want: number): Array<string> {
    for (const id of this.list("running").filter((id) => this.jobs.get(id)!.at <= now).reverse()) {
      this.freed(this.jobs.get(id)!)
      this.put(id, true)
    }
    for (const id of this.list("delayed")) if (this.jobs.get(id)!.at <= now) this.put(id)
    for (const [group, until] of this.quiet) if (until <= now) this.starts.delete(group)
    const due = Array.from(this.later).filter(([, at]) => at <= now)
    for (const [group] of due.toSorted(([a, x], [b, y]) => x - y || byBytes(a, b))) {
      this.later.delete(group)
      this.turn(group)
    }
    if (this.ready("").length > 0) this.turn("")
    const taken: Array<string> = []
    while (taken.length < want) {
      const group = this.ring.shift()
      if (group === undefined) break
      if (!this.admits(group, now)) continue
      const id = this.ready(group)[0]!
      this.jobs.get(id)!.state = "running"
      taken.push(id)
      const { limit, window } = this.own.get(group) ?? this.defaults
      if (group !== "" && limit > 0) {
        this.starts.set(group, [...(this.starts.get(group) ?? []), now])
        this.quiet.set(group, now + window)
      }
      if (this.admits(group, now)) this.turn(group)
    }
    return taken
  }
}

const Payload = Schema.Struct({ n: Schema.Number })

const conforms = (defaults: Limits, steps: ReadonlyArray<Step>) =>
  Effect.gen(function*() {
    const definition = Queue.define({
      name: "model",
      payload: Payload,
      priorities: LEVELS,
      groups: {
        concurrency: defaults.concurrency === 0 ? undefined : defaults.concurrency,
        rate: defaults.limit === 0 ? undefined : defaults
      }
    })
    const client = yield* RedisClient
    const keys = keysOf(definition.name)
    const hand = yield* makeHand(definition, LEASE)
    const held = new Map<string, Taken>()
    const model = new Model(defaults)

    /** What it fails with, or `ok`. */
    const outcomeOf = <E extends { readonly _tag: string }, R>(effect: Effect.Effect<unknown, E, R>) =>
      Effect.match(effect, { onFailure: ({ _tag }) => _tag, onSuccess: () => "ok" })

    const refusal = (id: string, allowed: ReadonlyArray<Queue.JobState>, tag: string, now: number) => {
      const job = model.jobs.get(id)
      if (job === undefined) return "JobNotFound"
      return allowed.includes(job.state) || tag === "JobIsRunning" && job.at <= now ? "ok" : tag
    }

    const settle = (
      id: string,
      how: (taken: Taken) => Effect.Effect<boolean, unknown>,
      then: (job: Entry) => void
    ) =>
      Effect.gen(function*() {
        const taken = held.get(id)
        if (taken === undefined) return
        held.delete(id)
        const job = model.jobs.get(id)
        const owned = job?.state === "running" && job.member === taken.member
        assert.strictEqual(yield* how(taken), owned)
        if (job === undefined || !owned) return
        model.freed(job)
        then(job)
      })

    const take = (want: number) =>
      Effect.gen(function*() {
        const now = yield* Clock.currentTimeMillis
        const { next, taken } = yield* hand.ask(want)
        assert.deepStrictEqual(taken.map(({ id }) => id), model.take(now, want))
        for (const one of taken) {
          held.set(one.id, one)
          const job = model.jobs.get(one.id)!
          job.member = one.member
          job.at = now + LEASE
        }
        if (taken.length < want) {
          const known = [
            ...model.later.values(),
            ...[...model.some("delayed"), ...model.some("running")].map(([, { at }]) => at)
          ]
          assert.strictEqual(next, known.length === 0 ? -1 : Math.min(...known) - now)
        }
        return taken.length
      })

    const apply = (step: Step) =>
      Effect.gen(function*() {
        const now = yield* Clock.currentTimeMillis
        switch (step._tag) {
          case "add": {
            const { delay, group, level, ids } = step
            const outcomes = yield* Queue.enqueueAll(
              definition,
              ids.map((id) => ({ payload: { n: 0 }, id, group, delay, priority: level }))
            )
            ids.forEach((id, i) => {
              assert.strictEqual(outcomes[i]?.outcome, model.jobs.has(id) ? "duplicate" : "added")
              if (model.jobs.has(id)) return
              model.jobs.set(id, { state: "ready", group: group ?? "", level, order: 0, at: 0, member: "" })
              model.enter(id, now, delay)
            })
            return
          }
          case "take":
            return void (yield* take(step.want))
          case "complete":
            return yield* settle(step.id, hand.complete, () => model.remove(step.id))
          case "release":
            return yield* settle(step.id, hand.release, () => model.put(step.id, true))
          case "retry":
            return yield* settle(step.id, hand.retry(step.delay), () => model.enter(step.id, now, step.delay))
          case "bury":
            return yield* settle(step.id, hand.bury("exhausted", 1), (job) => {
              job.state = "dead"
              job.at = now
            })
          case "remove": {
            const expected = refusal(step.id, ["ready", "delayed", "dead"], "JobIsRunning", now)
            assert.strictEqual(yield* outcomeOf(Queue.remove(definition, step.id)), expected)
            if (expected !== "ok") return
            const job = model.jobs.get(step.id)!
            if (job.state === "running") model.freed(job)
            return model.remove(step.id)
          }
          case "promote": {
            const expected = refusal(step.id, ["delayed"], "JobNotDelayed", now)
            assert.strictEqual(yield* outcomeOf(Queue.promote(definition, step.id)), expected)
            if (expected === "ok") model.put(step.id)
            return
          }
          case "changePriority": {
            const expected = refusal(step.id, ["ready", "delayed"], "JobNotWaiting", now)
            assert.strictEqual(yield* outcomeOf(Queue.changePriority(definition, step.id, step.level)), expected)
            const job = model.jobs.get(step.id)
            if (expected !== "ok" || job!.level === step.level) return
            job!.level = step.level
            if (job!.state === "ready") model.put(step.id)
            return
          }
          case "replay": {
            const expected = refusal(step.id, ["dead"], "JobNotDead", now)
            assert.strictEqual(yield* outcomeOf(Queue.replay(definition, step.id)), expected)
            if (expected === "ok") model.put(step.id)
            return
          }
          case "drain":
            assert.strictEqual(
              yield* Queue.drain(definition, { delayed: step.delayed }),
              model.list("ready").length + (step.delayed ? model.list("delayed").length : 0)
            )
            return void model.drain(step.delayed)
          case "pause":
            yield* Queue.pauseGroup(definition, step.group)
            model.paused.add(step.group)
            return model.configured(step.group)
          case "resume":
            yield* Queue.resumeGroup(definition, step.group)
            model.paused.delete(step.group)
            return model.configured(step.group)
          case "limits": {
            const { group, limits } = step
            yield* Queue.setGroupLimits(
              definition,
              group,
              limits === undefined ? {} : {
                concurrency: limits.concurrency === 0 ? "unlimited" : limits.concurrency,
                rate: limits.limit === 0 ? "unlimited" : limits
              }
            )
            if (limits === undefined) model.own.delete(group)
            else model.own.set(group, limits)
            return model.configured(group)
          }
          case "wait":
            return yield* TestClock.adjust(step.millis)
        }
      })

    const agrees = Effect.gen(function*() {
      const { jobs } = yield* Queue.list(definition, "ready")
      assert.deepStrictEqual(jobs.map(({ id }) => id), model.list("ready"))
      for (const { group, id } of jobs) {
        assert.strictEqual(Option.getOrElse(group, () => ""), model.jobs.get(id)!.group)
      }
      const count = (state: Queue.JobState) => model.some(state).length
      assert.deepStrictEqual(yield* Queue.counts(definition), {
        ready: count("ready"),
        delayed: count("delayed"),
        blocked: 0,
        running: count("running"),
        dead: count("dead"),
        completed: 0
      })
      const { groups } = yield* Queue.groups(definition)
      const waiting = (group: string) => model.ready(group).length
      const running = (group: string) => model.some("running", group).length
      assert.deepStrictEqual(
        groups.map(({ group, running, waiting }) => ({ group, waiting, running })),
        GROUPS.toSorted(byBytes).map((group) => ({ group, waiting: waiting(group), running: running(group) }))
          .filter(({ running, waiting }) => waiting + running > 0)
      )
      for (const { admittedAt, group, turn, waiting } of groups) {
        const paused = model.paused.has(group)
        const place = model.ring.indexOf(group)
        assert.strictEqual(Option.getOrElse(turn, () => -1), paused || waiting === 0 ? -1 : place, group)
        assert.strictEqual(
          Option.match(admittedAt, { onNone: () => -1, onSome: ({ epochMillis }) => epochMillis }),
          paused ? -1 : model.later.get(group) ?? -1
        )
      }
    })

    for (const step of steps) {
      yield* apply(step)
      yield* agrees
    }

    // To the end: everything has its turn, and nothing is left.
    for (const group of GROUPS) {
      yield* Queue.resumeGroup(definition, group)
      model.paused.delete(group)
      model.configured(group)
    }
    for (let i = 0; model.some("ready").length + model.some("delayed").length + held.size > 0; i++) {
      assert.isBelow(i, 200)
      for (const id of held.keys()) yield* apply({ _tag: "complete", id })
      if ((yield* take(3)) === 0) yield* TestClock.adjust(1)
    }
    yield* Queue.cleanDeadLetters(definition, 0)
    yield* TestClock.adjust(20)
    const { all, groupLimits, marker, meta } = keys
    for (const key of all) {
      if (key !== meta && key !== marker && key !== groupLimits) assert.strictEqual(yield* client.exists(key), 0, key)
    }
  })

describe("queues with groups, whatever happens in whatever order", () => {
  it.effect.prop(
    "take turns as a plain model does",
    { defaults: limits, steps: FastCheck.array(step, { minLength: 20, maxLength: 80, size: "max" }) },
    ({ defaults, steps }) => Effect.provide(conforms(defaults, steps), Queue.layerTest),
    { fastCheck: { numRuns: RUNS }, timeout: 60_000 + RUNS * 1000 }
  )
})
