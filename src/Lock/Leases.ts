/**
 * The leases that one process holds: renewed together, and given up at a deadline of our own clock.
 *
 * A lease is safe until `sent + length - drift`, counted from before the command was sent that took or renewed it, by a
 * clock that never goes back. At that moment the lock counts as lost, whatever the server may still say.
 */
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Fiber from "effect/Fiber"
import * as FiberId from "effect/FiberId"
import * as Random from "effect/Random"
import * as Schedule from "effect/Schedule"
import type * as Scope from "effect/Scope"
import { randomBytes } from "node:crypto"
import * as Alarm from "../internal/alarm.js"
import { mayPass } from "../internal/mayPass.js"
import { locksLost } from "../internal/metrics.js"
import type * as RedisClient from "../RedisClient.js"
import type { RedisError } from "../RedisError.js"
import * as RedisScript from "../RedisScript.js"

/** Why a lock counts as lost. */
export type Loss = "expired" | "taken"

/** What somebody wants to hold, and by what name its authority knows them. */
export interface Claim<out E = RedisError> {
  readonly authority: Authority<E>
  /** As its users call it. */
  readonly name: string
  readonly owner: string
}

/** Whoever grants leases: a server, or several. */
export interface Authority<out E = RedisError> {
  /** Renews each for so many milliseconds; whether its owner still holds it. */
  readonly renew: (
    claims: ReadonlyArray<readonly [claim: Claim<unknown>, length: number]>
  ) => Effect.Effect<ReadonlyArray<Either.Either<boolean, E>>>
  /** Sets the time left of one. */
  readonly extend: (claim: Claim<unknown>, length: number) => Effect.Effect<boolean, E>
  /** Ends whatever the owner has to do with it; whether it was still held. */
  readonly release: (claim: Claim<unknown>) => Effect.Effect<boolean, E>
  /** The same for several, together. */
  readonly releaseAll: (
    claims: ReadonlyArray<Claim<unknown>>
  ) => Effect.Effect<ReadonlyArray<Either.Either<boolean, E>>>
  /** The same when nobody needs to know: it goes on until it is done, or makes no sense any more. */
  readonly abandon: (claim: Claim<unknown>) => Effect.Effect<void>
}

export interface Lease<out E = RedisError> {
  readonly claim: Claim<E>
  readonly leases: Leases
  readonly token: number
  /** Milliseconds from a renewal to the end. */
  length: number
  deadline: number
  /** `Infinity` when it is not renewed, or is being renewed now. */
  renewAt: number
  readonly renew: boolean
  /** How many times its holder has taken it. */
  depth: number
  /** Not given back yet. */
  active: boolean
  loss: Loss | undefined
  signal: Deferred.Deferred<Loss> | undefined
  /** What runs under its protection. */
  fibers: Set<Fiber.RuntimeFiber<unknown, unknown>> | undefined
  /** The loss interrupted something. */
  interrupted: boolean
}

export interface Leases {
  /** Names this process, that is one built layer, to the others. */
  readonly process: string
  /** Names one more owner of this process. */
  readonly nextOwner: () => string
  readonly isLease: (result: object) => result is Lease
  readonly now: () => number
  /** A number from 0 to 1, to spread what would otherwise happen at once. */
  readonly jitter: () => number
  /** Keeps a lease that was taken by a command sent at `sent`; `undefined` when it has ended already. */
  readonly add: <E>(
    claim: Claim<E>,
    token: number,
    length: number,
    renew: boolean,
    sent: number
  ) => Lease<E> | undefined
  /**
   * Whether it was still held. Nothing is sent as long as its holder has taken it more than once. It counts as given back
   * from the call on, whatever becomes of the effect.
   */
  readonly release: <E>(lease: Lease<E>) => Effect.Effect<boolean, E>
  /** The same for several of one authority, together. */
  readonly releaseAll: <E>(
    leases: ReadonlyArray<Lease<E>>
  ) => Effect.Effect<ReadonlyArray<Either.Either<boolean, E>>>
  /**
   * Makes sure that an owner neither holds a lock nor waits for it, whatever became of the commands it sent. It goes on
   * in the background when the server can't be reached.
   */
  readonly abandon: (claim: Claim<unknown>) => Effect.Effect<void>
  readonly extend: <E>(lease: Lease<E>, length: number) => Effect.Effect<Loss | undefined, E>
  readonly lossOf: (lease: Lease<unknown>) => Loss | undefined
  readonly awaitLoss: (lease: Lease<unknown>) => Effect.Effect<Loss>
  /** Interrupts a fiber when the lease is lost, until it is taken out of the lease's `fibers`. */
  readonly interruptOnLoss: (lease: Lease<unknown>, fiber: Fiber.RuntimeFiber<unknown, unknown>) => void
}

