/**
 * One at a time, whoever asks from wherever. It runs on `RedisLive` just as well.
 */
import { Effect } from "effect"
import { RedisTest, withLock } from "effect-redis-kit"

const transfer = (amount: number) =>
  Effect.gen(function*() {
    yield* Effect.log(`moving ${amount}`)
    yield* Effect.sleep("50 millis")
    yield* Effect.log(`moved ${amount}`)
  }).pipe(withLock("account:42", { lease: "10 seconds", waitTimeout: "2 seconds" }))

const program = Effect.all([transfer(10), transfer(20), transfer(30)], { concurrency: "unbounded" })

await Effect.runPromise(program.pipe(Effect.provide(RedisTest)))
