/**
 * Hashes.
 */
import { type Argv, bigint, firstKey, type Run, type Table, wrongArguments } from "../command.js"
import type { Engine } from "../Engine.js"
import { inInt64, parseInt64 } from "../numbers.js"
import { type EngineReply, ErrorReply, OK } from "../reply.js"
import { Field, type Hash, NOT_FLOAT, OVERFLOW } from "../values.js"
import { randomElements } from "./random.js"
import { scanCollection } from "./scan.js"
import { addFloats, longDouble } from "./strings.js"

/** Whether the field is new. */
const put = (hash: Hash, field: string, value: string): boolean => {
  const node = hash.get(field)
  if (node === undefined) {
    hash.add(new Field(field, value))
    return true
  }
  node.value = value
  return false
}

const set = (engine: Engine, argv: Argv, command: string): number => {
  if (argv.length % 2 === 1) throw wrongArguments(command)
  const hash = engine.hashOrNew(argv[1]!)
  let added = 0
  for (let i = 2; i < argv.length; i += 2) if (put(hash, argv[i]!, argv[i + 1]!)) added++
  engine.modified(argv[1]!)
  return added
}

const all = (show: (out: Array<string>, node: Field) => void): Run => (engine, argv) => {
  const out: Array<string> = []
  const hash = engine.hash(argv[1]!)
  if (hash !== undefined) { for (const node of hash.values()) show(out, node) }
  return out
}

export const hashes: Table = {
  HSET: { arity: -4, flags: ["write"], keys: firstKey, run: (engine, argv) => set(engine, argv, "hset") },
  HMSET: {
    arity: -4,
    flags: ["write"],
    keys: firstKey,
    run(engine, argv) {
      set(engine, argv, "hmset")
      return OK
    }
  },
  HSETNX: {
    arity: 4,
    flags: ["write"],
    keys: firstKey,
    run(engine, argv) {
      const hash = engine.hashOrNew(argv[1]!)
      if (hash.has(argv[2]!)) return 0
      put(hash, argv[2]!, argv[3]!)
      engine.modified(argv[1]!)
      return 1
    }
  },
  HGET: {
    arity: 3,
    flags: ["readonly"],
    keys: firstKey,
    run: (engine, argv) => engine.hash(argv[1]!)?.get(argv[2]!)?.value ?? null
  },
  HMGET: {
    arity: -3,
    flags: ["readonly"],
    keys: firstKey,
    run(engine, argv) {
      const hash = engine.hash(argv[1]!)
      return argv.slice(2).map((field) => hash?.get(field)?.value ?? null)
    }
  },
  HGETALL: { arity: 2, flags: ["readonly"], keys: firstKey, run: all((out, node) => out.push(node.key, node.value)) },
  HKEYS: { arity: 2, flags: ["readonly"], keys: firstKey, run: all((out, node) => out.push(node.key)) },
  HVALS: { arity: 2, flags: ["readonly"], keys: firstKey, run: all((out, node) => out.push(node.value)) },
  HLEN: { arity: 2, flags: ["readonly"], keys: firstKey, run: (engine, argv) => engine.hash(argv[1]!)?.size ?? 0 },
  HEXISTS: {
    arity: 3,
    flags: ["readonly"],
    keys: firstKey,
    run: (engine, argv) => engine.hash(argv[1]!)?.has(argv[2]!) === true ? 1 : 0
  },
  HSTRLEN: {
    arity: 3,
    flags: ["readonly"],
    keys: firstKey,
    run: (engine, argv) => engine.hash(argv[1]!)?.get(argv[2]!)?.value.length ?? 0
  },
  HDEL: {
    arity: -3,
    flags: ["write"],
    keys: firstKey,
    run(engine, argv) {
      const hash = engine.hash(argv[1]!)
      if (hash === undefined) return 0
      let removed = 0
      for (let i = 2; i < argv.length; i++) if (hash.delete(argv[i]!) !== undefined) removed++
      if (removed > 0) engine.modified(argv[1]!)
      engine.removeEmpty(argv[1]!, hash)
      return removed
    }
  },
  HINCRBY: {
    arity: 4,
    flags: ["write"],
    keys: firstKey,
    run(engine, argv) {
      const by = bigint(argv[3]!)
      const hash = engine.hash(argv[1]!)
      const text = hash?.get(argv[2]!)?.value
      const value = text === undefined ? 0n : parseInt64(text)
      if (value === undefined) return new ErrorReply("ERR hash value is not an integer")
      const sum = value + by
      if (!inInt64(sum)) throw OVERFLOW
      put(hash ?? engine.hashOrNew(argv[1]!), argv[2]!, String(sum))
      engine.modified(argv[1]!)
      return Number(sum)
    }
  },
  HINCRBYFLOAT: {
    arity: 4,
    flags: ["write"],
    keys: firstKey,
    run(engine, argv): EngineReply {
      const by = longDouble(argv[3]!, NOT_FLOAT)
      if (by === "infinite") return new ErrorReply("ERR value is NaN or Infinity")
      const hash = engine.hash(argv[1]!)
      const text = hash?.get(argv[2]!)?.value
      const value = longDouble(text ?? "0", new ErrorReply("ERR hash value is not a float"))
      const sum = addFloats(value, by)
      put(hash ?? engine.hashOrNew(argv[1]!), argv[2]!, sum)
      engine.modified(argv[1]!)
      return sum
    }
  },
  HRANDFIELD: {
    arity: -2,
    flags: ["readonly"],
    keys: firstKey,
    run: (engine, argv) =>
      randomElements(
        engine,
        argv,
        "WITHVALUES",
        () => engine.hash(argv[1]!),
        (node) => [node.value]
      )
  },
  HSCAN: {
    arity: -3,
    flags: ["readonly"],
    keys: firstKey,
    run: (engine, argv) =>
      scanCollection(argv, () => engine.hash(argv[1]!), (out, node) => out.push(node.key, node.value), 128)
  }
}
