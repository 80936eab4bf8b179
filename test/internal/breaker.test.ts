import { assert, describe, it } from "@effect/vitest"
import { Cause, Deferred, Effect, Exit, FastCheck, Fiber, Metric, Scope, TestClock } from "effect"
import * as Breaker from "../../src/internal/breaker.js"
import { breakersOpen } from "../../src/internal/metrics.js"
import {
  RedisConnectionError,
  RedisDecodeError,
  RedisInputError,
  RedisOutcomeUnknownError,
  RedisReplyError,
  RedisTimeoutError
} from "../../src/RedisError.js"
import { forkWith } from "../kit/steps.js"

const options: Breaker.Options = {
  name: "test",
  failures: 3,
  pause: 1000,
  counts: (error) => error === "outage"
}

const made = Breaker.make(options)

const outage = Effect.fail("outage" as const)
const otherwise = Effect.succeed("otherwise" as const)

const through = (breaker: Breaker.Breaker) => Effect.merge(breaker.run(Effect.succeed("through"), otherwise))
const fail = (breaker: Breaker.Breaker) => Effect.merge(breaker.run(outage, otherwise))

const opened = Effect.gen(function*() {
  const breaker = yield* made
  for (let i = 0; i < options.failures; i++) assert.strictEqual(yield* fail(breaker), "outage")
  assert.strictEqual(breaker.state(), "open")
  return breaker
})

/** Effect that waits to be told its result. */
const waiting = Effect.gen(function*() {
  const gate = yield* Deferred.make<"through", "outage" | "answer">()
  const begun = yield* Deferred.make<void>()
  return { gate, begun, effect: Effect.zipRight(Deferred.succeed(begun, undefined), Deferred.await(gate)) }
})

const gauge = Effect.map(Metric.value(breakersOpen("test")), ({ value }) => value)

