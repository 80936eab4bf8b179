/** Effects that run one after the other on one fiber. */
import { assert, describe, it } from "@effect/vitest"
import { Cause, Deferred, Effect, Exit, FiberId, Scope } from "effect"
import { makeFork, makeLine } from "../../src/internal/background.js"

const settled = Effect.repeatN(Effect.yieldNow(), 20)

describe("a line", () => {
  it.scoped("runs each when the one before is done, on one fiber, and hands over how it ended", () =>
    Effect.gen(function*() {
      const inLine = makeLine(yield* makeFork)
      const fibers = new Set<string>()
      const where = Effect.map(Effect.fiberId, (id) => void fibers.add(FiberId.threadName(id)))
      const gate = yield* Deferred.make<string>()
      const seen: Array<unknown> = []
      const told = (exit: Exit.Exit<unknown, unknown>) =>
        void seen.push(Exit.match(exit, { onSuccess: (value) => value, onFailure: Cause.squash }))
      inLine(Effect.zipLeft(Deferred.await(gate), where), (exit) => {
        told(exit)
        inLine(Effect.zipRight(where, Effect.fail("failed")), (exit) => {
          told(exit)
          inLine(Effect.zipRight(where, Effect.die("a defect")), told)
        })
      })
      yield* settled
      assert.deepStrictEqual(seen, [])
      yield* Deferred.succeed(gate, "first")
      yield* settled
      assert.deepStrictEqual(seen, ["first", "failed", "a defect"])
      // Whoever comes later, when nothing runs.
      inLine(Effect.as(where, "later"), told)
      yield* settled
      assert.deepStrictEqual(seen.slice(3), ["later"])
      assert.strictEqual(fibers.size, 1)
    }))

  it.effect("what runs is interrupted when the scope closes, and nothing follows", () =>
    Effect.gen(function*() {
      const scope = yield* Scope.make()
      const inLine = makeLine(yield* Scope.extend(makeFork, scope))
      const seen: Array<string> = []
      inLine(Effect.onInterrupt(Effect.never, () => Effect.sync(() => seen.push("interrupted"))), () => {
        inLine(Effect.sync(() => seen.push("next")), () => seen.push("done"))
      })
      yield* settled
      yield* Scope.close(scope, Exit.void)
      inLine(Effect.sync(() => seen.push("late")), () => seen.push("done"))
      yield* settled
      assert.deepStrictEqual(seen, ["interrupted"])
    }))
})
