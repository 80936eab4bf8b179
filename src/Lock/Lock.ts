/**
 * Locks over Redis: one holder at a time, in order of arrival, with a lease that is renewed and a fencing token.
 *
 * @since 0.1.0
 */
import * as Cause from "effect/Cause"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as FiberRef from "effect/FiberRef"
import * as FiberRefs from "effect/FiberRefs"
import { dual } from "effect/Function"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Runtime from "effect/Runtime"
import * as Schedule from "effect/Schedule"
import * as Schema from "effect/Schema"
import * as Scope from "effect/Scope"
import { checkKey, inputError, nonNegativeMillis, positiveMillis } from "../internal/input.js"
import { lockAcquired, lockNotAcquired, lockWaitSeconds } from "../internal/metrics.js"
import { withSpan } from "../internal/telemetry.js"
import { RedisClient } from "../RedisClient.js"
import type { RedisError, RedisInputError } from "../RedisError.js"
import { layer as testServer, type RedisTestServer } from "../RedisTestServer.js"
import * as Leases from "./Leases.js"
import * as scripts from "./scripts.js"
import * as Waiters from "./Waiters.js"

// ---------------------------------------------------------------------------------------------------------------------
// Models
// ---------------------------------------------------------------------------------------------------------------------

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

/**
 * A lock that is held.
 *
 * @since 0.1.0
 * @category models
 */
