/**
 * The live driver: `RedisClient` over a connection of ioredis.
 *
 * What it adds to ioredis:
 *
 * - **Nothing is sent twice.** ioredis repeats unanswered commands on a new connection by default, so that one `INCR` can
 *   count twice. Here a command whose reply was lost fails with `RedisOutcomeUnknownError`.
 * - **Nothing waits for ever.** Every command has a deadline from the moment it is issued. While there is no connection,
 *   commands wait for one, and then fail with `RedisConnectionError`: these were certainly not executed.
 * - **Dead connections are found.** A connection on which nothing arrives any more is dropped when a command reaches its
 *   deadline, or when a ping that is sent after a silence of one command timeout stays unanswered for another one.
 *
 * @since 0.1.0
 */
// The completion of I/O, and its timers, are Node's here and nowhere else.
// @effect-diagnostics globalTimers:off
// @effect-diagnostics globalRandom:off
import type * as Config from "effect/Config"
import type * as ConfigError from "effect/ConfigError"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import type * as Schedule from "effect/Schedule"
import type * as Scope from "effect/Scope"
import { Command, Redis, type RedisOptions } from "ioredis"
import { makeNames, refuseBlocking } from "./internal/commandNames.js"
import { makeState } from "./internal/connectionState.js"
import { inputError } from "./internal/input.js"
import * as Metrics from "./internal/metrics.js"
import { execReplies, replyError, withoutArguments } from "./internal/replies.js"
import {
  type BytesReply,
  type ConnectionState,
  type Driver,
  type DriverConnection,
  type DriverExecutor,
  type DriverSubscriber,
  type Encoding,
  type Issue,
  make as makeClient,
  type RedisArg,
  RedisClient,
  type Reply,
  type Service,
  type SubscriptionKind
} from "./RedisClient.js"
import * as RedisConfig from "./RedisConfig.js"
import {
  RedisConnectionError,
  type RedisError,
  type RedisInputError,
  RedisOutcomeUnknownError,
  RedisReplyError
} from "./RedisError.js"

// ---------------------------------------------------------------------------------------------------------------------
// Replies
// ---------------------------------------------------------------------------------------------------------------------

/** Error replies inside of arrays (of `EXEC`, or of scripts) become our own, in place. */
const clean = (command: string, reply: any): any => {
  if (Array.isArray(reply)) {
    for (let i = 0; i < reply.length; i++) {
      const item = reply[i]
      if (typeof item === "object" && item !== null) reply[i] = clean(command, item)
    }
    return reply
  }
  return reply instanceof Error ? replyError(command, reply.message) : reply
}

const isReplyError = (error: Error): boolean => error.name === "ReplyError"

/** ioredis makes a text of bytes that are not a `Buffer`. */
const toArguments = (args: ReadonlyArray<RedisArg>, from: number): Array<string | Buffer | number> => {
  const out = new Array<string | Buffer | number>(args.length - from)
  for (let i = from; i < args.length; i++) {
    const arg = args[i]!
    out[i - from] = typeof arg === "object" && !Buffer.isBuffer(arg)
      ? Buffer.from(arg.buffer, arg.byteOffset, arg.byteLength)
      : arg
  }
  return out
}

const TEXT = { replyEncoding: "utf8" } as const
const BYTES = { replyEncoding: null } as const

// ---------------------------------------------------------------------------------------------------------------------
// Requests
// ---------------------------------------------------------------------------------------------------------------------

const noLabels: [] = []

const countFailure = (error: RedisError): void => Metrics.commandsFailed[error._tag].unsafeUpdate(1, noLabels)

const countReply = (elapsed: number): void => {
  Metrics.commandsOk.unsafeUpdate(1, noLabels)
  Metrics.commandSeconds.unsafeUpdate(elapsed / 1000, noLabels)
}

/** Something that waits for an answer of the server. */
abstract class Request {
  readonly issuedAt = performance.now()
  /** The answer, or what stands for it, was given. */
  settled = false
  /** It was handed to the socket, so from here on nobody knows whether it was executed. */
  written = false
  /** The connection that it was sent on, and how many bytes had arrived there by then. */
  connection = 0
  received = 0
  /** The next one in the queue of deadlines. */
  next: Request | undefined = undefined
  /** With a deadline other than the usual one. */
  home: Set<Request> | undefined = undefined
  timer: NodeJS.Timeout | undefined = undefined

  constructor(readonly label: string, readonly timeout: number) {}

  abstract send(link: Link): void
  abstract onReply(index: number, reply: any): void
  abstract onReplyError(index: number, error: RedisReplyError): void
  abstract onFailure(error: RedisError, elapsed: number): void

  fail(error: RedisError): void {
    if (this.settled) return
    this.settle()
    countFailure(error)
    this.onFailure(error, performance.now() - this.issuedAt)
  }

  settle(): void {
    this.settled = true
    if (this.home !== undefined) {
      clearTimeout(this.timer)
      this.home.delete(this)
    }
  }
}

class SingleRequest<A> extends Request {
  constructor(
    label: string,
    readonly args: ReadonlyArray<RedisArg>,
    readonly encoding: Encoding,
    readonly handleReply: (reply: any) => Effect.Effect<A, RedisError>,
    readonly handleError: (error: RedisError, elapsed: number) => Effect.Effect<A, RedisError>,
    timeout: number,
    readonly resume: (effect: Effect.Effect<A, RedisError>) => void
  ) {
    super(label, timeout)
  }

  send(link: Link): void {
    link.transmit(this, 0, this.label, toArguments(this.args, 0), this.encoding)
  }

