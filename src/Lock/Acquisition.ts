/**
 * How anything with a lease is taken, waited for and given back.
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Exit from "effect/Exit"
import * as Option from "effect/Option"
import * as Schedule from "effect/Schedule"
import * as Scope from "effect/Scope"
import { checkKey, nonNegativeMillis, positiveMillis } from "../internal/input.js"
import { lockAcquired, lockNotAcquired, lockWaitSeconds } from "../internal/metrics.js"
import type { RedisError, RedisInputError } from "../RedisError.js"
import * as Held from "./Held.js"
import type { Claim, Lease, Leases } from "./Leases.js"
import { type LockLost, LockNotAcquired } from "./LockError.js"
import type * as Waiters from "./Waiters.js"

/**
 * How a lock is taken.
 *
 * @since 0.1.0
 * @category models
 */
export interface Options {
  /**
   * How long the lock lives without a sign of life of its holder; 10 seconds by default. It is renewed every third of
   * it, so this bounds how long a crashed holder blocks the others, and not how long the work may take.
   */
  readonly lease?: Duration.DurationInput | undefined
  /**
   * How long to wait for the lock; 10 seconds by default. Zero asks once. `Infinity` waits for ever.
   */
  readonly waitTimeout?: Duration.DurationInput | undefined
  /**
   * Whether the lock goes to whoever waits longest; `true` by default. `false` lets a newcomer take a lock that has just
   * become free, which is cheaper under contention and promises no order.
   */
  readonly fair?: boolean | undefined
  /** Whether the lease is renewed while the lock is held; `true` by default. */
  readonly renew?: boolean | undefined
  /**
   * Asks again by this schedule instead of joining the queue and being notified, until the schedule ends or
   * `waitTimeout` has passed. For servers on which publishing is not allowed.
   */
  readonly retry?: Schedule.Schedule<unknown, LockNotAcquired> | undefined
}

export interface Settings {
  readonly lease: number
  /** Milliseconds; `Infinity` for ever. */
  readonly waitTimeout: number
  readonly fair: boolean
  readonly renew: boolean
  readonly retry: Schedule.Schedule<unknown, LockNotAcquired> | undefined
}

const defaults: Settings = {
  lease: 10_000,
  waitTimeout: 10_000,
  fair: true,
  renew: true,
  retry: undefined
}

export const settingsOf = (
  operation: string,
  name: string,
  options: Options | undefined
): Either.Either<Settings, RedisInputError> => {
  const bad = checkKey(operation, name, "name")
  if (bad !== undefined) return Either.left(bad)
  if (options === undefined) return Either.right(defaults)
  let { lease, waitTimeout } = defaults
  if (options.lease !== undefined) {
    const millis = positiveMillis(operation, "lease", options.lease)
    if (Either.isLeft(millis)) return Either.left(millis.left)
    lease = millis.right
  }
  if (options.waitTimeout !== undefined) {
    const duration = Duration.decodeUnknown(options.waitTimeout)
    if (Option.isSome(duration) && !Duration.isFinite(duration.value)) {
      waitTimeout = Infinity
    } else {
      const millis = nonNegativeMillis(operation, "waitTimeout", options.waitTimeout)
      if (Either.isLeft(millis)) return Either.left(millis.left)
      waitTimeout = millis.right
    }
  }
  return Either.right({
    lease,
    waitTimeout,
    fair: options.fair ?? true,
    renew: options.renew ?? true,
    retry: options.retry
  })
}

/** Something to take, and how it is asked for. */
export interface Candidate {
  readonly claim: Claim
  readonly settings: Settings
  /** Asks once; joins the queue when it is to wait. */
  readonly attempt: (wait: boolean) => Effect.Effect<Lease | Waiters.Busy, RedisError>
}

export interface Acquisition {
  /**
   * Takes it, or fails with nothing left behind. It must be run where nothing can be interrupted; `restore` marks the
   * steps that may be.
   */
  readonly take: (
    candidate: Candidate,
    restore: Held.Restore
  ) => Effect.Effect<Lease, LockNotAcquired | RedisError>
  /**
   * Whether it was still held. When the server can't say, the lease bounds how long it stays, and the work that is done
   * keeps its own result.
   */
  readonly giveBack: (lease: Lease) => Effect.Effect<boolean>
  /** What `enter` takes, until the scope closes. */
  readonly scoped: (
    enter: (restore: Held.Restore) => Effect.Effect<Lease, LockNotAcquired | RedisError>
  ) => Effect.Effect<Held.Held, LockNotAcquired | RedisError, Scope.Scope>
  /** Runs an effect under the protection of what `enter` takes. */
  readonly using: <A, E, R>(
    effect: Effect.Effect<A, E, R>,
    enter: (restore: Held.Restore) => Effect.Effect<Lease, LockNotAcquired | RedisError>
  ) => Effect.Effect<A, E | LockNotAcquired | LockLost | RedisError, R>
}

