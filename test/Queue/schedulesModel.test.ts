/**
 * Random calls beside a model, while runners come and go and time passes: what was fired is what the model says. The model
 * knows slots only by looking at every second.
 */
import { assert, describe, it } from "@effect/vitest"
import { DateTime, Effect, Exit, FastCheck, Option, Schema, Scope, TestClock } from "effect"
import * as Queue from "../../src/Queue/index.js"
import { fresh } from "../kit/suites.js"

const SECOND = 1000

interface Spec {
  readonly when: { readonly every: number; readonly start: number } | { readonly seconds: number }
  readonly end: number | undefined
  readonly count: number | undefined
  readonly catchUp: Queue.CatchUp
  readonly grace: number
  readonly payload: number
}

type Operation =
  | { readonly op: "schedule"; readonly id: string; readonly spec: Spec }
  | { readonly op: "pause" | "resume" | "remove"; readonly id: string }
  | { readonly op: "runner"; readonly which: number; readonly on: boolean }
  | { readonly op: "wait"; readonly seconds: number }

const id = FastCheck.constantFrom("a", "b")

const operation: FastCheck.Arbitrary<Operation> = FastCheck.oneof(
  FastCheck.record({
    op: FastCheck.constant("schedule" as const),
    id,
    spec: FastCheck.record({
      when: FastCheck.oneof(
        FastCheck.record({
          every: FastCheck.constantFrom(5, 7, 60).map((n) => n * SECOND),
          start: FastCheck.constantFrom(0, 3, 100).map((n) => n * SECOND)
        }),
        FastCheck.record({ seconds: FastCheck.constantFrom(5, 10, 15) })
      ),
      end: FastCheck.constantFrom(undefined, undefined, undefined, 120 * SECOND, 400 * SECOND),
      count: FastCheck.constantFrom(undefined, undefined, undefined, 1, 8),
      catchUp: FastCheck.constantFrom("skip" as const, "last" as const, "all" as const),
      grace: FastCheck.constantFrom(0, 20, 1000).map((n) => n * SECOND),
      payload: FastCheck.constantFrom(1, 1, 2)
    })
  }),
  FastCheck.record({ op: FastCheck.constantFrom("pause" as const, "resume" as const, "remove" as const), id }),
  FastCheck.record({
    op: FastCheck.constant("runner" as const),
    which: FastCheck.integer({ min: 0, max: 1 }),
    on: FastCheck.boolean()
  }),
  FastCheck.record({ op: FastCheck.constant("wait" as const), seconds: FastCheck.constantFrom(1, 4, 20, 61, 200) })
)

interface State {
  spec: Spec
  paused: boolean
  /** The next slot, as far as it was looked for; `undefined` when there is none any more. */
  slot: number | undefined
  /** Slots after it count, as long as the next one was not looked for. */
  from: number | undefined
  fired: number
}

class Model {
  readonly schedules = new Map<string, State>()
  readonly fired: Array<string> = []
  now = 0
  running = 0

  isSlot({ when }: Spec, at: number): boolean {
    if ("every" in when) return at >= when.start && (at - when.start) % when.every === 0
    return at / SECOND % 60 % when.seconds === 0
  }

  after(state: State, at: number): number | undefined {
    const { count = Infinity, end = Infinity } = state.spec
    if (state.fired >= count) return undefined
    for (let slot = at + SECOND; slot <= Math.min(end, at + 1000 * SECOND); slot += SECOND) {
      if (this.isSlot(state.spec, slot)) return slot
    }
    return undefined
  }

  fire(id: string, state: State, slot: number) {
    state.fired++
    this.fired.push(`schedule:${id}:${slot} ${state.spec.payload}`)
  }

  /** What a runner does at this moment. */
  look() {
    for (const [id, state] of this.schedules) {
      if (state.paused) continue
      if (state.from !== undefined) {
        state.slot = this.after(state, state.from)
        state.from = undefined
      }
      const { catchUp, count = Infinity, end = Infinity, grace } = state.spec
      const missed: Array<number> = []
      while (state.slot !== undefined && state.slot <= this.now) {
        const { slot } = state
        if (slot > end || state.fired >= count) {
          state.slot = undefined
        } else if (this.now - slot <= grace) {
          this.fire(id, state, slot)
          state.slot = this.after(state, slot)
        } else {
          missed.push(slot)
          // Among the missed ones is the last one before the next that is not.
          state.slot = this.after(state, slot)
          const isLast = state.slot === undefined || this.now - state.slot <= grace
          if (isLast && catchUp === "last") {
            this.fire(id, state, slot)
            state.slot = this.after(state, slot)
          }
        }
      }
    }
  }

