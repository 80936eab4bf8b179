/** The globals of scripts. They are read-only, so all servers share them. */
import { makeBaseLibrary } from "./baseLibrary.js"
import { bitLibrary } from "./bitLibrary.js"
import { cjsonConstants, cjsonLibrary } from "./cjson.js"
import { cmsgpackConstants, cmsgpackLibrary } from "./cmsgpack.js"
import { coroutineLibrary } from "./coroutineLibrary.js"
import { libraryError } from "./error.js"
import { mathConstants, mathLibrary } from "./mathLibrary.js"
import { callable, stringMetatable, toText } from "./operators.js"
import { native } from "./position.js"
import { logLevels, redisLibrary, replicationFlags, version } from "./redisLibrary.js"
import { stringLibrary } from "./stringLibrary.js"
import { structLibrary } from "./structLibrary.js"
import { LuaTable } from "./table.js"
import { tableLibrary } from "./tableLibrary.js"
import type { LuaFunction, LuaValue } from "./value.js"

export interface Globals {
  readonly table: LuaTable
  /** A function of a library, when both names are known. */
  member(library: string, name: string): LuaFunction | undefined
  /** Whether a library function may return no value or several. */
  isMulti(run: LuaFunction): boolean
  readonly pairs: LuaFunction
  readonly ipairs: LuaFunction
}

/** Library functions that return exactly one value, which is then used as it is. */
const single = new Set(
  [
    "collectgarbage getmetatable rawequal rawget rawset setmetatable tonumber tostring type gcinfo",
    "string.char string.format string.len string.lower string.rep string.reverse string.sub string.upper string.gmatch",
    "table.concat table.getn table.maxn",
    "redis.call redis.pcall redis.error_reply redis.status_reply redis.sha1hex redis.replicate_commands",
    "math.abs math.acos math.asin math.atan math.atan2 math.ceil math.cos math.cosh math.deg math.exp math.floor",
    "math.fmod math.ldexp math.log math.log10 math.max math.min math.mod math.pow math.rad math.random math.sin",
    "math.sinh math.sqrt math.tan math.tanh",
    "bit.tobit bit.bnot bit.band bit.bor bit.bxor bit.lshift bit.rshift bit.arshift bit.rol bit.ror bit.bswap bit.tohex",
    "cjson.encode cjson.decode cmsgpack.pack struct.pack struct.size"
  ].join(" ").split(" ")
)

export const makeGlobals = (load: (source: string, name: string) => LuaFunction | string): Globals => {
  const singles = new Set<LuaFunction>()
  const library = (
    prefix: string,
    functions: Record<string, LuaFunction>,
    constants: Iterable<readonly [string, LuaValue]> = []
  ): LuaTable => {
    const table = LuaTable.record([
      ...Object.entries(functions).map(([name, run]) => [name, native(name, run)] as const),
      ...constants
    ])
    for (const [name, run] of Object.entries(functions)) if (single.has(prefix + name)) singles.add(run)
    return table
  }
  const base = makeBaseLibrary(load)
  const globals = library("", base)
  const libraries: Record<string, LuaTable> = {
    bit: library("bit.", bitLibrary),
    cjson: library("cjson.", cjsonLibrary, cjsonConstants),
    cmsgpack: library("cmsgpack.", cmsgpackLibrary, cmsgpackConstants),
    coroutine: library("coroutine.", coroutineLibrary),
    math: library("math.", mathLibrary, mathConstants),
    redis: library("redis.", redisLibrary, Object.entries({ ...logLevels, ...replicationFlags, ...version })),
    string: library("string.", stringLibrary),
    struct: library("struct.", structLibrary),
    table: library("table.", tableLibrary)
  }
  for (const [name, table] of Object.entries(libraries)) {
    table.readonly = true
    globals.set(name, table)
  }
  stringMetatable.set("__index", globals.get("string"))
  stringMetatable.readonly = true
  globals.set("_G", globals)
  globals.set("_VERSION", "Lua 5.1")
  globals.set("KEYS", new LuaTable())
  globals.set("ARGV", new LuaTable())
  globals.metatable = LuaTable.record([[
    "__index",
    native(
      "__index",
      (_, name) => libraryError(`Script attempted to access nonexistent global variable '${toText(name)}'`)
    )
  ]])
  globals.metatable.readonly = true
  globals.readonly = true
  return {
    table: globals,
    member(name, field) {
      const table = globals.get(name)
      const value = table instanceof LuaTable ? table.get(field) : undefined
      return typeof value === "function" ? value : undefined
    },
    isMulti: (run) => !singles.has(run),
    pairs: callable(globals.get("pairs")),
    ipairs: callable(globals.get("ipairs"))
  }
}
