/**
 * Connections that break, and workers that are gone, on a real server.
 */
import * as PersistedQueue from "@effect/experimental/PersistedQueue"
import * as Platform from "@effect/platform/KeyValueStore"
import { assert, describe, it } from "@effect/vitest"
import { Effect, Fiber, Layer, Option, Redacted, Schedule, Schema } from "effect"
import * as KeyValueStore from "../../src/integrations/KeyValueStore.js"
import * as Store from "../../src/integrations/PersistedQueueStore.js"
import { layer as ioRedis } from "../../src/IoRedis.js"
import * as RealServer from "../kit/RealServer.js"

const client = (url: string) => ioRedis({ url: Redacted.make(url), commandTimeout: "2 seconds" })

const queues = (url: string) => PersistedQueue.layer.pipe(Layer.provide(Store.layer), Layer.provideMerge(client(url)))

describe("integrations under faults", () => {
  it.live(
    "connections that break all the time lose no item of a queue, and leave nothing behind",
    () =>
      Effect.gen(function*() {
        const server = yield* RealServer.start()
        yield* Effect.gen(function*() {
          const queue = yield* PersistedQueue.make({ name: "broken", schema: Schema.Number })
          const count = 100
          const done = new Set<number>()
          const takers = yield* Effect.forEach(
            Array.from({ length: 8 }),
            () =>
              Effect.fork(Effect.forever(Effect.exit(
                queue.take((n) => Effect.as(Effect.sleep("5 millis"), void done.add(n)))
              )))
          )
          const breaking = yield* Effect.fork(Effect.repeat(
            Effect.zipRight(
              server.cli("CLIENT", "KILL", "TYPE", "normal"),
              Effect.zipRight(server.cli("CLIENT", "KILL", "TYPE", "pubsub"), server.cli("SCRIPT", "FLUSH"))
            ),
            Schedule.spaced("100 millis")
          ))
          // The same id again is the same item, so that an offer whose fate is not known can be made again.
          yield* Effect.forEach(
            Array.from({ length: count }, (_, i) => i),
            (i) =>
              Effect.retry(queue.offer(i, { id: `id-${i}` }), Schedule.spaced("20 millis")).pipe(
                Effect.zipRight(Effect.sleep("5 millis"))
              ),
            { discard: true }
          )
          yield* Fiber.interrupt(breaking)
          for (let i = 0; done.size < count && i < 400; i++) yield* Effect.sleep("50 millis")
          assert.strictEqual(done.size, count)
          // What could not be settled at once is settled soon.
          for (let i = 0; i < 100; i++) {
            if ((yield* server.cli("EXISTS", "persisted-queue:{broken}")) === 0) break
            yield* Effect.sleep("50 millis")
          }
          yield* Fiber.interruptAll(takers)
          assert.deepStrictEqual(
            yield* server.cli("KEYS", "*"),
            ["persisted-queue:{broken}:ids"]
          )
          assert.deepStrictEqual(yield* Store.deadLetters("broken"), [])
        }).pipe(Effect.provide(queues(server.url)))
      }).pipe(Effect.scoped),
    60_000
  )

  it.live(
    "modifies whose connections break are made once, or not, or nobody knows; never twice",
    () =>
      Effect.gen(function*() {
        const server = yield* RealServer.start()
        const stores = KeyValueStore.layer.pipe(Layer.provide(client(server.url)))
        yield* Effect.gen(function*() {
          const store = yield* Platform.KeyValueStore
          yield* store.set("n", "0")
          const breaking = yield* Effect.fork(
            Effect.repeat(server.cli("CLIENT", "KILL", "TYPE", "normal"), Schedule.spaced("50 millis"))
          )
          let sure = 0
          let unsure = 0
          const add = Effect.either(store.modify("n", (n) => String(Number(n) + 1)))
          for (let i = 0; i < 100; i++) {
            yield* Effect.forEach(Array.from({ length: 5 }), () =>
              Effect.map(add, ({ _tag }) => {
                if (_tag === "Right") sure++
                else unsure++
              }), { concurrency: "unbounded", discard: true })
            yield* Effect.sleep("3 millis")
          }
          yield* Fiber.interrupt(breaking)
          const total = Number(Option.getOrThrow(yield* Effect.retry(store.get("n"), Schedule.spaced("50 millis"))))
          assert.isAtLeast(total, sure)
          assert.isAtMost(total, sure + unsure)
          assert.isAbove(sure, 0)
        }).pipe(Effect.provide(stores))
      }).pipe(Effect.scoped),
    60_000
  )
})
