/**
 * The in-memory server: an engine, the connections to it, and what can be made to go wrong with them.
 */
import type * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Runtime from "effect/Runtime"
import type * as Scope from "effect/Scope"
import { type CommandName, makeNames, refuseBlocking } from "../internal/commandNames.js"
import { makeState } from "../internal/connectionState.js"
import { inputError } from "../internal/input.js"
import { Once } from "../internal/issued.js"
import * as Metrics from "../internal/metrics.js"
import { execReplies, replyError } from "../internal/replies.js"
import { SLOTS } from "../internal/slot.js"
import {
  type BytesReply,
  type Driver,
  type DriverConnection,
  type DriverExecutor,
  type DriverSubscriber,
  type DriverTracker,
  type Issue,
  type IssuedCommand,
  make as makeClient,
  type RedisArg,
  RedisClient,
  type Reply,
  type Service as ClientService,
  type TrackedServer
} from "../RedisClient.js"
import { type RedisError, type RedisInputError, RedisReplyError } from "../RedisError.js"
import { type ClientOptions, type Contents, type Options, RedisTestServer, type Service } from "../RedisTestServer.js"
import { Deque } from "./collections.js"
import type { Argv } from "./command.js"
import { BLOCKED, Engine } from "./Engine.js"
import { Faults } from "./faults.js"
import { Link, type LinkServer, Request, type Role, soon } from "./Link.js"
import { type EngineReply, ErrorReply, Status } from "./reply.js"
import { MAX_ID, Stream } from "./streams.js"
import { decodeBytes, decodeText, encodeBytes, encodeText } from "./text.js"
import { Members, sizeOf, SortedSet, typeOf, type Value } from "./values.js"

const TARGET = "memory"
/** What it holds survives every collection of young garbage: ten times as many cost a tenth of the speed. */
const JOURNAL = 1000
const COMMAND_TIMEOUT = 5000

const noLabels: [] = []

// ---------------------------------------------------------------------------------------------------------------------
// Arguments and replies
// ---------------------------------------------------------------------------------------------------------------------

const encodeArg = (arg: RedisArg): string =>
  typeof arg === "string" ? encodeText(arg) : typeof arg === "number" ? String(arg) : encodeBytes(arg)

const encodeArgv = (name: string, args: ReadonlyArray<RedisArg>, from: number): Array<string> => {
  const argv = new Array<string>(args.length - from + 1)
  argv[0] = name
  for (let i = from; i < args.length; i++) argv[i - from + 1] = encodeArg(args[i]!)
  return argv
}

const errorOf = (command: string, { text }: ErrorReply): RedisReplyError => replyError(command, decodeText(text))

const isReplies = (reply: EngineReply): reply is ReadonlyArray<EngineReply> => Array.isArray(reply)

const decodeReply = (command: string, reply: EngineReply): Reply => {
  if (typeof reply === "string") return decodeText(reply)
  if (reply === null || typeof reply === "number") return reply
  if (reply instanceof Status) return decodeText(reply.text)
  if (reply instanceof ErrorReply) return errorOf(command, reply)
  return reply.map((item) => decodeReply(command, item))
}

const decodeBytesReply = (command: string, reply: EngineReply): BytesReply => {
  if (typeof reply === "string") return decodeBytes(reply)
  if (reply instanceof Status) return decodeBytes(reply.text)
  if (isReplies(reply)) return reply.map((item) => decodeBytesReply(command, item))
  return reply instanceof ErrorReply ? errorOf(command, reply) : reply
}

const countReply = (): void => Metrics.commandsOk.unsafeUpdate(1, noLabels)

const countFailure = (error: RedisError): void => Metrics.commandsFailed[error._tag].unsafeUpdate(1, noLabels)

