/**
 * The connections on which servers say which keys were changed.
 */
import * as Effect from "effect/Effect"
import { INVALIDATE } from "../internal/invalidations.js"
import { Once } from "../internal/issued.js"
import type { DriverExecutor, DriverTracker, Reply, TrackedServer } from "../RedisClient.js"
import type { RedisError } from "../RedisError.js"
import type { Link } from "./Link.js"
import { SingleRequest } from "./Request.js"
import type { Node, Topology } from "./Topology.js"

/** How the client's own commands reach a server, and which slots that has when not all of them. */
export interface Writer {
  readonly executor: DriverExecutor
  readonly owns?: ((slot: number) => boolean) | undefined
}

interface Options {
  readonly topology: Topology
  /** Looks again, where the topology can change without anybody telling. */
  readonly refresh?: (() => void) | undefined
  readonly writer: (node: Node) => Writer
  /** `open` and `close` are of whoever counts the connections of the client. */
  readonly open: (node: Node) => Effect.Effect<Link, RedisError>
  readonly close: (link: Link) => Effect.Effect<void>
}

const connect = (
  options: Options,
  node: Node,
  { onDown, onKeys }: Parameters<TrackedServer["connect"]>[0]
): ReturnType<TrackedServer["connect"]> =>
  Effect.gen(function*() {
    const link = yield* Effect.acquireRelease(options.open(node), options.close)
    link.onDown = onDown
    link.on("messageBuffer", (channel: Buffer, keys: unknown) => {
      if (channel.toString() !== INVALIDATE) return
      // The server says an array of keys, or nothing for all of them. Anything else was published by somebody.
      if (keys === null) onKeys(null)
      else if (Array.isArray(keys)) onKeys(keys.map(String))
    })
    yield* link.connect
    const timeout = link.settings.commandTimeout
    return (command, ...args) =>
      Effect.async((resume) =>
        link.submit(new SingleRequest(new Once<Reply>(command, args, "text", timeout, Effect.succeed), resume))
      )
  })

export const makeTracker = (options: Options): DriverTracker => ({
  onChange: options.topology.onChange,
  refresh: options.refresh,
  servers: () =>
    options.topology.masters().map((node) => {
      const { executor, owns } = options.writer(node)
      return { id: node.id, executor, owns, connect: (listener) => connect(options, node, listener) }
    })
})
