/** The first line of a script, `#!lua flags=no-writes,allow-stale`. */
import { LuaCompileError } from "./parse.js"

export type ScriptFlag = "no-writes" | "allow-oom" | "allow-stale" | "no-cluster" | "allow-cross-slot-keys"

const knownFlags: ReadonlySet<string> = new Set<ScriptFlag>([
  "no-writes",
  "allow-oom",
  "allow-stale",
  "no-cluster",
  "allow-cross-slot-keys"
])

const isFlag = (flag: string): flag is ScriptFlag => knownFlags.has(flag)

/** The script without its first line, whose line feed stays so that lines keep their numbers. */
export const parseShebang = (
  source: string
): { readonly body: string; readonly flags: ReadonlySet<ScriptFlag> | undefined } => {
  if (!source.startsWith("#!")) return { body: source, flags: undefined }
  const end = source.indexOf("\n")
  if (end < 0) throw new LuaCompileError("ERR Invalid script shebang")
  const [engine = "", ...options] = source.slice(0, end).trim().split(/\s+/)
  if (engine !== "#!lua") throw new LuaCompileError(`ERR Unexpected engine in script shebang: ${engine}`)
  const flags = new Set<ScriptFlag>()
  for (const option of options) {
    if (!option.startsWith("flags=")) throw new LuaCompileError(`ERR Unknown lua shebang option: ${option}`)
    const list = option.slice("flags=".length)
    for (const flag of list === "" ? [] : list.split(",")) {
      if (!isFlag(flag)) throw new LuaCompileError(`ERR Unexpected flag in script shebang: ${flag}`)
      flags.add(flag)
    }
  }
  return { body: source.slice(end), flags }
}
