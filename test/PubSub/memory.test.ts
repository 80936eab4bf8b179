import { assert, describe, it } from "@effect/vitest"
import {
  Array as Arr,
  Effect,
  Either,
  Exit,
  Fiber,
  Layer,
  Logger,
  Metric,
  Option,
  Schema,
  Scope,
  Stream,
  TestClock
} from "effect"
import { matchesGlob } from "../../src/internal/glob.js"
import { handlerFailures, messageDecodeFailures, messagesDropped } from "../../src/internal/metrics.js"
import * as CacheInvalidator from "../../src/PubSub/CacheInvalidator.js"
import * as EventBus from "../../src/PubSub/EventBus.js"
import * as PubSub from "../../src/PubSub/index.js"
import * as Notifications from "../../src/PubSub/Notifications.js"
import { RedisClient } from "../../src/RedisClient.js"
import type { RedisError } from "../../src/RedisError.js"
import * as RedisTestServer from "../../src/RedisTestServer.js"
import * as Spans from "../kit/spans.js"
import { services, takeN } from "./suite.js"

const Numbers = PubSub.channel("numbers", Schema.Number)

const refusal = (options: RedisTestServer.FaultOptions): RedisTestServer.Fault => ({
  ...options,
  _tag: "reply",
  error: "NOPERM this user has no permissions to access one of the channels"
})

const withServer = Effect.provide(Layer.provideMerge(services, RedisTestServer.layer))

/** Lets everything happen that waits for nothing. */
const settle = TestClock.adjust("1 millis")

const logs = (into: Array<string>) =>
  Logger.replace(
    Logger.defaultLogger,
    Logger.make(({ logLevel, message }) => {
      into.push(`${logLevel.label} ${String(message)}`)
    })
  )

