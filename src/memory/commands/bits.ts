/**
 * The bits of strings, counted from the highest of the first byte.
 */
import { type Argv, bigint, fail, firstKey, integer, is, type Run, type Table } from "../command.js"
import type { Engine } from "../Engine.js"
import { parseInt64 } from "../numbers.js"
import { type EngineReply, ErrorReply } from "../reply.js"
import { decodeBytes, encodeBytes } from "../text.js"
import { SYNTAX } from "../values.js"
import { INT64_MAX, MAX_STRING, write } from "./strings.js"

const BAD_OFFSET = new ErrorReply("ERR bit offset is not an integer or out of range")

/** With `width`, `#3` is the place of the fourth number of that width. */
const parseOffset = (text: string, width?: number): number => {
  const counted = width !== undefined && text.startsWith("#")
  let offset = parseInt64(counted ? text.slice(1) : text) ?? -1n
  // It wraps around, as in the server.
  if (counted) offset = BigInt.asIntN(64, offset * BigInt(width))
  if (offset < 0n || offset >= BigInt(MAX_STRING) * 8n) throw BAD_OFFSET
  return Number(offset)
}

const parseBit = (text: string): number =>
  text === "0" || text === "1" ? Number(text) : fail("ERR bit is not an integer or out of range")

const bitAt = (text: string, offset: number): number => {
  const at = Math.floor(offset / 8)
  return at < text.length ? (text.charCodeAt(at) >> (7 - offset % 8)) & 1 : 0
}

const setBit = (engine: Engine, argv: Argv): EngineReply => {
  const offset = parseOffset(argv[2]!)
  const bit = parseBit(argv[3]!)
  const present = engine.string(argv[1]!) ?? ""
  const at = Math.floor(offset / 8)
  const before = bitAt(present, offset)
  if (before === bit && at < present.length) return before
  const text = present.padEnd(at + 1, "\0")
  const mask = 0x80 >> offset % 8
  const byte = bit === 1 ? text.charCodeAt(at) | mask : text.charCodeAt(at) & ~mask
  write(engine, argv[1]!, text.slice(0, at) + String.fromCharCode(byte) + text.slice(at + 1))
  return before
}

// ---------------------------------------------------------------------------------------------------------------------
// Counting and finding
// ---------------------------------------------------------------------------------------------------------------------

/** How many bits of a byte are set. */
const ONES = Array.from({ length: 256 }, (_, byte) => byte.toString(2).replaceAll("0", "").length)

const isBitUnit = (text: string): boolean => {
  if (!is(text, "BIT") && !is(text, "BYTE")) throw SYNTAX
  return is(text, "BIT")
}

/** The bits from one to another, without that one; the ends are given in bits or in bytes and may count from the end. */
const span = (start: number, end: number, bits: boolean, length: number): readonly [from: number, to: number] => {
  const total = bits ? 8 * length : length
  const place = (index: number): number => Math.max(0, index < 0 ? total + index : index)
  const from = place(start)
  const to = Math.min(place(end), total - 1) + 1
  return bits ? [from, to] : [8 * from, 8 * to]
}

const count = (text: string, from: number, to: number): number => {
  let ones = 0
  let at = from
  for (; at < to && at % 8 !== 0; at++) ones += bitAt(text, at)
  for (; at + 8 <= to; at += 8) ones += ONES[text.charCodeAt(at / 8)]!
  for (; at < to; at++) ones += bitAt(text, at)
  return ones
}

/** The first bit that is as wanted, or `undefined`. */
const find = (text: string, bit: number, from: number, to: number): number | undefined => {
  const other = bit === 1 ? 0 : 0xff
  for (let at = from; at < to; at++) {
    if (at % 8 === 0 && at + 8 <= to && text.charCodeAt(at / 8) === other) at += 7
    else if (bitAt(text, at) === bit) return at
  }
  return undefined
}

