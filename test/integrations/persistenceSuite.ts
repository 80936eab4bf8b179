import * as PersistedCache from "@effect/experimental/PersistedCache"
import * as Persistence from "@effect/experimental/Persistence"
import * as Resolver from "@effect/experimental/RequestResolver"
import { assert, layer } from "@effect/vitest"
import { Duration, Effect, Exit, Layer, Option, PrimaryKey, Request, RequestResolver, Schema } from "effect"
import * as BackingPersistence from "../../src/integrations/BackingPersistence.js"
import { RedisClient } from "../../src/RedisClient.js"
import type { RedisError } from "../../src/RedisError.js"
import { fresh, type Time } from "../kit/suites.js"

class Lookup extends Schema.TaggedRequest<Lookup>()("Lookup", {
  success: Schema.Struct({ n: Schema.NumberFromString }),
  failure: Schema.Literal("no such id"),
  payload: { id: Schema.String }
}) {
  [PrimaryKey.symbol]() {
    return this.id
  }
}

class Touch extends Schema.TaggedRequest<Touch>()("Touch", {
  success: Schema.Void,
  failure: Schema.Never,
  payload: { id: Schema.String }
}) {
  [PrimaryKey.symbol]() {
    return this.id
  }
}

const storeOf = (storeId: string) =>
  Effect.flatMap(Persistence.BackingPersistence, (persistence) => persistence.make(storeId))

const forever = Option.none<Duration.Duration>()
const life = (ttl: Duration.DurationInput) => Option.some(Duration.decode(ttl))

const millisLeft = (key: string) =>
  Effect.flatMap(RedisClient, (client) => Effect.map(client.ttl(`persistence:${key}`), Option.map(Duration.toMillis)))

/** Counts how often it is asked, and fails for the id `missing`. */
const lookups = () => {
  let asked = 0
  return {
    asked: () => asked,
    lookup: ({ id }: Lookup) =>
      Effect.suspend(() => {
        asked++
        return id === "missing" ? Effect.fail("no such id" as const) : Effect.succeed({ n: asked })
      })
  }
}

