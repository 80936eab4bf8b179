import { assert, describe, it } from "@effect/vitest"
import { Effect, FastCheck, Option, Schema, TestClock } from "effect"
import * as Cache from "../../src/Cache/index.js"
import { inMemory } from "../kit/processes.js"
import { quiet } from "./suite.js"

const KEYS = ["a", "b", "c"]
const TAGS = ["x", "y", "%\n"]

const who = FastCheck.integer({ min: 0, max: 2 })
const key = FastCheck.constantFrom(...KEYS)
const tags = FastCheck.subarray(TAGS)

const step = FastCheck.oneof(
  { weight: 6, arbitrary: FastCheck.record({ op: FastCheck.constant("get" as const), who, key }) },
  {
    weight: 5,
    arbitrary: FastCheck.record({
      op: FastCheck.constant("set" as const),
      who,
      key,
      tags,
      ttl: FastCheck.constantFrom(0, 30, 100, 5000)
    })
  },
  { weight: 4, arbitrary: FastCheck.record({ op: FastCheck.constant("getOrSet" as const), who, key }) },
  { weight: 3, arbitrary: FastCheck.record({ op: FastCheck.constant("setMany" as const), who, tags }) },
  { weight: 2, arbitrary: FastCheck.record({ op: FastCheck.constant("getMany" as const), who }) },
  { weight: 2, arbitrary: FastCheck.record({ op: FastCheck.constant("delete" as const), who, key }) },
  { weight: 2, arbitrary: FastCheck.record({ op: FastCheck.constant("take" as const), who, key }) },
  { weight: 3, arbitrary: FastCheck.record({ op: FastCheck.constant("invalidate" as const), who, tags }) },
  { weight: 1, arbitrary: FastCheck.record({ op: FastCheck.constant("clear" as const), who }) },
  { weight: 1, arbitrary: FastCheck.record({ op: FastCheck.constant("restart" as const), who }) },
  {
    weight: 2,
    arbitrary: FastCheck.record({ op: FastCheck.constant("pass" as const), ms: FastCheck.integer({ min: 1, max: 60 }) })
  }
)

/** Two of them have a near cache, one has none. */
const definition = (i: number, tags: ReadonlyArray<string>) =>
  Cache.define({
    name: "model",
    key: Schema.String,
    value: Schema.Number,
    ttl: "1 hour",
    tags: () => tags,
    near: i < 2 ? { capacity: 2 } : undefined
  })

/** Lets all messages arrive; each takes its own time. */
const ELAPSED = 3
const settle = Effect.repeatN(TestClock.adjust("1 millis"), ELAPSED - 1)

describe("Cache, whatever happens in whatever order", () => {
  it.effect.prop(
    "does what a plain map does, in three processes",
    { steps: FastCheck.array(step, { minLength: 10, maxLength: 40 }) },
    ({ steps }) =>
      Effect.gen(function*() {
        const model = new Map<string, { value: number; end: number; tags: ReadonlyArray<string> }>()
        const start = (i: number) =>
          Effect.flatMap(inMemory(Cache.make), ({ die, service }) =>
            Effect.map(service.open(definition(i, ["looked up"])), (cache) => ({ cache, die })))
        const processes = [yield* start(0), yield* start(1), yield* start(2)]
        let n = 0
        let now = 0
        const put = (key: string, ttl: number, tags: ReadonlyArray<string>, value: number) =>
          ttl === 0 ? model.delete(key) : model.set(key, { value, end: now + ttl, tags })
        const present = (key: string) =>
          Option.map(Option.fromNullable(model.get(key)), ({ value }) => value)

        for (const step of steps) {
          for (const [key, { end }] of model) if (end <= now) model.delete(key)
          const { cache } = processes["who" in step ? step.who : 0]!
          switch (step.op) {
            case "get":
              assert.deepStrictEqual(yield* cache.get(step.key), present(step.key))
              break
            case "getMany":
              assert.deepStrictEqual(yield* cache.getMany([...KEYS, ...KEYS]), [...KEYS, ...KEYS].map(present))
              break
            case "set": {
              const value = ++n
              yield* cache.set(step.key, value, { ttl: step.ttl, tags: step.tags })
              put(step.key, step.ttl, step.tags, value)
              assert.deepStrictEqual(yield* cache.get(step.key), present(step.key))
              break
            }
            case "setMany": {
              const first = n
              n += KEYS.length
              yield* cache.setMany(KEYS.map((key, i) => [key, first + i, { ttl: 40 * (i + 1), tags: step.tags }]))
              KEYS.forEach((key, i) => put(key, 40 * (i + 1), step.tags, first + i))
              break
            }
            case "getOrSet": {
              const value = ++n
              const before = present(step.key)
              assert.strictEqual(
                yield* cache.getOrSet(step.key, Effect.succeed(value)),
                Option.getOrElse(before, () => value)
              )
              if (Option.isNone(before)) put(step.key, 3_600_000, ["looked up"], value)
              break
            }
            case "take":
              assert.deepStrictEqual(yield* cache.take(step.key), present(step.key))
              model.delete(step.key)
              break
            case "delete":
              yield* cache.delete(step.key)
              model.delete(step.key)
              break
            case "invalidate":
              yield* cache.invalidateTags(...step.tags)
              for (const [key, { tags }] of model) if (tags.some((tag) => step.tags.includes(tag))) model.delete(key)
              break
            case "clear":
              yield* cache.clear
              model.clear()
              break
            case "restart":
              yield* processes[step.who]!.die
              processes[step.who] = yield* start(step.who)
              break
            case "pass":
              yield* TestClock.adjust(step.ms)
              now += step.ms
          }
          yield* settle
          now += ELAPSED
        }
        for (const [key, { end }] of model) if (end <= now) model.delete(key)
        for (const { cache } of processes) assert.deepStrictEqual(yield* cache.getMany(KEYS), KEYS.map(present))
        for (const { die } of processes) yield* die
      }).pipe(Effect.provide(quiet(Cache.layerTest))),
    { fastCheck: { numRuns: 30 }, timeout: 120_000 }
  )
})
