/**
 * What needs the clock, a look at the server, or a tracer.
 */
import { assert, describe, it } from "@effect/vitest"
import { Data, Effect, Exit, Fiber, Layer, Logger, LogLevel, Metric, Option, Schedule, TestClock } from "effect"
import * as EventStore from "../../src/EventStore/index.js"
import * as metrics from "../../src/EventStore/metrics.js"
import { saveSnapshot } from "../../src/EventStore/scripts.js"
import { RedisClient } from "../../src/RedisClient.js"
import { Fault, RedisTestServer } from "../../src/RedisTestServer.js"
import * as Spans from "../kit/spans.js"
import { account, accounts, amounts, Balance, decider, deposits, type Event, forge } from "./tools.js"

const Accounts = accounts("accounts")

const ada = account("ada")

const numbers = (from: number, to: number) => Array.from({ length: to - from + 1 }, (_, i) => from + i)

class Unlucky extends Data.TaggedError("Unlucky")<{ readonly version: number }> {}

const quiet = Logger.minimumLogLevel(LogLevel.None)

/** The commands of the clients, one for each round trip. */
const commands = Effect.map(
  Effect.flatMap(RedisTestServer, ({ journal }) => journal),
  (journal) => journal.map(({ args }) => args[0])
)

describe("EventStore, in memory", () => {
  it.effect("writes and reads an aggregate with one command each", () =>
    Effect.gen(function*() {
      const store = yield* EventStore.open(Accounts)
      yield* store.append(ada, deposits(1, 1))
      const before = (yield* commands).length
      yield* store.append(ada, deposits(2, 9))
      yield* store.load(ada)
      yield* store.version(ada)
      assert.deepStrictEqual(
        (yield* commands).slice(before).filter((name) => name === "EVALSHA" || name === "XRANGE"),
        [
          "EVALSHA",
          "XRANGE"
        ]
      )
      assert.strictEqual((yield* commands).at(-1), "XREVRANGE")
    }).pipe(Effect.provide(EventStore.layerTest)))

  it.effect("remembers an append without a version for as long as it says", () =>
    Effect.gen(function*() {
      const store = yield* EventStore.open({ ...Accounts, retryWindow: "1 minute" })
      yield* store.append(ada, deposits(1, 1), { id: "a" })
      yield* store.append(ada, deposits(2, 2), { id: "b", expected: 1 })
      yield* TestClock.adjust("59 seconds")
      assert.isTrue((yield* store.append(ada, deposits(1, 1), { id: "a" })).duplicate)
      yield* TestClock.adjust("2 seconds")
      assert.isFalse((yield* store.append(ada, deposits(1, 1), { id: "a" })).duplicate)
      // One with a version is known for ever.
      yield* TestClock.adjust("1000 days")
      assert.isTrue((yield* store.append(ada, deposits(2, 2), { id: "b", expected: 1 })).duplicate)
      assert.strictEqual(yield* store.version(ada), 3)
    }).pipe(Effect.provide(EventStore.layerTest)))

  it.effect("positions grow although the clock stands still, and the time is the server's", () =>
    Effect.gen(function*() {
      const store = yield* EventStore.open(Accounts)
      yield* store.append(ada, deposits(1, 3))
      yield* TestClock.adjust("5 seconds")
      yield* store.append(ada, deposits(4, 4))
      const { events } = yield* store.load(ada)
      assert.deepStrictEqual(events.map(({ timestamp }) => timestamp.epochMillis), [0, 0, 0, 5000])
      assert.strictEqual(new Set(events.map(({ position }) => position)).size, 4)
    }).pipe(Effect.provide(EventStore.layerTest)))

  it.effect("a snapshot that can't be kept does not fail the command", () =>
    Effect.gen(function*() {
      const server = yield* RedisTestServer
      const store = yield* EventStore.open(Accounts)
      const Account = decider(Accounts, { snapshot: Balance, snapshotEvery: 1 })
      yield* server.inject(Fault.outOfMemory({ command: saveSnapshot.sha }))
      assert.strictEqual((yield* store.execute(Account, "ada", 1)).version, 1)
      assert.deepStrictEqual(yield* store.loadSnapshot(Balance, ada), Option.none())
      yield* store.execute(Account, "ada", 1)
      assert.deepStrictEqual(yield* store.loadSnapshot(Balance, ada), Option.some({ version: 2, state: { total: 2 } }))
    }).pipe(Effect.provide(EventStore.layerTest), Effect.provide(quiet)))

  it.effect("a projection tries again what its handler fails at, and passes nothing over", () =>
    Effect.gen(function*() {
      const store = yield* EventStore.open(Accounts)
      yield* store.append(ada, deposits(1, 5))
      const seen: Array<number> = []
      let failures = 0
      const fiber = yield* Effect.fork(store.project({
        name: "stubborn",
        handle: (event) =>
          Effect.gen(function*() {
            if (event.version === 3 && failures < 8) {
              failures++
              return yield* new Unlucky({ version: 3 })
            }
            seen.push(...amounts([event]))
          })
      }))
      yield* TestClock.adjust("1 second")
      assert.deepStrictEqual(seen, [1, 2])
      assert.isAbove(failures, 1)
      yield* TestClock.adjust("1 minute")
      assert.deepStrictEqual(seen, numbers(1, 5))
      assert.strictEqual(failures, 8)
      yield* Fiber.interrupt(fiber)
    }).pipe(Effect.provide(EventStore.layerTest), Effect.provide(quiet)))

  it.effect("a projection fails when its schedule ends, with what was handled before behind its checkpoint", () =>
    Effect.gen(function*() {
      const store = yield* EventStore.open(Accounts)
      yield* store.append(ada, deposits(1, 5))
      const seen: Array<number> = []
      const run = (unlucky: number) =>
        store.project({
          name: "poisoned",
          retry: Schedule.recurs(2),
          handle: (event) =>
            event.version === unlucky
              ? new Unlucky({ version: unlucky })
              : Effect.sync(() => void seen.push(...amounts([event])))
        })
      const failure = yield* Effect.flip(run(4))
      assert(failure._tag === "Unlucky")
      assert.strictEqual(failure.version, 4)
      assert.deepStrictEqual(seen, [1, 2, 3])
      assert.strictEqual((yield* store.projectionStatus("poisoned"))[0]?.behind, 2)
      const fiber = yield* Effect.fork(run(0))
      yield* TestClock.adjust("1 second")
      assert.deepStrictEqual(seen, numbers(1, 5))
      yield* Fiber.interrupt(fiber)
    }).pipe(Effect.provide(EventStore.layerTest), Effect.provide(quiet)))

  it.effect("an error of this library that a handler fails with is the handler's", () =>
    Effect.gen(function*() {
      const store = yield* EventStore.open(Accounts)
      yield* store.append(ada, deposits(1, 1))
      const conflict = new EventStore.VersionConflict({ store: "other", aggregate: ada, expected: 1, actual: 2 })
      const lost = { _tag: "LockLost" as const }
      for (const error of [conflict, lost]) {
        const failure = yield* Effect.flip(store.project({
          name: `own-${error._tag}`,
          retry: Schedule.stop,
          handle: () => Effect.fail(error)
        }))
        assert.strictEqual(failure, error)
      }
    }).pipe(Effect.provide(EventStore.layerTest), Effect.provide(quiet)))

  it.effect("a projection lives as long as its layer", () =>
    Effect.gen(function*() {
      const seen: Array<number> = []
      const Projection = EventStore.layerProjection(Accounts, {
        name: "layer",
        handle: (event) => Effect.sync(() => void seen.push(...amounts([event])))
      })
      const store = yield* EventStore.open(Accounts)
      yield* store.append(ada, deposits(1, 3))
      yield* Effect.scoped(Effect.gen(function*() {
        yield* Layer.build(Projection)
        yield* TestClock.adjust("1 second")
        assert.deepStrictEqual(seen, [1, 2, 3])
        assert.isAbove((yield* (yield* RedisTestServer).subscriptions).length, 1)
      }))
      yield* store.append(ada, deposits(4, 4))
      yield* TestClock.adjust("1 minute")
      assert.deepStrictEqual(seen, [1, 2, 3])
      // Only the channel of the locks, which belongs to the process.
      assert.isAtMost((yield* (yield* RedisTestServer).subscriptions).length, 1)
    }).pipe(Effect.provide(EventStore.layerTest)))

  it.effect("a layer whose projection has ended says so", () =>
    Effect.gen(function*() {
      const lines: Array<string> = []
      const logger = Logger.make(({ message }) => void lines.push(String(message)))
      const store = yield* EventStore.open(Accounts)
      yield* forge(Accounts.name, ada, 1, "broken")
      yield* Effect.scoped(Effect.gen(function*() {
        yield* Layer.build(EventStore.layerProjection(Accounts, { name: "ends", handle: () => Effect.void }))
        yield* TestClock.adjust("1 second")
      })).pipe(Effect.provide(Logger.replace(Logger.defaultLogger, logger)))
      assert.isTrue(lines.some((line) => line.includes("the projection \"ends\" of \"accounts\" has ended")))
      assert.strictEqual((yield* store.projectionStatus("ends"))[0]?.behind, 1)
    }).pipe(Effect.provide(EventStore.layerTest)))

  it.effect("a handler that dies ends the projection, and gives its lock back", () =>
    Effect.gen(function*() {
      const server = yield* RedisTestServer
      const store = yield* EventStore.open(Accounts)
      yield* store.append(ada, deposits(1, 1))
      const exit = yield* Effect.exit(store.project({ name: "dies", handle: () => Effect.die("a mistake") }))
      assert.isTrue(Exit.isFailure(exit))
      const locks = (yield* server.keys).filter(({ key }) => key.startsWith("lock:") && !key.endsWith(":fence"))
      assert.deepStrictEqual(locks, [])
    }).pipe(Effect.provide(EventStore.layerTest)))

  it.effect("counts appends, conflicts and what projections handle", () =>
    Effect.gen(function*() {
      const before = yield* Effect.forEach([metrics.appended, metrics.conflict, metrics.duplicate], Metric.value)
      const store = yield* EventStore.open(accounts("counted"))
      yield* store.append(ada, deposits(1, 3), { id: "a", expected: 0 })
      yield* store.append(ada, deposits(1, 3), { id: "a", expected: 0 })
      yield* Effect.flip(store.append(ada, deposits(1, 3), { expected: 1 }))
      const after = yield* Effect.forEach([metrics.appended, metrics.conflict, metrics.duplicate], Metric.value)
      assert.deepStrictEqual(after.map(({ count }, i) => count - before[i]!.count), [1, 1, 1])
      const fiber = yield* Effect.fork(store.project({ name: "p", handle: () => Effect.sleep("2 seconds") }))
      yield* TestClock.adjust("1 minute")
      const counted = metrics.projectionOf("counted", "p", 0)
      assert.strictEqual((yield* Metric.value(counted.handled)).count, 3)
      assert.strictEqual((yield* Metric.value(counted.delay)).value, 6)
      yield* Fiber.interrupt(fiber)
    }).pipe(Effect.provide(EventStore.layerTest)))

  it.effect("makes a span for each operation when somebody listens", () =>
    Effect.gen(function*() {
      const spans = yield* Spans.Spans
      const store = yield* EventStore.open(Accounts)
      yield* store.append(ada, deposits(1, 1))
      yield* store.load(ada)
      yield* store.execute(decider(Accounts), "ada", 1)
      yield* store.since()
      const fiber = yield* Effect.fork(store.project({ name: "p", handle: () => Effect.void }))
      yield* TestClock.adjust("1 second")
      yield* Fiber.interrupt(fiber)
      for (const [name, count] of [["append", 1], ["load", 1], ["execute", 1], ["since", 1], ["handle", 2]] as const) {
        const found = yield* spans.named(`eventstore.${name}`)
        assert.strictEqual(found.length, count, name)
        assert.strictEqual(found[0]?.attributes.get("effect_redis.eventstore.name"), "accounts")
      }
    }).pipe(Effect.provide(EventStore.layerTest), Effect.provide(Spans.layer)))

  it.effect("a checkpoint that is stored with its effect makes each event count once", () =>
    Effect.gen(function*() {
      const client = yield* RedisClient
      const store = yield* EventStore.open(Accounts)
      yield* store.append(ada, deposits(1, 20))
      // One transaction: the sum and the position it is the sum of.
      const handle = (event: EventStore.Recorded<Event, unknown>) =>
        client.transaction([
          ["INCRBY", "{sum}:total", amounts([event])[0]!],
          ["SET", "{sum}:position", event.position]
        ])
      const run = (crashAt: number) =>
        Effect.gen(function*() {
          const after = Option.getOrUndefined(yield* client.get("{sum}:position"))
          for (const one of (yield* store.since({ after })).events) {
            const event = yield* one
            yield* handle(event)
            if (event.version === crashAt) return
          }
        })
      yield* run(7)
      yield* run(8)
      yield* run(0)
      yield* run(0)
      assert.deepStrictEqual(yield* client.get("{sum}:total"), Option.some("210"))
    }).pipe(Effect.provide(EventStore.layerTest)))
})
