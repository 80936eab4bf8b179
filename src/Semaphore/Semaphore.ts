/**
 * Semaphores over Redis: a number of permits for all processes together, given in order of arrival, each grant with a
 * lease of its own.
 *
 * @since 0.1.0
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import { dual } from "effect/Function"
import * as Layer from "effect/Layer"
import type * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import type * as Scope from "effect/Scope"
import { checkKey, inputError } from "../internal/input.js"
import { withSpan } from "../internal/telemetry.js"
import { type Enter, type Settings, settingsOf } from "../Lock/Acquisition.js"
import { type Held as HeldLock, make as makeHeld } from "../Lock/Held.js"
import type { Lease } from "../Lock/Leases.js"
import type { LockLost, LockNotAcquired } from "../Lock/LockError.js"
import { layer as processLayer, LockProcess, make as makeProcess } from "../Lock/LockProcess.js"
import * as Permits from "../Lock/Permits.js"
import type { RedisClient } from "../RedisClient.js"
import type { RedisError, RedisInputError } from "../RedisError.js"
import { layer as testServer, type RedisTestServer } from "../RedisTestServer.js"

// ---------------------------------------------------------------------------------------------------------------------
// Models
// ---------------------------------------------------------------------------------------------------------------------

export type { Options } from "../Lock/Permits.js"

/**
 * A semaphore: its name, and how many permits there are.
 *
 * @since 0.1.0
 * @category models
 */
export interface Definition {
  readonly name: string
  readonly permits: number
}

/**
 * Permits that are held.
 *
 * @since 0.1.0
 * @category models
 */
export interface Held extends HeldLock {
  /** How many. */
  readonly permits: number
}

/**
 * Who holds permits, how many, and how long without a sign of life.
 *
 * @since 0.1.0
 * @category models
 */
export interface Holder {
  /** The process (one built layer) and the number of the attempt that took the permits. */
  readonly holder: string
  readonly permits: number
  readonly fencingToken: number
  readonly remaining: Permits.Holder["remaining"]
}

/**
 * @since 0.1.0
 * @category models
 */
export interface SemaphoreInfo {
  /** How many there are. */
  readonly permits: number
  readonly inUse: number
  /** By the end of their leases. */
  readonly holders: ReadonlyArray<Holder>
  readonly waiters: number
}

/**
 * @since 0.1.0
 * @category models
 */
export interface Service {
  /**
   * Takes so many permits (1 by default), all or none, and gives them back when the scope closes. Interrupting it at any
   * point leaves nothing behind.
   */
  readonly acquire: (
    semaphore: Definition,
    permits?: number,
    options?: Permits.Options
  ) => Effect.Effect<Held, LockNotAcquired | PermitsExceeded | RedisError, Scope.Scope>
  /** Takes so many permits if they are free at this moment. */
  readonly tryAcquire: (
    semaphore: Definition,
    permits?: number,
    options?: Omit<Permits.Options, "waitTimeout" | "retry">
  ) => Effect.Effect<Option.Option<Held>, PermitsExceeded | RedisError, Scope.Scope>
  /**
   * Runs an effect while holding permits. See `withPermits`.
   */
  readonly withPermits: <A, E, R>(
    effect: Effect.Effect<A, E, R>,
    semaphore: Definition,
    permits?: number,
    options?: Permits.Options
  ) => Effect.Effect<A, E | LockNotAcquired | LockLost | PermitsExceeded | RedisError, R>
  /** How many permits nobody holds. Those who wait may be about to take them. */
  readonly available: (semaphore: Definition) => Effect.Effect<number, RedisError>
  /** Who holds permits, and how many wait. */
  readonly inspect: (semaphore: Definition) => Effect.Effect<SemaphoreInfo, RedisError>
  /**
   * Takes all permits away from whoever holds them, for operators. The holders learn of it with their next renewal, their
   * next use, or when they give the permits back. Returns how many permits were held.
   */
  readonly forceReleaseAll: (semaphore: Definition) => Effect.Effect<number, RedisError>
}

/**
 * @since 0.1.0
 * @category tags
 */
export class Semaphore extends Context.Tag("effect-redis-kit/Semaphore")<Semaphore, Service>() {}

// ---------------------------------------------------------------------------------------------------------------------
// Errors
// ---------------------------------------------------------------------------------------------------------------------

export { LockLost, LockNotAcquired } from "../Lock/LockError.js"

/**
 * More permits were asked for than there are: waiting would be in vain.
 *
 * @since 0.1.0
 * @category errors
 */
export class PermitsExceeded extends Schema.TaggedError<PermitsExceeded>("effect-redis-kit/Semaphore/PermitsExceeded")(
  "PermitsExceeded",
  {
    key: Schema.String,
    requested: Schema.Number,
    permits: Schema.Number
  }
) {
  /** @since 0.1.0 */
  override get message(): string {
    return `${this.requested} permits of "${this.key}" can never be taken: there are ${this.permits}`
  }
}

