/**
 * What the tests over HTTP have in common.
 */
import { Effect, Fiber, TestClock } from "effect"

/** Runs an effect that waits for the network and for the clock of the test. */
export const whileTimePasses = <A, E, R>(effect: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
  Effect.gen(function*() {
    const fiber = yield* Effect.fork(effect)
    while ((yield* Fiber.poll(fiber))._tag === "None") {
      yield* Effect.promise(() => new Promise((resolve) => setImmediate(resolve)))
      yield* TestClock.adjust("1 millis")
    }
    return yield* Fiber.join(fiber)
  })
