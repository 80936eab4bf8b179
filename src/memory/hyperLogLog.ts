/**
 * HyperLogLog as Redis keeps it in strings (https://redis.io/docs/latest/commands/pfadd/, and the comments of its
 * `hyperloglog.c`): 16384 registers, each with the longest run of zeros that ended a hash of its elements.
 *
 * A header of 16 bytes has the last estimate. The registers follow: sparse, as runs of equal ones, until they take more
 * than 3000 bytes or a register is above 32; then dense, with 6 bits each. Both are built as the server does it, so
 * that the strings are equal byte by byte.
 */
import { ErrorReply } from "./reply.js"
import { decodeBytes, encodeBytes } from "./text.js"

const INDEX_BITS = 14
const REGISTERS = 2 ** INDEX_BITS
/** The most zeros that the rest of a hash can end with. */
const MAX_RUN = 64 - INDEX_BITS

const HEADER = 16
const DENSE = 0
const SPARSE = 1
const DENSE_SIZE = HEADER + REGISTERS * 6 / 8
const MAX_SPARSE_SIZE = 3000
const MAX_SPARSE_VALUE = 32
/** Of the sparse form: `00` for up to 64 zeros, `01` for any number of them in two bytes, `1` for up to 4 values. */
const MAX_ZEROS = 64
const MAX_VALUES = 4

// ---------------------------------------------------------------------------------------------------------------------
// Hashing
// ---------------------------------------------------------------------------------------------------------------------

const MULTIPLIER = 0xc6a4a7935bd1e995n
const SEED = 0xadc83b19n

const times = (hash: bigint): bigint => BigInt.asUintN(64, hash * MULTIPLIER)

/** MurmurHash64A, by Austin Appleby. */
const murmur = (text: string): bigint => {
  let hash = SEED ^ times(BigInt(text.length))
  const tail = text.length & ~7
  /** Eight bytes or what is left of them, the first one being the lowest. */
  const block = (from: number): bigint => {
    let low = 0
    let high = 0
    for (let i = Math.min(text.length, from + 8) - 1; i >= from + 4; i--) high = high * 256 + text.charCodeAt(i)
    for (let i = Math.min(text.length, from + 4) - 1; i >= from; i--) low = low * 256 + text.charCodeAt(i)
    return high === 0 ? BigInt(low) : (BigInt(high) << 32n) | BigInt(low)
  }
  for (let i = 0; i < tail; i += 8) {
    const mixed = times(block(i))
    hash = times(hash ^ times(mixed ^ (mixed >> 47n)))
  }
  if (tail < text.length) hash = times(hash ^ block(tail))
  hash = times(hash ^ (hash >> 47n))
  return hash ^ (hash >> 47n)
}

/** The register that an element belongs to, and its run of zeros, counted with the one that ends it. */
const place = (element: string): readonly [index: number, run: number] => {
  const hash = murmur(element)
  const low = Number(hash & 0xffffffffn)
  const index = low % REGISTERS
  const rest = (hash >> BigInt(INDEX_BITS)) | (1n << BigInt(MAX_RUN))
  const lowest = Number(rest & 0xffffffffn)
  if (lowest !== 0) return [index, 32 - Math.clz32(lowest & -lowest)]
  const highest = Number(rest >> 32n)
  return [index, 64 - Math.clz32(highest & -highest)]
}

// ---------------------------------------------------------------------------------------------------------------------
// Estimating
// ---------------------------------------------------------------------------------------------------------------------

// Otmar Ertl, "New cardinality estimation algorithms for HyperLogLog sketches" (2017), algorithm 6.

const sigma = (start: number): number => {
  if (start === 1) return Infinity
  let x = start
  let y = 1
  let z = start
  let before: number
  do {
    x *= x
    before = z
    z += x * y
    y += y
  } while (z !== before)
  return z
}

const tau = (start: number): number => {
  if (start === 0 || start === 1) return 0
  let x = start
  let y = 1
  let z = 1 - start
  let before: number
  do {
    x = Math.sqrt(x)
    before = z
    y *= 0.5
    z -= (1 - x) ** 2 * y
  } while (z !== before)
  return z / 3
}

const ALPHA = 0.5 / Math.LN2

