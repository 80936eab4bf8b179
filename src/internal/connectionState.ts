/**
 * The state of a client's connection as a stream: the present one first, and then every change until the end.
 */
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Queue from "effect/Queue"
import * as Stream from "effect/Stream"
import type { ConnectionState } from "../RedisClient.js"
import type { RedisError } from "../RedisError.js"

/** @internal */
export interface StateCell {
  readonly set: (status: ConnectionState["status"], error: RedisError | undefined) => void
  readonly changes: Stream.Stream<ConnectionState>
}

/** @internal */
export const makeState = (): StateCell => {
  let current: ConnectionState = { status: "disconnected", previous: Option.none(), error: Option.none() }
  const queues = new Set<Queue.Queue<ConnectionState>>()
  return {
    set: (status, error) => {
      if (status === current.status) return
      current = { status, previous: Option.some(current.status), error: Option.fromNullable(error) }
      for (const queue of queues) queue.unsafeOffer(current)
    },
    changes: Stream.unwrapScoped(
      Effect.map(
        Effect.acquireRelease(
          Effect.map(Queue.unbounded<ConnectionState>(), (queue) => {
            queue.unsafeOffer(current)
            queues.add(queue)
            return queue
          }),
          (queue) => {
            queues.delete(queue)
            return Queue.shutdown(queue)
          }
        ),
        (queue) => Stream.takeUntil(Stream.fromQueue(queue), (state) => state.status === "end")
      )
    )
  }
}
