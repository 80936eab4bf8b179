/** The operations of the language on any values, with metamethods and with Lua's error texts. */
import { operationError } from "./error.js"
import { numberToString, stringToNumber } from "./number.js"
import { currentFrames } from "./position.js"
import type { Site } from "./position.js"
import { LuaTable } from "./table.js"
import { first, settle, TailCall, Userdata } from "./value.js"
import type { LuaFunction, LuaResult, LuaValue } from "./value.js"

export const typeName = (value: LuaValue): string => {
  switch (typeof value) {
    case "undefined":
      return "nil"
    case "object":
      return value instanceof LuaTable ? "table" : value instanceof Userdata ? "userdata" : "thread"
    default:
      return typeof value
  }
}

/** The metatable of strings, which the string library fills. */
export const stringMetatable = new LuaTable()

export const metatableOf = (value: LuaValue): LuaTable | undefined =>
  value instanceof LuaTable ? value.metatable : typeof value === "string" ? stringMetatable : undefined

export const metamethod = (value: LuaValue, event: string): LuaValue => metatableOf(value)?.get(event)

export const truthy = (value: LuaValue): boolean => value !== undefined && value !== false

/** A number, or a string that reads as one. */
export const toNumber = (value: LuaValue): number | undefined =>
  typeof value === "number" ? value : typeof value === "string" ? stringToNumber(value) : undefined

/** The operand's name in the source, as the running operation has it. */
const operandName = (side: "left" | "right"): string | undefined => {
  const frame = currentFrames()[0]
  const site: Site | undefined = frame === undefined || frame.native ? undefined : frame.site
  return site?.[side]
}

const typeError = (action: string, value: LuaValue, side: "left" | "right"): never => {
  const name = operandName(side)
  return operationError(
    name === undefined
      ? `attempt to ${action} a ${typeName(value)} value`
      : `attempt to ${action} ${name} (a ${typeName(value)} value)`
  )
}

// Calls

/** What is called when the value is: itself, or its `__call`. */
export const callable = (value: LuaValue): LuaFunction => {
  if (typeof value === "function") return value
  const handler = metamethod(value, "__call")
  if (typeof handler !== "function") return typeError("call", value, "left")
  const bound: LuaFunction = (...args) => handler(value, ...args)
  const { suspendable } = handler
  if (suspendable !== undefined) bound.suspendable = (...args) => suspendable(value, ...args)
  return bound
}

/** How many tail calls nest before one is returned instead of made. */
const tailDepth = 100
let tails = 0

export const tailCall = (callee: LuaValue, ...args: Array<LuaValue>): LuaResult => {
  const run = typeof callee === "function" ? callee : callable(callee)
  if (++tails < tailDepth) return run(...args)
  tails = 0
  return new TailCall(run, args)
}

/** A call from a library function. */
export const call = (callee: LuaValue, ...args: Array<LuaValue>): LuaResult =>
  settle((typeof callee === "function" ? callee : callable(callee))(...args))

const callFirst = (callee: LuaValue, ...args: Array<LuaValue>): LuaValue =>
  first((typeof callee === "function" ? callee : callable(callee))(...args))

// Tables

const maxIndirections = 100

export const index = (object: LuaValue, key: LuaValue): LuaValue => {
  if (object instanceof LuaTable) {
    const value = object.get(key)
    if (value !== undefined || object.metatable === undefined) return value
  }
  return indexThrough(object, key)
}

const indexThrough = (object: LuaValue, key: LuaValue): LuaValue => {
  let current = object
  for (let i = 0; i < maxIndirections; i++) {
    let handler: LuaValue
    if (current instanceof LuaTable) {
      const value = current.get(key)
      if (value !== undefined) return value
      handler = current.metatable?.get("__index")
      if (handler === undefined) return undefined
    } else {
      handler = metamethod(current, "__index")
      if (handler === undefined) return typeError("index", current, "left")
    }
    if (typeof handler === "function") return callFirst(handler, current, key)
    current = handler
  }
  return operationError("loop in gettable")
}

/** Without metamethods. */
export const rawSet = (table: LuaTable, key: LuaValue, value: LuaValue): void => {
  if (table.readonly) return operationError("Attempt to modify a readonly table")
  if (key === undefined) return operationError("table index is nil")
  if (key !== key) return operationError("table index is NaN")
  table.set(key, value)
}

export const setIndex = (object: LuaValue, key: LuaValue, value: LuaValue): void => {
  if (object instanceof LuaTable && object.metatable === undefined) return rawSet(object, key, value)
  let current = object
  for (let i = 0; i < maxIndirections; i++) {
    let handler: LuaValue
    if (current instanceof LuaTable) {
      if (current.readonly) return operationError("Attempt to modify a readonly table")
      handler = current.metatable?.get("__newindex")
      if (handler === undefined || current.get(key) !== undefined) return rawSet(current, key, value)
    } else {
      handler = metamethod(current, "__newindex")
      if (handler === undefined) return typeError("index", current, "left")
    }
    if (typeof handler === "function") {
      call(handler, current, key, value)
      return
    }
    current = handler
  }
  return operationError("loop in settable")
}

// Arithmetic

/** As C does it: 1 to any power is 1, and so is -1 to an infinite one. */
export const power = (base: number, exponent: number): number =>
  base === 1 || (base === -1 && (exponent === Infinity || exponent === -Infinity)) ? 1 : Math.pow(base, exponent)

