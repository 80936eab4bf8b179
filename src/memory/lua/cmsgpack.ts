/** The `cmsgpack` library. */
import { checkInteger, checkString, optionalInteger } from "./arguments.js"
import { argumentError, libraryError } from "./error.js"
import { index, rawSet } from "./operators.js"
import { LuaTable } from "./table.js"
import { results } from "./value.js"
import type { LuaFunction, LuaResult, LuaValue } from "./value.js"

/** Deeper tables are packed as nil. */
const maxNesting = 16

const view = new DataView(new ArrayBuffer(8))

/** The first bytes of the scratch buffer. */
const scratch = (count: number): string => {
  let text = ""
  for (let i = 0; i < count; i++) text += String.fromCharCode(view.getUint8(i))
  return text
}

const unsigned = (value: number, bytes: 1 | 2 | 4): string => {
  view.setUint32(0, value)
  return scratch(4).slice(4 - bytes)
}

const packInteger = (value: number): string => {
  if (value >= 0) {
    if (value <= 0x7f) return unsigned(value, 1)
    if (value <= 0xff) return `\xcc${unsigned(value, 1)}`
    if (value <= 0xffff) return `\xcd${unsigned(value, 2)}`
    if (value <= 0xffffffff) return `\xce${unsigned(value, 4)}`
    view.setBigInt64(0, BigInt(value))
    return `\xcf${scratch(8)}`
  }
  if (value >= -0x20) return unsigned(value, 1)
  if (value >= -0x80) return `\xd0${unsigned(value, 1)}`
  if (value >= -0x8000) return `\xd1${unsigned(value, 2)}`
  if (value >= -0x80000000) return `\xd2${unsigned(value, 4)}`
  view.setBigInt64(0, BigInt(value))
  return `\xd3${scratch(8)}`
}

const packNumber = (value: number): string => {
  if (Number.isInteger(value) && value >= -0x8000000000000000 && value < 0x8000000000000000) return packInteger(value)
  if (Math.fround(value) === value) {
    view.setFloat32(0, value)
    return `\xca${scratch(4)}`
  }
  view.setFloat64(0, value)
  return `\xcb${scratch(8)}`
}

const packString = (value: string): string => {
  const { length } = value
  if (length < 32) return String.fromCharCode(0xa0 | length) + value
  if (length <= 0xff) return `\xd9${unsigned(length, 1)}${value}`
  return length <= 0xffff ? `\xda${unsigned(length, 2)}${value}` : `\xdb${unsigned(length, 4)}${value}`
}

/** The head of an array or a map. */
const packLength = (length: number, short: number, long: number): string => {
  if (length <= 15) return String.fromCharCode(short | length)
  return length <= 0xffff
    ? String.fromCharCode(long) + unsigned(length, 2)
    : String.fromCharCode(long + 1) + unsigned(length, 4)
}

const isArray = (table: LuaTable): boolean => {
  let count = 0
  let max = 0
  for (let place = table.seek(0); place >= 0; place = table.seek(place + 1)) {
    const key = table.keyAt(place)
    if (typeof key !== "number" || key <= 0 || (key | 0) !== key) return false
    if (key > max) max = key
    count++
  }
  return max === count
}

const packTable = (table: LuaTable, level: number): string => {
  let text = ""
  if (isArray(table)) {
    const length = table.length()
    for (let i = 1; i <= length; i++) text += pack(index(table, i), level + 1)
    return packLength(length, 0x90, 0xdc) + text
  }
  let count = 0
  for (const [key, value] of table.entries()) {
    text += pack(key, level + 1) + pack(value, level + 1)
    count++
  }
  return packLength(count, 0x80, 0xde) + text
}

const pack = (value: LuaValue, level: number): string => {
  switch (typeof value) {
    case "string":
      return packString(value)
    case "number":
      return packNumber(value)
    case "boolean":
      return value ? "\xc3" : "\xc2"
    default:
      return value instanceof LuaTable && level < maxNesting ? packTable(value, level) : "\xc0"
  }
}

class Unpacker {
  at: number

  constructor(private readonly text: string, offset: number) {
    this.at = offset
  }

  get ended(): boolean {
    return this.at >= this.text.length
  }

