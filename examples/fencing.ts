/**
 * A holder that stops for longer than its lock lives can't know that it lost it. Its late write is refused all the same.
 */
import { Effect, Option } from "effect"
import { Lock, RedisTest } from "effect-redis-kit"

const program = Effect.gen(function*() {
  const lock = yield* Lock.Lock

  const paused = Effect.scoped(Effect.gen(function*() {
    const held = yield* Lock.acquire("report", { lease: "100 millis", renew: false })
    yield* Effect.sleep("300 millis")
    yield* lock.fencedSet("report:latest", "by the one who was paused", held.fencingToken)
  }))

  const next = Effect.scoped(Effect.gen(function*() {
    const held = yield* Lock.acquire("report")
    yield* lock.fencedSet("report:latest", "by the next one", held.fencingToken)
  }))

  const [late] = yield* Effect.all([Effect.flip(paused), Effect.delay(next, "10 millis")], { concurrency: "unbounded" })
  yield* Effect.log(`refused: ${late.message}`)
  const latest = Option.getOrThrow(yield* lock.fencedGet("report:latest"))
  yield* Effect.log(`written: ${latest.value}`)
})

await Effect.runPromise(program.pipe(Effect.provide(RedisTest)))
