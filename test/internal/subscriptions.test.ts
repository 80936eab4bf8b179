import { assert, describe, it } from "@effect/vitest"
import { Array as Arr, Deferred, Effect, Either, Fiber, Option, Queue, Schedule } from "effect"
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

  /** A server that answers after some turns, and notices when a name is asked for again before that. */
  const makeServer = (refuses: (name: string) => boolean = () => false) => {
    const subscribed = new Set<string>()
    const underway = new Set<string>()
    let crossed = 0
    let asked = 0
    const answer = (names: ReadonlyArray<string>, done: (name: string) => void) =>
      Effect.gen(function*() {
        asked++
        for (const name of names) {
          if (underway.has(name)) crossed++
          underway.add(name)
        }
        // What was sent is done, whoever waits for it.
        for (let n = asked % 3; n >= 0; n--) yield* turn
        for (const name of names) {
          underway.delete(name)
          if (refuses(name)) return yield* closed
          done(name)
        }
      }).pipe(Effect.uninterruptible)
    const driver: DriverSubscriber = {
      subscribe: (_, names) => answer(names, (name) => subscribed.add(name)),
      unsubscribe: (_, names) => answer(names, (name) => subscribed.delete(name)),
      listen: () => {}
    }
    return { driver, subscribed, crossed: () => crossed, asked: () => asked }
  }

  const makeSubscriptions = (driver: DriverSubscriber) =>
    Subscriptions.make(
      driver,
      Schedule.recurs(0),
      (_kind, _name, channel, bytes) => new Message({ channel, pattern: Option.none(), bytes })
    )

  const silent: Subscriptions.Listener = { onMessage: () => {}, onGap: () => {} }

  it.live("whoever comes, goes and gives up in any order, a name is there exactly as long as somebody has it", () =>
    Effect.gen(function*() {
      const server = makeServer()
      const { listen } = yield* makeSubscriptions(server.driver)
      const wanted = new Map<string, number>()
      const count = (name: string, by: number) => void wanted.set(name, (wanted.get(name) ?? 0) + by)
      const user = (i: number) =>
        Effect.gen(function*() {
          for (let n = 0; n < 8; n++) {
            const names = (i + n) % 3 === 0 ? ["a", "b"] : [["a", "b", "c"][(i * n) % 3]!]
            yield* Effect.scoped(Effect.gen(function*() {
              yield* listen("channel", names, silent)
              for (const name of names) count(name, 1)
              for (let m = (i + n) % 4; m >= 0; m--) {
                for (const name of names) assert.isTrue(server.subscribed.has(name))
                yield* turn
              }
              for (const name of names) count(name, -1)
            }))
          }
        })
      const giveUp = (i: number) =>
        Effect.gen(function*() {
          for (let n = 0; n < 8; n++) {
            const fiber = yield* Effect.fork(
              Effect.scoped(Effect.zipRight(listen("channel", ["a", "c"], silent), turn))
            )
            for (let m = (i * n) % 4; m > 0; m--) yield* turn
            yield* Fiber.interrupt(fiber)
          }
        })
      yield* Effect.all([...Arr.makeBy(6, user), ...Arr.makeBy(6, giveUp)], { concurrency: "unbounded" })
      assert.deepStrictEqual(Array.from(server.subscribed), [])
      assert.strictEqual(server.crossed(), 0)
      assert.isAbove(server.asked(), 10)
      assert.deepStrictEqual(new Set(wanted.values()), new Set([0]))
    }).pipe(Effect.scoped))

  it.live("one of several names that is refused leaves none of them, though the scope stays open", () =>
    Effect.gen(function*() {
      const server = makeServer((name) => name === "bad")
      const { listen } = yield* makeSubscriptions(server.driver)
      let ended = 0
      const listener = { ...silent, onEnd: () => void ended++ }
      yield* listen("channel", ["kept"], silent)
      const result = yield* Effect.either(listen("channel", ["good", "kept", "bad"], listener))
      assert.isTrue(Either.isLeft(result))
      assert.deepStrictEqual(Array.from(server.subscribed), ["kept"])
      assert.strictEqual(ended, 0)
      yield* Effect.scoped(listen("channel", ["good", "kept"], listener))
      assert.deepStrictEqual([Array.from(server.subscribed), ended], [["kept"], 1])
    }).pipe(Effect.scoped))
})
