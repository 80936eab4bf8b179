import { assert, layer } from "@effect/vitest"
import { Data, Deferred, Duration, Effect, Exit, Fiber, Layer, Option, Schedule, Schema, Scope } from "effect"
import * as ConsumerGroup from "../../src/ConsumerGroup/index.js"
import { keysOf } from "../../src/ConsumerGroup/scripts.js"
import { RedisClient } from "../../src/RedisClient.js"
import type { RedisError } from "../../src/RedisError.js"
import * as Stream from "../../src/Stream/index.js"
import { error, fresh, type Time, until } from "../kit/suites.js"

const Value = Schema.Struct({ n: Schema.Number, user: Schema.optional(Schema.String) })

class Refused extends Data.TaggedError("Refused")<{ readonly message: string }> {}

const refuse = Effect.fail(new Refused({ message: "not today" }))

/** A stream and a group of it, with names that nobody else has. */
const define = (text: string, options: { readonly from?: string } = {}) => {
  const stream = Stream.define({ name: fresh(text), schema: Value })
  return { stream, group: ConsumerGroup.define({ stream, name: "workers", ...options }) }
}

const numbers = (from: number, to: number) => Array.from({ length: to - from + 1 }, (_, i) => ({ n: from + i }))

const sorted = (all: ReadonlyArray<number>) => all.toSorted((a, b) => a - b)

/** Short times, but no lease that a busy machine could miss. */
const quick = {
  lease: "5 seconds",
  claimEvery: "50 millis",
  retry: Schedule.spaced("20 millis"),
  drain: "5 seconds"
} as const

