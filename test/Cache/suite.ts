import { assert, layer } from "@effect/vitest"
import {
  Deferred,
  Duration,
  Effect,
  Either,
  Exit,
  Fiber,
  Layer,
  Logger,
  LogLevel,
  Option,
  Ref,
  Schema,
  type Scope
} from "effect"
import * as Cache from "../../src/Cache/index.js"
import { RedisClient } from "../../src/RedisClient.js"
import type { RedisError } from "../../src/RedisError.js"
import { error, fresh, type Time, until } from "../kit/suites.js"

/** The service that a new process would have on the same server. */
const anotherProcess: Effect.Effect<Cache.Service, never, RedisClient | Scope.Scope> = Cache.make

class User extends Schema.Class<User>("User")({
  id: Schema.String,
  org: Schema.Number,
  seen: Schema.optional(Schema.Date)
}) {}

const text = (name: string, options?: Partial<Cache.Options<string, string>>) =>
  Cache.define({ name: fresh(name), key: Schema.String, value: Schema.String, ttl: "1 hour", ...options })

/** Its tag is the first letter of the value. */
const tagged = (name: string, options?: Partial<Cache.Options<string, string>>) =>
  text(name, { tags: (value) => [value.slice(0, 1), "all"], ...options })

/** What can't be read is a part of the tests. */
export const quiet = <A, E, R>(layer: Layer.Layer<A, E, R>) =>
  Layer.provideMerge(layer, Logger.minimumLogLevel(LogLevel.None))

/** Counts how often it runs. */
const lookups = <A>(answer: (n: number) => A) => {
  let n = 0
  return { effect: Effect.sync(() => answer(++n)), count: () => n }
}

