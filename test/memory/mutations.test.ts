import { assert, describe, it } from "@effect/vitest"
import * as Fs from "node:fs"
import { mutations, plant } from "./mutations/mutations.js"

describe("mutations can be planted", () => {
  for (const mutation of mutations) {
    it(mutation.name, () => {
      const source = Fs.readFileSync(new URL(`../../src/memory/${mutation.file}`, import.meta.url), "utf8")
      assert.notStrictEqual(plant(mutation, source), source)
    })
  }

  it("but not where their line is gone or not the only one", () => {
    const mutation = { name: "bug", file: "Engine.ts", from: "one", to: "two" }
    assert.throws(() => plant(mutation, "zero"), "\"bug\" must be updated: src/memory/Engine.ts has 0 times one")
    assert.throws(() => plant(mutation, "one one"), "has 2 times one")
  })
})
