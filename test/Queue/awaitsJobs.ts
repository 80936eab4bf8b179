/**
 * The jobs of `awaitsRun.ts`: what each of them comes to depends on its number alone.
 */
import { Schema } from "effect"
import * as Queue from "../../src/Queue/index.js"

/** What a process is told that works at them. */
export interface Task {
  readonly url: string
  /** Of a job, in milliseconds. */
  readonly lease: number
}

export type Fate = "succeeds" | "fails" | "unrecoverable" | "removed" | "kills"

/** So many of them kill every process that takes them. */
export const fateOf = (n: number, killers: number): Fate => {
  if (n < killers) return "kills"
  const part = n % 10
  return part < 6 ? "succeeds" : part === 6 ? "fails" : part === 7 ? "unrecoverable" : "removed"
}

/** More than processes are killed. */
const ATTEMPTS = 100

export const optionsOf = (n: number, fate: Fate): Queue.EnqueueOptions => ({
  id: `job-${n}`,
  attempts: fate === "kills" ? 1 : fate === "fails" ? 2 : ATTEMPTS,
  ...(fate === "removed" ? { delay: "1 hour" } : {})
})

export const jobs = (lease: number) =>
  Queue.define({
    name: "awaited",
    payload: Schema.Struct({
      n: Schema.Number,
      fate: Schema.Literal("succeeds", "fails", "unrecoverable", "removed", "kills")
    }),
    result: Schema.Number,
    backoff: () => 20,
    lease,
    completed: { count: 1_000_000, age: "1 hour" }
  })
