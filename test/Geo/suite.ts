import { assert, layer } from "@effect/vitest"
import { cityMapping } from "city-timezones"
import { Effect, Layer, Option, Schema, Stream } from "effect"
import * as Geo from "../../src/Geo/index.js"
import { RedisClient } from "../../src/RedisClient.js"
import type { RedisError } from "../../src/RedisError.js"
import { error, fresh } from "../kit/suites.js"

const Shop = Schema.Struct({ opens: Schema.String, seats: Schema.Int })

const shops = () => Geo.define({ name: fresh("shops"), member: Schema.String, value: Shop })

const plain = () => Geo.define({ name: fresh("plain"), member: Schema.NumberFromString })

const hamburg = { longitude: 9.9937, latitude: 53.5511 }
const berlin = { longitude: 13.405, latitude: 52.52 }
const munich = { longitude: 11.582, latitude: 48.1351 }

const value = { opens: "08:00", seats: 4 }

interface City extends Geo.Position {
  readonly id: number
}

/** All that the map of Redis has room for. */
const cities: ReadonlyArray<City> = cityMapping.flatMap(({ lat, lng }, id) =>
  Math.abs(lat) > 85 ? [] : [{ id, longitude: lng, latitude: lat }]
)

const byId = new Map(cities.map((city) => [city.id, city]))

const RADIUS = 6_371_008.8

/** By the spherical law of cosines with vectors: not the formula of the server, and not its radius of the earth. */
const metres = (a: Geo.Position, b: Geo.Position): number => {
  const vector = ({ latitude, longitude }: Geo.Position) => {
    const [phi, lambda] = [latitude * Math.PI / 180, longitude * Math.PI / 180]
    return [Math.cos(phi) * Math.cos(lambda), Math.cos(phi) * Math.sin(lambda), Math.sin(phi)] as const
  }
  const [ax, ay, az] = vector(a)
  const [bx, by, bz] = vector(b)
  const cross = Math.hypot(ay * bz - az * by, az * bx - ax * bz, ax * by - ay * bx)
  return RADIUS * Math.atan2(cross, ax * bx + ay * by + az * bz)
}

const units = { m: 1, km: 1000, mi: 1609.34, ft: 0.3048 }

/** A thousandth, and the half metre that positions are kept to. */
const isNear = (actual: number, expected: number, scale = 1) =>
  Math.abs(actual - expected) <= expected * 0.001 + 1 / scale

const members = <M>(found: ReadonlyArray<Geo.Found<M, any>>) => found.map(({ member }) => member)

