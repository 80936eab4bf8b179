/**
 * Numbers as Redis 7.0 reads and writes them: strict 64-bit integers, doubles printed as C's `%.17g`, and the 80-bit
 * floats that `INCRBYFLOAT` computes with.
 */

const INTEGER = /^(?:0|-?[1-9][0-9]*)$/
const INT64_MAX = 9223372036854775807n
const INT64_MIN = -9223372036854775808n

/** A 64-bit integer in its only accepted spelling, or nothing. */
export const parseInt64 = (text: string): bigint | undefined => {
  if (text.length > 20 || !INTEGER.test(text)) return undefined
  const value = BigInt(text)
  return value > INT64_MAX || value < INT64_MIN ? undefined : value
}

/** As `parseInt64`, for places where more than 2^53 has no meaning of its own: it is rounded. */
export const parseInteger = (text: string): number | undefined => {
  if (text.length < 16) {
    if (text.length === 1) {
      const digit = text.charCodeAt(0) - 48
      return digit >= 0 && digit <= 9 ? digit : undefined
    }
    return INTEGER.test(text) ? Number(text) : undefined
  }
  const value = parseInt64(text)
  return value === undefined ? undefined : Number(value)
}

export const inInt64 = (value: bigint): boolean => value <= INT64_MAX && value >= INT64_MIN

