/**
 * A Redis server as a plain object: one keyspace, sessions, and `execute`, which runs a command to its end before it
 * returns. Nothing here waits: a blocking command that finds nothing returns `BLOCKED`, and whoever drives the engine
 * holds the timer.
 *
 * Time is asked for once for each command from outside, so that a script or a transaction sees one instant. Keys whose
 * time has come are removed before the command runs.
 */
import { INVALIDATE } from "../internal/invalidations.js"
import { hashSlot } from "../internal/slot.js"
import type { Condition } from "../RedisTestServer.js"
import { Deque, Heap, Indexed } from "./collections.js"
import { type Argv, type Command, wrongArguments } from "./command.js"
import { commandTable } from "./commands/table.js"
import { unsupportedCommands } from "./commands/unsupported.js"
import { OOM, refusal, UNBLOCKED } from "./condition.js"
import { Random } from "./random.js"
import { type EngineReply, ErrorReply, Status } from "./reply.js"
import { Scripts } from "./scripts.js"
import { Stream } from "./streams.js"
import { decodeText } from "./text.js"
import { CROSS_SLOT, Entry, Hash, Members, sizeOf, SortedSet, typeOf, type Value, WRONG_TYPE } from "./values.js"

/** A blocking command found nothing; its session's `onUnblocked` is called later. */
export const BLOCKED = new Status("BLOCKED")

const QUEUED = new Status("QUEUED")

export type ChannelKind = "channel" | "pattern" | "shard"

/** A blocking command that waits. */
export interface Blocked {
  readonly keys: ReadonlyArray<string>
  readonly type: "list" | "zset" | "stream"
  /** The instant at which it gives up; `Infinity` for never. */
  readonly deadline: number
  /** Tries again when a key got elements; without a reply it goes on waiting. */
  readonly serve: (key: string) => EngineReply | undefined
  readonly timeoutReply: EngineReply
  /** Where it ends the wait that a key is gone or holds something else. */
  readonly goneReply?: ErrorReply | undefined
}

/** `CLIENT TRACKING` in broadcasting mode: which keys, and who is told of them (0 for nobody). */
export interface Tracking {
  readonly prefixes: Set<string>
  redirect: number
}

/** A prefix that is tracked: by whom, and what was changed under it since they were last told. */
interface TrackedPrefix {
  readonly sessions: Set<Session>
  readonly changed: Set<string>
}

/** What the server knows of a connection. */
export class Session {
  name = ""
  /** The queue of a transaction. */
  transaction: Array<{ readonly command: Command; readonly argv: Argv }> | undefined
  transactionFailed = false
  readonly watched = new Set<string>()
  watchedChanged = false
  readonly subscriptions: Record<ChannelKind, Set<string>> = {
    channel: new Set(),
    pattern: new Set(),
    shard: new Set()
  }
  blocked: Blocked | undefined
  tracking: Tracking | undefined
  onUnblocked: (reply: EngineReply) => void = () => {}
  /** What it waits for may end at another instant than before: see `wakeAt`. */
  onWakeChanged: () => void = () => {}
  onMessage: (kind: ChannelKind, name: string, channel: string, payload: string) => void = () => {}
  /** Tracked keys were changed; all of them, when it is `null`. */
  onInvalidated: (keys: ReadonlyArray<string> | null) => void = () => {}
  onKilled: () => void = () => {}
  closed = false
  lastCommand = "NULL"
  constructor(readonly id: number, readonly address: string, readonly since: number) {}

  get subscriptionCount(): number {
    return this.subscriptions.channel.size + this.subscriptions.pattern.size
  }
}

export interface EngineOptions {
  /** Milliseconds of Effect's clock. */
  readonly now: () => number
  /** Microseconds within the present millisecond. */
  readonly micros?: (() => number) | undefined
  readonly seed?: number | undefined
  /** As a Cluster of one node: keys of one command must share a slot, and scripts may touch declared keys only. */
  readonly cluster?: boolean | undefined
}

export class Engine {
  readonly keys = new Indexed<Entry>()
  readonly random: Random
  readonly sessions = new Map<number, Session>()
  readonly channels: Record<ChannelKind, Map<string, Set<Session>>> = {
    channel: new Map(),
    pattern: new Map(),
    shard: new Map()
  }
  readonly scripts: Scripts
  readonly cluster: boolean
  readonly started: number
  /** Set while a script or a transaction runs: nothing may wait. */
  denyBlocking = false
  /** How many replicas acknowledge every write at once. */
  replicas = 0
  condition: Condition = "normal"
  /** Slots that another node has; of ranges that overlap, the last one counts. */
  movedSlots: ReadonlyArray<{ readonly first: number; readonly last: number; readonly to: string }> = []
  executed = 0

