/**
 * Where in the script execution is, for the `user_script:7:` in front of error messages and for the names in them.
 *
 * Nothing is recorded while a script runs. The compiler begins a new line of JavaScript at every operation that can
 * fail or call, and keeps a site for each such line. When an error is raised, V8's own stack tells the lines, which give
 * the sites, which give the Lua line and the names of the operands. Library functions carry a name that starts with
 * `nativePrefix`, so they can be told from helpers.
 */
import type { LuaFunction } from "./value.js"

/** An operation of a script. */
export interface Site {
  readonly line: number
  /** A call in tail position: in Lua the caller's frame is gone. */
  readonly tail?: boolean
  /** How the operand, or the called function, is called in the source: `local 'x'`. */
  readonly left?: string | undefined
  readonly right?: string | undefined
  /** The bare name of the called function. */
  readonly callee?: string | undefined
  /** Called as `object:name()`. */
  readonly method?: boolean
}

/** A compiled chunk. */
export interface Chunk {
  /** `user_script`, or what `loadstring` makes of its text. */
  readonly name: string
  /** As errors of the server name it: `@user_script`, or the text given to `loadstring`. */
  readonly source: string
  /** Sites by line of JavaScript, from 1. */
  readonly sites: ReadonlyArray<Site | undefined>
}

export type Frame =
  | { readonly native: true; readonly name: string }
  | { readonly native: false; readonly chunk: Chunk; readonly site: Site }

const nativePrefix = "lua:"
const chunkPrefix = "effect-redis-kit-lua-"

/** Weak, so that a chunk is freed with its compiled function, which holds it. */
const chunks = new Map<string, WeakRef<Chunk>>()
const registry = new FinalizationRegistry<string>((url) => chunks.delete(url))
let lastChunk = 0

/** Names a chunk before its code is built; `register` follows. */
export const nextSourceUrl = (): string => `${chunkPrefix}${++lastChunk}`

export const register = (url: string, chunk: Chunk): void => {
  chunks.set(url, new WeakRef(chunk))
  registry.register(chunk, url)
}

/** Marks a library function for stack traces, under the name that Lua has for it. */
export const native = <F extends LuaFunction>(name: string, run: F): F =>
  Object.defineProperty(run, "name", { value: nativePrefix + name })

export const isNative = (value: LuaFunction): boolean => value.name.startsWith(nativePrefix)

const toFrames = (callSites: ReadonlyArray<NodeJS.CallSite>): Array<Frame> => {
  const frames: Array<Frame> = []
  for (const callSite of callSites) {
    const url = callSite.getScriptNameOrSourceURL()
    if (url?.startsWith(chunkPrefix)) {
      const chunk = chunks.get(url)?.deref()
      const site = chunk?.sites[callSite.getLineNumber() ?? 0]
      if (chunk !== undefined && site !== undefined) frames.push({ native: false, chunk, site })
      continue
    }
    const name = callSite.getFunctionName()
    if (name?.startsWith(nativePrefix)) frames.push({ native: true, name: name.slice(nativePrefix.length) })
  }
  return frames
}

/** Lets V8 give stacks as structures while something runs. */
const structured = <A>(limit: number, run: () => A): A => {
  // oxlint-disable-next-line unbound-method -- It is put back as it was.
  const { prepareStackTrace, stackTraceLimit } = Error
  Error.prepareStackTrace = (_, callSites) => callSites
  Error.stackTraceLimit = limit
  try {
    return run()
  } finally {
    Error.prepareStackTrace = prepareStackTrace
    Error.stackTraceLimit = stackTraceLimit
  }
}

const capture = (limit: number): Array<Frame> =>
  structured(limit, () => {
    const holder: { stack?: unknown } = {}
    Error.captureStackTrace(holder, currentFrames)
    return toFrames(holder.stack as Array<NodeJS.CallSite>)
  })

/** The running Lua functions, innermost first; of a deep stack, the inner ones. */
export const currentFrames = (): Array<Frame> => {
  const frames = capture(100)
  // A library function may nest deeply itself.
  return frames.every((frame) => frame.native) ? capture(Infinity) : frames
}

/** The innermost frames of a JavaScript error, as far as V8 kept them. */
export const framesOf = (error: Error): Array<Frame> =>
  structured(Error.stackTraceLimit, () => {
    const callSites: unknown = error.stack
    return Array.isArray(callSites) ? toFrames(callSites) : []
  })

/**
 * `user_script:7: ` for a frame, or nothing where Lua knows no line: in library functions, and in a function that made
 * a tail call to a Lua function.
 */
export const where = (frames: ReadonlyArray<Frame>, level: number): string => {
  const frame = frames[level]
  if (frame === undefined || frame.native) return ""
  const inner = frames[level - 1]
  if (frame.site.tail === true && inner !== undefined && !inner.native) return ""
  return `${frame.chunk.name}:${frame.site.line}: `
}

/** What the server appends to the error of a script: the source and the line of the function that raised it. */
export const origin = (frames: ReadonlyArray<Frame>): { readonly source: string; readonly line: number } => {
  const frame = frames[0]?.native === true ? frames[1] : frames[0]
  return frame === undefined || frame.native
    ? { source: "=[C]", line: -1 }
    : { source: frame.chunk.source, line: frame.site.line }
}
