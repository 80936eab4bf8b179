import { describe, it } from "@effect/vitest"
import { Effect, FastCheck } from "effect"
import { permitKeysOf, release } from "../../src/Lock/permitScripts.js"
import { RedisClient } from "../../src/RedisClient.js"
import * as Semaphore from "../../src/Semaphore/index.js"
import { conforms, steps } from "../Lock/permitModel.js"

const NAME = "model"

const asking = FastCheck.tuple(FastCheck.integer({ min: 1, max: 4 }), FastCheck.integer({ min: 0, max: 3 })).map(
  ([weight, more]) => ({ weight, limit: weight + more })
)

describe("Semaphore, whatever happens in whatever order", () => {
  it.effect.prop(
    "does what a plain model does",
    { steps: steps(asking, { downgrade: false }) },
    ({ steps }) =>
      conforms({
        make: Semaphore.make,
        acquire: (service, { fair, lease, limit, wait, weight }) =>
          service.acquire({ name: NAME, permits: limit }, weight, {
            lease,
            fair,
            renew: false,
            waitTimeout: wait ? "1 hour" : 0
          }),
        downgrade: () => Effect.void,
        inspect: (service) =>
          Effect.map(service.inspect({ name: NAME, permits: 1 }), ({ holders, waiters }) => ({
            holders: holders.map(({ permits, ...holder }) => ({ ...holder, weight: permits })),
            waiters
          })),
        force: (service, limit) => service.forceReleaseAll({ name: NAME, permits: limit }),
        look: (limit) =>
          Effect.flatMap(RedisClient, (client) =>
            client.eval(release, {
              keys: permitKeysOf("semaphore", NAME),
              owner: "nobody:0/1",
              limit,
              weight: 1,
              notices: { channel: "lock:process:", cluster: false }
            }))
      }, steps).pipe(Effect.provide(Semaphore.layerTest)),
    { fastCheck: { numRuns: 40 }, timeout: 120_000 }
  )
})
