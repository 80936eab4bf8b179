/** Checks of the arguments of library functions. Indexes count from 1, as in the messages. */
import { argumentError } from "./error.js"
import { numberToString } from "./number.js"
import { toNumber, typeName } from "./operators.js"
import { LuaTable } from "./table.js"
import type { LuaValue } from "./value.js"

type Arguments = ReadonlyArray<LuaValue>

const refuse = (args: Arguments, index: number, expected: string): never =>
  argumentError(index, `${expected} expected, got ${index > args.length ? "no value" : typeName(args[index - 1])}`)

export const checkAny = (args: Arguments, index: number): void => {
  if (args.length < index) argumentError(index, "value expected")
}

export const checkString = (args: Arguments, index: number): string => {
  const value = args[index - 1]
  if (typeof value === "string") return value
  return typeof value === "number" ? numberToString(value) : refuse(args, index, "string")
}

export const optionalString = (args: Arguments, index: number, absent: string): string =>
  args[index - 1] === undefined ? absent : checkString(args, index)

export const checkNumber = (args: Arguments, index: number): number => {
  const value = args[index - 1]
  return typeof value === "number" ? value : toNumber(value) ?? refuse(args, index, "number")
}

/** A C `(long)`: cut towards zero, the smallest one for what does not fit. */
export const toInteger = (value: number): number =>
  value > -0x8000000000000000 && value < 0x8000000000000000 ? Math.trunc(value) + 0 : -0x8000000000000000

/** A C `(unsigned long)`, as x86-64 does it. */
export const toUnsigned = (value: number): bigint =>
  value >= 0x8000000000000000
    ? (value < 2 ** 64 ? BigInt(value) : 0n)
    : BigInt.asUintN(64, BigInt(toInteger(value)))

export const checkInteger = (args: Arguments, index: number): number => toInteger(checkNumber(args, index))

export const optionalInteger = (args: Arguments, index: number, absent: number): number =>
  args[index - 1] === undefined ? absent : checkInteger(args, index)

/** A C `int`. */
export const checkInt = (args: Arguments, index: number): number => checkInteger(args, index) | 0

export const optionalInt = (args: Arguments, index: number, absent: number): number =>
  args[index - 1] === undefined ? absent : checkInt(args, index)

export const checkTable = (args: Arguments, index: number): LuaTable => {
  const value = args[index - 1]
  return value instanceof LuaTable ? value : refuse(args, index, "table")
}

export const checkFunction = (args: Arguments, index: number): LuaValue => {
  const value = args[index - 1]
  return typeof value === "function" ? value : refuse(args, index, "function")
}
