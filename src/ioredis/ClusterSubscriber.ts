/**
 * The connections of a Cluster's client on which messages arrive: one to any node for channels and patterns, which every
 * node passes on, and one to each master that has shard channels of ours.
 */
import * as Effect from "effect/Effect"
import { Once } from "../internal/issued.js"
import { hashSlot } from "../internal/slot.js"
import type { DriverSubscriber, SubscriptionKind } from "../RedisClient.js"
import type { RedisError } from "../RedisError.js"
import type { Cluster, ClusterNode } from "./Cluster.js"
import { SingleCall } from "./clusterExecutor.js"
import type { Link } from "./Link.js"
import { type Request, SingleRequest } from "./Request.js"
import { deliver, verbs } from "./Subscriber.js"

/** A connection, until it is lost. */
interface Place {
  readonly link: Link
  readonly node: ClusterNode
  /** The shard channels on it. */
  readonly names: Set<string>
  wasUp: boolean
}

/** Subscribing twice is the same as once, so a lost confirmation is no reason to give up. */
class SubscribeCall extends SingleCall<void> {
  constructor(
    cluster: Cluster,
    verb: string,
    slot: number | undefined,
    names: ReadonlyArray<string>,
    readonly placeAt: (node: ClusterNode) => Link,
    resume: (effect: Effect.Effect<void, RedisError>) => void
  ) {
    super(cluster, slot, new Once(verb, names, "text", cluster.settings.commandTimeout, () => Effect.void), resume)
  }

  protected override submit(node: ClusterNode, request: Request): void {
    this.placeAt(node).submit(request)
  }

  override again(error: RedisError, node: ClusterNode): boolean {
    if (error._tag !== "RedisOutcomeUnknownError" || this.settled || this.left < 1) return super.again(error, node)
    this.cluster.wait(this, error)
    return true
  }
}

export const makeClusterSubscriber = (
  cluster: Cluster,
  links: Set<Link>
): DriverSubscriber => {
  let listener: Parameters<DriverSubscriber["listen"]>[0] | undefined
  let common: Place | undefined
  const shards = new Map<string, Place>()
  const placed = new Map<string, Place>()

  const forget = (place: Place): void => {
    links.delete(place.link)
    if (common === place) common = undefined
    if (shards.get(place.node.id) === place) shards.delete(place.node.id)
  }

  const open = (node: ClusterNode): Place => {
    const link = node.openOnce("subscriber")
    const place: Place = { link, node, names: new Set(), wasUp: false }
    links.add(link)
    deliver(link, (kind, name, channel, bytes) => listener?.onMessage(kind, name, channel, bytes))
    // A slot went away, and with it all of its channels. Version 5 of ioredis takes what the server says unasked for the
    // answer to the next command, and notices then that there is one answer too many.
    const drop = () => link.drop()
    link.on("moved", drop)
    link.on("error", (error: Error) => {
      if (error.message.startsWith("Command queue state error")) drop()
    })
    link.onUp = () => {
      place.wasUp = true
    }
    link.onEnded = () => {
      const wasCommon = common === place
      forget(place)
      for (const name of place.names) placed.delete(name)
      if (cluster.ended !== undefined) return
      cluster.suspect(node)
      // Nothing was subscribed there yet: whoever tries to looks for another place by himself.
      if (!place.wasUp) return
      cluster.refresh()
      const concerns = (kind: SubscriptionKind, name: string) => kind === "shard" ? place.names.has(name) : wasCommon
      listener?.onDown(concerns)
      listener?.onUp(concerns)
    }
    return place
  }

  cluster.onMapRead(() => {
    if (common !== undefined && !cluster.isMember(common.node)) common.link.drop()
    for (const [name, place] of placed) {
      const owner = cluster.owner(hashSlot(name))
      if (owner !== undefined && owner.id !== place.node.id) place.link.drop()
    }
  })

  const subscribeAll = (names: ReadonlyArray<string>, kind: "channel" | "pattern"): Effect.Effect<void, RedisError> =>
    Effect.async((resume) => {
      const place = (node: ClusterNode) => (common ??= open(node)).link
      const call = new SubscribeCall(cluster, verbs[kind][0], undefined, names, place, resume)
      call.dispatch()
      return call.cancel
    })

  /** All of one slot. */
  const subscribeShard = (names: ReadonlyArray<string>, slot: number): Effect.Effect<void, RedisError> =>
    Effect.async((resume) => {
      const placeAt = (node: ClusterNode) => {
        let place = shards.get(node.id)
        if (place === undefined) shards.set(node.id, place = open(node))
        for (const name of names) {
          placed.get(name)?.names.delete(name)
          placed.set(name, place)
          place.names.add(name)
        }
        return place.link
      }
      const call = new SubscribeCall(cluster, verbs.shard[0], slot, names, placeAt, resume)
      call.dispatch()
      return call.cancel
    })

  const unsubscribeAt = (place: Place | undefined, kind: SubscriptionKind, names: ReadonlyArray<string>) =>
    place === undefined || !place.link.isUp
      // Without a connection there is nothing left to undo: the next one starts without subscriptions.
      ? Effect.void
      : Effect.async<void, RedisError>((resume) =>
        place.link.submit(
          new SingleRequest(
            new Once(verbs[kind][1], names, "text", cluster.settings.commandTimeout, () => Effect.void),
            resume
          )
        )
      )

  /** A connection without shard channels is not kept. */
  const unsubscribeShard = (name: string): Effect.Effect<void, RedisError> =>
    Effect.suspend(() => {
      const place = placed.get(name)
      if (place === undefined) return Effect.void
      placed.delete(name)
      place.names.delete(name)
      return Effect.ensuring(
        unsubscribeAt(place, "shard", [name]),
        Effect.suspend(() => {
          if (place.names.size > 0 || shards.get(place.node.id) !== place) return Effect.void
          forget(place)
          return place.link.close
        })
      )
    })

  return {
    subscribe: (kind, names) => {
      if (kind !== "shard") return subscribeAll(names, kind)
      const slots = new Map<number, Array<string>>()
      for (const name of names) {
        const slot = hashSlot(name)
        const group = slots.get(slot)
        if (group === undefined) slots.set(slot, [name])
        else group.push(name)
      }
      return Effect.forEach(slots, ([slot, group]) => subscribeShard(group, slot), {
        concurrency: "unbounded",
        discard: true
      })
    },
    unsubscribe: (kind, names) =>
      kind === "shard"
        ? Effect.forEach(names, unsubscribeShard, { concurrency: "unbounded", discard: true })
        : Effect.suspend(() => unsubscribeAt(common, kind, names)),
    listen: (added) => {
      listener = added
    }
  }
}
