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

/**
 * Who subscribed. Both are called at once, and must neither fail nor wait.
 *
 * @internal
 */
export interface Listener {
  readonly onMessage: (message: Message) => void
  /** The connection was lost, so messages may be missing here. */
  readonly onGap: () => void
}

/** One call of `listen`. */
interface Subscriber {
  readonly listener: Listener
  /** Groups that are lost at present. */
  lost: Set<string> | undefined
  /** Others have come back, and messages of them may have been missed since the last element. */
  missed: boolean
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
  /** A message came before the confirmation: it is there, and can be lost again. */
  heard: boolean
}

/** @internal */
export interface Subscriptions {
  /** Done when the server has confirmed every name; the scope ends it. */
  readonly listen: (
    kind: SubscriptionKind,
    names: ReadonlyArray<string>,
    listener: Listener
  ) => Effect.Effect<void, RedisError, Scope.Scope>
}

/**
 * A listener that keeps so many elements for whoever takes them.
 *
 * @internal
 */
export const queued = (
  capacity: number,
  makeGap: (reason: Gap["reason"]) => Gap
): Effect.Effect<readonly [Queue.Dequeue<Message | Gap>, Listener], never, Scope.Scope> =>
  Effect.map(Effect.acquireRelease(Queue.unbounded<Message | Gap>(), Queue.shutdown), (queue) => {
    /** The last element is a Gap, which nobody has taken as long as there are any. */
    let gapLast = false
    /** There was no room, and a Gap stands at the end. */
    let full = false
    const waiting = (): number => {
      const size = queue.unsafeSize()
      // Less than none when somebody waits for an element.
      return size._tag === "Some" ? Math.max(0, size.value) : 0
    }
    const offer = (element: Message | Gap): void => {
      if (full && waiting() < capacity) full = false
      if (full) {
        messagesDropped.unsafeUpdate(1, [])
        return
      }
      if (waiting() >= capacity) {
        full = true
        gapLast = true
        messagesDropped.unsafeUpdate(1, [])
        queue.unsafeOffer(makeGap("overflow"))
        return
      }
      gapLast = element._tag === "Gap"
      queue.unsafeOffer(element)
    }
    return [queue, {
      onMessage: offer,
      onGap: () => {
        // The one that stands there says it all, as long as nobody has acted on it.
        if (!gapLast || waiting() === 0) offer(makeGap("disconnected"))
      }
    }]
  })

const gap = (subscriber: Subscriber): void => {
  if (!subscriber.missed) return
  subscriber.missed = false
  subscriptionGaps.unsafeUpdate(1, [])
  subscriber.listener.onGap()
}

/** One outage is one Gap: it comes with the last group that was lost, or before the next message. */
const found = (subscriber: Subscriber, group: string): void => {
  if (subscriber.lost?.delete(group) !== true) return
  subscriber.missed = true
  if (subscriber.lost.size === 0) gap(subscriber)
}

/** The server takes several channels or patterns with one command, but shard channels only of one slot. */
const groupOf = (kind: SubscriptionKind, name: string): string => kind === "shard" ? `shard ${hashSlot(name)}` : kind

/** @internal */
export const make = (
  driver: DriverSubscriber,
  retry: Schedule.Schedule<unknown, unknown>,
  makeMessage: (kind: SubscriptionKind, name: string, channel: string, bytes: Uint8Array) => Message
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
            state: "no",
            heard: false
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
              entry.subscribers.forEach((subscriber) => found(subscriber, entry.group))
            }
          }
        })
      )
    }

    driver.listen({
      onMessage: (kind, name, channel, bytes) => {
        const entry = entries.get(keyOf(kind, name))
        if (entry === undefined) return
        if (entry.state === "maybe") entry.heard = true
        const message = makeMessage(kind, name, channel, bytes)
        for (const subscriber of entry.subscribers) {
          found(subscriber, entry.group)
          gap(subscriber)
          subscriber.listener.onMessage(message)
        }
      },
      onDown: (concerns = () => true) => {
        for (const entry of entries.values()) {
          if (!concerns(entry.kind, entry.name)) continue
          entry.outage++
          if (entry.state === "confirmed" || entry.heard) {
            entry.heard = false
            // Whoever comes now is ready only when it is confirmed again.
            entry.state = "maybe"
            entry.subscribers.forEach((subscriber) => (subscriber.lost ??= new Set()).add(entry.group))
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
      listen: (kind, names, listener) =>
        Effect.suspend(() => {
          const subscriber: Subscriber = { listener, lost: undefined, missed: false }
          return Effect.forEach(
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
        })
    }
  })
