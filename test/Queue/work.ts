/**
 * The call of a worker, as a worker makes it: by the script for plain queues, and by the other one when that says so.
 */
import { Effect } from "effect"
import type { Keys } from "../../src/Queue/keys.js"
import * as scripts from "../../src/Queue/scripts.js"
import type { Service as Client } from "../../src/RedisClient.js"

export const work = (
  client: Client,
  keys: Keys,
  worker: string,
  call: number,
  terms: scripts.Terms,
  want: number,
  settles: ReadonlyArray<string>
) => {
  const memory = `${keys.taken}:${worker}`
  const inGroups = terms.groups !== undefined
  const other = client.eval(
    inGroups ? scripts.workInGroups : scripts.work,
    { keys: (inGroups ? scripts.keysForGroups : scripts.keysFor)(keys, memory), call },
    worker,
    terms,
    want,
    0,
    settles
  )
  const completed = inGroups ? undefined : scripts.completedOf(terms, settles, want)
  return completed === undefined ? other : Effect.flatMap(
    client.eval(
      scripts.workPlainly,
      { keys: scripts.keysForPlain(keys, memory), call },
      worker,
      terms,
      want,
      completed
    ),
    (claimed) => claimed === undefined ? other : Effect.succeed(claimed)
  )
}
