/**
 * How long a schedule waits, when nothing of it is kept between two times: it is gone through again from its beginning,
 * without sleeping.
 */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import type * as Schedule from "effect/Schedule"
import * as Intervals from "effect/ScheduleIntervals"

/** How long the schedule waits before `instants[i + 1]`, from each of these instants on; `undefined` when it has ended. */
const delaysAt = (
  schedule: Schedule.Schedule<unknown, unknown>,
  error: unknown,
  failures: number,
  instantOf: (i: number, elapsed: number) => number
): Effect.Effect<{ readonly delay: number; readonly elapsed: number } | undefined> =>
  Effect.gen(function*() {
    let state = schedule.initial
    let elapsed = 0
    let delay = 0
    for (let i = 0; i < failures; i++) {
      elapsed += delay
      const now = instantOf(i, elapsed)
      const [next, , decision] = yield* schedule.step(now, error, state)
      if (decision._tag === "Done") return undefined
      state = next
      delay = Math.max(0, Intervals.start(decision.intervals) - now)
    }
    return { delay, elapsed }
  })

/**
 * In how many milliseconds, from now on, there is another try after so many have failed, in whole ones and never early;
 * `undefined` when there is none.
 *
 * @internal
 */
export const scheduleDelay = (
  schedule: Schedule.Schedule<unknown, unknown>,
  error: unknown,
  failures: number
): Effect.Effect<number | undefined> =>
  Effect.gen(function*() {
    const now = yield* Clock.currentTimeMillis
    // The earlier failures are placed so that the last one is now.
    const before = failures === 1 ? { elapsed: 0 } : yield* delaysAt(schedule, error, failures, (_, elapsed) => elapsed)
    if (before === undefined) return undefined
    const result = yield* delaysAt(
      schedule,
      error,
      failures,
      (i, elapsed) => i === failures - 1 ? now : Math.min(now, now - before.elapsed + elapsed)
    )
    return result === undefined ? undefined : wholeMillis(result.delay)
  })

/** A year is longer than anybody waits, and short enough for every calculation. */
const MOST = 365 * 86_400_000

/** @internal */
export const wholeMillis = (millis: number): number => Math.min(MOST, Math.max(0, Math.ceil(millis) || 0))
