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
  private waiting: Array<(effect: Effect.Effect<void>) => void> | undefined = undefined

  constructor(readonly capacity: number, readonly policy: "drop-oldest" | "drop-newest" | "fail") {}

  get isEmpty(): boolean {
    return this.head === this.items.length
  }

  /** Nothing more will come than what is there. */
  get isEnded(): boolean {
    return this.closed || this.overflown
  }

  onMessage(message: M): void {
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

  onGap(): void {
    if (this.isEnded) return
    this.missingAtEnd().disconnected = true
    this.wake()
  }

  /** Nobody will read any more. */
  onEnd(): void {
    this.closed = true
    this.items = []
    this.head = 0
    this.messages = 0
    this.wake()
  }

  /** Up to so many, in their order. */
  take(most: number): ReadonlyArray<M | Missing> {
    const { head, items } = this
    const end = Math.min(items.length, head + most)
    const taken = new Array<M | Missing>(end - head)
    for (let i = head; i < end; i++) {
      const item = items[i]!
      items[i] = undefined
      if (!(item instanceof Missing)) this.messages--
      taken[i - head] = item
    }
    this.head = end
    this.compact()
    return taken
  }

  /** Until there is something to take, or the end. */
  get wait(): Effect.Effect<void> {
    return Effect.async((resume) => {
      if (!this.isEmpty || this.isEnded) return resume(Effect.void)
      if (this.waiting === undefined) this.waiting = [resume]
      else this.waiting.push(resume)
      return Effect.sync(() => void (this.waiting = this.waiting?.filter((each) => each !== resume)))
    })
  }

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
    const { waiting } = this
    if (waiting === undefined) return
    this.waiting = undefined
    for (const resume of waiting) resume(Effect.void)
  }
}
