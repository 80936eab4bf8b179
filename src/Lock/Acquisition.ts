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
import { checkKey, inputError, nonNegativeMillis, positiveMillis } from "../internal/input.js"
import { lockAcquired, lockNotAcquired, lockWaitSeconds } from "../internal/metrics.js"
import type { Connection, Executor, Service as Client } from "../RedisClient.js"
import type { RedisError, RedisInputError } from "../RedisError.js"
import * as Held from "./Held.js"
import type { Lease, Leases } from "./Leases.js"
import { type LockLost, LockNotAcquired } from "./LockError.js"
import * as Waiters from "./Waiters.js"

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
  /**
   * How many replicas must have the lock before it counts as taken; none by default. With fewer within `replicaTimeout`
   * it is given back, and the failure is `LockNotAcquired`. This makes it less likely that a failover loses the lock, and
   * costs a connection for each acquisition, because the server waits on it.
   */
  readonly minReplicas?: number | undefined
  /** How long to wait for the replicas; 1 second by default. */
  readonly replicaTimeout?: Duration.DurationInput | undefined
}

export interface Settings {
  readonly lease: number
  /** Milliseconds; `Infinity` for ever. */
  readonly waitTimeout: number
  readonly fair: boolean
  readonly renew: boolean
  readonly retry: Schedule.Schedule<unknown, LockNotAcquired> | undefined
  readonly minReplicas: number
  readonly replicaTimeout: number
}

const defaults: Settings = {
  lease: 10_000,
  waitTimeout: 10_000,
  fair: true,
  renew: true,
  retry: undefined,
  minReplicas: 0,
  replicaTimeout: 1000
}

export const settingsOf = (
  operation: string,
  name: string,
  options: Options | undefined
): Either.Either<Settings, RedisInputError> => {
  const bad = checkKey(operation, name, "name")
  if (bad !== undefined) return Either.left(bad)
  if (options === undefined) return Either.right(defaults)
  let { lease, minReplicas, replicaTimeout, waitTimeout } = defaults
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
  if (options.minReplicas !== undefined) {
    minReplicas = options.minReplicas
    if (!Number.isSafeInteger(minReplicas) || minReplicas < 0) {
      return Either.left(inputError(operation, "minReplicas", "a whole number of zero or more", minReplicas))
    }
  }
  if (options.replicaTimeout !== undefined) {
    const millis = positiveMillis(operation, "replicaTimeout", options.replicaTimeout)
    if (Either.isLeft(millis)) return Either.left(millis.left)
    replicaTimeout = millis.right
  }
  return Either.right({
    minReplicas,
    replicaTimeout,
    lease,
    waitTimeout,
    fair: options.fair ?? true,
    renew: options.renew ?? true,
    retry: options.retry
  })
}

export interface Acquisition extends Handing {
  /**
   * Takes it, or fails with nothing left behind. It must be run where nothing can be interrupted; `restore` marks the
   * steps that may be.
   */
  readonly take: (
    candidate: Waiters.Candidate,
    restore: Held.Restore
  ) => Effect.Effect<readonly [Lease], LockNotAcquired | RedisError>
}

/** How what was taken is handed to its user, and taken back. */
export interface Handing {
  /** What `enter` takes, until the scope closes; `make` gets how to release it before. */
  readonly scoped: <L extends ReadonlyArray<Lease<E>>, H, E, F>(
    enter: Enter<L & ReadonlyArray<Lease<E>>, F>,
    make: (held: L, release: Effect.Effect<boolean, E>) => H
  ) => Effect.Effect<H, F, Scope.Scope>
  /** Runs an effect under the protection of what `enter` takes. */
  readonly using: <A, E, R, F>(
    effect: Effect.Effect<A, E, R>,
    enter: Enter<ReadonlyArray<Lease<unknown>>, F>
  ) => Effect.Effect<A, E | F | LockLost, R>
}

/** Takes all that it returns, or nothing; it is run where nothing can be interrupted. */
export type Enter<L extends ReadonlyArray<Lease<unknown>>, F = LockNotAcquired | RedisError> = (
  restore: Held.Restore
) => Effect.Effect<L, F>

export const notAcquired = (
  key: string,
  reason: LockNotAcquired["reason"],
  last: Waiters.Busy,
  waited: number,
  acknowledged: Option.Option<number> = Option.none()
): LockNotAcquired =>
  new LockNotAcquired({
    key,
    reason,
    holder: Option.fromNullable(last.holder),
    remaining: last.remaining < 0 ? Option.none() : Option.some(Duration.millis(last.remaining)),
    waited: Duration.millis(waited),
    acknowledged
  })

type Outcome =
  | Waiters.Outcome
  /** It was taken, but too few replicas know. */
  | { readonly _tag: "Unreplicated"; readonly acknowledged: number; readonly waited: number }

const allTrue = (answers: ReadonlyArray<boolean>): boolean => answers.every(Boolean)

