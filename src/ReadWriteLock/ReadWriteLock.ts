/**
 * Read-write locks over Redis: many readers at a time or one writer, in order of arrival, each with a lease of its own.
 *
 * @since 0.1.0
 */
import * as Context from "effect/Context"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Exit from "effect/Exit"
import type * as Fiber from "effect/Fiber"
import { dual } from "effect/Function"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import type * as Scope from "effect/Scope"
import { checkKey } from "../internal/input.js"
import { withSpan } from "../internal/telemetry.js"
import { type Enter, type Settings, settingsOf } from "../Lock/Acquisition.js"
import { findInside, type Held, make as makeHeld } from "../Lock/Held.js"
import type { Lease } from "../Lock/Leases.js"
import type { LockLost, LockNotAcquired } from "../Lock/LockError.js"
import { layer as processLayer, LockProcess, make as makeProcess } from "../Lock/LockProcess.js"
import * as Permits from "../Lock/Permits.js"
import type { RedisClient } from "../RedisClient.js"
import type { RedisError } from "../RedisError.js"
import { layer as testServer, type RedisTestServer } from "../RedisTestServer.js"

// ---------------------------------------------------------------------------------------------------------------------
// Models
// ---------------------------------------------------------------------------------------------------------------------

export type { Held } from "../Lock/Held.js"

export type { Options } from "../Lock/Permits.js"

/**
 * A write lock that is held.
 *
 * @since 0.1.0
 * @category models
 */
export interface WriteHeld extends Held {
  /**
   * Makes it a read lock with nobody in between; readers who wait next in line come in. Its lease begins anew, and its
   * fencing token stays. As long as the write lock is also held by what it runs inside of, that one decides: the lock
   * stays a write lock.
   */
  readonly downgrade: Effect.Effect<void, LockLost | RedisError>
}

/**
 * Who holds a read-write lock.
 *
 * @since 0.1.0
 * @category models
 */
export interface Holder {
  /** The process (one built layer) and the number of the attempt that took the lock. */
  readonly holder: string
  readonly fencingToken: number
  readonly remaining: Duration.Duration
}

/**
 * What is known about a read-write lock: a writer, or readers, or nobody.
 *
 * @since 0.1.0
 * @category models
 */
export interface ReadWriteLockInfo {
  readonly writer: Option.Option<Holder>
  /** By the end of their leases. */
  readonly readers: ReadonlyArray<Holder>
  readonly waiters: number
}

type Asking = Omit<Permits.Options, "waitTimeout" | "retry">

/**
 * @since 0.1.0
 * @category models
 */
export interface Service {
  /** Takes the lock for reading, until the scope closes. Interrupting it at any point leaves nothing behind. */
  readonly acquireRead: (
    name: string,
    options?: Permits.Options
  ) => Effect.Effect<Held, LockNotAcquired | RedisError, Scope.Scope>
  /** Takes the lock for writing, until the scope closes. Interrupting it at any point leaves nothing behind. */
  readonly acquireWrite: (
    name: string,
    options?: Permits.Options
  ) => Effect.Effect<WriteHeld, LockNotAcquired | LockUpgradeRefused | RedisError, Scope.Scope>
  /** Takes the lock for reading if it can be had at this moment. */
  readonly tryAcquireRead: (
    name: string,
    options?: Asking
  ) => Effect.Effect<Option.Option<Held>, RedisError, Scope.Scope>
  /** Takes the lock for writing if it can be had at this moment. */
  readonly tryAcquireWrite: (
    name: string,
    options?: Asking
  ) => Effect.Effect<Option.Option<WriteHeld>, LockUpgradeRefused | RedisError, Scope.Scope>
  /**
   * Runs an effect while holding the lock for reading. See `withReadLock`.
   */
  readonly withReadLock: <A, E, R>(
    effect: Effect.Effect<A, E, R>,
    name: string,
    options?: Permits.Options
  ) => Effect.Effect<A, E | LockNotAcquired | LockLost | RedisError, R>
  /**
   * Runs an effect while holding the lock for writing. See `withWriteLock`.
   */
  readonly withWriteLock: <A, E, R>(
    effect: Effect.Effect<A, E, R>,
    name: string,
    options?: Permits.Options
  ) => Effect.Effect<A, E | LockNotAcquired | LockUpgradeRefused | LockLost | RedisError, R>
  /**
   * The fencing token of the lock of this name that the effect runs inside of, for reading or for writing; `None`
   * outside.
   */
  readonly fencingToken: (name: string) => Effect.Effect<Option.Option<number>>
  /** Who holds the lock, and how many wait. */
  readonly inspect: (name: string) => Effect.Effect<ReadWriteLockInfo, RedisError>
  /**
   * Takes the lock away from whoever holds it, for operators. The holders learn of it with their next renewal, their next
   * use, or when they give the lock back. Returns whether anybody held it.
   */
  readonly forceRelease: (name: string) => Effect.Effect<boolean, RedisError>
}

