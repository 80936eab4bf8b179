import { assert, describe, it } from "@effect/vitest"
import { entries, entryBundle } from "./bundle.js"
import { told } from "./sizes.js"

describe("no import grows by a fifth without the README saying so", () => {
  const sizes = told()

  it("each has its row", () => {
    assert.deepStrictEqual([...sizes.keys()].sort(), [...entries.keys()].sort(), "npm run sizes")
  })

  for (const [entry, size] of sizes) {
    it(`${entry} is about as big as the README says`, async () => {
      const { bytes } = await entryBundle(entry)
      assert.isBelow(bytes, size * 1.2 + 500, "npm run sizes, when it is meant to be so")
    })
  }
})