  private instant: number
  /** The clock was not read since the command began: most commands need no time. */
  private stale = false
  private readonly readNow: () => number
  private readonly readMicros: () => number
  private lastMicros = 0
  private readonly expirations = new Heap<Entry>()
  private expiring = 0
  private readonly watchers = new Map<string, Set<Session>>()
  private readonly waiters = new Map<string, Set<Session>>()
  private readonly ready = new Set<string>()
  private readonly tracked = new Map<string, TrackedPrefix>()
  private nextSession = 1

  constructor(options: EngineOptions) {
    this.readNow = options.now
    this.readMicros = options.micros ?? (() => 0)
    this.random = new Random(options.seed ?? 1)
    this.cluster = options.cluster ?? false
    this.instant = this.started = Math.floor(options.now())
    this.scripts = new Scripts(this)
  }

  // -------------------------------------------------------------------------------------------------------------------
  // Sessions
  // -------------------------------------------------------------------------------------------------------------------

  connect(): Session {
    this.tick()
    const id = this.nextSession++
    const session = new Session(id, `memory:${id}`, this.now)
    this.sessions.set(id, session)
    return session
  }

  close(session: Session): void {
    if (session.closed) return
    session.closed = true
    this.unblock(session)
    this.unwatch(session)
    this.untrack(session)
    session.transaction = undefined
    for (const kind of ["channel", "pattern", "shard"] as const) {
      for (const name of session.subscriptions[kind]) this.unsubscribe(session, kind, name)
    }
    this.sessions.delete(session.id)
  }

  // -------------------------------------------------------------------------------------------------------------------
  // Commands
  // -------------------------------------------------------------------------------------------------------------------

  /** Runs a command that came over a connection. */
  execute(session: Session, argv: Argv): EngineReply {
    this.tick()
    this.executed++
    const found = this.find(argv)
    if (found instanceof ErrorReply) {
      if (session.transaction !== undefined) session.transactionFailed = true
      return found
    }
    session.lastCommand = found.name
    if (!found.pubsub && session.subscriptionCount > 0) {
      return new ErrorReply(
        `ERR Can't execute '${found.name}': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / RESET ` +
          "are allowed in this context"
      )
    }
    if (this.cluster) {
      const error = this.checkSlots(session, found, argv)
      if (error !== undefined) return error
    }
    if (this.condition !== "normal") {
      const error = this.checkCondition(session, found)
      if (error !== undefined) return error
    }
    if (session.transaction !== undefined && !found.unqueued) {
      session.transaction.push({ command: found, argv })
      return QUEUED
    }
    const reply = this.call(session, found, argv)
    this.afterCommand()
    return reply
  }

  private afterCommand(): void {
    if (this.ready.size > 0) this.serveWaiters()
    if (this.tracked.size > 0) this.tellTrackers()
  }

  /** Runs a command of a script or a transaction, in the instant of the whole. */
  call(session: Session, command: Command, argv: Argv): EngineReply {
    try {
      return command.run(this, argv, session)
    } catch (error) {
      if (error instanceof ErrorReply) return error
      throw error
    }
  }

  find(argv: Argv): Command | ErrorReply {
    const name = argv[0]!
    const command = commandTable.get(name) ?? commandTable.get(name.toUpperCase())
    if (command === undefined) {
      return unsupportedCommands.has(name.toUpperCase())
        ? new ErrorReply(`ERR command '${name.toUpperCase()}' is not supported by the in-memory server`)
        : unknownCommand(argv)
    }
    if (command.subcommands !== undefined && argv.length > 1) {
      const sub = argv[1]!.toUpperCase()
      const subcommand = command.subcommands.get(sub)
      if (subcommand !== undefined) {
        return subcommand.accepts(argv.length) ? subcommand : wrongArguments(subcommand.name)
      }
      const full = `${name.toUpperCase()} ${sub}`
      return new ErrorReply(
        unsupportedCommands.has(full)
          ? `ERR command '${full}' is not supported by the in-memory server`
          : `ERR unknown subcommand '${argv[1]!.slice(0, 128)}'. Try ${name.toUpperCase()} HELP.`
      )
    }
    return command.accepts(argv.length) ? command : wrongArguments(command.name)
  }

