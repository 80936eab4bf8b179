/**
 * Sorted sets, and the commands that wait for their members.
 */
import type { Ranking, Scored } from "../collections.js"
import {
  type Argv,
  blockingKeys,
  countedKeys,
  double,
  fail,
  firstKey,
  integer,
  is,
  positive,
  type Run,
  slice,
  type Table,
  twoKeys
} from "../command.js"
import type { Engine } from "../Engine.js"
import { formatDouble, parseDouble } from "../numbers.js"
import { type EngineReply, ErrorReply } from "../reply.js"
import { Members, SortedSet, SYNTAX, WRONG_TYPE } from "../values.js"
import { deadline, parseMultiPop } from "./lists.js"
import { randomElements } from "./random.js"
import { scanCollection } from "./scan.js"
import { parseLimit } from "./sets.js"

// ---------------------------------------------------------------------------------------------------------------------
// Adding
// ---------------------------------------------------------------------------------------------------------------------

const NAN = new ErrorReply("ERR resulting score is not a number (NaN)")

export const add = (engine: Engine, argv: Argv, increment: boolean): EngineReply => {
  let nx = false
  let xx = false
  let gt = false
  let lt = false
  let changed = false
  let incr = increment
  let at = 2
  if (!increment) {
    options: for (; at < argv.length; at++) {
      switch (argv[at]!.length <= 4 ? argv[at]!.toUpperCase() : "") {
        case "NX":
          nx = true
          break
        case "XX":
          xx = true
          break
        case "CH":
          changed = true
          break
        case "INCR":
          incr = true
          break
        case "GT":
          gt = true
          break
        case "LT":
          lt = true
          break
        default:
          break options
      }
    }
  }
  const elements = argv.length - at
  if (elements % 2 !== 0 || elements === 0) throw SYNTAX
  if (nx && xx) return fail("ERR XX and NX options at the same time are not compatible")
  if ((gt && nx) || (lt && nx) || (gt && lt)) {
    return fail("ERR GT, LT, and/or NX options at the same time are not compatible")
  }
  if (incr && elements > 2) return fail("ERR INCR option supports a single increment-element pair")
  const scores = new Array<number>(elements / 2)
  for (let i = 0; i < scores.length; i++) scores[i] = double(argv[at + 2 * i]!)
  const key = argv[1]!
  let set = engine.sortedSet(key)
  if (set === undefined) {
    if (xx) return incr ? null : 0
    set = engine.sortedSetOrNew(key)
  }
  let added = 0
  let updated = 0
  let result: number | undefined
  for (let i = 0; i < scores.length; i++) {
    let score = scores[i]!
    const member = argv[at + 2 * i + 1]!
    const node = set.members.get(member)
    if (node === undefined) {
      if (xx) continue
      set.put(member, score)
      added++
    } else {
      if (nx) continue
      if (incr) {
        score += node.score
        if (Number.isNaN(score)) throw NAN
      }
      if ((lt && score >= node.score) || (gt && score <= node.score)) continue
      if (set.put(member, score)) updated++
    }
    result = score
  }
  if (added + updated > 0) engine.modified(key)
  if (incr) return result === undefined ? null : formatDouble(result)
  return changed ? added + updated : added
}

// ---------------------------------------------------------------------------------------------------------------------
// Ranges
// ---------------------------------------------------------------------------------------------------------------------

/** The ranks from one to another, without that one. */
type Span = readonly [from: number, to: number]
type Range = (ranking: Ranking) => Span

interface Bound {
  readonly value: number
  readonly exclusive: boolean
}

const NOT_A_RANGE = new ErrorReply("ERR min or max is not a float")

const bound = (text: string): Bound => {
  const exclusive = text.startsWith("(")
  const body = (exclusive ? text.slice(1) : text).replace(/^[ \t-\r]+/, "")
  // Here Redis reads with plain strtod: nothing at all is zero, and too much is infinity.
  if (body === "") {
    if (text.length > (exclusive ? 1 : 0)) throw NOT_A_RANGE
    return { value: 0, exclusive }
  }
  const value = parseDouble(body) ?? (/^[+-]?[0-9.]+(?:e[+-]?[0-9]+)?$/i.test(body) ? Number(body) : NaN)
  if (Number.isNaN(value)) throw NOT_A_RANGE
  return { value, exclusive }
}

const byScore = (minText: string, maxText: string): Range => {
  const min = bound(minText)
  const max = bound(maxText)
  return (ranking) => [
    ranking.countBefore((node) => min.exclusive ? node.score > min.value : node.score >= min.value),
    ranking.countBefore((node) => max.exclusive ? node.score >= max.value : node.score > max.value)
  ]
}

