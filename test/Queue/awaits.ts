/**
 * `npx vite-node test/Queue/awaits.ts`: see `awaitsRun.ts`. It ends with 1 when anything is not as it must be.
 */
import { Console, Effect, Logger, LogLevel } from "effect"
import { run } from "./awaitsRun.js"

const program = Effect.gen(function*() {
  const report = yield* run({
    jobs: 10_000,
    processes: 3,
    killEvery: 15_000,
    lease: 2000,
    killers: 5,
    spread: 10_000,
    say: Console.log
  })
  yield* Console.log(JSON.stringify(report.ends))
  yield* Console.log(
    `${report.kills} processes killed, ${report.subscriptions} subscription at most, ${report.millis / 1000} s`
  )
  for (const problem of report.problems.slice(0, 20)) yield* Console.log(`WRONG: ${problem}`)
  if (report.problems.length > 0) process.exitCode = 1
}).pipe(Effect.scoped, Logger.withMinimumLogLevel(LogLevel.Error))

await Effect.runPromise(program)
