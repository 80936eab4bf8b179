import { assert, describe, it } from "@effect/vitest"
import { FastCheck } from "effect"
import { parseAll } from "../../src/Cache/Shared.js"

const parse = (text: string): unknown => {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}

/** Texts that may just fit between others. */
const piece = FastCheck.array(FastCheck.constantFrom("{", "}", "[", "]", "\"", ",", ":", "1", "a", "\\", " ", "\n"), {
  maxLength: 8
}).map((parts) => parts.join(""))

const cut = FastCheck.tuple(FastCheck.json(), FastCheck.nat(), FastCheck.nat()).map(([text, from, to]) =>
  text.slice(from % 3 === 0 ? from % (text.length + 1) : 0, to % (text.length + 1))
)

describe("several texts of JSON", () => {
  it("are what each of them is", () => {
    assert.deepStrictEqual(parseAll([]), [])
    FastCheck.assert(
      FastCheck.property(FastCheck.array(FastCheck.json()), (texts) => {
        assert.deepStrictEqual(parseAll(texts), texts.map((text): unknown => JSON.parse(text)))
      })
    )
  })

  it("are nothing when one of them is none, whatever it is", () => {
    FastCheck.assert(
      FastCheck.property(
        FastCheck.array(FastCheck.json(), { maxLength: 3 }),
        FastCheck.oneof(piece, cut),
        FastCheck.array(FastCheck.json(), { maxLength: 3 }),
        (before, text, after) => {
          FastCheck.pre(parse(text) === undefined)
          assert.isUndefined(parseAll([...before, text, ...after]))
        }
      ),
      { numRuns: 20_000 }
    )
  })
})
