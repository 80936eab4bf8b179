/**
 * Leaderboards over Redis: exact ranks under four rules for ties, the rank before and after a score from one state, and
 * seasons by the server's clock.
 *
 * @since 0.1.0
 */
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as DateTime from "effect/DateTime"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Layer from "effect/Layer"
import * as Metric from "effect/Metric"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import * as Schema from "effect/Schema"
import * as SchemaAST from "effect/SchemaAST"
import { checkWhole, inputError, positiveMillis } from "../internal/input.js"
import { checkName } from "../internal/rooms.js"
import { withSpan } from "../internal/telemetry.js"
import { RedisClient } from "../RedisClient.js"
import type { Instant } from "../RedisCommands.js"
import { RedisDecodeError, type RedisError, type RedisInputError } from "../RedisError.js"
import { layer as testServer, type RedisTestServer } from "../RedisTestServer.js"
import * as scripts from "./scripts.js"
import * as Season_ from "./Season.js"

// ---------------------------------------------------------------------------------------------------------------------
// Models
// ---------------------------------------------------------------------------------------------------------------------

export type { Period, Season } from "./Season.js"

/**
 * How members with the same score are ranked:
 *
 * - `competition`: they share a rank, and the next one is as much further: 1, 1, 3
 * - `dense`: they share a rank, and the next one follows: 1, 1, 2
 * - `ordinal`: each has a rank, in the order of the bytes of their names: 1, 2, 3
 * - `first-to-reach`: each has a rank, and who reached the score first is before the others
 *
 * @since 0.1.0
 * @category models
 */
export type Ties = scripts.Ties

/**
 * A board, with the types of its members and of what is known of them.
 *
 * @since 0.1.0
 * @category models
 */
export interface Definition<in out M, in out P> {
  readonly name: string
  readonly group: string
  readonly member: Schema.Schema<M, string>
  /** As JSON; `undefined` when nothing is known of members. */
  readonly player: Schema.Schema<P, string> | undefined
  readonly direction: "high" | "low"
  readonly ties: Ties
  readonly maxSize: number | undefined
  readonly season: Season_.Period | undefined
  readonly ttl: Duration.DurationInput | undefined
}

/**
 * Which season: the present one of the server's clock, the one before it, or the one that an instant belongs to.
 *
 * @since 0.1.0
 * @category models
 */
export type SeasonChoice = "current" | "previous" | Instant

/**
 * @since 0.1.0
 * @category options
 */
export interface SeasonOptions {
  /** `"current"` by default. Of a board without seasons it must be left out. */
  readonly season?: SeasonChoice | undefined
}

/**
 * @since 0.1.0
 * @category options
 */
export interface SubmitOptions<out P> extends SeasonOptions {
  /**
   * What the score does: `set` replaces the one that is there (the default), `best` does so when it is better, and
   * `increment` is added to it.
   */
  readonly mode?: "set" | "best" | "increment" | undefined
  /** What is known of the member from now on; what was known before stays when it is left out. */
  readonly player?: P | undefined
}

/**
 * What became of a score. Ranks count from 1, and both are of the same state: no other score came between.
 *
 * @since 0.1.0
 * @category models
 */
export interface Submitted {
  /** The score of the member now, or the one that was not enough to be kept. */
  readonly score: number
  /** `None` when the board is full, and all others are better. */
  readonly rank: Option.Option<number>
  readonly previousScore: Option.Option<number>
  /** `None` when it was no member. */
  readonly previousRank: Option.Option<number>
}

/**
 * A member of a board, and where it stands.
 *
 * @since 0.1.0
 * @category models
 */
export interface Entry<out M, out P> {
  /** From 1. */
  readonly rank: number
  readonly member: M
  readonly score: number
  /** `None` when nothing is known, or the present schema can't read it. */
  readonly player: Option.Option<P>
}

/**
 * @since 0.1.0
 * @category models
 */
export interface Page<out M, out P> {
  readonly entries: ReadonlyArray<Entry<M, P>>
  /** How many members the whole board has. */
  readonly total: number
}

/**
 * A board that is merged into another one.
 *
 * @since 0.1.0
 * @category models
 */
export interface Source<in out M, in out P> extends SeasonOptions {
  readonly board: Definition<M, P> | Definition<M, never>
}

/**
 * @since 0.1.0
 * @category models
 */
