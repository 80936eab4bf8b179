/** LuaBitOp, the `bit` library: 32 bits, signed results. */
import { argumentError } from "./error.js"
import { toNumber, typeName } from "./operators.js"
import type { LuaFunction, LuaValue } from "./value.js"

/** Rounded to the nearest integer, half to even, and cut to 32 bits. */
const bits = (args: ReadonlyArray<LuaValue>, index: number): number => {
  const value = toNumber(args[index - 1])
  if (value === undefined) {
    const found = index > args.length ? "no value" : typeName(args[index - 1])
    return argumentError(index, `number expected, got ${found}`)
  }
  const floor = Math.floor(value)
  const rest = value - floor
  return rest > 0.5 || (rest === 0.5 && floor % 2 !== 0) ? (floor + 1) | 0 : floor | 0
}

const fold = (combine: (a: number, b: number) => number): LuaFunction => (...args) => {
  let result = bits(args, 1)
  for (let i = args.length; i > 1; i--) result = combine(result, bits(args, i))
  return result
}

const shift = (move: (value: number, by: number) => number): LuaFunction => (...args) =>
  move(bits(args, 1), bits(args, 2) & 31) | 0

export const bitLibrary: Record<string, LuaFunction> = {
  arshift: shift((value, by) => value >> by),
  band: fold((a, b) => a & b),
  bnot: (...args) => ~bits(args, 1),
  bor: fold((a, b) => a | b),
  bswap: (...args) => {
    const value = bits(args, 1)
    return (value >>> 24) | ((value >>> 8) & 0xff00) | ((value & 0xff00) << 8) | (value << 24)
  },
  bxor: fold((a, b) => a ^ b),
  lshift: shift((value, by) => value << by),
  rol: shift((value, by) => (value << by) | (value >>> (32 - by))),
  ror: shift((value, by) => (value << (32 - by)) | (value >>> by)),
  rshift: shift((value, by) => value >>> by),
  tobit: (...args) => bits(args, 1),
  tohex: (...args) => {
    const value = bits(args, 1) >>> 0
    const digits = args.length < 2 ? 8 : bits(args, 2)
    const count = Math.min(Math.abs(digits), 8)
    const text = value.toString(16).padStart(8, "0").slice(8 - count)
    return digits < 0 ? text.toUpperCase() : text
  }
}