// ---------------------------------------------------------------------------------------------------------------------
// Constructors
// ---------------------------------------------------------------------------------------------------------------------

/**
 * Describes a semaphore. The number of permits may change from one release of a program to the next: as long as
 * processes disagree, that of whoever asked last counts.
 *
 * @example
 * ```ts
 * import { Effect } from "effect"
 * import { Semaphore } from "effect-redis-kit"
 *
 * const Printers = Semaphore.define({ name: "printers", permits: 3 })
 *
 * declare const print: Effect.Effect<void>
 *
 * const program = print.pipe(Semaphore.withPermits(Printers))
 * ```
 *
 * @since 0.1.0
 * @category constructors
 */
export const define = (options: { readonly name: string; readonly permits: number }): Definition => options

/** Sums of fewer than this many permits are exact wherever they are printed. */
const MOST = 1_000_000_000

const isCount = (n: number): boolean => Number.isSafeInteger(n) && n > 0 && n <= MOST

const COUNT = `a whole number from 1 to ${MOST}`

const check = (operation: string, { name, permits }: Definition): RedisInputError | undefined =>
  checkKey(operation, name, "name") ??
    (isCount(permits) ? undefined : inputError(operation, "permits of the semaphore", COUNT, permits))

interface Request {
  readonly semaphore: Definition
  readonly permits: number
  readonly settings: Settings
}

const requestOf = (
  operation: string,
  semaphore: Definition,
  permits: number,
  options: Permits.Options | undefined
): Either.Either<Request, PermitsExceeded | RedisInputError> => {
  const bad = check(operation, semaphore)
  if (bad !== undefined) return Either.left(bad)
  if (!isCount(permits)) return Either.left(inputError(operation, "permits", COUNT, permits))
  if (permits > semaphore.permits) {
    return Either.left(
      new PermitsExceeded({ key: semaphore.name, requested: permits, permits: semaphore.permits })
    )
  }
  return Either.map(settingsOf(operation, semaphore.name, options), (settings) => ({ semaphore, permits, settings }))
}

const attributes = ({ name }: Definition, permits: number) => ({
  "effect_redis.semaphore.name": name,
  "effect_redis.semaphore.permits": permits
})

const makeShared: Effect.Effect<Service, never, LockProcess> = Effect.gen(function*() {
  const shared = yield* LockProcess
  const { acquisition } = shared
  const permitsOf = Permits.make("semaphore", shared)

  /** Each run is another holder. */
  const enter = ({ permits, semaphore, settings }: Request): Enter<readonly [Lease]> => (restore) =>
    permitsOf.take(permitsOf.claim(semaphore.name, permits, semaphore.permits, settings), settings)(restore)

  const scoped = (request: Request) =>
    acquisition.scoped(enter(request), ([lease], release): Held => ({
      ...makeHeld(lease, release),
      permits: request.permits
    }))

  const checked = <A>(
    operation: string,
    semaphore: Definition,
    run: Effect.Effect<A, RedisError>
  ): Effect.Effect<A, RedisError> => {
    const bad = check(operation, semaphore)
    return bad === undefined ? run : Effect.fail(bad)
  }

  return {
    acquire: (semaphore, permits = 1, options) => {
      const request = requestOf("Semaphore.acquire", semaphore, permits, options)
      return Either.isLeft(request)
        ? Effect.fail(request.left)
        : withSpan(scoped(request.right), "semaphore.acquire", () => attributes(semaphore, permits))
    },
    tryAcquire: (semaphore, permits = 1, options) => {
      const request = requestOf("Semaphore.tryAcquire", semaphore, permits, { ...options, waitTimeout: 0 })
      return Either.isLeft(request)
        ? Effect.fail(request.left)
        : withSpan(
          Effect.catchTag(Effect.asSome(scoped(request.right)), "LockNotAcquired", () => Effect.succeedNone),
          "semaphore.tryAcquire",
          () => attributes(semaphore, permits)
        )
    },
    withPermits: (effect, semaphore, permits = 1, options) => {
      const request = requestOf("Semaphore.withPermits", semaphore, permits, options)
      return Either.isLeft(request)
        ? Effect.fail(request.left)
        : withSpan(
          acquisition.using(effect, enter(request.right)),
          "semaphore.withPermits",
          () => attributes(semaphore, permits)
        )
    },
    available: (semaphore) =>
      checked(
        "Semaphore.available",
        semaphore,
        Effect.map(permitsOf.inUse(semaphore.name), (inUse) => Math.max(0, semaphore.permits - inUse))
      ),
    inspect: (semaphore) =>
      checked(
        "Semaphore.inspect",
        semaphore,
        Effect.map(permitsOf.inspect(semaphore.name), ({ holders, waiters }) => ({
          permits: semaphore.permits,
          inUse: holders.reduce((sum, { weight }) => sum + weight, 0),
          holders: holders.map(({ fencingToken, owner, remaining, weight }) => ({
            holder: owner,
            permits: weight,
            fencingToken,
            remaining
          })),
          waiters
        }))
      ),
    forceReleaseAll: (semaphore) =>
      checked(
        "Semaphore.forceReleaseAll",
        semaphore,
        permitsOf.forceRelease(semaphore.name, semaphore.permits)
      )
  }
})

