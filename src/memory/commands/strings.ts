/**
 * Strings.
 */
import { allKeys, type Argv, bigint, fail, firstKey, integer, type Table, wrongArguments } from "../command.js"
import type { Engine } from "../Engine.js"
import { addLongDouble, formatLongDouble, inInt64, type LongDouble, parseInt64, parseLongDouble } from "../numbers.js"
import { type EngineReply, ErrorReply, OK } from "../reply.js"
import { NOT_FLOAT, NOT_INTEGER, OVERFLOW, SYNTAX } from "../values.js"

/** What fits in a string of V8: 24 bytes less than half a gigabyte, the server's own limit. */
export const MAX_STRING = 512 * 1024 * 1024 - 24

const checkLength = (length: number): void => {
  if (length > MAX_STRING) fail("ERR string exceeds maximum allowed size (proto-max-bulk-len)")
}

export const INT64_MAX = 9223372036854775807n

type Unit = "EX" | "PX" | "EXAT" | "PXAT"

/** The instant that an option like `EX 10` means, in milliseconds. */
const instant = (engine: Engine, command: string, unit: Unit, text: string): number => {
  let value = bigint(text)
  const seconds = unit === "EX" || unit === "EXAT"
  const base = unit === "EX" || unit === "PX" ? BigInt(engine.now) : 0n
  if (value <= 0n || (seconds && value > INT64_MAX / 1000n)) {
    return fail(`ERR invalid expire time in '${command}' command`)
  }
  if (seconds) value *= 1000n
  if (value > INT64_MAX - base) return fail(`ERR invalid expire time in '${command}' command`)
  return Number(value + base)
}

interface SetOptions {
  readonly nx?: boolean
  readonly xx?: boolean
  readonly get?: boolean
  readonly keepLife?: boolean
  readonly life?: readonly [Unit, string] | undefined
}

const set = (engine: Engine, command: string, key: string, value: string, options: SetOptions): EngineReply => {
  const at = options.life === undefined ? Infinity : instant(engine, command, options.life[0], options.life[1])
  const before = options.get === true ? engine.string(key) ?? null : null
  const found = engine.keys.has(key)
  if ((options.nx === true && found) || (options.xx === true && !found)) return before
  engine.assign(key, value, options.keepLife)
  if (at !== Infinity) setLife(engine, key, at)
  return options.get === true ? before : OK
}

/** A life that is over already ends at once, so that no later command of the same instant sees the key. */
export const setLife = (engine: Engine, key: string, at: number): void => {
  const entry = engine.keys.get(key)
  if (entry === undefined) return
  if (at <= engine.now) engine.remove(key)
  else engine.expire(entry, at)
}

const parseSet = (argv: Argv): SetOptions => {
  let nx = false
  let xx = false
  let get = false
  let keepLife = false
  let life: readonly [Unit, string] | undefined
  for (let i = 3; i < argv.length; i++) {
    const option = argv[i]!.toUpperCase()
    if (option === "NX" && !xx) nx = true
    else if (option === "XX" && !nx) xx = true
    else if (option === "GET") get = true
    else if (option === "KEEPTTL" && life === undefined) keepLife = true
    else if (isUnit(option) && !keepLife && isNewUnit(life, option) && i + 1 < argv.length) life = [option, argv[++i]!]
    else throw SYNTAX
  }
  return { nx, xx, get, keepLife, life }
}

const isUnit = (option: string): option is Unit =>
  option === "EX" || option === "PX" || option === "EXAT" || option === "PXAT"

/** Redis lets the same unit stand twice; the last one counts. */
const isNewUnit = (life: readonly [Unit, string] | undefined, unit: Unit): boolean =>
  life === undefined || life[0] === unit

const increment = (engine: Engine, key: string, by: bigint): EngineReply => {
  const text = engine.string(key)
  const value = text === undefined ? 0n : parseInt64(text)
  if (value === undefined) throw NOT_INTEGER
  const sum = value + by
  if (!inInt64(sum)) throw OVERFLOW
  write(engine, key, String(sum))
  return Number(sum)
}