const bitCount = (engine: Engine, argv: Argv): EngineReply => {
  const text = engine.string(argv[1]!)
  if (text === undefined) return 0
  if (argv.length === 2) return count(text, 0, 8 * text.length)
  if (argv.length !== 4 && argv.length !== 5) throw SYNTAX
  const start = integer(argv[2]!)
  const end = integer(argv[3]!)
  if (start < 0 && end < 0 && start > end) return 0
  return count(text, ...span(start, end, argv.length === 5 && isBitUnit(argv[4]!), text.length))
}

const bitPosition = (engine: Engine, argv: Argv): EngineReply => {
  const bit = integer(argv[2]!)
  if (bit !== 0 && bit !== 1) return new ErrorReply("ERR The bit argument must be 1 or 0.")
  const text = engine.string(argv[1]!)
  if (text === undefined) return bit === 1 ? -1 : 0
  if (argv.length > 6) throw SYNTAX
  const start = argv.length > 3 ? integer(argv[3]!) : 0
  const bits = argv.length > 5 && isBitUnit(argv[5]!)
  const end = argv.length > 4 ? integer(argv[4]!) : -1
  const [from, to] = span(start, end, bits, text.length)
  if (from >= to) return -1
  // Without an end, zeros follow the string for ever.
  return find(text, bit, from, to) ?? (bit === 0 && argv.length < 5 ? 8 * text.length : -1)
}

// ---------------------------------------------------------------------------------------------------------------------
// Several strings
// ---------------------------------------------------------------------------------------------------------------------

const OPERATIONS: Readonly<Record<string, (a: number, b: number) => number>> = {
  AND: (a, b) => a & b,
  OR: (a, b) => a | b,
  XOR: (a, b) => a ^ b,
  NOT: (a) => ~a
}

const combine = (engine: Engine, argv: Argv): EngineReply => {
  const operation = OPERATIONS[argv[1]!.toUpperCase()]
  if (operation === undefined) throw SYNTAX
  if (operation === OPERATIONS.NOT && argv.length !== 4) {
    return fail("ERR BITOP NOT must be called with a single source key.")
  }
  const sources = argv.slice(3).map((key) => decodeBytes(engine.string(key) ?? ""))
  const length = Math.max(...sources.map((source) => source.length))
  if (length === 0) {
    engine.remove(argv[2]!)
    return 0
  }
  const [first, ...others] = sources
  const result = new Uint8Array(length)
  for (let i = 0; i < length; i++) {
    let byte = first![i] ?? 0
    if (others.length === 0 && operation === OPERATIONS.NOT) byte = ~byte
    for (const other of others) byte = operation(byte, other[i] ?? 0)
    result[i] = byte
  }
  engine.assign(argv[2]!, encodeBytes(result))
  return length
}

// ---------------------------------------------------------------------------------------------------------------------
// Numbers of any width
// ---------------------------------------------------------------------------------------------------------------------

type Overflow = "WRAP" | "SAT" | "FAIL"

interface FieldType {
  readonly signed: boolean
  readonly width: number
}

interface Operation extends FieldType {
  readonly name: "GET" | "SET" | "INCRBY"
  readonly offset: number
  readonly value: bigint
  readonly overflow: Overflow
}

const parseType = (text: string): FieldType => {
  const signed = text.startsWith("i")
  const width = parseInt64(text.slice(1))
  return (signed || text.startsWith("u")) && width !== undefined && width >= 1n && width <= (signed ? 64n : 63n)
    ? { signed, width: Number(width) }
    : fail("ERR Invalid bitfield type. Use something like i16 u8. Note that u64 is not supported but i64 is.")
}

const parseOperations = (argv: Argv): Array<Operation> => {
  const operations: Array<Operation> = []
  let overflow: Overflow = "WRAP"
  for (let at = 2; at < argv.length;) {
    const name = argv[at]!.toUpperCase()
    const left = argv.length - at - 1
    if (name === "OVERFLOW" && left >= 1) {
      const chosen = argv[at + 1]!.toUpperCase()
      if (chosen !== "WRAP" && chosen !== "SAT" && chosen !== "FAIL") return fail("ERR Invalid OVERFLOW type specified")
      overflow = chosen
      at += 2
    } else if ((name === "GET" && left >= 2) || ((name === "SET" || name === "INCRBY") && left >= 3)) {
      const type = parseType(argv[at + 1]!)
      const offset = parseOffset(argv[at + 2]!, type.width)
      const value = name === "GET" ? 0n : bigint(argv[at + 3]!)
      operations.push({ name, ...type, offset, value, overflow })
      at += name === "GET" ? 3 : 4
    } else throw SYNTAX
  }
  return operations
}

