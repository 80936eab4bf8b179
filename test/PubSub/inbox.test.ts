import { assert, describe, it } from "@effect/vitest"
import { FastCheck } from "effect"
import { Inbox, Missing } from "../../src/PubSub/Inbox.js"

type Step = "put" | "disconnected" | number

const step: FastCheck.Arbitrary<Step> = FastCheck.oneof(
  { weight: 8, arbitrary: FastCheck.constant("put" as const) },
  { weight: 2, arbitrary: FastCheck.constant("disconnected" as const) },
  { weight: 2, arbitrary: FastCheck.integer({ min: 1, max: 12 }) }
)

interface Mark {
  readonly dropped: number
  readonly disconnected: boolean
}

/** Does the steps, and reads all that is left. */
const run = (policy: "drop-oldest" | "drop-newest", capacity: number, steps: ReadonlyArray<Step>) => {
  const inbox = new Inbox<number>(capacity, policy)
  const seen: Array<number | Mark> = []
  const read = (most: number) => {
    for (const item of inbox.take(most)) {
      seen.push(item instanceof Missing ? { dropped: item.dropped, disconnected: item.disconnected } : item)
    }
  }
  let put = 0
  let outages = 0
  for (const each of steps) {
    if (each === "put") inbox.onMessage(put++)
    else if (each === "disconnected") {
      inbox.onGap()
      outages++
    } else read(each)
  }
  read(Infinity)
  return { inbox, seen, put, outages }
}

describe("what waits for a subscriber", () => {
  for (const policy of ["drop-oldest", "drop-newest"] as const) {
    it(`tells exactly what is missing, and where: ${policy}`, () => {
      FastCheck.assert(
        FastCheck.property(
          FastCheck.integer({ min: 1, max: 6 }),
          FastCheck.array(step, { maxLength: 120 }),
          (capacity, steps) => {
            const { inbox, outages, put, seen } = run(policy, capacity, steps)
            // Every message was read, or is counted by the mark in its place.
            let next = 0
            let marks = 0
            for (const each of seen) {
              if (typeof each === "number") {
                assert.strictEqual(each, next)
                next++
              } else {
                // One read can end with a mark, and the next begin with one, but never the same.
                marks += each.disconnected ? 1 : 0
                assert.isTrue(each.dropped > 0 || each.disconnected)
                next += each.dropped
              }
            }
            assert.strictEqual(next, put)
            assert.isAtMost(marks, outages)
            assert.isTrue(outages === 0 || marks > 0)
            assert.strictEqual(
              seen.reduce<number>((n, each) => n + (typeof each === "number" ? 0 : each.dropped), 0),
              inbox.dropped
            )
            assert.isTrue(inbox.isEmpty)
            assert.isFalse(inbox.isEnded)
          }
        ),
        { numRuns: 3000 }
      )
    })

    it(`holds no more than its messages and a mark for each: ${policy}`, () => {
      const inbox = new Inbox<number>(10, policy)
      for (let i = 0; i < 100_000; i++) {
        inbox.onMessage(i)
        if (i % 3 === 0) inbox.onGap()
      }
      assert.strictEqual(inbox.dropped, 99_990)
      const held = inbox.take(Infinity)
      assert.strictEqual(held.filter((item) => !(item instanceof Missing)).length, 10)
      assert.isAtMost(held.length, 21)
      // Marks never stand side by side.
      assert.isFalse(held.some((item, i) => item instanceof Missing && held[i + 1] instanceof Missing))
    })
  }

  it("ends when there is no room, with what waits still to be read", () => {
    const inbox = new Inbox<number>(2, "fail")
    for (let i = 0; i < 4; i++) inbox.onMessage(i)
    inbox.onGap()
    assert.isTrue(inbox.isEnded)
    assert.isTrue(inbox.overflown)
    assert.strictEqual(inbox.dropped, 1)
    assert.deepStrictEqual(inbox.take(Infinity), [0, 1])
    assert.isTrue(inbox.isEmpty)
  })

  it("is empty when it is closed", () => {
    const inbox = new Inbox<number>(2, "drop-oldest")
    inbox.onMessage(0)
    inbox.onEnd()
    inbox.onMessage(1)
    inbox.onGap()
    assert.isTrue(inbox.isEmpty)
    assert.isTrue(inbox.isEnded)
    assert.isFalse(inbox.overflown)
  })
})
