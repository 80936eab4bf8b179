/**
 * The servers that the suite tortures, each behind a proxy, and what can happen to them.
 */
import { Effect, type Scope } from "effect"
import type { Options as ClientOptions } from "../../src/RedisConfig.js"
import * as FaultProxy from "../kit/FaultProxy.js"
import * as RealCluster from "../kit/RealCluster.js"
import * as RealSentinel from "../kit/RealSentinel.js"
import * as RealServer from "../kit/RealServer.js"

type Failing<A = void> = Effect.Effect<A, RealServer.RealServerError>

/** Numbers from 0 to 1, the same for the same seed. */
export type Dice = () => number

export const dice = (seed: number): Dice => {
  let state = seed >>> 0
  return () => {
    state = (state + 0x6d2b79f5) >>> 0
    let t = state
    t = Math.imul(t ^ (t >>> 15), t | 1)
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61)
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296
  }
}

export const between = (roll: Dice, from: number, to: number): number => Math.round(from + roll() * (to - from))

export const choose = <A>(roll: Dice, from: ReadonlyArray<A>): A => {
  const one = from[Math.floor(roll() * from.length)]
  if (one === undefined) throw new Error("nothing to choose from")
  return one
}

export interface Fault {
  readonly name: string
  /** How often it is chosen beside the others. */
  readonly weight: number
  /** What it does is over when it returns; the servers may still have to find together. */
  readonly happen: (roll: Dice) => Failing<unknown>
}

export interface Servers {
  readonly mode: "cluster" | "sentinel"
  readonly version: string
  readonly client: ClientOptions
  /** How many replicas a master has. */
  readonly replicas: number
  readonly faults: ReadonlyArray<Fault>
  /** Ends what a fault has begun and not ended. */
  readonly mend: Failing
  /** Waits until all are well, and replicas have what their masters had. */
  readonly settle: Failing
}

/** Data survives a restart: what was acknowledged was on the disk. */
const durable = ["--appendonly", "yes", "--auto-aof-rewrite-min-size", "1gb"]

/**
 * Says the addresses of the proxies in place of those of the servers. All ports have five digits, so lengths stay as they
 * are, and only a port beside the address is one.
 */
const renaming = (ports: ReadonlyMap<number, number>) => (chunk: Buffer): Buffer => {
  if (!chunk.includes("127.0.0.1")) return chunk
  const text = chunk.toString("latin1").replace(
    /(127\.0\.0\.1(?::| |\r\n:|\r\n\$5\r\n|\r\n\+))(\d{5})(?!\d)/g,
    (whole, before: string, port: string) => {
      const proxy = ports.get(Number(port))
      return proxy === undefined ? whole : `${before}${proxy}`
    }
  )
  return Buffer.from(text, "latin1")
}

const proxied = (
  servers: ReadonlyArray<RealServer.Server>
): Effect.Effect<ReadonlyArray<FaultProxy.FaultProxy>, never, Scope.Scope> =>
  Effect.gen(function*() {
    const ports = new Map<number, number>()
    const rename = renaming(ports)
    const proxies = yield* Effect.forEach(servers, (server) => FaultProxy.make(server, rename))
    servers.forEach((server, i) => ports.set(server.port, proxies[i]!.port))
    return proxies
  })

const field = (info: unknown, name: string): string =>
  new RegExp(`^${name}:(.*?)\r?$`, "m").exec(String(info))?.[1] ?? ""

/** Waits until the replicas of this server, if it is a master, have what it has now. */
const copied = (server: RealServer.Server, replicas: number): Failing =>
  Effect.gen(function*() {
    const info = yield* server.cli("INFO", "replication")
    if (field(info, "role") !== "master") return
    const offset = Number(field(info, "master_repl_offset"))
    yield* RealServer.until(
      `the replicas of ${server.port} lag behind`,
      server.cli("INFO", "replication"),
      (info) => {
        const offsets = [...String(info).matchAll(/^slave\d+:.*state=online,offset=(\d+)/gm)].map((found) =>
          Number(found[1])
        )
        return offsets.length >= replicas && offsets.every((one) => one >= offset)
      },
      String
    )
  })