export interface Service {
  /**
   * Gives a member a score. When the board has more than `maxSize` members then, the worst are removed with their
   * profiles. It is never sent twice: when its reply is lost it fails with `RedisOutcomeUnknownError`.
   */
  readonly submit: <M, P>(
    definition: Definition<M, P>,
    member: NoInfer<M>,
    score: number,
    options?: SubmitOptions<NoInfer<P>>
  ) => Effect.Effect<Submitted, RedisError>
  /** Says what is known of a member; `false` when it is none. */
  readonly setPlayer: <M, P>(
    definition: Definition<M, P>,
    member: NoInfer<M>,
    player: NoInfer<P>,
    options?: SeasonOptions
  ) => Effect.Effect<boolean, RedisError>
  /** The best, the first of them first; ten by default. */
  readonly top: <M, P>(
    definition: Definition<M, P>,
    options?: SeasonOptions & { readonly size?: number | undefined }
  ) => Effect.Effect<ReadonlyArray<Entry<M, P>>, RedisError>
  /** So many members, 20 by default; page 1 has the best. */
  readonly page: <M, P>(
    definition: Definition<M, P>,
    page: number,
    options?: SeasonOptions & { readonly size?: number | undefined }
  ) => Effect.Effect<Page<M, P>, RedisError>
  /**
   * A member between `radius` better and as many worse ones, 5 by default. At the ends of the board there are more on the
   * other side, so that they are always as many as there can be. Empty when it is no member.
   */
  readonly around: <M, P>(
    definition: Definition<M, P>,
    member: NoInfer<M>,
    options?: SeasonOptions & { readonly radius?: number | undefined }
  ) => Effect.Effect<ReadonlyArray<Entry<M, P>>, RedisError>
  /** Where a member stands. */
  readonly rank: <M, P>(
    definition: Definition<M, P>,
    member: NoInfer<M>,
    options?: SeasonOptions
  ) => Effect.Effect<Option.Option<Entry<M, P>>, RedisError>
  /** Where members stand, in the order in which they are asked for; at most 1000. */
  readonly ranks: <M, P>(
    definition: Definition<M, P>,
    members: ReadonlyArray<NoInfer<M>>,
    options?: SeasonOptions
  ) => Effect.Effect<ReadonlyArray<Option.Option<Entry<M, P>>>, RedisError>
  /** How many percent of the members have a worse score. */
  readonly percentile: <M, P>(
    definition: Definition<M, P>,
    member: NoInfer<M>,
    options?: SeasonOptions
  ) => Effect.Effect<Option.Option<number>, RedisError>
  /** How many members there are, or how many of them have a score within bounds, which belong to it. */
  readonly count: <M, P>(
    definition: Definition<M, P>,
    options?: SeasonOptions & { readonly min?: number | undefined; readonly max?: number | undefined }
  ) => Effect.Effect<number, RedisError>
  /** Removes members with what is known of them, at most 1000, and gives how many there were. */
  readonly remove: <M, P>(
    definition: Definition<M, P>,
    members: ReadonlyArray<NoInfer<M>>,
    options?: SeasonOptions
  ) => Effect.Effect<number, RedisError>
  /** Removes a board, and gives how many members it had. */
  readonly clear: <M, P>(definition: Definition<M, P>, options?: SeasonOptions) => Effect.Effect<number, RedisError>
  /**
   * Replaces a board by what others of its group have together, in one step, and gives its size. Who is in several of
   * them gets the sum of the scores, or the least or the greatest; and the first profile that one of them has. With
   * `first-to-reach` those of one score come in the order of the bytes of their names.
   *
   * It takes the server some seconds for a million members, and nobody else is served meanwhile.
   */
  readonly merge: <M, P>(
    definition: Definition<M, P>,
    sources: ReadonlyArray<Source<M, P>>,
    options?: SeasonOptions & { readonly scores?: "sum" | "min" | "max" | undefined }
  ) => Effect.Effect<number, RedisError>
  /** A season: the present one of the server's clock, or another. */
  readonly season: <M, P>(
    definition: Definition<M, P>,
    options?: SeasonOptions
  ) => Effect.Effect<Season_.Season, RedisError>
}

/**
 * @since 0.1.0
 * @category tags
 */
export class Leaderboard extends Context.Tag("effect-redis-kit/Leaderboard")<Leaderboard, Service>() {}

// ---------------------------------------------------------------------------------------------------------------------
// Constructors
// ---------------------------------------------------------------------------------------------------------------------

