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
import { identity } from "effect/Function"
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

/** The leases that a fiber is inside of and still holds, innermost first, until one is accepted. */
export const findInside = <E = RedisError>(
  fiber: Fiber.RuntimeFiber<unknown, unknown>,
  leases: Leases,
  accept: (lease: Lease<unknown>) => boolean
): Lease<E> | undefined => {
  for (let at = fiber.getFiberRef(inside); at !== undefined; at = at.outer) {
    const { lease } = at
    if (lease.leases === leases && lease.active && accept(lease) && leases.lossOf(lease) === undefined) {
      // It is of the kind that was accepted, and fails as that does.
      return lease as Lease<E>
    }
  }
  return undefined
}

/** Whether a fiber has set no reference of its own, so that whoever joins it inherits nothing. */
const isSame = (now: FiberRefs.FiberRefs, atStart: FiberRefs.FiberRefs): boolean => {
  let same = true
  // An iterator makes a pair for each of them.
  now.locals.forEach((values, ref) => {
    if (atStart.locals.get(ref) !== values && ref !== FiberRef.currentRuntimeFlags) same = false
  })
  return same
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

/** How the work ended, or that the lease was lost. A failure of its own stays what it is. */
const settle = <A, E>(held: ReadonlyArray<Lease<unknown>>, exit: Exit.Exit<A, E>): Exit.Exit<A, E | LockLost> => {
  const loss = lossOf(held)
  return loss !== undefined &&
      (Exit.isSuccess(exit) || (held.some((lease) => lease.interrupted) && Cause.isInterruptedOnly(exit.cause)))
    ? Exit.fail(loss)
    : exit
}

/**
 * Runs the effect on a fiber of its own, so that losing one of the leases interrupts it and nothing else: whoever is
 * interrupted interrupts all that it has started, also before it took the lock. The fiber starts at once: an effect that
 * never waits is done when it has started.
 *
 * It is run where nothing can be interrupted; `end` gets how the work ended.
 */
export const protect = <A, E, R, B, F>(
  held: ReadonlyArray<Lease<unknown>>,
  effect: Effect.Effect<A, E, R>,
  restore: Restore,
  end: (exit: Exit.Exit<A, E | LockLost>) => Effect.Effect<B, F>
): Effect.Effect<B, F, R> =>
  Effect.withFiberRuntime<B, F, R>((parent, status) => {
    let chain = parent.getFiberRef(inside)
    for (const lease of held) chain = { lease, outer: chain }
    // The child goes on with the references of its parent as they are. Those of a runtime would be copied once more.
    let atStart = parent.getFiberRefs()
    const runtime = Runtime.make<R>({
      context: parent.currentContext as Context.Context<R>,
      runtimeFlags: status.runtimeFlags,
      fiberRefs: FiberRefs.empty()
    })
    const child = Runtime.runFork(runtime, restore(effect), {
      updateRefs: (_, fiberId) => atStart = FiberRefs.updateAs(atStart, { fiberId, fiberRef: inside, value: chain })
    })
    const done = child.unsafePoll()
    if (done !== null) {
      const settled = end(settle(held, done))
      return isSame(child.getFiberRefs(), atStart) ? settled : Effect.zipRight(Fiber.inheritAll(child), settled)
    }
    for (const lease of held) lease.leases.interruptOnLoss(lease, child)
    return Effect.flatMap(
      Effect.exit(Effect.onInterrupt(restore(Fiber.join(child)), () => Fiber.interrupt(child))),
      (exit) => {
        for (const lease of held) lease.fibers?.delete(child)
        return end(settle(held, exit))
      }
    )
  })

/** The same for those who hold something already, and go on holding it. */
const protecting =
  (held: ReadonlyArray<Lease<unknown>>) =>
  <A, E, R>(effect: Effect.Effect<A, E, R>): Effect.Effect<A, E | LockLost, R> =>
    Effect.uninterruptibleMask((restore) => protect(held, effect, restore, identity))

/** Leases that are held together, as their users see them. */
export const makeAll = (held: ReadonlyArray<Lease>, release: Effect.Effect<boolean, RedisError>): HeldAll => {
  const remaining = () => Math.min(...held.map(remainingOf))
  return {
    names: held.map(({ claim }) => claim.name),
    fencingTokens: new Map(held.map(({ claim, token }) => [claim.name, token])),
    lost: Effect.raceAll(held.map(lostOf)),
    isHeld: Effect.sync(() => remaining() > 0),
    remaining: Effect.sync(() => Duration.millis(remaining())),
    protect: protecting(held),
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
  protect: protecting([lease]),
  extend: (length) => {
    const millis = positiveMillis("Lock.extend", "lease", length)
    return Either.isLeft(millis) ? Effect.fail(millis.left) : extendTo(lease, millis.right)
  },
  release
})
