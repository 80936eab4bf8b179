import { assert, describe, it } from "@effect/vitest"
import {
  Cause,
  Context,
  Deferred,
  Effect,
  Exit,
  FastCheck,
  Fiber,
  FiberId,
  FiberRef,
  Option,
  Scope,
  TestClock
} from "effect"
import * as SingleFlight from "../../src/Cache/SingleFlight.js"
import { forkWith } from "../kit/steps.js"

/** In a scope of its own, so that tests can close it. */
const made = Effect.map(Effect.scope, (scope) => SingleFlight.make<string>(scope))

/** An effect that counts its runs and ends when it is told to. */
const lookup = Effect.gen(function*() {
  const gate = yield* Deferred.make<string, string>()
  const counts = { begun: 0, interrupted: 0, ended: 0 }
  const effect = Effect.suspend(() => {
    counts.begun++
    return Deferred.await(gate)
  }).pipe(
    Effect.onInterrupt(() => Effect.sync(() => counts.interrupted++)),
    Effect.ensuring(Effect.sync(() => counts.ended++))
  )
  return { gate, counts, effect }
})

/** Until all fibers wait for something. */
const settled = Effect.repeatN(Effect.yieldNow(), 50)

const isInterrupted = (exit: Exit.Exit<unknown, unknown>) => Exit.isFailure(exit) && Cause.isInterruptedOnly(exit.cause)

