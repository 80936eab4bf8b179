/**
 * A Redis Cluster for tests: started for them from a program on this machine, and stopped after them.
 */
import { Context, Effect, Either, Layer, Number as Num, type Scope } from "effect"
import { hashSlot } from "../../src/internal/slot.js"
import * as RealServer from "./RealServer.js"

export interface Options extends Omit<RealServer.Options, "config"> {
  /** 3 unless told otherwise. */
  readonly masters?: number | undefined
  /** 1 unless told otherwise. */
  readonly replicasPerMaster?: number | undefined
  /** Whether the cluster stops when a slot has no master, as it does unless told otherwise. */
  readonly requireFullCoverage?: boolean | undefined
  /** How many seconds a wait takes at most: 20 unless told otherwise. */
  readonly patience?: number | undefined
}

export interface Node extends RealServer.Server {
  readonly id: string
}

/** A slot on its way: keys that are still there are served by `from`, the others are asked for at `to`. */
export interface Migration {
  readonly slot: number
  readonly from: Node
  readonly to: Node
  /** Moves at most so many keys, and says how many were there. */
  readonly migrateKeys: (count: number) => Effect.Effect<number, RealServer.RealServerError>
  /** Moves the keys that are left, and waits until every node knows the new master. */
  readonly end: Effect.Effect<void, RealServer.RealServerError>
}

/** What changes the cluster waits until all running nodes agree, and fails with the state of each if they don't. */
export interface Cluster {
  /** As `redis 7.0.15`. */
  readonly version: string
  readonly nodes: ReadonlyArray<Node>
  readonly urls: ReadonlyArray<string>
  /** As the first running node sees it, also those that are down. */
  readonly masters: Effect.Effect<ReadonlyArray<Node>, RealServer.RealServerError>
  readonly replicas: Effect.Effect<ReadonlyArray<Node>, RealServer.RealServerError>
  readonly replicasOf: (master: Node) => Effect.Effect<ReadonlyArray<Node>, RealServer.RealServerError>
  readonly masterOf: (slotOrKey: number | string) => Effect.Effect<Node, RealServer.RealServerError>
  readonly beginMigration: (
    slotOrKey: number | string,
    to: Node
  ) => Effect.Effect<Migration, RealServer.RealServerError>
  readonly moveSlot: (slotOrKey: number | string, to: Node) => Effect.Effect<void, RealServer.RealServerError>
  /** Lets a replica take over while both are up (`CLUSTER FAILOVER`), and gives the new master. */
  readonly failover: (master: Node | number | string) => Effect.Effect<Node, RealServer.RealServerError>
  /** Takes these slots from their masters, which keep the keys. */
  readonly dropSlots: (first: number, last: number) => Effect.Effect<void, RealServer.RealServerError>
  /** Gives the slots back that were dropped. */
  readonly coverSlots: Effect.Effect<void, RealServer.RealServerError>
  /** Waits until all slots are served by running nodes and all running replicas are connected. */
  readonly awaitOk: Effect.Effect<void, RealServer.RealServerError>
}

export class RealCluster extends Context.Tag("test/RealCluster")<RealCluster, Cluster>() {}

type Range = readonly [first: number, last: number]

/** What one node says about one other. */
interface Line {
  readonly id: string
  readonly flags: ReadonlyArray<string>
  readonly master: string
  readonly epoch: string
  readonly connected: boolean
  readonly slots: ReadonlyArray<Range>
}

interface View {
  /** `ok` or `fail`. */
  readonly state: string
  readonly role: string
  /** Whether a replica is connected to its master. */
  readonly inSync: boolean
  readonly lines: ReadonlyArray<Line>
}

const SLOTS = 16384

const NODE_TIMEOUT = 1500

/** So long after an election a replica starts the next one. */
const ELECTION_MILLIS = 4 * NODE_TIMEOUT + 500

const slotOf = (slotOrKey: number | string): number => typeof slotOrKey === "number" ? slotOrKey : hashSlot(slotOrKey)