export const suite = (
  name: string,
  driver: Layer.Layer<RedisClient, RedisError>,
  options: { readonly excludeTestServices?: boolean },
  time: Time
) => {
  const { elapse } = time
  const eventually = until(time)
  const near = { near: { capacity: 100 } }

  /** Forks it, and lets it come as far as it can at once. */
  const begin = <A, E, R>(effect: Effect.Effect<A, E, R>) => Effect.tap(Effect.fork(effect), () => elapse("30 millis"))

  /** Once it is near, no other read is made. */
  const untilNear = <K, A, E>(cache: Cache.Handle<K, A, E>, key: K) =>
    eventually(Effect.gen(function*() {
      const before = (yield* cache.stats).near.hits
      yield* cache.get(key)
      return (yield* cache.stats).near.hits > before
    }))

  /** A lookup that waits until it is told to end. */
  const waiting = <A>(answer: A) =>
    Effect.map(Effect.all([Deferred.make<void>(), Deferred.make<void>()]), ([begun, go]) => ({
      effect: Effect.zipRight(Deferred.succeed(begun, undefined), Effect.as(Deferred.await(go), answer)),
      begun: Deferred.await(begun),
      go: Deferred.succeed(go, undefined)
    }))

  const dataKeys = (name: string) =>
    Effect.flatMap(RedisClient, (client) => client.send("EXISTS", client.key(`cache:${name}:e:k`)))

  layer(quiet(Layer.orDie(Layer.provideMerge(Cache.layer, driver))), options)(`Cache, ${name}`, (it) => {
    // -----------------------------------------------------------------------------------------------------------------
    // Values, keys, times to live
    // -----------------------------------------------------------------------------------------------------------------

    for (const [kind, extra] of [["on the server", {}], ["near", near]] as const) {
      it.effect(`keeps what is falsy, ${kind}`, () =>
        Effect.gen(function*() {
          const Any = Cache.json<unknown>({ name: fresh("falsy"), ttl: "1 hour", ...extra })
          const cache = yield* Cache.open(Any)
          for (const value of [null, 0, "", false, [], {}, "text", { a: [1, { b: null }] }]) {
            yield* cache.set("k", value)
            assert.deepStrictEqual(yield* cache.get("k"), Option.some(value))
            if (kind === "near") {
              yield* untilNear(cache, "k")
              assert.deepStrictEqual(yield* cache.get("k"), Option.some(value))
            }
            assert.deepStrictEqual(yield* cache.getOrSet("k", Effect.die("not asked for")), value)
            const other = yield* Effect.flatMap(anotherProcess, (process) => process.open(Any))
            assert.deepStrictEqual(yield* other.get("k"), Option.some(value))
          }
        }).pipe(Effect.scoped))
    }

    it.effect("tells what is absent from what is nothing, and refuses what JSON can't hold", () =>
      Effect.gen(function*() {
        const cache = yield* Cache.open(Cache.define({
          name: fresh("options"),
          key: Schema.String,
          value: Schema.Option(Schema.Number),
          ttl: "1 hour"
        }))
        assert.deepStrictEqual(yield* cache.get("k"), Option.none())
        yield* cache.set("k", Option.none())
        assert.deepStrictEqual(yield* cache.get("k"), Option.some(Option.none()))
        const any = yield* Cache.open(Cache.json<unknown>({ name: fresh("any"), ttl: "1 hour" }))
        const circle: { self?: unknown } = {}
        circle.self = circle
        for (const value of [undefined, () => {}, 1n, circle]) {
          assert.strictEqual((yield* error(any.set("k", value)))._tag, "RedisInputError")
        }
        assert.deepStrictEqual(yield* any.get("k"), Option.none())
      }))

    it.effect("gives values back as the schema has them, by keys of any schema", () =>
      Effect.gen(function*() {
        const cache = yield* Cache.open(Cache.define({
          name: fresh("users"),
          key: Schema.Struct({ org: Schema.Number, id: Schema.String }),
          value: User,
          ttl: "1 hour"
        }))
        const user = new User({ id: "ada", org: 7, seen: new Date(5) })
        yield* cache.set({ org: 7, id: "ada" }, user)
        const found = Option.getOrThrow(yield* cache.get({ id: "ada", org: 7 }))
        assert.instanceOf(found, User)
        assert.deepStrictEqual(found, user)
        assert.deepStrictEqual(yield* cache.get({ org: 8, id: "ada" }), Option.none())
        const bad = yield* error(cache.set({ org: 7, id: "ada" }, { id: 1 } as unknown as User))
        assert.strictEqual(bad._tag, "RedisInputError")
        assert.strictEqual(
          (yield* error(cache.get({ org: "7" } as unknown as { org: number; id: string })))._tag,
          "RedisInputError"
        )
      }))

    it.effect("an entry ends with its time to live, to the millisecond that was asked for or one more", () =>
      Effect.gen(function*() {
        const client = yield* RedisClient
        const Short = text("ttl", { ttl: "400 millis" })
        const cache = yield* Cache.open(Short)
        yield* cache.set("a", "1")
        yield* cache.set("b", "2", { ttl: "1 hour" })
        yield* cache.set("c", "3", { ttl: Duration.infinity })
        yield* cache.set("d", "4", { ttl: "500 micros" })
        const life = (key: string) =>
          Effect.map(client.ttl(`cache:${Short.name}:e:${key}`), Option.map(Duration.toMillis))
        assert.isAtMost(Option.getOrThrow(yield* life("a")), 400)
        assert.isAbove(Option.getOrThrow(yield* life("b")), 3_599_000)
        assert.deepStrictEqual(yield* life("c"), Option.some(Infinity))
        assert.isAtMost(Option.getOrElse(yield* life("d"), () => 0), 1)
        assert.deepStrictEqual(yield* cache.get("a"), Option.some("1"))
        yield* elapse("450 millis")
        assert.deepStrictEqual(yield* cache.get("a"), Option.none())
        assert.deepStrictEqual(yield* cache.get("b"), Option.some("2"))
        assert.deepStrictEqual(yield* cache.get("c"), Option.some("3"))
      }))

    it.effect("no time to live stores nothing, and removes what was there", () =>
      Effect.gen(function*() {
        const cache = yield* Cache.open(text("zero", { ttl: (value) => value === "drop" ? 0 : "1 hour" }))
        yield* cache.set("a", "1")
        yield* cache.set("a", "2", { ttl: 0 })
        assert.isFalse(yield* cache.has("a"))
        yield* cache.set("a", "1")
        yield* cache.set("a", "drop")
        assert.isFalse(yield* cache.has("a"))
        const lookup = lookups(() => "drop")
        assert.strictEqual(yield* cache.getOrSet("a", lookup.effect), "drop")
        assert.strictEqual(yield* cache.getOrSet("a", lookup.effect), "drop")
        assert.strictEqual(lookup.count(), 2)
      }))

    it.effect("deletes, has, and takes once", () =>
      Effect.gen(function*() {
        const cache = yield* Cache.open(text("take", near))
        yield* cache.set("a", "1")
        assert.isTrue(yield* cache.has("a"))
        yield* cache.delete("a")
        yield* cache.delete("a")
        assert.isFalse(yield* cache.has("a"))
        yield* cache.set("a", "2")
        yield* untilNear(cache, "a")
        const taken = yield* Effect.all(Array.from({ length: 10 }, () => cache.take("a")), { concurrency: "unbounded" })
        assert.deepStrictEqual(taken.filter(Option.isSome), [Option.some("2")])
        assert.deepStrictEqual(yield* cache.get("a"), Option.none())
      }))

    // -----------------------------------------------------------------------------------------------------------------
    // Lookups
    // -----------------------------------------------------------------------------------------------------------------

    it.effect("a thousand callers of two processes run one lookup", () =>
      Effect.gen(function*() {
        const Slow = text("crowd")
        const processes = [
          yield* Cache.open(Slow),
          yield* Effect.flatMap(anotherProcess, (process) => process.open(Slow))
        ]
        const lookup = lookups((n) => `value ${n}`)
        const all = yield* Effect.fork(Effect.forEach(
          Array.from({ length: 1000 }, (_, i) => i),
          (i) => processes[i % 2]!.getOrSet("k", Effect.zipRight(Effect.sleep("100 millis"), lookup.effect)),
          { concurrency: "unbounded" }
        ))
        yield* eventually(Effect.map(Fiber.poll(all), Option.isSome))
        assert.deepStrictEqual(new Set(yield* Fiber.join(all)), new Set(["value 1"]))
        assert.strictEqual(lookup.count(), 1)
        // One read for all of a process.
        for (const cache of processes) assert.isAtMost((yield* cache.stats).redis.misses, 1)
      }).pipe(Effect.scoped))

    it.effect("a lookup that fails does so for all who wait, once, and the next call tries again", () =>
      Effect.gen(function*() {
        const cache = yield* Cache.open(text("failing"))
        const lookup = lookups((n) => n)
        const failing = Effect.zipRight(
          Effect.sleep("50 millis"),
          Effect.flatMap(lookup.effect, (n) => Effect.fail(`failure ${n}`))
        )
        const all = yield* Effect.fork(Effect.all(
          Array.from({ length: 100 }, () => error(cache.getOrSet("k", failing))),
          { concurrency: "unbounded" }
        ))
        yield* elapse("100 millis")
        assert.deepStrictEqual(new Set(yield* Fiber.join(all)), new Set(["failure 1"]))
        assert.strictEqual(yield* dataKeys(cache.name), 0)
        assert.strictEqual(yield* cache.getOrSet("k", Effect.succeed("found")), "found")
      }))

    it.effect("a lookup that dies gives its lease back", () =>
      Effect.gen(function*() {
        const cache = yield* Cache.open(text("dying"))
        const exit = yield* Effect.exit(cache.getOrSet("k", Effect.die("bug")))
        assert.isTrue(Exit.isFailure(exit))
        assert.strictEqual(yield* dataKeys(cache.name), 0)
      }))

    it.effect("interrupting the first caller hurts nobody; interrupting the last one interrupts the lookup", () =>
      Effect.gen(function*() {
        const cache = yield* Cache.open(text("interrupted"))
        const interrupted = yield* Ref.make(0)
        const slow = yield* waiting("value")
        const effect = Effect.onInterrupt(slow.effect, () => Ref.update(interrupted, (n) => n + 1))
        const first = yield* Effect.fork(cache.getOrSet("k", effect))
        yield* slow.begun
        const second = yield* Effect.fork(cache.getOrSet("k", Effect.die("joined")))
        yield* eventually(Effect.map(cache.stats, ({ redis }) => redis.misses === 2))
        yield* Fiber.interrupt(first)
        yield* slow.go
        assert.strictEqual(yield* Fiber.join(second), "value")
        assert.strictEqual(yield* Ref.get(interrupted), 0)
        const other = yield* waiting("never")
        const only = yield* Effect.fork(
          cache.getOrSet("l", Effect.onInterrupt(other.effect, () => Ref.update(interrupted, (n) => n + 1)))
        )
        yield* other.begun
        yield* Fiber.interrupt(only)
        assert.strictEqual(yield* Ref.get(interrupted), 1)
        // Its lease is given back, so nobody waits for it.
        const client = yield* RedisClient
        yield* eventually(Effect.map(client.exists(`cache:${cache.name}:e:l`), (n) => n === 0))
      }))

    it.effect("lookups of other keys inside of a lookup never wait for it", () =>
      Effect.gen(function*() {
        const cache = yield* Cache.open(text("nested"))
        const value = yield* cache.getOrSet(
          "a",
          Effect.zipWith(cache.getOrSet("b", Effect.succeed("b")), cache.getOrSet("c", Effect.succeed("c")), (b, c) =>
            b + c)
        )
        assert.strictEqual(value, "bc")
        assert.deepStrictEqual(yield* cache.getMany(["a", "b", "c"]), ["bc", "b", "c"].map(Option.some))
      }))

    it.effect("a lookup that takes longer than its lease keeps it", () =>
      Effect.gen(function*() {
        const Slow = text("long", { lease: "450 millis" })
        const cache = yield* Cache.open(Slow)
        const other = yield* Effect.flatMap(anotherProcess, (process) => process.open(Slow))
        const slow = yield* waiting("first")
        const first = yield* Effect.fork(cache.getOrSet("k", slow.effect))
        yield* slow.begun
        const second = yield* begin(other.getOrSet("k", Effect.succeed("second")))
        for (let i = 0; i < 6; i++) yield* elapse("100 millis")
        assert.deepStrictEqual(yield* Fiber.poll(second), Option.none())
        yield* slow.go
        assert.strictEqual(yield* Fiber.join(first), "first")
        yield* eventually(Effect.map(Fiber.poll(second), Option.isSome))
        assert.strictEqual(yield* Fiber.join(second), "first")
        assert.deepStrictEqual(yield* cache.get("k"), Option.some("first"))
      }).pipe(Effect.scoped))

    // -----------------------------------------------------------------------------------------------------------------
    // Writes while a lookup runs
    // -----------------------------------------------------------------------------------------------------------------

    for (
      const [what, write, after] of [
        ["delete", (cache: Cache.Handle<string, string>) => cache.delete("k"), Option.none()],
        ["set", (cache: Cache.Handle<string, string>) => cache.set("k", "set"), Option.some("set")],
        ["take", (cache: Cache.Handle<string, string>) => cache.take("k"), Option.none()],
        ["invalidation of its tag", (cache: Cache.Handle<string, string>) => cache.invalidateTags("o"), Option.none()],
        ["clear", (cache: Cache.Handle<string, string>) => cache.clear, Option.none()],
        ["clear by pattern", (cache: Cache.Handle<string, string>) => cache.clearPattern("*"), Option.none()]
      ] as const
    ) {
      for (const where of ["here", "in another process"]) {
        it.effect(`${what} ${where} while a lookup runs: what it finds is not stored`, () =>
          Effect.gen(function*() {
            const Users = tagged("raced", near)
            const cache = yield* Cache.open(Users)
            const other = yield* Effect.flatMap(anotherProcess, (process) => process.open(Users))
            const slow = yield* waiting("old")
            const fiber = yield* Effect.fork(cache.getOrSet("k", slow.effect))
            yield* slow.begun
            yield* write(where === "here" ? cache : other)
            yield* slow.go
            // Who has asked before gets what was found.
            assert.strictEqual(yield* Fiber.join(fiber), "old")
            yield* elapse("30 millis")
            for (const each of [cache, other]) assert.deepStrictEqual(yield* each.get("k"), after)
            const next = yield* cache.getOrSet("k", Effect.succeed("new"))
            assert.strictEqual(next, Option.getOrElse(after, () => "new"))
          }).pipe(Effect.scoped))
      }

      it.effect(`who asks after ${what} does not join a lookup from before`, () =>
        Effect.gen(function*() {
          const cache = yield* Cache.open(tagged("joined"))
          const slow = yield* waiting("old")
          const fiber = yield* Effect.fork(cache.getOrSet("k", slow.effect))
          yield* slow.begun
          yield* write(cache)
          if (what === "invalidation of its tag" || what === "clear") yield* slow.go
          const next = yield* begin(cache.getOrSet("k", Effect.succeed("new")))
          yield* eventually(Effect.map(Fiber.poll(next), Option.isSome))
          assert.strictEqual(yield* Fiber.join(next), Option.getOrElse(after, () => "new"))
          yield* slow.go
          assert.strictEqual(yield* Fiber.join(fiber), "old")
          assert.deepStrictEqual(yield* cache.get("k"), Option.some(Option.getOrElse(after, () => "new")))
        }))
    }

    // -----------------------------------------------------------------------------------------------------------------
    // Tags and clear
    // -----------------------------------------------------------------------------------------------------------------

    it.effect("invalidates by tag, in every process, with any number of members", () =>
      Effect.gen(function*() {
        const Users = tagged("tags", near)
        const cache = yield* Cache.open(Users)
        const other = yield* Effect.flatMap(anotherProcess, (process) => process.open(Users))
        yield* cache.setMany([["1", "a1"], ["2", "a2"], ["3", "b1"], ["4", "c1", { tags: [] }]])
        for (const each of [cache, other]) for (const key of ["1", "2", "3", "4"]) yield* untilNear(each, key)
        yield* other.invalidateTags("a", "nobody's")
        assert.deepStrictEqual(yield* other.getMany(["1", "2", "3", "4"]), [
          Option.none(),
          Option.none(),
          Option.some("b1"),
          Option.some("c1")
        ])
        yield* eventually(Effect.map(cache.get("1"), Option.isNone))
        assert.deepStrictEqual(yield* cache.getMany(["1", "2", "3", "4"]), [
          Option.none(),
          Option.none(),
          Option.some("b1"),
          Option.some("c1")
        ])
        // Whoever comes later knows it too.
        const late = yield* Effect.flatMap(anotherProcess, (process) => process.open(Users))
        assert.deepStrictEqual(yield* late.get("2"), Option.none())
        assert.deepStrictEqual(yield* late.get("3"), Option.some("b1"))
        // What is stored right after is valid, under the same tag.
        yield* other.set("1", "a3")
        assert.deepStrictEqual(yield* late.get("1"), Option.some("a3"))
        // Other tags take the place of those from before.
        yield* other.set("1", "a4", { tags: ["z"] })
        yield* other.invalidateTags("a")
        assert.deepStrictEqual(yield* other.get("1"), Option.some("a4"))
        yield* other.invalidateTags("z")
        assert.deepStrictEqual(yield* other.get("1"), Option.none())
        assert.strictEqual((yield* error(cache.invalidateTags("")))._tag, "RedisInputError")
        // As long as an entry can say.
        const longest = ["x", "ü"].map((letter) => letter.repeat(62 ** 3 / (2 * (letter === "x" ? 1 : 2)) - 1))
        yield* cache.set("1", "a5", { tags: longest })
        yield* eventually(Effect.map(cache.get("1"), Option.contains("a5")))
        yield* cache.invalidateTags(longest[1]!)
        assert.deepStrictEqual(yield* cache.get("1"), Option.none())
        const refused = yield* error(cache.set("1", "a6", { tags: [...longest, "y"] }))
        assert.strictEqual(refused._tag === "RedisInputError" && refused.field, "tags")
      }).pipe(Effect.scoped))

    it.effect("concurrent invalidations of many tags are all heard", () =>
      Effect.gen(function*() {
        const Many = text("bumps")
        const cache = yield* Cache.open(Many)
        const other = yield* Effect.flatMap(anotherProcess, (process) => process.open(Many))
        const numbers = Array.from({ length: 40 }, (_, i) => i)
        yield* cache.setMany(numbers.map((i) => [`${i}`, `${i}`, { tags: [`t${i}`, "%odd\n tag"] }]))
        yield* Effect.forEach(numbers.filter((i) => i % 2 === 0), (i) =>
          (i % 4 === 0 ? cache : other).invalidateTags(`t${i}`), {
          concurrency: "unbounded"
        })
        const left = numbers.map((i) =>
          i % 2 === 0 ? Option.none() : Option.some(`${i}`)
        )
        for (const each of [cache, other]) {
          yield* eventually(Effect.map(each.getMany(numbers.map(String)), (found) =>
            found.every((value, i) =>
              i % 2 === 1 || Option.isNone(value)
            )))
          assert.deepStrictEqual(yield* each.getMany(numbers.map(String)), left)
        }
        yield* cache.invalidateTags("%odd\n tag")
        assert.isTrue((yield* cache.getMany(numbers.map(String))).every(Option.isNone))
      }).pipe(Effect.scoped))

    it.effect("more tags than are told at once are still all known", () =>
      Effect.gen(function*() {
        const Many = text("news")
        const cache = yield* Cache.open(Many)
        yield* cache.set("old", "1", { tags: ["first", "other"] })
        yield* cache.set("kept", "2", { tags: ["untouched"] })
        yield* cache.invalidateTags("first")
        for (let i = 0; i < 3; i++) yield* cache.invalidateTags(...Array.from({ length: 700 }, (_, n) => `${i}-${n}`))
        const late = yield* Effect.flatMap(anotherProcess, (process) => process.open(Many))
        assert.deepStrictEqual(yield* late.getMany(["old", "kept"]), [Option.none(), Option.some("2")])
        assert.deepStrictEqual(yield* late.get("kept"), Option.some("2"))
        assert.deepStrictEqual(yield* late.get("old"), Option.none())
      }).pipe(Effect.scoped))

    it.effect("tags belong to their cache", () =>
      Effect.gen(function*() {
        const one = yield* Cache.open(tagged("scope"))
        const two = yield* Cache.open(tagged("scope"))
        yield* one.set("k", "a")
        yield* two.set("k", "a")
        yield* one.invalidateTags("a")
        assert.deepStrictEqual([yield* one.get("k"), yield* two.get("k")], [Option.none(), Option.some("a")])
      }))

    it.effect("a set of tags that is lost hides everything from before", () =>
      Effect.gen(function*() {
        const client = yield* RedisClient
        const Users = tagged("lost", near)
        const cache = yield* Cache.open(Users)
        yield* cache.setMany([["1", "a"], ["2", "b", { tags: [] }]])
        yield* cache.invalidateTags("a")
        yield* client.del(`cache:${Users.name}:tags`)
        yield* eventually(Effect.map(cache.getMany(["1", "2"]), (found) => found.every(Option.isNone)))
        yield* cache.set("1", "a")
        assert.deepStrictEqual(yield* cache.get("1"), Option.some("a"))
        const late = yield* Effect.flatMap(anotherProcess, (process) => process.open(Users))
        assert.deepStrictEqual(yield* late.getMany(["1", "2"]), [Option.some("a"), Option.none()])
      }).pipe(Effect.scoped))

    it.effect("clears at once and for all, and nothing but its own", () =>
      Effect.gen(function*() {
        const client = yield* RedisClient
        const base = fresh("clear[*]")
        const options = { key: Schema.String, value: Schema.String, ttl: "1 hour", near: { capacity: 100 } } as const
        const Users = Cache.define({ name: base, ...options })
        const Longer = Cache.define({ name: `${base}:e`, ...options })
        const Glob = Cache.define({ name: base.replace("[*]", "*"), ...options })
        const cache = yield* Cache.open(Users)
        const longer = yield* Cache.open(Longer)
        const glob = yield* Cache.open(Glob)
        const other = yield* Effect.flatMap(anotherProcess, (process) => process.open(Users))
        const keys = Array.from({ length: 100 }, (_, i) => `k${i}`)
        for (const each of [cache, longer, glob]) yield* each.setMany(keys.map((key) => [key, key]))
        for (const each of [cache, other, glob]) yield* untilNear(each, "k1")
        yield* glob.clear
        yield* cache.clear
        assert.isTrue((yield* cache.getMany(keys)).every(Option.isNone))
        yield* cache.set("k1", "new")
        yield* eventually(Effect.map(other.getMany(keys), (found) => found.filter(Option.isSome).length === 1))
        assert.isTrue((yield* longer.getMany(keys)).every(Option.isSome))
        // They are also removed, and nothing newer with them.
        const entries = (name: string) =>
          Effect.map(
            Effect.forEach(
              keys,
              (key) => client.exists(`cache:${name.replace(/[%:{}]/g, encodeURIComponent)}:e:${key}`)
            ),
            (found) => found.reduce((a, b) => a + b, 0)
          )
        yield* eventually(Effect.map(entries(base), (n) => n === 1))
        yield* eventually(Effect.map(entries(Glob.name), (n) => n === 0))
        assert.strictEqual(yield* entries(Longer.name), 100)
        assert.deepStrictEqual(yield* cache.get("k1"), Option.some("new"))
      }).pipe(Effect.scoped))

    it.effect("clears by a pattern, in which only the pattern is one", () =>
      Effect.gen(function*() {
        const one = yield* Cache.open(text("pat[ab]", near))
        yield* one.setMany([["user:1", "1"], ["user:2", "2"], ["use?r", "3"], ["order:1", "4"]])
        yield* untilNear(one, "user:1")
        assert.strictEqual(yield* one.clearPattern("user:*"), 2)
        assert.deepStrictEqual(yield* one.getMany(["user:1", "user:2", "use?r", "order:1"]), [
          Option.none(),
          Option.none(),
          Option.some("3"),
          Option.some("4")
        ])
        assert.strictEqual(yield* one.clearPattern("use\\?r"), 1)
        assert.strictEqual(yield* one.clearPattern("nothing*"), 0)
      }))

    // -----------------------------------------------------------------------------------------------------------------
    // Stale entries
    // -----------------------------------------------------------------------------------------------------------------

    it.effect("within its grace an entry is given at once, and refreshed by one of all", () =>
      Effect.gen(function*() {
        const client = yield* RedisClient
        const Swr = text("swr", { ttl: (value) => value === "value 1" ? "20 millis" : "1 hour", grace: "1 hour" })
        const cache = yield* Cache.open(Swr)
        const other = yield* Effect.flatMap(anotherProcess, (process) => process.open(Swr))
        const lookup = lookups((n) => `value ${n}`)
        yield* cache.getOrSet("k", lookup.effect)
        const life = Option.getOrThrow(yield* client.ttl(`cache:${Swr.name}:e:k`))
        assert.isAbove(Duration.toMillis(life), 3_590_000)
        yield* elapse("40 millis")
        assert.deepStrictEqual(yield* cache.get("k"), Option.none())
        assert.deepStrictEqual(yield* cache.get("k", { stale: true }), Option.some("value 1"))
        const slow = Effect.zipRight(Effect.sleep("50 millis"), lookup.effect)
        const all = yield* Effect.all(
          Array.from({ length: 20 }, (_, i) => (i % 2 === 0 ? cache : other).getOrSet("k", slow)),
          { concurrency: "unbounded" }
        )
        assert.deepStrictEqual(new Set(all), new Set(["value 1"]))
        yield* eventually(Effect.map(other.get("k"), (found) => Option.contains(found, "value 2")))
        assert.strictEqual(lookup.count(), 2)
      }).pipe(Effect.scoped))

    it.effect("a refresh that fails leaves what is there, and is tried again after a pause", () =>
      Effect.gen(function*() {
        const Swr = text("stale-on-error", { ttl: "20 millis", grace: "1 hour", backoff: "400 millis" })
        const cache = yield* Cache.open(Swr)
        const lookup = lookups((n) => n)
        const failing = Effect.zipRight(lookup.effect, Effect.fail("down"))
        yield* cache.set("k", "old")
        yield* elapse("40 millis")
        for (let i = 0; i < 5; i++) {
          assert.strictEqual(yield* cache.getOrSet("k", failing), "old")
          yield* elapse("10 millis")
        }
        assert.strictEqual(lookup.count(), 1)
        yield* elapse("450 millis")
        assert.strictEqual(yield* cache.getOrSet("k", failing), "old")
        yield* elapse("20 millis")
        assert.strictEqual(lookup.count(), 2)
        assert.strictEqual((yield* cache.stats).lookups.failed, 2)
        // A delete ends the grace.
        yield* cache.delete("k")
        assert.strictEqual(yield* error(cache.getOrSet("k", failing)), "down")
      }))

    it.effect("a set or a delete while a refresh runs wins", () =>
      Effect.gen(function*() {
        const cache = yield* Cache.open(text("refresh-raced", { ttl: "20 millis", grace: "1 hour" }))
        for (
          const [write, after] of [
            [cache.set("k", "set", { ttl: "1 hour" }), Option.some("set")],
            [cache.delete("k"), Option.none()]
          ] as const
        ) {
          yield* cache.set("k", "old")
          yield* elapse("40 millis")
          const slow = yield* waiting("refreshed")
          assert.strictEqual(yield* cache.getOrSet("k", slow.effect), "old")
          yield* slow.begun
          yield* write
          yield* slow.go
          yield* elapse("50 millis")
          assert.deepStrictEqual(yield* cache.get("k"), after)
        }
        assert.strictEqual((yield* cache.stats).lookups.refused, 2)
      }))

    it.effect("waits for a refresh as long as it is told to", () =>
      Effect.gen(function*() {
        const cache = yield* Cache.open(
          text("soft", { ttl: "20 millis", grace: "1 hour", lookupTimeout: { soft: "300 millis" } })
        )
        yield* cache.set("k", "old")
        yield* elapse("40 millis")
        const quick = yield* begin(cache.getOrSet("k", Effect.as(Effect.sleep("20 millis"), "quick")))
        yield* eventually(Effect.map(Fiber.poll(quick), Option.isSome))
        assert.strictEqual(yield* Fiber.join(quick), "quick")
        yield* elapse("40 millis")
        const slow = yield* waiting("slow")
        const third = yield* begin(cache.getOrSet("k", slow.effect))
        yield* elapse("300 millis")
        assert.strictEqual(yield* Fiber.join(third), "quick")
        yield* slow.go
        yield* eventually(Effect.map(cache.get("k", { stale: true }), (found) => Option.contains(found, "slow")))
      }))

    it.effect("who waits for too long gives up; the lookup goes on and is stored", () =>
      Effect.gen(function*() {
        const cache = yield* Cache.open(text("hard", { lookupTimeout: { hard: "300 millis" } }))
        const slow = yield* waiting("late")
        const fiber = yield* begin(error(cache.getOrSet("k", slow.effect)))
        yield* elapse("300 millis")
        const failure = yield* Fiber.join(fiber)
        assert.deepStrictEqual(failure, new Cache.CacheLookupTimeout({ name: cache.name, timeout: 300 }))
        yield* slow.go
        yield* eventually(Effect.map(cache.get("k"), (found) => Option.contains(found, "late")))
      }))

    it.effect("remembers that there is nothing, and declared errors, for their own time", () =>
      Effect.gen(function*() {
        const cache = yield* Cache.open(Cache.define({
          name: fresh("negative"),
          key: Schema.String,
          value: Schema.Number,
          ttl: "1 hour",
          negative: { ttl: "400 millis", error: Schema.Literal("unknown", "gone") },
          near: { capacity: 10 }
        }))
        const nothing = lookups(() => Option.none<number>())
        for (let i = 0; i < 4; i++) {
          assert.deepStrictEqual(yield* cache.getOrSetOption("n", nothing.effect), Option.none())
        }
        assert.strictEqual(nothing.count(), 1)
        assert.deepStrictEqual(yield* cache.get("n"), Option.none())
        // A lookup that can't find nothing is run.
        assert.strictEqual(yield* cache.getOrSet("n", Effect.succeed(1)), 1)
        assert.deepStrictEqual(yield* cache.getOrSetOption("n", nothing.effect), Option.some(1))
        const failing = lookups(() => "gone" as const)
        const gone = Effect.flatMap(failing.effect, Effect.fail)
        for (let i = 0; i < 4; i++) assert.strictEqual(yield* error(cache.getOrSet("f", gone)), "gone")
        assert.strictEqual(failing.count(), 1)
        assert.strictEqual(yield* error(cache.getOrSet("g", Effect.fail("other"))), "other")
        assert.strictEqual(yield* cache.getOrSet("g", Effect.succeed(2)), 2)
        yield* elapse("450 millis")
        assert.strictEqual(yield* cache.getOrSet("f", Effect.succeed(3)), 3)
      }))

    it.effect("refreshes early what takes long to look up", () =>
      Effect.gen(function*() {
        const cache = yield* Cache.open(text("early", { ttl: "2 seconds", earlyRefresh: { beta: 1000 } }))
        const lookup = lookups((n) => `value ${n}`)
        const slow = Effect.zipRight(Effect.sleep("100 millis"), lookup.effect)
        const first = yield* begin(cache.getOrSet("k", slow))
        yield* elapse("100 millis")
        assert.strictEqual(yield* Fiber.join(first), "value 1")
        // With this beta it is due at once, and for one caller only.
        for (let i = 0; i < 10; i++) assert.strictEqual(yield* cache.getOrSet("k", slow), "value 1")
        yield* elapse("150 millis")
        yield* eventually(Effect.map(cache.get("k"), (found) => Option.contains(found, "value 2")))
        assert.strictEqual(lookup.count(), 2)
      }))

    // -----------------------------------------------------------------------------------------------------------------
    // Entries that can't be read
    // -----------------------------------------------------------------------------------------------------------------

    it.effect("bytes that it can't read are a miss, counted, and replaced", () =>
      Effect.gen(function*() {
        const client = yield* RedisClient
        const Numbers = Cache.define({
          name: fresh("corrupt"),
          key: Schema.String,
          value: Schema.Number,
          ttl: "1 hour"
        })
        const cache = yield* Cache.open(Numbers)
        const Words = Cache.define({ name: Numbers.name, key: Schema.String, value: Schema.String, ttl: "1 hour" })
        const older = yield* Effect.flatMap(anotherProcess, (process) => process.open(Words))
        const key = `cache:${Numbers.name}:e:k`
        yield* older.set("k", "not a number")
        yield* cache.setMany([["before", 1], ["after", 2]])
        const old = Option.getOrThrow(yield* client.get(key))
        const bad = [
          "",
          "x",
          old,
          old.slice(0, 20),
          old.replace("V", "W"),
          `${old}}}`,
          `${old.slice(0, 10)}zzz${old.slice(13)}`,
          "\u0000\u0001".repeat(40)
        ]
        for (const bytes of bad) {
          yield* client.set(key, bytes)
          assert.deepStrictEqual(yield* cache.get("k"), Option.none())
          assert.deepStrictEqual(
            yield* cache.getMany(["before", "k", "after"]),
            [Option.some(1), Option.none(), Option.some(2)]
          )
          assert.strictEqual(yield* cache.getOrSet("k", Effect.succeed(7)), 7)
          assert.deepStrictEqual(yield* cache.get("k"), Option.some(7))
        }
        assert.strictEqual((yield* cache.stats).redis.undecodable, 3 * bad.length)
        assert.strictEqual((yield* cache.stats).redis.unavailable, 0)
      }).pipe(Effect.scoped))

    it.effect("packs with a codec, and reads what was written without it", () =>
      Effect.gen(function*() {
        const client = yield* RedisClient
        const Plain = text("packed")
        const Packed = { ...Plain, codec: Cache.deflate({ threshold: 100 }) }
        const plain = yield* Cache.open(Plain)
        const packed = yield* Effect.flatMap(anotherProcess, (process) => process.open(Packed))
        const long = "ü".repeat(5000)
        yield* plain.set("a", long)
        assert.deepStrictEqual(yield* packed.get("a"), Option.some(long))
        yield* packed.setMany([["a", long], ["b", "short"]])
        assert.isBelow(yield* client.strlen(`cache:${Plain.name}:e:a`), 200)
        assert.deepStrictEqual(yield* packed.getMany(["a", "b"]), [Option.some(long), Option.some("short")])
        // Whoever lacks the codec can't read it.
        assert.deepStrictEqual(yield* plain.getMany(["a", "b"]), [Option.none(), Option.some("short")])
        assert.strictEqual(yield* plain.getOrSet("a", Effect.succeed("again")), "again")
      }).pipe(Effect.scoped))

    it.effect("stores nothing that is too large", () =>
      Effect.gen(function*() {
        const cache = yield* Cache.open(text("large", { maxBytes: 100 }))
        yield* cache.set("k", "small")
        const failure = yield* error(cache.set("k", "x".repeat(100)))
        assert.strictEqual(failure._tag, "CacheValueTooLarge")
        assert.deepStrictEqual(yield* cache.get("k"), Option.some("small"))
        const lookup = lookups(() => "y".repeat(100))
        yield* cache.getOrSet("l", lookup.effect)
        assert.strictEqual((yield* cache.getOrSet("l", lookup.effect)).length, 100)
        assert.strictEqual(lookup.count(), 2)
        assert.isFalse(yield* cache.has("l"))
      }))

    // -----------------------------------------------------------------------------------------------------------------
    // Several keys, and numbers
    // -----------------------------------------------------------------------------------------------------------------

    it.effect("getMany keeps order, allows duplicates and gaps, and one bad value harms no other", () =>
      Effect.gen(function*() {
        const client = yield* RedisClient
        const Many = text("many", near)
        const cache = yield* Cache.open(Many)
        yield* cache.setMany([["a", "1"], ["b", "2", { ttl: "1 minute" }], ["c", "3", { ttl: Duration.infinity }]])
        yield* client.set(`cache:${Many.name}:e:bad`, "bad")
        const found = ["1", undefined, "2", "1", undefined, "3"].map(Option.fromNullable)
        const keys = ["a", "none", "b", "a", "bad", "c"]
        assert.deepStrictEqual(yield* cache.getMany(keys), found)
        yield* untilNear(cache, "a")
        assert.deepStrictEqual(yield* cache.getMany(keys), found)
        assert.deepStrictEqual(yield* cache.getMany([]), [])
        yield* cache.setMany([])
        yield* cache.deleteMany([])
        yield* cache.setMany([["b", "2", { ttl: "20 millis" }]])
        yield* elapse("50 millis")
        assert.deepStrictEqual(yield* cache.getMany(["a", "b", "c"]), ["1", undefined, "3"].map(Option.fromNullable))
        yield* cache.deleteMany(new Set(["a", "c", "none"]))
        assert.deepStrictEqual(yield* cache.getMany(["a", "b", "c"]), Array.from({ length: 3 }, () => Option.none()))
        assert.strictEqual((yield* error(cache.getMany(["a", ""])))._tag, "RedisInputError")
      }))

    it.effect("counts exactly, with a time to live from the first addition", () =>
      Effect.gen(function*() {
        const client = yield* RedisClient
        const cache = yield* Cache.open(text("counts", { ttl: "400 millis" }))
        const sums = yield* Effect.all(Array.from({ length: 50 }, () => cache.increment("n", 2)), {
          concurrency: "unbounded"
        })
        assert.deepStrictEqual(sums.sort((a, b) => a - b), Array.from({ length: 50 }, (_, i) => 2 * (i + 1)))
        assert.strictEqual(yield* cache.decrement("n"), 99)
        assert.deepStrictEqual(yield* cache.count("n"), Option.some(99))
        assert.deepStrictEqual(yield* cache.get("n"), Option.none())
        assert.isAtMost(Duration.toMillis(Option.getOrThrow(yield* client.ttl(`cache:${cache.name}:n:n`))), 400)
        yield* elapse("450 millis")
        assert.deepStrictEqual(yield* cache.count("n"), Option.none())
        assert.strictEqual(yield* cache.increment("n", 5, { ttl: "1 hour" }), 5)
        yield* cache.resetCount("n")
        assert.deepStrictEqual(yield* cache.count("n"), Option.none())
        for (const by of [0.5, NaN, Infinity]) {
          assert.strictEqual((yield* error(cache.increment("n", by)))._tag, "RedisInputError")
        }
      }))

    it.effect("keeps objects by field", () =>
      Effect.gen(function*() {
        const client = yield* RedisClient
        const options = {
          key: Schema.Number,
          fields: { name: Schema.String, born: Schema.Date, visits: Schema.NullOr(Schema.Number) },
          ttl: "1 hour"
        } as const
        const Profiles = Cache.defineHash({ name: fresh("hash"), ...options })
        const profiles = yield* Cache.openHash(Profiles)
        assert.strictEqual(yield* Cache.openHash(Profiles), profiles)
        assert.deepStrictEqual(yield* profiles.get(1), Option.none())
        yield* profiles.set(1, { name: "", born: new Date(0), visits: undefined })
        yield* Effect.all([profiles.setField(1, "visits", null), profiles.setField(1, "name", "Ada")], {
          concurrency: "unbounded"
        })
        assert.deepStrictEqual(yield* profiles.get(1), Option.some({ name: "Ada", born: new Date(0), visits: null }))
        assert.deepStrictEqual(yield* profiles.getField(1, "visits"), Option.some(null))
        const key = `cache:${Profiles.name}:h:1`
        assert.isAbove(Duration.toMillis(Option.getOrThrow(yield* client.ttl(key))), 3_590_000)
        // What can't be read is missing, and harms no other field.
        yield* client.hset(key, { born: "never", other: "1" })
        assert.deepStrictEqual(yield* profiles.get(1), Option.some({ name: "Ada", visits: null }))
        assert.deepStrictEqual(yield* profiles.getField(1, "born"), Option.none())
        yield* profiles.deleteFields(1, "visits", "name")
        assert.deepStrictEqual(yield* profiles.get(1), Option.none())
        for (const bad of [profiles.set(1, {}), profiles.set(1, { name: 1 as unknown as string })]) {
          assert.strictEqual((yield* error(bad))._tag, "RedisInputError")
        }
        assert.strictEqual(
          (yield* error(profiles.getField(1, "nothing" as "name")))._tag,
          "RedisInputError"
        )
        const others = yield* Cache.openHash(Cache.defineHash({ name: `${Profiles.name}:h`, ...options }))
        yield* others.set(1, { name: "stays" })
        yield* profiles.set(2, { name: "Bob" })
        yield* profiles.delete(1)
        assert.strictEqual(yield* profiles.clear, 1)
        assert.deepStrictEqual(yield* others.getField(1, "name"), Option.some("stays"))
        assert.strictEqual((yield* error(Cache.openHash({ ...Profiles, ttl: 0 })))._tag, "CacheConflict")
      }))

    // -----------------------------------------------------------------------------------------------------------------
    // Near
    // -----------------------------------------------------------------------------------------------------------------

    it.effect("what is near is not asked for again, until somebody changes it", () =>
      Effect.gen(function*() {
        const Near = text("near", near)
        const cache = yield* Cache.open(Near)
        const other = yield* Effect.flatMap(anotherProcess, (process) => process.open(Near))
        yield* cache.set("k", "1")
        yield* untilNear(cache, "k")
        const before = (yield* cache.stats).redis
        for (let i = 0; i < 100; i++) assert.strictEqual(yield* cache.getOrSet("k", Effect.die("not asked for")), "1")
        assert.deepStrictEqual((yield* cache.stats).redis, before)
        yield* other.set("k", "2")
        yield* eventually(Effect.map(cache.get("k"), (found) => Option.contains(found, "2")))
        yield* untilNear(cache, "k")
        yield* other.delete("k")
        yield* eventually(Effect.map(cache.get("k"), Option.isNone))
        // Whoever writes reads its own write.
        for (let i = 0; i < 50; i++) {
          yield* cache.set("k", `own ${i}`)
          assert.deepStrictEqual(yield* cache.get("k"), Option.some(`own ${i}`))
        }
      }).pipe(Effect.scoped))

    it.effect("what is near ends with the entry, or before, and never more is kept than was said", () =>
      Effect.gen(function*() {
        const cache = yield* Cache.open(text("near-ttl", { ttl: "2 seconds", near: { capacity: 3, ttl: "1 hour" } }))
        yield* cache.set("k", "1")
        yield* untilNear(cache, "k")
        yield* elapse("2050 millis")
        assert.deepStrictEqual(yield* cache.get("k"), Option.none())
        const short = yield* Cache.open(text("near-short", { near: { capacity: 3, ttl: "300 millis" } }))
        yield* short.setMany(["a", "b", "c", "d", "e"].map((key) => [key, key]))
        for (const key of ["a", "b", "c", "d", "e"]) yield* untilNear(short, key)
        const stats = yield* short.stats
        assert.isAtMost(stats.near.size, 3)
        assert.isAtLeast(stats.near.evictions, 2)
        assert.deepStrictEqual(yield* short.get("a"), Option.some("a"))
        yield* elapse("350 millis")
        const reads = (yield* short.stats).redis.hits
        yield* short.get("e")
        assert.strictEqual((yield* short.stats).redis.hits, reads + 1)
      }))

    it.effect("changing what was read changes nothing for others", () =>
      Effect.gen(function*() {
        const Objects = Cache.json<{ list: Array<number> }>({ name: fresh("frozen"), ttl: "1 hour", ...near })
        const cache = yield* Cache.open(Objects)
        const mine = { list: [1] }
        yield* cache.set("k", mine)
        yield* untilNear(cache, "k")
        mine.list.push(2)
        const found = Option.getOrThrow(yield* cache.get("k"))
        assert.throws(() => found.list.push(3))
        assert.deepStrictEqual(yield* cache.get("k"), Option.some({ list: [1] }))
      }))

    // -----------------------------------------------------------------------------------------------------------------
    // Opening
    // -----------------------------------------------------------------------------------------------------------------

    it.effect("is one for all who open it, and refuses other options for its name", () =>
      Effect.gen(function*() {
        const options = { name: fresh("open"), key: Schema.String, value: Schema.String, near: { capacity: 5 } }
        const cache = yield* Cache.open(Cache.define({ ...options, ttl: "1 hour" }))
        assert.strictEqual(yield* Cache.open(Cache.define({ ...options, ttl: "1 hour", near: { capacity: 5 } })), cache)
        const conflict = yield* error(Cache.open(Cache.define({ ...options, ttl: "2 hours" })))
        assert.deepStrictEqual(conflict, new Cache.CacheConflict({ name: options.name }))
        const total = lookups((n) => `total ${n}`)
        const Totals = text("cached")
        assert.strictEqual(yield* total.effect.pipe(Cache.cached(Totals, "k")), "total 1")
        assert.strictEqual(yield* Cache.cached(total.effect, Totals, "k"), "total 1")
      }))

    it.effect("refuses options that make no sense", () =>
      Effect.gen(function*() {
        const refused: ReadonlyArray<readonly [string, Partial<Cache.Options<string, string>>]> = [
          ["name", { name: "" }],
          ["ttl", { ttl: 0 }],
          ["ttl", { ttl: NaN }],
          ["grace", { grace: Duration.infinity }],
          ["near.capacity", { near: { capacity: 0 } }],
          ["near.capacity", { near: { capacity: 1.5 } }],
          ["near.bytes", { near: { capacity: 1, bytes: -1 } }],
          ["near.ttl", { near: { capacity: 1, ttl: 0 } }],
          ["earlyRefresh.beta", { earlyRefresh: { beta: 0 } }],
          ["negative.ttl", { negative: { ttl: 0 } }],
          ["jitter", { jitter: 1.5 }],
          ["jitter", { jitter: NaN }],
          ["maxBytes", { maxBytes: 0 }],
          ["backoff", { backoff: 0 }],
          ["lookupTimeout.hard", { lookupTimeout: { hard: 0 } }],
          ["lookupTimeout.soft", { lookupTimeout: { soft: -1 } }],
          ["lease", { lease: 0 }]
        ]
        for (const [field, options] of refused) {
          const failure = yield* Effect.either(Cache.open({ ...text("refused"), ...options }))
          assert.isTrue(
            Either.isLeft(failure) && failure.left._tag === "RedisInputError" && failure.left.field === field,
            field
          )
        }
      }))
  })
}
