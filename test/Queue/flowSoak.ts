/**
 * `npx vite-node test/Queue/flowSoak.ts --flows 1000`: see `flowSoakRun.ts`. It ends with 1 when anything is not as it must be.
 */
import { Console, Effect, Logger, LogLevel } from "effect"
import { parseArgs } from "node:util"
import { run } from "./flowSoakRun.js"

const { values } = parseArgs({
  options: {
    flows: { type: "string", default: "1000" },
    lease: { type: "string", default: "2000" },
    "kill-every": { type: "string", default: "2000" }
  }
})

const program = Effect.gen(function*() {
  const { again, flows, kills, millis, problems, runs } = yield* run({
    flows: Number(values.flows),
    lease: Number(values.lease),
    killEvery: Number(values["kill-every"]),
    say: Console.log
  })
  yield* Console.log(`${flows} flows in ${(millis / 1000).toFixed(1)} s, ${kills} processes killed`)
  yield* Console.log(`${runs} handlers came to their ends, ${again} of them for a job that had done so before`)
  for (const problem of problems.slice(0, 20)) yield* Console.log(`WRONG: ${problem}`)
  yield* Console.log(problems.length === 0 ? "all is well" : `${problems.length} things are wrong`)
  if (problems.length > 0) process.exitCode = 1
}).pipe(Effect.scoped, Logger.withMinimumLogLevel(LogLevel.Error))

await Effect.runPromise(program)
