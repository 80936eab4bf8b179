import { assert, describe, it } from "@effect/vitest"
import { Clock, DateTime, Effect, Metric, Option, TestClock } from "effect"
import * as Leaderboard from "../../src/Leaderboard/index.js"
import type { RedisError } from "../../src/RedisError.js"
import { Fault, RedisTestServer } from "../../src/RedisTestServer.js"
import * as Spans from "../kit/spans.js"
import { Player } from "./model.js"

const short = <M, P>(entries: ReadonlyArray<Leaderboard.Entry<M, P>>) =>
  entries.map(({ member, score }) => `${String(member)} ${score}`)

/** A clock that is wrong by so much. */
const wrongBy = (millis: number) => <A, E, R>(effect: Effect.Effect<A, E, R>) =>
  Effect.clockWith((clock) =>
    Effect.withClock(effect, {
      [Clock.ClockTypeId]: Clock.ClockTypeId,
      unsafeCurrentTimeMillis: () => clock.unsafeCurrentTimeMillis() + millis,
      unsafeCurrentTimeNanos: () => clock.unsafeCurrentTimeNanos() + BigInt(millis) * 1_000_000n,
      currentTimeMillis: Effect.map(clock.currentTimeMillis, (now) => now + millis),
      currentTimeNanos: Effect.map(clock.currentTimeNanos, (now) => now + BigInt(millis) * 1_000_000n),
      sleep: (duration) => clock.sleep(duration)
    })
  )

const sent = Effect.map(Effect.flatMap(RedisTestServer, ({ journal }) => journal), (journal) => journal.length)

/** How many commands it takes. */
const cost = <A, E, R>(effect: Effect.Effect<A, E, R>) =>
  Effect.flatMap(sent, (before) => Effect.zipWith(effect, sent, (_, after) => after - before))

const Weekly = Leaderboard.define({ name: "weekly", player: Player, season: "week", ttl: "30 days", ties: "dense" })

const monday = DateTime.unsafeMake("2026-11-16T00:00:00Z")