/** The common case, without big integers. */
const incrementBy = (engine: Engine, key: string, by: number): EngineReply => {
  const text = engine.string(key)
  if (text !== undefined && text.length > 14) return increment(engine, key, BigInt(by))
  const value = text === undefined ? 0 : integer(text)
  const sum = value + by
  write(engine, key, String(sum))
  return sum
}

/** Changes the string of a key and keeps its life. */
export const write = (engine: Engine, key: string, text: string): void => {
  const entry = engine.keys.get(key)
  if (entry === undefined) engine.add(key, text)
  else entry.value = text
  engine.modified(key)
}

export const longDouble = (text: string, error: ErrorReply): LongDouble | "infinite" => {
  const value = parseLongDouble(text)
  if (value === undefined) throw error
  return value
}

/** The sum as text; infinity has no sum. */
export const addFloats = (a: LongDouble | "infinite", b: LongDouble | "infinite"): string =>
  a === "infinite" || b === "infinite"
    ? fail("ERR increment would produce NaN or Infinity")
    : formatLongDouble(addLongDouble(a, b))

const ZERO: LongDouble = { mantissa: 0n, exponent: 0 }

const range = (engine: Engine, argv: Argv): EngineReply => {
  const start = integer(argv[2]!)
  const end = integer(argv[3]!)
  const text = engine.string(argv[1]!) ?? ""
  if (start < 0 && end < 0 && start > end) return ""
  const from = Math.max(0, start < 0 ? text.length + start : start)
  const to = Math.min(text.length - 1, Math.max(0, end < 0 ? text.length + end : end))
  return from > to || text.length === 0 ? "" : text.slice(from, to + 1)
}

const pairs = (argv: Argv, command: string): void => {
  if (argv.length % 2 === 0) throw wrongArguments(command)
}

