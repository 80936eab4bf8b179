/**
 * Projections: one process at a time works on a partition, and its checkpoint is in Redis.
 */
import * as Clock from "effect/Clock"
import * as Data from "effect/Data"
import * as DateTime from "effect/DateTime"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Schedule from "effect/Schedule"
import * as Stream from "effect/Stream"
import { checkWhole, positiveMillis } from "../internal/input.js"
import { mayPass } from "../internal/mayPass.js"
import { handlerFailures } from "../internal/metrics.js"
import { reading, untilItWorks } from "../internal/retries.js"
import { checkName } from "../internal/rooms.js"
import { withSpan } from "../internal/telemetry.js"
import type * as Lock from "../Lock/Lock.js"
import type { Service as Client } from "../RedisClient.js"
import { RedisDecodeError, type RedisError, type RedisInputError } from "../RedisError.js"
import type { Tagged } from "./codec.js"
import type { ProjectionOptions, ProjectionStatus, Recorded } from "./EventStore.js"
import type { EventDecodeError } from "./EventStoreError.js"
import * as metrics from "./metrics.js"
import * as Reader from "./Reader.js"
import * as scripts from "./scripts.js"

/** It can't go on: what the handler says, or what can't be read. A handler may fail with errors of this library, too. */
class Stopped<E> extends Data.TaggedError("Stopped")<{ readonly error: E }> {}

/** Somebody else has moved the checkpoint. */
class Superseded extends Data.TaggedError("Superseded") {}

/** At first soon, at last every so often, and soon again when it has worked for a while. */
const restarts = Schedule.union(Schedule.exponential("100 millis"), Schedule.spaced("5 seconds")).pipe(
  Schedule.resetAfter("1 minute")
)

const forEver = Schedule.union(Schedule.exponential("100 millis"), Schedule.spaced("30 seconds"))

/** How long the server is waited for when a projection is stopped. */
const LAST_SAVE = "500 millis"

const MOST_BATCH = 1000

interface Settings<A, M, E, R> extends ProjectionOptions<A, M, E, R> {
  readonly batch: number
  readonly retry: Schedule.Schedule<unknown, E>
  readonly lease: number
}

const settingsOf = <A, M, E, R>(
  options: ProjectionOptions<A, M, E, R>
): Either.Either<Settings<A, M, E, R>, RedisInputError> => {
  const operation = "EventStore.project"
  const batch = options.batch ?? 100
  const bad = checkName(operation, "name", options.name) ??
    (options.category === undefined ? undefined : checkName(operation, "category", options.category)) ??
    checkWhole(operation, "batch", 1, MOST_BATCH, batch)
  return bad === undefined
    ? Either.map(
      positiveMillis(operation, "lease", options.lease ?? "10 seconds"),
      (lease) => ({ ...options, batch, lease, retry: options.retry ?? forEver })
    )
    : Either.left(bad)
}

export interface Projections<A, M> {
  readonly run: <E, R>(
    options: ProjectionOptions<A, M, E, R>
  ) => Effect.Effect<never, E | EventDecodeError | RedisError, R>
  readonly status: (name: string) => Effect.Effect<ReadonlyArray<ProjectionStatus>, RedisError>
  readonly reset: (name: string) => Effect.Effect<void, RedisError>
}

