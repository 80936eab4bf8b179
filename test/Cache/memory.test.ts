import { assert, describe, it } from "@effect/vitest"
import { Deferred, Effect, Exit, Fiber, Layer, Metric, Option, Schema, Stream, TestClock } from "effect"
import * as Cache from "../../src/Cache/index.js"
import { RedisClient } from "../../src/RedisClient.js"
import { Fault, layerWith, RedisTestServer } from "../../src/RedisTestServer.js"
import { interruptions } from "../kit/interruption.js"
import { inMemory } from "../kit/processes.js"
import * as Spans from "../kit/spans.js"
import { forkWith } from "../kit/steps.js"
import { error } from "../kit/suites.js"
import { quiet } from "./suite.js"

const text = (name: string, options?: Partial<Cache.Options<string, string>>) =>
  Cache.define({ name, key: Schema.String, value: Schema.String, ttl: "1 hour", ...options })

const near = { near: { capacity: 100 } }

/** Lets everything run that needs no time. */
const settle = TestClock.adjust(0)

const commands = Effect.flatMap(
  RedisTestServer,
  (server) =>
    Effect.map(
      server.journal,
      (journal) => journal.map(({ args }) => args[0]!).filter((name) => !["CLIENT", "SUBSCRIBE", "PING"].includes(name))
    )
)

/** What an effect sends. */
const sent = <A, E, R>(effect: Effect.Effect<A, E, R>) =>
  Effect.gen(function*() {
    const before = (yield* commands).length
    yield* effect
    return (yield* commands).slice(before)
  })

/** Uses it until it listens, and knows what there is to know. */
const ready = <K, A, E>(cache: Cache.Handle<K, A, E>, key: K) =>
  Effect.gen(function*() {
    while ((yield* sent(cache.get(key))).join() !== "GET") yield* TestClock.adjust("1 millis")
  })

const NO_TRACKING = Fault.reply("NOPERM this user has no permissions to run the 'client|tracking' command", {
  command: "CLIENT",
  times: 1_000_000
})

const layerTest = quiet(Cache.layerTest)

