import { assert, it } from "@effect/vitest"
import autocannon from "autocannon"
import { Effect, Layer, Redacted } from "effect"
import { spawn } from "node:child_process"
import { once } from "node:events"
import { fileURLToPath } from "node:url"
import { inject } from "vitest"
import { layer } from "../../src/IoRedis.js"
import * as RateLimiter from "../../src/RateLimiter/index.js"
import { RedisClient } from "../../src/RedisClient.js"
import { isolated } from "../../src/testing.js"
import { viteNode } from "../kit/viteNode.js"
import "../kit/globalSetup.js"

const example = fileURLToPath(new URL("../../examples/http-rate-limits.ts", import.meta.url))

/** That of the example. */
const PerMinute = RateLimiter.policy({ name: "per-minute", limit: 60, window: "1 minute", algorithm: "sliding-window" })

/** The example, in a process of its own; its address. */
const running = (keyPrefix: string) =>
  Effect.gen(function*() {
    const child = yield* Effect.acquireRelease(
      Effect.sync(() =>
        spawn(process.execPath, [...viteNode, example], {
          env: { ...process.env, PORT: "0", REDIS_URL: inject("redisUrl"), REDIS_KEY_PREFIX: keyPrefix },
          stdio: ["ignore", "pipe", "inherit"]
        })
      ),
      (child) =>
        Effect.promise(async () => {
          const ended = once(child, "exit")
          if (child.exitCode === null && child.signalCode === null && child.kill("SIGTERM")) await ended
        })
    )
    return yield* Effect.async<string>((resume) => {
      let text = ""
      child.stdout.on("data", (chunk) => {
        text += String(chunk)
        const found = /http:\/\/127\.0\.0\.1:\d+(?=\s)/.exec(text)
        if (found !== null) resume(Effect.succeed(found[0]))
      })
    })
  })

interface Seen {
  readonly status: number
  readonly headers: Readonly<Record<string, string>>
}

/** Sends so many requests, and returns what each response said. */
const fire = (url: string, amount: number, headers: Readonly<Record<string, string>> = {}) =>
  Effect.promise(async () => {
    const seen: Array<Seen> = []
    const result = await autocannon({
      url,
      amount,
      connections: 20,
      headers,
      setupClient: (client) => {
        client.on(
          "headers",
          ({ headers: list, statusCode }: { statusCode: number; headers: ReadonlyArray<string> }) => {
            const headers: Record<string, string> = {}
            for (let i = 0; i < list.length; i += 2) headers[list[i]!.toLowerCase()] = list[i + 1]!
            seen.push({ status: statusCode, headers })
          }
        )
      }
    })
    assert.deepInclude(result, { errors: 0, timeouts: 0 })
    assert.strictEqual(result["2xx"] + result.non2xx, amount)
    assert.lengthOf(seen, amount)
    return seen
  })

const remaining = ({ headers }: Seen) => Number(headers["x-ratelimit-remaining"])

/** Exactly `passed` of them, each with another number of what is left. */
const assertLimited = (seen: ReadonlyArray<Seen>, limit: number, passed: number, left: number, cost = 1) => {
  const ok = seen.filter(({ status }) => status === 200)
  const refused = seen.filter(({ status }) => status === 429)
  assert.strictEqual(ok.length + refused.length, seen.length)
  assert.lengthOf(ok, passed)
  assert.deepStrictEqual(
    ok.map(remaining).toSorted((a, b) => b - a),
    Array.from({ length: passed }, (_, i) => left - cost * (i + 1))
  )
  for (const each of seen) {
    assert.strictEqual(each.headers["ratelimit-policy"], `"per-minute";q=${limit};w=60`)
    assert.strictEqual(each.headers["x-ratelimit-limit"], String(limit))
    const member = /^"per-minute";r=(\d+);t=(\d+)$/.exec(each.headers["ratelimit"] ?? "")
    assert.strictEqual(Number(member?.[1]), remaining(each))
    assert.isAtMost(Number(member?.[2]), 60)
    assert.strictEqual(each.headers["retry-after"] !== undefined, each.status === 429)
  }
  for (const { headers } of refused) assert.isAtMost(Number(headers["retry-after"]), 60)
}

it.scopedLive("the example under load lets exactly as many through as it says", () => {
  let prefix = ""
  const Client = isolated((keyPrefix) => {
    prefix = keyPrefix
    return layer({ url: Redacted.make(inject("redisUrl")), keyPrefix })
  })
  return Effect.gen(function*() {
    yield* RedisClient
    const url = yield* running(prefix)
    const used = (id: string) => RateLimiter.count(PerMinute, id)

    assertLimited(yield* fire(`${url}/books`, 150), 60, 60, 60)
    assert.strictEqual(yield* used("address:127.0.0.1"), 60)

    // Everybody has a budget of their own, and an address that is made up is nobody's.
    const ada = { authorization: "Bearer ada", "x-forwarded-for": "203.0.113.7" }
    assertLimited(yield* fire(`${url}/books`, 250, ada), 300, 250, 300)
    assert.strictEqual(yield* used("user:ada"), 250)
    assertLimited(yield* fire(`${url}/search?text=redis`, 40, ada), 300, 5, 50, 10)
    assert.strictEqual(yield* used("user:ada"), 300)

    const grace = { authorization: "Bearer grace" }
    assertLimited(yield* fire(`${url}/search?text=redis`, 150, grace), 1000, 100, 1000, 10)
    assert.strictEqual(yield* used("user:grace"), 1000)

    const health = yield* fire(`${url}/health`, 20)
    for (const { headers, status } of health) assert.deepStrictEqual([status, headers["ratelimit"]], [200, undefined])
  }).pipe(Effect.provide(Layer.provideMerge(RateLimiter.layer, Client)))
}, 60_000)