  /** The present instant; keys whose time has come go. */
  private tick(): void {
    this.stale = true
    while (this.expirations.next !== Infinity && this.expirations.next <= this.now) {
      const at = this.expirations.next
      const entry = this.expirations.pop()
      if (entry.expireAt === at && this.keys.get(entry.key) === entry) this.remove(entry.key)
    }
  }

  /** The instant of the command that runs, in milliseconds. */
  get now(): number {
    if (this.stale) {
      this.stale = false
      // The clock of the machine can be set back, the clock of this server cannot.
      this.instant = Math.max(this.instant, Math.floor(this.readNow()))
    }
    return this.instant
  }

  /** Microseconds since the epoch, never less than before. */
  micros(): number {
    const micros = Math.max(this.now * 1000 + this.readMicros(), this.lastMicros)
    this.lastMicros = micros
    return micros
  }

  private checkSlots(session: Session, command: Command, argv: Argv): ErrorReply | undefined {
    const keys = [...command.keysOf(argv)]
    if (command.name === "exec" && session.transaction !== undefined) {
      for (const queued of session.transaction) keys.push(...queued.command.keysOf(queued.argv))
    }
    const error = sameSlot(keys) ? this.checkMoved(keys) : CROSS_SLOT
    if (error === undefined) return undefined
    if (command.name === "exec") this.discard(session)
    else if (session.transaction !== undefined) session.transactionFailed = true
    return error
  }

  private checkMoved(keys: ReadonlyArray<string>): ErrorReply | undefined {
    if (this.movedSlots.length === 0 || keys.length === 0) return undefined
    const slot = hashSlot(decodeText(keys[0]!))
    const moved = this.movedSlots.findLast(({ first, last }) => first <= slot && slot <= last)
    return moved === undefined ? undefined : new ErrorReply(`MOVED ${slot} ${moved.to}`)
  }

  private checkCondition(session: Session, command: Command): ErrorReply | undefined {
    const queue = session.transaction
    if (queue !== undefined && command.name === "exec") {
      for (const queued of queue) {
        const error = refusal(this.condition, queued.command)
        if (error === undefined) continue
        this.discard(session)
        return new ErrorReply(`EXECABORT Transaction discarded because of: ${error.text}`)
      }
      return undefined
    }
    const error = refusal(this.condition, command)
    if (queue === undefined) return error
    // A queue takes memory too, whatever is in it.
    const refused = error ?? (this.condition === "out-of-memory" && !command.unqueued ? OOM : undefined)
    if (refused !== undefined) session.transactionFailed = true
    return refused
  }

  become(condition: Condition): void {
    this.condition = condition
    if (condition !== "read-only") return
    for (const session of this.sessions.values()) this.unblock(session, UNBLOCKED)
  }

  // -------------------------------------------------------------------------------------------------------------------
  // Keyspace
  // -------------------------------------------------------------------------------------------------------------------

  string(key: string): string | undefined {
    const value = this.keys.get(key)?.value
    if (value === undefined || typeof value === "string") return value
    throw WRONG_TYPE
  }

  hash(key: string): Hash | undefined {
    const value = this.keys.get(key)?.value
    if (value === undefined || value instanceof Hash) return value
    throw WRONG_TYPE
  }

  list(key: string): Deque | undefined {
    const value = this.keys.get(key)?.value
    if (value === undefined || value instanceof Deque) return value
    throw WRONG_TYPE
  }

  set(key: string): Members | undefined {
    const value = this.keys.get(key)?.value
    if (value === undefined || value instanceof Members) return value
    throw WRONG_TYPE
  }

  sortedSet(key: string): SortedSet | undefined {
    const value = this.keys.get(key)?.value
    if (value === undefined || value instanceof SortedSet) return value
    throw WRONG_TYPE
  }

  stream(key: string): Stream | undefined {
    const value = this.keys.get(key)?.value
    if (value === undefined || value instanceof Stream) return value
    throw WRONG_TYPE
  }

  hashOrNew(key: string): Hash {
    return this.hash(key) ?? this.add(key, new Hash())
  }

  listOrNew(key: string): Deque {
    return this.list(key) ?? this.add(key, new Deque())
  }

  setOrNew(key: string): Members {
    return this.set(key) ?? this.add(key, new Members())
  }

  sortedSetOrNew(key: string): SortedSet {
    return this.sortedSet(key) ?? this.add(key, new SortedSet())
  }

  /** A key that was not there. */
  add<V extends Value>(key: string, value: V): V {
    this.keys.add(new Entry(key, value))
    if (typeof value !== "string") this.signal(key)
    return value
  }

  /** Whoever waits for a key is asked again after the command. */
  signal(key: string): void {
    if (this.waiters.has(key)) this.ready.add(key)
  }

