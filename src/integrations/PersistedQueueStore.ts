/**
 * Where `@effect/experimental/PersistedQueue` keeps its items: first in, first out, for any number of processes. Each
 * item is leased to whoever works at it, and what fails too often is kept as a dead letter.
 *
 * @since 0.1.0
 */
import { PersistedQueueError, PersistedQueueStore } from "@effect/experimental/PersistedQueue"
import * as Cause from "effect/Cause"
import type * as Context from "effect/Context"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Exit from "effect/Exit"
import type * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Queue from "effect/Queue"
import * as RcMap from "effect/RcMap"
import * as Schedule from "effect/Schedule"
import * as Scope from "effect/Scope"
import { randomBytes } from "node:crypto"
import { checkKey, inputError, positiveMillis } from "../internal/input.js"
import { mayPass } from "../internal/mayPass.js"
import { withSpan } from "../internal/telemetry.js"
import { RedisClient, type Service as Client } from "../RedisClient.js"
import { RedisDecodeError, type RedisError, type RedisInputError } from "../RedisError.js"
import { layer as testServer, type RedisTestServer } from "../RedisTestServer.js"
import * as scripts from "./persistedQueueScripts.js"

// ---------------------------------------------------------------------------------------------------------------------
// Models
// ---------------------------------------------------------------------------------------------------------------------

/**
 * All processes of a queue should have the same.
 *
 * @since 0.1.0
 * @category options
 */
export interface Options {
  /** What its keys begin with; `"persisted-queue:"` by default. */
  readonly prefix?: string | undefined
  /**
   * How long an item stays with a worker that gives no sign of life; 30 seconds by default. It is renewed at every third
   * of it.
   */
  readonly lease?: Duration.DurationInput | undefined
  /** How long an id of the user's is not accepted again after its item is finished; a day by default. */
  readonly idRetention?: Duration.DurationInput | undefined
  /** How many dead letters a queue keeps at most, the newest; 1000 by default. */
  readonly deadLetters?: number | undefined
  /** How long dead letters are kept after the last one came; 30 days by default. */
  readonly deadLetterRetention?: Duration.DurationInput | undefined
}

/**
 * An item that failed too often.
 *
 * @since 0.1.0
 * @category models
 */
export interface DeadLetter {
  readonly id: string
  /** As the schema of the queue encodes it. */
  readonly element: unknown
  readonly attempts: number
  /** The last failure, as text. */
  readonly failure: string
}

// ---------------------------------------------------------------------------------------------------------------------
// Constructors
// ---------------------------------------------------------------------------------------------------------------------

interface Settings {
  readonly prefix: string
  readonly lease: number
  readonly idRetention: number
  readonly deadLetters: number
  readonly deadLetterRetention: number
}

const settingsOf = (options: Options | undefined): Either.Either<Settings, RedisInputError> =>
  Either.gen(function*() {
    const operation = "PersistedQueueStore"
    const deadLetters = options?.deadLetters ?? 1000
    if (!Number.isSafeInteger(deadLetters) || deadLetters < 1) {
      return yield* Either.left(inputError(operation, "deadLetters", "a whole number of one or more", deadLetters))
    }
    return {
      prefix: options?.prefix ?? "persisted-queue:",
      lease: yield* positiveMillis(operation, "lease", options?.lease ?? 30_000),
      idRetention: yield* positiveMillis(operation, "idRetention", options?.idRetention ?? 86_400_000),
      deadLetters,
      deadLetterRetention: yield* positiveMillis(
        operation,
        "deadLetterRetention",
        options?.deadLetterRetention ?? 30 * 86_400_000
      )
    }
  })

const DEFAULTS = Either.getOrThrow(settingsOf(undefined))

const queueOf = (client: Client, { prefix, ...settings }: Settings, name: string): scripts.Queue => {
  const base = scripts.baseOf(prefix, name)
  return { keys: scripts.keysOf(base), channel: client.key(base), ...settings }
}

interface Item {
  readonly id: string
  readonly attempts: number
  readonly element: unknown
  readonly claim: string
}

interface Taker {
  readonly maxAttempts: number
  /** Set before it is resumed, so that an interruption at the same moment does not lose it. */
  item: Item | undefined
  resume: (item: Effect.Effect<Item, RedisError>) => void
}

