/**
 * What a server of Redis 7.0.15 has replied to the same commands; the strings are compared by their SHA-1.
 */
import { assert, describe, it } from "@effect/vitest"
import * as Crypto from "node:crypto"
import { makeServer, run, type Server, steps, WRONG_TYPE } from "./tools.js"

const INVALID = "-WRONGTYPE Key is not a valid HyperLogLog string value."
const CORRUPTED = "-INVALIDOBJ Corrupted HLL object detected"

const digest = (server: Server, key: string): string =>
  Crypto.createHash("sha1").update(Buffer.from(String(server.run("GET", key)), "latin1")).digest("hex")

/** In steps of a thousand. */
const fill = (server: Server, key: string, count: number): void => {
  for (let from = 0; from < count; from += 1000) {
    const length = Math.min(1000, count - from)
    server.run("PFADD", key, ...Array.from({ length }, (_, i) => `element:${from + i}`))
  }
}

const known = [
  [1, 1, 21, "946a3f384bd41aeac7fc2f5baa171a9779cbb61a"],
  [10, 10, 48, "e3e04df1a81a6ff6519b7fbb700d7061cc170f4c"],
  [100, 99, 285, "4d1b3bef5d497d64c4202942021f568e478230c6"],
  [1000, 997, 1897, "600cc26e1c0791fccdb3cde0fabfa0c84550674a"],
  [1700, 1706, 12304, "04977dcfe0ee256df4d1b896186ea08404aa7f08"],
  [10_000, 10_017, 12304, "ef0d216c5cd0e96ffaaeaaefbc929816d6a0f5d7"],
  [100_000, 100_039, 12304, "869bb2bd20736740dcdce657313393121906696b"]
] as const

describe("HyperLogLog", () => {
  for (const [count, estimate, size, sha1] of known) {
    it(`${count} elements: the server's estimate, and its bytes with the estimate in them`, () => {
      const server = makeServer()
      fill(server, "a", count)
      assert.strictEqual(server.run("PFCOUNT", "a"), estimate)
      assert.strictEqual(server.run("STRLEN", "a"), size)
      assert.strictEqual(digest(server, "a"), sha1)
    })
  }

  it("the union is estimated from the registers, and merged without promotion while it is sparse", () => {
    const server = makeServer()
    for (const count of [10, 100, 1000, 100_000]) fill(server, `h${count}`, count)
    assert.strictEqual(server.run("PFCOUNT", "h10", "none", "h1000", "h100000"), 100_039)
    assert.strictEqual(server.run("PFMERGE", "to", "h10", "h100", "h1000"), "+OK")
    assert.strictEqual(digest(server, "to"), "0e960765508b760a1d14e0dbf53a47cda116bf34")
    assert.strictEqual(server.run("PFMERGE", "to", "h100000"), "+OK")
    assert.strictEqual(server.run("STRLEN", "to"), 12304)
    assert.strictEqual(server.run("PFCOUNT", "to"), 100_039)
  })

  steps(
    "small ones",
    ["PFADD a", 1],
    ["PFADD a", 0],
    ["PFCOUNT a", 0],
    ["GET a", `HYLL\x01${"\0".repeat(11)}\x7f\xff`],
    ["PFADD a x y z", 1],
    ["PFADD a y x", 0],
    ["PFCOUNT a", 3],
    ["PFADD b z 1", 1],
    ["PFCOUNT a b none", 4],
    ["PFCOUNT none", 0],
    ["PFMERGE a b", "+OK"],
    ["PFCOUNT a", 4],
    ["PFMERGE c", "+OK"],
    ["PFCOUNT c", 0]
  )
  steps(
    "what is none",
    ["LPUSH l x", 1],
    ["PFADD l x", WRONG_TYPE],
    ["PFCOUNT none l", WRONG_TYPE],
    ["SET s text", "+OK"],
    ["PFADD s x", INVALID],
    ["PFCOUNT s", INVALID],
    ["PFADD a x", 1],
    ["PFMERGE a s", INVALID],
    ["SET s HYLL\x02aaabbbbbbbb", "+OK"],
    ["PFCOUNT s", INVALID],
    ["SET s HYLL\0aaabbbbbbbb", "+OK"],
    ["PFCOUNT s", INVALID],
    // Its registers end too early.
    ["SET s HYLL\x01aaabbbbbbb\xff\x01", "+OK"],
    ["PFCOUNT s", CORRUPTED],
    ["PFCOUNT s a", CORRUPTED],
    ["PFMERGE a s", CORRUPTED],
    ["PFADD s x", CORRUPTED],
    // One more run than there are registers.
    ["APPEND a \x01", 21],
    ["PFCOUNT a", CORRUPTED],
    // The last run lacks its second byte.
    ["PFADD b", 1],
    ["SETRANGE b 15 \0\0W", 18],
    ["PFADD b f", 1],
    ["STRLEN b", 21],
    ["PFCOUNT b", CORRUPTED]
  )

  it("counting keeps the estimate in the string, which is a change of the key", () => {
    const server = makeServer()
    const other = server.engine.connect()
    run(server, [["PFADD a x z", 1], ["PEXPIRE a 1000", 1]])
    const countChanges = (): boolean => {
      server.runAs(other, "WATCH", "a")
      assert.strictEqual(server.run("PFCOUNT", "a"), 2)
      server.runAs(other, "MULTI")
      return server.runAs(other, "EXEC") === null
    }
    assert.isTrue(countChanges())
    assert.isFalse(countChanges())
    run(server, [["PFADD a x", 0], ["GETRANGE a 8 15", "\x02\0\0\0\0\0\0\0"], ["PTTL a", 1000]])
    run(server, [["PFADD a y", 1], ["GETRANGE a 8 15", "\x02\0\0\0\0\0\0\x80"]])
  })
})
