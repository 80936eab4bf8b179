/**
 * One tracking connection to each server that holds keys, for all streams of a client: which prefixes are tracked, the
 * proof that it works, what each stream is told, and how it is made again.
 */
import * as Chunk from "effect/Chunk"
import * as Clock from "effect/Clock"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as FiberId from "effect/FiberId"
import * as Option from "effect/Option"
import * as Random from "effect/Random"
import * as Schedule from "effect/Schedule"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import type {
  Armed,
  Down,
  DriverTracker,
  Invalidated,
  InvalidatedAll,
  Invalidation,
  TrackedServer
} from "../RedisClient.js"
import { RedisConnectionError, type RedisError, RedisTimeoutError } from "../RedisError.js"
import { makeFork } from "./background.js"
import { Once } from "./issued.js"
import { mayPass } from "./mayPass.js"
import { invalidationOutages } from "./metrics.js"
import { hashSlot, SLOTS } from "./slot.js"

/** Makes the elements of a stream. */
interface Elements {
  readonly armed: Armed
  readonly down: Down
  readonly all: InvalidatedAll
  readonly keys: (keys: ReadonlyArray<string>) => Invalidated
}

/** @internal */
export interface Invalidations {
  /** Prefixes have the client's own before them; keys of the stream do not. */
  readonly stream: (
    prefixes: ReadonlyArray<string>,
    capacity: number
  ) => Stream.Stream<Invalidation, RedisError>
}

/**
 * The channel on which a server tells by RESP2 which keys were changed.
 *
 * @internal
 */
export const INVALIDATE = "__redis__:invalidate"

/** Where probes are written, behind the client's key prefix. It is tracked besides what the streams ask for. */
const PROBES = "effect-redis-kit:probe:"

/**
 * A write that leaves nothing behind. A server that is out of memory takes it too: a near cache is of most use there.
 *
 * KEYS: the probe. Complexity: O(1).
 */
const PROBE = `#!lua flags=allow-oom
redis.call("SET", KEYS[1], "", "PX", 1000)
return redis.call("DEL", KEYS[1])`

/** Between two tries to make a connection, in milliseconds. */
const MAX_PAUSE = 2000

/** How many names are tried to find one that a server of a Cluster holds. It is enough for one that has a single slot. */
const NAMES = 20 * SLOTS

const encoder = new TextEncoder()
const decoder = new TextDecoder("utf-8", { ignoreBOM: true })

/** As the server sends it back: half of a surrogate pair has no bytes of its own. */
const wellFormed = (text: string): string => decoder.decode(encoder.encode(text))

/** Without those that others cover: the server refuses prefixes that overlap. */
const cover = (prefixes: Iterable<string>): ReadonlyArray<string> => {
  const out: Array<string> = []
  for (const prefix of Array.from(prefixes).sort()) {
    const last = out[out.length - 1]
    if (last === undefined || !prefix.startsWith(last)) out.push(prefix)
  }
  return out
}

const startsWithAny = (text: string, prefixes: ReadonlyArray<string>): boolean => {
  for (const prefix of prefixes) if (text.startsWith(prefix)) return true
  return false
}

const same = (one: ReadonlyArray<string>, other: ReadonlyArray<string>): boolean =>
  one.length === other.length && one.every((text, i) => text === other[i])

/** Asking again would get the same answer. */
const isRefusal = (error: RedisError): boolean =>
  (error._tag === "RedisReplyError" && !error.isRetryable) || error._tag === "RedisDecodeError" ||
  error._tag === "RedisInputError"

// ---------------------------------------------------------------------------------------------------------------------
// What waits for a stream
// ---------------------------------------------------------------------------------------------------------------------

/** What one stream was not given yet. Keys that follow each other are one element, so it is as short as can be. */
class Mailbox {
  private pending: Array<"armed" | "down" | "all" | Set<string>> = []
  /** Keys, and other elements, in it. */
  private weight = 0
  private ended: Exit.Exit<never, Option.Option<RedisError>> | undefined
  private waiter: ((result: Effect.Effect<Chunk.Chunk<Invalidation>, Option.Option<RedisError>>) => void) | undefined

  constructor(readonly elements: Elements, readonly capacity: number) {}

  state(state: "armed" | "down"): void {
    this.pending.push(state)
    this.weight++
    this.changed()
  }

  keys(keys: ReadonlyArray<string>): void {
    let last = this.pending[this.pending.length - 1]
    if (last === "all") return
    if (!(last instanceof Set)) this.pending.push(last = new Set())
    this.weight -= last.size
    for (const key of keys) last.add(key)
    this.weight += last.size
    this.changed()
  }