describe("Cache, what it sends", () => {
  it.effect("is one command for each read and write, and three for a lookup", () =>
    Effect.gen(function*() {
      const cache = yield* Cache.open(text("sends", { ...near, tags: (value) => [value] }))
      yield* ready(cache, "warm")
      assert.deepStrictEqual(yield* sent(cache.set("a", "1")), ["SET"])
      assert.deepStrictEqual(yield* sent(cache.get("a")), ["GET"])
      assert.deepStrictEqual(yield* sent(Effect.zipRight(cache.get("a"), cache.getOrSet("a", Effect.die("")))), [])
      assert.deepStrictEqual(yield* sent(cache.getMany(["a", "b", "c"])), ["MGET"])
      assert.deepStrictEqual(yield* sent(cache.getMany(["a"])), [])
      assert.deepStrictEqual(yield* sent(cache.getMany([])), [])
      assert.deepStrictEqual(yield* sent(cache.setMany([["b", "1"], ["c", "2"]])), ["SET", "SET"])
      assert.deepStrictEqual(yield* sent(cache.delete("a")), ["UNLINK"])
      assert.deepStrictEqual(yield* sent(cache.take("b")), ["GETDEL"])
      yield* cache.getOrSet("scripts", Effect.succeed("1"))
      assert.deepStrictEqual(yield* sent(cache.getOrSet("d", Effect.succeed("1"))), ["GET", "SET", "EVALSHA"])
      assert.deepStrictEqual(yield* sent(cache.getOrSet("c", Effect.die("not asked for"))), ["GET"])
      yield* cache.invalidateTags("warm")
      assert.deepStrictEqual(yield* sent(cache.invalidateTags(...Array.from({ length: 100 }, (_, i) => `${i}`))), [
        "EVALSHA"
      ])
      // What has changed is asked for once, by the next one who reads.
      const reads = Effect.all(Array.from({ length: 20 }, (_, i) => cache.get(`${i}`)), { concurrency: "unbounded" })
      assert.strictEqual((yield* sent(reads)).filter((name) => name === "EVALSHA").length, 1)
    }).pipe(Effect.provide(layerTest)))

  it.effect("a thousand who ask at the same time read once", () =>
    Effect.gen(function*() {
      const cache = yield* Cache.open(text("once"))
      yield* ready(cache, "warm")
      yield* cache.set("k", "1")
      const all = Effect.all(Array.from({ length: 1000 }, () => cache.getOrSet("k", Effect.die("not asked for"))), {
        concurrency: "unbounded"
      })
      assert.deepStrictEqual(yield* sent(all), ["GET"])
    }).pipe(Effect.provide(layerTest)))

  it.effect("nobody who joins a read misses its end, wherever fibers yield", () =>
    Effect.gen(function*() {
      const cache = yield* Cache.open(text("yields"))
      yield* cache.set("k", "1")
      for (let ops = 20; ops <= 40; ops++) {
        const found = yield* Effect.forEach(
          Array.from({ length: 40 }, (_, i) => i),
          (i) =>
            Effect.repeatN(Effect.yieldNow(), i % 7).pipe(
              Effect.zipRight(cache.getOrSet("k", Effect.die("not asked for"))),
              Effect.withMaxOpsBeforeYield(i % 2 === 0 ? ops : 2048)
            ),
          { concurrency: "unbounded" }
        )
        assert.deepStrictEqual(new Set(found), new Set(["1"]))
      }
    }).pipe(Effect.provide(layerTest)))

  for (const who of ["who reads", "who joins the read"] as const) {
    it.effect(`an interruption of ${who} takes nothing from others, and leaves nothing behind`, () =>
      Effect.gen(function*() {
        const client = yield* RedisClient
        const cache = yield* Cache.open(text("steps"))
        yield* ready(cache, "warm")
        let step = 1
        for (let done = false; !done; step++) {
          const key = `${step}`
          let begun = 0
          let ended = 0
          const lookup = Effect.suspend(() => {
            begun++
            return Effect.delay(Effect.succeed(key), "1 second")
          }).pipe(Effect.ensuring(Effect.sync(() => ended++)))
          const call = cache.getOrSet(key, lookup)
          const before = who === "who reads" ? [] : [yield* Effect.fork(call)]
          const [caller, interrupted] = yield* forkWith(call, { step, yields: true, interrupts: true })
          const others = [...before, yield* Effect.fork(call), yield* Effect.fork(call)]
          yield* settle
          yield* TestClock.adjust("2 seconds")
          for (const other of others) assert.strictEqual(yield* Fiber.join(other), key, `step ${step}`)
          done = !interrupted()
          if (done) assert.strictEqual(yield* Fiber.join(caller), key)
          else yield* Fiber.await(caller)
          assert.isAtMost(begun, who === "who reads" ? 2 : 1, `step ${step}`)
          // With the last one the lookup is over, and its lease is given back.
          const gone = `gone ${step}`
          const all = yield* Effect.forEach([1, 2, 3], () => Effect.fork(cache.getOrSet(gone, lookup)))
          yield* settle
          yield* Fiber.interruptAll(all)
          yield* settle
          assert.strictEqual(ended, begun, `step ${step}`)
          assert.strictEqual(yield* client.exists(`cache:steps:e:${gone}`), 0, `step ${step}`)
        }
        // Otherwise the scheduler was never asked.
        assert.isAbove(step, 20)
      }).pipe(Effect.provide(layerTest)))
  }

  it.effect("who joins where nothing is interrupted gets the value, also when those before are interrupted", () =>
    Effect.gen(function*() {
      const cache = yield* Cache.open(text("masked"))
      yield* ready(cache, "warm")
      let interrupted = 0
      const lookup = Effect.delay(Effect.succeed("1"), "1 second").pipe(
        Effect.onInterrupt(() => Effect.sync(() => interrupted++))
      )
      const first = yield* Effect.fork(cache.getOrSet("k", lookup))
      yield* Effect.yieldNow()
      let got = ""
      const masked = yield* Effect.fork(
        Effect.uninterruptible(Effect.map(cache.getOrSet("k", lookup), (value) => got = value))
      )
      yield* settle
      yield* Fiber.interrupt(first)
      const interruption = yield* Effect.fork(Fiber.interrupt(masked))
      yield* settle
      assert.deepStrictEqual(yield* Fiber.poll(interruption), Option.none())
      yield* TestClock.adjust("1 second")
      yield* Fiber.join(interruption)
      assert.deepStrictEqual([got, interrupted], ["1", 0])
    }).pipe(Effect.provide(layerTest)))

  it.effect("nobody who joins a read is forgotten, wherever its fiber waits until the read or the lookup has ended", () =>
    Effect.gen(function*() {
      const cache = yield* Cache.open(text("held"))
      yield* ready(cache, "warm")
      for (const wait of ["0 millis", "2 seconds"] as const) {
        let step = 1
        for (let done = false; !done; step++) {
          const key = `${wait} ${step}`
          const call = cache.getOrSet(key, Effect.delay(Effect.succeed(key), "1 second"))
          const first = yield* Effect.fork(call)
          yield* Effect.yieldNow()
          let goOn = () => {}
          const until = new Promise<void>((resolve) => goOn = resolve)
          const [later, held] = yield* forkWith(call, { step, yields: true, interrupts: false, until })
          yield* settle
          yield* TestClock.adjust(wait)
          goOn()
          yield* settle
          yield* TestClock.adjust("5 seconds")
          assert.strictEqual(yield* Fiber.join(first), key)
          assert.deepStrictEqual(yield* Fiber.poll(later), Option.some(Exit.succeed(key)), `step ${step}`)
          done = !held()
        }
        assert.isAbove(step, 20)
      }
    }).pipe(Effect.provide(layerTest)))

  it.effect("who asked while it was read waits for the lookup with no command of its own, as long as was said", () =>
    Effect.gen(function*() {
      const cache = yield* Cache.open(text("joined"))
      const hard = yield* Cache.open(text("hard", { lookupTimeout: { hard: "1 second" } }))
      yield* ready(cache, "warm")
      let begun = 0
      const lookup = Effect.suspend(() => {
        begun++
        return Effect.delay(Effect.succeed("1"), "5 seconds")
      })
      const crowd = (handle: typeof cache) =>
        Effect.gen(function*() {
          const calls = yield* Effect.forEach(
            Array.from({ length: 100 }),
            () => Effect.fork(Effect.either(handle.getOrSet("k", lookup)))
          )
          yield* settle
          yield* TestClock.adjust("1 second")
          const early = yield* Effect.forEach(calls, Fiber.poll)
          yield* TestClock.adjust("10 seconds")
          const late = yield* Fiber.join(Fiber.all(calls))
          return { early: early.filter(Option.isSome).length, late: new Set(late.map((result) => result._tag)) }
        })
      const asked = yield* sent(Effect.tap(crowd(cache), (all) => {
        assert.deepStrictEqual(all, { early: 0, late: new Set(["Right"]) })
      }))
      // What else was sent kept the lease.
      assert.deepStrictEqual(asked.filter((name) => name === "GET" || name === "SET"), ["GET", "SET"])
      assert.deepStrictEqual(yield* crowd(hard), { early: 100, late: new Set(["Left"]) })
      assert.strictEqual(begun, 2)
    }).pipe(Effect.provide(layerTest)))

  it.effect("when all times are over, one key is left", () =>
    Effect.gen(function*() {
      const server = yield* RedisTestServer
      const cache = yield* Cache.open(
        text("left", { ...near, grace: "1 day", tags: (value) => [value, `${value}!`], jitter: 0.5 })
      )
      yield* Effect.forEach(Array.from({ length: 50 }, (_, i) => `${i}`), (key) =>
        Effect.zipRight(cache.getOrSet(key, Effect.succeed(key)), cache.increment(key)))
      yield* Effect.ignore(cache.getOrSet("failing", Effect.fail("no")))
      yield* cache.setMany(Array.from({ length: 50 }, (_, i) =>
        [`many ${i}`, `${i}`] as const))
      for (let i = 0; i < 50; i++) yield* cache.invalidateTags(`${i}`, `${i}!`)
      yield* TestClock.adjust("26 hours")
      // What was invalidated longer ago than anything lives is forgotten with the next time.
      yield* cache.invalidateTags("last")
      const keys = yield* server.keys
      assert.deepStrictEqual(keys.map(({ key, size }) => [key, size]), [["cache:left:tags", 3]])
    }).pipe(Effect.provide(layerTest)))

  it.effect("with jitter, entries do not end together, and none lives longer than was said", () =>
    Effect.gen(function*() {
      const server = yield* RedisTestServer
      const cache = yield* Cache.open(text("jitter", { jitter: 0.5 }))
      yield* cache.setMany(Array.from({ length: 50 }, (_, i) => [`${i}`, ""] as const))
      const lives = (yield* server.keys).map(({ ttl }) => ttl).filter((ttl) => ttl > 0)
      assert.isAbove(new Set(lives).size, 40)
      assert.isAtMost(Math.max(...lives), 3_600_000)
      assert.isAtLeast(Math.min(...lives), 1_800_000)
    }).pipe(Effect.provide(layerTest)))

  it.effect("virtual time: a week passes, and refreshes happen when they are due", () =>
    Effect.gen(function*() {
      const cache = yield* Cache.open(text("week", { ttl: "7 days", grace: "1 day" }))
      yield* cache.set("k", "old")
      yield* TestClock.adjust("6 days")
      assert.deepStrictEqual(yield* cache.get("k"), Option.some("old"))
      yield* TestClock.adjust("1 day")
      assert.deepStrictEqual(yield* cache.get("k"), Option.none())
      assert.strictEqual(yield* cache.getOrSet("k", Effect.succeed("new")), "old")
      yield* settle
      assert.deepStrictEqual(yield* cache.get("k"), Option.some("new"))
    }).pipe(Effect.provide(layerTest)))

  it.effect("a codec or a function of the definition that throws harms nobody else", () =>
    Effect.gen(function*() {
      const cache = yield* Cache.open(text("throws", {
        codec: {
          encode: (json) => Buffer.from(json),
          decode: () => {
            throw new Error("broken")
          }
        }
      }))
      yield* cache.set("k", "1")
      assert.deepStrictEqual(yield* cache.get("k"), Option.none())
      assert.strictEqual((yield* cache.stats).redis.undecodable, 1)
      const tagged = yield* Cache.open(text("throws-tags", {
        tags: () => {
          throw new Error("broken")
        }
      }))
      assert.isTrue((yield* Effect.exit(tagged.getOrSet("k", Effect.succeed("1"))))._tag === "Failure")
      const client = yield* RedisClient
      assert.strictEqual(yield* client.exists("cache:throws-tags:e:k"), 0)
    }).pipe(Effect.provide(layerTest)))
})