/** What a command comes to. */
const conclude = <A>(
  name: string,
  command: IssuedCommand<A>,
  reply: EngineReply,
  elapsed: number
): Effect.Effect<A, RedisError> => {
  if (reply instanceof ErrorReply) {
    const error = errorOf(name, reply)
    countFailure(error)
    return command.onError(error, elapsed)
  }
  countReply()
  try {
    return command.onReply(command.encoding === "text" ? decodeReply(name, reply) : decodeBytesReply(name, reply))
  } catch (defect) {
    return Exit.die(defect)
  }
}

// ---------------------------------------------------------------------------------------------------------------------
// Driver
// ---------------------------------------------------------------------------------------------------------------------

/** On its own, because a function within `issue` would remember all that is known there. */
const resumeWith = <A>(resume: (a: A) => void, result: A): void => soon(() => resume(result))

const makeExecutor = (link: Link, nameOf: (command: string) => CommandName): DriverExecutor => {
  const { server } = link
  const shared = link.role === "shared"

  // The command runs at once, and its fiber goes on a moment later, so that others get their turn at every command, as
  // with a server. Of the ways to do that, a microtask is the cheapest.
  const issue: Issue = (command) =>
    Effect.async((resume) => {
      const { name, refused } = nameOf(command.name)
      const bad = refused ?? (shared ? refuseBlocking(name, command.args) : undefined)
      if (bad !== undefined) return resume(command.onError(bad, 0))
      const argv = encodeArgv(name, command.args, 0)
      const { idle } = link
      const reply = idle ? link.execute(argv) : BLOCKED
      if (reply === BLOCKED) return wait(name, argv, command, idle, resume)
      resumeWith(resume, conclude(name, command, reply, 0))
    })

  /** A command that could not be answered at once. */
  const wait = <A>(
    name: string,
    argv: Argv,
    command: IssuedCommand<A>,
    executed: boolean,
    resume: (effect: Effect.Effect<A, RedisError>) => void
  ): Effect.Effect<void> => {
    const issuedAt = server.now()
    const request = new Request(
      name,
      [argv],
      command.timeout,
      issuedAt,
      ([reply = null]) => soon(() => resume(conclude(name, command, reply, server.now() - issuedAt))),
      (error, elapsed) => resume(command.onError(error, elapsed))
    )
    if (executed) link.submitBlocked(request)
    else link.submit(request)
    return Effect.sync(() => link.withdraw(request))
  }

  const group = <A>(
    label: string,
    commands: ReadonlyArray<ReadonlyArray<RedisArg>>,
    timeout: number,
    onReplies: (replies: ReadonlyArray<Reply>) => Effect.Effect<A, RedisError>
  ): Effect.Effect<A, RedisError> =>
    Effect.async((resume) => {
      const argvs: Array<Argv> = []
      for (const command of commands) {
        const { name, refused } = nameOf(String(command[0]))
        const bad = refused ?? (shared ? refuseBlocking(name, command) : undefined)
        if (bad !== undefined) return resume(Effect.fail(bad))
        argvs.push(encodeArgv(name, command, 1))
      }
      const all = label === "MULTI" ? [["MULTI"], ...argvs, ["EXEC"]] : argvs
      const request = new Request(
        label,
        all,
        timeout,
        server.now(),
        (replies) => {
          const decoded = replies.map((reply, i) => decodeReply(all[i]![0]!, reply))
          for (const reply of decoded) {
            if (reply instanceof RedisReplyError) countFailure(reply)
            else countReply()
          }
          soon(() => resume(onReplies(decoded)))
        },
        (error) => resume(Effect.fail(error))
      )
      link.submit(request)
      return Effect.sync(() => link.withdraw(request))
    })

  return {
    issue,
    pipeline: (commands, timeout) =>
      commands.length === 0 ? Effect.succeed([]) : group("PIPELINE", commands, timeout, Effect.succeed),
    transaction: (commands, timeout) =>
      group(
        "MULTI",
        commands,
        timeout,
        (replies) => execReplies(replies, (i) => nameOf(String(commands[i]![0])).name)
      )
  }
}

