/**
 * The typed commands of streams, places, HyperLogLogs and bitmaps.
 */
import { assert } from "@effect/vitest"
import { Duration, Effect, Option } from "effect"
import type { GeoMember, StreamEntry } from "../../../src/RedisCommands.js"
import { gives, none, refused, rejected, some, type Test } from "./tools.js"

export const dataTypes = (test: Test): void => {
  streams(test)
  groups(test)
  places(test)
  hyperLogLogs(test)
  bitmaps(test)
}

const entry = (id: string, ...fields: ReadonlyArray<readonly [string, string]>): StreamEntry => ({ id, fields })

const streams = (test: Test): void => {
  test("appending to a stream, and reading it", (client, { name }) =>
    Effect.gen(function*() {
      const [key, other, missing] = [name(), name(), name()]
      yield* gives(client.xlen(key), 0)
      yield* gives(client.xrange(key), [])
      yield* gives(client.xaddNoMkStream(key, { a: 1 }), none)
      yield* gives(client.exists(key), 0)
      yield* gives(client.xadd(key, { a: 1, b: "two" }, { id: "1-1" }), "1-1")
      yield* gives(client.xadd(key, [["a", "x"], ["a", "y"]], { id: "1-*" }), "1-2")
      yield* gives(client.xaddNoMkStream(key, { a: 3 }, { id: "2-0" }), some("2-0"))
      yield* rejected(client.xadd(key, { a: 1 }, { id: "1-0" }), "ERR")
      const all = [
        entry("1-1", ["a", "1"], ["b", "two"]),
        entry("1-2", ["a", "x"], ["a", "y"]),
        entry("2-0", ["a", "3"])
      ]
      yield* gives(client.xrange(key), all)
      yield* gives(client.xrevRange(key), all.toReversed())
      yield* gives(client.xrange(key, { start: { exclusive: "1-1" }, count: 1 }), [all[1]!])
      yield* gives(client.xrange(key, { end: "1" }), all.slice(0, 2))
      yield* gives(client.xrevRange(key, { start: "1-2", end: { exclusive: "2-0" } }), [all[1]!])
      yield* client.xadd(other, { z: "z" }, { id: "5-0" })
      yield* gives(client.xread({ [key]: "1-2", [missing]: "0", [other]: "0" }), [
        [key, [all[2]!]],
        [other, [entry("5-0", ["z", "z"])]]
      ])
      yield* gives(client.xread([[key, "0"]], { count: 2 }), [[key, all.slice(0, 2)]])
      yield* gives(client.xread({ [key]: "2-0" }), [])
      yield* gives(client.xread({}), [])
      yield* gives(client.xdel(key, "1-1", "7-7"), 1)
      yield* gives(client.xlen(key), 2)
      const made = yield* client.xadd(key, { a: 1 })
      assert.match(made, /^\d+-\d+$/)
      yield* refused(client.xadd(key, {}), "fields")
      yield* refused(client.xdel(key), "ids")
      yield* refused(client.xread({ "": "0" }), "streams")
      yield* refused(client.xrange(key, { count: 0 }), "count")
    }))

  test("trimming a stream", (client, { name }) =>
    Effect.gen(function*() {
      const key = name()
      for (let n = 1; n <= 5; n++) yield* client.xadd(key, { n }, { id: `${n}-0` })
      const ids = Effect.map(client.xrange(key), (all) => all.map(({ id }) => id))
      yield* gives(client.xtrim(key, { maxLength: 4 }), 1)
      yield* gives(client.xtrim(key, { minId: "3-0" }), 1)
      yield* gives(ids, ["3-0", "4-0", "5-0"])
      yield* client.xadd(key, { n: 6 }, { id: "6-0", trim: { maxLength: 2 } })
      yield* gives(ids, ["5-0", "6-0"])
      // Less than one block is never removed.
      yield* gives(client.xtrim(key, { maxLength: 1, approximate: true, limit: 10 }), 0)
      yield* gives(client.xtrim(key, { maxLength: 0 }), 2)
      yield* refused(client.xtrim(key, {}), "trim")
      yield* refused(client.xtrim(key, { maxLength: 1, minId: "1" }), "trim")
      yield* refused(client.xtrim(key, { maxLength: -1 }), "trim.maxLength")
      yield* refused(client.xtrim(key, { maxLength: 1, limit: 1 }), "trim.limit")
    }))

  test("what is known of a stream", (client, { name }) =>
    Effect.gen(function*() {
      const key = name()
      yield* rejected(client.xinfoStream(key), "ERR")
      yield* client.xadd(key, { n: 1 }, { id: "1-0" })
      yield* client.xadd(key, { n: 2 }, { id: "2-0" })
      yield* client.xgroupCreate(key, "group", { start: "0" })
      const info = yield* client.xinfoStream(key)
      assert.deepStrictEqual(
        [info.length, info.groups, info.lastGeneratedId, info.entriesAdded, info.first, info.last],
        [2, 1, "2-0", some(2), some(entry("1-0", ["n", "1"])), some(entry("2-0", ["n", "2"]))]
      )
      yield* client.xtrim(key, { maxLength: 0 })
      const empty = yield* client.xinfoStream(key)
      assert.deepStrictEqual([empty.first, empty.last, empty.lastGeneratedId], [none, none, "2-0"])
    }))
}

