/** The `redis` library: commands, replies, and what else the server gives to scripts. */
import { createHash } from "node:crypto"
import { ErrorReply, Status } from "../reply.js"
import type { EngineReply } from "../reply.js"
import { errorTable, raise, serverError } from "./error.js"
import { numberToArgument, numberToString } from "./number.js"
import { toNumber } from "./operators.js"
import { session } from "./session.js"
import { LuaTable } from "./table.js"
import { NONE } from "./value.js"
import type { LuaFunction, LuaValue } from "./value.js"

/** The table that stands for an error, made of `-CODE message` or of a message without a code. */
const errorValue = (text: string): LuaTable => {
  if (!text.startsWith("-")) return errorTable(`ERR ${text.replace(/^[\r\n]+|[\r\n]+$/g, "")}`)
  const space = text.indexOf(" ")
  return space < 0
    ? errorTable(`ERR ${text.slice(1)}`)
    : errorTable(`${text.slice(1, space)} ${text.slice(space + 1).replace(/^[\r\n]+|[\r\n]+$/g, "")}`)
}

const toLua = (reply: EngineReply): LuaValue => {
  if (reply === null) return false
  if (typeof reply === "string" || typeof reply === "number") return reply
  if (reply instanceof Status) {
    const table = new LuaTable()
    table.set("ok", reply.text)
    return table
  }
  if (reply instanceof ErrorReply) {
    const table = errorValue(`-${reply.text}`)
    table.set("ignore_error_stats_update", true)
    return table
  }
  return LuaTable.of(reply.map(toLua))
}

const commandArguments = (args: ReadonlyArray<LuaValue>): Array<string> | LuaTable => {
  if (args.length === 0) return errorValue("Please specify at least one argument for this redis lib call")
  const texts = new Array<string>(args.length)
  for (let i = 0; i < args.length; i++) {
    const value = args[i]
    if (typeof value === "string") texts[i] = value
    else if (typeof value === "number") texts[i] = numberToArgument(value)
    else return errorValue("Lua redis lib command arguments must be strings or integers")
  }
  return texts
}

/** Takes as much stack as a command may need, so that a script cannot run out of it in the middle of one. */
const probe = (depth: number): number => depth === 0 ? 0 : 1 + probe(depth - 1)

const execute = (args: ReadonlyArray<LuaValue>): EngineReply | LuaTable => {
  const texts = commandArguments(args)
  if (texts instanceof LuaTable) return texts
  if (session.nests) probe(200)
  return session.host.call(texts)
}

/** A reply back to the client, at most as deep as the server goes. */
export const toReply = (value: LuaValue): EngineReply => {
  switch (typeof value) {
    case "string":
      return value
    case "number":
      return toLongLong(value)
    case "boolean":
      return value ? 1 : null
    default:
      return value instanceof LuaTable ? tableToReply(value) : null
  }
}

const toLongLong = (value: number): number =>
  value > -0x8000000000000000 && value < 0x8000000000000000 ? Math.trunc(value) + 0 : -0x8000000000000000

const oneLine = (text: string): string => text.replace(/[\r\n]/g, " ")

const tableToReply = (table: LuaTable): EngineReply => {
  const error = table.get("err")
  if (typeof error === "string") return new ErrorReply(oneLine(error.replace(/[\r\n]+$/, "")))
  const ok = table.get("ok")
  if (typeof ok === "string") return new Status(oneLine(ok))
  const double = table.get("double")
  if (typeof double === "number") return numberToArgument(double)
  const bigNumber = table.get("big_number")
  if (typeof bigNumber === "string") return oneLine(bigNumber)
  const verbatim = table.get("verbatim_string")
  if (verbatim instanceof LuaTable) {
    const text = verbatim.get("string")
    if (typeof verbatim.get("format") === "string" && typeof text === "string") return text
  }
  const map = table.get("map")
  if (map instanceof LuaTable) return [...map.entries()].flatMap(([key, value]) => [toReply(key), toReply(value)])
  const set = table.get("set")
  if (set instanceof LuaTable) return [...set.entries()].map(([key]) => toReply(key))
  const replies: Array<EngineReply> = []
  for (let i = 1;; i++) {
    const value = table.get(i)
    if (value === undefined) return replies
    replies.push(toReply(value))
  }
}

const textOf = (value: LuaValue): string | undefined =>
  typeof value === "string" ? value : typeof value === "number" ? numberToString(value) : undefined

export const logLevels = { LOG_DEBUG: 0, LOG_VERBOSE: 1, LOG_NOTICE: 2, LOG_WARNING: 3 }
export const replicationFlags = { REPL_NONE: 0, REPL_AOF: 1, REPL_SLAVE: 2, REPL_REPLICA: 2, REPL_ALL: 3 }
export const version = { REDIS_VERSION: "7.0.15", REDIS_VERSION_NUM: 0x07000f }

const sha1 = (text: string): string => createHash("sha1").update(text, "latin1").digest("hex")

export const redisLibrary: Record<string, LuaFunction> = {
  acl_check_cmd: (...args) => {
    const texts = commandArguments(args)
    return texts instanceof LuaTable ? raise(texts) : true
  },
  breakpoint: () => false,
  call: (...args) => {
    const reply = execute(args)
    if (reply instanceof LuaTable) return raise(reply)
    return reply instanceof ErrorReply ? raise(toLua(reply)) : toLua(reply)
  },
  debug: () => NONE,
  error_reply: (...args) => {
    const [text] = args
    if (args.length !== 1 || typeof text !== "string") return errorValue("wrong number or type of arguments")
    return errorValue(text.startsWith("-") ? text : `-${text}`)
  },
  log: (...args) => {
    if (args.length < 2) return serverError("redis.log() requires two arguments or more.")
    const level = toNumber(args[0])
    if (level === undefined) return serverError("First argument must be a number (log level).")
    const cut = Math.trunc(level)
    if (!(cut >= logLevels.LOG_DEBUG && cut <= logLevels.LOG_WARNING)) return serverError("Invalid debug level.")
    session.host.log?.(cut, args.slice(1).map(textOf).filter((text) => text !== undefined).join(" "))
    return NONE
  },
  pcall: (...args) => {
    const reply = execute(args)
    return reply instanceof LuaTable ? reply : toLua(reply)
  },
  replicate_commands: () => true,
  set_repl: (...args) => {
    if (args.length !== 1) return serverError("redis.set_repl() requires two arguments.")
    const flags = Math.trunc(toNumber(args[0]) ?? 0)
    return flags < 0 || flags > replicationFlags.REPL_ALL
      ? serverError("Invalid replication flags. Use REPL_AOF, REPL_REPLICA, REPL_ALL or REPL_NONE.")
      : NONE
  },
  setresp: (...args) => {
    if (args.length !== 1) return serverError("redis.setresp() requires one argument.")
    const protocol = Math.trunc(toNumber(args[0]) ?? 0)
    if (protocol === 2) return NONE
    return protocol === 3
      ? serverError("redis.setresp(3) is not supported by the in-memory server")
      : serverError("RESP version must be 2 or 3.")
  },
  sha1hex: (...args) => {
    if (args.length !== 1) return serverError("wrong number of arguments")
    return sha1(textOf(args[0]) ?? "")
  },
  status_reply: (...args) => {
    const [text] = args
    if (args.length !== 1 || typeof text !== "string") return errorValue("wrong number or type of arguments")
    const table = new LuaTable()
    table.set("ok", text)
    return table
  }
}
