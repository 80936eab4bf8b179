/**
 * Publishing and subscribing. A reply to SUBSCRIBE and its like is the list of its confirmations, one for each name.
 */
import { matchesBytes as matches } from "../../internal/glob.js"
import { allKeys, type Argv, firstKey, type Run, type Table, wrongSubcommand } from "../command.js"
import type { ChannelKind, Engine, Session } from "../Engine.js"
import { type EngineReply, ErrorReply } from "../reply.js"
import { container } from "./container.js"

const publish = (engine: Engine, channel: string, payload: string): number => {
  let received = 0
  for (const session of Array.from(engine.channels.channel.get(channel) ?? [])) {
    session.onMessage("channel", channel, channel, payload)
    received++
  }
  for (const [pattern, sessions] of engine.channels.pattern) {
    if (!matches(pattern, channel)) continue
    for (const session of Array.from(sessions)) {
      session.onMessage("pattern", pattern, channel, payload)
      received++
    }
  }
  return received
}

const publishShard = (engine: Engine, channel: string, payload: string): number => {
  const sessions = [...engine.channels.shard.get(channel) ?? []]
  for (const session of sessions) session.onMessage("shard", channel, channel, payload)
  return sessions.length
}

const countFor = (session: Session, kind: ChannelKind): number =>
  kind === "shard" ? session.subscriptions.shard.size : session.subscriptionCount

const subscribe = (kind: ChannelKind, word: string): Run => (engine, argv, session) => {
  if (engine.denyBlocking) {
    return new ErrorReply(`ERR ${word.toUpperCase()} isn't allowed for a DENY BLOCKING client`)
  }
  return argv.slice(1).map((name) => {
    engine.subscribe(session, kind, name)
    return [word, name, countFor(session, kind)]
  })
}

const unsubscribe = (kind: ChannelKind, word: string): Run => (engine, argv, session): EngineReply => {
  const names = argv.length > 1 ? argv.slice(1) : [...session.subscriptions[kind]]
  if (names.length === 0) return [[word, null, countFor(session, kind)]]
  return names.map((name) => {
    engine.unsubscribe(session, kind, name)
    return [word, name, countFor(session, kind)]
  })
}

const names = (kind: ChannelKind) => (engine: Engine, argv: Argv): EngineReply =>
  argv.length > 3
    ? wrongSubcommand("PUBSUB", argv[1]!)
    : [...engine.channels[kind].keys()].filter((name) => argv.length === 2 || matches(argv[2]!, name))

const counts = (kind: ChannelKind) => (engine: Engine, argv: Argv): EngineReply =>
  argv.slice(2).flatMap((name) => [name, engine.channels[kind].get(name)?.size ?? 0])

export const pubsub: Table = {
  PUBLISH: { arity: 3, run: (engine, argv) => publish(engine, argv[1]!, argv[2]!) },
  SPUBLISH: { arity: 3, keys: firstKey, run: (engine, argv) => publishShard(engine, argv[1]!, argv[2]!) },
  SUBSCRIBE: { arity: -2, flags: ["pubsub", "noscript"], run: subscribe("channel", "subscribe") },
  UNSUBSCRIBE: { arity: -1, flags: ["pubsub", "noscript"], run: unsubscribe("channel", "unsubscribe") },
  PSUBSCRIBE: { arity: -2, flags: ["pubsub", "noscript"], run: subscribe("pattern", "psubscribe") },
  PUNSUBSCRIBE: { arity: -1, flags: ["pubsub", "noscript"], run: unsubscribe("pattern", "punsubscribe") },
  SSUBSCRIBE: { arity: -2, flags: ["pubsub", "noscript"], keys: allKeys, run: subscribe("shard", "ssubscribe") },
  SUNSUBSCRIBE: { arity: -1, flags: ["pubsub", "noscript"], keys: allKeys, run: unsubscribe("shard", "sunsubscribe") },
  ...container("PUBSUB", {
    CHANNELS: { arity: -2, run: names("channel") },
    NUMSUB: { arity: -2, run: counts("channel") },
    NUMPAT: { arity: 2, run: (engine) => engine.channels.pattern.size },
    SHARDCHANNELS: { arity: -2, run: names("shard") },
    SHARDNUMSUB: { arity: -2, run: counts("shard") }
  })
}
