/**
 * A week passes in a unit test: the server in memory lives on Effect's clock.
 */
import { Console, Effect, Layer, Option, TestClock, TestContext } from "effect"
import { RedisClient, RedisTest } from "effect-redis-kit"

const remember = (user: string) =>
  Effect.flatMap(RedisClient.RedisClient, (redis) => redis.set("session", user, { ttl: "7 days" }))

const test = Effect.gen(function*() {
  const redis = yield* RedisClient.RedisClient
  yield* remember("ada")
  yield* TestClock.adjust("6 days")
  const before = yield* redis.get("session")
  yield* TestClock.adjust("1 day")
  const after = yield* redis.get("session")
  return { before: Option.getOrNull(before), after: Option.getOrNull(after) }
}).pipe(Effect.provide(Layer.provideMerge(RedisTest, TestContext.TestContext)))

const started = performance.now()
const { after, before } = await Effect.runPromise(test)
const took = Math.round(performance.now() - started)
await Effect.runPromise(Console.log(`after 6 days: ${before}, after 7 days: ${after}; it took ${took} ms`))