describe("SingleFlight", () => {
  it.scoped("a thousand callers share one run", () =>
    Effect.gen(function*() {
      const flights = yield* made
      const { counts, effect, gate } = yield* lookup
      const callers = yield* Effect.forEach(
        Array.from({ length: 1000 }),
        () => Effect.fork(flights.run("a", effect))
      )
      yield* settled
      assert.strictEqual(flights.size(), 1)
      yield* Deferred.succeed(gate, "value")
      const values = yield* Fiber.join(Fiber.all(callers))
      assert.strictEqual(values.length, 1000)
      assert.deepStrictEqual(new Set(values), new Set(["value"]))
      assert.deepStrictEqual(counts, { begun: 1, interrupted: 0, ended: 1 })
      assert.strictEqual(flights.size(), 0)
    }))

  it.scoped("all get the same exit, and the next call runs again", () =>
    Effect.gen(function*() {
      const flights = yield* made
      let runs = 0
      const failures: ReadonlyArray<Effect.Effect<never, unknown>> = [
        Effect.fail({ reason: "failed" }),
        Effect.die(new Error("died")),
        Effect.interrupt
      ]
      for (const failure of failures) {
        runs = 0
        const effect = Effect.zipRight(Effect.yieldNow(), Effect.suspend(() => (runs++, failure)))
        const callers = yield* Effect.forEach([1, 2, 3], () => Effect.fork(flights.run("a", effect)))
        const exits = yield* Effect.forEach(callers, Fiber.await)
        assert.strictEqual(runs, 1)
        assert.isTrue(exits.every(Exit.isFailure))
        assert.deepStrictEqual(exits[1], exits[0])
        assert.deepStrictEqual(exits[2], exits[0])
        assert.strictEqual(flights.size(), 0)
        const again = yield* Effect.exit(flights.run("a", Effect.sync(() => ++runs)))
        assert.deepStrictEqual(again, Exit.succeed(2))
      }
    }))

  it.scoped("a run that ends at once is shared by nobody else", () =>
    Effect.gen(function*() {
      const flights = yield* made
      let runs = 0
      const values = yield* Effect.forEach([1, 2, 3], () => flights.run("a", Effect.sync(() => ++runs)))
      assert.deepStrictEqual(values, [1, 2, 3])
    }))

  it.scoped("whoever is woken by a run and calls again gets another one", () =>
    Effect.gen(function*() {
      const flights = yield* made
      let runs = 0
      const effect = Effect.zipRight(Effect.yieldNow(), Effect.sync(() => ++runs))
      const twice = Effect.zip(flights.run("a", effect), flights.run("a", effect))
      assert.deepStrictEqual(yield* Effect.all([twice, twice], { concurrency: 2 }), [[1, 2], [1, 2]])
    }))

  it.scoped("a caller that is slow to wait gets the exit of a run that has ended meanwhile", () =>
    Effect.gen(function*() {
      const flights = yield* made
      let step = 1
      for (let done = false; !done; step++) {
        const call = flights.run("a", Effect.succeed("value"))
        const [caller, paused] = yield* forkWith(call, { step, yields: true, interrupts: false })
        assert.strictEqual(yield* Fiber.join(caller), "value", `step ${step}`)
        done = !paused()
      }
      assert.isAbove(step, 8)
    }))

  it.scoped("keys do not hold up each other", () =>
    Effect.gen(function*() {
      const flights = yield* made
      const a = yield* lookup
      const b = yield* lookup
      const first = yield* Effect.fork(flights.run("a", a.effect))
      const second = yield* Effect.fork(flights.run("b", b.effect))
      yield* settled
      assert.strictEqual(flights.size(), 2)
      yield* Deferred.succeed(b.gate, "b")
      assert.strictEqual(yield* Fiber.join(second), "b")
      yield* Deferred.succeed(a.gate, "a")
      assert.strictEqual(yield* Fiber.join(first), "a")
    }))

  it.scoped("the run has the context and the fiber refs of the caller that began it, and keeps its own changes", () =>
    Effect.gen(function*() {
      const flights = yield* made
      class Name extends Context.Tag("Name")<Name, string>() {}
      const ref = yield* FiberRef.make("nobody")
      const effect = Effect.zip(Name, FiberRef.get(ref)).pipe(
        Effect.tap(() => Effect.yieldNow()),
        Effect.tap(() => FiberRef.set(ref, "changed"))
      )
      const call = (name: string) =>
        Effect.zip(flights.run("a", effect), FiberRef.get(ref)).pipe(
          Effect.locally(ref, `ref of ${name}`),
          Effect.provideService(Name, name)
        )
      assert.deepStrictEqual(yield* Effect.all([call("first"), call("second")], { concurrency: 2 }), [
        [["first", "ref of first"], "ref of first"],
        [["first", "ref of first"], "ref of second"]
      ])
    }))

  it.scoped("a caller that joins is one of those that a run is for", () =>
    Effect.gen(function*() {
      const flights = yield* made
      const { counts, effect, gate } = yield* lookup
      const joined = Effect.withFiberRuntime<string, unknown>((caller) =>
        Effect.async<string, unknown>((resume) => {
          const waiter = { within: SingleFlight.flightOf(caller), flight: undefined, resume }
          if (!flights.join("a", waiter)) return resume(Effect.succeed("nothing to join"))
          return Effect.suspend(() => flights.leave("a", waiter))
        })
      )
      assert.strictEqual(yield* joined, "nothing to join")
      const seen: Array<string> = []
      const first = yield* Effect.fork(flights.run("a", effect, effect, () => seen.push("first")))
      yield* settled
      const others = yield* Effect.forEach([1, 2], () => Effect.fork(joined))
      const later = yield* Effect.fork(flights.run("a", Effect.die("b"), effect, () => seen.push("later")))
      yield* settled
      assert.deepStrictEqual(seen, ["first", "later"])
      // It lives as long as one of them.
      yield* Fiber.interruptAll([first, later, others[0]!])
      assert.deepStrictEqual(counts, { begun: 1, interrupted: 0, ended: 0 })
      yield* Deferred.succeed(gate, "value")
      assert.strictEqual(yield* Fiber.join(others[1]!), "value")
      const last = yield* lookup
      yield* Effect.fork(flights.run("a", last.effect)).pipe(
        Effect.zipLeft(settled),
        Effect.flatMap((first) =>
          Effect.flatMap(Effect.zipLeft(Effect.fork(joined), settled), (second) => Fiber.interruptAll([first, second]))
        )
      )
      assert.deepStrictEqual(last.counts, { begun: 1, interrupted: 1, ended: 1 })
      assert.strictEqual(flights.size(), 0)
      // Who is a part of it would wait for itself.
      assert.strictEqual(yield* flights.run("a", joined), "nothing to join")
      assert.strictEqual(yield* flights.run("a", flights.run("b", joined)), "nothing to join")
      assert.strictEqual(
        yield* flights.run("a", flights.run("a", Effect.die("c"), joined, () => seen.push("nested"))),
        "nothing to join"
      )
      assert.deepStrictEqual(seen, ["first", "later", "nested"])
    }))

  describe("interruption", () => {
    it.scoped("of the first caller hurts nobody", () =>
      Effect.gen(function*() {
        const flights = yield* made
        const { counts, effect, gate } = yield* lookup
        const first = yield* Effect.fork(flights.run("a", effect))
        const second = yield* Effect.fork(flights.run("a", effect))
        yield* settled
        assert.isTrue(isInterrupted(yield* Fiber.interrupt(first)))
        const third = yield* Effect.fork(flights.run("a", effect))
        yield* settled
        yield* Deferred.succeed(gate, "value")
        assert.deepStrictEqual(yield* Fiber.join(Fiber.all([second, third])), ["value", "value"])
        assert.deepStrictEqual(counts, { begun: 1, interrupted: 0, ended: 1 })
      }))

    it.scoped("of the last one interrupts the run, and waits until it has ended", () =>
      Effect.gen(function*() {
        const flights = yield* made
        const cleaning = yield* Deferred.make<void>()
        let ended = false
        const effect = Effect.onInterrupt(
          Effect.never,
          () => Effect.zipRight(Deferred.await(cleaning), Effect.sync(() => (ended = true)))
        )
        const first = yield* Effect.fork(flights.run("a", effect))
        const second = yield* Effect.fork(flights.run("a", effect))
        yield* settled
        yield* Fiber.interrupt(first)
        assert.isFalse(ended)
        const interruption = yield* Effect.fork(Fiber.interrupt(second))
        yield* settled
        assert.isTrue(Option.isNone(yield* Fiber.poll(interruption)))
        // Who comes now does not get the one that is ending, and does not wait for it.
        assert.strictEqual(yield* flights.run("a", Effect.succeed("new")), "new")
        yield* Deferred.succeed(cleaning, undefined)
        yield* Fiber.join(interruption)
        assert.isTrue(ended)
      }))

    it.scoped("of all callers at once ends the run once", () =>
      Effect.gen(function*() {
        const flights = yield* made
        const { counts, effect } = yield* lookup
        const callers = yield* Effect.forEach([1, 2, 3, 4], () => Effect.fork(flights.run("a", effect)))
        yield* settled
        yield* Fiber.interruptAll(callers)
        assert.deepStrictEqual(counts, { begun: 1, interrupted: 1, ended: 1 })
        assert.strictEqual(flights.size(), 0)
      }))

    it.scoped("reaches a run that was begun where nothing is interrupted", () =>
      Effect.gen(function*() {
        const flights = yield* made
        const { counts, effect, gate } = yield* lookup
        let got: string | undefined
        const first = yield* Effect.fork(
          Effect.uninterruptible(Effect.map(flights.run("a", effect), (value) => (got = value)))
        )
        const second = yield* Effect.fork(flights.run("a", effect))
        yield* settled
        const interruption = yield* Effect.fork(Fiber.interrupt(first))
        yield* Fiber.interrupt(second)
        yield* settled
        // The caller can't be interrupted, so it still counts.
        assert.strictEqual(counts.ended, 0)
        yield* Deferred.succeed(gate, "value")
        yield* Fiber.join(interruption)
        assert.strictEqual(got, "value")
        // One that can be interrupted, and began where it was masked for a moment.
        const masked = yield* lookup
        const third = yield* Effect.fork(
          Effect.uninterruptibleMask((restore) => restore(flights.run("a", masked.effect)))
        )
        yield* settled
        yield* Fiber.interrupt(third)
        assert.strictEqual(masked.counts.interrupted, 1)
      }))

    for (const role of ["alone", "first", "later"] as const) {
      it.scoped(`at every step takes nothing from others, and leaves nothing behind: ${role}`, () =>
        Effect.gen(function*() {
          const flights = yield* made
          for (const yields of [true, false]) {
            let step = 1
            for (let done = false; !done; step++) {
              const at = `step ${step}, ${yields ? "with" : "without"} a pause`
              const { counts, effect, gate } = yield* lookup
              const call = flights.run("a", effect)
              const before = role === "later" ? yield* Effect.fork(call) : undefined
              if (before !== undefined) yield* settled
              const [caller, interrupted] = yield* forkWith(call, { step, yields, interrupts: true })
              const after = role === "first" ? yield* Effect.fork(call) : undefined
              yield* settled
              yield* Deferred.succeed(gate, "value")
              const exit = yield* Fiber.await(caller)
              done = !interrupted()
              assert.isTrue(done ? Exit.isSuccess(exit) : Exit.isSuccess(exit) || isInterrupted(exit), at)
              const other = before ?? after
              if (other !== undefined) {
                assert.strictEqual(yield* Fiber.join(other), "value", at)
                assert.isAtMost(counts.begun, role === "later" ? 1 : 2, at)
              }
              yield* settled
              assert.strictEqual(counts.ended, counts.begun, at)
              assert.strictEqual(flights.size(), 0, at)
            }
            // Otherwise the scheduler was never asked.
            assert.isAbove(step, 8)
          }
        }))
    }
  })

  describe("a run that needs itself", () => {
    it.scoped("runs what is nested in its place", () =>
      Effect.gen(function*() {
        const flights = yield* made
        const inner = flights.run("a", Effect.succeed("inner"))
        assert.strictEqual(yield* flights.run("a", inner), "inner")
        const other = flights.run("a", Effect.die("not this one"), Effect.succeed("nested"))
        assert.strictEqual(yield* flights.run("a", other), "nested")
        assert.strictEqual(yield* flights.run("a", Effect.flatMap(Effect.fork(other), Fiber.join)), "nested")
      }))

    it.scoped("by way of others", () =>
      Effect.gen(function*() {
        const flights = yield* made
        const others = yield* made
        const innermost = flights.run("a", Effect.die("not this one"), Effect.succeed("nested"))
        assert.strictEqual(yield* flights.run("a", others.run("b", flights.run("c", innermost))), "nested")
      }))

    it.scoped("when two runs need each other, neither waits for ever", () =>
      Effect.gen(function*() {
        const flights = yield* made
        const begun = yield* Effect.all([Deferred.make<void>(), Deferred.make<void>()])
        const together = Effect.forEach(begun, Deferred.await)
        const one = flights.run(
          "a",
          Deferred.succeed(begun[0], undefined).pipe(
            Effect.zipRight(together),
            Effect.zipRight(flights.run("b", Effect.die("b is under way"), Effect.succeed("b in a")))
          )
        )
        const other = flights.run(
          "b",
          Deferred.succeed(begun[1], undefined).pipe(
            Effect.zipRight(together),
            Effect.zipRight(flights.run("a", Effect.die("a is under way"), Effect.succeed("a in b")))
          )
        )
        // Whoever comes second finds that it would wait for itself.
        const values = yield* Effect.all([one, other], { concurrency: 2 })
        assert.include([["b in a", "b in a"], ["a in b", "a in b"]].map(String), String(values))
      }))

    it.scoped("other keys inside of it are shared as ever", () =>
      Effect.gen(function*() {
        const flights = yield* made
        const shared = yield* lookup
        const a = yield* Effect.fork(flights.run("a", flights.run("c", shared.effect)))
        const b = yield* Effect.fork(flights.run("b", flights.run("c", shared.effect)))
        yield* settled
        assert.strictEqual(flights.size(), 3)
        // The last caller of `c` that is left keeps it running.
        yield* Fiber.interrupt(a)
        assert.strictEqual(shared.counts.ended, 0)
        yield* Deferred.succeed(shared.gate, "c")
        assert.strictEqual(yield* Fiber.join(b), "c")
        assert.deepStrictEqual(shared.counts, { begun: 1, interrupted: 0, ended: 1 })
      }))

    it.scoped("interrupting a caller interrupts what only its run needs", () =>
      Effect.gen(function*() {
        const flights = yield* made
        const inner = yield* lookup
        const caller = yield* Effect.fork(flights.run("a", flights.run("b", inner.effect)))
        yield* settled
        yield* Fiber.interrupt(caller)
        assert.deepStrictEqual(inner.counts, { begun: 1, interrupted: 1, ended: 1 })
        assert.strictEqual(flights.size(), 0)
      }))

    it.scoped("what a run has left behind may begin it again", () =>
      Effect.gen(function*() {
        const flights = yield* made
        const daemon = yield* flights.run(
          "a",
          Effect.forkDaemon(Effect.zipRight(settled, flights.run("a", Effect.succeed("again"), Effect.die("nested"))))
        )
        assert.strictEqual(yield* Fiber.join(daemon), "again")
        assert.strictEqual(yield* flights.run("a", Effect.succeed("after"), Effect.die("nested")), "after")
      }))

    it.scoped("what a run has left behind waits for those that needed it, as anybody does", () =>
      Effect.gen(function*() {
        const flights = yield* made
        const { effect, gate } = yield* lookup
        const leftBehind = Effect.zipRight(
          settled,
          flights.run("b", Effect.die("b is under way"), Effect.die("nested"))
        )
        const caller = yield* Effect.fork(
          flights.run("b", Effect.zip(flights.run("a", Effect.forkDaemon(leftBehind)), effect))
        )
        yield* Effect.repeatN(settled, 2)
        yield* Deferred.succeed(gate, "value")
        const result = yield* Fiber.join(caller)
        assert.strictEqual(result[1], "value")
        assert.strictEqual(yield* Fiber.join(result[0]), result)
      }))

    it.scoped("a run knows whether another one waits for it", () =>
      Effect.gen(function*() {
        const flights = yield* made
        const ask = Effect.zipRight(settled, SingleFlight.isNeeded)
        assert.isFalse(yield* SingleFlight.isNeeded)
        assert.isFalse(yield* flights.run("a", ask))
        assert.isTrue(yield* flights.run("a", flights.run("b", ask)))
        assert.isFalse(yield* flights.run("a", Effect.zipRight(flights.run("b", ask), SingleFlight.isNeeded)))
        const first = yield* Effect.fork(flights.run("b", ask))
        yield* Effect.yieldNow()
        const second = yield* Effect.fork(flights.run("a", flights.run("b", Effect.die("b is under way"))))
        assert.isTrue(yield* Fiber.join(first))
        assert.isTrue(yield* Fiber.join(second))
      }))

    it.scoped("many runs that need the same ones are seen through at once", () =>
      Effect.gen(function*() {
        const flights = yield* made
        let runs = 0
        // Its paths are as many as its result, its runs as few as n.
        const fibonacci = (n: number): Effect.Effect<number> =>
          flights.run(
            String(n),
            Effect.zipRight(
              Effect.sleep("1 millis"),
              Effect.suspend(() => {
                runs++
                return n < 2
                  ? Effect.succeed(n)
                  : Effect.zipWith(fibonacci(n - 1), fibonacci(n - 2), (a, b) => a + b, { concurrent: true })
              })
            )
          )
        const fiber = yield* Effect.fork(fibonacci(60))
        while ((yield* Fiber.poll(fiber))._tag === "None") yield* TestClock.adjust("1 millis")
        assert.strictEqual(yield* Fiber.join(fiber), 1548008755920)
        assert.isAtMost(runs, 60 * 4)
      }))
  })

  it.scoped("after an invalidation callers begin a new run, and the old one is nobody else's", () =>
    Effect.gen(function*() {
      const flights = yield* made
      const old = yield* lookup
      const fresh = yield* lookup
      const first = yield* Effect.fork(flights.run("a", old.effect))
      yield* settled
      flights.invalidate("a")
      const second = yield* Effect.fork(flights.run("a", fresh.effect))
      yield* settled
      yield* Deferred.succeed(old.gate, "old")
      assert.strictEqual(yield* Fiber.join(first), "old")
      // The end of the old run did not take away the new one.
      const third = yield* Effect.fork(flights.run("a", fresh.effect))
      yield* settled
      yield* Deferred.succeed(fresh.gate, "new")
      assert.deepStrictEqual(yield* Fiber.join(Fiber.all([second, third])), ["new", "new"])
      assert.strictEqual(fresh.counts.begun, 1)
    }))

  it.scoped("an old run that loses its last caller does not take away the new one", () =>
    Effect.gen(function*() {
      const flights = yield* made
      const old = yield* lookup
      const fresh = yield* lookup
      const first = yield* Effect.fork(flights.run("a", old.effect))
      yield* settled
      flights.invalidate("a")
      const second = yield* Effect.fork(flights.run("a", fresh.effect))
      yield* settled
      yield* Fiber.interrupt(first)
      assert.strictEqual(old.counts.interrupted, 1)
      assert.strictEqual(flights.size(), 1)
      yield* Deferred.succeed(fresh.gate, "new")
      assert.strictEqual(yield* Fiber.join(second), "new")
    }))

  it.effect("the end of the scope ends the runs and frees their callers", () =>
    Effect.gen(function*() {
      const scope = yield* Scope.make()
      const flights = SingleFlight.make<string>(scope)
      const { counts, effect } = yield* lookup
      const caller = yield* Effect.fork(flights.run("a", effect))
      yield* settled
      yield* Scope.close(scope, Exit.void)
      assert.deepStrictEqual(counts, { begun: 1, interrupted: 1, ended: 1 })
      assert.isTrue(isInterrupted(yield* Fiber.await(caller)))
      assert.strictEqual(flights.size(), 0)
      assert.isTrue(isInterrupted(yield* Effect.exit(flights.run("a", effect))))
    }))

  it.scoped("any order of calls, interruptions and ends: each caller gets the result of its run", () =>
    Effect.gen(function*() {
      const step = FastCheck.oneof(
        FastCheck.record({ step: FastCheck.constant("call" as const), key: FastCheck.constantFrom("a", "b") }),
        FastCheck.record({ step: FastCheck.constant("interrupt" as const), caller: FastCheck.nat(9) }),
        FastCheck.record({
          step: FastCheck.constantFrom("end" as const, "fail" as const, "invalidate" as const),
          key: FastCheck.constantFrom("a", "b")
        }),
        FastCheck.record({ step: FastCheck.constant("yield" as const) })
      )
      const runtime = yield* Effect.runtime<never>()
      yield* Effect.promise(() =>
        FastCheck.assert(
          FastCheck.asyncProperty(FastCheck.array(step, { maxLength: 40 }), (steps) =>
            Effect.gen(function*() {
              const flights = yield* made
              let active = 0
              const gates = new Map<string, Array<Deferred.Deferred<number, number>>>()
              let number = 0
              const run = (key: string) =>
                Effect.acquireUseRelease(
                  Effect.sync(() => {
                    active++
                    const gate = Deferred.unsafeMake<number, number>(FiberId.none)
                    gates.set(key, [...(gates.get(key) ?? []), gate])
                    return gate
                  }),
                  Deferred.await,
                  () => Effect.sync(() => active--)
                )
              const callers: Array<Fiber.RuntimeFiber<number, number>> = []
              const interrupted = new Set<number>()
              for (const step of steps) {
                if (step.step === "call") callers.push(yield* Effect.fork(flights.run(step.key, run(step.key))))
                else if (step.step === "yield") yield* settled
                else if (step.step === "interrupt") {
                  if (callers.length === 0) continue
                  interrupted.add(step.caller % callers.length)
                  yield* Fiber.interrupt(callers[step.caller % callers.length]!)
                } else if (step.step === "invalidate") flights.invalidate(step.key)
                else {
                  yield* settled
                  for (const gate of gates.get(step.key) ?? []) {
                    yield* step.step === "end" ? Deferred.succeed(gate, number++) : Deferred.fail(gate, number++)
                  }
                  gates.delete(step.key)
                }
              }
              yield* settled
              for (const gate of Array.from(gates.values()).flat()) yield* Deferred.succeed(gate, -1)
              for (let i = 0; i < callers.length; i++) {
                const exit = yield* Fiber.await(callers[i]!)
                // Nobody is interrupted who was not interrupted.
                if (!interrupted.has(i)) assert.isFalse(isInterrupted(exit))
              }
              assert.strictEqual(active, 0)
              assert.strictEqual(flights.size(), 0)
            }).pipe(Effect.scoped, Effect.provide(runtime), Effect.runPromise)),
          { numRuns: 300 }
        )
      )
    }))
})
