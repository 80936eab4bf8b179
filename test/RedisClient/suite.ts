/**
 * What every driver of `RedisClient` must do. It runs unchanged on the live driver and on the server in memory.
 */
import { layer as withLayer } from "@effect/vitest"
import { Effect, type Layer } from "effect"
import { RedisClient } from "../../src/RedisClient.js"
import type { RedisError } from "../../src/RedisError.js"
import { commands } from "./contract/commands.js"
import { connections } from "./contract/connections.js"
import { dataTypes } from "./contract/dataTypes.js"
import { invalidations } from "./contract/invalidations.js"
import { keyspace } from "./contract/keyspace.js"
import { pubsub } from "./contract/pubsub.js"
import { makeTools, type Test } from "./contract/tools.js"
import { wire } from "./contract/wire.js"

export const suite = (
  name: string,
  layer: Layer.Layer<RedisClient, RedisError>,
  options: { readonly excludeTestServices?: boolean } = {}
): void => {
  withLayer(layer, options)(`RedisClient contract, ${name}`, (it) => {
    const test: Test = (name, body) =>
      it.scoped(
        name,
        () => Effect.flatMap(RedisClient, (client) => body(client, makeTools(options.excludeTestServices === true)))
      )
    commands(test)
    dataTypes(test)
    wire(test)
    keyspace(test)
    pubsub(test)
    invalidations(test)
    connections(test)
  })
}
