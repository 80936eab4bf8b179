/** The `cjson` library. */
import { checkInteger, checkString } from "./arguments.js"
import { argumentError, libraryError } from "./error.js"
import { general, numberToString, stringToNumber } from "./number.js"
import { typeName } from "./operators.js"
import { native } from "./position.js"
import { defaultJsonSettings, session } from "./session.js"
import type { JsonSettings } from "./session.js"
import { LuaTable } from "./table.js"
import { Userdata } from "./value.js"
import type { LuaFunction, LuaValue } from "./value.js"

/** JSON's null, which unlike nil can be in a table. */
const jsonNull = new Userdata("(nil)")

// Encoding

const escapes: Record<string, string> = {
  "\"": "\\\"",
  "\\": "\\\\",
  "/": "\\/",
  "\b": "\\b",
  "\t": "\\t",
  "\n": "\\n",
  "\f": "\\f",
  "\r": "\\r"
}

// oxlint-disable-next-line no-control-regex -- JSON escapes them.
const escaped = /[\0-\x1f"\\/\x7f]/g

const escape = (character: string): string =>
  escapes[character] ?? `\\u${character.charCodeAt(0).toString(16).padStart(4, "0")}`

const quote = (text: string): string => `"${text.replace(escaped, escape)}"`

const refuse = (value: LuaValue, reason: string): never =>
  libraryError(`Cannot serialise ${typeName(value)}: ${reason}`)

const encodeNumber = (value: number, settings: JsonSettings): string => {
  if (!Number.isFinite(value)) {
    if (settings.encodeInvalid === "off") return refuse(value, "must not be NaN or Inf")
    if (settings.encodeInvalid === "null") return "null"
    return value !== value ? "nan" : value > 0 ? "inf" : "-inf"
  }
  if (settings.precision === 14) return numberToString(value)
  return (value < 0 ? "-" : "") + general(Math.abs(value), settings.precision)
}

/** The length of a table that is an array, 0 or -1 of one that is not. */
const arrayLength = (table: LuaTable, settings: JsonSettings): number => {
  let max = 0
  let items = 0
  for (let place = table.seek(0); place >= 0; place = table.seek(place + 1)) {
    const key = table.keyAt(place)
    if (typeof key !== "number" || !(key >= 1) || !Number.isInteger(key)) return -1
    if (key > max) max = key
    items++
  }
  if (settings.sparseRatio > 0 && max > items * settings.sparseRatio && max > settings.sparseSafe) {
    return settings.sparseConvert ? -1 : refuse(table, "excessively sparse array")
  }
  return max
}

const encode = (value: LuaValue, settings: JsonSettings, depth: number): string => {
  switch (typeof value) {
    case "string":
      return quote(value)
    case "number":
      return encodeNumber(value, settings)
    case "boolean":
      return value ? "true" : "false"
    case "undefined":
      return "null"
  }
  if (value === jsonNull) return "null"
  if (!(value instanceof LuaTable)) return refuse(value, "type not supported")
  if (depth >= settings.encodeDepth) return libraryError(`Cannot serialise, excessive nesting (${depth + 1})`)
  const length = arrayLength(value, settings)
  let text = ""
  if (length > 0) {
    for (let i = 1; i <= length; i++) text += `${i > 1 ? "," : ""}${encode(value.get(i), settings, depth + 1)}`
    return `[${text}]`
  }
  for (let place = value.seek(0); place >= 0; place = value.seek(place + 1)) {
    const key = value.keyAt(place)
    const name = typeof key === "string"
      ? quote(key)
      : typeof key === "number"
      ? `"${encodeNumber(key, settings)}"`
      : refuse(key, "table key must be a number or string")
    text += `${text === "" ? "" : ","}${name}:${encode(value.valueAt(place), settings, depth + 1)}`
  }
  return `{${text}}`
}

// Decoding

type Token =
  | { readonly type: "T_STRING" | "T_NUMBER" | "T_BOOLEAN" | "T_NULL"; readonly at: number; readonly value: LuaValue }
  | {
    readonly type: "T_OBJ_BEGIN" | "T_OBJ_END" | "T_ARR_BEGIN" | "T_ARR_END" | "T_COLON" | "T_COMMA" | "T_END"
    readonly at: number
  }
  | { readonly type: "T_ERROR"; readonly at: number; readonly message: string }

const punctuation = {
  "{": "T_OBJ_BEGIN",
  "}": "T_OBJ_END",
  "[": "T_ARR_BEGIN",
  "]": "T_ARR_END",
  ",": "T_COMMA",
  ":": "T_COLON",
  "": "T_END",
  "\0": "T_END"
} as const

const isPunctuation = (character: string): character is keyof typeof punctuation => character in punctuation

const unescaped: Record<string, string> = {
  "\"": "\"",
  "\\": "\\",
  "/": "/",
  b: "\b",
  t: "\t",
  n: "\n",
  f: "\f",
  r: "\r"
}

/** What `strtod` takes from the beginning. */
const numberPattern =
  /[-+]?(?:0x(?:[\da-f]+\.?[\da-f]*|\.[\da-f]+)(?:p[-+]?\d+)?|(?:\d+\.?\d*|\.\d+)(?:e[-+]?\d+)?|inf(?:inity)?|nan)/iy
const strictlyInvalid = /\+|-?0(?:x|\d)|-?(?:inf|nan)/iy

const utf8 = (code: number): string => Buffer.from(String.fromCodePoint(code), "utf8").toString("latin1")

class Decoder {
  private at = 0
  private depth = 0

  constructor(
    private readonly text: string,
    private readonly settings: JsonSettings
  ) {}

  decode(): LuaValue {
    const value = this.value(this.next())
    const end = this.next()
    return end.type === "T_END" ? value : this.unexpected("the end", end)
  }

  private unexpected(expected: string, token: Token): never {
    const found = token.type === "T_ERROR" ? token.message : token.type
    return libraryError(`Expected ${expected} but found ${found} at character ${token.at + 1}`)
  }

  private next(): Token {
    const { text } = this
    let character = text.charAt(this.at)
    while (character === " " || character === "\t" || character === "\n" || character === "\r") {
      character = text.charAt(++this.at)
    }
    const { at } = this
    if (isPunctuation(character)) {
      const type = punctuation[character]
      if (type !== "T_END") this.at++
      return { type, at }
    }
    if (character === "\"") return this.string(at)
    if (character === "-" || (character >= "0" && character <= "9")) {
      return !this.settings.decodeInvalid && this.isInvalidNumber()
        ? { type: "T_ERROR", at, message: "invalid number" }
        : this.number(at)
    }
    for (const [word, value] of [["true", true], ["false", false], ["null", jsonNull]] as const) {
      if (text.startsWith(word, at)) {
        this.at += word.length
        return { type: value === jsonNull ? "T_NULL" : "T_BOOLEAN", at, value }
      }
    }
    return /[+fiIntN]/.test(character) && this.settings.decodeInvalid && this.isInvalidNumber()
      ? this.number(at)
      : { type: "T_ERROR", at, message: "invalid token" }
  }

  /** A number for C that is none in JSON. */
  private isInvalidNumber(): boolean {
    strictlyInvalid.lastIndex = this.at
    return strictlyInvalid.test(this.text)
  }

  private number(at: number): Token {
    numberPattern.lastIndex = at
    const match = numberPattern.exec(this.text)
    if (match === null) return { type: "T_ERROR", at, message: "invalid number" }
    this.at += match[0].length
    return { type: "T_NUMBER", at, value: stringToNumber(match[0]) }
  }

  private string(start: number): Token {
    const { text } = this
    let value = ""
    let at = start + 1
    for (;;) {
      const special = /["\\\0]/g
      special.lastIndex = at
      const match = special.exec(text)
      const end = match === null ? text.length : match.index
      value += text.slice(at, end)
      const character = text.charAt(end)
      if (character === "\"") {
        this.at = end + 1
        return { type: "T_STRING", at: start, value }
      }
      if (character !== "\\") return { type: "T_ERROR", at: end, message: "unexpected end of string" }
      const escape = text.charAt(end + 1)
      const plain = unescaped[escape]
      if (plain !== undefined) {
        value += plain
        at = end + 2
        continue
      }
      if (escape !== "u") return { type: "T_ERROR", at: end, message: "invalid escape code" }
      const unicode = this.unicode(end)
      if (unicode === undefined) return { type: "T_ERROR", at: end, message: "invalid unicode escape code" }
      value += utf8(unicode.code)
      at = end + unicode.length
    }
  }

  private unicode(at: number): { readonly code: number; readonly length: number } | undefined {
    const unit = (from: number): number =>
      /^\\u[\da-fA-F]{4}$/.test(this.text.slice(from, from + 6))
        ? parseInt(this.text.slice(from + 2, from + 6), 16)
        : -1
    const high = unit(at)
    if (high < 0) return undefined
    if ((high & 0xf800) !== 0xd800) return { code: high, length: 6 }
    const low = unit(at + 6)
    return (high & 0x400) !== 0 || low < 0 || (low & 0xfc00) !== 0xdc00
      ? undefined
      : { code: (((high & 0x3ff) << 10) | (low & 0x3ff)) + 0x10000, length: 12 }
  }

  private value(token: Token): LuaValue {
    switch (token.type) {
      case "T_STRING":
      case "T_NUMBER":
      case "T_BOOLEAN":
      case "T_NULL":
        return token.value
      case "T_OBJ_BEGIN":
        return this.object()
      case "T_ARR_BEGIN":
        return this.array()
      default:
        return this.unexpected("value", token)
    }
  }

  private descend(): void {
    if (++this.depth > this.settings.decodeDepth) {
      libraryError(`Found too many nested data structures (${this.depth}) at character ${this.at}`)
    }
  }

  private object(): LuaTable {
    this.descend()
    const table = new LuaTable()
    let token = this.next()
    if (token.type !== "T_OBJ_END") {
      for (;;) {
        if (token.type !== "T_STRING") return this.unexpected("object key string", token)
        const key = token.value
        const colon = this.next()
        if (colon.type !== "T_COLON") return this.unexpected("colon", colon)
        table.set(key, this.value(this.next()))
        token = this.next()
        if (token.type === "T_OBJ_END") break
        if (token.type !== "T_COMMA") return this.unexpected("comma or object end", token)
        token = this.next()
      }
    }
    this.depth--
    return table
  }

  private array(): LuaTable {
    this.descend()
    const values: Array<LuaValue> = []
    let token = this.next()
    if (token.type !== "T_ARR_END") {
      for (;;) {
        values.push(this.value(token))
        token = this.next()
        if (token.type === "T_ARR_END") break
        if (token.type !== "T_COMMA") return this.unexpected("comma or array end", token)
        token = this.next()
      }
    }
    this.depth--
    return LuaTable.of(values)
  }
}

// The library

type Settings = () => JsonSettings

const atMost = (args: ReadonlyArray<LuaValue>, count: number): void => {
  if (args.length > count) argumentError(count + 1, "found too many arguments")
}

const integerOption = (args: ReadonlyArray<LuaValue>, index: number, low: number, high: number): number | undefined => {
  if (args[index - 1] === undefined) return undefined
  const value = checkInteger(args, index) | 0
  return value < low || value > high
    ? argumentError(1, `expected integer between ${low} and ${high}`)
    : value
}

const choiceOption = <A extends string>(
  args: ReadonlyArray<LuaValue>,
  index: number,
  choices: ReadonlyArray<A>
): A | boolean | undefined => {
  const value = args[index - 1]
  if (value === undefined || typeof value === "boolean") return value
  const text = checkString(args, index)
  return choices.find((choice) => choice === text) ?? argumentError(index, `invalid option '${text}'`)
}

const toggle = (args: ReadonlyArray<LuaValue>, index: number): boolean | undefined => {
  const choice = choiceOption(args, index, ["off", "on"])
  return typeof choice === "string" ? choice === "on" : choice
}

const maxInt = 2 ** 31 - 1

const makeFunctions = (settings: Settings): Record<string, LuaFunction> => ({
  decode: (...args) => {
    if (args.length !== 1) return argumentError(1, "expected 1 argument")
    const text = checkString(args, 1)
    if (text.length >= 2 && (text[0] === "\0" || text[1] === "\0")) {
      return libraryError("JSON parser does not support UTF-16 or UTF-32")
    }
    return new Decoder(text, settings()).decode()
  },
  decode_invalid_numbers: (...args) => {
    atMost(args, 1)
    return settings().decodeInvalid = toggle(args, 1) ?? settings().decodeInvalid
  },
  decode_max_depth: (...args) => {
    atMost(args, 1)
    return settings().decodeDepth = integerOption(args, 1, 1, maxInt) ?? settings().decodeDepth
  },
  encode: (...args) => args.length === 1 ? encode(args[0], settings(), 0) : argumentError(1, "expected 1 argument"),
  encode_invalid_numbers: (...args) => {
    atMost(args, 1)
    const choice = choiceOption(args, 1, ["off", "on", "null"])
    if (choice !== undefined) {
      settings().encodeInvalid = typeof choice === "boolean" ? (choice ? "on" : "off") : choice
    }
    const { encodeInvalid } = settings()
    return encodeInvalid === "null" ? "null" : encodeInvalid === "on"
  },
  encode_keep_buffer: (...args) => {
    atMost(args, 1)
    return settings().keepBuffer = toggle(args, 1) ?? settings().keepBuffer
  },
  encode_max_depth: (...args) => {
    atMost(args, 1)
    return settings().encodeDepth = integerOption(args, 1, 1, maxInt) ?? settings().encodeDepth
  },
  encode_number_precision: (...args) => {
    atMost(args, 1)
    return settings().precision = integerOption(args, 1, 1, 14) ?? settings().precision
  },
  encode_sparse_array: (...args) => {
    atMost(args, 3)
    const current = settings()
    current.sparseConvert = toggle(args, 1) ?? current.sparseConvert
    current.sparseRatio = integerOption(args, 2, 0, maxInt) ?? current.sparseRatio
    current.sparseSafe = integerOption(args, 3, 0, maxInt) ?? current.sparseSafe
    return [current.sparseConvert, current.sparseRatio, current.sparseSafe]
  },
  new: () => {
    const own = defaultJsonSettings()
    return LuaTable.record([
      ...Object.entries(makeFunctions(() => own)).map(([name, run]) => [name, native(name, run)] as const),
      ...cjsonConstants
    ])
  }
})

export const cjsonConstants: ReadonlyArray<readonly [string, LuaValue]> = [
  ["null", jsonNull],
  ["_NAME", "cjson"],
  ["_VERSION", "2.1.0"]
]

export const cjsonLibrary = makeFunctions(() => session.json)
