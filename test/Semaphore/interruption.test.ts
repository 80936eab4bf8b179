import { Effect, Schedule } from "effect"
import * as Semaphore from "../../src/Semaphore/index.js"
import { interruptions } from "../kit/interruption.js"

const scoped = <A, E, R>(effect: Effect.Effect<A, E, R>) => Effect.scoped(Effect.zipRight(effect, Effect.yieldNow()))

const of = (name: string) => Semaphore.define({ name, permits: 2 })

interruptions({
  layer: Semaphore.layer,
  keys: "semaphore:",
  competitor: (name) => Effect.yieldNow().pipe(Semaphore.withPermits(of(name), 2)),
  forms: {
    "acquire": (name) => scoped(Semaphore.acquire(of(name))),
    "acquire all": (name) => scoped(Semaphore.acquire(of(name), 2)),
    "acquire, unfair": (name) => scoped(Semaphore.acquire(of(name), 1, { fair: false })),
    "acquire at once": (name) => scoped(Semaphore.acquire(of(name), 1, { waitTimeout: 0 })),
    "acquire by a schedule": (name) => scoped(Semaphore.acquire(of(name), 1, { retry: Schedule.spaced("3 millis") })),
    "tryAcquire": (name) => scoped(Semaphore.tryAcquire(of(name), 2)),
    "withPermits": (name) => Effect.yieldNow().pipe(Semaphore.withPermits(of(name))),
    "replicas": (name) =>
      Effect.yieldNow().pipe(
        Semaphore.withPermits(of(name), 1, { minReplicas: 1, replicaTimeout: "5 millis" })
      )
  }
})
