/**
 * The one service that every capability is written against: commands, scripts, subscriptions and own connections.
 *
 * It has two drivers with the same behaviour: `IoRedis` talks to a server, `RedisTestServer` is a server in memory.
 *
 * @since 0.1.0
 */
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Data from "effect/Data"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Option from "effect/Option"
import type * as Queue from "effect/Queue"
import * as Random from "effect/Random"
import * as Schedule from "effect/Schedule"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import { prefixedKeys } from "./internal/constantKeys.js"
import { checkKey, inputError, positiveMillis } from "./internal/input.js"
import * as Invalidations from "./internal/invalidations.js"
import { Evaluated, type Issuer, Once, Repeated } from "./internal/issued.js"
import { hashSlot } from "./internal/slot.js"
import * as Subscriptions from "./internal/subscriptions.js"
import * as Commands from "./RedisCommands.js"
import { defaultRetry } from "./RedisConfig.js"
import { type RedisError, RedisOutcomeUnknownError, RedisReplyError } from "./RedisError.js"
import * as RedisScript from "./RedisScript.js"

// ---------------------------------------------------------------------------------------------------------------------
// Models
// ---------------------------------------------------------------------------------------------------------------------

/**
 * An argument of a command. Text is sent as UTF-8, bytes as they are; `Infinity` is sent as `inf`, and `NaN` is refused.
 *
 * @since 0.1.0
 * @category models
 */
export type RedisArg = string | number | Uint8Array

/**
 * A reply whose strings are text. An array can hold an error where the server puts one inside a reply.
 *
 * @since 0.1.0
 * @category models
 */
export type Reply = string | number | null | RedisReplyError | ReadonlyArray<Reply>

/**
 * A reply whose strings are bytes.
 *
 * @since 0.1.0
 * @category models
 */
export type BytesReply = Uint8Array | number | null | RedisReplyError | ReadonlyArray<BytesReply>

/**
 * @since 0.1.0
 * @category models
 */
export type Encoding = "text" | "bytes"

/**
 * An entry of a pipeline or a transaction: a command with its arguments, as in `["SET", "key", "value"]`, or a script
 * with its parameters, made by `RedisScript.call`.
 *
 * @since 0.1.0
 * @category models
 */
export type Command = readonly [command: string, ...args: ReadonlyArray<RedisArg>] | RedisScript.Call

/**
 * Something published to a channel. `channel` is without the client's prefix; `pattern` is set when the subscription was
 * to a pattern.
 *
 * @since 0.1.0
 * @category models
 */
export class Message extends Data.TaggedClass("Message")<{
  readonly channel: string
  readonly pattern: Option.Option<string>
  readonly bytes: Uint8Array
}> {
  /**
   * The payload as UTF-8 text.
   *
   * @since 0.1.0
   */
  get payload(): string {
    return this.#payload ??= decoder.decode(this.bytes)
  }

  #payload: string | undefined
}

// As in every other text of a reply, a byte order mark stays.
const decoder = new TextDecoder("utf-8", { ignoreBOM: true })

/**
 * Messages may be missing here: the connection was down (one Gap for each outage), or this subscriber was too slow and
 * its buffer was full.
 *
 * @since 0.1.0
 * @category models
 */
export class Gap extends Data.TaggedClass("Gap")<{
  readonly reason: "disconnected" | "overflow"
}> {}

/**
 * What to subscribe to; one kind at a time. At most `capacity` elements wait for a slow subscriber (1024 by default);
 * what comes after them is dropped, and a `Gap` stands in its place.
 *
 * @since 0.1.0
 * @category models
 */
export type Subscription =
  & (
    | { readonly channels: ReadonlyArray<string> }
    | { readonly patterns: ReadonlyArray<string> }
    | { readonly shardChannels: ReadonlyArray<string> }
  )
  & { readonly capacity?: number | undefined }

/** @internal */
export const Listen: unique symbol = Symbol.for("effect-redis-kit/RedisClient/Listen")

/**
 * From here on every change of a key under the prefixes is reported: a write of the client's own came back as an
 * invalidation.
 *
 * @since 0.1.0
 * @category models
 */
export class Armed extends Data.TaggedClass("Armed") {}

/**
 * From here on until the next `Armed` nothing is promised: what was read before can be out of date.
 *
 * @since 0.1.0
 * @category models
 */
export class Down extends Data.TaggedClass("Down") {}

/**
 * These keys were written, removed, or have expired. They are without the client's prefix, and as UTF-8 text.
 *
 * @since 0.1.0
 * @category models
 */
