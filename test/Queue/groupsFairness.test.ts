import { assert, describe, it } from "@effect/vitest"
import { Effect, Layer } from "effect"
import * as Queue from "../../src/Queue/index.js"
import { live, memory } from "../kit/layers.js"
import { fresh } from "../kit/suites.js"
import { type Options, type Report, run } from "./groupsRun.js"

const small: Omit<Options, "name"> = {
  groups: 80,
  large: 3,
  skew: 80,
  concurrency: 3,
  workers: 5,
  vanish: 10
}

const judge = ({ claims, most, problems, slowest, vanished }: Report) => {
  assert.deepStrictEqual(problems, [])
  assert.isAtLeast(claims, 77 + 3 * 80)
  assert.isAbove(vanished, 0)
  assert.isBelow(slowest, 80)
  assert.strictEqual(most, 3)
}

describe("Queue, in short what `groupsSoak.ts` does at length", () => {
  it.effect("no group waits for more than a turn of each other one, in memory", () =>
    run({ ...small, name: fresh("fair") }).pipe(
      Effect.map(judge),
      Effect.provide(Layer.provideMerge(Queue.layer, memory))
    ))

  it.live("the same live", () =>
    run({ ...small, name: fresh("fair") }).pipe(
      Effect.map(judge),
      Effect.provide(Layer.provideMerge(Queue.layer, live))
    ), 60_000)
})
