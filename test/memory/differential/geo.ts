/**
 * Places.
 */
import { FastCheck as FC } from "effect"
import { type Argv, command, key, many, odd, oneOf, optional, score, words } from "./generators.js"

const geoKey = key("geo")
/** So few that distances which are equal leave no choice of order. */
const geoMember = oneOf("a", "b", "c", "d", "e", "f")
const cities = words(
  "13.361389 38.115556",
  "15.087269 37.502669",
  "2.3522 48.8566",
  "-0.1276 51.5072",
  "139.6917 35.6895",
  "-78.4678 -0.1807",
  "178.4419 -18.1416",
  "-149.9003 61.2181",
  "15.6356 78.2232",
  "-68.3030 -54.8019",
  "-122.4194 37.7749",
  "174.7633 -36.8485"
)
const edges = words(
  "180 85.05112878",
  "-180 -85.05112878",
  "180 -85.05112878",
  "-180 85.05112878",
  "180 0",
  "-180 0",
  "0 0",
  "-0 -0",
  "0 85.05112878",
  "179.9999999 84.9999999",
  "-179.9999999 0.0000001",
  "1e-10 -1e-10",
  "90 66.0000001",
  "-90 -80.0000001"
)
const degrees = (max: number): FC.Arbitrary<string> =>
  FC.noBias(FC.integer({ min: -max * 1e6, max: max * 1e6 })).map((millionths) => String(millionths / 1e6))
const anywhere: FC.Arbitrary<Argv> = FC.tuple(degrees(180), degrees(85))
const nowhere = words(
  "181 0",
  "0 85.06",
  "x 0",
  "0 nan",
  "inf 0",
  "1e300 -1e22",
  "-180.00000049 1",
  "0  1",
  "200.5 -0.0000001"
)
const place = FC.oneof(
  { weight: 10, arbitrary: cities },
  { weight: 6, arbitrary: edges },
  { weight: 10, arbitrary: anywhere },
  { weight: 1, arbitrary: nowhere }
)
const unit = FC.oneof({ weight: 12, arbitrary: oneOf("m", "km", "ft", "mi", "KM") }, {
  weight: 1,
  arbitrary: oneOf("", "x", "meters")
})
const length = FC.oneof(
  { weight: 8, arbitrary: oneOf("0", "1", "5", "50", "500", "1000", "5000", "20000", "0.5", "1e7", "3000000") },
  { weight: 1, arbitrary: oneOf("-1", "x", "inf", "", "1e300", "nan", "-0") }
)
const from = FC.oneof({ weight: 4, arbitrary: command("FROMLONLAT", place) }, command("FROMMEMBER", geoMember))
const by = FC.oneof(command("BYRADIUS", length, unit), command("BYBOX", length, length, unit))
const searchOptions = many(
  FC.oneof(
    {
      weight: 5,
      arbitrary: words("ASC", "DESC", "asc", "COUNT 1", "COUNT 2", "COUNT 3", "COUNT 3 ANY", "COUNT 1 ANY")
    },
    { weight: 1, arbitrary: words("COUNT 0", "COUNT -1", "COUNT x", "COUNT", "ANY", "FOO", "STOREDIST") }
  ),
  0,
  2
)
const shown = many(words("WITHCOORD", "WITHDIST", "WITHHASH", "withdist"), 0, 3)
const stored = FC.oneof(
  { weight: 3, arbitrary: many(FC.tuple(oneOf("STORE", "STOREDIST", "store"), geoKey), 0, 1) },
  { weight: 1, arbitrary: words("STORE", "STOREDIST") }
)

const searches = FC.oneof(
  { weight: 6, arbitrary: command("GEOSEARCH", geoKey, from, by, searchOptions, shown) },
  command("GEOSEARCH", geoKey, by, searchOptions, from, shown),
  command("GEOSEARCH", geoKey, many(FC.oneof(from, by), 1, 4), odd),
  command("GEOSEARCHSTORE", geoKey, geoKey, from, by, searchOptions, optional(words("STOREDIST", "WITHDIST"))),
  command("GEORADIUS", geoKey, place, length, unit, searchOptions, shown, stored),
  command("GEORADIUS_RO", geoKey, place, length, unit, searchOptions, shown, odd),
  command("GEORADIUSBYMEMBER", geoKey, geoMember, length, unit, searchOptions, shown, stored),
  command("GEORADIUSBYMEMBER_RO", geoKey, geoMember, length, unit, searchOptions, shown, odd)
)

const namedPlace = FC.tuple(place, geoMember).map(([xy, name]) => xy.concat(name))

const addPlaces = FC.oneof(
  {
    weight: 8,
    arbitrary: command("GEOADD", geoKey, many(namedPlace, 1, 6))
  },
  command(
    "GEOADD",
    geoKey,
    many(words("NX", "XX", "CH", "ch"), 0, 2),
    many(namedPlace, 0, 2),
    odd
  )
)

export const places = FC.oneof(
  { weight: 4, arbitrary: addPlaces },
  command("ZADD", geoKey, score, geoMember),
  command("ZREM", geoKey, geoMember),
  command("ZSCORE", geoKey, geoMember),
  { weight: 2, arbitrary: command(oneOf("GEOPOS", "GEOHASH"), geoKey, many(geoMember, 0, 4)) },
  { weight: 3, arbitrary: command("GEODIST", geoKey, geoMember, geoMember, many(unit, 0, 1), odd) },
  { weight: 12, arbitrary: searches }
)

/** So many that cells and their order matter. */
export const manyPlaces = FC.oneof(
  command(
    "GEOADD",
    oneOf("geo1", "geo2"),
    FC.array(
      FC.oneof({ weight: 1, arbitrary: anywhere }, {
        weight: 1,
        arbitrary: FC.tuple(degrees(5), degrees(5)).map((
          [x, y]
        ): Argv => [String(170 + Number(x)), String(Number(y) + 60)])
      }),
      { minLength: 20, maxLength: 60 }
    ).chain((all) => FC.nat(100).map((first): Argv => all.flatMap((xy, i) => [...xy, `place ${first + i}`])))
  ),
  { weight: 3, arbitrary: searches }
)