const NOT_A_LEX_RANGE = new ErrorReply("ERR min or max not valid string range item")

/** How many members are before the place; `after` is for an end that belongs to the range. */
const lexPlace = (text: string, end: boolean): (ranking: Ranking) => number => {
  if (text === "-") return () => 0
  if (text === "+") return (ranking) => ranking.length
  const value = text.slice(1)
  if (text.startsWith("[")) {
    return (ranking) => ranking.countBefore(end ? (node) => node.key > value : (node) => node.key >= value)
  }
  if (text.startsWith("(")) {
    return (ranking) => ranking.countBefore(end ? (node) => node.key >= value : (node) => node.key > value)
  }
  throw NOT_A_LEX_RANGE
}

const byLex = (min: string, max: string): Range => {
  const from = lexPlace(min, false)
  const to = lexPlace(max, true)
  return (ranking) => [from(ranking), to(ranking)]
}

const byRank = (startText: string, stopText: string): Range => {
  const start = integer(startText)
  const stop = integer(stopText)
  return (ranking) => slice(start, stop, ranking.length)
}

type By = "rank" | "score" | "lex"

interface RangeOptions {
  readonly by?: By
  readonly reverse?: boolean
  readonly store?: boolean
}

/** All of `ZRANGE` and its older spellings; `at` is where the key stands. */
const range = (engine: Engine, argv: Argv, at: number, options: RangeOptions): EngineReply => {
  let { by, reverse } = options
  let withScores = false
  let offset = 0
  let limit = -1
  for (let i = at + 3; i < argv.length; i++) {
    if (options.store !== true && is(argv[i], "WITHSCORES")) withScores = true
    else if (is(argv[i], "LIMIT") && i + 2 < argv.length) {
      offset = integer(argv[i + 1]!)
      limit = integer(argv[i + 2]!)
      i += 2
    } else if (reverse === undefined && is(argv[i], "REV")) reverse = true
    else if (by === undefined && is(argv[i], "BYLEX")) by = "lex"
    else if (by === undefined && is(argv[i], "BYSCORE")) by = "score"
    else throw SYNTAX
  }
  const backwards = reverse === true
  by ??= "rank"
  if (limit !== -1 && by === "rank") {
    return fail("ERR syntax error, LIMIT is only supported in combination with either BYSCORE or BYLEX")
  }
  if (withScores && by === "lex") {
    return fail("ERR syntax error, WITHSCORES not supported in combination with BYLEX")
  }
  const swap = backwards && by !== "rank"
  const first = argv[swap ? at + 2 : at + 1]!
  const last = argv[swap ? at + 1 : at + 2]!
  const find = by === "rank" ? byRank(first, last) : by === "score" ? byScore(first, last) : byLex(first, last)
  const set = engine.sortedSet(argv[at]!)
  let nodes: Array<Scored> = []
  if (set !== undefined) {
    let [from, to] = find(set.ranking)
    if (backwards && by === "rank") [from, to] = [set.size - to, set.size - from]
    if (by !== "rank" && (offset !== 0 || limit >= 0)) {
      const length = Math.max(0, to - from)
      const skip = offset < 0 ? length : Math.min(offset, length)
      const count = limit < 0 ? length - skip : Math.min(limit, length - skip)
      if (backwards) [from, to] = [to - skip - count, to - skip]
      else [from, to] = [from + skip, from + skip + count]
    }
    nodes = set.ranking.slice(from, to)
    if (backwards) nodes.reverse()
  }
  if (options.store === true) {
    const result = new SortedSet()
    for (const node of nodes) result.put(node.key, node.score)
    return store(engine, argv[at - 1]!, result)
  }
  return show(nodes, withScores)
}

const show = (nodes: ReadonlyArray<Scored>, withScores: boolean): Array<string> => {
  const out: Array<string> = []
  for (const node of nodes) {
    out.push(node.key)
    if (withScores) out.push(formatDouble(node.score))
  }
  return out
}

export const store = (engine: Engine, key: string, result: SortedSet): number => {
  if (result.size === 0) engine.remove(key)
  else engine.assign(key, result)
  return result.size
}

const ranges = (options: RangeOptions): Run => (engine, argv) => range(engine, argv, 1, options)

const count = (find: (min: string, max: string) => Range): Run => (engine, argv) => {
  const span = find(argv[2]!, argv[3]!)
  const set = engine.sortedSet(argv[1]!)
  if (set === undefined) return 0
  const [from, to] = span(set.ranking)
  return Math.max(0, to - from)
}