describe("Leaderboard, season by season", () => {
  it.effect("a season ends when the server's clock says so, and is kept for a while", () =>
    Effect.gen(function*() {
      const server = yield* RedisTestServer
      yield* TestClock.setTime(DateTime.toEpochMillis(monday))
      yield* Leaderboard.submit(Weekly, "ada", 10, { player: { name: "Ada" } })
      yield* TestClock.adjust("6 days")
      yield* TestClock.adjust("23 hours")
      yield* TestClock.adjust(3_599_999)
      yield* Leaderboard.submit(Weekly, "bob", 20)
      assert.strictEqual((yield* Leaderboard.season(Weekly)).id, "2026-W47")
      yield* TestClock.adjust(1)
      assert.deepStrictEqual(yield* Leaderboard.season(Weekly), {
        id: "2026-W48",
        start: DateTime.add(monday, { weeks: 1 }),
        end: DateTime.add(monday, { weeks: 2 })
      })
      assert.deepStrictEqual(yield* Leaderboard.top(Weekly), [])
      const first = yield* Leaderboard.submit(Weekly, "eve", 1)
      assert.deepStrictEqual([first.rank, first.previousRank], [Option.some(1), Option.none()])
      assert.deepStrictEqual(short(yield* Leaderboard.top(Weekly, { season: "previous" })), ["bob 20", "ada 10"])
      assert.deepStrictEqual(short(yield* Leaderboard.top(Weekly, { season: monday })), ["bob 20", "ada 10"])
      // A late result belongs to the season that it is of.
      yield* Leaderboard.submit(Weekly, "ada", 15, { mode: "increment", season: "previous" })
      assert.deepStrictEqual(short(yield* Leaderboard.top(Weekly, { season: "previous" })), ["ada 25", "bob 20"])
      assert.deepStrictEqual(short(yield* Leaderboard.top(Weekly)), ["eve 1"])
      // Whatever was written when, all keys end 30 days after their season.
      const end = DateTime.toEpochMillis(monday) + 37 * 86_400_000
      for (const { key, ttl } of yield* server.keys) {
        assert.strictEqual(ttl + (yield* Clock.currentTimeMillis), key.includes("W47") ? end : end + 7 * 86_400_000)
      }
      yield* TestClock.setTime(end - 1)
      assert.strictEqual(yield* Leaderboard.count(Weekly, { season: monday }), 2)
      yield* TestClock.adjust(1)
      assert.strictEqual(yield* Leaderboard.count(Weekly, { season: monday }), 0)
      const over = yield* Effect.flip(Leaderboard.submit(Weekly, "late", 1, { season: monday }))
      assert(over._tag === "RedisInputError")
      assert.strictEqual(yield* Leaderboard.count(Weekly, { season: monday }), 0)
      yield* TestClock.adjust("7 days")
      assert.deepStrictEqual(yield* server.keys, [])
    }).pipe(Effect.provide(Leaderboard.layerTest)))

  it.effect("whatever a process believes the time is, the server's season is played", () =>
    Effect.gen(function*() {
      yield* TestClock.setTime(DateTime.toEpochMillis(monday))
      // The scripts are known by now.
      yield* Leaderboard.submit(Weekly, "ada", 1)
      yield* Leaderboard.top(Weekly)
      yield* Leaderboard.season(Weekly)
      for (const days of [-400, 400]) {
        const service = yield* Leaderboard.make
        const wrong = wrongBy(days * 86_400_000)
        // Once it learns what the time is there, and it knows that from then on.
        assert.strictEqual(yield* cost(wrong(service.submit(Weekly, "ada", 1, { mode: "increment" }))), 2)
        assert.strictEqual(yield* cost(wrong(service.submit(Weekly, "ada", 1, { mode: "increment" }))), 1)
        assert.strictEqual((yield* wrong(service.season(Weekly))).id, "2026-W47")
        assert.strictEqual(yield* cost(wrong(service.top(Weekly, { season: "previous" }))), 1)
      }
      assert.deepStrictEqual(short(yield* Leaderboard.top(Weekly)), ["ada 5"])
      // The last instant of a season, and the first one of the next.
      const early = yield* Leaderboard.make
      const late = yield* Leaderboard.make
      yield* TestClock.adjust(7 * 86_400_000 - 1)
      yield* wrongBy(1)(early.submit(Weekly, "eve", 9))
      assert.deepStrictEqual(short(yield* Leaderboard.top(Weekly)), ["eve 9", "ada 5"])
      yield* TestClock.adjust(1)
      yield* wrongBy(-1)(late.submit(Weekly, "bob", 1))
      assert.deepStrictEqual(short(yield* Leaderboard.top(Weekly)), ["bob 1"])
    }).pipe(Effect.provide(Leaderboard.layerTest)))

  it.effect("seasons are merged into a board of all of them", () =>
    Effect.gen(function*() {
      const Ever = Leaderboard.define({ name: "ever", player: Player, group: "weekly" })
      yield* TestClock.setTime(DateTime.toEpochMillis(monday))
      yield* Leaderboard.submit(Weekly, "ada", 10, { player: { name: "Ada" } })
      yield* TestClock.adjust("7 days")
      yield* Leaderboard.submit(Weekly, "ada", 5)
      yield* Leaderboard.submit(Weekly, "bob", 12)
      const service = yield* Leaderboard.make
      const merge = (into: typeof Ever) =>
        wrongBy(-1e9)(service.merge(into, [{ board: Weekly, season: "previous" }, { board: Weekly }]))
      assert.strictEqual(yield* merge(Ever), 2)
      assert.deepStrictEqual(short(yield* Leaderboard.top(Ever)), ["ada 15", "bob 12"])
      // Or into the present season itself.
      assert.strictEqual(yield* merge(Weekly), 2)
      assert.deepStrictEqual(short(yield* Leaderboard.top(Weekly)), ["ada 15", "bob 12"])
      assert.deepStrictEqual(
        (yield* Leaderboard.top(Weekly)).map(({ player }) => Option.getOrNull(player)?.name),
        ["Ada", undefined]
      )
    }).pipe(Effect.provide(Leaderboard.layerTest)))

  it.effect("a season may be what a function says", () =>
    Effect.gen(function*() {
      const Matches = Leaderboard.define({
        name: "matches",
        season: (at) => {
          const start = DateTime.startOf(at, "hour")
          const half = DateTime.getPartUtc(at, "minutes") >= 30 ? 30 : 0
          const from = DateTime.add(start, { minutes: half })
          return { id: `${DateTime.formatIso(start)}+${half}`, start: from, end: DateTime.add(from, { minutes: 30 }) }
        },
        ttl: "1 hour"
      })
      yield* Leaderboard.submit(Matches, "ada", 1)
      yield* TestClock.adjust("30 minutes")
      assert.strictEqual((yield* Leaderboard.season(Matches)).id, "1970-01-01T00:00:00.000Z+30")
      assert.strictEqual(yield* Leaderboard.count(Matches), 0)
      assert.strictEqual(yield* Leaderboard.count(Matches, { season: "previous" }), 1)
    }).pipe(Effect.provide(Leaderboard.layerTest)))
})

