/**
 * A Cluster made of links: one shared connection for each master, and a map of the slots.
 *
 * The rules of a single connection stay: what was written and got no answer has an unknown outcome and is never sent
 * again. What certainly was not executed goes where the map says, as long as its deadline allows.
 */
// The completion of I/O, and its timers, are Node's here.
// @effect-diagnostics globalTimers:off
// @effect-diagnostics globalRandom:off
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import type { RedisOptions } from "ioredis"
import { Once } from "../internal/issued.js"
import { SLOTS } from "../internal/slot.js"
import type { ConnectionState } from "../RedisClient.js"
import { RedisConnectionError, type RedisError, RedisReplyError } from "../RedisError.js"
import { Link, type LinkSettings, type Role } from "./Link.js"
import { type Request, SingleRequest } from "./Request.js"
import type { Node, Topology } from "./Topology.js"

export interface Address {
  readonly host: string
  readonly port: number
}

export interface ClusterSettings {
  readonly target: string
  readonly seeds: ReadonlyArray<Address>
  /** In milliseconds. */
  readonly connectTimeout: number
  readonly commandTimeout: number
  /** Of every connection. */
  readonly options: RedisOptions
}

/** Something that is to be sent to whoever has a slot, and waits while that can't be done. */
export interface Call {
  /** Nobody waits for it any more. */
  readonly settled: boolean
  /** How long it may still take, in milliseconds. */
  readonly left: number
  /** Sends it, or has it wait again. */
  readonly dispatch: () => void
  readonly fail: (error: RedisError) => void
}

interface Waiting {
  readonly call: Call
  /** What it fails with at its deadline. */
  readonly error: RedisError
  /** It is not sent before that, whatever happens to the map. On the clock of `performance`, as its end. */
  readonly from: number
  /** In milliseconds, on the clock of `performance`. */
  readonly until: number
}

/** Error replies that say that nothing was executed. One that a script gives on its own account says nothing of the sort. */
const NOT_EXECUTED: Readonly<Record<string, RegExp>> = {
  MOVED: /^MOVED \d+ \S*:\d+$/,
  ASK: /^ASK \d+ \S*:\d+$/,
  TRYAGAIN: /^TRYAGAIN Multiple keys request/,
  CLUSTERDOWN: /^CLUSTERDOWN (The cluster is down|Hash slot not served)/,
  LOADING: /^LOADING (?!.* script: )/,
  MASTERDOWN: /^MASTERDOWN (?!.* script: )/,
  READONLY: /^READONLY (?!.* script: )/
}

export const notExecuted = (error: RedisReplyError): boolean => NOT_EXECUTED[error.code]?.test(error.reply) === true

const isRedirection = (error: RedisReplyError): boolean =>
  (error.code === "MOVED" || error.code === "ASK") && notExecuted(error)

/** So many go at once. Two nodes that name each other come to an agreement, but not in a moment. */
const REDIRECTIONS_AT_ONCE = 4

/**
 * What is sent with less than this left might get no answer in time, in milliseconds. It is better to know that it was not
 * executed.
 */
const LAST_CHANCE = 100
/** Between two looks at the map, while something waits, and while only a master is away. */
export const MIN_PAUSE = 20
const MAX_PAUSE = 250
const MAX_PAUSE_IDLE = 2000
/** How often the map is read when nothing happens. */
const REFRESH_EVERY = 15_000
/** When a node has not told its map by then, another one is asked as well. */
const HEDGE = 200

const portOf = (text: string): number => Number(text.slice(text.lastIndexOf(":") + 1))
const hostOf = (text: string): string => text.slice(0, text.lastIndexOf(":"))

export const idOf = (address: Address): string => `${address.host}:${address.port}`

export class ClusterNode implements Node {
  readonly id: string
  private link: Link | undefined
  /** Its connection was lost, and no other one is ready. */
  down = false
  /** Another one with this address stands in its place now, or none. */
  private gone = false
  private failures = 0
  private retryAt = -Infinity
  lastError: RedisConnectionError | undefined

  constructor(readonly cluster: Cluster, readonly address: Address) {
    this.id = idOf(address)
  }

  get isUp(): boolean {
    return this.link?.isUp === true
  }

