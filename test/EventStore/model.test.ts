/**
 * Whatever is appended in whatever order: one after another against a plain model, and at the same time against what must
 * hold then.
 */
import { assert, describe, it } from "@effect/vitest"
import { Chunk, Effect, Either, FastCheck, Layer, Stream } from "effect"
import * as EventStore from "../../src/EventStore/index.js"
import type { RedisClient } from "../../src/RedisClient.js"
import { live } from "../kit/layers.js"
import { account, accounts, amounts, Balance, decider, deposits } from "./tools.js"

/** More with EVENT_STORE_RUNS=1000. */
const RUNS = Number(process.env["EVENT_STORE_RUNS"] ?? 20)

const TIMEOUT = 60_000 + RUNS * 1000

interface Append {
  readonly _tag: "append"
  readonly id: string
  /** Whether the expectation is the present version, one below or above it, or none. */
  readonly expected: "right" | "below" | "above" | "any" | "exists" | "no-stream"
  readonly count: number
  /** Some repeat an earlier append of the same aggregate. */
  readonly request: number
}

type Step =
  | Append
  | { readonly _tag: "load"; readonly id: string; readonly from: number; readonly limit: number }
  | { readonly _tag: "since"; readonly after: number; readonly limit: number; readonly category: boolean }

const id = FastCheck.constantFrom("ada", "bob", "cy")

const append = FastCheck.record({
  _tag: FastCheck.constant("append" as const),
  id,
  expected: FastCheck.constantFrom(
    "right" as const,
    "right" as const,
    "below" as const,
    "above" as const,
    "any" as const,
    "exists" as const,
    "no-stream" as const
  ),
  count: FastCheck.nat(4),
  request: FastCheck.nat(2)
})

const step: FastCheck.Arbitrary<Step> = FastCheck.oneof(
  { weight: 5, arbitrary: append },
  {
    weight: 1,
    arbitrary: FastCheck.record({
      _tag: FastCheck.constant("load" as const),
      id,
      from: FastCheck.integer({ min: 1, max: 12 }),
      limit: FastCheck.integer({ min: 1, max: 9 })
    })
  },
  {
    weight: 1,
    arbitrary: FastCheck.record({
      _tag: FastCheck.constant("since" as const),
      after: FastCheck.nat(20),
      limit: FastCheck.integer({ min: 1, max: 9 }),
      category: FastCheck.boolean()
    })
  }
)

interface Written {
  readonly id: string
  readonly aggregate: string
  readonly version: number
  readonly amount: number
}

/** What a store is, without Redis. */
class Model {
  readonly all: Array<Written> = []
  /** Where appends have begun that expected no number. */
  readonly remembered = new Map<string, number>()

  of(aggregate: string) {
    return this.all.filter((event) => event.aggregate === aggregate)
  }

  append(
    aggregate: string,
    expected: EventStore.ExpectedVersion,
    ids: ReadonlyArray<string>,
    amounts: ReadonlyArray<number>
  ) {
    const events = this.of(aggregate)
    const once = `${aggregate} ${ids[0]}`
    const base = expected === "no-stream"
      ? 0
      : typeof expected === "number"
      ? expected
      : this.remembered.get(once)
    const fits = typeof expected === "number" || expected === "no-stream"
      ? base === events.length
      : base === undefined && (expected === "any" || events.length > 0)
    if (!fits) {
      const there = base === undefined ? [] : events.slice(base, base + ids.length).map(({ id }) => id)
      return ids.length > 0 && there.length === ids.length && there.every((id, i) => id === ids[i])
        ? { version: base! + ids.length, duplicate: true }
        : { actual: events.length }
    }
    if (typeof expected === "string" && expected !== "no-stream" && ids.length > 0) {
      this.remembered.set(once, events.length)
    }
    for (const [i, id] of ids.entries()) {
      this.all.push({ id, aggregate, version: events.length + i + 1, amount: amounts[i]! })
    }
    return { version: events.length + ids.length, duplicate: false }
  }
}

const versionOf = ({ expected }: Append, present: number): EventStore.ExpectedVersion =>
  expected === "right"
    ? present
    : expected === "above"
    ? present + 1
    : expected === "below"
    ? Math.max(0, present - 1)
    : expected

let runs = 0

/** Categories of the aggregates, which are two. */
const aggregateOf = (id: string): EventStore.Aggregate => id === "cy" ? { type: "shop", id } : account(id)

