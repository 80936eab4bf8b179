/**
 * `npm run test:faults -- --minutes 10 --seed 7 --on cluster`: see `run.ts`. It ends with 1 when a promise was broken or
 * nothing was checked, and prints the seed with which the same things happen again.
 */
import { Console, Effect } from "effect"
import { parseArgs } from "node:util"
import { isClean, run, table } from "./run.js"

const { values } = parseArgs({
  options: {
    minutes: { type: "string", default: "5" },
    seed: { type: "string", default: `${Math.floor(Math.random() * 1_000_000)}` },
    on: { type: "string", default: "both" },
    processes: { type: "string", default: "3" },
    planted: { type: "boolean", default: false }
  }
})

const fail = (text: string): never => {
  process.stderr.write(`${text}\n`)
  process.exit(1)
}

const number = (name: "minutes" | "processes" | "seed"): number => {
  const n = Number(values[name])
  return Number.isFinite(n) && n >= 0 ? n : fail(`--${name} must be a number, but it is "${values[name]}"`)
}

const kinds = (["cluster", "sentinel"] as const).filter((kind) => values.on === "both" || values.on === kind)
if (kinds.length === 0) fail(`--on must be cluster, sentinel or both, but it is "${values.on}"`)

const program = Effect.gen(function*() {
  const seed = number("seed")
  yield* Console.log(`seed ${seed}`)
  for (const on of kinds) {
    const report = yield* run({
      on,
      seed,
      seconds: number("minutes") * 60,
      processes: number("processes"),
      planted: values.planted,
      say: Console.log
    })
    yield* Console.log(["", ...table(report), ""].join("\n"))
    // Bugs have to be found, each of them.
    const missed = report.verdicts.filter(({ violations }) => values.planted && violations.length === 0)
    for (const { promise } of missed) yield* Console.log(`NOT FOUND: ${promise}`)
    if (values.planted ? missed.length > 0 : !isClean(report)) process.exitCode = 1
  }
})

await Effect.runPromise(program)
