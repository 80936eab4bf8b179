/**
 * Publishing and subscribing.
 */
import { assert } from "@effect/vitest"
import { Chunk, Effect, Exit, Fiber, Option, Queue, Scope } from "effect"
import type { Gap, Message, Service } from "../../../src/RedisClient.js"
import type { RedisError } from "../../../src/RedisError.js"
import { eventually, gives, givesSorted, none, refused, some, type Test } from "./tools.js"

const message = (element: Message | Gap): Message =>
  element._tag === "Message" ? element : assert.fail(`a gap: ${element.reason}`)

const take = (queue: Queue.Dequeue<Message | Gap>) => Effect.map(Queue.take(queue), message)

const takeN = (queue: Queue.Dequeue<Message | Gap>, n: number) =>
  Effect.map(Queue.takeN(queue, n), (elements) => Chunk.toReadonlyArray(elements).map(message))

/** On a Cluster it reaches the subscribers of every node, but only those of one are counted. */
const reaches = (client: Service, publish: Effect.Effect<number, RedisError>, n: number) =>
  Effect.map(publish, (count) => client.mode === "cluster" ? assert.isAtMost(count, n) : assert.strictEqual(count, n))

export const pubsub = (test: Test): void => {
  test("a subscriber gets what is published, in order", (client, { name }) =>
    Effect.gen(function*() {
      const channel = name("channel")
      yield* gives(client.publish(channel, "to nobody"), 0)
      const queue = yield* client.subscribe({ channels: [channel] })
      for (let i = 0; i < 100; i++) yield* reaches(client, client.publish(channel, `message ${i}`), 1)
      const messages = yield* takeN(queue, 100)
      assert.deepStrictEqual(messages.map((m) => m.payload), Array.from({ length: 100 }, (_, i) => `message ${i}`))
      for (const m of messages) {
        assert.strictEqual(m.channel, channel)
        assert.deepStrictEqual(m.pattern, none)
      }
    }))

  test("payloads are bytes", (client, { name }) =>
    Effect.gen(function*() {
      const channel = name("channel")
      const bytes = Uint8Array.from({ length: 256 }, (_, i) => i)
      const queue = yield* client.subscribe({ channels: [channel] })
      yield* client.publish(channel, bytes)
      yield* client.publish(channel, "")
      yield* client.publish(channel, "日本語\r\n")
      yield* client.publish(channel, 1.5)
      const [a, b, c, d] = yield* takeN(queue, 4)
      assert.deepStrictEqual(Array.from(a!.bytes), Array.from(bytes))
      assert.deepStrictEqual(Array.from(b!.bytes), [])
      assert.strictEqual(c!.payload, "日本語\r\n")
      assert.strictEqual(d!.payload, "1.5")
    }))

  test("patterns", (client, { name }) =>
    Effect.gen(function*() {
      const channel = name("news")
      const queue = yield* client.subscribe({ patterns: [`${channel}.*`] })
      yield* gives(client.publish(channel, "no"), 0)
      yield* reaches(client, client.publish(`${channel}.art`, "a"), 1)
      yield* reaches(client, client.publish(`${channel}.`, "b"), 1)
      const [a, b] = yield* takeN(queue, 2)
      assert.strictEqual(a!.channel, `${channel}.art`)
      assert.deepStrictEqual(a!.pattern, some(`${channel}.*`))
      assert.strictEqual(a!.payload, "a")
      assert.strictEqual(b!.channel, `${channel}.`)
    }))

  test("shard channels", (client, { name }) =>
    Effect.gen(function*() {
      const channel = name("shard")
      const queue = yield* client.subscribe({ shardChannels: [channel] })
      yield* gives(client.spublish(channel, "a"), 1)
      yield* gives(client.publish(channel, "not to shard channels"), 0)
      yield* client.spublish(channel, "b")
      const [a, b] = yield* takeN(queue, 2)
      assert.deepStrictEqual([a!.payload, b!.payload], ["a", "b"])
      assert.strictEqual(a!.channel, channel)
      assert.deepStrictEqual(a!.pattern, none)
    }))

  test("several channels in one subscription", (client, { name }) =>
    Effect.gen(function*() {
      const [a, b] = [name("a"), name("b")]
      const queue = yield* client.subscribe({ channels: [a, b, a] })
      yield* client.publish(a, "1")
      yield* client.publish(b, "2")
      const messages = yield* takeN(queue, 2)
      assert.deepStrictEqual(messages.map((m) => [m.channel, m.payload]), [[a, "1"], [b, "2"]])
      yield* gives(Queue.size(queue), 0)
    }))

  test("a channel and a pattern that matches it are two subscriptions", (client, { name }) =>
    Effect.gen(function*() {
      const channel = name("both")
      const direct = yield* client.subscribe({ channels: [channel] })
      const pattern = yield* client.subscribe({ patterns: [`${channel}*`] })
      yield* client.publish(channel, "x")
      assert.deepStrictEqual((yield* take(direct)).pattern, none)
      assert.deepStrictEqual((yield* take(pattern)).pattern, some(`${channel}*`))
      yield* gives(Queue.size(direct), 0)
    }))

  test("one that unsubscribes does not silence the others", (client, { name }) =>
    Effect.gen(function*() {
      const channel = name("channel")
      const scope = yield* Scope.make()
      const stays = yield* client.subscribe({ channels: [channel] })
      const goes = yield* client.subscribe({ channels: [channel] }).pipe(Scope.extend(scope))
      // All of one client share a connection, so the server counts one.
      yield* reaches(client, client.publish(channel, "1"), 1)
      assert.strictEqual((yield* take(stays)).payload, "1")
      assert.strictEqual((yield* take(goes)).payload, "1")
      yield* Scope.close(scope, Exit.void)
      assert.isTrue(yield* Queue.isShutdown(goes))
      yield* reaches(client, client.publish(channel, "2"), 1)
      assert.strictEqual((yield* take(stays)).payload, "2")
    }))

  test(
    "the last one that unsubscribes ends the subscription on the server",
    (client, { name }) =>
      Effect.gen(function*() {
        const channel = name("channel")
        const subscribed = Effect.map(client.pubsubNumSub([channel]), (counts) => counts[channel])
        yield* gives(subscribed, 0)
        yield* Effect.scoped(Effect.gen(function*() {
          // @effect-diagnostics-next-line floatingEffect:off
          yield* client.subscribe({ channels: [channel] })
          // @effect-diagnostics-next-line floatingEffect:off
          yield* Effect.scoped(client.subscribe({ channels: [channel] }))
          yield* gives(subscribed, 1)
        }))
        yield* gives(subscribed, 0)
        yield* gives(client.publish(channel, "x"), 0)
        // @effect-diagnostics-next-line floatingEffect:off
        yield* client.subscribe({ channels: [channel] })
        yield* gives(subscribed, 1)
      })
  )

  test("a subscription ends when its fiber is interrupted", (client, { name }) =>
    Effect.gen(function*() {
      const channel = name("channel")
      const fiber = yield* Effect.fork(
        Effect.scoped(Effect.zipRight(client.subscribe({ channels: [channel] }), Effect.never))
      )
      yield* eventually(Effect.map(client.pubsubNumSub([channel]), (counts) => counts[channel] === 1))
      yield* Fiber.interrupt(fiber)
      yield* gives(client.pubsubNumSub([channel]), { [channel]: 0 })
      yield* gives(client.publish(channel, "x"), 0)
    }))

  test("several clients each get a message", (client, { apart, other }) =>
    Effect.gen(function*() {
      const prefix = `${apart("prefix")}:`
      const [a, b] = [yield* other(prefix), yield* other(prefix)]
      const [first, second] = [
        yield* a.subscribe({ channels: ["x"] }),
        yield* b.subscribe({ channels: ["x"] })
      ]
      yield* reaches(a, a.publish("x", "hello"), 2)
      assert.strictEqual((yield* take(first)).payload, "hello")
      assert.strictEqual((yield* take(second)).payload, "hello")
      // Another prefix is another channel.
      yield* gives(client.publish("x", "not for them"), 0)
    }))

  test("channels have the prefix, and are seen without it", (_, { name, other }) =>
    Effect.gen(function*() {
      const prefix = name("glob")
      const client = yield* other(`${prefix}*[?\\:`)
      const near = yield* other(`${prefix}X[a\\:`)
      // @effect-diagnostics-next-line floatingEffect:off
      yield* client.subscribe({ channels: ["a", "b"] })
      // @effect-diagnostics-next-line floatingEffect:off
      yield* near.subscribe({ channels: ["a"] })
      yield* givesSorted(client.pubsubChannels(), ["a", "b"])
      yield* gives(client.pubsubChannels("b*"), ["b"])
      yield* gives(client.pubsubNumSub(["a", "c"]), { a: 1, c: 0 })
      yield* gives(client.pubsubNumSub([]), {})
      yield* reaches(client, Effect.map(client.send("PUBLISH", client.key("a"), "x"), Number), 1)
      const pattern = yield* client.subscribe({ patterns: ["*"] })
      yield* near.publish("a", "not for it")
      yield* client.publish("c", "for it")
      const got = yield* take(pattern)
      assert.deepStrictEqual([got.channel, got.payload, Option.getOrNull(got.pattern)], ["c", "for it", "*"])
      yield* refused(client.pubsubChannels(""), "pattern")
      yield* refused(client.pubsubNumSub([""]), "channels")
    }))

  test("a slow subscriber gets a gap in place of what did not fit", (client, { name }) =>
    Effect.gen(function*() {
      const channel = name("channel")
      const slow = yield* client.subscribe({ channels: [channel], capacity: 3 })
      const fast = yield* client.subscribe({ channels: [channel] })
      for (let i = 0; i < 10; i++) yield* client.publish(channel, `${i}`)
      assert.deepStrictEqual((yield* takeN(fast, 10)).length, 10)
      const elements = Chunk.toReadonlyArray(yield* Queue.takeAll(slow))
      assert.deepStrictEqual(
        elements.map((element) => element._tag === "Message" ? element.payload : element.reason),
        ["0", "1", "2", "overflow"]
      )
      yield* client.publish(channel, "again")
      assert.strictEqual((yield* take(slow)).payload, "again")
    }))

  test("what cannot be subscribed to is refused", (client) =>
    Effect.gen(function*() {
      yield* refused(Effect.scoped(client.subscribe({ channels: [] })), "channels")
      yield* refused(Effect.scoped(client.subscribe({ patterns: ["a", ""] })), "patterns")
      yield* refused(Effect.scoped(client.subscribe({ shardChannels: [] })), "shardChannels")
      for (const capacity of [0, -1, 1.5, NaN]) {
        yield* refused(Effect.scoped(client.subscribe({ channels: ["a"], capacity })), "capacity")
      }
      yield* refused(client.publish("", "x"), "channel")
      yield* refused(client.spublish("", "x"), "shardChannel")
    }))
}
