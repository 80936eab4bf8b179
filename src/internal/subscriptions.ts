/**
 * All subscriptions of a client over what a driver has for them: counts references, fans out, restores after an outage.
 */
import * as Effect from "effect/Effect"
import * as Queue from "effect/Queue"
import * as Schedule from "effect/Schedule"
import * as Scope from "effect/Scope"
import type { DriverSubscriber, Gap, Message, SubscriptionKind } from "../RedisClient.js"
import type { RedisError } from "../RedisError.js"
import { makeFork } from "./background.js"
import { mayPass } from "./mayPass.js"
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
  /** It was ready, and its scope ends it. */
  readonly onEnd?: (() => void) | undefined
}

/** One call of `listen`. */
class Subscriber {
  /** Groups that are lost at present. */
  lost: Set<string> | undefined = undefined
  /** Others have come back, and messages of them may have been missed since the last element. */
  missed = false

  constructor(readonly listener: Listener) {}
}

/** The server takes several channels or patterns with one command, but shard channels only of one slot. */
const groupOf = (kind: SubscriptionKind, name: string): string => kind === "shard" ? `shard ${hashSlot(name)}` : kind

/** A process can have very many of these, each with one subscriber. */
class Entry {
  readonly subscribers: Array<Subscriber>
  /** Names that come back together, with one command. */
  readonly group: string
  /** Counts outages and their ends. */
  outage = 0
  /** There as long as somebody subscribes or unsubscribes, and how many do. */
  lock: Effect.Semaphore | undefined = undefined
  locking = 0
  /** `maybe` when SUBSCRIBE was sent and not confirmed, and when the connection was lost since. */
  state: "no" | "maybe" | "confirmed" = "no"
  /** A message came before the confirmation: it is there, and can be lost again. */
  heard = false

  constructor(readonly kind: SubscriptionKind, readonly name: string, subscriber: Subscriber) {
    this.subscribers = [subscriber]
    this.group = groupOf(kind, name)
  }
}

