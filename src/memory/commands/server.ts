/**
 * The server itself and its connections.
 */
import { fail, integer, is, type Run, type Table, wrongArguments, wrongSubcommand } from "../command.js"
import type { Engine, Session } from "../Engine.js"
import { parseInteger } from "../numbers.js"
import { type EngineReply, ErrorReply, OK, Status } from "../reply.js"
import { sizeOf, SYNTAX } from "../values.js"
import { container } from "./container.js"
import { checkDatabase } from "./keys.js"

const VERSION = "7.0.15"

const flush: Run = (engine, argv) => {
  if (argv.length > 2 || (argv.length === 2 && !is(argv[1], "ASYNC") && !is(argv[1], "SYNC"))) throw SYNTAX
  engine.clear()
  return OK
}

/** A rough figure: what the contents would take without any overhead. */
const usedMemory = (engine: Engine): number => {
  let bytes = 0
  for (const entry of engine.entries()) bytes += 64 + entry.key.length + 16 * sizeOf(entry.value)
  return bytes
}

const human = (bytes: number): string =>
  bytes < 1024
    ? `${bytes}B`
    : bytes < 1024 ** 2
    ? `${(bytes / 1024).toFixed(2)}K`
    : bytes < 1024 ** 3
    ? `${(bytes / 1024 ** 2).toFixed(2)}M`
    : `${(bytes / 1024 ** 3).toFixed(2)}G`

const sections: Record<string, (engine: Engine) => Record<string, string | number>> = {
  Server: (engine) => ({
    redis_version: VERSION,
    redis_mode: engine.cluster ? "cluster" : "standalone",
    os: "in memory",
    arch_bits: 64,
    tcp_port: 0,
    server_time_usec: engine.micros(),
    uptime_in_seconds: Math.floor((engine.now - engine.started) / 1000)
  }),
  Clients: (engine) => ({
    connected_clients: engine.sessions.size,
    blocked_clients: engine.blockedSessions
  }),
  Memory: (engine) => {
    const bytes = usedMemory(engine)
    return { used_memory: bytes, used_memory_human: human(bytes), maxmemory: 0, maxmemory_policy: "noeviction" }
  },
  Stats: (engine) => ({
    total_commands_processed: engine.executed,
    pubsub_channels: engine.channels.channel.size,
    pubsub_patterns: engine.channels.pattern.size
  }),
  Replication: () => ({ role: "master", connected_slaves: 0 }),
  Cluster: (engine) => ({ cluster_enabled: engine.cluster ? 1 : 0 }),
  Keyspace: (engine) =>
    engine.keys.size === 0
      ? {}
      : { db0: `keys=${engine.keys.size},expires=${engine.expiringKeys},avg_ttl=0` }
}

const info: Run = (engine, argv) => {
  const wanted = argv.slice(1).map((name) => name.toLowerCase())
  const all = wanted.length === 0 || wanted.some((name) => ["default", "all", "everything"].includes(name))
  return Object.entries(sections)
    .filter(([name]) => all || wanted.includes(name.toLowerCase()))
    .map(([name, fields]) =>
      `# ${name}\r\n${Object.entries(fields(engine)).map(([field, value]) => `${field}:${value}\r\n`).join("")}`
    )
    .join("\r\n")
}

const describe = (engine: Engine, session: Session): string => {
  const seconds = Math.floor((engine.now - session.since) / 1000)
  const { channel, pattern, shard } = session.subscriptions
  const flags = (session.subscriptionCount > 0 ? "P" : "") + (session.transaction === undefined ? "" : "x") +
    (session.blocked === undefined ? "" : "b") + (session.tracking === undefined ? "" : "tB")
  return [
    `id=${session.id}`,
    `addr=${session.address}`,
    `laddr=memory:0`,
    `name=${session.name}`,
    `age=${seconds}`,
    `flags=${flags === "" ? "N" : flags}`,
    `db=0`,
    `sub=${channel.size}`,
    `psub=${pattern.size}`,
    `ssub=${shard.size}`,
    `multi=${session.transaction?.length ?? -1}`,
    `cmd=${session.lastCommand}`,
    `user=default`,
    `redir=${session.tracking?.redirect ?? -1}`,
    `resp=2`
  ].join(" ")
}

