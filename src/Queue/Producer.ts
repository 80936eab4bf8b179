/**
 * How jobs get into their queues. There are few calls at a time for each queue: what comes meanwhile leaves together in the
 * next one, so whoever comes alone never waits, and many together cost little more than one. Who comes alone again and again
 * makes the calls itself, without a fiber for each.
 */
import type * as Arr from "effect/Array"
import * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as DateTime from "effect/DateTime"
import * as DefaultServices from "effect/DefaultServices"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Exit from "effect/Exit"
import type * as Fiber from "effect/Fiber"
import * as FiberRef from "effect/FiberRef"
import * as RuntimeFlags from "effect/RuntimeFlags"
import type * as Scope from "effect/Scope"
import { makeFork } from "../internal/background.js"
import { checkWhole, inputError, nonNegativeMillis, positiveMillis } from "../internal/input.js"
import { checkName } from "../internal/rooms.js"
import { isTraced } from "../internal/telemetry.js"
import { traceparentOf } from "../internal/traceparent.js"
import type { Service as Client } from "../RedisClient.js"
import type { RedisError, RedisInputError } from "../RedisError.js"
import {
  type Deduplication,
  type Definition,
  type Enqueued,
  type EnqueueOptions,
  MOST_ATTEMPTS,
  settingsOf
} from "./Definition.js"
import * as Envelope from "./envelope.js"
import { groupText } from "./groupScripts.js"
import { keysOf } from "./keys.js"
import * as metrics from "./metrics.js"
import { announce, ANNOUNCED } from "./Observer.js"
import { type PayloadTooLarge, QueueFull } from "./QueueError.js"
import * as scripts from "./scripts.js"

/** How many jobs `enqueueAll` takes at once. */
export const MOST_TOGETHER = 10_000

/** How many jobs of different callers leave together. */
const BATCH = 500

/** How many calls for a queue there are at a time: while the server works on one, another one is made. */
const LANES = 2

/** So many that wait do not wait for the end of the turn. */
const ENOUGH = 48

export interface Producer {
  readonly enqueue: <A>(
    definition: Definition<A, any>,
    payload: A,
    options?: EnqueueOptions
  ) => Effect.Effect<Enqueued, PayloadTooLarge | QueueFull | RedisError>
  readonly enqueueAll: <A>(
    definition: Definition<A, any>,
    jobs: ReadonlyArray<EnqueueOptions & { readonly payload: A }>
  ) => Effect.Effect<ReadonlyArray<Enqueued>, PayloadTooLarge | QueueFull | RedisError>
}

/** A job as scripts take it. */
export interface Plant {
  readonly id: string
  readonly envelope: string
  readonly extras: string
}

/** What adds jobs, to queues without groups and with them. */
interface Scripts {
  readonly plain: typeof scripts.enqueue
  readonly inGroups: typeof scripts.enqueue
}

/** What flows need of a producer. */
export interface Planter {
  readonly nextId: (now: number) => string
  readonly prepare: <A>(
    operation: string,
    definition: Definition<A, any>,
    payload: A,
    options: EnqueueOptions,
    now: number,
    traceparent: string | undefined
  ) => Either.Either<Plant, PayloadTooLarge | RedisInputError>
  /** Makes a call of its own for one job, with its id as the first text. */
  readonly plant: <A>(
    definition: Definition<A, any>,
    scripts: Scripts,
    texts: ReadonlyArray<string>,
    waiter: Waiter
  ) => Effect.Effect<Enqueued, QueueFull | RedisError>
  /** Gives the time, and the trace parent of a span around it. */
  readonly traced: <A, E>(
    queue: string,
    count: number,
    use: (now: number, traceparent: string | undefined, waiter: Waiter) => Effect.Effect<A, E>
  ) => Effect.Effect<A, E>
}

/** The fiber of a caller, when it can be interrupted. */
type Waiter = Fiber.RuntimeFiber<any, any> | undefined

/**
 * Whether the caller of an order is no longer there. It is asked when the order is to leave, because a finalizer for each
 * order costs more than the rest of it.
 */
const isGone = ({ waiter }: Order): boolean =>
  waiter !== undefined && !Cause.isEmpty(waiter.getFiberRef(FiberRef.interruptedCause))