  onReply(_index: number, reply: any): void {
    this.settle()
    countReply(performance.now() - this.issuedAt)
    let result: Effect.Effect<A, RedisError>
    try {
      result = this.handleReply(typeof reply === "object" && reply !== null ? clean(this.label, reply) : reply)
    } catch (defect) {
      result = Exit.die(defect)
    }
    this.resume(result)
  }

  onReplyError(_index: number, error: RedisReplyError): void {
    this.fail(error)
  }

  onFailure(error: RedisError, elapsed: number): void {
    this.resume(this.handleError(error, elapsed))
  }
}

/** Several commands that are sent in one write. */
class GroupRequest extends Request {
  private readonly replies: Array<Reply>
  private missing: number

  constructor(
    label: string,
    readonly names: ReadonlyArray<string>,
    /** With the names as the server may get them, which are not used. */
    readonly commands: ReadonlyArray<ReadonlyArray<RedisArg>>,
    timeout: number,
    readonly done: (result: Either.Either<ReadonlyArray<Reply>, RedisError>) => void
  ) {
    super(label, timeout)
    this.missing = commands.length
    this.replies = new Array(commands.length)
  }

  send(link: Link): void {
    // A second sending can only come after a first one of which nothing was written.
    this.missing = this.commands.length
    for (let i = 0; i < this.commands.length && !this.settled; i++) {
      link.transmit(this, i, this.names[i]!, toArguments(this.commands[i]!, 1), "text")
    }
  }

  onReply(index: number, reply: any): void {
    this.put(index, clean(this.names[index]!, reply))
  }

  onReplyError(index: number, error: RedisReplyError): void {
    this.put(index, error)
  }

  private put(index: number, reply: Reply): void {
    this.replies[index] = reply
    if (--this.missing > 0) return
    this.settle()
    const elapsed = performance.now() - this.issuedAt
    for (const reply of this.replies) {
      if (reply instanceof RedisReplyError) countFailure(reply)
      else countReply(elapsed)
    }
    this.done(Either.right(this.replies))
  }

  onFailure(error: RedisError): void {
    this.done(Either.left(error))
  }
}

/** A command that waits on the server as long as it likes. */
class BlockingRequest extends Request {
  constructor(
    label: string,
    readonly args: ReadonlyArray<RedisArg>,
    readonly done: (result: Either.Either<BytesReply, RedisError>) => void
  ) {
    super(label, Infinity)
  }

  send(link: Link): void {
    link.transmit(this, 0, this.label, toArguments(this.args, 0), "bytes")
  }

  onReply(_index: number, reply: any): void {
    this.settle()
    Metrics.commandsOk.unsafeUpdate(1, noLabels)
    this.done(Either.right(clean(this.label, reply)))
  }

  onReplyError(_index: number, error: RedisReplyError): void {
    this.fail(error)
  }

  onFailure(error: RedisError): void {
    this.done(Either.left(error))
  }
}

// ---------------------------------------------------------------------------------------------------------------------
// Deadlines
// ---------------------------------------------------------------------------------------------------------------------

/**
 * The deadlines of all requests of a connection. Those with the usual timeout end in the order in which they were
 * issued, so one timer for the first of them is enough.
 */
class Deadlines {
  private head: Request | undefined = undefined
  private tail: Request | undefined = undefined
  private timer: NodeJS.Timeout | undefined = undefined
  private readonly others = new Set<Request>()

  constructor(readonly usual: number, readonly expire: (requests: ReadonlyArray<Request>) => void) {}