  readonly open = (role: Role): Link => this.connection(role, { patient: role === "subscriber" })

  /** A connection that is not made again when it is lost. */
  readonly openOnce = (role: Role): Link => this.connection(role, { patient: false, once: true })

  private connection(role: Role, life: Pick<LinkSettings, "patient" | "once">): Link {
    const { commandTimeout, connectTimeout, options } = this.cluster.settings
    return new Link({ target: `${this.cluster.scheme}://${this.id}`, role, connectTimeout, commandTimeout, ...life })
      .own({
        ...options,
        ...this.address,
        db: 0
      })
  }

  /** Whether there is a connection, or one may be made now. */
  get isReachable(): boolean {
    return this.link !== undefined || performance.now() >= this.retryAt
  }

  private connect(): Link {
    if (this.link !== undefined) return this.link
    const link = this.link = this.openOnce("shared")
    link.onUp = () => {
      this.failures = 0
      this.lastError = undefined
      if (!this.down) return
      this.down = false
      this.cluster.settle()
    }
    link.onEnded = (error) => {
      if (this.link !== link) return
      this.link = undefined
      this.down = true
      this.lastError = error
      this.retryAt = performance.now() + Math.min(2000, 20 * 2 ** Math.min(this.failures++, 7))
      this.cluster.onLost(this, error)
    }
    return link
  }

  /** Returns how to take it back, as long as it waits for a connection. */
  submit(request: Request): Effect.Effect<void> | undefined {
    const { cluster } = this
    if (cluster.ended !== undefined) {
      request.fail(cluster.ended)
      return undefined
    }
    return this.gone ? cluster.nodeAt(this.address).submit(request) : this.connect().submit(request)
  }

  probe(): void {
    const link = this.connect()
    if (!link.isUp) link.wake()
  }

  handBack(): void {
    this.link?.handBack()
  }

  /** It is no master any more: what was sent may still be answered, and everything else goes elsewhere. */
  discard(done: () => void): void {
    const { link } = this
    this.link = undefined
    this.down = false
    this.gone = true
    if (link === undefined) done()
    else link.shut(done)
  }
}

/** A part of the reply to `CLUSTER SLOTS`. */
type Range = readonly [first: number, last: number, master: Address]

interface SlotMap {
  readonly ranges: ReadonlyArray<Range>
  /** Masters and replicas. */
  readonly members: ReadonlySet<string>
}

/** The address of a node in the words of another one, which leaves out what is the same as its own. */
const readNode = (node: unknown, asked: Address): Address | undefined => {
  if (!Array.isArray(node)) return undefined
  const [endpoint, port, , metadata]: Array<unknown> = node
  if (typeof port !== "number") return undefined
  if (endpoint === null || endpoint === "") return { host: asked.host, port }
  if (typeof endpoint !== "string") return undefined
  if (endpoint !== "?") return { host: endpoint, port }
  // Its preferred endpoint is not known, but there may be others.
  const others: ReadonlyArray<unknown> = Array.isArray(metadata) ? metadata : []
  for (const name of ["hostname", "ip"]) {
    const value = others[others.indexOf(name) + 1]
    if (others.includes(name) && typeof value === "string" && value !== "" && value !== "?") {
      return { host: value, port }
    }
  }
  return undefined
}

export const readSlots = (reply: unknown, asked: Address): SlotMap | undefined => {
  if (!Array.isArray(reply)) return undefined
  const ranges: Array<Range> = []
  const members = new Set<string>()
  for (const range of reply) {
    if (!Array.isArray(range)) return undefined
    const [first, last, ...nodes]: Array<unknown> = range
    if (typeof first !== "number" || typeof last !== "number") return undefined
    for (const node of nodes) {
      const address = readNode(node, asked)
      if (address !== undefined) members.add(idOf(address))
    }
    const master = readNode(nodes[0], asked)
    if (master !== undefined) ranges.push([first, last, master])
  }
  return { ranges, members }
}

