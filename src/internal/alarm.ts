/**
 * One timer for many deadlines: it sleeps until the first of them, by a clock that never goes back.
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as Fiber from "effect/Fiber"
import * as FiberId from "effect/FiberId"
import type * as Scope from "effect/Scope"
import { type Fork, makeFork } from "./background.js"

/** @internal */
export interface Alarm {
  /** Milliseconds since some moment in the past. */
  readonly now: () => number
  /** Makes sure that it rings at this time, or before. */
  readonly ringBy: (at: number) => void
  /** Runs an effect in the background, until the scope of the alarm closes. */
  readonly run: Fork
}

/**
 * `ring` is called at the times that were asked for, and says by `ringBy` when it wants to be called next.
 *
 * @internal
 */
export const make = (ring: () => void): Effect.Effect<Alarm, never, Scope.Scope> =>
  Effect.gen(function*() {
    const clock = yield* Effect.clock
    const run = yield* makeFork
    let ringAt = Infinity
    let sleeping: Fiber.RuntimeFiber<void> | undefined

    const self: Alarm = {
      now: () => Number(clock.unsafeCurrentTimeNanos()) / 1e6,
      run,
      ringBy: (at) => {
        if (at >= ringAt) return
        ringAt = at
        const previous = sleeping
        sleeping = run(
          // A timer that ends a little early would be set again for next to nothing.
          Effect.map(clock.sleep(Duration.millis(Math.max(0, Math.ceil(at - self.now())))), () => {
            ringAt = Infinity
            sleeping = undefined
            ring()
          })
        )
        previous?.unsafeInterruptAsFork(FiberId.none)
      }
    }
    return self
  })
