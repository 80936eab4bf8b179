/**
 * Leaderboards of a million members, beside the commands that somebody would send for the same without a library.
 */
import { Context, Effect, Layer, Redacted } from "effect"
import * as IoRedis from "effect-redis-kit/IoRedis"
import * as Leaderboard from "effect-redis-kit/Leaderboard"
import { type Case, type Contender, fibers, promises } from "../harness.js"
import { connect, PREFIX, Server } from "../server.js"

const MEMBERS = 1_000_000

/** A few of them share each score. */
const scoreOf = (n: number): number => (n * 7919) % (MEMBERS / 4)

/** All over the board, and in no order. */
const memberOf = (n: number): string => `member:${(n * 6151) % MEMBERS}`

const THEIRS = `${PREFIX}theirs:leaderboard`

/** Both keep their members in the same way, so they are one board. */
const Ordinal = Leaderboard.define({ name: "bench", ties: "ordinal" })
const Competition = Leaderboard.define({ name: "bench" })
const Dense = Leaderboard.define({ name: "bench", ties: "dense" })
const FirstToReach = Leaderboard.define({ name: "bench", ties: "first-to-reach" })

const setUp = Effect.gen(function*() {
  const { url } = yield* Server
  const context = yield* Layer.build(
    Layer.provide(Leaderboard.layer, IoRedis.layer({ url: Redacted.make(url), keyPrefix: PREFIX }))
  )
  const redis = yield* connect({ enableAutoPipelining: true })
  const board = Context.get(context, Leaderboard.Leaderboard)
  yield* Effect.promise(async () => {
    const [shared, dense, reached] = ["high", "high-dense", "high-first-to-reach"].map((layout) =>
      `${PREFIX}leaderboard:{bench}:bench:${layout}`
    )
    if ((await redis.exists(THEIRS)) === 1) return
    for (let first = 0; first < MEMBERS; first += 1000) {
      const entries = Array.from({ length: 1000 }, (_, i) => {
        const n = first + i
        return { id: `member:${n}`, score: scoreOf(n), number: String(n + 1).padStart(16, "0") }
      })
      const scores = entries.flatMap(({ id, score }) => [-score, id])
      await Promise.all([
        redis.zadd(THEIRS, ...entries.flatMap(({ id, score }) => [score, id])),
        redis.zadd(`${shared}:scores`, ...scores),
        redis.zadd(`${dense}:scores`, ...scores),
        redis.zadd(`${dense}:order`, ...entries.flatMap(({ score }) => [-score, String(-score)])),
        redis.zadd(`${reached}:scores`, ...entries.flatMap(({ id, number, score }) => [-score, `${number}:${id}`])),
        redis.hset(`${reached}:order`, "", first + 1000, ...entries.flatMap(({ id, number }) => [id, number]))
      ])
    }
  })
  return { board, redis }
})

type SetUp = Effect.Effect.Success<typeof setUp>

const boards = {
  "ours, competition": Competition,
  "ours, dense": Dense,
  "ours, first-to-reach": FirstToReach
}

const compare = (
  operation: string,
  loops: number,
  ours: (all: SetUp, board: Leaderboard.Definition<string, never>, n: number) => Effect.Effect<unknown, unknown>,
  peer: string,
  theirs: (all: SetUp, n: number) => Promise<unknown>
): Case => ({
  measures: [{ name: `leaderboard.${operation}.${loops}`, unit: "op/s", better: "higher", target: { ratio: 0.7 } }],
  contenders: Effect.map(setUp, (all): [Contender, Contender, ...Array<Contender>] => [
    { name: "ours", slice: fibers(loops, (n) => ours(all, Ordinal, n)) },
    { name: peer, slice: promises(loops, (n) => theirs(all, n)) },
    ...Object.entries(boards).map(([name, board]) => ({ name, slice: fibers(loops, (n) => ours(all, board, n)) }))
  ])
})

/** The commands of a turn go out in one write, and a call has the round trips that it needs. */
const submit = (loops: number) =>
  compare(
    "submit",
    loops,
    ({ board }, definition, n) => board.submit(definition, memberOf(n), scoreOf(n * 31)),
    "ZREVRANK, ZADD, ZREVRANK",
    ({ redis }, n) =>
      Promise.all([
        redis.zrevrank(THEIRS, memberOf(n)),
        redis.zadd(THEIRS, scoreOf(n * 31), memberOf(n)),
        redis.zrevrank(THEIRS, memberOf(n))
      ])
  )

const rank = (loops: number) =>
  compare(
    "rank",
    loops,
    ({ board }, definition, n) => board.rank(definition, memberOf(n)),
    "ZREVRANK, ZSCORE",
    ({ redis }, n) => Promise.all([redis.zrevrank(THEIRS, memberOf(n)), redis.zscore(THEIRS, memberOf(n))])
  )

const around = (loops: number) =>
  compare(
    "around",
    loops,
    ({ board }, definition, n) => board.around(definition, memberOf(n)),
    "ZREVRANK, ZREVRANGE",
    async ({ redis }, n) => {
      const at = await redis.zrevrank(THEIRS, memberOf(n)) ?? 0
      return redis.zrevrange(THEIRS, Math.max(0, at - 5), at + 5, "WITHSCORES")
    }
  )

const page = (loops: number) =>
  compare(
    "page",
    loops,
    ({ board }, definition, n) => board.page(definition, 1 + n % 5000),
    "ZREVRANGE, ZCARD",
    ({ redis }, n) => {
      const start = 20 * (n % 5000)
      return Promise.all([redis.zrevrange(THEIRS, start, start + 19, "WITHSCORES"), redis.zcard(THEIRS)])
    }
  )

export const cases: ReadonlyArray<Case> = [
  submit(1),
  submit(100),
  rank(1),
  rank(100),
  around(1),
  around(100),
  page(100)
]
