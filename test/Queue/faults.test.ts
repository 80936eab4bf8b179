import { assert, describe, it } from "@effect/vitest"
import { Deferred, Effect, Layer, Option, Redacted, Ref, Schedule, Schema, Stream } from "effect"
import { layer as redis } from "../../src/IoRedis.js"
import * as Queue from "../../src/Queue/index.js"
import { keysOf } from "../../src/Queue/keys.js"
import { RedisClient } from "../../src/RedisClient.js"
import * as FaultProxy from "../kit/FaultProxy.js"
import * as RealServer from "../kit/RealServer.js"
import * as Worker from "../kit/worker.js"
import type { Task } from "./faultsWorker.js"

// Longer than any server is away here: a call that is given up and made again by somebody else would be another one.
const services = (url: string) =>
  Layer.provideMerge(Queue.layer, redis({ url: Redacted.make(url), commandTimeout: "20 seconds" }))

/** Waits until it holds, for 20 seconds. */
const until = <E, R>(condition: Effect.Effect<boolean, E, R>) =>
  Effect.gen(function*() {
    const holds = Effect.repeat(condition, { schedule: Schedule.spaced("20 millis"), until: (holds) => holds })
    const inTime = yield* Effect.timeoutOption(holds, "20 seconds")
    assert.isTrue(Option.isSome(inTime), "it never came to hold")
  })

const Numbers = Queue.define({ name: "numbers", payload: Schema.Number, backoff: Schedule.spaced("10 millis") })
const keys = keysOf("numbers")

/** How often each number was handled to its end, by a worker that runs until the scope closes. */
const working = (options?: Queue.WorkerOptions<never>) =>
  Effect.gen(function*() {
    const handled = new Map<number, number>()
    yield* Queue.makeWorker(
      Numbers,
      ({ payload }) => Effect.sync(() => void handled.set(payload, (handled.get(payload) ?? 0) + 1)),
      options
    )
    return handled
  })

const has = (handled: ReadonlyMap<number, number>, n: number) => until(Effect.sync(() => handled.has(n)))

/** A worker that has nothing to do: it waits on a connection of its own. */
const idle = (server: RealServer.Server) =>
  until(Effect.map(server.cli("CLIENT", "LIST"), (list) => String(list).includes("cmd=bzpopmin")))

const isEmpty = (server: RealServer.Server) =>
  Effect.map(server.cli("EXISTS", keys.jobs, keys.leases, keys.delayed, keys.failures, ...keys.ready), (n) => n === 0)

const everythingOnce = (handled: ReadonlyMap<number, number>, total: number) => {
  assert.strictEqual(handled.size, total)
  assert.deepStrictEqual([...handled].filter(([, times]) => times !== 1), [])
}

/** Jobs `from` to `to`, each as often as it takes. Ids make that harmless. */
const enqueueing = (from: number, to: number) =>
  Effect.forEach(
    Array.from({ length: to - from }, (_, i) => from + i),
    (n) =>
      Effect.zipRight(
        Effect.sleep("5 millis"),
        Effect.retry(Queue.enqueue(Numbers, n, { id: `n${n}` }), Schedule.spaced("50 millis"))
      ),
    { discard: true }
  )