describe("Cache, when the server is away", () => {
  const fast = quiet(Layer.provideMerge(Cache.layer, layerWith({ commandTimeout: "200 millis" })))

  it.effect("getOrSet runs the lookup after one command timeout, and then at once", () =>
    Effect.gen(function*() {
      const server = yield* RedisTestServer
      const cache = yield* Cache.open(text("down"))
      const strict = yield* Cache.open(text("strict", { onUnavailable: "fail" }))
      yield* cache.set("warm", "1")
      yield* server.disconnect({ downtime: "1 hour" })
      const first = yield* Effect.fork(cache.getOrSet("k", Effect.succeed("looked up")))
      yield* TestClock.adjust("199 millis")
      assert.deepStrictEqual(yield* Fiber.poll(first), Option.none())
      yield* TestClock.adjust("2 millis")
      assert.strictEqual(yield* Fiber.join(first), "looked up")
      // No time passes for these.
      for (let i = 0; i < 100; i++) {
        assert.strictEqual(yield* cache.getOrSet(`${i}`, Effect.succeed("at once")), "at once")
      }
      assert.strictEqual((yield* error(cache.get("k")))._tag, "RedisConnectionError")
      assert.strictEqual((yield* error(strict.getOrSet("k", Effect.succeed("no"))))._tag, "RedisConnectionError")
      assert.strictEqual((yield* cache.stats).redis.unavailable, 102)
      // One at a time looks whether it is back.
      yield* TestClock.adjust("1 second")
      const probe = yield* Effect.fork(cache.getOrSet("probe", Effect.succeed("probe")))
      yield* settle
      assert.strictEqual(yield* cache.getOrSet("other", Effect.succeed("other")), "other")
      yield* TestClock.adjust("200 millis")
      assert.strictEqual(yield* Fiber.join(probe), "probe")
    }).pipe(Effect.provide(fast)))

  it.effect("what is near is still there, but only when the server can't be asked", () =>
    Effect.gen(function*() {
      const server = yield* RedisTestServer
      const other = yield* inMemory(Cache.make)
      const Near = text("near-down", { near: { capacity: 10, ttl: "10 minutes" } })
      const cache = yield* Cache.open(Near)
      const writer = yield* other.service.open(Near)
      yield* ready(cache, "warm")
      yield* cache.set("k", "1")
      yield* cache.get("k")
      assert.deepStrictEqual(yield* sent(cache.get("k")), [])
      // Cut, and back at once: what was missed meanwhile is not served.
      yield* server.disconnect()
      yield* writer.set("k", "2")
      const read = yield* Effect.fork(cache.get("k"))
      yield* TestClock.adjust("1 second")
      assert.deepStrictEqual(yield* Fiber.join(read), Option.some("2"))
      yield* TestClock.adjust("5 seconds")
      yield* cache.get("k")
      assert.deepStrictEqual(yield* sent(cache.get("k")), [])
      yield* server.disconnect({ downtime: "1 hour" })
      const first = yield* Effect.fork(cache.getOrSet("k", Effect.succeed("looked up")))
      yield* TestClock.adjust("200 millis")
      assert.strictEqual(yield* Fiber.join(first), "2")
      assert.deepStrictEqual(yield* cache.get("k"), Option.some("2"))
      assert.deepStrictEqual(yield* cache.getMany(["k"]), [Option.some("2")])
      // What is looked up meanwhile is near, too.
      assert.strictEqual(yield* cache.getOrSet("l", Effect.succeed("first")), "first")
      assert.strictEqual(yield* cache.getOrSet("l", Effect.succeed("second")), "first")
      // Until its time is over.
      yield* TestClock.adjust("10 minutes")
      const late = yield* Effect.fork(cache.getOrSet("k", Effect.succeed("looked up")))
      yield* TestClock.adjust("200 millis")
      assert.strictEqual(yield* Fiber.join(late), "looked up")
    }).pipe(Effect.scoped, Effect.provide(fast)))

  it.effect("a server that goes away while a lookup runs costs nothing but the storing", () =>
    Effect.gen(function*() {
      const server = yield* RedisTestServer
      const cache = yield* Cache.open(text("midway"))
      const go = yield* Deferred.make<string>()
      const fiber = yield* Effect.fork(cache.getOrSet("k", Deferred.await(go)))
      yield* settle
      yield* server.disconnect({ downtime: "1 hour" })
      yield* Deferred.succeed(go, "found")
      yield* TestClock.adjust("200 millis")
      assert.strictEqual(yield* Fiber.join(fiber), "found")
    }).pipe(Effect.provide(fast)))

  for (const fault of ["loading", "read-only", "out-of-memory"] as const) {
    it.effect(`a server that is ${fault} is no reason to fail, and no outage`, () =>
      Effect.gen(function*() {
        const server = yield* RedisTestServer
        const cache = yield* Cache.open(text(fault))
        yield* settle
        yield* cache.get("warm")
        yield* server.become(fault)
        const fiber = yield* Effect.fork(cache.getOrSet("k", Effect.succeed("found")))
        yield* TestClock.adjust("1 second")
        assert.strictEqual(yield* Fiber.join(fiber), "found")
        yield* server.become("normal")
        assert.strictEqual(yield* cache.getOrSet("k", Effect.succeed("again")), "again")
        assert.deepStrictEqual(yield* cache.get("k"), Option.some("again"))
      }).pipe(Effect.provide(fast)))
  }

  it.effect("a lease whose reply is lost is given back", () =>
    Effect.gen(function*() {
      const server = yield* RedisTestServer
      const cache = yield* Cache.open(text("lost-lease"))
      yield* ready(cache, "warm")
      yield* server.inject(Fault.loseReply({ command: "SET" }))
      const fiber = yield* Effect.fork(cache.getOrSet("k", Effect.succeed("found")))
      yield* TestClock.adjust("1 second")
      assert.strictEqual(yield* Fiber.join(fiber), "found")
      const client = yield* RedisClient
      assert.strictEqual(yield* client.exists("cache:lost-lease:e:k"), 0)
    }).pipe(Effect.provide(fast)))
})