const DECIMAL = /^[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?$/
const INFINITY = /^([+-]?)inf(?:inity)?$/i
const HEXADECIMAL = /^([+-]?)0x([0-9a-f]*)(?:\.([0-9a-f]*))?(?:p([+-]?[0-9]+))?$/i

/** What C's `strtod` reads, when it reads all of it, without leading space and without NaN. */
export const parseDouble = (text: string): number | undefined => {
  if (DECIMAL.test(text)) {
    const value = Number(text)
    // Out of range is an error for Redis, while plain zero and infinity are not.
    if (value === Infinity || value === -Infinity) return undefined
    if (value === 0 && /[1-9]/.test(text.replace(/[eE].*$/, ""))) return undefined
    return value
  }
  const infinity = INFINITY.exec(text)
  if (infinity !== null) return infinity[1] === "-" ? -Infinity : Infinity
  const hex = HEXADECIMAL.exec(text)
  if (hex !== null && (hex[2] + (hex[3] ?? "")).length > 0) {
    const fraction = hex[3] ?? ""
    const mantissa = Number(`0x${hex[2]}${fraction}`)
    const value = mantissa * 2 ** (Number(hex[4] ?? 0) - 4 * fraction.length)
    return value === Infinity ? undefined : hex[1] === "-" ? -value : value
  }
  return undefined
}

/** C's `%.17g`, with `inf` and `-inf`. */
export const formatDouble = (value: number): string => {
  if (Number.isSafeInteger(value)) return Object.is(value, -0) ? "-0" : String(value)
  if (value === Infinity) return "inf"
  if (value === -Infinity) return "-inf"
  const [mantissa, exponent] = value.toExponential(16).split("e") as [string, string]
  const power = Number(exponent)
  if (power < -4 || power >= 17) {
    const digits = Math.abs(power) < 10 ? `0${Math.abs(power)}` : String(Math.abs(power))
    return `${trimZeros(mantissa)}e${power < 0 ? "-" : "+"}${digits}`
  }
  return trimZeros(toFixed(mantissa, power))
}

const trimZeros = (text: string): string => text.includes(".") ? text.replace(/\.?0*$/, "") : text

/** Moves the decimal point: exact, unlike `Number.prototype.toFixed` above 1e21 or beyond the digits that exist. */
const toFixed = (mantissa: string, power: number): string => {
  const negative = mantissa.startsWith("-")
  const digits = mantissa.replace(/[-.]/g, "")
  const text = power < 0
    ? `0.${"0".repeat(-power - 1)}${digits}`
    : `${digits.slice(0, power + 1)}.${digits.slice(power + 1)}`
  return negative ? `-${text}` : text
}

/** A float of x86's 80-bit kind: `mantissa * 2^exponent`, with at most 64 bits of mantissa. */
export interface LongDouble {
  readonly mantissa: bigint
  readonly exponent: number
}

const ZERO: LongDouble = { mantissa: 0n, exponent: 0 }

const abs = (value: bigint): bigint => value < 0n ? -value : value

const bits = (value: bigint): number => {
  const hex = value.toString(16)
  return (hex.length - 1) * 4 + (32 - Math.clz32(parseInt(hex[0]!, 16)))
}

/** `numerator / denominator * 2^exponent`, rounded half to even to 64 bits. */
const round = (numerator: bigint, denominator: bigint, exponent: number): LongDouble => {
  if (numerator === 0n) return ZERO
  const size = abs(numerator)
  const shift = 66 - (bits(size) - bits(denominator))
  let quotient: bigint
  let rest: bigint
  if (shift >= 0) {
    quotient = (size << BigInt(shift)) / denominator
    rest = (size << BigInt(shift)) % denominator
  } else {
    const divisor = denominator << BigInt(-shift)
    quotient = size / divisor
    rest = size % divisor
  }
  const excess = bits(quotient) - 64
  let mantissa = quotient
  let power = exponent - shift
  if (excess > 0) {
    const half = 1n << BigInt(excess - 1)
    const low = quotient & ((1n << BigInt(excess)) - 1n)
    mantissa = quotient >> BigInt(excess)
    power += excess
    if (low > half || (low === half && (rest > 0n || (mantissa & 1n) === 1n))) mantissa += 1n
  }
  return { mantissa: numerator < 0n ? -mantissa : mantissa, exponent: power }
}

/** `strtold`, under the same conditions as `parseDouble`; infinity is not a number to add to here. */
export const parseLongDouble = (text: string): LongDouble | "infinite" | undefined => {
  if (DECIMAL.test(text)) {
    const [mantissa, power] = text.toLowerCase().split("e") as [string, string | undefined]
    const [whole, fraction] = mantissa.split(".") as [string, string | undefined]
    const exponent = Number(power ?? 0) - (fraction ?? "").length
    const negative = whole.startsWith("-")
    const digits = BigInt(whole.replace(/^[+-]/, "") + (fraction ?? "") || "0")
    if (digits === 0n) return ZERO
    if (Math.abs(exponent) > 5000) return undefined
    const value = exponent >= 0
      ? round(digits * 10n ** BigInt(exponent), 1n, 0)
      : round(digits, 10n ** BigInt(-exponent), 0)
    const magnitude = value.exponent + 64
    if (magnitude > 16384 || magnitude < -16381) return undefined
    return negative ? { mantissa: -value.mantissa, exponent: value.exponent } : value
  }
  if (INFINITY.test(text)) return "infinite"
  const double = parseDouble(text)
  return double === undefined ? undefined : fromDouble(double)
}

const fromDouble = (value: number): LongDouble => {
  let exponent = 0
  let scaled = value
  while (!Number.isInteger(scaled)) {
    scaled *= 2
    exponent--
  }
  return { mantissa: BigInt(scaled), exponent }
}

export const addLongDouble = (a: LongDouble, b: LongDouble): LongDouble => {
  const exponent = Math.min(a.exponent, b.exponent)
  const sum = (a.mantissa << BigInt(a.exponent - exponent)) + (b.mantissa << BigInt(b.exponent - exponent))
  return round(sum, 1n, exponent)
}

/** C's `%.Nf`, with `digits` for N. */
const toDecimal = (value: LongDouble, digits: number): string => {
  const size = abs(value.mantissa) * 10n ** BigInt(digits)
  let scaled: bigint
  if (value.exponent >= 0) {
    scaled = size << BigInt(value.exponent)
  } else {
    const shift = BigInt(-value.exponent)
    const half = 1n << (shift - 1n)
    const low = size & ((1n << shift) - 1n)
    scaled = size >> shift
    if (low > half || (low === half && (scaled & 1n) === 1n)) scaled += 1n
  }
  const text = scaled.toString().padStart(digits + 1, "0")
  return `${value.mantissa < 0n ? "-" : ""}${text.slice(0, -digits)}.${text.slice(-digits)}`
}

/** C's `%.17Lf` without the zeros at its end. */
export const formatLongDouble = (value: LongDouble): string => {
  const text = trimZeros(toDecimal(value, 17))
  return text === "-0" ? "0" : text
}

/** As `formatLongDouble`, of a double. */
export const formatPrecisely = (value: number): string => formatLongDouble(fromDouble(value))

/** With so many digits after the point, half to even. */
export const formatFixed = (value: number, digits: number): string =>
  Number.isFinite(value) ? toDecimal(fromDouble(value), digits) : formatDouble(value)