const groups = (test: Test): void => {
  test("consumer groups", (client, { name }) =>
    Effect.gen(function*() {
      const key = name()
      yield* rejected(client.xgroupCreate(key, "group", { start: "$" }), "ERR")
      yield* client.xgroupCreate(key, "group", { start: "$", mkStream: true })
      yield* rejected(client.xgroupCreate(key, "group", { start: "$" }), "BUSYGROUP")
      for (let n = 1; n <= 4; n++) yield* client.xadd(key, { n }, { id: `${n}-0` })
      const read = (consumer: string, after: string, count?: number) =>
        Effect.map(
          client.xreadGroup({ group: "group", consumer }, { [key]: after }, { count }),
          (all) => all.map(([stream, entries]) => [stream, entries.map(({ id }) => id)])
        )
      yield* gives(read("ada", ">", 3), [[key, ["1-0", "2-0", "3-0"]]])
      yield* gives(read("bob", ">"), [[key, ["4-0"]]])
      yield* gives(read("bob", ">"), [])
      yield* gives(client.xreadGroup({ group: "group", consumer: "bob" }, {}), [])
      yield* gives(client.xpending(key, "group"), {
        count: 4,
        first: some("1-0"),
        last: some("4-0"),
        consumers: [["ada", 3], ["bob", 1]]
      })
      yield* gives(client.xack(key, "group", "1-0", "9-9"), 1)
      yield* gives(read("ada", "0"), [[key, ["2-0", "3-0"]]])
      // What was removed from the stream is still somebody's, without its fields.
      yield* client.xdel(key, "2-0")
      yield* gives(client.xreadGroup({ group: "group", consumer: "ada" }, { [key]: "0" }, { count: 1 }), [
        [key, [entry("2-0")]]
      ])
      const pending = yield* client.xpendingRange(key, "group", { count: 10, start: "3-0" })
      assert.deepStrictEqual(
        pending.map(({ consumer, deliveries, id }) => [id, consumer, deliveries]),
        [["3-0", "ada", 2], ["4-0", "bob", 1]]
      )
      for (const { idle } of pending) assert.isTrue(Duration.lessThan(idle, "1 minute"))
      const ids = (range: { readonly consumer?: string; readonly minIdle?: Duration.DurationInput }) =>
        Effect.map(client.xpendingRange(key, "group", { count: 10, ...range }), (all) => all.map(({ id }) => id))
      yield* gives(ids({ consumer: "bob" }), ["4-0"])
      yield* gives(ids({ minIdle: "1 hour" }), [])
      const [group] = yield* client.xinfoGroups(key)
      assert.deepStrictEqual(
        [group?.name, group?.consumers, group?.pending, group?.lastDeliveredId],
        ["group", 2, 3, "4-0"]
      )
      const consumers = yield* client.xinfoConsumers(key, "group")
      assert.deepStrictEqual(consumers.map(({ name, pending }) => [name, pending]), [["ada", 2], ["bob", 1]])
      for (const { idle } of consumers) assert.isTrue(Duration.lessThan(idle, "1 minute"))
      yield* gives(client.xgroupCreateConsumer(key, "group", "eve"), true)
      yield* gives(client.xgroupCreateConsumer(key, "group", "eve"), false)
      yield* gives(client.xgroupDelConsumer(key, "group", "ada"), 2)
      yield* client.xgroupSetId(key, "group", "3-0")
      yield* gives(read("eve", ">"), [[key, ["4-0"]]])
      yield* gives(client.xgroupDestroy(key, "group"), true)
      yield* gives(client.xgroupDestroy(key, "group"), false)
      yield* gives(client.xinfoGroups(key), [])
      yield* rejected(client.xpending(key, "group"), "NOGROUP")
      yield* refused(client.xack(key, "", "1-0"), "group")
      yield* refused(client.xack(key, "group"), "ids")
      yield* refused(client.xreadGroup({ group: "group", consumer: "" }, { [key]: ">" }), "consumer")
      yield* refused(client.xpendingRange(key, "group", { count: 0 }), "count")
    }))

  test("claiming entries of others", (client, { name }) =>
    Effect.gen(function*() {
      const key = name()
      for (let n = 1; n <= 4; n++) yield* client.xadd(key, { n }, { id: `${n}-0` })
      yield* client.xgroupCreate(key, "group", { start: "0" })
      yield* client.xreadGroup({ group: "group", consumer: "ada" }, { [key]: ">" })
      const bob = { group: "group", consumer: "bob", minIdle: 0 }
      yield* gives(client.xclaim(key, bob, "1-0", "9-9"), [entry("1-0", ["n", "1"])])
      yield* gives(client.xclaim(key, { ...bob, minIdle: "1 hour" }, "2-0"), [])
      yield* gives(client.xclaimJustId(key, bob, "2-0"), ["2-0"])
      yield* client.xdel(key, "3-0")
      yield* gives(client.xautoClaim(key, bob, { start: "3-0" }), {
        next: "0-0",
        entries: [entry("4-0", ["n", "4"])],
        deleted: ["3-0"]
      })
      yield* gives(client.xautoClaimJustId(key, { ...bob, consumer: "eve" }, { count: 2 }), {
        next: "4-0",
        ids: ["1-0", "2-0"],
        deleted: []
      })
      yield* refused(client.xclaim(key, bob), "ids")
      yield* refused(client.xclaim(key, { ...bob, minIdle: -1 }, "1-0"), "minIdle")
      yield* refused(client.xautoClaim(key, bob, { count: 0 }), "count")
    }))
}