describe("Cache, where the server does not tell what changes", () => {
  const setup = (name: string) =>
    Effect.gen(function*() {
      const server = yield* RedisTestServer
      yield* server.inject(NO_TRACKING)
      const other = yield* inMemory(Cache.make)
      const Users = text(name, { ...near, tags: (value) => [value.slice(0, 1)] })
      const cache = yield* Cache.open(Users)
      const writer = yield* other.service.open(Users)
      yield* cache.get("k")
      yield* writer.get("k")
      yield* TestClock.adjust("3 seconds")
      return { server, cache, writer }
    })

  it.effect("writes publish what they change", () =>
    Effect.gen(function*() {
      const { cache, writer } = yield* setup("publish")
      const isNear = Effect.map(sent(cache.get("k")), (names) => names.length === 0)
      for (
        const [write, after] of [
          [writer.set("k", "a2"), Option.some("a2")],
          [writer.setMany([["k", "a3"], ["l", "a"]]), Option.some("a3")],
          [writer.delete("k"), Option.none()],
          [writer.deleteMany(["k", "l"]), Option.none()],
          [Effect.asVoid(writer.take("k")), Option.none()],
          [writer.invalidateTags("a"), Option.none()],
          [writer.clear, Option.none()],
          [Effect.asVoid(writer.clearPattern("k*")), Option.none()]
        ] as const
      ) {
        yield* cache.set("k", "a1")
        yield* settle
        yield* cache.get("k")
        assert.isTrue(yield* isNear)
        yield* write
        yield* settle
        assert.deepStrictEqual(yield* cache.get("k"), after)
      }
      // A lookup of another process is told of as well.
      yield* cache.delete("k")
      const go = yield* Deferred.make<string>()
      const theirs = yield* Effect.fork(writer.getOrSet("k", Deferred.await(go)))
      yield* settle
      const ours = yield* Effect.fork(cache.getOrSet("k", Effect.die("not asked for")))
      yield* TestClock.adjust("500 millis")
      yield* Deferred.succeed(go, "a9")
      yield* settle
      // Without any time passing.
      assert.strictEqual(yield* Fiber.join(ours), "a9")
      assert.strictEqual(yield* Fiber.join(theirs), "a9")
    }).pipe(Effect.scoped, Effect.provide(layerTest)))

  it.effect("nothing is served from near when messages do not arrive", () =>
    Effect.gen(function*() {
      const { cache, server, writer } = yield* setup("deaf")
      yield* cache.set("k", "a1")
      yield* settle
      yield* cache.get("k")
      assert.deepStrictEqual(yield* sent(cache.get("k")), [])
      yield* server.inject(Fault.reply("ERR unknown command", { command: "PUBLISH", times: 1000 }))
      yield* TestClock.adjust("4 seconds")
      yield* writer.set("k", "a2")
      assert.deepStrictEqual(yield* cache.get("k"), Option.some("a2"))
      assert.deepStrictEqual(yield* sent(cache.get("k")), ["GET", "EVALSHA"])
    }).pipe(Effect.scoped, Effect.provide(layerTest)))
})

