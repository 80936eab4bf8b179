import { assert, describe, it } from "@effect/vitest"
import {
  Clock,
  Context,
  Duration,
  Effect,
  Either,
  Exit,
  FastCheck,
  Fiber,
  Layer,
  Metric,
  Option,
  Scope,
  TestClock
} from "effect"
import { lockAcquired, lockNotAcquired, locksLost } from "../../src/internal/metrics.js"
import * as Quorum from "../../src/Quorum/index.js"
import * as scripts from "../../src/Quorum/scripts.js"
import { RedisClient } from "../../src/RedisClient.js"
import { RedisConnectionError } from "../../src/RedisError.js"
import * as RedisTestServer from "../../src/RedisTestServer.js"
import { layer as spans, Spans } from "../kit/spans.js"

/** What a process of its own has on the servers of the test. */
const process = (options?: Quorum.LayerOptions) =>
  Effect.gen(function*() {
    const servers = yield* Quorum.TestServers
    const scope = yield* Scope.make()
    const clients = yield* Scope.extend(Effect.forEach(servers, (server) => server.client()), scope)
    const quorum = yield* Scope.extend(Effect.orDie(Quorum.make(clients, options)), scope)
    return { quorum, die: Scope.close(scope, Exit.void) }
  })

const keysOn = (server: RedisTestServer.Service) =>
  Effect.map(server.keys, (keys) => keys.map(({ key }) => key).filter((key) => !key.endsWith(":fence")))

/** On how many servers a lock of any name is held. */
const votes = Effect.flatMap(
  Quorum.TestServers,
  (servers) =>
    Effect.map(
      Effect.forEach(servers, keysOn),
      (keys) => keys.filter((each) => each.length > 0).length
    )
)

/** From now on it takes commands and does nothing, for a while. */
const hang = (server: RedisTestServer.Service, duration: Duration.DurationInput) =>
  server.inject({ _tag: "delay", duration })

/** Lets everything run that needs no time. */
const settle = TestClock.adjust(0)

const evals = (server: RedisTestServer.Service) =>
  Effect.map(server.journal, (entries) => entries.filter(({ args }) => args[0]!.startsWith("EVAL")).length)

