/** Numbers to text and back, as C does it. */

/** `printf("%.*e")`: JavaScript rounds exact ties up, C to even. */
export const exponential = (magnitude: number, digits: number): string => {
  const rounded = magnitude.toExponential(digits)
  if (digits >= 90 || !/5e/.test(magnitude.toExponential(digits + 1))) return rounded
  // A tie has a 5 in the next place and nothing after it.
  // oxlint-disable-next-line number-arg-out-of-range -- 100 is the most since ES2018.
  const exact = magnitude.toExponential(100)
  const split = exact.indexOf("e")
  if (!/^50*$/.test(exact.slice(digits + 2, split))) return rounded
  const down = exact.slice(0, digits === 0 ? 1 : digits + 2)
  return Number(down[down.length - 1]) % 2 === 0 ? down + exact.slice(split) : rounded
}

/** All digits of a finite number, as `printf("%.*f")` prints them. */
export const fixed = (magnitude: number, digits: number): string => {
  if (Number.isInteger(magnitude)) {
    const whole = magnitude <= Number.MAX_SAFE_INTEGER ? String(magnitude) : BigInt(magnitude).toString()
    return digits === 0 ? whole : `${whole}.${"0".repeat(digits)}`
  }
  // Scaled to an integer in exact arithmetic: the number is m / 2^k.
  let shift = 0
  let mantissa = magnitude
  while (!Number.isInteger(mantissa)) {
    mantissa *= 2
    shift++
  }
  const scaled = BigInt(mantissa) * 10n ** BigInt(digits)
  const power = BigInt(shift)
  let quotient = scaled >> power
  const rest = scaled - (quotient << power)
  const half = 1n << (power - 1n)
  if (rest > half || (rest === half && (quotient & 1n) === 1n)) quotient += 1n
  const text = quotient.toString().padStart(digits + 1, "0")
  return digits === 0 ? text : `${text.slice(0, -digits)}.${text.slice(-digits)}`
}

const trimZeros = (text: string): string => text.includes(".") ? text.replace(/\.?0+$/, "") : text

/** At least two digits in the exponent, as in C. */
export const padExponent = (text: string): string => text.replace(/e([+-])(\d)$/, "e$10$2")

/** `printf("%.*g")` of a finite magnitude. */
export const general = (magnitude: number, precision: number, keepZeros = false): string => {
  const digits = Math.max(precision, 1)
  if (magnitude === 0) return keepZeros && digits > 1 ? `0.${"0".repeat(digits - 1)}` : "0"
  const scientific = exponential(magnitude, digits - 1)
  const split = scientific.indexOf("e")
  const exponent = Number(scientific.slice(split + 1))
  if (exponent < -4 || exponent >= digits) {
    const mantissa = scientific.slice(0, split)
    return padExponent((keepZeros ? mantissa : trimZeros(mantissa)) + scientific.slice(split))
  }
  const mantissa = scientific.slice(0, split).replace(".", "")
  const text = exponent >= 0
    ? (mantissa.length > exponent + 1
      ? `${mantissa.slice(0, exponent + 1)}.${mantissa.slice(exponent + 1)}`
      : mantissa)
    : `0.${"0".repeat(-exponent - 1)}${mantissa}`
  return keepZeros ? text : trimZeros(text)
}

/** What C prints for numbers without digits. The sign of NaN cannot be seen here; x86 makes it negative. */
export const special = (value: number): string => value !== value ? "-nan" : value > 0 ? "inf" : "-inf"

const generalSigned = (value: number, precision: number): string => {
  if (!Number.isFinite(value)) return special(value)
  return value < 0 || Object.is(value, -0) ? `-${general(-value, precision)}` : general(value, precision)
}

/** `tostring` of a number: `%.14g`. */
export const numberToString = (value: number): string => {
  if (Number.isInteger(value)) {
    if (value < 1e14 && value > -1e14 && (value !== 0 || !Object.is(value, -0))) return String(value)
  } else if ((value > 1e-4 && value < 1e14) || (value < -1e-4 && value > -1e14)) {
    // JavaScript prints the fewest digits that identify the number: up to 14, they are those that C prints.
    const shortest = String(value)
    if (shortest.length <= 15) return shortest
  }
  return generalSigned(value, 14)
}

/** A number as the argument of a command: `%.17g`. */
export const numberToArgument = (value: number): string =>
  Number.isInteger(value) && value < 1e16 && value > -1e16 && (value !== 0 || !Object.is(value, -0))
    ? String(value)
    : generalSigned(value, 17)

const decimalPattern = /^[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?$/
const hexPattern = /^([-+]?)0[xX](?:([0-9a-fA-F]+)\.?([0-9a-fA-F]*)|\.([0-9a-fA-F]+))(?:[pP]([-+]?\d+))?$/
const namedPattern = /^([-+]?)(?:(inf(?:inity)?)|nan(?:\(\w*\))?)$/i

/** What `strtod` accepts between white space, or `undefined`. */
export const stringToNumber = (text: string): number | undefined => {
  const end = text.indexOf("\0")
  const source = (end < 0 ? text : text.slice(0, end)).replace(/^[ \t-\r]+|[ \t-\r]+$/g, "")
  if (decimalPattern.test(source)) return Number(source)
  const hex = hexPattern.exec(source)
  if (hex !== null) {
    const whole = hex[2] ?? ""
    const fraction = hex[3] ?? hex[4] ?? ""
    const digits = BigInt(`0x${whole}${fraction}`)
    const value = Number(digits) * 2 ** (Number(hex[5] ?? 0) - 4 * fraction.length)
    return hex[1] === "-" ? -value : value
  }
  const named = namedPattern.exec(source)
  if (named === null) return undefined
  const value = named[2] === undefined ? NaN : Infinity
  return named[1] === "-" ? -value : value
}
