import { assert, describe, layer } from "@effect/vitest"
import {
  Array as Arr,
  Cause,
  Chunk,
  Deferred,
  Effect,
  Exit,
  Fiber,
  Layer,
  Logger,
  Option,
  Queue,
  Schema,
  Scope,
  Stream
} from "effect"
import * as CacheInvalidator from "../../src/PubSub/CacheInvalidator.js"
import * as EventBus from "../../src/PubSub/EventBus.js"
import * as PubSub from "../../src/PubSub/index.js"
import * as Notifications from "../../src/PubSub/Notifications.js"
import { RedisClient } from "../../src/RedisClient.js"
import type { RedisError } from "../../src/RedisError.js"
import { error, fresh, type Time, until } from "../kit/suites.js"

export const services = Layer.provideMerge(
  Layer.mergeAll(EventBus.layer, CacheInvalidator.layer, Notifications.layer),
  PubSub.layerWith({ source: "suite" })
)

export class Created extends Schema.TaggedClass<Created>()("Created", { id: Schema.String }) {}
export class Renamed extends Schema.TaggedClass<Renamed>()("Renamed", { id: Schema.String, name: Schema.String }) {}

export const Event = Schema.Union(Created, Renamed)

const numbers = (text: string) => PubSub.channel(fresh(text), Schema.Number)

/** The messages of another process: the same client, and another name. */
const anotherProcess = PubSub.makeWith({ source: "another" })

/** What the server says about a channel, and about a sharded one. */
export const subscribed = (channel: PubSub.Channel<any>) =>
  Effect.flatMap(RedisClient, (client) =>
    channel.sharded
      ? Effect.map(client.spublish(channel.name, "?"), (n) => n)
      : Effect.map(client.pubsubNumSub([channel.name]), (counts) => counts[channel.name]!))

export const payloads = <A>(elements: Iterable<PubSub.PlainMessage<A>>): ReadonlyArray<A> =>
  Array.from(elements, ({ payload }) => payload)

export const takeN = <A, E>({ take }: PubSub.Subscription<A, E>, n: number) => Effect.all(Arr.replicate(take, n))

/** How elements read in an assertion. */
const brief = (element: PubSub.PlainMessage<unknown> | PubSub.Gap | PubSub.DecodeFailure) =>
  element._tag === "Message" ? element.payload : element._tag === "Gap"
    ? `${element.reason} ${element.dropped}`
    : element.reason

