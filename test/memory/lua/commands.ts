/** The few commands that the corpus uses, over a map: just enough for a script to have something to call. */
import { ErrorReply, OK, Status } from "../../../src/memory/reply.js"
import type { EngineReply } from "../../../src/memory/reply.js"

const wrongType = new ErrorReply("WRONGTYPE Operation against a key holding the wrong kind of value")
const wrongCount = new ErrorReply("ERR Wrong number of args calling Redis command from script")
const unknown = new ErrorReply("ERR Unknown Redis command called from script")

type Stored = string | Array<string> | Map<string, string>

export const makeCommands = () => {
  const keys = new Map<string, Stored>()

  const list = (key: string): Array<string> | undefined => {
    const value = keys.get(key)
    if (value === undefined) {
      const fresh: Array<string> = []
      keys.set(key, fresh)
      return fresh
    }
    return Array.isArray(value) ? value : undefined
  }

  const execute = (name: string, args: Array<string>): EngineReply => {
    const [key = "", first = "", second = ""] = args
    const value = keys.get(key)
    switch (name) {
      case "PING":
        return new Status("PONG")
      case "ECHO":
        return key
      case "TIME":
        return ["1700000000", "123456"]
      case "SET":
        if (args.length < 2) return wrongCount
        keys.set(key, first)
        return OK
      case "GET":
        if (args.length !== 1) return wrongCount
        return value === undefined ? null : typeof value === "string" ? value : wrongType
      case "EXISTS":
        return value === undefined ? 0 : 1
      case "DEL":
        return args.filter((name) => keys.delete(name)).length
      case "INCR": {
        if (value !== undefined && typeof value !== "string") return wrongType
        const number = Number(value ?? 0)
        if (!Number.isInteger(number)) return new ErrorReply("ERR value is not an integer or out of range")
        keys.set(key, String(number + 1))
        return number + 1
      }
      case "HSET": {
        const hash = value ?? new Map<string, string>()
        if (!(hash instanceof Map)) return wrongType
        let added = 0
        for (let i = 1; i + 1 < args.length; i += 2) {
          if (!hash.has(args[i]!)) added++
          hash.set(args[i]!, args[i + 1]!)
        }
        keys.set(key, hash)
        return added
      }
      case "HGET":
        return value instanceof Map ? value.get(first) ?? null : value === undefined ? null : wrongType
      case "HMGET":
        return args.slice(1).map((field) => value instanceof Map ? value.get(field) ?? null : null)
      case "HGETALL":
        return value instanceof Map ? [...value].flat() : []
      case "LPUSH":
      case "RPUSH": {
        const items = list(key)
        if (items === undefined) return wrongType
        for (const item of args.slice(1)) {
          if (name === "LPUSH") items.unshift(item)
          else items.push(item)
        }
        return items.length
      }
      case "LRANGE": {
        if (value !== undefined && !Array.isArray(value)) return wrongType
        const end = Number(second)
        return (value ?? []).slice(Number(first), end < 0 ? (value ?? []).length + end + 1 : end + 1)
      }
      default:
        return unknown
    }
  }

  return {
    reset: () => keys.clear(),
    call: (args: Array<string>): EngineReply => execute(args[0]!.toUpperCase(), args.slice(1))
  }
}
