/**
 * The live driver: `RedisClient` over connections of ioredis, to one server, to the master that sentinels name, or to the
 * masters of a Cluster.
 *
 * What it adds to ioredis:
 *
 * - **Nothing is sent twice.** ioredis repeats unanswered commands on a new connection by default, so that one `INCR` can
 *   count twice. Here a command whose reply was lost fails with `RedisOutcomeUnknownError`.
 * - **Nothing waits for ever.** Every command has a deadline from the moment it is issued. While there is no connection,
 *   commands wait for one, and then fail with `RedisConnectionError`: these were certainly not executed.
 * - **Dead connections are found.** A connection on which nothing arrives any more is dropped when a command reaches its
 *   deadline, or when a ping that is sent after a silence of one command timeout stays unanswered for another one.
 *
 * @since 0.1.0
 */
import type * as Config from "effect/Config"
import type * as ConfigError from "effect/ConfigError"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import type * as Schedule from "effect/Schedule"
import type * as Scope from "effect/Scope"
import type { Redis, RedisOptions } from "ioredis"
import { makeState } from "./internal/connectionState.js"
import { inputError } from "./internal/input.js"
import { Once } from "./internal/issued.js"
import { makeClusterDriver } from "./ioredis/clusterDriver.js"
import { makeExecutor } from "./ioredis/executor.js"
import { Link, type Role } from "./ioredis/Link.js"
import { makeReserved } from "./ioredis/Reserved.js"
import { watchSentinels } from "./ioredis/SentinelWatch.js"
import { makeSubscriber } from "./ioredis/Subscriber.js"
import type { Node } from "./ioredis/Topology.js"
import { makeTracker } from "./ioredis/Tracking.js"
import { type Driver, make as makeClient, RedisClient, type Service } from "./RedisClient.js"
import * as RedisConfig from "./RedisConfig.js"
import type { RedisError, RedisInputError } from "./RedisError.js"

/** Over a shared link that may not be connected yet; `open` makes the others. */
const makeService = (options: {
  readonly mode: "standalone" | "sentinel"
  readonly target: string
  readonly keyPrefix: string
  readonly commandTimeout: number
  readonly retry: Schedule.Schedule<unknown, unknown>
  readonly shared: (prepare: (link: Link) => void) => Link
  readonly connect: boolean
  readonly open: (role: Role) => Link
  /** Calls back with the address of a new master; returns how to end that. */
  readonly watch?: ((onSwitch: (address: string) => void) => () => void) | undefined
}): Effect.Effect<Service, RedisError, Scope.Scope> =>
  Effect.gen(function*() {
    const state = makeState()
    const links = new Set<Link>()
    let closing = false
    const shared = yield* Effect.acquireRelease(
      Effect.sync(() => options.shared((link) => link.onState = state.set)),
      (shared) =>
        Effect.suspend(() => {
          closing = true
          return Effect.forEach([...links, shared], (link) => link.close, { concurrency: "unbounded", discard: true })
        })
    )
    if (options.connect) yield* shared.connect

    const openLink = (role: Role): Link => {
      const link = options.open(role)
      links.add(link)
      return link
    }

    if (options.watch !== undefined) {
      const { watch } = options
      const onSwitch = (address: string) => {
        for (const link of [shared, ...links]) if (link.address !== address) link.drop()
      }
      yield* Effect.acquireRelease(Effect.sync(() => watch(onSwitch)), (unwatch) => Effect.sync(unwatch))
    }

    const executor = makeExecutor(shared, true)
    const node: Node = { id: options.target, open: openLink }

    const driver: Driver = {
      ...executor,
      mode: options.mode,
      target: options.target,
      keyPrefix: options.keyPrefix,
      commandTimeout: options.commandTimeout,
      retry: options.retry,
      state: state.changes,
      subscriber: makeSubscriber(() => openLink("subscriber")),
      tracker: makeTracker({
        topology: { masters: () => [node], onChange: () => () => {} },
        writer: () => ({ executor }),
        open: (node) =>
          Effect.suspend(() =>
            closing
              ? Effect.fail(shared.error("closed", "the client was closed"))
              : Effect.succeed(node.open("reserved"))
          ),
        close: (link) => Effect.zipRight(link.close, Effect.sync(() => links.delete(link)))
      }),
      reserve: () =>
        Effect.gen(function*() {
          if (closing) return yield* shared.error("closed", "the client was closed")
          const link = yield* Effect.acquireRelease(
            Effect.sync(() => openLink("reserved")),
            (link) => Effect.zipRight(link.close, Effect.sync(() => links.delete(link)))
          )
          yield* link.connect
          const id = yield* makeExecutor(link, false).issue(
            new Once("CLIENT", ["ID"], "text", options.commandTimeout, (reply) => Effect.succeed(Number(reply)))
          )
          return makeReserved(link, shared, id)
        }),
      masters: Effect.sync(() => [driver])
    }
    return yield* makeClient(driver)
  })

