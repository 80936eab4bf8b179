import { Clock, Effect } from "effect"

/** A clock that is wrong by so many milliseconds. */
export const skewed = (clock: Clock.Clock, by: number): Clock.Clock => ({
  [Clock.ClockTypeId]: Clock.ClockTypeId,
  unsafeCurrentTimeMillis: () => clock.unsafeCurrentTimeMillis() + by,
  unsafeCurrentTimeNanos: () => clock.unsafeCurrentTimeNanos() + BigInt(by) * 1_000_000n,
  currentTimeMillis: Effect.map(clock.currentTimeMillis, (millis) => millis + by),
  currentTimeNanos: Effect.map(clock.currentTimeNanos, (nanos) => nanos + BigInt(by) * 1_000_000n),
  sleep: (duration) => clock.sleep(duration)
})