/**
 * @since 0.1.0
 * @category tags
 */
export class ReadWriteLock extends Context.Tag("effect-redis-kit/ReadWriteLock")<ReadWriteLock, Service>() {}

// ---------------------------------------------------------------------------------------------------------------------
// Errors
// ---------------------------------------------------------------------------------------------------------------------

export { LockLost, LockNotAcquired } from "../Lock/LockError.js"

/**
 * The write lock was asked for inside of the read lock of the same name. It would have to wait until all readers are
 * gone, of whom the caller is one.
 *
 * @since 0.1.0
 * @category errors
 */
export class LockUpgradeRefused extends Schema.TaggedError<LockUpgradeRefused>(
  "effect-redis-kit/ReadWriteLock/LockUpgradeRefused"
)("LockUpgradeRefused", { key: Schema.String }) {
  /** @since 0.1.0 */
  override get message(): string {
    return `the write lock "${this.key}" can't be taken inside of its read lock: it would wait for itself`
  }
}

// ---------------------------------------------------------------------------------------------------------------------
// Constructors
// ---------------------------------------------------------------------------------------------------------------------

/** A reader holds one permit, and a writer all that there are. */
const READER = 1
const ALL = 1_000_000_000

interface Claim extends Permits.Claim {
  /** How many times its holder has taken it for writing. */
  writes: number
}

/** One of the times that somebody has taken the lock for writing. */
interface Share {
  readonly enter: Enter<readonly [Lease], LockNotAcquired | LockUpgradeRefused | RedisError>
  /** It does not count any more. */
  readonly end: Effect.Effect<void>
}

const attributes = (name: string) => ({ "effect_redis.lock.name": name })