const tlsOptions = (tls: RedisConfig.TlsOptions): NonNullable<RedisOptions["tls"]> => ({
  ...(tls.ca === undefined ? {} : { ca: tls.ca }),
  ...(tls.cert === undefined ? {} : { cert: tls.cert }),
  ...(tls.key === undefined ? {} : { key: Redacted.value(tls.key) }),
  ...(tls.servername === undefined ? {} : { servername: tls.servername }),
  ...(tls.rejectUnauthorized === undefined ? {} : { rejectUnauthorized: tls.rejectUnauthorized })
})

const accessOptions = (
  access: Pick<RedisConfig.Sentinels, "username" | "password">
): Pick<RedisOptions, "username" | "password"> => ({
  ...(Option.isSome(access.username) ? { username: access.username.value } : {}),
  ...(Option.isSome(access.password) ? { password: Redacted.value(access.password.value) } : {})
})

const sentinelOptions = (sentinels: RedisConfig.Sentinels): RedisOptions => {
  const { password, username } = accessOptions(sentinels)
  return {
    sentinels: Array.from(sentinels.nodes),
    ...(username === undefined ? {} : { sentinelUsername: username }),
    ...(password === undefined ? {} : { sentinelPassword: password }),
    ...(Option.isSome(sentinels.tls) ? { sentinelTLS: tlsOptions(sentinels.tls.value) } : {}),
    // It is used where there are options of TLS for the servers.
    enableTLSForSentinelMode: true
  }
}

/**
 * A client, connected: a server that can't be reached or refuses the password is a `RedisConnectionError` within the
 * connect timeout. With `lazyConnect` the first command connects.
 *
 * The configuration decides what it talks to: one server, the master that sentinels name (`sentinels`,
 * `sentinelMaster`), or a Cluster (`clusterNodes`).
 *
 * The scope closes it. What is underway then gets up to a second (or the command timeout, when it is shorter) to end.
 *
 * @example
 * ```ts
 * import { Effect } from "effect"
 * import { RedisConfig } from "effect-redis-kit"
 * import * as IoRedis from "effect-redis-kit/IoRedis"
 *
 * const program = Effect.scoped(Effect.gen(function*() {
 *   const client = yield* Effect.flatMap(RedisConfig.make({ host: "localhost" }), IoRedis.make)
 *   return yield* client.send("PING")
 * }))
 * ```
 *
 * @since 0.1.0
 * @category constructors
 */
export const make = (config: RedisConfig.RedisConfig): Effect.Effect<Service, RedisError, Scope.Scope> =>
  Effect.suspend(() => {
    const target = RedisConfig.target(config)
    const connectTimeout = Duration.toMillis(config.connectTimeout)
    const commandTimeout = Duration.toMillis(config.commandTimeout)
    const options: RedisOptions = {
      enableReadyCheck: config.readyCheck,
      ...accessOptions(config),
      ...(Option.isSome(config.tls) ? { tls: tlsOptions(config.tls.value) } : {}),
      ...(Option.isSome(config.name) ? { connectionName: config.name.value } : {})
    }
    if (config.clusterNodes.length > 0) {
      return Effect.flatMap(
        makeClusterDriver({
          target,
          seeds: config.clusterNodes,
          connectTimeout,
          commandTimeout,
          options,
          keyPrefix: config.keyPrefix,
          retry: config.retry,
          connect: !config.lazyConnect
        }),
        makeClient
      )
    }
    const sentinels = Option.map(config.sentinels, sentinelOptions)
    const where: RedisOptions = {
      ...options,
      db: config.db,
      ...Option.getOrElse(sentinels, () => ({ host: config.host, port: config.port }))
    }
    const master = Option.getOrUndefined(Option.map(config.sentinels, ({ master }) => master))
    const open = (role: Role, patient: boolean) =>
      new Link({ target, role, connectTimeout, commandTimeout, patient, master })
    return makeService({
      mode: Option.isSome(sentinels) ? "sentinel" : "standalone",
      target,
      keyPrefix: config.keyPrefix,
      commandTimeout,
      retry: config.retry,
      shared: (prepare) => {
        const link = open("shared", config.lazyConnect)
        prepare(link)
        return link.own(where)
      },
      connect: !config.lazyConnect,
      open: (role) => open(role, role === "subscriber").own(where),
      watch: Option.getOrUndefined(Option.map(config.sentinels, (sentinels) => (onSwitch) =>
        watchSentinels({
          sentinels: sentinels.nodes,
          master: sentinels.master,
          access: {
            ...accessOptions(sentinels),
            ...(Option.isSome(sentinels.tls) ? { tls: tlsOptions(sentinels.tls.value) } : {})
          },
          connectTimeout,
          onSwitch
        })))
    })
  })

