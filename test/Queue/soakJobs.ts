/**
 * The jobs of the soak test: what each of them is meant to come to depends on its number alone.
 */
import { Schedule, Schema } from "effect"
import * as Queue from "../../src/Queue/index.js"

/** What a process is told that works at them. */
export interface Task {
  readonly url: string
  /** Where it writes down what it does, in a file of its own. */
  readonly folder: string
  /** Of a job, in milliseconds. */
  readonly lease: number
  readonly concurrency: number
}

export const ATTEMPTS = 4

/** After so many failures a job succeeds, if it does. */
export type Fate = { readonly failures: number } | "always fails" | "gives up" | "garbled"

export const fateOf = (n: number): Fate => {
  const part = n % 100
  if (part < 3) return "always fails"
  if (part < 5) return "gives up"
  if (part < 6) return "garbled"
  return { failures: part < 20 ? 1 : part < 25 ? 2 : 0 }
}

/** How long it takes to handle. */
export const millisOf = (n: number): number => n * 37 % 30

export const optionsOf = (n: number): Queue.EnqueueOptions => ({
  id: `job-${n}`,
  priority: n % 11 === 0 ? 1 : 0,
  ...(n % 13 === 0 ? { delay: n % 500 } : {})
})

export const numberOf = (id: string): number => Number(id.slice("job-".length))

const settings = (lease: number) => ({
  name: "soak",
  attempts: ATTEMPTS,
  backoff: Schedule.spaced("50 millis"),
  lease,
  deadLetters: { count: 1_000_000 }
})

export class Failed extends Schema.TaggedError<Failed>()("Failed", { final: Schema.Boolean }) {}

export const jobs = (lease: number) =>
  Queue.define({
    ...settings(lease),
    payload: Schema.Struct({ n: Schema.Number }),
    retryable: (error) => !(error instanceof Failed && error.final)
  })

/** The same queue, for a producer that may write anything. */
export const anything = (lease: number) => Queue.define({ ...settings(lease), payload: Schema.Unknown })
