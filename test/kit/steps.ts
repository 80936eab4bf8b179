/**
 * Something that happens to a fiber at one of its steps, so that a test can go through all of them.
 */
import { Effect, type Fiber, FiberId, Scheduler } from "effect"

export interface At {
  readonly step: number
  /** Whether it makes way for others there. */
  readonly yields: boolean
  readonly interrupts: boolean
  /** It goes on from there when this has ended. */
  readonly until?: Promise<void>
}

/** Forks an effect to which this happens at one of its steps. The second result says that there was such a step. */
export const forkWith = <A, E>(effect: Effect.Effect<A, E>, at: At) =>
  Effect.suspend(() => {
    let steps = 0
    let target: Fiber.RuntimeFiber<unknown, unknown> | undefined
    let held = false
    const scheduler: Scheduler.Scheduler = {
      scheduleTask: (task, priority) => {
        const schedule = () => Scheduler.defaultScheduler.scheduleTask(task, priority)
        if (!held || at.until === undefined) return schedule()
        held = false
        void at.until.then(schedule)
      },
      shouldYield: (fiber) => {
        target ??= fiber
        if (fiber !== target || ++steps !== at.step) return false
        if (at.interrupts) fiber.unsafeInterruptAsFork(FiberId.none)
        held = at.yields
        return at.yields ? 0 : false
      }
    }
    return Effect.map(
      Effect.fork(Effect.withScheduler(effect, scheduler)),
      (fiber) => [fiber, () => steps >= at.step] as const
    )
  })
