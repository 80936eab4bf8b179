/**
 * What the client sends again, and what it never does, over a driver that fails as told.
 */
import { assert, describe, it } from "@effect/vitest"
import { Effect, Either, Fiber, Option, Schedule, Stream, TestClock } from "effect"
import * as RedisClient from "../../src/RedisClient.js"
import {
  RedisConnectionError,
  RedisDecodeError,
  type RedisError,
  RedisOutcomeUnknownError,
  RedisReplyError
} from "../../src/RedisError.js"
import * as RedisScript from "../../src/RedisScript.js"
import { failure } from "./contract/tools.js"

const target = "127.0.0.1:6379"

const lost = (reason: "timeout" | "disconnected") => new RedisOutcomeUnknownError({ target, command: "X", reason })
const down = new RedisConnectionError({ target, reason: "unavailable", detail: "no connection" })
const closed = new RedisConnectionError({ target, reason: "closed", detail: "closed" })
const reply = (code: string) => new RedisReplyError({ command: "X", code, reply: `${code} of the server` })

interface Step {
  /** Milliseconds until it is answered. */
  readonly after?: number
  readonly answer: RedisError | RedisClient.Reply
}

const isError = (answer: RedisError | RedisClient.Reply): answer is RedisError =>
  typeof answer === "object" && answer !== null && "_tag" in answer

/** A driver whose answers are given, and what it was asked: each command with its deadline. */
const scripted = (steps: ReadonlyArray<Step>, retry?: Schedule.Schedule<unknown>) =>
  Effect.gen(function*() {
    const asked: Array<string> = []
    const issue: RedisClient.Issue = (command) =>
      Effect.suspend(() => {
        const { after = 0, answer } =
          steps[asked.push(`${[command.name, ...command.args].join(" ")} within ${command.timeout}`) - 1] ??
            assert.fail("it was asked too often")
        const result = isError(answer) ? command.onError(answer, after) : command.onReply(answer)
        return after === 0 ? result : Effect.zipRight(Effect.sleep(after), result)
      })
    const executor: RedisClient.DriverExecutor = {
      issue,
      pipeline: (commands) =>
        Effect.suspend(() => {
          const { answer } = steps[asked.push(commands.map((args) => args.join(" ")).join("; ")) - 1] ??
            assert.fail("it was asked too often")
          return isError(answer) ? Effect.fail(answer) : Effect.succeed(Array.isArray(answer) ? answer : [answer])
        }),
      transaction: () => Effect.die("not used")
    }
    const client = yield* RedisClient.make({
      mode: "standalone",
      ...executor,
      target,
      keyPrefix: "p:",
      commandTimeout: 1000,
      retry: retry ?? Schedule.intersect(Schedule.spaced("100 millis"), Schedule.recurs(2)),
      state: Stream.empty,
      subscriber: { subscribe: () => Effect.void, unsubscribe: () => Effect.void, listen: () => {} },
      tracker: { servers: () => [], onChange: () => () => {} },
      reserve: () => Effect.die("not used"),
      masters: Effect.succeed([executor])
    })
    return [client, asked] as const
  })

/** Runs it, and lets time pass until it is done. */
const finish = <A, E, R>(effect: Effect.Effect<A, E, R>) =>
  Effect.gen(function*() {
    const fiber = yield* Effect.fork(effect)
    while (Option.isNone(yield* Fiber.poll(fiber))) yield* TestClock.adjust("10 millis")
    return yield* Fiber.join(fiber)
  })

const script = (idempotent: boolean) =>
  RedisScript.make({
    name: "script",
    lua: "return 1",
    params: (key: string) => ({ keys: [key], args: ["x"] }),
    result: RedisScript.number,
    idempotent
  })

