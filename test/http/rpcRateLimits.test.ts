import { assert, it } from "@effect/vitest"
import { Cause, Effect, Exit, Logger } from "effect"
import * as RateLimiter from "../../src/RateLimiter/index.js"
import * as RedisTestServer from "../../src/RedisTestServer.js"
import { policyOf } from "./rateLimitsSuite.js"
import { client, serving } from "./rpcRateLimitsSuite.js"
import { whileTimePasses } from "./support.js"

const quiet = Logger.remove(Logger.defaultLogger)

it.effect("procedures fail with a typed error when Redis is away, unless the policy knows better", () =>
  Effect.forEach([undefined, "allow", "local"] as const, (onUnavailable) =>
    Effect.gen(function*() {
      const server = yield* RedisTestServer.RedisTestServer
      yield* server.inject(RedisTestServer.Fault.failBeforeSend({ times: 10_000 }))
      const books = yield* client
      const results = yield* Effect.all(Array.from({ length: 5 }, () => Effect.either(books.List())))
      const failures = results.flatMap((result) => result._tag === "Left" ? [result.left] : [])
      assert.lengthOf(failures, onUnavailable === undefined ? 5 : onUnavailable === "allow" ? 0 : 2)
      for (const failure of failures) {
        assert.strictEqual(failure._tag, onUnavailable === undefined ? "RateLimitUnavailable" : "TooManyRequests")
      }
    }).pipe(
      (effect) => serving(effect, policyOf(3, { onUnavailable })),
      whileTimePasses,
      Effect.provide(RateLimiter.layerTest),
      Effect.provide(quiet)
    )))

it.effect("procedures with a policy that means nothing are broken", () =>
  Effect.gen(function*() {
    const exit = yield* Effect.exit(Effect.flatMap(client, (books) => books.List()))
    assert.isTrue(Exit.isFailure(exit) && Cause.isDie(exit.cause), String(exit))
  }).pipe(
    (effect) => serving(effect, policyOf(0)),
    Effect.provide(RateLimiter.layerTest),
    Effect.provide(quiet)
  ))
