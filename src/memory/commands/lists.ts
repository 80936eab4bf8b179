/**
 * Lists, and the commands that wait for their elements.
 */
import type { Deque } from "../collections.js"
import {
  type Argv,
  blockingKeys,
  countedKeys,
  fail,
  firstKey,
  integer,
  is,
  positive,
  ranged,
  type Run,
  signedCount,
  slice,
  type Table,
  twoKeys,
  wrongArguments
} from "../command.js"
import type { Engine, Session } from "../Engine.js"
import { parseLongDouble } from "../numbers.js"
import { type EngineReply, ErrorReply, OK } from "../reply.js"
import { NO_KEY, OUT_OF_RANGE, SYNTAX } from "../values.js"

type Side = "LEFT" | "RIGHT"

const side = (text: string): Side => {
  if (is(text, "LEFT")) return "LEFT"
  if (is(text, "RIGHT")) return "RIGHT"
  throw SYNTAX
}

const insert = (list: Deque, at: Side, value: string): void => at === "LEFT" ? list.unshift(value) : list.push(value)

const take = (list: Deque, at: Side): string => at === "LEFT" ? list.shift() : list.pop()

const push = (at: Side, create: boolean): Run => (engine, argv) => {
  const list = create ? engine.listOrNew(argv[1]!) : engine.list(argv[1]!)
  if (list === undefined) return 0
  for (let i = 2; i < argv.length; i++) insert(list, at, argv[i]!)
  engine.modified(argv[1]!)
  return list.length
}

const takeMany = (engine: Engine, key: string, list: Deque, at: Side, count: number): Array<string> => {
  const out: Array<string> = []
  for (let i = Math.min(count, list.length); i > 0; i--) out.push(take(list, at))
  if (out.length > 0) engine.modified(key)
  engine.removeEmpty(key, list)
  return out
}

const pop = (at: Side, command: string): Run => (engine, argv) => {
  if (argv.length > 3) return wrongArguments(command)
  const count = argv.length === 3 ? positive(argv[2]!) : undefined
  const list = engine.list(argv[1]!)
  if (list === undefined) return null
  return count === undefined
    ? takeMany(engine, argv[1]!, list, at, 1)[0]!
    : takeMany(engine, argv[1]!, list, at, count)
}

const move = (engine: Engine, from: string, to: string, take_: Side, put: Side): EngineReply => {
  const source = engine.list(from)
  if (source === undefined) return null
  engine.list(to)
  const value = take(source, take_)
  engine.modified(from)
  // An only element that goes back to its own list must not find the list gone.
  if (from === to) {
    insert(source, put, value)
  } else {
    engine.removeEmpty(from, source)
    insert(engine.listOrNew(to), put, value)
    engine.modified(to)
  }
  return value
}

/** The instant at which a wait of so many seconds ends; 0 is for ever. */
export const deadline = (engine: Engine, text: string): number => {
  const seconds = parseLongDouble(text)
  if (seconds === undefined) return fail("ERR timeout is not a float or out of range")
  // Infinity wraps around to a negative number there.
  const millis = seconds === "infinite" ? -1 : Number(seconds.mantissa) * 2 ** seconds.exponent * 1000
  if (millis < 0) return fail("ERR timeout is negative")
  if (millis >= 2 ** 63) return fail("ERR timeout is out of range")
  return millis === 0 ? Infinity : engine.now + Math.ceil(millis)
}

const blockingPop = (at: Side): Run => (engine, argv, session) => {
  const until = deadline(engine, argv[argv.length - 1]!)
  const keys = argv.slice(1, -1)
  const serve = (key: string): EngineReply => {
    const list = engine.list(key)
    return list === undefined ? null : [key, takeMany(engine, key, list, at, 1)[0]!]
  }
  for (const key of keys) {
    const reply = serve(key)
    if (reply !== null) return reply
  }
  return engine.block(session, { keys, type: "list", deadline: until, serve, timeoutReply: null })
}

const blockingMove = (
  engine: Engine,
  session: Session,
  from: string,
  to: string,
  take_: Side,
  put: Side,
  until: number
): EngineReply =>
  move(engine, from, to, take_, put) ?? engine.block(session, {
    keys: [from],
    type: "list",
    deadline: until,
    serve: () => move(engine, from, to, take_, put),
    timeoutReply: null
  })