  /** Gives a key a value, whatever it held before, and without a life unless that is kept. */
  assign(key: string, value: Value, keepLife = false): void {
    const entry = this.keys.get(key)
    if (entry === undefined) {
      this.add(key, value)
    } else {
      if (entry.value instanceof Stream) this.signal(key)
      entry.value = value
      if (!keepLife) this.persist(entry)
    }
    this.modified(key)
  }

  /** Removes a key, and says whether it was there. */
  remove(key: string): boolean {
    const entry = this.keys.delete(key)
    if (entry === undefined) return false
    if (entry.expireAt !== Infinity) this.expiring--
    if (entry.value instanceof Stream) this.signal(key)
    this.modified(key)
    return true
  }

  /** Removes a collection that has no elements left. */
  removeEmpty(key: string, value: Exclude<Value, string>): void {
    if (sizeOf(value) === 0) this.remove(key)
  }

  expire(entry: Entry, at: number): void {
    if (entry.expireAt === Infinity) this.expiring++
    entry.expireAt = at
    // A life that was changed leaves its old instant behind; too many of those are swept out.
    if (this.expirations.length > 2 * this.expiring + 64) {
      this.expirations.clear()
      for (const other of this.keys.values()) {
        if (other.expireAt !== Infinity && other !== entry) this.expirations.push(other.expireAt, other)
      }
    }
    this.expirations.push(at, entry)
    for (const session of this.waiters.get(entry.key) ?? []) session.onWakeChanged()
  }

  persist(entry: Entry): boolean {
    if (entry.expireAt === Infinity) return false
    entry.expireAt = Infinity
    this.expiring--
    return true
  }

  get expiringKeys(): number {
    return this.expiring
  }

  /** Live keys, after those whose time has come are gone. */
  entries(): Iterable<Entry> {
    this.tick()
    return this.keys.values()
  }

  /** As `entries`, of one key. */
  entry(key: string): Entry | undefined {
    this.tick()
    return this.keys.get(key)
  }

  clear(): void {
    for (const key of this.keys.keys()) this.remove(key)
    this.expirations.clear()
    // Those who track are told that everything is gone instead of every name.
    const told = new Set<Session>()
    for (const { changed, sessions } of this.tracked.values()) {
      changed.clear()
      for (const session of sessions) told.add(session)
    }
    for (const session of told) this.invalidate(session, null)
  }

  // -------------------------------------------------------------------------------------------------------------------
  // Transactions
  // -------------------------------------------------------------------------------------------------------------------

  modified(key: string): void {
    if (this.tracked.size > 0) {
      for (const [prefix, { changed }] of this.tracked) if (key.startsWith(prefix)) changed.add(key)
    }
    if (this.watchers.size === 0) return
    const watchers = this.watchers.get(key)
    if (watchers !== undefined) { for (const session of watchers) session.watchedChanged = true }
  }

  watch(session: Session, key: string): void {
    session.watched.add(key)
    const watchers = this.watchers.get(key)
    if (watchers === undefined) this.watchers.set(key, new Set([session]))
    else watchers.add(session)
  }

  unwatch(session: Session): void {
    for (const key of session.watched) {
      const watchers = this.watchers.get(key)
      watchers?.delete(session)
      if (watchers?.size === 0) this.watchers.delete(key)
    }
    session.watched.clear()
    session.watchedChanged = false
  }

  discard(session: Session): void {
    session.transaction = undefined
    session.transactionFailed = false
    this.unwatch(session)
  }

  /** Runs something during which no command may wait. */
  atomically<A>(run: () => A): A {
    const before = this.denyBlocking
    this.denyBlocking = true
    try {
      return run()
    } finally {
      this.denyBlocking = before
    }
  }

  // -------------------------------------------------------------------------------------------------------------------
  // Blocking
  // -------------------------------------------------------------------------------------------------------------------

  /** Makes a session wait, in the order of arrival for each key. */
  block(session: Session, blocked: Blocked): EngineReply {
    if (this.denyBlocking) return blocked.timeoutReply
    session.blocked = blocked
    for (const key of blocked.keys) {
      const waiters = this.waiters.get(key)
      if (waiters === undefined) this.waiters.set(key, new Set([session]))
      else waiters.add(session)
    }
    return BLOCKED
  }

  /** Ends a wait: with what the timeout replies, unless told otherwise. */
  unblock(session: Session, reply?: EngineReply): boolean {
    const { blocked } = session
    if (blocked === undefined) return false
    session.blocked = undefined
    for (const key of blocked.keys) {
      const waiters = this.waiters.get(key)
      waiters?.delete(session)
      if (waiters?.size === 0) this.waiters.delete(key)
    }
    session.onUnblocked(reply === undefined ? blocked.timeoutReply : reply)
    return true
  }

