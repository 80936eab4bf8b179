import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { soak } from "./crowd.js"

describe("ConsumerGroup, four processes", () => {
  it.live("handle every entry though they are killed and the server is restarted twice", () =>
    Effect.gen(function*() {
      const report = yield* soak({
        entries: 2000,
        processes: 4,
        killEvery: 1000,
        work: 1,
        appendFor: 3000,
        restarts: 2
      })
      assert.strictEqual(report.lost, 0)
      assert.strictEqual(report.pending, 0)
      // A batch whose answer was lost may be there or not, so how many of them there are is not the same each time.
      assert.isAtLeast(report.poison, 10)
      assert.strictEqual(report.deadLetters, report.poison)
      assert.strictEqual(report.wrongDeadLetters, 0)
      assert.isAtLeast(report.kills, 2)
      assert.strictEqual(report.restarts, 2)
      assert.isAtMost(report.duplicates, report.mostDuplicates)
    }), 120_000)
})
