import { assert, layer } from "@effect/vitest"
import { Duration, Effect, FastCheck, Layer, Option, Schema } from "effect"
import * as Leaderboard from "../../src/Leaderboard/index.js"
import { keyOf, keysOf } from "../../src/Leaderboard/scripts.js"
import { RedisClient } from "../../src/RedisClient.js"
import type { RedisError } from "../../src/RedisError.js"
import { error, fresh, type Time } from "../kit/suites.js"
import { type Board, DIRECTIONS, keepsNoMore, Player, run, scenario, TIES } from "./model.js"

const define = (options?: Partial<Pick<Board, "direction" | "ties" | "maxSize" | "group" | "season" | "ttl">>) =>
  Leaderboard.define({ name: fresh("board"), player: Player, ttl: "1 minute", ...options })

const fill = <M, P>(board: Leaderboard.Definition<M, P>, scores: ReadonlyArray<readonly [M, number]>) =>
  Effect.forEach(scores, ([member, score]) => Leaderboard.submit(board, member, score), { discard: true })

const names = <P>(entries: ReadonlyArray<Leaderboard.Entry<string, P>>) => entries.map(({ member }) => member)

const short = <P>(entries: ReadonlyArray<Leaderboard.Entry<string, P>>) =>
  entries.map(({ member, rank, score }) => `${rank} ${member} ${score}`)

const keysOfBoard = <M, P>({ direction, group, name, ties }: Leaderboard.Definition<M, P>, season?: string) =>
  keysOf(keyOf(group, name, direction, ties, season))

