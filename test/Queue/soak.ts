/**
 * `npx vite-node test/Queue/soak.ts --jobs 200000`: see `soakRun.ts`. It ends with 1 when anything is not as it must be.
 */
import { Console, Effect, Logger, LogLevel } from "effect"
import { parseArgs } from "node:util"
import { type Report, run } from "./soakRun.js"

const { values } = parseArgs({
  options: {
    jobs: { type: "string", default: "200000" },
    rate: { type: "string", default: "2000" },
    lease: { type: "string", default: "5000" },
    "kill-every": { type: "string", default: "2000" },
    downtime: { type: "string", default: "30000" }
  }
})

const number = (name: keyof typeof values): number => {
  const n = Number(values[name])
  if (Number.isSafeInteger(n) && n > 0) return n
  process.stderr.write(`--${name} must be a whole number above 0, but it is "${values[name]}"\n`)
  process.exit(1)
}

const show = ({ again, dead, done, jobs, kills, millis, outages, problems, runs, unseen }: Report) => [
  `${jobs} jobs in ${(millis / 1000).toFixed(1)} s: ${done} done, dead letters ${JSON.stringify(dead)}`,
  `${runs} handlers ran; ${again} of them for a job whose last handler had been cut off, and ${unseen} attempts were lost`
  + " before a handler started",
  `${kills} processes killed, one stopped, the server killed ${outages} times`,
  ...problems.slice(0, 20).map((problem) => `WRONG: ${problem}`),
  problems.length === 0 ? "all is well" : `${problems.length} things are wrong`
]

const program = Effect.gen(function*() {
  const report = yield* run({
    jobs: number("jobs"),
    rate: number("rate"),
    lease: number("lease"),
    killEvery: number("kill-every"),
    downtime: number("downtime"),
    say: Console.log
  })
  for (const line of show(report)) yield* Console.log(line)
  if (report.problems.length > 0) process.exitCode = 1
}).pipe(Effect.scoped, Logger.withMinimumLogLevel(LogLevel.Error))

await Effect.runPromise(program)
