import { assert, describe, it } from "@effect/vitest"
import { Cron, DateTime, Either, FastCheck } from "effect"
import * as slots from "../../src/Queue/slots.js"

const MINUTE = 60_000
const HOUR = 60 * MINUTE

const millis = (text: string) => Date.parse(text)

const followingOf = (when: slots.When) => Either.getOrThrow(slots.following(when))

const take = (when: slots.When, after: string, count: number) => {
  const following = followingOf(when)
  const found: Array<string> = []
  for (let slot = following(millis(after)); slot !== undefined && found.length < count; slot = following(slot)) {
    found.push(new Date(slot).toISOString().replace(".000Z", "Z"))
  }
  return found
}

const limits: slots.Limits = { catchUp: "skip", grace: MINUTE }

const active = (slot: number, fired = 0): slots.Place => ({ slot, known: true, fired })

describe("slots of schedules", () => {
  it("where clocks go forward, a time that is left out comes as much later", () => {
    // In Zurich 02:00 was followed by 03:00 on 2025-03-30, which was 01:00 in UTC.
    assert.deepStrictEqual(take({ cron: "30 2 * * *", zone: "Europe/Zurich" }, "2025-03-28T12:00:00Z", 3), [
      "2025-03-29T01:30:00Z",
      "2025-03-30T01:30:00Z",
      "2025-03-31T00:30:00Z"
    ])
    // One that is there anyway is one slot.
    assert.deepStrictEqual(take({ cron: "30 2,3 * * *", zone: "Europe/Zurich" }, "2025-03-29T12:00:00Z", 3), [
      "2025-03-30T01:30:00Z",
      "2025-03-31T00:30:00Z",
      "2025-03-31T01:30:00Z"
    ])
    // Also for who asks after the change.
    assert.deepStrictEqual(take({ cron: "30 2 * * *", zone: "Europe/Zurich" }, "2025-03-30T01:10:00Z", 2), [
      "2025-03-30T01:30:00Z",
      "2025-03-31T00:30:00Z"
    ])
    assert.deepStrictEqual(take({ cron: "0 * * * *", zone: "Europe/Zurich" }, "2025-03-29T23:30:00Z", 3), [
      "2025-03-30T00:00:00Z",
      "2025-03-30T01:00:00Z",
      "2025-03-30T02:00:00Z"
    ])
    // Midnight was left out.
    assert.deepStrictEqual(take({ cron: "0 0 * * *", zone: "America/Sao_Paulo" }, "2018-11-03T12:00:00Z", 2), [
      "2018-11-04T03:00:00Z",
      "2018-11-05T02:00:00Z"
    ])
  })

  it("where they go back, a time that comes twice counts the first time, and every hour counts", () => {
    // In Zurich 03:00 was followed by 02:00 on 2025-10-26, which was 01:00 in UTC.
    assert.deepStrictEqual(take({ cron: "30 2 * * *", zone: "Europe/Zurich" }, "2025-10-24T12:00:00Z", 3), [
      "2025-10-25T00:30:00Z",
      "2025-10-26T00:30:00Z",
      "2025-10-27T01:30:00Z"
    ])
    assert.deepStrictEqual(take({ cron: "0 3 * * *", zone: "Europe/Zurich" }, "2025-10-25T12:00:00Z", 2), [
      "2025-10-26T02:00:00Z",
      "2025-10-27T02:00:00Z"
    ])
    assert.deepStrictEqual(take({ cron: "*/30 * * * *", zone: "Europe/Zurich" }, "2025-10-26T00:00:00Z", 5), [
      "2025-10-26T00:30:00Z",
      "2025-10-26T01:00:00Z",
      "2025-10-26T01:30:00Z",
      "2025-10-26T02:00:00Z",
      "2025-10-26T02:30:00Z"
    ])
  })

  it("asked in the second of these hours, it does not look back", () => {
    const following = followingOf({ cron: "30 2 * * *", zone: "Europe/Zurich" })
    for (const text of ["2025-10-26T01:00:00Z", "2025-10-26T01:10:00Z", "2025-10-26T01:59:59Z"]) {
      assert.strictEqual(following(millis(text)), millis("2025-10-27T01:30:00Z"))
    }
    assert.deepStrictEqual(take({ cron: "*/20 * * * *", zone: "Europe/Zurich" }, "2025-10-26T01:10:00Z", 3), [
      "2025-10-26T01:20:00Z",
      "2025-10-26T01:40:00Z",
      "2025-10-26T02:00:00Z"
    ])
    assert.deepStrictEqual(take({ cron: "59 59 2 * * *", zone: "Europe/Zurich" }, "2025-10-26T01:10:00Z", 1), [
      "2025-10-27T01:59:59Z"
    ])
  })

  const crons = [
    "*/15 * * * *",
    "7 * * * *",
    "*/20 * * 10,11 0",
    "30 1 * * *",
    "*/30 2,3 * * *",
    "5 0,1,2,23 * * *",
    "0 */2 * * *"
  ]
  const shifts = [
    ["Europe/Zurich", "2025-03-30T01:00:00Z"],
    ["Europe/Zurich", "2025-10-26T01:00:00Z"],
    ["America/New_York", "2025-11-02T06:00:00Z"],
    ["America/Sao_Paulo", "2018-02-18T02:00:00Z"],
    ["Australia/Lord_Howe", "2025-04-05T15:00:00Z"],
    ["UTC", "2025-10-26T01:00:00Z"]
  ] as const

  it("around a change of the clocks the next slot is always the same one, and later", () => {
    FastCheck.assert(
      FastCheck.property(
        FastCheck.constantFrom(...crons),
        FastCheck.constantFrom(...shifts),
        FastCheck.integer({ min: -4 * 3600, max: 4 * 3600 }),
        (cron, [zone, at], seconds) => {
          const following = followingOf({ cron, zone })
          const after = millis(at) + seconds * 1000
          const slot = following(after)!
          assert.isAbove(slot, after)
          // Whoever asks between them gets the same.
          for (const part of [0.25, 0.5, 0.75]) {
            assert.strictEqual(following(Math.floor(after + (slot - after) * part)), slot)
          }
          assert.strictEqual(following(slot - 1), slot)
        }
      ),
      { numRuns: 300 }
    )
  })

  it("a cron of every hour has the slots that its fields name, neither more nor fewer", () => {
    FastCheck.assert(
      FastCheck.property(
        FastCheck.constantFrom(...crons.filter((cron) => cron.split(" ")[1] === "*")),
        FastCheck.constantFrom(...shifts),
        FastCheck.integer({ min: -300, max: 0 }),
        (cron, [zone, at], minutes) => {
          const from = millis(at) + minutes * MINUTE
          const until = from + 8 * HOUR
          const following = followingOf({ cron, zone })
          const found: Array<number> = []
          for (let slot = following(from)!; slot <= until; slot = following(slot)!) found.push(slot)
          const parsed = Cron.unsafeParse(cron, DateTime.zoneUnsafeMakeNamed(zone))
          const named: Array<number> = []
          for (let minute = from + MINUTE; minute <= until; minute += MINUTE) {
            if (Cron.match(parsed, minute)) named.push(minute)
          }
          assert.deepStrictEqual(found, named)
        }
      ),
      { numRuns: 30 }
    )
  })

  it("intervals count from their start", () => {
    const following = followingOf({ every: 1000, start: 250 })
    assert.deepStrictEqual([-5, 0, 249, 250, 1249, 1250, 5e14].map(following), [
      250,
      250,
      250,
      1250,
      1250,
      2250,
      5e14 + 250
    ])
    assert.deepStrictEqual([0, 999, 1000].map(followingOf({ every: 1000 })), [1000, 1000, 2000])
    assert.strictEqual(
      followingOf({ cron: "* * * * *", zone: "UTC", start: millis("2030-01-01T00:00:00Z") })(0),
      millis("2030-01-01T00:00:00Z")
    )
  })

  it("a cron that never comes has no slots", () => {
    assert.isUndefined(followingOf({ cron: "0 0 31 2 *", zone: "UTC" })(0))
    assert.strictEqual(Either.getOrThrow(Either.flip(slots.following({ cron: "x", zone: "UTC" }))), "cron")
    assert.strictEqual(Either.getOrThrow(Either.flip(slots.following({ cron: "* * * * *", zone: "x" }))), "timeZone")
  })

  it("what becomes of a slot that is due", () => {
    const following = followingOf({ every: MINUTE })
    const step = (place: slots.Place, now: number, more: Partial<slots.Limits> = {}) =>
      slots.step(following, { ...limits, ...more }, place, now)
    assert.deepStrictEqual(step(active(5 * MINUTE), 5 * MINUTE), { fire: true, next: 6 * MINUTE })
    assert.deepStrictEqual(step(active(5 * MINUTE), 6 * MINUTE), { fire: true, next: 6 * MINUTE })
    // The first one that is not too late is not left out.
    assert.deepStrictEqual(step(active(5 * MINUTE), 9 * MINUTE), { fire: false, next: 8 * MINUTE })
    assert.deepStrictEqual(step(active(5 * MINUTE), 9 * MINUTE, { catchUp: "last" }), { fire: false, next: 7 * MINUTE })
    assert.deepStrictEqual(step(active(7 * MINUTE), 9 * MINUTE, { catchUp: "last" }), { fire: true, next: 8 * MINUTE })
    assert.deepStrictEqual(step(active(5 * MINUTE), 99 * MINUTE, { catchUp: "last", end: 8 * MINUTE }), {
      fire: false,
      next: 8 * MINUTE
    })
    assert.deepStrictEqual(step(active(8 * MINUTE), 99 * MINUTE, { catchUp: "last", end: 8 * MINUTE }), {
      fire: true,
      next: undefined
    })
    assert.deepStrictEqual(step(active(5 * MINUTE), 99 * MINUTE, { end: 8 * MINUTE }), { fire: false, next: undefined })
    // Limits may have been changed since the slot was found.
    assert.deepStrictEqual(step(active(5 * MINUTE), 5 * MINUTE, { end: 1 }), { fire: false, next: undefined })
    assert.deepStrictEqual(step(active(5 * MINUTE, 3), 5 * MINUTE, { count: 3 }), { fire: false, next: undefined })
    assert.deepStrictEqual(step(active(5 * MINUTE, 2), 5 * MINUTE, { count: 3 }), { fire: true, next: undefined })
    assert.deepStrictEqual(step({ slot: 5 * MINUTE, known: false, fired: 0 }, 5 * MINUTE), {
      fire: false,
      next: 6 * MINUTE
    })
  })

  it("the last of many missed slots is found at once", () => {
    const following = followingOf({ cron: "* * 3 * * *", zone: "Europe/Zurich" })
    const first = following(millis("2024-01-01T00:00:00Z"))!
    const now = millis("2025-06-01T12:00:00Z")
    const { fire, next } = slots.step(following, { catchUp: "last", grace: MINUTE }, active(first), now)
    assert.isFalse(fire)
    assert.strictEqual(next, millis("2025-06-01T01:59:59Z"))
  })
})
