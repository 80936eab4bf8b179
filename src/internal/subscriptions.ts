/**
 * One subscriber connection for all subscriptions of a client: counts references, fans out, restores after an outage.
 */
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as FiberSet from "effect/FiberSet"
import * as Queue from "effect/Queue"
import * as Schedule from "effect/Schedule"
import type * as Scope from "effect/Scope"
import type { DriverSubscriber, Gap, Message, SubscriptionKind } from "../RedisClient.js"
import type { RedisError } from "../RedisError.js"
import { messagesDropped, subscriptionGaps } from "./metrics.js"

type Make = (name: string, channel: string, bytes: Uint8Array) => Message

/** One call of `subscribe`. */
interface Subscriber {
  readonly queue: Queue.Queue<Message | Gap>
  readonly capacity: number
  readonly make: Make
  /** A message may have been missed since the last element. */
  missed: boolean
  /** The buffer is full, and a Gap stands at its end. */
  full: boolean
}

interface Entry {
  readonly kind: SubscriptionKind
  readonly name: string
  readonly subscribers: Set<Subscriber>
  /** Subscribing and unsubscribing of one name never cross. */
  readonly lock: Effect.Semaphore
  /** `maybe` when SUBSCRIBE was sent and not confirmed. */
  state: "no" | "maybe" | "confirmed"
}

/** @internal */
export interface Subscriptions {
  readonly subscribe: (
    kind: SubscriptionKind,
    names: ReadonlyArray<string>,
    capacity: number,
    make: Make
  ) => Effect.Effect<Queue.Dequeue<Message | Gap>, RedisError, Scope.Scope>
}

type MakeGap = (reason: Gap["reason"]) => Gap

const offer = (subscriber: Subscriber, element: Message | Gap, makeGap: MakeGap): void => {
  const { queue } = subscriber
  const size = queue.unsafeSize()
  if (subscriber.full && size._tag === "Some" && size.value < subscriber.capacity) subscriber.full = false
  if (subscriber.full) {
    messagesDropped.unsafeUpdate(1, [])
    return
  }
  if (size._tag === "Some" && size.value >= subscriber.capacity) {
    subscriber.full = true
    messagesDropped.unsafeUpdate(1, [])
    queue.unsafeOffer(makeGap("overflow"))
    return
  }
  queue.unsafeOffer(element)
}

const gap = (subscriber: Subscriber, makeGap: MakeGap): void => {
  if (!subscriber.missed) return
  subscriber.missed = false
  subscriptionGaps.unsafeUpdate(1, [])
  offer(subscriber, makeGap("disconnected"), makeGap)
}

