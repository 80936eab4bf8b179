/**
 * Operating a queue in whatever order, against a plain model: which job is where, and which one comes next.
 */
import { assert, describe, it } from "@effect/vitest"
import { Clock, Effect, FastCheck, Option, Schema, TestClock } from "effect"
import * as flowScripts from "../../src/Queue/flowScripts.js"
import * as Queue from "../../src/Queue/index.js"
import { keysOf } from "../../src/Queue/keys.js"
import { RedisClient } from "../../src/RedisClient.js"
import { makeHand, type Taken } from "./hand.js"

/** More with QUEUE_RUNS=5000. */
const RUNS = Number(process.env["QUEUE_RUNS"] ?? 30)

const LEVELS = 3

/** Few, so that they meet again. */
const id = FastCheck.constantFrom("a", "b", "a|b", "*")

type Step =
  | { readonly _tag: "add" | "addParent"; readonly id: string; readonly level: number; readonly delay: number }
  | { readonly _tag: "take"; readonly want: number }
  | {
    readonly _tag: "complete" | "release" | "bury" | "remove" | "promote" | "replay" | "endChild" | "failChild"
    readonly id: string
  }
  | { readonly _tag: "retry" | "changeDelay"; readonly id: string; readonly delay: number }
  | { readonly _tag: "changePriority"; readonly id: string; readonly level: number }
  | { readonly _tag: "drain"; readonly delayed: boolean }
  | { readonly _tag: "pause" | "resume" | "replayAll" }
  | { readonly _tag: "wait"; readonly millis: number }

const tag = <const T extends string>(...tags: ReadonlyArray<T>) => FastCheck.constantFrom(...tags)
const level = FastCheck.nat(LEVELS - 1)
const delay = FastCheck.constantFrom(0, 5, 10)

const step: FastCheck.Arbitrary<Step> = FastCheck.oneof(
  { weight: 10, arbitrary: FastCheck.record({ _tag: tag("add", "add", "addParent"), id, level, delay }) },
  { weight: 4, arbitrary: FastCheck.record({ _tag: tag("take"), want: FastCheck.integer({ min: 1, max: 3 }) }) },
  {
    weight: 14,
    arbitrary: FastCheck.record({
      _tag: tag("complete", "release", "bury", "remove", "remove", "promote", "replay", "endChild", "failChild"),
      id
    })
  },
  { weight: 4, arbitrary: FastCheck.record({ _tag: tag("retry", "changeDelay"), id, delay }) },
  { weight: 10, arbitrary: FastCheck.record({ _tag: tag("changePriority"), id, level }) },
  { weight: 1, arbitrary: FastCheck.record({ _tag: tag("drain"), delayed: FastCheck.boolean() }) },
  { weight: 2, arbitrary: FastCheck.record({ _tag: tag("pause", "resume", "resume", "replayAll") }) },
  { weight: 2, arbitrary: FastCheck.record({ _tag: tag("wait"), millis: FastCheck.constantFrom(1, 5, 10) }) }
)

/** A job of the model: where it is, since when, and what it has. */
interface Entry {
  state: Queue.JobState
  level: number
  /** Due, or dead since. */
  at: number
  /** For the order of equals. */
  seq: number
  /** Of one that waits for a child: when it is due, and what happens to it at that time. */
  blocked?: { readonly due: number; readonly child: string } | undefined
}

class Model {
  readonly jobs = new Map<string, Entry>()
  /** By level. */
  readonly ready: Array<Array<string>> = Array.from({ length: LEVELS }, () => [])
  paused = false
  private seq = 0

  list(state: Queue.JobState): Array<string> {
    if (state === "ready") return this.ready.toReversed().flat()
    const some = Array.from(this.jobs).filter(([, job]) => job.state === state)
    // Dead letters of the same instant are in the order of their ids, running ones in no order.
    return some.toSorted(([a, x], [b, y]) =>
      state === "delayed"
        ? x.at - y.at || x.seq - y.seq
        : state === "dead" || state === "blocked" || state === "completed"
        ? x.at - y.at || (a < b ? -1 : 1)
        : a < b
        ? -1
        : 1
    ).map(([id]) => id)
  }