/** By which the server knows that an item is worked at. */
const memberOf = ({ claim, id }: Item): string => `${claim} ${id}`

/** How many items one claim gets at most. */
const BATCH = 100

/** How long takers wait without having heard anything, in milliseconds; what nobody told is found then. */
const QUIET = 10_000

/** After a failure that may pass. */
const PAUSE = 500

/** How much of a failure is kept. */
const FAILURE_LENGTH = 4000

const queueError = (message: string) => (cause: RedisError) =>
  new PersistedQueueError({ message: `${message}: ${cause.message}`, cause })

/** An element that is `undefined` is one, too. */
const encode = (element: unknown): Either.Either<string, RedisInputError> => {
  try {
    return Either.right(JSON.stringify({ element }))
  } catch {
    return Either.left(inputError("PersistedQueue.offer", "value", "something that JSON can hold", element))
  }
}

const decode = (payload: string): Option.Option<unknown> => {
  try {
    return Option.some(JSON.parse(payload).element)
  } catch {
    return Option.none()
  }
}

/** The queues of one process. */
const makeWith = (
  settings: Settings
): Effect.Effect<Context.Tag.Service<typeof PersistedQueueStore>, never, RedisClient | Scope.Scope> =>
  Effect.gen(function*() {
    const client = yield* RedisClient
    const processScope = yield* Effect.scope
    const process = randomBytes(9).toString("base64url")
    let claims = 0

    const annotated = Effect.annotateLogs({ package: "effect-redis-kit", module: "PersistedQueueStore" })

    /** One queue: those who wait for its items, and what is worked at. */
    const open = (name: string) =>
      Effect.gen(function*() {
        const queue = queueOf(client, settings, name)
        const scope = yield* Effect.scope
        const takers = new Set<Taker>()
        const active = new Map<string, { readonly item: Item; readonly fiber: Fiber.RuntimeFiber<unknown, unknown> }>()
        // However often it is rung, what is to be done is done once.
        const bell = yield* Queue.sliding<void>(1)
        const ring = () => void bell.unsafeOffer(undefined)

        /** Once now; when the server can't be reached, again and again in the background for as long as the lease lasts. */
        const settle = (item: Item, outcome: scripts.Outcome): Effect.Effect<void> => {
          const attempt = client.eval(scripts.settle, queue, item.claim, item.id, outcome)
          const log = (logging: Effect.Effect<void>) =>
            Effect.annotateLogs(annotated(logging), { queue: name, id: item.id })
          const report = (settled: Either.Either<scripts.Settled, RedisError>): Effect.Effect<void> =>
            Either.isLeft(settled)
              ? log(
                Effect.logError("an item could not be settled, and comes again when its lease has ended", settled.left)
              )
              : settled.right === "lost"
              ? log(Effect.logWarning("the lease of an item had ended before it was settled: it may come again"))
              : settled.right === "dead"
              ? log(Effect.logWarning("an item failed too often, and is a dead letter now"))
              : Effect.void
          return Effect.flatMap(Effect.either(attempt), (result) => {
            if (Either.isRight(result) || !mayPass(result.left)) return report(result)
            const schedule = Schedule.spaced(PAUSE).pipe(Schedule.upTo(settings.lease))
            const again = Effect.retry(attempt, { while: mayPass, schedule })
            const background = Effect.sleep(PAUSE).pipe(
              Effect.zipRight(Effect.either(again)),
              Effect.flatMap(report)
            )
            return Effect.asVoid(Effect.forkIn(Effect.interruptible(background), processScope))
          })
        }

        const release = (item: Item) => settle(item, { _tag: "released" })

        /** To whoever waits longest, or back when nobody does any more. */
        const handOut = (item: Item): Effect.Effect<void> =>
          Effect.suspend(() => {
            for (const taker of takers) {
              takers.delete(taker)
              taker.item = item
              taker.resume(Effect.succeed(item))
              return Effect.void
            }
            return release(item)
          })

        /** A claim whose reply was lost may have got something. */
        let uncertain: Array<string> = []
        const clearUp: Effect.Effect<void, RedisError> = Effect.suspend(() =>
          Effect.forEach(uncertain, (claim) => client.eval(scripts.releaseAll, queue, claim), { discard: true })
        ).pipe(Effect.map(() => void (uncertain = [])))

        /** Claims for those who wait; how long until it makes sense to try again. */
        const claimOnce: Effect.Effect<number, RedisError> = Effect.uninterruptible(Effect.gen(function*() {
          if (uncertain.length > 0) yield* clearUp
          const wanted = Math.min(BATCH, takers.size)
          if (wanted === 0) return Infinity
          const claim = `${process}:${claims++}`
          let most = 1
          for (const taker of takers) most = Math.max(most, taker.maxAttempts)
          const { items, next } = yield* Effect.tapError(
            client.eval(scripts.claim, queue, claim, wanted, most),
            (error) =>
              Effect.sync(() => {
                if (error._tag === "RedisOutcomeUnknownError") uncertain.push(claim)
              })
          )
          for (const { attempts, id, payload } of items) {
            const element = decode(payload)
            const item = { id, attempts, claim, element: Option.getOrUndefined(element) }
            yield* Option.isSome(element)
              ? handOut(item)
              : settle(item, {
                _tag: "failed",
                maxAttempts: 1,
                failure: "the payload is no JSON",
                payload: JSON.stringify({ element: payload })
              })
          }
          return items.length === wanted ? 0 : Math.min(next, QUIET)
        }))

        const fail = (error: RedisError) => {
          for (const taker of takers) taker.resume(Effect.fail(error))
          takers.clear()
        }

        let subscribed = false
        const subscribe: Effect.Effect<void, RedisError> = Effect.suspend(() =>
          subscribed ?
            Effect.void :
            Scope.extend(client.subscribe({ channels: [queue.keys[0]!], capacity: 1 }), scope).pipe(
              Effect.flatMap((messages) =>
                Effect.forkIn(Effect.interruptible(Effect.forever(Effect.map(Queue.take(messages), ring))), scope)
              ),
              Effect.map(() => void (subscribed = true)),
              Effect.uninterruptible
            )
        )

        const serve: Effect.Effect<number> = Effect.suspend(() =>
          // What is uncertain goes back, also when nobody waits any more.
          takers.size === 0 && uncertain.length === 0 ? Effect.succeed(Infinity) : Effect.zipRight(subscribe, claimOnce)
        ).pipe(
          Effect.catchAll((error) =>
            mayPass(error)
              ? Effect.as(
                annotated(Effect.annotateLogs(Effect.logDebug("items could not be claimed", error), { queue: name })),
                PAUSE
              )
              : Effect.sync(() => {
                fail(error)
                return Infinity
              })
          )
        )

        const loop = (wait: number): Effect.Effect<never> =>
          (wait === 0
            ? Effect.void
            : wait === Infinity
            ? Queue.take(bell)
            : Effect.timeoutOption(Queue.take(bell), Math.ceil(wait))).pipe(
              Effect.zipRight(serve),
              Effect.flatMap(loop)
            )

        yield* Effect.forkIn(Effect.interruptible(loop(Infinity)), scope)
        yield* Effect.addFinalizer(() =>
          Effect.sync(() => {
            for (const taker of takers) taker.resume(Effect.interrupt)
          })
        )

        const renew: Effect.Effect<void, RedisError> = Effect.suspend(() => {
          const members: Array<string> = []
          const abandoned: Array<Item> = []
          for (const [member, { fiber, item }] of active) {
            // Interrupted between getting the item and doing anything with it: nobody closes the scope.
            const exit = fiber.unsafePoll()
            if (exit === null || !Exit.isInterrupted(exit)) members.push(member)
            else if (active.delete(member)) abandoned.push(item)
          }
          const parts: Array<ReadonlyArray<string>> = []
          for (let i = 0; i < members.length; i += 1000) parts.push(members.slice(i, i + 1000))
          const release = Effect.forEach(abandoned, (item) => settle(item, { _tag: "released" }), { discard: true })
          const renewal = Effect.forEach(parts, (part) =>
            Effect.flatMap(client.eval(scripts.renew, queue, part), (gone) => {
              // Those that were settled meanwhile are not lost.
              const lost = gone.filter((member) =>
                active.delete(member)
              )
              return lost.length === 0
                ? Effect.void
                : annotated(Effect.annotateLogs(
                  Effect.logWarning(`the leases of ${lost.length} items have ended: they may be worked at twice`),
                  { queue: name }
                ))
            }), { discard: true })
          return Effect.zipRight(release, renewal)
        })

        yield* Effect.forkIn(
          Effect.interruptible(Effect.forever(
            Effect.zipRight(
              Effect.sleep(Math.max(1, Math.floor(settings.lease / 3))),
              renew.pipe(
                Effect.retry({ while: mayPass, schedule: Schedule.recurs(2) }),
                Effect.catchAll((error) =>
                  annotated(Effect.logWarning("leases could not be renewed", error))
                )
              )
            )
          )),
          scope
        )

        return { queue, takers, active, ring, settle, release }
      })

    const queues = yield* RcMap.make({ lookup: open, idleTimeToLive: "10 seconds" })

    return {
      offer: ({ element, id, isCustomId, name }) =>
        Effect.suspend(() => {
          const bad = checkKey("PersistedQueue.offer", name, "name") ?? checkKey("PersistedQueue.offer", id, "id")
          const payload = bad === undefined ? encode(element) : Either.left(bad)
          return Either.isLeft(payload)
            ? Effect.fail(payload.left)
            : withSpan(
              client.eval(scripts.offer, queueOf(client, settings, name), id, payload.right, isCustomId),
              "persistedQueue.offer",
              () => ({ "effect_redis.queue.name": name })
            )
        }).pipe(Effect.asVoid, Effect.mapError(queueError("the item could not be offered"))),

      take: ({ maxAttempts, name }) =>
        Effect.uninterruptibleMask((restore) =>
          Effect.gen(function*() {
            const bad = checkKey("PersistedQueue.take", name, "name") ??
              (maxAttempts >= 1
                ? undefined
                : inputError("PersistedQueue.take", "maxAttempts", "a number of one or more", maxAttempts))
            if (bad !== undefined) return yield* Effect.fail(bad)
            // A scope of its own: whoever is interrupted while waiting may never close the one that was given.
            const scope = yield* Scope.make()
            const queue = yield* Scope.extend(RcMap.get(queues, name), scope)
            const taker: Taker = { maxAttempts, item: undefined, resume: () => {} }
            const item = yield* restore(
              withSpan(
                Effect.async<Item, RedisError>((resume) => {
                  taker.resume = resume
                  queue.takers.add(taker)
                  queue.ring()
                }),
                "persistedQueue.take",
                () => ({ "effect_redis.queue.name": name })
              )
            ).pipe(
              Effect.onInterrupt(() =>
                Effect.suspend(() => {
                  queue.takers.delete(taker)
                  return taker.item === undefined ? Effect.void : queue.release(taker.item)
                })
              ),
              Effect.onError((cause) => Scope.close(scope, Exit.failCause(cause)))
            )
            const member = memberOf(item)
            yield* Effect.withFiberRuntime<void>((fiber) => {
              queue.active.set(member, { item, fiber })
              return Effect.void
            })
            yield* Effect.addFinalizer((exit) => {
              const outcome: scripts.Outcome = Exit.isSuccess(exit)
                ? { _tag: "done" }
                : Cause.isInterruptedOnly(exit.cause)
                ? { _tag: "released" }
                : { _tag: "failed", maxAttempts, failure: Cause.pretty(exit.cause).slice(0, FAILURE_LENGTH) }
              return queue.settle(item, outcome).pipe(
                Effect.ensuring(Effect.sync(() => queue.active.delete(member))),
                Effect.ensuring(Scope.close(scope, Exit.void))
              )
            })
            return { id: item.id, attempts: item.attempts, element: item.element }
          })
        ).pipe(Effect.mapError(queueError("no item could be taken")))
    }
  })

