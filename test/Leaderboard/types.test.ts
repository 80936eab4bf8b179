/**
 * What the compiler makes of boards. Nothing here runs; the type check of the tests is the test.
 */
// Only types are looked at here.
// @effect-diagnostics floatingEffect:off
import { describe, expectTypeOf, it } from "@effect/vitest"
import { type Effect, type Option, Schema } from "effect"
import * as Leaderboard from "../../src/Leaderboard/index.js"
import type { RedisError } from "../../src/RedisError.js"

const Player = Schema.Struct({ name: Schema.String })
type Player = typeof Player.Type

/** Only the types matter, so the body is never called. */
const types = (name: string, check: () => void) => it(name, () => expectTypeOf(check).toBeFunction())

describe("types of leaderboards", () => {
  types("members are texts, and nothing is known of them, unless there are schemas", () => {
    expectTypeOf(Leaderboard.define({ name: "a" })).toEqualTypeOf<Leaderboard.Definition<string, never>>()
    expectTypeOf(Leaderboard.define({ name: "a", player: Player })).toEqualTypeOf<
      Leaderboard.Definition<string, Player>
    >()
    expectTypeOf(Leaderboard.define({ name: "a", member: Schema.NumberFromString })).toEqualTypeOf<
      Leaderboard.Definition<number, never>
    >()
    // @ts-expect-error a member has to be a text on the server
    Leaderboard.define({ name: "a", member: Schema.Number })
    // @ts-expect-error there is no such rule
    Leaderboard.define({ name: "a", ties: "random" })
  })

  types("operations take and give what the definition says", () => {
    const board = Leaderboard.define({ name: "a", member: Schema.NumberFromString, player: Player })
    const plain = Leaderboard.define({ name: "a" })
    expectTypeOf(Leaderboard.rank(board, 1)).toEqualTypeOf<
      Effect.Effect<Option.Option<Leaderboard.Entry<number, Player>>, RedisError, Leaderboard.Leaderboard>
    >()
    Leaderboard.submit(board, 1, 5, { player: { name: "Ada" } })
    // @ts-expect-error a member of another type
    Leaderboard.submit(board, "1", 5)
    // @ts-expect-error a profile of another type
    Leaderboard.submit(board, 1, 5, { player: { title: "Ada" } })
    // @ts-expect-error nothing is known of members of this board
    Leaderboard.submit(plain, "a", 5, { player: { name: "Ada" } })
    // @ts-expect-error there is no such mode
    Leaderboard.submit(plain, "a", 5, { mode: "worst" })
  })

  types("boards can be merged that have the same members", () => {
    const into = Leaderboard.define({ name: "a", player: Player })
    Leaderboard.merge(into, [{ board: into }, { board: Leaderboard.define({ name: "b" }) }])
    // @ts-expect-error members of another type
    Leaderboard.merge(into, [{ board: Leaderboard.define({ name: "b", member: Schema.NumberFromString }) }])
  })
})
