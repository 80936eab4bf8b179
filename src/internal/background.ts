/**
 * Effects that run in the background for as long as a scope is open.
 */
import * as Effect from "effect/Effect"
import type * as Exit from "effect/Exit"
import type * as Fiber from "effect/Fiber"
import * as FiberSet from "effect/FiberSet"
import type * as Scope from "effect/Scope"

/** @internal */
export type Fork = <A, E>(effect: Effect.Effect<A, E>) => Fiber.RuntimeFiber<A, E>

/**
 * It may be made where nothing can be interrupted, as most layers are, and the end of the scope must not wait for a timer
 * or for the server. So what it runs can be interrupted, without anything around each effect.
 *
 * @internal
 */
export const makeFork: Effect.Effect<Fork, never, Scope.Scope> = Effect.interruptible(FiberSet.makeRuntime<never>())

/** @internal */
export type Line = <A, E>(effect: Effect.Effect<A, E>, done: (exit: Exit.Exit<A, E>) => void) => void

/**
 * Runs effects one after the other, all on one fiber: the next one comes when the one before is done, at the earliest from
 * its `done`.
 *
 * A fiber for each would be entered into the sets of those that run and removed again. Where few run, a set of the runtime
 * is made anew at every other entry, and of each that is left behind the garbage collector keeps what was in it.
 *
 * @internal
 */
export const makeLine = (fork: Fork): Line => {
  let waiting: ((effect: Effect.Effect<void>) => void) | undefined
  let next: Effect.Effect<void> | undefined
  fork(Effect.whileLoop({
    while: () => true,
    body: () => {
      const effect = next
      next = undefined
      return effect ?? Effect.async<void>((resume) => {
        waiting = resume
      })
    },
    step: () => {}
  }))
  return (effect, done) => {
    const whole = Effect.map(Effect.exit(effect), done)
    const resume = waiting
    waiting = undefined
    if (resume === undefined) next = whole
    else resume(whole)
  }
}
