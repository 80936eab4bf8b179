/**
 * Effects that run in the background for as long as a scope is open.
 */
import * as Effect from "effect/Effect"
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
