import { describe, it } from "@effect/vitest"
import { Effect, FastCheck, Option } from "effect"
import { permitKeysOf, release } from "../../src/Lock/permitScripts.js"
import * as ReadWriteLock from "../../src/ReadWriteLock/index.js"
import { RedisClient } from "../../src/RedisClient.js"
import { conforms, steps } from "../Lock/permitModel.js"

const NAME = "model"

/** A read-write lock is so many permits, of which a writer has all. */
const ALL = 1_000_000_000

const asking = FastCheck.boolean().map((writes) => ({ weight: writes ? ALL : 1, limit: ALL }))

describe("ReadWriteLock, whatever happens in whatever order", () => {
  it.effect.prop(
    "does what a plain model does",
    { steps: steps(asking, { downgrade: true }) },
    ({ steps }) =>
      conforms({
        make: ReadWriteLock.make,
        acquire: (service, { fair, lease, wait, weight }) =>
          (weight === ALL ? service.acquireWrite : service.acquireRead)(NAME, {
            lease,
            fair,
            renew: false,
            waitTimeout: wait ? "1 hour" : 0
          }),
        downgrade: (held) => (held as ReadWriteLock.WriteHeld).downgrade,
        inspect: (service) =>
          Effect.map(service.inspect(NAME), ({ readers, waiters, writer }) => ({
            holders: [...Option.toArray(writer), ...readers].map(({ fencingToken, remaining }) => ({
              fencingToken,
              remaining,
              weight: Option.isSome(writer) ? ALL : 1
            })),
            waiters
          })),
        force: (service) => service.forceRelease(NAME),
        look: (limit) =>
          Effect.flatMap(RedisClient, (client) =>
            client.eval(release, {
              keys: permitKeysOf("rwlock", NAME),
              owner: "nobody:0/1",
              limit: Math.max(limit, ALL),
              weight: 1,
              notices: { channel: "lock:process:", cluster: false }
            }))
      }, steps).pipe(Effect.provide(ReadWriteLock.layerTest)),
    { fastCheck: { numRuns: 40 }, timeout: 120_000 }
  )
})