export const suite = (
  name: string,
  driver: Layer.Layer<RedisClient, RedisError>,
  options: { readonly excludeTestServices?: boolean }
) => {
  layer(Layer.orDie(Layer.provideMerge(Geo.layer, driver)), options)(`Geo, ${name}`, (it) => {
    const three = Effect.gen(function*() {
      const definition = shops()
      const added = yield* Geo.add(definition, [
        { member: "hamburg", ...hamburg, value },
        { member: "berlin", ...berlin, value: { opens: "09:00", seats: 8 } },
        { member: "munich", ...munich, value: { opens: "10:00", seats: 2 } }
      ])
      assert.strictEqual(added, 3)
      return definition
    })

    it.effect("knows where members are, with their values", () =>
      Effect.gen(function*() {
        const definition = yield* three
        const place = Option.getOrThrow(yield* Geo.get(definition, "hamburg"))
        assert.closeTo(place.longitude, hamburg.longitude, 0.00001)
        assert.closeTo(place.latitude, hamburg.latitude, 0.00001)
        assert.deepStrictEqual(place.value, Option.some(value))
        assert.isTrue(Option.isNone(yield* Geo.get(definition, "paris")))
        const position = Option.getOrThrow(yield* Geo.position(definition, "berlin"))
        assert.closeTo(position.longitude, berlin.longitude, 0.00001)
        assert.deepStrictEqual(Object.keys(position), ["longitude", "latitude"])
        const all = yield* Geo.getMany(definition, ["munich", "paris", "berlin"])
        assert.deepStrictEqual(
          all.map(Option.map(({ member, value }) => [member, Option.map(value, ({ seats }) => seats)])),
          [Option.some(["munich", Option.some(2)]), Option.none(), Option.some(["berlin", Option.some(8)])]
        )
        assert.deepStrictEqual(yield* Geo.getMany(definition, []), [])
        assert.strictEqual(yield* Geo.count(definition), 3)
      }))

    it.effect("adds, moves and removes a member together with its value", () =>
      Effect.gen(function*() {
        const client = yield* RedisClient
        const definition = yield* three
        assert.strictEqual(
          yield* Geo.add(definition, [
            { member: "hamburg", ...munich, value: { opens: "11:00", seats: 1 } },
            { member: "paris", longitude: 2.3522, latitude: 48.8566, value }
          ]),
          1
        )
        const moved = Option.getOrThrow(yield* Geo.get(definition, "hamburg"))
        assert.closeTo(moved.latitude, munich.latitude, 0.00001)
        assert.deepStrictEqual(moved.value, Option.some({ opens: "11:00", seats: 1 }))
        assert.strictEqual(yield* Geo.remove(definition, "hamburg", "rome", "paris"), 2)
        assert.isTrue(Option.isNone(yield* Geo.get(definition, "hamburg")))
        const keys = yield* Stream.runCollect(client.scan({ match: `geo:{${definition.name}:*` }))
        assert.strictEqual(Array.from(keys).length, 2)
        assert.strictEqual(yield* client.hlen(`geo:{${definition.name}:places}:values`), 2)
        yield* Geo.clear(definition)
        assert.strictEqual(yield* Geo.count(definition), 0)
        assert.strictEqual(
          yield* client.exists(`geo:{${definition.name}:places}`, `geo:{${definition.name}:places}:values`),
          0
        )
      }))

    it.effect("distances come in the unit that is asked for", () =>
      Effect.gen(function*() {
        const definition = yield* three
        const expected = metres(hamburg, berlin)
        for (const unit of ["m", "km", "mi", "ft"] as const) {
          const distance = Option.getOrThrow(yield* Geo.distance(definition, "hamburg", "berlin", unit))
          assert.isTrue(isNear(distance, expected / units[unit], units[unit]), `${distance} ${unit}`)
          const [, second] = yield* Geo.search(definition, {
            around: { member: "hamburg" },
            radius: 300_000 / units[unit],
            unit
          })
          assert.strictEqual(second?.distance, distance)
        }
        assert.deepStrictEqual(
          yield* Geo.distance(definition, "hamburg", "berlin"),
          yield* Geo.distance(definition, "berlin", "hamburg", "m")
        )
        assert.isTrue(Option.isNone(yield* Geo.distance(definition, "hamburg", "paris")))
        assert.isTrue(Option.isNone(yield* Geo.distance(shops(), "hamburg", "paris")))
        assert.deepStrictEqual(yield* Geo.distance(definition, "berlin", "berlin"), Option.some(0))
      }))

    it.effect("searches around a member or a position, in a radius or a box, in either order", () =>
      Effect.gen(function*() {
        const definition = yield* three
        const around = { member: "hamburg" }
        const search = (search: Geo.Search<string>) => Effect.map(Geo.search(definition, search), members)
        assert.deepStrictEqual(yield* search({ around, radius: 300, unit: "km" }), ["hamburg", "berlin"])
        assert.deepStrictEqual(yield* search({ around, radius: 0 }), ["hamburg"])
        assert.deepStrictEqual(
          yield* search({ around, radius: 1000, unit: "km", order: "farthest" }),
          ["munich", "berlin", "hamburg"]
        )
        assert.deepStrictEqual(yield* search({ around, radius: 1000, unit: "km", limit: 2 }), ["hamburg", "berlin"])
        assert.deepStrictEqual(
          yield* search({ around, radius: 1000, unit: "km", limit: 1, order: "farthest" }),
          ["munich"]
        )
        assert.deepStrictEqual(
          yield* search({ around: { longitude: 11, latitude: 50 }, width: 200, height: 600, unit: "km" }),
          ["munich"]
        )
        assert.deepStrictEqual(yield* search({ around: { longitude: -70, latitude: 40 }, radius: 100, unit: "mi" }), [])
        const found = yield* Geo.search(definition, { around, radius: 1000, unit: "km" })
        assert.deepStrictEqual(found.map(({ rank }) => rank), [1, 2, 3])
        assert.deepStrictEqual(found.map(({ value }) => Option.getOrThrow(value).seats), [4, 8, 2])
        assert.closeTo(found[2]!.latitude, munich.latitude, 0.00001)
      }))

    it.effect("a search around a member that is not there says so", () =>
      Effect.gen(function*() {
        const definition = yield* three
        for (const one of [definition, shops()]) {
          const failure = yield* error(Geo.search(one, { around: { member: "paris" }, radius: 1 }))
          assert(failure._tag === "GeoMemberNotFound")
          assert.deepStrictEqual([failure.name, failure.member], [one.name, "paris"])
        }
        assert.deepStrictEqual(yield* Geo.search(shops(), { around: hamburg, radius: 1 }), [])
      }))

    it.effect("pages have everything once, also where many are at the same place and others come and go", () =>
      Effect.gen(function*() {
        const definition = plain()
        // Fifteen at each of four places.
        yield* Geo.add(
          definition,
          Array.from({ length: 60 }, (_, i) => ({ member: i, longitude: 10 + i % 4 / 100, latitude: 50 }))
        )
        const whole = { around: { longitude: 10, latitude: 50 }, radius: 10, unit: "km" } as const
        for (const order of ["nearest", "farthest"] as const) {
          const all = members(yield* Geo.search(definition, { ...whole, order }))
          assert.strictEqual(new Set(all).size, 60)
          for (const limit of [4, 15, 23, 100]) {
            for (const withRank of [true, false]) {
              const paged: Array<number> = []
              let after: Geo.Search<number>["after"]
              for (;;) {
                const page = yield* Geo.search(definition, { ...whole, order, limit, after })
                paged.push(...members(page))
                assert.isAtMost(page.length, limit)
                if (withRank) assert.strictEqual(page.at(-1)?.rank ?? paged.length, paged.length)
                const last = page.at(-1)
                if (last === undefined) break
                after = withRank ? last : { member: last.member, distance: last.distance }
              }
              assert.deepStrictEqual(paged, all, `${order} ${limit}`)
            }
          }
          const tenth = (yield* Geo.search(definition, { ...whole, order, limit: 10 }))[9]!
          const rest = yield* Geo.search(definition, { ...whole, order, after: tenth })
          assert.deepStrictEqual(members(rest), all.slice(10))
          // The one where the page ended goes, with some before it: the next page begins where it would have.
          yield* Geo.remove(definition, ...all.slice(5, 10))
          const next = yield* Geo.search(definition, { ...whole, order, limit: 20, after: tenth })
          assert.deepStrictEqual(members(next), all.slice(10, 30))
          yield* Geo.add(
            definition,
            all.slice(5, 10).map((member) => ({ member, longitude: 10 + member % 4 / 100, latitude: 50 }))
          )
        }
      }))

    it.effect(
      "finds what a comparison with every city of the world finds, also across the date line",
      () =>
        Effect.gen(function*() {
          const definition = plain()
          yield* Geo.add(
            definition,
            cities.map(({ id: member, latitude, longitude }) => ({ member, longitude, latitude }))
          )
          assert.strictEqual(yield* Geo.count(definition), cities.length)
          const centres: ReadonlyArray<Geo.Position> = [
            ...cities.filter((_, i) => i % 2443 === 0),
            { longitude: 180, latitude: -17 },
            { longitude: -179.99, latitude: 66 },
            { longitude: 179.99999999999997, latitude: 66 },
            { longitude: 0, latitude: 85.05112878 },
            { longitude: 180, latitude: -85.05112878 }
          ]
          /** What is that near to the edge is either way right. */
          const agree = (found: ReadonlySet<number>, inside: (city: City, factor: number) => boolean, what: string) => {
            for (const city of cities) {
              const isFound = found.has(city.id)
              if (isFound ? !inside(city, 1.001) : inside(city, 0.999)) {
                assert.fail(`${what} ${isFound ? "has" : "misses"} ${JSON.stringify(city)}`)
              }
            }
          }
          for (const around of centres) {
            for (const radius of [800, 5000, 20_016]) {
              const found = yield* Geo.search(definition, { around, radius, unit: "km" })
              agree(
                new Set(members(found)),
                (city, factor) => metres(around, city) <= radius * 1000 * factor,
                `${radius} km around ${JSON.stringify(around)}`
              )
              for (const [i, { distance, member, rank }] of found.entries()) {
                if (rank !== i + 1 || distance < (found[i - 1]?.distance ?? 0)) assert.fail(`${member} at ${rank}`)
                const expected = metres(around, byId.get(member)!)
                if (!isNear(distance, expected / 1000, 1000)) assert.fail(`${distance} km instead of ${expected} m`)
              }
              if (radius === 800) {
                const nearest = yield* Geo.search(definition, { around, radius, unit: "km", limit: 10 })
                assert.deepStrictEqual(nearest, found.slice(0, 10))
              }
            }
            for (const [width, height] of [[600, 4000], [9000, 5000]] as const) {
              const found = yield* Geo.search(definition, { around, width, height, unit: "km" })
              agree(
                new Set(members(found)),
                (city, factor) =>
                  metres({ ...around, latitude: city.latitude }, city) <= width * 500 * factor &&
                  metres({ ...city, latitude: around.latitude }, city) <= height * 500 * factor,
                `${width} x ${height} km around ${JSON.stringify(around)}`
              )
            }
          }
          yield* Geo.clear(definition)
        }),
      60_000
    )

    it.effect("what is at the edges of the map is found from both sides", () =>
      Effect.gen(function*() {
        const definition = plain()
        const edges = [
          [180, 0],
          [-180, 0],
          [180, 85.05112878],
          [-180, -85.05112878],
          [0, 85.05112878],
          [0, -85.05112878],
          [179.99999999999997, 10]
        ] as const
        yield* Geo.add(
          definition,
          edges.map(([longitude, latitude], member) => ({ member, longitude, latitude }))
        )
        for (const [i, [longitude, latitude]] of edges.entries()) {
          for (const side of [longitude, -longitude, longitude - Math.sign(longitude) * 0.001]) {
            const found = yield* Geo.search(definition, {
              around: { longitude: side, latitude },
              radius: 1,
              unit: "km"
            })
            assert.include(members(found), i, `${side} ${latitude}`)
          }
          const here = yield* Geo.search(definition, { around: { member: i }, radius: 1, unit: "km" })
          assert.include(members(here), i)
        }
      }))

    it.effect("a ttl begins again with each addition, for places and values", () =>
      Effect.gen(function*() {
        const client = yield* RedisClient
        const definition = Geo.define({ name: fresh("ttl"), member: Schema.String, value: Shop, ttl: "1 hour" })
        yield* Effect.forEach(
          Array.from({ length: 100 }, (_, i) => i),
          (i) => Geo.add(definition, [{ member: `${i}`, ...berlin, value }]),
          { concurrency: "unbounded", discard: true }
        )
        for (const key of [`geo:{${definition.name}:places}`, `geo:{${definition.name}:places}:values`]) {
          const ttl = Number(yield* client.send("PTTL", client.key(key)))
          assert.isAbove(ttl, 3_500_000)
          assert.isAtMost(ttl, 3_600_000)
        }
      }))

    it.effect("what can't be right is refused before anything is sent, and nothing of it is added", () =>
      Effect.gen(function*() {
        const definition = shops()
        const refused = <A, E, R>(effect: Effect.Effect<A, E, R>, field: string) =>
          Effect.map(error(effect), (error) => {
            const { _tag, field: actual } = error as any
            assert.deepStrictEqual([_tag, actual], ["RedisInputError", field])
          })
        const good = { member: "a", ...berlin, value }
        for (const longitude of [180.1, -181, NaN, Infinity]) {
          yield* refused(Geo.add(definition, [good, { ...good, longitude }]), "longitude")
          yield* refused(Geo.search(definition, { around: { ...berlin, longitude }, radius: 1 }), "longitude")
        }
        for (const latitude of [85.06, -90, NaN]) {
          yield* refused(Geo.add(definition, [good, { ...good, latitude }]), "latitude")
          yield* refused(Geo.search(definition, { around: { ...berlin, latitude }, radius: 1 }), "latitude")
        }
        yield* refused(Geo.add(definition, []), "entries")
        yield* refused(Geo.add(definition, Array.from({ length: 10_001 }, () => good)), "entries")
        yield* refused(Geo.add(definition, [{ ...good, member: "" }]), "member")
        yield* refused(Geo.add(definition, [{ ...good, value: { opens: "x", seats: 1.5 } }]), "value")
        yield* refused(Geo.remove(definition), "members")
        yield* refused(Geo.distance(definition, "a", "b", "yard" as "m"), "unit")
        for (const radius of [-1, NaN, Infinity]) {
          yield* refused(Geo.search(definition, { around: berlin, radius }), "radius")
          yield* refused(Geo.search(definition, { around: berlin, width: radius, height: 1 }), "width")
          yield* refused(Geo.search(definition, { around: berlin, width: 1, height: radius }), "height")
        }
        for (const limit of [0, -1, 1.5]) {
          yield* refused(Geo.search(definition, { around: berlin, radius: 1, limit }), "limit")
        }
        const after = { member: "a", distance: NaN }
        yield* refused(Geo.search(definition, { around: berlin, radius: 1, after }), "after.distance")
        yield* refused(Geo.search(definition, { around: berlin, radius: 1, order: "up" as "nearest" }), "order")
        yield* refused(Geo.count(Geo.define({ name: "", member: Schema.String })), "name")
        yield* refused(Geo.count(Geo.define({ name: "a", member: Schema.String, ttl: 0 })), "ttl")
        assert.strictEqual(yield* Geo.count(definition), 0)
      }))

    it.effect("ten thousand are added, looked up and removed in one write", () =>
      Effect.gen(function*() {
        const definition = shops()
        const all = Array.from({ length: 10_000 }, (_, i) => ({
          member: `${i}`,
          longitude: i % 360 - 180,
          latitude: i % 170 - 85,
          value: { opens: `${i}`, seats: i }
        }))
        assert.strictEqual(yield* Geo.add(definition, all), 10_000)
        const found = yield* Geo.getMany(definition, all.map(({ member }) => member))
        assert.deepStrictEqual(
          found.map((place) => Option.getOrThrow(Option.flatMap(place, ({ value }) => value)).seats),
          all.map(({ value }) => value.seats)
        )
        const near = yield* Geo.search(definition, {
          around: { longitude: 0, latitude: 0 },
          radius: 20_016,
          unit: "km"
        })
        assert.strictEqual(near.length, 10_000)
        for (const { member, value } of near) assert.strictEqual(Option.getOrThrow(value).opens, member)
        assert.strictEqual(yield* Geo.remove(definition, ...all.map(({ member }) => member)), 10_000)
        assert.strictEqual(yield* Geo.count(definition), 0)
      }), 60_000)
  })
}
