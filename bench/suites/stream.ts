/**
 * Streams beside ioredis: appending, and handling entries as a member of a group.
 */
import { Context, Effect, Exit, Layer, Redacted, Schema, Scope } from "effect"
import * as ConsumerGroup from "effect-redis-kit/ConsumerGroup"
import * as IoRedis from "effect-redis-kit/IoRedis"
import * as Stream from "effect-redis-kit/Stream"
import { type Case, type Slice } from "../harness.js"
import { connect, PREFIX, Server } from "../server.js"

const BATCHES = [1, 10, 100] as const

const services = Effect.flatMap(Server, ({ url }) =>
  Layer.build(
    Layer.provideMerge(
      Layer.mergeAll(Stream.layer, ConsumerGroup.layer),
      IoRedis.layer({ url: Redacted.make(url), keyPrefix: PREFIX })
    )
  ))

/** About 150 bytes. */
const value = {
  id: "7f1f2ad4-55b5-4a1b-9c5e-2f8f5a1c7d11",
  user: "Ada Lovelace",
  cents: 4200,
  at: "2026-01-01T00:00:00.000Z",
  note: "twelve roses, red, for the front desk"
}

const Order = Schema.Struct({
  id: Schema.String,
  user: Schema.String,
  cents: Schema.Number,
  at: Schema.String,
  note: Schema.String
})

/** Entries in a second, of one caller who does one batch after the other. */
const repeat = (entries: number, batch: Effect.Effect<unknown, unknown>): Slice => (seconds) =>
  Effect.suspend(() => {
    let count = 0
    const start = performance.now()
    return Effect.map(
      Effect.whileLoop({
        while: () => performance.now() - start < seconds * 1000,
        body: () => batch,
        step: () => void (count += entries)
      }),
      () => [count / ((performance.now() - start) / 1000)]
    )
  })

const MAX_LENGTH = 10_000

const append = (size: number): Case => ({
  measures: [{ name: `stream.append.${size}`, unit: "op/s", better: "higher", target: { ratio: 0.8 } }],
  contenders: Effect.gen(function*() {
    const stream = Context.get(yield* services, Stream.Stream)
    const orders = Stream.define({ name: `append:${size}`, schema: Order, maxLength: MAX_LENGTH })
    const redis = yield* connect()
    const key = `${PREFIX}raw:append:${size}`
    const values = Array.from({ length: size }, () => value)
    const args = () => [key, "MAXLEN", "~", MAX_LENGTH, "*", "data", JSON.stringify(value)] as const
    return [
      {
        name: "ours",
        slice: repeat(size, size === 1 ? stream.append(orders, value) : stream.appendAll(orders, values))
      },
      {
        name: "ioredis",
        slice: repeat(
          size,
          Effect.promise(async () => {
            if (size === 1) return redis.xadd(...args())
            const pipeline = redis.pipeline()
            for (let i = 0; i < size; i++) pipeline.xadd(...args())
            return pipeline.exec()
          })
        )
      }
    ]
  })
})

/** More than anybody handles in one turn. */
const ENTRIES = 150_000

const consume = (size: number): Case => ({
  measures: [{ name: `stream.consume.${size}`, unit: "op/s", better: "higher", target: { ratio: 0.8 } }],
  contenders: Effect.gen(function*() {
    const groups = Context.get(yield* services, ConsumerGroup.ConsumerGroup)
    const orders = Stream.define({ name: `consume:${size}`, schema: Order })
    const redis = yield* connect()
    const key = `${PREFIX}${orders.key}`
    yield* Effect.promise(async () => {
      const entry = JSON.stringify(value)
      for (let i = 0; i < ENTRIES; i += 1000) {
        const pipeline = redis.pipeline()
        for (let j = 0; j < 1000; j++) pipeline.xadd(key, "*", "data", entry)
        await pipeline.exec()
      }
    })
    let turns = 0
    const ours: Slice = (seconds) =>
      Effect.gen(function*() {
        const group = ConsumerGroup.define({ stream: orders, name: `ours:${turns++}` })
        const scope = yield* Scope.make()
        let count = 0
        const start = performance.now()
        const end = start + seconds * 1000
        const rate = yield* Effect.async<number>((resume) => {
          const handler = () =>
            Effect.sync(() => {
              count++
              if (count === ENTRIES || performance.now() > end) {
                resume(Effect.succeed(count / ((performance.now() - start) / 1000)))
              }
            })
          Effect.runFork(Scope.extend(groups.start(group, handler, { batchSize: size }), scope))
        })
        yield* Scope.close(scope, Exit.void)
        yield* groups.destroy(group)
        return [rate]
      })
    // A handler that may wait, as ours may.
    const handle = async (order: { readonly cents: number }) => order.cents
    const theirs: Slice = (seconds) =>
      Effect.promise(async () => {
        const group = `theirs:${turns++}`
        await redis.xgroup("CREATE", key, group, "0")
        let count = 0
        const start = performance.now()
        while (performance.now() - start < seconds * 1000 && count < ENTRIES) {
          const reply: any = await redis.xreadgroup("GROUP", group, "one", "COUNT", size, "STREAMS", key, ">")
          const ids: Array<string> = []
          for (const [id, fields] of reply[0][1]) {
            await handle(JSON.parse(fields[1]))
            ids.push(id)
          }
          await redis.xack(key, group, ...ids)
          count += ids.length
        }
        const rate = count / ((performance.now() - start) / 1000)
        await redis.xgroup("DESTROY", key, group)
        return [rate]
      })
    return [{ name: "ours", slice: ours }, { name: "ioredis", slice: theirs }]
  })
})

export const cases: ReadonlyArray<Case> = [...BATCHES.map(append), ...BATCHES.map(consume)]
