/**
 * A lock that is held, and what runs under its protection.
 */
import * as Cause from "effect/Cause"
import type * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as FiberRef from "effect/FiberRef"
import * as FiberRefs from "effect/FiberRefs"
import * as Option from "effect/Option"
import * as Runtime from "effect/Runtime"
import { positiveMillis } from "../internal/input.js"
import type { RedisError, RedisInputError } from "../RedisError.js"
import type { Lease, Leases, Loss } from "./Leases.js"
import { LockLost } from "./LockError.js"

/**
 * A lock that is held.
 *
 * @since 0.1.0
 * @category models
 */
export interface Held<out E = RedisError> {
  readonly name: string
  /**
   * Larger than the token of every earlier holder. Whatever the lock protects should remember the largest
   * token it has seen and refuse smaller ones: only that keeps out a holder that was paused and does not know yet that
   * it lost the lock.
   */
  readonly fencingToken: number
  /** Fails when the lock is lost, and never ends otherwise. */
  readonly lost: Effect.Effect<never, LockLost>
  /** Whether the lock is still held, as far as can be known without asking the server. */
  readonly isHeld: Effect.Effect<boolean>
  /** The time left until the lease ends, as far as can be known without asking the server. */
  readonly remaining: Effect.Effect<Duration.Duration>
  /**
   * Runs an effect as long as the lock is held: it is interrupted when the lock is lost, and the failure is then
   * `LockLost`, reported when the effect has stopped. Taking the same lock inside takes this one again.
   */
  readonly protect: <A, E, R>(effect: Effect.Effect<A, E, R>) => Effect.Effect<A, E | LockLost, R>
  /** Sets the lease to this much from now, and asks the server whether the lock is still held. */
  readonly extend: (lease: Duration.DurationInput) => Effect.Effect<void, LockLost | RedisInputError | E>
  /** Gives the lock back before its scope closes. `false` when it was not held any more. */
  readonly release: Effect.Effect<boolean, E>
}

/**
 * Several locks that are held together. What is lost with one of them is lost with all.
 *
 * @since 0.1.0
 * @category models
 */
export interface HeldAll extends Omit<Held, "name" | "fencingToken"> {
  /** In the order in which all processes take them. */
  readonly names: ReadonlyArray<string>
  /** Of each name. */
  readonly fencingTokens: ReadonlyMap<string, number>
}

export type Restore = <A, E, R>(effect: Effect.Effect<A, E, R>) => Effect.Effect<A, E, R>

/** What a fiber is inside of, innermost first. */
interface Inside {
  readonly lease: Lease<unknown>
  readonly outer: Inside | undefined
}

const inside: FiberRef.FiberRef<Inside | undefined> = FiberRef.unsafeMake<Inside | undefined>(undefined, {
  // What a fiber is inside of is no news for the one that joins it.
  join: (mine) => mine
})

/** The leases that the calling fiber is inside of and still holds, innermost first, until one is accepted. */
export const findInside = <E = RedisError>(
  leases: Leases,
  accept: (lease: Lease<unknown>) => boolean
): Effect.Effect<Lease<E> | undefined> =>
  Effect.withFiberRuntime((fiber) => {
    for (let at = fiber.getFiberRef(inside); at !== undefined; at = at.outer) {
      const { lease } = at
      if (lease.leases === leases && lease.active && accept(lease) && leases.lossOf(lease) === undefined) {
        // It is of the kind that was accepted, and fails as that does.
        return Exit.succeed(lease as Lease<E>)
      }
    }
    return Exit.succeed(undefined)
  })

/** Whether a fiber has set no reference of its own, so that whoever joins it inherits nothing. */
const isSame = (now: FiberRefs.FiberRefs, atStart: FiberRefs.FiberRefs | undefined): boolean => {
  if (atStart === undefined) return false
  for (const [ref, values] of now.locals) {
    if (atStart.locals.get(ref) !== values && ref !== FiberRef.currentRuntimeFlags) return false
  }
  return true
}

export const lostError = (lease: Lease<unknown>, reason: Loss): LockLost =>
  new LockLost({ key: lease.claim.name, fencingToken: lease.token, reason })

const lossOf = (held: ReadonlyArray<Lease<unknown>>): LockLost | undefined => {
  for (const lease of held) {
    const loss = lease.leases.lossOf(lease)
    if (loss !== undefined) return lostError(lease, loss)
  }
  return undefined
}

