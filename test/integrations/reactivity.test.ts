/**
 * `Reactivity` over connections that break, and what it leaves behind.
 */
import { assert, describe, it } from "@effect/vitest"
import { Effect, Exit, Layer, Redacted, Scope, TestClock } from "effect"
import * as RedisReactivity from "../../src/integrations/Reactivity.js"
import { layer as ioRedis } from "../../src/IoRedis.js"
import { RedisClient } from "../../src/RedisClient.js"
import { Fault, layer as memory, RedisTestServer } from "../../src/RedisTestServer.js"
import * as RealServer from "../kit/RealServer.js"
import { real, until } from "../kit/suites.js"

const settle = TestClock.adjust("1 seconds")

const join = (client: RedisClient["Type"]) => Effect.provideService(RedisReactivity.make(), RedisClient, client)

describe("Reactivity in memory", () => {
  it.scoped("after an outage all queries run again, because something may have been missed", () =>
    Effect.gen(function*() {
      const server = yield* RedisTestServer
      const process = yield* RedisReactivity.make()
      let runs = 0
      yield* process.query(["seats"], Effect.sync(() => ++runs))
      yield* process.query({ prices: [1] }, Effect.sync(() => ++runs))
      yield* settle
      assert.strictEqual(runs, 2)
      yield* server.disconnect({ downtime: "10 seconds" })
      yield* TestClock.adjust("30 seconds")
      assert.strictEqual(runs, 4)
    }).pipe(Effect.provide(memory)))

  it.scoped("what can't be told is told later, with one message for all of it, and nobody waits", () =>
    Effect.gen(function*() {
      const server = yield* RedisTestServer
      const here = yield* RedisReactivity.make()
      const there = yield* join(yield* server.client())
      let runs = 0
      yield* there.query({ seats: [] }, Effect.sync(() => ++runs))
      yield* settle
      const fault = yield* server.inject(Fault.reply("NOPERM not now", { command: "PUBLISH", times: 3 }))
      yield* here.invalidate({ seats: [1] })
      yield* here.invalidate(["seats", "prices"])
      yield* TestClock.adjust("90 millis")
      assert.strictEqual(runs, 1)
      assert.strictEqual(yield* fault.happened, 1)
      yield* here.invalidate(["later"])
      yield* TestClock.adjust("10 seconds")
      assert.strictEqual(yield* fault.happened, 3)
      assert.strictEqual(runs, 2)
      const told = (yield* server.journal).findLast(({ args: [command] }) => command?.toUpperCase() === "PUBLISH")
      for (const key of ["sseats", "sseats:1", "sprices", "slater"]) {
        assert.include(JSON.stringify(told), JSON.stringify(key).slice(1, -1))
      }
    }).pipe(Effect.provide(memory)))

  it.effect("leaves nothing behind", () =>
    Effect.gen(function*() {
      const server = yield* RedisTestServer
      const scope = yield* Scope.make()
      const process = yield* Scope.extend(RedisReactivity.make(), scope)
      yield* process.invalidate(["seats"])
      yield* settle
      assert.lengthOf(yield* server.subscriptions, 1)
      yield* Scope.close(scope, Exit.void)
      yield* settle
      assert.deepStrictEqual(yield* server.subscriptions, [])
      assert.deepStrictEqual(yield* server.keys, [])
      assert.deepStrictEqual(Array.from(yield* TestClock.sleeps()), [])
    }).pipe(Effect.provide(memory)))
})

describe("Reactivity and a server that dies", () => {
  it.scopedLive(
    "what was invalidated meanwhile has run the queries of all when the server is back",
    () =>
      Effect.gen(function*() {
        const server = yield* RealServer.start()
        const client = Effect.flatMap(
          Layer.build(Layer.fresh(ioRedis({ url: Redacted.make(server.url), commandTimeout: "1 second" }))),
          (context) => Effect.provide(RedisReactivity.make(), context)
        )
        const processes = yield* Effect.all([client, client, client])
        let value = 0
        const seen = [0, 0, 0]
        yield* Effect.forEach(processes, (process, i) => process.query(["value"], Effect.sync(() => seen[i] = value)))
        for (let round = 1; round <= 3; round++) {
          yield* server.kill
          value = round
          yield* processes[round % 3]!.invalidate(["value"])
          yield* server.restart
          yield* until(real)(Effect.sync(() => seen.every((each) => each === round)))
        }
      }),
    60_000
  )
})
