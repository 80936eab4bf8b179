/** The `coroutine` library. A coroutine is a generator of the function that it was made of. */
import { argumentError, caught, operationError, raise } from "./error.js"
import { currentFrames, isNative, native, where } from "./position.js"
import { all, Coroutine, results } from "./value.js"
import type { LuaFunction, LuaResult, LuaValue } from "./value.js"

let running: Coroutine | undefined = undefined

/** Library functions between the running coroutine and where it is now: a yield cannot leave those. */
let boundaries = 0

type Body = NonNullable<LuaFunction["suspendable"]>

const outside = "attempt to yield across metamethod/C-call boundary"

/** A function of a script that uses coroutines. */
export const suspendable = (body: Body): LuaFunction => {
  const run: LuaFunction = (...args) => {
    boundaries++
    try {
      const { done, value } = body(...args).next([])
      return done === true ? value : operationError(outside)
    } finally {
      boundaries--
    }
  }
  run.suspendable = body
  return run
}

const checkCoroutine = (args: ReadonlyArray<LuaValue>): Coroutine => {
  const [value] = args
  return value instanceof Coroutine ? value : argumentError(1, "coroutine expected")
}

const create = (args: ReadonlyArray<LuaValue>): Coroutine => {
  const [body] = args
  return typeof body === "function" && !isNative(body)
    ? new Coroutine(body)
    : argumentError(1, "Lua function expected")
}

/** A function of a chunk that mentions no coroutines and so cannot yield itself. */
// oxlint-disable-next-line require-yield -- This one ends before it would.
function* plain(body: LuaFunction, args: Array<LuaValue>): Generator<Array<LuaValue>, LuaResult, Array<LuaValue>> {
  return body(...args)
}

const resume = (
  coroutine: Coroutine,
  args: Array<LuaValue>
): { readonly ok: true; readonly values: Array<LuaValue> } | { readonly ok: false; readonly error: LuaValue } => {
  if (coroutine.status !== "suspended") return { ok: false, error: `cannot resume ${coroutine.status} coroutine` }
  const outer = running
  const outerBoundaries = boundaries
  if (outer !== undefined) outer.status = "normal"
  running = coroutine
  boundaries = 0
  coroutine.status = "running"
  try {
    const { body } = coroutine
    coroutine.generator ??= body.suspendable === undefined ? plain(body, args) : body.suspendable(...args)
    const { done, value } = coroutine.generator.next(args)
    coroutine.status = done === true ? "dead" : "suspended"
    return { ok: true, values: done === true ? all(value) : value }
  } catch (error) {
    coroutine.status = "dead"
    return { ok: false, error: caught(error).value }
  } finally {
    running = outer
    boundaries = outerBoundaries
    if (outer !== undefined) outer.status = "running"
  }
}

const yieldValues: LuaFunction = () => operationError(outside)

yieldValues.suspendable = native("yield", function*(...values: Array<LuaValue>) {
  if (running === undefined || boundaries > 0) return operationError(outside)
  return results(yield values)
} as unknown as LuaFunction) as unknown as Body

export const coroutineLibrary: Record<string, LuaFunction> = {
  create: (...args) => create(args),
  resume: (...args) => {
    const result = resume(checkCoroutine(args), args.slice(1))
    return result.ok ? [true, ...result.values] : [false, result.error]
  },
  running: () => running,
  status: (...args) => checkCoroutine(args).status,
  wrap: (...args) => {
    const coroutine = create(args)
    return native("wrap", (...inputs) => {
      const result = resume(coroutine, inputs)
      if (result.ok) return results(result.values)
      const frames = currentFrames()
      const { error } = result
      return raise(typeof error === "string" ? where(frames, 1) + error : error, frames)
    })
  },
  yield: yieldValues
}