/** A process to which the replies of reads are on their way for a second. */
const slowReads = Effect.gen(function*() {
  const client = yield* RedisClient
  const slow = <A, E>(effect: Effect.Effect<A, E>) => Effect.zipLeft(effect, Effect.sleep("1 second"))
  return yield* Effect.provideService(Cache.make, RedisClient, {
    ...client,
    getBytes: (key) => slow(client.getBytes(key)),
    sendBytes: (...args) => slow(client.sendBytes(...args))
  })
})

const timed = <A, E>(effect: Effect.Effect<A, E>) =>
  Effect.gen(function*() {
    const fiber = yield* Effect.fork(effect)
    yield* TestClock.adjust("2 seconds")
    return yield* Fiber.join(fiber)
  })

describe("Cache, while reads are under way", () => {
  for (
    const [what, prepare] of [
      ["can't be read", Effect.flatMap(RedisClient, (client) => client.set("cache:overtaken:e:k", "foreign"))],
      [
        "is not valid any more",
        Effect.gen(function*() {
          const cache = yield* Cache.open(text("overtaken"))
          yield* cache.set("k", "old", { tags: ["tag"] })
          yield* cache.invalidateTags("tag")
        })
      ],
      [
        "is stale",
        Effect.gen(function*() {
          const cache = yield* Cache.open(text("overtaken", { grace: "1 hour" }))
          yield* cache.set("k", "old", { ttl: 1 })
          yield* TestClock.adjust(10)
        })
      ]
    ] as const
  ) {
    it.effect(`something newer is not replaced by a lookup for what ${what}`, () =>
      Effect.gen(function*() {
        yield* prepare
        const cache = yield* Effect.flatMap(
          slowReads,
          (service) => service.open(text("overtaken", { grace: "1 hour" }))
        )
        const writer = yield* Effect.flatMap(inMemory(Cache.make), ({ service }) => service.open(text("overtaken")))
        const lookups: Array<string> = []
        const read = yield* Effect.fork(cache.getOrSet(
          "k",
          Effect.sync(() => {
            lookups.push("ran")
            return "looked up"
          })
        ))
        yield* TestClock.adjust("500 millis")
        yield* writer.set("k", "new")
        yield* TestClock.adjust("5 seconds")
        yield* Fiber.join(read)
        assert.deepStrictEqual(lookups, [])
        assert.deepStrictEqual(yield* writer.get("k"), Option.some("new"))
      }).pipe(Effect.scoped, Effect.provide(layerTest)))
  }

  for (const form of ["get", "getMany", "getOrSet"] as const) {
    it.effect(`what was read before a write does not stay near: ${form}`, () =>
      Effect.gen(function*() {
        const service = yield* slowReads
        const other = yield* inMemory(Cache.make)
        const Near = text("in-flight", near)
        const cache = yield* service.open(Near)
        const writer = yield* other.service.open(Near)
        yield* writer.set("k", "old")
        // It listens, and reads stay near.
        yield* timed(cache.get("warm"))
        yield* timed(cache.get("k"))
        assert.deepStrictEqual(yield* cache.get("k"), Option.some("old"))
        yield* writer.set("k", "older")
        yield* settle
        const reading: Effect.Effect<unknown, unknown> = form === "get"
          ? cache.get("k")
          : form === "getMany"
          ? cache.getMany(["k"])
          : cache.getOrSet("k", Effect.succeed("looked up"))
        const read = yield* Effect.fork(reading)
        yield* TestClock.adjust("500 millis")
        yield* writer.set("k", "new")
        yield* TestClock.adjust("600 millis")
        yield* Fiber.join(read)
        assert.deepStrictEqual(yield* timed(cache.get("k")), Option.some("new"))
      }).pipe(Effect.scoped, Effect.provide(layerTest)))
  }
})

