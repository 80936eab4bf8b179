/**
 * What waits for one subscriber: a bounded number of messages, and marks where some are missing. Putting something in
 * never waits, so one who does not read harms nobody.
 */
import * as Effect from "effect/Effect"
import { messagesDropped } from "../internal/metrics.js"

/** Something is missing here. */
export class Missing {
  /** The connection was lost. */
  disconnected = false
  /** How many messages there was no room for. */
  dropped = 0
}

/** Marks never stand side by side, so there is at most one more of them than there are messages. */
export class Inbox<M> {
  /** How many messages were dropped so far. */
  dropped = 0
  /** There was no room, and that is the end of it. */
  overflown = false
  private closed = false
  private items: Array<M | Missing | undefined> = []
  private head = 0
  private messages = 0
  private readonly waiting = new Set<(effect: Effect.Effect<void>) => void>()

  constructor(readonly capacity: number, readonly policy: "drop-oldest" | "drop-newest" | "fail") {}

  get isEmpty(): boolean {
    return this.head === this.items.length
  }

  /** Nothing more will come than what is there. */
  get isEnded(): boolean {
    return this.closed || this.overflown
  }

  put(message: M): void {
    if (this.isEnded) return
    if (this.messages < this.capacity) {
      this.messages++
      this.items.push(message)
    } else {
      this.dropped++
      messagesDropped.unsafeUpdate(1, [])
      if (this.policy === "fail") this.overflown = true
      else if (this.policy === "drop-newest") this.missingAtEnd().dropped++
      else {
        this.dropOldest()
        this.items.push(message)
      }
    }
    this.wake()
  }

  disconnected(): void {
    if (this.isEnded) return
    this.missingAtEnd().disconnected = true
    this.wake()
  }

  /** Nobody will read any more. */
  close(): void {
    this.closed = true
    this.items = []
    this.head = 0
    this.messages = 0
    this.wake()
  }

  /** Up to so many, in their order. */
  take(most: number): ReadonlyArray<M | Missing> {
    const taken: Array<M | Missing> = []
    while (taken.length < most && !this.isEmpty) {
      const item = this.items[this.head]!
      this.items[this.head++] = undefined
      if (!(item instanceof Missing)) this.messages--
      taken.push(item)
    }
    this.compact()
    return taken
  }

  /** Until there is something to take, or the end. */
  readonly wait: Effect.Effect<void> = Effect.async((resume) => {
    if (!this.isEmpty || this.isEnded) return resume(Effect.void)
    this.waiting.add(resume)
    return Effect.sync(() => void this.waiting.delete(resume))
  })

  private missingAtEnd(): Missing {
    const last = this.isEmpty ? undefined : this.items.at(-1)
    if (last instanceof Missing) return last
    const missing = new Missing()
    this.items.push(missing)
    return missing
  }

  /** The mark in place of the oldest message says it, together with those beside it. */
  private dropOldest(): void {
    const first = this.items[this.head]
    const missing = first instanceof Missing ? first : new Missing()
    if (first === missing) this.items[this.head++] = undefined
    missing.dropped++
    const next = this.items[this.head + 1]
    if (next instanceof Missing) {
      this.items[this.head++] = undefined
      missing.disconnected ||= next.disconnected
    }
    this.items[this.head] = missing
    this.compact()
  }

  private compact(): void {
    if (this.isEmpty) {
      this.items.length = 0
      this.head = 0
    } else if (this.head > 1024 && this.head * 2 > this.items.length) {
      this.items.splice(0, this.head)
      this.head = 0
    }
  }

  private wake(): void {
    if (this.waiting.size === 0) return
    const waiting = Array.from(this.waiting)
    this.waiting.clear()
    for (const resume of waiting) resume(Effect.void)
  }
}