export class Invalidated extends Data.TaggedClass("Invalidated")<{
  readonly keys: ReadonlyArray<string>
}> {}

/**
 * Every key may have changed: the server was flushed, or this stream was read too slowly.
 *
 * @since 0.1.0
 * @category models
 */
export class InvalidatedAll extends Data.TaggedClass("InvalidatedAll") {}

/**
 * @since 0.1.0
 * @category models
 */
export type Invalidation = Armed | Invalidated | InvalidatedAll | Down

/**
 * Where the connection stands. `error` is why it was lost or could not be made, as long as it is not there.
 *
 * @since 0.1.0
 * @category models
 */
export interface ConnectionState {
  readonly status: "disconnected" | "connecting" | "connected" | "reconnecting" | "error" | "end"
  readonly previous: Option.Option<ConnectionState["status"]>
  readonly error: Option.Option<RedisError>
}

/**
 * @since 0.1.0
 * @category models
 */
export interface Health {
  readonly healthy: boolean
  readonly responseTime: Duration.Duration
  readonly server: Option.Option<{
    readonly version: string
    /** `standalone`, `sentinel` or `cluster`. */
    readonly mode: string
    readonly connectedClients: number
    readonly usedMemoryHuman: string
  }>
  readonly error: Option.Option<RedisError>
}

/**
 * @since 0.1.0
 * @category models
 */
export interface ScanOptions {
  /** A glob, to which the key prefix is added; `*` by default. */
  readonly match?: string | undefined
  /** How many keys the server looks at in one step; 1000 by default. */
  readonly count?: number | undefined
  /** Only keys of this type. */
  readonly type?: "string" | "hash" | "list" | "set" | "zset" | "stream" | undefined
}

/**
 * What a shared and an own connection have in common.
 *
 * @since 0.1.0
 * @category models
 */
export interface Executor extends Commands.Commands {
  /**
   * Any command, with text in its reply. Arguments are sent as they are: put keys through `key` where the prefix
   * matters. It is never sent twice.
   *
   * On a Cluster it goes to the node that has its keys. One without keys (`DBSIZE`, `CLIENT LIST`, `SCRIPT FLUSH`, …)
   * goes to one of the masters, and tells or does what concerns that one.
   */
  readonly send: (command: string, ...args: ReadonlyArray<RedisArg>) => Effect.Effect<Reply, RedisError>
  /** Any command, with bytes in its reply. */
  readonly sendBytes: (command: string, ...args: ReadonlyArray<RedisArg>) => Effect.Effect<BytesReply, RedisError>
  /**
   * Many commands in one write; replies in their order. An error reply to one of them does not touch the others. When
   * the connection breaks underway the whole pipeline fails with `RedisOutcomeUnknownError`.
   *
   * On a Cluster it is one write to each node, and the order holds for the commands of one slot. When one node fails the
   * whole pipeline fails, with `RedisOutcomeUnknownError` if anything of it may have been executed.
   *
   * When the server has lost its scripts, script calls of the pipeline run again after the other commands.
   */
  readonly pipeline: (
    commands: ReadonlyArray<Command>
  ) => Effect.Effect<ReadonlyArray<Either.Either<Reply, RedisReplyError>>, RedisError>
  /**
   * A script, by its SHA. A server that does not know it is sent the text, so flushed script caches, failovers and
   * restarts are not visible. Keys get the key prefix.
   */
  readonly eval: <P extends ReadonlyArray<any>, A>(
    script: RedisScript.RedisScript<P, A>,
    ...params: P
  ) => Effect.Effect<A, RedisError>
}

/**
 * A connection of one's own, for commands that block and for `WATCH`. It is closed with its scope.
 *
 * @since 0.1.0
 * @category models
 */
export interface Connection extends Executor, Commands.BlockingCommands {
  /** The id that `CLIENT LIST` shows. */
  readonly id: number
  /** As `RedisClient.transaction`, but `None` when a watched key was changed. */
  readonly transaction: (
    commands: ReadonlyArray<Command>
  ) => Effect.Effect<Option.Option<ReadonlyArray<Either.Either<Reply, RedisReplyError>>>, RedisError>
  /** Makes the next `transaction` depend on these keys staying as they are. */
  readonly watch: (...keys: ReadonlyArray<string>) => Effect.Effect<void, RedisError>
  /** Forgets the watched keys. */
  readonly unwatch: Effect.Effect<void, RedisError>
  /**
   * A command that waits on the server, with text in its reply. Interrupting it unblocks the connection, waits for the
   * reply, and gives what arrived meanwhile to `handBack`, so that nothing is lost. It gets bytes, because an element
   * that is no UTF-8 would not go back as it was.
   */
  readonly sendBlocking: (
    command: string,
    args: ReadonlyArray<RedisArg>,
    handBack: (reply: BytesReply) => Effect.Effect<unknown, RedisError>
  ) => Effect.Effect<Reply, RedisError>
}

