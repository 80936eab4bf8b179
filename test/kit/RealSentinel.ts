/**
 * A master, two replicas and three sentinels that watch them: started for tests from a program on this machine, and
 * stopped after them.
 */
import { Context, Effect, Either, Layer, type Scope } from "effect"
import * as RealServer from "./RealServer.js"

export interface Options {
  /** Of the servers. Without spaces and quotes: a sentinel writes it to its file as it is. */
  readonly password?: string | undefined
  readonly sentinelPassword?: string | undefined
  /** More arguments of the servers. */
  readonly args?: ReadonlyArray<string> | undefined
}

export interface SentinelSet {
  /** As `redis 7.0.15`. */
  readonly version: string
  readonly masterName: string
  readonly sentinels: ReadonlyArray<RealServer.Server>
  readonly servers: ReadonlyArray<RealServer.Server>
  /** The server that the first running sentinel names, also when it is down. */
  readonly master: Effect.Effect<RealServer.Server, RealServer.RealServerError>
  /** The servers that it does not name. */
  readonly replicas: Effect.Effect<ReadonlyArray<RealServer.Server>, RealServer.RealServerError>
  /** Makes another server the master while all are up (`SENTINEL FAILOVER`), and gives it. */
  readonly failover: Effect.Effect<RealServer.Server, RealServer.RealServerError>
  /** Kills the master, and gives the new one as soon as all running sentinels name it. */
  readonly killMaster: Effect.Effect<RealServer.Server, RealServer.RealServerError>
  /** Waits until the running sentinels find nothing wrong, and the running replicas are connected. */
  readonly awaitOk: Effect.Effect<void, RealServer.RealServerError>
}

export class RealSentinel extends Context.Tag("test/RealSentinel")<RealSentinel, SentinelSet>() {}

type Fields = ReadonlyMap<string, string>

interface SentinelView {
  readonly master: Fields
  readonly replicas: ReadonlyArray<Fields>
  readonly sentinels: ReadonlyArray<Fields>
}

interface Seen<A> {
  readonly server: RealServer.Server
  readonly running: boolean
  readonly view: Either.Either<A, RealServer.RealServerError>
}

interface State {
  readonly sentinels: ReadonlyArray<Seen<SentinelView>>
  readonly servers: ReadonlyArray<Seen<Fields>>
}

const masterName = "main-master"

const items = (reply: unknown): ReadonlyArray<unknown> => Array.isArray(reply) ? reply : []

const fields = (reply: unknown): Fields => {
  const flat = items(reply).map(String)
  return new Map(flat.flatMap((name, index) => index % 2 === 0 ? [[name, flat[index + 1] ?? ""]] : []))
}

const lookAtSentinel = (sentinel: RealServer.Server): Effect.Effect<SentinelView, RealServer.RealServerError> =>
  Effect.map(
    RealServer.talk(sentinel.url, [
      ["SENTINEL", "MASTER", masterName],
      ["SENTINEL", "REPLICAS", masterName],
      ["SENTINEL", "SENTINELS", masterName]
    ]),
    ([master, replicas, sentinels]) => ({
      master: fields(master),
      replicas: items(replicas).map(fields),
      sentinels: items(sentinels).map(fields)
    })
  )

const lookAtServer = (server: RealServer.Server): Effect.Effect<Fields, RealServer.RealServerError> =>
  Effect.map(
    server.cli("INFO", "replication"),
    (info) =>
      new Map(String(info).split("\r\n").map((line) => [line.split(":")[0]!, line.slice(line.indexOf(":") + 1)]))
  )

const notRunning = Either.left(new RealServer.RealServerError({ message: "not running" }))

const see = <A>(
  servers: ReadonlyArray<RealServer.Server>,
  look: (server: RealServer.Server) => Effect.Effect<A, RealServer.RealServerError>
): Effect.Effect<ReadonlyArray<Seen<A>>> =>
  Effect.forEach(servers, (server) =>
    Effect.gen(function*() {
      const running = yield* server.running
      return { server, running, view: running ? yield* Effect.either(look(server)) : notRunning }
    }), { concurrency: "unbounded" })

