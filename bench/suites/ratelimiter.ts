/**
 * Rate limits beside rate-limiter-flexible and the limiter of `@effect/experimental`, on a thousand identifiers.
 */
import * as Experimental from "@effect/experimental/RateLimiter"
import * as ExperimentalRedis from "@effect/experimental/RateLimiter/Redis"
import { Context, Effect, Layer, Redacted, Runtime } from "effect"
import * as IoRedis from "effect-redis-kit/IoRedis"
import * as RateLimiter from "effect-redis-kit/RateLimiter"
import { randomBytes } from "node:crypto"
import { type Case, fibers, type Measure, promises } from "../harness.js"
import * as Peers from "../peers.js"
import { connect, PREFIX, Server } from "../server.js"

const IDS = 1000
const ids = Array.from({ length: IDS }, (_, i) => `user:${i}`)
const idOf = (n: number): string => ids[n % IDS]!

/** Nobody reaches it. */
const PLENTY = 50_000_000

/** A minute, in which whoever has one turn has had it. */
const SECONDS = 60

const context = Effect.flatMap(Server, ({ url }) =>
  Layer.build(
    Layer.provideMerge(
      RateLimiter.layer,
      IoRedis.layer({ url: Redacted.make(url), keyPrefix: PREFIX })
    )
  ))

const experimental = Effect.flatMap(Server, ({ url }) => {
  const { hostname, port } = new URL(url)
  const store = ExperimentalRedis.layerStore({ host: hostname, port: Number(port), prefix: `${PREFIX}experimental:` })
  return Effect.map(
    Layer.build(Layer.provide(Experimental.layer, store)),
    (context) => Context.get(context, Experimental.RateLimiter)
  )
})

const flexible = (redis: object, name: string, points: number) =>
  new (Peers.rateLimiterFlexible().RateLimiterRedis)({
    storeClient: redis,
    keyPrefix: `${PREFIX}flexible:${name}`,
    points,
    duration: SECONDS
  })

const measure = (name: string, ratio: number): Measure => ({
  name,
  unit: "op/s",
  better: "higher",
  target: { ratio }
})

/** What a use costs that is allowed. */
const accept: Case = {
  measures: [measure("ratelimiter.accept.100", 0.8)],
  contenders: Effect.gen(function*() {
    const limiter = Context.get(yield* context, RateLimiter.RateLimiter)
    const policy = RateLimiter.policy({ name: "accept", limit: PLENTY, window: "1 minute" })
    const fixed = RateLimiter.policy({ ...policy, algorithm: "fixed-window" })
    const sliding = RateLimiter.policy({ ...policy, algorithm: "sliding-window" })
    const peer = flexible(yield* connect(), "accept", PLENTY)
    const effects = yield* experimental
    return [
      { name: "ours", slice: fibers(100, (n) => limiter.consume(policy, idOf(n))) },
      { name: "rate-limiter-flexible", slice: promises(100, (n) => peer.consume(idOf(n))) },
      { name: "ours, fixed window", slice: fibers(100, (n) => limiter.consume(fixed, idOf(n))) },
      { name: "ours, sliding window", slice: fibers(100, (n) => limiter.consume(sliding, idOf(n))) },
      {
        name: "@effect/experimental",
        slice: fibers(100, (n) => effects.consume({ key: idOf(n), limit: PLENTY, window: "1000000000 millis" }))
      }
    ]
  })
}

const acceptEffect: Case = {
  measures: [measure("ratelimiter.accept.100.effect", 0.95)],
  contenders: Effect.gen(function*() {
    const limiter = Context.get(yield* context, RateLimiter.RateLimiter)
    const policy = RateLimiter.policy({ name: "effect", limit: PLENTY, window: "1 minute" })
    const effects = yield* experimental
    return [
      { name: "ours", slice: fibers(100, (n) => limiter.consume(policy, idOf(n))) },
      {
        name: "@effect/experimental",
        slice: fibers(100, (n) => effects.consume({ key: idOf(n), limit: PLENTY, window: "1000000000 millis" }))
      }
    ]
  })
}

