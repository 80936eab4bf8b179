import { assert, describe, it } from "@effect/vitest"
import { Effect, Either, Exit, Fiber, Layer, Redacted, Schedule, Scope, Stream, TestClock } from "effect"
import * as EventStore from "../../src/EventStore/index.js"
import { append as appendScript } from "../../src/EventStore/scripts.js"
import { layer as redis } from "../../src/IoRedis.js"
import * as Lock from "../../src/Lock/index.js"
import { RedisClient } from "../../src/RedisClient.js"
import { Fault, RedisTestServer } from "../../src/RedisTestServer.js"
import * as FaultProxy from "../kit/FaultProxy.js"
import { inMemory } from "../kit/processes.js"
import * as RealServer from "../kit/RealServer.js"
import * as Worker from "../kit/worker.js"
import { account, accounts, amounts, deposits, type Event, Opened } from "./tools.js"

const Accounts = accounts("accounts")

const ada = account("ada")

const numbers = (from: number, to: number) => Array.from({ length: to - from + 1 }, (_, i) => from + i)

const services = (url: string) =>
  Layer.provideMerge(EventStore.layer, redis({ url: Redacted.make(url), commandTimeout: "5 seconds" }))

const eventually = (holds: () => boolean) => RealServer.until("what was to happen", Effect.sync(holds), Boolean, String)

const turnOfTheEventLoop = Effect.promise(() => new Promise((resolve) => setImmediate(resolve)))

/** Lets time pass until it is done. */
const passing = <A, E, R>(effect: Effect.Effect<A, E, R>) =>
  Effect.gen(function*() {
    const fiber = yield* Effect.fork(effect)
    for (let i = 0; i < 20_000 && (yield* Fiber.poll(fiber))._tag === "None"; i++) {
      yield* TestClock.adjust("200 millis")
      yield* turnOfTheEventLoop
    }
    return yield* Fiber.join(fiber)
  })

const expectations = (n: number, version: number): EventStore.ExpectedVersion =>
  n % 4 === 0 ? "any" : n % 4 === 1 ? "exists" : n % 4 === 2 ? version : "any"

/** Every event once, on both sides. */
const assertOnce = (store: EventStore.Store<Event, any>, expected: ReadonlyArray<number>) =>
  Effect.gen(function*() {
    assert.deepStrictEqual(amounts((yield* store.load(ada)).events).filter((n) => n > 0), expected)
    const all = yield* Stream.runCollect(store.replay())
    assert.deepStrictEqual(amounts(all).filter((n) => n > 0), expected)
    assert.strictEqual(yield* store.version(ada), expected.length + 1)
  })