/** What one caller wants to add. */
interface Order {
  readonly waiter: Waiter
  readonly route: Route
  /** Id, envelope and extras of each job. */
  readonly jobs: ReadonlyArray<string>
  readonly all: boolean
  /** None has anything besides its envelope, and the queue has no limit. */
  readonly plain: boolean
  /** The limit of the queue, or 0. */
  readonly limit: number
  /** What it is added with when it is not plain. */
  readonly scripts: Scripts
}

/** One that leaves with others. */
interface Waiting extends Order {
  readonly done: (result: Exit.Exit<scripts.Received, RedisError>) => void
}

/** What the calls of one producer for one queue are made with. */
interface Route {
  /** Each of the calls that there are at a time is remembered apart. */
  readonly lanes: ReadonlyArray<{ readonly keys: ReadonlyArray<string>; readonly keysForAdd: ReadonlyArray<string> }>
  readonly notices: scripts.Notices
  /** Whether the queue has groups. */
  readonly grouped: boolean
  /** The last call was for several callers: more are likely to come in the same turn. */
  crowded: boolean
}

/** The calls for one queue. */
interface Line {
  waiting: Array<Waiting>
  /** Where there is a call. */
  readonly busy: Array<boolean>
  /** It is looked at again at the end of the turn. */
  scheduled: boolean
}

const MODES = {
  "until-finished": "u",
  "window": "w",
  "replace-delayed": "r",
  "keep-last": "k"
} as const satisfies Record<Deduplication["mode"], string>

export const OUTCOMES: Readonly<Record<string, Enqueued["outcome"]>> = {
  a: "added",
  r: "replaced",
  i: "replaced",
  k: "kept",
  d: "duplicate"
}

/** Ids are kept in lists and in leases, so they are short. */
const MOST_ID = 256

export const checkId = (operation: string, field: string, id: string): RedisInputError | undefined =>
  checkName(operation, field, id) ??
    (id.length > MOST_ID
      ? inputError(operation, field, `a text of ${MOST_ID} characters at most`, "a longer one")
      : undefined)

const NONE = Either.right(undefined)

const NO_INSTANT = Either.right("-")

/** When a job may start, or has to have ended, as `extrasText` takes it. */
const instantText = (
  operation: string,
  field: string,
  value: Duration.DurationInput | DateTime.DateTime | undefined,
  check: typeof positiveMillis
): Either.Either<string, RedisInputError> => {
  if (value === undefined) return NO_INSTANT
  if (DateTime.isDateTime(value)) return Either.right(`@${Math.max(0, Math.ceil(DateTime.toEpochMillis(value)))}`)
  return Either.map(check(operation, field, value), (millis) => `+${millis}`)
}

/** For how long it is not to start, when that is known. */
const delayOf = (due: string, now: number): number | undefined => {
  if (due === "-") return undefined
  const millis = Number(due.slice(1)) - (due.startsWith("+") ? 0 : now)
  return millis > 0 ? millis : undefined
}

/** The options of a job, as they are sent. */
interface Prepared {
  readonly id: string | undefined
  /** As it is sent. */
  readonly due: string
  readonly extras: string
  readonly attempts: number | undefined
  readonly timeout: number | undefined
}

const deduplicationOf = (
  operation: string,
  deduplicate: Deduplication | undefined
): Either.Either<scripts.Extras["deduplication"], RedisInputError> => {
  if (deduplicate === undefined) return NONE
  const { key, mode } = deduplicate
  const bad = checkId(operation, "deduplicate.key", key)
  if (bad !== undefined) return Either.left(bad)
  return mode === "window"
    ? Either.map(positiveMillis(operation, "deduplicate.ttl", deduplicate.ttl), (window) => ({
      mode: "w",
      window,
      key
    }))
    : MODES[mode] === undefined
    ? Either.left(inputError(operation, "deduplicate.mode", Object.keys(MODES).join(", "), mode))
    : Either.right({ mode: MODES[mode], window: 0, key })
}

const NO_OPTIONS: EnqueueOptions = {}

const PLAIN: Either.Either<Prepared> = Either.right({
  id: undefined,
  due: "-",
  extras: "",
  attempts: undefined,
  timeout: undefined
})

