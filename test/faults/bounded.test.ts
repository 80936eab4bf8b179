/**
 * The reliability suite itself, for a short time and with a few faults. `npm run test:faults` is the whole of it.
 */
import { assert, describe, it } from "@effect/vitest"
import { Console, Effect } from "effect"
import { isClean, run, table } from "./run.js"

const SECONDS = 20

/** What passes within a second, also on a busy machine. */
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
    it.live(`has checked every promise on ${on}, and found nothing (seed ${seed})`, () =>
      Effect.gen(function*() {
        const lines: Array<string> = []
        const say = (line: string) => Effect.sync(() => void lines.push(line))
        const report = yield* run({ on, seed, only, seconds: SECONDS, processes: 2, pace: 8, say }).pipe(
          Effect.tapError(() => Console.log(lines.join("\n")))
        )
        if (!isClean(report)) yield* Console.log([...lines, "", ...table(report)].join("\n"))
        assert.deepStrictEqual(report.verdicts.filter(({ violations }) => violations.length > 0), [])
        assert.deepStrictEqual(report.verdicts.filter(({ checks }) => checks === 0).map(({ promise }) => promise), [])
      }), 240_000)
  }
})
