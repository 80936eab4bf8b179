/**
 * Locks over Redis: one holder at a time, in order of arrival, with a lease that is renewed and a fencing token.
 *
 * @since 0.1.0
 */
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Exit from "effect/Exit"
import type * as Fiber from "effect/Fiber"
import { dual } from "effect/Function"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import type * as Scope from "effect/Scope"
import { checkKey, inputError, positiveMillis } from "../internal/input.js"
import { mayPass } from "../internal/mayPass.js"
import { withSpan } from "../internal/telemetry.js"
import type { RedisClient } from "../RedisClient.js"
import type { RedisError, RedisInputError } from "../RedisError.js"
import { layer as testServer, type RedisTestServer } from "../RedisTestServer.js"
import { type Enter, notAcquired, type Options, type Settings, settingsOf } from "./Acquisition.js"
import { findInside, type Held, type HeldAll, make as makeHeld, makeAll as makeHeldAll, type Restore } from "./Held.js"
import * as Leases from "./Leases.js"
import { FencingTokenRejected, type LockLost, type LockNotAcquired } from "./LockError.js"
import { layer as processLayer, LockProcess, make as makeProcess } from "./LockProcess.js"
import * as scripts from "./scripts.js"
import { NOBODY } from "./Waiters.js"

// ---------------------------------------------------------------------------------------------------------------------
// Models
// ---------------------------------------------------------------------------------------------------------------------

export type { Options } from "./Acquisition.js"

export type { Held, HeldAll } from "./Held.js"

/**
 * What is known about a lock that somebody holds.
 *
 * @since 0.1.0
 * @category models
 */
export interface LockInfo {
  /** The process (one built layer) and the number of the attempt that took the lock. */
  readonly holder: string
  readonly fencingToken: number
  readonly remaining: Duration.Duration
  readonly waiters: number
}

/**
 * @since 0.1.0
 * @category models
 */
export interface Service {
  /**
   * Takes the lock and gives it back when the scope closes. Interrupting it at any point leaves nothing behind.
   */
  readonly acquire: (
    name: string,
    options?: Options
  ) => Effect.Effect<Held, LockNotAcquired | RedisError, Scope.Scope>
  /** Takes the lock if it is free at this moment. */
  readonly tryAcquire: (
    name: string,
    options?: Omit<Options, "waitTimeout" | "retry">
  ) => Effect.Effect<Option.Option<Held>, RedisError, Scope.Scope>
  /**
   * Takes several locks, or none, and gives them back when the scope closes. All processes take them in the same order,
   * so those that ask for the same names in opposite orders don't wait for each other.
   */
  readonly acquireAll: (
    names: ReadonlyArray<string>,
    options?: Options
  ) => Effect.Effect<HeldAll, LockNotAcquired | RedisError, Scope.Scope>
  /**
   * Runs an effect while holding the lock. See `withLock`.
   */
  readonly withLock: <A, E, R>(
    effect: Effect.Effect<A, E, R>,
    name: string,
    options?: Options
  ) => Effect.Effect<A, E | LockNotAcquired | LockLost | RedisError, R>
  /**
   * Runs an effect while holding several locks. See `withLocks`.
   */
  readonly withLocks: <A, E, R>(
    effect: Effect.Effect<A, E, R>,
    names: ReadonlyArray<string>,
    options?: Options
  ) => Effect.Effect<A, E | LockNotAcquired | LockLost | RedisError, R>
  /**
   * The fencing token of the lock of this name that the effect runs inside of, by `withLock` or `held.protect`; `None`
   * outside.
   */
  readonly fencingToken: (name: string) => Effect.Effect<Option.Option<number>>
  readonly isLocked: (name: string) => Effect.Effect<boolean, RedisError>
  /** The time left until the lease ends; `None` when nobody holds the lock. */
  readonly ttl: (name: string) => Effect.Effect<Option.Option<Duration.Duration>, RedisError>
  /** Who holds the lock; `None` when nobody does. */
  readonly inspect: (name: string) => Effect.Effect<Option.Option<LockInfo>, RedisError>
  /**
   * Takes the lock away from whoever holds it, for operators. The holder learns of it with its next renewal, its next
   * use, or when it gives the lock back. Returns whether anybody held it.
   */
  readonly forceRelease: (name: string) => Effect.Effect<boolean, RedisError>
  /**
   * Writes a value unless one was written with a larger token. Value and token are fields of one hash, so that they live
   * and expire together; read it with `fencedGet`.
   */
  readonly fencedSet: (
    key: string,
    value: string | Uint8Array,
    token: number,
    options?: { readonly ttl?: Duration.DurationInput | undefined }
  ) => Effect.Effect<void, FencingTokenRejected | RedisError>
  /** What `fencedSet` wrote, with the token it was written with. */
  readonly fencedGet: (
    key: string
  ) => Effect.Effect<Option.Option<{ readonly value: string; readonly token: number }>, RedisError>
}

