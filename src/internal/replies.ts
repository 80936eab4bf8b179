/**
 * What both drivers make of a server's replies.
 */
import * as Effect from "effect/Effect"
import type { Reply } from "../RedisClient.js"
import { RedisReplyError } from "../RedisError.js"

/**
 * The server quotes arguments when it does not know a command; they may be secrets.
 *
 * @internal
 */
export const withoutArguments = (text: string): string => text.replace(/,? with args beginning with:[^]*$/, "")

/** @internal */
export const replyError = (command: string, text: string): RedisReplyError => {
  const reply = withoutArguments(text)
  const space = reply.indexOf(" ")
  return new RedisReplyError({ command, code: space === -1 ? reply : reply.slice(0, space), reply })
}

const isReplies = (reply: Reply): reply is ReadonlyArray<Reply> => Array.isArray(reply)

/**
 * The replies of `EXEC`, each error with the name of its own command, from those of the whole transaction; `null` when a
 * watched key was changed. `EXEC` says only that something was wrong before, so what fails is the command that was refused.
 *
 * @internal
 */
export const execReplies = (
  replies: ReadonlyArray<Reply>,
  nameOf: (index: number) => string
): Effect.Effect<ReadonlyArray<Reply> | null, RedisReplyError> => {
  const result = replies[replies.length - 1]!
  if (result === null) return Effect.succeed(null)
  const first = replies.find((reply) => reply instanceof RedisReplyError)
  if (first !== undefined) return Effect.fail(first)
  if (!isReplies(result)) return Effect.fail(replyError("EXEC", "ERR the reply is not an array"))
  return Effect.succeed(
    result.map((reply, i) =>
      reply instanceof RedisReplyError ? new RedisReplyError({ ...reply, command: nameOf(i) }) : reply
    )
  )
}