/**
 * Describes a board.
 *
 * - `member`: what a member is, as a text; a string by default
 * - `player`: what is known of members, for example name and picture; nothing by default
 * - `direction`: `"high"` when higher scores are better (the default), `"low"` when lower ones are
 * - `ties`: how members with the same score are ranked; `"competition"` by default
 * - `maxSize`: how many members are kept; all by default
 * - `season`: how long a season is. Each has a board of its own, and begins when the server's clock says so. None by
 *   default
 * - `ttl`: how long a board is kept after its season, 90 days by default. Without seasons, how long after the last score;
 *   for ever by default, until `clear`
 * - `group`: boards of one group can be merged, and share a node of a Cluster; the name by default
 *
 * @example
 * ```ts
 * import { Effect, Schema } from "effect"
 * import { Leaderboard } from "effect-redis-kit"
 *
 * const Weekly = Leaderboard.define({
 *   name: "weekly",
 *   player: Schema.Struct({ name: Schema.String }),
 *   maxSize: 1000,
 *   season: "week"
 * })
 *
 * const program = Effect.gen(function*() {
 *   const { previousRank, rank } = yield* Leaderboard.submit(Weekly, "ada", 120, {
 *     mode: "best",
 *     player: { name: "Ada" }
 *   })
 *   yield* Effect.log("climbed", previousRank, rank)
 *   yield* Effect.log(yield* Leaderboard.around(Weekly, "ada", { radius: 5 }))
 *   yield* Effect.log(yield* Leaderboard.top(Weekly, { season: "previous" }))
 * })
 * ```
 *
 * @since 0.1.0
 * @category constructors
 */
export const define = <M = string, P = never>(options: {
  readonly name: string
  readonly group?: string | undefined
  readonly member?: Schema.Schema<M, string> | undefined
  readonly player?: Schema.Schema<P, any> | undefined
  readonly direction?: "high" | "low" | undefined
  readonly ties?: Ties | undefined
  readonly maxSize?: number | undefined
  readonly season?: Season_.Period | undefined
  readonly ttl?: Duration.DurationInput | undefined
}): Definition<M, P> => ({
  name: options.name,
  group: options.group ?? options.name,
  // Without a schema M is what its default says.
  member: options.member ?? Schema.String as Schema.Schema<any, string>,
  player: options.player === undefined ? undefined : Schema.parseJson(options.player),
  direction: options.direction ?? "high",
  ties: options.ties ?? "competition",
  maxSize: options.maxSize,
  season: options.season,
  ttl: options.ttl ?? (options.season === undefined ? undefined : "90 days")
})

/** How many members one call reads or removes. */
const MOST = 1000

/** More than all instants that there are, so that a time of one's own is never another one. */
const EVER = 1e16

const submissions = Metric.counter("effect_redis_leaderboard_scores_total", {
  description: "Scores submitted to leaderboards",
  incremental: true
})

/** What a definition says of its keys. */
type Shape = Pick<
  Definition<unknown, unknown>,
  "name" | "group" | "direction" | "ties" | "maxSize" | "season" | "ttl"
>

/** A definition that was checked, with what follows from it. */
interface Board<out D extends Shape> {
  readonly definition: D
  readonly scripts: typeof scripts.byTies[Ties]
  readonly max: number
  /** Milliseconds. */
  readonly ttl: number | undefined
  /** Without seasons there is one. */
  readonly only: scripts.Board | undefined
  /** The season of the last call, which is most often that of the next. */
  season: Season_.Span | undefined
}

const checkCount = (operation: string, field: string, n: number, most = MOST): RedisInputError | undefined =>
  checkWhole(operation, field, 1, most, n)

const keyOf = ({ direction, group, name, ties }: Shape, season: string | undefined): string =>
  scripts.keyOf(group, name, direction, ties, season)

const prepare = <D extends Shape>(operation: string, definition: D): Either.Either<Board<D>, RedisInputError> => {
  const { group, maxSize, name, season, ties } = definition
  const bad = checkName(operation, "name", name) ?? checkName(operation, "group", group) ??
    (maxSize === undefined ? undefined : checkCount(operation, "maxSize", maxSize, Number.MAX_SAFE_INTEGER))
  if (bad !== undefined) return Either.left(bad)
  const ttl = definition.ttl === undefined
    ? Either.right(undefined)
    : positiveMillis(operation, "ttl", definition.ttl)
  return Either.map(ttl, (ttl) => ({
    definition,
    scripts: scripts.byTies[ties],
    max: maxSize ?? 0,
    ttl,
    only: season === undefined
      ? { key: keyOf(definition, undefined), from: "", to: "", life: ttl === undefined ? ["", ""] : ["PEXPIRE", ttl] }
      : undefined,
    season: undefined
  }))
}

/** What is wrong may be a secret. */
const schemaError = (operation: string, field: string, schema: Schema.Schema.Any) =>
  inputError(operation, field, String(schema.ast), Redacted.make(""))

/** Most members are just texts, for which a schema has nothing to do. */
const isText = (schema: Schema.Schema.Any): boolean => SchemaAST.isStringKeyword(schema.ast)

const encodeMember = <M, P>(
  operation: string,
  { member: schema }: Definition<M, P>,
  member: M
): Either.Either<string, RedisInputError> => {
  const encoded = isText(schema) && typeof member === "string"
    ? Either.right(member)
    : Schema.encodeEither(schema)(member)
  if (Either.isLeft(encoded)) return Either.left(schemaError(operation, "member", schema))
  const bad = checkName(operation, "member", encoded.right)
  return bad === undefined ? Either.right(encoded.right) : Either.left(bad)
}

