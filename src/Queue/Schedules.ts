/**
 * Jobs that come again and again: by a cron expression, or in intervals.
 *
 * @since 0.1.0
 */
import * as DateTime from "effect/DateTime"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import { checkWhole, inputError, nonNegativeMillis, positiveMillis } from "../internal/input.js"
import type * as RedisClient from "../RedisClient.js"
import type { RedisError, RedisInputError } from "../RedisError.js"
import { nextOf, type Open, type Opened, pageOf, type PageOptions, timeOf, withinOf } from "./Control.js"
import { type Definition, type Enqueued, type EnqueueOptions } from "./Definition.js"
import * as Envelope from "./envelope.js"
import { checkId, OUTCOMES, prepare } from "./Producer.js"
import { type PayloadTooLarge, QueueFull } from "./QueueError.js"
import { timingOf } from "./scheduler.js"
import * as scripts from "./scheduleScripts.js"
import * as slots from "./slots.js"

// ---------------------------------------------------------------------------------------------------------------------
// Models
// ---------------------------------------------------------------------------------------------------------------------

/**
 * When the slots of a schedule are: by a cron expression of five fields, or six with seconds in front, or in intervals.
 *
 * @since 0.1.0
 * @category models
 */
export type ScheduleTiming =
  | {
    readonly cron: string
    /** The name of a time zone, or an offset such as `+02:00`; UTC by default. */
    readonly timeZone?: string | DateTime.TimeZone | undefined
    readonly every?: undefined
  }
  | {
    /** Counted from `start`, and from the first of January 1970 in UTC without one; 10 milliseconds at least. */
    readonly every: Duration.DurationInput
    readonly cron?: undefined
    readonly timeZone?: undefined
  }

/**
 * What becomes of slots that nobody could fire in time, because no process was there, or the queue was full. One that is
 * no more than `grace` late is not missed, and is fired.
 *
 * - `skip`: missed slots are left out
 * - `last`: of the missed slots the last one is fired
 * - `all`: as `skip`, but `grace` is a day unless it is given
 *
 * @since 0.1.0
 * @category models
 */
export type CatchUp = "skip" | "last" | "all"

/**
 * @since 0.1.0
 * @category models
 */
export type ScheduleOptions<A> =
  & ScheduleTiming
  & Pick<EnqueueOptions, "priority" | "attempts" | "timeout" | "deduplicate" | "group">
  & {
    /** What each of the jobs is about. */
    readonly payload: A
    /** No slot is before it. */
    readonly start?: DateTime.DateTime | undefined
    /** No slot is after it. */
    readonly end?: DateTime.DateTime | undefined
    /** How many slots are fired at most. */
    readonly count?: number | undefined
    /** `skip` by default. */
    readonly catchUp?: CatchUp | undefined
    /** How late a slot may be without being missed; a minute by default, and a day with `all`. */
    readonly grace?: Duration.DurationInput | undefined
    /** From then on a job is not started, and when it runs it is interrupted. It is counted from when its slot is fired. */
    readonly deadline?: Duration.DurationInput | undefined
  }

/**
 * A schedule, as it is stored.
 *
 * - `active`: it has a next slot
 * - `paused`: somebody has paused it
 * - `ended`: it has had its last slot; it stays until it is removed, so that the same one is not begun again
 *
 * @since 0.1.0
 * @category models
 */
export interface ScheduleInfo<out A> {
  readonly id: string
  readonly state: "active" | "paused" | "ended"
  readonly timing:
    | { readonly cron: string; readonly timeZone: string; readonly every?: undefined }
    | { readonly every: Duration.Duration; readonly cron?: undefined; readonly timeZone?: undefined }
  readonly start: Option.Option<DateTime.Utc>
  readonly end: Option.Option<DateTime.Utc>
  readonly count: Option.Option<number>
  readonly catchUp: CatchUp
  readonly grace: Duration.Duration
  /** `Left` says why the payload can't be read: another release wrote it, or somebody else. */
  readonly payload: Either.Either<A, string>
  readonly priority: number
  readonly group: Option.Option<string>
  /** The next slot. */
  readonly next: Option.Option<DateTime.Utc>
  /** The last slot that was fired. */
  readonly last: Option.Option<DateTime.Utc>
  /** How many slots were fired. */
  readonly fired: number
}

/**
 * @since 0.1.0
 * @category models
 */