describe("Quorum on virtual time", () => {
  it.effect("gives out tokens that count from one when the clock stands at zero", () =>
    Effect.gen(function*() {
      for (let expected = 1; expected < 5; expected++) {
        const token = yield* Effect.scoped(Effect.map(Quorum.acquire("zero"), (held) => held.fencingToken))
        assert.strictEqual(token, expected)
      }
    }).pipe(Effect.provide(Quorum.layerTest)))

  it.effect("nobody waits for a node that hangs, and that one keeps nothing", () =>
    Effect.gen(function*() {
      const servers = yield* Quorum.TestServers
      yield* hang(servers[0]!, "3 seconds")
      yield* hang(servers[3]!, "3 seconds")
      yield* Effect.gen(function*() {
        const held = yield* Quorum.acquire("hanging")
        yield* held.extend("20 seconds")
        assert.isTrue(yield* held.release)
        assert.strictEqual(yield* Quorum.withLock(Effect.succeed(1), "hanging"), 1)
        assert.deepStrictEqual(
          yield* Quorum.withLock(Quorum.tryAcquire("hanging"), "hanging").pipe(Effect.map(Option.isSome)),
          true
        )
      }).pipe(Effect.scoped)
      // All of that took no time.
      assert.strictEqual(yield* Clock.currentTimeMillis, 0)
      assert.strictEqual(yield* evals(servers[0]!), 0)
      yield* TestClock.adjust("3 seconds")
      assert.isAbove(yield* evals(servers[0]!), 0)
      assert.strictEqual(yield* votes, 0)
      yield* TestClock.adjust("1 minute")
      assert.strictEqual(yield* votes, 0)
    }).pipe(Effect.provide(Quorum.layerTest)))

  it.effect("somebody else has it: that is clear without the node that hangs", () =>
    Effect.gen(function*() {
      const servers = yield* Quorum.TestServers
      const other = yield* process()
      yield* Quorum.acquire("clear")
      yield* settle
      yield* hang(servers[4]!, "1 hour")
      // The command that hangs is one of the other process.
      const failure = yield* Effect.flip(Effect.scoped(other.quorum.acquire("clear", { waitTimeout: 0 })))
      assert.strictEqual(failure._tag, "LockNotAcquired")
      assert.strictEqual(yield* Clock.currentTimeMillis, 0)
      yield* other.die
    }).pipe(Effect.scoped, Effect.provide(Quorum.layerTest)))

  it.effect("works with two of five nodes down, also for longer than the lease", () =>
    Effect.gen(function*() {
      const servers = yield* Quorum.TestServers
      const other = yield* process()
      for (const server of servers.slice(0, 2)) yield* server.disconnect({ downtime: "1 hour" })
      const held = yield* Quorum.acquire("two-down", { lease: "3 seconds" })
      for (let i = 0; i < 20; i++) {
        yield* TestClock.adjust("1 second")
        assert.isTrue(yield* held.isHeld)
        assert.isTrue(Option.isNone(yield* other.quorum.tryAcquire("two-down")))
      }
      yield* held.extend("5 seconds")
      assert.isTrue(yield* held.release)
      assert.strictEqual(yield* Quorum.withLock(Effect.succeed(1), "two-down"), 1)
      assert.strictEqual(yield* votes, 0)
      yield* TestClock.adjust("1 hour")
      assert.strictEqual(yield* votes, 0)
      yield* other.die
    }).pipe(Effect.scoped, Effect.provide(Quorum.layerTest)))

  it.effect("two down and one that hangs: says of each what is wrong, in time, and leaves nothing", () =>
    Effect.gen(function*() {
      const servers = yield* Quorum.TestServers
      for (const server of servers.slice(0, 2)) yield* server.disconnect({ downtime: "2 seconds" })
      yield* hang(servers[2]!, "4 seconds")
      const fiber = yield* Effect.fork(
        Effect.flip(Effect.scoped(Quorum.acquire("short", { lease: "1 minute", waitTimeout: 0 })))
      )
      yield* TestClock.adjust("499 millis")
      assert.isTrue(Option.isNone(yield* Fiber.poll(fiber)))
      yield* TestClock.adjust("1 millis")
      const failure = yield* Fiber.join(fiber)
      assert(failure._tag === "QuorumNotReached")
      const { failed, granted, held, isRetryable, key, nodes, operation, required } = failure
      assert.deepStrictEqual({ granted, held, isRetryable, key, nodes, operation, required }, {
        granted: 2,
        held: 0,
        isRetryable: true,
        key: "short",
        nodes: 5,
        operation: "acquire",
        required: 3
      })
      assert.deepStrictEqual(
        failed.map(({ error, node, target }) => [node, target, error._tag]),
        [
          [0, "memory", "RedisConnectionError"],
          [1, "memory", "RedisConnectionError"],
          [2, "memory", "RedisOutcomeUnknownError"]
        ]
      )
      assert.include(failure.message, "2 of 5 nodes agreed, 3 must")
      assert.include(failure.message, "node 2 (memory)")
      // The two that had voted have forgotten it, and so do the others as soon as they can.
      assert.strictEqual(yield* votes, 0)
      yield* TestClock.adjust("10 seconds")
      assert.strictEqual(yield* votes, 0)
      assert.isAbove(yield* evals(servers[0]!), 0)
      assert.isAbove(yield* evals(servers[2]!), 0)
    }).pipe(Effect.provide(Quorum.layerTest)))

  it.effect("waits for failed nodes as it waits for holders, and gives up at waitTimeout", () =>
    Effect.gen(function*() {
      const servers = yield* Quorum.TestServers
      for (const server of servers.slice(0, 3)) yield* server.disconnect({ downtime: "5 seconds" })
      const early = yield* Effect.fork(
        Effect.flip(Effect.scoped(Quorum.acquire("later", { waitTimeout: "3 seconds" })))
      )
      const late = yield* Effect.fork(Quorum.withLock(Effect.succeed("served"), "later", { waitTimeout: "20 seconds" }))
      yield* TestClock.adjust("2900 millis")
      assert.isTrue(Option.isNone(yield* Fiber.poll(early)))
      // A last fraction of a millisecond is rounded up.
      yield* TestClock.adjust("101 millis")
      assert.strictEqual((yield* Fiber.join(early))._tag, "QuorumNotReached")
      yield* TestClock.adjust("4 seconds")
      assert.strictEqual(yield* Fiber.join(late), "served")
      assert.strictEqual(yield* votes, 0)
    }).pipe(Effect.provide(Quorum.layerTest)))

  it.effect("does not wait for nodes that will never vote", () =>
    Effect.gen(function*() {
      const servers = yield* Quorum.TestServers
      const denied = "NOPERM this user has no permissions to run the 'evalsha' command"
      for (const server of servers.slice(0, 3)) yield* server.inject({ _tag: "reply", error: denied, times: 2 })
      const failure = yield* Effect.flip(Effect.scoped(Quorum.acquire("denied", { waitTimeout: Infinity })))
      assert(failure._tag === "QuorumNotReached")
      assert.isFalse(failure.isRetryable)
      assert.isTrue(failure.failed.every(({ error }) => error._tag === "RedisReplyError"))
      assert.strictEqual(yield* votes, 0)
    }).pipe(Effect.provide(Quorum.layerTest)))

  it.effect("nodes that are slower than the lease give no lock", () =>
    Effect.gen(function*() {
      const { die, quorum } = yield* process({ nodeTimeout: "1 minute" })
      const servers = yield* Quorum.TestServers
      for (const server of servers.slice(0, 3)) yield* hang(server, "2 seconds")
      const fiber = yield* Effect.fork(
        Effect.flip(Effect.scoped(quorum.acquire("slow", { lease: "2 seconds", waitTimeout: 0 })))
      )
      yield* TestClock.adjust("1979 millis")
      const failure = yield* Fiber.join(fiber)
      assert(failure._tag === "QuorumNotReached")
      yield* TestClock.adjust("10 seconds")
      assert.strictEqual(yield* votes, 0)
      // Slow, but in time: what is left of the lease is what counts.
      for (const server of servers.slice(0, 3)) yield* hang(server, "1 second")
      const taking = yield* Effect.fork(quorum.acquire("slow", { lease: "2 seconds", renew: false }))
      yield* TestClock.adjust("1 second")
      const held = yield* Fiber.join(taking)
      assert.isAtMost(Duration.toMillis(yield* held.remaining), 978)
      yield* TestClock.adjust("978 millis")
      assert.isFalse(yield* held.isHeld)
      yield* die
    }).pipe(Effect.scoped, Effect.provide(Quorum.layerTest)))

  it.live("a process that was paused for longer than the lease has no lock", () =>
    Effect.gen(function*() {
      const servers = yield* Quorum.TestServers
      const { die, quorum } = yield* process({ nodeTimeout: "1 minute" })
      for (const server of servers) yield* hang(server, "10 millis")
      const fiber = yield* Effect.fork(
        Effect.flip(Effect.scoped(quorum.acquire("paused", { lease: "40 millis", waitTimeout: 0 })))
      )
      yield* Effect.yieldNow()
      yield* Effect.sync(() => {
        const end = performance.now() + 100
        while (performance.now() < end);
      })
      const failure = yield* Fiber.join(fiber)
      assert(failure._tag === "QuorumNotReached")
      assert.strictEqual(failure.granted, 0)
      yield* die
    }).pipe(Effect.provide(Quorum.layerTest)))

  it.effect("the replies to the acquisition are lost: the same call gets the lock", () =>
    Effect.gen(function*() {
      const servers = yield* Quorum.TestServers
      yield* Effect.scoped(Quorum.acquire("warm"))
      for (const server of servers) yield* server.inject({ _tag: "lose-reply", command: scripts.acquire.sha })
      const fiber = yield* Effect.fork(Quorum.acquire("lost", { waitTimeout: 0 }))
      yield* TestClock.adjust("500 millis")
      const held = yield* Fiber.join(fiber)
      assert.strictEqual(yield* votes, 5)
      for (const server of servers) yield* server.inject({ _tag: "lose-reply", command: scripts.release.sha })
      const releasing = yield* Effect.fork(held.release)
      yield* TestClock.adjust("500 millis")
      // The second release finds nothing any more.
      yield* Effect.exit(Fiber.join(releasing))
      assert.strictEqual(yield* votes, 0)
      yield* TestClock.adjust("1 minute")
      const next = yield* Quorum.acquire("lost", { waitTimeout: 0 })
      yield* TestClock.adjust("1 minute")
      assert.isTrue(yield* next.isHeld)
    }).pipe(Effect.scoped, Effect.provide(Quorum.layerTest)))

  it.effect("what arrives after the release changes nothing", () =>
    Effect.gen(function*() {
      const [server] = yield* Quorum.TestServers
      const client = yield* server!.client()
      const owner = (owner: string, token: number) => ({ keys: scripts.keysOf("late"), owner, token })
      const answer = (reply: scripts.Answer) => reply._tag
      const late = owner("late:1/0", 10)
      assert.isFalse(yield* client.eval(scripts.release, late))
      assert.strictEqual(answer(yield* client.eval(scripts.acquire, late, 1000)), "Stale")
      assert.isFalse(yield* client.eval(scripts.renew, late, 1000))
      assert.deepStrictEqual(yield* keysOn(server!), [])
      // In the right order, twice each.
      const next = owner("next:1/0", 11)
      for (let i = 0; i < 2; i++) {
        assert.strictEqual(answer(yield* client.eval(scripts.acquire, next, 1000)), "Granted")
        assert.isTrue(yield* client.eval(scripts.renew, next, 1000))
        assert.isFalse(yield* client.eval(scripts.renew, late, 1000))
        assert.isFalse(yield* client.eval(scripts.release, late))
      }
      assert.isTrue(yield* client.eval(scripts.release, next))
      assert.isFalse(yield* client.eval(scripts.release, next))
      assert.isFalse(yield* client.eval(scripts.renew, next, 1000))
      assert.strictEqual(answer(yield* client.eval(scripts.acquire, next, 1000)), "Stale")
      // Who let the lease end, and has not given it back, may have it again until somebody else does.
      const third = owner("third:1/0", 12)
      assert.strictEqual(answer(yield* client.eval(scripts.acquire, third, 1000)), "Granted")
      yield* TestClock.adjust("2 seconds")
      assert.isTrue(yield* client.eval(scripts.renew, third, 1000))
      yield* TestClock.adjust("2 seconds")
      assert.strictEqual(answer(yield* client.eval(scripts.acquire, owner("same:1/0", 12), 1000)), "Stale")
      assert.strictEqual(answer(yield* client.eval(scripts.acquire, owner("fourth:1/0", 13), 1000)), "Granted")
      yield* TestClock.adjust("2 seconds")
      assert.isFalse(yield* client.eval(scripts.renew, third, 1000))
      // A holder's key is there, and a release with a larger token does not make its fence smaller or shorter.
      const fence = Option.getOrThrow(yield* client.get(scripts.keysOf("late")[1]!))
      assert.strictEqual(fence, "13 fourth:1/0")
    }).pipe(Effect.scoped, Effect.provide(Quorum.layerTest)))

  it.effect("a token of no clock is refused as nonsense, not counted up", () =>
    Effect.gen(function*() {
      const servers = yield* Quorum.TestServers
      const set = (n: number, value: string) =>
        Effect.forEach(servers.slice(0, n), (server) =>
          Effect.flatMap(server.client(), (client) => client.set(scripts.keysOf("nonsense")[1]!, value)))
      for (const value of ["9007199254740992", "no number", "99999999999999999999 x:1"]) {
        yield* set(3, value)
        const failure = yield* Effect.flip(Quorum.acquire("nonsense", { waitTimeout: Infinity }))
        assert(failure._tag === "QuorumNotReached")
        yield* set(2, value)
      }
      yield* Effect.forEach(servers.slice(0, 1), (server) =>
        Effect.flatMap(server.client(), (client) =>
          client.del(scripts.keysOf("nonsense")[1]!)))
      const held = yield* Quorum.acquire("nonsense", { waitTimeout: 0 })
      assert.isBelow(held.fencingToken, 100)
    }).pipe(Effect.scoped, Effect.provide(Quorum.layerTest)))

  it.effect("learns from nodes how far other clocks are ahead, once", () =>
    Effect.gen(function*() {
      const servers = yield* Quorum.TestServers
      const take = Effect.scoped(Effect.map(Quorum.acquire("ahead"), (held) => held.fencingToken))
      yield* take
      for (const server of servers) {
        const client = yield* server.client()
        yield* client.set(scripts.keysOf("ahead")[1]!, "60000000")
      }
      const rounds = Effect.map(
        Effect.flatMap(Effect.sync(() => servers[0]!), (server) => server.journal),
        (entries) => entries.filter(({ args }) => args[1] === scripts.acquire.sha).length
      )
      const before = yield* rounds
      assert.strictEqual(yield* take, 60_000_001)
      assert.strictEqual((yield* rounds) - before, 2)
      yield* TestClock.adjust("1 second")
      // Another process, whose clock is that far ahead, has gone on meanwhile.
      for (const server of servers) {
        const client = yield* server.client()
        yield* client.set(scripts.keysOf("ahead")[1]!, "60999999")
      }
      assert.isAbove(yield* take, 60_999_999)
      assert.strictEqual((yield* rounds) - before, 3)
    }).pipe(Effect.scoped, Effect.provide(Quorum.layerTest)))

  it.effect("renewals that fail are no loss before the deadline, and then it is one", () =>
    Effect.gen(function*() {
      const servers = yield* Quorum.TestServers
      const held = yield* Quorum.acquire("renewals", { lease: "9 seconds" })
      const loading = "LOADING Redis is loading the dataset in memory"
      for (const server of servers) yield* server.inject({ _tag: "reply", error: loading, times: 3 })
      yield* TestClock.adjust("8 seconds")
      assert.isTrue(yield* held.isHeld)
      yield* TestClock.adjust("1 minute")
      assert.isTrue(yield* held.isHeld)
      for (const server of servers.slice(0, 3)) yield* server.disconnect({ downtime: "30 seconds" })
      const lost = yield* Effect.fork(Effect.flip(held.lost))
      yield* TestClock.adjust("5 seconds")
      assert.isTrue(yield* held.isHeld)
      const extending = yield* Effect.fork(Effect.flip(held.extend("9 seconds")))
      yield* TestClock.adjust("1 second")
      const failure = yield* Fiber.join(extending)
      assert(failure._tag === "QuorumNotReached")
      assert.strictEqual(failure.operation, "extend")
      assert.strictEqual(failure.granted, 2)
      yield* TestClock.adjust("3 seconds")
      assert.strictEqual((yield* Fiber.join(lost)).reason, "expired")
      const releasing = yield* Effect.fork(Effect.flip(held.release))
      yield* TestClock.adjust("1 second")
      const released = yield* Fiber.join(releasing)
      assert.strictEqual(released.operation, "release")
      yield* TestClock.adjust("1 minute")
      assert.strictEqual(yield* votes, 0)
    }).pipe(Effect.scoped, Effect.provide(Quorum.layerTest)))

  it.effect("the result of the work stays when too few nodes can be told that it is over", () =>
    Effect.gen(function*() {
      const servers = yield* Quorum.TestServers
      const fiber = yield* Effect.fork(Quorum.withLock(
        Effect.as(
          Effect.forEach(servers.slice(0, 3), (server) => server.disconnect({ downtime: "3 seconds" })),
          "done"
        ),
        "given-back"
      ))
      yield* TestClock.adjust("1 second")
      assert.strictEqual(yield* Fiber.join(fiber), "done")
      yield* TestClock.adjust("7 seconds")
      // Well before the lease would have ended.
      assert.strictEqual(yield* votes, 0)
    }).pipe(Effect.provide(Quorum.layerTest)))

  it.effect("a node that comes back after its key has ended votes again with the next renewal", () =>
    Effect.gen(function*() {
      const servers = yield* Quorum.TestServers
      const held = yield* Quorum.acquire("rolling", { lease: "3 seconds" })
      // Each of the five is away for longer than the lease, one after the other.
      for (const server of servers) {
        yield* server.disconnect({ downtime: "10 seconds" })
        yield* TestClock.adjust("12 seconds")
        assert.strictEqual(yield* votes, 5)
      }
      assert.isTrue(yield* held.isHeld)
      assert.isTrue(yield* held.release)
      assert.strictEqual(yield* votes, 0)
    }).pipe(Effect.scoped, Effect.provide(Quorum.layerTest)))

  it.effect("nodes that refused at first are told as well when they have voted since", () =>
    Effect.gen(function*() {
      const servers = yield* Quorum.TestServers
      for (const server of servers.slice(3)) {
        const client = yield* server.client()
        yield* client.set(scripts.keysOf("since")[0]!, "another:1", { ttl: "1 second" })
      }
      const held = yield* Quorum.acquire("since", { lease: "6 seconds" })
      yield* TestClock.adjust("1 second")
      assert.strictEqual(yield* votes, 3)
      yield* TestClock.adjust("2 seconds")
      assert.strictEqual(yield* votes, 5)
      assert.isTrue(yield* held.release)
      assert.strictEqual(yield* votes, 0)
    }).pipe(Effect.scoped, Effect.provide(Quorum.layerTest)))

  it.effect("those of one process take turns, and only the first of them asks", () =>
    Effect.gen(function*() {
      const [server] = yield* Quorum.TestServers
      const { die, quorum } = yield* process()
      const held = yield* Quorum.acquire("line", { lease: "1 minute" })
      const asked = Effect.map(
        server!.journal,
        (entries) => entries.filter(({ args }) => args[1] === scripts.acquire.sha).length
      )
      const served: Array<number> = []
      const fibers: Array<Fiber.RuntimeFiber<Either.Either<number, { readonly _tag: string }>>> = []
      for (let i = 0; i < 60; i++) {
        const work = Effect.sync(() => served.push(i))
        // One in three gives up while it waits.
        const waitTimeout = i % 3 === 0 ? "2 seconds" : "1 minute"
        fibers.push(yield* Effect.fork(Effect.either(quorum.withLock(work, "line", { waitTimeout }))))
        yield* settle
      }
      yield* TestClock.adjust("1 second")
      // The first of them asks ten times a second, more or less, and nobody else does.
      assert.isBelow(yield* asked, 40)
      // Also the first can go, and those in the middle.
      for (const i of [0, 1, 32, 58]) yield* Fiber.interrupt(fibers[i]!)
      yield* TestClock.adjust("1100 millis")
      for (let i = 3; i < 60; i += 3) {
        const result = yield* Fiber.join(fibers[i]!)
        assert(Either.isLeft(result) && result.left._tag === "LockNotAcquired")
      }
      yield* held.release
      for (let i = 0; i < 5; i++) yield* TestClock.adjust("2 seconds")
      const rest = Array.from({ length: 60 }, (_, i) => i).filter((i) => i % 3 !== 0 && ![1, 32, 58].includes(i))
      assert.deepStrictEqual(served, rest)
      yield* die
    }).pipe(Effect.scoped, Effect.provide(Quorum.layerTest)), 60_000)

  it.effect("who waits in line hears that nodes have failed, and not that somebody has the lock", () =>
    Effect.gen(function*() {
      const servers = yield* Quorum.TestServers
      for (const server of servers.slice(0, 3)) yield* server.disconnect({ downtime: "1 hour" })
      const fibers = yield* Effect.replicateEffect(
        Effect.fork(Effect.flip(Effect.scoped(Quorum.acquire("line", { waitTimeout: "1 second" })))),
        3
      )
      yield* TestClock.adjust("1100 millis")
      for (const fiber of fibers) assert.strictEqual((yield* Fiber.join(fiber))._tag, "QuorumNotReached")
    }).pipe(Effect.provide(Quorum.layerTest)))

  it.effect("who loses does not hold on to votes while it waits for a node that is known to be slow", () =>
    Effect.gen(function*() {
      const servers = yield* Quorum.TestServers
      yield* hang(servers[0]!, "2 seconds")
      yield* hang(servers[1]!, "2 seconds")
      const first = yield* Quorum.acquire("slow-nodes", { renew: false })
      yield* TestClock.adjust("500 millis")
      yield* first.release
      // One of the three that answer has another holder.
      const other = yield* servers[2]!.client()
      yield* other.set(scripts.keysOf("slow-nodes")[0]!, "another:1/2", { ttl: "1 minute" })
      const fiber = yield* Effect.fork(Effect.flip(Effect.scoped(Quorum.acquire("slow-nodes", { waitTimeout: 0 }))))
      yield* TestClock.adjust("50 millis")
      const failure = yield* Fiber.join(fiber)
      assert(failure._tag === "QuorumNotReached")
      assert.strictEqual(failure.granted, 2)
      assert.strictEqual(failure.held, 1)
      assert.strictEqual(yield* votes, 1)
      // They are trusted again when they answer, and have their full time.
      yield* TestClock.adjust("3 seconds")
      yield* hang(servers[0]!, "100 millis")
      yield* hang(servers[1]!, "100 millis")
      const late = yield* Effect.fork(Effect.scoped(Quorum.acquire("slow-nodes", { waitTimeout: 0 })))
      yield* TestClock.adjust("100 millis")
      yield* Fiber.join(late)
      yield* settle
      assert.strictEqual(yield* votes, 1)
    }).pipe(Effect.scoped, Effect.provide(Quorum.layerTest)))

  it.effect("every key has a bounded life, and outlives a long lease", () =>
    Effect.gen(function*() {
      const servers = yield* Quorum.TestServers
      const held = yield* Quorum.acquire("bounded", { lease: "3 days", renew: false })
      const day = 86_400_000
      yield* settle
      for (const server of servers) {
        const lives = (yield* server.keys).map(({ key, ttl }) => [key, ttl])
        assert.deepStrictEqual(lives.sort(), [["quorum:{bounded}", 3 * day], ["quorum:{bounded}:fence", 4 * day]])
      }
      yield* held.release
      yield* TestClock.adjust("1 hour")
      for (const server of servers) assert.lengthOf(yield* server.keys, 1)
      yield* TestClock.adjust("1 day")
      for (const server of servers) assert.lengthOf(yield* server.keys, 0)
    }).pipe(Effect.scoped, Effect.provide(Quorum.layerTest)))

  it.effect("a thousand interruptions leave no key, no timer and no fiber", () =>
    Effect.gen(function*() {
      const servers = yield* Quorum.TestServers
      const { die, quorum } = yield* process()
      let seed = 1
      const random = (n: number) => (seed = (seed * 48271) % 2147483647) % n
      for (let batch = 0; batch < 20; batch++) {
        const fibers: Array<Fiber.RuntimeFiber<unknown, unknown>> = []
        yield* hang(servers[random(5)]!, random(300))
        for (let i = 0; i < 50; i++) {
          const at = random(2) === 0 ? yield* Quorum.Quorum : quorum
          const work = at.withLock(
            random(3) === 0 ? Effect.sleep("1 hour") : Effect.yieldNow(),
            `chance-${random(7)}`,
            {
              waitTimeout: random(2) * 2000
            }
          )
          fibers.push(yield* Effect.fork(work))
          for (let n = random(8); n > 0; n--) yield* Effect.yieldNow()
          yield* Fiber.interruptFork(fibers[random(fibers.length)]!)
        }
        if (random(2) === 0) yield* TestClock.adjust(random(40))
        yield* Effect.forEach(fibers, Fiber.interruptFork, { discard: true })
        yield* TestClock.adjust(random(400))
        yield* TestClock.adjust("1 second")
        yield* Effect.forEach(fibers, Fiber.await, { discard: true })
      }
      yield* TestClock.adjust("10 seconds")
      assert.strictEqual(yield* votes, 0)
      const before = yield* Effect.forEach(servers, evals)
      yield* TestClock.adjust("1 hour")
      assert.deepStrictEqual(yield* Effect.forEach(servers, evals), before)
      assert.deepStrictEqual(Array.from(yield* TestClock.sleeps()), [])
      yield* die
    }).pipe(Effect.provide(Quorum.layerTest)), 60_000)

  it.effect("bad options are refused before anything is sent", () =>
    Effect.gen(function*() {
      const servers = yield* Quorum.TestServers
      const before = yield* Effect.forEach(servers, (server) => server.journal)
      for (const options of [{ lease: 0 }, { lease: NaN }, { lease: Infinity }, { waitTimeout: -1 }]) {
        const failure = yield* Effect.flip(Effect.scoped(Quorum.acquire("bad", options)))
        assert.strictEqual(failure._tag, "RedisInputError")
      }
      assert.deepStrictEqual(yield* Effect.forEach(servers, (server) => server.journal), before)
    }).pipe(Effect.provide(Quorum.layerTest)))
})