export const suite = (
  name: string,
  driver: Layer.Layer<RedisClient, RedisError>,
  options: { readonly excludeTestServices?: boolean },
  time: Time
) => {
  const { elapse } = time
  const eventually = until(time)

  const layers = Layer.orDie(Layer.provideMerge(Layer.mergeAll(Stream.layer, ConsumerGroup.layer), driver))

  /** Long enough for others to get their turn. */
  const elapseInside = name.startsWith("in memory") ? Effect.yieldNow() : Effect.sleep("2 millis")

  /** Nothing is pending and nothing waits, that is: all is done. */
  const settled = <A>(group: ConsumerGroup.Definition<A>) =>
    eventually(Effect.gen(function*() {
      const { lag, pending } = yield* ConsumerGroup.lag(group)
      return pending === 0 && Option.getOrElse(lag, () => 0) === 0
    }))

  /** Keeps what it is given, and does what it is told to. */
  const recorder = Effect.sync(() => {
    const seen: Array<readonly [n: number, deliveries: number]> = []
    return {
      seen,
      numbers: () => seen.map(([n]) => n),
      handler: (entry: ConsumerGroup.Delivered<typeof Value.Type>) =>
        Effect.sync(() => void seen.push([entry.value.n, entry.deliveries]))
    }
  })

  layer(layers, options)(`ConsumerGroup, ${name}`, (it) => {
    it.effect("a group begins at the start, with what was there before it, and handles what comes", () =>
      Effect.gen(function*() {
        const { group, stream } = define("start")
        yield* Stream.appendAll(stream, numbers(1, 25))
        const { handler, numbers: seen } = yield* recorder
        yield* ConsumerGroup.start(group, handler, quick)
        yield* eventually(Effect.sync(() => seen().length === 25))
        yield* Stream.append(stream, { n: 26 })
        yield* eventually(Effect.sync(() => seen().length === 26))
        yield* settled(group)
        assert.deepStrictEqual(seen(), numbers(1, 26).map(({ n }) => n))
      }).pipe(Effect.scoped))

    it.effect("each entry goes to one worker of a group, and to every group", () =>
      Effect.gen(function*() {
        const { group, stream } = define("groups")
        const other = ConsumerGroup.define({ stream, name: "others" })
        const mine = yield* recorder
        const others = yield* recorder
        for (let i = 0; i < 3; i++) yield* ConsumerGroup.start(group, mine.handler, { ...quick, concurrency: 5 })
        yield* ConsumerGroup.start(other, others.handler, quick)
        for (let i = 0; i < 10; i++) yield* Stream.appendAll(stream, numbers(10 * i + 1, 10 * i + 10))
        yield* eventually(Effect.sync(() => mine.seen.length >= 100 && others.seen.length >= 100))
        yield* settled(group)
        yield* settled(other)
        assert.deepStrictEqual(sorted(mine.numbers()), numbers(1, 100).map(({ n }) => n))
        assert.deepStrictEqual(others.numbers(), numbers(1, 100).map(({ n }) => n))
      }).pipe(Effect.scoped))

    it.effect("tries again what failed, not before its time, and counts the deliveries", () =>
      Effect.gen(function*() {
        const { group, stream } = define("retry")
        const seen: Array<readonly [n: number, deliveries: number]> = []
        yield* Stream.appendAll(stream, numbers(1, 3))
        yield* ConsumerGroup.start(
          group,
          ({ deliveries, value }) =>
            Effect.suspend(() => {
              seen.push([value.n, deliveries])
              return value.n === 2 && deliveries < 3
                ? refuse
                : value.n === 3 && deliveries < 2
                ? Effect.die("x")
                : Effect.void
            }),
          { ...quick, retry: Schedule.spaced("300 millis") }
        )
        yield* eventually(Effect.sync(() => seen.length >= 3))
        assert.deepStrictEqual(seen, [[1, 1], [2, 1], [3, 1]])
        // Nobody takes it before.
        assert.strictEqual((yield* ConsumerGroup.pending(group)).total, 2)
        yield* elapse("300 millis")
        yield* eventually(Effect.sync(() => seen.length >= 5))
        yield* elapse("300 millis")
        yield* settled(group)
        assert.deepStrictEqual(seen.toSorted(), [[1, 1], [2, 1], [2, 2], [2, 3], [3, 1], [3, 2]])
      }).pipe(Effect.scoped))

    it.effect("another worker takes a retry when the one that failed is gone", () =>
      Effect.gen(function*() {
        const { group, stream } = define("retry-elsewhere")
        yield* Stream.append(stream, { n: 1 })
        const failed = yield* Deferred.make<void>()
        const scope = yield* Scope.make()
        yield* Scope.extend(
          ConsumerGroup.start(
            group,
            () => Effect.zipRight(Deferred.succeed(failed, undefined), refuse),
            { ...quick, lease: "10 minutes", retry: Schedule.spaced("200 millis") }
          ),
          scope
        )
        yield* Deferred.await(failed)
        yield* Scope.close(scope, Exit.void)
        const { handler, seen } = yield* recorder
        yield* ConsumerGroup.start(group, handler, { ...quick, lease: "10 minutes" })
        yield* eventually(Effect.sync(() => seen.length === 1))
        assert.deepStrictEqual(seen, [[1, 2]])
        yield* settled(group)
      }).pipe(Effect.scoped))

    it.effect("gives up after so many deliveries: exactly one dead letter, with what is known of it", () =>
      Effect.gen(function*() {
        const { group, stream } = define("dead")
        const events: Array<ConsumerGroup.Event> = []
        let tries = 0
        const [id] = yield* Stream.appendAll(stream, numbers(1, 2))
        const options = {
          ...quick,
          maxDeliveries: 3,
          onEvent: (event: ConsumerGroup.Event) => Effect.sync(() => void events.push(event))
        }
        const handler = ({ value }: ConsumerGroup.Delivered<typeof Value.Type>) =>
          Effect.suspend(() => {
            if (value.n !== 1) return Effect.void
            tries++
            return refuse
          })
        const { consumer } = yield* ConsumerGroup.start(group, handler, { ...options, consumer: "the worker" })
        yield* eventually(Effect.map(ConsumerGroup.deadLetters(group), ({ length }) => length > 0))
        yield* settled(group)
        assert.strictEqual(tries, 3)
        const [letter, ...others] = yield* ConsumerGroup.deadLetters(group)
        assert.deepStrictEqual(others, [])
        const { element, id: ownId, movedAt, ...known } = letter!
        assert.deepStrictEqual(known, {
          stream: stream.key,
          group: group.name,
          originalId: id!,
          reason: "failed",
          error: "Refused: not today",
          deliveries: 3,
          consumer
        })
        assert(element._tag === "Entry")
        assert.deepStrictEqual([element.id, element.value], [id!, { n: 1 }])
        assert.match(ownId, /^\d+-\d+$/)
        assert.isAtLeast(movedAt, 0)
        assert.deepStrictEqual(events, [{ _tag: "DeadLettered", id: id!, reason: "failed", deliveries: 3 }])
      }).pipe(Effect.scoped))

    it.effect("a schedule that ends gives up too", () =>
      Effect.gen(function*() {
        const { group, stream } = define("schedule")
        yield* Stream.append(stream, { n: 1 })
        yield* ConsumerGroup.start(group, () => refuse, {
          ...quick,
          retry: Schedule.intersect(Schedule.spaced("5 millis"), Schedule.recurs(1))
        })
        yield* eventually(Effect.map(ConsumerGroup.deadLetters(group), ([letter]) => letter?.deliveries === 2))
      }).pipe(Effect.scoped))

    it.effect("what can't be decoded is a dead letter, and nothing of it is lost", () =>
      Effect.gen(function*() {
        const client = yield* RedisClient
        const { group, stream } = define("undecodable")
        const id = yield* client.send("XADD", client.key(stream.key), "*", "data", "{", "more", "\u00e9", "more", "x")
        yield* Stream.append(stream, { n: 1 })
        const { handler, seen } = yield* recorder
        yield* ConsumerGroup.start(group, handler, quick)
        yield* eventually(Effect.map(ConsumerGroup.deadLetters(group), ({ length }) => length > 0))
        yield* settled(group)
        assert.deepStrictEqual(seen, [[1, 1]])
        const [letter] = yield* ConsumerGroup.deadLetters(group)
        assert.strictEqual(letter!.reason, "undecodable")
        assert.strictEqual(letter!.originalId, id)
        assert(letter!.element._tag === "Undecodable")
        assert.deepStrictEqual(letter!.element.fields, [["data", "{"], ["more", "\u00e9"], ["more", "x"]])
      }).pipe(Effect.scoped))

    it.effect("dead letters are replayed for their group alone, or as a copy, and removed", () =>
      Effect.gen(function*() {
        const { group, stream } = define("replay")
        const other = ConsumerGroup.define({ stream, name: "others" })
        const ids = yield* Stream.appendAll(stream, numbers(1, 4))
        let broken = true
        const seen: Array<readonly [number, number]> = []
        const others = yield* recorder
        yield* ConsumerGroup.start(
          group,
          ({ deliveries, value }) =>
            Effect.suspend(() => {
              if (broken) return refuse
              seen.push([value.n, deliveries])
              return Effect.void
            }),
          { ...quick, maxDeliveries: 1, concurrency: 4 }
        )
        yield* ConsumerGroup.start(other, others.handler, quick)
        yield* eventually(Effect.map(ConsumerGroup.deadLetters(group), ({ length }) => length === 4))
        yield* settled(other)
        broken = false
        yield* Stream.remove(stream, ids[3]!)
        const letters = (yield* ConsumerGroup.deadLetters(group)).toSorted((a, b) =>
          a.originalId < b.originalId ? -1 : 1
        )
        const service = yield* ConsumerGroup.ConsumerGroup
        assert.strictEqual(yield* service.countDeadLetters(group), 4)
        assert.strictEqual(yield* service.removeDeadLetters(group, letters[0]!.id), 1)
        assert.deepStrictEqual(yield* ConsumerGroup.replay(group, letters[1]!.id, letters[0]!.id), {
          restored: 1,
          copied: 0
        })
        assert.deepStrictEqual(yield* ConsumerGroup.replayAll(group), { restored: 1, copied: 1 })
        assert.deepStrictEqual(yield* ConsumerGroup.replayAll(group), { restored: 0, copied: 0 })
        yield* eventually(Effect.sync(() => seen.length === 3))
        yield* settled(group)
        yield* eventually(Effect.sync(() => others.seen.length === 5))
        assert.deepStrictEqual(seen.toSorted(), [[2, 1], [3, 1], [4, 1]])
        assert.deepStrictEqual(others.numbers(), [1, 2, 3, 4, 4])
        assert.deepStrictEqual(yield* ConsumerGroup.deadLetters(group), [])
      }).pipe(Effect.scoped))

    it.effect("what another consumer left behind is taken after the lease, and not before", () =>
      Effect.gen(function*() {
        const client = yield* RedisClient
        const { group, stream } = define("idle")
        const key = client.key(stream.key)
        yield* ConsumerGroup.create(group)
        yield* Stream.appendAll(stream, numbers(1, 30))
        yield* client.send("XREADGROUP", "GROUP", group.name, "dead", "COUNT", 20, "STREAMS", key, ">")
        const { handler, numbers: seen } = yield* recorder
        yield* ConsumerGroup.start(group, handler, { ...quick, lease: "1 seconds" })
        yield* eventually(Effect.sync(() => seen().length >= 10))
        assert.deepStrictEqual(seen(), numbers(21, 30).map(({ n }) => n))
        yield* elapse("1 seconds")
        yield* eventually(Effect.sync(() => seen().length >= 30))
        yield* settled(group)
        assert.deepStrictEqual(sorted(seen()), numbers(1, 30).map(({ n }) => n))
      }).pipe(Effect.scoped))

    it.effect("a worker that comes back by its name goes on at once with what it had", () =>
      Effect.gen(function*() {
        const client = yield* RedisClient
        const { group, stream } = define("own")
        const key = client.key(stream.key)
        yield* ConsumerGroup.create(group)
        yield* Stream.appendAll(stream, numbers(1, 5))
        yield* client.send("XREADGROUP", "GROUP", group.name, "stable", "COUNT", 3, "STREAMS", key, ">")
        const { handler, seen } = yield* recorder
        yield* ConsumerGroup.start(group, handler, { ...quick, lease: "10 minutes", consumer: "stable" })
        yield* eventually(Effect.sync(() => seen.length >= 5))
        assert.deepStrictEqual(seen, [[1, 2], [2, 2], [3, 2], [4, 1], [5, 1]])
      }).pipe(Effect.scoped))

    it.effect("a slow handler keeps its entry; one that was taken over is interrupted and steals nothing back", () =>
      Effect.gen(function*() {
        const client = yield* RedisClient
        const { group, stream } = define("renew")
        const key = client.key(stream.key)
        const id = yield* Stream.append(stream, { n: 1 })
        const interrupted = yield* Deferred.make<void>()
        const events: Array<ConsumerGroup.Event> = []
        yield* ConsumerGroup.start(
          group,
          () => Effect.onInterrupt(Effect.never, () => Deferred.succeed(interrupted, undefined)),
          { ...quick, lease: "2 seconds", onEvent: (event) => Effect.sync(() => void events.push(event)) }
        )
        const others = yield* recorder
        yield* eventually(Effect.map(ConsumerGroup.pending(group), ({ total }) => total === 1))
        yield* ConsumerGroup.start(group, others.handler, { ...quick, lease: "2 seconds" })
        // Time passes slowly on a server, and no slower on two others.
        if (!name.startsWith("on ") && !name.startsWith("with ")) yield* elapse("2500 millis")
        assert.deepStrictEqual(others.seen, [])
        yield* client.send("XCLAIM", key, group.name, "thief", 0, id)
        yield* elapse("700 millis")
        yield* eventually(Deferred.isDone(interrupted))
        const owner = yield* client.send("XPENDING", key, group.name, id, id, 1)
        assert.strictEqual((owner as ReadonlyArray<ReadonlyArray<unknown>>)[0]![1], "thief")
        assert.deepStrictEqual(events, [{ _tag: "TakenOver", id }])
      }).pipe(Effect.scoped))

    it.effect("entries with one key are handled one after the other, others at the same time", () =>
      Effect.gen(function*() {
        const { group, stream } = define("keys")
        const values = Array.from({ length: 40 }, (_, n) => ({ n, user: `user-${n % 4}` }))
        yield* Stream.appendAll(stream, values)
        const running = new Set<string>()
        const order = new Map<string, Array<number>>()
        let most = 0
        yield* ConsumerGroup.start(
          group,
          ({ deliveries, value: { n, user = "" } }) =>
            Effect.gen(function*() {
              assert.isFalse(running.has(user))
              running.add(user)
              most = Math.max(most, running.size)
              yield* elapseInside
              running.delete(user)
              // A retry holds up those behind it.
              if (n % 7 === 3 && deliveries < 3) return yield* refuse
              order.set(user, [...order.get(user) ?? [], n])
            }),
          { ...quick, concurrency: 8, batchSize: 20, key: ({ value }) => value.user ?? "" }
        )
        yield* eventually(Effect.sync(() => Array.from(order.values()).flat().length === 40))
        yield* settled(group)
        assert.isAbove(most, 1)
        for (const [user, seen] of order) {
          assert.deepStrictEqual(seen, values.flatMap((value) => value.user === user ? [value.n] : []))
        }
      }).pipe(Effect.scoped))

    it.effect("no more handlers at a time than allowed, and no more entries held than needed", () =>
      Effect.gen(function*() {
        const { group, stream } = define("concurrency")
        yield* Stream.appendAll(stream, numbers(1, 60))
        let running = 0
        let most = 0
        let done = 0
        const worker = yield* ConsumerGroup.start(
          group,
          () =>
            Effect.zipRight(
              Effect.sync(() => void (most = Math.max(most, ++running))),
              Effect.ensuring(
                elapseInside,
                Effect.sync(() => {
                  running--
                  done++
                })
              )
            ),
          { ...quick, concurrency: 4, batchSize: 6 }
        )
        let heldMost = 0
        yield* eventually(Effect.gen(function*() {
          heldMost = Math.max(heldMost, (yield* ConsumerGroup.pending(group)).total)
          return done === 60
        }))
        yield* settled(group)
        assert.strictEqual(most, 4)
        // Some may be done, and their acknowledgement on its way.
        assert.isAtMost(heldMost, 4 + 12 + 10)
        assert.strictEqual(yield* worker.held, 0)
      }).pipe(Effect.scoped))

    it.effect("the end gives back what was not begun, claimable at once and as if it was not delivered", () =>
      Effect.gen(function*() {
        const { group, stream } = define("stop")
        yield* Stream.appendAll(stream, numbers(1, 10))
        const begun = yield* Deferred.make<void>()
        const go = yield* Deferred.make<void>()
        const worker = yield* ConsumerGroup.start(
          group,
          () => Effect.zipRight(Deferred.succeed(begun, undefined), Deferred.await(go)),
          { ...quick, lease: "10 minutes", batchSize: 10 }
        )
        yield* eventually(Deferred.isDone(begun))
        const stopping = yield* Effect.fork(worker.stop)
        yield* eventually(Effect.map(worker.held, (held) => held === 1))
        assert.isTrue(Option.isNone(yield* Fiber.poll(stopping)))
        yield* Deferred.succeed(go, undefined)
        yield* Fiber.join(stopping)
        const pending = yield* Effect.flatMap(
          ConsumerGroup.ConsumerGroup,
          (service) => service.pendingEntries(group)
        )
        assert.deepStrictEqual(pending.map(({ deliveries }) => deliveries), Array.from({ length: 9 }, () => 0))
        // A consumer with pending entries stays.
        const service = yield* ConsumerGroup.ConsumerGroup
        assert.deepStrictEqual((yield* service.consumers(group)).map(({ name }) => name), [worker.consumer])
        const kept = yield* error(service.removeConsumer(group, worker.consumer))
        assert(kept._tag === "ConsumerHasPending")
        assert.strictEqual(kept.pending, 9)
        const { handler, seen } = yield* recorder
        const next = yield* ConsumerGroup.start(group, handler, { ...quick, lease: "10 minutes" })
        yield* eventually(Effect.sync(() => seen.length === 9))
        assert.deepStrictEqual(seen, numbers(2, 10).map(({ n }) => [n, 1]))
        yield* settled(group)
        yield* next.stop
        // Without them it is gone.
        yield* service.removeConsumer(group, worker.consumer)
        assert.deepStrictEqual(yield* service.consumers(group), [])
      }).pipe(Effect.scoped))

    it.effect("a handler that does not end in time is interrupted, and its entry given back", () =>
      Effect.gen(function*() {
        const { group, stream } = define("drain")
        yield* Stream.append(stream, { n: 1 })
        const begun = yield* Deferred.make<void>()
        const worker = yield* ConsumerGroup.start(
          group,
          () => Effect.zipRight(Deferred.succeed(begun, undefined), Effect.never),
          { ...quick, lease: "10 minutes", drain: "20 millis" }
        )
        yield* eventually(Deferred.isDone(begun))
        const stopping = yield* Effect.fork(worker.stop)
        yield* eventually(Effect.map(Fiber.poll(stopping), Option.isSome))
        const { handler, seen } = yield* recorder
        yield* ConsumerGroup.start(group, handler, { ...quick, lease: "10 minutes" })
        yield* eventually(Effect.sync(() => seen.length === 1))
        assert.deepStrictEqual(seen, [[1, 2]])
      }).pipe(Effect.scoped))

    it.effect("stops at once while it waits for entries", () =>
      Effect.gen(function*() {
        const { group, stream } = define("blocked")
        const { handler, seen } = yield* recorder
        const worker = yield* ConsumerGroup.start(group, handler, quick)
        yield* Stream.append(stream, { n: 1 })
        yield* eventually(Effect.sync(() => seen.length === 1))
        yield* settled(group)
        yield* elapse("20 millis")
        const stopping = yield* Effect.fork(worker.stop)
        yield* eventually(Effect.map(Fiber.poll(stopping), Option.isSome))
        // Nobody takes what comes after.
        yield* Stream.append(stream, { n: 2 })
        yield* elapse("50 millis")
        const { lag, pending } = yield* ConsumerGroup.lag(group)
        assert.deepStrictEqual([lag, pending, seen.length], [Option.some(1), 0, 1])
      }).pipe(Effect.scoped))

    it.effect("takes nothing while it is paused", () =>
      Effect.gen(function*() {
        const { group, stream } = define("pause")
        const { handler, seen } = yield* recorder
        const worker = yield* ConsumerGroup.start(group, handler, quick)
        yield* Stream.append(stream, { n: 1 })
        yield* eventually(Effect.sync(() => seen.length === 1))
        yield* worker.pause
        yield* Stream.appendAll(stream, numbers(2, 30))
        yield* elapse("100 millis")
        assert.strictEqual(seen.length, 1)
        yield* worker.resume
        yield* eventually(Effect.sync(() => seen.length === 30))
        yield* settled(group)
        assert.deepStrictEqual(sorted(seen.map(([n]) => n)), numbers(1, 30).map(({ n }) => n))
        assert.isTrue(seen.every(([, deliveries]) => deliveries === 1))
      }).pipe(Effect.scoped))

    it.effect("a stream or a group that vanishes is made again, and that is told", () =>
      Effect.gen(function*() {
        const client = yield* RedisClient
        const { group, stream } = define("vanished")
        const events: Array<ConsumerGroup.Event> = []
        const { handler, seen } = yield* recorder
        yield* ConsumerGroup.start(group, handler, {
          ...quick,
          onEvent: (event) => Effect.sync(() => void events.push(event))
        })
        yield* Stream.append(stream, { n: 1 })
        yield* eventually(Effect.sync(() => seen.length === 1))
        yield* client.del(stream.key)
        yield* Stream.append(stream, { n: 2 })
        yield* eventually(Effect.sync(() => seen.some(([n]) => n === 2)))
        yield* ConsumerGroup.destroy(group)
        yield* Stream.append(stream, { n: 3 })
        yield* eventually(Effect.sync(() => seen.some(([n]) => n === 3)))
        assert.isAtLeast(events.length, 2)
        assert.isTrue(events.every(({ _tag }) => _tag === "Recreated"))
        yield* settled(group)
      }).pipe(Effect.scoped))

    it.effect("entries that were trimmed while they were pending are told, and are not pending any more", () =>
      Effect.gen(function*() {
        const client = yield* RedisClient
        const { group, stream } = define("trimmed")
        yield* ConsumerGroup.create(group)
        const ids = yield* Stream.appendAll(stream, numbers(1, 3))
        const key = client.key(stream.key)
        yield* client.send("XREADGROUP", "GROUP", group.name, "stable", "COUNT", 3, "STREAMS", key, ">")
        yield* Stream.remove(stream, ids[0]!, ids[1]!)
        const events: Array<ConsumerGroup.Event> = []
        const { handler, seen } = yield* recorder
        yield* ConsumerGroup.start(group, handler, {
          ...quick,
          consumer: "stable",
          onEvent: (event) => Effect.sync(() => void events.push(event))
        })
        yield* eventually(Effect.sync(() => seen.length === 1))
        yield* eventually(Effect.map(ConsumerGroup.pending(group), ({ total }) => total === 0))
        assert.deepStrictEqual(events, [{ _tag: "Trimmed", ids: [ids[0]!, ids[1]!] }])
        assert.deepStrictEqual(seen, [[3, 2]])
      }).pipe(Effect.scoped))

    it.effect("manages groups: creates them once, moves them, and claims by hand", () =>
      Effect.gen(function*() {
        const service = yield* ConsumerGroup.ConsumerGroup
        const { group, stream } = define("manage")
        const ids = yield* Stream.appendAll(stream, numbers(1, 6))
        assert.deepStrictEqual(yield* service.lag(group), { lag: Option.none(), pending: 0 })
        assert.deepStrictEqual(yield* service.consumers(group), [])
        assert.isTrue(yield* service.create(group))
        assert.isFalse(yield* service.create(group))
        assert.deepStrictEqual(yield* service.lag(group), { lag: Option.some(6), pending: 0 })
        const end = ConsumerGroup.define({ stream, name: "end", from: "end" })
        const middle = ConsumerGroup.define({ stream, name: "middle", from: ids[2]! })
        assert.isTrue(yield* service.create(end))
        assert.isTrue(yield* service.create(middle))
        const client = yield* RedisClient
        const key = client.key(stream.key)
        const readBy = (name: string, count: number) =>
          client.send("XREADGROUP", "GROUP", name, "alice", "COUNT", count, "STREAMS", key, ">")
        assert.strictEqual(yield* readBy("end", 1), null)
        yield* readBy("middle", 9)
        assert.strictEqual((yield* service.pending(middle)).total, 3)
        yield* readBy(group.name, 4)
        assert.deepStrictEqual(yield* service.pending(group), {
          total: 4,
          firstId: Option.some(ids[0]!),
          lastId: Option.some(ids[3]!),
          consumers: [{ name: "alice", pending: 4 }]
        })
        assert.strictEqual(yield* service.acknowledge(group, ids[0]!, ids[5]!), 1)
        const claimed = yield* service.claim(group, "bob", [ids[1]!, ids[4]!], { minIdle: 0 })
        assert.deepStrictEqual(claimed.map(({ id }) => id), [ids[1]])
        assert.deepStrictEqual(yield* service.claim(group, "bob", [ids[2]!], { minIdle: "1 hour" }), [])
        yield* Stream.remove(stream, ids[2]!)
        const first = yield* service.autoClaim(group, "carol", { minIdle: 0, count: 2 })
        assert.deepStrictEqual(first.entries.map(({ id }) => id), [ids[1]])
        assert.deepStrictEqual(first.trimmed, [ids[2]!])
        const second = yield* service.autoClaim(group, "carol", {
          minIdle: 0,
          cursor: Option.getOrThrow(first.cursor)
        })
        assert.deepStrictEqual(second.entries.map(({ id }) => id), [ids[3]])
        assert.isTrue(Option.isNone(second.cursor))
        const details = yield* service.pendingEntries(group, { consumer: "carol", from: ids[1]!, count: 10 })
        assert.deepStrictEqual(details.map(({ consumer, deliveries, id }) => [id, consumer, deliveries]), [
          [ids[1], "carol", 3],
          [ids[3], "carol", 2]
        ])
        assert.isTrue(details.every(({ idle }) => Duration.lessThan(idle, "1 minute")))
        assert.deepStrictEqual(yield* service.pendingEntries(group, { minIdle: "1 hour" }), [])
        yield* service.seek(end, "start")
        assert.strictEqual(((yield* readBy("end", 9)) as ReadonlyArray<any>)[0][1].length, 5)
        assert.isTrue(yield* service.destroy(end))
        assert.isFalse(yield* service.destroy(end))
        assert.deepStrictEqual((yield* Stream.groups(stream)).map(({ name }) => name), ["middle", "workers"])
      }))

    it.effect("the keys of a group have a bounded life, or go with it", () =>
      Effect.gen(function*() {
        const client = yield* RedisClient
        const { group, stream } = define("keys-of")
        const { retry } = keysOf(stream.key, group.name)
        yield* Stream.append(stream, { n: 1 })
        yield* ConsumerGroup.start(group, () => refuse, { ...quick, retry: Schedule.spaced("1 hour") })
        yield* eventually(Effect.map(client.exists(retry), (n) => n === 1))
        const ttl = yield* client.send("PTTL", client.key(retry))
        assert.isAbove(Number(ttl), Duration.toMillis("24.9 hours"))
        yield* ConsumerGroup.destroy(group)
        assert.strictEqual(yield* client.exists(retry), 0)
      }).pipe(Effect.scoped))

    it.effect("refuses what can't be right before anything is sent", () =>
      Effect.gen(function*() {
        const { group, stream } = define("input")
        const service = yield* ConsumerGroup.ConsumerGroup
        const field = <A>(effect: Effect.Effect<A, unknown, Scope.Scope | ConsumerGroup.ConsumerGroup>) =>
          Effect.map(error(Effect.scoped(effect)), (bad) => (bad as { readonly field?: string }).field)
        const started = (options: ConsumerGroup.WorkerOptions<typeof Value.Type>) =>
          field(ConsumerGroup.start(group, () => Effect.void, options))
        assert.strictEqual(yield* started({ concurrency: 0 }), "concurrency")
        assert.strictEqual(yield* started({ batchSize: 5000 }), "batchSize")
        assert.strictEqual(yield* started({ lease: "1 millis" }), "lease")
        assert.strictEqual(yield* started({ lease: Duration.infinity }), "lease")
        assert.strictEqual(yield* started({ maxDeliveries: 0 }), "maxDeliveries")
        assert.strictEqual(yield* started({ consumer: "" }), "consumer")
        assert.strictEqual(yield* field(service.create({ ...group, name: "" })), "name of the group")
        assert.strictEqual(yield* field(service.create({ ...group, from: "beginning" })), "from")
        assert.strictEqual(yield* field(service.acknowledge(group, "x")), "ids")
        assert.strictEqual(yield* field(service.deadLetters(group, { count: 0 })), "count")
        assert.strictEqual(yield* field(service.autoClaim(group, "a", { minIdle: 0, cursor: "x" })), "cursor")
        assert.strictEqual(yield* Effect.flatMap(RedisClient, (client) => client.exists(stream.key)), 0)
      }))

    it.effect("a worker that can't go on says why", () =>
      Effect.gen(function*() {
        const client = yield* RedisClient
        const { group, stream } = define("fatal")
        const running = yield* Effect.fork(Effect.flip(ConsumerGroup.run(group, () => Effect.void, quick)))
        yield* eventually(Effect.map(client.exists(stream.key), (n) => n === 1))
        yield* client.del(stream.key)
        yield* client.set(stream.key, "text")
        yield* eventually(Effect.map(Fiber.poll(running), Option.isSome))
        const failure = yield* Fiber.join(running)
        assert(failure._tag === "RedisReplyError")
        assert.strictEqual(failure.code, "WRONGTYPE")
      }))
  })
}