const kill: Run = (engine, argv, session) => {
  const close = (other: Session): void => {
    engine.close(other)
    other.onKilled()
  }
  if (argv.length === 3) {
    for (const other of engine.sessions.values()) {
      if (other.address !== argv[2]!) continue
      close(other)
      return OK
    }
    return new ErrorReply("ERR No such client")
  }
  if (argv.length % 2 === 1) throw SYNTAX
  const filters: Array<(other: Session) => boolean> = []
  let skipMe = true
  for (let i = 2; i < argv.length; i += 2) {
    const value = argv[i + 1]!
    if (is(argv[i], "ID")) {
      const id = parseInteger(value)
      if (id === undefined || id < 1) return fail("ERR client-id should be greater than 0")
      filters.push((other) => other.id === id)
    } else if (is(argv[i], "ADDR")) filters.push((other) => other.address === value)
    else if (is(argv[i], "TYPE")) {
      const pubsub = is(value, "PUBSUB")
      if (!pubsub && !is(value, "NORMAL")) return fail(`ERR Unknown client type '${value}'`)
      filters.push((other) => (other.subscriptionCount > 0) === pubsub)
    } else if (is(argv[i], "SKIPME")) {
      if (!is(value, "YES") && !is(value, "NO")) throw SYNTAX
      skipMe = is(value, "YES")
    } else throw SYNTAX
  }
  const chosen = [...engine.sessions.values()].filter((other) =>
    (!skipMe || other !== session) && filters.every((filter) => filter(other))
  )
  chosen.forEach(close)
  return chosen.length
}

const list: Run = (engine, argv) => {
  let chosen = [...engine.sessions.values()]
  if (argv.length === 4 && is(argv[2], "TYPE")) {
    const pubsub = is(argv[3], "PUBSUB")
    if (!pubsub && !is(argv[3], "NORMAL")) return fail(`ERR Unknown client type '${argv[3]!}'`)
    chosen = chosen.filter((session) => (session.subscriptionCount > 0) === pubsub)
  } else if (argv.length > 3 && is(argv[2], "ID")) {
    const ids = argv.slice(3).map((text) => parseInteger(text) ?? fail("ERR Invalid client ID"))
    chosen = chosen.filter((session) => ids.includes(session.id))
  } else if (argv.length !== 2) throw SYNTAX
  return chosen.map((session) => `${describe(engine, session)}\n`).join("")
}

const unblock: Run = (engine, argv): EngineReply => {
  if (argv.length > 4) return wrongSubcommand("CLIENT", argv[1]!)
  const withError = argv.length === 4 && is(argv[3], "ERROR")
  if (argv.length === 4 && !withError && !is(argv[3], "TIMEOUT")) {
    return new ErrorReply("ERR CLIENT UNBLOCK reason should be TIMEOUT or ERROR")
  }
  const session = engine.sessions.get(integer(argv[2]!))
  if (session === undefined) return 0
  const error = withError ? new ErrorReply("UNBLOCKED client unblocked via CLIENT UNBLOCK") : undefined
  return engine.unblock(session, error) ? 1 : 0
}

const overlap = (one: string, other: string, which: string): never =>
  fail(
    `ERR Prefix '${one}' overlaps with ${which} prefix '${other}'. Prefixes for a single client must not overlap.`
  )

/** Broadcasting mode only: nobody here remembers which connection has read which key. */
const track: Run = (engine, argv, session) => {
  const prefixes: Array<string> = []
  const options = new Set<string>()
  let redirect = 0
  for (let i = 3; i < argv.length; i++) {
    const more = i + 1 < argv.length
    if (is(argv[i], "REDIRECT") && more) {
      if (redirect !== 0) return fail("ERR A client can only redirect to a single other client")
      redirect = integer(argv[++i]!)
      if (!engine.sessions.has(redirect)) return fail("ERR The client ID you want redirect to does not exist")
    } else if (is(argv[i], "PREFIX") && more) prefixes.push(argv[++i]!)
    else {
      const option = argv[i]!.toUpperCase()
      if (!["BCAST", "OPTIN", "OPTOUT", "NOLOOP"].includes(option)) throw SYNTAX
      options.add(option)
    }
  }
  if (is(argv[2], "OFF")) {
    engine.untrack(session)
    return OK
  }
  if (!is(argv[2], "ON")) throw SYNTAX
  if (!options.has("BCAST")) {
    return fail(
      prefixes.length > 0
        ? "ERR PREFIX option requires BCAST mode to be enabled"
        : "ERR CLIENT TRACKING without BCAST is not supported by the in-memory server"
    )
  }
  if (options.has("OPTIN") || options.has("OPTOUT")) {
    return fail("ERR OPTIN and OPTOUT are not compatible with BCAST")
  }
  if (options.has("NOLOOP")) return fail("ERR CLIENT TRACKING with NOLOOP is not supported by the in-memory server")
  if (redirect !== 0 && redirect !== session.id) {
    return fail("ERR CLIENT TRACKING with REDIRECT to another client is not supported by the in-memory server")
  }
  prefixes.forEach((prefix, i) => {
    for (const other of session.tracking?.prefixes ?? []) {
      if (prefix.startsWith(other) || other.startsWith(prefix)) overlap(prefix, other, "an existing")
    }
    for (const other of prefixes.slice(i + 1)) {
      if (prefix.startsWith(other) || other.startsWith(prefix)) overlap(prefix, other, "another provided")
    }
  })
  engine.track(session, prefixes.length === 0 ? [""] : prefixes, redirect)
  return OK
}

