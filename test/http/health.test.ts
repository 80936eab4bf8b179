import { HttpApiClient } from "@effect/platform"
import { assert, describe, it } from "@effect/vitest"
import { Effect, Redacted, Schedule } from "effect"
import { inject } from "vitest"
import * as Health from "../../src/http/Health.js"
import * as RedisTestServer from "../../src/RedisTestServer.js"
import * as FaultProxy from "../kit/FaultProxy.js"
import { liveWith, memory } from "../kit/layers.js"
import { Api, formNames, get, serving } from "./healthSuite.js"
import { whileTimePasses } from "./support.js"
import "../kit/globalSetup.js"

const untilHealthy = Effect.repeat(get, {
  until: ({ status }) => status === 200,
  schedule: Schedule.spaced("20 millis")
})

for (const form of formNames) {
  describe(`health as ${form}, when Redis is in trouble`, () => {
    it.effect("is 503 at its own deadline", () =>
      Effect.gen(function*() {
        const server = yield* RedisTestServer.RedisTestServer
        yield* server.inject(RedisTestServer.Fault.delay("1 hour", { command: "INFO" }))
        const { body, cache, status } = yield* whileTimePasses(serving(get, form, { timeout: "300 millis" }), 10)
        assert.strictEqual(status, 503)
        assert.strictEqual(cache, "no-store")
        assert.deepStrictEqual(body, {
          _tag: "Unhealthy",
          healthy: false,
          responseTimeMs: 300,
          error: "RedisTimeoutError"
        })
      }).pipe(Effect.provide(memory)))

    it.effect("is 503 when Redis answers with an error", () =>
      Effect.gen(function*() {
        const server = yield* RedisTestServer.RedisTestServer
        yield* server.inject(
          RedisTestServer.Fault.reply("NOPERM this user has no permissions: s3cret", { command: "INFO" })
        )
        const { body, status } = yield* serving(get, form)
        assert.strictEqual(status, 503)
        assert.strictEqual(body["error"], "RedisReplyError")
        assert.notInclude(JSON.stringify(body), "s3cret")
      }).pipe(Effect.provide(memory)))

    it.scopedLive("is 503 while Redis is away, says nothing of where it is, and comes back by itself", () =>
      Effect.gen(function*() {
        const url = new URL(inject("redisUrl"))
        const proxy = yield* FaultProxy.make({ host: url.hostname, port: Number(url.port || 6379) })
        url.hostname = proxy.host
        url.port = String(proxy.port)
        yield* Effect.gen(function*() {
          for (const trouble of [proxy.refuse, proxy.stall()]) {
            yield* untilHealthy
            yield* trouble
            const { body, status } = yield* get
            assert.strictEqual(status, 503)
            assert.deepStrictEqual(Object.keys(body).sort(), ["_tag", "error", "healthy", "responseTimeMs"])
            assert.notInclude(JSON.stringify(body), String(proxy.port))
            yield* Effect.zipRight(proxy.accept, proxy.resume)
          }
          yield* untilHealthy
        }).pipe(
          (effect) => serving(effect, form, { timeout: "300 millis" }),
          Effect.provide(liveWith({ url: Redacted.make(url.href) }))
        )
      }))
  })

  it.effect(`health as ${form} needs a deadline that means something`, () =>
    Effect.gen(function*() {
      const exit = yield* Effect.exit(serving(get, form, { timeout: 0 }))
      // An app has no moment at which it is built.
      if (form === "an app") assert.strictEqual(exit._tag === "Success" && exit.value.status, 500)
      else assert.include(String(exit), "timeout")
    }).pipe(Effect.provide(memory)))
}

it.effect("health is typed for the client of an API", () =>
  Effect.gen(function*() {
    const server = yield* RedisTestServer.RedisTestServer
    yield* Effect.gen(function*() {
      const client = yield* HttpApiClient.make(Api)
      const report = yield* client.health.check()
      assert.isTrue(report.healthy)
      assert.instanceOf(report, Health.Healthy)
      yield* server.inject(RedisTestServer.Fault.loading({ command: "INFO" }))
      const failure = yield* Effect.flip(client.health.check())
      assert.instanceOf(failure, Health.Unhealthy)
    }).pipe((effect) => serving(effect, "a group of an API"))
    // The same, without HTTP.
    assert.isTrue((yield* Health.check()).healthy)
  }).pipe(Effect.provide(memory)))