describe("EventStore under faults, in memory", () => {
  it.live("a thousand lost replies: no event is there twice", () =>
    Effect.gen(function*() {
      const server = yield* RedisTestServer
      const store = yield* EventStore.open(Accounts)
      const lanes = numbers(1, 200).map((n) => account(`lane-${n}`))
      yield* Effect.forEach(lanes, (lane) => store.append(lane, [new Opened({ owner: lane.id })]))
      const lost = yield* server.inject(Fault.loseReply({ command: appendScript.sha, probability: 0.5, seed: 1 }))
      yield* Effect.forEach(
        lanes,
        (lane) =>
          Effect.gen(function*() {
            for (const n of numbers(1, 6)) {
              const append = store.append(lane, deposits(n, n), { expected: expectations(n, n), id: `request-${n}` })
              // The client asks again by itself, and who made it asks again when that was in vain.
              assert.strictEqual((yield* Effect.retry(append, { times: 30 })).version, n + 1)
            }
          }),
        { concurrency: "unbounded", discard: true }
      )
      assert.isAtLeast(yield* lost.happened, 1000)
      yield* server.clearFaults
      for (const lane of lanes) {
        assert.deepStrictEqual(amounts((yield* store.load(lane)).events), [0, ...numbers(1, 6)])
      }
      const all = yield* Stream.runCollect(store.replay())
      assert.strictEqual(
        new Set(Array.from(all, ({ aggregate, version }) => `${aggregate.id} ${version}`)).size,
        200 * 7
      )
      assert.strictEqual(all.length, 200 * 7)
    }).pipe(Effect.provide(EventStore.layerTest)), 60_000)

  it.effect("an append whose reply is lost is not made twice by the client itself", () =>
    Effect.gen(function*() {
      const server = yield* RedisTestServer
      const store = yield* EventStore.open(Accounts)
      yield* store.append(ada, [new Opened({ owner: "ada" })])
      for (const n of numbers(1, 12)) {
        yield* server.inject(Fault.loseReply({ command: appendScript.sha }))
        const appended = yield* passing(store.append(ada, deposits(n, n), { expected: expectations(n, n) }))
        assert.strictEqual(appended.version, n + 1)
        assert.isFalse(appended.duplicate)
      }
      yield* assertOnce(store, numbers(1, 12))
    }).pipe(Effect.provide(EventStore.layerTest)))

  it.effect(
    "whatever goes wrong, an append that is made again with its id is there once",
    () =>
      Effect.gen(function*() {
        const server = yield* RedisTestServer
        const store = yield* EventStore.open(Accounts)
        yield* store.append(ada, [new Opened({ owner: "ada" })])
        yield* server.inject(Fault.loseReply({ command: appendScript.sha, probability: 0.3, seed: 3 }))
        yield* server.inject(Fault.failBeforeSend({ probability: 0.2, seed: 4 }))
        yield* server.inject(Fault.disconnectAfter({ probability: 0.1, seed: 5 }))
        yield* server.inject(Fault.noScript({ probability: 0.1, seed: 6 }))
        const seen: Array<number> = []
        const following = yield* Effect.fork(
          Stream.runForEach(store.subscribe(), (event) => Effect.sync(() => void seen.push(...amounts([event]))))
        )
        yield* passing(
          Effect.forEach(numbers(1, 60), (n) =>
            Effect.retry(store.append(ada, deposits(n, n), { id: `request-${n}` }), { times: 50 }))
        )
        yield* server.clearFaults
        yield* TestClock.adjust("10 seconds")
        yield* assertOnce(store, numbers(1, 60))
        // Whoever follows it has seen each once, and in order.
        assert.deepStrictEqual(seen, [0, ...numbers(1, 60)])
        yield* Fiber.interrupt(following)
      }).pipe(Effect.provide(EventStore.layerTest)),
    60_000
  )

  for (const appended of [3, 1]) {
    it.scoped(
      `who follows while a failover takes back ${appended === 3 ? "what comes again" : "what never comes again"}`,
      () =>
        Effect.gen(function*() {
          const client = yield* RedisClient
          const store = yield* EventStore.open(Accounts)
          let failovers = 0
          /** What was there is gone, and whoever had written it does so again, as far as it is still there. */
          const failover = Effect.gen(function*() {
            failovers++
            yield* client.del("events:{accounts.0}:all", "events:{accounts.0}:a:account:ada")
            yield* TestClock.adjust("1 second")
            yield* store.append(ada, deposits(1, appended))
          })
          // Between the two steps of reading.
          const unlucky = {
            ...client,
            pipeline: (...args: Parameters<typeof client.pipeline>) =>
              failovers === 0
                ? Effect.zipRight(Effect.orDie(failover), client.pipeline(...args))
                : client.pipeline(...args)
          } as typeof client
          const services = yield* Layer.build(Layer.provide(EventStore.layer, Layer.succeed(RedisClient, unlucky)))
          const follower = yield* Effect.provide(EventStore.open(Accounts), services)
          const seen: Array<string> = []
          yield* Effect.forkScoped(
            Stream.runForEach(
              follower.subscribe(),
              ({ position, version }) => Effect.sync(() => void seen.push(`${version} at ${position}`))
            )
          )
          yield* turnOfTheEventLoop
          yield* store.append(ada, deposits(1, 3))
          const aWhile = Effect.replicateEffect(Effect.zipRight(turnOfTheEventLoop, TestClock.adjust("1 second")), 20)
          yield* aWhile
          assert.strictEqual(failovers, 1)
          yield* store.append(ada, deposits(4, 4))
          yield* aWhile
          const { events } = yield* store.since()
          assert.deepStrictEqual(
            seen,
            events.map((one) => Either.getOrThrow(one)).map(({ position, version }) => `${version} at ${position}`)
          )
          assert.strictEqual(seen.length, appended + 1)
        }).pipe(Effect.provide(EventStore.layerTest))
    )
  }

  it.effect("a full server refuses an append as a whole", () =>
    Effect.gen(function*() {
      const server = yield* RedisTestServer
      const store = yield* EventStore.open(Accounts)
      yield* store.append(ada, deposits(1, 2))
      yield* server.become("out-of-memory")
      const failure = yield* Effect.flip(store.append(ada, deposits(3, 4)))
      assert(failure._tag === "RedisReplyError")
      assert.strictEqual(failure.code, "OOM")
      assert.strictEqual((yield* store.load(ada)).version, 2)
      assert.strictEqual((yield* store.since()).events.length, 2)
    }).pipe(Effect.provide(EventStore.layerTest)))

  it.effect("who follows recovers from outages, and misses nothing", () =>
    Effect.gen(function*() {
      const server = yield* RedisTestServer
      const store = yield* EventStore.open(Accounts)
      const seen: Array<number> = []
      yield* Effect.fork(
        Stream.runForEach(store.subscribe(), (event) => Effect.sync(() => void seen.push(...amounts([event]))))
      )
      yield* store.append(ada, deposits(1, 3))
      yield* TestClock.adjust("1 millis")
      assert.deepStrictEqual(seen, [1, 2, 3])
      yield* server.become("loading")
      yield* server.disconnect({ downtime: "3 seconds" })
      yield* TestClock.adjust("1 minute")
      yield* server.become("normal")
      yield* store.append(ada, deposits(4, 6))
      yield* TestClock.adjust("6 seconds")
      assert.deepStrictEqual(seen, numbers(1, 6))
      // A message that nobody hears is made up for.
      yield* server.inject(Fault.disconnectAfter({ command: appendScript.sha }))
      yield* passing(store.append(ada, deposits(7, 7)))
      yield* TestClock.adjust("5 seconds")
      assert.deepStrictEqual(seen, numbers(1, 7))
    }).pipe(Effect.provide(EventStore.layerTest)))

  it.effect("a subscription that can't work ends with its error", () =>
    Effect.gen(function*() {
      const client = yield* RedisClient
      const store = yield* EventStore.open(Accounts)
      yield* client.set("events:{accounts.0}:all", "not a stream")
      const failure = yield* Effect.flip(Stream.runDrain(store.subscribe()))
      assert(failure._tag === "RedisReplyError")
      assert.strictEqual(failure.code, "WRONGTYPE")
    }).pipe(Effect.provide(EventStore.layerTest)))

  it.effect("a projection whose process dies is taken over behind its checkpoint", () =>
    Effect.gen(function*() {
      const store = yield* EventStore.open(Accounts)
      const started = (name: string) =>
        inMemory(Effect.gen(function*() {
          const seen: Array<number> = []
          const context = yield* Layer.build(EventStore.layer)
          const store = yield* Effect.provide(EventStore.open(Accounts), context)
          yield* Effect.forkScoped(store.project({
            name: "taken-over",
            batch: 10,
            handle: (event) => Effect.sync(() => void seen.push(...amounts([event])))
          }))
          return { name, seen }
        }))
      yield* store.append(ada, deposits(1, 25))
      const first = yield* started("first")
      yield* TestClock.adjust("1 second")
      assert.deepStrictEqual(first.service.seen, numbers(1, 25))
      const second = yield* started("second")
      yield* TestClock.adjust("1 minute")
      assert.deepStrictEqual(second.service.seen, [])
      yield* first.die
      yield* store.append(ada, deposits(26, 30))
      yield* TestClock.adjust("1 minute")
      assert.deepStrictEqual(first.service.seen, numbers(1, 25))
      assert.deepStrictEqual(second.service.seen, numbers(26, 30))
      yield* second.die
    }).pipe(Effect.provide(EventStore.layerTest)))

  it.effect("a projection that has lost its lock handles nothing more, and begins again when it has it", () =>
    Effect.gen(function*() {
      const store = yield* EventStore.open(Accounts)
      const lock = yield* Lock.Lock
      const seen: Array<number> = []
      const fiber = yield* Effect.fork(store.project({
        name: "lost",
        batch: 5,
        handle: (event) => Effect.delay(Effect.sync(() => void seen.push(...amounts([event]))), "1 second")
      }))
      yield* store.append(ada, deposits(1, 20))
      yield* TestClock.adjust("7500 millis")
      assert.deepStrictEqual(seen, numbers(1, 7))
      // Somebody else has it for a while.
      yield* lock.forceRelease("events:accounts.0:lost")
      const scope = yield* Scope.make()
      yield* Scope.extend(lock.acquire("events:accounts.0:lost"), scope)
      yield* TestClock.adjust("1 minute")
      const before = seen.length
      assert.isBelow(before, 20)
      yield* TestClock.adjust("1 minute")
      assert.strictEqual(seen.length, before)
      yield* Scope.close(scope, Exit.void)
      yield* TestClock.adjust("1 minute")
      // At least once: what was handled behind the last checkpoint comes again, in order, and nothing is missing.
      assert.deepStrictEqual(Array.from(new Set(seen)), numbers(1, 20))
      assert.isTrue((yield* store.projectionStatus("lost"))[0]?.behind === 0)
      yield* Fiber.interrupt(fiber)
    }).pipe(Effect.provide(Layer.provideMerge(Lock.layer, EventStore.layerTest))))

  it.effect("who comes late can't move the checkpoint back", () =>
    Effect.gen(function*() {
      const client = yield* RedisClient
      const store = yield* EventStore.open(Accounts)
      yield* store.append(ada, deposits(1, 10))
      const key = "events:{accounts.0}:checkpoint:fenced"
      const seen: Array<number> = []
      const fiber = yield* Effect.fork(store.project({
        name: "fenced",
        batch: 5,
        // While it handles the seventh, somebody with a later token has come further.
        handle: (event) =>
          Effect.gen(function*() {
            seen.push(...amounts([event]))
            if (event.version === 7 && seen.length === 7) {
              yield* client.hincrBy(key, "fence", 1)
              yield* client.hset(key, { position: (yield* store.load(ada)).events[8]!.position, events: 9 })
            }
          })
      }))
      yield* TestClock.adjust("10 seconds")
      assert.deepStrictEqual(seen, [...numbers(1, 10), 10])
      assert.strictEqual((yield* store.projectionStatus("fenced"))[0]?.behind, 0)
      yield* Fiber.interrupt(fiber)
    }).pipe(Effect.provide(EventStore.layerTest)))
})

