/**
 * Event stores beside the bare commands of ioredis: streams, with neither versions nor an order of all events.
 */
import { Context, Effect, Layer, Redacted, Schema } from "effect"
import * as EventStore from "effect-redis-kit/EventStore"
import * as IoRedis from "effect-redis-kit/IoRedis"
import { type Case, fibers, type Measure, promises } from "../harness.js"
import { connect, PREFIX, Server } from "../server.js"

class Placed extends Schema.TaggedClass<Placed>()("Placed", {
  customer: Schema.String,
  total: Schema.Number,
  lines: Schema.Array(Schema.Struct({ sku: Schema.String, quantity: Schema.Number }))
}) {}

const placed = new Placed({
  customer: "ada",
  total: 4200,
  lines: [{ sku: "7f1f2ad4", quantity: 2 }, { sku: "55b54a1b", quantity: 1 }]
})

const body = JSON.stringify({ type: "Placed", version: 1, data: placed })

let runs = 0

/** Each case has a store of its own. */
const setUp = Effect.gen(function*() {
  const { url } = yield* Server
  const run = runs++
  const context = yield* Layer.build(
    Layer.provide(EventStore.layer, IoRedis.layer({ url: Redacted.make(url), keyPrefix: PREFIX }))
  )
  const store = Context.get(context, EventStore.EventStore)
  const orders = yield* store.open(EventStore.define({ name: `bench${run}`, event: Placed }))
  const redis = yield* connect({ enableAutoPipelining: true })
  return { orders, redis, theirs: `${PREFIX}theirs:${run}` }
})

const measure = (name: string, ratio: number): Measure => ({ name, unit: "op/s", better: "higher", target: { ratio } })

/** Over how many aggregates events are spread. */
const AGGREGATES = 10_000

/** Theirs is one entry; ours is one event, its place in the order of all, and a message to those who follow. */
const append = (loops: number, target: number): Case => ({
  measures: [measure(`eventStore.append.${loops}`, target)],
  contenders: Effect.gen(function*() {
    const { orders, redis, theirs } = yield* setUp
    const events = [placed]
    const aggregate = (n: number) => ({ type: "order", id: String(n % AGGREGATES) })
    const versions = new Map<string, number>()
    return [
      {
        name: "ours, expecting a version",
        slice: fibers(loops, (n) => {
          const one = aggregate(n)
          return Effect.map(
            orders.append(one, events, { expected: versions.get(one.id) ?? 0 }),
            ({ version }) => versions.set(one.id, version)
          )
        })
      },
      {
        name: "ioredis, XADD",
        slice: promises(loops, (n) => redis.xadd(`${theirs}:${n % AGGREGATES}`, "*", "i", String(n), "e", body))
      },
      {
        name: "ours, expecting nothing",
        slice: fibers(loops, (n) => orders.append({ type: "any", id: String(n % AGGREGATES) }, events))
      }
    ]
  })
})

const HISTORY = 100

/** All events of one aggregate; ours as values, and theirs with their JSON parsed. */
const load = (loops: number, target: number): Case => ({
  measures: [measure(`eventStore.load100.${loops}`, target)],
  contenders: Effect.gen(function*() {
    const { orders, redis, theirs: key } = yield* setUp
    const aggregate = { type: "order", id: "1" }
    yield* orders.append(aggregate, Array.from({ length: HISTORY }, () => placed))
    yield* Effect.promise(async () => {
      for (let n = 1; n <= HISTORY; n++) await redis.xadd(key, `${n}-0`, "i", String(n), "e", body)
    })
    return [
      { name: "ours", slice: fibers(loops, () => orders.load(aggregate)) },
      {
        name: "ioredis, XRANGE and JSON.parse",
        slice: promises(loops, async () => {
          const entries = await redis.xrange(key, "-", "+")
          return entries.map(([, fields]) => JSON.parse(fields[3] ?? ""))
        })
      },
      { name: "ioredis, XRANGE", slice: promises(loops, () => redis.xrange(key, "-", "+")) }
    ]
  })
})

/** 1000 events of the order of all, of 100 aggregates. */
const since: Case = {
  measures: [{ name: "eventStore.since1000", unit: "op/s", better: "higher", target: { ratio: 0.2 } }],
  contenders: Effect.gen(function*() {
    const { orders, redis, theirs: key } = yield* setUp
    yield* Effect.forEach(
      Array.from({ length: 1000 }, (_, n) => n),
      (n) => orders.append({ type: "order", id: String(n % 100) }, [placed]),
      { concurrency: 100 }
    )
    yield* Effect.promise(async () => {
      for (let n = 1; n <= 1000; n++) await redis.xadd(key, `${n}-0`, "i", String(n), "e", body)
    })
    return [
      { name: "ours", slice: fibers(1, () => orders.since({ limit: 1000 })) },
      {
        name: "ioredis, XRANGE and JSON.parse",
        slice: promises(1, async () => {
          const entries = await redis.xrange(key, "-", "+")
          return entries.map(([, fields]) => JSON.parse(fields[3] ?? ""))
        })
      }
    ]
  })
}

export const cases: ReadonlyArray<Case> = [append(1, 0.5), append(100, 0.3), load(1, 0.5), load(100, 0.3), since]