/**
 * @since 0.1.0
 * @category tags
 */
export class Lock extends Context.Tag("effect-redis-kit/Lock")<Lock, Service>() {}

// ---------------------------------------------------------------------------------------------------------------------
// Errors
// ---------------------------------------------------------------------------------------------------------------------

export { FencingTokenRejected, LockLost, LockNotAcquired } from "./LockError.js"

/**
 * A Lua function for scripts of your own that must refuse the writes of a holder that lost its lock. Put it before your
 * script; `fence(key, field, token)` is `true`, and remembers the token in that field of that hash, when no larger one
 * was seen there. The hash belongs to you: it must be one of the script's keys, and live as long as what it protects.
 *
 * @example
 * ```ts
 * import { Lock, RedisScript } from "effect-redis-kit"
 *
 * const ship = RedisScript.make({
 *   name: "ship",
 *   lua: `${Lock.fenceLua}
 *     if not fence(KEYS[1], "fence", ARGV[1]) then return 0 end
 *     redis.call("HSET", KEYS[1], "status", "shipped")
 *     return 1`,
 *   params: (order: string, token: number) => ({ keys: [`order:${order}`], args: [token] }),
 *   result: RedisScript.boolean
 * })
 * ```
 *
 * @since 0.1.0
 * @category fencing
 */
export const fenceLua: string = scripts.fenceLua

// ---------------------------------------------------------------------------------------------------------------------
// Constructors
// ---------------------------------------------------------------------------------------------------------------------

interface Claim extends Leases.Claim, scripts.Waiter {}