describe("Quorum, observed", () => {
  it.effect("makes one span for an operation, and counts as locks do", () =>
    Effect.gen(function*() {
      const recorded = yield* Spans
      const other = yield* process()
      const count = (metric: typeof locksLost) => Effect.map(Metric.value(metric), (state) => state.count)
      const read = Effect.all([count(lockAcquired), count(lockNotAcquired), count(locksLost)])
      const before = yield* read
      yield* Quorum.withLock(Effect.void, "observed")
      yield* Quorum.acquire("observed", { lease: "1 second", renew: false })
      yield* other.quorum.tryAcquire("observed")
      yield* TestClock.adjust("2 seconds")
      const after = yield* read
      assert.deepStrictEqual(after.map((n, i) => n - before[i]!), [2, 1, 1])
      const named = (yield* recorded.all).filter(({ name }) => name.startsWith("quorum."))
      assert.deepStrictEqual(named.map(({ name }) => name), ["quorum.withLock", "quorum.acquire", "quorum.tryAcquire"])
      for (const { attributes } of named) assert.strictEqual(attributes.get("effect_redis.lock.name"), "observed")
      yield* other.die
    }).pipe(Effect.scoped, Effect.provide(Layer.merge(Quorum.layerTest, spans))))
})

describe("Quorum.layer", () => {
  const refused = new RedisConnectionError({ target: "node:1", reason: "connect", detail: "refused" })
  const dead = Layer.fail(refused)
  const hangs = Layer.effect(RedisClient, Effect.never)

  it.effect("is there as soon as a majority is, and fails as its nodes do when there can't be one", () =>
    Effect.gen(function*() {
      const up = RedisTestServer.layer
      const one = Quorum.withLock(Effect.succeed(1), "built")
      assert.strictEqual(yield* Effect.provide(one, Quorum.layer([dead, up, up])), 1)
      assert.strictEqual(yield* Effect.provide(one, Quorum.layer([hangs, up, dead, up, up])), 1)
      assert.strictEqual(yield* Effect.provide(one, Quorum.layer([up])), 1)
      for (const nodes of [[dead], [up, dead, dead], [dead, up], [hangs, dead, up, dead, dead]] as const) {
        assert.strictEqual(yield* Effect.flip(Effect.provide(one, Quorum.layer(nodes))), refused)
      }
      const bad = yield* Effect.flip(Effect.provide(one, Quorum.layer([up], { nodeTimeout: 0 })))
      assert.strictEqual(bad._tag, "RedisInputError")
    }))

  it.effect("takes in a node that comes later, and says until then what is wrong with it", () =>
    Effect.gen(function*() {
      const scope = yield* Effect.scope
      const servers = yield* Effect.replicateEffect(Layer.build(Layer.fresh(RedisTestServer.layer)), 3)
      const [a, b, c] = servers.map((context) => Context.get(context, RedisTestServer.RedisTestServer))
      const node = (server: RedisTestServer.Service) => Layer.scoped(RedisClient, server.client())
      let tries = 0
      const late = Layer.unwrapEffect(
        Effect.suspend(() => ++tries < 4 ? Effect.fail(refused) : Effect.succeed(node(c!)))
      )
      const context = yield* Layer.buildWithScope(Quorum.layer([node(a!), late, node(b!)]), scope)
      const quorum = Context.get(context, Quorum.Quorum)
      yield* b!.disconnect({ downtime: "3 seconds" })
      const failing = yield* Effect.fork(Effect.flip(quorum.acquire("late", { waitTimeout: 0 })))
      yield* TestClock.adjust("500 millis")
      const failure = yield* Fiber.join(failing)
      assert(failure._tag === "QuorumNotReached")
      assert.deepStrictEqual(failure.failed.map(({ error, node, target }) => [node, target, error.message]), [
        [1, "node:1", "node:1: refused"],
        [2, "memory", "memory: the connection was lost"]
      ])
      yield* TestClock.adjust("5 seconds")
      assert.strictEqual(tries, 4)
      yield* a!.disconnect({ downtime: "1 hour" })
      yield* quorum.acquire("late", { waitTimeout: 0 })
      assert.lengthOf(yield* keysOn(c!), 1)
    }).pipe(Effect.scoped))
})

