/**
 * Runs a recipe, on the server in memory or on the one at `REDIS_URL`:
 *
 *     npm run recipe -- leaderboard
 */
import { HttpServer } from "@effect/platform"
import { NodeHttpServer, NodeRuntime } from "@effect/platform-node"
import { Config, Console, Effect, Layer } from "effect"
import { RedisLive, RedisTest } from "effect-redis-kit"
import { createServer } from "node:http"
import * as ApiRateLimits from "./api-rate-limits.js"
import * as Authentication from "./authentication.js"
import * as CacheWithFallback from "./cache-with-fallback.js"
import * as JobQueue from "./job-queue.js"
import * as Leaderboard from "./leaderboard.js"

const Redis = process.env.REDIS_URL === undefined ? RedisTest : RedisLive

const Server = NodeHttpServer.layerConfig(createServer, {
  port: Config.withDefault(Config.integer("PORT"), 3000),
  host: Config.succeed("127.0.0.1")
})

const accounts = Authentication.Accounts.layerOf([
  { id: "1", email: "ada@example.com", roles: ["admin"], password: "correct horse" }
])

/** It prints what it sends. Busy's mailbox never takes anything. */
const mailer = Layer.succeed(JobQueue.Mailer, {
  send: ({ subject, to }) => to.startsWith("busy") ? new JobQueue.MailboxBusy() : Console.log(`to ${to}: ${subject}`)
})

const catalogue = Layer.sync(CacheWithFallback.Catalogue, () => {
  const prices = new Map([["lamp", 20]])
  const find = (id: string) =>
    Effect.suspend(() => {
      const price = prices.get(id)
      return price === undefined
        ? new CacheWithFallback.NoSuchProduct({ id })
        : Effect.succeed(new CacheWithFallback.Product({ id, name: id, price }))
    })
  return {
    find: (id) => Effect.zipRight(Console.log(`looking up ${id}`), find(id)),
    setPrice: (id, price) => Effect.map(find(id), () => void prices.set(id, price))
  }
})

const recipes: Readonly<Record<string, Effect.Effect<void, unknown>>> = {
  "api-rate-limits": Layer.launch(
    HttpServer.serve(ApiRateLimits.app).pipe(HttpServer.withLogAddress, Layer.provide([Server, Redis]))
  ),
  authentication: Layer.launch(
    HttpServer.serve(Authentication.app).pipe(HttpServer.withLogAddress, Layer.provide([Server, Redis, accounts]))
  ),
  leaderboard: Effect.provide(Leaderboard.program, Redis),
  "job-queue": Effect.provide(JobQueue.program, [Redis, mailer]),
  "cache-with-fallback": Effect.provide(CacheWithFallback.program, [Redis, catalogue])
}

const chosen = recipes[process.argv[2] ?? ""]

NodeRuntime.runMain(chosen ?? Console.log(`npm run recipe -- ${Object.keys(recipes).join(" | ")}`))
