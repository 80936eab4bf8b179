/**
 * A whole driver over a Cluster.
 */
import * as Effect from "effect/Effect"
import type * as Schedule from "effect/Schedule"
import type * as Scope from "effect/Scope"
import { makeState } from "../internal/connectionState.js"
import { Once } from "../internal/issued.js"
import { hashSlot, SLOTS } from "../internal/slot.js"
import type { Driver, DriverConnection, DriverExecutor } from "../RedisClient.js"
import type { RedisError } from "../RedisError.js"
import { type Call, Cluster, type ClusterNode, type ClusterSettings } from "./Cluster.js"
import { makeClusterExecutor } from "./clusterExecutor.js"
import { makeClusterSubscriber } from "./ClusterSubscriber.js"
import { makeExecutor } from "./executor.js"
import type { Link } from "./Link.js"
import { makeReserved } from "./Reserved.js"
import { makeTracker } from "./Tracking.js"

/** Waits until somebody has the slot, or until there is any master. */
class OwnerCall implements Call {
  readonly issuedAt = performance.now()
  settled = false

  constructor(
    readonly cluster: Cluster,
    readonly slot: number | undefined,
    readonly timeout: number,
    readonly resume: (effect: Effect.Effect<ClusterNode, RedisError>) => void
  ) {}

  get left(): number {
    return this.timeout - (performance.now() - this.issuedAt)
  }

  dispatch(): void {
    const { cluster } = this
    const node = cluster.owner(this.slot)
    if (node !== undefined) {
      this.settled = true
      return this.resume(Effect.succeed(node))
    }
    cluster.refresh()
    cluster.wait(this, cluster.isKnown ? cluster.uncovered("CLUSTER") : cluster.unavailable(this.timeout, undefined))
  }

  fail(error: RedisError): void {
    this.settled = true
    this.resume(Effect.fail(error))
  }
}

export const makeClusterDriver = (
  options: ClusterSettings & {
    readonly keyPrefix: string
    readonly retry: Schedule.Schedule<unknown, unknown>
    /** Whether to read the map now, instead of with the first command. */
    readonly connect: boolean
  }
): Effect.Effect<Driver, RedisError, Scope.Scope> =>
  Effect.gen(function*() {
    const { commandTimeout } = options
    const state = makeState()
    /** All connections but those for commands. */
    const links = new Set<Link>()
    const cluster = yield* Effect.acquireRelease(
      Effect.sync(() => {
        const cluster = new Cluster(options)
        cluster.onState = state.set
        return cluster
      }),
      (cluster) =>
        Effect.suspend(() =>
          Effect.all(
            [cluster.close, Effect.forEach(links, (link) => link.close, { concurrency: "unbounded", discard: true })],
            { concurrency: "unbounded", discard: true }
          )
        )
    )
    if (options.connect) yield* cluster.connect

    const subscriber = makeClusterSubscriber(cluster, links)

    /** `error` is what went wrong before, and why to look again only after a pause. */
    const ownerOf = (slot: number | undefined, timeout: number, error?: RedisError) =>
      Effect.async<ClusterNode, RedisError>((resume) => {
        const call = new OwnerCall(cluster, slot, timeout, resume)
        if (error === undefined) call.dispatch()
        else cluster.wait(call, error)
        return Effect.sync(() => void (call.settled = true))
      })

    const closeLink = (link: Link) => Effect.zipRight(link.close, Effect.sync(() => links.delete(link)))

    const openLink = (node: Pick<ClusterNode, "open">): Effect.Effect<Link, RedisError> =>
      Effect.suspend(() => {
        if (cluster.ended !== undefined) return Effect.fail(cluster.ended)
        const link = node.open("reserved")
        links.add(link)
        return Effect.succeed(link)
      })

    const reserveAt = (node: ClusterNode): Effect.Effect<DriverConnection, RedisError, Scope.Scope> =>
      Effect.uninterruptibleMask((restore) =>
        Effect.gen(function*() {
          const link = yield* openLink(node)
          const id = yield* restore(Effect.zipRight(
            link.connect,
            makeExecutor(link, false).issue(
              new Once("CLIENT", ["ID"], "text", commandTimeout, (reply) => Effect.succeed(Number(reply)))
            )
          )).pipe(
            Effect.tapError(() => Effect.sync(() => cluster.suspect(node))),
            Effect.onError(() => closeLink(link))
          )
          yield* Effect.addFinalizer(() => closeLink(link))
          return makeReserved(link, node, id)
        })
      )

    /** A master that is gone may have been replaced within the time of a command. */
    const reserve = (slot: number | undefined): Effect.Effect<DriverConnection, RedisError, Scope.Scope> =>
      Effect.suspend(() => {
        const end = performance.now() + commandTimeout
        const attempt = (failed?: RedisError): Effect.Effect<DriverConnection, RedisError, Scope.Scope> =>
          ownerOf(slot, end - performance.now(), failed).pipe(
            Effect.flatMap(reserveAt),
            Effect.catchAll((error) =>
              error !== failed && cluster.mayRecover(error) && performance.now() < end
                ? attempt(error)
                : Effect.fail(error)
            )
          )
        return attempt()
      })

    /** Of one master, as long as it is one: what was begun there can't be continued elsewhere. */
    const executorOf = (node: Pick<ClusterNode, "id">): DriverExecutor =>
      makeExecutor({
        submit: (request) => {
          const master = cluster.masters().find((master) => master.id === node.id)
          if (master !== undefined) return master.submit(request)
          request.fail(cluster.ended ?? cluster.error("unavailable", `${node.id} is no master any more`))
          return undefined
        }
      }, true)

    const masters = Effect.map(ownerOf(undefined, commandTimeout), () => cluster.masters())

    const executor = makeClusterExecutor(cluster)

    return {
      ...executor,
      mode: "cluster",
      target: options.target,
      keyPrefix: options.keyPrefix,
      commandTimeout,
      retry: options.retry,
      state: state.changes,
      subscriber,
      tracker: makeTracker({
        topology: cluster,
        refresh: () => cluster.refresh(),
        // As other commands, so that a slot that has moved is noticed.
        writer: (node) => ({ executor, owns: (slot) => cluster.owner(slot)?.id === node.id }),
        open: openLink,
        close: closeLink
      }),
      reserve: (key) => reserve(key === undefined ? undefined : hashSlot(key)),
      masters: Effect.map(masters, (nodes) => nodes.map(executorOf)),
      check: Effect.flatMap(Effect.zipRight(cluster.read, masters), (nodes) =>
        cluster.covered < SLOTS
          ? Effect.fail(cluster.uncovered("CLUSTER"))
          : Effect.forEach(
            nodes,
            (node) => executorOf(node).issue(new Once("PING", [], "text", commandTimeout, () => Effect.void)),
            { concurrency: "unbounded", discard: true }
          ))
    }
  })
