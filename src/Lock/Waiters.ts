/**
 * Those of one process who wait for locks, and the channel on which the process hears whose turn it is.
 *
 * Messages are `turn OWNER` (ask again: the lock is yours, or free) and `next OWNER MILLIS` (you are next: look again
 * after this time whether the one before you came). They only save time: whoever hears nothing asks again by itself.
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Queue from "effect/Queue"
import * as Scope from "effect/Scope"
import type { Gap, Message, Service as RedisClient } from "../RedisClient.js"
import type { RedisError } from "../RedisError.js"
import type { Lease, Leases } from "./Leases.js"
import * as scripts from "./scripts.js"

/** In how many milliseconds to ask again. */
type Signal = number

interface Waiter {
  /** What came while it was not listening. */
  heard: Signal | undefined
  resume: ((signal: Effect.Effect<Signal>) => void) | undefined
}

export interface Busy {
  readonly holder: string
  readonly remaining: number
}

export type Outcome =
  | { readonly _tag: "Taken"; readonly lease: Lease; readonly waited: number }
  | { readonly _tag: "TimedOut"; readonly last: Busy; readonly waited: number }

export interface Waiters {
  /**
   * Attempts until the lock is taken or the time is over. Failures of the connection are a reason to go on until then.
   * Whoever calls it says with `leave` when it is over, however it ended.
   */
  readonly wait: (
    owner: string,
    timeout: number,
    attempt: Effect.Effect<Lease | Busy, RedisError>
  ) => Effect.Effect<Outcome, RedisError>
  readonly leave: (owner: string) => void
}

/** How long nobody asks again without having heard anything, in milliseconds. */
const QUIET = 5000

/** How many messages may wait for the one fiber that reads them; it never waits itself. */
const CAPACITY = 65_536

export const isLease = (result: Lease | Busy): result is Lease => "leases" in result

export const make = (client: RedisClient, leases: Leases): Effect.Effect<Waiters, never, Scope.Scope> =>
  Effect.gen(function*() {
    const scope = yield* Effect.scope
    const waiters = new Map<string, Waiter>()
    const subscribing = Effect.unsafeMakeSemaphore(1)
    let subscribed = false

    const wake = (waiter: Waiter | undefined, signal: Signal): void => {
      if (waiter === undefined) return
      if (waiter.resume === undefined) waiter.heard = signal
      else waiter.resume(Effect.succeed(signal))
    }

    const onMessage = (message: Message | Gap): void => {
      if (message._tag === "Gap") {
        for (const waiter of waiters.values()) wake(waiter, 0)
        return
      }
      const [kind, owner, millis] = message.payload.split(" ")
      wake(waiters.get(owner!), kind === "next" ? Number(millis) : 0)
    }

    const subscribe = subscribing.withPermits(1)(
      Effect.suspend(() =>
        subscribed ?
          Effect.void :
          Scope.extend(client.subscribe({ channels: [scripts.CHANNEL + leases.process], capacity: CAPACITY }), scope)
            .pipe(
              Effect.flatMap((messages) =>
                Effect.forkIn(
                  Effect.interruptible(Effect.forever(Effect.map(Queue.take(messages), onMessage))),
                  scope
                )
              ),
              Effect.map(() => void (subscribed = true)),
              Effect.uninterruptible
            )
      )
    )

    /** Until it is time to ask again: because of a signal, or because there was none within so many milliseconds. */
    const listen = (waiter: Waiter, millis: number): Effect.Effect<void> => {
      const signal = Effect.async<Signal>((resume) => {
        if (waiter.heard !== undefined) return resume(Effect.succeed(waiter.heard))
        waiter.resume = resume
      })
      return Effect.flatMap(Effect.timeoutOption(signal, Duration.millis(millis)), (signal) => {
        waiter.resume = undefined
        waiter.heard = undefined
        return signal._tag === "None" || signal.value === 0
          ? Effect.void
          : listen(waiter, signal.value + 50 * leases.jitter())
      })
    }

    const wait: Waiters["wait"] = (owner, timeout, attempt) =>
      Effect.suspend(() => {
        const start = leases.now()
        const waiter: Waiter = { heard: undefined, resume: undefined }

        const again = (last: Busy | RedisError, delay: number): Effect.Effect<Outcome, RedisError> => {
          const left = start + timeout - leases.now()
          if (left > 0) return Effect.zipRight(listen(waiter, Math.min(left, delay)), next(last))
          return "holder" in last
            ? Effect.succeed({ _tag: "TimedOut", last, waited: leases.now() - start })
            : Effect.fail(last)
        }

        const next = (previous: Busy | RedisError | undefined): Effect.Effect<Outcome, RedisError> =>
          Effect.suspend(() => {
            if (previous !== undefined && leases.now() - start >= timeout) return again(previous, 0)
            // A signal that arrives while the attempt is underway belongs to the wait after it.
            waiter.heard = undefined
            return Effect.matchEffect(attempt, {
              onFailure: (error) =>
                error.isRetryable || error._tag === "RedisOutcomeUnknownError"
                  ? again(error, 100 + 100 * leases.jitter())
                  : Effect.fail(error),
              onSuccess: (result) => {
                if (isLease(result)) {
                  return Effect.succeed({ _tag: "Taken", lease: result, waited: leases.now() - start })
                }
                const remaining = result.remaining >= 0 ? result.remaining : QUIET
                return again(
                  result,
                  Math.min(remaining, QUIET) + 5 + 0.1 * Math.min(remaining, QUIET) * leases.jitter()
                )
              }
            })
          })

        waiters.set(owner, waiter)
        return subscribed ? next(undefined) : Effect.zipRight(subscribe, next(undefined))
      })

    return { wait, leave: (owner) => void waiters.delete(owner) }
  })