const makeReserved = (link: Link, id: number): DriverConnection => {
  const nameOf = makeNames(false)
  let blocked: Request | undefined
  return {
    ...makeExecutor(link, nameOf),
    id,
    block: (command, args, callback) => {
      const { name, refused } = nameOf(command)
      if (refused !== undefined) return callback(Either.left(refused))
      const done = (result: Either.Either<BytesReply, RedisError>): void => {
        if (blocked === request) blocked = undefined
        callback(result)
      }
      const request: Request = new Request(
        name,
        [encodeArgv(name, args, 0)],
        Infinity,
        link.server.now(),
        ([reply = null]) =>
          soon(() => {
            if (reply instanceof ErrorReply) {
              const error = errorOf(name, reply)
              countFailure(error)
              return done(Either.left(error))
            }
            countReply()
            done(Either.right(decodeBytesReply(name, reply)))
          }),
        (error) => done(Either.left(error))
      )
      blocked = request
      link.submit(request)
    },
    unblock: Effect.sync(() => {
      if (blocked !== undefined) link.unblock(blocked)
    })
  }
}

const verbs = {
  channel: ["SUBSCRIBE", "UNSUBSCRIBE"],
  pattern: ["PSUBSCRIBE", "PUNSUBSCRIBE"],
  shard: ["SSUBSCRIBE", "SUNSUBSCRIBE"]
} as const

/** For what the driver itself sends. */
const anyName = (name: string): CommandName => ({ name, refused: undefined })

const makeSubscriber = (open: () => Link, timeout: number): DriverSubscriber => {
  let link: Link | undefined
  let listener: Parameters<DriverSubscriber["listen"]>[0] | undefined

  const connect = (): Link => {
    if (link !== undefined) return link
    const made = link = open()
    made.onDown = () => listener?.onDown()
    made.onUp = (again) => {
      if (again) listener?.onUp()
    }
    made.onMessage = (kind, name, channel, payload) =>
      listener?.onMessage(kind, decodeText(name), decodeText(channel), decodeBytes(payload))
    return made
  }

  const send = (verb: string, names: ReadonlyArray<string>): Effect.Effect<void, RedisError> =>
    Effect.suspend(() =>
      makeExecutor(connect(), anyName).issue(new Once(verb, names, "text", timeout, () => Effect.void))
    )

  return {
    subscribe: (kind, names) => send(verbs[kind][0], names),
    unsubscribe: (kind, names) => send(verbs[kind][1], names),
    listen: (added) => {
      listener = added
    }
  }
}

const makeTracker = (options: {
  readonly executor: DriverExecutor
  readonly open: Effect.Effect<Link, RedisError>
  readonly close: (link: Link) => void
  readonly timeout: number
}): DriverTracker => {
  const { close, executor, open, timeout } = options
  const server: TrackedServer = {
    id: TARGET,
    executor,
    connect: ({ onDown, onKeys }) =>
      Effect.map(
        Effect.acquireRelease(open, (link) => Effect.sync(() => close(link))),
        (link) => {
          link.onDown = onDown
          link.onInvalidated = (keys) => onKeys(keys === null ? null : keys.map(decodeText))
          const { issue } = makeExecutor(link, anyName)
          return (command, ...args) =>
            issue(new Once<Reply>(command.toUpperCase(), args, "text", timeout, Effect.succeed))
        }
      )
  }
  return { servers: () => [server], onChange: () => () => {} }
}

// ---------------------------------------------------------------------------------------------------------------------
// Server
// ---------------------------------------------------------------------------------------------------------------------

export interface MemoryServer {
  readonly service: Service
  readonly connect: (options?: ClientOptions) => Effect.Effect<ClientService, never, Scope.Scope>
}

/** A ring: it must cost next to nothing when nobody looks at it. */
class Journal {
  private readonly clients: Array<number> = []
  private readonly commands: Array<Argv> = []
  private next = 0

  add(client: number, argv: Argv): void {
    this.clients[this.next] = client
    this.commands[this.next] = argv
    if (++this.next === JOURNAL) this.next = 0
  }

