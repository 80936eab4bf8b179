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
import { locksLost } from "../internal/metrics.js"
import type * as RedisClient from "../RedisClient.js"
import type { RedisError } from "../RedisError.js"
import * as RedisScript from "../RedisScript.js"
import * as scripts from "./scripts.js"

/** Why a lock counts as lost. */
export type Loss = "expired" | "taken"

/** What the server knows an owner of a lock by. */
export interface Claim {
  readonly keys: ReadonlyArray<string>
  readonly owner: string
  readonly fair: boolean
}

export interface Lease extends Claim {
  readonly leases: Leases
  readonly name: string
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
  readonly now: () => number
  /** A number from 0 to 1, to spread what would otherwise happen at once. */
  readonly jitter: () => number
  /** Keeps a lease that was taken by a command sent at `sent`; `undefined` when it has ended already. */
  readonly add: (
    claim: Claim,
    name: string,
    token: number,
    length: number,
    renew: boolean,
    sent: number
  ) => Lease | undefined
  /** Whether it was still held. Nothing is sent as long as its holder has taken it more than once. */
  readonly release: (lease: Lease) => Effect.Effect<boolean, RedisError>
  /**
   * Makes sure that an owner neither holds a lock nor waits for it, whatever became of the commands it sent. It goes on
   * in the background when the server can't be reached.
   */
  readonly abandon: (claim: Claim) => Effect.Effect<void>
  readonly extend: (lease: Lease, length: number) => Effect.Effect<Loss | undefined, RedisError>
  readonly lossOf: (lease: Lease) => Loss | undefined
  readonly awaitLoss: (lease: Lease) => Effect.Effect<Loss>
  /** Interrupts a fiber when the lease is lost; returns how to stop that. */
  readonly interruptOnLoss: (lease: Lease, fiber: Fiber.RuntimeFiber<unknown, unknown>) => () => void
}

/** Clocks of two machines run at slightly different speeds, and a command has to travel. */
const driftOf = (length: number): number => Math.min(length * 0.01 + 2, length / 2)

const HAND_BACK_LIMIT = "1 minute"

export const make = (client: RedisClient.Service): Effect.Effect<Leases, never, Scope.Scope> =>
  Effect.gen(function*() {
    const { now, ringBy, run } = yield* Alarm.make(() => tick())
    const process = randomBytes(9).toString("base64url").replace(/[-_]/g, "0")
    const channel = client.key(scripts.CHANNEL)
    const held = new Set<Lease>()

    let seed = yield* Random.nextIntBetween(1, 2 ** 31 - 1)
    // A multiplicative congruential generator is random enough to spread timers.
    const jitter = () => (seed = (seed * 48271) % 2147483647) / 2147483647

    const lose = (lease: Lease, loss: Loss): void => {
      if (lease.loss !== undefined) return
      lease.loss = loss
      held.delete(lease)
      locksLost.unsafeUpdate(1, [])
      if (lease.signal !== undefined) Deferred.unsafeDone(lease.signal, Effect.succeed(loss))
      for (const fiber of lease.fibers ?? []) {
        lease.interrupted = true
        fiber.unsafeInterruptAsFork(FiberId.none)
      }
      run(
        Effect.annotateLogs(Effect.logWarning(`lost the lock "${lease.name}"`), {
          fencingToken: lease.token,
          reason: loss
        })
      )
    }

    /** At the first renewal or deadline of any lease. */
    const tick = (): void => {
      const time = now()
      const due: Array<Lease> = []
      let next = Infinity
      for (const lease of held) {
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
      if (due.length > 0) run(renew(due))
      if (next < Infinity) ringBy(next)
    }

    const renewed = (lease: Lease, sent: number): void => {
      lease.deadline = sent + lease.length - driftOf(lease.length)
      planRenewal(lease, sent)
    }

    const planRenewal = (lease: Lease, sent: number): void => {
      lease.renewAt = lease.renew ? sent + (lease.length / 3) * (0.9 + 0.2 * jitter()) : Infinity
    }

    const renew = (due: ReadonlyArray<Lease>): Effect.Effect<void> =>
      Effect.suspend(() => {
        const sent = now()
        const lengths = due.map((lease) => lease.length)
        return Effect.map(
          Effect.either(
            client.pipeline(due.map((lease) => RedisScript.call(scripts.extend, lease.keys, lease.owner, lease.length)))
          ),
          (result) => {
            due.forEach((lease, i) => {
              if (!held.has(lease)) return
              const reply = Either.isRight(result) ? result.right[i] : undefined
              if (reply !== undefined && Either.isRight(reply)) {
                if (reply.right !== 1) return lose(lease, "taken")
                // An extension that was sent after this renewal says more than it does.
                if (lease.length === lengths[i]) renewed(lease, sent)
                else planRenewal(lease, sent)
              } else {
                // Not a loss by itself: there is time until the deadline.
                lease.renewAt = now() + Math.min(1000, lease.length / 10) * (0.5 + jitter())
              }
              ringBy(Math.min(lease.renewAt, lease.deadline))
            })
          }
        )
      })

    const sendRelease = ({ fair, keys, owner }: Claim) =>
      client.eval(scripts.release, keys, owner, scripts.CLAIM, fair, channel)

    const self: Leases = {
      process,
      now,
      jitter,
      add: ({ fair, keys, owner }, name, token, length, renew, sent) => {
        const deadline = sent + length - driftOf(length)
        if (now() >= deadline) return undefined
        const lease: Lease = {
          leases: self,
          name,
          keys,
          owner,
          fair,
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
        held.add(lease)
        ringBy(Math.min(lease.renewAt, deadline))
        return lease
      },
      release: (lease) =>
        Effect.suspend(() => {
          if (--lease.depth > 0) return Effect.succeed(lease.loss === undefined)
          lease.active = false
          // From here on no renewal is sent, and the answer to one underway changes nothing.
          held.delete(lease)
          return sendRelease(lease)
        }),
      abandon: (claim) =>
        Effect.suspend(() => {
          const fiber = run(
            sendRelease(claim).pipe(
              Effect.retry({
                schedule: Schedule.spaced("200 millis").pipe(Schedule.upTo(HAND_BACK_LIMIT)),
                while: (error) => error.isRetryable || error._tag === "RedisOutcomeUnknownError"
              }),
              Effect.ignoreLogged
            )
          )
          // The caller is told of its own matter soon, also when the server is away.
          return Effect.asVoid(Effect.timeoutOption(Effect.interruptible(Fiber.await(fiber)), "500 millis"))
        }),
      extend: (lease, length) =>
        Effect.suspend(() => {
          const loss = self.lossOf(lease)
          if (loss !== undefined) return Effect.succeed(loss)
          if (!lease.active) return Effect.succeed<Loss>("taken")
          const sent = now()
          return Effect.map(client.eval(scripts.extend, lease.keys, lease.owner, length), (isHeld) => {
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
        const fibers = lease.fibers ??= new Set()
        fibers.add(fiber)
        if (self.lossOf(lease) !== undefined && !lease.interrupted) {
          lease.interrupted = true
          fiber.unsafeInterruptAsFork(FiberId.none)
        }
        return () => void fibers.delete(fiber)
      }
    }
    return self
  })