export class Cluster implements Topology {
  readonly scheme: string
  private readonly slots: Array<ClusterNode | undefined> = new Array<ClusterNode | undefined>(SLOTS).fill(undefined)
  /** The masters. */
  private nodes = new Map<string, ClusterNode>()
  /** Others that are talked to: whom `ASK` names before it has a slot, and whom a reserved connection belongs to. */
  private readonly strangers = new Map<string, ClusterNode>()
  private members: ReadonlySet<string> = new Set()
  private known = false
  private closed: RedisConnectionError | undefined = undefined
  private lastError: RedisError | undefined = undefined
  private waiting: Array<Waiting> = []
  private timer: NodeJS.Timeout | undefined = undefined
  /** When the timer ends. */
  private armedFor = Infinity
  private slow: NodeJS.Timeout | undefined = undefined
  private pause = MIN_PAUSE
  private refreshing: Array<(result: Either.Either<void, RedisError>) => void> | undefined = undefined
  /** When the last reading of the map came to its end, however it did. */
  private refreshedAt = -Infinity
  /** Connections that are there for the map alone. */
  private readonly temporary = new Set<Link>()
  /** Connections that are on their way out. */
  private leaving = 0
  private onLeft: (() => void) | undefined = undefined
  private favourite: ClusterNode | undefined = undefined
  private readonly listeners = new Set<() => void>()
  private readonly readers: Array<() => void> = []
  onState: ((status: ConnectionState["status"], error: RedisError | undefined) => void) | undefined = undefined

  constructor(readonly settings: ClusterSettings) {
    this.scheme = settings.options.tls === undefined ? "redis" : "rediss"
  }

  // --- Topology ---

  readonly masters = (): ReadonlyArray<ClusterNode> => Array.from(this.nodes.values())

  readonly onChange = (listener: () => void): () => void => {
    this.listeners.add(listener)
    return () => this.listeners.delete(listener)
  }

  /** Whether it belongs to the Cluster, also as a replica. */
  isMember(node: ClusterNode): boolean {
    return this.members.has(node.id)
  }

  /** Calls back after every reading of the map. */
  onMapRead(reader: () => void): void {
    this.readers.push(reader)
  }

  /** Who has the slot, or any master: the same one as long as it is well. */
  owner(slot: number | undefined): ClusterNode | undefined {
    if (slot !== undefined) return this.slots[slot]
    const { favourite } = this
    if (favourite !== undefined && !favourite.down && this.nodes.get(favourite.id) === favourite) return favourite
    const nodes = this.masters()
    const well = nodes.filter((node) => !node.down)
    const from = well.length > 0 ? well : nodes
    return this.favourite = from[Math.floor(Math.random() * from.length)]
  }

  /** How many slots somebody has. */
  get covered(): number {
    return this.slots.reduce((n, node) => node === undefined ? n : n + 1, 0)
  }

  // --- Life ---

  /** Reads the map for the first time, from the first seed that answers. */
  readonly connect: Effect.Effect<void, RedisError> = Effect.async<void, RedisError>((resume) => {
    const timer = setTimeout(
      () => done(Either.left(this.error("connect", `no answer within ${this.settings.connectTimeout} ms`))),
      this.settings.connectTimeout
    )
    const done = (result: Either.Either<void, RedisError>) => {
      clearTimeout(timer)
      resume(result)
    }
    this.refresh(done)
    return Effect.sync(() => clearTimeout(timer))
  })

  readonly close: Effect.Effect<void> = Effect.async<void>((resume) => {
    this.closed ??= this.error("closed", "the client was closed")
    clearTimeout(this.timer)
    clearTimeout(this.slow)
    this.failWaiting(this.closed)
    this.onLeft = () => {
      this.onState?.("end", undefined)
      resume(Effect.void)
    }
    // One more than there are, so that this is not the end before all have begun.
    this.leaving++
    for (const link of this.temporary) this.leave((done) => link.shut(done))
    for (const node of this.nodes.values()) this.leave((done) => node.discard(done))
    for (const node of this.strangers.values()) this.leave((done) => node.discard(done))
    this.left()
  })

  private leave(end: (done: () => void) => void): void {
    this.leaving++
    end(() => this.left())
  }

  private left(): void {
    if (--this.leaving === 0) this.onLeft?.()
  }

  // --- Waiting ---

  /** Why nothing can be sent any more. */
  get ended(): RedisConnectionError | undefined {
    return this.closed
  }