// ---------------------------------------------------------------------------------------------------------------------

type Step =
  | {
    readonly _tag: "take"
    readonly process: number
    readonly lease: number
    readonly hold: number
    readonly wait: number
  }
  | { readonly _tag: "interrupt"; readonly fiber: number }
  | { readonly _tag: "pass"; readonly millis: number }
  | { readonly _tag: "disconnect"; readonly node: number; readonly downtime: number }
  | { readonly _tag: "hang"; readonly node: number; readonly millis: number }
  | { readonly _tag: "lose-reply"; readonly node: number; readonly times: number }

const step: FastCheck.Arbitrary<Step> = FastCheck.oneof(
  {
    weight: 8,
    arbitrary: FastCheck.record({
      _tag: FastCheck.constant("take" as const),
      process: FastCheck.nat(2),
      lease: FastCheck.integer({ min: 500, max: 5000 }),
      hold: FastCheck.nat(4000),
      wait: FastCheck.constantFrom(0, 1000, 20_000)
    })
  },
  {
    weight: 3,
    arbitrary: FastCheck.record({ _tag: FastCheck.constant("interrupt" as const), fiber: FastCheck.nat(20) })
  },
  {
    weight: 5,
    arbitrary: FastCheck.record({ _tag: FastCheck.constant("pass" as const), millis: FastCheck.nat(3000) })
  },
  {
    weight: 2,
    arbitrary: FastCheck.record({
      _tag: FastCheck.constant("disconnect" as const),
      node: FastCheck.nat(4),
      downtime: FastCheck.nat(6000)
    })
  },
  {
    weight: 2,
    arbitrary: FastCheck.record({
      _tag: FastCheck.constant("hang" as const),
      node: FastCheck.nat(4),
      millis: FastCheck.nat(3000)
    })
  },
  {
    weight: 2,
    arbitrary: FastCheck.record({
      _tag: FastCheck.constant("lose-reply" as const),
      node: FastCheck.nat(4),
      times: FastCheck.integer({ min: 1, max: 4 })
    })
  }
)

