/**
 * Dead letters that leave the server, and come back.
 *
 * @since 0.1.0
 */
import * as Chunk from "effect/Chunk"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import { checkWhole } from "../internal/input.js"
import { checkName } from "../internal/rooms.js"
import type * as RedisClient from "../RedisClient.js"
import type { RedisError } from "../RedisError.js"
import * as RedisScript from "../RedisScript.js"
import { type Open, spanned } from "./Control.js"
import * as scripts from "./controlScripts.js"
import { type DeadLetter, letterOf } from "./DeadLetters.js"
import type { Definition } from "./Definition.js"
import { decoder } from "./envelope.js"
import { NO_PLACE } from "./groupScripts.js"
import { LEVELS } from "./keys.js"
import { checkId } from "./Producer.js"

// ---------------------------------------------------------------------------------------------------------------------
// Models
// ---------------------------------------------------------------------------------------------------------------------

/**
 * A dead letter as it is stored, with a payload that need not be readable. It is plain data: `JSON.stringify` makes a line
 * of it, and `Schema.decodeUnknown` a record again.
 *
 * @since 0.1.0
 * @category models
 */
export class DeadLetterRecord extends Schema.Class<DeadLetterRecord>("effect-redis-kit/Queue/DeadLetterRecord")({
  queue: Schema.String,
  id: Schema.String.pipe(Schema.minLength(1), Schema.maxLength(256)),
  /** The payload, and what the job was enqueued with. */
  envelope: Schema.String,
  priority: Schema.Int.pipe(Schema.between(0, LEVELS - 1)),
  /** Milliseconds, by the clock of the server. */
  failedAt: Schema.Int.pipe(Schema.nonNegative()),
  /** JSON about its end. */
  info: Schema.String
}) {}

/**
 * @since 0.1.0
 * @category models
 */
export interface ExportedDeadLetter<out A> extends DeadLetter<A> {
  /** What `importDeadLetters` takes. */
  readonly record: DeadLetterRecord
}

/**
 * @since 0.1.0
 * @category models
 */
export interface ExportOptions {
  /** How many are read at once; 100 by default, and no more than 1000. */
  readonly pageSize?: number | undefined
  /** Goes on behind this one, whether it is still there or not. */
  readonly after?: Pick<DeadLetterRecord, "id" | "failedAt"> | undefined
}

/**
 * What became of records that were imported.
 *
 * @since 0.1.0
 * @category models
 */
export interface Imported {
  readonly imported: number
  /** There was a job with the id, in whatever state. */
  readonly present: number
  /** The queue has as many dead letters as it keeps. */
  readonly refused: number
}

/**
 * @since 0.1.0
 * @category models
 */
export interface DeadLetterExport {
  /**
   * All dead letters from the oldest on, page by page. One that is there all the time comes exactly once, whatever comes
   * and goes meanwhile. Those that died later than the export began do not come.
   */
  readonly exportDeadLetters: <A>(
    definition: Definition<A, any>,
    options?: ExportOptions
  ) => Stream.Stream<ExportedDeadLetter<A>, RedisError>
  /**
   * Makes dead letters of records, as old as they were. Those whose id is in use are left out, so it can be repeated. Others
   * than those of an export can make no worse than letters that can't be read.
   */
  readonly importDeadLetters: <A, E, R>(
    definition: Definition<A, any>,
    records: Stream.Stream<DeadLetterRecord, E, R>
  ) => Effect.Effect<Imported, E | RedisError, Exclude<R, Scope.Scope>>
}

// ---------------------------------------------------------------------------------------------------------------------
// Constructors
// ---------------------------------------------------------------------------------------------------------------------

/** How many records are sent at once: they may be large. */
const TOGETHER = 100

/**
 * Makes dead letters. O(m log n) for m of n.
 *
 * ARGV how many the queue keeps, and for each id, envelope, level, when it died, the JSON about it, and its group or an
 * empty text. Returns how many were made, were there, and were one too many.
 */