/**
 * A client of one server, of a Cluster, or of the master that sentinels name. Options are checked: a bad one is a
 * `RedisInputError` that names it.
 *
 * @example
 * ```ts
 * import { Effect, Redacted } from "effect"
 * import { RedisClient } from "effect-redis-kit"
 * import * as IoRedis from "effect-redis-kit/IoRedis"
 *
 * const RedisLive = IoRedis.layer({
 *   host: "redis.internal",
 *   password: Redacted.make("secret"),
 *   keyPrefix: "shop:",
 *   commandTimeout: "2 seconds"
 * })
 *
 * const ClusterLive = IoRedis.layer({ clusterNodes: [{ host: "node-1" }, { host: "node-2" }] })
 *
 * const SentinelLive = IoRedis.layer({
 *   sentinels: [{ host: "sentinel-1" }, { host: "sentinel-2" }, { host: "sentinel-3" }],
 *   sentinelMaster: "shop"
 * })
 *
 * const program = Effect.flatMap(RedisClient.RedisClient, (client) => client.send("PING")).pipe(
 *   Effect.provide(RedisLive)
 * )
 * ```
 *
 * @since 0.1.0
 * @category layers
 */
export const layer = (options?: RedisConfig.Options): Layer.Layer<RedisClient, RedisError> =>
  Layer.scoped(RedisClient, Effect.flatMap(RedisConfig.make(options), make))

/**
 * A client of the server that the environment names; see `RedisConfig.config` for the variables.
 *
 * @example
 * ```ts
 * import { Config } from "effect"
 * import { RedisConfig } from "effect-redis-kit"
 * import * as IoRedis from "effect-redis-kit/IoRedis"
 *
 * const RedisLive = IoRedis.layerConfig()
 *
 * // The same, with a fixed prefix.
 * const ShopLive = IoRedis.layerConfig(Config.map(RedisConfig.config, (config) => ({ ...config, keyPrefix: "shop:" })))
 * ```
 *
 * @since 0.1.0
 * @category layers
 */
export const layerConfig = (
  config: Config.Config<RedisConfig.RedisConfig> = RedisConfig.config
): Layer.Layer<RedisClient, RedisError | ConfigError.ConfigError> =>
  Layer.scoped(RedisClient, Effect.flatMap(config, make))

/**
 * What may be chosen for a client that somebody else owns.
 *
 * @since 0.1.0
 * @category models
 */
export interface FromClientOptions {
  /** Put before every key and channel by everything except the raw `send`; default none. */
  readonly keyPrefix?: string | undefined
  /** How long a command may take from the moment it is issued; default 5 seconds. */
  readonly commandTimeout?: Duration.DurationInput | undefined
  /** How idempotent commands are tried again, as in `RedisConfig`. */
  readonly retry?: Schedule.Schedule<unknown, unknown> | undefined
}

/**
 * Options that a client must have been made with before `fromClient` takes it: with the defaults of ioredis, a command
 * can be executed twice after a reconnection, or long after its caller was told that it failed.
 *
 * `protocol` is for version 6 of ioredis; version 5 does not read it.
 *
 * @since 0.1.0
 * @category constants
 */
export const clientOptions = {
  autoResendUnfulfilledCommands: false,
  maxRetriesPerRequest: 0,
  enableOfflineQueue: false,
  protocol: 2
} as const