  schedule(id: string, spec: Spec) {
    const old = this.schedules.get(id)
    if (old === undefined) {
      this.schedules.set(id, { spec, paused: false, slot: undefined, from: this.now, fired: 0 })
      return
    }
    if (JSON.stringify(old.spec) === JSON.stringify(spec)) return
    const same = JSON.stringify(old.spec.when) === JSON.stringify(spec.when)
    const has = old.slot !== undefined || old.from !== undefined
    old.spec = spec
    if (old.paused || same && has) return
    old.slot = undefined
    old.from = this.now
  }
}

const optionsOf = ({ when, end, payload, ...rest }: Spec): Queue.ScheduleOptions<number> => ({
  ...rest,
  end: end === undefined ? undefined : DateTime.unsafeMake(end),
  payload,
  ...("every" in when
    ? { every: when.every, start: DateTime.unsafeMake(when.start) }
    : { cron: `*/${when.seconds} * * * * *` })
})

const run = (operations: ReadonlyArray<Operation>) =>
  Effect.gen(function*() {
    const queue = Queue.define({ name: fresh("model"), payload: Schema.Number })
    const model = new Model()
    const services = [yield* Queue.make, yield* Queue.make]
    const runners: Array<Scope.CloseableScope | undefined> = [undefined, undefined]
    const fired: Array<string> = []
    let checked = 0

    const settle = TestClock.adjust(0)
    const check = Effect.gen(function*() {
      yield* settle
      while (true) {
        const { jobs } = yield* Queue.list(queue, "ready", { limit: 1000 })
        fired.push(...jobs.map(({ id, payload }) => `${id} ${payload._tag === "Right" ? payload.right : "?"}`))
        if (jobs.length === 0) break
        yield* Effect.forEach(jobs, ({ id }) => Queue.remove(queue, id))
      }
      assert.deepStrictEqual(fired.slice(checked).toSorted(), model.fired.slice(checked).toSorted())
      checked = fired.length
      for (const [id, { fired, paused, slot, from }] of model.schedules) {
        const info = Option.getOrThrow(yield* Queue.getSchedule(queue, id))
        assert.strictEqual(info.fired, fired)
        assert.strictEqual(info.state === "paused", paused)
        if (model.running > 0 && !paused) {
          assert.isUndefined(from)
          assert.strictEqual(Option.getOrUndefined(Option.map(info.next, DateTime.toEpochMillis)), slot)
        }
      }
      assert.lengthOf((yield* Queue.listSchedules(queue)).schedules, model.schedules.size)
    })

    for (const operation of operations) {
      switch (operation.op) {
        case "schedule":
          yield* services[operation.id === "a" ? 0 : 1]!.schedule(queue, operation.id, optionsOf(operation.spec))
          model.schedule(operation.id, operation.spec)
          break
        case "pause":
        case "resume": {
          const state = model.schedules.get(operation.id)
          const exit = yield* Effect.exit(
            operation.op === "pause"
              ? Queue.pauseSchedule(queue, operation.id)
              : Queue.resumeSchedule(queue, operation.id)
          )
          assert.strictEqual(Exit.isSuccess(exit), state !== undefined)
          if (state === undefined) break
          if (operation.op === "pause") {
            state.paused = true
          } else if (state.paused) {
            state.paused = false
            state.slot = undefined
            state.from = model.now
          }
          break
        }
        case "remove":
          assert.strictEqual(
            yield* Queue.removeSchedule(queue, operation.id),
            model.schedules.delete(operation.id)
          )
          break
        case "runner": {
          const scope = runners[operation.which]
          if (operation.on && scope === undefined) {
            const made = yield* Scope.make()
            yield* Scope.extend(services[operation.which]!.makeScheduler(queue), made)
            runners[operation.which] = made
            model.running++
          } else if (!operation.on && scope !== undefined) {
            yield* Scope.close(scope, Exit.void)
            runners[operation.which] = undefined
            model.running--
          }
          break
        }
        case "wait":
          for (let second = 0; second < operation.seconds; second++) {
            model.now += SECOND
            if (model.running > 0) model.look()
          }
          yield* TestClock.adjust(operation.seconds * SECOND)
      }
      if (model.running > 0) model.look()
      yield* check
    }
    for (const scope of runners) if (scope !== undefined) yield* Scope.close(scope, Exit.void)
  }).pipe(Effect.scoped, Effect.provide(Queue.layerTest))

/** More with QUEUE_RUNS=2000. */
const RUNS = Number(process.env.QUEUE_RUNS ?? 10)

describe("schedules of queues beside a model", () => {
  it.effect.prop(
    "what was fired is what the model says",
    [FastCheck.array(operation, { minLength: 5, maxLength: 25 })],
    ([operations]) => run([{ op: "runner", which: 0, on: true }, ...operations]),
    { fastCheck: { numRuns: RUNS }, timeout: 120_000 + RUNS * 2000 }
  )
})