  leave(id: string): void {
    const job = this.jobs.get(id)!
    if (job.state === "ready") {
      const list = this.ready[job.level]!
      list.splice(list.indexOf(id), 1)
    }
  }

  put(id: string, front = false): void {
    const job = this.jobs.get(id)!
    job.state = "ready"
    if (front) this.ready[job.level]!.unshift(id)
    else this.ready[job.level]!.push(id)
  }

  delay(id: string, due: number): void {
    const job = this.jobs.get(id)!
    job.state = "delayed"
    job.at = due
    job.seq = this.seq++
  }

  enter(id: string, now: number, delay: number): void {
    if (delay > 0) this.delay(id, now + delay)
    else this.put(id)
  }

  take(now: number, want: number): Array<string> {
    if (this.paused) return []
    for (const id of this.list("delayed")) if (this.jobs.get(id)!.at <= now) this.put(id)
    const ids = this.list("ready").slice(0, want)
    for (const id of ids) {
      this.leave(id)
      this.jobs.get(id)!.state = "running"
    }
    return ids
  }

  /** A parent whose child is gone dies of it again. */
  replay(id: string, now: number): void {
    const job = this.jobs.get(id)!
    if (job.blocked === undefined) this.put(id)
    else job.at = now
  }

  remove(id: string): void {
    this.leave(id)
    this.jobs.delete(id)
  }

  /** A worker looks, and removes what is too much when one was added, and what is too old. */
  trim(now: number, { age, count }: Kept, added = false): void {
    const kept = this.list("completed")
    const old = kept.filter((id) => this.jobs.get(id)!.at <= now - age)
    const surplus = added ? kept.slice(0, Math.max(0, kept.length - count)) : []
    for (const id of new Set([...old, ...surplus])) this.jobs.delete(id)
  }

  complete(id: string, now: number, kept: Kept): void {
    const job = this.jobs.get(id)!
    job.state = "completed"
    job.at = now
    this.trim(now, kept, true)
  }
}

/** How many completed jobs are kept, and how long. */
interface Kept {
  readonly count: number
  readonly age: number
}

const Payload = Schema.Struct({ n: Schema.Number })