  all(): void {
    const last = this.pending[this.pending.length - 1]
    if (last === "all") return
    if (last instanceof Set) {
      this.pending.pop()
      this.weight -= last.size
    }
    this.pending.push("all")
    this.weight++
    this.changed()
  }

  end(exit: Exit.Exit<never, Option.Option<RedisError>>): void {
    this.ended ??= exit
    this.wake()
  }

  readonly take: Effect.Effect<Chunk.Chunk<Invalidation>, Option.Option<RedisError>> = Effect.async((resume) => {
    if (this.pending.length > 0) return resume(this.drain)
    if (this.ended !== undefined) return resume(this.ended)
    this.waiter = resume
    return Effect.sync(() => void (this.waiter = undefined))
  })

  /** Only when it is taken, so that an interruption loses nothing. */
  private readonly drain = Effect.sync(() => {
    const { all, armed, down, keys } = this.elements
    const out = this.pending.map((element): Invalidation =>
      element === "armed" ? armed : element === "down" ? down : element === "all" ? all : keys([...element])
    )
    this.pending = []
    this.weight = 0
    return Chunk.unsafeFromArray(out)
  })

  private changed(): void {
    if (this.weight > this.capacity) this.overflow()
    this.wake()
  }

  /** Everything that was not taken yet becomes one word, after what matters of the states between. */
  private overflow(): void {
    const states = this.pending.filter((element) => element === "armed" || element === "down")
    const last = states[states.length - 1]
    this.pending = last === "down"
      ? ["all", "down"]
      : last === "armed"
      ? states.includes("down") ? ["down", "armed", "all"] : ["armed", "all"]
      : ["all"]
    this.weight = this.pending.length
  }

  private wake(): void {
    const { waiter } = this
    if (waiter === undefined) return
    this.waiter = undefined
    waiter(this.take)
  }
}

// ---------------------------------------------------------------------------------------------------------------------
// Servers, their connections, and those who listen
// ---------------------------------------------------------------------------------------------------------------------

/** A run of a stream. */
interface Listener {
  readonly prefixes: ReadonlyArray<string>
  readonly mailbox: Mailbox
  /** For each server the connection that this stream relies on. */
  readonly relies: Map<Node, Connection>
  /** It relies on one for every server. */
  armed: boolean
  everArmed: boolean
}

/** A server that holds keys. */
interface Node {
  server: TrackedServer
  /** One, and while what is tracked changes also the one that takes its place. */
  readonly connections: Set<Connection>
  /** The one that is not armed yet. */
  arming: Connection | undefined
  /** Waits before another try. */
  pausing: boolean
  failures: number
  gone: boolean
  readonly fibers: Set<Fiber.RuntimeFiber<void, RedisError>>
}

/** A tracking connection from its beginning to its end. */
interface Connection {
  readonly node: Node
  readonly prefixes: ReadonlyArray<string>
  armed: boolean
  armedAt: number
  lost: boolean
  /** Nobody relies on it any more. */
  retired: boolean
  /** Probes that were written, by their keys. */
  readonly probes: Map<string, Deferred.Deferred<void>>
  fiber: Fiber.RuntimeFiber<void, RedisError> | undefined
}

interface Options {
  readonly tracker: DriverTracker
  readonly target: string
  readonly keyPrefix: string
  /** Names this client among those that share the prefix. */
  readonly id: string
  /** The command timeout, in milliseconds. */
  readonly timeout: number
  readonly elements: Elements
}