/**
 * Runs the effect on a fiber of its own, so that losing one of the leases interrupts it and nothing else. The fiber
 * starts at once: an effect that never waits is done when it has started.
 */
export const protect = <A, E, R>(
  held: ReadonlyArray<Lease<unknown>>,
  effect: Effect.Effect<A, E, R>,
  restore: Restore
): Effect.Effect<A, E | LockLost, R> =>
  Effect.withFiberRuntime<A, E | LockLost, R>((parent, status) => {
    const runtime = Runtime.make({
      context: parent.getFiberRef(FiberRef.currentContext) as Context.Context<R>,
      runtimeFlags: status.runtimeFlags,
      fiberRefs: parent.getFiberRefs()
    })
    let atStart: FiberRefs.FiberRefs | undefined
    const child = Runtime.runFork(runtime, restore(effect), {
      updateRefs: (refs, fiberId) => {
        let chain = Option.getOrUndefined(FiberRefs.get(refs, inside))
        for (const lease of held) chain = { lease, outer: chain }
        return atStart = FiberRefs.updateAs(refs, { fiberId, fiberRef: inside, value: chain })
      }
    })
    const settle = (exit: Exit.Exit<A, E>): Effect.Effect<A, E | LockLost> => {
      const loss = lossOf(held)
      if (loss === undefined) return exit
      // A failure of its own stays what it is.
      return Exit.isSuccess(exit) || (held.some((lease) => lease.interrupted) && Cause.isInterruptedOnly(exit.cause))
        ? Effect.fail(loss)
        : exit
    }
    const done = child.unsafePoll()
    if (done !== null) {
      return isSame(child.getFiberRefs(), atStart)
        ? settle(done)
        : Effect.zipRight(Fiber.inheritAll(child), settle(done))
    }
    for (const lease of held) lease.leases.interruptOnLoss(lease, child)
    return Effect.flatMap(
      Effect.exit(Effect.onInterrupt(restore(Fiber.join(child)), () => Fiber.interrupt(child))),
      (exit) => {
        for (const lease of held) lease.fibers?.delete(child)
        return settle(exit)
      }
    )
  })

/** Leases that are held together, as their users see them. */
export const makeAll = (held: ReadonlyArray<Lease>, release: Effect.Effect<boolean, RedisError>): HeldAll => {
  const remaining = () => Math.min(...held.map(remainingOf))
  return {
    names: held.map(({ claim }) => claim.name),
    fencingTokens: new Map(held.map(({ claim, token }) => [claim.name, token])),
    lost: Effect.raceAll(held.map(lostOf)),
    isHeld: Effect.sync(() => remaining() > 0),
    remaining: Effect.sync(() => Duration.millis(remaining())),
    protect: (effect) => Effect.uninterruptibleMask((restore) => protect(held, effect, restore)),
    extend: (length) => {
      const millis = positiveMillis("Lock.extend", "lease", length)
      return Either.isLeft(millis)
        ? Effect.fail(millis.left)
        : Effect.forEach(held, (lease) => extendTo(lease, millis.right), { concurrency: "unbounded", discard: true })
    },
    release
  }
}

const remainingOf = (lease: Lease<unknown>): number =>
  lease.active && lease.leases.lossOf(lease) === undefined ? Math.max(0, lease.deadline - lease.leases.now()) : 0

const lostOf = (lease: Lease<unknown>): Effect.Effect<never, LockLost> =>
  Effect.flatMap(lease.leases.awaitLoss(lease), (loss) => Effect.fail(lostError(lease, loss)))

const extendTo = <E>(lease: Lease<E>, length: number): Effect.Effect<void, LockLost | E> =>
  Effect.flatMap(
    lease.leases.extend(lease, length),
    (loss) => loss === undefined ? Effect.void : Effect.fail(lostError(lease, loss))
  )

/** A lease as its users see it. */
export const make = <E>(lease: Lease<E>, release: Effect.Effect<boolean, E>): Held<E> => ({
  name: lease.claim.name,
  fencingToken: lease.token,
  lost: lostOf(lease),
  isHeld: Effect.sync(() => remainingOf(lease) > 0),
  remaining: Effect.sync(() => Duration.millis(remainingOf(lease))),
  protect: (effect) => Effect.uninterruptibleMask((restore) => protect([lease], effect, restore)),
  extend: (length) => {
    const millis = positiveMillis("Lock.extend", "lease", length)
    return Either.isLeft(millis) ? Effect.fail(millis.left) : extendTo(lease, millis.right)
  },
  release
})