const makeShared: Effect.Effect<Service, never, LockProcess> = Effect.gen(function*() {
  const shared = yield* LockProcess
  const { acquisition, leases } = shared
  const permits = Permits.make("rwlock", shared)

  // Every claim of this authority is made here.
  const claimOf = (lease: Lease): Claim => lease.claim as Claim

  const find = (fiber: Fiber.RuntimeFiber<unknown, unknown>, name: string): Lease | undefined =>
    findInside(fiber, leases, ({ claim }) => claim.name === name && permits.isOwn(claim))

  const take = (name: string, weight: number, settings: Settings): Enter<readonly [Lease]> => (restore) => {
    const claim: Claim = { ...permits.claim(name, weight, ALL, settings), writes: 0 }
    return permits.take(claim, settings)(restore)
  }

  /** Inside of the lock, for reading or writing, the same once more; and else the lock. */
  const enterRead = (name: string, settings: Settings): Enter<readonly [Lease]> => (restore) =>
    Effect.withFiberRuntime((fiber) => {
      const lease = find(fiber, name)
      if (lease === undefined) return take(name, READER, settings)(restore)
      lease.depth++
      return Exit.succeed([lease])
    })

  const writing = (name: string, settings: Settings): Share => {
    let claim: Claim | undefined
    const begin = (lease: Lease): readonly [Lease] => {
      claim = claimOf(lease)
      claim.writes++
      return [lease]
    }
    return {
      enter: (restore) =>
        Effect.withFiberRuntime((fiber): ReturnType<Share["enter"]> => {
          const lease = find(fiber, name)
          if (lease === undefined) return Effect.map(take(name, ALL, settings)(restore), ([lease]) => begin(lease))
          if (claimOf(lease).weight < ALL) return Effect.fail(new LockUpgradeRefused({ key: name }))
          lease.depth++
          return Effect.succeed(begin(lease))
        }),
      end: Effect.sync(() => {
        if (claim !== undefined) claim.writes--
        claim = undefined
      })
    }
  }

  const makeWriteHeld = (
    lease: Lease,
    release: Effect.Effect<boolean, RedisError>,
    end: Effect.Effect<void>
  ): WriteHeld => {
    const held = makeHeld(lease, release)
    return {
      ...held,
      release: Effect.ensuring(release, end),
      downgrade: Effect.zipRight(
        end,
        Effect.suspend(() => {
          const claim = claimOf(lease)
          if (claim.writes > 0) return Effect.void
          // From here on it is one for this process; the server learns of it with this command, or else with a renewal.
          claim.weight = READER
          return held.extend(lease.length)
        })
      )
    }
  }

  const readScoped = (name: string, settings: Settings) =>
    acquisition.scoped(enterRead(name, settings), ([lease], release) => makeHeld(lease, release))

  const writeScoped = (name: string, settings: Settings) =>
    Effect.uninterruptibleMask((restore) => {
      const { end, enter } = writing(name, settings)
      return Effect.zipLeft(
        acquisition.scoped(() => enter(restore), ([lease], release) => makeWriteHeld(lease, release, end)),
        Effect.addFinalizer(() => end)
      )
    })

  /** An operation on a name, with its options checked and a span around it. */
  const operation = <A, E, R>(
    method: string,
    name: string,
    options: Permits.Options | undefined,
    run: (settings: Settings) => Effect.Effect<A, E, R>
  ): Effect.Effect<A, E | RedisError, R> => {
    const settings = settingsOf(`ReadWriteLock.${method}`, name, options)
    return Either.isLeft(settings)
      ? Effect.fail(settings.left)
      : withSpan(run(settings.right), `rwlock.${method}`, () => attributes(name))
  }

  const checked = <A>(
    method: string,
    name: string,
    run: Effect.Effect<A, RedisError>
  ): Effect.Effect<A, RedisError> => {
    const bad = checkKey(`ReadWriteLock.${method}`, name, "name")
    return bad === undefined ? run : Effect.fail(bad)
  }

  return {
    acquireRead: (name, options) => operation("acquireRead", name, options, (settings) => readScoped(name, settings)),
    acquireWrite: (name, options) =>
      operation("acquireWrite", name, options, (settings) => writeScoped(name, settings)),
    tryAcquireRead: (name, options) =>
      operation(
        "tryAcquireRead",
        name,
        { ...options, waitTimeout: 0 },
        (settings) =>
          Effect.catchTag(Effect.asSome(readScoped(name, settings)), "LockNotAcquired", () => Effect.succeedNone)
      ),
    tryAcquireWrite: (name, options) =>
      operation(
        "tryAcquireWrite",
        name,
        { ...options, waitTimeout: 0 },
        (settings) =>
          Effect.catchTag(Effect.asSome(writeScoped(name, settings)), "LockNotAcquired", () => Effect.succeedNone)
      ),
    withReadLock: (effect, name, options) =>
      operation("withReadLock", name, options, (settings) => acquisition.using(effect, enterRead(name, settings))),
    withWriteLock: (effect, name, options) =>
      operation("withWriteLock", name, options, (settings) =>
        Effect.suspend(() => {
          const { end, enter } = writing(name, settings)
          return Effect.ensuring(acquisition.using(effect, enter), end)
        })),
    fencingToken: (name) =>
      Effect.withFiberRuntime((fiber) =>
        Exit.succeed(Option.map(Option.fromNullable(find(fiber, name)), ({ token }) => token))
      ),
    inspect: (name) =>
      checked(
        "inspect",
        name,
        Effect.map(permits.inspect(name), ({ holders, waiters }) => {
          const show = ({ fencingToken, owner, remaining }: Permits.Holder): Holder => ({
            holder: owner,
            fencingToken,
            remaining
          })
          const writer = holders.find(({ weight }) => weight === ALL)
          return {
            writer: Option.map(Option.fromNullable(writer), show),
            readers: holders.filter(({ weight }) => weight < ALL).map(show),
            waiters
          }
        })
      ),
    forceRelease: (name) =>
      checked("forceRelease", name, Effect.map(permits.forceRelease(name, ALL), (held) => held > 0))
  }
})

