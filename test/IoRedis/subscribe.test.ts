import { assert, describe, it } from "@effect/vitest"
import { Array as Arr, Chunk, Duration, Effect, Exit, Fiber, Queue, Scope } from "effect"
import { Gap, type Message } from "../../src/RedisClient.js"
import * as RealServer from "../kit/RealServer.js"
import { connect, connectionsNamed, eventually, proxied, unique } from "./support.js"

const subscribers = (client: Effect.Effect.Success<ReturnType<typeof connect>>, channel: string) =>
  Effect.map(client.send("PUBSUB", "NUMSUB", channel), (reply) => Array.isArray(reply) ? Number(reply[1]) : -1)

const takeUntil = <A>(queue: Queue.Dequeue<A>, done: (item: A) => boolean): Effect.Effect<Array<A>> =>
  Effect.gen(function*() {
    const items: Array<A> = []
    while (true) {
      const item = yield* Queue.take(queue)
      items.push(item)
      if (done(item)) return items
    }
  })

const isMessage = (payload: string) => (item: Message | Gap) => item._tag === "Message" && item.payload === payload

describe("subscriptions", () => {
  it.scopedLive("are ready when they are there: what is published next arrives", () =>
    Effect.gen(function*() {
      const client = yield* connect({ keyPrefix: "p:" })
      yield* Effect.forEach(Arr.range(1, 50), () =>
        Effect.scoped(Effect.gen(function*() {
          const channel = unique("ready")
          const queue = yield* client.subscribe({ channels: [channel] })
          assert.strictEqual(yield* client.send("PUBLISH", client.key(channel), "hello"), 1)
          const message = yield* Queue.take(queue)
          assert(message._tag === "Message")
          assert.strictEqual(message.channel, channel)
          assert.strictEqual(message.payload, "hello")
        })), { concurrency: 10, discard: true })
    }))

  it.scopedLive("carry bytes, patterns and shard channels", () =>
    Effect.gen(function*() {
      const client = yield* connect({ keyPrefix: "p[1]*:" })
      const name = unique("kinds")
      const bytes = Uint8Array.from({ length: 256 }, (_, i) => i)
      const channels = yield* client.subscribe({ channels: [name] })
      const patterns = yield* client.subscribe({ patterns: [`${name}*`] })
      const shards = yield* client.subscribe({ shardChannels: [name] })
      yield* client.send("PUBLISH", client.key(name), bytes)
      yield* client.send("SPUBLISH", client.key(name), bytes)
      for (const [queue, pattern] of [[channels, undefined], [patterns, `${name}*`], [shards, undefined]] as const) {
        const message = yield* Queue.take(queue)
        assert(message._tag === "Message")
        assert.deepStrictEqual(new Uint8Array(message.bytes), bytes)
        assert.strictEqual(message.channel, name)
        assert.strictEqual(message.pattern._tag === "Some" ? message.pattern.value : undefined, pattern)
      }
    }))

  it.scopedLive("share one connection, and count their references", () =>
    Effect.gen(function*() {
      const name = unique("shared")
      const client = yield* connect({ name })
      const channel = unique("channel")
      const first = yield* Scope.make()
      const second = yield* Scope.make()
      // @effect-diagnostics-next-line floatingEffect:off
      yield* Scope.extend(client.subscribe({ channels: [channel, unique("other")] }), first)
      const queue = yield* Scope.extend(client.subscribe({ channels: [channel] }), second)
      assert.lengthOf(yield* connectionsNamed(client, name), 2)
      assert.strictEqual(yield* subscribers(client, channel), 1)
      yield* Scope.close(first, Exit.void)
      assert.strictEqual(yield* subscribers(client, channel), 1)
      yield* client.send("PUBLISH", channel, "still")
      assert.strictEqual((yield* Queue.take(queue))._tag, "Message")
      yield* Scope.close(second, Exit.void)
      assert.strictEqual(yield* subscribers(client, channel), 0)
      // And again.
      yield* Effect.scoped(Effect.gen(function*() {
        // @effect-diagnostics-next-line floatingEffect:off
        yield* client.subscribe({ channels: [channel] })
        assert.strictEqual(yield* subscribers(client, channel), 1)
      }))
      assert.strictEqual(yield* subscribers(client, channel), 0)
    }))

  it.scopedLive("of one kind go on when the last one of another ends", () =>
    Effect.gen(function*() {
      const client = yield* connect()
      const kinds = {
        channels: (name: string) => client.subscribe({ channels: [name] }),
        patterns: (name: string) => client.subscribe({ patterns: [`${name}*`] }),
        shards: (name: string) => client.subscribe({ shardChannels: [name] })
      }
      for (const [stays, goes] of [["channels", "shards"], ["shards", "channels"], ["patterns", "shards"]] as const) {
        const name = unique("kinds")
        const queue = yield* kinds[stays](name)
        yield* Effect.scoped(Effect.asVoid(kinds[goes](unique("goes"))))
        for (const text of ["1", "2"]) {
          yield* stays === "shards"
            ? client.spublish(name, text)
            : client.publish(name, text)
        }
        assert.isTrue(isMessage("1")(yield* Queue.take(queue)))
        assert.isTrue(isMessage("2")(yield* Queue.take(queue)))
      }
    }))

  it.scopedLive("leave nothing behind when subscribing is interrupted", () =>
    Effect.gen(function*() {
      const client = yield* connect()
      const direct = yield* connect()
      const channel = unique("interrupted")
      for (let i = 0; i < 50; i++) {
        const fiber = yield* Effect.fork(Effect.scoped(client.subscribe({ channels: [channel] })))
        if (i % 2 === 0) yield* Effect.yieldNow()
        yield* Fiber.interrupt(fiber)
      }
      yield* eventually(Effect.filterOrFail(subscribers(direct, channel), (n) => n === 0))
      const queue = yield* client.subscribe({ channels: [channel] })
      assert.strictEqual(yield* direct.send("PUBLISH", channel, "x"), 1)
      assert.isTrue(isMessage("x")(yield* Queue.take(queue)))
    }))

  it.scopedLive("come back after CLIENT KILL, and tell it with one Gap", () =>
    Effect.gen(function*() {
      const server = yield* RealServer.start()
      const client = yield* connect({ url: server.url })
      const direct = yield* connect({ url: server.url })
      const channel = unique("channel")
      const queue = yield* client.subscribe({ channels: [channel] })
      const pattern = yield* client.subscribe({ patterns: [`${channel}*`] })
      yield* direct.send("PUBLISH", channel, "before")
      yield* direct.send("CLIENT", "KILL", "TYPE", "pubsub")
      yield* eventually(Effect.filterOrFail(direct.send("PUBLISH", channel, "after"), (n) => n === 2))
      for (const each of [queue, pattern]) {
        const items = yield* takeUntil(each, isMessage("after"))
        assert.deepStrictEqual(items.map((item) => item._tag === "Gap" ? item.reason : item.payload), [
          "before",
          "disconnected",
          "after"
        ])
      }
    }))

  it.scopedLive("tell each outage once, however often connecting fails", () =>
    Effect.gen(function*() {
      const proxy = yield* proxied
      const client = yield* connect({ url: proxy.url })
      const direct = yield* connect()
      const channel = unique("outages")
      const queue = yield* client.subscribe({ channels: [channel] })
      for (let i = 0; i < 3; i++) {
        yield* proxy.refuse
        yield* Effect.sleep(250)
        yield* proxy.accept
        yield* Queue.take(queue).pipe(
          Effect.flatMap((item) => item._tag === "Gap" ? Effect.void : Effect.die("not a Gap")),
          Effect.zipRight(eventually(
            Effect.filterOrFail(direct.send("PUBLISH", channel, `${i}`), (n) => Number(n) > 0)
          )),
          Effect.zipRight(Effect.flatMap(Queue.take(queue), (item) =>
            isMessage(`${i}`)(item) ? Effect.void : Effect.die("not the message")))
        )
      }
      assert.strictEqual(yield* Queue.size(queue), 0)
    }))

  it.scopedLive("survive two quick losses", () =>
    Effect.gen(function*() {
      const proxy = yield* proxied
      const client = yield* connect({ url: proxy.url })
      const direct = yield* connect()
      const channels = Arr.makeBy(20, (i) => unique(`quick${i}`))
      const queues = yield* Effect.forEach(channels, (channel) => client.subscribe({ channels: [channel] }))
      for (let i = 0; i < 5; i++) {
        yield* proxy.cut
        yield* Effect.sleep(40 + i * 15)
      }
      for (const [channel, queue] of Arr.zip(channels, queues)) {
        yield* eventually(Effect.filterOrFail(direct.send("PUBLISH", channel, "end"), (n) => n === 1))
        const items = yield* takeUntil(queue, isMessage("end"))
        assert.isTrue(items.some((item) => item._tag === "Gap"))
      }
    }))

  it.scopedLive("notice a connection that has fallen silent", () =>
    Effect.gen(function*() {
      const proxy = yield* proxied
      const client = yield* connect({ url: proxy.url, commandTimeout: "200 millis", connectTimeout: "200 millis" })
      const channel = unique("silent")
      const queue = yield* client.subscribe({ channels: [channel] })
      assert.strictEqual(yield* proxy.accepted, 2)
      yield* proxy.stall("both")
      yield* eventually(Effect.filterOrFail(proxy.accepted, (n) => n >= 4))
      yield* proxy.resume
      const item = yield* Queue.take(queue)
      assert.strictEqual(item._tag, "Gap")
    }))

  it.scopedLive("fail at the deadline when the server can't be reached, and leave nothing", () =>
    Effect.gen(function*() {
      const proxy = yield* proxied
      const client = yield* connect({ url: proxy.url, commandTimeout: "200 millis" })
      const direct = yield* connect()
      const channel = unique("unreachable")
      yield* proxy.refuse
      const error = yield* Effect.flip(Effect.scoped(client.subscribe({ channels: [channel] })))
      assert.strictEqual(error._tag, "RedisConnectionError")
      yield* proxy.accept
      const queue = yield* eventually(client.subscribe({ channels: [channel] }))
      assert.strictEqual(yield* direct.send("PUBLISH", channel, "x"), 1)
      assert.isTrue(isMessage("x")(yield* Queue.take(queue)))
    }))

  it.scopedLive("end at once while there is no connection", () =>
    Effect.gen(function*() {
      const proxy = yield* proxied
      const client = yield* connect({ url: proxy.url, commandTimeout: "20 seconds" })
      const direct = yield* connect()
      const channel = unique("ended")
      const scope = yield* Scope.make()
      // @effect-diagnostics-next-line floatingEffect:off
      yield* Scope.extend(client.subscribe({ channels: [channel] }), scope)
      yield* proxy.refuse
      yield* Effect.sleep(50)
      const [took] = yield* Effect.timed(Scope.close(scope, Exit.void))
      assert.isBelow(Duration.toMillis(took), 5000)
      yield* proxy.accept
      yield* client.send("PING")
      assert.strictEqual(yield* subscribers(direct, channel), 0)
    }))

  it.scopedLive("drop what a slow subscriber has no room for, and say so", () =>
    Effect.gen(function*() {
      const client = yield* connect()
      const channel = unique("slow")
      const queue = yield* client.subscribe({ channels: [channel], capacity: 10 })
      yield* client.pipeline(Arr.makeBy(100, (i) => ["PUBLISH", channel, String(i)] as const))
      yield* eventually(Effect.filterOrFail(Queue.size(queue), (n) => n === 11))
      const items = Chunk.toReadonlyArray(yield* Queue.takeAll(queue))
      assert.deepStrictEqual(items.slice(0, 10).map((item) => item._tag === "Message" ? item.payload : "gap"), [
        ...Arr.makeBy(10, String)
      ])
      assert.deepStrictEqual(items[10], new Gap({ reason: "overflow" }))
      yield* client.send("PUBLISH", channel, "later")
      assert.isTrue(isMessage("later")(yield* Queue.take(queue)))
    }))

  it.scopedLive("do not disturb commands", () =>
    Effect.gen(function*() {
      const client = yield* connect()
      const channel = unique("both")
      const queue = yield* client.subscribe({ channels: [channel] })
      yield* Effect.forEach(Arr.range(1, 500), (i) => client.send("PUBLISH", channel, String(i)), {
        concurrency: "unbounded"
      })
      const items = yield* takeUntil(queue, isMessage("500"))
      assert.deepStrictEqual(
        items.map((item) => item._tag === "Message" ? item.payload : "gap"),
        Arr.range(1, 500).map(String)
      )
    }))
})
