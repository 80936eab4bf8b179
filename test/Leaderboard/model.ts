/**
 * A plain leaderboard, which sorts everything for every question, and how to compare it with the real one.
 */
import { assert } from "@effect/vitest"
import { Effect, FastCheck, Option, Schema } from "effect"
import * as Leaderboard from "../../src/Leaderboard/index.js"
import { keyOf, keysOf } from "../../src/Leaderboard/scripts.js"
import { RedisClient } from "../../src/RedisClient.js"

export const Player = Schema.Struct({ name: Schema.String })

export type Board = Leaderboard.Definition<string, typeof Player.Type>

export const TIES = ["ordinal", "competition", "dense", "first-to-reach"] as const

export const DIRECTIONS = ["high", "low"] as const

// One is a part of another, one is long in bytes and short in letters, one looks like a number of a place.
export const MEMBERS = ["a", "ab", "b", "é", "Z", "0000000000000001:a"]

const member = FastCheck.constantFrom(...MEMBERS)

const score = FastCheck.oneof(
  { weight: 4, arbitrary: FastCheck.integer({ min: -2, max: 2 }) },
  { weight: 1, arbitrary: FastCheck.constantFrom(0.1, -0.1, 0.30000000000000004, 1e21, -1e-300, 2 ** 53, -0) }
)

const tag = <const T extends string>(_tag: T) => FastCheck.constant(_tag)

const step = FastCheck.oneof(
  {
    weight: 8,
    arbitrary: FastCheck.record({
      _tag: tag("submit"),
      member,
      score,
      mode: FastCheck.constantFrom("set" as const, "best" as const, "increment" as const),
      player: FastCheck.constantFrom(undefined, "first", "second")
    })
  },
  { weight: 1, arbitrary: FastCheck.record({ _tag: tag("setPlayer"), member }) },
  {
    weight: 1,
    arbitrary: FastCheck.record({ _tag: tag("remove"), members: FastCheck.array(member, { maxLength: 3 }) })
  }
)

export const scenario = FastCheck.record({
  direction: FastCheck.constantFrom(...DIRECTIONS),
  ties: FastCheck.constantFrom(...TIES),
  maxSize: FastCheck.constantFrom(undefined, 1, 3, 5),
  steps: FastCheck.array(step, { minLength: 5, maxLength: 30 })
})

export type Scenario = typeof scenario extends FastCheck.Arbitrary<infer A> ? A : never

interface Row {
  readonly member: string
  readonly score: number
  /** How many scores had been reached before this one. */
  readonly reached: number
  readonly player: string | undefined
}

const bytes = (a: string, b: string) => Buffer.compare(Buffer.from(a), Buffer.from(b))

export class Model {
  rows: Array<Row> = []
  #reached = 0

  constructor(readonly board: Pick<Board, "direction" | "ties" | "maxSize">) {}

  #compare = (a: number, b: number) => this.board.direction === "high" ? b - a : a - b

  find(member: string) {
    return this.rows.find((row) => row.member === member)
  }