export interface SchedulePage<out A> {
  readonly schedules: ReadonlyArray<ScheduleInfo<A>>
  /** The `offset` of the next page. */
  readonly next: Option.Option<number>
}

/**
 * What makes jobs come again and again.
 *
 * @since 0.1.0
 * @category models
 */
export interface Schedules {
  /**
   * Makes a schedule, or changes the one with this id. The same again changes nothing, so every process may do it when it
   * starts. Slots are those after it was made; a change of its jobs or limits alone keeps the next one. What is paused
   * stays paused, and what was fired stays counted.
   */
  readonly schedule: <A>(
    definition: Definition<A, any>,
    id: string,
    options: ScheduleOptions<NoInfer<A>>
  ) => Effect.Effect<ScheduleInfo<A>, TooManySchedules | PayloadTooLarge | RedisError>
  readonly getSchedule: <A>(
    definition: Definition<A, any>,
    id: string
  ) => Effect.Effect<Option.Option<ScheduleInfo<A>>, RedisError>
  /** Some of the schedules, in the order of their next slots; those that have none come last. */
  readonly listSchedules: <A>(
    definition: Definition<A, any>,
    options?: PageOptions
  ) => Effect.Effect<SchedulePage<A>, RedisError>
  /** Slots that come until it is resumed are left out. */
  readonly pauseSchedule: <A>(
    definition: Definition<A, any>,
    id: string
  ) => Effect.Effect<void, ScheduleNotFound | RedisError>
  readonly resumeSchedule: <A>(
    definition: Definition<A, any>,
    id: string
  ) => Effect.Effect<void, ScheduleNotFound | RedisError>
  /** With `job: true` the job of its last slot is removed too, when that waits. Returns whether there was a schedule. */
  readonly removeSchedule: <A>(
    definition: Definition<A, any>,
    id: string,
    options?: { readonly job?: boolean | undefined }
  ) => Effect.Effect<boolean, RedisError>
  /** Makes a job of a schedule at once, besides those of its slots. It does not count. */
  readonly fireSchedule: <A>(
    definition: Definition<A, any>,
    id: string
  ) => Effect.Effect<Enqueued, ScheduleNotFound | QueueFull | RedisError>
}

// ---------------------------------------------------------------------------------------------------------------------
// Errors
// ---------------------------------------------------------------------------------------------------------------------

/**
 * There is no such schedule.
 *
 * @since 0.1.0
 * @category errors
 */
export class ScheduleNotFound extends Schema.TaggedError<ScheduleNotFound>("effect-redis-kit/Queue/ScheduleNotFound")(
  "ScheduleNotFound",
  { queue: Schema.String, id: Schema.String }
) {
  /** @since 0.1.0 */
  override get message(): string {
    return `there is no schedule "${this.id}" in the queue "${this.queue}"`
  }
}

/**
 * The queue has as many schedules as there may be. Nothing was changed.
 *
 * @since 0.1.0
 * @category errors
 */
export class TooManySchedules extends Schema.TaggedError<TooManySchedules>("effect-redis-kit/Queue/TooManySchedules")(
  "TooManySchedules",
  { queue: Schema.String, limit: Schema.Number }
) {
  /** @since 0.1.0 */
  override get message(): string {
    return `the queue "${this.queue}" has ${this.limit} schedules, and takes no more`
  }
}

// ---------------------------------------------------------------------------------------------------------------------
// Constructors
// ---------------------------------------------------------------------------------------------------------------------

/** How many schedules a queue has at most. */
export const MOST_SCHEDULES = 10_000

/** With what stands before it and the slot it is the id of a job. */
const MOST_ID = 200

const LEAST_EVERY = 10

const MOST_COUNT = Number.MAX_SAFE_INTEGER

const CATCH_UP: ReadonlyArray<unknown> = ["skip", "last", "all"] satisfies ReadonlyArray<CatchUp>

const checkScheduleId = (operation: string, id: string): RedisInputError | undefined =>
  checkId(operation, "id", id) ??
    (id.length > MOST_ID
      ? inputError(operation, "id", `a text of ${MOST_ID} characters at most`, "a longer one")
      : undefined)

const ABSENT: Either.Either<undefined> = Either.right(undefined)