/** @internal */
export interface Subscriptions {
  /**
   * Done when the server has confirmed every name; the scope ends it. When it can't have all of them it has none, however
   * long the scope is open.
   */
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

/** @internal */
export const make = (
  driver: DriverSubscriber,
  retry: Schedule.Schedule<unknown, unknown>,
  makeMessage: (kind: SubscriptionKind, name: string, channel: string, bytes: Uint8Array) => Message
): Effect.Effect<Subscriptions, never, Scope.Scope> =>
  Effect.gen(function*() {
    const entries = {
      channel: new Map<string, Entry>(),
      pattern: new Map<string, Entry>(),
      shard: new Map<string, Entry>()
    }
    const forEachEntry = (
      concerns: (kind: SubscriptionKind, name: string) => boolean,
      f: (entry: Entry) => void
    ): void => {
      for (const each of Object.values(entries)) {
        for (const entry of each.values()) if (concerns(entry.kind, entry.name)) f(entry)
      }
    }
    const fork = yield* makeFork

    /** Subscribing twice is the same as once, so a lost confirmation is no reason to give up. */
    const subscribeName = (entry: Entry) =>
      Effect.suspend(() => driver.subscribe(entry.kind, [entry.name])).pipe(
        Effect.retry({ schedule: retry, while: mayPass })
      )

    /** Subscribing and unsubscribing of one name never cross. */
    const alone = <E>(entry: Entry, effect: Effect.Effect<void, E>): Effect.Effect<void, E> =>
      Effect.uninterruptibleMask((restore) => {
        const lock = entry.lock ??= Effect.unsafeMakeSemaphore(1)
        entry.locking++
        return Effect.ensuring(
          restore(lock.withPermits(1)(effect)),
          Effect.sync(() => {
            if (--entry.locking === 0) entry.lock = undefined
          })
        )
      })

    const join = (kind: SubscriptionKind, name: string, subscriber: Subscriber): Entry => {
      const present = entries[kind].get(name)
      if (present !== undefined) {
        present.subscribers.push(subscriber)
        return present
      }
      const entry = new Entry(kind, name, subscriber)
      entries[kind].set(name, entry)
      return entry
    }

    const confirmed = (entry: Entry): Effect.Effect<void, RedisError> =>
      alone(
        entry,
        Effect.suspend(() => {
          if (entry.state === "confirmed") return Effect.void
          entry.state = "maybe"
          return Effect.zipRight(subscribeName(entry), Effect.sync(() => void (entry.state = "confirmed")))
        })
      )

    const leave = (entry: Entry, subscriber: Subscriber): Effect.Effect<void> =>
      Effect.suspend(() => {
        const at = entry.subscribers.indexOf(subscriber)
        if (at >= 0) entry.subscribers.splice(at, 1)
        return entry.subscribers.length > 0 ? Effect.void : alone(entry, unsubscribed(entry))
      })

    const unsubscribed = (entry: Entry): Effect.Effect<void> =>
      Effect.suspend(() => {
        if (entry.subscribers.length > 0) return Effect.void
        const { kind, name, state } = entry
        entry.state = "no"
        // Without a connection there is nothing left to undo: the next one starts without subscriptions.
        return Effect.zipRight(
          state === "no" ? Effect.void : Effect.ignore(driver.unsubscribe(kind, [name])),
          Effect.sync(() => {
            if (entry.subscribers.length === 0 && entries[kind].get(name) === entry) entries[kind].delete(name)
          })
        )
      })

    const forEach = <E>(joined: ReadonlyArray<Entry>, f: (entry: Entry) => Effect.Effect<void, E>) =>
      joined.length === 1 ? f(joined[0]!) : Effect.forEach(joined, f, { concurrency: "unbounded", discard: true })

    const leaveAll = (joined: ReadonlyArray<Entry>, subscriber: Subscriber) =>
      forEach(joined, (entry) => leave(entry, subscriber))

    /** What a scope keeps of it. */
    const ending = (joined: ReadonlyArray<Entry>, subscriber: Subscriber) => () =>
      Effect.uninterruptible(Effect.suspend(() => {
        subscriber.listener.onEnd?.()
        return leaveAll(joined, subscriber)
      }))

    /** One group. A later outage of a name leaves it to whoever restores it after that. */
    const restore = (group: ReadonlyArray<readonly [entry: Entry, outage: number]>): Effect.Effect<void> => {
      const lost = () =>
        group.flatMap(([entry, outage]) => entry.outage === outage && entry.subscribers.length > 0 ? [entry] : [])
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
        const entry = entries[kind].get(name)
        if (entry === undefined) return
        if (entry.state === "maybe") entry.heard = true
        const message = makeMessage(kind, name, channel, bytes)
        for (const subscriber of entry.subscribers) {
          found(subscriber, entry.group)
          gap(subscriber)
          subscriber.listener.onMessage(message)
        }
      },
      onDown: (concerns = () => true) =>
        forEachEntry(concerns, (entry) => {
          entry.outage++
          if (entry.state === "confirmed" || entry.heard) {
            entry.heard = false
            // Whoever comes now is ready only when it is confirmed again.
            entry.state = "maybe"
            entry.subscribers.forEach((subscriber) => (subscriber.lost ??= new Set()).add(entry.group))
          }
        }),
      onUp: (concerns = () => true) => {
        const groups = new Map<string, Array<readonly [Entry, number]>>()
        forEachEntry(concerns, (entry) => {
          if (entry.subscribers.length === 0) return
          const lost = [entry, ++entry.outage] as const
          const group = groups.get(entry.group)
          if (group === undefined) groups.set(entry.group, [lost])
          else group.push(lost)
        })
        for (const group of groups.values()) fork(restore(group))
      }
    })

    return {
      listen: (kind, names, listener) =>
        Effect.uninterruptibleMask((restore) =>
          Effect.flatMap(Effect.scope, (scope) => {
            const subscriber = new Subscriber(listener)
            const joined = Array.from(new Set(names), (name) => join(kind, name, subscriber))
            return restore(forEach(joined, confirmed)).pipe(
              Effect.onError(() => leaveAll(joined, subscriber)),
              Effect.zipRight(Scope.addFinalizerExit(scope, ending(joined, subscriber)))
            )
          })
        )
    }
  })