/**
 * @since 0.1.0
 * @category models
 */
export interface Service extends Executor {
  /**
   * Commands that run without another client's commands between them (`MULTI` … `EXEC`). All keys must be in one slot
   * when the server is a Cluster; else nothing is sent, and it fails with a `RedisReplyError` of the code `CROSSSLOT`. A
   * reply that is an error does not undo the others.
   */
  readonly transaction: (
    commands: ReadonlyArray<Command>
  ) => Effect.Effect<ReadonlyArray<Either.Either<Reply, RedisReplyError>>, RedisError>
  /**
   * Subscribes, and is ready when the server has confirmed. All subscriptions of a client share one connection, and those
   * to shard channels another one. After a lost connection they are made again, and each subscriber gets one `Gap`. The
   * scope ends the subscription.
   *
   * On a Cluster, shard channels have a connection to each master that has some. A slot that goes to another master takes
   * its channels along: that too is a `Gap`.
   */
  readonly subscribe: (
    subscription: Subscription
  ) => Effect.Effect<Queue.Dequeue<Message | Gap>, RedisError, Scope.Scope>
  /**
   * As `subscribe`, for capabilities that keep what waits by themselves.
   *
   * @internal
   */
  readonly [Listen]: (
    subscription: Subscription,
    listener: Subscriptions.Listener
  ) => Effect.Effect<void, RedisError, Scope.Scope>
  /**
   * Which keys under these prefixes change, whoever changes them: what a copy of them in this process needs
   * (`CLIENT TRACKING` in broadcasting mode). An empty prefix is every key of this client.
   *
   * `Armed` comes once it is proved to work, and from then on every change is reported, also those by this client. `Down`
   * says that it does not any more: at once when the connection is closed, and within one command timeout whatever else
   * happens. It is made again by itself, and the next `Armed` says so. Before the first `Armed` and from `Down` to
   * `Armed` nothing is promised. A command that changes nothing is not reported, and a change can be reported twice.
   *
   * A stream that is read too slowly gets `InvalidatedAll` in place of what it has not read, once that is more than
   * `capacity` keys (10,000 by default).
   *
   * A server that refuses it (a proxy, or an ACL) makes a stream that was never armed fail with its `RedisReplyError`.
   * When the client is closed the stream says `Down` and ends.
   */
  readonly invalidations: (
    prefixes: ReadonlyArray<string>,
    options?: { readonly capacity?: number | undefined }
  ) => Stream.Stream<Invalidation, RedisError>
  /**
   * A connection of one's own, closed with the scope. When the server is a Cluster it is one to the node of `key`, or to
   * any master, and stays there: commands with keys of other nodes fail with a `RedisReplyError` of the code `MOVED`.
   */
  readonly reserve: (
    options?: { readonly key?: string | undefined }
  ) => Effect.Effect<Connection, RedisError, Scope.Scope>
  /**
   * The keys that match, without prefix, by `SCAN`: a key can come more than once, and blocks nobody. On a Cluster it
   * goes from master to master, and fails when the one that it is at stops being one. Keys of a slot that changes its
   * master meanwhile can come twice or not at all.
   */
  readonly scan: (options?: ScanOptions) => Stream.Stream<string, RedisError>
  /** Removes the keys that match a glob, step by step, and returns how many there were. */
  readonly unlinkMatching: (pattern: string) => Effect.Effect<number, RedisError>
  /**
   * One check with a deadline of its own (the command timeout). It never fails: a failure is its result. A Cluster is
   * healthy when every slot is served and every master answers; `server` is then one of the masters.
   */
  readonly health: Effect.Effect<Health>
  /** A check at once, and then again `every` so often; checks never overlap. */
  readonly healthChanges: (every: Duration.DurationInput) => Stream.Stream<Health, RedisError>
  /**
   * The present state first, and then every change. A Cluster is connected when its map is known and no connection to a
   * master is lost; masters that nobody has talked to yet count as well.
   */
  readonly state: Stream.Stream<ConnectionState>
  /** What the client talks to. On a Cluster the keys of one command or script must be in one slot. */
  readonly mode: "standalone" | "sentinel" | "cluster"
  /** Its address without user and password, for messages. */
  readonly target: string
  /** The name with the client's prefix, for `send`. */
  readonly key: (name: string) => string
  /** The hash slot (0 to 16383) of a name, with the client's prefix. */
  readonly slot: (name: string) => number
}