/**
 * A store over the client of the environment. Its connections to queues belong to the scope.
 *
 * @since 0.1.0
 * @category constructors
 */
export const make = (
  options?: Options
): Effect.Effect<
  Context.Tag.Service<typeof PersistedQueueStore>,
  RedisInputError,
  RedisClient | Scope.Scope
> => Effect.flatMap(settingsOf(options), makeWith)

// ---------------------------------------------------------------------------------------------------------------------
// Layers
// ---------------------------------------------------------------------------------------------------------------------

/**
 * With options. Keep the result in a constant.
 *
 * @since 0.1.0
 * @category layers
 */
export const layerWith = (options?: Options): Layer.Layer<PersistedQueueStore, RedisInputError, RedisClient> =>
  Layer.scoped(PersistedQueueStore, make(options))

/**
 * @example
 * ```ts
 * import * as PersistedQueue from "@effect/experimental/PersistedQueue"
 * import { Effect, Layer, Schema } from "effect"
 * import * as PersistedQueueStore from "effect-redis-kit/integrations/PersistedQueueStore"
 * import * as IoRedis from "effect-redis-kit/IoRedis"
 *
 * const Queues = PersistedQueue.layer.pipe(
 *   Layer.provide(PersistedQueueStore.layer),
 *   Layer.provide(IoRedis.layerConfig())
 * )
 *
 * const program = Effect.gen(function*() {
 *   const mails = yield* PersistedQueue.make({ name: "mails", schema: Schema.Struct({ to: Schema.String }) })
 *   yield* mails.offer({ to: "ada@example.org" }, { id: "welcome-ada" })
 *   yield* mails.take(({ to }, { attempts }) => Effect.log(`attempt ${attempts + 1} for ${to}`), { maxAttempts: 5 })
 * }).pipe(Effect.provide(Queues))
 * ```
 *
 * @since 0.1.0
 * @category layers
 */