  /** When a wait may end without any command: with its own time, or with the life of a key that it depends on. */
  wakeAt({ deadline, goneReply, keys }: Blocked): number {
    return goneReply === undefined
      ? deadline
      : Math.min(deadline, ...keys.map((key) => this.keys.get(key)?.expireAt ?? Infinity))
  }

  /** Time has come for a session that waits. */
  wake(session: Session): void {
    this.tick()
    this.afterCommand()
    if (session.blocked !== undefined && session.blocked.deadline <= this.now) this.unblock(session)
  }

  get blockedSessions(): number {
    let count = 0
    for (const session of this.sessions.values()) if (session.blocked !== undefined) count++
    return count
  }

  /** What was pushed goes to those who wait for it; that may be a push in its turn. */
  private serveWaiters(): void {
    for (const key of this.ready) {
      this.ready.delete(key)
      for (const session of Array.from(this.waiters.get(key) ?? [])) {
        const { blocked } = session
        if (blocked === undefined) continue
        const entry = this.keys.get(key)
        let reply: EngineReply | undefined
        try {
          reply = entry !== undefined && blocked.type === typeOf(entry.value) ? blocked.serve(key) : blocked.goneReply
        } catch (error) {
          if (!(error instanceof ErrorReply)) throw error
          reply = error
        }
        if (reply !== undefined) this.unblock(session, reply)
      }
    }
  }

  // -------------------------------------------------------------------------------------------------------------------
  // Tracking
  // -------------------------------------------------------------------------------------------------------------------

  /** Adds these prefixes to those that the session tracks. */
  track(session: Session, prefixes: ReadonlyArray<string>, redirect: number): void {
    const tracking = session.tracking ??= { prefixes: new Set(), redirect }
    tracking.redirect = redirect
    for (const prefix of prefixes) {
      tracking.prefixes.add(prefix)
      const tracked = this.tracked.get(prefix)
      if (tracked === undefined) this.tracked.set(prefix, { sessions: new Set([session]), changed: new Set() })
      else tracked.sessions.add(session)
    }
  }

  untrack(session: Session): void {
    for (const prefix of session.tracking?.prefixes ?? []) {
      const tracked = this.tracked.get(prefix)
      tracked?.sessions.delete(session)
      if (tracked?.sessions.size === 0) this.tracked.delete(prefix)
    }
    session.tracking = undefined
  }

  /** Once for each key and prefix, at the end of a command. */
  private tellTrackers(): void {
    for (const { changed, sessions } of this.tracked.values()) {
      if (changed.size === 0) continue
      const keys = [...changed]
      changed.clear()
      for (const session of sessions) this.invalidate(session, keys)
    }
  }

  private invalidate(session: Session, keys: ReadonlyArray<string> | null): void {
    const target = this.sessions.get(session.tracking?.redirect ?? 0)
    // RESP2 has no other way to tell than this channel.
    if (target?.subscriptions.channel.has(INVALIDATE) === true) target.onInvalidated(keys)
  }

  // -------------------------------------------------------------------------------------------------------------------
  // Channels
  // -------------------------------------------------------------------------------------------------------------------

  subscribe(session: Session, kind: ChannelKind, name: string): void {
    session.subscriptions[kind].add(name)
    const sessions = this.channels[kind].get(name)
    if (sessions === undefined) this.channels[kind].set(name, new Set([session]))
    else sessions.add(session)
  }

  unsubscribe(session: Session, kind: ChannelKind, name: string): void {
    session.subscriptions[kind].delete(name)
    const sessions = this.channels[kind].get(name)
    sessions?.delete(session)
    if (sessions?.size === 0) this.channels[kind].delete(name)
  }
}

const sameSlot = (keys: ReadonlyArray<string>): boolean => {
  if (keys.length < 2) return true
  const slot = hashSlot(decodeText(keys[0]!))
  return keys.every((key) => hashSlot(decodeText(key)) === slot)
}

const unknownCommand = (argv: Argv): ErrorReply => {
  let args = ""
  for (let i = 1; i < argv.length && args.length < 128; i++) args += `'${argv[i]!.slice(0, 128 - args.length)}' `
  return new ErrorReply(
    `ERR unknown command '${argv[0]!.slice(0, 128)}', with args beginning with: ${args}`.replace(/[\r\n]/g, " ")
  )
}
