/**
 * Messages beside ioredis: what arrives in a second, and what a subscription takes.
 */
import { Context, Effect, Exit, Layer, Redacted, Schema, Scope, Stream } from "effect"
import * as IoRedis from "effect-redis-kit/IoRedis"
import * as PubSub from "effect-redis-kit/PubSub"
import type { Redis } from "ioredis"
import { setFlagsFromString } from "node:v8"
import { runInNewContext } from "node:vm"
import { type Case, type Contender, fibers, promises, type Slice } from "../harness.js"
import { connect, PREFIX, Server } from "../server.js"

const context = Effect.flatMap(Server, ({ url }) =>
  Layer.build(
    Layer.provideMerge(PubSub.layer, IoRedis.layer({ url: Redacted.make(url), keyPrefix: PREFIX }))
  ))

// ---------------------------------------------------------------------------------------------------------------------
// Throughput
// ---------------------------------------------------------------------------------------------------------------------

/** How many callers publish, each one message after the other. */
const PUBLISHERS = 100

/** 100 bytes. */
const text = JSON.stringify({
  id: "7f1f2ad4-55b5-4a1b",
  name: "Ada Lovelace",
  visits: 42,
  at: "2026-01-01T00:00:00.000Z",
  v: 1
})

class Count {
  published = 0
  received = 0
  /** Called when so many are there. */
  awaited: { readonly goal: number; readonly done: () => void } | undefined

  receive(messages: number): void {
    this.received += messages
    if (this.awaited !== undefined && this.received >= this.awaited.goal) this.awaited.done()
  }
}

/** What all subscribers receive together in a second. A turn ends when the last message is there. */
const deliveries = (subscribers: number, count: Count, publish: Slice): Slice => (seconds) =>
  Effect.suspend(() => {
    count.published = 0
    count.received = 0
    const started = performance.now()
    return Effect.zipRight(
      publish(seconds),
      Effect.promise(async () => {
        while (count.received < count.published * subscribers) await new Promise((resolve) => setImmediate(resolve))
        return [count.received / ((performance.now() - started) / 1000)]
      })
    )
  })

/** From the moment a message is published until the last subscriber has it, one message after the other: the median. */
const latencies = (subscribers: number, count: Count, publish: Effect.Effect<unknown, unknown>): Slice => (seconds) =>
  Effect.gen(function*() {
    const times: Array<number> = []
    const until = performance.now() + seconds * 1000
    while (performance.now() < until) {
      const started = performance.now()
      count.received = 0
      const all = new Promise<void>((done) => count.awaited = { goal: subscribers, done })
      yield* publish
      yield* Effect.promise(() => all)
      times.push(performance.now() - started)
    }
    count.awaited = undefined
    return [times.sort((a, b) => a - b)[Math.floor(times.length / 2)]!]
  })

type What = "throughput" | "latency"

/** Ours, with so many subscribers on one channel. */
const ours = <F extends PubSub.Format>(
  what: What,
  name: string,
  subscribers: number,
  channel: PubSub.Channel<string, F>
) =>
  Effect.gen(function*() {
    const pubsub = Context.get(yield* context, PubSub.PubSub)
    const count = new Count()
    for (let n = 0; n < subscribers; n++) {
      const { stream } = yield* pubsub.subscribeScoped(channel, { buffer: { capacity: 100_000 } })
      yield* Effect.forkScoped(
        Stream.runForEachChunk(stream, (messages) => Effect.sync(() => count.receive(messages.length)))
      )
    }
    // Its type does not know that options may be left out for any format.
    const publish = pubsub.publish as (to: PubSub.Channel<string, F>, value: string) => Effect.Effect<number, unknown>
    const contender: Contender = {
      name,
      slice: what === "latency" ?
        latencies(subscribers, count, Effect.suspend(() => publish(channel, text))) :
        deliveries(
          subscribers,
          count,
          fibers(PUBLISHERS, () => {
            count.published++
            return publish(channel, text)
          })
        )
    }
    return contender
  })

