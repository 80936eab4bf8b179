/**
 * A connection to the real server that keeps apart what a client library joins: simple strings and bulk strings, and
 * bytes that are no UTF-8. Replies have the shape of those of the in-memory server.
 */
import * as Net from "node:net"
import { ErrorReply, Status } from "../../../src/memory/reply.js"
import type { EngineReply } from "../../../src/memory/reply.js"

class Replies {
  private text = ""

  push(bytes: Buffer): Array<EngineReply> {
    this.text += bytes.toString("latin1")
    const replies: Array<EngineReply> = []
    let at = 0
    for (let parsed = this.read(at); parsed !== undefined; parsed = this.read(at)) {
      replies.push(parsed.reply)
      at = parsed.end
    }
    this.text = this.text.slice(at)
    return replies
  }

  private read(at: number): { readonly reply: EngineReply; readonly end: number } | undefined {
    const lineEnd = this.text.indexOf("\r\n", at)
    if (lineEnd < 0) return undefined
    const line = this.text.slice(at + 1, lineEnd)
    const end = lineEnd + 2
    switch (this.text[at]) {
      case "+":
        return { reply: new Status(line), end }
      case "-":
        return { reply: new ErrorReply(line), end }
      case ":":
        return { reply: Number(line), end }
      case "$": {
        const length = Number(line)
        if (length < 0) return { reply: null, end }
        return this.text.length < end + length + 2
          ? undefined
          : { reply: this.text.slice(end, end + length), end: end + length + 2 }
      }
      case "*": {
        if (line === "-1") return { reply: null, end }
        const items: Array<EngineReply> = []
        let next = end
        for (let i = 0; i < Number(line); i++) {
          const item = this.read(next)
          if (item === undefined) return undefined
          items.push(item.reply)
          next = item.end
        }
        return { reply: items, end: next }
      }
      default:
        throw new Error(`Unexpected reply: ${this.text.slice(at, at + 40)}`)
    }
  }
}

export interface Server {
  /** Strings are binary. */
  send(...args: ReadonlyArray<string>): Promise<EngineReply>
  close(): void
}

/** Connects in a database of its own, apart from the other tests of the run. */
export const connect = async (url: string, database = 13): Promise<Server> => {
  const { hostname, password, port } = new URL(url)
  const socket = Net.connect(Number(port || 6379), hostname)
  const waiting: Array<{ resolve(reply: EngineReply): void; reject(error: Error): void }> = []
  const replies = new Replies()
  socket.on("data", (bytes: Buffer) => {
    for (const reply of replies.push(bytes)) waiting.shift()?.resolve(reply)
  })
  const fail = (error: Error): void => {
    for (const pending of waiting.splice(0)) pending.reject(error)
  }
  socket.on("error", fail)
  socket.on("close", () => fail(new Error("The server closed the connection")))
  const server: Server = {
    send: (...args) =>
      new Promise((resolve, reject) => {
        waiting.push({ resolve, reject })
        const parts = args.map((arg) => `$${arg.length}\r\n${arg}\r\n`).join("")
        socket.write(Buffer.from(`*${args.length}\r\n${parts}`, "latin1"))
      }),
    close: () => socket.destroy()
  }
  if (password !== "") await server.send("AUTH", decodeURIComponent(password))
  await server.send("SELECT", String(database))
  return server
}