const makeShared: Effect.Effect<Service, never, LockProcess> = Effect.gen(function*() {
  const { acquisition, client, leases, notices } = yield* LockProcess

  const authority = Leases.onServer<Claim>(client, {
    renewal: scripts.extend,
    release: scripts.release
  })

  const claimOf = (name: string, owner: string, { fair }: Settings): Claim => ({
    authority,
    name,
    keys: scripts.keysOf(name),
    owner,
    fair,
    notices
  })

  const take = (claim: Claim, settings: Settings, restore: Restore) =>
    acquisition.take({
      claim,
      settings,
      key: claim.keys[0]!,
      ask: (executor, wait) => executor.eval(scripts.acquire, claim, settings.lease, wait)
    }, restore)

  const find = (fiber: Fiber.RuntimeFiber<unknown, unknown>, name: string): Leases.Lease | undefined =>
    findInside(fiber, leases, ({ claim }) => claim.name === name && claim.authority === authority)

  /** The same lock once more when the fiber is inside of it already, and else the lock. */
  const enter = (name: string, settings: Settings): Enter<readonly [Leases.Lease]> => (restore) =>
    Effect.withFiberRuntime((fiber) => {
      const lease = find(fiber, name)
      if (lease !== undefined) {
        lease.depth++
        return Exit.succeed([lease] as const)
      }
      return take(claimOf(name, leases.nextOwner(), settings), settings, restore)
    })

  // --- Several names ---

  /** All of them by one script, when they are free and one server has them. */
  const takeAtOnce = (
    claims: ReadonlyArray<Claim>,
    { lease, renew }: Settings
  ): Effect.Effect<ReadonlyArray<Leases.Lease> | undefined, RedisError> => {
    const sent = leases.now()
    return Effect.map(client.eval(scripts.acquireAll, claims, lease), (tokens) => {
      const taken = tokens?.map((token, i) => leases.add(claims[i]!, token, lease, renew, sent))
      return taken?.every((lease) => lease !== undefined) === true ? taken : undefined
    })
  }

  /** One after the other, in the order of names that all processes keep, so that no two wait for each other. */
  const takeInOrder = (
    claims: ReadonlyArray<Claim>,
    settings: Settings,
    end: number,
    restore: Restore
  ): Effect.Effect<ReadonlyArray<Leases.Lease>, LockNotAcquired | RedisError> =>
    Effect.reduce(claims, [] as ReadonlyArray<Leases.Lease>, (taken, claim) =>
      Effect.map(
        take(claim, { ...settings, waitTimeout: Math.max(0, end - leases.now()) }, restore),
        (held) => [...taken, ...held]
      ))

  const takeAll = (
    claims: ReadonlyArray<Claim>,
    settings: Settings,
    restore: Restore
  ): Effect.Effect<ReadonlyArray<Leases.Lease>, LockNotAcquired | RedisError> => {
    const start = leases.now()
    const slots = new Set(claims.map(({ keys }) => client.slot(keys[0]!)))
    const atOnce = settings.minReplicas === 0 && (client.mode !== "cluster" || slots.size === 1)
    const inOrder = takeInOrder(claims, settings, start + settings.waitTimeout, restore)
    const taking = atOnce
      ? Effect.flatMap(
        Effect.catchIf(
          restore(takeAtOnce(claims, settings)),
          (error) => settings.waitTimeout > 0 && mayPass(error),
          () => Effect.succeed(undefined)
        ),
        (taken) => taken === undefined ? inOrder : Effect.succeed(taken)
      )
      : inOrder
    return Effect.onError(
      Effect.flatMap(taking, (taken) => {
        const lost = taken.find((lease) => leases.lossOf(lease) !== undefined)
        // One may be lost while another is waited for.
        return lost === undefined
          ? Effect.succeed(taken)
          : Effect.fail(notAcquired(lost.claim.name, "timeout", NOBODY, leases.now() - start))
      }),
      () => Effect.forEach(claims, leases.abandon, { concurrency: "unbounded", discard: true })
    )
  }

  /** Those that the fiber is inside of once more, and the others. */
  const enterAll =
    (names: ReadonlyArray<string>, settings: Settings): Enter<ReadonlyArray<Leases.Lease>> => (restore) =>
      Effect.withFiberRuntime((fiber) => {
        const found = names.map((name) => find(fiber, name))
        const owner = leases.nextOwner()
        const missing = names.filter((_, i) => found[i] === undefined)
        const claims = missing.map((name) => claimOf(name, owner, settings))
        const taking = claims.length === 0 ? Effect.succeed([]) : takeAll(claims, settings, restore)
        return Effect.map(taking, (taken) => {
          const rest = taken.values()
          return found.map((lease) => {
            if (lease === undefined) return rest.next().value!
            lease.depth++
            return lease
          })
        })
      })

  const acquire: Service["acquire"] = (name, options) => {
    const settings = settingsOf("Lock.acquire", name, options)
    return Either.isLeft(settings)
      ? Effect.fail(settings.left)
      : withSpan(
        acquisition.scoped(enter(name, settings.right), ([lease], release) => makeHeld(lease, release)),
        "lock.acquire",
        () => attributes(name)
      )
  }

  const tryAcquire: Service["tryAcquire"] = (name, options) => {
    const settings = settingsOf("Lock.tryAcquire", name, { ...options, waitTimeout: 0 })
    return Either.isLeft(settings)
      ? Effect.fail(settings.left)
      : withSpan(
        Effect.catchTag(
          Effect.asSome(
            acquisition.scoped(enter(name, settings.right), ([lease], release) => makeHeld(lease, release))
          ),
          "LockNotAcquired",
          () => Effect.succeedNone
        ),
        "lock.tryAcquire",
        () => attributes(name)
      )
  }

  const withLockService: Service["withLock"] = (effect, name, options) => {
    const settings = settingsOf("Lock.withLock", name, options)
    if (Either.isLeft(settings)) return Effect.fail(settings.left)
    return withSpan(
      acquisition.using(effect, enter(name, settings.right)),
      "lock.withLock",
      () => attributes(name)
    )
  }

  const acquireAll: Service["acquireAll"] = (names, options) => {
    const asked = askedFor("Lock.acquireAll", names, options)
    return Either.isLeft(asked)
      ? Effect.fail(asked.left)
      : withSpan(
        acquisition.scoped(enterAll(asked.right.names, asked.right.settings), makeHeldAll),
        "lock.acquireAll",
        () => attributes(asked.right.names.join(" "))
      )
  }

  const withLocksService: Service["withLocks"] = (effect, names, options) => {
    const asked = askedFor("Lock.withLocks", names, options)
    return Either.isLeft(asked)
      ? Effect.fail(asked.left)
      : withSpan(
        acquisition.using(effect, enterAll(asked.right.names, asked.right.settings)),
        "lock.withLocks",
        () => attributes(asked.right.names.join(" "))
      )
  }

  const checked = <A>(
    operation: string,
    name: string,
    run: (keys: ReadonlyArray<string>) => Effect.Effect<A, RedisError>
  ): Effect.Effect<A, RedisError> => {
    const bad = checkKey(operation, name, "name")
    return bad === undefined ? run(scripts.keysOf(name)) : Effect.fail(bad)
  }

  const inspect: Service["inspect"] = (name) =>
    checked("Lock.inspect", name, (keys) =>
      Effect.map(
        client.eval(scripts.inspect, keys),
        Option.map(({ holder, remaining, token, waiters }): LockInfo => ({
          holder,
          fencingToken: token,
          remaining: Duration.millis(remaining),
          waiters
        }))
      ))

  return {
    acquire,
    acquireAll,
    tryAcquire,
    withLock: withLockService,
    withLocks: withLocksService,
    fencingToken: (name) =>
      Effect.withFiberRuntime((fiber) =>
        Exit.succeed(Option.map(Option.fromNullable(find(fiber, name)), ({ token }) => token))
      ),
    isLocked: (name) =>
      checked("Lock.isLocked", name, (keys) => Effect.map(client.eval(scripts.inspect, keys), Option.isSome)),
    ttl: (name) => Effect.map(inspect(name), Option.map((info) => info.remaining)),
    inspect,
    forceRelease: (name) =>
      checked(
        "Lock.forceRelease",
        name,
        (keys) => client.eval(scripts.forceRelease, keys, notices)
      ),
    fencedSet: (key, value, token, options) => {
      const bad = checkKey("Lock.fencedSet", key)
      if (bad !== undefined) return Effect.fail(bad)
      if (!Number.isSafeInteger(token) || token < 0) {
        return Effect.fail(inputError("Lock.fencedSet", "token", "a fencing token", token))
      }
      const ttl = options?.ttl === undefined ? Either.right(0) : positiveMillis("Lock.fencedSet", "ttl", options.ttl)
      if (Either.isLeft(ttl)) return Effect.fail(ttl.left)
      return Effect.flatMap(
        client.eval(scripts.fencedSet, key, token, value, ttl.right),
        Option.match({
          onNone: () => Effect.void,
          onSome: (latest) => Effect.fail(new FencingTokenRejected({ key, fencingToken: token, latest }))
        })
      )
    },
    fencedGet: (key) =>
      Effect.map(
        client.hmget(key, ["value", "fence"]),
        ([value, token]) =>
          Option.zipWith(value ?? Option.none(), token ?? Option.none(), (value, token) => ({
            value,
            token: Number(token)
          }))
      )
  }
})

