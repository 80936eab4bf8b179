/**
 * What happens to the jobs of a queue, written down by the server in the same step and read as a stream.
 *
 * @since 0.1.0
 */
import * as Chunk from "effect/Chunk"
import type * as DateTime from "effect/DateTime"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import * as Stream from "effect/Stream"
import { checkWhole, inputError } from "../internal/input.js"
import { untilItWorks } from "../internal/retries.js"
import type * as RedisClient from "../RedisClient.js"
import type { RedisError, RedisInputError } from "../RedisError.js"
import { checkId, ZERO } from "../Stream/ids.js"
import { type Service as Waker, wait, type Waiting } from "../Stream/Waker.js"
import { parseJson, spanned, timeOf } from "./Control.js"
import * as controlScripts from "./controlScripts.js"
import { type Definition, settingsOf } from "./Definition.js"
import { type DeadReason, Reason } from "./envelope.js"
import { type Keys, keysOf } from "./keys.js"
import * as scripts from "./resultScripts.js"

// ---------------------------------------------------------------------------------------------------------------------
// Models
// ---------------------------------------------------------------------------------------------------------------------

/**
 * Where an event stands, and when it was, by the clock of the server.
 *
 * @since 0.1.0
 * @category models
 */
export interface EventPosition {
  /** Reading goes on behind it with `from` or `after`. */
  readonly position: string
  readonly at: DateTime.Utc
}

/**
 * What happened.
 *
 * - `Added`: a job is in the queue
 * - `Started`: a worker has taken it
 * - `Progress`: its handler has told something new
 * - `Completed`
 * - `Retried`: an attempt has failed, and the next one comes after `delay`
 * - `Dead`: it became a dead letter
 * - `Released`: a worker has given it back, and nothing counts
 * - `Stalled`: its worker gave no sign of life, and others can take it
 * - `Removed`: somebody has removed it, whatever its state; what is too old or too much is removed without a word
 * - `Replayed`: a dead letter is ready again
 * - `Drained`: no job is ready and none runs any more; there may be delayed ones
 * - `Paused`, `Resumed`: the queue
 *
 * @since 0.1.0
 * @category models
 */
export type JobEvent =
  & EventPosition
  & (
    | { readonly _tag: "Added" | "Completed" | "Stalled" | "Removed" | "Replayed"; readonly id: string }
    | { readonly _tag: "Started"; readonly id: string; readonly attempt: number }
    | { readonly _tag: "Progress"; readonly id: string; readonly value: unknown }
    | { readonly _tag: "Retried" | "Released"; readonly id: string; readonly delay: Duration.Duration }
    | { readonly _tag: "Dead"; readonly id: string; readonly reason: DeadReason | "unknown" }
    | { readonly _tag: "Drained" | "Paused" | "Resumed" }
  )

/**
 * Events were removed before they were read, or may have been: whoever keeps a picture of the queue makes a new one.
 *
 * @since 0.1.0
 * @category models
 */
export interface EventsMissed {
  readonly _tag: "EventsMissed"
}

/**
 * @since 0.1.0
 * @category models
 */
export interface EventsOptions {
  /** The position behind which to begin, or `0` for all that are kept. By default from now on. */
  readonly from?: string | undefined
}

/**
 * @since 0.1.0
 * @category models
 */
export interface EventsPageOptions {
  /** The position behind which to begin; the oldest event by default. */
  readonly after?: string | undefined
  /** How many at most; 100 by default, and no more than 1000. */
  readonly limit?: number | undefined
}

/**
 * Some events, the oldest first.
 *
 * @since 0.1.0
 * @category models
 */
export interface EventsPage {
  readonly events: ReadonlyArray<JobEvent>
  /** Events behind `after` were removed, or may have been. */
  readonly missed: boolean
  /** Where the next page begins, also when there is nothing there yet. */
  readonly next: string
}

/**
 * @since 0.1.0
 * @category models
 */
export interface Events {
  /**
   * What happens to the jobs of a queue whose definition has `events`. It does not end by itself, and goes on where it was
   * when the connection was lost. Those who read them share one connection.
   */
  readonly events: <A>(
    definition: Definition<A, any>,
    options?: EventsOptions
  ) => Stream.Stream<JobEvent | EventsMissed, RedisError>
  /** Some of the events that are kept. */
  readonly eventsPage: <A>(
    definition: Definition<A, any>,
    options?: EventsPageOptions
  ) => Effect.Effect<EventsPage, RedisError>
}

// ---------------------------------------------------------------------------------------------------------------------
// Constructors
// ---------------------------------------------------------------------------------------------------------------------

