/**
 * Processes that do their part of a case, task by task.
 */
import { Effect, type Scope } from "effect"
import { type ChildProcess, fork } from "node:child_process"
import { fileURLToPath } from "node:url"
import { Server } from "./server.js"

/** A process that runs this file of the benchmarks. It gets the address of the server as its argument. */
export const worker = (file: string): Effect.Effect<ChildProcess, never, Server | Scope.Scope> =>
  Effect.flatMap(Server, ({ url }) =>
    Effect.acquireRelease(
      Effect.sync(() => fork(fileURLToPath(new URL(file, import.meta.url)), [url], { serialization: "advanced" })),
      (child) => Effect.sync(() => child.kill())
    ))

/** Sends it a task, and waits for its answer. */
export const ask = <Answer>(child: ChildProcess, task: object): Effect.Effect<Answer> =>
  Effect.async((resume) => {
    const onExit = (code: number | null) => resume(Effect.dieMessage(`a worker ended with ${code}`))
    child.once("exit", onExit)
    child.once("message", (answer: Answer) => {
      child.off("exit", onExit)
      resume(Effect.succeed(answer))
    })
    child.send(task)
  })

/** In a worker: answers each task. */
export const serve = <Task, Answer>(answer: (task: Task) => Promise<Answer>): void => {
  process.on("message", (task: Task) => {
    answer(task).then((result) => process.send?.(result), (error: unknown) => {
      process.stderr.write(`${String(error)}\n`)
      process.exit(1)
    })
  })
  process.on("disconnect", () => process.exit())
}
