import { HttpServerResponse } from "@effect/platform"
import { assert, describe, it } from "@effect/vitest"
import { Duration, FastCheck as fc } from "effect"
import * as RateLimitHeaders from "../../src/http/RateLimitHeaders.js"
import type * as RateLimiter from "../../src/RateLimiter/index.js"

const tier = (fields: Partial<RateLimiter.TierDecision>): RateLimiter.TierDecision => ({
  allowed: true,
  policy: "default",
  limit: 100,
  window: Duration.minutes(1),
  remaining: 50,
  retryAfter: Duration.zero,
  resetAfter: Duration.seconds(30),
  satisfiable: true,
  ...fields
})

const decision = (
  fields: Partial<RateLimiter.Decision>,
  tiers: ReadonlyArray<RateLimiter.TierDecision> = [tier(fields)]
): RateLimiter.Decision => ({ ...tier(fields), source: fields.source ?? "redis", tiers })

const refused = (retryAfter: Duration.DurationInput, fields: Partial<RateLimiter.Decision> = {}) =>
  decision({ allowed: false, remaining: 0, retryAfter: Duration.decode(retryAfter), ...fields })

describe("the headers of a decision", () => {
  it("are those of the draft", () => {
    assert.deepStrictEqual(RateLimitHeaders.make(decision({}), "ietf", 0), {
      "ratelimit-policy": "\"default\";q=100;w=60",
      "ratelimit": "\"default\";r=50;t=30"
    })
  })

  it("have one member for each limit", () => {
    const tiers = [
      tier({ policy: "burst", limit: 10, window: Duration.seconds(1), remaining: 3, resetAfter: Duration.millis(700) }),
      tier({ policy: "day", limit: 1000, window: Duration.days(1), remaining: 850, resetAfter: Duration.hours(20) })
    ]
    assert.deepStrictEqual(RateLimitHeaders.make(decision(tiers[0]!, tiers), "ietf", 0), {
      "ratelimit-policy": "\"burst\";q=10;w=1, \"day\";q=1000;w=86400",
      "ratelimit": "\"burst\";r=3;t=1, \"day\";r=850;t=72000"
    })
  })

  it("are those that were there before, of the limit that matters most", () => {
    const headers = RateLimitHeaders.make(decision({ resetAfter: Duration.millis(2300) }), "legacy", 1_700_000_000_800)
    assert.deepStrictEqual(headers, {
      "x-ratelimit-limit": "100",
      "x-ratelimit-remaining": "50",
      "x-ratelimit-reset": "1700000004"
    })
    assert.sameMembers(Object.keys(RateLimitHeaders.make(decision({}), "both", 0)), [
      "ratelimit-policy",
      "ratelimit",
      "x-ratelimit-limit",
      "x-ratelimit-remaining",
      "x-ratelimit-reset"
    ])
    assert.deepStrictEqual(RateLimitHeaders.make(decision({}), "none", 0), {})
  })

  it("say when to come again, rounded up, of a refusal alone", () => {
    const after = (d: RateLimiter.Decision) => RateLimitHeaders.make(d, "none", 0)["retry-after"]
    assert.strictEqual(after(decision({ retryAfter: Duration.seconds(5) })), undefined)
    assert.strictEqual(after(refused("1 millis")), "1")
    assert.strictEqual(after(refused(0)), "1")
    assert.strictEqual(after(refused("1 second")), "1")
    assert.strictEqual(after(refused("1001 millis")), "2")
    assert.strictEqual(after(refused("3 days")), "259200")
    assert.strictEqual(after(refused(Duration.infinity, { satisfiable: false })), undefined)
  })

  it("say nothing of what is left when nothing is known of it", () => {
    assert.deepStrictEqual(RateLimitHeaders.make(decision({ source: "allowed-while-unavailable" }), "both", 0), {
      "ratelimit-policy": "\"default\";q=100;w=60",
      "x-ratelimit-limit": "100"
    })
  })

  it("are printable whatever a policy is called", () => {
    const named = (policy: string) => RateLimitHeaders.make(decision({ policy }), "ietf", 0)["ratelimit"]
    assert.strictEqual(named("a \"b\" \\c"), "\"a \\\"b\\\" \\\\c\";r=50;t=30")
    assert.strictEqual(named("é\r\nx: y"), "\"%C3%A9%0D%0Ax: y\";r=50;t=30")
    fc.assert(fc.property(fc.fullUnicodeString(), (policy) => {
      assert.match(named(policy)!, /^"([ !#-[\]-~]|\\"|\\\\)*";r=50;t=30$/)
    }))
    assert.match(named("\ud800")!, /^"%EF%BF%BD"/)
  })

  it("are whole numbers that a structured field can hold", () => {
    const headers = RateLimitHeaders.make(
      refused("10 seconds", {
        limit: Number.MAX_SAFE_INTEGER,
        remaining: -1,
        window: Duration.millis(250),
        resetAfter: Duration.infinity
      }),
      "both",
      0
    )
    assert.strictEqual(headers["ratelimit-policy"], "\"default\";q=999999999999999;w=1")
    assert.strictEqual(headers["ratelimit"], "\"default\";r=0")
    assert.strictEqual(headers["x-ratelimit-reset"], undefined)
  })

  it("are joined with those of another limiter", () => {
    const add = (response: HttpServerResponse.HttpServerResponse, name: string, remaining: number) =>
      RateLimitHeaders.addTo(
        response,
        RateLimitHeaders.make(decision({ policy: name, remaining, limit: remaining * 10 }), "both", 0)
      )
    for (const [first, second] of [[5, 7], [7, 5]] as const) {
      const { headers } = add(add(HttpServerResponse.text("hello"), "a", first), "b", second)
      assert.strictEqual(headers["ratelimit"], `"a";r=${first};t=30, "b";r=${second};t=30`)
      assert.strictEqual(headers["ratelimit-policy"], `"a";q=${first}0;w=60, "b";q=${second}0;w=60`)
      assert.strictEqual(headers["x-ratelimit-remaining"], "5")
      assert.strictEqual(headers["x-ratelimit-limit"], "50")
      assert.strictEqual(headers["content-type"], "text/plain")
    }
  })
})