describe("breaker", () => {
  it.scoped("opens after so many failures in a row, and answers otherwise without running anything", () =>
    Effect.gen(function*() {
      const breaker = yield* made
      assert.strictEqual(breaker.state(), "closed")
      for (let round = 0; round < 2; round++) {
        assert.strictEqual(yield* fail(breaker), "outage")
        assert.strictEqual(yield* fail(breaker), "outage")
        assert.strictEqual(yield* through(breaker), "through")
      }
      assert.strictEqual(yield* fail(breaker), "outage")
      assert.strictEqual(yield* fail(breaker), "outage")
      assert.strictEqual(breaker.state(), "closed")
      assert.strictEqual(yield* fail(breaker), "outage")
      assert.strictEqual(breaker.state(), "open")
      assert.strictEqual(yield* breaker.run(Effect.dieMessage("it ran"), otherwise), "otherwise")
      assert.deepStrictEqual(
        yield* Effect.exit(breaker.run(outage, Effect.fail("other failure"))),
        Exit.fail("other failure")
      )
    }))

  it.scoped("a failure that does not count is an answer; an interruption and a defect say nothing", () =>
    Effect.gen(function*() {
      const breaker = yield* made
      yield* fail(breaker)
      yield* fail(breaker)
      assert.strictEqual(yield* Effect.flip(breaker.run(Effect.fail("answer"), otherwise)), "answer")
      yield* fail(breaker)
      yield* fail(breaker)
      const fiber = yield* Effect.fork(breaker.run(Effect.never, otherwise))
      yield* Effect.yieldNow()
      yield* Fiber.interrupt(fiber)
      const died = yield* Effect.exit(breaker.run(Effect.die("defect"), otherwise))
      assert.isTrue(Exit.isFailure(died) && Cause.isDie(died.cause))
      assert.strictEqual(breaker.state(), "closed")
      yield* fail(breaker)
      assert.strictEqual(breaker.state(), "open")
    }))

  it.scoped("lets one call through after the pause, and closes when it succeeds", () =>
    Effect.gen(function*() {
      const breaker = yield* opened
      yield* TestClock.adjust("999 millis")
      assert.strictEqual(breaker.state(), "open")
      assert.strictEqual(yield* through(breaker), "otherwise")
      yield* TestClock.adjust("1 millis")
      assert.strictEqual(breaker.state(), "half-open")
      const { begun, effect, gate } = yield* waiting
      const probe = yield* Effect.fork(breaker.run(effect, Effect.dieMessage("no probe")))
      yield* Deferred.await(begun)
      assert.strictEqual(breaker.state(), "half-open")
      for (let i = 0; i < 10; i++) assert.strictEqual(yield* through(breaker), "otherwise")
      // However long it takes.
      yield* TestClock.adjust("1 hour")
      assert.strictEqual(yield* through(breaker), "otherwise")
      yield* Deferred.succeed(gate, "through")
      assert.strictEqual(yield* Fiber.join(probe), "through")
      assert.strictEqual(breaker.state(), "closed")
      assert.strictEqual(yield* through(breaker), "through")
      // It counts from the beginning.
      yield* fail(breaker)
      yield* fail(breaker)
      assert.strictEqual(breaker.state(), "closed")
    }))

  it.scoped("of a thousand calls at the same moment exactly one goes through", () =>
    Effect.gen(function*() {
      const breaker = yield* opened
      yield* TestClock.adjust("1 seconds")
      let probes = 0
      const probe = Effect.zipRight(Effect.sync(() => probes++), Effect.yieldNow())
      const results = yield* Effect.forEach(
        Array.from({ length: 1000 }),
        () => breaker.run(Effect.as(Effect.zipRight(probe, Effect.sleep(1)), "through"), otherwise),
        { concurrency: "unbounded" }
      ).pipe(Effect.fork, Effect.tap(() => TestClock.adjust("10 millis")), Effect.flatMap(Fiber.join))
      assert.strictEqual(probes, 1)
      assert.strictEqual(results.filter((result) => result === "through").length, 1)
    }))

  it.scoped("stays open for another pause when the probe fails", () =>
    Effect.gen(function*() {
      const breaker = yield* opened
      for (let round = 0; round < 3; round++) {
        yield* TestClock.adjust("1 seconds")
        assert.strictEqual(yield* fail(breaker), "outage")
        assert.strictEqual(breaker.state(), "open")
        yield* TestClock.adjust("999 millis")
        assert.strictEqual(yield* through(breaker), "otherwise")
        yield* TestClock.adjust("1 millis")
      }
      // An error that is an answer closes it.
      assert.strictEqual(yield* Effect.flip(breaker.run(Effect.fail("answer"), otherwise)), "answer")
      assert.strictEqual(breaker.state(), "closed")
    }))

  it.scoped("counts the pause of a probe from when it has failed", () =>
    Effect.gen(function*() {
      const breaker = yield* opened
      yield* TestClock.adjust("1 seconds")
      const { begun, effect, gate } = yield* waiting
      const probe = yield* Effect.fork(breaker.run(effect, otherwise))
      yield* Deferred.await(begun)
      yield* TestClock.adjust("5 seconds")
      yield* Deferred.fail(gate, "outage")
      yield* Fiber.await(probe)
      assert.strictEqual(breaker.state(), "open")
      yield* TestClock.adjust("1 seconds")
      assert.strictEqual(breaker.state(), "half-open")
    }))

  it.scoped("a probe that is interrupted, or dies, lets another one be the probe", () =>
    Effect.gen(function*() {
      const breaker = yield* opened
      yield* TestClock.adjust("1 seconds")
      const { begun, effect } = yield* waiting
      const probe = yield* Effect.fork(breaker.run(effect, otherwise))
      yield* Deferred.await(begun)
      yield* Fiber.interrupt(probe)
      assert.strictEqual(breaker.state(), "half-open")
      assert.isTrue(Exit.isFailure(yield* Effect.exit(breaker.run(Effect.die("defect"), otherwise))))
      assert.strictEqual(breaker.state(), "half-open")
      assert.strictEqual(yield* through(breaker), "through")
      assert.strictEqual(breaker.state(), "closed")
    }))

  it.scoped("a probe that is interrupted at any of its steps lets another one be the probe", () =>
    Effect.gen(function*() {
      for (const yields of [true, false]) {
        let step = 1
        for (let done = false; !done; step++) {
          const breaker = yield* opened
          yield* TestClock.adjust("1 seconds")
          const [probe, interrupted] = yield* forkWith(
            breaker.run(Effect.yieldNow(), otherwise),
            { step, yields, interrupts: true }
          )
          yield* Fiber.await(probe)
          done = !interrupted()
          if (breaker.state() !== "closed") assert.strictEqual(breaker.state(), "half-open", `step ${step}`)
          assert.strictEqual(yield* through(breaker), "through", `step ${step}`)
          assert.strictEqual(breaker.state(), "closed")
        }
        assert.isAbove(step, 8)
      }
    }))

  it.scoped("calls that began before it opened neither close it, nor keep it open longer, nor count afterwards", () =>
    Effect.gen(function*() {
      const breaker = yield* made
      const late = yield* Effect.all([waiting, waiting, waiting, waiting])
      const fibers = yield* Effect.forEach(late, ({ effect }) => Effect.fork(breaker.run(effect, otherwise)))
      yield* Effect.forEach(late, ({ begun }) => Deferred.await(begun))
      for (let i = 0; i < 3; i++) yield* fail(breaker)
      yield* TestClock.adjust("500 millis")
      yield* Deferred.succeed(late[0].gate, "through")
      yield* Fiber.await(fibers[0])
      assert.strictEqual(breaker.state(), "open")
      yield* Deferred.fail(late[1].gate, "outage")
      yield* Fiber.await(fibers[1]!)
      yield* TestClock.adjust("500 millis")
      assert.strictEqual(breaker.state(), "half-open")
      assert.strictEqual(yield* through(breaker), "through")
      yield* fail(breaker)
      yield* fail(breaker)
      yield* Deferred.fail(late[2].gate, "outage")
      yield* Fiber.await(fibers[2]!)
      assert.strictEqual(breaker.state(), "closed")
      yield* Deferred.succeed(late[3].gate, "through")
      yield* Fiber.await(fibers[3]!)
      yield* fail(breaker)
      assert.strictEqual(breaker.state(), "open")
    }))

  it.scoped("a call that is slow to become the probe finds another one, and is none", () =>
    Effect.gen(function*() {
      let step = 1
      for (let done = false; !done; step++) {
        const breaker = yield* opened
        yield* TestClock.adjust("1 seconds")
        let probes = 0
        const { effect, gate } = yield* waiting
        const probe = breaker.run(Effect.zipRight(Effect.sync(() => probes++), effect), otherwise)
        const [first, paused] = yield* forkWith(probe, { step, yields: true, interrupts: false })
        const second = yield* Effect.fork(probe)
        for (let i = 0; i < 20; i++) yield* Effect.yieldNow()
        assert.strictEqual(probes, 1, `step ${step}`)
        yield* Deferred.succeed(gate, "through")
        const results = yield* Fiber.join(Fiber.all([first, second]))
        assert.deepStrictEqual([...results].sort(), ["otherwise", "through"], `step ${step}`)
        done = !paused()
      }
      assert.isAbove(step, 8)
    }))

  it.effect("the metric says how many are open, and an end of its scope is no opening", () =>
    Effect.gen(function*() {
      const before = yield* gauge
      const scope = yield* Scope.make()
      const breaker = yield* Scope.extend(opened, scope)
      const another = yield* Scope.extend(opened, scope)
      assert.strictEqual((yield* gauge) - before, 2)
      yield* TestClock.adjust("1 seconds")
      yield* fail(breaker)
      assert.strictEqual((yield* gauge) - before, 2)
      yield* through(another)
      assert.strictEqual((yield* gauge) - before, 1)
      yield* Scope.close(scope, Exit.void)
      assert.strictEqual(yield* gauge, before)
      for (let i = 0; i < 3; i++) yield* fail(breaker)
      assert.strictEqual(yield* gauge, before)
    }))

  it("counts what says that the server is not there", () => {
    const target = "127.0.0.1:6379"
    const outages = [
      new RedisConnectionError({ target, reason: "unavailable", detail: "" }),
      new RedisTimeoutError({ target, command: "GET", timeout: 1 }),
      new RedisOutcomeUnknownError({ target, command: "SET", reason: "timeout" })
    ]
    const others = [
      new RedisReplyError({ command: "GET", code: "LOADING", reply: "" }),
      new RedisDecodeError({ command: "GET", detail: "" }),
      new RedisInputError({ operation: "get", field: "key", expected: "", actual: "" }),
      new Error("RedisTimeoutError"),
      { _tag: "RedisTimeoutError" },
      null,
      undefined
    ]
    assert.isTrue(outages.every(Breaker.isOutage))
    assert.isFalse(others.some(Breaker.isOutage))
  })

  it.effect("is what a plain model says, for any sequence of calls one after the other", () =>
    Effect.gen(function*() {
      const runtime = yield* Effect.runtime<never>()
      const step = FastCheck.oneof(
        FastCheck.constantFrom("ok" as const, "answer" as const, "outage" as const, "outage" as const, "die" as const),
        FastCheck.integer({ min: 1, max: 1500 })
      )
      yield* Effect.promise(() =>
        FastCheck.assert(
          FastCheck.asyncProperty(
            FastCheck.integer({ min: 1, max: 4 }),
            FastCheck.array(step, { maxLength: 40 }),
            (failures, steps) =>
              Effect.gen(function*() {
                const breaker = yield* Breaker.make({ ...options, failures })
                let failed = 0
                let until: number | undefined
                let now = 0
                for (const step of steps) {
                  if (typeof step === "number") {
                    yield* TestClock.adjust(step)
                    now += step
                    continue
                  }
                  const goes = until === undefined || now >= until
                  let ran = false
                  const call = Effect.suspend((): Effect.Effect<void, string> => {
                    ran = true
                    return step === "ok" ? Effect.void : step === "die" ? Effect.die(step) : Effect.fail(step)
                  })
                  yield* Effect.exit(breaker.run(call, otherwise))
                  assert.strictEqual(ran, goes)
                  if (goes && step === "outage") {
                    if (until !== undefined || ++failed >= failures) until = now + options.pause
                  } else if (goes && step !== "die") {
                    failed = 0
                    until = undefined
                  }
                  assert.strictEqual(
                    breaker.state(),
                    until === undefined ? "closed" : now >= until ? "half-open" : "open"
                  )
                }
              }).pipe(Effect.scoped, Effect.provide(runtime), Effect.runPromise)
          ),
          { numRuns: 100 }
        )
      )
    }))
})
