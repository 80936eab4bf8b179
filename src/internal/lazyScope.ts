/**
 * A scope for an effect that most often needs none: making one and providing it costs more than all else about a short
 * effect.
 */
import * as Cause from "effect/Cause"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Fiber from "effect/Fiber"
import * as FiberRef from "effect/FiberRef"
import * as FiberRefs from "effect/FiberRefs"
import * as Runtime from "effect/Runtime"
import * as Scope from "effect/Scope"

/**
 * Runs effects of the same runtime, each with a scope of its own, which is made when somebody looks at it, and closed
 * before `settle` gets the exit, as `Effect.scoped` does.
 *
 * @internal
 */
export const forkScopedWith = <R>(runtime: Runtime.Runtime<Exclude<R, Scope.Scope>>) =>
<A, E, B>(
  effect: Effect.Effect<A, E, R>,
  settle: (exit: Exit.Exit<A, E>) => Effect.Effect<B>
): Fiber.RuntimeFiber<B> => {
  let made: Scope.CloseableScope | undefined
  const scope: Scope.CloseableScope = new Proxy({} as Scope.CloseableScope, {
    get: (_, key) => Reflect.get(made ??= Effect.runSync(Scope.make()), key),
    set: (_, key, value) => Reflect.set(made ??= Effect.runSync(Scope.make()), key, value)
  })
  const closed = (exit: Exit.Exit<A, E>): Effect.Effect<B> =>
    made === undefined
      ? settle(exit)
      : Effect.flatMap(Effect.exit(Scope.close(made, exit)), (closing) =>
        settle(
          Exit.isSuccess(closing)
            ? exit
            : Exit.failCause(Exit.isFailure(exit) ? Cause.sequential(exit.cause, closing.cause) : closing.cause)
        ))
  return Runtime.runFork(
    runtime as Runtime.Runtime<R>,
    // An outcome that is there counts, also when the effect was interrupted at its end.
    Effect.uninterruptibleMask((restore) => Effect.flatMap(Effect.exit(restore(effect)), closed)),
    {
      updateRefs: (refs, fiberId) =>
        FiberRefs.updateAs(refs, {
          fiberId,
          fiberRef: FiberRef.currentContext,
          value: Context.add(runtime.context, Scope.Scope, scope)
        })
    }
  )
}