/** Byte by byte, as far as the string reaches; all beyond it is zero. */
const readField = (bytes: Uint8Array, { offset, signed, width }: Operation): bigint => {
  const end = offset + width
  let value = 0n
  for (let at = Math.floor(offset / 8); 8 * at < end; at++) value = (value << 8n) | BigInt(bytes[at] ?? 0)
  value >>= BigInt((8 - end % 8) % 8)
  return signed ? BigInt.asIntN(width, value) : BigInt.asUintN(width, value)
}

const writeField = (bytes: Uint8Array, { offset, width }: Operation, value: bigint): void => {
  let rest = BigInt.asUintN(width, value)
  for (let i = offset + width - 1; i >= offset; i--) {
    const mask = 0x80 >> i % 8
    const at = Math.floor(i / 8)
    bytes[at] = (rest & 1n) === 1n ? bytes[at]! | mask : bytes[at]! & ~mask
    rest >>= 1n
  }
}

/** The number that is to be written, or `undefined` when it does not fit and that is to fail. */
const result = (before: bigint, { name, overflow, signed, value, width }: Operation): bigint | undefined => {
  const bits = BigInt(width)
  const min = signed ? -(1n << (bits - 1n)) : 0n
  const max = signed ? -min - 1n : (1n << bits) - 1n
  // A negative number is a very large one where there is no sign.
  const wanted = name === "INCRBY" ? before + value : signed ? value : BigInt.asUintN(64, value)
  if (wanted >= min && wanted <= max) return wanted
  if (overflow === "FAIL") return undefined
  if (overflow === "WRAP") return signed ? BigInt.asIntN(width, wanted) : BigInt.asUintN(width, wanted)
  // The server also takes the most negative numbers that are set for large ones: its subtraction wraps around.
  return wanted > max || (name === "SET" && max - wanted > INT64_MAX) ? max : min
}

const bitField = (readonly: boolean): Run => (engine, argv) => {
  const operations = parseOperations(argv)
  const writes = operations.filter(({ name }) => name !== "GET")
  if (writes.length > 0 && readonly) return fail("ERR BITFIELD_RO only supports the GET subcommand")
  const present = engine.string(argv[1]!) ?? ""
  const length = Math.max(present.length, ...writes.map(({ offset, width }) => Math.ceil((offset + width) / 8)))
  if (length > MAX_STRING) throw BAD_OFFSET
  const bytes = decodeBytes(present.padEnd(length, "\0"))
  // Room is made also for what then fails.
  let changed = length > present.length
  const replies = operations.map((operation) => {
    const before = readField(bytes, operation)
    if (operation.name === "GET") return Number(before)
    const after = result(before, operation)
    if (after === undefined) return null
    writeField(bytes, operation, after)
    if (after !== before) changed = true
    return Number(operation.name === "INCRBY" ? after : before)
  })
  if (changed) write(engine, argv[1]!, encodeBytes(bytes))
  return replies
}

export const bits: Table = {
  SETBIT: { arity: 4, flags: ["write"], keys: firstKey, run: setBit },
  GETBIT: {
    arity: 3,
    flags: ["readonly"],
    keys: firstKey,
    run(engine, argv) {
      const offset = parseOffset(argv[2]!)
      return bitAt(engine.string(argv[1]!) ?? "", offset)
    }
  },
  BITCOUNT: { arity: -2, flags: ["readonly"], keys: firstKey, run: bitCount },
  BITPOS: { arity: -3, flags: ["readonly"], keys: firstKey, run: bitPosition },
  BITOP: { arity: -4, flags: ["write"], keys: [2, -1, 1], run: combine },
  BITFIELD: { arity: -2, flags: ["write"], keys: firstKey, run: bitField(false) },
  BITFIELD_RO: { arity: -2, flags: ["readonly"], keys: firstKey, run: bitField(true) }
}