/** From how many registers have each value. */
const estimate = (histogram: ReadonlyArray<number>): bigint => {
  let z = REGISTERS * tau((REGISTERS - histogram[MAX_RUN + 1]!) / REGISTERS)
  for (let i = MAX_RUN; i >= 1; i--) z = (z + histogram[i]!) * 0.5
  z += REGISTERS * sigma(histogram[0]! / REGISTERS)
  const result = Math.round(ALPHA * REGISTERS * REGISTERS / z)
  // Registers that no hash has filled; this is what the conversion to an integer makes of it.
  return result < 2 ** 63 ? BigInt(result) : -(2n ** 63n)
}

/** Of several at once, given the greatest value of each register. */
export const estimateOf = (registers: Uint8Array): bigint => {
  const histogram = new Array<number>(64).fill(0)
  for (const value of registers) histogram[value]!++
  return estimate(histogram)
}

export const noRegisters = (): Uint8Array => new Uint8Array(REGISTERS)

// ---------------------------------------------------------------------------------------------------------------------
// The strings
// ---------------------------------------------------------------------------------------------------------------------

/** The runs of a sparse one do not make up all registers. */
const CORRUPTED = new ErrorReply("INVALIDOBJ Corrupted HLL object detected")

const zeros = (count: number): ReadonlyArray<number> =>
  count > MAX_ZEROS ? [0x40 | ((count - 1) >> 8), (count - 1) & 0xff] : [count - 1]

const values = (value: number, count: number): number => 0x80 | ((value - 1) << 2) | (count - 1)

const isValues = (code: number): boolean => (code & 0x80) !== 0
const isLong = (code: number): boolean => (code & 0xc0) === 0x40
const valueOf = (code: number): number => isValues(code) ? ((code >> 2) & 0x1f) + 1 : 0

export class HyperLogLog {
  private constructor(private bytes: Uint8Array) {}

  static empty(): HyperLogLog {
    return new HyperLogLog(
      Uint8Array.from([...Buffer.from("HYLL"), SPARSE, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, ...zeros(REGISTERS)])
    )
  }

  /** Nothing, when the string is no HyperLogLog. */
  static parse(text: string): HyperLogLog | undefined {
    if (text.length < HEADER || !text.startsWith("HYLL") || text.charCodeAt(4) > SPARSE) return undefined
    if (text.charCodeAt(4) === DENSE && text.length !== DENSE_SIZE) return undefined
    return new HyperLogLog(decodeBytes(text))
  }

  toString(): string {
    return encodeBytes(this.bytes)
  }

  get dense(): boolean {
    return this.bytes[4] === DENSE
  }

  /** The estimate of last time, unless it was changed since. */
  get cached(): bigint | undefined {
    const value = Buffer.from(this.bytes).readBigUInt64LE(8)
    return value < 2n ** 63n ? value : undefined
  }

  /** Makes an estimate and keeps it. */
  estimate(): bigint {
    const histogram = new Array<number>(64).fill(0)
    this.forEach((value, count) => {
      histogram[value]! += count
    })
    const result = estimate(histogram)
    const cache = Buffer.alloc(8)
    cache.writeBigInt64LE(result)
    this.bytes.set(cache, 8)
    return result
  }

  invalidate(): void {
    this.bytes[15]! |= 0x80
  }

  /** Says whether a register was changed. */
  add(element: string): boolean {
    const [index, run] = place(element)
    return this.raise(index, run)
  }

  /** Each register becomes at least what it is here. */
  mergeInto(registers: Uint8Array): void {
    let index = 0
    this.forEach((value, count) => {
      if (index + count > REGISTERS) throw CORRUPTED
      for (const end = index + count; index < end; index++) {
        if (value > registers[index]!) registers[index] = value
      }
    })
  }

  makeDense(): void {
    if (this.dense) return
    const registers = noRegisters()
    this.mergeInto(registers)
    const bytes = new Uint8Array(DENSE_SIZE)
    bytes.set(this.bytes.subarray(0, HEADER))
    bytes[4] = DENSE
    this.bytes = bytes
    for (let index = 0; index < REGISTERS; index++) this.raiseDense(index, registers[index]!)
  }

