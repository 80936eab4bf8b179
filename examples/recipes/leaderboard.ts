/**
 * A leaderboard of a game: the ranks before and after each score, the best, those around a player, and pages.
 */
import { Console, Effect, Option, Schema } from "effect"
import { Leaderboard } from "effect-redis-kit"

// #region board
const Player = Schema.Struct({ name: Schema.String, avatar: Schema.optional(Schema.String) })

/** A new board each week; last week's is there for 90 days. */
export const Weekly = Leaderboard.define({
  name: "weekly-game",
  player: Player,
  maxSize: 10_000,
  season: "week"
})
// #endregion board

type Entry = Leaderboard.Entry<string, typeof Player.Type>

/** Who has no profile is called by the id. */
const nameOf = ({ member, player }: Entry) =>
  Option.match(player, { onNone: () => `Player ${member}`, onSome: ({ name }) => name })

export const line = (entry: Entry) => `${entry.rank}. ${nameOf(entry)} ${entry.score}`

/** Only a better score counts. Ranks before and after are of the same state of the board. */
export const finish = (id: string, player: typeof Player.Type, score: number) =>
  Effect.map(
    Leaderboard.submit(Weekly, id, score, { mode: "best", player }),
    ({ previousRank, rank }) => ({
      rank: Option.getOrNull(rank),
      previousRank: Option.getOrNull(previousRank)
    })
  )

/** Everything that a player's page shows. */
export const standing = (id: string) =>
  Effect.all({
    me: Leaderboard.rank(Weekly, id),
    around: Leaderboard.around(Weekly, id, { radius: 2 }),
    percentile: Leaderboard.percentile(Weekly, id),
    best: Leaderboard.top(Weekly, { size: 3 }),
    secondPage: Leaderboard.page(Weekly, 2, { size: 4 })
  }, { concurrency: "unbounded" })

// #region game
export const program = Effect.gen(function*() {
  const names = ["Ada", "Grace", "Barbara", "Frances", "Radia", "Margaret", "Jean"]
  for (const [i, name] of names.entries()) yield* finish(name.toLowerCase(), { name }, 1000 + i * 100)
  yield* Leaderboard.submit(Weekly, "42", 1150, { mode: "increment" })
  const { previousRank, rank } = yield* finish("ada", { name: "Ada", avatar: "ada.png" }, 1450)
  yield* Console.log(`Ada was ${previousRank}, and is ${rank} now`)
  const { around, best, percentile, secondPage } = yield* standing("ada")
  yield* Console.log(`best: ${best.map(line).join(", ")}`)
  yield* Console.log(`around Ada: ${around.map(line).join(", ")}`)
  yield* Console.log(`better than ${Math.round(Option.getOrThrow(percentile))} % of ${secondPage.total} players`)
})
// #endregion game
