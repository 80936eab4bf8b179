/**
 * Lua values as JavaScript values: nil is `undefined`, strings are binary (one character for each byte), functions are
 * JavaScript functions.
 *
 * A function returns the value itself when it returns one, and an array when it returns none or several: no Lua value
 * is a JavaScript array, so the two cannot be mistaken, and the common case allocates nothing.
 */
import type { LuaTable } from "./table.js"

export type LuaValue = undefined | boolean | number | string | LuaTable | LuaFunction | Userdata | Coroutine

export type LuaResult = LuaValue | Array<LuaValue>

export interface LuaFunction {
  (...args: Array<LuaValue>): LuaResult
  /** In scripts that use coroutines: the same function as a generator that may yield. */
  suspendable?: (...args: Array<LuaValue>) => Generator<Array<LuaValue>, LuaResult, Array<LuaValue>>
}

/** The only userdata a script meets is `cjson.null`. */
export class Userdata {
  constructor(readonly description: string) {}
}

/** A thread, as `coroutine.create` makes it. */
export class Coroutine {
  status: "suspended" | "running" | "normal" | "dead" = "suspended"
  generator: Generator<Array<LuaValue>, LuaResult, Array<LuaValue>> | undefined = undefined
  constructor(readonly body: LuaFunction) {}
}

/** No values. */
export const NONE: Array<LuaValue> = []

/**
 * A call in tail position that has yet to be made. Lua's tail calls take no stack, so now and then a function returns
 * one of these to the nearest frame that needs the result, instead of calling deeper.
 */
export class TailCall extends Array<LuaValue> {
  constructor(readonly callee: LuaFunction, readonly args: Array<LuaValue>) {
    super()
  }
}

/** The result of a call, all pending tail calls made. */
export const settle = (result: LuaResult): LuaResult => {
  let settled = result
  while (settled instanceof TailCall) settled = settled.callee(...settled.args)
  return settled
}

/** The first value of a result. */
export const first = (result: LuaResult): LuaValue => {
  if (!Array.isArray(result)) return result
  const settled = settle(result)
  return Array.isArray(settled) ? settled[0] : settled
}

/** All values of a result. */
export const all = (result: LuaResult): Array<LuaValue> => {
  const settled = Array.isArray(result) ? settle(result) : result
  return Array.isArray(settled) ? settled : [settled]
}

/** All values as a function returns them. */
export const results = (values: Array<LuaValue>): LuaResult => values.length === 1 ? values[0] : values