const notAcquired = (
  key: string,
  reason: LockNotAcquired["reason"],
  last: Waiters.Busy,
  waited: number
): LockNotAcquired =>
  new LockNotAcquired({
    key,
    reason,
    holder: Option.fromNullable(last.holder),
    remaining: last.remaining < 0 ? Option.none() : Option.some(Duration.millis(last.remaining)),
    waited: Duration.millis(waited)
  })

export const make = (leases: Leases, waiters: Waiters.Waiters): Acquisition => {
  const poll = (
    candidate: Candidate,
    schedule: Schedule.Schedule<unknown, LockNotAcquired>
  ): Effect.Effect<Waiters.Outcome, RedisError> =>
    Effect.flatMap(Schedule.driver(schedule), (driver) => {
      const timeout = candidate.settings.waitTimeout
      const start = leases.now()
      const attempt = Effect.suspend(() => candidate.attempt(false))
      const next: Effect.Effect<Waiters.Outcome, RedisError> = Effect.flatMap(attempt, (result) => {
        const waited = leases.now() - start
        if (leases.isLease(result)) return Effect.succeed({ _tag: "Taken", lease: result, waited })
        const ended: Waiters.Outcome = { _tag: "TimedOut", last: result, waited }
        if (waited >= timeout) return Effect.succeed(ended)
        const step = driver.next(notAcquired(candidate.claim.name, "held", result, waited))
        return Effect.matchEffect(
          timeout === Infinity ? step : Effect.timeoutOption(step, Duration.millis(timeout - waited)),
          { onFailure: () => Effect.succeed(ended), onSuccess: () => next }
        )
      })
      return next
    })

  const outcomeOf = (result: Lease | Waiters.Busy): Waiters.Outcome =>
    leases.isLease(result)
      ? { _tag: "Taken", lease: result, waited: 0 }
      : { _tag: "TimedOut", last: result, waited: 0 }

  const take: Acquisition["take"] = (candidate, restore) => {
    const { attempt, claim, settings } = candidate
    const taking = settings.retry !== undefined
      ? poll(candidate, settings.retry)
      : settings.waitTimeout === 0
      ? Effect.map(attempt(false), outcomeOf)
      : waiters.wait(claim.owner, settings.waitTimeout, () => attempt(true))
    return Effect.matchCauseEffect(restore(taking), {
      onSuccess: (outcome) => {
        waiters.leave(claim.owner)
        if (outcome._tag === "Taken") {
          lockAcquired.unsafeUpdate(1, [])
          lockWaitSeconds.unsafeUpdate(outcome.waited / 1000, [])
          return Effect.succeed(outcome.lease)
        }
        lockNotAcquired.unsafeUpdate(1, [])
        const { last, waited } = outcome
        const reason = settings.waitTimeout === 0 ? "held" : "timeout"
        const failure = Effect.fail(notAcquired(claim.name, reason, last, waited))
        // Who only asked for something that somebody else holds has left nothing behind.
        return settings.waitTimeout === 0 && !last.tooLate
          ? failure
          : Effect.zipRight(leases.abandon(claim), failure)
      },
      // Interrupted, or the reply got lost: the server may have given it to us.
      onFailure: (cause) => {
        waiters.leave(claim.owner)
        return Effect.zipRight(leases.abandon(claim), Effect.failCause(cause))
      }
    })
  }

  const giveBack: Acquisition["giveBack"] = (lease) =>
    Effect.catchAll(leases.release(lease), () => Effect.as(leases.abandon(lease.claim), true))

  return {
    take,
    giveBack,
    scoped: (enter) =>
      Effect.uninterruptibleMask((restore) =>
        Effect.flatMap(enter(restore), (lease) => {
          // A handle gives its share back once, however often it is asked to.
          let given = false
          const release = Effect.suspend(() => {
            if (given) return Effect.succeed(false)
            given = true
            return leases.release(lease)
          })
          return Effect.flatMap(Effect.scope, (scope) =>
            Effect.as(
              Scope.addFinalizer(scope, Effect.catchAll(release, () => leases.abandon(lease.claim))),
              Held.make(lease, release)
            ))
        })
      ),
    using: (effect, enter) =>
      Effect.uninterruptibleMask((restore) =>
        Effect.flatMap(enter(restore), (lease) =>
          Effect.matchCauseEffect(Held.protect([lease], effect, restore), {
            onFailure: (cause) => Effect.zipRight(giveBack(lease), Effect.failCause(cause)),
            onSuccess: (value) =>
              Effect.flatMap(
                giveBack(lease),
                (held) => held ? Exit.succeed(value) : Effect.fail(Held.lostError(lease, "taken"))
              )
          }))
      )
  }
}