export const suite = (
  name: string,
  driver: Layer.Layer<RedisClient, RedisError>,
  options: { readonly excludeTestServices?: boolean },
  { elapse }: Time
) => {
  const services = Layer.mergeAll(BackingPersistence.layer, BackingPersistence.layerResult).pipe(
    Layer.provideMerge(driver),
    Layer.orDie
  )

  layer(services, options)(`BackingPersistence, ${name}`, (it) => {
    it.scoped("gives back what was set, and nothing for what was not", () =>
      Effect.gen(function*() {
        const store = yield* storeOf(fresh("store"))
        assert.deepStrictEqual(yield* store.get("a"), Option.none())
        for (const value of [0, "", null, false, [], {}, { a: [1, { b: "é\ud800 \u2028" }] }, 1e21, -0.5]) {
          yield* store.set("a", value, forever)
          assert.deepStrictEqual(yield* store.get("a"), Option.some(value))
        }
        yield* store.remove("a")
        yield* store.remove("a")
        assert.deepStrictEqual(yield* store.get("a"), Option.none())
      }))

    it.scoped("getMany keeps the order, allows duplicates and misses, and is nothing for nothing", () =>
      Effect.gen(function*() {
        const store = yield* storeOf(fresh("many"))
        assert.deepStrictEqual(yield* store.getMany([]), [])
        const keys = Array.from({ length: 100 }, (_, i) => `key-${i}`)
        yield* store.setMany(keys.map((key, i) => [key, i, forever]))
        assert.deepStrictEqual(
          yield* store.getMany([...keys, "none", "key-7", "key-7"]),
          [...keys.map((_, i) => Option.some(i)), Option.none(), Option.some(7), Option.some(7)]
        )
      }))

    it.scoped("setMany gives each entry its own life, keeps those without, and is nothing for nothing", () =>
      Effect.gen(function*() {
        const id = fresh("lives")
        const store = yield* storeOf(id)
        yield* store.setMany([])
        yield* store.set("gone", 0, forever)
        yield* store.setMany([
          ["forever", 1, forever],
          ["infinite", 2, life(Infinity)],
          ["minute", 3, life("1 minute")],
          ["hour", 4, life("1 hour")],
          ["gone", 5, life(0)]
        ])
        assert.deepStrictEqual(
          yield* store.getMany(["forever", "infinite", "minute", "hour", "gone"]),
          [Option.some(1), Option.some(2), Option.some(3), Option.some(4), Option.none()]
        )
        assert.deepStrictEqual(yield* millisLeft(`${id}:forever`), Option.some(Infinity))
        assert.deepStrictEqual(yield* millisLeft(`${id}:infinite`), Option.some(Infinity))
        const minute = Option.getOrThrow(yield* millisLeft(`${id}:minute`))
        assert.isTrue(minute > 50_000 && minute <= 60_000)
        const hour = Option.getOrThrow(yield* millisLeft(`${id}:hour`))
        assert.isTrue(hour > 3_590_000 && hour <= 3_600_000)
      }))

    it.scoped("a life that is no whole number of milliseconds is rounded up, and never refused", () =>
      Effect.gen(function*() {
        const id = fresh("fractions")
        const store = yield* storeOf(id)
        for (const ttl of [Duration.millis(1.5), Duration.nanos(1n), Duration.millis(700.3)]) {
          yield* store.set("a", 1, Option.some(ttl))
          yield* store.setMany([["b", 1, Option.some(ttl)]])
        }
        for (const key of ["a", "b"]) {
          const left = Option.getOrThrow(yield* millisLeft(`${id}:${key}`))
          assert.isTrue(left > 100 && left <= 701)
        }
        yield* elapse("750 millis")
        assert.deepStrictEqual(yield* store.getMany(["a", "b"]), [Option.none(), Option.none()])
      }))

    it.scoped("no life at all removes what was there, and more than any is for ever", () =>
      Effect.gen(function*() {
        const id = fresh("extremes")
        const store = yield* storeOf(id)
        for (const ttl of [Duration.zero, Duration.millis(-5)]) {
          yield* store.set("a", "old", forever)
          yield* store.set("a", "new", Option.some(ttl))
          assert.deepStrictEqual(yield* store.get("a"), Option.none())
        }
        for (const ttl of [Duration.infinity, Duration.millis(Number.MAX_VALUE), Duration.days(2 ** 40)]) {
          yield* store.set("a", "kept", life("1 minute"))
          yield* store.set("a", "kept", Option.some(ttl))
          assert.deepStrictEqual(yield* store.get("a"), Option.some("kept"))
          assert.deepStrictEqual(yield* millisLeft(`${id}:a`), Option.some(Infinity))
        }
      }))

    it.scoped("a new value without a life does not inherit that of the old one", () =>
      Effect.gen(function*() {
        const id = fresh("inherit")
        const store = yield* storeOf(id)
        yield* store.set("a", 1, life("1 minute"))
        yield* store.setMany([["a", 2, forever]])
        assert.deepStrictEqual(yield* millisLeft(`${id}:a`), Option.some(Infinity))
      }))

    it.scoped("clear works on an empty store, and removes all of a large one", () =>
      Effect.gen(function*() {
        const store = yield* storeOf(fresh("clear"))
        yield* store.clear
        const keys = Array.from({ length: 1200 }, (_, i) => `k${i}`)
        yield* store.setMany(keys.map((key) => [key, 1, forever]))
        yield* store.clear
        assert.deepStrictEqual((yield* store.getMany(keys)).filter(Option.isSome), [])
        yield* store.clear
      }))

    it.scoped("clear of one store never touches another, whatever their names", () =>
      Effect.gen(function*() {
        const id = fresh("abc")
        const others = [`${id}d`, `${id}:sub`, "[a]x", "\\*", `${id}%3Asub`, ""]
        const stores = yield* Effect.forEach(others, storeOf)
        for (const store of stores) yield* store.set("k", "theirs", forever)
        for (const cleared of ["a*", "*", "?", id, "[a]", `${id.slice(0, -1)}?`]) {
          const store = yield* storeOf(cleared)
          yield* store.set("k", "mine", forever)
          yield* store.clear
          assert.deepStrictEqual(yield* store.get("k"), Option.none())
        }
        for (const store of stores) assert.deepStrictEqual(yield* store.get("k"), Option.some("theirs"))
      }))

    it.scoped("no key of one store is one of another: colons in names", () =>
      Effect.gen(function*() {
        const id = fresh("colon")
        const [outer, inner] = [yield* storeOf(id), yield* storeOf(`${id}:x`)]
        yield* inner.set("y", "inner", forever)
        assert.deepStrictEqual(yield* outer.get("x:y"), Option.none())
        yield* outer.set("x:y", "outer", forever)
        assert.deepStrictEqual(yield* inner.get("y"), Option.some("inner"))
      }))

    it.scoped("a value that is no JSON is a miss and no failure, harms no other, and is replaced", () =>
      Effect.gen(function*() {
        const client = yield* RedisClient
        const id = fresh("corrupt")
        const store = yield* storeOf(id)
        for (const corrupt of ["{nope", "", "undefined"]) {
          yield* client.set(`persistence:${id}:bad`, corrupt)
          yield* store.set("good", 1, forever)
          assert.deepStrictEqual(yield* store.get("bad"), Option.none())
          assert.deepStrictEqual(yield* store.getMany(["bad", "good"]), [Option.none(), Option.some(1)])
        }
        yield* client.del(`persistence:${id}:bad`)
        yield* client.rpush(`persistence:${id}:bad`, "a list")
        assert.deepStrictEqual(yield* store.get("bad"), Option.none())
        assert.deepStrictEqual(yield* store.getMany(["bad", "good"]), [Option.none(), Option.some(1)])
        yield* store.set("bad", 2, forever)
        assert.deepStrictEqual(yield* store.get("bad"), Option.some(2))
      }))

    it.scoped("what JSON cannot hold is refused, and nothing is written", () =>
      Effect.gen(function*() {
        const store = yield* storeOf(fresh("unwritable"))
        const circle: Array<unknown> = []
        circle.push(circle)
        for (const value of [1n, circle, undefined, () => 1]) {
          const failures = [
            yield* Effect.flip(store.set("a", value, forever)),
            yield* Effect.flip(store.setMany([["b", 1, forever], ["a", value, forever]]))
          ]
          for (const failure of failures) {
            assert(failure.reason === "BackingError")
            assert.propertyVal(failure.cause, "_tag", "RedisInputError")
          }
        }
        assert.deepStrictEqual(yield* store.getMany(["a", "b"]), [Option.none(), Option.none()])
      }))

    it.scoped("a cache asks once, keeps successes and failures for their own time, and can be told to forget", () =>
      Effect.gen(function*() {
        const { asked, lookup } = lookups()
        const make = PersistedCache.make({
          storeId: fresh("cache"),
          lookup,
          timeToLive: (_: Lookup, exit) => Exit.isSuccess(exit) ? "1 hour" : "800 millis",
          // What is shared is to be seen, and not what this process remembers.
          inMemoryTTL: 0
        })
        const [cache, elsewhere] = [yield* make, yield* make]
        const key = new Lookup({ id: "1" })
        assert.deepStrictEqual(yield* cache.get(key), { n: 1 })
        assert.deepStrictEqual(yield* elsewhere.get(key), { n: 1 })
        assert.strictEqual(yield* Effect.flip(cache.get(new Lookup({ id: "missing" }))), "no such id")
        assert.strictEqual(yield* Effect.flip(elsewhere.get(new Lookup({ id: "missing" }))), "no such id")
        assert.strictEqual(asked(), 2)
        yield* elapse("900 millis")
        assert.strictEqual(yield* Effect.flip(elsewhere.get(new Lookup({ id: "missing" }))), "no such id")
        assert.strictEqual(asked(), 3)
        yield* cache.invalidate(key)
        assert.deepStrictEqual(yield* elsewhere.get(key), { n: 4 })
      }))

    it.scoped("a cached value of an older schema is looked up again, and does not fail until it expires", () =>
      Effect.gen(function*() {
        const client = yield* RedisClient
        const { asked, lookup } = lookups()
        const storeId = fresh("older")
        // A new one each time, which remembers nothing itself.
        const make = PersistedCache.make({ storeId, lookup, timeToLive: () => "1 hour" })
        const key = new Lookup({ id: "1" })
        for (const older of [`{"_tag":"Success","value":{"m":1}}`, `[]`, `"rubbish`]) {
          yield* client.set(`persistence:${storeId}:1`, older)
          const before = asked()
          assert.deepStrictEqual(yield* (yield* make).get(key), { n: before + 1 })
          assert.deepStrictEqual(yield* (yield* make).get(key), { n: before + 1 })
        }
        assert.strictEqual(asked(), 3)
      }))

    it.scoped("a result without a value is kept as well", () =>
      Effect.gen(function*() {
        const results = yield* (yield* Persistence.ResultPersistence).make({ storeId: fresh("void") })
        const key = new Touch({ id: "1" })
        yield* results.set(key, Exit.void)
        assert.deepStrictEqual(yield* results.get(key), Option.some(Exit.void))
        assert.deepStrictEqual(yield* results.getMany([key]), [Option.some(Exit.void)])
      }))

    it.scoped("persisted requests are resolved once, by many in one read", () =>
      Effect.gen(function*() {
        const batches: Array<ReadonlyArray<string>> = []
        const resolver = RequestResolver.makeBatched((requests: ReadonlyArray<Lookup>) => {
          batches.push(requests.map(({ id }) => id))
          return Effect.forEach(requests, (request) => Request.succeed(request, { n: Number(request.id) }), {
            discard: true
          })
        })
        const persisted = yield* Resolver.persisted(resolver, {
          storeId: fresh("requests"),
          timeToLive: () => Infinity
        })
        const ask = (ids: ReadonlyArray<string>) =>
          Effect.forEach(ids, (id) => Effect.request(new Lookup({ id }), persisted), { batching: true })
        assert.deepStrictEqual(yield* ask(["1", "2"]), [{ n: 1 }, { n: 2 }])
        assert.deepStrictEqual(yield* ask(["1", "3", "2"]), [{ n: 1 }, { n: 3 }, { n: 2 }])
        assert.deepStrictEqual(batches, [["1", "2"], ["3"]])
      }))
  })
}