const encodeMembers = <M, P>(
  operation: string,
  definition: Definition<M, P>,
  members: ReadonlyArray<M>
): Either.Either<ReadonlyArray<string>, RedisInputError> =>
  members.length > MOST
    ? Either.left(inputError(operation, "members", `at most ${MOST}`, members.length))
    : Either.all(members.map((member) => encodeMember(operation, definition, member)))

const encodePlayer = <M, P>(
  operation: string,
  { player: schema }: Definition<M, P>,
  player: P
): Either.Either<string, RedisInputError> =>
  schema === undefined
    ? Either.left(inputError(operation, "player", "left out: the board has no schema for it", Redacted.make("")))
    : Either.mapLeft(Schema.encodeEither(schema)(player), () => schemaError(operation, "player", schema))

/** The best comes first on the server, so high scores have the other sign there. Zero has none. */
const stored = ({ direction }: Shape, score: number): number => score === 0 ? 0 : direction === "high" ? -score : score

const scoreOf = (definition: Shape, text: string): number => stored(definition, Number(text))

const optionalScore = (definition: Shape, text: string | null): Option.Option<number> =>
  text === null ? Option.none() : Option.some(scoreOf(definition, text))

const optionalRank = (rank: number | null): Option.Option<number> =>
  rank === null ? Option.none() : Option.some(rank + 1)

const decodePlayer = <P>(
  schema: Schema.Schema<P, string> | undefined
): (text: string | null | undefined) => Option.Option<P> => {
  if (schema === undefined) return () => Option.none()
  const decode = Schema.decodeOption(schema)
  return (text) => text === null || text === undefined || text === "" ? Option.none() : decode(text)
}

/** Members with the ranks that follow from the first one's. */
const entriesOf = <M, P>(
  definition: Definition<M, P>,
  { found, profiles, rank: first, start }: scripts.Part
): Either.Either<ReadonlyArray<Entry<M, P>>, RedisError> => {
  const { member, player, ties } = definition
  const decode = isText(member)
    ? (text: string) => Either.right(text as M & string)
    : Schema.decodeEither(member)
  const playerOf = decodePlayer(player)
  // Where members share ranks.
  const shared = ties === "competition" || ties === "dense"
  const entries: Array<Entry<M, P>> = []
  let rank = first
  for (let i = 0; i < found.length; i += 2) {
    const id = ties === "first-to-reach" ? found[i]!.slice(scripts.PLACE_LENGTH) : found[i]!
    const decoded = decode(id)
    if (Either.isLeft(decoded)) {
      return Either.left(
        new RedisDecodeError({ command: "Leaderboard", detail: "a member that the board's schema can't read" })
      )
    }
    const n = i / 2
    const score = scoreOf(definition, found[i + 1]!)
    if (n > 0 && !(shared && score === entries[n - 1]!.score)) rank = ties === "dense" ? rank + 1 : start + n
    entries.push({ rank: rank + 1, member: decoded.right, score, player: playerOf(profiles[n]) })
  }
  return Either.right(entries)
}

const seasonOf = ({ end, id, start }: Season_.Span): Season_.Season => ({
  id,
  start: DateTime.unsafeMake(start),
  end: DateTime.unsafeMake(end)
})

/** A board of one season, and between which instants of the server it is the one that is meant. */
interface Chosen extends scripts.Board {
  readonly season: Season_.Span | undefined
}

/** The board of a season at an instant; `during` is the season that the instant must be in. */
const choose = (
  operation: string,
  board: Board<Shape>,
  choice: SeasonChoice | undefined,
  now: number
): Either.Either<Chosen, RedisInputError> => {
  const { definition, only, ttl = 0 } = board
  const { season: period } = definition
  if (only !== undefined || period === undefined) {
    return choice === undefined && only !== undefined
      ? Either.right({ ...only, season: undefined })
      : Either.left(inputError(operation, "season", "left out: the board has no seasons", "given"))
  }
  const of = (season: Season_.Span, from: number, to: number): Chosen => ({
    key: keyOf(definition, season.id),
    from,
    to,
    life: ["PEXPIREAT", season.end + ttl],
    season
  })
  if (choice !== undefined && typeof choice !== "string") {
    const millis = DateTime.isDateTime(choice) ? DateTime.toEpochMillis(choice) : choice.getTime()
    return Either.map(Season_.at(operation, period, millis), (season) => of(season, -EVER, EVER))
  }
  const known = board.season
  const current = known !== undefined && known.start <= now && now < known.end
    ? Either.right(known)
    : Season_.at(operation, period, now)
  return Either.flatMap(current, (current) => {
    board.season = current
    return choice === "previous"
      ? Either.map(
        Season_.at(operation, period, current.start - 1),
        (previous) => of(previous, current.start, current.end)
      )
      : Either.right(of(current, current.start, current.end))
  })
}

