/**
 * How the idle workers of one process, that is of one built layer, hear that there is something to do.
 *
 * On one node they wait with one command on one connection of their own: it takes the first marker of any of their queues,
 * and so wakes one process. On a Cluster, where queues are on different nodes, a message on the shared subscriber wakes
 * all. A worker never counts on it: it looks again by itself after a while.
 */
import * as Cause from "effect/Cause"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Fiber from "effect/Fiber"
import * as FiberId from "effect/FiberId"
import * as Schedule from "effect/Schedule"
import type * as Scope from "effect/Scope"
import * as Alarm from "../internal/alarm.js"
import { type BytesReply, type Connection, Listen, type Message, type Service as Client } from "../RedisClient.js"
import { RedisConnectionError, type RedisError } from "../RedisError.js"
import type { Keys } from "./keys.js"

/** A worker of a queue. */
export interface Waiter {
  /** Something is there, or may have been missed. */
  readonly wake: () => void
  /** Somebody has cancelled a job. */
  readonly cancel: (id: string) => void
}

export interface Registration {
  /** The worker is idle from now on, until it is woken. */
  readonly wait: () => void
}

export interface Wakeups {
  readonly register: (keys: Keys, waiter: Waiter) => Effect.Effect<Registration, never, Scope.Scope>
  /** Hears messages in the background. Without the server it goes on, and after an outage `onGap` is called. */
  readonly listen: (
    channel: string,
    onMessage: (message: Message) => void,
    onGap: () => void
  ) => Effect.Effect<unknown, never, Scope.Scope>
}

/** How long those wait who have nothing to do. */
export interface Pace {
  /** How long the server lets us wait, in seconds; 0 for ever. */
  readonly block: number
  /** In how many milliseconds an idle worker looks again, when it has found nothing so often. */
  readonly poll: (looks: number) => number
  /** How often an idle worker of an inspected queue says that it is alive, in milliseconds. */
  readonly report: number
}

/** A process that has taken a marker may die before it has looked, and a connection may be gone without a word. */
export const onServer: Pace = { block: 10, poll: () => 5000, report: 10_000 }

/** There nothing of that happens, and weeks go by in a test: each look is half as urgent as the one before. */
export const inMemory: Pace = {
  block: 0,
  poll: (looks) => 5000 * 2 ** Math.min(Math.max(0, looks - 1), 30),
  report: Infinity
}

/** How long we wait for an answer that is due, in seconds. */
const PATIENCE = 5

/** While the server can't be reached. */
const pauses = Schedule.exponential("50 millis").pipe(
  Schedule.delayed((delay) => Duration.min(delay, Duration.seconds(1))),
  Schedule.resetAfter("5 seconds")
)

/** Hears of messages as long as it runs, once the server is there. What came before may have been missed. */
export const listening = (
  client: Client,
  channel: string,
  onMessage: (message: Message) => void,
  onGap: () => void
): Effect.Effect<never, RedisError> =>
  client[Listen]({ channels: [channel] }, { onMessage, onGap }).pipe(
    Effect.tap(() => Effect.sync(onGap)),
    Effect.retry(pauses),
    Effect.zipRight(Effect.never),
    Effect.scoped
  )

interface Queue {
  readonly waiters: Set<Waiter>
  readonly idle: Set<Waiter>
}

/** The command that waits at present. */
interface Blocked {
  readonly fiber: Fiber.RuntimeFiber<unknown, RedisError>
  /** What it would take. */
  readonly markers: ReadonlyArray<string>
  /** When the server must have answered, by the alarm. */
  readonly until: number
}

/** The connection on which commands wait. */
interface Line {
  readonly connection: Connection
  readonly fail: (cause: Cause.Cause<RedisError>) => void
}

const decoder = new TextDecoder()

