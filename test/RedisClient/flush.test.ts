/**
 * `flushDb` takes everything, so it gets a database that nobody else uses.
 */
import { it } from "@effect/vitest"
import { Effect, Layer } from "effect"
import { RedisClient } from "../../src/RedisClient.js"
import { liveWith, memory } from "../kit/layers.js"
import { gives } from "./contract/tools.js"

const drivers = [["in memory", memory], ["live", liveWith({ db: 9 })]] as const

for (const [name, layer] of drivers) {
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
