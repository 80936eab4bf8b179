/**
 * A Redis server in memory, for unit tests: the very same services, keys, scripts and errors, on Effect's clock.
 *
 * @since 0.1.0
 */
import * as Context from "effect/Context"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type * as Option from "effect/Option"
import type * as Scope from "effect/Scope"
import { LOADING_TEXT, NO_SCRIPT_TEXT, OOM_TEXT, READ_ONLY_TEXT } from "./internal/serverTexts.js"
import type { RedisClient, Service as ClientService } from "./RedisClient.js"
import type { RedisInputError } from "./RedisError.js"

/**
 * Which commands a fault is for, and how often. Commands inside of a script do not count.
 *
 * @since 0.1.0
 * @category models
 */
export interface FaultOptions {
  /**
   * The name of a command, or the SHA of a script (`script.sha`) however it is called; any command when it is left out.
   */
  readonly command?: string | undefined
  /** How many matching commands stay as they are before the fault begins: with 2, the third one is hit. */
  readonly after?: number | undefined
  /** How often it happens: once, or without end where a `probability` is given. */
  readonly times?: number | undefined
  /** Whether it happens is drawn for each matching command. */
  readonly probability?: number | undefined
  /** For `probability`: the same seed draws the same. Without one, each fault has its own, the same in every run. */
  readonly seed?: number | undefined
}

/**
 * Something that goes wrong with commands that match.
 *
 * - `"fail-before-send"`: the connection is found broken before anything is sent: `RedisConnectionError`
 * - `"lose-reply"`: the command is executed and its reply lost: `RedisOutcomeUnknownError`. The connection stays
 * - `"disconnect"`: the connection that carries the command breaks, after the command was `executed` or before. The
 *   caller can't tell which: `RedisOutcomeUnknownError`. The client connects again at once
 * - `"reply"`: the server answers with this error instead of executing, as `"LOADING Redis is loading …"`
 * - `"delay"`: the command is executed after this time, and so is what the same connection sends behind it
 *
 * A pipeline or a transaction is one write: it is executed as a whole or not at all, except that `"reply"` concerns only
 * the command that matches.
 *
 * @since 0.1.0
 * @category models
 */
export type Fault =
  & (
    | { readonly _tag: "fail-before-send" }
    | { readonly _tag: "lose-reply" }
    | { readonly _tag: "disconnect"; readonly executed: boolean }
    | { readonly _tag: "reply"; readonly error: string }
    | { readonly _tag: "delay"; readonly duration: Duration.DurationInput }
  )
  & FaultOptions

const reply = (error: string) => (options?: FaultOptions): Fault => ({ ...options, _tag: "reply", error })

const redirect =
  (code: "MOVED" | "ASK") => (options: FaultOptions & { readonly slot: number; readonly to: string }): Fault => {
    const { slot, to, ...rest } = options
    return { ...rest, _tag: "reply", error: `${code} ${slot} ${to}` }
  }

/**
 * Faults by name. Errors have the texts of Redis 7.0.
 *
 * @example
 * ```ts
 * import { Effect } from "effect"
 * import { Lock, RedisTestServer, withLock } from "effect-redis-kit"
 *
 * const { Fault } = RedisTestServer
 *
 * const program = Effect.gen(function*() {
 *   const server = yield* RedisTestServer.RedisTestServer
 *   // The third script is executed, and its reply is lost.
 *   const lost = yield* server.inject(Fault.loseReply({ command: "EVALSHA", after: 2 }))
 *   // One command in ten finds the server busy, the same ones in every run.
 *   yield* server.inject(Fault.busy({ probability: 0.1, seed: 42 }))
 *   yield* Effect.void.pipe(withLock("report"))
 *   return yield* lost.happened
 * })
 *
 * Effect.runPromise(program.pipe(Effect.provide(Lock.layerTest), Effect.provide(RedisTestServer.layer)))
 * ```
 *
 * @since 0.1.0
 * @category constructors
 */
