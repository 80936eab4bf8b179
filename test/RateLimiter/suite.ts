import { assert, layer } from "@effect/vitest"
import { Duration, Effect, Either, Fiber, Layer, Ref, Stream } from "effect"
import * as RateLimiter from "../../src/RateLimiter/index.js"
import { RedisClient } from "../../src/RedisClient.js"
import type { RedisError } from "../../src/RedisError.js"
import { error, fresh, type Time, until } from "../kit/suites.js"

type Definition = Omit<RateLimiter.Policy, "name"> & { readonly name?: string }

/** Never one that another test knows. */
const define = (definition: Definition) => RateLimiter.policy({ name: fresh("policy"), ...definition })

/** Each way of counting, with a limit. No window ends while a test runs. */
const algorithms = [
  ["gcra", 10, {}],
  ["token-bucket", 10, {}],
  ["sliding-window", 10, {}],
  ["sliding-window", 1010, {}],
  ["fixed-window", 10, {}]
] as const

const LONG = "30 days"

const ms = (duration: Duration.Duration) => Duration.toMillis(duration)

const keysLike = (pattern: string) =>
  Effect.flatMap(
    RedisClient,
    (client) =>
      Effect.map(Stream.runCollect(client.scan({ match: pattern })), (keys) => Array.from(new Set(keys)).sort())
  )

const valueOf = (client: RedisClient["Type"], key: string) => {
  const name = client.key(key)
  return Effect.flatMap(client.send("TYPE", name), (type) =>
    type === "string"
      ? client.send("GET", name)
      : type === "list"
      ? client.send("LRANGE", name, 0, -1)
      : client.send("HGETALL", name))
}

/** Everything that is stored of an identifier. */
const contents = (id: string) =>
  Effect.flatMap(
    RedisClient,
    (client) =>
      Effect.flatMap(keysLike(`rl:*{${id}}*`), (keys) =>
        Effect.forEach(keys, (key) =>
          Effect.zipWith(
            valueOf(client, key),
            client.send("PEXPIRETIME", client.key(key)),
            (value, ends) => [key, value, ends] as const
          )))
  )

/** The keys of an identifier, with their remaining life. */
const livesOf = (id: string) =>
  Effect.flatMap(RedisClient, (client) =>
    Effect.flatMap(
      keysLike(`rl:*{${id}}*`),
      (keys) => Effect.forEach(keys, (key) => Effect.map(client.send("PTTL", client.key(key)), Number))
    ))

