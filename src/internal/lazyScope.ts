/**
 * A scope for an effect that most often needs none: making one and providing it costs more than all else about a short
 * effect.
 */
import * as Cause from "effect/Cause"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Fiber from "effect/Fiber"
import * as Runtime from "effect/Runtime"
import * as Scope from "effect/Scope"

/** A scope that is made when somebody looks at it. */
interface Lazy {
  made: Scope.CloseableScope | undefined
}

const scopeOf = (lazy: Lazy): Scope.CloseableScope => lazy.made ??= Effect.runSync(Scope.make())

const handler: ProxyHandler<Lazy> = {
  get: (lazy, key) => Reflect.get(scopeOf(lazy), key),
  set: (lazy, key, value) => Reflect.set(scopeOf(lazy), key, value)
}

/**
 * Runs effects of the same runtime, each with a scope of its own, which is closed before `done` gets the exit, as
 * `Effect.scoped` does. An outcome that is there counts, also when the effect was interrupted at its end.
 *
 * Nothing is wrapped around the effect: what it takes to have a part of a fiber uninterruptible is most of the cost of a
 * short effect, half of it in the garbage collector.
 *
 * @internal
 */
export const forkScopedWith =
  <R>(runtime: Runtime.Runtime<Exclude<R, Scope.Scope>>) =>
  <A, E>(effect: Effect.Effect<A, E, R>, done: (exit: Exit.Exit<A, E>) => void): Fiber.RuntimeFiber<A, E> => {
    const lazy: Lazy = { made: undefined }
    const scope = new Proxy(lazy, handler) as unknown as Scope.CloseableScope
    const fiber = Runtime.runFork(
      Runtime.make({
        context: Context.add(runtime.context, Scope.Scope, scope) as Context.Context<R>,
        runtimeFlags: runtime.runtimeFlags,
        fiberRefs: runtime.fiberRefs
      }),
      effect
    )
    fiber.addObserver((exit) => {
      if (lazy.made === undefined) return done(exit)
      Runtime.runFork(runtime)(Scope.close(lazy.made, exit)).addObserver((closing) =>
        done(
          Exit.isSuccess(closing)
            ? exit
            : Exit.failCause(Exit.isFailure(exit) ? Cause.sequential(exit.cause, closing.cause) : closing.cause)
        )
      )
    })
    return fiber
  }