interface MultiPop {
  readonly keys: ReadonlyArray<string>
  readonly where: string
  readonly count: number
}

/** `numkeys key … where [COUNT n]`, as in `LMPOP` and `ZMPOP`. */
export const parseMultiPop = (argv: Argv, at: number, where: readonly [string, string]): MultiPop => {
  const count = ranged(argv[at]!, 1, Infinity, "ERR numkeys should be greater than 0")
  const whereAt = at + count + 1
  if (whereAt >= argv.length) throw SYNTAX
  const chosen = argv[whereAt]!.toUpperCase()
  if (chosen !== where[0] && chosen !== where[1]) throw SYNTAX
  let limit: number | undefined
  for (let i = whereAt + 1; i < argv.length; i++) {
    if (limit !== undefined || !is(argv[i], "COUNT") || i + 1 >= argv.length) throw SYNTAX
    limit = ranged(argv[++i]!, 1, Infinity, "ERR count should be greater than 0")
  }
  return { keys: argv.slice(at + 1, whereAt), where: chosen, count: limit ?? 1 }
}

const multiPop = (engine: Engine, { count, keys, where }: MultiPop): EngineReply => {
  for (const key of keys) {
    const list = engine.list(key)
    if (list !== undefined) return [key, takeMany(engine, key, list, side(where), count)]
  }
  return null
}

const SIDES = ["LEFT", "RIGHT"] as const

