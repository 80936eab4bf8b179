/**
 * Commands, pipelines and transactions over one connection.
 */
import * as Effect from "effect/Effect"
import { makeNames, refuseBlocking } from "../internal/commandNames.js"
import { execReplies } from "../internal/replies.js"
import type { DriverExecutor, Issue, RedisArg, Reply } from "../RedisClient.js"
import type { RedisError } from "../RedisError.js"
import type { Link } from "./Link.js"
import { GroupRequest, SingleRequest } from "./Request.js"

/** Names go in capitals: ioredis changes arguments and replies of some commands, which it knows by their small letters. */
export const makeExecutor = (link: Pick<Link, "submit">, shared: boolean): DriverExecutor => {
  const nameOf = makeNames(shared)

  const issue: Issue = (command) =>
    Effect.async((resume) => {
      const { name, refused } = nameOf(command.name)
      const bad = refused ?? (shared ? refuseBlocking(name, command.args) : undefined)
      if (bad !== undefined) return resume(command.onError(bad, 0))
      return link.submit(new SingleRequest(command, resume, name))
    })

  const group = (
    label: string,
    commands: ReadonlyArray<ReadonlyArray<RedisArg>>,
    timeout: number
  ): Effect.Effect<ReadonlyArray<Reply>, RedisError> =>
    Effect.async((resume) => {
      const names: Array<string> = []
      for (const command of commands) {
        const { name, refused } = nameOf(String(command[0]))
        const bad = refused ?? (shared ? refuseBlocking(name, command) : undefined)
        if (bad !== undefined) return resume(Effect.fail(bad))
        names.push(name)
      }
      if (label !== "MULTI") return link.submit(new GroupRequest(label, names, commands, timeout, resume))
      const all = [["MULTI"], ...commands, ["EXEC"]]
      return link.submit(new GroupRequest(label, ["MULTI", ...names, "EXEC"], all, timeout, resume))
    })

  return {
    issue,
    pipeline: (commands, timeout) => commands.length === 0 ? Effect.succeed([]) : group("PIPELINE", commands, timeout),
    transaction: (commands, timeout) =>
      Effect.flatMap(
        group("MULTI", commands, timeout),
        (replies) => execReplies(replies, (i) => nameOf(String(commands[i]![0])).name)
      )
  }
}