export const make = (client: Client, { block }: Pace): Effect.Effect<Wakeups, never, Scope.Scope> =>
  Effect.gen(function*() {
    /** Gives up a command that the server would have answered. Most waits find it set already, and cost no timer. */
    const alarm = yield* Alarm.make(() => {
      if (blocked === undefined) return
      if (alarm.now() < blocked.until) return alarm.ringBy(blocked.until)
      line?.fail(Cause.fail(
        new RedisConnectionError({ target: client.target, reason: "unavailable", detail: "no answer to BZPOPMIN" })
      ))
    })
    let closed = false
    yield* Effect.addFinalizer(() => Effect.sync(() => closed = true))
    /** By the marker, as the server knows it. */
    const queues = new Map<string, Queue>()
    let line: Line | undefined
    let blocked: Blocked | undefined
    /** Nobody is idle yet, and the first connection waits for somebody who is. */
    let asleep: (() => void) | undefined
    let started = false
    let again = false
    let turn = 0
    const patience = block === 0 ? Infinity : (block + PATIENCE) * 1000

    const wakeAll = ({ idle }: Queue): void => {
      const waiters = Array.from(idle)
      idle.clear()
      for (const { wake } of waiters) wake()
    }

    const onMarker = (marker: string): Effect.Effect<unknown, RedisError> => {
      const queue = queues.get(marker)
      if (queue !== undefined && queue.idle.size > 0) return Effect.sync(() => wakeAll(queue))
      // Its worker has become busy meanwhile: it looks whether something is left for others, and tells them.
      const [busy] = queue?.waiters ?? []
      return busy === undefined
        ? client.pipeline([["ZADD", marker, "0", "0"], ["PEXPIRE", marker, "60000"]])
        : Effect.sync(busy.wake)
    }

    const onReply = (reply: BytesReply): Effect.Effect<unknown, RedisError> => {
      const [marker] = Array.isArray(reply) ? reply : []
      return marker instanceof Uint8Array ? onMarker(decoder.decode(marker)) : Effect.void
    }

    const idleMarkers = (): Array<string> => {
      const markers: Array<string> = []
      for (const [marker, { idle }] of queues) if (idle.size > 0) markers.push(marker)
      return markers
    }

    const somebody = Effect.async<void>((resume) => {
      asleep = () => {
        asleep = undefined
        resume(Effect.void)
      }
      if (idleMarkers().length > 0) asleep()
      return Effect.sync(() => asleep = undefined)
    })

    /**
     * Waits for the markers of those who are idle, unless a command does already. A worker that was woken has made its call
     * by then, and all that is done here before the answer is read comes on top of it.
     */
    const listenForMarkers = (): void => {
      const markers = idleMarkers()
      if (closed || line === undefined || blocked !== undefined || markers.length === 0) return
      // The first one that has a marker is served, so each gets to be the first.
      const first = turn++ % markers.length
      const args = [...markers.slice(first), ...markers.slice(0, first), String(block)]
      const waiting = line.connection.sendBlocking("BZPOPMIN", args, onReply)
      const fiber = alarm.run(Effect.uninterruptibleMask((restore) =>
        // Whoever waits for work is woken before all else.
        Effect.flatMap(
          restore(waiting),
          (reply) => Array.isArray(reply) && typeof reply[0] === "string" ? onMarker(reply[0]) : Effect.void
        )
      ))
      blocked = { fiber, markers, until: alarm.now() + patience }
      alarm.ringBy(blocked.until)
      fiber.addObserver((exit) => {
        if (blocked?.fiber !== fiber) return
        blocked = undefined
        if (Exit.isFailure(exit) && !Cause.isInterrupted(exit.cause)) line?.fail(exit.cause)
        else listenForMarkers()
      })
    }

    const serve = (connection: Connection): Effect.Effect<never, RedisError> =>
      Effect.async<never, RedisError>((resume) => {
        line = {
          connection,
          fail: (cause) => {
            line = undefined
            resume(Effect.failCause(cause))
          }
        }
        listenForMarkers()
      }).pipe(Effect.ensuring(Effect.sync(() => {
        const fiber = blocked?.fiber
        line = undefined
        blocked = undefined
        fiber?.unsafeInterruptAsFork(FiberId.none)
      })))

    const loop = Effect.zipRight(
      somebody,
      Effect.scoped(Effect.flatMap(client.reserve(), (connection) => {
        // The one before may have taken a marker that never arrived.
        if (again) { for (const queue of queues.values()) wakeAll(queue) }
        again = true
        return serve(connection)
      }))
    ).pipe(
      Effect.catchAll(() => Effect.void)
    )

    const start = (): void => {
      if (started) return
      started = true
      alarm.run(Effect.repeat(loop, pauses))
    }

    const wait = (marker: string, queue: Queue, waiter: Waiter): void => {
      if (!queue.waiters.has(waiter) || queue.idle.has(waiter)) return
      queue.idle.add(waiter)
      start()
      asleep?.()
      if (blocked === undefined) listenForMarkers()
      else if (!blocked.markers.includes(marker)) blocked.fiber.unsafeInterruptAsFork(FiberId.none)
    }

    const listen: Wakeups["listen"] = (channel, onMessage, onGap) =>
      Effect.forkScoped(Effect.interruptible(listening(client, channel, onMessage, onGap)))

    const register: Wakeups["register"] = (keys, waiter) =>
      Effect.gen(function*() {
        const marker = client.key(keys.marker)
        const queue = queues.get(marker) ?? { waiters: new Set(), idle: new Set() }
        yield* Effect.acquireRelease(
          Effect.sync(() => {
            queues.set(marker, queue)
            queue.waiters.add(waiter)
          }),
          () =>
            Effect.sync(() => {
              queue.waiters.delete(waiter)
              queue.idle.delete(waiter)
              if (queue.waiters.size === 0) queues.delete(marker)
            })
        )
        // A renewal says the same, so nothing is to be done when a message is missed.
        yield* listen(
          keys.control,
          ({ payload }) => payload.startsWith("cancel ") && waiter.cancel(payload.slice(7)),
          () => {}
        )
        if (client.mode === "cluster") yield* listen(keys.wake, waiter.wake, waiter.wake)
        return { wait: client.mode === "cluster" ? () => {} : () => wait(marker, queue, waiter) }
      })

    return { register, listen }
  })