/** Clocks of two machines run at slightly different speeds, and a command has to travel. */
export const driftOf = (length: number): number => Math.min(length * 0.01 + 2, length / 2)

const HAND_BACK_LIMIT = "1 minute"

/** A kind of lock on one server: its script that renews, and how it is given back. */
export const onServer = <C extends Claim>(client: RedisClient.Service, kind: {
  readonly renewal: RedisScript.RedisScript<[claim: C, length: number], boolean>
  readonly release: RedisScript.RedisScript<[claim: C], boolean>
}): Authority => {
  // An authority is only asked about claims that name it.
  const own = (claim: Claim<unknown>): C => claim as C
  const together = (calls: ReadonlyArray<RedisScript.Call>) =>
    Effect.match(client.pipeline(calls), {
      onFailure: (error) => calls.map(() => Either.left(error)),
      onSuccess: (replies) => replies.map(Either.map((reply) => reply === 1))
    })
  const release = (claim: Claim<unknown>) => client.eval(kind.release, own(claim))
  return {
    renew: (claims) => together(claims.map(([claim, length]) => RedisScript.call(kind.renewal, own(claim), length))),
    extend: (claim, length) => client.eval(kind.renewal, own(claim), length),
    release,
    releaseAll: (claims) => together(claims.map((claim) => RedisScript.call(kind.release, own(claim)))),
    abandon: (claim) =>
      release(claim).pipe(
        Effect.retry({
          schedule: Schedule.spaced("200 millis").pipe(Schedule.upTo(HAND_BACK_LIMIT)),
          while: mayPass
        }),
        Effect.ignoreLogged
      )
  }
}

