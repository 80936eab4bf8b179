/**
 * The wire protocol, as far as the test kit needs it: to talk to a server without the library, and to count what passes
 * through a proxy.
 */
import * as Net from "node:net"

export class ErrorReply {
  constructor(readonly message: string) {}
}

export type Reply = string | number | null | ErrorReply | ReadonlyArray<Reply>

export const encode = (args: ReadonlyArray<string | Uint8Array>): Buffer =>
  Buffer.concat([
    Buffer.from(`*${args.length}\r\n`),
    ...args.flatMap((arg) => {
      const bytes = Buffer.from(arg)
      return [Buffer.from(`$${bytes.length}\r\n`), bytes, Buffer.from("\r\n")]
    })
  ])

/** Cuts a stream of bytes into RESP2 values, each with the bytes it was made of. */
export class Parser {
  private buffer = Buffer.alloc(0)

  /** `latin1` gives a character for each byte, for strings that are no text. */
  constructor(private readonly encoding: "utf8" | "latin1" = "utf8") {}

  push(chunk: Uint8Array): Array<{ readonly value: Reply; readonly bytes: Buffer }> {
    this.buffer = this.buffer.length === 0 ? Buffer.from(chunk) : Buffer.concat([this.buffer, chunk])
    const values: Array<{ readonly value: Reply; readonly bytes: Buffer }> = []
    let start = 0
    while (start < this.buffer.length) {
      const parsed = this.value(start)
      if (parsed === undefined) break
      values.push({ value: parsed.value, bytes: this.buffer.subarray(start, parsed.end) })
      start = parsed.end
    }
    this.buffer = this.buffer.subarray(start)
    return values
  }

  private value(at: number): { readonly value: Reply; readonly end: number } | undefined {
    const lineEnd = this.buffer.indexOf("\r\n", at)
    if (lineEnd === -1) return undefined
    const line = this.buffer.toString("utf8", at + 1, lineEnd)
    const end = lineEnd + 2
    switch (this.buffer[at]) {
      case 0x2b: // +
        return { value: line, end }
      case 0x2d: // -
        return { value: new ErrorReply(line), end }
      case 0x3a: // :
        return { value: Number(line), end }
      case 0x24: { // $
        const length = Number(line)
        if (length < 0) return { value: null, end }
        if (this.buffer.length < end + length + 2) return undefined
        return { value: this.buffer.toString(this.encoding, end, end + length), end: end + length + 2 }
      }
      case 0x2a: { // *
        const count = Number(line)
        if (count < 0) return { value: null, end }
        const items: Array<Reply> = []
        let position = end
        for (let i = 0; i < count; i++) {
          const item = this.value(position)
          if (item === undefined) return undefined
          items.push(item.value)
          position = item.end
        }
        return { value: items, end: position }
      }
      default:
        throw new Error(`not RESP2: ${JSON.stringify(line.slice(0, 40))}`)
    }
  }
}

/** Sends commands over a connection of its own, one after the other, and closes it. Rejects on the first error reply. */
export const talk = (
  address: { readonly host: string; readonly port: number },
  commands: ReadonlyArray<ReadonlyArray<string>>,
  timeoutMillis: number
): Promise<ReadonlyArray<Reply>> =>
  new Promise((resolve, reject) => {
    const socket = Net.connect(address.port, address.host)
    const parser = new Parser()
    const replies: Array<Reply> = []
    const end = (error: Error | undefined) => {
      clearTimeout(timer)
      socket.destroy()
      if (error === undefined) resolve(replies)
      else reject(error)
    }
    const timer = setTimeout(() => end(new Error(`no reply within ${timeoutMillis} ms`)), timeoutMillis)
    socket.on("connect", () => commands.forEach((command) => socket.write(encode(command))))
    socket.on("error", end)
    socket.on("close", () => end(new Error("the server closed the connection")))
    socket.on("data", (chunk) => {
      for (const { value } of parser.push(chunk)) {
        if (value instanceof ErrorReply) return end(new Error(value.message))
        replies.push(value)
      }
      if (replies.length === commands.length) end(undefined)
    })
  })