export const lists: Table = {
  LPUSH: { arity: -3, flags: ["write"], keys: firstKey, run: push("LEFT", true) },
  RPUSH: { arity: -3, flags: ["write"], keys: firstKey, run: push("RIGHT", true) },
  LPUSHX: { arity: -3, flags: ["write"], keys: firstKey, run: push("LEFT", false) },
  RPUSHX: { arity: -3, flags: ["write"], keys: firstKey, run: push("RIGHT", false) },
  LPOP: { arity: -2, flags: ["write"], keys: firstKey, run: pop("LEFT", "lpop") },
  RPOP: { arity: -2, flags: ["write"], keys: firstKey, run: pop("RIGHT", "rpop") },
  LLEN: { arity: 2, flags: ["readonly"], keys: firstKey, run: (engine, argv) => engine.list(argv[1]!)?.length ?? 0 },
  LRANGE: {
    arity: 4,
    flags: ["readonly"],
    keys: firstKey,
    run(engine, argv) {
      const start = integer(argv[2]!)
      const stop = integer(argv[3]!)
      const list = engine.list(argv[1]!)
      return list === undefined ? [] : list.slice(...slice(start, stop, list.length))
    }
  },
  LINDEX: {
    arity: 3,
    flags: ["readonly"],
    keys: firstKey,
    run(engine, argv) {
      const list = engine.list(argv[1]!)
      if (list === undefined) return null
      const index = integer(argv[2]!)
      const at = index < 0 ? list.length + index : index
      return at >= 0 && at < list.length ? list.at(at) : null
    }
  },
  LSET: {
    arity: 4,
    flags: ["write"],
    keys: firstKey,
    run(engine, argv) {
      const list = engine.list(argv[1]!)
      if (list === undefined) throw NO_KEY
      const index = integer(argv[2]!)
      const at = index < 0 ? list.length + index : index
      if (at < 0 || at >= list.length) throw OUT_OF_RANGE
      list.set(at, argv[3]!)
      engine.modified(argv[1]!)
      return OK
    }
  },
  LINSERT: {
    arity: 5,
    flags: ["write"],
    keys: firstKey,
    run(engine, argv) {
      const after = is(argv[2], "AFTER")
      if (!after && !is(argv[2], "BEFORE")) throw SYNTAX
      const list = engine.list(argv[1]!)
      if (list === undefined) return 0
      const values = list.slice(0, list.length)
      const at = values.indexOf(argv[3]!)
      if (at === -1) return -1
      values.splice(after ? at + 1 : at, 0, argv[4]!)
      list.reset(values)
      engine.modified(argv[1]!)
      return list.length
    }
  },
  LREM: {
    arity: 4,
    flags: ["write"],
    keys: firstKey,
    run(engine, argv) {
      const count = integer(argv[2]!)
      const list = engine.list(argv[1]!)
      if (list === undefined) return 0
      const values = list.slice(0, list.length)
      if (count < 0) values.reverse()
      let rest = count === 0 ? Infinity : Math.abs(count)
      const kept = values.filter((value) => value !== argv[3]! || rest-- <= 0)
      const removed = values.length - kept.length
      if (removed === 0) return 0
      list.reset(count < 0 ? kept.reverse() : kept)
      engine.modified(argv[1]!)
      engine.removeEmpty(argv[1]!, list)
      return removed
    }
  },
  LTRIM: {
    arity: 4,
    flags: ["write"],
    keys: firstKey,
    run(engine, argv) {
      const start = integer(argv[2]!)
      const stop = integer(argv[3]!)
      const list = engine.list(argv[1]!)
      if (list === undefined) return OK
      list.reset(list.slice(...slice(start, stop, list.length)))
      engine.modified(argv[1]!)
      engine.removeEmpty(argv[1]!, list)
      return OK
    }
  },
  LPOS: {
    arity: -3,
    flags: ["readonly"],
    keys: firstKey,
    run(engine, argv) {
      let rank = 1
      let count: number | undefined
      let length = 0
      for (let i = 3; i < argv.length; i += 2) {
        const value = argv[i + 1]
        if (value === undefined) throw SYNTAX
        if (is(argv[i], "RANK")) {
          rank = signedCount(value)
          if (rank === 0) {
            return new ErrorReply(
              "ERR RANK can't be zero: use 1 to start from the first match, 2 from the second ... " +
                "or use negative to start from the end of the list"
            )
          }
        } else if (is(argv[i], "COUNT")) count = ranged(value, 0, Infinity, "ERR COUNT can't be negative")
        else if (is(argv[i], "MAXLEN")) length = ranged(value, 0, Infinity, "ERR MAXLEN can't be negative")
        else throw SYNTAX
      }
      const list = engine.list(argv[1]!)
      const found: Array<number> = []
      if (list !== undefined) {
        const limit = length === 0 ? list.length : Math.min(length, list.length)
        let skip = Math.abs(rank) - 1
        for (let i = 0; i < limit; i++) {
          const at = rank > 0 ? i : list.length - 1 - i
          if (list.at(at) !== argv[2]! || skip-- > 0) continue
          found.push(at)
          if (count === undefined || found.length === count) break
        }
      }
      return count === undefined ? found[0] ?? null : found
    }
  },
  LMOVE: {
    arity: 5,
    flags: ["write"],
    keys: twoKeys,
    run: (engine, argv) => move(engine, argv[1]!, argv[2]!, side(argv[3]!), side(argv[4]!))
  },
  RPOPLPUSH: {
    arity: 3,
    flags: ["write"],
    keys: twoKeys,
    run: (engine, argv) => move(engine, argv[1]!, argv[2]!, "RIGHT", "LEFT")
  },
  LMPOP: {
    arity: -4,
    flags: ["write"],
    keys: countedKeys(1),
    run: (engine, argv) => multiPop(engine, parseMultiPop(argv, 1, SIDES))
  },
  BLPOP: { arity: -3, flags: ["write", "blocking", "noscript"], keys: blockingKeys, run: blockingPop("LEFT") },
  BRPOP: { arity: -3, flags: ["write", "blocking", "noscript"], keys: blockingKeys, run: blockingPop("RIGHT") },
  BLMOVE: {
    arity: 6,
    flags: ["write", "blocking", "noscript"],
    keys: twoKeys,
    run: (engine, argv, session) =>
      blockingMove(
        engine,
        session,
        argv[1]!,
        argv[2]!,
        side(argv[3]!),
        side(argv[4]!),
        deadline(engine, argv[5]!)
      )
  },
  BRPOPLPUSH: {
    arity: 4,
    flags: ["write", "blocking", "noscript"],
    keys: twoKeys,
    run: (engine, argv, session) =>
      blockingMove(engine, session, argv[1]!, argv[2]!, "RIGHT", "LEFT", deadline(engine, argv[3]!))
  },
  BLMPOP: {
    arity: -5,
    flags: ["write", "blocking"],
    keys: countedKeys(2),
    run(engine, argv, session) {
      const options = parseMultiPop(argv, 2, SIDES)
      const until = deadline(engine, argv[1]!)
      return multiPop(engine, options) ?? engine.block(session, {
        keys: options.keys,
        type: "list",
        deadline: until,
        serve: (key) => multiPop(engine, { ...options, keys: [key] }),
        timeoutReply: null
      })
    }
  }
}