/**
 * @since 0.1.0
 * @category tags
 */
export class RedisClient extends Context.Tag("effect-redis-kit/RedisClient")<RedisClient, Service>() {}

// ---------------------------------------------------------------------------------------------------------------------
// Driver
// ---------------------------------------------------------------------------------------------------------------------

/**
 * A command as a driver gets it. `onReply` and `onError` make the result, so that a driver needs one step for the whole.
 *
 * @since 0.1.0
 * @category drivers
 */
export interface IssuedCommand<out A> {
  readonly name: string
  readonly args: ReadonlyArray<RedisArg>
  readonly encoding: Encoding
  /** In milliseconds from the moment it is issued. */
  readonly timeout: number
  onReply(reply: any): Effect.Effect<A, RedisError>
  /** `elapsed` is how much of the timeout the failure took. */
  onError(error: RedisError, elapsed: number): Effect.Effect<A, RedisError>
}

/**
 * Sends one command.
 *
 * An error reply is a `RedisReplyError`; no reply after it was sent is a `RedisOutcomeUnknownError`; not sent is a
 * `RedisConnectionError`. Interrupting it returns at once.
 *
 * @since 0.1.0
 * @category drivers
 */
export type Issue = <A>(command: IssuedCommand<A>) => Effect.Effect<A, RedisError>

/**
 * @since 0.1.0
 * @category drivers
 */
export interface DriverExecutor {
  readonly issue: Issue
  /** Replies in order; error replies are values. */
  readonly pipeline: (
    commands: ReadonlyArray<ReadonlyArray<RedisArg>>,
    timeout: number
  ) => Effect.Effect<ReadonlyArray<Reply>, RedisError>
  /** The replies of `EXEC`; `null` when a watched key was changed. */
  readonly transaction: (
    commands: ReadonlyArray<ReadonlyArray<RedisArg>>,
    timeout: number
  ) => Effect.Effect<ReadonlyArray<Reply> | null, RedisError>
}

/**
 * @since 0.1.0
 * @category drivers
 */
export interface DriverConnection extends DriverExecutor {
  readonly id: number
  /**
   * Sends a command that waits on the server, and calls back once: with a reply whose strings are bytes, or with an
   * error when the connection broke. It has no deadline of its own.
   */
  readonly block: (
    command: string,
    args: ReadonlyArray<RedisArg>,
    callback: (result: Either.Either<BytesReply, RedisError>) => void
  ) => void
  /** Ends the wait of `block`, whose callback is then called soon. */
  readonly unblock: Effect.Effect<void>
}

/**
 * @since 0.1.0
 * @category drivers
 */
export type SubscriptionKind = "channel" | "pattern" | "shard"

/**
 * The raw side of subscriptions: names with prefix, no counting and no restoring. It is one connection for channels and
 * patterns, and one for shard channels, on a Cluster for each master that has some.
 *
 * @since 0.1.0
 * @category drivers
 */
export interface DriverSubscriber {
  /** Done when the server has confirmed every name. */
  readonly subscribe: (kind: SubscriptionKind, names: ReadonlyArray<string>) => Effect.Effect<void, RedisError>
  readonly unsubscribe: (kind: SubscriptionKind, names: ReadonlyArray<string>) => Effect.Effect<void, RedisError>
  /**
   * `onDown` when a connection is lost, `onUp` when its subscriptions can be made again on another one. `concerns` says
   * which these are, and is left out when they are all. `name` of a message is the pattern or the channel that was
   * subscribed to.
   */
  readonly listen: (listener: {
    readonly onMessage: (kind: SubscriptionKind, name: string, channel: string, bytes: Uint8Array) => void
    readonly onDown: (concerns?: (kind: SubscriptionKind, name: string) => boolean) => void
    readonly onUp: (concerns?: (kind: SubscriptionKind, name: string) => boolean) => void
  }) => void
}

/**
 * A server that holds keys and can say which of them change.
 *
 * @since 0.1.0
 * @category drivers
 */
export interface TrackedServer {
  /** Stays the same as long as it is the same server. */
  readonly id: string
  /** The client's own commands to this server. */
  readonly executor: DriverExecutor
  /** Whether it serves a hash slot; left out when it serves them all. */
  readonly owns?: ((slot: number) => boolean) | undefined
  /**
   * One more connection, closed with the scope; what comes back sends a command on it. `onKeys` gets what arrives on the
   * channel `__redis__:invalidate` once that is subscribed to, `null` for every key. `onDown` comes when the connection
   * is lost; it is not made again.
   */
  readonly connect: (listener: {
    readonly onKeys: (keys: ReadonlyArray<string> | null) => void
    readonly onDown: () => void
  }) => Effect.Effect<
    (command: string, ...args: ReadonlyArray<string>) => Effect.Effect<Reply, RedisError>,
    RedisError,
    Scope.Scope
  >
}