export const prepare = <A>(
  operation: string,
  { groups, priorities }: Definition<A, any>,
  options: EnqueueOptions
): Either.Either<Prepared, RedisInputError> => {
  if (options === NO_OPTIONS) return PLAIN
  const { at, attempts, deadline, deduplicate, delay, group, id, priority = 0, timeout } = options
  const bad = (id === undefined ? undefined : checkId(operation, "id", id)) ??
    checkWhole(operation, "priority", 0, priorities - 1, priority) ??
    (attempts === undefined ? undefined : checkWhole(operation, "attempts", 1, MOST_ATTEMPTS, attempts)) ??
    (at !== undefined && delay !== undefined
      ? inputError(operation, "at", "left out when there is a delay", "given")
      : undefined) ??
    (group === undefined
      ? undefined
      : groups === undefined
      ? inputError(operation, "group", "left out, as the queue is defined without groups", group)
      : checkId(operation, "group", group))
  if (bad !== undefined) return Either.left(bad)
  const due = instantText(operation, "delay", at ?? delay, nonNegativeMillis)
  if (Either.isLeft(due)) return Either.left(due.left)
  const end = instantText(operation, "deadline", deadline, positiveMillis)
  if (Either.isLeft(end)) return Either.left(end.left)
  const deduplication = deduplicationOf(operation, deduplicate)
  if (Either.isLeft(deduplication)) return Either.left(deduplication.left)
  const limit = timeout === undefined ? NONE : positiveMillis(operation, "timeout", timeout)
  if (Either.isLeft(limit)) return Either.left(limit.left)
  const plain = id === undefined && priority === 0 && due === NO_INSTANT && end === NO_INSTANT &&
    deduplication.right === undefined
  return Either.right({
    id,
    due: due.right,
    extras: groupText(group) + (plain ? "" : scripts.extrasText({
      level: priority,
      due: due.right,
      deadline: end.right,
      deduplication: deduplication.right
    })),
    attempts,
    timeout: limit.right
  })
}

/** What all jobs of a definition need. */
interface Compiled<A> {
  readonly route: Route
  readonly encode: ReturnType<typeof Envelope.encoderOf<A>>
  readonly count: ReturnType<typeof metrics.enqueuedTo>
  /** Whether the queue needs nothing that only `enqueue` does. */
  readonly plain: boolean
  /** When it told last that there is the queue, when that is inspected. */
  announcedAt: number
}

/** Whether another id is told than the one that was sent. */
const hasStandIn = (outcome: string): boolean => outcome === "d" || outcome === "i"

const ONE_ADDED: Exit.Exit<scripts.Received> = Exit.succeed({ outcomes: "a", ids: [] })

const withoutExtras = (jobs: ReadonlyArray<string>): ReadonlyArray<string> => {
  const entries = new Array<string>(jobs.length / 3 * 2)
  for (let i = 0, to = 0; i < jobs.length; i += 3) {
    entries[to++] = jobs[i]!
    entries[to++] = jobs[i + 1]!
  }
  return entries
}

const ENQUEUE: Scripts = { plain: scripts.enqueue, inGroups: scripts.enqueueInGroups }

