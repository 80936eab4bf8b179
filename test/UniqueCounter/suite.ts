import { assert, layer } from "@effect/vitest"
import { Effect, Layer, Schema, Stream } from "effect"
import { RedisClient } from "../../src/RedisClient.js"
import type { RedisError } from "../../src/RedisError.js"
import * as UniqueCounter from "../../src/UniqueCounter/index.js"
import { error, fresh } from "../kit/suites.js"

const Visitors = UniqueCounter.define({
  name: "visitors",
  key: Schema.String,
  member: Schema.String,
  windows: { hour: "2 days", day: "30 days" }
})

const Tenants = UniqueCounter.define({
  name: "tenants",
  key: Schema.String,
  member: Schema.NumberFromString,
  group: (key) => key.slice(0, key.indexOf("/"))
})

/** Those from `from` on, so many. */
const people = (from: number, n: number) => Array.from({ length: n }, (_, i) => `visitor ${from + i}`)

export const suite = (
  name: string,
  driver: Layer.Layer<RedisClient, RedisError>,
  options: { readonly excludeTestServices?: boolean }
) => {
  layer(Layer.orDie(Layer.provideMerge(UniqueCounter.layer, driver)), options)(`UniqueCounter, ${name}`, (it) => {
    const addMany = (key: string, members: ReadonlyArray<string>) =>
      Effect.forEach(
        Array.from(
          { length: Math.ceil(members.length / 10_000) },
          (_, i) => members.slice(i * 10_000, (i + 1) * 10_000)
        ),
        (some) => UniqueCounter.add(Visitors, key, ...some),
        { discard: true }
      )

    it.effect("counts each member once, and says whether that changed anything", () =>
      Effect.gen(function*() {
        const page = fresh("page")
        assert.strictEqual(yield* UniqueCounter.count(Visitors, page), 0)
        assert.isTrue(yield* UniqueCounter.add(Visitors, page, "ada"))
        assert.isFalse(yield* UniqueCounter.add(Visitors, page, "ada"))
        assert.isTrue(yield* UniqueCounter.add(Visitors, page, "ada", "bob", "bob"))
        assert.isFalse(yield* UniqueCounter.add(Visitors, page, "bob", "ada"))
        assert.strictEqual(yield* UniqueCounter.count(Visitors, page), 2)
        for (const window of ["hour", "day"] as const) {
          // It may be another one since.
          assert.strictEqual(yield* UniqueCounter.count(Visitors, page, { window, last: 2 }), 2)
          assert.strictEqual(yield* UniqueCounter.count(Visitors, page, { window, last: 2, ago: 5 }), 0)
        }
      }))

    it.effect("a union counts who is in several once: within 2.5 % at 100,000", () =>
      Effect.gen(function*() {
        const [one, two, three] = [fresh("page"), fresh("page"), fresh("page")]
        yield* addMany(one, people(0, 60_000))
        yield* addMany(two, people(40_000, 50_000))
        yield* addMany(three, people(80_000, 20_000))
        const isNear = (count: number, expected: number) =>
          assert.isAtMost(Math.abs(count - expected) / expected, 0.025, `${count} instead of ${expected}`)
        isNear(yield* UniqueCounter.count(Visitors, one), 60_000)
        isNear(yield* UniqueCounter.union(Visitors, [one, two]), 90_000)
        isNear(yield* UniqueCounter.union(Visitors, [one, two, three]), 100_000)
        isNear(yield* UniqueCounter.union(Visitors, [two, three], { window: "day", last: 2 }), 60_000)
        assert.strictEqual(yield* UniqueCounter.union(Visitors, []), 0)
        const all = fresh("page")
        yield* UniqueCounter.add(Visitors, all, ...people(99_000, 1500))
        yield* UniqueCounter.merge(Visitors, all, [one, two, three])
        isNear(yield* UniqueCounter.count(Visitors, all), 100_500)
        isNear(yield* UniqueCounter.count(Visitors, all, { window: "hour", last: 2 }), 100_500)
        isNear(yield* UniqueCounter.count(Visitors, one), 60_000)
      }), 60_000)

    it.effect("every key has a life, whoever adds at the same time", () =>
      Effect.gen(function*() {
        const client = yield* RedisClient
        const page = fresh("lives")
        const others = yield* Effect.all([UniqueCounter.make, UniqueCounter.make])
        yield* Effect.forEach(
          people(0, 200),
          (visitor, i) => others[i % 2]!.add(Visitors, page, visitor),
          { concurrency: "unbounded", discard: true }
        )
        yield* UniqueCounter.merge(Visitors, `${page} too`, [page, "nobody", `${page} neither`])
        yield* UniqueCounter.merge(Visitors, `${page} nothing`, ["nobody", `${page} neither`])
        yield* UniqueCounter.merge(Visitors, `${page} nothing`, [])
        const keys = Array.from(yield* Stream.runCollect(client.scan({ match: `unique:{visitors:all}:*:${page}*` })))
        assert.isAtLeast(keys.length, 6)
        for (const key of keys) {
          assert.notInclude(key, "nothing")
          const ttl = Number(yield* client.send("PTTL", client.key(key)))
          const [days, text] = key.includes(":hour:")
            ? [2, "hour"]
            : key.includes(":day:")
            ? [30, "day"]
            : [365, "total"]
          assert.isAbove(ttl, (days - 0.1) * 86_400_000, text)
          assert.isAtMost(ttl, (days + (text === "hour" ? 1 / 24 : text === "day" ? 1 : 0)) * 86_400_000, text)
        }
        yield* UniqueCounter.reset(Visitors, page)
        assert.strictEqual(yield* UniqueCounter.count(Visitors, page), 0)
        assert.strictEqual(yield* UniqueCounter.count(Visitors, page, { window: "day", last: 2 }), 0)
        assert.isAbove(yield* UniqueCounter.count(Visitors, `${page} too`), 190)
        yield* UniqueCounter.reset(Visitors, `${page} too`)
        const left = yield* Stream.runCollect(client.scan({ match: `unique:{visitors:all}:*:${page}*` }))
        assert.strictEqual(Array.from(left).length, 0)
      }))

    it.effect("keys of one group are counted together, and others are refused", () =>
      Effect.gen(function*() {
        const [one, two] = [fresh("one"), fresh("two")]
        yield* UniqueCounter.add(Tenants, `${one}/a`, 1, 2)
        yield* UniqueCounter.add(Tenants, `${one}/b`, 2, 3)
        yield* UniqueCounter.add(Tenants, `${two}/a`, 4)
        assert.strictEqual(yield* UniqueCounter.union(Tenants, [`${one}/a`, `${one}/b`]), 3)
        const refused = yield* error(UniqueCounter.union(Tenants, [`${one}/a`, `${two}/a`]))
        assert(refused._tag === "RedisInputError")
        assert.strictEqual(refused.field, "keys")
        const merged = yield* error(UniqueCounter.merge(Tenants, `${one}/a`, [`${two}/a`]))
        assert.strictEqual(merged._tag, "RedisInputError")
        yield* UniqueCounter.merge(Tenants, `${one}/c`, [`${one}/a`, `${one}/b`])
        assert.strictEqual(yield* UniqueCounter.count(Tenants, `${one}/c`), 3)
        yield* UniqueCounter.reset(Tenants, `${one}/c`)
        assert.strictEqual(yield* UniqueCounter.count(Tenants, `${one}/c`), 0)
      }))

    it.effect("what can't be right is refused before anything is sent", () =>
      Effect.gen(function*() {
        const refused = <A, E, R>(effect: Effect.Effect<A, E, R>, field: string) =>
          Effect.map(error(effect), (error) => {
            const { _tag, field: actual } = error as any
            assert.deepStrictEqual([_tag, actual], ["RedisInputError", field])
          })
        yield* refused(UniqueCounter.add(Visitors, "a"), "members")
        yield* refused(UniqueCounter.add(Visitors, "a", ...people(0, 10_001)), "members")
        yield* refused(UniqueCounter.add(Visitors, "a", "b", ""), "member")
        yield* refused(UniqueCounter.add(Visitors, "", "b"), "key")
        yield* refused(UniqueCounter.add(Tenants, "/a", 1), "group")
        yield* refused(UniqueCounter.count(Visitors, "a", { window: "minute" as "day" }), "window")
        yield* refused(UniqueCounter.count(Visitors, "a", { window: "day", last: 32 }), "last")
        yield* refused(UniqueCounter.count(Visitors, "a", { window: "day", last: 30, ago: 2 }), "ago")
        yield* refused(UniqueCounter.union(Visitors, people(0, 5001)), "keys")
        yield* refused(UniqueCounter.union(Visitors, people(0, 2500), { window: "day", last: 3 }), "last")
        yield* refused(UniqueCounter.merge(Visitors, "a", people(0, 5000)), "sources")
        const define = (options: object) => ({ ...Visitors, ...options })
        yield* refused(UniqueCounter.add(define({ name: "" }), "a", "b"), "name")
        yield* refused(UniqueCounter.add(define({ total: -1 }), "a", "b"), "total")
        yield* refused(UniqueCounter.add(define({ windows: { hour: "90 days" } }), "a", "b"), "windows.hour")
      }))

    it.effect("as many keys as are allowed can be counted together and merged", () =>
      Effect.gen(function*() {
        const some = fresh("many")
        const keys = people(0, 5000).map((key) => `${some} ${key}`)
        yield* UniqueCounter.add(Visitors, keys[4999]!, "ada")
        assert.strictEqual(yield* UniqueCounter.union(Visitors, keys), 1)
        const merged = UniqueCounter.define({ name: "visitors", key: Schema.String, member: Schema.String })
        yield* UniqueCounter.merge(merged, some, keys)
        assert.strictEqual(yield* UniqueCounter.count(merged, some), 1)
      }))
  })
}