const conforms = (steps: ReadonlyArray<Step>, kept: Kept) =>
  Effect.gen(function*() {
    const definition = Queue.define({
      name: "model",
      payload: Payload,
      priorities: LEVELS,
      completed: { count: kept.count, age: kept.age }
    })
    /** Each parent has one child there, and nobody works there but us. */
    const below = Queue.define({ name: "model of children", payload: Payload })
    const client = yield* RedisClient
    const hand = yield* makeHand(definition)
    const handBelow = yield* makeHand(below)
    let parents = 0
    const targetOf = (name: string) => ({ keys: keysOf(name), cluster: false, wake: keysOf(name).wake })
    /** Everybody has heard everything. */
    const delivered = Effect.gen(function*() {
      for (const sender of [definition.name, below.name, definition.name]) {
        let done: ReadonlyArray<string> = []
        while (true) {
          const { busy, entries } = yield* client.eval(flowScripts.readOutbox, targetOf(sender), "model", "", done)
          done = entries.map(({ stamp }) => stamp)
          if (busy > 0) yield* Effect.yieldNow()
          else if (entries.length === 0) break
          for (const entry of entries) {
            const to = targetOf(entry.queue)
            yield* client.eval(flowScripts.receive, to, sender, to.keys.control, [entry])
          }
        }
      }
    })
    const held = new Map<string, Taken>()
    const model = new Model()

    /** What it fails with, or `ok`. */
    const outcomeOf = <E extends { readonly _tag: string }, R>(effect: Effect.Effect<unknown, E, R>) =>
      Effect.match(effect, { onFailure: ({ _tag }) => _tag, onSuccess: () => "ok" })

    const refusal = (id: string, allowed: ReadonlyArray<Queue.JobState>, tag: string) => {
      const job = model.jobs.get(id)
      return job === undefined ? "JobNotFound" : allowed.includes(job.state) ? "ok" : tag
    }

    const settle = (
      id: string,
      how: (taken: Taken) => Effect.Effect<boolean, unknown>,
      then: () => void
    ) =>
      Effect.gen(function*() {
        const taken = held.get(id)
        if (taken === undefined) return
        held.delete(id)
        if (kept.count > 0) model.trim(yield* Clock.currentTimeMillis, kept)
        assert.isTrue(yield* how(taken))
        then()
      })

    const apply = (step: Step) =>
      Effect.gen(function*() {
        const now = yield* Clock.currentTimeMillis
        switch (step._tag) {
          case "add": {
            const { outcome } = yield* Queue.enqueue(definition, { n: 0 }, {
              id: step.id,
              priority: step.level,
              delay: step.delay
            })
            assert.strictEqual(outcome, model.jobs.has(step.id) ? "duplicate" : "added")
            if (outcome === "added") {
              model.jobs.set(step.id, { state: "ready", level: step.level, at: 0, seq: 0 })
              model.enter(step.id, now, step.delay)
            }
            return
          }
          case "addParent": {
            const child = `${step.id} ${parents++}`
            const { outcome } = yield* Queue.enqueueFlow(Queue.flow(definition, { n: 0 }, {
              id: step.id,
              priority: step.level,
              delay: step.delay,
              children: [Queue.child(below, { n: 0 }, { id: child })]
            }))
            assert.strictEqual(outcome, model.jobs.has(step.id) ? "duplicate" : "added")
            if (outcome === "added") {
              const blocked = { due: now + step.delay, child }
              model.jobs.set(step.id, { state: "blocked", level: step.level, at: now, seq: 0, blocked })
            }
            return
          }
          case "endChild":
          case "failChild": {
            const job = model.jobs.get(step.id)
            if (job?.state !== "blocked") return
            if (step._tag === "failChild") {
              yield* Queue.remove(below, job.blocked!.child)
              job.state = "dead"
              job.at = now
            } else {
              let taken = yield* handBelow.next
              while (taken.id !== job.blocked!.child) {
                yield* handBelow.retry(0)(taken)
                taken = yield* handBelow.next
              }
              assert.isTrue(yield* handBelow.complete(taken))
              model.enter(step.id, now, Math.max(0, job.blocked!.due - now))
              job.blocked = undefined
            }
            return
          }
          case "take": {
            const taken = yield* hand.take(step.want)
            model.trim(now, kept)
            assert.deepStrictEqual(taken.map(({ id }) => id), model.take(now, step.want))
            for (const one of taken) held.set(one.id, one)
            return
          }
          case "complete":
            return yield* settle(step.id, hand.complete, () => model.complete(step.id, now, kept))
          case "release":
            return yield* settle(step.id, hand.release, () => model.put(step.id, true))
          case "retry":
            return yield* settle(step.id, hand.retry(step.delay), () => model.enter(step.id, now, step.delay))
          case "bury":
            return yield* settle(step.id, hand.bury("exhausted", 1), () => {
              const job = model.jobs.get(step.id)!
              job.state = "dead"
              job.at = now
            })
          case "remove": {
            const expected = refusal(step.id, ["ready", "delayed", "blocked", "dead", "completed"], "JobIsRunning")
            assert.strictEqual(yield* outcomeOf(Queue.remove(definition, step.id)), expected)
            if (expected === "ok") model.remove(step.id)
            return
          }
          case "promote": {
            const expected = refusal(step.id, ["delayed"], "JobNotDelayed")
            assert.strictEqual(yield* outcomeOf(Queue.promote(definition, step.id)), expected)
            if (expected === "ok") model.put(step.id)
            return
          }
          case "changeDelay": {
            const expected = refusal(step.id, ["delayed"], "JobNotDelayed")
            const change = Queue.changeDelay(definition, step.id, { delay: step.delay })
            assert.strictEqual(yield* outcomeOf(change), expected)
            if (expected === "ok") model.delay(step.id, now + step.delay)
            return
          }
          case "changePriority": {
            const expected = refusal(step.id, ["ready", "delayed", "blocked"], "JobNotWaiting")
            assert.strictEqual(yield* outcomeOf(Queue.changePriority(definition, step.id, step.level)), expected)
            const job = model.jobs.get(step.id)
            if (expected === "ok" && job!.level !== step.level) {
              model.leave(step.id)
              job!.level = step.level
              if (job!.state === "ready") model.put(step.id)
            }
            return
          }
          case "replay": {
            const expected = refusal(step.id, ["dead"], "JobNotDead")
            assert.strictEqual(yield* outcomeOf(Queue.replay(definition, step.id)), expected)
            if (expected === "ok") model.replay(step.id, now)
            return
          }
          case "replayAll": {
            const dead = model.list("dead")
            assert.strictEqual(yield* Queue.replayWhere(definition, () => true), dead.length)
            for (const id of dead) model.replay(id, now)
            return
          }
          case "drain": {
            const gone = [
              ...model.list("ready"),
              ...(step.delayed ? [...model.list("delayed"), ...model.list("blocked")] : [])
            ]
            assert.strictEqual(yield* Queue.drain(definition, { delayed: step.delayed }), gone.length)
            for (const id of gone) model.remove(id)
            return
          }
          case "pause":
            model.paused = true
            return yield* Queue.pause(definition)
          case "resume":
            model.paused = false
            return yield* Queue.resume(definition)
          case "wait":
            return yield* TestClock.adjust(step.millis)
        }
      })

    const agrees = Effect.gen(function*() {
      const counts = { ready: 0, delayed: 0, blocked: 0, running: 0, dead: 0, completed: 0 }
      for (const state of ["ready", "delayed", "blocked", "running", "dead", "completed"] as const) {
        const { jobs, next } = yield* Queue.list(definition, state)
        const ids = jobs.map(({ id }) => id)
        const expected = model.list(state)
        assert.deepStrictEqual(state === "running" ? ids.toSorted() : ids, expected)
        assert.isTrue(Option.isNone(next))
        counts[state] = expected.length
        for (const { id, priority } of jobs) assert.strictEqual(priority, model.jobs.get(id)!.level)
      }
      assert.deepStrictEqual(yield* Queue.counts(definition), counts)
    })

    for (const step of steps) {
      yield* apply(step)
      yield* delivered
      yield* agrees
      // No child is left whose parent does not wait for it, and none is missing.
      const { jobs } = yield* Queue.list(below, "ready")
      const waiting = model.list("blocked").map((id) => model.jobs.get(id)!.blocked!.child)
      assert.deepStrictEqual(jobs.map(({ id }) => id).toSorted(), waiting.toSorted())
    }

    // To the end: nothing is left but what the model has, and then nothing at all.
    yield* Queue.resume(definition)
    model.paused = false
    yield* TestClock.adjust(10)
    for (const taken of held.values()) assert.isTrue(yield* hand.complete(taken))
    for (const id of held.keys()) model.remove(id)
    yield* Queue.cleanCompleted(definition, 0)
    const rest = yield* hand.take(1000)
    assert.deepStrictEqual(rest.map(({ id }) => id), model.take(yield* Clock.currentTimeMillis, 1000))
    for (const taken of rest) assert.isTrue(yield* hand.complete(taken))
    yield* Queue.cleanDeadLetters(definition, 0)
    yield* Queue.drain(definition)
    yield* delivered
    yield* Queue.cleanCompleted(definition, 0)
    const { all, marker, meta, stamps } = keysOf(definition.name)
    for (const key of all) {
      if (key !== meta && key !== marker && key !== stamps) assert.strictEqual(yield* client.exists(key), 0, key)
    }
  })

describe("operating a queue, whatever happens in whatever order", () => {
  it.effect.prop(
    "does what a plain model does",
    {
      steps: FastCheck.array(step, { maxLength: 60, size: "max" }),
      kept: FastCheck.record({ count: FastCheck.nat(3), age: FastCheck.constantFrom(5, 20, 1000) })
    },
    ({ kept, steps }) => Effect.provide(conforms(steps, kept), Queue.layerTest),
    { fastCheck: { numRuns: RUNS }, timeout: 60_000 + RUNS * 1000 }
  )
})
