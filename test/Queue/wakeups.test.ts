/** How idle workers hear of jobs over one connection, at the pace of a server. */
import { assert, describe, it } from "@effect/vitest"
import { Effect, type Scope, TestClock } from "effect"
import { keysOf } from "../../src/Queue/keys.js"
import * as Wakeups from "../../src/Queue/Wakeups.js"
import { RedisClient } from "../../src/RedisClient.js"
import { Fault, layer, RedisTestServer } from "../../src/RedisTestServer.js"
import { until, virtual } from "../kit/suites.js"

const eventually = until(virtual)

const test = (name: string, body: Effect.Effect<void, any, RedisClient | RedisTestServer | Scope.Scope>) =>
  it.scoped(name, () => body.pipe(Effect.provide(layer)))

/** A worker of a queue, and how often it was woken. */
const worker = (wakeups: Wakeups.Wakeups, name: string) =>
  Effect.gen(function*() {
    const keys = keysOf(name)
    const seen = { woken: 0, marker: keys.marker }
    const { wait } = yield* wakeups.register(keys, { wake: () => void seen.woken++, cancel: () => {} })
    return { seen, wait }
  })

const mark = (marker: string) => Effect.flatMap(RedisClient, (client) => client.send("ZADD", marker, "0", "0"))

/** The markers that commands wait for, one list for each command. */
const waits = Effect.map(
  Effect.flatMap(RedisTestServer, ({ journal }) => journal),
  (all) => all.flatMap(({ args }) => args[0] === "BZPOPMIN" ? [args.slice(1, -1)] : [])
)

const waitsOn = (...markers: ReadonlyArray<string>) =>
  eventually(Effect.map(waits, (all) => {
    const last = all.at(-1) ?? []
    return last.length === markers.length && markers.every((marker) => last.includes(marker))
  }))

describe("idle workers", () => {
  test(
    "are woken by the markers of their queues, each when it is idle",
    Effect.gen(function*() {
      const wakeups = yield* Wakeups.make(yield* RedisClient, Wakeups.onServer)
      const a = yield* worker(wakeups, "a")
      const b = yield* worker(wakeups, "b")
      a.wait()
      yield* waitsOn(a.seen.marker)
      // The command that waits would not take it.
      b.wait()
      yield* waitsOn(a.seen.marker, b.seen.marker)
      yield* mark(b.seen.marker)
      yield* eventually(Effect.sync(() => b.seen.woken === 1))
      yield* waitsOn(a.seen.marker)
      yield* mark(a.seen.marker)
      yield* eventually(Effect.sync(() => a.seen.woken === 1))
      assert.deepStrictEqual([a.seen.woken, b.seen.woken], [1, 1])
    })
  )

  test(
    "wait for ten seconds and again, and longer only for an answer that is late: then on another connection",
    Effect.gen(function*() {
      const server = yield* RedisTestServer
      const client = yield* RedisClient
      const wakeups = yield* Wakeups.make(client, Wakeups.onServer)
      const { seen, wait } = yield* worker(wakeups, "lost")
      wait()
      yield* waitsOn(seen.marker)
      yield* TestClock.adjust("11 seconds")
      yield* eventually(Effect.map(waits, ({ length }) => length === 2))
      assert.strictEqual(seen.woken, 0)
      const connections = Effect.map(
        Effect.flatMap(RedisTestServer, ({ journal }) => journal),
        (all) => new Set(all.flatMap(({ args, client }) => args[0] === "BZPOPMIN" ? [client] : [])).size
      )
      assert.strictEqual(yield* connections, 1)
      const silence = yield* server.inject(Fault.delay("1 hour", { command: "BZPOPMIN", times: 1 }))
      yield* TestClock.adjust("10 seconds")
      yield* eventually(Effect.map(silence.happened, (times) => times === 1))
      yield* TestClock.adjust("11 seconds")
      assert.strictEqual(seen.woken, 0)
      // It looks whether it has missed something.
      yield* eventually(Effect.sync(() => seen.woken === 1))
      assert.strictEqual(yield* connections, 1)
      wait()
      yield* eventually(Effect.map(connections, (n) => n === 2))
      yield* mark(seen.marker)
      yield* eventually(Effect.sync(() => seen.woken === 2))
    })
  )

  test(
    "nothing is waited for when nobody is idle, and nothing is left when the scope closes",
    Effect.gen(function*() {
      const client = yield* RedisClient
      yield* Effect.scoped(Effect.gen(function*() {
        const wakeups = yield* Wakeups.make(client, Wakeups.onServer)
        const { seen, wait } = yield* worker(wakeups, "closed")
        wait()
        yield* waitsOn(seen.marker)
      }))
      const before = (yield* waits).length
      yield* mark(keysOf("closed").marker)
      yield* TestClock.adjust("1 minute")
      assert.deepStrictEqual([(yield* waits).length, yield* client.exists(keysOf("closed").marker)], [before, 1])
    })
  )
})
