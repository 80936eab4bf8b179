/**
 * The one connection of a client on which messages arrive.
 */
import * as Effect from "effect/Effect"
import type { DriverSubscriber, SubscriptionKind } from "../RedisClient.js"
import type { RedisError } from "../RedisError.js"
import type { Link } from "./Link.js"
import { SingleRequest } from "./Request.js"

const verbs = {
  channel: ["subscribe", "unsubscribe"],
  pattern: ["psubscribe", "punsubscribe"],
  shard: ["ssubscribe", "sunsubscribe"]
} as const

export const makeSubscriber = (open: () => Link): DriverSubscriber => {
  let link: Link | undefined
  let listener: Parameters<DriverSubscriber["listen"]>[0] | undefined

  const connect = (): Link => {
    if (link !== undefined) return link
    const made = link = open()
    made.onDown = () => listener?.onDown()
    made.onUp = (again) => {
      if (again) listener?.onUp()
    }
    made.on("messageBuffer", (channel: Buffer, bytes: Buffer) => {
      const name = channel.toString()
      listener?.onMessage("channel", name, name, bytes)
    })
    made.on("smessageBuffer", (channel: Buffer, bytes: Buffer) => {
      const name = channel.toString()
      listener?.onMessage("shard", name, name, bytes)
    })
    made.on(
      "pmessageBuffer",
      (pattern: string | Buffer, channel: Buffer, bytes: Buffer) =>
        listener?.onMessage("pattern", pattern.toString(), channel.toString(), bytes)
    )
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