/**
 * The raw side of invalidations: which servers there are. How they are made to tell, the proof that they do, and making
 * connections again are not its business.
 *
 * @since 0.1.0
 * @category drivers
 */
export interface DriverTracker {
  /** Those that are known at this moment: one, or every master of a Cluster. */
  readonly servers: () => ReadonlyArray<TrackedServer>
  /** Calls back when they have become others; returns how to stop that. */
  readonly onChange: (listener: () => void) => () => void
  /** Looks again who they are, where nobody tells that. It is called with every heartbeat. */
  readonly refresh?: (() => void) | undefined
}

/**
 * What a server behind `RedisClient` must be able to do.
 *
 * @since 0.1.0
 * @category drivers
 */
export interface Driver extends DriverExecutor {
  readonly mode: Service["mode"]
  /** For messages: the address without secrets. */
  readonly target: string
  readonly keyPrefix: string
  /** In milliseconds. */
  readonly commandTimeout: number
  readonly retry?: Schedule.Schedule<unknown, unknown> | undefined
  readonly state: Stream.Stream<ConnectionState>
  readonly subscriber: DriverSubscriber
  readonly tracker: DriverTracker
  readonly reserve: (key: string | undefined) => Effect.Effect<DriverConnection, RedisError, Scope.Scope>
  /** The nodes that hold keys: one, or every master of a Cluster. */
  readonly masters: Effect.Effect<ReadonlyArray<DriverExecutor>, RedisError>
  /** What health means beyond an answer to `INFO`: on a Cluster, that every slot is served and every master answers. */
  readonly check?: Effect.Effect<void, RedisError> | undefined
}

// ---------------------------------------------------------------------------------------------------------------------
// Constructors
// ---------------------------------------------------------------------------------------------------------------------

const formatNumber = (arg: number): string => arg === Infinity ? "inf" : arg === -Infinity ? "-inf" : String(arg)

const checkArg = (command: string, i: number, arg: RedisArg): RedisError | undefined =>
  typeof arg === "string" || arg instanceof Uint8Array || (typeof arg === "number" && !Number.isNaN(arg))
    ? undefined
    : inputError(command, `argument ${i + 1}`, "a text, a number or bytes", arg)

const formatArgs = (command: string, args: ReadonlyArray<RedisArg>): ReadonlyArray<RedisArg> | RedisError => {
  let formatted: Array<RedisArg> | undefined
  for (let i = 0; i < args.length; i++) {
    const arg = args[i]!
    const bad = checkArg(command, i, arg)
    if (bad !== undefined) return bad
    if (typeof arg === "number") (formatted ??= args.slice())[i] = formatNumber(arg)
  }
  return formatted ?? args
}

const isError = (args: ReadonlyArray<RedisArg> | RedisError): args is RedisError => !Array.isArray(args)

const evalArgs = (
  prefix: string,
  operation: string,
  body: string,
  params: RedisScript.Params
): ReadonlyArray<RedisArg> | RedisError => {
  const keys = params.keys
  const args = new Array<RedisArg>(2 + keys.length + params.args.length)
  args[0] = body
  args[1] = String(keys.length)
  const prefixed = prefixedKeys(keys, prefix)
  for (let i = 0; i < keys.length; i++) {
    if (prefixed !== undefined) {
      args[2 + i] = prefixed[i]!
    } else {
      const bad = checkKey(operation, keys[i]!)
      if (bad !== undefined) return bad
      args[2 + i] = prefix + keys[i]!
    }
  }
  for (let i = 0, at = 2 + keys.length; i < params.args.length; i++, at++) {
    const arg = params.args[i]!
    const bad = checkArg(operation, at, arg)
    if (bad !== undefined) return bad
    args[at] = typeof arg === "number" ? formatNumber(arg) : arg
  }
  return args
}

const toEither = (reply: Reply): Either.Either<Reply, RedisReplyError> =>
  reply instanceof RedisReplyError ? Either.left(reply) : Either.right(reply)

/** The parts of a driver that the two kinds of executor need. */
interface Waist {
  readonly target: string
  readonly prefix: string
  readonly timeout: number
  readonly retry: Schedule.Schedule<unknown, unknown>
}

