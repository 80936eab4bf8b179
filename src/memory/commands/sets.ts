/**
 * Sets.
 */
import { Node } from "../collections.js"
import {
  allKeys,
  type Argv,
  countedKeys,
  fail,
  firstKey,
  is,
  positive,
  ranged,
  type Run,
  signedCount,
  type Table,
  twoKeys
} from "../command.js"
import type { Engine } from "../Engine.js"
import type { EngineReply } from "../reply.js"
import { Members, SYNTAX } from "../values.js"
import { choose, sample } from "./random.js"
import { scanCollection } from "./scan.js"

const add = (set: Members, member: string): boolean => {
  if (set.has(member)) return false
  set.add(new Node(member))
  return true
}

type Combine = (sets: ReadonlyArray<Members | undefined>) => Iterable<string>

const union: Combine = (sets) => {
  const out = new Set<string>()
  for (const set of sets) if (set !== undefined) { for (const member of set.keys()) out.add(member) }
  return out
}

const intersection: Combine = (sets) => {
  const [smallest, ...others] = [...sets].sort((a, b) => (a?.size ?? 0) - (b?.size ?? 0))
  if (smallest === undefined) return []
  return [...smallest.keys()].filter((member) => others.every((set) => set?.has(member) === true))
}

const difference: Combine = ([first, ...others]) =>
  first === undefined ? [] : [...first.keys()].filter((member) => others.every((set) => set?.has(member) !== true))

const combined = (combine: Combine): Run => (engine, argv) => [
  ...combine(argv.slice(1).map((key) => engine.set(key)))
]

const stored = (combine: Combine): Run => (engine, argv) => {
  const members = combine(argv.slice(2).map((key) => engine.set(key)))
  const result = new Members()
  for (const member of members) add(result, member)
  if (result.size === 0) engine.remove(argv[1]!)
  else engine.assign(argv[1]!, result)
  return result.size
}

/** `numkeys key … [LIMIT n]` of `SINTERCARD` and `ZINTERCARD`. */
export const parseLimit = (argv: Argv, from: number): number => {
  let limit = 0
  for (let i = from; i < argv.length; i += 2) {
    if (!is(argv[i], "LIMIT") || i + 1 >= argv.length) throw SYNTAX
    limit = ranged(argv[i + 1]!, 0, Infinity, "ERR LIMIT can't be negative")
  }
  return limit === 0 ? Infinity : limit
}

const pop = (engine: Engine, argv: Argv): EngineReply => {
  if (argv.length > 3) throw SYNTAX
  const count = argv.length === 3 ? positive(argv[2]!) : undefined
  const set = engine.set(argv[1]!)
  if (set === undefined) return count === undefined ? null : []
  const chosen = sample(set, count ?? 1, engine.random).map((node) => node.key)
  for (const member of chosen) set.delete(member)
  if (chosen.length > 0) engine.modified(argv[1]!)
  engine.removeEmpty(argv[1]!, set)
  return count === undefined ? chosen[0]! : chosen
}

export const sets: Table = {
  SADD: {
    arity: -3,
    flags: ["write"],
    keys: firstKey,
    run(engine, argv) {
      const set = engine.setOrNew(argv[1]!)
      let added = 0
      for (let i = 2; i < argv.length; i++) if (add(set, argv[i]!)) added++
      if (added > 0) engine.modified(argv[1]!)
      return added
    }
  },
  SREM: {
    arity: -3,
    flags: ["write"],
    keys: firstKey,
    run(engine, argv) {
      const set = engine.set(argv[1]!)
      if (set === undefined) return 0
      let removed = 0
      for (let i = 2; i < argv.length; i++) if (set.delete(argv[i]!) !== undefined) removed++
      if (removed > 0) engine.modified(argv[1]!)
      engine.removeEmpty(argv[1]!, set)
      return removed
    }
  },
  SMEMBERS: {
    arity: 2,
    flags: ["readonly"],
    keys: firstKey,
    run: (engine, argv) => [...engine.set(argv[1]!)?.keys() ?? []]
  },
  SISMEMBER: {
    arity: 3,
    flags: ["readonly"],
    keys: firstKey,
    run: (engine, argv) => engine.set(argv[1]!)?.has(argv[2]!) === true ? 1 : 0
  },
  SMISMEMBER: {
    arity: -3,
    flags: ["readonly"],
    keys: firstKey,
    run(engine, argv) {
      const set = engine.set(argv[1]!)
      return argv.slice(2).map((member) => set?.has(member) === true ? 1 : 0)
    }
  },
  SCARD: { arity: 2, flags: ["readonly"], keys: firstKey, run: (engine, argv) => engine.set(argv[1]!)?.size ?? 0 },
  SPOP: { arity: -2, flags: ["write"], keys: firstKey, run: pop },
  SRANDMEMBER: {
    arity: -2,
    flags: ["readonly"],
    keys: firstKey,
    run(engine, argv) {
      if (argv.length === 2) return engine.set(argv[1]!)?.random(engine.random)?.key ?? null
      if (argv.length > 3) throw SYNTAX
      const count = signedCount(argv[2]!)
      const set = engine.set(argv[1]!)
      return set === undefined ? [] : choose(set, count, engine.random).map((node) => node.key)
    }
  },
  SMOVE: {
    arity: 4,
    flags: ["write"],
    keys: twoKeys,
    run(engine, argv) {
      const [, from, to, member] = argv as [string, string, string, string]
      const source = engine.set(from)
      if (source === undefined) return 0
      const target = engine.set(to)
      if (from === to) return source.has(member) ? 1 : 0
      if (source.delete(member) === undefined) return 0
      engine.modified(from)
      engine.removeEmpty(from, source)
      if (add(target ?? engine.setOrNew(to), member)) engine.modified(to)
      return 1
    }
  },
  SUNION: { arity: -2, flags: ["readonly"], keys: allKeys, run: combined(union) },
  SINTER: { arity: -2, flags: ["readonly"], keys: allKeys, run: combined(intersection) },
  SDIFF: { arity: -2, flags: ["readonly"], keys: allKeys, run: combined(difference) },
  SUNIONSTORE: { arity: -3, flags: ["write"], keys: allKeys, run: stored(union) },
  SINTERSTORE: { arity: -3, flags: ["write"], keys: allKeys, run: stored(intersection) },
  SDIFFSTORE: { arity: -3, flags: ["write"], keys: allKeys, run: stored(difference) },
  SINTERCARD: {
    arity: -3,
    flags: ["readonly"],
    keys: countedKeys(1),
    run(engine, argv) {
      const count = ranged(argv[1]!, 1, Infinity, "ERR numkeys should be greater than 0")
      if (count > argv.length - 2) return fail("ERR Number of keys can't be greater than number of args")
      const limit = parseLimit(argv, 2 + count)
      const sets = argv.slice(2, 2 + count).map((key) => engine.set(key))
      return Math.min(limit, [...intersection(sets)].length)
    }
  },
  SSCAN: {
    arity: -3,
    flags: ["readonly"],
    keys: firstKey,
    run: (engine, argv) => scanCollection(argv, () => engine.set(argv[1]!), (out, node) => out.push(node.key), 0)
  }
}
