/**
 * A command of ioredis that hands its answer to whoever sent it, at once and without promises.
 */
import { Command } from "ioredis"
import { tracingChannel } from "node:diagnostics_channel"
import type { CommandArgs } from "./Request.js"

/** Who is told what became of a command, by its position among those of one request. */
export interface Receiver<Request> {
  readonly onAnswer: (request: Request, index: number, name: string, error: Error | undefined, reply: unknown) => void
}

/** How replies are read: as text, or as bytes. */
export interface ReplyOptions {
  readonly replyEncoding: BufferEncoding | null
}

/** What is used here of a command, without what is private there and overridden here. */
interface Base {
  readonly name: string
  args: CommandArgs
  isResolved: boolean
  stringifyArguments(): void
  toWritable(socket: object): string | Buffer
  transformReply(reply: Buffer): unknown
}

const Base = Command as unknown as new(name: string, args: [], options: ReplyOptions) => Base

const lengths: ReadonlyArray<string> = Array.from({ length: 1024 }, (_, bytes) => `\r\n$${bytes}\r\n`)

/** What stands between an argument of so many bytes and the one before it. Each text that is put together is garbage. */
const before = (bytes: number): string => lengths[bytes] ?? `\r\n$${bytes}\r\n`

class BareCommand<Request> extends Base {
  constructor(
    name: string,
    args: CommandArgs,
    options: ReplyOptions,
    readonly receiver: Receiver<Request>,
    readonly request: Request,
    readonly index: number
  ) {
    // The arguments would be copied and looked through.
    super(name, [], options)
    this.args = args
  }

  /** Called by the constructor of ioredis, which would make a promise. */
  initPromise(): void {}

  // Tools that watch ioredis put their own in place of these two, and call them without `this`.
  readonly resolve = (value: Buffer): void => {
    if (this.isResolved) return
    let reply: unknown
    try {
      reply = this.transformReply(value)
    } catch (error) {
      return this.reject(error as Error)
    }
    this.isResolved = true
    this.receiver.onAnswer(this.request, this.index, this.name, undefined, reply)
  }

  readonly reject = (error: Error): void => {
    if (this.isResolved) return
    this.isResolved = true
    this.receiver.onAnswer(this.request, this.index, this.name, error, undefined)
  }

  override toWritable(socket: object): string | Buffer {
    const { args, name } = this
    let text = `*${args.length + 1}` + before(Buffer.byteLength(name)) + name
    for (const arg of args) {
      if (typeof arg === "string") {
        text += before(Buffer.byteLength(arg)) + arg
      } else if (typeof arg === "number") {
        const digits = String(arg)
        text += before(digits.length) + digits
      } else {
        // A copy, because numbers become texts in place.
        this.args = [...args]
        this.stringifyArguments()
        return super.toWritable(socket)
      }
    }
    return text + "\r\n"
  }
}

/** A version of ioredis that makes its promise elsewhere gets the command that it knows. */
const overridable = "initPromise" in Command.prototype

/** Who traces ioredis awaits the promise. */
const traces = tracingChannel("ioredis:command")

export const make = <Request>(
  name: string,
  args: CommandArgs,
  options: ReplyOptions,
  receiver: Receiver<Request>,
  request: Request,
  index: number
): Command =>
  overridable && !traces.hasSubscribers
    ? new BareCommand(name, args, options, receiver, request, index) as unknown as Command
    : new Command(
      name,
      args,
      options,
      (error, reply) => receiver.onAnswer(request, index, name, error ?? undefined, reply)
    )
