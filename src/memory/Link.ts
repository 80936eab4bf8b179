/**
 * A connection to the in-memory server, with what can happen to connections: commands wait for it, for their turn
 * behind a blocked one, or for a reply that never comes. All timers are sleeps on Effect's clock.
 */
import * as Metrics from "../internal/metrics.js"
import { RedisConnectionError, type RedisError, RedisOutcomeUnknownError } from "../RedisError.js"
import type { Argv } from "./command.js"
import { BLOCKED, type Engine, type Session } from "./Engine.js"
import { type EngineReply, ErrorReply } from "./reply.js"

const noLabels: [] = []

const settled = Promise.resolve()

/** A microtask, without what Node's own `queueMicrotask` adds to it: 0.3 of the 1.6 µs that a `GET` took. */
export const soon = (run: () => void): void => void settled.then(run)

/** What a link needs of the server that it belongs to. */
export interface LinkServer {
  readonly engine: Engine
  /** Nobody can connect at present. */
  readonly isDown: () => boolean
  readonly now: () => number
  /** Calls back after so many milliseconds, unless the returned function is called before. */
  readonly after: (millis: number, run: () => void) => () => void
  readonly record: (client: number, argv: Argv) => void
  readonly hasFaults: () => boolean
  /** What is to go wrong with this command, if anything; each time counts. */
  readonly takeFault: (argv: Argv) => LinkFault | undefined
}

export type LinkFault =
  | { readonly _tag: "fail-before-send" }
  | { readonly _tag: "lose-reply" }
  | { readonly _tag: "disconnect"; readonly executed: boolean }
  | { readonly _tag: "reply"; readonly error: string }
  | { readonly _tag: "delay"; readonly millis: number }

export type Role = "shared" | "subscriber" | "reserved"

/** Commands that are sent together, and what becomes of them. */
export class Request {
  readonly replies: Array<EngineReply> = []
  /** The answer, or what stands for it, was given. */
  settled = false
  /** It was sent, so from here on nobody knows whether it was executed. */
  written = false
  delayed = false
  lost = false
  /** The connection breaks when it has been executed. */
  breaks = false
  overrides: Map<number, ErrorReply> | undefined
  cancelTimer: (() => void) | undefined
  constructor(
    readonly label: string,
    readonly commands: ReadonlyArray<Argv>,
    /** In milliseconds; `Infinity` for none. */
    readonly timeout: number,
    readonly issuedAt: number,
    readonly onReplies: (replies: ReadonlyArray<EngineReply>) => void,
    readonly onFailure: (error: RedisError, elapsed: number) => void
  ) {}
}

export class Link {
  /** While the connection is up. */
  session: Session | undefined
  private closed: RedisConnectionError | undefined
  /** Requests that were sent; the first one is blocked or delayed. */
  private queue: Array<Request> = []
  /** Requests that wait for a connection. */
  private waiting: Array<Request> = []
  private cancelBlock: (() => void) | undefined
  private everUp = false

  onUp: (again: boolean) => void = () => {}
  onDown: () => void = () => {}
  onState: (status: "connected" | "reconnecting" | "end", error: RedisError | undefined) => void = () => {}
  onMessage: Session["onMessage"] = () => {}
  onInvalidated: Session["onInvalidated"] = () => {}

  constructor(readonly server: LinkServer, readonly role: Role, readonly target: string) {
    if (!server.isDown()) this.rise()
  }

  /** Nothing stands between a command and its execution. */
  get idle(): boolean {
    return this.session !== undefined && this.queue.length === 0 && !this.server.hasFaults()
  }

  // --- Up and down ---

  rise(): void {
    if (this.session !== undefined || this.closed !== undefined) return
    const again = this.everUp
    this.everUp = true
    const session = this.session = this.server.engine.connect()
    session.onMessage = (kind, name, channel, payload) => this.onMessage(kind, name, channel, payload)
    // As with replies: others get their turn before it arrives, and it is lost when the connection breaks before.
    session.onInvalidated = (keys) =>
      soon(() => {
        if (this.session === session) this.onInvalidated(keys)
      })
    session.onKilled = () => {
      if (this.session === session) this.breakOff()
    }
    if (this.role === "shared") Metrics.connectionUp.unsafeModify(1, noLabels)
    if (again) Metrics.reconnects.unsafeUpdate(1, noLabels)
    this.onState("connected", undefined)
    this.onUp(again)
    const waiting = this.waiting
    this.waiting = []
    for (const request of waiting) if (!request.settled) this.enqueue(request)
  }

  /** The connection breaks: what was sent has no reply, and what was not waits for the next connection. */
  cut(): void {
    if (this.session === undefined) return
    this.fall()
    const queue = this.queue
    this.queue = []
    for (const request of queue) this.fail(request, this.unknown(request, "disconnected"))
    if (this.role === "reserved") this.closed = this.error("closed", "the connection was lost")
    else this.onState("reconnecting", this.error("unavailable", "the connection was lost"))
  }

  /** The connection breaks, and the next one is made at once if anybody can connect. */
  private breakOff(): void {
    this.cut()
    if (!this.server.isDown()) this.rise()
  }

  /** The end: nothing is sent any more. */
  close(): void {
    if (this.closed === undefined) {
      this.closed = this.error("closed", "the client was closed")
      this.onState("end", undefined)
    }
    this.fall()
    const open = [...this.queue, ...this.waiting]
    this.queue = []
    this.waiting = []
    for (const request of open) {
      this.fail(request, request.written ? this.unknown(request, "disconnected") : this.closed)
    }
  }