/**
 * Leaderboards over the client of the environment.
 *
 * @since 0.1.0
 * @category constructors
 */
export const make: Effect.Effect<Service, never, RedisClient> = Effect.gen(function*() {
  const client = yield* RedisClient
  const boards = new WeakMap<object, Board<any>>()
  // How far the server's clock is ahead of this one. It is known once a call has come at another season than the server's.
  let ahead = 0

  const boardOf = <D extends Shape>(operation: string, definition: D): Either.Either<Board<D>, RedisInputError> => {
    const known = boards.get(definition)
    if (known !== undefined) return Either.right(known)
    const board = prepare(operation, definition)
    if (Either.isRight(board)) boards.set(definition, board.right)
    return board
  }

  /** Runs a script on the board of a season, which the server is asked for when it is not the one that was meant. */
  const inSeason = <A, B>(
    chosen: (now: number) => Either.Either<B, RedisInputError>,
    run: (chosen: B) => Effect.Effect<A | scripts.Elsewhen, RedisError>
  ): Effect.Effect<readonly [A, B], RedisError> =>
    Effect.flatMap(Clock.currentTimeMillis, (now) => {
      const choice = chosen(now + ahead)
      return Either.isLeft(choice)
        ? Effect.fail(choice.left)
        : Effect.flatMap(run(choice.right), (result) => {
          if (!(result instanceof scripts.Elsewhen)) return Effect.succeed([result, choice.right] as const)
          ahead = result.now - now
          return inSeason(chosen, run)
        })
    })

  const span = <A, M, P>(
    operation: string,
    { name }: Definition<M, P>,
    effect: Effect.Effect<A, RedisError>
  ): Effect.Effect<A, RedisError> =>
    withSpan(effect, `leaderboard.${operation}`, () => ({ "effect_redis.leaderboard.name": name }))

  /** Checks the definition, runs a script on one board, and makes something of its result. */
  const on = <A, B, M, P>(
    operation: string,
    definition: Definition<M, P>,
    options: SeasonOptions | undefined,
    bad: RedisInputError | undefined,
    run: (board: scripts.Board, of: Board<Shape>) => Effect.Effect<A | scripts.Elsewhen, RedisError>,
    make: (result: A) => Effect.Effect<B, RedisError>
  ): Effect.Effect<B, RedisError> => {
    if (bad !== undefined) return Effect.fail(bad)
    const name = `Leaderboard.${operation}`
    const board = boardOf(name, definition)
    if (Either.isLeft(board)) return Effect.fail(board.left)
    const of = board.right
    const { only } = of
    return span(
      operation,
      definition,
      only !== undefined && options?.season === undefined
        // It is asked at no time, so it can't be another one.
        ? Effect.flatMap(run(only, of), (result) => make(result as A))
        : Effect.flatMap(
          inSeason((now) => choose(name, of, options?.season, now), (chosen) => run(chosen, of)),
          ([result]) => make(result)
        )
    )
  }

  const refused = (operation: string, why: scripts.Refused) =>
    Effect.fail(
      why === "over"
        ? inputError(`Leaderboard.${operation}`, "season", "one that is still kept", "one that is over")
        : inputError(`Leaderboard.${operation}`, "score", "a sum that is finite", "one that is not")
    )

  const isFinite = (operation: string, field: string, value: number): RedisInputError | undefined =>
    Number.isFinite(value) ? undefined : inputError(`Leaderboard.${operation}`, field, "a finite number", value)

  const withMember = <M, P, B>(
    operation: string,
    definition: Definition<M, P>,
    member: M,
    use: (id: string) => Effect.Effect<B, RedisError>
  ): Effect.Effect<B, RedisError> => {
    const id = encodeMember(`Leaderboard.${operation}`, definition, member)
    return Either.isLeft(id) ? Effect.fail(id.left) : use(id.right)
  }

  const submit: Service["submit"] = (definition, member, score, options) =>
    withMember("submit", definition, member, (id) => {
      const player = options?.player === undefined
        ? Either.right(undefined)
        : encodePlayer("Leaderboard.submit", definition, options.player)
      if (Either.isLeft(player)) return Effect.fail(player.left)
      const mode = options?.mode ?? "set"
      return on(
        "submit",
        definition,
        options,
        isFinite("submit", "score", score),
        (board, { max, scripts: { submit } }) =>
          client.eval(submit, board, max, id, mode, String(stored(definition, score)), player.right),
        (result: scripts.Submitted | scripts.Refused): Effect.Effect<Submitted, RedisError> => {
          if (typeof result === "string") return refused("submit", result)
          submissions.unsafeUpdate(1, [])
          return Effect.succeed({
            score: scoreOf(definition, result.score),
            rank: optionalRank(result.rank),
            previousScore: optionalScore(definition, result.previousScore),
            previousRank: optionalRank(result.previousRank)
          })
        }
      )
    })

  const list = <M, P>(
    operation: string,
    definition: Definition<M, P>,
    options: SeasonOptions | undefined,
    page: number,
    size: number
  ): Effect.Effect<Page<M, P>, RedisError> =>
    on(
      operation,
      definition,
      options,
      checkCount(`Leaderboard.${operation}`, "size", size) ??
        checkCount(`Leaderboard.${operation}`, "page", page, Math.floor(Number.MAX_SAFE_INTEGER / MOST) - 1),
      (board, { scripts: { list } }) =>
        client.eval(list, board, (page - 1) * size, page * size - 1, definition.player !== undefined),
      (part: scripts.Part) => Either.map(entriesOf(definition, part), (entries) => ({ entries, total: part.total }))
    )

  const ranks = <M, P>(
    operation: string,
    definition: Definition<M, P>,
    members: ReadonlyArray<M>,
    ids: ReadonlyArray<string>,
    options: SeasonOptions | undefined
  ): Effect.Effect<ReadonlyArray<Option.Option<Entry<M, P>>>, RedisError> =>
    on(
      operation,
      definition,
      options,
      undefined,
      (board, { scripts: { look } }) => client.eval(look, board, definition.player !== undefined, ids),
      (places: ReadonlyArray<scripts.Place | undefined>) => {
        const playerOf = decodePlayer(definition.player)
        return Effect.succeed(places.map((place, i) =>
          place === undefined ? Option.none() : Option.some({
            rank: place.rank + 1,
            member: members[i]!,
            score: scoreOf(definition, place.score),
            player: playerOf(place.profile)
          })
        ))
      }
    )

  const merge: Service["merge"] = (definition, sources, options) => {
    const operation = "Leaderboard.merge"
    if (sources.length === 0 || sources.length > MOST) {
      return Effect.fail(inputError(operation, "sources", `one to ${MOST} boards`, sources.length))
    }
    const board = boardOf(operation, definition)
    if (Either.isLeft(board)) return Effect.fail(board.left)
    const of: Array<readonly [Board<Shape>, SeasonChoice | undefined]> = []
    for (const { board, season } of sources) {
      if (board.group !== definition.group) {
        return Effect.fail(inputError(operation, "sources", `boards of the group "${definition.group}"`, board.group))
      }
      const known = boardOf<Shape>(operation, board)
      if (Either.isLeft(known)) return Effect.fail(known.left)
      of.push([known.right, season])
    }
    const { max, scripts: { merge } } = board.right
    const scores = options?.scores ?? "sum"
    const combine = scores === "sum" ? scores : (scores === "max") === (definition.direction === "high") ? "min" : "max"

    /** Every one of them may ask for another season, so it has to be the time of all. */
    const chosen = (now: number) =>
      Either.gen(function*() {
        const into = yield* choose(operation, board.right, options?.season, now)
        const from = yield* Either.all(of.map(([board, season]) => choose(operation, board, season, now)))
        const timed = [into, ...from].filter((one) => one.from !== "")
        return {
          into: timed.length === 0 ? into : {
            ...into,
            from: Math.max(...timed.map(({ from }) => Number(from))),
            to: Math.min(...timed.map(({ to }) => Number(to)))
          },
          from: from.map(({ key }, i): scripts.Source => {
            const { direction, ties } = of[i]![0].definition
            return { key, ties, weight: direction === definition.direction ? 1 : -1 }
          })
        }
      })

    return span(
      "merge",
      definition,
      Effect.flatMap(
        inSeason(chosen, ({ from, into }) => client.eval(merge, into, max, combine, from)),
        ([size]) => typeof size === "number" ? Effect.succeed(size) : refused("merge", size)
      )
    )
  }

  return {
    submit,
    setPlayer: (definition, member, player, options) =>
      withMember("setPlayer", definition, member, (id) => {
        const profile = encodePlayer("Leaderboard.setPlayer", definition, player)
        if (Either.isLeft(profile)) return Effect.fail(profile.left)
        return on(
          "setPlayer",
          definition,
          options,
          undefined,
          (board, { scripts: { setPlayer } }) => client.eval(setPlayer, board, id, profile.right),
          (result: number | "over") =>
            typeof result === "string" ? refused("setPlayer", result) : Effect.succeed(result === 1)
        )
      }),
    top: (definition, options) =>
      Effect.map(list("top", definition, options, 1, options?.size ?? 10), ({ entries }) => entries),
    page: (definition, page, options) => list("page", definition, options, page, options?.size ?? 20),
    around: (definition, member, options) =>
      withMember("around", definition, member, (id) => {
        const radius = options?.radius ?? 5
        return on(
          "around",
          definition,
          options,
          radius === 0 ? undefined : checkCount("Leaderboard.around", "radius", radius, Math.floor(MOST / 2)),
          (board, { scripts: { around } }) => client.eval(around, board, id, radius, definition.player !== undefined),
          (part: scripts.Part) => entriesOf(definition, part)
        )
      }),
    rank: (definition, member, options) =>
      withMember(
        "rank",
        definition,
        member,
        (id) => Effect.map(ranks("rank", definition, [member], [id], options), ([entry]) => entry ?? Option.none())
      ),
    ranks: (definition, members, options) => {
      const ids = encodeMembers("Leaderboard.ranks", definition, members)
      return Either.isLeft(ids)
        ? Effect.fail(ids.left)
        : ids.right.length === 0
        ? Effect.succeed([])
        : ranks("ranks", definition, members, ids.right, options)
    },
    percentile: (definition, member, options) =>
      withMember("percentile", definition, member, (id) =>
        on(
          "percentile",
          definition,
          options,
          undefined,
          (board, { scripts: { worse } }) => client.eval(worse, board, id),
          ({ total, worse }: { readonly total: number; readonly worse: number }) =>
            Effect.succeed(worse < 0 ? Option.none() : Option.some(100 * worse / total))
        )),
    count: (definition, options) => {
      const { max = Infinity, min = -Infinity } = options ?? {}
      const bounds = definition.direction === "high" ? [-max, -min] : [min, max]
      const [least, most] = bounds.map((bound) => Number.isFinite(bound) ? String(bound) : bound > 0 ? "+inf" : "-inf")
      const bad = Number.isNaN(min) ? "min" : Number.isNaN(max) ? "max" : undefined
      return on(
        "count",
        definition,
        options,
        bad === undefined ? undefined : inputError("Leaderboard.count", bad, "a number", NaN),
        (board) => client.eval(scripts.count, board, least!, most!),
        (n: number) => Effect.succeed(n)
      )
    },
    remove: (definition, members, options) => {
      const ids = encodeMembers("Leaderboard.remove", definition, members)
      return Either.isLeft(ids)
        ? Effect.fail(ids.left)
        : ids.right.length === 0
        ? Effect.succeed(0)
        : on(
          "remove",
          definition,
          options,
          undefined,
          (board, { scripts: { remove } }) => client.eval(remove, board, ids.right),
          (n: number) => Effect.succeed(n)
        )
    },
    clear: (definition, options) =>
      on(
        "clear",
        definition,
        options,
        undefined,
        (board) => client.eval(scripts.clear, board),
        (n: number) => Effect.succeed(n)
      ),
    merge,
    season: (definition, options) => {
      const board = boardOf("Leaderboard.season", definition)
      if (Either.isLeft(board)) return Effect.fail(board.left)
      return span(
        "season",
        definition,
        Effect.map(
          inSeason(
            (now) => choose("Leaderboard.season", board.right, options?.season ?? "current", now),
            // It says what the time is unless that is known.
            (chosen) => client.eval(board.right.scripts.look, chosen, false, [])
          ),
          ([, { season }]) => seasonOf(season!)
        )
      )
    }
  }
})

