/**
 * A worker of a group: it takes entries, runs a handler for each, and sees to it that none is lost.
 *
 * Everything that belongs to an entry (what waits, what runs, what is to be acknowledged) is plain data that changes in
 * one step. Four kinds of fibers work on it: one reads, so many run handlers, one acknowledges, and one renews.
 */
import * as Arr from "effect/Array"
import * as Cause from "effect/Cause"
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Fiber from "effect/Fiber"
import * as FiberId from "effect/FiberId"
import * as FiberSet from "effect/FiberSet"
import * as Option from "effect/Option"
import * as Random from "effect/Random"
import type * as Schedule from "effect/Schedule"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import { mayPass } from "../internal/mayPass.js"
import { scheduleDelay } from "../internal/scheduleDelay.js"
import { isTraced, withSpan } from "../internal/telemetry.js"
import type { Service as Client } from "../RedisClient.js"
import { RedisDecodeError, type RedisError } from "../RedisError.js"
import { rawEntries, type RawEntry, timestampOf, traceOf } from "../Stream/codec.js"
import { within } from "../Stream/trace.js"
import type { Service as Waker } from "../Stream/Waker.js"
import type { Definition, Delivered, Event, Worker } from "./ConsumerGroup.js"
import * as metrics from "./metrics.js"
import * as scripts from "./scripts.js"

export interface Settings<A, R> {
  readonly consumer: string
  readonly concurrency: number
  readonly batchSize: number
  readonly key: ((entry: Delivered<A>) => string) | undefined
  /** All in milliseconds. */
  readonly lease: number
  readonly claimEvery: number
  readonly drain: number
  readonly retire: number
  readonly maxDeliveries: number
  readonly retry: Schedule.Schedule<unknown, unknown>
  readonly kept: number
  readonly onEvent: ((event: Event) => Effect.Effect<unknown, never, R>) | undefined
}

/** What is held of an entry from the moment it is given to this worker. */
interface Job<A> {
  readonly raw: RawEntry
  readonly entry: Delivered<A> | undefined
  /** What is wrong with it, when it goes to the dead letters without being handled. */
  readonly refused: { readonly reason: "undecodable" | "deliveries"; readonly detail: string } | undefined
  readonly key: string | undefined
  deliveries: number
  /** Who runs it. */
  lane: Fiber.RuntimeFiber<void> | undefined
  /** Somebody else has it. */
  taken: boolean
}

const FIRST_PAUSE = 100
const LONGEST_PAUSE = 2000
const RENEWED_AT_ONCE = 500
const SETTLE = Duration.seconds(2)
const MOST_ERROR = 500

/** What goes away neither by itself nor with another try. */
const isFatal = (error: RedisError): boolean => {
  switch (error._tag) {
    case "RedisReplyError":
      return error.code === "WRONGTYPE" || error.code === "NOPERM" || error.code === "NOAUTH" || error.code === "ERR"
    case "RedisConnectionError":
      return !error.isRetryable
    case "RedisInputError":
    case "RedisDecodeError":
      return true
    default:
      return false
  }
}

const isGone = (error: RedisError): boolean => error._tag === "RedisReplyError" && error.code === "NOGROUP"

/** What an operator is told: the kind of failure, and its message. */
const describe = (cause: Cause.Cause<unknown>): string => {
  const error = Cause.squash(cause)
  const tag = typeof error === "object" && error !== null && "_tag" in error ? String(error._tag) : undefined
  const text = error instanceof Error
    ? `${tag ?? error.name}: ${error.message}`
    : tag ?? (typeof error === "string" ? error : typeof error)
  return text.slice(0, MOST_ERROR)
}

type Restore = <A, E, R>(effect: Effect.Effect<A, E, R>) => Effect.Effect<A, E, R>