const trackingInfo: Run = (_, __, { tracking }): EngineReply => [
  "flags",
  tracking === undefined ? ["off"] : ["on", "bcast"],
  "redirect",
  tracking?.redirect ?? -1,
  "prefixes",
  [...tracking?.prefixes ?? []].sort()
]

export const server: Table = {
  PING: {
    arity: -1,
    flags: ["pubsub"],
    run(_, argv) {
      if (argv.length > 2) return wrongArguments("ping")
      return argv.length === 2 ? argv[1]! : new Status("PONG")
    }
  },
  ECHO: { arity: 2, run: (_, argv) => argv[1]! },
  TIME: {
    arity: 1,
    run(engine) {
      const micros = engine.micros()
      return [String(Math.floor(micros / 1_000_000)), String(micros % 1_000_000)]
    }
  },
  DBSIZE: { arity: 1, flags: ["readonly"], run: (engine) => engine.keys.size },
  FLUSHDB: { arity: -1, flags: ["write"], run: flush },
  FLUSHALL: { arity: -1, flags: ["write"], run: flush },
  INFO: { arity: -1, run: info },
  SELECT: {
    arity: 2,
    run(_, argv) {
      if (parseInteger(argv[1]!) === undefined) return new ErrorReply("ERR value is not an integer or out of range")
      checkDatabase(argv[1]!)
      return OK
    }
  },
  WAIT: {
    arity: 3,
    flags: ["noscript"],
    run(engine, argv, session) {
      const timeout = parseInteger(argv[2]!)
      if (timeout === undefined) return new ErrorReply("ERR timeout is not an integer or out of range")
      if (timeout < 0) return new ErrorReply("ERR timeout is negative")
      // Who waits for more replicas than there are waits until the timeout.
      return integer(argv[1]!) <= engine.replicas ? engine.replicas : engine.block(session, {
        keys: [],
        type: "list",
        deadline: timeout === 0 ? Infinity : engine.now + timeout,
        serve: () => null,
        timeoutReply: engine.replicas
      })
    }
  },
  ...container("CLIENT", {
    ID: { arity: 2, flags: ["noscript"], run: (_, __, session) => session.id },
    GETNAME: { arity: 2, flags: ["noscript"], run: (_, __, session) => session.name === "" ? null : session.name },
    SETNAME: {
      arity: 3,
      flags: ["noscript"],
      run(_, argv, session) {
        if (!/^[!-~]*$/.test(argv[2]!)) {
          return new ErrorReply("ERR Client names cannot contain spaces, newlines or special characters.")
        }
        session.name = argv[2]!
        return OK
      }
    },
    INFO: { arity: 2, flags: ["noscript"], run: (engine, _, session) => `${describe(engine, session)}\n` },
    LIST: { arity: -2, flags: ["noscript"], run: list },
    KILL: { arity: -3, flags: ["noscript"], run: kill },
    TRACKING: { arity: -3, flags: ["noscript"], run: track },
    TRACKINGINFO: { arity: 2, flags: ["noscript"], run: trackingInfo },
    GETREDIR: { arity: 2, flags: ["noscript"], run: (_, __, session) => session.tracking?.redirect ?? -1 },
    UNBLOCK: { arity: -3, flags: ["noscript"], run: unblock }
  })
}