const removeRange = (find: (min: string, max: string) => Range): Run => (engine, argv) => {
  const span = find(argv[2]!, argv[3]!)
  const key = argv[1]!
  const set = engine.sortedSet(key)
  if (set === undefined) return 0
  const nodes = set.ranking.slice(...span(set.ranking))
  for (const node of nodes) set.delete(node.key)
  if (nodes.length > 0) engine.modified(key)
  if (set.size === 0) engine.remove(key)
  return nodes.length
}

const rank = (reverse: boolean): Run => (engine, argv) => {
  const set = engine.sortedSet(argv[1]!)
  const node = set?.members.get(argv[2]!)
  if (set === undefined || node === undefined) return null
  const at = set.ranking.rank(node)
  return reverse ? set.size - 1 - at : at
}

// ---------------------------------------------------------------------------------------------------------------------
// Taking
// ---------------------------------------------------------------------------------------------------------------------

type End = "MIN" | "MAX"

const take = (engine: Engine, key: string, set: SortedSet, end: End, limit: number): Array<Scored> => {
  const size = Math.min(limit, set.size)
  const nodes = end === "MIN" ? set.ranking.slice(0, size) : set.ranking.slice(set.size - size, set.size).reverse()
  for (const node of nodes) set.delete(node.key)
  if (nodes.length > 0) engine.modified(key)
  if (set.size === 0) engine.remove(key)
  return nodes
}

const pop = (end: End): Run => (engine, argv) => {
  if (argv.length > 3) throw SYNTAX
  const limit = argv.length === 3 ? positive(argv[2]!) : 1
  const set = engine.sortedSet(argv[1]!)
  return set === undefined ? [] : show(take(engine, argv[1]!, set, end, limit), true)
}

const blockingPop = (end: End): Run => (engine, argv, session) => {
  const until = deadline(engine, argv[argv.length - 1]!)
  const keys = argv.slice(1, -1)
  const serve = (key: string): EngineReply => {
    const set = engine.sortedSet(key)
    return set === undefined ? null : [key, ...show(take(engine, key, set, end, 1), true)]
  }
  for (const key of keys) {
    const reply = serve(key)
    if (reply !== null) return reply
  }
  return engine.block(session, { keys, type: "zset", deadline: until, serve, timeoutReply: null })
}

const ENDS = ["MIN", "MAX"] as const

const multiPop = (engine: Engine, options: ReturnType<typeof parseMultiPop>): EngineReply => {
  for (const key of options.keys) {
    const set = engine.sortedSet(key)
    if (set === undefined) continue
    const nodes = take(engine, key, set, options.where === "MIN" ? "MIN" : "MAX", options.count)
    return [key, nodes.map((node) => show([node], true))]
  }
  return null
}

// ---------------------------------------------------------------------------------------------------------------------
// Combining
// ---------------------------------------------------------------------------------------------------------------------

type Combination = "union" | "inter" | "diff"

type Source = ReadonlyMap<string, number>

const source = (engine: Engine, key: string): Source => {
  const value = engine.keys.get(key)?.value
  const out = new Map<string, number>()
  if (value instanceof SortedSet) { for (const node of value.members.values()) out.set(node.key, node.score) }
  else if (value instanceof Members) { for (const member of value.keys()) out.set(member, 1) }
  else if (value !== undefined) throw WRONG_TYPE
  return out
}

const orZero = (score: number): number => Number.isNaN(score) ? 0 : score

const aggregates: Record<string, (a: number, b: number) => number> = {
  SUM: (a, b) => orZero(a + b),
  MIN: Math.min,
  MAX: Math.max
}