/** @internal */
export const make = (
  driver: DriverSubscriber,
  retry: Schedule.Schedule<unknown, unknown>,
  makeGap: MakeGap
): Effect.Effect<Subscriptions, never, Scope.Scope> =>
  Effect.gen(function*() {
    const entries = new Map<string, Entry>()
    const keyOf = (kind: SubscriptionKind, name: string) => `${kind} ${name}`
    const fork = yield* FiberSet.makeRuntime<never>()
    // The client may be made where nothing can be interrupted, and its end must not wait for a timer.
    const run = <A, E>(effect: Effect.Effect<A, E>) => fork(Effect.interruptible(effect))
    let restoring: Fiber.RuntimeFiber<void> | undefined
    let connection = 0

    const mayRetry = (error: RedisError) => error._tag === "RedisOutcomeUnknownError" || error.isRetryable

    /** Subscribing twice is the same as once, so a lost confirmation is no reason to give up. */
    const subscribeName = (entry: Entry) =>
      Effect.suspend(() => driver.subscribe(entry.kind, [entry.name])).pipe(
        Effect.retry({ schedule: retry, while: mayRetry })
      )

    const acquireName = (
      kind: SubscriptionKind,
      name: string,
      subscriber: Subscriber
    ): Effect.Effect<void, RedisError> =>
      Effect.suspend(() => {
        const key = keyOf(kind, name)
        let entry = entries.get(key)
        if (entry === undefined) {
          entry = { kind, name, subscribers: new Set(), lock: Effect.unsafeMakeSemaphore(1), state: "no" }
          entries.set(key, entry)
        }
        const present = entry
        present.subscribers.add(subscriber)
        return present.lock.withPermits(1)(Effect.suspend(() => {
          if (present.state === "confirmed") return Effect.void
          present.state = "maybe"
          return Effect.zipRight(subscribeName(present), Effect.sync(() => void (present.state = "confirmed")))
        })).pipe(
          Effect.onExit((exit) => exit._tag === "Failure" ? releaseName(kind, name, subscriber) : Effect.void)
        )
      })

    const releaseName = (kind: SubscriptionKind, name: string, subscriber: Subscriber): Effect.Effect<void> =>
      Effect.suspend(() => {
        const key = keyOf(kind, name)
        const entry = entries.get(key)
        if (entry === undefined) return Effect.void
        entry.subscribers.delete(subscriber)
        return entry.lock.withPermits(1)(Effect.suspend(() => {
          if (entry.subscribers.size > 0) return Effect.void
          const subscribed = entry.state !== "no"
          entry.state = "no"
          // Without a connection there is nothing left to undo: the next one starts without subscriptions.
          return (subscribed ? Effect.ignore(driver.unsubscribe(kind, [name])) : Effect.void).pipe(
            Effect.zipRight(Effect.sync(() => {
              if (entry.subscribers.size === 0 && entries.get(key) === entry) entries.delete(key)
            }))
          )
        }))
      })

    const restore = (number: number): Effect.Effect<void> =>
      Effect.suspend(() => {
        const groups = new Map<SubscriptionKind, Array<Entry>>()
        for (const entry of entries.values()) {
          if (entry.subscribers.size === 0) continue
          const group = groups.get(entry.kind)
          if (group === undefined) groups.set(entry.kind, [entry])
          else group.push(entry)
        }
        return Effect.forEach(
          groups,
          ([kind, group]) => driver.subscribe(kind, group.map((entry) => entry.name)),
          { discard: true }
        ).pipe(
          Effect.retry({
            schedule: Schedule.union(Schedule.exponential("50 millis"), Schedule.spaced("1 second")),
            while: () => connection === number
          }),
          Effect.matchEffect({
            // A newer connection takes over.
            onFailure: () => Effect.void,
            onSuccess: () =>
              Effect.sync(() => {
                for (const entry of entries.values()) {
                  entry.subscribers.forEach((subscriber) => gap(subscriber, makeGap))
                }
              })
          })
        )
      })

    driver.listen({
      onMessage: (kind, name, channel, bytes) => {
        const entry = entries.get(keyOf(kind, name))
        if (entry === undefined) return
        for (const subscriber of entry.subscribers) {
          gap(subscriber, makeGap)
          offer(subscriber, subscriber.make(name, channel, bytes), makeGap)
        }
      },
      onDown: () => {
        connection++
        for (const entry of entries.values()) {
          if (entry.state === "confirmed") entry.subscribers.forEach((subscriber) => subscriber.missed = true)
        }
      },
      onUp: () => {
        const number = ++connection
        if (restoring !== undefined) run(Fiber.interruptFork(restoring))
        restoring = run(restore(number))
      }
    })

    return {
      subscribe: (kind, names, capacity, make) =>
        Effect.gen(function*() {
          const subscriber: Subscriber = {
            queue: yield* Effect.acquireRelease(Queue.unbounded<Message | Gap>(), Queue.shutdown),
            capacity,
            make,
            missed: false,
            full: false
          }
          yield* Effect.forEach(
            new Set(names),
            (name) =>
              Effect.uninterruptibleMask((restore) =>
                Effect.zipRight(
                  restore(acquireName(kind, name, subscriber)),
                  Effect.addFinalizer(() => releaseName(kind, name, subscriber))
                )
              ),
            { concurrency: "unbounded", discard: true }
          )
          return subscriber.queue
        })
    }
  })