describe("Leaderboard, observed", () => {
  it.effect("every operation is one round trip, with one span, and scores are counted", () =>
    Effect.gen(function*() {
      const spans = yield* Spans.Spans
      const scores = Effect.map(
        Metric.value(Metric.counter("effect_redis_leaderboard_scores_total", {
          description: "Scores submitted to leaderboards",
          incremental: true
        })),
        ({ count }) => count
      )
      const board = Leaderboard.define({ name: "observed", player: Player, ties: "first-to-reach", maxSize: 10 })
      for (const  of of[board, Weekly]) {
        const operations: Record<string, Effect.Effect<unknown, RedisError, Leaderboard.Leaderboard>> = {
          submit: Leaderboard.submit(of, "ada", 1, { player: { name: "Ada" } }),
          setPlayer: Leaderboard.setPlayer(of, "ada", { name: "Ada" }),
          top: Leaderboard.top(of),
          page: Leaderboard.page(of, 1),
          around: Leaderboard.around(of, "ada"),
          rank: Leaderboard.rank(of, "ada"),
          ranks: Leaderboard.ranks(of, ["ada", "bob"]),
          percentile: Leaderboard.percentile(of, "ada"),
          count: Leaderboard.count(of),
          remove: Leaderboard.remove(of, ["bob"]),
          merge: Leaderboard.merge(of, [{ board: of }]),
          clear: Leaderboard.clear(of)
        }
        // The texts of the scripts are sent once.
        yield* Effect.all(Object.values(operations), { discard: true })
        for (const [name, operation] of Object.entries(operations)) {
          const before = (yield* spans.all).length
          assert.strictEqual(yield* cost(operation), 1, name)
          const made = (yield* spans.all).slice(before)
          assert.deepStrictEqual(made.map(({ name }) => name), [`leaderboard.${name}`])
          assert.strictEqual(made[0]!.attributes.get("effect_redis.leaderboard.name"), of.name)
        }
      }
      const before = yield* scores
      yield* Leaderboard.submit(board, "ada", 1)
      assert.strictEqual(yield* scores, before + 1)
    }).pipe(Effect.provide(Leaderboard.layerTest), Effect.provide(Spans.layer)))

  it.effect("a score whose reply is lost is never sent again", () =>
    Effect.gen(function*() {
      const server = yield* RedisTestServer
      const board = Leaderboard.define({ name: "lost" })
      yield* Leaderboard.submit(board, "ada", 1)
      const fault = yield* server.inject(Fault.loseReply({ command: "EVALSHA" }))
      const add = Leaderboard.submit(board, "ada", 1, { mode: "increment" })
      assert.strictEqual((yield* Effect.flip(add))._tag, "RedisOutcomeUnknownError")
      assert.strictEqual(yield* fault.happened, 1)
      // What only reads is.
      yield* server.inject(Fault.loseReply({ command: "EVALSHA" }))
      const reading = yield* Effect.fork(Leaderboard.top(board))
      yield* TestClock.adjust("10 seconds")
      assert.deepStrictEqual(short(yield* reading), ["ada 2"])
    }).pipe(Effect.provide(Leaderboard.layerTest)))

  it.effect("a server that is full takes no score, and goes on telling ranks", () =>
    Effect.gen(function*() {
      const server = yield* RedisTestServer
      const board = Leaderboard.define({ name: "full", ties: "dense" })
      yield* Leaderboard.submit(board, "ada", 1)
      yield* server.become("out-of-memory")
      const full = yield* Effect.flip(Leaderboard.submit(board, "ada", 2))
      assert(full._tag === "RedisReplyError" && full.code === "OOM")
      assert.deepStrictEqual(short(yield* Leaderboard.top(board)), ["ada 1"])
      assert.strictEqual(yield* Leaderboard.remove(board, ["ada"]), 1)
    }).pipe(Effect.provide(Leaderboard.layerTest)))
})