  /** Makes a register at least that high, and says whether it was lower. */
  raise(index: number, value: number): boolean {
    return this.dense ? this.raiseDense(index, value) : this.raiseSparse(index, value)
  }

  /** All registers in their order, equal ones at once. */
  private forEach(visit: (value: number, count: number) => void): void {
    if (this.dense) {
      for (let index = 0; index < REGISTERS; index++) visit(this.denseValue(index), 1)
      return
    }
    let index = 0
    for (let at = HEADER; at < this.bytes.length; at += this.width(at)) {
      visit(valueOf(this.bytes[at]!), this.count(at))
      index += this.count(at)
    }
    if (index !== REGISTERS) throw CORRUPTED
  }

  // The dense form. ---------------------------------------------------------------------------------------------------

  private denseValue(index: number): number {
    const at = HEADER + (index * 6 >> 3)
    const shift = index * 6 & 7
    return ((this.bytes[at]! | ((this.bytes[at + 1] ?? 0) << 8)) >> shift) & 63
  }

  private raiseDense(index: number, value: number): boolean {
    if (this.denseValue(index) >= value) return false
    const at = HEADER + (index * 6 >> 3)
    const shift = index * 6 & 7
    const pair = this.bytes[at]! | ((this.bytes[at + 1] ?? 0) << 8)
    const next = (pair & ~(63 << shift)) | (value << shift)
    this.bytes[at] = next & 0xff
    if (shift > 2) this.bytes[at + 1] = next >> 8
    return true
  }

  // The sparse form. --------------------------------------------------------------------------------------------------

  /** How many bytes the run at this place takes. */
  private width(at: number): number {
    return isLong(this.bytes[at]!) ? 2 : 1
  }

  /** How many registers it stands for. */
  private count(at: number): number {
    const code = this.bytes[at]!
    if (isValues(code)) return (code & 3) + 1
    return isLong(code) ? ((code & 0x3f) << 8 | (this.bytes[at + 1] ?? 0)) + 1 : (code & 0x3f) + 1
  }

  private raiseSparse(index: number, value: number): boolean {
    if (value > MAX_SPARSE_VALUE) return this.raiseAsDense(index, value)
    const end = this.bytes.length
    let at = HEADER
    let before = HEADER
    let first = 0
    while (at < end && first + this.count(at) <= index) {
      first += this.count(at)
      before = at
      at += this.width(at)
    }
    if (at >= end) throw CORRUPTED
    const present = valueOf(this.bytes[at]!)
    if (present >= value) return false
    // What was one run becomes up to three.
    const run = (count: number): ReadonlyArray<number> =>
      count === 0 ? [] : present === 0 ? zeros(count) : [values(present, count)]
    const codes = [...run(index - first), values(value, 1), ...run(first + this.count(at) - index - 1)]
    const growth = codes.length - this.width(at)
    if (growth > 0 && end + growth > MAX_SPARSE_SIZE) return this.raiseAsDense(index, value)
    this.replace(at, this.width(at), codes)
    this.join(before)
    this.invalidate()
    return true
  }

  private raiseAsDense(index: number, value: number): boolean {
    this.makeDense()
    return this.raiseDense(index, value)
  }

  private replace(at: number, width: number, codes: ReadonlyArray<number>): void {
    const bytes = new Uint8Array(this.bytes.length + codes.length - width)
    bytes.set(this.bytes.subarray(0, at))
    // As in the server, the string is one byte too short for it where the last run lacked its second byte.
    bytes.set(codes.slice(0, bytes.length - at), at)
    bytes.set(this.bytes.subarray(at + width), Math.min(bytes.length, at + codes.length))
    this.bytes = bytes
  }

  /** Equal runs that are next to each other become one. Five steps, as in the server, reach all that a change can have. */
  private join(from: number): void {
    let at = from
    for (let steps = 0; steps < 5 && at < this.bytes.length; steps++) {
      const code = this.bytes[at]!
      const next = this.bytes[at + 1] ?? 0
      if (isValues(code) && isValues(next) && valueOf(code) === valueOf(next)) {
        const count = this.count(at) + this.count(at + 1)
        if (count <= MAX_VALUES) {
          this.replace(at, 2, [values(valueOf(code), count)])
          continue
        }
      }
      at += this.width(at)
    }
  }
}