export interface Held {
  readonly name: string
  /**
   * Larger than the token of every earlier holder on this server. Whatever the lock protects should remember the largest
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
  readonly extend: (lease: Duration.DurationInput) => Effect.Effect<void, LockLost | RedisError>
  /** Gives the lock back before its scope closes. `false` when it was not held any more. */
  readonly release: Effect.Effect<boolean, RedisError>
}

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
   * Runs an effect while holding the lock. See `withLock`.
   */
  readonly withLock: <A, E, R>(
    effect: Effect.Effect<A, E, R>,
    name: string,
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

/**
 * Somebody else holds the lock: at this moment (`reason` is `"held"`), or for all of the time that was allowed for
 * waiting (`"timeout"`). `holder` and `remaining` are what the server last said of the present holder and its lease.
 *
 * @since 0.1.0
 * @category errors
 */
export class LockNotAcquired extends Schema.TaggedError<LockNotAcquired>("effect-redis-kit/Lock/LockNotAcquired")(
  "LockNotAcquired",
  {
    key: Schema.String,
    reason: Schema.Literal("held", "timeout"),
    holder: Schema.Option(Schema.String),
    remaining: Schema.Option(Schema.Duration),
    waited: Schema.Duration
  }
) {
  /** @since 0.1.0 */
  override get message(): string {
    return this.reason === "held"
      ? `the lock "${this.key}" is held by somebody else`
      : `the lock "${this.key}" did not become free within ${Duration.format(this.waited)}`
  }
}

/**
 * The holder does not hold the lock any more: its lease ended before it could be renewed (`"expired"`), or the server
 * says that somebody else holds the lock or nobody does (`"taken"`).
 *
 * @since 0.1.0
 * @category errors
 */
export class LockLost extends Schema.TaggedError<LockLost>("effect-redis-kit/Lock/LockLost")("LockLost", {
  key: Schema.String,
  fencingToken: Schema.Number,
  reason: Schema.Literal("expired", "taken")
}) {
  /** @since 0.1.0 */
  override get message(): string {
    return `the lock "${this.key}" was lost: ${
      this.reason === "expired" ? "its lease ended before it could be renewed" : "it is not this holder's any more"
    }`
  }
}

/**
 * A write with a token smaller than one that has written already: whoever made it has lost the lock since.
 *
 * @since 0.1.0
 * @category errors
 */
export class FencingTokenRejected extends Schema.TaggedError<FencingTokenRejected>(
  "effect-redis-kit/Lock/FencingTokenRejected"
)("FencingTokenRejected", {
  key: Schema.String,
  fencingToken: Schema.Number,
  latest: Schema.Number
}) {
  /** @since 0.1.0 */
  override get message(): string {
    return `"${this.key}" was written with a newer fencing token (${this.latest}) than ${this.fencingToken}`
  }
}

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

interface Settings {
  readonly lease: number
  /** Milliseconds; `Infinity` for ever. */
  readonly waitTimeout: number
  readonly fair: boolean
  readonly renew: boolean
  readonly retry: Schedule.Schedule<unknown, LockNotAcquired> | undefined
}

const DEFAULT_LEASE = 10_000
const DEFAULT_WAIT = 10_000

const defaults: Settings = {
  lease: DEFAULT_LEASE,
  waitTimeout: DEFAULT_WAIT,
  fair: true,
  renew: true,
  retry: undefined
}

const settingsOf = (
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

type Restore = <A, E, R>(effect: Effect.Effect<A, E, R>) => Effect.Effect<A, E, R>

/** Whether a fiber has set no reference of its own, so that whoever joins it inherits nothing. */
const isSame = (now: FiberRefs.FiberRefs, atStart: FiberRefs.FiberRefs | undefined): boolean => {
  if (atStart === undefined) return false
  for (const [ref, values] of now.locals) {
    if (atStart.locals.get(ref) !== values && ref !== FiberRef.currentRuntimeFlags) return false
  }
  return true
}

/** The locks that a fiber is inside of, innermost first. */
interface Inside {
  readonly lease: Leases.Lease
  readonly outer: Inside | undefined
}

const inside: FiberRef.FiberRef<Inside | undefined> = FiberRef.unsafeMake<Inside | undefined>(undefined, {
  // What a fiber is inside of is no news for the one that joins it.
  join: (mine) => mine
})

/**
 * Locks over the client of the environment. What is shared by the locks of one process, the channel on which it is
 * notified and the renewal of its leases, belongs to the scope.
 *
 * @since 0.1.0
 * @category constructors
 */
export const make: Effect.Effect<Service, never, RedisClient | Scope.Scope> = Effect.gen(function*() {
  const client = yield* RedisClient
  const leases = yield* Leases.make(client)
  const waiters = yield* Waiters.make(client, leases)
  const channel = client.key(scripts.CHANNEL)
  let attempts = 0

  const find = (chain: Inside | undefined, name: string): Leases.Lease | undefined => {
    for (let at = chain; at !== undefined; at = at.outer) {
      const { lease } = at
      if (lease.name === name && lease.leases === leases && lease.active && leases.lossOf(lease) === undefined) {
        return lease
      }
    }
    return undefined
  }

  /** One attempt. An answer that took as long as the lease is worth nothing. */
  const attempt = (
    name: string,
    claim: Leases.Claim,
    settings: Settings,
    wait: boolean
  ): Effect.Effect<Leases.Lease | Waiters.Busy, RedisError> => {
    const sent = leases.now()
    return Effect.map(
      client.eval(
        scripts.acquire,
        claim.keys,
        claim.owner,
        settings.lease,
        scripts.CLAIM,
        wait,
        settings.fair,
        channel
      ),
      (reply) =>
        typeof reply === "number"
          ? leases.add(claim, name, reply, settings.lease, settings.renew, sent) ??
            { holder: claim.owner, remaining: 0 }
          : reply
    )
  }

  const notAcquired = (
    name: string,
    reason: LockNotAcquired["reason"],
    last: Waiters.Busy,
    waited: number
  ): LockNotAcquired =>
    new LockNotAcquired({
      key: name,
      reason,
      holder: Option.some(last.holder),
      remaining: last.remaining < 0 ? Option.none() : Option.some(Duration.millis(last.remaining)),
      waited: Duration.millis(waited)
    })

  /**
   * Takes the lock, or fails with nothing left behind. It must be called and run where nothing can be interrupted;
   * `restore` marks the steps that may be.
   */
  const take = (
    name: string,
    settings: Settings,
    restore: Restore
  ): Effect.Effect<Leases.Lease, LockNotAcquired | RedisError> => {
    const owner = `${leases.process}:${attempts++}`
    const claim: Leases.Claim = { keys: scripts.keysOf(name), owner, fair: settings.fair }
    const once = () => attempt(name, claim, settings, false)
    const taking = settings.retry !== undefined
      ? poll(once, settings.waitTimeout, settings.retry, name)
      : settings.waitTimeout === 0
      ? Effect.map(once(), outcomeOf)
      : waiters.wait(owner, settings.waitTimeout, () => attempt(name, claim, settings, true))
    return Effect.matchCauseEffect(restore(taking), {
      onSuccess: (outcome) => {
        waiters.leave(owner)
        if (outcome._tag === "Taken") {
          lockAcquired.unsafeUpdate(1, [])
          lockWaitSeconds.unsafeUpdate(outcome.waited / 1000, [])
          return Effect.succeed(outcome.lease)
        }
        lockNotAcquired.unsafeUpdate(1, [])
        const { last, waited } = outcome
        const failure = Effect.fail(notAcquired(name, settings.waitTimeout === 0 ? "held" : "timeout", last, waited))
        // Who only asked for a lock that somebody else holds has left nothing behind.
        return settings.waitTimeout === 0 && last.holder !== owner
          ? failure
          : Effect.zipRight(leases.abandon(claim), failure)
      },
      // Interrupted, or the reply got lost: the server may have given us the lock.
      onFailure: (cause) => {
        waiters.leave(owner)
        return Effect.zipRight(leases.abandon(claim), Effect.failCause(cause))
      }
    })
  }

  const outcomeOf = (result: Leases.Lease | Waiters.Busy): Waiters.Outcome =>
    Waiters.isLease(result)
      ? { _tag: "Taken", lease: result, waited: 0 }
      : { _tag: "TimedOut", last: result, waited: 0 }

  const poll = (
    once: () => Effect.Effect<Leases.Lease | Waiters.Busy, RedisError>,
    timeout: number,
    schedule: Schedule.Schedule<unknown, LockNotAcquired>,
    name: string
  ): Effect.Effect<Waiters.Outcome, RedisError> =>
    Effect.flatMap(Schedule.driver(schedule), (driver) => {
      const start = leases.now()
      const next: Effect.Effect<Waiters.Outcome, RedisError> = Effect.flatMap(Effect.suspend(once), (result) => {
        const waited = leases.now() - start
        if (Waiters.isLease(result)) return Effect.succeed({ _tag: "Taken", lease: result, waited })
        const ended: Waiters.Outcome = { _tag: "TimedOut", last: result, waited }
        if (waited >= timeout) return Effect.succeed(ended)
        const step = driver.next(notAcquired(name, "held", result, waited))
        return Effect.matchEffect(
          timeout === Infinity ? step : Effect.timeoutOption(step, Duration.millis(timeout - waited)),
          { onFailure: () => Effect.succeed(ended), onSuccess: () => next }
        )
      })
      return next
    })

  /**
   * Runs the effect on a fiber of its own, so that losing the lock interrupts it and nothing else. The fiber starts at
   * once: an effect that never waits is done when it has started.
   */
  const runProtected = <A, E, R>(
    lease: Leases.Lease,
    effect: Effect.Effect<A, E, R>,
    restore: Restore
  ): Effect.Effect<A, E | LockLost, R> =>
    Effect.flatMap(Effect.runtime<R>(), (runtime) => {
      let atStart: FiberRefs.FiberRefs | undefined
      const child = Runtime.runFork(runtime, restore(effect), {
        updateRefs: (refs, fiberId) => {
          const outer = Option.getOrUndefined(FiberRefs.get(refs, inside))
          return atStart = FiberRefs.updateAs(refs, { fiberId, fiberRef: inside, value: { lease, outer } })
        }
      })
      const settle = (exit: Exit.Exit<A, E>): Effect.Effect<A, E | LockLost> => {
        const loss = leases.lossOf(lease)
        if (loss === undefined) return exit
        // A failure of its own stays what it is.
        return Exit.isSuccess(exit) || (lease.interrupted && Cause.isInterruptedOnly(exit.cause))
          ? Effect.fail(lostError(lease, loss))
          : exit
      }
      const done = child.unsafePoll()
      if (done !== null) {
        return isSame(child.getFiberRefs(), atStart)
          ? settle(done)
          : Effect.zipRight(Fiber.inheritAll(child), settle(done))
      }
      const stop = leases.interruptOnLoss(lease, child)
      return Effect.flatMap(
        Effect.exit(Effect.onInterrupt(restore(Fiber.join(child)), () => Fiber.interrupt(child))),
        (exit) => {
          stop()
          return settle(exit)
        }
      )
    })

  const lostError = (lease: Leases.Lease, reason: Leases.Loss) =>
    new LockLost({ key: lease.name, fencingToken: lease.token, reason })

  const heldOf = (lease: Leases.Lease, release: Effect.Effect<boolean, RedisError>): Held => {
    const remaining = () =>
      lease.active && leases.lossOf(lease) === undefined ? Math.max(0, lease.deadline - leases.now()) : 0
    return {
      name: lease.name,
      fencingToken: lease.token,
      lost: Effect.flatMap(leases.awaitLoss(lease), (loss) => Effect.fail(lostError(lease, loss))),
      isHeld: Effect.sync(() => remaining() > 0),
      remaining: Effect.sync(() => Duration.millis(remaining())),
      protect: (effect) => Effect.uninterruptibleMask((restore) => runProtected(lease, effect, restore)),
      extend: (length) => {
        const millis = positiveMillis("Lock.extend", "lease", length)
        return Either.isLeft(millis) ? Effect.fail(millis.left) : Effect.flatMap(
          leases.extend(lease, millis.right),
          (loss) => loss === undefined ? Effect.void : Effect.fail(lostError(lease, loss))
        )
      },
      release
    }
  }

  /** The same lock once more when the fiber is inside of it already, and else the lock. */
  const enterOrTake = (
    name: string,
    settings: Settings,
    restore: Restore
  ): Effect.Effect<Leases.Lease, LockNotAcquired | RedisError> =>
    Effect.flatMap(FiberRef.get(inside), (chain) => {
      const lease = find(chain, name)
      if (lease === undefined) return take(name, settings, restore)
      lease.depth++
      return Effect.succeed(lease)
    })

  /**
   * Whether it was still held. When the server can't say, the lease bounds how long the lock stays, and the work that is
   * done keeps its own result.
   */
  const giveBack = (lease: Leases.Lease): Effect.Effect<boolean> =>
    Effect.catchAll(leases.release(lease), () => Effect.as(leases.abandon(lease), true))

  const acquireWith = (
    name: string,
    settings: Settings
  ): Effect.Effect<Held, LockNotAcquired | RedisError, Scope.Scope> =>
    Effect.uninterruptibleMask((restore) =>
      Effect.flatMap(
        enterOrTake(name, settings, restore),
        (lease) => {
          // A handle gives its share of the lock back once, however often it is asked to.
          let given = false
          const release = Effect.suspend(() => {
            if (given) return Effect.succeed(false)
            given = true
            return leases.release(lease)
          })
          return Effect.flatMap(Effect.scope, (scope) =>
            Effect.as(
              Scope.addFinalizer(scope, Effect.catchAll(release, () => leases.abandon(lease))),
              heldOf(lease, release)
            ))
        }
      )
    )

  const acquire: Service["acquire"] = (name, options) => {
    const settings = settingsOf("Lock.acquire", name, options)
    return Either.isLeft(settings)
      ? Effect.fail(settings.left)
      : withSpan(acquireWith(name, settings.right), "lock.acquire", () => attributes(name))
  }

  const tryAcquire: Service["tryAcquire"] = (name, options) => {
    const settings = settingsOf("Lock.tryAcquire", name, { ...options, waitTimeout: 0 })
    return Either.isLeft(settings)
      ? Effect.fail(settings.left)
      : withSpan(
        Effect.catchTag(
          Effect.asSome(acquireWith(name, settings.right)),
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
      Effect.uninterruptibleMask((restore) =>
        Effect.flatMap(
          enterOrTake(name, settings.right, restore),
          (lease) =>
            Effect.matchCauseEffect(runProtected(lease, effect, restore), {
              onFailure: (cause) => Effect.zipRight(giveBack(lease), Effect.failCause(cause)),
              onSuccess: (value) =>
                Effect.flatMap(
                  giveBack(lease),
                  (held) => held ? Exit.succeed(value) : Effect.fail(lostError(lease, "taken"))
                )
            })
        )
      ),
      "lock.withLock",
      () => attributes(name)
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
    tryAcquire,
    withLock: withLockService,
    fencingToken: (name) =>
      Effect.map(
        FiberRef.get(inside),
        (chain) => Option.map(Option.fromNullable(find(chain, name)), (lease) => lease.token)
      ),
    isLocked: (name) =>
      checked("Lock.isLocked", name, (keys) => Effect.map(client.eval(scripts.inspect, keys), Option.isSome)),
    ttl: (name) => Effect.map(inspect(name), Option.map((info) => info.remaining)),
    inspect,
    forceRelease: (name) =>
      checked(
        "Lock.forceRelease",
        name,
        (keys) => client.eval(scripts.forceRelease, keys, scripts.CLAIM, channel)
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

const attributes = (name: string) => ({ "effect_redis.lock.name": name })

// ---------------------------------------------------------------------------------------------------------------------
// Layers
// ---------------------------------------------------------------------------------------------------------------------

/**
 * @since 0.1.0
 * @category layers
 */
export const layer: Layer.Layer<Lock, never, RedisClient> = Layer.scoped(Lock, make)

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
