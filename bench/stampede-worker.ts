/**
 * One of several processes in which many callers want the same value at once, and nobody has it.
 */
import { Effect, Layer, ManagedRuntime, Redacted, Runtime, Schema } from "effect"
import * as Cache from "effect-redis-kit/Cache"
import * as IoRedis from "effect-redis-kit/IoRedis"
import { Redis } from "ioredis"
import { setTimeout as sleep } from "node:timers/promises"
import * as Peers from "./peers.js"
import { serve } from "./worker.js"

export interface Stampede {
  readonly who: "ours" | "bentocache"
  readonly key: string
  readonly callers: number
  /** How long a lookup takes, in milliseconds. */
  readonly lookup: number
  /** When they ask, in milliseconds of the epoch. */
  readonly start: number
}

export interface Crowd {
  /** How long each caller waited, in milliseconds. */
  readonly times: ReadonlyArray<number>
  readonly lookups: number
}

const url = process.argv[2]!

const user = { id: "7f1f2ad4-55b5-4a1b", name: "Augusta Ada Lovelace", email: "lovelace@example.com", visits: 42 }

const Users = Cache.define({
  name: "stampede",
  key: Schema.String,
  value: Schema.Struct({ id: Schema.String, name: Schema.String, email: Schema.String, visits: Schema.Number }),
  ttl: "1 minute"
})

const runtime = ManagedRuntime.make(Layer.provide(Cache.layer, IoRedis.layer({ url: Redacted.make(url) })))

/** Each caller is a fiber of its own, as requests are. */
const ours = ({ callers, key, lookup, start }: Stampede): Promise<Crowd> =>
  runtime.runPromise(
    Effect.gen(function*() {
      const cache = yield* Cache.open(Users)
      const fork = Runtime.runFork(yield* Effect.runtime())
      const times: Array<number> = []
      let lookups = 0
      const find = Effect.suspend(() => {
        lookups++
        return Effect.delay(Effect.succeed(user), lookup)
      })
      yield* Effect.sleep(Math.max(0, start - Date.now()))
      yield* Effect.async<void>((resume) => {
        for (let n = 0; n < callers; n++) {
          const asked = performance.now()
          fork(cache.getOrSet(key, find)).addObserver(() => {
            times.push(performance.now() - asked)
            if (times.length === callers) resume(Effect.void)
          })
        }
      })
      return { times, lookups }
    }).pipe(Effect.scoped)
  )

const { BentoCache, bentostore, memoryDriver, redisDriver } = await Peers.bentocache()
const bento = new BentoCache({
  default: "store",
  stores: {
    store: bentostore()
      .useL1Layer(memoryDriver({ maxItems: 10_000 }))
      .useL2Layer(redisDriver({ connection: new Redis(url), prefix: "bench:stampede" }))
  }
})

const theirs = async ({ callers, key, lookup, start }: Stampede): Promise<Crowd> => {
  const times: Array<number> = []
  let lookups = 0
  const factory = async () => {
    lookups++
    await sleep(lookup)
    return user
  }
  await sleep(Math.max(0, start - Date.now()))
  await Promise.all(Array.from({ length: callers }, async () => {
    const asked = performance.now()
    await bento.getOrSet({ key, ttl: 60_000, factory })
    times.push(performance.now() - asked)
  }))
  return { times, lookups }
}

serve((stampede: Stampede) => stampede.who === "ours" ? ours(stampede) : theirs(stampede))
