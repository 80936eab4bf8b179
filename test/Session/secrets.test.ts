/**
 * Tokens are nowhere but with their owners.
 */
import { assert, describe, it } from "@effect/vitest"
import { Cause, Effect, Fiber, Layer, Logger, LogLevel, Metric, Redacted, Stream, TestClock } from "effect"
import * as Fs from "node:fs"
import * as Path from "node:path"
import { inspect } from "node:util"
import { layer as redis } from "../../src/IoRedis.js"
import { RedisClient } from "../../src/RedisClient.js"
import { Fault, RedisTestServer } from "../../src/RedisTestServer.js"
import * as Session from "../../src/Session/index.js"
import * as RealServer from "../kit/RealServer.js"
import * as Spans from "../kit/spans.js"
import { data, open } from "./suite.js"

const show = (value: unknown) =>
  inspect(value, { depth: 12, maxArrayLength: null, maxStringLength: null, getters: true })

/** Whatever a program can do with tokens, with what it learns and what it logs. */
const program = Effect.gen(function*() {
  const seen: Array<string> = []
  const tokens: Array<Redacted.Redacted> = []
  const ids: Array<string> = []
  const logger = Logger.make((options) => {
    seen.push(show(options))
    seen.push(Logger.logfmtLogger.log(options), Logger.stringLogger.log(options))
  })
  const work = Effect.gen(function*() {
    const sessions = yield* open("secret", {
      maxPerUser: 2,
      fingerprint: "reject",
      rotateGrace: "1 hour",
      watchExpiry: true
    })
    yield* Effect.forkScoped(Stream.runForEach(sessions.events, (event) => Effect.sync(() => seen.push(show(event)))))
    const note = <A, E>(effect: Effect.Effect<A, E>) =>
      Effect.gen(function*() {
        const result = yield* Effect.exit(effect)
        if (result._tag === "Failure") {
          seen.push(show(result.cause), Cause.pretty(result.cause), JSON.stringify(result))
          yield* Effect.logError("failed", result.cause)
        } else {
          seen.push(show(result.value), JSON.stringify(result.value))
          yield* Effect.logDebug("done", result.value)
        }
        return result
      })
    const keep = <E>(effect: Effect.Effect<Session.Issued<typeof data>, E>) =>
      Effect.map(note(effect), (result) => {
        if (result._tag === "Success") {
          tokens.push(result.value.token)
          ids.push(result.value.session.id)
        }
      })
    for (let i = 0; i < 3; i++) yield* keep(sessions.create({ userId: "ada", data, fingerprint: "f" }))
    for (const token of tokens.slice()) {
      yield* note(sessions.get(token))
      yield* note(sessions.get(token, { fingerprint: "g" }))
      yield* note(sessions.getAndTouch(token))
      yield* note(sessions.touch(token))
      yield* note(sessions.isValid(token))
      yield* note(sessions.update(token, { visits: 9 }))
      yield* note(sessions.update(token, { visits: "x" as unknown as number }))
      yield* keep(sessions.rotate(token))
      yield* keep(sessions.reauthenticate(token))
    }
    yield* note(sessions.listForUser("ada"))
    yield* note(sessions.count("ada"))
    yield* note(sessions.sweep)
    return { sessions, keep, note }
  })
  const run = yield* work.pipe(
    Effect.provide(Logger.replace(Logger.defaultLogger, logger)),
    Logger.withMinimumLogLevel(LogLevel.All)
  )
  const spans = yield* Effect.flatMap(Spans.Spans, ({ all }) => all)
  assert.isAtLeast(spans.length, 30)
  seen.push(...spans.map(show), show(yield* Metric.snapshot))
  assert.isAbove(tokens.length, 4)
  return { ...run, seen, tokens, ids }
})

/** The halves of a token; the first one is a digest of the user. */
const secretsOf = (tokens: ReadonlyArray<Redacted.Redacted>) =>
  tokens.map((token) => Redacted.value(token).split(".")[1]!)

const holds = (texts: ReadonlyArray<string>, tokens: ReadonlyArray<Redacted.Redacted>, ids: ReadonlyArray<string>) => {
  const all = texts.join("\n")
  // What is looked for would be found.
  assert.isTrue(ids.some((id) => all.includes(id)))
  for (const secret of secretsOf(tokens)) {
    assert.strictEqual(secret.length, 43)
    assert.isFalse(all.includes(secret), "as text")
    assert.isFalse(all.includes(Buffer.from(secret, "base64url").toString("hex")), "as hex")
    assert.isFalse(all.includes(Buffer.from(secret, "base64url").toString("latin1")), "as bytes")
  }
}

describe("Session, its secrets", () => {
  it.effect("no token is in the database, in any command, log, span, metric, event or error, in memory", () =>
    Effect.gen(function*() {
      const server = yield* RedisTestServer
      const { ids, note, seen, sessions, tokens } = yield* program
      for (const fault of [Fault.readOnly, Fault.busy, Fault.failBeforeSend, Fault.outOfMemory, Fault.loseReply]) {
        yield* server.inject(fault({ times: 2 }))
        const asking = yield* Effect.fork(
          Effect.all([note(sessions.get(tokens[0]!)), note(sessions.rotate(tokens[1]!))])
        )
        yield* TestClock.adjust("1 minute")
        yield* Fiber.join(asking)
      }
      yield* server.clearFaults
      const keys = yield* server.keys
      const contents = yield* Effect.forEach(keys, ({ key }) => server.dump(key))
      const journal = yield* server.journal
      holds([...seen, show(keys), show(contents), show(journal)], tokens, ids)
      holds([show(contents)], tokens, ids)
      holds([show(journal)], tokens, ids)
      holds(seen, tokens, ids)
    }).pipe(Effect.scoped, Effect.provide(Layer.merge(Session.layerTest, Spans.layer))))

  it.live("no token is in the file that a real server writes, nor in what a client says", () =>
    Effect.gen(function*() {
      const server = yield* RealServer.start({ args: ["--rdbcompression", "no"] })
      yield* Effect.gen(function*() {
        const client = yield* RedisClient
        const { ids, seen, tokens } = yield* program
        yield* client.send("SAVE")
        const [, folder] = (yield* client.send("CONFIG", "GET", "dir")) as ReadonlyArray<string>
        const [, file] = (yield* client.send("CONFIG", "GET", "dbfilename")) as ReadonlyArray<string>
        const dump = Fs.readFileSync(Path.join(folder!, file!), "latin1")
        holds([dump], tokens, ids)
        holds([dump, ...seen], tokens, ids)
      }).pipe(
        Effect.scoped,
        Effect.provide(
          Layer.merge(Layer.provideMerge(Session.layer, redis({ url: Redacted.make(server.url) })), Spans.layer)
        )
      )
    }).pipe(Effect.scoped), 30_000)

  it.effect("tokens and ids are long, and never the same", () =>
    Effect.gen(function*() {
      const sessions = yield* open("unique")
      const all = yield* Effect.forEach(Array.from({ length: 500 }), () => sessions.create({ userId: "u", data }))
      assert.strictEqual(new Set(all.map(({ token }) => Redacted.value(token))).size, 500)
      for (const secret of secretsOf(all.map(({ token }) => token))) {
        assert.strictEqual(Buffer.from(secret, "base64url").length, 32)
      }
    }).pipe(Effect.provide(Session.layerTest)))
})
