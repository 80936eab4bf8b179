/**
 * What becomes of an element that arrives while its wait is interrupted, over a connection whose timing is given.
 */
import { assert, describe, it } from "@effect/vitest"
import { Effect, Either, Exit, Fiber, Logger, Option, Stream } from "effect"
import * as RedisClient from "../../src/RedisClient.js"
import { RedisConnectionError, type RedisError } from "../../src/RedisError.js"

const broken = new RedisConnectionError({ target: "127.0.0.1:6379", reason: "unavailable", detail: "broken" })

interface Wait {
  readonly command: string
  readonly settle: (result: Either.Either<RedisClient.BytesReply, RedisError>) => void
}

const bytes = (text: string): Uint8Array => new TextEncoder().encode(text)

const reply = (...texts: ReadonlyArray<string>) => Either.right(texts.map(bytes))

const line = (command: string, args: ReadonlyArray<RedisClient.RedisArg>): string =>
  [command, ...args.map((arg) => arg instanceof Uint8Array ? new TextDecoder().decode(arg) : arg)].join(" ")

/** A connection whose waits end when the test says so, or when they are unblocked. */
const make = (
  onUnblock: (wait: Wait) => void,
  answer: Effect.Effect<RedisClient.Reply, RedisError> = Effect.succeed(1)
) =>
  Effect.gen(function*() {
    const asked: Array<string> = []
    const waits: Array<Wait> = []
    let unblocked = 0
    const executor: RedisClient.DriverExecutor = {
      issue: (command) =>
        Effect.suspend(() => {
          asked.push(line(command.name, command.args))
          return Effect.flatMap(answer, (reply) => command.onReply(reply))
        }),
      pipeline: () => Effect.die("not used"),
      transaction: () => Effect.die("not used")
    }
    const client = yield* RedisClient.make({
      ...executor,
      mode: "standalone",
      target: "127.0.0.1:6379",
      keyPrefix: "p:",
      commandTimeout: 1000,
      state: Stream.empty,
      subscriber: { subscribe: () => Effect.void, unsubscribe: () => Effect.void, listen: () => {} },
      tracker: { servers: () => [], onChange: () => () => {} },
      masters: Effect.succeed([executor]),
      reserve: () =>
        Effect.succeed({
          ...executor,
          id: 7,
          block: (command, args, settle) => {
            asked.push(line(command, args))
            waits.push({ command, settle })
          },
          unblock: Effect.sync(() => {
            unblocked++
            onUnblock(waits[waits.length - 1]!)
          })
        })
    })
    const connection = yield* client.reserve()
    return { connection, asked, waits, unblocked: () => unblocked }
  })

const nothing = (wait: Wait) => wait.settle(Either.right(null))

