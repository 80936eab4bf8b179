import type * as RateLimiter from "../../src/RateLimiter/index.js"

/** What a process is told that uses rate limits. */
export interface Task {
  readonly options: { readonly url: string } | {
    readonly nodes: ReadonlyArray<{ readonly host: string; readonly port: number }>
  }
  /** By how many milliseconds this process's clock is ahead. */
  readonly ahead: number
  readonly policies: ReadonlyArray<RateLimiter.Policy & { readonly window: number }>
  readonly id: string
  /** How often it asks for a tenth of each limit. */
  readonly times: number
}

/** How many were allowed: by each limit, and by all of them for one identifier each. */
export interface Outcome {
  readonly date: number
  readonly allowed: ReadonlyArray<number>
  readonly together: number
}
