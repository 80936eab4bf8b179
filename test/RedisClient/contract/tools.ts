/**
 * What the parts of the contract share.
 */
import { assert } from "@effect/vitest"
import { Context, type Duration, Effect, Layer, Option, type Scope, TestClock } from "effect"
import { randomUUID } from "node:crypto"
import { RedisClient, type Service } from "../../../src/RedisClient.js"
import type { RedisError, RedisInputError, RedisReplyError } from "../../../src/RedisError.js"
import { RedisTestServer } from "../../../src/RedisTestServer.js"
import { Clients, liveWith } from "../../kit/layers.js"

export interface Tools {
  /** A name that no other test uses; all names of a test are in one slot. */
  readonly name: (label?: string) => string
  /** Another one, in a slot of its own. */
  readonly apart: (label?: string) => string
  /** Lets time pass: for real on a live server, at once in memory. */
  readonly pass: (duration: Duration.DurationInput) => Effect.Effect<void>
  /** One more client of the same server, with another prefix. */
  readonly other: (keyPrefix: string) => Effect.Effect<Service, RedisError, Scope.Scope>
}

export type Test = (
  name: string,
  body: (client: Service, tools: Tools) => Effect.Effect<void, RedisError, Scope.Scope>
) => void

let names = 0

/** For one test. */
export const makeTools = (onRealClock: boolean): Tools => {
  const run = randomUUID().slice(0, 8)
  const tag = `{${++names}}`
  return {
    name: (label = "key") => `${tag}:${label}:${++names}`,
    apart: (label = "key") => `${label}:${++names}`,
    pass: (duration) => onRealClock ? Effect.sleep(duration) : TestClock.adjust(duration),
    other: (keyPrefix) =>
      Effect.flatMap(
        Effect.serviceOption(RedisTestServer),
        Option.match({
          onSome: (server) => server.client({ keyPrefix }),
          onNone: () =>
            Effect.flatMap(Effect.serviceOption(Clients), (clients) =>
              Effect.map(
                Layer.build(Option.getOrElse(clients, () => liveWith)({ keyPrefix: `${run}${keyPrefix}` })),
                Context.get(RedisClient)
              ))
        })
      )
  }
}

/** Gives other work of this process a turn, whatever the clock is. */
export const turn: Effect.Effect<void> = Effect.promise(() => new Promise((resolve) => setTimeout(resolve, 2)))

/** Waits until it holds, on the real clock. */
export const eventually = <E>(condition: Effect.Effect<boolean, E>): Effect.Effect<void, E> =>
  Effect.gen(function*() {
    for (let i = 0; i < 2000; i++) {
      if (yield* condition) return
      yield* turn
    }
    assert.fail("it never happened")
  })

/** The error that an effect fails with. */
export const failure = <A>(effect: Effect.Effect<A, RedisError>): Effect.Effect<RedisError> =>
  Effect.map(Effect.either(effect), (result) => result._tag === "Left" ? result.left : assert.fail("it succeeded"))

/** The effect was refused before anything was sent, because of this field. */
export const refused = <A>(effect: Effect.Effect<A, RedisError>, field: string): Effect.Effect<RedisInputError> =>
  Effect.map(failure(effect), (error) => {
    if (error._tag !== "RedisInputError") return assert.fail(`${error._tag}: ${error.message}`)
    assert.strictEqual(error.field, field)
    return error
  })

/** The server answered with an error of this code. */
export const rejected = <A>(effect: Effect.Effect<A, RedisError>, code: string): Effect.Effect<RedisReplyError> =>
  Effect.map(failure(effect), (error) => {
    if (error._tag !== "RedisReplyError") return assert.fail(`${error._tag}: ${error.message}`)
    assert.strictEqual(error.code, code)
    return error
  })

export const gives = <A, E, R>(effect: Effect.Effect<A, E, R>, expected: A): Effect.Effect<void, E, R> =>
  Effect.map(effect, (actual) => assert.deepStrictEqual(actual, expected))

/** For replies that have no order. */
export const givesSorted = <E, R>(
  effect: Effect.Effect<ReadonlyArray<string>, E, R>,
  expected: ReadonlyArray<string>
): Effect.Effect<void, E, R> =>
  Effect.map(effect, (actual) => assert.deepStrictEqual(Array.from(actual).sort(), Array.from(expected).sort()))

export const some = Option.some
export const none = Option.none()