// ---------------------------------------------------------------------------------------------------------------------
// Layers
// ---------------------------------------------------------------------------------------------------------------------

/**
 * @since 0.1.0
 * @category layers
 */
export const layer: Layer.Layer<Leaderboard, never, RedisClient> = Layer.effect(Leaderboard, make)

/**
 * Leaderboards on a server in memory, with the server and its client beside them.
 *
 * @since 0.1.0
 * @category layers
 */
export const layerTest: Layer.Layer<Leaderboard | RedisClient | RedisTestServer> = Layer.provideMerge(layer, testServer)

// ---------------------------------------------------------------------------------------------------------------------
// Accessors
// ---------------------------------------------------------------------------------------------------------------------

/**
 * Gives a member a score, and tells the ranks before and after.
 *
 * @since 0.1.0
 * @category accessors
 */
export const submit = <M, P>(
  definition: Definition<M, P>,
  member: NoInfer<M>,
  score: number,
  options?: SubmitOptions<NoInfer<P>>
): Effect.Effect<Submitted, RedisError, Leaderboard> =>
  Effect.flatMap(Leaderboard, (service) => service.submit(definition, member, score, options))

/**
 * Says what is known of a member; `false` when it is none.
 *
 * @since 0.1.0
 * @category accessors
 */
export const setPlayer = <M, P>(
  definition: Definition<M, P>,
  member: NoInfer<M>,
  player: NoInfer<P>,
  options?: SeasonOptions
): Effect.Effect<boolean, RedisError, Leaderboard> =>
  Effect.flatMap(Leaderboard, (service) => service.setPlayer(definition, member, player, options))

