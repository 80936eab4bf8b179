/**
 * What several can hold at once, by permits.
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type { RedisError } from "../RedisError.js"
import type { Enter, Options as LockOptions, Settings } from "./Acquisition.js"
import * as Leases from "./Leases.js"
import type { Shared } from "./LockProcess.js"
import * as scripts from "./permitScripts.js"

/**
 * How permits are taken.
 *
 * @since 0.1.0
 * @category models
 */
export interface Options extends LockOptions {
  /**
   * Whether those who wait are served in the order of their arrival; `true` by default. With `false` it takes what is
   * free though others wait, who may then wait for long.
   */
  readonly fair?: boolean | undefined
}

export interface Claim extends Leases.Claim, scripts.PermitOwner {
  /** How many it holds or asks for. It can get less while it is held, with the next renewal or extension. */
  weight: number
}

/** Who holds permits. */
export interface Holder {
  readonly owner: string
  readonly weight: number
  readonly fencingToken: number
  readonly remaining: Duration.Duration
}

export interface Permits {
  readonly claim: (name: string, weight: number, limit: number, settings: Settings) => Claim
  readonly take: (claim: Claim, settings: Settings) => Enter<readonly [Leases.Lease]>
  /** Whether it was taken here. */
  readonly isOwn: (claim: Leases.Claim<unknown>) => boolean
  readonly inUse: (name: string) => Effect.Effect<number, RedisError>
  readonly inspect: (
    name: string
  ) => Effect.Effect<{ readonly holders: ReadonlyArray<Holder>; readonly waiters: number }, RedisError>
  /** Takes all permits back, and returns how many were held. */
  readonly forceRelease: (name: string, limit: number) => Effect.Effect<number, RedisError>
}

export const make = (
  kind: "semaphore" | "rwlock",
  { acquisition, client, leases, notices }: Shared
): Permits => {
  const authority = Leases.onServer<Claim>(client, {
    renewal: scripts.extend,
    release: scripts.release
  })
  const keysOf = (name: string): ReadonlyArray<string> => scripts.permitKeysOf(kind, name)
  return {
    claim: (name, weight, limit, { fair }) => ({
      authority,
      name,
      keys: keysOf(name),
      owner: scripts.ownerOf(leases.nextOwner(), weight, fair),
      limit,
      weight,
      notices
    }),
    take: (claim, settings) => (restore) =>
      acquisition.take({
        claim,
        settings,
        key: claim.keys[0]!,
        ask: (executor, wait) => executor.eval(scripts.acquire, claim, settings.lease, wait)
      }, restore),
    isOwn: (claim) => claim.authority === authority,
    inUse: (name) => client.eval(scripts.inUse, keysOf(name)),
    inspect: (name) =>
      Effect.map(client.eval(scripts.inspect, keysOf(name)), ({ holders, waiters }) => ({
        holders: holders.map(({ owner, remaining, token, weight }) => ({
          owner,
          weight,
          fencingToken: token,
          remaining: Duration.millis(remaining)
        })),
        waiters
      })),
    forceRelease: (name, limit) => client.eval(scripts.forceRelease, keysOf(name), limit, notices)
  }
}
