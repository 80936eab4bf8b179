import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import type { Connection, Executor, RedisArg } from "../../RedisClient.js"
import type { BlockingCommands } from "../../RedisCommands.js"
import type { RedisError } from "../../RedisError.js"
import * as RedisScript from "../../RedisScript.js"
import { checkKey } from "../input.js"
import { type Args, checkCount, checkSomeKeys, isBad, timeoutSeconds } from "./args.js"
import * as Decode from "./decode.js"
import { end } from "./lists.js"

/**
 * Gives an element back that BLMOVE moved. Somebody else may have taken it from there, or put others around it: only this
 * element moves, and only when it is still there.
 *
 * KEYS: destination and source of the move. ARGV: the element, the count of LREM by which the element nearest to the end
 * it was put to is found, and the command that puts it back. Returns whether it was still there. O(n) of the destination.
 */
const moveBack = RedisScript.make({
  name: "moveBack",
  lua: `
if redis.call("LREM", KEYS[1], ARGV[2], ARGV[1]) == 0 then return 0 end
redis.call(ARGV[3], KEYS[2], ARGV[1])
return 1`,
  params: (destination: string, source: string, element: Uint8Array, near: number, push: "LPUSH" | "RPUSH") => ({
    keys: [destination, source],
    args: [element, near, push]
  }),
  result: RedisScript.boolean
})

/** @internal */
export const make = (send: Connection["sendBlocking"], executor: Executor, prefix: string): BlockingCommands => {
  const key = (name: string) => prefix + name
  const strip = (name: string) => name.slice(prefix.length)

  const block = <A, B>(
    command: string,
    args: Args,
    decoder: Decode.Decoder<Option.Option<A>>,
    taken: Decode.Decoder<B>,
    handBack: (taken: B) => Effect.Effect<unknown, RedisError>
  ): Effect.Effect<Option.Option<A>, RedisError> =>
    isBad(args)
      ? Effect.fail(args)
      : Effect.flatMap(
        send(command, args, (reply) => Effect.flatMap(taken(command)(reply), handBack)),
        decoder(command)
      )

  /** What goes back is the bytes that came, the key with its prefix among them: nothing becomes text on the way. */
  const sendBack = (command: "LPUSH" | "RPUSH" | "ZADD") => (args: ReadonlyArray<RedisArg>) =>
    executor.send(command, ...args)

  const waitArgs = (operation: string, names: ReadonlyArray<string>, timeout: Duration.DurationInput): Args => {
    const seconds = timeoutSeconds(operation, timeout)
    return checkSomeKeys(operation, names) ?? (isBad(seconds) ? seconds : [...names.map(key), seconds])
  }

  const keyWithValue = Decode.decoder("a key and a value, or nothing", (reply) => {
    if (reply === null) return Option.none()
    const parts = Decode.asArray(Decode.asText)(reply)
    return parts?.length === 2 ? Option.some([strip(parts[0]!), parts[1]!] as const) : undefined
  })

  const keyWithValues = Decode.decoder("a key and values, or nothing", (reply) => {
    if (reply === null) return Option.none()
    if (!Array.isArray(reply) || reply.length !== 2) return undefined
    const name: unknown = reply[0]
    const values = Decode.asArray(Decode.asText)(reply[1])
    return typeof name === "string" && values !== undefined ? Option.some([strip(name), values] as const) : undefined
  })

  const keyWithScored = Decode.decoder("a key, a member and a score, or nothing", (reply) => {
    if (reply === null) return Option.none()
    if (!Array.isArray(reply) || reply.length !== 3) return undefined
    const [name, member]: ReadonlyArray<unknown> = reply
    const score = Decode.asDouble(reply[2])
    return typeof name === "string" && typeof member === "string" && score !== undefined
      ? Option.some([strip(name), member, score] as const)
      : undefined
  })

  const takenElement = Decode.decoder("an element", Decode.asBytes)

  const takenValue = Decode.decoder("a key and a value", (reply) => {
    const parts = Decode.asArray(Decode.asBytes)(reply)
    return parts?.length === 2 ? parts : undefined
  })

  const takenValues = Decode.decoder("a key and values", (reply) => {
    if (!Array.isArray(reply) || reply.length !== 2) return undefined
    const name = Decode.asBytes(reply[0])
    const values = Decode.asArray(Decode.asBytes)(reply[1])
    // The last one that was taken goes back first.
    return name !== undefined && values !== undefined ? [name, ...values.reverse()] : undefined
  })

  const takenScored = Decode.decoder("a key, a member and a score", (reply) => {
    if (!Array.isArray(reply) || reply.length !== 3) return undefined
    const name = Decode.asBytes(reply[0])
    const member = Decode.asBytes(reply[1])
    const score: unknown = reply[2]
    // Who has added the member again meanwhile knows better, so its new score stays.
    return name !== undefined && member !== undefined && (score instanceof Uint8Array || typeof score === "number")
      ? [name, "NX", score, member]
      : undefined
  })

  const popScored =
    (operation: string, command: string) => (names: ReadonlyArray<string>, timeout: Duration.DurationInput) =>
      block(command, waitArgs(operation, names, timeout), keyWithScored, takenScored, sendBack("ZADD"))

  return {
    blpop: (names, timeout) =>
      block("BLPOP", waitArgs("blpop", names, timeout), keyWithValue, takenValue, sendBack("LPUSH")),
    brpop: (names, timeout) =>
      block("BRPOP", waitArgs("brpop", names, timeout), keyWithValue, takenValue, sendBack("RPUSH")),
    blmove: (source, destination, { from, timeout, to }) => {
      const seconds = timeoutSeconds("blmove", timeout)
      const bad = checkKey("blmove", source, "source") ?? checkKey("blmove", destination, "destination")
      return block(
        "BLMOVE",
        bad ?? (isBad(seconds) ? seconds : [key(source), key(destination), end(from), end(to), seconds]),
        Decode.optionalText,
        takenElement,
        (element) =>
          executor.eval(
            moveBack,
            destination,
            source,
            element,
            to === "left" ? 1 : -1,
            from === "left" ? "LPUSH" : "RPUSH"
          )
      )
    },
    blmpop: (names, { count, from, timeout }) => {
      const seconds = timeoutSeconds("blmpop", timeout)
      const bad = checkSomeKeys("blmpop", names) ??
        (count === undefined ? undefined : checkCount("blmpop", "count", count))
      const limit: ReadonlyArray<RedisArg> = count === undefined ? [] : ["COUNT", count]
      return block(
        "BLMPOP",
        bad ?? (isBad(seconds) ? seconds : [seconds, names.length, ...names.map(key), end(from), ...limit]),
        keyWithValues,
        takenValues,
        sendBack(from === "left" ? "LPUSH" : "RPUSH")
      )
    },
    bzpopMin: popScored("bzpopMin", "BZPOPMIN"),
    bzpopMax: popScored("bzpopMax", "BZPOPMAX")
  }
}
