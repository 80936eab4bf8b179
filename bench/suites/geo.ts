/**
 * Places beside the raw commands of an auto-pipelined ioredis: ten thousand members, as dense as shops in a country.
 */
import { Context, Effect, Layer, Redacted, Schema } from "effect"
import * as Geo from "effect-redis-kit/Geo"
import * as IoRedis from "effect-redis-kit/IoRedis"
import { type Case, fibers, type Measure, promises } from "../harness.js"
import { connect, PREFIX, Server } from "../server.js"

const MEMBERS = 10_000

/** The same places in every run. */
const places = Array.from({ length: MEMBERS }, (_, i) => ({
  member: `shop:${i}`,
  longitude: 6 + (i * 0.618034) % 8,
  latitude: 47 + (i * 0.754878) % 7
}))

const placeOf = (n: number) => places[n % MEMBERS]!

const positions = places.map(({ latitude, longitude }): Geo.Position => ({ longitude, latitude }))

const positionOf = (n: number) => positions[n % MEMBERS]!

const Shops = Geo.define({ name: "shops", member: Schema.String })

const Valued = Geo.define({ name: "valued", member: Schema.String, value: Schema.Struct({ opens: Schema.String }) })

const setUp = Effect.gen(function*() {
  const { url } = yield* Server
  const context = yield* Layer.build(
    Layer.provide(Geo.layer, IoRedis.layer({ url: Redacted.make(url), keyPrefix: PREFIX }))
  )
  const geo = Context.get(context, Geo.Geo)
  const redis = yield* connect({ enableAutoPipelining: true })
  const key = `${PREFIX}geo:theirs`
  yield* geo.add(Shops, places)
  yield* geo.add(Valued, places.map((place) => ({ ...place, value: { opens: "08:00" } })))
  yield* Effect.promise(() =>
    redis.geoadd(key, ...places.flatMap(({ latitude, longitude, member }) => [longitude, latitude, member]))
  )
  return { geo, redis, key }
})

const measure = (name: string): Measure => ({ name, unit: "op/s", better: "higher", target: { ratio: 0.7 } })

/** The ten nearest within so many kilometres. */
const search = (radius: number): Case => ({
  measures: [measure(`geo.search.${radius}km.100`)],
  contenders: Effect.gen(function*() {
    const { geo, key, redis } = yield* setUp
    const query = (n: number) => ({ around: positionOf(n), radius, unit: "km", limit: 10 } as const)
    return [
      { name: "ours", slice: fibers(100, (n) => geo.search(Shops, query(n))) },
      {
        name: "GEOSEARCH",
        slice: promises(100, (n) => {
          const { latitude, longitude } = placeOf(n)
          return redis.geosearch(
            key,
            "FROMLONLAT",
            longitude,
            latitude,
            "BYRADIUS",
            radius,
            "km",
            "ASC",
            "COUNT",
            10,
            "WITHCOORD",
            "WITHDIST"
          )
        })
      },
      { name: "ours, with values", slice: fibers(100, (n) => geo.search(Valued, query(n))) }
    ]
  })
})

const add: Case = {
  measures: [measure("geo.add.100")],
  contenders: Effect.gen(function*() {
    const { geo, key, redis } = yield* setUp
    return [
      { name: "ours", slice: fibers(100, (n) => geo.add(Shops, [placeOf(n)])) },
      {
        name: "GEOADD",
        slice: promises(100, (n) => {
          const { latitude, longitude, member } = placeOf(n)
          return redis.geoadd(key, longitude, latitude, member)
        })
      },
      {
        name: "ours, with values",
        slice: fibers(100, (n) => geo.add(Valued, [{ ...placeOf(n), value: { opens: "08:00" } }]))
      }
    ]
  })
}

const distance: Case = {
  measures: [measure("geo.distance.100")],
  contenders: Effect.gen(function*() {
    const { geo, key, redis } = yield* setUp
    return [
      {
        name: "ours",
        slice: fibers(100, (n) => geo.distance(Shops, placeOf(n).member, placeOf(n + 1).member, "km"))
      },
      {
        name: "GEODIST",
        slice: promises(100, (n) => redis.geodist(key, placeOf(n).member, placeOf(n + 1).member, "KM"))
      }
    ]
  })
}

export const cases: ReadonlyArray<Case> = [search(20), search(100), add, distance]