  /**
   * Tries again when the map is new, or after a pause; never before the pause is over when one is given. At its deadline
   * the call fails with this error.
   */
  wait(call: Call, error: RedisError, pause?: number): void {
    if (this.closed !== undefined) return call.fail(this.closed)
    if (call.left < 1) return call.fail(error)
    const now = performance.now()
    this.waiting.push({ call, error, from: pause === undefined ? now : now + pause, until: now + call.left })
    this.arm(pause ?? Math.min(this.pause, MAX_PAUSE))
  }

  /**
   * How long a command waits that was sent on so many times already. The pause is its own: nodes that do not agree make
   * the map a new one again and again.
   */
  pauseAfter(redirections: number): number | undefined {
    const more = redirections - REDIRECTIONS_AT_ONCE
    return more > 0 ? Math.min(MAX_PAUSE, MIN_PAUSE * 1.5 ** (more - 1)) : undefined
  }

  private arm(pause: number): void {
    if (this.closed !== undefined) return
    const at = performance.now() + pause
    if (this.timer !== undefined && this.armedFor <= at) return
    clearTimeout(this.timer)
    this.armedFor = at
    this.timer = setTimeout(this.tick, Math.ceil(pause))
    this.timer.unref()
  }

  /** While something waits or a master is away: looks at the map, then tries everything again. */
  private readonly tick = (): void => {
    this.timer = undefined
    this.armedFor = Infinity
    const anyDown = this.masters().some((node) => node.down)
    if (!this.flushExpired() && !anyDown) {
      this.pause = MIN_PAUSE
      return
    }
    if (performance.now() - this.refreshedAt >= this.pause) {
      this.refresh()
      this.pause = Math.min(this.waiting.length > 0 ? MAX_PAUSE : MAX_PAUSE_IDLE, this.pause * 1.5)
    }
    for (const node of this.nodes.values()) if (node.down && node.isReachable) node.probe()
    this.dispatchWaiting()
    if (this.waiting.length > 0 || anyDown) this.arm(this.nextPause())
  }

  /** No deadline is missed by a long pause. */
  private nextPause(): number {
    const now = performance.now()
    let next = Infinity
    for (const { from, until } of this.waiting) next = Math.min(next, from > now ? from : until)
    return Math.max(1, Math.min(this.pause, next - now))
  }

  /** Whether anything still waits. */
  private flushExpired(): boolean {
    const waiting = this.waiting
    this.waiting = []
    for (const item of waiting) {
      if (item.call.settled) continue
      if (item.call.left < 1) item.call.fail(item.error)
      else this.waiting.push(item)
    }
    return this.waiting.length > 0
  }

  private failWaiting(error: RedisError): void {
    const waiting = this.waiting
    this.waiting = []
    for (const { call } of waiting) if (!call.settled) call.fail(error)
  }

  private dispatchWaiting(): void {
    const waiting = this.waiting
    this.waiting = []
    // A timer may ring a little early.
    const now = performance.now() + 1
    for (const item of waiting) {
      if (item.call.settled) continue
      if (item.call.left < LAST_CHANCE || item.from > now) this.waiting.push(item)
      else item.call.dispatch()
    }
  }

  // --- Events of nodes ---

  onLost(node: ClusterNode, error: RedisConnectionError): void {
    if (this.strangers.get(node.id) === node) {
      this.strangers.delete(node.id)
      node.discard(() => {})
    }
    if (this.closed !== undefined || this.nodes.get(node.id) !== node) return
    this.lastError = error
    this.onState?.("reconnecting", error)
    this.pause = MIN_PAUSE
    this.arm(MIN_PAUSE)
  }

  /** A connection to it could not be made. When that holds for commands as well, others are chosen. */
  suspect(node: ClusterNode): void {
    if (this.closed === undefined && this.nodes.get(node.id) === node && node.isReachable) node.probe()
  }

  settle(): void {
    if (this.closed !== undefined || !this.known || this.masters().some((node) => node.down)) return
    this.onState?.("connected", undefined)
  }

  // --- The map ---

  /** A node by its address, whether it is a master or not. */
  nodeAt(address: Address): ClusterNode {
    const id = idOf(address)
    const known = this.nodes.get(id) ?? this.strangers.get(id)
    if (known !== undefined) return known
    const node = new ClusterNode(this, address)
    this.strangers.set(id, node)
    return node
  }

