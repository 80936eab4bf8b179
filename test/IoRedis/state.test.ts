import { assert, describe, it } from "@effect/vitest"
import { Chunk, Duration, Effect, Exit, Fiber, Metric, Option, Scope, Stream } from "effect"
import type { ConnectionState, Health } from "../../src/RedisClient.js"
import * as RealServer from "../kit/RealServer.js"
import { connect, eventually, proxied, serverUrl } from "./support.js"

const collect = (stream: Stream.Stream<ConnectionState>) =>
  Effect.gen(function*() {
    const states: Array<ConnectionState> = []
    const fiber = yield* Effect.forkScoped(Stream.runForEach(stream, (state) => Effect.sync(() => states.push(state))))
    return {
      states,
      fiber,
      until: (status: ConnectionState["status"]) =>
        eventually(Effect.suspend(() =>
          states.some((state, i) => i > 0 && state.status === status)
            ? Effect.void
            : Effect.fail("not yet")
        ))
    }
  })

describe("the state of the connection", () => {
  it.scopedLive("comes first as it is, and then with every change", () =>
    Effect.gen(function*() {
      const proxy = yield* proxied
      const scope = yield* Scope.make()
      const client = yield* Scope.extend(connect({ url: proxy.url }), scope)
      const first = yield* Stream.runHead(client.state)
      assert.strictEqual(Option.getOrThrow(first).status, "connected")
      const { fiber, states, until } = yield* collect(client.state)
      yield* eventually(Effect.suspend(() => states.length === 1 ? Effect.void : Effect.fail("not yet")))
      yield* proxy.refuse
      yield* until("error")
      yield* proxy.accept
      yield* until("connected")
      yield* Scope.close(scope, Exit.void)
      yield* Fiber.join(fiber)
      const statuses = states.map((state) => state.status)
      assert.deepStrictEqual(statuses.slice(0, 3), ["connected", "reconnecting", "error"])
      assert.deepStrictEqual(statuses.slice(-2), ["connected", "end"])
      for (const [i, state] of states.entries()) {
        if (i > 0) assert.strictEqual(Option.getOrThrow(state.previous), statuses[i - 1])
        const down = state.status === "reconnecting" || state.status === "error"
        assert.strictEqual(Option.isSome(state.error), down, state.status)
      }
    }))

  it.scopedLive("of a lazy client starts with disconnected", () =>
    Effect.gen(function*() {
      const client = yield* connect({ lazyConnect: true })
      const { states, until } = yield* collect(client.state)
      yield* Effect.sleep(20)
      yield* client.send("PING")
      yield* until("connected")
      assert.deepStrictEqual(states.map((state) => state.status), ["disconnected", "connecting", "connected"])
    }))

  it.scopedLive("is counted in the metrics", () =>
    Effect.gen(function*() {
      const read = (name: string) =>
        Effect.map(Metric.snapshot, (pairs) => {
          const state = pairs.find((pair) => pair.metricKey.name === name)?.metricState
          const value: unknown = state !== undefined && "value" in state
            ? state.value
            : state !== undefined && "count" in state
            ? state.count
            : 0
          return Number(value)
        })
      const proxy = yield* proxied
      const up = yield* read("effect_redis_connections_up")
      const again = yield* read("effect_redis_reconnects_total")
      const scope = yield* Scope.make()
      const client = yield* Scope.extend(connect({ url: proxy.url }), scope)
      assert.strictEqual(yield* read("effect_redis_connections_up"), up + 1)
      yield* proxy.cut
      yield* eventually(Effect.filterOrFail(read("effect_redis_reconnects_total"), (n) => n === again + 1))
      yield* eventually(client.send("PING"))
      assert.strictEqual(yield* read("effect_redis_connections_up"), up + 1)
      yield* Scope.close(scope, Exit.void)
      assert.strictEqual(yield* read("effect_redis_connections_up"), up)
    }))
})

describe("health", () => {
  it.scopedLive("tells about the server", () =>
    Effect.gen(function*() {
      const client = yield* connect()
      const health = yield* client.health
      assert.isTrue(health.healthy)
      const server = Option.getOrThrow(health.server)
      assert.match(server.version, /^\d+\.\d+/)
      assert.strictEqual(server.mode, "standalone")
      assert.isAtLeast(server.connectedClients, 1)
      assert.notStrictEqual(server.usedMemoryHuman, "")
      assert.isTrue(Option.isNone(health.error))
    }))

  it.scopedLive("of a server that does not answer is bad, within its deadline", () =>
    Effect.gen(function*() {
      const server = yield* RealServer.start()
      const client = yield* connect({ url: server.url, commandTimeout: "300 millis" })
      yield* server.pause
      const health = yield* client.health
      assert.isFalse(health.healthy)
      assert.isTrue(Option.isSome(health.error))
      assert.isBelow(Duration.toMillis(health.responseTime), 3000)
      yield* server.resume
      yield* eventually(Effect.filterOrFail(client.health, (health) => health.healthy))
    }))

  it.scopedLive("checks never overlap", () =>
    Effect.gen(function*() {
      const proxy = yield* proxied
      const client = yield* connect({ url: proxy.url, commandTimeout: "200 millis", connectTimeout: "200 millis" })
      const seen: Array<Health> = []
      const fiber = yield* Effect.fork(
        client.healthChanges("20 millis").pipe(
          Stream.take(4),
          Stream.runForEach((health) => Effect.sync(() => seen.push(health)))
        )
      )
      yield* proxy.stall("replies")
      const infos = Effect.map(proxy.commandsSeen, (seen) => seen.get("INFO") ?? 0)
      const before = yield* infos
      yield* Effect.sleep(150)
      // One check waits; the next one does not start beside it.
      assert.isAtMost((yield* infos) - before, 1)
      yield* proxy.resume
      yield* Fiber.join(fiber)
      assert.lengthOf(seen, 4)
    }))

  it.scopedLive("starts at once", () =>
    Effect.gen(function*() {
      const client = yield* connect()
      const first = yield* client.healthChanges("1 hour").pipe(Stream.take(1), Stream.runCollect)
      assert.isTrue(Chunk.unsafeHead(first).healthy)
    }))

  it.live("the server of the run is the one that was asked for", () =>
    Effect.sync(() => assert.match(serverUrl(), /^rediss?:/)))
})
