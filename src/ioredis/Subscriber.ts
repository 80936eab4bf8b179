/**
 * The connections of a client on which messages arrive: one for channels and patterns, and one for shard channels when
 * there are any.
 */
import * as Effect from "effect/Effect"
import { Once } from "../internal/issued.js"
import type { DriverSubscriber, SubscriptionKind } from "../RedisClient.js"
import type { RedisError } from "../RedisError.js"
import type { Link } from "./Link.js"
import { SingleRequest } from "./Request.js"

export const verbs = {
  channel: ["subscribe", "unsubscribe"],
  pattern: ["psubscribe", "punsubscribe"],
  shard: ["ssubscribe", "sunsubscribe"]
} as const

type Listener = Parameters<DriverSubscriber["listen"]>[0]

/** Passes on what arrives. */
export const deliver = (link: Link, onMessage: Listener["onMessage"]): void => {
  link.on("messageBuffer", (channel: Buffer, bytes: Buffer) => {
    const name = channel.toString()
    onMessage("channel", name, name, bytes)
  })
  link.on("smessageBuffer", (channel: Buffer, bytes: Buffer) => {
    const name = channel.toString()
    onMessage("shard", name, name, bytes)
  })
  link.on(
    "pmessageBuffer",
    (pattern: string | Buffer, channel: Buffer, bytes: Buffer) =>
      onMessage("pattern", pattern.toString(), channel.toString(), bytes)
  )
}

const isShard = (kind: SubscriptionKind): boolean => kind === "shard"

export const makeSubscriber = (open: () => Link): DriverSubscriber => {
  // ioredis goes by the count in an answer to unsubscribing. It is one of shard channels alone or of all others, and at 0
  // it stops to listen to either. So these have a connection of their own.
  const links = new Map<boolean, Link>()
  let listener: Listener | undefined

  const connect = (kind: SubscriptionKind): Link => {
    const shard = isShard(kind)
    const present = links.get(shard)
    if (present !== undefined) return present
    const made = open()
    links.set(shard, made)
    const concerns = (kind: SubscriptionKind) => isShard(kind) === shard
    made.onDown = () => listener?.onDown(concerns)
    made.onUp = (again) => {
      if (again) listener?.onUp(concerns)
    }
    deliver(made, (kind, name, channel, bytes) => listener?.onMessage(kind, name, channel, bytes))
    return made
  }

  const send = (link: Link, verb: string, names: ReadonlyArray<string>): Effect.Effect<void, RedisError> =>
    Effect.async((resume) =>
      link.submit(
        new SingleRequest(new Once(verb, names, "text", link.settings.commandTimeout, () => Effect.void), resume)
      )
    )

  return {
    subscribe: (kind, names) => Effect.suspend(() => send(connect(kind), verbs[kind][0], names)),
    // Without a connection there is nothing left to undo: the next one starts without subscriptions.
    unsubscribe: (kind, names) =>
      Effect.suspend(() => {
        const link = links.get(isShard(kind))
        return link !== undefined && link.isUp ? send(link, verbs[kind][1], names) : Effect.void
      }),
    listen: (added) => {
      listener = added
    }
  }
}
