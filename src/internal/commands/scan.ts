import * as Chunk from "effect/Chunk"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Stream from "effect/Stream"
import type { RedisArg } from "../../RedisClient.js"
import type { Run, ScanPageOptions } from "../../RedisCommands.js"
import type { RedisError } from "../../RedisError.js"
import { checkKey } from "../input.js"
import { checkCount } from "./args.js"
import { cursorPage } from "./decode.js"
import { type Env, readOnly } from "./env.js"

/**
 * Everything that a command with a cursor gives. A cursor of 0 begins, and ends.
 *
 * @internal
 */
export const scanPages = <A>(
  run: Run,
  command: string,
  head: ReadonlyArray<RedisArg>,
  tail: ReadonlyArray<RedisArg>,
  items: (reply: unknown) => ReadonlyArray<A> | undefined
): Stream.Stream<A, RedisError> => {
  const onReply = cursorPage(items)(command)
  return Stream.paginateChunkEffect("0", (cursor: string) =>
    Effect.map(
      run(command, [...head, cursor, ...tail], onReply, readOnly),
      ([next, page]) => [Chunk.unsafeFromArray(page), next === "0" ? Option.none() : Option.some(next)]
    ))
}

/**
 * `HSCAN`, `SSCAN` and `ZSCAN`.
 *
 * @internal
 */
export const scanKey = <A>(
  env: Env,
  operation: string,
  command: string,
  key: string,
  options: ScanPageOptions | undefined,
  items: (reply: unknown) => ReadonlyArray<A> | undefined
): Stream.Stream<A, RedisError> => {
  const { count, match } = options ?? {}
  const bad = checkKey(operation, key) ?? (count === undefined ? undefined : checkCount(operation, "count", count))
  if (bad !== undefined) return Stream.fail(bad)
  const tail: Array<RedisArg> = match === undefined ? [] : ["MATCH", match]
  if (count !== undefined) tail.push("COUNT", count)
  return scanPages(env.run, command, [env.key(key)], tail, items)
}
