/**
 * A master dies while a thousand locks are taken and given back.
 */
import { assert, describe, it } from "@effect/vitest"
import { Array as Arr, Duration, Effect, Either, Fiber, Layer, Option, type Scope } from "effect"
import { layer as ioredis } from "../../src/IoRedis.js"
import * as Lock from "../../src/Lock/index.js"
import type { Options } from "../../src/RedisConfig.js"
import { clusterOptions, sentinelOptions } from "../kit/layers.js"
import * as RealCluster from "../kit/RealCluster.js"
import * as RealSentinel from "../kit/RealSentinel.js"
import type { RealServerError } from "../kit/RealServer.js"

const ACQUISITIONS = 1000
const WORKERS = 40
const NAMES = Arr.makeBy(60, (i) => `failover-${i}`)

interface Servers {
  readonly options: Options
  /** Kills a master, and is done when another server has its place. */
  readonly killMaster: Effect.Effect<unknown, RealServerError>
}

const kinds: Readonly<Record<string, Effect.Effect<Servers, RealServerError, Scope.Scope>>> = {
  "on a Cluster": Effect.map(RealCluster.start(), (cluster) => ({
    options: clusterOptions(cluster),
    killMaster: Effect.flatMap(
      cluster.masterOf(NAMES[0]),
      (master) => Effect.zipRight(master.kill, cluster.awaitOk)
    )
  })),
  "with Sentinel": Effect.map(RealSentinel.start(), (set) => ({
    options: sentinelOptions(set),
    killMaster: set.killMaster
  }))
}

describe("a failover", () => {
  for (const [kind, start] of Object.entries(kinds)) {
    it.scopedLive(`${kind} answers everybody who wants a lock, and gives no token twice`, () =>
      Effect.gen(function*() {
        const servers = yield* start
        yield* Effect.gen(function*() {
          const lock = yield* Lock.Lock
          const tokens = new Map(NAMES.map((name) => [name, new Array<number>()]))
          const outcomes = new Map<string, number>()
          let slowest = 0
          let asked = 0
          const load = { over: false }
          const enter = (name: string) =>
            Effect.map(lock.fencingToken(name), (token) => void tokens.get(name)!.push(Option.getOrThrow(token)))
          const worker = Effect.gen(function*() {
            while (asked < ACQUISITIONS || !load.over) {
              const name = NAMES[asked++ % NAMES.length]!
              const [took, result] = yield* Effect.timed(Effect.either(
                lock.withLock(Effect.zipRight(enter(name), Effect.sleep("5 millis")), name, {
                  lease: "2 seconds",
                  waitTimeout: "4 seconds",
                  fair: asked % 3 !== 0
                })
              ))
              slowest = Math.max(slowest, Duration.toMillis(took))
              const outcome = Either.isRight(result) ? "served" : result.left._tag
              outcomes.set(outcome, (outcomes.get(outcome) ?? 0) + 1)
            }
          })
          const workers = yield* Effect.fork(
            Effect.replicateEffect(worker, WORKERS, { concurrency: "unbounded", discard: true })
          )
          yield* Effect.sleep("300 millis")
          yield* servers.killMaster
          yield* Effect.sleep("1 second")
          load.over = true
          // Nobody is left without an answer, and nothing but an answer comes.
          yield* Fiber.join(workers)

          assert.isAtLeast(outcomes.get("served") ?? 0, ACQUISITIONS / 2)
          for (const outcome of outcomes.keys()) {
            assert.include(
              ["served", "LockNotAcquired", "LockLost", "RedisConnectionError", "RedisOutcomeUnknownError"],
              outcome
            )
          }
          // Waiting, one command that is answered or not, and giving up what may have been taken.
          assert.isBelow(slowest, 4000 + 2 * 2000 + 1000)
          for (const [name, given] of tokens) {
            assert.deepStrictEqual(given, given.toSorted((a, b) => a - b), name)
            assert.strictEqual(new Set(given).size, given.length, name)
          }

          // What was lost is over with its lease, and whose turn it is is heard again, on whichever server.
          yield* Effect.forEach(NAMES, (name) =>
            Effect.gen(function*() {
              const held = yield* lock.acquire(name, { lease: "1 minute", waitTimeout: "10 seconds" })
              const next = yield* Effect.fork(Effect.scoped(lock.acquire(name, { waitTimeout: "10 seconds" })))
              yield* Effect.repeat(Effect.sleep("5 millis"), {
                until: () => Effect.map(lock.inspect(name), Option.exists(({ waiters }) => waiters === 1))
              })
              yield* held.release
              assert.isAbove((yield* Fiber.join(next)).fencingToken, held.fencingToken)
            }).pipe(Effect.scoped), { concurrency: 10, discard: true })
        }).pipe(
          Effect.provide(Lock.layer.pipe(Layer.provide(ioredis({ ...servers.options, commandTimeout: "2 seconds" }))))
        )
      }), 60_000)
  }
})