const mended = (servers: ReadonlyArray<RealServer.Server>, proxies: ReadonlyArray<FaultProxy.FaultProxy>): Failing =>
  Effect.gen(function*() {
    for (const { accept, delay, resume } of proxies) yield* Effect.all([accept, delay(0), resume])
    for (const { restart, resume, running } of servers) {
      yield* resume
      if (!(yield* running)) yield* restart
    }
  })

/** What happens to connections. */
const networkFaults = (
  proxies: ReadonlyArray<FaultProxy.FaultProxy>,
  masters: Failing<ReadonlyArray<RealServer.Server>>
): ReadonlyArray<Fault> => {
  /** One of them, or all. */
  const some = (roll: Dice, act: (proxy: FaultProxy.FaultProxy) => Effect.Effect<void>) =>
    Effect.forEach(roll() < 0.3 ? proxies : [choose(roll, proxies)], act, { discard: true })
  return [
    { name: "connections are cut", weight: 2, happen: (roll) => some(roll, ({ cut }) => cut) },
    {
      name: "connections are refused",
      weight: 1,
      happen: (roll) =>
        some(roll, ({ refuse }) => refuse).pipe(
          Effect.zipRight(Effect.sleep(between(roll, 200, 2000))),
          Effect.zipRight(Effect.forEach(proxies, ({ accept }) => accept))
        )
    },
    {
      name: "connections are stalled",
      weight: 2,
      happen: (roll) => {
        const direction = choose(roll, ["both", "requests", "replies"] as const)
        return some(roll, ({ stall }) => stall(direction)).pipe(
          Effect.zipRight(Effect.sleep(between(roll, 500, 6000))),
          Effect.zipRight(Effect.forEach(proxies, ({ resume }) => resume))
        )
      }
    },
    {
      name: "the network is slow",
      weight: 1,
      happen: (roll) =>
        some(roll, ({ delay }) => delay(between(roll, 10, 150))).pipe(
          Effect.zipRight(Effect.sleep(between(roll, 500, 3000))),
          Effect.zipRight(Effect.forEach(proxies, ({ delay }) => delay(0)))
        )
    },
    {
      name: "SCRIPT FLUSH",
      weight: 1,
      happen: () => Effect.flatMap(masters, Effect.forEach((server) => server.cli("SCRIPT", "FLUSH")))
    },
    {
      name: "CLIENT KILL",
      weight: 2,
      happen: (roll) => {
        const type = choose(roll, ["normal", "pubsub"])
        return Effect.flatMap(
          masters,
          (all) =>
            Effect.forEach(
              roll() < 0.3 ? all : [choose(roll, all)],
              (server) => server.cli("CLIENT", "KILL", "TYPE", type, "SKIPME", "yes")
            )
        )
      }
    }
  ]
}

