/**
 * What waits for an answer of the server: one command, several in one write, or one that blocks.
 */
import type * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Exit from "effect/Exit"
import * as Metrics from "../internal/metrics.js"
import { replyError } from "../internal/replies.js"
import type { BytesReply, IssuedCommand, RedisArg, Reply } from "../RedisClient.js"
import { type RedisError, RedisReplyError } from "../RedisError.js"
import type { Link } from "./Link.js"

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

export const isReplyError = (error: Error): boolean => error.name === "ReplyError"

export type CommandArgs = Array<string | Buffer | number>

const isForeign = (arg: RedisArg): boolean => typeof arg === "object" && !Buffer.isBuffer(arg)

/** ioredis makes a text of bytes that are not a `Buffer`, and leaves the array as it is. */
export const toArguments = (args: ReadonlyArray<RedisArg>): CommandArgs =>
  (args.some(isForeign)
    ? args.map((arg) => arg instanceof Uint8Array ? Buffer.from(arg.buffer, arg.byteOffset, arg.byteLength) : arg)
    : args) as CommandArgs

export const TEXT = { replyEncoding: "utf8" } as const
export const BYTES = { replyEncoding: null } as const

export const noLabels: [] = []

export const countFailure = (error: RedisError): void => Metrics.commandsFailed[error._tag].unsafeUpdate(1, noLabels)

const countReply = (elapsed: number): void => {
  Metrics.commandsOk.unsafeUpdate(1, noLabels)
  Metrics.commandSeconds.unsafeUpdate(elapsed / 1000, noLabels)
}

/** Of several commands that were answered together. */
export const countReplies = (replies: ReadonlyArray<Reply>, elapsed: number): void => {
  for (const reply of replies) {
    if (reply instanceof RedisReplyError) countFailure(reply)
    else countReply(elapsed)
  }
}

/** Something that waits for an answer of the server. */
export abstract class Request {
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

export class SingleRequest<A> extends Request {
  constructor(
    readonly command: IssuedCommand<A>,
    readonly resume: (effect: Effect.Effect<A, RedisError>) => void,
    label: string = command.name,
    timeout: number = command.timeout
  ) {
    super(label, timeout)
  }

  send(link: Link): void {
    link.transmit(this, 0, this.label, toArguments(this.command.args), this.command.encoding)
  }

  onReply(_index: number, reply: any): void {
    this.settle()
    countReply(performance.now() - this.issuedAt)
    let result: Effect.Effect<A, RedisError>
    try {
      result = this.command.onReply(typeof reply === "object" && reply !== null ? clean(this.label, reply) : reply)
    } catch (defect) {
      result = Exit.die(defect)
    }
    this.resume(result)
  }

  onReplyError(_index: number, error: RedisReplyError): void {
    this.fail(error)
  }

  onFailure(error: RedisError, elapsed: number): void {
    this.resume(this.command.onError(error, elapsed))
  }
}

/** Several commands that are sent in one write. */
export class GroupRequest extends Request {
  protected readonly replies: Array<Reply>
  protected missing: number

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
      link.transmit(this, i, this.names[i]!, toArguments(this.commands[i]!.slice(1)), "text")
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
    this.complete()
  }

  protected complete(): void {
    countReplies(this.replies, performance.now() - this.issuedAt)
    this.done(Either.right(this.replies))
  }

  onFailure(error: RedisError): void {
    this.done(Either.left(error))
  }
}

/** A command that waits on the server as long as it likes. */
export class BlockingRequest extends Request {
  constructor(
    label: string,
    readonly args: ReadonlyArray<RedisArg>,
    readonly done: (result: Either.Either<BytesReply, RedisError>) => void
  ) {
    super(label, Infinity)
  }

  send(link: Link): void {
    link.transmit(this, 0, this.label, toArguments(this.args), "bytes")
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