/**
 * Locks over the client of the environment. What is shared by the locks of one process, the channel on which it is
 * notified and the renewal of its leases, belongs to the scope.
 *
 * @since 0.1.0
 * @category constructors
 */
export const make: Effect.Effect<Service, never, RedisClient | Scope.Scope> = Effect.flatMap(
  makeProcess,
  (shared) => Effect.provideService(makeShared, LockProcess, shared)
)

/** Each name once, in the order that all processes keep. */
const askedFor = (
  operation: string,
  names: ReadonlyArray<string>,
  options: Options | undefined
): Either.Either<{ readonly names: ReadonlyArray<string>; readonly settings: Settings }, RedisInputError> => {
  const [first, ...others] = new Set(names)
  if (first === undefined) return Either.left(inputError(operation, "names", "at least one name", "none"))
  for (const name of others) {
    const bad = checkKey(operation, name, "name")
    if (bad !== undefined) return Either.left(bad)
  }
  return Either.map(
    settingsOf(operation, first, options),
    (settings) => ({ names: [first, ...others].sort(), settings })
  )
}

const attributes = (name: string) => ({ "effect_redis.lock.name": name })

// ---------------------------------------------------------------------------------------------------------------------
// Layers
// ---------------------------------------------------------------------------------------------------------------------

