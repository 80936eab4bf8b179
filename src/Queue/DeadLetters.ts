/**
 * Dead letters: jobs that are not tried any more, kept so that somebody can look at them and try again.
 *
 * @since 0.1.0
 */
import type * as DateTime from "effect/DateTime"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import { nonNegativeMillis } from "../internal/input.js"
import { checkName } from "../internal/rooms.js"
import type * as RedisClient from "../RedisClient.js"
import type { RedisError, RedisInputError } from "../RedisError.js"
import {
  inPages,
  JobNotFound,
  nextOf,
  type Open,
  type Opened,
  pageOf,
  type PageOptions,
  timeOf,
  withinOf
} from "./Control.js"
import * as scripts from "./controlScripts.js"
import type { Definition } from "./Definition.js"
import { DeadInfo, type DeadReason } from "./envelope.js"

// ---------------------------------------------------------------------------------------------------------------------
// Models
// ---------------------------------------------------------------------------------------------------------------------

/**
 * A job that is not tried any more.
 *
 * @since 0.1.0
 * @category models
 */
export interface DeadLetter<out A> {
  readonly id: string
  /** `Left` says why the payload can't be read. */
  readonly payload: Either.Either<A, string>
  /** `unknown` is one that this release does not know. */
  readonly reason: DeadReason | "unknown"
  /** The last error in one line, and all that is known about it; both are cut when they are long. */
  readonly error: Option.Option<string>
  readonly cause: Option.Option<string>
  /** How many attempts have failed. */
  readonly failures: number
  /** How many there were at most. */
  readonly attempts: number
  readonly priority: number
  readonly group: Option.Option<string>
  /** By the clock of whoever enqueued it. */
  readonly enqueuedAt: DateTime.Utc
  /** By the clock of the server. */
  readonly failedAt: DateTime.Utc
}

/**
 * Some dead letters, and where to go on.
 *
 * @since 0.1.0
 * @category models
 */
export interface DeadLetterPage<out A> {
  readonly letters: ReadonlyArray<DeadLetter<A>>
  /** The `offset` of the next page. */
  readonly next: Option.Option<number>
}

/**
 * @since 0.1.0
 * @category models
 */
export interface ReplayOptions {
  /**
   * The job gets all of its attempts again. By default only the attempt that has ended it is taken back, so that a job which
   * had used up its attempts gets one more.
   */
  readonly resetAttempts?: boolean | undefined
}

/**
 * @since 0.1.0
 * @category models
 */
export interface DeadLetters {
  /** Some of the dead letters, the newest first by default. */
  readonly deadLetters: <A>(
    definition: Definition<A, any>,
    options?: PageOptions & { readonly order?: "newest" | "oldest" | undefined }
  ) => Effect.Effect<DeadLetterPage<A>, RedisError>
  readonly deadLetter: <A>(
    definition: Definition<A, any>,
    id: string
  ) => Effect.Effect<Option.Option<DeadLetter<A>>, RedisError>
  readonly deadLetterCount: <A>(definition: Definition<A, any>) => Effect.Effect<number, RedisError>
  /**
   * Makes a dead letter ready again, behind the others of its priority, or blocked when its children have to be tried again. Its deadline is forgotten. Of several at the same
   * time one succeeds.
   */
  readonly replay: <A>(
    definition: Definition<A, any>,
    id: string,
    options?: ReplayOptions
  ) => Effect.Effect<void, JobNotFound | JobNotDead | RedisError>
  /** The same for several. Returns how many of them were dead letters. */
  readonly replayMany: <A>(
    definition: Definition<A, any>,
    ids: ReadonlyArray<string>,
    options?: ReplayOptions
  ) => Effect.Effect<number, RedisError>
  /**
   * The same for all that a predicate chooses, the oldest first, step by step. Jobs that die meanwhile are left alone.
   * Returns how many.
   */
  readonly replayWhere: <A>(
    definition: Definition<A, any>,
    predicate: (letter: DeadLetter<A>) => boolean,
    options?: ReplayOptions
  ) => Effect.Effect<number, RedisError>
  /** Removes dead letters. Returns how many of them there were. */
  readonly removeDeadLetters: <A>(
    definition: Definition<A, any>,
    ids: ReadonlyArray<string>
  ) => Effect.Effect<number, RedisError>
  /** Removes all dead letters of at least this age, step by step. Returns how many. */
  readonly cleanDeadLetters: <A>(
    definition: Definition<A, any>,
    age: Duration.DurationInput
  ) => Effect.Effect<number, RedisError>
}

