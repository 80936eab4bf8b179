import * as Effect from "effect/Effect"
import type { ServerCommands } from "../../RedisCommands.js"
import { checkKey } from "../input.js"
import { checkKeys } from "./args.js"
import * as Decode from "./decode.js"
import { type Env, sum } from "./env.js"
import { escapeGlob } from "./glob.js"

const pong = Decode.decoder("PONG", (reply) => reply === "PONG" ? true : undefined)

const microseconds = Decode.decoder("seconds and microseconds", (reply) => {
  const parts = Decode.asArray((part) => /^\d+$/.test(String(part)) ? BigInt(String(part)) : undefined)(reply)
  return parts?.length === 2 ? parts[0]! * 1_000_000n + parts[1]! : undefined
})

/** @internal */
export const make = ({ everywhere, key, prefix, read, write }: Env): ServerCommands => {
  const strip = (name: string) => name.slice(prefix.length)
  return {
    scriptLoad: (lua) => everywhere("write", "SCRIPT", ["LOAD", lua], Decode.text, ([sha]) => sha!),
    scriptExists: (shas) =>
      shas.length === 0
        ? Effect.succeed([])
        : everywhere("read", "SCRIPT", ["EXISTS", ...shas], Decode.booleans, (answers) =>
          shas.map((_, i) =>
            answers.every((known) =>
              known[i]
            )
          )),
    scriptFlush: Effect.suspend(() => everywhere("write", "SCRIPT", ["FLUSH"], Decode.ok, () => undefined)),
    publish: (channel, message) =>
      write("PUBLISH", checkKey("publish", channel, "channel") ?? [key(channel), message], Decode.integer),
    spublish: (channel, message) =>
      write("SPUBLISH", checkKey("spublish", channel, "shardChannel") ?? [key(channel), message], Decode.integer),
    pubsubChannels: (pattern = "*") =>
      Effect.map(
        everywhere(
          "read",
          "PUBSUB",
          checkKey("pubsubChannels", pattern, "pattern") ?? ["CHANNELS", escapeGlob(prefix) + pattern],
          Decode.texts,
          (answers) => Array.from(new Set(answers.flat()))
        ),
        (channels) => channels.map(strip)
      ),
    pubsubNumSub: (channels) =>
      channels.length === 0
        ? Effect.succeed({})
        : everywhere(
          "read",
          "PUBSUB",
          checkKeys("pubsubNumSub", channels, "channels") ?? ["NUMSUB", ...channels.map(key)],
          Decode.integerRecord(strip),
          (answers) =>
            Object.fromEntries(channels.map((name) => [name, sum(answers.map((counts) => counts[name] ?? 0))]))
        ),
    ping: Effect.suspend(() => Effect.asVoid(read("PING", [], pong))),
    time: Effect.suspend(() => read("TIME", [], microseconds)),
    dbSize: Effect.suspend(() => everywhere("read", "DBSIZE", [], Decode.integer, sum)),
    flushDb: Effect.suspend(() => everywhere("write", "FLUSHDB", [], Decode.ok, () => undefined))
  }
}
