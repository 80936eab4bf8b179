/**
 * Several processes on one server change a truth and its cache, while connections break.
 */
import { assert, describe, it } from "@effect/vitest"
import { Effect, Exit, Fiber, Logger, LogLevel, Option, Random, Schema } from "effect"
import * as Cache from "../../src/Cache/index.js"
import { RedisClient, type Service } from "../../src/RedisClient.js"
import { connect } from "../IoRedis/support.js"
import * as FaultProxy from "../kit/FaultProxy.js"
import * as RealServer from "../kit/RealServer.js"

const PROCESSES = 3

/** Until each process has checked so many values, had so many of them near, and so many faults happened; or too many. */
const ENOUGH = { found: 100, near: 10, faults: 6, tooMany: 18 }

const Numbers = Cache.define({
  name: "races",
  key: Schema.String,
  value: Schema.Number,
  ttl: "1 minute",
  lease: "1 second",
  near: { capacity: 100 },
  tags: (_, key) => [`tag:${key}`],
  // What was near when the server went away may be old.
  onUnavailable: "fail"
})

/** How a change of the truth is told to the cache. */
const ways = ["set", "delete", "tag"] as const

const keysOf = (process: number) => ways.map((way) => `${way}:${process}`)
const keys = Array.from({ length: PROCESSES }, (_, process) => keysOf(process)).flat()

const truth = (key: string) => `truth:${key}`
const done = (key: string) => `done:${key}`

/**
 * Each key has one process that writes it: it changes the truth, tells the cache, and then writes down that this is done.
 * All processes read all keys: what a cache gives may not be older than what was written down before.
 */
const racer = (
  client: Service,
  cache: Cache.Handle<string, number>,
  process: number,
  isRunning: () => boolean
) => {
  const counts = { writes: 0, found: 0 }
  const stale: Array<object> = []
  const run = Effect.gen(function*() {
    const numberAt = (key: string) => Effect.map(client.get(key), (text) => Number(Option.getOrElse(text, () => "0")))
    const anyKey = Effect.map(Random.nextIntBetween(0, keys.length), (i) => keys[i]!)
    const whileRunning = <A, E>(effect: Effect.Effect<A, E>) => Effect.repeat(Effect.exit(effect), { while: isRunning })

    /** Until it is done, or nobody asks any more. */
    const surely = <A, E>(effect: Effect.Effect<A, E>) =>
      Effect.retry(Effect.tapError(effect, () => Effect.sleep(5)), { while: isRunning })

    const writer = (key: string) => {
      let n = 0
      return whileRunning(Effect.gen(function*() {
        n++
        yield* surely(client.set(truth(key), String(n)))
        yield* surely<void, unknown>(
          key.startsWith("set")
            ? cache.set(key, n)
            : key.startsWith("delete")
            ? cache.delete(key)
            : cache.invalidateTags(`tag:${key}`)
        )
        yield* surely(client.set(done(key), String(n)))
        counts.writes++
        yield* Effect.sleep(yield* Random.nextIntBetween(20, 120))
      }))
    }

    /** Fills the cache, and leaves time to see what is wrong in between. */
    const loader = whileRunning(Effect.gen(function*() {
      const key = yield* anyKey
      yield* Effect.exit(cache.getOrSet(key, numberAt(truth(key))))
      yield* Effect.sleep(yield* Random.nextIntBetween(10, 50))
    }))

    const checker = whileRunning(Effect.gen(function*() {
      const key = yield* anyKey
      const expected = yield* Effect.option(numberAt(done(key)))
      // What the server has told before it answered has arrived by now, and is read in its turn.
      yield* Effect.sleep(20)
      const found = yield* Effect.exit(cache.get(key))
      if (Exit.isFailure(found) || Option.isNone(found.value) || Option.isNone(expected)) return
      counts.found++
      if (found.value.value < expected.value) stale.push({ key, expected: expected.value, found: found.value.value })
    }))

    yield* Effect.all([
      ...keysOf(process).map(writer),
      loader,
      loader,
      ...Array.from({ length: 10 }, () => checker)
    ], { concurrency: "unbounded", discard: true })
  })
  return { run, counts, stale, nearHits: Effect.map(cache.stats, ({ near }) => near.hits) }
}

describe("Cache under races", () => {
  it.live("no read gives what is older than the last write that was done, whatever connections break", () =>
    Effect.gen(function*() {
      const server = yield* RealServer.start()
      const proxies = yield* Effect.forEach(Array.from({ length: PROCESSES }), () => FaultProxy.make(server))
      let running = true
      const racers = yield* Effect.forEach(proxies, ({ url }, process) =>
        Effect.gen(function*() {
          const client = yield* connect({ url, commandTimeout: "2 seconds" })
          const cache = yield* Effect.provideService(Cache.make, RedisClient, client)
          return racer(client, yield* cache.open(Numbers), process, () => running)
        }))
      let turn = 0
      const fault = Effect.suspend((): Effect.Effect<unknown, RealServer.RealServerError> => {
        const proxy = proxies[turn % PROCESSES]!
        switch (turn++ % 3) {
          case 0:
            return proxy.cut
          case 1:
            return proxy.refuse.pipe(Effect.zipRight(Effect.sleep("150 millis")), Effect.zipRight(proxy.accept))
          default:
            // Only the connections that tell of changes, of all processes.
            return server.cli("CLIENT", "KILL", "TYPE", "pubsub")
        }
      })
      const race = yield* Effect.fork(
        Effect.forEach(racers, ({ run }) => run, { concurrency: "unbounded", discard: true })
      )
      const isEnough = Effect.map(
        Effect.forEach(
          racers,
          ({ counts, nearHits, stale }) =>
            Effect.map(nearHits, (near) => (counts.found >= ENOUGH.found && near >= ENOUGH.near) || stale.length > 0)
        ),
        (each) => turn >= ENOUGH.faults && each.every((enough) => enough)
      )
      while (turn < ENOUGH.tooMany && !(yield* isEnough)) {
        yield* Effect.sleep("700 millis")
        yield* fault
      }
      running = false
      yield* Fiber.join(race)
      for (const { counts, nearHits, stale } of racers) {
        assert.deepStrictEqual(stale, [])
        // Or else nothing would be shown.
        assert.isAbove(counts.found, 0)
        assert.isAbove(yield* nearHits, 0)
      }
    }).pipe(Effect.scoped, Effect.provide(Logger.minimumLogLevel(LogLevel.None))))
})