const sequence = (steps: ReadonlyArray<Step>) =>
  Effect.gen(function*() {
    const store = yield* EventStore.open(accounts(`model-${runs++}`))
    const model = new Model()
    const positions: Array<string> = []
    let amount = 0
    for (const step of steps) {
      if (step._tag === "append") {
        const aggregate = aggregateOf(step.id)
        const expected = versionOf(step, model.of(step.id).length)
        const events = deposits(amount + 1, amount + step.count)
        const request = `r${step.request}`
        const ids = events.map((_, i) => `${request}.${i + 1}`)
        const result = yield* Effect.either(store.append(aggregate, events, { expected, id: request }))
        const predicted = model.append(step.id, expected, ids, events.map(({ amount }) => amount))
        if (Either.isRight(result)) {
          const { duplicate, position, version } = result.right
          assert.deepStrictEqual({ version, duplicate }, predicted)
          if (!duplicate && step.count > 0) {
            amount += step.count
            const { events } = yield* store.load(aggregate, { from: version - step.count + 1 })
            positions.push(...events.map(({ position }) => position))
            assert.strictEqual(positions.at(-1), position)
          }
        } else {
          assert(result.left._tag === "VersionConflict")
          assert.deepStrictEqual({ actual: result.left.actual }, predicted)
        }
      } else if (step._tag === "load") {
        const { events, version } = yield* store.load(aggregateOf(step.id), { from: step.from, limit: step.limit })
        const predicted = model.of(step.id).slice(step.from - 1, step.from - 1 + step.limit)
        assert.deepStrictEqual(
          events.map(({ id, version }) => ({ id, version })),
          predicted.map(({ id, version }) => ({ id, version }))
        )
        assert.deepStrictEqual(amounts(events), predicted.map(({ amount }) => amount))
        assert.strictEqual(version, predicted.at(-1)?.version ?? 0)
      } else {
        const from = Math.min(step.after, positions.length)
        const page = yield* store.since({
          after: positions[from - 1] ?? "0-0",
          limit: step.limit,
          category: step.category ? "account" : undefined
        })
        const behind = model.all.slice(from).filter(({ aggregate }) => !step.category || aggregate !== "cy")
        assert.deepStrictEqual(amounts(page.events), behind.slice(0, step.limit).map(({ amount }) => amount))
      }
    }
    const replayed = Chunk.toReadonlyArray(yield* Stream.runCollect(store.replay()))
    assert.deepStrictEqual(
      replayed.map(({ aggregate, data, id, version }) => ({
        id,
        aggregate: aggregate.id,
        version,
        amount: amounts([{ data } as never])[0]
      })),
      model.all
    )
    assert.deepStrictEqual(replayed.map(({ position }) => position), positions)
  })

/** Whatever happens at the same time: versions without holes, each event once, and both orders agree. */
const atOnce = (crowd: ReadonlyArray<ReadonlyArray<Append>>) =>
  Effect.gen(function*() {
    const definition = accounts(`crowd-${runs++}`, { partitions: 2 })
    const store = yield* EventStore.open(definition)
    const Account = decider(definition, { snapshot: Balance, snapshotEvery: 3, conflictRetries: 100 })
    const written = new Map<number, string>()
    let amount = 0
    yield* Effect.forEach(
      crowd,
      (appends) =>
        Effect.forEach(appends, (append) =>
          Effect.gen(function*() {
            const aggregate = account(append.id)
            if (append.expected === "no-stream") {
              const [deposit] = deposits(++amount, amount)
              yield* store.execute(Account, append.id, deposit!.amount)
              written.set(deposit!.amount, append.id)
              return
            }
            const expected = versionOf(append, yield* store.version(aggregate))
            const first = amount + 1
            amount += append.count
            const events = deposits(first, amount)
            const result = yield* Effect.either(store.append(aggregate, events, { expected }))
            if (Either.isRight(result)) { for (const { amount } of events) written.set(amount, append.id) }
            else assert.strictEqual(result.left._tag, "VersionConflict")
          }), { discard: true }),
      { concurrency: "unbounded", discard: true }
    )
    const all = Chunk.toReadonlyArray(yield* Stream.runCollect(store.replay()))
    assert.deepStrictEqual(amounts(all).toSorted((a, b) => a - b), Array.from(written.keys()).toSorted((a, b) => a - b))
    for (const id of ["ada", "bob", "cy"]) {
      const { events } = yield* store.load(account(id))
      assert.deepStrictEqual(events.map(({ version }) => version), events.map((_, i) => i + 1))
      assert.deepStrictEqual(all.filter(({ aggregate }) => aggregate.id === id), events)
      for (const amount of amounts(events)) assert.strictEqual(written.get(amount), id)
      const { state, version } = yield* store.state(Account, id)
      assert.strictEqual(version, events.length)
      assert.strictEqual(state.total, amounts(events).reduce((sum, amount) => sum + amount, 0))
    }
  })

const check = <A>(
  arbitrary: FastCheck.Arbitrary<A>,
  run: (value: A) => Effect.Effect<void, unknown, EventStore.EventStore | RedisClient>,
  runs: number
) =>
  Effect.flatMap(
    Effect.runtime<EventStore.EventStore | RedisClient>(),
    (runtime) =>
      Effect.promise(() =>
        FastCheck.assert(
          FastCheck.asyncProperty(arbitrary, (value) => Effect.runPromise(Effect.provide(run(value), runtime))),
          { numRuns: runs }
        )
      )
  )

const sequences = FastCheck.array(step, { minLength: 1, maxLength: 40, size: "max" })

const crowds = FastCheck.array(FastCheck.array(append, { maxLength: 6 }), { minLength: 2, maxLength: 6 })

describe("EventStore against a model", () => {
  for (
    const [name, layer] of [["in memory", EventStore.layerTest], [
      "live",
      Layer.provideMerge(EventStore.layer, live)
    ]] as const
  ) {
    it.live(`one after another, ${name}`, () => Effect.provide(check(sequences, sequence, RUNS), layer), TIMEOUT)
    it.live(`at the same time, ${name}`, () => Effect.provide(check(crowds, atOnce, RUNS), layer), TIMEOUT)
  }
})
