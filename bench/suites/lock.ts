/**
 * Locks beside redis-semaphore's mutex, which has neither a queue nor a fencing token.
 */
import { Context, Effect, Layer, Redacted } from "effect"
import { withLock } from "effect-redis-kit"
import * as IoRedis from "effect-redis-kit/IoRedis"
import * as Lock from "effect-redis-kit/Lock"
import * as Quorum from "effect-redis-kit/Quorum"
import * as ReadWriteLock from "effect-redis-kit/ReadWriteLock"
import * as Semaphore from "effect-redis-kit/Semaphore"
import type { ChildProcess } from "node:child_process"
import { type Case, type Contender, fibers, promises } from "../harness.js"
import type { Turn, Who } from "../lock-worker.js"
import * as Peers from "../peers.js"
import { another, connect, connectTo, PREFIX, Server } from "../server.js"
import { ask, worker } from "../worker.js"

const NAMES = 1000
const names = Array.from({ length: NAMES }, (_, i) => `${PREFIX}lock:${i}`)
const nameOf = (n: number): string => names[n % NAMES]!

// ---------------------------------------------------------------------------------------------------------------------
// Nobody else wants the lock
// ---------------------------------------------------------------------------------------------------------------------

const uncontended = (name: string, loops: number, target: number, options: Lock.Options): Case => ({
  measures: [{ name: `${name}.${loops}`, unit: "op/s", better: "higher", target: { ratio: target } }],
  contenders: Effect.gen(function*() {
    const { url } = yield* Server
    const context = yield* Layer.build(Layer.provide(Lock.layer, IoRedis.layer({ url: Redacted.make(url) })))
    const lock = Context.get(context, Lock.Lock)
    const redis = yield* connect()
    const { Mutex } = Peers.redisSemaphore()
    const redlock = new (Peers.redlock().default)([redis])
    return [
      {
        name: "ours",
        slice: (seconds) =>
          Effect.provide(fibers(loops, (n) => withLock(Effect.void, nameOf(n), options))(seconds), context)
      },
      {
        name: "redis-semaphore",
        slice: promises(loops, async (n) => {
          const mutex = new Mutex(redis, nameOf(n))
          await mutex.acquire()
          await mutex.release()
        })
      },
      {
        name: "ours, acquire in a scope",
        slice: fibers(loops, (n) => Effect.scoped(lock.acquire(nameOf(n), options)))
      },
      {
        name: "redlock",
        slice: promises(loops, async (n) => {
          const held = await redlock.acquire([nameOf(n)], 10_000)
          await held.release()
        })
      }
    ]
  })
})

/** As many permits as there are loops: nobody waits, and all are in one set of keys. */
const semaphore = (loops: number): Case => ({
  measures: [{ name: `lock.semaphore.${loops}`, unit: "op/s", better: "higher", target: { ratio: 0.8 } }],
  contenders: Effect.gen(function*() {
    const { url } = yield* Server
    const context = yield* Layer.build(
      Layer.provide(Layer.merge(Semaphore.layer, ReadWriteLock.layer), IoRedis.layer({ url: Redacted.make(url) }))
    )
    const permits = Semaphore.define({ name: `${PREFIX}permits`, permits: loops })
    const redis = yield* connect()
    const Peer = Peers.redisSemaphore().Semaphore
    return [
      {
        name: "ours",
        slice: (seconds) =>
          Effect.provide(fibers(loops, () => Semaphore.withPermits(Effect.void, permits))(seconds), context)
      },
      {
        name: "redis-semaphore",
        slice: promises(loops, async () => {
          const semaphore = new Peer(redis, `${PREFIX}peer:permits`, loops)
          await semaphore.acquire()
          await semaphore.release()
        })
      },
      {
        name: "ours, readers of one lock",
        slice: (seconds) =>
          Effect.provide(
            fibers(loops, () => ReadWriteLock.withReadLock(Effect.void, `${PREFIX}read`))(seconds),
            context
          )
      },
      {
        name: "ours, writers",
        slice: (seconds) =>
          Effect.provide(fibers(loops, (n) => ReadWriteLock.withWriteLock(Effect.void, nameOf(n)))(seconds), context)
      }
    ]
  })
})

/** Three names at once. */
const several = (loops: number): Case => ({
  measures: [{ name: `lock.names3.${loops}`, unit: "op/s", better: "higher", target: { ratio: 0.8 } }],
  contenders: Effect.gen(function*() {
    const { url } = yield* Server
    const context = yield* Layer.build(Layer.provide(Lock.layer, IoRedis.layer({ url: Redacted.make(url) })))
    const redis = yield* connect()
    const redlock = new (Peers.redlock().default)([redis])
    const three = (n: number) => ["a", "b", "c"].map((part) => `${nameOf(n)}:${part}`)
    return [
      {
        name: "ours",
        slice: (seconds) =>
          Effect.provide(fibers(loops, (n) => Lock.withLocks(Effect.void, three(n)))(seconds), context)
      },
      {
        name: "redlock",
        slice: promises(loops, async (n) => {
          const held = await redlock.acquire(three(n), 10_000)
          await held.release()
        })
      }
    ]
  })
})

