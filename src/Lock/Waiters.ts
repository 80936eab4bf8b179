/**
 * Those of one process who wait for locks, and the channel on which the process hears whose turn it is.
 *
 * Messages are `turn OWNER` (ask again: the lock is yours, or free) and `next OWNER MILLIS` (you are next: look again
 * after this time whether the one before you came). They only save time: whoever hears nothing asks again by itself.
 */
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Queue from "effect/Queue"
import * as Scope from "effect/Scope"
import * as Alarm from "../internal/alarm.js"
import { mayPass } from "../internal/mayPass.js"
import type { Executor, Gap, Message, Service as RedisClient } from "../RedisClient.js"
import type { RedisError } from "../RedisError.js"
import type { Settings } from "./Acquisition.js"
import type { Claim, Lease, Leases } from "./Leases.js"
import * as scripts from "./scripts.js"

interface Waiter {
  readonly candidate: Candidate
  readonly executor: Executor
  readonly start: number
  readonly end: number
  /** Something came while it was not listening. */
  heard: boolean
  /** When it asks again by itself. */
  retryAt: number
  resume: ((woken: Effect.Effect<void>) => void) | undefined
}

/** The fencing token, or who has what was asked for and for how many milliseconds more. */
export type Answer = number | { readonly holder: string; readonly remaining: number }

/** Something to take, and how it is asked for. */
export interface Candidate {
  readonly claim: Claim
  readonly settings: Settings
  /** One of its keys, by which its server is found. */
  readonly key: string
  /** Asks once; joins the queue when it is to wait. */
  readonly ask: (executor: Executor, wait: boolean) => Effect.Effect<Answer, RedisError>
}

/** Why an attempt was in vain. */
export interface Busy {
  readonly holder: string | undefined
  /** Milliseconds; negative when it is not known. */
  readonly remaining: number
  /** It was granted, but the answer took longer than the lease. */
  readonly tooLate: boolean
}

/** Nothing is known of who holds it. */
export const NOBODY: Busy = { holder: undefined, remaining: -1, tooLate: false }

export type Outcome =
  | { readonly _tag: "Taken"; readonly lease: Lease; readonly waited: number }
  | { readonly _tag: "TimedOut"; readonly last: Busy; readonly waited: number }

export interface Waiters {
  /**
   * Asks until the lock is taken or the time is over. Failures of the connection are a reason to go on until then. The
   * waiter is there from the call on; whoever calls it says with `leave` when it is over, however it ended.
   */
  readonly wait: (candidate: Candidate, executor: Executor) => Effect.Effect<Outcome, RedisError>
  readonly leave: (owner: string) => void
}

/** What comes of an answer to a question sent at `sent`. One that took as long as the lease is worth nothing. */
export const accept = (
  leases: Leases,
  { claim, settings: { lease, renew } }: Candidate,
  answer: Answer,
  sent: number
): Lease | Busy =>
  typeof answer === "number"
    ? leases.add(claim, answer, lease, renew, sent) ??
      { holder: scripts.withoutWeight(claim.owner), remaining: 0, tooLate: true }
    : { holder: answer.holder, remaining: answer.remaining, tooLate: false }

/** How long nobody asks again without having heard anything, in milliseconds. */
const QUIET = 5000

/** How many messages may wait for the one fiber that reads them; it never waits itself. */
const CAPACITY = 65_536

export const make = (client: RedisClient, leases: Leases): Effect.Effect<Waiters, never, Scope.Scope> =>
  Effect.gen(function*() {
    const scope = yield* Effect.scope
    const waiters = new Map<string, Waiter>()
    const subscribing = Effect.unsafeMakeSemaphore(1)
    let subscribed = false

    const alarm = yield* Alarm.make(() => {
      const time = alarm.now()
      let next = Infinity
      for (const waiter of waiters.values()) {
        if (waiter.resume === undefined) continue
        if (time >= waiter.retryAt) wake(waiter)
        else next = Math.min(next, waiter.retryAt)
      }
      alarm.ringBy(next)
    })

    const wake = (waiter: Waiter): void => {
      const { resume } = waiter
      waiter.resume = undefined
      if (resume === undefined) waiter.heard = true
      else resume(Effect.void)
    }

    const onMessage = (message: Message | Gap): void => {
      if (message._tag === "Gap") return waiters.forEach(wake)
      const [kind, owner = "", millis] = message.payload.split(" ")
      const waiter = waiters.get(owner)
      if (waiter === undefined) return
      if (kind === "turn") return wake(waiter)
      waiter.retryAt = Math.min(waiter.retryAt, alarm.now() + Number(millis) + 50 * leases.jitter())
      alarm.ringBy(waiter.retryAt)
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

    /** Until it is time to ask again. */
    const listen = (waiter: Waiter, retryAt: number): Effect.Effect<void> =>
      Effect.async((resume) => {
        if (waiter.heard) return resume(Effect.void)
        waiter.resume = resume
        waiter.retryAt = retryAt
        alarm.ringBy(retryAt)
      })

    const again = (waiter: Waiter, last: Busy | RedisError, delay: number): Effect.Effect<Outcome, RedisError> => {
      const { end, start } = waiter
      const time = alarm.now()
      if (time < end) {
        return Effect.flatMap(
          listen(waiter, Math.min(end, time + delay)),
          () => alarm.now() < end || waiter.heard ? ask(waiter) : again(waiter, last, 0)
        )
      }
      return "tooLate" in last
        ? Effect.succeed({ _tag: "TimedOut", last, waited: time - start })
        : Effect.fail(last)
    }

    const ask = (waiter: Waiter): Effect.Effect<Outcome, RedisError> => {
      const { candidate, executor, start } = waiter
      // What arrives while the question is underway belongs to the wait after it.
      waiter.heard = false
      const sent = alarm.now()
      return Effect.matchEffect(candidate.ask(executor, true), {
        onFailure: (error) =>
          mayPass(error)
            ? again(waiter, error, 100 + 100 * leases.jitter())
            : Effect.fail(error),
        onSuccess: (answer) => {
          const result = accept(leases, candidate, answer, sent)
          if (leases.isLease(result)) {
            return Exit.succeed({ _tag: "Taken", lease: result, waited: alarm.now() - start })
          }
          const remaining = result.remaining >= 0 ? Math.min(result.remaining, QUIET) : QUIET
          return again(waiter, result, 5 + remaining * (1 + 0.1 * leases.jitter()))
        }
      })
    }

    const wait: Waiters["wait"] = (candidate, executor) => {
      const start = alarm.now()
      const end = start + candidate.settings.waitTimeout
      const waiter: Waiter = { candidate, executor, start, end, heard: false, retryAt: Infinity, resume: undefined }
      waiters.set(candidate.claim.owner, waiter)
      return subscribed ? ask(waiter) : Effect.flatMap(subscribe, () => ask(waiter))
    }

    return { wait, leave: (owner) => void waiters.delete(owner) }
  })