const instantOf = (
  operation: string,
  field: string,
  at: DateTime.DateTime | undefined
): Either.Either<number | undefined, RedisInputError> => {
  if (at === undefined) return ABSENT
  const millis = DateTime.isDateTime(at) ? DateTime.toEpochMillis(at) : Number.NaN
  return millis >= 0 ? Either.right(Math.ceil(millis)) : Either.left(inputError(operation, field, "an instant", at))
}

const timingFrom = (
  operation: string,
  { cron, every, timeZone = "UTC" }: ScheduleTiming,
  start: number | undefined
): Either.Either<slots.When, RedisInputError> => {
  if ((cron === undefined) === (every === undefined)) {
    return Either.left(inputError(operation, "cron", "given, or else every", cron === undefined ? "neither" : "both"))
  }
  if (every !== undefined) {
    return Either.flatMap(positiveMillis(operation, "every", every), (every) =>
      every < LEAST_EVERY
        ? Either.left(inputError(operation, "every", `${LEAST_EVERY} milliseconds at least`, every))
        : Either.right({ every, start }))
  }
  const when: slots.When = {
    cron: typeof cron === "string" ? cron : "",
    zone: DateTime.isTimeZone(timeZone) ? DateTime.zoneToString(timeZone) : timeZone,
    start
  }
  const following = slots.following(when)
  if (Either.isLeft(following)) {
    return Either.left(
      following.left === "cron"
        ? inputError(operation, "cron", "a cron expression of five or six fields", cron)
        : inputError(operation, "timeZone", "the name of a time zone, or an offset", timeZone)
    )
  }
  return following.right(0) === undefined
    ? Either.left(inputError(operation, "cron", "a cron expression with a day that comes", cron))
    : Either.right(when)
}

const limitsFrom = (
  operation: string,
  { catchUp = "skip", count, grace }: ScheduleOptions<unknown>,
  end: number | undefined
): Either.Either<slots.Limits, RedisInputError> => {
  const bad = (count === undefined ? undefined : checkWhole(operation, "count", 1, MOST_COUNT, count)) ??
    (CATCH_UP.includes(catchUp) ? undefined : inputError(operation, "catchUp", CATCH_UP.join(", "), catchUp))
  if (bad !== undefined) return Either.left(bad)
  return Either.map(
    nonNegativeMillis(operation, "grace", grace ?? (catchUp === "all" ? "1 day" : "1 minute")),
    (grace) => ({ end, count, catchUp, grace })
  )
}

/** What is stored of a schedule. The same options are the same text. */
const textOf = <A>(
  operation: string,
  definition: Definition<A, any>,
  id: string,
  options: ScheduleOptions<A>
): Either.Either<string, RedisInputError | PayloadTooLarge> =>
  Either.gen(function*() {
    const start = yield* instantOf(operation, "start", options.start)
    const end = yield* instantOf(operation, "end", options.end)
    const when = yield* timingFrom(operation, options, start)
    const limits = yield* limitsFrom(operation, options, end)
    const { attempts, deadline, deduplicate, group, payload, priority, timeout } = options
    const job = yield* prepare(operation, definition, {
      id,
      attempts,
      deadline,
      deduplicate,
      group,
      priority,
      timeout
    })
    const text = yield* Envelope.encoderOf(definition, "payload", definition.payload)(operation, payload)
    const envelope = Envelope.encode({ attempts: job.attempts, timeout: job.timeout, group, schedule: id }, text)
    return [JSON.stringify(when), JSON.stringify(limits), envelope.slice(1), job.extras].join("\0")
  })

/** Nothing when it can't be read. */
const infoOf = <A>(
  decode: (text: string, id: string) => Envelope.Envelope<A>,
  { fired, flag, id, last, slot, text }: scripts.Row
): Option.Option<ScheduleInfo<A>> =>
  Option.flatMap(
    timingOf(text),
    ({ limits, when }) =>
      Option.map(Either.getRight(slots.following(when)), (following): ScheduleInfo<A> => {
        const [, , envelope = "", ...extras] = text.split("\0")
        const job = decode(`{${envelope}`, id)
        const next = flag === "p" || slot === Infinity
          ? undefined
          : flag === "n"
          ? slots.step(following, limits, { slot, known: false, fired }, slot).next
          : slot
        return {
          id,
          state: flag === "p" ? "paused" : next === undefined ? "ended" : "active",
          timing: "cron" in when ? { cron: when.cron, timeZone: when.zone } : { every: Duration.millis(when.every) },
          start: Option.map(Option.fromNullable(when.start), timeOf),
          end: Option.map(Option.fromNullable(limits.end), timeOf),
          count: Option.fromNullable(limits.count),
          catchUp: limits.catchUp,
          grace: Duration.millis(limits.grace),
          payload: Either.mapLeft(job.payload, Envelope.whyOf),
          priority: Number(extras.at(-1)?.[0]),
          group: Option.fromNullable(job.group),
          next: Option.map(Option.fromNullable(next), timeOf),
          last: Option.map(Option.fromNullable(last), timeOf),
          fired
        }
      })
  )