export const strings: Table = {
  GET: { arity: 2, flags: ["readonly"], keys: firstKey, run: (engine, argv) => engine.string(argv[1]!) ?? null },
  SET: {
    arity: -3,
    flags: ["write"],
    keys: firstKey,
    run(engine, argv) {
      if (argv.length > 3) return set(engine, "set", argv[1]!, argv[2]!, parseSet(argv))
      engine.assign(argv[1]!, argv[2]!)
      return OK
    }
  },
  SETNX: {
    arity: 3,
    flags: ["write"],
    keys: firstKey,
    run(engine, argv) {
      if (engine.keys.has(argv[1]!)) return 0
      engine.assign(argv[1]!, argv[2]!)
      return 1
    }
  },
  SETEX: {
    arity: 4,
    flags: ["write"],
    keys: firstKey,
    run: (engine, argv) => set(engine, "setex", argv[1]!, argv[3]!, { life: ["EX", argv[2]!] })
  },
  PSETEX: {
    arity: 4,
    flags: ["write"],
    keys: firstKey,
    run: (engine, argv) => set(engine, "psetex", argv[1]!, argv[3]!, { life: ["PX", argv[2]!] })
  },
  GETSET: {
    arity: 3,
    flags: ["write"],
    keys: firstKey,
    run(engine, argv) {
      const before = engine.string(argv[1]!) ?? null
      engine.assign(argv[1]!, argv[2]!)
      return before
    }
  },
  GETDEL: {
    arity: 2,
    flags: ["write"],
    keys: firstKey,
    run(engine, argv) {
      const text = engine.string(argv[1]!)
      if (text === undefined) return null
      engine.remove(argv[1]!)
      return text
    }
  },
  GETEX: {
    arity: -2,
    flags: ["write"],
    keys: firstKey,
    run(engine, argv) {
      let life: readonly [Unit, string] | undefined
      let persist = false
      for (let i = 2; i < argv.length; i++) {
        const option = argv[i]!.toUpperCase()
        if (option === "PERSIST" && life === undefined) persist = true
        else if (isUnit(option) && !persist && isNewUnit(life, option) && i + 1 < argv.length) {
          life = [option, argv[++i]!]
        } else throw SYNTAX
      }
      const text = engine.string(argv[1]!)
      const entry = engine.keys.get(argv[1]!)
      if (text === undefined || entry === undefined) return null
      if (life !== undefined) {
        const at = instant(engine, "getex", life[0], life[1])
        setLife(engine, argv[1]!, at)
        engine.modified(argv[1]!)
      } else if (persist && engine.persist(entry)) {
        engine.modified(argv[1]!)
      }
      return text
    }
  },
  MGET: {
    arity: -2,
    flags: ["readonly"],
    keys: allKeys,
    run(engine, argv) {
      const out = new Array<string | null>(argv.length - 1)
      for (let i = 1; i < argv.length; i++) {
        const value = engine.keys.get(argv[i]!)?.value
        out[i - 1] = typeof value === "string" ? value : null
      }
      return out
    }
  },
  MSET: {
    arity: -3,
    flags: ["write"],
    keys: [1, -1, 2],
    run(engine, argv) {
      pairs(argv, "mset")
      for (let i = 1; i < argv.length; i += 2) engine.assign(argv[i]!, argv[i + 1]!)
      return OK
    }
  },
  MSETNX: {
    arity: -3,
    flags: ["write"],
    keys: [1, -1, 2],
    run(engine, argv) {
      pairs(argv, "msetnx")
      for (let i = 1; i < argv.length; i += 2) if (engine.keys.has(argv[i]!)) return 0
      for (let i = 1; i < argv.length; i += 2) engine.assign(argv[i]!, argv[i + 1]!)
      return 1
    }
  },
  INCR: { arity: 2, flags: ["write"], keys: firstKey, run: (engine, argv) => incrementBy(engine, argv[1]!, 1) },
  DECR: { arity: 2, flags: ["write"], keys: firstKey, run: (engine, argv) => incrementBy(engine, argv[1]!, -1) },
  INCRBY: {
    arity: 3,
    flags: ["write"],
    keys: firstKey,
    run: (engine, argv) =>
      argv[2]!.length < 15
        ? incrementBy(engine, argv[1]!, integer(argv[2]!))
        : increment(engine, argv[1]!, bigint(argv[2]!))
  },
  DECRBY: {
    arity: 3,
    flags: ["write"],
    keys: firstKey,
    run(engine, argv) {
      const by = bigint(argv[2]!)
      if (!inInt64(-by)) fail("ERR decrement would overflow")
      return increment(engine, argv[1]!, -by)
    }
  },
  INCRBYFLOAT: {
    arity: 3,
    flags: ["write"],
    keys: firstKey,
    run(engine, argv) {
      const text = engine.string(argv[1]!)
      const value = text === undefined ? ZERO : longDouble(text, NOT_FLOAT)
      const sum = addFloats(value, longDouble(argv[2]!, NOT_FLOAT))
      write(engine, argv[1]!, sum)
      return sum
    }
  },
  APPEND: {
    arity: 3,
    flags: ["write"],
    keys: firstKey,
    run(engine, argv) {
      const text = engine.string(argv[1]!) ?? ""
      checkLength(text.length + argv[2]!.length)
      write(engine, argv[1]!, text + argv[2]!)
      return text.length + argv[2]!.length
    }
  },
  STRLEN: {
    arity: 2,
    flags: ["readonly"],
    keys: firstKey,
    run: (engine, argv) => engine.string(argv[1]!)?.length ?? 0
  },
  GETRANGE: { arity: 4, flags: ["readonly"], keys: firstKey, run: range },
  SUBSTR: { arity: 4, flags: ["readonly"], keys: firstKey, run: range },
  SETRANGE: {
    arity: 4,
    flags: ["write"],
    keys: firstKey,
    run(engine, argv) {
      const offset = integer(argv[2]!)
      if (offset < 0) return new ErrorReply("ERR offset is out of range")
      const value = argv[3]!
      const text = engine.string(argv[1]!) ?? ""
      if (value.length === 0) return text.length
      checkLength(offset + value.length)
      write(
        engine,
        argv[1]!,
        text.slice(0, offset).padEnd(offset, "\0") + value + text.slice(offset + value.length)
      )
      return Math.max(text.length, offset + value.length)
    }
  }
}
