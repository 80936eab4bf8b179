// The completion of I/O, and its timers, are Node's here.
// @effect-diagnostics globalTimers:off
// @effect-diagnostics globalRandom:off
import type { Request } from "./Request.js"

/**
 * The deadlines of all requests of a connection. Those with the usual timeout end in the order in which they were
 * issued, so one timer for the first of them is enough.
 */
export class Deadlines {
  private head: Request | undefined = undefined
  private tail: Request | undefined = undefined
  private timer: NodeJS.Timeout | undefined = undefined
  private readonly others = new Set<Request>()

  constructor(readonly usual: number, readonly expire: (requests: ReadonlyArray<Request>) => void) {}

  add(request: Request): void {
    if (request.timeout === this.usual) {
      // Answered ones leave here, so that the queue is never longer than what is unanswered, and its first one.
      while (this.head !== undefined && this.head.settled) this.leave(this.head)
      if (this.head === undefined || this.tail === undefined) this.head = request
      else this.tail.next = request
      this.tail = request
      if (this.timer === undefined) this.arm(this.usual)
    } else {
      request.home = this.others
      this.others.add(request)
      if (request.timeout === Infinity) return
      request.timer = setTimeout(() => {
        // As below.
        setImmediate(() => {
          if (!request.settled) this.expire([request])
        })
      }, Math.max(1, Math.ceil(request.timeout)))
      request.timer.unref()
    }
  }

  /** Without its next one: an old request that is garbage would keep the young ones behind it from being collected. */
  private leave(first: Request): void {
    this.head = first.next
    first.next = undefined
  }

  private arm(millis: number): void {
    this.timer = setTimeout(this.onTimer, Math.max(1, Math.ceil(millis)))
    this.timer.unref()
  }

  /**
   * After a pause of the process, or a long computation, timers come before sockets are read. One turn of the event loop
   * later, the replies that were already there have been taken.
   */
  private readonly onTimer = (): void => void setImmediate(this.onTurn)

  private readonly onTurn = (): void => {
    this.timer = undefined
    const now = performance.now()
    const expired: Array<Request> = []
    while (this.head !== undefined && (this.head.settled || this.head.issuedAt + this.usual <= now)) {
      if (!this.head.settled) expired.push(this.head)
      this.leave(this.head)
    }
    if (this.head === undefined) this.tail = undefined
    else this.arm(this.head.issuedAt + this.usual - now)
    if (expired.length > 0) this.expire(expired)
  }

  /** Everything that is unanswered; nothing has a deadline afterwards. */
  drain(): ReadonlyArray<Request> {
    clearTimeout(this.timer)
    const requests = Array.from(this.others)
    for (let request = this.head; request !== undefined; request = request.next) requests.push(request)
    this.head = this.tail = this.timer = undefined
    this.others.clear()
    return requests.filter((request) => !request.settled)
  }
}
