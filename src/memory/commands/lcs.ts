/**
 * The longest common subsequence of two strings, by dynamic programming.
 */
import { type Argv, fail, integer, is, type Table, twoKeys } from "../command.js"
import type { Engine } from "../Engine.js"
import type { EngineReply } from "../reply.js"
import { SYNTAX } from "../values.js"
import { MAX_STRING } from "./strings.js"

/** A part of the first string that is equal to a part of the second, with their first and last places. */
interface Match {
  readonly a: readonly [from: number, to: number]
  readonly b: readonly [from: number, to: number]
}

const textOf = (engine: Engine, key: string): string => {
  const value = engine.keys.get(key)?.value ?? ""
  return typeof value === "string" ? value : fail("ERR The specified keys must contain string values")
}

const run = (engine: Engine, argv: Argv): EngineReply => {
  const a = textOf(engine, argv[1]!)
  const b = textOf(engine, argv[2]!)
  let wantsLength = false
  let wantsMatches = false
  let withLengths = false
  let least = 0
  for (let at = 3; at < argv.length; at++) {
    if (is(argv[at], "IDX")) wantsMatches = true
    else if (is(argv[at], "LEN")) wantsLength = true
    else if (is(argv[at], "WITHMATCHLEN")) withLengths = true
    else if (is(argv[at], "MINMATCHLEN") && at + 1 < argv.length) least = integer(argv[++at]!)
    else throw SYNTAX
  }
  if (wantsMatches && wantsLength) {
    return fail("ERR If you want both the length and indexes, please just use IDX.")
  }
  const width = b.length + 1
  if (4 * width * (a.length + 1) > MAX_STRING) {
    return fail("ERR Insufficient memory, transient memory for LCS exceeds proto-max-bulk-len")
  }
  // The length for each pair of beginnings.
  const lengths = new Uint32Array(width * (a.length + 1))
  for (let i = 1; i <= a.length; i++) {
    for (let j = 1; j <= b.length; j++) {
      const at = i * width + j
      lengths[at] = a[i - 1] === b[j - 1]
        ? lengths[at - width - 1]! + 1
        : Math.max(lengths[at - width]!, lengths[at - 1]!)
    }
  }
  const length = lengths[lengths.length - 1]!
  if (wantsLength) return length
  // From the end back to the beginning.
  let text = ""
  const matches: Array<Match> = []
  for (let i = a.length, j = b.length; i > 0 && j > 0;) {
    if (a[i - 1] !== b[j - 1]) {
      if (lengths[(i - 1) * width + j]! > lengths[i * width + j - 1]!) i--
      else j--
      continue
    }
    const [toA, toB] = [i - 1, j - 1]
    while (i > 0 && j > 0 && a[i - 1] === b[j - 1]) {
      i--
      j--
    }
    text = a.slice(i, toA + 1) + text
    matches.push({ a: [i, toA], b: [j, toB] })
  }
  if (!wantsMatches) return text
  const shown: Array<EngineReply> = []
  for (const { a, b } of matches) {
    const size = a[1] - a[0] + 1
    if (size >= least) shown.push(withLengths ? [a, b, size] : [a, b])
  }
  return ["matches", shown, "len", length]
}

export const lcs: Table = {
  LCS: { arity: -3, flags: ["readonly"], keys: twoKeys, run }
}