/**
 * Read-write locks over the client of the environment. What is shared by the locks of one process, the channel on which
 * it is notified and the renewal of its leases, belongs to the scope.
 *
 * @since 0.1.0
 * @category constructors
 */
export const make: Effect.Effect<Service, never, RedisClient | Scope.Scope> = Effect.flatMap(
  makeProcess,
  (shared) => Effect.provideService(makeShared, LockProcess, shared)
)

// ---------------------------------------------------------------------------------------------------------------------
// Layers
// ---------------------------------------------------------------------------------------------------------------------

/**
 * @since 0.1.0
 * @category layers
 */
export const layer: Layer.Layer<ReadWriteLock, never, RedisClient> = Layer.provide(
  Layer.effect(ReadWriteLock, makeShared),
  processLayer
)

/**
 * Read-write locks on a server in memory, with the server and its client beside it.
 *
 * @since 0.1.0
 * @category layers
 */
export const layerTest: Layer.Layer<ReadWriteLock | RedisClient | RedisTestServer> = Layer.provideMerge(
  layer,
  testServer
)

// ---------------------------------------------------------------------------------------------------------------------
// Combinators
// ---------------------------------------------------------------------------------------------------------------------

/**
 * Runs an effect while holding a lock for reading: others may read at the same time, and nobody writes.
 *
 * The effect's own value and failures are kept. It fails with `LockNotAcquired` when the lock can't be had for all of
 * `waitTimeout`, and with `LockLost` when it is lost underway: the effect is then interrupted, and the failure is reported
 * when it has stopped. Inside of it the lock can be taken for reading again without waiting, also while a writer waits;
 * to take it for writing is refused.
 *
 * @example
 * ```ts
 * import { Effect } from "effect"
 * import { ReadWriteLock } from "effect-redis-kit"
 *
 * declare const render: Effect.Effect<string>
 *
 * const program = render.pipe(ReadWriteLock.withReadLock("catalogue"))
 * ```
 *
 * @since 0.1.0
 * @category combinators
 */
export const withReadLock: {
  (
    name: string,
    options?: Permits.Options
  ): <A, E, R>(
    effect: Effect.Effect<A, E, R>
  ) => Effect.Effect<A, E | LockNotAcquired | LockLost | RedisError, R | ReadWriteLock>
  <A, E, R>(
    effect: Effect.Effect<A, E, R>,
    name: string,
    options?: Permits.Options
  ): Effect.Effect<A, E | LockNotAcquired | LockLost | RedisError, R | ReadWriteLock>
} = dual(
  (args) => Effect.isEffect(args[0]),
  <A, E, R>(effect: Effect.Effect<A, E, R>, name: string, options?: Permits.Options) =>
    Effect.flatMap(ReadWriteLock, (lock) => lock.withReadLock(effect, name, options))
)

