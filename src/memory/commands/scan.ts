/**
 * What `SCAN` and its like share.
 */
import { matchesBytes as matches } from "../../internal/glob.js"
import type { Indexed, Node } from "../collections.js"
import { type Argv, fail, integer, is } from "../command.js"
import type { EngineReply } from "../reply.js"
import { SYNTAX } from "../values.js"

export interface ScanOptions {
  readonly count: number
  readonly pattern: string
  readonly type: string | undefined
}

/** As `strtoul`, for which nothing at all is zero. */
export const parseCursor = (text: string): number =>
  /^(?:[+-]?[0-9]{1,19})?$/.test(text) ? Number(text) : fail("ERR invalid cursor")

export const parseScan = (argv: Argv, from: number, withType: boolean): ScanOptions => {
  let count = 10
  let pattern = "*"
  let type: string | undefined
  for (let i = from; i < argv.length; i += 2) {
    const value = argv[i + 1]
    if (value === undefined) throw SYNTAX
    if (is(argv[i], "COUNT")) {
      count = integer(value)
      if (count < 1) throw SYNTAX
    } else if (is(argv[i], "MATCH")) pattern = value
    else if (withType && is(argv[i], "TYPE")) type = value
    else throw SYNTAX
  }
  return { count, pattern, type }
}

/** A collection of up to `whole` elements is returned at once, as Redis does with its compact encodings. */
export const scanCollection = <N extends Node>(
  argv: Argv,
  lookup: () => Indexed<N> | undefined,
  show: (out: Array<string>, node: N) => void,
  whole: number
): EngineReply => {
  const cursor = parseCursor(argv[2]!)
  const elements = lookup()
  if (elements === undefined) return ["0", []]
  const { count, pattern } = parseScan(argv, 3, false)
  const out: Array<string> = []
  const visit = (node: N): void => {
    if (matches(pattern, node.key)) show(out, node)
  }
  const next = elements.size <= whole ? elements.scan(0, elements.size, visit) : elements.scan(cursor, count, visit)
  return [String(next), out]
}
