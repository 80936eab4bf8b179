/**
 * A connection of one's own, for commands that block.
 */
// The completion of I/O, and its timers, are Node's here.
// @effect-diagnostics globalTimers:off
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Exit from "effect/Exit"
import { makeNames } from "../internal/commandNames.js"
import { Once } from "../internal/issued.js"
import type { DriverConnection } from "../RedisClient.js"
import { makeExecutor } from "./executor.js"
import type { Link } from "./Link.js"
import { BlockingRequest, SingleRequest } from "./Request.js"

/** `shared` takes commands for the same server while this connection is blocked. */
export const makeReserved = (link: Link, shared: Pick<Link, "submit">, id: number): DriverConnection => {
  let blocked: BlockingRequest | undefined

  /**
   * The command may be on its way still, so one CLIENT UNBLOCK can be too early. It ends only when the last one was
   * answered: one that comes late would unblock the next command. When that can't be had, the connection ends.
   */
  const unblock = Effect.async<void>((resume) => {
    const end = performance.now() + link.settings.commandTimeout
    const giveUp = () => {
      link.drop()
      resume(Effect.void)
    }
    const attempt = (pause: number): void => {
      if (blocked === undefined) return resume(Effect.void)
      const left = end - performance.now()
      if (left < 1) return giveUp()
      shared.submit(
        new SingleRequest(
          new Once("CLIENT", ["UNBLOCK", String(id)], "text", left, Effect.succeed),
          (result) => {
            if (Exit.isExit(result) && Exit.isFailure(result)) return giveUp()
            if (blocked === undefined) return resume(Effect.void)
            setTimeout(attempt, pause, Math.min(50, pause * 2))
          }
        )
      )
    }
    attempt(1)
  })

  const nameOf = makeNames(false)

  return {
    ...makeExecutor(link, false),
    id,
    block: (command, args, callback) => {
      const { name, refused } = nameOf(command)
      if (refused !== undefined) return callback(Either.left(refused))
      const request: BlockingRequest = new BlockingRequest(name, args, (result) => {
        if (blocked === request) blocked = undefined
        callback(result)
      })
      blocked = request
      link.submit(request)
    },
    unblock
  }
}
