import { assert, layer } from "@effect/vitest"
import { Chunk, DateTime, Effect, Either, Fiber, Layer, Option, Schema, Stream } from "effect"
import * as EventStore from "../../src/EventStore/index.js"
import { RedisClient } from "../../src/RedisClient.js"
import type { RedisError } from "../../src/RedisError.js"
import { error, fresh, type Time, until } from "../kit/suites.js"
import {
  account,
  accounts,
  amounts,
  Balance,
  decider,
  Deposited,
  deposits,
  Event,
  forge,
  keysOf,
  Opened,
  Withdrawn
} from "./tools.js"

const open = (text: string, options?: { readonly partitions?: number }) =>
  EventStore.open(accounts(fresh(text), options))

const at = (version: number) => (error: { readonly _tag: string }) => {
  assert(error._tag === "VersionConflict")
  assert.strictEqual((error as EventStore.VersionConflict).actual, version)
}

const numbers = (from: number, to: number) => Array.from({ length: to - from + 1 }, (_, i) => from + i)

const ada = account("ada")
const bob = account("bob")
const shop: EventStore.Aggregate = { type: "shop", id: "1" }

export const suite = (
  name: string,
  driver: Layer.Layer<RedisClient, RedisError>,
  options: { readonly excludeTestServices?: boolean },
  time: Time
) => {
  const eventually = until(time)

  layer(Layer.orDie(Layer.provideMerge(EventStore.layer, driver)), options)(`EventStore, ${name}`, (it) => {
    // --- Append and load ---

    it.effect("gives back what was appended, with everything that is known about it", () =>
      Effect.gen(function*() {
        const store = yield* open("round-trip")
        const id = "a:b {x} }%7D \n\"✓"
        const aggregate = { type: "äccount:1", id }
        const event = new Deposited({ amount: 0.1 + 0.2, at: new Date(1234567890123) })
        const opened = new Opened({ owner: "\u2028 \"{}\" ✓" })
        const appended = yield* store.append(aggregate, [opened, event], {
          metadata: { by: "ü", deep: [1, { a: null }] }
        })
        assert.strictEqual(appended.version, 2)
        assert.isFalse(appended.duplicate)
        const { events, version } = yield* store.load(aggregate)
        assert.strictEqual(version, 2)
        const [first, second] = events
        assert(first !== undefined && second !== undefined)
        assert.deepStrictEqual(first.data, opened)
        assert.instanceOf(first.data, Opened)
        assert.deepStrictEqual(second.data, event)
        assert.deepStrictEqual(events.map(({ type }) => type), ["Opened", "Deposited"])
        assert.deepStrictEqual(events.map(({ version }) => version), [1, 2])
        assert.deepStrictEqual(events.map(({ aggregate }) => aggregate), [aggregate, aggregate])
        assert.deepStrictEqual(second.metadata, { by: "ü", deep: [1, { a: null }] })
        assert.strictEqual(second.position, appended.position)
        assert.notStrictEqual(first.position, second.position)
        assert.strictEqual(new Set(events.map(({ id }) => id)).size, 2)
        assert.strictEqual(DateTime.toEpochMillis(first.timestamp), Number(first.position.split("-")[0]))
        assert.deepStrictEqual((yield* store.since()).events.map(Either.getOrThrow), events)
      }))

    it.effect("an aggregate that nobody has written to has no events", () =>
      Effect.gen(function*() {
        const store = yield* open("none")
        assert.deepStrictEqual(yield* store.load(ada), { version: 0, events: [] })
        assert.strictEqual(yield* store.version(ada), 0)
        assert.deepStrictEqual(yield* store.since(), { events: [], position: "0-0", end: true })
        assert.deepStrictEqual(Chunk.toReadonlyArray(yield* Stream.runCollect(store.stream(ada))), [])
      }))

    it.effect("says by an expected version whether somebody else was there", () =>
      Effect.gen(function*() {
        const store = yield* open("expected")
        const add = (aggregate: EventStore.Aggregate, expected: EventStore.ExpectedVersion) =>
          store.append(aggregate, deposits(1, 1), { expected })
        const refused = (aggregate: EventStore.Aggregate, expected: EventStore.ExpectedVersion, actual: number) =>
          Effect.map(error(add(aggregate, expected)), (conflict) => {
            assert(conflict._tag === "VersionConflict")
            assert.deepStrictEqual(
              { ...conflict },
              { ...conflict, store: store.definition.name, aggregate, expected, actual }
            )
          })
        yield* refused(ada, "exists", 0)
        yield* refused(ada, 1, 0)
        assert.deepStrictEqual(yield* store.load(ada), { version: 0, events: [] })
        assert.strictEqual((yield* add(ada, "no-stream")).version, 1)
        yield* refused(ada, "no-stream", 1)
        yield* refused(ada, 0, 1)
        yield* refused(ada, 2, 1)
        assert.strictEqual((yield* add(ada, "exists")).version, 2)
        assert.strictEqual((yield* add(ada, "any")).version, 3)
        assert.strictEqual((yield* add(ada, 3)).version, 4)
        yield* refused(ada, 3, 4)
        assert.strictEqual((yield* add(bob, "any")).version, 1)
        assert.strictEqual((yield* add(shop, 0)).version, 1)
        assert.strictEqual((yield* store.load(ada)).version, 4)
        assert.strictEqual((yield* store.since()).events.length, 6)
      }))

    it.effect("appends several events with consecutive versions, all or none", () =>
      Effect.gen(function*() {
        const store = yield* open("several")
        assert.strictEqual((yield* store.append(ada, deposits(1, 3))).version, 3)
        at(3)(yield* error(store.append(ada, deposits(4, 9), { expected: 2 })))
        assert.strictEqual((yield* store.append(ada, deposits(4, 5), { expected: 3 })).version, 5)
        const { events } = yield* store.load(ada)
        assert.deepStrictEqual(amounts(events), numbers(1, 5))
        assert.deepStrictEqual(events.map(({ version }) => version), numbers(1, 5))
        assert.deepStrictEqual(amounts((yield* store.since()).events), numbers(1, 5))
      }))

    it.effect("without events nothing is written, and the expectation still counts", () =>
      Effect.gen(function*() {
        const store = yield* open("empty")
        assert.deepStrictEqual(yield* store.append(ada, []), {
          version: 0,
          partition: 0,
          position: "",
          duplicate: false
        })
        at(0)(yield* error(store.append(ada, [], { expected: "exists" })))
        assert.deepStrictEqual(yield* keysOf(store.definition.name), [`events:{${store.definition.name}}:partitions`])
        yield* store.append(ada, deposits(1, 2))
        assert.strictEqual((yield* store.append(ada, [], { expected: 2 })).version, 2)
        at(2)(yield* error(store.append(ada, [], { expected: 1 })))
      }))

    it.effect("of a hundred that expect the same version one wins, and the others learn the version there is", () =>
      Effect.gen(function*() {
        const store = yield* open("race")
        yield* store.append(ada, deposits(1, 1))
        const results = yield* Effect.forEach(
          numbers(1, 100),
          (n) => Effect.either(store.append(ada, [new Deposited({ amount: 100 + n })], { expected: 1 })),
          { concurrency: "unbounded" }
        )
        const won = results.filter(Either.isRight)
        assert.strictEqual(won.length, 1)
        const lost = results.filter(Either.isLeft)
        assert.strictEqual(lost.length, 99)
        for (const { left } of lost) at(2)(left)
        assert.strictEqual((yield* store.load(ada)).version, 2)
      }))

    it.effect("recognises an append that is repeated by the ids of its events", () =>
      Effect.gen(function*() {
        const store = yield* open("repeated")
        for (const [i, expected] of (["no-stream", 2, "exists", "any"] as const).entries()) {
          const events = deposits(2 * i + 1, 2 * i + 2)
          const repeatable = { expected, id: `request-${i}` }
          const first = yield* store.append(ada, events, repeatable)
          assert.strictEqual(first.version, 2 * i + 2)
          assert.isFalse(first.duplicate)
          assert.deepStrictEqual(yield* store.append(ada, events, repeatable), { ...first, duplicate: true })
        }
        // Also much later, when others have gone on.
        const old = yield* store.append(ada, deposits(3, 4), { expected: 2, id: "request-1" })
        assert.strictEqual(old.version, 4)
        assert.isTrue(old.duplicate)
        // The same number of other events is another append.
        at(8)(yield* error(store.append(ada, deposits(3, 4), { expected: 2, id: "request-x" })))
        at(8)(yield* error(store.append(ada, deposits(3, 5), { expected: 2, id: "request-1" })))
        // An id that is used for more than was appended with it.
        at(8)(yield* error(store.append(ada, deposits(1, 3), { id: "request-3" })))
        // What one aggregate was told, no other one was.
        assert.isFalse((yield* store.append(bob, deposits(1, 2), { id: "request-3" })).duplicate)
        assert.deepStrictEqual(amounts((yield* store.load(ada)).events), numbers(1, 8))
        assert.strictEqual((yield* store.since()).events.length, 10)
      }))

    it.effect("recognises an append by ids that the events have themselves", () =>
      Effect.gen(function*() {
        const Named = Schema.TaggedStruct("Named", { id: Schema.String })
        const store = yield* EventStore.open(
          EventStore.define({ name: fresh("own-ids"), event: Named, id: ({ id }) => id })
        )
        const one = { _tag: "Named", id: "one" } as const
        const two = { _tag: "Named", id: "two" } as const
        assert.isFalse((yield* store.append(ada, [one])).duplicate)
        assert.isTrue((yield* store.append(ada, [one])).duplicate)
        assert.isFalse((yield* store.append(ada, [two, one])).duplicate)
        assert.deepStrictEqual((yield* store.load(ada)).events.map(({ id }) => id), ["one", "two", "one"])
      }))

    it.effect("loads from a version, to a version, and so many", () =>
      Effect.gen(function*() {
        const store = yield* open("ranges")
        yield* store.append(ada, deposits(1, 10))
        const load = (options: EventStore.LoadOptions) =>
          Effect.gen(function*() {
            const { events, version } = yield* store.load(ada, options)
            const streamed = yield* Stream.runCollect(store.stream(ada, options))
            assert.deepStrictEqual(Chunk.toReadonlyArray(streamed), events)
            assert.strictEqual(version, events.at(-1)?.version ?? 0)
            return amounts(events)
          })
        assert.deepStrictEqual(yield* load({}), numbers(1, 10))
        assert.deepStrictEqual(yield* load({ from: 4 }), numbers(4, 10))
        assert.deepStrictEqual(yield* load({ to: 4 }), numbers(1, 4))
        assert.deepStrictEqual(yield* load({ from: 3, to: 5 }), numbers(3, 5))
        assert.deepStrictEqual(yield* load({ from: 3, limit: 2 }), numbers(3, 4))
        assert.deepStrictEqual(yield* load({ limit: 100 }), numbers(1, 10))
        assert.deepStrictEqual(yield* load({ from: 11 }), [])
        assert.deepStrictEqual(yield* load({ from: 5, to: 4 }), [])
      }))

    it.effect("loads long histories, at once and page by page", () =>
      Effect.gen(function*() {
        const store = yield* open("long")
        for (let n = 0; n < 3; n++) yield* store.append(ada, deposits(800 * n + 1, 800 * n + 800))
        const { events, version } = yield* store.load(ada)
        assert.strictEqual(version, 2400)
        assert.deepStrictEqual(amounts(events), numbers(1, 2400))
        assert.deepStrictEqual(amounts(yield* Stream.runCollect(store.stream(ada))), numbers(1, 2400))
        assert.deepStrictEqual(amounts(yield* Stream.runCollect(store.replay())), numbers(1, 2400))
        const some = { from: 11, to: 2300, limit: 1789 }
        assert.deepStrictEqual(amounts(yield* Stream.runCollect(store.stream(ada, some))), numbers(11, 1799))
        assert.deepStrictEqual(amounts((yield* store.load(ada, some)).events), numbers(11, 1799))
        const [last] = (yield* store.load(ada, { from: 2400 })).events
        assert.strictEqual(last?.version, yield* store.version(ada))
      }))

    it.effect("keeps all history: nothing is trimmed, and nothing expires but what remembers appends", () =>
      Effect.gen(function*() {
        const client = yield* RedisClient
        const store = yield* open("kept")
        yield* store.append(ada, deposits(1, 1000))
        yield* store.append(bob, deposits(1, 500), { expected: "no-stream" })
        yield* store.saveSnapshot(Balance, ada, { version: 1000, state: { total: 1 } })
        const keys = yield* keysOf(store.definition.name)
        assert.strictEqual(keys.length, 5)
        for (const key of keys) assert.strictEqual(yield* client.send("PTTL", client.key(key)), -1, key)
        const remembered = yield* Stream.runCollect(
          client.scan({ match: `events:{${store.definition.name}.0}:once:*` })
        )
        assert.strictEqual(Chunk.size(remembered), 1)
        for (const key of remembered) assert.isAbove(Number(yield* client.send("PTTL", client.key(key))), 0)
        assert.strictEqual(yield* client.send("XLEN", client.key(`events:{${store.definition.name}.0}:all`)), 1500)
      }))

    it.effect("names that look alike are different aggregates", () =>
      Effect.gen(function*() {
        const store = yield* open("names", { partitions: 3 })
        const names = [
          { type: "a:b", id: "c" },
          { type: "a", id: "b:c" },
          { type: "a%3Ab", id: "c" },
          { type: "a}b", id: "c" },
          { type: "a", id: "}b:c" },
          { type: "a", id: "*" },
          { type: "{a}", id: "{b}" },
          { type: "a", id: "{}" },
          { type: "a", id: "😀" }
        ]
        for (const [i, aggregate] of names.entries()) yield* store.append(aggregate, deposits(i, i), { expected: 0 })
        for (const [i, aggregate] of names.entries()) {
          assert.deepStrictEqual(amounts((yield* store.load(aggregate)).events), [i])
        }
        const all = Chunk.toReadonlyArray(yield* Stream.runCollect(store.replay()))
        assert.strictEqual(all.length, names.length)
        for (const { aggregate, data } of all) {
          assert(data._tag === "Deposited")
          assert.deepStrictEqual(aggregate, names[data.amount])
        }
      }))

    // --- All events ---

    it.effect("reads the events of all aggregates in their order, behind a position", () =>
      Effect.gen(function*() {
        const store = yield* open("since")
        const positions: Array<string> = []
        for (const n of numbers(1, 9)) {
          const aggregate = [ada, bob, shop][n % 3]!
          positions.push((yield* store.append(aggregate, [new Deposited({ amount: n })])).position)
        }
        const all = yield* store.since()
        assert.deepStrictEqual(amounts(all.events), numbers(1, 9))
        assert.isTrue(all.end)
        assert.strictEqual(all.position, positions[8])
        const some = yield* store.since({ after: positions[2]!, limit: 4 })
        assert.deepStrictEqual(amounts(some.events), numbers(4, 7))
        assert.isFalse(some.end)
        assert.strictEqual(some.position, positions[6])
        const rest = yield* store.since({ after: some.position })
        assert.deepStrictEqual(amounts(rest.events), [8, 9])
        assert.deepStrictEqual(yield* store.since({ after: rest.position }), {
          events: [],
          position: positions[8]!,
          end: true
        })
        assert.deepStrictEqual(amounts(yield* Stream.runCollect(store.replay({ after: positions[5]! }))), [7, 8, 9])
        assert.deepStrictEqual(
          (yield* store.since({ limit: 3 })).events.map((one) => Either.getOrThrow(one).aggregate),
          [bob, shop, ada]
        )
      }))

    it.effect("reads the events of one type of aggregates", () =>
      Effect.gen(function*() {
        const store = yield* open("category")
        for (const n of numbers(1, 12)) yield* store.append(n % 4 === 0 ? shop : ada, [new Deposited({ amount: n })])
        const page = yield* store.since({ category: "shop", limit: 2 })
        assert.deepStrictEqual(amounts(page.events), [4, 8])
        assert.isFalse(page.end)
        const rest = yield* store.since({ category: "shop", after: page.position })
        assert.deepStrictEqual(amounts(rest.events), [12])
        assert.isTrue(rest.end)
        const nothing = yield* store.since({ category: "none" })
        assert.deepStrictEqual(nothing.events, [])
        assert.strictEqual(nothing.position, rest.position)
        assert.deepStrictEqual(
          amounts(yield* Stream.runCollect(store.replay({ category: "account" }))),
          numbers(1, 12).filter((n) => n % 4 !== 0)
        )
      }))

    it.effect("spreads aggregates over partitions, and keeps the order within each", () =>
      Effect.gen(function*() {
        const store = yield* open("partitions", { partitions: 4 })
        for (const n of numbers(1, 60)) yield* store.append(account(`${n % 12}`), [new Deposited({ amount: n })])
        const pages = yield* Effect.forEach(numbers(0, 3), (partition) => store.since({ partition }))
        const seen = pages.flatMap(({ events }, partition) =>
          events.map((one) => {
            const event = Either.getOrThrow(one)
            assert.strictEqual(event.partition, partition)
            assert.strictEqual(store.partitionOf(event.aggregate), partition)
            return event
          })
        )
        assert.isAbove(pages.filter(({ events }) => events.length > 0).length, 1)
        for (const { events } of pages) {
          const order = amounts(events)
          assert.deepStrictEqual(order, order.toSorted((a, b) => a - b))
        }
        assert.deepStrictEqual(amounts(seen).toSorted((a, b) => a - b), numbers(1, 60))
        assert.deepStrictEqual(Chunk.toReadonlyArray(yield* Stream.runCollect(store.replay())), seen)
        assert.strictEqual((yield* error(store.since()))._tag, "RedisInputError")
        const failure = yield* Effect.flip(Stream.runDrain(store.replay({ after: "1-1" })))
        assert.strictEqual(failure._tag, "RedisInputError")
      }))

    it.effect("a store keeps the number of its partitions", () =>
      Effect.gen(function*() {
        const text = fresh("mismatch")
        yield* EventStore.open(accounts(text, { partitions: 2 }))
        yield* EventStore.open(accounts(text, { partitions: 2 }))
        const mismatch = yield* error(EventStore.open(accounts(text)))
        assert(mismatch._tag === "PartitionsMismatch")
        assert.strictEqual(mismatch.actual, 2)
        assert.strictEqual(mismatch.expected, 1)
      }))

    // --- Subscriptions ---

    /** Follows a store, and says what was seen. */
    const following = (
      events: Stream.Stream<EventStore.Recorded<Event, unknown>, EventStore.EventDecodeError | RedisError>
    ) =>
      Effect.gen(function*() {
        const seen: Array<EventStore.Recorded<Event, unknown>> = []
        const fiber = yield* Effect.forkScoped(
          Stream.runForEach(events, (event) => Effect.sync(() => void seen.push(event)))
        )
        return { seen, fiber, amounts: () => amounts(seen) }
      })

    it.scoped("follows what there is, and then what comes", () =>
      Effect.gen(function*() {
        const store = yield* open("follow")
        yield* store.append(ada, deposits(1, 700))
        const reader = yield* following(store.subscribe())
        yield* eventually(Effect.sync(() => reader.seen.length === 700))
        for (const n of numbers(701, 720)) yield* store.append(n % 2 === 0 ? ada : bob, deposits(n, n))
        yield* eventually(Effect.sync(() => reader.seen.length === 720))
        assert.deepStrictEqual(reader.amounts(), numbers(1, 720))
        const middle = reader.seen[709]!.position
        const late = yield* following(store.subscribe({ after: middle }))
        const category = yield* following(store.subscribe({ category: "shop" }))
        yield* eventually(Effect.sync(() => late.seen.length === 10))
        yield* store.append(shop, deposits(721, 721))
        yield* eventually(Effect.sync(() => late.seen.length === 11 && category.seen.length === 1))
        assert.deepStrictEqual(late.amounts(), numbers(711, 721))
        assert.deepStrictEqual(category.amounts(), [721])
      }))

    it.scoped("follows only what comes from now on", () =>
      Effect.gen(function*() {
        const store = yield* open("now", { partitions: 2 })
        yield* Effect.forEach(numbers(1, 10), (n) => store.append(account(`${n}`), deposits(n, n)))
        const reader = yield* following(store.subscribe({ after: "now" }))
        // When exactly it begins is not known from here; from then on it misses nothing.
        let n = 100
        yield* eventually(Effect.gen(function*() {
          n++
          yield* store.append(account(`${n % 10}`), deposits(n, n))
          return reader.seen.length > 0
        }))
        yield* store.append(account("1"), deposits(1000, 1000))
        yield* store.append(account("2"), deposits(1001, 1001))
        yield* eventually(Effect.sync(() => [1000, 1001].every((n) => reader.amounts().includes(n))))
        assert.isTrue(reader.amounts().every((n) => n > 100))
      }))

    it.scoped("follows all partitions at once", () =>
      Effect.gen(function*() {
        const store = yield* open("follow-all", { partitions: 3 })
        const add = (n: number) => store.append(account(`${n % 9}`), deposits(n, n))
        yield* Effect.forEach(numbers(1, 30), add)
        const reader = yield* following(store.subscribe())
        const one = yield* following(store.subscribe({ partition: 1 }))
        yield* Effect.forEach(numbers(31, 60), add)
        const expected = numbers(1, 60).filter((n) => store.partitionOf(account(`${n % 9}`)) === 1)
        yield* eventually(Effect.sync(() => reader.seen.length === 60 && one.seen.length === expected.length))
        assert.deepStrictEqual(one.amounts(), expected)
        for (const partition of numbers(0, 2)) {
          const order = amounts(reader.seen.filter((event) => event.partition === partition))
          assert.deepStrictEqual(order, order.toSorted((a, b) => a - b))
        }
      }))

    // --- What can't be read ---

    it.effect("an event that can't be read is never passed over in silence", () =>
      Effect.gen(function*() {
        const store = yield* open("broken")
        const { name } = store.definition
        yield* store.append(ada, deposits(1, 2))
        const secret = JSON.stringify({ type: "Deposited", version: 1, data: { _tag: "Deposited", amount: "secret" } })
        const position = yield* forge(name, ada, 3, secret)
        yield* store.append(ada, deposits(4, 5))

        const failure = yield* error(store.load(ada))
        assert(failure._tag === "EventDecodeError")
        assert.deepStrictEqual({ ...failure }, {
          ...failure,
          store: name,
          aggregate: ada,
          version: 3,
          partition: 0,
          position,
          type: "Deposited"
        })
        assert.include(failure.detail, "amount")
        assert.notInclude(JSON.stringify(failure), "secret")
        assert.notInclude(failure.message, "secret")
        assert.deepStrictEqual(amounts((yield* store.load(ada, { from: 4 })).events), [4, 5])

        const page = yield* store.since()
        assert.deepStrictEqual(page.events.map(Either.isRight), [true, true, false, true, true])
        const left = Either.flip(page.events[2]!)
        assert.deepStrictEqual(Either.getOrThrow(left), failure)

        const seen: Array<EventStore.Recorded<Event, unknown>> = []
        const collect = (
          events: Stream.Stream<EventStore.Recorded<Event, unknown>, EventStore.EventDecodeError | RedisError>
        ) => Effect.flip(Stream.runForEach(events, (event) => Effect.sync(() => void seen.push(event))))
        for (const events of [store.stream(ada), store.replay(), store.subscribe()]) {
          seen.length = 0
          assert.deepStrictEqual(yield* collect(events), failure)
          assert.deepStrictEqual(amounts(seen), [1, 2])
        }
        // Whoever wants to goes on behind it.
        assert.deepStrictEqual(amounts(yield* Stream.runCollect(store.replay({ after: failure.position }))), [4, 5])
      }))

    it.effect("says so when an event is gone, of a later release, or not of this library", () =>
      Effect.gen(function*() {
        const client = yield* RedisClient
        const store = yield* open("strange")
        const { name } = store.definition
        yield* store.append(ada, deposits(1, 1))
        yield* forge(name, ada, 2, "no json")
        yield* forge(name, ada, 3, JSON.stringify({ type: "Deposited", version: 2, data: {} }))
        yield* forge(name, ada, 4, undefined)
        yield* forge(name, ada, 5, JSON.stringify({ type: "Closed", version: 1, data: { _tag: "Closed" } }))
        yield* forge(
          name,
          ada,
          6,
          JSON.stringify({ type: "Deposited", version: 1, data: deposits(6, 6)[0], metadata: 7 })
        )
        yield* store.append(ada, deposits(7, 7))
        yield* client.send("XDEL", client.key(`events:{${name}.0}:a:account:ada`), "1-0")
        const { events } = yield* store.since()
        assert.strictEqual(events.length, 7)
        const details = events.map((one) => Either.isLeft(one) ? one.left.detail : "fine")
        assert.include(details[0], "not there any more")
        assert.include(details[1], "no event of this library")
        assert.include(details[2], "version 2 of its form, and 1 is read here")
        assert.include(details[3], "no event of this library")
        assert.include(details[4], "does not fit")
        assert.include(details[5], "metadata")
        assert.strictEqual(details[6], "fine")
        for (const [i, one] of events.entries()) {
          if (Either.isLeft(one)) assert.strictEqual(one.left.version, i + 1)
        }
        const positions = new Set(events.map((one) => Either.isLeft(one) ? one.left.position : one.right.position))
        assert.strictEqual(positions.size, 7)
        // The versions go on where they were, whatever is expected.
        assert.strictEqual(yield* store.version(ada), 7)
        at(7)(yield* error(store.append(ada, deposits(8, 8), { expected: 5 })))
        assert.strictEqual((yield* store.append(ada, deposits(8, 8), { expected: 7 })).version, 8)
        assert.strictEqual((yield* store.append(ada, deposits(9, 9))).version, 9)
      }))

    it.effect("history that somebody has cut by hand is refused, and nothing is written", () =>
      Effect.gen(function*() {
        const client = yield* RedisClient
        const store = yield* open("cut")
        const { name } = store.definition
        yield* store.append(ada, deposits(1, 3))
        yield* client.send("XDEL", client.key(`events:{${name}.0}:a:account:ada`), "3-0")
        const failure = yield* error(store.append(ada, deposits(4, 5)))
        assert.strictEqual(failure._tag, "RedisReplyError")
        assert.strictEqual(yield* client.send("XLEN", client.key(`events:{${name}.0}:all`)), 3)
      }))

    it.effect("reads older forms of events", () =>
      Effect.gen(function*() {
        const text = fresh("upcast")
        const V1 = Schema.TaggedStruct("Paid", { cents: Schema.Number })
        const V2 = Schema.TaggedStruct("Paid", { amount: Schema.Number, currency: Schema.String })
        const V3 = Schema.TaggedStruct("Paid", { money: Schema.Tuple(Schema.Number, Schema.String) })
        const toV2 = Schema.transform(V1, V2, {
          decode: ({ cents }) => ({ _tag: "Paid" as const, amount: cents / 100, currency: "EUR" }),
          encode: ({ amount }) => ({ _tag: "Paid" as const, cents: amount * 100 })
        })
        const toV3 = Schema.transform(V2, V3, {
          decode: ({ amount, currency }) => ({ _tag: "Paid" as const, money: [amount, currency] as const }),
          encode: ({ money: [amount, currency] }) => ({ _tag: "Paid" as const, amount, currency })
        })
        // A type that was renamed is read as the new one.
        const Billed = Schema.TaggedStruct("Billed", { cents: Schema.Number })
        const renamed = Schema.transform(Billed, V3, {
          decode: ({ cents }) => ({ _tag: "Paid" as const, money: [cents / 100, "EUR"] as const }),
          encode: () => ({ _tag: "Billed" as const, cents: 0 })
        })
        const first = yield* EventStore.open(EventStore.define({ name: text, event: Schema.Union(V1, Billed) }))
        yield* first.append(ada, [{ _tag: "Paid", cents: 150 }, { _tag: "Billed", cents: 50 }])
        const second = yield* EventStore.open(
          EventStore.define({ name: text, event: V2, upcasters: { Paid: [toV2] } })
        )
        yield* second.append(ada, [{ _tag: "Paid", amount: 2, currency: "USD" }])
        const third = yield* EventStore.open(
          EventStore.define({ name: text, event: V3, upcasters: { Paid: [toV2, toV3], Billed: [renamed] } })
        )
        yield* third.append(ada, [{ _tag: "Paid", money: [3, "GBP"] }])
        const { events } = yield* third.load(ada)
        assert.deepStrictEqual(events.map(({ data }) => data.money), [
          [1.5, "EUR"],
          [0.5, "EUR"],
          [2, "USD"],
          [3, "GBP"]
        ])
        assert.deepStrictEqual(events.map(({ type }) => type), ["Paid", "Billed", "Paid", "Paid"])
        // The release before says that it can't read what came later.
        const late = yield* error(second.load(ada, { from: 4 }))
        assert(late._tag === "EventDecodeError")
        assert.include(late.detail, "version 3")
        // What does not fit the older form says which.
        yield* forge(text, ada, 5, JSON.stringify({ type: "Paid", version: 1, data: { _tag: "Paid", euros: 1 } }))
        const broken = yield* error(third.load(ada))
        assert(broken._tag === "EventDecodeError")
        assert.include(broken.detail, "version 1 of its form does not fit at cents")
      }))

    it.effect("metadata has a schema of its own", () =>
      Effect.gen(function*() {
        const store = yield* EventStore.open(EventStore.define({
          name: fresh("metadata"),
          event: Event,
          metadata: Schema.Struct({ by: Schema.String, when: Schema.Date })
        }))
        const metadata = { by: "ada", when: new Date(1000) }
        yield* store.append(ada, deposits(1, 2), { metadata })
        for (const event of (yield* store.load(ada)).events) assert.deepStrictEqual(event.metadata, metadata)
        // @ts-expect-error it can't be left out
        const failure = yield* error(store.append(ada, deposits(3, 3)))
        assert(failure._tag === "RedisInputError")
        assert.include(failure.field, "metadata")
      }))

    // --- Snapshots and deciders ---

    it.effect("keeps the latest snapshot of an aggregate, which can be thrown away", () =>
      Effect.gen(function*() {
        const client = yield* RedisClient
        const store = yield* open("snapshots")
        const load = store.loadSnapshot(Balance, ada)
        assert.deepStrictEqual(yield* load, Option.none())
        assert.isTrue(yield* store.saveSnapshot(Balance, ada, { version: 5, state: { total: 50 } }))
        assert.deepStrictEqual(yield* load, Option.some({ version: 5, state: { total: 50 } }))
        assert.isFalse(yield* store.saveSnapshot(Balance, ada, { version: 4, state: { total: 40 } }))
        assert.isTrue(yield* store.saveSnapshot(Balance, ada, { version: 12, state: { total: 120 } }))
        assert.deepStrictEqual(yield* load, Option.some({ version: 12, state: { total: 120 } }))
        assert.deepStrictEqual(yield* store.loadSnapshot(Balance, bob), Option.none())
        // A later release has its own form, and the earlier one leaves it alone.
        const Later = EventStore.snapshot({ name: Balance.name, state: Schema.Number, version: 2 })
        assert.deepStrictEqual(yield* store.loadSnapshot(Later, ada), Option.none())
        assert.isTrue(yield* store.saveSnapshot(Later, ada, { version: 3, state: 30 }))
        assert.deepStrictEqual(yield* store.loadSnapshot(Later, ada), Option.some({ version: 3, state: 30 }))
        assert.isFalse(yield* store.saveSnapshot(Balance, ada, { version: 99, state: { total: 9 } }))
        assert.deepStrictEqual(yield* load, Option.none())
        const key = client.key(`events:{${store.definition.name}.0}:snapshot:balance:account:ada`)
        yield* client.send("HSET", key, "state", "garbage")
        assert.deepStrictEqual(yield* store.loadSnapshot(Later, ada), Option.none())
      }))

    it.effect("executes commands by what has happened before", () =>
      Effect.gen(function*() {
        const definition = accounts(fresh("decide"))
        const store = yield* EventStore.open(definition)
        const Account = decider(definition)
        assert.deepStrictEqual(yield* store.state(Account, "ada"), { version: 0, state: { total: 0 } })
        assert.deepStrictEqual(yield* store.execute(Account, "ada", 10, { metadata: { by: "test" } }), {
          version: 1,
          state: { total: 10 },
          events: [new Deposited({ amount: 10 })]
        })
        assert.deepStrictEqual((yield* store.load(ada)).events[0]?.metadata, { by: "test" })
        const overdrawn = yield* error(store.execute(Account, "ada", -11))
        assert(overdrawn._tag === "Overdrawn")
        assert.strictEqual(overdrawn.balance, 10)
        assert.deepStrictEqual((yield* store.execute(Account, "ada", -4)).events, [new Withdrawn({ amount: 4 })])
        assert.deepStrictEqual(yield* store.execute(Account, "ada", 0), { version: 2, state: { total: 6 }, events: [] })
        assert.deepStrictEqual(yield* store.state(Account, "ada"), { version: 2, state: { total: 6 } })
        // A command that was made for a version is for no other.
        assert.strictEqual((yield* store.execute(Account, "ada", 1, { expected: 2 })).version, 3)
        at(3)(yield* error(store.execute(Account, "ada", 1, { expected: 2 })))
      }))

    it.effect("decides again when somebody else was faster, so often and no more", () =>
      Effect.gen(function*() {
        const definition = accounts(fresh("conflicts"))
        const store = yield* EventStore.open(definition)
        let decisions = 0
        const Account = decider(definition, { conflictRetries: 50, onDecide: () => void decisions++ })
        const results = yield* Effect.forEach(
          numbers(1, 30),
          () => store.execute(Account, "ada", 1),
          { concurrency: "unbounded" }
        )
        assert.deepStrictEqual(results.map(({ version }) => version).toSorted((a, b) => a - b), numbers(1, 30))
        assert.isAbove(decisions, 30)
        for (const { state, version } of results) assert.strictEqual(state.total, version)
        // No more is withdrawn than there is, however many try.
        const withdrawals = yield* Effect.forEach(
          numbers(1, 40),
          () => Effect.either(store.execute(Account, "ada", -1)),
          { concurrency: "unbounded" }
        )
        assert.strictEqual(withdrawals.filter(Either.isRight).length, 30)
        assert.deepStrictEqual((yield* store.state(Account, "ada")).state, { total: 0 })

        // One that always comes too late.
        let calls = 0
        const Late = EventStore.decider({
          store: definition,
          type: "account",
          initial: 0,
          evolve: (n) => n + 1,
          decide: () =>
            Effect.orDie(Effect.as(
              Effect.zipRight(Effect.sync(() => void calls++), store.append(bob, deposits(1, 1))),
              deposits(1, 1)
            )),
          conflictRetries: 3
        })
        at(4)(yield* error(store.execute(Late, "bob", undefined)))
        assert.strictEqual(calls, 4)
        calls = 0
        at(5)(yield* error(store.execute(Late, "bob", undefined, { expected: 4 })))
        assert.strictEqual(calls, 1)
      }))

    it.effect("reads from the last snapshot on", () =>
      Effect.gen(function*() {
        const definition = accounts(fresh("from-snapshot"))
        const store = yield* EventStore.open(definition)
        const Account = decider(definition, { snapshot: Balance, snapshotEvery: 5 })
        for (const n of numbers(1, 4)) yield* store.execute(Account, "ada", n)
        assert.deepStrictEqual(yield* store.loadSnapshot(Balance, ada), Option.none())
        yield* store.execute(Account, "ada", 5)
        assert.deepStrictEqual(
          yield* store.loadSnapshot(Balance, ada),
          Option.some({ version: 5, state: { total: 15 } })
        )
        for (const n of numbers(6, 9)) yield* store.execute(Account, "ada", n)
        assert.deepStrictEqual(
          yield* store.loadSnapshot(Balance, ada),
          Option.some({ version: 5, state: { total: 15 } })
        )
        // What is before the snapshot is not looked at.
        yield* store.saveSnapshot(Balance, ada, { version: 8, state: { total: 1000 } })
        assert.deepStrictEqual(yield* store.state(Account, "ada"), { version: 9, state: { total: 1009 } })
      }))

    // --- Projections ---

    it.scoped("a projection goes on where it was stopped", () =>
      Effect.gen(function*() {
        const store = yield* open("projection", { partitions: 2 })
        const seen: Array<number> = []
        const run = store.project({
          name: "seen",
          handle: (event) => Effect.sync(() => void seen.push(...amounts([event])))
        })
        const add = (n: number) => store.append(account(`${n % 6}`), deposits(n, n))
        yield* Effect.forEach(numbers(1, 20), add)
        assert.deepStrictEqual((yield* store.projectionStatus("seen")).reduce((sum, { behind }) => sum + behind, 0), 20)
        const first = yield* Effect.fork(run)
        yield* eventually(Effect.sync(() => seen.length === 20))
        yield* Effect.forEach(numbers(21, 25), add)
        yield* eventually(Effect.sync(() => seen.length === 25))
        yield* Fiber.interrupt(first)
        assert.deepStrictEqual((yield* store.projectionStatus("seen")).map(({ behind }) => behind), [0, 0])
        yield* Effect.forEach(numbers(26, 40), add)
        const second = yield* Effect.fork(run)
        yield* eventually(Effect.sync(() => seen.length === 40))
        yield* Fiber.interrupt(second)
        assert.deepStrictEqual(seen.toSorted((a, b) => a - b), numbers(1, 40))
        const status = yield* store.projectionStatus("seen")
        assert.deepStrictEqual(status.map(({ partition }) => partition), [0, 1])
        for (const { partition, position } of status) {
          const { events } = yield* store.since({ partition, limit: 1000 })
          const last = events.at(-1)
          assert.strictEqual(position, last === undefined ? "0-0" : Either.getOrThrow(last).position)
        }
      }))

    it.scoped("one runs at a time, another takes over, and a reset begins again", () =>
      Effect.gen(function*() {
        const store = yield* open("runners")
        const seen: Array<readonly [runner: number, amount: number]> = []
        const run = (runner: number) =>
          store.project({
            name: "one",
            handle: (event) => Effect.sync(() => void seen.push([runner, amounts([event])[0]!]))
          })
        yield* store.append(ada, deposits(1, 10))
        const first = yield* Effect.fork(run(1))
        yield* eventually(Effect.sync(() => seen.length === 10))
        const second = yield* Effect.fork(run(2))
        yield* store.append(ada, deposits(11, 20))
        yield* eventually(Effect.sync(() => seen.length === 20))
        assert.deepStrictEqual(seen, numbers(1, 20).map((n) => [1, n] as const))
        yield* Fiber.interrupt(first)
        yield* store.append(ada, deposits(21, 25))
        yield* eventually(Effect.sync(() => seen.length === 25))
        assert.deepStrictEqual(seen.slice(20), numbers(21, 25).map((n) => [2, n] as const))
        yield* store.resetProjection("one")
        // It learns of it with the next checkpoint.
        yield* store.append(ada, deposits(26, 26))
        yield* eventually(Effect.sync(() => seen.length >= 25 + 26))
        yield* eventually(Effect.map(store.projectionStatus("one"), ([status]) => status?.behind === 0))
        assert.deepStrictEqual(seen.slice(-26), numbers(1, 26).map((n) => [2, n] as const))
        yield* Fiber.interrupt(second)
      }))

    it.scoped("of one category, and an event that can't be read stops it unless somebody says what to do", () =>
      Effect.gen(function*() {
        const store = yield* open("projection-broken")
        const { name } = store.definition
        yield* store.append(shop, deposits(1, 2))
        yield* store.append(ada, deposits(50, 60))
        const position = yield* forge(name, shop, 3, "broken")
        yield* store.append(shop, deposits(4, 5))
        const seen: Array<number> = []
        const broken: Array<string> = []
        const shared = {
          name: "shops",
          category: "shop",
          handle: (event: EventStore.Recorded<Event, unknown>) => Effect.sync(() => void seen.push(...amounts([event])))
        }
        const failure = yield* Effect.flip(store.project(shared))
        assert(failure._tag === "EventDecodeError")
        assert.strictEqual(failure.position, position)
        assert.deepStrictEqual(seen, [1, 2])
        const going = yield* Effect.fork(store.project({
          ...shared,
          onUndecodable: (error) => Effect.sync(() => void broken.push(error.position))
        }))
        yield* eventually(Effect.sync(() => seen.length === 4))
        assert.deepStrictEqual(seen, [1, 2, 4, 5])
        assert.deepStrictEqual(broken, [position])
        yield* Fiber.interrupt(going)
        assert.strictEqual((yield* store.projectionStatus("shops"))[0]?.behind, 0)
      }))

    // --- Input ---

    it.effect("refuses what makes no sense before anything is sent", () =>
      Effect.gen(function*() {
        const definition = accounts(fresh("input"))
        const store = yield* EventStore.open(definition)
        const cases: ReadonlyArray<
          readonly [field: string, Effect.Effect<unknown, { readonly _tag: string }, EventStore.EventStore>]
        > = [
          ["name", EventStore.open(accounts(""))],
          ["partitions", EventStore.open(accounts("x", { partitions: 0 }))],
          ["partitions", EventStore.open(accounts("x", { partitions: 1.5 }))],
          ["retryWindow", EventStore.open({ ...accounts("x"), retryWindow: 0 })],
          ["aggregate.type", store.append({ type: "", id: "1" }, deposits(1, 1))],
          ["aggregate.id", store.append(account("a\0"), deposits(1, 1))],
          ["aggregate.id", store.load(account("\ud800"))],
          ["expected", store.append(ada, deposits(1, 1), { expected: -1 })],
          ["expected", store.append(ada, deposits(1, 1), { expected: 0.5 })],
          ["events", store.append(ada, deposits(1, 1001))],
          ["event 1 at amount", store.append(ada, [deposits(1, 1)[0]!, { _tag: "Deposited", amount: "a" as never }])],
          ["metadata as a whole", store.append(ada, deposits(1, 1), { metadata: { n: 1n } })],
          ["id", store.append(ada, deposits(1, 1), { id: "\0" })],
          ["from", store.load(ada, { from: 0 })],
          ["to", store.load(ada, { to: 1.5 })],
          ["limit", store.load(ada, { limit: 0 })],
          ["from", Stream.runDrain(store.stream(ada, { from: -1 }))],
          ["limit", store.since({ limit: 1001 })],
          ["after", store.since({ after: "now" })],
          ["partition", store.since({ partition: 1 })],
          ["category", store.since({ category: "" })],
          ["after", Stream.runDrain(store.subscribe({ after: "1" }))],
          ["batch", store.project({ name: "p", batch: 0, handle: () => Effect.void })],
          ["lease", store.project({ name: "p", lease: 0, handle: () => Effect.void })],
          ["name", store.project({ name: "", handle: () => Effect.void })],
          ["version", store.saveSnapshot(Balance, ada, { version: 0, state: { total: 1 } })],
          ["state at total", store.saveSnapshot(Balance, ada, { version: 1, state: { total: "1" as never } })],
          ["snapshotEvery", store.execute(decider(definition, { snapshotEvery: 0 }), "a", 1)],
          ["conflictRetries", store.execute(decider(definition, { conflictRetries: -1 }), "a", 1)]
        ]
        for (const [field, effect] of cases) {
          const failure = yield* Effect.flip(effect)
          assert(failure._tag === "RedisInputError", `${field}: ${failure._tag}`)
          assert.strictEqual("field" in failure ? failure.field : "", field)
        }
        assert.strictEqual((yield* keysOf(definition.name)).length, 1)
      }))
  })
}
