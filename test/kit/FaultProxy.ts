/**
 * A TCP proxy between a client and a server that misbehaves on demand.
 */
import { Effect, type Scope } from "effect"
import * as Net from "node:net"
import * as Resp from "./resp.js"

export interface FaultProxy {
  readonly host: string
  readonly port: number
  readonly url: string
  /** Destroys the open connections. New ones are let in. */
  readonly cut: Effect.Effect<void>
  /** Cuts, and destroys new connections until `accept`. */
  readonly refuse: Effect.Effect<void>
  readonly accept: Effect.Effect<void>
  /** Swallows what is sent in these directions until `resume`; connections stay open, and new ones are let in. */
  readonly stall: (direction?: "both" | "requests" | "replies") => Effect.Effect<void>
  /** Ends `stall`. What was swallowed is lost, so the connections of that time are cut. */
  readonly resume: Effect.Effect<void>
  /** Holds back every request for so long; 0 ends it. */
  readonly delay: (millis: number) => Effect.Effect<void>
  /** Swallows the replies to the next commands, which the server does execute, and then cuts. */
  readonly dropReplies: (
    times: number,
    options?: { readonly command?: string | undefined; readonly cut?: boolean | undefined }
  ) => Effect.Effect<void>
  readonly connections: Effect.Effect<number>
  /** How many connections there have been. */
  readonly accepted: Effect.Effect<number>
  /** How often each command came through, by its name in capitals. */
  readonly commandsSeen: Effect.Effect<ReadonlyMap<string, number>>
}

interface Pair {
  readonly client: Net.Socket
  readonly server: Net.Socket
  readonly requests: Resp.Parser
  readonly replies: Resp.Parser
  /** For each command whose reply is still to come, what happens to that. */
  readonly expected: Array<"pass" | "swallow" | "swallow-and-cut">
  /** Requests that wait for their delay. */
  readonly held: Array<Buffer>
  stalled: boolean
}

/**
 * With `rewrite`, which changes what the server says, for example addresses in it, it does not look into what passes: it is
 * much cheaper then, sees no commands, and can't drop replies.
 */
export const make = (
  server: { readonly host: string; readonly port: number },
  rewrite?: (chunk: Buffer) => Buffer
): Effect.Effect<FaultProxy, never, Scope.Scope> =>
  Effect.gen(function*() {
    const pairs = new Set<Pair>()
    const seen = new Map<string, number>()
    let refusing = false
    let delay = 0
    let accepted = 0
    let stalled: "both" | "requests" | "replies" | undefined
    let drops: { left: number; readonly command: string | undefined; readonly cut: boolean } | undefined

    const destroy = (pair: Pair) => {
      pairs.delete(pair)
      pair.client.destroy()
      pair.server.destroy()
    }
    const stalls = (direction: "requests" | "replies") => stalled === "both" || stalled === direction

    const onCommand = (pair: Pair, value: Resp.Reply) => {
      const name = (Array.isArray(value) ? String(value[0]) : String(value)).toUpperCase()
      seen.set(name, (seen.get(name) ?? 0) + 1)
      if (drops === undefined || drops.left === 0 || (drops.command ?? name) !== name) {
        pair.expected.push("pass")
        return
      }
      drops.left--
      pair.expected.push(drops.cut ? "swallow-and-cut" : "swallow")
    }

    const onConnection = (client: Net.Socket) => {
      if (refusing) {
        client.destroy()
        return
      }
      accepted++
      const upstream = Net.connect(server.port, server.host)
      const pair: Pair = {
        client,
        server: upstream,
        requests: new Resp.Parser(),
        replies: new Resp.Parser(),
        expected: [],
        held: [],
        stalled: stalled !== undefined
      }
      pairs.add(pair)
      for (const socket of [client, upstream]) {
        socket.setNoDelay(true)
        socket.on("error", () => destroy(pair))
        socket.on("close", () => destroy(pair))
      }
      client.on("data", (chunk) => {
        if (stalls("requests")) {
          pair.stalled = true
          return
        }
        if (rewrite === undefined) { for (const { value } of pair.requests.push(chunk)) onCommand(pair, value) }
        // What is held back keeps its place, also before what comes when the delay is over.
        if (delay === 0 && pair.held.length === 0) {
          upstream.write(chunk)
          return
        }
        pair.held.push(chunk)
        setTimeout(() => void upstream.write(pair.held.shift() ?? ""), delay)
      })
      upstream.on("data", (chunk) => {
        if (stalls("replies")) {
          pair.stalled = true
          return
        }
        if (rewrite !== undefined) {
          client.write(rewrite(chunk))
          return
        }
        // Only the replies to known commands can be told apart; a subscriber gets more than it asks for.
        if (!pair.expected.some((fate) => fate !== "pass")) {
          pair.expected.splice(0, pair.replies.push(chunk).length)
          client.write(chunk)
          return
        }
        for (const { bytes } of pair.replies.push(chunk)) {
          const fate = pair.expected.shift() ?? "pass"
          if (fate === "pass") client.write(bytes)
          else if (fate === "swallow-and-cut") return destroy(pair)
        }
      })
    }

    const listener = yield* Effect.acquireRelease(
      Effect.async<Net.Server>((resume) => {
        const listener = Net.createServer(onConnection)
        listener.listen(0, "127.0.0.1", () => resume(Effect.succeed(listener)))
      }),
      (listener) =>
        Effect.async<void>((resume) => {
          listener.close(() => resume(Effect.void))
          pairs.forEach(destroy)
        })
    )
    const address = listener.address()
    const port = typeof address === "object" && address !== null ? address.port : 0

    const cut = Effect.sync(() => pairs.forEach(destroy))
    return {
      host: "127.0.0.1",
      port,
      url: `redis://127.0.0.1:${port}`,
      cut,
      refuse: Effect.zipRight(Effect.sync(() => refusing = true), cut),
      accept: Effect.sync(() => void (refusing = false)),
      stall: (direction = "both") =>
        Effect.sync(() => {
          stalled = direction
          for (const pair of pairs) pair.stalled = true
        }),
      resume: Effect.sync(() => {
        stalled = undefined
        for (const pair of pairs) if (pair.stalled) destroy(pair)
      }),
      delay: (millis) => Effect.sync(() => void (delay = millis)),
      dropReplies: (times, options) =>
        Effect.sync(() => void (drops = { left: times, command: options?.command, cut: options?.cut ?? true })),
      connections: Effect.sync(() => pairs.size),
      accepted: Effect.sync(() => accepted),
      commandsSeen: Effect.sync(() => new Map(seen))
    }
  })
