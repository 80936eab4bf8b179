/**
 * One connection of ioredis, and what waits for it.
 */
// The completion of I/O, and its timers, are Node's here.
// @effect-diagnostics globalTimers:off
// @effect-diagnostics globalRandom:off
import * as Effect from "effect/Effect"
import { Command, Redis, type RedisOptions } from "ioredis"
import * as Metrics from "../internal/metrics.js"
import { replyError, withoutArguments } from "../internal/replies.js"
import type { ConnectionState, Encoding } from "../RedisClient.js"
import { RedisConnectionError, type RedisError, RedisOutcomeUnknownError } from "../RedisError.js"
import * as BareCommand from "./BareCommand.js"
import { Deadlines } from "./Deadlines.js"
import { BYTES, type CommandArgs, isReplyError, noLabels, type Request, TEXT } from "./Request.js"

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
      // Node writes a text of single bytes from its stack; room for UTF-8, three bytes for each character, it takes from the
      // heap. That is a twentieth of a hundred commands in flight.
      this.destination.redis.stream.write(text, Buffer.byteLength(text) === text.length ? "latin1" : "utf8")
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
export type Role = "shared" | "subscriber" | "reserved"

export interface LinkSettings {
  readonly target: string
  readonly role: Role
  /** In milliseconds. */
  readonly connectTimeout: number
  readonly commandTimeout: number
  /** Whether the first connection may be tried again and again, as all later ones are. */
  readonly patient: boolean
  /** It lives for one connection: whoever made it decides what comes after. */
  readonly once?: boolean | undefined
  /** The server is found through sentinels, and must be the master of this name. */
  readonly master?: string | undefined
}

const backoff = (times: number, most: number): number =>
  Math.min(most, 50 * 2 ** Math.min(times - 1, 6)) * (0.5 + Math.random() / 2)

const AUTH = /NOAUTH|WRONGPASS|invalid password|invalid username-password/

/** One connection, and what waits for it. */
export class Link {
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
  /** What the sentinels answered in this round. */
  private sentinelErrors: Array<string> = []
  private watcher: NodeJS.Timeout | undefined = undefined
  private handshake: NodeJS.Timeout | undefined = undefined
  private retiredAt = -Infinity
  private owned = true
  private readonly listeners: Array<readonly [event: string, listener: (...args: Array<any>) => void]> = []

  onUp: ((again: boolean) => void) | undefined = undefined
  onDown: (() => void) | undefined = undefined
  onState: ((status: ConnectionState["status"], error: RedisError | undefined) => void) | undefined = undefined
  /** There will be no other connection. */
  onEnded: ((error: RedisConnectionError) => void) | undefined = undefined
  private onFirst: ((result: Effect.Effect<void, RedisConnectionError>) => void) | undefined = undefined

  constructor(readonly settings: LinkSettings) {
    this.deadlines = new Deadlines(settings.commandTimeout, (requests) => this.expire(requests))
  }

  // --- Life ---

