/**
 * What `HRANDFIELD`, `ZRANDMEMBER` and `SRANDMEMBER` share.
 */
import type { Indexed, Node } from "../collections.js"
import { type Argv, fail, is, signedCount } from "../command.js"
import type { Engine } from "../Engine.js"
import type { Random } from "../random.js"
import type { EngineReply } from "../reply.js"
import { SYNTAX } from "../values.js"

/** Different elements, in a random order. */
export const sample = <N extends Node>(elements: Indexed<N>, count: number, random: Random): Array<N> => {
  if (count * 3 < elements.size) {
    const chosen = new Map<string, N>()
    while (chosen.size < count) {
      const node = elements.random(random)
      if (node !== undefined) chosen.set(node.key, node)
    }
    return [...chosen.values()]
  }
  const all = [...elements.values()]
  const size = Math.min(count, all.length)
  for (let i = 0; i < size; i++) {
    const j = i + random.below(all.length - i)
    const swap = all[i]!
    all[i] = all[j]!
    all[j] = swap
  }
  return all.slice(0, size)
}

/** With a count below zero the same element may come again. */
export const choose = <N extends Node>(elements: Indexed<N>, count: number, random: Random): Array<N> => {
  if (count >= 0) return sample(elements, count, random)
  const out: Array<N> = []
  for (let i = count; i < 0; i++) {
    const node = elements.random(random)
    if (node !== undefined) out.push(node)
  }
  return out
}

const MAX_LONG = 2 ** 63

export const randomElements = <N extends Node>(
  engine: Engine,
  argv: Argv,
  withOption: "WITHVALUES" | "WITHSCORES",
  lookup: () => Indexed<N> | undefined,
  more: (node: N) => ReadonlyArray<string>
): EngineReply => {
  if (argv.length < 3) return lookup()?.random(engine.random)?.key ?? null
  const count = signedCount(argv[2]!)
  const withMore = argv.length === 4
  if (argv.length > 4 || (withMore && !is(argv[3], withOption))) throw SYNTAX
  if (withMore && Math.abs(count) > MAX_LONG / 2) return fail("ERR value is out of range")
  const elements = lookup()
  if (elements === undefined) return []
  const chosen = choose(elements, count, engine.random)
  return withMore ? chosen.flatMap((node) => [node.key, ...more(node)]) : chosen.map((node) => node.key)
}
