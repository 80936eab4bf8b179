/**
 * How those of one process, that is of one built layer, learn what became of jobs.
 *
 * All who wait for jobs of one queue share one subscription, and what they ask the server goes together in one call. A
 * message only says for which jobs asking makes sense. Nobody counts on it: everything is asked again when the subscription
 * is there, when messages may have been missed, and after a while anyhow.
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Fiber from "effect/Fiber"
import * as FiberId from "effect/FiberId"
import type * as Scope from "effect/Scope"
import { makeFork } from "../internal/background.js"
import type { Service as Client } from "../RedisClient.js"
import { RedisConnectionError, type RedisError } from "../RedisError.js"
import type { Keys } from "./keys.js"
import { type Fate, fates } from "./resultScripts.js"
import { listening, type Pace } from "./Wakeups.js"

/** The end of a job. */
export type End = Exclude<Fate, { readonly _tag: "pending" | "missing" }> | { readonly _tag: "missing" }

export interface Awaits {
  /** Waits for the end of a job. `age` is for how many milliseconds the queue keeps completed ones. */
  readonly end: (keys: Keys, age: number, id: string) => Effect.Effect<End, RedisError>
}

/** How many jobs are asked for in one call. */
const TOGETHER = 500

interface Waiter {
  /** The server has said that the job has not ended. */
  known: boolean
  readonly done: (exit: Exit.Exit<End, RedisError>) => void
}

/** Those who wait for jobs of one queue. */
interface Room {
  readonly name: string
  readonly keys: Keys
  readonly age: number
  readonly waiters: Map<string, Set<Waiter>>
  /** What is asked for next. */
  readonly due: Set<string>
  asking: Fiber.RuntimeFiber<unknown, unknown> | undefined
  /** The subscription, and who asks after a while. */
  background: ReadonlyArray<Fiber.RuntimeFiber<unknown, unknown>>
}

export const make = (client: Client, pace: Pace): Effect.Effect<Awaits, never, Scope.Scope> =>
  Effect.gen(function*() {
    const run = yield* makeFork
    const rooms = new Map<string, Room>()
    let closed = false
    const isClosed = new RedisConnectionError({
      target: client.target,
      reason: "closed",
      detail: "the queues of this layer are closed"
    })

    const end = (room: Room, id: string, exit: Exit.Exit<End, RedisError>): void => {
      const waiters = room.waiters.get(id)
      if (waiters === undefined) return
      room.waiters.delete(id)
      for (const { done } of waiters) done(exit)
      if (room.waiters.size === 0) close(room)
    }

    const close = (room: Room): void => {
      rooms.delete(room.name)
      room.due.clear()
      room.asking?.unsafeInterruptAsFork(FiberId.none)
      for (const fiber of room.background) fiber.unsafeInterruptAsFork(FiberId.none)
      room.background = []
    }

    const askForAll = (room: Room): void => {
      for (const id of room.waiters.keys()) room.due.add(id)
      ask(room)
    }

    const onMessage = (room: Room, payload: string): void => {
      if (payload === "") return askForAll(room)
      for (const id of payload.split("\0")) if (room.waiters.has(id)) room.due.add(id)
      ask(room)
    }

    const listen = (room: Room): void => {
      if (room.background.length > 0 || room.waiters.size === 0) return
      let looks = 0
      room.background = [
        run(
          listening(client, room.keys.done, ({ payload }) => onMessage(room, payload), () => askForAll(room))
        ),
        run(Effect.forever(
          Effect.zipRight(
            Effect.suspend(() => Effect.sleep(Duration.millis(pace.poll(++looks)))),
            Effect.sync(() => askForAll(room))
          )
        ))
      ]
    }

    const ask = (room: Room): void => {
      if (room.asking !== undefined || room.due.size === 0) return
      const ids: Array<string> = []
      for (const id of room.due) {
        ids.push(id)
        room.due.delete(id)
        if (ids.length === TOGETHER) break
      }
      room.asking = run(client.eval(fates, room.keys, room.age, ids))
      room.asking.addObserver((exit) => {
        room.asking = undefined
        if (Exit.isSuccess(exit)) answered(room, ids, exit.value as ReadonlyArray<Fate>)
        else refused(room, ids, exit as Exit.Exit<never, RedisError>)
        ask(room)
      })
    }

    const answered = (room: Room, ids: ReadonlyArray<string>, found: ReadonlyArray<Fate>): void => {
      let some = false
      for (let i = 0; i < ids.length; i++) {
        const id = ids[i]!
        const fate = found[i]!
        if (fate._tag !== "pending") {
          end(room, id, Exit.succeed(fate as End))
          continue
        }
        some = true
        for (const waiter of room.waiters.get(id) ?? []) waiter.known = true
      }
      if (some) listen(room)
    }

    /** Whoever has just come is told. The others wait on: they are asked for again. */
    const refused = (room: Room, ids: ReadonlyArray<string>, exit: Exit.Exit<never, RedisError>): void => {
      for (const id of ids) {
        const waiters = room.waiters.get(id)
        for (const waiter of waiters ?? []) {
          if (waiter.known) continue
          leave(room, id, waiter)
          waiter.done(exit)
        }
      }
    }

    const leave = (room: Room, id: string, waiter: Waiter): void => {
      const waiters = room.waiters.get(id)
      if (waiters?.delete(waiter) !== true || waiters.size > 0) return
      room.waiters.delete(id)
      room.due.delete(id)
      if (room.waiters.size === 0) close(room)
    }

    yield* Effect.addFinalizer(() =>
      Effect.sync(() => {
        closed = true
        for (const room of rooms.values()) {
          for (const id of Array.from(room.waiters.keys())) end(room, id, Exit.fail(isClosed))
        }
      })
    )

    return {
      end: (keys, age, id) =>
        Effect.async((resume) => {
          if (closed) return resume(Effect.fail(isClosed))
          const name = `${age} ${keys.done}`
          let room = rooms.get(name)
          if (room === undefined) {
            room = {
              name,
              keys,
              age,
              waiters: new Map(),
              due: new Set(),
              asking: undefined,
              background: []
            }
            rooms.set(name, room)
          }
          const joined = room
          const waiter: Waiter = { known: false, done: resume }
          const waiters = joined.waiters.get(id)
          if (waiters === undefined) joined.waiters.set(id, new Set([waiter]))
          else waiters.add(waiter)
          joined.due.add(id)
          ask(joined)
          return Effect.sync(() => leave(joined, id, waiter))
        })
    }
  })