describe("messages in memory", () => {
  it.scoped("what subscribes can be run again, and each time it is another subscription", () =>
    Effect.gen(function*() {
      const pubsub = yield* PubSub.PubSub
      const first = Stream.runHead(pubsub.subscribe(Numbers))
      const opened = pubsub.subscribeScoped(Numbers)
      for (let n = 1; n <= 2; n++) {
        const [one, other] = [yield* Effect.fork(first), yield* Effect.fork(first)]
        yield* settle
        yield* Effect.scoped(Effect.gen(function*() {
          const [left, right] = [yield* opened, yield* opened]
          yield* pubsub.publish(Numbers, n)
          assert.deepStrictEqual([(yield* left.take).payload, (yield* right.take).payload], [n, n])
        }))
        for (const fiber of [one, other]) {
          assert.deepStrictEqual(Option.map(yield* Fiber.join(fiber), ({ payload }) => payload), Option.some(n))
        }
      }
    }).pipe(withServer))

  it.scoped("channels that share a schema share neither version nor format", () =>
    Effect.gen(function*() {
      const client = yield* RedisClient
      const reads = <F extends PubSub.Format>(channel: PubSub.Channel<string, F>) =>
        PubSub.subscribeScoped(channel, { failures: true })
      const readers = [
        yield* reads(PubSub.channel("shared", Schema.String)),
        yield* reads(PubSub.channel("shared", Schema.String, { version: 2 })),
        yield* reads(PubSub.channel("shared", Schema.String, { format: "plain" }))
      ]
      const message = (version: number) =>
        JSON.stringify({ version, id: "x", source: "y", timestamp: 0, payload: `v${version}` })
      const next = Effect.forEach(readers, ({ take }) =>
        Effect.map(take, (each) => each._tag === "Message" ? each.payload : each.reason))
      yield* client.publish("shared", message(1))
      assert.deepStrictEqual(yield* next, ["v1", "version", message(1)])
      yield* client.publish("shared", message(2))
      assert.deepStrictEqual(yield* next, ["version", "v2", message(2)])
    }).pipe(withServer))

  it.scoped("what a publisher says of a message can hold anything", () =>
    Effect.gen(function*() {
      const odd = "\"},\\ \u2028 \u{1F600} \ud800 \n"
      const [message] = yield* Effect.gen(function*() {
        const subscription = yield* PubSub.subscribeScoped(Numbers)
        yield* PubSub.publish(Numbers, 1, { type: odd, correlationId: odd })
        return yield* takeN(subscription, 1)
      }).pipe(Effect.provide(PubSub.layerWith({ source: odd })))
      assert.strictEqual(message.source, odd)
      assert.deepStrictEqual([message.type, message.correlationId], [Option.some(odd), Option.some(odd)])
    }).pipe(withServer))

  it.scoped("an outage is one Gap for each subscription, in its place", () =>
    Effect.gen(function*() {
      const server = yield* RedisTestServer.RedisTestServer
      const channels = Arr.makeBy(5, (i) => PubSub.channel(`outage:${i}`, Schema.Number))
      const subscriptions = yield* Effect.forEach(
        channels,
        (channel) => PubSub.subscribeScoped(channel, { gaps: true })
      )
      const all = yield* PubSub.subscribeScoped(channels, { gaps: true })
      const pattern = yield* PubSub.subscribeScoped(PubSub.pattern("outage:*", Schema.Number), { gaps: true })
      const silent = yield* PubSub.subscribeScoped(channels[0])
      const publish = (n: number) =>
        Effect.forEach(channels, (channel) => PubSub.publish(channel, n), { discard: true })
      yield* publish(1)
      yield* server.disconnect({ downtime: "10 seconds" })
      yield* TestClock.adjust("1 minute")
      assert.strictEqual((yield* server.subscriptions).length, 6)
      yield* publish(2)
      const brief = (each: PubSub.Gap | PubSub.Message<number>) => each._tag === "Gap" ? each.reason : each.payload
      for (const subscription of subscriptions) {
        assert.deepStrictEqual((yield* takeN(subscription, 3)).map(brief), [1, "disconnected", 2])
      }
      for (const subscription of [all, pattern]) {
        assert.deepStrictEqual((yield* takeN(subscription, 11)).map(brief), [
          ...Arr.replicate(1, 5),
          "disconnected",
          ...Arr.replicate(2, 5)
        ])
      }
      assert.deepStrictEqual((yield* takeN(silent, 2)).map(brief), [1, 2])
    }).pipe(withServer))

  it.scoped("a subscription that is refused fails, and leaves nothing", () =>
    Effect.gen(function*() {
      const server = yield* RedisTestServer.RedisTestServer
      yield* server.inject(
        refusal({
          command: "SUBSCRIBE",
          times: 4
        })
      )
      const attempts: ReadonlyArray<
        Effect.Effect<void, RedisError, Layer.Layer.Success<typeof services> | Scope.Scope>
      > = [
        Effect.asVoid(PubSub.subscribeScoped(Numbers)),
        Stream.runDrain(PubSub.subscribe(Numbers)),
        EventBus.subscribe(Numbers, () => Effect.void),
        CacheInvalidator.listen(CacheInvalidator.define({ name: "x" }), CacheInvalidator.forMap(new Map([["kept", 1]])))
      ]
      for (const asking of attempts) {
        const failure = yield* Effect.flip(asking)
        assert(failure._tag === "RedisReplyError")
        assert.strictEqual(failure.code, "NOPERM")
      }
      // One of several is enough, and the scope goes on.
      yield* server.inject(
        refusal({
          command: "SUBSCRIBE",
          after: 2
        })
      )
      yield* Effect.flip(PubSub.subscribeScoped(Arr.makeBy(5, (i) => PubSub.channel(`several:${i}`, Schema.Number))))
      assert.deepStrictEqual(yield* server.subscriptions, [])
      // And the next one works.
      const { take } = yield* PubSub.subscribeScoped(Numbers)
      yield* PubSub.publish(Numbers, 1)
      assert.strictEqual((yield* take).payload, 1)
    }).pipe(withServer))

  it.scoped("subscribing that is interrupted leaves nothing in a scope that goes on", () =>
    Effect.gen(function*() {
      const server = yield* RedisTestServer.RedisTestServer
      yield* server.inject(RedisTestServer.Fault.delay("1 minute", { command: "SUBSCRIBE" }))
      const scope = yield* Effect.scope
      const fiber = yield* Effect.fork(Scope.extend(PubSub.subscribeScoped(Numbers), scope))
      yield* TestClock.adjust("1 second")
      const interrupting = yield* Effect.fork(Fiber.interrupt(fiber))
      yield* TestClock.adjust("2 minutes")
      assert.isTrue(Exit.isInterrupted(yield* Fiber.join(interrupting)))
      assert.deepStrictEqual(yield* server.subscriptions, [])
    }).pipe(withServer))

  it.scoped("the time of a message is the publisher's, and the first instant is one", () =>
    Effect.gen(function*() {
      const { take } = yield* PubSub.subscribeScoped(Numbers)
      yield* PubSub.publish(Numbers, 1)
      yield* TestClock.adjust("3 seconds")
      yield* PubSub.publish(Numbers, 2)
      const [first, second] = [yield* take, yield* take]
      assert.deepStrictEqual([first.timestamp, second.timestamp], [0, 3000])
    }).pipe(withServer))

  it.scoped("an invalidator forgets everything when it may have missed something", () =>
    Effect.gen(function*() {
      const server = yield* RedisTestServer.RedisTestServer
      const definition = CacheInvalidator.define({ name: "x" })
      const map = new Map<string, number>()
      yield* CacheInvalidator.listen(definition, CacheInvalidator.forMap(map))
      map.set("a", 1)
      yield* server.disconnect({ downtime: "10 seconds" })
      yield* TestClock.adjust("5 seconds")
      // While nothing can be heard nothing is known.
      assert.strictEqual(map.size, 1)
      yield* TestClock.adjust("1 minute")
      assert.strictEqual(map.size, 0)
      // Those who are too slow miss something as well.
      let all = 0
      yield* CacheInvalidator.listen(definition, { keys: () => Effect.sleep("1 hour"), all: Effect.sync(() => all++) })
      assert.strictEqual(all, 1)
      yield* Effect.forEach(Arr.range(1, 3000), (i) => CacheInvalidator.invalidate(definition, { keys: [`${i}`] }), {
        discard: true
      })
      for (let i = 0; i < 3; i++) yield* TestClock.adjust("1 hour")
      assert.strictEqual(all, 2)
    }).pipe(withServer))

  it.scoped("what an invalidator leaves out is its own", () =>
    Effect.gen(function*() {
      const definition = CacheInvalidator.define({ name: "x" })
      const other = yield* Effect.provideServiceEffect(CacheInvalidator.make, PubSub.PubSub, PubSub.make)
      const map = new Map<string, number>()
      yield* CacheInvalidator.listen(definition, CacheInvalidator.forMap(map), { skipOwn: true })
      map.set("a", 1).set("b", 1)
      yield* CacheInvalidator.invalidate(definition, { keys: ["a"] })
      yield* other.invalidate(definition, { keys: ["b"] })
      yield* settle
      assert.deepStrictEqual(Array.from(map.keys()), ["a"])
    }).pipe(withServer))

  it.scoped("a cache whose key never stays the same is still answered, and keeps nothing of it", () =>
    Effect.gen(function*() {
      const definition = CacheInvalidator.define({ name: "busy" })
      let lookups = 0
      const cache = yield* CacheInvalidator.makeCache(definition, {
        capacity: 10,
        timeToLive: "1 hour",
        lookup: () =>
          Effect.gen(function*() {
            const n = ++lookups
            yield* CacheInvalidator.invalidate(definition, { keys: ["a"] })
            yield* Effect.sleep("1 second")
            return n
          })
      })
      const reading = yield* Effect.fork(cache.get("a"))
      for (let i = 0; i < 10; i++) yield* TestClock.adjust("1 second")
      assert.strictEqual(yield* Fiber.join(reading), 5)
      assert.isFalse(yield* cache.contains("a"))
      // What fails is read again in the same way.
      const failing = yield* CacheInvalidator.makeCache(definition, {
        capacity: 10,
        timeToLive: "1 hour",
        lookup: () => Effect.zipRight(Effect.sleep("1 second"), Effect.sync(() => ++lookups)).pipe(Effect.flip)
      })
      const asking = yield* Effect.fork(Effect.flip(failing.get("b")))
      yield* settle
      yield* CacheInvalidator.invalidate(definition, { keys: ["b"] })
      yield* TestClock.adjust("1 second")
      yield* TestClock.adjust("1 second")
      assert.strictEqual(yield* Fiber.join(asking), 7)
    }).pipe(withServer))

  it.scoped("says which messages it could not read, and nothing of what is in them", () => {
    const lines: Array<string> = []
    return Effect.gen(function*() {
      const client = yield* RedisClient
      const { take } = yield* PubSub.subscribeScoped(Numbers)
      for (let i = 0; i < 10; i++) yield* client.publish("numbers", "secret")
      yield* PubSub.publish(Numbers, 1)
      yield* settle
      const reading = yield* Effect.fork(take)
      yield* settle
      assert.strictEqual((yield* Fiber.join(reading)).payload, 1)
      assert.isTrue(lines.length > 0 && lines.every((line) => line.startsWith("WARN") && line.includes("numbers")))
      assert.notInclude(lines.join(), "secret")
    }).pipe(Effect.provide(logs(lines)), withServer)
  })

  it.scoped("counts what was dropped, what was unreadable, and what failed", () =>
    Effect.gen(function*() {
      const client = yield* RedisClient
      const read = Effect.map(
        Effect.forEach([messagesDropped, messageDecodeFailures, handlerFailures], (each) => Metric.value(each)),
        (states) => states.map(({ count }) => count)
      )
      const before = yield* read
      yield* PubSub.subscribeScoped(Numbers, { buffer: { capacity: 2 } })
      yield* EventBus.subscribe(Numbers, () => Effect.fail("no"), { onFailure: () => Effect.void })
      yield* client.publish("numbers", "garbage")
      for (let i = 0; i < 5; i++) yield* PubSub.publish(Numbers, i)
      yield* settle
      assert.deepStrictEqual((yield* read).map((n, i) => n - before[i]!), [4, 1, 5])
    }).pipe(Effect.provide(Logger.remove(Logger.defaultLogger)), withServer))

  it.scoped("makes a span for publishing, for subscribing and for each message that is handled", () =>
    Effect.gen(function*() {
      const spans = yield* Spans.Spans
      yield* EventBus.subscribe(Numbers, () => Effect.void)
      yield* EventBus.publish(Numbers, 1)
      yield* settle
      const all = (yield* spans.all).filter(({ name }) => /^(pubsub|eventbus)\./.test(name))
      assert.deepStrictEqual(all.map(({ name }) => name), ["pubsub.subscribe", "pubsub.publish", "eventbus.handle"])
      for (const { attributes } of all) assert.strictEqual(attributes.get("messaging.destination.name"), "numbers")
    }).pipe(withServer, Effect.provide(Spans.layer)))

  it.scoped("one connection and two subscriptions for all sockets of a user", () =>
    Effect.gen(function*() {
      const server = yield* RedisTestServer.RedisTestServer
      const service = yield* Notifications.Notifications
      const alerts = Notifications.define({ name: "alerts", schema: Schema.String })
      const before = yield* server.connections
      const sockets = yield* Effect.forEach(Arr.range(1, 50), () =>
        Effect.fork(Stream.runCollect(Stream.take(service.subscribeUser(alerts, "ada"), 2))))
      yield* settle
      assert.strictEqual((yield* server.subscriptions).length, 2)
      assert.strictEqual((yield* server.connections) - before, 1)
      assert.strictEqual(yield* Notifications.notify(alerts, "ada", "x"), 1)
      yield* Notifications.broadcast(alerts, "y")
      for (const socket of sockets) {
        assert.deepStrictEqual(
          Array.from(yield* Fiber.join(socket), (each) =>
            each._tag === "Gap" ? "gap" : each.payload),
          ["x", "y"]
        )
      }
      assert.deepStrictEqual(yield* server.subscriptions, [])
    }).pipe(withServer))

  it.scoped("a socket that is too slow is told so, and others get everything", () =>
    Effect.gen(function*() {
      const service = yield* Notifications.Notifications
      const alerts = Notifications.define({ name: "alerts", schema: Schema.Number })
      const collect = (slow: boolean, options?: Notifications.Options) =>
        Effect.gen(function*() {
          const got: Array<string | number> = []
          yield* service.subscribeUser(alerts, "ada", options).pipe(
            Stream.rechunk(1),
            Stream.runForEach((each) =>
              Effect.zipRight(
                Effect.sync(() => got.push(each._tag === "Gap" ? `${each.reason} ${each.dropped}` : each.payload)),
                slow ? Effect.sleep("1 second") : Effect.void
              )
            ),
            Effect.forkScoped
          )
          return got
        })
      const fast = yield* collect(false)
      const slow = yield* collect(true, { buffer: { capacity: 3 } })
      yield* settle
      for (let i = 0; i < 20; i++) {
        yield* service.notify(alerts, "ada", i)
        yield* settle
      }
      assert.deepStrictEqual(fast, Arr.range(0, 19))
      for (let i = 0; i < 10; i++) yield* TestClock.adjust("1 second")
      assert.deepStrictEqual(slow, [0, "overflow 16", 17, 18, 19])
    }).pipe(withServer))
})