export const make: Effect.Effect<Leases, never, Scope.Scope> = Effect.gen(function*() {
  const { now, ringBy, run } = yield* Alarm.make(() => tick())
  const process = randomBytes(9).toString("base64url").replace(/[-_]/g, "0")
  let owners = 0
  const held = new Map<Claim<unknown>, Lease<unknown>>()

  let seed = yield* Random.nextIntBetween(1, 2 ** 31 - 1)
  // A multiplicative congruential generator is random enough to spread timers.
  const jitter = () => (seed = (seed * 48271) % 2147483647) / 2147483647

  const lose = (lease: Lease<unknown>, loss: Loss): void => {
    if (lease.loss !== undefined) return
    lease.loss = loss
    held.delete(lease.claim)
    locksLost.unsafeUpdate(1, [])
    if (lease.signal !== undefined) Deferred.unsafeDone(lease.signal, Effect.succeed(loss))
    for (const fiber of lease.fibers ?? []) {
      lease.interrupted = true
      fiber.unsafeInterruptAsFork(FiberId.none)
    }
    run(
      Effect.annotateLogs(Effect.logWarning(`lost the lock "${lease.claim.name}"`), {
        fencingToken: lease.token,
        reason: loss
      })
    )
  }

  /** At the first renewal or deadline of any lease. */
  const tick = (): void => {
    const time = now()
    const due: Array<Lease<unknown>> = []
    let next = Infinity
    for (const lease of held.values()) {
      if (time >= lease.deadline) {
        lose(lease, "expired")
        continue
      }
      if (time >= lease.renewAt) {
        lease.renewAt = Infinity
        due.push(lease)
      }
      next = Math.min(next, lease.deadline, lease.renewAt)
    }
    renew(due)
    if (next < Infinity) ringBy(next)
  }

  const renewed = (lease: Lease<unknown>, sent: number): void => {
    lease.deadline = sent + lease.length - driftOf(lease.length)
    planRenewal(lease, sent)
  }

  const planRenewal = (lease: Lease<unknown>, sent: number): void => {
    lease.renewAt = lease.renew ? sent + (lease.length / 3) * (0.9 + 0.2 * jitter()) : Infinity
  }

  const renewFrom = (
    authority: Authority<unknown>,
    due: ReadonlyArray<Lease<unknown>>
  ): Effect.Effect<void> =>
    Effect.suspend(() => {
      const sent = now()
      const asked = due.map((lease) => [lease.claim, lease.length] as const)
      return Effect.map(authority.renew(asked), (answers) => {
        due.forEach((lease, i) => {
          if (!held.has(lease.claim)) return
          const answer = answers[i]
          if (answer !== undefined && Either.isRight(answer)) {
            if (!answer.right) return lose(lease, "taken")
            if (lease.length === asked[i]?.[1]) renewed(lease, sent)
            // It was extended meanwhile. Should this renewal have come after that, another one puts it right.
            else lease.renewAt = now()
          } else {
            // Not a loss by itself: there is time until the deadline.
            lease.renewAt = now() + Math.min(1000, lease.length / 10) * (0.5 + jitter())
          }
          ringBy(Math.min(lease.renewAt, lease.deadline))
        })
      })
    })

  const renew = (due: ReadonlyArray<Lease<unknown>>): void => {
    const byAuthority = new Map<Authority<unknown>, Array<Lease<unknown>>>()
    for (const lease of due) {
      const others = byAuthority.get(lease.claim.authority)
      if (others === undefined) byAuthority.set(lease.claim.authority, [lease])
      else others.push(lease)
    }
    for (const [authority, leases] of byAuthority) run(renewFrom(authority, leases))
  }

  /** Takes one of the times back that a holder has taken it; whether it was the last. */
  const isLast = (lease: Lease<unknown>): boolean => {
    if (--lease.depth > 0) return false
    lease.active = false
    // From here on no renewal is sent, and the answer to one underway changes nothing.
    held.delete(lease.claim)
    return true
  }

  const self: Leases = {
    process,
    now,
    jitter,
    nextOwner: () => `${process}:${owners++}`,
    isLease: (result): result is Lease => "claim" in result,
    add: <E>(claim: Claim<E>, token: number, length: number, renew: boolean, sent: number) => {
      const deadline = sent + length - driftOf(length)
      if (now() >= deadline) return undefined
      const lease: Lease<E> = {
        claim,
        leases: self,
        token,
        length,
        deadline,
        renewAt: Infinity,
        renew,
        depth: 1,
        active: true,
        loss: undefined,
        signal: undefined,
        fibers: undefined,
        interrupted: false
      }
      planRenewal(lease, sent)
      held.set(claim, lease)
      ringBy(Math.min(lease.renewAt, deadline))
      return lease
    },
    release: (lease) =>
      isLast(lease) ? lease.claim.authority.release(lease.claim) : Effect.succeed(lease.loss === undefined),
    releaseAll: <E>(all: ReadonlyArray<Lease<E>>) => {
      const last = all.filter(isLast)
      const answersOf = (answers: ReadonlyArray<Either.Either<boolean, E>>) =>
        all.map((lease) => answers[last.indexOf(lease)] ?? Either.right(lease.loss === undefined))
      const [first] = last
      return first === undefined
        ? Effect.succeed(answersOf([]))
        : Effect.map(first.claim.authority.releaseAll(last.map(({ claim }) => claim)), answersOf)
    },
    abandon: (claim) =>
      Effect.suspend(() => {
        // It may have been taken a moment before its taker was interrupted.
        const lease = held.get(claim)
        if (lease !== undefined) lease.active = false
        held.delete(claim)
        const fiber = run(claim.authority.abandon(claim))
        // The caller is told of its own matter soon, also when the server is away.
        return Effect.asVoid(Effect.timeoutOption(Effect.interruptible(Fiber.await(fiber)), "500 millis"))
      }),
    extend: (lease, length) =>
      Effect.suspend(() => {
        const loss = self.lossOf(lease)
        if (loss !== undefined) return Effect.succeed(loss)
        if (!lease.active) return Effect.succeed<Loss>("taken")
        const sent = now()
        return Effect.map(lease.claim.authority.extend(lease.claim, length), (isHeld) => {
          if (!isHeld) {
            if (lease.active) lose(lease, "taken")
            return "taken"
          }
          lease.length = length
          renewed(lease, sent)
          if (lease.active) ringBy(Math.min(lease.renewAt, lease.deadline))
          return undefined
        })
      }),
    lossOf: (lease) => {
      // A process that was paused comes here before its timers.
      if (lease.loss === undefined && lease.active && now() >= lease.deadline) lose(lease, "expired")
      return lease.loss
    },
    awaitLoss: (lease) =>
      Effect.suspend(() => {
        const loss = self.lossOf(lease)
        return loss === undefined
          ? Deferred.await(lease.signal ??= Deferred.unsafeMake<Loss>(FiberId.none))
          : Effect.succeed(loss)
      }),
    interruptOnLoss: (lease, fiber) => {
      lease.fibers ??= new Set()
      lease.fibers.add(fiber)
      if (self.lossOf(lease) !== undefined && !lease.interrupted) {
        lease.interrupted = true
        fiber.unsafeInterruptAsFork(FiberId.none)
      }
    }
  }
  return self
})
