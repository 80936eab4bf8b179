/**
 * Operating the groups of a queue: looking at them, their limits, and pausing them one by one.
 *
 * @since 0.1.0
 */
import type * as DateTime from "effect/DateTime"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Option from "effect/Option"
import { inputError } from "../internal/input.js"
import type * as RedisClient from "../RedisClient.js"
import type { RedisError, RedisInputError } from "../RedisError.js"
import { type Open, pageOf, type QueueRateLimit, timeOf, withinOf } from "./Control.js"
import type { Target } from "./controlScripts.js"
import { checkGroups, type Definition, type GroupDefaults } from "./Definition.js"
import * as scripts from "./groupControlScripts.js"
import { checkId } from "./Producer.js"

// ---------------------------------------------------------------------------------------------------------------------
// Models
// ---------------------------------------------------------------------------------------------------------------------

/**
 * The limits of one group. What is left out is as the definition says.
 *
 * @since 0.1.0
 * @category models
 */
export interface GroupLimits {
  readonly concurrency?: number | "unlimited" | undefined
  readonly rate?: QueueRateLimit | "unlimited" | undefined
}

/**
 * A group, and what holds for it now.
 *
 * @since 0.1.0
 * @category models
 */
export interface GroupInfo {
  readonly group: string
  /** How many of its jobs are ready. Delayed ones do not count. */
  readonly waiting: number
  readonly running: number
  readonly paused: boolean
  /** How many of its jobs may run at once, in all processes together. */
  readonly concurrency: Option.Option<number>
  readonly rate: Option.Option<{ readonly limit: number; readonly window: Duration.Duration }>
  /**
   * How many turns of other groups come before its next one at most. Nothing when no job is ready, when it is paused, or
   * when its limits hold it back.
   */
  readonly turn: Option.Option<number>
  /** When its rate admits the next job, if that is what holds it back. */
  readonly admittedAt: Option.Option<DateTime.Utc>
}

/**
 * Some groups, and where to go on.
 *
 * @since 0.1.0
 * @category models
 */
export interface GroupPage {
  readonly groups: ReadonlyArray<GroupInfo>
  /** The `after` of the next page. */
  readonly next: Option.Option<string>
}

/**
 * @since 0.1.0
 * @category models
 */
export interface GroupPageOptions {
  /** The group behind which the page begins; the first one by default. */
  readonly after?: string | undefined
  /** How many at most; 100 by default, and no more than 1000. */
  readonly limit?: number | undefined
}

/**
 * @since 0.1.0
 * @category models
 */
export interface Groups {
  /** Those that have jobs which are ready or run, by the bytes of their names. */
  readonly groups: <A>(
    definition: Definition<A, any>,
    options?: GroupPageOptions
  ) => Effect.Effect<GroupPage, RedisError>
  /** One group, whether it has jobs or not. */
  readonly group: <A>(definition: Definition<A, any>, group: string) => Effect.Effect<GroupInfo, RedisError>
  /**
   * Gives a group limits of its own, in place of those that it was given before. They hold until they are set again;
   * `{}` takes them back.
   */
  readonly setGroupLimits: <A>(
    definition: Definition<A, any>,
    group: string,
    limits: GroupLimits
  ) => Effect.Effect<void, RedisError>
  /** No job of the group starts anywhere, until it is resumed. Running ones go on, and jobs can be enqueued. */
  readonly pauseGroup: <A>(definition: Definition<A, any>, group: string) => Effect.Effect<void, RedisError>
  readonly resumeGroup: <A>(definition: Definition<A, any>, group: string) => Effect.Effect<void, RedisError>
}

// ---------------------------------------------------------------------------------------------------------------------
// Constructors
// ---------------------------------------------------------------------------------------------------------------------

const limitOf = (own: number | undefined, byDefault: number): number | undefined => {
  const limit = own ?? byDefault
  return limit === 0 ? undefined : limit
}

const infoOf = <A>({ groups }: Definition<A, any>) => {
  const defaults = Either.getOrElse(
    checkGroups("Queue.define", "groups.", groups ?? {}),
    () => ({ concurrency: 0, limit: 0, window: 0 })
  )
  return (row: scripts.Row): GroupInfo => {
    const limit = limitOf(row.limit, defaults.limit)
    return {
      group: row.group,
      waiting: row.waiting,
      running: row.running,
      paused: row.paused,
      concurrency: Option.fromNullable(limitOf(row.concurrency, defaults.concurrency)),
      rate: limit === undefined
        ? Option.none()
        : Option.some({ limit, window: Duration.millis(row.window ?? defaults.window) }),
      turn: row.paused ? Option.none() : Option.fromNullable(row.turn),
      admittedAt: row.paused || row.later === undefined ? Option.none() : Option.some(timeOf(row.later))
    }
  }
}

/** As a script takes them: `-` is what the definition says, and 0 is none. */
const limitsText = (
  operation: string,
  { concurrency, rate }: GroupLimits
): Either.Either<string, RedisInputError> => {
  const given: GroupDefaults = {
    concurrency: concurrency === "unlimited" ? undefined : concurrency,
    rate: rate === "unlimited" ? undefined : rate
  }
  return Either.map(checkGroups(operation, "", given), (checked) =>
    [
      concurrency === undefined ? "-" : checked.concurrency,
      ...(rate === undefined ? ["-", "-"] : [checked.limit, checked.window])
    ].join(" "))
}

/**
 * What operates the groups of the queues of a client.
 *
 * @internal
 */
export const makeGroups = (client: RedisClient.Service, open: Open): Groups => {
  const within = <A, B>(
    operation: string,
    definition: Definition<A, any>,
    group: string | undefined,
    use: (target: Target) => Effect.Effect<B, RedisError>
  ): Effect.Effect<B, RedisError> => {
    const bad = definition.groups === undefined
      ? inputError(`Queue.${operation}`, "definition", "a queue that is defined with groups", definition.name)
      : group === undefined
      ? undefined
      : checkId(`Queue.${operation}`, "group", group)
    if (bad !== undefined) return Effect.fail(bad)
    return withinOf(open)(operation, definition, undefined, ({ target }) => use(target))
  }

  const configure = <A>(
    operation: string,
    definition: Definition<A, any>,
    group: string,
    what: "p" | "l",
    value: string
  ) =>
    within(
      operation,
      definition,
      group,
      (target) => Effect.asVoid(client.eval(scripts.configure, target, group, what, value))
    )

  return {
    groups: (definition, options) => {
      const page = pageOf("Queue.groups", { limit: options?.limit })
      if (Either.isLeft(page)) return Effect.fail(page.left)
      return within("groups", definition, options?.after, (target) =>
        Effect.map(
          client.eval(scripts.list, target, options?.after ?? "", page.right.limit),
          ({ more, rows }) => ({
            groups: rows.map(infoOf(definition)),
            next: more ? Option.fromNullable(rows.at(-1)?.group) : Option.none()
          })
        ))
    },
    group: (definition, group) =>
      within(
        "group",
        definition,
        group,
        (target) => Effect.map(client.eval(scripts.get, target, group), infoOf(definition))
      ),
    setGroupLimits: (definition, group, limits) => {
      const text = limitsText("Queue.setGroupLimits", limits)
      return Either.isLeft(text)
        ? Effect.fail(text.left)
        : configure("setGroupLimits", definition, group, "l", text.right)
    },
    pauseGroup: (definition, group) => configure("pauseGroup", definition, group, "p", "1"),
    resumeGroup: (definition, group) => configure("resumeGroup", definition, group, "p", "0")
  }
}