// ---------------------------------------------------------------------------------------------------------------------
// Errors
// ---------------------------------------------------------------------------------------------------------------------

/**
 * Only a dead letter can be replayed. Nothing was changed.
 *
 * @since 0.1.0
 * @category errors
 */
export class JobNotDead extends Schema.TaggedError<JobNotDead>("effect-redis-kit/Queue/JobNotDead")("JobNotDead", {
  queue: Schema.String,
  id: Schema.String,
  state: Schema.Literal("ready", "delayed", "blocked", "running", "completed")
}) {
  /** @since 0.1.0 */
  override get message(): string {
    return `the job "${this.id}" of the queue "${this.queue}" is no dead letter, but ${this.state}`
  }
}

// ---------------------------------------------------------------------------------------------------------------------
// Constructors
// ---------------------------------------------------------------------------------------------------------------------

const decodeInfo = Schema.decodeOption(DeadInfo)

/** Reads a dead letter as it is stored. */
export const letterOf = <A>({ read }: Opened<A>) => (row: scripts.Row): DeadLetter<A> => {
  const { attempts, enqueuedAt, failures, group, id, payload, priority } = read(row)
  const info = Option.getOrUndefined(decodeInfo(row.info))
  return {
    id,
    payload,
    reason: info?.reason ?? "unknown",
    error: Option.fromNullable(info?.error),
    cause: Option.fromNullable(info?.cause),
    failures: info?.attempts ?? failures,
    attempts,
    priority,
    group,
    enqueuedAt,
    failedAt: timeOf(row.at)
  }
}

const chunksOf = <A>(all: ReadonlyArray<A>): ReadonlyArray<ReadonlyArray<A>> =>
  Array.from(
    { length: Math.ceil(all.length / scripts.PAGE) },
    (_, i) => all.slice(i * scripts.PAGE, (i + 1) * scripts.PAGE)
  )

/** The sum of what an effect gives for each. */
const sumOf = <A, E>(all: ReadonlyArray<A>, f: (one: A) => Effect.Effect<number, E>): Effect.Effect<number, E> =>
  Effect.reduce(all, 0, (sum, one) => Effect.map(f(one), (n) => sum + n))

/** How many letters a filter looks at in one step: they may be large. */
const LOOKED_AT = 100

/**
 * What looks after the dead letters of the queues of a client.
 *
 * @internal
 */