describe("globs", () => {
  it("are those of Redis", () => {
    for (
      const [pattern, text, expected] of [
        ["user:*:x*", "user:1:x", true],
        ["user:*:x*", "superuser:1:x", false],
        ["user.1", "user:1", false],
        ["a*b*c", "a--b--b--c", true],
        ["[^a]", "b", true],
        ["[^a]", "a", false],
        ["\\*", "*", true],
        ["\\*", "x", false],
        ["?", "é", false],
        ["??", "é", true],
        ["", "", true],
        ["*", "", true],
        ["h[ab", "hb", true]
      ] as const
    ) {
      assert.strictEqual(matchesGlob(pattern, text), expected, `${pattern} ${text}`)
    }
  })

  it("take no longer for one that is made to", () => {
    // With a search for each star this would not end in a lifetime, and with a call for each it would be too deep.
    assert.isFalse(matchesGlob("*a".repeat(30) + "b", "a".repeat(3000)))
    assert.isFalse(matchesGlob("*a".repeat(50_000) + "b", "a".repeat(60_000) + "c"))
  })
})

it.effect("without a name, a program's messages have a random one", () =>
  Effect.gen(function*() {
    const [a, b] = [yield* PubSub.make, yield* PubSub.make]
    const { take } = yield* a.subscribeScoped(Numbers)
    yield* a.publish(Numbers, 1)
    yield* b.publish(Numbers, 1)
    const [first, second] = [yield* take, yield* take]
    assert.match(first.source, /^[\w-]{12}$/)
    assert.notStrictEqual(first.source, second.source)
    assert.isTrue(first.id.startsWith(`${first.source}.`))
    assert.deepStrictEqual(first.type, Option.none())
    assert.isTrue(Either.isRight(yield* Effect.either(a.publish(Numbers, 2))))
  }).pipe(Effect.scoped, Effect.provide(RedisTestServer.layer)))