/** @internal */
export const make = (options: Options): Effect.Effect<Invalidations, never, Scope.Scope> =>
  Effect.gen(function*() {
    const { elements, keyPrefix, target, timeout, tracker } = options
    const reserved = wellFormed(keyPrefix + PROBES)
    const heartbeat = Math.ceil(timeout / 2)
    const listeners = new Set<Listener>()
    const nodes = new Map<string, Node>()
    const fork = yield* makeFork
    let stopListening: (() => void) | undefined
    let probes = 0
    let closed = false

    const unavailable = (detail: string) => new RedisConnectionError({ target, reason: "unavailable", detail })

    const run = (node: Node, effect: Effect.Effect<void, RedisError>): Fiber.RuntimeFiber<void, RedisError> => {
      const fiber = fork(effect)
      node.fibers.add(fiber)
      fiber.addObserver(() => node.fibers.delete(fiber))
      return fiber
    }

    const wanted = (): ReadonlyArray<string> => {
      const all = [reserved]
      for (const listener of listeners) all.push(...listener.prefixes)
      return cover(all)
    }

    // --- Probes ---

    /** For each server of a Cluster, where the search for a name begins. */
    const numbers = new Map<string, number>()

    /** A name on this server; none when it can't hold any key of this client, as with a hash tag in the key prefix. */
    const probeName = ({ id, owns }: TrackedServer): string | undefined => {
      const base = `${reserved}${options.id}:`
      if (owns === undefined) return base
      const numbered = (i: number) => `${base}{${i}}:`
      const first = numbers.get(id) ?? 0
      if (owns(hashSlot(numbered(first)))) return numbered(first)
      // Every name of this client has one slot, or this server has none.
      const fixed = hashSlot(numbered(0)) === hashSlot(numbered(1)) && hashSlot(numbered(0)) === hashSlot(numbered(2))
      if (fixed || !Array.from({ length: SLOTS }, (_, slot) => slot).some(owns)) return undefined
      for (let i = first + 1; i < first + NAMES; i++) {
        if (!owns(hashSlot(numbered(i)))) continue
        numbers.set(id, i)
        return numbered(i)
      }
      return undefined
    }

    /** Writes, and waits until the connection has told of it. Every probe has a name of its own. */
    const check = (connection: Connection, millis: number): Effect.Effect<void, RedisError> =>
      Effect.suspend(() => {
        const { probes: waiting, node: { server } } = connection
        const name = probeName(server)
        if (name === undefined) return Effect.fail(unavailable("the server holds no keys any more"))
        const key = `${name}${++probes}`
        const arrived = Deferred.unsafeMake<void>(FiberId.none)
        waiting.set(key, arrived)
        return server.executor.issue(new Once("EVAL", [PROBE, "1", key], "text", millis, () => Effect.void)).pipe(
          // The connection for commands may be on its way back.
          Effect.retry({ schedule: Schedule.spaced("50 millis"), while: mayPass }),
          Effect.zipRight(Deferred.await(arrived)),
          Effect.timeoutFail({
            duration: millis,
            onTimeout: () => new RedisTimeoutError({ target, command: "CLIENT TRACKING", timeout: millis })
          }),
          // The slot may be on its way to another server: the next one has another slot.
          Effect.tapError(() => Effect.sync(() => numbers.set(server.id, (numbers.get(server.id) ?? 0) + 1))),
          Effect.ensuring(Effect.sync(() => waiting.delete(key)))
        )
      })

    // --- What streams are told ---

    const settle = (listener: Listener): void => {
      const armed = nodes.size > 0 && listener.relies.size === nodes.size
      if (armed === listener.armed) return
      listener.armed = armed
      if (armed) listener.everArmed = true
      else invalidationOutages.unsafeUpdate(1, [])
      listener.mailbox.state(armed ? "armed" : "down")
    }

    /** Those without an armed connection of this server get one, when there is one that tracks all of theirs. */
    const adopt = (node: Node): void => {
      if (node.gone) return
      for (const listener of listeners) {
        if (listener.relies.has(node)) continue
        for (const connection of node.connections) {
          if (
            !connection.armed || !listener.prefixes.every((prefix) => startsWithAny(prefix, connection.prefixes))
          ) continue
          listener.relies.set(node, connection)
          break
        }
        settle(listener)
      }
    }

    /**
     * A stream relies on one connection, and hears them all: while one takes the place of another, each can be the first
     * that tells of a key.
     */
    const receive = (connection: Connection, keys: ReadonlyArray<string> | null): void => {
      const { node, probes } = connection
      if (connection.lost) return
      let told: ReadonlyArray<string> | null = keys
      if (keys !== null) {
        told = keys.filter((key) => !key.startsWith(reserved))
        if (told.length < keys.length) {
          for (const key of keys) {
            const arrived = probes.get(key)
            if (arrived !== undefined) Deferred.unsafeDone(arrived, Exit.void)
          }
        }
        if (told.length === 0) return
      }
      for (const listener of listeners) {
        if (!listener.armed || !listener.relies.has(node)) continue
        if (told === null) {
          listener.mailbox.all()
          continue
        }
        const own = told.filter((key) => startsWithAny(key, listener.prefixes))
        if (own.length > 0) listener.mailbox.keys(own.map((key) => key.slice(keyPrefix.length)))
      }
    }

    // --- Connections ---

    /** From here on it tells nothing; whoever relied on it is told so. */
    const lose = (connection: Connection): void => {
      if (connection.lost) return
      const { node } = connection
      connection.lost = true
      connection.armed = false
      node.connections.delete(connection)
      for (const listener of listeners) {
        if (listener.relies.get(node) !== connection) continue
        listener.relies.delete(node)
        settle(listener)
      }
      // The one that was to take its place anyway.
      adopt(node)
    }

    /** A stream that was armed goes on trying: what was allowed once may be so again. */
    const refuse = (error: RedisError): void => {
      for (const listener of Array.from(listeners)) {
        if (listener.everArmed) continue
        listeners.delete(listener)
        listener.mailbox.end(Exit.fail(Option.some(error)))
      }
    }

    /**
     * The connections before this one end when they have told all that this one can't know: what was changed before it
     * tracked. They have when they tell of a probe that was written since.
     */
    const replaceOthers = (connection: Connection): Effect.Effect<void> =>
      Effect.forEach(
        Array.from(connection.node.connections).filter((other) => other !== connection && other.armed),
        (other) =>
          Effect.matchEffect(check(other, heartbeat), {
            onFailure: () => Effect.sync(() => end(other)),
            onSuccess: () =>
              Effect.sync(() => {
                let needed = false
                for (const listener of listeners) {
                  if (listener.relies.get(other.node) !== other) continue
                  if (listener.prefixes.every((prefix) => startsWithAny(prefix, connection.prefixes))) {
                    listener.relies.set(other.node, connection)
                  } else needed = true
                }
                if (!needed) end(other)
              })
          }),
        { discard: true }
      )

    const end = (connection: Connection): void => {
      connection.retired = true
      lose(connection)
      connection.fiber?.unsafeInterruptAsFork(FiberId.none)
    }

    /**
     * One connection tracks and listens: it is told what it tracks itself. So none of two can be lost alone, and what
     * `CLIENT TRACKINGINFO` calls a broken redirection can't come about; whatever ends the tracking has ended the
     * connection too. Subscribing comes last, because in RESP2 it allows nothing else any more; for the same reason
     * other prefixes need another connection. Its name is in small letters, for ioredis.
     */
    const track = (
      send: Effect.Effect.Success<ReturnType<TrackedServer["connect"]>>,
      prefixes: ReadonlyArray<string>
    ): Effect.Effect<void, RedisError> =>
      Effect.gen(function*() {
        const id = String(yield* send("CLIENT", "ID"))
        const names = prefixes.flatMap((prefix) => ["PREFIX", prefix])
        yield* send("CLIENT", "TRACKING", "ON", "REDIRECT", id, "BCAST", ...names)
        yield* send("subscribe", INVALIDATE)
      })

    const live = (connection: Connection): Effect.Effect<void, RedisError> =>
      Effect.gen(function*() {
        const { node } = connection
        const down = yield* Deferred.make<never, RedisError>()
        yield* Effect.raceFirst(
          Effect.gen(function*() {
            const send = yield* node.server.connect({
              onKeys: (keys) => receive(connection, keys),
              onDown: () => {
                lose(connection)
                Deferred.unsafeDone(down, Exit.fail(unavailable("the connection was lost")))
              }
            })
            yield* track(send, connection.prefixes)
            yield* check(connection, timeout)
            if (connection.lost) return
            connection.armed = true
            connection.armedAt = yield* Clock.currentTimeMillis
            node.arming = undefined
            adopt(node)
            yield* Effect.fork(Effect.map(replaceOthers(connection), () => ensure(node)))
            while (true) {
              // After a restart of the server all clients begin at once, and each probe goes to all of them.
              yield* Effect.sleep(Math.ceil(heartbeat * (0.8 + (yield* Random.next) / 5)))
              if (nodes.values().next().value === node) tracker.refresh?.()
              yield* check(connection, heartbeat)
            }
          }),
          Deferred.await(down)
        )
      }).pipe(
        Effect.tapError((error) =>
          Effect.sync(() => {
            // Before the connection is closed, which may take a moment.
            lose(connection)
            if (isRefusal(error)) refuse(error)
          })
        ),
        Effect.scoped
      )

    /** Makes a connection unless there is one that tracks what is wanted, or will be soon. */
    const ensure = (node: Node): void => {
      if (closed || node.gone || node.pausing || node.arming !== undefined || listeners.size === 0) return
      const prefixes = wanted()
      // The newest one has taken the place of the others, or is about to.
      const newest = Array.from(node.connections).at(-1)
      if (newest !== undefined && same(newest.prefixes, prefixes)) return
      const connection: Connection = {
        node,
        prefixes,
        armed: false,
        armedAt: Infinity,
        lost: false,
        retired: false,
        probes: new Map(),
        fiber: undefined
      }
      node.arming = connection
      node.connections.add(connection)
      connection.fiber = run(
        node,
        Effect.ensuring(
          live(connection),
          Effect.map(Clock.currentTimeMillis, (now) => {
            lose(connection)
            if (node.arming === connection) node.arming = undefined
            if (now - connection.armedAt >= MAX_PAUSE) node.failures = 0
            if (!connection.retired) again(node)
          })
        )
      )
    }

    /** At once after a loss, and then more and more slowly. */
    const again = (node: Node): void => {
      if (closed || node.gone || node.pausing || listeners.size === 0) return
      const millis = node.failures === 0 ? 0 : Math.min(MAX_PAUSE, 50 * 2 ** Math.min(node.failures - 1, 6))
      node.failures++
      node.pausing = true
      run(
        node,
        Effect.zipRight(
          millis === 0 ?
            Effect.yieldNow() :
            Effect.flatMap(Random.next, (r) => Effect.sleep(Math.ceil(millis * (0.5 + r / 2)))),
          Effect.sync(() => {
            node.pausing = false
            refresh()
            ensure(node)
          })
        )
      )
    }

    // --- Servers ---

    /** A server that came or left takes keys from others or gives them some: everybody begins anew. */
    const refresh = (): void => {
      if (closed || listeners.size === 0) return
      const servers = new Map<string, TrackedServer>()
      for (const server of tracker.servers()) if (probeName(server) !== undefined) servers.set(server.id, server)
      let changed = false
      for (const [id, node] of nodes) {
        const server = servers.get(id)
        if (server === undefined) {
          changed = true
          node.gone = true
          nodes.delete(id)
          for (const fiber of node.fibers) fiber.unsafeInterruptAsFork(FiberId.none)
        } else node.server = server
      }
      for (const [id, server] of servers) {
        if (nodes.has(id)) continue
        changed = true
        nodes.set(id, {
          server,
          connections: new Set(),
          arming: undefined,
          pausing: false,
          failures: 0,
          gone: false,
          fibers: new Set()
        })
      }
      if (!changed) return
      for (const listener of listeners) {
        listener.relies.clear()
        settle(listener)
      }
      for (const node of nodes.values()) {
        ensure(node)
        adopt(node)
      }
    }

    /** Returns when all connections are closed. */
    const stop = Effect.suspend(() => {
      stopListening?.()
      stopListening = undefined
      const fibers = Array.from(nodes.values()).flatMap((node) => {
        node.gone = true
        return Array.from(node.fibers)
      })
      nodes.clear()
      return Fiber.interruptAll(fibers)
    })

    const add = (listener: Listener): void => {
      listeners.add(listener)
      if (stopListening === undefined) {
        stopListening = tracker.onChange(refresh)
        refresh()
        tracker.refresh?.()
      }
      for (const node of nodes.values()) {
        ensure(node)
        adopt(node)
      }
    }

    const remove = (listener: Listener): Effect.Effect<void> =>
      Effect.suspend(() => {
        listeners.delete(listener)
        if (listeners.size === 0) return stop
        for (const node of nodes.values()) ensure(node)
        return Effect.void
      })

    yield* Effect.addFinalizer(() =>
      Effect.suspend(() => {
        closed = true
        for (const listener of listeners) {
          if (listener.armed) listener.mailbox.state("down")
          listener.mailbox.end(Exit.fail(Option.none()))
        }
        listeners.clear()
        return stop
      })
    )

    return {
      stream: (prefixes, capacity) =>
        Stream.unwrapScoped(
          Effect.suspend(() => {
            if (closed) {
              return Effect.fail(
                new RedisConnectionError({ target, reason: "closed", detail: "the client was closed" })
              )
            }
            return Effect.map(
              Effect.acquireRelease(
                Effect.sync(() => {
                  const listener: Listener = {
                    prefixes: cover(prefixes.map(wellFormed)),
                    mailbox: new Mailbox(elements, capacity),
                    relies: new Map(),
                    armed: false,
                    everArmed: false
                  }
                  add(listener)
                  return listener
                }),
                remove
              ),
              (listener) => Stream.repeatEffectChunkOption(listener.mailbox.take)
            )
          })
        )
    }
  })
