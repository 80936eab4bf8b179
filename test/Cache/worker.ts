/**
 * A process with caches of its own, for the tests that need several. It goes on with each line that it gets, says what
 * happens in lines of JSON, and ends by itself when nothing is left that could run.
 */
import { Effect, Logger, LogLevel, Redacted, Schema, Stream } from "effect"
import { createInterface } from "node:readline"
import * as Cache from "../../src/Cache/index.js"
import { layer as redis } from "../../src/IoRedis.js"
import { RedisClient } from "../../src/RedisClient.js"

interface Task {
  readonly url: string
  readonly kind: "crowd" | "holder"
  readonly name: string
  readonly callers: number
}

const task: Task = JSON.parse(process.argv[2] ?? "{}")

const say = (message: object) => Effect.sync(() => void process.stdout.write(`${JSON.stringify(message)}\n`))

const texts = Cache.define({
  name: task.name,
  key: Schema.String,
  value: Schema.String,
  ttl: "1 minute",
  lease: "1 second",
  near: { capacity: 100 }
})

const lines = Stream.toPull(Stream.fromAsyncIterable(createInterface({ input: process.stdin }), String))

/** Many callers of one key, whose lookup first succeeds, and then of another one, whose lookup fails. */
const crowd = Effect.gen(function*() {
  const client = yield* RedisClient
  const cache = yield* Cache.open(texts)
  const go = yield* lines
  for (const fails of [false, true]) {
    const key = fails ? "fails" : "succeeds"
    const lookup = client.incr(`${task.name}:${key}`).pipe(
      Effect.zipLeft(Effect.sleep("500 millis")),
      Effect.flatMap((n) => fails ? Effect.fail(`failed ${n}`) : Effect.succeed(`found ${n}`))
    )
    yield* say({ ready: true })
    yield* go
    const results = yield* Effect.forEach(
      Array.from({ length: task.callers }),
      () => Effect.merge(cache.getOrSet(key, lookup)),
      { concurrency: "unbounded" }
    )
    const counts: Record<string, number> = {}
    for (const result of results.map(String)) counts[result] = (counts[result] ?? 0) + 1
    yield* say({ results: counts })
  }
})

/** Looks up a value until it is told to stop, and then another one. */
const holder = Effect.gen(function*() {
  const cache = yield* Cache.open(texts)
  const go = yield* lines
  for (const key of ["stopped", "killed"]) {
    const lookup = say({ looking: true }).pipe(Effect.zipRight(go), Effect.as("late"))
    const found = yield* cache.getOrSet(key, lookup)
    const { lookups } = yield* cache.stats
    yield* say({ found, lookups })
  }
})

await Effect.runPromise(
  (task.kind === "crowd" ? crowd : holder).pipe(
    Effect.scoped,
    Effect.provide(Cache.layer),
    Effect.provide(redis({ url: Redacted.make(task.url), commandTimeout: "2 seconds" })),
    // The lines of the output are for the test.
    Logger.withMinimumLogLevel(LogLevel.None)
  )
)
process.stdin.destroy()