export const layer: Layer.Layer<PersistedQueueStore, never, RedisClient> = Layer.scoped(
  PersistedQueueStore,
  makeWith(DEFAULTS)
)

/**
 * A store on a server in memory, with the server and its client beside it.
 *
 * @since 0.1.0
 * @category layers
 */
export const layerTest: Layer.Layer<PersistedQueueStore | RedisClient | RedisTestServer> = Layer.provideMerge(
  layer,
  testServer
)

// ---------------------------------------------------------------------------------------------------------------------
// Accessors
// ---------------------------------------------------------------------------------------------------------------------

interface Letter extends DeadLetter {
  /** As it is kept. */
  readonly text: string
  readonly payload: string
}

const parseLetter = (text: string): Either.Either<Letter, RedisDecodeError> => {
  try {
    const { attempts, failure, id, item } = JSON.parse(text)
    return Either.right({ id, element: item?.element, attempts, failure, text, payload: JSON.stringify(item ?? {}) })
  } catch {
    return Either.left(new RedisDecodeError({ command: "LRANGE", detail: "expected dead letters as JSON" }))
  }
}

const lettersOf = (
  name: string,
  options: Options | undefined
): Effect.Effect<
  { readonly client: Client; readonly queue: scripts.Queue; readonly letters: ReadonlyArray<Letter> },
  RedisError,
  RedisClient
