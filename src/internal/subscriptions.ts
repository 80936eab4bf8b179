/**
 * All subscriptions of a client over what a driver has for them: counts references, fans out, restores after an outage.
 */
import * as Effect from "effect/Effect"
import * as FiberSet from "effect/FiberSet"
import * as Queue from "effect/Queue"
import * as Schedule from "effect/Schedule"
import type * as Scope from "effect/Scope"
import type { DriverSubscriber, Gap, Message, SubscriptionKind } from "../RedisClient.js"
import type { RedisError } from "../RedisError.js"
import { messagesDropped, subscriptionGaps } from "./metrics.js"
import { hashSlot } from "./slot.js"

type Make = (name: string, channel: string, bytes: Uint8Array) => Message

/** One call of `subscribe`. */
interface Subscriber {
  readonly queue: Queue.Queue<Message | Gap>
  readonly capacity: number
  readonly make: Make
  /** Groups that are lost at present. */
  readonly lost: Set<string>
  /** Others have come back, and messages of them may have been missed since the last element. */
  missed: boolean
  /** The last element is a Gap, which nobody has taken as long as there are any. */
  gapLast: boolean
  /** The buffer is full, and a Gap stands at its end. */
  full: boolean
}

interface Entry {
  readonly kind: SubscriptionKind
  readonly name: string
  readonly subscribers: Set<Subscriber>
  /** Names that come back together, with one command. */
  readonly group: string
  /** Counts outages and their ends. */
  outage: number
  /** Subscribing and unsubscribing of one name never cross. */
  readonly lock: Effect.Semaphore
  /** `maybe` when SUBSCRIBE was sent and not confirmed, and when the connection was lost since. */
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
    subscriber.gapLast = true
    messagesDropped.unsafeUpdate(1, [])
    queue.unsafeOffer(makeGap("overflow"))
    return
  }
  subscriber.gapLast = element._tag === "Gap"
  queue.unsafeOffer(element)
}

const gap = (subscriber: Subscriber, makeGap: MakeGap): void => {
  if (!subscriber.missed) return
  subscriber.missed = false
  // The one that stands there says it all, as long as nobody has acted on it.
  const size = subscriber.queue.unsafeSize()
  if (subscriber.gapLast && size._tag === "Some" && size.value > 0) return
  subscriptionGaps.unsafeUpdate(1, [])
  offer(subscriber, makeGap("disconnected"), makeGap)
}

/** One outage is one Gap: it comes with the last group that was lost, or before the next message. */
const found = (subscriber: Subscriber, group: string, makeGap: MakeGap): void => {
  if (!subscriber.lost.delete(group)) return
  subscriber.missed = true
  if (subscriber.lost.size === 0) gap(subscriber, makeGap)
}

/** The server takes several channels or patterns with one command, but shard channels only of one slot. */
const groupOf = (kind: SubscriptionKind, name: string): string => kind === "shard" ? `shard ${hashSlot(name)}` : kind

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
          entry = {
            kind,
            name,
            subscribers: new Set(),
            group: groupOf(kind, name),
            outage: 0,
            lock: Effect.unsafeMakeSemaphore(1),
            state: "no"
          }
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

    /** One group. A later outage of a name leaves it to whoever restores it after that. */
    const restore = (group: ReadonlyArray<readonly [entry: Entry, outage: number]>): Effect.Effect<void> => {
      const lost = () =>
        group.flatMap(([entry, outage]) => entry.outage === outage && entry.subscribers.size > 0 ? [entry] : [])
      return Effect.suspend(() => {
        const entries = lost()
        const first = entries[0]
        return first === undefined ? Effect.void : driver.subscribe(first.kind, entries.map((entry) => entry.name))
      }).pipe(
        Effect.retry({
          schedule: Schedule.union(Schedule.exponential("50 millis"), Schedule.spaced("1 second")),
          while: () => lost().length > 0
        }),
        Effect.match({
          onFailure: () => {},
          onSuccess: () => {
            for (const entry of lost()) {
              entry.state = "confirmed"
              entry.subscribers.forEach((subscriber) => found(subscriber, entry.group, makeGap))
            }
          }
        })
      )
    }

    driver.listen({
      onMessage: (kind, name, channel, bytes) => {
        const entry = entries.get(keyOf(kind, name))
        if (entry === undefined) return
        for (const subscriber of entry.subscribers) {
          found(subscriber, entry.group, makeGap)
          gap(subscriber, makeGap)
          offer(subscriber, subscriber.make(name, channel, bytes), makeGap)
        }
      },
      onDown: (concerns = () => true) => {
        for (const entry of entries.values()) {
          if (!concerns(entry.kind, entry.name)) continue
          entry.outage++
          if (entry.state === "confirmed") {
            // Whoever comes now is ready only when it is confirmed again.
            entry.state = "maybe"
            entry.subscribers.forEach((subscriber) => subscriber.lost.add(entry.group))
          }
        }
      },
      onUp: (concerns = () => true) => {
        const groups = new Map<string, Array<readonly [Entry, number]>>()
        for (const entry of entries.values()) {
          if (entry.subscribers.size === 0 || !concerns(entry.kind, entry.name)) continue
          const lost = [entry, ++entry.outage] as const
          const group = groups.get(entry.group)
          if (group === undefined) groups.set(entry.group, [lost])
          else group.push(lost)
        }
        for (const group of groups.values()) run(restore(group))
      }
    })

    return {
      subscribe: (kind, names, capacity, make) =>
        Effect.gen(function*() {
          const subscriber: Subscriber = {
            queue: yield* Effect.acquireRelease(Queue.unbounded<Message | Gap>(), Queue.shutdown),
            capacity,
            make,
            lost: new Set(),
            missed: false,
            gapLast: false,
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
