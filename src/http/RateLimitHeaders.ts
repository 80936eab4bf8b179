/**
 * What a decision of the rate limiter says, as headers of a response.
 *
 * @see https://datatracker.ietf.org/doc/draft-ietf-httpapi-ratelimit-headers/
 *
 * @since 0.1.0
 */
import * as HttpServerResponse from "@effect/platform/HttpServerResponse"
import * as Duration from "effect/Duration"
import type { Decision } from "../RateLimiter/RateLimiter.js"

// ---------------------------------------------------------------------------------------------------------------------
// Models
// ---------------------------------------------------------------------------------------------------------------------

/**
 * - `"ietf"`: `RateLimit-Policy: "name";q=100;w=60` and `RateLimit: "name";r=50;t=30`, with one member for each limit
 * - `"legacy"`: `X-RateLimit-Limit`, `X-RateLimit-Remaining` and `X-RateLimit-Reset` (in seconds since 1970), of the limit
 *   that matters most
 * - `"both"`, or `"none"` of them
 *
 * A refusal comes with `Retry-After` in any case.
 *
 * @since 0.1.0
 * @category models
 */
export type Style = "ietf" | "legacy" | "both" | "none"

/**
 * By their names in small letters.
 *
 * @since 0.1.0
 * @category models
 */
export type RateLimitHeaders = Readonly<Record<string, string>>

// ---------------------------------------------------------------------------------------------------------------------
// Constructors
// ---------------------------------------------------------------------------------------------------------------------

/** Structured fields have no larger number. */
const MOST = 999_999_999_999_999

const integer = (n: number): number => Math.min(MOST, Math.max(0, Math.floor(n)))

/** Whole seconds, rounded up: who comes then does not come too early. */
const seconds = (duration: Duration.Duration): number => integer(Math.ceil(Duration.toMillis(duration) / 1000))

const UNPRINTABLE = /[^\x20-\x7e]/gu

const encoder = new TextEncoder()

const percent = (character: string): string =>
  Array.from(encoder.encode(character), (byte) => `%${byte.toString(16).padStart(2, "0").toUpperCase()}`).join("")

/** A string of a structured field is printable ASCII; everything else is written as in a URL. */
const string = (text: string): string => `"${text.replace(/["\\]/g, "\\$&").replace(UNPRINTABLE, percent)}"`

/**
 * After how many seconds a refused request may come again; `undefined` for one that was not refused, and for one that will
 * always be.
 *
 * @since 0.1.0
 * @category accessors
 */
export const retryAfterSeconds = ({ allowed, retryAfter, satisfiable }: Decision): number | undefined =>
  allowed || !satisfiable || !Duration.isFinite(retryAfter) ? undefined : Math.max(1, seconds(retryAfter))

/**
 * The headers of a decision. `now`, in milliseconds since 1970, is for `X-RateLimit-Reset`.
 *
 * When Redis did not answer and the request was let through, nothing is known of what is left, and nothing is said of it.
 *
 * @example
 * ```ts
 * import { Clock, Effect } from "effect"
 * import { RateLimiter } from "effect-redis-kit"
 * import { RateLimitHeaders } from "effect-redis-kit/http"
 *
 * const Api = RateLimiter.policy({ name: "api", limit: 60, window: "1 minute" })
 *
 * const headers = Effect.zipWith(
 *   RateLimiter.consume(Api, "user-42"),
 *   Clock.currentTimeMillis,
 *   (decision, now) => RateLimitHeaders.make(decision, "both", now)
 * )
 * ```
 *
 * @since 0.1.0
 * @category constructors
 */
export const make = (decision: Decision, style: Style, now: number): RateLimitHeaders => {
  const headers: Record<string, string> = {}
  const known = decision.source !== "allowed-while-unavailable"
  if (style === "ietf" || style === "both") {
    const { tiers } = decision
    headers["ratelimit-policy"] = tiers
      .map(({ limit, policy, window }) => `${string(policy)};q=${integer(limit)};w=${seconds(window)}`)
      .join(", ")
    if (known) {
      headers["ratelimit"] = tiers
        .map(({ policy, remaining, resetAfter }) => {
          const member = `${string(policy)};r=${integer(remaining)}`
          return Duration.isFinite(resetAfter) ? `${member};t=${seconds(resetAfter)}` : member
        })
        .join(", ")
    }
  }
  if (style === "legacy" || style === "both") {
    headers["x-ratelimit-limit"] = String(integer(decision.limit))
    if (known) {
      headers["x-ratelimit-remaining"] = String(integer(decision.remaining))
      if (Duration.isFinite(decision.resetAfter)) {
        headers["x-ratelimit-reset"] = String(Math.ceil((now + Duration.toMillis(decision.resetAfter)) / 1000))
      }
    }
  }
  const retryAfter = retryAfterSeconds(decision)
  if (retryAfter !== undefined) headers["retry-after"] = String(retryAfter)
  return headers
}

// ---------------------------------------------------------------------------------------------------------------------
// Combinators
// ---------------------------------------------------------------------------------------------------------------------

const LISTS = ["ratelimit-policy", "ratelimit"]

/**
 * Adds the headers to a response. Where another limiter has written before, lists are joined, and of the `X-RateLimit-*`
 * headers those stay of which no more remains.
 *
 * @since 0.1.0
 * @category combinators
 */
export const addTo = (
  response: HttpServerResponse.HttpServerResponse,
  headers: RateLimitHeaders
): HttpServerResponse.HttpServerResponse => {
  const before = response.headers
  const added: Record<string, string> = {}
  const remaining = before["x-ratelimit-remaining"]
  const tighter = remaining !== undefined && Number(remaining) <= Number(headers["x-ratelimit-remaining"] ?? Infinity)
  for (const [name, value] of Object.entries(headers)) {
    const present = before[name]
    if (present === undefined) added[name] = value
    else if (LISTS.includes(name)) added[name] = `${present}, ${value}`
    else if (!tighter || !name.startsWith("x-ratelimit-")) added[name] = value
  }
  return HttpServerResponse.setHeaders(response, added)
}