const compute = {
  __add: (a: number, b: number) => a + b,
  __sub: (a: number, b: number) => a - b,
  __mul: (a: number, b: number) => a * b,
  __div: (a: number, b: number) => a / b,
  __mod: (a: number, b: number) => a - Math.floor(a / b) * b,
  __pow: power,
  __unm: (a: number) => -a
}

const arithmetic = (event: keyof typeof compute, a: LuaValue, b: LuaValue): LuaValue => {
  const left = toNumber(a)
  const right = toNumber(b)
  if (left !== undefined && right !== undefined) return compute[event](left, right)
  const handler = metamethod(a, event) ?? metamethod(b, event)
  if (handler !== undefined) return callFirst(handler, a, b)
  return left === undefined
    ? typeError("perform arithmetic on", a, "left")
    : typeError("perform arithmetic on", b, "right")
}

export const add = (a: LuaValue, b: LuaValue): LuaValue =>
  typeof a === "number" && typeof b === "number" ? a + b : arithmetic("__add", a, b)

export const subtract = (a: LuaValue, b: LuaValue): LuaValue =>
  typeof a === "number" && typeof b === "number" ? a - b : arithmetic("__sub", a, b)

export const multiply = (a: LuaValue, b: LuaValue): LuaValue =>
  typeof a === "number" && typeof b === "number" ? a * b : arithmetic("__mul", a, b)

export const divide = (a: LuaValue, b: LuaValue): LuaValue =>
  typeof a === "number" && typeof b === "number" ? a / b : arithmetic("__div", a, b)

export const modulo = (a: LuaValue, b: LuaValue): LuaValue =>
  typeof a === "number" && typeof b === "number" ? a - Math.floor(a / b) * b : arithmetic("__mod", a, b)

export const raise = (a: LuaValue, b: LuaValue): LuaValue =>
  typeof a === "number" && typeof b === "number" ? power(a, b) : arithmetic("__pow", a, b)

export const negate = (a: LuaValue): LuaValue => typeof a === "number" ? -a : arithmetic("__unm", a, a)

export const length = (value: LuaValue): LuaValue => {
  if (value instanceof LuaTable) return value.length()
  if (typeof value === "string") return value.length
  return typeError("get length of", value, "left")
}

// Text

export const concat = (a: LuaValue, b: LuaValue): LuaValue => {
  if (typeof b === "string") {
    if (typeof a === "string") return a + b
    if (typeof a === "number") return numberToString(a) + b
  } else if (typeof b === "number") {
    if (typeof a === "string") return a + numberToString(b)
    if (typeof a === "number") return numberToString(a) + numberToString(b)
  }
  const handler = metamethod(a, "__concat") ?? metamethod(b, "__concat")
  if (handler !== undefined) return callFirst(handler, a, b)
  return typeof a === "string" || typeof a === "number"
    ? typeError("concatenate", b, "right")
    : typeError("concatenate", a, "left")
}

const functionIds = new WeakMap<object, number>()
let lastFunctionId = 0

const address = (id: number): string => `0x${(0x7f0000000000 + id * 64).toString(16)}`

export const toText = (value: LuaValue): string => {
  switch (typeof value) {
    case "undefined":
      return "nil"
    case "string":
      return value
    case "number":
      return numberToString(value)
    case "boolean":
      return value ? "true" : "false"
    default: {
      if (value instanceof LuaTable) return `table: ${address(value.id)}`
      if (value instanceof Userdata) return `userdata: ${value.description}`
      let id = functionIds.get(value)
      if (id === undefined) functionIds.set(value, id = ++lastFunctionId)
      return `${typeof value === "function" ? "function" : "thread"}: ${address(id)}`
    }
  }
}

// Comparison

/** Both values must name the same handler. */
const sharedHandler = (a: LuaValue, b: LuaValue, event: string): LuaValue => {
  const handler = metamethod(a, event)
  return handler !== undefined && handler === metamethod(b, event) ? handler : undefined
}

export const equal = (a: LuaValue, b: LuaValue): boolean => {
  if (a === b) return true
  if (!(a instanceof LuaTable) || !(b instanceof LuaTable)) return false
  if (a.metatable === undefined || b.metatable === undefined) return false
  const handler = sharedHandler(a, b, "__eq")
  return handler !== undefined && truthy(callFirst(handler, a, b))
}

const orderError = (a: LuaValue, b: LuaValue): never => {
  const left = typeName(a)
  const right = typeName(b)
  return operationError(
    left === right ? `attempt to compare two ${left} values` : `attempt to compare ${left} with ${right}`
  )
}

export const lessThan = (a: LuaValue, b: LuaValue): boolean => {
  if (typeof a === "number" && typeof b === "number") return a < b
  if (typeof a === "string" && typeof b === "string") return a < b
  const handler = typeof a === typeof b ? sharedHandler(a, b, "__lt") : undefined
  return handler === undefined ? orderError(a, b) : truthy(callFirst(handler, a, b))
}

export const lessOrEqual = (a: LuaValue, b: LuaValue): boolean => {
  if (typeof a === "number" && typeof b === "number") return a <= b
  if (typeof a === "string" && typeof b === "string") return a <= b
  if (typeof a === typeof b) {
    const handler = sharedHandler(a, b, "__le")
    if (handler !== undefined) return truthy(callFirst(handler, a, b))
    const inverse = sharedHandler(b, a, "__lt")
    if (inverse !== undefined) return !truthy(callFirst(inverse, b, a))
  }
  return orderError(a, b)
}

// Loops

export const loopNumber = (value: LuaValue, part: string): number =>
  toNumber(value) ?? operationError(`'for' ${part} must be a number`)
