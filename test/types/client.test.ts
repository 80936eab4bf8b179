/**
 * What the compiler makes of the client. Nothing here runs; the type check of the tests is the test.
 */
// Only types are looked at here.
// @effect-diagnostics floatingEffect:off
import { describe, expectTypeOf, it } from "@effect/vitest"
import { type Duration, Effect, Either, type Option, type Queue, Schema, type Scope, type Stream } from "effect"
import * as RedisClient from "../../src/RedisClient.js"
import type {
  RedisConnectionError,
  RedisDecodeError,
  RedisError,
  RedisInputError,
  RedisOutcomeUnknownError,
  RedisReplyError,
  RedisTimeoutError
} from "../../src/RedisError.js"
import * as RedisScript from "../../src/RedisScript.js"

declare const client: RedisClient.Service
declare const connection: RedisClient.Connection

/** Only the types matter, so the body is never called. */
const types = (name: string, check: () => void) => it(name, () => expectTypeOf(check).toBeFunction())

describe("types of the client", () => {
  types("the service", () => {
    expectTypeOf(RedisClient.RedisClient).toMatchTypeOf<
      Effect.Effect<RedisClient.Service, never, RedisClient.RedisClient>
    >()
    const program = Effect.flatMap(RedisClient.RedisClient, (client) => client.get("key"))
    expectTypeOf(program).toEqualTypeOf<
      Effect.Effect<Option.Option<string>, RedisError, RedisClient.RedisClient>
    >()
  })

  types("a script gives what its decoder or schema says, and takes what its params take", () => {
    const decoded = RedisScript.make({
      name: "decoded",
      lua: "return 1",
      params: (key: string, by: number, label?: string) => ({ keys: [key], args: [by, label ?? ""] }),
      result: RedisScript.number
    })
    expectTypeOf(decoded).toEqualTypeOf<
      RedisScript.RedisScript<[key: string, by: number, label?: string | undefined], number>
    >()
    expectTypeOf(client.eval(decoded, "key", 1)).toEqualTypeOf<Effect.Effect<number, RedisError>>()
    expectTypeOf(connection.eval(decoded, "key", 1, "x")).toEqualTypeOf<Effect.Effect<number, RedisError>>()
    // @ts-expect-error a parameter is missing
    client.eval(decoded, "key")
    // @ts-expect-error a parameter of another type
    client.eval(decoded, "key", "1")

    const User = Schema.Struct({ name: Schema.String, age: Schema.NumberFromString })
    const fromSchema = RedisScript.make({
      name: "fromSchema",
      lua: "return 1",
      params: () => ({ keys: [], args: [] }),
      result: Schema.parseJson(User)
    })
    expectTypeOf(client.eval(fromSchema)).toEqualTypeOf<
      Effect.Effect<{ readonly name: string; readonly age: number }, RedisError>
    >()

    const bytes = RedisScript.make({
      name: "bytes",
      lua: "return 1",
      params: (key: string) => ({ keys: [key], args: [] }),
      encoding: "bytes",
      result: (reply) => {
        expectTypeOf(reply).toEqualTypeOf<RedisClient.BytesReply>()
        return reply instanceof Uint8Array ? Either.right(reply) : Either.left("bytes")
      }
    })
    expectTypeOf(client.eval(bytes, "key")).toEqualTypeOf<
      Effect.Effect<Uint8Array<ArrayBufferLike>, RedisError>
    >()
    expectTypeOf(RedisScript.call(decoded, "key", 1)).toEqualTypeOf<RedisScript.Call<number>>()
  })

  types("send and sendBytes", () => {
    expectTypeOf(client.send("GET", "key", 1, Uint8Array.of(1))).toEqualTypeOf<
      Effect.Effect<RedisClient.Reply, RedisError>
    >()
    expectTypeOf(client.sendBytes("GET", "key")).toEqualTypeOf<Effect.Effect<RedisClient.BytesReply, RedisError>>()
    // @ts-expect-error no argument of Redis
    client.send("SET", "key", { a: 1 })
    // @ts-expect-error no argument of Redis
    client.send("SET", "key", undefined)
  })

  types("pipelines and transactions", () => {
    type Replies = ReadonlyArray<Either.Either<RedisClient.Reply, RedisReplyError>>
    const script = RedisScript.make({
      name: "script",
      lua: "return 1",
      params: (key: string) => ({ keys: [key], args: [] }),
      result: RedisScript.number
    })
    const commands = [["SET", "key", 1], RedisScript.call(script, "key")] as const
    expectTypeOf(client.pipeline(commands)).toEqualTypeOf<Effect.Effect<Replies, RedisError>>()
    expectTypeOf(client.transaction(commands)).toEqualTypeOf<Effect.Effect<Replies, RedisError>>()
    expectTypeOf(connection.transaction(commands)).toEqualTypeOf<Effect.Effect<Option.Option<Replies>, RedisError>>()
    client.pipeline([["PING"]])
    // @ts-expect-error a command has a name
    client.pipeline([[]])
    // @ts-expect-error a script is called
    client.pipeline([script])
  })

  types("subscriptions", () => {
    expectTypeOf(client.subscribe({ channels: ["a"] })).toEqualTypeOf<
      Effect.Effect<Queue.Dequeue<RedisClient.Message | RedisClient.Gap>, RedisError, Scope.Scope>
    >()
    client.subscribe({ patterns: ["a*"], capacity: 10 })
    client.subscribe({ shardChannels: ["a"] })
    // @ts-expect-error nothing to subscribe to
    client.subscribe({ capacity: 10 })
    expectTypeOf<RedisClient.Message["pattern"]>().toEqualTypeOf<Option.Option<string>>()
    expectTypeOf<RedisClient.Message["payload"]>().toEqualTypeOf<string>()
  })

  types("connections of one's own", () => {
    expectTypeOf(client.reserve()).toEqualTypeOf<Effect.Effect<RedisClient.Connection, RedisError, Scope.Scope>>()
    expectTypeOf(connection.blpop(["a"], "1 second")).toEqualTypeOf<
      Effect.Effect<Option.Option<readonly [key: string, value: string]>, RedisError>
    >()
    expectTypeOf(connection.bzpopMin(["a"], "1 second")).toEqualTypeOf<
      Effect.Effect<Option.Option<readonly [key: string, member: string, score: number]>, RedisError>
    >()
    // @ts-expect-error blocking needs a connection of one's own
    void client.blpop
    // @ts-expect-error a wait has an end, or none by intention
    connection.blpop(["a"])
  })

  types("absent is an Option", () => {
    expectTypeOf(client.get("a")).toEqualTypeOf<Effect.Effect<Option.Option<string>, RedisError>>()
    expectTypeOf(client.getBytes("a")).toEqualTypeOf<Effect.Effect<Option.Option<Uint8Array>, RedisError>>()
    expectTypeOf(client.mget(["a"])).toEqualTypeOf<Effect.Effect<Array<Option.Option<string>>, RedisError>>()
    expectTypeOf(client.ttl("a")).toEqualTypeOf<Effect.Effect<Option.Option<Duration.Duration>, RedisError>>()
    expectTypeOf(client.type("a")).toEqualTypeOf<
      Effect.Effect<Option.Option<"string" | "list" | "set" | "zset" | "hash" | "stream">, RedisError>
    >()
    expectTypeOf(client.zscore("a", "m")).toEqualTypeOf<Effect.Effect<Option.Option<number>, RedisError>>()
    expectTypeOf(client.hgetAll("a")).toEqualTypeOf<Effect.Effect<Record<string, string>, RedisError>>()
    expectTypeOf(client.zscan("a")).toEqualTypeOf<
      Stream.Stream<readonly [member: string, score: number], RedisError>
    >()
    expectTypeOf(client.time).toEqualTypeOf<Effect.Effect<bigint, RedisError>>()
  })

  types("options that contradict each other", () => {
    client.set("a", "b", { ttl: "1 second", onlyIf: "absent" })
    // @ts-expect-error there are no such conditions
    client.set("a", "b", { onlyIf: "NX" })
    // @ts-expect-error getEx changes the life
    client.getEx("a", {})
    // @ts-expect-error scores are not given by bytes
    client.zrangeWithScores("a", { by: "lex", min: "a" })
    // @ts-expect-error a limit needs a range by score or bytes
    client.zrange("a", { start: 0, limit: { count: 1 } })
    // @ts-expect-error both bounds of what is removed
    client.zremRangeByScore("a", { min: 0 })
    // @ts-expect-error a score is a number
    client.zadd("a", { member: "1" })
  })

  types("errors are told apart by their tags", () => {
    expectTypeOf<Effect.Effect.Error<ReturnType<typeof client.get>>>().toEqualTypeOf<
      | RedisConnectionError
      | RedisTimeoutError
      | RedisReplyError
      | RedisOutcomeUnknownError
      | RedisDecodeError
      | RedisInputError
    >()
    const handled = client.get("a").pipe(
      Effect.catchTags({
        RedisReplyError: (error) => Effect.succeed(error.code),
        RedisTimeoutError: (error) => Effect.succeed(error.timeout)
      })
    )
    expectTypeOf(handled).toEqualTypeOf<
      Effect.Effect<
        Option.Option<string> | string | number,
        RedisConnectionError | RedisOutcomeUnknownError | RedisDecodeError | RedisInputError
      >
    >()
    expectTypeOf<RedisReplyError["isRetryable"]>().toEqualTypeOf<boolean>()
    expectTypeOf(client.health).toEqualTypeOf<Effect.Effect<RedisClient.Health>>()
  })

  types("what a stream of invalidations says is told apart by its tags", () => {
    expectTypeOf(client.invalidations(["a"])).toEqualTypeOf<Stream.Stream<RedisClient.Invalidation, RedisError>>()
    expectTypeOf<RedisClient.Invalidation["_tag"]>().toEqualTypeOf<
      "Armed" | "Invalidated" | "InvalidatedAll" | "Down"
    >()
    expectTypeOf<RedisClient.Invalidated["keys"]>().toEqualTypeOf<ReadonlyArray<string>>()
    // @ts-expect-error prefixes are a list
    client.invalidations("a")
  })
})