export const Fault = {
  /** Nothing is sent. */
  failBeforeSend: (options?: FaultOptions): Fault => ({ ...options, _tag: "fail-before-send" }),
  /** Executed, and the reply is lost. */
  loseReply: (options?: FaultOptions): Fault => ({ ...options, _tag: "lose-reply" }),
  /** The connection breaks before the command is executed. */
  disconnectBefore: (options?: FaultOptions): Fault => ({ ...options, _tag: "disconnect", executed: false }),
  /** The command is executed, and the connection breaks. */
  disconnectAfter: (options?: FaultOptions): Fault => ({ ...options, _tag: "disconnect", executed: true }),
  /** Executed after this time. */
  delay: (duration: Duration.DurationInput, options?: FaultOptions): Fault => ({ ...options, _tag: "delay", duration }),
  /** Any error of a server; its first word is the code. */
  reply: (error: string, options?: FaultOptions): Fault => reply(error)(options),
  /** The server has just started. */
  loading: reply(LOADING_TEXT),
  /** The server is a replica, for example after a failover. */
  readOnly: reply(READ_ONLY_TEXT),
  /** The server is full. */
  outOfMemory: reply(OOM_TEXT),
  /** The server has forgotten a script. */
  noScript: (options?: FaultOptions): Fault => reply(NO_SCRIPT_TEXT)({ command: "EVALSHA", ...options }),
  /** A script has been running for too long. */
  busy: reply("BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE."),
  /** A replica has lost its master. */
  masterDown: reply("MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'."),
  /** Too few replicas for `min-replicas-to-write`. */
  noReplicas: reply("NOREPLICAS Not enough good replicas to write."),
  /** A Cluster has lost a master, or has slots that nobody serves. */
  clusterDown: reply("CLUSTERDOWN The cluster is down"),
  /** A Cluster has the slot on another node. */
  moved: redirect("MOVED"),
  /** A Cluster is moving the slot, and the key is on the other node already. */
  ask: redirect("ASK"),
  /** A Cluster is moving the slot, and the keys of the command are on both nodes. */
  tryAgain: reply("TRYAGAIN Multiple keys request during rehashing of slot")
}

/**
 * A fault of a server.
 *
 * @since 0.1.0
 * @category models
 */
export interface InjectedFault {
  readonly fault: Fault
  /** How often it has happened so far. */
  readonly happened: Effect.Effect<number>
  /** Takes it back, as far as it has not happened. */
  readonly withdraw: Effect.Effect<void>
}

/**
 * What state a server is in. It stays in it until it is told otherwise, and refuses what Redis 7.0 refuses then, inside
 * of scripts as well.
 *
 * - `"read-only"`: as a replica: writes fail with `READONLY`, and blocked commands end with `UNBLOCKED`
 * - `"out-of-memory"`: what may need more memory fails with `OOM`; reading and removing goes on
 * - `"loading"`: everything that has to do with keys or scripts fails with `LOADING`, and so does `PING`
 *
 * @since 0.1.0
 * @category models
 */
export type Condition = "normal" | "read-only" | "out-of-memory" | "loading"

/**
 * What a key holds. Bytes that are no text are replaced, as when a text is read.
 *
 * @since 0.1.0
 * @category models
 */
export type Contents =
  | { readonly _tag: "string"; readonly value: string }
  | { readonly _tag: "list"; readonly elements: ReadonlyArray<string> }
  | { readonly _tag: "set"; readonly members: ReadonlyArray<string> }
  /** In the order of the scores. */
  | { readonly _tag: "zset"; readonly members: ReadonlyArray<{ readonly member: string; readonly score: number }> }
  | { readonly _tag: "hash"; readonly fields: Readonly<Record<string, string>> }
  /** Fields are pairs, because a name can occur twice. */
  | {
    readonly _tag: "stream"
    readonly entries: ReadonlyArray<
      { readonly id: string; readonly fields: ReadonlyArray<readonly [name: string, value: string]> }
    >
  }

/**
 * @since 0.1.0
 * @category models
 */
export interface ClientOptions {
  readonly keyPrefix?: string | undefined
  readonly commandTimeout?: Duration.DurationInput | undefined
}

/**
 * @since 0.1.0
 * @category models
 */
export interface Options extends ClientOptions {
  /** As a Cluster of one node: keys of one command must share a slot, and scripts may touch declared keys only. */
  readonly cluster?: boolean | undefined
  /** What `SPOP` and the like choose depends on it, and when faults with a `probability` happen. */
  readonly seed?: number | undefined
}