  private adopt(node: ClusterNode): void {
    this.strangers.delete(node.id)
    this.nodes.set(node.id, node)
  }

  /** Whom `MOVED` and `ASK` name. An empty host is that of the node that said so. */
  redirected(error: RedisReplyError, from: ClusterNode): ClusterNode {
    const [, slot, where = ""] = error.reply.split(" ")
    const host = hostOf(where)
    const node = this.nodeAt({ host: host === "" || host === "?" ? from.address.host : host, port: portOf(where) })
    const index = Number(slot)
    if (error.code === "MOVED" && this.slots[index] !== node) {
      this.adopt(node)
      this.slots[index] = node
      this.changed()
      // The node that has the slot knows best.
      this.refresh(undefined, node)
    }
    return node
  }

  private changed(): void {
    for (const listener of this.listeners) listener()
  }

  /** One reading at a time: who asks while one is underway gets its result. */
  refresh(done?: (result: Either.Either<void, RedisError>) => void, first?: ClusterNode): void {
    if (this.closed !== undefined) return done?.(Either.left(this.closed))
    if (this.refreshing !== undefined) {
      if (done !== undefined) this.refreshing.push(done)
      return
    }
    this.refreshing = done === undefined ? [] : [done]
    if (!this.known) this.onState?.("connecting", undefined)
    const connected = this.masters().filter((node) => node.isUp && node !== first)
    const others = this.masters().filter((node) => !node.isUp && node !== first)
    const seeds = this.settings.seeds.filter((seed) => !this.nodes.has(idOf(seed)))
    const sources = [
      ...(first === undefined ? [] : [first]),
      ...shuffle(connected),
      ...shuffle(others),
      ...seeds.map((seed) => new ClusterNode(this, seed))
    ]
    let asked = 0
    let failed = 0
    let over = false
    let hedge: NodeJS.Timeout | undefined
    let worst: RedisError | undefined
    const links: Array<Link> = []
    const finish = (result: Either.Either<void, RedisError>) => {
      over = true
      clearTimeout(hedge)
      this.refreshedAt = performance.now()
      const waiting = this.refreshing ?? []
      this.refreshing = undefined
      for (const link of links) if (this.temporary.delete(link)) link.shut(() => {})
      clearTimeout(this.slow)
      if (this.closed === undefined) {
        this.slow = setTimeout(() => this.refresh(), REFRESH_EVERY)
        this.slow.unref()
      }
      for (const done of waiting) done(result)
    }
    const next = (): void => {
      clearTimeout(hedge)
      const source = sources[asked]
      if (source === undefined) return
      asked++
      this.ask(source, links, (result) => {
        if (over) return
        if (this.closed !== undefined) return finish(Either.left(this.closed))
        if (Either.isRight(result)) {
          this.apply(result.right)
          return finish(Either.void)
        }
        failed++
        // A password that is wrong says more than a server that is away.
        const isAuth = result.left._tag === "RedisConnectionError" && result.left.reason === "auth"
        if (worst === undefined || isAuth) worst = result.left
        if (failed < sources.length) return next()
        this.lastError = worst
        this.onState?.(this.known ? "reconnecting" : "error", worst)
        finish(Either.left(worst))
        // Waiting longer does not make a password right.
        if (worst._tag === "RedisConnectionError" && worst.reason === "auth") this.failWaiting(worst)
      })
      hedge = setTimeout(next, HEDGE)
      hedge.unref()
    }
    next()
  }

  /** Reads the map now. */
  readonly read: Effect.Effect<void, RedisError> = Effect.async((resume) => this.refresh(resume))

