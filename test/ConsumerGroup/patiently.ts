import { assert } from "@effect/vitest"
import { Effect } from "effect"
import type { Time } from "../kit/suites.js"

/** Waits until it holds. Workers do much in the background, and a busy machine takes its time for that. */
export const patiently = ({ elapse }: Time) => <E, R>(condition: Effect.Effect<boolean, E, R>) =>
  Effect.gen(function*() {
    for (let i = 0; i < 1000; i++) {
      if (yield* condition) return
      yield* elapse("10 millis")
    }
    assert.fail("it never came to hold")
  })
