import * as Effect from "effect/Effect"
import type { ServerCommands } from "../../RedisCommands.js"
import { checkKey } from "../input.js"
import { checkKeys } from "./args.js"
import * as Decode from "./decode.js"
import type { Env } from "./env.js"
import { escapeGlob } from "./glob.js"

const pong = Decode.decoder("PONG", (reply) => reply === "PONG" ? true : undefined)

const microseconds = Decode.decoder("seconds and microseconds", (reply) => {
  const parts = Decode.asArray((part) => /^\d+$/.test(String(part)) ? BigInt(String(part)) : undefined)(reply)
  return parts?.length === 2 ? parts[0]! * 1_000_000n + parts[1]! : undefined
})

/** @internal */
export const make = ({ key, prefix, read, write }: Env): ServerCommands => {
  const strip = (name: string) => name.slice(prefix.length)
  return {
    scriptLoad: (lua) => write("SCRIPT", ["LOAD", lua], Decode.text),
    scriptExists: (shas) =>
      shas.length === 0 ? Effect.succeed([]) : read("SCRIPT", ["EXISTS", ...shas], Decode.booleans),
    scriptFlush: Effect.suspend(() => write("SCRIPT", ["FLUSH"], Decode.ok)),
    publish: (channel, message) =>
      write("PUBLISH", checkKey("publish", channel, "channel") ?? [key(channel), message], Decode.integer),
    spublish: (channel, message) =>
      write("SPUBLISH", checkKey("spublish", channel, "shardChannel") ?? [key(channel), message], Decode.integer),
    pubsubChannels: (pattern = "*") =>
      Effect.map(
        read(
          "PUBSUB",
          checkKey("pubsubChannels", pattern, "pattern") ?? ["CHANNELS", escapeGlob(prefix) + pattern],
          Decode.texts
        ),
        (channels) => channels.map(strip)
      ),
    pubsubNumSub: (channels) =>
      channels.length === 0
        ? Effect.succeed({})
        : read(
          "PUBSUB",
          checkKeys("pubsubNumSub", channels, "channels") ?? ["NUMSUB", ...channels.map(key)],
          Decode.integerRecord(strip)
        ),
    ping: Effect.suspend(() => Effect.asVoid(read("PING", [], pong))),
    time: Effect.suspend(() => read("TIME", [], microseconds)),
    dbSize: Effect.suspend(() => read("DBSIZE", [], Decode.integer)),
    flushDb: Effect.suspend(() => write("FLUSHDB", [], Decode.ok))
  }
}