  /** Settings under which ioredis leaves all decisions to us. */
  own(options: RedisOptions): this {
    const { commandTimeout, connectTimeout, master } = this.settings
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
        retryStrategy: (times) => this.mayRetry ? backoff(times, 2000) : null,
        ...(master === undefined ? {} : {
          name: master,
          role: "master",
          failoverDetector: false,
          // One sentinel that hangs must not use up the time for all of them.
          sentinelCommandTimeout: Math.max(
            50,
            Math.min(1000, connectTimeout / (2 * ((options.sentinels?.length ?? 0) + 1)))
          ),
          // ioredis gives up for good where there is no other round. Its timer can't be stopped, so it is short.
          sentinelRetryStrategy: (times: number) => this.mayRetry ? backoff(times, 250) : null
        })
      })
    )
    return this
  }

  private get mayRetry(): boolean {
    const { once, patient, role } = this.settings
    return this.closed === undefined && role !== "reserved" && once !== true && (this.everUp || patient)
  }

  attach(client: Redis, owned = true): this {
    this.client = client
    this.owned = owned
    this.batch = new Batch(client)
    this.on("error", (error: Error) => this.onError(error))
    this.on("sentinelError", (error: Error) => this.sentinelErrors.push(error.message))
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

  wake(): void {
    // What goes wrong is also an event.
    if (this.client.status === "wait") this.client.connect().catch(() => {})
  }

  /** Waits a little for what is underway, and then settles everything. */
  readonly close: Effect.Effect<void> = Effect.async<void>((resume) => this.shut(() => resume(Effect.void)))

  shut(done: () => void): void {
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
      this.release(done)
      if (first) this.onState?.("end", undefined)
    }
    const timer = setTimeout(finish, Math.min(1000, this.settings.commandTimeout))
    if (this.up && this.outstanding > 0) this.onDrained = finish
    else finish()
  }

  /** What waits for the connection fails at once, because it may go elsewhere. */
  handBack(): void {
    if (this.up) return
    const unsent = this.waiting
    this.waiting = []
    for (const request of unsent) request.fail(this.unavailable(request))
  }

  /** Where it is connected to. */
  get address(): string | undefined {
    const stream: Redis["stream"] | undefined = this.client.stream
    return stream?.remoteAddress === undefined ? undefined : `${stream.remoteAddress}:${stream.remotePort}`
  }

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
    const all = detail.startsWith("All sentinels are unreachable") ? this.describeSentinels() : detail
    this.lastError = this.error(AUTH.test(all) ? "auth" : "connect", all)
  }

  private describeSentinels(): string {
    const errors = this.sentinelErrors.map(withoutArguments)
    this.sentinelErrors = []
    const refused = errors.find((error) => AUTH.test(error))
    if (refused !== undefined) return refused
    return errors.some((error) => /No such master|invalid reply: null$/.test(error))
      ? `the sentinels know no master called "${this.settings.master}"`
      : `no sentinel answered: ${errors.join("; ")}`
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
    this.command(this.settings.master === undefined ? "PING" : "ROLE", (error, reply) => {
      if (connection !== this.connection || this.client.status !== "ready" || this.up) return
      // Not sent, or not answered: the connection ends, and that is told separately.
      if (error !== undefined && !isReplyError(error)) return
      if (error !== undefined && AUTH.test(error.message)) {
        this.lastError = this.error("auth", withoutArguments(error.message))
      } else if (Array.isArray(reply) && reply[0] !== "master") {
        this.lastError = this.error("connect", `what the sentinels named is no master: ${reply[0]}`)
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
    this.closed = this.settings.once === true
      ? error
      : this.error("closed", this.owned ? "the connection was lost" : "the client was closed")
    for (const request of this.waiting.concat(this.queued)) request.fail(this.closed)
    this.waiting = []
    this.queued = []
    this.settleAll()
    this.onState?.("end", this.closed)
    this.onEnded?.(error)
  }

  // --- Up and down ---

  private rise(): void {
    clearTimeout(this.handshake)
    const again = this.everUp
    this.up = true
    this.paused = false
    this.everUp = true
    this.lastError = undefined
    this.sentinelErrors = []
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
  private command(name: string, done: (error: Error | undefined, reply: unknown) => void): void {
    this.client.sendCommand(new Command(name, [], TEXT, (error, reply) => done(error ?? undefined, reply)))
  }

  /**
   * The server became a replica: another connection may find the new master. What is underway ends before, and everything
   * else waits for the new connection. Not more than once in a second, because it may be a replica on purpose.
   */
  private retire(): void {
    const now = performance.now()
    const { once, role } = this.settings
    if (!this.owned || now - this.retiredAt < 1000 || role !== "shared" || once === true) return
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
    // Nothing is underway, so there is nothing to gather: the server works while the caller comes to rest.
    if (this.outstanding === 0) return this.flush()
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
    args: CommandArgs,
    encoding: Encoding
  ): void {
    const command = BareCommand.make(name, args, encoding === "text" ? TEXT : BYTES, this, request, index)
    this.outstanding++
    this.batch.wrote = false
    this.client.sendCommand(command, this.batch)
    if (this.batch.wrote) request.written = true
  }

  /** What became of a command, told by ioredis. */
  onAnswer(request: Request, index: number, name: string, error: Error | undefined, reply: unknown): void {
    this.outstanding--
    if (error !== undefined) this.onCommandError(request, index, name, error)
    else if (!request.settled) request.onReply(index, reply ?? null)
    if (this.outstanding === 0 && this.onDrained !== undefined) this.onDrained()
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
