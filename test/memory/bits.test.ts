import { assert, describe, it } from "@effect/vitest"
import { makeServer, NOT_INTEGER, run, steps, SYNTAX, WRONG_TYPE } from "./tools.js"

const BAD_OFFSET = "-ERR bit offset is not an integer or out of range"
const BAD_BIT = "-ERR bit is not an integer or out of range"
const BAD_TYPE = "-ERR Invalid bitfield type. Use something like i16 u8. Note that u64 is not supported but i64 is."

describe("bits", () => {
  steps(
    "SETBIT and GETBIT",
    ["SETBIT a 1 1", 0],
    ["SETBIT a 7 1", 0],
    ["GET a", "A"],
    ["SETBIT a 1 0", 1],
    ["SETBIT a 18 1", 0],
    ["GET a", "\x01\0 "],
    ["GETBIT a 18", 1],
    ["GETBIT a 19", 0],
    ["GETBIT a 1000", 0],
    ["GETBIT none 3", 0],
    ["STRLEN a", 3],
    ["SETBIT a -1 1", BAD_OFFSET],
    ["SETBIT a 4294967296 1", BAD_OFFSET],
    ["SETBIT a x 2", BAD_OFFSET],
    ["SETBIT a 0 2", BAD_BIT],
    ["GETBIT a #0", BAD_OFFSET],
    ["LPUSH l x", 1],
    ["SETBIT l 0 1", WRONG_TYPE],
    ["GETBIT l 0", WRONG_TYPE]
  )

  it("the last bit that fits in a string of this process is the last that can be asked for", () => {
    const server = makeServer()
    run(server, [
      ["GETBIT a 4294967103", 0],
      ["SETBIT a 4294967104 1", BAD_OFFSET],
      ["BITFIELD a GET u8 4294967103", [0]],
      ["BITFIELD a SET u8 4294967103 1", BAD_OFFSET],
      ["EXISTS a", 0]
    ])
  })

  it("an unchanged bit is no change of the key, a longer string is one", () => {
    const server = makeServer()
    const other = server.engine.connect()
    const changes = (command: string): boolean => {
      server.runAs(other, "WATCH", "a")
      server.run(...command.split(" "))
      server.runAs(other, "MULTI")
      return server.runAs(other, "EXEC") === null
    }
    assert.isTrue(changes("SETBIT a 9 0"))
    assert.isFalse(changes("SETBIT a 9 0"))
    assert.isTrue(changes("SETBIT a 16 0"))
    assert.isFalse(changes("BITFIELD a GET u8 0 SET u8 0 0"))
    assert.isTrue(changes("BITFIELD a SET u8 0 1"))
  })

  it("a key that is changed keeps its life, the result of BITOP has none", () => {
    const server = makeServer()
    run(server, [
      ["SET a x PX 1000", "+OK"],
      ["SETBIT a 0 1", 0],
      ["BITFIELD a INCRBY u8 0 1", [0xf9]],
      ["PTTL a", 1000],
      ["BITOP NOT a a", 1],
      ["PTTL a", -1]
    ])
  })

  steps(
    "BITCOUNT",
    ["SET a foobar", "+OK"],
    ["BITCOUNT a", 26],
    ["BITCOUNT a 0 0", 4],
    ["BITCOUNT a 1 1 BYTE", 6],
    ["BITCOUNT a 5 30 BIT", 17],
    ["BITCOUNT a -9 -2 bit", 5],
    ["BITCOUNT a -1 -2", 0],
    ["BITCOUNT a 2", SYNTAX],
    ["BITCOUNT a 0 -1 NIBBLE", SYNTAX],
    ["BITCOUNT a x 1", NOT_INTEGER],
    ["BITCOUNT none", 0]
  )
  steps(
    "BITPOS",
    ["BITFIELD a SET u24 0 16773120", [0]],
    ["BITPOS a 0", 12],
    ["BITPOS a 1", 0],
    ["BITPOS a 1 2", -1],
    ["BITPOS a 0 7 15 BIT", 12],
    ["BITPOS a 0 0 0", -1],
    ["BITPOS a 0 0 11 BIT", -1],
    ["SETRANGE b 0 \xff\xff", 2],
    ["BITPOS b 0", 16],
    ["BITPOS b 0 1", 16],
    ["BITPOS b 0 0 -1", -1],
    ["BITPOS none 0", 0],
    ["BITPOS none 1", -1],
    ["BITPOS a 2", "-ERR The bit argument must be 1 or 0."],
    ["BITPOS a 1 0 -1 FOO", SYNTAX]
  )
  steps(
    "BITOP",
    ["SET a abc", "+OK"],
    ["SET b AB", "+OK"],
    ["BITOP AND to a b", 3],
    ["GET to", "AB\0"],
    ["BITOP or to a b none", 3],
    ["GET to", "abc"],
    ["BITOP XOR to a b", 3],
    ["GET to", "  c"],
    ["BITOP NOT to b", 2],
    ["GET to", "\xbe\xbd"],
    ["BITOP NOT to a b", "-ERR BITOP NOT must be called with a single source key."],
    ["BITOP NAND to a b", SYNTAX],
    ["BITOP AND to none", 0],
    ["EXISTS to", 0],
    ["LPUSH l x", 1],
    ["BITOP AND to a l", WRONG_TYPE]
  )
  steps(
    "BITFIELD wraps, saturates, or refuses",
    ["BITFIELD a INCRBY u2 100 1 OVERFLOW SAT INCRBY u2 102 1", [1, 1]],
    ["BITFIELD a INCRBY u2 100 1 OVERFLOW SAT INCRBY u2 102 1", [2, 2]],
    ["BITFIELD a INCRBY u2 100 1 OVERFLOW SAT INCRBY u2 102 1", [3, 3]],
    ["BITFIELD a INCRBY u2 100 1 OVERFLOW SAT INCRBY u2 102 1", [0, 3]],
    ["BITFIELD a OVERFLOW FAIL INCRBY u2 102 1 GET u2 102", [null, 3]],
    ["BITFIELD b SET i8 #1 -100 OVERFLOW WRAP INCRBY i8 8 -100", [0, 56]],
    ["BITFIELD b OVERFLOW SAT SET i8 0 1000 SET i8 0 -1000 GET i8 0", [0, 127, -128]],
    ["BITFIELD b OVERFLOW SAT SET u8 0 -1 GET u8 0", [128, 255]],
    ["GET b", "\xff8"],
    ["BITFIELD c SET i64 0 -9223372036854775808 INCRBY i64 0 -1", [0, 2 ** 63]],
    ["BITFIELD c SET u63 1 9223372036854775807 GET u63 1", [2 ** 63, 2 ** 63]],
    ["BITFIELD c SET u64 0 1", BAD_TYPE],
    ["BITFIELD c GET i65 0", BAD_TYPE],
    ["BITFIELD c GET u8 -1", BAD_OFFSET],
    ["BITFIELD c OVERFLOW ROUND", "-ERR Invalid OVERFLOW type specified"],
    ["BITFIELD c SET u8 0", SYNTAX],
    ["BITFIELD c", []],
    ["BITFIELD none GET u8 0", [0]],
    ["EXISTS none", 0],
    ["BITFIELD_RO b GET u8 0 GET u4 #3", [255, 8]],
    ["BITFIELD_RO b SET u8 0 1", "-ERR BITFIELD_RO only supports the GET subcommand"]
  )
})
