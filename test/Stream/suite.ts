import { assert, layer } from "@effect/vitest"
import { Chunk, Duration, Effect, Fiber, Layer, Option, Schema, Stream } from "effect"
import { RedisClient } from "../../src/RedisClient.js"
import type { RedisError } from "../../src/RedisError.js"
import * as RedisStream from "../../src/Stream/index.js"
import { error, fresh, type Time, until } from "../kit/suites.js"

const Value = Schema.Struct({ n: Schema.Number, at: Schema.optional(Schema.Date) })

const define = (text: string, options: { readonly maxLength?: number } = {}) =>
  RedisStream.define({ name: fresh(text), schema: Value, ...options })

const numbers = (from: number, to: number) => Array.from({ length: to - from + 1 }, (_, i) => ({ n: from + i }))

const numberOf = <A extends { readonly n: number }>(element: RedisStream.Element<A>): number =>
  element._tag === "Entry" ? element.value.n : -1

const ofAll = <A extends { readonly n: number }>(elements: Iterable<RedisStream.Element<A>>) =>
  Array.from(elements, numberOf)

const range = (from: number, to: number) => numbers(from, to).map(({ n }) => n)

export const suite = (
  name: string,
  driver: Layer.Layer<RedisClient, RedisError>,
  options: { readonly excludeTestServices?: boolean },
  time: Time
) => {
  const { elapse } = time
  const eventually = until(time)

  /** Collects what a stream says, in the background. */
  const collect = <A, E, R>(stream: Stream.Stream<A, E, R>) =>
    Effect.gen(function*() {
      const seen: Array<A> = []
      const fiber = yield* Effect.forkScoped(Stream.runForEach(stream, (one) => Effect.sync(() => seen.push(one))))
      return { seen, fiber }
    })

  const send = (command: string, stream: RedisStream.Definition<any>, ...args: ReadonlyArray<string>) =>
    Effect.flatMap(RedisClient, (client) => client.send(command, client.key(stream.key), ...args))

  layer(Layer.orDie(Layer.provideMerge(RedisStream.layer, driver)), options)(`Stream, ${name}`, (it) => {
    it.effect("keeps values with their ids and times, in their order", () =>
      Effect.gen(function*() {
        const stream = define("append")
        const at = new Date("2026-01-02T03:04:05.678Z")
        const first = yield* RedisStream.append(stream, { n: 1, at })
        const second = yield* RedisStream.append(stream, { n: 2 })
        assert.deepStrictEqual(yield* RedisStream.range(stream), [
          { _tag: "Entry", id: first, timestamp: Number(first.split("-")[0]), value: { n: 1, at } },
          { _tag: "Entry", id: second, timestamp: Number(second.split("-")[0]), value: { n: 2 } }
        ])
        assert.deepStrictEqual(ofAll(yield* RedisStream.rangeReverse(stream)), [2, 1])
        assert.strictEqual(yield* RedisStream.length(stream), 2)
        assert.strictEqual(yield* RedisStream.lastId(stream), second)
      }))

    it.effect("takes ids that grow, and refuses others", () =>
      Effect.gen(function*() {
        const stream = define("ids")
        assert.strictEqual(yield* RedisStream.append(stream, { n: 1 }, { id: "5-1" }), "5-1")
        assert.strictEqual(yield* RedisStream.append(stream, { n: 2 }, { id: "5-*" }), "5-2")
        const low = yield* error(RedisStream.append(stream, { n: 3 }, { id: "5-2" }))
        assert(low._tag === "RedisReplyError")
        for (const id of ["", "a", "5-a", "-", "+", "*", "5-2-3", "5 -1"]) {
          const bad = yield* error(RedisStream.append(stream, { n: 3 }, { id }))
          assert(bad._tag === "RedisInputError", id)
          assert.strictEqual(bad.field, "id")
        }
        assert.deepStrictEqual(ofAll(yield* RedisStream.range(stream)), [1, 2])
      }))

    it.effect("appends to a stream that is there, if that is what was asked for", () =>
      Effect.gen(function*() {
        const stream = define("exists")
        assert.deepStrictEqual(yield* RedisStream.appendIfExists(stream, { n: 1 }), Option.none())
        assert.strictEqual(yield* RedisStream.length(stream), 0)
        const first = yield* RedisStream.append(stream, { n: 1 })
        const second = Option.getOrThrow(yield* RedisStream.appendIfExists(stream, { n: 2 }))
        assert.notStrictEqual(first, second)
        assert.deepStrictEqual(ofAll(yield* RedisStream.range(stream)), [1, 2])
      }))

    it.effect("appends several with nothing between them", () =>
      Effect.gen(function*() {
        const stream = define("all")
        assert.deepStrictEqual(yield* RedisStream.appendAll(stream, []), [])
        const lists = Array.from({ length: 20 }, (_, i) => numbers(10 * i, 10 * i + 9))
        const ids = yield* Effect.forEach(lists, (list) => RedisStream.appendAll(stream, list), {
          concurrency: "unbounded"
        })
        const found = yield* RedisStream.range(stream)
        assert.strictEqual(found.length, 200)
        for (let i = 0; i < 200; i += 10) {
          const ten = ofAll(found.slice(i, i + 10))
          assert.deepStrictEqual(ten, range(ten[0]!, ten[0]! + 9))
          assert.deepStrictEqual(ids[ten[0]! / 10], found.slice(i, i + 10).map(({ id }) => id))
        }
      }))

    it.effect("trims while it appends, exactly or about", () =>
      Effect.gen(function*() {
        const stream = define("maxLength", { maxLength: 100 })
        for (let i = 0; i < 5; i++) yield* RedisStream.appendAll(stream, numbers(100 * i + 1, 100 * i + 100))
        const length = yield* RedisStream.length(stream)
        assert(length >= 100 && length < 300, `${length}`)
        yield* RedisStream.append(stream, { n: 501 }, { trim: { maxLength: 3, exact: true } })
        assert.deepStrictEqual(ofAll(yield* RedisStream.range(stream)), [499, 500, 501])
        const [, keep] = yield* RedisStream.range(stream)
        yield* RedisStream.append(stream, { n: 502 }, { trim: { minId: keep!.id, exact: true } })
        assert.deepStrictEqual(ofAll(yield* RedisStream.range(stream)), [500, 501, 502])
        for (const maxLength of [-1, 1.5, NaN]) {
          const bad = yield* error(RedisStream.append(stream, { n: 0 }, { trim: { maxLength } }))
          assert(bad._tag === "RedisInputError")
        }
      }))

    it.effect("reads ranges by ids and times, with ends that belong to them or not", () =>
      Effect.gen(function*() {
        const stream = define("range")
        for (const id of ["1-1", "1-2", "2-1", "3-1", "3-2"]) {
          yield* RedisStream.append(stream, { n: Number(id.replace("-", "")) }, { id })
        }
        const read = (options: RedisStream.RangeOptions) => Effect.map(RedisStream.range(stream, options), ofAll)
        assert.deepStrictEqual(yield* read({ from: "1-2", to: "3-1" }), [12, 21, 31])
        assert.deepStrictEqual(yield* read({ from: { exclusive: "1-2" }, to: { exclusive: "3-1" } }), [21])
        assert.deepStrictEqual(yield* read({ from: 2 }), [21, 31, 32])
        assert.deepStrictEqual(yield* read({ to: 1 }), [11, 12])
        assert.deepStrictEqual(yield* read({ count: 2 }), [11, 12])
        assert.deepStrictEqual(
          ofAll(yield* RedisStream.rangeReverse(stream, { from: "1-2", to: 3, count: 3 })),
          [32, 31, 21]
        )
        assert.deepStrictEqual(
          ofAll(Chunk.toReadonlyArray(yield* Stream.runCollect(RedisStream.entries(stream, { count: 2 })))),
          [11, 12, 21, 31, 32]
        )
        assert.strictEqual(numberOf(Option.getOrThrow(yield* RedisStream.get(stream, "2-1"))), 21)
        assert.deepStrictEqual(yield* RedisStream.get(stream, "2-2"), Option.none())
        for (const from of ["x", "1-", -1, 1.5, { exclusive: "" }] as const) {
          const bad = yield* error(RedisStream.range(stream, { from }))
          assert(bad._tag === "RedisInputError")
        }
      }))

    it.effect("gives what can't be decoded as it is, in its place", () =>
      Effect.gen(function*() {
        const stream = define("undecodable")
        yield* RedisStream.append(stream, { n: 1 })
        yield* send("XADD", stream, "*", "data", "{")
        yield* send("XADD", stream, "*", "data", `{"n":"secret"}`)
        yield* send("XADD", stream, "*", "other", "a", "other", "b")
        yield* RedisStream.append(stream, { n: 2 })
        const found = yield* RedisStream.range(stream)
        assert.deepStrictEqual(ofAll(found), [1, -1, -1, -1, 2])
        const details = found.flatMap((each) => each._tag === "Undecodable" ? [[each.detail, each.fields]] : [])
        assert.deepStrictEqual(details, [
          [`the field "data" is no JSON`, [["data", "{"]]],
          ["it does not fit at n", [["data", `{"n":"secret"}`]]],
          [`there is no field "data"`, [["other", "a"], ["other", "b"]]]
        ])
        const bad = yield* error(RedisStream.append(stream, { n: "secret" } as never))
        assert(bad._tag === "RedisInputError")
        assert.notInclude(bad.message, "secret")
      }))

    it.effect("reads and writes fields of their own", () =>
      Effect.gen(function*() {
        const stream = RedisStream.define({
          name: "foreign",
          key: fresh("foreign"),
          fields: Schema.Struct({
            sensor: Schema.String,
            celsius: Schema.NumberFromString,
            note: Schema.optional(Schema.String)
          })
        })
        const id = yield* RedisStream.append(stream, { sensor: "a", celsius: 21.5 })
        yield* send("XADD", stream, "*", "celsius", "-3", "sensor", "b", "unknown", "x", "note", "cold")
        assert.deepStrictEqual(yield* send("XRANGE", stream, id, id), [[id, ["sensor", "a", "celsius", "21.5"]]])
        const found = yield* RedisStream.range(stream)
        assert.deepStrictEqual(
          found.map((each) => each._tag === "Entry" ? each.value : undefined),
          [{ sensor: "a", celsius: 21.5 }, { sensor: "b", celsius: -3, note: "cold" }]
        )
      }))

    it.effect("reads after an id, and waits when it is told to", () =>
      Effect.gen(function*() {
        const stream = define("read")
        const [, second] = yield* RedisStream.appendAll(stream, numbers(1, 3))
        assert.deepStrictEqual(ofAll(yield* RedisStream.read(stream)), [1, 2, 3])
        assert.deepStrictEqual(ofAll(yield* RedisStream.read(stream, { after: second! })), [3])
        assert.deepStrictEqual(ofAll(yield* RedisStream.read(stream, { count: 2 })), [1, 2])
        assert.deepStrictEqual(yield* RedisStream.read(stream, { after: "$" }), [])
        assert.deepStrictEqual(ofAll(yield* RedisStream.read(stream, { block: "5 seconds" })), [1, 2, 3])
        const waiting = yield* Effect.fork(RedisStream.read(stream, { after: "$", block: "30 seconds" }))
        yield* elapse("50 millis")
        assert.isTrue(Option.isNone(yield* Fiber.poll(waiting)))
        yield* RedisStream.append(stream, { n: 4 })
        yield* eventually(Effect.map(Fiber.poll(waiting), Option.isSome))
        assert.deepStrictEqual(ofAll(yield* Fiber.join(waiting)), [4])
        const inVain = yield* Effect.fork(RedisStream.read(stream, { after: "$", block: "30 millis" }))
        yield* eventually(Effect.map(Fiber.poll(inVain), Option.isSome))
        assert.deepStrictEqual(yield* Fiber.join(inVain), [])
      }))

    it.effect("reads several streams at once, and on a Cluster only with a common hash tag", () =>
      Effect.gen(function*() {
        const client = yield* RedisClient
        const tag = fresh("several")
        const a = RedisStream.define({ name: "a", key: `{${tag}}:a`, schema: Value })
        const b = RedisStream.define({ name: "b", key: `{${tag}}:b`, schema: Schema.String })
        const c = RedisStream.define({ name: "c", key: `{${tag}}:c`, schema: Value })
        const [first] = yield* RedisStream.appendAll(a, numbers(1, 3))
        yield* RedisStream.append(b, "text")
        const found = yield* RedisStream.readMany({
          a: RedisStream.position(a, first),
          b: RedisStream.position(b),
          c: RedisStream.position(c)
        })
        assert.deepStrictEqual(ofAll(found.a), [2, 3])
        assert.deepStrictEqual(found.b.map((each) => each._tag === "Entry" ? each.value : ""), ["text"])
        assert.deepStrictEqual(found.c, [])
        const elsewhere = define("elsewhere")
        const both = RedisStream.readMany({ a: RedisStream.position(a), elsewhere: RedisStream.position(elsewhere) })
        if (client.mode === "cluster") {
          const bad = yield* error(both)
          assert(bad._tag === "RedisInputError")
          assert.strictEqual(bad.field, "positions")
        } else {
          assert.deepStrictEqual(ofAll((yield* both).a), [1, 2, 3])
        }
      }))

    it.effect("a tail begins at the end, misses nothing, and reads as much as it is asked for", () =>
      Effect.gen(function*() {
        const stream = define("tail")
        yield* RedisStream.appendAll(stream, numbers(1, 10))
        const after = yield* RedisStream.lastId(stream)
        const { seen } = yield* collect(RedisStream.tail(stream, { after, count: 7 }))
        const third = yield* collect(Stream.take(RedisStream.tail(stream, { after: "0-0", count: 2 }), 3))
        for (let i = 11; i <= 60; i += 5) {
          yield* RedisStream.appendAll(stream, numbers(i, i + 4))
          if (i % 2 === 0) yield* elapse("5 millis")
        }
        yield* eventually(Effect.sync(() => seen.length >= 50))
        assert.deepStrictEqual(ofAll(seen), range(11, 60))
        assert.deepStrictEqual(ofAll(third.seen), [1, 2, 3])
      }).pipe(Effect.scoped))

    it.effect("a tail from the end settles at once where that is", () =>
      Effect.gen(function*() {
        const stream = define("end")
        yield* RedisStream.append(stream, { n: 1 })
        const tail = yield* collect(RedisStream.tail(stream))
        // Whoever has seen one entry has settled where it begins.
        let n = 1
        yield* eventually(Effect.gen(function*() {
          yield* RedisStream.append(stream, { n: ++n })
          yield* elapse("1 millis")
          return tail.seen.length > 0
        }))
        yield* RedisStream.append(stream, { n: ++n })
        yield* eventually(Effect.sync(() => numberOf(tail.seen[tail.seen.length - 1]!) === n))
        const first = numberOf(tail.seen[0]!)
        assert.isAbove(first, 1)
        assert.deepStrictEqual(ofAll(tail.seen), range(first, n))
      }).pipe(Effect.scoped))

    it.effect("many tails of several streams wait at the same time", () =>
      Effect.gen(function*() {
        const streams = Array.from({ length: 5 }, (_, i) => define(`many-${i}`))
        const tails = yield* Effect.forEach(
          [...streams, ...streams],
          (stream) => collect(RedisStream.tail(stream, { after: "0-0" }))
        )
        for (let n = 1; n <= 20; n++) {
          yield* RedisStream.append(streams[(7 * n) % 5]!, { n })
          if (n % 4 === 0) yield* elapse("2 millis")
        }
        yield* eventually(Effect.sync(() => tails.every(({ seen }) => seen.length === 4)))
        tails.forEach(({ seen }, i) => {
          assert.deepStrictEqual(ofAll(seen), range(1, 20).filter((n) => (7 * n) % 5 === i % 5))
        })
      }).pipe(Effect.scoped))

    it.effect("several tails in one", () =>
      Effect.gen(function*() {
        const [a, b] = [define("one"), define("two")]
        const { seen } = yield* collect(
          RedisStream.tailMany({ a: RedisStream.position(a), b: RedisStream.position(b) })
        )
        for (let n = 1; n <= 10; n++) yield* RedisStream.append(n % 2 === 0 ? a : b, { n })
        yield* eventually(Effect.sync(() => seen.length === 10))
        const of = (name: string) => seen.flatMap(([from, each]) => from === name ? [numberOf(each)] : [])
        assert.deepStrictEqual(of("a"), [2, 4, 6, 8, 10])
        assert.deepStrictEqual(of("b"), [1, 3, 5, 7, 9])
      }).pipe(Effect.scoped))

    it.effect("trims nothing that a group needs, and says so", () =>
      Effect.gen(function*() {
        const stream = define("trim")
        const ids = yield* RedisStream.appendAll(stream, numbers(1, 10))
        const client = yield* RedisClient
        const key = client.key(stream.key)
        yield* client.send("XGROUP", "CREATE", key, "slow", "0")
        yield* client.send("XGROUP", "CREATE", key, "fast", ids[7]!)
        // One is pending that is older than what was delivered last.
        yield* client.send("XREADGROUP", "GROUP", "slow", "c", "COUNT", 6, "STREAMS", key, ">")
        yield* client.send("XACK", key, "slow", ...ids.slice(0, 3))
        yield* client.send("XACK", key, "slow", ids[4]!)
        const left = Effect.map(RedisStream.range(stream), ofAll)

        const some = yield* RedisStream.trim(stream, { maxLength: 8, exact: true })
        assert.deepStrictEqual(some, { removed: 2, heldBy: Option.none() })
        const held = yield* RedisStream.trim(stream, { maxLength: 2, exact: true })
        assert.deepStrictEqual(held, { removed: 1, heldBy: Option.some("slow") })
        assert.deepStrictEqual(yield* left, range(4, 10))
        const byId = yield* RedisStream.trim(stream, { minId: ids[8]!, exact: true })
        assert.deepStrictEqual(byId, { removed: 0, heldBy: Option.some("slow") })
        yield* client.send("XACK", key, "slow", ids[3]!, ids[5]!)
        const more = yield* RedisStream.trim(stream, { minId: ids[9]!, exact: true })
        assert.deepStrictEqual(more, { removed: 3, heldBy: Option.some("slow") })
        assert.deepStrictEqual(yield* left, range(7, 10))
        // About so many: whole blocks, of which there is none.
        assert.deepStrictEqual(yield* RedisStream.trim(stream, { maxLength: 1 }), {
          removed: 0,
          heldBy: Option.some("slow")
        })
        assert.deepStrictEqual(yield* RedisStream.trim(stream, { maxLength: 1, exact: true, force: true }), {
          removed: 3,
          heldBy: Option.none()
        })
        assert.deepStrictEqual(yield* left, [10])
      }))

    it.effect("trims long streams, by length and by age", () =>
      Effect.gen(function*() {
        const stream = define("long")
        yield* RedisStream.append(stream, { n: 0 }, { id: "1-1" })
        yield* elapse("100 millis")
        for (let i = 0; i < 5; i++) yield* RedisStream.appendAll(stream, numbers(500 * i + 1, 500 * i + 500))
        const ids = (yield* RedisStream.range(stream)).map(({ id }) => id)
        const client = yield* RedisClient
        yield* client.send("XGROUP", "CREATE", client.key(stream.key), "group", ids[2400]!)
        // More than one script looks at.
        const { heldBy, removed } = yield* RedisStream.trim(stream, { maxLength: 50, exact: true })
        assert.strictEqual(removed, 2401)
        assert.deepStrictEqual(heldBy, Option.some("group"))
        const other = define("old")
        yield* RedisStream.append(other, { n: 1 }, { id: "1-1" })
        yield* elapse("100 millis")
        yield* RedisStream.append(other, { n: 2 })
        const old = yield* RedisStream.trim(other, { olderThan: "50 millis", exact: true })
        assert.isAtLeast(old.removed, 1)
        assert.deepStrictEqual(yield* RedisStream.trim(define("missing"), { maxLength: 0 }), {
          removed: 0,
          heldBy: Option.none()
        })
      }))

    it.effect("removes entries", () =>
      Effect.gen(function*() {
        const stream = define("remove")
        const [first, second] = yield* RedisStream.appendAll(stream, numbers(1, 3))
        assert.strictEqual(yield* RedisStream.remove(stream), 0)
        assert.strictEqual(yield* RedisStream.remove(stream, first!, second!, "1-1"), 2)
        assert.deepStrictEqual(ofAll(yield* RedisStream.range(stream)), [3])
        assert.strictEqual((yield* error(RedisStream.remove(stream, "x")))._tag, "RedisInputError")
      }))

    it.effect("tells what is known of a stream, its groups and their consumers", () =>
      Effect.gen(function*() {
        const client = yield* RedisClient
        const stream = define("info")
        assert.deepStrictEqual(yield* RedisStream.info(stream), Option.none())
        assert.deepStrictEqual(yield* RedisStream.infoFull(stream), Option.none())
        assert.deepStrictEqual(yield* RedisStream.groups(stream), [])
        assert.strictEqual(yield* RedisStream.lastId(stream), "0-0")
        const ids = yield* RedisStream.appendAll(stream, numbers(1, 5))
        const key = client.key(stream.key)
        yield* client.send("XGROUP", "CREATE", key, "group", "0")
        yield* client.send("XREADGROUP", "GROUP", "group", "alice", "COUNT", 2, "STREAMS", key, ">")
        yield* client.send("XACK", key, "group", ids[0]!)
        const info = Option.getOrThrow(yield* RedisStream.info(stream))
        assert.deepStrictEqual(
          [info.length, info.lastId, info.entriesAdded, info.groups, info.maxDeletedId],
          [5, ids[4], 5, 1, "0-0"]
        )
        assert.strictEqual(numberOf(Option.getOrThrow(info.firstEntry)), 1)
        assert.strictEqual(numberOf(Option.getOrThrow(info.lastEntry)), 5)
        assert.deepStrictEqual(yield* RedisStream.groups(stream), [{
          name: "group",
          consumers: 1,
          pending: 1,
          lastDeliveredId: ids[1]!,
          entriesRead: Option.some(2),
          lag: Option.some(3)
        }])
        const full = Option.getOrThrow(yield* RedisStream.infoFull(stream, { count: 3 }))
        assert.deepStrictEqual(ofAll(full.entries), [1, 2, 3])
        const [group] = full.groups
        assert.deepStrictEqual(
          group!.pendingEntries.map(({ consumer, deliveries, id }) => [id, consumer, deliveries]),
          [[ids[1], "alice", 1]]
        )
        assert.deepStrictEqual(group!.consumers.map(({ name, pending }) => [name, pending]), [["alice", 1]])
        yield* RedisStream.remove(stream, ...ids)
        const empty = Option.getOrThrow(yield* RedisStream.info(stream))
        assert.deepStrictEqual([empty.length, empty.firstEntry, empty.lastId], [0, Option.none(), ids[4]])
      }))

    it.effect("refuses names, keys and numbers that can't be right", () =>
      Effect.gen(function*() {
        const field = <A>(effect: Effect.Effect<A, RedisError, RedisStream.Stream>) =>
          Effect.map(error(effect), (bad) => bad._tag === "RedisInputError" ? bad.field : bad._tag)
        const stream = define("input")
        assert.strictEqual(yield* field(RedisStream.length({ ...stream, name: "" })), "name")
        assert.strictEqual(yield* field(RedisStream.length({ ...stream, key: "" })), "key")
        assert.strictEqual(yield* field(RedisStream.length({ ...stream, key: "a}b" })), "key")
        assert.strictEqual(yield* field(RedisStream.length({ ...stream, maxLength: 0 })), "maxLength")
        assert.strictEqual(yield* field(RedisStream.read(stream, { count: 0 })), "count")
        assert.strictEqual(yield* field(RedisStream.read(stream, { after: ">" })), "after")
        assert.strictEqual(yield* field(RedisStream.read(stream, { block: 0 })), "block")
        assert.strictEqual(yield* field(RedisStream.readMany({})), "positions")
        assert.strictEqual(
          yield* field(RedisStream.readMany({ a: RedisStream.position(stream), b: RedisStream.position(stream) })),
          "positions"
        )
        assert.strictEqual(yield* field(Stream.runDrain(RedisStream.tail(stream, { after: "x" }))), "after")
        assert.strictEqual(yield* field(RedisStream.trim(stream, { olderThan: Duration.zero })), "olderThan")
        assert.strictEqual(yield* field(RedisStream.infoFull(stream, { count: -1 })), "count")
      }))

    it.effect("a key that holds something else is a typed failure, also of a tail", () =>
      Effect.gen(function*() {
        const client = yield* RedisClient
        const stream = define("wrong")
        yield* client.set(stream.key, "text")
        const code = <A>(effect: Effect.Effect<A, RedisError, RedisStream.Stream>) =>
          Effect.map(error(effect), (bad) => bad._tag === "RedisReplyError" ? bad.code : bad._tag)
        assert.strictEqual(yield* code(RedisStream.append(stream, { n: 1 })), "WRONGTYPE")
        assert.strictEqual(yield* code(RedisStream.range(stream)), "WRONGTYPE")
        assert.strictEqual(yield* code(Stream.runDrain(RedisStream.tail(stream, { after: "0" }))), "WRONGTYPE")
      }))
  })
}