/**
 * The best, the first of them first; ten by default.
 *
 * @since 0.1.0
 * @category accessors
 */
export const top = <M, P>(
  definition: Definition<M, P>,
  options?: SeasonOptions & { readonly size?: number | undefined }
): Effect.Effect<ReadonlyArray<Entry<M, P>>, RedisError, Leaderboard> =>
  Effect.flatMap(Leaderboard, (service) => service.top(definition, options))

/**
 * So many members, 20 by default; page 1 has the best.
 *
 * @since 0.1.0
 * @category accessors
 */
export const page = <M, P>(
  definition: Definition<M, P>,
  page: number,
  options?: SeasonOptions & { readonly size?: number | undefined }
): Effect.Effect<Page<M, P>, RedisError, Leaderboard> =>
  Effect.flatMap(Leaderboard, (service) => service.page(definition, page, options))

/**
 * A member between so many better and worse ones; at the ends of the board there are more on the other side.
 *
 * @since 0.1.0
 * @category accessors
 */
export const around = <M, P>(
  definition: Definition<M, P>,
  member: NoInfer<M>,
  options?: SeasonOptions & { readonly radius?: number | undefined }
): Effect.Effect<ReadonlyArray<Entry<M, P>>, RedisError, Leaderboard> =>
  Effect.flatMap(Leaderboard, (service) => service.around(definition, member, options))

