/**
 * A worker: takes jobs of one queue and runs a handler for each.
 *
 * It makes one call at a time. What has ended meanwhile is settled by the next one, which also asks for as many jobs as
 * there is room for, so one round trip serves many jobs. When there was not enough to do it waits to be woken, or for the
 * time at which something is due. Whatever happens, the answer is always to make that call.
 */
import * as Cause from "effect/Cause"
import * as Data from "effect/Data"
import * as DateTime from "effect/DateTime"
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as ExecutionStrategy from "effect/ExecutionStrategy"
import * as Exit from "effect/Exit"
import type * as Fiber from "effect/Fiber"
import * as FiberId from "effect/FiberId"
import * as Option from "effect/Option"
import * as Predicate from "effect/Predicate"
import * as Runtime from "effect/Runtime"
import * as RuntimeFlags from "effect/RuntimeFlags"
import * as Schedule from "effect/Schedule"
import * as Scope from "effect/Scope"
import * as Alarm from "../internal/alarm.js"
import { makeLine } from "../internal/background.js"
import { checkWhole, inputError, nonNegativeMillis } from "../internal/input.js"
import { forkScopedWith } from "../internal/lazyScope.js"
import { isTraced } from "../internal/telemetry.js"
import { spanOf } from "../internal/traceparent.js"
import type { Service as Client } from "../RedisClient.js"
import type { RedisError, RedisInputError } from "../RedisError.js"
import { delayOf } from "./backoff.js"
import type { Courier } from "./Courier.js"
import { type Backoff, type Definition, type Firing, type Job, settingsOf } from "./Definition.js"
import * as Envelope from "./envelope.js"
import { childrenOf } from "./flows.js"
import { Types, UnknownType } from "./Handlers.js"
import { keysOf } from "./keys.js"
import * as metrics from "./metrics.js"
import * as Observer from "./Observer.js"
import { JobResultInvalid, JobTimedOut, Postponed, Unrecoverable } from "./QueueError.js"
import { log } from "./resultScripts.js"
import * as scripts from "./scripts.js"
import type { Pace, Registration, Wakeups } from "./Wakeups.js"

/**
 * @since 0.1.0
 * @category models
 */
export interface WorkerOptions<E> {
  /** How many handlers run at the same time; 1 by default. */
  readonly concurrency?: number | undefined
  /**
   * How many more jobs are taken than run, so that the next one is there when one ends. With `auto`, the default, up to
   * 16 when handlers take less than 5 ms, and none else. A queue with a limit of its own gives none in advance.
   */
  readonly prefetch?: "auto" | number | undefined
  /** How long handlers may go on when the worker stops, before they are interrupted; 30 seconds by default. */
  readonly drain?: Duration.DurationInput | undefined
  /** In place of that of the queue. */
  readonly backoff?: Backoff | undefined
  /** Whether another attempt makes sense after an error, besides what the queue says. */
  readonly retryable?: ((error: E) => boolean) | undefined
}

/**
 * @since 0.1.0
 * @category models
 */
export interface Worker {
  /** Takes no more jobs, and waits for those that run. Other workers go on. */
  readonly pause: Effect.Effect<void>
  readonly resume: Effect.Effect<void>
  readonly isPaused: Effect.Effect<boolean>
  /** How many handlers may run from now on; those that run go on. */
  readonly setConcurrency: (concurrency: number) => Effect.Effect<void, RedisInputError>
  /** How many handlers run. */
  readonly running: Effect.Effect<number>
  /** What the end of its scope does: takes no more, lets those that run go on for a while, and gives the others back. */
  readonly stop: Effect.Effect<void>
}

/**
 * @since 0.1.0
 * @category models
 */
export interface Handler<in out A, out E, out R, out B = unknown> {
  (job: Job<A>): Effect.Effect<B, E, R>
  /** @internal */
  readonly [UnknownType]?: (encoded: unknown) => boolean
  /** @internal */
  readonly [Types]?: ReadonlyArray<string>
}

/** What all workers of a process share, that is of one built layer. */
export interface Shared {
  readonly client: Client
  readonly wakeups: Wakeups
  /** Names one more worker. */
  readonly nextWorker: () => string
  /** Sees that schedules of the queue are fired, as long as the scope is there. */
  readonly fireSchedules: (definition: Definition<any, any>) => Effect.Effect<void, never, Scope.Scope>
  readonly pace: Pace
  readonly courier: Courier
}