const show = ({ sentinels, servers }: State): string => {
  const line = <A>({ server, view }: Seen<A>, text: (view: A) => string) =>
    `${server.host}:${server.port} ${Either.match(view, { onLeft: ({ message }) => message, onRight: text })}`
  const brief = (known: Fields) => `${known.get("port")} ${known.get("flags")}`
  return [
    ...sentinels.map((seen) =>
      line(
        seen,
        ({ master, replicas, sentinels }) =>
          `names ${brief(master)}, knows replicas ${replicas.map(brief).join(", ")} and sentinels ${
            sentinels.map(brief).join(", ")
          }`
      )
    ),
    ...servers.map((seen) =>
      line(seen, (info) =>
        info.get("role") === "master"
          ? "master"
          : `replica of ${info.get("master_port")}, link ${info.get("master_link_status")}`)
    )
  ].join("; ")
}

/** The port that all running sentinels name. */
const named = ({ sentinels }: State): string | undefined => {
  const ports = new Set<string | undefined>()
  for (const { running, view } of sentinels) {
    if (running) ports.add(Either.isRight(view) ? view.right.master.get("port") : undefined)
  }
  return ports.size === 1 ? [...ports][0] : undefined
}

const isMaster = ({ servers }: State, port: string | undefined): boolean =>
  servers.some(({ server, view }) =>
    `${server.port}` === port && Either.isRight(view) && view.right.get("role") === "master"
  )

const isOk = (state: State): boolean => {
  const port = named(state)
  if (!isMaster(state, port)) return false
  const up = new Set(
    [...state.sentinels, ...state.servers].filter(({ running }) => running).map(({ server }) => `${server.port}`)
  )
  const finds = (known: ReadonlyArray<Fields>, flag: string, count: number) =>
    known.length === count && known.every((one) => !up.has(one.get("port") ?? "") || one.get("flags") === flag)
  return state.sentinels.every(({ running, view }) =>
    !running || (Either.isRight(view) && view.right.master.get("flags") === "master" &&
      finds(view.right.replicas, "slave", state.servers.length - 1) &&
      finds(view.right.sentinels, "sentinel", state.sentinels.length - 1))
  ) && state.servers.every(({ running, server, view }) =>
    !running || `${server.port}` === port || (Either.isRight(view) && view.right.get("master_port") === port &&
      view.right.get("master_link_status") === "up")
  )
}

/**
 * Timers of a sentinel that fit a second or two. It pings first after the ping period, which must leave time until it
 * takes for down whom it just met; and what it knows of a replica, by the second, must be younger than five of them.
 */
const quick = ["ping-period", "400", "info-period", "1000", "publish-period", "500", "tilt-period", "2000"]

const hasten = (sentinel: RealServer.Server) => Effect.asVoid(sentinel.cli("SENTINEL", "DEBUG", ...quick))