  private fall(): void {
    const { session } = this
    if (session === undefined) return
    this.session = undefined
    this.cancelBlock?.()
    this.cancelBlock = undefined
    session.onUnblocked = () => {}
    session.onWakeChanged = () => {}
    session.onKilled = () => {}
    this.server.engine.close(session)
    if (this.role === "shared") Metrics.connectionUp.unsafeModify(-1, noLabels)
    this.onDown()
  }

  // --- Requests ---

  /** Executes a command at once; only for an idle link. */
  execute(argv: Argv): EngineReply {
    const { session } = this
    if (session === undefined) return new ErrorReply("ERR not connected")
    this.server.record(session.id, argv)
    return this.server.engine.execute(session, argv)
  }

  submit(request: Request): void {
    if (this.closed !== undefined) return this.fail(request, this.closed)
    if (this.session === undefined) this.waiting.push(request)
    else this.enqueue(request)
    this.arm(request)
  }

  /** As `submit`, for a request whose only command was executed and waits now. */
  submitBlocked(request: Request): void {
    request.written = true
    this.queue.push(request)
    this.waitFor(request)
    this.arm(request)
  }

  /** Takes a request back, as long as it waits for a connection. */
  withdraw(request: Request): void {
    if (!request.written) this.settle(request)
  }

  /** Ends the wait of a request that blocks, whether it has begun or not. */
  unblock(request: Request): void {
    if (request.settled) return
    if (this.session?.blocked !== undefined && this.queue[0] === request) {
      this.server.engine.unblock(this.session)
    } else if (request.replies.length < request.commands.length) {
      this.settle(request)
      this.queue = this.queue.filter((other) => other !== request)
      request.onReplies(request.commands.map(() => null))
      this.pump()
    }
  }

  private arm(request: Request): void {
    if (request.settled || request.timeout === Infinity) return
    request.cancelTimer = this.server.after(request.timeout, () => {
      if (!request.written) this.waiting = this.waiting.filter((other) => other !== request)
      this.fail(
        request,
        request.written
          ? this.unknown(request, "timeout")
          : this.error("unavailable", `no connection within ${Math.round(request.timeout)} ms: the connection was lost`)
      )
    })
  }

  private enqueue(request: Request): void {
    this.queue.push(request)
    if (this.queue.length === 1) this.pump()
    else request.written = true
  }

  private pump(): void {
    while (this.queue.length > 0 && this.session !== undefined) {
      const request = this.queue[0]!
      if (!this.start(request)) return
      if (this.queue[0] === request) this.queue.shift()
    }
  }

  /** Whether the request has come to its end, and the next one may start. */
  private start(request: Request): boolean {
    let delay = 0
    for (let i = 0; i < request.commands.length; i++) {
      const fault = this.server.takeFault(request.commands[i]!)
      if (fault === undefined) continue
      switch (fault._tag) {
        case "fail-before-send":
          this.fail(request, this.error("unavailable", "the connection was lost before the command was sent"))
          return true
        case "lose-reply":
          request.lost = true
          break
        case "disconnect":
          if (!fault.executed) {
            request.written = true
            this.breakOff()
            return false
          }
          request.breaks = true
          break
        case "reply":
          ;(request.overrides ??= new Map()).set(i, new ErrorReply(fault.error))
          break
        case "delay":
          delay += fault.millis
      }
    }
    request.written = true
    if (delay === 0) return this.advance(request)
    request.delayed = true
    const { session } = this
    this.server.after(delay, () => {
      request.delayed = false
      if (this.session === session) this.resume(request)
    })
    return false
  }

  private resume(request: Request): void {
    if (this.queue[0] !== request || !this.advance(request)) return
    if (this.queue[0] === request) this.queue.shift()
    this.pump()
  }

  private advance(request: Request): boolean {
    while (request.replies.length < request.commands.length) {
      const i = request.replies.length
      const override = request.overrides?.get(i)
      const reply = override ?? this.execute(request.commands[i]!)
      if (reply === BLOCKED) {
        this.waitFor(request)
        return false
      }
      request.replies.push(reply)
    }
    if (request.breaks) {
      this.breakOff()
      return false
    }
    if (request.lost) this.fail(request, this.unknown(request, "disconnected"))
    else if (!request.settled) {
      this.settle(request)
      request.onReplies(request.replies)
    }
    return true
  }

  private waitFor(request: Request): void {
    const { session } = this
    const blocked = session?.blocked
    if (session === undefined || blocked === undefined) return
    session.onUnblocked = (reply) => {
      this.cancelBlock?.()
      this.cancelBlock = undefined
      session.onWakeChanged = () => {}
      request.replies.push(reply)
      // The engine may be in the middle of serving others.
      soon(() => {
        if (this.session === session) this.resume(request)
      })
    }
    const { engine } = this.server
    const sleep = (): void => {
      this.cancelBlock?.()
      const at = engine.wakeAt(blocked)
      this.cancelBlock = at === Infinity ? undefined : this.server.after(at - engine.now, () => {
        if (session.blocked !== blocked) return
        engine.wake(session)
        if (session.blocked === blocked) sleep()
      })
    }
    session.onWakeChanged = sleep
    sleep()
  }

  private settle(request: Request): void {
    request.settled = true
    request.cancelTimer?.()
  }

  private fail(request: Request, error: RedisError): void {
    if (request.settled) return
    this.settle(request)
    Metrics.commandsFailed[error._tag].unsafeUpdate(1, noLabels)
    request.onFailure(error, this.server.now() - request.issuedAt)
  }

  error(reason: RedisConnectionError["reason"], detail: string): RedisConnectionError {
    return new RedisConnectionError({ target: this.target, reason, detail })
  }

  private unknown(request: Request, reason: "timeout" | "disconnected"): RedisOutcomeUnknownError {
    return new RedisOutcomeUnknownError({ target: this.target, command: request.label, reason })
  }
}
