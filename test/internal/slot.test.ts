import { assert, describe, it } from "@effect/vitest"
import { Effect, Either, FastCheck } from "effect"
import { hashSlot, hashSlotOf, hashTag } from "../../src/internal/slot.js"
import { connect } from "../IoRedis/support.js"
import * as RealServer from "../kit/RealServer.js"

describe("hash slots", () => {
  it("are those of the specification", () => {
    // The check value of CRC16/XMODEM is 0x31c3.
    assert.strictEqual(hashSlot("123456789"), 0x31c3)
    assert.strictEqual(hashSlot("foo"), 12182)
    assert.strictEqual(hashSlot("bar"), 5061)
    assert.strictEqual(hashSlot("hello"), 866)
    assert.strictEqual(hashSlot(""), 0)
  })

  it("look at the hash tag alone, when there is one", () => {
    assert.strictEqual(hashTag("{user1000}.following"), "user1000")
    assert.strictEqual(hashTag("foo{}{bar}"), "foo{}{bar}")
    assert.strictEqual(hashTag("foo{{bar}}zap"), "{bar")
    assert.strictEqual(hashTag("foo{bar}{zap}"), "bar")
    assert.strictEqual(hashTag("foo{bar"), "foo{bar")
    assert.strictEqual(hashTag("foo}bar{"), "foo}bar{")
    assert.strictEqual(hashTag("}{a}"), "a")
    assert.strictEqual(hashSlot("{user1000}.following"), hashSlot("{user1000}.followers"))
  })

  it("of text and of its bytes are the same", () => {
    const odd = ["{", "}", "{}", "{}a", "a{}b", "{{a}}", "}{a}", "{日本}x", "x{y", ""]
    for (const key of odd) assert.strictEqual(hashSlotOf(Buffer.from(key)), hashSlot(key), key)
    // Half of a pair has no bytes of its own.
    FastCheck.assert(
      FastCheck.property(
        FastCheck.string({ unit: "grapheme" }),
        (key) => hashSlotOf(Buffer.from(key)) === hashSlot(key) && hashSlotOf(key) === hashSlot(key)
      )
    )
  })

  it("are from 0 to 16383", () => {
    FastCheck.assert(FastCheck.property(FastCheck.string({ unit: "binary" }), (key) => {
      const slot = hashSlot(key)
      return Number.isInteger(slot) && slot >= 0 && slot < 16384
    }))
  })

  it("of a tag and of a key around it are the same", () => {
    const text = FastCheck.string({ unit: "grapheme" })
    FastCheck.assert(FastCheck.property(text, text, text, (before, tag, after) => {
      FastCheck.pre(tag !== "" && !tag.includes("}") && !tag.includes("{") && !before.includes("{"))
      return hashSlot(`${before}{${tag}}${after}`) === hashSlot(tag)
    }))
  })

  it.scopedLive("are what a server says", () =>
    Effect.gen(function*() {
      const server = yield* RealServer.start({ args: ["--cluster-enabled", "yes"] })
      const client = yield* connect({ url: server.url })
      const keys = FastCheck.sample(FastCheck.string({ unit: "grapheme", minLength: 1, maxLength: 40 }), {
        numRuns: 500,
        seed: 1
      }).flatMap((key) => [key, `{${key}}x`, `a{${key}`, `a${key}}`])
      const replies = yield* client.pipeline(keys.map((key) => ["CLUSTER", "KEYSLOT", key] as const))
      assert.deepStrictEqual(replies.map(Either.getOrThrow), keys.map(hashSlot))
    }))
})