describe("Quorum, whatever happens to whichever node", () => {
  it.effect.prop(
    "has one holder at a time with a larger token each time, fails as it says, and leaves nothing",
    { steps: FastCheck.array(step, { maxLength: 30 }) },
    ({ steps }) =>
      Effect.gen(function*() {
        const servers = yield* Quorum.TestServers
        const processes = [yield* process(), yield* process(), yield* process()]
        // The model: who holds it now, and the largest token that was ever held.
        const inside = new Set<number>()
        let largest = 0
        const fibers: Array<Fiber.RuntimeFiber<Either.Either<unknown, { readonly _tag: string }>>> = []
        for (const step of steps) {
          switch (step._tag) {
            case "take": {
              const { quorum } = processes[step.process]!
              const body = Effect.scoped(Effect.gen(function*() {
                const held = yield* quorum.acquire("one", { lease: step.lease, waitTimeout: step.wait })
                const { fencingToken } = held
                yield* held.protect(Effect.acquireUseRelease(
                  Effect.sync(() => {
                    assert.deepStrictEqual([...inside], [], "two held the lock")
                    assert.isAbove(fencingToken, largest)
                    largest = fencingToken
                    inside.add(fencingToken)
                  }),
                  () => Effect.sleep(step.hold),
                  () => Effect.sync(() => inside.delete(fencingToken))
                ))
              }))
              fibers.push(yield* Effect.fork(Effect.either(body)))
              break
            }
            case "interrupt": {
              const fiber = fibers[step.fiber]
              if (fiber !== undefined) yield* Fiber.interruptFork(fiber)
              break
            }
            case "pass":
              yield* TestClock.adjust(step.millis)
              break
            case "disconnect":
              yield* servers[step.node]!.disconnect({ downtime: step.downtime })
              break
            case "hang":
              yield* hang(servers[step.node]!, step.millis)
              break
            case "lose-reply":
              yield* servers[step.node]!.inject({ _tag: "lose-reply", times: step.times })
              break
          }
        }
        // Long enough for everybody's turn.
        for (let i = 0; i < 2; i++) yield* TestClock.adjust("20 seconds")
        for (const fiber of fibers) {
          const exit = yield* Fiber.await(fiber)
          if (Exit.isFailure(exit)) assert.isTrue(Exit.isInterrupted(exit), String(exit))
          else if (Either.isLeft(exit.value)) {
            assert.include(["LockLost", "LockNotAcquired", "QuorumNotReached"], exit.value.left._tag)
          }
        }
        assert.strictEqual(yield* votes, 0)
        for (const { die } of processes) yield* die
      }).pipe(Effect.provide(Quorum.layerTest)),
    { fastCheck: { numRuns: 40 }, timeout: 120_000 }
  )
})