const places = (test: Test): void => {
  const palermo: GeoMember = { member: "Palermo", longitude: 13.361389, latitude: 38.115556 }
  const catania: GeoMember = { member: "Catania", longitude: 15.087269, latitude: 37.502669 }
  const close = (a: number | undefined, b: number, within: number) => assert.closeTo(a ?? NaN, b, within)

  test("places", (client, { name }) =>
    Effect.gen(function*() {
      const key = name()
      yield* gives(client.geoAdd(key, [palermo, catania]), 2)
      yield* gives(client.geoAdd(key, [{ ...catania, latitude: 37.6 }], { onlyIf: "absent" }), 0)
      yield* gives(client.geoAdd(key, [{ ...catania, latitude: 37.6 }], { changed: true }), 1)
      yield* gives(client.geoAdd(key, [catania], { onlyIf: "present" }), 0)
      const [first, nobody] = yield* client.geoPos(key, "Palermo", "nobody")
      close(Option.getOrUndefined(first!)?.longitude, palermo.longitude, 1e-5)
      close(Option.getOrUndefined(first!)?.latitude, palermo.latitude, 1e-5)
      assert.deepStrictEqual(nobody, none)
      yield* gives(client.geoPos(key), [])
      yield* gives(client.geoHash(key, "Palermo", "nobody"), [some("sqc8b49rny0"), none])
      close(Option.getOrUndefined(yield* client.geoDist(key, "Palermo", "Catania")), 166_274, 1)
      close(Option.getOrUndefined(yield* client.geoDist(key, "Palermo", "Catania", "km")), 166.274, 0.001)
      yield* gives(client.geoDist(key, "Palermo", "nobody"), none)
      yield* refused(client.geoAdd(key, []), "members")
      yield* refused(client.geoAdd(key, [{ member: "x", longitude: 181, latitude: 0 }]), "longitude")
      yield* refused(client.geoAdd(key, [{ member: "x", longitude: 0, latitude: 86 }]), "latitude")
      yield* refused(client.geoAdd(key, [{ member: "x", longitude: NaN, latitude: 0 }]), "longitude")
    }))

  test("searching around places", (client, { name }) =>
    Effect.gen(function*() {
      const [key, stored] = [name(), name()]
      const sicily = { longitude: 15, latitude: 37 }
      yield* client.geoAdd(key, [palermo, catania])
      yield* gives(client.geoSearch(key, { from: sicily, by: { radius: 100, unit: "km" } }), ["Catania"])
      yield* gives(
        client.geoSearch(key, { from: sicily, by: { radius: 200, unit: "km" }, order: "farthest" }),
        ["Palermo", "Catania"]
      )
      yield* gives(
        client.geoSearch(key, { from: { member: "Palermo" }, by: { width: 1000, height: 1000, unit: "km" }, count: 1 }),
        ["Palermo"]
      )
      yield* gives(
        client.geoSearch(key, { from: sicily, by: { radius: 200, unit: "km" }, count: 5, any: true, order: "nearest" }),
        ["Catania", "Palermo"]
      )
      const [first, second] = yield* client.geoSearchWithDistances(key, {
        from: sicily,
        by: { radius: 200, unit: "km" },
        order: "nearest"
      })
      assert.deepStrictEqual([first?.member, second?.member], ["Catania", "Palermo"])
      close(first?.distance, 56.4413, 0.001)
      close(second?.longitude, palermo.longitude, 1e-5)
      close(second?.latitude, palermo.latitude, 1e-5)
      const query = { from: sicily, by: { radius: 200, unit: "km" } } as const
      yield* gives(client.geoSearchStore(stored, key, query), 2)
      yield* gives(client.geoHash(stored, "Palermo"), [some("sqc8b49rny0")])
      yield* gives(client.geoSearchStore(stored, key, query, { storeDistances: true }), 2)
      close(Option.getOrUndefined(yield* client.zscore(stored, "Catania")), 56.4413, 0.001)
      yield* rejected(client.geoSearch(key, { from: { member: "nobody" }, by: { radius: 1, unit: "m" } }), "ERR")
      yield* refused(client.geoSearch(key, { from: sicily, by: { radius: -1, unit: "m" } }), "radius")
      yield* refused(client.geoSearch(key, { from: sicily, by: { width: NaN, height: 1, unit: "m" } }), "width")
      yield* refused(client.geoSearch(key, { from: sicily, by: { radius: 1, unit: "m" }, any: true }), "any")
      yield* refused(client.geoSearch(key, { from: sicily, by: { radius: 1, unit: "m" }, count: 0 }), "count")
      yield* refused(client.geoSearch(key, { from: { longitude: 0, latitude: 90 }, by: query.by }), "latitude")
    }))
}

