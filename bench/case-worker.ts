/**
 * A process that measures one case: what the cases before it leave in the heap, and what the compiler learns of them, would
 * change its figures.
 */
import { Effect, Fiber } from "effect"
import * as Harness from "./harness.js"
import { Server } from "./server.js"
import { caseOf } from "./suites/index.js"
import { serve } from "./worker.js"

/** What a process is asked to measure. */
export interface Task {
  readonly name: string
  readonly version: string
  readonly options: Harness.Options
}

const [url = ""] = process.argv.slice(2)

const measure = ({ name, options, version }: Task) => {
  const case_ = caseOf(name)
  return case_ === undefined
    ? Effect.dieMessage(`There is no ${name}.`)
    : Effect.provideService(Harness.run(case_, options), Server, { url, version })
}

serve((task: Task) => {
  const fiber = Effect.runFork(measure(task))
  // A case may have started servers.
  const stop = Effect.ensuring(Fiber.interrupt(fiber), Effect.sync(() => process.exit()))
  for (const signal of ["SIGINT", "SIGTERM"] as const) process.once(signal, () => Effect.runFork(stop))
  return Effect.runPromise(Fiber.join(fiber))
})