/**
 * Where a member stands.
 *
 * @since 0.1.0
 * @category accessors
 */
export const rank = <M, P>(
  definition: Definition<M, P>,
  member: NoInfer<M>,
  options?: SeasonOptions
): Effect.Effect<Option.Option<Entry<M, P>>, RedisError, Leaderboard> =>
  Effect.flatMap(Leaderboard, (service) => service.rank(definition, member, options))

/**
 * Where members stand, in the order in which they are asked for.
 *
 * @since 0.1.0
 * @category accessors
 */
export const ranks = <M, P>(
  definition: Definition<M, P>,
  members: ReadonlyArray<NoInfer<M>>,
  options?: SeasonOptions
): Effect.Effect<ReadonlyArray<Option.Option<Entry<M, P>>>, RedisError, Leaderboard> =>
  Effect.flatMap(Leaderboard, (service) => service.ranks(definition, members, options))

/**
 * How many percent of the members have a worse score.
 *
 * @since 0.1.0
 * @category accessors
 */
export const percentile = <M, P>(
  definition: Definition<M, P>,
  member: NoInfer<M>,
  options?: SeasonOptions
): Effect.Effect<Option.Option<number>, RedisError, Leaderboard> =>
  Effect.flatMap(Leaderboard, (service) => service.percentile(definition, member, options))

/**
 * How many members there are, or how many of them have a score within bounds.
 *
 * @since 0.1.0
 * @category accessors
 */
export const count = <M, P>(
  definition: Definition<M, P>,
  options?: SeasonOptions & { readonly min?: number | undefined; readonly max?: number | undefined }
): Effect.Effect<number, RedisError, Leaderboard> =>
  Effect.flatMap(Leaderboard, (service) => service.count(definition, options))

/**
 * Removes members with what is known of them, and gives how many there were.
 *
 * @since 0.1.0
 * @category accessors
 */
export const remove = <M, P>(
  definition: Definition<M, P>,
  members: ReadonlyArray<NoInfer<M>>,
  options?: SeasonOptions
): Effect.Effect<number, RedisError, Leaderboard> =>
  Effect.flatMap(Leaderboard, (service) => service.remove(definition, members, options))

/**
 * Removes a board, and gives how many members it had.
 *
 * @since 0.1.0
 * @category accessors
 */
export const clear = <M, P>(
  definition: Definition<M, P>,
  options?: SeasonOptions
): Effect.Effect<number, RedisError, Leaderboard> =>
  Effect.flatMap(Leaderboard, (service) => service.clear(definition, options))

/**
 * Replaces a board by what others of its group have together, and gives its size.
 *
 * @since 0.1.0
 * @category accessors
 */
export const merge = <M, P>(
  definition: Definition<M, P>,
  sources: ReadonlyArray<Source<M, P>>,
  options?: SeasonOptions & { readonly scores?: "sum" | "min" | "max" | undefined }
): Effect.Effect<number, RedisError, Leaderboard> =>
  Effect.flatMap(Leaderboard, (service) => service.merge(definition, sources, options))

/**
 * A season: the present one of the server's clock, or another.
 *
 * @since 0.1.0
 * @category accessors
 */
export const season = <M, P>(
  definition: Definition<M, P>,
  options?: SeasonOptions
): Effect.Effect<Season_.Season, RedisError, Leaderboard> =>
  Effect.flatMap(Leaderboard, (service) => service.season(definition, options))
