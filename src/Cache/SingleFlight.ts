/**
 * Callers that ask for the same key at the same time share one run.
 */
import * as Effect from "effect/Effect"
import type * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as FiberRef from "effect/FiberRef"
import type * as Scope from "effect/Scope"

/** @internal */
export interface SingleFlight<in K> {
  /**
   * The result of the run of this key that is under way, or else of one that begins now. All who wait for a run get its
   * exit, and from that moment on the next call begins a new one.
   *
   * A run has a fiber of its own, in the scope of the `SingleFlight`, with the context and the fiber refs of the caller
   * that began it. Interrupting a caller takes that caller away. With the last one the run is interrupted, and the
   * interruption waits for it to end; those who come meanwhile begin a new run.
   *
   * Who is itself a part of the run of this key, also by way of other keys, would wait for itself. It gets `nested`.
   *
   * `joinable` is called when there is a run that can be joined.
   */
  readonly run: <A, E, R>(
    key: K,
    effect: Effect.Effect<A, E, R>,
    nested?: Effect.Effect<A, E, R>,
    joinable?: () => void
  ) => Effect.Effect<A, E, R>
  /**
   * Adds a caller to the run that is under way, without a step of its fiber. It does not when there is no run, or the caller
   * would wait for itself. Nothing but the key tells what a run gives.
   */
  readonly join: (key: K, waiter: Waiter) => boolean
  /** Takes a caller away from the run that it waits for, if any; with the last one, the run is interrupted. */
  readonly leave: (key: K, waiter: Waiter) => Effect.Effect<unknown>
  /** Callers from now on begin a new run. Those who wait already get what they wait for. */
  readonly invalidate: (key: K) => void
  /** The same for all keys. */
  readonly invalidateAll: () => void
  /** How many runs can be joined. */
  readonly size: () => number
}

/**
 * A caller.
 *
 * @internal
 */
export interface Waiter {
  /** The run that this caller is a part of. */
  readonly within: AnyFlight | undefined
  /** The run that it waits for. */
  flight: AnyFlight | undefined
  resume: ((exit: Exit.Exit<any, any>) => void) | undefined
}

/** A run from its beginning to its end. */
interface Flight<in out A, in out E> {
  /** Empty when it has ended. */
  readonly waiters: Set<Waiter>
  fiber: Fiber.RuntimeFiber<A, E> | undefined
  exit: Exit.Exit<A, E> | undefined
}

/** Those who share a key share its types. */
type AnyFlight = Flight<any, any>

/** The innermost run that a fiber is a part of. One for all caches, because their lookups can need each other. */
const currentFlight = FiberRef.unsafeMake<AnyFlight | undefined>(undefined, {
  // What a fiber is a part of is no news for the one that joins it.
  join: (mine) => mine
})

/**
 * The run that a fiber is a part of.
 *
 * @internal
 */
export const flightOf = (fiber: Fiber.RuntimeFiber<any, any>): AnyFlight | undefined => fiber.getFiberRef(currentFlight)

/** Whether a run waits for another one, at once or by way of others. */
const waitsFor = (one: AnyFlight, other: AnyFlight): boolean => {
  const seen = new Set([other])
  for (const flight of seen) {
    if (flight === one) return true
    for (const { within } of flight.waiters) if (within !== undefined) seen.add(within)
  }
  return false
}

/**
 * Whether another run waits for the one that this fiber is a part of.
 *
 * @internal
 */
export const isNeeded: Effect.Effect<boolean> = Effect.withFiberRuntime((fiber) => {
  for (const { within } of flightOf(fiber)?.waiters ?? []) {
    if (within !== undefined) return Effect.succeed(true)
  }
  return Effect.succeed(false)
})

const exitOf = <A, E>(flight: Flight<A, E>, waiter: Waiter): Effect.Effect<A, E> =>
  Effect.async<A, E>((resume) => {
    if (flight.exit === undefined) waiter.resume = resume
    else resume(flight.exit)
  })

/**
 * The scope ends the runs; their callers are interrupted with them.
 *
 * @internal
 */
export const make = <K>(scope: Scope.Scope): SingleFlight<K> => {
  const flights = new Map<K, AnyFlight>()

  const forget = (key: K, flight: AnyFlight): void => {
    if (flights.get(key) === flight) flights.delete(key)
  }

  const begin = <A, E, R>(key: K, flight: Flight<A, E>, effect: Effect.Effect<A, E, R>) =>
    Effect.map(
      // The run is interrupted with its last caller, also when it was begun where nothing is interrupted.
      Effect.forkIn(
        // The fiber is the run's own, so nothing needs to be set back.
        Effect.interruptible(Effect.zipRight(FiberRef.set(currentFlight, flight), effect)),
        scope
      ),
      (fiber) => {
        flight.fiber = fiber
        fiber.addObserver((exit) => {
          flight.exit = exit
          forget(key, flight)
          for (const waiter of flight.waiters) waiter.resume?.(exit)
          flight.waiters.clear()
        })
      }
    )

  const leave = (key: K, waiter: Waiter): Effect.Effect<unknown> => {
    const { flight } = waiter
    if (flight === undefined) return Effect.void
    flight.waiters.delete(waiter)
    if (flight.exit !== undefined || flight.waiters.size > 0) return Effect.void
    forget(key, flight)
    // It has a fiber: until then the caller that began it can't be interrupted.
    return Fiber.interrupt(flight.fiber!)
  }

  return {
    run: <A, E, R>(key: K, effect: Effect.Effect<A, E, R>, nested = effect, joinable = () => {}) =>
      // A caller that is counted is also taken away.
      Effect.uninterruptibleMask((restore) =>
        Effect.withFiberRuntime<A, E, R>((caller) => {
          const within = flightOf(caller)
          const present: Flight<A, E> | undefined = flights.get(key)
          if (present !== undefined && within !== undefined && waitsFor(present, within)) {
            joinable()
            return restore(nested)
          }
          const flight: Flight<A, E> = present ?? { waiters: new Set(), fiber: undefined, exit: undefined }
          const waiter: Waiter = { within, flight, resume: undefined }
          flight.waiters.add(waiter)
          const wait = Effect.catchAllCause(
            restore(exitOf(flight, waiter)),
            (cause) => Effect.zipRight(leave(key, waiter), Effect.failCause(cause))
          )
          if (present === undefined) flights.set(key, flight)
          joinable()
          if (present !== undefined) return wait
          return Effect.zipRight(begin(key, flight, effect), wait)
        })
      ),
    join: (key, waiter) => {
      const flight = flights.get(key)
      if (flight === undefined || waiter.within !== undefined && waitsFor(flight, waiter.within)) return false
      waiter.flight = flight
      flight.waiters.add(waiter)
      return true
    },
    leave,
    invalidate: (key) => void flights.delete(key),
    invalidateAll: () => flights.clear(),
    size: () => flights.size
  }
}