const combine = (
  engine: Engine,
  argv: Argv,
  command: string,
  at: number,
  combination: Combination,
  stored: boolean
): readonly [SortedSet, boolean] => {
  const number = integer(argv[at]!)
  if (number < 1) return fail(`ERR at least 1 input key is needed for '${command}' command`)
  if (number > argv.length - at - 1) throw SYNTAX
  const sources = argv.slice(at + 1, at + 1 + number).map((key) => source(engine, key))
  const weights = new Array<number>(number).fill(1)
  let aggregate = aggregates.SUM!
  let withScores = false
  for (let i = at + 1 + number; i < argv.length; i++) {
    const option = argv[i]!.toUpperCase()
    if (combination !== "diff" && option === "WEIGHTS" && i + number < argv.length) {
      for (let j = 0; j < number; j++) {
        weights[j] = double(argv[++i]!, new ErrorReply("ERR weight value is not a float"))
      }
    } else if (combination !== "diff" && option === "AGGREGATE" && i + 1 < argv.length) {
      const chosen = aggregates[argv[++i]!.toUpperCase()]
      if (chosen === undefined) throw SYNTAX
      aggregate = chosen
    } else if (!stored && option === "WITHSCORES") withScores = true
    else throw SYNTAX
  }
  const result = new SortedSet()
  if (combination === "diff") {
    const [first, ...others] = sources
    for (const [member, score] of first!) {
      if (!others.some((other) => other.has(member))) result.put(member, score)
    }
    return [result, withScores]
  }
  // As in Redis, the smallest goes first: sums of fractions depend on their order.
  const ordered = sources.map((scores, i) => ({ scores, weight: weights[i]! }))
    .sort((a, b) => a.scores.size - b.scores.size)
  if (combination === "union") {
    const scores = new Map<string, number>()
    for (const { scores: others, weight } of ordered) {
      for (const [member, score] of others) {
        const value = orZero(weight * score)
        const present = scores.get(member)
        scores.set(member, present === undefined ? value : aggregate(present, value))
      }
    }
    for (const [member, score] of scores) result.put(member, score)
  } else {
    const [smallest, ...others] = ordered
    for (const [member, score] of smallest!.scores) {
      if (!others.every((other) => other.scores.has(member))) continue
      let value = orZero(smallest!.weight * score)
      for (const other of others) value = aggregate(value, other.weight * other.scores.get(member)!)
      result.put(member, value)
    }
  }
  return [result, withScores]
}

const combined = (command: string, combination: Combination): Run => (engine, argv) => {
  const [result, withScores] = combine(engine, argv, command, 1, combination, false)
  return show(result.ranking.slice(0, result.size), withScores)
}

const combinedStore = (command: string, combination: Combination): Run => (engine, argv) => {
  const [result] = combine(engine, argv, command, 2, combination, true)
  return store(engine, argv[1]!, result)
}

/** A scan shows how small sorted sets keep whole numbers: with all their digits. */
const scanned = (score: number): string =>
  Number.isInteger(score) && Math.abs(score) < 2 ** 63 ? String(BigInt(score)) : formatDouble(score)