export const make = (
  client: Client,
  process: string
): Effect.Effect<Producer & { readonly planter: Planter }, never, Scope.Scope> =>
  Effect.gen(function*() {
    const fork = yield* makeFork
    const lines = new Map<string, Line>()
    const compiled = new WeakMap<Definition<any, any>, Compiled<any>>()
    let calls = 0
    let ids = 0

    /** Of a definition whose settings were checked. */
    const compile = <A>(definition: Definition<A, any>): Compiled<A> => {
      const known = compiled.get(definition)
      if (known !== undefined) return known
      const { mostEvents, uses } = Either.getOrThrow(settingsOf(definition))
      const keys = keysOf(definition.name)
      const made = {
        route: {
          lanes: Array.from({ length: LANES }, (_, lane) => {
            const memory = `${keys.sent}:${process}.${lane}`
            return {
              keys: (definition.groups === undefined ? scripts.keysFor : scripts.keysForGroups)(keys, memory),
              keysForAdd: scripts.keysForAdd(keys, memory)
            }
          }),
          notices: { cluster: client.mode === "cluster", uses, wake: client.key(keys.wake) },
          grouped: definition.groups !== undefined,
          crowded: false
        },
        encode: Envelope.encoderOf(definition, "payload", definition.payload),
        count: metrics.enqueuedTo(definition.name),
        plain: (definition.maxSize ?? 0) === 0 && mostEvents === 0,
        announcedAt: definition.inspected ? -Infinity : Infinity
      }
      compiled.set(definition, made)
      return made
    }

    /**
     * As many as may leave together: those of one caller who wants all or nothing, or some of the others. Who was
     * interrupted meanwhile takes back what was not sent yet, and leaves the others alone.
     */
    const take = (line: Line): ReadonlyArray<Waiting> => {
      if (line.waiting.some(isGone)) line.waiting = line.waiting.filter((order) => !isGone(order))
      const [first] = line.waiting
      let n = 1
      let jobs = 1
      if (first?.all === false) {
        for (; n < line.waiting.length && jobs < BATCH; n++, jobs++) {
          const order = line.waiting[n]!
          if (order.all || order.limit !== first.limit) break
        }
      }
      return line.waiting.splice(0, n)
    }

    /** Not at once, so that what others add in the same turn leaves together with it. */
    const sendSoon = (name: string, line: Line): void => {
      if (line.scheduled) return
      line.scheduled = true
      queueMicrotask(() => {
        line.scheduled = false
        sendAll(name, line)
      })
    }

    const sendAll = (name: string, line: Line): void => {
      for (let lane = line.busy.indexOf(false); lane !== -1; lane = line.busy.indexOf(false)) {
        const orders = take(line)
        if (orders.length === 0) break
        send(name, line, lane, orders as Arr.NonEmptyReadonlyArray<Waiting>)
      }
      // Numbers of calls go on for the next line of the same name.
      if (!line.scheduled && !line.busy.includes(true)) lines.delete(name)
    }

    const callFor = (
      lane: number,
      orders: Arr.NonEmptyReadonlyArray<Order>
    ): Effect.Effect<scripts.Received, RedisError> => {
      const [first] = orders
      first.route.crowded = orders.length > 1
      const jobs = orders.length === 1 ? first.jobs : orders.flatMap((order) => order.jobs)
      const number = ++calls
      const { grouped, lanes, notices } = (orders.find(({ route }) => route.grouped) ?? first).route
      const { keys, keysForAdd } = lanes[lane]!
      return orders.every(({ plain }) => plain)
        ? Effect.map(
          client.eval(scripts.add, { keys: keysForAdd, call: number }, notices, withoutExtras(jobs)),
          () => ({
            outcomes: "a".repeat(jobs.length / 3),
            ids: []
          })
        )
        : client.eval(
          grouped ? first.scripts.inGroups : first.scripts.plain,
          { keys, call: number },
          notices,
          first.limit,
          first.all,
          jobs
        )
    }

    const send = (name: string, line: Line, lane: number, orders: Arr.NonEmptyReadonlyArray<Waiting>): void => {
      line.busy[lane] = true
      fork(callFor(lane, orders)).addObserver((exit) => {
        line.busy[lane] = false
        settle(orders, exit)
        sendSoon(name, line)
      })
    }

    const settle = (orders: ReadonlyArray<Waiting>, exit: Exit.Exit<scripts.Received, RedisError>): void => {
      if (Exit.isFailure(exit) || orders.length === 1) {
        for (const { done } of orders) done(exit)
        return
      }
      let at = 0
      let standIn = 0
      const { ids, outcomes } = exit.value
      for (const { done, jobs } of orders) {
        const own = outcomes.slice(at, at += jobs.length / 3)
        if (own === "a") done(ONE_ADDED)
        else {
          const from = standIn
          for (const outcome of own) if (hasStandIn(outcome)) standIn++
          done(Exit.succeed({ outcomes: own, ids: ids.slice(from, standIn) }))
        }
      }
    }

    const begin = (name: string): Line => {
      const line = { waiting: [], busy: new Array(LANES).fill(false), scheduled: false }
      lines.set(name, line)
      return line
    }

    const withOthers = <A>(
      name: string,
      order: Order,
      read: (received: scripts.Received) => Exit.Exit<A, QueueFull>
    ): Effect.Effect<A, QueueFull | RedisError> =>
      Effect.async((resume) => {
        const line = lines.get(name) ?? begin(name)
        line.waiting.push({
          ...order,
          done: (exit) => resume(Exit.isSuccess(exit) ? read(exit.value) : Exit.failCause(exit.cause))
        })
        if (!line.busy.includes(false)) return
        if (line.waiting.length >= ENOUGH) sendAll(name, line)
        else sendSoon(name, line)
      })

    const place = <A>(
      name: string,
      order: Order,
      read: (received: scripts.Received) => Exit.Exit<A, QueueFull>
    ): Effect.Effect<A, QueueFull | RedisError> =>
      order.route.crowded
        ? withOthers(name, order, read)
        : Effect.uninterruptibleMask((restore) => {
          if (lines.has(name)) return restore(withOthers(name, order, read))
          const line = begin(name)
          line.busy[0] = true
          const end = <B>(exit: B): B => {
            line.busy[0] = false
            sendAll(name, line)
            return exit
          }
          return Effect.matchCauseEffect(restore(callFor(0, [order])), {
            onFailure: (cause) => end(Exit.failCause(cause)),
            onSuccess: (received) => end(read(received))
          })
        })

    const nextId = (now: number): string => Envelope.makeId(now, process.slice(0, 6), ids++)

    const plantOf: Planter["prepare"] = (operation, definition, payload, options, now, traceparent) => {
      const prepared = prepare(operation, definition, options)
      if (Either.isLeft(prepared)) return Either.left(prepared.left)
      const compiled = compile(definition)
      const text = compiled.encode(operation, payload)
      if (Either.isLeft(text)) return Either.left(text.left)
      if (now >= compiled.announcedAt + ANNOUNCED) {
        compiled.announcedAt = now
        fork(announce(client, definition.name))
      }
      const { attempts, due, extras, id, timeout } = prepared.right
      return Either.right({
        id: id ?? nextId(now),
        envelope: Envelope.encode(
          {
            enqueuedAt: id === undefined ? undefined : now,
            delay: delayOf(due, now),
            attempts,
            timeout,
            traceparent,
            group: options.group
          },
          text.right
        ),
        extras
      })
    }

    /** What became of one job. */
    const readerOfOne =
      ({ maxSize = 0, name }: Definition<any, any>, { count }: Compiled<any>, id: string) =>
      ({ ids, outcomes }: scripts.Received): Exit.Exit<Enqueued, QueueFull> => {
        const outcome = OUTCOMES[outcomes]
        if (outcome === undefined) return Exit.fail(new QueueFull({ queue: name, maxSize }))
        if (outcome !== "duplicate") count.unsafeUpdate(1, [])
        return Exit.succeed({ id: ids.length === 0 ? id : ids[0]!, outcome })
      }

    /** What became of jobs, with the ids that they were sent with. */
    const readerOf =
      ({ maxSize = 0, name }: Definition<any, any>, { count }: Compiled<any>, sent: ReadonlyArray<string>) =>
      ({ ids, outcomes }: scripts.Received): Exit.Exit<ReadonlyArray<Enqueued>, QueueFull> => {
        const result = new Array<Enqueued>(outcomes.length)
        let standIn = 0
        let added = 0
        for (let i = 0; i < outcomes.length; i++) {
          const letter = outcomes[i]!
          const outcome = OUTCOMES[letter]
          if (outcome === undefined) return Exit.fail(new QueueFull({ queue: name, maxSize }))
          const id = hasStandIn(letter) ? ids[standIn++]! : sent[3 * i]!
          if (outcome !== "duplicate") added++
          result[i] = { id, outcome }
        }
        if (added > 0) count.unsafeUpdate(added, [])
        return Exit.succeed(result)
      }

    const traced: Planter["traced"] = (queue, count, use) =>
      Effect.withFiberRuntime((fiber, { runtimeFlags }) => {
        const waiter = RuntimeFlags.interruptible(runtimeFlags) ? fiber : undefined
        const now = Context.get(fiber.getFiberRef(DefaultServices.currentServices), Clock.Clock)
          .unsafeCurrentTimeMillis()
        if (!isTraced(fiber)) return use(now, undefined, waiter)
        return Effect.useSpan(
          `send ${queue}`,
          {
            kind: "producer",
            captureStackTrace: false,
            attributes: {
              "messaging.system": "redis",
              "messaging.destination.name": queue,
              "messaging.operation.type": "send",
              "messaging.operation.name": "enqueue",
              ...(count !== 1 && { "messaging.batch.message_count": count })
            }
          },
          (span) => Effect.withParentSpan(use(now, traceparentOf(span), waiter), span)
        )
      })

    const add = <A>(
      operation: string,
      definition: Definition<A, any>,
      payload: A,
      options: EnqueueOptions
    ): Effect.Effect<Enqueued, PayloadTooLarge | QueueFull | RedisError> => {
      const { maxSize = 0, name } = definition
      const settings = settingsOf(definition)
      if (Either.isLeft(settings)) return Effect.fail(settings.left)
      return traced(
        name,
        1,
        (now, traceparent, waiter): Effect.Effect<Enqueued, PayloadTooLarge | QueueFull | RedisError> => {
          const prepared = plantOf(operation, definition, payload, options, now, traceparent)
          if (Either.isLeft(prepared)) return Effect.fail(prepared.left)
          const { envelope, extras, id } = prepared.right
          const compiled = compile(definition)
          return place(
            name,
            {
              waiter,
              route: compiled.route,
              jobs: [id, envelope, extras],
              all: false,
              plain: compiled.plain && extras === "",
              limit: maxSize,
              scripts: ENQUEUE
            },
            readerOfOne(definition, compiled, id)
          )
        }
      )
    }

    const addAll = <A>(
      operation: string,
      definition: Definition<A, any>,
      jobs: ReadonlyArray<EnqueueOptions & { readonly payload: A }>
    ): Effect.Effect<ReadonlyArray<Enqueued>, PayloadTooLarge | QueueFull | RedisError> => {
      const { maxSize = 0, name } = definition
      const settings = settingsOf(definition)
      if (Either.isLeft(settings)) return Effect.fail(settings.left)
      return traced(
        name,
        jobs.length,
        (
          now,
          traceparent,
          waiter
        ): Effect.Effect<ReadonlyArray<Enqueued>, PayloadTooLarge | QueueFull | RedisError> => {
          const texts = new Array<string>(jobs.length * 3)
          const compiled = compile(definition)
          let plain = compiled.plain
          for (let i = 0; i < jobs.length; i++) {
            const job = jobs[i]!
            const prepared = plantOf(operation, definition, job.payload, job, now, traceparent)
            if (Either.isLeft(prepared)) return Effect.fail(prepared.left)
            const { envelope, extras, id } = prepared.right
            texts[3 * i] = id
            texts[3 * i + 1] = envelope
            texts[3 * i + 2] = extras
            if (extras !== "") plain = false
          }
          return place(
            name,
            { waiter, route: compiled.route, jobs: texts, all: true, plain, limit: maxSize, scripts: ENQUEUE },
            readerOf(definition, compiled, texts)
          )
        }
      )
    }

    const planter: Planter = {
      nextId,
      prepare: plantOf,
      traced,
      plant: (definition, scripts, texts, waiter) => {
        const { maxSize = 0, name } = definition
        const compiled = compile(definition)
        return place(
          name,
          { waiter, route: compiled.route, jobs: texts, all: true, plain: false, limit: maxSize, scripts },
          readerOfOne(definition, compiled, texts[0]!)
        )
      }
    }

    return {
      planter,
      enqueue: (definition, payload, options = NO_OPTIONS) => add("Queue.enqueue", definition, payload, options),
      enqueueAll: (definition, jobs) =>
        jobs.length === 0
          ? Effect.succeed([])
          : jobs.length > MOST_TOGETHER
          ? Effect.fail(inputError("Queue.enqueueAll", "jobs", `${MOST_TOGETHER} jobs at most`, jobs.length))
          : addAll("Queue.enqueueAll", definition, jobs)
    }
  })