describe("waiting on a reserved connection", () => {
  it.scoped("a reply is the result, and nothing is unblocked", () =>
    Effect.gen(function*() {
      const { asked, connection, unblocked, waits } = yield* make(nothing)
      const fiber = yield* Effect.fork(connection.blpop(["a", "b"], "1 second"))
      yield* Effect.yieldNow()
      waits[0]!.settle(reply("p:b", "x"))
      assert.deepStrictEqual(yield* Fiber.join(fiber), Option.some(["b", "x"] as const))
      assert.deepStrictEqual(asked, ["BLPOP p:a p:b 1"])
      assert.strictEqual(unblocked(), 0)
    }))

  it.scoped("an interrupted wait is unblocked, and hands nothing back when nothing arrived", () =>
    Effect.gen(function*() {
      const { asked, connection, unblocked } = yield* make(nothing)
      const fiber = yield* Effect.fork(connection.blpop(["a"], "1 second"))
      yield* Effect.yieldNow()
      assert.isTrue(Exit.isInterrupted(yield* Fiber.interrupt(fiber)))
      assert.deepStrictEqual(asked, ["BLPOP p:a 1"])
      assert.strictEqual(unblocked(), 1)
    }))

  it.scoped("what arrives while it is unblocked goes back", () =>
    Effect.gen(function*() {
      const { asked, connection } = yield* make((wait) =>
        wait.settle(
          wait.command.startsWith("BZ")
            ? reply("p:a", "x", "2")
            : wait.command === "BLMOVE"
            ? Either.right(bytes("x"))
            : reply("p:a", "x")
        )
      )
      const waits: ReadonlyArray<Effect.Effect<unknown, RedisError>> = [
        connection.blpop(["a"], "1 second"),
        connection.brpop(["a"], "1 second"),
        connection.bzpopMin(["a"], "1 second"),
        connection.blmove("a", "b", { from: "left", to: "right", timeout: "1 second" })
      ]
      for (const wait of waits) {
        const fiber = yield* Effect.fork(wait)
        yield* Effect.yieldNow()
        assert.isTrue(Exit.isInterrupted(yield* Fiber.interrupt(fiber)))
      }
      assert.deepStrictEqual(asked.map((line) => line.replace(/^EVALSHA \w+/, "EVALSHA")), [
        "BLPOP p:a 1",
        "LPUSH p:a x",
        "BRPOP p:a 1",
        "RPUSH p:a x",
        "BZPOPMIN p:a 1",
        "ZADD p:a NX 2 x",
        "BLMOVE p:a p:b LEFT RIGHT 1",
        "EVALSHA 2 p:b p:a x -1 LPUSH"
      ])
    }))

  it.scoped("what had arrived before the interruption goes back too, without unblocking", () =>
    Effect.gen(function*() {
      const { asked, connection, unblocked, waits } = yield* make(nothing)
      const fiber = yield* Effect.fork(connection.blpop(["a"], "1 second"))
      yield* Effect.yieldNow()
      // The reply and the interruption come before the fiber has a turn: whichever wins, the element is somewhere.
      waits[0]!.settle(reply("p:a", "x"))
      const exit = yield* Fiber.interrupt(fiber)
      const handedBack = asked.includes("LPUSH p:a x")
      assert.strictEqual(Exit.isSuccess(exit), !handedBack)
      assert.strictEqual(unblocked(), 0)
    }))

  it.scoped("the interruption waits until the element is back", () =>
    Effect.gen(function*() {
      const { asked, connection } = yield* make(
        (wait) => setTimeout(() => wait.settle(reply("p:a", "x")), 20),
        Effect.promise(() => new Promise<number>((resolve) => setTimeout(() => resolve(1), 20)))
      )
      const fiber = yield* Effect.fork(connection.blpop(["a"], "1 second"))
      yield* Effect.yieldNow()
      yield* Fiber.interrupt(fiber)
      assert.deepStrictEqual(asked, ["BLPOP p:a 1", "LPUSH p:a x"])
    }))

  it.scoped("a connection that breaks ends the wait, and there is nothing to hand back", () =>
    Effect.gen(function*() {
      const { asked, connection, waits } = yield* make((wait) => wait.settle(Either.left(broken)))
      const failed = yield* Effect.fork(connection.blpop(["a"], "1 second"))
      yield* Effect.yieldNow()
      waits[0]!.settle(Either.left(broken))
      assert.deepStrictEqual(yield* Effect.flip(Fiber.join(failed)), broken)

      const interrupted = yield* Effect.fork(connection.blpop(["a"], "1 second"))
      yield* Effect.yieldNow()
      assert.isTrue(Exit.isInterrupted(yield* Fiber.interrupt(interrupted)))
      assert.deepStrictEqual(asked, ["BLPOP p:a 1", "BLPOP p:a 1"])
    }))

  it.scoped("text and bytes of a reply are told apart at every depth", () =>
    Effect.gen(function*() {
      const { connection, waits } = yield* make((wait) => wait.settle(Either.right([bytes("a"), [Uint8Array.of(255)]])))
      const given: Array<RedisClient.BytesReply> = []
      const wait = connection.sendBlocking("ANY", [], (reply) => Effect.sync(() => given.push(reply)))
      const answered = yield* Effect.fork(wait)
      yield* Effect.yieldNow()
      waits[0]!.settle(Either.right([1, null, bytes("\uFEFFä"), [bytes("b"), Uint8Array.of(255)]]))
      assert.deepStrictEqual(yield* Fiber.join(answered), [1, null, "\uFEFFä", ["b", "\uFFFD"]])

      const interrupted = yield* Effect.fork(wait)
      yield* Effect.yieldNow()
      yield* Fiber.interrupt(interrupted)
      assert.deepStrictEqual(given, [[bytes("a"), [Uint8Array.of(255)]]])
    }))

  it.scoped("an element that cannot be handed back is logged", () => {
    const logged: Array<string> = []
    const logger = Logger.make(({ logLevel, message }) => {
      logged.push(
        `${logLevel.label} ${JSON.stringify(message)}`
      )
    })
    return Effect.gen(function*() {
      const { connection } = yield* make((wait) => wait.settle(reply("p:a", "secret")), Effect.fail(broken))
      const fiber = yield* Effect.fork(connection.blpop(["a"], "1 second"))
      yield* Effect.yieldNow()
      assert.isTrue(Exit.isInterrupted(yield* Fiber.interrupt(fiber)))
      assert.lengthOf(logged, 1)
      assert.match(logged[0]!, /^ERROR .*could not be handed back/)
      assert.notInclude(logged[0], "secret")
    }).pipe(Effect.provide(Logger.replace(Logger.defaultLogger, logger)))
  })
})