export const make = <A extends Tagged, M>({ client, lock, places, reader }: {
  readonly client: Client
  readonly lock: Lock.Service
  readonly places: ReadonlyArray<scripts.Place>
  readonly reader: Reader.Reader<A, M>
}): Projections<A, M> => {
  /** Works on a partition for as long as the lock is held. */
  const work = <E, R>(
    place: scripts.Place,
    token: number,
    { batch, category, handle, name, onUndecodable, retry }: Settings<A, M, E, R>
  ) =>
    Effect.gen(function*() {
      const key = scripts.checkpointKey(place.base, name)
      const counted = metrics.projectionOf(place.name, name, place.partition)
      const from = yield* client.eval(scripts.takeOver, key, token)
      if (from === undefined) return yield* new Superseded()
      let reached = from
      let saved = from

      const save = Effect.suspend((): Effect.Effect<void, Superseded | RedisError> => {
        const next = reached
        return next === saved ? Effect.void : Effect.flatMap(
          client.eval(scripts.moveCheckpoint, key, token, next),
          (moved) => moved ? Effect.sync(() => void (saved = next)) : Effect.fail(new Superseded())
        )
      })

      const attempt = (effect: () => Effect.Effect<unknown, E, R>) =>
        Effect.suspend(effect).pipe(
          Effect.tapError((error) => {
            handlerFailures.unsafeUpdate(1, [])
            return Effect.logWarning(`the projection "${name}" of "${place.name}" could not handle an event`, error)
          }),
          Effect.retry(retry),
          Effect.mapError((error) => new Stopped<E | EventDecodeError>({ error }))
        )

      const handleOne = (one: Either.Either<Recorded<A, M>, EventDecodeError>) => {
        if (Either.isLeft(one)) {
          const error = one.left
          return onUndecodable === undefined
            ? Effect.fail(new Stopped<E | EventDecodeError>({ error }))
            : attempt(() => onUndecodable(error))
        }
        const event = one.right
        return withSpan(attempt(() => handle(event)), "eventstore.handle", () => ({
          "effect_redis.eventstore.name": place.name,
          "effect_redis.eventstore.projection": name,
          "effect_redis.eventstore.type": event.type
        })).pipe(
          Effect.zipRight(Clock.currentTimeMillis),
          Effect.map((now) => {
            counted.handled.unsafeUpdate(1, [])
            counted.delay.unsafeUpdate(Math.max(0, now - DateTime.toEpochMillis(event.timestamp)) / 1000, [])
          })
        )
      }

      const handlePart = ({ events, passed, position, scanned }: Reader.Part<A, M>) => {
        const before = reached.events
        let i = 0
        return Effect.whileLoop({
          while: () => i < events.length,
          body: () => handleOne(events[i]!),
          step: () => {
            const one = events[i]!
            const { position } = Either.isLeft(one) ? one.left : one.right
            reached = { position, events: before + passed[i]! }
            i++
          }
        }).pipe(Effect.zipRight(Effect.suspend(() => {
          reached = { position, events: before + scanned }
          return untilItWorks<void, Superseded>(save)
        })))
      }

      return yield* Stream.runForEach(reader.follow(place, from.position, category, batch), handlePart).pipe(
        Effect.zipRight(Effect.never),
        // What was handled is not handled again by the next one, as far as the server can be reached.
        Effect.onExit(() => Effect.ignore(Effect.timeout(Effect.interruptible(save), LAST_SAVE)))
      )
    })

  const runIn = <E, R>(place: scripts.Place, settings: Settings<A, M, E, R>) => {
    const { lease, name } = settings
    return Effect.scoped(Effect.flatMap(
      lock.acquire(`events:${place.name}.${place.partition}:${name}`, { lease, waitTimeout: Infinity }),
      (held) => held.protect(work(place, held.fencingToken, settings))
    )).pipe(
      Effect.retry({
        schedule: restarts,
        while: (error) =>
          error._tag === "LockLost" || error._tag === "LockNotAcquired" || error._tag === "Superseded" ||
          (error._tag !== "Stopped" && mayPass(error))
      }),
      Effect.catchAll((error): Effect.Effect<never, E | EventDecodeError | RedisError> => {
        switch (error._tag) {
          case "Stopped":
            return Effect.fail(error.error)
          case "LockLost":
          case "LockNotAcquired":
          case "Superseded":
            // The schedule of restarts has no end.
            return Effect.die(error)
          default:
            return Effect.fail(error)
        }
      })
    )
  }

  return {
    run: (options) => {
      const settings = settingsOf(options)
      return Either.isLeft(settings)
        ? Effect.fail(settings.left)
        : Effect.zipRight(
          Effect.forEach(places, (place) => runIn(place, settings.right), { concurrency: "unbounded", discard: true }),
          Effect.never
        )
    },
    status: (name) =>
      reading(Effect.flatMap(
        client.pipeline(places.flatMap(({ base }) => [
          ["HMGET", client.key(scripts.checkpointKey(base, name)), "position", "events"] as const,
          ["XLEN", client.key(scripts.allKey(base))] as const
        ])),
        (replies) =>
          Effect.forEach(places, ({ partition }, i) =>
            Effect.gen(function*() {
              const checkpoint = yield* replies[2 * i]!
              const length = yield* replies[2 * i + 1]!
              if (!Array.isArray(checkpoint)) {
                return yield* new RedisDecodeError({ command: "HMGET", detail: "expected an array" })
              }
              const [position, events] = checkpoint
              return {
                partition,
                position: typeof position === "string" ? position : Reader.START,
                behind: Math.max(0, Number(length) - Number(events ?? 0))
              }
            }))
      )),
    reset: (name) =>
      Effect.forEach(
        places,
        ({ base }) => client.eval(scripts.resetCheckpoint, scripts.checkpointKey(base, name)),
        { concurrency: "unbounded", discard: true }
      )
  }
}
