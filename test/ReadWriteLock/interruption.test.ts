import { Effect, Schedule } from "effect"
import * as ReadWriteLock from "../../src/ReadWriteLock/index.js"
import { interruptions } from "../kit/interruption.js"

const scoped = <A, E, R>(effect: Effect.Effect<A, E, R>) => Effect.scoped(Effect.zipRight(effect, Effect.yieldNow()))

const { acquireRead, acquireWrite, tryAcquireRead, tryAcquireWrite, withReadLock, withWriteLock } = ReadWriteLock

interruptions({
  layer: ReadWriteLock.layer,
  keys: "rwlock:",
  competitor: (name) =>
    Effect.all([Effect.yieldNow().pipe(withReadLock(name)), Effect.yieldNow().pipe(withWriteLock(name))], {
      concurrency: 2
    }),
  forms: {
    "acquireRead": (name) => scoped(acquireRead(name)),
    "acquireRead, unfair": (name) => scoped(acquireRead(name, { fair: false })),
    "acquireRead at once": (name) => scoped(acquireRead(name, { waitTimeout: 0 })),
    "acquireRead by a schedule": (name) => scoped(acquireRead(name, { retry: Schedule.spaced("3 millis") })),
    "tryAcquireRead": (name) => scoped(tryAcquireRead(name)),
    "withReadLock": (name) => Effect.yieldNow().pipe(withReadLock(name)),
    "acquireWrite": (name) => scoped(acquireWrite(name)),
    "acquireWrite, unfair": (name) => scoped(acquireWrite(name, { fair: false })),
    "acquireWrite at once": (name) => scoped(acquireWrite(name, { waitTimeout: 0 })),
    "acquireWrite by a schedule": (name) => scoped(acquireWrite(name, { retry: Schedule.spaced("3 millis") })),
    "tryAcquireWrite": (name) => scoped(tryAcquireWrite(name)),
    "withWriteLock": (name) => Effect.yieldNow().pipe(withWriteLock(name)),
    "withReadLock inside of withWriteLock": (name) => Effect.yieldNow().pipe(withReadLock(name), withWriteLock(name)),
    "downgrade": (name) => scoped(Effect.flatMap(acquireWrite(name), ({ downgrade }) => downgrade))
  }
})
