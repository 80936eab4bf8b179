import { assert, layer } from "@effect/vitest"
import { DateTime, Effect, Layer, Schema, Stream } from "effect"
import * as Counter from "../../src/Counter/index.js"
import { RedisClient } from "../../src/RedisClient.js"
import type { RedisError } from "../../src/RedisError.js"
import { error, fresh } from "../kit/suites.js"

const Page = Schema.NumberFromString

const MINUTE = 60_000

const counts = (found: ReadonlyArray<Counter.Count>) => found.map(({ count }) => count)

export const suite = (
  name: string,
  driver: Layer.Layer<RedisClient, RedisError>,
  options: { readonly excludeTestServices?: boolean }
) => {
  layer(Layer.orDie(Layer.provideMerge(Counter.layer, driver)), options)(`Counter, ${name}`, (it) => {
    /** As far as it goes the test is one within a minute, also where the clock is the real one. */
    const withinOneMinute = <A, E, R>(test: (again: string) => Effect.Effect<A, E, R>) =>
      Effect.gen(function*() {
        const client = yield* RedisClient
        const minute = Effect.map(
          client.send("TIME"),
          (time) => Math.floor(Number((time as ReadonlyArray<string>)[0]) / 60)
        )
        for (let attempt = 0; attempt < 5; attempt++) {
          const before = yield* minute
          const result = yield* Effect.exit(test(fresh("again")))
          if (before === (yield* minute)) return yield* result
        }
        return assert.fail("no test of a few milliseconds was within one minute")
      })

    const Views = (again: string) =>
      Counter.define({
        name: `views ${again}`,
        key: Schema.String,
        windows: { minute: "1 hour", hour: "7 days", day: "90 days" }
      })

    const Ranked = (again: string, capacity = 3) =>
      Counter.define({
        name: `ranked ${again}`,
        key: Page,
        windows: { minute: "10 minutes", day: "2 days" },
        top: { capacity }
      })

    it.effect("counts totals and windows", () =>
      withinOneMinute((again) =>
        Effect.gen(function*() {
          const views = Views(again)
          assert.strictEqual(yield* Counter.get(views, "home"), 0)
          assert.strictEqual(yield* Counter.increment(views, "home"), 1)
          assert.strictEqual(yield* Counter.increment(views, "home", 41), 42)
          assert.strictEqual(yield* Counter.increment(views, "shop", -5), -5)
          assert.strictEqual(yield* Counter.increment(views, "shop", 0), -5)
          assert.strictEqual(yield* Counter.get(views, "home"), 42)
          assert.deepStrictEqual(yield* Counter.getMany(views, ["shop", "none", "home"]), [-5, 0, 42])
          assert.deepStrictEqual(yield* Counter.getMany(views, []), [])
          for (const window of ["minute", "hour", "day"] as const) {
            assert.deepStrictEqual(counts(yield* Counter.range(views, "home", window, { last: 3 })), [42, 0, 0])
            assert.deepStrictEqual(
              counts(yield* Counter.range(views, "home", window, { last: 3, order: "oldest" })),
              [0, 0, 42]
            )
          }
          assert.deepStrictEqual(counts(yield* Counter.range(views, "none", "day", { last: 2 })), [0, 0])
        })
      ))

    it.effect("a range has every window, and begins and ends with those of UTC", () =>
      withinOneMinute((again) =>
        Effect.gen(function*() {
          const views = Views(again)
          yield* Counter.increment(views, "home")
          const minutes = yield* Counter.range(views, "home", "minute")
          assert.strictEqual(minutes.length, 61)
          minutes.forEach(({ start }, i) => {
            assert.strictEqual(start.epochMillis % MINUTE, 0)
            assert.strictEqual(start.epochMillis, minutes[0]!.start.epochMillis - i * MINUTE)
          })
          assert.strictEqual((yield* Counter.range(views, "home", "day")).length, 91)
          const [first] = minutes
          assert.deepStrictEqual(
            counts(yield* Counter.range(views, "home", "minute", { last: 2, until: first!.start })),
            [1, 0]
          )
          const later = DateTime.add(first!.start, { minutes: 1 })
          assert.deepStrictEqual(
            counts(yield* Counter.range(views, "home", "minute", { last: 2, until: later })),
            [0, 1]
          )
        })
      ))

    it.effect("nothing is lost and every key has a life, whoever counts at the same time", () =>
      withinOneMinute((again) =>
        Effect.gen(function*() {
          const client = yield* RedisClient
          const others = yield* Effect.all([Counter.make, Counter.make])
          for (const definition of [Views(again), Counter.define({ ...Views(`top ${again}`), top: { capacity: 5 } })]) {
            yield* Effect.forEach(
              Array.from({ length: 300 }, (_, i) => i),
              (i) => others[i % 2]!.increment(definition, `page ${i % 3}`, i % 2 + 1),
              { concurrency: "unbounded", discard: true }
            )
            for (let page = 0; page < 3; page++) {
              assert.strictEqual(yield* Counter.get(definition, `page ${page}`), 150)
              assert.deepStrictEqual(
                counts(yield* Counter.range(definition, `page ${page}`, "minute", { last: 1 })),
                [150]
              )
            }
            const keys = Array.from(
              yield* Stream.runCollect(client.scan({ match: `counter:{${definition.name}:*` }))
            )
            assert.isAtLeast(keys.length, 12)
            for (const key of keys) {
              assert.isAbove(Number(yield* client.send("PTTL", client.key(key))), 0, key)
            }
          }
        })
      ))

    it.effect("a count that would pass 2^53 is refused, and nothing of it is counted", () =>
      withinOneMinute((again) =>
        Effect.gen(function*() {
          const views = Views(again)
          const most = Number.MAX_SAFE_INTEGER
          assert.strictEqual(yield* Counter.increment(views, "bytes", most - 1), most - 1)
          const refused = yield* error(Counter.increment(views, "bytes", 2))
          assert(refused._tag === "CounterOverflow")
          assert.deepStrictEqual([refused.name, refused.key, refused.by], [views.name, "bytes", 2])
          assert.strictEqual(yield* Counter.increment(views, "bytes"), most)
          assert.strictEqual((yield* error(Counter.increment(views, "bytes", most)))._tag, "CounterOverflow")
          assert.strictEqual(yield* Counter.get(views, "bytes"), most)
          assert.deepStrictEqual(counts(yield* Counter.range(views, "bytes", "hour", { last: 1 })), [most])
          assert.strictEqual(yield* Counter.increment(views, "debts", -most), -most)
          assert.strictEqual((yield* error(Counter.increment(views, "debts", -1)))._tag, "CounterOverflow")
        })
      ))

    it.effect("the largest of a window are exact, although few are kept", () =>
      withinOneMinute((again) =>
        Effect.gen(function*() {
          const ranked = Ranked(again)
          const top = (options?: Counter.TopOptions) =>
            Effect.map(Counter.top(ranked, "minute", options), (all) => all.map(({ count, key }) => [key, count]))
          assert.deepStrictEqual(yield* top(), [])
          // Page 1 falls out, and comes back with all that it has.
          yield* Counter.increment(ranked, 1, 2)
          for (const page of [2, 3, 4]) yield* Counter.increment(ranked, page, 5 + page)
          assert.deepStrictEqual(yield* top(), [[4, 9], [3, 8], [2, 7]])
          yield* Counter.increment(ranked, 1, 6)
          assert.deepStrictEqual(yield* top(), [[4, 9], [3, 8], [1, 8]])
          assert.deepStrictEqual(yield* top({ limit: 1 }), [[4, 9]])
          assert.deepStrictEqual(yield* top({ last: 5, limit: 2 }), [[4, 9], [3, 8]])
          assert.deepStrictEqual(yield* top({ ago: 1 }), [])
          yield* Counter.reset(ranked, 4)
          assert.deepStrictEqual(yield* top(), [[3, 8], [1, 8]])
          assert.strictEqual(yield* Counter.get(ranked, 4), 0)
          assert.deepStrictEqual(counts(yield* Counter.range(ranked, 4, "day", { last: 1 })), [0])
        })
      ))

    it.effect("a reset removes everything of one key, and nothing of another", () =>
      withinOneMinute((again) =>
        Effect.gen(function*() {
          const client = yield* RedisClient
          const views = Views(again)
          yield* Counter.increment(views, "home")
          yield* Counter.increment(views, "shop")
          yield* Counter.reset(views, "home")
          yield* Counter.reset(views, "none")
          assert.strictEqual(yield* Counter.get(views, "home"), 0)
          assert.deepStrictEqual(counts(yield* Counter.range(views, "home", "minute", { last: 1 })), [0])
          assert.strictEqual(yield* Counter.get(views, "shop"), 1)
          const left = yield* Stream.runCollect(client.scan({ match: `counter:{${views.name}:home}*` }))
          assert.strictEqual(Array.from(left).length, 0)
        })
      ))

    it.effect("keys are what they are: none can reach into another's", () =>
      withinOneMinute((again) =>
        Effect.gen(function*() {
          const keys = ["a", "a}", "{a}", "a:hour", "a:total", "top", "a%7D", "é", "a b"]
          for (
            const definition of [Views(again), Counter.define({ ...Views(`top ${again}`), top: { capacity: 20 } })]
          ) {
            for (const [i, key] of keys.entries()) yield* Counter.increment(definition, key, i + 1)
            assert.deepStrictEqual(yield* Counter.getMany(definition, keys), keys.map((_, i) => i + 1))
            for (const [i, key] of keys.entries()) {
              assert.deepStrictEqual(counts(yield* Counter.range(definition, key, "hour", { last: 1 })), [i + 1])
            }
          }
          // Of two names that look alike.
          const one = Counter.define({ name: `${again}:x`, key: Schema.String })
          const other = Counter.define({ name: again, key: Schema.String })
          yield* Counter.increment(one, "y")
          assert.strictEqual(yield* Counter.get(other, "x:y"), 0)
        })
      ))

    it.effect("what can't be right is refused before anything is sent", () =>
      Effect.gen(function*() {
        const again = fresh("refused")
        const views = Views(again)
        const ranked = Ranked(again)
        const refused = <A, E, R>(effect: Effect.Effect<A, E, R>, field: string) =>
          Effect.map(error(effect), (error) => {
            const { _tag, field: actual } = error as any
            assert.deepStrictEqual([_tag, actual], ["RedisInputError", field])
          })
        for (const by of [NaN, 1.5, Infinity, 2 ** 53]) yield* refused(Counter.increment(views, "a", by), "by")
        yield* refused(Counter.increment(ranked, 1, -1), "by")
        yield* refused(Counter.increment(views, ""), "key")
        yield* refused(Counter.increment(views, "\ud800"), "key")
        yield* refused(Counter.getMany(views, ["a", ""]), "keys")
        for (const last of [0, 1.5, 62]) yield* refused(Counter.range(views, "a", "minute", { last }), "last")
        yield* refused(Counter.range(views, "a", "week" as "day"), "window")
        yield* refused(Counter.top(views, "day"), "definition")
        yield* refused(Counter.top(ranked, "day", { limit: 0 }), "limit")
        yield* refused(Counter.top(ranked, "day", { last: 4 }), "last")
        yield* refused(Counter.top(ranked, "day", { last: 2, ago: 2 }), "ago")
        const define = (options: object) => Counter.define({ name: "bad", key: Schema.String, ...options })
        const bad: ReadonlyArray<readonly [object, string]> = [
          [{ name: "" }, "name"],
          [{ windows: { day: 0 } }, "windows.day"],
          [{ windows: { day: Infinity } }, "windows.day"],
          [{ windows: { week: "1 day" } }, "windows.week"],
          [{ windows: { minute: "1000 days" } }, "windows.minute"],
          [{ total: 0 }, "total"],
          [{ total: NaN }, "total"],
          [{ top: { capacity: 10 } }, "windows"],
          [{ windows: { day: "1 day" }, top: { capacity: 0 } }, "top.capacity"],
          [{ windows: { hour: "90 days" }, top: { capacity: 1 } }, "windows.hour"]
        ]
        for (const [options, field] of bad) yield* refused(Counter.increment(define(options), "a"), field)
      }))
  })
}
