import { assert, describe, it } from "@effect/vitest"
import { Effect, Fiber, Option } from "effect"
import * as Semaphore from "../../src/Semaphore/index.js"
import * as FaultProxy from "../kit/FaultProxy.js"
import * as RealServer from "../kit/RealServer.js"
import { crowd, services } from "../Lock/permitCrowd.js"

describe("Semaphore under faults", () => {
  it.live(
    "four processes whose clocks disagree never have more than ten permits, and lose none when one is killed",
    () =>
      Effect.gen(function*() {
        const { most } = yield* crowd("semaphore", 10)
        assert.strictEqual(most.get("sum"), 10)
      }).pipe(Effect.scoped),
    120_000
  )

  it.live("a lost reply neither keeps permits nor makes the caller wait for itself", () =>
    Effect.gen(function*() {
      const server = yield* RealServer.start()
      const proxy = yield* FaultProxy.make(server)
      const semaphore = Semaphore.define({ name: "lost-reply", permits: 2 })
      yield* Effect.gen(function*() {
        // The scripts are known to the server, so that the next reply is that of the one command.
        yield* Effect.scoped(Semaphore.acquire(semaphore))
        yield* proxy.dropReplies(1)
        const held = yield* Semaphore.acquire(semaphore, 2, { lease: "30 seconds" })
        const { holders } = yield* Semaphore.inspect(semaphore)
        assert.deepStrictEqual(holders.map(({ fencingToken }) => fencingToken), [held.fencingToken])
        yield* proxy.dropReplies(1)
        yield* Effect.ignore(held.release)
        const next = yield* Semaphore.acquire(semaphore, 2)
        assert.isAbove(next.fencingToken, held.fencingToken)
      }).pipe(Effect.scoped, Effect.provide(services(proxy.url)))
    }).pipe(Effect.scoped), 30_000)

  it.live("a waiter whose connections broke still gets its permits", () =>
    Effect.gen(function*() {
      const server = yield* RealServer.start()
      const semaphore = Semaphore.define({ name: "deaf", permits: 2 })
      yield* Effect.gen(function*() {
        const held = yield* Semaphore.acquire(semaphore, 1, { lease: "30 seconds" })
        const waiting = yield* Effect.fork(
          Semaphore.withPermits(Effect.succeed("served"), semaphore, 2, { waitTimeout: "20 seconds" })
        )
        yield* Effect.sleep("200 millis")
        yield* server.cli("CLIENT", "KILL", "TYPE", "pubsub")
        yield* server.cli("CLIENT", "KILL", "TYPE", "normal")
        yield* server.cli("SCRIPT", "FLUSH")
        yield* held.release
        assert.deepStrictEqual(yield* Effect.timeoutOption(Fiber.join(waiting), "8 seconds"), Option.some("served"))
        assert.strictEqual(yield* Semaphore.available(semaphore), 2)
      }).pipe(Effect.scoped, Effect.provide(services(server.url)))
    }).pipe(Effect.scoped), 30_000)
})