/**
 * Semaphores over the client of the environment. What is shared by the semaphores of one process, the channel on which
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
export const layer: Layer.Layer<Semaphore, never, RedisClient> = Layer.provide(
  Layer.effect(Semaphore, makeShared),
  processLayer
)

/**
 * Semaphores on a server in memory, with the server and its client beside it.
 *
 * @since 0.1.0
 * @category layers
 */
export const layerTest: Layer.Layer<Semaphore | RedisClient | RedisTestServer> = Layer.provideMerge(layer, testServer)

// ---------------------------------------------------------------------------------------------------------------------
// Combinators
// ---------------------------------------------------------------------------------------------------------------------

/**
 * Runs an effect while holding permits (1 by default), so that all processes together never run more of it than there
 * are permits, and gives them back whatever comes out.
 *
 * The effect's own value and failures are kept. It fails with `LockNotAcquired` when there are not enough free permits for
 * all of `waitTimeout`, with `PermitsExceeded` when there will never be, and with `LockLost` when the permits are lost
 * underway: the effect is then interrupted, and the failure is reported when it has stopped.
 *
 * Inside of it the same semaphore can be used again, and that takes more permits. When all of them are held by those who
 * want another one, they wait for each other until `waitTimeout` is over.
 *
 * @example
 * ```ts
 * import { Effect } from "effect"
 * import { Semaphore } from "effect-redis-kit"
 *
 * const Exports = Semaphore.define({ name: "exports", permits: 10 })
 *
 * declare const exportAll: Effect.Effect<void>
 *
 * // A large export counts for four.
 * const program = exportAll.pipe(
 *   Semaphore.withPermits(Exports, 4, { lease: "30 seconds", waitTimeout: "5 minutes" })
 * )
 * ```
 *
 * @since 0.1.0
 * @category combinators
 */
export const withPermits: {
  (
    semaphore: Definition,
    permits?: number,
    options?: Permits.Options
  ): <A, E, R>(
    effect: Effect.Effect<A, E, R>
  ) => Effect.Effect<A, E | LockNotAcquired | LockLost | PermitsExceeded | RedisError, R | Semaphore>
  <A, E, R>(
    effect: Effect.Effect<A, E, R>,
    semaphore: Definition,
    permits?: number,
    options?: Permits.Options
  ): Effect.Effect<A, E | LockNotAcquired | LockLost | PermitsExceeded | RedisError, R | Semaphore>
} = dual(
  (args) => Effect.isEffect(args[0]),
  <A, E, R>(effect: Effect.Effect<A, E, R>, semaphore: Definition, permits?: number, options?: Permits.Options) =>
    Effect.flatMap(Semaphore, (service) => service.withPermits(effect, semaphore, permits, options))
)

/**
 * Takes permits (1 by default), all or none, and gives them back when the scope closes.
 *
 * @example
 * ```ts
 * import { Effect } from "effect"
 * import { Semaphore } from "effect-redis-kit"
 *
 * const Licences = Semaphore.define({ name: "licences", permits: 5 })
 *
 * const program = Effect.scoped(Effect.gen(function*() {
 *   const held = yield* Semaphore.acquire(Licences, 2)
 *   yield* held.protect(Effect.log(`working with ${held.permits} licences`))
 * }))
 * ```
 *
 * @since 0.1.0
 * @category accessors
 */
export const acquire = (
  semaphore: Definition,
  permits?: number,
  options?: Permits.Options
): Effect.Effect<Held, LockNotAcquired | PermitsExceeded | RedisError, Semaphore | Scope.Scope> =>
  Effect.flatMap(Semaphore, (service) => service.acquire(semaphore, permits, options))

/**
 * Takes permits (1 by default) if they are free at this moment.
 *
 * @since 0.1.0
 * @category accessors
 */
export const tryAcquire = (
  semaphore: Definition,
  permits?: number,
  options?: Omit<Permits.Options, "waitTimeout" | "retry">
): Effect.Effect<Option.Option<Held>, PermitsExceeded | RedisError, Semaphore | Scope.Scope> =>
  Effect.flatMap(Semaphore, (service) => service.tryAcquire(semaphore, permits, options))

/**
 * How many permits nobody holds.
 *
 * @since 0.1.0
 * @category accessors
 */
export const available = (semaphore: Definition): Effect.Effect<number, RedisError, Semaphore> =>
  Effect.flatMap(Semaphore, (service) => service.available(semaphore))

/**
 * Who holds permits, and how many wait.
 *
 * @since 0.1.0
 * @category accessors
 */
export const inspect = (semaphore: Definition): Effect.Effect<SemaphoreInfo, RedisError, Semaphore> =>
  Effect.flatMap(Semaphore, (service) => service.inspect(semaphore))
