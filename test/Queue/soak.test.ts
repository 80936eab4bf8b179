import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { run } from "./soakRun.js"

describe("Queue, in short what `soak.ts` does at length", () => {
  it.live(
    "four processes, of which some are killed and one stands still, and a server that dies twice",
    () =>
      Effect.gen(function*() {
        const report = yield* run({
          jobs: 2000,
          rate: 400,
          lease: 2000,
          killEvery: 1200,
          downtime: 500,
          say: Effect.logDebug
        })
        assert.deepStrictEqual(report.problems.slice(0, 5), [])
        assert.isAbove(report.kills, 0)
        assert.strictEqual(report.dead["undecodable"], 20)
        assert.isAbove(report.done, 1850)
      }).pipe(Effect.scoped),
    180_000
  )
})
