/**
 * Nodes that only pretend to be some of a Cluster, and answer what a test wants.
 */
import { Effect, type Scope } from "effect"
import * as Net from "node:net"
import * as Resp from "./resp.js"

export interface FakeNode {
  readonly host: string
  readonly port: number
  /** The commands that came, but not those of a greeting; a bar stands where a write ends. */
  readonly seen: Array<string>
  /** What it says; nothing ends the connection. */
  answer: (command: ReadonlyArray<string>) => string | undefined
  slots: string
}

export const bulk = (text: string) => `$${Buffer.byteLength(text)}\r\n${text}\r\n`
export const array = (items: ReadonlyArray<string>) => `*${items.length}\r\n${items.join("")}`
export const range = (first: number, last: number, host: string, port: number, metadata: ReadonlyArray<string> = []) =>
  array([
    `:${first}\r\n`,
    `:${last}\r\n`,
    array([host === "null" ? "$-1\r\n" : bulk(host), `:${port}\r\n`, bulk("id"), array(metadata.map(bulk))])
  ])

export const fake: Effect.Effect<FakeNode, never, Scope.Scope> = Effect.gen(function*() {
  const sockets = new Set<Net.Socket>()
  const seen: Array<string> = []
  const server = Net.createServer((socket) => {
    sockets.add(socket)
    const parser = new Resp.Parser()
    socket.on("error", () => {})
    socket.on("close", () => sockets.delete(socket))
    socket.on("data", (chunk) => {
      let mine = false
      for (const { value } of parser.push(chunk)) {
        const command = Array.isArray(value) ? value.map(String) : []
        const name = command[0]?.toUpperCase()
        if (name === "CLIENT") socket.write("+OK\r\n")
        else if (name === "PING") socket.write("+PONG\r\n")
        else if (name === "INFO") socket.write(bulk("redis_version:7.0.15\r\nloading:0\r\n"))
        else if (name === "CLUSTER") socket.write(node.slots)
        else {
          mine = true
          seen.push(command.join(" "))
          const reply = name === "ASKING" ? "+OK\r\n" : node.answer(command)
          if (reply === undefined) {
            socket.destroy()
            return
          }
          socket.write(reply)
        }
      }
      if (mine) seen.push("|")
    })
  })
  yield* Effect.acquireRelease(
    Effect.async<void>((resume) => void server.listen(0, "127.0.0.1", () => resume(Effect.void))),
    () =>
      Effect.sync(() => {
        for (const socket of sockets) socket.destroy()
        server.close()
      })
  )
  const bound = server.address()
  const port = typeof bound === "object" && bound !== null ? bound.port : 0
  const node: FakeNode = {
    host: "127.0.0.1",
    port,
    seen,
    answer: () => ":1\r\n",
    slots: array([range(0, 16383, "127.0.0.1", port)])
  }
  return node
})

/** Two nodes; the first one has every slot. */
export const two = Effect.map(Effect.all([fake, fake]), ([a, b]) => {
  b.slots = a.slots
  return [a, b] as const
})