/**
 * Runs an effect while holding a lock for writing: nobody else reads or writes.
 *
 * It ends and fails as `withReadLock` does. Inside of it the lock can be taken again, for reading and for writing. Inside of
 * a read lock it fails at once with `LockUpgradeRefused`.
 *
 * @example
 * ```ts
 * import { Effect } from "effect"
 * import { ReadWriteLock } from "effect-redis-kit"
 *
 * declare const reload: Effect.Effect<void>
 *
 * const program = reload.pipe(
 *   ReadWriteLock.withWriteLock("catalogue", { lease: "30 seconds", waitTimeout: "1 minute" })
 * )
 * ```
 *
 * @since 0.1.0
 * @category combinators
 */
export const withWriteLock: {
  (
    name: string,
    options?: Permits.Options
  ): <A, E, R>(
    effect: Effect.Effect<A, E, R>
  ) => Effect.Effect<A, E | LockNotAcquired | LockUpgradeRefused | LockLost | RedisError, R | ReadWriteLock>
  <A, E, R>(
    effect: Effect.Effect<A, E, R>,
    name: string,
    options?: Permits.Options
  ): Effect.Effect<A, E | LockNotAcquired | LockUpgradeRefused | LockLost | RedisError, R | ReadWriteLock>
} = dual(
  (args) => Effect.isEffect(args[0]),
  <A, E, R>(effect: Effect.Effect<A, E, R>, name: string, options?: Permits.Options) =>
    Effect.flatMap(ReadWriteLock, (lock) => lock.withWriteLock(effect, name, options))
)

/**
 * Takes a lock for reading, until the scope closes.
 *
 * @since 0.1.0
 * @category accessors
 */
export const acquireRead = (
  name: string,
  options?: Permits.Options
): Effect.Effect<Held, LockNotAcquired | RedisError, ReadWriteLock | Scope.Scope> =>
  Effect.flatMap(ReadWriteLock, (lock) => lock.acquireRead(name, options))

/**
 * Takes a lock for writing, until the scope closes.
 *
 * @example
 * ```ts
 * import { Effect } from "effect"
 * import { ReadWriteLock } from "effect-redis-kit"
 *
 * declare const write: Effect.Effect<void>
 * declare const announce: Effect.Effect<void>
 *
 * const program = Effect.scoped(Effect.gen(function*() {
 *   const held = yield* ReadWriteLock.acquireWrite("catalogue")
 *   yield* held.protect(write)
 *   // What was written can't change before it is announced, and others may read it already.
 *   yield* held.downgrade
 *   yield* held.protect(announce)
 * }))
 * ```
 *
 * @since 0.1.0
 * @category accessors
 */
export const acquireWrite = (
  name: string,
  options?: Permits.Options
): Effect.Effect<WriteHeld, LockNotAcquired | LockUpgradeRefused | RedisError, ReadWriteLock | Scope.Scope> =>
  Effect.flatMap(ReadWriteLock, (lock) => lock.acquireWrite(name, options))

/**
 * Takes a lock for reading if it can be had at this moment.
 *
 * @since 0.1.0
 * @category accessors
 */
export const tryAcquireRead = (
  name: string,
  options?: Omit<Permits.Options, "waitTimeout" | "retry">
): Effect.Effect<Option.Option<Held>, RedisError, ReadWriteLock | Scope.Scope> =>
  Effect.flatMap(ReadWriteLock, (lock) => lock.tryAcquireRead(name, options))

/**
 * Takes a lock for writing if it can be had at this moment.
 *
 * @since 0.1.0
 * @category accessors
 */
export const tryAcquireWrite = (
  name: string,
  options?: Omit<Permits.Options, "waitTimeout" | "retry">
): Effect.Effect<Option.Option<WriteHeld>, LockUpgradeRefused | RedisError, ReadWriteLock | Scope.Scope> =>
  Effect.flatMap(ReadWriteLock, (lock) => lock.tryAcquireWrite(name, options))

/**
 * The fencing token of the lock of this name that the effect runs inside of, for reading or for writing; `None` outside.
 *
 * @since 0.1.0
 * @category accessors
 */
export const fencingToken = (name: string): Effect.Effect<Option.Option<number>, never, ReadWriteLock> =>
  Effect.flatMap(ReadWriteLock, (lock) => lock.fencingToken(name))