export const suite = (
  name: string,
  driver: Layer.Layer<RedisClient, RedisError>,
  options: { readonly excludeTestServices?: boolean },
  time: Time
) => {
  const { elapse } = time
  const eventually = until(time)

  layer(Layer.orDie(Layer.provideMerge(RateLimiter.layer, driver)), options)(`RateLimiter, ${name}`, (it) => {
    for (const [algorithm, limit] of algorithms) {
      const called = `${algorithm} of ${limit}`
      const all = limit
      const tenth = limit / 10
      const limited = (window: Duration.DurationInput = LONG) => define({ limit, window, algorithm })

      it.effect(`${called}: allows the limit at once and refuses what is more, which uses nothing`, () =>
        Effect.gen(function*() {
          const policy = limited()
          const id = fresh("user")
          const first = yield* RateLimiter.consume(policy, id, { cost: 8 * tenth })
          assert.isTrue(first.allowed)
          assert.strictEqual(first.limit, all)
          assert.strictEqual(first.remaining, 2 * tenth)
          assert.strictEqual(first.policy, policy.name)
          assert.strictEqual(first.source, "redis")
          assert.strictEqual(ms(first.window), ms(Duration.decode(LONG)))
          assert.strictEqual(ms(first.retryAfter), 0)
          assert.isAbove(ms(first.resetAfter), 0)
          assert.isAtMost(ms(first.resetAfter), ms(Duration.decode("33 days")) + 1)
          const before = yield* contents(id)
          assert.isAbove(before.length, 0)
          const refused = yield* RateLimiter.consume(policy, id, { cost: 5 * tenth })
          assert.isFalse(refused.allowed)
          assert.isTrue(refused.satisfiable)
          assert.strictEqual(refused.remaining, 2 * tenth)
          assert.isAbove(ms(refused.retryAfter), 0)
          assert.isAtMost(ms(refused.retryAfter), ms(refused.resetAfter))
          assert.deepStrictEqual(yield* contents(id), before)
          const rest = yield* RateLimiter.consume(policy, id, { cost: 2 * tenth })
          assert.isTrue(rest.allowed)
          assert.strictEqual(rest.remaining, 0)
          assert.isFalse((yield* RateLimiter.consume(policy, id)).allowed)
          assert.strictEqual(yield* RateLimiter.count(policy, id), all)
          // Another identifier has its own.
          assert.isTrue((yield* RateLimiter.consume(policy, fresh("user"), { cost: all })).allowed)
        }))

      it.effect(`${called}: of ten times as many at once, exactly the limit is allowed`, () =>
        Effect.gen(function*() {
          const services = [yield* RateLimiter.RateLimiter, yield* RateLimiter.make]
          const policy = limited()
          const id = fresh("user")
          const decisions = yield* Effect.forEach(
            Array.from({ length: 100 }, (_, i) => i),
            (i) => services[i % 2]!.consume(policy, id, { cost: tenth }),
            { concurrency: "unbounded" }
          )
          const allowed = decisions.filter((decision) => decision.allowed)
          assert.strictEqual(allowed.length, 10)
          assert.deepStrictEqual(
            allowed.map(({ remaining }) => remaining).sort((a, b) => a - b),
            Array.from({ length: 10 }, (_, i) => i * tenth)
          )
        }).pipe(Effect.scoped))

      it.effect(`${called}: what can never be allowed is refused at once, and says so`, () =>
        Effect.gen(function*() {
          const policy = limited()
          const id = fresh("user")
          const refused = yield* RateLimiter.consume(policy, id, { cost: all + 1 })
          assert.isFalse(refused.allowed)
          assert.isFalse(refused.satisfiable)
          assert.isFalse(Duration.isFinite(refused.retryAfter))
          assert.strictEqual(refused.remaining, all)
          assert.deepStrictEqual(yield* livesOf(id), [])
        }))

      it.effect(`${called}: looking uses and writes nothing`, () =>
        Effect.gen(function*() {
          const policy = limited()
          const id = fresh("user")
          const none = yield* RateLimiter.check(policy, id)
          assert.isTrue(none.allowed)
          assert.strictEqual(none.remaining, all)
          assert.strictEqual(ms(none.resetAfter), 0)
          assert.strictEqual(yield* RateLimiter.count(policy, id), 0)
          assert.deepStrictEqual(yield* livesOf(id), [])
          const used = yield* RateLimiter.consume(policy, id, { cost: 7 * tenth })
          const before = yield* contents(id)
          const three = yield* RateLimiter.check(policy, id, { cost: 3 * tenth })
          assert.isTrue(three.allowed)
          assert.strictEqual(three.remaining, used.remaining)
          assert.isAtMost(ms(three.resetAfter), ms(used.resetAfter))
          const four = yield* RateLimiter.check(policy, id, { cost: 4 * tenth })
          assert.isFalse(four.allowed)
          assert.isAbove(ms(four.retryAfter), 0)
          assert.strictEqual(yield* RateLimiter.count(policy, id), 7 * tenth)
          assert.deepStrictEqual(yield* contents(id), before)
        }))

      it.effect(`${called}: gives back, but never more than was used`, () =>
        Effect.gen(function*() {
          const policy = limited()
          const id = fresh("user")
          assert.strictEqual((yield* RateLimiter.refund(policy, id, { cost: 3 })).remaining, all)
          assert.deepStrictEqual(yield* livesOf(id), [])
          yield* RateLimiter.consume(policy, id, { cost: 4 * tenth })
          yield* RateLimiter.consume(policy, id, { cost: 2 * tenth })
          const refunded = yield* RateLimiter.refund(policy, id, { cost: 5 * tenth })
          assert.isTrue(refunded.allowed)
          assert.strictEqual(refunded.remaining, 9 * tenth)
          assert.strictEqual(yield* RateLimiter.count(policy, id), tenth)
          assert.strictEqual((yield* RateLimiter.refund(policy, id, { cost: all })).remaining, all)
          assert.deepStrictEqual(yield* livesOf(id), [])
          assert.isFalse((yield* RateLimiter.consume(policy, id, { cost: all + 1 })).allowed)
        }))

      it.effect(`${called}: a penalty takes what is left`, () =>
        Effect.gen(function*() {
          const policy = limited()
          const id = fresh("user")
          assert.strictEqual((yield* RateLimiter.penalty(policy, id, { cost: 3 * tenth })).remaining, 7 * tenth)
          const nothing = yield* RateLimiter.penalty(policy, id, { cost: 1_000_000_000 })
          assert.isFalse(nothing.allowed)
          assert.strictEqual(nothing.remaining, 0)
          assert.strictEqual(yield* RateLimiter.count(policy, id), all)
          assert.isFalse((yield* RateLimiter.consume(policy, id)).allowed)
          for (const life of yield* livesOf(id)) assert(life > 0 && life <= ms(nothing.resetAfter) + 1)
        }))

      it.effect(`${called}: a block refuses whatever is left, and ends by itself`, () =>
        Effect.gen(function*() {
          const policy = limited()
          const id = fresh("user")
          yield* RateLimiter.block(policy, id, "400 millis")
          const blocked = yield* RateLimiter.consume(policy, id)
          assert.isFalse(blocked.allowed)
          assert.isTrue(blocked.satisfiable)
          assert.strictEqual(blocked.remaining, 0)
          assert(ms(blocked.retryAfter) > 0 && ms(blocked.retryAfter) <= 400)
          for (const life of yield* livesOf(id)) assert(life > 0 && life <= 401)
          yield* elapse(blocked.retryAfter)
          const after = yield* RateLimiter.consume(policy, id)
          assert.isTrue(after.allowed)
          assert.strictEqual(after.remaining, all - 1)
          yield* RateLimiter.block(policy, id, "1 hour")
          assert.isTrue(yield* RateLimiter.unblock(policy, id))
          assert.isFalse(yield* RateLimiter.unblock(policy, id))
          assert.strictEqual((yield* RateLimiter.check(policy, id)).remaining, all - 1)
          yield* RateLimiter.block(policy, id, "1 hour")
          yield* RateLimiter.reset(policy, id)
          assert.deepStrictEqual(yield* livesOf(id), [])
          assert.strictEqual((yield* RateLimiter.consume(policy, id)).remaining, all - 1)
        }))

      it.effect(`${called}: a block outlasts whatever else changes, and only another one takes its place`, () =>
        Effect.gen(function*() {
          const policy = limited("1 hour")
          const id = fresh("user")
          const refusedFor = Effect.map(RateLimiter.consume(policy, id), ({ allowed, retryAfter }) => {
            assert.isFalse(allowed)
            return ms(retryAfter)
          })
          yield* RateLimiter.consume(policy, id, { cost: 2 * tenth })
          yield* RateLimiter.block(policy, id, "2 hours")
          yield* RateLimiter.refund(policy, id, { cost: 2 * tenth })
          assert.isAbove(yield* refusedFor, 3_600_000)
          yield* RateLimiter.penalty(policy, id, { cost: 3 * tenth })
          assert.isAbove(yield* refusedFor, 3_600_000)
          assert.isFalse((yield* RateLimiter.consume(policy, id, { limit: 20 * tenth })).allowed)
          assert.strictEqual(yield* RateLimiter.count(policy, id), 3 * tenth)
          yield* RateLimiter.block(policy, id, "3 hours")
          assert.isAbove(yield* refusedFor, 7_200_000)
          for (const life of yield* livesOf(id)) assert(life > 0 && life <= 3 * 3_600_000)
          yield* RateLimiter.block(policy, id, "100 millis")
          assert.isAtMost(yield* refusedFor, 100)
          for (const life of yield* livesOf(id)) assert(life > 0 && life <= 3_600_000 * 1.1 + 1)
          yield* elapse("100 millis")
          const after = yield* RateLimiter.consume(policy, id)
          assert.isTrue(after.allowed)
          assert.strictEqual(after.remaining, 7 * tenth - 1)
          yield* RateLimiter.consume(policy, id, { limit: 20 * tenth })
          yield* RateLimiter.block(policy, id, "1 hour")
          assert.isTrue(yield* RateLimiter.unblock(policy, id))
          assert.strictEqual((yield* RateLimiter.check(policy, id)).remaining, 7 * tenth - 2)
          yield* RateLimiter.refund(policy, id, { cost: all })
          yield* RateLimiter.block(policy, id, "1 hour")
          assert.isTrue(yield* RateLimiter.unblock(policy, id))
          assert.deepStrictEqual(yield* livesOf(id), [])
        }))

      it.effect(`${called}: a limit that changes keeps what was used`, () =>
        Effect.gen(function*() {
          const policy = limited()
          const id = fresh("user")
          yield* RateLimiter.consume(policy, id, { cost: 8 * tenth })
          const half = { limit: 5 * tenth }
          const lowered = yield* RateLimiter.consume(policy, id, half)
          assert.isFalse(lowered.allowed)
          assert.strictEqual(lowered.limit, 5 * tenth)
          assert.strictEqual(lowered.remaining, 0)
          assert.strictEqual(yield* RateLimiter.count(policy, id, half), 8 * tenth)
          const doubled = { limit: 20 * tenth }
          assert.strictEqual((yield* RateLimiter.check(policy, id, doubled)).remaining, 12 * tenth)
          const raised = yield* RateLimiter.consume(policy, id, { ...doubled, cost: 10 * tenth })
          assert.isTrue(raised.allowed)
          assert.strictEqual(raised.remaining, 2 * tenth)
          assert.strictEqual((yield* RateLimiter.check(policy, id)).remaining, 0)
          assert.strictEqual(yield* RateLimiter.count(policy, id, doubled), 18 * tenth)
          assert.isFalse((yield* RateLimiter.consume(policy, id, { limit: tenth, cost: tenth + 1 })).satisfiable)
        }))

      it.effect(`${called}: every key has a life that is no longer than it needs`, () =>
        Effect.gen(function*() {
          const policy = limited("1 hour")
          const id = fresh("user")
          const bounded = Effect.map(livesOf(id), (lives) => {
            assert.isAtLeast(lives.length, 1)
            for (const life of lives) assert(life > 0 && life <= 3_600_000 * 1.1 + 1, `${life}`)
          })
          yield* RateLimiter.consume(policy, id, { cost: 3 * tenth })
          yield* bounded
          yield* RateLimiter.refund(policy, id)
          yield* bounded
          yield* RateLimiter.penalty(policy, id, { cost: 2 * tenth })
          yield* bounded
          yield* RateLimiter.consume(policy, id, { limit: 20 * tenth, cost: 15 * tenth })
          yield* bounded
          yield* RateLimiter.block(policy, id, "10 minutes")
          yield* bounded
          yield* RateLimiter.unblock(policy, id)
          yield* bounded
        }))

      it.effect(`${called}: trying again when it says so succeeds`, () =>
        Effect.gen(function*() {
          const policy = limited("700 millis")
          const id = fresh("user")
          const exhausted: Effect.Effect<RateLimiter.Decision, RedisError, RateLimiter.RateLimiter> = Effect.flatMap(
            RateLimiter.consume(policy, id, { cost: 4 * tenth }),
            (decision) => decision.allowed ? exhausted : Effect.succeed(decision)
          )
          const { retryAfter } = yield* exhausted
          assert(ms(retryAfter) > 0 && ms(retryAfter) <= 770)
          yield* elapse(retryAfter)
          assert.isTrue((yield* RateLimiter.consume(policy, id, { cost: 4 * tenth })).allowed)
        }))

      it.effect(`${called}: a key of another type is an error, and one that is gone a fresh start`, () =>
        Effect.gen(function*() {
          const client = yield* RedisClient
          const policy = limited()
          const id = fresh("user")
          yield* RateLimiter.consume(policy, id, { cost: all })
          const [key] = Array.from(yield* Stream.runCollect(client.scan({ match: `rl:*{${id}}` })))
          yield* client.del(key!)
          assert.isTrue((yield* RateLimiter.consume(policy, id, { cost: all })).allowed)
          yield* client.del(key!)
          yield* client.send("SADD", client.key(key!), "member")
          const failure = yield* error(RateLimiter.consume(policy, id))
          assert(failure._tag === "RedisReplyError")
          assert.strictEqual(failure.code, "WRONGTYPE")
          assert.strictEqual(yield* client.del(key!), 1)
        }))
    }

    it.effect("several buckets: one that is blocked, of another type or filled by another limit decides for all", () =>
      Effect.gen(function*() {
        const client = yield* RedisClient
        const id = fresh("user")
        const first = RateLimiter.policy({ name: "first", limit: 10, window: "1 hour" })
        // Its ticks are no microseconds.
        const second = RateLimiter.policy({ name: "second", limit: 7, window: "1 hour", algorithm: "token-bucket" })
        const both = [first, second]

        yield* RateLimiter.block(second, id, "2 hours")
        const blocked = yield* RateLimiter.consume(both, id)
        assert.deepStrictEqual(blocked.tiers.map(({ allowed, remaining }) => [allowed, remaining]), [[true, 10], [
          false,
          0
        ]])
        assert.strictEqual(blocked.policy, "second")
        assert(ms(blocked.retryAfter) > 3_600_000 && ms(blocked.retryAfter) <= 7_200_000)
        assert.isFalse((yield* RateLimiter.consume(both, id, { cost: 11 })).satisfiable)
        yield* RateLimiter.unblock(second, id)

        yield* RateLimiter.consume(second, id, { cost: 3, limit: 8 })
        const mixed = yield* RateLimiter.consume(both, id)
        assert.deepStrictEqual(mixed.tiers.map(({ allowed, remaining }) => [allowed, remaining]), [[true, 9], [
          true,
          3
        ]])
        const refused = yield* RateLimiter.consume(both, id, { cost: 4 })
        assert.deepStrictEqual(refused.tiers.map(({ allowed, remaining }) => [allowed, remaining]), [[true, 9], [
          false,
          3
        ]])
        assert.deepStrictEqual(
          (yield* RateLimiter.check(both, id, { cost: 4 })).tiers.map(({ allowed, remaining }) => [allowed, remaining]),
          [[true, 9], [false, 3]]
        )

        const [key] = Array.from(yield* Stream.runCollect(client.scan({ match: `rl:*second:{${id}}` })))
        yield* client.del(key!)
        yield* client.send("SADD", client.key(key!), "member")
        const failure = yield* error(RateLimiter.consume(both, id))
        assert(failure._tag === "RedisReplyError")
        assert.strictEqual(failure.code, "WRONGTYPE")
        assert.strictEqual(yield* RateLimiter.count(first, id), 1)
        yield* client.del(key!)
      }))

    it.effect("identifiers and names with any character never collide", () =>
      Effect.gen(function*() {
        const common = "x".repeat(10_000)
        const ids = [
          ..."{ } {} }{ {a} a}b a%7Db % : \n \" \\ * é 🔒 a:b a{b #{x} :block".split(" "),
          " ",
          `${common}1`,
          `${common}2`,
          common.slice(0, 128),
          common.slice(0, 129)
        ]
        for (const name of ["api:{x}", "api", "api:", "%", "}"]) {
          const [exact, steady] = (["sliding-window", "gcra"] as const).map((algorithm) =>
            define({ name: fresh(name), limit: 1, window: LONG, algorithm })
          )
          for (const id of ids) {
            assert.isTrue((yield* RateLimiter.consume([exact!, steady!], id)).allowed, id)
          }
          for (const id of ids) {
            assert.isFalse((yield* RateLimiter.consume(exact!, id)).allowed)
            assert.isFalse((yield* RateLimiter.consume(steady!, id)).allowed)
          }
        }
      }))

    it.effect("limits that differ in anything share nothing", () =>
      Effect.gen(function*() {
        const id = fresh("user")
        const base: RateLimiter.Policy = { name: fresh("same"), limit: 3, window: LONG }
        const policies: ReadonlyArray<RateLimiter.Policy> = [
          base,
          { ...base, limit: 4 },
          { ...base, window: "29 days" },
          { ...base, burst: 2 },
          { ...base, burst: 3 },
          { ...base, algorithm: "token-bucket" },
          { ...base, algorithm: "sliding-window" },
          { ...base, algorithm: "sliding-window", limit: 2000 },
          { ...base, algorithm: "fixed-window" },
          { ...base, name: fresh("other") }
        ]
        for (const policy of policies) {
          assert.isTrue((yield* RateLimiter.consume(policy, id, { cost: policy.burst ?? policy.limit })).allowed)
        }
        // And the same one is the same, wherever it was made.
        for (const policy of policies) assert.isFalse((yield* RateLimiter.consume({ ...policy }, id)).allowed)
      }))

    for (
      const [limit, window] of [
        [1, "1 second"],
        [3, "1 second"],
        [5000, "1 second"],
        [7, "250 millis"],
        [1, "30 days"]
      ] as const
    ) {
      it.effect(`${limit} in ${window} is what it says`, () =>
        Effect.gen(function*() {
          for (const algorithm of ["gcra", "token-bucket", "sliding-window", "fixed-window"] as const) {
            const policy = define({ limit, window, algorithm })
            const id = fresh("user")
            assert.isTrue((yield* RateLimiter.consume(policy, id, { cost: limit })).allowed)
            assert.isFalse((yield* RateLimiter.consume(policy, fresh("user"), { cost: limit + 1 })).allowed)
            for (const life of yield* livesOf(id)) {
              // It may be over by now.
              assert(life !== -1 && life <= ms(Duration.decode(window)) * 1.1 + 1, `${algorithm} ${life}`)
            }
          }
        }))
    }

    it.effect("a burst of its own is what is available at once", () =>
      Effect.gen(function*() {
        const policy = define({ limit: 100, window: LONG, burst: 7 })
        const id = fresh("user")
        assert.isFalse((yield* RateLimiter.check(policy, id, { cost: 8 })).satisfiable)
        const decision = yield* RateLimiter.consume(policy, id, { cost: 7 })
        assert.isTrue(decision.allowed)
        assert.strictEqual(decision.limit, 100)
        assert.strictEqual(decision.remaining, 0)
        const refused = yield* RateLimiter.consume(policy, id)
        assert.isFalse(refused.allowed)
        assert.approximately(Duration.toHours(refused.retryAfter), 7.2, 0.01)
      }))

    it.effect("several limits are used together or not at all, whatever they count by", () =>
      Effect.gen(function*() {
        const id = fresh("user")
        const policies = [
          define({ limit: 10, window: "1 hour" }),
          define({ limit: 8, window: "1 day", algorithm: "sliding-window" }),
          define({ limit: 6, window: "300 days", algorithm: "fixed-window" }),
          define({ limit: 2000, window: "1 day", algorithm: "sliding-window" }),
          define({ limit: 20, window: "1 minute", algorithm: "token-bucket" })
        ]
        const first = yield* RateLimiter.consume(policies, id, { cost: 5 })
        assert.isTrue(first.allowed)
        assert.strictEqual(first.policy, policies[2]!.name)
        assert.deepStrictEqual(first.tiers.map(({ remaining }) => remaining), [5, 3, 1, 1995, 15])
        assert.deepStrictEqual(first.tiers.map(({ policy }) => policy), policies.map(({ name }) => name))
        const before = yield* contents(id)
        const refused = yield* RateLimiter.consume(policies, id, { cost: 5 })
        assert.isFalse(refused.allowed)
        assert.deepStrictEqual(refused.tiers.map(({ allowed }) => allowed), [true, false, false, true, true])
        // The one that refuses for longest.
        const longest = refused.tiers.reduce((a, b) => ms(b.retryAfter) > ms(a.retryAfter) ? b : a)
        assert.strictEqual(refused.policy, longest.policy)
        assert.deepStrictEqual(refused.retryAfter, longest.retryAfter)
        assert.deepStrictEqual(yield* contents(id), before)
        // Each of them is the same when it is used alone.
        assert.strictEqual((yield* RateLimiter.consume(policies[0]!, id)).remaining, 4)
        assert.strictEqual((yield* RateLimiter.consume(policies[1]!, id)).remaining, 2)
        assert.isFalse((yield* RateLimiter.consume(policies, id, { cost: 7 })).satisfiable)
        yield* RateLimiter.refund(policies, id, { cost: 6 })
        assert.deepStrictEqual(
          (yield* RateLimiter.check(policies, id)).tiers.map(({ remaining }) => remaining),
          [10, 8, 6, 2000, 20]
        )
      }))

    it.effect("limits of several identifiers are used together or not at all", () =>
      Effect.gen(function*() {
        const perUser = define({ limit: 3, window: LONG })
        const perTeam = define({ limit: 5, window: LONG, algorithm: "sliding-window" })
        const everybody = define({ limit: 100, window: LONG, algorithm: "fixed-window" })
        const team = fresh("team")
        const common = fresh("everybody")
        const as = (user: string, cost = 1) =>
          RateLimiter.consumeAll([
            { policy: everybody, id: common, cost },
            { policy: perUser, id: user, cost },
            { policy: perTeam, id: team, cost }
          ])
        const [ada, bob] = [fresh("ada"), fresh("bob")]
        const first = yield* as(ada, 3)
        assert.isTrue(first.allowed)
        assert.deepStrictEqual(first.tiers.map(({ remaining }) => remaining), [97, 0, 2])
        const user = yield* as(ada)
        assert.isFalse(user.allowed)
        assert.strictEqual(user.policy, perUser.name)
        assert.deepStrictEqual(user.tiers.map(({ allowed }) => allowed), [true, false, true])
        assert.deepStrictEqual(user.tiers.map(({ remaining }) => remaining), [97, 0, 2])
        const crowd = yield* as(bob, 3)
        assert.isFalse(crowd.allowed)
        assert.strictEqual(crowd.policy, perTeam.name)
        assert.strictEqual(yield* RateLimiter.count(perUser, bob), 0)
        assert.strictEqual(yield* RateLimiter.count(everybody, common), 3)
        // The same limit for two.
        const both = yield* RateLimiter.consumeAll([
          { policy: perUser, id: bob, cost: 2 },
          { policy: perUser, id: fresh("eve"), cost: 3 }
        ])
        assert.deepStrictEqual(both.tiers.map(({ remaining }) => remaining), [1, 0])
      }))

    it.effect("runs what is allowed, and fails with what was decided", () =>
      Effect.gen(function*() {
        const policy = define({ limit: 2, window: LONG })
        const id = fresh("user")
        const ran = yield* Ref.make(0)
        const work = Effect.as(Ref.update(ran, (n) => n + 1), "done")
        assert.strictEqual(yield* work.pipe(RateLimiter.rateLimited(policy, id)), "done")
        assert.strictEqual(yield* RateLimiter.rateLimited(work, policy, Effect.succeed(id)), "done")
        const failure = yield* error(work.pipe(RateLimiter.rateLimited([policy], Effect.succeed(id))))
        assert(failure._tag === "RateLimitExceeded")
        assert.strictEqual(failure.key, id)
        assert.strictEqual(failure.policy, policy.name)
        assert.strictEqual(failure.limit, 2)
        assert.strictEqual(failure.remaining, 0)
        assert.isTrue(failure.satisfiable)
        assert.isAbove(ms(failure.retryAfter), 0)
        assert.isAtLeast(ms(failure.resetAfter), ms(failure.retryAfter))
        assert.strictEqual(yield* Ref.get(ran), 2)
        const never = yield* error(work.pipe(RateLimiter.rateLimited(policy, id, { cost: 3 })))
        assert(never._tag === "RateLimitExceeded")
        assert.isFalse(never.satisfiable)
        assert.strictEqual(
          yield* error(Effect.fail("own").pipe(RateLimiter.rateLimited(policy, fresh("user")))),
          "own"
        )
        assert.strictEqual(
          yield* error(work.pipe(RateLimiter.rateLimited(policy, Effect.fail("nobody" as const)))),
          "nobody"
        )
      }))

    for (const algorithm of ["gcra", "sliding-window", "fixed-window"] as const) {
      for (const limit of algorithm === "sliding-window" ? [2, 2000] : [2]) {
        it.effect(`${algorithm} of ${limit}: those who wait get their turns in order, and never more than there are`, () =>
          Effect.gen(function*() {
            const policy = define({
              limit,
              window: "400 millis",
              algorithm,
              onExceeded: "delay",
              maxWait: "5 seconds"
            })
            const id = fresh("user")
            const served = yield* Ref.make<ReadonlyArray<number>>([])
            const fibers: Array<Fiber.RuntimeFiber<void, unknown>> = []
            for (let i = 0; i < 6; i++) {
              fibers.push(
                yield* Effect.fork(
                  RateLimiter.rateLimited(Ref.update(served, (all) => [...all, i]), policy, id, { cost: limit / 2 })
                )
              )
              yield* eventually(
                Effect.map(RateLimiter.count(policy, id, { limit: limit * 4 }), (used) => used > i * limit / 2 - limit)
              )
              yield* elapse("1 millis")
            }
            while ((yield* Ref.get(served)).length < 6) yield* elapse("20 millis")
            yield* Effect.forEach(fibers, Fiber.join)
            // Two who may go on at the same instant have no order.
            const together = algorithm === "gcra" ? 1 : 2
            assert.deepStrictEqual(
              (yield* Ref.get(served)).map((i) => Math.floor(i / together)),
              [0, 1, 2, 3, 4, 5].map((i) => Math.floor(i / together))
            )
          }))
      }

      it.effect(`${algorithm}: who would wait too long fails at once, and who is interrupted gives its turn back`, () =>
        Effect.gen(function*() {
          const policy = define({ limit: 2, window: "1 hour", algorithm, onExceeded: "delay", maxWait: "1 day" })
          const id = fresh("user")
          yield* RateLimiter.rateLimited(Effect.void, policy, id, { cost: 2 })
          const before = (yield* RateLimiter.check(policy, id)).tiers[0]!
          const waiting = yield* Effect.fork(RateLimiter.rateLimited(Effect.void, policy, id, { cost: 2 }))
          yield* eventually(
            Effect.map(RateLimiter.check(policy, id), ({ resetAfter }) => ms(resetAfter) > ms(before.resetAfter))
          )
          const hurried: RateLimiter.Policy = { ...policy, maxWait: "30 minutes" }
          const failure = yield* error(RateLimiter.rateLimited(Effect.void, hurried, id, { cost: 2 }))
          assert(failure._tag === "RateLimitExceeded")
          assert.isAbove(ms(failure.retryAfter), 1_800_000)
          // A block lets nobody wait.
          yield* RateLimiter.block(policy, id, "1 second")
          const blocked = yield* error(RateLimiter.rateLimited(Effect.void, policy, id))
          assert.strictEqual(blocked._tag, "RateLimitExceeded")
          yield* RateLimiter.unblock(policy, id)
          yield* Fiber.interrupt(waiting)
          const after = (yield* RateLimiter.check(policy, id)).tiers[0]!
          assert.approximately(ms(after.resetAfter), ms(before.resetAfter), 5000)
          assert.strictEqual(yield* RateLimiter.count(policy, id), 2)
        }))
    }

    it.effect("those who wait for several limits wait until all of them allow it", () =>
      Effect.gen(function*() {
        const fast = define({ limit: 1, window: "300 millis", onExceeded: "delay" })
        const slow = define({ limit: 2, window: "500 millis", algorithm: "sliding-window", onExceeded: "delay" })
        const id = fresh("user")
        const fiber = yield* Effect.fork(
          Effect.forEach([1, 2, 3], (n) => RateLimiter.rateLimited(Effect.succeed(n), [fast, slow], id))
        )
        for (let i = 0; i < 12; i++) yield* elapse("50 millis")
        assert.deepStrictEqual(yield* Fiber.join(fiber), [1, 2, 3])
        const impatient: RateLimiter.Policy = { ...slow, onExceeded: "fail" }
        yield* RateLimiter.consume(slow, id, { cost: 1 })
        yield* RateLimiter.penalty(slow, id, { cost: 2 })
        const failure = yield* Effect.either(RateLimiter.rateLimited(Effect.void, [fast, impatient], id))
        assert(Either.isLeft(failure))
        assert.strictEqual(failure.left._tag, "RateLimitExceeded")
      }))
  })
}
