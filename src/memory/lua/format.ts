/** `string.format`. */
import { checkNumber, checkString, toInteger, toUnsigned } from "./arguments.js"
import { argumentError, libraryError } from "./error.js"
import { exponential, fixed, general, padExponent, special } from "./number.js"
import type { LuaValue } from "./value.js"

interface Spec {
  readonly left: boolean
  readonly plus: boolean
  readonly space: boolean
  readonly alternate: boolean
  readonly zero: boolean
  readonly width: number
  readonly precision: number | undefined
}

const pad = (spec: Spec, sign: string, digits: string, zero: boolean): string => {
  const missing = spec.width - sign.length - digits.length
  if (missing <= 0) return sign + digits
  if (spec.left) return sign + digits + " ".repeat(missing)
  return zero ? sign + "0".repeat(missing) + digits : " ".repeat(missing) + sign + digits
}

const signOf = (spec: Spec, negative: boolean): string => negative ? "-" : spec.plus ? "+" : spec.space ? " " : ""

const integer = (spec: Spec, conversion: string, value: number): string => {
  const whole = conversion === "d" || conversion === "i" ? BigInt(toInteger(value)) : toUnsigned(value)
  let digits: string
  let sign = ""
  switch (conversion) {
    case "d":
    case "i":
      digits = (whole < 0n ? -whole : whole).toString()
      sign = signOf(spec, whole < 0n)
      break
    case "o":
      digits = whole.toString(8)
      break
    case "u":
      digits = whole.toString()
      break
    default:
      digits = whole.toString(16)
      if (spec.alternate && whole !== 0n) sign = "0x"
  }
  if (spec.precision !== undefined) {
    digits = whole === 0n && spec.precision === 0
      ? ""
      : digits.padStart(spec.precision, "0")
  }
  if (conversion === "o" && spec.alternate && !digits.startsWith("0")) digits = `0${digits}`
  const text = pad(spec, sign, digits, spec.zero && spec.precision === undefined)
  return conversion === "X" ? text.toUpperCase() : text
}

const float = (spec: Spec, conversion: string, value: number): string => {
  const negative = value < 0 || Object.is(value, -0)
  let text: string
  if (!Number.isFinite(value)) {
    // C gives NaN the sign that it has.
    const name = special(Math.abs(value))
    text = name === "-nan" ? pad(spec, "-", "nan", false) : pad(spec, signOf(spec, negative), name, false)
  } else {
    const magnitude = Math.abs(value)
    const precision = spec.precision ?? 6
    let digits: string
    switch (conversion.toLowerCase()) {
      case "e":
        digits = padExponent(exponential(magnitude, precision))
        if (spec.alternate && precision === 0) digits = digits.replace("e", ".e")
        break
      case "f":
        digits = fixed(magnitude, precision)
        if (spec.alternate && precision === 0) digits += "."
        break
      default:
        digits = general(magnitude, precision, spec.alternate)
        if (spec.alternate && !digits.includes(".")) {
          digits = digits.includes("e")
            ? digits.replace("e", ".e")
            : `${digits}.`
        }
    }
    text = pad(spec, signOf(spec, negative), digits, spec.zero)
  }
  return conversion === "f" || conversion === conversion.toLowerCase() ? text : text.toUpperCase()
}

const quoted = (text: string): string =>
  `"${
    text.replace(/["\\\n\r\0]/g, (character) =>
      character === "\r" ? "\\r" : character === "\0" ? "\\000" : `\\${character}`)
  }"`

/** What `printf` prints of a string. */
const cString = (text: string): string => {
  const end = text.indexOf("\0")
  return end < 0 ? text : text.slice(0, end)
}

const specPattern = /([-+ #0]*)(\d{0,2})(?:(\.)(\d{0,2}))?/y

export const format = (args: ReadonlyArray<LuaValue>): string => {
  const template = checkString(args, 1)
  let text = ""
  let argument = 1
  let at = 0
  while (at < template.length) {
    const next = template.indexOf("%", at)
    if (next < 0) return text + template.slice(at)
    text += template.slice(at, next)
    at = next + 1
    if (template[at] === "%") {
      text += "%"
      at++
      continue
    }
    if (++argument > args.length) return argumentError(argument, "no value")
    specPattern.lastIndex = at
    const match = specPattern.exec(template)!
    const [whole, flags = "", width = "", point, precision = ""] = match
    if (flags.length >= 6) return libraryError("invalid format (repeated flags)")
    at += whole.length
    const conversion = template[at++] ?? ""
    if (conversion >= "0" && conversion <= "9") return libraryError("invalid format (width or precision too long)")
    const spec: Spec = {
      left: flags.includes("-"),
      plus: flags.includes("+"),
      space: flags.includes(" "),
      alternate: flags.includes("#"),
      zero: flags.includes("0"),
      width: Number(width),
      precision: point === undefined ? undefined : Number(precision)
    }
    switch (conversion) {
      case "c": {
        // The buffer is read back as a C string, so a zero byte ends it.
        const character = String.fromCharCode(toInteger(checkNumber(args, argument)) & 255)
        text += cString(pad(spec, "", character, false))
        break
      }
      case "d":
      case "i":
      case "o":
      case "u":
      case "x":
      case "X":
        text += integer(spec, conversion, checkNumber(args, argument))
        break
      case "e":
      case "E":
      case "f":
      case "g":
      case "G":
        text += float(spec, conversion, checkNumber(args, argument))
        break
      case "q":
        text += quoted(checkString(args, argument))
        break
      case "s": {
        const value = checkString(args, argument)
        if (point === undefined && value.length >= 100) text += value
        else text += pad(spec, "", cString(value).slice(0, spec.precision), false)
        break
      }
      default:
        return libraryError(`invalid option '%${conversion}' to 'format'`)
    }
  }
  return text
}