/** The deadline of a job passed while it ran. */
class DeadlinePassed extends Data.TaggedError("DeadlinePassed") {}

/** What an attempt fails with besides the errors of its handler. */
type OwnFailure = JobTimedOut | JobResultInvalid | DeadlinePassed

/** What its result follows, when it has one. */
const COMPLETED = "c"

/** The worker has ended an attempt itself. */
const interrupted = Effect.succeed("")

/** A job that was taken. */
class Taken {
  fiber: Fiber.RuntimeFiber<unknown, unknown> | undefined = undefined
  startedAt = 0
  /** Why it was interrupted. */
  ended: "lost" | "cancelled" | "stopped" | undefined = undefined

  constructor(
    readonly member: string,
    readonly id: string,
    readonly text: string,
    readonly level: number,
    readonly failures: number,
    /** By our own clock; `Infinity` when there is none. */
    readonly deadline: number,
    public cancelled: boolean,
    /** Until when it is certainly ours, by our own clock: a process may stand still for any time. */
    public ours: number,
    /** By its type, as soon as that is known. */
    public count: metrics.OfWorker
  ) {}
}

/** Jobs in advance are only worth it for handlers that are this fast, in milliseconds. */
const FAST = 5
const MOST_AHEAD = 16

/** Jobs that were taken in advance and can't start for so many milliseconds go back to others. */
const STUCK = 50

export const MOST_CONCURRENCY = 100_000

/** One line has no more than an eighth of the room: a character is at most six bytes of JSON. */
const LOG_ROOM = 8

/** How many leases are renewed in one call. */
const RENEWED = 1000

/** How long a worker that ends goes on to tell the server what has become of its last jobs. */
const FAREWELL = "5 seconds"

/** While the server can't be reached. */
const FIRST_PAUSE = "50 millis"
const again = Schedule.exponential("100 millis").pipe(
  Schedule.delayed((delay) => Duration.min(delay, Duration.seconds(1)))
)

const checkConcurrency = (concurrency: number) =>
  checkWhole("Queue.worker", "concurrency", 1, MOST_CONCURRENCY, concurrency)

const firingOf = ({ schedule, slot }: Envelope.Head): Option.Option<Firing> =>
  schedule === undefined || slot === undefined
    ? Option.none()
    : Option.map(DateTime.make(slot), (slot) => ({ id: schedule, slot }))

/** After how many calls at the latest a queue is asked again whether it is a plain one. */
const MOST_DETOUR = 1024

const microtask = (f: () => void): void => void Promise.resolve().then(f)