/**
 * @since 0.1.0
 * @category layers
 */
export const layer: Layer.Layer<Lock, never, RedisClient> = Layer.provide(Layer.effect(Lock, makeShared), processLayer)

/**
 * Locks on a server in memory, with the server and its client beside it.
 *
 * @since 0.1.0
 * @category layers
 */
export const layerTest: Layer.Layer<Lock | RedisClient | RedisTestServer> = Layer.provideMerge(layer, testServer)

// ---------------------------------------------------------------------------------------------------------------------
// Combinators
// ---------------------------------------------------------------------------------------------------------------------

/**
 * Runs an effect while holding a lock, so that no two run at the same time anywhere, and gives the lock back whatever
 * comes out.
 *
 * The effect's own value and failures are kept. It fails with `LockNotAcquired` when the lock stays with others for all of
 * `waitTimeout`, and with `LockLost` when the lock is lost underway: the effect is then interrupted, and the failure is
 * reported when it has stopped. Taking the same lock inside takes it again without waiting; fibers that are started
 * inside belong to the holder and end with the effect.
 *
 * A lease can't stop a process that is paused. What must never be written twice needs a fencing token as well: take the
 * lock with `acquire`, and write with `held.fencingToken`.
 *
 * @example
 * ```ts
 * import { Effect } from "effect"
 * import { withLock } from "effect-redis-kit"
 *
 * declare const transfer: Effect.Effect<void>
 *
 * const program = transfer.pipe(
 *   withLock("account:42", { lease: "10 seconds", waitTimeout: "2 seconds" })
 * )
 * ```
 *
 * @since 0.1.0
 * @category combinators
 */
export const withLock: {
  (
    name: string,
    options?: Options
  ): <A, E, R>(
    effect: Effect.Effect<A, E, R>
  ) => Effect.Effect<A, E | LockNotAcquired | LockLost | RedisError, R | Lock>
  <A, E, R>(
    effect: Effect.Effect<A, E, R>,
    name: string,
    options?: Options
  ): Effect.Effect<A, E | LockNotAcquired | LockLost | RedisError, R | Lock>
} = dual(
  (args) => Effect.isEffect(args[0]),
  <A, E, R>(effect: Effect.Effect<A, E, R>, name: string, options?: Options) =>
    Effect.flatMap(Lock, (lock) => lock.withLock(effect, name, options))
)