/** Over three servers. */
const quorum = (loops: number): Case => ({
  measures: [{ name: `lock.quorum3.${loops}`, unit: "op/s", better: "higher", target: { ratio: 1 } }],
  contenders: Effect.gen(function*() {
    const urls = yield* Effect.replicateEffect(another, 3)
    // These try again until the servers are there.
    const clients = yield* Effect.forEach(urls, (url) => connectTo(url))
    const [first, ...others] = urls.map((url) => IoRedis.layer({ url: Redacted.make(url) }))
    const context = yield* Layer.build(Quorum.layer([first!, ...others]))
    const redlock = new (Peers.redlock().default)(clients)
    const { RedlockMutex } = Peers.redisSemaphore()
    return [
      {
        name: "ours",
        slice: (seconds) =>
          Effect.provide(fibers(loops, (n) => Quorum.withLock(Effect.void, nameOf(n)))(seconds), context)
      },
      {
        name: "redlock",
        slice: promises(loops, async (n) => {
          const held = await redlock.acquire([nameOf(n)], 10_000)
          await held.release()
        })
      },
      {
        name: "redis-semaphore",
        slice: promises(loops, async (n) => {
          const mutex = new RedlockMutex(clients, nameOf(n))
          await mutex.acquire()
          await mutex.release()
        })
      }
    ]
  })
})

// ---------------------------------------------------------------------------------------------------------------------
// Many want the lock at once
// ---------------------------------------------------------------------------------------------------------------------

const WAITERS = 50
const HOLD = 5

/** Shorter than `HOLD`, so that a queue forms; long enough for a command to arrive before the next one is sent. */
const STAGGER = 3

let rounds = 0

/** Lets them all ask for one lock, `stagger` milliseconds one after the other, and returns their turns in order. */
const contend = (workers: ReadonlyArray<ChildProcess>, who: Who, stagger: number) =>
  Effect.gen(function*() {
    const name = `${PREFIX}contended:${rounds++}`
    const start = Date.now() + 50
    const answers = yield* Effect.forEach(workers, (child, i) =>
      ask<ReadonlyArray<Turn>>(child, {
        who,
        name,
        hold: HOLD,
        starts: Array.from({ length: WAITERS / workers.length }, (_, n) => start + (n * workers.length + i) * stagger)
      }), { concurrency: "unbounded" })
    const turns = answers.flat().toSorted((a, b) => a.entered - b.entered)
    for (let i = 1; i < turns.length; i++) {
      // Clocks of two processes may differ by some microseconds.
      if (turns[i]!.entered < turns[i - 1]!.left - 0.5) return yield* Effect.dieMessage(`${who}: two held the lock`)
    }
    return turns
  })

const duration = (turns: ReadonlyArray<Turn>): number =>
  Math.max(...turns.map((turn) => turn.done)) - Math.min(...turns.map((turn) => turn.asked))

/** How many places anybody was served before or after his place in the order of asking, at most. */
const displacement = (turns: ReadonlyArray<Turn>): number => {
  const order = turns.toSorted((a, b) => a.asked - b.asked)
  return Math.max(...turns.map((turn, i) => Math.abs(i - order.indexOf(turn))))
}

/**
 * The commands that clients send while something runs. `INFO commandstats` counts what scripts do inside as well, and
 * `MONITOR` tells the two apart. It slows the server down, so nothing is timed meanwhile.
 */
const countCommands = <A, E, R>(effect: Effect.Effect<A, E, R>) =>
  Effect.scoped(Effect.gen(function*() {
    const redis = yield* connect()
    const monitor = yield* Effect.acquireRelease(
      Effect.promise(() => redis.monitor()),
      (monitor) => Effect.sync(() => monitor.disconnect())
    )
    let count = 0
    const end = `${PREFIX}end:${rounds++}`
    const ended = new Promise<void>((resolve) => {
      monitor.on("monitor", (_time: string, args: ReadonlyArray<string>, source: string) => {
        if (args[1] === end) resolve()
        else if (source !== "lua") count++
      })
    })
    const result = yield* effect
    yield* Effect.promise(() => redis.echo(end))
    yield* Effect.promise(() => ended)
    return [count, result] as const
  }))

const contended = (processes: number, target: number): Case => {
  const name = `lock.contended.${processes}p`
  return {
    measures: [
      { name, unit: "ms", better: "lower", target: { absolute: target } },
      { name: `${name}.commands`, unit: "commands", better: "lower", target: { absolute: 3.2 } },
      { name: `${name}.displacement`, unit: "places", better: "lower", target: { absolute: 0 } }
    ],
    contenders: Effect.gen(function*() {
      const context = yield* Effect.context<Server>()
      const workers = yield* Effect.replicateEffect(worker("./lock-worker.js"), processes)
      const contender = (label: string, who: Who): Contender => ({
        name: label,
        slice: () =>
          Effect.gen(function*() {
            const turns = yield* contend(workers, who, 0)
            const [commands] = yield* countCommands(contend(workers, who, 0))
            // Who of several processes asked first is only known when they do not all ask at the same moment.
            const staggered = yield* contend(workers, who, STAGGER)
            return [duration(turns), commands / WAITERS, displacement(staggered)]
          }).pipe(Effect.provide(context))
      })
      return [
        contender("ours", "fair"),
        contender("redis-semaphore", "redis-semaphore"),
        contender("ours, fair: false", "unfair")
      ]
    })
  }
}

export const cases: ReadonlyArray<Case> = [
  uncontended("lock.uncontended", 1, 0.8, {}),
  uncontended("lock.uncontended", 100, 0.88, {}),
  uncontended("lock.unfair", 1, 0.95, { fair: false }),
  uncontended("lock.unfair", 100, 0.9, { fair: false }),
  semaphore(100),
  several(100),
  quorum(100),
  contended(1, 300),
  contended(5, 350)
]