const isMaster = (line: Line): boolean => line.flags.includes("master")

const owns = (line: Line, slot: number): boolean => line.slots.some(([first, last]) => first <= slot && slot <= last)

const covered = (view: View): number =>
  Num.sumAll(view.lines.flatMap(({ slots }) => slots.map(([first, last]) => last - first + 1)))

const parseLine = (line: string): Line => {
  const [id = "", , flags = "", master = "", , , epoch = "", link, ...slots] = line.split(" ")
  return {
    id,
    flags: flags.split(","),
    master,
    epoch,
    connected: link === "connected",
    // In brackets are the slots that are on their way.
    slots: slots.filter((slot) => !slot.startsWith("[")).map((slot): Range => {
      const [first, last = first] = slot.split("-").map(Number)
      return [first!, last!]
    })
  }
}

const look = (node: RealServer.Server): Effect.Effect<View, RealServer.RealServerError> =>
  Effect.map(
    RealServer.talk(node.url, [["CLUSTER", "INFO"], ["CLUSTER", "NODES"], ["INFO", "replication"]]),
    ([info, nodes, replication]) => {
      const role = /^role:(\w+)/m.exec(String(replication))?.[1] ?? ""
      return {
        state: /^cluster_state:(\w+)/m.exec(String(info))?.[1] ?? "",
        role,
        inSync: role === "master" || /^master_link_status:up/m.test(String(replication)),
        lines: String(nodes).trimEnd().split("\n").map(parseLine)
      }
    }
  )

interface Seen {
  readonly node: Node
  readonly running: boolean
  readonly view: Either.Either<View, RealServer.RealServerError>
}

const notRunning = Either.left(new RealServer.RealServerError({ message: "not running" }))

const see = (nodes: ReadonlyArray<Node>): Effect.Effect<ReadonlyArray<Seen>> =>
  Effect.forEach(nodes, (node) =>
    Effect.gen(function*() {
      const running = yield* node.running
      return { node, running, view: running ? yield* Effect.either(look(node)) : notRunning }
    }), { concurrency: "unbounded" })

const show = (all: ReadonlyArray<Seen>): string =>
  all.map(({ node, view }) =>
    `${node.host}:${node.port} ${
      Either.match(view, {
        onLeft: ({ message }) => message,
        onRight: (view) => {
          const line = view.lines.find(({ id }) => id === node.id)
          const slots = (line?.slots ?? []).map(([first, last]) => `${first}-${last}`).join(" ")
          const bad = view.lines.filter(({ connected, flags }) =>
            !connected || flags.some((flag) => UNSETTLED.has(flag))
          )
          return [
            `${view.role}${slots === "" ? "" : ` of ${slots}`}`,
            `state ${view.state}`,
            `${covered(view)} slots covered`,
            `knows ${view.lines.length}`,
            ...(view.inSync ? [] : ["not connected to its master"]),
            ...bad.map(({ connected, flags, id }) =>
              `${id.slice(0, 6)} ${flags.join(",")}${connected ? "" : " unconnected"}`
            )
          ].join(", ")
        }
      })
    }`
  ).join("; ")

const UNSETTLED: ReadonlySet<string> = new Set(["handshake", "noaddr", "fail?", "fail"])

/** The running nodes know each other, and agree about who is what. */
const agree = (all: ReadonlyArray<Seen>): boolean => {
  const running = new Set(all.filter((seen) => seen.running).map(({ node }) => node.id))
  const opinions = new Set<string>()
  for (const { node, running: runs, view } of all) {
    if (!runs) continue
    if (Either.isLeft(view)) return false
    if (view.right.lines.some(({ flags }) => flags.includes("handshake"))) return false
    const lines = view.right.lines.filter(({ id }) => running.has(id))
    if (lines.length !== running.size) return false
    if (lines.some((line) => !line.connected || line.flags.some((flag) => UNSETTLED.has(flag)))) return false
    const self = lines.find(({ id }) => id === node.id)!
    if (isMaster(self) !== (view.right.role === "master") || !view.right.inSync) return false
    opinions.add(
      lines.map((line) => [line.id, line.master, ...(isMaster(line) ? [line.epoch, ...line.slots] : [])].join(" "))
        .sort()
        .join("\n")
    )
  }
  return opinions.size === 1
}

