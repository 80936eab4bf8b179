/**
 * Four processes with a hundred fibers each, whose clocks disagree, fight for permits while things go wrong; one of them
 * is killed with permits in its hands.
 */
import { assert } from "@effect/vitest"
import { Chunk, Effect, Layer, Redacted, type Scope, Stream } from "effect"
import { layer as redis } from "../../src/IoRedis.js"
import { permitKeysOf } from "../../src/Lock/permitScripts.js"
import * as ReadWriteLock from "../../src/ReadWriteLock/index.js"
import * as Semaphore from "../../src/Semaphore/index.js"
import * as RealServer from "../kit/RealServer.js"
import * as Worker from "../kit/worker.js"
import type { Task } from "./permitTask.js"

const FIBERS = 100
const ROUNDS = 3

const pairs = (reply: unknown): ReadonlyArray<readonly [string, string]> => {
  const flat = reply as ReadonlyArray<string>
  return Array.from({ length: flat.length / 2 }, (_, i) => [flat[2 * i]!, flat[2 * i + 1]!] as const)
}

const until = <E, R>(condition: Effect.Effect<boolean, E, R>): Effect.Effect<void, E, R> =>
  Effect.repeat(Effect.zipRight(Effect.sleep("20 millis"), condition), { until: (holds) => holds }).pipe(Effect.asVoid)

export const services = (url: string) =>
  Layer.provideMerge(
    Layer.merge(Semaphore.layer, ReadWriteLock.layer),
    redis({ url: Redacted.make(url), commandTimeout: "3 seconds" })
  )

/** What the server noted, when all is over. */
export const crowd = (kind: Task["kind"], permits: number) =>
  Effect.gen(function*() {
    const server = yield* RealServer.start()
    const name = `crowd-${kind}`
    const workers = yield* Effect.forEach(
      [10_000, 0, -10_000, 5000],
      (ahead) => {
        const task: Task = { url: server.url, kind, name, permits, fibers: FIBERS, rounds: ROUNDS, ahead }
        return Effect.map(
          Worker.start(new URL("./permitWorker.ts", import.meta.url), task),
          (worker) => ({ ...worker, ahead })
        )
      }
    )
    const inside = Effect.map(server.cli("HGETALL", `{${name}}:inside`), pairs)
    const ofProcess = (pid: number | undefined) =>
      Effect.map(inside, (all) => all.filter(([who]) => who.startsWith(`${pid}/`)))

    const victim = workers[0]!
    const results = yield* Effect.forkScoped(Effect.forEach(
      workers.slice(1),
      ({ ahead, messages }) =>
        Effect.map(Stream.runCollect(messages), (said) => {
          const [ready, done] = Chunk.toReadonlyArray(said)
          // The process believes in its clock, and so does Effect.
          for (const time of [ready.date, ready.clock]) {
            assert.approximately(time - Date.now(), ahead, 60_000)
          }
          return [ready, done] as const
        }),
      { concurrency: "unbounded" }
    ))
    const entries = Effect.map(server.cli("HGET", `{${name}}:most`, "sum"), Number)

    yield* until(Effect.map(entries, (n) => n > 0))
    yield* until(Effect.map(
      Effect.forEach(workers, ({ child }) => ofProcess(child.pid)),
      (all) => all.some((entries) => entries.length > 0)
    ))
    yield* server.cli("SCRIPT", "FLUSH")
    yield* server.cli("CLIENT", "KILL", "TYPE", "pubsub")

    /** Stops it in the middle of something, and kills it there. */
    const kill: Effect.Effect<ReadonlyArray<readonly [string, string]>, RealServer.RealServerError> = Effect.gen(
      function*() {
        victim.child.kill("SIGSTOP")
        yield* Effect.sleep("50 millis")
        const held = yield* ofProcess(victim.child.pid)
        if (held.length > 0) {
          victim.child.kill("SIGKILL")
          yield* victim.exit
          return held
        }
        victim.child.kill("SIGCONT")
        yield* Effect.sleep("10 millis")
        return yield* kill
      }
    )
    const held = yield* kill
    // It is not inside any more; its permits stay out until its leases are over.
    yield* server.cli("HDEL", `{${name}}:inside`, ...held.map(([who]) => who))
    yield* Effect.sleep("200 millis")
    yield* server.pause
    yield* Effect.sleep("1 second")
    yield* server.resume
    yield* server.cli("CLIENT", "KILL", "TYPE", "pubsub")
    yield* server.cli("SCRIPT", "FLUSH")

    const outcomes: Record<string, number> = {}
    for (const [, done] of yield* Effect.flatten(results.await)) {
      for (const [outcome, n] of Object.entries<number>(done.outcomes)) {
        outcomes[outcome] = (outcomes[outcome] ?? 0) + n
      }
    }
    for (const { exit } of workers.slice(1)) assert.strictEqual(yield* exit, 0)
    assert.strictEqual(Object.values(outcomes).reduce((a, b) => a + b, 0), 3 * FIBERS * ROUNDS)
    assert.isAbove(outcomes["served"] ?? 0, 3 * FIBERS * ROUNDS * 0.95, JSON.stringify(outcomes))

    // What the dead one held comes back by itself, when its own leases are over.
    const keys = permitKeysOf(kind, name).slice(0, 3)
    yield* Effect.sleep("4 seconds")
    const all: Effect.Effect<void, unknown, Scope.Scope | ReadWriteLock.ReadWriteLock | Semaphore.Semaphore> = kind ===
        "semaphore"
      ? Effect.asVoid(Semaphore.acquire({ name, permits }, permits, { waitTimeout: 0 }))
      : Effect.asVoid(ReadWriteLock.acquireWrite(name, { waitTimeout: 0 }))
    yield* Effect.scoped(all).pipe(Effect.provide(services(server.url)))
    assert.strictEqual(yield* server.cli("EXISTS", ...keys), 0)
    assert.deepStrictEqual(yield* inside, [])
    assert.deepStrictEqual(yield* server.cli("PUBSUB", "CHANNELS", "*"), [])
    return {
      most: new Map(pairs(yield* server.cli("HGETALL", `{${name}}:most`)).map(([key, n]) => [key, Number(n)])),
      tokens: (yield* server.cli("LRANGE", `{${name}}:tokens`, "0", "-1")) as ReadonlyArray<string>,
      outcomes
    }
  })
