/** What compiled scripts call. The compiler imports all of it by name. */
import { operationError } from "./error.js"
import { callable } from "./operators.js"
import { LuaTable } from "./table.js"
import type { LuaResult, LuaValue } from "./value.js"

export { suspendable } from "./coroutineLibrary.js"
export {
  add,
  callable,
  concat,
  divide,
  equal,
  index,
  length,
  lessOrEqual,
  lessThan,
  loopNumber,
  modulo,
  multiply,
  negate,
  raise,
  rawSet,
  setIndex,
  subtract,
  tailCall
} from "./operators.js"
export { all, first, NONE, results, settle } from "./value.js"
export { LuaTable }

export const undefinedGlobal = (name: string): never =>
  operationError(`Script attempted to access nonexistent global variable '${name}'`)

/** The value is evaluated before the assignment is refused. */
export const assignGlobal = (_value: LuaValue): never => operationError("Attempt to modify a readonly table")

/** The `arg` table of Lua 5.0. */
export const argTable = (values: Array<LuaValue>): LuaTable => {
  const table = new LuaTable(values.length, 1).setList(values)
  table.set("n", values.length)
  return table
}

/** A call that may yield. */
export function* invoke(
  callee: LuaValue,
  args: Array<LuaValue>
): Generator<Array<LuaValue>, LuaResult, Array<LuaValue>> {
  const run = typeof callee === "function" ? callee : callable(callee)
  return run.suspendable === undefined ? run(...args) : yield* run.suspendable(...args)
}
