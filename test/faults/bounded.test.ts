/**
 * The reliability suite itself, for a short time and with a few faults. `npm run test:faults` is the whole of it.
 */
import { assert, describe, it } from "@effect/vitest"
import { Console, Effect } from "effect"
import { run, table } from "./run.js"

const SECONDS = 20

const both = [
  "connections are cut",
  "CLIENT KILL",
  "SCRIPT FLUSH",
  "a process is killed, and another takes its place"
]

describe("the reliability suite", () => {
  for (
    const { on, only, seed } of [
      { on: "cluster", only: [...both, "CLUSTER FAILOVER", "slots move with their keys"], seed: 41 },
      { on: "sentinel", only: [...both, "SENTINEL FAILOVER"], seed: 42 }
    ] as const
  ) {
    it.live(
      `finds nothing on ${on}`,
      () =>
        run({ on, seed, only, seconds: SECONDS, processes: 2, pace: 8, say: Console.log }).pipe(
          Effect.tap((report) => Console.log(table(report).join("\n"))),
          Effect.map(({ verdicts }) => {
            assert.deepStrictEqual(verdicts.filter(({ violations }) => violations.length > 0), [])
            assert.deepStrictEqual(verdicts.filter(({ checks }) => checks === 0).map(({ promise }) => promise), [])
          })
        ),
      240_000
    )
  }
})