const hyperLogLogs = (test: Test): void =>
  test("HyperLogLogs", (client, { name }) =>
    Effect.gen(function*() {
      const [a, b, both] = [name(), name(), name()]
      yield* gives(client.pfCount(a), 0)
      yield* gives(client.pfAdd(a, "x", "y", "x"), true)
      yield* gives(client.pfAdd(a, "x"), false)
      yield* client.pfAdd(b, "y", "z")
      yield* gives(client.pfCount(a), 2)
      // Of several keys it is the union.
      yield* gives(client.pfCount(a, b), 3)
      yield* gives(client.pfCount(), 0)
      yield* client.pfMerge(both, [a, b])
      yield* gives(client.pfCount(both), 3)
      yield* refused(client.pfMerge(both, []), "keys")
      yield* client.set(b, "text")
      yield* rejected(client.pfCount(b), "WRONGTYPE")
    }))

const bitmaps = (test: Test): void =>
  test("bitmaps", (client, { name }) =>
    Effect.gen(function*() {
      const [a, b, result] = [name(), name(), name()]
      yield* gives(client.getBit(a, 7), false)
      yield* gives(client.setBit(a, 7, true), false)
      yield* gives(client.setBit(a, 7, true), true)
      yield* client.setBit(a, 20, true)
      yield* gives(client.getBit(a, 20), true)
      yield* gives(client.bitCount(a), 2)
      yield* gives(client.bitCount(a, { start: 1 }), 1)
      yield* gives(client.bitCount(a, { start: 8, end: 20, unit: "bit" }), 1)
      yield* gives(client.bitPos(a, true), some(7))
      yield* gives(client.bitPos(a, true, { start: -1, unit: "byte" }), some(20))
      yield* gives(client.bitPos(a, true, { start: 8, end: 19, unit: "bit" }), none)
      yield* gives(client.bitPos(a, false), some(0))
      yield* client.set(b, Uint8Array.of(255))
      yield* gives(client.bitPos(b, false), some(8))
      yield* gives(client.bitPos(b, false, {}), none)
      yield* gives(client.bitOp("and", result, [a, b]), 3)
      yield* gives(client.bitCount(result), 1)
      yield* gives(client.bitOp("xor", result, [a, b]), 3)
      yield* gives(client.bitCount(result), 8)
      yield* gives(client.bitOp("not", result, [b]), 1)
      yield* gives(client.bitCount(result), 0)
      yield* gives(client.bitOp("or", result, [name()]), 0)
      yield* gives(client.exists(result), 0)
      yield* refused(client.bitOp("not", result, [a, b]), "keys")
      yield* refused(client.bitOp("and", result, []), "keys")
      yield* refused(client.setBit(a, -1, true), "offset")
      yield* refused(client.bitCount(a, { start: 0.5 }), "start")
    }))