export const suite = (
  name: string,
  driver: Layer.Layer<RedisClient, RedisError>,
  options: { readonly excludeTestServices?: boolean },
  time: Time
) => {
  const { elapse } = time

  layer(Layer.orDie(Layer.provideMerge(Leaderboard.layer, driver)), options)(`Leaderboard, ${name}`, (it) => {
    it.effect("a score tells the ranks before and after", () =>
      Effect.gen(function*() {
        const board = define()
        const submit = (member: string, score: number, mode?: "set" | "best" | "increment") =>
          Leaderboard.submit(board, member, score, { mode })
        assert.deepStrictEqual(yield* submit("ada", 10), {
          score: 10,
          rank: Option.some(1),
          previousScore: Option.none(),
          previousRank: Option.none()
        })
        yield* submit("bob", 20)
        assert.deepStrictEqual(yield* submit("ada", 30), {
          score: 30,
          rank: Option.some(1),
          previousScore: Option.some(10),
          previousRank: Option.some(2)
        })
        assert.deepStrictEqual(yield* submit("ada", 5, "best"), {
          score: 30,
          rank: Option.some(1),
          previousScore: Option.some(30),
          previousRank: Option.some(1)
        })
        assert.deepStrictEqual(yield* submit("bob", 10.5, "increment"), {
          score: 30.5,
          rank: Option.some(1),
          previousScore: Option.some(20),
          previousRank: Option.some(2)
        })
        // An increment makes a member of somebody who is none.
        assert.deepStrictEqual((yield* submit("eve", -3, "increment")).score, -3)
        assert.deepStrictEqual(short(yield* Leaderboard.top(board)), ["1 bob 30.5", "2 ada 30", "3 eve -3"])
      }))

    it.effect("the four rules for ties, in both directions", () =>
      Effect.gen(function*() {
        const expected = {
          ordinal: ["1 b 3", "2 z 3", "3 a 2", "4 c 2", "5 d 1"],
          competition: ["1 b 3", "1 z 3", "3 a 2", "3 c 2", "5 d 1"],
          dense: ["1 b 3", "1 z 3", "2 a 2", "2 c 2", "3 d 1"],
          "first-to-reach": ["1 z 3", "2 b 3", "3 c 2", "4 a 2", "5 d 1"]
        }
        for (const direction of DIRECTIONS) {
          const sign = direction === "high" ? 1 : -1
          for (const ties of TIES) {
            const board = define({ direction, ties })
            yield* fill(
              board,
              [["z", 3], ["c", 2], ["b", 3], ["d", 1], ["a", 2]].map(([member, score]) =>
                [String(member), sign * Number(score)] as const
              )
            )
            // Who has this score already reached it earlier.
            yield* Leaderboard.submit(board, "z", sign * 3)
            const all = expected[ties].map((text) => sign === 1 ? text : text.replace(/ (\d)$/, " -$1"))
            assert.deepStrictEqual(short(yield* Leaderboard.top(board)), all, `${direction} ${ties}`)
            assert.deepStrictEqual(short((yield* Leaderboard.page(board, 2, { size: 3 })).entries), all.slice(3))
            const ranks = yield* Leaderboard.ranks(board, ["d", "a", "nobody", "b"])
            assert.deepStrictEqual(
              ranks.map(Option.map(({ member, rank }) => `${rank} ${member}`)).map(Option.getOrNull),
              ["d", "a", "nobody", "b"].map((member) =>
                all.find((text) => text.split(" ")[1] === member)?.split(" ").slice(0, 2).join(" ") ?? null
              )
            )
          }
        }
      }))

    it.effect("around a member there are as many as there can be", () =>
      Effect.gen(function*() {
        for (const ties of TIES) {
          const board = define({ ties })
          yield* fill(board, Array.from("abcdefghij", (member, i) => [member, 100 - i] as const))
          const around = (member: string, radius?: number) =>
            Effect.map(Leaderboard.around(board, member, { radius }), (all) => names(all).join(""))
          assert.strictEqual(yield* around("e", 2), "cdefg")
          assert.strictEqual(yield* around("a", 2), "abcde")
          assert.strictEqual(yield* around("b", 2), "abcde")
          assert.strictEqual(yield* around("j", 2), "fghij")
          assert.strictEqual(yield* around("i", 2), "fghij")
          assert.strictEqual(yield* around("e", 0), "e")
          assert.strictEqual(yield* around("e"), "abcdefghij")
          assert.strictEqual(yield* around("nobody", 2), "")
          assert.deepStrictEqual(
            (yield* Leaderboard.around(board, "j", { radius: 1 })).map(({ rank }) => rank),
            [8, 9, 10]
          )
        }
      }))

    it.effect("pages end where the board does", () =>
      Effect.gen(function*() {
        const board = define()
        assert.deepStrictEqual(yield* Leaderboard.page(board, 1), { entries: [], total: 0 })
        yield* fill(board, Array.from("abcde", (member, i) => [member, -i] as const))
        const pages = yield* Effect.forEach([1, 2, 3, 4], (n) => Leaderboard.page(board, n, { size: 2 }))
        assert.deepStrictEqual(pages.map(({ entries }) => names(entries).join("")), ["ab", "cd", "e", ""])
        assert.deepStrictEqual(pages.map(({ total }) => total), [5, 5, 5, 5])
      }))

    it.effect("what is too much is removed at the right end, with all that is known of it", () =>
      Effect.gen(function*() {
        for (const direction of DIRECTIONS) {
          for (const ties of TIES) {
            const board = define({ direction, ties, maxSize: 3 })
            const score = (n: number) => direction === "high" ? n : -n
            for (let n = 1; n <= 6; n++) {
              yield* Leaderboard.submit(board, `m${n}`, score(n), { player: { name: `n${n}` } })
            }
            const low = yield* Leaderboard.submit(board, "low", score(0), { player: { name: "low" } })
            assert.deepStrictEqual(low, {
              score: score(0) + 0,
              rank: Option.none(),
              previousScore: Option.none(),
              previousRank: Option.none()
            })
            assert.deepStrictEqual(
              (yield* Leaderboard.top(board)).map(({ member, player }) => [member, Option.getOrNull(player)?.name]),
              [["m6", "n6"], ["m5", "n5"], ["m4", "n4"]]
            )
            yield* keepsNoMore(board, 3)
            // The same board, made smaller, has not more members after the next score.
            yield* Leaderboard.submit({ ...board, maxSize: 1 }, "m5", score(5))
            assert.deepStrictEqual(names(yield* Leaderboard.top(board)), ["m6"])
            yield* keepsNoMore(board, 1)
          }
        }
      }))

    it.effect("members who are removed leave nothing, and a cleared board no key", () =>
      Effect.gen(function*() {
        const client = yield* RedisClient
        for (const ties of TIES) {
          const board = define({ ties })
          for (const member of ["a", "b", "c"]) {
            yield* Leaderboard.submit(board, member, 1, { player: { name: member } })
          }
          yield* Leaderboard.submit(board, "d", 2, { player: { name: "d" } })
          assert.strictEqual(yield* Leaderboard.remove(board, ["a", "d", "nobody", "a"]), 2)
          assert.strictEqual(yield* Leaderboard.remove(board, []), 0)
          assert.deepStrictEqual(short(yield* Leaderboard.top(board)), [
            "1 b 1",
            ties === "competition" || ties === "dense" ? "1 c 1" : "2 c 1"
          ])
          yield* keepsNoMore(board, 2)
          assert.strictEqual(yield* Leaderboard.clear(board), 2)
          assert.strictEqual(yield* client.exists(...keysOfBoard(board)), 0)
          assert.strictEqual(yield* Leaderboard.clear(board), 0)
        }
      }))

    it.effect("profiles stay until there is another one; what can't be read is none", () =>
      Effect.gen(function*() {
        const client = yield* RedisClient
        const board = define()
        const player = Effect.map(Leaderboard.rank(board, "ada"), Option.flatMap(({ player }) => player))
        assert.isFalse(yield* Leaderboard.setPlayer(board, "ada", { name: "Nobody" }))
        yield* Leaderboard.submit(board, "ada", 1)
        assert.deepStrictEqual(yield* player, Option.none())
        yield* Leaderboard.submit(board, "ada", 2, { player: { name: "Ada" } })
        yield* Leaderboard.submit(board, "ada", 3)
        assert.deepStrictEqual(yield* player, Option.some({ name: "Ada" }))
        assert.isTrue(yield* Leaderboard.setPlayer(board, "ada", { name: "Countess" }))
        assert.deepStrictEqual(yield* player, Option.some({ name: "Countess" }))
        yield* client.hset(keysOfBoard(board)[1]!, { ada: `{"title":"Countess"}` })
        assert.deepStrictEqual(yield* player, Option.none())
        assert.deepStrictEqual(names(yield* Leaderboard.top(board)), ["ada"])
      }))

    it.effect("members are of the type of their schema", () =>
      Effect.gen(function*() {
        const client = yield* RedisClient
        const board = Leaderboard.define({ name: fresh("numbers"), member: Schema.NumberFromString, ttl: "1 minute" })
        yield* fill(board, [[7, 1], [12, 2]])
        assert.deepStrictEqual((yield* Leaderboard.top(board)).map(({ member }) => member), [12, 7])
        assert.deepStrictEqual((yield* Leaderboard.around(board, 7, { radius: 1 })).map(({ member }) => member), [
          12,
          7
        ])
        assert.deepStrictEqual(
          (yield* Leaderboard.rank(board, 12)).pipe(Option.map(({ member }) => member)),
          Option.some(12)
        )
        yield* client.zadd(keysOfBoard(board)[0]!, { "no number": 1 })
        assert.strictEqual((yield* error(Leaderboard.top(board)))._tag, "RedisDecodeError")
      }))

    it.effect("percentiles and counts go by the score", () =>
      Effect.gen(function*() {
        for (const direction of DIRECTIONS) {
          const sign = direction === "high" ? 1 : -1
          const board = define({ direction })
          yield* fill(board, [["a", 1 * sign], ["b", 2 * sign], ["c", 2 * sign], ["d", 4 * sign]])
          const percentiles = yield* Effect.forEach(
            ["a", "b", "c", "d", "nobody"],
            (member) => Leaderboard.percentile(board, member)
          )
          assert.deepStrictEqual(percentiles.map(Option.getOrNull), [0, 25, 25, 75, null])
          const bounds = (a: number, b: number) => sign === 1 ? { min: a, max: b } : { min: -b, max: -a }
          assert.strictEqual(yield* Leaderboard.count(board), 4)
          assert.strictEqual(yield* Leaderboard.count(board, bounds(2, 3)), 2)
          assert.strictEqual(yield* Leaderboard.count(board, bounds(2, Infinity)), 3)
          assert.strictEqual(yield* Leaderboard.count(board, bounds(-Infinity, 1)), 1)
        }
      }))

    it.effect("scores are doubles to the last digit", () =>
      Effect.gen(function*() {
        const scores = [
          0.1 + 0.2,
          2 ** 53 - 1,
          -(2 ** 53 - 1),
          1 / 3,
          Number.MIN_VALUE,
          -Number.MIN_VALUE,
          Number.MAX_VALUE,
          -Number.MAX_VALUE,
          1e21,
          1e-7,
          123456789.12345679
        ]
        for (const ties of TIES) {
          const board = define({ ties })
          yield* fill(board, scores.map((score, i) => [`m${i}`, score] as const))
          const found = yield* Leaderboard.top(board, { size: 100 })
          assert.deepStrictEqual(found.map(({ score }) => score), scores.toSorted((a, b) => b - a))
          assert.deepStrictEqual(found.map(({ rank }) => rank), scores.map((_, i) => i + 1))
          yield* Leaderboard.submit(board, "sum", 0.1)
          assert.strictEqual((yield* Leaderboard.submit(board, "sum", 0.2, { mode: "increment" })).score, 0.1 + 0.2)
          yield* Leaderboard.submit(board, "zero", -0)
          const zero = yield* Leaderboard.rank(board, "zero")
          assert.isTrue(Object.is(Option.getOrThrow(zero).score, 0))
          const infinite = yield* error(
            Leaderboard.submit(board, `m${scores.indexOf(Number.MAX_VALUE)}`, Number.MAX_VALUE, { mode: "increment" })
          )
          assert(infinite._tag === "RedisInputError" && infinite.field === "score")
          assert.strictEqual((yield* Leaderboard.top(board, { size: 1 }))[0]!.score, Number.MAX_VALUE)
        }
      }))

    it.effect("what can't be right is refused before anything is sent", () =>
      Effect.gen(function*() {
        const board = define()
        const field = <A, R>(effect: Effect.Effect<A, RedisError, R>) =>
          Effect.map(error(effect), (error) => error._tag === "RedisInputError" ? error.field : error._tag)
        const fields = yield* Effect.forEach(
          [
            Leaderboard.submit(board, "a", NaN),
            Leaderboard.submit(board, "a", Infinity),
            Leaderboard.submit(board, "a", -Infinity, { mode: "increment" }),
            Leaderboard.submit(board, "", 1),
            Leaderboard.submit(board, "a\0b", 1),
            Leaderboard.submit(board, "\ud800", 1),
            Leaderboard.submit({ ...board, name: "" }, "a", 1),
            Leaderboard.submit({ ...board, group: "\ud800" }, "a", 1),
            Leaderboard.submit({ ...board, maxSize: 0 }, "a", 1),
            Leaderboard.submit({ ...board, ttl: 0 }, "a", 1),
            Leaderboard.submit(board, "a", 1, { season: "current" }),
            Leaderboard.season(board),
            Leaderboard.page(board, 0),
            Leaderboard.page(board, 1.5),
            Leaderboard.page(board, 1, { size: 0 }),
            Leaderboard.top(board, { size: 1001 }),
            Leaderboard.around(board, "a", { radius: -1 }),
            Leaderboard.ranks(board, Array.from({ length: 1001 }, String)),
            Leaderboard.count(board, { min: NaN }),
            Leaderboard.merge(board, []),
            Leaderboard.merge(board, [{ board: { ...board, group: "another" } }]),
            Leaderboard.top(define({ season: "day" }), { season: new Date(NaN) }),
            Leaderboard.submit(define({ season: (at) => ({ id: "over", start: at, end: at }) }), "a", 1)
          ].map((effect): Effect.Effect<unknown, RedisError, Leaderboard.Leaderboard> => effect),
          field
        )
        assert.deepStrictEqual(fields, [
          "score",
          "score",
          "score",
          "member",
          "member",
          "member",
          "name",
          "group",
          "maxSize",
          "ttl",
          "season",
          "season",
          "page",
          "page",
          "size",
          "size",
          "radius",
          "members",
          "min",
          "sources",
          "sources",
          "season",
          "season"
        ])
        assert.strictEqual(yield* Leaderboard.count(board), 0)
      }))

    it.effect("boards of other names, groups and directions are others", () =>
      Effect.gen(function*() {
        const name = fresh("a")
        const boards = [
          Leaderboard.define({ name, ttl: "1 minute" }),
          Leaderboard.define({ name, ttl: "1 minute", direction: "low" }),
          Leaderboard.define({ name, ttl: "1 minute", ties: "dense" }),
          Leaderboard.define({ name, ttl: "1 minute", group: `${name}}` }),
          Leaderboard.define({ name: `${name}:high`, ttl: "1 minute", group: name }),
          Leaderboard.define({ name: `${name}%3Ahigh`, ttl: "1 minute", group: name })
        ]
        for (const [i, board] of boards.entries()) yield* Leaderboard.submit(board, "ada", i)
        assert.deepStrictEqual(
          yield* Effect.forEach(boards, (board) => Effect.map(Leaderboard.top(board), short)),
          boards.map((_, i) => [`1 ada ${i}`])
        )
      }))

    it.effect("a merge replaces a board by what others have together", () =>
      Effect.gen(function*() {
        const group = fresh("merge")
        for (const ties of TIES) {
          for (const direction of DIRECTIONS) {
            const europe = define({ group, ties })
            const asia = define({ group, direction: "low", ties: "first-to-reach" })
            const world = define({ group, ties, direction, maxSize: 3 })
            yield* fill(europe, [["a", 5], ["b", 5], ["c", 1]])
            yield* fill(asia, [["d", 9], ["b", 2], ["a", 7]])
            yield* Leaderboard.setPlayer(europe, "a", { name: "European" })
            yield* Leaderboard.setPlayer(asia, "a", { name: "Asian" })
            yield* Leaderboard.setPlayer(asia, "c", { name: "not a member" })
            yield* Leaderboard.submit(world, "old", 99, { player: { name: "old" } })
            const merge = (scores?: "sum" | "min" | "max") =>
              Effect.zipRight(
                Leaderboard.merge(world, [{ board: europe }, { board: asia }], { scores }),
                Effect.map(Leaderboard.top(world), (all) => all.map(({ member, score }) => `${member} ${score}`))
              )
            const high = direction === "high"
            assert.deepStrictEqual(yield* merge(), high ? ["a 12", "d 9", "b 7"] : ["c 1", "b 7", "d 9"])
            assert.deepStrictEqual(yield* merge("max"), high ? ["d 9", "a 7", "b 5"] : ["c 1", "b 5", "a 7"])
            assert.deepStrictEqual(yield* merge("min"), high ? ["d 9", "a 5", "b 2"] : ["c 1", "b 2", "a 5"])
            assert.deepStrictEqual(
              Option.flatMap(yield* Leaderboard.rank(world, "a"), ({ player }) => player),
              Option.some({ name: "European" })
            )
            yield* keepsNoMore(world, 1)
            // A merged board goes on as any other one.
            const added = yield* Leaderboard.submit(world, "a", high ? 100 : -100)
            assert.deepStrictEqual([added.rank, added.previousScore], [Option.some(1), Option.some(5)])
            yield* keepsNoMore(world, 1)
            // It can be one of its own sources.
            const size = yield* Leaderboard.merge(world, [{ board: world }, { board: world }])
            assert.strictEqual(size, 3)
            assert.strictEqual(
              Option.getOrThrow(yield* Leaderboard.rank(world, "a")).score,
              high ? 200 : -200
            )
          }
        }
      }))

    it.effect(
      "a merge of many members keeps their order, and none that can't be summed is written",
      () =>
        Effect.gen(function*() {
          const group = fresh("many")
          const board = define({ group, ties: "first-to-reach" })
          const into = define({ group, ties: "dense", direction: "low" })
          yield* Effect.forEach(
            Array.from({ length: 2100 }, (_, n) => n),
            (n) => Leaderboard.submit(board, `m${n}`, n % 700, { player: { name: String(n) } }),
            { concurrency: 100, discard: true }
          )
          assert.strictEqual(yield* Leaderboard.merge(into, [{ board }]), 2100)
          yield* keepsNoMore(into, 2100)
          const { entries, total } = yield* Leaderboard.page(into, 1, { size: 1000 })
          assert.strictEqual(total, 2100)
          for (const { member, player, rank, score } of entries) {
            const n = Number(member.slice(1))
            assert.deepStrictEqual([rank, score, Option.getOrNull(player)?.name], [n % 700 + 1, n % 700, String(n)])
          }
          yield* Leaderboard.submit(board, "m0", Number.MAX_VALUE)
          const infinite = yield* error(Leaderboard.merge(into, [{ board }, { board }]))
          assert(infinite._tag === "RedisInputError" && infinite.field === "score")
          assert.strictEqual(yield* Leaderboard.count(into), 2100)
        }),
      60_000
    )

    it.effect("zero is one score, whichever sign a merge gives it", () =>
      Effect.gen(function*() {
        const group = fresh("zero")
        const high = define({ group })
        const low = define({ group, direction: "low" })
        const into = define({ group, ties: "dense" })
        // A small sorted set would not keep the sign.
        const zeros = Array.from({ length: 150 }, (_, n) => `m${n}`)
        yield* fill(high, [["c", -1], ...zeros.map((member) => [member, 0] as const)])
        yield* fill(low, [["b", 0]])
        yield* Leaderboard.merge(into, [{ board: high }, { board: low }])
        const { entries, total } = yield* Leaderboard.page(into, 1, { size: 1000 })
        assert.strictEqual(total, 152)
        assert.isTrue(entries.slice(0, 151).every(({ rank, score }) => rank === 1 && Object.is(score, 0)))
        assert.deepStrictEqual(short(entries.slice(151)), ["2 c -1"])
        assert.strictEqual(Option.getOrThrow(yield* Leaderboard.rank(into, "c")).rank, 2)
        yield* keepsNoMore(into, 0)
      }))

    it.effect("ranks before and after are of one state, and no increment is lost", () =>
      Effect.gen(function*() {
        for (const ties of TIES) {
          const board = define({ ties })
          yield* fill(board, Array.from({ length: 20 }, (_, n) => [`still${n}`, 5 * n] as const))
          const results = yield* Effect.forEach(
            Array.from({ length: 100 }, (_, n) => n),
            () => Leaderboard.submit(board, "mover", 1, { mode: "increment" }),
            { concurrency: "unbounded" }
          )
          const scores = results.map(({ score }) => score).sort((a, b) => a - b)
          assert.deepStrictEqual(scores, Array.from({ length: 100 }, (_, n) => n + 1))
          // "mover" comes before "still", and reaches every score later.
          const rankOf = (score: number) =>
            Array.from({ length: 20 }, (_, n) => 5 * n)
              .filter((still) => ties === "first-to-reach" ? still >= score : still > score).length + 1
          for (const { previousRank, previousScore, rank, score } of results) {
            assert.deepStrictEqual(rank, Option.some(rankOf(score)))
            assert.deepStrictEqual(previousScore, score === 1 ? Option.none() : Option.some(score - 1))
            assert.deepStrictEqual(previousRank, Option.map(previousScore, rankOf))
          }
        }
      }))

    it.effect("many at once leave a board that is right", () =>
      Effect.gen(function*() {
        for (const ties of TIES) {
          const board = define({ ties, maxSize: 10 })
          yield* Effect.forEach(
            Array.from({ length: 200 }, (_, n) => n),
            (n) => Leaderboard.submit(board, `m${n % 40}`, n % 7, { mode: "best", player: { name: `m${n % 40}` } }),
            { concurrency: "unbounded", discard: true }
          )
          const all = yield* Leaderboard.top(board)
          assert.strictEqual(all.length, 10)
          assert.deepStrictEqual(
            all.map(({ member, player }) => [member, Option.getOrNull(player)?.name]),
            all.map(({ member }) => [member, member])
          )
          yield* keepsNoMore(board, 10)
        }
      }))

    it.effect("every key of a board has a life, which a score begins again", () =>
      Effect.gen(function*() {
        const client = yield* RedisClient
        for (const ties of ["dense", "first-to-reach"] as const) {
          const board = define({ ties, ttl: "1 hour" })
          const lives = Effect.map(
            Effect.forEach(keysOfBoard(board), (key) => client.ttl(key)),
            (lives) => lives.map((life) => Duration.toMillis(Option.getOrThrow(life)))
          )
          yield* Leaderboard.submit(board, "ada", 1, { player: { name: "Ada" } })
          yield* elapse("20 millis")
          for (const life of yield* lives) {
            assert.isAtMost(life, 3_600_000 - 20)
            assert.isAbove(life, 3_500_000)
          }
          const before = yield* lives
          yield* elapse("50 millis")
          yield* Leaderboard.submit({ ...board, ttl: "2 hours" }, "ada", 2)
          for (const [i, life] of (yield* lives).entries()) assert.isAbove(life, before[i]!)
        }
        const forever = define({ ttl: undefined })
        yield* Leaderboard.submit(forever, "ada", 1)
        assert.deepStrictEqual(
          yield* client.ttl(keysOfBoard(forever)[0]!),
          Option.some(Duration.infinity)
        )
        yield* Leaderboard.clear(forever)
      }))

    it.effect("each season has a board of its own, which is kept for a while", () =>
      Effect.gen(function*() {
        const client = yield* RedisClient
        // A year does not end during the test, or only once.
        const board = define({ season: "year", ttl: "1 day" })
        const season = yield* Leaderboard.season(board)
        const last = yield* Leaderboard.season(board, { season: "previous" })
        assert.deepStrictEqual(last.end, season.start)
        assert.strictEqual(Number(last.id), Number(season.id) - 1)
        yield* Leaderboard.submit(board, "now", 1, { season: season.start })
        yield* Leaderboard.submit(board, "also now", 2)
        assert.deepStrictEqual(names(yield* Leaderboard.top(board)), ["also now", "now"])
        assert.deepStrictEqual(yield* Leaderboard.top(board, { season: "previous" }), [])
        const life = Option.getOrThrow(yield* client.ttl(keysOfBoard(board, season.id)[0]!))
        const micros = yield* client.time
        const end = Number(micros / 1000n) + Duration.toMillis(life)
        assert.closeTo(end, season.end.epochMillis + 86_400_000, 60_000)
        // What is kept no longer takes no scores.
        const over = yield* error(Leaderboard.submit(board, "late", 1, { season: new Date(-1e12) }))
        assert(over._tag === "RedisInputError" && over.field === "season")
        yield* Leaderboard.clear(board)
      }))

    it.effect("does what a plain model does", () =>
      Effect.forEach(
        FastCheck.sample(scenario, { numRuns: 12, seed: 42 }),
        (scenario) => {
          const name = fresh("model")
          return Effect.zipRight(
            run(name, scenario),
            Leaderboard.clear(Leaderboard.define({ name, direction: scenario.direction, ties: scenario.ties }))
          )
        },
        { discard: true }
      ), 60_000)
  })
}