describe("retries", () => {
  it.scoped("a read is sent again, within one deadline", () =>
    Effect.gen(function*() {
      const [client, asked] = yield* scripted([
        { after: 50, answer: lost("disconnected") },
        { after: 20, answer: down },
        { answer: "value" }
      ])
      assert.deepStrictEqual(yield* finish(client.get("k")), Option.some("value"))
      assert.deepStrictEqual(asked, ["GET p:k within 1000", "GET p:k within 850", "GET p:k within 730"])
    }))

  it.scoped("a read that stays without reply is a timeout, or a connection that broke", () =>
    Effect.gen(function*() {
      const [client, asked] = yield* scripted([
        { answer: lost("disconnected") },
        { answer: lost("disconnected") },
        { answer: lost("timeout") },
        { after: 1000, answer: lost("timeout") },
        { answer: lost("disconnected") },
        { answer: lost("disconnected") },
        { answer: lost("disconnected") }
      ])
      const timeout = yield* finish(failure(client.get("k")))
      assert.strictEqual(timeout._tag, "RedisTimeoutError")
      assert.strictEqual(timeout._tag === "RedisTimeoutError" ? timeout.command : "", "GET")
      // The deadline is over, so there is no second try.
      assert.strictEqual((yield* finish(failure(client.get("k"))))._tag, "RedisTimeoutError")
      assert.lengthOf(asked, 4)
      assert.strictEqual((yield* finish(failure(client.exists("k"))))._tag, "RedisConnectionError")
      assert.lengthOf(asked, 7)
    }))

  it.scoped("a state that the server leaves by itself is waited for", () =>
    Effect.gen(function*() {
      const [client, asked] = yield* scripted([
        { answer: reply("LOADING") },
        { answer: reply("BUSY") },
        { answer: 1 },
        { answer: reply("LOADING") },
        { answer: reply("LOADING") },
        { answer: reply("LOADING") }
      ])
      assert.strictEqual(yield* finish(client.exists("k")), 1)
      const error = yield* finish(failure(client.exists("k")))
      assert.strictEqual(error._tag === "RedisReplyError" ? error.code : "", "LOADING")
      assert.lengthOf(asked, 6)
    }))

  it.scoped("an error that stays is not tried again", () =>
    Effect.gen(function*() {
      const [client, asked] = yield* scripted([{ answer: reply("WRONGTYPE") }, { answer: closed }, { answer: 7 }])
      assert.strictEqual((yield* failure(client.get("k")))._tag, "RedisReplyError")
      assert.strictEqual((yield* failure(client.get("k")))._tag, "RedisConnectionError")
      assert.instanceOf(yield* failure(client.get("k")), RedisDecodeError)
      assert.lengthOf(asked, 3)
    }))

  it.scoped("a write is never sent again, whatever happened to it", () =>
    Effect.gen(function*() {
      const errors = [lost("disconnected"), lost("timeout"), down, reply("LOADING")]
      const [client, asked] = yield* scripted(
        Array.from({ length: 6 }, () => errors).flat().map((answer) => ({ answer }))
      )
      const writes: ReadonlyArray<Effect.Effect<unknown, RedisError>> = [
        client.incr("k"),
        client.set("k", "v"),
        client.rpush("k", "v"),
        client.publish("c", "m"),
        client.send("GET", "k"),
        client.eval(script(false), "k")
      ]
      for (const write of writes) {
        for (const expected of errors) assert.deepStrictEqual(yield* failure(write), expected)
      }
      assert.lengthOf(asked, 24)
    }))

  it.scoped("a script that is idempotent is sent again, and keeps its error", () =>
    Effect.gen(function*() {
      const [client, asked] = yield* scripted([
        { answer: lost("timeout") },
        { answer: 1 },
        { answer: lost("timeout") },
        { answer: lost("timeout") },
        { answer: lost("timeout") }
      ])
      assert.strictEqual(yield* finish(client.eval(script(true), "k")), 1)
      assert.strictEqual((yield* finish(failure(client.eval(script(true), "k"))))._tag, "RedisOutcomeUnknownError")
      assert.lengthOf(asked, 5)
    }))

  it.scoped("scan goes on where a page was lost", () =>
    Effect.gen(function*() {
      const [client, asked] = yield* scripted([
        { answer: ["5", ["p:a"]] },
        { answer: lost("disconnected") },
        { answer: ["0", ["p:b"]] }
      ])
      const keys = yield* finish(Stream.runCollect(client.scan({ count: 7 })))
      assert.deepStrictEqual(Array.from(keys), ["a", "b"])
      assert.deepStrictEqual(asked.map((line) => line.replace(/ within \d+$/, "")), [
        "SCAN 0 MATCH p:* COUNT 7",
        "SCAN 5 MATCH p:* COUNT 7",
        "SCAN 5 MATCH p:* COUNT 7"
      ])
    }))
})

describe("scripts that the server does not know", () => {
  it.scoped("their text is sent within the same deadline", () =>
    Effect.gen(function*() {
      const own = script(false)
      const [client, asked] = yield* scripted([{ after: 30, answer: reply("NOSCRIPT") }, { answer: 1 }])
      assert.strictEqual(yield* finish(client.eval(own, "k")), 1)
      assert.deepStrictEqual(asked, [`EVALSHA ${own.sha} 1 p:k x within 1000`, `EVAL return 1 1 p:k x within 970`])
    }))

  it.scoped("a pipeline sends their text after it, once", () =>
    Effect.gen(function*() {
      const own = script(false)
      const [client, asked] = yield* scripted([
        { answer: [reply("NOSCRIPT"), "OK", reply("NOSCRIPT")] },
        { answer: [1, reply("WRONGTYPE")] }
      ])
      const replies = yield* client.pipeline([
        RedisScript.call(own, "a"),
        ["SET", "raw", 1],
        RedisScript.call(own, "b")
      ])
      assert.deepStrictEqual(asked, [
        `EVALSHA ${own.sha} 1 p:a x; SET raw 1; EVALSHA ${own.sha} 1 p:b x`,
        "EVAL return 1 1 p:a x; EVAL return 1 1 p:b x"
      ])
      assert.deepStrictEqual(replies.map((r) => Either.isRight(r) ? r.right : r.left.code), [1, "OK", "WRONGTYPE"])
    }))

  it.scoped("NOSCRIPT of somebody's own EVALSHA is their reply", () =>
    Effect.gen(function*() {
      const [client, asked] = yield* scripted([{ answer: [reply("NOSCRIPT")] }, { answer: reply("NOSCRIPT") }])
      const [only] = yield* client.pipeline([["EVALSHA", "0", 0]])
      assert.isTrue(only !== undefined && Either.isLeft(only))
      assert.strictEqual((yield* failure(client.send("EVALSHA", "0", 0)))._tag, "RedisReplyError")
      assert.lengthOf(asked, 2)
    }))
})

describe("unlinkMatching", () => {
  it.scoped("fails when a key could not be removed, and does not say that it is gone", () =>
    Effect.gen(function*() {
      const [client, asked] = yield* scripted([{ answer: ["0", ["p:a", "p:b"]] }, { answer: [1, reply("READONLY")] }])
      const refused = yield* failure(client.unlinkMatching("*"))
      assert(refused._tag === "RedisReplyError")
      assert.strictEqual(refused.code, "READONLY")
      assert.strictEqual(asked[1], "UNLINK p:a; UNLINK p:b")
    }))
})