/** What the rest of this module needs of an executor beyond what its users see. */
interface Internals {
  readonly run: Commands.Run
  readonly raw: (commands: ReadonlyArray<Command>, body: "sha" | "lua") => RawCommands | RedisError
}

type RawCommands = ReadonlyArray<ReadonlyArray<RedisArg>>

const isRaw = (commands: RawCommands | RedisError): commands is RawCommands => Array.isArray(commands)

const makeExecutor = (
  waist: Waist,
  driver: DriverExecutor,
  nodes?: Commands.Nodes
): readonly [Executor, Internals] => {
  const { prefix, retry, target, timeout } = waist
  const { issue } = driver
  const issuer: Issuer = { issue, target, timeout, retry }

  const run: Commands.Run = (command, args, onReply, options) => {
    const formatted = formatArgs(command, args)
    if (isError(formatted)) return Effect.fail(formatted)
    const encoding = options?.encoding ?? "text"
    return issue(
      options?.idempotent === undefined
        ? new Once(command, formatted, encoding, timeout, onReply)
        : new Repeated(issuer, command, formatted, encoding, options.idempotent === "read", onReply)
    )
  }

  const evaluate = <P extends ReadonlyArray<any>, A>(
    script: RedisScript.RedisScript<P, A>,
    ...params: P
  ): Effect.Effect<A, RedisError> => {
    const args = evalArgs(prefix, script.name, script.sha, script.params(...params))
    return isError(args) ? Effect.fail(args) : issue(new Evaluated(issuer, script, args, timeout, undefined))
  }

  const raw: Internals["raw"] = (commands, body) => {
    const out: Array<ReadonlyArray<RedisArg>> = []
    for (const command of commands) {
      if (RedisScript.isCall(command)) {
        const args = evalArgs(prefix, command.script.name, command.script[body], command.params)
        if (isError(args)) return args
        out.push([body === "sha" ? "EVALSHA" : "EVAL", ...args])
      } else {
        const [name, ...rest] = command
        const args = formatArgs(name, rest)
        if (isError(args)) return args
        out.push([name, ...args])
      }
    }
    return out
  }

  const pipeline = (
    commands: ReadonlyArray<Command>
  ): Effect.Effect<ReadonlyArray<Either.Either<Reply, RedisReplyError>>, RedisError> => {
    if (commands.length === 0) return Effect.succeed([])
    const first = raw(commands, "sha")
    if (!isRaw(first)) return Effect.fail(first)
    return Effect.flatMap(driver.pipeline(first, timeout), (replies) => {
      const missing: Array<number> = []
      replies.forEach((reply, i) => {
        if (reply instanceof RedisReplyError && reply.code === "NOSCRIPT" && RedisScript.isCall(commands[i]!)) {
          missing.push(i)
        }
      })
      if (missing.length === 0) return Effect.succeed(replies.map(toEither))
      const again = raw(missing.map((i) => commands[i]!), "lua")
      if (!isRaw(again)) return Effect.fail(again)
      return Effect.map(driver.pipeline(again, timeout), (second) => {
        const merged = replies.slice()
        missing.forEach((i, n) => merged[i] = second[n]!)
        return merged.map(toEither)
      })
    })
  }

  const executor: Executor = {
    ...Commands.make(run, prefix, nodes),
    send: (command, ...args) => run(command, args, Effect.succeed),
    sendBytes: (command, ...args) => run(command, args, Effect.succeed, { encoding: "bytes" }),
    pipeline,
    eval: evaluate
  }
  return [executor, { run, raw }]
}

const isReplies = (reply: BytesReply): reply is ReadonlyArray<BytesReply> => Array.isArray(reply)

const toText = (reply: BytesReply): Reply =>
  reply instanceof Uint8Array ? decoder.decode(reply) : isReplies(reply) ? reply.map(toText) : reply

/** Whatever ends the wait, a reply that arrived is never dropped. */
const makeBlocking = (driver: DriverConnection): Connection["sendBlocking"] => (command, args, handBack) => {
  const formatted = formatArgs(command, args)
  if (isError(formatted)) return Effect.fail(formatted)
  return Effect.uninterruptibleMask((restore) =>
    restore(Effect.async<Reply, RedisError>((resume) => {
      let result: Either.Either<BytesReply, RedisError> | undefined
      let waiting: (() => void) | undefined
      driver.block(command, formatted, (settled) => {
        result = settled
        resume(Either.map(settled, toText))
        waiting?.()
      })
      const settled = Effect.async<void>((resume) => {
        if (result !== undefined) resume(Effect.void)
        else waiting = () => resume(Effect.void)
      })
      return Effect.suspend(() => result === undefined ? Effect.zipRight(driver.unblock, settled) : Effect.void).pipe(
        Effect.zipRight(Effect.suspend(() =>
          result !== undefined && Either.isRight(result) && result.right !== null
            ? handBack(result.right)
            : Effect.void
        )),
        Effect.catchAll((error) =>
          Effect.logError("a blocking command was interrupted and its element could not be handed back", error)
        )
      )
    }))
  )
}