  entries(): Array<{ readonly client: number; readonly args: ReadonlyArray<string> }> {
    const all = this.commands.map((argv, i) => ({ client: this.clients[i]!, args: argv.map(decodeText) }))
    return all.length < JOURNAL ? all : [...all.slice(this.next), ...all.slice(0, this.next)]
  }
}

const pairs = (fields: ReadonlyArray<string>): Array<readonly [string, string]> => {
  const out: Array<readonly [string, string]> = []
  for (let i = 0; i + 1 < fields.length; i += 2) out.push([decodeText(fields[i]!), decodeText(fields[i + 1]!)])
  return out
}

const contentsOf = (value: Value): Contents => {
  if (typeof value === "string") return { _tag: "string", value: decodeText(value) }
  if (value instanceof Deque) return { _tag: "list", elements: value.slice(0, value.length).map(decodeText) }
  if (value instanceof Members) return { _tag: "set", members: Array.from(value.keys(), decodeText) }
  if (value instanceof SortedSet) {
    const members = value.ranking.slice(0, value.size).map(({ key, score }) => ({ member: decodeText(key), score }))
    return { _tag: "zset", members }
  }
  if (value instanceof Stream) {
    const entries = value.range(0n, MAX_ID, Infinity).map(({ fields, name }) => ({ id: name, fields: pairs(fields) }))
    return { _tag: "stream", entries }
  }
  const fields = Array.from(value.values(), (field) => [decodeText(field.key), decodeText(field.value)] as const)
  return { _tag: "hash", fields: Object.fromEntries(fields) }
}

const checkSlots = (cluster: boolean, first: number, last: number): RedisInputError | undefined => {
  if (!cluster) return inputError("moveSlots", "server", "made with cluster: true", "another one")
  for (const [field, slot] of [["first", first], ["last", last]] as const) {
    if (!Number.isInteger(slot) || slot < 0 || slot >= SLOTS) {
      return inputError("moveSlots", field, `a slot from 0 to ${SLOTS - 1}`, slot)
    }
  }
  return first <= last ? undefined : inputError("moveSlots", "last", `a slot of at least ${first}`, last)
}

