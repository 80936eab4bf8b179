/**
 * Waiting for entries: one blocked connection for all streams that a process, that is one built layer, waits for. On a
 * Cluster it is one for each slot.
 *
 * It only says that there is something to read. So what it waits for can change at any time, nothing is lost when it is
 * interrupted, and whoever waits can stop at once.
 */
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as FiberSet from "effect/FiberSet"
import * as Layer from "effect/Layer"
import * as Random from "effect/Random"
import type * as Scope from "effect/Scope"
import { type Connection, RedisClient, type Reply } from "../RedisClient.js"
import { RedisConnectionError, type RedisError } from "../RedisError.js"
import { rawEntry } from "./codec.js"
import { isBefore } from "./ids.js"

/** How long the server is asked to wait. A connection that the network has swallowed is found out a little later. */
const BLOCK = 30_000
const OVERDUE = 5000

const FIRST_PAUSE = 100
const LONGEST_PAUSE = 2000

interface Waiter {
  readonly key: string
  readonly after: string
  readonly wake: () => void
}

/** What waits for the streams of one slot. */
interface Reader {
  readonly slot: number
  users: number
  readonly waiters: Set<Waiter>
  /** From where each stream is read at this moment. */
  reading: ReadonlyMap<string, string> | undefined
  /** Somebody waits for what is not read at this moment. */
  stale: boolean
  /** Ends the present wait. */
  kick: (() => void) | undefined
  readonly fiber: Fiber.RuntimeFiber<void>
}

/**
 * Calls back once when there may be an entry after this one: also when the connection was lost, or is closed. Returns how
 * to forget it.
 */
export type Waiting = (after: string, wake: () => void) => () => void

export interface Service {
  /**
   * Whoever is going to wait for a stream again and again. The connection is made for the first who waits, and closed
   * with the last scope.
   */
  readonly use: (key: string) => Effect.Effect<Waiting, never, Scope.Scope>
}

export class Waker extends Context.Tag("effect-redis-kit/Stream/Waker")<Waker, Service>() {}

const covers = (reader: Reader, { after, key }: Waiter): boolean => {
  const from = reader.reading?.get(key)
  return from !== undefined && !isBefore(after, from)
}