/**
 * A `RedisClient` over a driver. The scope ends its subscriptions; the driver belongs to whoever made it.
 *
 * @since 0.1.0
 * @category constructors
 */
export const make = (driver: Driver): Effect.Effect<Service, never, Scope.Scope> =>
  Effect.gen(function*() {
    const prefix = driver.keyPrefix
    const waist: Waist = {
      target: driver.target,
      prefix,
      timeout: driver.commandTimeout,
      retry: driver.retry ?? defaultRetry
    }
    const runOf = (master: DriverExecutor) => makeExecutor(waist, master)[1].run
    const [executor, { raw }] = makeExecutor(
      waist,
      driver,
      driver.mode !== "cluster" ? undefined : {
        slot: hashSlot,
        masters: Effect.map(driver.masters, (masters) => masters.map(runOf)),
        partial: (command) => new RedisOutcomeUnknownError({ target: waist.target, command, reason: "partial" })
      }
    )
    const globPrefix = Commands.escapeGlob(prefix)
    const subscriptions = yield* Subscriptions.make(
      driver.subscriber,
      waist.retry,
      (kind, name, channel, bytes) =>
        new Message({
          channel: channel.slice(prefix.length),
          pattern: kind === "pattern" ? Option.some(name.slice(globPrefix.length)) : Option.none(),
          bytes
        })
    )

    const tracking = yield* Invalidations.make({
      tracker: driver.tracker,
      target: waist.target,
      keyPrefix: prefix,
      id: (yield* Random.nextIntBetween(2 ** 31, 2 ** 48)).toString(36),
      timeout: waist.timeout,
      elements: {
        armed: new Armed(),
        down: new Down(),
        all: new InvalidatedAll(),
        keys: (keys) => new Invalidated({ keys })
      }
    })

    const invalidations: Service["invalidations"] = (prefixes, options) => {
      const capacity = options?.capacity ?? 10_000
      const refused = (field: string, expected: string, actual: unknown) =>
        Stream.fail(inputError("invalidations", field, expected, actual))
      if (!Number.isSafeInteger(capacity) || capacity < 1) {
        return refused("capacity", "a whole number of one or more", capacity)
      }
      if (prefixes.length === 0) return refused("prefixes", "at least one prefix", "none")
      for (const each of prefixes) if (typeof each !== "string") return refused("prefixes", "strings", each)
      return tracking.stream(prefixes.map((each) => prefix + each), capacity)
    }

    const checkNames = (
      names: ReadonlyArray<string>,
      field: string
    ): Effect.Effect<ReadonlyArray<string>, RedisError> => {
      if (names.length === 0) return Effect.fail(inputError("subscribe", field, "at least one name", "none"))
      for (const name of names) {
        const bad = checkKey("subscribe", name, field)
        if (bad !== undefined) return Effect.fail(bad)
      }
      return Effect.succeed(names)
    }

    const listen: Service[typeof Listen] = (subscription, listener) => {
      const [kind, field, names, before] = "channels" in subscription
        ? ["channel", "channels", subscription.channels, prefix] as const
        : "patterns" in subscription
        ? ["pattern", "patterns", subscription.patterns, globPrefix] as const
        : ["shard", "shardChannels", subscription.shardChannels, prefix] as const
      return Effect.flatMap(
        checkNames(names, field),
        (names) => subscriptions.listen(kind, names.map((name) => before + name), listener)
      )
    }

    const subscribe: Service["subscribe"] = (subscription) => {
      const capacity = subscription.capacity ?? 1024
      if (!Number.isSafeInteger(capacity) || capacity < 1) {
        return Effect.fail(inputError("subscribe", "capacity", "a whole number of one or more", capacity))
      }
      return Effect.flatMap(
        Subscriptions.queued(capacity, (reason) => new Gap({ reason })),
        ([queue, listener]) => Effect.as(listen(subscription, listener), queue)
      )
    }

    const reserve: Service["reserve"] = (options) =>
      Effect.map(
        driver.reserve(options?.key === undefined ? undefined : prefix + options.key),
        (connection): Connection => {
          const [own, { run }] = makeExecutor(waist, connection)
          const sendBlocking = makeBlocking(connection)
          return {
            ...own,
            ...Commands.makeBlocking(sendBlocking, own, prefix),
            id: connection.id,
            sendBlocking,
            transaction: (commands) =>
              commands.length === 0
                ? Effect.succeedSome([])
                : Effect.map(
                  transact(connection, commands),
                  Option.map((replies) => replies.map(toEither))
                ),
            watch: (...keys) => run("WATCH", keys.map((key) => prefix + key), Commands.asVoid("WATCH")),
            unwatch: run("UNWATCH", [], Commands.asVoid("UNWATCH"))
          }
        }
      )

    const transact = (
      connection: DriverExecutor,
      commands: ReadonlyArray<Command>
    ): Effect.Effect<Option.Option<ReadonlyArray<Reply>>, RedisError> => {
      // A script that the server does not know must not be found out in the middle of a transaction.
      const formatted = raw(commands, "lua")
      return isRaw(formatted)
        ? Effect.map(connection.transaction(formatted, waist.timeout), Option.fromNullable)
        : Effect.fail(formatted)
    }

    const scan: Service["scan"] = (options) => {
      const count = options?.count ?? 1000
      if (!Number.isSafeInteger(count) || count < 1) {
        return Stream.fail(inputError("scan", "count", "a whole number of one or more", count))
      }
      const args = ["MATCH", Commands.escapeGlob(prefix) + (options?.match ?? "*"), "COUNT", count]
      if (options?.type !== undefined) args.push("TYPE", options.type)
      return Stream.fromIterableEffect(driver.masters).pipe(
        Stream.flatMap((master) => Commands.scanWith(runOf(master), "SCAN", [], args)),
        Stream.map((key) => key.slice(prefix.length))
      )
    }

    const unlinkMatching: Service["unlinkMatching"] = (pattern) => {
      const bad = checkKey("unlinkMatching", pattern, "pattern")
      if (bad !== undefined) return Effect.fail(bad)
      return scan({ match: pattern }).pipe(
        Stream.grouped(500),
        Stream.mapEffect((keys) =>
          Effect.flatMap(
            executor.pipeline(Array.from(keys, (key) => ["UNLINK", prefix + key] as const)),
            (replies) => Either.map(Either.all(replies), (counts) => counts.reduce<number>((n, m) => n + Number(m), 0))
          )
        ),
        Stream.runSum
      )
    }

    const ask = (command: string) =>
      driver.issue(new Once(command, [], "text", waist.timeout, (reply) => Effect.succeed(String(reply))))

    // A server that is loading, or has lost its master, answers INFO and nothing else; PING tells.
    const health: Service["health"] = Effect.flatMap(Clock.currentTimeNanos, (start) =>
      Effect.zipLeft(ask("INFO"), ask("PING"), { concurrent: true }).pipe(
        (info) =>
          driver.check === undefined ? info : Effect.zipLeft(info, driver.check, { concurrent: true }),
        Effect.either,
        Effect.zipWith(Clock.currentTimeNanos, (result, end): Health => {
          const responseTime = Duration.nanos(end - start)
          if (Either.isLeft(result)) {
            return { healthy: false, responseTime, server: Option.none(), error: Option.some(result.left) }
          }
          const field = (name: string) => new RegExp(`^${name}:(.*?)\r?$`, "m").exec(result.right)?.[1] ?? ""
          return {
            healthy: true,
            responseTime,
            server: Option.some({
              version: field("valkey_version") || field("redis_version"),
              mode: field("redis_mode") || field("server_mode"),
              connectedClients: Number(field("connected_clients")),
              usedMemoryHuman: field("used_memory_human")
            }),
            error: Option.none()
          }
        })
      ))

    return {
      ...executor,
      transaction: (commands) =>
        commands.length === 0
          ? Effect.succeed([])
          : Effect.map(transact(driver, commands), (replies) =>
            Option.getOrElse(replies, () => []).map(toEither)),
      subscribe,
      [Listen]: listen,
      invalidations,
      reserve,
      scan,
      unlinkMatching,
      health,
      healthChanges: (every) => {
        const millis = positiveMillis("healthChanges", "every", every)
        return Either.isLeft(millis)
          ? Stream.fail(millis.left)
          : Stream.repeatEffectWithSchedule(health, Schedule.spaced(millis.right))
      },
      state: driver.state,
      mode: driver.mode,
      target: driver.target,
      key: (name) => prefix + name,
      slot: (name) => hashSlot(prefix + name)
    }
  })
