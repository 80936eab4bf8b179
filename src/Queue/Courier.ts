/**
 * Tells queues what other queues have posted for them. It knows queues by their names alone, and delivers for those that its
 * process works at or produces for. Whatever is delivered twice does nothing again, so anybody may do it at any time.
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import { makeFork } from "../internal/background.js"
import type { Service as Client } from "../RedisClient.js"
import type { RedisError } from "../RedisError.js"
import type { Target } from "./controlScripts.js"
import * as scripts from "./flowScripts.js"
import { keysOf } from "./keys.js"

export interface Courier {
  /** There is something in the outbox of a queue. */
  readonly kick: (queue: string) => void
  readonly target: (queue: string) => Target
}

/** How many queues are told something at the same time. */
const AT_ONCE = 8

/** While a queue can't be reached: from 100 ms on, doubled each time. Workers of the sender look again later, too. */
const FIRST_PAUSE = 100
const LAST_PAUSE = 5000
const TRIES = 12

/** How long a process that ends goes on. */
const FAREWELL = "2 seconds"

/** Nothing is left, somebody else delivers for so many milliseconds, or some queues could not be told. */
type Round =
  | { readonly _tag: "done" }
  | { readonly _tag: "busy"; readonly millis: number }
  | { readonly _tag: "failed"; readonly errors: Readonly<Record<string, RedisError>> }

export const make = (client: Client, process: string): Effect.Effect<Courier, never, Scope.Scope> =>
  Effect.gen(function*() {
    const fork = yield* makeFork
    /** By queue: whether to look again after the present round. */
    const rounds = new Map<string, { again: boolean }>()
    const cluster = client.mode === "cluster"

    const target = (queue: string): Target => {
      const keys = keysOf(queue)
      return { keys, cluster, wake: client.key(keys.wake) }
    }

    const kick = (queue: string): void => {
      const known = rounds.get(queue)
      if (known !== undefined) {
        known.again = true
        return
      }
      const round = { again: false }
      rounds.set(queue, round)
      fork(deliver(queue)).addObserver(() => {
        rounds.delete(queue)
        if (round.again) kick(queue)
      })
    }

    const tell = (sender: string, queue: string, entries: ReadonlyArray<scripts.Entry>) => {
      const to = target(queue)
      return Effect.map(client.eval(scripts.receive, to, sender, client.key(to.keys.control), entries), (posted) => {
        // Whoever works there would find it, but perhaps later, or nobody does.
        if (posted) kick(queue)
      })
    }

    /** Goes through the outbox once. A queue that can't be told gets nothing more, or the order would be lost. */
    const once = (queue: string): Effect.Effect<Round, RedisError> =>
      Effect.gen(function*() {
        const from = target(queue)
        const failed = new Map<string, RedisError>()
        let delivered: ReadonlyArray<string> = []
        let after = ""
        while (true) {
          const { busy, entries } = yield* client.eval(scripts.readOutbox, from, process, after, delivered)
          if (busy > 0) return { _tag: "busy", millis: busy }
          if (entries.length === 0) {
            return failed.size === 0
              ? { _tag: "done" }
              : { _tag: "failed", errors: Object.fromEntries(failed) }
          }
          const byQueue = new Map<string, Array<scripts.Entry>>()
          for (const entry of entries) {
            const some = byQueue.get(entry.queue)
            if (some === undefined) byQueue.set(entry.queue, [entry])
            else some.push(entry)
          }
          const told = yield* Effect.forEach(byQueue, ([to, some]) =>
            failed.has(to)
              ? Effect.succeed([])
              : Effect.match(tell(queue, to, some), {
                onFailure: (error) => {
                  failed.set(to, error)
                  return []
                },
                onSuccess: () => some.map(({ stamp }) => stamp)
              }), { concurrency: AT_ONCE })
          delivered = told.flat()
          after = entries.at(-1)!.stamp
        }
      })

    const deliver = (queue: string): Effect.Effect<void> =>
      Effect.gen(function*() {
        for (let tries = 0; tries < TRIES; tries++) {
          const round = yield* Effect.catchAll(
            once(queue),
            (error) => Effect.succeed<Round>({ _tag: "failed", errors: { [queue]: error } })
          )
          if (round._tag === "done") return
          if (round._tag === "busy") {
            // It may die.
            yield* Effect.sleep(Duration.millis(round.millis))
            continue
          }
          yield* Effect.annotateLogs(
            Effect.logWarning(`what the queue "${queue}" has to tell others waits for Redis`),
            round.errors
          )
          yield* Effect.sleep(Duration.millis(Math.min(FIRST_PAUSE * 2 ** tries, LAST_PAUSE)))
        }
      })

    // What was begun is brought to its end, or others would wait for us.
    yield* Effect.addFinalizer(() =>
      Effect.timeoutOption(
        Effect.interruptible(
          Effect.forEach(Array.from(rounds.keys()), (queue) => Effect.ignore(once(queue)), {
            concurrency: "unbounded",
            discard: true
          })
        ),
        FAREWELL
      )
    )

    return { kick, target }
  })