// Each has a server of its own, and mostly waits.
describe.concurrent("Queue under faults", () => {
  it.live(
    "a server that is away for three seconds: idle workers work again without being started again",
    () =>
      Effect.gen(function*() {
        const server = yield* RealServer.start()
        yield* Effect.gen(function*() {
          const handled = yield* working()
          yield* Queue.enqueue(Numbers, 0)
          yield* has(handled, 0)
          yield* idle(server)
          yield* server.kill
          yield* Effect.sleep("3 seconds")
          yield* server.restart
          yield* Effect.retry(Queue.enqueue(Numbers, 1, { id: "one" }), Schedule.spaced("100 millis"))
          yield* has(handled, 1)
          everythingOnce(handled, 2)
        }).pipe(Effect.scoped, Effect.provide(services(server.url)))
      }).pipe(Effect.scoped),
    60_000
  )

  it.live(
    "a server that dies twice in the middle of the work: no job is lost, and none is handled twice",
    () =>
      Effect.gen(function*() {
        const server = yield* RealServer.start({ appendonly: true })
        yield* Effect.gen(function*() {
          const handled = yield* working({ concurrency: 10 })
          const producer = yield* Effect.fork(enqueueing(0, 300))
          for (const n of [50, 150]) {
            yield* has(handled, n)
            yield* server.kill
            yield* Effect.sleep("1 second")
            yield* server.restart
          }
          yield* producer.await
          yield* until(Effect.sync(() => handled.size === 300))
          yield* until(isEmpty(server))
          everythingOnce(handled, 300)
        }).pipe(Effect.scoped, Effect.provide(services(server.url)))
      }).pipe(Effect.scoped),
    60_000
  )

  it.live(
    "a connection that waits for work and is killed, and connections that are killed in the middle of it",
    () =>
      Effect.gen(function*() {
        const server = yield* RealServer.start()
        yield* Effect.gen(function*() {
          const handled = yield* working({ concurrency: 5 })
          yield* idle(server)
          const clients = String(yield* server.cli("CLIENT", "LIST")).split("\n")
          const waiting = clients.find((line) => line.includes("cmd=bzpopmin"))
          yield* server.cli("CLIENT", "KILL", "ID", /id=(\d+)/.exec(waiting!)![1]!)
          yield* Queue.enqueue(Numbers, 0)
          yield* has(handled, 0)
          const producer = yield* Effect.fork(enqueueing(1, 200))
          for (const n of [40, 80, 120]) {
            yield* has(handled, n)
            yield* server.cli("CLIENT", "KILL", "TYPE", "normal")
          }
          yield* producer.await
          yield* until(isEmpty(server))
          everythingOnce(handled, 200)
        }).pipe(Effect.scoped, Effect.provide(services(server.url)))
      }).pipe(Effect.scoped),
    60_000
  )

  it.live("a job that nobody was told of is found", () =>
    Effect.gen(function*() {
      const server = yield* RealServer.start()
      yield* Effect.gen(function*() {
        const handled = yield* working()
        const { id } = yield* Queue.enqueue(Numbers, 0, { delay: "1 day" })
        yield* idle(server)
        const client = yield* RedisClient
        // It is ready from now on, and the marker is gone before anybody who waits for it sees it.
        yield* client.transaction([
          ["ZREM", keys.delayed, id],
          ["RPUSH", keys.ready[0]!, id],
          ["DEL", keys.marker]
        ])
        yield* has(handled, 0)
        yield* until(isEmpty(server))
      }).pipe(Effect.scoped, Effect.provide(services(server.url)))
    }).pipe(Effect.scoped), 60_000)

  it.live("a network that swallows everything for a while, and says nothing of it", () =>
    Effect.gen(function*() {
      const server = yield* RealServer.start()
      const proxy = yield* FaultProxy.make(server)
      yield* Effect.gen(function*() {
        const handled = yield* Effect.provide(working(), yield* Layer.build(services(proxy.url)))
        for (const n of [0, 1]) {
          yield* idle(server)
          yield* proxy.stall(n === 0 ? "both" : "replies")
          yield* Queue.enqueue(Numbers, n)
          yield* Effect.sleep("2 seconds")
          yield* proxy.resume
          yield* has(handled, n)
          yield* until(isEmpty(server))
        }
        everythingOnce(handled, 2)
      }).pipe(Effect.provide(services(server.url)))
    }).pipe(Effect.scoped), 60_000)

  it.live("scripts that the server has forgotten, also of a worker that is idle", () =>
    Effect.gen(function*() {
      const server = yield* RealServer.start()
      yield* Effect.gen(function*() {
        const handled = yield* working()
        for (let n = 0; n < 5; n++) {
          yield* idle(server)
          yield* server.cli("SCRIPT", "FLUSH")
          yield* Queue.enqueue(Numbers, n)
          yield* has(handled, n)
        }
        yield* until(isEmpty(server))
        everythingOnce(handled, 5)
      }).pipe(Effect.scoped, Effect.provide(services(server.url)))
    }).pipe(Effect.scoped), 60_000)

  it.live(
    "a server that stands still beyond the lease: the handler that lost it is stopped, and the job comes again",
    () =>
      Effect.gen(function*() {
        const server = yield* RealServer.start()
        yield* Effect.gen(function*() {
          const Slow = Queue.define({
            name: "slow",
            payload: Schema.Number,
            lease: "1 second",
            attempts: 2,
            // Its worker makes one call and not two, which the server executes before the renewal that comes behind it. A lease
            // that is over and that nobody has taken can be renewed.
            events: { maxLength: 100 }
          })
          const attempts: Array<number> = []
          const stopped: Array<number> = []
          const finish = yield* Deferred.make<void>()
          yield* Queue.makeWorker(Slow, ({ attempt }) =>
            Effect.gen(function*() {
              attempts.push(attempt)
              yield* attempt === 1 ? Effect.never : Deferred.await(finish)
            }).pipe(Effect.onInterrupt(() => Effect.sync(() => stopped.push(attempt)))), { concurrency: 2, drain: 0 })
          yield* Queue.enqueue(Slow, 0)
          yield* until(Effect.sync(() => attempts.length === 1))
          yield* server.pause
          yield* Effect.sleep("2500 millis")
          yield* server.resume
          yield* until(Effect.sync(() => attempts.length === 2 && stopped.length === 1))
          assert.deepStrictEqual(attempts, [1, 2])
          assert.deepStrictEqual(stopped, [1])
          yield* Deferred.succeed(finish, undefined)
          yield* until(Effect.map(server.cli("HLEN", keysOf("slow").jobs), (n) => n === 0))
          // The worker goes on.
          const handled = yield* working()
          yield* Queue.enqueue(Numbers, 1)
          yield* has(handled, 1)
        }).pipe(Effect.scoped, Effect.provide(services(server.url)))
      }).pipe(Effect.scoped),
    60_000
  )

  it.live.each([true, false])(
    "a worker that stood still beyond its lease can do no harm (its handler succeeds: %s)",
    (succeeds) =>
      Effect.gen(function*() {
        const server = yield* RealServer.start()
        const name = "stale"
        const keys = keysOf(name)
        const task: Task = { url: server.url, name, lease: 1000 }
        const { child, messages } = yield* Worker.start(new URL("./faultsWorker.ts", import.meta.url), task)
        const said: Array<any> = []
        yield* Effect.forkScoped(Stream.runForEach(messages, (message) => Effect.sync(() => said.push(message))))
        yield* Effect.gen(function*() {
          const Jobs = Queue.define({ name, payload: Schema.Struct({ succeeds: Schema.Boolean }), lease: "20 seconds" })
          const { id } = yield* Queue.enqueue(Jobs, { succeeds })
          yield* until(Effect.sync(() => said.length === 1))
          assert.deepStrictEqual(said, [{ attempt: 1 }])
          child.kill("SIGSTOP")
          const finish = yield* Deferred.make<void>()
          const attempts = yield* Ref.make<ReadonlyArray<number>>([])
          yield* Queue.makeWorker(
            Jobs,
            ({ attempt }) => Effect.zipRight(Ref.update(attempts, (all) => [...all, attempt]), Deferred.await(finish)),
            { drain: 0 }
          )
          yield* until(Effect.map(Ref.get(attempts), ({ length }) => length === 1))
          const [member, end, ...others] = (yield* server.cli("ZRANGE", keys.leases, "0", "-1", "WITHSCORES")) as Array<
            string
          >
          assert.deepStrictEqual(others, [])
          child.stdin!.write("go\n")
          child.kill("SIGCONT")
          yield* until(Effect.sync(() => said.some((message) => "ended" in message)))
          yield* until(Effect.sync(() => said.some(({ warned }) => warned?.includes("lost a job"))))
          // Whatever it sends after its end has been sent by now.
          yield* Effect.sleep("500 millis")
          assert.deepStrictEqual(said.filter((message) => !("warned" in message)), [{ attempt: 1 }, {
            ended: succeeds
          }])
          const [now, later] = (yield* server.cli("ZRANGE", keys.leases, "0", "-1", "WITHSCORES")) as Array<string>
          assert.strictEqual(now, member)
          assert.strictEqual(later, end)
          assert.strictEqual(yield* server.cli("HGET", keys.failures, id), "1")
          assert.strictEqual(yield* server.cli("HEXISTS", keys.jobs, id), 1)
          yield* Deferred.succeed(finish, undefined)
          yield* until(Effect.map(server.cli("HLEN", keys.jobs), (n) => n === 0))
          assert.deepStrictEqual(yield* Ref.get(attempts), [2])
          assert.strictEqual(yield* server.cli("EXISTS", keys.leases, keys.failures, keys.dead), 0)
        }).pipe(Effect.scoped, Effect.provide(services(server.url)))
      }).pipe(Effect.scoped),
    60_000
  )

  it.live(
    "replies to a producer that are lost: each job is added once, also when it is finished by then",
    () =>
      Effect.gen(function*() {
        const server = yield* RealServer.start()
        const proxy = yield* FaultProxy.make(server)
        const handled = yield* Effect.provide(working({ concurrency: 3 }), yield* Layer.build(services(server.url)))
        yield* Effect.gen(function*() {
          // The script is known to the server, so that the next reply is that of the script itself.
          yield* Queue.enqueue(Numbers, 0)
          yield* has(handled, 0)
          for (let n = 1; n <= 5; n++) {
            yield* idle(server)
            yield* proxy.dropReplies(1, { command: "EVALSHA" })
            const { outcome } = yield* Queue.enqueue(Numbers, n, { id: `n${n}` })
            assert.strictEqual(outcome, "added")
            yield* has(handled, n)
          }
          // Several of them in one call.
          yield* proxy.dropReplies(1, { command: "EVALSHA" })
          const numbers = Array.from({ length: 50 }, (_, i) => 6 + i)
          const all = yield* Queue.enqueueAll(Numbers, numbers.map((payload) => ({ payload })))
          assert.isTrue(all.every(({ outcome }) => outcome === "added"))
          yield* until(Effect.sync(() => handled.size === 56))
          yield* until(isEmpty(server))
          everythingOnce(handled, 56)
          assert.strictEqual(yield* server.cli("HGET", keys.meta, "completed"), "56")
        }).pipe(Effect.provide(services(proxy.url)))
      }).pipe(Effect.scoped),
    60_000
  )

  it.live(
    "replies to a worker that are lost: no job that it took or ended is handled twice, and none is lost",
    () =>
      Effect.gen(function*() {
        const server = yield* RealServer.start()
        const proxy = yield* FaultProxy.make(server)
        yield* Effect.gen(function*() {
          const handled = yield* Effect.provide(working({ concurrency: 3 }), yield* Layer.build(services(proxy.url)))
          const producer = yield* Effect.fork(enqueueing(0, 300))
          for (let lost = 0; lost < 10; lost++) {
            yield* has(handled, 10 + lost * 25)
            yield* proxy.dropReplies(1, { command: "EVALSHA" })
          }
          yield* producer.await
          yield* until(Effect.sync(() => handled.size === 300))
          yield* until(isEmpty(server))
          everythingOnce(handled, 300)
          assert.strictEqual(yield* server.cli("HGET", keys.meta, "completed"), "300")
          assert.strictEqual(yield* server.cli("HGET", keys.meta, "failed"), null)
        }).pipe(Effect.provide(services(server.url)))
      }).pipe(Effect.scoped),
    60_000
  )
})
