/**
 * Which commands meet each other, and in how many sequences.
 */
import { FastCheck as FC } from "effect"
import { bits } from "./bits.js"
import { blocking } from "./blocking.js"
import type { Argv } from "./generators.js"
import { manyPlaces, places } from "./geo.js"
import { hashes } from "./hashes.js"
import { logs, spoilt } from "./hyperLogLog.js"
import { expiry, keys, lives } from "./keys.js"
import { lists } from "./lists.js"
import { odds, scripts, transactions } from "./scripts.js"
import { sets } from "./sets.js"
import { sorts } from "./sort.js"
import { lexRanges, zsets } from "./sortedSets.js"
import { entries, grouped, groups, nodes, streams } from "./streams.js"
import { lcs, strings } from "./strings.js"

export interface Suite {
  readonly name: string
  readonly arbitrary: FC.Arbitrary<Argv>
  /** The most commands of a sequence. */
  readonly length: number
  /** In each run of the tests. */
  readonly sequences: number
  /** What each sequence begins with. */
  readonly before?: ReadonlyArray<Argv>
}

export const suites: ReadonlyArray<Suite> = [
  {
    name: "strings",
    arbitrary: FC.oneof({ weight: 4, arbitrary: strings }, expiry),
    length: 30,
    sequences: 300
  },
  {
    name: "keys",
    arbitrary: FC.oneof({ weight: 3, arbitrary: keys }, strings, hashes, lists, sets, zsets),
    length: 40,
    sequences: 300
  },
  { name: "lives of keys", arbitrary: lives, length: 40, sequences: 200 },
  { name: "hashes", arbitrary: FC.oneof({ weight: 6, arbitrary: hashes }, keys), length: 30, sequences: 300 },
  {
    name: "lists",
    arbitrary: FC.oneof({ weight: 120, arbitrary: lists }, { weight: 20, arbitrary: keys }, blocking),
    length: 30,
    sequences: 300
  },
  { name: "sets", arbitrary: FC.oneof({ weight: 6, arbitrary: sets }, keys), length: 30, sequences: 300 },
  {
    name: "sorted sets",
    arbitrary: FC.oneof(
      { weight: 240, arbitrary: zsets },
      { weight: 20, arbitrary: FC.oneof(sets, keys) },
      blocking
    ),
    length: 40,
    sequences: 500
  },
  {
    name: "streams",
    arbitrary: FC.oneof(
      { weight: 300, arbitrary: streams },
      { weight: 20, arbitrary: keys },
      { weight: 10, arbitrary: transactions },
      blocking
    ),
    length: 40,
    sequences: 300
  },
  { name: "where the nodes of a stream end", arbitrary: nodes, length: 2, sequences: 50 },
  {
    name: "groups of consumers",
    arbitrary: FC.oneof(
      { weight: 300, arbitrary: groups },
      { weight: 100, arbitrary: entries },
      { weight: 10, arbitrary: keys },
      blocking
    ),
    length: 40,
    sequences: 300,
    before: grouped
  },
  { name: "ranges by bytes", arbitrary: lexRanges, length: 30, sequences: 200 },
  { name: "bits", arbitrary: FC.oneof({ weight: 9, arbitrary: bits }, keys), length: 30, sequences: 300 },
  { name: "HyperLogLog", arbitrary: FC.oneof({ weight: 9, arbitrary: logs }, keys), length: 20, sequences: 100 },
  { name: "HyperLogLog whose strings were changed", arbitrary: spoilt, length: 20, sequences: 100 },
  { name: "SORT", arbitrary: FC.oneof({ weight: 9, arbitrary: sorts }, keys), length: 30, sequences: 300 },
  { name: "LCS", arbitrary: FC.oneof({ weight: 9, arbitrary: lcs }, keys), length: 20, sequences: 100 },
  { name: "places", arbitrary: FC.oneof({ weight: 12, arbitrary: places }, keys), length: 30, sequences: 300 },
  { name: "many places", arbitrary: manyPlaces, length: 12, sequences: 200 },
  {
    name: "everything together, with transactions and scripts",
    arbitrary: FC.oneof(
      {
        weight: 200,
        arbitrary: FC.oneof(
          strings,
          bits,
          logs,
          places,
          sorts,
          keys,
          hashes,
          lists,
          sets,
          zsets,
          streams,
          transactions,
          scripts,
          odds
        )
      },
      blocking
    ),
    length: 40,
    sequences: 500
  }
]
