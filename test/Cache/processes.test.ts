import { assert, describe, it } from "@effect/vitest"
import { Chunk, Effect, Fiber, Layer, Logger, LogLevel, Option, Redacted, Schema, Stream } from "effect"
import * as Cache from "../../src/Cache/index.js"
import { layer as redis } from "../../src/IoRedis.js"
import * as RealServer from "../kit/RealServer.js"
import * as Worker from "../kit/worker.js"

const worker = (task: object) =>
  Effect.gen(function*() {
    const { child, exit, messages } = yield* Worker.start(new URL("./worker.ts", import.meta.url), task)
    const said = yield* Stream.toPull(messages)
    return {
      child,
      exit,
      next: Effect.map(Effect.orDie(said), Chunk.unsafeHead),
      go: Effect.sync(() => void child.stdin!.write("go\n"))
    }
  })

const services = (url: string) =>
  Layer.provideMerge(
    Layer.provideMerge(Cache.layer, redis({ url: Redacted.make(url), commandTimeout: "2 seconds" })),
    Logger.minimumLogLevel(LogLevel.None)
  )

describe("Cache in several processes", () => {
  it.live("a thousand callers of each of two processes run one lookup; one that fails, each process runs once", () =>
    Effect.gen(function*() {
      const server = yield* RealServer.start()
      const name = "crowd"
      const task = { url: server.url, kind: "crowd", name, callers: 1000 }
      const workers = yield* Effect.all([worker(task), worker(task)])
      // What is said before anybody listens is lost.
      const said = Effect.forEach(workers, ({ next }) => next, { concurrency: "unbounded" })
      const together = Effect.gen(function*() {
        assert.deepStrictEqual(yield* said, [{ ready: true }, { ready: true }])
        for (const { go } of workers) yield* go
        return (yield* said).map(({ results }) => results)
      })
      assert.deepStrictEqual(yield* together, [{ "found 1": 1000 }, { "found 1": 1000 }])
      assert.strictEqual(yield* server.cli("GET", `${name}:succeeds`), "1")
      // An error is not stored: whoever did not wait in the same process tries again.
      const failures = yield* together
      assert.deepStrictEqual(failures.flatMap(Object.values), [1000, 1000])
      assert.deepStrictEqual(failures.flatMap(Object.keys).sort(), ["failed 1", "failed 2"])
      assert.strictEqual(yield* server.cli("EXISTS", `cache:${name}:e:fails`), 0)
      for (const { exit } of workers) assert.strictEqual(yield* exit, 0)
    }).pipe(Effect.scoped))

  it.live("a process that is stopped or killed during its lookup is replaced, and what it finds late is not stored", () =>
    Effect.gen(function*() {
      const server = yield* RealServer.start()
      const name = "holders"
      const lease = (key: string) =>
        Effect.map(server.cli("GET", `cache:${name}:e:${key}`), (text) => String(text).slice(0, 1) === "L")
      const holder = yield* worker({ url: server.url, kind: "holder", name })
      assert.deepStrictEqual(yield* holder.next, { looking: true })
      yield* Effect.gen(function*() {
        const cache = yield* Cache.open(
          Cache.define({ name, key: Schema.String, value: Schema.String, ttl: "1 minute", lease: "1 second" })
        )
        let lookups = 0
        const lookup = Effect.sync(() => `found ${++lookups}`)
        const stopped = yield* Effect.fork(cache.getOrSet("stopped", lookup))
        // As long as it lives, it keeps its lease.
        yield* Effect.sleep("2 seconds")
        assert.isTrue(yield* lease("stopped"))
        assert.strictEqual(lookups, 0)
        holder.child.kill("SIGSTOP")
        assert.strictEqual(yield* Fiber.join(stopped), "found 1")
        yield* holder.go
        holder.child.kill("SIGCONT")
        // Who waited for it gets what it has found.
        assert.deepStrictEqual(yield* holder.next, { found: "late", lookups: { succeeded: 1, failed: 0, refused: 1 } })
        assert.deepStrictEqual(yield* cache.get("stopped"), Option.some("found 1"))

        assert.deepStrictEqual(yield* holder.next, { looking: true })
        const killed = yield* Effect.fork(cache.getOrSet("killed", lookup))
        yield* Effect.sleep("300 millis")
        assert.isTrue(yield* lease("killed"))
        holder.child.kill("SIGKILL")
        assert.isAtMost(Number(yield* server.cli("PTTL", `cache:${name}:e:killed`)), 1000)
        assert.strictEqual(yield* Fiber.join(killed), "found 2")
      }).pipe(Effect.scoped, Effect.provide(services(server.url)))
    }).pipe(Effect.scoped))
})