export const make: Effect.Effect<Service, never, RedisClient | Scope.Scope> = Effect.gen(function*() {
  const client = yield* RedisClient
  const fork = yield* FiberSet.makeRuntime<never>()
  const readers = new Map<number, Reader>()

  const kicked = (reader: Reader): Effect.Effect<void> =>
    Effect.async((resume) => {
      if (reader.stale) return resume(Effect.void)
      reader.kick = () => {
        reader.kick = undefined
        resume(Effect.void)
      }
      return Effect.sync(() => void (reader.kick = undefined))
    })

  const wakeAll = (reader: Reader): void => {
    for (const waiter of reader.waiters) waiter.wake()
    reader.waiters.clear()
  }

  /** Each stream with the id of its first entry that is new. */
  const dispatch = (reader: Reader, reply: Reply): void => {
    if (!Array.isArray(reply)) return
    const first = new Map<unknown, string>()
    for (const stream of reply) {
      const entry = Array.isArray(stream) && Array.isArray(stream[1]) ? rawEntry(stream[1][0]) : undefined
      if (entry !== undefined) first.set(stream[0], entry.id)
    }
    for (const waiter of reader.waiters) {
      const id = first.get(client.key(waiter.key))
      if (id === undefined || !isBefore(waiter.after, id)) continue
      reader.waiters.delete(waiter)
      waiter.wake()
    }
  }

  const block = (reader: Reader, connection: Connection): Effect.Effect<void, RedisError> =>
    Effect.suspend(() => {
      reader.stale = false
      const positions = new Map<string, string>()
      for (const { after, key } of reader.waiters) {
        const from = positions.get(key)
        if (from === undefined || isBefore(after, from)) positions.set(key, after)
      }
      if (positions.size === 0) return kicked(reader)
      reader.reading = positions
      const read = connection.sendBlocking(
        "XREAD",
        ["COUNT", 1, "BLOCK", BLOCK, "STREAMS", ...Array.from(positions.keys(), client.key), ...positions.values()],
        // Reading takes nothing away.
        () => Effect.void
      )
      return read.pipe(
        Effect.timeoutFail({
          duration: Duration.millis(BLOCK + OVERDUE),
          onTimeout: () =>
            new RedisConnectionError({
              target: client.target,
              reason: "unavailable",
              detail: "no reply to a command that blocks"
            })
        }),
        Effect.map((reply) => dispatch(reader, reply)),
        Effect.raceFirst(kicked(reader)),
        Effect.ensuring(Effect.sync(() => void (reader.reading = undefined)))
      )
    })

  const loop = (slot: number): Effect.Effect<void> => {
    let pause = FIRST_PAUSE
    const session = (reader: Reader) =>
      Effect.scoped(Effect.gen(function*() {
        reader.stale = false
        const some = reader.waiters.values().next()
        if (some.done === true) return yield* kicked(reader)
        const connection = yield* client.reserve({ key: some.value.key })
        while (true) {
          yield* block(reader, connection)
          pause = FIRST_PAUSE
        }
      }))
    return Effect.suspend(() => {
      const reader = readers.get(slot)
      return reader === undefined ? Effect.void : session(reader)
    }).pipe(
      // Those who wait ask the server themselves then, and learn what is wrong with it.
      Effect.catchAll(() =>
        Effect.flatMap(Random.next, (jitter) => {
          const millis = Math.ceil(pause * (0.5 + jitter / 2))
          pause = Math.min(LONGEST_PAUSE, 2 * pause)
          return Effect.zipRight(
            Effect.sleep(Duration.millis(millis)),
            Effect.sync(() => {
              const reader = readers.get(slot)
              if (reader !== undefined) wakeAll(reader)
            })
          )
        })
      ),
      Effect.forever
    )
  }

  const enter = (key: string): Reader => {
    const slot = client.mode === "cluster" ? client.slot(key) : 0
    const known = readers.get(slot)
    if (known !== undefined) {
      known.users++
      return known
    }
    const reader: Reader = {
      slot,
      users: 1,
      waiters: new Set(),
      reading: undefined,
      stale: false,
      kick: undefined,
      // Somebody may come where nothing can be interrupted, and the end of the scope must not wait for an entry.
      fiber: fork(Effect.zipRight(Effect.yieldNow(), Effect.interruptible(loop(slot))))
    }
    readers.set(slot, reader)
    return reader
  }

  const leave = (reader: Reader): Effect.Effect<void> =>
    Effect.suspend(() => {
      if (--reader.users > 0) return Effect.void
      readers.delete(reader.slot)
      wakeAll(reader)
      return Fiber.interrupt(reader.fiber)
    })

  const listen = (reader: Reader, key: string, after: string, wake: () => void): () => void => {
    const waiter: Waiter = { key, after, wake }
    reader.waiters.add(waiter)
    if (!covers(reader, waiter)) {
      reader.stale = true
      reader.kick?.()
    }
    return () => void reader.waiters.delete(waiter)
  }

  return {
    use: (key) =>
      Effect.map(
        Effect.acquireRelease(Effect.sync(() => enter(key)), leave),
        (reader): Waiting => (after, wake) => listen(reader, key, after, wake)
      )
  }
})

/** The same as an effect. */
export const wait = (waiting: Waiting, after: string): Effect.Effect<void> =>
  Effect.async((resume) => {
    const cancel = waiting(after, () => resume(Effect.void))
    return Effect.sync(cancel)
  })

/** A constant, so that streams and groups that are built together share one. */
export const layer: Layer.Layer<Waker, never, RedisClient> = Layer.scoped(Waker, make)