/** As a handler of another framework does it: each use is run by itself. */
const acceptPromise: Case = {
  measures: [measure("ratelimiter.accept.100.promise", 1.5)],
  contenders: Effect.gen(function*() {
    const limiter = Context.get(yield* context, RateLimiter.RateLimiter)
    const policy = RateLimiter.policy({ name: "promise", limit: PLENTY, window: "1 minute" })
    const effects = yield* experimental
    const run = Runtime.runPromise(yield* Effect.runtime())
    return [
      { name: "ours", slice: promises(100, (n) => run(limiter.consume(policy, idOf(n)))) },
      {
        name: "@effect/experimental",
        slice: promises(
          100,
          (n) => run(effects.consume({ key: idOf(n), limit: PLENTY, window: "1000000000 millis" }))
        )
      }
    ]
  })
}

/** What a use costs that is refused: the one that matters under attack. */
const reject: Case = {
  measures: [measure("ratelimiter.reject.100", 4)],
  contenders: Effect.gen(function*() {
    const limiter = Context.get(yield* context, RateLimiter.RateLimiter)
    const policy = RateLimiter.policy({ name: "reject", limit: 1, window: "1 hour" })
    const remembering = RateLimiter.policy({ ...policy, name: "remembering", blockCache: true })
    const peer = flexible(yield* connect(), "reject", 1)
    const effects = yield* experimental
    const once = (n: number) => Effect.ignore(effects.consume({ key: `reject:${idOf(n)}`, limit: 1, window: "1 hour" }))
    for (let n = 0; n < IDS; n++) {
      yield* limiter.consume(policy, idOf(n))
      yield* limiter.consume(remembering, idOf(n))
      yield* once(n)
    }
    return [
      { name: "ours", slice: fibers(100, (n) => limiter.consume(policy, idOf(n))) },
      { name: "@effect/experimental", slice: fibers(100, once) },
      { name: "ours, remembered", slice: fibers(100, (n) => limiter.consume(remembering, idOf(n))) },
      { name: "rate-limiter-flexible", slice: promises(100, (n) => peer.consume(idOf(n)).catch(() => undefined)) }
    ]
  })
}

/** Three limits of one identifier at once. */
const tiers: Case = {
  measures: [measure("ratelimiter.tiers3", 1.8)],
  contenders: Effect.gen(function*() {
    const limiter = Context.get(yield* context, RateLimiter.RateLimiter)
    const policies = ["second", "minute", "hour"].map((name) =>
      RateLimiter.policy({ name, limit: name === "second" ? 1_000_000 : PLENTY, window: `1 ${name}` as "1 second" })
    )
    const redis = yield* connect()
    const { RateLimiterUnion } = Peers.rateLimiterFlexible()
    const union = new RateLimiterUnion(
      flexible(redis, "second", PLENTY),
      flexible(redis, "minute", PLENTY),
      flexible(redis, "hour", PLENTY)
    )
    return [
      { name: "ours", slice: fibers(100, (n) => limiter.consume(policies, idOf(n))) },
      { name: "rate-limiter-flexible", slice: promises(100, (n) => union.consume(idOf(n))) }
    ]
  })
}

/** What an identifier takes on the server, in the names that users have: no prefix of the benchmarks stands before them. */
const memory: Case = {
  measures: [{ name: "ratelimiter.memory", unit: "B", better: "lower", target: { absolute: 80 } }],
  contenders: Effect.gen(function*() {
    const { url } = yield* Server
    const layer = Layer.provide(RateLimiter.layer, IoRedis.layer({ url: Redacted.make(url) }))
    const limiter = Context.get(yield* Layer.build(layer), RateLimiter.RateLimiter)
    const policy = RateLimiter.policy({ name: "api", limit: 100, window: "1 minute" })
    const redis = yield* connect()
    const peer = new (Peers.rateLimiterFlexible().RateLimiterRedis)({
      storeClient: redis,
      keyPrefix: "api",
      points: 100,
      duration: SECONDS
    })
    /** Nobody else has these. */
    const id = randomBytes(4).toString("hex")
    /** Of the one key that has the identifier in its name, which is removed. */
    const bytes = Effect.promise(async () => {
      let used = NaN
      for await (const keys of redis.scanStream({ match: `*${id}*`, count: 1000 })) {
        for (const key of keys as ReadonlyArray<string>) {
          used = await redis.memory("USAGE", key) ?? NaN
          await redis.unlink(key)
        }
      }
      return [used]
    })
    return [
      { name: "ours", slice: () => Effect.zipRight(limiter.consume(policy, id), bytes) },
      {
        name: "rate-limiter-flexible",
        slice: () => Effect.zipRight(Effect.promise(() => peer.consume(id)), bytes)
      }
    ]
  })
}

export const cases: ReadonlyArray<Case> = [accept, acceptEffect, acceptPromise, reject, tiers, memory]