describe("Cache, observed", () => {
  it.effect("makes one span for an operation that asks the server, and counts exactly", () =>
    Effect.gen(function*() {
      const spans = yield* Spans.Spans
      const cache = yield* Cache.open(text("observed", { ttl: "1 minute", grace: "1 hour", near: { capacity: 2 } }))
      yield* cache.set("warm", "")
      yield* TestClock.adjust("10 millis")
      yield* cache.getOrSet("a", Effect.succeed("1"))
      yield* cache.get("a")
      yield* cache.get("a")
      yield* cache.getMany(["a", "b", "c"])
      yield* cache.setMany([["b", "1"], ["c", "2"]])
      yield* cache.getMany(["a", "b", "c"])
      yield* Effect.ignore(cache.getOrSet("f", Effect.fail("no")))
      yield* TestClock.adjust("61 seconds")
      yield* cache.getOrSet("a", Effect.succeed("2"))
      yield* settle
      assert.deepStrictEqual(yield* cache.stats, {
        near: { hits: 3, misses: 8, evictions: 1, size: 2, bytes: 66 },
        redis: { hits: 3, misses: 4, stale: 1, unavailable: 0, undecodable: 0 },
        lookups: { succeeded: 2, failed: 1, refused: 0 }
      })
      const all = (yield* spans.all).filter(({ name }) => name.startsWith("cache."))
      assert.deepStrictEqual(all.map(({ name }) => name), [
        "cache.set",
        "cache.getOrSet",
        "cache.get",
        "cache.getMany",
        "cache.setMany",
        "cache.getMany",
        "cache.getOrSet",
        "cache.getOrSet"
      ])
      for (const { attributes } of all) assert.strictEqual(attributes.get("effect_redis.cache.name"), "observed")
      const snapshot = yield* Metric.snapshot
      const counted = snapshot.flatMap(({ metricKey, metricState }) =>
        metricKey.tags.some(({ key, value }) => key === "cache" && value === "observed")
          ? [
            [
              metricKey.name,
              metricKey.tags.filter(({ key }) => key !== "cache").map(({ value }) => value).sort().join(" "),
              (metricState as unknown as { readonly count: number }).count
            ].join(" ").trim().replace("  ", " ")
          ]
          : []
      ).filter((line) => !line.endsWith(" 0"))
      assert.deepStrictEqual(counted.sort(), [
        "effect_redis_cache_evictions_total 1",
        "effect_redis_cache_loads_total failed 1",
        "effect_redis_cache_loads_total ok 2",
        "effect_redis_cache_requests_total hit near 3",
        "effect_redis_cache_requests_total hit redis 3",
        "effect_redis_cache_requests_total miss near 8",
        "effect_redis_cache_requests_total miss redis 4",
        "effect_redis_cache_requests_total redis stale 1"
      ])
    }).pipe(Effect.provide(layerTest), Effect.provide(Spans.layer)))

  it.effect("makes one span for a call that asks again, because the lookup that it has joined found nothing", () =>
    Effect.gen(function*() {
      const spans = yield* Spans.Spans
      for (const options of [{}, { near: { capacity: 2 } }]) {
        const cache = yield* Cache.open(text(`again ${Object.keys(options).length}`, options))
        yield* ready(cache, "warm")
        const before = (yield* spans.all).length
        const none = yield* Effect.fork(cache.getOrSetOption("k", Effect.delay(Effect.succeedNone, "1 second")))
        yield* Effect.yieldNow()
        const some = yield* Effect.fork(cache.getOrSet("k", Effect.succeed("1")))
        yield* settle
        yield* TestClock.adjust("2 seconds")
        assert.deepStrictEqual([yield* Fiber.join(none), yield* Fiber.join(some)], [Option.none(), "1"])
        const all = (yield* spans.all).slice(before).map(({ name }) => name)
        assert.deepStrictEqual(all.filter((name) => name.startsWith("cache.")).sort(), [
          "cache.getOrSet",
          "cache.getOrSetOption"
        ])
      }
    }).pipe(Effect.provide(layerTest), Effect.provide(Spans.layer)))

  it.effect("is over with its scope: no key, connection, subscription or timer stays", () =>
    Effect.gen(function*() {
      const server = yield* RedisTestServer
      const before = yield* server.connections
      const process = yield* inMemory(Cache.make)
      const cache = yield* process.service.open(text("over", near))
      yield* cache.get("k")
      yield* TestClock.adjust("10 millis")
      const fiber = yield* Effect.fork(Effect.exit(cache.getOrSet("k", Effect.never)))
      yield* settle
      yield* process.die
      yield* Fiber.join(fiber)
      yield* TestClock.adjust("2 minutes")
      assert.strictEqual(yield* server.connections, before)
      assert.deepStrictEqual(yield* server.subscriptions, [])
      assert.deepStrictEqual(Array.from(yield* TestClock.sleeps()), [])
      const client = yield* RedisClient
      const keys = yield* Stream.runCollect(client.scan())
      assert.deepStrictEqual(Array.from(keys), ["cache:over:tags"])
    }).pipe(Effect.scoped, Effect.provide(layerTest)))
})