/**
 * The schedules of the queues of a client.
 *
 * @internal
 */
export const makeSchedules = (client: RedisClient.Service, open: Open, nextId: () => string): Schedules => {
  const within = <A, B, E>(
    operation: string,
    definition: Definition<A, any>,
    id: string | undefined,
    use: (opened: Opened<A>) => Effect.Effect<B, E>
  ): Effect.Effect<B, E | RedisInputError> => {
    const bad = id === undefined ? undefined : checkScheduleId(`Queue.${operation}`, id)
    if (bad !== undefined) return Effect.fail(bad)
    return withinOf(open)(operation, definition, undefined, use)
  }

  const reader = <A>(definition: Definition<A, any>) => {
    const decode = Envelope.decoder(definition)
    return (row: scripts.Row) => infoOf(decode, row)
  }

  const found = <A>({ name }: Definition<A, any>, id: string) => (is: boolean) =>
    is ? Effect.void : Effect.fail(new ScheduleNotFound({ queue: name, id }))

  return {
    schedule: (definition, id, options) =>
      within(
        "schedule",
        definition,
        id,
        ({ target }) =>
          Effect.flatMap(textOf("Queue.schedule", definition, id, options), (text) =>
            Effect.flatMap(
              client.eval(scripts.upsert, target, id, MOST_SCHEDULES, client.key(target.keys.control), text),
              (row) =>
                row === undefined
                  ? Effect.fail(new TooManySchedules({ queue: definition.name, limit: MOST_SCHEDULES }))
                  // It was read by this release before it was written.
                  : Effect.orDie(reader(definition)(row))
            ))
      ),
    getSchedule: (definition, id) =>
      within("getSchedule", definition, id, ({ target }) =>
        Effect.map(
          client.eval(scripts.get, target, id),
          (row) => Option.flatMap(Option.fromNullable(row), reader(definition))
        )),
    listSchedules: (definition, options) => {
      const page = pageOf("Queue.listSchedules", options)
      if (Either.isLeft(page)) return Effect.fail(page.left)
      const { limit, offset } = page.right
      return within(
        "listSchedules",
        definition,
        undefined,
        ({ target }) =>
          Effect.map(client.eval(scripts.list, target, offset, limit), ({ next, rows }) => ({
            schedules: rows.flatMap((row) => Option.toArray(reader(definition)(row))),
            next: nextOf(next)
          }))
      )
    },
    pauseSchedule: (definition, id) =>
      within(
        "pauseSchedule",
        definition,
        id,
        ({ target }) => Effect.flatMap(client.eval(scripts.pause, target, id), found(definition, id))
      ),
    resumeSchedule: (definition, id) =>
      within("resumeSchedule", definition, id, ({ target }) =>
        Effect.flatMap(
          client.eval(scripts.resume, target, id, client.key(target.keys.control)),
          found(definition, id)
        )),
    removeSchedule: (definition, id, options) =>
      within(
        "removeSchedule",
        definition,
        id,
        ({ target }) => client.eval(scripts.remove, target, id, options?.job === true)
      ),
    fireSchedule: (definition, id) =>
      within("fireSchedule", definition, id, ({ target }) =>
        Effect.flatMap(
          client.eval(scripts.fire, target, definition.maxSize ?? 0, id, `schedule:${id}:now:${nextId()}`),
          (reply): Effect.Effect<Enqueued, ScheduleNotFound | QueueFull> => {
            if (reply === undefined) return Effect.fail(new ScheduleNotFound({ queue: definition.name, id }))
            const outcome = OUTCOMES[reply.letter]
            return outcome === undefined
              ? Effect.fail(new QueueFull({ queue: definition.name, maxSize: definition.maxSize ?? 0 }))
              : Effect.succeed({ id: reply.id, outcome })
          }
        ))
  }
}