/** A fresh set that belongs to the scope. */
export const start = (options: Options = {}): Effect.Effect<SentinelSet, RealServer.RealServerError, Scope.Scope> =>
  Effect.gen(function*() {
    const source = yield* RealServer.findProgram()
    const { password, sentinelPassword } = options

    const startServer = (config: ReadonlyArray<string>) =>
      RealServer.open(source, {
        password,
        config,
        args: [
          "--repl-diskless-sync-delay",
          "0",
          ...(password === undefined ? [] : ["--masterauth", password]),
          ...(options.args ?? [])
        ]
      })
    // The sentinels rewrite these files, so that a server that comes back is what it was at last.
    const first = yield* startServer([])
    const others = yield* Effect.replicateEffect(startServer([`replicaof ${first.host} ${first.port}`]), 2, {
      concurrency: "unbounded"
    })
    const servers = [first, ...others]
    // A sentinel that finds no replica at its first look takes its time until the next one.
    yield* RealServer.until(
      "the replicas did not connect",
      see(servers, lookAtServer),
      (all) =>
        all.every(({ server, view }) =>
          Either.isRight(view) && (server === first || view.right.get("master_link_status") === "up")
        ),
      (all) => show({ sentinels: [], servers: all })
    )

    const startSentinel = (downAfter: number) =>
      Effect.gen(function*() {
        const sentinel = yield* RealServer.open(source, {
          password: sentinelPassword,
          config: [
            `sentinel monitor ${masterName} ${first.host} ${first.port} 2`,
            `sentinel down-after-milliseconds ${masterName} ${downAfter}`,
            // When no sentinel wins the vote, the next one is after twice this time.
            `sentinel failover-timeout ${masterName} 3000`,
            `sentinel parallel-syncs ${masterName} 1`,
            ...(password === undefined ? [] : [`sentinel auth-pass ${masterName} ${password}`]),
            ...(sentinelPassword === undefined ? [] : [`sentinel sentinel-pass ${sentinelPassword}`])
          ],
          args: ["--sentinel"]
        })
        yield* hasten(sentinel)
        return { ...sentinel, restart: Effect.zipRight(sentinel.restart, hasten(sentinel)) }
      })
    // Sentinels that find out at the same time all vote for themselves.
    const sentinels = yield* Effect.forEach([1200, 1600, 2000], startSentinel, { concurrency: "unbounded" })

    const state: Effect.Effect<State> = Effect.all({
      sentinels: see(sentinels, lookAtSentinel),
      servers: see(servers, lookAtServer)
    }, { concurrency: "unbounded" })

    const settle = (what: string, right: (state: State) => boolean) => RealServer.until(what, state, right, show)

    const serverAt = (port: string | undefined) =>
      Effect.mapError(
        Effect.fromNullable(servers.find((server) => `${server.port}` === port)),
        () => new RealServer.RealServerError({ message: `no server of the set has port ${port}` })
      )

    const asked = Effect.flatMap(
      Effect.filter(sentinels, (sentinel) => sentinel.running),
      ([sentinel]) =>
        sentinel === undefined
          ? Effect.fail(new RealServer.RealServerError({ message: "no sentinel is running" }))
          : Effect.succeed(sentinel)
    )

    const master = Effect.gen(function*() {
      const address = yield* (yield* asked).cli("SENTINEL", "GET-MASTER-ADDR-BY-NAME", masterName)
      return yield* serverAt(String(items(address)[1]))
    })

    const awaitOk = Effect.asVoid(settle("the sentinels are not content", isOk))

    const awaitOther = (old: RealServer.Server, question: Effect.Effect<State, RealServer.RealServerError>) =>
      Effect.gen(function*() {
        const other = yield* RealServer.until(
          `no server took over from ${old.host}:${old.port}`,
          question,
          (state) => named(state) !== `${old.port}` && isMaster(state, named(state)),
          show
        )
        return yield* serverAt(named(other))
      })

    yield* awaitOk
    return {
      version: first.version,
      masterName,
      sentinels,
      servers,
      master,
      replicas: Effect.map(master, (master) => servers.filter((server) => server !== master)),
      failover: Effect.gen(function*() {
        yield* awaitOk
        const old = yield* master
        const leader = yield* asked
        // A sentinel may find no replica good enough for a moment, and gives up what takes too long.
        const begin = Effect.gen(function*() {
          const known = (yield* lookAtSentinel(leader)).master
          const busy = known.get("port") !== `${old.port}` || known.get("flags")?.includes("failover_in_progress")
          if (busy !== true) yield* leader.cli("SENTINEL", "FAILOVER", masterName)
        })
        const other = yield* awaitOther(old, Effect.zipRight(begin, state))
        yield* awaitOk
        return other
      }),
      killMaster: Effect.gen(function*() {
        const old = yield* master
        yield* old.kill
        return yield* awaitOther(old, state)
      }),
      awaitOk
    }
  })

/**
 * A set for the tests of one file: `layer` of `@effect/vitest` starts it before the first of them and stops it after the
 * last. Tests that change it end with `awaitOk`.
 */
export const layerWith = (options: Options = {}): Layer.Layer<RealSentinel, RealServer.RealServerError> =>
  Layer.scoped(RealSentinel, start(options))

export const layer: Layer.Layer<RealSentinel, RealServer.RealServerError> = layerWith()
