/**
 * What contract suites share: how time passes for them, names that nobody else has, and failures as values.
 */
import { assert } from "@effect/vitest"
import { Duration, Effect, TestClock } from "effect"

/** What differs between the drivers for these tests: how time passes. */
export interface Time {
  /** Lets this much time pass, and everything happen that is due. */
  readonly elapse: (duration: Duration.DurationInput) => Effect.Effect<void>
}

// Between two instants everything that the first one made due gets its turn.
export const virtual: Time = { elapse: (duration) => TestClock.adjust(duration) }
// A timer of Node may be a millisecond early, and the server counts in whole ones.
export const real: Time = { elapse: (duration) => Effect.sleep(Duration.sum(duration, "2 millis")) }

let names = 0
export const fresh = (text: string) => `${text}-${names++}`

export const error = <A, E, R>(effect: Effect.Effect<A, E, R>) => Effect.flip(effect)

/** Waits until it holds. A busy machine takes its time for what is done in the background. */
export const until = ({ elapse }: Time) => <E, R>(condition: Effect.Effect<boolean, E, R>) =>
  Effect.gen(function*() {
    for (let i = 0; i < 1000; i++) {
      if (yield* condition) return
      yield* elapse("10 millis")
    }
    assert.fail("it never came to hold")
  })
