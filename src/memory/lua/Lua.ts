/**
 * Runs Redis scripts: compiles Lua 5.1 to JavaScript and gives it the libraries of Redis 7.
 */
import { createHash } from "node:crypto"
import { ErrorReply } from "../reply.js"
import type { EngineReply } from "../reply.js"
import { compileChunk } from "./compiler.js"
import type { CompiledChunk } from "./compiler.js"
import { caught } from "./error.js"
import { makeGlobals } from "./globals.js"
import { toText } from "./operators.js"
import { ChunkError, LuaCompileError } from "./parse.js"
import { toReply } from "./redisLibrary.js"
import { defaultJsonSettings, initialRandomState, session } from "./session.js"
import type { Host } from "./session.js"
import { parseShebang } from "./shebang.js"
import type { ScriptFlag } from "./shebang.js"
import { LuaTable } from "./table.js"
import { first } from "./value.js"

export { LuaCompileError } from "./parse.js"
export type { Host } from "./session.js"

/** A script ready to run. */
export interface Compiled {
  readonly sha: string
  /** From the `#!lua flags=…` line; `undefined` without one, where the server applies its older rules. */
  readonly flags: ReadonlySet<ScriptFlag> | undefined
  /** @internal */
  readonly chunk: CompiledChunk
}

/** `[string "first line..."]`: how error messages name a chunk that `loadstring` compiled. */
const chunkName = (name: string): string => {
  if (name.startsWith("=") || name.startsWith("@")) return name.slice(1)
  const line = name.split(/[\r\n]/, 1)[0]!
  const room = 60 - "[string \"...\"]".length - 1
  return line.length < name.length || line.length > room
    ? `[string "${line.slice(0, room)}..."]`
    : `[string "${line}"]`
}

const globals = makeGlobals((source, name) => {
  try {
    const { chunk, run } = compileChunk(source, chunkName(name), name, globals)
    session.loaded.push(chunk)
    return run
  } catch (error) {
    if (error instanceof ChunkError) return error.message
    throw error
  }
})

export class LuaRuntime {
  private readonly json = defaultJsonSettings()
  private readonly random = initialRandomState()

  constructor(private readonly host: Host) {}

  /** Compiles a script, or throws `LuaCompileError`. */
  compile(source: string): Compiled {
    const { body, flags } = parseShebang(source)
    try {
      return {
        sha: createHash("sha1").update(source, "latin1").digest("hex"),
        flags,
        chunk: compileChunk(body, "user_script", "@user_script", globals)
      }
    } catch (error) {
      if (error instanceof ChunkError) {
        throw new LuaCompileError(`ERR Error compiling script (new function): ${error.message}`)
      }
      throw error
    }
  }

  /** Runs a script to its end. An error that it does not catch is the reply. */
  run(script: Compiled, keys: ReadonlyArray<string>, argv: ReadonlyArray<string>): EngineReply {
    const outer = { ...session }
    session.KEYS = LuaTable.of([...keys])
    session.ARGV = LuaTable.of([...argv])
    session.host = this.host
    session.json = this.json
    session.random = this.random
    session.loaded = []
    session.nests = script.chunk.nests
    globals.table.set("KEYS", session.KEYS)
    globals.table.set("ARGV", session.ARGV)
    try {
      return toReply(first(script.chunk.run()))
    } catch (error) {
      return uncaught(error, script.sha)
    } finally {
      Object.assign(session, outer)
    }
  }
}

const uncaught = (thrown: unknown, sha: string): ErrorReply => {
  const { line, source, value } = caught(thrown)
  const table = value instanceof LuaTable ? value : undefined
  const text = table === undefined ? `ERR ${toText(value)}` : table.get("err")
  // The server itself crashes on a table without `err`.
  const message = typeof text === "string" || typeof text === "number" ? toText(text) : "ERR a table without err"
  return new ErrorReply(`${message} script: ${sha}, on ${source}:${line}.`.replace(/[\r\n]/g, " "))
}