export const sortedSets: Table = {
  ZADD: { arity: -4, flags: ["write"], keys: firstKey, run: (engine, argv) => add(engine, argv, false) },
  ZINCRBY: { arity: 4, flags: ["write"], keys: firstKey, run: (engine, argv) => add(engine, argv, true) },
  ZREM: {
    arity: -3,
    flags: ["write"],
    keys: firstKey,
    run(engine, argv) {
      const set = engine.sortedSet(argv[1]!)
      if (set === undefined) return 0
      let removed = 0
      for (let i = 2; i < argv.length; i++) if (set.delete(argv[i]!)) removed++
      if (removed > 0) engine.modified(argv[1]!)
      if (set.size === 0) engine.remove(argv[1]!)
      return removed
    }
  },
  ZSCORE: {
    arity: 3,
    flags: ["readonly"],
    keys: firstKey,
    run(engine, argv) {
      const node = engine.sortedSet(argv[1]!)?.members.get(argv[2]!)
      return node === undefined ? null : formatDouble(node.score)
    }
  },
  ZMSCORE: {
    arity: -3,
    flags: ["readonly"],
    keys: firstKey,
    run(engine, argv) {
      const set = engine.sortedSet(argv[1]!)
      return argv.slice(2).map((member) => {
        const node = set?.members.get(member)
        return node === undefined ? null : formatDouble(node.score)
      })
    }
  },
  ZRANK: { arity: 3, flags: ["readonly"], keys: firstKey, run: rank(false) },
  ZREVRANK: { arity: 3, flags: ["readonly"], keys: firstKey, run: rank(true) },
  ZCARD: {
    arity: 2,
    flags: ["readonly"],
    keys: firstKey,
    run: (engine, argv) => engine.sortedSet(argv[1]!)?.size ?? 0
  },
  ZCOUNT: { arity: 4, flags: ["readonly"], keys: firstKey, run: count(byScore) },
  ZLEXCOUNT: { arity: 4, flags: ["readonly"], keys: firstKey, run: count(byLex) },
  ZRANGE: { arity: -4, flags: ["readonly"], keys: firstKey, run: ranges({}) },
  ZREVRANGE: { arity: -4, flags: ["readonly"], keys: firstKey, run: ranges({ by: "rank", reverse: true }) },
  ZRANGEBYSCORE: { arity: -4, flags: ["readonly"], keys: firstKey, run: ranges({ by: "score", reverse: false }) },
  ZREVRANGEBYSCORE: { arity: -4, flags: ["readonly"], keys: firstKey, run: ranges({ by: "score", reverse: true }) },
  ZRANGEBYLEX: { arity: -4, flags: ["readonly"], keys: firstKey, run: ranges({ by: "lex", reverse: false }) },
  ZREVRANGEBYLEX: { arity: -4, flags: ["readonly"], keys: firstKey, run: ranges({ by: "lex", reverse: true }) },
  ZRANGESTORE: {
    arity: -5,
    flags: ["write"],
    keys: twoKeys,
    run: (engine, argv) => range(engine, argv, 2, { store: true })
  },
  ZREMRANGEBYRANK: { arity: 4, flags: ["write"], keys: firstKey, run: removeRange(byRank) },
  ZREMRANGEBYSCORE: { arity: 4, flags: ["write"], keys: firstKey, run: removeRange(byScore) },
  ZREMRANGEBYLEX: { arity: 4, flags: ["write"], keys: firstKey, run: removeRange(byLex) },
  ZPOPMIN: { arity: -2, flags: ["write"], keys: firstKey, run: pop("MIN") },
  ZPOPMAX: { arity: -2, flags: ["write"], keys: firstKey, run: pop("MAX") },
  ZMPOP: {
    arity: -4,
    flags: ["write"],
    keys: countedKeys(1),
    run: (engine, argv) => multiPop(engine, parseMultiPop(argv, 1, ENDS))
  },
  BZPOPMIN: { arity: -3, flags: ["write", "blocking", "noscript"], keys: blockingKeys, run: blockingPop("MIN") },
  BZPOPMAX: { arity: -3, flags: ["write", "blocking", "noscript"], keys: blockingKeys, run: blockingPop("MAX") },
  BZMPOP: {
    arity: -5,
    flags: ["write", "blocking"],
    keys: countedKeys(2),
    run(engine, argv, session) {
      const options = parseMultiPop(argv, 2, ENDS)
      const until = deadline(engine, argv[1]!)
      return multiPop(engine, options) ?? engine.block(session, {
        keys: options.keys,
        type: "zset",
        deadline: until,
        serve: (key) => multiPop(engine, { ...options, keys: [key] }),
        timeoutReply: null
      })
    }
  },
  ZUNION: { arity: -3, flags: ["readonly"], keys: countedKeys(1), run: combined("zunion", "union") },
  ZINTER: { arity: -3, flags: ["readonly"], keys: countedKeys(1), run: combined("zinter", "inter") },
  ZDIFF: { arity: -3, flags: ["readonly"], keys: countedKeys(1), run: combined("zdiff", "diff") },
  ZUNIONSTORE: { arity: -4, flags: ["write"], keys: countedKeys(2, 1), run: combinedStore("zunionstore", "union") },
  ZINTERSTORE: { arity: -4, flags: ["write"], keys: countedKeys(2, 1), run: combinedStore("zinterstore", "inter") },
  ZDIFFSTORE: { arity: -4, flags: ["write"], keys: countedKeys(2, 1), run: combinedStore("zdiffstore", "diff") },
  ZINTERCARD: {
    arity: -3,
    flags: ["readonly"],
    keys: countedKeys(1),
    run(engine, argv) {
      const number = integer(argv[1]!)
      if (number < 1) return fail("ERR at least 1 input key is needed for 'zintercard' command")
      if (number > argv.length - 2) throw SYNTAX
      const [smallest, ...others] = argv.slice(2, 2 + number).map((key) => source(engine, key))
        .sort((a, b) => a.size - b.size)
      const limit = parseLimit(argv, 2 + number)
      let found = 0
      for (const member of smallest!.keys()) if (others.every((other) => other.has(member))) found++
      return Math.min(limit, found)
    }
  },
  ZRANDMEMBER: {
    arity: -2,
    flags: ["readonly"],
    keys: firstKey,
    run: (engine, argv) =>
      randomElements(
        engine,
        argv,
        "WITHSCORES",
        () => engine.sortedSet(argv[1]!)?.members,
        (node) => [formatDouble(node.score)]
      )
  },
  ZSCAN: {
    arity: -3,
    flags: ["readonly"],
    keys: firstKey,
    run: (engine, argv) =>
      scanCollection(
        argv,
        () => engine.sortedSet(argv[1]!)?.members,
        (out, node) => out.push(node.key, scanned(node.score)),
        128
      )
  }
}
