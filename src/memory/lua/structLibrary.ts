/** The `struct` library: binary layouts of C. */
import { checkNumber, checkString, optionalInteger, toUnsigned } from "./arguments.js"
import { argumentError, libraryError } from "./error.js"
import { toNumber } from "./operators.js"
import type { LuaFunction, LuaValue } from "./value.js"

const maxIntegerSize = 32
const nativeAlignment = 8

const view = new DataView(new ArrayBuffer(8))

/** Walks a format, keeping byte order and alignment. */
class Format {
  private at = 0
  private alignment = 1
  little = true

  constructor(private readonly text: string) {
    const end = text.indexOf("\0")
    if (end >= 0) this.text = text.slice(0, end)
  }

  next(): { readonly option: string; readonly size: number } | undefined {
    if (this.at >= this.text.length) return undefined
    const option = this.text[this.at++]!
    return { option, size: this.size(option) }
  }

  private size(option: string): number {
    switch (option) {
      case "B":
      case "b":
      case "x":
        return 1
      case "H":
      case "h":
        return 2
      case "L":
      case "l":
      case "T":
      case "d":
        return 8
      case "f":
        return 4
      case "c":
        return this.number(1)
      case "i":
      case "I": {
        const size = this.number(4)
        return size > maxIntegerSize
          ? libraryError(`integral size ${size} is larger than limit of ${maxIntegerSize}`)
          : size
      }
      default:
        return 0
    }
  }

  private number(absent: number): number {
    const digits = /^\d+/.exec(this.text.slice(this.at))?.[0]
    if (digits === undefined) return absent
    this.at += digits.length
    return Number(digits) > 0x7fffffff ? libraryError("integral size overflow") : Number(digits)
  }

  /** The bytes to skip before an element. */
  padding(position: number, option: string, size: number): number {
    if (size === 0 || option === "c") return 0
    const unit = Math.min(size, this.alignment)
    return (unit - (position & (unit - 1))) & (unit - 1)
  }

  /** An option that stands for no element. */
  control(option: string): void {
    switch (option) {
      case " ":
        return
      case ">":
        this.little = false
        return
      case "<":
        this.little = true
        return
      case "!": {
        const alignment = this.number(nativeAlignment)
        if (alignment <= 0 || (alignment & (alignment - 1)) !== 0) {
          libraryError(`alignment ${alignment} is not a power of 2`)
        }
        this.alignment = alignment
        return
      }
      default:
        argumentError(1, `invalid format option '${option}'`)
    }
  }
}

const isInteger = (option: string): boolean => "bBhHlLTiI".includes(option)

const ordered = (bytes: string, little: boolean): string => little ? bytes : bytes.split("").reverse().join("")

const integerBytes = (value: number, size: number, little: boolean): string => {
  let bits = toUnsigned(value)
  let bytes = ""
  for (let i = 0; i < size; i++) {
    bytes += String.fromCharCode(Number(bits & 0xffn))
    bits >>= 8n
  }
  return ordered(bytes, little)
}

const integerOf = (bytes: string, signed: boolean): number => {
  let bits = 0n
  for (let i = bytes.length - 1; i >= 0; i--) bits = BigInt.asUintN(64, (bits << 8n) | BigInt(bytes.charCodeAt(i)))
  if (!signed) return Number(bits)
  return Number(BigInt.asIntN(Math.min(bytes.length * 8, 64), bits))
}

const floatBytes = (value: number, size: number): string => {
  if (size === 4) view.setFloat32(0, value, true)
  else view.setFloat64(0, value, true)
  let bytes = ""
  for (let i = 0; i < size; i++) bytes += String.fromCharCode(view.getUint8(i))
  return bytes
}

const floatOf = (bytes: string): number => {
  for (let i = 0; i < bytes.length; i++) view.setUint8(i, bytes.charCodeAt(i))
  return bytes.length === 4 ? view.getFloat32(0, true) : view.getFloat64(0, true)
}

export const structLibrary: Record<string, LuaFunction> = {
  pack: (...args) => {
    const format = new Format(checkString(args, 1))
    // The C function has pushed a nil by the time it asks for the first value.
    const values = [...args, undefined]
    let packed = ""
    let argument = 2
    for (let item = format.next(); item !== undefined; item = format.next()) {
      const { option, size } = item
      packed += "\0".repeat(format.padding(packed.length, option, size))
      if (isInteger(option)) packed += integerBytes(checkNumber(values, argument++), size, format.little)
      else if (option === "x") packed += "\0"
      else if (option === "f" || option === "d") {
        packed += ordered(floatBytes(checkNumber(values, argument++), size), format.little)
      } else if (option === "c" || option === "s") {
        const text = checkString(values, argument++)
        const length = size === 0 ? text.length : size
        if (text.length < length) return argumentError(argument, "string too short")
        packed += text.slice(0, length) + (option === "s" ? "\0" : "")
      } else format.control(option)
    }
    return packed
  },
  size: (...args) => {
    const format = new Format(checkString(args, 1))
    let position = 0
    for (let item = format.next(); item !== undefined; item = format.next()) {
      const { option, size } = item
      position += format.padding(position, option, size)
      if (option === "s") return argumentError(1, "option 's' has no fixed size")
      if (option === "c" && size === 0) return argumentError(1, "option 'c0' has no fixed size")
      if (!isInteger(option) && !"xfdc".includes(option)) format.control(option)
      position += size
    }
    return position
  },
  unpack: (...args) => {
    const format = new Format(checkString(args, 1))
    const data = checkString(args, 2)
    const offset = optionalInteger(args, 3, 1)
    if (offset === 0) return argumentError(3, "offset must be 1 or greater")
    let position = offset - 1
    const values: Array<LuaValue> = []
    const need = (size: number): void => {
      if (position < 0 || size > data.length || position > data.length - size) {
        argumentError(2, "data string too short")
      }
    }
    for (let item = format.next(); item !== undefined; item = format.next()) {
      const { option } = item
      let { size } = item
      position += format.padding(position, option, size)
      need(size)
      if (isInteger(option)) {
        const bytes = ordered(data.slice(position, position + size), format.little)
        values.push(integerOf(bytes, option === option.toLowerCase()))
      } else if (option === "f" || option === "d") {
        values.push(floatOf(ordered(data.slice(position, position + size), format.little)))
      } else if (option === "c") {
        if (size === 0) {
          const previous = toNumber(values.pop())
          if (previous === undefined) return libraryError("format 'c0' needs a previous size")
          size = Math.trunc(previous)
          need(size)
        }
        values.push(data.slice(position, position + size))
      } else if (option === "s") {
        const end = data.indexOf("\0", position)
        if (end < 0) return libraryError("unfinished string in data")
        values.push(data.slice(position, end))
        size = end - position + 1
      } else if (option !== "x") format.control(option)
      position += size
    }
    return [...values, position + 1]
  }
}
