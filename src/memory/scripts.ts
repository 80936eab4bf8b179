/**
 * The scripts that the server knows, and what they may do.
 */
import { createHash } from "node:crypto"
import { hashSlot } from "../internal/slot.js"
import type { Argv, Command } from "./command.js"
import { refusal, scriptRefusal } from "./condition.js"
import type { Engine, Session } from "./Engine.js"
import { type Compiled, LuaCompileError, LuaRuntime } from "./lua/Lua.js"
import { type EngineReply, ErrorReply } from "./reply.js"
import { decodeText } from "./text.js"

export interface Script {
  readonly sha: string
  readonly compiled: Compiled
}

/** The script that runs now. */
interface Running {
  readonly session: Session
  readonly keys: ReadonlyArray<string>
  readonly readOnly: boolean
  readonly allowOom: boolean
  /** What has begun to write is not stopped by the server's condition. */
  wrote: boolean
}

export class Scripts {
  private readonly known = new Map<string, Script>()
  private readonly lua: LuaRuntime
  private running: Running | undefined

  constructor(private readonly engine: Engine) {
    this.lua = new LuaRuntime({ call: (args) => this.call(args) })
  }

  find(sha: string): Script | undefined {
    return this.known.get(sha) ?? this.known.get(sha.toLowerCase())
  }

  load(source: string): Script | ErrorReply {
    const sha = createHash("sha1").update(source, "latin1").digest("hex")
    const known = this.known.get(sha)
    if (known !== undefined) return known
    try {
      const script = { sha, compiled: this.lua.compile(source) }
      this.known.set(sha, script)
      return script
    } catch (error) {
      if (error instanceof LuaCompileError) return new ErrorReply(error.message)
      throw error
    }
  }

  flush(): void {
    this.known.clear()
  }

  get size(): number {
    return this.known.size
  }

  get isRunning(): boolean {
    return this.running !== undefined
  }

  run(session: Session, script: Script, keys: Argv, args: Argv, readOnly: boolean): EngineReply {
    const { flags } = script.compiled
    const refused = scriptRefusal(this.engine.condition, flags, readOnly)
    if (refused !== undefined) return refused
    const before = this.running
    this.running = {
      session,
      keys,
      readOnly: readOnly || (flags?.has("no-writes") ?? false),
      allowOom: flags?.has("allow-oom") ?? false,
      wrote: false
    }
    try {
      return this.engine.atomically(() => this.lua.run(script.compiled, keys, args))
    } finally {
      this.running = before
    }
  }

  /** What `redis.call` does; an error is the script's business. */
  private call(argv: Array<string>): EngineReply {
    const running = this.running
    if (running === undefined) return new ErrorReply("ERR no script is running")
    if (argv.length === 0) {
      return new ErrorReply("ERR Please specify at least one argument for this redis.call() call")
    }
    const command = this.engine.find(argv)
    if (command instanceof ErrorReply) {
      const { text } = command
      return text.startsWith("ERR wrong number of arguments")
        ? new ErrorReply("ERR Wrong number of args calling Redis command from script")
        : text.startsWith("ERR unknown")
        ? new ErrorReply("ERR Unknown Redis command called from script")
        : command
    }
    if (command.noScript) return new ErrorReply("ERR This Redis command is not allowed from script")
    if (running.readOnly && command.write) {
      return new ErrorReply("ERR Write commands are not allowed from read-only scripts.")
    }
    if (!running.wrote && !(running.allowOom && this.engine.condition === "out-of-memory")) {
      const error = refusal(this.engine.condition, command)
      if (error !== undefined) return error
    }
    if (command.write) running.wrote = true
    if (this.engine.cluster) {
      const error = this.checkKeys(running, command, argv)
      if (error !== undefined) return error
    }
    return this.engine.call(running.session, command, argv)
  }

  private checkKeys(running: Running, command: Command, argv: Argv): ErrorReply | undefined {
    for (const key of command.keysOf(argv)) {
      if (running.keys.includes(key)) continue
      const slot = hashSlot(decodeText(key))
      return new ErrorReply(
        `ERR Script attempted to access key '${decodeText(key)}' (slot ${slot}), which is not among its KEYS`
      )
    }
    return undefined
  }
}
