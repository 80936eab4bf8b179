/**
 * What the locks of one process share, that is of one built layer: the channel on which it is notified, and the renewal
 * of its leases.
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type * as Scope from "effect/Scope"
import { RedisClient, type Service as Client } from "../RedisClient.js"
import * as Acquisition from "./Acquisition.js"
import * as Leases from "./Leases.js"
import { CHANNEL, type Notices } from "./scripts.js"
import * as Waiters from "./Waiters.js"

export interface Shared {
  readonly client: Client
  readonly leases: Leases.Leases
  readonly acquisition: Acquisition.Acquisition
  readonly notices: Notices
}

export class LockProcess extends Context.Tag("effect-redis-kit/Lock/LockProcess")<LockProcess, Shared>() {}

export const make: Effect.Effect<Shared, never, RedisClient | Scope.Scope> = Effect.gen(function*() {
  const client = yield* RedisClient
  const leases = yield* Leases.make
  const waiters = yield* Waiters.make(client, leases)
  return {
    client,
    leases,
    acquisition: Acquisition.make(client, leases, waiters),
    notices: { channel: client.key(CHANNEL), cluster: client.mode === "cluster" }
  }
})

/** A constant, so that the locks that are built together share one. */
export const layer: Layer.Layer<LockProcess, never, RedisClient> = Layer.scoped(LockProcess, make)