export const makeDeadLetters = (client: RedisClient.Service, open: Open): DeadLetters => {
  const within = <A, B, E>(
    operation: string,
    definition: Definition<A, any>,
    ids: ReadonlyArray<string>,
    use: (opened: Opened<A>) => Effect.Effect<B, E>
  ): Effect.Effect<B, E | RedisInputError> => {
    const bad = ids.map((id) => checkName(`Queue.${operation}`, "id", id)).find((error) => error !== undefined)
    if (bad !== undefined) return Effect.fail(bad)
    return withinOf(open)(operation, definition, undefined, use)
  }

  /** How many letters became ready again. */
  const replay = (
    target: scripts.Target,
    letters: ReadonlyArray<{ readonly id: string; readonly at?: number }>,
    options: ReplayOptions | undefined
  ) =>
    Effect.map(
      client.eval(scripts.replay, target, options?.resetAttempts === true, letters),
      (outcomes) => outcomes.filter((outcome) => outcome === "ok").length
    )

  const replayWhere = <A>(
    opened: Opened<A>,
    predicate: (letter: DeadLetter<A>) => boolean,
    options: ReplayOptions | undefined
  ) => {
    const { target } = opened
    const toLetter = letterOf(opened)
    /** One that dies again in the same millisecond, or as time stands still in a test, is not chosen again. */
    const done = new Set<string>()
    const step = (
      replayed: number,
      after: { readonly id: string; readonly at: number } | undefined,
      last: number | undefined
    ): Effect.Effect<number, RedisError> =>
      Effect.flatMap(client.eval(scripts.letters, target, after, last, LOOKED_AT), ({ next: until, rows }) => {
        const chosen: Array<scripts.Row> = []
        // Those that are chosen leave the order in which the next step goes on.
        let kept = after
        for (const row of rows) {
          if (done.has(row.id) || !predicate(toLetter(row))) {
            kept = row
          } else {
            done.add(row.id)
            chosen.push(row)
          }
        }
        const count = chosen.length === 0
          ? Effect.succeed(0)
          : replay(target, chosen.map(({ at, id }) => ({ id, at })), options)
        return Effect.flatMap(
          count,
          (n) => rows.length < LOOKED_AT ? Effect.succeed(replayed + n) : step(replayed + n, kept, until)
        )
      })
    return step(0, undefined, undefined)
  }

  return {
    deadLetters: (definition, options) => {
      const page = pageOf("Queue.deadLetters", options)
      if (Either.isLeft(page)) return Effect.fail(page.left)
      const { limit, offset } = page.right
      return within("deadLetters", definition, [], (opened) =>
        Effect.map(
          client.eval(scripts.list, opened.target, "dead", offset, limit, options?.order !== "oldest"),
          ({ next, rows }) => ({ letters: rows.map(letterOf(opened)), next: nextOf(next) })
        ))
    },
    deadLetter: (definition, id) =>
      within(
        "deadLetter",
        definition,
        [id],
        (opened) =>
          Effect.map(
            client.eval(scripts.get, opened.target, id),
            (row) => row?.state === "dead" ? Option.some(letterOf(opened)(row)) : Option.none()
          )
      ),
    deadLetterCount: (definition) =>
      within("deadLetterCount", definition, [], ({ target }) => client.zcard(target.keys.dead)),
    replay: (definition, id, options) =>
      within("replay", definition, [id], ({ target }) =>
        Effect.flatMap(
          client.eval(scripts.replay, target, options?.resetAttempts === true, [{ id }]),
          ([outcome]): Effect.Effect<void, JobNotFound | JobNotDead> =>
            outcome === "ok"
              ? Effect.void
              : outcome === undefined || outcome === "missing" || outcome === "dead"
              ? Effect.fail(new JobNotFound({ queue: definition.name, id }))
              : Effect.fail(new JobNotDead({ queue: definition.name, id, state: outcome }))
        )),
    replayMany: (definition, ids, options) =>
      within(
        "replayMany",
        definition,
        ids,
        ({ target }) => sumOf(chunksOf(ids), (some) => replay(target, some.map((id) => ({ id })), options))
      ),
    replayWhere: (definition, predicate, options) =>
      within(
        "replayWhere",
        definition,
        [],
        (opened) => Effect.suspend(() => replayWhere(opened, predicate, options))
      ),
    removeDeadLetters: (definition, ids) =>
      within(
        "removeDeadLetters",
        definition,
        ids,
        ({ target }) => sumOf(chunksOf(ids), (some) => client.eval(scripts.bin, target, some))
      ),
    cleanDeadLetters: (definition, age) => {
      const millis = nonNegativeMillis("Queue.cleanDeadLetters", "age", age)
      return Either.isLeft(millis)
        ? Effect.fail(millis.left)
        : within(
          "cleanDeadLetters",
          definition,
          [],
          ({ target }) => inPages(client.eval(scripts.clean, target, millis.right, "dead"))
        )
    }
  }
}