/** Three masters with a replica each. `hot` are keys whose slots are used. */
export const cluster = (hot: ReadonlyArray<string>): Effect.Effect<Servers, RealServer.RealServerError, Scope.Scope> =>
  Effect.gen(function*() {
    const cluster = yield* RealCluster.start({ args: durable, patience: 60 })
    const proxies = yield* proxied(cluster.nodes)
    const master = (roll: Dice) => Effect.map(cluster.masters, (all) => choose(roll, all))
    const faults: ReadonlyArray<Fault> = [
      {
        name: "a master is killed, and comes back when another has its place",
        weight: 3,
        happen: (roll) =>
          Effect.flatMap(
            master(roll),
            (node) => Effect.all([node.kill, cluster.awaitOk, Effect.sleep(between(roll, 0, 1000)), node.restart])
          )
      },
      {
        name: "a master is killed, and comes back at once",
        weight: 2,
        happen: (roll) =>
          Effect.flatMap(
            master(roll),
            (node) => Effect.all([node.kill, Effect.sleep(between(roll, 0, 500)), node.restart])
          )
      },
      {
        name: "a master stops for a moment",
        weight: 2,
        happen: (roll) =>
          Effect.flatMap(
            master(roll),
            (node) => Effect.all([node.pause, Effect.sleep(between(roll, 100, 1400)), node.resume])
          )
      },
      {
        name: "a master stops, and goes on when another has its place",
        weight: 2,
        happen: (roll) =>
          Effect.flatMap(
            master(roll),
            (node) => Effect.all([node.pause, cluster.awaitOk, Effect.sleep(between(roll, 0, 1000)), node.resume])
          )
      },
      {
        name: "CLUSTER FAILOVER",
        weight: 3,
        happen: (roll) => Effect.flatMap(master(roll), (node) => cluster.failover(node))
      },
      {
        name: "slots move with their keys",
        weight: 3,
        happen: (roll) =>
          Effect.gen(function*() {
            for (let i = between(roll, 1, 4); i > 0; i--) {
              const key = choose(roll, hot)
              const from = yield* cluster.masterOf(key)
              const others = (yield* cluster.masters).filter(({ id }) => id !== from.id)
              const migration = yield* cluster.beginMigration(key, choose(roll, others))
              // Some keys are here and some there.
              yield* migration.migrateKeys(1)
              yield* Effect.sleep(between(roll, 0, 1000))
              yield* migration.end
            }
          })
      },
      ...networkFaults(proxies, cluster.masters)
    ]
    return {
      mode: "cluster",
      version: cluster.version,
      client: { clusterNodes: proxies.map(({ host, port }) => ({ host, port })) },
      replicas: 1,
      faults,
      mend: mended(cluster.nodes, proxies),
      settle: Effect.zipRight(
        cluster.awaitOk,
        Effect.forEach(cluster.nodes, (node) => copied(node, 1), { discard: true })
      )
    }
  })

/** A master, two replicas, and three sentinels. */
export const sentinel: Effect.Effect<Servers, RealServer.RealServerError, Scope.Scope> = Effect.gen(function*() {
  const set = yield* RealSentinel.start({ args: durable })
  const all = [...set.servers, ...set.sentinels]
  const proxies = yield* proxied(all)
  const faults: ReadonlyArray<Fault> = [
    {
      name: "the master is killed, and comes back when another has its place",
      weight: 3,
      happen: (roll) =>
        Effect.flatMap(
          set.master,
          (old) => Effect.all([set.killMaster, Effect.sleep(between(roll, 0, 1000)), old.restart])
        )
    },
    {
      name: "the master is killed, and comes back at once",
      weight: 2,
      happen: (roll) =>
        Effect.flatMap(
          set.master,
          (server) => Effect.all([server.kill, Effect.sleep(between(roll, 0, 300)), server.restart])
        )
    },
    {
      name: "the master stops for a moment",
      weight: 2,
      happen: (roll) =>
        Effect.flatMap(
          set.master,
          (server) => Effect.all([server.pause, Effect.sleep(between(roll, 100, 1000)), server.resume])
        )
    },
    {
      name: "the master stops, and goes on when another has its place",
      weight: 2,
      happen: (roll) =>
        Effect.flatMap(set.master, (old) =>
          Effect.all([
            old.pause,
            RealServer.until("nobody takes over", set.master, (master) => master !== old, ({ port }) => `${port}`, 60),
            Effect.sleep(between(roll, 0, 1000)),
            old.resume
          ]))
    },
    { name: "SENTINEL FAILOVER", weight: 3, happen: () => set.failover },
    ...networkFaults(proxies, Effect.map(set.master, (master) => [master]))
  ]
  return {
    mode: "sentinel",
    version: set.version,
    client: {
      sentinels: proxies.slice(set.servers.length).map(({ host, port }) => ({ host, port })),
      sentinelMaster: set.masterName
    },
    replicas: 2,
    faults,
    mend: mended(all, proxies),
    settle: Effect.zipRight(
      set.awaitOk,
      Effect.forEach(set.servers, (server) => copied(server, 2), { discard: true })
    )
  }
})
