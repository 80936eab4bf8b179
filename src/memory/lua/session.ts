/** The script that is running. Scripts run one at a time and to their end, so there is one for all servers. */
import type { EngineReply } from "../reply.js"
import { LuaTable } from "./table.js"

export interface Host {
  /**
   * Executes a command. Errors are replies with the text that the server has for scripts: an unknown command is
   * `ERR Unknown Redis command called from script`, a wrong number of arguments `ERR Wrong number of args calling Redis
   * command from script`.
   */
  call(args: Array<string>): EngineReply
  log?(level: number, message: string): void
  /** Replaces the server's generator of random numbers, which is the same for every server. From 0 to below 1. */
  random?(): number
}

/** What the functions of `cjson` that configure it have set, for all scripts of a server. */
export interface JsonSettings {
  sparseConvert: boolean
  sparseRatio: number
  sparseSafe: number
  encodeDepth: number
  decodeDepth: number
  precision: number
  encodeInvalid: "off" | "on" | "null"
  decodeInvalid: boolean
  keepBuffer: boolean
}

export const defaultJsonSettings = (): JsonSettings => ({
  sparseConvert: false,
  sparseRatio: 2,
  sparseSafe: 10,
  encodeDepth: 1000,
  decodeDepth: 1000,
  precision: 14,
  encodeInvalid: "off",
  decodeInvalid: true,
  keepBuffer: true
})

/** The generator of `math.random`. */
export interface RandomState {
  state: bigint
}

/** As a server starts. */
export const initialRandomState = (): RandomState => ({ state: 0x1234abcd330en })

export interface Session {
  KEYS: LuaTable
  ARGV: LuaTable
  host: Host
  json: JsonSettings
  random: RandomState
  /** Chunks made by `loadstring`, kept so that their positions stay known while the script runs. */
  loaded: Array<unknown>
  /** The script may nest calls so deeply that the host lacks stack. */
  nests: boolean
}

export const session: Session = {
  KEYS: new LuaTable(),
  ARGV: new LuaTable(),
  host: {
    call() {
      throw new Error("No script is running")
    }
  },
  json: defaultJsonSettings(),
  random: initialRandomState(),
  loaded: [],
  nests: false
}
