import { describe, it } from "@effect/vitest"
import { Effect } from "effect"
import * as Leaderboard from "../../src/Leaderboard/index.js"
import { run, scenario } from "./model.js"

describe("Leaderboard, whatever happens in whatever order", () => {
  it.effect.prop(
    "does what a plain model does",
    { scenario },
    ({ scenario }) => Effect.provide(run("model", scenario), Leaderboard.layerTest),
    { fastCheck: { numRuns: 60 }, timeout: 120_000 }
  )
})