/** A server that lives as long as the scope. */
export const make = (
  options: Pick<Options, "cluster" | "seed"> = {}
): Effect.Effect<MemoryServer, never, Scope.Scope> =>
  Effect.gen(function*() {
    const clock: Clock.Clock = yield* Effect.clock
    const runtime = yield* Effect.runtime<never>()
    const engine = new Engine({
      now: () => clock.unsafeCurrentTimeMillis(),
      micros: () => Number(clock.unsafeCurrentTimeNanos() / 1000n % 1000n),
      seed: options.seed,
      cluster: options.cluster
    })
    const links = new Set<Link>()
    const faults = new Faults(options.seed ?? 1)
    /** The outage that lasts; a later one takes its place. */
    let outage: (() => void) | undefined
    const journal = new Journal()

    const server: LinkServer = {
      engine,
      isDown: () => outage !== undefined,
      now: () => clock.unsafeCurrentTimeMillis(),
      after: (millis, run) => {
        const fiber = Runtime.runFork(runtime)(
          Effect.zipRight(clock.sleep(Duration.millis(Math.max(0, millis))), Effect.sync(run))
        )
        return () => fiber.unsafeInterruptAsFork(fiber.id())
      },
      record: (client, argv) => journal.add(client, argv),
      hasFaults: () => !faults.isEmpty,
      takeFault: (argv) => faults.isEmpty ? undefined : faults.take(argv)
    }

    const rise = (): void => {
      outage = undefined
      for (const link of Array.from(links)) link.rise()
    }

    yield* Effect.addFinalizer(() =>
      Effect.sync(() => {
        outage?.()
        for (const link of links) link.close()
        links.clear()
      })
    )

    const connect: MemoryServer["connect"] = (options = {}) =>
      Effect.gen(function*() {
        const state = makeState()
        const own = new Set<Link>()
        const open = (role: Role): Link => {
          const link = new Link(server, role, TARGET)
          links.add(link)
          own.add(link)
          return link
        }
        const close = (link: Link): void => {
          links.delete(link)
          own.delete(link)
          link.close()
        }
        const shared = yield* Effect.acquireRelease(
          Effect.sync(() => open("shared")),
          () => Effect.sync(() => [...own].forEach(close))
        )
        state.set("connecting", undefined)
        if (shared.session !== undefined) state.set("connected", undefined)
        shared.onState = state.set
        const commandTimeout = options.commandTimeout === undefined
          ? COMMAND_TIMEOUT
          : Duration.toMillis(options.commandTimeout)
        const executor = makeExecutor(shared, makeNames(true))
        const openReserved = Effect.suspend(() =>
          !own.has(shared)
            ? Effect.fail(shared.error("closed", "the client was closed"))
            : server.isDown()
            ? Effect.fail(shared.error("connect", "the server is down"))
            : Effect.succeed(open("reserved"))
        )
        const driver: Driver = {
          ...executor,
          mode: engine.cluster ? "cluster" : "standalone",
          target: TARGET,
          keyPrefix: options.keyPrefix ?? "",
          commandTimeout,
          state: state.changes,
          subscriber: makeSubscriber(() => open("subscriber"), commandTimeout),
          tracker: makeTracker({ executor, open: openReserved, close, timeout: commandTimeout }),
          reserve: () =>
            Effect.map(
              Effect.acquireRelease(openReserved, (link) => Effect.sync(() => close(link))),
              (link) => makeReserved(link, link.session?.id ?? 0)
            ),
          masters: Effect.sync(() => [driver])
        }
        return yield* makeClient(driver)
      })

    const service: Service = {
      client: connect,
      flush: Effect.sync(() => {
        engine.clear()
        engine.scripts.flush()
        engine.become("normal")
        engine.movedSlots = []
        faults.clear()
      }),
      keys: Effect.sync(() =>
        Array.from(engine.entries(), ({ expireAt, key, value }) => ({
          key: decodeText(key),
          type: typeOf(value),
          ttl: expireAt === Infinity ? -1 : expireAt - engine.now,
          size: sizeOf(value)
        }))
      ),
      journal: Effect.sync(() => journal.entries()),
      dump: (key) =>
        Effect.sync(() =>
          Option.map(Option.fromNullable(engine.entry(encodeText(key))), ({ value }) => contentsOf(value))
        ),
      inject: (fault) => Effect.suspend(() => faults.add(fault)),
      faults: Effect.sync(() => faults.list()),
      clearFaults: Effect.sync(() => faults.clear()),
      become: (condition) => Effect.sync(() => engine.become(condition)),
      moveSlots: (first, last, to = "127.0.0.1:6380") =>
        Effect.suspend(() => {
          const bad = checkSlots(engine.cluster, first, last)
          if (bad !== undefined) return Effect.fail(bad)
          engine.movedSlots = [...engine.movedSlots, { first, last, to }]
          return Effect.void
        }),
      disconnect: (options) =>
        Effect.sync(() => {
          outage?.()
          const downtime = options?.downtime === undefined ? 0 : Duration.toMillis(options.downtime)
          outage = () => {}
          for (const link of Array.from(links)) link.cut()
          if (downtime === 0) rise()
          else outage = server.after(downtime, rise)
        }),
      replicas: (count) => Effect.sync(() => void (engine.replicas = count)),
      subscriptions: Effect.sync(() =>
        [...engine.channels.channel.keys(), ...engine.channels.pattern.keys(), ...engine.channels.shard.keys()]
          .map(decodeText)
      ),
      connections: Effect.sync(() => engine.sessions.size)
    }
    return { service, connect }
  })

/** A server and one client of it. */
export const layerWith = (options: Options = {}): Layer.Layer<RedisClient | RedisTestServer> =>
  Layer.scopedContext(
    Effect.gen(function*() {
      const { connect, service } = yield* make(options)
      const client = yield* connect(options)
      return Context.make(RedisClient, client).pipe(Context.add(RedisTestServer, service))
    })
  )
