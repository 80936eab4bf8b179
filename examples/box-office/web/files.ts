/**
 * The page and what belongs to it: files beside this one in the sources, read once.
 */
import { HttpServerRequest, HttpServerResponse } from "@effect/platform"
import { Effect } from "effect"
import { createHash } from "node:crypto"
import { readFileSync } from "node:fs"
import { createRequire } from "node:module"
import { dirname, join } from "node:path"

/** Nothing from elsewhere, and no script within the document: whatever somebody is called, it stays text. */
const POLICY = "default-src 'none'; connect-src 'self'; img-src 'self' data:; script-src 'self'; style-src 'self'; " +
  "base-uri 'none'; form-action 'self'; frame-ancestors 'none'"

const types = { html: "text/html", css: "text/css", js: "text/javascript" } as const

/** A browser asks whether it has changed, and gets an empty answer when it has not. */
export const file = (name: `page.${keyof typeof types}`) => {
  const project = dirname(createRequire(import.meta.url).resolve("effect-redis-kit/package.json"))
  const text = readFileSync(join(project, "examples/box-office/web", name), "utf8")
  const etag = `"${createHash("sha256").update(text).digest("base64url").slice(0, 16)}"`
  const type = types[name.slice("page.".length) as keyof typeof types]
  const headers = {
    etag,
    "cache-control": "no-cache",
    "content-security-policy": POLICY,
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff"
  }
  const whole = HttpServerResponse.text(text, { contentType: `${type}; charset=utf-8`, headers })
  const unchanged = HttpServerResponse.empty({ status: 304, headers })
  return Effect.map(
    HttpServerRequest.HttpServerRequest,
    (request) => request.headers["if-none-match"] === etag ? unchanged : whole
  )
}
