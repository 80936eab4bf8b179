/** What a process is told that fights for permits. */
export interface Task {
  readonly url: string
  readonly kind: "semaphore" | "rwlock"
  readonly name: string
  /** Of the semaphore. */
  readonly permits: number
  readonly fibers: number
  readonly rounds: number
  /** By how many milliseconds this process's clock is ahead. */
  readonly ahead: number
}

/** What a writer counts for, where a reader is one. */
export const WRITER = 1000
