/**
 * The one connection of a client on which messages arrive.
 */
import * as Effect from "effect/Effect"
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

export const makeSubscriber = (open: () => Link): DriverSubscriber => {
  let link: Link | undefined
  let listener: Listener | undefined

  const connect = (): Link => {
    if (link !== undefined) return link
    const made = link = open()
    made.onDown = () => listener?.onDown()
    made.onUp = (again) => {
      if (again) listener?.onUp()
    }
    deliver(made, (kind, name, channel, bytes) => listener?.onMessage(kind, name, channel, bytes))
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
