/** The `table` library. */
import { checkFunction, checkInt, checkTable, optionalInt, optionalString } from "./arguments.js"
import { libraryError } from "./error.js"
import { numberToString } from "./number.js"
import { call, lessThan, rawSet, truthy, typeName } from "./operators.js"
import type { LuaTable } from "./table.js"
import { first, NONE } from "./value.js"
import type { LuaFunction, LuaValue } from "./value.js"

/** Lua's quicksort step by step, since an inconsistent order function shows which comparisons are made. */
const sortRange = (table: LuaTable, less: (a: LuaValue, b: LuaValue) => boolean, from: number, to: number): void => {
  const swap = (i: number, a: LuaValue, j: number, b: LuaValue): void => {
    rawSet(table, i, a)
    rawSet(table, j, b)
  }
  let low = from
  let high = to
  while (low < high) {
    let a = table.get(low)
    let b = table.get(high)
    if (less(b, a)) swap(low, b, high, a)
    if (high - low === 1) break
    const middle = Math.floor((low + high) / 2)
    a = table.get(middle)
    b = table.get(low)
    if (less(a, b)) swap(middle, b, low, a)
    else {
      b = table.get(high)
      if (less(b, a)) swap(middle, b, high, a)
    }
    if (high - low === 2) break
    const pivot = table.get(middle)
    swap(middle, table.get(high - 1), high - 1, pivot)
    let i = low
    let j = high - 1
    for (;;) {
      while (less(a = table.get(++i), pivot)) {
        if (i > high) libraryError("invalid order function for sorting")
      }
      while (less(pivot, b = table.get(--j))) {
        if (j < low) libraryError("invalid order function for sorting")
      }
      if (j < i) break
      swap(i, b, j, a)
    }
    a = table.get(high - 1)
    swap(high - 1, table.get(i), i, a)
    if (i - low < high - i) {
      sortRange(table, less, low, i - 1)
      low = i + 1
    } else {
      sortRange(table, less, i + 1, high)
      high = i - 1
    }
  }
}

export const tableLibrary: Record<string, LuaFunction> = {
  concat: (...args) => {
    const separator = optionalString(args, 2, "")
    const table = checkTable(args, 1)
    const from = optionalInt(args, 3, 1)
    const to = args[3] === undefined ? table.length() : checkInt(args, 4)
    let text = ""
    for (let i = from; i <= to; i++) {
      const value = table.get(i)
      if (typeof value === "string") text += value
      else if (typeof value === "number") text += numberToString(value)
      else return libraryError(`invalid value (${typeName(value)}) at index ${i} in table for 'concat'`)
      if (i < to) text += separator
    }
    return text
  },
  foreach: (...args) => {
    const table = checkTable(args, 1)
    const run = checkFunction(args, 2)
    for (const [key, value] of table.entries()) {
      const result = first(call(run, key, value))
      if (result !== undefined) return result
    }
    return NONE
  },
  foreachi: (...args) => {
    const table = checkTable(args, 1)
    const length = table.length()
    const run = checkFunction(args, 2)
    for (let i = 1; i <= length; i++) {
      const result = first(call(run, i, table.get(i)))
      if (result !== undefined) return result
    }
    return NONE
  },
  getn: (...args) => checkTable(args, 1).length(),
  insert: (...args) => {
    const table = checkTable(args, 1)
    const end = table.length() + 1
    if (args.length === 2) {
      rawSet(table, end, args[1])
      return NONE
    }
    if (args.length !== 3) return libraryError("wrong number of arguments to 'insert'")
    const position = checkInt(args, 2)
    for (let i = Math.max(end, position); i > position; i--) rawSet(table, i, table.get(i - 1))
    rawSet(table, position, args[2])
    return NONE
  },
  maxn: (...args) => {
    let max = 0
    for (const [key] of checkTable(args, 1).entries()) if (typeof key === "number" && key > max) max = key
    return max
  },
  remove: (...args) => {
    const table = checkTable(args, 1)
    const end = table.length()
    const position = optionalInt(args, 2, end)
    if (position < 1 || position > end) return NONE
    const removed = table.get(position)
    for (let i = position; i < end; i++) rawSet(table, i, table.get(i + 1))
    rawSet(table, end, undefined)
    return removed
  },
  setn: (...args) => {
    checkTable(args, 1)
    return libraryError("'setn' is obsolete")
  },
  sort: (...args) => {
    const table = checkTable(args, 1)
    const length = table.length()
    const order = args[1] === undefined ? undefined : checkFunction(args, 2)
    const less = order === undefined
      ? lessThan
      : (a: LuaValue, b: LuaValue): boolean => truthy(first(call(order, a, b)))
    sortRange(table, less, 1, length)
    return NONE
  }
}
