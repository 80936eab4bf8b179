import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import type { RedisArg } from "../../RedisClient.js"
import type { GeoCommands, GeoPosition, GeoQuery } from "../../RedisCommands.js"
import type { RedisInputError } from "../../RedisError.js"
import { checkKey, inputError } from "../input.js"
import { type Args, checkCount, isBad, noneGiven } from "./args.js"
import * as Decode from "./decode.js"
import type { Env } from "./env.js"

/** Nearer to the poles there is no geohash. */
const MOST_LATITUDE = 85.05112878

const checkPosition = (operation: string, { latitude, longitude }: GeoPosition): RedisInputError | undefined =>
  !(Math.abs(longitude) <= 180)
    ? inputError(operation, "longitude", "a number from -180 to 180", longitude)
    : !(Math.abs(latitude) <= MOST_LATITUDE)
    ? inputError(operation, "latitude", `a number from -${MOST_LATITUDE} to ${MOST_LATITUDE}`, latitude)
    : undefined

const checkLength = (operation: string, field: string, value: number): RedisInputError | undefined =>
  Number.isFinite(value) && value >= 0
    ? undefined
    : inputError(operation, field, "a finite number of zero or more", value)

const queryArgs = (operation: string, { any, by, count, from, order }: GeoQuery): Args => {
  const isMember = "member" in from
  const isCircle = "radius" in by
  const bad = (isMember ? undefined : checkPosition(operation, from)) ??
    (isCircle
      ? checkLength(operation, "radius", by.radius)
      : checkLength(operation, "width", by.width) ?? checkLength(operation, "height", by.height)) ??
    (count === undefined ? undefined : checkCount(operation, "count", count)) ??
    (any === true && count === undefined ? inputError(operation, "any", "used with a count", "without") : undefined)
  if (bad !== undefined) return bad
  const args: Array<RedisArg> = isMember
    ? ["FROMMEMBER", from.member]
    : ["FROMLONLAT", from.longitude, from.latitude]
  if (isCircle) args.push("BYRADIUS", by.radius, by.unit)
  else args.push("BYBOX", by.width, by.height, by.unit)
  if (order !== undefined) args.push(order === "nearest" ? "ASC" : "DESC")
  if (count !== undefined) args.push("COUNT", count)
  if (any === true) args.push("ANY")
  return args
}

const asPosition = (reply: unknown): GeoPosition | undefined => {
  const numbers = Decode.asArray(Decode.asDouble)(reply)
  return numbers?.length === 2 ? { longitude: numbers[0]!, latitude: numbers[1]! } : undefined
}

const positions = Decode.decoder(
  "an array of positions or nothing",
  Decode.asArray((reply) => {
    if (reply === null) return Option.none<GeoPosition>()
    const position = asPosition(reply)
    return position === undefined ? undefined : Option.some(position)
  })
)

const found = Decode.decoder(
  "members with their distances and positions",
  Decode.asArray((reply) => {
    if (!Array.isArray(reply) || reply.length !== 3) return undefined
    const [member]: ReadonlyArray<unknown> = reply
    const distance = Decode.asDouble(reply[1])
    const position = asPosition(reply[2])
    return typeof member === "string" && distance !== undefined && position !== undefined
      ? { member, distance, ...position }
      : undefined
  })
)

const conditions = { absent: "NX", present: "XX" } as const

/** @internal */
export const make = ({ key, read, write }: Env): GeoCommands => {
  const searchArgs = (operation: string, name: string, query: GeoQuery, ...more: ReadonlyArray<string>): Args => {
    const args = queryArgs(operation, query)
    return checkKey(operation, name) ?? (isBad(args) ? args : [key(name), ...args, ...more])
  }

  return {
    geoAdd: (name, members, options) => {
      const args: Array<RedisArg> = [key(name)]
      if (options?.onlyIf !== undefined) args.push(conditions[options.onlyIf])
      if (options?.changed === true) args.push("CH")
      const head = args.length
      let bad = checkKey("geoAdd", name)
      for (const place of members) {
        bad ??= checkPosition("geoAdd", place)
        args.push(place.longitude, place.latitude, place.member)
      }
      return write("GEOADD", bad ?? (args.length > head ? args : noneGiven("geoAdd", "members")), Decode.integer)
    },
    geoPos: (name, ...members) => {
      const bad = checkKey("geoPos", name)
      return bad === undefined && members.length === 0
        ? Effect.succeed([])
        : read("GEOPOS", bad ?? [key(name), ...members], positions)
    },
    geoHash: (name, ...members) => {
      const bad = checkKey("geoHash", name)
      return bad === undefined && members.length === 0
        ? Effect.succeed([])
        : read("GEOHASH", bad ?? [key(name), ...members], Decode.optionalTexts)
    },
    geoDist: (name, from, to, unit = "m") =>
      read("GEODIST", checkKey("geoDist", name) ?? [key(name), from, to, unit], Decode.optionalDouble),
    geoSearch: (name, query) => read("GEOSEARCH", searchArgs("geoSearch", name, query), Decode.texts),
    geoSearchWithDistances: (name, query) =>
      read("GEOSEARCH", searchArgs("geoSearchWithDistances", name, query, "WITHCOORD", "WITHDIST"), found),
    geoSearchStore: (destination, source, query, options) => {
      const args = searchArgs("geoSearchStore", source, query)
      const bad = checkKey("geoSearchStore", destination, "destination")
      const more = options?.storeDistances === true ? ["STOREDIST"] : []
      return write(
        "GEOSEARCHSTORE",
        bad ?? (isBad(args) ? args : [key(destination), ...args, ...more]),
        Decode.integer
      )
    }
  }
}