/**
 * @since 0.1.0
 * @category models
 */
export interface Service {
  /** One more client of the same server, as another process would have; closed with the scope. */
  readonly client: (options?: ClientOptions) => Effect.Effect<ClientService, never, Scope.Scope>
  /**
   * Removes all keys, scripts and faults. The condition is normal again, and all slots are here. Connections and
   * subscriptions stay.
   */
  readonly flush: Effect.Effect<void>
  /** Every key with its type, its remaining life in milliseconds (-1 without) and the number of its elements. */
  readonly keys: Effect.Effect<
    ReadonlyArray<{ readonly key: string; readonly type: string; readonly ttl: number; readonly size: number }>
  >
  /** The commands that were executed since the server was made, newest last; at most the last 1,000. */
  readonly journal: Effect.Effect<ReadonlyArray<{ readonly client: number; readonly args: ReadonlyArray<string> }>>
  /** What a key holds. The name is the whole one, with its prefix, as in `keys`. */
  readonly dump: (key: string) => Effect.Effect<Option.Option<Contents>>
  /**
   * Makes matching commands go wrong, of every client. Each fault counts all commands that match it. When several are
   * due, the oldest happens and the others stay.
   */
  readonly inject: (fault: Fault) => Effect.Effect<InjectedFault, RedisInputError>
  /** The faults that can still happen, oldest first. */
  readonly faults: Effect.Effect<ReadonlyArray<InjectedFault>>
  /** Takes back all faults. */
  readonly clearFaults: Effect.Effect<void>
  /** Brings the server into a state, in which it stays. */
  readonly become: (condition: Condition) => Effect.Effect<void>
  /**
   * Declares slots to be on another node, `"127.0.0.1:6380"` unless told otherwise: their keys are answered with `MOVED`.
   * There is no such node and the client of this server follows nobody, so callers see a `RedisReplyError` with the code
   * `MOVED`. For a server with `cluster: true`.
   */
  readonly moveSlots: (first: number, last: number, to?: string) => Effect.Effect<void, RedisInputError>
  /** Cuts every connection; clients come back by themselves after `downtime` (at once by default). */
  readonly disconnect: (options?: { readonly downtime?: Duration.DurationInput | undefined }) => Effect.Effect<void>
  /** How many replicas acknowledge each write, as far as `WAIT` can tell; none at first. */
  readonly replicas: (count: number) => Effect.Effect<void>
  /** The channels and patterns that anybody is subscribed to. */
  readonly subscriptions: Effect.Effect<ReadonlyArray<string>>
  /** How many connections there are. */
  readonly connections: Effect.Effect<number>
}

/**
 * The server behind `RedisTest` and every `layerTest`.
 *
 * @since 0.1.0
 * @category tags
 */
export class RedisTestServer extends Context.Tag("effect-redis-kit/RedisTestServer")<RedisTestServer, Service>() {}

/**
 * A server in memory and one client of it, as a layer with options. Keep the result in a constant: each call makes a
 * server of its own.
 *
 * @example
 * ```ts
 * import { Effect, Layer } from "effect"
 * import { Lock, RedisTestServer, withLock } from "effect-redis-kit"
 *
 * const OnCluster = Layer.provideMerge(Lock.layer, RedisTestServer.layerWith({ cluster: true, keyPrefix: "shop:" }))
 *
 * Effect.runPromise(Effect.log("works on a Cluster").pipe(withLock("report"), Effect.provide(OnCluster)))
 * ```
 *
 * @since 0.1.0
 * @category layers
 */
export const layerWith = (options?: Options): Layer.Layer<RedisClient | RedisTestServer> =>
  Layer.unwrapEffect(
    Effect.map(Effect.promise(() => import("./memory/MemoryServer.js")), (module) => module.layerWith(options))
  )

/**
 * A server in memory and one client of it. It is a constant, so that layers that are built together share one server;
 * two separate `Effect.provide` get two servers. The server is loaded when the layer is built, and not before.
 *
 * @since 0.1.0
 * @category layers
 */
export const layer: Layer.Layer<RedisClient | RedisTestServer> = layerWith()