export const make = <A, B, E, R>(
  { client, courier, fireSchedules, nextWorker, pace, wakeups }: Shared,
  definition: Definition<A, B>,
  handler: Handler<A, E, R, NoInfer<B>>,
  options: WorkerOptions<E> = {},
  /** How many jobs it may have at present, when that is not its concurrency. */
  capacity?: () => number
): Effect.Effect<Worker, RedisInputError, Exclude<R, Scope.Scope> | Scope.Scope> =>
  Effect.gen(function*() {
    const { name } = definition
    const prefetch = options.prefetch ?? "auto"
    const backoff = options.backoff ?? definition.backoff
    const { deadAge, deadCount, groups, lease, mostEvents, timeout, uses } = yield* settingsOf(definition)
    const drain = yield* nonNegativeMillis("Queue.worker", "drain", options.drain ?? "30 seconds")
    let concurrency = options.concurrency ?? 1
    const bad = checkConcurrency(concurrency) ??
      (prefetch === "auto" ? undefined : checkWhole("Queue.worker", "prefetch", 0, 1000, prefetch))
    if (bad !== undefined) return yield* bad

    const keys = keysOf(name)
    const worker = nextWorker()
    const script = groups === undefined ? scripts.work : scripts.workInGroups
    const workKeys = (groups === undefined ? scripts.keysFor : scripts.keysForGroups)(keys, `${keys.taken}:${worker}`)
    const plainKeys = scripts.keysForPlain(keys, `${keys.taken}:${worker}`)
    const terms: scripts.Terms = {
      cluster: client.mode === "cluster",
      uses,
      wake: client.key(keys.wake),
      lease,
      deadCount,
      deadAge,
      groups
    }
    const decode = Envelope.decoder(definition)
    const clock = yield* Effect.clock
    const types = handler[Types]
    const counted = metrics.ofWorker(name, types)
    const typeOf = (payload: unknown): string | undefined =>
      types !== undefined && Predicate.hasProperty(payload, "_tag") ? String(payload._tag) : undefined
    // The worker may be made where nothing can be interrupted.
    const forkHandler = forkScopedWith<R>(
      Runtime.enableRuntimeFlag(yield* Effect.runtime<Exclude<R, Scope.Scope>>(), RuntimeFlags.Interruption)
    )
    const traced = yield* Effect.withFiberRuntime<boolean>((fiber) => Effect.succeed(isTraced(fiber)))

    const parent = yield* Effect.scope
    const scope = yield* Scope.fork(parent, ExecutionStrategy.sequential)
    const { now, ringBy, run } = yield* Scope.extend(Alarm.make(() => tick()), scope)

    const inLine = makeLine(run)
    let calls = 0
    let calling = false
    /** Woken during a call, which may have looked before that. */
    let wokenMeanwhile = false
    /** There was not enough to do. */
    let idle = false
    /** Woken while there was no room: others have to know. */
    let passOn = false
    /** The queue has a limit, as far as is known. */
    let limited = false
    let paused = false
    let stopping = false
    let closed = false
    let scheduled = false
    let pumping = false
    /** From which call on the queue may be plain, and how many calls it was not the last time. */
    let plainlyAt = groups === undefined ? 0 : Infinity
    let detour = 1
    /** Members of leases, and what becomes of the jobs. */
    let settled: Array<string> = []
    const running = new Set<Taken>()
    const ahead: Array<Taken> = []
    /** Of handlers, in milliseconds; unknown at first. */
    let average = Infinity
    let lastStart = 0
    let pollAt = Infinity
    /** How often it has found nothing since there was something. */
    let looks = 0
    let renewAt = Infinity
    let renewing = false
    /** Waits until nothing is left to do. */
    const watchers = new Set<() => void>()

    const isQuiet = () => running.size === 0 && ahead.length === 0 && settled.length === 0 && !calling
    const isIdleHere = () => running.size === 0 && ahead.length === 0

    const notify = () => {
      for (const watcher of Array.from(watchers)) watcher()
    }

    const until = (condition: () => boolean): Effect.Effect<void> =>
      Effect.async<void>((resume) => {
        const watcher = () => {
          if (!condition()) return
          watchers.delete(watcher)
          resume(Effect.void)
        }
        watchers.add(watcher)
        watcher()
        return Effect.sync(() => watchers.delete(watcher))
      })

    // -- jobs ----------------------------------------------------------------------------------------------------------

    /** Makes a dead letter of a job that was not started. */
    const bury = (job: Taken, reason: Envelope.DeadReason, cause?: Cause.Cause<unknown>): void => {
      settled.push(job.member, `d${aboutDead(job, reason, job.failures, cause)}`)
    }

    /** Makes a dead letter of a job whose attempt has failed. */
    const failedAs = (job: Taken, reason: Envelope.DeadReason, cause?: Cause.Cause<unknown>): string =>
      `f${aboutDead(job, reason, job.failures + 1, cause)}`

    const aboutDead = (
      job: Taken,
      reason: Envelope.DeadReason,
      attempts: number,
      cause: Cause.Cause<unknown> | undefined
    ): string => {
      run(
        Effect.annotateLogs(Effect.logWarning(`a job of the queue "${name}" became a dead letter`), {
          id: job.id,
          reason,
          attempts
        })
      )
      job.count.dead.unsafeUpdate(1, [])
      return Envelope.deadInfo(reason, attempts, cause)
    }

    /** What becomes of a job whose attempt has failed. */
    const failed = (job: Taken, attempts: number, cause: Cause.Cause<E | OwnFailure>) => {
      const failure = Option.getOrUndefined(Cause.failureOption(cause))
      const attempt = job.failures + 1
      if (failure instanceof Postponed) {
        job.count.released.unsafeUpdate(1, [])
        return Effect.succeed(`p${Math.ceil(Math.min(Duration.toMillis(failure.delay), 31_536_000_000))}`)
      }
      if (failure instanceof DeadlinePassed) return Effect.sync(() => failedAs(job, "deadline"))
      if (failure instanceof Unrecoverable) {
        return Effect.sync(() => failedAs(job, "unrecoverable", Cause.fail(failure.error)))
      }
      const error = failure ?? Cause.squash(cause)
      const known = failure !== undefined && !(failure instanceof JobTimedOut || failure instanceof JobResultInvalid)
      return Effect.suspend(() => {
        if (known && !(definition.retryable(failure) && (options.retryable?.(failure) ?? true))) {
          return Effect.sync(() => failedAs(job, "unrecoverable", cause))
        }
        return attempt >= attempts
          ? Effect.sync(() => failedAs(job, "exhausted", cause))
          : Effect.map(delayOf(backoff, error, attempt), (delay) => {
            if (delay === undefined) return failedAs(job, "exhausted", cause)
            job.count.retried.unsafeUpdate(1, [])
            return `r${delay}`
          })
      }).pipe(
        // What decides about the next attempt is broken, so nobody can.
        Effect.catchAllDefect((defect) =>
          Effect.sync(() => failedAs(job, "exhausted", Cause.sequential(cause, Cause.die(defect))))
        )
      )
    }

    const encodeResult = definition.result === undefined
      ? () => Either.right("")
      : Envelope.encoderOf(definition, "result", definition.result)

    const completed = (job: Taken, attempts: number, value: B): Effect.Effect<string> => {
      const text = encodeResult("Queue.worker", value)
      return Either.isRight(text)
        ? Effect.succeed(COMPLETED + text.right)
        : failed(
          job,
          attempts,
          Cause.fail(new JobResultInvalid({ queue: name, id: job.id, detail: text.left.message }))
        )
    }

    const progressOf = (job: Taken) => (value: unknown): Effect.Effect<boolean, RedisError> =>
      Effect.suspend(() => {
        const text = Either.try((): string | undefined => JSON.stringify(value))
        return Either.isLeft(text) || text.right === undefined
          ? Effect.fail(inputError("Queue.progress", "value", "a value that is a JSON", value))
          : client.eval(scripts.tell, keys, job.member, job.id, text.right, mostEvents)
      })

    const logOf = (job: Taken): Job<A>["log"] => {
      let lines = 0
      // One after the other, so that a call that is made again finds its own line at the end.
      let lock: Effect.Semaphore | undefined
      return (line) =>
        Effect.suspend(() => {
          if (typeof line !== "string") return Effect.fail(inputError("Queue.log", "line", "a text", line))
          lock ??= Effect.unsafeMakeSemaphore(1)
          // No half of a character at the end.
          const json = JSON.stringify(line.slice(0, definition.logs.bytes / LOG_ROOM).replace(/[\uD800-\uDBFF]$/, ""))
          return lock.withPermits(1)(
            Effect.suspend(() => client.eval(log, keys, job.member, job.id, ++lines, json, definition.logs))
          )
        })
    }

    const effectOf = (taken: Taken, envelope: Envelope.Envelope<A>, payload: A, attempts: number) => {
      const job: Job<A> = {
        id: taken.id,
        payload,
        attempt: taken.failures + 1,
        attempts,
        priority: taken.level,
        group: Option.fromNullable(envelope.group),
        enqueuedAt: DateTime.unsafeMake(envelope.enqueuedAt),
        schedule: firingOf(envelope),
        progress: progressOf(taken),
        children: childrenOf(client, courier, name, taken.id),
        log: logOf(taken)
      }
      let effect: Effect.Effect<B, E | OwnFailure, R> = Effect.suspend(() => handler(job))
      const limit = envelope.timeout ?? timeout
      if (limit !== undefined) {
        effect = Effect.timeoutFail(effect, {
          duration: limit,
          onTimeout: () => new JobTimedOut({ queue: name, id: taken.id, timeout: limit })
        })
      }
      if (taken.deadline < Infinity) {
        effect = Effect.timeoutFail(effect, {
          duration: Math.max(0, Math.ceil(taken.deadline - now())),
          onTimeout: () => new DeadlinePassed()
        })
      }
      if (traced) {
        const parent = envelope.traceparent === undefined ? undefined : spanOf(envelope.traceparent)
        effect = Effect.withSpan(effect, `process ${name}`, {
          kind: "consumer",
          captureStackTrace: false,
          ...(parent === undefined ? { root: true } : { parent }),
          attributes: {
            "messaging.system": "redis",
            "messaging.destination.name": name,
            "messaging.message.id": taken.id,
            "messaging.operation.type": "process",
            "messaging.operation.name": "process",
            "effect_redis.queue.attempt": job.attempt
          }
        })
      }
      return effect
    }

    const outcomeOf = (
      taken: Taken,
      attempts: number,
      exit: Exit.Exit<B, E | OwnFailure>
    ): Effect.Effect<string> =>
      Exit.isSuccess(exit)
        ? completed(taken, attempts, exit.value)
        : taken.ended !== undefined && Cause.isInterrupted(exit.cause)
        ? interrupted
        : failed(taken, attempts, exit.cause)

    /** Runs the handler, unless that makes no sense any more. */
    const start = (taken: Taken): void => {
      const { failures } = taken
      if (taken.cancelled) return bury(taken, "cancelled")
      const envelope = decode(taken.text, taken.id)
      if (Either.isLeft(envelope.payload)) {
        const reason = handler[UnknownType]?.(envelope.encoded) === true ? "no-handler" : "undecodable"
        return bury(taken, reason, Cause.fail(Envelope.whyOf(envelope.payload.left)))
      }
      const attempts = envelope.attempts ?? definition.attempts
      if (failures >= attempts) return bury(taken, "lease-expired")
      if (now() >= taken.deadline) return bury(taken, "deadline")
      taken.count = counted.of(typeOf(envelope.payload.right))
      if (failures === 0) {
        const waited = clock.unsafeCurrentTimeMillis() - envelope.enqueuedAt - (envelope.delay ?? 0)
        taken.count.wait.unsafeUpdate(Math.max(0, waited) / 1000, [])
      }
      running.add(taken)
      taken.startedAt = lastStart = now()
      observer?.changed()
      const fiber = forkHandler(
        effectOf(taken, envelope, envelope.payload.right, attempts),
        (exit) => {
          if (Exit.isSuccess(exit) && definition.result === undefined) return ended(taken, COMPLETED)
          run(outcomeOf(taken, attempts, exit)).addObserver((outcome) =>
            ended(taken, Exit.isSuccess(outcome) ? outcome.value : "")
          )
        }
      )
      taken.fiber = fiber
      // It may have been cancelled by its own first step.
      if (taken.ended !== undefined) fiber.unsafeInterruptAsFork(FiberId.none)
    }

    const ended = (taken: Taken, outcome: string): void => {
      running.delete(taken)
      observer?.changed()
      const millis = now() - taken.startedAt
      average = average === Infinity ? millis : average * 0.8 + millis * 0.2
      taken.count.seconds.unsafeUpdate(millis / 1000, [])
      if (taken.ended !== "lost") {
        if (outcome !== "") {
          if (outcome.startsWith(COMPLETED)) taken.count.completed.unsafeUpdate(1, [])
          settled.push(taken.member, outcome)
        } else if (taken.ended === "cancelled") {
          settled.push(taken.member, failedAs(taken, "cancelled"))
        } else {
          release(taken)
        }
      }
      schedule()
    }

    const release = ({ count, member }: Taken): void => {
      count.released.unsafeUpdate(1, [])
      settled.push(member, "x")
    }

    /** The last one first, so that they come into the order they had. */
    const releaseAhead = (): void => {
      for (let job = ahead.pop(); job !== undefined; job = ahead.pop()) release(job)
    }

    const interrupt = (taken: Taken, why: NonNullable<Taken["ended"]>): void => {
      taken.ended ??= why
      taken.fiber?.unsafeInterruptAsFork(FiberId.none)
    }

    const lose = (id: string, count: metrics.OfWorker): void => {
      count.lost.unsafeUpdate(1, [])
      run(Effect.annotateLogs(Effect.logWarning(`lost a job of the queue "${name}" to another worker`), { id }))
    }

    // -- calls ---------------------------------------------------------------------------------------------------------

    const room = (): number =>
      paused || stopping ? 0 : Math.max(0, (capacity?.() ?? concurrency) - running.size - ahead.length)

    const inAdvance = (): number => {
      if (paused || stopping || limited) return 0
      const most = prefetch === "auto" ? average < FAST ? MOST_AHEAD : 0 : prefetch
      return Math.max(0, Math.min(most, concurrency + most - running.size - ahead.length))
    }

    const schedule = (): void => {
      if (scheduled || pumping) return
      scheduled = true
      microtask(() => {
        scheduled = false
        pump()
      })
    }

    const pump = (): void => {
      if (pumping || closed) return
      pumping = true
      while (ahead.length > 0 && running.size < concurrency) {
        if (now() >= ahead[0]!.ours) {
          // It may be somebody else's by now: the server knows.
          renew()
          break
        }
        start(ahead.shift()!)
      }
      pumping = false
      if (ahead.length > 0 && prefetch === "auto") ringBy(Math.max(lastStart, now() - STUCK) + STUCK)
      if (!calling) {
        const free = room()
        const advance = inAdvance()
        const want = free + advance
        if (settled.length > 0 || want > 0 && !idle || passOn) {
          call(want, advance)
        } else if (want > 0) {
          registration?.wait()
        }
      }
      if (watchers.size > 0) notify()
    }

    const call = (want: number, advance: number): void => {
      calling = true
      passOn = false
      wokenMeanwhile = false
      const settles = settled
      settled = []
      const number = ++calls
      let asked = 0
      const work = Effect.suspend(() => {
        asked = now()
        return client.eval(script, { keys: workKeys, call: number }, worker, terms, want, advance, settles)
      })
      const completed = number < plainlyAt ? undefined : scripts.completedOf(terms, settles, want)
      const ask = completed === undefined ? work : Effect.suspend(() => {
        asked = now()
        return Effect.flatMap(
          client.eval(scripts.workPlainly, { keys: plainKeys, call: number }, worker, terms, want, completed),
          (claimed) => {
            detour = claimed === undefined ? Math.min(detour * 2, MOST_DETOUR) : 1
            if (claimed !== undefined) return Effect.succeed(claimed)
            plainlyAt = number + detour
            return work
          }
        )
      })
      const wait = (error: RedisError) =>
        Effect.logWarning(`a worker of the queue "${name}" waits for Redis`).pipe(
          Effect.annotateLogs({ error }),
          // The server knows the number of a call that it has executed.
          Effect.zipRight(Effect.delay(Effect.retry(ask, again), FIRST_PAUSE))
        )
      inLine(Effect.catchAll(ask, wait), (exit) => called(exit, number, asked, want, settles))
    }

    const called = (
      exit: Exit.Exit<scripts.Claimed, RedisError>,
      number: number,
      asked: number,
      want: number,
      settles: ReadonlyArray<string>
    ): void => {
      calling = false
      if (Exit.isSuccess(exit)) received(exit.value, number, asked, want, settles)
      pump()
    }

    const received = (
      {
        cancelled,
        deadlines,
        envelopes,
        failures,
        ids,
        levels,
        limited: isLimited,
        lost,
        next,
        now: serverNow,
        posted
      }: scripts.Claimed,
      number: number,
      asked: number,
      want: number,
      settles: ReadonlyArray<string>
    ): void => {
      for (const i of lost) {
        const member = settles[2 * i] ?? ""
        lose(member.slice(member.indexOf("|") + 1), counted.others)
      }
      limited = isLimited
      if (posted) courier.kick(name)
      const at = now()
      for (let i = 0; i < ids.length; i++) {
        const text = envelopes[i]
        if (typeof text !== "string") continue
        const id = ids[i]!
        const deadline = deadlines[i]
        ahead.push(
          new Taken(
            `${worker}:${number}:${i + 1}|${id}`,
            id,
            text,
            levels[i] ?? 0,
            Number(failures[i] ?? 0),
            typeof deadline === "string" ? at + Number(deadline) - serverNow : Infinity,
            cancelled[i] === 1,
            asked + lease,
            counted.others
          )
        )
      }
      if (ids.length > 0 && renewAt === Infinity) {
        renewAt = at + lease / 3
        ringBy(renewAt)
      }
      // It may have been paused meanwhile.
      if (paused || stopping) releaseAhead()
      idle = ids.length < Math.min(want, scripts.MOST_CLAIMED) && !wokenMeanwhile
      looks = ids.length > 0 || !idle ? 0 : looks + 1
      if (idle) {
        const poll = pace.poll(looks)
        pollAt = at + (next < 0 ? poll : Math.min(next, poll))
        ringBy(pollAt)
      }
    }

    // -- time ----------------------------------------------------------------------------------------------------------

    const tick = (): void => {
      if (closed) return
      const time = now()
      if (time >= pollAt) {
        pollAt = Infinity
        idle = false
      }
      if (time >= renewAt) {
        renewAt = Infinity
        renew()
      }
      if (prefetch === "auto" && ahead.length > 0 && time >= lastStart + STUCK) {
        releaseAhead()
        average = Infinity
      }
      const next = Math.min(pollAt, renewAt)
      if (next < Infinity) ringBy(next)
      pump()
    }

    const renew = (): void => {
      const held = [...running, ...ahead]
      if (held.length === 0 || renewing) return
      renewing = true
      const parts: Array<ReadonlyArray<Taken>> = []
      for (let i = 0; i < held.length; i += RENEWED) parts.push(held.slice(i, i + RENEWED))
      const asked = now()
      run(Effect.forEach(parts, (part) =>
        Effect.map(
          client.eval(scripts.renew, keys, lease, part.map(({ member }) => member)),
          (states) => {
            part.forEach((job, i) => renewed(job, states[i] ?? "l", asked))
          }
        ), { discard: true })).addObserver((exit) => {
          renewing = false
          // Not a loss by itself: there is time until the end of the lease.
          if (Exit.isSuccess(exit)) {
            renewAt = asked + lease / 3
            schedule()
          } else {
            renewAt = now() + Math.min(1000, lease / 10)
          }
          ringBy(renewAt)
        })
    }

    const renewed = (job: Taken, state: string, asked: number): void => {
      if (state !== "l") job.ours = asked + lease
      if (state === "h") return
      const waits = ahead.indexOf(job)
      if (state === "c") {
        job.cancelled = true
        if (running.has(job)) interrupt(job, "cancelled")
      } else if (waits >= 0) {
        ahead.splice(waits, 1)
        lose(job.id, job.count)
      } else if (running.has(job) && job.ended === undefined) {
        lose(job.id, job.count)
        interrupt(job, "lost")
      }
    }

    // -- life ----------------------------------------------------------------------------------------------------------

    const wake = (): void => {
      if (closed) return
      if (calling) wokenMeanwhile = true
      idle = false
      // On a Cluster everybody was told.
      if (!terms.cluster && room() + inAdvance() === 0) passOn = true
      pump()
    }

    const cancel = (id: string): void => {
      for (const job of ahead) if (job.id === id) job.cancelled = true
      for (const job of running) if (job.id === id) interrupt(job, "cancelled")
    }

    let registration: Registration | undefined
    const stopped = yield* Deferred.make<void>()

    const within = (condition: () => boolean, limit: Duration.DurationInput) =>
      Effect.timeoutOption(Effect.interruptible(until(condition)), limit)

    // It says that the worker has ended when that is so.
    const observer = definition.inspected
      ? yield* Scope.extend(
        Observer.make(client, name, keys, worker, pace, () => ({
          concurrency: Math.min(concurrency, capacity?.() ?? Infinity),
          running
        })),
        scope
      )
      : undefined
    yield* Scope.addFinalizer(
      scope,
      Effect.gen(function*() {
        stopping = true
        releaseAhead()
        pump()
        yield* within(() => isIdleHere(), drain)
        for (const job of running) interrupt(job, "stopped")
        yield* until(isIdleHere)
        yield* within(isQuiet, FAREWELL)
        closed = true
        yield* Deferred.succeed(stopped, undefined)
      })
    )
    yield* Scope.extend(fireSchedules(definition), scope)
    registration = yield* Scope.extend(wakeups.register(keys, { wake, cancel }), scope)
    pump()

    return {
      pause: Effect.suspend(() => {
        paused = true
        releaseAhead()
        pump()
        return until(isQuiet)
      }),
      resume: Effect.sync(() => {
        paused = false
        idle = false
        pump()
      }),
      isPaused: Effect.sync(() => paused),
      setConcurrency: (n) =>
        Effect.suspend(() => {
          const bad = checkConcurrency(n)
          if (bad !== undefined) return Effect.fail(bad)
          concurrency = n
          idle = false
          pump()
          return Effect.void
        }),
      running: Effect.sync(() => running.size),
      stop: Effect.zipRight(Scope.close(scope, Exit.void), Deferred.await(stopped))
    }
  })
