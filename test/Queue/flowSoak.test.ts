import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { run } from "./flowSoakRun.js"

describe("flows, in short what `flowSoak.ts` does at length", () => {
  it.live(
    "three queues on three nodes, while producers and workers are killed",
    () =>
      Effect.gen(function*() {
        const report = yield* run({ flows: 60, lease: 2000, killEvery: 500, say: Effect.logDebug })
        assert.deepStrictEqual(report.problems.slice(0, 5), [])
        assert.isAbove(report.kills, 0)
        assert.isAtLeast(report.runs, 60 * 7)
      }).pipe(Effect.scoped),
    180_000
  )
})