describe("EventStore under faults", () => {
  const onServer = <A, E>(
    test: (its: {
      /** Behind the proxy. */
      readonly store: EventStore.Store<Event, { readonly [name: string]: unknown }>
      readonly direct: EventStore.Store<Event, { readonly [name: string]: unknown }>
      readonly proxy: FaultProxy.FaultProxy
      readonly server: RealServer.Server
    }) => Effect.Effect<A, E, EventStore.EventStore | RedisClient | Scope.Scope>
  ) =>
    Effect.gen(function*() {
      const server = yield* RealServer.start()
      const proxy = yield* FaultProxy.make(server)
      const direct = yield* Layer.build(services(server.url))
      const cut = yield* Layer.build(services(proxy.url))
      yield* Effect.gen(function*() {
        const store = yield* Effect.provide(EventStore.open(Accounts), cut)
        yield* test({ store, direct: yield* EventStore.open(Accounts), proxy, server })
      }).pipe(Effect.provide(direct))
    }).pipe(Effect.scoped)

  it.live(
    "replies that are lost on the way: no event is there twice",
    () =>
      onServer(({ direct, proxy, store }) =>
        Effect.gen(function*() {
          yield* store.append(ada, [new Opened({ owner: "ada" })])
          for (const n of numbers(1, 40)) {
            yield* proxy.dropReplies(1, { command: "EVALSHA", cut: true })
            const appended = yield* store.append(ada, deposits(n, n), { expected: expectations(n, n) })
            assert.strictEqual(appended.version, n + 1)
          }
          yield* assertOnce(direct, numbers(1, 40))
        })
      ),
    30_000
  )

  it.live(
    "connections that break under a hundred appends in flight: each of them is there once",
    () =>
      onServer(({ direct, proxy, store }) =>
        Effect.gen(function*() {
          yield* store.append(ada, [new Opened({ owner: "ada" })])
          const cutting = yield* Effect.fork(Effect.forever(Effect.delay(proxy.cut, "30 millis")))
          const results = yield* Effect.forEach(
            numbers(1, 600),
            (n) =>
              Effect.retry(store.append(ada, deposits(n, n), { id: `request-${n}` }), {
                schedule: Schedule.spaced("10 millis"),
                while: (error) => error._tag !== "VersionConflict"
              }),
            { concurrency: 100 }
          )
          yield* Fiber.interrupt(cutting)
          assert.strictEqual(new Set(results.map(({ version }) => version)).size, 600)
          const { events } = yield* direct.load(ada)
          assert.deepStrictEqual(amounts(events).slice(1).toSorted((a, b) => a - b), numbers(1, 600))
          assert.strictEqual((yield* Stream.runCollect(direct.replay())).length, 601)
        })
      ),
    30_000
  )

  it.live(
    "who follows sees each event once, wherever its connections break",
    () =>
      onServer(({ direct, proxy, server, store }) =>
        Effect.gen(function*() {
          const seen: Array<number> = []
          yield* Effect.forkScoped(
            Stream.runForEach(store.subscribe(), (event) => Effect.sync(() => void seen.push(...amounts([event]))))
          )
          const cutting = yield* Effect.fork(Effect.forever(
            Effect.zipRight(Effect.delay(proxy.cut, "40 millis"), server.cli("CLIENT", "KILL", "TYPE", "PUBSUB"))
          ))
          yield* Effect.forEach(
            numbers(1, 500),
            (n) => Effect.zipRight(Effect.yieldNow(), direct.append(ada, deposits(n, n))),
            { discard: true }
          )
          yield* Fiber.interrupt(cutting)
          yield* server.cli("SCRIPT", "FLUSH")
          yield* direct.append(ada, deposits(501, 501))
          yield* eventually(() => seen.length >= 501)
          assert.deepStrictEqual(seen, numbers(1, 501))
        })
      ),
    30_000
  )

  it.live(
    "a projection whose process is killed goes on from its checkpoint in another one",
    () =>
      onServer(({ direct, server }) =>
        Effect.gen(function*() {
          const EVENTS = 400
          for (let n = 0; n < EVENTS; n += 20) yield* direct.append(account(`${n % 7}`), deposits(n + 1, n + 20))
          const task = { url: server.url, name: Accounts.name, projection: "killed", batch: 10, lease: 500, pause: 2 }
          const handled: Array<ReadonlyArray<number>> = []
          const start = Effect.gen(function*() {
            const worker = yield* Worker.start(new URL("./worker.ts", import.meta.url), task)
            const mine: Array<number> = []
            handled.push(mine)
            yield* Effect.forkScoped(
              Stream.runForEach(worker.messages, ({ amount }) => Effect.sync(() => void mine.push(amount)))
            )
            return { worker, mine }
          })
          let all = 0
          // The first one is killed in the middle of it.
          while (all < EVENTS) {
            const { mine, worker } = yield* start
            const enough = handled.length > 1 ? EVENTS : 60
            yield* eventually(() => mine.length >= enough || mine.at(-1) === EVENTS)
            worker.child.kill("SIGKILL")
            yield* worker.exit
            all = mine.at(-1) === EVENTS ? EVENTS : 0
          }
          const seen = handled.flat()
          // Each at least once, in order; and after a kill no more is repeated than one batch.
          assert.deepStrictEqual(Array.from(new Set(seen)), numbers(1, EVENTS))
          for (const [i, mine] of handled.entries()) {
            assert.isTrue(mine.every((n, j) => j === 0 || n === mine[j - 1]! + 1), `${i}`)
            const before = handled.slice(0, i).flat().at(-1) ?? 0
            assert.isAtLeast(mine[0]!, before - 10)
          }
          assert.strictEqual(handled.length, 2)
          assert.isBelow(seen.length, EVENTS + 10 * handled.length)
        })
      ),
    60_000
  )

  it.live(
    "a projection outlives a server that is away for a moment",
    () =>
      onServer(({ direct, proxy, store }) =>
        Effect.gen(function*() {
          const seen: Array<number> = []
          const fiber = yield* Effect.forkScoped(Effect.either(store.project({
            name: "outage",
            lease: "1 second",
            handle: (event) => Effect.sync(() => void seen.push(...amounts([event])))
          })))
          yield* direct.append(ada, deposits(1, 5))
          yield* eventually(() => seen.length === 5)
          yield* proxy.refuse
          yield* direct.append(ada, deposits(6, 10))
          // Longer than its lease: it has lost the lock.
          yield* Effect.sleep("2 seconds")
          yield* proxy.accept
          yield* eventually(() => seen.at(-1) === 10)
          assert.deepStrictEqual(Array.from(new Set(seen)), numbers(1, 10))
          assert.isTrue(Either.isRight(yield* Effect.either(direct.projectionStatus("outage"))))
          yield* Fiber.interrupt(fiber)
        })
      ),
    30_000
  )
})
