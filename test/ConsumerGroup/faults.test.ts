import { assert, describe, it } from "@effect/vitest"
import { Effect, Fiber, Layer, Redacted, Schedule, Schema, Stream } from "effect"
import * as ConsumerGroup from "../../src/ConsumerGroup/index.js"
import { layer as redis } from "../../src/IoRedis.js"
import * as RedisStream from "../../src/Stream/index.js"
import * as FaultProxy from "../kit/FaultProxy.js"
import * as RealServer from "../kit/RealServer.js"
import { real, until } from "../kit/suites.js"

const Numbers = RedisStream.define({ name: "numbers", schema: Schema.Number })
const Workers = ConsumerGroup.define({ stream: Numbers, name: "workers" })

const services = (url: string) =>
  Layer.provideMerge(
    Layer.merge(RedisStream.layer, ConsumerGroup.layer),
    redis({ url: Redacted.make(url), commandTimeout: "2 seconds" })
  )

const eventually = until(real)

const range = (from: number, to: number) => Array.from({ length: to - from + 1 }, (_, i) => from + i)

/** Appends though the server is away for a moment, in their order. What may be there twice is not. */
const append = (values: ReadonlyArray<number>) =>
  Effect.forEach(values, (n) =>
    RedisStream.append(Numbers, n, { id: `${n}-1` }).pipe(
      Effect.catchTag("RedisReplyError", () => Effect.void),
      Effect.retry(Schedule.spaced("50 millis"))
    ), { discard: true })

describe("streams under faults", () => {
  it.live(
    "workers and tails go on after cut connections, a flushed script cache, a pause and a restart",
    () =>
      Effect.gen(function*() {
        const server = yield* RealServer.start({ appendonly: true })
        yield* Effect.gen(function*() {
          const handled = new Set<number>()
          const seen: Array<number> = []
          for (let i = 0; i < 2; i++) {
            yield* ConsumerGroup.start(
              Workers,
              ({ value }) => Effect.sync(() => void handled.add(value)),
              { lease: "1 seconds", claimEvery: "100 millis", concurrency: 2 }
            )
          }
          yield* Effect.forkScoped(Stream.runForEach(
            RedisStream.tail(Numbers, { after: "0" }),
            (each) => Effect.sync(() => void (each._tag === "Entry" && seen.push(each.value)))
          ))
          const arrived = (to: number) => eventually(Effect.sync(() => handled.size === to && seen.length === to))
          yield* append(range(1, 20))
          yield* arrived(20)
          yield* server.cli("CLIENT", "KILL", "TYPE", "normal")
          yield* append(range(21, 40))
          yield* arrived(40)
          yield* server.cli("SCRIPT", "FLUSH")
          yield* append(range(41, 60))
          yield* arrived(60)
          yield* server.pause
          const appending = yield* Effect.fork(append(range(61, 80)))
          yield* Effect.sleep("300 millis")
          yield* server.resume
          yield* Fiber.join(appending)
          yield* arrived(80)
          yield* server.kill
          yield* server.restart
          yield* append(range(81, 100))
          yield* arrived(100)
          assert.deepStrictEqual(seen, range(1, 100))
          yield* eventually(Effect.map(ConsumerGroup.pending(Workers), ({ total }) => total === 0))
        }).pipe(Effect.scoped, Effect.provide(services(server.url)))
      }).pipe(Effect.scoped),
    90_000
  )

  it.live(
    "an entry whose delivery was lost on the way is taken by the same worker, without waiting for its lease",
    () =>
      Effect.gen(function*() {
        const server = yield* RealServer.start()
        const proxy = yield* FaultProxy.make(server)
        yield* Effect.gen(function*() {
          const handled: Array<readonly [number, number]> = []
          yield* ConsumerGroup.start(
            Workers,
            ({ deliveries, value }) => Effect.sync(() => void handled.push([value, deliveries])),
            { lease: "10 minutes", claimEvery: "10 minutes" }
          )
          yield* append([1])
          yield* eventually(Effect.sync(() => handled.length === 1))
          // The worker rests: the next reply to it says that there is an entry, and the one after that is the entry.
          yield* eventually(Effect.map(ConsumerGroup.pending(Workers), ({ total }) => total === 0))
          yield* Effect.sleep("100 millis")
          yield* server.cli("XADD", Numbers.key, "2-1", "data", "2")
          yield* proxy.dropReplies(1)
          yield* server.cli("XADD", Numbers.key, "3-1", "data", "3")
          yield* eventually(Effect.sync(() => new Set(handled.map(([n]) => n)).size === 3))
          yield* eventually(Effect.map(ConsumerGroup.pending(Workers), ({ total }) => total === 0))
        }).pipe(Effect.scoped, Effect.provide(services(proxy.url)))
      }).pipe(Effect.scoped),
    60_000
  )
})
