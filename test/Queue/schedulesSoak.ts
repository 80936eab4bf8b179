/**
 * `npx vite-node test/Queue/schedulesSoak.ts --seconds 120`: see `schedulesRun.ts`. It ends with 1 when anything is not as it
 * must be.
 */
import { Console, Effect, Logger, LogLevel } from "effect"
import { parseArgs } from "node:util"
import { run } from "./schedulesRun.js"

const { values } = parseArgs({ options: { seconds: { type: "string", default: "120" } } })

const program = Effect.gen(function*() {
  const { kills, problems, runs, slots } = yield* run({
    processes: 4,
    every: 250,
    duration: Number(values.seconds) * 1000,
    killEvery: 3000
  })
  yield* Console.log(`${slots} slots fired, ${runs} handlers ran, ${kills} processes killed`)
  for (const problem of problems) yield* Console.log(`WRONG: ${problem}`)
  if (problems.length > 0) process.exitCode = 1
}).pipe(Effect.scoped, Logger.withMinimumLogLevel(LogLevel.Error))

await Effect.runPromise(program)
