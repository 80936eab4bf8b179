import { assert, describe, it } from "@effect/vitest"
import { makeServer, NOT_INTEGER, run, steps, SYNTAX, WRONG_TYPE } from "./tools.js"

describe("SORT", () => {
  steps(
    "by numbers, or by bytes",
    ["RPUSH l 10 9 -1 1.5 9", 5],
    ["SORT l", ["-1", "1.5", "9", "9", "10"]],
    ["SORT l DESC LIMIT 1 2", ["9", "9"]],
    ["SORT l LIMIT -1 1", ["-1"]],
    ["SORT l LIMIT 4 -1 ALPHA", ["9"]],
    ["SORT l ALPHA", ["-1", "1.5", "10", "9", "9"]],
    ["SADD s b a c", 3],
    ["SORT s", "-ERR One or more scores can't be converted into double"],
    ["SORT s ALPHA DESC", ["c", "b", "a"]],
    ["ZADD z 3 1 2 2 1 3", 3],
    ["SORT z", ["1", "2", "3"]],
    ["SORT none", []],
    ["SET string x", "+OK"],
    ["SORT string", WRONG_TYPE],
    ["SORT l LIMIT 1", SYNTAX],
    ["SORT l LIMIT x 1", NOT_INTEGER]
  )
  steps(
    "by other keys, and with their contents",
    ["RPUSH ids 1 2 3", 3],
    ["MSET weight_1 30 weight_2 10 name_1 ada name_2 bob", "+OK"],
    ["HSET user:1 age 5 name Ada", 2],
    ["HSET user:3 age 1", 1],
    ["SORT ids BY weight_*", ["3", "2", "1"]],
    ["SORT ids BY user:*->age DESC", ["1", "3", "2"]],
    ["SORT ids GET # GET name_* GET user:*->name", ["1", "ada", "Ada", "2", "bob", null, "3", null, null]],
    ["SORT ids BY name_* ALPHA DESC GET name_*", ["bob", "ada", null]],
    ["SORT ids BY nosort DESC", ["3", "2", "1"]],
    ["SORT ids BY weight_* STORE to GET name_*", 3],
    ["LRANGE to 0 -1", ["", "bob", "ada"]],
    ["SORT none STORE to", 0],
    ["EXISTS to", 0],
    ["SORT_RO ids DESC", ["3", "2", "1"]],
    ["SORT_RO ids STORE to", SYNTAX]
  )

  it("in a cluster it reads no key that was not named", () => {
    run(makeServer({ cluster: true }), [
      ["RPUSH {a}l 1", 1],
      ["SORT {a}l BY w_*", "-ERR BY option of SORT denied in cluster mode."],
      ["SORT {a}l GET #", "-ERR GET option of SORT denied in cluster mode."],
      ["SORT {a}l BY nosort STORE {a}to", 1],
      ["SORT {a}l STORE {b}to", "-CROSSSLOT Keys in request don't hash to the same slot"]
    ])
  })
})

describe("LCS", () => {
  steps(
    "text, length and places",
    ["MSET a ohmytext b mynewtext", "+OK"],
    ["LCS a b", "mytext"],
    ["LCS a b LEN", 6],
    ["LCS a b IDX", ["matches", [[[4, 7], [5, 8]], [[2, 3], [0, 1]]], "len", 6]],
    ["LCS a b IDX MINMATCHLEN 4 WITHMATCHLEN", ["matches", [[[4, 7], [5, 8], 4]], "len", 6]],
    ["LCS a none", ""],
    ["LCS a none IDX", ["matches", [], "len", 0]],
    ["LCS a b IDX LEN", "-ERR If you want both the length and indexes, please just use IDX."],
    ["LCS a b FOO", SYNTAX],
    ["RPUSH l 1", 1],
    ["LCS a l", "-ERR The specified keys must contain string values"]
  )

  it("does not take all memory", () => {
    const server = makeServer()
    server.run("SET", "a", "x".repeat(20_000))
    assert.match(String(server.run("LCS", "a", "a", "LEN")), /^-ERR Insufficient memory/)
  })
})