/** ioredis, with a listener for each subscriber on so many connections. */
const theirs = (
  what: What,
  name: string,
  connections: number,
  listeners: number,
  read: (text: string) => unknown
) =>
  Effect.gen(function*() {
    const channel = `${PREFIX}${name}`
    const publisher = yield* connect({ enableAutoPipelining: true })
    const count = new Count()
    for (let n = 0; n < connections; n++) {
      const subscriber: Redis = yield* connect()
      yield* Effect.promise(() => subscriber.subscribe(channel))
      for (let m = 0; m < listeners; m++) {
        subscriber.on("message", (_: string, message: string) => {
          read(message)
          count.receive(1)
        })
      }
    }
    const publish = () => publisher.publish(channel, text)
    const contender: Contender = {
      name,
      slice: what === "latency" ? latencies(connections * listeners, count, Effect.promise(publish)) : deliveries(
        connections * listeners,
        count,
        promises(PUBLISHERS, () => {
          count.published++
          return publish()
        })
      )
    }
    return contender
  })

const throughput = (subscribers: number): Case => ({
  measures: [{
    name: `pubsub.throughput.${subscribers}`,
    unit: "op/s",
    better: "higher",
    target: { ratio: 0.85 }
  }],
  contenders: Effect.gen(function*() {
    const plain = PubSub.channel(`plain:${subscribers}`, Schema.String, { format: "plain" })
    const envelope = PubSub.channel(`envelope:${subscribers}`, Schema.String)
    return [
      yield* ours("throughput", "ours, plain text", subscribers, plain),
      yield* theirs("throughput", "ioredis, a connection each", subscribers, 1, (text) => text),
      yield* ours("throughput", "ours, in envelopes", subscribers, envelope),
      yield* theirs("throughput", "ioredis and JSON.parse", subscribers, 1, JSON.parse),
      ...subscribers === 1
        ? []
        : [yield* theirs("throughput", "ioredis, all on one connection", 1, subscribers, (text) => text)]
    ]
  })
})

const latency = (subscribers: number): Case => ({
  measures: [{ name: `pubsub.latency.${subscribers}`, unit: "ms", better: "lower", target: { ratio: 1.3 } }],
  contenders: Effect.gen(function*() {
    const envelope = PubSub.channel(`latency:${subscribers}`, Schema.String)
    return [
      yield* ours("latency", "ours, in envelopes", subscribers, envelope),
      yield* theirs("latency", "ioredis and JSON.parse, a connection each", subscribers, 1, JSON.parse)
    ]
  })
})

// ---------------------------------------------------------------------------------------------------------------------
// Memory
// ---------------------------------------------------------------------------------------------------------------------

setFlagsFromString("--expose-gc")
const collect: () => void = runInNewContext("gc")

const SUBSCRIPTIONS = 500

/** What the process and the server use, when nothing is left to collect. */
const used = (redis: Redis) =>
  Effect.promise(async () => {
    for (let n = 0; n < 4; n++) {
      collect()
      await new Promise((resolve) => setTimeout(resolve, 20))
    }
    const { arrayBuffers, external, heapUsed } = process.memoryUsage()
    const server = /used_memory:(\d+)/.exec(await redis.info("memory"))
    return heapUsed + external + arrayBuffers + Number(server?.[1])
  })

/** What each of many subscriptions takes, with a channel of its own. */
const bytes = (redis: Redis, subscribe: (n: number) => Effect.Effect<unknown, unknown, Scope.Scope | Server>) =>
  Effect.gen(function*() {
    const server = yield* Server
    const slice: Slice = () =>
      Effect.gen(function*() {
        const scope = yield* Scope.make()
        // What the first one needs, the others share.
        yield* Effect.provideService(subscribe(-1), Scope.Scope, scope)
        const before = yield* used(redis)
        for (let n = 0; n < SUBSCRIPTIONS; n++) yield* Effect.provideService(subscribe(n), Scope.Scope, scope)
        const after = yield* used(redis)
        yield* Scope.close(scope, Exit.void)
        return [(after - before) / SUBSCRIPTIONS]
      }).pipe(Effect.provideService(Server, server))
    return slice
  })

const memory: Case = {
  measures: [{ name: "pubsub.bytesPerSubscription", unit: "B", better: "lower", target: { ratio: 0.05 } }],
  contenders: Effect.gen(function*() {
    const pubsub = Context.get(yield* context, PubSub.PubSub)
    const redis = yield* connect()
    return [
      {
        name: "ours",
        slice: yield* bytes(redis, (n) => pubsub.subscribeScoped(PubSub.channel(`user:${n}`, Schema.String)))
      },
      {
        name: "ioredis, a connection each",
        slice: yield* bytes(
          redis,
          (n) => Effect.flatMap(connect(), (redis) => Effect.promise(() => redis.subscribe(`${PREFIX}user:${n}`)))
        )
      }
    ]
  })
}

export const cases: ReadonlyArray<Case> = [throughput(1), throughput(10), latency(1), latency(10), memory]
