/**
 * What the tests over HTTP have in common.
 */
import { Effect, Fiber, Logger, TestClock } from "effect"

/** Runs an effect that waits for the network and for the clock of the test, which goes on by so many milliseconds. */
export const whileTimePasses = <A, E, R>(effect: Effect.Effect<A, E, R>, step = 1): Effect.Effect<A, E, R> =>
  Effect.gen(function*() {
    const fiber = yield* Effect.fork(effect)
    while ((yield* Fiber.poll(fiber))._tag === "None") {
      yield* Effect.promise(() => new Promise((resolve) => setImmediate(resolve)))
      yield* TestClock.adjust(step)
    }
    return yield* Fiber.join(fiber)
  })

/** What was logged at the level of warnings. */
export const warnings = <A, E, R>(effect: Effect.Effect<A, E, R>) =>
  Effect.suspend(() => {
    const texts: Array<string> = []
    const logger = Logger.make(({ logLevel, message }) => {
      if (logLevel._tag === "Warning") texts.push(String(message))
    })
    return Effect.as(Effect.provide(effect, Logger.replace(Logger.defaultLogger, logger)), texts)
  })