/** They agree, the cluster is up, and no slot is left to a node that is down. */
const isOk = (all: ReadonlyArray<Seen>): boolean =>
  agree(all) && all.every(({ running, view }) =>
    !running || (Either.isRight(view) && view.right.state === "ok" &&
      view.right.lines.every(({ id, slots }) =>
        slots.length === 0 || all.some((other) => other.running && other.node.id === id)
      ))
  )

const flags = (options: Options): ReadonlyArray<string> => [
  "--cluster-enabled",
  "yes",
  "--cluster-announce-ip",
  "127.0.0.1",
  // A failure is seen after this time, and a replica takes over one to two seconds later.
  "--cluster-node-timeout",
  `${NODE_TIMEOUT}`,
  "--cluster-require-full-coverage",
  options.requireFullCoverage === false ? "no" : "yes",
  // Replicas stay with the master that they were given.
  "--cluster-allow-replica-migration",
  "no",
  "--repl-diskless-sync-delay",
  "0",
  ...(options.password === undefined ? [] : ["--masterauth", options.password]),
  ...(options.args ?? [])
]

/** A fresh cluster that belongs to the scope. */
export const start = (options: Options = {}): Effect.Effect<Cluster, RealServer.RealServerError, Scope.Scope> =>
  Effect.gen(function*() {
    const masterCount = options.masters ?? 3
    const count = masterCount * (1 + (options.replicasPerMaster ?? 1))
    const source = yield* RealServer.findProgram()
    const nodes = yield* Effect.forEach(Array.from({ length: count }), () =>
      Effect.gen(function*() {
        const server = yield* RealServer.open(source, { ...options, args: flags(options) })
        const node: Node = { ...server, id: String(yield* server.cli("CLUSTER", "MYID")) }
        return node
      }), { concurrency: "unbounded" })

    const fails = (message: string) => Effect.fail(new RealServer.RealServerError({ message }))

    const settle = (
      what: string,
      right: (all: ReadonlyArray<Seen>) => boolean
    ): Effect.Effect<ReadonlyArray<Seen>, RealServer.RealServerError> =>
      RealServer.until(what, see(nodes), right, show, options.patience)

    const runningNodes = Effect.filter(nodes, (node) => node.running)

    /** What the first running node says. */
    const view: Effect.Effect<View, RealServer.RealServerError> = Effect.flatMap(
      runningNodes,
      ([node]) => node === undefined ? fails("no node of the cluster is running") : look(node)
    )

    const those = (which: (line: Line) => boolean) =>
      Effect.map(view, ({ lines }) => nodes.filter(({ id }) => lines.some((line) => line.id === id && which(line))))

    const masters = those(isMaster)
    const runningMasters = Effect.flatMap(masters, Effect.filter((node) => node.running))

    const masterOf = (slotOrKey: number | string): Effect.Effect<Node, RealServer.RealServerError> =>
      Effect.flatMap(
        those((line) => owns(line, slotOf(slotOrKey))),
        ([node]) => node === undefined ? fails(`no master has slot ${slotOf(slotOrKey)}`) : Effect.succeed(node)
      )

    const replicasOf = (master: Node) => those((line) => line.master === master.id)

    const elected = new Map<string, number>()
    let mastersBefore: ReadonlySet<string> = new Set(nodes.slice(0, masterCount).map(({ id }) => id))

    const awaitOk = Effect.map(settle("the cluster is not up", isOk), (all) => {
      const ids = all.filter(({ view }) => Either.isRight(view) && view.right.role === "master").map(({ node }) =>
        node.id
      )
      for (const id of ids) if (!mastersBefore.has(id)) elected.set(id, performance.now())
      mastersBefore = new Set(ids)
    })

    const beginMigration = (
      slotOrKey: number | string,
      to: Node
    ): Effect.Effect<Migration, RealServer.RealServerError> =>
      Effect.gen(function*() {
        const slot = slotOf(slotOrKey)
        const from = yield* masterOf(slot)
        yield* to.cli("CLUSTER", "SETSLOT", `${slot}`, "IMPORTING", from.id)
        yield* from.cli("CLUSTER", "SETSLOT", `${slot}`, "MIGRATING", to.id)

        const migrateKeys = (count: number): Effect.Effect<number, RealServer.RealServerError> =>
          Effect.gen(function*() {
            const reply = yield* from.cli("CLUSTER", "GETKEYSINSLOT", `${slot}`, `${count}`)
            const keys = Array.isArray(reply) ? reply.map(String) : []
            if (keys.length === 0) return 0
            const auth = options.password === undefined ? [] : ["AUTH", options.password]
            yield* from.cli("MIGRATE", to.host, `${to.port}`, "", "0", "5000", ...auth, "KEYS", ...keys)
            return keys.length
          })

        const end = Effect.gen(function*() {
          yield* RealServer.until(
            `slot ${slot} does not get empty`,
            migrateKeys(1000),
            (left) => left === 0,
            (left) => `${left} keys were there.`,
            options.patience
          )
          // First the new master, which would else be told that the slot is not its own.
          const others = (yield* runningMasters).filter(({ id }) => id !== from.id && id !== to.id)
          for (const node of [to, from, ...others]) yield* node.cli("CLUSTER", "SETSLOT", `${slot}`, "NODE", to.id)
          yield* settle(
            `slot ${slot} did not move`,
            (all) =>
              agree(all) && all.every(({ view }) =>
                Either.isLeft(view) || view.right.lines.some((line) => line.id === to.id && owns(line, slot))
              )
          )
        })
        return { slot, from, to, migrateKeys, end }
      })

    const failover = (of: Node | number | string): Effect.Effect<Node, RealServer.RealServerError> =>
      Effect.gen(function*() {
        yield* awaitOk
        const master = typeof of === "object" ? of : yield* masterOf(of)
        const [replica] = yield* Effect.filter(yield* replicasOf(master), (node) => node.running)
        if (replica === undefined) return yield* fails(`${master.host}:${master.port} has no running replica`)
        // Within this time a replica that was elected takes its old votes for new ones: it becomes master with an epoch
        // that the others refuse, and loses what it was told meanwhile.
        const since = performance.now() - (elected.get(replica.id) ?? -Infinity)
        yield* RealServer.nap(Math.max(0, ELECTION_MILLIS - since))
        const promoted = Effect.gen(function*() {
          if ((yield* look(replica)).role !== "master") yield* replica.cli("CLUSTER", "FAILOVER")
          yield* RealServer.until(
            `${replica.host}:${replica.port} does not take over`,
            see(nodes),
            (all) =>
              isOk(all) &&
              all.some(({ node, view }) => node === replica && Either.isRight(view) && view.right.role === "master"),
            show,
            5
          )
        })
        // The masters vote once in a while only, and a replica gives up after five seconds.
        yield* Effect.retry(promoted, { times: 3 })
        yield* awaitOk
        return replica
      })

    /** Who had the slots that were dropped. */
    const owners = new Map<number, string>()

    const dropSlots = (first: number, last: number): Effect.Effect<void, RealServer.RealServerError> =>
      Effect.gen(function*() {
        const within = ({ slots }: Line) =>
          slots
            .map(([from, to]): Range => [Math.max(from, first), Math.min(to, last)])
            .filter(([from, to]) => from <= to)
        for (const line of (yield* view).lines) {
          for (const [from, to] of within(line)) for (let slot = from; slot <= to; slot++) owners.set(slot, line.id)
        }
        // Each node has a table of its own, and puts back what the master still claims in a message that is on its way.
        // So the masters come first, and only several looks without a find are the end.
        let clean = 0
        const drop = Effect.gen(function*() {
          const all = yield* see(nodes)
          clean++
          for (const role of ["master", "slave"]) {
            for (const { node, view } of all) {
              if (Either.isLeft(view) || view.right.role !== role) continue
              const ranges = view.right.lines.flatMap(within).flat().map(String)
              if (ranges.length === 0) continue
              clean = 0
              yield* node.cli("CLUSTER", "DELSLOTSRANGE", ...ranges)
            }
          }
          return all
        })
        const state = options.requireFullCoverage === false ? "ok" : "fail"
        yield* RealServer.until(
          `slots ${first} to ${last} were not dropped`,
          drop,
          (all) =>
            clean >= 4 &&
            all.every(({ running, view }) => !running || (Either.isRight(view) && view.right.state === state)),
          show,
          options.patience
        )
      })

    const coverSlots = Effect.gen(function*() {
      yield* settle("the nodes don't agree", agree)
      const { lines } = yield* view
      const up = yield* runningMasters
      for (const node of up) {
        const slots = Array.from({ length: SLOTS }, (_, slot) => slot).filter((slot) =>
          !lines.some((line) => owns(line, slot)) && (up.find(({ id }) => id === owners.get(slot)) ?? up[0]) === node
        )
        if (slots.length > 0) yield* node.cli("CLUSTER", "ADDSLOTS", ...slots.map(String))
      }
      owners.clear()
      yield* awaitOk
    })

    // What `redis-cli --cluster create` does, but all at once: first every node learns who it is, which is refused once it
    // knows another, then all meet all, and then the replicas choose their masters.
    const border = (index: number) => Math.round((index * SLOTS) / masterCount)
    const tell = (commands: (index: number) => ReadonlyArray<ReadonlyArray<string>>) =>
      Effect.forEach(
        nodes,
        (node, index) => commands(index).length === 0 ? Effect.void : RealServer.talk(node.url, commands(index)),
        { concurrency: "unbounded", discard: true }
      )
    yield* tell((index) => [
      ["CLUSTER", "SET-CONFIG-EPOCH", `${index + 1}`],
      ...(index < masterCount
        ? [["CLUSTER", "ADDSLOTSRANGE", `${border(index)}`, `${border(index + 1) - 1}`]]
        : [])
    ])
    yield* tell((index) => nodes.slice(index + 1).map(({ host, port }) => ["CLUSTER", "MEET", host, `${port}`]))
    yield* settle("the nodes did not meet", agree)
    yield* tell((index) => index < masterCount ? [] : [["CLUSTER", "REPLICATE", nodes[index % masterCount]!.id]])
    yield* settle(
      "the cluster did not start",
      (all) =>
        isOk(all) &&
        all.every(({ view }) => Either.isRight(view) && view.right.lines.filter(isMaster).length === masterCount)
    )

    return {
      version: nodes[0]!.version,
      nodes,
      urls: nodes.map(({ url }) => url),
      masters,
      replicas: those((line) => !isMaster(line)),
      replicasOf,
      masterOf,
      beginMigration,
      moveSlot: (slotOrKey, to) => Effect.flatMap(beginMigration(slotOrKey, to), ({ end }) => end),
      failover,
      dropSlots,
      coverSlots,
      awaitOk
    }
  })

/**
 * A cluster for the tests of one file: `layer` of `@effect/vitest` starts it before the first of them and stops it after the
 * last. Tests that change it end with `awaitOk`.
 */
export const layerWith = (options: Options = {}): Layer.Layer<RealCluster, RealServer.RealServerError> =>
  Layer.scoped(RealCluster, start(options))

export const layer: Layer.Layer<RealCluster, RealServer.RealServerError> = layerWith()