> =>
  Effect.gen(function*() {
    const client = yield* RedisClient
    const bad = checkKey("PersistedQueueStore.deadLetters", name, "name")
    if (bad !== undefined) return yield* Effect.fail(bad)
    const queue = queueOf(client, yield* settingsOf(options), name)
    const texts = yield* client.lrange(queue.keys[5]!, 0, -1)
    return { client, queue, letters: yield* Either.all(texts.map(parseLetter)) }
  })

/**
 * What failed too often in a queue, newest first. The options are those of the store.
 *
 * @since 0.1.0
 * @category accessors
 */
export const deadLetters = (
  name: string,
  options?: Options
): Effect.Effect<ReadonlyArray<DeadLetter>, RedisError, RedisClient> =>
  Effect.map(
    lettersOf(name, options),
    ({ letters }) => letters.map(({ attempts, element, failure, id }) => ({ id, element, attempts, failure }))
  )

/**
 * Puts a dead letter back into its queue, as if it had never failed. `false` when there is none of this id, or when an
 * item of this id was offered again meanwhile. The options are those of the store.
 *
 * @since 0.1.0
 * @category accessors
 */
export const replay = (
  name: string,
  id: string,
  options?: Options
): Effect.Effect<boolean, RedisError, RedisClient> =>
  Effect.flatMap(lettersOf(name, options), ({ client, letters, queue }) => {
    const letter = letters.find((letter) => letter.id === id)
    return letter === undefined
      ? Effect.succeed(false)
      : client.eval(scripts.replay, queue, letter.text, id, letter.payload)
  })