const Interrupted = Cache.define({
  name: "interrupted",
  key: Schema.String,
  value: Schema.Number,
  ttl: "50 millis",
  lease: "1 hour",
  tags: () => ["all"],
  near: { capacity: 10 }
})

const withCache = <A, E>(use: (cache: Cache.Handle<string, number>) => Effect.Effect<A, E>) =>
  Effect.flatMap(Cache.open(Interrupted), use)

interruptions({
  layer: Cache.layer,
  // Leases and entries. What is left of entries ends by itself.
  keys: "cache:interrupted:e:lease",
  forms: {
    getOrSet: (name) => withCache((cache) => cache.getOrSet(`lease-${name}`, Effect.fail("nothing to store"))),
    "getOrSet, slowly": (name) =>
      withCache((cache) =>
        cache.getOrSet(`lease-${name}`, Effect.zipRight(Effect.sleep("2 millis"), Effect.fail("no")))
      ),
    "set, delete and tags": (name) =>
      withCache((cache) =>
        cache.set(name, 1).pipe(
          Effect.zipRight(cache.get(name)),
          Effect.zipRight(cache.invalidateTags("all")),
          Effect.zipRight(cache.delete(name))
        )
      )
  },
  competitor: (name) => withCache((cache) => Effect.ignore(cache.getOrSet(`lease-${name}`, Effect.fail("no"))))
})