  add(request: Request): void {
    if (request.timeout === this.usual) {
      // Answered ones leave here, so that the queue is never longer than what is unanswered, and its first one.
      while (this.head !== undefined && this.head.settled) this.head = this.head.next
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
      this.head = this.head.next
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

// ---------------------------------------------------------------------------------------------------------------------
// Links
// ---------------------------------------------------------------------------------------------------------------------

/** Joins the commands of one turn into one write, and notices for each whether ioredis wrote it. */
class Batch {
  readonly isPipeline = true
  readonly destination: { readonly redis: Redis }
  wrote = false
  private text = ""
  private parts: Array<Buffer> | undefined = undefined

  constructor(client: Redis) {
    this.destination = { redis: client }
  }

  write(data: string | Buffer): void {
    this.wrote = true
    if (typeof data === "string") {
      this.text += data
      if (this.text.length > MAX_BATCH) this.flush()
    } else {
      this.takeText()
      ;(this.parts ??= []).push(data)
    }
  }

  private takeText(): void {
    if (this.text === "") return
    if (this.parts !== undefined) this.parts.push(Buffer.from(this.text))
    else this.parts = [Buffer.from(this.text)]
    this.text = ""
  }

  flush(): void {
    if (this.parts === undefined) {
      if (this.text === "") return
      const text = this.text
      this.text = ""
      this.destination.redis.stream.write(text)
    } else {
      this.takeText()
      const bytes = this.parts.length === 1 ? this.parts[0]! : Buffer.concat(this.parts)
      this.parts = undefined
      this.destination.redis.stream.write(bytes)
    }
  }
}

const MAX_BATCH = 1 << 20

/**
 * With all requests of a turn in one write, the server waits while they are written and we wait while it executes them.
 * Several writes let both work at the same time: half as much again for a hundred locks in flight, measured.
 */
const REQUESTS_IN_A_WRITE = 48

/** What a link is for. */
type Role = "shared" | "subscriber" | "reserved"

interface LinkSettings {
  readonly target: string
  readonly role: Role
  /** In milliseconds. */
  readonly connectTimeout: number
  readonly commandTimeout: number
  /** Whether the first connection may be tried again and again, as all later ones are. */
  readonly patient: boolean
}

const AUTH = /NOAUTH|WRONGPASS|invalid password|invalid username-password/

/** One connection, and what waits for it. */
class Link {
  client!: Redis
  private batch!: Batch
  /** Commands can be sent. */
  private up = false
  /** It is up, but what comes now waits for the next connection. */
  private paused = false
  /** It was up before. */
  private everUp = false
  /** Why nothing will ever be sent again. */
  private closed: RedisConnectionError | undefined = undefined
  /** Requests that were issued in this turn. */
  private queued: Array<Request> = []
  private scheduled = false
  /** Requests that wait for a connection. */
  private waiting: Array<Request> = []
  private readonly deadlines: Deadlines
  /** Commands that were sent and not answered. */
  private outstanding = 0
  private onDrained: (() => void) | undefined = undefined
  /** Counts connections. */
  private connection = 0
  private lastError: RedisConnectionError | undefined = undefined
  /** The database could not be selected: what is connected is not what was asked for. */
  private broken = false
  private watcher: NodeJS.Timeout | undefined = undefined
  private handshake: NodeJS.Timeout | undefined = undefined
  private retiredAt = -Infinity
  private owned = true
  private readonly listeners: Array<readonly [event: string, listener: (...args: Array<any>) => void]> = []

  onUp: ((again: boolean) => void) | undefined = undefined
  onDown: (() => void) | undefined = undefined
  onState: ((status: ConnectionState["status"], error: RedisError | undefined) => void) | undefined = undefined
  private onFirst: ((result: Effect.Effect<void, RedisConnectionError>) => void) | undefined = undefined

  constructor(readonly settings: LinkSettings) {
    this.deadlines = new Deadlines(settings.commandTimeout, (requests) => this.expire(requests))
  }

  // --- Life ---

  /** Settings under which ioredis leaves all decisions to us. */
  own(options: RedisOptions): this {
    const { commandTimeout, connectTimeout, role } = this.settings
    // Version 6 of ioredis speaks RESP3 unless told otherwise; replies inside of EXEC would then have other shapes.
    const protocol: object = { protocol: 2 }
    this.attach(
      new Redis({
        ...options,
        ...protocol,
        lazyConnect: true,
        enableAutoPipelining: false,
        autoResendUnfulfilledCommands: false,
        maxRetriesPerRequest: 0,
        enableOfflineQueue: false,
        autoResubscribe: false,
        keyPrefix: "",
        connectTimeout,
        // A command must not end in any way that we do not see.
        commandTimeout: undefined,
        blockingTimeout: undefined,
        socketTimeout: undefined,
        reconnectOnError: null,
        stringNumbers: false,
        showFriendlyErrorStack: false,
        readOnly: false,
        disconnectTimeout: 50,
        maxLoadingRetryTime: Math.max(50, Math.min(1000, connectTimeout / 4, commandTimeout / 2)),
        // The kernel finds a dead peer of a connection that is blocked and can't be asked.
        keepAlive: 10_000,
        retryStrategy: (times) =>
          this.closed !== undefined || role === "reserved" || !(this.everUp || this.settings.patient)
            ? null
            : Math.min(2000, 50 * 2 ** Math.min(times - 1, 6)) * (0.5 + Math.random() / 2)
      })
    )
    return this
  }

  attach(client: Redis, owned = true): this {
    this.client = client
    this.owned = owned
    this.batch = new Batch(client)
    this.on("error", (error: Error) => this.onError(error))
    this.on("connecting", () => this.onConnecting())
    this.on("connect", () => this.onConnect())
    this.on("ready", () => this.onReady())
    this.on("close", () => this.onClose())
    this.on("end", () => this.onEnd())
    if (client.status === "ready") this.rise()
    else if (client.status === "end") this.onEnd()
    return this
  }

  on(event: string, listener: (...args: Array<any>) => void): void {
    this.listeners.push([event, listener])
    this.client.on(event, listener)
  }

  /** Connects for the first time, within the time for that. */
  readonly connect: Effect.Effect<void, RedisConnectionError> = Effect.async<void, RedisConnectionError>((resume) => {
    const timer = setTimeout(() => {
      this.onFirst?.(Effect.fail(this.error("connect", `no answer within ${this.settings.connectTimeout} ms`)))
    }, this.settings.connectTimeout)
    this.onFirst = (result) => {
      this.onFirst = undefined
      clearTimeout(timer)
      resume(result)
    }
    this.wake()
  })

  private wake(): void {
    // What goes wrong is also an event.
    if (this.client.status === "wait") this.client.connect().catch(() => {})
  }

  /** Waits a little for what is underway, and then settles everything. */
  readonly close: Effect.Effect<void> = Effect.async<void>((resume) => {
    const first = this.closed === undefined
    this.closed ??= this.error("closed", "the client was closed")
    this.onFirst?.(Effect.fail(this.closed))
    this.flush()
    const unsent = this.waiting
    this.waiting = []
    for (const request of unsent) request.fail(this.closed)
    const finish = () => {
      this.onDrained = undefined
      clearTimeout(timer)
      this.settleAll()
      this.release(() => resume(Effect.void))
      if (first) this.onState?.("end", undefined)
    }
    const timer = setTimeout(finish, Math.min(1000, this.settings.commandTimeout))
    if (this.up && this.outstanding > 0) this.onDrained = finish
    else finish()
  })

  private settleAll(): void {
    for (const request of this.deadlines.drain()) {
      request.fail(request.written ? this.unknown(request, "disconnected") : this.closed ?? this.unavailable(request))
    }
  }

  private release(done: () => void): void {
    const { client } = this
    this.fall()
    clearTimeout(this.handshake)
    if (!this.owned || client.status === "end") {
      if (!this.owned) { for (const [event, listener] of this.listeners) client.off(event, listener) }
      return done()
    }
    const timer = setTimeout(done, 100)
    client.once("end", () => {
      clearTimeout(timer)
      done()
    })
    // Between two attempts there is no connection whose end could be told.
    const between = client.status === "reconnecting"
    client.disconnect()
    this.drop()
    if (between) {
      clearTimeout(timer)
      done()
    }
  }

  /** Ends the connection here and now, whatever the other side does; ioredis then makes another one. */
  drop(): void {
    // There is no stream before the first connection.
    const stream: Redis["stream"] | undefined = this.client.stream
    stream?.destroy()
  }

  // --- Events of ioredis ---

  private onError(error: Error): void {
    const detail = withoutArguments(error.message)
    const command: unknown = "command" in error ? error.command : undefined
    if (
      isReplyError(error) && typeof command === "object" && command !== null && "name" in command &&
      command.name === "select"
    ) {
      this.broken = true
      this.lastError = this.error("connect", `the database could not be selected: ${detail}`)
      return
    }
    this.lastError = this.error(AUTH.test(detail) ? "auth" : "connect", detail)
  }

  private onConnecting(): void {
    this.broken = false
    this.onState?.(this.everUp ? "reconnecting" : "connecting", this.everUp ? this.lastError : undefined)
  }

  /** A server that accepts a connection and then says nothing would hold ioredis for ever. */
  private onConnect(): void {
    let received = -1
    const check = () => {
      if (this.client.stream.bytesRead === received) return this.drop()
      received = this.client.stream.bytesRead
      this.handshake = setTimeout(check, this.settings.connectTimeout)
      this.handshake.unref()
    }
    clearTimeout(this.handshake)
    check()
  }

  /** The reply to this PING comes after those to everything that ioredis sent before. */
  private onReady(): void {
    clearTimeout(this.handshake)
    const connection = ++this.connection
    this.command("PING", (error) => {
      if (connection !== this.connection || this.client.status !== "ready" || this.up) return
      // Not sent, or not answered: the connection ends, and that is told separately.
      if (error !== undefined && !isReplyError(error)) return
      if (error !== undefined && AUTH.test(error.message)) {
        this.lastError = this.error("auth", withoutArguments(error.message))
      } else if (!this.broken) {
        return this.rise()
      }
      this.drop()
    })
    this.handshake = setTimeout(() => this.drop(), this.settings.connectTimeout)
    this.handshake.unref()
  }

  private onClose(): void {
    clearTimeout(this.handshake)
    const wasUp = this.up
    this.connection++
    if (wasUp) this.lastError = this.error("unavailable", "the connection was lost")
    this.fall()
    if (this.closed !== undefined) return
    this.onState?.(wasUp ? "reconnecting" : "error", this.lastError)
    // Waiting longer does not make a password right, and neither does it make a database.
    if (!wasUp && (this.lastError?.reason === "auth" || this.broken)) {
      const waiting = this.waiting
      this.waiting = []
      for (const request of waiting) if (!request.settled) request.fail(this.lastError ?? this.unavailable(request))
    }
  }

  private onEnd(): void {
    this.fall()
    const error = this.lastError ?? this.error("connect", "the connection was closed")
    this.onFirst?.(Effect.fail(error.reason === "unavailable" ? this.error("connect", error.detail) : error))
    if (this.closed !== undefined) return
    this.closed = this.error("closed", this.owned ? "the connection was lost" : "the client was closed")
    for (const request of this.waiting.concat(this.queued)) request.fail(this.closed)
    this.waiting = []
    this.queued = []
    this.settleAll()
    this.onState?.("end", this.closed)
  }

  // --- Up and down ---

  private rise(): void {
    clearTimeout(this.handshake)
    const again = this.everUp
    this.up = true
    this.paused = false
    this.everUp = true
    this.lastError = undefined
    this.watch()
    if (this.settings.role === "shared") Metrics.connectionUp.unsafeModify(1, noLabels)
    if (again) Metrics.reconnects.unsafeUpdate(1, noLabels)
    this.onState?.("connected", undefined)
    this.onFirst?.(Effect.void)
    this.onUp?.(again)
    const waiting = this.waiting
    this.waiting = []
    for (const request of waiting) this.enqueue(request)
  }

  private fall(): void {
    clearInterval(this.watcher)
    if (!this.up) return
    this.up = false
    if (this.settings.role === "shared") Metrics.connectionUp.unsafeModify(-1, noLabels)
    this.onDown?.()
  }

  /**
   * Asks a silent connection whether it is alive. A blocked one can't answer, so reserved ones are left to the keep-alive
   * of the kernel.
   */
  private watch(): void {
    clearInterval(this.watcher)
    if (this.settings.role === "reserved") return
    const { stream } = this.client
    let received = stream.bytesRead
    let asked = false
    this.watcher = setInterval(() => {
      if (stream.bytesRead !== received) {
        received = stream.bytesRead
        asked = false
      } else if (!asked) {
        asked = true
        this.command("PING", () => {})
      } else {
        // As with deadlines: what is already in the socket wins.
        setImmediate(() => {
          if (stream.bytesRead === received) stream.destroy()
        })
      }
    }, this.settings.commandTimeout)
    this.watcher.unref()
  }

  get isUp(): boolean {
    return this.up
  }

  /** A command of the driver itself: without deadline, and not counted. */
  private command(name: string, done: (error: Error | undefined) => void): void {
    this.client.sendCommand(new Command(name, [], TEXT, (error) => done(error ?? undefined)))
  }

  /**
   * The server became a replica: another connection may find the new master. What is underway ends before, and everything
   * else waits for the new connection. Not more than once in a second, because it may be a replica on purpose.
   */
  private retire(): void {
    const now = performance.now()
    if (!this.owned || now - this.retiredAt < 1000 || this.settings.role !== "shared") return
    this.retiredAt = now
    this.onDrained = () => {
      this.onDrained = undefined
      this.drop()
    }
    this.paused = true
    const timer = setTimeout(() => this.onDrained?.(), this.settings.commandTimeout)
    timer.unref()
  }

  // --- Requests ---

  /** Returns how to take it back, as long as it waits for a connection. */
  submit(request: Request): Effect.Effect<void> | undefined {
    if (this.closed !== undefined) {
      request.fail(this.closed)
      return undefined
    }
    this.deadlines.add(request)
    this.enqueue(request)
    return this.up && !this.paused ? undefined : Effect.sync(() => {
      if (!request.written) request.settle()
    })
  }

  private enqueue(request: Request): void {
    if (!this.up || this.paused) {
      this.waiting.push(request)
      this.wake()
      return
    }
    this.queued.push(request)
    if (this.scheduled) return
    this.scheduled = true
    // All fibers that the last replies woke have issued their next commands by then.
    process.nextTick(this.flush)
  }

  private readonly flush = (): void => {
    this.scheduled = false
    const requests = this.queued
    this.queued = []
    const { connection } = this
    const received = this.up ? this.client.stream.bytesRead : 0
    let sent = 0
    for (const request of requests) {
      if (request.settled) continue
      if (!this.up || this.paused) {
        this.waiting.push(request)
        continue
      }
      request.connection = connection
      request.received = received
      request.send(this)
      if (++sent % REQUESTS_IN_A_WRITE === 0) this.batch.flush()
    }
    this.batch.flush()
  }

  transmit(
    request: Request,
    index: number,
    name: string,
    args: Array<string | Buffer | number>,
    encoding: Encoding
  ): void {
    const command = new Command(name, args, encoding === "text" ? TEXT : BYTES, (error, reply) => {
      this.outstanding--
      if (error === null || error === undefined) {
        if (!request.settled) request.onReply(index, reply ?? null)
      } else {
        this.onCommandError(request, index, name, error)
      }
      if (this.outstanding === 0 && this.onDrained !== undefined) this.onDrained()
    })
    this.outstanding++
    this.batch.wrote = false
    this.client.sendCommand(command, this.batch)
    if (this.batch.wrote) request.written = true
  }

  private onCommandError(request: Request, index: number, name: string, error: Error): void {
    if (isReplyError(error)) {
      const ours = replyError(name, error.message)
      if (ours.code === "READONLY") this.retire()
      if (!request.settled) request.onReplyError(index, ours)
    } else if (request.settled) {
      return
    } else if (request.written) {
      request.fail(this.unknown(request, "disconnected"))
    } else if (this.closed !== undefined) {
      request.fail(this.closed)
    } else if (index === 0) {
      // ioredis found the connection gone before the event that says so. The next one that is ready takes it.
      this.paused = true
      this.waiting.push(request)
    }
  }

  private expire(requests: ReadonlyArray<Request>): void {
    let dead = false
    for (const request of requests) {
      if (request.settled) continue
      if (request.written) {
        dead ||= request.timeout >= this.settings.commandTimeout && request.connection === this.connection &&
          this.client.stream.bytesRead === request.received
        request.fail(this.unknown(request, "timeout"))
      } else {
        request.fail(this.unavailable(request))
      }
    }
    if (this.waiting.length > 0) this.waiting = this.waiting.filter((request) => !request.settled)
    if (dead) this.drop()
  }

  // --- Errors ---

  error(reason: RedisConnectionError["reason"], detail: string): RedisConnectionError {
    return new RedisConnectionError({ target: this.settings.target, reason, detail })
  }

  private unknown(request: Request, reason: "timeout" | "disconnected"): RedisOutcomeUnknownError {
    return new RedisOutcomeUnknownError({ target: this.settings.target, command: request.label, reason })
  }

  private unavailable(request: Request): RedisConnectionError {
    return this.error(
      this.lastError?.reason === "auth" ? "auth" : "unavailable",
      `no connection within ${Math.round(request.timeout)} ms${
        this.lastError === undefined ? "" : `: ${this.lastError.detail}`
      }`
    )
  }
}

// ---------------------------------------------------------------------------------------------------------------------
// Executors
// ---------------------------------------------------------------------------------------------------------------------

/** Names go in capitals: ioredis changes arguments and replies of some commands, which it knows by their small letters. */
const makeExecutor = (link: Link, shared: boolean): DriverExecutor => {
  const nameOf = makeNames(shared)

  const issue: Issue = (command, args, encoding, onReply, onError, timeout) =>
    Effect.async((resume) => {
      const { name, refused } = nameOf(command)
      const bad = refused ?? (shared ? refuseBlocking(name, args) : undefined)
      if (bad !== undefined) return resume(onError(bad, 0))
      return link.submit(new SingleRequest(name, args, encoding, onReply, onError, timeout, resume))
    })

  const group = (
    label: string,
    commands: ReadonlyArray<ReadonlyArray<RedisArg>>,
    timeout: number
  ): Effect.Effect<ReadonlyArray<Reply>, RedisError> =>
    Effect.async((resume) => {
      const names: Array<string> = []
      for (const command of commands) {
        const { name, refused } = nameOf(String(command[0]))
        const bad = refused ?? (shared ? refuseBlocking(name, command) : undefined)
        if (bad !== undefined) return resume(Effect.fail(bad))
        names.push(name)
      }
      if (label !== "MULTI") return link.submit(new GroupRequest(label, names, commands, timeout, resume))
      const all = [["MULTI"], ...commands, ["EXEC"]]
      return link.submit(new GroupRequest(label, ["MULTI", ...names, "EXEC"], all, timeout, resume))
    })

  return {
    issue,
    pipeline: (commands, timeout) => commands.length === 0 ? Effect.succeed([]) : group("PIPELINE", commands, timeout),
    transaction: (commands, timeout) =>
      Effect.flatMap(
        group("MULTI", commands, timeout),
        (replies) => execReplies(replies, (i) => nameOf(String(commands[i]![0])).name)
      )
  }
}

// ---------------------------------------------------------------------------------------------------------------------
// Subscriber
// ---------------------------------------------------------------------------------------------------------------------

const verbs = {
  channel: ["subscribe", "unsubscribe"],
  pattern: ["psubscribe", "punsubscribe"],
  shard: ["ssubscribe", "sunsubscribe"]
} as const

const makeSubscriber = (open: () => Link): DriverSubscriber => {
  let link: Link | undefined
  let listener: Parameters<DriverSubscriber["listen"]>[0] | undefined

  const connect = (): Link => {
    if (link !== undefined) return link
    const made = link = open()
    made.onDown = () => listener?.onDown()
    made.onUp = (again) => {
      if (again) listener?.onUp()
    }
    made.on("messageBuffer", (channel: Buffer, bytes: Buffer) => {
      const name = channel.toString()
      listener?.onMessage("channel", name, name, bytes)
    })
    made.on("smessageBuffer", (channel: Buffer, bytes: Buffer) => {
      const name = channel.toString()
      listener?.onMessage("shard", name, name, bytes)
    })
    made.on(
      "pmessageBuffer",
      (pattern: string | Buffer, channel: Buffer, bytes: Buffer) =>
        listener?.onMessage("pattern", pattern.toString(), channel.toString(), bytes)
    )
    return made
  }

  const send = (verb: string, names: ReadonlyArray<string>): Effect.Effect<void, RedisError> =>
    Effect.async((resume) => {
      const link = connect()
      return link.submit(
        new SingleRequest(verb, names, "text", () => Effect.void, Effect.fail, link.settings.commandTimeout, resume)
      )
    })

  return {
    subscribe: (kind: SubscriptionKind, names) => send(verbs[kind][0], names),
    // Without a connection there is nothing left to undo: the next one starts without subscriptions.
    unsubscribe: (kind: SubscriptionKind, names) =>
      Effect.suspend(() => link !== undefined && link.isUp ? send(verbs[kind][1], names) : Effect.void),
    listen: (added) => {
      listener = added
    }
  }
}

// ---------------------------------------------------------------------------------------------------------------------
// Reserved connections
// ---------------------------------------------------------------------------------------------------------------------

const makeReserved = (link: Link, shared: Link, id: number): DriverConnection => {
  let blocked: BlockingRequest | undefined

  /**
   * The command may be on its way still, so one CLIENT UNBLOCK can be too early. It ends only when the last one was
   * answered: one that comes late would unblock the next command. When that can't be had, the connection ends.
   */
  const unblock = Effect.async<void>((resume) => {
    const end = performance.now() + shared.settings.commandTimeout
    const giveUp = () => {
      link.drop()
      resume(Effect.void)
    }
    const attempt = (pause: number): void => {
      if (blocked === undefined) return resume(Effect.void)
      const left = end - performance.now()
      if (left < 1) return giveUp()
      shared.submit(
        new SingleRequest(
          "CLIENT",
          ["UNBLOCK", String(id)],
          "text",
          Effect.succeed,
          Effect.fail,
          left,
          (result) => {
            if (Exit.isExit(result) && Exit.isFailure(result)) return giveUp()
            if (blocked === undefined) return resume(Effect.void)
            setTimeout(attempt, pause, Math.min(50, pause * 2))
          }
        )
      )
    }
    attempt(1)
  })

  const nameOf = makeNames(false)

  return {
    ...makeExecutor(link, false),
    id,
    block: (command, args, callback) => {
      const { name, refused } = nameOf(command)
      if (refused !== undefined) return callback(Either.left(refused))
      const request: BlockingRequest = new BlockingRequest(name, args, (result) => {
        if (blocked === request) blocked = undefined
        callback(result)
      })
      blocked = request
      link.submit(request)
    },
    unblock
  }
}

// ---------------------------------------------------------------------------------------------------------------------
// Constructors
// ---------------------------------------------------------------------------------------------------------------------

/** Over a shared link that may not be connected yet; `open` makes the others. */
const makeService = (options: {
  readonly target: string
  readonly keyPrefix: string
  readonly commandTimeout: number
  readonly retry: Schedule.Schedule<unknown, unknown>
  readonly shared: (prepare: (link: Link) => void) => Link
  readonly connect: boolean
  readonly open: (role: Role) => Link
}): Effect.Effect<Service, RedisError, Scope.Scope> =>
  Effect.gen(function*() {
    const state = makeState()
    const links = new Set<Link>()
    let closing = false
    const shared = yield* Effect.acquireRelease(
      Effect.sync(() => options.shared((link) => link.onState = state.set)),
      (shared) =>
        Effect.suspend(() => {
          closing = true
          return Effect.forEach([...links, shared], (link) => link.close, { concurrency: "unbounded", discard: true })
        })
    )
    if (options.connect) yield* shared.connect

    const openLink = (role: Role): Link => {
      const link = options.open(role)
      links.add(link)
      return link
    }

    const driver: Driver = {
      ...makeExecutor(shared, true),
      target: options.target,
      keyPrefix: options.keyPrefix,
      commandTimeout: options.commandTimeout,
      retry: options.retry,
      state: state.changes,
      subscriber: makeSubscriber(() => openLink("subscriber")),
      reserve: () =>
        Effect.gen(function*() {
          if (closing) return yield* shared.error("closed", "the client was closed")
          const link = yield* Effect.acquireRelease(
            Effect.sync(() => openLink("reserved")),
            (link) => Effect.zipRight(link.close, Effect.sync(() => links.delete(link)))
          )
          yield* link.connect
          const id = yield* makeExecutor(link, false).issue(
            "CLIENT",
            ["ID"],
            "text",
            (reply) => Effect.succeed(Number(reply)),
            Effect.fail,
            options.commandTimeout
          )
          return makeReserved(link, shared, id)
        }),
      masters: Effect.sync(() => [driver])
    }
    return yield* makeClient(driver)
  })

const tlsOptions = (tls: RedisConfig.TlsOptions): NonNullable<RedisOptions["tls"]> => ({
  ...(tls.ca === undefined ? {} : { ca: tls.ca }),
  ...(tls.cert === undefined ? {} : { cert: tls.cert }),
  ...(tls.key === undefined ? {} : { key: Redacted.value(tls.key) }),
  ...(tls.servername === undefined ? {} : { servername: tls.servername }),
  ...(tls.rejectUnauthorized === undefined ? {} : { rejectUnauthorized: tls.rejectUnauthorized })
})

/**
 * A client of one server, connected: a server that can't be reached or refuses the password is a
 * `RedisConnectionError` within the connect timeout. With `lazyConnect` the first command connects.
 *
 * The scope closes it. What is underway then gets up to a second (or the command timeout, when it is shorter) to end.
 *
 * @example
 * ```ts
 * import { Effect } from "effect"
 * import { RedisConfig } from "effect-redis-kit"
 * import * as IoRedis from "effect-redis-kit/IoRedis"
 *
 * const program = Effect.scoped(Effect.gen(function*() {
 *   const client = yield* Effect.flatMap(RedisConfig.make({ host: "localhost" }), IoRedis.make)
 *   return yield* client.send("PING")
 * }))
 * ```
 *
 * @since 0.1.0
 * @category constructors
 */
export const make = (config: RedisConfig.RedisConfig): Effect.Effect<Service, RedisError, Scope.Scope> =>
  Effect.suspend(() => {
    const target = RedisConfig.target(config)
    const connectTimeout = Duration.toMillis(config.connectTimeout)
    const commandTimeout = Duration.toMillis(config.commandTimeout)
    const options: RedisOptions = {
      host: config.host,
      port: config.port,
      db: config.db,
      enableReadyCheck: config.readyCheck,
      ...(Option.isSome(config.username) ? { username: config.username.value } : {}),
      ...(Option.isSome(config.password) ? { password: Redacted.value(config.password.value) } : {}),
      ...(Option.isSome(config.tls) ? { tls: tlsOptions(config.tls.value) } : {}),
      ...(Option.isSome(config.name) ? { connectionName: config.name.value } : {})
    }
    const open = (role: Role, patient: boolean) => new Link({ target, role, connectTimeout, commandTimeout, patient })
    return makeService({
      target,
      keyPrefix: config.keyPrefix,
      commandTimeout,
      retry: config.retry,
      shared: (prepare) => {
        const link = open("shared", config.lazyConnect)
        prepare(link)
        return link.own(options)
      },
      connect: !config.lazyConnect,
      open: (role) => open(role, role === "subscriber").own(options)
    })
  })

/**
 * A client of one server. Options are checked: a bad one is a `RedisInputError` that names it.
 *
 * @example
 * ```ts
 * import { Effect, Redacted } from "effect"
 * import { RedisClient } from "effect-redis-kit"
 * import * as IoRedis from "effect-redis-kit/IoRedis"
 *
 * const RedisLive = IoRedis.layer({
 *   host: "redis.internal",
 *   password: Redacted.make("secret"),
 *   keyPrefix: "shop:",
 *   commandTimeout: "2 seconds"
 * })
 *
 * const program = Effect.flatMap(RedisClient.RedisClient, (client) => client.send("PING")).pipe(
 *   Effect.provide(RedisLive)
 * )
 * ```
 *
 * @since 0.1.0
 * @category layers
 */
export const layer = (options?: RedisConfig.Options): Layer.Layer<RedisClient, RedisError> =>
  Layer.scoped(RedisClient, Effect.flatMap(RedisConfig.make(options), make))

/**
 * A client of the server that the environment names; see `RedisConfig.config` for the variables.
 *
 * @example
 * ```ts
 * import { Config } from "effect"
 * import { RedisConfig } from "effect-redis-kit"
 * import * as IoRedis from "effect-redis-kit/IoRedis"
 *
 * const RedisLive = IoRedis.layerConfig()
 *
 * // The same, with a fixed prefix.
 * const ShopLive = IoRedis.layerConfig(Config.map(RedisConfig.config, (config) => ({ ...config, keyPrefix: "shop:" })))
 * ```
 *
 * @since 0.1.0
 * @category layers
 */
export const layerConfig = (
  config: Config.Config<RedisConfig.RedisConfig> = RedisConfig.config
): Layer.Layer<RedisClient, RedisError | ConfigError.ConfigError> =>
  Layer.scoped(RedisClient, Effect.flatMap(config, make))

/**
 * What may be chosen for a client that somebody else owns.
 *
 * @since 0.1.0
 * @category models
 */
export interface FromClientOptions {
  /** Put before every key and channel by everything except the raw `send`; default none. */
  readonly keyPrefix?: string | undefined
  /** How long a command may take from the moment it is issued; default 5 seconds. */
  readonly commandTimeout?: Duration.DurationInput | undefined
  /** How idempotent commands are tried again, as in `RedisConfig`. */
  readonly retry?: Schedule.Schedule<unknown, unknown> | undefined
}

/**
 * Options that a client must have been made with before `fromClient` takes it: with the defaults of ioredis, a command
 * can be executed twice after a reconnection, or long after its caller was told that it failed.
 *
 * `protocol` is for version 6 of ioredis; version 5 does not read it.
 *
 * @since 0.1.0
 * @category constants
 */
export const clientOptions = {
  autoResendUnfulfilledCommands: false,
  maxRetriesPerRequest: 0,
  enableOfflineQueue: false,
  protocol: 2
} as const

const checkClient = (client: Redis): RedisInputError | undefined => {
  const options = client.options
  const refuse = (field: string, expected: string, actual: unknown) => inputError("fromClient", field, expected, actual)
  if (client.isCluster) return refuse("client", "a client of one server", "a client of a cluster")
  if (client.mode !== "normal") return refuse("client", "neither subscribed nor monitoring", client.mode)
  if (options.keyPrefix !== undefined && options.keyPrefix !== "") {
    return refuse("keyPrefix", "empty in the client's options, and given to fromClient", "set")
  }
  if (options.autoResendUnfulfilledCommands !== false) {
    return refuse("autoResendUnfulfilledCommands", "false, or commands are executed twice", "true")
  }
  if (options.maxRetriesPerRequest !== 0) {
    return refuse("maxRetriesPerRequest", "0, or commands wait for ever", options.maxRetriesPerRequest)
  }
  if (options.enableOfflineQueue !== false) {
    return refuse("enableOfflineQueue", "false, or commands are sent after their deadline", "true")
  }
  if (options.stringNumbers === true) return refuse("stringNumbers", "false", "true")
  if (options.commandTimeout !== undefined) {
    return refuse("commandTimeout", "left out, and given to fromClient", options.commandTimeout)
  }
  // Known to version 6 only.
  const { protocol, replyMapping }: RedisOptions & { readonly protocol?: unknown; readonly replyMapping?: unknown } =
    options
  if (protocol !== undefined && protocol !== 2) return refuse("protocol", "2", protocol)
  if (replyMapping === "resp3") return refuse("replyMapping", "\"legacy\"", replyMapping)
  return undefined
}

/**
 * Over a client of ioredis that you own: it is used as it is, and never closed. Subscriptions and reserved connections
 * get connections of their own with the same address, and these are closed with the scope.
 *
 * The client must have been made with `clientOptions`, and without a `keyPrefix`; else it is refused with a
 * `RedisInputError` that names the option. When it stops answering, its connection is dropped, so that it makes another.
 *
 * @example
 * ```ts
 * import { Effect } from "effect"
 * import * as IoRedis from "effect-redis-kit/IoRedis"
 * import { Redis } from "ioredis"
 *
 * const redis = new Redis({ host: "localhost", lazyConnect: true, ...IoRedis.clientOptions })
 *
 * const program = Effect.scoped(Effect.gen(function*() {
 *   const client = yield* IoRedis.fromClient(redis, { keyPrefix: "shop:" })
 *   return yield* client.send("PING")
 * }))
 * ```
 *
 * @since 0.1.0
 * @category constructors
 */
export const fromClient = (
  client: Redis,
  options?: FromClientOptions
): Effect.Effect<Service, RedisError, Scope.Scope> =>
  Effect.gen(function*() {
    const refused = checkClient(client)
    if (refused !== undefined) return yield* refused
    const config = yield* RedisConfig.make({
      keyPrefix: options?.keyPrefix,
      commandTimeout: options?.commandTimeout,
      retry: options?.retry
    })
    const { connectTimeout = 10_000, db = 0, host = "localhost", path, port = 6379, tls } = client.options
    const target = path === undefined || path === null
      ? `redis${tls === undefined ? "" : "s"}://${host}:${port}/${db}`
      : `unix:${path}`
    const commandTimeout = Duration.toMillis(config.commandTimeout)
    const open = (role: Role) =>
      new Link({ target, role, connectTimeout, commandTimeout, patient: role !== "reserved" })
    return yield* makeService({
      target,
      keyPrefix: config.keyPrefix,
      commandTimeout,
      retry: config.retry,
      shared: (prepare) => {
        const link = open("shared")
        prepare(link)
        return link.attach(client, false)
      },
      connect: false,
      open: (role) => open(role).own(client.options)
    })
  })

/**
 * `fromClient` as a layer.
 *
 * @example
 * ```ts
 * import * as IoRedis from "effect-redis-kit/IoRedis"
 * import { Redis } from "ioredis"
 *
 * const redis = new Redis({ lazyConnect: true, ...IoRedis.clientOptions })
 * const RedisLive = IoRedis.layerFromClient(redis, { keyPrefix: "shop:" })
 * ```
 *
 * @since 0.1.0
 * @category layers
 */
export const layerFromClient = (client: Redis, options?: FromClientOptions): Layer.Layer<RedisClient, RedisError> =>
  Layer.scoped(RedisClient, fromClient(client, options))