const checkClient = (client: Redis): RedisInputError | undefined => {
  const options = client.options
  const refuse = (field: string, expected: string, actual: unknown) => inputError("fromClient", field, expected, actual)
  if (client.isCluster) return refuse("client", "a client of one server", "a client of a cluster")
  if (client.mode !== "normal") return refuse("client", "neither subscribed nor monitoring", client.mode)
  if (options.keyPrefix !== undefined && options.keyPrefix !== "") {
    return refuse("keyPrefix", "empty in the client's options, and given to fromClient", "set")
  }
  if (options.autoResendUnfulfilledCommands !== false) {
    return refuse("autoResendUnfulfilledCommands", "false, or commands are executed twice", "true")
  }
  if (options.maxRetriesPerRequest !== 0) {
    return refuse("maxRetriesPerRequest", "0, or commands wait for ever", options.maxRetriesPerRequest)
  }
  if (options.enableOfflineQueue !== false) {
    return refuse("enableOfflineQueue", "false, or commands are sent after their deadline", "true")
  }
  if (options.stringNumbers === true) return refuse("stringNumbers", "false", "true")
  if (options.commandTimeout !== undefined) {
    return refuse("commandTimeout", "left out, and given to fromClient", options.commandTimeout)
  }
  // Known to version 6 only.
  const { protocol, replyMapping }: RedisOptions & { readonly protocol?: unknown; readonly replyMapping?: unknown } =
    options
  if (protocol !== undefined && protocol !== 2) return refuse("protocol", "2", protocol)
  if (replyMapping === "resp3") return refuse("replyMapping", "\"legacy\"", replyMapping)
  return undefined
}

/**
 * Over a client of ioredis that you own: it is used as it is, and never closed. Subscriptions and reserved connections
 * get connections of their own with the same address, and these are closed with the scope.
 *
 * The client must have been made with `clientOptions`, and without a `keyPrefix`; else it is refused with a
 * `RedisInputError` that names the option. So is ioredis' client of a Cluster, which sends commands again on its own:
 * give the nodes to `layer` as `clusterNodes` instead. When it stops answering, its connection is dropped, so that it makes another.
 *
 * @example
 * ```ts
 * import { Effect } from "effect"
 * import * as IoRedis from "effect-redis-kit/IoRedis"
 * import { Redis } from "ioredis"
 *
 * const redis = new Redis({ host: "localhost", lazyConnect: true, ...IoRedis.clientOptions })
 *
 * const program = Effect.scoped(Effect.gen(function*() {
 *   const client = yield* IoRedis.fromClient(redis, { keyPrefix: "shop:" })
 *   return yield* client.send("PING")
 * }))
 * ```
 *
 * @since 0.1.0
 * @category constructors
 */
export const fromClient = (
  client: Redis,
  options?: FromClientOptions
): Effect.Effect<Service, RedisError, Scope.Scope> =>
  Effect.gen(function*() {
    const refused = checkClient(client)
    if (refused !== undefined) return yield* refused
    const config = yield* RedisConfig.make({
      keyPrefix: options?.keyPrefix,
      commandTimeout: options?.commandTimeout,
      retry: options?.retry
    })
    const { connectTimeout = 10_000, db = 0, host = "localhost", name, path, port = 6379, sentinels, tls } =
      client.options
    const hasSentinels = sentinels !== undefined && sentinels !== null
    const target = hasSentinels
      ? `redis+sentinel://${
        sentinels.map(({ host, port }) => `${host ?? "localhost"}:${port ?? 26379}`).join()
      }/${name}/${db}`
      : path === undefined || path === null
      ? `redis${tls === undefined ? "" : "s"}://${host}:${port}/${db}`
      : `unix:${path}`
    const commandTimeout = Duration.toMillis(config.commandTimeout)
    const open = (role: Role) =>
      new Link({
        target,
        role,
        connectTimeout,
        commandTimeout,
        patient: role !== "reserved",
        ...(hasSentinels && client.options.role !== "slave" ? { master: name } : {})
      })
    return yield* makeService({
      mode: hasSentinels ? "sentinel" : "standalone",
      target,
      keyPrefix: config.keyPrefix,
      commandTimeout,
      retry: config.retry,
      shared: (prepare) => {
        const link = open("shared")
        prepare(link)
        return link.attach(client, false)
      },
      connect: false,
      open: (role) => open(role).own(client.options)
    })
  })

/**
 * `fromClient` as a layer.
 *
 * @example
 * ```ts
 * import * as IoRedis from "effect-redis-kit/IoRedis"
 * import { Redis } from "ioredis"
 *
 * const redis = new Redis({ lazyConnect: true, ...IoRedis.clientOptions })
 * const RedisLive = IoRedis.layerFromClient(redis, { keyPrefix: "shop:" })
 * ```
 *
 * @since 0.1.0
 * @category layers
 */
export const layerFromClient = (client: Redis, options?: FromClientOptions): Layer.Layer<RedisClient, RedisError> =>
  Layer.scoped(RedisClient, fromClient(client, options))