const build = <A, E, R>(
  restore: Restore,
  client: Client,
  waker: Waker,
  group: Definition<A>,
  from: string,
  handler: (entry: Delivered<A>) => Effect.Effect<unknown, E, R>,
  settings: Settings<A, R>
): Effect.Effect<Worker, RedisError, R | Scope.Scope> =>
  Effect.gen(function*() {
    const { batchSize, concurrency, consumer, lease } = settings
    const { codec } = group.stream
    const keys = scripts.keysOf(group.stream.key, group.name)
    const key = client.key(keys.stream)
    const lag = metrics.lagOf(group.stream.name, group.name)
    const pendingGauge = metrics.pendingOf(group.stream.name, group.name)

    yield* restore(client.eval(scripts.create, keys, from))

    const run = yield* FiberSet.makeRuntime<R>()
    const clock = yield* Effect.clock
    const traced = yield* Effect.withFiberRuntime<boolean>((fiber) => Effect.succeed(isTraced(fiber)))
    const waiting = yield* waker.use(keys.stream)
    const failure = yield* Deferred.make<never, RedisError>()

    // -----------------------------------------------------------------------------------------------------------------
    // What is held
    // -----------------------------------------------------------------------------------------------------------------

    /** Everything that was given to this worker and is not settled, by id. */
    const held = new Map<string, Job<A>>()
    /** What a lane may start. */
    let ready: Array<Job<A>> = []
    let head = 0
    /** What waits for another entry with its key. */
    const behind = new Map<string, Array<Job<A>>>()
    /** How many were not begun. */
    let unbegun = 0
    let acks: Array<Job<A>> = []
    /** Interrupted with the end of the worker. */
    const broken: Array<Job<A>> = []
    let stopping = false
    let paused = false
    /** Entries may have been given to this consumer that it never saw. */
    let recover = true
    let cursor = "-"
    let sweepAt = 0
    /** The last id that it was given. */
    let lastSeen = "0-0"

    /** Those who wait for something to happen. */
    let idle: Array<() => void> = []
    let kickReader: (() => void) | undefined
    /** Something has changed for the reader since its turn began. */
    let signalled = false
    /** The reader waits because enough is held. */
    let full = false
    /** No lane will come with anything more. */
    let ended = false
    let kickAcker: (() => void) | undefined
    const sleepers = new Set<() => void>()
    const lanes = new Set<Fiber.RuntimeFiber<void>>()

    const kick = (): void => {
      signalled = true
      kickReader?.()
    }

    /** Another batch is asked for while the last one waits, so that server and handlers work at the same time. */
    const room = (): number => unbegun > batchSize ? 0 : batchSize

    const enqueue = (job: Job<A>): void => {
      held.set(job.raw.id, job)
      unbegun++
      if (job.key !== undefined) {
        const others = behind.get(job.key)
        if (others !== undefined) return void others.push(job)
        behind.set(job.key, [])
      }
      ready.push(job)
      idle.pop()?.()
    }

    const next = (): Job<A> | undefined => {
      if (stopping || paused || head === ready.length) return undefined
      const job = ready[head]!
      head++
      unbegun--
      if (head === ready.length) {
        ready = []
        head = 0
      }
      if (full && unbegun <= batchSize) kick()
      return job
    }

    /** It is done with, whatever became of it. */
    const close = (job: Job<A>): void => {
      if (job.lane === undefined) unbegun--
      job.lane = undefined
      if (job.key !== undefined) {
        const others = behind.get(job.key)
        const following = others?.shift()
        if (following === undefined) behind.delete(job.key)
        else {
          ready.push(following)
          idle.pop()?.()
        }
      }
    }

    const drop = (job: Job<A>): void => {
      held.delete(job.raw.id)
      close(job)
    }

    /** Takes back what no lane has started. */
    const unstarted = (): ReadonlyArray<Job<A>> => {
      const jobs = ready.slice(head)
      for (const others of behind.values()) jobs.push(...others)
      ready = []
      head = 0
      behind.clear()
      for (const { key, lane } of held.values()) if (lane !== undefined && key !== undefined) behind.set(key, [])
      for (const job of jobs) held.delete(job.raw.id)
      unbegun = 0
      return jobs
    }

    const tell = (event: Event): Effect.Effect<void, never, R> =>
      settings.onEvent === undefined
        ? Effect.void
        : Effect.catchAllDefect(
          Effect.asVoid(settings.onEvent(event)),
          (defect) => Effect.logWarning("what is told of events of a worker died", Cause.die(defect))
        )

    // -----------------------------------------------------------------------------------------------------------------
    // Settling
    // -----------------------------------------------------------------------------------------------------------------

    /** Ends early when the worker stops, or somebody else takes the entry. */
    const sleep = (millis: number): Effect.Effect<void> =>
      Effect.raceFirst(
        Effect.sleep(Duration.millis(millis)),
        Effect.async<void>((resume) => {
          const wake = () => resume(Effect.void)
          if (stopping) return wake()
          sleepers.add(wake)
          return Effect.sync(() => void sleepers.delete(wake))
        })
      ).pipe(Effect.interruptible, Effect.exit, Effect.asVoid)

    /** Tries for as long as the entry is held at least. What fails then is left to whoever takes the entry over. */
    const persist = <B>(effect: Effect.Effect<B, RedisError>, otherwise: B): Effect.Effect<B> => {
      const attempt = (left: number): Effect.Effect<B> =>
        Effect.catchAll(effect, (error) =>
          mayPass(error) && left > 0 && !stopping
            ? Effect.zipRight(sleep(200), Effect.suspend(() => attempt(left - 200)))
            : Effect.as(Effect.logDebug("an entry could not be settled", error), otherwise))
      return attempt(lease)
    }

    const bury = (job: Job<A>, reason: Event.DeadLettered["reason"], error: string): Effect.Effect<void, never, R> =>
      persist(
        client.eval(scripts.bury, keys, consumer, {
          id: job.raw.id,
          reason,
          error,
          deliveries: job.deliveries,
          kept: settings.kept,
          fields: job.raw.fields
        }),
        false
      ).pipe(
        Effect.flatMap((moved) => {
          drop(job)
          if (!moved) return Effect.void
          metrics.deadLettered.unsafeUpdate(1, [])
          return Effect.zipRight(
            Effect.logWarning(`an entry of ${keys.stream} is a dead letter of ${group.name} now: ${reason}`),
            tell({ _tag: "DeadLettered", id: job.raw.id, reason, deliveries: job.deliveries })
          )
        })
      )

    const release = (jobs: ReadonlyArray<Job<A>>, back: number): Effect.Effect<void> =>
      jobs.length === 0
        ? Effect.void
        : Effect.forEach(
          Arr.chunksOf(jobs, RENEWED_AT_ONCE),
          (some) =>
            client.eval(
              scripts.release,
              keys,
              consumer,
              some.map(({ deliveries, raw }) => [raw.id, Math.max(0, deliveries - back)] as const)
            ),
          { discard: true }
        ).pipe(
          Effect.zipRight(Effect.sync(() => metrics.released.unsafeUpdate(jobs.length, []))),
          Effect.catchAll((error) => Effect.logDebug("entries could not be given back", error))
        )

    const succeeded = (job: Job<A>): void => {
      acks.push(job)
      close(job)
      kickAcker?.()
    }

    const lost = (job: Job<A>): Effect.Effect<void, never, R> => {
      metrics.takenOver.unsafeUpdate(1, [])
      drop(job)
      return tell({ _tag: "TakenOver", id: job.raw.id })
    }

    const failed = (job: Job<A>, cause: Cause.Cause<unknown>): Effect.Effect<void, never, R> => {
      if (job.taken) return lost(job)
      if (stopping && Cause.isInterrupted(cause)) {
        broken.push(job)
        drop(job)
        return Effect.void
      }
      metrics.failed.unsafeUpdate(1, [])
      return Effect.flatMap(
        job.deliveries >= settings.maxDeliveries
          ? Effect.succeed(undefined)
          : scheduleDelay(settings.retry, Cause.squash(cause), job.deliveries),
        (delay) => {
          if (delay === undefined) return bury(job, "failed", describe(cause))
          if (job.key !== undefined) return retryInPlace(job, delay)
          return Effect.flatMap(
            persist(client.eval(scripts.delay, keys, consumer, job.raw.id, delay), false),
            () =>
              Effect.sync(() => {
                drop(job)
                const now = clock.unsafeCurrentTimeMillis()
                if (now + delay + 1 < sweepAt) {
                  sweepAt = now + delay + 1
                  kick()
                }
              })
          )
        }
      )
    }

    /** What has the same key waits behind it. */
    const retryInPlace = (job: Job<A>, delay: number): Effect.Effect<void, never, R> =>
      Effect.zipRight(
        sleep(delay),
        Effect.suspend(() => {
          if (job.taken) return lost(job)
          if (stopping) {
            broken.push(job)
            drop(job)
            return Effect.void
          }
          return Effect.flatMap(
            persist(client.eval(scripts.again, keys, consumer, job.raw.id, job.deliveries + 1), false),
            (mine) => {
              if (!mine) return Effect.sync(() => drop(job))
              job.deliveries++
              return execute(job)
            }
          )
        })
      )

    // -----------------------------------------------------------------------------------------------------------------
    // Lanes
    // -----------------------------------------------------------------------------------------------------------------

    const spanName = "stream.handle"
    const attributes = ({ raw }: Job<A>) => () => ({
      "effect_redis.stream.name": group.stream.name,
      "effect_redis.stream.group": group.name,
      "messaging.system": "redis",
      "messaging.message.id": raw.id
    })

    /** With a span as a part of that of whoever appended it. */
    const spanned = (job: Job<A>, effect: Effect.Effect<unknown, E, R>): Effect.Effect<unknown, E, R> => {
      const span = withSpan(effect, spanName, attributes(job))
      const trace = traceOf(codec, job.raw.fields)
      return trace === undefined ? span : within(span, trace)
    }

    /** Runs where nothing but the handler can be interrupted. */
    const execute = (job: Job<A>): Effect.Effect<void, never, R> => {
      const { entry } = job
      if (entry === undefined) return bury(job, job.refused!.reason, job.refused!.detail)
      const current = entry.deliveries === job.deliveries ? entry : { ...entry, deliveries: job.deliveries }
      let effect: Effect.Effect<unknown, E, R>
      try {
        effect = handler(current)
      } catch (defect) {
        effect = Effect.die(defect)
      }
      return Effect.matchCauseEffect(Effect.interruptible(traced ? spanned(job, effect) : effect), {
        onFailure: (cause) => failed(job, cause),
        onSuccess: () => {
          succeeded(job)
          return Effect.void
        }
      })
    }

    const parked: Effect.Effect<void> = Effect.async((resume) => {
      if (stopping || (!paused && head < ready.length)) resume(Effect.void)
      else idle.push(() => resume(Effect.void))
    })

    const lane = Effect.uninterruptible(Effect.withFiberRuntime<void, never, R>((fiber) => {
      let job: Job<A> | undefined
      return Effect.whileLoop({
        // Who was interrupted stays so.
        while: () => !stopping && job?.taken !== true,
        body: () => {
          job = next()
          if (job === undefined) return parked
          job.lane = fiber
          return execute(job)
        },
        step: () => {}
      })
    }))

    const openLane = (): void => {
      const fiber: Fiber.RuntimeFiber<void> = run(lane)
      lanes.add(fiber)
      fiber.addObserver(() => {
        lanes.delete(fiber)
        if (!stopping) openLane()
      })
    }

    // -----------------------------------------------------------------------------------------------------------------
    // Acknowledging
    // -----------------------------------------------------------------------------------------------------------------

    const acker = Effect.uninterruptible(Effect.whileLoop({
      while: () => !ended || acks.length > 0,
      body: () => {
        if (acks.length === 0) {
          return Effect.async<void>((resume) => {
            if (ended || acks.length > 0) return resume(Effect.void)
            kickAcker = () => {
              kickAcker = undefined
              resume(Effect.void)
            }
          })
        }
        const jobs = acks
        acks = []
        return Effect.map(
          persist(client.send("XACK", key, group.name, ...jobs.map(({ raw }) => raw.id)), null),
          () => {
            for (const { raw } of jobs) held.delete(raw.id)
            metrics.handled.unsafeUpdate(jobs.length, [])
          }
        )
      },
      step: () => {}
    }))

    // -----------------------------------------------------------------------------------------------------------------
    // Renewing
    // -----------------------------------------------------------------------------------------------------------------

    const renewSome = (ids: ReadonlyArray<string>): Effect.Effect<void, RedisError, R> =>
      Effect.flatMap(client.eval(scripts.renew, keys, consumer, ids), (taken) =>
        Effect.forEach(taken, (id) => {
          const job = held.get(id)
          if (job === undefined || job.taken) return Effect.void
          job.taken = true
          if (job.lane !== undefined) {
            job.lane.unsafeInterruptAsFork(FiberId.none)
            return Effect.void
          }
          const at = ready.indexOf(job, head)
          if (at !== -1) {
            ready.splice(at, 1)
            return lost(job)
          }
          const others = job.key === undefined ? undefined : behind.get(job.key)
          const place = others?.indexOf(job) ?? -1
          if (place === -1) return Effect.void
          others!.splice(place, 1)
          held.delete(id)
          unbegun--
          metrics.takenOver.unsafeUpdate(1, [])
          return tell({ _tag: "TakenOver", id })
        }, { discard: true }))

    const renewer = Effect.interruptible(Effect.gen(function*() {
      let pause = lease / 3
      while (true) {
        const jitter = yield* Random.next
        yield* Effect.sleep(Duration.millis(Math.ceil(pause * (0.8 + 0.2 * jitter))))
        const ids = Array.from(held.keys())
        const result = yield* Effect.either(Effect.uninterruptible(Effect.forEach(
          Arr.chunksOf(ids, RENEWED_AT_ONCE),
          renewSome,
          { discard: true }
        )))
        pause = Either.isLeft(result) && mayPass(result.left) ? lease / 10 : lease / 3
      }
    }))

    // -----------------------------------------------------------------------------------------------------------------
    // Reading
    // -----------------------------------------------------------------------------------------------------------------

    const jobOf = (raw: RawEntry, deliveries: number): Job<A> => {
      const decoded = codec.decode(raw.fields)
      let refused: Job<A>["refused"]
      let entry: Delivered<A> | undefined
      let key: string | undefined
      if (Either.isLeft(decoded)) refused = { reason: "undecodable", detail: decoded.left }
      else if (deliveries > settings.maxDeliveries) {
        refused = { reason: "deliveries", detail: `given up after ${settings.maxDeliveries} deliveries` }
      } else {
        entry = { _tag: "Entry", id: raw.id, timestamp: timestampOf(raw.id), value: decoded.right, deliveries }
        try {
          key = settings.key?.(entry)
        } catch {
          entry = undefined
          refused = { reason: "undecodable", detail: "the function that tells its key throws" }
        }
      }
      return { raw, entry, refused, key, deliveries, lane: undefined, taken: false }
    }

    const accept = (entries: ReadonlyArray<RawEntry>): Effect.Effect<void> => {
      if (entries.length > 0) lastSeen = entries[entries.length - 1]!.id
      const jobs = entries.map((raw) => jobOf(raw, 1))
      if (stopping || paused) return release(jobs, 1)
      for (const job of jobs) enqueue(job)
      return Effect.void
    }

    const readNew: Effect.Effect<ReadonlyArray<RawEntry>, RedisError> = Effect.suspend(() =>
      Effect.flatMap(
        client.send("XREADGROUP", "GROUP", group.name, consumer, "COUNT", batchSize, "STREAMS", key, ">"),
        (reply) => {
          const entries = reply === null
            ? []
            : Array.isArray(reply) && Array.isArray(reply[0])
            ? rawEntries(reply[0][1])
            : undefined
          return entries === undefined
            ? Effect.fail(new RedisDecodeError({ command: "XREADGROUP", detail: "expected entries" }))
            : Effect.succeed(entries)
        }
      )
    )

    const sweep: Effect.Effect<void, RedisError, R> = Effect.gen(function*() {
      const most = room()
      const result = yield* client.eval(scripts.take, keys, consumer, {
        lease,
        most,
        own: recover,
        cursor,
        held: held.keys()
      })
      pendingGauge.unsafeUpdate(result.pending, [])
      if (result.lag !== undefined) lag.unsafeUpdate(result.lag, [])
      const more = result.entries.length + result.trimmed.length >= most
      cursor = result.cursor
      if (!more) recover = false
      const now = clock.unsafeCurrentTimeMillis()
      if (more || cursor !== "-") sweepAt = now
      else {
        const jitter = yield* Random.next
        const every = Math.ceil(settings.claimEvery * (0.8 + 0.2 * jitter))
        sweepAt = now + Math.min(every, (result.next ?? every) + 1)
        if (cursor === "-") {
          yield* Effect.ignore(client.eval(scripts.prune, keys, consumer, settings.retire))
        }
      }
      const jobs = result.entries.map(([raw, deliveries]) => jobOf(raw, deliveries))
      if (stopping || paused) yield* release(jobs, 1)
      else for (const job of jobs) enqueue(job)
      if (result.trimmed.length > 0) {
        metrics.trimmed.unsafeUpdate(result.trimmed.length, [])
        yield* Effect.logWarning(`${result.trimmed.length} pending entries of ${keys.stream} were trimmed`)
        yield* tell({ _tag: "Trimmed", ids: result.trimmed })
      }
    })

    const recreate: Effect.Effect<void, RedisError, R> = Effect.suspend(() =>
      client.eval(scripts.create, keys, from === "$" ? lastSeen === "0-0" ? "$" : lastSeen : from)
    ).pipe(
      Effect.flatMap((made) => {
        recover = true
        sweepAt = 0
        cursor = "-"
        if (made === 0) return Effect.void
        const what = made === 1 ? "group" : "stream"
        return Effect.zipRight(
          Effect.logWarning(`the ${what} of ${group.name} on ${keys.stream} was gone, and is there again`),
          tell({ _tag: "Recreated", what })
        )
      })
    )

    const kicked: Effect.Effect<void> = Effect.async((resume) => {
      if (signalled) return resume(Effect.void)
      kickReader = () => {
        kickReader = undefined
        resume(Effect.void)
      }
      return Effect.sync(() => void (kickReader = undefined))
    })

    /** Waits for an entry after this one, for something to change here, or for the time of the next sweep. */
    const rest = (last: string): Effect.Effect<void> =>
      Effect.async((resume) => {
        const millis = sweepAt - clock.unsafeCurrentTimeMillis()
        if (signalled || stopping || paused || millis <= 0) return resume(Effect.void)
        let timer: Fiber.RuntimeFiber<void> | undefined
        let cancel: (() => void) | undefined
        const wake = (): void => {
          if (kickReader !== wake) return
          kickReader = undefined
          cancel?.()
          timer?.unsafeInterruptAsFork(FiberId.none)
          resume(Effect.void)
        }
        kickReader = wake
        cancel = waiting(last, wake)
        timer = run(Effect.interruptible(Effect.map(Effect.sleep(Duration.millis(millis)), wake)))
      })

    let pause = FIRST_PAUSE
    let warned = false

    /** Asks once more, in one step with the question after what to wait. */
    const pollOrRest = Effect.suspend(() =>
      Effect.flatMap(
        client.eval(scripts.poll, keys, consumer, batchSize),
        (polled) => "entries" in polled ? accept(polled.entries) : rest(polled.last)
      )
    )

    const turn: Effect.Effect<void, RedisError, R> = Effect.suspend(() => {
      signalled = false
      if (stopping) return Effect.void
      full = room() === 0
      if (paused || full) return Effect.interruptible(kicked)
      if (recover || sweepAt <= clock.unsafeCurrentTimeMillis()) return sweep
      return Effect.flatMap(readNew, (entries) => {
        pause = FIRST_PAUSE
        warned = false
        return entries.length > 0 ? accept(entries) : pollOrRest
      })
    })

    /** What was asked for and not answered may have been given to this consumer. */
    const reader: Effect.Effect<void, never, R> = Effect.uninterruptible(Effect.whileLoop({
      while: () => !stopping,
      body: () =>
        Effect.catchAll(turn, (error) => {
          recover = true
          cursor = "-"
          const handled = isGone(error) ? recreate : Effect.fail(error)
          return Effect.catchAll(handled, (error) => {
            if (isFatal(error)) {
              stopping = true
              return Effect.zipRight(
                Effect.logError(`a worker of ${group.name} on ${keys.stream} has ended`, error),
                Deferred.fail(failure, error)
              )
            }
            const millis = pause
            pause = Math.min(LONGEST_PAUSE, 2 * pause)
            const pausing = Effect.flatMap(Random.next, (jitter) => sleep(Math.ceil(millis * (0.5 + jitter / 2))))
            if (warned) return pausing
            warned = true
            return Effect.zipRight(
              Effect.logWarning(`a worker of ${group.name} on ${keys.stream} can't read at the moment`, error),
              pausing
            )
          })
        }),
      step: () => {}
    }))

    // -----------------------------------------------------------------------------------------------------------------
    // Its life
    // -----------------------------------------------------------------------------------------------------------------

    for (let i = 0; i < concurrency; i++) openLane()
    const ackerFiber = run(acker)
    const renewerFiber = run(renewer)
    const readerFiber = run(reader)
    // What was answered while the connection broke is not known here.
    const watch = Stream.runForEach(client.state, ({ previous, status }) =>
      Effect.sync(() => {
        if (status !== "connected" || Option.isNone(previous)) return
        recover = true
        sweepAt = 0
        kick()
      }))
    run(Effect.interruptible(watch))

    const wakeAll = (): void => {
      const all = idle
      idle = []
      for (const wake of all) wake()
      for (const wake of sleepers) wake()
      kick()
      kickAcker?.()
    }

    const allEnded = Effect.suspend(() => Fiber.awaitAll(lanes))

    const shutDown: Effect.Effect<void> = Effect.gen(function*() {
      stopping = true
      wakeAll()
      yield* Effect.timeoutOption(Effect.interruptible(Fiber.await(readerFiber)), SETTLE)
      yield* release(unstarted(), 1).pipe(Effect.interruptible, Effect.timeoutOption(SETTLE))
      const drained = yield* allEnded.pipe(
        Effect.interruptible,
        Effect.timeoutOption(Duration.millis(settings.drain))
      )
      if (Option.isNone(drained)) {
        for (const fiber of lanes) fiber.unsafeInterruptAsFork(FiberId.none)
        yield* allEnded
      }
      // How often they were delivered stays: they were begun.
      yield* release(broken, 0).pipe(Effect.interruptible, Effect.timeoutOption(SETTLE))
      ended = true
      kickAcker?.()
      yield* Effect.timeoutOption(Effect.interruptible(Fiber.await(ackerFiber)), SETTLE)
      yield* Fiber.interrupt(renewerFiber)
      yield* client.eval(scripts.retire, keys, consumer).pipe(
        Effect.interruptible,
        Effect.timeoutOption(SETTLE),
        Effect.ignore
      )
    })

    const stopped = yield* Effect.cached(shutDown)
    const stop = Effect.uninterruptible(stopped)
    yield* Effect.addFinalizer(() => stop)

    return {
      consumer,
      pause: Effect.uninterruptible(Effect.suspend(() => {
        paused = true
        return release(unstarted(), 1)
      })),
      resume: Effect.sync(() => {
        paused = false
        kick()
      }),
      stop,
      held: Effect.sync(() => held.size),
      failure: Deferred.await(failure)
    }
  })

export const start = <A, E, R>(
  client: Client,
  waker: Waker,
  group: Definition<A>,
  from: string,
  handler: (entry: Delivered<A>) => Effect.Effect<unknown, E, R>,
  settings: Settings<A, R>
): Effect.Effect<Worker, RedisError, R | Scope.Scope> =>
  Effect.uninterruptibleMask((restore) => build(restore, client, waker, group, from, handler, settings))
