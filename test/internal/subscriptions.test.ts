import { assert, describe, it } from "@effect/vitest"
import { Deferred, Effect, Option, Queue, Schedule } from "effect"
import * as Subscriptions from "../../src/internal/subscriptions.js"
import { type DriverSubscriber, Gap, Message } from "../../src/RedisClient.js"
import { RedisConnectionError } from "../../src/RedisError.js"

type Callbacks = Parameters<DriverSubscriber["listen"]>[0]

const closed = new RedisConnectionError({ target: "nowhere", reason: "closed", detail: "it broke" })

const turn = Effect.promise(() => new Promise((resolve) => setImmediate(resolve)))

describe("subscriptions", () => {
  it.live("a gap that was taken says nothing of the next outage, though somebody waits for an element already", () =>
    Effect.gen(function*() {
      const [queue, listener] = yield* Subscriptions.queued(10, (reason) => new Gap({ reason }))
      const seen: Array<string> = []
      yield* Effect.forkScoped(
        Effect.forever(Effect.map(Queue.take(queue), (element) => void seen.push(element._tag)))
      )
      for (let outages = 1; outages <= 3; outages++) {
        yield* turn
        listener.onGap()
        yield* turn
        assert.strictEqual(seen.length, outages)
      }
      // Nobody has acted on the first of these.
      listener.onGap()
      listener.onGap()
      listener.onGap()
      yield* turn
      assert.isAtMost(seen.length, 5)
    }).pipe(Effect.scoped))

  it.live("a connection that brings a message, and is lost before it has confirmed the subscription, is one more gap", () =>
    Effect.gen(function*() {
      let callbacks: Callbacks | undefined
      const confirmations: Array<Deferred.Deferred<void, RedisConnectionError>> = []
      const confirmation = (n: number) =>
        Effect.gen(function*() {
          while (confirmations.length <= n) yield* turn
          return confirmations[n]!
        })
      const subscriptions = yield* Subscriptions.make(
        {
          subscribe: () =>
            Effect.flatMap(Deferred.make<void, RedisConnectionError>(), (deferred) => {
              confirmations.push(deferred)
              return Deferred.await(deferred)
            }),
          unsubscribe: () => Effect.void,
          listen: (listener) => void (callbacks = listener)
        },
        Schedule.recurs(0),
        (_kind, _name, channel, bytes) => new Message({ channel, pattern: Option.none(), bytes })
      )
      const seen: Array<string> = []
      const listening = yield* Effect.fork(subscriptions.listen("channel", ["news"], {
        onMessage: ({ payload }) => void seen.push(payload),
        onGap: () => void seen.push("gap")
      }))
      const publish = (text: string) => callbacks!.onMessage("channel", "news", "news", Buffer.from(text))
      yield* Deferred.succeed(yield* confirmation(0), undefined)
      yield* listening
      publish("1")

      callbacks!.onDown()
      callbacks!.onUp()
      const second = yield* confirmation(1)
      // The server has subscribed, and its confirmation is not handled yet.
      publish("2")
      callbacks!.onDown()
      callbacks!.onUp()
      yield* Deferred.fail(second, closed)
      yield* Deferred.succeed(yield* confirmation(2), undefined)
      yield* turn
      publish("4")
      assert.deepStrictEqual(seen, ["1", "gap", "2", "gap", "4"])

      callbacks!.onDown()
      callbacks!.onUp()
      yield* Deferred.succeed(yield* confirmation(3), undefined)
      yield* turn
      assert.deepStrictEqual(seen, ["1", "gap", "2", "gap", "4", "gap"])
    }).pipe(Effect.scoped))
})
