/**
 * One of several processes that want the same lock. It takes the address of the server as its argument, and its tasks as
 * messages.
 */
import { Effect, Layer, ManagedRuntime, Redacted } from "effect"
import { withLock } from "effect-redis-kit"
import * as IoRedis from "effect-redis-kit/IoRedis"
import * as Lock from "effect-redis-kit/Lock"
import { Redis } from "ioredis"
import { setTimeout as sleep } from "node:timers/promises"
import * as Peers from "./peers.js"
import { serve } from "./worker.js"

export type Who = "fair" | "unfair" | "redis-semaphore"

export interface Contention {
  readonly who: Who
  readonly name: string
  /** Milliseconds for which everybody keeps the lock. */
  readonly hold: number
  /** For each who wants the lock the time at which to ask, in milliseconds of the epoch. */
  readonly starts: ReadonlyArray<number>
}

/** When somebody asked for the lock, had it, was about to give it back, and had given it back. */
export interface Turn {
  readonly asked: number
  readonly entered: number
  readonly left: number
  readonly done: number
}

const url = process.argv[2]!
const now = (): number => performance.timeOrigin + performance.now()

const runtime = ManagedRuntime.make(Layer.provide(Lock.layer, IoRedis.layer({ url: Redacted.make(url) })))
const redis = new Redis(url)
const { Mutex } = Peers.redisSemaphore()

const ours = ({ hold, name, starts }: Contention, fair: boolean): Promise<ReadonlyArray<Turn>> =>
  runtime.runPromise(Effect.forEach(
    starts,
    (start) =>
      Effect.gen(function*() {
        yield* Effect.sleep(Math.max(0, start - Date.now()))
        const asked = now()
        const body = Effect.gen(function*() {
          const entered = now()
          yield* Effect.sleep(hold)
          return { asked, entered, left: now() }
        })
        const turn = yield* withLock(body, name, { fair })
        return { ...turn, done: now() }
      }),
    { concurrency: "unbounded" }
  ))

const theirs = ({ hold, name, starts }: Contention): Promise<ReadonlyArray<Turn>> =>
  Promise.all(starts.map(async (start) => {
    await sleep(Math.max(0, start - Date.now()))
    const asked = now()
    const mutex = new Mutex(redis, name)
    await mutex.acquire()
    const entered = now()
    await sleep(hold)
    const left = now()
    await mutex.release()
    return { asked, entered, left, done: now() }
  }))

serve((contention: Contention) =>
  contention.who === "redis-semaphore" ? theirs(contention) : ours(contention, contention.who === "fair")
)
