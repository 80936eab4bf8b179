import { assert, describe, it } from "@effect/vitest"
import { DateTime, Effect, Either, FastCheck } from "effect"
import { at } from "../../src/Leaderboard/Season.js"

const PERIODS = ["hour", "day", "week", "month", "year"] as const

const seasonAt = (period: typeof PERIODS[number], instant: string | number) =>
  Either.getOrThrow(at("test", period, DateTime.toEpochMillis(DateTime.unsafeMake(instant))))

describe("seasons", () => {
  it("have names by the calendar in UTC", () => {
    const instant = "2026-11-21T14:59:59.999Z"
    assert.deepStrictEqual(
      PERIODS.map((period) => seasonAt(period, instant).id),
      ["2026-11-21T14", "2026-11-21", "2026-W47", "2026-11", "2026"]
    )
  })

  it("weeks begin on Monday, and belong to the year of their Thursday", () => {
    const weeks = {
      "1970-01-01": "1970-W01",
      "2020-12-31": "2020-W53",
      "2021-01-03": "2020-W53",
      "2021-01-04": "2021-W01",
      "2024-12-29": "2024-W52",
      "2024-12-30": "2025-W01",
      "2027-01-01": "2026-W53"
    }
    assert.deepStrictEqual(
      Object.keys(weeks).map((day) => seasonAt("week", `${day}T12:00:00Z`).id),
      Object.values(weeks)
    )
  })

  it.effect.prop(
    "follow each other without a gap",
    {
      period: FastCheck.constantFrom(...PERIODS),
      millis: FastCheck.integer({ min: -1e12, max: 2e13 })
    },
    ({ millis, period }) =>
      Effect.sync(() => {
        const season = seasonAt(period, millis)
        assert.isAtMost(season.start, millis)
        assert.isAbove(season.end, millis)
        assert.deepStrictEqual(seasonAt(period, season.start), season)
        assert.deepStrictEqual(seasonAt(period, season.end - 1), season)
        const next = seasonAt(period, season.end)
        assert.strictEqual(next.start, season.end)
        assert.notStrictEqual(next.id, season.id)
      }),
    { fastCheck: { numRuns: 50 } }
  )
})
