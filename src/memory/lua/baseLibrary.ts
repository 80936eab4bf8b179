/** Lua's basic functions, without those that the server removes. */
import { checkAny, checkFunction, checkInt, checkString, checkTable, optionalInt, optionalString } from "./arguments.js"
import { argumentError, caught, libraryError, raise } from "./error.js"
import { call, metamethod, metatableOf, rawSet, toNumber, toText, truthy, typeName } from "./operators.js"
import { currentFrames, where } from "./position.js"
import { LuaTable } from "./table.js"
import { all, first, NONE } from "./value.js"
import type { LuaFunction, LuaResult, LuaValue } from "./value.js"

/** The values that fit on the stack of a library function, its arguments included. */
const maxStack = 8000

const nextEntry: LuaFunction = (...args) => {
  const table = checkTable(args, 1)
  const after = table.placeAfter(args[1])
  if (after < 0) return libraryError("invalid key to 'next'", 0)
  const place = table.seek(after)
  return place < 0 ? undefined : [table.keyAt(place), table.valueAt(place)]
}

const ipairsStep: LuaFunction = (...args) => {
  const index = checkInt(args, 2) + 1
  const value = checkTable(args, 1).get(index)
  return value === undefined ? NONE : [index, value]
}

/** The value an error handler or `pcall` sees: of the server's own errors, the text. */
const errorText = (value: LuaValue): LuaValue => {
  if (!(value instanceof LuaTable)) return value
  const text = value.get("err")
  return typeof text === "string" || typeof text === "number" ? text : value
}

/** `strtoul`, whose results wrap. */
const parseInBase = (text: string, base: number): number | undefined => {
  const match = /^[ \t-\r]*([-+]?)(.*?)[ \t-\r]*(?:\0[^]*)?$/s.exec(text)
  let digits = match?.[2]?.toLowerCase() ?? ""
  if (base === 16 && /^0x[0-9a-f]/.test(digits)) digits = digits.slice(2)
  if (digits === "") return undefined
  let value = 0n
  for (const character of digits) {
    const digit = parseInt(character, 36)
    if (!(digit < base)) return undefined
    value = value * BigInt(base) + BigInt(digit)
  }
  if (value > 0xffffffffffffffffn) return 2 ** 64
  return Number(match?.[1] === "-" ? BigInt.asUintN(64, -value) : value)
}

const protectedMetatable = (value: LuaValue): LuaValue => metamethod(value, "__metatable")

export const makeBaseLibrary = (
  load: (source: string, name: string) => LuaFunction | string
): Record<string, LuaFunction> => ({
  assert: (...args) => {
    checkAny(args, 1)
    if (truthy(args[0])) return args.length === 1 ? args[0] : args
    return libraryError(optionalString(args, 2, "assertion failed!"))
  },
  collectgarbage: (...args) => {
    const option = optionalString(args, 1, "collect")
    if (!["stop", "restart", "collect", "count", "step", "setpause", "setstepmul"].includes(option)) {
      return argumentError(1, `invalid option '${option}'`)
    }
    return option === "step" ? true : option === "count" ? 64 : 0
  },
  error: (...args) => {
    const value = args[0]
    const level = optionalInt(args, 2, 1)
    const frames = currentFrames()
    const text = typeof value === "string" || typeof value === "number"
    return raise(text && level > 0 ? where(frames, level) + toText(value) : value, frames)
  },
  gcinfo: () => 64,
  getmetatable: (...args) => {
    checkAny(args, 1)
    const value = args[0]
    return protectedMetatable(value) ?? metatableOf(value)
  },
  ipairs: (...args) => [ipairsStep, checkTable(args, 1), 0],
  load: (...args) => {
    const name = optionalString(args, 2, "=(load)")
    const reader = checkFunction(args, 1)
    let source = ""
    for (;;) {
      const piece = first(call(reader))
      if (piece === undefined || piece === "") break
      if (typeof piece !== "string") return libraryError("reader function must return a string")
      source += piece
    }
    const loaded = load(source, name)
    return typeof loaded === "string" ? [undefined, loaded] : loaded
  },
  loadstring: (...args) => {
    const source = checkString(args, 1)
    const loaded = load(source, optionalString(args, 2, source))
    return typeof loaded === "string" ? [undefined, loaded] : loaded
  },
  next: nextEntry,
  pairs: (...args) => [nextEntry, checkTable(args, 1), undefined],
  pcall: (...args): LuaResult => {
    if (args.length === 0) return [false, "attempt to call a boolean value"]
    try {
      return [true, ...all(call(args[0], ...args.slice(1)))]
    } catch (error) {
      return [false, errorText(caught(error).value)]
    }
  },
  rawequal: (...args) => {
    checkAny(args, 1)
    checkAny(args, 2)
    return args[0] === args[1]
  },
  rawget: (...args) => {
    const table = checkTable(args, 1)
    checkAny(args, 2)
    return table.get(args[1])
  },
  rawset: (...args) => {
    const table = checkTable(args, 1)
    checkAny(args, 2)
    checkAny(args, 3)
    rawSet(table, args[1], args[2])
    return table
  },
  select: (...args) => {
    const [n] = args
    if (typeof n === "string" && n.startsWith("#")) return args.length - 1
    let index = checkInt(args, 1)
    if (index < 0) index = args.length + index
    else if (index > args.length) index = args.length
    if (index < 1) return argumentError(1, "index out of range")
    return args.slice(index)
  },
  setmetatable: (...args) => {
    const table = checkTable(args, 1)
    const metatable = args[1]
    if (!(metatable instanceof LuaTable) && (metatable !== undefined || args.length < 2)) {
      return argumentError(2, "nil or table expected")
    }
    if (protectedMetatable(table) !== undefined) return libraryError("cannot change a protected metatable")
    if (table.readonly) return libraryError("Attempt to modify a readonly table", 0)
    table.metatable = metatable
    return table
  },
  tonumber: (...args) => {
    const base = optionalInt(args, 2, 10)
    if (base === 10) {
      checkAny(args, 1)
      return toNumber(args[0])
    }
    const text = checkString(args, 1)
    return base < 2 || base > 36 ? argumentError(2, "base out of range") : parseInBase(text, base)
  },
  tostring: (...args) => {
    checkAny(args, 1)
    const handler = metamethod(args[0], "__tostring")
    return handler === undefined ? toText(args[0]) : first(call(handler, args[0]))
  },
  type: (...args) => {
    checkAny(args, 1)
    return typeName(args[0])
  },
  unpack: (...args) => {
    const table = checkTable(args, 1)
    const from = optionalInt(args, 2, 1)
    const to = args[2] === undefined ? table.length() : checkInt(args, 3)
    if (from > to) return NONE
    const count = to - from + 1
    if (count > maxStack - args.length) return libraryError("too many results to unpack")
    const values = new Array<LuaValue>(count)
    for (let i = 0; i < count; i++) values[i] = table.get(from + i)
    return values
  },
  xpcall: (...args): LuaResult => {
    checkAny(args, 2)
    try {
      return [true, ...all(call(args[0]))]
    } catch (error) {
      const { value } = caught(error)
      try {
        return [false, first(call(args[1], value))]
      } catch (inner) {
        return [false, caught(inner).value]
      }
    }
  }
})