  private ask(
    source: ClusterNode,
    links: Array<Link>,
    done: (result: Either.Either<SlotMap, RedisError>) => void
  ): void {
    const known = source.isUp
    const link = known ? undefined : source.openOnce("reserved")
    const end = (result: Either.Either<SlotMap, RedisError>) => {
      if (link !== undefined && this.temporary.delete(link)) link.shut(() => {})
      done(result)
    }
    const request = new SingleRequest<SlotMap>(
      new Once(
        "CLUSTER",
        ["SLOTS"],
        "text",
        known ? Math.min(1000, this.settings.commandTimeout) : this.settings.connectTimeout,
        (reply) => {
          const map = readSlots(reply, source.address)
          return map === undefined || map.ranges.length === 0
            ? Effect.fail(this.error("connect", `${source.id} knows no node that has slots`))
            : Effect.succeed(map)
        }
      ),
      (effect) => {
        const result = Effect.runSync(Effect.either(effect))
        end(
          Either.isLeft(result) && result.left._tag === "RedisReplyError" &&
            result.left.reply.includes("cluster support")
            ? Either.left(this.error("connect", `${source.id} is no node of a Cluster`))
            : result
        )
      }
    )
    if (link === undefined) {
      source.submit(request)
      return
    }
    this.temporary.add(link)
    links.push(link)
    link.submit(request)
  }

  private apply(map: SlotMap): void {
    const healing = this.masters().some((node) => node.down)
    const before = this.nodes
    const slots = new Array<ClusterNode | undefined>(SLOTS).fill(undefined)
    this.nodes = new Map()
    for (const [first, last, address] of map.ranges) {
      const id = idOf(address)
      const known = before.get(id)
      const node = this.nodes.get(id) ?? known ?? this.strangers.get(id) ?? new ClusterNode(this, address)
      this.strangers.delete(id)
      // Who took over from a master that is away has not answered yet.
      if (known === undefined && healing) node.down = !node.isUp
      this.nodes.set(id, node)
      slots.fill(node, first, last + 1)
    }
    this.members = map.members
    this.known = true
    let moved = false
    for (let slot = 0; slot < SLOTS; slot++) {
      if (this.slots[slot] === slots[slot]) continue
      moved = true
      this.slots[slot] = slots[slot]
    }
    let others = this.nodes.size !== before.size
    for (const [id, node] of before) {
      if (this.nodes.has(id)) continue
      others = true
      this.leave((done) => node.discard(done))
    }
    if (moved) {
      for (const node of this.nodes.values()) node.handBack()
      this.pause = MIN_PAUSE
      this.dispatchWaiting()
    }
    if (moved || others) this.changed()
    for (const reader of this.readers) reader()
    if (this.masters().some((node) => node.down)) this.arm(this.pause)
    else this.settle()
  }

  // --- Errors ---

  error(reason: RedisConnectionError["reason"], detail: string): RedisConnectionError {
    return new RedisConnectionError({ target: this.settings.target, reason, detail })
  }

  /** Whether what failed with this was not sent, and may be sent when the map or a connection is new. */
  mayRecover(error: RedisError): boolean {
    return error._tag === "RedisConnectionError" && error.reason !== "auth" && this.closed === undefined
  }

  /** Whether there is a map. */
  get isKnown(): boolean {
    return this.known
  }

  unavailable(timeout: number, error: RedisError | undefined): RedisConnectionError {
    const known = error ?? this.lastError
    const detail = known === undefined
      ? ""
      : `: ${known._tag === "RedisConnectionError" ? causeOf(known) : known.message}`
    return this.error("unavailable", `no connection within ${Math.round(timeout)} ms${detail}`)
  }

  uncovered(command: string): RedisReplyError {
    return new RedisReplyError({ command, code: "CLUSTERDOWN", reply: "CLUSTERDOWN Hash slot not served" })
  }

  /** What a command fails with that one node sends to another one, and nobody takes. */
  asUncovered<A>(error: A): A | RedisReplyError {
    return error instanceof RedisReplyError && isRedirection(error)
      ? new RedisReplyError({
        command: error.command,
        code: "CLUSTERDOWN",
        reply: `CLUSTERDOWN Hash slot not served: the last answer was ${error.reply}`
      })
      : error
  }
}

/** The text of one that failed for the same reason would hold that of the one before it, and so on. */
const causeOf = (error: RedisConnectionError): string => error.detail.replace(/^no connection within \d+ ms: /, "")

const shuffle = <A>(items: Array<A>): Array<A> => {
  for (let i = items.length - 1; i > 0; i--) {
    const j = Math.floor(Math.random() * (i + 1))
    const item = items[i]!
    items[i] = items[j]!
    items[j] = item
  }
  return items
}
