/**
 * Commands that a driver refuses to send, because they would take a connection away from the client or from everybody
 * who shares it. Both drivers refuse the same ones.
 */
import type { RedisArg } from "../RedisClient.js"
import { RedisInputError } from "../RedisError.js"

const OWN = "a connection of its own: use reserve"

/** What would take a shared connection away from everybody else, and what to use. */
const notShared: Readonly<Record<string, string>> = {
  ...Object.fromEntries(
    ["BLPOP", "BRPOP", "BLMOVE", "BRPOPLPUSH", "BLMPOP", "BZPOPMIN", "BZPOPMAX", "BZMPOP", "WAIT", "WAITAOF"]
      .map((name) => [name, OWN])
  ),
  WATCH: OWN,
  UNWATCH: OWN,
  SELECT: "left to the configuration: use db"
}

/** What takes a connection out of the hands of the driver. */
const notOurs: Readonly<Record<string, string>> = {
  ...Object.fromEntries(
    ["SUBSCRIBE", "PSUBSCRIBE", "SSUBSCRIBE", "UNSUBSCRIBE", "PUNSUBSCRIBE", "SUNSUBSCRIBE"]
      .map((name) => [name, "left to the client: use subscribe"])
  ),
  ...Object.fromEntries(["MULTI", "EXEC", "DISCARD"].map((name) => [name, "left to the client: use transaction"])),
  ...Object.fromEntries(
    ["QUIT", "RESET", "HELLO", "AUTH", "MONITOR", "SYNC", "PSYNC"].map((name) => [name, "left to the client"])
  )
}

/** @internal */
export interface CommandName {
  /** In capitals. */
  readonly name: string
  readonly refused: RedisInputError | undefined
}

/** @internal */
export const makeNames = (shared: boolean): (command: string) => CommandName => {
  const names = new Map<string, CommandName>()
  return (command) => {
    const known = names.get(command)
    if (known !== undefined) return known
    const name = command.toUpperCase()
    const expected = notOurs[name] ?? (shared ? notShared[name] : undefined)
    const made: CommandName = {
      name,
      refused: expected === undefined
        ? undefined
        : new RedisInputError({ operation: name, field: "command", expected, actual: "sent as it is" })
    }
    // Names come from programs, not from their users; but a mistake must not fill the memory.
    if (names.size < 1000) names.set(command, made)
    return made
  }
}

/**
 * Why `XREAD` and `XREADGROUP` with `BLOCK` can't be sent on a shared connection; without it they can.
 *
 * @internal
 */
export const refuseBlocking = (name: string, args: ReadonlyArray<RedisArg>): RedisInputError | undefined => {
  if (name !== "XREAD" && name !== "XREADGROUP") return undefined
  for (const arg of args) {
    const word = typeof arg === "string" ? arg.toUpperCase() : ""
    // Keys and ids follow.
    if (word === "STREAMS") return undefined
    if (word === "BLOCK") {
      return new RedisInputError({ operation: name, field: "BLOCK", expected: OWN, actual: "sent as it is" })
    }
  }
  return undefined
}
