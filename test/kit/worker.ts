/**
 * Programs of the tests that run in processes of their own.
 */
import { Effect, Option, type Scope, Stream } from "effect"
import { type ChildProcess, spawn } from "node:child_process"
import { createInterface } from "node:readline"
import { fileURLToPath } from "node:url"
import { viteNode } from "./viteNode.js"

export interface Worker {
  readonly child: ChildProcess
  /** What it says in lines of JSON. */
  readonly messages: Stream.Stream<any>
  /** The exit code, once it has ended. */
  readonly exit: Effect.Effect<number | null>
}

/** Runs a module with a task as its argument, until the scope closes. One that is a program already runs as it is. */
export const start = (module: URL, task: object): Effect.Effect<Worker, never, Scope.Scope> =>
  Effect.map(
    Effect.acquireRelease(
      Effect.sync(() =>
        spawn(
          process.execPath,
          [...(module.pathname.endsWith(".js") ? [] : viteNode), fileURLToPath(module), JSON.stringify(task)],
          { stdio: ["pipe", "pipe", "inherit"] }
        )
      ),
      (child) => Effect.sync(() => void child.kill("SIGKILL"))
    ),
    (child) => {
      const ended = new Promise<number | null>((resolve) => child.once("exit", resolve))
      return {
        child,
        messages: Stream.fromAsyncIterable(createInterface({ input: child.stdout }), String).pipe(
          Stream.orDie,
          Stream.map((line) => JSON.parse(line))
        ),
        exit: Effect.promise(() => ended)
      }
    }
  )

export const first = (messages: Stream.Stream<any>) => Effect.map(Stream.runHead(messages), Option.getOrThrow)