/**
 * Takes a lock and gives it back when the scope closes.
 *
 * @example
 * ```ts
 * import { Effect } from "effect"
 * import { Lock } from "effect-redis-kit"
 *
 * const program = Effect.scoped(Effect.gen(function*() {
 *   const held = yield* Lock.acquire("report", { lease: "30 seconds" })
 *   yield* held.protect(Effect.log(`writing with token ${held.fencingToken}`))
 * }))
 * ```
 *
 * @since 0.1.0
 * @category accessors
 */
export const acquire = (
  name: string,
  options?: Options
): Effect.Effect<Held, LockNotAcquired | RedisError, Lock | Scope.Scope> =>
  Effect.flatMap(Lock, (lock) => lock.acquire(name, options))

/**
 * Runs an effect while holding several locks: all of them, or none. Each name is locked as by `withLock`, and has its own
 * fencing token: `Lock.fencingToken(name)` inside.
 *
 * When all are free they are taken by one command; on a Cluster, and when somebody has one of them, one after the other in
 * the order of their names.
 *
 * @example
 * ```ts
 * import { Effect } from "effect"
 * import { Lock } from "effect-redis-kit"
 *
 * declare const transfer: Effect.Effect<void>
 *
 * const program = transfer.pipe(Lock.withLocks(["account:42", "account:7"], { waitTimeout: "2 seconds" }))
 * ```
 *
 * @since 0.1.0
 * @category combinators
 */
export const withLocks: {
  (
    names: ReadonlyArray<string>,
    options?: Options
  ): <A, E, R>(
    effect: Effect.Effect<A, E, R>
  ) => Effect.Effect<A, E | LockNotAcquired | LockLost | RedisError, R | Lock>
  <A, E, R>(
    effect: Effect.Effect<A, E, R>,
    names: ReadonlyArray<string>,
    options?: Options
  ): Effect.Effect<A, E | LockNotAcquired | LockLost | RedisError, R | Lock>
} = dual(
  (args) => Effect.isEffect(args[0]),
  <A, E, R>(effect: Effect.Effect<A, E, R>, names: ReadonlyArray<string>, options?: Options) =>
    Effect.flatMap(Lock, (lock) => lock.withLocks(effect, names, options))
)

/**
 * Takes several locks, or none, and gives them back when the scope closes.
 *
 * @since 0.1.0
 * @category accessors
 */
export const acquireAll = (
  names: ReadonlyArray<string>,
  options?: Options
): Effect.Effect<HeldAll, LockNotAcquired | RedisError, Lock | Scope.Scope> =>
  Effect.flatMap(Lock, (lock) => lock.acquireAll(names, options))

/**
 * Takes a lock if it is free at this moment.
 *
 * @since 0.1.0
 * @category accessors
 */
export const tryAcquire = (
  name: string,
  options?: Omit<Options, "waitTimeout" | "retry">
): Effect.Effect<Option.Option<Held>, RedisError, Lock | Scope.Scope> =>
  Effect.flatMap(Lock, (lock) => lock.tryAcquire(name, options))

/**
 * The fencing token of the lock of this name that the effect runs inside of; `None` outside.
 *
 * @example
 * ```ts
 * import { Effect, Option } from "effect"
 * import { Lock, withLock } from "effect-redis-kit"
 *
 * const publish = Effect.gen(function*() {
 *   const lock = yield* Lock.Lock
 *   const token = Option.getOrThrow(yield* Lock.fencingToken("report"))
 *   yield* lock.fencedSet("report:current", "all is well", token)
 * }).pipe(withLock("report"))
 * ```
 *
 * @since 0.1.0
 * @category accessors
 */
export const fencingToken = (name: string): Effect.Effect<Option.Option<number>, never, Lock> =>
  Effect.flatMap(Lock, (lock) => lock.fencingToken(name))