const MISSED: EventsMissed = { _tag: "EventsMissed" }

const NOW = "$"

/** How many are read at once. */
const TOGETHER = 500

const DEFAULT_LIMIT = 100

const isReason = Schema.is(Reason)

/** Nothing for one that a newer release has written. */
const eventOf = ({ fields, id: position }: scripts.Written["entries"][number]): JobEvent | undefined => {
  const at = timeOf(Number(position.slice(0, position.indexOf("-"))))
  const id = fields.get("id") ?? ""
  const detail = fields.get("d") ?? ""
  switch (fields.get("t")) {
    case "added":
      return { _tag: "Added", position, at, id }
    case "started":
      return { _tag: "Started", position, at, id, attempt: Number(detail) }
    case "progress":
      return { _tag: "Progress", position, at, id, value: Option.getOrUndefined(parseJson(detail)) }
    case "completed":
      return { _tag: "Completed", position, at, id }
    case "retried":
      return { _tag: "Retried", position, at, id, delay: Duration.millis(Number(detail)) }
    case "released":
      return { _tag: "Released", position, at, id, delay: Duration.millis(Number(detail)) }
    case "dead":
      return { _tag: "Dead", position, at, id, reason: isReason(detail) ? detail : "unknown" }
    case "stalled":
      return { _tag: "Stalled", position, at, id }
    case "removed":
      return { _tag: "Removed", position, at, id }
    case "replayed":
      return { _tag: "Replayed", position, at, id }
    case "drained":
      return { _tag: "Drained", position, at }
    case "paused":
      return { _tag: "Paused", position, at }
    case "resumed":
      return { _tag: "Resumed", position, at }
    default:
      return undefined
  }
}

const eventsOf = ({ entries }: scripts.Written): ReadonlyArray<JobEvent> =>
  entries.map(eventOf).filter((event) => event !== undefined)

/**
 * What reads the events of the queues of a client.
 *
 * @internal
 */
export const makeEvents = (client: RedisClient.Service, waker: Waker): Events => {
  const keysFor = <A>(operation: string, definition: Definition<A, any>): Either.Either<Keys, RedisInputError> =>
    Either.flatMap(settingsOf(definition), ({ mostEvents }) =>
      mostEvents === 0
        ? Either.left(inputError(operation, "definition", "one that has events", "one that has none"))
        : Either.right(keysOf(definition.name)))

  /** Reads behind an event, and waits until there is something. */
  const following = (
    keys: Keys,
    waiting: Waiting,
    after: string,
    gaps: boolean
  ): Effect.Effect<scripts.Written, RedisError> =>
    Effect.flatMap(
      untilItWorks(client.eval(scripts.read, keys, after, TOGETHER, gaps)),
      (written) =>
        written.entries.length > 0 || after === NOW
          ? Effect.succeed(written)
          : Effect.zipRight(wait(waiting, after), following(keys, waiting, after, gaps))
    )

  return {
    events: (definition, { from = NOW } = {}) => {
      const operation = "Queue.events"
      const keys = keysFor(operation, definition)
      if (Either.isLeft(keys)) return Stream.fail(keys.left)
      const bad = from === NOW ? undefined : checkId(operation, "from", from)
      if (bad !== undefined) return Stream.fail(bad)
      return Stream.unwrapScoped(
        Effect.map(
          waker.use(keys.right.events),
          (waiting) =>
            Stream.unfoldChunkEffect(
              { after: from, gaps: from !== "0" && from !== ZERO },
              ({ after, gaps }) =>
                Effect.map(following(keys.right, waiting, after, gaps), (written) => {
                  const events = eventsOf(written)
                  return Option.some([
                    Chunk.unsafeFromArray<JobEvent | EventsMissed>(written.gap ? [MISSED, ...events] : events),
                    { after: written.last, gaps: true }
                  ])
                })
            )
        )
      )
    },
    eventsPage: (definition, { after = ZERO, limit = DEFAULT_LIMIT } = {}) => {
      const operation = "Queue.eventsPage"
      const keys = keysFor(operation, definition)
      if (Either.isLeft(keys)) return Effect.fail(keys.left)
      const bad = checkId(operation, "after", after) ??
        checkWhole(operation, "limit", 1, controlScripts.PAGE, limit)
      if (bad !== undefined) return Effect.fail(bad)
      return spanned(
        "eventsPage",
        definition,
        Effect.map(
          client.eval(scripts.read, keys.right, after, limit, after !== "0" && after !== ZERO),
          (written) => ({ events: eventsOf(written), missed: written.gap, next: written.last })
        )
      )
    }
  }
}
