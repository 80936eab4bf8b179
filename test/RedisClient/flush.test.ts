/**
 * `flushDb` takes everything, so it gets a server of its own.
 */
import { it } from "@effect/vitest"
import { Effect, Layer, Redacted } from "effect"
import { layer as redis } from "../../src/IoRedis.js"
import { RedisClient } from "../../src/RedisClient.js"
import { memory } from "../kit/layers.js"
import * as RealServer from "../kit/RealServer.js"
import { gives } from "./contract/tools.js"

const live = Layer.unwrapScoped(
  Effect.map(RealServer.start(), ({ url }) => redis({ url: Redacted.make(url), keyPrefix: "test:" }))
)

for (const [name, layer] of [["in memory", memory], ["live", live]] as const) {
  it.effect(`flushDb removes every key, also those of others (${name})`, () =>
    Effect.gen(function*() {
      const client = yield* RedisClient
      yield* client.set("a", 1)
      yield* client.send("SET", "outside of the prefix", 1)
      yield* gives(client.dbSize, 2)
      yield* client.flushDb
      yield* gives(client.dbSize, 0)
      yield* gives(client.exists("a"), 0)
    }).pipe(Effect.provide(Layer.fresh(layer))))
}
