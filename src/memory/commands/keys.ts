/**
 * Keys of any type, and how long they live.
 */
import { matchesBytes as matches } from "../../internal/glob.js"
import { allKeys, type Argv, bigint, fail, firstKey, integer, is, type Run, type Table, twoKeys } from "../command.js"
import type { Engine } from "../Engine.js"
import { type EngineReply, ErrorReply, OK, Status } from "../reply.js"
import { copyOf, NO_KEY, SYNTAX, typeOf } from "../values.js"
import { parseCursor, parseScan } from "./scan.js"
import { INT64_MAX, setLife } from "./strings.js"

const remove: Run = (engine, argv) => {
  let removed = 0
  for (let i = 1; i < argv.length; i++) if (engine.remove(argv[i]!)) removed++
  return removed
}

const count: Run = (engine, argv) => {
  let found = 0
  for (let i = 1; i < argv.length; i++) if (engine.keys.has(argv[i]!)) found++
  return found
}

const expire = (command: string, seconds: boolean, relative: boolean): Run => (engine, argv) => {
  let nx = false
  let xx = false
  let gt = false
  let lt = false
  for (let i = 3; i < argv.length; i++) {
    const option = argv[i]!.toUpperCase()
    if (option === "NX") nx = true
    else if (option === "XX") xx = true
    else if (option === "GT") gt = true
    else if (option === "LT") lt = true
    else return new ErrorReply(`ERR Unsupported option ${argv[i]!}`)
  }
  if (nx && (xx || gt || lt)) {
    return new ErrorReply("ERR NX and XX, GT or LT options at the same time are not compatible")
  }
  if (gt && lt) return new ErrorReply("ERR GT and LT options at the same time are not compatible")
  let value = bigint(argv[2]!)
  const bad = () => fail(`ERR invalid expire time in '${command}' command`)
  if (seconds) {
    if (value > INT64_MAX / 1000n || value < -INT64_MAX / 1000n) return bad()
    value *= 1000n
  }
  const base = relative ? BigInt(engine.now) : 0n
  if (value > INT64_MAX - base) return bad()
  const at = Number(value + base)
  const entry = engine.keys.get(argv[1]!)
  if (entry === undefined) return 0
  const present = entry.expireAt
  if (nx && present !== Infinity) return 0
  if (xx && present === Infinity) return 0
  if (gt && at <= present) return 0
  if (lt && at >= present) return 0
  setLife(engine, argv[1]!, at)
  engine.modified(argv[1]!)
  return 1
}

const life = (show: (at: number, now: number) => number): Run => (engine, argv) => {
  const entry = engine.keys.get(argv[1]!)
  return entry === undefined ? -2 : entry.expireAt === Infinity ? -1 : show(entry.expireAt, engine.now)
}

const toSeconds = (millis: number): number => Math.floor((millis + 500) / 1000)

const rename = (engine: Engine, argv: Argv, nx: boolean): EngineReply => {
  const [, from, to] = argv as [string, string, string]
  const entry = engine.keys.get(from)
  if (entry === undefined) throw NO_KEY
  if (from === to) return nx ? 0 : OK
  if (engine.keys.has(to)) {
    if (nx) return 0
    engine.remove(to)
  }
  const { expireAt, value } = entry
  engine.remove(from)
  engine.add(to, value)
  if (expireAt !== Infinity) setLife(engine, to, expireAt)
  engine.modified(to)
  return nx ? 1 : OK
}

/** There is one database; another one is refused, not ignored. */
export const checkDatabase = (text: string): void => {
  const index = integer(text)
  if (index < 0 || index > 15) fail("ERR DB index is out of range")
  if (index !== 0) fail(`ERR database ${index} is not supported by the in-memory server, which has database 0 only`)
}

export const keys: Table = {
  DEL: { arity: -2, flags: ["write"], keys: allKeys, run: remove },
  UNLINK: { arity: -2, flags: ["write"], keys: allKeys, run: remove },
  EXISTS: { arity: -2, flags: ["readonly"], keys: allKeys, run: count },
  TOUCH: { arity: -2, flags: ["readonly"], keys: allKeys, run: count },
  EXPIRE: { arity: -3, flags: ["write"], keys: firstKey, run: expire("expire", true, true) },
  PEXPIRE: { arity: -3, flags: ["write"], keys: firstKey, run: expire("pexpire", false, true) },
  EXPIREAT: { arity: -3, flags: ["write"], keys: firstKey, run: expire("expireat", true, false) },
  PEXPIREAT: { arity: -3, flags: ["write"], keys: firstKey, run: expire("pexpireat", false, false) },
  TTL: { arity: 2, flags: ["readonly"], keys: firstKey, run: life((at, now) => toSeconds(at - now)) },
  PTTL: { arity: 2, flags: ["readonly"], keys: firstKey, run: life((at, now) => at - now) },
  EXPIRETIME: { arity: 2, flags: ["readonly"], keys: firstKey, run: life(toSeconds) },
  PEXPIRETIME: { arity: 2, flags: ["readonly"], keys: firstKey, run: life((at) => at) },
  PERSIST: {
    arity: 2,
    flags: ["write"],
    keys: firstKey,
    run(engine, argv) {
      const entry = engine.keys.get(argv[1]!)
      if (entry === undefined || !engine.persist(entry)) return 0
      engine.modified(argv[1]!)
      return 1
    }
  },
  TYPE: {
    arity: 2,
    flags: ["readonly"],
    keys: firstKey,
    run(engine, argv) {
      const entry = engine.keys.get(argv[1]!)
      return new Status(entry === undefined ? "none" : typeOf(entry.value))
    }
  },
  RENAME: { arity: 3, flags: ["write"], keys: twoKeys, run: (engine, argv) => rename(engine, argv, false) },
  RENAMENX: { arity: 3, flags: ["write"], keys: twoKeys, run: (engine, argv) => rename(engine, argv, true) },
  COPY: {
    arity: -3,
    flags: ["write"],
    keys: twoKeys,
    run(engine, argv) {
      let replace = false
      for (let i = 3; i < argv.length; i++) {
        if (is(argv[i], "REPLACE")) replace = true
        else if (is(argv[i], "DB") && i + 1 < argv.length) checkDatabase(argv[++i]!)
        else throw SYNTAX
      }
      const [, from, to] = argv as [string, string, string]
      if (from === to) return new ErrorReply("ERR source and destination objects are the same")
      const entry = engine.keys.get(from)
      if (entry === undefined || (!replace && engine.keys.has(to))) return 0
      engine.remove(to)
      engine.add(to, copyOf(entry.value))
      if (entry.expireAt !== Infinity) setLife(engine, to, entry.expireAt)
      engine.modified(to)
      return 1
    }
  },
  RANDOMKEY: { arity: 1, flags: ["readonly"], run: (engine) => engine.keys.random(engine.random)?.key ?? null },
  KEYS: {
    arity: 2,
    flags: ["readonly"],
    run: (engine, argv) => [...engine.keys.keys()].filter((key) => matches(argv[1]!, key))
  },
  SCAN: {
    arity: -2,
    flags: ["readonly"],
    run(engine, argv) {
      const cursor = parseCursor(argv[1]!)
      const { count, pattern, type } = parseScan(argv, 2, true)
      const out: Array<string> = []
      const next = engine.keys.scan(cursor, count, (entry) => {
        if (matches(pattern, entry.key) && (type === undefined || is(type, typeOf(entry.value).toUpperCase()))) {
          out.push(entry.key)
        }
      })
      return [String(next), out]
    }
  }
}
