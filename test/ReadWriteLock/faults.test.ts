import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { crowd } from "../Lock/permitCrowd.js"
import { WRITER } from "../Lock/permitTask.js"

describe("ReadWriteLock under faults", () => {
  it.live(
    "four processes whose clocks disagree have readers or one writer, whose tokens grow, also when one is killed",
    () =>
      Effect.gen(function*() {
        const { most, tokens } = yield* crowd("rwlock", 1)
        assert.strictEqual(most.get("sum"), WRITER)
        assert.isAbove(most.get("readers") ?? 0, 1)
        const numbers = tokens.map(Number)
        assert.isAbove(numbers.length, 100)
        for (let i = 1; i < numbers.length; i++) assert.isAtLeast(numbers[i]!, numbers[i - 1]!)
      }).pipe(Effect.scoped),
    120_000
  )
})