export const handing = (leases: Leases): Handing => {
  const abandonAll = (held: ReadonlyArray<Lease<unknown>>): Effect.Effect<void> =>
    Effect.forEach(held, ({ claim }) => leases.abandon(claim), { discard: true })

  /** Gives several back; the first one that was not held any more. */
  const giveBackAll = (held: ReadonlyArray<Lease<unknown>>): Effect.Effect<Lease<unknown> | undefined> =>
    Effect.flatMap(leases.releaseAll(held), (answers) => {
      const lost = held.find((_, i) => Either.isRight(answers[i]!) && !answers[i].right)
      return Effect.as(abandonAll(held.filter((_, i) => Either.isLeft(answers[i]!))), lost)
    })

  /**
   * What follows is told whether it was still held. When the server can't say, the lease bounds how long it stays, and the
   * work that is done keeps its own result.
   */
  const giveBack = <E, A, F>(
    lease: Lease<E>,
    end: (isHeld: boolean) => Effect.Effect<A, F>
  ): Effect.Effect<A, F> =>
    Effect.matchEffect(leases.release(lease), {
      onFailure: () => Effect.zipRight(leases.abandon(lease.claim), end(true)),
      onSuccess: end
    })

  /** How the work ended, unless that is not known for sure. */
  const endWith = <A, E>(
    held: ReadonlyArray<Lease<unknown>>,
    exit: Exit.Exit<A, E>
  ): Effect.Effect<A, E | LockLost> => {
    const end = (lost: Lease<unknown> | undefined): Effect.Effect<A, E | LockLost> =>
      lost === undefined || Exit.isFailure(exit) ? exit : Exit.fail(Held.lostError(lost, "taken"))
    return held.length === 1
      ? giveBack(held[0]!, (isHeld) => end(isHeld ? undefined : held[0]))
      : Effect.flatMap(giveBackAll(held), end)
  }

  return {
    scoped: (enter, make) =>
      Effect.uninterruptibleMask((restore) =>
        Effect.flatMap(enter(restore), (held) => {
          // A handle gives its share back once, however often it is asked to.
          let given = false
          const release = Effect.suspend(() => {
            if (given) return Effect.succeed(false)
            given = true
            return held.length === 1
              ? leases.release(held[0]!)
              : Effect.flatMap(leases.releaseAll(held), (answers) => Effect.map(Effect.all(answers), allTrue))
          })
          const finalizer = Effect.catchAll(release, () => abandonAll(held))
          return Effect.flatMap(
            Effect.scope,
            (scope) => Effect.as(Scope.addFinalizer(scope, finalizer), make(held, release))
          )
        })
      ),
    using: (effect, enter) =>
      Effect.uninterruptibleMask((restore) =>
        Effect.flatMap(enter(restore), (held) => Held.protect(held, effect, restore, (exit) => endWith(held, exit)))
      )
  }
}

export const make = (client: Client, leases: Leases, waiters: Waiters.Waiters): Acquisition => {
  const once = (candidate: Waiters.Candidate, executor: Executor): Effect.Effect<Lease | Waiters.Busy, RedisError> => {
    const sent = leases.now()
    return Effect.map(candidate.ask(executor, false), (answer) => Waiters.accept(leases, candidate, answer, sent))
  }

  const poll = (
    candidate: Waiters.Candidate,
    executor: Executor,
    schedule: Schedule.Schedule<unknown, LockNotAcquired>
  ): Effect.Effect<Waiters.Outcome, RedisError> =>
    Effect.flatMap(Schedule.driver(schedule), (driver) => {
      const timeout = candidate.settings.waitTimeout
      const start = leases.now()
      const attempt = Effect.suspend(() => once(candidate, executor))
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

  const outcomeWith = (
    candidate: Waiters.Candidate,
    executor: Executor
  ): Effect.Effect<Waiters.Outcome, RedisError> => {
    const { settings } = candidate
    return settings.retry !== undefined
      ? poll(candidate, executor, settings.retry)
      : settings.waitTimeout === 0
      ? Effect.map(once(candidate, executor), outcomeOf)
      : waiters.wait(candidate, executor)
  }

  /** `WAIT` is about the writes of its own connection, and holds up all others on it. */
  const replicated = (candidate: Waiters.Candidate): Effect.Effect<Outcome, RedisError> =>
    Effect.scoped(
      Effect.flatMap(client.reserve({ key: candidate.key }), (connection: Connection) =>
        Effect.flatMap(outcomeWith(candidate, connection), (outcome): Effect.Effect<Outcome, RedisError> => {
          if (outcome._tag !== "Taken") {
            return Effect.succeed(outcome)
          }
          const { minReplicas, replicaTimeout } = candidate.settings
          return Effect.map(
            connection.sendBlocking("WAIT", [minReplicas, replicaTimeout], () =>
              Effect.void),
            (acknowledged) =>
              Number(acknowledged) >= minReplicas
                ? outcome
                : { _tag: "Unreplicated", acknowledged: Number(acknowledged), waited: outcome.waited }
          )
        }))
    )

  const take: Acquisition["take"] = (candidate, restore) => {
    const { claim, settings } = candidate
    const taking: Effect.Effect<Outcome, RedisError> = settings.minReplicas > 0
      ? replicated(candidate)
      : outcomeWith(candidate, client)
    return Effect.matchCauseEffect(restore(taking), {
      onSuccess: (outcome) => {
        waiters.leave(claim.owner)
        if (outcome._tag === "Taken") {
          lockAcquired.unsafeUpdate(1, [])
          lockWaitSeconds.unsafeUpdate(outcome.waited / 1000, [])
          return Exit.succeed([outcome.lease])
        }
        lockNotAcquired.unsafeUpdate(1, [])
        if (outcome._tag === "Unreplicated") {
          const { acknowledged, waited } = outcome
          return Effect.zipRight(
            leases.abandon(claim),
            Effect.fail(notAcquired(claim.name, "replicas", Waiters.NOBODY, waited, Option.some(acknowledged)))
          )
        }
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

  return { take, ...handing(leases) }
}