  /** The rank of a score among all rows, or of a member where everybody has one of its own. */
  rankOf(row: Row): number {
    const better = this.rows.filter(({ score }) => this.#compare(score, row.score) < 0)
    switch (this.board.ties) {
      case "competition":
        return better.length + 1
      case "dense":
        return new Set(better.map(({ score }) => score)).size + 1
      default:
        return this.rows.indexOf(row) + 1
    }
  }

  entry(row: Row) {
    return {
      rank: this.rankOf(row),
      member: row.member,
      score: row.score,
      player: Option.map(Option.fromNullable(row.player), (name) => ({ name }))
    }
  }

  submit(member: string, score: number, mode: "set" | "best" | "increment", player: string | undefined) {
    const { maxSize = Infinity, ties } = this.board
    const old = this.find(member)
    const previousRank = Option.map(Option.fromNullable(old), (row) => this.rankOf(row))
    const next = (old === undefined || mode === "set"
      ? score
      : mode === "increment"
      ? old.score + score
      : this.#compare(score, old.score) < 0
      ? score
      : old.score) + 0
    const row = {
      member,
      score: next,
      reached: old?.score === next ? old.reached : this.#reached++,
      player: player ?? old?.player
    }
    this.rows = [...this.rows.filter((row) => row !== old), row].sort((a, b) =>
      this.#compare(a.score, b.score) || (ties === "first-to-reach" ? a.reached - b.reached : bytes(a.member, b.member))
    ).slice(0, maxSize)
    return {
      score: next,
      rank: this.rows.includes(row) ? Option.some(this.rankOf(row)) : Option.none(),
      previousScore: Option.map(Option.fromNullable(old), ({ score }) => score),
      previousRank
    }
  }

  setPlayer(member: string, player: string): boolean {
    const known = this.find(member) !== undefined
    this.rows = this.rows.map((row) => row.member === member ? { ...row, player } : row)
    return known
  }

  remove(members: ReadonlyArray<string>): number {
    const before = this.rows.length
    this.rows = this.rows.filter(({ member }) => !members.includes(member))
    return before - this.rows.length
  }

  around(member: string, radius: number) {
    const at = this.rows.findIndex((row) => row.member === member)
    if (at === -1) return []
    const width = Math.min(2 * radius + 1, this.rows.length)
    const start = Math.max(0, Math.min(at - radius, this.rows.length - width))
    return this.rows.slice(start, start + width).map((row) => this.entry(row))
  }

  percentile(member: string) {
    return Option.map(
      Option.fromNullable(this.find(member)),
      (row) => 100 * this.rows.filter(({ score }) => this.#compare(row.score, score) < 0).length / this.rows.length
    )
  }
}

/** Nothing is kept of anybody who is not on the board. */
export const keepsNoMore = (board: Board, players: number, season?: string) =>
  Effect.gen(function*() {
    const client = yield* RedisClient
    const [scores, profiles, order] = keysOf(keyOf(board.group, board.name, board.direction, board.ties, season))
    const total = yield* client.zcard(scores!)
    assert.strictEqual(yield* client.hlen(profiles!), players)
    switch (board.ties) {
      case "dense": {
        const found = yield* client.zrangeWithScores(scores!)
        assert.strictEqual(yield* client.zcard(order!), new Set(found.map(([, score]) => score)).size)
        break
      }
      case "first-to-reach": {
        const numbers = yield* client.hkeys(order!)
        assert.strictEqual(numbers.filter((member) => member !== "").length, total)
        break
      }
      default:
        assert.strictEqual(yield* client.exists(order!), 0)
    }
  })

/** Every question has the answer of the model. */
export const compare = (board: Board, model: Model) =>
  Effect.gen(function*() {
    const rows = model.rows.map((row) => model.entry(row))
    assert.deepStrictEqual(yield* Leaderboard.page(board, 1, { size: 100 }), { entries: rows, total: rows.length })
    assert.deepStrictEqual(yield* Leaderboard.page(board, 2, { size: 2 }), {
      entries: rows.slice(2, 4),
      total: rows.length
    })
    assert.deepStrictEqual(yield* Leaderboard.top(board, { size: 2 }), rows.slice(0, 2))
    assert.strictEqual(yield* Leaderboard.count(board), rows.length)
    const ranks = MEMBERS.map((member) =>
      Option.map(Option.fromNullable(model.find(member)), (row) => model.entry(row))
    )
    assert.deepStrictEqual(yield* Leaderboard.ranks(board, MEMBERS), ranks)
    for (const [i, member] of MEMBERS.entries()) {
      assert.deepStrictEqual(yield* Leaderboard.rank(board, member), ranks[i])
      assert.deepStrictEqual(yield* Leaderboard.around(board, member, { radius: 1 }), model.around(member, 1))
      assert.deepStrictEqual(yield* Leaderboard.percentile(board, member), model.percentile(member))
    }
    yield* keepsNoMore(board, model.rows.filter(({ player }) => player !== undefined).length)
  })

/** Does the same to both, and compares what they say. */
export const run = (
  name: string,
  { direction, maxSize, steps, ties }: Scenario
) =>
  Effect.gen(function*() {
    const board = Leaderboard.define({ name, player: Player, direction, ties, maxSize })
    const model = new Model(board)
    for (const step of steps) {
      switch (step._tag) {
        case "submit": {
          const { member, mode, player, score } = step
          const options = player === undefined ? { mode } : { mode, player: { name: player } }
          assert.deepStrictEqual(
            yield* Leaderboard.submit(board, member, score, options),
            model.submit(member, score, mode, player)
          )
          break
        }
        case "setPlayer":
          assert.strictEqual(
            yield* Leaderboard.setPlayer(board, step.member, { name: "third" }),
            model.setPlayer(step.member, "third")
          )
          break
        case "remove":
          assert.strictEqual(yield* Leaderboard.remove(board, step.members), model.remove(step.members))
      }
    }
    yield* compare(board, model)
  })
