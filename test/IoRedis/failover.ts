/**
 * A load of increments, and what must be true of it however the servers fail.
 */
import { assert } from "@effect/vitest"
import { Duration, Effect, Either, Queue } from "effect"
import * as IoRedis from "../../src/IoRedis.js"
import type { Gap, Message, Service } from "../../src/RedisClient.js"
import * as RedisConfig from "../../src/RedisConfig.js"
import type { RedisError } from "../../src/RedisError.js"
import * as RedisScript from "../../src/RedisScript.js"

/** A client of its own, closed with the scope. */
export const connectTo = (options: RedisConfig.Options) => Effect.flatMap(RedisConfig.make(options), IoRedis.make)

export interface Tally {
  /** What the successful increments of each key gave, in the order of their answers. */
  readonly values: ReadonlyMap<string, ReadonlyArray<number>>
  /** How many of each key may or may not have been executed. */
  readonly unknown: ReadonlyMap<string, number>
  /** Failures that were certainly not executed. */
  readonly failed: ReadonlyArray<RedisError>
  readonly ok: number
  readonly issued: number
  /** The longest that a caller waited, in milliseconds. */
  readonly slowest: number
}

/**
 * At least `total` increments, spread over keys of every slot, by `workers` that pause for a moment between two. When some
 * of them were answered `during` begins, and they go on until it has come to its end.
 */
export const increments = <E = never>(
  client: Service,
  options: {
    readonly total: number
    readonly keys: ReadonlyArray<string>
    readonly workers: number
    readonly during?: Effect.Effect<unknown, E> | undefined
  }
): Effect.Effect<Tally, E> =>
  Effect.gen(function*() {
    const values = new Map(options.keys.map((key) => [key, new Array<number>()]))
    const unknown = new Map(options.keys.map((key) => [key, 0]))
    const failed: Array<RedisError> = []
    let slowest = 0
    let ok = 0
    let issued = 0
    const load = { over: options.during === undefined }
    const started = yield* Effect.makeLatch(options.during === undefined)
    const worker = Effect.gen(function*() {
      while (issued < options.total || !load.over) {
        const key = options.keys[issued++ % options.keys.length]!
        const [took, result] = yield* Effect.timed(Effect.either(client.incr(key)))
        slowest = Math.max(slowest, Duration.toMillis(took))
        if (Either.isRight(result)) {
          if (++ok === 100) yield* started.open
          values.get(key)!.push(result.right)
        } else if (result.left._tag === "RedisOutcomeUnknownError") {
          unknown.set(key, unknown.get(key)! + 1)
        } else {
          failed.push(result.left)
        }
        yield* Effect.sleep(5)
      }
    })
    yield* Effect.all([
      Effect.replicateEffect(worker, options.workers, { concurrency: "unbounded", discard: true }),
      Effect.zipRight(started.await, options.during ?? Effect.void).pipe(
        Effect.zipRight(Effect.sync(() => load.over = true))
      )
    ], { concurrency: "unbounded", discard: true })
    return { values, unknown, failed, ok, slowest, issued }
  })

export const unknowns = (tally: Tally): number => Array.from(tally.unknown.values()).reduce((a, b) => a + b, 0)

/** No key counts more than what was told about it. Replication may have lost some of it, so it can be less. */
export const assertNothingTwice = (client: Service, tally: Tally): Effect.Effect<void, RedisError> =>
  Effect.forEach(tally.values, ([key, values]) =>
    Effect.map(client.send("GET", client.key(key)), (value) => {
      const most = values.length + tally.unknown.get(key)!
      assert.isAtMost(Number(value), most, key)
      for (const one of values) assert.isAtMost(one, most, key)
    }), { discard: true })

/** As when no server was lost: every success is there, and each gave a number of its own. */
export const assertExact = (client: Service, tally: Tally): Effect.Effect<void, RedisError> =>
  Effect.forEach(tally.values, ([key, values]) =>
    Effect.map(client.send("GET", client.key(key)), (value) => {
      assert.strictEqual(new Set(values).size, values.length, `${key} gave a number twice`)
      assert.isAtLeast(Number(value), values.length, key)
      assert.isAtMost(Number(value), values.length + tally.unknown.get(key)!, key)
    }), { discard: true })

export const counter = RedisScript.make({
  name: "counter",
  lua: `return redis.call("INCR", KEYS[1])`,
  params: (key: string) => ({ keys: [key], args: [] }),
  result: RedisScript.number
})

/** Everything up to a message, with its gaps. The message is published again and again until it arrives. */
export const untilHeard = (
  queue: Queue.Dequeue<Message | Gap>,
  publish: Effect.Effect<unknown, RedisError>,
  payload: string
): Effect.Effect<ReadonlyArray<string>> =>
  Effect.gen(function*() {
    const seen: Array<string> = []
    const publishing = Effect.forever(Effect.zipRight(Effect.ignore(publish), Effect.sleep(20)))
    const reading = Effect.gen(function*() {
      while (true) {
        const element = yield* Queue.take(queue)
        if (element._tag === "Message" && element.payload === payload) return
        seen.push(element._tag === "Message" ? element.payload : element.reason)
      }
    })
    yield* Effect.raceFirst(reading, publishing)
    return seen
  })