const restore = RedisScript.make({
  name: "queue.importDeadLetters",
  lua: `${scripts.common}
local made, there, over = 0, 0, 0
local room = tonumber(ARGV[3]) - redis.call('ZCARD', dead)
for i = 4, #ARGV, 6 do
  local id, level = ARGV[i], ARGV[i + 2]
  if redis.call('HEXISTS', jobs, id) == 1 then
    there = there + 1
  elseif made >= room then
    over = over + 1
  else
    redis.call('HSET', jobs, id, ARGV[i + 1])
    if level ~= '0' then redis.call('HSET', levels, id, level) end
    if ARGV[i + 5] ~= '' then redis.call('HSET', group_of, id, ${NO_PLACE} .. ARGV[i + 5]) end
    redis.call('HSET', dead_info, id, ARGV[i + 4])
    redis.call('ZADD', dead, whole(math.min(now, ARGV[i + 3])), id)
    made = made + 1
  end
end
return { made, there, over }`,
  params: (
    target: scripts.Target,
    limit: number,
    records: ReadonlyArray<readonly [record: DeadLetterRecord, group: string]>
  ) =>
    scripts.params(
      target,
      limit,
      ...records.flatMap((
        [{ envelope, failedAt, id, info, priority }, group]
      ) => [id, envelope, priority, failedAt, info, group])
    ),
  result: (reply): Either.Either<Imported, string> => {
    const [imported, present, refused] = Array.isArray(reply) ? reply : []
    return typeof imported === "number" && typeof present === "number" && typeof refused === "number"
      ? Either.right({ imported, present, refused })
      : Either.left("three numbers")
  },
  idempotent: true
})

/** Where the next page begins: behind a letter, and how far it may go. */
interface Place {
  readonly after: { readonly id: string; readonly at: number } | undefined
  readonly last: number | undefined
}

/**
 * What exports and imports the dead letters of the queues of a client.
 *
 * @internal
 */
export const makeExport = (client: RedisClient.Service, open: Open): DeadLetterExport => ({
  exportDeadLetters: (definition, { after, pageSize = 100 } = {}) => {
    const operation = "Queue.exportDeadLetters"
    const bad = checkWhole(operation, "pageSize", 1, scripts.PAGE, pageSize) ??
      (after === undefined ? undefined : checkName(operation, "after.id", after.id)) ??
      (after === undefined
        ? undefined
        : checkWhole(operation, "after.failedAt", 0, Number.MAX_SAFE_INTEGER, after.failedAt))
    const opened = open(operation, definition)
    if (bad !== undefined) return Stream.fail(bad)
    if (Either.isLeft(opened)) return Stream.fail(opened.left)
    const toLetter = letterOf(opened.right)
    const page = ({ after, last }: Place) =>
      Effect.map(
        spanned(
          "exportDeadLetters",
          definition,
          client.eval(scripts.letters, opened.right.target, after, last, pageSize)
        ),
        ({ next: last, rows }) => {
          const letters = rows.map((row) => ({
            ...toLetter(row),
            record: new DeadLetterRecord({
              queue: definition.name,
              id: row.id,
              envelope: row.envelope,
              priority: row.level,
              failedAt: row.at,
              info: row.info
            }, { disableValidation: true })
          }))
          const next: Option.Option<Place> = rows.length < pageSize
            ? Option.none()
            : Option.some({ after: rows.at(-1), last })
          return [Chunk.unsafeFromArray(letters), next] as const
        }
      )
    return Stream.paginateChunkEffect<Place, ExportedDeadLetter<any>, RedisError, never>(
      { after: after && { id: after.id, at: after.failedAt }, last: undefined },
      page
    )
  },
  importDeadLetters: (definition, records) => {
    const operation = "Queue.importDeadLetters"
    const opened = open(operation, definition)
    if (Either.isLeft(opened)) return Effect.fail(opened.left)
    const { target } = opened.right
    const decode = decoder(definition)
    // It stands in the envelope, and has to be what a group may be called.
    const groupOf = ({ envelope, id }: DeadLetterRecord): string => {
      const { group = "" } = decode(envelope, id)
      return definition.groups === undefined || checkId(operation, "group", group) !== undefined ? "" : group
    }
    return spanned(
      "importDeadLetters",
      definition,
      Stream.runFoldEffect(
        Stream.grouped(records, TOGETHER),
        { imported: 0, present: 0, refused: 0 },
        (sum: Imported, some): Effect.Effect<Imported, RedisError> => {
          const all = Chunk.toReadonlyArray(some)
          const bad = all.map(({ id }) => checkName(operation, "id", id)).find((error) => error !== undefined)
          return bad === undefined
            ? Effect.map(
              client.eval(
                restore,
                target,
                definition.deadLetters.count,
                all.map((one) => [one, groupOf(one)] as const)
              ),
              (more) => ({
                imported: sum.imported + more.imported,
                present: sum.present + more.present,
                refused: sum.refused + more.refused
              })
            )
            : Effect.fail(bad)
        }
      )
    )
  }
})
