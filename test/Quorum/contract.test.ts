import { Context, Effect, Layer, Redacted } from "effect"
import { layer as redis } from "../../src/IoRedis.js"
import * as Quorum from "../../src/Quorum/index.js"
import { RedisClient } from "../../src/RedisClient.js"
import * as RealServer from "../kit/RealServer.js"
import { real, virtual } from "../kit/suites.js"
import { Clients, suite } from "./suite.js"

const memory = Layer.provideMerge(
  Layer.scoped(Clients, Effect.flatMap(Quorum.TestServers, Effect.forEach((server) => server.client()))),
  Quorum.layerTest
)

suite("in memory", memory, {}, virtual)

const live = Layer.orDie(Layer.unwrapScoped(Effect.gen(function*() {
  const servers = yield* Effect.replicateEffect(RealServer.start(), 5)
  const node = ({ url }: RealServer.Server) => redis({ url: Redacted.make(url) })
  const [first, ...others] = servers.map(node)
  const clients = Layer.scoped(
    Clients,
    Effect.forEach(servers, (server) => Effect.map(Layer.build(node(server)), Context.get(RedisClient)))
  )
  return Layer.merge(clients, Quorum.layer([first!, ...others]))
})))

suite("live", live, { excludeTestServices: true }, real)
