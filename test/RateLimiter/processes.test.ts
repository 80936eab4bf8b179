import { assert, describe, it } from "@effect/vitest"
import { Chunk, Effect, Layer, Redacted, Stream } from "effect"
import { layer as redis } from "../../src/IoRedis.js"
import * as RateLimiter from "../../src/RateLimiter/index.js"
import { clusterOptions } from "../kit/layers.js"
import * as RealCluster from "../kit/RealCluster.js"
import * as RealServer from "../kit/RealServer.js"
import * as Worker from "../kit/worker.js"
import type { Outcome, Task } from "./task.js"

const HOUR = 3_600_000

const policies: Task["policies"] = [
  { name: "gcra", limit: 30, window: 720 * HOUR },
  { name: "bucket", limit: 30, window: 720 * HOUR, algorithm: "token-bucket" },
  { name: "exact", limit: 30, window: 720 * HOUR, algorithm: "sliding-window" },
  { name: "parts", limit: 2000, window: 720 * HOUR, algorithm: "sliding-window" },
  { name: "fixed", limit: 30, window: 720 * HOUR, algorithm: "fixed-window" }
]

/** Four processes that ask for forty tenths of each limit, ten times what there is; clocks are wrong by an hour. */
const crowd = (options: Task["options"]) =>
  Effect.gen(function*() {
    const workers = yield* Effect.forEach([HOUR, 0, -HOUR, 60_000], (ahead) => {
      const task: Task = { options, ahead, policies, id: "crowd", times: 25 }
      return Effect.map(Worker.start(new URL("./worker.ts", import.meta.url), task), (worker) => ({ ...worker, ahead }))
    })
    let ready = 0
    return yield* Effect.forEach(workers, ({ ahead, messages }) =>
      Effect.map(
        Stream.runCollect(
          Stream.tap(messages, (message) =>
            Effect.sync(() => {
              if (message.ready === true && ++ready === workers.length) {
                for (const { child } of workers) child.stdin!.write("go\n")
              }
            }))
        ),
        (said): Outcome => {
          const outcome: Outcome = Chunk.toReadonlyArray(said)[1]
          // The process believes in its clock, and so does Effect.
          assert.approximately(outcome.date - Date.now(), ahead, 50_000)
          return outcome
        }
      ), { concurrency: "unbounded" })
  })

const sum = (numbers: ReadonlyArray<number>) => numbers.reduce((a, b) => a + b, 0)

describe("RateLimiter, from four processes whose clocks disagree", () => {
  it.live("exactly the limit is allowed", () =>
    Effect.gen(function*() {
      const server = yield* RealServer.start()
      const outcomes = yield* crowd({ url: server.url })
      policies.forEach(({ name }, i) => assert.strictEqual(sum(outcomes.map(({ allowed }) => allowed[i]!)), 10, name))
      assert.strictEqual(sum(outcomes.map(({ together }) => together)), 10)
    }).pipe(Effect.scoped), 120_000)

  it.live(
    "exactly the limit is allowed on a Cluster, and what is used on several nodes never more",
    () =>
      Effect.gen(function*() {
        const cluster = yield* RealCluster.start()
        const outcomes = yield* crowd({ nodes: cluster.nodes.map(({ host, port }) => ({ host, port })) })
        policies.forEach(({ name }, i) => assert.strictEqual(sum(outcomes.map(({ allowed }) => allowed[i]!)), 10, name))
        const together = sum(outcomes.map(({ together }) => together))
        assert(together > 0 && together <= 10)
        // Whatever was taken on the way to a refusal was given back.
        yield* Effect.forEach(policies, (policy, i) =>
          Effect.map(
            RateLimiter.count(policy, `crowd-${i}`),
            (used) => assert.strictEqual(used, together * policy.limit / 10, policy.name)
          )).pipe(Effect.provide(Layer.provide(RateLimiter.layer, redis(clusterOptions(cluster)))))
      }).pipe(Effect.scoped),
    120_000
  )

  it.live("a key of GCRA takes no more than eighty bytes", () =>
    Effect.gen(function*() {
      const server = yield* RealServer.start()
      const api = RateLimiter.policy({ name: "api", limit: 1000, window: "1 minute" })
      yield* RateLimiter.consume(api, "user-12345", { cost: 10 }).pipe(
        Effect.provide(Layer.provide(RateLimiter.layer, redis({ url: Redacted.make(server.url) })))
      )
      const [key] = (yield* server.cli("KEYS", "*")) as ReadonlyArray<string>
      assert.isAtMost(Number(yield* server.cli("MEMORY", "USAGE", key!)), 80)
    }).pipe(Effect.scoped), 30_000)
})