export const suite = (
  name: string,
  driver: Layer.Layer<RedisClient, RedisError>,
  options: { readonly excludeTestServices?: boolean },
  time: Time
) => {
  const eventually = until(time)

  const refused = <A, R>(effect: Effect.Effect<A, RedisError, R>, field: string) =>
    Effect.map(error(effect), (failure) => {
      assert(failure._tag === "RedisInputError")
      assert.strictEqual(failure.field, field)
      return failure
    })

  // What handlers fail with is logged, and would fill the page.
  const quiet = Layer.merge(services, Logger.remove(Logger.defaultLogger))
  layer(Layer.orDie(Layer.provideMerge(quiet, driver)), options)(name, (it) => {
    describe("PubSub", () => {
      it.scoped("what is published right after subscribing arrives, all of it and in order", () =>
        Effect.gen(function*() {
          const channel = numbers("ready")
          const subscription = yield* PubSub.subscribeScoped(channel, {
            gaps: true,
            failures: true,
            buffer: { capacity: 10_000 }
          })
          yield* Effect.forEach(Arr.range(1, 10_000), (i) => PubSub.publish(channel, i), {
            concurrency: 100,
            discard: true
          })
          const elements = yield* subscription.stream.pipe(Stream.take(10_000), Stream.runCollect)
          assert.deepStrictEqual(Arr.map(Chunk.toReadonlyArray(elements), brief), Arr.range(1, 10_000))
          assert.strictEqual(yield* subscription.dropped, 0)
        }))

      it.scoped("a hundred new channels are each ready when they say so", () =>
        Effect.forEach(Arr.range(1, 100), (i) =>
          Effect.scoped(Effect.gen(function*() {
            const channel = PubSub.channel(fresh("new"), Schema.Number, { sharded: i % 2 === 0 })
            const { take } = yield* PubSub.subscribeScoped(channel, { gaps: true })
            yield* PubSub.publish(channel, i)
            const first = yield* take
            // On a busy machine a master can be taken for dead. Then the subscriber is told so.
            if (first._tag === "Gap") yield* PubSub.publish(channel, i)
            assert.strictEqual(brief(first._tag === "Gap" ? yield* take : first), i)
          })), { concurrency: 20, discard: true }))

      it.scoped("a message says what it is, where it comes from and when", () =>
        Effect.gen(function*() {
          const channel = PubSub.channel(fresh("envelope"), Event)
          const another = yield* anotherProcess
          const { take } = yield* PubSub.subscribeScoped(channel)
          yield* PubSub.publish(channel, new Created({ id: "1" }), { correlationId: "request-7" })
          yield* another.publish(channel, new Renamed({ id: "1", name: "Ada" }), { type: "other" })
          const [first, second] = [yield* take, yield* take]
          assert.deepStrictEqual(first.payload, new Created({ id: "1" }))
          assert.instanceOf(first.payload, Created)
          assert.strictEqual(first.channel, channel.name)
          assert.deepStrictEqual(first.pattern, Option.none())
          assert.deepStrictEqual(first.type, Option.some("Created"))
          assert.deepStrictEqual(first.correlationId, Option.some("request-7"))
          assert.strictEqual(first.source, "suite")
          assert.strictEqual(typeof first.timestamp, "number")
          assert.isAtMost(first.timestamp, second.timestamp)
          assert.deepStrictEqual(second.type, Option.some("other"))
          assert.deepStrictEqual(second.correlationId, Option.none())
          assert.strictEqual(second.source, "another")
          assert.notStrictEqual(first.id, second.id)
        }))

      it.scoped("publishing says how many it reached", () =>
        Effect.gen(function*() {
          const client = yield* RedisClient
          const channel = numbers("receivers")
          const sharded = PubSub.channel(fresh("receivers"), Schema.Number, { sharded: true })
          assert.strictEqual(yield* PubSub.publish(channel, 1), 0)
          assert.strictEqual(yield* PubSub.publish(sharded, 1), 0)
          yield* Effect.all([PubSub.subscribeScoped(channel), PubSub.subscribeScoped(channel)])
          yield* Effect.all([PubSub.subscribeScoped(sharded), PubSub.subscribeScoped(sharded)])
          // However many there are in this process.
          const reached = yield* PubSub.publish(channel, 2)
          if (client.mode === "cluster") assert.isAtMost(reached, 1)
          else assert.strictEqual(reached, 1)
          assert.strictEqual(yield* PubSub.publish(sharded, 2), 1)
        }))

      it.scoped("a pattern gets the channels that match", () =>
        Effect.gen(function*() {
          const base = fresh("pattern")
          const all = PubSub.pattern(`${base}.*`, Schema.Number)
          const { take } = yield* PubSub.subscribeScoped(all)
          yield* PubSub.publish(PubSub.channel(base, Schema.Number), 0)
          yield* PubSub.publish(PubSub.channel(`${base}.a`, Schema.Number), 1)
          yield* PubSub.publish(PubSub.channel(`${base}.b`, Schema.Number), 2)
          const [a, b] = [yield* take, yield* take]
          assert.deepStrictEqual([a.channel, a.payload], [`${base}.a`, 1])
          assert.deepStrictEqual([b.channel, b.payload], [`${base}.b`, 2])
          assert.deepStrictEqual(b.pattern, Option.some(`${base}.*`))
        }))

      it.scoped("several channels are one subscription, with their order", () =>
        Effect.gen(function*() {
          const [a, b] = [numbers("several"), numbers("several")]
          const subscription = yield* PubSub.subscribeScoped([a, b, a])
          for (let i = 0; i < 10; i++) yield* PubSub.publish(i % 2 === 0 ? a : b, i)
          const messages = yield* takeN(subscription, 10)
          assert.deepStrictEqual(payloads(messages), Arr.range(0, 9))
          assert.deepStrictEqual(messages.map(({ channel }) => channel === a.name), messages.map((_, i) => i % 2 === 0))
        }))

      it.scoped("sharded channels of different slots are one subscription too", () =>
        Effect.gen(function*() {
          const channels = Arr.makeBy(8, () => PubSub.channel(fresh("shard"), Schema.Number, { sharded: true }))
          const subscription = yield* PubSub.subscribeScoped(channels)
          yield* Effect.forEach(channels, (channel, i) => PubSub.publish(channel, i), { discard: true })
          const got = yield* takeN(subscription, 8)
          assert.deepStrictEqual(payloads(got).slice().sort(), Arr.range(0, 7))
          // What is published to a sharded channel is for no other.
          yield* PubSub.publish(PubSub.channel(channels[0].name, Schema.Number), 99)
          yield* PubSub.publish(channels[0], 100)
          assert.strictEqual((yield* subscription.take).payload, 100)
        }))

      it.scoped("plain text and bytes are read and written as they are", () =>
        Effect.gen(function*() {
          const client = yield* RedisClient
          const text = PubSub.channel(fresh("plain"), Schema.String, { format: "plain" })
          const json = PubSub.channel(text.name, Schema.parseJson(Schema.Struct({ n: Schema.Number })), {
            format: "plain"
          })
          const bytes = PubSub.channel(text.name, Schema.Uint8ArrayFromSelf, { format: "binary" })
          const raw = yield* client.subscribe({ channels: [text.name] })
          const all = Uint8Array.from({ length: 256 }, (_, i) => i)

          yield* PubSub.publish(text, "hello")
          yield* PubSub.publish(json, { n: 1 })
          yield* PubSub.publish(bytes, all)
          const sent = yield* Effect.map(Queue.takeN(raw, 3), Chunk.toReadonlyArray)
          assert.deepStrictEqual(sent.map((each) => each._tag === "Message" ? Array.from(each.bytes) : []), [
            Array.from(Buffer.from("hello")),
            Array.from(Buffer.from("{\"n\":1}")),
            Array.from(all)
          ])

          const texts = yield* PubSub.subscribeScoped(text, { failures: true })
          const values = yield* PubSub.subscribeScoped(json, { failures: true })
          const binary = yield* PubSub.subscribeScoped(bytes)
          yield* client.publish(text.name, "\ufeffnot json")
          yield* client.publish(text.name, "{\"n\":2}")
          yield* client.publish(text.name, all)
          assert.deepStrictEqual((yield* takeN(texts, 3)).map(brief), ["\ufeffnot json", "{\"n\":2}", "payload"])
          assert.deepStrictEqual((yield* takeN(values, 3)).map(brief), ["payload", { n: 2 }, "payload"])
          assert.deepStrictEqual(Array.from((yield* takeN(binary, 3))[2]!.payload), Array.from(all))
        }))

      it.scoped("what is no message of the channel stops nothing, and can be asked for", () =>
        Effect.gen(function*() {
          const client = yield* RedisClient
          const { name } = numbers("hostile")
          const channel = PubSub.channel(name, Schema.Struct({ a: Schema.Number }))
          const envelope = (fields: object) =>
            JSON.stringify({ version: 1, id: "x", source: "y", timestamp: 0, payload: { a: 1 }, ...fields })
          const hostile: ReadonlyArray<readonly [string | Uint8Array, PubSub.DecodeFailure["reason"]]> = [
            ["", "envelope"],
            ["hello", "envelope"],
            ["null", "envelope"],
            ["[]", "envelope"],
            ["{}", "envelope"],
            ["{\"__proto__\":{\"version\":1}}", "envelope"],
            [new Uint8Array([0xff, 0xfe, 0]), "envelope"],
            ["[".repeat(200_000), "envelope"],
            [envelope({ version: "1" }), "envelope"],
            [envelope({ id: 1 }), "envelope"],
            [envelope({ source: null }), "envelope"],
            [envelope({ timestamp: "0" }), "envelope"],
            [envelope({ type: {} }), "envelope"],
            [envelope({ correlationId: 5 }), "envelope"],
            [envelope({ version: 2 }), "version"],
            [envelope({ version: -1 }), "version"],
            [envelope({ payload: undefined }), "payload"],
            [envelope({ payload: { a: "secret" } }), "payload"]
          ]
          const careless = yield* PubSub.subscribeScoped(channel)
          const careful = yield* PubSub.subscribeScoped(channel, { failures: true })
          for (const [message] of hostile) yield* client.publish(name, message)
          // More than is known does no harm.
          yield* client.publish(name, envelope({ more: true, payload: { a: 1, b: 2 } }))
          yield* PubSub.publish(channel, { a: 2 })
          assert.deepStrictEqual(payloads(yield* takeN(careless, 2)), [{ a: 1 }, { a: 2 }])
          const elements = yield* takeN(careful, hostile.length + 2)
          assert.deepStrictEqual(elements.map(brief), [...hostile.map(([, reason]) => reason), { a: 1 }, { a: 2 }])
          for (const [i, [message]] of hostile.entries()) {
            const failure = elements[i]!
            assert(failure._tag === "DecodeFailure")
            assert.deepStrictEqual(Buffer.from(failure.bytes), Buffer.from(message))
            assert.strictEqual(failure.channel, name)
            assert.notInclude(failure.detail, "secret")
            assert.isBelow(failure.detail.length, 300)
          }
          const last = elements[hostile.length - 1]!
          assert(last._tag === "DecodeFailure")
          assert.include(last.detail, "at a")
          assert.include(last.text, "secret")
        }))

      it.scoped("its own messages can be left out, and those of others with the same name not", () =>
        Effect.gen(function*() {
          const channel = numbers("own")
          const mine = yield* PubSub.makeWith({ source: "one program" })
          const twin = yield* PubSub.makeWith({ source: "one program" })
          const subscription = yield* mine.subscribeScoped(channel, { skipOwn: true })
          const everything = yield* mine.subscribeScoped(channel)
          for (let i = 0; i < 6; i++) yield* (i % 2 === 0 ? mine : twin).publish(channel, i)
          assert.deepStrictEqual(payloads(yield* takeN(subscription, 3)), [1, 3, 5])
          assert.deepStrictEqual(payloads(yield* takeN(everything, 6)), [0, 1, 2, 3, 4, 5])
        }))

      it.scoped("a subscriber that does not read harms nobody, and is told exactly what it missed", () =>
        Effect.gen(function*() {
          const channel = numbers("slow")
          const oldest = yield* PubSub.subscribeScoped(channel, { gaps: true, buffer: { capacity: 10 } })
          const newest = yield* PubSub.subscribeScoped(channel, {
            gaps: true,
            buffer: { capacity: 10, policy: "drop-newest" }
          })
          const silent = yield* PubSub.subscribeScoped(channel, { buffer: { capacity: 1 } })
          const reader = yield* PubSub.subscribeScoped(channel, { gaps: true })
          const reading = yield* Effect.fork(Stream.runCollect(Stream.take(reader.stream, 1000)))
          yield* Effect.forEach(Arr.range(1, 1000), (i) => PubSub.publish(channel, i), {
            concurrency: 50,
            discard: true
          })
          assert.deepStrictEqual(Array.from(yield* Fiber.join(reading)).map(brief), Arr.range(1, 1000))
          yield* eventually(Effect.map(silent.dropped, (n) => n === 999))
          assert.deepStrictEqual([yield* oldest.dropped, yield* newest.dropped, yield* reader.dropped], [990, 990, 0])
          assert.deepStrictEqual((yield* takeN(oldest, 11)).map(brief), ["overflow 990", ...Arr.range(991, 1000)])
          assert.strictEqual((yield* silent.take).payload, 1000)
          assert.deepStrictEqual((yield* takeN(newest, 11)).map(brief), [...Arr.range(1, 10), "overflow 990"])
          yield* PubSub.publish(channel, 1001)
          for (const each of [oldest, newest, silent]) assert.strictEqual(brief(yield* each.take), 1001)
        }))

      it.scoped("a subscriber that asks for it fails when it is too slow", () =>
        Effect.gen(function*() {
          const channel = numbers("fails")
          const subscription = yield* PubSub.subscribeScoped(channel, { buffer: { capacity: 3, policy: "fail" } })
          for (let i = 1; i <= 5; i++) yield* PubSub.publish(channel, i)
          yield* eventually(Effect.map(subscription.dropped, (n) => n === 1))
          assert.deepStrictEqual(payloads(yield* takeN(subscription, 2)), [1, 2])
          const rest: Array<number> = []
          const failure = yield* error(
            Stream.runForEach(subscription.stream, ({ payload }) => Effect.sync(() => rest.push(payload)))
          )
          assert.deepStrictEqual(rest, [3])
          assert.strictEqual(failure._tag, "SubscriberTooSlow")
          assert.strictEqual(failure.channel, channel.name)
          assert.strictEqual(failure.capacity, 3)
          assert.deepStrictEqual(yield* error(subscription.take), failure)
          assert.strictEqual(yield* subscription.dropped, 1)
          // A stream leaves the channel when it fails.
          const other = numbers("fails")
          const reading = yield* Effect.fork(Effect.flip(
            Stream.runForEach(
              PubSub.subscribe(other, { buffer: { capacity: 1, policy: "fail" } }),
              () => Effect.forEach([1, 2, 3], (n) => PubSub.publish(other, n))
            )
          ))
          yield* eventually(Effect.map(subscribed(other), (n) => n === 1))
          yield* PubSub.publish(other, 0)
          assert.strictEqual((yield* Fiber.join(reading))._tag, "SubscriberTooSlow")
          assert.strictEqual(yield* subscribed(other), 0)
        }))

      it.scoped("the last who leaves ends the subscription, and the others notice nothing", () =>
        Effect.gen(function*() {
          const channel = numbers("leaving")
          const scope = yield* Scope.make()
          const stays = yield* PubSub.subscribeScoped(channel)
          yield* Effect.scoped(Effect.gen(function*() {
            const leaves = yield* Scope.extend(PubSub.subscribeScoped(channel), scope)
            const reading = yield* Effect.fork(Effect.exit(Stream.runCollect(leaves.stream)))
            const waiting = yield* Effect.fork(Effect.exit(leaves.take))
            yield* PubSub.publish(channel, 1)
            assert.strictEqual((yield* stays.take).payload, 1)
            yield* Scope.close(scope, Exit.void)
            assert.isTrue(Exit.isSuccess(yield* Fiber.join(reading)))
            const exit = yield* Fiber.join(waiting)
            assert.isTrue(Exit.isSuccess(exit) || Exit.isInterrupted(exit))
            assert.isTrue(Exit.isInterrupted(yield* Effect.exit(leaves.take)))
          }))
          yield* PubSub.publish(channel, 2)
          assert.strictEqual((yield* stays.take).payload, 2)
          assert.strictEqual(yield* subscribed(channel), 1)
          yield* Effect.scoped(PubSub.subscribeScoped(channel))
          assert.strictEqual(yield* subscribed(channel), 1)
        }))

      it.scoped("a stream is subscribed for as long as it runs", () =>
        Effect.gen(function*() {
          const channel = numbers("stream")
          const sharded = PubSub.channel(fresh("stream"), Schema.Number, { sharded: true })
          for (const each of [channel, sharded]) {
            const fiber = yield* Effect.fork(Stream.runCollect(Stream.take(PubSub.subscribe(each), 2)))
            yield* eventually(Effect.map(subscribed(each), (n) => n === 1))
            yield* PubSub.publish(each, 1)
            yield* PubSub.publish(each, 2)
            // Whoever asks about a sharded channel publishes to it.
            assert.deepStrictEqual(payloads(yield* Fiber.join(fiber)), [1, 2])
            assert.strictEqual(yield* subscribed(each), 0)
            const endless = yield* Effect.fork(Stream.runDrain(PubSub.subscribe(each)))
            yield* eventually(Effect.map(subscribed(each), (n) => n === 1))
            yield* Fiber.interrupt(endless)
            assert.strictEqual(yield* subscribed(each), 0)
          }
        }))

      it.scoped("what can't be is refused, and nothing is sent", () =>
        Effect.gen(function*() {
          const channel = numbers("refused")
          const text = PubSub.channel(fresh("refused"), Schema.String, { format: "plain" })
          const sharded = PubSub.channel(fresh("refused"), Schema.Number, { sharded: true })
          yield* refused(PubSub.publish(PubSub.channel("", Schema.Number), 1), "name")
          yield* refused(PubSub.subscribeScoped(PubSub.channel("", Schema.Number)), "name")
          yield* refused(PubSub.subscribeScoped(PubSub.pattern("", Schema.Number)), "glob")
          yield* refused(PubSub.subscribeScoped([]), "channels")
          yield* refused(PubSub.subscribeScoped([channel, sharded]), "channels")
          yield* refused(PubSub.subscribeScoped(PubSub.channel("x", Schema.Number, { version: 0.5 })), "version")
          yield* refused(PubSub.publish(PubSub.channel("x", Schema.Number, { version: NaN }), 1), "version")
          yield* refused(PubSub.subscribeScoped(text, { skipOwn: true }), "skipOwn")
          for (const capacity of [0, -1, 1.5, NaN, Infinity]) {
            yield* refused(PubSub.subscribeScoped(channel, { buffer: { capacity } }), "buffer.capacity")
          }
          yield* refused(Stream.runDrain(PubSub.subscribe(channel, { buffer: { capacity: 0 } })), "buffer.capacity")
          const policy: any = "suspend"
          yield* refused(PubSub.subscribeScoped(channel, { buffer: { policy } }), "buffer.policy")
          const options: any = [{ correlationId: "x" }]
          yield* refused(PubSub.publish(text, "x", ...options as []), "options")
          assert.strictEqual(yield* subscribed(channel), 0)
        }))

      it.scoped("a value that does not fit its schema is not published, and not shown", () =>
        Effect.gen(function*() {
          const { name } = numbers("encode")
          const positive = PubSub.channel(name, Schema.Struct({ password: Schema.NonEmptyString, n: Schema.Positive }))
          const { take } = yield* PubSub.subscribeScoped(positive)
          const failure = yield* refused(PubSub.publish(positive, { password: "hunter2", n: -1 }), "value")
          assert.notInclude(failure.message, "hunter2")
          assert.notInclude(failure.message, "-1")
          assert.include(failure.actual, "at n")
          const throws = Schema.transform(Schema.Number, Schema.Number, {
            strict: true,
            decode: (n) => n,
            encode: () => {
              throw new Error("hunter2")
            }
          })
          yield* refused(PubSub.publish(PubSub.channel(name, throws), 1), "value")
          yield* refused(PubSub.publish(PubSub.channel(name, Schema.BigIntFromSelf), 1n), "value")
          const cyclic: Record<string, unknown> = {}
          cyclic.self = cyclic
          yield* refused(PubSub.publish(PubSub.channel(name, Schema.Unknown), cyclic), "value")
          yield* PubSub.publish(positive, { password: "x", n: 1 })
          assert.strictEqual((yield* take).payload.n, 1)
        }))
    })

    describe("EventBus", () => {
      const collect = <A>() => {
        const all: Array<A> = []
        return { all, add: (a: A) => Effect.sync(() => void all.push(a)) }
      }

      it.scoped("hands each event to the handlers of its type", () =>
        Effect.gen(function*() {
          const channel = PubSub.channel(fresh("bus"), Event)
          const created = collect<string>()
          const renamed = collect<string>()
          const both = collect<string>()
          const every = collect<string>()
          yield* EventBus.on(channel, "Created", ({ id }) => created.add(id))
          yield* EventBus.on(channel, "Renamed", ({ name }, { source }) => renamed.add(`${name} by ${source}`))
          yield* EventBus.handle(channel, {
            Created: ({ id }) => both.add(id),
            Renamed: ({ name }) => both.add(name)
          })
          yield* EventBus.subscribe(channel, ({ _tag }) => every.add(_tag))
          // All of them are one subscription.
          assert.strictEqual(yield* subscribed(channel), 1)
          yield* EventBus.publish(channel, new Created({ id: "1" }))
          yield* EventBus.publish(channel, new Renamed({ id: "1", name: "Ada" }))
          yield* EventBus.publish(channel, new Created({ id: "2" }))
          yield* eventually(
            Effect.sync(() => [created, renamed, both, every].reduce((n, x) => n + x.all.length, 0) === 9)
          )
          assert.deepStrictEqual(created.all, ["1", "2"])
          assert.deepStrictEqual(renamed.all, ["Ada by suite"])
          assert.deepStrictEqual(both.all, ["1", "Ada", "2"])
          assert.deepStrictEqual(every.all, ["Created", "Renamed", "Created"])
        }))

      it.scoped("a handler that fails or dies stops neither itself nor others", () =>
        Effect.gen(function*() {
          const client = yield* RedisClient
          const channel = numbers("failing")
          const fine = collect<number>()
          const failures = collect<readonly [number, string]>()
          const undecodable = collect<string>()
          yield* EventBus.subscribe(channel, (n) =>
            n % 4 === 0
              ? Effect.fail("expected" as const)
              : n % 4 === 1
              ? Effect.die(new Error("defect"))
              : n % 4 === 2
              ? Effect.interrupt
              : Effect.sync(() => {
                throw new Error("thrown")
              }), {
            onFailure: ({ cause, message }) =>
              failures.add([
                message.payload,
                Option.getOrElse(Cause.failureOption(cause), () => Cause.isInterrupted(cause) ? "interrupted" : "died")
              ])
          })
          // One whose report fails is no better.
          yield* EventBus.subscribe(
            channel,
            (): Effect.Effect<void> => {
              throw new Error("not even an effect")
            },
            { onFailure: () => Effect.die("and again") }
          )
          yield* EventBus.subscribe(channel, (n) => fine.add(n), {
            onDecodeFailure: ({ reason }) => Effect.zipRight(undecodable.add(reason), Effect.die("as well"))
          })
          for (let i = 0; i < 8; i++) yield* EventBus.publish(channel, i)
          yield* client.publish(channel.name, "garbage")
          yield* EventBus.publish(channel, 8)
          yield* eventually(Effect.sync(() => fine.all.length === 9 && failures.all.length === 9))
          assert.deepStrictEqual(fine.all, Arr.range(0, 8))
          assert.deepStrictEqual(undecodable.all, ["envelope"])
          assert.deepStrictEqual(
            failures.all,
            Arr.range(0, 8).map((n) => [n, n % 4 === 0 ? "expected" : n % 4 === 2 ? "interrupted" : "died"] as const)
          )
        }))

      it.scoped("one message at a time and in order, or several when that is wanted", () =>
        Effect.gen(function*() {
          const channel = numbers("order")
          const watch = { now: 0, most: 0, order: [] as Array<number> }
          const busy = { now: 0, most: 0 }
          const gate = yield* Deferred.make<void>()
          yield* EventBus.subscribe(channel, (n) =>
            Effect.gen(function*() {
              watch.most = Math.max(watch.most, ++watch.now)
              for (let i = 0; i < n % 5; i++) yield* Effect.yieldNow()
              watch.order.push(n)
              watch.now--
            }))
          yield* EventBus.subscribe(
            channel,
            () =>
              Effect.gen(function*() {
                busy.most = Math.max(busy.most, ++busy.now)
                yield* Deferred.await(gate)
                busy.now--
              }),
            { concurrency: 7 }
          )
          for (let i = 0; i < 100; i++) yield* EventBus.publish(channel, i)
          yield* eventually(Effect.sync(() => watch.order.length === 100 && busy.now === 7))
          assert.deepStrictEqual(watch.order, Arr.range(0, 99))
          assert.strictEqual(watch.most, 1)
          assert.strictEqual(busy.most, 7)
          yield* Deferred.succeed(gate, void 0)
          yield* eventually(Effect.sync(() => busy.now === 0))
        }))

      it.scoped("a scope that closes takes its handler, and no other", () =>
        Effect.gen(function*() {
          const channel = numbers("scope")
          const stays = collect<number>()
          const goes = collect<number>()
          const scope = yield* Scope.make()
          let interrupted = 0
          yield* EventBus.subscribe(channel, (n) => stays.add(n))
          yield* Scope.extend(EventBus.subscribe(channel, (n) => goes.add(n)), scope)
          yield* Scope.extend(
            EventBus.subscribe(channel, () => Effect.onInterrupt(Effect.never, () => Effect.sync(() => interrupted++))),
            scope
          )
          yield* EventBus.publish(channel, 1)
          yield* eventually(Effect.sync(() => stays.all.length === 1 && goes.all.length === 1))
          yield* Scope.close(scope, Exit.void)
          assert.strictEqual(interrupted, 1)
          yield* EventBus.publish(channel, 2)
          yield* eventually(Effect.sync(() => stays.all.length === 2))
          assert.deepStrictEqual(goes.all, [1])
          assert.strictEqual(yield* subscribed(channel), 1)
        }))

      it.scoped("what can't be is refused", () =>
        Effect.gen(function*() {
          const channel = numbers("refused")
          const nothing = () => Effect.void
          for (const concurrency of [0, -1, 1.5, NaN]) {
            yield* refused(EventBus.subscribe(channel, nothing, { concurrency }), "concurrency")
          }
          const policy: any = "fail"
          yield* refused(EventBus.subscribe(channel, nothing, { buffer: { policy } }), "buffer.policy")
          yield* refused(EventBus.subscribe(PubSub.channel("", Schema.Number), nothing), "name")
          assert.strictEqual(yield* subscribed(channel), 0)
        }))
    })

    describe("CacheInvalidator", () => {
      const define = () => CacheInvalidator.define({ name: fresh("cache") })

      it.scoped("forgets keys, what matches as in Redis, tags, and everything", () =>
        Effect.gen(function*() {
          const definition = define()
          const map = new Map<string, { readonly tags: ReadonlyArray<string> }>()
          const plain = new Map<string, number>()
          const fill = () => {
            for (const key of ["user:1", "user:1:x", "superuser:1:x", "user:2:xyz", "user.2.x", "[a]", "é1", "z"]) {
              map.set(key, { tags: key.includes("2") ? ["two", "even"] : ["odd"] })
              plain.set(key, 1)
            }
          }
          fill()
          yield* CacheInvalidator.listen(definition, CacheInvalidator.forMap(map, { tags: ({ tags }) => tags }))
          yield* CacheInvalidator.listen(definition, CacheInvalidator.forMap(plain))
          // What was kept before nobody has heard about.
          assert.deepStrictEqual([map.size, plain.size], [0, 0])
          const left = (what: CacheInvalidator.Invalidation) =>
            Effect.gen(function*() {
              fill()
              map.set("canary", { tags: ["canary"] })
              yield* CacheInvalidator.invalidate(definition, what)
              yield* CacheInvalidator.invalidate(definition, { keys: ["canary"] })
              yield* eventually(Effect.sync(() => !map.has("canary")))
              return Array.from(map.keys()).filter((key) => key !== "canary")
            })
          assert.deepStrictEqual(
            yield* left({ keys: ["z", "nobody", "user:1"] }),
            ["user:1:x", "superuser:1:x", "user:2:xyz", "user.2.x", "[a]", "é1"]
          )
          assert.deepStrictEqual(
            yield* left({ patterns: ["user:*:x*"] }),
            ["superuser:1:x", "user.2.x", "[a]", "é1", "z", "user:1"].sort((a, b) => {
              const keys = Array.from(map.keys())
              return keys.indexOf(a) - keys.indexOf(b)
            })
          )
          // A pattern counts bytes, as the server does.
          yield* left({ patterns: ["\\[a]", "??1", "[x-z]"] })
          for (const gone of ["[a]", "é1", "z"]) assert.isFalse(map.has(gone))
          yield* left({ tags: ["even", "nothing"] })
          assert.isFalse(map.has("user:2:xyz") || map.has("user.2.x"))
          assert.isTrue(map.has("user:1"))
          assert.strictEqual(plain.size, 0)
          assert.deepStrictEqual(yield* left({ all: true }), [])
        }))

      it.scoped("forgets everything when a message can't be read or a handler fails", () =>
        Effect.gen(function*() {
          const client = yield* RedisClient
          const definition = define()
          const told: Array<string> = []
          const tell = (what: string) => Effect.sync(() => void told.push(what))
          yield* CacheInvalidator.listen(definition, {
            keys: (keys) => keys.includes("bad") ? Effect.fail("bad") : tell(keys.join()),
            patterns: () => Effect.die("bad"),
            all: tell("all")
          })
          const throwing: Array<string> = []
          yield* CacheInvalidator.listen<never, never>(definition, {
            keys: (keys) => {
              if (keys.includes("c")) throwing.push("c")
              throw new Error("bad")
            },
            all: Effect.die("bad too")
          })
          const { channel } = definition
          yield* CacheInvalidator.invalidate(definition, { keys: ["a", "b"] })
          yield* client.publish(channel.name, "garbage")
          yield* CacheInvalidator.invalidate(definition, { keys: ["bad"] })
          yield* CacheInvalidator.invalidate(definition, { patterns: ["*"] })
          yield* CacheInvalidator.invalidate(definition, { tags: ["t"] })
          yield* CacheInvalidator.invalidate(definition, { keys: ["c"] })
          yield* eventually(Effect.sync(() => told.length === 7 && throwing.length === 1))
          assert.deepStrictEqual(told, ["all", "a,b", "all", "all", "all", "all", "c"])
        }))

      it.scoped("a cache does not keep what was read before an invalidation", () =>
        Effect.gen(function*() {
          const definition = define()
          let value = 1
          let lookups = 0
          let gate = yield* Deferred.make<void>()
          const cache = yield* CacheInvalidator.makeCache(definition, {
            capacity: 100,
            timeToLive: "1 hour",
            lookup: (key) =>
              Effect.suspend(() => {
                lookups++
                const read = value
                return Effect.as(Deferred.await(gate), `${key} ${read}`)
              }),
            tags: (_, key) => [`tag:${key}`]
          })
          yield* Deferred.succeed(gate, void 0)
          assert.strictEqual(yield* cache.get("a"), "a 1")
          assert.strictEqual(yield* cache.get("a"), "a 1")
          assert.strictEqual(lookups, 1)
          for (
            const what of [
              { keys: ["a"] },
              { patterns: ["[a-c]"] },
              { tags: ["tag:a"] },
              { all: true }
            ] satisfies ReadonlyArray<CacheInvalidator.Invalidation>
          ) {
            // What is kept.
            value++
            yield* CacheInvalidator.invalidate(definition, what)
            yield* eventually(Effect.map(cache.get("a"), (text) => text === `a ${value}`))
            // What is being read.
            gate = yield* Deferred.make<void>()
            yield* CacheInvalidator.invalidate(definition, { all: true })
            yield* eventually(Effect.map(cache.contains("a"), (there) => !there))
            const before = lookups
            const reading = yield* Effect.fork(cache.get("a"))
            yield* eventually(Effect.sync(() => lookups === before + 1))
            value++
            yield* CacheInvalidator.invalidate(definition, what)
            yield* eventually(Effect.map(cache.contains("a"), (there) => !there))
            yield* Deferred.succeed(gate, void 0)
            assert.strictEqual(yield* Fiber.join(reading), `a ${value}`)
            assert.strictEqual(yield* cache.get("a"), `a ${value}`)
          }
        }))

      it.scoped("what can't be is refused", () =>
        Effect.gen(function*() {
          const definition = define()
          yield* refused(CacheInvalidator.invalidate(definition, {}), "what")
          yield* refused(CacheInvalidator.invalidate(definition, { keys: [], all: false }), "what")
          const nameless = CacheInvalidator.define({ name: "" })
          yield* refused(CacheInvalidator.invalidate(nameless, { all: true }), "name")
          yield* refused(CacheInvalidator.listen(nameless, CacheInvalidator.forMap(new Map())), "name")
        }))
    })

    describe("Notifications", () => {
      const define = () => Notifications.define({ name: fresh("alerts"), schema: Schema.String })

      const listening = <A>(definition: Notifications.Definition<A>, user: string) =>
        Effect.gen(function*() {
          const got: Array<readonly [string, string, A | null]> = []
          yield* Notifications.subscribe(definition).pipe(
            Stream.runForEach((each) =>
              Effect.sync(() =>
                got.push(
                  each._tag === "Gap"
                    ? [each.reason, "", null]
                    : [each.audience, each.source, each.payload]
                )
              )
            ),
            Effect.provideService(Notifications.CurrentUser, { id: user }),
            Effect.forkScoped
          )
          return got
        })

      it.scoped("a user gets what is for that user and for everybody", () =>
        Effect.gen(function*() {
          const definition = define()
          const first = yield* listening(definition, "ada")
          const second = yield* listening(definition, "ada")
          const bob = yield* listening(definition, "bob")
          const all = { ...definition, name: "all" }
          yield* eventually(
            Effect.all([
              subscribed(definition.user("ada")),
              subscribed(definition.user("bob")),
              subscribed(definition.everybody)
            ]).pipe(Effect.map((counts) => counts.join() === "1,1,1"))
          )
          // All sockets there are on one connection, and those of one user on one subscription.
          yield* Effect.yieldNow()
          yield* Notifications.notify(definition, "ada", "for ada")
          yield* Notifications.notify(definition, "bob", "for bob")
          yield* Notifications.broadcast(definition, "for everybody", { correlationId: "x" })
          assert.strictEqual(yield* Notifications.notify(definition, "nobody", "lost"), 0)
          yield* eventually(Effect.sync(() => first.length === 2 && second.length === 2 && bob.length === 2))
          assert.deepStrictEqual(first, [["user", "suite", "for ada"], ["everybody", "suite", "for everybody"]])
          assert.deepStrictEqual(second, first)
          assert.deepStrictEqual(bob, [["user", "suite", "for bob"], ["everybody", "suite", "for everybody"]])
          assert.strictEqual(all.everybody.name, definition.everybody.name)
        }))

      it.scoped("no name of a user or of a kind reaches the channel of another", () =>
        Effect.gen(function*() {
          const channels = ["a", "a:user", "a:user:b", "a%3Auser"].flatMap((name) => {
            const { everybody, user } = Notifications.define({ name, schema: Schema.String })
            return ["b", "all", "b:all", "user:b", "%", ":"].map((id) => user(id).name).concat(everybody.name)
          })
          assert.strictEqual(new Set(channels).size, channels.length)
          yield* refused(Notifications.notify(define(), "", "x"), "userId")
          yield* refused(
            Notifications.broadcast(Notifications.define({ name: "", schema: Schema.String }), "x"),
            "name"
          )
          yield* refused(
            Effect.flatMap(
              Notifications.Notifications,
              (service) => Stream.runDrain(service.subscribeUser(define(), ""))
            ),
            "userId"
          )
        }))
    })
  })
}
