/**
 * How long a failed job waits.
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Schedule from "effect/Schedule"
import { scheduleDelay, wholeMillis } from "../internal/scheduleDelay.js"
import type { Backoff } from "./Definition.js"

/** In how many milliseconds there is another attempt after so many have failed; `undefined` when there is none. */
export const delayOf = (backoff: Backoff, error: unknown, failures: number): Effect.Effect<number | undefined> =>
  Effect.suspend(() => {
    if (Schedule.isSchedule(backoff)) return scheduleDelay(backoff, error, failures)
    const given = backoff(error, failures)
    const delay = Option.isOption(given) ? Option.getOrUndefined(given) : given
    return Effect.succeed(delay === undefined ? undefined : wholeMillis(Duration.toMillis(delay)))
  })
