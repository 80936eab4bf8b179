/** Errors that Lua code raises and catches. */
import { currentFrames, framesOf, origin, where } from "./position.js"
import type { Frame } from "./position.js"
import { LuaTable } from "./table.js"
import type { LuaValue } from "./value.js"

/** Carries the value given to `error`. */
export class LuaError extends Error {
  constructor(readonly value: LuaValue, readonly source: string, readonly line: number) {
    super(typeof value === "string" ? value : "Lua error")
  }
}

export const raise = (value: LuaValue, frames: ReadonlyArray<Frame> = currentFrames()): never => {
  const { line, source } = origin(frames)
  const limit = Error.stackTraceLimit
  Error.stackTraceLimit = 0
  const error = new LuaError(value, source, line)
  Error.stackTraceLimit = limit
  throw error
}

/** An error of the running operation, as an arithmetic one. */
export const operationError = (message: string): never => {
  const frames = currentFrames()
  return raise(where(frames, 0) + message, frames)
}

/** An error that a library function raises; the position is that of its caller. */
export const libraryError = (message: string, level = 1): never => {
  const frames = currentFrames()
  return raise(where(frames, level) + message, frames)
}

/** `bad argument #1 to 'rep' (string expected, got nil)`, with the name the caller calls the function by. */
export const argumentError = (index: number, message: string): never => {
  const frames = currentFrames()
  const caller = frames[1]
  const site = caller === undefined || caller.native ? undefined : caller.site
  const name = site?.callee ?? "?"
  const position = where(frames, 1)
  if (site?.method !== true) return raise(`${position}bad argument #${index} to '${name}' (${message})`, frames)
  if (index === 1) return raise(`${position}calling '${name}' on bad self (${message})`, frames)
  return raise(`${position}bad argument #${index - 1} to '${name}' (${message})`, frames)
}

/** The table form in which the server raises its own errors. */
export const errorTable = (text: string): LuaTable => {
  const table = new LuaTable()
  table.set("err", text)
  return table
}

/** An error of the server's own functions: a table, and no position in the text. */
export const serverError = (message: string): never => raise(errorTable(`ERR ${message}`))

/**
 * What was caught, as a Lua error: V8's stack overflow and its limit on string lengths are Lua's. Anything else is a
 * defect of the host and passes through.
 */
export const caught = (error: unknown): LuaError => {
  if (error instanceof LuaError) return error
  if (error instanceof RangeError) {
    const frames = framesOf(error)
    const { line, source } = origin(frames)
    const lua = frames.findIndex((frame) => !frame.native)
    if (error.message.startsWith("Maximum call stack")) {
      return new LuaError(`${where(frames, lua)}stack overflow`, source, line)
    }
    if (/string length|array length|allocation/.test(error.message)) {
      return new LuaError("not enough memory", source, line)
    }
  }
  throw error
}