  value(): LuaValue {
    const head = this.byte()
    if (head < 0x80) return head
    if (head >= 0xe0) return head - 0x100
    if (head < 0x90) return this.map(head & 0xf)
    if (head < 0xa0) return this.array(head & 0xf)
    if (head < 0xc0) return this.bytes(head & 0x1f)
    switch (head) {
      case 0xc0:
        return undefined
      case 0xc2:
        return false
      case 0xc3:
        return true
      case 0xca:
        this.load(4)
        return view.getFloat32(0)
      case 0xcb:
        this.load(8)
        return view.getFloat64(0)
      case 0xcc:
        return this.byte()
      case 0xcd:
        return this.length(2)
      case 0xce:
        return this.length(4)
      case 0xcf:
      case 0xd3:
        this.load(8)
        return Number(view.getBigInt64(0))
      case 0xd0:
        this.load(1)
        return view.getInt8(0)
      case 0xd1:
        this.load(2)
        return view.getInt16(0)
      case 0xd2:
        this.load(4)
        return view.getInt32(0)
      case 0xd9:
        return this.bytes(this.byte())
      case 0xda:
        return this.bytes(this.length(2))
      case 0xdb:
        return this.bytes(this.length(4))
      case 0xdc:
        return this.array(this.length(2))
      case 0xdd:
        return this.array(this.length(4))
      case 0xde:
        return this.map(this.length(2))
      case 0xdf:
        return this.map(this.length(4))
      default:
        return libraryError("Bad data format in input.")
    }
  }

  private bytes(count: number): string {
    if (this.text.length - this.at < count) return libraryError("Missing bytes in input.")
    const start = this.at
    this.at += count
    return this.text.slice(start, this.at)
  }

  private byte(): number {
    return this.bytes(1).charCodeAt(0)
  }

  private load(count: number): void {
    const bytes = this.bytes(count)
    for (let i = 0; i < count; i++) view.setUint8(i, bytes.charCodeAt(i))
  }

  private length(bytes: 2 | 4): number {
    this.load(bytes)
    return bytes === 2 ? view.getUint16(0) : view.getUint32(0)
  }

  private array(count: number): LuaTable {
    const table = new LuaTable()
    for (let i = 1; i <= count; i++) table.set(i, this.value())
    return table
  }

  private map(count: number): LuaTable {
    const table = new LuaTable()
    for (let i = 0; i < count; i++) {
      const key = this.value()
      rawSet(table, key, this.value())
    }
    return table
  }
}

const unpack = (args: ReadonlyArray<LuaValue>, limit: number, offset: number): LuaResult => {
  const text = checkString(args, 1)
  if (offset < 0 || limit < 0) {
    return libraryError(`Invalid request to unpack with offset of ${offset} and limit of ${text.length}.`)
  }
  if (offset > text.length) {
    return libraryError(`Start offset ${offset} greater than input length ${text.length}.`)
  }
  const everything = limit === 0 && offset === 0
  const unpacker = new Unpacker(text, offset)
  const values: Array<LuaValue> = []
  const most = everything ? Infinity : limit
  while (!unpacker.ended && values.length < most) values.push(unpacker.value())
  return everything ? results(values) : [unpacker.ended ? -1 : unpacker.at, ...values]
}

export const cmsgpackLibrary: Record<string, LuaFunction> = {
  pack: (...args) =>
    args.length === 0
      ? argumentError(0, "MessagePack pack needs input.")
      : args.map((value) => pack(value, 0)).join(""),
  unpack: (...args) => unpack(args, 0, 0),
  unpack_limit: (...args) => unpack(args, checkInteger(args, 2), optionalInteger(args, 3, 0)),
  unpack_one: (...args) => unpack(args, 1, optionalInteger(args, 2, 0))
}

export const cmsgpackConstants: ReadonlyArray<readonly [string, LuaValue]> = [
  ["_NAME", "cmsgpack"],
  ["_VERSION", "lua-cmsgpack 0.4.0"],
  ["_COPYRIGHT", "Copyright (C) 2012, Salvatore Sanfilippo"],
  ["_DESCRIPTION", "MessagePack C implementation for Lua"]
]
