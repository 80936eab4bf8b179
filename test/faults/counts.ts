/**
 * Numbers that everybody adds to.
 */
import { Effect, Either, Schema } from "effect"
import * as Counter from "../../src/Counter/index.js"
import * as Leaderboard from "../../src/Leaderboard/index.js"
import { type Book, found, type Load, pick, readSums, together, Work } from "./work.js"

export const COUNTED = "counters: no increment is lost, and none counts twice"
export const SCORED = "leaderboards: no score is lost, and none counts twice"
export const RANKED = "leaderboards: ranks fit the scores"

const Views = Counter.define({ name: "views", key: Schema.String, windows: { hour: "1 day" } })
const Sums = Leaderboard.define({ name: "sums" })
const Bests = Leaderboard.define({ name: "bests" })

const NAMES = ["ada", "bob", "cyd"]

/** What may be there: all that was confirmed, and at most what may have been executed. */
export const judgeSums = (
  sums: ReadonlyMap<string, number>,
  confirmed: ReadonlyMap<string, number>,
  possible: ReadonlyMap<string, number>
): ReadonlyArray<string> =>
  [...new Set([...sums.keys(), ...confirmed.keys()])].flatMap((name) => {
    const [sum, least, most] = [sums, confirmed, possible].map((each) => each.get(name) ?? 0) as [
      number,
      number,
      number
    ]
    return sum < least || sum > most ? [`${name} has ${sum}, of ${least} to ${most}`] : []
  })

const judgeTopic = (book: Book, topic: string, sums: ReadonlyArray<readonly [string, number]>) =>
  Effect.map(
    Effect.all([readSums(book, `${topic}:confirmed`), readSums(book, `${topic}:possible`)]),
    ([confirmed, possible]) => ({
      checks: [...confirmed.values()].reduce((a, b) => a + b, 0),
      violations: judgeSums(new Map(sums), confirmed, possible)
    })
  )

export const load: Load = {
  run: Effect.gen(function*() {
    const { ask, book, bug, check, confirm, paced } = yield* Work

    const adding = <A, E extends { readonly _tag: string }, R>(
      topic: string,
      name: string,
      key: string,
      add: Effect.Effect<A, E, R>
    ) =>
      Effect.gen(function*() {
        yield* book.add(`${topic}:possible`, name, 1)
        const { confirmed, result } = yield* confirm(key, bug() ? Effect.zipRight(add, add) : add)
        if (Either.isLeft(result) && result.left._tag === "RedisConnectionError") {
          // It was certainly not sent.
          yield* book.add(`${topic}:possible`, name, -1)
        }
        if (confirmed) yield* book.add(`${topic}:confirmed`, name, 1)
      })

    yield* Effect.forkScoped(paced(
      40,
      Effect.suspend(() => {
        const name = pick(NAMES)!
        return adding(
          "views",
          name,
          `counter:{views:${name}}`,
          ask("Counter.increment", Counter.increment(Views, name))
        )
      })
    ))
    yield* Effect.forkScoped(paced(
      60,
      Effect.suspend(() => {
        const name = pick(NAMES)!
        const submit = ask("Leaderboard.submit", Leaderboard.submit(Sums, name, 1, { mode: "increment" }))
        return adding("sums", name, "leaderboard:{sums}", submit)
      })
    ))
    yield* Effect.forkScoped(paced(
      100,
      Effect.gen(function*() {
        const name = pick(NAMES)!
        const score = yield* Effect.promise(() => book.redis.hincrby("bests:possible", name, 1))
        const { confirmed } = yield* confirm(
          "leaderboard:{bests}",
          ask("Leaderboard.submit", Leaderboard.submit(Bests, name, bug() ? score + 50 : score, { mode: "best" }))
        )
        if (confirmed) yield* book.note(`best:${name}`, score)
        const top = yield* ask("Leaderboard.top", Leaderboard.top(Bests))
        const scores = top.map((entry) => entry.score)
        const right = scores.every((score, i) => i === 0 || score <= scores[i - 1]!) &&
          top.every(({ rank, score }) => rank === 1 + scores.filter((other) => other > score).length)
        yield* check(RANKED, right && !bug(), () => JSON.stringify(top))
      })
    ))
  }),
  judge: (book) =>
    Effect.gen(function*() {
      const views = yield* Effect.forEach(NAMES, (name) =>
        Effect.map(Counter.get(Views, name), (n) => [name, n] as const))
      const sums = (yield* Leaderboard.top(Sums)).map(({ member, score }) =>
        [member, score] as const
      )
      const bests = (yield* Leaderboard.top(Bests)).map(({ member, score }) => [member, score] as const)
      const reached = new Map<string, number>()
      let scored = 0
      for (const name of NAMES) {
        const scores = yield* Effect.promise(() => book.redis.lrange(`best:${name}`, 0, -1))
        reached.set(name, scores.reduce((best, score) => Math.max(best, Number(score)), 0))
        scored += scores.length
      }
      return [
        { promise: COUNTED, ...(yield* judgeTopic(book, "views", views)) },
        together(
          { promise: SCORED, ...(yield* judgeTopic(book, "sums", sums)) },
          {
            checks: scored,
            violations: judgeSums(new Map(bests), reached, yield* readSums(book, "bests:possible"))
          }
        ),
        yield* found(book, RANKED)
      ]
    })
}
