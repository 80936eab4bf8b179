import { assert, layer } from "@effect/vitest"
import { Deferred, Effect, Either, Layer, Logger, LogLevel, Option, Schema } from "effect"
import * as Queue from "../../src/Queue/index.js"
import { keysOf } from "../../src/Queue/keys.js"
import { RedisClient } from "../../src/RedisClient.js"
import type { RedisError } from "../../src/RedisError.js"
import { error, fresh, type Time, until } from "../kit/suites.js"

const Payload = Schema.Struct({ n: Schema.Number })
const Result = Schema.Struct({ doubled: Schema.Number, at: Schema.Date })

type Options = Partial<Queue.Options<typeof Payload.Type, typeof Payload.Encoded>>

const define = (text: string, options: Options = {}) =>
  Queue.define({ name: fresh(text), payload: Payload, attempts: 1, backoff: () => 0, ...options })

const returning = (text: string, options: Options = {}) =>
  Queue.define({ name: fresh(text), payload: Payload, attempts: 1, backoff: () => 0, ...options, result: Result })

type Definition = Queue.Definition<{ readonly n: number }, any>

/** The keys of queues that are there, without counters and what ends by itself. */
const left = (...queues: ReadonlyArray<Definition>) =>
  Effect.gen(function*() {
    const client = yield* RedisClient
    const found: Array<string> = []
    for (const { name } of queues) {
      const { all, marker, meta, stamps, starts } = keysOf(name)
      for (const key of all) {
        if (key === marker || key === meta || key === stamps || key === starts) continue
        if ((yield* client.exists(key)) === 1) found.push(key)
      }
    }
    return found
  })

/** Counts, which must agree with what is stored. */
const counted = (definition: Definition) =>
  Effect.gen(function*() {
    const client = yield* RedisClient
    const counts = yield* Queue.counts(definition)
    const { blocked, dead, delayed, ready, running } = counts
    assert.strictEqual(ready + delayed + blocked + running + dead, yield* client.hlen(keysOf(definition.name).jobs))
    return counts
  })

const states = (node: Queue.FlowNode): unknown =>
  node.children.length === 0 ? node.state : [node.state, ...node.children.map(states)]

const tree = (definition: Definition, id: string) =>
  Effect.map(Queue.flowTree(definition, id), (found) => Option.getOrUndefined(Option.map(found, states)))

export const flowSuite = (
  name: string,
  driver: Layer.Layer<RedisClient, RedisError>,
  options: { readonly excludeTestServices?: boolean },
  time: Time
) => {
  const eventually = until(time)
  const holds = (condition: () => boolean) => eventually(Effect.sync(condition))
  const gone = (...queues: ReadonlyArray<Definition>) =>
    eventually(Effect.map(left(...queues), (keys) => keys.length === 0))
  const isState = (definition: Definition, id: string, state: Queue.JobState) =>
    eventually(
      Effect.map(Queue.get(definition, id), (job) => Option.isSome(job) && job.value.state === state)
    )

  // Dead letters are logged as warnings.
  const silent = Logger.minimumLogLevel(LogLevel.Error)
  const services = Layer.provideMerge(Layer.orDie(Layer.provideMerge(Queue.layer, driver)), silent)

  layer(services, options)(`flows, ${name}`, (it) => {
    it.scoped("a parent runs after its children of other queues, gets their results, and nothing is left", () =>
      Effect.gen(function*() {
        const top = define("top")
        const middle = returning("middle")
        const bottom = define("bottom")
        const order: Array<string> = []
        const note = (word: string) => (job: Queue.Job<{ readonly n: number }>) =>
          Effect.sync(() => void order.push(`${word}${job.payload.n}`))
        const results: Array<unknown> = []
        yield* Queue.makeWorker(bottom, note("bottom"), { concurrency: 3 })
        yield* Queue.makeWorker(
          middle,
          (job) => Effect.as(note("middle")(job), { doubled: 2 * job.payload.n, at: new Date(job.payload.n) }),
          { concurrency: 3 }
        )
        yield* Queue.makeWorker(top, (job) =>
          Effect.gen(function*() {
            results.push(yield* Effect.flatMap(Queue.childResults(job, middle), Effect.all))
            yield* note("top")(job)
          }))
        const added = yield* Queue.enqueueFlow(Queue.flow(top, { n: 0 }, {
          id: "root",
          children: [
            Queue.child(middle, { n: 1 }, {
              children: [Queue.child(bottom, { n: 1 }), Queue.child(bottom, { n: 2 })]
            }),
            Queue.child(middle, { n: 2 }, { children: [Queue.child(bottom, { n: 3 })] }),
            Queue.child(bottom, { n: 4 })
          ]
        }))
        assert.deepStrictEqual(added, { id: "root", outcome: "added" })
        yield* gone(top, middle, bottom)
        assert.lengthOf(order, 7)
        assert.strictEqual(order[6], "top0")
        const at = (word: string) => order.indexOf(word)
        assert.isTrue(at("middle1") > at("bottom1") && at("middle1") > at("bottom2"))
        assert.isTrue(at("middle2") > at("bottom3"))
        assert.deepStrictEqual(results, [[
          { doubled: 2, at: new Date(1) },
          { doubled: 4, at: new Date(2) }
        ]])
      }))
  })
}
void Deferred
void Either
void error
